"""Evidence over studies: pooling, regression on a moderator, and times read off a curve.

A replicate is a set of independent trials (its subjects are the trials), each drawn from distributions that are written
here, so that the truth of every row is a constant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit, ndtr, ndtri, stdtr, stdtrit

from kapstats._types import FloatArray, IntArray
from kapstats.certification.estimators.common import (
    Analysis,
    Answer,
    Certificate,
    Estimator,
    Rows,
    by_level,
    generator,
    known,
    wald,
)
from kapstats.kernels import meta, meta_regression, network
from kapstats.kernels.beta_binomial import beta_binomial
from kapstats.kernels.reconstruction import patients
from kapstats.simulation.draw import Draw
from kapstats.simulation.scenario import Arm, Scenario

EFFECT, TAU, SD = -4.0, 2.5, 11.0  # points of a depression score: mean effect, its spread, between patients
SLOPE = -2.0  # points per unit of the moderator
RISK, ODDS, RHO = 0.02, float(np.log(3.0)), 0.02  # rare event in controls, its log odds ratio, within-study correlation
RATES, PATIENTS, END = (0.05, 0.10), 150, 24.0  # events per month in two arms of a trial followed for END months
CLICKED, GRID = 0.003, 3.0  # error of a click on the curve, months between numbers at risk


def trials() -> Scenario:
    """Independent trials of a drug against placebo; its subjects are trials."""
    arms = (Arm(label="Placebo", code=0), Arm(label="Drug", code=1))
    return Scenario(name="independent-trials", title="Independent trials", arms=arms, subjects=10)


@dataclass(frozen=True, slots=True)
class Effects:
    """Mean differences, their squared standard errors and the moderator of k trials, (k,) each."""

    y: FloatArray
    v: FloatArray
    x: FloatArray


def effects(d: Draw, slope: float = 0.0) -> Effects:
    """Trials of 10 to 80 patients per arm whose true effects differ."""
    rng, k = generator(d, "trials"), d.n
    n = rng.integers(10, 81, (2, k))
    x = rng.uniform(-1, 1, k)
    variance = SD**2 * rng.chisquare(n - 1) / (n - 1)
    y = EFFECT + slope * x + TAU * rng.standard_normal(k) + SD * np.sqrt((1 / n).sum(axis=0)) * rng.standard_normal(k)
    return Effects(y, (variance / n).sum(axis=0), x)


def _pooled(model: str, t: bool) -> Analysis:
    """Inverse-variance pooling with Hartung and Knapp's interval, or with the normal one."""

    def one(d: Draw, level: float) -> tuple[float, float, float]:
        e = effects(d)
        found = meta.pool(e.y, e.v, model)
        if not t:
            return found.estimate, found.std_error, np.inf
        return found.estimate, meta.hartung_knapp(e.y, e.v, found.tau2, guard=False), d.n - 1.0

    return lambda s, draws, level: _student([one(d, level) for d in draws], level)


def _student(found: list[tuple[float, float, float]], level: float) -> Answer:
    """Limits by t on the degrees of freedom found, or normal ones."""
    estimate, error, df = (np.array(column)[:, None] for column in zip(*found, strict=True))
    normal, t = np.isinf(df), -np.abs(estimate / error)
    finite = np.where(normal, 1.0, df)
    half = np.where(normal, ndtri(0.5 + level / 2), stdtrit(finite, 0.5 + level / 2)) * error
    p = 2 * np.where(normal, ndtr(t), stdtr(finite, t))
    return Answer(estimate, error, estimate - half, estimate + half, p, np.isfinite(error))


def _regressed(t: bool) -> Analysis:
    """The slope on the moderator, with Knapp and Hartung's interval, or by common-effect weights and normal limits."""

    def one(d: Draw, level: float) -> tuple[float, float, float]:
        e = effects(d, SLOPE)
        fit = meta_regression.regress(e.y, e.v, np.column_stack([np.ones(d.n), e.x]), "reml" if t else "common")
        scale = fit.q_at_tau2 / (d.n - 2) if t else 1.0
        return float(fit.coefficients[1]), float(np.sqrt(scale * fit.covariance[1, 1])), d.n - 2.0 if t else np.inf

    return lambda s, draws, level: _student([one(d, level) for d in draws], level)


