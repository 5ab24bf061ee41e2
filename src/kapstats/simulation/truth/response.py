"""What is true of the scores: finite sums where all stay on treatment, potential outcomes where stopping matters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import ndtr

from kapstats._types import BoolArray, FloatArray, IntArray
from kapstats.simulation import response
from kapstats.simulation.draw import Draw, present
from kapstats.simulation.scenario import Response, Scenario
from kapstats.simulation.truth.worlds import Moments, Row, arm_rows, contrast_rows, outcomes, worlds


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


def _closed(spec: Response) -> bool:
    """Whether the mean of a score is a finite sum: subjects differ in nothing but baseline, noise, site and belief."""
    return not (spec.exposure or spec.unblinding or spec.female or spec.older)


def carried(on: FloatArray, base: FloatArray, left: IntArray) -> FloatArray:
    """The last of the visits (n, v) before treatment was stopped, carried on; baseline when it was stopped before."""
    visits = np.arange(on.shape[1])
    whole = np.column_stack([base, on])
    return np.take_along_axis(whole, np.minimum(visits + 1, left[:, None]), axis=1)


def under(scenario: Scenario, d: Draw, reference: Draw) -> dict[str, FloatArray]:
    """Scores (n, v) under each strategy for stopping treatment; `reference` are the same subjects on that arm.

    Jump to reference: the score on the reference arm from then on. Copy increments in reference: the effect reached at
    the last visit on treatment is kept, the course is the reference's.
    """
    spec, scores, gone = present(scenario.response), present(d.scores), present(d.disposition)
    out = {"hypothetical": scores.score, "treatment policy": gone.policy}
    if scenario.dropout is None:
        return out
    after = np.arange(len(spec.days)) >= gone.left[:, None]
    out["while on treatment"] = carried(scores.score, scores.base, gone.left)
    if len(scenario.arms) > 1 and not spec.periods:
        out["jump to reference"] = np.where(after, present(reference.scores).score, scores.score)
        kept = carried(scores.effect - present(reference.scores).effect, np.zeros(d.n), gone.left)
        moved = response.to_scale(spec, scores.latent + present(reference.scores).effect + kept)
        out["copy increments in reference"] = np.where(after, moved, scores.score)
    return out


def responses(scenario: Scenario, d: Draw, reference: Draw) -> dict[str, FloatArray]:
    """Response (n, v) under each strategy; composite: stopping treatment is no response."""
    spec, base = present(scenario.response), present(d.scores).base[:, None]
    worlds_of = under(scenario, d, reference)
    named = ("hypothetical", "treatment policy", "while on treatment")
    fell = {k: (base - v >= spec.response_fraction * base).astype(float) for k, v in worlds_of.items() if k in named}
    if scenario.dropout is not None:
        stays = np.arange(len(spec.days)) < present(d.disposition).left[:, None]
        fell["composite"] = fell["hypothetical"] * stays
    return fell


class Stratum:
    """Differences to the reference arm among those who would stay on treatment under both arms (arms, visits)."""

    def __init__(self) -> None:
        self.sums: Any = 0.0

    def add(self, stays: BoolArray, y: FloatArray) -> None:
        """`stays` and `y` (arms, subjects, visits)."""
        both = stays & stays[:1]
        gap = (y - y[:1]) * both
        self.sums = self.sums + np.stack([both.sum(axis=1), gap.sum(axis=1), (gap**2).sum(axis=1)])

    @property
    def mean(self) -> FloatArray:
        """(arms, visits) mean difference."""
        return self.sums[1] / self.sums[0]

    @property
    def error(self) -> FloatArray:
        """(arms, visits) its Monte-Carlo error."""
        return np.sqrt((self.sums[2] / self.sums[0] - self.mean**2) / self.sums[0])


@dataclass(slots=True)
class Sums:
    """What the potential outcomes add up to: scores and responses under each strategy, and the principal stratum."""

    scores: dict[str, Moments] = field(default_factory=dict)
    hits: dict[str, Moments] = field(default_factory=dict)
    stratum: Stratum = field(default_factory=Stratum)
    fallen: Stratum = field(default_factory=Stratum)

    def add(self, scenario: Scenario, arms: list[Draw], exact: bool) -> None:
        """Add subjects drawn on every arm. Beside a closed form only what stopping treatment costs is added up: far
        less noise than the score itself."""
        base = present(arms[0].scores).base[:, None]
        scores = [{k: y - base for k, y in under(scenario, d, arms[0]).items()} for d in arms]
        hits = [responses(scenario, d, arms[0]) for d in arms]
        for sums, found in ((self.scores, scores), (self.hits, hits)):
            for k in found[0]:
                less = "hypothetical" if exact else None
                sums.setdefault(k, Moments()).add(np.stack([f[k] - f[less] if less else f[k] for f in found]))
        if scenario.dropout is not None:
            visits = np.arange(scores[0]["hypothetical"].shape[1])
            stays = np.stack([visits < present(d.disposition).left[:, None] for d in arms])
            self.stratum.add(stays, np.stack([f["hypothetical"] for f in scores]))
            self.fallen.add(stays, np.stack([f["hypothetical"] for f in hits]))


def response_truth(scenario: Scenario, n: int) -> dict[str, list[Row]]:
    """Mean change, its differences, and response at each visit, under every strategy that is defined."""
    spec = present(scenario.response)
    visits: list[Row] = [{"PARAMCD": spec.parameter, "AVISIT": f"Day {d}", "AVISITN": d} for d in spec.days]
    exact, sums = _closed(spec), Sums()
    for arms in worlds(scenario, n, ["response"]):
        sums.add(scenario, arms, exact)
    mean, hit = (closed_means(scenario), closed_response(scenario)) if exact else (None, None)
    out = _every_strategy(scenario, visits, ("mean_change", "mean_difference"), sums.scores, mean, sums.stratum)
    out |= _every_strategy(scenario, visits, ("response", "response_difference"), sums.hits, hit, sums.fallen)
    if any(a.believes is not None for a in scenario.arms):
        out["belief"] = belief_truth(scenario, n)
    return out | (through_concentration(scenario, n, visits) if spec.exposure else {})


def _every_strategy(
    scenario: Scenario, visits: list[Row], quantities: tuple[str, str], moments: dict[str, Moments],
    form: FloatArray | None, stratum: Stratum,
) -> dict[str, list[Row]]:  # fmt: skip
    """A quantity per arm and its contrast, under each strategy in turn; in the principal stratum the contrast only."""
    found = [_strategy(scenario, visits, k, m, form) for k, m in moments.items()]
    each, contrasts = ([row for pair in found for row in pair[i]] for i in (0, 1))
    if scenario.dropout is not None and not present(scenario.response).periods:
        method, kept = f"potential outcomes, n = {moments['hypothetical'].n}", {"strategy": "principal stratum"}
        contrasts += contrast_rows(scenario, stratum.mean, stratum.error, method, visits, **kept)
    return dict(zip(quantities, (each, contrasts), strict=True))


def belief_truth(scenario: Scenario, n: int) -> list[Row]:
    """Probability of believing to have been given the drug, per arm."""
    spec = present(scenario.response)
    if not spec.unblinding:
        stated = np.array([[a.believes or 0.0] for a in scenario.arms])
        return arm_rows(scenario, stated, None, "closed form", [{}])

    def believes(d: Draw) -> FloatArray:
        dose = response.felt(present(d.sessions).exposure.cmax, d.n)
        return response.belief_probability(spec, scenario.arms, d.subjects.arm, dose)[:, None]

    moments = outcomes(scenario, n, ["pharmacokinetics"], believes)
    return arm_rows(scenario, moments.mean, moments.error, f"potential outcomes, n = {moments.n}", [{}])


def _strategy(
    scenario: Scenario, visits: list[Row], strategy: str, moments: Moments, form: FloatArray | None
) -> tuple[list[Row], list[Row]]:
    """Rows per arm and per contrast under one strategy; `form` is the closed form the moments are added to."""
    kept, sample = {"strategy": strategy}, f"potential outcomes, n = {moments.n}"
    if form is not None and strategy == "hypothetical":
        return (
            arm_rows(scenario, form, None, "closed form", visits, **kept),
            contrast_rows(scenario, form, None, "closed form", visits, **kept),
        )
    value, method = (moments.mean, sample) if form is None else (form + moments.mean, f"closed form + {sample}")
    return (
        arm_rows(scenario, value, moments.error, method, visits, **kept),
        contrast_rows(scenario, value, moments.paired_error, method, visits, **kept),
    )


def through_concentration(scenario: Scenario, n: int, visits: list[Row]) -> dict[str, list[Row]]:
    """The difference of means split: direct (every arm at the reference's concentration) and mediated by concentration
    (natural effects, Pearl 2001), if all stay on treatment."""
    parts = {"direct_difference": Moments(), "mediated_difference": Moments()}
    for whole, bare in zip(worlds(scenario, n, ["response"]), worlds(scenario, n, ["response"], 0), strict=True):
        at_own, at_reference = (np.stack([present(d.scores).score for d in w]) for w in (whole, bare))
        parts["direct_difference"].add(at_reference)
        parts["mediated_difference"].add(at_own - at_reference)
    method, kept = f"potential outcomes, n = {n}", {"strategy": "hypothetical"}
    return {name: contrast_rows(scenario, m.mean, m.paired_error, method, visits, **kept) for name, m in parts.items()}
