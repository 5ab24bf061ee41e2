"""Rules for ADSL."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from kapstats.data.flags import letters
from kapstats.data.rules.rule import Hit, Rule, dates, mask, no_rows

POPULATIONS = ("SAFFL", "ITTFL", "FASFL", "EFFFL", "PPROTFL", "RANDFL")


def required(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """ADSL has an arm."""
    if not {"TRT01P", "TRT01A", "TRTP", "TRTA", "ARM"} & set(frame.columns):
        yield Hit("TRT01P", no_rows(frame), "no treatment variable (TRT01P or TRT01A)")


def missing_arm(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """Every subject has an arm."""
    for name in (c for c in ("TRT01P", "TRT01A") if c in frame.columns):
        safe = letters(frame["SAFFL"]).eq("Y") if "SAFFL" in frame.columns and name == "TRT01A" else True
        yield Hit(name, mask(frame[name].isna() & safe), "no arm")


def population_missing(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """Population flags are Y or N."""
    for name in (c for c in POPULATIONS if c in frame.columns):
        yield Hit(name, mask(frame[name].isna()), "missing; counted as N")


def treatment_dates(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """The last dose is not before the first."""
    start, end = dates(frame, "TRTSDTM", "TRTSDT"), dates(frame, "TRTEDTM", "TRTEDT")
    if start is not None and end is not None:
        yield Hit("TRTEDT", mask(end.dt.normalize() < start.dt.normalize()), "last dose before the first")


def treated_not_safe(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """SAFFL says who was dosed."""
    treated, safe = frame["TRTSDT"].notna(), letters(frame["SAFFL"]).eq("Y")
    yield Hit("SAFFL", mask(treated & ~safe), "dosed, but not in the safety population")
    yield Hit("SAFFL", mask(~treated & safe), "in the safety population without a first dose")


def age(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """Age is 0 to 120."""
    years = pd.to_numeric(frame["AGE"], errors="coerce")
    yield Hit("AGE", mask((years < 0) | (years > 120)), "outside 0 to 120")


RULES = (
    Rule("required-variable", "error", "subjects", "ADSL has an arm", required),
    Rule("missing-arm", "error", "subjects", "every subject has an arm", missing_arm),
    Rule("population-missing", "warning", "subjects", "population flags are Y or N", population_missing),
    Rule("treatment-dates", "error", "subjects", "the last dose is not before the first", treatment_dates),
    Rule("treated-not-safe", "warning", "subjects", "SAFFL says who was dosed", treated_not_safe, ("TRTSDT", "SAFFL")),
    Rule("age", "error", "subjects", "age is 0 to 120", age, ("AGE",)),
)
