"""derive_relapse: every boundary of the published rules, one by one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import kapstats as ks


def visits(days, scores, **columns):
    return pd.DataFrame({"USUBJID": "01", "ADY": days, "AVAL": scores, **columns})


def outcome(days, scores, definition="sustain-1", **options):
    row = ks.derive_relapse(visits(days, scores), definition, **options).iloc[0]
    return float(row["AVAL"]), int(row["CNSR"]), float(row["LEFT"]), float(row["RIGHT"]), row["EVNTDESC"]


EVENT = "confirmed score"
NONE_LATER = "unconfirmed score (no later assessment)"
TOO_LATE = "unconfirmed score (next assessment after the window)"
END = "end of observation"


@pytest.mark.parametrize(
    ("days", "scores", "expected"),
    [
        ([7, 14, 19], [10, 22, 22], (14, 0, 7, 14, EVENT)),  # 5 days apart, both exactly 22
        ([7, 14, 18], [10, 22, 22], (7, 1, 7, np.nan, NONE_LATER)),  # 4 days apart
        ([7, 14, 29], [10, 22, 22], (14, 0, 7, 14, EVENT)),  # 15 days apart
        ([7, 14, 30], [10, 22, 22], (7, 1, 7, np.nan, TOO_LATE)),  # 16 days apart
        ([7, 14, 21], [10, 21, 30], (14, 1, 14, np.nan, NONE_LATER)),  # 21 does not count
        ([7, 14, 21], [10, 25, 21], (21, 1, 21, np.nan, END)),  # refuted in the window
        ([7, 14, 16], [10, 25, 10], (16, 1, 16, np.nan, END)),  # refuted before the window opens
        ([7, 14], [10, 25], (7, 1, 7, np.nan, NONE_LATER)),  # the trial ends
        ([7, 14, 40], [10, 25, 8], (7, 1, 7, np.nan, TOO_LATE)),  # confirmation missed, later visit low
        ([7], [25], (0, 1, 0, np.nan, NONE_LATER)),  # no visit before it
        ([7, 14], [25, 25], (7, 0, 0, 7, EVENT)),  # relapse at the first visit
        ([7, 14, 21, 28], [10, 25, 12, 9], (28, 1, 28, np.nan, END)),  # one blip, then well
        ([7, 14, 21, 28, 35], [10, 25, 12, 26, 27], (28, 0, 21, 28, EVENT)),  # a blip, then a relapse
        ([7, 14, 18, 25], [10, 25, 25, 25], (18, 0, 7, 18, EVENT)),  # the later pair of a run is in the window
        ([7, 14, 30, 38], [10, 25, 25, 25], (30, 0, 7, 30, EVENT)),  # same run, confirmed after a missed visit
        ([7, 14, 21], [10, 12, 9], (21, 1, 21, np.nan, END)),  # never high
    ],
)
def test_sustain_1(days, scores, expected):
    found = outcome(days, scores)
    np.testing.assert_array_equal(found[:4], expected[:4])
    assert found[4] == expected[4]


@pytest.mark.parametrize(
    ("days", "scores", "expected"),
    [
        ([7, 14], [10, 25], (14, 0, 7, 14)),
        ([7, 14, 30], [10, 25, 8], (14, 0, 7, 14)),
        ([7, 14, 30, 38], [10, 25, 25, 25], (14, 0, 7, 14)),
        ([7, 14, 21], [10, 25, 10], (21, 1, 21, np.nan)),  # refuted is refuted
    ],
)
def test_unconfirmed_as_event(days, scores, expected):
    np.testing.assert_array_equal(outcome(days, scores, unconfirmed="event")[:4], expected)


def test_missing_scores_are_missed_assessments():
    assert outcome([7, 14, 21, 28], [10, 25, np.nan, 26])[:2] == (14.0, 0)
    assert outcome([7, 14, 21, 35], [10, 25, np.nan, 26])[4] == TOO_LATE


def test_rows_in_any_order_and_the_caller_table_unchanged():
    data = visits([21, 7, 14], [25, 10, 24])
    before = data.copy()
    assert ks.derive_relapse(data).loc[0, "AVAL"] == 14
    pd.testing.assert_frame_equal(data, before)


def test_single_visit_definitions_and_dating():
    assert outcome([7, 14], [10, 22], "madrs-22")[:4] == (14, 0, 7, 14)
    assert outcome([7, 14], [10, 24], "madrs-25")[1] == 1
    confirming = ks.RelapseDefinition(22, dated="confirming")
    assert outcome([7, 14, 21], [10, 25, 25], confirming)[:4] == (21, 0, 7, 14)
    share = ks.RelapseDefinition(parameters="MADRS", assessments=1, share_of_base=0.5)
    row = ks.derive_relapse(visits([7, 14], [14, 16], BASE=30), share).iloc[0]
    assert (row["AVAL"], row["CNSR"]) == (14, 0)


def test_other_scores_need_their_parameter():
    data = visits([7, 14], [5, 19], PARAMCD="HDRS17")
    assert ks.derive_relapse(data, "hdrs-18").loc[0, "CNSR"] == 0
    with pytest.raises(ks.errors.DataError, match="MADRS"):
        ks.derive_relapse(data)
    assert ks.derive_relapse(data, parameter="HDRS17").loc[0, "CNSR"] == 1


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        (10, (10, 0, 10, 10, "hospitalisation")),  # before any high score
        (16, (14, 0, 7, 14, EVENT)),  # after the first of a confirmed pair
        (14, (14, 0, 7, 14, EVENT)),  # on the same day
    ],
)
def test_composite_events_against_a_confirmed_pair(day, expected):
    admitted = pd.DataFrame({"USUBJID": ["01"], "ADY": [day]})
    found = outcome([7, 14, 21], [10, 25, 25], events={"hospitalisation": admitted})
    assert found == expected


def test_composite_event_while_a_confirmation_is_awaited():
    event = pd.DataFrame({"USUBJID": ["01"], "ADY": [20], "EVNTDESC": ["suicide attempt"]})
    assert outcome([7, 14], [10, 25], events=event) == (20, 0, 20, 20, "suicide attempt")
    late = event.assign(ADY=30)
    assert outcome([7, 14], [10, 25], events=late)[:2] == (7, 1)


@pytest.mark.parametrize(("mode", "status", "day"), [("censor", 0, 14), ("event", 1, 17), ("competing", 2, 17)])
def test_discontinuation_is_one_argument(mode, status, day):
    left = pd.DataFrame({"USUBJID": ["01"], "ADY": [17], "DCSREAS": ["lack of efficacy"]})
    row = ks.derive_relapse(visits([7, 14], [10, 9]), disposition=left, discontinuation=mode).iloc[0]
    assert (row["STATUS"], row["AVAL"]) == (status, day)
    assert row["EVNTDESC"] == "discontinuation: lack of efficacy"


def test_discontinuation_after_a_relapse_changes_nothing():
    left = pd.DataFrame({"USUBJID": ["01"], "ADY": [30]})
    for mode in ("censor", "event", "competing"):
        row = ks.derive_relapse(visits([7, 14, 21], [9, 25, 25]), disposition=left, discontinuation=mode).iloc[0]
        assert (row["STATUS"], row["AVAL"]) == (1, 14)


def test_dates_and_an_origin_per_subject():
    data = visits([None] * 3, [10, 25, 26]).assign(
        RANDDT=pd.Timestamp("2024-01-01"), ADT=pd.to_datetime(["2024-01-08", "2024-01-15", "2024-01-22"])
    )
    row = ks.derive_relapse(data, start="RANDDT").iloc[0]
    assert (row["AVAL"], row["LEFT"], row["ADT"]) == (14.0, 7.0, pd.Timestamp("2024-01-15"))
    assert ks.derive_relapse(data.drop(columns="ADY")).loc[0, "AVAL"] == 14
    assert ks.derive_relapse(visits([7, 14, 21], [10, 25, 26]), start=7).loc[0, "LEFT"] == 0


def test_baseline_rows_are_not_at_risk():
    data = visits([1, 8, 15], [30, 10, 9], ABLFL=["Y", "", ""])
    assert ks.derive_relapse(data).loc[0, "AVAL"] == 15


def test_a_subject_without_assessment_stays_and_is_named():
    data = pd.concat([visits([7, 14], [9, 10]), pd.DataFrame({"USUBJID": ["02"], "ADY": [7], "AVAL": [np.nan]})])
    with pytest.warns(ks.errors.KapstatsWarning, match="02"):
        found = ks.derive_relapse(data)
    assert found["USUBJID"].tolist() == ["01", "02"]
    assert found.loc[1, "AVAL"] == 0


def test_constant_columns_are_carried_and_polars_comes_back():
    pl = pytest.importorskip("polars")
    data = visits([7, 14, 21], [9, 25, 25], TRT01P="KAP", AVISIT=["a", "b", "c"])
    found = ks.derive_relapse(pl.from_pandas(data))
    assert isinstance(found, pl.DataFrame)
    assert found["TRT01P"].to_list() == ["KAP"]
    assert "AVISIT" not in found.columns


def test_errors_name_what_is_wrong():
    with pytest.raises(ks.errors.FormulaError, match="sustain-1"):
        ks.derive_relapse(visits([7], [9]), "sustain1")
    with pytest.raises(ks.errors.DataError, match="ADY"):
        ks.derive_relapse(visits([7], [9]).drop(columns="ADY"))
    stranger = pd.DataFrame({"USUBJID": ["99"], "ADY": [3]})
    with pytest.raises(ks.errors.DataError, match="99"):
        ks.derive_relapse(visits([7], [9]), events=stranger)


def test_the_simulated_follow_up_gives_back_its_own_endpoint():
    trial = ks.datasets.load("kap-parallel")
    found = ks.derive_relapse(trial.adfu).set_index("USUBJID")
    told = trial.adtte.set_index("USUBJID")
    for column in ("AVAL", "CNSR", "LEFT", "RIGHT"):
        np.testing.assert_array_equal(found.loc[told.index, column], told[column])
