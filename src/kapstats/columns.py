"""Columns in numpy's own types: what a table of numbers, booleans and texts is made of, whoever wrote it."""

from __future__ import annotations

from decimal import Decimal
from numbers import Real

import numpy as np
import pandas as pd

from kapstats.errors import first_ids, warn

#: above it, whole numbers are not floats
LARGEST_WHOLE = 2.0**53
#: what pandas calls objects that are all numbers
NUMBERS = ("integer", "floating", "mixed-integer-float", "decimal", "boolean")


def in_plain_types(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with every column of numbers, booleans or texts in numpy's own type."""
    changed = {name: made for name in frame.columns if (made := _plain(frame[name])) is not None}
    if not changed:
        return frame
    frame = frame.copy(deep=False)
    for name, values in changed.items():
        frame[name] = values
    return frame


def _plain(values: pd.Series) -> pd.Series | None:
    """The column in a plain type, or None when it is in one already."""
    dtype = values.dtype
    if isinstance(dtype, np.dtype):
        return _from_objects(values) if dtype.kind == "O" else _wide(values)
    if isinstance(dtype, pd.SparseDtype):
        return values.sparse.to_dense()
    if isinstance(dtype, pd.ArrowDtype):
        import pyarrow as pa

        found = pd.Series(pa.array(values).to_pandas(date_as_object=False), index=values.index, name=values.name)
        made = _plain(found)
        return found if made is None else made
    if isinstance(dtype, pd.StringDtype):
        if dtype.na_value is not pd.NA:  # the default text of pandas 3
            return values.str.rstrip(" ") if values.str.endswith(" ").any() else None
        found = values.astype("object").where(values.notna(), None)
        made = _from_objects(found)
        return found if made is None else made
    return _from_nullable(values)


def _wide(values: pd.Series) -> pd.Series | None:
    """Numbers in 64 bits and this machine's order of bytes: differences of narrow integers would wrap around."""
    dtype = values.dtype
    if dtype.kind not in "iuf" or (dtype.itemsize >= 8 and dtype.isnative):
        return None
    return values.astype("float64" if dtype.kind == "f" else "int64" if dtype.itemsize < 8 else dtype.newbyteorder("="))


def _from_nullable(values: pd.Series) -> pd.Series | None:
    """pandas' nullable numbers and booleans; what numpy cannot say (a missing boolean, a large integer) stays."""
    plain = getattr(values.dtype, "numpy_dtype", None)
    if plain is None or getattr(values.dtype, "na_value", None) is not pd.NA:
        return None
    absent = values.isna()
    if not absent.any():
        return values.astype(plain)
    if absent.all():
        return values.astype(float)
    if plain.kind == "b" or (plain.kind in "iu" and float(values.abs().max()) > LARGEST_WHOLE):
        return None
    return values.astype(float)


def _from_objects(values: pd.Series) -> pd.Series | None:
    """Numbers of an object column as numbers, texts without blanks at their end; None when nothing changes."""
    kind = pd.api.types.infer_dtype(values, skipna=True)
    if kind == "string":
        return _without_trailing_blanks(values)
    absent = values.isna()
    if absent.all() or not (kind in NUMBERS or _all_numbers(values[~absent], kind)):
        return None
    if kind == "boolean":
        return values.astype("boolean" if absent.any() else bool)
    there = [v.item() if isinstance(v, np.generic) else v for v in values[~absent]]
    if all(isinstance(v, int) for v in there):
        if max(map(abs, there)) > LARGEST_WHOLE:  # an id of many digits
            return None
        if not absent.any():
            return pd.Series(np.array(there, dtype=np.int64), index=values.index)
    found = np.full(len(values), np.nan)
    found[~absent.to_numpy()] = [float(v) for v in there]
    return pd.Series(found, index=values.index)


def _all_numbers(there: pd.Series, kind: str) -> bool:
    """Whether objects of several types (Decimal beside float, numbers beside booleans) are all numbers."""
    return kind.startswith("mixed") and all(isinstance(v, (Real, Decimal, np.bool_)) for v in there)


def _without_trailing_blanks(values: pd.Series) -> pd.Series | None:
    there = values[values.notna()]
    if " \n" not in "\n".join(there) + "\n":
        return None
    trimmed = there.str.rstrip(" ")
    merged = set(there) & set(trimmed[trimmed != there])
    if merged:
        count = int((there.isin(merged) | trimmed.isin(merged)).sum() - there.isin(merged).sum())
        warn(
            f"{values.name}: {count} rows have {first_ids(map(repr, sorted(merged)), 3)} with blanks at the end, "
            "read as the text without them."
        )
    return trimmed.reindex(values.index).astype("object").where(values.notna(), None)
