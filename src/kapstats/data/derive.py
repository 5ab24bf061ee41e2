"""Derivations of analysis variables: dates, study days, baseline, change, visit windows, response, emergence.

Every function takes a table (pandas, polars or pyarrow), adds columns and gives the caller's kind back; the rows stay
in order and none is dropped.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kapstats import frames
from kapstats._types import BoolArray, FrameLike
from kapstats.data.conventions import iso_dates, one_unit
from kapstats.data.flags import is_yes
from kapstats.errors import DataError, FormulaError, choose, first_ids

BY = ("USUBJID", "PARAMCD")
PARTIAL = r"(?P<y>\d{4})(?:-(?P<m>\d{2}|-|UNK?)(?:-(?P<d>\d{2}|-|UNK?)(?:[T ].*)?)?)?"
#: what stands for a part, or a whole date, that nobody knows
UNKNOWN = ("", "-", "UN", "UNK", "UNKNOWN", "NK", "ND", ".")
ORIGINS = {"sas": "1960-01-01", "unix": "1970-01-01", "excel": "1899-12-30"}


def dates(values: Any, *, impute: str | None = None, origin: str | None = None) -> pd.DataFrame:
    """Dates of full or partial ISO text, with the ADaM imputation flag; or of numbers of days.

    Parameters
    ----------
    values : n texts such as "2024-03-01", "2024-03", "2024", "2024---15" (month unknown), "2024-UNK-UNK", or dates;
        "UNK" alone is missing. A day without its month is not used
    origin : numbers are days since 1 January 1960 ("sas"), 1 January 1970 ("unix") or as spreadsheets count ("excel")
    impute : None leaves partial dates missing; "first" and "last" take the first or last day that the text allows

    Returns
    -------
    frame with ``date`` (datetime64) and ``flag``: "D" day imputed, "M" month and day imputed, missing otherwise

    Raises
    ------
    DataError
        For text that is no date, and dates that do not exist.

    Examples
    --------
    >>> dates(["2024-02", "2023-05-01"], impute="last")["date"].dt.strftime("%Y-%m-%d").tolist()
    ['2024-02-29', '2023-05-01']
    >>> dates([23070], origin="sas")["date"].dt.strftime("%Y-%m-%d").tolist()
    ['2023-03-01']
    """
    if impute is not None:
        choose(impute, ("first", "last"), "impute")
    text = pd.Series(values).reset_index(drop=True)
    if origin is not None:
        text = _counted(text, origin)
    if pd.api.types.is_datetime64_any_dtype(text.dtype):
        return pd.DataFrame({"date": text, "flag": pd.Series(np.nan, index=text.index, dtype="object")})
    there = text.map(lambda v: None if v is None or v != v or str(v).strip().upper() in UNKNOWN else str(v).strip())
    parts = there.astype("object").where(there.notna(), "").astype(str).str.upper().str.extract(f"^{PARTIAL}$")
    parts = parts.mask(parts.isin(UNKNOWN))
    parts["d"] = parts["d"].where(parts["m"].notna())
    bad = there[there.notna() & parts["y"].isna()]
    if len(bad):
        remedy = "Write 2024-03-01, 2024-03 or 2024; for numbers of days say origin='sas'."
        raise DataError(f"dates: {len(bad)} texts are no dates ({first_ids(bad)}). {remedy}")
    flag = _text(parts["m"].isna(), "M", None).mask(parts["m"].notna() & parts["d"].isna(), "D").where(there.notna())
    shown = flag if impute is not None else flag.where(flag.isna())
    return pd.DataFrame({"date": _day(parts, flag, impute, there), "flag": shown})


def _counted(values: pd.Series, origin: str) -> pd.Series:
    """Dates of numbers of days since the origin."""
    start = ORIGINS[choose(origin, ORIGINS, "origin")]
    days = pd.to_numeric(values, errors="coerce")
    bad = values[days.isna() & values.notna()]
    if len(bad):
        raise DataError(f"dates: {len(bad)} values are no numbers of days ({first_ids(bad)}).")
    if not days.dropna().between(-200_000, 200_000).all():
        raise DataError(f"dates: {first_ids(days[~days.between(-200_000, 200_000)])} are no days; are they seconds?")
    return pd.Timestamp(start) + pd.to_timedelta(np.floor(days), unit="D")


def _text(where: Any, yes: str, no: str | None) -> pd.Series:
    """`yes` where the condition holds, else `no`; with the index of the condition."""
    where = pd.Series(where)
    return pd.Series([yes if w else no for w in where.fillna(False)], index=where.index, dtype="object")


def _day(parts: pd.DataFrame, flag: pd.Series, impute: str | None, text: pd.Series) -> pd.Series:
    month = parts["m"].fillna("12" if impute == "last" else "01")
    day = parts["d"].fillna("01")
    written = parts["y"] + "-" + month + "-" + day
    found = pd.to_datetime(written, errors="coerce", format="%Y-%m-%d")
    far = {t: iso_dates(pd.Series([t])) for t in written[found.isna()].dropna().unique()}  # 9999-12-31, or no date
    if any(moment is not None for moment in far.values()):
        later = written.map({t: moment[0] for t, moment in far.items() if moment is not None})
        found = found.astype("datetime64[us]").fillna(later.astype("datetime64[us]"))
    wrong = text[text.notna() & found.isna()]
    if len(wrong):
        raise DataError(f"dates: {len(wrong)} dates do not exist ({first_ids(wrong)}).")
    if impute == "last":
        found = found.where(flag.isna(), found + pd.offsets.MonthEnd(0))
    return found if impute else found.where(flag.isna())


def study_day(date: Any, reference: Any) -> pd.Series:
    """Study day: 1 on the reference day, -1 on the day before; there is no day 0.

    Examples
    --------
    >>> study_day(["2024-03-01", "2024-02-29"], ["2024-03-01", "2024-03-01"]).tolist()
    [1.0, -1.0]
    """
    end, start = one_unit(*(dates(v)["date"].dt.normalize() for v in (date, reference)))
    days = (end - start).dt.days.astype(float)
    return days.where(days < 0, days + 1)


def baseline(
    data: FrameLike, *, visit: Any = None, start: str | None = None, by: Sequence[str] = BY, value: str = "AVAL"
) -> Any:
    """BASE, the baseline of `value` on every record of a subject and parameter, and ABLFL where it is not there.

    The baseline record is, in this order: the record of `visit`; with `start` (a column: date of first dose) the last
    record with a value on or before it; else the record that ABLFL flags.

    Raises
    ------
    DataError
        When a subject has several baseline records, or nothing says which record it is.

    Examples
    --------
    >>> adqs = {"USUBJID": ["1", "1"], "AVISIT": ["Screening", "Day 7"], "AVAL": [31.0, 12.0]}
    >>> baseline(adqs, visit="Screening")["BASE"].tolist()
    [31.0, 31.0]
    """
    frame = frames.to_pandas(data)
    key = [c for c in by if c in frame.columns]
    frames.require(frame, ["USUBJID", value])
    chosen = _baseline_rows(frame, visit, start, key, value)
    twice = frame.loc[chosen, key].duplicated()
    if twice.any():
        ids = frame.loc[chosen, "USUBJID"][twice]
        raise DataError(
            f"baseline: {len(ids)} subjects and parameters have several baseline records ({first_ids(ids)})."
        )
    base = frame[key].merge(frame.loc[chosen, [*key, value]], on=key, how="left")[value].to_numpy()
    flag = _text(chosen, "Y", None)
    return frames.restore(frame.assign(ABLFL=flag, BASE=base), frames.kind(data))


def _baseline_rows(frame: pd.DataFrame, visit: Any, start: str | None, key: list[str], value: str) -> BoolArray:
    if visit is not None:
        frames.require(frame, ["AVISIT"])
        rows = frame["AVISIT"].eq(visit)
        if not rows.any():
            raise DataError(f"baseline: no record has AVISIT {visit!r}. There are: {first_ids(frame['AVISIT'], 8)}.")
        return rows.to_numpy(dtype=bool)
    if start is not None:
        frames.require(frame, [start, "ADT"])
        when = dates(frame["ADT"])["date"]
        before = (when <= dates(frame[start])["date"]) & frame[value].notna()
        latest = when.where(before).groupby([frame[c].to_numpy() for c in key]).transform("max")
        return (before & when.eq(latest)).to_numpy(dtype=bool)
    if "ABLFL" not in frame.columns:
        raise DataError("baseline: name the visit=, or the start= column of the first dose; there is no ABLFL.")
    return is_yes(frame["ABLFL"], "ABLFL", frame["USUBJID"])


def change(data: FrameLike, *, percent: bool = True) -> Any:
    """CHG = AVAL - BASE and PCHG = 100 CHG / BASE (missing for a baseline of 0); both missing on the baseline record.

    Examples
    --------
    >>> change({"AVAL": [30.0, 12.0], "BASE": [30.0, 30.0], "ABLFL": ["Y", None]})["PCHG"].tolist()
    [nan, -60.0]
    """
    frame = frames.to_pandas(data)
    frames.require(frame, ["AVAL", "BASE"])
    after = ~is_yes(frame["ABLFL"], "ABLFL") if "ABLFL" in frame.columns else pd.Series(True, index=frame.index)
    difference = (frame["AVAL"] - frame["BASE"]).where(after)
    added = {"CHG": difference}
    if percent:
        added["PCHG"] = 100 * difference / frame["BASE"].where(frame["BASE"] != 0)
    return frames.restore(frame.assign(**added), frames.kind(data))


def visit_windows(
    data: FrameLike,
    windows: Mapping[str, float | tuple[float, float, float]],
    *,
    day: str = "ADY",
    select: str = "closest",
    tie: str = "later",
    by: Sequence[str] = BY,
) -> Any:
    """AVISIT and AVISITN by windows of study days, and ANL01FL on the one record per window to analyse.

    Parameters
    ----------
    windows : ``{visit: (first day, target, last day)}``, both ends included; or ``{visit: target}``, windows that meet
        half way between targets (a middle day belongs to the earlier visit), the first from day 2 (from the beginning
        where its target is day 1 or less), the last open
    select : "closest" to the target, "first" or "last" record of the window, among those with a value
    tie : two records equally far from the target: "later" or "earlier"

    Returns
    -------
    The table with AVISIT, AVISITN, AWTARGET, AWLO, AWHI, AWTDIFF and ANL01FL; outside all windows they are missing

    Notes
    -----
    Distances count real days: from day -1 to day 1 is one day, since there is no day 0.

    Examples
    --------
    >>> visits = visit_windows({"USUBJID": [1, 1], "ADY": [9, 11], "AVAL": [20.0, 18.0]}, {"Day 7": 7, "Day 14": 14})
    >>> visits["AVISIT"].tolist(), visits["ANL01FL"].tolist()
    (['Day 7', 'Day 14'], ['Y', 'Y'])
    """
    choose(select, ("closest", "first", "last"), "select")
    choose(tie, ("later", "earlier"), "tie")
    frame = frames.to_pandas(data)
    frames.require(frame, ["USUBJID", "AVAL", day])
    bounds = _bounds(windows)
    days = frame[day].to_numpy(dtype=float)
    place = np.full(len(frame), -1)
    for i, (_, low, _, high) in enumerate(bounds):
        place[(days >= low) & (days <= high)] = i
    columns = ("AVISIT", "AWLO", "AWTARGET", "AWHI")
    table = pd.DataFrame(bounds, columns=list(columns)).reindex([*range(len(bounds)), -1])
    made = (
        table.loc[place]
        .reset_index(drop=True)
        .assign(
            AVISITN=np.where(place < 0, np.nan, table.loc[place, "AWTARGET"].to_numpy(dtype=float)),
            AWTDIFF=np.abs(_elapsed(days) - _elapsed(table.loc[place, "AWTARGET"].to_numpy(dtype=float))),
        )
    )
    frame = frame.drop(columns=[c for c in made.columns if c in frame.columns])
    frame = pd.concat([frame, made], axis=1)
    return frames.restore(frame.assign(ANL01FL=_selected(frame, days, select, tie, by)), frames.kind(data))


def _elapsed(days: Any) -> Any:
    """Study days on a scale without the gap at 0."""
    return np.where(days < 0, days + 1, days)


def _bounds(windows: Mapping[str, float | tuple[float, float, float]]) -> list[tuple[str, float, float, float]]:
    """(visit, low, target, high), ordered and checked."""
    given = dict(windows)
    if all(isinstance(w, (int, float)) for w in given.values()):
        ordered = sorted((float(t), v) for v, t in given.items() if isinstance(t, (int, float)))
        targets = [t for t, _ in ordered]
        halves = [math.floor((a + b) / 2) for a, b in itertools.pairwise(targets)]
        lows = [-math.inf if targets[0] <= 1 else 2.0, *(h + 1.0 for h in halves)]
        return [(v, low, t, high) for (t, v), low, high in zip(ordered, lows, [*halves, math.inf], strict=True)]
    bounds = sorted((_bound(v, w) for v, w in given.items()), key=lambda b: b[1])
    for visit, low, target, high in bounds:
        if not low <= target <= high:
            raise FormulaError(f"visit_windows: {visit!r} has its target {target:g} outside {low:g} to {high:g}.")
    for (a, _, _, end), (b, begin, _, _) in itertools.pairwise(bounds):
        if begin <= end:
            raise FormulaError(f"visit_windows: {a!r} (to {end:g}) and {b!r} (from {begin:g}) overlap.")
    return bounds


def _bound(visit: str, window: float | tuple[float, float, float]) -> tuple[str, float, float, float]:
    if isinstance(window, (int, float)) or len(window) != 3:
        raise FormulaError(f"visit_windows: {visit!r} needs (first day, target, last day), as the other windows have.")
    return visit, float(window[0]), float(window[1]), float(window[2])


def _selected(frame: pd.DataFrame, days: Any, select: str, tie: str, by: Sequence[str]) -> pd.Series:
    key = [c for c in (*by, "AVISIT") if c in frame.columns]
    late = -days if (select == "last" or (select == "closest" and tie == "later")) else days
    rank = frame[key].assign(_far=frame["AWTDIFF"] if select == "closest" else 0.0, _day=late)
    usable = rank[frame["AVAL"].notna() & frame["AVISIT"].notna()]
    first = usable.sort_values(["_far", "_day"], kind="stable").drop_duplicates(key).index
    return _text(frame.index.isin(first), "Y", None)


def response(data: FrameLike, *, threshold: float = 50.0, column: str = "RESPFL", missing: str = "missing") -> Any:
    """Response: a decrease of AVAL from BASE by at least `threshold` percent (the limit itself is a response).

    Parameters
    ----------
    column : the flag that is added, Y or N
    missing : records without AVAL or with no baseline above 0: "missing", or "N" (non-responder imputation)

    Examples
    --------
    >>> response({"AVAL": [15.0, 15.1], "BASE": [30.0, 30.0]})["RESPFL"].tolist()
    ['Y', 'N']
    """
    frame = frames.to_pandas(data)
    frames.require(frame, ["AVAL", "BASE"])
    base = frame["BASE"].where(frame["BASE"] > 0)
    yes = frame["AVAL"] - base * (1 - threshold / 100) <= 1e-9 * base
    known = frame["AVAL"].notna() & base.notna()
    return frames.restore(frame.assign(**{column: _flag(yes, known, missing)}), frames.kind(data))


def remission(data: FrameLike, *, cutoff: float, column: str = "REMFL", missing: str = "missing") -> Any:
    """Remission: AVAL at or below `cutoff` (MADRS: 10 or 12, as the protocol says; there is no default).

    Examples
    --------
    >>> remission({"AVAL": [10.0, 10.5, None]}, cutoff=10)["REMFL"].tolist()
    ['Y', 'N', None]
    """
    frame = frames.to_pandas(data)
    frames.require(frame, ["AVAL"])
    value = frame["AVAL"].astype(float)
    return frames.restore(frame.assign(**{column: _flag(value <= cutoff, value.notna(), missing)}), frames.kind(data))


def _flag(yes: pd.Series, known: pd.Series, missing: str) -> pd.Series:
    choose(missing, ("missing", "N"), "missing")
    return _text(yes, "Y", "N").where(known, None if missing == "missing" else "N")


def treatment_emergent(
    adae: FrameLike,
    adsl: FrameLike | None = None,
    *,
    window: float | None = None,
    no_start: str = "Y",
    column: str = "TRTEMFL",
) -> Any:
    """Whether an adverse event is treatment emergent: it starts at or after the first dose, and in the window.

    Parameters
    ----------
    adae : USUBJID, ASTDTM or ASTDT (partial text allowed), AENDT or AENDTM where known
    adsl : gives TRTSDT(M) and TRTEDT(M) where `adae` does not have them
    window : days after the last dose (TRTEDT) during which a start still counts, that day included; None: for ever

    no_start : what an event without any start date is, unless its end shows that it came before: "Y" (cautious) or "N"

    Notes
    -----
    Times are compared where both have one, else days: an event on the day of the first dose counts. A missing or
    partial start counts unless the latest day it allows, or the end of the event, lies before the first dose. Subjects
    without a first dose have no emergent event. A start after the window does not count where it is certain: the
    earliest day that a partial start allows decides.

    Examples
    --------
    >>> adae = {"USUBJID": ["1", "1"], "ASTDT": ["2024-03-01", "2024-02"], "TRTSDT": ["2024-03-01", "2024-03-01"]}
    >>> treatment_emergent(adae)["TRTEMFL"].tolist()
    ['Y', 'N']
    """
    frame = frames.to_pandas(adae)
    subjects = None if adsl is None else frames.to_pandas(adsl)
    first, last = (_moments(frame, subjects, f"TRT{x}DTM", f"TRT{x}DT", "last") for x in "SE")
    if first is None:
        raise DataError("treatment_emergent: no TRTSDT or TRTSDTM in ADAE; pass adsl=.")
    start_late, start_early = (_moments(frame, None, "ASTDTM", "ASTDT", which) for which in ("last", "first"))
    if start_late is None or start_early is None:
        raise DataError("treatment_emergent: ADAE has neither ASTDTM nor ASTDT.")
    end = _moments(frame, None, "AENDTM", "AENDT", "last")
    emergent = first.day.notna() & ~start_late.before(first)
    if choose(no_start, ("Y", "N"), "no_start") == "N":
        emergent &= start_late.day.notna()
    if end is not None:
        emergent &= ~(start_late.day.isna() & end.before(first))
    if window is not None:
        if last is None:
            raise DataError("treatment_emergent: window= needs TRTEDT or TRTEDTM.")
        emergent &= ~(start_early.day > last.day + pd.Timedelta(days=window))
    return frames.restore(frame.assign(**{column: _text(emergent, "Y", "N")}), frames.kind(adae))


class _Moments:
    """When something was: the day, and the moment where the time of day is known."""

    def __init__(self, day: pd.Series, moment: pd.Series) -> None:
        self.day, self.moment = day, moment

    def before(self, other: _Moments) -> pd.Series:
        """Certainly earlier than `other`; False where either is missing."""
        return (self.day < other.day) | ((self.day == other.day) & (self.moment < other.moment))


def _moments(frame: pd.DataFrame, adsl: pd.DataFrame | None, timed: str, dated: str, impute: str) -> _Moments | None:
    moment = _column(frame, adsl, timed)
    day = _column(frame, adsl, dated)
    if moment is None and day is None:
        return None
    never = pd.Series(pd.NaT, index=frame.index, dtype="datetime64[ns]")
    full = never if moment is None else _timestamps(moment)
    days = never if day is None else dates(day, impute=impute)["date"].dt.normalize()
    full, days = one_unit(full, days)
    if moment is not None:
        days = days.fillna(full.dt.normalize())
        if not pd.api.types.is_datetime64_any_dtype(moment.dtype):
            days = days.fillna(dates(moment, impute=impute)["date"])
    return _Moments(days, full)


def _timestamps(values: pd.Series) -> pd.Series:
    """Full date-times; text without a time of day is missing here."""
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        return values.reset_index(drop=True)
    text = values.astype("object").where(values.notna(), "").astype(str)
    timed = values.where(text.str.contains(r"[T ]\d{2}:\d{2}", regex=True))
    found = iso_dates(timed)
    return pd.Series(pd.NaT, index=values.index, dtype="datetime64[ns]") if found is None else found


def _column(frame: pd.DataFrame, adsl: pd.DataFrame | None, name: str) -> pd.Series | None:
    if name in frame.columns:
        return frame[name]
    if adsl is None or name not in adsl.columns:
        return None
    at = pd.Index(adsl["USUBJID"]).get_indexer(pd.Index(frame["USUBJID"]))
    values = adsl[name].take(at).reset_index(drop=True)
    return values.where(pd.Series(at >= 0))


def first_occurrence(adae: FrameLike, *, emergent: str | None = "TRTEMFL") -> Any:
    """First-occurrence flags: AOCCFL per subject, AOCCSFL per body system, AOCCPFL per preferred term.

    Events are taken in order of start (missing last), then AESEQ; with `emergent` only events flagged Y there count.
    """
    frame = frames.to_pandas(adae)
    frames.require(frame, ["USUBJID", "AEDECOD"])
    order = [c for c in ("ASTDTM", "ASTDT", "AESEQ") if c in frame.columns]
    ranked = frame.sort_values(order, kind="stable", na_position="last") if order else frame
    if emergent is not None and emergent in frame.columns:
        ranked = ranked[is_yes(ranked[emergent], emergent, ranked["USUBJID"])]
    added = {}
    for name, key in {"AOCCFL": [], "AOCCSFL": ["AEBODSYS"], "AOCCPFL": ["AEBODSYS", "AEDECOD"]}.items():
        if set(key) <= set(frame.columns):
            first = ranked.drop_duplicates(["USUBJID", *key]).index
            added[name] = _text(frame.index.isin(first), "Y", None)
    return frames.restore(frame.assign(**added), frames.kind(adae))
