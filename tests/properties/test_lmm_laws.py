"""Laws of the mixed models: invariances, dense algebra, numerical integration, certified optima."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, special, stats

import kapstats as ks
from kapstats.errors import DataError, FormulaError, KapstatsWarning
from kapstats.kernels import random_effects_fit as kernel
from kapstats.kernels.block_arrow import Factor, summarise
from kapstats.kernels.dense_components import Component
from kapstats.kernels.dense_components import derivatives as dense_derivatives
from kapstats.kernels.families import Observations
from kapstats.kernels.kenward_roger import row_df
from kapstats.kernels.laplace import Problem, laplace
from kapstats.kernels.quadrature import quadrature
from kapstats.kernels.random_effects_kr import kenward_roger
from tests.reference.dense_mixed import Dense

SESSIONS = Path(__file__).parents[1] / "reference" / "mixed" / "kap_sessions.csv"
FORMS = [
    "(1 | g)",
    "(x | g)",
    "(1 | g) + (1 | h)",
    "(x || g) + (1 | h)",
    "(1 | h/g)",
    "(0 + x | g) + (1 | h)",
    "(1 | g) + (x | h)",
]


def design(seed: int, n: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    data = pd.DataFrame({"g": rng.integers(0, 8, n), "h": rng.integers(0, 4, n), "x": rng.normal(1, 2, n)})
    data["a"] = rng.integers(0, 2, n)
    data["w"] = rng.uniform(0.5, 2, n)
    effects = rng.normal(size=8)[data["g"]] * 1.5 + rng.normal(size=4)[data["h"]]
    slopes = rng.normal(size=8)[data["g"]] * 0.7
    return data.assign(y=5 + data["a"] + effects + slopes * data["x"] + rng.normal(size=n))


def quiet(formula: str, data: pd.DataFrame, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KapstatsWarning)
        return ks.lmm(formula, data, **options)


def dense_of(fit: Any) -> tuple[Dense, np.ndarray]:
    """The textbook twin of a fit and its parameters (covariances and residual variance)."""
    random = fit.data.random
    blocks, theta = [], []
    for term in random.terms:
        factor = random.factors[term.factor]
        Z = (factor.Z @ random.basis[term.factor])[:, term.start : term.stop]
        blocks.append((factor.codes, Z))
        G = fit.sigma**2 * random.covariance(term, fit.state.solved.T)
        k = len(G)
        theta += [G[a, b] for a in range(k) for b in range(a, k)]
    return Dense(fit.y, fit.data.X, blocks), np.array([*theta, fit.sigma**2])


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", range(4))
def test_likelihood_is_that_of_dense_algebra(form: str, reml: bool, seed: int) -> None:
    fit = quiet(f"y ~ a + x + {form}", design(seed), reml=reml, df="satterthwaite")
    dense, theta = dense_of(fit)
    assert -2 * fit.loglik == pytest.approx(dense.deviance(theta, reml), abs=1e-8)
    rng = np.random.default_rng(seed)
    for _ in range(20):  # no neighbour in the cone of covariances is better
        assert dense.deviance(neighbour(fit, rng), reml) > -2 * fit.loglik - 1e-8


def neighbour(fit: Any, rng: np.random.Generator) -> np.ndarray:
    """Parameters after a small change of the roots of all covariances and of the residual standard deviation."""
    random, theta = fit.data.random, []
    for term in random.terms:
        root = np.linalg.solve(random.basis[term.factor], fit.state.solved.T[term.factor])[term.start : term.stop]
        root = fit.sigma * root + rng.normal(0, 0.05, root.shape)
        G = root @ root.T
        theta += [G[a, b] for a in range(len(G)) for b in range(a, len(G))]
    return np.array([*theta, (fit.sigma * np.exp(rng.normal(0, 0.05))) ** 2])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", range(4))
def test_small_sample_inference_is_that_of_dense_algebra(form: str, seed: int) -> None:
    fit = quiet(f"y ~ a + x + {form}", design(seed))
    if fit.singular:
        return
    dense, theta = dense_of(fit)
    adjusted, P, W = dense.kenward_roger(theta)
    L = np.eye(3)
    np.testing.assert_allclose(fit.vcov, adjusted, rtol=1e-6)
    np.testing.assert_allclose(fit.coefficients["df"], dense.row_df(theta, L, P, W), rtol=1e-6)
    observed = np.linalg.inv(dense.observed_information(theta))
    found = fit.coefficients_by(df="satterthwaite").frame
    np.testing.assert_allclose(found["df"], dense.row_df(theta, L, P, observed), rtol=1e-4)
    again = quiet(f"y ~ a + x + {form}", design(seed), information="observed")
    np.testing.assert_allclose(again.coefficients["df"], found["df"], rtol=1e-4)
    assert not np.allclose(again.coefficients["df"], fit.coefficients["df"], rtol=1e-6)


def test_every_df_method_gives_its_own_number() -> None:
    fit = quiet("y ~ a + x + (1 | g)", design(3))
    df = {m: fit.coefficients_by(df=m)["df"][1] for m in ("satterthwaite", "kenward-roger", "residual", "normal")}
    assert len({round(v, 6) for v in df.values()}) == 4
    assert df["residual"] == 57
    assert np.isinf(df["normal"])


@settings(max_examples=6, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), form=st.sampled_from(FORMS), shift=st.floats(-1e4, 1e4), scale=st.floats(0.01, 100))
def test_affine_change_of_the_response(seed: int, form: str, shift: float, scale: float) -> None:
    data = design(seed)
    a = quiet(f"y ~ a + x + {form}", data)
    b = quiet(f"y ~ a + x + {form}", data.assign(y=shift + scale * data["y"]))
    np.testing.assert_allclose(b.coefficients["estimate"][1:], scale * a.coefficients["estimate"][1:], rtol=1e-5)
    np.testing.assert_allclose(b.coefficients["std_error"], scale * a.coefficients["std_error"], rtol=1e-5)
    if not a.singular:
        np.testing.assert_allclose(b.coefficients["df"], a.coefficients["df"], rtol=1e-4)


@settings(max_examples=6, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), form=st.sampled_from(FORMS))
def test_order_and_names_of_rows_do_not_matter(seed: int, form: str) -> None:
    data = design(seed)
    shuffled = data.sample(frac=1, random_state=seed).assign(g=lambda d: "s" + (7 - d["g"]).astype(str))
    a, b = quiet(f"y ~ a + x + {form}", data), quiet(f"y ~ a + x + {form}", shuffled)
    assert a.loglik == pytest.approx(b.loglik, abs=1e-7)
    np.testing.assert_allclose(a.coefficients["estimate"], b.coefficients["estimate"], rtol=1e-5, atol=1e-6)


def test_units_of_a_random_slope_do_not_matter() -> None:
    data = design(5)
    a = quiet("y ~ a + x + (x | g)", data)
    b = quiet("y ~ a + I(x) + (x1000 | g)", data.assign(x1000=1000 * data["x"]))
    assert a.loglik == pytest.approx(b.loglik, abs=1e-7)
    assert a.variance_components["sd_cor"][1] == pytest.approx(1000 * b.variance_components["sd_cor"][1], rel=1e-5)


def test_weights_are_precisions() -> None:
    data = design(6)
    fit = quiet("y ~ a + x + (1 | g)", data, weights="w")
    dense, theta = dense_of(fit)
    same = data["g"].to_numpy()[:, None] == data["g"].to_numpy()[None, :]
    V = theta[0] * same + theta[1] * np.diag(1 / data["w"])
    O = np.linalg.inv(V)
    Phi = np.linalg.inv(dense.X.T @ O @ dense.X)
    np.testing.assert_allclose(fit.coefficients["estimate"], Phi @ dense.X.T @ O @ fit.y, rtol=1e-8)
    np.testing.assert_allclose(fit.linear(np.eye(3), df="normal").vcov, Phi, rtol=1e-8)
    r = fit.y - dense.X @ fit.coefficients["estimate"].to_numpy()
    value = np.linalg.slogdet(V)[1] - np.linalg.slogdet(Phi)[1] + r @ O @ r + 57 * np.log(2 * np.pi)
    assert -2 * fit.loglik == pytest.approx(value, abs=1e-8)


def test_blups_and_prediction_errors_are_hendersons() -> None:
    data = design(8)
    fit = quiet("y ~ a + x + (x | g) + (1 | h)", data)
    dense, theta = dense_of(fit)
    O = np.linalg.inv(dense.V(theta))
    Phi = np.linalg.inv(dense.X.T @ O @ dense.X)
    residual = fit.y - dense.X @ Phi @ dense.X.T @ O @ fit.y
    C = dense.V(theta) - theta[-1] * np.eye(len(fit.y))  # Cov(Z u, y)
    np.testing.assert_allclose(fit.predict()["estimate"], fit.y - residual + C @ O @ residual, rtol=1e-8)
    D = dense.X - C @ O @ dense.X
    error = np.diag(C - C @ O @ C + D @ Phi @ D.T)
    shown = fit.predict(interval="confidence", df="satterthwaite")
    np.testing.assert_allclose(shown["std_error"] ** 2, error, rtol=1e-6)
    assert (fit.predict(interval="prediction")["conf_high"] > shown["conf_high"]).all()


def test_no_converged_flag_at_a_variance_of_zero_that_wants_to_grow() -> None:
    """A search that starts at variance zero finds a stationary point there; it has to leave it."""
    data = design(1)
    y, X = data["y"].to_numpy(), np.column_stack([np.ones(60), data["a"]])
    factor = Factor(data["g"].to_numpy(dtype=np.int64), 8, np.ones((60, 1)), (1,))
    arrow = summarise(X, y, [factor])
    stuck = np.zeros(1)
    assert np.abs(kernel.value_and_gradient(stuck, arrow, True)[1]).max() == 0.0
    assert kernel._escape(arrow, stuck, True) is not None
    found = [kernel.fit(arrow, scales=(s,)) for s in (1e-9, 1e-4, 1.0, 50.0)]
    assert all(f.converged for f in found)
    np.testing.assert_allclose([f.theta[0] for f in found], found[2].theta[0], rtol=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_random_restarts_agree(seed: int) -> None:
    data = design(seed, n=40)
    fit = quiet("y ~ a + (x | g) + (1 | h)", data)
    rng = np.random.default_rng(seed)
    for _ in range(4):
        start = rng.normal(0, 2, len(fit.state.solved.theta))
        other = kernel.fit(fit.state.arrow, near=start)
        assert other.objective >= fit.state.solved.objective - 1e-6


def test_exact_hessian_and_gradient() -> None:
    fit = quiet("y ~ a + x + (x | g) + (x | h)", design(2), weights="w")
    arrow, theta, step = fit.state.arrow, fit.state.solved.theta * 1.2 + 0.1, 1e-5
    for reml in (True, False):
        _, g, H, _ = kernel.profiled(arrow, theta, reml)
        moved = [[kernel.value_and_gradient(theta + s * step * e, arrow, reml) for s in (1, -1)] for e in np.eye(6)]
        np.testing.assert_allclose(g, [(p[0] - m[0]) / (2 * step) for p, m in moved], rtol=1e-6, atol=1e-5)
        np.testing.assert_allclose(H, [(p[1] - m[1]) / (2 * step) for p, m in moved], rtol=1e-5, atol=1e-5)


def test_large_crossed_and_nested_designs_run() -> None:
    rng = np.random.default_rng(1)
    subject, rater = rng.integers(0, 5000, 12000), rng.integers(0, 200, 12000)
    data = pd.DataFrame({"s": subject, "r": rater, "x": rng.normal(size=12000)})
    data["y"] = data["x"] + rng.normal(size=5000)[subject] + rng.normal(size=200)[rater] + rng.normal(size=12000)
    fit = ks.lmm("y ~ x + (1 | s) + (1 | r)", data)
    assert fit.converged
    assert fit.coefficients["estimate"][1] == pytest.approx(1, abs=0.05)
    np.testing.assert_allclose(fit.variance_components["estimate"], 1, atol=0.3)
    data["site"] = subject % 10
    nested = ks.lmm("y ~ x + (1 | site/s) + (1 | r)", data.iloc[:4000])
    assert nested.converged


def test_likelihood_ratio_of_a_variance_uses_the_mixture() -> None:
    data = design(4)
    large, small = quiet("y ~ a + x + (1 | g) + (1 | h)", data), quiet("y ~ a + x + (1 | g)", data)
    row = large.lrt(small).frame.iloc[0]
    assert row["statistic"] == pytest.approx(2 * (large.loglik - small.loglik), abs=1e-9)
    assert row["reference"] == "0.5 chi-square(0) + 0.5 chi-square(1)"
    with pytest.raises(FormulaError, match="reml=False"):
        large.lrt(quiet("y ~ x + (1 | g)", data))


def test_profile_limits_are_where_the_likelihood_ratio_is() -> None:
    data = design(10)
    fit = quiet("y ~ a + x + (1 | g)", data)
    row = fit.variance_intervals().filter(group="g").frame.iloc[0]
    dense, _ = dense_of(fit)

    def best(sd: float) -> float:
        grid = [dense.deviance(np.array([sd**2, s**2]), True) for s in np.linspace(0.5, 2, 600) * fit.sigma]
        return min(grid)

    for limit in (row["conf_low"], row["conf_high"]):
        assert best(limit) + 2 * fit.loglik == pytest.approx(3.841459, abs=2e-3)


def test_profile_limits_of_a_correlation() -> None:
    """Standard deviations as R lme4 1.1-31 confint of an ML fit; the correlation's limit by the likelihood itself.

    R interpolates the correlation's limits (-0.37987, 0.82908): there -2 log L has risen by 3.847 and 3.819.
    """
    fit = quiet("y ~ a + (x | g)", design(3, 200), reml=False)
    found = fit.variance_intervals().frame.set_index(["group", "term", "term2"])[["conf_low", "conf_high"]]
    np.testing.assert_allclose(found.loc[("g", "(Intercept)", "")], [0.683634990, 2.066545549], rtol=1e-5)
    np.testing.assert_allclose(found.loc[("g", "x", "")], [0.374758260, 1.121470448], rtol=1e-4)
    np.testing.assert_allclose(found.loc[("Residual", "", "")], [1.387593500, 1.702641179], rtol=1e-5)
    dense, _ = dense_of(fit)
    assert found.loc[("g", "(Intercept)", "x"), "conf_low"] == pytest.approx(-0.379868955, abs=1e-3)
    r = found.loc[("g", "(Intercept)", "x"), "conf_high"]

    def rise(log_sd: np.ndarray) -> float:
        a, b, s = np.exp(log_sd)
        return dense.deviance(np.array([a * a, r * a * b, b * b, s * s]), False) + 2 * fit.loglik

    corners = np.log([1.491, 0.801, 1.539]) + 0.005 * np.vstack([np.zeros(3), np.eye(3)])
    options = {"initial_simplex": corners, "xatol": 1e-4, "fatol": 1e-6}
    assert optimize.minimize(rise, corners[0], method="Nelder-Mead", options=options).fun == pytest.approx(
        3.841459, abs=1e-5
    )


def test_a_profile_ends_at_the_edge_when_the_likelihood_never_drops() -> None:
    """R lme4 1.1-31 confint gives a lower limit of zero too."""
    data = design(3, 200).assign(y=np.random.default_rng(1).normal(size=200))
    low = quiet("y ~ a + (1 | h)", data).variance_intervals()["conf_low"]
    assert low[0] == 0.0
    assert low[1] > 0.8
    with pytest.raises(FormulaError, match="no percentiles"):
        quiet("y ~ a + (1 | h)", data).variance_intervals("bootstrap", n=1)


def test_icc_is_the_share_of_variance() -> None:
    fit = quiet("y ~ a + x + (1 | g)", design(10))
    v = fit.variance_components["estimate"]
    assert fit.icc()["estimate"][0] == pytest.approx(v[0] / (v[0] + v[1]))


def test_refusals_say_what_to_do() -> None:
    data = design(1)
    with pytest.raises(FormulaError, match=r"\(1 \| USUBJID\)"):
        ks.lmm("y ~ a", data)
    with pytest.raises(DataError, match="one level"):
        ks.lmm("y ~ a + (1 | k)", data.assign(k=1))
    with pytest.raises(DataError, match="random effects for 60 rows"):
        ks.lmm("y ~ a + (1 | k)", data.assign(k=np.arange(60)))
    with pytest.raises(FormulaError, match="REML only"):
        ks.lmm("y ~ a + (1 | g)", data, reml=False, df="kenward-roger")
    with pytest.raises(DataError, match="fit every row exactly"):
        ks.lmm("y ~ a + (1 | g)", data.assign(y=data["a"] * 2.0))
    with pytest.warns(KapstatsWarning, match="REML only"):
        assert ks.lmm("y ~ a + (1 | g)", data, reml=False).df == "satterthwaite"


def test_dense_components_are_the_elimination() -> None:
    """Two engines on one model: V by components, and cross-products with factors eliminated."""
    fit = quiet("y ~ a + x + (x | g) + (1 | h)", design(2), df="satterthwaite")
    dense, theta = dense_of(fit)
    component = Component(dense.X @ fit.state.back, fit.y, dense.V(theta), np.array(dense.directions()), {})
    found, mine = dense_derivatives([component], True).pieces, fit._derivatives
    s2 = fit.sigma**2
    # the working basis of the random effects is orthogonal; compare what does not depend on it
    np.testing.assert_allclose(found.Phi, s2 * mine.Phi, rtol=1e-7)
    for information in ("expected", "observed"):
        a, b = kenward_roger(found, information), kenward_roger(mine, information)
        np.testing.assert_allclose(a.vcov, s2 * b.vcov, rtol=1e-6)
        df = [row_df(p.root[None], k.scaled[None], k.w[None])[0] for p, k in ((found, a), (mine, b))]
        np.testing.assert_allclose(df[0], df[1], rtol=1e-6)


def test_residual_structure_is_at_the_top_of_the_likelihood() -> None:
    data = pd.read_csv(SESSIONS).query("subject <= 'R040'")
    fit = ks.lmm("qids ~ week + (1 | subject) + ar1(week | subject)", data)
    again = ks.mmrm("qids ~ week + ar1(week | subject)", data)
    assert fit.loglik > again.loglik
    rho = fit.state.residual.theta[1]
    week, who = data["week"].to_numpy(), data["subject"].to_numpy()
    same = who[:, None] == who[None, :]
    X = np.column_stack([np.ones(len(data)), week])

    def deviance(tau: float, s2: float, r: float) -> float:
        V = same * (tau + s2 * r ** np.abs(week[:, None] - week[None, :]))
        O = np.linalg.inv(V)
        A = X.T @ O @ X
        res = fit.y - X @ np.linalg.solve(A, X.T @ O @ fit.y)
        n = len(fit.y) - 2
        return float(np.linalg.slogdet(V)[1] + np.linalg.slogdet(A)[1] + res @ O @ res + n * np.log(2 * np.pi))

    tau, s2 = fit.covariance["1 | subject"].iloc[0, 0], fit.sigma**2
    assert deviance(tau, s2, rho) == pytest.approx(-2 * fit.loglik, abs=1e-7)
    for change in (0.98, 1.02):
        assert deviance(tau * change, s2, rho) > -2 * fit.loglik
        assert deviance(tau, s2 * change, rho) > -2 * fit.loglik
        assert deviance(tau, s2, rho * change) > -2 * fit.loglik


def test_aliased_columns_keep_their_place_and_their_terms_have_no_test() -> None:
    data = design(1).assign(z=lambda d: 2 * d["a"])
    with pytest.warns(KapstatsWarning, match="linear combinations"):
        fit = ks.lmm("y ~ a + z + x + (1 | g)", data)
    plain = ks.lmm("y ~ a + x + (1 | g)", data)
    table = fit.coefficients.frame
    assert table["term"].tolist() == ["(Intercept)", "a", "z", "x"]
    assert table["estimate"].isna().tolist() == [False, False, True, False]
    np.testing.assert_allclose(table["estimate"].dropna(), plain.coefficients["estimate"], rtol=1e-8)
    tests = fit.anova().frame
    assert tests["num_df"].tolist() == [0, 0, 1]
    with pytest.warns(KapstatsWarning, match="not estimable"):
        assert fit.lsmeans("a", at={"a": [0, 1]})["estimate"].isna().all()


def test_four_clusters_have_two_degrees_of_freedom() -> None:
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(4), 6)
    y = rng.normal(size=24) + 2 * rng.normal(size=4)[g]
    fit = ks.lmm("y ~ arm + (1 | g)", pd.DataFrame({"g": g, "arm": g % 2, "y": y}))
    means = np.bincount(g, y) / 6
    pooled = sum(means[[a, a + 2]].var(ddof=1) for a in (0, 1)) / 2
    row = fit.coefficients.filter(term="arm").frame.iloc[0]
    np.testing.assert_allclose([row["std_error"], row["df"]], [np.sqrt(pooled), 2.0], rtol=1e-6)
    assert fit.anova()["df"][0] == pytest.approx(2.0)
    uneven = pd.DataFrame({"g": np.repeat(np.arange(3), 6), "arm": np.repeat([0, 1, 1], 6), "y": y[:18]})
    with pytest.warns(KapstatsWarning, match="no degrees of freedom above 2"):
        assert np.isnan(ks.lmm("y ~ arm + (1 | g)", uneven).coefficients["p_value"]).any()


def test_the_convention_of_information_criteria_is_named() -> None:
    data = design(1)
    fit = quiet("y ~ a + (1 | g)", data)
    assert fit.coefficients.meta["convention"] == "R lme4"
    assert fit.aic == pytest.approx(-2 * fit.loglik + 2 * 4)
    visits = data.assign(v=data.groupby("g").cumcount() % 5).drop_duplicates(["g", "v"])
    other = ks.mmrm("y ~ a + cs(v | g)", visits)
    assert other.coefficients.meta["convention"] == "SAS"
    assert other.aic == pytest.approx(-2 * other.loglik + 2 * 2)


def test_type_three_tests_take_one_row_per_coefficient() -> None:
    """R lmerTest 3.1-3 on the same data: F 0.14621087 on 2 and 8.19093 df (one term), as contestMD 8.15284 df."""
    rng = np.random.default_rng(11)
    data = pd.DataFrame({"g": rng.integers(0, 8, 70), "arm": rng.choice(list("abc"), 70, p=[0.6, 0.25, 0.15])})
    data["y"] = rng.normal(size=8)[data["g"]] * 1.5 + (data["arm"] == "c") + rng.normal(size=70)
    data["y"] += rng.normal(size=(8, 3))[data["g"], data["arm"].map({"a": 0, "b": 1, "c": 2})]
    fit = quiet("y ~ arm + (1 | g/arm)", data, df="satterthwaite")
    for kind in (2, 3):
        row = fit.anova(type=kind).frame.iloc[0]
        np.testing.assert_allclose([row["statistic"], row["df"]], [0.14621087, 8.19093], rtol=1e-5)
    assert fit.joint(np.eye(3)[1:]).df == pytest.approx(8.15284, rel=1e-5)


def test_tables_go_back_as_the_callers_kind() -> None:
    polars = pytest.importorskip("polars")
    fit = quiet("y ~ a + x + (1 | g)", polars.DataFrame(design(1)))
    for found in (fit.coefficients, fit.random_effects(), fit.predict(), fit.variance_components):
        assert isinstance(found.to_frame(), polars.DataFrame)


def test_missing_rows_are_counted_and_positions_kept() -> None:
    data = design(1)
    data.loc[[3, 10], "y"] = np.nan
    data.loc[20, "g"] = np.nan
    data.index = [7] * len(data)
    fit = quiet("y ~ a + x + (1 | g)", data)
    assert "57 of 60 records" in fit.sentence
    assert "2 missing y" in fit.sentence
    assert "1 missing g" in fit.sentence
    assert list(fit.residuals().index[:4]) == [0, 1, 2, 4]


def test_influence_of_a_level_is_that_of_leaving_it_out() -> None:
    data = design(9)
    fit = quiet("y ~ a + x + (1 | g) + (1 | h)", data)
    found = fit.influence("h")
    left = found.meta["coefficients"]
    keep = data["h"].to_numpy() != 2
    dense, theta = dense_of(fit)
    O = np.linalg.inv(dense.V(theta)[np.ix_(keep, keep)])
    X = dense.X[keep]
    np.testing.assert_allclose(left.iloc[2], np.linalg.solve(X.T @ O @ X, X.T @ O @ fit.y[keep]), rtol=1e-8)


# --------------------------------------------------------------------------------------------- generalised


def small_problem(family: str, link: str, factors: int, seed: int = 1) -> tuple[Problem, np.ndarray]:
    rng = np.random.default_rng(seed)
    n = 90
    Z = np.column_stack([np.ones(n), rng.normal(size=n)])
    all_factors = [
        Factor(np.repeat(np.arange(15), 6), 15, Z, (2,)),
        Factor(rng.integers(0, 5, n), 5, np.ones((n, 1)), (1,)),
        Factor(rng.integers(0, 4, n), 4, Z, (2,)),
    ]
    size = rng.integers(1, 5, n).astype(float) if family == "binomial" else np.ones(n)
    y = rng.binomial(size.astype(int), 0.5) if family == "binomial" else rng.integers(0, 4, n)
    obs = Observations(family, link, y.astype(float), size, np.ones(n))
    problem = Problem(
        obs, np.column_stack([np.ones(n), rng.normal(size=n)]), 0.1 * rng.normal(size=n), tuple(all_factors[:factors])
    )
    phi = {"cumulative": [-1.0, 0.2, 1.0], "negative-binomial": [0.4]}.get(family, [])
    return problem, np.concatenate([rng.normal(0.5, 0.3, problem.n_theta), [0.3, -0.2], phi])


FAMILIES = [
    ("binomial", "logit"),
    ("binomial", "probit"),
    ("binomial", "cloglog"),
    ("poisson", "log"),
    ("negative-binomial", "log"),
    ("cumulative", "logit"),
    ("cumulative", "probit"),
    ("cumulative", "cloglog"),
]


@pytest.mark.parametrize("factors", [1, 2, 3])
@pytest.mark.parametrize(("family", "link"), FAMILIES)
def test_gradient_of_laplace(family: str, link: str, factors: int) -> None:
    problem, psi = small_problem(family, link, factors)
    g, step = laplace(problem, psi)[1], 1e-5
    numeric = [
        (laplace(problem, psi + step * e)[0] - laplace(problem, psi - step * e)[0]) / (2 * step)
        for e in np.eye(len(psi))
    ]
    np.testing.assert_allclose(g, numeric, atol=1e-6 * np.abs(g).max())


@pytest.mark.parametrize(("family", "link"), FAMILIES)
def test_gradient_of_quadrature_and_its_first_member(family: str, link: str) -> None:
    problem, psi = small_problem(family, link, 1)
    g, step = quadrature(problem, psi, 5)[1], 1e-5
    numeric = [
        (quadrature(problem, psi + step * e, 5)[0] - quadrature(problem, psi - step * e, 5)[0]) / (2 * step)
        for e in np.eye(len(psi))
    ]
    np.testing.assert_allclose(g, numeric, atol=1e-6 * np.abs(g).max())
    one, two = quadrature(problem, psi, 1), laplace(problem, psi)
    assert one[0] == pytest.approx(two[0], abs=1e-9)
    np.testing.assert_allclose(one[1], two[1], atol=1e-7)


def test_quadrature_is_numerical_integration() -> None:
    rng = np.random.default_rng(4)
    codes, n = np.repeat(np.arange(4), 5), 20
    y = rng.binomial(1, 0.4, n).astype(float)
    factor = Factor(codes, 4, np.ones((n, 1)), (1,))
    problem = Problem(
        Observations("binomial", "logit", y, np.ones(n), np.ones(n)), np.ones((n, 1)), np.zeros(n), (factor,)
    )
    sd, b = 1.3, -0.4

    def contribution(g: int) -> float:
        s = y[codes == g]

        def integrand(u: float) -> float:
            p = 1 / (1 + np.exp(-(b + sd * u)))
            return float(np.prod(np.where(s == 1, p, 1 - p)) * np.exp(-0.5 * u * u) / np.sqrt(2 * np.pi))

        return integrate.quad(integrand, -12, 12, epsabs=1e-14)[0]

    exact = -sum(np.log(contribution(g)) for g in range(4))
    assert quadrature(problem, np.array([sd, b]), 25)[0] == pytest.approx(exact, abs=1e-9)
    assert abs(laplace(problem, np.array([sd, b]))[0] - exact) > 1e-3


def responders(seed: int = 2, n: int = 80) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    data = pd.DataFrame(
        {"id": np.repeat(np.arange(n), 4), "arm": np.repeat(np.arange(n) % 2, 4), "t": np.tile(np.arange(4.0), n)}
    )
    eta = -1 + 0.8 * data["arm"] + 0.3 * data["t"] + 1.2 * rng.normal(size=n)[data["id"]]
    return data.assign(y=(rng.random(4 * n) < 1 / (1 + np.exp(-eta))).astype(int))


def test_grouped_and_single_trials_agree() -> None:
    data = responders()
    single = ks.glmm("y ~ arm + (1 | id)", data, quadrature=9)
    grouped = data.groupby(["id", "arm"], as_index=False)["y"].agg(events="sum", n="size")
    two = ks.glmm("cbind(events, n - events) ~ arm + (1 | id)", grouped, quadrature=9)
    three = ks.glmm(
        "share ~ arm + (1 | id)", grouped.assign(share=grouped["events"] / grouped["n"]), quadrature=9, weights="n"
    )
    np.testing.assert_allclose(single.coefficients["estimate"], two.coefficients["estimate"], rtol=1e-5)
    np.testing.assert_allclose(two.coefficients["std_error"], three.coefficients["std_error"], rtol=1e-6)
    assert two.loglik == pytest.approx(three.loglik, abs=1e-8)


def test_marginal_means_integrate_and_standardise() -> None:
    data = responders(3)
    fit = ks.glmm("y ~ C(arm) + t + (1 | id)", data, quadrature=9)
    means = fit.marginal_means("arm")
    b, sd = fit.coefficients["estimate"].to_numpy(), fit.variance_components["sd_cor"][0]
    u = np.random.default_rng(1).normal(size=400_000) * sd
    for arm in (0, 1):
        by_hand = np.mean([np.mean(1 / (1 + np.exp(-(b[0] + b[1] * arm + b[2] * t + u)))) for t in range(4)])
        assert means.filter(arm=arm)["estimate"][0] == pytest.approx(by_hand, abs=2e-3)
    difference = means.contrast().frame.iloc[0]
    assert difference["estimate"] == pytest.approx(means["estimate"][1] - means["estimate"][0])
    ratio = fit.marginal_means("arm", scale="log").contrast().exponentiate().frame.iloc[0]
    assert ratio["estimate"] == pytest.approx(means["estimate"][1] / means["estimate"][0])
    conditional = fit.coefficients["estimate"][1]
    marginal = fit.marginal_means("arm", scale="logit").contrast()["estimate"][0]
    assert 0 < marginal < conditional


def test_influence_is_close_to_a_refit() -> None:
    data = responders(3)
    fit = ks.glmm("y ~ arm + t + (1 | id)", data, quadrature=7)
    row = fit.influence().filter(level=0).frame.iloc[0]
    again = ks.glmm("y ~ arm + t + (1 | id)", data[data["id"] != 0], quadrature=7)
    change = (fit.coefficients["estimate"] - again.coefficients["estimate"]) / fit.coefficients["std_error"]
    assert row["largest_term"] == fit.coefficients["term"][int(np.abs(change).argmax())]
    assert row["largest_change"] == pytest.approx(change[np.abs(change).argmax()], abs=0.01)


def test_separation_is_reported_and_the_penalty_is_finite() -> None:
    data = responders().assign(z=lambda d: (d["id"] < 6).astype(int))
    data.loc[data["z"] == 1, "y"] = 1
    with pytest.warns(KapstatsWarning, match="Separation"):
        fit = ks.glmm("y ~ z + arm + (1 | id)", data)
    assert not fit.converged
    assert fit.coefficients.filter(term="z")["estimate"].isna().all()
    assert fit.coefficients.filter(term="arm")["estimate"].notna().all()
    firm = ks.glmm("y ~ z + arm + (1 | id)", data, penalty="firth")
    assert np.isfinite(firm.coefficients["estimate"]).all()
    assert firm.coefficients.filter(term="z")["estimate"][0] < 15


def test_negative_binomial_size_is_found() -> None:
    rng = np.random.default_rng(3)
    ids = np.repeat(np.arange(150), 5)
    mean = np.exp(0.8 + 0.5 * rng.normal(size=150)[ids])
    data = pd.DataFrame({"id": ids, "y": rng.poisson(rng.gamma(2.0, mean / 2.0))})
    fit = ks.glmm("y ~ 1 + (1 | id)", data, family="negative-binomial")
    assert fit.size == pytest.approx(2.0, rel=0.25)
    assert fit.loglik > ks.glmm("y ~ 1 + (1 | id)", data, family="poisson").loglik + 10


@pytest.mark.parametrize("family", ["binomial", "poisson", "negative-binomial", "cumulative"])
def test_simulated_responses_have_the_marginal_means(family: str) -> None:
    """Means and, for counts, variances of draws are those with the random effects integrated out."""
    data, rng = responders(6, 40), np.random.default_rng(7)
    mean = np.exp(0.3 + 0.4 * data["arm"] + 0.5 * rng.normal(size=40)[data["id"]])
    draws = {"poisson": rng.poisson(mean), "negative-binomial": rng.poisson(rng.gamma(2.0, mean / 2.0))}
    levels = pd.Categorical.from_codes(np.minimum(draws["poisson"], 3), list("abcd"), ordered=True)
    data = data.assign(y={**draws, "binomial": data["y"], "cumulative": levels}[family])
    fit = ks.glmm("y ~ arm + (1 | id)", data, family=family)
    drawn, marginal = fit.simulate(2000, seed=3), fit.predict(type="marginal")
    if family == "cumulative":
        expected = [marginal[f"p_{label}"].mean() for label in "abcd"]
        np.testing.assert_allclose([(drawn == k).mean() for k in range(4)], expected, atol=0.01)
        return
    m = marginal["estimate"].to_numpy()
    assert drawn.mean() == pytest.approx(m.mean(), rel=0.02)
    np.testing.assert_array_equal(fit.simulate(2, seed=3), drawn[:2])
    if family != "binomial":
        growth = np.exp(fit.variance_components["estimate"][0]) * (1 + 1 / (fit.size or np.inf)) - 1
        assert drawn.var(axis=0).mean() == pytest.approx((m + growth * m**2).mean(), rel=0.1)
    else:
        np.testing.assert_allclose(fit.marginal_means("arm", at={"arm": 1})["estimate"][0], m[data["arm"] == 1][0])


def test_residuals_of_a_negative_binomial_are_those_of_its_density() -> None:
    data, rng = responders(6, 40), np.random.default_rng(8)
    data = data.assign(y=rng.poisson(rng.gamma(1.5, np.exp(0.5 + 0.7 * rng.normal(size=40)[data["id"]]) / 1.5)))
    fit = ks.glmm("y ~ arm + (1 | id)", data, family="negative-binomial")
    mu, y, p = fit.predict()["estimate"].to_numpy(), data["y"].to_numpy(), fit.size
    assert p is not None
    assert np.isfinite(p)
    np.testing.assert_allclose(fit.residuals("pearson"), (y - mu) / np.sqrt(mu + mu**2 / p))
    saturated = stats.nbinom.logpmf(y, p, p / (p + np.maximum(y, 1e-12)))
    squared = 2 * (saturated - stats.nbinom.logpmf(y, p, p / (p + mu)))
    np.testing.assert_allclose(fit.residuals("deviance"), np.sign(y - mu) * np.sqrt(squared), atol=1e-5)


def test_influence_of_a_level_of_a_cumulative_model_is_close_to_a_refit() -> None:
    data = responders(3).assign(o=lambda d: pd.Categorical(d["y"] + (d["t"] > 1) + d["y"] * d["arm"], ordered=True))
    fit = ks.glmm("o ~ arm + t + (1 | id)", data, family="cumulative")
    row = fit.influence().filter(level=1).frame.iloc[0]
    again = ks.glmm("o ~ arm + t + (1 | id)", data[data["id"] != 1], family="cumulative")
    change = ((fit.coefficients["estimate"] - again.coefficients["estimate"]) / fit.coefficients["std_error"])[-2:]
    worst = int(np.abs(change.to_numpy()).argmax())
    assert row["largest_term"] == ["arm", "t"][worst]
    assert row["largest_change"] == pytest.approx(change.iloc[worst], rel=0.1)
    with pytest.raises(FormulaError, match="no scores of their own"):
        ks.glmm("y ~ arm + (1 | id) + (1 | t)", data).influence()
    with pytest.raises(FormulaError, match="use predict"):
        fit.residuals()
    with pytest.raises(FormulaError, match="predict\\(type='marginal'\\)"):
        fit.marginal_means("arm")


def test_a_population_prediction_does_not_ask_for_groups_or_slopes() -> None:
    data = responders(3)
    fit = ks.glmm("y ~ arm + (1 + t | id)", data)
    new = pd.DataFrame({"arm": [0, 1]})
    b = fit.coefficients["estimate"].to_numpy()
    np.testing.assert_allclose(fit.predict(new, random=False, type="link")["estimate"], [b[0], b[0] + b[1]])
    with pytest.raises(DataError, match="'t' is not there"):
        fit.predict(new, random=False, type="marginal")
    G = fit.covariance["1 + t | id"].to_numpy()
    marginal = fit.predict(new.assign(t=2.0), type="marginal")["estimate"][1]
    spread = np.sqrt(np.array([1, 2.0]) @ G @ np.array([1, 2.0]))
    by_hand = integrate.quad(lambda u: special.expit(b.sum() + spread * u) * stats.norm.pdf(u), -9, 9)[0]
    assert marginal == pytest.approx(by_hand, abs=1e-6)
    with pytest.raises(FormulaError, match="use lsmeans for marginal means"):
        fit.predict(interval="confidence", type="marginal")
    own = fit.summary().meta["conventions"]
    assert any(f"id correlation (Intercept), t {fit.variance_components['sd_cor'][2]:.3f}" in line for line in own)
    linear = ks.lmm("y ~ arm + (1 + t | id)", data.assign(y=data["y"] + 0.1 * data["t"] * (data["id"] % 3)))
    found = linear.predict(new.assign(t=2.0), random=False, interval="prediction", df="satterthwaite")
    G = linear.covariance["1 + t | id"].to_numpy()
    mean = linear.predict(new, random=False, df="satterthwaite")["std_error"]
    own_variance = np.array([1, 2.0]) @ G @ np.array([1, 2.0]) + linear.sigma**2
    np.testing.assert_allclose(found["std_error"] ** 2, mean**2 + own_variance)
    gap = linear.predict(pd.DataFrame({"arm": [0, 1], "t": [2, None]}), random=False, interval="prediction")
    assert gap.frame.isna().all(axis=1).tolist() == [False, True]


def test_likelihood_ratios_compare_only_what_is_nested() -> None:
    data = responders(3)
    large, small = ks.glmm("y ~ arm + t + (1 | id)", data), ks.glmm("y ~ arm + (1 | id)", data)
    row = large.lrt(small).frame.iloc[0]
    assert row["statistic"] == pytest.approx(2 * (large.loglik - small.loglik))
    assert row["p_value"] == pytest.approx(stats.chi2.sf(row["statistic"], 1))
    slope = ks.glmm("y ~ arm + t + (t || id)", data).lrt(large).frame.iloc[0]
    assert slope["reference"] == "0.5 chi-square(0) + 0.5 chi-square(1)"
    assert slope["p_value"] == pytest.approx(stats.chi2.sf(slope["statistic"], 1) / 2)
    for other, said in [
        (ks.glmm("y ~ arm + (1 | id)", data, link="probit"), "family, link"),
        (ks.glmm("y ~ arm + (1 | id)", data.assign(w=2.0), weights="w"), "or weights"),
        (ks.glmm("y ~ arm + (1 | id)", data, quadrature=3), "quadrature points"),
        (ks.glmm("y ~ arm + (1 | id)", data, penalty="firth"), "the penalty"),
        (ks.glmm("y ~ arm*t + (1 | id)", data), "larger model first"),
    ]:
        with pytest.raises(FormulaError, match=said):
            large.lrt(other)


def test_glmm_refusals() -> None:
    data = responders()
    with pytest.raises(FormulaError, match="one grouping factor"):
        ks.glmm("y ~ arm + (1 | id) + (1 | t)", data, quadrature=5)
    with pytest.raises(DataError, match="not 0 or 1"):
        ks.glmm("t ~ arm + (1 | id)", data)
    with pytest.raises(DataError, match="not counts"):
        ks.glmm("h ~ arm + (1 | id)", data.assign(h=data["t"] / 2), family="poisson")
    with pytest.raises(FormulaError, match="Did you mean 'binomial'"):
        ks.glmm("y ~ arm + (1 | id)", data, family="binomal")
    with pytest.raises(DataError, match="order of"):
        ks.glmm(
            "c ~ arm + (1 | id)", data.assign(c=data["t"].map({0: "a", 1: "b", 2: "c", 3: "d"})), family="cumulative"
        )
