"""Kaplan-Meier and Nelson-Aalen on arrays: product limit, Greenwood and jackknife variances, limits, quantiles."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from kapstats.kernels.risk_sets import RiskSets

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

CONF_TYPES = ("plain", "log", "log-log", "logit", "arcsin")


@dataclass(frozen=True, slots=True)
class ProductLimit:
    """Survival per grid point of the risk sets, all (K,): numbers at risk, events, censored, entered; survival;
    std_error of survival; cumulative hazard (Nelson-Aalen) and its std_error."""

    n_risk: FloatArray
    n_event: FloatArray
    n_censor: FloatArray
    n_enter: FloatArray
    survival: FloatArray
    std_error: FloatArray
    hazard: FloatArray
    hazard_std_error: FloatArray


def product_limit(sets: RiskSets, weights: FloatArray | None = None, cluster: IntArray | None = None) -> ProductLimit:
    """Product-limit estimate; `weights` (n,) in input order. With `cluster` (n,) codes in input order the standard
    errors are those of the infinitesimal jackknife, else Greenwood's (survival) and Aalen's (hazard).
    """
    w = None if weights is None else weights[sets.order]
    n_risk = sets.at_risk(w)
    n_event = sets.at_event(None if w is None else w[sets.event])
    leave = np.bincount(sets.last, w, sets.size + 1)[1:].astype(float)
    enter = np.bincount(sets.first, w, sets.size + 1)[:-1].astype(float) if sets.delayed else np.zeros(sets.size)
    if w is None or np.all(w == np.round(w)):
        n_risk = np.round(n_risk)
    with np.errstate(divide="ignore", invalid="ignore"):
        step = np.where(n_event > 0, n_event / n_risk, 0.0)
    step[np.abs(step - 1.0) < 1e-12] = 1.0
    survival = within_strata(np.multiply.accumulate, 1.0 - step, sets.start)
    hazard = within_strata(np.add.accumulate, step, sets.start)
    if cluster is None:
        survival_se, hazard_se = _greenwood(n_risk, n_event, survival, sets.start)
    else:
        survival_se, hazard_se = _jackknife(sets, np.ones(len(sets.order)) if w is None else w, cluster, n_risk, step)
        survival_se = np.where(survival > 0, survival_se * survival, 0.0)
    return ProductLimit(n_risk, n_event, leave - n_event, enter, survival, survival_se, hazard, hazard_se)


def within_strata(accumulate: Callable[..., FloatArray], values: FloatArray, start: IntArray) -> FloatArray:
    """Running product or sum of `values` (K, ...) that begins anew in every stratum."""
    pieces = [accumulate(values[a:b], axis=0) for a, b in itertools.pairwise(start)]
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def _greenwood(n: FloatArray, d: FloatArray, survival: FloatArray, start: IntArray) -> tuple[FloatArray, FloatArray]:
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.sqrt(within_strata(np.add.accumulate, np.where(d > 0, d / (n * (n - d)), 0.0), start))
        hazard = np.sqrt(within_strata(np.add.accumulate, np.where(d > 0, d / n**2, 0.0), start))
        return np.where(survival > 0, relative * survival, np.nan), hazard


def hazard_within_ties(n: FloatArray, d: FloatArray, start: IntArray) -> tuple[FloatArray, FloatArray]:
    """Fleming and Harrington's cumulative hazard sum 1/n + 1/(n-1) + ... over tied events, and its variance."""
    whole = np.round(d).astype(np.int64)
    at = np.repeat(np.arange(len(n)), whole)
    rank = np.arange(len(at)) - np.repeat(np.cumsum(whole) - whole, whole)
    left = n[at] - rank
    steps = np.bincount(at, 1.0 / left, len(n)), np.bincount(at, 1.0 / left**2, len(n))
    hazard, variance = (within_strata(np.add.accumulate, step.astype(float), start) for step in steps)
    return hazard, variance


