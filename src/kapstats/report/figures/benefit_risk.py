"""Benefit against harm: the number needed to treat beside the number needed to harm."""

from __future__ import annotations

from typing import Any

import pandas as pd

from kapstats.report.figures import style

#: numbers needed that may stand on an axis
TICKS = (2, 3, 4, 5, 7, 10, 20)


@style.house
def benefit_risk(
    frame: pd.DataFrame,
    *,
    by: str = "ROUTE",
    benefit: str = "response",
    harm: str = "event",
    level: float = 0.95,
    ax: Any = None,
) -> Any:
    """Draw every group at its benefit (horizontal) and its harm (vertical), with intervals.

    The axes are linear in the risk difference, so that an interval through no difference stays in one piece, and are
    labelled with its reciprocal: infinity stands at no difference. Below the dashed line one more response comes more
    often than one more event.

    Parameters
    ----------
    frame : columns `by`, ``benefit benefit_low benefit_high harm harm_low harm_high`` (risk differences)
    """
    looks = style.marks(frame[by])
    ax = style.axes(ax, 5.6, 4.8)
    for row in frame.to_dict("records"):
        look = looks[row[by]]
        ax.hlines(row["harm"], row["benefit_low"], row["benefit_high"], color=look.colour, lw=1.1)
        ax.vlines(row["benefit"], row["harm_low"], row["harm_high"], color=look.colour, lw=1.1)
        ax.plot([row["benefit"]], [row["harm"]], ls="", marker=look.marker, color=look.colour, ms=6.5)
    ax.axhline(0, color=style.MUTED, lw=0.9, zorder=1)
    ax.axvline(0, color=style.MUTED, lw=0.9, zorder=1)
    _scale(ax, "x", f"Number needed to treat for one more {benefit} ({100 * level:g}% CI)")
    _scale(ax, "y", f"Number needed to harm, {harm}")
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    top = min(right, high)
    ax.plot([0, top], [0, top], color=style.MUTED, lw=0.9, ls="--", zorder=1)
    ax.set(xlim=(left, right), ylim=(low, high))
    style.legend_above(ax, looks)
    return ax


def _scale(ax: Any, axis: str, label: str) -> None:
    """Ticks at the reciprocals of whole numbers needed, on both sides of infinity, as far as the data go."""
    low, high = getattr(ax, f"get_{axis}lim")()
    apart = 0.055 * (high - low)
    at = {0.0: "∞"}
    for needed in TICKS:
        for place, text in ((1 / needed, f"{needed}"), (-1 / needed, f"-{needed}")):
            if low <= place <= high and all(abs(place - other) > apart for other in at):
                at[place] = text
    getattr(ax, f"set_{axis}ticks")(list(at), list(at.values()))
    getattr(ax, f"set_{axis}label")(label)
