"""The Trial: names, orders, populations, and the caller's own columns."""

import copy
import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import kapstats as ks

ADSL = pd.DataFrame(
    {
        "USUBJID": ["001", "002", "003"],
        "TRT01P": ["KAP", "Placebo", "KAP"],
        "TRT01PN": [1, 0, 1],
        "SAFFL": ["Y", "N", None],
        "SITEID": ["01", "02", "02"],
    }
)
ADQS = pd.DataFrame({"USUBJID": ["001", "002", "003", "003"], "TRT01P": ["KAP", "Placebo", "KAP", "KAP"], "AVAL": 1.0})


def test_arms_follow_the_number_and_not_the_alphabet():
    assert ks.Trial(adsl=ADSL).arms == ["Placebo", "KAP"]
    assert ks.Trial(adsl=ADSL, arms=["KAP", "Placebo"]).arms == ["KAP", "Placebo"]
    ordered = ADSL.drop(columns="TRT01PN").assign(
        TRT01P=pd.Categorical(ADSL["TRT01P"], ["KAP", "Placebo"], ordered=True)
    )
    assert ks.Trial(adsl=ordered).arms == ["KAP", "Placebo"]
    numbered = ks.Trial(adsl=ADSL.assign(TRT01PN=[0, 1, 0]))
    assert numbered.arms == ["KAP", "Placebo"]


def test_an_arm_outside_the_order_given_is_an_error():
    with pytest.raises(ks.errors.DataError, match="KAP"):
        ks.Trial(adsl=ADSL, arms=["Placebo", "Ketamine"])


def test_the_order_of_adsl_reaches_datasets_without_their_own():
    trial = ks.Trial(adsl=ADSL, adqs=ADQS)
    assert trial.adqs["TRT01PN"].tolist() == [1.0, 0.0, 1.0, 1.0]
    assert "TRT01PN" not in ADQS.columns


@pytest.mark.parametrize("convert", [lambda f: f, pl.from_pandas, lambda f: pa.Table.from_pandas(f)])
def test_every_kind_of_table_comes_in_and_ids_stay_text(convert):
    trial = ks.Trial(adsl=convert(ADSL))
    assert trial.adsl["USUBJID"].tolist() == ["001", "002", "003"]
    assert trial.ADSL["SITEID"].tolist() == ["01", "02", "02"]


def test_lower_case_names_are_the_same_variables():
    trial = ks.Trial(ADSL=ADSL.rename(columns=str.lower))
    assert trial.arms == ["Placebo", "KAP"]


def test_populations_are_the_flagged_subjects_in_every_dataset():
    trial = ks.Trial(adsl=ADSL, adqs=ADQS).population("SAFFL")
    assert trial.adsl["USUBJID"].tolist() == ["001"]
    assert trial.adqs["USUBJID"].tolist() == ["001"]
    assert trial.populations == ("SAFFL",)
    assert trial.n_subjects == 1


def test_a_wrong_population_is_told():
    trial = ks.Trial(adsl=ADSL)
    with pytest.raises(ks.errors.DataError, match="Did you mean 'SAFFL'"):
        trial.population("SAFL")
    with pytest.raises(ks.errors.DataError, match="3 of 3 rows hold other values than Y, N and blank"):
        trial.population("TRT01P")


def test_where_filters_by_a_subject_variable():
    assert ks.Trial(adsl=ADSL, adqs=ADQS).where("SITEID", "02").adqs["USUBJID"].tolist() == ["002", "003", "003"]


def test_a_dataset_that_is_not_there_is_told():
    trial = ks.Trial(adsl=ADSL)
    with pytest.raises(ks.errors.DataError, match=r"no dataset ADTTE.*holds: adsl"):
        _ = trial.adtte
    assert getattr(trial, "adtte", None) is None
    assert "adtte" not in trial
    with pytest.raises(AttributeError, match="population"):
        _ = trial.populaton


def test_two_rows_for_a_subject_in_adsl_are_an_error():
    with pytest.raises(ks.errors.DataError, match="1 have several \\(001\\)"):
        ks.Trial(adsl=pd.concat([ADSL, ADSL.head(1)]))


def test_a_trial_does_not_change():
    source = ADSL.copy()
    trial = ks.Trial(adsl=source)
    handed_out = trial.adsl
    handed_out["NEW"] = 1
    assert "NEW" not in trial.adsl
    source.loc[0, "SITEID"] = "99"
    assert trial.adsl.loc[0, "SITEID"] == "01"
    with pytest.raises(AttributeError):
        trial.name = "other"
    grown = trial.with_data(adqs=ADQS)
    assert "adqs" in grown
    assert "adqs" not in trial
    assert "adqs" not in grown.with_data(adqs=None)


def test_pickled_and_copied_trials_are_the_same():
    trial = ks.Trial(adsl=ADSL, adqs=ADQS, truth={"effect": -5.0}, name="small").population("SAFFL")
    for twin in (pickle.loads(pickle.dumps(trial)), copy.deepcopy(trial)):
        assert repr(twin) == repr(trial)
        assert twin.truth == {"effect": -5.0}
        pd.testing.assert_frame_equal(twin.adqs, trial.adqs)


