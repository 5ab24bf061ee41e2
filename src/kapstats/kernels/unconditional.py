"""Exact unconditional inference for one 2 x 2 table: Barnard, Boschloo, Chan-Zhang.

x1 of n1 and x2 of n2. The p value is the largest probability, over the nuisance parameter, of the tables at least as
extreme as the observed one; tables whose statistics differ by rounding only count as tied.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln, xlogy

from kapstats.kernels import score_intervals as score
from kapstats.kernels import two_proportions
from kapstats.kernels.roots import find_root

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_TIE = 1e-9
_GRID = 256


def barnard_p(x1: int, n1: int, x2: int, n2: int, side: str = "two") -> float:
    """Barnard's test with the pooled z statistic as order; side: two, less, greater."""
    i, j = _tables(n1, n2)
    z = two_proportions.pearson_z(i, np.full_like(i, n1), j, np.full_like(j, n2))
    return _common_p(_as_extreme(z, x1, x2, side), n1, n2)


def boschloo_p(x1: int, n1: int, x2: int, n2: int, side: str = "two") -> float:
    """Boschloo's test: Fisher's p value (two-sided: minimum likelihood) as order."""
    fisher = _fisher_table(n1, n2, side)
    return _common_p(fisher <= fisher[x1, x2] * (1 + 1e-7), n1, n2)


def _tables(n1: int, n2: int) -> tuple[FloatArray, FloatArray]:
    """Counts (n1+1, n2+1) of every possible table."""
    i, j = np.meshgrid(np.arange(n1 + 1.0), np.arange(n2 + 1.0), indexing="ij")
    return i, j


def _as_extreme(z: FloatArray, x1: int, x2: int, side: str) -> BoolArray:
    signed = {"greater": z, "less": -z}.get(side, np.abs(z))
    return np.asarray(signed >= signed[x1, x2] - _TIE * max(1.0, abs(float(signed[x1, x2]))))


def _hypergeometric(n1: int, n2: int) -> FloatArray:
    """(n1+1, n2+1) probability of the table (i, j) given its total i + j."""
    i, j = _tables(n1, n2)
    weight = _log_choose(n1, i) + _log_choose(n2, j) - _log_choose(n1 + n2, i + j)
    return np.exp(weight)


def _fisher_table(n1: int, n2: int, side: str) -> FloatArray:
    """(n1+1, n2+1) Fisher p values; the tables of one total lie on an anti-diagonal, here laid out as rows."""
    total = np.arange(n1 + n2 + 1)[:, None]
    i = np.arange(n1 + 1)[None, :]
    inside = (total - i >= 0) & (total - i <= n2)
    j = np.clip(total - i, 0, n2)
    p = np.where(inside, _hypergeometric(n1, n2)[i, j], 0.0)
    if side == "two":
        order = np.argsort(p, axis=1, kind="stable")
        sorted_p = np.take_along_axis(p, order, axis=1)
        running = np.cumsum(sorted_p, axis=1)
        last = _last_tie(sorted_p)
        value = np.empty_like(p)
        np.put_along_axis(value, order, np.take_along_axis(running, last, axis=1), axis=1)
    elif side == "greater":
        value = np.cumsum(p[:, ::-1], axis=1)[:, ::-1]
    else:
        value = np.cumsum(p, axis=1)
    out = np.empty((n1 + 1, n2 + 1))
    rows, columns = np.nonzero(inside)
    out[columns, rows - columns] = np.minimum(value[inside], 1.0)
    return out


def _last_tie(p: FloatArray) -> npt.NDArray[np.int64]:
    """Per row of ascending p, the last position whose value is tied with each position (chains of near-equal steps)."""
    step = np.ones(p.shape, dtype=bool)
    step[:, :-1] = p[:, 1:] > p[:, :-1] * (1 + 1e-7)
    position = np.where(step, np.arange(p.shape[1]), p.shape[1])
    return np.asarray(np.minimum.accumulate(position[:, ::-1], axis=1)[:, ::-1], dtype=np.int64)


def _common_p(region: BoolArray, n1: int, n2: int) -> float:
    """sup over a common p of P(region): a sum over totals m of P(region | m), free of p, times Binomial(N, m; p)."""
    i, j = np.nonzero(region)
    share = np.bincount(i + j, weights=_hypergeometric(n1, n2)[i, j], minlength=n1 + n2 + 1)
    total = np.arange(n1 + n2 + 1.0)

    def probability(p: FloatArray) -> FloatArray:
        return _binomial(n1 + n2, total, p) @ share

    return min(_supremum(probability, 0.0, 1.0), 1.0)


def _binomial(n: int, k: FloatArray, p: FloatArray) -> FloatArray:
    """(len(p), len(k)) binomial probabilities."""
    p = p[:, None]
    return np.exp(_log_choose(n, k) + xlogy(k, p) + xlogy(n - k, 1 - p))


def _supremum(function: Callable[[FloatArray], FloatArray], low: float, high: float) -> float:
    """Largest value of a smooth function on [low, high]: a grid fine at the ends, then a zoom on the best points."""
    grid = low + (high - low) * (1 - np.cos(np.linspace(0, np.pi, _GRID))) / 2
    value = function(grid)
    peaks = np.flatnonzero((value >= np.r_[-1.0, value[:-1]]) & (value >= np.r_[value[1:], -1.0]))
    best = float(value.max())
    for peak in peaks[np.argsort(value[peaks])[-3:]]:
        left, right = grid[max(peak - 1, 0)], grid[min(peak + 1, _GRID - 1)]
        for _ in range(4):
            fine = np.linspace(left, right, 17)
            level = function(fine)
            at = int(np.argmax(level))
            left, right = fine[max(at - 1, 0)], fine[min(at + 1, 16)]
            best = max(best, float(level[at]))
    return best


