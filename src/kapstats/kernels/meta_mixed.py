"""Binomial mixed models of k studies: a normal study effect on the log odds, integrated by adaptive quadrature.

Symbols: mu and tau of the study effect theta_i ~ N(mu, tau^2), z = (theta - mu) / tau, l(theta) the log-likelihood of a
study. Every log-likelihood is even in tau, so that tau runs over the whole line and 0 is an ordinary point.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from kapstats._types import FloatArray


@dataclass(frozen=True, slots=True)
class Derivatives:
    """k concave log-likelihoods: `at` takes theta (k, g) to l, l', l'', (k, g) each."""

    k: int
    at: Callable[[FloatArray], tuple[FloatArray, FloatArray, FloatArray]]


@dataclass(frozen=True, slots=True)
class Mixed:
    """mu, its standard error, tau^2, the log-likelihood, and whether its gradient vanishes."""

    estimate: float
    std_error: float
    tau2: float
    loglik: float
    converged: bool


def study_effect(derivatives: Derivatives, start: float, points: int) -> Mixed:
    """theta_i ~ N(mu, tau^2), each l_i known."""

    def negative(parameters: FloatArray) -> float:
        return -float(_integrated(derivatives, parameters[0], parameters[1], points)[0].sum())

    return _maximised(negative, [np.array([start, t]) for t in (0.1, 0.8)])


def fixed_study_levels(a: FloatArray, n1: FloatArray, c: FloatArray, n2: FloatArray, points: int) -> Mixed:
    """Log odds alpha_i +- theta_i / 2 of the two arms, alpha_i free per study, theta_i ~ N(mu, tau^2)."""
    level = special.logit((a + c + 0.5) / (n1 + n2 + 1))

    def negative(parameters: FloatArray) -> float:
        return -float(_profiled(a, n1, c, n2, parameters[0], parameters[1], points, level).sum())

    start = float(np.log((a.sum() + 0.5) / (n1 - a + 0.5).sum() / (c.sum() + 0.5) * (n2 - c + 0.5).sum()))
    return _maximised(negative, [np.array([start, t]) for t in (0.1, 0.8)])


def random_study_levels(a: FloatArray, n1: FloatArray, c: FloatArray, n2: FloatArray, points: int) -> Mixed:
    """Log odds alpha_i +- theta_i / 2 with alpha_i ~ N(m, s^2) and theta_i ~ N(mu, tau^2), independent of each other.

    points : per dimension; 1 is the Laplace approximation
    """
    sign = np.array([0.5, -0.5])
    x, n = np.stack([a, c], axis=1), np.stack([n1, n2], axis=1)
    nodes, log_weights = _product_rule(points)

    def negative(parameters: FloatArray) -> float:
        mu, tau, m, s = parameters
        Z = np.stack([np.full(2, s), sign * tau], axis=1)  # (arm, effect)
        return -float(_two_effects(x, n, m + sign * mu, Z, nodes, log_weights).sum())

    start = special.logit((a.sum() + c.sum() + 0.5) / (n1.sum() + n2.sum() + 1))
    excess = float(np.log((a.sum() + 0.5) / (n1 - a + 0.5).sum() / (c.sum() + 0.5) * (n2 - c + 0.5).sum()))
    return _maximised(negative, [np.array([excess, t, start, s]) for t, s in ((0.1, 0.3), (0.8, 0.8))])


