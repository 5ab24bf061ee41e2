"""Intercurrent events read off ADaM, several events a subject, and what each strategy makes of missed visits."""

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from kapstats.errors import DataError, FormulaError, KapstatsWarning
from kapstats.response.estimand import Estimand
from kapstats.response.intercurrent import intercurrent_events

DAYS = {"Baseline": 1, "Day 7": 8, "Day 14": 15, "Day 28": 29}


def tables():
    """Four subjects: 1 stays, 2 stops and is seen later, 3 leaves after day 7, 4 takes rescue medication at day 10."""
    adsl = pd.DataFrame({"USUBJID": list("1234"), "TRT01P": ["P", "K", "P", "K"], "TRTSDT": pd.Timestamp("2024-01-08")})
    adsl["EOTSTT"] = ["COMPLETED", "DISCONTINUED", "DISCONTINUED", "COMPLETED"]
    adsl["DCTREAS"] = [None, "ADVERSE EVENT", "WITHDRAWAL", None]
    adsl["DCTDT"] = pd.to_datetime([None, "2024-01-20", "2024-01-15", None])  # days 13 and 8
    rows = [(s, v, d) for s in "1234" for v, d in DAYS.items() if not (s == "3" and d > 8)]
    adqs = pd.DataFrame(rows, columns=["USUBJID", "AVISIT", "ADY"])
    adqs["AVISITN"] = adqs["AVISIT"].map({"Baseline": 0, "Day 7": 7, "Day 14": 14, "Day 28": 28})
    adqs["TRT01P"] = adqs["USUBJID"].map(adsl.set_index("USUBJID")["TRT01P"])
    adqs["ABLFL"] = np.where(adqs["AVISITN"] == 0, "Y", None)
    adqs["CHG"] = np.where(adqs["AVISITN"] == 0, np.nan, -1.0 * adqs["AVISITN"] - adqs["USUBJID"].astype(int))
    rescue = pd.DataFrame(
        {"USUBJID": ["4", "2"], "CETERM": "RESCUE", "ASTDT": pd.to_datetime(["2024-01-17", "2024-02-04"])}
    )
    return adsl, adqs, rescue


def events(**options):
    adsl, adqs, rescue = tables()
    return intercurrent_events(adsl, rescue, visits=adqs, **options)


def answer(strategies, **options):
    _, adqs, _ = tables()
    estimand = Estimand("K - P", "all", "CHG", strategies, failure=5.0)
    out = estimand.apply(adqs, events(), **options)
    return {(s, v): y for s, v, y in zip(out["USUBJID"], out["AVISIT"], out["CHG"], strict=True)}, out


POLICY = {"ADVERSE EVENT": "treatment-policy", "WITHDRAWAL": "treatment-policy", "RESCUE": "treatment-policy"}


def test_events_are_dated_from_adsl_and_occurrences():
    found = events()
    assert found["USUBJID"].tolist() == ["2", "2", "3", "4"]
    assert found["ICE"].tolist() == ["ADVERSE EVENT", "RESCUE", "WITHDRAWAL", "RESCUE"]
    assert found["ICEDY"].tolist() == [13, 28, 8, 10]
    assert found["ICEVISIT"].tolist() == ["Day 14", "Day 28", "Day 14", "Day 14"]
    assert found["ICESRC"].tolist()[0] == "ADSL DCTREAS, DCTDT"


def test_an_assessment_on_the_day_of_the_event_belongs_to_either_side():
    assert events(same_day="after")["ICEVISIT"].tolist() == ["Day 14", "Day 28", "Day 7", "Day 14"]


def test_an_event_after_the_last_visit_affects_none():
    adsl, adqs, rescue = tables()
    late = intercurrent_events(adsl, rescue.assign(ASTDT=pd.Timestamp("2024-06-01")), visits=adqs)
    assert late.loc[late["ICE"] == "RESCUE", "ICEVISIT"].isna().all()
    out = Estimand("a", "b", "c", POLICY | {"RESCUE": "composite"}).apply(adqs, late)
    pd.testing.assert_series_equal(out["CHG"], adqs["CHG"])


def test_without_a_day_leaving_the_study_is_dated_by_the_last_visit():
    adsl, adqs, _ = tables()
    left = adsl.rename(columns={"DCTREAS": "DCSREAS", "EOTSTT": "EOSSTT"}).drop(columns="DCTDT")
    found = intercurrent_events(left, visits=adqs)
    assert found["ICEVISIT"].where(found["ICEVISIT"].notna(), "none").tolist() == ["none", "Day 14"]
    assert "last visit" in found["ICESRC"].iloc[0]


def test_composite_fills_the_visits_that_were_missed():
    values, out = answer(POLICY | {"WITHDRAWAL": "composite"})
    assert [values["3", v] for v in ("Day 7", "Day 14", "Day 28")] == [-10, 5, 5]
    added = out[(out["USUBJID"] == "3") & (out["AVISITN"] > 7)]
    assert added["AVISITN"].tolist() == [14, 28]
    assert added["TRT01P"].tolist() == ["P", "P"]
    assert added["ABLFL"].isna().all()
    assert "2 planned visits added" in out.attrs["kapstats_estimand"]


def test_while_on_treatment_carries_the_last_value_to_missed_visits():
    values, _ = answer(POLICY | {"WITHDRAWAL": "while-on-treatment", "ADVERSE EVENT": "while-on-treatment"})
    assert [values["3", v] for v in ("Day 7", "Day 14", "Day 28")] == [-10] * 3
    assert [values["2", v] for v in ("Day 7", "Day 14", "Day 28")] == [-9] * 3


