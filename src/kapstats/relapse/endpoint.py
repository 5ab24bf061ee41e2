"""Relapse derived from visit scores by a declared definition, with the interval it lies in and the rule that fired."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from kapstats import frames
from kapstats._types import BoolArray, FloatArray, FrameLike
from kapstats.data.flags import is_yes
from kapstats.errors import DataError, FormulaError, choose, first_ids, nearest, warn

SUBJECT = "USUBJID"
#: origins that are looked for when there are dates and no study days
START_DATES = ("STARTDT", "RANDDT", "TRTSDT")
DISCONTINUATION = ("censor", "event", "competing")


@dataclass(frozen=True, slots=True)
class RelapseDefinition:
    """A relapse rule on one score.

    Parameters
    ----------
    threshold : the score from which (at or above) an assessment counts
    parameters : the PARAMCD values that hold the score, in order of preference
    assessments : consecutive assessments at or above the threshold that make a relapse (1 or 2)
    window : smallest and largest number of days between the two assessments, both included
    dated : day of the event: "first" or "confirming" assessment of the pair
    share_of_base : when given, an assessment counts at this share of BASE or more instead of at `threshold`
    name, source : what the definition is called and where it comes from

    Examples
    --------
    >>> RelapseDefinition(threshold=18, parameters=("HDRS17",), assessments=1).assessments
    1
    """

    threshold: float = 22.0
    parameters: tuple[str, ...] = ("MADRS", "MADRSTOT", "MADRTOT", "MADRS01")
    assessments: int = 2
    window: tuple[float, float] = (5.0, 15.0)
    dated: str = "first"
    share_of_base: float | None = None
    name: str = "user-defined"
    source: str = ""

    def __post_init__(self) -> None:
        if self.assessments not in (1, 2):
            raise FormulaError(f"assessments={self.assessments}: a relapse rests on 1 or on 2 assessments.")
        if not 0 < self.window[0] <= self.window[1]:
            raise FormulaError(f"window={self.window}: give the smallest and largest gap in days, such as (5, 15).")
        choose(self.dated, ("first", "confirming"), "dated")
        if isinstance(self.parameters, str):
            object.__setattr__(self, "parameters", (self.parameters,))

    def sentence(self) -> str:
        """The rule in words."""
        score = self.parameters[0]
        level = f">= {self.threshold:g}" if self.share_of_base is None else f">= {self.share_of_base:g} x BASE"
        if self.assessments == 1:
            return f"{score} {level} at one assessment"
        low, high = self.window
        return f"{score} {level} at 2 consecutive assessments {low:g} to {high:g} days apart, dated at the {self.dated}"


HDRS = ("HDRS17", "HAMD17", "HAMDTL17", "HAMD", "HDRS")
WITHDRAWAL = "used in antidepressant withdrawal trials (review PMC8361519, table 1)"
DEFINITIONS: dict[str, RelapseDefinition] = {
    "sustain-1": RelapseDefinition(
        name="sustain-1", source="Daly et al. 2019, doi 10.1001/jamapsychiatry.2019.1189 (NCT02493868)"
    ),
    "madrs-22": RelapseDefinition(22, assessments=1, name="madrs-22", source=WITHDRAWAL),
    "madrs-25": RelapseDefinition(25, assessments=1, name="madrs-25", source=WITHDRAWAL),
    "hdrs-14": RelapseDefinition(14, HDRS, 1, name="hdrs-14", source=WITHDRAWAL),
    "hdrs-16": RelapseDefinition(16, HDRS, 1, name="hdrs-16", source=WITHDRAWAL),
    "hdrs-18": RelapseDefinition(18, HDRS, 1, name="hdrs-18", source=WITHDRAWAL),
    "cgi-s-4": RelapseDefinition(4, ("CGIS", "CGIS01", "CGI01", "CGISEV"), 1, name="cgi-s-4", source=WITHDRAWAL),
}


@dataclass(frozen=True, slots=True)
class _Outcome:
    """One subject: day and whether an event, the interval, the rule, the reason for censoring, the confirming day."""

    day: float
    event: bool
    left: float
    right: float
    rule: str = ""
    censoring: str = ""
    confirmed: float = float("nan")
    competing: bool = False


@dataclass(frozen=True, slots=True)
class _Extra:
    """Composite events and discontinuations of one subject: (day, reason), the first of each kind."""

    composite: tuple[float, str] | None = None
    stopped: tuple[float, str] | None = None


@dataclass(frozen=True, slots=True)
class _Rules:
    definition: RelapseDefinition
    unconfirmed: str
    discontinuation: str
    notes: dict[str, list[Any]] = field(default_factory=dict)


def derive_relapse(
    adqs: FrameLike,
    definition: str | RelapseDefinition = "sustain-1",
    *,
    unconfirmed: str = "censor",
    events: FrameLike | Mapping[str, FrameLike] | None = None,
    disposition: FrameLike | None = None,
    discontinuation: str = "censor",
    parameter: str | None = None,
    start: float | str | None = None,
    paramcd: str = "RELAPSE",
) -> Any:
    """Time to relapse per subject from long visit scores: ADTTE rows with the interval and the rule that fired.

    Assessments with a score are taken in the order of their day. A high score counts as relapse when the *next*
    assessment is high too and lies within the window; the event is dated at the first of the pair and lies in
    (last assessment below the threshold, that day]. A high score refuted by a lower one inside the window (or sooner)
    is no relapse and follow-up goes on. A high score never confirmed because follow-up ends, or because the next
    assessment comes later than the window, ends follow-up at the last assessment before it (``unconfirmed="censor"``)
    or counts as relapse (``"event"``). A run of high scores whose later members are confirmed is a relapse dated at
    the first confirmed one.

    Parameters
    ----------
    adqs : long table: USUBJID, ADY (or ADT with `start`), AVAL, PARAMCD when it holds several scores; columns that are
        constant within a subject (arm, site, strata) are carried over
    definition : "sustain-1", "madrs-22", "madrs-25", "hdrs-14", "hdrs-16", "hdrs-18", "cgi-s-4" or a RelapseDefinition
    unconfirmed : "censor" or "event" for a high score that is never confirmed
    events : composite events: table with USUBJID, ADY (or ADT) and EVNTDESC (or REASON), or {reason: table}; they are
        relapses on their exact day
    disposition : discontinuations: USUBJID, ADY (or ADT) and DCSREAS (or REASON)
    discontinuation : what a discontinuation before relapse is: "censor", "event" or "competing" (STATUS 2)
    parameter : the PARAMCD to use when it is not the definition's
    start : origin of time: a number of days, or a column (day, or date with ADT); default day 0, or with dates and no
        ADY the column STARTDT, RANDDT or TRTSDT. Assessments on or before the origin, and those flagged as baseline
        (ABLFL "Y"), are not at risk of relapse

    Returns
    -------
    table of the caller's kind, one row per subject: USUBJID, carried columns, PARAMCD, PARAM, AVAL (days), CNSR (0 is
    the event), EVENT, STATUS (0 censored, 1 relapse, 2 competing), EVNTDESC (rule or reason for censoring), CNSDTDSC,
    RULE, CONFDY, LEFT, RIGHT (missing when censored). ``Surv(AVAL, CNSR == 0)`` is the exact-date analysis,
    ``Surv(LEFT, RIGHT, type="interval2")`` the interval-censored one.

    Raises
    ------
    DataError, FormulaError
        Missing columns, an unknown parameter or definition, days that are not numbers.

    References
    ----------
    Daly et al. (2019) JAMA Psychiatry 76: 893-903, doi 10.1001/jamapsychiatry.2019.1189.

    Examples
    --------
    >>> import pandas as pd
    >>> visits = pd.DataFrame({"USUBJID": "01", "ADY": [7, 14, 21, 28], "AVAL": [9, 12, 25, 27]})
    >>> row = derive_relapse(visits).iloc[0]
    >>> float(row["AVAL"]), int(row["CNSR"]), float(row["LEFT"]), float(row["RIGHT"]), row["RULE"]
    (21.0, 0, 14.0, 21.0, 'confirmed score')
    """
    chosen = _definition(definition)
    choose(unconfirmed, ("censor", "event"), "unconfirmed")
    choose(discontinuation, DISCONTINUATION, "discontinuation")
    kind, frame = frames.kind(adqs), frames.to_pandas(adqs)
    frames.require(frame, [SUBJECT, "AVAL"], "adqs")
    subjects = list(dict.fromkeys(frame[SUBJECT].dropna()))
    origin = _origin(frame, start)
    visits = _visits(_of_parameter(frame, chosen, parameter), chosen, origin)
    extra = _extras(events, disposition, origin, subjects)
    rules = _Rules(chosen, unconfirmed, discontinuation)
    outcomes = [_subject(visits.get(s), extra.get(s, _Extra()), rules, s) for s in subjects]
    for message, ids in rules.notes.items():
        warn(f"{message}: {len(ids)} subjects ({first_ids(ids)}).")
    return frames.restore(_adtte(frame, subjects, outcomes, chosen, origin, paramcd), kind)


def _definition(definition: str | RelapseDefinition) -> RelapseDefinition:
    if isinstance(definition, RelapseDefinition):
        return definition
    return DEFINITIONS[choose(definition, DEFINITIONS, "definition")]


def _of_parameter(frame: pd.DataFrame, definition: RelapseDefinition, parameter: str | None) -> pd.DataFrame:
    """The rows of the score that the definition is about."""
    if "PARAMCD" not in frame.columns:
        return frame
    codes = frame["PARAMCD"].astype(str)
    present = list(dict.fromkeys(codes[frame["PARAMCD"].notna()]))
    wanted = [parameter] if parameter is not None else [p for p in definition.parameters if p in present][:1]
    if not wanted or wanted[0] not in present:
        name = parameter or definition.parameters[0]
        raise DataError(
            f"adqs: no row has PARAMCD {name!r}.{nearest(name, present)} It holds {first_ids(present, 8)}; "
            "name the score with parameter=."
        )
    return frame.loc[(codes == wanted[0]).to_numpy()]


def _origin(frame: pd.DataFrame, start: float | str | None) -> dict[Any, Any] | float:
    """Days to subtract, as a number or per subject (a day, or a date when the column holds dates)."""
    if start is None and "ADY" not in frame.columns and "ADT" in frame.columns:
        start = next((c for c in START_DATES if c in frame.columns), None)
    if not isinstance(start, str):
        return 0.0 if start is None else float(start)
    frames.require(frame, [start], "adqs")
    first = frame.dropna(subset=[start]).drop_duplicates(SUBJECT)
    return dict(zip(first[SUBJECT], first[start], strict=True))


def _days(table: pd.DataFrame, origin: dict[Any, Any] | float, where: str) -> FloatArray:
    """Days since the origin of each row, from ADY or from ADT minus a start date."""
    dated = isinstance(origin, dict) and not all(isinstance(v, (int, float, np.number)) for v in origin.values())
    if dated:
        frames.require(table, ["ADT"], where)
        assert isinstance(origin, dict)
        begin = pd.to_datetime(table[SUBJECT].map(origin))
        days = (pd.to_datetime(table["ADT"]) - begin) / pd.Timedelta(days=1)
        return days.to_numpy(dtype=float, na_value=np.nan)
    if "ADY" not in table.columns:
        raise DataError(f"{where}: no column ADY. Give study days, or ADT together with start= (a date column).")
    try:
        days = frames.numbers(table, "ADY")
    except (ValueError, TypeError):
        raise DataError(f"{where}: ADY holds values that are not numbers.") from None
    shift = table[SUBJECT].map(origin).to_numpy(float) if isinstance(origin, dict) else origin
    return np.asarray(days - shift)


Visits = dict[Any, tuple[FloatArray, FloatArray, BoolArray]]


def _visits(frame: pd.DataFrame, definition: RelapseDefinition, origin: dict[Any, Any] | float) -> Visits:
    """Per subject: days and scores of the assessments after the origin, in order, and which are high."""
    score = frames.numbers(frame, "AVAL", "adqs")
    limit = np.full(len(frame), definition.threshold)
    if definition.share_of_base is not None:
        frames.require(frame, ["BASE"], "adqs")
        limit = definition.share_of_base * frames.numbers(frame, "BASE")
    table = pd.DataFrame(
        {"id": frame[SUBJECT].to_numpy(), "day": _days(frame, origin, "adqs"), "score": score, "limit": limit}
    )
    baseline = is_yes(frame["ABLFL"], "ABLFL") if "ABLFL" in frame.columns else np.zeros(len(frame), bool)
    table = table.loc[(table["day"] > 0) & table["score"].notna() & ~baseline]
    table = table.sort_values(["day", "score"], kind="stable").drop_duplicates(["id", "day"], keep="last")
    found: Visits = {}
    for subject, rows in table.groupby("id", sort=False):
        day, value = rows["day"].to_numpy(float), rows["score"].to_numpy(float)
        found[subject] = (day, value, value >= rows["limit"].to_numpy(float))
    return found


def _extras(
    events: FrameLike | Mapping[str, FrameLike] | None,
    disposition: FrameLike | None,
    origin: dict[Any, Any] | float,
    subjects: list[Any],
) -> dict[Any, _Extra]:
    tables = events if isinstance(events, Mapping) else {"": events} if events is not None else {}
    composite: dict[Any, tuple[float, str]] = {}
    for reason, table in tables.items():
        _earliest(composite, frames.to_pandas(table), origin, ("EVNTDESC", "REASON"), reason, "events")
    stopped: dict[Any, tuple[float, str]] = {}
    if disposition is not None:
        _earliest(stopped, frames.to_pandas(disposition), origin, ("DCSREAS", "REASON"), "", "disposition")
    unknown = [s for s in (*composite, *stopped) if s not in set(subjects)]
    if unknown:
        raise DataError(
            f"events or disposition: {len(unknown)} subjects have no row in adqs ({first_ids(unknown)}). "
            "Add them there, or leave them out here."
        )
    return {s: _Extra(composite.get(s), stopped.get(s)) for s in {*composite, *stopped}}


def _earliest(
    found: dict[Any, tuple[float, str]],
    table: pd.DataFrame,
    origin: dict[Any, Any] | float,
    names: tuple[str, ...],
    reason: str,
    where: str,
) -> None:
    """Keep each subject's first event after the origin with its reason."""
    frames.require(table, [SUBJECT], where)
    column = next((n for n in names if n in table.columns), None)
    default = reason or where.removesuffix("s")
    texts = [default] * len(table) if column is None or reason else table[column].astype(str).tolist()
    for subject, day, text in zip(table[SUBJECT], _days(table, origin, where), texts, strict=True):
        if day > 0 and (subject not in found or day < found[subject][0]):
            found[subject] = (float(day), text)


