"""Estimators by name, as they are certified: replicates in, estimates with limits out.

A block of replicates is analysed at once from arrays, by the kernels of the exported verb, or, where nothing is gained
by that, by the verb itself. `verbs` has the same estimators through the exported verbs, one table at a time: what the
batch says of a replicate is what the user of the verb gets, to 1e-8 (`kapstats.certification.replay`).

An `Estimator` says which components of a scenario it needs, which rows of the truth it claims to estimate, and how it
analyses a block of replicates. Some names are negative controls (``mmrm-z``, ``1-km`` ...): methods in use that must
fail where the others pass.

Each family is a module with ``ESTIMATORS``, the published ``CERTIFICATES`` of them, and, where they need scenarios that
nobody else does, ``SCENARIOS``. A new family is a module in `FAMILIES`.
"""

from __future__ import annotations

from dataclasses import replace

from kapstats.certification.estimators import (
    evidence,
    follow_up,
    follow_up_models,
    imputation,
    multiplicity,
    pairs,
    relapse,
    response,
    response_models,
    response_questions,
    routes,
    safety,
    safety_tables,
    verbs,
)
from kapstats.certification.estimators.common import Answer, Certificate, Estimator, Row, bare
from kapstats.certification.estimators.verbs import NO_VERB
from kapstats.errors import choose
from kapstats.simulation.scenario import Scenario, load

__all__ = [
    "CERTIFICATES", "FAMILIES", "NO_VERB", "REGISTRY", "Answer", "Certificate", "Estimator", "Row", "named", "scenario",
    "uncertified",
]  # fmt: skip

FAMILIES = (
    response,
    response_models,
    response_questions,
    imputation,
    relapse,
    follow_up,
    follow_up_models,
    safety,
    safety_tables,
    pairs,
    routes,
    multiplicity,
    evidence,
)

REGISTRY: dict[str, Estimator] = {
    e.name: replace(e, verb=verbs.VERBS.get(e.name)) for family in FAMILIES for e in family.ESTIMATORS
}

CERTIFICATES: tuple[Certificate, ...] = tuple(c for family in FAMILIES for c in family.CERTIFICATES)

_SCENARIOS = {"closed-forms": bare} | {
    name: make for family in FAMILIES for name, make in getattr(family, "SCENARIOS", {}).items()
}


#: exported names that estimate nothing of a population
NO_ESTIMATES = frozenset(
    (
        "errors",
        "Estimates",
        "Curve",
        "Table",
        "Trial",
        "read_adam",
        "read_chunks",
        "datasets",
        "derive",
        "baseline_table",
        "disposition",
        "exposure_table",
        "listing",
        "ImputationPlan",
        "Estimand",
        "intercurrent_events",
        "missing_patterns",
        "dropout_reasons",
        "derive_relapse",
        "RelapseDefinition",
        "audit",
        "fingerprint",
        "gallery",
        "evidence",
        "simulate",
        "Scenario",
        "certify",
        "certificates",
        "run",
        "plan_kinds",
    )
)
#: exported estimators whose certificates carry another name
CERTIFIED_AS = {"GroupSequentialDesign": "group_sequential", "MmrmStatistics": "mmrm"}


def uncertified() -> list[str]:
    """Exported estimators without a certificate that has to pass.

    Examples
    --------
    >>> uncertified()
    []
    """
    import kapstats

    passing = {c.estimator for c in CERTIFICATES if not c.control}
    wanted = (name for name in kapstats._EXPORTS if name not in NO_ESTIMATES)
    names = {name: CERTIFIED_AS.get(name, name) for name in wanted}
    return [name for name, own in names.items() if not any(e == own or e.startswith(f"{own}-") for e in passing)]


def named(name: str) -> Estimator:
    """The estimator of that name."""
    return REGISTRY[choose(name, REGISTRY, "estimator")]


def scenario(name: str) -> Scenario:
    """A scenario by name: one that only certificates use, or one of the library's own."""
    return _SCENARIOS[name]() if name in _SCENARIOS else load(name)
