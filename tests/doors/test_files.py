"""Files as SAS, R, warehouses and spreadsheets write them, read through `read_adam`, `read_chunks` and the verbs."""

import datetime
import decimal
import json
import os
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyreadstat
import pytest

import kapstats as ks
from kapstats.data.files import read_table
from tests.interface import xpt_writer
from tests.interface.corpus import differences

DataError = ks.errors.DataError
#: 31DEC9999 as SAS counts it (its years 4000 and 8000 have no 29 February), and by the calendar
NEVER, NEVER_BY_CALENDAR = 2936547.0, 2936549.0


def quiet(call, *args, **given):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return call(*args, **given)


def texts(values):
    """Cells as texts, None where missing, whatever the version of pandas calls it; dates as ISO dates."""
    if values.dtype.kind == "M":
        values = values.dt.strftime("%Y-%m-%d")
    return [None if pd.isna(v) else v for v in values]


def together(path, rows=1, **given):
    return pd.concat(ks.read_chunks(path, rows, **given), ignore_index=True)


# ------------------------------------------------------------------------------------------------ SAS transport

ADQS = {
    "USUBJID": ["01-001", "01-002", "01-003"],
    "AVAL": [31.0, 28.5, "."],
    "AVISIT": ["Baseline", "Day 7", "Day 14"],
    "CHG": [0.0, -2.5, "B"],
    "TRTSDT": [23376.0, "_", 23377.0],
    "A_LONG_NAME_OF_27_CHARACTERS": ["a", "bc", "d"],
    "SHORT": [1.0, -3.0, "Z"],
}
ABOUT = {
    "lengths": {"SHORT": 3},
    "formats": {"TRTSDT": "DATE"},
    "labels": {"AVAL": "a label that is much longer than the forty characters of version 5"},
}


@pytest.mark.parametrize("labels", [8, 9])
def test_version_8_of_sas_is_read_in_the_order_of_the_variables(tmp_path, labels):
    """The macro of SAS states positions of the dataset (numbers first); the values are as written here."""
    path = tmp_path / "adqs.xpt"
    xpt_writer.write(path, ADQS, label_version=labels, **ABOUT)
    frame = quiet(ks.read_adam, tmp_path).adqs
    assert frame["USUBJID"].tolist() == ["01-001", "01-002", "01-003"]
    np.testing.assert_array_equal(frame["AVAL"], [31.0, 28.5, np.nan])
    np.testing.assert_array_equal(frame["CHG"], [0.0, -2.5, np.nan])
    np.testing.assert_array_equal(frame["SHORT"], [1.0, -3.0, np.nan])
    assert frame["AVISIT"].tolist() == ["Baseline", "Day 7", "Day 14"]
    assert texts(frame["TRTSDT"]) == ["2024-01-01", None, "2024-01-02"]
    assert frame["A_LONG_NAME_OF_27_CHARACTERS"].tolist() == ["a", "bc", "d"]
    assert frame.attrs["labels"]["AVAL"] == ABOUT["labels"]["AVAL"]
    assert differences(path) == (21, [])


def test_numbers_alone_do_not_change_places(tmp_path):
    """Three numeric variables whose descriptors state each other's positions: no text betrays a wrong reading."""
    path = tmp_path / "adqs.xpt"
    columns = {"AVAL": [1.0, 2.0], "CHG": [10.0, 20.0], "BASE": [100.0, 200.0]}
    xpt_writer.write(path, columns, stated=(16, 0, 8))
    assert quiet(read_table, path).to_dict("list") == columns


def test_version_5_with_other_positions_is_read_in_order_and_told(tmp_path):
    path = tmp_path / "adqs.xpt"
    columns = {"AVAL": [1.0, 2.0], "CHG": [10.0, 20.0]}
    xpt_writer.write(path, columns, version=5)
    assert quiet(read_table, path).to_dict("list") == columns
    xpt_writer.write(path, columns, version=5, stated=(8, 0))
    with pytest.warns(ks.errors.KapstatsWarning, match="positions that are not those"):
        assert read_table(path).to_dict("list") == columns


