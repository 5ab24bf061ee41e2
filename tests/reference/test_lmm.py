"""ks.lmm against R lme4 1.1-31, lmerTest 3.1-3 and pbkrtest 0.5.2 on nested, crossed and correlated random effects."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import kapstats as ks

FOLDER = Path(__file__).parent / "mixed"
RANDOM = {
    "slope_therapist_site": "(week | subject) + (1 | therapist) + (1 | site)",
    "uncorrelated": "(week || subject) + (1 | therapist) + (1 | site)",
    "slope": "(week | subject)",
    "intercept": "(1 | subject)",
    "nested": "(1 | therapist) + (1 | therapist:subject)",
}
CASES = [(name, method) for name in RANDOM for method in ("reml", "ml")]


@cache
def reference(name: str, method: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"kap_sessions_{name}_{method}.json").read_text())


@cache
def fitted(name: str, method: str) -> Any:
    data = pd.read_csv(FOLDER / "kap_sessions.csv")
    df = None if method == "reml" else "satterthwaite"
    return ks.lmm(f"qids ~ week * dose_mgkg + {RANDOM[name]}", data, reml=method == "reml", df=df)


@pytest.mark.parametrize(("name", "method"), CASES)
def test_likelihood_and_parameters(name: str, method: str) -> None:
    fit, ref = fitted(name, method), reference(name, method)["fit"]
    assert fit.converged
    assert not fit.singular
    assert fit.nobs == ref["n_obs"]
    np.testing.assert_allclose([fit.loglik, fit.aic, fit.bic], [ref["logLik"], ref["AIC"], ref["BIC"]], rtol=1e-10)
    assert fit.coefficients["term"].tolist() == ref["coef_names"]
    np.testing.assert_allclose(fit.coefficients["estimate"], ref["coefficients"], rtol=1e-6)
    found = fit.variance_components.frame
    np.testing.assert_allclose(np.sort(found["estimate"]), np.sort(ref["varcomp"]["vcov"]), rtol=3e-6)
    np.testing.assert_allclose(np.sort(found["sd_cor"]), np.sort(ref["varcomp"]["sdcor"]), rtol=3e-6)


@pytest.mark.parametrize(("name", "method"), CASES)
def test_satterthwaite(name: str, method: str) -> None:
    fit, ref = fitted(name, method), reference(name, method)
    found, coef = fit.coefficients_by(df="satterthwaite").frame, ref["satterthwaite"]["coef"]
    np.testing.assert_allclose(found["std_error"], coef["se"], rtol=1e-6)
    np.testing.assert_allclose(found["df"], coef["df"], rtol=1e-3)
    np.testing.assert_allclose(found["statistic"], coef["t"], rtol=1e-5)
    table, tests = fit.anova(df="satterthwaite").frame, ref["satterthwaite"]["anova_type_III"]
    assert table["term"].tolist() == tests["effect"]
    np.testing.assert_allclose(table["statistic"], tests["F"], rtol=1e-5)
    np.testing.assert_allclose(table["df"], tests["den_df"], rtol=1e-3)


@pytest.mark.parametrize("name", RANDOM)
def test_kenward_roger(name: str) -> None:
    fit, ref = fitted(name, "reml"), reference(name, "reml")["kenward_roger"]
    found = fit.coefficients.frame
    np.testing.assert_allclose(found["std_error"], ref["coef"]["se"], rtol=1e-6)
    np.testing.assert_allclose(found["df"], ref["coef"]["df"], rtol=5e-6)
    np.testing.assert_allclose(fit.vcov, ref["vcov_adjusted"]["values"], rtol=2e-6)
    table = fit.anova().frame
    np.testing.assert_allclose(table["statistic"], ref["anova_type_III"]["F"], rtol=1e-5)
    np.testing.assert_allclose(table["df"], ref["anova_type_III"]["den_df"], rtol=5e-6)


@pytest.mark.parametrize(("name", "method"), CASES)
def test_model_covariance(name: str, method: str) -> None:
    fit, ref = fitted(name, method), reference(name, method)["fit"]
    plain = fit.linear(np.eye(len(ref["coef_names"])), df="normal").vcov
    np.testing.assert_allclose(plain, ref["vcov"]["values"], rtol=2e-6)


@pytest.mark.parametrize(("name", "method"), CASES)
def test_random_effects(name: str, method: str) -> None:
    fit, ref = fitted(name, method), reference(name, method)
    table = fit.random_effects().frame
    for group, blups in ref["blups"].items():
        for term in set(blups) - {"level", "cond_var"}:
            mine = table[(table["group"] == group) & (table["term"] == term)].set_index("level")["estimate"]
            np.testing.assert_allclose(mine.loc[blups["level"]], blups[term], atol=2e-6)
        if "cond_var" in blups:
            mine = fit.conditional_variances(group)[: len(blups["level"])]
            levels = next(fit.data.random.levels[t.factor] for t in fit.data.random.terms if t.group == group)
            assert list(levels[: len(blups["level"])]) == blups["level"] or group == "therapist:subject"
            if group != "therapist:subject":
                np.testing.assert_allclose(mine, blups["cond_var"], atol=2e-6)
    np.testing.assert_allclose(fit.predict()["estimate"][:10], ref["fitted_first10"], rtol=1e-6)


@pytest.mark.parametrize("method", ["REML", "ML"])
def test_slope_model_of_nlme(method: str) -> None:
    ref = json.loads((FOLDER / "kap_sessions_nlme.json").read_text())["models"][f"lme_slope_{method}"]
    fit = fitted("slope", method.lower())
    assert fit.loglik == pytest.approx(ref["logLik"], rel=1e-9)
    np.testing.assert_allclose(fit.coefficients["estimate"], ref["coef"]["Value"], rtol=2e-5)  # nlme's optimiser
    plain = fit.linear(np.eye(4), df="normal").vcov
    np.testing.assert_allclose(plain, ref["vcov"]["values"], rtol=1e-4)


@pytest.mark.parametrize("method", ["REML", "ML"])
def test_random_intercept_with_ar1_residual_of_nlme(method: str) -> None:
    ref = json.loads((FOLDER / "kap_sessions_nlme.json").read_text())["models"][f"lme_intercept_ar1_{method}"]
    data = pd.read_csv(FOLDER / "kap_sessions.csv")
    formula = "qids ~ week * dose_mgkg + (1 | subject) + ar1(week | subject)"
    fit = ks.lmm(formula, data, reml=method == "REML", df="satterthwaite")
    assert fit.loglik == pytest.approx(ref["logLik"], abs=1e-8)
    assert fit.aic == pytest.approx(ref["AIC"], abs=1e-7)
    assert fit.sigma == pytest.approx(ref["sigma"], rel=1e-6)
    np.testing.assert_allclose(fit.coefficients["estimate"], ref["coef"]["Value"], rtol=1e-6)
    np.testing.assert_allclose(fit.linear(np.eye(4), df="normal").vcov, ref["vcov"]["values"], rtol=1e-6)
    table = fit.variance_components.frame
    assert table.loc[table["term"] == "rho", "estimate"].iloc[0] == pytest.approx(
        ref["modelStruct"]["corStruct.Phi"], rel=1e-6
    )
    subject = table.loc[table["group"] == "subject", "estimate"].iloc[0]
    assert subject / fit.sigma**2 == pytest.approx(ref["modelStruct"]["reStruct.subject.var((Intercept))"], rel=1e-6)
    assert np.isfinite(fit.coefficients["df"]).all()


STRUCTURES = {
    "us_site": "(1 | site) + us(visit | subject)",
    "cs_site": "(1 | site) + cs(visit | subject)",
    "csh_site": "(1 | site) + csh(visit | subject)",
    "ar1_site": "(1 | site) + ar1(visit | subject)",
    "ar1h_subject": "(1 | site / subject) + ar1h(visit | subject)",
    "diag_visit": "(1 | site / subject) + diag(visit | subject)",
    "diag_arm": "(1 | site / subject) + diag(arm | subject)",
    "sp_exp_subject": "(1 | site / subject) + sp_exp(week | subject)",
    "sp_gau_site": "(1 | site) + sp_gau(week | subject)",
}


@pytest.mark.parametrize("method", ["REML", "ML"])
@pytest.mark.parametrize("name", STRUCTURES)
def test_residual_structures_of_nlme(name: str, method: str) -> None:
    """residual_structures.R; nlme stops up to 2e-7 short in log-likelihood, never above ours."""
    ref = json.loads((FOLDER / "residual_structures.json").read_text())["models"][f"{name}_{method}"]
    data = pd.read_csv(FOLDER / "kap_trial.csv").assign(week=lambda d: d["visit"] / 7)
    order = {"arm": ["placebo", "IM", "intranasal", "IV", "oral", "sublingual"]}
    formula = f"chg ~ madrs_base + arm * factor(visit) + {STRUCTURES[name]}"
    fit = ks.lmm(formula, data, reml=method == "REML", df="satterthwaite", order=order)
    assert -1e-9 < fit.loglik - ref["logLik"] < 2e-7
    assert fit.aic == pytest.approx(ref["AIC"], abs=4e-7)
    names = [n.replace("factor(visit)", "visit_f") for n in fit.design.names]
    at = [names.index(t) for t in ref["terms"]]
    se = np.sqrt(np.diag(fit.linear(np.eye(len(names)), df="normal").vcov))[at]
    np.testing.assert_allclose(se, ref["std_error"], rtol=3e-5)
    estimate = fit.coefficients["estimate"].to_numpy()[at]
    np.testing.assert_allclose((estimate - ref["estimate"]) / se, 0.0, atol=5e-5)