def _subject(
    visits: tuple[FloatArray, FloatArray, BoolArray] | None, extra: _Extra, rules: _Rules, who: Any
) -> _Outcome:
    """The first of: confirmed score, composite event, discontinuation, unconfirmed score, end of observation."""
    if visits is None:
        visits = (np.zeros(0), np.zeros(0), np.zeros(0, bool))
        if extra.composite is None:
            rules.notes.setdefault("No assessment after the start; censored at day 0", []).append(who)
    day, _, high = visits
    score, settled = _score_outcome(day, high, rules)
    if extra.composite is not None and _comes_first(extra.composite[0], score, settled):
        at = extra.composite[0]
        return _Outcome(at, True, at, at, rule=extra.composite[1])
    if extra.stopped is not None and extra.stopped[0] < settled and not (score.event and score.day <= extra.stopped[0]):
        return _stopped(extra.stopped, score, rules.discontinuation)
    return score


def _comes_first(day: float, score: _Outcome, settled: float) -> bool:
    """A composite event counts when it precedes the score's relapse, or what ends follow-up without one."""
    return day < score.day if score.event else day <= settled


def _stopped(stopped: tuple[float, str], score: _Outcome, mode: str) -> _Outcome:
    """A discontinuation: the end of a follow-up without relapse, an event, or a competing event."""
    day, reason = stopped
    text = f"discontinuation: {reason}"
    if mode == "censor":
        end = score.left if score.event else score.day
        return _Outcome(min(end, day), False, min(end, day), float("nan"), censoring=text)
    return _Outcome(day, mode == "event", day, day, rule=text, competing=mode == "competing")


