"""Survival curves with confidence intervals, censoring marks and the number at risk under the axis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kapstats.errors import FormulaError
from kapstats.estimates import Curve
from kapstats.kernels.product_limit import crossing
from kapstats.report.figures import style
from kapstats.report.figures.steps import bars, nice_times, stairs, step_of, time_label

#: curves that one figure can hold apart
MOST = 20


@style.house
def kaplan_meier(
    frame: pd.DataFrame,
    *,
    strata: Sequence[str] = (),
    names: Mapping[str, str] | None = None,
    risk_table: bool = True,
    times: Sequence[float] | None = None,
    unit: str = "",
    ylabel: str = "Probability without event",
    level: float = 0.95,
    medians: bool = True,
    truth: pd.DataFrame | None = None,
    n_at_risk: Callable[[Sequence[float]], Any] | None = None,
    ax: Any = None,
) -> Any:
    """Draw Kaplan-Meier curves.

    Parameters
    ----------
    frame : as of ``ks.kaplan_meier(...).to_frame()``: `strata`, ``time n_risk n_event n_censor estimate conf_low
        conf_high``, one row per distinct time; the counts may be missing (predicted or standardised curves)
    strata, names : columns whose values tell the curves apart, and what to call them where not by these values
    risk_table : the numbers at risk below the axis, where the frame has them
    unit : unit of time, for the label of the axis and its ticks
    ylabel : label of the vertical axis; the confidence level is added
    level : confidence level of the limits
    times : where the number at risk is printed and, with more than three curves, where the intervals are drawn;
        about six round times when not given
    medians : dotted lines from the height of one half down to where each of up to three curves reaches it
    truth : `strata`, ``time truth``: true values, drawn as crosses
    n_at_risk : from times to {label of the curve: numbers at risk}, counted from the entries; without it they are those
        of the curve's next time, which is right only when everybody is followed from 0

    Returns
    -------
    matplotlib axes
    """
    frame = followed(frame)
    curves = {(names or {}).get(g, g): rows for g, rows in groups(frame, strata).items()}
    looks = style.marks(curves)
    ax = style.axes(ax, 6.4, 3.8)
    end = float(frame["time"].max())
    shown = list(times) if times is not None else nice_times(end, unit=unit)
    ax.set_xlim(-0.01 * end, end * 1.01)
    ax.set_ylim(-0.02, 1.03)
    steps = {g: step_of(rows, 1.0) for g, rows in curves.items()}
    for g, rows in curves.items():
        stairs(ax, steps[g], looks[g], band=len(curves) <= 3 and "conf_low" in rows)
        if "n_censor" in rows:
            _censored(ax, rows, steps[g].value, looks[g])
    if medians and len(curves) <= 3:
        _medians(ax, curves, looks)
    if truth is not None:
        _crosses(ax, groups(truth, strata), list(curves), end)
    if len(curves) > 3 and "conf_low" in frame:
        bars(ax, steps, [t for t in shown if t > 0], looks, end)
    ci = f" ({100 * level:g}% CI)" if "conf_low" in frame else ""
    _axis(ax, shown, time_label(unit), f"{ylabel}{ci}")
    if len(curves) > 1:
        style.end_labels(
            ax, {g: (float(r["time"].max()), float(r["estimate"].iloc[-1])) for g, r in curves.items()}, looks
        )
    if risk_table and "n_risk" in frame:
        style.rows_below(ax, shown, rows_at_risk(curves, shown, n_at_risk), looks, title="At risk", start=44)
    return ax


def groups(frame: pd.DataFrame, strata: Sequence[str]) -> dict[Any, pd.DataFrame]:
    """The rows of every curve by time, keyed by its label, in order of appearance; refuses what nobody can read."""
    found = {g: rows.sort_values("time") for g, rows in parts(frame, strata).items()}
    if len(found) > MOST:
        raise FormulaError(
            f"plot: {len(found)} curves cannot be told apart; draw at most {MOST}: choose rows with "
            "result.filter(...), or predict for fewer rows of newdata."
        )
    return found


def followed(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that have a value: a curve is drawn as far as it is known, not on to times past the end of follow-up."""
    known = frame[frame["estimate"].notna()]
    if known.empty:
        raise FormulaError("plot: no value is estimable at these times (NE); there is no curve to draw.")
    return known


def parts(frame: pd.DataFrame, columns: Sequence[str]) -> dict[Any, pd.DataFrame]:
    """The rows of every combination of `columns`, keyed by its label, in order of appearance."""
    if not columns:
        return {"All": frame}
    label = frame[list(columns)].astype(str).agg(", ".join, axis=1)
    return {g: frame[label == g] for g in dict.fromkeys(label)}


def rows_at_risk(
    curves: Mapping[Any, pd.DataFrame], times: Sequence[float], counted: Callable[[Sequence[float]], Any] | None
) -> dict[Any, list[int]]:
    """The numbers at risk of every curve at `times`."""
    known = {} if counted is None else counted(times)
    return {g: known[g] if g in known else [at_risk(r, t) for t in times] for g, r in curves.items()}


def at_risk(rows: pd.DataFrame, time: float) -> int:
    """Subjects at risk just before `time`: those of the first row at or after it.

    Examples
    --------
    >>> rows = pd.DataFrame({"time": [2.0, 5.0], "n_risk": [3, 1]})
    >>> [at_risk(rows, t) for t in (0, 2, 3, 6)]
    [3, 3, 1, 0]
    """
    later = rows.loc[rows["time"] >= time, "n_risk"]
    return int(later.iloc[0]) if len(later) else 0


def _censored(ax: Any, rows: pd.DataFrame, curve: Curve, look: style.Mark) -> None:
    times = rows.loc[rows["n_censor"] > 0, "time"].to_numpy(dtype=float)
    ax.plot(times, curve(times), ls="", marker="|", ms=6, mew=1.0, color=look.colour)


def _medians(ax: Any, curves: Mapping[Any, pd.DataFrame], looks: Mapping[Any, style.Mark]) -> None:
    """Where the curves reach one half; a curve that stays above it has no line."""
    found = {g: crossing(r["time"].to_numpy(float), r["estimate"].to_numpy(float), 0.5) for g, r in curves.items()}
    known = {g: t for g, t in found.items() if np.isfinite(t)}
    for g, t in known.items():
        ax.vlines(t, -0.02, 0.5, color=looks[g].colour, lw=0.9, ls=":")
    if known:
        ax.hlines(0.5, 0.0, max(known.values()), color=style.MUTED, lw=0.7, ls=":")


def _crosses(ax: Any, known: Mapping[Any, pd.DataFrame], order: Sequence[Any], end: float) -> None:
    """True values, beside the interval of their curve."""
    for k, group in enumerate(order):
        if group in known:
            shift = 0.011 * end * (k - (len(order) - 1) / 2) if len(order) > 3 else 0.0
            ax.plot(
                known[group]["time"] + shift, known[group]["truth"], "x", color=style.INK, mew=1.3, ms=5.5, zorder=6
            )
    style.truth_key(ax)


def _axis(ax: Any, times: Sequence[float], xlabel: str, ylabel: str) -> None:
    from matplotlib.ticker import PercentFormatter

    ax.set_xticks(list(times))
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1.0])
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    ax.grid(visible=False, axis="x")
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
