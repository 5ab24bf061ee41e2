"""Rules for times to events (ADTTE)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from kapstats.data.rules.rule import Hit, Rule, dates, mask, no_rows

INTERVALS = ("START", "STOP", "ASEQ", "LEFT", "TTESEQ")


def required(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """There are subjects, times and events."""
    if "USUBJID" not in frame.columns:
        yield Hit("USUBJID", no_rows(frame), "the variable is not there")
    if not {"AVAL", "STOP", "RIGHT"} & set(frame.columns):
        yield Hit("AVAL", no_rows(frame), "no time (AVAL)")
    if not {"CNSR", "EVENT", "STATUS"} & set(frame.columns):
        yield Hit("CNSR", no_rows(frame), "no variable says whether the event happened (CNSR)")


def missing_time(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """Every row has a time."""
    yield Hit("AVAL", mask(frame["AVAL"].isna()), "no time")


def not_positive(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """Times are above 0."""
    yield Hit("AVAL", mask(pd.to_numeric(frame["AVAL"], errors="coerce") <= 0), "time zero or negative")


def far(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """Times are within ten times the 95th percentile of their parameter."""
    time = pd.to_numeric(frame["AVAL"], errors="coerce")
    group = frame["PARAMCD"].to_numpy() if "PARAMCD" in frame.columns else np.zeros(len(frame))
    usual = time.groupby(group).transform(lambda t: t.quantile(0.95) if t.count() >= 20 else np.inf)
    yield Hit("AVAL", mask((time > 10 * usual) & (usual > 0)), "more than ten times the 95th percentile")


def censoring(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """CNSR is 0 (event) or a positive whole number."""
    code = pd.to_numeric(frame["CNSR"], errors="coerce")
    yield Hit("CNSR", mask(code.isna() | (code < 0) | (code % 1 != 0)), "missing, negative or no whole number")


def censoring_codes(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """CNSR is 0 or 1."""
    code = pd.to_numeric(frame["CNSR"], errors="coerce")
    yield Hit("CNSR", mask((code > 1) & (code % 1 == 0)), "neither 0 nor 1; above 0 all count as censored")


def event_and_censoring(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """EVENT is 1 where CNSR is 0."""
    yield Hit("EVENT", mask((frame["EVENT"] == 1) != (frame["CNSR"] == 0)), "EVENT and CNSR contradict each other")


def duplicate_key(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """One row per subject and parameter."""
    key = [c for c in ("USUBJID", "PARAMCD", *INTERVALS) if c in frame.columns]
    yield Hit("PARAMCD", mask(frame[key].duplicated(keep=False)), f"several rows for one {', '.join(key)}")


def before_start(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """The event is not before the start."""
    start, end = dates(frame, "STARTDT", "STARTDTM"), dates(frame, "ADT", "ADTM")
    if start is not None and end is not None:
        yield Hit("ADT", mask(end.dt.normalize() < start.dt.normalize()), "the event is dated before the start")


def interval_order(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """Intervals end after they begin."""
    yield Hit("STOP", mask(frame["STOP"] <= frame["START"]), "the interval ends where it begins, or before")


def limits_order(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """RIGHT is not before LEFT."""
    yield Hit("RIGHT", mask(frame["RIGHT"] < frame["LEFT"]), "RIGHT before LEFT")


KIND = "times"
RULES = (
    Rule("required-variable", "error", KIND, "there are subjects, times and events", required),
    Rule("missing-time", "error", KIND, "every row has a time", missing_time, ("AVAL",)),
    Rule("time-not-positive", "error", KIND, "times are above 0", not_positive, ("AVAL",)),
    Rule("time-far", "warning", KIND, "times are within ten times their 95th percentile", far, ("AVAL",)),
    Rule("censoring", "error", KIND, "CNSR is 0 (event) or a positive whole number", censoring, ("CNSR",)),
    Rule("censoring-codes", "warning", KIND, "CNSR is 0 or 1", censoring_codes, ("CNSR",)),
    Rule("event-and-censoring", "error", KIND, "EVENT is 1 where CNSR is 0", event_and_censoring, ("EVENT", "CNSR")),
    Rule("duplicate-key", "error", KIND, "one row per subject and parameter", duplicate_key, ("USUBJID",)),
    Rule("event-before-start", "error", KIND, "the event is not before the start", before_start),
    Rule("interval-order", "error", KIND, "intervals end after they begin", interval_order, ("START", "STOP")),
    Rule("limits-order", "error", KIND, "RIGHT is not before LEFT", limits_order, ("LEFT", "RIGHT")),
)
