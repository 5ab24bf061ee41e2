"""Poisson and negative binomial (NB2) regression with a log link and an offset.

y ~ NB(mu, theta), variance mu + mu^2/theta. Coefficients by scoring, theta by Newton on its profile, alternating to the
joint maximum; coefficient errors from the expected information (theta and coefficients are orthogonal).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import digamma, gammaln, polygamma, xlogy

from kapstats.kernels.cox_newton import independent
from kapstats.kernels.recession import at_infinity, recession

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class CountFit:
    """coef (p,), vcov (p, p), theta and its standard error (Inf, NaN for Poisson), loglik, deviance, converged."""

    coef: Array
    vcov: Array
    theta: float
    theta_error: float
    loglik: float
    deviance: float
    converged: bool


def count_regression(y: Array, X: Array, offset: Array, *, negative_binomial: bool = False) -> CountFit:
    """Fit counts `y` (n,) on `X` (n, p, with an intercept) with `offset` (n,) on the log scale."""
    coef = np.zeros(X.shape[1])
    coef[0] = np.log(max(y.sum(), 0.5) / np.exp(offset).sum())
    coef, settled = _scoring(y, X, offset, coef, np.inf)
    if not negative_binomial:
        return _result(y, X, offset, coef, np.inf, np.nan, settled)
    mu = np.exp(X @ coef + offset)
    excess = ((y - mu) ** 2 - mu).sum() / (mu**2).sum()
    theta = 1.0 / excess if excess > 1e-4 else 1e3
    for _ in range(200):
        old = (coef, theta)
        coef, settled = _scoring(y, X, offset, coef, theta)
        theta, error = _theta(y, np.exp(X @ coef + offset), theta)
        if theta > 1e7:
            return _result(y, X, offset, coef, theta, np.nan, False)
        if np.abs(coef - old[0]).max() < 1e-12 and abs(theta / old[1] - 1.0) < 1e-12:
            return _result(y, X, offset, coef, theta, error, settled)
    return _result(y, X, offset, coef, theta, error, False)


def supremum(y: Array, X: Array, offset: Array, *, negative_binomial: bool = False) -> CountFit:
    """`count_regression`; where columns separate rows without events from the others, coefficients at +-infinity (NaN
    where the side is open) with NaN covariance, and the rest at the supremum, to which those rows add 0."""
    found = recession(-X[y == 0], np.append(1.0, np.ptp(X[:, 1:], axis=0)), X[y > 0])
    if found is None:
        return count_regression(y, X, offset, negative_binomial=negative_binomial)
    rows = np.abs(X @ found.direction) <= 1e-9 * np.abs(found.direction).max()
    kept = independent(X[rows].T @ X[rows])
    part = count_regression(y[rows], X[rows][:, kept], offset[rows], negative_binomial=negative_binomial)
    coef, vcov, finite = np.zeros(kept.size), np.full((kept.size, kept.size), np.nan), found.sign == 0
    coef[kept] = part.coef
    vcov[np.ix_(finite, finite)] = part.vcov[np.ix_(finite[kept], finite[kept])]
    return replace(part, coef=at_infinity(found.sign, coef), vcov=vcov)


def _scoring(y: Array, X: Array, offset: Array, coef: Array, theta: float) -> tuple[Array, bool]:
    """Fisher scoring with step halving at a fixed theta."""
    value = _loglik(y, np.exp(X @ coef + offset), theta)
    for _ in range(100):
        mu = np.exp(X @ coef + offset)
        shrink = 1.0 + mu / theta
        step = np.linalg.solve((X * (mu / shrink)[:, None]).T @ X, X.T @ ((y - mu) / shrink))
        scale = 1.0
        new = _loglik(y, np.exp(X @ (coef + step) + offset), theta)
        while not new >= value - 1e-10 * abs(value) and scale > 1e-6:
            scale /= 2.0
            new = _loglik(y, np.exp(X @ (coef + scale * step) + offset), theta)
        coef, value = coef + scale * step, new
        if np.abs(scale * step).max() < 1e-13 * (1.0 + np.abs(coef).max()):
            return coef, True
    return coef, bool(np.abs(step).max() < 1e-8)


def _theta(y: Array, mu: Array, theta: float) -> tuple[float, float]:
    """Newton on log theta for the NB2 likelihood with mu fixed; the error from the observed information."""
    for _ in range(100):
        total = theta + mu
        slope = digamma(y + theta) - digamma(theta) + np.log(theta / total) + (mu - y) / total
        bend = polygamma(1, y + theta) - polygamma(1, theta) + 1.0 / theta - 2.0 / total + (y + theta) / total**2
        score, info = float(slope.sum()), -float(bend.sum())
        curvature = theta * theta * info - theta * score
        step = theta * score / curvature if curvature > 0 else np.sign(score)
        theta *= float(np.exp(np.clip(step, -1.0, 1.0)))
        if abs(step) < 1e-13 or theta > 1e8:
            break
    return theta, float(1.0 / np.sqrt(info)) if info > 0 else float("nan")


def _loglik(y: Array, mu: Array, theta: float) -> float:
    if np.isinf(theta):
        return float((xlogy(y, mu) - mu - gammaln(y + 1.0)).sum())
    kernel = gammaln(y + theta) - gammaln(theta) - gammaln(y + 1.0)
    return float((kernel + theta * np.log(theta / (theta + mu)) + xlogy(y, mu / (theta + mu))).sum())


def _result(y: Array, X: Array, offset: Array, coef: Array, theta: float, error: float, converged: bool) -> CountFit:
    mu = np.exp(X @ coef + offset)
    vcov = np.linalg.inv((X * (mu / (1.0 + mu / theta))[:, None]).T @ X)
    deviance = 2.0 * float((xlogy(y, y / mu) - (y - mu)).sum())
    if np.isfinite(theta):
        deviance = 2.0 * float((xlogy(y, y / mu) - (y + theta) * np.log((y + theta) / (mu + theta))).sum())
    return CountFit(coef, vcov, theta, error, _loglik(y, mu, theta), deviance, converged)
