"""Event and censoring times of one group whose Kaplan-Meier curve is a printed one.

Symbols: clicks (t, s), (K,) each, t rising, s falling from 1; numbers at risk (J,) at risk_time (J,), the first at 0;
d (K,) events at the clicks, c (J,) censored within the intervals of the at-risk table, evenly spread.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from kapstats._types import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Patients:
    """Event times and censoring times of one group, and the largest gap between its curve and the clicks."""

    events: FloatArray
    censored: FloatArray
    largest_gap: float
    root_mean_square: float


def patients(t: FloatArray, s: FloatArray, risk_time: FloatArray, risk: IntArray, total_events: int | None) -> Patients:
    """Patients of one group from clicks (K,) and the at-risk table (J,).

    The state between intervals is (number at risk, curve so far); `_interval` moves it over the clicks of one interval.
    """
    ends = np.append(risk_time[1:], np.inf)
    state = (int(risk[0]), 1.0)
    events: list[tuple[FloatArray, IntArray]] = []
    censored: list[FloatArray] = []
    for j, (begin, end) in enumerate(zip(risk_time, ends, strict=True)):
        inside = (t >= begin) & (t < end)
        last = j == len(risk_time) - 1
        finish = max(float(t[-1]), float(begin)) if last else float(end)
        if last:
            done = int(sum(d.sum() for _, d in events))
            wanted = None if total_events is None else total_events - done
            c = _last_censored(t[inside], s[inside], state, begin, finish, wanted, censored, risk_time)
        else:
            c = _meeting(t[inside], s[inside], state, begin, finish, int(risk[j + 1]))
        state, d, _ = _interval(t[inside], s[inside], state, begin, finish, c)
        events.append((t[inside], d))
        censored.append(_spread(begin, finish, c))
    rest = np.full(max(0, state[0]), max(float(t[-1]), float(risk_time[-1])))
    event_times = np.concatenate([np.repeat(times, d) for times, d in events])
    cens = np.concatenate([*censored, rest])
    gap = _curve(event_times, cens, t) - s
    return Patients(event_times, cens, float(np.abs(gap).max()), float(np.sqrt((gap**2).mean())))


def _spread(begin: float, end: float, c: int) -> FloatArray:
    return begin + (end - begin) * np.arange(1, c + 1) / (c + 1)


def _interval(
    t: FloatArray, s: FloatArray, state: tuple[int, float], begin: float, end: float, c: int
) -> tuple[tuple[int, float], IntArray, float]:
    """State at the end, events at each click and squared distance from the clicks, with c censored evenly."""
    n, drawn = state
    gone = np.searchsorted(_spread(begin, end, c), t, side="left").tolist()
    events = np.zeros(len(t), dtype=np.int64)
    lost, distance = 0, 0.0
    for k, survival in enumerate(s.tolist()):
        at_risk = n - gone[k] - lost
        if at_risk <= 0 or drawn <= 0:
            continue
        d = min(max(math.floor(at_risk * (1 - survival / drawn) + 0.5), 0), at_risk)
        events[k] = d
        lost += d
        drawn *= 1 - d / at_risk
        distance += (drawn - survival) ** 2
    return (n - lost - c, drawn), events, distance


def _meeting(t: FloatArray, s: FloatArray, state: tuple[int, float], begin: float, end: float, target: int) -> int:
    """The number censored that leaves `target` at risk, or the nearest to it; of several the closest to the clicks."""
    misses = {}
    for c in range(max(0, state[0] - target) + 1):
        (left, _), _, distance = _interval(t, s, state, begin, end, c)
        misses[c] = (abs(left - target), distance)
    return min(misses, key=lambda c: misses[c])


def _last_censored(
    t: FloatArray,
    s: FloatArray,
    state: tuple[int, float],
    begin: float,
    end: float,
    wanted: int | None,
    before: list[FloatArray],
    risk_time: FloatArray,
) -> int:
    """Censored after the last number at risk: to meet the events stated, else at the rate until then."""
    most = state[0]
    if wanted is None:
        length = float(risk_time[-1] - risk_time[0])
        rate = sum(len(c) for c in before) / length if length > 0 else 0.0
        return int(min(round(rate * (end - begin)), most))
    misses = {}
    for c in range(most + 1):
        _, d, distance = _interval(t, s, state, begin, end, c)
        misses[c] = (abs(int(d.sum()) - wanted), distance)
    return min(misses, key=lambda c: misses[c])


def _curve(events: FloatArray, censored: FloatArray, at: FloatArray) -> FloatArray:
    """Kaplan-Meier survival of these patients at the times `at`."""
    times, d = np.unique(events, return_counts=True)
    everyone = np.sort(np.concatenate([events, censored]))
    n = len(everyone) - np.searchsorted(everyone, times, side="left")
    steps = np.concatenate([[1.0], np.cumprod(1 - d / n)])
    return steps[np.searchsorted(times, at, side="right")]


def least_squares(
    t: FloatArray, s: FloatArray, risk_time: FloatArray, risk: IntArray, total_events: int | None
) -> Patients:
    """The whole numbers d and c whose curve is nearest to the clicks in squares, the numbers at risk met exactly.

    From the solution of `patients`: one event at a time is moved to a neighbouring click, or (where the total is open)
    added or taken away against a censoring, as long as the sum of squares falls. A local minimum.
    """
    begun = patients(t, s, risk_time, risk, total_events)
    table = _Table(t, s, risk_time, risk, np.searchsorted(risk_time, t, side="right") - 1)
    x = table.start(begun)
    while total_events is not None and x[:-1].sum() != total_events:
        step = 1 if x[:-1].sum() < total_events else -1
        closer = table.nearest(x, [((k, step),) for k in range(len(t))])
        if closer is None:
            break
        x = closer[1]
    best = table.distance(x)
    for _ in range(20 * len(t)):
        found = table.nearest(x, table.moves(x, total_events is None))
        if found is None or found[0] >= best * (1 - 1e-12):
            break
        best, x = found
    return table.drawn(x)


Move = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class _Table:
    """Clicks and numbers at risk; `of` (K,) says in which interval a click lies.

    Sought is x (K + 1,): d, then how many of those censored after the last number at risk are so before the end.
    """

    t: FloatArray
    s: FloatArray
    risk_time: FloatArray
    risk: IntArray
    of: IntArray

    @property
    def finish(self) -> float:
        """When the curve ends."""
        return max(float(self.t[-1]), float(self.risk_time[-1]))

    def start(self, begun: Patients) -> IntArray:
        """x of a solution, events being taken away, the last first, where an interval has more than leave in it."""
        d = np.bincount(np.searchsorted(self.t, begun.events, side="left"), minlength=len(self.t)).astype(np.int64)
        for j in np.flatnonzero(self.censored(d) < 0):
            for k in np.flatnonzero(self.of == j)[::-1]:
                d[k] -= min(d[k], max(0, -int(self.censored(d)[j])))
        late = (begun.censored > self.risk_time[-1]) & (begun.censored < self.finish)
        return np.append(d, min(int(late.sum()), int(self.censored(d)[-1])))

    def censored(self, d: IntArray) -> IntArray:
        """c (J,) that meets the numbers at risk; negative where the events do not fit."""
        leaving = np.append(self.risk[:-1] - self.risk[1:], self.risk[-1])
        return leaving - np.bincount(self.of, weights=d, minlength=len(self.risk)).astype(np.int64)

    def times(self, x: IntArray) -> FloatArray:
        """Censoring times, in order: evenly within an interval; the rest of the last one at the end."""
        c, ends = self.censored(x[:-1]), np.append(self.risk_time[1:], self.finish)
        c, rest = np.append(c[:-1], x[-1]), int(c[-1] - x[-1])
        inside = [_spread(b, e, int(n)) for b, e, n in zip(self.risk_time, ends, c, strict=True)]
        return np.concatenate([*inside, np.full(rest, self.finish)])

    def distance(self, x: IntArray) -> float:
        """Sum of squared gaps to the clicks; infinite when the numbers do not fit."""
        d, c = x[:-1], self.censored(x[:-1])
        if (x < 0).any() or (c < 0).any() or x[-1] > c[-1]:
            return np.inf
        n = self.risk[0] - np.searchsorted(self.times(x), self.t, side="left") - (np.cumsum(d) - d)
        share = np.where(n > 0, d / np.maximum(n, 1), d > 0)
        return float(((np.cumprod(1 - np.minimum(share, 1.0)) - self.s) ** 2).sum())

    def nearest(self, x: IntArray, moves: list[Move]) -> tuple[float, IntArray] | None:
        """The best of the tables that are one move away."""
        found: tuple[float, IntArray] | None = None
        for move in moves:
            changed = x.copy()
            for k, step in move:
                changed[k] += step
            value = self.distance(changed)
            if np.isfinite(value) and (found is None or value < found[0]):
                found = value, changed
        return found

    def moves(self, x: IntArray, free: bool) -> list[Move]:
        """An event to a neighbouring click; with a free total, one more or less; one more or less censored early."""
        last = len(x) - 1
        there = [int(k) for k in np.flatnonzero(x[:-1] > 0)]
        found: list[Move] = [((k, -1), (m, 1)) for k in there for m in (k - 1, k + 1) if 0 <= m < last]
        found += [((last, 1),), ((last, -1),)]
        if free:
            found += [((k, step),) for k in range(last) for step in (1, -1)]
        return found

    def drawn(self, x: IntArray) -> Patients:
        """The patients of x."""
        events, cens = np.repeat(self.t, x[:-1]), self.times(x)
        gap = _curve(events, cens, self.t) - self.s
        return Patients(events, cens, float(np.abs(gap).max()), float(np.sqrt((gap**2).mean())))
