"""Estimates and tables: what is shown is what was computed, rounded as stated and escaped."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import kapstats as ks
from kapstats import frames
from kapstats.errors import DataError, FormulaError, KapstatsWarning
from kapstats.estimates import Curve, Estimates, meta
from kapstats.inference.intervals import wald, with_inference
from kapstats.table import Table, number, p_value, round_half_away

NASTY = "<script>alert('x')</script> | \\{} é 漢 =1+1"


def example(**more):
    ids = pd.DataFrame({"contrast": ["KAP - Placebo", NASTY], "AVISIT": ["Day 1", "Day 7"]})
    frame = with_inference(ids, [1.0, np.nan], [0.5, 0.2], [12.0, np.inf])
    return Estimates(frame, meta(method="test", sentence="REML; 2 of 3 records.", **more), vcov=np.eye(2))


def test_columns_stand_in_the_order_of_the_contract():
    names = ["estimate", "std_error", "df", "statistic", "p_value", "conf_low", "conf_high"]
    assert example().columns == ["contrast", "AVISIT", *names]


def test_wald_agrees_with_t_tables():
    found = wald(2.0, 1.0, 10)
    assert float(found["p_value"]) == pytest.approx(0.07338803, abs=1e-8)  # R 4.2.2: 2 * pt(-2, 10)
    assert float(found["conf_high"]) == pytest.approx(2 + 2.2281388519862739, abs=1e-12)  # R: qt(.975, 10)
    one = wald(2.0, 1.0, 10, side="greater")
    assert float(one["p_value"]) == pytest.approx(0.07338803 / 2, abs=1e-8)
    assert one["conf_high"] == np.inf


def test_bad_df_gives_no_number():
    assert np.isnan(wald(1.0, 1.0, np.nan)["p_value"])
    assert np.isnan(wald(1.0, 1.0, -1.0)["conf_low"])


@pytest.mark.parametrize("kind", [pl.DataFrame, pa.table])
def test_results_go_back_as_the_callers_kind(kind):
    data = kind({"a": ["x", None], "b": [1.5, None]})
    back = Estimates(frames.to_pandas(data), {"frame_kind": frames.kind(data)}).to_frame()
    assert type(back).__module__.split(".")[0] == type(data).__module__.split(".")[0]


def test_filter_and_exponentiate():
    est = example(scale="log").exponentiate()
    assert est["estimate"][0] == pytest.approx(np.e)
    assert est.filter(AVISIT="Day 1").vcov.shape == (1, 1)
    with pytest.raises(FormulaError, match="natural scale"):
        est.exponentiate()
    with pytest.raises(DataError, match="Did you mean 'AVISIT'"):
        est.filter(AVIST="Day 1")


def test_changing_the_frame_given_out_does_not_change_the_result():
    est = example()
    given = est.to_frame()
    given.loc[0, "estimate"] = 99
    assert est["estimate"][0] == 1.0
    assert pickle.loads(pickle.dumps(est)).frame.equals(est.frame)


def test_every_renderer_shows_the_cells_and_escapes(tmp_path):
    est = example(title=NASTY)
    assert "(-0.09, 2.09)" in est.to_text()
    assert "<script>" not in est.to_html()
    assert "&lt;script&gt;" in est.to_html()
    assert "<script>" not in est.to_markdown()
    assert "\\|" in est.to_markdown()
    assert "\\textbackslash{}" in est.to_latex()
    rtf = est.to_rtf(tmp_path / "t.rtf").read_bytes()
    assert rtf.isascii()
    assert rtf.startswith(b"{\\rtf1")
    assert b"\\u28450?" in rtf  # the escape of U+6F22
    assert rtf.replace(b"\\{", b"").replace(b"\\}", b"").count(b"{") == rtf.replace(b"\\}", b"").count(b"}")
    assert est.to_docx(tmp_path / "t.docx").stat().st_size > 1000


def test_ard_holds_every_number():
    ard = example().to_ard()
    row = ard[(ard["AVISIT"] == "Day 1") & (ard["stat_name"] == "std_error")]
    assert row["stat"].tolist() == [0.5]
    assert len(ard) == 2 * 7


def test_rounding_is_half_away_from_zero():
    assert [round_half_away(x, 1) for x in (0.25, -0.25, 2.675, 0.05)] == [0.3, -0.3, 2.7, 0.1]
    assert [number(x, 0) for x in (0.5, 1.5, 2.5, -0.4)] == ["1", "2", "3", "0"]
    assert (p_value(0.0005), p_value(0.9995), p_value(np.nan)) == ("<0.001", ">0.999", "NE")


def test_ragged_tables_are_refused():
    with pytest.raises(ValueError, match="row 0 has 1 cells"):
        Table(("a", "b"), (("1",),))


def test_curve_is_right_continuous():
    curve = Curve(np.array([1.0, 2.0]), np.array([0.5, 0.0]))
    assert curve([0, 1, 1.5, 2, 9]).tolist() == [1, 0.5, 0.5, 0, 0]


def test_levels_come_from_the_data_standard():
    frame = pd.DataFrame({"TRT01P": ["KAP", "Placebo", "KAP"], "TRT01PN": [1, 0, 1]})
    assert frames.levels(frame, "TRT01P").values == ("Placebo", "KAP")
    assert frames.levels(frame, "TRT01P", ["KAP", "Placebo"]).source == "argument"
    shared = frame.assign(TRT01PN=[1, 1, 1])
    assert frames.levels(shared, "TRT01P").source == "sorted"
    with pytest.raises(DataError, match="1 rows hold levels that the order does not name"):
        frames.levels(frame, "TRT01P", ["KAP"])


def test_sorted_levels_warn_with_the_reference():
    frame = pd.DataFrame({"ARM": ["b", "a"]})
    with pytest.warns(KapstatsWarning, match="ARM: reference 'a'"):
        assert frames.warn_sorted({"ARM": frames.levels(frame, "ARM")})


@pytest.mark.parametrize("bad", [3, [1, 2], object(), "no/such/file.csv"])
def test_what_is_no_table_is_refused(bad):
    with pytest.raises(DataError):
        frames.to_pandas(bad)


def test_duplicate_columns_are_refused():
    with pytest.raises(DataError, match="column 'a' appears 2 times"):
        frames.to_pandas(pd.DataFrame([[1, 2]], columns=["a", "a"]))


def test_fingerprint_sees_values_names_and_order():
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    same = frames.fingerprint(frame.copy())
    assert same == frames.fingerprint(frame)
    others = [frame.iloc[::-1], frame.rename(columns={"a": "c"}), frame.assign(a=[1, 3])]
    assert len({same, *map(frames.fingerprint, others)}) == 4


def test_a_single_limit_is_printed():
    text = ks.zero_events(100).table(digits=4).to_text()
    assert "Upper limit" in text
    assert "0.0295" in text
