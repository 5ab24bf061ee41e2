"""Tables in: the only place that knows narwhals, polars and pyarrow.

Inside kapstats every table is a pandas frame with a fresh index. What the caller passed is never changed, and
results go back as the caller's kind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from kapstats._types import FloatArray, FrameLike, IntArray
from kapstats.errors import DataError, first_ids, nearest, warn


def to_pandas(data: FrameLike) -> pd.DataFrame:
    """`data` (a pandas, polars or pyarrow table, a mapping of columns, or a path) as pandas with index 0..n-1.

    Raises
    ------
    DataError
        When `data` is no table, or a column name stands twice.

    Examples
    --------
    >>> to_pandas({"AVAL": [1.0, 2.0]}).shape
    (2, 1)
    """
    if isinstance(data, pd.DataFrame):
        frame = data.reset_index(drop=True)
    elif isinstance(data, (str, Path)):
        frame = _read_path(Path(data))
    elif isinstance(data, Mapping):
        frame = pd.DataFrame(dict(data))
    else:
        frame = _from_native(data)
    twice = frame.columns[frame.columns.duplicated()].tolist()
    if twice:
        raise DataError(
            f"data: column {twice[0]!r} stands {list(frame.columns).count(twice[0])} times. Rename or drop one."
        )
    return frame


def _read_path(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise DataError(f"{path}: no such file. Give a path to a .csv or .parquet table.")
    reader = {".parquet": pd.read_parquet, ".pq": pd.read_parquet, ".csv": pd.read_csv}.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"{path}: ending {path.suffix!r} is not read here. Use .csv or .parquet, or ks.read_adam(folder)."
        )
    try:
        frame: pd.DataFrame = reader(path)
    except ImportError as error:
        raise DataError(f"{path.name}: reading parquet needs pyarrow. Install kapstats[scale].") from error
    except Exception as error:  # damaged files fail in many ways
        raise DataError(f"{path.name}: cannot be read ({str(error).splitlines()[0]}).") from error
    return frame.reset_index(drop=True)


#: what a function takes that asks for data, in words
TABLES = "a pandas, polars or pyarrow table, or a path"


def _from_native(data: FrameLike) -> pd.DataFrame:
    import narwhals as nw

    try:
        wrapped = nw.from_native(data)
    except TypeError as error:
        kind = type(data).__name__
        table = "one of its tables, such as trial.adqs" if kind == "Trial" else TABLES
        raise DataError(f"data is a {kind}, not a table. Pass {table}.") from error
    if isinstance(wrapped, nw.LazyFrame):
        wrapped = wrapped.collect()
    frame = pd.DataFrame({name: _series_to_pandas(wrapped[name]) for name in wrapped.columns})
    return frame.reset_index(drop=True)


def _series_to_pandas(series: Any) -> pd.Series:
    values = series.to_list() if _is_categorical(series) or _is_text(series) else None
    if values is None:
        return cast("pd.Series", series.to_pandas()).reset_index(drop=True)
    order = _stated_order(series) if _is_categorical(series) else None
    return pd.Series(values, dtype="object") if order is None else pd.Series(pd.Categorical(values, categories=order))


def _stated_order(series: Any) -> list[Any] | None:
    """Levels as an Enum or a pyarrow dictionary states them; a polars Categorical states none (order of appearance)."""
    native = series.to_native()
    if "Enum" in (str(series.dtype), type(series.dtype).__name__):
        return list(native.dtype.categories)
    if not hasattr(native, "unify_dictionaries"):
        return None
    unified = native.unify_dictionaries()
    return list(unified.chunk(0).dictionary.to_pylist()) if unified.num_chunks else []


def _is_categorical(series: Any) -> bool:
    return type(series.dtype).__name__ in ("Enum", "Categorical") or str(series.dtype) in ("Enum", "Categorical")


def _is_text(series: Any) -> bool:
    return str(series.dtype) == "String"


def kind(data: FrameLike) -> str:
    """The caller's kind of table: ``"pandas"``, ``"polars"`` or ``"pyarrow"``."""
    module = type(data).__module__.split(".")[0]
    return module if module in ("polars", "pyarrow") else "pandas"


def restore(frame: pd.DataFrame, kind: str) -> Any:
    """`frame` as the `kind` of table that the caller uses."""
    if kind == "polars":
        import polars as pl

        return pl.from_pandas(frame)
    if kind == "pyarrow":
        import pyarrow as pa

        return pa.Table.from_pandas(frame, preserve_index=False)
    return frame.copy()


def fingerprint(frame: pd.DataFrame) -> str:
    """Sixteen hex digits that change when a column name, a value or the row order changes."""
    digest = hashlib.sha256("\x1f".join(map(str, frame.columns)).encode())
    for name in frame.columns:
        column = frame[name]
        if isinstance(column.dtype, pd.CategoricalDtype):
            column = column.astype("object")
        digest.update(pd.util.hash_pandas_object(column, index=False).to_numpy().tobytes())
    return digest.hexdigest()[:16]


def estimand(frame: pd.DataFrame) -> str:
    """What `Estimand.apply` wrote into a table, for the results of fits on it; empty where it did not.

    Examples
    --------
    >>> estimand(pd.DataFrame({"CHG": [1.0]}))
    ''
    """
    return str(frame.attrs.get("kapstats_estimand", ""))


