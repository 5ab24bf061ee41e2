"""CDISC Dataset-JSON 1.1 and 1.0: one JSON object, or NDJSON (description in the first line, then one row a line)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from kapstats.data import conventions, delimited, notation, sas
from kapstats.errors import DataError, first_ids, warn

NUMBERS = ("integer", "float", "double", "decimal")
LOGICAL = {"true": True, "false": False}
#: version 1.0 numbers the records in a column of this name
SEQUENCE = "ITEMGROUPDATASEQ"


def read(path: Path, encoding: str | None = None) -> pd.DataFrame:
    """The dataset in `path`, labels in ``attrs["labels"]``."""
    try:
        text = path.read_bytes().decode(encoding or "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name}: Dataset-JSON is UTF-8 text; byte {error.start} is not.") from error
    try:
        description = _ndjson(text) if path.suffix.lower() == ".ndjson" else _json(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path.name}: truncated or no JSON (line {error.lineno}: {error.msg}).") from error
    except ValueError as error:
        raise DataError(f"{path.name}: cannot be read as JSON ({error}).") from error
    description = _of_version(path.name, description)
    columns = _columns(path.name, description)
    rows = _rows(path.name, description, columns)
    values = list(zip(*rows, strict=True)) if rows else [() for _ in columns]
    given = [(c, v) for c, v in zip(columns, values, strict=True) if c["name"] != SEQUENCE]
    frame = pd.DataFrame({c["name"]: _typed(c, v, path.name) for c, v in given})
    frame.attrs["labels"] = {c["name"]: str(c["label"]) for c, _ in given if c.get("label")}
    return frame


def _json(text: str) -> dict[str, Any]:
    whole = notation.from_json(text)
    return whole if isinstance(whole, dict) else {}


def _ndjson(text: str) -> dict[str, Any]:
    """Lines end with a line feed; a text may contain the other line separators of Unicode."""
    first, *rest = [line for line in text.split("\n") if line.strip()] or ["null"]
    head = notation.from_json(first)
    return {**(head if isinstance(head, dict) else {}), "rows": [notation.from_json(line) for line in rest]}


def _of_version(name: str, whole: dict[str, Any]) -> dict[str, Any]:
    """The description of the dataset with its rows, in the words of version 1.1."""
    version = str(whole.get("datasetJSONVersion", ""))
    if version.split(".")[:2] == ["1", "0"]:
        return _of_first_version(name, whole)
    if not version.startswith("1.1"):
        said = f"version {version}" if version else "no datasetJSONVersion"
        raise DataError(f"{name}: this is no Dataset-JSON 1.1 or 1.0 ({said}).")
    return whole


def _of_first_version(name: str, whole: dict[str, Any]) -> dict[str, Any]:
    """Version 1.0: the datasets lie in `clinicalData` or `referenceData`, columns are items with a type."""
    data = [whole.get(kind) for kind in ("clinicalData", "referenceData")]
    groups = [d["itemGroupData"] for d in data if isinstance(d, dict) and isinstance(d.get("itemGroupData"), dict)]
    found = [dataset for group in groups for dataset in group.values() if isinstance(dataset, dict)]
    if len(found) != 1:
        raise DataError(f"{name}: holds {len(found)} datasets; one is read per file. Split it.")
    items = found[0].get("items")
    named = isinstance(items, list) and all(isinstance(item, dict) for item in items)
    columns = [{**item, "dataType": item.get("type", "string")} for item in items or ()] if named else None
    return {**found[0], "columns": columns, "rows": found[0].get("itemData")}


def _columns(name: str, description: dict[str, Any]) -> list[dict[str, Any]]:
    columns = description.get("columns")
    if not isinstance(columns, list) or not all(isinstance(c, dict) and "name" in c for c in columns) or not columns:
        raise DataError(f"{name}: Dataset-JSON without a list of named columns.")
    if not all(isinstance(c["name"], str) for c in columns):
        raise DataError(f"{name}: a name of a column is no text.")
    conventions.check_names(name, [c["name"] for c in columns])
    return columns


def _rows(name: str, description: dict[str, Any], columns: list[dict[str, Any]]) -> list[Any]:
    rows = description.get("rows", [])
    if not isinstance(rows, list):
        raise DataError(f"{name}: its rows are {'null' if rows is None else f'a {type(rows).__name__}'}, not a list.")
    wrong = [i + 1 for i, row in enumerate(rows) if not isinstance(row, list) or len(row) != len(columns)]
    if wrong:
        raise DataError(f"{name}: {len(wrong)} rows do not have {len(columns)} values (row {first_ids(wrong)}).")
    stated = description.get("records")
    if isinstance(stated, int) and stated != len(rows):
        raise DataError(f"{name}: truncated; it states {stated} records and holds {len(rows)}.")
    return rows


def _typed(column: dict[str, Any], values: tuple[Any, ...], source: str) -> pd.Series:
    """One column by its dataType; dates in text stay text here."""
    kind = column.get("dataType", "string")
    _refuse(values, lambda v: isinstance(v, (list, dict)), column["name"], source, "no single value")
    given = pd.Series(list(values), dtype="object").replace("", None)
    if kind in NUMBERS:
        return _numbers(given, column, source)
    if kind == "boolean":
        return _logical(given, column["name"], source)
    as_text = conventions.id_text if conventions.is_id(column["name"]) else str
    return given.map(lambda v: v if v is None or isinstance(v, (str, bool)) else as_text(v))


def _refuse(values: Any, wrong: Callable[[Any], bool], name: str, source: str, why: str) -> None:
    rows = {i: v for i, v in enumerate(values, 1) if wrong(v)}
    if rows:
        told = first_ids(f"row {i}: {v!r}" for i, v in rows.items())
        raise DataError(f"{source}: {len(rows)} of {len(values)} cells of {name} are {why} ({told}). Correct them.")


def _logical(given: pd.Series, name: str, source: str) -> pd.Series:
    """true and false, also as text; without gaps as bool."""
    read = given.map(lambda v: LOGICAL.get(v.strip().lower(), v) if isinstance(v, str) else v)
    _refuse(read, lambda v: v is not None and not isinstance(v, bool), name, source, "neither true nor false")
    return read.astype(bool) if read.notna().all() else read


def _numbers(given: pd.Series, column: dict[str, Any], source: str) -> pd.Series:
    name = column["name"]
    given = _without_signs(given, name, source)
    if column["dataType"] == "integer" and not conventions.is_number(name) and any(map(_is_long, given)):
        return pd.Series([None if pd.isna(v) else str(v).strip() for v in given], dtype="object")
    stripped = [v.strip() if isinstance(v, str) else v for v in given]
    found = conventions.numbers(pd.Series(stripped, dtype="object"))
    bad = given[found.isna() & given.notna()]
    if len(bad):
        raise DataError(f"{source}: {name} is {column['dataType']}, but {len(bad)} values are not ({first_ids(bad)}).")
    judge = sas.Judge(name, str(column.get("displayFormat") or ""))
    if judge.unit and judge.form:
        judge.see(found)
        dates = judge.dates(source)
        return dates.read(found) if dates else found
    return found


def _is_long(value: Any) -> bool:
    """Whether a whole number is beyond what a float holds: it identifies something, and is text."""
    whole = type(value) is int or (isinstance(value, str) and delimited.WHOLE.fullmatch(value.strip()))
    return bool(whole) and len(str(value)) < 4000 and abs(int(value)) > conventions.EXACT


def _without_signs(given: pd.Series, name: str, source: str) -> pd.Series:
    """Numbers given as text may be a sign of a missing value, as some writers leave it ("  NA")."""
    texts = {v for v in given if isinstance(v, str)}
    signs = {t for t in texts if t.strip() in delimited.MISSING or t.strip().lower() in delimited.WORDS}
    if not signs:
        return given
    absent = given.isin(list(signs))
    warn(
        f"{source}: read as missing, in {name} {int(absent.sum())} ({first_ids([repr(s) for s in sorted(signs)], 3)})."
    )
    return given.mask(absent, None)
