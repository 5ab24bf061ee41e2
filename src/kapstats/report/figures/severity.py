"""How bad it was: subjects by their worst severity, one panel a group, one stacked bar a term."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from kapstats.report.figures import style


@style.house
def severity(
    frame: pd.DataFrame,
    *,
    grade: str = "AESEV",
    term: str = "AEDECOD",
    by: str = "ROUTE",
    terms: Sequence[str] | None = None,
    limit: int = 10,
    ax: Any = None,
) -> Any:
    """Draw the percentage of subjects by worst severity: the darker, the worse; the worst stands at the axis.

    Parameters
    ----------
    frame : columns `term`, `by`, `grade` (grades in ascending order of appearance) and ``percent`` of subjects whose
        worst severity this was (0 to 100)
    terms : the rows from top to bottom; by default the `limit` terms with most subjects in any group

    Returns
    -------
    matplotlib axes (of the whole; every group has an inset panel)
    """
    whole = frame.groupby([term, by], observed=True, sort=False)["percent"].sum().groupby(level=0).max()
    ranked = sorted(whole.items(), key=lambda item: (-item[1], str(item[0])))
    rows = list(terms) if terms is not None else [str(t) for t, percent in ranked[:limit] if percent > 0]
    groups, grades = (list(dict.fromkeys(frame[column])) for column in (by, grade))
    looks = style.marks(groups)
    wide = max(1.2, *(0.1 * len(style.name(g)) for g in groups))
    ax = style.axes(ax, 0.4 + wide * len(groups), 0.9 + 0.28 * max(len(rows), 1))
    panels = style.side_by_side(ax, [1.0] * len(groups), gap=0.05)
    widest = max([float(whole[r]) for r in rows if r in whole.index], default=1.0)
    for k, (panel, group) in enumerate(zip(panels, groups, strict=True)):
        own = frame[frame[by] == group].pivot_table(index=term, columns=grade, values="percent", observed=True)
        _bars(panel, own.reindex(index=rows, columns=grades).fillna(0.0), looks[group].colour)
        _axis(panel, rows, k == 0, widest, style.name(group))
    _legend(ax, [str(g) for g in grades])
    return ax


def shade(i: int, n: int) -> float:
    """How strong the colour of grade `i` of `n` is: the worst full, the mildest pale.

    Examples
    --------
    >>> [round(shade(i, 3), 3) for i in range(3)]
    [0.25, 0.625, 1.0]
    """
    return 1.0 if n < 2 else 0.25 + 0.75 * i / (n - 1)


def _bars(ax: Any, percent: pd.DataFrame, colour: str) -> None:
    left = [0.0] * len(percent)
    for i in reversed(range(percent.shape[1])):
        width = percent.iloc[:, i].to_list()
        ax.barh(range(len(left)), width, left=left, height=0.68, color=colour, alpha=shade(i, percent.shape[1]), lw=0)
        left = [a + w for a, w in zip(left, width, strict=True)]


def _axis(ax: Any, rows: list[str], first: bool, widest: float, title: str) -> None:
    if first:  # the panels share this axis
        ax.set_yticks(range(len(rows)), [r.capitalize() if r.isupper() else r for r in rows])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlim(0, 1.05 * widest)
    ax.tick_params(axis="y", length=0, labelleft=first)
    ax.grid(visible=False, axis="y")
    ax.set_xlabel("Subjects, %")
    ax.annotate(title, (0, 1.02), xycoords="axes fraction", fontweight="bold", fontsize=8.5)


def _legend(ax: Any, grades: list[str]) -> None:
    from matplotlib.patches import Patch

    made = [
        Patch(color=style.INK, alpha=shade(i, len(grades)), lw=0, label=g.capitalize() if g.isupper() else g)
        for i, g in enumerate(grades)
    ]
    ax.legend(
        handles=made, loc="lower right", bbox_to_anchor=(1, 1.06), ncols=max(len(made), 1), fontsize=8,
        handlelength=1.0, columnspacing=1.1, borderaxespad=0, title="Worst severity", title_fontsize=8,
    )  # fmt: skip
