"""Folders of data that are wrong, each in one way, and what has to be said about it.

`CASES`: name -> (write, said). `write(folder)` puts a good ADSL and one bad thing into an empty folder; reading it has
to raise a DataError that `said` matches. `FINDINGS`: the same for what can be read but is an error of `trial.check()`.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyreadstat

ADSL = pd.DataFrame(
    {"USUBJID": ["001", "002"], "TRT01P": ["KAP", "Placebo"], "TRT01PN": [1, 0], "SAFFL": "Y", "AGE": [40, 50]}
)
ADQS = pd.DataFrame(
    {
        "USUBJID": ["001", "001", "002", "002"],
        "PARAMCD": "MADRS",
        "AVISIT": ["Day 7", "Day 14"] * 2,
        "AVISITN": [7.0, 14.0] * 2,
        "AVAL": [20.0, 15, 28, 27],
        "BASE": [30.0, 30, 31, 31],
        "CHG": [-10.0, -15, -3, -4],
    }
)
Write = Callable[[Path], object]


def text(content: str | bytes, name: str = "adqs.csv") -> Write:
    raw = content.encode() if isinstance(content, str) else content
    return lambda folder: (good_adsl(folder), (folder / name).write_bytes(raw))


def good_adsl(folder: Path) -> None:
    ADSL.to_csv(folder / "adsl.csv", index=False)


def csv(frame: pd.DataFrame, name: str = "adqs.csv") -> Write:
    return lambda folder: (good_adsl(folder), frame.to_csv(folder / name, index=False))


def xpt(change: Callable[[bytes], bytes], version: int = 5, frame: pd.DataFrame = ADQS) -> Write:
    def write(folder: Path) -> None:
        good_adsl(folder)
        path = folder / "adqs.xpt"
        pyreadstat.write_xport(frame, str(path), file_format_version=version, table_name="ADQS")
        path.write_bytes(change(path.read_bytes()))

    return write


def parquet(change: Callable[[bytes], bytes]) -> Write:
    def write(folder: Path) -> None:
        good_adsl(folder)
        ADQS.to_parquet(folder / "adqs.parquet")
        (folder / "adqs.parquet").write_bytes(change((folder / "adqs.parquet").read_bytes()))

    return write


def dataset_json(**changes: object) -> Write:
    whole = {
        "datasetJSONVersion": "1.1.0",
        "records": 2,
        "name": "ADQS",
        "columns": [{"name": "USUBJID", "dataType": "string"}, {"name": "AVAL", "dataType": "float"}],
        "rows": [["001", 1.0], ["002", 2.0]],
    }
    kept = {k: v for k, v in {**whole, **changes}.items() if v is not None}
    return text(json.dumps(kept), "adqs.json")


def put(column: str, *values: object) -> pd.DataFrame:
    """ADQS with the first values of `column` replaced."""
    old = ADQS[column].tolist() if column in ADQS else [None] * 4
    return ADQS.assign(**{column: [*values, *old[len(values) :]]})


GOOD = ADQS.to_csv(index=False)
LINES = GOOD.splitlines()
LONG_ROWS = pd.concat([ADQS] * 20, ignore_index=True)

CASES: dict[str, tuple[Write, str]] = {
    # the folder
    "empty folder": (lambda folder: None, "no ADaM dataset"),
    "only other files": (lambda folder: (folder / "notes.txt").write_text("x"), r"no ADaM dataset.*notes\.txt"),
    "two files of one dataset": (
        lambda f: (good_adsl(f), ADSL.to_parquet(f / "ADSL.parquet")),
        "ADSL stands in two files",
    ),
    "sas program named as data": (text("data x; run;", "adqs.sas7bdat"), "no complete sas7bdat"),
    "truth cut": (
        lambda f: (good_adsl(f), (f / "truth.json").write_text('{"a": ')),
        r"truth\.json: truncated or no JSON",
    ),
    "truth is a list": (lambda f: (good_adsl(f), (f / "truth.json").write_text("[1]")), "holds a list"),
    "truth nested without end": (lambda f: (good_adsl(f), (f / "truth.json").write_text("[" * 100_000)), "too deeply"),
    "truth with a number of 5000 digits": (
        lambda f: (good_adsl(f), (f / "truth.json").write_text(f'{{"a": {"9" * 5000}}}')),
        r"truth\.json: .*4300 digits",
    ),
    "scenario nested without end": (
        lambda f: (good_adsl(f), (f / "scenario.toml").write_text(f"a = {'[' * 100_000}")),
        "too deeply",
    ),
    "scenario with a key of 100,000 parts": (
        lambda f: (good_adsl(f), (f / "scenario.toml").write_text(f"{'a.' * 100_000}a = 1")),
        "more than 50 parts",
    ),
    "scenario is no toml": (lambda f: (good_adsl(f), (f / "scenario.toml").write_text("a = = 1")), "no TOML"),
    "subject twice in adsl": (lambda f: pd.concat([ADSL, ADSL]).to_csv(f / "adsl.csv", index=False), "2 have several"),
    "adsl without subjects": (
        lambda f: ADSL.drop(columns="USUBJID").to_csv(f / "adsl.csv", index=False),
        "'USUBJID' is not",
    ),
    # csv
    "csv of no bytes": (text(""), "empty"),
    "csv of blank lines": (text("\n\n\n"), "no header"),
    "csv with a column twice": (text("USUBJID,AVAL,AVAL\n1,2,3\n"), "'AVAL' appears 2 times"),
    "csv of 100,000 columns": (text(",".join(f"C{i}" for i in range(100_000))), "at most 10,000 are read"),
    "csv with a nameless column": (text("USUBJID,,AVAL\n1,2,3\n"), "column 2 has no name"),
    "csv with semicolons": (text(GOOD.replace(",", ";")), "Separate the columns by commas"),
    "csv with tabs": (text(GOOD.replace(",", "\t")), "Separate the columns by commas"),
    "csv with a short line": (text("\n".join([*LINES[:2], "002,MADRS", *LINES[3:]])), "line 3 has 2 fields"),
    "csv with a long line": (text(GOOD + "002,MADRS,Day 7,7,28,31,-3,extra\n"), "line 6 has 8 fields"),
    "csv cut in its last line": (text(GOOD[:-12]), "truncated"),
    "csv with an open quote": (text(GOOD + '"003,MADRS'), "cannot be read"),
    "csv with an unquoted comma": (text(GOOD.replace("Day 14", "Day 14, late")), "not in quotes"),
    "csv in latin-1": (text(GOOD.replace("Day", "Día").encode("latin-1")), "encoding='cp1252'"),
    "csv in utf-16 without its mark": (text(GOOD.encode("utf-16-le")), "NUL characters"),
    "parquet named csv": (lambda f: (good_adsl(f), ADQS.to_parquet(f / "adqs.csv")), "not utf-8 text|NUL"),
    "csv with NUL": (text(GOOD.replace("Day 7", "Day\x007")), "NUL"),
    "unit in a value": (csv(put("AVAL", "20 points")), r"AVAL holds numbers, but 1 of 4 values are text \(20 points\)"),
    "decimal commas": (csv(put("AVAL", "20,5", "15,5")), r"AVAL holds numbers, but 2 of 4"),
    "words in CHG": (csv(put("CHG", "missing")), "CHG holds numbers"),
    "lower than in AVAL": (csv(put("AVAL", "<5")), "AVAL holds numbers"),
    "text in the arm number": (
        lambda f: ADSL.assign(TRT01PN=["one", "0"]).to_csv(f / "adsl.csv", index=False),
        "TRT01PN holds",
    ),
    "text in AGE": (
        lambda f: ADSL.assign(AGE=["forty", "50"]).to_csv(f / "adsl.csv", index=False),
        "AGE holds numbers",
    ),
    "beyond every number": (csv(put("AVAL", "1e400")), "AVAL holds numbers"),
    "hexadecimal": (csv(put("AVAL", "0x1F")), "AVAL holds numbers"),
    "one name in two cases": (text("usubjid,AVAL,aval\n001,1,2\n"), "'AVAL' appears 2 times"),
    "mixed types in a visit number": (csv(put("AVISITN", "seven")), "AVISITN holds numbers, but 1 of 4"),
    "a sign for missing": (csv(put("AVAL", "-")), "a missing value is an empty cell"),
    # xpt
    "xpt of no bytes": (text("", "adqs.xpt"), "empty"),
    "text named xpt": (text(GOOD, "adqs.xpt"), "no SAS transport file"),
    "xpt cut inside a record": (xpt(lambda raw: raw[:-37]), "truncated"),
    "xpt cut inside a row": (xpt(lambda raw: raw[: len(raw) - 80], frame=LONG_ROWS), "truncated; the last row is cut"),
    "xpt cut in its headers": (xpt(lambda raw: raw[:720]), "truncated or damaged"),
    "xpt cut after the library header": (xpt(lambda raw: raw[:240]), "holds 0 datasets"),
    "xpt with two datasets": (xpt(lambda raw: raw + raw[240:]), "holds 2 datasets"),
    "xpt with a broken variable count": (
        xpt(lambda raw: raw.replace(b"0000000007", b"00000000X7", 1)),
        "damaged|truncated",
    ),
    "xpt 8 cut": (xpt(lambda raw: raw[:-80], 8, LONG_ROWS), "truncated"),
    "xpt in no western encoding": (xpt(lambda raw: raw.replace(b"MADRS", b"M\x81DRS")), "encoding='cp1252'"),
    # parquet
    "parquet of no bytes": (text("", "adqs.parquet"), "empty"),
    "text named parquet": (text(GOOD, "adqs.parquet"), "no complete parquet"),
    "parquet cut": (parquet(lambda raw: raw[: len(raw) // 2]), "no complete parquet"),
    "parquet with a broken foot": (parquet(lambda raw: raw[:-4] + b"PAR2"), "no complete parquet"),
    # sas7bdat
    "sas7bdat of no bytes": (text("", "adqs.sas7bdat"), "empty"),
    "zeros named sas7bdat": (text(b"\x00" * 4096, "adqs.sas7bdat"), "no complete sas7bdat"),
    # Dataset-JSON
    "json cut": (text('{"datasetJSONVersion": "1.1.0", "rows": [[1', "adqs.json"), "truncated or no JSON"),
    "json of another kind": (text("[1, 2]", "adqs.json"), r"no Dataset-JSON 1\.1"),
    "dataset-json 2.0": (dataset_json(datasetJSONVersion="2.0.0"), "version 2.0.0"),
    "dataset-json 1.0 without a dataset": (dataset_json(datasetJSONVersion="1.0.0"), "holds 0 datasets"),
    "dataset-json with rows of null": (
        text('{"datasetJSONVersion": "1.1.0", "columns": [{"name": "A"}], "rows": null}', "adqs.json"),
        "rows are null, not a list",
    ),
    "dataset-json with a list for a number": (
        dataset_json(rows=[["001", [1]], ["002", 2]]),
        r"1 of 2 cells of AVAL are no single value \(row 1: \[1\]\)",
    ),
    "dataset-json with a word for a boolean": (
        dataset_json(
            columns=[{"name": "USUBJID"}, {"name": "R", "dataType": "boolean"}], rows=[["1", "false"], ["2", "no"]]
        ),
        r"1 of 2 cells of R are neither true nor false \(row 2: 'no'\)",
    ),
    "dataset-json without columns": (dataset_json(columns=None), "without a list of named columns"),
    "dataset-json with fewer records": (dataset_json(records=3), "states 3 records and holds 2"),
    "dataset-json with a short row": (
        dataset_json(rows=[["001", 1.0], ["002"]]),
        r"1 rows do not have 2 values \(row 2\)",
    ),
    "dataset-json with text for a number": (
        dataset_json(rows=[["001", "x"], ["002", 2]]),
        "AVAL is float, but 1 values",
    ),
    "dataset-json with a column twice": (
        dataset_json(columns=[{"name": "AVAL"}, {"name": "AVAL"}], rows=[[1, 2], [3, 4]]),
        "'AVAL' appears 2 times",
    ),
    "dataset-json with a number of 500 digits": (
        dataset_json(rows=[["001", 10**500], ["002", 2]]),
        r"AVAL is float, but 1 values are not \(10{59}\.\.\.\)",
    ),
    "dataset-json with a number for a name": (dataset_json(columns=[{"name": 1}, {"name": "AVAL"}]), "no text"),
    "dataset-json nested without end": (text("[" * 100_000, "adqs.json"), "too deeply"),
    "ndjson with a number of 5000 digits": (text("9" * 5000, "adqs.ndjson"), "4300 digits"),
    "dataset-json in latin-1": (text('{"datasetJSONVersion": "é"}'.encode("latin-1"), "adqs.json"), "UTF-8"),
    "ndjson cut": (
        text('{"datasetJSONVersion": "1.1.0", "columns": [{"name": "A"}]}\n["x"', "adqs.ndjson"),
        "truncated",
    ),
}

#: what can be read, and which rule then finds it
FINDINGS: dict[str, tuple[Write, str]] = {
    "1e300": (csv(put("AVAL", "1e300")), "magnitude"),
    "infinity": (csv(put("AVAL", np.inf)), "non-finite"),
    "html in an arm": (
        lambda f: ADSL.assign(TRT01P=["<img src=x onerror=alert(1)>", "Placebo"]).to_csv(f / "adsl.csv", index=False),
        "active-text",
    ),
    "spreadsheet formula in a visit": (csv(put("AVISIT", "=cmd|'/c calc'!A0")), "active-text"),
    "formula in an arm": (
        lambda f: ADSL.assign(TRT01P=["=1+1", "Placebo"]).to_csv(f / "adsl.csv", index=False),
        "active-text",
    ),
    "csv injection by a sign": (csv(put("AVISIT", "+SUM(1)")), "active-text"),
    "subjects of another study": (csv(put("USUBJID", "999")), "orphan-subject"),
    "change of another baseline": (csv(put("CHG", 10.0)), "change"),
    "visit twice": (csv(pd.concat([ADQS, ADQS.head(1).assign(AVAL=21.0, CHG=-9.0)])), "duplicate-key"),
    "no value column": (csv(ADQS.drop(columns="AVAL")), "required-variable"),
}
