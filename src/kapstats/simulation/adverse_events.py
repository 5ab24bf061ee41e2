"""Adverse events of every session, driven by the session's peak concentration, the route, and the subject.

    logit P(term in session s) = base + slope log(1 + Cmax_s / 50) + local[route] + attenuation (s - 1) + tendency

Onset follows the time to peak concentration, most events end within the hour, a few outlast the day.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from kapstats._types import BoolArray, FloatArray, IntArray
from kapstats.simulation.scenario import AdverseEvents, Arm
from kapstats.simulation.subjects import OLDER, Subjects


@dataclass(frozen=True, slots=True)
class Events:
    """One entry per event (k,): subject, session (0-based), term (index), onset and duration in minutes, severity 1-3,
    whether it was serious; onset counts from the start of the session."""

    subject: IntArray
    session: IntArray
    term: IntArray
    onset: FloatArray
    duration: FloatArray
    severity: IntArray
    serious: BoolArray


def coefficients(spec: AdverseEvents, arms: tuple[Arm, ...]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(base (T,), slope (T,), local (arms, T)) of all terms."""
    base = np.array([t.base for t in spec.terms])
    slope = np.array([t.slope for t in spec.terms])
    local = np.array([[dict(t.local).get(a.route, 0.0) for t in spec.terms] for a in arms])
    return base, slope, local


def leaning(spec: AdverseEvents, who: Subjects, tendency: FloatArray) -> FloatArray:
    """Log odds (n,) that a subject brings to every term: tendency, sex, age."""
    return spec.tendency_sd * tendency + spec.female * who.female + spec.older * (who.age >= OLDER)


def probability(
    spec: AdverseEvents, arms: tuple[Arm, ...], arm: IntArray, cmax: FloatArray, lean: FloatArray
) -> FloatArray:
    """Probability (n, S, T) of each term in each session, given peak concentrations (n, S) and `leaning` (n,)."""
    base, slope, local = coefficients(spec, arms)
    session = np.arange(cmax.shape[1])
    row = lean[:, None] + spec.attenuation * session
    eta = np.log1p(cmax / 50.0)[:, :, None] * slope + (base + local[arm])[:, None, :] + row[:, :, None]
    return expit(eta)


def incidence(p: FloatArray, given: BoolArray) -> FloatArray:
    """Probability (n, T) of at least one event over the sessions given (n, S)."""
    return 1 - np.exp((np.log1p(-p) * given[:, :, None]).sum(axis=1))


def generate(
    spec: AdverseEvents,
    arms: tuple[Arm, ...],
    arm: IntArray,
    cmax: FloatArray,
    tmax: FloatArray,
    given: BoolArray,
    lean: FloatArray,
    rng: np.random.Generator,
) -> Events:
    """Events of n subjects; `cmax` (n, S), `tmax` minutes (n,), `given` (n, S) sessions that took place."""
    p = probability(spec, arms, arm, cmax, lean)
    hit = (rng.random(p.shape) < p) & given[:, :, None]
    subject, session, term = np.nonzero(hit)
    k = subject.size
    z, u = rng.standard_normal((k, 3)), rng.random((k, 4))
    background = np.array([t.background for t in spec.terms], dtype=bool)[term]
    peak = np.where(tmax > 0, tmax, 20.0)[subject]
    onset = np.where(background, u[:, 0] * 6 * 1440, spec.onset_share * peak * np.exp(0.45 * z[:, 0]))
    long = (u[:, 1] < spec.long_share) | background
    duration = np.where(long, 2880 * np.exp(0.7 * z[:, 1]), spec.duration_minutes * np.exp(0.7 * z[:, 1]))
    strength = np.log1p(cmax[subject, session] / 50.0) + 0.8 * z[:, 2]
    severity = 1 + (strength > 0.9).astype(np.int64) + (strength > 2.6)
    serious = u[:, 2] < spec.serious
    return Events(subject, session, term, np.maximum(onset, 1.0), np.maximum(duration, 2.0), severity, serious)
