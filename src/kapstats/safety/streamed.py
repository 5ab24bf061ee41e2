"""Adverse event counts over partitioned parquet files, one file in memory at a time.

Files are partitioned by subject: every subject's records lie in one file, so that distinct counts add up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kapstats import estimates, frames
from kapstats._types import FrameLike, IntArray
from kapstats.data.conventions import in_words
from kapstats.data.flags import is_yes
from kapstats.errors import DataError, FormulaError, first_ids, warn
from kapstats.kernels.distinct_counts import distinct_counts
from kapstats.safety import records as collecting
from kapstats.safety.incidence import LEVELS, Incidence
from kapstats.safety.records import UNCODED, Records

Counts = dict[tuple[str, ...], IntArray]


def count_partitions(
    files: str | Path | Iterable[str | Path],
    adsl: FrameLike,
    by: str = "TRT01A",
    terms: Sequence[str] = ("AEBODSYS", "AEDECOD"),
    *,
    treatment_emergent: bool = True,
    population: str | None = "SAFFL",
    order: Sequence[Any] | None = None,
    reference: Any = None,
) -> Incidence:
    """Count subjects with adverse events as `ks.incidence` does, from parquet files that need not fit in memory.

    Memory is that of the largest file plus ADSL; time is linear in the records.

    Parameters
    ----------
    files : a folder of .parquet files, or their paths; columns USUBJID, the terms and TRTEMFL
    adsl, by, terms, population, order, reference : as in `ks.incidence`
    treatment_emergent : count records with TRTEMFL = Y only

    Returns
    -------
    Incidence with the same frame, table, comparisons and figures; the records themselves are not kept, so analyses in
    time are not there.

    Raises
    ------
    DataError
        When a subject stands in two files, or a column is missing.
    """
    if by in collecting.ACTUAL and f"TRT02{by[-1]}" in frames.to_pandas(adsl).columns:
        raise FormulaError(f"by={by!r}: events by period are counted by ks.incidence, from records in memory.")
    paths = _paths(files)
    columns = ["USUBJID", *terms, *(["TRTEMFL"] if treatment_emergent else [])]
    nothing = pd.DataFrame({c: pd.Series([], dtype="object") for c in columns})
    frame = collecting.collect(
        nothing, adsl, by, treatment_emergent=False, window=None, population=population, order=order, where=None
    )
    position = pd.Index(frame.subjects["USUBJID"].astype("object"))
    seen = np.zeros(len(position), dtype=bool)
    counts: Counts = {}
    total = outside = used = 0
    for path in paths:
        rows, subject, keep = _read(path, columns, position, treatment_emergent)
        total += keep.size
        outside += int((subject < 0).sum())
        used += int((keep & (subject >= 0)).sum())
        _once(path, subject, seen, position)
        _add(counts, rows, subject, keep & (subject >= 0), frame.arm, len(frame.arms))
    if total and not used:
        said = f"None of {total} records counts, every count is 0 ({outside} are of subjects outside the population)."
        frame = replace(frame, warnings=(*frame.warnings, warn(said)))
    return _assembled(frame, counts, tuple(terms), total, used, outside, len(paths), reference)


def _paths(files: str | Path | Iterable[str | Path]) -> list[Path]:
    if isinstance(files, (str, Path)):
        folder = Path(files)
        found = sorted(folder.rglob("*.parquet")) if folder.is_dir() else [folder]
    else:
        found = [Path(f) for f in files]
    if not found or not all(p.is_file() for p in found):
        raise DataError(f"{files}: no parquet files there. Give a folder of .parquet files, or their paths.")
    return found


def _read(
    path: Path, columns: list[str], position: pd.Index, flagged: bool
) -> tuple[list[tuple[IntArray, list[str]]], IntArray, Any]:
    """Codes and names of every term column, ADSL row of every record (-1 outside), and which records count."""
    import pyarrow.parquet as pq

    there = pq.read_schema(path).names
    missing = [c for c in columns if c not in there]
    if missing:
        raise DataError(f"{path}: column {missing[0]!r} is not there. It has: {', '.join(there[:12])}.")
    table = pq.read_table(path, columns=columns, read_dictionary=columns)
    codes, names = _coded(table.column("USUBJID"))
    at = position.get_indexer(pd.Index(names, dtype="object"))
    subject = np.append(at, -1)[codes].astype(np.int64)
    rows = []
    for column in columns[1 : len(columns) - int(flagged)]:
        code, values = _coded(table.column(column))
        text = [("" if v is None else str(v).strip()) or UNCODED for v in values] + [UNCODED]
        rows.append((code, text))
    keep = np.ones(len(table), dtype=bool)
    if flagged:
        code, values = _coded(table.column("TRTEMFL"))
        keep = np.append(is_yes(pd.Series(values, dtype="object"), f"{path}: TRTEMFL"), False)[code]
    return rows, subject, keep


def _coded(column: Any) -> tuple[IntArray, list[Any]]:
    """Codes (-1 missing) and distinct values of an arrow column."""
    import pyarrow as pa

    combined = column.combine_chunks() if not isinstance(column.type, pa.DictionaryType) else None
    encoded = combined.dictionary_encode() if combined is not None else column.unify_dictionaries().combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.chunk(0) if encoded.num_chunks else pa.array([], pa.dictionary(pa.int32(), pa.string()))
    indices = encoded.indices
    codes = indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes, encoded.dictionary.to_pylist()


def _once(path: Path, subject: IntArray, seen: Any, position: pd.Index) -> None:
    own = np.unique(subject[subject >= 0])
    again = own[seen[own]]
    if again.size:
        raise DataError(
            f"{path}: {again.size} subjects stand in an earlier file too ({first_ids(position[again])}). "
            "Partition the files by subject, so that subjects are counted once."
        )
    seen[own] = True


def _add(
    counts: Counts, rows: list[tuple[IntArray, list[str]]], subject: IntArray, keep: Any, arm: IntArray, n_arms: int
) -> None:
    """Add the distinct subjects and the records of one file to every row of the table."""
    local, inside = np.unique(subject[keep], return_inverse=True)
    group = arm[local]
    joint = np.zeros(int(keep.sum()), dtype=np.int64)
    paths: list[tuple[str, ...]] = [()]
    _accumulate(counts, joint, inside, group, n_arms, paths)
    for code, text in rows:
        width = len(text)
        step = joint * width + (code[keep] % width)
        found, joint = _unique_small(step, len(paths) * width)
        paths = [(*paths[f // width], text[f % width]) for f in found.tolist()]
        _accumulate(counts, joint, inside, group, n_arms, paths)


def _unique_small(values: IntArray, size: int) -> tuple[IntArray, IntArray]:
    """np.unique with inverse for values below a small bound, by counting."""
    if size > 50_000_000:
        found, inverse = np.unique(values, return_inverse=True)
        return found, inverse.astype(np.int64)
    found = np.flatnonzero(np.bincount(values, minlength=1))
    place = np.zeros(int(found[-1]) + 1 if found.size else 1, dtype=np.int64)
    place[found] = np.arange(found.size)
    return found, place[values]


def _accumulate(
    counts: Counts, row: IntArray, subject: IntArray, group: IntArray, n_arms: int, paths: list[tuple[str, ...]]
) -> None:
    subjects, events = distinct_counts(row, subject, group, len(paths), n_arms)
    for path, s, e in zip(paths, subjects, events, strict=True):
        held = counts.setdefault(path, np.zeros((2, n_arms), dtype=np.int64))
        held += np.stack([s, e])


def _assembled(
    chosen: Records,
    counts: Counts,
    terms: tuple[str, ...],
    total: int,
    used: int,
    outside: int,
    n_files: int,
    reference: Any,
) -> Incidence:
    depth = len(terms)
    labels = ["ANY", *(LEVELS.get(t, t) for t in terms)]
    paths = sorted(counts, key=lambda p: (*p, *[""] * (depth - len(p))))
    keys = pd.DataFrame([(*p, *[""] * (depth - len(p))) for p in paths], columns=list(terms), dtype="object")
    keys.insert(0, "level", [labels[len(p)] for p in paths])
    n_arms = len(chosen.arms)
    values = np.stack([counts[p] for p in paths])
    size = np.tile(chosen.size, len(paths))
    frame = keys.loc[keys.index.repeat(n_arms)].reset_index(drop=True)
    frame = frame.assign(
        **{chosen.by: np.tile(np.array(chosen.arms, dtype=object), len(paths))},
        n_subjects=values[:, 0].ravel(),
        n_events=values[:, 1].ravel(),
        N=size,
        percent=100 * values[:, 0].ravel() / size,
    )
    note = f"{used} of {total} records in {n_files} files count; {outside} outside the population"
    notes = (chosen.notes[0], note)
    records = Records(
        chosen.events, chosen.subject, chosen.subjects, chosen.arm, chosen.arms, chosen.by, notes, chosen.warnings
    )
    digest = hashlib.sha256(values.tobytes()).hexdigest()[:16]
    meta = estimates.meta(
        method="incidence proportion",
        level=None,
        title=f"Adverse events by {in_words(chosen.by)}",
        sentence="Incidence proportion, subjects counted once per row; " + "; ".join(notes),
        warnings=chosen.warnings,
        data=digest,
    )
    base = chosen.arms[0] if reference is None else reference
    return Incidence(records=records, frame=frame, terms=terms, reference=base, adjust=None, meta=meta)
