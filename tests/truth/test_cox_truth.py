"""Hazard ratios, log-rank size and restricted means against known truth, each check with a control that fails it.

Replicate i draws from ``SeedSequence(entropy, spawn_key=(study, i))``.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtri

from kapstats.kernels.cox_newton import cox_data, fit
from kapstats.kernels.cox_residuals import cluster_sums, score_residuals
from kapstats.kernels.product_limit import product_limit, restricted_mean
from kapstats.kernels.risk_sets import risk_sets
from kapstats.kernels.weighted_logrank import group_counts, quadratic, weight_function, weighted_scores

Z = float(ndtri(0.975))


def generator(study: int, i: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(20240517, spawn_key=(study, i)))


def near(rate: float, truth: float, replicates: int, width: float = 4.0) -> bool:
    """Whether a simulated rate lies within `width` Monte-Carlo standard errors of the truth."""
    return abs(rate - truth) <= width * np.sqrt(truth * (1 - truth) / replicates)


def test_coverage_and_bias_of_the_hazard_ratio_under_weekly_visits_and_ties():
    """n = 200, log HR -0.6, relapse seen at weekly visits: Efron covers; the untied product of 1/n weights does not
    enter here, but Breslow's bias towards zero shows as the control."""
    replicates, beta = 700, -0.6
    estimates = np.empty((replicates, 2))
    covered = 0
    for i in range(replicates):
        rng = generator(1, i)
        arm = (np.arange(200) % 2).astype(float)
        time = rng.exponential(1 / (0.25 * np.exp(beta * arm)))
        censored = rng.uniform(4, 12, 200)
        seen = np.ceil(np.minimum(time, censored))
        sets = risk_sets(seen, time <= censored)
        best = fit(cox_data(sets, arm[:, None]))
        se = 1 / np.sqrt(best.at.information[0, 0])
        estimates[i] = best.b[0], fit(cox_data(sets, arm[:, None], efron=False)).b[0]
        covered += abs(best.b[0] - beta) <= Z * se
    assert near(covered / replicates, 0.95, replicates)
    error = estimates.std(axis=0) / np.sqrt(replicates)
    bias = estimates.mean(axis=0) - beta
    assert abs(bias[0]) < 0.025
    assert bias[1] > 0.025 + 2 * error[1]


def test_delayed_entry_needs_the_risk_set_to_know_it():
    """Treated patients enter later; the control ignores entry and credits them with the time before it."""
    replicates, beta = 400, -0.7
    found = np.empty((replicates, 2))
    covered = np.zeros(2)
    for i in range(replicates):
        rng = generator(2, i)
        x = rng.integers(2, size=600).astype(float)
        time, entry = rng.exponential(1 / (0.1 * np.exp(beta * x))), rng.uniform(0, 4 + 11 * x)
        kept = time > entry
        time, entry, x = time[kept], entry[kept], x[kept]
        event, stop = time <= entry + 10, np.minimum(time, entry + 10)
        for j, start in enumerate((entry, None)):
            best = fit(cox_data(risk_sets(stop, event, start), x[:, None]))
            found[i, j] = best.b[0]
            covered[j] += abs(best.b[0] - beta) <= Z / np.sqrt(best.at.information[0, 0])
    assert near(covered[0] / replicates, 0.95, replicates)
    assert not near(covered[1] / replicates, 0.95, replicates)
    assert abs(found[:, 0].mean() - beta) < 0.03


