"""Draw the components of a trial as arrays, each from its own stream; only those asked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from kapstats._types import BoolArray, FloatArray, IntArray
from kapstats.errors import DataError
from kapstats.simulation import adverse_events, course, dropout, pharmacokinetics, relapse, response, subjects
from kapstats.simulation.scenario import Scenario
from kapstats.simulation.streams import stream

T = TypeVar("T")

#: what `draw` can be asked for, in the order of dependence
COMPONENTS = ("response", "dropout", "relapse", "pharmacokinetics", "adverse_events", "course")


def present(component: T | None) -> T:
    """A component that has to be there for what is asked."""
    if component is None:
        raise DataError("The scenario lacks a component that this needs, or it was not drawn.")
    return component


@dataclass(frozen=True, slots=True)
class Sessions:
    """Exposure per subject: `dose` mg (n,), `exposure` of the subject's typical session, `factor` (n, S) of each
    session about it, `given` (n, S)."""

    dose: FloatArray
    exposure: pharmacokinetics.Exposure
    factor: FloatArray
    given: BoolArray

    @property
    def cmax(self) -> FloatArray:
        """Peak concentration per session (n, S)."""
        return self.exposure.cmax[:, None] * self.factor


@dataclass(frozen=True, slots=True)
class Draw:
    """One replicate of a scenario; components that were not asked for, or are not in the scenario, are None."""

    scenario: Scenario
    seed: int
    replicate: int
    subjects: subjects.Subjects
    scores: response.Scores | None
    disposition: dropout.Disposition | None
    follow_up: relapse.FollowUp | None
    sessions: Sessions | None
    tendency: FloatArray
    events: adverse_events.Events | None
    courses: course.Courses | None
    believers: BoolArray | None

    @property
    def n(self) -> int:
        return int(self.subjects.arm.size)


def doses(scenario: Scenario, arm: IntArray, weight: FloatArray) -> FloatArray:
    """Dose in mg of each subject."""
    amount = np.array([a.dose for a in scenario.arms])[arm]
    per_kg = np.array([a.per_kg for a in scenario.arms])[arm]
    return np.where(per_kg, amount * weight, amount).round(1)


def exposure(
    scenario: Scenario, arm: IntArray, dose: FloatArray, z: FloatArray, minutes: tuple[int, ...]
) -> pharmacokinetics.Exposure:
    """Exposure of every subject to one session, computed arm by arm."""
    n = arm.size
    parts = [np.zeros(n), np.zeros(n), np.zeros(n), np.zeros((n, len(minutes)))]
    infusion = scenario.dosing.infusion_minutes if scenario.dosing else 40.0
    gap = scenario.dosing.spray_gap if scenario.dosing else 5.0
    treated = [i for i, a in enumerate(scenario.arms) if a.dose and (arm == i).any()]
    members = [np.flatnonzero(arm == i) for i in treated]
    groups = [
        pharmacokinetics.prepare(a.route, z[rows], minutes=infusion, sprays=a.sprays, gap=gap)
        for a, rows in zip((scenario.arms[i] for i in treated), members, strict=True)
    ]
    for rows, curve in zip(members, pharmacokinetics.run_together(groups) if groups else [], strict=True):
        found = pharmacokinetics.summarise(curve * dose[rows, None], minutes)
        for whole, part in zip(parts, (found.cmax, found.tmax, found.auc, found.at), strict=True):
            whole[rows] = part
    return pharmacokinetics.Exposure(*parts)


def sessions(
    scenario: Scenario, arm: IntArray, weight: FloatArray, left: IntArray | None, rng: np.random.Generator
) -> Sessions:
    """Sessions given until treatment is stopped, and the exposure in each."""
    dosing = present(scenario.dosing)
    days = np.asarray(dosing.days)
    n = arm.size
    z = np.clip(rng.standard_normal((n, 8)), -3, 3)
    factor = np.exp(dosing.between_session_sd * rng.standard_normal((n, days.size)))
    minutes = scenario.course.minutes if scenario.course else ()
    dose = doses(scenario, arm, weight)
    stop = np.full(n, np.inf)
    if left is not None and scenario.response is not None:
        stop = np.array([0.0, *scenario.response.days[:-1], np.inf])[left]
    return Sessions(dose, exposure(scenario, arm, dose, z, minutes), factor, days <= stop[:, None])


def draw(
    scenario: Scenario,
    n: int | None = None,
    seed: int = 1,
    replicate: int = 0,
    parts: Iterable[str] = COMPONENTS,
    arm: IntArray | None = None,
) -> Draw:
    """One replicate.

    Parameters
    ----------
    parts : the components wanted; what they depend on is drawn too
    arm : (n,) arms instead of the randomised ones, the draws being the same (potential outcomes)
    """
    n = scenario.subjects if n is None else n
    want = set(parts)

    def rng(component: str) -> np.random.Generator:
        return stream(seed, scenario.name, replicate, component)

    who = subjects.generate(scenario, n, rng("subjects"), rng("indication"))
    if arm is not None:
        who = subjects.Subjects(arm, who.site, who.therapist, who.age, who.female, who.weight)
    scores = disposition = follow_up = taken = events = curves = believers = None
    if scenario.response is not None:
        believers = response.belief(scenario.arms, who.arm, rng("belief").random(n))
        scores = response.generate(
            scenario.response, scenario.arms, who.arm, who.site, who.therapist, rng("response"), believers
        )
        disposition = dropout.generate(
            scenario.dropout, scenario.response, scenario.arms, who.arm, scores, rng("dropout")
        )
    if scenario.relapse is not None and "relapse" in want:
        risk = at_risk(scenario, n, scores, disposition)
        follow_up = relapse.generate(scenario.relapse, scenario.arms, who.arm, risk, rng("relapse"))
    tendency = np.zeros(0)
    if scenario.dosing is not None and want & {"pharmacokinetics", "adverse_events", "course"}:
        left = disposition.left if disposition else None
        taken = sessions(scenario, who.arm, who.weight, left, rng("pharmacokinetics"))
        tendency = np.clip(rng("tendency").standard_normal(n), -3, 3)
        if scenario.adverse_events is not None and "adverse_events" in want:
            lean = adverse_events.leaning(scenario.adverse_events, who, tendency)
            events = adverse_events.generate(
                scenario.adverse_events, scenario.arms, who.arm, taken.cmax, taken.exposure.tmax, taken.given, lean,
                rng("adverse_events"),
            )  # fmt: skip
        if scenario.course is not None and "course" in want:
            chosen = taken.factor[:, np.asarray(scenario.course.sessions) - 1]
            concentration = chosen[:, :, None] * taken.exposure.at[:, None, :]
            curves = course.generate(scenario.course, concentration, tendency, rng("course"))
    return Draw(
        scenario, seed, replicate, who, scores, disposition, follow_up, taken, tendency, events, curves, believers
    )  # fmt: skip


def at_risk(
    scenario: Scenario, n: int, scores: response.Scores | None, disposition: dropout.Disposition | None
) -> BoolArray:
    """Who enters the relapse analysis: everyone, or those who respond at the last visit and are seen there."""
    if present(scenario.relapse).origin == "randomisation" or scores is None or disposition is None:
        return np.ones(n, dtype=bool)
    fall = scores.base - disposition.policy[:, -1]
    return disposition.observed[:, -1] & (fall >= present(scenario.response).response_fraction * scores.base)
