"""A simulated programme of three studies analysed by R (see safety/README.md): counts, rates, times, course, models."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from kapstats.safety import course, exposure, time_to_event
from kapstats.safety.signals import rare_event_model

FOLDER = Path(__file__).parent / "safety"
ORDER = ["PLACEBO", "IV", "IM", "PO", "SL", "IN"]
TIMES = {"onset": "ASTTIME", "end": "FOLLOWED"}


def read(name):
    found = next(p for p in (FOLDER / f"{name}.csv.gz", FOLDER / f"{name}.csv") if p.exists())
    return pd.read_csv(found, low_memory=False)


def close(ours, reference, tolerance=1e-8):
    ours, reference = np.asarray(ours, dtype=float), np.asarray(reference, dtype=float)
    assert ours.shape == reference.shape
    assert np.array_equal(np.isnan(ours), np.isnan(reference))
    differs = ~(np.isnan(reference) | (ours == reference))
    ours, reference = ours[differs], reference[differs]
    assert (np.abs(ours - reference) / np.maximum(1, np.abs(reference))).max(initial=0.0) < tolerance


@pytest.fixture(scope="module")
def adsl():
    frame = read("sim_adsl")
    return frame.assign(FOLLOWED=frame.EXPDAYS - 1)


@pytest.fixture(scope="module")
def adae():
    return read("sim_adae")


@pytest.fixture(scope="module")
def ae(adae, adsl):
    return ks.incidence(adae, adsl, by="TRTA", order=ORDER)


def merged(ours, reference, keys):
    reference = reference.assign(**{k: reference[k].fillna("") for k in keys if k not in ("time",)})
    both = ours.merge(reference, on=keys, suffixes=("", "_r"), how="outer", indicator=True)
    assert (both["_merge"] == "both").all()
    return both


def test_counts(ae):
    reference = read("sim_ae_counts").query("scope == 'POOLED'").drop(columns="scope")
    both = merged(ae.to_frame(), reference, ["level", "AEBODSYS", "AEDECOD", "TRTA"])
    for column in ("n_subjects", "n_events", "N"):
        assert (both[column] == both[f"{column}_r"]).all()
    close(both.percent, both.pct)


def test_counts_per_study(adae, adsl):
    for study, rows in read("sim_ae_counts").query("scope != 'POOLED'").groupby("scope"):
        own = adsl[study == adsl.STUDYID]
        counted = ks.incidence(
            adae[study == adae.STUDYID], own, by="TRTA", order=[a for a in ORDER if a in set(own.TRT01A)]
        )
        keys = ["level", "AEBODSYS", "AEDECOD", "TRTA"]
        ours = counted.to_frame().set_index(keys).n_subjects
        reference = rows.fillna("").set_index(keys).n_subjects
        assert len(ours) > 50
        assert set(ours.index) <= set(reference.index)
        # terms that no subject of this study had stand in the reference only, with zeros
        assert (ours.reindex(reference.index).fillna(0) == reference).all()


def test_maximum_grade(ae):
    ours = ae.max_severity("AETOXGR").to_frame().query("level == 'PT'").rename(columns={"AETOXGR": "max_grade"})
    ours["max_grade"] = ours.max_grade.astype(int)
    reference = read("sim_ae_maxgrade_counts")
    reference = reference[reference.max_grade > 0]
    both = reference.merge(ours, on=["TRTA", "AEDECOD", "max_grade"], suffixes=("_r", ""))
    assert len(both) == len(reference)
    assert (both.n_subjects == both.n_subjects_r).all()
    without = read("sim_ae_maxgrade_counts").query("max_grade == 0").set_index(["TRTA", "AEDECOD"]).n_subjects
    some = ours.groupby(["TRTA", "AEDECOD"], observed=True).agg(x=("n_subjects", "sum"), N=("N", "first"))
    assert ((some.N - some.x).reindex(without.index) == without).all()


def comparison(adae, adsl, route, studies):
    own = adsl[adsl.STUDYID.isin(studies.split("+")) & adsl.TRT01A.isin(["PLACEBO", route])]
    kept = adae[adae.USUBJID.isin(own.USUBJID)]
    return ks.incidence(kept, own, by="TRTA", terms=["AEDECOD"], order=["PLACEBO", route])


def test_comparisons_with_concurrent_placebo(adae, adsl):
    for (route, studies), cases in read("sim_ae_comparisons").groupby(["TRTA", "studies"]):
        counted = comparison(adae, adsl, route, studies)
        kinds = {
            "rd": counted.compare(test="fisher", adjust="bh"),
            "rr": counted.compare(measure="risk-ratio"),
            "or": counted.compare("conditional-exact", measure="odds-ratio"),
            "mh": counted.compare("mantel-haenszel", strata="STUDYID"),
            "score": counted.compare(strata="STUDYID"),
        }
        found = {
            k: v.filter(level="PT").to_frame().set_index("AEDECOD").reindex(cases.AEDECOD) for k, v in kinds.items()
        }
        there = found["rd"].x1.notna().to_numpy()
        assert there.sum() >= 18
        cases = cases[there]
        for name, column, reference in (
            ("rd", "estimate", "rd"),
            ("rd", "conf_low", "rd_mn_lo"),
            ("rd", "conf_high", "rd_mn_up"),
            ("rd", "p_value", "fisher_p"),
            ("rr", "estimate", "rr"),
            ("rr", "conf_low", "rr_mn_lo"),
            ("rr", "conf_high", "rr_mn_up"),
            ("or", "estimate", "or_cond"),
            ("or", "conf_low", "or_exact_lo"),
            ("or", "conf_high", "or_exact_up"),
            ("mh", "estimate", "rd_mh"),
            ("mh", "std_error", "rd_mh_sato_se"),
            ("score", "conf_low", "rd_mh_mn_lo"),
            ("score", "conf_high", "rd_mh_mn_up"),
            ("score", "p_value", "cmh_p"),
        ):
            # R left the Mantel-Haenszel columns of a few one-study tables empty
            known = cases[reference].notna().to_numpy() | (not reference.startswith(("rd_mh", "cmh")))
            assert known.mean() > 0.8
            close(found[name][column][there][known], cases[reference][known])


def test_multiplicity():
    from kapstats.safety.comparison import ADJUSTMENTS

    for _, cases in read("sim_ae_comparisons").groupby("TRTA"):
        p = cases.fisher_p.to_numpy()
        for name, column in (
            ("bh", "p_BH"),
            ("by", "p_BY"),
            ("holm", "p_holm"),
            ("hochberg", "p_hochberg"),
            ("hommel", "p_hommel"),
            ("bonferroni", "p_bonferroni"),
        ):
            close(ADJUSTMENTS[name](p), cases[column], 1e-12)


def test_exposure_adjusted_rates(ae, adae, adsl):
    reference = read("sim_eair_eaer")

    def any_or_term(frame):
        return frame.query("level != 'SOC'").assign(AEDECOD=lambda f: f.AEDECOD.replace("", "ANY"))

    for quantity, names in (
        ("incidence", ("n_subjects", "risk_years", "eair_per100", "eair_exact_lo", "eair_exact_up")),
        ("events", ("n_events", "exposure_years", "eaer_per100", "eaer_exact_lo", "eaer_exact_up")),
    ):
        ours = any_or_term(ae.exposure_adjusted(quantity=quantity, **TIMES).to_frame())
        both = reference.merge(ours, on=["AEDECOD", "TRTA"])
        assert len(both) == len(reference)
        for column, name in zip(("events", "time", "estimate", "conf_low", "conf_high"), names, strict=True):
            close(both[column], both[name])
    middle = any_or_term(ae.exposure_adjusted(method="mid-p", **TIMES).to_frame())
    both = reference.merge(middle, on=["AEDECOD", "TRTA"])
    close(both.conf_low, both.eair_midp_lo)
    close(both.conf_high, both.eair_midp_up)
    for measure, method, names in (
        ("difference", "score", ("eair_diff", "eair_diff_mn_lo", "eair_diff_mn_up")),
        ("ratio", "exact", ("eair_ratio", "eair_ratio_exact_lo", "eair_ratio_exact_up")),
    ):
        ours = any_or_term(exposure.compare_rates(ae, measure=measure, method=method, **TIMES).to_frame())
        ours = ours.assign(TRTA=ours.contrast.str.replace(" - PLACEBO", ""))
        both = reference.dropna(subset=["eair_diff"]).merge(ours, on=["AEDECOD", "TRTA"])
        assert len(both) == reference["eair_diff"].notna().sum() > 90
        for column, name in zip(("estimate", "conf_low", "conf_high"), names, strict=True):
            close(both[column], both[name])


@pytest.mark.parametrize(
    ("estimator", "conf_type", "columns"),
    [
        (
            "aalen-johansen",
            "log-log",
            {
                "estimate": "aj_event",
                "std_error": "aj_event_se",
                "conf_low": "aj_event_lo_loglog",
                "conf_high": "aj_event_up_loglog",
                "n_risk": "n_risk",
            },
        ),
        ("aalen-johansen", "plain", {"conf_low": "aj_event_lo_plain", "conf_high": "aj_event_up_plain"}),
        (
            "one-minus-km",
            "log-log",
            {"estimate": "one_minus_km", "std_error": "km_se", "conf_low": "km_lo", "conf_high": "km_up"},
        ),
    ],
)
def test_first_event(estimator, conf_type, columns):
    times = read("sim_adtte")
    for (parameter, arm), cases in read("sim_time_to_first_ae").groupby(["PARAMCD", "TRTA"]):
        own = times[(parameter == times.PARAMCD) & (arm == times.TRTA)]
        curve = time_to_event.first_event_curve(
            own.AVAL.to_numpy(), own.STATUS.to_numpy(), cases.time.to_numpy(), estimator, conf_type
        )
        for ours, reference in columns.items():
            known = cases[reference].notna().to_numpy()
            # where S is 1 or the last value R gives NA limits and we give the estimate itself
            close(curve[ours][known], cases[reference][known])


def test_savvy_estimators():
    times = read("sim_adtte")
    for (parameter, arm), cases in read("sim_savvy_estimators").groupby(["PARAMCD", "TRTA"]):
        own = times[(parameter == times.PARAMCD) & (arm == times.TRTA)]
        ours = time_to_event.five_estimators(own.AVAL.to_numpy(), own.STATUS.to_numpy(), cases.tau.iloc[0])
        close(ours.estimate, cases.estimate)
        close(ours.std_error**2, cases.variance)


def test_mean_cumulative_count(ae):
    for arm, cases in read("sim_mcf_all_teae").groupby("TRTA"):
        ours = ae.recurrent(times=cases.day.to_numpy(), **TIMES).filter(TRTA=arm)
        close(ours["estimate"], cases.mcf)
        close(ours["std_error"], cases.mcf_robust_se)


def test_negative_binomial(ae):
    cases = read("sim_models").query("model.str.contains('glm.nb')").set_index("term")
    ours = ae.recurrent(method="negative-binomial", covariates=["STUDYID"], **TIMES)
    rows = [f"TRT01A{arm}" for arm in ORDER[1:]]
    close(ours["estimate"], cases.loc[rows].estimate, 1e-5)
    close(ours["std_error"], cases.loc[rows].se, 1e-5)
    close([ours.meta["loglik"]], [float(cases.loglik.iloc[0])], 1e-8)
    close([ours.meta["size"]], [float(cases.extra.iloc[0])], 1e-5)


def test_poisson_rates_with_three_kinds_of_error(ae):
    for method, model in (
        ("poisson", "poisson nae~"),
        ("quasi-poisson", "quasipoisson"),
        ("poisson-robust", "poisson, sandwich"),
    ):
        cases = read("sim_models")
        cases = cases[cases.model.str.startswith(model)].set_index("term")
        ours = ae.recurrent(method=method, covariates=["STUDYID"], **TIMES)
        rows = [f"TRT01A{arm}" for arm in ORDER[1:]]
        close(ours["estimate"], cases.loc[rows].estimate, 1e-8)
        close(ours["std_error"], cases.loc[rows].se, 1e-8)
        if method == "poisson":
            close([ours.meta["loglik"]], [cases.loglik.iloc[0]], 1e-8)
        if method == "quasi-poisson":
            close([ours.meta["dispersion"]], [cases.extra.iloc[0]], 1e-8)


def test_logistic_of_any_dissociation(ae):
    cases = read("sim_models").query("model.str.startswith('logistic any')").set_index("term")
    ours = rare_event_model(ae, "Dissociation", method="logistic", covariates=("STUDYID",))
    rows = [f"TRT01A{arm}" for arm in ORDER[1:]]
    close(ours["estimate"], cases.loc[rows].estimate, 1e-5)
    close(ours["std_error"], cases.loc[rows].se, 1e-5)
    close([ours.meta["loglik"]], [cases.loglik.iloc[0]], 1e-8)


def test_proportional_odds_of_the_worst_grade(ae):
    cases = read("sim_ordinal_maxgrade").set_index("term")
    ours = ae.severity_model(column="AETOXGR", covariates=["STUDYID"])
    rows = [f"TRT01A{arm}" for arm in ORDER[1:]]
    close(ours["estimate"], cases.loc[rows].estimate, 1e-5)
    close(ours["std_error"], cases.loc[rows].se, 1e-5)
    close(list(ours.meta["thresholds"].values()), cases.loc[["0|1", "1|2", "2|3"]].estimate, 1e-5)
    close([ours.meta["loglik"]], [cases.loglik.iloc[0]], 1e-8)


def test_sessions_with_a_random_intercept(ae, adae, adsl):
    """glmer stops its optimiser at 2e-6."""
    cases = read("sim_models").query("model.str.startswith('glmer')").set_index("term")
    long = ae.sessions("Dissociation").query("TRTA != 'PLACEBO'").assign(S=lambda d: d.SESSION - 1)
    assert len(long) == (adsl.NSESS[adsl.TRT01A != "PLACEBO"]).sum()
    long["TRTA"] = long.TRTA.cat.remove_unused_categories()
    fit = ks.glmm("EVENT ~ TRTA + S + (1 | USUBJID)", long, family="binomial", quadrature=25)
    ours = fit.summary().to_frame()
    close(ours.estimate, cases.estimate, 1e-5)
    close(ours.std_error, cases.se, 1e-5)
    close([fit.loglik], [cases.loglik.iloc[0]], 1e-8)


@pytest.mark.parametrize(("distribution", "name"), [("weibull", "survreg Weibull"), ("lognormal", "survreg lognormal")])
def test_accelerated_failure_times_of_resolution(ae, distribution, name):
    cases = read("sim_resolution_aft").query("model.str.startswith(@name)")
    times = ae.resolution_times("Dissociation").query("TRTA != 'PLACEBO'")
    times["TRTA"] = times.TRTA.cat.remove_unused_categories()
    fit = ks.parametric_survival("Surv(LEFT, RIGHT, type='interval2') ~ TRTA", times, distribution=distribution)
    ours = fit.summary().to_frame().set_index("term").loc[cases.term]
    close(ours.estimate, cases.estimate, 1e-6)
    close(ours.std_error, cases.se, 1e-6)
    close([fit.loglik], [cases.loglik.iloc[0]], 1e-6)


def test_gray_tests():
    times = read("sim_adtte")
    for case in read("sim_gray_tests").itertuples():
        own = times[times.PARAMCD == case.PARAMCD]
        ours = ks.gray_test("Surv(AVAL, STATUS) ~ TRTA", own, cause=case.event).to_frame().iloc[0]
        close([ours.statistic, ours.p_value, ours.df], [case.gray_stat, case.p, case.df])


def test_prevalence(ae):
    ours = ae.prevalence("Dissociation").to_frame()
    both = read("sim_prevalence_since_dose").merge(ours, left_on=["TRTA", "minute"], right_on=["TRTA", "time"])
    assert len(both) == 54
    assert (both.n_ongoing == both.x).all()
    assert (both.n == both.N).all()
    close(both.conf_low, both.wilson_lo)
    close(both.conf_high, both.wilson_up)


def test_resolution(ae):
    reference = read("sim_resolution_turnbull")
    for arm, cases in reference.groupby("TRTA"):
        ours = ae.resolution("Dissociation", times=cases.time.to_numpy(), convention="R").filter(TRTA=arm)
        assert (ours["n"] == cases.n.iloc[0]).all()
        close(ours["estimate"], cases.turnbull_surv, 1e-4)


def test_exact_durations_are_kaplan_meier(ae):
    """survfit's median and its log-log limits, of the minutes between onset and end."""
    reference = read("sim_resolution_turnbull").drop_duplicates("TRTA").set_index("TRTA")
    exact = {"left": "ADURMIN", "right": "ADURMIN"}
    times = ae.resolution_times("Dissociation", **exact).assign(EVENT=1)
    km = ks.kaplan_meier("Surv(RIGHT, EVENT) ~ TRTA", times, conf_type="log-log").median().to_frame().set_index("TRTA")
    km = km.loc[reference.index]
    close(km.estimate, reference.km_exact_median, 1e-9)
    close(km.conf_low, reference.km_median_lo, 1e-9)
    close(km.conf_high, reference.km_median_up, 1e-9)
    for arm, row in reference.iterrows():
        ours = ae.resolution("Dissociation", **exact).filter(TRTA=arm)
        close(ours["median"], [row.km_exact_median] * len(ours), 1e-9)


def test_acute_course():
    vitals = read("sim_advs")
    reference = read("sim_acute_course")
    for parameter, cases in reference.groupby("PARAMCD"):
        ours = course.acute_course(vitals, by="TRTA", parameter=parameter, time="ATPTMIN", order=ORDER)
        both = cases.merge(
            ours.filter(quantity="mean").to_frame(), left_on=["TRTA", "ATPTMIN"], right_on=["TRTA", "time"]
        )
        assert len(both) == 48
        assert (both.n_x == both.n_y).all()
        close(both.estimate, both["mean"])
        close(both.sd_y, both.sd_x)
        close(both.median_y, both.median_x)
        close(both.maximum, both["max"])
    cadss = course.acute_course(vitals, by="TRTA", parameter="CADSSTOT", time="ATPTMIN", order=ORDER)
    summary = read("sim_cadss_summary").set_index("TRTA")
    for quantity, column in (
        ("area", "mean_auc_0_240"),
        ("peak", "mean_peak"),
        ("time of peak", "mean_tmax"),
        ("above at peak", "prop_peak_gt4"),
    ):
        ours = cadss.filter(quantity=quantity).to_frame().set_index("TRTA")
        close(ours.estimate.reindex(summary.index), summary[column])
