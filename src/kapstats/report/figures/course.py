"""What happens in the minutes after a dose: mean with confidence interval, one line a group."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from kapstats.report.figures import style


@style.house
def course(
    frame: pd.DataFrame,
    *,
    x: str = "ATPTN",
    group: str = "ROUTE",
    xlabel: str = "Minutes since the start of the session",
    ylabel: str = "CADSS total score",
    level: float = 0.95,
    threshold: float | None = None,
    ax: Any = None,
) -> Any:
    """Draw the acute course by group.

    Parameters
    ----------
    frame : columns `x` (minutes), `group`, ``estimate conf_low conf_high``, and where known ``n``
    threshold : a level worth marking (CADSS 4, a systolic pressure of 180)
    """
    groups = list(dict.fromkeys(frame[group]))
    looks = style.marks(groups)
    ax = style.axes(ax, 6.4, 3.6)
    minutes = sorted(float(v) for v in set(frame[x]))
    step = (min(np.diff(minutes)) if len(minutes) > 1 else 1.0) * 0.5 / max(len(groups), 4)
    ends = {}
    for k, g in enumerate(groups):
        rows = frame[frame[group] == g].sort_values(x)
        xs = rows[x].to_numpy(dtype=float) + step * (k - (len(groups) - 1) / 2)
        y = rows["estimate"].to_numpy(dtype=float)
        arms = np.abs(rows[["conf_low", "conf_high"]].to_numpy(dtype=float).T - y)
        look = looks[g]
        ax.errorbar(xs, y, yerr=arms, color=look.colour, marker=look.marker, ls=look.dashes, elinewidth=1.0, ms=4.5)
        if "truth" in rows:
            ax.plot(xs, rows["truth"].to_numpy(dtype=float), "x", color=style.INK, mew=1.3, ms=5.5, zorder=5)
        ends[g] = (float(xs[-1]), float(y[-1]))
    if threshold is not None:
        ax.axhline(threshold, color=style.MUTED, lw=0.9, ls="--", zorder=1)
    ax.set_xticks(minutes, [f"{m:g}" for m in minutes])
    ax.grid(visible=False, axis="x")
    ax.set_xlabel(xlabel)
    ax.set_ylabel(f"{ylabel} ({100 * level:g}% CI)")
    style.end_labels(ax, ends, looks)
    if "truth" in frame and frame["truth"].notna().any():
        style.truth_key(ax)
    if "n" in frame:
        table = frame.pivot_table(index=group, columns=x, values="n", aggfunc="first", observed=True)
        shown = {g: [int(v) for v in table.loc[g]] for g in groups}
        style.rows_below(ax, minutes, shown, looks, title="n", start=44)
    return ax
