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
from collections.abc import Callable, Iterable
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from kapstats.simulation.scenario import Scenario, names, resolve
from kapstats.simulation.truth.relapse import relapse_truth
from kapstats.simulation.truth.response import response_truth
from kapstats.simulation.truth.safety import adverse_event_truth, course_truth
from kapstats.simulation.truth.worlds import Row

Truth = dict[str, Any]

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
    """Compute the truth of a built-in scenario with a large sample and keep it beside the scenario.

    ``python -m kapstats.simulation data/synthetic --truth`` does it for all; an eighth of `n` where concentrations
    are needed.
    """
    from kapstats.simulation.adam import as_json

    scenario = resolve(name)
    costly = ["adverse_events", "course"]
    if scenario.response is not None and (scenario.response.exposure or scenario.response.unblinding):
        costly = ["response", *costly]
    known = compute(scenario, n=n, parts=[p for p in PARTS if p not in costly])
    known |= compute(scenario, n=n // 8, parts=costly)
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
    >>> rows = [r for r in truth("kap-parallel")["mean_difference"] if r["strategy"] == "treatment policy"]
    >>> rows[-1]["contrast"], rows[-1]["AVISIT"], round(rows[-1]["value"], 1)
    ('KAP Nasal - Placebo', 'Day 28', -3.9)
    """
    chosen = resolve(scenario)
    known = stored(chosen.name) if chosen.name in names() else None
    if known is not None and known["digest"] == digest(chosen):
        return json.loads(json.dumps(known))
    return json.loads(_computed(chosen))
