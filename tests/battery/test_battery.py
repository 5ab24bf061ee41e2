"""Every exported verb under every law that applies to it."""

from __future__ import annotations

from typing import Any

import pytest

import kapstats as ks
from tests.battery import checks_dress, checks_edges, checks_laws, checks_shown  # noqa: F401
from tests.battery.cases import CASES, NO_CASE, Case
from tests.battery.checks import CHECKS, Check
from tests.battery.later import LATER

PAIRS = [(law, case) for law in CHECKS.values() for case in CASES if law.applies(case)]


def _pair(law: Check, case: Case) -> Any:
    reason = LATER.get((law.name, case.id))
    marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
    return pytest.param(law, case, id=f"{law.name}-{case.id}", marks=marks)


@pytest.mark.filterwarnings("ignore::kapstats.errors.KapstatsWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(("law", "case"), [_pair(law, case) for law, case in PAIRS])
def test_battery(law: Check, case: Case) -> None:
    law.run(case)


def test_every_export_has_a_case() -> None:
    """Joining `_EXPORTS` is joining the battery."""
    cases = {case.verb for case in CASES}
    exported = set(ks._EXPORTS)
    assert exported - cases - set(NO_CASE) == set(), "write a Case in tests/battery/cases.py"
    assert not cases & set(NO_CASE)
    assert (cases | set(NO_CASE)) - exported == set()


def test_every_law_is_put_to_somebody() -> None:
    """No check applies to nothing, every check says its law, and no two cases share an id."""
    assert {law.name for law, _ in PAIRS} == set(CHECKS)
    assert all(law.law for law in CHECKS.values())
    assert len({case.id for case in CASES}) == len(CASES)
