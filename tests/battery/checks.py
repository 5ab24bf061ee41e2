"""The checks of the battery: laws that every verb obeys, each in one line, applied where they apply."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from kapstats.errors import KapstatsError
from tests.battery.cases import CASES, Case
from tests.battery.results import Answers, Facts, answers, differences, facts


@dataclass(frozen=True)
class Check:
    """A law: `run` fails for a case that breaks it; `applies` says to which cases it can be put."""

    name: str
    run: Callable[[Case], None]
    applies: Callable[[Case], bool]
    law: str


CHECKS: dict[str, Check] = {}


def check(
    applies: Callable[[Case], bool] = lambda case: True, name: str = ""
) -> Callable[[Callable[[Case], None]], Callable[[Case], None]]:
    """Register a law under the name of its function; its docstring is the sentence that says what it guards."""

    def register(run: Callable[[Case], None]) -> Callable[[Case], None]:
        own = name or run.__name__
        CHECKS[own] = Check(own, run, applies, (run.__doc__ or "").strip())
        return run

    return register


def has_data(case: Case) -> bool:
    return bool(case.data)


def light(case: Case) -> bool:
    """Cases with data for which a second computation costs little."""
    return bool(case.data) and not case.heavy


@cache
def usual(case_id: str) -> Answers:
    """The answers on the table as it is, computed once."""
    case = next(c for c in CASES if c.id == case_id)
    return answers(case, case.tables)


@cache
def usual_facts(case_id: str, ordered: bool = True) -> Facts:
    return facts(usual(case_id), ordered=ordered)


def attempt(case: Case, given: dict[str, Any], **options: Any) -> Answers | KapstatsError:
    """The answers, or the refusal; any other exception is a fault and passes through."""
    try:
        return answers(case, given, **options)
    except KapstatsError as refused:
        return refused


def changes(case: Case, found: Answers, *, ordered: bool = True, without: str = "") -> list[str]:
    """Where answers differ from the usual ones, of the questions that were asked."""
    before = facts(usual(case.id), ordered=ordered, without=without)
    asked = {place: value for place, value in before.items() if place[0] in found.said}
    return differences(asked, facts(found, ordered=ordered, without=without), case.precision)


@dataclass(frozen=True)
class Again:
    """A second call on copies of the tables: its answers, the copies afterwards, and whether the process is kept."""

    found: Answers
    given: dict[str, pd.DataFrame]
    state_kept: bool


@cache
def again(case_id: str) -> Again:
    """The same call once more."""
    case = next(c for c in CASES if c.id == case_id)
    given = {key: frame.copy() for key, frame in case.tables.items()}
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    before = _state()
    found = answers(case, given)
    return Again(found, given, before == _state())


def _state() -> tuple[Any, ...]:
    drawn = np.random.get_state()  # noqa: NPY002
    return random.getstate(), str(drawn[1][:8]), drawn[2], np.geterr(), list(warnings.filters)
