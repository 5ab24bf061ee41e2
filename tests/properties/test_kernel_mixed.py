"""Kernels of mixed models: degrees of freedom of joint tests, ways around the edge of a structure, Wishart draws."""

import numpy as np
import pytest

from kapstats.kernels.block_arrow import inverse_triangle
from kapstats.kernels.count_regression import count_regression
from kapstats.kernels.covariance import STRUCTURES, Structure, sigma_of
from kapstats.kernels.covariance_work import natural, neutral, unit
from kapstats.kernels.dense_components import Component, derivatives
from kapstats.kernels.downdating import _broyden
from kapstats.kernels.gee import LEAST, _towards_none
from kapstats.kernels.gee import _independent as independent
from kapstats.kernels.gibbs import Draws, Prior, inverse_wishart, sample
from kapstats.kernels.kenward_roger import fai_cornelius
from kapstats.kernels.pattern_moments import layout, moments
from kapstats.kernels.random_effects_kr import positive_inverse
from kapstats.kernels.reference_based import Conditional, draw, joint_covariance
from kapstats.kernels.resampled_moments import resampled
from kapstats.kernels.separation import binary_cone, recession


@pytest.mark.parametrize(
    ("df", "joint"),
    [
        ([5.0, 5.0], 5.0),
        ([4.0, 8.0], 5.0),  # E = 2 + 4/3
        ([np.inf, 6.0], 10.0),  # E = 1 + 3/2
        ([np.inf, np.inf], np.inf),
        ([2.0, 9.0], 2.0),
        ([np.inf, 2.0], 2.0),
        ([np.nan, 9.0], np.nan),
    ],
)
def test_joint_degrees_of_freedom_without_a_word(df, joint):
    with np.errstate(all="raise"):
        found = fai_cornelius(np.array(df))
    assert found == pytest.approx(joint, nan_ok=True)


def test_a_huge_number_of_degrees_of_freedom_is_an_infinite_one():
    assert fai_cornelius(np.array([6.0, 1e13])) == pytest.approx(fai_cornelius(np.array([6.0, np.inf])), rel=1e-9)


def covariance(shape, theta):
    return sigma_of(shape, theta[None])[0]


def structure(name, groups=2, m=4):
    where = np.arange(m, dtype=float)
    distance = np.tile(np.abs(where[:, None] - where), (groups, 1, 1)) if name.startswith("sp") else None
    return Structure(name, m, np.arange(groups), distance)


@pytest.mark.parametrize("name", [*STRUCTURES, "diag"])
def test_every_working_parameter_is_a_covariance_matrix_and_neutral_ones_are_plain(name):
    shape = structure(name)
    rng = np.random.default_rng(1)
    for spread in (0.3, 1.5):
        theta = natural(shape, spread * rng.normal(size=shape.r - 1))
        sigma = covariance(shape, theta)
        assert sigma[0, 0, 0] == pytest.approx(1.0)
        assert (np.linalg.eigvalsh(sigma) > 0).all()
        # one unit for all variances, none for correlations
        np.testing.assert_allclose(
            covariance(shape, theta * np.where(unit(shape, 3.0 * theta) == 3.0, 3.0, 1.0)), 3 * sigma
        )
    plain = covariance(shape, natural(shape, neutral(shape)))
    np.testing.assert_allclose(np.diagonal(plain, axis1=1, axis2=2), 1.0)
    if not name.startswith("sp"):
        np.testing.assert_allclose(plain, np.broadcast_to(np.eye(4), plain.shape), atol=1e-15)


def test_compound_symmetry_reaches_from_the_edge_of_its_room_to_one():
    shape = structure("cs", groups=1)
    for work, correlation in ((-40.0, -1 / 3), (0.0, 1 / 3), (40.0, 1.0)):
        assert natural(shape, np.array([work]))[1] == pytest.approx(correlation)


def test_toeplitz_parameters_are_partial_autocorrelations():
    """Those of a first-order process are its correlation and then nothing: lags r, r^2, r^3."""
    for r in (0.6, -0.4):
        theta = natural(structure("toep", groups=1), np.array([np.arctanh(r), 0.0, 0.0]))
        np.testing.assert_allclose(theta, [1.0, r, r**2, r**3], atol=1e-14)
    (a, b) = (0.5, 0.3)  # order two: lag 2 is b (1 - a^2) + a^2
    theta = natural(structure("toep", groups=1), np.array([np.arctanh(a), np.arctanh(b), 0.0]))
    assert theta[2] == pytest.approx(b * (1 - a**2) + a**2)


