"""Adverse events of subjects over days: one row a subject, or one row an event of one subject."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from kapstats.report.figures import style
from kapstats.report.figures.severity import shade


@style.house
def timeline(
    frame: pd.DataFrame,
    *,
    row: str = "USUBJID",
    by: str = "ROUTE",
    grade: str | None = None,
    end: str = "follow_up",
    xlabel: str = "Days since the first dose",
    ax: Any = None,
) -> Any:
    """Draw every event from its start to its end, an arrow where it had not ended, the stronger the more severe.

    Parameters
    ----------
    frame : columns `row`, `by`, ``start``, ``stop`` (days; a missing stop: ongoing), and where known `grade` (an
        ordered categorical, or numbers) and `end` (the last day of the row's follow-up)
    """
    rows = list(dict.fromkeys(frame[row]))
    place = {name: i for i, name in enumerate(rows)}
    looks = style.marks(frame[by])
    ax = style.axes(ax, 6.8, 0.9 + 0.2 * max(len(rows), 2))
    reach = np.nanmax(frame[[c for c in ("start", "stop", end) if c in frame]].to_numpy(dtype=float), initial=1.0)
    if end in frame:
        follow = frame.groupby(row, sort=False)[end].max()
        ax.hlines([place[r] for r in follow.index], 0, follow, color=style.GRID, lw=5)
    strength = _strength(frame[grade]) if grade else np.ones(len(frame))
    for look, event, alpha in zip(frame[by].map(looks), frame.itertuples(), strength, strict=True):
        ongoing = bool(np.isnan(event.stop))
        stop = _until(event, end, reach) if ongoing else event.stop
        y = place[getattr(event, row)]
        ax.plot([event.start, stop], [y, y], color=look.colour, alpha=alpha, lw=4.5, solid_capstyle="butt")
        ax.plot([event.start], [y], color=look.colour, marker="|", ms=6, ls="")
        if ongoing:
            ax.plot([stop], [y], color=look.colour, marker=">", ms=5, ls="", clip_on=False)
    ax.set_yticks(range(len(rows)), [str(r) for r in rows], fontsize=7.5)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlim(min(0.0, float(frame["start"].min()) if len(frame) else 0.0), reach * 1.01)
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel(xlabel)
    style.legend_above(ax, looks)
    return ax


def _until(event: Any, end: str, reach: float) -> float:
    """Where an event that had not ended is drawn to: the end of follow-up, else the end of the figure."""
    last = float(getattr(event, end, np.nan))
    return reach * 1.01 if np.isnan(last) else max(last, float(event.start))


def _strength(grades: pd.Series) -> np.ndarray:
    """Opacity by rank among the grades; an unknown grade is drawn as the worst."""
    codes, levels = pd.factorize(grades, sort=True)
    n = len(levels)
    return np.array([shade(c if c >= 0 else n - 1, max(n, 1)) for c in codes])
