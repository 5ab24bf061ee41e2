"""Relapse: a latent time with a known hazard ratio, seen at visits, confirmed at the next one.

The latent time has survival ``exp(-log 2 (t / median)^shape HR)``; with `change_day` the hazard ratio takes its late
value from that day on. A score at or above the threshold at a visit is confirmed at the following assessment, which
is always held; the event is dated at the first of the two, and the interval is (last visit below the threshold, that
visit].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kapstats._types import BoolArray, FloatArray, IntArray
from kapstats.simulation.scenario import Arm, Relapse


@dataclass(frozen=True, slots=True)
class FollowUp:
    """Per subject (n,) and per visit (n, v + 1; the last column is the confirmation after the last visit).

    `at_risk` in the relapse analysis; `latent` days to relapse; `time`, `event`, `left`, `right` days as observed
    (`right` is inf when censored); `day` of each assessment, `held` whether it took place, `score` on it.
    """

    at_risk: BoolArray
    latent: FloatArray
    time: FloatArray
    event: BoolArray
    left: FloatArray
    right: FloatArray
    day: FloatArray
    held: BoolArray
    score: FloatArray
    stopped: BoolArray | None
    """(n,) follow-up ended with stopping treatment, at `time`; None where the scenario has no such event"""


def cumulative_hazard(spec: Relapse, arm: Arm, t: FloatArray) -> FloatArray:
    """Cumulative hazard of the latent time in one arm."""
    base = np.log(2.0) * (np.asarray(t, dtype=float) / spec.median_days) ** spec.shape
    if spec.change_day is None or arm.late_hazard_ratio is None:
        return arm.hazard_ratio * base
    turn = np.log(2.0) * (spec.change_day / spec.median_days) ** spec.shape
    return arm.hazard_ratio * np.minimum(base, turn) + arm.late_hazard_ratio * np.maximum(base - turn, 0.0)


def latent_times(spec: Relapse, arms: tuple[Arm, ...], arm: IntArray, exponential: FloatArray) -> FloatArray:
    """Times whose cumulative hazard is `exponential` (n,), by inversion."""
    early = np.array([a.hazard_ratio for a in arms])[arm]
    base = exponential / early
    if spec.change_day is not None:
        late = np.array([a.hazard_ratio if a.late_hazard_ratio is None else a.late_hazard_ratio for a in arms])[arm]
        turn = np.log(2.0) * (spec.change_day / spec.median_days) ** spec.shape
        base = np.where(base > turn, turn + (exponential - early * turn) / late, base)
    return spec.median_days * (base / np.log(2.0)) ** (1 / spec.shape)


def detection(latent: FloatArray, day: FloatArray, held: BoolArray) -> tuple[FloatArray, FloatArray, BoolArray]:
    """(left, right, seen): last visit held before the relapse and first one held after it; inf when never seen."""
    after: BoolArray = held & (day >= latent[:, None])
    seen: BoolArray = np.any(after, axis=1)
    right = np.where(seen, np.take_along_axis(day, after.argmax(axis=1)[:, None], axis=1)[:, 0], np.inf)
    left: FloatArray = np.where(held & (day < np.minimum(latent, right)[:, None]), day, 0.0).max(axis=1)
    return left, right, seen


def frailty(spec: Relapse, site: IntArray, therapist: IntArray, rng: np.random.Generator) -> FloatArray:
    """Factor (n,) of each subject's hazard: log-normal between sites, and between the therapists of a site."""
    sites = spec.site_sd * rng.standard_normal(int(site.max(initial=0)) + 1)
    own = spec.therapist_sd * rng.standard_normal(int(therapist.max(initial=0)) + 1)
    return np.exp(sites[site] + own[therapist])


def stopping(median: float, arms: tuple[Arm, ...], arm: IntArray, rng: np.random.Generator) -> FloatArray:
    """Whole days (n,) to stopping treatment, exponential; `median` in the reference arm."""
    rate = np.log(2.0) / median * np.array([a.stopping for a in arms])[arm]
    return np.maximum(np.ceil(rng.standard_exponential(arm.size) / rate), 1.0)


def generate(
    spec: Relapse,
    arms: tuple[Arm, ...],
    arm: IntArray,
    at_risk: BoolArray,
    rng: np.random.Generator,
    hazard: FloatArray,
    stop: FloatArray,
) -> FollowUp:
    """Follow n subjects; those not at risk carry times that are not reported. `hazard` (n,) is `frailty`, `stop` (n,)
    the day on which treatment is stopped and follow-up ends (inf: never)."""
    n, v = arm.size, len(spec.visit_days)
    latent = latent_times(spec, arms, arm, rng.standard_exponential(n) / hazard)
    leaves = np.where(rng.random((n, v)) < spec.leave_per_visit, np.arange(v), v).min(axis=1)
    held = (rng.random((n, v)) >= spec.missed) & (np.arange(v) < leaves[:, None])
    day = np.asarray(spec.visit_days) + np.rint(rng.uniform(-1.49, 1.49, (n, v)))
    # stopping is seen up to the last visit held, so that censoring does not depend on it
    last = np.maximum(np.where(held, day, 0.0).max(axis=1), 1.0)
    held = held & (day < stop[:, None])
    left, right, event = detection(latent, day, held)
    stopped = ~event & (stop <= last)
    time = np.where(event, right, np.where(stopped, stop, last))
    day, held = _confirmation(day, held, right, event)
    score = _scores(spec, latent, day, rng.standard_normal((n, v + 1)))
    seen = None if spec.stop_median_days is None else stopped
    return FollowUp(at_risk, latent, time, event, left, right, day, held, score, seen)


def _confirmation(
    day: FloatArray, held: BoolArray, right: FloatArray, event: BoolArray
) -> tuple[FloatArray, BoolArray]:
    """Follow-up ends with the confirmation, seven days after the first high score, in the place of the next visit."""
    n, v = day.shape
    day, held = np.column_stack([day, day[:, -1] + 7]), np.column_stack([held, np.zeros(n, dtype=bool)])
    first = np.where(event[:, None], day[:, :v] == right[:, None], False).argmax(axis=1)
    rows = np.flatnonzero(event)
    held = held & ~(event[:, None] & (np.arange(v + 1) > first[:, None]))
    held[rows, first[rows] + 1] = True
    day[rows, first[rows] + 1] = right[rows] + 7
    return day, held


def _scores(spec: Relapse, latent: FloatArray, day: FloatArray, z: FloatArray) -> FloatArray:
    """Scores that say what the latent time says: below the threshold before relapse, at or above it after."""
    well = np.clip(np.rint(9 + 5 * z), 0, spec.threshold - 1)
    ill = np.clip(np.rint(spec.threshold + 6 + 4 * z), spec.threshold, 60)
    return np.where(day >= latent[:, None], ill, well)
