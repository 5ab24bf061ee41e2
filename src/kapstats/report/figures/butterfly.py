"""Adverse events of two groups back to back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from kapstats.report.figures import style
from kapstats.report.figures.dot import most_frequent


@style.house
def butterfly(
    frame: pd.DataFrame,
    *,
    groups: tuple[Any, Any],
    term: str = "AEDECOD",
    by: str = "TRT01A",
    terms: Sequence[str] | None = None,
    limit: int = 15,
    ax: Any = None,
) -> Any:
    """Draw percentages of the first group to the left, of the second to the right, with intervals where known.

    Parameters
    ----------
    frame : columns `term`, `by`, ``percent`` (0 to 100) and, where known, ``conf_low conf_high`` (0 to 100)
    """
    both = frame[frame[by].isin(list(groups))]
    rows = list(terms) if terms is not None else most_frequent(both, term, by, limit)
    looks = style.marks(groups)
    ax = style.axes(ax, 6.4, 0.9 + 0.26 * len(rows))
    for sign, group in zip((-1, 1), groups, strict=True):
        cells = both[both[by] == group].drop_duplicates(term).set_index(term).reindex(rows)
        _bars(ax, cells, sign, looks[group])
    _axis(ax, rows, groups, looks)
    return ax


def _bars(ax: Any, cells: pd.DataFrame, sign: int, look: style.Mark) -> None:
    percent = cells["percent"].fillna(0).to_numpy(dtype=float)
    ax.barh(range(len(cells)), sign * percent, height=0.62, color=look.colour, alpha=0.85)
    if {"conf_low", "conf_high"} <= set(cells.columns):
        low, high = (sign * cells[c].to_numpy(dtype=float) for c in ("conf_low", "conf_high"))
        ax.hlines(range(len(cells)), low, high, color=style.INK, lw=0.9)


def _axis(ax: Any, rows: list[str], groups: tuple[Any, Any], looks: dict[Any, style.Mark]) -> None:
    from matplotlib.ticker import FuncFormatter

    ax.axvline(0, color=style.INK, lw=0.8)
    widest = max(abs(v) for v in ax.get_xlim())
    ax.set_xlim(-widest, widest)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{abs(v):g}"))
    ax.set_yticks(range(len(rows)), [name.capitalize() if name.isupper() else name for name in rows])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")
    ax.set_xlabel("Subjects with the event (%)")
    for x, group in zip((0.25, 0.75), groups, strict=True):
        ax.annotate(style.name(group), (x, 1.01), xycoords="axes fraction", ha="center", fontweight="bold", fontsize=9)
