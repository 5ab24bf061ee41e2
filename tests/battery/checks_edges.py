"""Laws at the edge: too little data, wrong data, wrong arguments. An error of ours, or NaN with a warning."""

from __future__ import annotations

import inspect
import math
import warnings
from typing import Any

import numpy as np
import pandas as pd

import kapstats as ks
from kapstats.errors import KapstatsError
from tests.battery.cases import Case, Days
from tests.battery.checks import attempt, check, has_data, light, usual
from tests.battery.results import Answers, frames_of

NUMBERS = ("estimate", "std_error", "statistic", "p_value", "conf_low", "conf_high")


def altered(case: Case, how: dict[str, Any] | Any) -> dict[str, Any]:
    """The tables of a case, each put through `how`."""
    return {key: how(frame) for key, frame in case.tables.items()}


def finite(found: Answers) -> list[str]:
    """Names of the answers that hold a finite estimate."""
    return [
        name
        for name, frame in frames_of(found).items()
        if "estimate" in frame and np.isfinite(pd.to_numeric(frame["estimate"], errors="coerce")).any()
    ]


def clean(found: Answers | KapstatsError) -> None:
    if isinstance(found, Answers):
        assert not found.foreign, found.foreign


@check(has_data)
def empty_table(case: Case) -> None:
    """A table without rows is refused, or gives no number."""
    found = attempt(case, altered(case, lambda f: f.iloc[:0]))
    clean(found)
    if isinstance(found, Answers):
        assert not finite(found), finite(found)


@check(lambda case: light(case) and bool(case.arm))
def one_arm(case: Case) -> None:
    """With one arm left there is nothing to compare: refused, or no comparison and no number that is not one."""
    first = next(f[case.arm].iloc[0] for f in case.tables.values() if case.arm in f)
    found = attempt(case, altered(case, lambda f: f[f[case.arm] == first] if case.arm in f else f))
    clean(found)
    if isinstance(found, Answers):
        for name, frame in frames_of(found).items():
            if "contrast" in frame and "estimate" in frame:
                made = frame[frame["contrast"].astype(str).str.contains(" [-/] ", na=False)]
                assert not np.isfinite(made["estimate"].astype(float)).any(), (name, made.iloc[0].to_dict())


@check(lambda case: light(case) and bool(case.outcome))
def outcome_missing(case: Case) -> None:
    """Where every outcome is missing there is no estimate."""
    none = dict.fromkeys(case.outcome, np.nan)
    found = attempt(case, altered(case, lambda f: f.assign(**{k: v for k, v in none.items() if k in f})))
    clean(found)
    if isinstance(found, Answers):
        assert not finite(found), finite(found)


@check(lambda case: light(case) and bool(case.outcome))
def one_outcome_left(case: Case) -> None:
    """One subject with an outcome is no sample: refused, or no standard error that is a number below a real one."""
    found = attempt(case, altered(case, lambda f: f.iloc[:1] if set(case.outcome) & set(f.columns) else f))
    clean(found)


@check(lambda case: light(case) and bool(case.outcome))
def outcome_constant(case: Case) -> None:
    """Where every outcome is the same nothing is significant, and no error of numpy leaks."""
    found = attempt(
        case, altered(case, lambda f: f.assign(**{k: f[k].dropna().iloc[0] for k in case.outcome if k in f}))
    )
    clean(found)
    if isinstance(found, Answers):
        for name, frame in frames_of(found).items():
            if {"std_error", "p_value", "estimate"} <= set(frame.columns):
                size = 1e-10 * frame["estimate"].astype(float).abs().clip(lower=1.0)
                sure = frame[(frame["std_error"].astype(float) < size) & (frame["p_value"].astype(float) < 0.05)]
                assert sure.empty, (name, sure.iloc[0].to_dict())


LEVELS = (95, 0, -0.1, math.nan, "0.95", True)


