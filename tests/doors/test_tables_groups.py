"""The groups of adverse event tables: treatment at onset in trials of several periods, lists, everybody."""

from __future__ import annotations

import warnings

import pandas as pd
import pytest

import kapstats as ks
from kapstats.errors import DataError, FormulaError, KapstatsWarning

ADSL = pd.DataFrame(
    {
        "USUBJID": list("abcd"),
        "TRT01A": ["Ketamine", "Ketamine", "Placebo", "Placebo"],
        "TRT02A": ["Placebo", None, "Ketamine", "Ketamine"],
        "TRT01AN": [2, 2, 1, 1],
        "SEX": ["F", "M", "F", "M"],
        "SAFFL": "Y",
        "TRTSDT": "2024-03-01",
        "EOSDT": "2024-04-01",
    }
)
# four dissociations, all under ketamine; b left before the second period
ADAE = pd.DataFrame(
    {
        "USUBJID": list("abcd"),
        "AEDECOD": "Dissociation",
        "TRTA": "Ketamine",
        "APERIOD": [1, 1, 2, 2],
        "TRTEMFL": "Y",
        "ASTDT": "2024-03-02",
    }
)


def cells(found):
    frame = found.to_frame().query("level == 'ANY'")
    return dict(zip(frame[found.by], zip(frame["n_subjects"], frame["N"], strict=True), strict=True))


@pytest.mark.parametrize(
    "adae", [ADAE, ADAE.drop(columns="TRTA"), ADAE.assign(TRTA=["Ketamine", "", None, "Ketamine"])]
)
def test_events_are_counted_under_the_treatment_at_onset(adae):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = ks.incidence(adae, ADSL, by="TRTA", terms=["AEDECOD"])
    assert found.arms == ("Placebo", "Ketamine")
    assert cells(found) == {"Placebo": (0, 3), "Ketamine": (4, 4)}
    assert "same subjects are in several groups" in found.compare().meta["sentence"]
    with pytest.raises(FormulaError, match="several groups"):
        found.time_to_first()
    with pytest.raises(FormulaError, match="several groups"):
        found.exposure_adjusted()


def test_exposure_says_who_received_what():
    adex = pd.DataFrame(
        {"USUBJID": list("aabccdd"), "TRTA": ["Ketamine", "Placebo", "Ketamine"] + ["Placebo", "Ketamine"] * 2}
    )
    trial = ks.Trial(adsl=ADSL.drop(columns="TRT02A"), adae=ADAE, adex=adex)
    found = ks.incidence(trial, by="TRTA", terms=["AEDECOD"], order=["Placebo", "Ketamine"])
    assert cells(found) == {"Placebo": (0, 3), "Ketamine": (4, 4)}


def test_without_periods_the_remedy_is_named():
    with pytest.raises(DataError, match=r"2 records have another TRTA than ADSL.TRT01A \(c, d\).*TRT02A"):
        ks.incidence(ADAE, ADSL.drop(columns="TRT02A"), by="TRTA", terms=["AEDECOD"])
    with pytest.raises(DataError, match=r"1 records have a TRTA that their subject did not receive.*\(b\)"):
        ks.incidence(ADAE.assign(TRTA=["Ketamine", "Placebo", "Ketamine", "Ketamine"]), ADSL, by="TRTA")
    with pytest.warns(KapstatsWarning, match="counted under ADSL's"):
        first = ks.incidence(ADAE, ADSL, by="TRT01A", terms=["AEDECOD"])
    assert cells(first) == {"Placebo": (2, 2), "Ketamine": (2, 2)}


def test_a_parallel_trial_has_the_same_counts_by_trta():
    parallel = ADSL.drop(columns="TRT02A")
    adae = ADAE.iloc[:2]
    assert cells(ks.incidence(adae, parallel, by="TRTA", terms=[])) == cells(ks.incidence(adae, parallel, terms=[]))


def test_combinations_of_columns_and_everybody():
    with pytest.warns(KapstatsWarning, match="alphabetical"):
        found = ks.incidence(ADAE.iloc[:3], ADSL, by=["TRT01A", "SEX"], terms=["AEDECOD"])
    assert found.arms == ("Placebo, F", "Placebo, M", "Ketamine, F", "Ketamine, M")
    assert list(cells(found).values()) == [(1, 1), (0, 1), (1, 1), (1, 1)]
    assert found.table().columns[1] == "Placebo, F (N=1)"
    everybody = ks.incidence(ADAE, ADSL, by=None, terms=["AEDECOD"])
    assert cells(everybody) == {"Total": (4, 4)}
    assert everybody.table().rows[0] == ("Any adverse event", "4 (100.0%)")
    assert cells(ks.incidence(ADAE.iloc[:2], ADSL, by=["TRT01A"], terms=[]))["Ketamine"] == (2, 2)


def test_terms_that_differ_in_capitals_are_named():
    adae = ADAE.assign(AEDECOD=["Nausea", "nausea", "NAUSEA ", "Fall"])
    with pytest.warns(KapstatsWarning, match="AEDECOD: 3 terms differ in capitals"):
        found = ks.incidence(adae, ADSL, terms=["AEDECOD"])
    assert any("capitals" in text for text in found.warnings)


def test_arguments_that_a_comparison_does_not_have():
    with pytest.raises(FormulaError, match="nul= is no argument"):
        ks.risk_difference(1, 10, 2, 10, nul=0)
    with pytest.raises(FormulaError, match="nul= is no argument"):
        ks.risk_difference([1, 2], [10, 10], [2, 2], [10, 10], strata=["a", "b"], nul=0)
    with pytest.raises(FormulaError, match="term= needs strata"):
        ks.odds_ratio(1, 10, 2, 10, term=["a"])


def test_the_priors_of_the_three_level_model_are_an_argument():
    """The default is Berry and Berry's Exponential(0.1), named in the sentence; heavier weights pull terms to 0."""
    adsl = pd.DataFrame({"USUBJID": range(200), "TRT01A": ["P", "K"] * 100, "TRT01AN": [0, 1] * 100, "SAFFL": "Y"})
    adae = pd.DataFrame(
        {"USUBJID": [*range(0, 20, 2), *range(1, 60, 2)], "AEBODSYS": "S", "AEDECOD": "T", "TRTEMFL": "Y"}
    )
    ae = ks.incidence(adae, adsl)
    size = {"draws": 400, "burn_in": 200, "chains": 2}
    default = ae_signals(ae, **size)
    pd.testing.assert_frame_equal(default.frame, ae_signals(ae, **size, priors={"alpha": 0.1, "rate": 1}).frame)
    assert "InverseGamma(3, 1)" in default.meta["sentence"]
    assert "alpha, beta ~ Exponential(0.1) above 1" in default.meta["sentence"]
    other = ae_signals(ae, **size, priors={"alpha": 1, "beta": 1, "variance": 0.01})
    assert "Exponential(1)" in other.meta["sentence"]
    assert abs(other["estimate"].iloc[0]) < abs(default["estimate"].iloc[0])
    with pytest.raises(FormulaError, match="alpa"):
        ae_signals(ae, priors={"alpa": 1})
    with pytest.raises(FormulaError, match="above 0"):
        ae_signals(ae, priors={"alpha": 0})
    with pytest.raises(FormulaError, match="berry-berry"):
        ks.safety_signals(ae, priors={"alpha": 1})


def ae_signals(ae, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KapstatsWarning)
        return ks.safety_signals(ae, "berry-berry", **options)
