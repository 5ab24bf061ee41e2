"""SAS transport files, versions 5 and 8, after the record layout that SAS publishes (TS-140).

A file is a sequence of 80-byte records: library header, member header, one descriptor of 140 bytes per variable
("namestr"), and the observations as fixed-length rows, padded with blanks to a full record. Numbers are IBM
hexadecimal floating point: (-1)^s * 16^(e - 64) * f, with a 7-bit exponent and a 56-bit fraction 0.f.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from kapstats._types import FloatArray
from kapstats.data.conventions import is_date, sas_dates
from kapstats.errors import DataError, KapstatsWarning

RECORD = 80
MARK = b"HEADER RECORD*******"
DATE_FORMATS = re.compile(r"(DATE|DDMMYY|MMDDYY|YYMMDD|E8601DA|B8601DA|WEEKDATE|WORDDATE|JULIAN|IS8601DA)[BCDNPS]?\d*")
DATE_TIME_FORMATS = re.compile(r"(DATETIME|E8601DT|B8601DT|IS8601DT|DATEAMPM)\d*")


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable: its place in a row of bytes."""

    name: str
    label: str
    numeric: bool
    length: int
    position: int
    format: str


def read(path: Path, encoding: str | None = None) -> pd.DataFrame:
    """The one dataset in the transport file `path`, labels in ``attrs["labels"]``."""
    raw = path.read_bytes()
    if not raw.startswith(MARK + b"LIB"):
        raise DataError(f"{path.name}: this is no SAS transport file (its header record is missing).")
    if len(raw) % RECORD:
        raise DataError(f"{path.name}: truncated; {len(raw)} bytes are not a whole number of 80-byte records.")
    long_names = raw.startswith(MARK + b"LIBV8")
    members = [m.start() for m in re.finditer(re.escape(MARK + (b"MEMBV8" if long_names else b"MEMBER")), raw)]
    if len(members) != 1:
        raise DataError(f"{path.name}: holds {len(members)} datasets; one is read per file. Split it.")
    text = encoding or "utf-8"
    try:
        variables, start, count = _describe(raw, members[0], long_names, text)
        rows = _rows(raw[start:], sum(v.length for v in variables), count, path.name)
        columns = {v.name: _column(rows, v, text) for v in variables}
        if count is None and not len(rows):  # version 5 states no number of rows
            message = f"{path.name}: has no rows; it is empty, or cut right behind its header. Check the file's size."
            warnings.warn(message, KapstatsWarning, stacklevel=2)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path.name}: its text is not {text} ({error.reason}). "
            "Say encoding='cp1252' (Windows) or 'latin-1' (kapstats run: --encoding cp1252)."
        ) from error
    except (ValueError, IndexError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path.name}: truncated or damaged in its headers ({error}).") from error
    if len(columns) != len(variables):
        raise DataError(f"{path.name}: two variables have the same name.")
    frame = pd.DataFrame(columns)
    frame.attrs["labels"] = {v.name: v.label for v in variables if v.label}
    return frame


def _describe(raw: bytes, member: int, long_names: bool, encoding: str) -> tuple[list[Variable], int, int | None]:
    """The variables, where the observations begin, and (version 8) how many there are."""
    size = int(raw[member + 74 : member + 78])
    names = _find(raw, b"NAMSTV8" if long_names else b"NAMESTR", member)
    number = int(raw[names + 48 : names + 58])
    begin = names + RECORD
    variables = [_variable(raw[begin + i * size : begin + (i + 1) * size], encoding) for i in range(number)]
    observations = _find(raw, b"OBSV8" if long_names else b"OBS     ", begin + number * size)
    count = None
    if long_names:
        variables = _long_labels(raw, variables, begin + number * size, observations, encoding)
        stated = raw[observations + 48 : observations + 63].strip()
        count = int(stated) or None if stated.isdigit() else None  # some writers leave zeros
    return variables, observations + RECORD, count


def _find(raw: bytes, kind: bytes, start: int) -> int:
    at = raw.find(MARK + kind, start)
    if at < 0:
        raise ValueError(f"no {kind.decode().strip()} record")
    return at


def _variable(block: bytes, encoding: str) -> Variable:
    """A namestr: type, length, name, label, format, position; version 8 has the long name in its last part."""
    if len(block) < 88:
        raise ValueError("a variable descriptor is cut")
    short, label, long = (_text(block[a:b], encoding) for a, b in ((8, 16), (16, 56), (88, 120)))
    is_long_name = long.strip("\x00") != "" and long.upper().startswith(short.upper()[:8])
    return Variable(
        name=long.strip("\x00") if is_long_name else short,
        label=label,
        numeric=_int(block, 0, 2) == 1,
        length=_int(block, 4, 2),
        position=_int(block, 84, 4),
        format=_text(block[56:64], encoding),
    )


