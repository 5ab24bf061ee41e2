"""Counts, rates, first events and signals, certified in worlds whose truth has a closed form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kapstats._types import BoolArray, FloatArray, IntArray
from kapstats.certification.estimators.common import (
    NUMBERS,
    Analysis,
    Answer,
    Certificate,
    Estimator,
    Row,
    bare,
    bounded,
    by_level,
    by_pick,
    decided,
    estimated,
    generator,
    in_world,
    numbers,
    wald,
    wald_rows,
    within,
)
from kapstats.estimates import Estimates
from kapstats.inference.intervals import wald as limits
from kapstats.kernels import exact, false_discovery, one_proportion, poisson, two_proportions
from kapstats.kernels import stratified_tables as kernel
from kapstats.kernels.count_regression import count_regression
from kapstats.safety import stratified, two_by_two
from kapstats.safety.rate import rate_difference, rate_ratio
from kapstats.safety.recurrent import error_matrix
from kapstats.safety.time_to_event import first_event_curve
from kapstats.simulation import safety_worlds as worlds
from kapstats.simulation.draw import Draw
from kapstats.simulation.scenario import Scenario

# --------------------------------------------------------------------------------------------------- two groups

NULL = {"risk-difference": 0.0, "risk-ratio": 1.0, "odds-ratio": 1.0}


def _true(measure: str) -> dict[str, float]:
    odds = {s.label: s.p1 * (1 - s.p2) / (s.p2 * (1 - s.p1)) for s in worlds.SITUATIONS}
    ratio = {s.label: s.p1 / s.p2 for s in worlds.SITUATIONS}
    return {"risk-ratio": ratio, "odds-ratio": odds}.get(measure, {s.label: s.p1 - s.p2 for s in worlds.SITUATIONS})


def _stacked(draws: Sequence[Draw], world: Callable[..., Any], name: str, *more: Any) -> tuple[FloatArray, ...]:
    found = [world(generator(d, name), d.n, *more) for d in draws]
    return tuple(np.stack(part) for part in zip(*found, strict=True))


def _tables(measure: str, method: str, plain: bool = False) -> Analysis:
    """A method of two groups; or, as a control, with its error on the ratio's own scale."""

    def analyse(scenario: Scenario, draws: Sequence[Draw], level: float) -> Answer:
        cells = _stacked(draws, worlds.tables, "tables")
        x1, n1, x2, n2 = (part.ravel() for part in cells)
        found = two_by_two.columns_of(measure, method, (x1, n1, x2, n2), (1 - level) / 2, "two")
        if plain:
            with np.errstate(invalid="ignore"):
                made = limits(found["estimate"], found["estimate"] * found["std_error"], level=level)
            found = {"estimate": found["estimate"], **{k: made[k] for k in ("conf_low", "conf_high")}}
        return bounded({k: v.reshape(cells[0].shape) for k, v in found.items()}, NULL[measure], level)

    return analyse


# ------------------------------------------------------------------------------------------------------- strata


def _strata_rows(measure: str, name: str) -> Callable[[Scenario], list[Row]]:
    none, some = worlds.EFFECTS[measure]
    return by_level(name, {"no effect": none, "effect": some})


def _strata(measure: str, method: str, crude: bool = False) -> Analysis:
    """One common effect over strata by a method of the library, or from the table summed over them."""

    def analyse(scenario: Scenario, draws: Sequence[Draw], level: float) -> Answer:
        cells = _stacked(draws, worlds.strata, measure, measure)
        table = [part.reshape(-1, part.shape[-1]) for part in cells]
        tail, shape = (1 - level) / 2, cells[0].shape[:2]
        x1, n1, x2, n2 = table
        if crude:
            s1, m1, s2, m2 = (part.sum(axis=1) for part in table)
            found = two_by_two.columns_of(measure, method, (s1, m1, s2, m2), tail, "two")
        else:
            found = stratified.METHODS[measure][method]((x1, n1, x2, n2), tail, "two")
        return bounded({k: v.reshape(shape) for k, v in found.items()}, NULL[measure], level)

    return analyse


def _association(crude: bool) -> Analysis:
    """P value of no association: Cochran-Mantel-Haenszel, or chi-square of the table summed over strata."""

    def analyse(scenario: Scenario, draws: Sequence[Draw], level: float) -> Answer:
        cells = _stacked(draws, worlds.strata, "odds-ratio", "odds-ratio")
        none = [part[:, 0] for part in cells]
        if crude:
            s1, m1, s2, m2 = (part.sum(axis=1) for part in none)
            return decided(two_proportions.chi_square(s1, m1, s2, m2, "pearson")[1][:, None])
        return decided(kernel.cmh(none[0], none[1], none[2], none[3])[1][:, None])

    return analyse


