"""Laws of reading: what was written comes back; pieces are the whole; a path is its table; we agree with ReadStat.

``KAPSTATS_CASES=2000 pytest tests/properties/test_files_laws.py`` tries more random files than the suite does.
"""

import datetime
import json
import os
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import kapstats as ks
from kapstats.data.files import read_table
from tests.interface import xpt_writer
from tests.interface.corpus import differences

CASES = int(os.environ.get("KAPSTATS_CASES", "40"))
WORDS = ("Placebo", "KAP", "", "é", "x" * 30, " a", "Day 7", "0", "NA")


def random_columns(r: np.random.Generator) -> tuple[dict, dict]:
    """Variables of a SAS dataset, types in any order, and what is said about them."""
    rows, columns = int(r.integers(1, 40)), {}
    lengths, formats, labels = {}, {}, {}
    for i in range(int(r.integers(1, 9))):
        name = str(r.choice(["V", "AVALUE", "A_LONG_NAME_OF_THE_VARIABLE_"])) + str(i)
        kind = str(r.choice(["text", "number", "short", "date", "moment"], p=[0.4, 0.25, 0.15, 0.1, 0.1]))
        if kind == "text":
            columns[name] = ["xx", *(str(v) for v in r.choice(WORDS, rows - 1))]
        elif kind == "short":
            lengths[name] = int(r.integers(3, 8))
            columns[name] = [float(v) for v in r.integers(-2000, 2000, rows)]
        elif kind == "number":
            columns[name] = [float(v) for v in r.normal(size=rows) * 10.0 ** r.integers(-20, 20, rows)]
        else:
            days = r.integers(-137_774, 500_000, rows)
            formats[name] = str(r.choice(["DATE", "YYMMDD", "E8601DA"] if kind == "date" else ["DATETIME", "E8601DT"]))
            columns[name] = [float(d) if kind == "date" else float(d) * 86400 + 1.5 for d in days]
        if kind != "text":
            gaps = r.random(rows) < 0.2
            signs = r.choice([".", "_", "A", "Z"], rows)
            columns[name] = [str(s) if g else v for v, g, s in zip(columns[name], gaps, signs, strict=True)]
        if r.random() < 0.3:
            labels[name] = "Label " * int(r.integers(1, 30))
    return columns, {"lengths": lengths, "formats": formats, "labels": {k: v.strip() for k, v in labels.items()}}


