"""Exact conditional inference: noncentral hypergeometric distribution, Fisher's test, mid-P, conditional odds ratio.

Given both margins, the events of group 1 have P(X = t; w) proportional to c(t) w^t on lo..hi, where c(t) are the
hypergeometric weights of one table, or the convolution of those of several strata. Every function takes the
logarithms of c as rows of a matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from kapstats.kernels.roots import find_root

FloatArray = npt.NDArray[np.float64]
Limits = tuple[FloatArray, FloatArray]

_LOG_EDGE = 300.0
#: tables of equal probability differ by rounding only; the relative slack of R's fisher.test
_TIE = 1 + 1e-7
#: rows handled together are capped so that a block of weights stays in cache, or in memory
_BLOCK = 400_000
_CELLS = 4_000_000


@dataclass(frozen=True, slots=True)
class Conditional:
    """Null distribution of the events of group 1 given the margins, one row per table.

    log_weight : (k, m) log c(t); -inf beyond the support, row maximum 0
    low : (k,) smallest value of the support
    observed : (k,) position of the observed count in the row
    last : (k,) position of the largest value of the support
    """

    log_weight: FloatArray
    low: FloatArray
    observed: FloatArray
    last: FloatArray


def conditional(x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray) -> Conditional:
    """Hypergeometric weights of independent tables, padded to the widest support."""
    m = x1 + x2
    low, high = np.maximum(0.0, m - n2), np.minimum(n1, m)
    t = low[:, None] + np.arange(int(np.max(high - low, initial=0)) + 1, dtype=np.float64)
    inside = t <= high[:, None]
    t = np.where(inside, t, low[:, None])
    weight = _log_choose(n1[:, None], t) + _log_choose(n2[:, None], m[:, None] - t)
    weight = np.where(inside, weight, -np.inf)
    return Conditional(weight - weight.max(axis=1, keepdims=True), low, x1 - low, high - low)


def combine_strata(x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray) -> Conditional:
    """Distribution of the total events of group 1 over the strata of one table: a convolution, one row."""
    weight, low = np.zeros(1), 0.0
    for row in range(x1.size):
        one = conditional(x1[row : row + 1], n1[row : row + 1], x2[row : row + 1], n2[row : row + 1])
        weight, low = _log_convolve(weight, one.log_weight[0]), low + one.low[0]
    log_weight = weight[None, :] - weight.max()
    return Conditional(log_weight, np.array([low]), np.array([x1.sum() - low]), np.array([weight.size - 1.0]))


def _log_convolve(a: FloatArray, b: FloatArray) -> FloatArray:
    """Logarithm of the convolution of exp(a) and exp(b), both log-concave, right relative to each of its values.

    Tilted by exp(tilt t), a stretch of the values lies within the range of floats; the next tilt puts the mode at the
    first value that is not there yet (the j-th steepest of all steps is the step of the convolution at j, nearly).
    """
    out = np.full(a.size + b.size - 1, -np.inf)
    step = np.append(np.sort(np.concatenate([np.diff(a), np.diff(b)]))[::-1], 0.0)
    at = 0
    while at < out.size:
        tilt = -step[min(at, max(step.size - 2, 0))]
        (x, begin, top), (y, first, most) = _tilted(a, tilt), _tilted(b, tilt)
        value = np.convolve(x, y)
        end = begin + first + int(np.flatnonzero(value > 1e-250)[-1]) + 1
        t = np.arange(at, end)
        out[at:end] = np.log(value[t - begin - first]) + top + most - tilt * t
        at = end
    return out


def _tilted(a: FloatArray, tilt: float) -> tuple[FloatArray, int, float]:
    """exp(a + tilt t) relative to its largest value where that is above exp(-700), from where, and that value."""
    value = a + tilt * np.arange(a.size)
    top = float(value.max())
    held = np.flatnonzero(value > top - 700)
    return np.exp(value[held[0] : held[-1] + 1] - top), int(held[0]), top


def in_blocks(function: Callable[[Conditional], tuple[FloatArray, ...]], *table: FloatArray) -> tuple[FloatArray, ...]:
    """`function` of the conditional distributions of many tables, a few at a time: those of like width together."""
    x1, n1, x2, n2 = table
    width = np.minimum(n1, x1 + x2) - np.maximum(0.0, x1 - (n2 - x2)) + 1
    order = np.argsort(width, kind="stable")
    parts: list[tuple[FloatArray, ...]] = []
    start = 0
    while start < order.size or not parts:
        size = max(1, int(np.searchsorted(width[order[start:]] * np.arange(1, order.size - start + 1), _CELLS)))
        parts.append(function(conditional(*(part[order[start : start + size]] for part in table))))
        start += size
    back = np.argsort(order, kind="stable")
    return tuple(np.concatenate(part)[back] for part in zip(*parts, strict=True))


def probabilities(log_weight: FloatArray, log_odds: FloatArray) -> FloatArray:
    """(k, m) probabilities at the given log odds ratios."""
    t = np.arange(log_weight.shape[1])
    density = log_weight + log_odds[:, None] * t
    density = np.exp(density - density.max(axis=1, keepdims=True))
    return density / density.sum(axis=1, keepdims=True)


def upper_tail(log_odds: FloatArray, log_weight: FloatArray, observed: FloatArray, share: FloatArray) -> FloatArray:
    """P(X > observed) + share * P(X = observed)."""
    p = probabilities(log_weight, log_odds)
    t = np.arange(p.shape[1])
    above = np.sum(np.where(t > observed[:, None], p, 0.0), axis=1)
    return above + share * np.take_along_axis(p, observed.astype(int)[:, None], axis=1)[:, 0]


def odds_ratio_limits(dist: Conditional, tail: float, mid_p: bool = False) -> Limits:
    """Exact (tail) or mid-P limits of the conditional odds ratio; 0 and inf at the ends of the support."""
    share = np.full_like(dist.low, 0.5 if mid_p else 1.0)
    mirrored = _mirror(dist)
    low = _limit(dist, share, tail)
    high = -_limit(mirrored, share, tail)
    low = np.where(dist.observed == 0, 0.0, np.exp(low))
    high = np.where(dist.observed == dist.last, np.inf, np.exp(high))
    return low, high


def _limit(dist: Conditional, share: FloatArray, tail: float) -> FloatArray:
    """The log odds ratio at which the upper tail equals `tail`, solved on the log of the tail in blocks of rows."""

    def excess(log_odds: FloatArray, weight: FloatArray, observed: FloatArray, share: FloatArray) -> FloatArray:
        p = upper_tail(log_odds, weight, observed, share)
        return np.log(np.maximum(p, 1e-300)) - np.log(tail)

    out = np.full(dist.low.size, np.nan)
    size = max(1, _BLOCK // dist.log_weight.shape[1])
    order = np.argsort(dist.last, kind="stable")
    for start in range(0, order.size, size):
        rows = order[start : start + size]
        width = int(dist.last[rows].max()) + 1
        edge = np.full(rows.size, _LOG_EDGE)
        out[rows] = find_root(excess, -edge, edge, dist.log_weight[rows, :width], dist.observed[rows], share[rows])
    return out


def _mirror(dist: Conditional) -> Conditional:
    """The distribution of the largest value minus X, so that upper limits reuse the lower one."""
    t = dist.last.astype(int)[:, None] - np.arange(dist.log_weight.shape[1])
    weight = np.where(t >= 0, np.take_along_axis(dist.log_weight, np.maximum(t, 0), axis=1), -np.inf)
    return Conditional(weight, np.zeros_like(dist.low), dist.last - dist.observed, dist.last)


def odds_ratio_estimate(dist: Conditional) -> FloatArray:
    """Conditional maximum likelihood odds ratio: E(X; w) = observed; 0 or inf at the ends, NaN on one point."""

    def excess(log_odds: FloatArray, weight: FloatArray, observed: FloatArray) -> FloatArray:
        p = probabilities(weight, log_odds)
        return p @ np.arange(p.shape[1]) - observed

    edge = np.full(dist.low.size, _LOG_EDGE)
    estimate = np.exp(find_root(excess, -edge, edge, dist.log_weight, dist.observed))
    estimate = np.where(dist.observed == 0, 0.0, np.where(dist.observed == dist.last, np.inf, estimate))
    return np.where(dist.last == 0, np.nan, estimate)


def fisher_p(dist: Conditional, side: str = "two", mid_p: bool = False) -> FloatArray:
    """Fisher's p value. side: two (sum of the tables no more probable, as R and SAS), central (twice the smaller tail,
    at most 1), less, greater. mid_p counts the observed table (and, for two, its ties) half.
    """
    p = probabilities(dist.log_weight, np.zeros(dist.low.size))
    at = np.take_along_axis(p, dist.observed.astype(int)[:, None], axis=1)
    share = 0.5 if mid_p else 1.0
    if side == "two":
        tied = (p <= at * _TIE) & (p >= at / _TIE)
        value = np.sum(np.where(p < at / _TIE, p, 0.0), axis=1) + share * np.sum(np.where(tied, p, 0.0), axis=1)
        return np.minimum(value, 1.0)
    t = np.arange(p.shape[1])
    greater = np.sum(np.where(t > dist.observed[:, None], p, 0.0), axis=1) + share * at[:, 0]
    less = np.sum(np.where(t < dist.observed[:, None], p, 0.0), axis=1) + share * at[:, 0]
    if side == "central":
        return np.minimum(1.0, 2 * np.minimum(greater, less))
    return np.minimum(greater if side == "greater" else less, 1.0)


def _log_choose(n: FloatArray, k: FloatArray) -> FloatArray:
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
