"""SAS transport files, versions 5 and 8, after the record layout that SAS publishes (TS-140).

A file is a sequence of 80-byte records: library header, member header, one descriptor of 140 bytes per variable
("namestr"), and the observations as fixed-length rows, padded with blanks to a full record. Numbers are IBM
hexadecimal floating point: (-1)^s * 16^(e - 64) * f, with a 7-bit exponent and a 56-bit fraction 0.f.

Values stand in a row in the order of the descriptors, without gaps. A descriptor also states a position, but that is
not where the value is: SAS's own macro for version 8 (%LOC2XPT) copies it from the dataset, where numbers come first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kapstats._types import FloatArray
from kapstats.data import sas
from kapstats.data.conventions import check_names
from kapstats.errors import DataError, warn

RECORD = 80
MARK = b"HEADER RECORD*******"
#: what text is taken for that is not UTF-8: the encoding of SAS in western Windows
WESTERN = "cp1252"


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable: its place in a row of bytes, and the one its descriptor states."""

    name: str
    label: str
    numeric: bool
    length: int
    position: int
    stated: int
    format: str


@dataclass(frozen=True, slots=True)
class Contents:
    """What a transport file holds, mapped into memory: nothing is read before it is asked for.

    rows : (n, width) bytes
    dates : numeric variables that are dates, and how, judged by all rows
    """

    variables: tuple[Variable, ...]
    rows: Any
    encoding: str
    name: str
    dates: dict[str, sas.Dates]

    def table(self, start: int = 0, stop: int | None = None, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The rows from `start` to `stop` as a frame, labels in ``attrs["labels"]``."""
        chosen = [v for v in self.variables if columns is None or v.name in columns]
        rows = self.rows[start:stop]
        try:
            made = {v.name: _column(rows, v, self.encoding, self.dates.get(v.name)) for v in chosen}
        except UnicodeDecodeError as error:
            raise _other_encoding(self.name, self.encoding, error) from error
        frame = pd.DataFrame(made)
        frame.attrs["labels"] = {v.name: v.label for v in chosen if v.label}
        return frame


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
    try:
        variables, start, count, text = _header(head, members[0], long_names, encoding)
        rows = _rows(raw[start:], sum(v.length for v in variables), count, path.name)
    except UnicodeDecodeError as error:
        raise _other_encoding(path.name, encoding or WESTERN, error) from error
    except (ValueError, IndexError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path.name}: truncated or damaged in its headers ({error}).") from error
    check_names(path.name, [v.name for v in variables])
    _say(path.name, variables, long_names, count is None and not len(rows))
    if encoding is None:
        text = _guessed(rows, variables, text, path.name)
    return Contents(tuple(variables), rows, text, path.name, _dates(rows, variables, path.name))


def _say(name: str, variables: Sequence[Variable], long_names: bool, empty: bool) -> None:
    if empty:  # version 5 states no number of rows
        warn(f"{name}: has no rows; it is empty, or cut right behind its header. Check the file's size.")
    if not long_names and any(v.stated != v.position for v in variables):
        warn(
            f"{name}: its descriptors state positions that are not those of the variables in their order. "
            "Values are read in the order of the variables; compare some of them with the source."
        )


def _header(
    head: bytes, member: int, long_names: bool, encoding: str | None
) -> tuple[list[Variable], int, int | None, str]:
    """As `_describe`, and the encoding: the one given, else UTF-8, else cp1252."""
    if encoding is None:
        try:
            return *_describe(head, member, long_names, "utf-8"), "utf-8"
        except UnicodeDecodeError:
            encoding = WESTERN
    return *_describe(head, member, long_names, encoding), encoding


def _guessed(rows: Any, variables: Sequence[Variable], header: str, name: str) -> str:
    """UTF-8, else cp1252 with a warning: a transport file does not say its encoding."""
    if header != WESTERN and _cannot_decode(rows, variables, "utf-8") is None:
        return "utf-8"
    error = _cannot_decode(rows, variables, WESTERN)
    if error is not None:
        raise _other_encoding(name, "utf-8", error) from error
    warn(f"{name}: its text is not UTF-8; read as cp1252 (Windows). Say encoding= if that is another one.")
    return WESTERN


def _cannot_decode(rows: Any, variables: Sequence[Variable], encoding: str) -> UnicodeDecodeError | None:
    """The first error of a text; most are ASCII, which is told at once."""
    for block in (b for v in variables if not v.numeric and v.length for b in _blocks(rows, v)):
        cells = block[(block >= 0x80).any(axis=1)].view(f"S{block.shape[1]}").ravel()
        try:
            for cell in set(cells.tolist()):
                cell.decode(encoding)
        except UnicodeDecodeError as error:
            return error
    return None


def _blocks(rows: Any, variable: Variable, size: int = 100_000) -> Iterator[Any]:
    yield from (_block(rows[at : at + size], variable) for at in range(0, len(rows), size))


def _dates(rows: Any, variables: Sequence[Variable], name: str) -> dict[str, sas.Dates]:
    """The variables that are dates, judged by all of their values."""
    judges = [(v, judge) for v in variables if v.numeric and (judge := sas.Judge(v.name, v.format)).unit]
    for variable, judge in judges:
        for block in _blocks(rows, variable):
            judge.see(pd.Series(ibm_to_float(block)))
    return {v.name: dates for v, judge in judges if (dates := judge.dates(name))}


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
    variables = _placed(
        [_variable(raw[begin + i * size : begin + (i + 1) * size], encoding, long_names) for i in range(number)]
    )
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


def _variable(block: bytes, encoding: str, long_names: bool) -> Variable:
    """A namestr: type, length, name, label, format, position; version 8 has the long name in its last part."""
    if len(block) < 88:
        raise ValueError("a variable descriptor is cut")
    short, label, long = (_text(block[a:b], encoding) for a, b in ((8, 16), (16, 56), (88, 120)))
    return Variable(
        name=(long.strip("\x00") if long_names else "") or short,
        label=label,
        numeric=_int(block, 0, 2) == 1,
        length=_int(block, 4, 2),
        position=0,
        stated=_int(block, 84, 4),
        format=_text(block[56:64], encoding).strip("\x00"),
    )


def _placed(variables: list[Variable]) -> list[Variable]:
    """The variables at their places: one behind the other, in their order."""
    for v in variables:
        if v.numeric and not 2 <= v.length <= 8:
            raise ValueError(f"{v.name} is a number of {v.length} bytes, not 2 to 8")
    starts = accumulate((v.length for v in variables), initial=0)
    return [replace(v, position=start) for v, start in zip(variables, starts, strict=False)]


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
        found[fields[0] - 1] = replace(old, name=texts[0] or old.name, label=texts[1], format=form)
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
    return np.ascontiguousarray(rows[:, variable.position : variable.position + variable.length])


def _column(rows: Any, variable: Variable, encoding: str, dates: sas.Dates | None) -> pd.Series:
    block = _block(rows, variable)
    if not variable.numeric:
        return _texts(block, encoding)
    numbers = pd.Series(ibm_to_float(block))
    return dates.read(numbers) if dates else numbers


def _texts(block: Any, encoding: str) -> pd.Series:
    """Texts, each distinct one decoded once; blank ones are missing."""
    cells = block.view(f"S{block.shape[1]}").ravel() if block.shape[1] else np.zeros(len(block), dtype="S1")
    codes, unique = pd.factorize(cells.astype(object))
    texts = [_text(cell, encoding) or np.nan for cell in unique]
    return pd.Series(np.array([*texts, None], dtype=object)[codes], dtype="object")


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
