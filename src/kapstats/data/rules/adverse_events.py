"""Rules for adverse events (ADAE)."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from kapstats.data.flags import letters
from kapstats.data.rules.assessments import after_death, outside_study
from kapstats.data.rules.rule import Hit, Rule, dates, from_adsl, mask, no_rows
from kapstats.errors import first_ids

FIRSTS = {"AOCCFL": (), "AOCCSFL": ("AEBODSYS",), "AOCCPFL": ("AEBODSYS", "AEDECOD")}


def required(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """There are subjects and terms."""
    for name in ("USUBJID", "AEDECOD"):
        if name not in frame.columns:
            yield Hit(name, no_rows(frame), "the variable is not there")


def uncoded(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """Events are coded."""
    for name in (c for c in ("AEDECOD", "AEBODSYS") if c in frame.columns):
        yield Hit(name, mask(frame[name].isna()), "no coded term; counted as Uncoded")


def end_before_start(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """An event does not end before it starts."""
    start, end = dates(frame, "ASTDTM", "AESTDTM"), dates(frame, "AENDTM", "AEENDTM")
    if start is not None and end is not None:
        yield Hit(str(end.name), mask(end < start), "ends before it starts")
        return
    start, end = dates(frame, "ASTDT", "ASTDTM", "AESTDTC"), dates(frame, "AENDT", "AENDTM", "AEENDTC")
    if start is not None and end is not None:
        yield Hit(str(end.name), mask(end.dt.normalize() < start.dt.normalize()), "ends before it starts")


def no_start(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """An event has a start."""
    name = next((c for c in ("ASTDTM", "ASTDT", "AESTDTM", "AESTDTC") if c in frame.columns), None)
    if name is not None:
        yield Hit(name, mask(frame[name].isna()), "no start")


def emergent_early(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """Emergent events start after the first dose."""
    start = dates(frame, "ASTDT", "ASTDTM")
    first = dates(frame, "TRTSDT") if "TRTSDT" in frame.columns else from_adsl(frame, adsl, "TRTSDT")
    if start is not None and first is not None and pd.api.types.is_datetime64_any_dtype(first.dtype):
        early = letters(frame["TRTEMFL"]).eq("Y") & (start.dt.normalize() < first.dt.normalize())
        yield Hit("TRTEMFL", mask(early), "flagged as emergent, starts before the first dose")


def first_flags(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """First-occurrence flags mark one event."""
    for name, within in FIRSTS.items():
        key = ["USUBJID", *(c for c in within if c in frame.columns)]
        if name in frame.columns:
            first = letters(frame[name]).eq("Y")
            again = frame.loc[first, key].duplicated(keep=False).reindex(frame.index, fill_value=False)
            yield Hit(name, mask(again), "more than one first occurrence")


def several_classes(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """A term is in one body system."""
    classes = frame["AEBODSYS"].groupby(frame["AEDECOD"].to_numpy()).transform("nunique")
    yield Hit("AEBODSYS", mask(classes > 1), "a term in several body systems")


def duplicate_sequence(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """AESEQ is unique per subject."""
    again = frame[["USUBJID", "AESEQ"]].dropna().duplicated(keep=False).reindex(frame.index, fill_value=False)
    yield Hit("AESEQ", mask(again), "a sequence number stands twice for a subject")


def event_again(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """No event stands twice under two numbers."""
    rest = frame.drop(columns=[c for c in ("AESEQ", "ASEQ") if c in frame.columns])
    flags = [c for c in rest.columns if str(c).startswith("AOCC")]
    yield Hit("AESEQ", mask(rest.drop(columns=flags).duplicated()), "the same event again under another number")


def severity(frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[Hit]:
    """Severity is one of the terms of the standard."""
    for name in (c for c in ("AESEV", "ASEV") if c in frame.columns):
        values = frame[name].dropna().astype(str).str.strip().str.upper()
        odd = ~values.isin(SEVERITIES) & values.ne("")
        seen = f"not mild, moderate or severe ({first_ids(frame.loc[odd.index[odd], name], 3)})"
        yield Hit(name, mask(odd.reindex(frame.index, fill_value=False)), seen)


KIND = "adverse events"
SEVERITIES = ("MILD", "MODERATE", "SEVERE", "LIFE THREATENING", "LIFE-THREATENING", "FATAL", *"12345")
RULES = (
    Rule("required-variable", "error", KIND, "there are subjects and terms", required),
    Rule("uncoded", "warning", KIND, "events are coded", uncoded),
    Rule("end-before-start", "error", KIND, "an event does not end before it starts", end_before_start),
    Rule("severity", "warning", KIND, "severity is a term of the standard", severity),
    Rule("no-start", "warning", KIND, "an event has a start", no_start),
    Rule("emergent-early", "warning", KIND, "emergent events start after the first dose", emergent_early, ("TRTEMFL",)),
    Rule("first-occurrence", "warning", KIND, "first-occurrence flags mark one event", first_flags, ("USUBJID",)),
    Rule("several-classes", "note", KIND, "a term is in one body system", several_classes, ("AEDECOD", "AEBODSYS")),
    Rule(
        "duplicate-sequence", "warning", KIND, "AESEQ is unique per subject", duplicate_sequence, ("USUBJID", "AESEQ")
    ),
    Rule("event-again", "note", KIND, "no event stands twice under two numbers", event_again, ("AESEQ",)),
    Rule("outside-study", "warning", KIND, "dates lie in the study", outside_study),
    Rule("after-death", "error", KIND, "nothing is dated after death", after_death),
)
