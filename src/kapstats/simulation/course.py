"""Dissociation (CADSS) and systolic blood pressure over the minutes of a session, as functions of concentration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kapstats._types import FloatArray
from kapstats.simulation.scenario import Course


@dataclass(frozen=True, slots=True)
class Courses:
    """`cadss` and `sbp` (n, sessions, minutes), integers as floats."""

    cadss: FloatArray
    sbp: FloatArray


def cadss(spec: Course, concentration: FloatArray, sensitivity: FloatArray, noise: FloatArray) -> FloatArray:
    """CADSS totals 0 to 92: a floor of ordinary absent-mindedness plus gain times concentration.

    `concentration` (n, s, m) ng/mL, `sensitivity` standard normal (n,), `noise` standard exponential (n, s, m).
    """
    gain: FloatArray = spec.cadss_gain * np.exp(spec.cadss_sd * sensitivity)
    fading: FloatArray = np.power(spec.cadss_attenuation, np.asarray(spec.sessions) - 1.0)
    score = gain[:, None, None] * fading[:, None] * concentration + spec.cadss_floor * noise
    return np.clip(np.rint(score), 0, 92)


def generate(spec: Course, concentration: FloatArray, sensitivity: FloatArray, rng: np.random.Generator) -> Courses:
    """Courses of n subjects in the sessions that are assessed."""
    n = concentration.shape[0]
    score = cadss(spec, concentration, sensitivity, rng.standard_exponential(concentration.shape))
    own = spec.sbp_mean + spec.sbp_sd * rng.standard_normal((n, 1, 1))
    noise = spec.sbp_noise * rng.standard_normal(concentration.shape)
    pressure = own + spec.sbp_gain * concentration + noise
    return Courses(score, np.rint(np.clip(pressure, 80, 240)))
