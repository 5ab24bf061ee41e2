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
        arm=pd.Categorical(data["arm"], arms, ordered=True),
        visit=pd.Categorical(data["visit"]),
    )


@cache
def events() -> pd.DataFrame:
    data = pd.read_csv(FOLDER / "kap_events.csv")
    return data.assign(
        route=pd.Categorical(data["route"], ["IV", "IM", "intranasal", "sublingual", "oral"], ordered=True)
    )


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


def squares(fit: Any) -> list[float]:
    return [float((fit.residuals(kind) ** 2).sum()) for kind in ("response", "pearson", "deviance")]


def test_predictions_and_residuals_of_counts() -> None:
    """R lme4 1.1-31 predict.merMod and residuals.merMod; a subject not seen has effect zero."""
    formula = "ae_count ~ route + session + offset(log(hours)) + (1 | subject)"
    fit = ks.glmm(formula, events(), family="poisson")
    assert fit.predict()["estimate"].sum() == pytest.approx(1274.574603, rel=1e-6)
    np.testing.assert_allclose(squares(fit), [1054.412936, 538.4006365, 643.7238573], rtol=1e-6)
    new = pd.DataFrame({"route": ["IV", "oral"], "session": [1, 3], "subject": ["E001", "none"], "hours": [2, 4]})
    np.testing.assert_allclose(fit.predict(new)["estimate"], [1.217139787, 1.664305757], rtol=1e-6)
    link = fit.predict(new.drop(columns="subject"), random=False, type="link")
    np.testing.assert_allclose(link["estimate"], [0.4563779022, 0.5094080736], atol=1e-6)
    limits = fit.predict(new, interval="confidence").frame
    np.testing.assert_allclose(limits["estimate"], np.exp(link["estimate"]), rtol=1e-12)
    half = np.log(limits["conf_high"] / limits["conf_low"]) / 2
    np.testing.assert_allclose(half, 1.959963985 * limits["std_error"] / limits["estimate"], rtol=1e-8)


def test_residuals_of_grouped_trials_with_another_link() -> None:
    """R lme4 1.1-31 with nAGQ 25, where its expected weights no longer matter."""
    complete = trial().dropna(subset=["responder"]).groupby(["subject", "arm", "base_c"], observed=True, as_index=False)
    data = complete.agg(r=("responder", "sum"), n=("responder", "size"))
    fit = ks.glmm("cbind(r, n - r) ~ base_c + arm + (1 | subject)", data, link="cloglog", quadrature=25)
    expected = [-3.599208454, -0.06444888753, 1.997201935, 1.415587239, 1.52999731, 1.241356539, 1.963432335]
    np.testing.assert_allclose(fit.coefficients["estimate"], expected, rtol=2e-5)
    assert fit.predict()["estimate"].sum() == pytest.approx(50.18222715, rel=1e-5)
    np.testing.assert_allclose(squares(fit), [1.474094297, 52.30946633, 86.19224913], rtol=2e-5)


@pytest.mark.parametrize(
    ("link", "loglik", "sd", "session", "fitted"),
    [
        ("probit", -900.9334202, 0.7357308858, (-0.13653698102, 0.03089475913), 242.0793369),
        ("cloglog", -909.4747978, 0.7241823448, (-0.12761105752, 0.03135698304), 234.8271671),
    ],
)
def test_cumulative_links(link: str, loglik: float, sd: float, session: tuple[float, float], fitted: float) -> None:
    """R ordinal 2022.11-16 clmm, whose "loglog" is the complementary log-log link (its clm's "cloglog")."""
    fit = ks.glmm("cgi_i ~ route + session + (1 | subject)", events(), family="cumulative", link=link)
    assert fit.loglik == pytest.approx(loglik, abs=2e-5)
    assert fit.variance_components["sd_cor"][0] == pytest.approx(sd, rel=2e-5)
    row = fit.coefficients.filter(term="session").frame.iloc[0]
    np.testing.assert_allclose([row["estimate"], row["std_error"]], session, rtol=1e-4)
    found = fit.predict().frame
    assert list(found) == [f"p_{k}" for k in range(1, 6)]
    np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=1e-12)
    own = found.to_numpy()[np.arange(fit.nobs), events()["cgi_i"].to_numpy() - 1]
    assert own.sum() == pytest.approx(fitted, rel=1e-5)
