"""Beta-binomial rates over clusters (studies): rare events with between-study variation, no correction of zeros.

x of n with logit(mean) = X b and intra-class correlation rho in [0, 1): x ~ BetaBinomial(n, mean s, (1 - mean) s) with
s = (1 - rho)/rho; rho = 0 is the binomial.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import betaln, digamma, expit, gammaln, logit, xlogy

FloatArray = npt.NDArray[np.float64]
Objective = Callable[[FloatArray], tuple[float, FloatArray]]


@dataclass(frozen=True, slots=True)
class BetaBinomial:
    """coefficients (q,), covariance (q, q) from the observed information, rho, log-likelihood, converged."""

    coefficients: FloatArray
    covariance: FloatArray
    rho: float
    loglik: float
    converged: bool


def beta_binomial(x: FloatArray, n: FloatArray, X: FloatArray) -> BetaBinomial:
    """Maximum likelihood; rho on the logit scale, and its boundary 0 compared with the inside."""
    q = X.shape[1]
    start = np.asarray(np.linalg.lstsq(X, np.log((x + 0.5) / (n - x + 0.5)), rcond=None)[0], dtype=np.float64)

    def negative(theta: FloatArray) -> tuple[float, FloatArray]:
        value, slope = _with_slope(theta, x, n, X)
        return -value, -slope

    inside = [_descend(negative, np.r_[start, r]) for r in (-5.0, -2.0)]
    best = min(inside, key=lambda fit: fit[0])
    edge = _descend(negative, start)
    on_edge = edge[0] <= best[0] + 1e-8 + _rounding(float(best[1][q]), x.size)
    value, free = edge if on_edge else best
    hessian, gradient = _hessian(negative, free), negative(free)[1]
    covariance = np.asarray(np.linalg.pinv(hessian)[:q, :q], dtype=np.float64)
    small = float(np.max(np.abs(gradient[:q]) * np.sqrt(np.maximum(np.diag(covariance), 0.0)))) < 1e-3
    rho = 0.0 if on_edge else float(expit(free[q]))
    return BetaBinomial(free[:q], covariance, rho, -value, small)


def loglik(beta: FloatArray, rho: float, x: FloatArray, n: FloatArray, X: FloatArray) -> float:
    """Log-likelihood with binomial coefficients."""
    return _with_slope(beta if rho < 1e-9 else np.r_[beta, logit(rho)], x, n, X)[0]


def _with_slope(theta: FloatArray, x: FloatArray, n: FloatArray, X: FloatArray) -> tuple[float, FloatArray]:
    """Log-likelihood and its gradient in theta = beta, or (beta, logit rho)."""
    q = X.shape[1]
    mean = expit(X @ theta[:q])
    choose = float((gammaln(n + 1) - gammaln(x + 1) - gammaln(n - x + 1)).sum())
    if theta.size == q:
        return choose + float((xlogy(x, mean) + xlogy(n - x, 1 - mean)).sum()), X.T @ (x - n * mean)
    s = math.exp(-max(float(theta[q]), -700.0))
    a, b = np.maximum(mean * s, 1e-300), np.maximum((1 - mean) * s, 1e-300)
    value = choose + float((betaln(x + a, n - x + b) - betaln(a, b)).sum())
    common = digamma(s) - digamma(n + s)
    by_a, by_b = digamma(x + a) - digamma(a) + common, digamma(n - x + b) - digamma(b) + common
    return value, np.r_[X.T @ (s * mean * (1 - mean) * (by_a - by_b)), -(a @ by_a + b @ by_b)]


def _rounding(logit_rho: float, size: int) -> float:
    """What is lost to cancellation of log-beta functions of arguments near s = (1 - rho)/rho."""
    s = math.exp(-max(logit_rho, -700.0))
    return 4 * float(np.finfo(float).eps) * size * s * math.log1p(s)


def _descend(function: Objective, start: FloatArray) -> tuple[float, FloatArray]:
    found = minimize(function, start, jac=True, method="BFGS", options={"gtol": 1e-8})
    return float(found.fun), np.asarray(found.x)


def _hessian(function: Objective, at: FloatArray) -> FloatArray:
    """Central differences of the exact gradient."""
    step = np.diag(1e-4 * np.maximum(1.0, np.abs(at)))
    columns = [(function(at + e)[1] - function(at - e)[1]) / (2 * e.sum()) for e in step]
    return np.asarray((np.array(columns) + np.array(columns).T) / 2)
