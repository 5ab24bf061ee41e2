"""Relapse found at visits: interval likelihoods recover the truth, dating it at the visit does not."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from kapstats.kernels import interval_ph, npmle
from kapstats.kernels import parametric_survival as ml

SCALE, SPACING, LOG_HR, END = 20.0, 8.0, -0.7, 48.0


def draw(rng, n):
    """Exponential relapse, visits every 8 weeks with jitter, follow-up to 48 weeks: (left, right], arm."""
    arm = np.arange(n) % 2
    latent = rng.exponential(SCALE * np.exp(-LOG_HR * arm))
    visits = np.arange(1, 7) * SPACING + rng.uniform(-2.0, 2.0, (n, 6))
    visits[:, -1] = END
    left = np.where(visits < latent[:, None], visits, 0.0).max(1)
    right = np.where(visits >= latent[:, None], visits, np.inf).min(1)
    return left, right, arm[:, None].astype(float)


def weibull(left, right, arm):
    n = left.size
    data = ml.Observed(left, right, np.zeros(n), np.ones(n))
    location = np.column_stack([np.ones(n), arm, np.zeros(n)])
    scale = np.column_stack([np.zeros((n, 2)), np.ones(n)])
    return ml.maximise(ml.WEIBULL, lambda t, rows: [location[rows], scale[rows]], data, np.array([3.0, 0.0, 0.0]))


def test_interval_likelihood_recovers_the_weibull_shape_and_visit_dates_do_not():
    rng, runs, dated, z = np.random.default_rng(30), [], [], ndtri(0.975)
    for _ in range(120):
        left, right, arm = draw(rng, 150)
        fit = weibull(left, right, arm)
        runs.append((fit.theta[2], np.sqrt(fit.vcov[2, 2])))
        seen = np.isfinite(right)
        dated.append(weibull(np.where(seen, right, left), right, arm).theta[2])
    value, error = np.array(runs).T
    assert abs(value.mean()) < 3.5 * value.std() / np.sqrt(len(runs)) + 0.02
    assert abs(np.mean(np.abs(value) < z * error) - 0.95) < 0.07
    # the log scale (truth 0) is badly wrong when relapse is dated at the visit that found it
    assert np.mean(dated) < -0.2
    assert abs(np.mean(dated)) > 10 * np.std(dated) / np.sqrt(len(dated))


def test_turnbull_is_unbiased_at_a_visit_and_the_visit_dated_curve_is_not_between_visits():
    rng, at, truth = np.random.default_rng(31), 14.0, np.exp(-14.0 / SCALE)
    ends, middle = [], []
    for _ in range(120):
        latent = rng.exponential(SCALE, 120)
        visits = np.sort(rng.uniform(0.0, END, (120, 8)), axis=1)
        left = np.where(visits < latent[:, None], visits, 0.0).max(1)
        right = np.where(visits >= latent[:, None], visits, np.inf).min(1)
        middle.append(npmle.survival_at(npmle.npmle(left, right), np.array([at]))[0])
        seen = np.isfinite(right)
        ends.append(npmle.survival_at(npmle.npmle(np.where(seen, right, left), right), np.array([at]))[0])
    assert abs(np.mean(middle) - truth) < 0.03
    assert np.mean(ends) - truth > 0.05


def test_semiparametric_hazard_ratio_is_unbiased_and_covers():
    rng, z, runs = np.random.default_rng(32), ndtri(0.975), []
    for _ in range(120):
        fit = interval_ph.interval_ph(*draw(rng, 150))
        runs.append((fit.coef[0], np.sqrt(fit.vcov[0, 0])))
    value, error = np.array(runs).T
    assert abs(value.mean() - LOG_HR) < 3.5 * value.std() / np.sqrt(len(runs)) + 0.03
    assert abs(np.mean(np.abs(value - LOG_HR) < z * error) - 0.95) < 0.07
    # the same check refuses a standard error that ignores half of the information
    assert abs(np.mean(np.abs(value - LOG_HR) < z * error / 2.0) - 0.95) > 0.07
