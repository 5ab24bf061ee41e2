"""Hazard over time with its confidence band, or intervals at some times where many curves are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from kapstats.report.figures import style
from kapstats.report.figures.kaplan_meier import followed, groups
from kapstats.report.figures.steps import bars, nice_times, step_of, time_label


@style.house
def hazard(
    frame: pd.DataFrame,
    *,
    strata: Sequence[str] = (),
    steps: bool = False,
    unit: str = "",
    ylabel: str = "Hazard",
    level: float = 0.95,
    ax: Any = None,
) -> Any:
    """Draw hazards.

    Parameters
    ----------
    frame : `strata`, ``time estimate``, where known ``conf_low conf_high``; a row is a point of the curve
    steps : the hazard is constant from each time to the next
    """
    frame = followed(frame)
    curves = groups(frame, strata)
    looks = style.marks(curves)
    ax = style.axes(ax, 6.4, 3.6)
    known = "conf_low" in frame and bool(frame["conf_low"].notna().any())
    end, top = float(frame["time"].max()), _top(frame, known and len(curves) < 4)
    ax.set_xlim(-0.01 * end, 1.01 * end)
    ax.set_ylim(-0.02 * top, top)
    for g, rows in curves.items():
        time, look = rows["time"].to_numpy(float), looks[g]
        ax.plot(time, rows["estimate"], color=look.colour, ls=look.dashes, lw=1.7,
                drawstyle="steps-post" if steps else "default")  # fmt: skip
        if known and len(curves) < 4:
            ax.fill_between(time, rows["conf_low"].to_numpy(float), rows["conf_high"].to_numpy(float),
                            step="post" if steps else None, color=look.colour, alpha=0.14, lw=0)  # fmt: skip
    if known and len(curves) > 3:
        bars(ax, {g: step_of(rows, np.nan) for g, rows in curves.items()}, nice_times(end, unit=unit)[1:], looks, end)
    ax.set_xticks(nice_times(end, unit=unit))
    ax.grid(visible=False, axis="x")
    ax.set_xlabel(time_label(unit))
    ci = f" ({100 * level:g}% CI)" if known else ""
    per = f", per {unit.removesuffix('s')}" if unit else ""
    ax.set_ylabel(f"{ylabel}{per}{ci}")
    if len(curves) > 1:
        ends = {g: (float(r["time"].max()), min(float(r["estimate"].iloc[-1]), top)) for g, r in curves.items()}
        style.end_labels(ax, ends, looks)
    return ax


def _top(frame: pd.DataFrame, banded: bool) -> float:
    """Height of the axis: all of the curves, and of the limits what does not dwarf them."""
    highest = float(frame["estimate"].max())
    if not banded:
        return max(1.1 * highest, 1e-9)
    return max(1.05 * min(float(np.nanmax(frame["conf_high"])), 2.5 * highest), 1.1 * highest, 1e-9)
