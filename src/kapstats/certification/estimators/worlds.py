"""Follow-up with a truth in closed form, drawn per replicate for the arms of a scenario: no estimator is used here.

Each function takes a generator and the arm (n,) of every subject, 0 or 1, and returns arrays.
"""

from __future__ import annotations

import numpy as np

from kapstats._types import BoolArray, FloatArray, IntArray


def competing(rng: np.random.Generator, arm: IntArray, b: float, share: float = 0.6) -> tuple[FloatArray, IntArray]:
    """Times and causes (0 censored, 1, 2) with F_1(t | arm) = 1 - {1 - share (1 - exp(-t))}^exp(b arm).

    The subdistribution hazards of cause 1 are proportional with log ratio b (Fine and Gray 1999, section 5).
    """
    ratio = np.exp(b * arm)
    ever = 1.0 - (1.0 - share) ** ratio
    first = rng.random(arm.size) < ever
    inside = 1.0 - rng.random(arm.size) * ever
    T1 = -np.log1p(-(1.0 - inside ** (1.0 / ratio)) / share)
    time = np.where(first, T1, rng.exponential(1.0, arm.size))
    stop = rng.uniform(0.5, 3.0, arm.size)
    return np.minimum(time, stop), np.where(time <= stop, np.where(first, 1, 2), 0).astype(np.int64)


def recurrent(
    rng: np.random.Generator, arm: IntArray, b: float, rate: float, variance: float
) -> tuple[FloatArray, FloatArray, BoolArray, IntArray]:
    """start, stop, event and subject of rows (start, stop]: Poisson processes times a gamma frailty of mean one.

    The mean number of events by t is rate exp(b arm) t; follow-up is uniform on (0.5, 1).
    """
    n = arm.size
    end = rng.uniform(0.5, 1.0, n)
    frailty = rng.gamma(1.0 / variance, variance, n) if variance else np.ones(n)
    count = rng.poisson(rate * np.exp(b * arm) * frailty * end)
    who = np.repeat(np.arange(n), count)
    time = rng.random(who.size) * end[who]
    subject, stop = np.concatenate([who, np.arange(n)]), np.concatenate([time, end])
    event = np.concatenate([np.ones(who.size, bool), np.zeros(n, bool)])
    order = np.lexsort((stop, subject))
    subject, stop, event = subject[order], stop[order], event[order]
    start = np.where(np.append(True, subject[1:] != subject[:-1]), 0.0, np.append(0.0, stop[:-1]))
    return start, stop, event, subject


def staggered(rng: np.random.Generator, arm: IntArray, b: float) -> tuple[FloatArray, FloatArray]:
    """Calendar time of entry, uniform on (0, 1), and exponential time to relapse with log hazard ratio b."""
    return rng.random(arm.size), rng.exponential(1.0, arm.size) / np.exp(b * arm)


def visited(
    rng: np.random.Generator, n: int, gap: float, missed: float, end: float, shape: float, scale: float
) -> tuple[FloatArray, FloatArray]:
    """left, right of Weibull relapse, survival exp(-(t / scale)^shape), found at visits every `gap`, some missed."""
    latent = scale * rng.standard_exponential(n) ** (1.0 / shape)
    day = np.arange(gap, end + gap / 2, gap)
    held = rng.random((n, day.size)) >= missed
    held[:, -1] = True
    left = np.where(held & (day < latent[:, None]), day, 0.0).max(axis=1)
    after = held & (day >= latent[:, None])
    return left, np.where(after.any(axis=1), day[after.argmax(axis=1)], np.inf)


#: weekly hazard, log ratio of the covariate, how far the treated arm's covariate lies from the other's
WEEKLY, PROGNOSTIC, APART = 0.03, 0.5, 0.6


def confounded(rng: np.random.Generator, arm: IntArray, b: float) -> tuple[FloatArray, BoolArray, FloatArray]:
    """Weeks to relapse (found in whole weeks: heavy ties), event, and a prognostic covariate that differs by arm."""
    x = rng.standard_normal(arm.size) + APART * arm
    latent = rng.exponential(1.0, arm.size) / (WEEKLY * np.exp(b * arm + PROGNOSTIC * x))
    stop = rng.uniform(8.0, 52.0, arm.size)
    return np.ceil(np.minimum(latent, stop)), latent <= stop, x


def standardised(b: float, week: float, share: float = 0.5) -> float:
    """Survival to `week` if everybody had log ratio b: the mean over the covariate of both arms (Gauss-Hermite)."""
    z, w = np.polynomial.hermite_e.hermegauss(60)
    means = [float(w @ np.exp(-WEEKLY * week * np.exp(b + PROGNOSTIC * (z + shift)))) / w.sum() for shift in (0, APART)]
    return (1.0 - share) * means[0] + share * means[1]
