"""Parametric survival against R survival 3.5-3 (survreg), icenReg 2.0.16 and own R code: 1e-7, mixture cure 1e-5."""

from __future__ import annotations

import numpy as np
import pytest

import kapstats as ks
from tests.reference.more_survival_cases import ORDER, matrix, numbers, records, table

CASES, INTERVAL = records("parametric"), records("interval")
FULL = "Surv(time, status == 1) ~ arm + madrs0 + age + sex + prior_fail"
INTERVALS = "Surv(left, right, type='interval2') ~ arm + madrs0"
NAMES = {"lognormal": "log-normal", "loglogistic": "log-logistic"}
FAMILIES = ["weibull", "exponential", "lognormal", "loglogistic", "rayleigh"]


def agree(fit, case):
    assert fit.coefficients["term"].tolist()[: len(case["coef"])] == list(case["coef"])
    np.testing.assert_allclose(fit.coefficients["estimate"][: len(case["coef"])], numbers(case["coef"]), rtol=1e-7)
    np.testing.assert_allclose(fit.coefficients["std_error"], numbers(case["se"]), rtol=1e-7)
    np.testing.assert_allclose(fit.loglik, case["loglik"], rtol=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_right_censored_aft(family):
    case = CASES[f"survreg_{family}"]
    fit = ks.parametric_survival(FULL, table("trial"), distribution=NAMES.get(family, family), order=ORDER)
    agree(fit, case)
    np.testing.assert_allclose(fit.loglik_null, case["loglik_null"], rtol=1e-9)
    np.testing.assert_allclose([fit.aic, fit.scale[0]], [case["aic"], numbers([case["scale"]])[0]], rtol=1e-8)
    person = {"arm": "placebo", "madrs0": 10, "age": 45, "sex": "F", "prior_fail": 2}
    found = fit.predict(person, type="quantile", p=[0.25, 0.5, 0.75])["estimate"]
    np.testing.assert_allclose(found, numbers(case["quantiles"]), rtol=1e-7)
    residuals = fit.residuals("deviance")
    first = matrix(case["deviance_residuals"]["first"]).to_numpy(float).ravel()
    np.testing.assert_allclose(residuals[:6], first, rtol=1e-7)
    np.testing.assert_allclose((residuals**2).sum(), case["deviance_residuals"]["ss"], rtol=1e-7)


@pytest.mark.parametrize("family", ["weibull", "exponential", "lognormal", "loglogistic"])
def test_interval_censored_aft(family):
    case = INTERVAL[f"survreg_ic_{family}"]
    fit = ks.parametric_survival(INTERVALS, table("trial"), distribution=NAMES.get(family, family), order=ORDER)
    agree(fit, case)
    median = fit.predict({"arm": "placebo", "madrs0": 10}, type="quantile")["estimate"]
    np.testing.assert_allclose(median, case["quantile_median_placebo_madrs10"], rtol=1e-7)
    if case["weibull_ph_log_hr"]:
        found = fit.log_hazard_ratios()["estimate"]
        np.testing.assert_allclose(found, numbers(case["weibull_ph_log_hr"]), rtol=1e-7)


def test_weibull_hazard_ratios_have_the_standard_errors_of_the_hazard_parametrisation():
    case = INTERVAL["ic_ph_icenReg"]["weibull"]
    fit = ks.parametric_survival(INTERVALS, table("trial"), order=ORDER)
    found = fit.log_hazard_ratios()
    # icenReg stops early and takes a numerical Hessian: interval PH at 1e-5, what rests on the curvature at 1e-4
    np.testing.assert_allclose(found["estimate"], numbers(case["coef"])[2:], rtol=1e-5)
    np.testing.assert_allclose(found["std_error"], numbers(case["se"])[2:], rtol=1e-4)


def test_scale_by_stratum():
    case = CASES["survreg_strata"]
    formula = "Surv(time, status == 1) ~ arm + madrs0 + strata(stratum)"
    fit = ks.parametric_survival(formula, table("trial"), order=ORDER)
    agree(fit, case)
    assert fit.coefficients["term"].tolist() == list(case["se"])
    np.testing.assert_allclose(fit.scale, numbers(case["scale"]), rtol=1e-7)


@pytest.mark.parametrize("knots", [0, 1, 2, 3])
def test_royston_parmar(knots):
    case = CASES[f"royston_parmar_hazard_{knots}knots"]
    formula = "Surv(time, status == 1) ~ arm + madrs0"
    fit = ks.parametric_survival(formula, table("trial"), distribution="royston-parmar", knots=knots, order=ORDER)
    agree(fit, {**case, "loglik": case["loglik_on_time_scale"]})
    np.testing.assert_allclose(fit.aic, case["aic"], rtol=1e-9)


def test_piecewise_exponential():
    case = CASES["piecewise_exponential"]
    fit = ks.parametric_survival(
        "Surv(time, status == 1) ~ arm + madrs0",
        table("trial"),
        distribution="piecewise-exponential",
        cuts=[4, 12, 26],
        order=ORDER,
    )
    np.testing.assert_allclose(fit.coefficients["estimate"], numbers(case["coef"]), rtol=1e-7)
    np.testing.assert_allclose(fit.coefficients["std_error"], numbers(case["se"]), rtol=1e-7)


@pytest.mark.parametrize(("key", "cure"), [("none", "1"), ("arm", "arm")])
def test_weibull_mixture_cure(key, cure):
    case = CASES["mixture_cure_weibull"][key]
    fit = ks.parametric_survival("Surv(time, status == 1) ~ 1", table("trial"), cure=cure, order=ORDER)
    value = dict(zip(fit.coefficients["term"], fit.coefficients["estimate"], strict=True))
    error = dict(zip(fit.coefficients["term"], fit.coefficients["std_error"], strict=True))
    for name, expected in case["coef"].items():
        ours, sign = {"log_shape": ("Log(scale)", -1.0), "log_scale": ("(Intercept)", 1.0)}.get(name, (name, 1.0))
        np.testing.assert_allclose(sign * value[ours], expected, rtol=1e-5)
        np.testing.assert_allclose(error[ours], case["se"][name], rtol=1e-5)
    np.testing.assert_allclose(fit.loglik, case["loglik"], rtol=1e-9)


def test_generalised_gamma_and_left_truncation_beside_lifelines():
    """lifelines stops at about 1e-4 in the parameters; its log-likelihood is then 1e-8 short of the maximum."""
    lifelines = pytest.importorskip("lifelines")
    data = table("trial").assign(e=lambda d: (d["status"] == 1) * 1)
    peer = lifelines.GeneralizedGammaFitter().fit(data["time"], data["e"])
    fit = ks.parametric_survival("Surv(time, e) ~ 1", data, distribution="generalised-gamma")
    assert -1e-9 < fit.loglik - peer.log_likelihood_ < 1e-5
    np.testing.assert_allclose(fit.coefficients["estimate"], peer.params_, rtol=1e-3)
    np.testing.assert_allclose(fit.coefficients["std_error"], peer.summary["se(coef)"], rtol=5e-3)
    late = table("truncated")
    peer = lifelines.WeibullFitter().fit(late["exit"], late["relapse"], entry=late["entry"])
    fit = ks.parametric_survival("Surv(entry, exit, relapse) ~ 1", late)
    assert -1e-9 < fit.loglik - peer.log_likelihood_ < 1e-5
    np.testing.assert_allclose([np.exp(fit.theta[0]), 1 / fit.scale[0]], [peer.lambda_, peer.rho_], rtol=1e-4)
    ignored = ks.parametric_survival("Surv(exit, relapse) ~ 1", late)
    assert abs(ignored.theta[0] - fit.theta[0]) > 0.05