def test_a_number_of_nine_bytes_is_refused(tmp_path):
    path = tmp_path / "adqs.xpt"
    xpt_writer.write(path, {"AVAL": [1.0, 2.0]})
    raw = bytearray(path.read_bytes())
    at = raw.index(b"NAMSTV8") - 20 + 80
    raw[at + 4 : at + 6] = b"\x00\x09"
    path.write_bytes(raw)
    with pytest.raises(DataError, match="AVAL is a number of 9 bytes"):
        read_table(path)


@pytest.mark.parametrize("version", [5, 8])
def test_western_text_is_read_with_a_warning_and_as_what_is_said(tmp_path, version):
    path = tmp_path / "adae.xpt"
    columns = {"USUBJID": ["01", "02"], "AETERM": ["Übelkeit", "mal de tête"]}
    xpt_writer.write(path, columns, version=version, encoding="cp1252", labels={"AETERM": "Événement"})
    for read in (read_table, together):
        with pytest.warns(ks.errors.KapstatsWarning, match="not UTF-8; read as cp1252"):
            assert read(path)["AETERM"].tolist() == columns["AETERM"]
        assert quiet(read, path, encoding="cp1252")["AETERM"].tolist() == columns["AETERM"]
    assert quiet(read_table, path, encoding="latin-1").attrs["labels"] == {"AETERM": "Événement"}
    xpt_writer.write(path, columns, version=version, encoding="utf-8")
    assert quiet(read_table, path)["AETERM"].tolist() == columns["AETERM"]


# ------------------------------------------------------------------------------------------------ dates

DATES = {"EOSDT": ["9999-12-31", "2024-02-29", "1582-10-15"]}


def write_dates(path):
    days = [(pd.Timestamp(d) - pd.Timestamp("1960-01-01")).days for d in DATES["EOSDT"][1:2]]
    sas_days = [NEVER, float(days[0]), -137774.0]
    if path.suffix == ".xpt":
        xpt_writer.write(path, {"USUBJID": ["01", "02", "03"], "EOSDT": sas_days}, formats={"EOSDT": "DATE"})
    elif path.suffix == ".csv":
        pd.DataFrame({"USUBJID": ["01", "02", "03"], **DATES}).to_csv(path, index=False)
    elif path.suffix == ".parquet":
        given = pa.array([datetime.date.fromisoformat(d) for d in DATES["EOSDT"]])
        pq.write_table(pa.table({"USUBJID": ["01", "02", "03"], "EOSDT": given}), path)
    else:
        text = path.stem.endswith("text")
        columns = [{"name": "USUBJID", "dataType": "string"}, {"name": "EOSDT", "dataType": "date"}]
        if not text:
            columns[1] |= {"dataType": "integer", "displayFormat": "DATE9."}
        cells = DATES["EOSDT"] if text else sas_days
        rows = [[f"{i:02d}", cell] for i, cell in enumerate(cells, 1)]
        path.write_text(json.dumps({"datasetJSONVersion": "1.1.0", "columns": columns, "rows": rows}))


@pytest.mark.parametrize("name", ["adsl.xpt", "adsl.csv", "adsl.parquet", "adsl_text.json", "adsl_number.json"])
def test_every_year_is_read_and_the_same_in_every_format(tmp_path, name):
    path = tmp_path / name
    write_dates(path)
    for frame in (quiet(read_table, path), *(quiet(together, path, n) for n in (1, 2, 9))):
        assert str(frame["EOSDT"].dtype) == "datetime64[us]"
        assert frame["EOSDT"].dt.strftime("%Y-%m-%d").tolist() == DATES["EOSDT"]
    assert all(str(part["EOSDT"].dtype) == "datetime64[us]" for part in ks.read_chunks(path, 1))


def test_the_last_day_by_the_calendar_of_other_writers(tmp_path):
    """pyreadstat counts every 29 February: 31DEC9999 is 2936549 there, and 2936547 in SAS."""
    path = tmp_path / "adsl.xpt"
    frame = pd.DataFrame({"USUBJID": ["1"], "EOSDT": [datetime.date(9999, 12, 31)]})
    pyreadstat.write_xport(frame, str(path), file_format_version=5)
    assert str(read_table(path)["EOSDT"][0])[:10] == "9999-12-31"


