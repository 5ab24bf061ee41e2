"""Step curves on an axis: values and limits at any time, intervals at chosen times, round tick times."""

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


def nice_times(end: float, about: int = 6) -> list[float]:
    """About `about` round times from 0 to `end`; multiples of 7 where the end is a number of weeks.

    Examples
    --------
    >>> nice_times(84), nice_times(0.9)
    ([0.0, 14.0, 28.0, 42.0, 56.0, 70.0, 84.0], [0.0, 0.2, 0.4, 0.6, 0.8])
    """
    if end <= 0:
        return [0.0]
    power = 10.0 ** np.floor(np.log10(end / about))
    choices = [m * power for m in (1.0, 2.0, 2.5, 5.0, 10.0)]
    if end >= 28 and abs(end / 7 - round(end / 7)) < 1e-9:
        choices = [7.0, 14.0, 28.0, 56.0, 84.0, 168.0, 336.0] if end < 2000 else choices
    step = min(choices, key=lambda c: abs(end / c - about))
    return [float(round(step * k, 10)) for k in range(int(end / step + 1e-9) + 1)]