def _level_is_refused(ask: Any) -> list[str]:
    accepted = []
    for level in LEVELS:
        try:
            ask(level)
        except KapstatsError:
            continue
        accepted.append(repr(level))
    return accepted


@check(lambda case: not case.heavy and "level" in parameters(case))
def level_refused(case: Case) -> None:
    """A confidence level is a number between 0 and 1, anything else is refused by an error of ours."""
    accepted = [v for v in _level_is_refused(lambda L: case.call(**case.tables, level=L)) if v != "None"]
    assert not accepted, f"level accepted: {accepted}"


@check(lambda case: not case.heavy and bool(case.asks))
def level_refused_by_methods(case: Case) -> None:
    """The same for every method of the result that takes a level."""
    result = usual(case.id).result
    for question in case.asks:
        if question.takes(result, "level"):
            accepted = [v for v in _level_is_refused(lambda L, q=question: q(result, level=L)) if v != "None"]  # type: ignore[misc]
            assert not accepted, f"{question.name}: level accepted: {accepted}"


def parameters(case: Case) -> dict[str, inspect.Parameter]:
    """Options of the verb that are not set by the case."""
    verb = getattr(ks, case.verb)
    return dict(inspect.signature(verb).parameters) if inspect.isfunction(verb) else {}


def _free_options(case: Case, kinds: tuple[str, ...]) -> list[str]:
    source = inspect.getsource(case.call) if inspect.isfunction(case.call) else ""
    taken = {name for name in parameters(case) if f"{name}=" in source}
    return [
        name
        for name, p in parameters(case).items()
        if p.default is not inspect.Parameter.empty
        and str(p.annotation) in kinds
        and name not in taken | {"data", "level", *case.ignores}
    ]


def _refuses(case: Case, name: str, value: Any) -> None:
    try:
        case.call(**case.tables, **{name: value})
    except KapstatsError:
        return
    except TypeError as error:
        if "multiple values" in str(error):
            return
        raise AssertionError(f"{name}={value!r}: TypeError {error}") from error
    except Exception as error:
        raise AssertionError(f"{name}={value!r}: {type(error).__name__} {error}") from error
    raise AssertionError(f"{name}={value!r} accepted")


@check(lambda case: not case.heavy)
def choices_refused(case: Case) -> None:
    """An option that is one of several words refuses another word."""
    for name in _free_options(case, ("str", "str | None")):
        _refuses(case, name, "nonsense")
        _refuses(case, name, 3.5)


@check(lambda case: not case.heavy)
def numbers_refused(case: Case) -> None:
    """An option that is a number refuses text and NaN."""
    for name in _free_options(case, ("float", "int", "float | None", "int | None")):
        for value in ("many", math.nan):
            _refuses(case, name, value)


