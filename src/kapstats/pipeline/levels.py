"""The order of the levels of factors that do not state it themselves, as the plan says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from kapstats.data.summarise import text
from kapstats.data.trial import Trial
from kapstats.errors import DataError, first_ids, nearest


def ordered(trial: Trial, levels: Mapping[str, tuple[Any, ...] | None]) -> Trial:
    """`trial` with the columns of `levels` as ordered categoricals, in every dataset that has them.

    Raises
    ------
    DataError
        When no dataset has such a column, or one holds a value that the order does not name.

    Examples
    --------
    >>> trial = Trial(adsl={"USUBJID": ["1", "2"], "SITE": ["B", "A"]})
    >>> list(ordered(trial, {"SITE": ("B", "A")}).adsl["SITE"].cat.categories)
    ['B', 'A']
    """
    datasets = trial.datasets
    known = [str(c) for frame in datasets.values() for c in frame.columns]
    for column in levels:
        if column not in known:
            raise DataError(f"[levels]: no dataset has a column {column!r}.{nearest(column, known)}")
    made = {name: _ordered(name, frame, levels) for name, frame in datasets.items()}
    return trial.with_data(**made) if levels else trial


def _ordered(name: str, frame: pd.DataFrame, levels: Mapping[str, tuple[Any, ...] | None]) -> pd.DataFrame:
    changed = {c: _column(name, frame[c], order) for c, order in levels.items() if c in frame.columns}
    made = frame.assign(**changed)
    made.attrs = dict(frame.attrs)
    return made


def _column(name: str, values: pd.Series, order: tuple[Any, ...] | None) -> pd.Series:
    """Numbers and their text are the same level (701 and "701")."""
    held = list(values.dropna().unique())
    if order is None:
        try:
            return pd.Series(pd.Categorical(values, categories=sorted(held), ordered=True), index=values.index)
        except TypeError:
            return pd.Series(pd.Categorical(values, categories=sorted(held, key=str), ordered=True), index=values.index)
    own = {text(v): v for v in held}
    unknown = [v for v in own if v not in {text(level) for level in order}]
    if unknown:
        where = f"{name.upper()}.{values.name}"
        raise DataError(f"[levels]: {where} holds levels that the order does not name ({first_ids(unknown)}).")
    categories = [own.get(text(level), level) for level in order]
    return pd.Series(pd.Categorical(values, categories=categories, ordered=True), index=values.index)