def test_the_first_event_that_is_not_treatment_policy_governs():
    values, out = answer(POLICY | {"RESCUE": "hypothetical"})
    assert values["2", "Day 14"] == -16  # the adverse event before it changes nothing
    assert np.isnan(values["2", "Day 28"])
    assert set(out.loc[out["USUBJID"] == "2", "ICEVISIT"]) == {"Day 28"}
    both, _ = answer(POLICY | {"RESCUE": "hypothetical", "ADVERSE EVENT": "composite"})
    assert both["2", "Day 14"] == both["2", "Day 28"] == 5


def test_a_principal_stratum_leaves_out_whoever_had_the_event_at_any_time():
    with pytest.warns(KapstatsWarning, match="2 subjects with the event are left out"):
        _, out = answer(POLICY | {"RESCUE": "principal-stratum", "ADVERSE EVENT": "composite"})
    assert set(out["USUBJID"]) == {"1", "3"}


def test_policy_alone_changes_nothing():
    _, adqs, _ = tables()
    _, out = answer(POLICY)
    pd.testing.assert_series_equal(out["CHG"], adqs["CHG"])


def test_the_strategies_lead_to_an_imputation_by_reason():
    trial = ks.datasets.load("kap-parallel")
    found = ks.intercurrent_events(trial)
    kinds = dict.fromkeys(found["ICE"].unique(), "treatment-policy")
    data = Estimand("KAP - placebo", "randomised", "CHG", kinds).apply(trial, found)
    imputed = ks.impute(
        data, formula="CHG ~ BASE*AVISIT + TRT01P*AVISIT + us(AVISIT | USUBJID)", arm="TRT01P", reference="Placebo",
        strategy=dict.fromkeys(kinds, "MAR") | {"LACK OF EFFICACY": "J2R"}, reason="ICE", event="ICEVISIT",
    )  # fmt: skip
    values = imputed.values().frame
    who = set(found.loc[found["ICE"] == "LACK OF EFFICACY", "USUBJID"])
    assert set(values.loc[values["strategy"] == "J2R", "USUBJID"]) == who
    assert "treatment-policy" in imputed.analyse("TRT01P + BASE").meta["estimand"]


@pytest.mark.parametrize("verb", ["ancova", "lmm", "glmm", "gee", "mmrm"])
def test_the_estimand_travels_with_every_verb(verb):
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"USUBJID": np.repeat(np.arange(60), 2), "AVISIT": ["Day 7", "Day 28"] * 60})
    data["ARM"] = pd.Categorical(np.where(data["USUBJID"] % 2 == 0, "P", "K"), ["P", "K"], ordered=True)
    data["CHG"], data["SITE"] = rng.normal(size=120), data["USUBJID"] % 6
    happened = pd.DataFrame({"USUBJID": [3, 8], "ICE": "RESCUE", "ICEVISIT": "Day 28"})
    estimand = Estimand("K - P", "all", "CHG", {"RESCUE": "composite"})
    out = estimand.apply(
        data.assign(AVISIT=pd.Categorical(data["AVISIT"], ["Day 7", "Day 28"], ordered=True)), happened
    )
    out = out[out["AVISIT"] == "Day 28"].assign(GOOD=lambda d: (d["CHG"] > 0).astype(float))
    fits = {
        "ancova": lambda: ks.ancova("CHG ~ ARM", out),
        "lmm": lambda: ks.lmm("CHG ~ ARM + (1 | SITE)", out),
        "glmm": lambda: ks.glmm("GOOD ~ ARM + (1 | SITE)", out),
        "gee": lambda: ks.gee("GOOD ~ ARM + cluster(SITE)", out),
        "mmrm": lambda: ks.mmrm("CHG ~ ARM*AVISIT + us(AVISIT | USUBJID)", estimand.apply(data.assign(
            AVISIT=pd.Categorical(data["AVISIT"], ["Day 7", "Day 28"], ordered=True)), happened)),
    }  # fmt: skip
    fit = fits[verb]()
    assert "RESCUE: composite" in fit.coefficients.meta["estimand"]
    assert "RESCUE: composite" in fit.lsmeans("ARM").contrast("trt.vs.ctrl").meta["estimand"]


def test_events_that_cannot_be_placed_are_refused():
    adsl, adqs, rescue = tables()
    with pytest.raises(DataError, match="an intercurrent event of nobody in ADSL"):
        intercurrent_events(adsl, rescue.assign(USUBJID=["9", "2"]), visits=adqs)
    with pytest.raises(DataError, match="The day of 1 intercurrent events is not known"):
        intercurrent_events(adsl, rescue.assign(ASTDT=pd.to_datetime(["2024-01-17", None])), visits=adqs)
    with pytest.raises(DataError, match="names the event"):
        intercurrent_events(adsl, rescue.drop(columns="CETERM"), visits=adqs)
    with pytest.raises(DataError, match="nothing says who stopped"):
        intercurrent_events(adsl.drop(columns="DCTREAS"), visits=adqs)
    with pytest.raises(FormulaError, match="give visits="):
        intercurrent_events(adsl)
    with pytest.raises(DataError, match="no strategy for RESCUE"):
        Estimand("a", "b", "c", {"ADVERSE EVENT": "composite", "WITHDRAWAL": "composite"}).apply(adqs, events())
