"""One table from one file: csv, parquet, SAS transport (xpt), sas7bdat, Dataset-JSON."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from kapstats.data import conventions, dataset_json, delimited, xport
from kapstats.errors import DataError, nearest

#: what pandas calls an index without a name
NO_NAME = re.compile(r"__index_level_\d+__")


def is_path(data: Any) -> bool:
    """Whether `data` names a file."""
    return isinstance(data, (str, Path))


def read_table(path: str | Path, *, encoding: str | None = None) -> pd.DataFrame:
    """The table in `path`, by its ending; variable labels in ``frame.attrs["labels"]``.

    Parameters
    ----------
    path : .csv, .parquet, .xpt (versions 5 and 8), .sas7bdat, .json or .ndjson (Dataset-JSON 1.1)
    encoding : of the text; by default UTF-8, and for sas7bdat what the file says

    Raises
    ------
    DataError
        When the file is missing, empty, truncated, damaged or of another kind, or its text is in another encoding.
    """
    path = Path(path)
    if not path.is_file():
        near = nearest(path.name, (p.name for p in path.parent.glob("*"))) if path.parent.is_dir() else ""
        raise DataError(f"{path}: no such file.{near}")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path.name}: ending {path.suffix!r} is not read. Use one of {', '.join(READERS)}.")
    if not path.stat().st_size:
        raise DataError(f"{path.name}: the file is empty (0 bytes).")
    frame = reader(path, encoding)
    conventions.check_names(path.name, [str(c) for c in frame.columns])
    return conventions.with_dates(conventions.trimmed(frame, path.name))


def _parquet(path: Path, encoding: str | None) -> pd.DataFrame:
    try:
        return as_pandas(open_parquet(path).read())
    except Exception as error:  # pyarrow raises its own family for damaged files
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path.name}: this is no complete parquet file ({_first_line(error)}).") from error


def open_parquet(path: Path) -> Any:
    """The parquet file, before any of its rows are read."""
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise DataError(f"{path.name}: reading parquet needs pyarrow. Install kapstats[scale].") from error
    return parquet.ParquetFile(path)


def as_pandas(table: Any) -> pd.DataFrame:
    """The columns of an arrow table; an index that has a name is a column, one without is none."""
    frame = table.drop([c for c in table.schema.names if NO_NAME.fullmatch(c)]).to_pandas(ignore_metadata=True)
    empty = [f.name for f in table.schema if str(f.type) == "null" and conventions.is_number(f.name)]
    return frame.astype(dict.fromkeys(empty, float))


def _sas7bdat(path: Path, encoding: str | None) -> pd.DataFrame:
    """A sas7bdat file; a file cut short is an error even where its rows could be read in part."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader: Any = pd.read_sas(path, format="sas7bdat", encoding=encoding or "infer", iterator=True)
            with reader:
                frame = reader.read()
                labels = {c.name: c.label for c in reader.columns if c.label}
                expected = reader.row_count
    except Exception as error:  # the parser fails in many ways on damaged files
        raise DataError(f"{path.name}: this is no complete sas7bdat file ({_first_line(error)}).") from error
    if len(frame) != expected:
        raise DataError(f"{path.name}: truncated; it states {expected} rows and holds {len(frame)}.")
    frame.attrs["labels"] = {_as_text(k): _as_text(v) for k, v in labels.items()}
    return frame.set_axis([_as_text(c) for c in frame.columns], axis=1)


def _as_text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


READERS: dict[str, Callable[[Path, str | None], pd.DataFrame]] = {
    ".csv": delimited.read,
    ".parquet": _parquet,
    ".xpt": xport.read,
    ".sas7bdat": _sas7bdat,
    ".json": dataset_json.read,
    ".ndjson": dataset_json.read,
}
