"""Cumulative incidence of an event in the presence of competing events."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kapstats.report.figures import style
from kapstats.report.figures.kaplan_meier import followed, groups, parts, rows_at_risk
from kapstats.report.figures.steps import Step, bars, nice_times, stairs, step_of, time_label


@style.house
def cumulative_incidence(
    frame: pd.DataFrame,
    *,
    strata: Sequence[str] = (),
    panel: Sequence[str] = (),
    risk_table: bool = True,
    times: Sequence[float] | None = None,
    unit: str = "",
    ylabel: str = "Cumulative incidence",
    level: float = 0.95,
    percent: bool | None = None,
    before: Mapping[Any, float] | None = None,
    n_at_risk: Callable[[Sequence[float]], Any] | None = None,
    ax: Any = None,
) -> Any:
    """Draw step curves that begin at 0: Aalen-Johansen curves, mean counts, cumulative hazards, states.

    Parameters
    ----------
    frame : `panel` and `strata` columns, ``time estimate``, where known ``conf_low conf_high``, and ``n_risk`` for the
        table below
    strata, panel : columns whose values are the curves of a panel, and the panels side by side
    before : label of a panel's curve, or (label of the panel, label of the curve) -> where it starts when not at 0
    unit : unit of time, for the label of the axis and its ticks
    n_at_risk : numbers at risk counted from the entries, as in `kaplan_meier`
    percent : axis in percent; by default when `ylabel` names an incidence or a probability, not a mean count
    """
    frame = followed(frame)
    panels = parts(frame, panel)
    looks = style.marks(groups(frame, strata))
    percent = any(w in ylabel.lower() for w in ("incidence", "probability")) if percent is None else percent
    end = float(frame["time"].max())
    shown = list(times) if times is not None else nice_times(end, about=6 if len(panels) == 1 else 4, unit=unit)
    ax = style.axes(ax, max(6.4, 3.2 * len(panels)), 3.6)
    made = [ax] if len(panels) == 1 else style.side_by_side(ax, [1.0] * len(panels))
    top = _top(frame, before, banded=len(looks) < 4, percent=percent)
    ci = f" ({100 * level:g}% CI)" if "conf_low" in frame else ""
    for k, (one, (label, rows)) in enumerate(zip(made, panels.items(), strict=True)):
        starts = before or {}
        curves = groups(rows, strata)
        steps = {g: step_of(r, starts.get((label, g), starts.get(g, 0.0))) for g, r in curves.items()}
        one.set_xlim(-0.01 * end, end * 1.01)
        one.set_ylim(-0.02 * top, top)
        _curves(one, curves, steps, looks, shown, end, names=k == len(panels) - 1)
        _axis(one, shown, time_label(unit), f"{ylabel}{ci}" if k == 0 else "", percent)
        if k > 0:
            one.tick_params(labelleft=False)
        if panel:
            one.set_title(style.name(label if isinstance(rows[panel[0]].iloc[0], str) else f"{panel[0]} {label}"))
        if k == 0 and risk_table and "n_risk" in frame:
            style.rows_below(one, shown, rows_at_risk(curves, shown, n_at_risk), looks, title="At risk", start=44)
    return ax


def _top(frame: pd.DataFrame, before: Mapping[Any, float] | None, *, banded: bool, percent: bool) -> float:
    """Upper end of the vertical axis: room for the curves, their bands and where they begin."""
    highest = frame["conf_high"].max() if banded and "conf_high" in frame else 0.0
    most = float(np.nanmax([frame["estimate"].max(), highest, *(before or {}).values(), 1e-9]))
    return min(1.02, 1.15 * most) if percent else 1.15 * most


def _curves(
    ax: Any,
    curves: Mapping[Any, pd.DataFrame],
    steps: dict[Any, Step],
    looks: dict[Any, style.Mark],
    shown: Sequence[float],
    end: float,
    *,
    names: bool,
) -> None:
    """The curves of one panel: bands for up to three, intervals at some times for more."""
    known = all("conf_low" in rows for rows in curves.values())
    for g, step in steps.items():
        stairs(ax, step, looks[g], band=known and len(curves) < 4)
    if known and len(curves) > 3:
        bars(ax, steps, [t for t in shown if t > 0], looks, end)
    if names and len(curves) > 1:
        ends = {g: (float(r["time"].max()), float(r["estimate"].iloc[-1])) for g, r in curves.items()}
        style.end_labels(ax, ends, looks)


def _axis(ax: Any, times: Sequence[float], xlabel: str, ylabel: str, percent: bool) -> None:
    from matplotlib.ticker import PercentFormatter

    ax.set_xticks(list(times))
    if percent:
        ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    ax.grid(visible=False, axis="x")
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
