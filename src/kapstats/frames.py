"""Tables in: the only place that knows narwhals, polars and pyarrow.

Inside kapstats every table is a pandas frame with a fresh index. What the caller passed is never changed, and
results go back as the caller's kind.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from kapstats._types import FloatArray, FrameLike, IntArray
from kapstats.columns import in_plain_types
from kapstats.errors import DataError, FormulaError, first_ids, nearest, warn
from kapstats.labels import level_text, python_value, similar, visit_order


def to_pandas(data: FrameLike) -> pd.DataFrame:
    """`data` (a pandas, polars or pyarrow table, a mapping of columns, or a path) as pandas with index 0..n-1.

    Columns come in numpy's own types: numbers in an object column (Decimal, integers beside None) are numbers, nullable
    and Arrow types are plain ones, and texts have no blanks at their end, as in `read_adam`.

    Raises
    ------
    DataError
        When `data` is not a table, or a column name appears twice.

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
        frame = _from_mapping(data)
    else:
        frame = _from_native(data)
    twice = frame.columns[frame.columns.duplicated()].tolist()
    if twice:
        raise DataError(
            f"data: column {twice[0]!r} appears {list(frame.columns).count(twice[0])} times. Rename or drop one."
        )
    return in_plain_types(frame)


def _from_mapping(columns: Mapping[Any, Any]) -> pd.DataFrame:
    try:
        return pd.DataFrame(dict(columns)).reset_index(drop=True)
    except ValueError as error:
        raise DataError(f"data: the columns do not form a table ({error}). Give lists of one length.") from error


def _read_path(path: Path) -> pd.DataFrame:
    """The table in a file, by the one reader that `read_adam` uses too."""
    from kapstats.data.files import read_table

    return read_table(path).reset_index(drop=True)


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
    if _is_categorical(series):
        return _categorical_to_pandas(series)
    if _is_text(series):
        return pd.Series(series.to_list(), dtype="object")
    return cast("pd.Series", series.to_pandas()).reset_index(drop=True)


def _categorical_to_pandas(series: Any) -> pd.Series:
    """An Enum and an ordered pyarrow dictionary state an order; other categoricals state none."""
    native, values = series.to_native(), series.to_list()
    if "Enum" in (str(series.dtype), type(series.dtype).__name__):
        return pd.Series(pd.Categorical(values, categories=list(native.dtype.categories), ordered=True))
    if getattr(getattr(native, "type", None), "ordered", False):
        unified = native.unify_dictionaries()
        order = list(unified.chunk(0).dictionary.to_pylist()) if unified.num_chunks else []
        return pd.Series(pd.Categorical(values, categories=order, ordered=True))
    text = all(v is None or isinstance(v, str) for v in values)
    return pd.Series(values, dtype="object" if text else "category")


def _is_categorical(series: Any) -> bool:
    return type(series.dtype).__name__ in ("Enum", "Categorical") or str(series.dtype) in ("Enum", "Categorical")


def _is_text(series: Any) -> bool:
    return str(series.dtype) == "String"


def kind(data: FrameLike) -> str:
    """The caller's kind of table: ``"pandas"``, ``"polars"`` or ``"pyarrow"``."""
    module = type(data).__module__.split(".")[0]
    return module if module in ("polars", "pyarrow") else "pandas"


def restore(frame: pd.DataFrame, kind: str) -> Any:
    """`frame` as the `kind` of table that the caller uses; a column of numbers and texts is text in Arrow's types."""
    if kind == "pandas":
        return frame.copy()
    mixed = [c for c in frame.columns if pd.api.types.infer_dtype(frame[c]).startswith("mixed-integer")]
    frame = frame.assign(**{c: frame[c].map(level_text, na_action="ignore") for c in mixed})
    if kind == "polars":
        import polars as pl

        return pl.from_pandas(frame)
    import pyarrow as pa

    return pa.Table.from_pandas(frame, preserve_index=False)


#: what the column of weights that were given as numbers is called
WEIGHTS = "(weights)"


def fingerprint(frame: pd.DataFrame, columns: Iterable[Any] | None = None) -> str:
    """Sixteen hex digits that change when a column name, a value or the row order of `columns` changes.

    Raises
    ------
    DataError
        For a column of lists, dicts or other things that are not values.
    """
    names = list(frame.columns) if columns is None else [c for c in frame.columns if c in set(columns)]
    digest = hashlib.sha256("\x1f".join(map(str, names)).encode())
    for name in names:
        column = frame[name]
        if isinstance(column.dtype, pd.CategoricalDtype):
            column = column.astype("object")
        digest.update(_hashes(column).tobytes())
    return digest.hexdigest()[:16]


