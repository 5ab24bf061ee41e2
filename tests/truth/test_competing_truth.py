"""Competing risks against a known truth: two exponential causes and uniform censoring, drawn without the estimators."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from kapstats.kernels import aalen_johansen as aj
from kapstats.kernels import fine_gray as fg

HAZARDS, HORIZON = (0.03, 0.02), 20.0


def draw(rng, n, hazards=HAZARDS):
    total = sum(hazards)
    latent, cause = rng.exponential(1.0 / total, n), 1 + (rng.random(n) > hazards[0] / total)
    censoring = rng.uniform(5.0, 60.0, n)
    return np.minimum(latent, censoring), np.where(latent <= censoring, cause, 0)


def true_incidence(hazards=HAZARDS):
    total = sum(hazards)
    return hazards[0] / total * -np.expm1(-total * HORIZON)


def at_horizon(found):
    k = np.searchsorted(found.time, HORIZON, side="right") - 1
    return found.cif[k, 0], found.se_cif[k, 0], found.se_aalen[k, 0]


def test_cumulative_incidence_is_unbiased_and_its_limits_cover():
    rng, truth, z = np.random.default_rng(20), true_incidence(), ndtri(0.975)
    runs = np.array([at_horizon(aj.aalen_johansen(*draw(rng, 150), 2)) for _ in range(600)])
    error = runs[:, 0].std() / np.sqrt(len(runs))
    assert abs(runs[:, 0].mean() - truth) < 3.5 * error
    np.testing.assert_allclose(runs[:, 1].mean() / runs[:, 0].std(), 1.0, atol=0.1)
    np.testing.assert_allclose(runs[:, 2].mean() / runs[:, 0].std(), 1.0, atol=0.1)
    coverage = np.mean(np.abs(runs[:, 0] - truth) < z * runs[:, 1])
    assert abs(coverage - 0.95) < 0.03


def test_one_minus_kaplan_meier_fails_the_same_check():
    rng, truth = np.random.default_rng(20), true_incidence()
    runs = []
    for _ in range(300):
        time, cause = draw(rng, 150)
        runs.append(at_horizon(aj.aalen_johansen(time, np.where(cause == 1, 1, 0), 1))[0])
    assert np.mean(runs) - truth > 10 * np.std(runs) / np.sqrt(len(runs))


def test_gray_keeps_its_size_where_the_cause_specific_logrank_does_not():
    """Equal incidence of the cause with unequal competing hazards: Gray holds 5 %, the log-rank test does not."""
    rng, rejections = np.random.default_rng(21), np.zeros(2)
    runs = 400
    for _ in range(runs):
        n = 200
        group = np.arange(n) % 2
        mine = rng.random(n) < 0.5
        # cause 1: probability 1/2, exponential time, alike in both groups; cause 2 comes early in group 1
        late = rng.exponential(np.where(group == 1, 2.0, 30.0))
        latent = np.where(mine, rng.exponential(15.0, n), late)
        censoring = rng.uniform(10.0, 60.0, n)
        time, cause = np.minimum(latent, censoring), np.where(latent <= censoring, np.where(mine, 1, 2), 0)
        rejections[0] += aj.gray_test(time, cause, group, 2).p_value < 0.05
        rejections[1] += aj.gray_test(time, np.where(cause == 1, 1, 0), group, 2).p_value < 0.05
    size, wrong = rejections / runs
    assert abs(size - 0.05) < 3.5 * np.sqrt(0.05 * 0.95 / runs)
    assert wrong > 0.15


def fine_gray_data(rng, n, beta):
    """Fine and Gray's own scheme: F1(t|x) = 1 - (1 - p (1 - exp(-t)))^exp(b x), cause 2 exponential."""
    x, p = rng.normal(size=n), 0.5
    total = 1.0 - (1.0 - p) ** np.exp(beta * x)
    first, u = rng.random(n) < total, rng.random(n)
    inner = 1.0 - (1.0 - (1.0 - u * total) ** np.exp(-beta * x)) / p
    latent = np.where(first, -np.log(np.maximum(inner, 1e-300)), rng.exponential(np.exp(1.5 * x)))
    censoring = rng.uniform(0.2, 3.0, n)
    return np.minimum(latent, censoring), np.where(latent <= censoring, np.where(first, 1, 2), 0), x[:, None]


def test_fine_gray_is_unbiased_and_covers_and_the_cause_specific_fit_does_not():
    rng, beta, z = np.random.default_rng(22), 0.6, ndtri(0.975)
    runs, naive = [], []
    for _ in range(300):
        time, cause, X = fine_gray_data(rng, 300, beta)
        fit = fg.fine_gray(time, cause, X)
        runs.append((fit.coef[0], np.sqrt(fit.vcov[0, 0])))
        naive.append(fg.fine_gray(time, np.where(cause == 2, 0, cause), X).coef[0])
    estimate, error = np.array(runs).T
    assert abs(estimate.mean() - beta) < 3.5 * estimate.std() / np.sqrt(len(runs)) + 0.01
    np.testing.assert_allclose(error.mean() / estimate.std(), 1.0, atol=0.12)
    assert abs(np.mean(np.abs(estimate - beta) < z * error) - 0.95) < 0.045
    assert abs(np.mean(naive) - beta) > 5 * np.std(naive) / np.sqrt(len(naive))
