"""The rows of a result as a `Table`: which columns, under which words, with how many digits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from kapstats import scales
from kapstats.table import MISSING, Table, number, p_value

#: header, cells, alignment
Cells = tuple[str, list[str], str]
NUMERIC = ("estimate", "std_error", "df", "statistic", "p_value", "conf_low", "conf_high")
#: lower limit -> upper limit, and what the two are (the level goes before it)
INTERVALS = {
    "conf_low": ("conf_high", "CI"),
    "pred_low": ("pred_high", "prediction interval"),
    "prop_low": ("prop_high", "CI of the proportion"),
}
UPPER = {high: low for low, (high, _) in INTERVALS.items()}
HEADERS = {
    "std_error": "SE",
    "df": "df",
    "statistic": "Statistic",
    "contrast": "Contrast",
    "conf_low": "Lower limit",
    "conf_high": "Upper limit",
    "rule_of_three": "Rule of three",
    "p_adjusted": "Adjusted p",
    "p_score": "P-score",
    "zph_p": "PH p",
    "weight": "Weight (%)",
    "proportion": "Proportion",
}
RATIO_NOTE = "Printed as ratios; to_frame() has their logs, of which statistics and p values are."


def table(
    frame: pd.DataFrame,
    meta: Mapping[str, Any],
    digits: int = 2,
    title: str | None = None,
    columns: Iterable[str] | None = None,
) -> Table:
    """The rows under their words: limits in one column, ratios as ratios, missing numbers as NE.

    ``meta["verbatim"]``: columns shown as they were given; ``meta["blank"]``: columns (True: all) where an absent
    number is left blank, because there was nothing to estimate.
    """
    rows = scales.of(frame, meta)
    ready = scales.shown(frame, rows, meta.get("ratio_names"))
    ready = ready if columns is None else ready[list(columns)]
    built = [_column(ready, name, digits, meta, rows) for name in ready.columns]
    shown = _distinct([(name, c) for name, c in zip(ready.columns, built, strict=True) if c is not None])
    return Table(
        columns=tuple(header for header, _, _ in shown),
        rows=tuple(zip(*(cells for _, cells, _ in shown), strict=True)),
        title=str(meta.get("title", "")) if title is None else title,
        footnotes=tuple(note for note in _footnotes(meta, rows, ready) if note),
        align=tuple(side for _, _, side in shown),
    )


def cells(frame: pd.DataFrame, name: str, digits: int, level: float | None) -> list[str] | None:
    """The texts of one column as it stands, None where it is part of another or empty."""
    found = _column(frame, name, digits, {"level": level}, scales.of(frame, {}))
    return None if found is None else found[1]


def _footnotes(meta: Mapping[str, Any], rows: list[scales.Scale], frame: pd.DataFrame) -> list[str]:
    """The model sentence, the scales that need saying, conventions and warnings."""
    said = [str(meta.get("sentence", ""))]
    said += [RATIO_NOTE] if any(s.exponentiated for s in rows) else []
    if meta.get("measure") and scales.common(rows) is None:
        for column, measures in dict(meta.get("measures") or {}).items():
            there = set(frame[column]) if column in frame else set()
            said += [f"{value}: {scales.named(measure)}." for value, measure in measures.items() if value in there]
    return [*said, *map(str, meta.get("conventions", ())), *map(str, meta.get("warnings", ()))]


def _column(
    frame: pd.DataFrame, name: str, digits: int, meta: Mapping[str, Any], rows: list[scales.Scale]
) -> Cells | None:
    """Header, cells and alignment of one column; a lower limit stands for the interval where both limits are there."""
    values, blank = frame[name], meta.get("blank", ())
    gap = "" if blank is True or (blank and name in blank) else MISSING
    if name in UPPER and UPPER[name] in frame:
        return None
    show = _formatter(frame, name, digits, gap, name in meta.get("verbatim", ()))
    texts = [show(v) for v in values]
    if name in INTERVALS and INTERVALS[name][0] in frame:
        high, words = INTERVALS[name]
        if gap == "" and frame[[name, high]].isna().all(axis=None):
            return None
        level = meta.get("level")
        header = f"{100 * level:g}% {words}" if level else words
        return header, [_interval(a, show(b)) for a, b in zip(texts, frame[high], strict=True)], "right"
    if name == "df" and _all_infinite(values):
        return None
    if name == "estimate":
        return scales.header(rows, meta), texts, "right"
    header = HEADERS.get(name, _words_of_p(name) if _is_p(name) else name)
    if name == "std_error" and _of_log(rows, meta):
        header = "SE of log"
    is_number = pd.api.types.is_numeric_dtype(values.dtype) and name != "term"
    return header, texts, "right" if is_number or name in NUMERIC else "left"


def _of_log(rows: list[scales.Scale], meta: Mapping[str, Any]) -> bool:
    """Whether the standard error beside shown ratios is that of their log."""
    return any(s.is_ratio and (s.exponentiated or meta.get("error_scale") == "log") for s in rows)


def _interval(low: str, high: str) -> str:
    return f"({low}, {high})" if low or high else ""


def _is_p(name: str) -> bool:
    return name.startswith("p_value") or name.endswith(("p_value", "_p")) or name == "p_adjusted"


def _words_of_p(name: str) -> str:
    """ "p" for ``p_value``, "Interaction p" for ``interaction_p_value``."""
    words = name.replace("p_value", "p").replace("_", " ").strip()
    return words if words == "p" else words[:1].upper() + words[1:]


def _all_infinite(values: pd.Series) -> bool:
    known = pd.to_numeric(values, errors="coerce").to_numpy(dtype=float)
    return not (np.isfinite(known).any() or values.map(lambda v: isinstance(v, str)).any())


def _formatter(frame: pd.DataFrame, name: str, digits: int, gap: str, verbatim: bool) -> Callable[[Any], str]:
    """How a cell of the column becomes text; text stays as it is, whatever the column."""
    values = frame[name]
    is_float = pd.api.types.is_float_dtype(values.dtype)
    as_number = _number_format(frame, name, digits) if is_float and not verbatim else _shortest
    plain = not verbatim and (_is_p(name) or is_float)

    def show(value: Any) -> str:
        if isinstance(value, str):
            return value
        if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
            return gap if plain or name in (*NUMERIC, *INTERVALS, *UPPER) else ""
        return p_value(float(value)) if _is_p(name) and not verbatim else as_number(value)

    return show


def _number_format(frame: pd.DataFrame, name: str, digits: int) -> Callable[[Any], str]:
    """Statistics with fixed decimals, what identifies a row (times, visit numbers) in its shortest form."""
    columns = list(frame.columns)
    if name in ("df", "std_error"):
        decimals = 1 if name == "df" else digits + 1
    elif name in (*NUMERIC, *INTERVALS, *UPPER, "rule_of_three") or name.startswith("num_"):
        decimals = digits
    elif "estimate" in columns and columns.index(name) > columns.index("estimate"):
        decimals = _decimals(frame[name].to_numpy(dtype=float), digits)
    else:
        return _short
    return lambda value: number(float(value), decimals)


def _decimals(values: np.ndarray[Any, Any], digits: int) -> int:
    """None for whole numbers; else `digits`, and more where the smallest value would lose its second digit."""
    known = np.abs(values[np.isfinite(values) & (values != 0)])
    if not known.size or (known % 1 == 0).all():
        return 0
    return int(min(6, max(digits, digits - 1 - math.floor(math.log10(known.min())))))


def _short(value: Any) -> str:
    return number(float(value), 0) if abs(value) >= 1e6 else f"{value:g}"


def _shortest(value: Any) -> str:
    """A number as it was given: whole ones without their point."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else str(value)


def _distinct(columns: list[tuple[str, Cells]]) -> list[Cells]:
    """No two columns under the same words."""
    seen: set[str] = set()
    found = []
    for name, (header, texts, side) in columns:
        header = header if header not in seen else f"{header} ({name})"
        seen.add(header)
        found.append((header, texts, side))
    return found