def _hashes(values: pd.Series) -> np.ndarray:
    try:
        return pd.util.hash_pandas_object(values, index=False).to_numpy()
    except TypeError:  # objects without a hash, or of several types
        return pd.util.hash_pandas_object(values.map(repr), index=False).to_numpy()


def named(frame: pd.DataFrame, *texts: object) -> list[str]:
    """The columns of `frame` that formulas and expressions name, in the order of the frame.

    Examples
    --------
    >>> named(pd.DataFrame(columns=["CHG", "BASE", "SEX", "odd name"]), "CHG ~ log(BASE)", "`odd name`", None)
    ['CHG', 'BASE', 'odd name']
    """
    whole = "\n".join(str(t) for t in texts if t is not None)
    words = {*re.findall(r"[^\W\d][\w.]*", whole), *re.findall(r"`([^`]+)`", whole), *map(str, texts), WEIGHTS}
    return [c for c in frame.columns if str(c) in words]


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


def tell_unused(order: Any, frame: pd.DataFrame) -> None:
    """Warn of an order of a column that `frame` lacks: a misspelt name would leave the arms to the alphabet unseen."""
    for name in order if isinstance(order, Mapping) else ():
        if name not in frame.columns:
            hint = nearest(str(name), map(str, frame.columns))
            warn(f"order: column {name!r} is not in the data, so its order is not used.{hint}")


def refuse_containers(frame: pd.DataFrame, columns: Iterable[str], where: str = "data") -> None:
    """Raise a DataError that names the first of `columns` with lists, dicts or arrays in it."""
    for name in columns:
        values = frame[name]
        if values.dtype.kind == "O" and pd.api.types.infer_dtype(values, skipna=True).startswith("mixed"):
            held = [v for v in values if isinstance(v, (list, dict, set, np.ndarray))]
            if held:
                raise DataError(
                    f"{where}: column {name!r} has {type(held[0]).__name__}s in {len(held)} rows. A column of the "
                    "analysis has one number or text per row; take one out of each."
                )


def is_constant(values: pd.Series, subject: pd.Series, dropna: bool = False) -> bool:
    """Whether no subject has two values; no for columns of lists and other things that are not values.

    Examples
    --------
    >>> is_constant(pd.Series(["F", "F", "M"]), pd.Series([1, 1, 2]))
    True
    """
    try:
        return bool((values.groupby(subject, observed=True).nunique(dropna=dropna) <= 1).all())
    except TypeError:
        return False


@dataclass(frozen=True)
class Levels:
    """The ordered levels of a factor column.

    values : the levels, in order; the first is the reference
    codes : (n,) position of each row's level, -1 where the value is missing
    source : where the order comes from: argument, categorical, a column name (TRT01PN), numeric, boolean, labels (the
        numbers in the labels of visits) or sorted
    note : why what could have stated the order does not
    """

    values: tuple[Any, ...]
    codes: IntArray
    source: str
    note: str = ""


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
        text = first_ids(map(repr, values.iloc[wrong]))
        raise DataError(
            f"{where}: column {column!r} has to be numeric, but {len(wrong)} rows hold {text} (first rows "
            f"{first_ids(wrong)}). Make them numbers or empty."
        )
    endless = np.flatnonzero(np.isinf(found))
    if len(endless):
        raise DataError(f"{where}: column {column!r} is infinite in {len(endless)} rows (first {first_ids(endless)}).")
    return found


def levels(frame: pd.DataFrame, column: str, order: Sequence[Any] | None = None) -> Levels:
    """Levels of `column` in the order that is stated: by the argument, an ordered categorical, or the ADaM companion
    `<column>N`; else by the values of numbers, the numbers in the labels of visits, or the alphabet.

    An unordered categorical states no order. Levels that no row has are left out; a value that a given order does not
    name is an error.

    Examples
    --------
    >>> import pandas as pd
    >>> arms = pd.DataFrame({"TRT01P": ["KAP", "Placebo"], "TRT01PN": [1, 0]})
    >>> levels(arms, "TRT01P").values
    ('Placebo', 'KAP')
    >>> levels(pd.DataFrame({"AVISIT": ["Week 10", "Week 2"]}), "AVISIT").values
    ('Week 2', 'Week 10')
    """
    require(frame, [column])
    refuse_containers(frame, [column])
    values = frame[column]
    if order is not None:
        if isinstance(order, str) or not isinstance(order, Iterable):
            raise FormulaError(f"order: {column} takes a list of its levels, the reference first, not {order!r}.")
        return _levels_from(values, list(order), "argument", column)
    categorical = isinstance(values.dtype, pd.CategoricalDtype)
    if categorical and values.cat.ordered:
        return _levels_from(values, list(values.cat.categories), "categorical", column)
    unique = values.dropna().unique().tolist()
    _refuse_mixed(unique, values, column)
    companion, note = _companion_order(frame, column)
    if companion is not None:
        return _levels_from(values, companion, f"{column}N", column)
    source = _natural_source(values.cat.categories.dtype if categorical else values.dtype)
    if source != "sorted":
        return _levels_from(values, sorted(unique), source, column)
    by_labels = visit_order(column, unique)
    if by_labels is not None:
        return _levels_from(values, by_labels, "labels", column)
    note = note or ("is a categorical without an order" if categorical else "")
    return replace(_levels_from(values, sorted(unique, key=str), source, column), note=note)


