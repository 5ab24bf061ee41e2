"""Chunks of a parquet file that hold whole subjects, and the levels of its columns."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from kapstats import frames
from kapstats.errors import DataError


def levels_of_file(
    path: Path, learn: Callable[[pd.DataFrame], dict[str, tuple[Any, ...]]], given: Collection[str], chunk_rows: int
) -> dict[str, tuple[Any, ...]]:
    """Levels of the factor columns over the whole file; `learn` tells those of a table, `given` ones stay as told."""
    import pyarrow.parquet as parquet

    file = parquet.ParquetFile(path)
    first = next(file.iter_batches(batch_size=min(chunk_rows, 10_000)), None)
    if first is None:
        raise DataError(f"{path}: the file has no rows.")
    factors = learn(first.to_pandas())
    open_columns = [c for c in factors if c not in given]
    if not open_columns:
        return factors
    distinct = pd.DataFrame(columns=open_columns)
    wanted = open_columns + [f"{c}N" for c in open_columns if f"{c}N" in file.schema_arrow.names]
    for batch in file.iter_batches(batch_size=chunk_rows, columns=wanted):
        distinct = pd.concat([distinct, batch.to_pandas().drop_duplicates()]).drop_duplicates()
    distinct = distinct.reset_index(drop=True)
    return {c: factors[c] if c in given else frames.levels(distinct, c).values for c in factors}


def chunks(path: Path, columns: list[str], own: Any, chunk_rows: int) -> Iterator[pd.DataFrame]:
    """Tables of whole subjects; the last subject of a batch waits for the next."""
    import pyarrow.parquet as parquet

    done: set[Any] = set()
    waiting = pd.DataFrame()
    for batch in parquet.ParquetFile(path).iter_batches(batch_size=chunk_rows, columns=columns):
        frame = batch.to_pandas()
        frame = pd.concat([waiting, frame], ignore_index=True) if len(waiting) else frame
        last = frame[own.subject].iloc[-1]
        is_last = (frame[own.subject] == last).to_numpy()
        ready, waiting = frame.loc[~is_last], frame.loc[is_last]
        _refuse_cut(ready[own.subject], done, path)
        if len(ready):
            yield ready.reset_index(drop=True)
    if len(waiting):
        _refuse_cut(waiting[own.subject], done, path)
        yield waiting.reset_index(drop=True)


def _refuse_cut(subjects: pd.Series, done: set[Any], path: Path) -> None:
    """Remember the first subject of every chunk and refuse one that was already finished."""
    ids = set(subjects.unique().tolist())
    again = ids & done
    if again:
        raise DataError(
            f"{path}: rows of subject {sorted(map(str, again))[0]} are not together; sort the file by subject."
        )
    done |= ids
