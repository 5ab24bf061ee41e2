"""Step curves on an axis: lines and bands, intervals at chosen times, round tick times, the label of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from kapstats._types import FloatArray
from kapstats.estimates import Curve
from kapstats.report.figures.style import Mark


@dataclass(frozen=True, slots=True)
class Step:
    """A step curve with its limits."""

    value: Curve
    low: Curve
    high: Curve

    def limits(self, times: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Limits at `times`, (k,) each."""
        return self.low(times), self.high(times)


def step_of(rows: pd.DataFrame, before: float) -> Step:
    """The curve in ``time estimate conf_low conf_high`` that starts at `before`; limits that are not there are NaN."""
    time = rows["time"].to_numpy(dtype=float)
    nothing = pd.Series(np.nan, index=rows.index)
    columns = (rows.get(c, nothing).to_numpy(dtype=float) for c in ("estimate", "conf_low", "conf_high"))
    return Step(*(Curve(time, values, before) for values in columns))


def stairs(ax: Any, step: Step, look: Mark, *, band: bool) -> None:
    """The curve from its value before time 0 on, with its band: every level reaches to the next time."""
    start, line = step.value.before, step.value
    xs, ys = np.concatenate([[0.0], line.time]), np.concatenate([[start], line.value])
    ax.plot(xs, ys, drawstyle="steps-post", color=look.colour, ls=look.dashes, lw=1.7)
    if band:
        ax.fill_between(*_corners(step.low), _corners(step.high)[1], color=look.colour, alpha=0.14, lw=0)


def _corners(curve: Curve) -> tuple[FloatArray, FloatArray]:
    """The corners of a step curve, written out: a limit that ends in NaN is filled up to where it ends."""
    times = np.concatenate([[0.0], curve.time])
    values = np.concatenate([[curve.before], curve.value])
    return np.repeat(times, 2)[1:], np.repeat(values, 2)[:-1]


def bars(ax: Any, steps: dict[Any, Step], times: Sequence[float], looks: dict[Any, Mark], end: float) -> None:
    """Confidence intervals of every curve at `times`, side by side: many bands on top of each other say nothing."""
    shift = end * 0.011
    for k, (group, step) in enumerate(steps.items()):
        inside = np.array([t for t in times if t <= step.value.time[-1]], dtype=float)
        y, (low, high) = step.value(inside), step.limits(inside)
        xs = inside + shift * (k - (len(steps) - 1) / 2)
        look = looks[group]
        ax.vlines(xs, low, high, color=look.colour, lw=1.0, alpha=0.8)
        ax.plot(xs, y, ls="", marker=look.marker, ms=4, color=look.colour)


#: steps between ticks that people count in, by the unit of time; beyond the last, round numbers
COUNTED = {"day": (7.0, 14.0, 28.0, 56.0, 84.0, 168.0, 336.0), "month": (3.0, 6.0, 12.0, 24.0, 60.0)}


def time_label(unit: str) -> str:
    """The label of a time axis; the unit where it was stated.

    Examples
    --------
    >>> time_label("days"), time_label("")
    ('Time (days)', 'Time')
    """
    return f"Time ({unit})" if unit else "Time"


def nice_times(end: float, about: int = 6, unit: str = "") -> list[float]:
    """About `about` round times from 0 to `end`; days are counted in weeks where `end` is a number of weeks, months
    in quarters and years.

    Examples
    --------
    >>> nice_times(84, unit="days"), nice_times(84), nice_times(36, unit="months")
    ([0.0, 14.0, 28.0, 42.0, 56.0, 70.0, 84.0], [0.0, 20.0, 40.0, 60.0, 80.0], [0.0, 6.0, 12.0, 18.0, 24.0, 30.0, 36.0])
    """
    if end <= 0:
        return [0.0]
    power = 10.0 ** np.floor(np.log10(end / about))
    choices: Sequence[float] = [m * power for m in (1.0, 2.0, 2.5, 5.0, 10.0)]
    counted = COUNTED.get(unit.lower().removesuffix("s"), ())
    if counted and 4 * counted[0] <= end < 6 * counted[-1] and (end / counted[0]) % 1 < 1e-9:
        choices = counted
    step = min(choices, key=lambda c: abs(end / c - about))
    return [float(round(step * k, 10)) for k in range(int(end / step + 1e-9) + 1)]
