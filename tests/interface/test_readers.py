"""Reading ADaM folders: every format, written by other libraries, comes back as it was."""

import json
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pyreadstat
import pytest

import kapstats as ks
from kapstats.data.files import read_table
from kapstats.data.xport import ibm_to_float
from tests.interface import malformed, sas7bdat_writer

FRAME = pd.DataFrame(
    {
        "USUBJID": ["001", "002", "010"],
        "SITEID": ["01", "2", "03"],
        "TRT01P": ["Kétamine IV", "Placebo", "Placebo"],
        "TRT01PN": [1.0, 0.0, 0.0],
        "AGE": [44.0, np.nan, 61.0],
        "SCORE": [0.1, -1234.5678901234567, 1e-30],
        "COMMENT": ["a, b", 'said "no"', None],
        "TRTSDT": pd.to_datetime(["2024-02-29", None, "1959-12-31"]),
        "RFSTDTC": ["2024-02-29", "2024-02", "2024"],
    }
)
TEXT = ["USUBJID", "SITEID", "TRT01P", "COMMENT", "RFSTDTC"]


def texts(values: pd.Series) -> list[str | None]:
    return [None if v is None or v != v else v for v in values]


def assert_same(frame: pd.DataFrame) -> None:
    assert list(frame.columns) == list(FRAME.columns)
    for name in FRAME.columns:
        if name in TEXT:
            assert texts(frame[name]) == texts(FRAME[name]), name
        elif name == "TRTSDT":
            assert str(frame[name].dtype).startswith("datetime64")
            assert frame[name].astype("datetime64[ns]").equals(FRAME[name].astype("datetime64[ns]"))
        else:
            np.testing.assert_array_equal(frame[name].to_numpy(dtype=float), FRAME[name].to_numpy(), name)


def with_text_dates() -> pd.DataFrame:
    return FRAME.assign(TRTSDT=FRAME["TRTSDT"].dt.strftime("%Y-%m-%d"))


def as_dataset_json() -> dict:
    kinds = {"TRT01PN": "integer", "AGE": "float", "SCORE": "decimal", "TRTSDT": "date"}
    frame = with_text_dates().astype(object)
    frame = frame.assign(SCORE=frame["SCORE"].map(repr)).where(FRAME.notna(), None)
    return {
        "datasetJSONCreationDateTime": "2024-05-01T10:00:00",
        "datasetJSONVersion": "1.1.0",
        "itemGroupOID": "IG.ADSL",
        "records": 3,
        "name": "ADSL",
        "label": "Subjects",
        "columns": [
            {"itemOID": f"IT.ADSL.{c}", "name": c, "label": f"Label of {c}", "dataType": kinds.get(c, "string")}
            for c in frame.columns
        ],
        "rows": frame.to_numpy().tolist(),
    }


def write_ndjson(path) -> None:
    whole = as_dataset_json()
    rows = whole.pop("rows")
    path.write_text("\n".join(json.dumps(part) for part in [whole, *rows]), encoding="utf-8")


def write_sas7bdat(path) -> None:
    days = (FRAME["TRTSDT"] - pd.Timestamp("1960-01-01")).dt.days.astype(float)
    labels = {"AGE": "Age (years)", "TRT01P": "Planned treatment"}
    sas7bdat_writer.write(FRAME.assign(TRTSDT=days), path, labels, {"TRTSDT": "DATE"})


WRITERS = {
    "pandas.csv": lambda p: with_text_dates().to_csv(p, index=False),
    "polars.csv": lambda p: pl.from_pandas(with_text_dates()).write_csv(p),
    "quoted.csv": lambda p: with_text_dates().to_csv(p, index=False, quoting=1, lineterminator="\r\n"),
    "bom.csv": lambda p: with_text_dates().to_csv(p, index=False, encoding="utf-8-sig"),
    "utf16.csv": lambda p: with_text_dates().to_csv(p, index=False, encoding="utf-16"),
    "pandas.parquet": lambda p: FRAME.to_parquet(p),
    "polars.parquet": lambda p: pl.from_pandas(FRAME).write_parquet(p),
    "arrow.parquet": lambda p: pq.write_table(pa.Table.from_pandas(FRAME), p),
    "v5.xpt": lambda p: pyreadstat.write_xport(FRAME, str(p), file_format_version=5, table_name="ADSL"),
    "v8.xpt": lambda p: pyreadstat.write_xport(FRAME, str(p), file_format_version=8, table_name="ADSL"),
    "sas.sas7bdat": write_sas7bdat,
    "one.json": lambda p: p.write_text(json.dumps(as_dataset_json()), encoding="utf-8"),
    "lines.ndjson": write_ndjson,
}


