"""Files too large for memory, a number of rows at a time, typed as the whole file would be."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import pandas as pd

from kapstats.data import conventions, delimited, xport
from kapstats.data.files import as_pandas, open_parquet, read_table
from kapstats.errors import DataError
from kapstats.frames import require

Part = Iterator[pd.DataFrame]


def read_chunks(
    path: str | Path, rows: int = 100_000, *, columns: Sequence[str] | None = None, encoding: str | None = None
) -> Part:
    """The table in `path` in pieces of `rows` rows; put together they are what `read_adam` reads.

    Parquet, xpt and sas7bdat are read where they lie. A csv file is gone through twice, since the type of a column
    depends on all of its values. Dataset-JSON is read whole and handed out in pieces.

    Parameters
    ----------
    path : .csv, .parquet, .xpt, .sas7bdat, .json or .ndjson
    columns : which to read; all by default
    encoding : as for `read_adam`

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
    if path.suffix.lower() not in STREAMED or not path.is_file() or not path.stat().st_size:
        yield from _sliced(read_table(path, encoding=encoding), rows, columns)
        return
    for part in STREAMED[path.suffix.lower()](path, rows, columns, encoding):
        labels = part.attrs.get("labels")
        if columns is not None:
            require(part, columns, path.name)
            part = part[list(columns)]
        part = conventions.trimmed(part.reset_index(drop=True), path.name)
        part.attrs = {"labels": labels} if labels else {}
        yield part


def _require(columns: Sequence[str] | None, known: Sequence[str], path: Path) -> None:
    require(pd.DataFrame(columns=list(known)), columns or (), path.name)


def _sliced(frame: pd.DataFrame, rows: int, columns: Sequence[str] | None) -> Part:
    if columns is not None:
        require(frame, columns)
        frame = frame[list(columns)]
    for start in range(0, max(1, len(frame)), rows):
        yield frame.iloc[start : start + rows].reset_index(drop=True)


# ------------------------------------------------------------------------------------------------ binary formats


def _parquet(path: Path, rows: int, columns: Sequence[str] | None, encoding: str | None) -> Part:
    try:
        file = open_parquet(path)
        _require(columns, file.schema_arrow.names, path)
        yield from _batches(path, file, rows, columns)
    except Exception as error:  # pyarrow raises its own family for damaged files
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path.name}: this is no complete parquet file ({error}).") from error


def _batches(path: Path, file: Any, rows: int, columns: Sequence[str] | None) -> Part:
    import pyarrow as pa

    dated = _Kinds(path.name)
    texts = [c for c in file.schema_arrow.names if conventions.is_date(c) and (columns is None or c in columns)]
    for batch in file.iter_batches(batch_size=rows, columns=texts) if texts else ():
        dated.see(batch.to_pandas(ignore_metadata=True))
    for batch in file.iter_batches(batch_size=rows, columns=columns):
        yield dated.give_dates(as_pandas(pa.Table.from_batches([batch])))


def _xpt(path: Path, rows: int, columns: Sequence[str] | None, encoding: str | None) -> Part:
    held = xport.contents(path, encoding)
    _require(columns, [v.name for v in held.variables], path)
    for start in range(0, max(1, len(held.rows)), rows):
        yield held.table(start, start + rows, columns)


def _sas7bdat(path: Path, rows: int, columns: Sequence[str] | None, encoding: str | None) -> Part:
    seen = 0
    try:
        reader: Any = pd.read_sas(path, format="sas7bdat", encoding=encoding or "infer", chunksize=rows)
        with reader:
            expected = reader.row_count
            for part in reader:
                seen += len(part)
                yield part.set_axis([str(c) for c in part.columns], axis=1)
    except Exception as error:  # the parser fails in many ways on damaged files
        raise DataError(f"{path.name}: this is no complete sas7bdat file ({error}).") from error
    if seen != expected:
        raise DataError(f"{path.name}: truncated; it states {expected} rows and holds {seen}.")


# ------------------------------------------------------------------------------------------------ text formats


class _Kinds:
    """What the columns of a text file are, judged part by part: a number where every part has numbers only."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.numbers: dict[str, bool] = {}
        self.dates: dict[str, bool] = {}
        self.logical: dict[str, bool] = {}

    def see(self, part: pd.DataFrame) -> None:
        """Judge one more part."""
        for name in map(str, part.columns):
            values = part[name]
            if conventions.is_date(name) and values.notna().any():
                self.dates[name] = self.dates.get(name, True) and conventions.iso_dates(values) is not None
            if pd.api.types.is_string_dtype(values.dtype) or pd.api.types.is_object_dtype(values.dtype):
                typed = delimited.typed(values, self.name)
                self.logical[name] = self.logical.get(name, True) and pd.api.types.is_bool_dtype(typed.dtype)
                if values.notna().any():
                    numeric = pd.api.types.is_numeric_dtype(typed.dtype) and not self.logical[name]
                    self.numbers[name] = self.numbers.get(name, True) and numeric

    def give(self, part: pd.DataFrame) -> pd.DataFrame:
        """One part, typed as the whole."""
        made = {name: self._typed(name, part[name]) for name in map(str, part.columns)}
        return self.give_dates(pd.DataFrame(made, index=part.index))

    def give_dates(self, part: pd.DataFrame) -> pd.DataFrame:
        """One part with the dates that are dates in all parts."""
        for name in (c for c in part.columns if self.dates.get(str(c))):
            found = conventions.iso_dates(part[name])
            part[name] = pd.to_datetime(part[name]) if found is None else found
        return part

    def _typed(self, name: str, values: pd.Series) -> pd.Series:
        if self.numbers.get(name, conventions.is_number(name)):
            return conventions.numbers(values.str.strip())
        return values.str.upper() == "TRUE" if self.logical.get(name) else values


def _csv(path: Path, rows: int, columns: Sequence[str] | None, encoding: str | None) -> Part:
    name = delimited.encoding_of(path, encoding)
    header = _checked(path, name)
    _require(columns, header, path)
    kinds = _Kinds(path.name)
    for judge in (True, False):
        with path.open(encoding=name, newline="") as handle:
            for part in _texts(handle, header, rows, columns):
                if judge:
                    kinds.see(part)
                else:
                    yield kinds.give(part)


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


def _texts(handle: TextIO, header: list[str], rows: int, columns: Sequence[str] | None) -> Part:
    wanted = header if columns is None else [c for c in header if c in columns]
    parts = pd.read_csv(
        handle, dtype=str, keep_default_na=False, na_values=delimited.MISSING, chunksize=rows,
        header=0, names=header, usecols=wanted,
    )  # fmt: skip
    empty = True
    for part in parts:
        empty = False
        yield part
    if empty:
        yield pd.DataFrame({name: pd.Series(dtype="object") for name in wanted})


STREAMED: dict[str, Callable[[Path, int, Sequence[str] | None, str | None], Part]] = {
    ".csv": _csv,
    ".parquet": _parquet,
    ".xpt": _xpt,
    ".sas7bdat": _sas7bdat,
}
