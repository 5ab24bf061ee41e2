"""Group sequential procedures on simulated score processes with a known drift."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

import kapstats as ks
from kapstats.kernels import group_sequential as gs


def paths(rng, runs, information, drift=0.0):
    """Standardised statistics (runs, K) of a Brownian motion with drift."""
    steps = np.diff(np.asarray(information), prepend=0.0)
    score = np.cumsum(rng.normal(drift * steps, np.sqrt(steps), (runs, steps.size)), axis=1)
    return score / np.sqrt(information)


def test_type_one_error_is_kept_and_repeated_looks_at_1_96_do_not_keep_it():
    rng, t, runs = np.random.default_rng(40), (0.4, 0.7, 1.0), 200_000
    z = paths(rng, runs, t)
    error = 3.5 * np.sqrt(0.025 * 0.975 / runs)
    for spending in ("obrien-fleming", "pocock", "hwang-shih-decani"):
        c = ks.GroupSequentialDesign(t, spending=spending).critical_values
        assert abs(np.mean((z >= c).any(axis=1)) - 0.025) < error
    assert np.mean((z >= 1.959964).any(axis=1)) > 0.025 + 10 * error


def test_power_and_conditional_power_are_frequencies():
    rng, t = np.random.default_rng(41), (0.5, 1.0)
    design = ks.GroupSequentialDesign(t, events=80)
    drift = np.log(2.0) * np.sqrt(80) / 2.0
    z = paths(rng, 100_000, t, drift)
    reject = (z >= design.critical_values).any(axis=1)
    expected = design.power(0.5).filter(quantity="power")["estimate"][0]
    np.testing.assert_allclose(reject.mean(), expected, atol=0.005)
    near = np.abs(z[:, 0] - 1.0) < 0.02
    later = z[near, 1] >= design.critical_values[1]
    promised = design.analyse(1.0, 40).conditional_power(0.5)
    assert abs(later.mean() - promised) < 3.5 * np.sqrt(0.25 / near.sum()) + 0.01


def test_stagewise_p_is_uniform_and_the_median_unbiased_estimate_is_median_unbiased():
    rng, t, theta = np.random.default_rng(42), np.array([0.5, 1.0]), 2.4
    c = ks.GroupSequentialDesign(tuple(t), spending="pocock").critical_values
    z = paths(rng, 4_000, t, theta)
    stage = np.where(z[:, 0] >= c[0], 0, 1)
    last = z[np.arange(len(z)), stage]
    p = np.array([gs.stagewise_p(t, c, k, x, theta) for k, x in zip(stage, last, strict=True)])
    # p at the true drift is uniform: the estimate exceeds the truth exactly when p < 1/2
    error = 3.5 * np.sqrt(0.25 / len(z))
    assert abs(np.mean(p < 0.5) - 0.5) < error
    for level in (0.025, 0.975):
        assert abs(np.mean(p < level) - level) < 3.5 * np.sqrt(0.025 * 0.975 / len(z))
    # the p value of a fixed design at the analysis where the trial stopped fails the same check
    fixed = ndtr(-(last - theta * np.sqrt(t[stage])))
    assert abs(np.mean(fixed < 0.5) - 0.5) > error


def test_two_stage_combination_keeps_its_size_when_the_second_stage_is_enlarged_at_the_interim():
    rng, runs = np.random.default_rng(43), 200_000
    z1, fresh = rng.normal(size=runs), rng.normal(size=runs)
    enlarge = (z1 > 0.2) & (z1 < 1.4)
    D1, D2 = 30.0, np.where(enlarge, 120.0, 30.0)
    design = ks.GroupSequentialDesign((0.5, 1.0), combination="inverse-normal")
    c = design.critical_values
    combined = (z1 + fresh) / np.sqrt(2.0)
    pooled = (np.sqrt(D1) * z1 + np.sqrt(D2) * fresh) / np.sqrt(D1 + D2)
    stop = z1 >= c[0]
    error = 3.5 * np.sqrt(0.025 * 0.975 / runs)
    assert abs(np.mean(stop | (combined >= c[1])) - 0.025) < error
    # the pooled statistic with the same boundary does not keep it: the data chose the sample size
    assert abs(np.mean(stop | (pooled >= c[1])) - 0.025) > error
