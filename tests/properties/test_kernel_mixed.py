"""Kernels of mixed models: degrees of freedom of joint tests, ways around the edge of a structure, Wishart draws."""

import numpy as np
import pytest

from kapstats.kernels.covariance import STRUCTURES, Structure, sigma_of
from kapstats.kernels.covariance_work import natural, neutral, unit
from kapstats.kernels.gibbs import inverse_wishart
from kapstats.kernels.kenward_roger import fai_cornelius


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
