"""Adverse events: proportions, risk differences, incidence with competing events, routes of a registry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kapstats._types import FloatArray, IntArray
from kapstats.certification.estimators.common import (
    Answer,
    Certificate,
    Estimator,
    Row,
    arm_rows,
    bounded,
    contrast_rows,
    limited,
    wald,
)
from kapstats.kernels import one_proportion
from kapstats.kernels.aalen_johansen import aalen_johansen
from kapstats.kernels.product_limit import limits, product_limit
from kapstats.kernels.risk_sets import risk_sets
from kapstats.safety import two_by_two
from kapstats.simulation.draw import Draw, present
from kapstats.simulation.scenario import Scenario
from kapstats.simulation.subjects import OLDER
from kapstats.simulation.truth.safety import levels


def term_rows(quantity: str, by_arm: bool) -> Callable[[Scenario], list[Row]]:
    """A quantity for any event, every organ class and every term: per arm, or per contrast."""

    def labels(scenario: Scenario) -> list[Row]:
        return [row for row, _ in levels(scenario)]

    return arm_rows(quantity, labels) if by_arm else contrast_rows(quantity, labels)


def counts(scenario: Scenario, draws: Sequence[Draw]) -> tuple[FloatArray, FloatArray]:
    """Subjects with an event (replicates, arms, levels) and subjects treated (replicates, arms)."""
    terms = len(present(scenario.adverse_events).terms)
    member = np.zeros((terms, len(levels(scenario))))
    for j, (_, inside) in enumerate(levels(scenario)):
        member[inside, j] = 1
    x, n = [], []
    for d in draws:
        e = present(d.events)
        hit = np.zeros((d.n, terms))
        hit[e.subject, e.term] = 1
        group = (d.subjects.arm[:, None] == np.arange(len(scenario.arms))).astype(float)
        x.append(group.T @ ((hit @ member) > 0))
        n.append(group.sum(axis=0))
    return np.stack(x), np.stack(n)


def _proportion(limits_of: Callable[..., Any]) -> Callable[[Scenario, Sequence[Draw], float], Answer]:
    def analyse(scenario: Scenario, draws: Sequence[Draw], level: float) -> Answer:
        x, n = counts(scenario, draws)
        total = np.broadcast_to(n[..., None], x.shape)
        low, high = limits_of(x.ravel(), total.ravel(), (1 - level) / 2)
        shape = (len(draws), -1)
        found = {"estimate": x / total, "conf_low": low, "conf_high": high, "p_value": np.full(x.shape, np.nan)}
        return bounded({k: v.reshape(shape) for k, v in found.items()}, np.nan, level)

    return analyse


def _risk_difference(method: str) -> Callable[[Scenario, Sequence[Draw], float], Answer]:
    def analyse(scenario: Scenario, draws: Sequence[Draw], level: float) -> Answer:
        x, n = counts(scenario, draws)
        x1, n1 = x[:, 1:], np.broadcast_to(n[:, 1:, None], x[:, 1:].shape)
        x2, n2 = np.broadcast_to(x[:, :1], x1.shape), np.broadcast_to(n[:, :1, None], x1.shape)
        table = [np.ascontiguousarray(v).ravel() for v in (x1, n1, x2, n2)]
        cells = table[0], table[1], table[2], table[3]
        found = two_by_two.columns_of("risk-difference", method, cells, (1 - level) / 2, "two")
        return bounded({k: v.reshape(len(draws), -1) for k, v in found.items()}, 0.0, level)

    return analyse


def _class_rows(scenario: Scenario) -> list[Row]:
    """Any event, and every organ class."""
    return [r for r in term_rows("risk_difference", False)(scenario) if r["level"] in ("ANY", "SOC")]


def stratified_counts(scenario: Scenario, d: Draw) -> tuple[FloatArray, FloatArray]:
    """Subjects with an event (strata, arms, classes) and subjects (strata, arms), by sex and age group."""
    e, groups = present(d.events), [inside for row, inside in levels(scenario) if row["level"] in ("ANY", "SOC")]
    hit = np.zeros((d.n, len(present(scenario.adverse_events).terms)), dtype=bool)
    hit[e.subject, e.term] = True
    any_of = np.stack([hit[:, inside].any(axis=1) for inside in groups], axis=1)
    stratum = 2 * d.subjects.female + (d.subjects.age >= OLDER)
    in_arm = d.subjects.arm[:, None] == np.arange(len(scenario.arms))
    cell = (stratum[:, None] == np.arange(4))[:, :, None] & in_arm[:, None]
    return np.einsum("isa,il->sal", cell.astype(float), any_of.astype(float)), cell.sum(axis=0).astype(float)


def _between_routes(standardised: bool) -> Callable[[Scenario, Sequence[Draw], float], Answer]:
    """Risk differences of a registry: pooled over everybody, or within sex and age group and standardised to all."""

    def one(scenario: Scenario, d: Draw) -> tuple[FloatArray, FloatArray]:
        x, n = stratified_counts(scenario, d)
        if not standardised:
            x, n = x.sum(axis=0, keepdims=True), n.sum(axis=0, keepdims=True)
        weight = (n.sum(axis=1) / n.sum())[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            p = x / n[..., None]
            variance = p * (1 - p) / n[..., None]
        gap, error = p[:, 1:] - p[:, :1], variance[:, 1:] + variance[:, :1]
        share = weight[..., None]
        return (share * gap).sum(axis=0).ravel(), np.sqrt((share**2 * error).sum(axis=0)).ravel()

    def analyse(scenario: Scenario, draws: Sequence[Draw], level: float) -> Answer:
        found = [one(scenario, d) for d in draws]
        return wald(np.stack([f[0] for f in found]), np.stack([f[1] for f in found]), level)

    return analyse


def first_events(scenario: Scenario, d: Draw) -> tuple[FloatArray, IntArray]:
    """Session of the first event of any kind (n,), and its cause (n,): 1 the event, 2 treatment stopped before it,
    0 all sessions given without an event."""
    taken, e = present(d.sessions), present(d.events)
    sessions = taken.given.shape[1]
    first = np.full(d.n, np.inf)
    np.minimum.at(first, e.subject, e.session + 1.0)
    last = taken.given.sum(axis=1).astype(float)
    cause = np.where(np.isfinite(first), 1, np.where(last < sessions, 2, 0))
    return np.where(np.isfinite(first), first, last + 0.5 * (cause == 2)), cause


def _any_event(by: str) -> Callable[[Scenario, Sequence[Draw], float], Answer]:
    """Probability of any event by the end of treatment: Aalen-Johansen, or 1 - Kaplan-Meier (stopping as censoring)."""

    def one(time: FloatArray, cause: IntArray) -> tuple[float, float]:
        """Incidence, or survival without the event, and its error."""
        if by == "aalen-johansen":
            curve = aalen_johansen(time, cause, 2)
            return float(curve.cif[-1, 0]), float(curve.se_cif[-1, 0])
        km = product_limit(risk_sets(time, cause == 1))
        return float(km.survival[-1]), float(km.std_error[-1])

    def analyse(scenario: Scenario, draws: Sequence[Draw], level: float) -> Answer:
        found = np.full((len(draws), len(scenario.arms), 2), np.nan)
        for i, d in enumerate(draws):
            time, cause = first_events(scenario, d)
            for a in range(len(scenario.arms)):
                rows = d.subjects.arm == a
                if (cause[rows] == 1).any():
                    found[i, a] = one(time[rows], cause[rows])
        value, error = found[..., 0], found[..., 1]
        low, high = limits(value, error, level, "log-log")
        if by != "aalen-johansen":
            value, low, high = 1 - value, 1 - high, 1 - low
        good = limited(low, high) & (value > 0) & (value < 1)
        return Answer(value, error, low, high, np.full(value.shape, np.nan), good)

    return analyse


def _any_rows(scenario: Scenario) -> list[Row]:
    return [{"quantity": "incidence", "TRT01P": a.label, "level": "ANY"} for a in scenario.arms]


_PARTS = ("adverse_events",)
_INCIDENCE, _DIFFERENCE = term_rows("incidence", True), term_rows("risk_difference", False)

ESTIMATORS: tuple[Estimator, ...] = (
    Estimator("proportion", _PARTS, _INCIDENCE, _proportion(one_proportion.clopper_pearson)),
    Estimator("proportion-wilson", _PARTS, _INCIDENCE, _proportion(one_proportion.wilson)),
    Estimator("proportion-wald", _PARTS, _INCIDENCE, _proportion(one_proportion.wald)),
    Estimator("risk_difference", _PARTS, _DIFFERENCE, _risk_difference("miettinen-nurminen")),
    Estimator("risk_difference-newcombe", _PARTS, _DIFFERENCE, _risk_difference("newcombe")),
    Estimator("risk_difference-wald", _PARTS, _DIFFERENCE, _risk_difference("wald")),
    Estimator("risk_difference-standardised", _PARTS, _class_rows, _between_routes(True)),
    Estimator("risk_difference-pooled", _PARTS, _class_rows, _between_routes(False)),
    Estimator("aalen-johansen", _PARTS, _any_rows, _any_event("aalen-johansen")),
    Estimator("1-km", _PARTS, _any_rows, _any_event("1-km")),
)

CERTIFICATES: tuple[Certificate, ...] = (
    Certificate("risk_difference", "kap-parallel", 240, note="40 per arm; by enumeration 93.5 to 100%"),
    Certificate("risk_difference-newcombe", "kap-parallel", 240),
    Certificate("risk_difference-wald", "kap-parallel", 240, control=True, note="rare events"),
    Certificate("proportion", "kap-parallel", 240),
    Certificate("proportion-wald", "kap-parallel", 240, control=True, note="rare events"),
    Certificate("aalen-johansen", "kap-cohort", 600),
    Certificate("1-km", "kap-cohort", 600, control=True, note="stopping treatment counted as censoring"),
    Certificate("risk_difference-standardised", "kap-registry", 2000),
    Certificate("risk_difference-pooled", "kap-registry", 2000, control=True, note="routes pooled naively"),
)
