"""Rules for assessments over visits (ADQS and other datasets with AVAL by AVISIT)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from kapstats._types import BoolArray
from kapstats.data.flags import letters
from kapstats.data.rules.rule import Hit, Rule, dates, from_adsl, mask, no_rows, not_one_to_one

KEY = ("USUBJID", "PARAMCD", "APERIOD", "AVISIT", "AVISITN", "SESSION", "ATPT", "ATPTN", "ATPTMIN", "DTYPE", "BASETYPE")
TOLERANCE = 1e-6


def required(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """There are subjects and values."""
    for name in ("USUBJID", "AVAL"):
        if name not in frame.columns:
            yield Hit(name, no_rows(frame), "the variable is not there")


def duplicate_key(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """One analysed record per subject, parameter, visit."""
    used = letters(frame["ANL01FL"]).eq("Y") if "ANL01FL" in frame.columns else pd.Series(True, index=frame.index)
    timed = not {"AVISIT", "AVISITN"} & set(frame.columns)
    key = [c for c in (*KEY, *(("ADT", "ADTM", "ADY") if timed else ())) if c in frame.columns]
    again = frame.loc[used, key].duplicated(keep=False).reindex(frame.index, fill_value=False)
    yield Hit("AVISIT", mask(again), f"several records for one {', '.join(key)}")


def visit_number(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """Visit names and numbers are one to one."""
    yield Hit("AVISIT", not_one_to_one(frame, "AVISIT", "AVISITN"), "AVISIT and AVISITN are not one to one")


def visit_order(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """Only observed records count: a carried-forward value bears the date of its source."""
    when = dates(frame, "ADT", "ADTM")
    if when is None and "ADY" in frame.columns:
        when = pd.to_numeric(frame["ADY"], errors="coerce")
    if when is None:
        return
    observed = mask(when.notna() & frame["AVISITN"].notna() & (frame["DTYPE"].isna() if "DTYPE" in frame else True))
    group = [c for c in ("USUBJID", "PARAMCD", "SESSION", "APERIOD") if c in frame.columns]
    part = frame.loc[observed, [*group, "AVISITN"]].assign(_when=when[observed])
    part = part.drop_duplicates([*group, "AVISITN"], keep=False).sort_values([*group, "AVISITN"], kind="stable")
    back = part["_when"].lt(part.groupby(group, dropna=False, observed=True)["_when"].shift())
    yield Hit("AVISITN", mask(back.reindex(frame.index, fill_value=False)), "dated before the visit that precedes it")


def change(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """CHG is AVAL - BASE."""
    yield Hit("CHG", _differs(frame["CHG"], frame["AVAL"] - frame["BASE"]), "not AVAL - BASE")


def percent_change(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """PCHG is 100 CHG / BASE."""
    base = frame["BASE"].where(frame["BASE"] != 0)
    yield Hit("PCHG", _differs(frame["PCHG"], 100 * (frame["AVAL"] - base) / base), "not 100 (AVAL - BASE) / BASE")


def _differs(stated: pd.Series, computed: pd.Series) -> BoolArray:
    scale = np.maximum(1.0, computed.abs().to_numpy(dtype=float))
    return mask((stated - computed).abs() > TOLERANCE * scale)


def baseline_value(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """BASE is the baseline record."""
    flagged = letters(frame["ABLFL"]).eq("Y")
    yield Hit("BASE", mask(flagged) & _differs(frame["BASE"], frame["AVAL"]), "not AVAL of the baseline record (ABLFL)")


def baseline_spread(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """One baseline per subject."""
    group = [frame[c].to_numpy() for c in ("USUBJID", "PARAMCD", "BASETYPE", "SESSION") if c in frame.columns]
    yield Hit("BASE", mask(frame["BASE"].groupby(group).transform("nunique") > 1), "several baselines for a subject")


def baseline_records(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """One baseline record per subject."""
    flagged = letters(frame["ABLFL"]).eq("Y")
    key = [c for c in ("USUBJID", "PARAMCD", "BASETYPE", "APERIOD", "SESSION", "ATPT") if c in frame.columns]
    again = frame.loc[flagged, key].duplicated(keep=False).reindex(frame.index, fill_value=False)
    yield Hit("ABLFL", mask(again), "several baseline records for a subject")


def no_baseline(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """A value has a baseline."""
    yield Hit("BASE", mask(frame["BASE"].isna() & frame["AVAL"].notna()), "a value without a baseline")


def parameter_code(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """PARAM and PARAMCD are one to one."""
    yield Hit("PARAMCD", not_one_to_one(frame, "PARAM", "PARAMCD"), "PARAM and PARAMCD are not one to one")


def mixed_units(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """One unit per parameter."""
    for name in (c for c in ("AVALU", "PARAMU") if c in frame.columns):
        group = frame["PARAMCD"].to_numpy() if "PARAMCD" in frame.columns else np.zeros(len(frame))
        yield Hit(name, mask(frame[name].groupby(group).transform("nunique") > 1), "several units in one parameter")


def outside_study(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """More than a year outside everything that ADSL dates."""
    when = dates(frame, "ADT", "ADTM", "ASTDT", "ASTDTM")
    if when is None or adsl is None:
        return
    known = [c for c in adsl.columns if pd.api.types.is_datetime64_any_dtype(adsl[c].dtype) and _in_study(str(c))]
    if known:
        year = pd.Timedelta(days=366)
        low, high = adsl[known].min().min() - year, adsl[known].max().max()
        high = high + year if high.year < 9999 else high  # no date is later than 31DEC9999
        yield Hit(str(when.name), mask((when < low) | (when > high)), "more than a year outside the dates of ADSL")


def _in_study(name: str) -> bool:
    return name.startswith(("TRT", "RF", "RAND", "EOS", "EOT", "DTH", "LST"))


def after_death(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """Nothing is dated after death."""
    when, death = dates(frame, "ADT", "ADTM", "ASTDT", "ASTDTM"), from_adsl(frame, adsl, "DTHDT")
    if when is not None and death is not None and pd.api.types.is_datetime64_any_dtype(death.dtype):
        yield Hit(str(when.name), mask(when.dt.normalize() > death), "after the subject's death")


def missing_value(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """Records have a value."""
    yield Hit("AVAL", mask(frame["AVAL"].isna()), "no value")


CHANGE = ("AVAL", "BASE", "CHG")
KIND = "assessments"
RULES = (
    Rule("required-variable", "error", KIND, "there are subjects and values", required),
    Rule(
        "duplicate-key", "error", KIND, "one analysed record per subject, parameter, visit", duplicate_key, ("USUBJID",)
    ),
    Rule("visit-number", "error", KIND, "visit names and numbers are one to one", visit_number, ("AVISIT", "AVISITN")),
    Rule("visit-order", "warning", KIND, "visits follow each other in time", visit_order, ("USUBJID", "AVISITN")),
    Rule("change", "error", KIND, "CHG is AVAL - BASE", change, CHANGE),
    Rule("percent-change", "error", KIND, "PCHG is 100 CHG / BASE", percent_change, ("AVAL", "BASE", "PCHG")),
    Rule("baseline-value", "error", KIND, "BASE is the baseline record", baseline_value, ("AVAL", "BASE", "ABLFL")),
    Rule("baseline-spread", "error", KIND, "one baseline per subject", baseline_spread, ("USUBJID", "BASE")),
    Rule("baseline-records", "error", KIND, "one baseline record per subject", baseline_records, ("USUBJID", "ABLFL")),
    Rule("no-baseline", "warning", KIND, "a value has a baseline", no_baseline, ("AVAL", "BASE")),
    Rule("parameter-code", "warning", KIND, "PARAM and PARAMCD are one to one", parameter_code, ("PARAM", "PARAMCD")),
    Rule("mixed-units", "error", KIND, "one unit per parameter", mixed_units),
    Rule("outside-study", "warning", KIND, "dates lie in the study", outside_study),
    Rule("after-death", "error", KIND, "nothing is dated after death", after_death),
    Rule("missing-value", "note", KIND, "records have a value", missing_value, ("AVAL",)),
)
