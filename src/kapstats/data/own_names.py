"""From one table with the caller's own column names to ADSL, ADQS and ADTTE."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kapstats import frames
from kapstats.errors import DataError, FormulaError, first_ids, warn

Visit = str | Sequence[str] | Mapping[str, Any] | None


def standardise(
    frame: pd.DataFrame,
    columns: Mapping[str, str | None],
    visit: Visit,
    outcome: str | None,
    arms: Sequence[Any] | None,
    visits: Sequence[Any] | None,
) -> dict[str, pd.DataFrame]:
    """ADSL, ADQS and ADTTE of `frame`; `columns` maps subject, arm, baseline, time and event to its columns."""
    frames.require(frame, [c for c in columns.values() if c is not None])
    if (columns["time"] is None) != (columns["event"] is None):
        raise FormulaError("time= and event= belong together: the time, and whether the event happened then.")
    frame = _with_subject_and_arm(frame, str(columns["subject"]), str(columns["arm"]), arms)
    tables = {}
    if visit is not None:
        long = _wide_to_long(frame, visit, outcome) if not isinstance(visit, str) else _long(frame, visit, outcome)
        tables["adqs"] = _adqs(long, columns["baseline"], visits)
    if columns["time"] is not None:
        tables["adtte"] = _adtte(frame, columns["time"], str(columns["event"]))
    return {"adsl": _adsl(tables.get("adqs", frame), columns), **tables}


def _with_subject_and_arm(frame: pd.DataFrame, subject: str, arm: str, order: Sequence[Any] | None) -> pd.DataFrame:
    """`frame` with USUBJID, TRT01P and TRT01PN in front, in place of the caller's columns."""
    missing = int(frame[subject].isna().sum())
    if missing:
        raise DataError(f"{subject}: {missing} rows have no subject. Fill them in or leave the rows out.")
    found = frames.levels(frame, arm, order)
    frames.warn_sorted({arm: found})
    names = np.array([*map(_text, found.values), None], dtype=object)
    made = {
        "USUBJID": frame[subject].map(_text),
        "TRT01P": pd.Series(names[found.codes], index=frame.index),
        "TRT01PN": np.where(found.codes < 0, np.nan, found.codes.astype(float)),
    }
    rest = frame.drop(columns=[c for c in (subject, arm, f"{arm}N") if c in frame.columns])
    _refuse_taken(rest, made)
    _one_arm_each(made["USUBJID"], made["TRT01P"], arm)
    return pd.concat([pd.DataFrame(made), rest], axis=1)


def _one_arm_each(subject: pd.Series, arm: pd.Series, name: str) -> None:
    per_subject = arm.groupby(subject.to_numpy()).nunique(dropna=False)
    several = per_subject.index[per_subject > 1]
    if len(several):
        raise DataError(f"{name}: {len(several)} subjects are in more than one arm ({first_ids(several)}).")


def _wide_to_long(frame: pd.DataFrame, visit: Any, outcome: str | None) -> pd.DataFrame:
    labels = dict(visit) if isinstance(visit, Mapping) else {column: column for column in visit}
    frames.require(frame, labels)
    rest = frame.drop(columns=list(labels))
    _refuse_taken(rest, ["AVISIT", "AVISITN", "AVAL", "PARAMCD"])
    numeric = all(isinstance(v, (int, float)) for v in labels.values())
    parts = [
        rest.assign(
            PARAMCD=outcome or "OUTCOME",
            AVISIT=_text(label),
            AVISITN=float(label) if numeric else float(place),
            AVAL=_number(frame[column], column),
            _row=np.arange(len(frame)),
        )
        for place, (column, label) in enumerate(labels.items(), start=1)
    ]
    long = pd.concat(parts, ignore_index=True).sort_values(["_row", "AVISITN"], kind="stable")
    return long.drop(columns="_row").reset_index(drop=True)


def _long(frame: pd.DataFrame, visit: str, outcome: str | None) -> pd.DataFrame:
    if outcome is None:
        raise FormulaError("from_frame: long form needs outcome= (the column that holds the value at each visit).")
    frames.require(frame, [visit, outcome])
    rest = frame.drop(columns=[visit, outcome])
    _refuse_taken(rest, ["AVISIT", "AVAL", "PARAMCD"])
    made = {"PARAMCD": outcome, "AVISIT": frame[visit], "AVAL": _number(frame[outcome], outcome)}
    if f"{visit}N" in frame.columns:
        rest, made["AVISITN"] = rest.drop(columns=f"{visit}N"), frame[f"{visit}N"]
    return rest.assign(**made)