def counts(d: Draw, rho: float) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Rare events of two to one randomised trials; risks of every arm vary as a beta distribution, or (rho 0) by study
    with a common odds ratio."""
    rng, k = generator(d, "trials"), d.n
    n2 = rng.integers(20, 150, k)
    n1 = 2 * n2
    if rho:
        s = (1 - rho) / rho
        p2 = rng.beta(RISK * s, (1 - RISK) * s, k)
        high = expit(logit(RISK) + ODDS)
        p1 = rng.beta(high * s, (1 - high) * s, k)
    else:
        level = logit(RISK) + 0.5 * rng.standard_normal(k)
        p1, p2 = expit(level + ODDS), expit(level)
    return rng.binomial(n1, p1).astype(float), n1.astype(float), rng.binomial(n2, p2).astype(float), n2.astype(float)


def _rare(
    pool: Callable[[FloatArray, FloatArray, FloatArray, FloatArray], tuple[float, float]], rho: float
) -> Analysis:
    def one(d: Draw) -> tuple[float, float]:
        table = counts(d, rho)
        if 0 in (table[0].sum(), table[2].sum()):
            return np.nan, np.nan
        return pool(*table)

    def analyse(scenario: Scenario, draws: Sequence[Draw], level: float) -> Answer:
        found = np.array([one(d) for d in draws])
        return wald(found[:, :1], found[:, 1:], level)

    return analyse


def _mantel_haenszel(a: FloatArray, n1: FloatArray, c: FloatArray, n2: FloatArray) -> tuple[float, float]:
    return meta.mantel_haenszel(a, n1, c, n2, "OR")


def _corrected(a: FloatArray, n1: FloatArray, c: FloatArray, n2: FloatArray) -> tuple[float, float]:
    """One half in every cell of a study with a zero cell, and inverse variances."""
    found = meta.pool(*meta.two_by_two(a, n1, c, n2, "OR"), "dl")
    return found.estimate, found.std_error


def _betabinomial(a: FloatArray, n1: FloatArray, c: FloatArray, n2: FloatArray) -> tuple[float, float]:
    k = len(a)
    X = np.column_stack([np.ones(2 * k), np.repeat([1.0, 0.0], k)])
    fit = beta_binomial(np.r_[a, c], np.r_[n1, n2], X)
    return (float(fit.coefficients[1]), float(np.sqrt(fit.covariance[1, 1]))) if fit.converged else (np.nan, np.nan)


def _crude(a: FloatArray, n1: FloatArray, c: FloatArray, n2: FloatArray) -> tuple[float, float]:
    """The odds ratio of the summed counts, as if they were of one trial."""
    cells = np.array([a.sum(), (n1 - a).sum(), c.sum(), (n2 - c).sum()])
    return float(np.log(cells[0] * cells[3] / (cells[1] * cells[2]))), float(np.sqrt((1 / cells).sum()))


def published(
    rng: np.random.Generator, rate: float, with_table: bool
) -> tuple[tuple[FloatArray, FloatArray], tuple[FloatArray, IntArray], int | None]:
    """What a paper shows of an arm: clicks on its curve, numbers at risk over time, the number of events."""
    time = rng.exponential(1 / rate, PATIENTS)
    stop = rng.uniform(2, END, PATIENTS)
    t, event = np.minimum(time, stop), time <= stop
    at = np.unique(t[event])
    n, d = np.array([(t >= x).sum() for x in at]), np.array([((t == x) & event).sum() for x in at])
    s = np.clip(np.cumprod(1 - d / n) + CLICKED * rng.standard_normal(len(at)), 0, 1)
    grid = np.arange(0, t.max(), GRID) if with_table else np.zeros(1)
    clicks = np.append(0.0, at), np.append(1.0, np.minimum.accumulate(s))
    return clicks, (grid, np.array([(t >= x).sum() for x in grid])), int(event.sum()) if with_table else None


def _read_off(with_table: bool) -> Analysis:
    """Log ratio of the rates of two arms, from times that are read off their curves."""

    def arm(rng: np.random.Generator, rate: float) -> tuple[float, float]:
        clicks, at_risk, events = published(rng, rate, with_table)
        made = patients(*clicks, *at_risk, events)
        return float(len(made.events)), float(made.events.sum() + made.censored.sum())

    def one(d: Draw) -> tuple[float, float]:
        rng = generator(d, "trials")
        (d1, t1), (d0, t0) = (arm(rng, rate) for rate in reversed(RATES))
        return float(np.log(d1 / t1 / (d0 / t0))), float(np.sqrt(1 / d1 + 1 / d0))

    def analyse(scenario: Scenario, draws: Sequence[Draw], level: float) -> Answer:
        found = np.array([one(d) for d in draws])
        return wald(found[:, :1], found[:, 1:], level)

    return analyse


def _constant(quantity: str, value: float) -> Rows:
    return known({"quantity": quantity, "contrast": "Drug - Placebo", "value": value})


#: effects of three treatments, what each trial compared, patients per arm from and to
TREATMENTS, DESIGNS, ARM = np.array([0.0, -3.0, -5.0]), ((0, 1), (0, 2), (1, 2), (0, 1, 2)), (20, 61)


def compared(d: Draw) -> list[tuple[IntArray, FloatArray, FloatArray, IntArray]]:
    """Treatments, means, standard deviations and sizes of the arms of trials; any two arms differ between trials by
    TAU about the difference of their treatments."""
    rng, found = generator(d, "network"), []
    for k in range(d.n):
        arm = np.array(DESIGNS[k % len(DESIGNS)], dtype=np.int64)
        n = rng.integers(*ARM, arm.size)
        own = TREATMENTS[arm] + TAU / np.sqrt(2) * rng.standard_normal(arm.size) + 4.0 * rng.standard_normal()
        mean = own + SD / np.sqrt(n) * rng.standard_normal(arm.size)
        found.append((arm, mean, SD * np.sqrt(rng.chisquare(n - 1) / (n - 1)), n))
    return found


def _network(model: str) -> Analysis:
    def analyse(scenario: Scenario, draws: Sequence[Draw], level: float) -> Answer:
        estimate, error = np.empty((2, len(draws), TREATMENTS.size - 1))
        for i, d in enumerate(draws):
            arms, means, sd, n = zip(*compared(d), strict=True)
            stacked = network.stack(list(means), [s**2 / m for s, m in zip(sd, n, strict=True)], list(arms))
            found = network.fit(stacked, stacked.design(TREATMENTS.size), model)
            estimate[i], error[i] = found.beta, np.sqrt(np.diag(found.covariance))
        return wald(estimate, error, level)

    return analyse


_NETWORK = by_level("difference of means", {"second": TREATMENTS[1], "third": TREATMENTS[2]})
_MEAN = _constant("mean of effects", EFFECT)
_SLOPE = _constant("slope of effects", SLOPE)
_OR = _constant("log odds ratio", ODDS)
_RATE = _constant("log rate ratio", float(np.log(RATES[1] / RATES[0])))

ESTIMATORS: tuple[Estimator, ...] = (
    Estimator("meta_analysis", (), _MEAN, _pooled("reml", True)),
    Estimator("meta_analysis-dl-normal", (), _MEAN, _pooled("dl", False)),
    Estimator("meta_analysis-mantel-haenszel", (), _OR, _rare(_mantel_haenszel, 0.0)),
    Estimator("meta_analysis-corrected", (), _OR, _rare(_corrected, 0.0)),
    Estimator("meta_analysis-beta-binomial", (), _OR, _rare(_betabinomial, RHO)),
    Estimator("meta_analysis-summed-counts", (), _OR, _rare(_crude, RHO)),
    Estimator("meta_regression", (), _SLOPE, _regressed(True)),
    Estimator("meta_regression-common-normal", (), _SLOPE, _regressed(False)),
    Estimator("network_meta_analysis", (), _NETWORK, _network("reml")),
    Estimator("network_meta_analysis-common", (), _NETWORK, _network("common")),
    Estimator("reconstruct_ipd", (), _RATE, _read_off(True)),
    Estimator("reconstruct_ipd-curve-only", (), _RATE, _read_off(False)),
)

CERTIFICATES: tuple[Certificate, ...] = (
    Certificate("meta_analysis", "independent-trials", 5),
    Certificate("meta_analysis-dl-normal", "independent-trials", 5, control=True, note="5 trials"),
    Certificate("meta_analysis-mantel-haenszel", "independent-trials", 60, note="rare events"),
    Certificate("meta_analysis-corrected", "independent-trials", 60, control=True, note="one half in zero cells"),
    Certificate("meta_analysis-beta-binomial", "independent-trials", 30, note="rare events"),
    Certificate("meta_analysis-summed-counts", "independent-trials", 30, control=True, note="studies ignored"),
    Certificate("meta_regression", "independent-trials", 10),
    Certificate("meta_regression-common-normal", "independent-trials", 10, control=True, note="tau^2 ignored"),
    Certificate("network_meta_analysis", "independent-trials", 40, note="three treatments, some trials of all three"),
    Certificate("network_meta_analysis-common", "independent-trials", 40, control=True, note="tau^2 ignored"),
    Certificate("reconstruct_ipd", "independent-trials", 2, note="clicks within 0.003, numbers at risk"),
    Certificate("reconstruct_ipd-curve-only", "independent-trials", 2, control=True, note="no numbers at risk"),
)

#: scenarios that only certificates use
SCENARIOS: dict[str, Callable[[], Scenario]] = {"independent-trials": trials}
