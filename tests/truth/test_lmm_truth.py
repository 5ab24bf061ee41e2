"""Slices of the studies of linear mixed models (`mixed_study`), and a peer's failure that must not be ours."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from kapstats.errors import KapstatsWarning
from kapstats.kernels import random_effects_fit as kernel
from tests.truth.mixed_study import better_elsewhere, coverage, dense_of, gaps, individual, twins

REPLICATES = 300


@pytest.mark.parametrize("clusters", [6, 12])
def test_kenward_roger_covers_where_the_normal_reference_fails(clusters: int) -> None:
    found = coverage(clusters, 1.0, REPLICATES)
    margin = 3 * np.sqrt(0.95 * 0.05 / REPLICATES)
    assert abs(found["kenward-roger"] - 0.95) < margin
    assert found["normal"] < 0.95 - margin


def test_intervals_of_single_subjects_hold_what_they_say() -> None:
    """The control, the interval of the fixed part alone, does not hold a subject's own mean."""
    found = individual(12, 40)
    assert 0.90 < found["own mean"] < 0.98
    assert 0.90 < found["next observation"] < 0.98
    assert found["fixed part alone"] < 0.80


def test_dense_algebra_and_random_restarts_agree() -> None:
    """The first sixty of a thousand random designs: weights, REML and ML, singular fits, effects that repeat others."""
    found = [(formula, fit) for formula, fit in twins(60) if not isinstance(fit, Exception)]
    assert len(found) > 55
    for i, (formula, fit) in enumerate(found):
        gap = gaps(fit)
        assert gap.pop("likelihood") < 1e-8, formula
        assert gap.pop("satterthwaite df", 0.0) < 1e-5, formula
        assert max(gap.values(), default=0.0) < 1e-8, formula
        assert better_elsewhere(fit, 2, i) < 1e-7, formula


def weak_clusters() -> pd.DataFrame:
    """100 subjects with up to four visits, a third missing, a subject variance of a fifth of the residual one."""
    rng = np.random.default_rng(0)
    n, visits = 100, 4
    who, seen = np.repeat(np.arange(n), visits), rng.random(n * visits) < 0.68
    data = pd.DataFrame({"id": who, "visit": np.tile(np.arange(visits), n), "race": rng.integers(0, 3, n)[who]})
    data["arm"] = rng.integers(0, 2, n)[who]
    data["y"] = 35 + 3 * data["arm"] + 5 * data["visit"] + 2.5 * rng.normal(size=n)[who] + 5.5 * rng.normal(size=n * 4)
    return data[seen].reset_index(drop=True)


def test_converged_is_said_of_the_maximum_only() -> None:
    """interlace-lme 0.3.2 reports convergence here at variance 3e-15 and log-likelihood -776.0012128794."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KapstatsWarning)
        fit = ks.lmm("y ~ factor(race) + arm + factor(visit) + (1 | id)", weak_clusters())
    dense, theta = dense_of(fit)
    variance = fit.covariance["1 | id"].iloc[0, 0]
    assert variance == pytest.approx(5.3037, abs=1e-3)
    assert -2 * fit.loglik == pytest.approx(dense.deviance(theta, True), abs=1e-8)
    none = dense.deviance(np.array([0.0, np.var(fit.residuals("marginal"), ddof=fit.data.X.shape[1])]), True)
    assert -none / 2 == pytest.approx(-776.0012, abs=0.02)
    assert fit.loglik > -776.0012 + 2.9
    assert kernel._escape(fit.state.arrow, np.zeros(1), True) is not None
    for scale in (1e-12, 1e-6, 100.0):
        again = kernel.fit(fit.state.arrow, scales=(scale,))
        assert again.converged
        assert again.objective == pytest.approx(fit.state.solved.objective, abs=1e-8)