def _score_outcome(day: FloatArray, high: BoolArray, rules: _Rules) -> tuple[_Outcome, float]:
    """What the scores alone say, and the day at which a follow-up without relapse is settled (Inf: by its end)."""
    definition = rules.definition
    pair = _first_confirmed(day, high, definition)
    open_at = _first_unresolved(day, high, definition)
    sooner = open_at is not None and (pair is None or open_at < pair)
    if open_at is not None and sooner and (rules.unconfirmed == "event" or not _same_run(high, open_at, pair)):
        return _unconfirmed(day, high, open_at, rules)
    if pair is not None:
        confirmed = day[pair + definition.assessments - 1]
        at = day[pair] if definition.dated == "first" else confirmed
        rule = "confirmed score" if definition.assessments == 2 else "score"
        return _Outcome(at, True, _last_low(day, high, pair), day[pair], rule=rule, confirmed=confirmed), float("inf")
    end = float(day[-1]) if day.size else 0.0
    why = "end of observation" if day.size else "no assessment after the start"
    return _Outcome(end, False, end, float("nan"), censoring=why), float("inf")


def _unconfirmed(day: FloatArray, high: BoolArray, at: int, rules: _Rules) -> tuple[_Outcome, float]:
    """A high score that nothing confirms or refutes in time."""
    left = _last_low(day, high, at)
    last = at + 1 == day.size or bool(high[at:].all() and (_gaps(day[at:]) < rules.definition.window[0]).all())
    why = "no later assessment" if last else "next assessment after the window"
    if rules.unconfirmed == "event":
        return _Outcome(day[at], True, left, day[at], rule=f"unconfirmed score ({why})"), float("inf")
    end = float(day[at - 1]) if at > 0 else 0.0
    return _Outcome(end, False, end, float("nan"), censoring=f"unconfirmed score ({why})"), float(
        day[at] + rules.definition.window[1]
    )


