"""Expressions of a formula over the columns of a frame: a whitelist over the syntax tree, never run as code."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable
from functools import lru_cache, reduce
from typing import Any

import numpy as np
import pandas as pd

from kapstats import frames
from kapstats._types import FloatArray, IntArray
from kapstats.errors import DataError, FormulaError, first_ids, nearest

FACTOR_CALLS = ("C", "factor")
BASES = ("poly", "bs", "ns", "cr")

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "I": lambda x: x,
    "log": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "log1p": np.log1p,
    "exp": np.exp,
    "sqrt": np.sqrt,
    "abs": np.abs,
    "floor": np.floor,
    "ceil": np.ceil,
}


_BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.Pow: np.power,
    ast.Mod: np.mod,
    ast.BitAnd: np.logical_and,
    ast.BitOr: np.logical_or,
}


_COMPARE: dict[type, Callable[[Any, Any], Any]] = {
    ast.Eq: lambda a, b: a == b,
    ast.NotEq: lambda a, b: a != b,
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
}


def evaluate(expression: str, frame: pd.DataFrame) -> FloatArray:
    """The number column that `expression` says; comparisons and booleans become 0/1.

    Missing inputs stay missing. A row that is complete but whose value is not finite is an error.

    Parameters
    ----------
    expression : a column name, or arithmetic, comparisons, log exp sqrt abs floor ceil and I() of columns

    Examples
    --------
    >>> import pandas as pd
    >>> evaluate("CNSR == 0", pd.DataFrame({"CNSR": [0, 1]})).tolist()
    [1.0, 0.0]
    """
    tree, names = syntax(expression, tuple(map(str, frame.columns)))
    frames.require(frame, names)
    missing = frame[list(names)].isna().any(axis=1).to_numpy() if names else np.zeros(len(frame), dtype=bool)
    with np.errstate(all="ignore"):
        try:
            value = number(walk(tree, frame, expression), expression)
        except RecursionError as error:
            raise FormulaError(f"{expression[:60]!r} ... is nested too deeply to be evaluated.") from error
    result = np.broadcast_to(np.asarray(value, dtype=float), (len(frame),)).copy()
    result[missing] = np.nan
    bad = np.flatnonzero(~missing & ~np.isfinite(result))
    if len(bad):
        raise DataError(
            f"{expression}: {len(bad)} complete rows give no finite number (first rows {first_ids(bad)}). "
            "Correct or leave out these rows."
        )
    return result


def columns_in(expression: str, known: Iterable[str] = ()) -> tuple[str, ...]:
    """The column names in `expression`, in order of appearance."""
    return syntax(expression, tuple(map(str, known)))[1]


@lru_cache(maxsize=512)
def syntax(expression: str, known: tuple[str, ...]) -> tuple[ast.AST, tuple[str, ...]]:
    """Syntax tree with every column as a Name, and the column names; backticks protect any name."""
    text = expression.strip()
    if text in known:
        return ast.Name(id=text), (text,)
    quoted: dict[str, str] = {}

    def protect(match: re.Match[str]) -> str:
        quoted[f"_column{len(quoted)}_"] = match.group(1)
        return f"_column{len(quoted) - 1}_"

    text = re.sub(r"`([^`]+)`", protect, text).replace("^", "**")
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise FormulaError(f"{expression!r} cannot be read as an expression. Put odd names in backticks.") from error
    calls = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and id(node) not in calls:
            node.id = quoted.get(node.id, node.id)
            names.append((node.lineno, node.col_offset, node.id))
    return tree, tuple(dict.fromkeys(name for _, _, name in sorted(names)))


def walk(node: ast.AST, frame: pd.DataFrame, text: str) -> Any:
    """Evaluate one whitelisted node; anything else is refused."""
    if isinstance(node, ast.Name):
        frames.require(frame, [node.id])
        return frame[node.id]
    if isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float, str)):
        return np.float64(node.value) if isinstance(node.value, (int, float)) else node.value
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        return _BINARY[type(node.op)](*(number(walk(n, frame, text), text) for n in (node.left, node.right)))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        return number(walk(node.operand, frame, text), text) * (-1.0 if isinstance(node.op, ast.USub) else 1.0)
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARE:
        return _compare(node, frame, text)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords and len(node.args) == 1:
        if node.func.id in _FUNCTIONS:
            return _FUNCTIONS[node.func.id](number(walk(node.args[0], frame, text), text))
        known = [*_FUNCTIONS, *BASES, *FACTOR_CALLS]
        raise FormulaError(
            f"{text}: function {node.func.id!r} is not allowed.{nearest(node.func.id, known)} "
            f"Known: {', '.join(known)}."
        )
    allowed = "columns, numbers, + - * / ** %, comparisons, " + " ".join([*_FUNCTIONS, *BASES])
    raise FormulaError(f"{text}: only {allowed} may stand in an expression.")


def _compare(node: ast.Compare, frame: pd.DataFrame, text: str) -> Any:
    left, right = walk(node.left, frame, text), walk(node.comparators[0], frame, text)
    left, right = (x.astype("object") if _is_category(x) else x for x in (left, right))
    kinds = {isinstance(x, str) or (isinstance(x, pd.Series) and not is_numeric(x)) for x in (left, right)}
    if len(kinds) == 2:
        raise FormulaError(f"{text}: compares text with a number. Write text in quotes, numbers without.")
    return _COMPARE[type(node.ops[0])](left, right)


def _is_category(x: Any) -> bool:
    return isinstance(x, pd.Series) and isinstance(x.dtype, pd.CategoricalDtype)


def is_numeric(values: pd.Series) -> bool:
    """Whether a column holds numbers or booleans; categories of numbers are factors."""
    return pd.api.types.is_numeric_dtype(values.dtype) and not _is_category(values)


def number(value: Any, text: str) -> Any:
    """`value` as numbers for arithmetic; text and dates are refused with the remedy."""
    if isinstance(value, str):
        raise FormulaError(f"{text}: the text {value!r} stands where a number is needed.")
    return _as_number(value, text) if isinstance(value, pd.Series) else value


def _as_number(values: pd.Series, text: str) -> FloatArray:
    if not is_numeric(values):
        dated = values.dtype.kind in "mM"
        remedy = (
            "Subtract a start date and give days, such as (date - start).dt.days."
            if dated
            else f"Convert it with pandas.to_numeric, or compare it with a label, such as {values.name} == 'Y'."
        )
        raise DataError(
            f"{text}: column {values.name!r} holds {'dates' if dated else 'text'} "
            f"({first_ids(values.dropna(), 3)}), not numbers. {remedy}"
        )
    return values.to_numpy(dtype=float, na_value=np.nan)


def offsets(terms: Iterable[str], frame: pd.DataFrame) -> FloatArray:
    """Sum (n,) of the offsets of a formula, zero without one.

    Examples
    --------
    >>> offsets(["x", "2 * x"], pd.DataFrame({"x": [1.0, 2.0]})).tolist()
    [3.0, 6.0]
    """
    return np.asarray(np.sum([np.zeros(len(frame)), *(evaluate(term, frame) for term in terms)], axis=0))


def complete_rows(frame: pd.DataFrame, expressions: Iterable[str]) -> tuple[IntArray, dict[str, int]]:
    """Positions of the rows in which no column of `expressions` is missing, and the missing count of each column.

    Only columns with missing values are in the count.

    Examples
    --------
    >>> import pandas as pd
    >>> rows, missing = complete_rows(pd.DataFrame({"y": [1.0, None], "x": [1, 2]}), ["y", "log(x)"])
    >>> rows.tolist(), missing
    ([0], {'y': 1})
    """
    names = list(dict.fromkeys(name for e in expressions for name in columns_in(e, map(str, frame.columns))))
    frames.require(frame, names)
    frames.refuse_containers(frame, names)
    absent = {name: frame[name].isna().to_numpy() for name in names}
    lost = reduce(np.logical_or, absent.values(), np.zeros(len(frame), dtype=bool))
    return np.flatnonzero(~lost), {name: int(a.sum()) for name, a in absent.items() if a.any()}