def _adqs(long: pd.DataFrame, baseline: str | None, visits: Sequence[Any] | None) -> pd.DataFrame:
    """`long` with visits numbered in order and, with a baseline, BASE and CHG."""
    order = list(visits) if visits is not None else _natural_order(long)
    found = frames.levels(long, "AVISIT", order)
    numeric = all(isinstance(v, (int, float, np.number)) and not isinstance(v, bool) for v in found.values)
    numbers = np.array([*(found.values if numeric else range(1, len(found.values) + 1)), np.nan], dtype=float)
    names = np.array([*map(_text, found.values), None], dtype=object)
    stated = {} if "AVISITN" in long.columns else {"AVISITN": numbers[found.codes]}
    adqs = long.assign(AVISIT=names[found.codes], **stated)
    if baseline is None:
        return adqs
    base = _number(adqs[baseline], baseline)
    _one_value_each(adqs["USUBJID"], base, baseline)
    return adqs.drop(columns=baseline).assign(BASE=base, CHG=adqs["AVAL"] - base)


def _natural_order(long: pd.DataFrame) -> list[Any] | None:
    """Visit labels by the numbers in them ("Day 7" before "Day 14"), with a warning; None when an order is stated."""
    found = frames.levels(long, "AVISIT")
    if found.source != "sorted":
        return None
    ordered = sorted(found.values, key=lambda v: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", str(v))])
    warn(
        f"Visits in the order {', '.join(map(str, ordered))}, read from their labels, since nothing states one. "
        "Use an ordered categorical, a numeric visit, or visits=[...]."
    )
    return ordered


def _adtte(frame: pd.DataFrame, time: str, event: str) -> pd.DataFrame:
    values = frame[["USUBJID", "TRT01P", "TRT01PN"]].assign(
        PARAMCD="TTE", AVAL=_number(frame[time], time), EVENT=_zero_one(frame[event], event)
    )
    distinct = values.drop_duplicates().reset_index(drop=True)
    twice = distinct.loc[distinct["USUBJID"].duplicated(), "USUBJID"]
    if len(twice):
        raise DataError(f"{time}, {event}: {twice.nunique()} subjects have several values ({first_ids(twice)}).")
    return distinct.assign(CNSR=1.0 - distinct["EVENT"])


def _adsl(frame: pd.DataFrame, columns: Mapping[str, str | None]) -> pd.DataFrame:
    """One row per subject with every column that is constant within subject."""
    visit_level = {"PARAMCD", "AVISIT", "AVISITN", "AVAL", "CHG", columns["time"], columns["event"]}
    candidates = [c for c in frame.columns if c not in visit_level]
    spread = frame[candidates].groupby("USUBJID", sort=False).nunique(dropna=False)
    constant = ["USUBJID", *(c for c in spread.columns if (spread[c] <= 1).all())]
    return frame[constant].drop_duplicates("USUBJID").reset_index(drop=True)


def _one_value_each(subject: pd.Series, values: pd.Series, name: str) -> None:
    spread = values.groupby(subject.to_numpy()).nunique()
    several = spread.index[spread > 1]
    if len(several):
        raise DataError(f"{name}: {len(several)} subjects have more than one baseline ({first_ids(several)}).")


def _refuse_taken(frame: pd.DataFrame, names: Any) -> None:
    taken = [name for name in names if name in frame.columns]
    if taken:
        raise DataError(f"data: column {taken[0]!r} has a name that from_frame gives to another column. Rename it.")


def _number(values: pd.Series, name: str) -> pd.Series:
    numbers = pd.to_numeric(values, errors="coerce").astype(float)
    bad = values[numbers.isna() & values.notna()]
    if len(bad):
        raise DataError(f"{name}: {len(bad)} values are not numbers ({first_ids(bad)}).")
    return numbers


def _zero_one(values: pd.Series, name: str) -> pd.Series:
    numbers = _number(values, name)
    bad = numbers[numbers.notna() & ~numbers.isin([0.0, 1.0])]
    if len(bad):
        raise DataError(f"{name}: the event is 1 or 0 (True or False); {len(bad)} rows are not ({first_ids(bad)}).")
    return numbers


def _text(value: Any) -> str:
    """An id or a level as text; whole floats without their point."""
    return str(int(value)) if isinstance(value, (float, np.floating)) and value.is_integer() else str(value)
