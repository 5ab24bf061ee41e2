"""What goes in and what comes out: kinds of tables, missing and impossible counts, empty arms, errors that help."""

import pickle

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from kapstats.errors import DataError, EstimabilityError, FormulaError, KapstatsWarning
from kapstats.report.figures import style
from kapstats.safety.exposure import exposure_adjusted
from kapstats.safety.signals import rare_event_model
from kapstats.safety.stratified import cmh_test


def test_scalars_arrays_columns_and_names_give_the_same_rows():
    frame = pd.DataFrame({"a": [3, 0], "na": [20, 10], "b": [1, 0], "nb": [20, 20]}, index=[7, 7])
    named = ks.risk_difference("a", "na", "b", "nb", data=frame).to_frame()
    columns = ks.risk_difference(frame.a, frame.na, frame.b, frame.nb).to_frame()
    lists = ks.risk_difference([3, 0], [20, 10], (1, 0), np.array([20, 20])).to_frame()
    pd.testing.assert_frame_equal(named, columns)
    pd.testing.assert_frame_equal(named, lists)
    assert list(named.columns[:5]) == ["x1", "n1", "x2", "n2", "estimate"]
    assert list(named.columns[-3:]) == ["p_value", "conf_low", "conf_high"]
    assert frame.index.tolist() == [7, 7]


def test_one_value_serves_all_rows():
    assert ks.proportion([0, 1, 2], 10)["n"].tolist() == [10, 10, 10]


def test_polars_and_pyarrow_come_back():
    polars, pyarrow = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    frame = polars.DataFrame({"x": [1, 2], "n": [9, 9]})
    assert isinstance(ks.proportion(frame["x"], frame["n"]).to_frame(), polars.DataFrame)
    assert isinstance(ks.proportion("x", "n", data=frame).to_frame(), polars.DataFrame)
    assert isinstance(ks.proportion("x", "n", data=frame.to_arrow()).to_frame(), pyarrow.Table)


def test_missing_counts_stay_as_rows():
    with pytest.warns(KapstatsWarning, match="1 of 3 rows"):
        found = ks.risk_difference([1, None, 2], [10, 10, 10], [0, 0, 0], [10, 10, 10])
    assert found["estimate"].isna().tolist() == [False, True, False]
    assert found.warnings


@pytest.mark.parametrize("call", [ks.risk_difference, ks.risk_ratio, ks.odds_ratio])
def test_an_empty_group_has_no_answer(call):
    with pytest.warns(KapstatsWarning, match="empty group"):
        found = call([0, 3], [0, 9], [1, 2], [5, 9])
    assert found.to_frame().iloc[0][["estimate", "conf_low", "conf_high"]].isna().all()
    assert found.to_frame().iloc[1][["estimate", "conf_low", "conf_high"]].notna().all()


def test_no_subject_and_no_time():
    with pytest.warns(KapstatsWarning):
        assert np.isnan(ks.proportion(0, 0)["conf_low"][0])
    with pytest.warns(KapstatsWarning):
        assert np.isnan(ks.rate(0, 0)["conf_high"][0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ks.proportion(11, 10), "larger than n"),
        (lambda: ks.proportion([1, -1], [10, 10]), "row 1: -1"),
        (lambda: ks.proportion(1.5, 10), "not whole"),
        (lambda: ks.proportion("x", "n", data={"x": [1], "m": [3]}), "'n'"),
        (lambda: ks.proportion([1, 2], [1, 2, 3]), "differ in length"),
        (lambda: ks.proportion(["many"], [3]), "no numbers"),
        (lambda: ks.rate(1, -2), "negative"),
        (lambda: ks.risk_difference([1, 2], [5, 5], [1, 1], [5, 5], strata=["a"]), "labels"),
        (lambda: ks.risk_difference([1, 2], [5, 5], [1, 1], [5, 5], strata=["a", None]), "missing"),
    ],
)
def test_impossible_counts_are_errors(call, message):
    with pytest.raises(DataError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ks.proportion(1, 10, method="wilsonn"), "'wilson'"),
        (lambda: ks.risk_difference(1, 9, 1, 9, method="miettinen"), "miettinen-nurminen"),
        (lambda: ks.proportion(1, 10, level=95), "0.95"),
        (lambda: ks.proportion(1, 10, side="upper"), "side"),
        (lambda: ks.proportion(1, 10, method="blaker", side="less"), "one-sided"),
        (lambda: ks.proportion("x", "n"), "data="),
    ],
)
def test_unknown_arguments_name_the_nearest(call, message):
    with pytest.raises(FormulaError, match=message):
        call()


