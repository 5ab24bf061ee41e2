"""Records as they are, chosen and sorted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kapstats import estimates, frames
from kapstats._types import BoolArray, FrameLike
from kapstats.data import conditions
from kapstats.data.conventions import LABELS
from kapstats.data.summary import Summary
from kapstats.data.trial import Trial
from kapstats.errors import DataError
from kapstats.table import Table


def listing(
    trial: Trial | FrameLike,
    dataset: str = "adsl",
    columns: Sequence[str] | None = None,
    where: Any = None,
    *,
    sort: Sequence[str] | None = None,
    title: str | None = None,
    limit: int | None = None,
) -> Summary:
    """Records as they are, chosen and sorted.

    Parameters
    ----------
    dataset : which dataset of the trial
    columns : which variables, of the dataset or of ADSL; by default all of the dataset
    where : which records: ``"AESER == 'Y' and AESEV in ['SEVERE']"`` (comparisons of a variable with a value, joined by
        and), ``{variable: value or list}``, a mask, or a function of the frame that gives a mask
    sort : by default arm, subject and date where they are there
    limit : print at most so many records; the table says how many there are

    Raises
    ------
    DataError
        For variables that are not there.
    FormulaError
        For a condition that cannot be read.

    Examples
    --------
    >>> listing({"USUBJID": ["1", "2"], "AESER": ["Y", "N"]}, where="AESER == 'Y'").to_frame()["USUBJID"].tolist()
    ['1']
    """
    frame = _records(trial, dataset, [*(columns or []), *(sort or []), *_named(where)])
    kept = frame.loc[_where(frame, where)].reset_index(drop=True)
    usual = ["TRT01AN", "TRTAN", "TRT01PN", "TRTPN", "USUBJID", "PARAMCD", "AVISITN", "ASTDTM", "ASTDT", "ADT", "AESEQ"]
    order = list(sort) if sort is not None else [c for c in usual if c in kept.columns]
    kept = kept.sort_values(order, kind="stable").reset_index(drop=True) if order else kept
    shown = kept[list(columns) if columns is not None else list(kept.columns)]
    known = trial.labels.get(dataset.lower(), {}) | trial.labels.get("adsl", {}) if isinstance(trial, Trial) else {}
    printed = shown.head(limit) if limit is not None else shown
    cells = tuple(tuple(_cell(v) for v in row) for row in printed.astype("object").itertuples(index=False, name=None))
    cut = (f"The first {len(printed)} of {len(shown)} records.",) if len(printed) < len(shown) else ()
    heading = title or f"Listing of {dataset.upper()}"
    sentence = f"{len(shown)} of {len(frame)} records."
    table = Table(
        columns=tuple(known.get(c) or LABELS.get(str(c), str(c)) for c in shown.columns),
        rows=cells,
        title=heading,
        footnotes=(sentence, *cut),
        align=tuple("right" if pd.api.types.is_numeric_dtype(shown[c].dtype) else "left" for c in shown.columns),
    )
    about = estimates.meta(method="listing", level=None, title=heading, sentence=sentence, data=shown)
    return Summary(estimates.Estimates(shown, about), table)


def _records(trial: Trial | FrameLike, dataset: str, wanted: list[str]) -> pd.DataFrame:
    if not isinstance(trial, Trial):
        frame = frames.to_pandas(trial)
    else:
        frame = getattr(trial, dataset.lower())
        lacking = [c for c in wanted if c not in frame.columns]
        if lacking and "adsl" in trial and dataset.lower() != "adsl" and set(lacking) & set(trial.adsl.columns):
            frame = trial.joined(dataset, [c for c in lacking if c in trial.adsl.columns])
    frames.require(frame, wanted, dataset.upper())
    return frame


def _named(where: Any) -> list[str]:
    """The variables in a condition."""
    if isinstance(where, str):
        return [conditions.column_of(part) for part in conditions.split(where)]
    return list(where) if isinstance(where, Mapping) else []


def _where(frame: pd.DataFrame, where: Any) -> BoolArray:
    keep = np.ones(len(frame), dtype=bool)
    if where is None:
        return keep
    if isinstance(where, str):
        for part in conditions.split(where):
            keep &= conditions.holds(frame, part, known=False)
        return keep
    if isinstance(where, Mapping):
        for name, value in where.items():
            keep &= frame[name].isin(list(value) if isinstance(value, (list, tuple, set)) else [value]).to_numpy()
        return keep
    mask = np.asarray(where(frame) if callable(where) else where)
    if mask.shape != (len(frame),):
        raise DataError(f"where: the mask has shape {mask.shape}, the data have {len(frame)} rows.")
    return pd.Series(mask).fillna(False).to_numpy(dtype=bool)


def _cell(value: Any) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, pd.Timestamp):
        return value.strftime("%Y-%m-%d") if value == value.normalize() else value.strftime("%Y-%m-%d %H:%M")
    return f"{value:g}" if isinstance(value, float) and abs(value) < 1e6 else str(value)
