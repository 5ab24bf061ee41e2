"""Competing risks against R survival 3.5-3 and cmprsk 2.2-11: closed forms 1e-10, Newton fits 1e-7."""

from __future__ import annotations

import numpy as np
import pytest

import kapstats as ks
from kapstats.kernels import fine_gray as kernel
from kapstats.relapse.cause_specific import cause_specific
from tests.reference.more_survival_cases import ARMS, ORDER, matrix, numbers, records, table

CASES = records("competing")
COVARIATES = "Surv(time, status) ~ arm + madrs0 + sex"


def test_aalen_johansen_with_infinitesimal_jackknife_and_log_limits():
    case = CASES["aj_arm"]
    found = ks.cumulative_incidence("Surv(time, status) ~ arm", table("trial"), cause=None, order=ORDER, convention="R")
    at = found.at([2, 4, 8, 16, 26, 40, 52]).frame.set_index(["arm", "cause", "time"])
    causes = {"relapse": 1, "discontinue": 2}
    checked = 0
    for i, state in enumerate(case["state"]):
        if state == "(s0)":
            continue
        row = at.loc[(case["strata"][i].removeprefix("arm="), causes[state], case["time"][i])]
        expected = [case[k][i] for k in ("prob", "se", "lower", "upper")]
        if expected[0] == 0:
            continue
        np.testing.assert_allclose(row[["estimate", "std_error", "conf_low", "conf_high"]], expected, rtol=1e-10)
        checked += 1
    assert checked == 42 - sum(p == 0 for p, s in zip(case["prob"], case["state"], strict=True) if s != "(s0)")


def test_event_free_state_has_the_standard_error_of_its_influence_function():
    from kapstats.kernels.aalen_johansen import aalen_johansen

    case, data = CASES["aj_arm"], table("trial")
    for i, state in enumerate(case["state"]):
        if state != "(s0)":
            continue
        rows = data[data["arm"] == case["strata"][i].removeprefix("arm=")]
        found = aalen_johansen(rows["time"].to_numpy(float), rows["status"].to_numpy(), 2)
        at = np.searchsorted(found.time, case["time"][i], side="right") - 1
        expected = [case["prob"][i], case["se"][i]]
        np.testing.assert_allclose([found.survival[at], found.se_survival[at]], expected, rtol=1e-10)


def test_cuminc_estimates_and_aalen_variances():
    case = CASES["cuminc_gray"]
    formula, data = "Surv(time, status) ~ arm", table("trial")
    found = ks.cumulative_incidence(formula, data, cause=None, order=ORDER, variance="aalen")
    at = found.at([4, 8, 16, 26, 40]).frame
    estimate, variance = matrix(case["est"]), matrix(case["var"])
    for name in estimate.index:
        arm, cause = name.split()
        rows = at[(at["arm"] == arm) & (at["cause"] == int(cause))]
        np.testing.assert_allclose(rows["estimate"], estimate.loc[name].astype(float), rtol=1e-10)
        np.testing.assert_allclose(rows["std_error"] ** 2, variance.loc[name].astype(float), rtol=1e-10)


@pytest.mark.parametrize(
    ("key", "strata", "rho"), [("gray", "", 0), ("gray_stratified", " + strata(stratum)", 0), ("gray_rho1", "", 1)]
)
@pytest.mark.parametrize("cause", [1, 2])
def test_gray(key, strata, rho, cause):
    expected = matrix(CASES["cuminc_gray"][key]).loc[str(cause)]
    found = ks.gray_test(f"Surv(time, status) ~ arm{strata}", table("trial"), cause=cause, rho=rho, order=ORDER).frame
    np.testing.assert_allclose(found.loc[0, ["statistic", "p_value", "df"]].astype(float), expected, rtol=1e-10)


@pytest.mark.parametrize(
    ("key", "options"),
    [("crr_relapse", {}), ("crr_discontinue", {"cause": 2}), ("crr_cengroup", {"censoring_groups": "arm"})],
)
def test_fine_gray_as_crr(key, options):
    case = CASES[key]
    fit = ks.fine_gray(COVARIATES, table("trial"), order=ORDER, **options)
    assert fit.coefficients["term"].tolist() == list(case["coef"])
    np.testing.assert_allclose(fit.coefficients["estimate"], numbers(case["coef"]), rtol=1e-7)
    np.testing.assert_allclose(fit.coefficients["std_error"], numbers(case["se"]), rtol=1e-7)
    np.testing.assert_allclose(fit.loglik, case["loglik"], rtol=1e-10)


