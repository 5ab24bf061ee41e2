"""Cumulative incidence of an event in the presence of competing events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kapstats.report.figures import style
from kapstats.report.figures.kaplan_meier import at_risk, groups
from kapstats.report.figures.steps import bars, nice_times, step_of


@style.house
def cumulative_incidence(
    frame: pd.DataFrame,
    *,
    strata: Sequence[str] = (),
    risk_table: bool = True,
    times: Sequence[float] | None = None,
    unit: str = "days",
    ylabel: str = "Cumulative incidence",
    level: float = 0.95,
    percent: bool | None = None,
    before: Mapping[Any, float] | None = None,
    ax: Any = None,
) -> Any:
    """Draw Aalen-Johansen curves of one cause.

    Parameters
    ----------
    frame : `strata`, ``time estimate``, where known ``conf_low conf_high``, and ``n_risk`` for the table below
    before : where a curve starts when not at 0 (the first state of a multistate process)
    percent : axis in percent; by default when `ylabel` speaks of an incidence or a probability, not of a mean count
    """
    curves = groups(frame, strata)
    looks = style.marks(curves)
    ax = style.axes(ax, 6.4, 3.6)
    end = float(frame["time"].max())
    shown = list(times) if times is not None else nice_times(end)
    steps = {g: step_of(rows, (before or {}).get(g, 0.0)) for g, rows in curves.items()}
    percent = any(w in ylabel.lower() for w in ("incidence", "probability")) if percent is None else percent
    highest = frame["conf_high"].max() if len(curves) < 4 and "conf_high" in frame else 0.0
    top = float(np.nanmax([frame["estimate"].max(), highest, 1e-9]))
    ax.set_xlim(-0.01 * end, end * 1.01)
    ax.set_ylim(-0.02 * top, min(1.02, 1.15 * top) if percent else 1.15 * top)
    for g, rows in curves.items():
        xs = np.concatenate([[0.0], rows["time"].to_numpy(dtype=float)])
        ax.plot(xs, steps[g].value(xs), drawstyle="steps-post", color=looks[g].colour, ls=looks[g].dashes)
        if len(curves) < 4:
            low, high = steps[g].limits(xs)
            ax.fill_between(xs, low, high, step="post", color=looks[g].colour, alpha=0.14, lw=0)
    if len(curves) > 3 and "conf_low" in frame:
        bars(ax, steps, [t for t in shown if t > 0], looks, end)
    ci = f" ({100 * level:g}% CI)" if "conf_low" in frame else ""
    _axis(ax, shown, f"Time ({unit})", f"{ylabel}{ci}", percent)
    if len(curves) > 1:
        ends = {g: (float(r["time"].max()), float(r["estimate"].iloc[-1])) for g, r in curves.items()}
        style.end_labels(ax, ends, looks)
    if risk_table and "n_risk" in frame:
        rows_shown = {g: [at_risk(r, t) for t in shown] for g, r in curves.items()}
        style.rows_below(ax, shown, rows_shown, looks, title="At risk", start=44)
    return ax


def _axis(ax: Any, times: Sequence[float], xlabel: str, ylabel: str, percent: bool) -> None:
    from matplotlib.ticker import PercentFormatter

    ax.set_xticks(list(times))
    if percent:
        ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    ax.grid(visible=False, axis="x")
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
