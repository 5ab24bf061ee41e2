"""Beta-binomial rates over clusters (studies): rare events with between-study variation, no correction of zeros.

x of n with logit(mean) = X b and intra-class correlation rho in [0, 1): x ~ BetaBinomial(n, mean s, (1 - mean) s) with
s = (1 - rho)/rho; rho = 0 is the binomial.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import betaln, expit, gammaln, xlogy

FloatArray = npt.NDArray[np.float64]


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
    start = np.linalg.lstsq(X, np.log((x + 0.5) / (n - x + 0.5)), rcond=None)[0]

    def negative(theta: FloatArray) -> float:
        return -loglik(theta[:q], float(expit(theta[q])), x, n, X)

    inside = [minimize(negative, np.r_[start, r], method="BFGS", options={"gtol": 1e-8}) for r in (-5.0, -2.0)]
    best = min(inside, key=lambda fit: fit.fun)
    edge = minimize(lambda b: -loglik(b, 0.0, x, n, X), start, method="BFGS", options={"gtol": 1e-8})
    on_edge = bool(edge.fun <= best.fun + 1e-8)
    beta, rho = (edge.x, 0.0) if on_edge else (best.x[:q], float(expit(best.x[q])))
    free = beta if on_edge else best.x
    target = (lambda b: -loglik(b, 0.0, x, n, X)) if on_edge else negative
    hessian, gradient = _differences(target, free)
    covariance = np.asarray(np.linalg.pinv(hessian)[:q, :q], dtype=np.float64)
    small = float(np.max(np.abs(gradient[:q]) * np.sqrt(np.maximum(np.diag(covariance), 0.0)))) < 1e-3
    return BetaBinomial(beta, covariance, rho, -float(min(edge.fun, best.fun)), small)


def loglik(beta: FloatArray, rho: float, x: FloatArray, n: FloatArray, X: FloatArray) -> float:
    """Log-likelihood with binomial coefficients."""
    mean = expit(X @ beta)
    choose = gammaln(n + 1) - gammaln(x + 1) - gammaln(n - x + 1)
    if rho < 1e-9:
        return float(np.sum(choose + xlogy(x, mean) + xlogy(n - x, 1 - mean)))
    s = (1 - rho) / rho
    a, b = np.maximum(mean * s, 1e-300), np.maximum((1 - mean) * s, 1e-300)
    return float(np.sum(choose + betaln(x + a, n - x + b) - betaln(a, b)))


def _differences(function: Callable[[FloatArray], float], at: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Central-difference Hessian and gradient."""
    k, step = at.size, 1e-4 * np.maximum(1.0, np.abs(at))
    unit = np.diag(step)
    gradient = np.array([(function(at + unit[i]) - function(at - unit[i])) / (2 * step[i]) for i in range(k)])
    hessian = np.empty((k, k))
    for i in range(k):
        for j in range(i + 1):
            corners = [function(at + a * unit[i] + b * unit[j]) * a * b for a in (1, -1) for b in (1, -1)]
            hessian[i, j] = hessian[j, i] = sum(corners) / (4 * step[i] * step[j])
    return hessian, gradient