def test_results_can_be_pickled_and_printed():
    found = ks.risk_ratio(3, 10, 0, 12)
    again = pickle.loads(pickle.dumps(found))
    pd.testing.assert_frame_equal(again.to_frame(), found.to_frame())
    assert "Inf" in found.to_text()
    assert found.meta["method"] == "miettinen-nurminen"
    assert set(found.to_ard().columns) >= {"stat_name", "stat", "method"}


@pytest.fixture
def small():
    adsl = pd.DataFrame(
        {
            "USUBJID": ["a", "b", "c", "d"],
            "ROUTE": pd.Categorical(["IV", "IV", "PO", "PO"], categories=["PLACEBO", "PO", "IV"], ordered=True),
            "DOSE": [35, 35, 150, 150],
            "SAFFL": ["Y", "Y", "Y", "Y"],
            "TRTSDT": pd.to_datetime(["2024-01-01"] * 4),
            "TRTEDT": pd.to_datetime(["2024-01-29", "2024-01-29", "2024-01-15", "2024-01-29"]),
            "DTHFL": ["N", "N", "Y", "N"],
        }
    )
    adae = pd.DataFrame(
        {
            "USUBJID": ["a", "a", "c"],
            "AEBODSYS": ["Nervous", "Nervous", "Gut"],
            "AEDECOD": ["Headache", "Headache", "Nausea"],
            "TRTEMFL": ["Y", "Y", "Y"],
            "ASTDT": pd.to_datetime(["2024-01-03", "2024-01-10", "2024-01-01"]),
        }
    )
    return adae, adsl


def test_order_of_a_categorical_and_of_numbers(small):
    assert ks.incidence(*small, by="ROUTE").arms == ("PO", "IV")
    assert ks.incidence(*small, by="DOSE").arms == (35, 150)
    assert ks.incidence(*small, by="ROUTE", order=["IV", "PO"]).arms == ("IV", "PO")


def test_alphabetical_order_is_said(small):
    adae, adsl = small
    with pytest.warns(KapstatsWarning, match="reference 'IV'"):
        ae = ks.incidence(adae, adsl.assign(ROUTE=adsl.ROUTE.astype(str)), by="ROUTE")
    assert any("alphabetical" in text for text in ae.warnings)


def test_no_event_at_all(small):
    adae, adsl = small
    frame = ks.incidence(adae.iloc[:0], adsl, by="ROUTE").to_frame()
    assert frame.level.tolist() == ["ANY", "ANY"]
    assert frame.n_subjects.tolist() == [0, 0]
    assert frame.N.tolist() == [2, 2]


def test_tables_are_not_changed(small):
    adae, adsl = small
    before = adae.copy(), adsl.copy()
    ae = ks.incidence(adae, adsl, by="ROUTE")
    ae.compare()
    ae.table()
    pd.testing.assert_frame_equal(adae, before[0])
    pd.testing.assert_frame_equal(adsl, before[1])


def test_groupings_count_their_terms_once(small):
    adae, adsl = small
    more = pd.concat([adae, adae.iloc[[0]].assign(AEDECOD="Migraine")])
    ae = ks.incidence(more, adsl, by="ROUTE", groups={"Head": ["Headache", "Migraine"]})
    rows = ae.to_frame().query("level == 'GROUP'")
    assert rows.AEDECOD.tolist() == ["Head", "Head"]
    assert rows.n_subjects.tolist() == [0, 1]
    assert rows.n_events.tolist() == [0, 3]
    assert len(ae.compare()) == len(ae.frame) / 2
    assert ae.compare(strata="DOSE").filter(level="GROUP")["estimate"].isna().all()


