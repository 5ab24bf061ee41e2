"""Cox models against R survival 3.5-3, coxphf 1.13.4 and coxme 2.2-22."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from kapstats.relapse.adjusted_survival import _standardised
from tests.reference.core_survival_cases import NEWTON, agree, numbers, records, table, trial, two_arms

COX, WEIGHTS = records("cox"), records("truncation_weights")
FULL = "Surv(time, ev) ~ arm + madrs0 + age + sex + prior_fail"
SMALL = "Surv(time, ev) ~ arm + madrs0"


def agree_fit(fit, record):
    """Coefficients, errors, covariance, likelihoods and global tests of one record."""
    found = fit.coefficients
    agree(found["estimate"], record["coef"], NEWTON)
    agree(found["std_error"], record["se"], NEWTON)
    agree(fit.vcov, record["vcov"], NEWTON * 10)
    agree([fit.loglik, fit.loglik_null], [record["loglik"], record["loglik_null"]], 1e-9)
    if "p" not in record:
        return
    agree(found["p_value"], record["p"], 1e-6)
    natural = fit.hazard_ratios()
    agree(natural["estimate"], record["hr"], NEWTON)
    agree(natural["conf_low"], record["ci_lower_hr"], NEWTON)
    agree(natural["conf_high"], record["ci_upper_hr"], NEWTON)
    tests = fit.tests().frame.set_index("test")
    for ours, theirs in {
        "likelihood ratio": "lr_test",
        "score": "score_test",
        "robust score": "robust_score_test",
    }.items():
        if ours in tests.index and theirs in record:
            agree(tests.loc[ours, ["statistic", "df", "p_value"]], record[theirs], 1e-6)
    assert tests.loc["wald", "statistic"] == pytest.approx(record["wald_test"][0], abs=0.00501)  # recorded rounded
    if "concordance" in record:
        expected = [record["concordance"], record["concordance_se"]]
        agree(fit.concordance().frame[["estimate", "std_error"]], expected, 1e-9)


@pytest.mark.parametrize("ties", ["efron", "breslow", "exact"])
def test_ties(ties):
    agree_fit(ks.cox(FULL, trial(), ties=ties), COX[f"cox_{ties}"])
    agree_fit(ks.cox(SMALL, trial(), ties=ties), COX["cox_exact_small"][ties])


def test_exact_marginal_ties_as_sas():
    fit, record = ks.cox(SMALL, trial(), ties="kalbfleisch-prentice"), COX["cox_ties_kp_exact"]
    agree(fit.coefficients["estimate"], record["coef"], NEWTON)
    agree(fit.coefficients["std_error"], record["se"], 1e-5)
    agree([-2 * fit.loglik, -2 * fit.loglik_null], [record["minus2loglik"], record["minus2loglik_null"]], 1e-10)


def test_two_arms_strata_and_clusters():
    agree_fit(ks.cox("Surv(time, ev) ~ arm", two_arms()), COX["cox_two_unadjusted"])
    agree_fit(ks.cox(FULL + " + strata(stratum)", trial()), COX["cox_strata"])
    agree_fit(ks.cox(FULL + " + strata(stratum, route)", trial(), convention="SAS"), COX["cox_strata_two"])
    agree_fit(ks.cox(FULL, trial(), robust=True), COX["cox_robust"])


@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_cluster_robust_errors(ties):
    agree_fit(ks.cox(FULL + " + cluster(site)", trial(), ties=ties), COX["cox_cluster"][ties])


@pytest.mark.parametrize("ties", ["efron", "breslow", "robust"])
def test_time_dependent_covariate(ties):
    formula = "Surv(start, stop, relapse) ~ arm + madrs0 + rescue"
    if ties == "robust":
        agree_fit(ks.cox(formula + " + cluster(id)", table("timevarying")), COX["cox_tv"]["robust"])
    else:
        agree_fit(ks.cox(formula, table("timevarying"), ties=ties), COX["cox_tv"][ties])


def test_coefficient_times_log_time():
    record = {k: v for k, v in COX["cox_tt"].items() if not k.startswith("concordance")}
    agree_fit(ks.cox(SMALL, trial(), time_varying={"madrs0": "log"}), record)


@pytest.mark.parametrize(
    ("key", "ties"), [("efron", "efron"), ("efron_robust", "efron"), ("breslow_robust", "breslow")]
)
def test_case_weights(key, ties):
    agree_fit(ks.cox(FULL, trial(), weights="w", ties=ties), COX["cox_weights"][key])


@pytest.mark.parametrize("ties", ["efron", "breslow", "exact"])
def test_left_truncation(ties):
    fit, record = ks.cox("Surv(entry, exit, relapse) ~ treated + x", table("truncated"), ties=ties), WEIGHTS
    agree_fit(fit, {"vcov": fit.V.ravel().tolist(), **record["cox_left_truncated"][ties]})
    if ties == "efron":
        agree(fit.zph().frame[["statistic", "df", "p_value"]], record["cox_left_truncated"]["zph_km"], NEWTON)


def test_ignoring_entry_is_the_naive_fit():
    fit = ks.cox("Surv(exit, relapse) ~ treated + x", table("truncated"))
    agree_fit(fit, WEIGHTS["cox_left_truncated"]["naive_no_entry"])


def test_profile_likelihood_limits():
    limits = ks.cox(FULL, trial(), conf="profile").coefficients.frame.set_index("term")
    for term in ("armlow", "armhigh", "madrs0"):
        agree(
            limits.loc[term, ["conf_low", "conf_high"]],
            [COX["cox_profile"][term][k] for k in ("lower", "upper")],
            NEWTON,
        )


@pytest.mark.parametrize("ties", ["breslow", "efron"])
def test_firth(ties):
    data, record = trial(), COX["cox_firth"][ties]
    fit = ks.cox(SMALL, data[data["site"].isin(["S02", "S08"])], ties=ties, penalty="firth", conf="profile")
    found = fit.coefficients.frame
    agree(found["estimate"], record["coef"], NEWTON)
    agree(found["std_error"], record["se_from_information"], NEWTON)
    agree(found[["conf_low", "conf_high"]].to_numpy().T, record["profile_ci"]["data"][:2], NEWTON)
    agree([2 * (fit.loglik - fit.loglik_null)], [record["penalised_lr_chisq_global"]], 1e-9)
    if ties == "breslow":
        other = COX["cox_firth_coxphf"]
        agree(found["estimate"], other["coef"], NEWTON)
        agree(np.exp(found["conf_low"]), other["hr_lower"], 1e-5)


def test_ridge():
    record, data = COX["cox_ridge"], trial()
    fit = ks.cox(FULL, data, penalty="ridge", ridge=5)
    agree(fit.coefficients["estimate"], record["coef"], NEWTON)
    agree(fit.coefficients["std_error"], record["se"], NEWTON)
    agree(fit.meta["sampling_std_error"], record["se2"], NEWTON)
    agree([fit.meta["effective_df"], fit.meta["partial_loglik"]], [record["df"], record["loglik"]], NEWTON)
    assert fit.meta["effective_df"] < 6 - 0.4


def separated():
    data = trial().head(40)
    return data.assign(sep=((data["ev"] == 0) & (np.arange(1, 41) % 2 == 0)).astype(int))


def test_firth_under_separation():
    found = ks.cox("Surv(time, ev) ~ sep + madrs0", separated(), ties="breslow", penalty="firth", conf="profile")
    record = COX["cox_firth_separated"]["breslow"]
    agree(found.coefficients["estimate"], record["coef"], NEWTON)
    agree(found.coefficients.frame[["conf_low", "conf_high"]].to_numpy().T, record["profile_ci"]["data"][:2], NEWTON)


def test_separation_is_named_and_never_a_large_number():
    with pytest.warns(ks.errors.KapstatsWarning, match="sep: the likelihood is monotone.*no event among the 7 rows"):
        fit = ks.cox("Surv(time, ev) ~ sep + madrs0", separated(), conf="profile")
    row = fit.coefficients.frame.iloc[0]
    assert row["estimate"] == -np.inf
    assert np.isnan(row["std_error"])
    assert np.isnan(row["p_value"])
    assert row["conf_low"] == -np.inf
    assert -4 < row["conf_high"] < -2
    assert not fit.converged
    assert "firth" in fit.warnings[0]
    assert fit.loglik == pytest.approx(COX["cox_firth_separated"]["ml_loglik_limit"], abs=1e-6)


@pytest.mark.parametrize("transform", ["km", "rank", "identity", "log"])
def test_proportional_hazards_score_test(transform):
    fit, record = ks.cox(FULL, trial()), COX[f"zph_{transform}"]
    columns = ["statistic", "df", "p_value"]
    agree(fit.zph(transform).frame[columns], record["by_term"], NEWTON)
    agree(fit.zph(transform, terms=False).frame[columns], record["by_coefficient"], NEWTON)


@pytest.mark.parametrize("ties", ["efron", "breslow"])
@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("martingale", "martingale"),
        ("deviance", "deviance"),
        ("score", "score"),
        ("dfbeta", "dfbeta"),
        ("dfbetas", "dfbetas"),
        ("schoenfeld", "schoenfeld"),
        ("scaled-schoenfeld", "scaledsch"),
    ],
)
def test_residuals(ties, kind, key):
    record = COX["residuals"][ties][key]
    values = ks.cox(FULL, trial(), ties=ties).residuals(kind)
    values = values.drop(columns=[c for c in ("time",) if c in values]).to_numpy()
    np.testing.assert_allclose(values[:12].ravel(), numbers(record["first"]), rtol=NEWTON, atol=1e-10)
    agree((values**2).sum(axis=0), record["ss"] if isinstance(record["ss"], (dict, list)) else [record["ss"]], NEWTON)


@pytest.mark.parametrize("key", ["cox_efron", "cox_breslow", "cox_strata"])
def test_baseline_hazard(key):
    strata = " + strata(stratum)" if key == "cox_strata" else ""
    found = ks.cox(FULL + strata, trial(), ties="breslow" if "breslow" in key else "efron").baseline().frame
    expected = pd.DataFrame(COX[key]["cumulative_baseline_hazard_at_x0"])
    if strata:
        expected, found = expected.rename(columns={"strata": "stratum"}), found.astype({"stratum": str})
    joined = found.merge(expected, on=["stratum", "time"] if strata else "time")
    assert len(joined) == len(found) > 20
    agree(joined["estimate"], joined["hazard"].tolist(), NEWTON)


def test_predicted_survival():
    record = COX["cox_survfit"]
    found = ks.cox(FULL, trial()).survival(pd.DataFrame(record["newdata"]), [4, 16, 26]).frame
    for ours, theirs in {"estimate": "surv", "std_error": "se", "conf_low": "lower", "conf_high": "upper"}.items():
        np.testing.assert_allclose(found[ours].to_numpy().reshape(3, 3).T.ravel(), numbers(record[theirs]), rtol=NEWTON)


def test_standardised_survival():
    found = ks.cox(FULL, trial(), ties="breslow").adjusted_survival("arm", [16, 26])
    agree(found.frame["estimate"].to_numpy().reshape(3, 2).T, COX["cox_gformula"]["mean_survival"], NEWTON)
    agree(found.differences["estimate"], [-v for v in COX["cox_gformula"]["ate_diff"]["estimate"][:4]], NEWTON)


@pytest.mark.parametrize("ties", ["efron", "breslow"])
@pytest.mark.parametrize("strata", ["", " + strata(stratum)"])
def test_influence_of_a_row_on_standardised_survival_is_the_derivative_by_its_weight(ties, strata):
    data, times, h = trial(), np.array([8.0, 26.0]), 1e-4
    fit = ks.cox(FULL + strata, data, ties=ties)
    _, influence = _standardised(fit, "arm", "high", times)
    agree(fit.adjusted_survival("arm", times).filter(arm="high")["std_error"] ** 2, (influence**2).sum(axis=0), 1e-12)
    for row in (0, 1, 100, 311):
        moved = []
        for sign in (1, -1):
            w = np.ones(len(data))
            w[row] += sign * h
            curve = ks.cox(FULL + strata, data, ties=ties, weights=w).adjusted_survival("arm", times)
            moved.append(curve.filter(arm="high")["estimate"].to_numpy())
        slope = (moved[0] - moved[1]) / (2 * h)
        np.testing.assert_allclose(influence[row], slope, rtol=1e-4 if ties == "breslow" else 0.1, atol=1e-7)


@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_gamma_frailty(ties):
    record = COX["frailty_gamma"][ties]
    fit = ks.cox(SMALL + " + frailty(site)", trial(), ties=ties)
    agree(fit.coefficients["estimate"], record["coef"], 1e-6)
    agree(fit.coefficients["std_error"], record["se"], 1e-6)
    agree(fit.frailty.theta["estimate"], [record["theta"]], 1e-6)
    agree([fit.loglik], [record["integrated_loglik"]], 1e-10)
    np.testing.assert_allclose(fit.frailty.frailties["log_frailty"], numbers(record["log_frailty"]), atol=1e-6)


def test_lognormal_frailty_by_reml_and_by_laplace():
    record = COX["frailty_gaussian"]
    fit = ks.cox(SMALL + " + frailty(site, 'lognormal')", trial())
    agree(fit.coefficients["estimate"], record["coef"], 1e-4)
    agree(fit.coefficients["std_error"], record["se"], 1e-4)
    agree(fit.frailty.theta["estimate"], [record["theta"]], 1e-4)
    for ties in ("efron", "breslow"):
        record = COX["frailty_coxme"][ties]
        fit = ks.cox(SMALL + " + frailty(site, 'lognormal')", trial(), ties=ties, frailty_method="ml")
        agree(fit.coefficients["estimate"], record["coef"], 1e-4)
        agree(fit.coefficients["std_error"], record["se"], 1e-4)
        agree(fit.frailty.theta["estimate"], [record["variance"]], 1e-4)
        agree([fit.loglik], [record["loglik"]["Integrated"]], 1e-9)


def test_concordance_counts():
    found = ks.cox(FULL, trial()).concordance()
    expected = COX["concordance"]
    agree(found["std_error"] ** 2, [expected["var"]], 1e-9)
    counts = {"concordant": "concordant", "discordant": "discordant", "tied_risk": "tied.x"}
    assert {k: found.meta["counts"][k] for k in counts} == {k: expected["counts"][v] for k, v in counts.items()}


# ------------------------------------------------------------------------------------------- what can go wrong


def test_collinear_column_is_named_and_nan():
    data = trial().assign(copy=lambda d: 2 * d["madrs0"] + 1)
    with pytest.warns(ks.errors.KapstatsWarning, match="copy"):
        fit = ks.cox("Surv(time, ev) ~ arm + madrs0 + copy", data)
    assert np.isnan(fit.coefficients["estimate"].iloc[-1])
    agree(fit.coefficients["estimate"].iloc[:-1], ks.cox(SMALL, data).coefficients["estimate"].tolist(), 1e-12)


def test_column_constant_within_strata_is_aliased():
    with pytest.warns(ks.errors.KapstatsWarning, match="stratumresponder"):
        fit = ks.cox("Surv(time, ev) ~ arm + stratum + strata(stratum)", trial())
    assert np.isnan(fit.coefficients["estimate"].iloc[-1])


def test_no_event_at_all_and_in_a_stratum():
    data = trial()
    with pytest.raises(ks.errors.EstimabilityError, match="none of the 312 rows"):
        ks.cox(SMALL, data.assign(ev=0))
    data.loc[data["site"] == "S01", "ev"] = 0
    with pytest.warns(ks.errors.KapstatsWarning, match="1 of 12 strata hold no event"):
        ks.cox(SMALL + " + strata(site)", data)


def test_no_event_in_an_arm_names_the_arm():
    data = trial()
    data.loc[data["arm"] == "high", "ev"] = 0
    with pytest.warns(ks.errors.KapstatsWarning, match="armhigh: .*no event among the 104 rows with armhigh"):
        fit = ks.cox("Surv(time, ev) ~ arm", data)
    assert fit.hazard_ratios()["estimate"].iloc[1] == 0.0
    agree(
        fit.coefficients["estimate"].iloc[:1],
        ks.cox("Surv(time, ev) ~ arm", data[data["arm"] != "high"]).coefficients["estimate"].tolist(),
        0.2,
    )


def test_bare_cnsr_and_bad_events_are_refused():
    data = trial().assign(CNSR=lambda d: 1 - d["ev"])
    with pytest.raises(ks.errors.FormulaError, match="CNSR == 0"):
        ks.cox("Surv(time, CNSR) ~ arm", data)
    with pytest.raises(ks.errors.DataError, match="51 rows are neither 0 nor 1"):
        ks.cox("Surv(time, status) ~ arm", data)
    with pytest.raises(ks.errors.DataError, match="negative time"):
        ks.cox("Surv(time, ev) ~ arm", data.assign(time=data["time"] - 5))


def test_summary_shows_the_ph_test_and_rmst_is_one_call_away():
    fit = ks.cox(FULL, trial())
    agree(fit.summary()["zph_p"].iloc[:1], fit.zph()["p_value"].iloc[:1].tolist(), 1e-12)
    agree(fit.rmst(tau=26)["estimate"], ks.rmst("Surv(time, ev) ~ arm", trial(), tau=26)["estimate"].tolist(), 1e-12)


def test_conventions():
    assert ks.cox(SMALL, trial(), convention="SAS").ties == "breslow"
    assert ks.cox(SMALL, trial(), convention="R").ties == "efron"
    assert not ks.cox(SMALL, trial(), weights="w", convention="SAS").robust
    assert "convention SAS" in ks.cox(SMALL, trial(), convention="SAS").meta["conventions"]


def test_sequential_likelihood_ratio_table():
    record = COX["anova_terms"]
    expected = np.array([row[:3] for row in record["data"][1:]], dtype=float)
    found = ks.cox(FULL, trial()).anova().frame[["loglik", "statistic", "df"]]
    np.testing.assert_allclose(found.to_numpy(), expected, rtol=1e-9)


def test_landmark_keeps_only_rows_followed_beyond_it():
    data = trial()
    late = data[data["time"] > 8]
    fit, subset = ks.cox(SMALL, data, landmark=8), ks.cox(SMALL, late)
    agree(fit.coefficients["estimate"], subset.coefficients["estimate"].tolist(), 1e-12)
    assert f"{len(data) - len(late)} records end by the landmark 8" in fit.meta["sentence"]
    agree(
        ks.logrank("Surv(time, ev) ~ arm", data, landmark=8)["statistic"],
        ks.logrank("Surv(time, ev) ~ arm", late)["statistic"].tolist(),
        1e-12,
    )


def test_piecewise_hazard_ratios_are_those_of_the_periods():
    data = trial()
    found = ks.cox("Surv(time, ev) ~ arm", data, time_varying={"arm": [8]}).coefficients["estimate"].tolist()
    early = ks.cox("Surv(time, ev) ~ arm", data.assign(ev=data["ev"] * (data["time"] <= 8)))
    agree(early.coefficients["estimate"], found[:2], 1e-9)
    agree(ks.cox("Surv(time, ev) ~ arm", data, landmark=8).coefficients["estimate"], found[2:], 1e-9)


def test_interval_censored_refit_is_one_argument_away():
    data = trial()
    data["left"] = data["left"].clip(lower=0)
    found = ks.cox("Surv(time, ev) ~ arm", data, interval_censored=("left", "right"))
    plain = ks.cox("Surv(time, ev) ~ arm", data)
    assert np.all(np.abs(found.coefficients["estimate"] - plain.coefficients["estimate"]) < 0.3)
    assert "interval" in found.meta["sentence"].lower()


@pytest.mark.parametrize("distribution", ["gamma", "lognormal"])
def test_groups_that_do_not_differ_give_the_ordinary_fit(distribution):
    rng = np.random.default_rng(1)
    data = pd.DataFrame(
        {"t": rng.exponential(size=200), "e": 1, "x": rng.normal(size=200), "g": rng.integers(10, size=200)}
    )
    with pytest.warns(ks.errors.KapstatsWarning, match="estimated as 0"):
        fit = ks.cox(f"Surv(t, e) ~ x + frailty(g, '{distribution}')", data)
    plain = ks.cox("Surv(t, e) ~ x", data)
    agree(fit.coefficients["estimate"], plain.coefficients["estimate"].tolist(), 1e-12)
    assert fit.frailty.theta.frame.loc[0, ["estimate", "conf_low"]].tolist() == [0.0, 0.0]
    assert 0 < fit.frailty.theta["conf_high"][0] < 0.2


@pytest.mark.parametrize("ties", ["exact", "kalbfleisch-prentice"])
def test_exact_ties_refuse_what_they_cannot_give(ties):
    for options in ({"weights": "w"}, {"robust": True}, {"penalty": "firth"}):
        with pytest.raises(ks.errors.FormulaError, match="efron"):
            ks.cox(SMALL, trial(), ties=ties, **options)
    with pytest.raises(ks.errors.FormulaError, match="Refit"):
        ks.cox(SMALL, trial(), ties=ties).zph()
