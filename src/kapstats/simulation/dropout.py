"""Leaving the trial (MCAR, MAR or MNAR), visits missed in between, and what the score would be off treatment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from kapstats._types import BoolArray, FloatArray, IntArray
from kapstats.errors import choose
from kapstats.simulation.response import Scores, to_scale
from kapstats.simulation.scenario import Arm, Dropout, Response


@dataclass(frozen=True, slots=True)
class Disposition:
    """`left` (n,): index of the first visit after treatment was stopped (v = stayed); `observed` (n, v) visits held;
    `policy` (n, v): the score whether or not treatment was stopped."""

    left: IntArray
    observed: BoolArray
    policy: FloatArray


def off_treatment(spec: Response, scores: Scores, left: IntArray) -> FloatArray:
    """Scores under the treatment policy: the drug's effect halves every `carryover_days` after the last visit held."""
    days = np.asarray(spec.days, dtype=float)
    stopped = np.append(0.0, days)[np.minimum(left, days.size)]
    since = np.clip(days - stopped[:, None], 0, None) * (np.arange(days.size) >= left[:, None])
    remains = scores.effect * 2.0 ** (-since / spec.carryover_days)
    return to_scale(spec, scores.latent + remains)


def leaving_visit(
    spec: Dropout, response: Response, shift: FloatArray, scores: Scores, held: BoolArray, u: FloatArray
) -> IntArray:
    """Index of the first visit not attended for good (n,); the number of visits for those who stay."""
    n, v = scores.score.shape
    left = np.full(n, v)
    last = np.zeros(n)
    typical = np.append(0.0, response.reference_change)
    for j in range(v):
        change = scores.score[:, j] - scores.base
        driver = {"MCAR": np.zeros(n), "MAR": last - typical[j], "MNAR": change - typical[j + 1]}[spec.mechanism]
        leaves = u[:, j] < expit(spec.intercept + shift + spec.slope * driver / 10)
        left = np.where((left == v) & leaves, j, left)
        last = np.where(held[:, j], change, last - typical[j] + typical[j + 1])
    return left


def generate(
    spec: Dropout | None,
    response: Response,
    arms: tuple[Arm, ...],
    arm: IntArray,
    scores: Scores,
    rng: np.random.Generator,
) -> Disposition:
    """Who leaves when, which visits are held, and the scores under the treatment policy; without `spec` all stay."""
    if spec is None:
        n, v = scores.score.shape
        return Disposition(np.full(n, v), np.ones((n, v), dtype=bool), scores.score)
    choose(spec.mechanism, ["MCAR", "MAR", "MNAR"], "Dropout.mechanism")
    n, v = scores.score.shape
    u = rng.random((n, v))
    held: BoolArray = rng.random((n, v)) >= spec.gap
    assessed: BoolArray = rng.random((n, 1)) < spec.retained
    left = leaving_visit(spec, response, np.array([a.leaving for a in arms])[arm], scores, held, u)
    there: BoolArray = (np.arange(v) < left[:, None]) | assessed
    return Disposition(left, held & there, off_treatment(response, scores, left))