def test_a_date_variable_without_a_format_may_end_never(tmp_path):
    path = tmp_path / "adsl.xpt"
    xpt_writer.write(path, {"USUBJID": ["1x", "2x"], "EOSDT": [23376.0, NEVER], "ADT": [2024.5, 3.0]})
    frame = read_table(path)
    assert frame["EOSDT"].astype(str).tolist() == ["2024-01-01", "9999-12-31"]
    assert frame["ADT"].tolist() == [2024.5, 3.0]


def test_numbers_beyond_every_date_stay_numbers_and_are_told(tmp_path):
    path = tmp_path / "adsl.xpt"
    xpt_writer.write(path, {"USUBJID": ["1x", "2x"], "EOSDT": [23376.0, 1e60]}, formats={"EOSDT": "DATE"})
    with pytest.warns(ks.errors.KapstatsWarning, match="EOSDT has the format DATE and values outside"):
        assert read_table(path)["EOSDT"].tolist() == [23376.0, 1e60]


def test_sas_date_times_keep_microseconds_and_times_are_seconds(tmp_path):
    path = tmp_path / "adae.xpt"
    columns = {"ASTDTM": [1704189845.125], "ASTTM": [36245.0]}
    xpt_writer.write(path, columns, formats={"ASTDTM": "DATETIME", "ASTTM": "TIME"})
    frame = read_table(path)
    assert frame["ASTDTM"][0] == pd.Timestamp("2014-01-01 10:04:05.125")
    assert frame["ASTTM"][0] == 36245.0


def test_dates_of_far_years_beside_usual_ones_in_a_trial(tmp_path):
    """Checks, derivations and tables subtract an end that never comes from a start; 2913173 days lie between."""
    (tmp_path / "adsl.csv").write_text(
        "USUBJID,TRT01P,TRT01PN,SAFFL,TRTSDT,TRTEDT,EOSDT\n1,A,0,Y,2024-01-01,2024-03-01,9999-12-31\n"
        "2,B,1,Y,2024-01-01,2024-03-01,2024-04-01\n"
    )
    (tmp_path / "adae.csv").write_text(
        "USUBJID,AEDECOD,AEBODSYS,ASTDT,AENDT\n1,Pain,Body,2024-01-01,9999-12-31\n2,Pain,Body,2024-01-05,2024-01-06\n"
    )
    trial = ks.read_adam(tmp_path)
    assert "outside-study" not in trial.check().to_frame()["rule"].tolist()
    assert ks.derive.study_day(trial.adae["AENDT"], trial.adae["ASTDT"]).tolist() == [2913174.0, 2.0]
    assert ks.derive.study_day(["9999-12-31"], ["2024-01-01"]).tolist() == [2913174.0]
    emergent = ks.derive.treatment_emergent(read_table(tmp_path / "adae.csv"), adsl=read_table(tmp_path / "adsl.csv"))
    assert emergent["TRTEMFL"].tolist() == ["Y", "Y"]
    counted = ks.incidence(trial, by="TRT01P").to_frame()["n_subjects"]
    assert counted.tolist() == [1] * len(counted)


# ------------------------------------------------------------------------------------------------ csv


