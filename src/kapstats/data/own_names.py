"""From one table with the caller's own column names to ADSL, ADQS and ADTTE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from kapstats import frames
from kapstats.errors import DataError, FormulaError, first_ids, nearest, warn
from kapstats.labels import visit_numbers

Visit = str | Sequence[str] | Mapping[str, Any] | None
Outcome = str | Sequence[str] | Mapping[Any, Any] | None
#: texts that mean a missing value where a number belongs, as the reader of files takes them
MISSING = ("", ".", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "none", "missing")
YES, NO = ("yes", "y", "true", "1"), ("no", "n", "false", "0")


def standardise(
    frame: pd.DataFrame,
    columns: Mapping[str, str | None],
    visit: Visit,
    outcome: Outcome,
    arms: Sequence[Any] | None,
    visits: Sequence[Any] | None,
) -> dict[str, pd.DataFrame]:
    """ADSL, ADQS and ADTTE of `frame`; `columns` maps subject, arm, baseline, time and event to its columns."""
    frames.require(frame, [c for name, c in columns.items() if c is not None and name != "baseline"])
    if (columns["time"] is None) != (columns["event"] is None):
        raise FormulaError("time= and event= belong together: the time, and whether the event happened then.")
    frame = _with_subject_and_arm(frame, str(columns["subject"]), str(columns["arm"]), arms)
    tables = {}
    if visit is None and outcome is not None and not isinstance(outcome, str):
        visit, outcome = _columns_of_visits(outcome, frame), None
    if visit is not None:
        long = _long(frame, visit, outcome) if isinstance(visit, str) else _wide_to_long(frame, visit, outcome)
        tables["adqs"] = _adqs(long, columns["baseline"], visits)
    if columns["time"] is not None:
        tables["adtte"] = _adtte(frame, columns["time"], str(columns["event"]))
    return {"adsl": _adsl(tables.get("adqs", frame), columns), **tables}


def _with_subject_and_arm(frame: pd.DataFrame, subject: str, arm: str, order: Sequence[Any] | None) -> pd.DataFrame:
    """`frame` with USUBJID, TRT01P and TRT01PN in front, in place of the caller's columns."""
    missing = int(frame[subject].isna().sum())
    if missing:
        raise DataError(f"{subject}: {missing} rows have no subject. Fill them in or leave the rows out.")
    frame = _arm_on_every_row(frame, subject, arm)
    found = frames.levels(frame, arm, order)
    frames.warn_factors({arm: found})
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


def _arm_on_every_row(frame: pd.DataFrame, subject: str, arm: str) -> pd.DataFrame:
    """The only arm of a subject on all its rows: REDCap and others write it on the first row alone."""
    blank = frame[arm].isna() | frame[arm].astype(str).str.strip().eq("")
    values = frame[arm].mask(blank)
    known = values.groupby(frame[subject].to_numpy()).agg(["nunique", "first"])
    filled = frame[subject].map(known["first"].where(known["nunique"] == 1))
    at = blank & filled.notna()
    if not blank.any():
        return frame
    if at.any():
        warn(f"{arm}: {int(at.sum())} rows without an arm have the only arm of their {subject}.")
    made = values.astype("object").where(~at, filled.astype("object"))
    return frame.assign(**{arm: made.astype(values.dtype) if not made.isna().any() else made})


def _columns_of_visits(outcome: Any, frame: pd.DataFrame) -> Any:
    """The columns of a wide table and their visits: a list, ``{column: visit}`` or ``{visit: column}``."""
    if isinstance(outcome, Mapping) and not set(outcome) <= set(frame.columns):
        return {column: label for label, column in outcome.items()}
    return outcome


def _one_arm_each(subject: pd.Series, arm: pd.Series, name: str) -> None:
    per_subject = arm.groupby(subject.to_numpy()).nunique(dropna=False)
    several = per_subject.index[per_subject > 1]
    if len(several):
        raise DataError(
            f"{name}: {len(several)} subjects are in more than one arm ({first_ids(several)}). Give each the arm to "
            "which it was randomised."
        )


def _wide_to_long(frame: pd.DataFrame, visit: Any, outcome: Any) -> pd.DataFrame:
    labels = dict(visit) if isinstance(visit, Mapping) else {column: column for column in visit}
    frames.require(frame, labels)
    rest = frame.drop(columns=list(labels))
    _refuse_taken(rest, ["AVISIT", "AVISITN", "AVAL", "PARAMCD"])
    if not isinstance(outcome, str | None):
        raise FormulaError("from_frame: name the columns of a wide table in visit= or in outcome=, not in both.")
    numbers = _visit_numbers(list(labels.values()))
    order = range(1, len(labels) + 1)
    parts = [
        rest.assign(
            PARAMCD=outcome or "OUTCOME",
            AVISIT=_text(label),
            AVISITN=number,
            AVAL=_number(frame[column], column, frame["USUBJID"]),
            _row=np.arange(len(frame)),
        )
        for (column, label), number in zip(labels.items(), map(float, numbers or order), strict=True)
    ]
    long = pd.concat(parts, ignore_index=True).sort_values(["_row", "AVISITN"], kind="stable")
    return long.drop(columns="_row").reset_index(drop=True)


