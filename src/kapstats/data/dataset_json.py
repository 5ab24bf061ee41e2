"""CDISC Dataset-JSON 1.1: one JSON object, or NDJSON (description in the first line, then one row a line)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from kapstats.data import conventions, notation
from kapstats.errors import DataError, first_ids

NUMBERS = ("integer", "float", "double", "decimal")
DATES = ("date", "datetime")


def read(path: Path, encoding: str | None = None) -> pd.DataFrame:
    """The dataset in `path`, labels in ``attrs["labels"]``."""
    try:
        text = path.read_bytes().decode(encoding or "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name}: Dataset-JSON is UTF-8 text; byte {error.start} is not.") from error
    try:
        description, rows = _ndjson(text) if path.suffix.lower() == ".ndjson" else _json(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path.name}: truncated or no JSON (line {error.lineno}: {error.msg}).") from error
    except ValueError as error:
        raise DataError(f"{path.name}: cannot be read as JSON ({error}).") from error
    columns = _columns(path.name, description)
    _complete(path.name, description, columns, rows)
    values = list(zip(*rows, strict=True)) if rows else [() for _ in columns]
    frame = pd.DataFrame({c["name"]: _typed(c, v, path.name) for c, v in zip(columns, values, strict=True)})
    frame.attrs["labels"] = {c["name"]: c["label"] for c in columns if c.get("label")}
    return frame


def _json(text: str) -> tuple[dict[str, Any], list[Any]]:
    whole = notation.from_json(text)
    whole = whole if isinstance(whole, dict) else {}
    return whole, whole.get("rows", [])


def _ndjson(text: str) -> tuple[dict[str, Any], list[Any]]:
    first, *rest = [line for line in text.splitlines() if line.strip()] or ["null"]
    head = notation.from_json(first)
    return head if isinstance(head, dict) else {}, [notation.from_json(line) for line in rest]


def _columns(name: str, description: dict[str, Any]) -> list[dict[str, Any]]:
    version = str(description.get("datasetJSONVersion", ""))
    if not version.startswith("1.1"):
        said = f"version {version}" if version else "no datasetJSONVersion"
        raise DataError(f"{name}: this is no Dataset-JSON 1.1 ({said}).")
    columns = description.get("columns")
    if not isinstance(columns, list) or not all(isinstance(c, dict) and "name" in c for c in columns) or not columns:
        raise DataError(f"{name}: Dataset-JSON without a list of named columns.")
    if not all(isinstance(c["name"], str) for c in columns):
        raise DataError(f"{name}: a name of a column is no text.")
    conventions.check_names(name, [c["name"] for c in columns])
    return columns


def _complete(name: str, description: dict[str, Any], columns: list[dict[str, Any]], rows: list[Any]) -> None:
    wrong = [i + 1 for i, row in enumerate(rows) if not isinstance(row, list) or len(row) != len(columns)]
    if wrong:
        raise DataError(f"{name}: {len(wrong)} rows do not have {len(columns)} values (row {first_ids(wrong)}).")
    stated = description.get("records")
    if isinstance(stated, int) and stated != len(rows):
        raise DataError(f"{name}: truncated; it states {stated} records and holds {len(rows)}.")


def _typed(column: dict[str, Any], values: tuple[Any, ...], source: str) -> pd.Series:
    """One column by its dataType; dates as datetime64 where they are full, else as the text given."""
    kind, name = column.get("dataType", "string"), column["name"]
    given = pd.Series(list(values), dtype="object").replace("", None)
    if kind in NUMBERS:
        return _numbers(given, column, source)
    if kind in DATES and conventions.is_date(name):
        dates = conventions.iso_dates(given)
        return given if dates is None else dates
    if kind == "boolean" and given.notna().all():
        return given.astype(bool)
    return given.map(lambda v: v if v is None or isinstance(v, (str, bool)) else str(v))


def _numbers(given: pd.Series, column: dict[str, Any], source: str) -> pd.Series:
    found = conventions.numbers(given)
    bad = given[found.isna() & given.notna()]
    if len(bad):
        raise DataError(
            f"{source}: {column['name']} is {column['dataType']}, but {len(bad)} values are not ({first_ids(bad)})."
        )
    form = str(column.get("displayFormat", "")).upper()
    if conventions.is_date(column["name"]) and form.startswith(("DATE", "E8601", "YYMMDD", "DDMMYY", "MMDDYY")):
        return conventions.sas_dates(found, "s" if form.startswith(("DATETIME", "E8601DT")) else "D")
    return found
