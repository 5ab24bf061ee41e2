"""Counts of distinct subjects and of records per row of a table and per group."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]

#: cells of the row x subject indicator above which distinct pairs are found by sorting instead
_DENSE = 60_000_000


def distinct_counts(
    row: IntArray, subject: IntArray, group_of: IntArray, n_rows: int, n_groups: int
) -> tuple[IntArray, IntArray]:
    """Distinct subjects and records of every row of a table in every group.

    Parameters
    ----------
    row, subject : (k,) row of the table and subject of each record
    group_of : (s,) group of each subject

    Returns
    -------
    (n_rows, n_groups) subjects counted once, (n_rows, n_groups) records.
    """
    n_subjects = group_of.size
    cell = row * n_groups + group_of[subject] if row.size else np.zeros(0, dtype=np.int64)
    records = np.bincount(cell, minlength=n_rows * n_groups)
    pair = row * n_subjects + subject
    if n_rows * n_subjects <= _DENSE:
        seen = np.zeros(n_rows * n_subjects, dtype=bool)
        seen[pair] = True
        pair = np.flatnonzero(seen)
    else:
        pair = np.unique(pair)
    cell = (pair // max(n_subjects, 1)) * n_groups + group_of[pair % max(n_subjects, 1)] if pair.size else pair
    subjects = np.bincount(cell, minlength=n_rows * n_groups)
    shape = (n_rows, n_groups)
    return subjects.reshape(shape).astype(np.int64), records.reshape(shape).astype(np.int64)
