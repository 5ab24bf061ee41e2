"""Draw the components of a trial as arrays, each from its own stream; only those asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
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
    steps = round(pharmacokinetics.HOURS / pharmacokinetics.STEP)
    courses = pharmacokinetics.run_together(groups, steps, pharmacokinetics.STEP) if groups else []
    for rows, curve in zip(members, courses, strict=True):
        found = pharmacokinetics.summarise(curve * dose[rows, None], minutes)
        for whole, part in zip(parts, (found.cmax, found.tmax, found.auc, found.at), strict=True):
            whole[rows] = part
    return pharmacokinetics.Exposure(*parts)


def sessions(scenario: Scenario, arm: IntArray, weight: FloatArray, rng: np.random.Generator) -> Sessions:
    """The exposure in each session, all of them given."""
    dosing = present(scenario.dosing)
    days = np.asarray(dosing.days)
    n = arm.size
    z = np.clip(rng.standard_normal((n, 8)), -3, 3)
    factor = np.exp(dosing.between_session_sd * rng.standard_normal((n, days.size)))
    minutes = scenario.course.minutes if scenario.course else ()
    dose = doses(scenario, arm, weight)
    return Sessions(dose, exposure(scenario, arm, dose, z, minutes), factor, np.ones((n, days.size), dtype=bool))


def until_left(scenario: Scenario, taken: Sessions, left: IntArray) -> Sessions:
    """Sessions given until treatment is stopped."""
    stop = np.array([0.0, *present(scenario.response).days[:-1], np.inf])[left]
    given = np.asarray(present(scenario.dosing).days) <= stop[:, None]
    return Sessions(taken.dose, taken.exposure, taken.factor, given)


def exposed(scenario: Scenario, want: set[str]) -> bool:
    """Whether concentrations are asked for, or the scores depend on them."""
    spec = scenario.response
    drives = spec is not None and bool(spec.exposure or spec.unblinding)
    if drives and scenario.dosing is None:
        raise DataError(f"{scenario.name}: Response.exposure and unblinding need the component dosing.")
    return scenario.dosing is not None and (drives or bool(want & {"pharmacokinetics", "adverse_events", "course"}))


def draw(
    scenario: Scenario,
    n: int | None = None,
    seed: int = 1,
    replicate: int = 0,
    parts: Iterable[str] = COMPONENTS,
    arm: IntArray | None = None,
    concentrations_of: IntArray | None = None,
    apart: bool = False,
) -> Draw:
    """One replicate.

    Parameters
    ----------
    parts : the components wanted; what they depend on is drawn too
    arm : (n,) arms instead of the randomised ones, the draws being the same (potential outcomes)
    concentrations_of : (n,) arms whose concentrations the subjects have instead of their own arm's (nested potential
        outcomes: what a route does beside its concentration)
    apart : every subject has a site of its own, so that outcomes are independent and means are over all sites
    """
    n = scenario.subjects if n is None else n
    want = set(parts)

    def rng(component: str) -> np.random.Generator:
        return stream(seed, scenario.name, replicate, component)

    who = subjects.generate(scenario, n, rng("subjects"), rng("indication"))
    if arm is not None:
        who = dataclasses.replace(who, arm=arm)
    if apart:
        who = dataclasses.replace(who, site=np.arange(n), therapist=np.arange(n))
    scores = disposition = follow_up = taken = events = curves = believers = None
    if exposed(scenario, want):
        through = who.arm if concentrations_of is None else concentrations_of
        taken = sessions(scenario, through, who.weight, rng("pharmacokinetics"))
    if scenario.response is not None:
        dose = response.felt(taken.exposure.cmax if taken else None, n)
        believers = response.belief(scenario.response, scenario.arms, who.arm, dose, rng("belief").random(n))
        scores = response.generate(scenario.response, scenario.arms, who, rng("response"), dose, believers)
        disposition = dropout.generate(
            scenario.dropout, scenario.response, scenario.arms, who.arm, scores, rng("dropout")
        )
    if scenario.relapse is not None and "relapse" in want:
        risk = at_risk(scenario, n, scores, disposition)
        follow_up = followed(scenario, who, risk, rng)
    tendency = np.zeros(0)
    if taken is not None:
        if disposition is not None:
            taken = until_left(scenario, taken, disposition.left)
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


def followed(
    scenario: Scenario, who: subjects.Subjects, risk: BoolArray, rng: Callable[[str], np.random.Generator]
) -> relapse.FollowUp:
    """The follow-up for relapse, with the differences between sites and the stopping that the scenario has."""
    spec, arms = present(scenario.relapse), scenario.arms
    hazard, stop = np.ones(who.arm.size), np.full(who.arm.size, np.inf)
    if spec.site_sd or spec.therapist_sd:
        hazard = relapse.frailty(spec, who.site, who.therapist, rng("relapse_sites"))
    if spec.stop_median_days is not None:
        stop = relapse.stopping(spec.stop_median_days, arms, who.arm, rng("stopping"))
    return relapse.generate(spec, arms, who.arm, risk, rng("relapse"), hazard, stop)


def at_risk(
    scenario: Scenario, n: int, scores: response.Scores | None, disposition: dropout.Disposition | None
) -> BoolArray:
    """Who enters the relapse analysis: everyone, or those who respond at the last visit and are seen there."""
    if present(scenario.relapse).origin == "randomisation" or scores is None or disposition is None:
        return np.ones(n, dtype=bool)
    fall = scores.base - disposition.policy[:, -1]
    return disposition.observed[:, -1] & (fall >= present(scenario.response).response_fraction * scores.base)
