"""ks.glmm against R lme4 1.1-31, glmmTMB 1.1.5 (negative binomial) and ordinal 2022.11-16 (cumulative)."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from kapstats.errors import KapstatsWarning

FOLDER = Path(__file__).parent / "mixed"
RTOL = 2e-4  # the peers stop at gradients up to 2e-3 and difference their Hessians


def reference(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_text())


@cache
def trial() -> pd.DataFrame:
    data = pd.read_csv(FOLDER / "kap_trial.csv")
    arms = ["placebo", "IV", "IM", "intranasal", "sublingual", "oral"]
    return data.assign(
        base_c=(data["madrs_base"] - 33) / 5,
        arm=pd.Categorical(data["arm"], arms),
        visit=pd.Categorical(data["visit"]),
    )


@cache
def events() -> pd.DataFrame:
    data = pd.read_csv(FOLDER / "kap_events.csv")
    return data.assign(route=pd.Categorical(data["route"], ["IV", "IM", "intranasal", "sublingual", "oral"]))


def check_coefficients(fit: Any, coef: dict[str, list[Any]], vcov: Any = None) -> None:
    assert fit.converged
    found = fit.coefficients.frame
    assert found["term"].tolist() == coef["term"]
    np.testing.assert_allclose(found["estimate"], coef["estimate"], rtol=RTOL)
    np.testing.assert_allclose(found["std_error"], coef["se"], rtol=RTOL)
    if vcov is not None:
        se = np.asarray(coef["se"])
        expected = np.asarray(vcov)[: len(se), : len(se)]
        np.testing.assert_allclose(fit.vcov, expected, atol=RTOL * np.outer(se, se).max())


@pytest.mark.parametrize(("name", "points"), [("laplace", 1), ("nagq5", 5), ("nagq10", 10), ("nagq25", 25)])
def test_responder(name: str, points: int) -> None:
    ref = reference(f"kap_responder_{name}")
    fit = ks.glmm("responder ~ base_c + arm + visit + (1 | subject)", trial(), family="binomial", quadrature=points)
    assert fit.loglik == pytest.approx(ref["fit"]["logLik"], abs=2e-6)
    assert fit.aic == pytest.approx(ref["fit"]["AIC"], abs=4e-6)
    assert fit.bic == pytest.approx(ref["fit"]["BIC"], abs=4e-6)
    check_coefficients(fit, ref["fit"]["coef"], ref["fit"]["vcov"]["values"])
    np.testing.assert_allclose(fit.variance_components["sd_cor"], ref["fit"]["theta"], rtol=1e-5)
    modes, found = ref["conditional_modes"]["subject"], fit.random_effects().frame.set_index("level")
    np.testing.assert_allclose(found["estimate"].loc[modes["level"]], modes["(Intercept)"], atol=1e-5)
    np.testing.assert_allclose(found["std_error"].loc[modes["level"]] ** 2, np.ravel(modes["cond_var"]), rtol=1e-4)


def test_site_variance_at_zero_is_said() -> None:
    ref = reference("kap_responder_site_laplace")["fit"]
    with pytest.warns(KapstatsWarning, match="Singular fit"):
        fit = ks.glmm("responder ~ base_c + arm + visit + (1 | subject) + (1 | site)", trial())
    assert fit.singular
    assert fit.loglik == pytest.approx(ref["logLik"], abs=2e-6)
    check_coefficients(fit, ref["coef"], ref["vcov"]["values"])
    assert fit.variance_components.filter(group="site")["estimate"][0] < 1e-6


@pytest.mark.parametrize(("name", "points"), [("laplace", 1), ("nagq10", 10)])
def test_poisson_with_offset(name: str, points: int) -> None:
    ref = reference(f"kap_events_poisson_{name}")["fit"]
    formula = "ae_count ~ route + session + offset(log(hours)) + (1 | subject)"
    fit = ks.glmm(formula, events(), family="poisson", quadrature=points)
    if points == 1:
        assert fit.loglik == pytest.approx(ref["logLik"], abs=2e-6)
    check_coefficients(fit, ref["coef"], ref["vcov"]["values"])
    np.testing.assert_allclose(fit.variance_components["sd_cor"], ref["theta"], rtol=1e-5)


def test_negative_binomial_without_overdispersion() -> None:
    ref = reference("kap_events_nbinom2")
    formula = "ae_count ~ route + session + offset(log(hours)) + (1 | subject)"
    with pytest.warns(KapstatsWarning, match="no overdispersion"):
        fit = ks.glmm(formula, events(), family="negative-binomial")
    assert fit.loglik == pytest.approx(ref["logLik"], abs=1e-5)
    check_coefficients(fit, ref["coef"])
    assert fit.size == np.inf
    assert fit.variance_components["sd_cor"][0] == pytest.approx(ref["sd_subject"], rel=1e-5)


@pytest.mark.parametrize(("name", "points"), [("laplace", 1), ("nagq10", 10)])
def test_cumulative_logit(name: str, points: int) -> None:
    ref = reference("kap_events_clmm")["models"][name]
    fit = ks.glmm("cgi_i ~ route + session + (1 | subject)", events(), family="cumulative", quadrature=points)
    assert fit.loglik == pytest.approx(ref["logLik"], abs=2e-6)
    check_coefficients(fit, ref["coef"], ref["vcov"]["values"])
    assert fit.variance_components["sd_cor"][0] == pytest.approx(ref["sd_subject"], rel=1e-5)
