"""Small worlds of adverse events whose truth has a closed form: tables, strata, rates, times to a first event, terms.

Nothing here knows an estimator. Every world draws one replicate from a generator and states what is true of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from kapstats._types import BoolArray, FloatArray, IntArray

Table = tuple[FloatArray, FloatArray, FloatArray, FloatArray]


@dataclass(frozen=True, slots=True)
class Situation:
    """Risks of two groups: what it is called, p1 and p2."""

    label: str
    p1: float
    p2: float


#: two groups: rare and common events, with and without a difference
SITUATIONS = (
    Situation("rare, no effect", 0.04, 0.04),
    Situation("common, no effect", 0.3, 0.3),
    Situation("rare, effect", 0.12, 0.04),
    Situation("common, effect", 0.45, 0.25),
)


def tables(generator: np.random.Generator, n: int) -> Table:
    """(situations,) counts of two groups, a third of the subjects in the second."""
    n2 = n // 3
    n1 = n - n2
    x1 = generator.binomial(n1, [s.p1 for s in SITUATIONS])
    x2 = generator.binomial(n2, [s.p2 for s in SITUATIONS])
    size = np.ones(len(SITUATIONS))
    return x1.astype(float), n1 * size, x2.astype(float), n2 * size


#: strata: share of the subjects of group 1 and of group 2 in each, and the risk of group 2
SHARES = np.array([[0.5, 0.1], [0.3, 0.3], [0.2, 0.6]])
RISKS = np.array([0.08, 0.25, 0.5])
#: common effects over the strata by measure, without and with an effect
EFFECTS = {"risk-difference": (0.0, 0.12), "risk-ratio": (1.0, 1.5), "odds-ratio": (1.0, 2.5)}


def strata(generator: np.random.Generator, n: int, measure: str) -> Table:
    """(2, strata) counts of two groups confounded by stratum: without and with the common effect of `measure`."""
    size = np.round(SHARES * n / 2)
    effects = np.array(EFFECTS[measure])[:, None]
    p1 = RISKS + effects
    if measure != "risk-difference":
        p1 = RISKS * effects if measure == "risk-ratio" else expit(logit(RISKS) + np.log(effects))
    x1, x2 = generator.binomial(size[:, 0].astype(int), p1), generator.binomial(size[:, 1].astype(int), RISKS, p1.shape)
    n1, n2 = (np.broadcast_to(size[:, g], p1.shape) for g in (0, 1))
    return x1.astype(float), n1.copy(), x2.astype(float), n2.copy()


#: expected events of group 1 and group 2 per 100 subjects, and their time at risk per subject
RATES = (("few events, no effect", 0.04, 0.04), ("many events, no effect", 0.5, 0.5), ("effect", 0.4, 0.2))
TIMES = (1.0, 0.6)


def rates(generator: np.random.Generator, n: int) -> Table:
    """(situations,) Poisson events and time at risk of two groups."""
    time = np.array(TIMES) * n / 2
    x1 = generator.poisson([r1 * time[0] for _, r1, _ in RATES]).astype(float)
    x2 = generator.poisson([r2 * time[1] for _, _, r2 in RATES]).astype(float)
    size = np.ones(len(RATES))
    return x1, time[0] * size, x2, time[1] * size


#: mean rate of two groups and the variance of the gamma frailty of subjects
CLUSTERED = (0.8, 0.8, 1.5)


def clustered(generator: np.random.Generator, n: int) -> tuple[FloatArray, FloatArray, BoolArray]:
    """(n,) events of subjects who differ in how often they have them, time at risk, and who is in group 1."""
    treated = np.arange(n) < n // 2
    time = np.where(treated, TIMES[0], TIMES[1]) * generator.uniform(0.5, 1.5, n)
    frailty = generator.gamma(1 / CLUSTERED[2], CLUSTERED[2], n)
    return (
        generator.poisson(np.where(treated, CLUSTERED[0], CLUSTERED[1]) * frailty * time).astype(float),
        time,
        treated,
    )


#: hazards per day of the event and of death, and the day around which subjects leave, in two groups; horizon in days
HAZARD, DEATH, LEAVING, HORIZON = 0.03, 0.01, (80.0, 25.0), 28.0


def first_event_probability(t: float = HORIZON) -> float:
    """P(event by t, before death) in both groups."""
    total = HAZARD + DEATH
    return HAZARD / total * (1 - float(np.exp(-total * t)))


def first_events(generator: np.random.Generator, n: int) -> tuple[FloatArray, IntArray, BoolArray]:
    """(n,) days to what came first, its status (0 left or end of study, 1 event, 2 death), and who is in group 1.

    Groups have the same hazards, but those of group 2 leave earlier.
    """
    first = np.arange(n) < n // 2
    event, death = generator.exponential(1 / HAZARD, n), generator.exponential(1 / DEATH, n)
    leaves = generator.exponential(np.where(first, LEAVING[0], LEAVING[1]))
    end = np.minimum(leaves, HORIZON + 14.0)
    time = np.minimum(np.minimum(event, death), end)
    status = np.where(time == event, 1, np.where(time == death, 2, 0))
    return time, status.astype(np.int64), first


SYSTEMS, TERMS = 8, 5


def terms(generator: np.random.Generator, n: int) -> tuple[Table, IntArray, BoolArray]:
    """(terms,) counts of two groups, the body system of each term, and which terms differ: three in each of two systems
    and one in a third.
    """
    group = np.repeat(np.arange(SYSTEMS), TERMS)
    differs = np.isin(np.arange(SYSTEMS * TERMS), [0, 1, 2, 5, 6, 7, 10])
    p2 = generator.uniform(0.03, 0.25, group.size)
    p1 = np.where(differs, np.minimum(p2 + 0.2, 0.9), p2)
    size = np.full(group.size, n // 2)
    x1, x2 = generator.binomial(size, p1), generator.binomial(size, p2)
    return (x1.astype(float), size.astype(float), x2.astype(float), size.astype(float)), group, differs
