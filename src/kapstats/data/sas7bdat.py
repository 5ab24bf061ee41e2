"""SAS datasets (sas7bdat), over the parser of pandas; dates by the rules of `kapstats.data.sas`."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from kapstats.data import sas
from kapstats.errors import DataError


def read(path: Path, encoding: str | None = None) -> pd.DataFrame:
    """The dataset in `path`, labels in ``attrs["labels"]``; a file cut short is an error."""
    (frame,) = _raw(path, None, encoding)
    return _dated(frame, _dates(path.name, [frame]))


def parts(path: Path, rows: int, encoding: str | None = None) -> Iterator[pd.DataFrame]:
    """The same in pieces of `rows` rows, at least one; the file is gone through twice where it has dates."""
    dates = _dates(path.name, _raw(path, rows, encoding))
    for part in _raw(path, rows, encoding):
        yield _dated(part, dates)


def _raw(path: Path, rows: int | None, encoding: str | None) -> Iterator[pd.DataFrame]:
    """The parts with dates as numbers, labels and formats in the attributes."""
    seen = 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader: Any = pd.read_sas(path, format="sas7bdat", encoding=encoding or "infer", iterator=True)
        reader.convert_dates = False
        with reader:
            expected = reader.row_count
            while seen < expected or not seen:
                part = _next(reader, expected - seen if rows is None else rows)
                seen += len(part)
                yield part
                if not len(part):
                    break
    except Exception as error:  # the parser fails in many ways on damaged files
        raise DataError(f"{path.name}: this is no complete sas7bdat file ({first_line(error)}).") from error
    if seen != expected:
        raise DataError(f"{path.name}: truncated; it states {expected} rows and holds {seen}.")


def _next(reader: Any, rows: int) -> pd.DataFrame:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        part = reader.read(rows)
    part = part.set_axis([as_text(c) for c in part.columns], axis=1)
    about = [(as_text(c.name), as_text(c.label), as_text(c.format), as_text(c.ctype)) for c in reader.columns]
    part.attrs["labels"] = {name: label for name, label, _, _ in about if label}
    part.attrs["formats"] = {name: form for name, _, form, kind in about if kind == "d"}
    return part


def _dates(source: str, parts: Iterable[pd.DataFrame]) -> dict[str, sas.Dates]:
    """The numeric variables that are dates, judged by all parts; no more than one is read where there are none."""
    judges: dict[str, sas.Judge] | None = None
    for part in parts:
        if judges is None:
            made = (sas.Judge(name, form) for name, form in part.attrs["formats"].items())
            judges = {judge.name: judge for judge in made if judge.unit}
        if not judges:
            break
        for name, judge in judges.items():
            judge.see(part[name])
    return {name: dates for name, judge in (judges or {}).items() if (dates := judge.dates(source))}


def _dated(part: pd.DataFrame, dates: dict[str, sas.Dates]) -> pd.DataFrame:
    labels = part.attrs["labels"]
    part = part.assign(**{name: how.read(part[name]) for name, how in dates.items()}) if dates else part
    part.attrs = {"labels": labels}
    return part


def as_text(value: Any) -> str:
    """What the parser gives as text or as bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def first_line(error: Exception) -> str:
    """The first line of an error of another library."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
