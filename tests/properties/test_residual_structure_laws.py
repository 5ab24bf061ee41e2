"""Laws of residual structures beside random effects: exact gradient, dense likelihood, refusals, intervals."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import linalg

import kapstats as ks
from kapstats.errors import EstimabilityError, FormulaError, KapstatsWarning
from kapstats.kernels.covariance import STRUCTURES, Structure, sigma_of
from kapstats.kernels.covariance_work import jacobian, natural, neutral, unit
from kapstats.response.random_effects import prepare
from kapstats.response.residual_structure import StructuredRows, _Search
from kapstats.response.residual_structure import prepare as arranged

SESSIONS = Path(__file__).parents[1] / "reference" / "mixed" / "kap_sessions.csv"


@pytest.fixture(scope="module")
def sessions() -> pd.DataFrame:
    """Forty subjects in therapists; raters change from session to session; two groups of subjects."""
    data = pd.read_csv(SESSIONS).query("subject <= 'R040' and week < 6").reset_index(drop=True)
    rng = np.random.default_rng(1)
    late = pd.factorize(data["subject"])[0] % 2
    return data.assign(rater=rng.integers(0, 6, len(data)), w=rng.uniform(0.5, 2, len(data)), half=late)


def quiet(formula: str, data: pd.DataFrame, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KapstatsWarning)
        return ks.lmm(formula, data, **options)


@pytest.mark.parametrize("name", [*STRUCTURES, "diag"])
def test_working_parameters_are_always_positive_definite(name: str) -> None:
    rng = np.random.default_rng(2)
    distance = np.abs(np.subtract.outer(np.arange(4.0), np.arange(4.0)))[None].repeat(2, axis=0)
    structure = Structure(name, 4, np.array([0, 1]), distance if name.startswith("sp") else None)
    for _ in range(20):
        work = neutral(structure) + rng.normal(0, 1.0, structure.r - 1)
        theta = natural(structure, work)
        sigma = sigma_of(structure, theta[None])[0]
        assert np.linalg.eigvalsh(sigma).min() > 0
        assert sigma[0, 0, 0] == pytest.approx(1.0)
        assert np.linalg.matrix_rank(jacobian(structure, work)) == structure.r - 1
        np.testing.assert_allclose(sigma_of(structure, (7 * theta / unit(structure, 7 * theta))[None])[0][0, 0, 0], 1.0)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize(
    "term",
    ["us(week | subject)", "toeph(week | subject)", "csh(week | half / subject)", "ad(week | subject)",
     "diag(week | subject)", "sp_gau(week | half / subject)"],
)  # fmt: skip
def test_gradient_is_exact(sessions: pd.DataFrame, term: str, reml: bool) -> None:
    rows = prepare(f"qids ~ week + (week | subject) + (1 | rater) + {term}", sessions, weights="w")
    visits, structure = arranged(rows)
    y = sessions["qids"].to_numpy() - sessions["qids"].mean()
    X = linalg.qr(rows.X, mode="economic")[0]
    search = _Search(StructuredRows(X, y, rows.random.factors, rows.weights), visits, structure, reml)
    rng = np.random.default_rng(3)
    at = np.concatenate([rng.normal(0, 0.5, search.n_theta), neutral(structure) + rng.normal(0, 0.3, structure.r - 1)])
    steps = 1e-5 * np.eye(len(at))
    numeric = np.array([(search(at + e)[0] - search(at - e)[0]) / 2e-5 for e in steps])
    np.testing.assert_allclose(search(at)[1], numeric, atol=1e-7 * np.abs(numeric).max())


def dense_deviance(fit: Any, data: pd.DataFrame, effects: list[tuple[str, float]], sigma: np.ndarray) -> float:
    """-2 l_REML with V as one matrix: random intercepts, and sigma over weeks within a subject."""
    who, week = data["subject"].to_numpy(), data["week"].to_numpy()
    V = (who[:, None] == who[None, :]) * sigma[week[:, None], week[None, :]]
    for column, variance in effects:
        code = data[column].to_numpy()
        V = V + variance * (code[:, None] == code[None, :])
    X = fit.data.X
    O = np.linalg.inv(V)
    A = X.T @ O @ X
    r = fit.y - X @ np.linalg.solve(A, X.T @ O @ fit.y)
    n = len(r) - X.shape[1]
    return float(np.linalg.slogdet(V)[1] + np.linalg.slogdet(A)[1] + r @ O @ r + n * np.log(2 * np.pi))


@pytest.mark.parametrize("structure", ["us", "toep", "ar1h"])
def test_optimum_with_raters_that_change_within_subjects(sessions: pd.DataFrame, structure: str) -> None:
    """The likelihood is that of dense algebra, and no neighbour is better."""
    fit = quiet(f"qids ~ week + (1 | therapist:subject) + (1 | rater) + {structure}(week | subject)", sessions) \
        if structure == "ar1h" else \
        quiet(f"qids ~ week + (1 | therapist) + (1 | rater) + {structure}(week | subject)", sessions)  # fmt: skip
    first = "subject" if structure == "ar1h" else "therapist"
    variance = {t: float(v.iloc[0, 0]) for t, v in fit.covariance.items()}
    values = list(variance.values())
    residual = fit.state.residual
    sigma = sigma_of(residual.structure, residual.theta[None])[0][0]
    here = dense_deviance(fit, sessions, [(first, values[0]), ("rater", values[1])], sigma)
    assert here == pytest.approx(-2 * fit.loglik, abs=1e-7)
    rng = np.random.default_rng(4)
    for _ in range(20):
        theta = residual.theta * np.exp(rng.normal(0, 0.01, residual.theta.size))
        near = sigma_of(residual.structure, theta[None])[0][0]
        a, b = np.abs(values) * np.exp(rng.normal(0, 0.05, 2))
        if np.linalg.eigvalsh(near)[0] > 0:
            assert dense_deviance(fit, sessions, [(first, a), ("rater", b)], near) > here - 1e-8


def test_one_variance_for_every_level_is_weighted_least_squares_when_known(sessions: pd.DataFrame) -> None:
    """Fitting diag() and fitting with weights at its variances is the same fit."""
    fit = quiet("qids ~ week + (1 | subject) + diag(half | subject)", sessions)
    theta = fit.state.residual.theta
    weights = theta[0] / theta[sessions["half"].to_numpy()]
    again = quiet("qids ~ week + (1 | subject)", sessions, weights=weights)
    np.testing.assert_allclose(again.coefficients["estimate"], fit.coefficients["estimate"], rtol=1e-6)
    assert again.loglik == pytest.approx(fit.loglik, abs=1e-8)
    assert again.sigma**2 == pytest.approx(theta[0], rel=1e-6)
    spread = np.array([fit.residuals("pearson")[sessions["half"] == h].std() for h in (0, 1)])
    np.testing.assert_allclose(spread, 1.0, atol=0.2)
    new = fit.predict(pd.DataFrame({"week": [1, 1], "half": [0, 1], "subject": ["new", "new"]}), interval="prediction")
    gap = np.diff(np.asarray(new["std_error"]) ** 2)[0]
    assert gap == pytest.approx(theta[1] - theta[0], rel=1e-6)


@pytest.mark.parametrize("term", ["us", "cs", "toep"])
def test_what_the_structure_already_holds_is_refused(sessions: pd.DataFrame, term: str) -> None:
    with pytest.raises(EstimabilityError, match=r"Leave out the random effects of subject"):
        ks.lmm(f"qids ~ week + (1 | subject) + {term}(week | subject)", sessions)


def test_refusals(sessions: pd.DataFrame) -> None:
    with pytest.raises(FormulaError, match=r"add \(1 \| subject\)"):
        ks.lmm("qids ~ week + (1 | rater) + ar1(week | subject)", sessions)
    with pytest.raises(FormulaError, match="stands beside random effects"):
        ks.mmrm("qids ~ week + diag(week | subject)", sessions)
    fit = quiet("qids ~ week + (1 | subject) + (1 | rater) + ar1(week | subject)", sessions)
    with pytest.raises(FormulaError, match="refit without its rows"):
        fit.influence("rater")
    with pytest.raises(FormulaError, match="use method='bootstrap'"):
        fit.variance_intervals()


def test_structures_are_compared_and_bootstrapped(sessions: pd.DataFrame) -> None:
    fit = quiet("qids ~ week + (1 | subject) + ar1(week | subject)", sessions)
    plain = quiet("qids ~ week + (1 | subject)", sessions)
    test = fit.lrt(plain)
    assert (test["df"][0], test["reference"][0]) == (1.0, "chi-square(1)")
    assert test["statistic"][0] == pytest.approx(2 * (fit.loglik - plain.loglik))
    limits = fit.variance_intervals("bootstrap", n=20).frame
    assert list(limits["term"]) == ["(Intercept)", "", "rho"]
    np.testing.assert_allclose(limits["estimate"], fit.variance_components["sd_cor"])
    assert (limits["conf_low"] < limits["conf_high"]).all()
    assert "ar1 over week" in fit.explain()
