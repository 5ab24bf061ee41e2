"""Intercurrent events from ADaM: who had which, when, and the first visit that it affects."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from kapstats import frames
from kapstats._types import FloatArray, FrameLike
from kapstats.data.conventions import capitals
from kapstats.data.trial import Trial
from kapstats.errors import DataError, FormulaError, choose, first_ids

#: reason, status that goes with it, and where ADSL holds the day: stopping treatment, then leaving the study
DISPOSITIONS: tuple[tuple[str, str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("DCTREAS", "EOTSTT", ("DCTDY", "EOTDY", "TRTEDY"), ("DCTDT", "EOTDT", "TRTEDT")),
    ("DCSREAS", "EOSSTT", ("DCSDY", "EOSDY"), ("DCSDT", "EOSDT")),
    ("DCDECOD", "EOSSTT", ("DCSDY", "EOSDY"), ("DCSDT", "EOSDT")),
)
LAST = "last-visit"
#: kind and start of an occurrence (ADCE, ADCM, ADDV, ADAE)
KINDS = ("ICECAT", "CEDECOD", "CETERM", "CMCAT", "CMDECOD", "DVDECOD", "AEDECOD")
STARTS = ("ASTDY", "ADY", "CESTDY", "CMSTDY")
START_DATES = ("ASTDT", "ADT", "ASTDTM")


def intercurrent_events(
    trial: Trial | FrameLike,
    occurrences: FrameLike | None = None,
    *,
    visits: FrameLike | None = None,
    kind: str | None = None,
    day: str | None = None,
    disposition: bool = True,
    stopped: str | None = None,
    visit: str = "AVISIT",
    same_day: str = "before",
) -> pd.DataFrame:
    """Intercurrent events of a trial: one row per event, with the first planned visit that it affects.

    Stopping is read off ADSL: DCTREAS (treatment), else DCSREAS or DCDECOD (study), of those whose status (EOTSTT,
    EOSSTT) is DISCONTINUED. Other events (rescue medication, death, deviations) are rows of `occurrences`.

    Parameters
    ----------
    trial : a Trial with ADSL and ADQS, or ADSL alone (then give `visits`)
    occurrences : one row per event with USUBJID: ADCE, rows of ADCM, ADDV or ADAE
    visits : ADQS with USUBJID, `visit` and ADY, when `trial` is ADSL
    kind : column of `occurrences` that names the event (default: the first of ICECAT, CEDECOD, CETERM, CMCAT ...)
    day : its study day (default: the first of ASTDY, ADY ..., or a date ASTDT less TRTSDT plus 1)
    disposition : False leaves ADSL out
    stopped : column of ADSL with the study day or date of stopping, or "last-visit" (the last assessment in `visits`).
        Default: the first of DCTDY, EOTDY, TRTEDY, DCTDT, EOTDT, TRTEDT for treatment, of DCSDY, EOSDY, DCSDT, EOSDT
        for the study, and "last-visit" where a study has none of them
    visit : column of the visit
    same_day : whether an assessment on the day of the event was made "before" it (not affected) or "after" it

    Returns
    -------
    DataFrame with USUBJID, ICE (the kind), ICEDY (study day), ICEVISIT (first affected visit, missing where the event
    came after the last one) and ICESRC (where that was read), ordered by subject and day. A visit that a subject missed
    takes the median study day of the others.

    Raises
    ------
    DataError
        When the day of an event, or a subject, is not known.

    Examples
    --------
    >>> adsl = pd.DataFrame({"USUBJID": [1, 2], "EOSSTT": ["COMPLETED", "DISCONTINUED"], "DCSREAS": [None, "AE"]})
    >>> adqs = pd.DataFrame({"USUBJID": [1, 1, 2], "AVISIT": ["Day 7", "Day 28", "Day 7"], "AVISITN": [7, 28, 7]})
    >>> found = intercurrent_events(adsl.assign(EOSDY=[29, 9]), visits=adqs.assign(ADY=[8, 29, 8]))
    >>> found[["USUBJID", "ICE", "ICEVISIT"]].values.tolist()
    [[2, 'AE', 'Day 28']]
    """
    choose(same_day, ("before", "after"), "same_day")
    adsl, adqs = _tables(trial, visits)
    frames.require(adqs, ["USUBJID", visit, "ADY"], "visits")
    parts = [_from_adsl(adsl, adqs, stopped)] if disposition else []
    if occurrences is not None:
        parts.append(_from_occurrences(frames.to_pandas(occurrences), adsl, kind, day))
    if not parts:
        raise FormulaError("intercurrent_events: disposition=False and no occurrences leave nothing to read.")
    found = pd.concat(parts, ignore_index=True)
    stranger = ~found["USUBJID"].isin(adsl["USUBJID"])
    if stranger.any():
        raise DataError(f"{first_ids(found.loc[stranger, 'USUBJID'])}: an intercurrent event of nobody in ADSL.")
    lost = found["ICEDY"].isna()
    if lost.any():
        ids = first_ids(found.loc[lost, "USUBJID"])
        raise DataError(f"The day of {int(lost.sum())} intercurrent events is not known ({ids}). Fill it in.")
    found = found.assign(ICEVISIT=_first_affected(found, adqs, visit, same_day))
    columns = ["USUBJID", "ICE", "ICEDY", "ICEVISIT", "ICESRC"]
    return found.sort_values(["USUBJID", "ICEDY"], kind="stable")[columns].reset_index(drop=True)


def _tables(trial: Any, visits: FrameLike | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    if isinstance(trial, Trial):
        adsl, adqs = trial.adsl, trial.adqs if visits is None else frames.to_pandas(visits)
    elif visits is None:
        raise FormulaError("intercurrent_events: give visits= (ADQS) when the first argument is ADSL.")
    else:
        adsl, adqs = frames.to_pandas(trial), frames.to_pandas(visits)
    frames.require(adsl, ["USUBJID"], "ADSL")
    return adsl, adqs


def _from_adsl(adsl: pd.DataFrame, adqs: pd.DataFrame, stopped: str | None) -> pd.DataFrame:
    known = next((d for d in DISPOSITIONS if d[0] in adsl), None)
    if known is None:
        raise DataError("ADSL has none of DCTREAS, DCSREAS, DCDECOD; nothing says who stopped. Use disposition=False.")
    reason, status = known[:2]
    days: tuple[str, ...] = known[2]
    dates: tuple[str, ...] = known[3]
    text = adsl[reason].astype("object")
    left = text.notna() & ~text.astype(str).str.strip().str.upper().isin(["", "COMPLETED", "STUDY COMPLETED"])
    if status in adsl:
        said = capitals(adsl[status]) == "DISCONTINUED"
        text, left = text.mask(said & ~left, "NOT STATED"), said
    rows = adsl[left]
    if stopped is not None and stopped != LAST:
        frames.require(adsl, [stopped], "ADSL")
        days, dates = ((stopped,), ()) if pd.api.types.is_numeric_dtype(adsl[stopped]) else ((), (stopped,))
    stated = next((c for c in (*days, *dates) if c in adsl), None)
    if stopped == LAST or (stated is None and reason != "DCTREAS"):
        when, source = rows["USUBJID"].map(adqs.groupby("USUBJID")["ADY"].max()).fillna(1.0), "last visit"
    else:
        when, source = _day(rows, days, dates, "ADSL"), str(stated)
    made = pd.DataFrame({"USUBJID": rows["USUBJID"], "ICE": text[left], "ICEDY": when.astype(float)})
    return made.assign(ICESRC=f"ADSL {reason}, {source}")


def _from_occurrences(table: pd.DataFrame, adsl: pd.DataFrame, kind: str | None, day: str | None) -> pd.DataFrame:
    name = kind or next((c for c in KINDS if c in table), None)
    if name is None:
        raise DataError(f"occurrences: none of {', '.join(KINDS)} names the event; say which column does with kind=.")
    frames.require(table, ["USUBJID", name, *([day] if day else [])], "occurrences")
    nameless = table[name].isna()
    if nameless.any():
        ids = first_ids(table.loc[nameless, "USUBJID"])
        raise DataError(f"{name}: {int(nameless.sum())} events have no name ({ids}).")
    if "TRTSDT" not in table and "TRTSDT" in adsl:
        first = adsl.drop_duplicates("USUBJID").set_index("USUBJID")["TRTSDT"]
        table = table.assign(TRTSDT=table["USUBJID"].map(first))
    when = _day(table, (day,) if day else STARTS, () if day else START_DATES, "occurrences")
    return pd.DataFrame({"USUBJID": table["USUBJID"], "ICE": table[name], "ICEDY": when}).assign(
        ICESRC=f"occurrences, {name}"
    )


def _day(rows: pd.DataFrame, days: tuple[str, ...], dates: tuple[str, ...], where: str) -> pd.Series:
    """Study day: as stated, or date less TRTSDT (day 1 is the first day of treatment, there is no day 0)."""
    name = next((c for c in days if c in rows), None)
    if name is not None:
        return rows[name].astype(float)
    name = next((c for c in dates if c in rows), None)
    if name is None or "TRTSDT" not in rows:
        known = ", ".join((*days, *dates))
        raise DataError(f"{where}: none of {known} says when an event happened (a date needs TRTSDT).")
    gap = (pd.to_datetime(rows[name]).dt.normalize() - pd.to_datetime(rows["TRTSDT"]).dt.normalize()).dt.days
    return gap.where(gap < 0, gap + 1).astype(float)


def _first_affected(events: pd.DataFrame, adqs: pd.DataFrame, visit: str, same_day: str) -> list[Any]:
    order = frames.levels(adqs, visit).values
    adqs = adqs.assign(ADY=frames.numbers(adqs, "ADY", "visits"))
    nominal = adqs.groupby(adqs[visit].astype("object"))["ADY"].median()
    own = adqs.dropna(subset=["ADY"]).groupby(["USUBJID", adqs[visit].astype("object")], observed=True)["ADY"].first()
    typical: FloatArray = np.array([nominal.get(v, np.nan) for v in order], dtype=float)
    seen = {key: float(value) for key, value in own.items()}
    found = []
    for subject, day in zip(events["USUBJID"], events["ICEDY"], strict=True):
        at = np.array([seen.get((subject, v), typical[k]) for k, v in enumerate(order)])
        hit = np.flatnonzero(at >= day if same_day == "after" else at > day)
        found.append(order[int(hit[0])] if len(hit) else None)
    return found
