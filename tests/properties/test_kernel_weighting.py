"""Propensity and principal-score weights where a covariate of two values makes every answer a count."""

import numpy as np

from kapstats.kernels.principal_score import stratum_means
from kapstats.kernels.propensity import propensity, weighted_risks


def cells(groups):
    """Sizes of `groups` groups in two cells, rows in no order."""
    z = np.repeat([0, 1], [30, 45])
    group = np.concatenate([np.arange(30) ** 2 % 7 % groups, np.arange(45) % 5 % groups])
    order = np.random.default_rng(1).permutation(75)
    return z[order], group[order].astype(np.int64)


def test_propensities_of_two_cells_are_the_shares_of_the_cells():
    z, group = cells(3)
    fit = propensity(np.column_stack([np.ones(75), z]), group, 3)
    assert fit.converged
    for cell in (0, 1):
        shares = np.bincount(group[z == cell], minlength=3) / (z == cell).sum()
        np.testing.assert_allclose(fit.probability[z == cell], np.tile(shares, ((z == cell).sum(), 1)), atol=1e-6)
    member = (group[:, None] == [1, 2]) - fit.probability[:, 1:]
    np.testing.assert_allclose(
        fit.score, np.column_stack([member[:, 0], member[:, 0] * z, member[:, 1], member[:, 1] * z])
    )


def test_weighted_risks_of_two_cells_are_standardised_risks_with_their_influence():
    """1/e_g(z) (Y - m_gz) in the group, plus m_gz - risk_g for all: the weights being estimated is in it."""
    z, group = cells(3)
    event = (np.random.default_rng(2).random((75, 2)) < 0.4).astype(float)
    fit = propensity(np.column_stack([np.ones(75), z]), group, 3)
    risk, influence = weighted_risks(event, 1 / fit.probability[np.arange(75), group], group, 3, fit.score)
    for g in range(3):
        mean = np.array([event[(group == g) & (z == cell)].mean(axis=0) for cell in (0, 1)])
        standard = (30 * mean[0] + 45 * mean[1]) / 75
        np.testing.assert_allclose(risk[g], standard, atol=1e-6)
        own = np.where(group == g, 1 / fit.probability[:, g], 0.0)[:, None]
        np.testing.assert_allclose(influence[:, g], own * (event - mean[z]) + mean[z] - standard, atol=1e-4)


def test_principal_stratum_means_of_two_cells_are_weighted_by_the_shares_without_the_event():
    z, arm = cells(2)
    rng = np.random.default_rng(4)
    active, event, y = arm == 1, rng.random(75) < 0.3 + 0.3 * z, rng.normal(size=75)
    y[rng.random(75) < 0.2] = np.nan
    times = np.vstack([np.ones(75), rng.integers(0, 3, 75)])
    means, share = stratum_means(np.column_stack([np.ones(75), z]), y, active, event, times)
    for row, count in enumerate(times):
        again = np.repeat(np.arange(75), count.astype(int))
        a, e, v, cell = active[again], event[again], y[again], z[again]
        free = np.array([np.mean(~e[a & (cell == c)]) for c in (0, 1)])[cell]
        there = ~np.isnan(v)
        control = np.average(v[~a & there], weights=free[~a & there])
        np.testing.assert_allclose(means[row], [v[a & ~e & there].mean(), control], atol=1e-6)
        np.testing.assert_allclose(share[row], np.mean(~e[a]))


def test_a_stratum_that_nobody_is_seen_in_has_no_means():
    x, active = np.ones((6, 1)), np.arange(6) < 3
    means, share = stratum_means(x, np.arange(6.0), active, active, np.ones((1, 6)))
    assert np.isnan(means).all()
    np.testing.assert_array_equal(share, [0.0])