def text_file(folder, text, name="adqs.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("sign", ["NA", "  NA", "NA ", " . ", ".", "", " ", "NaN ", "N/A", "null", "None", " n/a"])
def test_signs_of_a_missing_number_leave_the_column_numeric(tmp_path, sign):
    path = text_file(tmp_path, f"USUBJID,BMIBL,AVAL\n1,20.5,3\n2,{sign},{sign}\n3,22,5\n")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for frame in (read_table(path), together(path), together(path, 2)):
            np.testing.assert_array_equal(frame["BMIBL"], [20.5, np.nan, 22.0])
            np.testing.assert_array_equal(frame["AVAL"], [3.0, np.nan, 5.0])
    usual = sign.strip() == "" or sign in ("NA", ".")
    assert len(said) == (0 if usual else 3)
    assert all(f"BMIBL 1 ({sign!r}), AVAL 1 ({sign!r})" in str(w.message) for w in said)


def test_a_padded_sign_in_a_text_is_missing_too_and_told(tmp_path):
    path = text_file(tmp_path, "USUBJID,COUNTRY,AETERM\n1,DE, NA\n2,NA ,None\n3,FR,pain\n")
    for read in (read_table, together):
        with pytest.warns(ks.errors.KapstatsWarning, match="COUNTRY 1"):
            frame = read(path)
        assert frame["COUNTRY"].isna().tolist() == [False, True, False]
        assert texts(frame["AETERM"]) == [None, "None", "pain"]


def test_numbers_that_stay_text_for_a_few_cells_are_told(tmp_path):
    path = text_file(tmp_path, "USUBJID,SCORE,LOT,WELL\n" + "".join(f"{i},{i}.5,{i}a,{i}\n" for i in range(20)))
    quiet(read_table, path)
    text_file(tmp_path, path.read_text() + "20,n.d.,7,1E2\n")
    for read in (read_table, together):
        with pytest.warns(ks.errors.KapstatsWarning) as said:
            assert read(path)["SCORE"].tolist()[:2] == ["0.5", "1.5"]
        words = [str(w.message) for w in said]
        assert words == [
            "adqs.csv: SCORE stays text, though 20 of 21 values are numbers ('n.d.').",
            "adqs.csv: WELL stays text, though 21 of 21 values are numbers (some are written as 1E2).",
        ]


def test_namibia(tmp_path):
    path = text_file(tmp_path, "USUBJID,COUNTRY,AGE\n1,NA,40\n2,DE,.\n3,.,50\n", "adsl.csv")
    assert ks.read_adam(tmp_path).adsl["COUNTRY"].isna().tolist() == [True, False, True]
    kept = quiet(ks.read_adam, tmp_path, missing=["."]).adsl
    assert kept["COUNTRY"].iloc[:2].tolist() == ["NA", "DE"]
    assert kept["COUNTRY"].isna().tolist() == [False, False, True]
    assert kept["AGE"].isna().tolist() == [False, True, False]
    assert together(path, missing=["."])["COUNTRY"].iloc[:2].tolist() == ["NA", "DE"]
    path.write_text("USUBJID,AGE\n1,NA\n2,40\n")
    with pytest.raises(DataError, match=r"AGE holds numbers, but 1 of 2 values are text \(NA\)"):
        ks.read_adam(tmp_path, missing=["."])
    with pytest.raises(DataError, match="give a list"):
        ks.read_adam(tmp_path, missing="NA")


def test_a_csv_of_a_header_alone_has_the_same_types_in_pieces(tmp_path):
    path = text_file(tmp_path, "USUBJID,AVAL,SCORE,ADT\n")
    whole, (part,) = read_table(path), ks.read_chunks(path, 5)
    assert [dtype.kind for dtype in whole.dtypes] == ["O", "f", "O", "O"]
    assert part.dtypes.equals(whole.dtypes)


# ------------------------------------------------------------------------------------------------ identifiers

LONG = ["9007199254740993", "9007199254740992", None, "123456789012345678901234567890"]


def long_ids(path):
    if path.suffix == ".csv":
        pd.DataFrame({"PATIENT": LONG, "AVAL": [1, 2, 3, 4]}).to_csv(path, index=False)
    elif path.suffix == ".parquet":
        numbers = pa.array([None if v is None else decimal.Decimal(v) for v in LONG], pa.decimal128(38, 0))
        pq.write_table(pa.table({"PATIENT": numbers, "AVAL": [1, 2, 3, 4]}), path)
    else:
        columns = [{"name": "PATIENT", "dataType": "integer"}, {"name": "AVAL", "dataType": "integer"}]
        rows = [[None if v is None else int(v), i] for i, v in enumerate(LONG, 1)]
        path.write_text(json.dumps({"datasetJSONVersion": "1.1.0", "columns": columns, "rows": rows}))


@pytest.mark.parametrize("ending", ["csv", "parquet", "json"])
def test_whole_numbers_that_a_float_cannot_tell_apart_are_text(tmp_path, ending):
    path = tmp_path / f"adqs.{ending}"
    long_ids(path)
    for frame in (read_table(path), together(path), together(path, 3)):
        assert texts(frame["PATIENT"]) == LONG
        assert frame["AVAL"].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("statistics", [True, False])
def test_int64_of_parquet_with_and_without_gaps(tmp_path, statistics):
    path = tmp_path / "adqs.parquet"
    big = [2**53 + 1, 2**53, 7]
    pq.write_table(
        pa.table({"ID": big, "N": [1, 2, 3], "GAP": [1, None, 3], "AVAL": big}), path, write_statistics=statistics
    )
    for frame in (read_table(path), together(path)):
        assert frame["ID"].tolist() == [str(v) for v in big]
        assert frame["N"].tolist() == [1, 2, 3]
        np.testing.assert_array_equal(frame["GAP"], [1, np.nan, 3])
        assert frame["AVAL"].dtype == np.int64
    parts = list(ks.read_chunks(path, 1))
    assert all(part.dtypes.equals(read_table(path).dtypes) for part in parts)


@pytest.mark.parametrize("ids", [["1", "01", "2"], ["1E2", "100", "3"], ["007", "7", "8"]])
def test_ids_under_any_name_do_not_fall_together(tmp_path, ids):
    path = text_file(tmp_path, "patient,score\n" + "\n".join(f"{i},{n}" for n, i in enumerate(ids)))
    assert read_table(path)["patient"].tolist() == ids
    assert together(path)["patient"].tolist() == ids


def test_numeric_ids_are_text_in_every_format(tmp_path):
    frame = pd.DataFrame({"USUBJID": [7, 8], "SITEID": [701.0, None], "AVAL": [1.5, 2.5]})
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_parquet(tmp_path / "a.parquet")
    pyreadstat.write_xport(frame, str(tmp_path / "a.xpt"), file_format_version=5)
    columns = [{"name": "USUBJID", "dataType": "integer"}, {"name": "SITEID", "dataType": "string"}]
    rows = [[7, 701.0], [8, None]]
    (tmp_path / "a.json").write_text(json.dumps({"datasetJSONVersion": "1.1.0", "columns": columns, "rows": rows}))
    for name in ("a.csv", "a.parquet", "a.xpt", "a.json"):
        got = read_table(tmp_path / name)
        assert got["USUBJID"].tolist() == ["7", "8"], name
        assert got["SITEID"].tolist()[0] in ("701", "701.0"), name
        assert got["SITEID"].isna().tolist() == [False, True], name


@pytest.mark.parametrize("ids", [[f"{z}{i}" for i in range(1, 16) for z in ("", "0")], ["1E2", "100", *"abcdefgh"]])
def test_a_path_given_to_a_verb_keeps_the_ids_of_the_table(tmp_path, ids):
    """Standard errors of the table in memory, whose ids are texts; fewer clusters would change them."""
    r = np.random.default_rng(1)
    rows = [(s, j % 2, t, r.normal(u), r.exponential(9) + 0.1, 1) for j, s in enumerate(ids) for u in r.normal(size=1)
            for t in range(3)]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["patient", "group", "day", "y", "time", "event"])
    path = tmp_path / "adqs.csv"
    frame.to_csv(path, index=False)
    calls = {
        "lmm": lambda data: ks.lmm("y ~ day*group + (1 | patient)", data).coefficients.to_frame(),
        "cox": lambda data: ks.cox("Surv(time, event) ~ group + cluster(patient)", data).coefficients.to_frame(),
    }
    for call in calls.values():
        pd.testing.assert_frame_equal(call(path), call(frame))
        pd.testing.assert_frame_equal(call(str(path)), call(ks.read_adam(tmp_path).adqs))


