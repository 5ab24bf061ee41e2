"""The fuzz targets on their first cases, their power to find, and formulas made to exhaust time or memory."""

from __future__ import annotations

import random
import warnings

import numpy as np
import pandas as pd
import pytest

from kapstats.errors import FormulaError, KapstatsError
from kapstats.formula import size
from kapstats.formula.design import build
from kapstats.formula.expressions import evaluate
from kapstats.formula.split import parse
from tests.fuzz import targets

FRAME = pd.DataFrame({c: np.linspace(0.5, 2.0, 50) ** k for k, c in enumerate("abcdefghijklmnopqrst", start=1)})
FRAME["person"] = np.arange(50)


@pytest.mark.parametrize("name", targets.TARGETS)
def test_first_cases(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in range(25):
            targets.TARGETS[name](random.Random(f"{name}-{seed}"))


def test_a_wrong_number_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "evaluate", lambda text, frame: evaluate(text, frame) * (1 + 1e-9))
    with pytest.raises(AssertionError):
        [targets.expression(random.Random(seed)) for seed in range(50)]


def test_another_error_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(text: str) -> None:
        raise IndexError("list index out of range")

    monkeypatch.setattr(targets, "parse_plan", broken)
    with pytest.raises(IndexError):
        targets.plan(random.Random(1))


@pytest.mark.parametrize(
    "text",
    [
        "*".join("abcdefghijklmnopqrst"),
        "(" + "+".join("abcdefghijklmnopqrst") + ")**6",
        "a" + "/b" * 300,
        "factor(person)*factor(a)*factor(b)",
        "poly(a, 100000)",
        "bs(a, df=1000000)",
        "poly()",
        "poly(2)",
        "poly(a, 50)",
        "poly(a, 2)(b)",
        "I(a + zz)",
        "`no such name`",
        "log(" * 300 + "a" + ")" * 300,
        "I('a' * 999999999)",
        "I(1 << 99999999)",
        "a" + " + a" * 20_000,
    ],
    ids=lambda text: text[:24],
)
def test_a_formula_bomb_is_refused_before_it_is_lit(text: str) -> None:
    with pytest.raises(KapstatsError):
        build(parse(f"y ~ {text}").fixed, FRAME)


@pytest.mark.parametrize("text", ["(" * 500 + "a" + ")" * 500, "-" * 500 + "a", "a" + " - a" * 500, "a:b" + ":a" * 50])
def test_long_and_harmless_is_read(text: str) -> None:
    assert len(build(parse(f"y ~ {text}").fixed, FRAME).names) <= 2


@pytest.mark.parametrize(
    "text",
    ["a", "a + b", "a*b", "a*b*c", "a:b", "a/b", "(a + b + c)**2", "a*b - a", "(a*b + c)*d", "log(a*b) + c", "a %in% b",
     "`a` * b", "a + 1", "-1 + a", "(a + b):(c + d)", "a*b*c*d*e*f"],
)  # fmt: skip
def test_the_bound_of_the_terms_is_one(text: str) -> None:
    made = build(parse(f"y ~ {text}").fixed, FRAME)
    assert len(made.terms) - 1 <= size.most_terms(text) <= 3 * len(made.terms)


def test_a_model_that_is_large_and_meant_is_read() -> None:
    assert size.most_terms("*".join("abcdefghij")) == 1023
    size.check_terms("*".join("abcdefghij"))
    with pytest.raises(FormulaError, match="2,047 terms"):
        size.check_terms("*".join("abcdefghijk"))
    with pytest.raises(FormulaError, match="a subject"):
        size.check_columns([30_000], 10)