@pytest.mark.parametrize("name", WRITERS)
def test_round_trip(tmp_path, name):
    path = tmp_path / f"adsl.{name.split('.')[1]}"
    WRITERS[name](path)
    if name.startswith("v"):  # a partial date in a DT variable cannot be written to xpt, 1e-30 loses nothing there
        np.testing.assert_allclose(read_table(path)["SCORE"], FRAME["SCORE"], rtol=1e-15)
    assert_same(read_table(path))
    trial = ks.read_adam(tmp_path)
    assert trial.arms == ["Placebo", "Kétamine IV"]
    assert trial.name == tmp_path.name


@pytest.mark.parametrize("version", [5, 8])
def test_xpt_agrees_with_the_readstat_library_on_the_pilot(tmp_path, version):
    adsl = ks.datasets.load("cdisc-pilot").adsl
    labels = {c: f"Label of {c}" for c in adsl.columns}
    path = tmp_path / "adsl.xpt"
    pyreadstat.write_xport(adsl, str(path), file_format_version=version, table_name="ADSL", column_labels=labels)
    ours = read_table(path)
    theirs, description = pyreadstat.read_xport(str(path))
    assert list(ours.columns) == list(theirs.columns)
    assert ours.attrs["labels"] == description.column_names_to_labels
    for name in ours.columns:
        if pd.api.types.is_numeric_dtype(ours[name].dtype):
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-15)
        else:
            assert ours[name].notna().sum() == adsl[name].notna().sum(), name
            assert (ours[name].dropna().astype(str) == adsl[name].dropna().astype(str)).all(), name


def test_xpt_long_names_and_labels_of_version_8(tmp_path):
    path = tmp_path / "adsl.xpt"
    frame = pd.DataFrame({"USUBJID": ["001"], "A_VARIABLE_NAME_OF_32_CHARACTERS": [1.5]})
    label = "a label that is much longer than the forty characters of version 5"
    pyreadstat.write_xport(frame, str(path), file_format_version=8, column_labels=["Subject", label])
    read = read_table(path)
    assert list(read.columns) == list(frame.columns)
    assert read.attrs["labels"]["A_VARIABLE_NAME_OF_32_CHARACTERS"] == label


