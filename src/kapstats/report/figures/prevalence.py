"""Who has the event now: percentage of subjects by minutes since the dose, one line a group."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from kapstats.report.figures import style


@style.house
def prevalence(
    frame: pd.DataFrame,
    *,
    group: str = "ROUTE",
    event: str = "an event",
    level: float = 0.95,
    band: bool | None = None,
    ax: Any = None,
) -> Any:
    """Draw the point prevalence by time since the dose.

    Parameters
    ----------
    frame : columns `group`, ``time`` (minutes), ``estimate conf_low conf_high`` (proportions)
    band : shade the intervals; by default where there are at most two groups, else they are bars at some of the times
    """
    groups = list(dict.fromkeys(frame[group]))
    looks = style.marks(groups)
    shaded = len(groups) <= 2 if band is None else band
    ax = style.axes(ax, 6.4, 3.6)
    ends = {}
    for k, g in enumerate(groups):
        rows = frame[frame[group] == g].sort_values("time")
        x, y = rows["time"].to_numpy(dtype=float), 100 * rows["estimate"].to_numpy(dtype=float)
        look = looks[g]
        ax.plot(x, y, color=look.colour, marker=look.marker, ls=look.dashes, ms=4)
        if shaded:
            low, high = (100 * rows[c].to_numpy(dtype=float) for c in ("conf_low", "conf_high"))
            ax.fill_between(x, low, high, color=look.colour, alpha=0.15, lw=0)
        else:
            _bars(ax, rows, look, k, len(groups))
        ends[g] = (float(x[-1]), float(y[-1]))
    ax.set_ylim(bottom=0)
    ax.grid(visible=False, axis="x")
    ax.set_xlabel("Minutes since the start of the session")
    ax.set_ylabel(f"Subjects with {event} now, %" + f" ({100 * level:g}% CI)")
    style.end_labels(ax, ends, looks)
    return ax


def _bars(ax: Any, rows: pd.DataFrame, look: style.Mark, place: int, groups: int) -> None:
    """Intervals at up to eight of the times, the groups side by side."""
    every = max(1, -(-len(rows) // 8))
    shown = rows.iloc[every // 2 :: every]
    gaps = np.diff(rows["time"].to_numpy(dtype=float))
    step = 0.8 * float(gaps.min() if gaps.size else 1.0) / groups
    x = shown["time"].to_numpy(dtype=float) + step * (place - (groups - 1) / 2)
    ax.vlines(x, 100 * shown["conf_low"], 100 * shown["conf_high"], color=look.colour, lw=0.9, alpha=0.7)
