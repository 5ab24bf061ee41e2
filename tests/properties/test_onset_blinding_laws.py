"""Time to response, separation over several contrasts, unblinding, factorial, patterns of missing values: laws."""

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from kapstats.errors import DataError, EstimabilityError, FormulaError
from kapstats.estimates import Estimates


def scores(values, days=(2, 8, 15, 29), base=30.0):
    rows = [(i, d, base, v) for i, row in enumerate(values) for d, v in zip(days, row, strict=True)]
    return pd.DataFrame(rows, columns=["USUBJID", "ADY", "BASE", "AVAL"]).assign(TRT01P="K")


def test_time_to_response_and_its_interval():
    found = ks.time_to_response(scores([[20, 15, 14, 9], [29, 28, 27, 26], [14, 29, 14, 14], [np.nan, 20, np.nan, 15]]))
    assert found["AVAL"].tolist() == [8, 29, 2, 29]
    assert found["CNSR"].tolist() == [0, 1, 0, 0]
    assert found["LEFT"].tolist() == [2, 29, 0, 8]
    assert found["RIGHT"].tolist() == [8, np.inf, 2, 29]


def test_a_sustained_response_starts_where_the_run_starts():
    found = ks.time_to_response(scores([[14, 29, 14, 14], [14, 29, 14, 29]]), sustained=2)
    assert found[["AVAL", "CNSR"]].to_numpy().tolist() == [[15, 0], [29, 1]]


def test_remission_is_a_score_and_nobody_is_lost():
    data = scores([[20, 11, 10, 9], [np.nan] * 4])
    found = ks.time_to_response(data, remission=10)
    assert found["AVAL"].tolist() == [15, 0]
    assert found["EVNTDESC"].tolist() == ["RESPONSE", "NOT ASSESSED"]
    with pytest.raises(DataError, match="BASE: missing or not above 0"):
        ks.time_to_response(scores([[1, 1, 1, 1]], base=0.0))
    with pytest.raises(FormulaError, match="at least one"):
        ks.time_to_response(data, sustained=0)


def test_time_to_response_goes_on_to_a_curve():
    trial = ks.datasets.load("kap-parallel")
    rows = ks.time_to_response(trial)
    assert len(rows) == trial.adqs["USUBJID"].nunique()
    curve = ks.kaplan_meier("Surv(AVAL, CNSR == 0) ~ TRT01P", rows)
    assert (curve.to_frame()["estimate"] <= 1).all()
    scored = trial.adqs[trial.adqs["ADY"] > 1]
    ever = (scored["AVAL"] <= scored["BASE"] / 2).groupby(scored["USUBJID"]).any()
    assert (rows["CNSR"] == 0).sum() == ever.sum()
    assert curve.to_frame()["n_event"].sum() == ever.sum()


def contrasts(p):
    frames = [pd.DataFrame({"contrast": f"K{k} - P", "visit": range(5), "estimate": -1.0, "p_value": row})
              for k, row in enumerate(p)]  # fmt: skip
    return Estimates(pd.concat(frames, ignore_index=True))


def test_separation_over_several_contrasts_holds_the_family_wise_error():
    from scipy.special import ndtr

    rng = np.random.default_rng(4)
    cov = 0.5 + 0.5 * np.eye(5)
    z = rng.multivariate_normal(np.zeros(5), cov, size=(150, 3))
    p = 2 * ndtr(-np.abs(z))
    each, all_of_them = (
        np.mean([(ks.separation(contrasts(q), "visit", adjust=a)["n_separated"] > 0).any() for q in p])
        for a in ("none", "bonferroni")
    )
    error = np.sqrt(0.05 * 0.95 / 150)
    assert all_of_them < 0.05 + 3 * error
    assert each > 0.05 + 3 * error


def test_a_visit_without_p_value_stops_the_sequence():
    with pytest.raises(EstimabilityError, match="no p value at 2"):
        ks.separation(contrasts([[0.01, 0.01, np.nan, 0.01, 0.01]]), "visit")


