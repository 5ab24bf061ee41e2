"""Residuals, robust variance, proportional-hazards score test and baseline hazard of a fitted Cox model.

Everything is O(n p) in the sorted layout of ``cox_newton``, exact under Efron's ties.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kapstats.kernels.cox_newton import CoxData, Hazard, exposure, first_moments, hazard, information, relative_risk
from kapstats.kernels.product_limit import within_strata

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Baseline:
    """Per event group (K,): hazard increment, cumulative hazard and its variance sum at x = center; drift (K, p) the
    cumulative sum of xbar dH, with xbar measured from the centre."""

    increment: FloatArray
    cumulative: FloatArray
    variance: FloatArray
    drift: FloatArray


def martingale(data: CoxData, b: FloatArray) -> FloatArray:
    """event - expected (n,), sorted rows, per unit of case weight."""
    h = hazard(data, relative_risk(data, b)[1])
    expected = exposure(data, h) if data.w is None else exposure(data, h) / data.w
    return data.sets.event - expected


def deviance(residual: FloatArray, event: npt.NDArray[np.bool_]) -> FloatArray:
    """Deviance residuals from martingale residuals (n,)."""
    expected = event - residual
    with np.errstate(divide="ignore", invalid="ignore"):
        inner = residual + np.where(event, np.log(np.maximum(expected, 1e-300)), 0.0)
    return np.sign(residual) * np.sqrt(np.maximum(-2.0 * inner, 0.0))


def score_residuals(data: CoxData, b: FloatArray) -> FloatArray:
    """(n, p) contributions of the sorted rows to the score, per unit of case weight."""
    h = hazard(data, relative_risk(data, b)[1])
    S1, D1 = first_moments(data, h.r)
    rate = h.r if data.w is None else h.r / data.w
    events = data.sets.event
    spread = h.aa[:, None] * S1 - h.ab[:, None] * D1
    out = np.empty_like(data.X)
    A = data.sets.over_follow_up(h.a)
    H = data.sets.over_follow_up(spread)
    out[:] = -rate[:, None] * (data.X * A[:, None] - H)
    own = (h.ab[:, None] * S1 - h.bb[:, None] * D1)[data.group]
    out[events] += rate[events, None] * (data.X[events] * h.b[data.group][:, None] - own)
    out[events] += data.X[events] - event_means(data, h, S1, D1)[data.group]
    return out


def event_means(data: CoxData, h: Hazard, S1: FloatArray, D1: FloatArray) -> FloatArray:
    """(K, p) mean covariate of each event group, averaged over the tied events."""
    total = data.mean_weight * data.deaths
    return (h.a[:, None] * S1 - h.b[:, None] * D1) / total[:, None]


def schoenfeld(data: CoxData, b: FloatArray) -> FloatArray:
    """(E, p) covariate minus its mean in the risk set, one row per event, sorted by stratum and time."""
    h = hazard(data, relative_risk(data, b)[1])
    S1, D1 = first_moments(data, h.r)
    return data.X[data.sets.event] - event_means(data, h, S1, D1)[data.group]


def cluster_sums(values: FloatArray, cluster: IntArray) -> FloatArray:
    """Rows of `values` (n, p) summed within `cluster` codes."""
    n = int(cluster.max()) + 1
    sums = np.zeros((n, values.shape[1]))
    for j in range(values.shape[1]):
        sums[:, j] = np.bincount(cluster, values[:, j], n)
    return sums


def zph_parts(data: CoxData, b: FloatArray, g: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Score (p,) of the coefficients of x g(t) at zero, and the joint information (2p, 2p) with the coefficients of x.

    g (K,) is the transformed time of each event group, centred at its mean over the events.
    """
    h = hazard(data, relative_risk(data, b)[1])
    S1, D1 = first_moments(data, h.r)
    event_w = 1.0 if data.w is None else data.w[data.sets.event][:, None]
    residual = (data.X[data.sets.event] - event_means(data, h, S1, D1)[data.group]) * event_w
    blocks = [information(data, h, weight) for weight in (None, g, g**2)]
    joint = np.block([[blocks[0], blocks[1]], [blocks[1], blocks[2]]])
    return g[data.group] @ residual, joint


def baseline(data: CoxData, b: FloatArray) -> Baseline:
    """Breslow's or Efron's baseline hazard (as the ties of the model) at the centre of the covariates."""
    h = hazard(data, relative_risk(data, b)[1])
    S1, D1 = first_moments(data, h.r)
    spread = h.aa[:, None] * S1 - h.ab[:, None] * D1
    start = data.sets.start
    cumulative = [within_strata(np.add.accumulate, v, start) for v in (h.a, h.aa, spread)]
    return Baseline(h.a, cumulative[0], cumulative[1], cumulative[2])
