"""Follow-up with a truth in closed form, drawn per replicate for the arms of a scenario: no estimator is used here.

Each function takes a generator and the arm (n,) of every subject, 0 or 1, and returns arrays.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

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


def halves(n: int) -> IntArray:
    """(n,) arms 0 and 1 in turn."""
    return np.arange(n) % 2


#: hazards of relapse and of stopping in the control arm, their log ratios, and when follow-up ends at random
CAUSES, CAUSE_EFFECTS, STOPS = np.array([0.6, 0.4]), np.array([np.log(0.6), np.log(1.5)]), (0.5, 3.0)


def two_causes(rng: np.random.Generator, arm: IntArray) -> tuple[FloatArray, IntArray]:
    """Times and causes (0 censored, 1, 2) with constant cause-specific hazards, each with its own ratio of the arms."""
    rate = CAUSES * np.exp(CAUSE_EFFECTS * arm[:, None])
    latent = rng.exponential(1.0, rate.shape) / rate
    stop = rng.uniform(*STOPS, arm.size)
    first = latent.min(axis=1)
    return np.minimum(first, stop), np.where(first <= stop, 1 + latent.argmin(axis=1), 0).astype(np.int64)


def incidence_of_first(arm: int, t: float) -> float:
    """P(relapse by t, before stopping)."""
    rate = CAUSES * np.exp(CAUSE_EFFECTS * arm)
    return float(rate[0] / rate.sum() * -np.expm1(-rate.sum() * t))


#: hazards of responding, and of relapse after response
RESPOND, RELAPSE = 0.8, 0.5


def responded_at(t: float) -> float:
    """P(in response at t) of the path no response, response, relapse."""
    return RESPOND / (RELAPSE - RESPOND) * float(np.exp(-RESPOND * t) - np.exp(-RELAPSE * t))


def paths(rng: np.random.Generator, n: int) -> dict[str, FloatArray]:
    """Rows (start, stop] of n subjects and the state entered at stop: 0 none, 1 response, 2 relapse."""
    enter, leave = rng.exponential(1 / RESPOND, n), rng.exponential(1 / RELAPSE, n)
    stop = rng.uniform(*STOPS, n)
    first = {"id": np.arange(n), "start": np.zeros(n), "stop": np.minimum(enter, stop), "to": 1.0 * (enter <= stop)}
    on = enter < stop
    end = np.minimum(enter + leave, stop)
    second = {"id": np.arange(n)[on], "start": enter[on], "stop": end[on], "to": (2.0 * (enter + leave <= stop))[on]}
    return {k: np.concatenate([first[k], second[k]]) for k in first}


#: hazard of relapse in the control arm, of leaving in both, and the difference of scores in their standard deviation
HAZARD, LEAVES, SHIFT = 1.0, 0.7, 0.4


def prioritised(rng: np.random.Generator, arm: IntArray, b: float) -> tuple[FloatArray, BoolArray, FloatArray]:
    """Time to relapse with log hazard ratio b, whether it was seen, and a score (larger is better) beside it."""
    latent = rng.exponential(1.0, arm.size) / (HAZARD * np.exp(b * arm))
    stop = rng.exponential(1 / LEAVES, arm.size)
    return np.minimum(latent, stop), latent <= stop, SHIFT * arm + rng.standard_normal(arm.size)


def shares_won(b: float) -> tuple[float, float]:
    """Shares of pairs that treatment wins and loses: the first of four exponential clocks decides, else the score."""
    total = HAZARD * (1 + float(np.exp(b))) + 2 * LEAVES
    open_, better = 2 * LEAVES / total, float(ndtr(SHIFT / np.sqrt(2)))
    return HAZARD / total + open_ * better, HAZARD * float(np.exp(b)) / total + open_ * (1 - better)


def followed(rng: np.random.Generator, arm: IntArray, b: float, by: float) -> tuple[FloatArray, BoolArray, FloatArray]:
    """Exponential time to relapse with log hazard ratio b, event, and a randomised covariate with log ratio `by`."""
    x = rng.standard_normal(arm.size)
    latent = rng.exponential(1.0, arm.size) / np.exp(b * arm + by * x)
    stop = rng.uniform(*STOPS, arm.size)
    return np.minimum(latent, stop), latent <= stop, x


def mean_to(tau: float, b: float, by: float) -> float:
    """Mean time without relapse to tau of `followed` at log ratio b, over the covariate (Gauss-Hermite)."""
    z, w = np.polynomial.hermite_e.hermegauss(60)
    rate = np.exp(b + by * z)
    return float(w @ (-np.expm1(-rate * tau) / rate)) / float(w.sum())


def clustered(rng: np.random.Generator, n: int, b: float, sites: int, variance: float) -> dict[str, FloatArray]:
    """Relapse at sites whose hazards differ by a gamma factor of mean one; arms in turn within sites."""
    site = np.arange(n) // 2 % sites
    rate = rng.gamma(1 / variance, variance, sites)[site] * np.exp(b * halves(n))
    latent, stop = rng.exponential(1.0, n) / np.maximum(rate, 1e-12), rng.uniform(*STOPS, n)
    return {
        "time": np.minimum(latent, stop),
        "event": 1.0 * (latent <= stop),
        "arm": 1.0 * halves(n),
        "site": 1.0 * site,
    }
