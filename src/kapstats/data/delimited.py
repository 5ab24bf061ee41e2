"""Comma-separated files: ids stay text, numbers are numbers, and a damaged line is told by its number."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from kapstats.data import conventions
from kapstats.errors import DataError, first_ids, warn

NUMERAL = re.compile(r"[-+]?(\d|\.\d|inf)", re.IGNORECASE)
WHOLE = re.compile(r"[-+]?\d+")
#: "007" is not numeric, nor is "1E2" beside whole numbers (a well of a plate, a kit)
LEADING_ZERO = re.compile(r"[-+]?0\d")
LETTERED = re.compile(r"\d+[eE]\d+")
MISSING = ("", "NA", "NaN", "nan", ".")
#: among numbers these too stand for a missing value, and are told; in a text they are text
WORDS = {"n/a", "na", "nan", "#n/a", "<na>", "null", "none"}
LOGICAL = {"TRUE", "FALSE", "True", "False"}
#: a column with no larger share of texts than this was meant to be numeric
FEW = 0.1
BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


def read(path: Path, encoding: str | None = None, missing: Sequence[str] | None = None) -> pd.DataFrame:
    """The table in `path`; empty cells, NA and . are missing (or what `missing` says)."""
    table, signs = texts(path, encoding, missing), Signs.of(missing)
    kinds = {name: judge(table[name], signs) for name in table.columns}
    tell(path.name, kinds)
    return pd.DataFrame({name: give(table[name], kinds[name], signs, path.name) for name in table.columns})


def texts(path: Path, encoding: str | None = None, missing: Sequence[str] | None = None) -> pd.DataFrame:
    """The table in `path`, every cell as it is printed."""
    text = _decode(path, encoding)
    names = header(path, text)
    same_width(path, io.StringIO(text), len(names))
    signs = list(Signs.of(missing).exact)
    frame = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False, na_values=signs, skip_blank_lines=True)
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
    except UnicodeDecodeError as error:
        raise other_encoding(path, name, error) from error
    if "\x00" in text:
        raise holds_nul(path)
    return text


def other_encoding(path: Path, name: str, error: UnicodeDecodeError) -> DataError:
    """The error of a text in another encoding than `name`."""
    return DataError(
        f"{path.name}: this is not {name} text (byte {error.start} cannot be read). "
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


# ------------------------------------------------------------------------------------------------ types of columns


@dataclass(frozen=True, slots=True)
class Signs:
    """What stands for a missing value: `exact` as such and between blanks; `words` (in lower case) among numbers."""

    exact: frozenset[str]
    words: frozenset[str]

    @classmethod
    def of(cls, missing: Sequence[str] | None) -> Signs:
        """The signs given, else those of the house."""
        if missing is None:
            return cls(frozenset(MISSING), frozenset(WORDS))
        if isinstance(missing, str):
            raise DataError(f"missing={missing!r} is one text; give a list, such as ['', '.'].")
        return cls(frozenset({"", *map(str, missing)}), frozenset())


@dataclass(frozen=True, slots=True)
class Kind:
    """What has been seen of the cells of one column; the kinds of parts add up to that of the whole.

    cells, numbers, logical : how many say something; are numbers; are TRUE or FALSE
    gaps : cells that are missing
    signs, words : signs of a missing value between blanks, and words for it: how often
    bad : the first cells that are no numbers
    whole, zeros, long, lettered, pointed : every number is whole; some number has leading zeros, is whole and beyond
        2^53, is written as 1E2, has a point
    """

    name: str
    cells: int = 0
    numbers: int = 0
    logical: int = 0
    gaps: int = 0
    signs: Counter[str] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)
    bad: tuple[str, ...] = ()
    whole: bool = True
    zeros: bool = False
    long: bool = False
    lettered: bool = False
    pointed: bool = False

    def __add__(self, other: Kind) -> Kind:
        a, b = self, other
        return Kind(
            a.name, a.cells + b.cells, a.numbers + b.numbers, a.logical + b.logical, a.gaps + b.gaps,
            a.signs + b.signs, a.words + b.words, (*a.bad, *b.bad)[:9], a.whole and b.whole, a.zeros or b.zeros,
            a.long or b.long, a.lettered or b.lettered, a.pointed or b.pointed,
        )  # fmt: skip

    @property
    def type(self) -> str:
        """``"number"``, ``"logical"`` or ``"text"``."""
        named, text = conventions.is_number(self.name), conventions.is_text(self.name)
        may_be_logical = not named and (not text or self.name.upper().endswith("FL"))
        if may_be_logical and self.cells == self.logical > 0 and not self.missing and not self.words:
            return "logical"
        if named:
            return "number"
        codes = self.zeros or self.long or (self.lettered and not self.pointed)
        return "number" if not text and self.numbers == self.cells > 0 and not codes else "text"

    @property
    def missing(self) -> int:
        """Cells without a value, or with a sign for it."""
        return self.gaps + self.signs.total()


def judge(values: pd.Series, signs: Signs) -> Kind:
    """What the cells of one part of a column are."""
    codes, unique = pd.factorize(values)
    times = np.bincount(codes[codes >= 0], minlength=len(unique))
    told = [(str(u), str(u).strip(), int(n)) for u, n in zip(unique, times, strict=True)]
    padded = Counter({u: n for u, s, n in told if s and s in signs.exact})
    words = Counter({u: n for u, s, n in told if s not in signs.exact and s.lower() in signs.words})
    said = [(s, n) for u, s, n in told if s and u not in padded and u not in words]
    gaps = int((codes < 0).sum()) + sum(n for _, s, n in told if not s)
    logical = sum(n for s, n in said if s in LOGICAL)
    name, cells = str(values.name), sum(n for _, n in said)
    seen = Kind(name, cells, logical=logical, gaps=gaps, signs=padded, words=words)
    if conventions.is_text(name) or not said:
        return seen
    if not conventions.is_number(name) and not any(NUMERAL.match(s) for s, _ in said[:50]):
        return replace(seen, bad=tuple(s for s, _ in said[:9]))  # a text column, told at once
    return seen + _judge_numbers(name, said)


def _judge_numbers(name: str, said: list[tuple[str, int]]) -> Kind:
    """The part of a kind that is about numbers."""
    cells = [s for s, _ in said]
    known = conventions.numbers(pd.Series(cells, dtype="object")).notna().tolist()
    bad = tuple(s for s, ok in zip(cells, known, strict=True) if not ok)
    whole = [s for s in cells if WHOLE.fullmatch(s)]
    return Kind(
        name,
        numbers=sum(n for (_, n), ok in zip(said, known, strict=True) if ok),
        bad=bad[:9],
        whole=len(whole) == len(cells),
        zeros=any(LEADING_ZERO.match(s) for s in cells),
        long=any(len(s) > 15 and (len(s) > 400 or abs(int(s)) > conventions.EXACT) for s in whole),
        lettered=any(LETTERED.fullmatch(s) for s in cells),
        pointed=any("." in s for s in cells),
    )


def give(values: pd.Series, kind: Kind, signs: Signs, source: str) -> pd.Series:
    """One part of a column, typed as the whole; signs of a missing value are missing."""
    if kind.type == "logical":
        return values.str.strip().str.upper() == "TRUE"
    if kind.type == "text":
        return values.where(~values.isin(list(kind.signs))) if kind.signs else values
    if kind.numbers < kind.cells:
        raise DataError(
            f"{source}: {kind.name} holds numbers, but {kind.cells - kind.numbers} of {kind.cells} values are text "
            f"({first_ids(kind.bad)}). Correct them; a missing value is an empty cell, NA or a point "
            "(read_adam(missing=...) names other signs)."
        )
    codes, unique = pd.factorize(values)
    stripped = pd.Series([str(u).strip() for u in unique], dtype="object")
    absent = stripped.isin(list(signs.exact)) | stripped.str.lower().isin(list(signs.words))
    found = conventions.numbers(stripped.where(~absent)).to_numpy(dtype=float)
    made = np.append(found, np.nan)[codes]
    whole = kind.whole and kind.cells and not kind.long and not kind.missing and not kind.words
    return pd.Series(made.astype(np.int64) if whole else made, index=values.index, name=values.name)


def tell(source: str, kinds: dict[str, Kind]) -> None:
    """Warn of signs that were taken for missing values without being the usual ones, and of numbers left as text."""
    told = []
    for name, kind in kinds.items():
        signs = kind.signs + kind.words if kind.type == "number" else kind.signs
        if signs:
            told.append(f"{name} {signs.total()} ({first_ids([repr(s) for s in signs], 3)})")
    if told:
        warn(f"{source}: read as missing, in {', '.join(told)}. Give missing= to read_adam if they are not.")
    for kind in kinds.values():
        others = kind.cells - kind.numbers
        if kind.type == "text" and (0 < others <= kind.cells * FEW or (not others and kind.lettered)):
            shown = first_ids(map(repr, kind.bad), 3) if others else "some are written as 1E2"
            warn(
                f"{source}: {kind.name} stays text, though {kind.numbers} of {kind.cells} values are numbers ({shown})."
            )
