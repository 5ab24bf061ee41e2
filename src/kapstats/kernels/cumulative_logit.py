"""Proportional-odds (cumulative logit) regression without random effects; two categories are logistic regression.

P(Y <= k) = F(alpha_k - x'b), F the logistic distribution, k = 0..K-2. Newton on (alpha, b) with the observed
information, halving steps so that the likelihood grows and the thresholds stay in order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit, log_expit

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

#: a linear predictor beyond this has no data to bound it: the estimate runs away
_RUNAWAY = 15.0


@dataclass(frozen=True, slots=True)
class CumulativeFit:
    """thresholds (K-1,), coefficients (q,), covariance (K-1+q, K-1+q) in that order, log-likelihood; `separated`: some
    linear combination has no finite estimate; converged: the score vanished and nothing is separated.
    """

    thresholds: FloatArray
    coefficients: FloatArray
    covariance: FloatArray
    loglik: float
    separated: bool
    converged: bool


def cumulative_logit(y: IntArray, X: FloatArray) -> CumulativeFit:
    """Fit categories `y` (n,) in 0..K-1, each present, on `X` (n, q) without an intercept."""
    cuts = int(y.max())
    share = np.cumsum(np.bincount(y))[:-1] / y.size
    theta = np.concatenate([np.log(share / (1 - share)), np.zeros(X.shape[1])])
    value, score, information = _terms(theta, y, X, cuts)
    decrement = np.inf
    for _ in range(100):
        step = np.linalg.lstsq(information, score, rcond=None)[0]
        decrement = float(score @ step)
        scale = 1.0
        new = _terms(theta + step, y, X, cuts)
        while not new[0] >= value - 1e-12 * abs(value) and scale > 1e-8:
            scale /= 2
            new = _terms(theta + scale * step, y, X, cuts)
        theta = theta + scale * step
        value, score, information = new
        if decrement < 1e-22 or np.abs(X @ theta[cuts:]).max(initial=0.0) > 2 * _RUNAWAY:
            break
    # a runaway estimate keeps a slope that only vanishes with the observations' own probabilities
    spread = np.abs(X @ theta[cuts:] - np.median(X @ theta[cuts:])).max(initial=0.0)
    separated = bool(spread > _RUNAWAY or np.linalg.cond(information) > 1e12)
    covariance = np.asarray(np.linalg.pinv(information), dtype=np.float64)
    good = decrement < 1e-12 and not separated
    return CumulativeFit(theta[:cuts], theta[cuts:], covariance, value, separated, good)


def _terms(theta: FloatArray, y: IntArray, X: FloatArray, cuts: int) -> tuple[float, FloatArray, FloatArray]:
    """Log-likelihood, score and observed information; minus infinity where thresholds are out of order."""
    alpha, eta = theta[:cuts], X @ theta[cuts:]
    if np.any(np.diff(alpha) <= 0):
        return -np.inf, np.zeros_like(theta), np.eye(theta.size)
    edges = np.concatenate([[-np.inf], alpha, [np.inf]])
    upper, lower = edges[y + 1] - eta, edges[y] - eta
    log_p = log_expit(upper) + log_expit(-lower) + np.log(-np.expm1(-(edges[y + 1] - edges[y])))
    p = np.exp(log_p)
    left, right = _derivatives(y, X, cuts)
    fu, fl = expit(upper) * expit(-upper) / p, expit(lower) * expit(-lower) / p
    by_row = fu[:, None] * right - fl[:, None] * left
    bend = _weighted(right, fu * (1 - 2 * expit(upper))) - _weighted(left, fl * (1 - 2 * expit(lower)))
    return float(log_p.sum()), by_row.sum(axis=0), by_row.T @ by_row - bend


def _derivatives(y: IntArray, X: FloatArray, cuts: int) -> tuple[FloatArray, FloatArray]:
    """(n, cuts + q) derivatives of the lower and the upper end of each observation's interval."""
    ends = []
    for at in (y - 1, y):
        there = (at[:, None] == np.arange(cuts)).astype(float)
        ends.append(np.hstack([there, -X * there.any(axis=1)[:, None]]))
    return ends[0], ends[1]


def _weighted(Z: FloatArray, weight: FloatArray) -> FloatArray:
    return np.asarray((Z * weight[:, None]).T @ Z)
