"""Who is followed from when to when, by stratum: numbers at risk at any time, and the time at which a curve ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kapstats._types import BoolArray, FloatArray, IntArray
from kapstats.errors import FormulaError
from kapstats.inference.follow_up import E, within_follow_up
from kapstats.kernels.risk_sets import number_at_risk, snap
from kapstats.relapse.surv_data import Groups, SurvData, checked_times


@dataclass(frozen=True, slots=True)
class FollowUp:
    """Entry, end and weight of every row, and its stratum.

    time, codes : (n,); entry, weights : (n,) or None; names, keys : ``arm=KAP`` and ``KAP`` for each stratum
    ended : (strata,) True where the curve has come to its end (everyone had the event) and is known for ever
    """

    time: FloatArray
    entry: FloatArray | None
    weights: FloatArray | None
    codes: IntArray
    names: tuple[str, ...]
    keys: tuple[str, ...]
    ended: BoolArray

    @classmethod
    def of(cls, surv: SurvData, groups: Groups, keep: Any = slice(None)) -> FollowUp:
        """The rows of `surv` in the strata of `groups`; of interval data the end is the last finite bound."""
        time = surv.time
        if surv.left is not None and surv.right is not None:
            time = np.where(np.isfinite(surv.right), surv.right, surv.left)
        entry, weights = (None if v is None else v[keep] for v in (surv.entry, surv.weights))
        columns = groups.frame.astype(str)
        keys = tuple(columns.agg(", ".join, axis=1)) if len(columns.columns) else ("All",)
        return cls(time[keep], entry, weights, groups.codes[keep], groups.labels, keys, np.zeros(len(groups), bool))

    def ending(self, ended: Sequence[bool]) -> FollowUp:
        """The same with the strata whose curve has come to its end."""
        return replace(self, ended=np.asarray(ended, bool))

    @property
    def last(self) -> FloatArray:
        """(strata,) last time at which the curve is known; infinite where it has come to its end."""
        seen = [float(self.time[self.codes == g].max(initial=-np.inf)) for g in range(len(self.names))]
        return np.where(self.ended, np.inf, seen)

    def asked(self, times: float | Sequence[float]) -> FloatArray:
        """Times asked for, checked and sorted; those that differ from a time of the data by rounding are that time."""
        known = self.time if self.entry is None else np.concatenate([self.time, self.entry])
        return snap(np.sort(checked_times(times)), known)

    def horizon(self, tau: float) -> float:
        """`tau` when it is a positive time; on a time of the data when it differs by rounding."""
        if isinstance(tau, bool) or not isinstance(tau, (int, float, np.number)) or not 0 < tau < np.inf:
            raise FormulaError(f"tau={tau!r}: the horizon is a positive time in the unit of the data.")
        return float(self.asked(float(tau))[0])

    def at_risk(self, times: FloatArray) -> FloatArray:
        """(strata, times) numbers at risk, counted from the entries: entry < t <= time."""
        found = []
        for g in range(len(self.names)):
            own = self.codes == g
            entry, weights = (None if v is None else v[own] for v in (self.entry, self.weights))
            found.append(number_at_risk(times, self.time[own], entry, weights))
        return np.array(found).reshape(len(self.names), len(times))

    def below(self, times: Sequence[float]) -> dict[str, list[int]]:
        """Numbers at risk as a figure prints them below its axis, by the label that a figure gives the stratum."""
        return {key: [int(n) for n in row] for key, row in zip(self.keys, self.at_risk(self.asked(times)), strict=True)}

    def within(self, found: E, strata: IntArray, *, extend: bool, column: str = "time") -> E:
        """`found` with nothing past the end of follow-up; `strata` (rows,) says which stratum a row speaks of."""
        names = np.array(self.names, dtype=object)[strata]
        return within_follow_up(found, self.last[strata], names, extend=extend, column=column)


def each(strata: int, rows: int) -> IntArray:
    """The stratum of every row of a table that gives each stratum `rows` rows, one stratum after the other."""
    return np.repeat(np.arange(strata, dtype=np.int64), rows)
