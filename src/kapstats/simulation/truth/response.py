"""What is true of the scores: finite sums where all stay on treatment, potential outcomes where stopping matters."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from kapstats._types import FloatArray
from kapstats.simulation import response
from kapstats.simulation.draw import Draw, present
from kapstats.simulation.scenario import Scenario
from kapstats.simulation.truth.worlds import Row, arm_rows, contrast_rows, outcomes


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


def response_truth(scenario: Scenario, n: int) -> dict[str, list[Row]]:
    """Mean change, its differences, and response at each visit, under both strategies."""
    spec = present(scenario.response)
    visits = [{"PARAMCD": spec.parameter, "AVISIT": f"Day {d}", "AVISITN": d} for d in spec.days]
    mean, hit = closed_means(scenario), closed_response(scenario)
    form, kept = "closed form", {"strategy": "hypothetical"}
    out = {
        "mean_change": arm_rows(scenario, mean, None, form, visits, **kept),
        "mean_difference": contrast_rows(scenario, mean, None, form, visits, **kept),
        "response": arm_rows(scenario, hit, None, form, visits, **kept),
        "response_difference": contrast_rows(scenario, hit, None, form, visits, **kept),
    }

    def lost(d: Draw) -> FloatArray:
        return present(d.disposition).policy - present(d.scores).score

    # what stopping treatment costs is added to the closed form: far less noise than the mean score itself
    moments = outcomes(scenario, n, ["response"], lost)
    method, policy = f"closed form + potential outcomes, n = {moments.n}", {"strategy": "treatment policy"}
    total = mean + moments.mean
    out["mean_change"] += arm_rows(scenario, total, moments.error, method, visits, **policy)
    out["mean_difference"] += contrast_rows(scenario, total, moments.paired_error, method, visits, **policy)
    return out
