"""The same table in other clothes: every way the same values reach a user's session."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tests.battery import tables

Dress = Callable[[pd.DataFrame], Any]
DRESSES: dict[str, Dress] = {}


def dress(make: Dress) -> Dress:
    DRESSES[make.__name__] = make
    return make


@cache
def dressed(table: str, name: str) -> Any:
    """Table `table` in dress `name`, made once."""
    return DRESSES[name](tables.table(table))


def texts(frame: pd.DataFrame) -> list[str]:
    return [c for c in frame.columns if frame[c].dtype.kind == "O" and frame[c].map(type).eq(str).any()]


def numerics(frame: pd.DataFrame) -> list[str]:
    return [c for c in frame.columns if frame[c].dtype.kind in "iuf"]


def whole(column: pd.Series) -> bool:
    return bool(column.notna().all() and (column % 1 == 0).all())


def _changed(frame: pd.DataFrame, names: list[str], how: Callable[[pd.Series], Any]) -> pd.DataFrame:
    return frame.assign(**{name: how(frame[name]) for name in names})


@dress
def polars(frame: pd.DataFrame) -> Any:
    """A polars table."""
    import polars as pl

    return pl.from_pandas(frame)


@dress
def polars_lazy(frame: pd.DataFrame) -> Any:
    """A lazy polars table with Categorical texts, which state no order."""
    import polars as pl

    return polars(frame).with_columns(pl.col(texts(frame)).cast(pl.Categorical)).lazy()


@dress
def polars_decimal(frame: pd.DataFrame) -> Any:
    """Numbers as polars Decimal, as a database gives them."""
    import polars as pl

    return polars(frame).with_columns(pl.col(numerics(frame)).cast(pl.Decimal(20, 6)))


@dress
def pyarrow(frame: pd.DataFrame) -> Any:
    """A pyarrow table."""
    import pyarrow as pa

    return pa.Table.from_pandas(frame, preserve_index=False)


@dress
def pyarrow_dictionary(frame: pd.DataFrame) -> Any:
    """Texts dictionary-encoded, as a parquet file of R or Spark holds them."""
    import pyarrow as pa

    table = pyarrow(frame)
    for name in texts(frame):
        place = table.column_names.index(name)
        table = table.set_column(place, name, table[name].dictionary_encode())
    assert isinstance(table, pa.Table)
    return table


@dress
def string_pyarrow(frame: pd.DataFrame) -> pd.DataFrame:
    """Texts as string[pyarrow], the default of pandas 3."""
    return _changed(frame, texts(frame), lambda c: c.astype("string[pyarrow]"))


@dress
def converted(frame: pd.DataFrame) -> pd.DataFrame:
    """After `convert_dtypes()`: string, Int64, Float64, boolean with <NA>."""
    return frame.convert_dtypes()


@dress
def arrow_backed(frame: pd.DataFrame) -> pd.DataFrame:
    """Read with dtype_backend="pyarrow"."""
    return frame.convert_dtypes(dtype_backend="pyarrow")


@dress
def decimals(frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers as Decimal objects: decimal128 of Snowflake, Spark, DuckDB or Oracle."""
    return _changed(frame, numerics(frame), lambda c: _objects(c, lambda v: Decimal(repr(v))))


