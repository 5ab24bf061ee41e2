"""Derivations at their boundaries, and against the flags and values that the CDISC pilot ships."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

import kapstats as ks
from kapstats.data import derive
from kapstats.errors import DataError, FormulaError


@pytest.fixture(scope="module")
def pilot():
    return ks.datasets.load("cdisc-pilot")


@pytest.fixture(scope="module")
def observed(pilot):
    adadas = pilot.adadas
    return adadas[adadas["DTYPE"].isna()].reset_index(drop=True)


def test_pilot_baseline_and_change(observed):
    for made in (derive.baseline(observed), derive.baseline(observed, start="TRTSDT")):
        np.testing.assert_array_equal(made["BASE"], observed["BASE"])
    by_visit = derive.baseline(observed, visit="Baseline")
    assert by_visit["ABLFL"].eq("Y").equals(observed["ABLFL"].eq("Y"))
    change = derive.change(by_visit)
    np.testing.assert_array_equal(change["CHG"], observed["CHG"])
    np.testing.assert_allclose(change["PCHG"], observed["PCHG"], rtol=1e-13)


def test_pilot_visit_windows(observed):
    windows = {
        "Baseline": (-np.inf, 1, 1),
        "Week 8": (2, 56, 84),
        "Week 16": (85, 112, 140),
        "Week 24": (141, 168, np.inf),
    }
    made = derive.visit_windows(observed, windows)
    assert made["AVISIT"].tolist() == observed["AVISIT"].tolist()
    np.testing.assert_array_equal(made["AWTDIFF"], observed["AWTDIFF"])
    with_value = observed["AVAL"].notna()  # the pilot also flags records without a value
    assert made.loc[with_value, "ANL01FL"].eq("Y").equals(observed.loc[with_value, "ANL01FL"].eq("Y"))


def test_pilot_adverse_event_flags(pilot):
    adae = pilot.adae
    strict = derive.treatment_emergent(adae, no_start="N")
    assert strict["TRTEMFL"].eq("Y").equals(adae["TRTEMFL"].eq("Y"))
    cautious = derive.treatment_emergent(adae)
    assert cautious["TRTEMFL"].eq("Y").sum() == adae["TRTEMFL"].eq("Y").sum() + adae["ASTDT"].isna().sum()
    firsts = derive.first_occurrence(adae)
    for name, count in {"AOCCFL": 218, "AOCCSFL": 550, "AOCCPFL": 781}.items():
        assert firsts[name].eq("Y").sum() == count
        assert firsts[name].eq("Y").equals(adae[name].eq("Y")), name


FIRST_DOSE = {"TRTSDT": "2024-03-10", "TRTEDT": "2024-03-20"}


@pytest.mark.parametrize(
    ("event", "window", "expected"),
    [
        ({"ASTDT": "2024-03-09"}, None, "N"),
        ({"ASTDT": "2024-03-10"}, None, "Y"),
        ({"ASTDT": "2024-02"}, None, "N"),
        ({"ASTDT": "2024-03"}, None, "Y"),
        ({"ASTDT": "2024"}, None, "Y"),
        ({"ASTDT": "2023"}, None, "N"),
        ({"ASTDT": None}, None, "Y"),
        ({"ASTDT": None, "AENDT": "2024-03-09"}, None, "N"),
        ({"ASTDT": None, "AENDT": "2024-03"}, None, "Y"),
        ({"ASTDT": "2024-03-27"}, 7, "Y"),
        ({"ASTDT": "2024-03-28"}, 7, "N"),
        ({"ASTDT": "2024-03"}, 7, "Y"),
        ({"ASTDT": "2024-04"}, 7, "N"),
        ({"ASTDT": "2024-03-28"}, None, "Y"),
        ({"ASTDTM": "2024-03-10T09:59", "TRTSDTM": "2024-03-10T10:00"}, None, "N"),
        ({"ASTDTM": "2024-03-10T10:00", "TRTSDTM": "2024-03-10T10:00"}, None, "Y"),
        ({"ASTDTM": "2024-03-10T09:59"}, None, "Y"),
        ({"ASTDT": "2024-03-10", "TRTSDTM": "2024-03-10T10:00"}, None, "Y"),
        ({"ASTDTM": "2024-03-09", "TRTSDTM": "2024-03-10T10:00"}, None, "N"),
        ({"ASTDT": "2024-03-12", "TRTSDT": None}, None, "N"),
    ],
)
def test_emergence_at_its_boundaries(event, window, expected):
    rows = pd.DataFrame([{"USUBJID": "1", **FIRST_DOSE, **event}])
    assert derive.treatment_emergent(rows, window=window)["TRTEMFL"].tolist() == [expected]


def test_emergence_takes_the_doses_from_adsl():
    adae = pd.DataFrame({"USUBJID": ["1", "2", "9"], "ASTDT": ["2024-03-10"] * 3})
    adsl = pd.DataFrame({"USUBJID": ["2", "1"], "TRTSDT": pd.to_datetime(["2024-03-11", "2024-03-10"])})
    assert derive.treatment_emergent(adae, adsl)["TRTEMFL"].tolist() == ["Y", "N", "N"]
    with pytest.raises(DataError, match="pass adsl="):
        derive.treatment_emergent(adae)
    with pytest.raises(DataError, match="window= needs TRTEDT"):
        derive.treatment_emergent(adae, adsl, window=3)


@pytest.mark.parametrize(
    ("base", "value", "response"),
    [
        (30, 15, "Y"),
        (30, 15.01, "N"),
        (31, 15.5, "Y"),
        (0, 0, None),
        (np.nan, 5, None),
        (30, np.nan, None),
        (30, 0, "Y"),
    ],
)
def test_response_at_its_boundary(base, value, response):
    frame = {"BASE": [float(base)], "AVAL": [float(value)]}
    assert derive.response(frame)["RESPFL"].tolist() == [response]
    assert derive.response(frame, missing="N")["RESPFL"].tolist() == [response or "N"]


def test_a_threshold_that_floating_point_would_miss():
    made = derive.response({"BASE": [0.3, 10.0], "AVAL": [0.3 * 0.7, 7.0]}, threshold=30)
    assert made["RESPFL"].tolist() == ["Y", "Y"]


def test_remission_needs_its_cutoff():
    frame = {"AVAL": [10.0, 12.0, np.nan]}
    assert derive.remission(frame, cutoff=10)["REMFL"].tolist() == ["Y", "N", None]
    assert derive.remission(frame, cutoff=12, missing="N", column="REM12FL")["REM12FL"].tolist() == ["Y", "Y", "N"]
    with pytest.raises(TypeError):
        derive.remission(frame)


def visits(days, values=None):
    return pd.DataFrame({"USUBJID": "1", "ADY": days, "AVAL": values or [1.0] * len(days)})


def test_windows_between_targets_leave_no_day_out():
    made = derive.visit_windows(
        visits([-3, 1, 2, 10, 11, 17, 18, 99]), {"Day 1": 1, "Day 7": 7, "Day 14": 14, "Day 21": 21}
    )
    assert made["AVISIT"].tolist() == ["Day 1"] * 2 + ["Day 1", "Day 7", "Day 14", "Day 14", "Day 21", "Day 21"]
    assert made["AVISITN"].tolist() == [1, 1, 1, 7, 14, 14, 21, 21]
    after = derive.visit_windows(visits([1, 2, 10, 11]), {"Day 7": 7, "Day 14": 14})
    assert after["AVISIT"].isna().tolist() == [True, False, False, False]


@pytest.mark.parametrize(
    ("options", "chosen"),
    [({}, [8]), ({"tie": "earlier"}, [6]), ({"select": "first"}, [4]), ({"select": "last"}, [10])],
)
def test_one_record_is_analysed_per_window(options, chosen):
    made = derive.visit_windows(visits([4, 6, 8, 10]), {"Day 7": (4, 7, 10)}, **options)
    assert made.loc[made["ANL01FL"].eq("Y"), "ADY"].tolist() == chosen


def test_a_record_without_a_value_is_not_analysed():
    made = derive.visit_windows(visits([7, 9], [np.nan, 3.0]), {"Day 7": (4, 7, 10)})
    assert made["ANL01FL"].tolist() == [None, "Y"]


def test_there_is_no_day_0():
    assert derive.study_day(["2024-03-09", "2024-03-10", None], ["2024-03-10"] * 3).tolist()[:2] == [-1, 1]
    made = derive.visit_windows(visits([-1, 3]), {"Baseline": (-5, 1, 3)})
    assert made["AWTDIFF"].tolist() == [1, 2]
    assert made["ANL01FL"].tolist() == ["Y", None]


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        ({"a": (1, 5, 9), "b": (9, 12, 15)}, "'a' \\(to 9\\) and 'b' \\(from 9\\) overlap"),
        ({"a": (1, 10, 9)}, "target 10 outside 1 to 9"),
        ({"a": (1, 5, 9), "b": 12}, "'b' needs \\(first day"),
    ],
)
def test_windows_that_make_no_sense(windows, message):
    with pytest.raises(FormulaError, match=message):
        derive.visit_windows(visits([1]), windows)


def test_dates_full_partial_and_impossible():
    text = ["2024-02-29", "2024-02", "2023", None, "2024-03-01T10:00"]
    plain = derive.dates(text)
    assert plain["date"].isna().tolist() == [False, True, True, True, False]
    last = derive.dates(text, impute="last")
    assert last["date"].dt.strftime("%Y-%m-%d").tolist()[:3] == ["2024-02-29", "2024-02-29", "2023-12-31"]
    assert last["flag"].where(last["flag"].notna(), None).tolist() == [None, "D", "M", None, None]
    assert derive.dates(["2024-02"], impute="first")["date"].tolist() == [pd.Timestamp("2024-02-01")]
    with pytest.raises(DataError, match="1 texts are no dates \\(March\\)"):
        derive.dates(["March"])
    with pytest.raises(DataError, match="do not exist \\(2023-02-29\\)"):
        derive.dates(["2023-02-29"])


def test_unknown_parts_of_dates_and_numbers_of_days():
    texts = ["2024---15", "2024-UNK-UNK", "2024-03-UN", "UNK", ".", None, "2024-03--"]
    found = ks.derive.dates(texts, impute="first")
    shown = found["date"].dt.strftime("%Y-%m-%d").where(found["date"].notna(), "")
    assert shown.tolist() == ["2024-01-01", "2024-01-01", "2024-03-01", "", "", "", "2024-03-01"]
    assert found["flag"].where(found["flag"].notna(), "").tolist() == ["M", "M", "D", "", "", "", "D"]
    days = {"sas": [0, 22341.75, None], "unix": [-3653, 18688, None], "excel": [21916, 44257, None]}
    for origin, values in days.items():
        read = ks.derive.dates(values, origin=origin)["date"]
        assert read.iloc[:2].dt.strftime("%Y-%m-%d").tolist() == ["1960-01-01", "2021-03-02"], origin
        assert read.isna().tolist() == [False, False, True]
    with pytest.raises(DataError, match="are they seconds"):
        ks.derive.dates([1.9e9], origin="sas")
    with pytest.raises(DataError, match="say origin='sas'"):
        ks.derive.dates([22341])
    with pytest.raises(DataError, match="no numbers of days"):
        ks.derive.dates(["x"], origin="sas")


def test_baseline_needs_to_be_told_and_to_be_one():
    frame = pd.DataFrame({"USUBJID": ["1", "1"], "AVISIT": ["Screening", "Screening"], "AVAL": [30.0, 31.0]})
    with pytest.raises(DataError, match="there is no ABLFL"):
        derive.baseline(frame)
    with pytest.raises(DataError, match="several baseline records \\(1\\)"):
        derive.baseline(frame, visit="Screening")
    with pytest.raises(DataError, match="no record has AVISIT 'Day 0'"):
        derive.baseline(frame, visit="Day 0")


def test_the_last_value_before_the_first_dose_is_the_baseline():
    frame = pd.DataFrame(
        {
            "USUBJID": ["1"] * 4,
            "ADT": ["2024-03-01", "2024-03-08", "2024-03-10", "2024-03-11"],
            "TRTSDT": "2024-03-10",
            "AVAL": [30.0, 33.0, np.nan, 20.0],
        }
    )
    made = derive.baseline(frame, start="TRTSDT")
    assert made["BASE"].tolist() == [33.0] * 4
    assert made["ABLFL"].tolist() == [None, "Y", None, None]


def test_a_baseline_of_zero_has_no_percent_change():
    made = derive.change({"AVAL": [4.0, 5.0], "BASE": [0.0, 10.0]})
    assert made["CHG"].tolist() == [4.0, -5.0]
    assert made["PCHG"].isna().tolist() == [True, False]


def test_the_callers_kind_comes_back_and_nothing_is_changed():
    frame = pl.DataFrame({"USUBJID": ["1"], "AVAL": [10.0], "BASE": [30.0]})
    made = derive.response(derive.change(frame))
    assert isinstance(made, pl.DataFrame)
    assert made["RESPFL"].to_list() == ["Y"]
    assert frame.columns == ["USUBJID", "AVAL", "BASE"]


def test_subjects_and_row_order_do_not_matter(observed):
    part = observed.head(3000)
    shuffled = part.sample(frac=1.0, random_state=1)
    made = derive.change(derive.baseline(shuffled)).set_index(shuffled.index).sort_index()
    np.testing.assert_array_equal(made["CHG"], derive.change(derive.baseline(part))["CHG"])