def test_inverse_wishart_draws_have_their_mean_and_spread():
    """Mean psi/(nu - m - 1); a diagonal element is psi_ii over chi-square with nu - m + 1 degrees of freedom."""
    rng = np.random.default_rng(6)
    psi, nu = np.array([[2.0, 0.5, -0.3], [0.5, 1.0, 0.2], [-0.3, 0.2, 3.0]]), 14.0
    draws = np.array([inverse_wishart(psi, nu, rng) for _ in range(4000)])
    error = draws.std(axis=0) / np.sqrt(4000)
    assert (np.abs(draws.mean(axis=0) - psi / (nu - 4)) < 4.5 * error).all()
    chi = psi[1, 1] / draws[:, 1, 1]
    assert abs(chi.mean() - 12) < 4.5 * np.sqrt(24 / 4000)
    assert abs(chi.var() / 24 - 1) < 0.15


def test_derivatives_of_a_curved_covariance_are_those_of_its_likelihood():
    """V = s r^|lag| is not linear in r: both informations and Kenward and Roger's Q - R/4 hold second derivatives."""
    rng = np.random.default_rng(4)
    lag = np.abs(np.subtract.outer(np.arange(4.0), np.arange(4.0)))
    parts = [(np.column_stack([np.ones(4), rng.normal(size=4)]), rng.normal(size=4)) for _ in range(9)]
    X, y = np.concatenate([x for x, _ in parts]), np.concatenate([v for _, v in parts])

    def deviance(at):
        O = np.kron(np.eye(9), np.linalg.inv(at[0] * at[1] ** lag))
        A = X.T @ O @ X
        e = y - X @ np.linalg.solve(A, X.T @ O @ y)
        return np.linalg.slogdet(A)[1] - np.linalg.slogdet(O)[1] + e @ O @ e

    def pieces(s, r):
        by_r = np.where(lag > 0, lag * r ** (lag - 1.0), 0.0)
        curved = s * np.where(lag > 1, lag * (lag - 1.0) * r ** (lag - 2.0), 0.0)
        first, second = np.array([r**lag, s * by_r]), {(0, 1): by_r, (1, 0): by_r, (1, 1): curved}
        return derivatives([Component(x, v, s * r**lag, first, second) for x, v in parts], True), first, second

    at, h, step = np.array([1.3, 0.4]), 1e-4, np.eye(2)
    (found, first, second) = pieces(*at)
    slope = [(deviance(at + h * e) - deviance(at - h * e)) / (2 * h) for e in step]
    np.testing.assert_allclose(found.gradient, slope, rtol=1e-5)
    hessian = np.array(
        [(pieces(*(at + h * e))[0].gradient - pieces(*(at - h * e))[0].gradient) / (2 * h) for e in step]
    )
    np.testing.assert_allclose(found.pieces.observed, hessian / 2, rtol=1e-5)
    O = np.linalg.inv(at[0] * at[1] ** lag)
    for j, k in ((0, 0), (0, 1), (1, 1)):
        middle = O @ first[j] @ O @ first[k] @ O - O @ second.get((j, k), 0.0 * O) @ O / 4
        np.testing.assert_allclose(
            found.pieces.Q[j, k], sum(x.T @ middle @ x for x, _ in parts), rtol=1e-10, atol=1e-12
        )
    whole = np.kron(np.eye(9), O)
    P = whole - whole @ X @ np.linalg.inv(X.T @ whole @ X) @ X.T @ whole
    V = [np.kron(np.eye(9), f) for f in first]
    expected = [[np.trace(P @ a @ P @ b) / 2 for b in V] for a in V]
    np.testing.assert_allclose(found.pieces.expected, expected, rtol=1e-10)


def test_the_inverse_of_a_triangle_is_of_the_upper_one_unless_asked():
    upper = np.triu(np.random.default_rng(1).normal(size=(3, 3)) + 3 * np.eye(3))
    np.testing.assert_allclose(inverse_triangle(upper) @ upper, np.eye(3), atol=1e-14)
    np.testing.assert_allclose(inverse_triangle(upper.T, lower=True) @ upper.T, np.eye(3), atol=1e-14)