@check(
    lambda case: (
        not case.heavy and "Mapping" in str(getattr(parameters(case).get("order"), "annotation", "")) and bool(case.arm)
    )
)
def order_of_no_column(case: Case) -> None:
    """An order of a column that is not there is named: a misspelt name would leave the arms to the alphabet."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            case.call(**case.tables, order={"NOT_A_COLUMN": ["Placebo"]})
        except KapstatsError as refused:
            warnings.warn(str(refused), stacklevel=1)
    said = [str(w.message) for w in caught]
    assert any("NOT_A_COLUMN" in text for text in said), f"nothing is said: {said[:3]}"


@check(lambda case: not case.heavy and "order" in parameters(case) and bool(case.arm))
def order_refused(case: Case) -> None:
    """An order that names other levels or columns, or names one twice, is refused."""
    mapping = "Mapping" in str(parameters(case)["order"].annotation)
    for value in (["A", "B"], ["Placebo"], ["Placebo", "Placebo", "KAP IV"], [], 3, "Placebo"):
        _refuses(case, "order", {case.arm: value} if mapping else value)


@check(lambda case: light(case) and bool(case.uses) and bool(case.outcome))
def columns_misspelt(case: Case) -> None:
    """A column that is not there is named in the error."""
    for name in {*case.outcome, case.ids, case.arm} - {""}:
        found = attempt(case, altered(case, lambda f, n=name: f.rename(columns={n: f"{n}X"})))  # type: ignore[misc]
        if isinstance(found, KapstatsError):
            assert name in str(found), f"{name} is not named: {found}"
        clean(found)


def _malformed(case: Case, names: tuple[str, ...], how: Any) -> list[Answers | KapstatsError]:
    found = []
    for name in names:
        found.append(attempt(case, altered(case, lambda f, n=name: f.assign(**{n: how(f[n])}) if n in f else f)))  # type: ignore[misc]
        clean(found[-1])
    return found


def numeric_outcome(case: Case) -> tuple[str, ...]:
    """Outcome, time and score columns that hold numbers."""
    names = dict.fromkeys((*case.outcome, *case.times, *case.scores))
    return tuple(n for n in names if any(n in f and f[n].dtype.kind in "iuf" for f in case.tables.values()))


def first(value: Any) -> Any:
    """A change of a column that puts `value` into its second row."""

    def change(column: pd.Series) -> pd.Series:
        values = column.tolist()
        values[min(2, len(values) - 1)] = value
        return pd.Series(values, index=column.index, dtype=object)

    return change


@check(lambda case: light(case) and bool(numeric_outcome(case)))
def text_in_numbers(case: Case) -> None:
    """Text among numbers is refused, with the column named."""
    for name, found in zip(numeric_outcome(case), _malformed(case, numeric_outcome(case), first("ND")), strict=True):
        assert isinstance(found, KapstatsError), f"text in {name} accepted"
        assert name in str(found), f"{name} is not named: {found}"


@check(lambda case: light(case) and bool(numeric_outcome(case)))
def objects_in_numbers(case: Case) -> None:
    """Lists, dates or times among numbers are refused."""
    for value in ([1, 2], pd.Timestamp("2024-01-01"), {"a": 1}):
        for name, found in zip(
            numeric_outcome(case), _malformed(case, numeric_outcome(case), first(value)), strict=True
        ):
            assert isinstance(found, KapstatsError), f"{value!r} in {name} accepted"


@check(lambda case: light(case) and bool(numeric_outcome(case)))
def infinite_numbers(case: Case) -> None:
    """An infinite outcome, time or score is refused or left out with a word, unless it is an open limit."""
    names = tuple(n for n in numeric_outcome(case) if n != "RIGHT")
    for name, found in zip(
        names, _malformed(case, names, lambda c: c.astype(float).where(c.index % 5 != 2, np.inf)), strict=True
    ):
        assert isinstance(found, KapstatsError) or found.warned, f"inf in {name} accepted"


@check(lambda case: light(case) and bool(case.times))
def negative_times(case: Case) -> None:
    """A negative time to an event is refused (a start may lie before the origin)."""
    times = tuple(n for n in case.times if n not in ("ENTRY", "ENROLDY"))
    for name, found in zip(times, _malformed(case, times, lambda c: c.where(c.index != 1, -5)), strict=True):
        assert isinstance(found, KapstatsError), f"negative {name} accepted"


@check(lambda case: light(case) and case.verb in COUNT_VERBS)
def impossible_counts(case: Case) -> None:
    """Counts that cannot be, negative, broken, or more events than subjects, are refused, or said."""
    whole = tuple(n for n in case.outcome if n not in ("t1", "t2", "DOSE"))
    for value in (-1, 2.5, 1e6):
        for name in whole:
            if value == 1e6 and not (name.startswith("x") and "t1" not in case.outcome):
                continue
            found = _malformed(case, (name,), lambda c, v=value: c.astype(float).where(c.index != 1, v))[0]  # type: ignore[misc]
            assert isinstance(found, KapstatsError) or found.warned, f"{name} = {value} accepted without a word"


COUNT_VERBS = {"proportion", "risk_difference", "risk_ratio", "odds_ratio", "rate", "rate_ratio", "rate_difference"}
COUNT_VERBS |= {"paired_difference", "paired_odds_ratio", "paired_risk_ratio", "trend_test", "cmh_test", "homogeneity"}
COUNT_VERBS |= {"meta_analysis", "meta_regression", "network_meta_analysis"}


@check(lambda case: light(case) and bool(case.ids or case.arm))
def labels_missing(case: Case) -> None:
    """A missing subject, arm or visit, or one of another type, is refused or left out with a word, never a crash."""
    names = tuple(n for n in (case.ids, case.arm) if n)
    for value in (None, ("a", 1)):
        _malformed(case.quick(), names, first(value))


@check(lambda case: light(case) and bool(case.cell))
def empty_cell(case: Case) -> None:
    """A cell of arm and visit without data has no mean, no prediction and no difference, and a warning says so."""
    frame = case.tables["data"]
    a, b = (frame[c].dropna().iloc[-1] for c in case.cell)
    gap = (frame[case.cell[0]] == a) & (frame[case.cell[1]] == b)
    found = attempt(case, {"data": frame[~gap]})
    clean(found)
    if isinstance(found, KapstatsError):
        return
    for name, rows in frames_of(found).items():
        if set(case.cell) <= set(rows.columns) and "estimate" in rows:
            lost = rows[(rows[case.cell[0]] == a) & (rows[case.cell[1]] == b)]
            assert lost["estimate"].isna().all(), f"{name}: {lost.iloc[0].to_dict()}"
    assert found.warned, "nothing is said of the empty cell"
    new = frame[gap].head(2)
    if hasattr(found.result, "predict"):
        try:
            predicted = np.asarray(_numbers_of(found.result.predict(new)), dtype=float)
        except KapstatsError:
            return
        assert np.isnan(predicted).all(), f"predict: {predicted}"


def _numbers_of(answer: Any) -> Any:
    frame = answer if isinstance(answer, pd.DataFrame) else getattr(answer, "frame", None)
    if frame is None:
        return answer
    return frame["estimate"] if "estimate" in frame else frame.select_dtypes("number").iloc[:, -1]


@check(lambda case: light(case) and bool(case.beyond))
def past_follow_up(case: Case) -> None:
    """Nothing is reported past the last time observed: NaN with a warning, or an error of ours."""
    last = max(float(frame[c].max()) for frame in case.tables.values() for c in case.times if c in frame)
    result = usual(case.id).result
    import warnings

    for question in case.beyond:
        asked = question.timed(lambda t: Days(10.0 * last))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                answer = asked(result)
            except KapstatsError:
                continue
        values = np.asarray(_numbers_of(answer if not hasattr(answer, "to_frame") else answer.to_frame()), dtype=float)
        assert np.isnan(values).all(), f"{question.name}: {values[:4]} at ten times the last time"
        said = [str(w.message) for w in caught] + [*getattr(answer, "warnings", ())]
        assert said, f"{question.name}: nothing is said"


@check(light)
def unknown_rest(case: Case) -> None:
    """Rows whose outcome is missing change no estimate of what is observed."""
    if len(case.tables) != 1 or not case.outcome or case.verb in COUNT_VERBS or case.rowwise or not case.arm:
        return
    frame = case.tables["data"]
    more = frame.head(3).assign(**dict.fromkeys(case.outcome, np.nan))
    if case.ids:
        more[case.ids] = [f"NEW-{k}" for k in range(len(more))]
    found = attempt(case, {"data": pd.concat([frame, more], ignore_index=True)})
    clean(found)
    if isinstance(found, KapstatsError):
        return
    for name, rows in frames_of(found).items():
        before = frames_of(usual(case.id))[name]
        if "estimate" in rows and "estimate" in before and len(rows) == len(before):
            gone = np.abs(rows["estimate"].astype(float) - before["estimate"].astype(float)).max()
            assert not gone > case.precision * 10, f"{name}: estimates move by {gone}"
