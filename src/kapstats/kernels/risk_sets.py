"""Sorted, nested risk sets: the layout that every estimator of right-censored and (start, stop] data shares.

Rows are sorted once by stratum and time. A *grid point* is a distinct time within a stratum (event times only, or all
times). A row is at risk at the grid points ``first <= k < last``; its own time is grid point ``last - 1`` when that
time is on the grid. The sum over every risk set is then one bincount and one reversed cumulative sum.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

#: times closer than this (absolutely, or relative to the mean distinct time) are the same time, as in R survival
TIE_TOLERANCE = float(np.sqrt(np.finfo(float).eps))
#: from this many rows on, rows of equal time may change places in the sort: a third of the cost
QUICK_SORT_FROM = 50_000

#: from this many strata on, sums within strata are made in steps of 1, 2, 4, ... points for all strata at once
MANY_STRATA = 64


@dataclass(frozen=True, slots=True)
class RiskSets:
    """Grid (K points) and rows (n, sorted by stratum then time).

    order (n,) positions of the sorted rows in the input; event (n,); first, last (n,) grid range at risk;
    time, stratum (K,); start (S + 1,) grid range of each stratum; delayed: True when some row enters late;
    leave, enter (n,): `last` and `first` with 0 for rows that are never at risk, and for rows that do not enter late.
    """

    order: IntArray
    event: BoolArray
    first: IntArray
    last: IntArray
    time: FloatArray
    stratum: IntArray
    start: IntArray
    delayed: bool
    leave: IntArray
    enter: IntArray

    @property
    def size(self) -> int:
        return len(self.time)

    def at_risk(self, values: FloatArray | None = None) -> FloatArray:
        """Sum of `values` (n,) or (n, p), sorted rows, over every risk set: (K,) or (K, p); None counts rows."""
        if values is not None and values.ndim == 2:
            return np.stack([self.at_risk(values[:, j]) for j in range(values.shape[1])], axis=1)
        left = np.bincount(self.leave, values, self.size + 1).astype(float, copy=False)
        if self.delayed:
            left -= np.bincount(self.enter, values, self.size + 1)
        return within_strata(left[:0:-1], self.size - self.start[::-1])[::-1]

    def at_event(self, values: FloatArray | None = None) -> FloatArray:
        """Sum of `values` (m,) or (m, p), given for the event rows only, at every grid point."""
        at = self.last[self.event] - 1
        if values is not None and values.ndim == 2:
            return np.stack([np.bincount(at, values[:, j], self.size) for j in range(values.shape[1])], axis=1)
        return np.bincount(at, values, self.size).astype(float)

    def over_follow_up(self, increments: FloatArray) -> FloatArray:
        """For every sorted row the sum of `increments` (K,) or (K, p) over the grid points where it is at risk."""
        total = np.zeros((len(increments) + 1, *increments.shape[1:]))
        total[1:] = within_strata(increments, self.start)
        return total[self.leave] - total[self.enter] if self.delayed else total[self.leave]

    def unsort(self, values: FloatArray) -> FloatArray:
        """Values of sorted rows, put back into the order of the input."""
        out = np.empty_like(values)
        out[self.order] = values
        return out


def within_strata(values: FloatArray, start: IntArray) -> FloatArray:
    """Running sums of `values` (K, ...) that begin anew at every `start` (S + 1,)."""
    length = np.diff(start)
    if len(length) == 1:
        return np.cumsum(values, axis=0)
    if len(length) <= MANY_STRATA:
        out = np.empty(values.shape)
        for a, b in itertools.pairwise(start):
            np.cumsum(values[a:b], axis=0, out=out[a:b])
        return out
    out = np.array(values, dtype=float)
    behind = np.arange(len(values)) - np.repeat(start[:-1], length)  # points of the stratum before this one
    step = 1
    while step <= behind.max(initial=0):
        at = np.flatnonzero(behind >= step)
        out[at] += out[at - step]
        step *= 2
    return out


def merge_close(*times: FloatArray, tolerance: float = TIE_TOLERANCE) -> tuple[FloatArray, ...]:
    """The same times with values nearer than `tolerance` made equal to the smallest of their cluster."""
    pool = np.concatenate(times)
    distinct = np.unique(pool[np.isfinite(pool)])
    step = np.diff(distinct)
    close = (step <= tolerance) | (step <= tolerance * np.mean(np.abs(distinct))) if len(step) else np.zeros(0, bool)
    if not close.any():
        return times
    kept = distinct[np.concatenate([[True], ~close])]
    return tuple(
        np.where(np.isfinite(t), kept[np.maximum(np.searchsorted(kept, t, side="right") - 1, 0)], t) for t in times
    )


def snap(times: FloatArray, grid: FloatArray, tolerance: float = TIE_TOLERANCE) -> FloatArray:
    """The same times, with those that differ from a value of `grid` by rounding only put on it (as `merge_close`)."""
    known = np.unique(grid[np.isfinite(grid)])
    if not len(known):
        return times
    above = np.clip(np.searchsorted(known, times), 1, max(len(known) - 1, 1))
    low, high = known[above - 1], known[np.minimum(above, len(known) - 1)]
    nearest = np.where(np.abs(times - low) <= np.abs(high - times), low, high)
    width = tolerance * max(1.0, float(np.mean(np.abs(known))))
    return np.where(np.abs(times - nearest) <= width, nearest, times)


def number_at_risk(
    at: FloatArray, time: FloatArray, entry: FloatArray | None = None, weights: FloatArray | None = None
) -> FloatArray:
    """Rows (or their weights) with entry < t <= time at every t of `at`; at t = 0, where the clock starts, also those
    who enter at 0. Without `entry` every row is there from the start.
    """
    w = np.ones(len(time)) if weights is None else weights
    if entry is None:
        return np.array([w[time >= t].sum() for t in at])
    starts_at_0 = len(entry) > 0 and float(entry.min()) == 0.0
    return np.array([w[((entry < t) | ((entry == t) & (starts_at_0 and t == 0.0))) & (time >= t)].sum() for t in at])


def risk_sets(
    time: FloatArray,
    event: BoolArray,
    entry: FloatArray | None = None,
    strata: IntArray | None = None,
    n_strata: int | None = None,
    every: bool = False,
) -> RiskSets:
    """Risk sets of (entry, time] rows within strata; ``every=True`` puts censoring times on the grid too.

    time, entry (n,), event (n,) bool, strata (n,) codes 0..S-1. A row is at risk at t when entry < t <= time.
    """
    n_strata = n_strata if n_strata is not None else (1 if strata is None else int(strata.max(initial=0)) + 1)
    one = n_strata == 1 or strata is None
    if not one and strata is not None:
        order = np.lexsort((time, strata))
    elif len(time) < QUICK_SORT_FROM:
        order = np.argsort(time, kind="stable")
    else:
        order = np.argsort(time)
    sorted_time, sorted_event = time[order], event[order]
    code = np.zeros(len(time), np.int64) if one or strata is None else strata[order].astype(np.int64)
    first_of_block = np.ones(len(time), bool)
    if one:
        first_of_block[1:] = sorted_time[1:] != sorted_time[:-1]
    else:
        first_of_block[1:] = (sorted_time[1:] != sorted_time[:-1]) | (code[1:] != code[:-1])
    block = np.cumsum(first_of_block) - 1
    n_blocks = int(block[-1]) + 1 if len(block) else 0
    on_grid = np.ones(n_blocks, bool) if every else np.bincount(block[sorted_event], minlength=n_blocks) > 0
    heads = np.flatnonzero(first_of_block)[on_grid]
    grid_time, grid_stratum = sorted_time[heads], code[heads]
    start = np.searchsorted(grid_stratum, np.arange(n_strata + 1))
    last = np.cumsum(on_grid)[block] if n_blocks else block
    first = start[code]
    delayed = entry is not None and bool(np.any(entry > -np.inf)) and len(grid_time) > 0
    if delayed and entry is not None:
        first = _entered(entry[order], code, grid_time, start, n_strata)
        delayed = bool(np.any(first > start[code]))
    leave, enter = (last, first) if n_strata == 1 and not delayed else _ends(first, last, start, grid_stratum)
    return RiskSets(order, sorted_event, first, last, grid_time, grid_stratum, start, delayed, leave, enter)


def _ends(first: IntArray, last: IntArray, start: IntArray, stratum: IntArray) -> tuple[IntArray, IntArray]:
    """Where the sums of risk sets lose and gain each row; strata do not mix, so that small ones keep their digits."""
    ever = first < last
    late = np.zeros(len(first), bool)
    late[ever] = first[ever] > start[stratum[first[ever]]]
    return np.where(ever, last, 0), np.where(late, first, 0)


def _entered(entry: FloatArray, code: IntArray, grid: FloatArray, start: IntArray, n_strata: int) -> IntArray:
    """First grid point after each entry time, within the row's stratum."""
    if n_strata == 1:
        return np.searchsorted(grid, entry, side="right")
    distinct, rank = np.unique(np.concatenate([grid, entry]), return_inverse=True)
    stride = len(distinct)
    grid_code = np.repeat(np.arange(n_strata), np.diff(start))
    key = grid_code * stride + rank[: len(grid)]
    return np.searchsorted(key, code * stride + rank[len(grid) :], side="right")
