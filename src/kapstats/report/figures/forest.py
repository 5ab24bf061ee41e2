"""Estimates with confidence intervals, one row each, the numbers printed beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kapstats import scales
from kapstats.errors import FormulaError
from kapstats.report.figures import style
from kapstats.table import interval, number

if TYPE_CHECKING:
    from kapstats.estimates import Estimates


def plot(estimates: Estimates, ax: Any = None, **options: Any) -> Any:
    """Draw any result that has ``estimate conf_low conf_high``: a profile of means, curves, or a forest."""
    from kapstats.report.figures import choose

    return choose.draw(estimates, ax=ax, **options)


def forest_of(estimates: Estimates, ax: Any = None, **options: Any) -> Any:
    """A forest with labels and panels read off the columns of the result."""
    frame = estimates.frame
    if not {"estimate", "conf_low", "conf_high"} <= set(frame.columns):
        raise FormulaError(f"plot: there are no intervals to draw; the columns are {', '.join(frame.columns)}.")
    rows = estimates.scales
    frame, words = scales.shown(frame, rows, estimates.meta.get("ratio_names")), scales.header(rows, estimates.meta)
    kinds = ["ratio" if s.is_ratio or s.exponentiated else s.measure for s in rows]
    if len(set(kinds)) > 1 and not {"log", "label", "panel"} & options.keys():
        return _apart(frame, rows, kinds, estimates.meta.get("level") or 0.95, ax=ax, **options)
    ratio = bool(rows) and all(s.is_ratio or s.exponentiated for s in rows)
    label = next((c for c in ("contrast", "term", "quantity", "method") if c in frame), frame.columns[0])
    others = [c for c in frame.columns[: list(frame.columns).index("estimate")] if c != label]
    panel = next((c for c in others if 1 < frame[c].nunique() < len(frame) and not _is_count(c)), None)
    level = estimates.meta.get("level") or 0.95
    chosen: dict[str, Any] = {"label": label, "panel": panel, "log": ratio, "level": level}
    if words != "Estimate":
        chosen["xlabel"] = chosen["head"] = words
    elif not {"contrast", "term"} & set(frame.columns):  # levels: nothing is compared
        chosen |= {"xlabel": words, "null": np.nan}
    chosen |= estimates.meta.get("forest", {})
    return forest(frame, **(chosen | options), ax=ax)


@style.house
def _apart(
    frame: pd.DataFrame,
    rows: Sequence[scales.Scale],
    kinds: Sequence[str],
    level: float,
    *,
    ax: Any = None,
    **options: Any,
) -> Any:
    """Means, differences and ratios of one result below each other, each on an axis of its own."""
    named = frame.assign(_label=[_name(frame, rows, i) for i in range(len(rows))], _measure=[s.header for s in rows])
    parts = {kind: named[[k == kind for k in kinds]] for kind in dict.fromkeys(kinds)}
    panels = {kind: "_measure" if kind == "ratio" and part["_measure"].nunique() > 1 else None
              for kind, part in parts.items()}  # fmt: skip
    inches = [height(part, panels[kind]) + 0.35 for kind, part in parts.items()]
    ax = style.axes(ax, 5.2, sum(inches) / 0.77)
    ax.set_axis_off()
    top = 1.0
    for (kind, part), own in zip(parts.items(), inches, strict=True):
        low, gap = top - own / sum(inches), 0.65 / sum(inches)
        words = "Ratio" if panels[kind] else part["_measure"].iloc[0]
        compared = part["_label"].str.contains(r" [-/] ").any()
        told: dict[str, Any] = {"log": kind == "ratio", "xlabel": words, "head": words, "level": level}
        told |= {} if compared else {"null": np.nan}
        place = ax.inset_axes([0, low + gap, 1, top - low - gap])
        forest(part, label="_label", panel=panels[kind], ax=place, **(told | options))
        top = low
    return ax


def _name(frame: pd.DataFrame, rows: Sequence[scales.Scale], i: int) -> str:
    """What row i is about: its contrast, or its group where it compares nothing."""
    row = frame.iloc[i]
    keys = [c for c in ("contrast", "term", *frame.columns[: list(frame.columns).index("estimate")]) if c in frame]
    said = [str(row[c]) for c in dict.fromkeys(keys) if c != "quantity" and row[c] == row[c] and str(row[c]) != ""]
    return said[0] if said else rows[i].header


@style.house
def forest(
    frame: pd.DataFrame,
    *,
    label: str = "contrast",
    panel: str | None = None,
    xlabel: str = "",
    log: bool = False,
    null: float | None = None,
    digits: int | None = None,
    level: float = 0.95,
    favours: tuple[str, str] | None = None,
    pooled: str | None = None,
    head: str = "Estimate",
    ax: Any = None,
) -> Any:
    """Draw one row per estimate.

    Parameters
    ----------
    frame : columns `label`, ``estimate conf_low conf_high``; a column ``truth`` is drawn as a cross
    panel : column whose values head groups of rows (a visit, a stratum)
    log : draw on a logarithmic axis (ratios); the line of no effect is then at 1
    null : where there is no effect; NaN draws no line (means)
    favours : words under the left and the right side of the line of no effect
    pooled : label of the row that sums up the others: a diamond below them, its prediction interval
        (``pred_low pred_high``) as a thin line; the others are squares whose area is their ``weight``
    head : words above the printed numbers
    """
    if pooled is not None:
        frame = frame.iloc[np.argsort(frame[label].eq(pooled).to_numpy(), kind="stable")]
    rows = _rows(frame, label, panel)
    null = (1.0 if log else 0.0) if null is None else null
    digits = (2 if log or _small(frame) else 1) if digits is None else digits
    known = "truth" in frame and bool(frame["truth"].notna().any())
    ax = style.axes(ax, 5.2, _height(len(rows)))
    looks = style.marks(_treated(text) for text, row in rows if row is not None)
    if log:
        ax.set_xscale("log")
    if np.isfinite(null):
        ax.axvline(null, color=style.MUTED, lw=0.9, zorder=1)
    if pooled is not None:
        looks = dict.fromkeys(looks, style.Mark(style.ROUTES["INTRAVENOUS"][0].colour, style.MUTED, "s"))
    for y, (text, row) in enumerate(rows):
        _row(ax, y, text, row, looks, digits, diamond=pooled is not None and text == pooled)
    _frame(ax, len(rows), xlabel or ("Ratio" if log else "Difference"), level, favours, known, head)
    return ax


def _small(frame: pd.DataFrame) -> bool:
    """Whether one decimal would say too little: proportions and their differences."""
    sizes = np.abs(frame[["estimate", "conf_low", "conf_high"]].to_numpy(dtype=float))
    return bool(sizes[np.isfinite(sizes)].max(initial=0.0) < 2.0)


def _rows(frame: pd.DataFrame, label: str, panel: str | None) -> list[tuple[str, Any]]:
    """(text, row) pairs from top to bottom; headings have no row."""
    if panel is None:
        return [(_text(label, row[label]), row) for _, row in frame.iterrows()]
    made: list[tuple[str, Any]] = []
    for value in dict.fromkeys(frame[panel]):
        made.append((style.name(_text(panel, value)), None))
        made += [(_text(label, row[label]), row) for _, row in frame[frame[panel] == value].iterrows()]
    return made


def _text(column: str, value: Any) -> str:
    """The words of a label or heading; a bare number says of what it is."""
    return f"{column} {value:g}" if isinstance(value, (int, float, np.number)) else str(value)


def _is_count(column: str) -> bool:
    return column in ("n", "k") or column.startswith("n_")


def height(frame: pd.DataFrame, panel: str | None = None) -> float:
    """Inches that a forest of `frame` needs."""
    return _height(len(frame) + (frame[panel].nunique() if panel else 0))


def _height(rows: int) -> float:
    return 0.7 + 0.2 * max(rows, 2)


def _treated(text: str) -> str:
    """The first side of "KAP - Placebo" or "KAP - low / Placebo": all before the last sign."""
    for sign in (" - ", " / ", " vs "):
        if sign in text:
            return text.rsplit(sign, 1)[0].strip()
    return text


def _row(
    ax: Any, y: int, text: str, row: Any, looks: dict[Any, style.Mark], digits: int, *, diamond: bool = False
) -> None:
    beside = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center", "fontsize": 8.5}
    if row is None:
        ax.annotate(text, (0, y), (-8, 0), ha="right", fontweight="bold", **beside)
        return
    look = looks[_treated(text)]
    ax.annotate(style.name(text), (0, y), (-8, 0), ha="right", **beside)
    estimate, low, high = (float(row[c]) for c in ("estimate", "conf_low", "conf_high"))
    if not np.isfinite(estimate):
        ax.annotate("not estimable", (1, y), (8, 0), ha="left", color=style.MUTED, **beside)
        return
    if diamond:
        _diamond(ax, y, row)
    else:
        weight = float(row["weight"]) if "weight" in row and row["weight"] == row["weight"] else np.nan
        size = 5.5 if np.isnan(weight) else 2.5 + 1.1 * np.sqrt(weight)
        ax.plot([low, high], [y, y], color=look.colour, lw=1.5, solid_capstyle="butt")
        ax.plot([estimate], [y], color=look.colour, marker=look.marker, ms=size)
    if "truth" in row and row["truth"] == row["truth"]:
        ax.plot([float(row["truth"])], [y], marker="x", mew=1.3, ms=6, color=style.INK, zorder=5)
    ax.annotate(f"{number(estimate, digits)} {interval(low, high, digits)}", (1, y), (8, 0), ha="left", **beside)


def _diamond(ax: Any, y: int, row: Any) -> None:
    """The pooled estimate from limit to limit, and where the effect of a new study is expected."""
    if "pred_low" in row and np.isfinite(float(row["pred_low"])):
        ax.plot([float(row["pred_low"]), float(row["pred_high"])], [y, y], color=style.INK, lw=0.9, ls=":")
    low, middle, high = (float(row[c]) for c in ("conf_low", "estimate", "conf_high"))
    ax.fill([low, middle, high, middle], [y, y - 0.28, y, y + 0.28], color=style.INK, lw=0, zorder=3)
    ax.axhline(y - 0.5, color=style.MUTED, lw=0.6)


def _frame(ax: Any, n: int, xlabel: str, level: float, favours: tuple[str, str] | None, known: bool, head: str) -> None:
    ax.set_ylim(n - 0.4, -0.9)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.grid(visible=False, axis="y")
    if ax.get_xscale() == "log":
        _plain_ticks(ax)
    else:
        ax.locator_params(axis="x", nbins=6, steps=[1, 2, 5, 10])
    ax.set_xlabel(f"{xlabel} ({100 * level:g}% CI)")
    if known:
        style.truth_key(ax)
    ax.annotate(
        f"{head} ({100 * level:g}% CI)",
        (1, -0.75),
        (8, 0),
        ("axes fraction", "data"),
        "offset points",
        va="center",
        fontsize=8,
        color=style.MUTED,
    )
    if favours:
        for side, text in zip((0, 1), favours, strict=True):
            ax.annotate(
                text, (side, 0), (0, -38), "axes fraction", "offset points", ha=("left", "right")[side], fontsize=8,
                color=style.MUTED,
            )  # fmt: skip


def _plain_ticks(ax: Any) -> None:
    """1, 2, 5 steps written as plain numbers on a logarithmic axis."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

    low, high = ax.get_xlim()
    marks = (1, 2, 5) if high < 2000 * low else (1,)
    steps = [m * 10.0**k for k in range(-4, 5) for m in marks]
    ax.xaxis.set_major_locator(FixedLocator([s for s in steps if low <= s <= high]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