# -------------------------------------------------------------------------------------------------------- rates

_RATE = {label: r1 for label, r1, _ in worlds.RATES}
_RATIO = {label: r1 / r2 for label, r1, r2 in worlds.RATES}
_GAP = {label: r1 - r2 for label, r1, r2 in worlds.RATES}


def _one_rate(limits_of: Callable[..., Any]) -> Analysis:
    def analyse(scenario: Scenario, draws: Sequence[Draw], level: float) -> Answer:
        x, t, _, _ = _stacked(draws, worlds.rates, "rates")
        low, high = limits_of(x, t, (1 - level) / 2)
        return bounded({"estimate": x / t, "conf_low": low, "conf_high": high}, np.nan, level)

    return analyse


def _two_rates(compare: Callable[..., Estimates], null: float) -> Analysis:
    def analyse(scenario: Scenario, draws: Sequence[Draw], level: float) -> Answer:
        cells = [part.ravel() for part in _stacked(draws, worlds.rates, "rates")]
        found = compare(*cells, level=level).frame
        kept = ("estimate", "conf_low", "conf_high", "p_value")
        shaped = {c: found[c].to_numpy(dtype=float).reshape(len(draws), -1) for c in kept}
        return bounded(shaped, null, level)

    return analyse


def _clustered(method: str) -> Analysis:
    """Log rate ratio of recurrent events whose number varies between subjects more than a Poisson's."""

    def one(d: Draw) -> tuple[float, float]:
        y, time, treated = worlds.clustered(generator(d, "clustered"), d.n)
        X = np.column_stack([np.ones(d.n), treated])
        fit = count_regression(y, X, np.log(time), negative_binomial=method == "negative-binomial")
        covariance, _ = error_matrix(fit, y, X, np.log(time), method)
        return float(fit.coef[1]), float(np.sqrt(covariance[1, 1]))

    def analyse(scenario: Scenario, draws: Sequence[Draw], level: float) -> Answer:
        found = np.array([one(d) for d in draws])
        return wald(found[:, :1], found[:, 1:], level)

    return analyse


# -------------------------------------------------------------------------------------------------- first events


def with_difference(groups: FloatArray, level: float) -> FloatArray:
    """(3, NUMBERS): two groups (2, NUMBERS) and the difference of their estimates with normal limits."""
    gap, error = groups[0, 0] - groups[1, 0], np.hypot(groups[0, 1], groups[1, 1])
    return np.vstack([groups, wald_rows([gap], [error], level)])


def _first_events(estimator: str) -> Analysis:
    """Probability of a first event by the horizon in two groups that leave at different rates, and the difference."""

    def one(rng: np.random.Generator, n: int, level: float) -> FloatArray:
        time, status, first = worlds.first_events(rng, n)
        curves = [
            first_event_curve(time[own], status[own], [worlds.HORIZON], estimator, level=level)
            for own in (first, ~first)
        ]
        return with_difference(np.vstack([numbers(curve) for curve in curves]), level)

    return in_world("first events", one, estimated)


def _first_proportions(rng: np.random.Generator, n: int, level: float) -> FloatArray:
    """A control: those with the event by the horizon among all, and the difference; normal limits."""
    time, status, first = worlds.first_events(rng, n)
    hit = (status == 1) & (time <= worlds.HORIZON)
    cells = tuple(np.array([float(v)]) for own in (first, ~first) for v in (hit[own].sum(), own.sum()))
    table, tail = (cells[0], cells[1], cells[2], cells[3]), (1 - level) / 2
    gap = two_by_two.columns_of("risk-difference", "wald", table, tail, "two")
    rows = [
        [x[0] / m[0], np.nan, *np.ravel(one_proportion.wald(x, m, tail)), np.nan] for x, m in (cells[:2], cells[2:])
    ]
    return np.vstack([*rows, [float(gap[c][0]) for c in NUMBERS]])


def _first_rows(scenario: Scenario) -> list[Row]:
    p = worlds.first_event_probability()
    return by_level("first_event", {"leaves late": p, "leaves early": p, "difference": 0.0})(scenario)


