"""Survival from interval-censored times: curves, and the spans in which they are not determined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kapstats.report.figures import style
from kapstats.report.figures.kaplan_meier import groups
from kapstats.report.figures.steps import nice_times, time_label


@style.house
def turnbull(
    frame: pd.DataFrame,
    *,
    strata: Sequence[str] = (),
    unit: str = "",
    ylabel: str = "Probability without event",
    level: float = 0.95,
    n: Mapping[Any, int] | None = None,
    ax: Any = None,
) -> Any:
    """Draw nonparametric maximum-likelihood curves.

    Parameters
    ----------
    frame : `strata`, ``left right estimate`` (survival after the span), where known ``conf_low conf_high``. Within a
        span the curve may fall anywhere: it is drawn as a shaded box between its heights before and after
    n : subjects per curve, printed under the axis
    """
    frame = frame[np.isfinite(frame["right"].to_numpy(dtype=float))]  # mass beyond the last time is not drawn
    curves = groups(frame.assign(time=frame["right"]), strata)
    looks = style.marks(curves)
    ax = style.axes(ax, 6.4, 3.6)
    end = float(max(frame["right"].max(), frame["left"].max()))
    ends = {g: (end, _curve(ax, rows, looks[g], end)) for g, rows in curves.items()}
    ax.set_xlim(-0.01 * end, 1.01 * end)
    ax.set_ylim(-0.02, 1.03)
    known = "conf_low" in frame and frame["conf_low"].notna().any()
    _axis(ax, nice_times(end, unit=unit), time_label(unit), ylabel + (f" ({100 * level:g}% CI)" if known else ""))
    if len(curves) > 1:
        style.end_labels(ax, ends, looks)
    if n:
        style.rows_below(ax, [0.0], {g: [n[g]] for g in curves}, looks, title="n", start=44)
    return ax


def _curve(ax: Any, rows: pd.DataFrame, look: style.Mark, end: float) -> float:
    """One curve with its undetermined spans; returns its height at the end."""
    height, start = 1.0, 0.0
    for row in rows.sort_values("left").to_dict("records"):
        left, right, after = float(row["left"]), float(min(row["right"], end)), float(row["estimate"])
        ax.hlines(height, start, left, color=look.colour, lw=1.7)
        ax.fill_between([left, right], [after] * 2, [height] * 2, color=look.colour, alpha=0.18, lw=0)
        ax.plot([left, right], [height, after], color=look.colour, lw=0.8, ls=":")
        if np.isfinite(row.get("conf_low", np.nan)):
            ax.vlines(right, row["conf_low"], row["conf_high"], color=look.colour, lw=1.0, alpha=0.8)
        height, start = after, right
    ax.hlines(height, start, end, color=look.colour, lw=1.7)
    return height


def _axis(ax: Any, times: Sequence[float], xlabel: str, ylabel: str) -> None:
    from matplotlib.ticker import PercentFormatter

    ax.set_xticks(list(times))
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1.0])
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    ax.grid(visible=False, axis="x")
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
