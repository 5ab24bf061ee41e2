"""Comma-separated files: ids stay text, numbers are numbers, and a damaged line is told by its number."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from kapstats.data import conventions
from kapstats.errors import DataError, first_ids

NUMERAL = re.compile(r"\s*[-+]?(\d|\.\d|inf)", re.IGNORECASE)
MISSING = ["", "NA", "NaN", "nan", "."]
BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


def read(path: Path, encoding: str | None = None) -> pd.DataFrame:
    """The table in `path`; empty cells, NA and . are missing."""
    return texts(path, encoding).apply(typed, source=path.name)


def texts(path: Path, encoding: str | None = None) -> pd.DataFrame:
    """The table in `path`, every cell as it is printed."""
    text = _decode(path, encoding)
    names = header(path, text)
    same_width(path, io.StringIO(text), len(names))
    frame = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False, na_values=MISSING, skip_blank_lines=True)
    return frame.set_axis(names, axis=1)


def encoding_of(path: Path, given: str | None) -> str:
    """The encoding given, else what a byte-order mark says, else UTF-8."""
    with path.open("rb") as file:
        start = file.read(3)
    return given or next((name for mark, name in BOMS if start.startswith(mark)), "utf-8")


def _decode(path: Path, encoding: str | None) -> str:
    name = encoding_of(path, encoding)
    try:
        text = path.read_bytes().decode(name)
    except (UnicodeDecodeError, LookupError) as error:
        raise other_encoding(path, name, error) from error
    if "\x00" in text:
        raise holds_nul(path)
    return text


def other_encoding(path: Path, name: str, error: Exception) -> DataError:
    """The error of a text in another encoding than `name`."""
    where = f"byte {error.start}" if isinstance(error, UnicodeDecodeError) else "the codec"
    return DataError(
        f"{path.name}: this is not {name} text ({where} cannot be read). "
        "Save it as UTF-8, or say encoding='cp1252' (Windows) or 'latin-1' (kapstats run: --encoding cp1252)."
    )


def holds_nul(path: Path) -> DataError:
    """The error of a file that is no text."""
    return DataError(f"{path.name}: holds NUL characters; this is no text file. Is it another format, renamed?")


def header(path: Path, text: str) -> list[str]:
    """The names of the columns, from the first line of `text` that is not empty."""
    lines = (row for row in csv.reader(io.StringIO(text)) if row)
    try:
        names = [name.strip() for name in next(lines)]
    except (StopIteration, csv.Error) as error:
        raise DataError(f"{path.name}: there is no header line.") from error
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        raise DataError(f"{path.name}: the header is one name, {names[0]!r}. Separate the columns by commas.")
    if "" in names:
        raise DataError(f"{path.name}: column {names.index('') + 1} has no name in the header line.")
    conventions.check_names(path.name, names)
    return names


def same_width(path: Path, lines: Iterable[str], width: int) -> None:
    """Every line has as many fields as the header: a shorter one is a truncated or damaged line."""
    reader = csv.reader(lines, strict=True)
    try:
        for row in reader:
            if row and len(row) != width:
                raise DataError(
                    f"{path.name}: line {reader.line_num} has {len(row)} fields, the header has {width}. "
                    "The file is truncated, or a text with a comma is not in quotes."
                )
    except csv.Error as error:
        raise DataError(f"{path.name}: line {reader.line_num} cannot be read ({error}).") from error


def typed(values: pd.Series, source: str) -> pd.Series:
    """The column as numbers where ADaM or its values say so; a text with leading zeros stays text."""
    name, there = str(values.name), values.dropna()
    if conventions.is_text(name):
        return _truth(values, there) if name.upper().endswith("FL") else values
    if not conventions.is_number(name) and len(there) and not NUMERAL.match(str(there.iloc[0])):
        return _truth(values, there)  # the first value is no number: a text column, told at once
    stripped = there.str.strip()
    stripped, there = stripped[stripped != ""], there[stripped != ""]
    numbers = conventions.numbers(stripped)
    bad = there[numbers.isna()]
    if conventions.is_number(name) and len(bad):
        raise DataError(
            f"{source}: {name} holds numbers, but {len(bad)} of {len(there)} values are text ({first_ids(bad)}). "
            "Correct them; a missing value is an empty cell, NA or a point."
        )
    if len(there) == 0:
        return values.astype(float) if conventions.is_number(name) else values
    if len(bad) or stripped.str.match(r"[-+]?0\d").any():
        return values
    return numbers.reindex(values.index)


def _truth(values: pd.Series, there: pd.Series) -> pd.Series:
    """A column of TRUE and FALSE without gaps as booleans, any other as it is."""
    if len(there) < len(values) or not there.isin(["TRUE", "FALSE", "True", "False"]).all():
        return values
    return there.str.upper() == "TRUE"
