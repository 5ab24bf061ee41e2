"""Recurrent events against R survival 3.5-3 and MASS (glm.nb): partial likelihoods 1e-7, mean function 1e-10."""

from __future__ import annotations

import numpy as np
import pytest

import kapstats as ks
from tests.reference.more_survival_cases import ORDER, numbers, records, table

CASES = records("recurrent")
FORMULA = "Surv(start, stop, event) ~ arm + madrs0"


def agree(fit, case):
    np.testing.assert_allclose(fit.coefficients["estimate"], numbers(case["coef"]), rtol=1e-7)
    np.testing.assert_allclose(fit.coefficients["std_error"], numbers(case["se"]), rtol=1e-7)
    np.testing.assert_allclose(fit.loglik, case["loglik"], rtol=1e-9)


@pytest.mark.parametrize(
    ("case", "options"),
    [
        (CASES["ag"]["efron"], {"model": "andersen-gill"}),
        (CASES["ag"]["breslow"], {"model": "lwyy"}),
        (CASES["pwp_total"], {"model": "pwp-total", "episodes": 4}),
        (CASES["pwp_gap"], {"model": "pwp-gap", "episodes": 4}),
        (CASES["wlw"]["common"], {"model": "wlw", "episodes": 3}),
    ],
    ids=["andersen-gill", "lwyy", "pwp-total", "pwp-gap", "wlw"],
)
def test_models(case, options):
    agree(ks.recurrent(FORMULA, table("recurrent"), id="id", order=ORDER, **options), case)


def test_wlw_with_an_effect_per_event():
    data = table("recurrent")
    data = data[data["arm"] != "low"].assign(high=lambda d: (d["arm"] == "high") * 1.0)
    formula = "Surv(start, stop, event) ~ madrs0 + high:C(EPISODE)"
    fit = ks.recurrent(formula, data, id="id", model="wlw", episodes=3)
    agree(fit, CASES["wlw"]["by_stratum"])


def test_mean_cumulative_function():
    case = CASES["mcf"]
    fit = ks.mean_cumulative_function("Surv(start, stop, event) ~ arm", table("recurrent"), id="id", order=ORDER)
    found = fit.at([4, 8, 16, 26, 40, 52, 60]).frame
    assert [f"arm={a}" for a in found["arm"]] == [s.strip() for s in case["strata"]]
    np.testing.assert_allclose(found["estimate"], numbers(case["mcf"]), rtol=1e-10)
    np.testing.assert_allclose(found["std_error"], numbers(case["se"]), rtol=1e-10)


def test_two_sample_robust_score_test():
    case = CASES["ghosh_lin"]
    data = table("recurrent")
    data, order = data[data["arm"] != "low"], {"arm": ["placebo", "high"]}
    found = ks.mean_cumulative_function("Surv(start, stop, event) ~ arm", data, id="id", order=order)
    test = found.test().frame.loc[0, ["statistic", "df", "p_value"]].astype(float)
    np.testing.assert_allclose(test, numbers(case["robust_score"]), rtol=1e-7)
    fit = ks.recurrent("Surv(start, stop, event) ~ arm", data, id="id", model="lwyy", order=order)
    row = fit.coefficients.frame.loc[0, ["estimate", "std_error"]].astype(float)
    np.testing.assert_allclose(row, [case["coef"], case["robust_se"]], rtol=1e-7)


@pytest.mark.parametrize(("key", "model"), [("poisson", "poisson"), ("negbin", "negative-binomial")])
def test_counts(key, model):
    case = CASES["negbin"][key]
    fit = ks.recurrent(FORMULA, table("recurrent"), id="id", model=model, order=ORDER)
    np.testing.assert_allclose(fit.coefficients["estimate"], numbers(case["coef"]), rtol=1e-7)
    np.testing.assert_allclose(fit.coefficients["std_error"], numbers(case["se"]), rtol=1e-7)
    if model == "poisson":
        np.testing.assert_allclose(fit.kernel.deviance, case["deviance"], rtol=1e-9)
    else:
        np.testing.assert_allclose([fit.theta, fit.loglik], [case["theta"], case["loglik"]], rtol=1e-7)
        # glm.nb gives the error at the theta before its last step, which it takes when theta moves by 1e-4
        np.testing.assert_allclose(fit.kernel.theta_error, case["theta_se"], rtol=1e-5)


def test_a_gamma_frailty_per_patient():
    case = CASES["frailty_ag"]
    fit = ks.cox(f"{FORMULA} + frailty(id)", table("recurrent"), order=ORDER)
    np.testing.assert_allclose(fit.coefficients["estimate"], numbers(case["coef"]), rtol=2e-6)
    np.testing.assert_allclose(fit.coefficients["std_error"], numbers(case["se"]), rtol=1e-6)
    np.testing.assert_allclose(fit.frailty.theta["estimate"], case["theta"], rtol=1e-6)
    np.testing.assert_allclose(fit.loglik, case["integrated_loglik"], rtol=1e-9)
