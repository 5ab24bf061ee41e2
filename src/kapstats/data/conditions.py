"""Conditions on rows, written as text: a column, a sign, a value. Read by a pattern, never run as code."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from kapstats import frames
from kapstats._types import BoolArray
from kapstats.data.flags import is_flag, is_yes, letters
from kapstats.errors import DataError, FormulaError, first_ids, nearest

_CONDITION = re.compile(r"\s*\(?\s*([A-Za-z_]\w*)\s*(==|!=|<=|>=|<|>|\bnot in\b|\bin\b|\bis\b)\s*(.+?)\s*$")
_SIGNS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def split(where: str) -> list[str]:
    """The conditions that are joined by ``and`` (or ``&``), outside of quotes.

    Examples
    --------
    >>> split("AESEV in ['SEVERE'] and AETERM == 'salt and pepper'")
    ["AESEV in ['SEVERE']", "AETERM == 'salt and pepper'"]
    """
    parts, quote, start = [], "", 0
    for match in re.finditer(r"""['"]|\s+and\s+|\s*&\s*""", where):
        found = match[0]
        if found in "'\"":
            quote = "" if found == quote else (quote or found)
        elif not quote:
            parts.append(where[start : match.start()])
            start = match.end()
    return [part.strip() for part in [*parts, where[start:]]]


def column_of(condition: str) -> str:
    """The column that a condition is about."""
    return _read(condition)[0]


def holds(frame: pd.DataFrame, condition: str, name: str = "data", *, known: bool = True) -> BoolArray:
    """Where a condition holds, (rows,); comparisons with a missing value are false.

    known : refuse an equality, or a list, that no row meets, since it is more likely misspelt than meant

    Examples
    --------
    >>> frame = pd.DataFrame({"AVISITN": [0, 7, 14], "DTYPE": ["", "LOCF", None]})
    >>> holds(frame, "AVISITN > 0").tolist(), holds(frame, "DTYPE is missing").tolist()
    ([False, True, True], [True, False, True])
    """
    column, sign, right = _read(condition)
    frames.require(frame, [column], name)
    values = frame[column]
    if is_flag(column) and re.search("""['"][YN]['"]""", right):
        is_yes(values, f"{name}.{column}", frame["USUBJID"] if "USUBJID" in frame.columns else None)
        values = letters(values)
    absent = values.isna().to_numpy() | values.astype("string").fillna("").str.strip().eq("").to_numpy(dtype=bool)
    if sign == "is":
        return _is_missing(right, absent, condition)
    wanted = _literal(right, condition)
    if sign in ("in", "not in"):
        inside = _inside(values, wanted, condition)
        if known and sign == "in" and not inside.any():
            for one in [text for text in wanted if isinstance(text, str)][:1]:
                _check_known(values, one, condition, absent)
        return (inside if sign == "in" else ~inside) & ~absent
    found = _compare(values, sign, wanted, condition)
    if known and sign == "==" and isinstance(wanted, str) and not pd.api.types.is_datetime64_any_dtype(values.dtype):
        _check_known(values, wanted, condition, absent)
    return found & ~absent


def _read(condition: str) -> tuple[str, str, str]:
    match = _CONDITION.match(condition)
    if match is None:
        remedy = "write COLUMN == 'value', COLUMN > 0, COLUMN in [..] or COLUMN is missing."
        raise FormulaError(f"Condition {condition!r} cannot be read: {remedy}")
    column, sign, right = match.groups()
    return column, sign, right[:-1].rstrip() if condition.lstrip().startswith("(") and right.endswith(")") else right


def _is_missing(right: str, absent: BoolArray, condition: str) -> BoolArray:
    if right not in ("missing", "not missing"):
        raise FormulaError(f"Condition {condition!r}: 'is' is followed by 'missing' or 'not missing'.")
    return absent if right == "missing" else ~absent


def _literal(text: str, condition: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise FormulaError(f"Condition {condition!r}: {text!r} is not a value; put text in quotes.") from None


def _inside(values: pd.Series, wanted: Any, condition: str) -> BoolArray:
    if not isinstance(wanted, list | tuple | set):
        raise FormulaError(f"Condition {condition!r}: 'in' is followed by a list, as in ['Week 8', 'Week 16'].")
    return values.isin(list(wanted)).to_numpy(dtype=bool)


def _compare(values: pd.Series, sign: str, wanted: Any, condition: str) -> BoolArray:
    if isinstance(wanted, str) and pd.api.types.is_datetime64_any_dtype(values.dtype):
        return _dated(values, sign, wanted, condition)
    if isinstance(wanted, str) and sign in ("==", "!="):
        return np.asarray(_SIGNS[sign](values.astype("string").fillna("").to_numpy(dtype=str), wanted), dtype=bool)
    if isinstance(wanted, bool) or not isinstance(wanted, int | float):
        raise FormulaError(f"Condition {condition!r}: compare with a number, or use == or != with text.")
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=float)
    if values.notna().any() and not np.isfinite(numbers).any():
        raise DataError(f"Condition {condition!r}: {values.name} holds text and cannot be compared with a number.")
    return np.asarray(_SIGNS[sign](numbers, float(wanted)) & np.isfinite(numbers), dtype=bool)


def _dated(values: pd.Series, sign: str, wanted: str, condition: str) -> BoolArray:
    try:
        moment = pd.Timestamp(wanted)
    except ValueError:
        raise FormulaError(f"Condition {condition!r}: write a date as '2024-03-01'.") from None
    return np.asarray(_SIGNS[sign](values, moment), dtype=bool)


def _check_known(values: pd.Series, wanted: str, condition: str, absent: BoolArray) -> None:
    known = [str(v) for v in pd.unique(values[~absent])]
    if wanted not in known:
        raise DataError(
            f"Condition {condition!r}: no row has it.{nearest(wanted, known)} There are: {first_ids(known)}."
        )