@pytest.mark.parametrize("version", [5, 8, 9])
def test_transport_files_of_sas_are_read_as_readstat_reads_them(tmp_path, version):
    """Cell by cell, whole and in pieces; version 9 is version 8 with formats in its label records."""
    path = tmp_path / "adqs.xpt"
    for seed in range(CASES // 2):
        columns, about = random_columns(np.random.default_rng([version, seed]))
        if version == 5:
            columns = {name[:6] + name[-1:]: values for name, values in columns.items()}
            about = {
                key: {name[:6] + name[-1:]: v[:40].strip() if key == "labels" else v for name, v in said.items()}
                for key, said in about.items()
            }
        how = {"version": 5} if version == 5 else {"version": 8, "label_version": version}
        xpt_writer.write(path, columns, **how, **about)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            compared, said = differences(path)
        assert (compared, said) == (len(columns) * len(next(iter(columns.values()))), []), seed


# ------------------------------------------------------------------------------------------------ pieces

CELLS = {
    "whole": ["1", "22", "-3", "0"],
    "number": ["1", "2.5", "1e-5", "-.5", "inf"],
    "zeros": ["01", "1", "007"],
    "wells": ["1E2", "100", "3"],
    "long": ["9007199254740993", "1", "12345678901234567890123"],
    "logical": ["TRUE", "FALSE"],
    "text": ["a", "b c", " d", "1", "é"],
    "day": ["2024-01-01", "2024-02-29"],
    "far": ["2024-01-01", "9999-12-31", "1582-10-15 10:00"],
    "partial": ["2024-01-01", "2024-02"],
}
GAPS = ["", "NA", " NA", ".", "  . ", "N/A", " ", "null"]
NAMES = {"day": "ADT", "far": "EOSDT", "partial": "ASTDT", "whole": "AGE", "text": "AETERM", "logical": "SAFFL"}


def random_csv(r: np.random.Generator) -> pd.DataFrame:
    """Columns of every kind, with gaps of every spelling that is one for it, under names that ADaM knows and others."""
    rows, made = int(r.integers(0, 12)), {}
    for i, kind in enumerate(r.choice(list(CELLS), int(r.integers(2, 8)))):
        name = NAMES.get(kind, "USUBJID") if r.random() < 0.4 else f"{kind}{i}" + ("DT" if r.random() < 0.3 else "")
        spelt = GAPS if kind in ("whole", "number") else GAPS[:5]
        named_number = name == "AGE"
        cells = r.choice(CELLS["whole" if named_number else kind], rows).astype(object)
        cells[r.random(rows) < r.choice([0, 0.3, 1.0], p=[0.5, 0.4, 0.1])] = str(r.choice(spelt))
        made[name] = cells
    return pd.DataFrame({**made, "LAST": ["z"] * rows})  # no line is blank


def assert_pieces(path, whole: pd.DataFrame, r: np.random.Generator) -> None:
    for rows in (1, int(r.integers(2, 6)), 1000):
        parts = list(ks.read_chunks(path, rows))
        pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), whole)
        assert all(part.dtypes.equals(whole.dtypes) for part in parts)
    few = list(r.permutation(whole.columns)[: max(1, len(whole.columns) // 2)])
    pd.testing.assert_frame_equal(pd.concat(ks.read_chunks(path, 2, columns=few), ignore_index=True), whole[few])


@pytest.mark.filterwarnings("ignore::kapstats.errors.KapstatsWarning")
def test_pieces_of_a_csv_are_the_whole_with_its_types(tmp_path):
    path = tmp_path / "adqs.csv"
    for seed in range(2 * CASES):
        r = np.random.default_rng([1, seed])
        random_csv(r).to_csv(path, index=False)
        assert_pieces(path, read_table(path), r)


def random_arrow(r: np.random.Generator) -> pa.Table:
    rows = int(r.integers(0, 12))
    day, far = datetime.date(2024, 2, 29), datetime.date(9999, 12, 31)
    values = {
        pa.int64(): [1, 2, 2**60 + 1],
        pa.int32(): [1, 2],
        pa.uint64(): [1, 2**64 - 1],
        pa.float64(): [1.5, float("nan")],
        pa.bool_(): [True, False],
        pa.string(): ["a ", "", "2024-01-01"],
        pa.date32(): [day, far],
        pa.timestamp("us"): [datetime.datetime(2024, 1, 1, 10)],
        pa.decimal128(20, 2): [1, 2],
        pa.decimal128(38, 0): [10**20, 7],
        pa.list_(pa.int64()): [[1, 2]],
        pa.dictionary(pa.int32(), pa.string()): ["a", "b"],
    }
    columns = {}
    for i, kind in enumerate(r.permutation(np.array(list(values), dtype=object))[: int(r.integers(1, 9))]):
        name = str(r.choice([f"C{i}", f"X{i}DT", "AVAL", "USUBJID"], p=[0.5, 0.3, 0.1, 0.1]))
        chosen = [values[kind][int(j)] for j in r.integers(0, len(values[kind]), rows)]
        gaps = r.random(rows) < r.choice([0, 0.4, 1.0], p=[0.5, 0.4, 0.1])
        columns[name] = pa.array([None if g else v for v, g in zip(chosen, gaps, strict=True)], kind)
    return pa.table(columns)


def test_pieces_of_a_parquet_file_are_the_whole_with_its_types(tmp_path):
    path = tmp_path / "adqs.parquet"
    for seed in range(2 * CASES):
        r = np.random.default_rng([2, seed])
        pq.write_table(random_arrow(r), path, write_statistics=bool(seed % 2), row_group_size=int(r.integers(1, 9)))
        whole = read_table(path)
        parts = list(ks.read_chunks(path, int(r.integers(1, 5))))
        together = pd.concat(parts, ignore_index=True)
        levels = [c for c in whole.columns if isinstance(whole[c].dtype, pd.CategoricalDtype)]
        for frame in (whole, together):  # a piece has the levels that it holds
            frame[levels] = frame[levels].astype(object)
        lists = [c for c in whole.columns if any(isinstance(v, np.ndarray) for v in whole[c])]
        for name in lists:
            assert [None if v is None else list(v) for v in together[name]] == [
                None if v is None else list(v) for v in whole[name]
            ]
        same = [f.drop(columns=lists).map(lambda v: None if v is None or v != v else v) for f in (together, whole)]
        pd.testing.assert_frame_equal(*same)  # whatever stands for missing
        kept = [c for c in whole.columns if c not in levels]
        assert all(part[kept].dtypes.equals(whole[kept].dtypes) for part in parts), seed


# ------------------------------------------------------------------------------------------------ a path is its table

IDS = (
    ["1", "01", "2", "02"],
    ["1E2", "100", "1e2", "3"],
    ["a", "b", "c", "d"],
    ["9007199254740993", "9007199254740992"],
)


def random_trial(r: np.random.Generator) -> pd.DataFrame:
    """Subjects whose names are easily mixed up, two arms, times and scores with gaps."""
    ids = [f"{i}" for i in IDS[int(r.integers(len(IDS)))]] + [f"s{i}" for i in range(int(r.integers(8, 20)))] * (
        r.random() < 0.5
    )
    rows = 3 * len(ids)
    n = np.arange(rows)
    return pd.DataFrame(
        {
            str(r.choice(["USUBJID", "patient"])): np.repeat(ids, 3),
            "arm": np.where(n // 3 % 2, "KAP", "Placebo"),
            "score": np.where(r.random(rows) < 0.1, np.nan, np.round(r.normal(20, 5, rows), 3)),
            "time": np.round(r.exponential(20, rows) + 0.1, 2),
            "event": (r.random(rows) < 0.6).astype(int),
        }
    )


def write(frame: pd.DataFrame, path) -> None:
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".xpt":
        texts = [c for c in frame.columns if frame[c].dtype.kind == "O"]
        cells = {
            c: [str(v) for v in frame[c]] if c in texts else ["." if v != v else float(v) for v in frame[c]]
            for c in frame.columns
        }
        cells = {c: v if c not in texts or max(map(len, v)) > 1 else [f"{x} " for x in v] for c, v in cells.items()}
        xpt_writer.write(path, cells)
    else:
        kinds = {"O": "string", "f": "float", "i": "integer"}
        columns = [{"name": c, "dataType": kinds[frame[c].dtype.kind]} for c in frame.columns]
        rows = frame.astype(object).where(frame.notna(), None).to_numpy().tolist()
        path.write_text(json.dumps({"datasetJSONVersion": "1.1.0", "columns": columns, "rows": rows}))


VERBS = {
    "kaplan_meier": lambda data, id: ks.kaplan_meier("Surv(time, event) ~ arm", data).to_frame(),
    "cox": lambda data, id: ks.cox(f"Surv(time, event) ~ arm + cluster({id})", data).coefficients.to_frame(),
    "ancova": lambda data, id: ks.ancova("score ~ arm + time", data).coefficients.to_frame(),
    "lmm": lambda data, id: ks.lmm(f"score ~ arm + (1 | {id})", data).coefficients.to_frame(),
}


@pytest.mark.filterwarnings("ignore::kapstats.errors.KapstatsWarning")
@pytest.mark.parametrize("ending", ["csv", "parquet", "xpt", "json"])
def test_a_verb_of_a_path_is_the_verb_of_its_table(tmp_path, ending):
    """And of the table that was written: no subject is lost or merged by the file."""
    path = tmp_path / f"adtte.{ending}"
    for seed in range(max(3, CASES // 8)):
        frame = random_trial(np.random.default_rng([3, seed]))
        write(frame, path)
        table = ks.read_adam(tmp_path).adtte
        for name, verb in VERBS.items():
            if name == "lmm" and seed % 3:
                continue
            answers = []
            for data in (frame, table, path, str(path)):
                try:
                    answers.append(verb(data, frame.columns[0]))
                except ks.errors.KapstatsError as error:
                    answers.append(str(error))
            for answer in answers[1:]:
                if isinstance(answers[0], str):
                    assert answer == answers[0]
                else:
                    pd.testing.assert_frame_equal(answer, answers[0], rtol=1e-9)
