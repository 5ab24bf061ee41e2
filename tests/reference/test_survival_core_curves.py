"""Kaplan-Meier, Nelson-Aalen, quantiles, milestones and RMST against R survival 3.5-3 and survRM2 1.0-4."""

from __future__ import annotations

import numpy as np
import pytest

import kapstats as ks
from kapstats.kernels import restricted_mean
from tests.reference.core_survival_cases import CLOSED, agree, numbers, records, table, trial, two_arms

KM, RMST, WEIGHTS = records("km"), records("rmst_win"), records("truncation_weights")
CURVE = {
    "time": "time",
    "n_risk": "n.risk",
    "n_event": "n.event",
    "estimate": "surv",
    "std_error": "se_surv",
    "conf_low": "lower",
    "conf_high": "upper",
}
BY_ARM = "Surv(time, ev) ~ arm"


def agree_curve(frame, expected, **names):
    for ours, theirs in {**CURVE, **names}.items():
        if theirs in expected:
            agree(frame[ours], expected[theirs], CLOSED)


@pytest.mark.parametrize("conf_type", ["plain", "log", "log-log", "logit", "arcsin"])
def test_curves_quantiles_and_landmarks_on_every_interval_scale(conf_type):
    record = KM[f"km_arm_{conf_type}"]
    km = ks.kaplan_meier(BY_ARM, trial(), conf_type=conf_type)
    agree_curve(km.frame, record["curve"], n_censor="n.censor")
    agree(km.hazard()["estimate"], record["curve"]["cumhaz"], CLOSED)
    agree(km.hazard()["std_error"], record["curve"]["se_cumhaz"], CLOSED)
    quantiles = km.quantile([0.25, 0.5, 0.75])
    for ours, theirs in {"estimate": "quantile", "conf_low": "lower", "conf_high": "upper"}.items():
        agree(quantiles[ours], record["quantiles"][theirs], CLOSED)
    agree_curve(km.at([4, 8, 16, 26, 40]).frame, record["landmark"])


def test_contract_columns_of_a_curve():
    frame = ks.kaplan_meier(BY_ARM, trial()).to_frame()
    assert list(frame.columns) == ["arm", *list(CURVE)[:3], "n_censor", *list(CURVE)[3:]]
    assert ks.kaplan_meier(BY_ARM, trial()).meta["conf_type"] == "log-log"


def test_ninety_percent_limits_and_quantiles_of_one_curve():
    km = ks.kaplan_meier("Surv(time, ev) ~ 1", trial(), level=0.9)
    agree_curve(km.frame, KM["km_overall_90"]["curve"])
    agree(km.quantile([0.25, 0.5, 0.75])["conf_high"], KM["km_overall_90"]["quantiles"]["upper"], CLOSED)


@pytest.mark.parametrize("lower", ["peto", "modified"])
def test_modified_lower_limits(lower):
    km = ks.kaplan_meier("Surv(time, ev) ~ 1", trial(), conf_type="log", lower=lower)
    agree_curve(km.frame, KM["km_peto_lower"][lower])


@pytest.mark.parametrize(("estimator", "key"), [("fleming-harrington", "fh2"), ("nelson-aalen", "nelson_aalen")])
def test_survival_from_the_cumulative_hazard(estimator, key):
    km = ks.kaplan_meier(BY_ARM, trial(), estimator=estimator, convention="R")
    agree_curve(km.frame, KM["fh_tsiatis"][key])


def test_milestone_differences():
    record = KM["km_landmark_diff"]
    km = ks.kaplan_meier(BY_ARM, two_arms())
    plain, loglog = km.milestone([16, 26]).frame, km.milestone([16, 26], scale="log-log").frame
    for ours, theirs in {"estimate": "diff", "std_error": "se", "conf_low": "lower", "conf_high": "upper"}.items():
        agree(plain[ours], record[theirs], CLOSED)
    agree(plain["statistic"], record["z_plain"], CLOSED)
    agree(loglog["statistic"], record["z_cloglog"], CLOSED)
    agree(loglog["p_value"], record["p_cloglog"], CLOSED)
    assert plain["contrast"].tolist() == ["high - placebo"] * 2