def test_times_by_hand(small):
    """Day 1 is the first day. IV: a at day 3, b censored at 29; PO: c at day 1, d censored at 29."""
    ae = ks.incidence(*small, by="ROUTE")
    iv = ae.time_to_first().filter(ROUTE="IV").to_frame()
    assert iv.time.tolist() == [3.0, 29.0]
    assert iv.estimate.tolist() == [0.5, 0.5]
    rates = exposure_adjusted(ae).filter(level="ANY", ROUTE="IV").to_frame().iloc[0]
    assert rates.events == 1
    assert abs(rates.time - (3 + 29) / 365.25) < 1e-12
    every = exposure_adjusted(ae, quantity="events").filter(level="ANY", ROUTE="IV").to_frame().iloc[0]
    assert every.events == 2
    assert abs(every.time - 58 / 365.25) < 1e-12


def test_sessions_by_hand():
    """Subjects with 2 of 2, 0 of 2 and 1 of 1 sessions: 3/5, error from the residuals 0.8, -1.2, 0.4."""
    from kapstats.safety.course import attenuation, per_session

    adsl = pd.DataFrame({"USUBJID": list("abc"), "ROUTE": pd.Categorical(["IV"] * 3), "NSESS": [2, 2, 1]})
    adae = pd.DataFrame({"USUBJID": list("aaac"), "AEDECOD": "Nausea", "TRTEMFL": "Y", "SESSION": [1.0, 2.0, 2.0, 1.0]})
    ae = ks.incidence(adae, adsl, by="ROUTE", terms=["AEDECOD"])
    row = per_session(ae, "Nausea").to_frame().iloc[0]
    assert (row.x, row.n, row.subjects) == (3, 5, 3)
    assert abs(row.estimate - 0.6) < 1e-12
    assert abs(row.std_error - np.sqrt((0.8**2 + 1.2**2 + 0.4**2) * 3 / 2) / 5) < 1e-12
    assert row.conf_low < 0.6 < row.conf_high
    by_session = attenuation(ae, "Nausea").to_frame()
    assert by_session.x.tolist() == [2, 1]
    assert by_session.n.tolist() == [3, 2]


def test_death_competes_and_the_data_cut_does_not(small):
    ae = ks.incidence(*small, by="ROUTE", terms=["AEDECOD"])
    with pytest.warns(KapstatsWarning, match="Kaplan-Meier"):
        km = ae.time_to_first("Headache", estimator="one-minus-km")
    assert any("Kaplan-Meier" in text for text in km.warnings)
    assert "competing: death" in ae.time_to_first("Headache").meta["sentence"]
    with pytest.raises(FormulaError, match="'Headache'"):
        ae.time_to_first("Headach")
    ae.records.events["WHEN"] = ["soon", *["3"] * (len(ae.records.events) - 1)]
    with pytest.raises(DataError, match=r"ADAE: column 'WHEN' has to be numeric, but 1 rows hold 'soon'"):
        ae.time_to_first("Headache", onset="WHEN")


def test_cmh_without_information():
    found = cmh_test([0, 0], [5, 5], [0, 0], [5, 5], ["a", "b"])
    assert found["statistic"].tolist() == [0.0]
    assert found["p_value"].tolist() == [1.0]


def graded(worst, arms):
    """An incidence table in which subject i of arm i has one event of grade worst[i] (0: none)."""
    ids = [f"s{i}" for i in range(len(worst))]
    adsl = pd.DataFrame(
        {"USUBJID": ids, "ROUTE": pd.Categorical(arms, categories=list(dict.fromkeys(arms)), ordered=True)}
    )
    adsl = adsl.assign(TRTSDT=pd.Timestamp("2024-01-01"), TRTEDT=pd.Timestamp("2024-01-29"), AGE=range(len(ids)))
    adae = pd.DataFrame({"USUBJID": ids, "AEDECOD": "Nausea", "AETOXGR": worst, "TRTEMFL": "Y"})
    adae = adae.assign(ASTDT=pd.Timestamp("2024-01-02"))
    return ks.incidence(adae[adae.AETOXGR > 0], adsl, by="ROUTE", terms=["AEDECOD"])