# ------------------------------------------------------------------------------------------------ parquet


def test_decimals_of_a_warehouse_are_numbers(tmp_path):
    """One slope, the number of the same data as floats."""
    r = np.random.default_rng(1)
    dose = r.choice([0.5, 1.0, 10.0], 60)
    table = {"DOSE": dose, "CHG": np.round(2 * dose + r.normal(size=60), 2), "TRT01P": ["KAP", "Placebo"] * 30}
    exact = {c: pa.array([decimal.Decimal(f"{v:.2f}") for v in table[c]], pa.decimal128(8, 2)) for c in ("DOSE", "CHG")}
    pq.write_table(pa.table({**table, **exact, "TRT01PN": [1, 0] * 30}), tmp_path / "adqs.parquet")
    got = ks.ancova("CHG ~ DOSE + TRT01P", ks.read_adam(tmp_path).adqs).coefficients.to_frame()
    expected = ks.ancova("CHG ~ DOSE + TRT01P", {**table, "TRT01PN": [1, 0] * 30}).coefficients.to_frame()
    pd.testing.assert_frame_equal(got, expected)
    parts = together(tmp_path / "adqs.parquet", 7)
    pd.testing.assert_frame_equal(parts, read_table(tmp_path / "adqs.parquet"))


def test_lists_structs_and_maps_are_read_and_left_alone(tmp_path):
    path = tmp_path / "adqs.parquet"
    maps = pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.int64()))
    pq.write_table(pa.table({"USUBJID": ["1 ", "2"], "L": [[1, 2], [3]], "S": [{"a": 1}, {"a": 2}], "M": maps}), path)
    for frame in (read_table(path), together(path)):
        assert frame["USUBJID"].tolist() == ["1", "2"]
        assert [list(v) for v in frame["L"]] == [[1, 2], [3]]
        assert frame["S"].tolist() == [{"a": 1}, {"a": 2}]