def binomial(x: FloatArray, n: FloatArray, offset: FloatArray) -> Derivatives:
    """x of n with logit p = theta + offset."""
    constant = _log_choose(n, x)[:, None]

    def at(theta: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        eta = theta + offset[:, None]
        p = special.expit(eta)
        value = constant + x[:, None] * eta - n[:, None] * np.logaddexp(0, eta)
        return value, x[:, None] - n[:, None] * p, -n[:, None] * p * (1 - p)

    return Derivatives(len(x), at)


def hypergeometric(a: FloatArray, n1: FloatArray, c: FloatArray, n2: FloatArray) -> Derivatives:
    """a given a + c under the odds ratio exp(theta): Fisher's noncentral hypergeometric distribution."""
    low, high = np.maximum(0.0, a + c - n2), np.minimum(n1, a + c)
    u = low[:, None] + np.arange(int((high - low).max()) + 1)  # (k, m); beyond `high` there is no table
    inside = u <= high[:, None]
    first, second, total = (v[:, None] for v in (n1, n2, a + c))
    possible = np.where(inside, u, low[:, None])
    log_ways = np.where(inside, _log_choose(first, possible) + _log_choose(second, total - possible), -np.inf)
    away = np.where(inside, u - a[:, None], 0.0)
    seen = _log_choose(n1, a) + _log_choose(n2, c)

    def at(theta: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        terms = log_ways[:, :, None] + away[:, :, None] * theta[:, None, :]
        norm = special.logsumexp(terms, axis=1)
        share = np.exp(terms - norm[:, None, :])
        mean = np.einsum("km,kmg->kg", away, share)
        return seen[:, None] - norm, -mean, mean**2 - np.einsum("km,kmg->kg", away**2, share)

    return Derivatives(len(a), at)


def _log_choose(n: FloatArray, x: FloatArray) -> FloatArray:
    return np.asarray(special.gammaln(n + 1) - special.gammaln(x + 1) - special.gammaln(n - x + 1))


def _rule(points: int) -> tuple[FloatArray, FloatArray]:
    """Gauss-Hermite nodes and log weights of the integral of exp(f), f about quadratic: log w + x^2."""
    nodes, weights = np.polynomial.hermite.hermgauss(points)
    return nodes, np.log(weights) + nodes**2


def _product_rule(points: int) -> tuple[FloatArray, FloatArray]:
    """Nodes (g, 2) and log weights (g,)."""
    nodes, log_weights = _rule(points)
    i, j = (grid.ravel() for grid in np.meshgrid(range(points), range(points)))
    return np.stack([nodes[i], nodes[j]], axis=1), log_weights[i] + log_weights[j]


def _integrated(
    derivatives: Derivatives, mu: float, tau: float, points: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """log of the integral of exp(l(mu + tau z)) phi(z), (k,); theta (k, g) and posterior shares (k, g) of the nodes."""
    z = np.zeros((derivatives.k, 1))
    for _ in range(100):
        _, first, second = derivatives.at(mu + tau * z)
        step = np.clip((tau * first - z) / (1 - tau**2 * second), -2.0, 2.0)
        z = z + step
        if np.abs(step).max() < 1e-7:
            break
    width = 1 / np.sqrt(1 - tau**2 * derivatives.at(mu + tau * z)[2])
    nodes, log_weights = _rule(points)
    places = z + np.sqrt(2) * width * nodes[None, :]
    terms = derivatives.at(mu + tau * places)[0] - places**2 / 2 + log_weights[None, :]
    total = special.logsumexp(terms, axis=1)
    value = total + np.log(width[:, 0]) - 0.5 * np.log(np.pi)
    return value, mu + tau * places, np.exp(terms - total[:, None])


def _profiled(
    a: FloatArray, n1: FloatArray, c: FloatArray, n2: FloatArray, mu: float, tau: float, points: int, level: FloatArray
) -> FloatArray:
    """Log-likelihoods (k,) at the best level of each study; concave in it (Prekopa), so Newton's steps suffice."""
    alpha = level.copy()
    for _ in range(100):
        value, theta, share = _integrated(_two_binomials(a, n1, c, n2, alpha), mu, tau, points)
        p1, p2 = (special.expit(alpha[:, None] + sign * theta / 2) for sign in (1, -1))
        score = (a + c)[:, None] - n1[:, None] * p1 - n2[:, None] * p2
        inside = -n1[:, None] * p1 * (1 - p1) - n2[:, None] * p2 * (1 - p2)
        slope = (share * score).sum(axis=1)
        bend = (share * (inside + score**2)).sum(axis=1) - slope**2
        step = np.clip(-slope / np.minimum(bend, -1e-10), -2.0, 2.0)
        alpha = alpha + step
        if np.abs(step).max() < 1e-7:
            break
    return value


def _two_binomials(a: FloatArray, n1: FloatArray, c: FloatArray, n2: FloatArray, alpha: FloatArray) -> Derivatives:
    constant = (_log_choose(n1, a) + _log_choose(n2, c))[:, None]
    a, n1, c, n2, level = (v[:, None] for v in (a, n1, c, n2, alpha))

    def at(theta: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        e1, e2 = level + theta / 2, level - theta / 2
        p1, p2 = special.expit(e1), special.expit(e2)
        value = constant + a * e1 - n1 * np.logaddexp(0, e1) + c * e2 - n2 * np.logaddexp(0, e2)
        second = -(n1 * p1 * (1 - p1) + n2 * p2 * (1 - p2)) / 4
        return value, (a - n1 * p1 - c + n2 * p2) / 2, second

    return Derivatives(len(a), at)


def _two_effects(
    x: FloatArray, n: FloatArray, centre: FloatArray, Z: FloatArray, nodes: FloatArray, log_weights: FloatArray
) -> FloatArray:
    """log of the integral over u ~ N(0, I_2) of the binomials with eta = centre + Z u, (k,)."""
    u = np.zeros((len(x), 2))
    for _ in range(200):
        p = special.expit(centre + u @ Z.T)
        gradient = (x - n * p) @ Z - u
        bend = np.eye(2) + np.einsum("ka,ai,aj->kij", n * p * (1 - p), Z, Z)
        step = np.linalg.solve(bend, gradient[:, :, None])[:, :, 0]
        u = u + step * np.minimum(1.0, 2.0 / np.maximum(np.abs(step).max(axis=1), 1e-300))[:, None]
        if np.abs(step).max() < 1e-7:
            break
    p = special.expit(centre + u @ Z.T)
    lower = np.linalg.cholesky(np.eye(2) + np.einsum("ka,ai,aj->kij", n * p * (1 - p), Z, Z))
    spread = np.linalg.solve(np.swapaxes(lower, 1, 2), np.broadcast_to(nodes.T, (len(x), 2, len(nodes))))
    places = u[:, :, None] + np.sqrt(2) * spread
    eta = centre[None, :, None] + np.einsum("ai,kig->kag", Z, places)
    value = (_log_choose(n, x)[:, :, None] + x[:, :, None] * eta - n[:, :, None] * np.logaddexp(0, eta)).sum(axis=1)
    terms = value - (places**2).sum(axis=1) / 2 + log_weights[None, :]
    half = np.log(np.diagonal(lower, axis1=1, axis2=2)).sum(axis=1)
    return np.asarray(special.logsumexp(terms, axis=1) - half - np.log(np.pi))


def _maximised(negative: Callable[[FloatArray], float], starts: list[FloatArray]) -> Mixed:
    """Best of several starts and of tau = 0, polished; the first parameter is mu, the second tau."""
    without = np.where(np.arange(len(starts[0])) == 1, 0.0, starts[0])
    fits = [optimize.minimize(negative, start, method="BFGS", options={"gtol": 1e-3}) for start in (*starts, without)]
    best, value, gradient, hessian = _newton(negative, np.asarray(min(fits, key=lambda fit: fit.fun).x))
    free = np.ones(len(best), dtype=bool)
    free[[i for i in range(len(best)) if i not in (0, 2) and abs(best[i]) < 1e-4]] = False
    covariance = np.linalg.pinv(hessian[np.ix_(free, free)])
    decrement = float(gradient[free] @ covariance @ gradient[free])
    variance = float(covariance[0, 0])
    return Mixed(
        estimate=float(best[0]),
        std_error=float(np.sqrt(variance)) if variance > 0 else np.nan,
        tau2=float(best[1] ** 2) if free[1] else 0.0,
        loglik=-value,
        converged=bool(abs(decrement) < 1e-6 and variance > 0 and abs(best[0]) < 30),
    )


def _newton(
    negative: Callable[[FloatArray], float], at: FloatArray
) -> tuple[FloatArray, float, FloatArray, FloatArray]:
    """Newton steps on central differences while they help: parameters, value, gradient, Hessian."""
    value = negative(at)
    gradient, hessian = differences(negative, at)
    for _ in range(8):
        step = -np.linalg.pinv(hessian) @ gradient
        there = negative(at + step) if np.isfinite(step).all() else np.inf
        if there > value or np.abs(step).max() < 1e-8:
            break
        at, value = at + step, there
        gradient, hessian = differences(negative, at)
    return at, value, gradient, hessian


def differences(function: Callable[[FloatArray], float], at: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Central-difference gradient and Hessian."""
    k, step = at.size, 1e-4 * np.maximum(1.0, np.abs(at))
    unit = np.diag(step)
    gradient = np.array([(function(at + unit[i]) - function(at - unit[i])) / (2 * step[i]) for i in range(k)])
    hessian = np.empty((k, k))
    for i in range(k):
        for j in range(i + 1):
            corners = [function(at + p * unit[i] + q * unit[j]) * p * q for p in (1, -1) for q in (1, -1)]
            hessian[i, j] = hessian[j, i] = sum(corners) / (4 * step[i] * step[j])
    return gradient, hessian
