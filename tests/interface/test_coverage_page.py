"""The page on what is tested says what the tests say now."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

import kapstats as ks

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def coverage():
    spec = importlib.util.spec_from_file_location("coverage_page", ROOT / "tools" / "coverage.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["coverage_page"] = module
    spec.loader.exec_module(module)
    return module


def listed(page):
    return [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")]


def test_every_exported_estimator_is_listed_once(coverage):
    estimators = set(dir(ks)) - coverage.OTHERS - {"__version__"}
    assert sorted(listed(coverage.page())) == sorted(estimators)
    assert set(listed(coverage.PAGE.read_text(encoding="utf-8"))) <= estimators, "run python tools/coverage.py"


def test_comparisons_are_tests_that_exist_and_were_counted(coverage):
    rows = [line.split("\t") for line in coverage.AGREEMENT.read_text(encoding="utf-8").splitlines()[1:]]
    now = {row[:5] for row in coverage.agreement({})}
    assert {tuple(row[:5]) for row in rows} <= now, "run python tools/coverage.py"
    assert all(int(row[5]) > 0 for row in rows)


def test_a_helper_leads_to_the_estimator_and_a_word_alone_does_not(coverage):
    fits = [t for t in coverage.of("lmm") if t.file.endswith("test_lmm.py")]
    assert "test_kenward_roger" in {t.name for t in fits}
    assert not [t for t in coverage.of("rate") if t.file.endswith("test_reconstruct.py")]


def test_tolerances_are_read_from_constants_and_helpers(coverage):
    found = {
        t.name: coverage.tolerances(t) for t in coverage.tests() if t.file.endswith("test_survival_more_sequential.py")
    }
    assert found["test_rpact_boundaries"] == [1e-6]
    assert coverage.software("reference/test_lmm.py") == "lme4 1.1-31, lmerTest 3.1-3, pbkrtest 0.5.2"
