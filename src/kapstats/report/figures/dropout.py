"""Who was seen at which visit: patterns of missing values, by arm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from kapstats.errors import FormulaError
from kapstats.report.figures import style

SEEN, UNSEEN = "#123c80", "#e1e4e8"


@style.house
def dropout(frame: pd.DataFrame, *, visits: Sequence[Any], limit: int = 20, ax: Any = None) -> Any:
    """Draw the patterns of missing values, one row a pattern, most frequent on top, with their counts by arm.

    Parameters
    ----------
    frame : as `ks.missing_patterns` gives it: ``pattern`` of x (seen) and . (missing), ``kind``, one row per pattern
        and arm with ``n``
    visits : names of the visits, in order
    limit : patterns shown; the rest is counted in a last line
    """
    if not {"pattern", "n"} <= set(frame.columns):
        raise FormulaError("dropout: the figure of ks.missing_patterns; this result has no pattern or n.")
    arm = next(c for c in frame.columns if c not in ("pattern", "kind", "n", "N", "percent"))
    table = frame.pivot_table(index="pattern", columns=arm, values="n", aggfunc="sum", sort=False, observed=True)
    table = table.iloc[np.argsort(-table.sum(axis=1).to_numpy(), kind="stable")]
    shown, arms = table.iloc[:limit], list(table.columns)
    looks = style.marks(arms)
    ax = style.axes(ax, 2.6 + 0.5 * (len(visits) + 1.6 * len(arms)), 1.2 + 0.26 * len(shown))
    for i, pattern in enumerate(shown.index):
        for k, letter in enumerate(pattern):
            ax.plot([k], [i], "s", ms=9, color=SEEN if letter == "x" else UNSEEN, mec=SEEN, mew=0.6)
        for j, group in enumerate(arms):
            ax.text(len(visits) + 0.4 + 1.6 * j, i, f"{int(shown.at[pattern, group])}", ha="center", va="center",
                    fontsize=8.5, color=style.INK)  # fmt: skip
    for j, group in enumerate(arms):
        ax.plot([len(visits) + 0.4 + 1.6 * j], [-1], looks[group].marker, color=looks[group].colour, ms=5)
        ax.text(len(visits) + 0.4 + 1.6 * j, -1.5, style.name(group), ha="left", va="bottom", fontsize=8, rotation=35)
    ax.set_xlim(-0.7, len(visits) + 0.4 + 1.6 * len(arms) - 0.8)
    ax.set_ylim(len(shown) - 0.4, -1.4)
    ax.set_xticks(range(len(visits)), [str(v) for v in visits], rotation=35, ha="right")
    ax.set_yticks([])
    ax.grid(visible=False)
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)
    rest = int(table.iloc[limit:].to_numpy().sum())
    ax.set_xlabel(
        "Dark: seen" + (f"; {len(table) - limit} rarer patterns of {rest} subjects not shown" if rest else "")
    )
    return ax
