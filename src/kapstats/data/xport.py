"""SAS transport files, versions 5 and 8, after the record layout that SAS publishes (TS-140).

A file is a sequence of 80-byte records: library header, member header, one descriptor of 140 bytes per variable
("namestr"), and the observations as fixed-length rows, padded with blanks to a full record. Numbers are IBM
hexadecimal floating point: (-1)^s * 16^(e - 64) * f, with a 7-bit exponent and a 56-bit fraction 0.f.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kapstats._types import FloatArray
from kapstats.data.conventions import check_names, is_date, sas_dates
from kapstats.errors import DataError, warn

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


@dataclass(frozen=True, slots=True)
class Contents:
    """What a transport file holds, mapped into memory: nothing is read before it is asked for.

    rows : (n, width) bytes
    """

    variables: tuple[Variable, ...]
    rows: Any
    encoding: str
    name: str

    def table(self, start: int = 0, stop: int | None = None, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The rows from `start` to `stop` as a frame, labels in ``attrs["labels"]``."""
        chosen = [v for v in self.variables if columns is None or v.name in columns]
        try:
            made = {v.name: _column(self.rows[start:stop], v, self.encoding, self._dated(v)) for v in chosen}
        except UnicodeDecodeError as error:
            raise _other_encoding(self.name, self.encoding, error) from error
        except ValueError as error:
            raise DataError(f"{self.name}: truncated or damaged in its headers ({error}).") from error
        frame = pd.DataFrame(made)
        frame.attrs["labels"] = {v.name: v.label for v in chosen if v.label}
        return frame

    def _dated(self, variable: Variable) -> bool:
        """Whether a numeric variable without a format is a date, judged by all of its rows."""
        unknown = variable.numeric and not variable.format and is_date(variable.name)
        return unknown and _looks_dated(pd.Series(ibm_to_float(_block(self.rows, variable))))


def read(path: Path, encoding: str | None = None) -> pd.DataFrame:
    """The one dataset in the transport file `path`, labels in ``attrs["labels"]``."""
    return contents(path, encoding).table()


def contents(path: Path, encoding: str | None = None) -> Contents:
    """The variables and the mapped rows of the one dataset in `path`."""
    raw = np.memmap(path, dtype=np.uint8, mode="r")
    head = _head(raw)
    if not head.startswith(MARK + b"LIB"):
        raise DataError(f"{path.name}: this is no SAS transport file (its header record is missing).")
    if len(raw) % RECORD:
        raise DataError(f"{path.name}: truncated; {len(raw)} bytes are not a whole number of 80-byte records.")
    long_names = head.startswith(MARK + b"LIBV8")
    members = _members(raw, MARK + (b"MEMBV8" if long_names else b"MEMBER"))
    if len(members) != 1:
        raise DataError(f"{path.name}: holds {len(members)} datasets; one is read per file. Split it.")
    text = encoding or "utf-8"
    try:
        variables, start, count = _describe(head, members[0], long_names, text)
        rows = _rows(raw[start:], sum(v.length for v in variables), count, path.name)
    except UnicodeDecodeError as error:
        raise _other_encoding(path.name, text, error) from error
    except (ValueError, IndexError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path.name}: truncated or damaged in its headers ({error}).") from error
    if count is None and not len(rows):  # version 5 states no number of rows
        message = f"{path.name}: has no rows; it is empty, or cut right behind its header. Check the file's size."
        warn(message)
    check_names(path.name, [v.name for v in variables])
    return Contents(tuple(variables), rows, text, path.name)


def _other_encoding(name: str, encoding: str, error: UnicodeDecodeError) -> DataError:
    return DataError(
        f"{name}: its text is not {encoding} ({error.reason}). "
        "Say encoding='cp1252' (Windows) or 'latin-1' (kapstats run: --encoding cp1252)."
    )


def _members(raw: Any, mark: bytes) -> list[int]:
    """Where datasets begin: headers stand at the start of a record."""
    records = raw.reshape(-1, RECORD)
    first = np.flatnonzero(records[:, 0] == mark[0])
    return [int(i) * RECORD for i in first if records[i, : len(mark)].tobytes() == mark]


def _head(raw: Any) -> bytes:
    """Everything before the rows, and one record of them; of a damaged file all of it."""
    step = 1 << 20
    for size in range(step, len(raw) + step, step):
        head: bytes = raw[:size].tobytes()
        at = max(head.find(MARK + b"OBS "), head.find(MARK + b"OBSV8"))
        if at >= 0:
            return head[: at + 2 * RECORD]
    return bytes(raw.tobytes())


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
    stated, at = raw[at + 48 : at + 58].strip(), at + RECORD
    found, left = list(variables), int(stated) if stated else None  # some writers leave the number blank
    while raw[at:end].strip() if left is None else left > 0:
        left = None if left is None else left - 1
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


def _rows(body: Any, width: int, count: int | None, name: str) -> Any:
    """(rows, width) bytes; blanks that fill the last record are no row, anything else left over is a cut row."""
    if not width:
        raise DataError(f"{name}: has no variables.")
    if count is None:
        count = len(body) // width
        while count and (len(body) - (count - 1) * width) <= RECORD and not _filled(body[(count - 1) * width :]):
            count -= 1
    if len(body) < count * width:
        raise DataError(f"{name}: truncated; it states {count} rows and holds {len(body) // width}.")
    left = len(body) - count * width
    if left >= RECORD or _filled(body[count * width :]):
        raise DataError(f"{name}: truncated; the last row is cut after {left} of {width} bytes.")
    return body[: count * width].reshape(count, width)


def _filled(block: Any) -> bool:
    """Whether there is more than blanks."""
    return bool((block != ord(" ")).any())


def _block(rows: Any, variable: Variable) -> Any:
    block = np.ascontiguousarray(rows[:, variable.position : variable.position + variable.length])
    if block.shape[1] != variable.length:
        raise ValueError(f"{variable.name} lies outside its row")
    return block


def _column(rows: Any, variable: Variable, encoding: str, dated: bool) -> pd.Series:
    block = _block(rows, variable)
    if not variable.numeric:
        return _texts(block, encoding)
    numbers = pd.Series(ibm_to_float(block))
    if DATE_TIME_FORMATS.fullmatch(variable.format):
        return sas_dates(numbers, "s")
    return sas_dates(numbers, "D") if dated or DATE_FORMATS.fullmatch(variable.format) else numbers


def _texts(block: Any, encoding: str) -> pd.Series:
    """Texts, each distinct one decoded once; blank ones are missing."""
    cells = block.view(f"S{block.shape[1]}").ravel() if block.shape[1] else np.zeros(len(block), dtype="S1")
    codes, unique = pd.factorize(cells.astype(object))
    texts = [_text(cell, encoding) or np.nan for cell in unique]
    return pd.Series(np.array([*texts, None], dtype=object)[codes], dtype="object")


def _looks_dated(numbers: pd.Series) -> bool:
    """Whole days of the years 1900 to 2100."""
    there = numbers.dropna()
    return len(there) > 0 and bool(((there % 1 == 0) & there.between(-21914, 51500)).all())


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