def test_dates_as_r_and_polars_write_them_in_pieces(tmp_path):
    path = tmp_path / "adae.parquet"
    days = [datetime.date(2024, 1, 1), None, datetime.date(2024, 2, 29)]
    pq.write_table(pa.table({"USUBJID": ["1", "2", "3"], "ASTDT": pa.array(days), "SEEN": pa.array(days)}), path)
    whole = read_table(path)
    assert texts(whole["ASTDT"]) == ["2024-01-01", None, "2024-02-29"]
    assert whole["SEEN"].equals(whole["ASTDT"].rename("SEEN"))
    for rows in (1, 2, 9):
        pd.testing.assert_frame_equal(together(path, rows), whole)


def test_parquet_of_no_rows_is_one_empty_piece_and_a_name_twice_is_told(tmp_path):
    path = tmp_path / "adae.parquet"
    pq.write_table(pa.table({"USUBJID": pa.array([], pa.string()), "AVAL": pa.array([], pa.int64())}), path)
    (part,) = ks.read_chunks(path, 10)
    pd.testing.assert_frame_equal(part, read_table(path))
    (part,) = ks.read_chunks(path, 10, columns=["AVAL"])
    assert list(part.columns) == ["AVAL"]
    pq.write_table(pa.table([pa.array([1]), pa.array([2])], names=["AVAL", "AVAL"]), path)
    for read in (read_table, together):
        with pytest.raises(DataError, match="'AVAL' appears 2 times"):
            read(path)


# ------------------------------------------------------------------------------------------------ Dataset-JSON


def dataset(columns, rows, version="1.1.0"):
    named = [{"name": n, "label": f"Label of {n}", "dataType": kind} for n, kind in columns.items()]
    return {"datasetJSONVersion": version, "records": len(rows), "columns": named, "rows": rows}


def test_booleans_in_text(tmp_path):
    path = tmp_path / "adsl.json"
    columns = {"USUBJID": "string", "R": "boolean"}
    path.write_text(json.dumps(dataset(columns, [["1", "false"], ["2", "True"], ["3", False]])))
    assert read_table(path)["R"].tolist() == [False, True, False]
    path.write_text(json.dumps(dataset(columns, [["1", "false"], ["2", None], ["3", True]])))
    assert read_table(path)["R"].tolist() == [False, None, True]
    path.write_text(json.dumps(dataset(columns, [["1", "false"], ["2", 0], ["3", "nein"]])))
    with pytest.raises(DataError, match=r"2 of 3 cells of R are neither true nor false \(row 2: 0, row 3: 'nein'\)"):
        read_table(path)


