"""What a rule is, and the few comparisons that many rules share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kapstats._types import BoolArray
from kapstats.data.conventions import iso_dates


class Hit(NamedTuple):
    """Where a rule is broken: the variable, which rows (a mask), and what was seen."""

    variable: str
    rows: BoolArray
    seen: str


Check = Callable[[pd.DataFrame, pd.DataFrame | None], Iterator[Hit]]


@dataclass(frozen=True)
class Rule:
    """A rule of the data.

    name : what findings are called
    severity : "error" (an analysis would be wrong), "warning" (look at it), "note" (good to know)
    kind : the datasets it is for: every, subjects (ADSL), assessments, times (ADTTE), adverse events
    text : what must hold
    check : takes the dataset and ADSL (None without one), yields a `Hit` per variable with rows that break the rule
    needs : variables without which the rule says nothing
    """

    name: str
    severity: str
    kind: str
    text: str
    check: Check
    needs: tuple[str, ...] = field(default=())


def mask(condition: Any) -> BoolArray:
    """A condition as a plain mask; missing means no."""
    return pd.Series(condition).fillna(False).to_numpy(dtype=bool)


def no_rows(frame: pd.DataFrame) -> BoolArray:
    """A mask of no row: the finding is about the dataset."""
    return np.zeros(len(frame), dtype=bool)


def not_one_to_one(frame: pd.DataFrame, a: str, b: str) -> BoolArray:
    """Rows whose `a` stands with several `b`, or the reverse."""
    pairs = frame[[a, b]].dropna().drop_duplicates()
    wrong_a = pairs.loc[pairs[a].duplicated(keep=False), a]
    wrong_b = pairs.loc[pairs[b].duplicated(keep=False), b]
    return mask(frame[a].isin(wrong_a) | frame[b].isin(wrong_b))


def dates(frame: pd.DataFrame, *names: str) -> pd.Series | None:
    """The first of the date variables `names` that holds full dates."""
    for name in names:
        if name in frame.columns:
            found = iso_dates(frame[name]) if not pd.api.types.is_numeric_dtype(frame[name].dtype) else None
            if found is not None:
                return found
    return None


def from_adsl(frame: pd.DataFrame, adsl: pd.DataFrame | None, *names: str) -> pd.Series | None:
    """The first ADSL variable of `names`, one value per row of `frame`."""
    if adsl is None or "USUBJID" not in frame.columns:
        return None
    name = next((n for n in names if n in adsl.columns), None)
    if name is None:
        return None
    if adsl.empty:
        return adsl[name].reindex(frame.index)
    at = pd.Index(adsl["USUBJID"]).get_indexer(pd.Index(frame["USUBJID"]))
    return adsl[name].take(at).set_axis(frame.index).where(pd.Series(at >= 0, index=frame.index))
