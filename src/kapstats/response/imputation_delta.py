"""Amounts added to imputed values: by arm, visit or reason, from a table, or growing with visits since the event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kapstats import frames
from kapstats._types import BoolArray, FloatArray, FrameLike
from kapstats.errors import DataError, FormulaError, first_ids, nearest
from kapstats.response.imputation_data import Wide

Delta = Mapping[Any, Any] | FrameLike | float


def shift_of(wide: Wide, delta: Delta | None) -> FloatArray:
    """(n, m) amounts added to the completed values; a mapping or a number moves imputed values only."""
    if delta is None:
        return np.zeros(wide.y.shape)
    if isinstance(delta, Mapping) and "delta" not in delta:
        shift = np.zeros(wide.y.shape)
        _fill(wide, shift, delta, np.ones(wide.y.shape, dtype=bool))
    elif isinstance(delta, (int, float)):
        shift = np.full(wide.y.shape, _amount(delta))
    else:
        return _from_table(wide, frames.to_pandas(delta))
    return np.where(np.isnan(wide.y), shift, 0.0)


def _fill(wide: Wide, shift: FloatArray, delta: Mapping[Any, Any], cells: BoolArray) -> None:
    for key, amount in delta.items():
        here = cells & _cells(wide, key)
        if isinstance(amount, Mapping):
            _fill(wide, shift, amount, here)
        else:
            shift[here] = _amount(amount)


def _cells(wide: Wide, key: Any) -> BoolArray:
    """(n, m) cells of an arm, a visit or a reason."""
    n, m = wide.y.shape
    reasons = np.array([r == key for r in wide.reason], dtype=bool)
    found = []
    if key in wide.arms:
        found.append(np.repeat((wide.arm == wide.arms.index(key))[:, None], m, axis=1))
    if key in wide.visits:
        found.append(np.repeat((np.arange(m) == wide.visits.index(key))[None], n, axis=0))
    if reasons.any():
        found.append(np.repeat(reasons[:, None], m, axis=1))
    if len(found) > 1:
        raise FormulaError(f"delta: {key!r} is the name of more than one arm, visit or reason; give a table instead.")
    if not found:
        known = [str(k) for k in (*wide.arms, *wide.visits, *dict.fromkeys(r for r in wide.reason if pd.notna(r)))]
        kinds = "an arm, a visit or a reason" if wide.plan.reason else "an arm or a visit"
        raise FormulaError(f"delta: {key!r} is not {kinds}.{nearest(str(key), known)} Known: {first_ids(known, 12)}.")
    return found[0]


def _amount(value: Any) -> float:
    try:
        amount = float(value)
    except (TypeError, ValueError):
        amount = float("nan")
    if not np.isfinite(amount):
        raise FormulaError(f"delta: {value!r} is not a finite number.")
    return amount


def _from_table(wide: Wide, table: pd.DataFrame) -> FloatArray:
    """A table of subject, visit and `delta`; cells that it does not hold are not moved."""
    frames.require(table, [wide.subject, wide.visit, "delta"], "delta")
    row = {s: i for i, s in enumerate(wide.subjects[wide.subject])}
    column = {v: k for k, v in enumerate(wide.visits)}
    i, k = table[wide.subject].map(row), table[wide.visit].astype("object").map(column)
    lost = i.isna() | k.isna()
    if lost.any():
        raise DataError(
            f"delta: {int(lost.sum())} rows name no subject and visit ({first_ids(table.loc[lost, wide.subject])})."
        )
    twice = table.duplicated([wide.subject, wide.visit])
    if twice.any():
        raise DataError(
            f"delta: {int(twice.sum())} rows repeat a subject's visit ({first_ids(table.loc[twice, wide.subject])})."
        )
    shift = np.zeros(wide.y.shape)
    shift[i.to_numpy(dtype=int), k.to_numpy(dtype=int)] = [_amount(v) for v in table["delta"]]
    return shift


def template(
    wide: Wide, delta: Sequence[float] | None, lag: Sequence[float] | None, missing_only: bool
) -> pd.DataFrame:
    """One row per subject and visit; ``delta`` sums delta * lag from the first affected visit on."""
    n, m = wide.y.shape
    for name, given in (("delta", delta), ("lag", lag)):
        if given is not None and len(given) != m:
            raise FormulaError(f"{name}: {len(given)} numbers for {m} visits.")
    after = np.arange(m)[None] - wide.event[:, None]  # visits since the event, 0 at the first affected one
    scale = np.asarray([1.0] + [0.0] * (m - 1) if lag is None else lag, dtype=float)
    coefficient = np.where(after >= 0, scale[np.clip(after, 0, m - 1)], 0.0)
    amount = np.cumsum(np.asarray(np.zeros(m) if delta is None else delta, dtype=float) * coefficient, axis=1)
    missing = np.isnan(wide.y)
    frame = pd.DataFrame(
        {
            wide.subject: np.repeat(wide.subjects[wide.subject].to_numpy(), m),
            wide.visit: list(wide.visits) * n,
            wide.plan.arm: np.repeat(np.array(wide.arms, dtype=object)[wide.arm], m),
            "missing": missing.ravel(),
            "after_event": (after >= 0).ravel(),
            "strategy": np.repeat(np.array(wide.strategy, dtype=object), m),
            "delta": np.where(missing | (not missing_only), amount, 0.0).ravel(),
        }
    )
    if wide.plan.reason is not None:
        frame.insert(3, wide.plan.reason, np.repeat(np.array(wide.reason, dtype=object), m))
    return frame