def chan_zhang_p(d: float, x1: int, n1: int, x2: int, n2: int, side: str) -> float:
    """Exact p value of p1 - p2 <= d (side greater) or >= d (side less), ordered by the score statistic for d."""
    return _shifted_p(_score_region(d, x1, n1, x2, n2, side), d)


def chan_zhang_limits(x1: int, n1: int, x2: int, n2: int, tail: float) -> tuple[float, float]:
    """Limits of p1 - p2 by two one-sided tests (Chan & Zhang 1999): the outermost values not rejected at `tail`."""
    return _outermost(x1, n1, x2, n2, tail), -_outermost(x2, n2, x1, n1, tail)


def santner_snell_p(d: float, x1: int, n1: int, x2: int, n2: int, side: str) -> float:
    """Exact p value of p1 - p2 <= d (side greater) or >= d (side less), ordered by the observed difference."""
    i, j = _tables(n1, n2)
    return _shifted_p(_as_extreme(i / n1 - j / n2, x1, x2, side), d)


def santner_snell_limits(x1: int, n1: int, x2: int, n2: int, tail: float) -> tuple[float, float]:
    """Limits of p1 - p2 by two one-sided tests of the difference itself (Santner & Snell 1980).

    The region does not move with d, so its probability grows with d and one bisection finds the limit.
    """
    return _first_kept(x1, n1, x2, n2, tail), -_first_kept(x2, n2, x1, n1, tail)


def _first_kept(x1: int, n1: int, x2: int, n2: int, tail: float) -> float:
    def kept(d: float) -> bool:
        return santner_snell_p(d, x1, n1, x2, n2, "greater") > tail

    return -1.0 if kept(-1.0) else _bisect(kept, -1.0, 1.0, 1e-10)[1]


def _score_region(d: float, x1: int, n1: int, x2: int, n2: int, side: str = "greater") -> BoolArray:
    """The tables at least as extreme as the observed one."""
    i, j = _tables(n1, n2)
    return _as_extreme(_score_z(np.full_like(i, d), i, n1, j, n2), x1, x2, side)


def _score_z(d: FloatArray, i: FloatArray, n1: int, j: FloatArray, n2: int) -> FloatArray:
    one = np.ones_like(i)
    return score.standardise(*score.difference_score(d, i, n1 * one, j, n2 * one, one))


def _shifted_p(region: BoolArray, d: float) -> float:
    """sup over p2 of P(region) with p1 = p2 + d."""
    n1, n2 = region.shape[0] - 1, region.shape[1] - 1
    k1, k2, weight = np.arange(n1 + 1.0), np.arange(n2 + 1.0), region.astype(float)

    def probability(p2: FloatArray) -> FloatArray:
        first = _binomial(n1, k1, np.clip(p2 + d, 0.0, 1.0))
        return np.asarray(np.einsum("gj,gj->g", first @ weight, _binomial(n2, k2, p2)))

    return min(_supremum(probability, max(0.0, -d), min(1.0, 1 - d)), 1.0)


def _outermost(x1: int, n1: int, x2: int, n2: int, tail: float) -> float:
    """inf{d : p(d) > tail} for the alternative "greater".

    p(d) grows between the values of d at which a table leaves the region, where it drops. A bisection finds one
    crossing; the rest of the axis is then searched for an earlier one, skipping every stretch on which even the union
    of the regions at its two ends is too improbable.
    """
    table = (x1, n1, x2, n2)
    estimate = x1 / n1 - x2 / n2

    def kept(d: float) -> bool:
        return chan_zhang_p(d, *table, "greater") > tail

    edge = -1.0 + 1e-12
    if estimate <= edge or kept(edge):
        return -1.0
    outside, inside = _bisect(kept, edge, estimate, 1e-4)
    stack = list(itertools.pairwise(np.linspace(edge, outside, 17)))[::-1]
    while stack:
        a, b = stack.pop()
        ra, rb = _score_region(a, *table), _score_region(b, *table)
        if _shifted_p(ra | rb, b) <= tail:
            continue
        if np.sum(ra & ~rb) > 4 and b - a > 1e-4:
            stack += [((a + b) / 2, b), (a, (a + b) / 2)]
            continue
        for leaving in [*_crossings(ra & ~rb, a, b, *table), b]:
            if kept(leaving):
                return _bisect(kept, a, leaving, 1e-10)[1]
    return _bisect(kept, outside, inside, 1e-10)[1]


def _crossings(leaving: BoolArray, a: float, b: float, x1: int, n1: int, x2: int, n2: int) -> list[float]:
    """Just before each d in (a, b) at which a table of `leaving` becomes less extreme than the observed one."""
    i, j = (k.astype(float) for k in np.nonzero(leaving))
    if not i.size:
        return []

    def gap(d: FloatArray, i: FloatArray, j: FloatArray) -> FloatArray:
        return _score_z(d, i, n1, j, n2) - _score_z(d, np.full_like(i, x1), n1, np.full_like(j, x2), n2)

    at = find_root(gap, np.full_like(i, a), np.full_like(i, b), i, j)
    return [max(a, float(d) - 1e-10) for d in np.unique(at)]


def _bisect(kept: Callable[[float], bool], outside: float, inside: float, width: float) -> tuple[float, float]:
    while inside - outside > width:
        middle = (outside + inside) / 2
        outside, inside = (outside, middle) if kept(middle) else (middle, inside)
    return outside, inside


def _log_choose(n: float, k: FloatArray) -> FloatArray:
    return np.asarray(gammaln(n + 1.0) - gammaln(k + 1) - gammaln(n - k + 1))