def test_sas7bdat_agrees_with_the_readstat_library_and_a_cut_one_is_told(tmp_path):
    path = tmp_path / "adsl.sas7bdat"
    write_sas7bdat(path)
    theirs, description = pyreadstat.read_sas7bdat(str(path))
    ours = read_table(path)
    assert ours.attrs["labels"] == {k: v for k, v in description.column_names_to_labels.items() if v}
    np.testing.assert_array_equal(ours["SCORE"], theirs["SCORE"])
    assert ours["TRT01P"].tolist() == theirs["TRT01P"].tolist()
    raw = path.read_bytes()
    for size in (100, 2000, len(raw) // 2, len(raw) - 1):
        path.write_bytes(raw[:size])
        with pytest.raises(ks.errors.DataError, match=r"no complete sas7bdat|truncated"):
            read_table(path)


def test_ibm_numbers_and_missing_values_by_hand():
    # 1 = 0x41 10 00..; -118.625 = 0xC2 76 A0; 0.1 rounds in the 56-bit fraction; .A and ._ are missing, 0 is not
    words = ["4110000000000000", "C276A00000000000", "0000000000000000", "2E00000000000000", "4100000000000000"]
    block = np.array([list(bytes.fromhex(w)) for w in [*words, "5F00000000000000"]], dtype=np.uint8)
    np.testing.assert_array_equal(ibm_to_float(block), [1.0, -118.625, 0.0, np.nan, np.nan, np.nan])
    short = np.array([list(bytes.fromhex("C276A0"))], dtype=np.uint8)
    np.testing.assert_array_equal(ibm_to_float(short), [-118.625])


def test_blank_last_rows_of_a_narrow_xpt_are_padding_and_blank_text_is_missing(tmp_path):
    path = tmp_path / "adsl.xpt"
    frame = pd.DataFrame({"USUBJID": ["1", "2", "3"], "NOTE": ["x", "", "y"]})
    pyreadstat.write_xport(frame, str(path), file_format_version=5)
    read = read_table(path)
    assert len(read) == 3
    assert read["NOTE"].isna().tolist() == [False, True, False]


def test_sas_dates_without_a_format_are_dates_by_their_name(tmp_path):
    path = tmp_path / "adsl.xpt"
    frame = pd.DataFrame({"USUBJID": ["1"], "TRTSDT": [19725.0], "VISITDAY": [19725.0]})
    pyreadstat.write_xport(frame, str(path), file_format_version=5)
    read = read_table(path)
    assert read.loc[0, "TRTSDT"] == pd.Timestamp("2014-01-02")
    assert read.loc[0, "VISITDAY"] == 19725.0


def test_sas_date_times_keep_their_seconds(tmp_path):
    path = tmp_path / "adae.xpt"
    frame = pd.DataFrame({"USUBJID": ["1"], "ASTDTM": [1704189845.0]})
    pyreadstat.write_xport(frame, str(path), file_format_version=5, variable_format={"ASTDTM": "DATETIME20."})
    assert read_table(path).loc[0, "ASTDTM"] == pd.Timestamp("2014-01-01 10:04:05")


def test_text_with_leading_zeros_and_ids_are_not_numbers(tmp_path):
    (tmp_path / "adsl.csv").write_text(
        "USUBJID,SUBJID,SITEID,PATNO,KIT,AGE,DONE\n1,7,3,007,12,40,TRUE\n2,8,3,010,13,,FALSE\n"
    )
    frame = read_table(tmp_path / "adsl.csv")
    assert frame["USUBJID"].tolist() == ["1", "2"]
    assert frame["SITEID"].tolist() == ["3", "3"]
    assert frame["PATNO"].tolist() == ["007", "010"]
    assert frame["KIT"].tolist() == [12, 13]
    assert frame["AGE"].isna().tolist() == [False, True]
    assert frame["DONE"].tolist() == [True, False]


def test_partial_dates_stay_text(tmp_path):
    (tmp_path / "adae.csv").write_text("USUBJID,ASTDT,AENDT\n1,2024-03,2024-03-05\n2,2024-03-01,\n")
    frame = read_table(tmp_path / "adae.csv")
    assert frame["ASTDT"].tolist() == ["2024-03", "2024-03-01"]
    assert str(frame["AENDT"].dtype).startswith("datetime64")


def test_another_encoding_has_to_be_named(tmp_path):
    with_text_dates().to_csv(tmp_path / "adsl.csv", index=False, encoding="cp1252")
    with pytest.raises(ks.errors.DataError, match="encoding='cp1252'"):
        ks.read_adam(tmp_path)
    assert "Kétamine IV" in ks.read_adam(tmp_path, encoding="cp1252").arms


def test_truth_and_scenario_are_read(tmp_path):
    WRITERS["pandas.csv"](tmp_path / "ADSL.CSV")
    (tmp_path / "truth.json").write_text('{"effect": -5.5}')
    (tmp_path / "scenario.json").write_text('{"n": 240}')
    trial = ks.read_adam(tmp_path)
    assert trial.truth == {"effect": -5.5}
    assert trial.scenario == {"n": 240}
    assert trial.population is not None


def test_a_dataset_under_a_second_name(tmp_path):
    with_text_dates().to_csv(tmp_path / "adadas.csv", index=False)
    trial = ks.read_adam(tmp_path, roles={"adqs": "adadas"})
    assert trial.adqs.equals(trial.adadas)
    with pytest.raises(ks.errors.DataError, match="roles name 'adqsx'"):
        ks.read_adam(tmp_path, roles={"adqs": "adqsx"})


def test_paths_are_taken_by_trial(tmp_path):
    path = tmp_path / "subjects.xpt"
    pyreadstat.write_xport(FRAME, str(path), file_format_version=5)
    assert ks.Trial(adsl=path).n_subjects == 3
    assert ks.Trial(adsl=path).labels == {"adsl": {}}


def test_reading_a_clean_folder_says_nothing(tmp_path):
    WRITERS["pandas.csv"](tmp_path / "adsl.csv")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ks.read_adam(tmp_path)


@pytest.mark.parametrize("version", [5, 8])
def test_the_pilot_from_transport_files_gives_the_same_tables(tmp_path, version):
    pilot = ks.datasets.load("cdisc-pilot", ["adsl", "adtte", "adae"])
    for name, frame in pilot.datasets.items():
        path = str(tmp_path / f"{name}.xpt")
        pyreadstat.write_xport(frame, path, file_format_version=version, table_name=name.upper())
    again = ks.read_adam(tmp_path)
    assert again.arms == pilot.arms
    for make in (ks.baseline_table, ks.disposition, ks.exposure_table):
        ours, theirs = (make(t).table().rows for t in (again, pilot))
        assert [row[1:] for row in ours] == [row[1:] for row in theirs]
    findings = [t.check().to_frame()[["dataset", "rule", "rows"]].to_dict("records") for t in (again, pilot)]
    assert findings[0] == findings[1]


@pytest.mark.parametrize("rows", [1, 2, 1000])
@pytest.mark.parametrize("name", WRITERS)
def test_pieces_put_together_are_the_file(tmp_path, name, rows):
    path = tmp_path / f"adsl.{name.split('.')[1]}"
    WRITERS[name](path)
    whole = read_table(path)
    parts = list(ks.read_chunks(path, rows))
    assert all(len(part) <= rows for part in parts)
    together = pd.concat(parts, ignore_index=True)
    texts_only = [f.astype(object).where(f.notna(), None) for f in (together, whole)]
    pd.testing.assert_frame_equal(*texts_only)
    few = pd.concat(ks.read_chunks(path, rows, columns=["AGE", "USUBJID"]), ignore_index=True)
    assert few.columns.tolist() == ["AGE", "USUBJID"]
    assert few["USUBJID"].tolist() == whole["USUBJID"].tolist()


def test_the_type_of_a_column_is_that_of_the_whole_file(tmp_path):
    path = tmp_path / "adsl.csv"
    path.write_text("USUBJID,A,B,C,ADT,D\n1,1,TRUE,2,2024-01-01,\n2,x,FALSE,3.5,2024-02,\n3,3,TRUE,,2024-03-01,\n")
    whole = read_table(path)
    for part in ks.read_chunks(path, 1):
        for column in ("A", "B", "C", "ADT"):
            kinds = [pd.api.types.infer_dtype(f[column].dropna()) for f in (part, whole)]
            assert kinds[0] in (kinds[1], "empty") or {*kinds} == {"integer", "floating"}, column


@pytest.mark.parametrize("rows", [1, 4])
def test_pieces_of_the_pilot_equal_it(tmp_path, rows):
    adae = ks.datasets.load("cdisc-pilot", ["adsl", "adae"]).adae.head(rows * 50)
    pyreadstat.write_xport(adae, str(tmp_path / "adae.xpt"), file_format_version=8, table_name="ADAE")
    adae.to_csv(tmp_path / "adae.csv", index=False)
    adae.to_parquet(tmp_path / "adae.parquet")
    for ending in ("xpt", "csv", "parquet"):
        path = tmp_path / f"adae.{ending}"
        together = pd.concat(ks.read_chunks(path, 17), ignore_index=True)
        whole = read_table(path)
        assert together.isna().equals(whole.isna())
        assert (together.astype(str) == whole.astype(str)).where(whole.notna(), True).all(axis=None), ending


def test_pieces_of_damaged_files_are_told(tmp_path):
    for name in ("csv with a short line", "csv in latin-1", "csv with NUL", "xpt cut inside a row", "parquet cut"):
        folder = tmp_path / name.replace(" ", "-")
        folder.mkdir()
        malformed.CASES[name][0](folder)
        path = next(p for p in folder.iterdir() if p.name.startswith("adqs"))
        with pytest.raises(ks.errors.DataError, match=malformed.CASES[name][1]):
            list(ks.read_chunks(path, 2))
    with pytest.raises(ks.errors.DataError, match="give 1 or more"):
        list(ks.read_chunks(path, 0))
    good = tmp_path / "adsl.csv"
    WRITERS["pandas.csv"](good)
    with pytest.raises(ks.errors.DataError, match="Did you mean 'AGE'"):
        list(ks.read_chunks(good, 2, columns=["AGEE"]))


def test_a_blank_number_of_labels_in_version_8_is_read_to_the_end_of_the_header(tmp_path):
    path = tmp_path / "adsl.xpt"
    frame = pd.DataFrame({"USUBJID": ["001"], "A_VARIABLE_NAME_OF_32_CHARACTERS": [1.5]})
    label = "a label that is much longer than the forty characters of version 5"
    pyreadstat.write_xport(frame, str(path), file_format_version=8, column_labels=["Subject", label])
    raw = bytearray(path.read_bytes())
    at = raw.index(b"LABELV8") - len(b"HEADER RECORD*******")
    raw[at + 48 : at + 58] = b" " * 10
    path.write_bytes(raw)
    read = read_table(path)
    assert list(read.columns) == list(frame.columns)
    assert read.attrs["labels"]["A_VARIABLE_NAME_OF_32_CHARACTERS"] == label