def _long(frame: pd.DataFrame, visit: str, outcome: Any) -> pd.DataFrame:
    """One row per subject, visit and outcome; PARAMCD is the column of the outcome."""
    outcomes = [outcome] if isinstance(outcome, str) else list(outcome or ())
    if not outcomes:
        raise FormulaError("from_frame: long form needs outcome= (the column that holds the value at each visit).")
    frames.require(frame, [visit, *outcomes])
    rest = frame.drop(columns=[visit, *outcomes])
    _refuse_taken(rest, ["AVISIT", "AVAL", "PARAMCD"])
    made: dict[str, Any] = {"AVISIT": frame[visit]}
    if f"{visit}N" in frame.columns:
        rest, made["AVISITN"] = rest.drop(columns=f"{visit}N"), frame[f"{visit}N"]
    parts = [rest.assign(PARAMCD=o, **made, AVAL=_number(frame[o], o, frame["USUBJID"])) for o in outcomes]
    return parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True)


def _adqs(long: pd.DataFrame, baseline: str | None, visits: Sequence[Any] | None) -> pd.DataFrame:
    """`long` with visits numbered in order and, with a baseline, BASE and CHG."""
    order = list(visits) if visits is not None else _order_of_visits(long)
    found = frames.levels(long, "AVISIT", order)
    own = _visit_numbers(list(found.values))
    in_order = own is not None and all(a < b for a, b in pairwise(own))
    numbers = np.array([*(own if own and in_order else range(1, len(found.values) + 1)), np.nan], dtype=float)
    names = np.array([*map(_text, found.values), None], dtype=object)
    stated = {} if "AVISITN" in long.columns else {"AVISITN": numbers[found.codes]}
    adqs = long.assign(AVISIT=names[found.codes], **stated)
    if baseline is None:
        return adqs
    if baseline not in adqs.columns:
        return _from_baseline_visit(adqs, baseline, names)
    if adqs["PARAMCD"].nunique() > 1:
        raise FormulaError(
            "from_frame: one column cannot be the baseline of several outcomes; name the baseline visit."
        )
    base = _number(adqs[baseline], baseline, adqs["USUBJID"])
    _one_value_each(adqs["USUBJID"], base, baseline)
    return adqs.drop(columns=baseline).assign(BASE=base, CHG=adqs["AVAL"] - base)


def _from_baseline_visit(adqs: pd.DataFrame, baseline: str, visits: Any) -> pd.DataFrame:
    """BASE is the value at the visit of this name, which has no change itself."""
    known = [str(v) for v in visits if v is not None]
    if baseline not in known:
        near = nearest(baseline, [*map(str, adqs.columns), *known])
        raise DataError(f"baseline={baseline!r} is neither a column nor a visit.{near}")
    at = adqs["AVISIT"].eq(baseline)
    key = ["USUBJID", "PARAMCD"]
    first = adqs[at].dropna(subset="AVAL")
    _one_value_each(first["USUBJID"] + " " + first["PARAMCD"], first["AVAL"], baseline)
    base = adqs[key].merge(first.drop_duplicates(key)[[*key, "AVAL"]], on=key, how="left")["AVAL"].to_numpy()
    change = (adqs["AVAL"] - base).mask(at)
    return adqs.assign(BASE=base, CHG=change, ABLFL=at.map({True: "Y"}))


def _visit_numbers(labels: list[Any]) -> list[float] | None:
    """The numbers of visits, or those in their labels; None where not every visit has one."""
    if all(isinstance(v, (int, float, np.number)) and not isinstance(v, bool) for v in labels):
        return [float(v) for v in labels]
    return visit_numbers(labels)


def _order_of_visits(long: pd.DataFrame) -> list[Any] | None:
    """None when an order is stated, by the numbers in the labels too; else that of appearance, with a warning."""
    found = frames.levels(long, "AVISIT")
    if found.source != "sorted" or len(found.values) < 2:
        return None
    ordered = long["AVISIT"].dropna().unique().tolist()
    warn(
        f"Visits in the order in which they appear ({', '.join(map(str, ordered))}), since their labels state none. "
        "Use visits=[...], an ordered categorical or a numeric visit."
    )
    return ordered


def _adtte(frame: pd.DataFrame, time: str, event: str) -> pd.DataFrame:
    values = frame[["USUBJID", "TRT01P", "TRT01PN"]].assign(
        PARAMCD="TTE",
        AVAL=_number(frame[time], time, frame["USUBJID"]),
        EVENT=_zero_one(frame[event], event, frame["USUBJID"]),
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


def _number(values: pd.Series, name: str, subject: pd.Series) -> pd.Series:
    """A column as numbers; texts such as "n/a" are missing, as they are in a file."""
    values = values.mask(values.isin(MISSING))
    numbers = pd.to_numeric(values, errors="coerce").astype(float)
    bad = numbers.isna() & values.notna()
    if bad.any():
        raise DataError(
            f"{name}: {int(bad.sum())} values are not numeric ({first_ids(map(repr, values[bad]))}; subjects "
            f"{first_ids(subject[bad])}). Make them numbers or leave them empty."
        )
    return numbers


def _zero_one(values: pd.Series, name: str, subject: pd.Series) -> pd.Series:
    """1 for 1, True, yes and Y; 0 for 0, False, no and N."""
    spelt = values.map(lambda v: _text(v).strip().casefold(), na_action="ignore")
    spelt = spelt.mask(spelt.isin([m.casefold() for m in MISSING]))
    bad = spelt.notna() & ~spelt.isin([*YES, *NO])
    if bad.any():
        raise DataError(
            f"{name}: the event must be 1 or 0, True or False, yes or no; {int(bad.sum())} rows are not "
            f"({first_ids(map(repr, values[bad]))}; subjects {first_ids(subject[bad])}). Make a column that is 1 where "
            "the event happened."
        )
    return spelt.isin(YES).astype(float).where(spelt.notna())


def _text(value: Any) -> str:
    """An id or a level as text; whole floats without their point."""
    return str(int(value)) if isinstance(value, (float, np.floating)) and value.is_integer() else str(value)
