"""One table from one file: csv, parquet, SAS transport (xpt), sas7bdat, Dataset-JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from kapstats.data import conventions, dataset_json, delimited, sas7bdat, xport
from kapstats.errors import DataError, nearest

#: what pandas calls an index without a name
NO_NAME = re.compile(r"__index_level_\d+__")


def is_path(data: Any) -> bool:
    """Whether `data` names a file."""
    return isinstance(data, (str, Path))


def read_table(path: str | Path, *, encoding: str | None = None, missing: Sequence[str] | None = None) -> pd.DataFrame:
    """The table in `path`, by its ending; variable labels in ``frame.attrs["labels"]``.

    Parameters
    ----------
    path : .csv, .parquet (.pq), .xpt (versions 5 and 8), .sas7bdat, .json or .ndjson (Dataset-JSON 1.0 and 1.1)
    encoding : of the text; by default UTF-8, for xpt else cp1252, and for sas7bdat what the file says
    missing : what stands for a missing value in a csv file, besides an empty cell; by default NA, NaN, nan and a point

    Raises
    ------
    DataError
        When the file is missing, empty, truncated, damaged or of another kind, or its text is in another encoding.
    """
    path = Path(path)
    reader = checked(path, encoding)
    given = {} if missing is None or reader is not delimited.read else {"missing": missing}
    try:
        frame = reader(path, encoding, **given)
    except OSError as error:
        raise not_opened(path, error) from error
    conventions.check_names(path.name, [str(c) for c in frame.columns])
    return conventions.with_dates(plain(frame, path.name))


def plain(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    """`frame` with ids as text and without blanks at the end of texts."""
    return conventions.trimmed(conventions.text_ids(frame), source)


def checked(path: Path, encoding: str | None) -> Callable[..., pd.DataFrame]:
    """The reader of a file that is there, is not empty, and has an ending and an encoding that are read."""
    if not path.is_file():
        raise DataError(f"{path}: {_why_no_file(path)}")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path.name}: ending {path.suffix!r} is not read. Use one of {', '.join(READERS)}.")
    if not path.stat().st_size:
        raise DataError(f"{path.name}: the file is empty (0 bytes).")
    try:
        "".encode(encoding or "utf-8").decode(encoding or "utf-8")
    except (LookupError, UnicodeError) as error:
        raise DataError(f"encoding={encoding!r} is not an encoding of text. Use utf-8, cp1252 or latin-1.") from error
    return reader


def _why_no_file(path: Path) -> str:
    if path.is_symlink() and not path.exists():
        return f"is a link to {path.readlink()}, which is not there."
    if path.is_dir():
        return "is a folder; give a file in it."
    if path.exists():
        return "is a pipe or a device, not a file."
    others = (p.name for p in path.parent.glob("*")) if path.parent.is_dir() else ()
    return f"no such file.{nearest(path.name, others)}"


def not_opened(path: Path, error: OSError) -> DataError:
    """The error of a file that the operating system does not let us read."""
    return DataError(f"{path}: cannot be opened ({error.strerror or error}).")


# ------------------------------------------------------------------------------------------------------- parquet


def _parquet(path: Path, encoding: str | None) -> pd.DataFrame:
    try:
        table = open_parquet(path).read()
        conventions.check_names(path.name, table.schema.names)
        return as_pandas(table, long_numbers(table), set())
    except Exception as error:  # pyarrow raises its own family for damaged files
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path.name}: this is no complete parquet file ({sas7bdat.first_line(error)}).") from error


def open_parquet(path: Path) -> Any:
    """The parquet file, before any of its rows are read."""
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise DataError(f"{path.name}: reading parquet needs pyarrow. Install kapstats[scale].") from error
    return parquet.ParquetFile(path)


def may_be_long(schema: Any) -> list[str]:
    """Columns of whole numbers that a float may not hold and that no ADaM name makes measurements."""
    import pyarrow as pa

    def wide(kind: Any) -> bool:
        return kind in (pa.int64(), pa.uint64()) or (pa.types.is_decimal(kind) and kind.scale <= 0)

    return [f.name for f in schema if wide(f.type) and not conventions.is_number(f.name)]


def long_numbers(table: Any) -> set[str]:
    """Columns with whole numbers beyond 2^53: they identify something, and are text."""
    import pyarrow.compute as compute

    found = set()
    for name in may_be_long(table.schema):
        ends = compute.min_max(table.column(name)).as_py().values()
        if any(end is not None and abs(end) > conventions.EXACT for end in ends):
            found.add(name)
    return found


def null_counts(file: Any) -> dict[str, int | None]:
    """Missing values of each column of a parquet file, by its statistics; None where it has none."""
    found: dict[str, int | None] = {}
    about = file.metadata
    for group in (about.row_group(i) for i in range(about.num_row_groups)):
        for column in (group.column(j) for j in range(about.num_columns) if group.num_rows):
            said, before = column.statistics, found.get(column.path_in_schema, 0)
            known = before is not None and said is not None and said.has_null_count
            found[column.path_in_schema] = before + said.null_count if known else None
    return found


def as_pandas(table: Any, texts: set[str], gaps: set[str]) -> pd.DataFrame:
    """The columns of an arrow table; an index that has a name is a column, one without is none.

    texts : columns of whole numbers that are given as text
    gaps : columns that have missing values in another part of the file: typed as if they had them here
    """
    table = table.drop([c for c in table.schema.names if NO_NAME.fullmatch(c)])
    frame = table.to_pandas(ignore_metadata=True)
    changed: dict[str, pd.Series] = {}
    for field in table.schema:
        dtype = _pandas_type(field, field.name in gaps)
        if field.name in texts:
            numerals = [None if v is None else str(int(v)) for v in table.column(field.name).to_pylist()]
            changed[field.name] = pd.Series(numerals, dtype="object")
        elif dtype:
            changed[field.name] = frame[field.name].astype(dtype)
    return frame.assign(**changed) if changed else frame


def _pandas_type(field: Any, gaps: bool) -> str:
    """The dtype to give a column, where it is not what pyarrow gives these rows."""
    import pyarrow as pa

    empty = str(field.type) == "null" and conventions.is_number(field.name)
    if empty or pa.types.is_decimal(field.type) or (gaps and pa.types.is_integer(field.type)):
        return "float64"
    return "object" if gaps and pa.types.is_boolean(field.type) else ""


READERS: dict[str, Callable[..., pd.DataFrame]] = {
    ".csv": delimited.read,
    ".parquet": _parquet,
    ".pq": _parquet,
    ".xpt": xport.read,
    ".sas7bdat": sas7bdat.read,
    ".json": dataset_json.read,
    ".ndjson": dataset_json.read,
}
