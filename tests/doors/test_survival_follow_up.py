"""Nothing past the end of follow-up; numbers at risk counted from the entries; quantiles as R and as SAS."""

import warnings

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from kapstats.errors import KapstatsWarning
from kapstats.safety.time_to_event import savvy

VALUES = ["estimate", "std_error", "conf_low", "conf_high", "statistic", "p_value"]
KEPT = "extend=True"


def two_arms() -> pd.DataFrame:
    """Placebo is followed to day 40, KAP to day 90, both with censored rows at their end; a table as users have it."""
    rng = np.random.default_rng(7)
    arm = np.repeat(["Placebo", "KAP"], 60)
    t = np.ceil(rng.exponential(np.where(arm == "KAP", 60, 30)))
    end = np.where(arm == "KAP", 90, 40)
    data = pd.DataFrame({"AVAL": np.minimum(t, end), "EVENT": (t <= end).astype(int), "TRT01P": arm})
    data["STATUS"] = np.where(data["EVENT"] == 1, np.where(rng.random(120) < 0.6, "relapse", "left"), "censored")
    data["AGE"], data["SEX"] = rng.normal(40, 9, 120).round(), rng.choice(["F", "M"], 120)
    data["START"], data["USUBJID"] = 0.0, [f"S{i:03d}" for i in range(120)]
    data["L"] = np.maximum(data["AVAL"] - 7, 0)
    data["R"] = data["AVAL"].where(data["EVENT"] == 1)
    data["L"] = data["L"].where(data["EVENT"] == 1, data["AVAL"])
    data["TRT01P"] = pd.Categorical(data["TRT01P"], ["Placebo", "KAP"], ordered=True)
    return data


DATA = two_arms()
CENSORED = {"censored": "censored"}


def stop(left: str = "Surv(AVAL, EVENT)", right: str = "TRT01P") -> str:
    return f"{left} ~ {right}"


#: asks at times (or a horizon), by arm: the arm of every row must follow from the column TRT01P
BY_ARM = {
    "kaplan_meier": lambda t, **o: ks.kaplan_meier(stop(), DATA).at(t, **o),
    "nelson-aalen": lambda t, **o: ks.kaplan_meier(stop(), DATA, estimator="nelson-aalen").at(t, **o),
    "cif": lambda t, **o: ks.cumulative_incidence(
        stop("Surv(AVAL, STATUS)"), DATA, cause="relapse", **CENSORED).at(t, **o),
    "cif all": lambda t, **o: ks.cumulative_incidence(
        stop("Surv(AVAL, STATUS)"), DATA, cause=None, **CENSORED).at(t, **o),
    "mcf": lambda t, **o: ks.mean_cumulative_function(stop("Surv(START, AVAL, EVENT)"), DATA).at(t, **o),
    "turnbull": lambda t, **o: ks.turnbull(stop("Surv(L, R, type='interval2')"), DATA).at(t, **o),
    "states": lambda t, **o: ks.state_occupation(stop("Surv(START, AVAL, STATUS)"), DATA, **CENSORED).at(t, **o),
    "cox by stratum": lambda t, **o: ks.cox(stop(right="AGE + strata(TRT01P)"), DATA).survival(
        pd.DataFrame({"AGE": [40, 40], "TRT01P": ["Placebo", "KAP"]}), t, **o),
    "rmtl": lambda t, **o: rows_of_horizons(
        lambda tau: ks.cumulative_incidence(
            stop("Surv(AVAL, STATUS)"), DATA, cause=None, **CENSORED).rmtl(tau, **o), t),
    "mean time": lambda t, **o: rows_of_horizons(
        lambda tau: ks.state_occupation(stop("Surv(START, AVAL, STATUS)"), DATA, **CENSORED).mean_time(tau, **o), t),
}  # fmt: skip
#: asks at times with one end of follow-up for every row, day 90
TOGETHER = {
    "cox": lambda t, **o: ks.cox(stop(right="TRT01P + AGE"), DATA).survival(DATA.head(2), t, **o),
    "adjusted": lambda t, **o: ks.cox(stop(right="TRT01P + AGE"), DATA).adjusted_survival("TRT01P", t, **o),
    "fine_gray": lambda t, **o: ks.fine_gray(
        stop("Surv(AVAL, STATUS)", "AGE"), DATA, cause="relapse", **CENSORED).predict({"AGE": 40}, t, **o),
    "absolute risk": lambda t, **o: ks.cause_specific(
        stop("Surv(AVAL, STATUS)", "AGE"), DATA, **CENSORED).absolute_risk({"AGE": 40}, t, **o),
    "interval_cox": lambda t, **o: ks.interval_cox(
        stop("Surv(L, R, type='interval2')", "AGE"), DATA, conf="wald").predict({"AGE": 40}, t, **o),
    "grouped": lambda t, **o: ks.interval_cox(
        stop(right="AGE"), DATA, model="grouped", conf="wald").predict({"AGE": 40}, t, **o),
}  # fmt: skip


