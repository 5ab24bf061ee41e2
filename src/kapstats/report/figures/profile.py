"""Means over visits with confidence intervals, numbers under the axis, the true values where they are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kapstats.report.figures import style


@style.house
def profile(
    frame: pd.DataFrame,
    *,
    x: str = "AVISIT",
    group: str = "TRT01P",
    at: Mapping[Any, float] | None = None,
    xlabel: str = "",
    ylabel: str = "Least-squares mean",
    counts: str | None = "n",
    level: float = 0.95,
    ax: Any = None,
) -> Any:
    """Draw LS means over visits, one line a group.

    Parameters
    ----------
    frame : columns `x`, `group`, ``estimate conf_low conf_high``, and where known ``truth`` and `counts`
    at : where a visit stands on the axis; by default the number in "Day 7" or "Week 8", else equally spaced
    counts : column with the number of subjects behind each mean, printed under the axis

    Returns
    -------
    matplotlib axes
    """
    visits, groups = _in_order(frame[x]), _in_order(frame[group])
    at = at or days(visits)
    places = {v: float(at[v]) if at else float(i) for i, v in enumerate(visits)}
    looks = style.marks(groups)
    ax = style.axes(ax, 6.4, 3.6)
    shifts = _dodge(list(places.values()), len(groups))
    for g, shift in zip(groups, shifts, strict=True):
        _line(ax, frame[frame[group] == g].set_index(x).reindex(visits), [places[v] + shift for v in visits], looks[g])
    _axis(ax, places, xlabel or (str(visits[0]).split()[0] if at else "Visit"), f"{ylabel} ({100 * level:g}% CI)")
    last = frame[frame[x] == visits[-1]].set_index(group)["estimate"]
    ends = {g: (places[visits[-1]] + s, float(last[g])) for g, s in zip(groups, shifts, strict=True) if g in last.index}
    style.end_labels(ax, ends, looks)
    if "truth" in frame and frame["truth"].notna().any():
        style.truth_key(ax)
    if counts and counts in frame:
        table = frame.pivot_table(index=group, columns=x, values=counts, aggfunc="first", observed=True)
        rows = {g: [_whole(table.loc[g].get(v)) for v in visits] for g in groups}
        style.rows_below(ax, list(places.values()), rows, looks, title="Observed", start=44)
    return ax


def days(visits: Sequence[Any]) -> dict[Any, float] | None:
    """Where "Day 7" and "Week 24" stand on a time axis, when all visits say it in the same unit.

    Examples
    --------
    >>> days(["Day 1", "Day 7"]), days(["Baseline", "Week 8"])
    ({'Day 1': 1.0, 'Day 7': 7.0}, None)
    """
    words = [str(v).split() for v in visits]
    if any(len(w) != 2 or not w[1].isdigit() for w in words) or len({w[0] for w in words}) != 1:
        return None
    return {v: float(w[1]) for v, w in zip(visits, words, strict=True)}


def _in_order(values: pd.Series) -> list[Any]:
    """Levels in the order of a categorical, else of appearance."""
    present = list(dict.fromkeys(values))
    if isinstance(values.dtype, pd.CategoricalDtype):
        return [v for v in values.cat.categories if v in set(present)]
    return present


def _dodge(places: Sequence[float], n: int) -> list[float]:
    gaps = np.diff(sorted(places))
    step = (float(gaps.min()) if len(gaps) else 1.0) * 0.6 / max(n, 4)
    return [step * (k - (n - 1) / 2) for k in range(n)]


def _line(ax: Any, rows: pd.DataFrame, xs: Sequence[float], look: style.Mark) -> None:
    y = rows["estimate"].to_numpy(dtype=float)
    arms = np.abs(rows[["conf_low", "conf_high"]].to_numpy(dtype=float).T - y)
    ax.errorbar(xs, y, yerr=arms, color=look.colour, marker=look.marker, ls=look.dashes, lw=1.5, elinewidth=1.0, ms=4.5)
    if "truth" in rows:
        ax.plot(xs, rows["truth"].to_numpy(dtype=float), marker="x", mew=1.3, ms=5.5, ls="", color=style.INK, zorder=5)


def _axis(ax: Any, places: Mapping[Any, float], xlabel: str, ylabel: str) -> None:
    ax.set_xticks(list(places.values()), [_short(v) for v in places])
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    ax.grid(visible=False, axis="x")
    low, high = ax.get_ylim()
    if low < 0 < high or abs(high) < 0.2 * (high - low):
        ax.axhline(0, color=style.MUTED, lw=0.8, zorder=1)


def _short(visit: object) -> str:
    """The number of "Day 7" or "Week 24" under an axis that says which it is."""
    words = str(visit).split()
    return words[1] if len(words) == 2 and words[0].lower() in ("day", "week", "month", "visit") else str(visit)


def _whole(value: object) -> str:
    return "" if value is None or value != value else str(int(float(str(value))))