def test_information_is_inverted_along_every_direction_that_has_some():
    """A direction is left out when it has no curvature and changes nothing: one of the two is not enough."""
    scaled = np.array([np.eye(2), np.zeros((2, 2))])
    np.testing.assert_allclose(positive_inverse(np.diag([4.0, 9.0]), scaled), np.diag([1 / 4, 1 / 9]))
    repeated = np.array([[1.0, 1.0], [1.0, 1.0]])  # the same parameter twice, of which each has half the effect
    np.testing.assert_allclose(positive_inverse(repeated, np.array([np.eye(1), np.eye(1)])), np.full((2, 2), 0.25))
    assert np.isnan(positive_inverse(repeated, np.array([np.eye(1), -np.eye(1)]))).all()
    assert np.isnan(positive_inverse(np.diag([1.0, -1.0]), scaled)).all()


@pytest.mark.parametrize("t", [1, 2, 3])
def test_after_a_jump_to_reference_later_visits_follow_earlier_ones_as_in_the_reference_arm(t):
    """Carpenter, Roger & Kenward: own covariance before t, the reference's regression and residuals from t on."""
    rng = np.random.default_rng(t)
    own, reference = (a @ a.T + np.eye(4) for a in rng.normal(size=(2, 4, 4)))
    joint = joint_covariance("J2R", own[None], reference[None], t)[0]
    np.testing.assert_allclose(joint, joint.T, atol=1e-12)
    np.testing.assert_allclose(joint[:t, :t], own[:t, :t])
    regressions = [np.linalg.solve(s[:t, :t], s[:t, t:]) for s in (joint, reference)]
    np.testing.assert_allclose(*regressions, rtol=1e-10)
    left = [s[t:, t:] - s[t:, :t] @ r for s, r in zip((joint, reference), regressions, strict=True)]
    np.testing.assert_allclose(*left, rtol=1e-10)
    for strategy, same in (("CR", reference), ("MAR", own), ("LMCF", own)):
        np.testing.assert_array_equal(joint_covariance(strategy, own[None], reference[None], t)[0], same)


def test_conditional_draws_have_their_mean_and_covariance():
    covariance = np.array([[2.0, 0.8], [0.8, 0.5]])
    law = Conditional(np.tile([1.0, -3.0], (1, 40_000, 1)), covariance[None])
    drawn = draw(law, np.random.default_rng(2))[0]
    assert (np.abs(drawn.mean(axis=0) - [1, -3]) < 4.5 * np.sqrt(np.diag(covariance) / 40_000)).all()
    np.testing.assert_allclose(np.cov(drawn.T), covariance, rtol=0.05)


