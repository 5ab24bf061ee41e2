"""True values beside the estimates of a simulated trial."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from kapstats._types import FloatArray
from kapstats.data.trial import Trial


def beside(
    trial: Trial, quantity: str, frame: pd.DataFrame, keys: Mapping[str, str], **fixed: Any
) -> FloatArray | None:
    """The true value of every row of `frame`, NaN where none is known; None when nothing is.

    Parameters
    ----------
    quantity : a list of rows in ``trial.truth``
    keys : column of `frame` -> column of the truth
    fixed : what the rows of the truth have to say besides (``strategy="hypothetical"``)

    Examples
    --------
    >>> truth = {"rmst": [{"TRT01P": "KAP", "tau": 77.0, "value": 50.2}]}
    >>> trial = Trial(adsl={"USUBJID": ["1"], "TRT01P": ["KAP"]}, truth=truth)
    >>> beside(trial, "rmst", pd.DataFrame({"ARM": ["KAP", "other"]}), {"ARM": "TRT01P"}).tolist()
    [50.2, nan]
    """
    rows = (trial.truth or {}).get(quantity, [])
    if not isinstance(rows, list):
        return None
    known = {
        tuple(_key(row[k]) for k in keys.values()): float(row["value"])
        for row in rows
        if all(k in row for k in keys.values()) and all(row.get(k) == v for k, v in fixed.items())
    }
    found = [
        known.get(tuple(_key(v) for v in values), np.nan) for values in zip(*(frame[c] for c in keys), strict=True)
    ]
    return np.array(found, dtype=float) if np.isfinite(found).any() else None


def with_truth(trial: Trial, quantity: str, frame: pd.DataFrame, keys: Mapping[str, str], **fixed: Any) -> pd.DataFrame:
    """`frame` with a column ``truth`` when anything is known."""
    values = beside(trial, quantity, frame, keys, **fixed)
    return frame if values is None else frame.assign(truth=values)


def _key(value: object) -> object:
    """A key that compares across files: numbers as float, all else as text."""
    return float(value) if isinstance(value, int | float | np.number) and not isinstance(value, bool) else str(value)
