"""Two outputs side by side: the check of double programming."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from kapstats import estimates, frames
from kapstats._types import BoolArray
from kapstats.display import NUMERIC
from kapstats.errors import DataError, nearest
from kapstats.estimates import Estimates

COLUMNS = ("table", "row", "column", "first", "second", "difference")
#: text columns that say something about a row but do not identify it
REMARKS = ("warning", "method", "sentence")


def compare(first: str | Path, second: str | Path, *, tolerance: float = 1e-8) -> Estimates:
    """Every number, text or row in which two outputs differ.

    Parameters
    ----------
    first : folder that `run` wrote
    second : another one, or a CSV file of expected values with a column ``table`` (``madrs-differences``), columns that
        identify rows as in the results, and any of their numbers
    tolerance : two numbers are equal when they differ by no more than this, absolutely or relative to the larger

    Returns
    -------
    Estimates
        One row per difference: table, row, column, first, second, difference; none when the outputs agree.
        ``.meta["compared"]`` counts the numbers compared.

    Raises
    ------
    DataError
        When there is nothing to compare: no such folder, no results in it, a table or column of the expected values
        that the results do not have.
    """
    ours, theirs = _tables(Path(first)), _tables(Path(second))
    expected = Path(second).is_file()
    names = list(theirs) if expected else list(dict.fromkeys([*ours, *theirs]))
    if expected and (missing := [n for n in names if n not in ours]):
        raise DataError(f"{first} has no table {missing[0]!r}.{nearest(missing[0], ours)} It has: {', '.join(ours)}.")
    rows: list[tuple[object, ...]] = []
    compared = 0
    for name in names:
        if name not in ours or name not in theirs:
            there = [str(len(tables[name])) + " rows" if name in tables else "absent" for tables in (ours, theirs)]
            rows.append((name, "", "", *there, np.nan))
            continue
        if expected:
            frames.require(ours[name], theirs[name].columns, f"table {name}")
        found, count = _differences(name, ours[name], theirs[name], tolerance, partial=expected)
        rows, compared = rows + found, compared + count
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    within = "table" if len(names) == 1 else "tables"
    found_said = "1 difference" if len(frame) == 1 else f"{len(frame)} differences"
    said = f"{compared} numbers in {len(names)} {within} compared, {found_said} (tolerance {tolerance:g})."
    description = estimates.meta(method="comparison", level=None, title="Differences", sentence=said, compared=compared)
    return Estimates(frame, description)


def _tables(path: Path) -> dict[str, pd.DataFrame]:
    """Name -> table, of a folder of results or a file of expected values."""
    if path.is_file():
        whole = _read(path)
        frames.require(whole, ["table"], path.name)
        parts = {str(name): part.drop(columns="table") for name, part in whole.groupby("table", sort=False)}
        return {name: part.dropna(axis="columns", how="all").reset_index(drop=True) for name, part in parts.items()}
    folder = path / "results"
    files = [p for p in sorted(folder.glob("*.csv")) if p.name != "ard.csv"] if folder.is_dir() else []
    if not files:
        raise DataError(f"{path} is no output of kapstats run: it has no results/*.csv.")
    return {p.stem: _read(p) for p in files}


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, na_values=["NE"])
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as CSV: {error}.") from error


def _differences(
    name: str, ours: pd.DataFrame, theirs: pd.DataFrame, tolerance: float, *, partial: bool
) -> tuple[list[tuple[object, ...]], int]:
    keys = _keys(ours, theirs)
    a, b = _indexed(ours, keys), _indexed(theirs, keys)
    rows: list[tuple[object, ...]] = []
    rows += [(name, _label(k), "", "absent", "present", np.nan) for k in b.index.difference(a.index, sort=False)]
    if not partial:
        rows += [(name, _label(k), "", "present", "absent", np.nan) for k in a.index.difference(b.index, sort=False)]
        rows += [
            (name, "", c, *("present" if c in t else "absent" for t in (a, b)), np.nan)
            for c in a.columns.symmetric_difference(b.columns)
        ]
    both = a.index.intersection(b.index, sort=False)
    columns = [c for c in a.columns if c in b.columns]
    for column in columns:
        rows += _unequal(name, column, a.loc[both, column], b.loc[both, column], tolerance)
    return rows, len(both) * len(columns)


def _keys(ours: pd.DataFrame, theirs: pd.DataFrame) -> list[str]:
    """Columns that identify rows: text in both, and the numbers that are keys."""
    shared = [c for c in ours.columns if c in theirs.columns]
    numeric = {c for c in shared if pd.api.types.is_numeric_dtype(ours[c]) or pd.api.types.is_numeric_dtype(theirs[c])}
    return [
        c for c in shared if (c not in numeric and c not in (*NUMERIC, *REMARKS)) or c in ("time", "quantile", "tau")
    ]


def _indexed(frame: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """`frame` by its keys; rows with the same keys are numbered."""
    named = pd.Series("", index=frame.index, dtype="object")
    for key in keys:
        cells = frame[key].map(lambda v: f"{v:g}" if isinstance(v, float) and v == v else "" if v != v else str(v))
        named = named + key + "=" + cells.astype("object") + "; "
    order = named.groupby(named).cumcount()
    return frame.drop(columns=keys).set_index(pd.Index(list(zip(named, order, strict=True)), tupleize_cols=False))


def _label(key: tuple[str, int]) -> str:
    return key[0].removesuffix("; ") + (f" (number {key[1] + 1})" if key[1] else "")


def _unequal(name: str, column: str, a: pd.Series, b: pd.Series, tolerance: float) -> list[tuple[object, ...]]:
    if pd.api.types.is_numeric_dtype(a) and pd.api.types.is_numeric_dtype(b):
        x, y = a.to_numpy(dtype=float), b.to_numpy(dtype=float)
        differ: BoolArray = ~(np.isclose(x, y, rtol=tolerance, atol=tolerance, equal_nan=True))
        with np.errstate(invalid="ignore"):
            gaps = x - y
    else:
        text = [s.astype("string").fillna("").to_numpy(dtype=str) for s in (a, b)]
        differ, gaps = text[0] != text[1], np.full(len(a), np.nan)
    return [(name, _label(a.index[i]), column, str(a.iloc[i]), str(b.iloc[i]), gaps[i]) for i in np.flatnonzero(differ)]