def test_severity_model_degenerate():
    """Separated: no finite odds ratio, said and NaN. One category: an error. Two: the odds ratio of the table."""
    separated = graded([0, 0, 0, 1, 2, 1], ["A"] * 3 + ["B"] * 3)
    with pytest.warns(KapstatsWarning, match="no finite odds ratio"):
        found = separated.severity_model()
    assert found.to_frame()[["estimate", "std_error", "p_value", "conf_low"]].isna().all(axis=None)
    with pytest.raises(EstimabilityError, match="one category"):
        graded([2, 2, 2, 2], ["A", "A", "B", "B"]).severity_model()
    two = graded([0, 0, 0, 1, 1, 1, 1, 0], ["A"] * 4 + ["B"] * 4).severity_model().to_frame().iloc[0]
    assert abs(two.estimate - np.log(9)) < 1e-9
    assert abs(two.std_error - np.sqrt(2 * (1 + 1 / 3))) < 1e-9


def test_models_of_one_event_degenerate():
    separated = graded([0, 0, 0, 1, 2, 1], ["A"] * 3 + ["B"] * 3)
    with pytest.warns(KapstatsWarning, match="firth"):
        assert np.isnan(rare_event_model(separated, "Nausea", method="logistic")["estimate"][0])
    assert np.isfinite(rare_event_model(separated, "Nausea")["estimate"][0])
    with pytest.raises(FormulaError, match="no rate ratio"):
        separated.recurrent(method="poisson")
    holes = graded([1, 0, 1, 1], ["A", "A", "B", "B"])
    holes.records.subjects["AGE"] = [np.nan, 1.0, 2.0, 3.0]
    with pytest.raises(DataError, match=r"ADSL.AGE: 1 subjects"):
        holes.recurrent(method="poisson", covariates=["AGE"])


def test_equal_counts_vary_no_more_than_poisson():
    """The negative binomial of counts without excess variation is the Poisson, and says so."""
    even = graded([1, 1, 1, 1, 1, 0], ["A"] * 3 + ["B"] * 3)
    binomial, poisson = (even.recurrent(method=m) for m in ("negative-binomial", "poisson"))
    assert binomial.meta["size"] == np.inf
    assert any("Poisson" in text for text in binomial.warnings)
    assert abs(binomial["estimate"][0] - poisson["estimate"][0]) < 1e-5


def test_partial_dates_count_unless_they_exclude_the_treatment():
    """First dose 15 January: "2024-01" and "2024" may be after it, "2023" and "2023-12" cannot; as text or objects."""
    given = ["2024-01", "2024", "2023", "2023-12", "2024-01-14", "2024-01-15", "", None, "2024-02"]
    ids = [f"s{i}" for i in range(len(given))]
    adsl = pd.DataFrame({"USUBJID": ids, "TRT01A": "K", "TRT01AN": 1, "TRTSDT": "2024-01-15", "TRTEDT": "2024-01-20"})
    adae = pd.DataFrame({"USUBJID": ids, "AEDECOD": "Nausea", "ASTDT": given})
    ae = ks.incidence(adae, adsl, terms=["AEDECOD"])
    kept = [None if pd.isna(text) else text for text in ae.records.events.ASTDT]
    assert kept == ["2024-01", "2024", "2024-01-15", "", None, "2024-02"]
    assert "partial ones (5)" in ae.meta["sentence"]
    narrow = ks.incidence(adae, adsl, terms=["AEDECOD"], window=5)
    assert narrow.records.events.ASTDT.tolist() == ["2024-01", "2024", "2024-01-15", "", None]
    ended = adae.assign(AENDT=[None] * 7 + ["2024-01-03", None])
    assert ks.incidence(ended, adsl, terms=["AEDECOD"]).records.events.ASTDT.tolist()[3:] == ["", "2024-02"]


def test_one_group_alone_has_its_tables_and_no_comparison():
    """A single-arm trial: counts, standard tables and percentages; comparing is an error that says why."""
    alone = graded([1, 2, 0, 1], ["K"] * 4)
    tables = alone.standard_tables()
    assert all(len(t.columns) == 2 for t in tables.values())
    assert len(alone.table(comparison=True).columns) == 2
    assert alone.plot("dot", ax=style.blank(6, 3)) is not None
    assert alone.time_to_first()["estimate"].iloc[-1] == 0.75
    for refused in (alone.compare, alone.severity_model):
        with pytest.raises((FormulaError, EstimabilityError), match=r"one group|one category|no contrast"):
            refused()