def test_reverse_and_conditional_curves():
    km = ks.kaplan_meier("Surv(time, status == 0) ~ arm", trial(), convention="R")
    agree(km.quantile([0.25, 0.5, 0.75])["estimate"], KM["km_reverse"]["quantiles"]["quantile"], CLOSED)
    agree_curve(ks.kaplan_meier(BY_ARM, trial(), start=8, convention="R").frame, KM["km_conditional"]["curve"])


def test_delayed_entry_and_case_weights():
    km = ks.kaplan_meier("Surv(entry, exit, relapse) ~ treated", table("truncated"), conf_type="log-log")
    agree_curve(km.frame, WEIGHTS["km_left_truncated"]["curve"])
    km = ks.kaplan_meier("Surv(entry, stop_since_response, ev) ~ arm", trial(), convention="R")
    times, record = [10, 15, 20, 30, 40], WEIGHTS["km_response_scale"]["at"]
    found, theirs = km.at(times).frame, CURVE["n_risk"]
    agree_curve(found, {k: v for k, v in record.items() if k != theirs})
    # R's summary prints the number at risk at the next observed time; here those at risk at t itself are counted
    rows = trial().dropna(subset=["entry", "stop_since_response", "ev"])
    for arm, part in found.groupby("arm", observed=True):
        own = rows[rows["arm"] == arm]
        counted = [((own["entry"] < t) & (t <= own["stop_since_response"])).sum() for t in times]
        assert part["n_risk"].tolist() == counted
    assert (found["n_risk"].to_numpy() <= np.ravel(record[theirs])).all()
    km = ks.kaplan_meier(BY_ARM, trial(), weights="1 + id % 3", convention="R")
    agree_curve(km.frame, WEIGHTS["weighted_logrank_table"])


def stabilised_weights(data):
    """Stabilised inverse-probability weights of the high arm by logistic regression on madrs0, stratum and age."""
    y = (data["arm"] == "high").to_numpy(float)
    X = np.column_stack([np.ones(len(y)), data["madrs0"], data["stratum"] == "responder", data["age"]]).astype(float)
    b = np.zeros(4)
    for _ in range(30):
        p = 1 / (1 + np.exp(-X @ b))
        b = b + np.linalg.solve((X * (p * (1 - p))[:, None]).T @ X, X.T @ (y - p))
    return np.where(y == 1, y.mean() / p, (1 - y.mean()) / (1 - p))


def test_inverse_probability_weights_with_jackknife_errors():
    record, data = WEIGHTS["iptw"], two_arms()
    w = stabilised_weights(data)
    agree(w[:6], record["weights_first6"], CLOSED)
    agree_curve(ks.kaplan_meier(BY_ARM, data, weights=w, convention="R").at([4, 16, 26, 40]).frame, record["km"])
    fit = ks.cox(BY_ARM, data, weights=w)
    agree(fit.coefficients["std_error"], record["cox"]["se"], 1e-7)


# ------------------------------------------------------------------------------------------- restricted mean


@pytest.mark.parametrize("tau", [16, 26, 40])
def test_rmst_difference_ratio_and_time_lost(tau):
    record = RMST[f"rmst_{tau}"]
    found = ks.rmst(BY_ARM, two_arms(), tau=tau).frame.set_index("quantity")
    agree(found.loc["rmst", "estimate"], [record["rmst_arm0"], record["rmst_arm1"]], CLOSED)
    agree(found.loc["rmst", "std_error"], [record["se_arm0"], record["se_arm1"]], CLOSED)
    for ours, theirs in {"difference": "diff", "ratio": "ratio", "rmtl ratio": "rmtl_ratio"}.items():
        row = found.loc[ours, ["estimate", "conf_low", "conf_high", "p_value"]]
        agree(row, [record[theirs + end] for end in ("", "_lower", "_upper", "_p")], CLOSED)


def test_rmst_default_horizon_is_the_smallest_of_the_largest_times():
    data = trial()
    data = data[(data["arm"] != "high") | (data["time"] < 45)]
    assert ks.rmst(BY_ARM, data).meta["tau"] == data[data["arm"] == "high"]["time"].max()