def test_the_chain_keeps_what_comes_after_the_burn_in_and_only_that():
    rng = np.random.default_rng(3)
    n, m = 30, 3
    x = np.zeros((n, m, m)) + np.eye(m)
    y = rng.normal(size=(n, m))
    y[:8, 2] = np.nan
    start = Draws(np.zeros((1, m)), np.eye(m)[None, None])
    prior = Prior(m + 1.0, np.eye(m)[None], np.zeros(m))

    def chain(draws, burn_in, thin):
        at = np.random.default_rng(9)
        one = np.zeros(n, dtype=np.intp)
        return sample(x, y, one, start, prior, at, draws=draws, burn_in=burn_in, thin=thin)

    whole = chain(9, 0, 1)
    for burn_in, thin in ((3, 1), (0, 3), (3, 2)):
        kept = chain((9 - burn_in) // thin, burn_in, thin)
        those = np.arange(burn_in + thin - 1, 9, thin)
        np.testing.assert_array_equal(kept.beta, whole.beta[those])
        np.testing.assert_array_equal(kept.sigma, whole.sigma[those])
    assert len(np.unique(whole.beta[:, 0])) == 9


def test_rows_taken_as_independent_are_ordinary_regression():
    rng = np.random.default_rng(5)
    X, offset = np.column_stack([np.ones(50), rng.normal(size=50)]), rng.normal(size=50)
    y = 100.0 + 30.0 * X[:, 1] + offset + rng.normal(size=50)
    expected = np.linalg.lstsq(X, y - offset, rcond=None)[0]
    np.testing.assert_allclose(independent(X, y, offset, "gaussian"), expected, rtol=1e-12)
    counts = rng.poisson(np.exp(X @ [3.0, 0.8]))
    beta = independent(X, counts, np.zeros(50), "poisson")
    np.testing.assert_allclose(X.T @ (counts - np.exp(X @ beta)), 0.0, atol=1e-4)


@pytest.mark.parametrize("scale", [1e-7, 1.0, 1e7])
def test_separation_does_not_depend_on_the_unit_of_a_covariate(scale):
    x = np.linspace(-1, 1, 12)
    X = np.column_stack([np.ones(12), scale * x])
    high, both = x > 0, np.arange(12) % 3 == 0
    span = recession(*binary_cone(X, ~high, high))
    assert np.linalg.matrix_rank(X @ span.T) == 2  # any cut between the groups separates: all directions belong
    assert len(recession(*binary_cone(X, ~both, both))) == 0


def test_broyden_maps_the_change_of_the_gradient_to_the_step():
    rng = np.random.default_rng(8)
    inverse, step, change = rng.normal(size=(5, 3, 3)), rng.normal(size=(5, 3)), rng.normal(size=(5, 3))
    change[4] = 0.0
    found = _broyden(inverse, step, change)
    np.testing.assert_allclose(np.einsum("kij,kj->ki", found[:4], change[:4]), step[:4], rtol=1e-10)
    np.testing.assert_array_equal(found[4], inverse[4])
    across = np.linalg.svd(change[0][None])[2][1:]  # nothing is learnt across the change
    np.testing.assert_allclose(found[0] @ across.T, inverse[0] @ across.T, atol=1e-12)


def laid_out(x, y):
    subject, visit = np.nonzero(np.isfinite(y))
    z = np.column_stack([x[subject, visit], y[subject, visit]])
    return z, layout(subject, visit, np.zeros(len(y), dtype=np.intp), y.shape[1])


def test_statistics_of_a_resampled_trial_are_those_of_the_trial_written_out():
    rng = np.random.default_rng(7)
    x, y = rng.normal(size=(9, 3, 2)), rng.normal(size=(9, 3))
    y[rng.random((9, 3)) < 0.3] = np.nan
    y[:, 0] = 1.0
    times = rng.integers(0, 3, (4, 9)).astype(float)
    z, arranged = laid_out(x, y)
    drawn = resampled(z, arranged, times)
    for b, often in enumerate(times):
        again = np.repeat(np.arange(9), often.astype(int))
        written = moments(*laid_out(x[again], y[again]))
        assert drawn.n_obs[b] == written.n_obs[0]
        for k, seen in enumerate(written.seen):
            own = np.flatnonzero((drawn.seen == seen).all(axis=1))[0]
            assert drawn.count[b, own] == written.count[0, k]
            gram = drawn.gram[b][drawn.pairs[0] == own]
            np.testing.assert_allclose(gram, written.gram[0][written.pairs[0] == k], rtol=1e-12, atol=1e-12)
        assert drawn.count[b].sum() == len(again)


def test_a_correlation_that_is_none_is_drawn_just_far_enough_back():
    alpha = np.array([[1.0, 0.9, -0.9], [0.9, 1.0, 0.9], [-0.9, 0.9, 1.0]])
    back = _towards_none(alpha, None)
    assert np.linalg.eigvalsh(back)[0] == pytest.approx(LEAST, rel=1e-6)
    np.testing.assert_allclose(np.diag(back), 1.0)
    off = ~np.eye(3, dtype=bool)
    shrunk = back[off] / alpha[off]
    np.testing.assert_allclose(shrunk, shrunk[0])
    fine = 0.5 * np.eye(3) + 0.5
    np.testing.assert_array_equal(_towards_none(fine, None), fine)


def test_counts_that_vary_less_than_poisson_have_no_negative_binomial():
    X = np.column_stack([np.ones(40), np.arange(40) % 2])
    y = np.where(X[:, 1] == 1, 5.0, 3.0)
    found = count_regression(y, X, np.zeros(40), negative_binomial=True)
    assert not found.converged
    np.testing.assert_allclose(found.coef, np.log([3.0, 5 / 3]), rtol=1e-6)
    assert count_regression(y, X, np.zeros(40)).converged


def test_visits_at_one_place_are_a_start_like_any_other():
    """A spatial structure whose distances are all zero has no median distance; its working parameters stay finite."""
    name = next(n for n in STRUCTURES if n.startswith("sp"))
    shape = Structure(name, 3, np.arange(2), np.zeros((2, 3, 3)))
    with np.errstate(all="raise"):
        assert np.isfinite(neutral(shape)).all()
    apart = np.tile(np.abs(np.subtract.outer(np.arange(3.0), np.arange(3.0))), (2, 1, 1))
    assert np.isfinite(neutral(Structure(name, 3, np.arange(2), apart))).all()