def _exposure(planned: bool) -> Analysis:
    """First events per time at risk in two groups, the time until event or end, or as it was planned for everybody."""

    def analyse(scenario: Scenario, draws: Sequence[Draw], level: float) -> Answer:
        x, t = (np.empty((len(draws), 2)) for _ in range(2))
        for i, d in enumerate(draws):
            time, status, first = worlds.first_events(generator(d, "first events"), d.n)
            for g, own in enumerate((first, ~first)):
                x[i, g] = (status[own] == 1).sum()
                t[i, g] = own.sum() * worlds.HORIZON if planned else time[own].sum()
        low, high = poisson.exact(x, t, (1 - level) / 2)
        return bounded({"estimate": x / t, "conf_low": low, "conf_high": high}, np.nan, level)

    return analyse


# ------------------------------------------------------------------------------------------------------ signals


def _discoveries(method: str) -> Analysis:
    """Is a flagged term, picked at random, a false one (never without a flag)? How often is the false discovery rate.

    The row is a test that rejects when the pick is false.
    """

    def analyse(scenario: Scenario, draws: Sequence[Draw], level: float) -> Answer:
        found = [worlds.terms(generator(d, "terms"), d.n) for d in draws]
        cells = [np.concatenate([f[0][k] for f in found]) for k in range(4)]
        p = exact.fisher_p(exact.conditional(*cells)).reshape(len(draws), -1)
        out = np.ones((len(draws), 1))
        for i, ((x1, _, x2, _), group, differs) in enumerate(found):
            seen = x1 + x2 > 0
            flagged = np.zeros(seen.size, dtype=bool)
            flagged[seen] = _flagged(p[i, seen], group[seen], method, 1 - level)
            out[i] = by_pick(flagged, differs, draws[i])
        return decided(out)

    return analyse


def _flagged(p: FloatArray, group: IntArray, method: str, rate: float) -> BoolArray:
    if method == "double-fdr":
        within, across = false_discovery.double_fdr(p, group)
        return np.asarray((within <= rate) & (across <= rate))
    if method == "group-bh":
        return np.asarray(false_discovery.group_benjamini_hochberg(p, group) <= rate)
    return np.asarray((false_discovery.benjamini_hochberg(p) if method == "bh" else p) <= rate)


def _test_of(name: str) -> Callable[[Scenario], list[Row]]:
    return by_level(name, {"no effect": 1.0})


_RECURRENT = by_level("log_rate_ratio", {"clustered": 0.0})
_HAZARDS = by_level("rate", dict.fromkeys(("leaves late", "leaves early"), worlds.HAZARD))
_FALSE = by_level("false_discovery", {"a flagged term": 1.0})
_RR, _OR, _RD = (by_level(m.replace("-", "_"), _true(m)) for m in ("risk-ratio", "odds-ratio", "risk-difference"))
_RDS, _RRS, _ORS = (_strata_rows(m, m.replace("-", "_")) for m in ("risk-difference", "risk-ratio", "odds-ratio"))