def _gaps(day: FloatArray) -> FloatArray:
    """Days between neighbours; differences of days that are not whole numbers without their rounding error."""
    return np.round(np.diff(day), 9)


def _first_confirmed(day: FloatArray, high: BoolArray, definition: RelapseDefinition) -> int | None:
    if definition.assessments == 1:
        at = np.flatnonzero(high)
    else:
        gap = _gaps(day)
        inside = (gap >= definition.window[0]) & (gap <= definition.window[1])
        at = np.flatnonzero(high[:-1] & high[1:] & inside)
    return int(at[0]) if at.size else None


def _first_unresolved(day: FloatArray, high: BoolArray, definition: RelapseDefinition) -> int | None:
    """The first high score whose run of high scores ends with nothing that confirms or refutes it in the window."""
    if definition.assessments == 1:
        return None
    low, top = definition.window
    gap = _gaps(day)
    run_start: int | None = None
    for i in np.flatnonzero(high):
        run_start = int(i) if run_start is None or not high[i - 1] else run_start
        if i + 1 == day.size or gap[i] > top:
            return run_start
        if not high[i + 1] or gap[i] >= low:
            run_start = None
    return None


def _same_run(high: BoolArray, first: int, pair: int | None) -> bool:
    """Only high scores lie between an unresolved score and a later confirmed pair."""
    return pair is not None and bool(high[first : pair + 1].all())


