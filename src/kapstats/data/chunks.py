"""Files too large for memory, a number of rows at a time, typed as the whole file would be."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import add
from pathlib import Path
from typing import Any, TextIO

import pandas as pd

from kapstats.data import conventions, delimited, sas7bdat, xport
from kapstats.data.files import (
    as_pandas,
    checked,
    long_numbers,
    may_be_long,
    not_opened,
    null_counts,
    open_parquet,
    plain,
    read_table,
)
from kapstats.errors import DataError
from kapstats.frames import require

Part = Iterator[pd.DataFrame]
Columns = Sequence[str] | None


@dataclass(frozen=True, slots=True)
class Source:
    """A file that is read in parts.

    parts : from the first row, of the columns asked for
    dated : columns whose texts, or dates of Python, may be dates of the table
    """

    parts: Callable[[Columns], Part]
    dated: Sequence[str]


def read_chunks(
    path: str | Path,
    rows: int = 100_000,
    *,
    columns: Columns = None,
    encoding: str | None = None,
    missing: Sequence[str] | None = None,
) -> Part:
    """The table in `path` in pieces of `rows` rows; put together they are what `read_adam` reads.

    Parquet, xpt and sas7bdat are read where they lie. The type of a column depends on all of its values, so that a csv
    file is gone through twice, and a file with dates once more for these. Dataset-JSON is read whole and handed out in
    pieces. A file without rows is one piece without rows.

    Parameters
    ----------
    path : .csv, .parquet, .xpt, .sas7bdat, .json or .ndjson
    columns : which to read; all by default
    encoding, missing : as for `read_adam`

    Raises
    ------
    DataError
        As for `read_adam`; for a column that is not there, and rows below 1.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "adae.csv"
    >>> _ = path.write_text("USUBJID,AESEQ\\n001,1\\n001,2\\n002,1\\n")
    >>> [part["AESEQ"].tolist() for part in read_chunks(path, rows=2)]
    [[1, 2], [1]]
    """
    path = Path(path)
    if rows < 1:
        raise DataError(f"read_chunks: rows={rows}; give 1 or more.")
    checked(path, encoding)
    streamed = STREAMED.get(path.suffix.lower())
    if streamed is None:
        yield from _sliced(read_table(path, encoding=encoding), rows, columns)
        return
    try:
        yield from _typed(path, streamed(path, rows, columns, encoding, missing), columns)
    except OSError as error:
        raise not_opened(path, error) from error


def _sliced(frame: pd.DataFrame, rows: int, columns: Columns) -> Part:
    if columns is not None:
        require(frame, columns)
        frame = frame[list(columns)]
    for start in range(0, max(1, len(frame)), rows):
        yield frame.iloc[start : start + rows].reset_index(drop=True)


def _typed(path: Path, source: Source, columns: Columns) -> Part:
    """The parts of `source` with the dates that are dates in all parts."""
    dates = _dates(path, source, columns)
    for part in source.parts(columns):
        labels = part.attrs.get("labels")
        part = plain((part if columns is None else part[list(columns)]).reset_index(drop=True), path.name)
        for name, dtype in dates.items():
            found = conventions.iso_dates(part[name])
            part[name] = pd.Series(pd.NaT, part.index, dtype) if found is None else found.astype(dtype)
        part.attrs = {"labels": labels} if labels else {}
        yield part


def _dates(path: Path, source: Source, columns: Columns) -> dict[str, str]:
    """The columns that are full dates in every part that has any, and the dtype that holds all of them."""
    asked = [name for name in source.dated if columns is None or name in columns]
    seen: dict[str, set[str]] = {}
    for part in source.parts(asked) if asked else ():
        part = plain(part, path.name)
        texts = [name for name in asked if part[name].dtype.kind == "O"]
        for name in (n for n in texts if part[n].notna().any()):
            found = conventions.iso_dates(part[name])
            seen.setdefault(name, set()).add("" if found is None else str(found.dtype))
        if not texts:
            break
    return {name: max(dtypes) for name, dtypes in seen.items() if "" not in dtypes}  # microseconds before nanoseconds


def _require(columns: Columns, known: Sequence[str], path: Path) -> None:
    require(pd.DataFrame(columns=list(known)), columns or (), path.name)


def _named_dates(names: Sequence[str]) -> list[str]:
    return [name for name in names if conventions.is_date(name)]


# ------------------------------------------------------------------------------------------------ binary formats


def _parquet(path: Path, rows: int, columns: Columns, encoding: str | None, missing: Sequence[str] | None) -> Source:
    import pyarrow as pa

    file = _in_parquet(path, lambda: open_parquet(path))
    schema = file.schema_arrow
    conventions.check_names(path.name, schema.names)
    _require(columns, schema.names, path)

    def batches(wanted: Columns) -> Iterator[pa.Table]:
        empty = True
        stream = file.iter_batches(batch_size=rows, columns=None if wanted is None else list(wanted))
        while (batch := _in_parquet(path, lambda: next(stream, None))) is not None:
            empty = False
            yield pa.Table.from_batches([batch])
        if empty:
            table = schema.empty_table()
            yield table if wanted is None else table.select(list(wanted))

    wide = [name for name in may_be_long(schema) if columns is None or name in columns]
    texts = set().union(*(long_numbers(table) for table in batches(wide))) if wide else set()
    gaps = _gaps(file, [f.name for f in schema if _gaps_change(f.type)], batches)

    def parts(wanted: Columns) -> Part:
        for table in batches(wanted):
            yield _in_parquet(path, partial(as_pandas, table, texts, gaps))

    return Source(parts, [f.name for f in schema if conventions.is_date(f.name) or pa.types.is_date(f.type)])


def _gaps_change(kind: Any) -> bool:
    """Whether pandas gives columns of this type another one where values are missing."""
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_boolean(kind))


def _gaps(file: Any, names: list[str], batches: Callable[[Columns], Iterator[Any]]) -> set[str]:
    """Which of these columns have missing values: by the statistics of the file, else by reading."""
    counts = null_counts(file)
    found = {name for name in names if counts.get(name, 0)}
    unknown = [name for name in names if counts.get(name, 0) is None]
    for table in batches(unknown) if unknown else ():
        found |= {name for name in unknown if table.column(name).null_count}
    return found


def _in_parquet(path: Path, step: Callable[[], Any]) -> Any:
    try:
        return step()
    except Exception as error:  # pyarrow raises its own family for damaged files
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path.name}: this is no complete parquet file ({sas7bdat.first_line(error)}).") from error


def _xpt(path: Path, rows: int, columns: Columns, encoding: str | None, missing: Sequence[str] | None) -> Source:
    table = xport.contents(path, encoding)
    names = [v.name for v in table.variables]
    _require(columns, names, path)
    starts = range(0, max(1, len(table.rows)), rows)
    return Source(lambda wanted: (table.table(at, at + rows, wanted) for at in starts), _named_dates(names))


def _sas7bdat(path: Path, rows: int, columns: Columns, encoding: str | None, missing: Sequence[str] | None) -> Source:
    names = list(next(sas7bdat.parts(path, 1, encoding)).columns)
    conventions.check_names(path.name, names)
    _require(columns, names, path)
    return Source(lambda wanted: sas7bdat.parts(path, rows, encoding), _named_dates(names))


# ------------------------------------------------------------------------------------------------ text formats


def _csv(path: Path, rows: int, columns: Columns, encoding: str | None, missing: Sequence[str] | None) -> Source:
    name = delimited.encoding_of(path, encoding)
    header = _checked(path, name)
    _require(columns, header, path)
    signs = delimited.Signs.of(missing)

    def texts(wanted: Columns) -> Part:
        with path.open(encoding=name, newline="") as handle:
            yield from _texts(handle, header, rows, wanted, signs)

    judged = [{c: delimited.judge(part[c], signs) for c in part.columns} for part in texts(columns)]
    kinds = {c: reduce(add, (part[c] for part in judged)) for c in judged[0]}
    delimited.tell(path.name, kinds)

    def parts(wanted: Columns) -> Part:
        for part in texts(wanted):
            yield pd.DataFrame({c: delimited.give(part[c], kinds[c], signs, path.name) for c in part.columns})

    return Source(parts, _named_dates(header))


def _checked(path: Path, encoding: str) -> list[str]:
    """The header of a csv file whose lines all have its width and whose text can be read."""
    try:
        with path.open(encoding=encoding, newline="") as handle:
            first = "".join(itertools.islice(handle, 100))
        header = delimited.header(path, first)
        with path.open(encoding=encoding, newline="") as handle:
            delimited.same_width(path, _without_nul(path, handle), len(header))
    except UnicodeDecodeError as error:
        raise delimited.other_encoding(path, encoding, error) from error
    return header


def _without_nul(path: Path, handle: TextIO) -> Iterator[str]:
    for line in handle:
        if "\x00" in line:
            raise delimited.holds_nul(path)
        yield line


def _texts(handle: TextIO, header: list[str], rows: int, columns: Columns, signs: delimited.Signs) -> Part:
    wanted = header if columns is None else [c for c in header if c in columns]
    parts = pd.read_csv(
        handle, dtype=str, keep_default_na=False, na_values=list(signs.exact), chunksize=rows,
        header=0, names=header, usecols=wanted,
    )  # fmt: skip
    empty = True
    for part in parts:
        empty = False
        yield part
    if empty:
        yield pd.DataFrame({name: pd.Series(dtype="object") for name in wanted})


STREAMED: dict[str, Callable[[Path, int, Columns, str | None, Sequence[str] | None], Source]] = {
    ".csv": _csv,
    ".parquet": _parquet,
    ".pq": _parquet,
    ".xpt": _xpt,
    ".sas7bdat": _sas7bdat,
}
