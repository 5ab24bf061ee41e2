"""What would be true of those who stopped treatment under assumptions that nobody can see: that they behave as the
reference arm would, given what they had shown, or that they are worse by so much. Potential outcomes throughout."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kapstats._types import FloatArray
from kapstats.simulation import response
from kapstats.simulation.draw import Draw, present
from kapstats.simulation.scenario import Scenario
from kapstats.simulation.truth.worlds import Moments, Row, contrast_rows, worlds

Scores = Callable[[Scenario, Draw, Draw], FloatArray]


def copied(scenario: Scenario, d: Draw, reference: Draw) -> FloatArray:
    """Scores (n, v) under copy reference; `reference` are the same subjects on that arm.

    From the first visit after treatment was stopped: the course of the reference arm given the scores before, so that
    the effect g seen before it is carried on by the regression of later on earlier visits, C_21 C_11^-1 g.
    """
    spec, scores, left = present(scenario.response), present(d.scores), present(d.disposition).left
    root, plain = response.model(spec).root, present(reference.scores).effect
    C = root @ root.T + spec.site_sd**2 + spec.therapist_sd**2
    out, seen = scores.score.copy(), scores.effect - plain
    for t in range(C.shape[0]):
        who = left == t
        carried = seen[who, :t] @ np.linalg.solve(C[:t, :t], C[:t, t:]) if t else 0.0
        out[who, t:] = response.to_scale(spec, scores.latent[who, t:] + plain[who, t:] + carried)
    return out


def worsened(delta: float) -> Scores:
    """Scores (n, v) if those who stopped, on any arm but the reference, were worse by `delta` from then on."""

    def scores(scenario: Scenario, d: Draw, reference: Draw) -> FloatArray:
        own, left = present(d.scores).score, present(d.disposition).left
        after = np.arange(own.shape[1]) >= left[:, None]
        return own + delta * (after & (d.subjects.arm > 0)[:, None])

    return scores


def difference_under(scenario: Scenario, scores: Scores, strategy: str, n: int = 200_000) -> list[Row]:
    """Rows of mean_difference at every visit under an assumption about those who stopped.

    Examples
    --------
    >>> from kapstats.simulation.scenario import load
    >>> rows = difference_under(load("kap-parallel"), copied, "copy reference", n=2000)
    >>> rows[-1]["contrast"], rows[-1]["strategy"], rows[-1]["value"] > -5
    ('KAP Nasal - Placebo', 'copy reference', True)
    """
    spec = present(scenario.response)
    visits: list[Row] = [{"AVISIT": f"Day {d}"} for d in spec.days]
    moments = Moments()
    for arms in worlds(scenario, n, ["response"]):
        base = present(arms[0].scores).base[:, None]
        moments.add(np.stack([scores(scenario, d, arms[0]) - base for d in arms]))
    method = f"potential outcomes, n = {moments.n}"
    rows = contrast_rows(scenario, moments.mean, moments.paired_error, method, visits, strategy=strategy)
    return [{"quantity": "mean_difference", **row} for row in rows]
