"""Regression of the restricted survival time: inverse-censoring weights (Tian, Zhao, Wei 2014) and pseudo-values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kapstats.kernels.product_limit import area, product_limit
from kapstats.kernels.risk_sets import RiskSets, risk_sets

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class MeanModel:
    """Coefficients b (q,) of the mean on the link scale and their sandwich covariance V (q, q)."""

    b: FloatArray
    V: FloatArray
    converged: bool


def censoring_weights(time: FloatArray, seen: BoolArray, group: IntArray, n_groups: int) -> FloatArray:
    """1 / G(time) where the restricted time is seen, else 0; G the Kaplan-Meier curve of censoring in each group."""
    sets = risk_sets(time, ~seen, None, group, n_groups, every=True)
    G = product_limit(sets).survival
    at = np.empty(len(time))
    at[sets.order] = G[sets.last - 1]
    return np.where(seen, 1.0 / np.where(seen, at, 1.0), 0.0)


def mean_regression(
    time: FloatArray, event: BoolArray, X: FloatArray, group: IntArray, n_groups: int, tau: float, link: str
) -> MeanModel:
    """Restricted mean to `tau` (or time lost, link "lost") regressed on X (n, q), weighted by inverse censoring.

    link : "identity", "log", or "lost" (log of tau - mean). The variance counts the estimated censoring curves.
    """
    y = np.minimum(time, tau)
    seen = event | (y == tau)
    w = censoring_weights(y, seen, group, n_groups)
    target = tau - y if link == "lost" else y
    b, converged = _solve(X, target, w, link)
    mu = X @ b if link == "identity" else np.exp(X @ b)
    influence = _with_censoring(X * (w * (target - mu))[:, None], y, seen, group, n_groups)
    slope = np.ones(len(y)) if link == "identity" else mu
    A: FloatArray = np.asarray(np.linalg.inv((X * slope[:, None]).T @ X), dtype=float)
    return MeanModel(b, A @ (influence.T @ influence) @ A.T, converged)


def response_regression(time: FloatArray, event: BoolArray, X: FloatArray, tau: float) -> MeanModel:
    """Least squares of seen I / G x min(time, tau) on X (n, q), one censoring curve for all rows (IPCW response).

    Ties as mets 1.3.2 has them: censorings come before events of their time and leave one by one, G at a tied time has
    passed the first of them only, and a censoring at tau itself is not seen. Tied censorings stand in row order, on
    which the standard errors (never the coefficients) then depend a little.
    """
    order = np.lexsort((event, time))
    t, censored, x = time[order], ~event[order], X[order]
    unit = np.where(censored, 1.0 / np.arange(len(t), 0, -1), 0.0)
    jumps, G = t[censored], np.append(1.0, np.cumprod(1.0 - unit)[censored])
    y = np.minimum(t, tau)
    at = G[np.searchsorted(jumps, y, side="left") + np.isin(y, jumps)]
    seen = ~censored | (t > tau)
    z = np.where(seen, y / np.where(seen, at, 1.0), 0.0)
    A: FloatArray = np.asarray(np.linalg.inv(x.T @ x), dtype=float)
    b = A @ (x.T @ z)
    later = np.cumsum((x * z[:, None])[::-1], axis=0)[::-1]
    jump = later * (unit * (t <= tau))[:, None]
    drift = np.cumsum(later * (unit**2 * (t < tau))[:, None], axis=0)
    influence = x * (z - x @ b)[:, None] + jump - drift
    return MeanModel(b, A @ (influence.T @ influence) @ A, True)


def _solve(X: FloatArray, y: FloatArray, w: FloatArray, link: str) -> tuple[FloatArray, bool]:
    """Weighted least squares, or the log-linear quasi-likelihood equations by Newton."""
    if link == "identity":
        return np.asarray(np.linalg.solve((X * w[:, None]).T @ X, X.T @ (w * y)), dtype=float), True
    b = np.zeros(X.shape[1])
    b[0] = np.log(np.average(y, weights=w))
    for _ in range(100):
        mu = np.exp(X @ b)
        step = np.linalg.solve((X * (w * mu)[:, None]).T @ X, X.T @ (w * (y - mu)))
        b = b + step * min(1.0, 2.0 / max(np.max(np.abs(X @ step)), 1e-300))
        if np.max(np.abs(X @ step)) < 1e-13:
            return b, True
    return b, False


def _with_censoring(scores: FloatArray, y: FloatArray, seen: BoolArray, group: IntArray, n_groups: int) -> FloatArray:
    """Scores plus the martingale of censoring: the influence of each row with the censoring curve estimated."""
    out = np.empty_like(scores)
    for g in range(n_groups):
        rows = np.flatnonzero(group == g)
        rows = rows[np.argsort(y[rows], kind="stable")]
        u, s = y[rows], scores[rows]
        first = np.searchsorted(u, u, side="left")
        behind = np.searchsorted(u, u, side="right") - 1
        later = np.cumsum(s[::-1], axis=0)[::-1][first]
        at_risk = (len(u) - first)[:, None]
        censored = (~seen[rows])[:, None]
        drift = np.cumsum(later * censored / at_risk**2, axis=0)[behind]
        out[rows] = s + later * censored / at_risk - drift
    return out


def pseudo_means(time: FloatArray, event: BoolArray, tau: float) -> FloatArray:
    """Pseudo-values (n,) of the restricted mean: estimate + n times each row's influence (infinitesimal jackknife)."""
    sets, curve, increments = _influence_parts(time, event)
    tails = area(sets.time, curve, tau)
    weight = np.where(sets.time < tau, tails[1:], 0.0)
    return tails[0] - len(time) * _cumulated(sets, increments, weight)


def pseudo_survival(time: FloatArray, event: BoolArray, at: FloatArray) -> FloatArray:
    """Pseudo-values (n, len(at)) of survival at the times `at`, from one Kaplan-Meier curve of all rows."""
    sets, curve, increments = _influence_parts(time, event)
    columns = []
    for t in at:
        s = float(np.append(1.0, curve)[np.searchsorted(sets.time, t, side="right")])
        weight = np.where(sets.time <= t, s, 0.0)
        columns.append(s - len(time) * _cumulated(sets, increments, weight))
    return np.stack(columns, axis=1)


def _influence_parts(time: FloatArray, event: BoolArray) -> tuple[RiskSets, FloatArray, FloatArray]:
    """Risk sets, survival (K,), and (2, K): 1 / (n - d), 0 when everybody has the event, and d / n."""
    sets = risk_sets(time, event)
    curve = product_limit(sets)
    left = curve.n_risk - curve.n_event
    unit = np.where(left > 0, 1.0 / np.maximum(left, 1.0), 0.0)
    return sets, curve.survival, np.stack([unit, curve.n_event / curve.n_risk])


def _cumulated(sets: RiskSets, increments: FloatArray, weight: FloatArray) -> FloatArray:
    """Per row, input order: sum over its risk sets of weight (dN - dH) / (n - d)."""
    unit = increments[0] * weight
    values = -sets.over_follow_up(unit * increments[1])
    values[sets.event] += unit[sets.last[sets.event] - 1]
    return sets.unsort(values)
