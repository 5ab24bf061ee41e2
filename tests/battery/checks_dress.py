"""Laws of the way in: the same values in other clothes are the same data."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd

from tests.battery.cases import CASES, Case
from tests.battery.checks import again, changes, check, has_data, light, usual, usual_facts
from tests.battery.dress import DRESSES, dressed, written
from tests.battery.results import answers, differences, facts

#: verbs for which the place of a row says something (times and doses given beside the rows)
BY_POSITION = ("onset_curve", "reconstruct_ipd")


def _same_in(name: str, case: Case) -> None:
    found = answers(case.quick(), {key: dressed(table, name) for key, table in case.data.items()})
    gone = changes(case, found)
    assert not gone, f"other numbers in the dress {name}: {gone}"
    assert not found.foreign, found.foreign


#: dresses that the common way in takes off: each is put to every third verb, and to all with KAPSTATS_BATTERY=all
EVERYWHERE = ("decimals", "categories", "narrow", "unhashable", "untouchable")
SLICED = [name for name in DRESSES if name not in EVERYWHERE]


def _dresses(name: str, case: Case) -> bool:
    if not case.uses or (case.rest and name in ("odd_columns", "untouchable")):
        return False
    if case.heavy:
        return name in ("polars", "categories", "decimals", "unhashable", "converted")
    if name in SLICED and os.environ.get("KAPSTATS_BATTERY") != "all":
        return (CASES.index(case) + SLICED.index(name)) % 3 == 0
    return True


for _name, _make in DRESSES.items():
    law = partial(_same_in, _name)
    law.__doc__ = f"The numbers are the same when the table is given so: {(_make.__doc__ or '').strip()}"  # type: ignore[attr-defined]
    check(partial(_dresses, _name), name=f"dress-{_name}")(law)


@check(lambda case: light(case) and case.verb not in BY_POSITION)
def shuffled_rows(case: Case) -> None:
    """The order of the rows carries no information."""
    given = {key: frame.sample(frac=1.0, random_state=11) for key, frame in case.tables.items()}
    gone = changes(case, answers(case, given), ordered=False)
    assert not gone, gone


@check(lambda case: bool(case.uses) and not case.heavy and case.verb != "listing")
def only_named_columns(case: Case) -> None:
    """The columns that the call names are all that it needs, and the others change nothing."""
    given = {key: frame[case.used[key]] for key, frame in case.tables.items()}
    gone = changes(case, answers(case, given))
    assert not gone, gone


@check(has_data)
def input_unchanged(case: Case) -> None:
    """What the user passed is what the user still has."""
    for key, frame in again(case.id).given.items():
        pd.testing.assert_frame_equal(frame, case.tables[key])
        assert frame.attrs == case.tables[key].attrs


@check()
def same_twice(case: Case) -> None:
    """The same call gives the same result, and touches no state of the process: random numbers, errstate, filters."""
    second = again(case.id)
    assert second.state_kept, "the state of the process is changed"
    gone = differences(usual_facts(case.id), facts(second.found), 0.0)
    assert not gone, gone


#: verbs of results that are no file, and the audit, which keeps the printed digits of a file as text
NO_PATH = ("onset_curve", "dose_response", "mcp_mod", "audit")


def _is_path_verb(case: Case) -> bool:
    return light(case) and set(case.data) == {"data"} and case.verb not in NO_PATH


def _from_file(ending: str, case: Case, folder: Any) -> None:
    path = written(case.tables["data"], folder, ending)
    gone = changes(case, answers(case.quick(), {"data": path}))
    assert not gone, gone


@check(_is_path_verb)
def csv_path(case: Case) -> None:
    """A path to a csv file is the table in it, ids with their leading zeros."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        _from_file("csv", case, Path(folder))


@check(_is_path_verb)
def parquet_path(case: Case) -> None:
    """A path to a parquet file is the table in it."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        _from_file("parquet", case, Path(folder))


@check()
def nothing_else_warned(case: Case) -> None:
    """Good data give no warning of numpy, pandas or scipy."""
    assert not usual(case.id).foreign


def _renamed(case: Case, name: Callable[[int], Any]) -> list[str]:
    """What changes when the subjects are called `name(0)`, `name(1)` ... in every table."""
    every = pd.concat([frame[case.ids] for frame in case.tables.values() if case.ids in frame]).unique()
    names = {old: name(k) for k, old in enumerate(every)}
    given = {
        key: frame.assign(**{case.ids: frame[case.ids].map(names)}) if case.ids in frame else frame
        for key, frame in case.tables.items()
    }
    return changes(case, answers(case.quick(), given), ordered=False, without=case.ids)


def _has_subjects(case: Case) -> bool:
    return light(case) and bool(case.ids) and case.verb not in ("Trial", "listing")


@check(_has_subjects)
def large_ids(case: Case) -> None:
    """Subjects may be whole numbers beyond 2^53: no id becomes a float."""
    gone = _renamed(case, lambda k: 2**60 + k)
    assert not gone, gone


@check(_has_subjects)
def leading_zeros(case: Case) -> None:
    """Subjects "01" and "1" are two: no id becomes a number."""
    gone = _renamed(case, lambda k: "0" * (k % 40) + "1" + "0" * (k // 40))
    assert not gone, gone
