"""Rules for every dataset: ids, types, numbers, flags, arms."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from kapstats.data import conventions
from kapstats.data.flags import letters
from kapstats.data.rules.rule import Hit, Rule, from_adsl, mask, no_rows, not_one_to_one
from kapstats.errors import first_ids, nearest
from kapstats.labels import folded

ARMS = {"TRT01P": "TRT01P", "TRTP": "TRT01P", "TRT01A": "TRT01A", "TRTA": "TRT01A"}
LABELS = ("TRT01P", "TRT01A", "TRTP", "TRTA", "AVISIT", "PARAM", "PARAMCD", "AEDECOD", "AEBODSYS", "ROUTE", "SEX")
SHARED = ("AGE", "SEX", "RACE", "SITEID", "SAFFL", "ITTFL", "TRTSDT", "TRTEDT")
UNBOUNDED = ("LEFT", "RIGHT", "AWLO", "AWHI")  # interval and window limits may be infinite
ACTIVE = r"^\s*[=@]|^\s*[+-]\s*\w*\(|<\s*/?\s*[a-zA-Z!][^>]*>?|[\x00-\x08\x0b\x0c\x0e-\x1f]"


def empty(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """A dataset has rows."""
    if frame.empty:
        yield Hit("", no_rows(frame), "no row")


def missing_id(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """Every row has a subject."""
    ids = frame["USUBJID"]
    yield Hit("USUBJID", mask(ids.isna() | (ids.astype(str).str.strip() == "")), "no subject id")


def orphan(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """Every subject is in ADSL."""
    if adsl is not None:
        ids = frame["USUBJID"]
        yield Hit("USUBJID", mask(ids.notna() & ~ids.isin(adsl["USUBJID"])), "subject not in ADSL")


def not_a_number(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """AVAL, BASE, CHG, CNSR, AGE ... are numbers."""
    for name in frame.columns:
        values = frame[name]
        if conventions.is_number(name) and not pd.api.types.is_numeric_dtype(values.dtype):
            bad = values.notna() & pd.to_numeric(values, errors="coerce").isna()
            yield Hit(name, mask(bad), f"text where a number belongs ({first_ids(values[bad], 3)})")


def non_finite(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """Numbers are finite (limits of intervals and windows excepted)."""
    for name in frame.select_dtypes("number", exclude="timedelta").columns.difference(UNBOUNDED, sort=False):
        yield Hit(name, np.isinf(frame[name].to_numpy(dtype=float)), "infinite")


def magnitude(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """Numbers are below 1e12 in size."""
    for name in frame.select_dtypes("number", exclude="timedelta").columns:
        values = frame[name].to_numpy(dtype=float)
        yield Hit(name, np.isfinite(values) & (np.abs(values) > 1e12), "beyond 1e12; is it a code for missing?")


def flag_values(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """Flags (names ending in FL) are Y, N or missing."""
    for name in (c for c in frame.columns if str(c).endswith("FL")):
        values = letters(frame[name])
        odd = values.notna() & ~values.isin(["Y", "N", ""])
        yield Hit(name, mask(odd), f"not Y or N ({first_ids(values[odd], 3)})")


def arm_number(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """Arm names stand beside their numbers (TRT01P, TRT01PN), one to one."""
    for name in (c for c in ARMS if f"{c}N" in frame.columns):
        if name in frame.columns:
            yield Hit(name, not_one_to_one(frame, name, f"{name}N"), f"{name} and {name}N are not one to one")
        else:
            others = [str(c) for c in frame.columns if c not in ARMS and str(c).removesuffix("N") not in ARMS]
            yield Hit(name, mask(frame[f"{name}N"].notna()), f"{name}N is there, {name} is not.{nearest(name, others)}")


def several_arms(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """A subject is in one arm."""
    if "APERIOD" in frame.columns:
        return
    for name in (c for c in ARMS if c in frame.columns):
        spread = frame[name].groupby(frame["USUBJID"].to_numpy()).transform("nunique")
        yield Hit(name, mask(spread > 1), "a subject in more than one arm")


def other_arm(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """The arm is the one in ADSL."""
    if "APERIOD" in frame.columns:
        return
    for name in (c for c in ARMS if c in frame.columns):
        planned = from_adsl(frame, adsl, ARMS[name])
        if planned is not None:
            differs = frame[name].astype(object).ne(planned.astype(object)) & frame[name].notna() & planned.notna()
            yield Hit(name, mask(differs), f"differs from ADSL.{ARMS[name]}")


def differs_from_adsl(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """Age, sex, site, flags agree with ADSL."""
    for name in (c for c in SHARED if c in frame.columns):
        theirs = from_adsl(frame, adsl, name)
        if theirs is not None:
            differs = frame[name].astype(object).ne(theirs.astype(object)) & frame[name].notna() & theirs.notna()
            yield Hit(name, mask(differs), f"differs from ADSL.{name}")


def _repeated(frame: pd.DataFrame) -> pd.Series:
    """Rows that were there before; columns of lists and the like are compared as texts."""
    try:
        return frame.duplicated()
    except TypeError:
        return frame.map(repr).duplicated()


def duplicate_row(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """No row stands twice."""
    yield Hit("", mask(_repeated(frame)), "the same row again")


def variants(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """A label is spelt in one way (case, blanks)."""
    for name in (c for c in frame.columns if c in LABELS or _has_labels(frame[c], str(c))):
        if pd.api.types.is_numeric_dtype(frame[name].dtype):
            continue
        values = frame[name].dropna().map(str)
        unique = pd.Series(values.unique())
        twins = unique[unique.map(folded).duplicated(keep=False)]
        spelt = "; ".join(repr(v) for v in twins.head(3))
        yield Hit(name, mask(frame[name].isin(twins.tolist())), f"spelt in several ways ({spelt})")


def _has_labels(values: pd.Series, name: str) -> bool:
    """Whether a text column of any name says which group a row is in: few texts, each many times."""
    if values.dtype.kind != "O" or name.endswith("FL") or conventions.is_date(name):
        return False
    there = [v for v in values if isinstance(v, str)]
    return len(set(there)) <= min(30, len(there) / 2)


def active_text(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """Labels hold no markup, formula or control character."""
    for name in (c for c in LABELS if c in frame.columns and not pd.api.types.is_numeric_dtype(frame[c].dtype)):
        values = frame[name].astype("object").where(frame[name].notna(), "").astype(str)
        yield Hit(name, mask(values.str.contains(ACTIVE, regex=True)), "text that a spreadsheet or browser would run")


def date_kind(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """Dates are full dates."""
    for name in (c for c in frame.columns if conventions.is_date(str(c))):
        values = frame[name]
        if pd.api.types.is_datetime64_any_dtype(values.dtype) or values.isna().all():
            continue
        if pd.api.types.is_numeric_dtype(values.dtype):
            yield Hit(name, mask(values.notna()), "a number without a date format: days since when?")
        else:
            full = (
                values.astype("object").where(values.notna(), "").astype(str).str.fullmatch(conventions.ISO_DATE_TIME)
            )
            yield Hit(name, mask(values.notna() & ~full), "partial, or not in the form 2024-03-01")


def impossible_date(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """Dates lie in the years 1900 to 2100."""
    for name in frame.columns:
        values = frame[name]
        if pd.api.types.is_datetime64_any_dtype(values.dtype) or conventions.is_date(str(name)):
            year = _years(values)
            yield Hit(name, mask((year < 1900) | (year > 2100)), "before 1900 or after 2100")


def _years(values: pd.Series) -> pd.Series:
    """The year of dates and of texts that begin as an ISO date, 2000 where there is none."""
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        return values.dt.year.fillna(2000)
    found = values.astype(str).str.extract(r"^(\d{4})-\d\d", expand=False)
    return pd.to_numeric(found, errors="coerce").fillna(2000)


RULES = (
    Rule("no-rows", "warning", "every", "a dataset has rows", empty),
    Rule("missing-id", "error", "every", "every row has a subject", missing_id, ("USUBJID",)),
    Rule("orphan-subject", "error", "every", "every subject is in ADSL", orphan, ("USUBJID",)),
    Rule("not-a-number", "error", "every", "AVAL, BASE, CHG, CNSR, AGE ... are numbers", not_a_number),
    Rule("non-finite", "error", "every", "numbers are finite (limits of intervals and windows excepted)", non_finite),
    Rule("magnitude", "error", "every", "numbers are below 1e12 in size", magnitude),
    Rule("flag-values", "error", "every", "flags (names ending in FL) are Y, N or missing", flag_values),
    Rule("arm-number", "error", "every", "arm names stand beside their numbers (TRT01PN), one to one", arm_number),
    Rule("several-arms", "error", "every", "a subject is in one arm", several_arms, ("USUBJID",)),
    Rule("other-arm", "error", "every", "the arm is the one in ADSL", other_arm, ("USUBJID",)),
    Rule("differs-from-adsl", "warning", "every", "age, sex, site, flags agree with ADSL", differs_from_adsl),
    Rule("duplicate-row", "warning", "every", "no row stands twice", duplicate_row),
    Rule("variants", "warning", "every", "a label is spelt in one way (case, blanks)", variants),
    Rule("active-text", "warning", "every", "labels hold no markup, formula or control character", active_text),
    Rule("date-kind", "warning", "every", "dates are full dates", date_kind),
    Rule("impossible-date", "error", "every", "dates lie in the years 1900 to 2100", impossible_date),
)
