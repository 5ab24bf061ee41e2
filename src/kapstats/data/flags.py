"""Flags that decide who or what is counted: Y, N or blank, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from kapstats._types import BoolArray
from kapstats.errors import DataError, first_ids

#: criteria of seriousness; other flags end in FL
SERIOUSNESS = ("AESER", "AESCAN", "AESCONG", "AESDISAB", "AESDTH", "AESHOSP", "AESLIFE", "AESMIE", "AESOD")


def is_flag(column: str) -> bool:
    """Whether a variable of this name is a flag of Y and N."""
    return column.endswith("FL") or column in SERIOUSNESS


def is_yes(values: pd.Series, name: str | None = None, ids: Sequence[Any] | pd.Series | None = None) -> BoolArray:
    """Where a flag says yes: "Y", or True; N, False and blank say no.

    Parameters
    ----------
    values : (rows,) the flag
    name : what it is called in an error, such as "ADSL.SAFFL"; by default the name of `values`
    ids : (rows,) subjects, named in an error instead of row numbers

    Raises
    ------
    DataError
        When it holds other values, such as "Yes", "y", " Y" or 1, which nobody has said to be a Y.

    Examples
    --------
    >>> is_yes(pd.Series(["Y", "N", "", None])).tolist()
    [True, False, False, False]
    """
    codes, unique = pd.factorize(values)
    says = [_says(value) for value in unique]
    wrong = np.append(np.array([s is None for s in says], dtype=bool), False)[codes]
    if wrong.any():
        at = np.flatnonzero(wrong)
        spelled = first_ids(repr(v) for v, s in zip(_plain(unique), says, strict=True) if s is None)
        where = f"rows {first_ids(at)}" if ids is None else first_ids(np.asarray(ids, dtype=object)[at])
        raise DataError(
            f"{name or values.name}: {at.size} of {len(values)} rows hold other values than Y, N and blank "
            f"({spelled}; {where}). Recode them to Y and N."
        )
    return np.append(np.array([s is True for s in says], dtype=bool), False)[codes]


def letters(values: pd.Series) -> pd.Series:
    """A flag with Y for True and N for False; other values stay as they are.

    Examples
    --------
    >>> letters(pd.Series([True, False, "Y"])).tolist()
    ['Y', 'N', 'Y']
    """
    if pd.api.types.infer_dtype(values, skipna=True) not in ("boolean", "mixed", "mixed-integer"):
        return values
    said = [("N", "Y")[int(v)] if isinstance(v, bool | np.bool_) else v for v in values.astype(object)]
    return pd.Series(said, index=values.index, name=values.name, dtype=object)


def _says(value: Any) -> bool | None:
    """True, False, or None for a value that is no flag."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, str) and value in ("Y", "N"):
        return value == "Y"
    return False if isinstance(value, str) and not value.strip() else None


def _plain(unique: Any) -> list[Any]:
    return list(unique.tolist() if hasattr(unique, "tolist") else unique)