def _natural_source(dtype: Any) -> str:
    if pd.api.types.is_bool_dtype(dtype):
        return "boolean"
    return "numeric" if pd.api.types.is_numeric_dtype(dtype) else "sorted"


def _is_number(value: Any) -> bool:
    return isinstance(value, (Real, np.bool_))


def _refuse_mixed(unique: list[Any], values: pd.Series, column: str) -> None:
    """The number 1 and the text "1" in one column are two levels of one name."""
    spelt = Counter(level_text(v) for v in unique)
    twice = [t for t, count in spelt.items() if count > 1]
    if not twice and len({_is_number(v) for v in unique}) == 2:
        twice = list(dict.fromkeys(level_text(v) for v in sorted(unique, key=_is_number)))
    if twice:
        kinds = ", ".join(repr(python_value(v)) for v in unique if level_text(v) in twice[:3])
        rows = int(values.map(lambda v: level_text(v) in twice, na_action="ignore").eq(True).sum())
        raise DataError(
            f"{column}: numbers and texts are mixed ({kinds} in {rows} rows); they look the same and are not. Make all "
            "of them numbers or all of them texts."
        )


def _companion_order(frame: pd.DataFrame, column: str) -> tuple[list[Any] | None, str]:
    """Levels of `column` by its numeric companion when the two are one to one, else None and why not."""
    name = f"{column}N"
    if name not in frame.columns:
        return None, ""
    number = frame[name]
    if isinstance(number.dtype, pd.CategoricalDtype):
        number = number.astype(number.cat.categories.dtype if not number.isna().any() else "object")
    if not pd.api.types.is_numeric_dtype(number.dtype):
        return None, ""
    pairs = pd.DataFrame({"level": frame[column], "number": number}).dropna(subset=["level"]).drop_duplicates()
    if pairs["level"].duplicated().any() or pairs["number"].duplicated().any() or pairs["number"].isna().any():
        return None, f"and {name} are not one to one"
    return pairs.sort_values("number")["level"].tolist(), ""


def _levels_from(values: pd.Series, order: list[Any], source: str, column: str) -> Levels:
    """Codes of `values` in `order`; levels that no row holds are left out, a value outside the order is an error."""
    index = pd.Index(order, dtype="object")
    if index.has_duplicates:
        raise DataError(f"{column}: level {index[index.duplicated()][0]!r} appears twice in the order given.")
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


def warn_factors(factors: Mapping[str, Levels]) -> tuple[str, ...]:
    """The warnings about levels of factors: an order that nothing states, and labels that look alike."""
    return tuple(w for w in (warn_sorted(factors), warn_similar(factors)) if w)


def warn_sorted(factors: Mapping[str, Levels]) -> str | None:
    """One warning for all factors whose order is only alphabetical; it names the level taken as reference."""
    raw = {name: f for name, f in factors.items() if f.source == "sorted" and len(f.values) > 1}
    if not raw:
        return None
    text = "; ".join(f"{name}: reference {python_value(f.values[0])!r}" for name, f in raw.items())
    notes = "".join(f" {name} {f.note}." for name, f in raw.items() if f.note)
    message = (
        f"Levels in alphabetical order, since nothing states one ({text}).{notes} "
        "Use an ordered categorical, a companion column such as TRT01PN, or the order argument."
    )
    return warn(message)


def warn_similar(factors: Mapping[str, Levels]) -> str | None:
    """One warning for labels that differ in case, blanks or characters that are not seen; they stay two levels.

    Examples
    --------
    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     text = warn_similar({"ARM": levels(pd.DataFrame({"ARM": ["KAP", "Kap"]}), "ARM")})
    >>> text.split(".")[0]
    "ARM: 'KAP' and 'Kap' look alike and are taken as different levels"
    """
    pairs = [f"{name}: {a} and {b}" for name, f in factors.items() for a, b in similar(f.values)]
    if not pairs:
        return None
    return warn(f"{first_ids(pairs, 3)} look alike and are taken as different levels. Spell each level in one way.")