@dress
def none_mixed(frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers in object columns with None, as after a concat with an empty column."""
    return _changed(frame, numerics(frame), lambda c: _objects(c, lambda v: v))


def _objects(column: pd.Series, how: Callable[[Any], Any]) -> pd.Series:
    return pd.Series([None if v != v else how(v) for v in column.tolist()], index=column.index, dtype="object")


@dress
def categories(frame: pd.DataFrame) -> pd.DataFrame:
    """Texts as unordered categories, as every memory recipe makes them, one level without rows: they state no order."""
    return _changed(frame, texts(frame), lambda c: c.astype("category").cat.add_categories(["Screen failure"]))


@dress
def narrow(frame: pd.DataFrame) -> pd.DataFrame:
    """Whole numbers in the narrowest type, which overflows at 127 or below zero."""
    kept = [c for c in numerics(frame) if whole(frame[c])]
    return _changed(frame, kept, lambda c: pd.to_numeric(c, downcast="unsigned" if c.min() >= 0 else "signed"))


@dress
def single(frame: pd.DataFrame) -> pd.DataFrame:
    """Whole numbers as float32, exact in themselves but not in their sums of squares."""
    kept = [c for c in numerics(frame) if (frame[c].dropna() % 1 == 0).all()]
    return _changed(frame, kept, lambda c: c.astype("float32"))


@dress
def odd_memory(frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers in the byte order of a mainframe's file, mapped read-only."""

    def locked(column: pd.Series) -> pd.Series:
        values = column.to_numpy().astype(column.dtype.newbyteorder(">"))
        values.flags.writeable = False
        return pd.Series(values, index=column.index, copy=False)

    return _changed(frame, numerics(frame), locked)


@dress
def sparse(frame: pd.DataFrame) -> pd.DataFrame:
    """Sparse numbers."""
    return _changed(frame, numerics(frame), lambda c: c.astype(pd.SparseDtype(float, np.nan)))


@dress
def odd_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """A subclass of DataFrame with notes in `attrs`, its index repeating, in levels, and called as columns."""
    index = pd.MultiIndex.from_arrays([frame.iloc[:, 0], np.zeros(len(frame))], names=list(frame.columns[:2]))
    mine = _Mine(frame.set_axis(index, axis=0))
    mine.attrs["note"] = {"from": "EDC"}
    return mine


class _Mine(pd.DataFrame):
    @property
    def _constructor(self) -> Any:
        return _Mine


@dress
def mapping(frame: pd.DataFrame) -> dict[str, list[Any]]:
    """A mapping of columns to lists."""
    return {str(c): frame[c].tolist() for c in frame.columns}


@dress
def odd_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """More columns with names that are no text, or that a program might use inside."""
    odd = {0: 1.5, (1, "a"): "x", pd.Timestamp("2024-01-01"): 2, None: 3, np.nan: 4}
    inside = [
        "estimate",
        "std_error",
        "time",
        "event",
        "status",
        "group",
        "arm",
        "subject",
        "visit",
        "n",
        "x",
        "y",
        "w",
        "weight",
        "weights",
        "strata",
        "cause",
        "row",
        "rows",
    ]
    inside += [
        "index",
        "level_0",
        "id",
        "_id",
        "start",
        "stop",
        "entry",
        "code",
        "codes",
        "key",
        "value",
        "term",
        "contrast",
        "variable",
        "count",
        "size",
        "frame",
    ]
    inside += [
        "left",
        "right",
        "stratum",
        "cluster",
        "period",
        "sequence",
        "treatment",
        "outcome",
        "response",
        "_merge",
    ]
    more = {**odd, **{name: ["?"] * len(frame) for name in inside if name not in frame.columns}}
    return pd.concat([frame, pd.DataFrame({k: [v] * len(frame) if k in odd else v for k, v in more.items()})], axis=1)


class Untouchable:
    """A value that cannot be hashed, compared, copied or turned into text."""

    __hash__ = None  # type: ignore[assignment]

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("a column that the call does not name was touched")

    __eq__ = __lt__ = __str__ = __repr__ = __float__ = __bool__ = __len__ = __iter__ = __reduce__ = _refuse  # type: ignore[assignment]
    __array__ = __copy__ = __deepcopy__ = _refuse


def _with_objects(frame: pd.DataFrame, made: list[Callable[[], Any]], columns: int) -> pd.DataFrame:
    """`frame` with more columns of objects, each row its own."""
    more = {}
    for k in range(columns):
        column = np.empty(len(frame), dtype=object)
        for row in range(len(frame)):
            column[row] = made[k % len(made)]()
        more[f"REST{k}"] = column
    return pd.concat([frame, pd.DataFrame(more, index=frame.index)], axis=1)


@dress
def unhashable(frame: pd.DataFrame) -> pd.DataFrame:
    """Sixty more columns: lists, dicts, sets, dates, bytes, nothing."""
    far = datetime.date(9999, 12, 31)
    return _with_objects(frame, [dict, list, lambda: far, lambda: None, lambda: b"\xff", lambda: {1}], 60)


@dress
def untouchable(frame: pd.DataFrame) -> pd.DataFrame:
    """More columns of values that fail when they are hashed, compared, copied or read."""
    return _with_objects(frame, [Untouchable], 2)


def written(frame: pd.DataFrame, folder: Path, ending: str) -> Path:
    """`frame` as a file; texts that look like numbers (site "01") stay what they are in parquet."""
    path = folder / f"table.{ending}"
    if ending == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
    return path
