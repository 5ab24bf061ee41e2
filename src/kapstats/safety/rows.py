"""Counts in, rows out: scalars, arrays or columns become float arrays of one length, checked, in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kapstats import estimates, frames
from kapstats._types import BoolArray, FloatArray
from kapstats.errors import DataError, FormulaError, choose, first_ids, warn
from kapstats.estimates import Estimates
from kapstats.inference.intervals import check_level

SIDES = ("two", "less", "greater")


def arrays(data: Any = None, **columns: Any) -> tuple[list[FloatArray], str]:
    """Each argument as a float array of the common length, and the caller's kind of table.

    A text argument names a column of `data`. Missing values become NaN; anything that is no number is an error.
    """
    frame = None if data is None else frames.to_pandas(data)
    values = [_values(frame, name, column) for name, column in columns.items()]
    sizes = {len(v) for v in values if len(v) != 1}
    if len(sizes) > 1:
        lengths = ", ".join(f"{name} {len(v)}" for name, v in zip(columns, values, strict=True))
        raise DataError(f"The columns differ in length ({lengths}). Give one value per row, or one value for all rows.")
    size = sizes.pop() if sizes else 1
    kinds = [frames.kind(c) for c in (data, *columns.values())]
    kind = next((k for k in kinds if k != "pandas"), "pandas")
    return [np.broadcast_to(v, (size,)).astype(float) for v in values], kind


def _values(frame: pd.DataFrame | None, name: str, column: Any) -> FloatArray:
    if isinstance(column, str):
        if frame is None:
            raise FormulaError(f"{name}={column!r} names a column, but there is no table: add data=.")
        frames.require(frame, [column])
        name, column = column if column == name else f"{name} ({column})", frame[column]
    if hasattr(column, "to_pylist"):
        column = column.to_pylist()
    series = pd.Series(np.atleast_1d(np.asarray(column, dtype="object")).ravel())
    numbers = pd.to_numeric(series, errors="coerce")
    wrong = numbers.isna() & series.notna()
    if wrong.any():
        raise DataError(f"{name}: {int(wrong.sum())} values are no numbers ({first_ids(series[wrong])}).")
    if np.isinf(numbers.astype(float)).any():
        raise DataError(f"{name}: {int(np.isinf(numbers.astype(float)).sum())} values are infinite.")
    return numbers.to_numpy(dtype=float)


def check_counts(**counts: FloatArray) -> BoolArray:
    """Rows without missing values; counts that are negative or not whole are an error that names the rows."""
    for name, values in counts.items():
        _reject(name, values, values < 0, "negative")
        _reject(name, values, np.isfinite(values) & (values != np.round(values)), "not whole numbers")
        _reject(name, values, np.isinf(values), "infinite")
    return np.asarray(~np.isnan(np.stack(list(counts.values()))).any(axis=0), dtype=np.bool_)


def check_within(x: FloatArray, n: FloatArray, names: tuple[str, str]) -> None:
    """More events than subjects is an error that names the rows."""
    _reject(names[0], x, x > n, f"larger than {names[1]}")


def check_time(name: str, t: FloatArray) -> None:
    """Time at risk has to be finite and not negative."""
    _reject(name, t, (t < 0) | np.isinf(t), "negative or infinite")


def _reject(name: str, values: FloatArray, wrong: BoolArray, what: str) -> None:
    if np.any(wrong):
        rows = np.flatnonzero(wrong)
        shown = first_ids(f"row {row}: {values[row]:g}" for row in rows)
        raise DataError(f"{name}: {rows.size} values are {what} ({shown}). Counts are whole numbers, 0 <= x <= n.")


def check_side(side: str, level: float) -> float:
    """Probability of each tail that the interval leaves out."""
    choose(side, SIDES, "side")
    level = check_level(level)
    return (1 - level) / 2 if side == "two" else 1 - level


def warn_missing(known: BoolArray, empty: BoolArray | None = None) -> list[str]:
    """Warnings for rows with missing counts or empty groups, which stay in the result as NaN."""
    texts = []
    if not known.all():
        texts.append(f"{int((~known).sum())} of {known.size} rows have missing counts: their results are NaN.")
    if empty is not None and np.any(empty & known):
        texts.append(f"{int((empty & known).sum())} of {known.size} rows have an empty group (n = 0): NaN.")
    for text in texts:
        warn(text)
    return texts


def one_sided(
    low: FloatArray, high: FloatArray, side: str, space: tuple[float, float]
) -> tuple[FloatArray, FloatArray]:
    """The limit that a one-sided interval does not have becomes the edge of the parameter space."""
    if side == "greater":
        high = np.where(np.isnan(low), np.nan, space[1])
    if side == "less":
        low = np.where(np.isnan(high), np.nan, space[0])
    return low, high


def result(
    columns: Mapping[str, FloatArray],
    whole: Sequence[str],
    *,
    title: str,
    method: str,
    level: float,
    side: str,
    kind: str,
    warnings: Sequence[str] = (),
    **more: Any,
) -> Estimates:
    """An `Estimates` with `whole` columns as integers where nothing is missing."""
    frame = pd.DataFrame(dict(columns))
    for name in whole:
        if not frame[name].isna().any():
            frame[name] = frame[name].astype(np.int64)
    sided = "two-sided" if side == "two" else "one-sided"
    size = f"{len(frame)} row{'s' * (len(frame) != 1)}"
    sentence = f"{title}: {method}, {100 * level:g}% {sided}; {size}"
    description = estimates.meta(
        method=method,
        level=level,
        side=side,
        title=title,
        sentence=sentence,
        warnings=warnings,
        data=frame,
        frame_kind=kind,
        **more,
    )
    return Estimates(frame, description)
