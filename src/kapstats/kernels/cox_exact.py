"""Exact treatments of ties: the discrete logistic likelihood, and the marginal likelihood of continuous time.

Both work group by group; groups with one event are the ordinary partial likelihood. Each group yields weights of its
rows, so that score and information are again one product and one Gram matrix per group.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from kapstats.kernels.cox_newton import CoxData, Evaluation, relative_risk
from kapstats.kernels.risk_sets import RiskSets

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
#: loglik, score, information of one event group
Group = tuple[float, FloatArray, FloatArray]


def discrete(data: CoxData, b: FloatArray) -> Evaluation:
    """Log-likelihood in which the d tied events are a d-subset of the risk set (Cox 1972; conditional logistic)."""
    return _sum_groups(data, b, _subset_group)


def marginal(data: CoxData, b: FloatArray) -> Evaluation:
    """Log-likelihood averaged over the orders in which the tied events can have happened (Kalbfleisch, Prentice 1973).

    Per group the integral of prod_j (1 - exp(-r_j t / S)) e^-t over t > 0, S the sum of r over those still at risk
    after the group (DeLong, Guirguis and So 1994).
    """
    return _sum_groups(data, b, _ordered_group)


def _sum_groups(data: CoxData, b: FloatArray, one: Callable[..., Group]) -> Evaluation:
    lp, r = relative_risk(data, b)
    if not np.all(np.isfinite(r)):
        return Evaluation(-np.inf, np.full(len(b), np.nan), np.full((len(b), len(b)), np.nan))
    members = _members(data.sets)
    loglik, score, information = 0.0, np.zeros(len(b)), np.zeros((len(b), len(b)))
    for k in range(data.sets.size):
        rows = members(k)
        dead = data.sets.event[rows] & (data.sets.last[rows] == k + 1)
        parts = one(r[rows], lp[rows], data.X[rows], dead)
        loglik, score, information = loglik + parts[0], score + parts[1], information + parts[2]
    return Evaluation(float(loglik), score, information)


def _members(sets: RiskSets) -> Callable[[int], IntArray]:
    """Function from a grid point to the sorted rows at risk there."""
    ends = np.searchsorted(sets.last, np.arange(sets.size + 1), side="right")
    stratum_end = ends[sets.start[1:]][np.repeat(np.arange(len(sets.start) - 1), np.diff(sets.start))]

    def at(k: int) -> IntArray:
        rows = np.arange(ends[k], stratum_end[k])
        return rows[sets.first[rows] <= k]

    return at


def _single(r: FloatArray, lp: FloatArray, X: FloatArray, dead: npt.NDArray[np.bool_]) -> Group:
    share = r / r.sum()
    mean = share @ X
    return (
        float(lp[dead].sum() - np.log(r.sum())),
        X[dead].sum(axis=0) - mean,
        (X * share[:, None]).T @ X - np.outer(mean, mean),
    )


def _subset_group(r: FloatArray, lp: FloatArray, X: FloatArray, dead: npt.NDArray[np.bool_]) -> Group:
    """log prod r_dead - log e_d(r), e_d the elementary symmetric polynomial, by inverting its generating function.

    Independent Bernoulli events with odds rho r, rho such that d are expected, hit d with a probability that the
    trapezoid rule on the circle gives to rounding; the same nodes give inclusion probabilities and their covariance.
    """
    d, n = int(dead.sum()), len(r)
    p = X.shape[1]
    if d == n:
        return 0.0, np.zeros(p), np.zeros((p, p))
    if d == 1:
        return _single(r, lp, X, dead)
    rho = _tilt(r, d)
    odds = rho * r
    pi = odds / (1.0 + odds)
    spread = float(np.sqrt(np.sum(pi * (1.0 - pi))))
    nodes = min(n + 1, int(np.ceil(24.0 * spread)) + 48) | 1
    angle = 2.0 * np.pi * np.arange(nodes // 2 + 1) / nodes
    z = np.exp(1j * angle)
    factors = 1.0 + pi[None, :] * (z[:, None] - 1.0)
    weight = np.prod(factors, axis=1) * np.exp(-1j * d * angle) / nodes
    weight[1:] *= 2.0  # the other half of the circle is the conjugate
    chance = float(weight.sum().real)
    weight = weight / chance
    inclusion = pi[None, :] * z[:, None] / factors
    mean_rows = (weight @ inclusion).real
    means = inclusion @ X
    mean = mean_rows @ X
    second = (means * weight[:, None]).T @ means
    own = (weight @ (inclusion * (1.0 - inclusion))).real
    information = (X * own[:, None]).T @ X + second.real - np.outer(mean, mean)
    log_e = np.log(chance) + np.sum(np.log1p(odds)) - d * np.log(rho)
    return float(lp[dead].sum() - log_e), X[dead].sum(axis=0) - mean, information


def _tilt(r: FloatArray, d: int) -> float:
    """rho with sum rho r / (1 + rho r) = d: Newton on log rho, guarded by bisection."""
    low, high = np.log(d / r.sum()) - 1e-9, np.log(d / r.sum()) + 1.0
    while np.sum(1.0 / (1.0 + np.exp(-high) / r)) < d:
        high += 2.0 * (high - low)
    x = (low + high) / 2.0
    for _ in range(200):
        share = 1.0 / (1.0 + np.exp(-x) / r)
        gap = share.sum() - d
        low, high = (x, high) if gap < 0 else (low, x)
        slope = np.sum(share * (1.0 - share))
        new = x - gap / slope if slope > 0 else (low + high) / 2.0
        new = new if low < new < high else (low + high) / 2.0
        if abs(new - x) < 1e-12:
            break
        x = new
    return float(np.exp(x))


def _ordered_group(r: FloatArray, lp: FloatArray, X: FloatArray, dead: npt.NDArray[np.bool_]) -> Group:
    """One group of the marginal likelihood, by the trapezoid rule in log t (which converges exponentially)."""
    d = int(dead.sum())
    p = X.shape[1]
    S = float(r[~dead].sum())
    if S == 0.0:
        return 0.0, np.zeros(p), np.zeros((p, p))
    if d == 1:
        return _single(r, lp, X, dead)
    after = r[~dead] / S
    mean = after @ X[~dead]
    centred = X[~dead] - mean
    V = (centred * after[:, None]).T @ centred
    G = X[dead] - mean
    theta = r[dead] / S
    step = min(0.1, 0.4 / np.sqrt(d + 1.0))
    s = np.arange(-42.0, np.log(d + 60.0 + 15.0 * np.sqrt(d)), step)
    a = theta[None, :] * np.exp(s)[:, None]
    log_f = np.sum(np.log(-np.expm1(-a)), axis=1) - np.exp(s) + s
    top = log_f.max()
    weight = np.exp(log_f - top)
    total = weight.sum()
    weight = weight / total
    q = np.where(a > 1e-8, a / np.expm1(np.clip(a, 1e-8, 700.0)), 1.0 - a / 2.0)
    slopes = q @ G
    score = weight @ slopes
    curvature = (weight @ (q * (1.0 - q - a))) if len(s) else np.zeros(d)
    expected = weight @ q
    within = (G * curvature[:, None]).T @ G - expected.sum() * V
    between = (slopes * weight[:, None]).T @ slopes - np.outer(score, score)
    return float(top + np.log(total * step)), score, -(within + between)