def _jackknife(
    sets: RiskSets, w: FloatArray, cluster: IntArray, n: FloatArray, step: FloatArray, slab: int = 4_000_000
) -> tuple[FloatArray, FloatArray]:
    """Root of the summed squared influence of every cluster on -log S and on the cumulative hazard, at each grid point.

    Row i adds w_i (dN_i - Y_i dH) / n to the hazard, and the same divided by 1 - dH to -log S.
    Clusters are handled in slabs, so memory stays bounded.
    """
    codes, compact = np.unique(cluster[sets.order], return_inverse=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        unit = np.where(step > 0, 1.0 / n, 0.0)
        relative = np.where(step > 0, unit / (1.0 - step), 0.0)
    if len(codes) == len(compact) and len(codes) * sets.size > slab:
        return _row_jackknife(sets, w, step, relative), _row_jackknife(sets, w, step, unit)
    sums = np.zeros((2, sets.size))
    width = max(1, slab // max(sets.size, 1))
    for low in range(0, len(codes), width):
        rows = np.flatnonzero((compact >= low) & (compact < low + width))
        change = _cluster_increments(sets, rows, w, compact[rows] - low, min(width, len(codes) - low), step)
        for out, scale in zip(sums, (relative, unit), strict=True):
            moved = change.T * np.nan_to_num(scale, posinf=0.0)[:, None]
            out += (within_strata(np.add.accumulate, moved, sets.start) ** 2).sum(axis=1)
    return np.sqrt(sums[0]), np.sqrt(sums[1])


def _row_jackknife(sets: RiskSets, w: FloatArray, step: FloatArray, scale: FloatArray) -> FloatArray:
    """The same when every row is its own cluster, in linear time: rows still at risk have moved the curve by
    -w (C(t) - C(entry)), rows that left by their final influence; C the running sum of scale dH."""
    with np.errstate(invalid="ignore"):
        C = within_strata(np.add.accumulate, np.nan_to_num(scale * step, posinf=0.0), sets.start)
    before = np.append(np.concatenate([[0.0], C])[:-1], 0.0)
    before[sets.start] = 0.0
    entered = before[sets.first]
    followed = sets.last > sets.first
    final = np.where(followed, entered - C[sets.last - 1], 0.0)
    final[sets.event] += np.nan_to_num(scale[sets.last[sets.event] - 1], posinf=0.0)
    left = np.bincount(sets.last, np.where(followed, (w * final) ** 2, 0.0), sets.size + 1)[1:].astype(float)
    total = within_strata(np.add.accumulate, left, sets.start)
    for power, factor in ((0, C**2), (1, -2.0 * C), (2, np.ones(sets.size))):
        values = w**2 * entered**power
        total = total + factor * (sets.at_risk(values) - np.bincount(sets.last, values, sets.size + 1)[1:])
    return np.where(C > 0, np.sqrt(np.maximum(total, 0.0)), 0.0)


def _cluster_increments(
    sets: RiskSets, rows: IntArray, w: FloatArray, who: IntArray, n_clusters: int, step: FloatArray
) -> FloatArray:
    """(clusters, K): weighted events minus weighted expected events of each cluster at each grid point."""
    width = sets.size + 1
    moves = np.zeros((n_clusters, width))
    np.add.at(moves, (who, sets.first[rows]), w[rows])
    np.add.at(moves, (who, sets.last[rows]), -w[rows])
    expected = np.cumsum(moves, axis=1)[:, :-1] * step
    happened = rows[sets.event[rows]]
    observed = np.zeros((n_clusters, sets.size))
    np.add.at(observed, (who[sets.event[rows]], sets.last[happened] - 1), w[happened])
    return observed - expected


def limits(
    survival: FloatArray, std_error: FloatArray, level: float, conf_type: str, lower_std_error: FloatArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """Pointwise limits of survival on the scale `conf_type`; where S is 1 the limits are 1, where S is 0 they are NaN.

    `lower_std_error` replaces the standard error in the lower limit (Peto's and Dorey-Korn's modifications).
    """
    z = ndtri(0.5 + level / 2.0)
    low_se = std_error if lower_std_error is None else lower_std_error
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        low, high = _transformed(survival, z * low_se, z * std_error, conf_type)
    flat = (survival >= 1.0) & (std_error == 0.0)
    empty = (survival <= 0.0) & ~(std_error == 0.0)
    keep_low = flat & (low_se == 0.0)
    low = np.where(keep_low, 1.0, np.where(empty, np.nan, low))
    return low, np.where(flat, 1.0, np.where(empty, np.nan, high))


def _transformed(s: FloatArray, low: FloatArray, high: FloatArray, conf_type: str) -> tuple[FloatArray, FloatArray]:
    if conf_type == "plain":
        return np.maximum(s - low, 0.0), np.minimum(s + high, 1.0)
    if conf_type == "log":
        return s * np.exp(-low / s), np.minimum(s * np.exp(high / s), 1.0)
    if conf_type == "log-log":
        log_s = np.log(s)
        return np.exp(log_s * np.exp(-low / (s * log_s))), np.exp(log_s * np.exp(high / (s * log_s)))
    if conf_type == "logit":
        odds, per = s / (1.0 - s), s * (1.0 - s)
        return 1.0 / (1.0 + np.exp(low / per) / odds), 1.0 / (1.0 + np.exp(-high / per) / odds)
    if conf_type == "arcsin":
        angle, per = np.arcsin(np.sqrt(s)), 2.0 * np.sqrt(s * (1.0 - s))
        low_angle = np.maximum(angle - low / per, 0.0)
        return np.sin(low_angle) ** 2, np.sin(np.minimum(angle + high / per, np.pi / 2)) ** 2
    raise ValueError(f"unknown conf_type {conf_type!r}")


def crossing(time: FloatArray, curve: FloatArray, probability: float, tolerance: float = 1.5e-8) -> float:
    """First time at which the falling step `curve` is at or below 1 - probability.

    When the curve rests on that height over an interval, the midpoint of the interval (as R's quantile and SAS do; up
    to the last time when it never falls lower); NaN when the height is never reached or the limit is NaN there.
    """
    height = 1.0 - probability
    with np.errstate(invalid="ignore"):
        below = curve < height - tolerance
        level = np.abs(curve - height) <= tolerance
    reached = below | level
    if not reached.any():
        return float("nan")
    at = int(np.argmax(reached))
    if not level[at]:
        return float(time[at])
    return float((time[at] + time[int(np.argmax(below)) if below.any() else -1]) / 2.0)


#: estimate, lower and upper limit: what SAS looks for in each curve
SAS_RULES = ("midpoint", "at or below", "below")


def quantile_sas(
    time: FloatArray, curve: FloatArray, probability: float, rule: str, tolerance: float = 1.5e-8
) -> float:
    """The first time at which `curve` is below 1 - probability, as PROC LIFETEST; NaN when it never is.

    rule : "midpoint" of the interval over which the curve rests on the height, when it falls lower afterwards;
        "at or below" and "below": the first and the end of the times whose interval holds the height
    """
    height = 1.0 - probability
    with np.errstate(invalid="ignore"):
        below = curve < height - tolerance if height > tolerance else curve <= tolerance
        reached = curve <= height + tolerance
    if not (reached if rule == "at or below" else below).any():
        return float("nan")
    first, end = int(np.argmax(reached)), int(np.argmax(below))
    return {
        "midpoint": float((time[first] + time[end]) / 2.0) if first < end and not below[first] else float(time[first]),
        "at or below": float(time[first]),
        "below": float(time[end]),
    }[rule]


def by_height(time: FloatArray, curve: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Times and values sorted from the highest value to the lowest, NaN last: how R reads a curve that rises again."""
    order = np.argsort(-curve, kind="stable")
    return time[order], curve[order]


def area(time: FloatArray, survival: FloatArray, tau: float) -> FloatArray:
    """Area under the right-continuous step curve from each of its times (and from 0) to `tau`: (K + 1,).

    The first element is the restricted mean; element k + 1 the area from time k.
    """
    knots = np.minimum(np.concatenate([[0.0], time, [tau]]), tau)
    pieces = np.diff(knots) * np.concatenate([[1.0], survival])
    return np.cumsum(pieces[::-1])[::-1]


def restricted_mean(
    time: FloatArray, d: FloatArray, n: FloatArray, survival: FloatArray, tau: float
) -> tuple[float, float]:
    """Restricted mean survival to `tau` and its Greenwood-type variance, from one curve's grid."""
    tails = area(time, survival, tau)
    use = (time <= tau) & (d > 0) & (n > d)
    return float(tails[0]), float(np.sum(tails[1:][use] ** 2 * d[use] / (n[use] * (n[use] - d[use]))))
