"""Time at risk: days from the first dose to an event, and to the end of follow-up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kapstats import frames
from kapstats._types import FloatArray, IntArray
from kapstats.data.conventions import capitals
from kapstats.data.flags import is_yes
from kapstats.errors import DataError, FormulaError, choose, first_ids, warn
from kapstats.safety import records as collecting
from kapstats.safety.records import Records

if TYPE_CHECKING:
    from kapstats.safety.incidence import Incidence

#: columns of ADSL that end follow-up, the most suitable first
ENDS = ("EOSDTM", "EOSDT", "RFENDT", "RFENDTC", "TRTEDTM", "TRTEDT")
COMPETING = ("death", "adverse-event", "discontinuation")


@dataclass(frozen=True, slots=True)
class FollowUp:
    """Days since the first dose.

    onset : (events,) onset of every record; end : (subjects,) end of follow-up
    cause : (subjects,) what ended it: 0 censored, 2 a competing event
    notes, warnings : how the times were made
    """

    onset: FloatArray
    end: FloatArray
    cause: IntArray
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def follow_up(
    chosen: Records,
    *,
    onset: str | None = None,
    end: str | None = None,
    competing: Sequence[str] | str = ("death",),
    extend: bool = False,
    counted: bool = False,
) -> FollowUp:
    """Times of all records and subjects of an incidence table.

    Parameters
    ----------
    onset : ADAE column with days since the first dose; by default from ASTDTM or ASTDT and TRTSDTM or TRTSDT. Where
        both hold a time of day the difference is exact; otherwise the first day is day 1
    end : ADSL column with the end of follow-up (a date, or days); by default EOSDT, RFENDT or TRTEDT, as there are
    competing : what makes the end a competing event: death (DTHFL), adverse-event (discontinued for one, DCSREAS), or
        discontinuation (for any reason). The planned end of follow-up and the data cut are censoring
    extend : follow subjects with an event after the end up to that event. This lengthens the time at risk of those who
        had a late event, and of nobody else
    counted : whether the caller counts events after the end, for the warning: rates do, without time at risk for
        them, as is usual in tables of exposure-adjusted rates; probabilities and mean counts by time do not
    """
    start = _first_dose(chosen)
    one_period(chosen)
    at, how = _onset(chosen, start, onset)
    stop, name = _end(chosen, start, end)
    texts = []
    missing = np.isnan(at)
    if missing.any():
        at = np.where(missing, np.nanmin(np.r_[at, 1.0]), at)
        texts.append(f"{int(missing.sum())} records without an onset: taken as of the first day.")
    unknown = np.isnan(stop)
    if unknown.any():
        raise DataError(
            f"ADSL.{name}: {int(unknown.sum())} subjects have no end of follow-up. Give end= another column."
        )
    latest = np.full(stop.size, -np.inf)
    np.maximum.at(latest, chosen.subject, at)
    if (latest > stop).any():
        texts.append(_late(chosen, at, stop, name, extend, counted))
    for text in texts:
        warn(text)
    cause = _cause(chosen.subjects, (competing,) if isinstance(competing, str) else tuple(competing))
    notes = (f"onset from {how}", f"follow-up to {name}", f"competing: {_words(competing)}")
    return FollowUp(at, np.maximum(stop, latest) if extend else stop, cause, notes, tuple(texts))


def _late(chosen: Records, at: FloatArray, stop: FloatArray, name: str, extend: bool, counted: bool) -> str:
    """What happens to events after the end of follow-up, in words."""
    late = at > stop[chosen.subject]
    who = np.unique(chosen.subject[late])
    ids = first_ids(chosen.subjects["USUBJID"].to_numpy()[who])
    if extend:
        return f"{who.size} subjects have an event after {name} ({ids}): followed up to that event."
    rule = "counted, without time at risk after it" if counted else "not counted"
    return (
        f"{int(late.sum())} events of {who.size} subjects are after {name}, the end of follow-up ({ids}): {rule}. "
        "extend=True follows these subjects up to the event."
    )


def one_period(chosen: Records) -> None:
    """Refuse times of subjects who are in several groups, one for each treatment they received."""
    twice = chosen.subjects["USUBJID"].duplicated()
    if twice.any():
        raise FormulaError(
            f"{int(twice.sum())} subjects are in several groups of {chosen.by}, and their follow-up is not split by "
            "period. Give the subjects, dates and events of one period, or a group that does not change within subject."
        )


def _words(competing: Sequence[str] | str) -> str:
    return competing if isinstance(competing, str) else (", ".join(competing) or "none")


def _first_dose(chosen: Records) -> pd.Series | None:
    for name in collecting.FIRST_DOSE:
        if name in chosen.subjects.columns:
            return collecting.as_moment(chosen.subjects[name])
    return None


def _days(moment: pd.Series, start: pd.Series) -> FloatArray:
    """Days from start: exact with times of day, else with the first day as day 1."""
    whole = [bool((s.dropna() == s.dropna().dt.normalize()).all()) for s in (moment, start)]
    if any(whole):
        days = (moment.dt.normalize() - start.dt.normalize()) / pd.Timedelta(days=1) + 1
    else:
        days = (moment - start) / pd.Timedelta(days=1)
    return days.to_numpy(dtype=float)


def _onset(chosen: Records, start: pd.Series | None, column: str | None) -> tuple[FloatArray, str]:
    if column is not None:
        frames.require(chosen.events, [column], "ADAE")
        return frames.numbers(chosen.events, column, "ADAE"), column
    for name in ("ASTDTM", "ASTDT"):
        if name in chosen.events.columns and start is not None:
            own = pd.Series(start.to_numpy()[chosen.subject])
            return _days(collecting.as_moment(chosen.events[name]).reset_index(drop=True), own), name
    if "ASTDY" in chosen.events.columns:
        return frames.numbers(chosen.events, "ASTDY", "ADAE"), "ASTDY"
    raise DataError("No time of onset: ADAE needs ASTDTM or ASTDT (with ADSL TRTSDT), ASTDY, or onset= a column.")


def _end(chosen: Records, start: pd.Series | None, column: str | None) -> tuple[FloatArray, str]:
    adsl = chosen.subjects
    name = column or next((c for c in ENDS if c in adsl.columns), None)
    if name is None:
        raise DataError(f"No end of follow-up in ADSL: it needs one of {', '.join(ENDS)}, or end= a column.")
    frames.require(adsl, [name], "ADSL")
    if pd.api.types.is_numeric_dtype(adsl[name].dtype):
        return adsl[name].to_numpy(dtype=float), name
    if start is None:
        raise DataError(f"ADSL.{name} is a date, but there is no first dose (TRTSDT) to count from.")
    return _days(collecting.as_moment(adsl[name]), start), name


def _cause(adsl: pd.DataFrame, competing: tuple[str, ...]) -> IntArray:
    for name in competing:
        choose(name, COMPETING, "competing")
    cause = np.zeros(len(adsl), dtype=np.int64)
    if "death" in competing and "DTHFL" in adsl.columns:
        cause[is_yes(adsl["DTHFL"], "ADSL.DTHFL", adsl["USUBJID"])] = 2
    reasons = [c for c in ("adverse-event", "discontinuation") if c in competing]
    if reasons:
        frames.require(adsl, ["DCSREAS"], "ADSL")
        reason = capitals(adsl["DCSREAS"])
        hit = reason.eq("ADVERSE EVENT") if reasons == ["adverse-event"] else ~reason.isin(["", "COMPLETED"])
        cause[hit.to_numpy(dtype=bool)] = 2
    return cause


def rows_of(ae: Incidence, term: str | None) -> IntArray:
    """Positions of the records of one term (any column, or a grouping), or of all."""
    events = ae.records.events
    if term is None:
        return np.arange(len(events), dtype=np.int64)
    if term in ae.groups:
        return np.flatnonzero(events[ae.terms[-1]].isin(list(ae.groups[term])).to_numpy()).astype(np.int64)
    for column in reversed(ae.terms):
        found = np.flatnonzero((events[column] == term).to_numpy())
        if found.size:
            return found.astype(np.int64)
    known = sorted({str(v) for column in ae.terms for v in events[column].unique()} | set(ae.groups))
    choose(term, known, "term")
    raise FormulaError(f"term={term!r} has no record.")


def first_per_subject(ae: Incidence, follow: FollowUp, term: str | None) -> tuple[FloatArray, IntArray]:
    """(subjects,) time to the first event or the end of follow-up, and its status: 0, 1 event, 2 competing.

    An event after the end of follow-up was not observed in it.
    """
    rows = rows_of(ae, term)
    first = np.full(follow.end.size, np.inf)
    np.minimum.at(first, ae.records.subject[rows], follow.onset[rows])
    happened = first <= follow.end
    return np.where(happened, first, follow.end), np.where(happened, 1, follow.cause)


def days_of_events(ae: Incidence) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(events,) start and stop of every record and (subjects,) end of follow-up, in days; NaN where not known.

    The days are those of `follow_up`: exact where both ends have a time of day, else the first day is day 1.
    """
    chosen = ae.records
    one_period(chosen)
    start = _first_dose(chosen)
    onset, _ = _onset(chosen, start, None)
    stop = np.full(onset.size, np.nan)
    name = next((c for c in ("AENDTM", "AENDT") if c in chosen.events.columns), None)
    if name is not None and start is not None:
        own = pd.Series(start.to_numpy()[chosen.subject])
        stop = _days(collecting.as_moment(chosen.events[name]).reset_index(drop=True), own)
    elif "AENDY" in chosen.events.columns:
        stop = frames.numbers(chosen.events, "AENDY", "ADAE")
    known = any(c in chosen.subjects.columns for c in ENDS)
    last = _end(chosen, start, None)[0] if known else np.full(len(chosen.subjects), np.nan)
    return onset, stop, last
