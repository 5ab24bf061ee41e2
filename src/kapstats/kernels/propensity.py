"""Multinomial propensity of the group given covariates, and weighted risks with a sandwich variance.

X (n, q) covariates with an intercept, group (n,) 0..G-1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Propensity:
    """probability (n, G); score (n, q (G-1)) contributions to the likelihood equations; converged."""

    probability: FloatArray
    score: FloatArray
    converged: bool


def propensity(X: FloatArray, group: IntArray, n_groups: int, iterations: int = 100) -> Propensity:
    """Multinomial logistic regression by Newton steps, group 0 the base; a tiny ridge keeps separation finite."""
    n, q = X.shape
    beta = np.zeros((n_groups - 1, q))
    member = (group[:, None] == np.arange(1, n_groups)).astype(float)
    ridge = 1e-6 * np.eye(q * (n_groups - 1))
    converged = False
    for _ in range(iterations):
        p = _softmax(X @ beta.T)
        residual = member - p[:, 1:]
        gradient = (residual.T @ X).ravel() - ridge @ beta.ravel()
        hessian = _information(X, p[:, 1:]) + ridge
        step = np.linalg.solve(hessian, gradient)
        beta = beta + (step * min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-300))).reshape(beta.shape)
        if np.abs(step).max() < 1e-10:
            converged = True
            break
    p = _softmax(X @ beta.T)
    score = ((member - p[:, 1:])[:, :, None] * X[:, None, :]).reshape(n, -1)
    return Propensity(p, score, converged)


def _softmax(eta: FloatArray) -> FloatArray:
    full = np.column_stack([np.zeros(len(eta)), eta])
    full = np.exp(full - full.max(axis=1, keepdims=True))
    return full / full.sum(axis=1, keepdims=True)


def _information(X: FloatArray, p: FloatArray) -> FloatArray:
    k, q = p.shape[1], X.shape[1]
    out = np.empty((k * q, k * q))
    for a in range(k):
        for b in range(k):
            weight = p[:, a] * ((a == b) - p[:, b])
            out[a * q : (a + 1) * q, b * q : (b + 1) * q] = (X * weight[:, None]).T @ X
    return out


def weighted_risks(
    event: FloatArray, weight: FloatArray, group: IntArray, n_groups: int, score: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Hajek risks (G, k) of k terms and their influence values (n, G, k), with the estimation of the weights in them.

    The influence of the estimated propensity is the regression of the plain influence on its score (Lunceford &
    Davidian 2004), which makes the variance smaller, not larger.
    """
    n, k = event.shape
    risk, influence = np.empty((n_groups, k)), np.empty((n, n_groups, k))
    for g in range(n_groups):
        w = np.where(group == g, weight, 0.0)[:, None]
        risk[g] = (w * event).sum(axis=0) / w.sum()
        influence[:, g] = n * w * (event - risk[g]) / w.sum()
    projection = np.linalg.lstsq(score, influence.reshape(n, -1), rcond=None)[0]
    return risk, influence - (score @ projection).reshape(influence.shape)
