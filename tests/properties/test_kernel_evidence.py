"""Kernels of evidence at their edges: tied ranks, networks without a degree of freedom for heterogeneity."""

import numpy as np
import pytest
from scipy.stats import kendalltau

from kapstats.kernels import meta, meta_mixed, network, reconstruction, small_studies


@pytest.mark.parametrize("ties", [(4, 0), (0, 3), (4, 3)])
def test_kendall_with_ties_is_normal_with_their_variance(ties):
    """scipy divides the score by the same standard deviation; ties in one, in the other and in both."""
    rng = np.random.default_rng(7)
    a, b = (rng.integers(0, tied, 20).astype(float) if tied else rng.normal(size=20) for tied in ties)
    expected = kendalltau(a, b, method="asymptotic")
    tau, p = small_studies.kendall(a, b)
    assert tau == pytest.approx(expected.statistic, rel=1e-12)
    assert p == pytest.approx(expected.pvalue, rel=1e-9)


def test_kendall_of_few_ranks_is_exact_and_of_one_value_nothing():
    expected = kendalltau([1, 2, 3, 4, 5], [2, 1, 3, 5, 4], method="exact")
    tau, p = small_studies.kendall(np.arange(5.0), np.array([2.0, 1, 3, 5, 4]))
    assert (tau, p) == pytest.approx((expected.statistic, expected.pvalue), rel=1e-12)
    assert np.isnan(small_studies.kendall(np.ones(5), np.arange(5.0))).all()


@pytest.mark.parametrize("model", ["common", "dl", "reml"])
def test_a_network_of_one_study_per_comparison_has_no_heterogeneity_to_estimate(model):
    y, V = np.array([0.3, -0.2]), np.diag([0.04, 0.09])
    chain = network.Network(y, V, np.eye(2), np.array([0, 1]), np.array([1, 2]), np.array([0, 1]))
    found = network.fit(chain, np.array([[1.0, 0.0], [-1.0, 1.0]]), model)
    np.testing.assert_allclose(found.beta, [0.3, 0.1], atol=1e-12)
    np.testing.assert_allclose(found.covariance, [[0.04, 0.04], [0.04, 0.13]], atol=1e-12)
    assert (found.tau2, found.df) == (0.0, 0)
    assert found.q == pytest.approx(0.0, abs=1e-12)


def test_the_score_of_a_network_is_the_derivative_of_its_restricted_likelihood():
    rng = np.random.default_rng(9)
    omega = np.kron(np.eye(4), [[1.0, 0.5], [0.5, 1.0]])
    V = np.kron(np.diag([0.1, 0.2, 0.3, 0.15]), [[2.0, 1.0], [1.0, 2.0]])
    X = np.tile(np.eye(2), (4, 1))
    arms = network.Network(
        rng.normal(size=8), V, omega, np.zeros(8, int), np.tile([1, 2], 4), np.repeat(np.arange(4), 2)
    )
    for tau2 in (0.05, 0.4):
        rise = network._restricted(arms, X, tau2 + 1e-5) - network._restricted(arms, X, tau2 - 1e-5)
        assert rise / 1e-5 == pytest.approx(network._score(arms, X, tau2), rel=1e-6)


def test_the_error_of_tau2_of_equally_precise_studies_is_that_of_a_normal_variance():
    """(v + tau^2) sqrt(2/k) by maximum likelihood, one study less by restricted likelihood."""
    y, v = np.array([0.1, 0.5, -0.2, 0.9, 0.3]), np.full(5, 0.05)
    assert meta.se_tau2(y, v, 0.15, "ml") == pytest.approx(0.2 * np.sqrt(2 / 5), rel=1e-12)
    assert meta.se_tau2(y, v, 0.15, "reml") == pytest.approx(0.2 * np.sqrt(2 / 4), rel=1e-12)


def test_likelihoods_of_studies_hold_their_derivatives():
    a, n1, c, n2 = (np.array(v, dtype=float) for v in ([3, 0, 7], [20, 15, 31], [5, 1, 2], [22, 14, 30]))
    theta, h = np.array([[-0.4, 0.3, 1.2]] * 3), 1e-5
    for kind in (
        meta_mixed.binomial(a, a + c + 1, np.log(n1 / n2)),
        meta_mixed.hypergeometric(a, n1, c, n2),
        meta_mixed._two_binomials(a, n1, c, n2, np.array([-1.0, -2.0, -0.5])),
    ):
        value, first, second = kind.at(theta)
        up, down = kind.at(theta + h), kind.at(theta - h)
        np.testing.assert_allclose(first, (up[0] - down[0]) / (2 * h), rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(second, (up[1] - down[1]) / (2 * h), rtol=1e-6, atol=1e-8)
        assert (second < 0).all()
        assert value.shape == (3, 3)


def test_proportions_beyond_their_range_are_nothing_or_all():
    n = np.array([20.0, 20.0])
    np.testing.assert_allclose(meta.as_proportion(np.array([-0.2, 1.7]), n, "arcsine"), [0.0, 1.0])
    np.testing.assert_allclose(meta.as_proportion(np.array([-0.2, 1.7]), n, "freeman-tukey"), [0.0, 1.0], atol=1e-12)
    for measure in ("raw", "log", "logit", "arcsine", "freeman-tukey"):
        y, _ = meta.one_proportion(np.array([3.0, 17.0]), n, measure)
        np.testing.assert_allclose(meta.as_proportion(y, n, measure), [0.15, 0.85], rtol=1e-9)


def test_an_interval_in_which_nobody_is_left_gives_no_events():
    t, s = np.array([1.0, 2.0]), np.array([0.5, 0.0])
    (left, drawn), events, _ = reconstruction._interval(t, s, (1, 1.0), 0.0, 3.0, 0)
    assert events.tolist() in ([1, 0], [0, 1])
    assert (left, drawn) == (0, 0.0)


def test_more_events_than_leave_are_taken_away_the_last_first():
    """Three leave in the first interval, in which the clicks put five events; the second holds what it can."""
    t, s = np.array([1.0, 2.0, 3.0, 6.0]), np.array([0.9, 0.8, 0.5, 0.4])
    table = reconstruction._Table(t, s, np.array([0.0, 5.0]), np.array([10, 7]), np.array([0, 0, 0, 1]))
    begun = reconstruction.Patients(np.array([1.0, 2.0, 3.0, 3.0, 3.0, 6.0]), np.array([5.5, 7.0]), 0.0, 0.0)
    x = table.start(begun)
    assert x[:-1].tolist() == [1, 1, 1, 1]
    assert (table.censored(x[:-1]) >= 0).all()
    assert x[-1] == 1
