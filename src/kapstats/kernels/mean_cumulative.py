"""Mean cumulative function of recurrent events with the robust (Lawless-Nadeau) variance, by cumulative sums.

M(t) = sum over event times of d(u)/Y(u). Subject i has influence U_i(t) = sum (dN_i - Y_i dM)/Y; the variance is
sum_i U_i(t)^2. While a row of the subject is at risk U_i(t) = a - L(t) with a fixed and L = sum d/Y^2, else it is
fixed: so the sum of squares is a few cumulative sums over rows, no subjects x times array.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Codes = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class MeanCumulative:
    """time (T,) of events and ends of follow-up, n_risk (T,), n_event (T,), mean (T,), std_error (T,)."""

    time: Array
    n_risk: Array
    n_event: Array
    mean: Array
    std_error: Array


def mean_cumulative(
    start: Array, stop: Array, event: npt.NDArray[np.bool_], subject: Codes, weights: Array | None = None
) -> MeanCumulative:
    """From rows (`start`, `stop`], `event` at stop and `subject` codes, all (n,); a subject's rows do not overlap."""
    order = np.lexsort((stop, start, subject))
    start, stop, event, subject = start[order], stop[order], event[order], subject[order]
    w = np.ones(start.size) if weights is None else weights[order]
    grid, at = np.unique(stop, return_inverse=True)
    first = np.searchsorted(grid, start, side="right")
    size = grid.size

    def running(positions: Codes, values: Array) -> Array:
        return np.cumsum(np.bincount(positions, values, size + 1))[:size]

    entered, left = running(first, w), np.concatenate([[0.0], running(at, w)[:-1]])
    Y = np.maximum(entered - left, 0.0)
    d = np.bincount(at, w * event, size)
    safe = np.where(Y > 0, Y, 1.0)
    L = np.concatenate([[0.0], np.cumsum(d / safe**2)])
    gain = L[first] - L[at + 1] + np.where(event, 1.0 / safe[at], 0.0)
    total = np.cumsum(gain)
    new = np.concatenate([[True], subject[1:] != subject[:-1]])
    base = np.repeat((total - gain)[new], np.diff(np.append(np.flatnonzero(new), start.size)))
    after = total - base
    active = after - gain + L[first]
    until = np.where(np.append(new[1:], True), size, np.append(first[1:], size))
    w2 = w**2

    def open_sum(values: Array) -> Array:
        return running(first, values) - running(at, values)

    fixed = running(at, w2 * after**2) - running(np.maximum(until, at), w2 * after**2)
    now = L[1:]
    variance = fixed + open_sum(w2 * active**2) - 2.0 * now * open_sum(w2 * active) + now**2 * open_sum(w2)
    return MeanCumulative(grid, Y, d, np.cumsum(d / safe), np.sqrt(np.maximum(variance, 0.0)))
