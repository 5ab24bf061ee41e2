"""Adverse events by group: percentages on the left, differences against the reference on the right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from kapstats.report.figures import style


@style.house
def dot(
    frame: pd.DataFrame,
    differences: pd.DataFrame | None = None,
    *,
    term: str = "AEDECOD",
    by: str = "ROUTE",
    terms: Sequence[str] | None = None,
    limit: int = 12,
    level: float = 0.95,
    reference: str = "",
    ax: Any = None,
) -> Any:
    """Draw the most frequent adverse events, one row a term.

    Parameters
    ----------
    frame : columns `term`, `by`, ``percent`` (0 to 100) and, where known, ``conf_low conf_high`` (0 to 100)
    differences : columns `term`, `by`, ``estimate conf_low conf_high`` (proportions, -1 to 1), and ``truth``
    terms : the rows from top to bottom; by default the `limit` terms with the largest percentage in any group

    Returns
    -------
    matplotlib axes (of the whole; its two panels are inset axes)
    """
    rows = list(terms) if terms is not None else most_frequent(frame, term, by, limit)
    groups = list(dict.fromkeys(frame[by]))
    looks = style.marks(groups)
    whole = style.axes(ax, 7.4, height(len(rows), len(groups)))
    left, right = style.side_by_side(whole, (1, 1.25)) if differences is not None else (whole, None)
    _percentages(left, frame, rows, term, by, looks, level)
    if right is not None and differences is not None:
        _differences(right, differences, rows, term, by, looks, level, reference)
    known = differences is not None and "truth" in differences and bool(differences["truth"].notna().any())
    style.legend_above(left, looks, truth=known)
    return whole


def height(rows: int, groups: int) -> float:
    """Inches that the figure needs: every group has its own line within a row."""
    return 0.8 + rows * max(0.32, 0.075 * groups)


def most_frequent(frame: pd.DataFrame, term: str, by: str, limit: int) -> list[str]:
    """The `limit` terms with the largest percentage in any group, largest first, ties by name."""
    largest = frame.groupby(term, observed=True)["percent"].max()
    ranked = sorted(largest.items(), key=lambda item: (-item[1], str(item[0])))
    return [str(name) for name, percent in ranked[:limit] if percent > 0]


def _offsets(n: int) -> list[float]:
    step = 0.78 / max(n, 2)
    return [step * (k - (n - 1) / 2) for k in range(n)]


def _percentages(
    ax: Any, frame: pd.DataFrame, rows: list[str], term: str, by: str, looks: dict[Any, style.Mark], level: float
) -> None:
    cells = frame.drop_duplicates([term, by]).set_index([term, by])
    limited = {"conf_low", "conf_high"} <= set(frame.columns)
    for offset, (group, look) in zip(_offsets(len(looks)), looks.items(), strict=True):
        found = [(cells.loc[(name, group)], y + offset) for y, name in enumerate(rows) if (name, group) in cells.index]
        xs, ys = [float(r["percent"]) for r, _ in found], [y for _, y in found]
        if limited:
            limits = [(float(r["conf_low"]), float(r["conf_high"])) for r, _ in found]
            ax.hlines(ys, [a for a, _ in limits], [b for _, b in limits], color=look.colour, lw=1.0)
        ax.plot(xs, ys, ls="", marker=look.marker, color=look.colour, ms=4.8)
    _rows(ax, rows)
    ax.set_yticks(range(len(rows)), [_wrapped(name) for name in rows])
    ax.set_xlim(left=-1)
    ax.set_xlabel("Subjects with the event, %" + (f" ({100 * level:g}% CI)" if limited else ""))


def _differences(
    ax: Any,
    frame: pd.DataFrame,
    rows: list[str],
    term: str,
    by: str,
    looks: dict[Any, style.Mark],
    level: float,
    reference: str,
) -> None:
    cells = frame.drop_duplicates([term, by]).set_index([term, by])
    ax.axvline(0, color=style.MUTED, lw=0.9, zorder=1)
    for offset, (group, look) in zip(_offsets(len(looks)), looks.items(), strict=True):
        there = [y for y, name in enumerate(rows) if (name, group) in cells.index]
        if there:
            own = cells.loc[[(rows[y], group) for y in there]]
            _intervals(ax, own, [y + offset for y in there], look)
    _rows(ax, rows)
    ax.tick_params(axis="y", labelleft=False)
    against = f" to {style.name(reference)}" if reference else ""
    ax.set_xlabel(f"Difference{against}, points ({100 * level:g}% CI)")


def _intervals(ax: Any, own: pd.DataFrame, ys: list[float], look: style.Mark) -> None:
    """The differences of one group, in points, one at each height of `ys`."""
    points = 100 * own[["estimate", "conf_low", "conf_high"]].astype(float)
    ax.hlines(ys, points["conf_low"], points["conf_high"], color=look.colour, lw=1.1)
    ax.plot(points["estimate"], ys, ls="", marker=look.marker, color=look.colour, ms=4.2)
    if "truth" in own:
        ax.plot(100 * own["truth"].astype(float), ys, "x", mew=1.2, ms=5, color=style.INK, zorder=5)


def _rows(ax: Any, rows: list[str]) -> None:
    """Bands behind every second row, so that the eye keeps the line."""
    for y in range(0, len(rows), 2):
        ax.axhspan(y - 0.5, y + 0.5, color=style.GRID, alpha=0.35, lw=0, zorder=0)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)


def _wrapped(name: str, width: int = 26) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(name.capitalize() if name.isupper() else name, width)[:2])