def require(frame: pd.DataFrame, columns: Iterable[str], where: str = "data") -> None:
    """Raise a DataError that names the first of `columns` that `frame` lacks, and the nearest it has."""
    for name in columns:
        if name not in frame.columns:
            known = ", ".join(map(str, frame.columns[:12])) + (" ..." if frame.shape[1] > 12 else "")
            raise DataError(
                f"{where}: column {name!r} is not there.{nearest(name, map(str, frame.columns))} It has: {known}."
            )


@dataclass(frozen=True)
class Levels:
    """The ordered levels of a factor column.

    values : the levels, in order; the first is the reference
    codes : (n,) position of each row's level, -1 where the value is missing
    source : where the order comes from: argument, categorical, a column name (TRT01PN), numeric, boolean or sorted
    """

    values: tuple[Any, ...]
    codes: IntArray
    source: str


def numbers(frame: pd.DataFrame, column: str, where: str = "data") -> FloatArray:
    """A column as floats, NaN where it is empty; a DataError names the rows that are no numbers.

    Examples
    --------
    >>> numbers(pd.DataFrame({"ASTDY": ["3", None]}), "ASTDY")
    array([ 3., nan])
    """
    values = frame[column]
    found = pd.to_numeric(values, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    wrong = np.flatnonzero(np.isnan(found) & values.notna().to_numpy())
    if len(wrong):
        text = first_ids([repr(v) for v in values.iloc[wrong].unique()])
        raise DataError(
            f"{where}: column {column!r} has to be numeric, but {len(wrong)} rows hold {text} (first rows "
            f"{first_ids(wrong)}). Make them numbers or empty."
        )
    return found


def levels(frame: pd.DataFrame, column: str, order: Sequence[Any] | None = None) -> Levels:
    """Levels of `column`, ordered by the argument, the categorical, the ADaM companion `<column>N`, or the values.

    Levels that no row holds are left out; a value that a given order does not name is an error.

    Examples
    --------
    >>> import pandas as pd
    >>> arms = pd.DataFrame({"TRT01P": ["KAP", "Placebo"], "TRT01PN": [1, 0]})
    >>> levels(arms, "TRT01P").values
    ('Placebo', 'KAP')
    """
    require(frame, [column])
    values = frame[column]
    if order is not None:
        return _levels_from(values, list(order), "argument", column)
    if isinstance(values.dtype, pd.CategoricalDtype):
        return _levels_from(values, list(values.cat.categories), "categorical", column)
    companion = _companion_order(frame, column)
    if companion is not None:
        return _levels_from(values, companion, f"{column}N", column)
    unique = values.dropna().unique().tolist()
    source = _natural_source(values)
    return _levels_from(values, sorted(unique, key=None if source != "sorted" else str), source, column)


def _natural_source(values: pd.Series) -> str:
    if pd.api.types.is_bool_dtype(values.dtype):
        return "boolean"
    return "numeric" if pd.api.types.is_numeric_dtype(values.dtype) else "sorted"


def _companion_order(frame: pd.DataFrame, column: str) -> list[Any] | None:
    """Levels of `column` by its numeric companion, when every level has exactly one number and no two share one."""
    name = f"{column}N"
    if name not in frame.columns or not pd.api.types.is_numeric_dtype(frame[name].dtype):
        return None
    pairs = frame[[column, name]].dropna(subset=[column]).drop_duplicates()
    one_to_one = (
        not pairs[column].duplicated().any() and not pairs[name].duplicated().any() and not pairs[name].isna().any()
    )
    return pairs.sort_values(name)[column].tolist() if one_to_one else None


def _levels_from(values: pd.Series, order: list[Any], source: str, column: str) -> Levels:
    """Codes of `values` in `order`; levels that no row holds are left out, a value outside the order is an error."""
    index = pd.Index(order, dtype="object")
    if index.has_duplicates:
        raise DataError(f"{column}: level {index[index.duplicated()][0]!r} stands twice in the order given.")
    codes, unique = pd.factorize(values)
    place = index.get_indexer(pd.Index(list(unique), dtype="object"))
    if (place < 0).any():
        unknown = [level for level, at in zip(unique, place, strict=True) if at < 0]
        count = int(np.isin(codes, np.flatnonzero(place < 0)).sum())
        raise DataError(
            f"{column}: {count} rows hold levels that the order does not name ({first_ids(unknown)}). Add them to it."
        )
    seen = np.sort(place)
    rank = np.append(np.searchsorted(seen, place), -1)
    return Levels(tuple(order[i] for i in seen), rank[codes].astype(np.int64), source)


def warn_sorted(factors: Mapping[str, Levels]) -> str | None:
    """One warning for all factors whose order is only alphabetical; it names the level taken as reference."""
    raw = {name: f.values[0] for name, f in factors.items() if f.source == "sorted" and f.values}
    if not raw:
        return None
    text = "; ".join(f"{name}: reference {level!r}" for name, level in raw.items())
    message = (
        f"Levels in alphabetical order, since nothing states one ({text}). "
        "Use an ordered categorical, a companion column such as TRT01PN, or the order argument."
    )
    return warn(message)