def _long_labels(raw: bytes, variables: list[Variable], start: int, end: int, encoding: str) -> list[Variable]:
    """Version 8: names and labels that did not fit, from the label records (9 adds formats)."""
    at = raw.find(MARK + b"LABELV", start, end)
    if at < 0:
        return variables
    extended = raw[at + len(MARK) : at + len(MARK) + 7] == b"LABELV9"
    count, at = int(raw[at + 48 : at + 58]), at + RECORD
    found = list(variables)
    for _ in range(count):
        fields = [_int(raw, at + 2 * i, 2) for i in range(5 if extended else 3)]
        at += 2 * len(fields)
        texts = []
        for length in fields[1:]:
            texts.append(_text(raw[at : at + length], encoding))
            at += length
        old = found[fields[0] - 1]
        form = texts[2] if extended and texts[2] else old.format
        found[fields[0] - 1] = Variable(texts[0], texts[1], old.numeric, old.length, old.position, form)
    return found


def _rows(body: bytes, width: int, count: int | None, name: str) -> np.ndarray:
    """(rows, width) bytes; blanks that fill the last record are no row, anything else left over is a cut row."""
    if not width:
        raise DataError(f"{name}: has no variables.")
    if count is None:
        count = len(body) // width
        while count and (len(body) - (count - 1) * width) <= RECORD and not body[(count - 1) * width :].strip(b" "):
            count -= 1
    if len(body) < count * width:
        raise DataError(f"{name}: truncated; it states {count} rows and holds {len(body) // width}.")
    if body[count * width :].strip(b" ") or len(body) - count * width >= RECORD:
        raise DataError(f"{name}: truncated; the last row is cut after {len(body) - count * width} of {width} bytes.")
    return np.frombuffer(body[: count * width], dtype=np.uint8).reshape(count, width)


def _column(rows: np.ndarray, variable: Variable, encoding: str) -> pd.Series:
    block = np.ascontiguousarray(rows[:, variable.position : variable.position + variable.length])
    if block.shape[1] != variable.length:
        raise ValueError(f"{variable.name} lies outside its row")
    if not variable.numeric:
        texts = [_text(cell.tobytes(), encoding) for cell in block]
        return pd.Series([t or np.nan for t in texts], dtype="object")
    numbers = pd.Series(ibm_to_float(block))
    if DATE_TIME_FORMATS.fullmatch(variable.format):
        return sas_dates(numbers, "s")
    if DATE_FORMATS.fullmatch(variable.format) or (not variable.format and _looks_dated(variable.name, numbers)):
        return sas_dates(numbers, "D")
    return numbers


def _looks_dated(name: str, numbers: pd.Series) -> bool:
    """A numeric DT variable without a format whose values are whole days of the years 1900 to 2100."""
    there = numbers.dropna()
    return is_date(name) and len(there) > 0 and bool(((there % 1 == 0) & there.between(-21914, 51500)).all())


def ibm_to_float(block: np.ndarray) -> FloatArray:
    """IBM hexadecimal floats, (n, 2..8) bytes, as IEEE; SAS missing values (., ._, .A to .Z) as NaN."""
    padded = np.zeros((len(block), 8), dtype=np.uint8)
    padded[:, : block.shape[1]] = block
    word = padded.view(">u8").ravel().astype(np.uint64)
    fraction = (word & np.uint64((1 << 56) - 1)).astype(np.float64)
    exponent = ((word >> np.uint64(56)) & np.uint64(0x7F)).astype(np.int64)
    value = np.ldexp(fraction, (4 * (exponent - 64) - 56).astype(np.int32))
    value = np.where(word >> np.uint64(63), -value, value)
    first = padded[:, 0]
    lettered = (first == ord(".")) | (first == ord("_")) | ((first >= ord("A")) & (first <= ord("Z")))
    return np.where(lettered & (fraction == 0), np.nan, value)


def _int(block: bytes, start: int, size: int) -> int:
    if len(block) < start + size:
        raise ValueError("a header is cut")
    return int.from_bytes(block[start : start + size], "big")


def _text(block: bytes, encoding: str) -> str:
    return block.decode(encoding).rstrip(" \x00")