def guesses(n=400, drug=-4.0, belief=-3.0, seed=2):
    """Belief follows the arm, not the outcome; the outcome has a part of the drug and a part of belief."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"arm": np.tile(["P", "K"], n // 2)})
    active = (frame["arm"] == "K").to_numpy()
    believes = rng.random(n) < np.where(active, 0.8, 0.3)
    frame["guess"] = np.where(believes, "K", np.where(rng.random(n) < 0.3, "unsure", "P"))
    frame["base"] = rng.normal(30, 4, n)
    frame["y"] = drug * active + belief * believes + 0.2 * frame["base"] + rng.normal(0, 3, n)
    return frame


def test_the_effect_by_guess_tells_drug_and_belief_apart_where_belief_is_no_consequence():
    data = guesses(4000)
    found = ks.effect_by_guess(data, "y", arm="arm", guess="guess", covariates=["base"], reference="P").frame
    total = found.loc[found["quantity"] == "unadjusted", "estimate"].iloc[0]
    assert total == pytest.approx(-4 - 3 * 0.5, abs=0.4)
    rest = found[found["quantity"] != "unadjusted"]
    assert ((rest["conf_low"] < -4 + 0.3) & (rest["conf_high"] > -4 - 0.3)).all()
    assert found["n"].iloc[1:4].sum() == found["n"].iloc[0] == 4000


def test_a_guess_of_one_arm_alone_has_no_difference():
    data = guesses(200)
    data.loc[data["arm"] == "P", "guess"] = "P"
    data.loc[(data["arm"] == "K") & (data["guess"] == "P"), "guess"] = "P"
    found = ks.effect_by_guess(data, "y", arm="arm", guess="guess", reference="P").frame.set_index("guess")
    assert np.isnan(found.loc["unsure", "estimate"])
    assert np.isfinite(found.loc["P", "estimate"])
    with pytest.raises(FormulaError, match="is not an arm"):
        ks.effect_by_guess(data, "y", arm="arm", guess="guess", reference="Z")
    with pytest.raises(DataError, match="one arm only"):
        ks.effect_by_guess(data[data["arm"] == "K"], "y", arm="arm", guess="guess")


def test_the_expectancy_bound_recovers_the_drug_when_the_expectancy_is_known():
    data = guesses(4000)
    counts = {a: [((data["arm"] == a) & (data["guess"] == g)).sum() for g in ("K", "P", "unsure")] for a in ("K", "P")}
    total = ks.ancova("y ~ arm + base", data.assign(arm=pd.Categorical(data["arm"], ["P", "K"], ordered=True)))
    effect = total.lsmeans("arm").contrast("trt.vs.ctrl")
    found = ks.expectancy_bound(effect, counts, [0, -3, -11])
    assert found["estimate"][0] == effect["estimate"][0]
    assert found["conf_low"][1] < -4 < found["conf_high"][1]
    assert found.meta["tipping_point"] == -11
    gap = counts["K"][0] / sum(counts["K"]) - counts["P"][0] / sum(counts["P"])
    assert found.meta["explains_all"] == pytest.approx(effect["estimate"][0] / gap)
    assert (found["std_error"].diff().iloc[1:] > 0).all()  # the uncertainty of the beliefs is carried
    with pytest.raises(FormulaError, match="two arms"):
        ks.expectancy_bound(effect, {"K": [1, 2, 3]}, [0])


def test_dose_response_recovers_the_scenario():
    scenario = ks.simulate("kap-dose-finding", n=3000, seed=4)
    data = scenario.adqs[scenario.adqs["AVISITN"] > 0]
    fit = ks.mmrm("CHG ~ BASE*AVISIT + TRT01P*AVISIT + us(AVISIT | USUBJID)", data, df="satterthwaite")
    visit = data["AVISIT"].iloc[-1]
    lsm = fit.lsmeans("TRT01P", by="AVISIT").filter(AVISIT=visit)
    doses = {a: float(a.split()[1]) if "mg" in a else 0.0 for a in scenario.arms}
    found = ks.dose_response(lsm, doses, draws=200)
    truth = {r["TRT01P"]: r["value"] for r in scenario.truth["mean_change"]
             if r["AVISIT"] == visit and r["strategy"] == "hypothetical"}  # fmt: skip
    at = found.predict(list(doses.values())).frame
    gap = (at["estimate"] - at["estimate"].iloc[0]).to_numpy()
    true = np.array([truth[a] - truth[next(iter(doses))] for a in doses])
    assert np.abs(gap - true).max() < 3 * at["std_error"].max() * np.sqrt(2)
    weight = dict(zip(found.models()["model"], found.weights, strict=True))
    assert weight["linear"] + weight["exponential"] < 0.01
    level = (true[3] + true[2]) / 2  # reached between 0.2 and 0.5 mg/kg
    target = found.target_dose(level).frame.iloc[0]
    assert 0.2 < target["conf_low"] <= target["estimate"] <= target["conf_high"] < 0.5


def test_exposure_in_place_of_dose_moves_the_axis_only():
    frame = pd.DataFrame({"estimate": [0.0, -2.1, -3.9, -5.8, -7.0], "std_error": 0.4})
    dose, cmax = np.array([0, 10, 25, 50, 100.0]), np.array([0, 37, 92.5, 185, 370.0])
    a, b = (ks.dose_response(frame, x, models=["emax"], draws=20) for x in (dose, cmax))
    assert b.curves[0].parameters["ed50"] == pytest.approx(3.7 * a.curves[0].parameters["ed50"], rel=1e-5)
    np.testing.assert_allclose(a.predict(dose)["estimate"], b.predict(cmax)["estimate"], atol=1e-5)


def test_the_factorial_has_its_simple_effects_and_interaction_with_therapists_random():
    trial = ks.simulate("kap-factorial", n=1600, seed=3)
    last = trial.adqs[trial.adqs["AVISITN"] == trial.adqs["AVISITN"].max()]
    data = last.merge(trial.adsl[["USUBJID", "THERAPID", "DRUG", "THERAPY"]], on="USUBJID", suffixes=("", "_SL"))
    data = data.assign(
        DRUG=pd.Categorical(np.where(data["TRT01P"].str.startswith("Ketamine"), "K", "P"), ["P", "K"], ordered=True),
        THERAPY=pd.Categorical(np.where(data["TRT01P"].str.endswith("Therapy"), "T", "E"), ["E", "T"], ordered=True),
    )
    fit = ks.lmm("CHG ~ BASE + DRUG*THERAPY + (1 | THERAPID)", data, df="satterthwaite")
    simple = fit.lsmeans("DRUG", by="THERAPY").contrast("trt.vs.ctrl").frame
    truth = {r["contrast"]: r["value"] for r in trial.truth["mean_difference"]
             if r["AVISIT"] == last["AVISIT"].iloc[0] and r["strategy"] == "treatment policy"}  # fmt: skip
    values = {k.split(" - ")[0]: v for k, v in truth.items()}
    education, therapy = values["Ketamine + Education"], values["Ketamine + Therapy"] - values["Placebo + Therapy"]
    assert np.all(np.abs(simple["estimate"] - [education, therapy]) < 3.5 * simple["std_error"])
    row = fit.coefficients.frame.iloc[-1]
    assert abs(row["estimate"] - (therapy - education)) < 3.5 * row["std_error"]
    assert row["estimate"] == pytest.approx(simple["estimate"].diff().iloc[1], abs=1e-6)


def test_patterns_and_reasons_count_everybody_once():
    trial = ks.datasets.load("kap-parallel")
    patterns = ks.missing_patterns(trial)
    assert patterns["n"].sum() == 240
    assert (patterns.frame.groupby("TRT01P")["n"].sum() == 40).all()
    assert set(patterns["kind"]) == {"complete", "monotone", "intermittent", "none"}
    reasons = ks.dropout_reasons(trial, trial.adsl)
    last = reasons.filter(AVISIT="Day 28")["n"].sum()
    gone = patterns.frame[patterns.frame["pattern"].str.endswith(".")]["n"].sum()
    assert last == gone
    by_visit = reasons.frame.groupby("AVISIT", sort=False)["n"].sum()
    assert by_visit.is_monotonic_increasing
    with pytest.raises(DataError, match="stand twice"):
        ks.dropout_reasons(trial, pd.concat([trial.adsl, trial.adsl]))


@pytest.mark.parametrize("truth", [0.0, 1.0])
def test_bounds_of_a_cohort_that_lost_nine_in_ten_cover_whatever_the_lost_did(truth):
    """Those lost all respond or none does: the interval for any assumption covers at its level, the naive one never."""
    rng, inside, naive = np.random.default_rng(8), 0, 0
    for _ in range(400):
        seen = rng.random(500) < 0.1
        reply = rng.random(500) < 0.6
        found = ks.response_bounds(int((seen & reply).sum()), int(seen.sum()), 500).frame.set_index("assumption")
        whole = 0.1 * 0.6 + 0.9 * truth
        inside += found.loc["any", "conf_low"] <= whole <= found.loc["any", "conf_high"]
        naive += found.loc["missing at random", "conf_low"] <= whole <= found.loc["missing at random", "conf_high"]
    assert inside / 400 >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / 400)
    assert naive == 0


def test_bounds_shrink_to_a_two_sided_interval_when_nobody_is_lost():
    found = ks.response_bounds(60, 100, 100).frame.set_index("assumption")
    half = 1.959964 * np.sqrt(0.24 / 100)
    np.testing.assert_allclose(
        found.loc["any", ["conf_low", "conf_high"]].astype(float), [0.6 - half, 0.6 + half], 1e-6
    )
    with pytest.raises(FormulaError, match="nobody was seen"):
        ks.response_bounds(0, 0, 10)
    with pytest.raises(FormulaError, match="0 <= responders"):
        ks.response_bounds(11, 10, 20)


def stratum(n, seed):
    """Stopping under K depends on base, which acts on the outcome; the effect is -4 in those who would stay, 0 else."""
    rng = np.random.default_rng(seed)
    base, active = rng.normal(size=n), np.arange(n) % 2 == 1
    stops = {a: rng.random(n) < 1 / (1 + np.exp(shift - 1.5 * base)) for a, shift in ((True, 0.5), (False, 2.0))}
    y = 3 * base - 4 * (active & ~stops[True]) + rng.normal(size=n)
    frame = pd.DataFrame({"arm": np.where(active, "K", "P"), "base": base, "y": y})
    return frame.assign(stopped=np.where(active, stops[True], stops[False]))


def test_the_principal_stratum_is_estimated_where_leaving_out_is_wrong():
    found = ks.principal_effect(stratum(20_000, 1), "y", arm="arm", event="stopped", covariates="base", reference="P",
                                replicates=40).frame.set_index("quantity")  # fmt: skip
    inside = found["estimate"] - 4 * found["std_error"], found["estimate"] + 4 * found["std_error"]
    assert inside[0]["principal stratum"] < -4 < inside[1]["principal stratum"]
    assert not inside[0]["left out"] < -4 < inside[1]["left out"]  # stopping differs by arm, so the people do
    assert not inside[0]["all"] < -4 < inside[1]["all"]


def test_the_error_of_the_principal_stratum_is_its_spread():
    found = [ks.principal_effect(stratum(200, s), "y", arm="arm", event="stopped", covariates="base", reference="P",
                                 replicates=60).frame.iloc[0] for s in range(60)]  # fmt: skip
    estimates = np.array([f["estimate"] for f in found])
    assert abs(estimates.mean() + 4) < 4 * estimates.std(ddof=1) / np.sqrt(60)
    assert np.mean([f["std_error"] for f in found]) / estimates.std(ddof=1) == pytest.approx(1, abs=0.35)


def test_a_principal_stratum_that_is_not_there_is_refused():
    data = stratum(40, 2)
    with pytest.raises(EstimabilityError, match="all or none"):
        ks.principal_effect(data.assign(stopped=0), "y", arm="arm", event="stopped", covariates="base")
    with pytest.raises(DataError, match="has to be 0 or 1"):
        ks.principal_effect(data.assign(stopped=2), "y", arm="arm", event="stopped", covariates="base")
    with pytest.raises(FormulaError, match="two arms"):
        ks.principal_effect(data.assign(arm="P"), "y", arm="arm", event="stopped", covariates="base")