def _last_low(day: FloatArray, high: BoolArray, before: int) -> float:
    low = np.flatnonzero(~high[:before])
    return float(day[low[-1]]) if low.size else 0.0


def _adtte(
    frame: pd.DataFrame,
    subjects: list[Any],
    outcomes: list[_Outcome],
    definition: RelapseDefinition,
    origin: dict[Any, Any] | float,
    paramcd: str,
) -> pd.DataFrame:
    status = np.array([2 if o.competing else int(o.event) for o in outcomes], dtype=np.int64)
    event = status == 1
    right = np.where(status > 0, [o.right for o in outcomes], np.nan)
    describe = [o.rule or o.censoring for o in outcomes]
    table = _carried(frame, subjects).assign(
        PARAMCD=paramcd,
        PARAM=f"Time to Relapse (Days): {definition.name}",
        AVAL=np.array([o.day for o in outcomes], float),
        CNSR=np.where(event, 0, 1),
        EVENT=event.astype(np.int64),
        STATUS=status,
        EVNTDESC=describe,
        CNSDTDSC=[o.censoring for o in outcomes],
        RULE=[o.rule for o in outcomes],
        CONFDY=np.array([o.confirmed for o in outcomes], float),
        LEFT=np.array([o.left for o in outcomes], float),
        RIGHT=right,
    )
    if isinstance(origin, dict) and "ADT" in frame.columns and not _numeric(origin):
        begin = pd.to_datetime(table[SUBJECT].map(origin))
        table["ADT"] = begin + pd.to_timedelta(table["AVAL"], unit="D")
    return table


def _numeric(origin: dict[Any, Any]) -> bool:
    return all(isinstance(v, (int, float, np.number)) for v in origin.values())


def _carried(frame: pd.DataFrame, subjects: list[Any]) -> pd.DataFrame:
    """USUBJID and the columns that are constant within every subject."""
    skip = {"PARAMCD", "PARAM", "PARAMN", "AVAL", "ADY", "ADT", "BASE", "CHG", "PCHG", "AVISIT", "AVISITN"}
    names = [c for c in frame.columns if c not in skip and c != SUBJECT]
    constant = [c for c in names if frames.is_constant(frame[c], frame[SUBJECT])]
    first = frame.dropna(subset=[SUBJECT]).drop_duplicates(SUBJECT).set_index(SUBJECT)[constant]
    return first.loc[subjects].rename_axis(SUBJECT).reset_index()
