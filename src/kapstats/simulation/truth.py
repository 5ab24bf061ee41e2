"""What is true of a scenario: the value of every estimand, found without any estimator.

Means of scores if all stay on treatment (the hypothetical strategy), response probabilities and hazard ratios are
closed forms. Everything that depends on who stops treatment, on exposure, or on when a relapse can be seen comes from
potential outcomes: the same large sample of subjects is put on every arm in turn, and the Monte-Carlo error of the
value (of a contrast: of the paired difference) stands beside it.

The truth is a dict of lists of rows, one list per quantity; a row has the columns that identify it (``TRT01P`` or
``contrast``, ``AVISIT``, ``strategy``, ...), ``value``, ``mc_error`` and ``method``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import ndtr

from kapstats._types import FloatArray
from kapstats.simulation import adverse_events, response
from kapstats.simulation.draw import Draw, draw, present
from kapstats.simulation.scenario import Scenario, names, resolve

SEED = 20_240_101
"""entropy of the potential outcomes; no trial is drawn from it"""
CHUNK = 20_000
Row = dict[str, Any]
Truth = dict[str, Any]


# ------------------------------------------------------------------------------------------------ closed forms


def score_distribution(scenario: Scenario) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(values (k,), baseline probabilities (k,), P(score = s | baseline, arm, visit) (arms, visits, k, scores)).

    Given baseline a latent score is normal; the score is the latent one, rounded and clipped: a finite sum.
    """
    spec = present(scenario.response)
    m = response.model(spec)
    sd = np.sqrt(np.diag(m.root @ m.root.T) + spec.site_sd**2 + spec.therapist_sd**2)
    centre = m.mean + response.means(spec, scenario.arms)
    mean = centre[:, :, None] + m.slope[:, None] * (m.values - m.mean)
    cuts = np.concatenate([[-np.inf], np.arange(spec.low, spec.high) + 0.5, [np.inf]])

    def at(shift: float) -> FloatArray:
        return np.diff(ndtr((cuts - shift - mean[..., None]) / sd[:, None, None]), axis=-1)

    believes = np.array([a.believes or 0.0 for a in scenario.arms])[:, None, None, None]
    p = (1 - believes) * at(0.0) + believes * at(spec.expectancy) if believes.any() else at(0.0)
    return m.values, m.probability, p


def closed_means(scenario: Scenario) -> FloatArray:
    """Mean change (arms, visits) of the scores as measured, if all stay on treatment."""
    spec = present(scenario.response)
    values, weight, p = score_distribution(scenario)
    scores = np.arange(spec.low, spec.high + 1)
    return np.einsum("avks,s,k->av", p, scores, weight) - float(weight @ values)


def closed_response(scenario: Scenario) -> FloatArray:
    """Probability of response (arms, visits), if all stay on treatment."""
    spec = present(scenario.response)
    values, weight, p = score_distribution(scenario)
    scores = np.arange(spec.low, spec.high + 1)
    hit = values[:, None] - scores >= spec.response_fraction * values[:, None]
    return np.einsum("avks,ks,k->av", p, hit, weight)


# ------------------------------------------------------------------------------------------------ potential outcomes


class Moments:
    """Running means and the errors of means and of differences to the reference arm (first axis: arms)."""

    def __init__(self) -> None:
        self.n = 0
        self.first: Any = 0.0
        self.second: Any = 0.0
        self.paired: Any = 0.0

    def add(self, y: FloatArray) -> None:
        """Add outcomes (arms, subjects, ...)."""
        self.n += y.shape[1]
        self.first = self.first + y.sum(axis=1)
        self.second = self.second + (y**2).sum(axis=1)
        self.paired = self.paired + ((y - y[:1]) ** 2).sum(axis=1)

    @property
    def mean(self) -> FloatArray:
        return self.first / self.n

    @property
    def error(self) -> FloatArray:
        return np.sqrt(np.maximum(self.second / self.n - self.mean**2, 0.0) / self.n)

    @property
    def paired_error(self) -> FloatArray:
        gap = self.mean - self.mean[:1]
        return np.sqrt(np.maximum(self.paired / self.n - gap**2, 0.0) / self.n)


