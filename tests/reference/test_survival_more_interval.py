"""Interval censoring against R survival 3.5-3, icenReg 2.0.16 and own R code: 1e-9 to 1e-5, profile limits 1e-4."""

from __future__ import annotations

import numpy as np
import pytest

import kapstats as ks
from tests.reference.more_survival_cases import ARMS, ORDER, matrix, numbers, records, table

CASES = records("interval")
GROUPED = "Surv(time, status == 1) ~ arm + madrs0"


@pytest.mark.parametrize("who", ["overall", *ARMS])
def test_turnbull(who):
    case = CASES["turnbull"][who]
    data = table("trial")
    data = data if who == "overall" else data[data["arm"] == who]
    fit = ks.turnbull("Surv(left, right, type='interval2') ~ 1", data)
    frame = fit.to_frame()
    frame = frame[frame["mass"] > 1e-8]
    np.testing.assert_array_equal(frame["left"], case["support"]["left"])
    np.testing.assert_array_equal(frame["right"], numbers(case["support"]["right"]))
    np.testing.assert_allclose(frame["mass"], case["support"]["mass"], atol=1e-6)
    np.testing.assert_allclose(fit.loglik, case["loglik"], rtol=1e-9)
    assert fit.certificate()["kkt"].max() < 1e-10


def test_turnbull_by_arm_is_each_arm_alone():
    fit = ks.turnbull("Surv(left, right, type='interval2') ~ arm", table("trial"), order=ORDER)
    assert list(fit.groups.frame["arm"]) == ARMS
    np.testing.assert_allclose([f.loglik for f in fit.fits], [CASES["turnbull"][a]["loglik"] for a in ARMS], rtol=1e-9)


def test_permutation_logrank():
    case = CASES["ic_permutation_logrank"]
    found = ks.turnbull("Surv(left, right, type='interval2') ~ arm", table("trial"), order=ORDER).test()
    np.testing.assert_allclose(list(found.meta["score"].values()), numbers(case["score_sum"]), rtol=1e-7)
    row = found.frame.loc[0, ["statistic", "df", "p_value"]].astype(float)
    np.testing.assert_allclose(row, [case["chisq"], case["df"], case["p"]], rtol=1e-7)


def test_semiparametric_hazards_with_profile_limits():
    case = CASES["ic_ph_semiparametric"]
    data = table("trial").assign(m10=lambda d: d["madrs0"] - 10)
    fit = ks.interval_cox("Surv(left, right, type='interval2') ~ arm + m10", data, order=ORDER)
    np.testing.assert_allclose(fit.coefficients["estimate"], numbers(case["coef"]), rtol=1e-5)
    np.testing.assert_allclose(fit.loglik, case["loglik"], rtol=1e-9)
    limits = matrix(case["profile_ci"]).astype(float)
    np.testing.assert_allclose(fit.coefficients["conf_low"], limits.loc["lower"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(fit.coefficients["conf_high"], limits.loc["upper"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(fit.coefficients["statistic"] ** 2, limits.loc["lr_chisq"], rtol=1e-4)
    hazard = fit.baseline()(case["support"])
    np.testing.assert_allclose(hazard, numbers(case["baseline_cumhaz"]), rtol=1e-5, atol=1e-7)


def test_cox_refits_as_interval_censored_and_icenreg_agrees():
    case = CASES["ic_ph_icenReg"]["semiparametric"]
    data = table("trial").assign(m10=lambda d: d["madrs0"] - 10)
    fit = ks.cox("Surv(time, status == 1) ~ arm + m10", data, interval_censored=("left", "right"), order=ORDER)
    # icenReg stops at a likelihood 5e-9 short, 1e-6 in the coefficients
    np.testing.assert_allclose(fit.coefficients["estimate"], numbers(case["coef"]), rtol=1e-5)
    assert fit.loglik >= case["loglik"] - 1e-9 * abs(case["loglik"])


def test_grouped_hazards_are_the_complementary_log_log_model():
    case = CASES["grouped_cloglog"]
    fit = ks.interval_cox(GROUPED, table("trial"), model="grouped", conf="wald", order=ORDER)
    np.testing.assert_allclose(fit.coefficients["estimate"], numbers(case["coef"]), rtol=1e-7)
    np.testing.assert_allclose(fit.coefficients["std_error"], numbers(case["se"]), rtol=1e-7)
    np.testing.assert_allclose(-2.0 * fit.loglik, case["deviance"], rtol=1e-9)


def test_parametric_baseline_is_the_parametric_model():
    formula = "Surv(left, right, type='interval2') ~ arm + madrs0"
    fit = ks.interval_cox(formula, table("trial"), model="weibull", order=ORDER)
    expected = numbers(CASES["survreg_ic_weibull"]["weibull_ph_log_hr"])
    np.testing.assert_allclose(np.log(fit.hazard_ratios()["estimate"]), expected, rtol=1e-7)


@pytest.mark.parametrize("how", ["midpoint", "right"])
def test_imputed_times_for_contrast(how):
    case = CASES["midpoint_cox"][how]
    data = table("trial")
    middle = (data["left"] + data["right"]) / 2 if how == "midpoint" else data["right"]
    data = data.assign(t=middle.fillna(data["left"]).clip(lower=1e-6), e=(data["status"] == 1) * 1)
    fit = ks.cox("Surv(t, e) ~ arm + madrs0", data, order=ORDER)
    np.testing.assert_allclose(fit.coefficients["estimate"], numbers(case["coef"]), rtol=1e-7)
    np.testing.assert_allclose(fit.coefficients["std_error"], numbers(case["se"]), rtol=1e-7)


def test_survfit_maximises_the_half_open_likelihood_and_stops_early():
    """R's interval2 curve, mass at the middle of each interval, is within 0.0015 of the certified maximum."""
    case, data = CASES["turnbull_closed"]["curve"], table("trial")
    formula = "Surv(left, right, type='interval2') ~ 1"
    as_r = ks.turnbull(formula, data, convention="R")
    time, theirs = np.array(case["time"]), np.array(case["surv"])
    np.testing.assert_allclose(as_r.at(time + 1e-6, extend=True)["estimate"], theirs, atol=0.0015)
    mass = -np.diff(theirs, prepend=1.0)
    left, right = data["left"].to_numpy(), data["right"].fillna(np.inf).to_numpy()
    inside = (time > left[:, None] + 1e-6) & (time <= right[:, None] + 1e-6)
    short = as_r.loglik - np.log(inside @ mass + np.isinf(right) * theirs[-1]).sum()
    assert 0.004 < short < 0.009
    later = ks.turnbull(formula, data, closed=True).at(time + 1e-6, extend=True)["estimate"]
    assert np.abs(later - theirs).max() > 0.04