def test_fine_gray_covariance_baseline_and_predictions():
    case = CASES["crr_relapse"]
    fit = ks.fine_gray(COVARIATES, table("trial"), order=ORDER)
    np.testing.assert_allclose(fit.vcov, np.array(case["vcov"]["data"], float), rtol=1e-7)
    np.testing.assert_allclose(fit.kernel.loglik_null, case["loglik_null"], rtol=1e-10)
    base = case["cumulative_subhazard"]
    np.testing.assert_allclose(fit.baseline()(base["time"]), base["value"], rtol=1e-7)
    people = {"arm": ["placebo", "high"], "madrs0": [10, 10], "sex": ["F", "F"]}
    predicted = fit.predict(people, times=base["time"])["estimate"].to_numpy().reshape(2, -1)
    np.testing.assert_allclose(predicted[0], case["predicted_cif"]["placebo_madrs10_F"], rtol=1e-7)
    np.testing.assert_allclose(predicted[1], case["predicted_cif"]["high_madrs10_F"], rtol=1e-7)


def test_fine_gray_by_finegray_weights():
    case = CASES["finegray_expanded"]["fit"]
    fit = ks.fine_gray(COVARIATES, table("trial"), order=ORDER, weighting="finegray")
    np.testing.assert_allclose(fit.coefficients["estimate"], numbers(case["coef"]), rtol=1e-7)
    np.testing.assert_allclose(fit.coefficients["std_error"], numbers(case["se"]), rtol=1e-7)
    np.testing.assert_allclose([fit.loglik, fit.kernel.loglik_null], [case["loglik"], case["loglik_null"]], rtol=1e-10)
    np.testing.assert_allclose(fit.kernel.score_null, case["score_test"][0], rtol=1e-7)


def test_the_two_weightings_differ_by_the_tie_convention_only():
    crr = ks.fine_gray(COVARIATES, table("trial"), order=ORDER).coefficients["estimate"]
    other = ks.fine_gray(COVARIATES, table("trial"), order=ORDER, weighting="finegray").coefficients["estimate"]
    assert 1e-5 < np.abs(crr - other).max() < 5e-3


def test_fine_gray_without_censoring_is_cox_with_competing_events_kept_to_the_end():
    data = table("trial")
    X = np.column_stack([data["madrs0"], data["age"]]).astype(float)
    time, cause = data["time"].to_numpy(float), np.where(data["status"] == 0, 2, data["status"])
    found = kernel.fine_gray(time, cause, X)
    kept = np.where(cause == 2, time.max() + 1.0, time)
    cox = ks.cox("Surv(kept, event) ~ madrs0 + age", data.assign(kept=kept, event=(cause == 1) * 1), ties="breslow")
    np.testing.assert_allclose(found.coef, cox.coefficients["estimate"], rtol=1e-9)


def test_restricted_mean_time_lost():
    expected = matrix(CASES["rmtl"])
    found = ks.cumulative_incidence("Surv(time, status) ~ arm", table("trial"), cause=None, order=ORDER).rmtl(26).frame
    for arm in ARMS:
        for cause, name in ((1, "relapse"), (2, "discontinue")):
            row = found[(found["arm"] == arm) & (found["cause"] == cause)]
            np.testing.assert_allclose(row["estimate"].item(), expected.loc[f"arm={arm}, {name}", "rmean"], rtol=1e-10)


def test_cause_specific_models():
    case = CASES["cause_specific"]
    found = cause_specific(COVARIATES, table("trial"), order=ORDER).coefficients.frame
    for cause, name in ((1, "relapse"), (2, "discontinue")):
        rows = found[found["cause"] == cause]
        np.testing.assert_allclose(rows["estimate"], numbers(case[name]["coef"]), rtol=1e-7)
        np.testing.assert_allclose(rows["std_error"], numbers(case[name]["se"]), rtol=1e-7)


def test_absolute_risk_from_cause_specific_models():
    """The risks; standard errors are the exact jackknife (see the laws), which riskRegression approximates at ties."""
    case = CASES["cs_predicted_cif"]
    fit = cause_specific(COVARIATES, table("trial"), order=ORDER)
    found = fit.absolute_risk(case["newdata"], case["times"])
    np.testing.assert_allclose(found["estimate"], np.array(case["risk"]["data"], float).ravel(), rtol=1e-7)