def test_cluster_robust_errors_cover_where_model_errors_do_not():
    """40 sites of 10, treatment by site, gamma frailty: the marginal log HR is estimated by a large run."""
    replicates, sites, size = 400, 40, 10

    def draw(rng, n_sites):
        site = np.repeat(np.arange(n_sites), size)
        arm = (site % 2).astype(float)
        frailty = rng.gamma(1.5, 1 / 1.5, n_sites)[site]
        time = rng.exponential(1 / (0.1 * frailty))
        return np.minimum(time, 10.0), time <= 10.0, arm, site

    covered = np.zeros(2)
    for i in range(replicates):
        time, event, arm, site = draw(generator(3, i), sites)
        sets = risk_sets(time, event)
        data = cox_data(sets, arm[:, None])
        best = fit(data)
        naive = 1 / best.at.information[0, 0]
        D = cluster_sums(sets.unsort(score_residuals(data, best.b)), site) * naive
        for j, variance in enumerate((float((D**2).sum()), naive)):
            covered[j] += abs(best.b[0]) <= Z * np.sqrt(variance)
    assert covered[0] / replicates > 0.91
    assert covered[1] / replicates < 0.80


def test_size_of_the_log_rank_test_stratified_where_it_has_to_be():
    """Risk and allocation both differ by stratum: the stratified test keeps its size, the pooled one does not."""
    replicates = 1500
    rejected = np.zeros(2)
    for i in range(replicates):
        rng = generator(4, i)
        stratum = np.repeat([0, 1], 60)
        arm = (rng.random(120) < np.where(stratum == 0, 0.3, 0.7)).astype(np.int64)
        time = rng.exponential(np.where(stratum == 0, 20.0, 5.0))
        event, stop = time <= 15, np.minimum(np.ceil(time), 15)
        for j, strata in enumerate((stratum, None)):
            counts = group_counts(risk_sets(stop, event, None, strata), arm, 2)
            found = weighted_scores(counts, weight_function(counts, "fleming-harrington")[None])
            rejected[j] += quadratic(found.score[0], found.covariance[0, 0], found.expected[0])[0] > Z**2
    assert near(rejected[0] / replicates, 0.05, replicates)
    assert rejected[1] / replicates > 0.2


def piecewise_mean(rates: tuple[float, float], change: float, tau: float) -> float:
    """E min(T, tau) of a hazard that is rates[0] up to `change` and rates[1] after."""
    first, second = rates
    early = (1 - np.exp(-first * change)) / first
    return early + np.exp(-first * change) * (1 - np.exp(-second * (tau - change))) / second


def test_restricted_mean_under_crossing_hazards():
    """Hazards cross at week 6. The variance of min(T, tau) itself (not of its mean) and the mean of the censored times
    are the controls."""
    replicates, n, tau, change = 600, 120, 16.0, 6.0
    rates = ((0.03, 0.12), (0.09, 0.02))
    truth = piecewise_mean(rates[1], change, tau) - piecewise_mean(rates[0], change, tau)
    covered = np.zeros(3)
    for i in range(replicates):
        rng = generator(5, i)
        parts = []
        for (first, second), follow_up in zip(rates, (30.0, 20.0), strict=True):
            target = rng.exponential(size=n)
            time = np.where(target < first * change, target / first, change + (target - first * change) / second)
            stop = np.minimum(time, rng.uniform(2, follow_up, n))
            stop[0] = max(stop[0], tau)
            sets = risk_sets(stop, time <= stop)
            curve = product_limit(sets)
            mean, variance = restricted_mean(sets.time, curve.n_event, curve.n_risk, curve.survival, tau)
            censored = np.minimum(stop, tau)
            parts.append((mean, variance, censored.var(), censored.mean(), censored.var() / n))
        (m0, v0, s0, c0, w0), (m1, v1, s1, c1, w1) = parts
        covered += [
            abs(m1 - m0 - truth) <= Z * np.sqrt(v0 + v1),
            abs(m1 - m0 - truth) <= Z * np.sqrt(s0 + s1),
            abs(c1 - c0 - truth) <= Z * np.sqrt(w0 + w1),
        ]
    rate = covered / replicates
    assert near(rate[0], 0.95, replicates)
    assert rate[1] == pytest.approx(1.0, abs=1e-3)
    assert not near(rate[1], 0.95, replicates)
    assert not near(rate[2], 0.95, replicates)