def worlds(scenario: Scenario, n: int, parts: Iterable[str]) -> Iterator[list[Draw]]:
    """Chunks of subjects, each drawn once per arm with the same deviates."""
    for chunk in range(-(-n // CHUNK)):
        size = min(CHUNK, n - chunk * CHUNK)
        yield [
            draw(scenario, n=size, seed=SEED, replicate=chunk, parts=parts, arm=np.full(size, a))
            for a in range(len(scenario.arms))
        ]


def outcomes(scenario: Scenario, n: int, parts: Iterable[str], measure: Callable[[Draw], FloatArray]) -> Moments:
    """Moments of a measure (subjects, ...) over the potential outcomes."""
    moments = Moments()
    for arms in worlds(scenario, n, parts):
        moments.add(np.stack([measure(d) for d in arms]))
    return moments


# ------------------------------------------------------------------------------------------------ quantities


def _rows(
    scenario: Scenario, value: FloatArray, error: FloatArray | None, method: str, labels: list[Row], **more: Any
) -> list[Row]:
    """One row per arm and column of `value` (arms, columns)."""
    return [
        {"TRT01P": arm.label, **label, **more, **_value(value[a, j], None if error is None else error[a, j], method)}
        for a, arm in enumerate(scenario.arms)
        for j, label in enumerate(labels)
    ]


def _contrasts(
    scenario: Scenario, value: FloatArray, error: FloatArray | None, method: str, labels: list[Row], **more: Any
) -> list[Row]:
    """One row per arm but the reference and column: value minus the reference arm's."""
    return [
        {
            "contrast": f"{arm.label} - {scenario.reference.label}", "TRT01P": arm.label, **label, **more,
            **_value(value[a, j] - value[0, j], None if error is None else error[a, j], method),
        }
        for a, arm in enumerate(scenario.arms) if a
        for j, label in enumerate(labels)
    ]  # fmt: skip


def _value(value: float, error: float | None, method: str) -> Row:
    exact = 0.0 if error is None else round(float(error), 6)
    return {"value": round(float(value), 6) + 0.0, "mc_error": exact, "method": method}


def _both(
    name: str, scenario: Scenario, moments: Moments, labels: list[Row], contrast: str, **more: Any
) -> dict[str, list[Row]]:
    """A quantity per arm and its contrast, from potential outcomes."""
    method = f"potential outcomes, n = {moments.n}"
    flat = [x.reshape(len(scenario.arms), -1) for x in (moments.mean, moments.error, moments.paired_error)]
    return {
        name: _rows(scenario, flat[0], flat[1], method, labels, **more),
        contrast: _contrasts(scenario, flat[0], flat[2], method, labels, **more),
    }


def response_truth(scenario: Scenario, n: int) -> dict[str, list[Row]]:
    """Mean change, its differences, and response at each visit, under both strategies."""
    spec = present(scenario.response)
    visits = [{"PARAMCD": spec.parameter, "AVISIT": f"Day {d}", "AVISITN": d} for d in spec.days]
    mean, hit = closed_means(scenario), closed_response(scenario)
    form, kept = "closed form", {"strategy": "hypothetical"}
    out = {
        "mean_change": _rows(scenario, mean, None, form, visits, **kept),
        "mean_difference": _contrasts(scenario, mean, None, form, visits, **kept),
        "response": _rows(scenario, hit, None, form, visits, **kept),
        "response_difference": _contrasts(scenario, hit, None, form, visits, **kept),
    }

    def lost(d: Draw) -> FloatArray:
        return present(d.disposition).policy - present(d.scores).score

    # what stopping treatment costs is added to the closed form: far less noise than the mean score itself
    moments = outcomes(scenario, n, ["response"], lost)
    method, policy = f"closed form + potential outcomes, n = {moments.n}", {"strategy": "treatment policy"}
    total = mean + moments.mean
    out["mean_change"] += _rows(scenario, total, moments.error, method, visits, **policy)
    out["mean_difference"] += _contrasts(scenario, total, moments.paired_error, method, visits, **policy)
    return out


def relapse_truth(scenario: Scenario, n: int) -> dict[str, list[Row]]:
    """Hazard ratio of the latent time; relapse-free probability and restricted mean of the time seen at visits."""
    spec = present(scenario.relapse)
    free_of_loss = scenario.change(relapse={"leave_per_visit": 0.0}, response=None, dropout=None, dosing=None)
    free_of_loss = free_of_loss.change(relapse={"origin": "randomisation"})

    def seen(d: Draw) -> FloatArray:
        f = present(d.follow_up)
        time = np.where(f.event, f.right, np.inf)
        free = [time > t for t in spec.milestones]
        return np.column_stack([np.minimum(time, spec.tau), *free])

    moments = outcomes(free_of_loss, n, ["relapse"], seen)
    values = (moments.mean, moments.error, moments.paired_error)
    method = f"potential outcomes, n = {moments.n}"
    area, time = [{"tau": spec.tau}], [{"time": t} for t in spec.milestones]
    constant = spec.change_day is None or all(a.late_hazard_ratio is None for a in scenario.arms)
    ratios = [
        {"contrast": f"{a.label} - {scenario.reference.label}", "TRT01P": a.label,
         **_value(a.hazard_ratio / scenario.reference.hazard_ratio, None, "closed form")}
        for a in scenario.arms[1:]
    ]  # fmt: skip
    return {
        **({"hazard_ratio": ratios} if constant else {}),
        "relapse_free": _rows(scenario, values[0][:, 1:], values[1][:, 1:], method, time),
        "relapse_free_difference": _contrasts(scenario, values[0][:, 1:], values[2][:, 1:], method, time),
        "rmst": _rows(scenario, values[0][:, :1], values[1][:, :1], method, area),
        "rmst_difference": _contrasts(scenario, values[0][:, :1], values[2][:, :1], method, area),
    }


def levels(scenario: Scenario) -> list[tuple[Row, list[int]]]:
    """What adverse events are counted by: any, each organ class, each term, with the terms that belong to it."""
    spec = present(scenario.adverse_events)
    every = [({"level": "ANY", "AEBODSYS": "", "AEDECOD": ""}, list(range(len(spec.terms))))]
    classes = dict.fromkeys(t.soc for t in spec.terms)
    for soc in classes:
        inside = [i for i, t in enumerate(spec.terms) if t.soc == soc]
        every.append(({"level": "SOC", "AEBODSYS": soc, "AEDECOD": ""}, inside))
    for i, t in enumerate(spec.terms):
        every.append(({"level": "PT", "AEBODSYS": t.soc, "AEDECOD": t.pt}, [i]))
    return every


def adverse_event_truth(scenario: Scenario, n: int) -> dict[str, list[Row]]:
    """Probability of at least one event while treated, per arm, and the risk difference."""
    spec, counted = present(scenario.adverse_events), levels(scenario)

    def risk(d: Draw) -> FloatArray:
        taken = present(d.sessions)
        lean = adverse_events.leaning(spec, d.subjects, d.tendency)
        p = adverse_events.probability(spec, scenario.arms, d.subjects.arm, taken.cmax, lean)
        free = np.log1p(-adverse_events.incidence(p, taken.given))
        return 1 - np.exp(np.stack([free[:, i].sum(axis=1) for _, i in counted], axis=1))

    moments = outcomes(scenario, n, ["pharmacokinetics"], risk)
    return _both("incidence", scenario, moments, [row for row, _ in counted], "risk_difference")


def course_truth(scenario: Scenario, n: int) -> dict[str, list[Row]]:
    """Mean CADSS and systolic change by minute, and the mean of the subject's highest CADSS, first session."""
    spec = present(scenario.course)

    def measure(d: Draw) -> FloatArray:
        curves = present(d.courses)
        score, pressure = curves.cadss[:, 0], curves.sbp[:, 0]
        return np.column_stack([score.max(axis=1), score, pressure - pressure[:, :1]])

    moments = outcomes(scenario, n, ["course"], measure)
    minutes = [{"SESSION": spec.sessions[0], "ATPTN": m} for m in spec.minutes]
    k = len(minutes)
    out: dict[str, list[Row]] = {}
    peak = [{"PARAMCD": "CADSS", "SESSION": spec.sessions[0]}]
    score = [{"PARAMCD": "CADSS", **m} for m in minutes]
    change = [{"PARAMCD": "SYSBP", **m} for m in minutes]
    for name, labels, part in (
        ("cadss_peak", peak, slice(0, 1)),
        ("cadss_mean", score, slice(1, k + 1)),
        ("sbp_change", change, slice(k + 1, None)),
    ):
        piece = Moments()
        piece.n = moments.n
        piece.first, piece.second, piece.paired = (x[:, part] for x in (moments.first, moments.second, moments.paired))
        out |= _both(name, scenario, piece, labels, f"{name}_difference")
    return out


#: component -> what computes its truth, and how many subjects per arm it is worth by default
PARTS: dict[str, tuple[Callable[[Scenario, int], dict[str, list[Row]]], int]] = {
    "response": (response_truth, 20_000),
    "relapse": (relapse_truth, 20_000),
    "adverse_events": (adverse_event_truth, 5_000),
    "course": (course_truth, 5_000),
}


def digest(scenario: Scenario) -> str:
    """Sixteen hex digits that change with anything in the scenario that can change the truth."""
    said = repr(canonical(scenario.change(subjects=0, title="", notes=())))
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def canonical(value: Any) -> Any:
    """A scenario as nested tuples without what is at its default, so that a field added later changes nothing."""
    if isinstance(value, tuple):
        return tuple(canonical(v) for v in value)
    if not dataclasses.is_dataclass(value):
        return value
    held = [(f.name, getattr(value, f.name), f.default) for f in dataclasses.fields(value)]
    return tuple((name, canonical(v)) for name, v, default in held if v != default)


def compute(scenario: Scenario, n: int | None = None, parts: Iterable[str] | None = None) -> Truth:
    """The truth by calculation, with `n` subjects per arm where potential outcomes are needed."""
    out: Truth = {"scenario": scenario.name, "digest": digest(scenario), "reference": scenario.reference.label}
    for name in parts or PARTS:
        make, usual = PARTS[name]
        if getattr(scenario, name) is not None:
            out |= make(scenario, usual if n is None else n)
    return out


@cache
def stored(name: str) -> Truth | None:
    """The truth of a built-in scenario as computed once with a large sample, if it is there."""
    path = resources.files("kapstats.simulation") / "scenarios" / f"{name}.truth.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def store(name: str, folder: str, n: int = 1_000_000) -> Path:
    """Compute the truth of a built-in scenario with a large sample and keep it beside the scenario."""
    from kapstats.simulation.adam import as_json

    scenario = resolve(name)
    known = compute(scenario, n=n, parts=["response", "relapse"])
    known |= compute(scenario, n=n // 8, parts=["adverse_events", "course"])
    path = Path(folder) / f"{name}.truth.json"
    path.write_text(as_json(known), encoding="utf-8", newline="\n")
    return path


@cache
def _computed(scenario: Scenario) -> str:
    return json.dumps(compute(scenario))


def truth(scenario: str | Scenario) -> Truth:
    """The truth of a scenario: the stored one while the scenario is as built in, else computed now.

    Examples
    --------
    >>> rows = truth("kap-parallel")["mean_difference"]
    >>> rows[-1]["contrast"], rows[-1]["AVISIT"], rows[-1]["strategy"], round(rows[-1]["value"], 1)
    ('KAP Nasal - Placebo', 'Day 28', 'treatment policy', -3.9)
    """
    chosen = resolve(scenario)
    known = stored(chosen.name) if chosen.name in names() else None
    if known is not None and known["digest"] == digest(chosen):
        return json.loads(json.dumps(known))
    return json.loads(_computed(chosen))