ESTIMATORS: tuple[Estimator, ...] = (
    Estimator("risk_difference-scas", (), _RD, _tables("risk-difference", "scas")),
    Estimator("risk_ratio", (), _RR, _tables("risk-ratio", "miettinen-nurminen"), by_limits=True),
    Estimator("risk_ratio-scas", (), _RR, _tables("risk-ratio", "scas"), by_limits=True),
    Estimator("risk_ratio-plain", (), _RR, _tables("risk-ratio", "katz", plain=True), by_limits=True),
    Estimator("odds_ratio", (), _OR, _tables("odds-ratio", "miettinen-nurminen"), by_limits=True),
    Estimator("odds_ratio-exact", (), _OR, _tables("odds-ratio", "conditional-exact"), by_limits=True),
    Estimator("odds_ratio-plain", (), _OR, _tables("odds-ratio", "woolf", plain=True), by_limits=True),
    Estimator("risk_difference-stratified", (), _RDS, _strata("risk-difference", "miettinen-nurminen")),
    Estimator("risk_difference-mantel-haenszel", (), _RDS, _strata("risk-difference", "mantel-haenszel")),
    Estimator("risk_difference-crude", (), _RDS, _strata("risk-difference", "miettinen-nurminen", crude=True)),
    Estimator("risk_ratio-mantel-haenszel", (), _RRS, _strata("risk-ratio", "mantel-haenszel"), by_limits=True),
    Estimator("risk_ratio-crude", (), _RRS, _strata("risk-ratio", "miettinen-nurminen", crude=True), by_limits=True),
    Estimator("odds_ratio-mantel-haenszel", (), _ORS, _strata("odds-ratio", "mantel-haenszel"), by_limits=True),
    Estimator("odds_ratio-crude", (), _ORS, _strata("odds-ratio", "miettinen-nurminen", crude=True), by_limits=True),
    Estimator("cmh_test", (), _test_of("association"), _association(crude=False)),
    Estimator("cmh_test-crude", (), _test_of("association"), _association(crude=True)),
    Estimator("rate", (), by_level("rate", _RATE), _one_rate(poisson.exact)),
    Estimator("rate-wald", (), by_level("rate", _RATE), _one_rate(poisson.wald)),
    Estimator("rate_ratio", (), by_level("rate_ratio", _RATIO), _two_rates(rate_ratio, 1.0), by_limits=True),
    Estimator("rate_difference", (), by_level("rate_difference", _GAP), _two_rates(rate_difference, 0.0)),
    Estimator("recurrent-poisson-robust", (), _RECURRENT, _clustered("poisson-robust")),
    Estimator("recurrent-poisson", (), _RECURRENT, _clustered("poisson")),
    Estimator("recurrent-negative-binomial", (), _RECURRENT, _clustered("negative-binomial")),
    Estimator("time_to_first", (), _first_rows, _first_events("aalen-johansen")),
    Estimator("time_to_first-1-km", (), _first_rows, _first_events("one-minus-km")),
    Estimator("time_to_first-proportion", (), _first_rows, in_world("first events", _first_proportions, within)),
    Estimator("exposure_adjusted", (), _HAZARDS, _exposure(planned=False)),
    Estimator("exposure_adjusted-planned", (), _HAZARDS, _exposure(planned=True)),
    Estimator("safety_signals", (), _FALSE, _discoveries("double-fdr")),
    Estimator("safety_signals-bh", (), _FALSE, _discoveries("bh")),
    Estimator("safety_signals-group-bh", (), _FALSE, _discoveries("group-bh")),
    Estimator("safety_signals-none", (), _FALSE, _discoveries("none")),
)  # fmt: skip

SCENARIOS: dict[str, Callable[[], Scenario]] = {"ae-worlds": lambda: bare().change(name="ae-worlds")}


def _published(estimator: str, n: int, control: bool = False, note: str = "") -> Certificate:
    return Certificate(estimator, "ae-worlds", n, control=control, note=note)


CERTIFICATES: tuple[Certificate, ...] = (
    _published("risk_ratio", 90),
    _published("risk_ratio-scas", 90),
    _published("risk_ratio-plain", 90, control=True, note="Wald limits on the scale of the ratio"),
    _published("risk_difference-scas", 90),
    _published("odds_ratio", 90),
    _published("odds_ratio-exact", 90),
    _published("odds_ratio-plain", 90, control=True, note="Wald limits on the scale of the ratio"),
    _published("risk_difference-stratified", 200),
    _published("risk_difference-mantel-haenszel", 200),
    _published("risk_difference-crude", 200, control=True, note="strata summed: Simpson's paradox"),
    _published("risk_ratio-mantel-haenszel", 200),
    _published("risk_ratio-crude", 200, control=True, note="strata summed: Simpson's paradox"),
    _published("odds_ratio-mantel-haenszel", 200),
    _published("odds_ratio-crude", 200, control=True, note="strata summed: Simpson's paradox"),
    _published("cmh_test", 200, note="rejection is the type I error"),
    _published("cmh_test-crude", 200, control=True, note="strata summed: Simpson's paradox"),
    _published("rate", 100),
    _published("rate-wald", 100, control=True, note="few events"),
    _published("rate_ratio", 100),
    _published("rate_difference", 100),
    _published("recurrent-poisson-robust", 200, note="subjects differ in how often they have the event"),
    _published("recurrent-negative-binomial", 200, note="subjects differ in how often they have the event"),
    _published("recurrent-poisson", 200, control=True, note="subjects taken as alike"),
    _published("time_to_first", 200, note="same hazards, one group leaves earlier"),
    _published("time_to_first-1-km", 200, control=True, note="death counted as censoring"),
    _published("time_to_first-proportion", 200, control=True, note="those who left counted as without the event"),
    _published("exposure_adjusted", 200),
    _published("exposure_adjusted-planned", 200, control=True, note="planned in place of observed time at risk"),
    _published("safety_signals", 200, note="rejection is the false discovery rate"),
    _published("safety_signals-bh", 200, note="rejection is the false discovery rate"),
    _published("safety_signals-group-bh", 200, note="Fisher's p values; see the methods page for uniform ones"),
    _published("safety_signals-none", 200, control=True, note="unadjusted p values"),
)