def test_rmst_adjusted_for_covariates_as_survRM2():
    record = RMST["rmst_survRM2_adjusted"]
    found = ks.rmst(BY_ARM, two_arms(), tau=26, covariates=["madrs0", "stratum"])
    names = {"difference": "difference_model", "ratio": "ratio_model", "rmtl ratio": "rmtl_ratio_model"}
    for quantity, key in names.items():
        model = found.meta["models"][quantity]
        expected = np.array([row[:2] for row in record[key]["data"]], dtype=float)
        np.testing.assert_allclose(model[["estimate", "std_error"]].to_numpy(), expected, rtol=1e-7)
    rows = found.frame.set_index("quantity").loc[list(names), ["estimate", "conf_low", "conf_high", "p_value"]]
    agree(rows, record["adjusted"], 1e-7)


@pytest.mark.parametrize(("key", "then"), [("single", []), ("two_level", ["Surv(time, status == 2)"])])
def test_win_ratio_net_benefit_and_win_odds(key, then):
    record = RMST["win_ratio"][key]
    found = ks.win_ratio(BY_ARM, two_arms(), then=then)
    rows, counts = found.frame.set_index("quantity"), found.meta["pairs"]
    agree(counts[["wins", "losses"]], record["by_level"], CLOSED)
    assert counts["pairs"].tolist() == [record["pairs"]] * len(counts)
    wr, benefit = rows.loc["win ratio"], rows.loc["net benefit"]
    agree(wr[["estimate", "conf_low", "conf_high"]], [record[k] for k in ("win_ratio", "wr_lower", "wr_upper")], CLOSED)
    agree([wr["std_error"] / wr["estimate"]], [record["log_wr_se"]], CLOSED)
    agree(benefit[["estimate", "std_error"]], [record["net_benefit"], record["nb_se"]], CLOSED)
    agree([rows.loc["win odds", "estimate"]], [record["win_odds"]], CLOSED)


def test_weighting_by_the_inverse_of_censoring_is_one_minus_kaplan_meier():
    record, data = WEIGHTS["ipcw_km"], trial()
    early = data["time"].between(0, 26) & (data["ev"] == 1)
    last = data.assign(time=data["time"] + 0.01 * (1 - data["ev"]), censored=1 - data["ev"])  # events leave first
    G = ks.kaplan_meier("Surv(time, censored) ~ 1", last).curve()
    relapsed = np.sum(1 / G(data.loc[early, "time"].to_numpy())) / len(data)
    curve = ks.kaplan_meier("Surv(time, ev) ~ 1", data).at(26)["estimate"][0]
    agree([relapsed, 1 - curve], [record["one_minus_km"]] * 2, CLOSED)


def test_rmst_as_survfit_gives_it_for_three_arms():
    found = ks.rmst(BY_ARM, trial(), tau=26).filter(quantity="rmst").frame
    agree(found[["estimate", "std_error"]], RMST["rmst_survfit"], CLOSED)


def test_pseudo_values_and_their_regression():
    data, record = trial(), RMST["rmst_pseudo"]
    time, event = data["time"].to_numpy(float), data["ev"].to_numpy(bool)
    agree(restricted_mean.pseudo_means(time, event, 26.0)[:10], record["pseudo_first10"], CLOSED)
    found = ks.rmst(BY_ARM, data, tau=26, covariates=["madrs0", "stratum"], method="pseudo")
    model = found.meta["models"]["difference"]
    agree(model["estimate"], record["coef"], CLOSED)
    agree(model["std_error"], record["se_HC0"], CLOSED)
    values = restricted_mean.pseudo_survival(time, event, np.array([8.0, 26.0]))
    agree(values[:10], RMST["surv_pseudo"]["first10"], CLOSED)
    agree((values**2).sum(axis=0), RMST["surv_pseudo"]["ss"], CLOSED)


def test_regression_of_the_weighted_response():
    data, record = trial(), RMST["rmst_ipcw_adjusted"]
    found = ks.rmst(BY_ARM, data, tau=26, covariates=["madrs0", "stratum"], method="ipcw-response")
    model = found.meta["models"]["difference"]
    agree(model["estimate"], record["coef"], CLOSED)
    agree(model["std_error"], record["se"], CLOSED)
    assert any("censored at tau = 26" in text for text in found.meta["warnings"])


