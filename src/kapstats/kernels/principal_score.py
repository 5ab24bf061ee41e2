"""Means of a principal stratum by weighting with the principal score, for many resampled trials.

S(1) is 0 for those who would not have the event under active treatment. Under active treatment they are seen. Among
controls, e(x) = P(S(1) = 0 | x), fitted in the active arm, weighs each subject by how likely it is one of them, which
is right when S(1) tells nothing more about Y(0) than the covariates do (principal ignorability; Ding & Lu 2017,
doi 10.1111/rssb.12191).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def stratum_means(x: Floats, y: Floats, active: Bools, event: Bools, times: Floats) -> tuple[Floats, Floats]:
    """Means (B, 2) of active and control in the stratum, and its share (B,), when subject i counts times[b, i].

    x (n, q) with an intercept; y (n,) with NaN where not seen; times (B, n).
    """
    share = np.empty(len(times))
    means = np.full((len(times), 2), np.nan)
    known = np.isfinite(y)
    value = np.where(known, y, 0.0)
    for b, count in enumerate(times):
        score = _logistic(x, (~event).astype(float), count * active)
        treated = count * (active & ~event & known)
        control = count * (~active & known) * score
        share[b] = float((count * active * ~event).sum() / (count * active).sum())
        if treated.sum() > 0 and control.sum() > 0:
            means[b] = (treated @ value) / treated.sum(), (control @ value) / control.sum()
    return means, share


def _logistic(x: Floats, outcome: Floats, weight: Floats, ridge: float = 1e-6) -> Floats:
    """Fitted probabilities (n,) for all rows of a logistic regression of `outcome`; a tiny ridge bounds separation."""
    beta = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(x @ beta, -30, 30)))
        information = (x * (weight * p * (1 - p))[:, None]).T @ x + ridge * np.eye(len(beta))
        step = np.linalg.solve(information, x.T @ (weight * (outcome - p)) - ridge * beta)
        step *= min(1.0, 4.0 / max(float(np.abs(step).max()), 1e-300))
        beta = beta + step
        if np.abs(step).max() < 1e-9:
            break
    return np.asarray(1 / (1 + np.exp(-np.clip(x @ beta, -30, 30))))
