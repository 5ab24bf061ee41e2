"""Comma-separated files: ids stay text, numbers are numbers, and a damaged line is told by its number."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pandas as pd

from kapstats.data import conventions
from kapstats.errors import DataError, first_ids

NUMERAL = re.compile(r"\s*[-+]?(\d|\.\d|inf)", re.IGNORECASE)
MISSING = ["", "NA", "NaN", "nan", "."]
BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


def read(path: Path, encoding: str | None = None) -> pd.DataFrame:
    """The table in `path`; empty cells, NA and . are missing."""
    text = _decode(path, encoding)
    header = _header(path, text)
    _same_width(path, text, len(header))
    frame = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False, na_values=MISSING, skip_blank_lines=True)
    return frame.set_axis(header, axis=1).apply(_typed, source=path.name)


def _decode(path: Path, encoding: str | None) -> str:
    raw = path.read_bytes()
    marked = next((name for mark, name in BOMS if raw.startswith(mark)), "utf-8")
    try:
        text = raw.decode(encoding or marked)
    except (UnicodeDecodeError, LookupError) as error:
        where = f"byte {error.start}" if isinstance(error, UnicodeDecodeError) else "the codec"
        raise DataError(
            f"{path.name}: this is not {encoding or marked} text ({where} cannot be read). "
            "Save it as UTF-8, or say encoding='cp1252' (Windows) or 'latin-1' (kapstats run: --encoding cp1252)."
        ) from error
    if "\x00" in text:
        raise DataError(f"{path.name}: holds NUL characters; this is no text file. Is it another format, renamed?")
    return text


def _header(path: Path, text: str) -> list[str]:
    lines = (row for row in csv.reader(io.StringIO(text)) if row)
    try:
        header = [name.strip() for name in next(lines)]
    except (StopIteration, csv.Error) as error:
        raise DataError(f"{path.name}: there is no header line.") from error
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
        raise DataError(f"{path.name}: the header is one name, {header[0]!r}. Separate the columns by commas.")
    if "" in header:
        raise DataError(f"{path.name}: column {header.index('') + 1} has no name in the header line.")
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise DataError(f"{path.name}: column {twice[0]!r} stands {header.count(twice[0])} times in the header.")
    return header


def _same_width(path: Path, text: str, width: int) -> None:
    """Every line has as many fields as the header: a shorter one is a truncated or damaged line."""
    reader = csv.reader(io.StringIO(text), strict=True)
    try:
        for row in reader:
            if row and len(row) != width:
                raise DataError(
                    f"{path.name}: line {reader.line_num} has {len(row)} fields, the header has {width}. "
                    "The file is truncated, or a text with a comma is not in quotes."
                )
    except csv.Error as error:
        raise DataError(f"{path.name}: line {reader.line_num} cannot be read ({error}).") from error


def _typed(values: pd.Series, source: str) -> pd.Series:
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