def test_joined_brings_subject_variables_and_refuses_orphans():
    trial = ks.Trial(adsl=ADSL, adqs=ADQS)
    assert trial.joined("adqs", "SITEID")["SITEID"].tolist() == ["01", "02", "02", "02"]
    orphan = trial.with_data(adqs=ADQS.assign(USUBJID="009"))
    with pytest.raises(ks.errors.DataError, match="4 rows of subjects not in ADSL"):
        orphan.joined("adqs")


def test_it_shows_itself_without_letting_labels_become_markup():
    trial = ks.Trial(adsl=ADSL.assign(TRT01P="<script>alert(1)</script>", TRT01PN=1))
    assert "<script>" not in trial._repr_html_()
    assert "3 subjects" in repr(trial)


LONG = pd.DataFrame(
    {
        "pid": [1, 1, 2, 2],
        "grp": ["ket", "ket", "plc", "plc"],
        "week": ["Day 14", "Day 7", "Day 7", "Day 14"],
        "madrs": [10.0, 20.0, 28.0, 27.0],
        "madrs0": [30.0, 30.0, 31.0, 31.0],
        "months": [3.0, 3.0, 6.0, 6.0],
        "relapse": [True, True, False, False],
        "sex": ["F", "F", "M", "M"],
    }
)
NAMES = {"subject": "pid", "arm": "grp"}


def test_own_names_long():
    with pytest.warns(ks.errors.KapstatsWarning) as told:
        trial = ks.Trial.from_frame(
            LONG, **NAMES, visit="week", outcome="madrs", baseline="madrs0", time="months", event="relapse"
        )
    said = " ".join(str(w.message) for w in told)
    assert "reference 'ket'" in said
    assert "Day 7" not in said  # their numbers state the order of visits
    assert trial.adqs["CHG"].tolist() == [-20.0, -10.0, -3.0, -4.0]
    assert trial.adqs["AVISITN"].tolist() == [14.0, 7.0, 7.0, 14.0]
    assert trial.adtte[["USUBJID", "AVAL", "EVENT", "CNSR"]].to_numpy().tolist() == [["1", 3, 1, 0], ["2", 6, 0, 1]]
    assert trial.adsl["sex"].tolist() == ["F", "M"]
    assert "madrs" not in trial.adsl


def test_orders_given_are_taken_without_a_word():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trial = ks.Trial.from_frame(
            LONG, **NAMES, visit="week", outcome="madrs", arms=["plc", "ket"], visits=["Day 7", "Day 14"]
        )
    assert trial.arms == ["plc", "ket"]
    assert "CHG" not in trial.adqs


def test_wide_equals_long():
    wide = LONG.pivot(index=["pid", "grp", "madrs0"], columns="week", values="madrs").reset_index()
    columns = {"Day 7": 7, "Day 14": 14}
    arms = ["plc", "ket"]
    from_wide = ks.Trial.from_frame(wide, **NAMES, visit=columns, baseline="madrs0", outcome="madrs", arms=arms)
    numbered = LONG.assign(week=LONG["week"].map(columns))
    from_long = ks.Trial.from_frame(numbered, **NAMES, visit="week", outcome="madrs", baseline="madrs0", arms=arms)
    keys = ["USUBJID", "AVISITN"]
    shown = [*keys, "AVISIT", "TRT01P", "TRT01PN", "PARAMCD", "AVAL", "BASE", "CHG"]
    pd.testing.assert_frame_equal(
        from_wide.adqs.sort_values(keys)[shown].reset_index(drop=True),
        from_long.adqs.sort_values(keys)[shown].reset_index(drop=True),
    )


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({"grp": ["ket", "plc", "plc", "plc"]}, {}, "more than one arm \\(1\\)"),
        ({"pid": [1, np.nan, 2, 2]}, {}, "1 rows have no subject"),
        (
            {"madrs": ["a", "1", "2", "3"]},
            {"visit": "week", "outcome": "madrs"},
            r"1 values are not numeric \('a'; subjects 1\)",
        ),
        (
            {"madrs0": [30.0, 31, 31, 31]},
            {"visit": "week", "outcome": "madrs", "baseline": "madrs0"},
            "more than one b",
        ),
        ({"months": [3.0, 4, 6, 6]}, {"time": "months", "event": "relapse"}, "1 subjects have several values"),
        ({"relapse": [2, 2, 0, 0]}, {"time": "months", "event": "relapse"}, "the event must be 1 or 0"),
        ({"AVAL": 1.0}, {"visit": "week", "outcome": "madrs"}, "'AVAL' has a name that from_frame gives"),
        ({}, {"visit": "wek", "outcome": "madrs"}, "Did you mean 'week'"),
        ({}, {"visit": "week"}, "needs outcome="),
        ({}, {"time": "months"}, "belong together"),
    ],
)
@pytest.mark.filterwarnings("ignore::kapstats.errors.KapstatsWarning")
def test_own_names_that_cannot_be_taken(change, arguments, message):
    with pytest.raises(ks.errors.KapstatsError, match=message):
        ks.Trial.from_frame(LONG.assign(**change), **NAMES, **arguments)
