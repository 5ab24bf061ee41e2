"""Laws of every two-group method, through the exported verbs, on random tables with empty and full cells.

Exchanging the groups turns the limits over: a difference changes its sign, a ratio becomes its reciprocal, with 0 and
infinity exchanged. Counting non-events instead of events turns differences and odds ratios over in the same way. A
one-sided limit is the two-sided one at twice the tail. KAPSTATS_LAW_CASES sets the number of tables.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

import kapstats as ks
from kapstats.safety import stratified, two_by_two

CASES = int(os.environ.get("KAPSTATS_LAW_CASES", "150"))
VERBS: dict[str, Callable[..., Any]] = {
    "risk-difference": ks.risk_difference,
    "risk-ratio": ks.risk_ratio,
    "odds-ratio": ks.odds_ratio,
}
#: exact unconditional limits take seconds a table: a few small ones
SLOW = ("chan-zhang", "santner-snell")
SUMMED = ("conditional-exact", "mid-p")
#: a normal or log-normal interval around another estimate, or around a shrunken one, may miss the plain estimate
SHIFTED = ("agresti-caffo", "scas")


@cache
def tables(cases: int, seed: int = 1, largest: int = 40_000) -> tuple[np.ndarray, ...]:
    """Random 2 x 2 tables: groups of 1 to `largest`, and two cells in five empty or full."""
    generator = np.random.default_rng(seed)
    n = np.floor(np.exp(generator.uniform(0, np.log(largest), (cases, 2)))).astype(int)
    p = generator.choice([0.0, 0.02, 0.2, 0.5, 0.9, 1.0], (cases, 2), p=[0.2, 0.15, 0.15, 0.2, 0.1, 0.2])
    x = generator.binomial(n, p)
    return x[:, 0], n[:, 0], x[:, 1], n[:, 1]


def limits(found: Any) -> tuple[np.ndarray, np.ndarray]:
    frame = found.to_frame()
    return frame["conf_low"].to_numpy(dtype=float), frame["conf_high"].to_numpy(dtype=float)


def turned(low: np.ndarray, high: np.ndarray, measure: str) -> tuple[np.ndarray, np.ndarray]:
    if measure.endswith("difference"):
        return -high, -low
    with np.errstate(divide="ignore"):
        return 1 / high, 1 / low


def apart(a: Any, b: Any, relative: float, absolute: float = 1e-12) -> np.ndarray:
    """Rows in which a and b differ; 0 and infinity must agree, and are what floats hardly hold."""
    a, b = (np.asarray(v, dtype=float) for v in (a, b))
    a, b = (np.where(np.abs(v) < 1e-300, 0.0, np.where(np.abs(v) > 1e300, np.sign(v) * np.inf, v)) for v in (a, b))
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        close = np.abs(a - b) <= np.maximum(absolute, relative * np.maximum(np.abs(a), np.abs(b)))
    edge = ~np.isfinite(a) | ~np.isfinite(b)
    return ~np.where(edge, same, same | close)


def shown(rows: np.ndarray, table: tuple[np.ndarray, ...], *values: np.ndarray) -> str:
    at = np.flatnonzero(rows)[:4]
    return f"{rows.sum()} of {rows.size}: " + "; ".join(
        f"{[part[i].tolist() for part in table]} -> {[float(v[i]) for v in values]}" for i in at
    )


def exchanged(call: Callable[..., Any], table: tuple[np.ndarray, ...], swap: tuple[int, ...], measure: str) -> None:
    low, high = limits(call(*table))
    other_low, other_high = turned(*limits(call(*(table[i] for i in swap))), measure)
    absolute = 1e-9 if measure.endswith("difference") else 0.0
    wrong = apart(low, other_low, 1e-9, absolute) | apart(high, other_high, 1e-9, absolute)
    assert not wrong.any(), shown(wrong, table, low, high, other_low, other_high)
    order = low > high + 1e-9 * np.maximum(1, np.abs(high))
    assert not order.any(), shown(order, table, low, high)


def given(method: str, seed: int) -> tuple[np.ndarray, ...]:
    """Few tables for what takes seconds, groups up to 2,000 for what sums over a support."""
    if method in SLOW:
        return tables(12, seed, 9)
    return tables(CASES, seed, 2000 if method in SUMMED else 40_000)


METHODS = [(m, method) for m in VERBS for method in two_by_two.MEASURES[m].methods]


@pytest.mark.parametrize(("measure", "method"), METHODS)
def test_exchanging_the_groups_turns_the_limits_over(measure: str, method: str) -> None:
    table = given(method, 1)
    exchanged(lambda *t: VERBS[measure](*t, method=method), table, (2, 3, 0, 1), measure)


@pytest.mark.parametrize(("measure", "method"), [m for m in METHODS if m[0] != "risk-ratio"])
def test_counting_non_events_turns_the_limits_over(measure: str, method: str) -> None:
    x1, n1, x2, n2 = table = given(method, 2)
    verb = VERBS[measure]
    low, high = limits(verb(*table, method=method))
    other_low, other_high = turned(*limits(verb(n1 - x1, n1, n2 - x2, n2, method=method)), measure)
    absolute = 1e-9 if measure == "risk-difference" else 0.0
    wrong = apart(low, other_low, 1e-9, absolute) | apart(high, other_high, 1e-9, absolute)
    assert not wrong.any(), shown(wrong, table, low, high, other_low, other_high)


@pytest.mark.parametrize(("measure", "method"), [m for m in METHODS if m[1] not in SLOW])
def test_the_estimate_is_inside_and_wider_levels_are_wider(measure: str, method: str) -> None:
    table = given(method, 4)
    found = VERBS[measure](*table, method=method)
    (low, high), estimate = limits(found), found.to_frame()["estimate"].to_numpy(dtype=float)
    slack = 1e-9 * np.maximum(1, np.abs(estimate))
    if method not in SHIFTED:
        outside = (low > estimate + slack) | (high < estimate - slack)
        assert not outside.any(), shown(outside, table, estimate, low, high)
    wide_low, wide_high = limits(VERBS[measure](*table, method=method, level=0.99))
    narrower = (wide_low > low + slack) | (wide_high < high - slack)
    assert not narrower.any(), shown(narrower, table, low, high, wide_low, wide_high)


@pytest.mark.parametrize(("measure", "method"), [m for m in METHODS if m[1] not in SLOW])
def test_a_one_sided_limit_is_the_two_sided_one_at_twice_the_tail(measure: str, method: str) -> None:
    table = given(method, 5)
    low, high = limits(VERBS[measure](*table, method=method, level=0.9))
    below = limits(VERBS[measure](*table, method=method, level=0.95, side="greater"))[0]
    above = limits(VERBS[measure](*table, method=method, level=0.95, side="less"))[1]
    wrong = apart(low, below, 1e-7) | apart(high, above, 1e-7)  # (1 - 0.9)/2 is not quite 1 - 0.95
    assert not wrong.any(), shown(wrong, table, low, high, below, above)


TESTED = [
    *((m, method) for m in VERBS for method in ("miettinen-nurminen", "farrington-manning", "koopman", "cornfield")),
    ("risk-difference", "scas"),
    ("risk-difference", "wald"),
    ("risk-ratio", "scas"),
    ("risk-ratio", "katz"),
    ("odds-ratio", "woolf"),
    ("odds-ratio", "gart"),
    ("odds-ratio", "mid-p"),
]


@pytest.mark.parametrize(("measure", "method"), [t for t in TESTED if t[1] in two_by_two.MEASURES[t[0]].methods])
@pytest.mark.parametrize("side", ["two", "greater", "less"])
def test_p_is_below_alpha_where_the_limits_exclude_the_null(measure: str, method: str, side: str) -> None:
    table = given(method, 6)
    frame = VERBS[measure](*table, method=method, side=side).to_frame()
    null = 0.0 if measure == "risk-difference" else 1.0
    low, high, p = (frame[c].to_numpy(dtype=float) for c in ("conf_low", "conf_high", "p_value"))
    excluded = (low > null) | (high < null)
    clear = (np.abs(p - 0.05) > 1e-7) & ~np.isnan(p) & ~np.isnan(low)
    wrong = clear & (excluded != (p < 0.05))
    assert not wrong.any(), shown(wrong, table, p, low, high)


@cache
def strata(cases: int) -> list[tuple[np.ndarray, ...]]:
    generator = np.random.default_rng(7)
    found = []
    for _ in range(cases):
        k = int(generator.integers(1, 5))
        n1, n2 = generator.integers(1, 15, k), generator.integers(1, 15, k)
        p, q = generator.choice([0, 0.05, 0.5, 0.95, 1], 2)
        found.append((generator.binomial(n1, p), n1, generator.binomial(n2, q), n2))
    return found


STRATIFIED = [(m, method) for m in VERBS for method in stratified.METHODS[m]]


@pytest.mark.parametrize(("measure", "method"), STRATIFIED)
def test_stratified_limits_turn_over_with_the_groups(measure: str, method: str) -> None:
    """All tables at once, as terms of one call."""
    given = strata(min(CASES, 60) if method in SUMMED else CASES)
    term = np.repeat(np.arange(len(given)), [t[0].size for t in given])
    label = np.concatenate([np.arange(t[0].size) for t in given])
    cells = [np.concatenate([t[i] for t in given]) for i in range(4)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ks.errors.KapstatsWarning)
        call = lambda *t: stratified.stratified(t, label, method, measure, term=term)  # noqa: E731
        low, high = limits(call(*cells))
        other = turned(*limits(call(cells[2], cells[3], cells[0], cells[1])), measure)
        upper = limits(stratified.stratified(cells, label, method, measure, term=term, level=0.975, side="less"))[1]
        found = call(*cells).to_frame()["estimate"].to_numpy(dtype=float)
    absolute = 1e-9 if measure == "risk-difference" else 0.0
    each = tuple(np.array([t[i] for t in given], dtype=object) for i in range(4))
    wrong = apart(low, other[0], 1e-8, absolute) | apart(high, other[1], 1e-8, absolute)
    assert not wrong.any(), shown(wrong, each, low, high, *other)
    wrong = apart(high, upper, 1e-9)
    assert not wrong.any(), shown(wrong, each, high, upper)
    slack = 1e-8 * np.maximum(1, np.abs(found))
    outside = (low > found + slack) | (high < found - slack)
    assert not outside.any(), shown(outside, each, found, low, high)


@cache
def pairs(cases: int) -> tuple[np.ndarray, ...]:
    generator = np.random.default_rng(8)
    n = np.floor(np.exp(generator.uniform(0, np.log(20_000), cases))).astype(int)
    p = generator.dirichlet([0.3] * 4, cases) * (generator.random((cases, 4)) < 0.6)
    p[p.sum(axis=1) == 0] = [0.25] * 4
    p /= p.sum(axis=1, keepdims=True)
    cells = np.stack([generator.multinomial(a, b) for a, b in zip(n, p, strict=True)])
    return cells[:, 0], cells[:, 1], cells[:, 2], cells[:, 3]


PAIRED = [("difference", m) for m in ("tango", "newcombe", "newcombe-8", "bonett-price", "wald")] + [("ratio", "tang")]


@pytest.mark.parametrize(("measure", "method"), PAIRED)
def test_paired_limits_turn_over_with_the_conditions(measure: str, method: str) -> None:
    verb = ks.paired_difference if measure == "difference" else ks.paired_risk_ratio
    exchanged(lambda *t: verb(*t, method=method), pairs(CASES), (0, 2, 1, 3), measure)
    found = verb(*pairs(CASES), method=method)
    (low, high), estimate = limits(found), found.to_frame()["estimate"].to_numpy(dtype=float)
    slack = 1e-9 * np.maximum(1, np.abs(estimate))
    outside = (low > estimate + slack) | (high < estimate - slack)
    assert method == "bonett-price" or not outside.any(), shown(outside, pairs(CASES), estimate, low, high)
    if method in ("tango", "tang", "wald"):
        p = found.to_frame()["p_value"].to_numpy(dtype=float)
        null = 0.0 if measure == "difference" else 1.0
        tested = (low > null) | (high < null)
        clear = (np.abs(p - 0.05) > 1e-7) & ~np.isnan(p) & (method != "wald")
        wrong = clear & (tested != (p < 0.05))
        assert not wrong.any(), shown(wrong, pairs(CASES), p, low, high)


@pytest.mark.parametrize("method", ["exact", "mid-p", "score"])
def test_paired_odds_ratios_turn_over(method: str) -> None:
    _, b, c, _ = pairs(CASES)
    exchanged(lambda b, c: ks.paired_odds_ratio(b, c, method=method), (b, c), (1, 0), "ratio")


@cache
def rates(cases: int) -> tuple[np.ndarray, ...]:
    generator = np.random.default_rng(9)
    t = np.exp(generator.uniform(np.log(1e-3), np.log(1e6), (2, cases)))
    mean = generator.choice([0.0, 0.5, 3.0, 40.0, 3000.0, 1e5], (2, cases))
    x = generator.poisson(mean)
    return x[0], t[0], x[1], t[1]


@pytest.mark.parametrize(
    ("verb", "method"),
    [
        *((ks.rate_ratio, m) for m in ("exact", "mid-p", "score", "wald")),
        *((ks.rate_difference, m) for m in ("score", "mover", "wald")),
    ],
)
def test_rates_turn_over_with_the_groups(verb: Callable[..., Any], method: str) -> None:
    """Differences are compared in units of the larger rate."""
    measure = "difference" if verb is ks.rate_difference else "ratio"
    x1, t1, x2, t2 = table = rates(min(CASES, 4000))
    low, high = limits(verb(*table, method=method))
    other = turned(*limits(verb(x2, t2, x1, t1, method=method)), measure)
    small = 1e-10 if measure == "difference" else 0.0
    unit = np.maximum((x1 + 1) / t1, (x2 + 1) / t2) if measure == "difference" else 1.0
    wrong = apart(low / unit, other[0] / unit, 1e-9, small) | apart(high / unit, other[1] / unit, 1e-9, small)
    assert not wrong.any(), shown(wrong, table, low, high, *other)
    estimate = verb(*table, method=method).to_frame()["estimate"].to_numpy(dtype=float)
    slack = 1e-9 * np.maximum(np.abs(estimate), 1e-300)
    outside = (low > estimate + slack) | (high < estimate - slack)
    assert not outside.any(), shown(outside, table, estimate, low, high)


@pytest.mark.parametrize("test", ["fisher", "fisher-central", "fisher-mid-p", "fisher-mid-p-central", "chi-square"])
def test_p_values_do_not_depend_on_which_group_is_named_first(test: str) -> None:
    x1, n1, x2, n2 = tuple(part.astype(float) for part in tables(CASES, 10, 200))
    p, q = two_by_two.p_values((x1, n1, x2, n2), test), two_by_two.p_values((x2, n2, x1, n1), test)
    wrong = apart(p, q, 1e-9, 0.0) | ~((p > 0) & (p <= 1))
    assert not wrong.any(), shown(wrong, (x1, n1, x2, n2), p, q)