def test_regression_of_the_weighted_response_without_ties_is_the_plain_one():
    rng = np.random.default_rng(3)
    event_time, censor_time = rng.exponential(10, 60), rng.exponential(20, 60)
    time, event = np.minimum(event_time, censor_time), event_time <= censor_time
    X, tau = np.column_stack([np.ones(60), rng.normal(size=60)]), 8.0
    G = [np.prod([1 - 1 / (time >= c).sum() for c in time[~event] if c < min(t, tau)]) for t in time]
    z = np.where(event | (time > tau), np.minimum(time, tau) / np.array(G), 0.0)
    agree(restricted_mean.response_regression(time, event, X, tau).b, np.linalg.lstsq(X, z, rcond=None)[0], CLOSED)
    everybody = restricted_mean.response_regression(time, np.ones(60, bool), X, tau)
    y, A = np.minimum(time, tau), np.linalg.inv(X.T @ X)
    U = X * (y - X @ (A @ X.T @ y))[:, None]
    agree(everybody.V.ravel(), (A @ U.T @ U @ A).ravel(), CLOSED)


# ------------------------------------------------------------------------------------------- edges


def test_median_is_the_midpoint_where_the_curve_rests_on_one_half():
    data = {"t": [1.0, 2.0, 3.0, 4.0], "e": [1, 1, 1, 1]}
    assert ks.kaplan_meier("Surv(t, e) ~ 1", data).median()["estimate"][0] == 2.5
    assert np.isnan(ks.kaplan_meier("Surv(t, e) ~ 1", {"t": [1.0, 2.0], "e": [0, 0]}).median()["estimate"][0])


def test_limits_while_nobody_has_had_the_event_follow_the_convention():
    data = {"t": [1.0, 2.0, 3.0], "e": [0, 1, 0]}
    assert np.isnan(ks.kaplan_meier("Surv(t, e) ~ 1", data).frame["conf_low"][0])
    assert ks.kaplan_meier("Surv(t, e) ~ 1", data, convention="SAS").frame["conf_low"][0] == 1.0
    assert ks.kaplan_meier("Surv(t, e) ~ 1", data, convention="R").frame["conf_low"][0] == 1.0


def test_median_difference_interval_holds_the_plain_difference_and_excludes_what_the_test_rejects():
    km = ks.kaplan_meier(BY_ARM, two_arms())
    row = km.median_difference(q=0.25).frame.iloc[0]
    medians = km.quantile(0.25)["estimate"]
    assert row["estimate"] == medians[1] - medians[0]
    assert row["conf_low"] <= row["estimate"] <= row["conf_high"]
    narrow = ks.kaplan_meier(BY_ARM, two_arms(), level=0.5).median_difference(q=0.25).frame.iloc[0]
    assert row["conf_low"] <= narrow["conf_low"] <= narrow["conf_high"] <= row["conf_high"]
    assert narrow["conf_high"] < row["conf_high"]


def test_horizon_beyond_follow_up_is_refused():
    with pytest.raises(ks.errors.EstimabilityError, match="followed to"):
        ks.rmst(BY_ARM, two_arms(), tau=400)


def test_bare_cnsr_names_the_remedy():
    data = trial().assign(CNSR=lambda d: 1 - d["ev"])
    with pytest.raises(ks.errors.FormulaError, match="CNSR == 0"):
        ks.kaplan_meier("Surv(time, CNSR) ~ arm", data)
    agree(
        ks.kaplan_meier("Surv(time, CNSR == 0) ~ arm", data).frame["estimate"],
        KM["km_arm_plain"]["curve"]["surv"],
        CLOSED,
    )


def test_recorded_numbers_are_read_with_their_missing_values():
    assert np.isnan(numbers([None, 1])).tolist() == [True, False]


def test_curves_are_drawn_with_numbers_at_risk_that_are_a_table_too():
    import matplotlib

    matplotlib.use("Agg")
    km = ks.kaplan_meier(BY_ARM, trial())
    axes = km.plot()
    assert len(axes.get_lines()) >= 3
    table = km.at_risk([0, 16, 90]).frame
    assert table["n_risk"].tolist()[:2] == [104, 62]
    assert (table[table["time"] == 90]["n_event"].to_numpy() == [66, 52, 38]).all()


def test_raw_text_arms_work_with_one_warning_that_names_the_reference():
    data = trial().assign(arm=lambda d: d["arm"].astype(str))
    for call in (ks.kaplan_meier, ks.logrank, ks.rmst):
        with pytest.warns(ks.errors.KapstatsWarning, match="reference 'high'") as seen:
            found = call(BY_ARM, data)
        assert len(seen) == 1
        assert found.meta["warnings"]