def test_a_padded_sign_in_a_decimal(tmp_path):
    path = tmp_path / "adsl.json"
    rows = [["1", "20.5"], ["2", "  NA"], ["3", " 22 "]]
    path.write_text(json.dumps(dataset({"USUBJID": "string", "BMIBL": "decimal"}, rows)))
    with pytest.warns(ks.errors.KapstatsWarning, match=r"BMIBL 1 \('  NA'\)"):
        np.testing.assert_array_equal(read_table(path)["BMIBL"], [20.5, np.nan, 22.0])


def test_line_separators_inside_a_text_of_ndjson(tmp_path):
    path = tmp_path / "adae.ndjson"
    whole = dataset({"AETERM": "string"}, [["a\u2028b"], ["a\u2029b"], ["a\x85b"]])
    rows = whole.pop("rows")
    path.write_text("\r\n".join(json.dumps(part, ensure_ascii=False) for part in [whole, *rows]), encoding="utf-8")
    assert read_table(path)["AETERM"].tolist() == ["a\u2028b", "a\u2029b", "a\x85b"]


@pytest.mark.parametrize("kind", ["clinicalData", "referenceData"])
def test_version_1_0(tmp_path, kind):
    """The example of the standard's version 1.0: items in place of columns, a first item that numbers the records."""
    items = [
        {"OID": "ITEMGROUPDATASEQ", "name": "ITEMGROUPDATASEQ", "label": "Record Identifier", "type": "integer"},
        {"OID": "IT.USUBJID", "name": "USUBJID", "label": "Unique Subject Identifier", "type": "string", "length": 3},
        {"OID": "IT.AGE", "name": "AGE", "label": "Age", "type": "integer"},
    ]
    group = {
        "records": 2,
        "name": "ADSL",
        "label": "Subjects",
        "items": items,
        "itemData": [[1, "001", 40], [2, "002", 50]],
    }
    made = {"datasetJSONVersion": "1.0.0", kind: {"studyOID": "x", "itemGroupData": {"IG.ADSL": group}}}
    (tmp_path / "adsl.json").write_text(json.dumps(made))
    frame = quiet(ks.read_adam, tmp_path).adsl
    assert frame.to_dict("list") == {"USUBJID": ["001", "002"], "AGE": [40, 50]}
    assert frame.attrs["labels"] == {"USUBJID": "Unique Subject Identifier", "AGE": "Age"}
    made[kind]["itemGroupData"]["IG.ADAE"] = group
    (tmp_path / "adsl.json").write_text(json.dumps(made))
    with pytest.raises(DataError, match="holds 2 datasets"):
        ks.read_adam(tmp_path)


# ------------------------------------------------------------------------------------------------ words


@pytest.mark.parametrize("encoding", ["nonsense", "base64", "undefined"])
@pytest.mark.parametrize("ending", ["csv", "xpt", "json", "parquet"])
def test_an_encoding_that_is_none(tmp_path, encoding, ending):
    path = tmp_path / f"adsl.{ending}"
    path.write_text("USUBJID\n1\n")
    for read in (read_table, together):
        with pytest.raises(DataError, match=f"encoding='{encoding}' is not an encoding of text"):
            read(path, encoding=encoding)


def test_what_a_path_is_that_is_no_file(tmp_path):
    (tmp_path / "adsl.csv").symlink_to(tmp_path / "moved.csv")
    os.mkfifo(tmp_path / "adae.csv")
    (tmp_path / "adqs.csv").mkdir()
    (tmp_path / "adtte.csv").write_text("USUBJID\n1\n")
    said = {
        "adsl.csv": r"adsl\.csv: is a link to .*moved\.csv, which is not there",
        "adae.csv": r"adae\.csv: is a pipe or a device, not a file",
        "adqs.csv": r"adqs\.csv: is a folder",
        "adtt.csv": r"no such file\. Did you mean 'adtte\.csv'",
    }
    for name, words in said.items():
        for read in (read_table, together, lambda path: ks.kaplan_meier("Surv(AVAL, CNSR) ~ 1", path)):
            with pytest.raises(DataError, match=words):
                read(tmp_path / name)