def rows_of_horizons(ask, times):
    """The answers at several horizons as one result with a column `time`."""
    found = [ask(float(tau)) for tau in times]
    frame = pd.concat([f.frame for f in found], ignore_index=True).rename(columns={"tau": "time"})
    return ks.Estimates(frame, {**found[-1].meta, "warnings": tuple(w for f in found for w in f.warnings)})


def quiet(ask, *args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ask(*args, **options)


def answers(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[[c for c in VALUES if c in frame]]


@pytest.mark.parametrize("verb", BY_ARM)
def test_each_arm_ends_with_its_own_follow_up(verb):
    with pytest.warns(KapstatsWarning, match=r"KAP, followed to 90, at 500"):
        found = BY_ARM[verb]([20, 60, 500])
    assert "Placebo, followed to 40, at 60" in found.warnings[0]
    frame = found.frame
    arm = frame["row"].map({0: "Placebo", 1: "KAP"}) if "row" in frame else frame["TRT01P"]
    last = arm.map({"Placebo": 40, "KAP": 90}).astype(float)
    past = (frame["time"] > last).to_numpy()
    assert 0 < past.sum() < len(frame)
    assert answers(frame[past]).isna().all().all()
    assert frame.loc[~past, "estimate"].notna().all()
    assert any(KEPT in w for w in found.warnings)
    assert "NE" in found.to_text()


@pytest.mark.parametrize("verb", TOGETHER)
def test_predictions_end_with_follow_up(verb):
    with pytest.warns(KapstatsWarning, match="followed to 90, at 91, 500"):
        found = TOGETHER[verb]([20, 90, 91, 500])
    past = found.frame["time"].to_numpy() > 90
    assert answers(found.frame[past]).isna().all().all()
    assert found.frame.loc[~past, "estimate"].notna().all()


@pytest.mark.parametrize("verb", [*BY_ARM, *TOGETHER])
def test_extend_carries_the_last_value_forward_and_says_so(verb):
    ask = {**BY_ARM, **TOGETHER}[verb]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = ask([40, 90, 500], extend=True)
    assert found.frame["estimate"].notna().all()
    assert any("carried forward" in c for c in found.meta["conventions"])
    if verb not in ("rmtl", "mean time"):
        wide = found.frame.assign(row=np.arange(len(found)) // 3) if "row" not in found.columns else found.frame
        keys = [c for c in wide if c in ("row", "TRT01P", "cause", "state")]
        late = wide[wide["time"] >= 90].groupby(keys, observed=True)["estimate"]
        np.testing.assert_allclose(late.max(), late.min(), atol=1e-12)


@pytest.mark.parametrize("verb", [*BY_ARM, *TOGETHER])
def test_nothing_is_said_about_times_inside_follow_up(verb):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert {**BY_ARM, **TOGETHER}[verb]([10, 40]).frame["estimate"].notna().all()


def test_a_milestone_after_the_end_of_one_arm_compares_nothing():
    km = ks.kaplan_meier(stop(), DATA)
    with pytest.warns(KapstatsWarning, match="Placebo, followed to 40, at 60"):
        found = km.milestone([30, 60])
    assert found["p_value"].notna().tolist() == [True, False]
    assert found["estimate"].notna().tolist() == [True, False]
    assert quiet(km.milestone, [60], extend=True)["p_value"].notna().all()
    assert found.warnings


@pytest.mark.parametrize(
    "curve",
    [
        lambda: ks.kaplan_meier(stop(), DATA).curve(0),
        lambda: ks.cumulative_incidence(stop("Surv(AVAL, STATUS)"), DATA, cause="relapse", **CENSORED).curve(0),
        lambda: ks.mean_cumulative_function(stop("Surv(START, AVAL, EVENT)"), DATA).curve(0),
        lambda: ks.turnbull(stop("Surv(L, R, type='interval2')"), DATA).curve(0),
    ],
)
def test_step_curves_know_their_end(curve):
    step = curve()
    with pytest.warns(KapstatsWarning, match="Placebo is followed to 40"):
        assert np.isnan(step([41.0])).all()
    assert np.isfinite(step([39.0, 40.0])).all()
    assert step.at(500.0, extend=True) == step(40.0)


def test_a_curve_that_has_come_to_its_end_is_known_for_ever():
    """Everyone had the event: S = 0 and the incidences add up to 1 at any later time (so do R with extend, and SAS)."""
    data = pd.DataFrame({"t": [1, 2, 3, 4.0], "e": 1, "s": ["a", "b", "a", "b"], "z": 0.0, "USUBJID": list("wxyz")})
    with warnings.catch_warnings():
        warnings.simplefilter("error", KapstatsWarning)
        assert ks.kaplan_meier("Surv(t, e) ~ 1", data).at(99)["estimate"].tolist() == [0.0]
        cif = ks.cumulative_incidence("Surv(t, s) ~ 1", data.assign(s=pd.Categorical(data["s"], ["a", "b", "c"])),
                                      cause=None, censored="c")  # fmt: skip
        assert cif.at(99)["estimate"].tolist() == [0.5, 0.5]
        assert cif.rmtl(10)["estimate"].sum() == pytest.approx(10 - 2.5)
        assert ks.turnbull("Surv(t, t, type='interval2') ~ 1", data, closed=True).at(99)["estimate"].tolist() == [0.0]


def test_parametric_models_extrapolate_and_say_from_where():
    fit = ks.parametric_survival(stop(right="AGE"), DATA)
    with pytest.warns(KapstatsWarning, match="last time observed is 90") as caught:
        found = fit.predict({"AGE": 40}, times=[30, 500, 900])
    assert len(caught) == 1
    assert found["estimate"].notna().all()
    with pytest.warns(KapstatsWarning, match="last time observed is 90"):
        fit.predict({"AGE": 40}, type="quantile", p=0.999)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit.predict({"AGE": 40}, times=[30, 90])


def test_smoothed_hazards_stop_with_each_group():
    with pytest.warns(KapstatsWarning, match="Placebo, followed to 40, at 60"):
        found = ks.kaplan_meier(stop(), DATA).smoothed_hazard([20, 60]).frame
    assert found["estimate"].notna().tolist() == [True, False, True, True]
    fit = ks.cox(stop(right="AGE + strata(TRT01P)"), DATA)
    new = pd.DataFrame({"AGE": [40.0, 40.0], "TRT01P": ["Placebo", "KAP"]})
    with pytest.warns(KapstatsWarning, match="Placebo"):
        assert fit.smoothed_hazard(new, [20, 60])["estimate"].notna().tolist() == [True, False, True, True]


# ------------------------------------------------------------------------------------------------ numbers at risk


def test_numbers_at_risk_are_counted_from_the_entries():
    """Two subjects are followed from 0, one of them to 2; four enter at 10. At 5 and 8 one subject is followed."""
    data = pd.DataFrame({"a": [0, 0, 10, 10, 10, 10], "t": [2, 30, 31, 32, 33, 34], "e": 1})
    km = ks.kaplan_meier("Surv(a, t, e) ~ 1", data)
    times, counted = [0, 2, 5, 8, 10, 11, 30, 35], [2, 2, 1, 1, 1, 5, 5, 0]
    assert km.at_risk(times)["n_risk"].tolist() == counted
    assert km.at(times)["n_risk"].tolist() == counted
    assert km.follow_up.below(times) == {"All": counted}
    weighted = ks.kaplan_meier("Surv(a, t, e) ~ 1", data, weights=np.full(6, 2.0))
    assert weighted.at_risk(times)["n_risk"].tolist() == [2 * n for n in counted]


@pytest.mark.parametrize("verb", ["km", "cif", "mcf"])
def test_the_risk_table_of_a_figure_counts_entries(verb):
    import matplotlib

    matplotlib.use("Agg")
    data = pd.DataFrame({"a": [0, 0, 10, 10, 10, 10], "t": [2, 30, 31, 32, 33, 34.0], "e": 1})
    data["USUBJID"] = list("abcdef")
    found = {
        "km": lambda: ks.kaplan_meier("Surv(a, t, e) ~ 1", data),
        "cif": lambda: ks.cumulative_incidence("Surv(a, t, e) ~ 1", data),
        "mcf": lambda: ks.mean_cumulative_function("Surv(a, t, e) ~ 1", data),
    }[verb]()
    ax = found.plot(times=[0, 5, 11])
    shown = [t.get_text() for t in ax.figure.findobj(matplotlib.text.Text)]
    at = shown.index("All")
    assert shown[at + 1 : at + 4] == ["2", "1", "5"]


# ------------------------------------------------------------------------------------------------------ quantiles


RESTING = pd.DataFrame({"t": [54, 75, 77, 84, 87, 92, 103, 105, 112, 118], "e": [1] * 5 + [0] * 5})


def test_a_curve_that_rests_on_one_half_to_the_end_has_no_median_in_sas():
    """The page r-sas_survival of CAMIS: SAS prints NE for the median and for S(120); R 102.5, and 0.5 with extend."""
    sas = ks.kaplan_meier("Surv(t, e) ~ 1", RESTING, convention="SAS")
    assert np.isnan(sas.median()["estimate"][0])
    assert sas.quantile(0.25)["estimate"].tolist() == [77.0]
    assert np.isnan(quiet(sas.at, 120)["estimate"][0])
    for convention in ("R", None):
        assert ks.kaplan_meier("Surv(t, e) ~ 1", RESTING, convention=convention).median()["estimate"][0] == 102.5
    ended = RESTING.assign(e=[1] * 5 + [0] * 4 + [1])  # the last row an event: SAS and R both say S(120) = 0
    sas = ks.kaplan_meier("Surv(t, e) ~ 1", ended, convention="SAS")
    assert sas.at(120)["estimate"][0] == 0.0
    assert sas.median()["estimate"][0] == (87 + 118) / 2  # LIFETEST: the midpoint of (t_j, t_j+1)


@pytest.mark.parametrize("n", [4, 8, 12, 20, 28, 36, 60, 100])
def test_sas_quantiles_by_the_rule_of_its_manual_with_exact_fractions(n):
    """min{t: S(t) < 1 - p}, midpoint of (t_j, t_j+1) where S is exactly 1 - p; S as an exact fraction i / n."""
    times = np.arange(1.0, n + 1) * 0.1
    km = ks.kaplan_meier("Surv(t, e) ~ 1", pd.DataFrame({"t": times, "e": 1}), convention="SAS")
    for p in (0.25, 0.5, 0.75):
        k = n * p  # after the k-th event S is exactly 1 - p
        assert km.quantile(p)["estimate"][0] == pytest.approx((times[int(k) - 1] + times[int(k)]) / 2, abs=1e-12)


def test_the_difference_of_medians_follows_the_convention():
    data = pd.concat([RESTING.assign(arm="a"), RESTING.assign(arm="b", e=1)], ignore_index=True)
    order = {"arm": ["a", "b"]}
    sas = ks.kaplan_meier("Surv(t, e) ~ arm", data, order=order, convention="SAS").median_difference()
    assert np.isnan(sas["estimate"][0])
    r = ks.kaplan_meier("Surv(t, e) ~ arm", data, order=order).median_difference()
    assert r["estimate"][0] == (87 + 92) / 2 - 102.5


# ------------------------------------------------------------------------------------------------- adverse events


def adverse_events():
    adsl = pd.DataFrame({"USUBJID": [f"S{i}" for i in range(8)], "TRT01A": ["Placebo"] * 4 + ["KAP"] * 4, "SAFFL": "Y"})
    adsl["TRTSDT"], adsl["EOSDT"] = pd.Timestamp("2025-01-01"), pd.Timestamp("2025-01-01") + pd.to_timedelta(
        [9, 19, 29, 39, 59, 69, 79, 89], "D")  # fmt: skip
    adae = pd.DataFrame({"USUBJID": ["S0", "S1", "S4"], "AEDECOD": "Headache", "ASTDT": pd.Timestamp("2025-01-06")})
    return ks.incidence(adae.assign(TRTEMFL="Y", AEBODSYS="Nervous system"), adsl, by="TRT01A")


def test_first_adverse_events_end_with_each_group():
    ae = adverse_events()
    with pytest.warns(KapstatsWarning, match="KAP, followed to 90, at 500; .*Placebo, followed to 40, at 60, 500"):
        found = ae.time_to_first("Headache", times=[20, 60, 500]).frame
    last = found["TRT01A"].map({"Placebo": 40, "KAP": 90}).astype(float)
    assert (found["estimate"].notna() == (found["time"] <= last)).all()
    assert quiet(ae.time_to_first, "Headache", times=[500], extend=True)["estimate"].tolist() == [0.25, 0.5]
    with pytest.warns(KapstatsWarning, match="Placebo, followed to 40, at 60"):
        five = savvy(ae, "Headache", tau=60).frame
    known = five.groupby("TRT01A")["estimate"].apply(lambda v: v.notna().all())
    assert known.to_dict() == {"Placebo": False, "KAP": True}
    assert five.loc[five["TRT01A"] == "Placebo", "estimate"].isna().all()
