"""Meta-regression of k effects on q study-level columns: between-study variance, coefficients, omnibus tests.

Symbols: y (k,), v (k,), X (k, q) of full column rank, t = tau^2, W = diag(1 / (v + t)),
P = W - W X (X'WX)^-1 X'W, Q(t) = y'Py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import optimize

from kapstats._types import FloatArray


@dataclass(frozen=True, slots=True)
class Regressed:
    """coefficients (q,), covariance (q, q), tau^2, Q(0) and Q(tau^2) with k - q df, typical sampling variance."""

    coefficients: FloatArray
    covariance: FloatArray
    tau2: float
    q: float
    q_at_tau2: float
    typical: float


def regress(y: FloatArray, v: FloatArray, X: FloatArray, model: str) -> Regressed:
    """Weighted least squares at the tau^2 of `model` (a key of TAU2)."""
    t = TAU2[model](y, v, X)
    root = np.sqrt(1 / (v + t))
    basis, triangle = np.linalg.qr(X * root[:, None])
    inverse = np.linalg.inv(triangle)
    return Regressed(
        coefficients=np.asarray(inverse @ (basis.T @ (y * root))),
        covariance=inverse @ inverse.T,
        tau2=t,
        q=residual_q(y, v, X, 0.0),
        q_at_tau2=residual_q(y, v, X, t),
        typical=(len(y) - X.shape[1]) / float(np.trace(projection(v, X, 0.0))),
    )


def projection(v: FloatArray, X: FloatArray, t: float) -> FloatArray:
    """P at `t`, (k, k)."""
    root = np.sqrt(1 / (v + t))
    basis = np.linalg.qr(X * root[:, None])[0]
    return np.asarray(np.outer(root, root) * (np.eye(len(v)) - basis @ basis.T))


def residual_q(y: FloatArray, v: FloatArray, X: FloatArray, t: float) -> float:
    """Q(t), the weighted residual sum of squares."""
    root = np.sqrt(1 / (v + t))
    basis = np.linalg.qr(X * root[:, None])[0]
    scaled = y * root
    return float(((scaled - basis @ (basis.T @ scaled)) ** 2).sum())


def tau2_dl(y: FloatArray, v: FloatArray, X: FloatArray) -> float:
    """Moments of Q(0)."""
    excess = residual_q(y, v, X, 0.0) - (len(y) - X.shape[1])
    return max(0.0, excess / float(np.trace(projection(v, X, 0.0))))


def tau2_he(y: FloatArray, v: FloatArray, X: FloatArray) -> float:
    """Moments of the unweighted residual sum of squares."""
    p = projection(np.ones(len(y)), X, 0.0)
    return max(0.0, float(y @ p @ y - np.diag(p) @ v) / (len(y) - X.shape[1]))


def tau2_hs(y: FloatArray, v: FloatArray, X: FloatArray) -> float:
    """Hunter & Schmidt."""
    return max(0.0, (residual_q(y, v, X, 0.0) - len(y)) / float((1 / v).sum()))


def tau2_sj(y: FloatArray, v: FloatArray, X: FloatArray) -> float:
    """Sidik & Jonkman, started from the unweighted variance of the effects."""
    start = float(y.var())
    return start * residual_q(y, v, X, start) / (len(y) - X.shape[1]) if start > 0 else 0.0


def tau2_pm(y: FloatArray, v: FloatArray, X: FloatArray) -> float:
    """The t >= 0 where Q(t) = k - q."""
    target = float(len(y) - X.shape[1])
    if residual_q(y, v, X, 0.0) <= target:
        return 0.0
    high = float(y.var(ddof=1)) + v.max()
    while residual_q(y, v, X, high) > target:
        high *= 2
    return float(optimize.brentq(lambda t: residual_q(y, v, X, t) - target, 0.0, high, xtol=1e-15, rtol=1e-14))


def loglik(y: FloatArray, v: FloatArray, X: FloatArray, t: float, restricted: bool) -> float:
    """(Restricted) log-likelihood at `t`, without constants."""
    root = np.sqrt(1 / (v + t))
    weighted = X * root[:, None]
    penalty = np.linalg.slogdet(weighted.T @ weighted)[1] if restricted else 0.0
    return float(-0.5 * (np.log(v + t).sum() + residual_q(y, v, X, t) + penalty))


def _score(y: FloatArray, v: FloatArray, X: FloatArray, t: float, restricted: bool) -> float:
    """Derivative of the (restricted) log-likelihood in t, times 2."""
    p = projection(v, X, t)
    residual = p @ y
    return float(residual @ residual - (np.trace(p) if restricted else (1 / (v + t)).sum()))


def tau2_likelihood(y: FloatArray, v: FloatArray, X: FloatArray, restricted: bool) -> float:
    """The (restricted) maximum-likelihood t >= 0: every root of the score on a grid, the best likelihood wins."""
    top = 10 * (float(y.var(ddof=1)) + v.max())
    grid = np.concatenate([[0.0], np.geomspace(1e-8 * v.min(), top, 100)])
    score = np.array([_score(y, v, X, t, restricted) for t in grid])
    falls = np.flatnonzero((score[:-1] > 0) & (score[1:] <= 0))
    roots = [
        float(optimize.brentq(lambda t: _score(y, v, X, t, restricted), grid[i], grid[i + 1], xtol=1e-15, rtol=1e-13))
        for i in falls
    ]
    return max([0.0, *roots], key=lambda t: loglik(y, v, X, t, restricted))


TAU2: dict[str, Callable[[FloatArray, FloatArray, FloatArray], float]] = {
    "common": lambda y, v, X: 0.0,
    "dl": tau2_dl,
    "he": tau2_he,
    "hs": tau2_hs,
    "sj": tau2_sj,
    "pm": tau2_pm,
    "eb": tau2_pm,
    "ml": lambda y, v, X: tau2_likelihood(y, v, X, restricted=False),
    "reml": lambda y, v, X: tau2_likelihood(y, v, X, restricted=True),
}
