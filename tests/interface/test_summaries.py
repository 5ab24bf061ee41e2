"""Descriptive tables equal recounts that know nothing of them, and print what they hold."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

import kapstats as ks
from kapstats.errors import DataError, FormulaError
from kapstats.table import round_half_away

ARMS = ["Placebo", "Xanomeline Low Dose", "Xanomeline High Dose"]


@pytest.fixture(scope="module")
def pilot():
    return ks.datasets.load("cdisc-pilot")


@pytest.fixture(scope="module")
def subjects(pilot):
    return pilot.adsl


def sas_quantile(values, p):
    """PCTLDEF=5, from its definition."""
    x = sorted(values)
    position = len(x) * p
    j = int(position)
    return (x[j - 1] + x[j]) / 2 if position == j else x[j]


def test_baseline_numbers_of_the_pilot(pilot, subjects):
    table = ks.baseline_table(pilot, by="TRT01P", variables=["AGE", "WEIGHTBL"])
    for arm in [*ARMS, "Total"]:
        rows = subjects if arm == "Total" else subjects[subjects["TRT01P"] == arm]
        for name in ("AGE", "WEIGHTBL"):
            values = [v for v in rows[name] if v == v]
            row = table.filter(variable=name, TRT01P=arm).to_frame().iloc[0]
            mean = sum(values) / len(values)
            sd = (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5
            assert (row["N"], row["n"]) == (len(rows), len(values))
            np.testing.assert_allclose([row["mean"], row["sd"]], [mean, sd], rtol=1e-12)
            quartiles = [sas_quantile(values, p) for p in (0.25, 0.5, 0.75)]
            np.testing.assert_allclose([row["q1"], row["median"], row["q3"]], quartiles, rtol=1e-12)
            assert (row["minimum"], row["maximum"]) == (min(values), max(values))


def test_baseline_counts_of_the_pilot(pilot, subjects):
    frame = ks.baseline_table(pilot, variables=["SEX", "RACE", "AGEGR1"], total=False).to_frame()
    for name in ("SEX", "RACE", "AGEGR1"):
        counts = subjects.groupby(["TRT01P", name]).size()
        shown = frame[frame["variable"] == name].set_index(["TRT01P", "level"])["n"]
        assert shown.sum() == len(subjects)
        for key, n in counts.items():
            assert shown[key] == n
    row = frame[(frame["level"] == "F") & (frame["TRT01P"] == "Placebo")].iloc[0]
    assert row["percent"] == 100 * 53 / 86


def test_a_mean_has_one_decimal_more_than_the_data_and_the_sd_two(pilot):
    printed = {row[0]: row[1:] for row in ks.baseline_table(pilot, variables=["AGE"]).table().rows}
    assert printed["Mean (SD)"] == ("75.2 (8.59)", "75.7 (8.29)", "74.4 (7.89)", "75.1 (8.25)")
    assert printed["Min, Max"] == ("52, 89", "51, 88", "56, 88", "51, 89")


def test_order_comes_from_the_number_of_the_arm_and_of_the_level(pilot):
    table = ks.baseline_table(pilot, variables=["AGEGR1", "BMIBLGR1"]).table()
    assert table.columns == (
        "",
        "Placebo (N=86)",
        "Xanomeline Low Dose (N=84)",
        "Xanomeline High Dose (N=84)",
        "Total (N=254)",
    )
    first, second = (
        ["Pooled Age Group 1", "<65", "65-80", ">80"],
        ["Pooled Baseline BMI Group 1", "<25", "25-<30", ">=30"],
    )
    assert [row[0] for row in table.rows] == [*first, *second]
    assert table.indent == (0, 1, 1, 1) * 2


def test_conventions_differ_and_are_said(pilot):
    sas, r = (ks.baseline_table(pilot, variables=["AGE"], convention=c) for c in ("SAS", "R"))
    assert sas["q1"].tolist() != r["q1"].tolist()
    ages = pilot.adsl["AGE"]
    assert r.filter(TRT01P="Total")["q1"].tolist() == [np.percentile(ages, 25)]
    assert "Quartiles as R" in r.to_text()
    assert "Quartiles as SAS" in sas.to_text()


def test_missing_values_are_a_row_and_the_denominator_is_named():
    adsl = pd.DataFrame(
        {"USUBJID": range(4), "TRT01P": "A", "SEX": ["F", "F", "M", None], "SMOKER": [1.0, 0.0, 1.0, 1.0]}
    )
    of_all = ks.baseline_table(adsl, variables=["SEX"], total=False)
    assert of_all["percent"].tolist() == [50.0, 25.0, 25.0]
    of_known = ks.baseline_table(adsl, variables=["SEX"], total=False, denominator="n")
    np.testing.assert_allclose(of_known["percent"], [200 / 3, 100 / 3, np.nan])
    assert [row[1] for row in of_known.table().rows[1:]] == ["2 (66.7%)", "1 (33.3%)", "1"]
    coded = ks.baseline_table(adsl, variables=["SMOKER"], categorical=["SMOKER"], total=False)
    assert coded["level"].tolist() == ["0", "1"]


def test_subjects_without_a_group_are_told_and_no_arm_is_taken_for_the_total():
    adsl = {"USUBJID": [1, 2, 3, 4], "TRT01P": ["A", "A", "Total", None], "AGE": [40, 50, 30, 50]}
    table = ks.baseline_table(adsl)
    assert table.table().columns == ("", "A (N=2)", "Total (N=1)", "All subjects (N=4)")
    assert "4 subjects; 1 without TRT01P are in the total alone." in table.to_text()
    assert "3 subjects; 1 without TRT01P are left out." in ks.baseline_table(adsl, total=False).to_text()


def test_dates_are_counted_by_day_and_missing_values_alone_give_no_number():
    adsl = {"USUBJID": [1, 2], "TRT01P": ["A", "B"], "DT": pd.to_datetime(["2024-01-01"] * 2), "AGE": [np.nan] * 2}
    table = ks.baseline_table(adsl, variables=["DT", "AGE"])
    assert table.filter(variable="DT", level="2024-01-01", TRT01P="Total")["n"].tolist() == [2.0]
    assert table.filter(variable="AGE", TRT01P="A")["mean"].isna().all()


@pytest.mark.parametrize(("convention", "shown"), [("SAS", "1 (6.3%)"), ("R", "1 (6.2%)")])
def test_the_convention_of_rounding_is_followed_and_said(convention, shown):
    adsl = {"USUBJID": range(16), "TRT01P": ["A"] * 16, "SEX": ["F"] + ["M"] * 15, "DCSREAS": ["Other"] + [None] * 15}
    for table in (ks.baseline_table(adsl, convention=convention), ks.disposition(adsl, convention=convention)):
        assert any(shown in row for row in table.table().rows)
        said = {"SAS": "rounded half away from zero", "R": "halves to even"}[convention]
        assert said in " ".join(table.to_text().split())
        assert any(said in text for text in table.meta["conventions"])


def test_percentages_round_half_away_from_zero():
    adsl = pd.DataFrame({"USUBJID": range(80), "TRT01P": "A", "SEX": ["F"] * 1 + ["M"] * 79})
    table = ks.baseline_table(adsl, variables=["SEX"], total=False).table()
    assert table.rows[1][1] == f"1 ({round_half_away(1.25, 1)}%)" == "1 (1.3%)"


def test_ard_has_one_row_per_statistic(pilot):
    ard = ks.baseline_table(pilot, variables=["AGE", "SEX"], total=False).to_ard()
    assert set(ard["stat_name"]) == {"N", "n", "percent", "mean", "sd", "median", "q1", "q3", "minimum", "maximum"}
    assert ard["stat"].notna().all()
    chosen = ard[(ard["variable"] == "SEX") & (ard["level"] == "M") & (ard["TRT01P"] == "Placebo")]
    assert dict(zip(chosen["stat_name"], chosen["stat"], strict=True))["n"] == 33


def test_disposition_of_the_pilot(pilot, subjects):
    table = ks.disposition(pilot)
    for arm in ARMS:
        rows = subjects[subjects["TRT01P"] == arm]
        assert table.filter(level="Completed", TRT01P=arm)["n"].tolist() == [(rows["EOSSTT"] == "COMPLETED").sum()]
        for reason, n in rows["DCSREAS"].value_counts().items():
            assert table.filter(section="reason", level=reason, TRT01P=arm)["n"].tolist() == [n]
    reasons = table.filter(section="reason", TRT01P="Total")
    assert reasons["n"].sum() == (subjects["EOSSTT"] == "DISCONTINUED").sum()
    assert reasons["n"].is_monotonic_decreasing
    assert table.filter(level="Efficacy population", TRT01P="Total")["n"].tolist() == [234]


def test_disposition_without_a_status_goes_by_the_reason():
    adsl = {"USUBJID": [1, 2, 3, 4], "TRT01P": list("AAAA"), "DCSREAS": ["COMPLETED", None, "Death", "Death"]}
    table = ks.disposition(adsl, total=False)
    assert dict(zip(table["level"], table["n"], strict=True)) == {"Completed": 2, "Discontinued": 2, "Death": 2}
    with pytest.raises(DataError, match="nothing says who completed"):
        ks.disposition({"USUBJID": [1], "TRT01P": ["A"]})


def test_exposure_of_the_pilot_and_its_safety_population(pilot):
    table = ks.exposure_table(pilot)
    days = pilot.adsl.loc[pilot.adsl["TRT01A"] == "Placebo", "TRTDURD"]
    row = table.filter(variable="Duration of treatment (days)", TRT01A="Placebo").to_frame().iloc[0]
    np.testing.assert_allclose(row["mean"], days.mean(), rtol=1e-12)
    fewer = pilot.with_data(adsl=pilot.adsl.assign(SAFFL=["N"] * 10 + ["Y"] * 244))
    assert ks.exposure_table(fewer).filter(TRT01A="Total")["N"].unique().tolist() == [244]


def exposed():
    adsl = pd.DataFrame({"USUBJID": list("abc"), "TRT01A": ["IV", "Oral", "Oral"], "TRT01AN": [1, 2, 2], "SAFFL": "Y"})
    adex = pd.DataFrame(
        {
            "USUBJID": ["a", "a", "b", "b", "b"],
            "SESSION": [1, 2, 1, 1, 2],
            "EXDOSE": [35.0, 40.0, 100.0, 50.0, 150.0],
            "EXDOSU": "mg",
            "EXROUTE": ["INTRAVENOUS", "INTRAVENOUS", "ORAL", "ORAL", "INTRAVENOUS"],
        }
    )
    return ks.Trial(adsl=adsl, adex=adex)


def test_sessions_and_doses_by_arm_and_by_route():
    table = ks.exposure_table(exposed(), total=False)
    assert table.filter(variable="Sessions", TRT01A="Oral")["mean"].tolist() == [1.0]  # b has two, c none
    assert table.filter(variable="Total dose (mg)", TRT01A="IV")["mean"].tolist() == [75.0]
    assert table.filter(variable="Total dose (mg)", TRT01A="Oral")["n"].tolist() == [1.0]
    counted = table.filter(variable="Subjects by number of sessions", level="0")
    assert counted["n"].tolist() == [0, 1]
    by_route = ks.exposure_table(exposed(), by="EXROUTE")
    assert by_route.filter(variable="Sessions", EXROUTE="INTRAVENOUS")["N"].tolist() == [2]
    assert by_route.filter(variable="Total dose (mg)", EXROUTE="INTRAVENOUS")["maximum"].tolist() == [150.0]
    assert "1 subjects are in several groups (b); no total." in by_route.to_text()


def test_mixed_dose_units_are_refused():
    trial = exposed()
    mixed = trial.with_data(adex=trial.adex.assign(EXDOSU=["mg", "mg", "mg/kg", "mg", "mg"]))
    with pytest.raises(DataError, match="mixes dose units"):
        ks.exposure_table(mixed)


def test_listing_chooses_sorts_and_brings_subject_variables(pilot):
    serious = ks.listing(pilot, "adae", ["USUBJID", "TRT01A", "AEDECOD"], where="AESER == 'Y'")
    adae = pilot.adae
    assert len(serious) == (adae["AESER"] == "Y").sum() == 3
    assert serious.table().columns[0] == "Unique Subject Identifier"
    severe = ks.listing(pilot, "adae", ["USUBJID"], where="AESEV in ['SEVERE'] and ASTDY > 30 and SEX == 'F'")
    by_hand = adae[(adae["AESEV"] == "SEVERE") & (adae["ASTDY"] > 30) & (adae["SEX"] == "F")]
    assert sorted(severe["USUBJID"]) == sorted(by_hand["USUBJID"])
    same = ks.listing(pilot, "adae", ["USUBJID"], where=lambda f: f["AESEV"] == "SEVERE")
    assert len(same) == len(ks.listing(pilot, "adae", ["USUBJID"], where={"AESEV": "SEVERE"}))
    dated = ks.listing(pilot, "adae", ["USUBJID", "ASTDT"], where="ASTDT >= '2014-01-01'")
    assert (dated["ASTDT"] >= pd.Timestamp("2014-01-01")).all()
    few = ks.listing(pilot, "adsl", ["USUBJID"], limit=5)
    assert len(few.table().rows) == 5
    assert "first 5 of 254" in few.to_text()


@pytest.mark.parametrize(
    ("where", "error", "message"),
    [
        ("AESER = 'Y'", FormulaError, "cannot be read"),
        ("__import__('os').system('true') == 0", FormulaError, "cannot be read"),
        ("AESERI == 'Y'", DataError, "Did you mean 'AESER'"),
        ("AESEV > 3", DataError, "cannot be compared"),
        ([True], DataError, "shape"),
    ],
)
def test_a_condition_that_cannot_be_read(pilot, where, error, message):
    with pytest.raises(error, match=message):
        ks.listing(pilot, "adae", ["USUBJID"], where=where)


def test_frames_of_any_kind_and_unknown_variables():
    frame = pl.DataFrame({"USUBJID": [1, 2], "TRT01P": ["B", "A"], "AGE": [30.0, 40.0]})
    table = ks.baseline_table(frame, total=False)
    assert table["mean"].tolist() == [40.0, 30.0]
    with pytest.raises(DataError, match="Did you mean 'AGE'"):
        ks.baseline_table(frame, variables=["AGEE"])


def test_rendered_tables_escape_what_they_show(pilot, tmp_path):
    adsl = {"USUBJID": [1], "TRT01P": ["<b>A</b>"], "SEX": ["<script>"]}
    page = ks.baseline_table(adsl, variables=["SEX"], total=False).to_html()
    assert "<script>" not in page
    assert "<b>A" not in page
    written = ks.disposition(pilot).to_rtf(tmp_path / "t.rtf")
    assert written.read_text().startswith("{\\rtf")
