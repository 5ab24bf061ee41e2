"""Worst severity per subject."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kapstats import estimates, frames
from kapstats.errors import DataError
from kapstats.estimates import Estimates
from kapstats.kernels.distinct_counts import distinct_counts
from kapstats.safety.incidence import coded_terms, membership

if TYPE_CHECKING:
    from kapstats.safety.incidence import Incidence

#: severity columns, the most precise first, and the order of the words
COLUMNS = ("AETOXGRN", "AETOXGR", "ASEVN", "AESEVN", "ASEV", "AESEV")
WORDS = ("MILD", "MODERATE", "SEVERE", "LIFE THREATENING", "FATAL")


def max_severity(ae: Incidence, column: str | None = None) -> Estimates:
    """Count subjects by the worst severity that they had of every term; a missing severity counts as the worst.

    Parameters
    ----------
    column : severity of the ADAE record; by default AETOXGR, ASEVN, AESEV ..., whichever is there. Numbers order
        themselves, words by MILD < MODERATE < SEVERE < LIFE THREATENING < FATAL

    Returns
    -------
    Estimates with level, the terms, the group, the severity column, n_subjects, n_events, N and percent; zero rows
    included. The rows of one term and group add up to its n_subjects. ``at least`` counts are cumulative sums from
    the worst (column n_at_least).

    Raises
    ------
    DataError
        When there is no severity column, or its words have no order.
    """
    name = column or next((c for c in COLUMNS if c in ae.records.events.columns), None)
    if name is None:
        raise DataError(f"ADAE has no severity column ({', '.join(COLUMNS)}). Name it: max_severity('...').")
    frames.require(ae.records.events, [name], "ADAE")
    rank, grades, missing = _ranked(ae.records.events[name])
    n_rows, n_arms = len(ae.frame) // len(ae.arms), len(ae.arms)
    n_subjects = ae.records.arm.size
    at_least = np.zeros((len(grades), n_rows, n_arms), dtype=np.int64)
    events = np.zeros_like(at_least)
    for rows, target in membership(ae):
        subject, severity = ae.records.subject[rows], rank[rows]
        for g in range(len(grades)):
            hit = severity >= g
            at_least[g] += distinct_counts(target[hit], subject[hit], ae.records.arm, n_rows, n_arms)[0]
            same = severity == g
            cell = target[same] * n_arms + ae.records.arm[subject[same]]
            events[g] += np.bincount(cell, minlength=n_rows * n_arms).reshape(n_rows, n_arms)
    worst = at_least - np.concatenate([at_least[1:], np.zeros((1, n_rows, n_arms), dtype=np.int64)])
    keys = ae.frame[["level", *ae.terms, ae.by]].loc[ae.frame.index.repeat(len(grades))].reset_index(drop=True)
    size = np.tile(np.repeat(ae.records.size, len(grades)), n_rows)
    counted = np.moveaxis(worst, 0, 2).reshape(-1)
    frame = keys.assign(
        **{name: np.tile(np.array(grades, dtype=object), n_rows * n_arms)},
        n_subjects=counted,
        n_at_least=np.moveaxis(at_least, 0, 2).reshape(-1),
        n_events=np.moveaxis(events, 0, 2).reshape(-1),
        N=size,
        percent=100 * counted / size,
    )
    said = f"{missing} records without {name} count as {grades[-1]}" if missing else f"{name} complete"
    description = estimates.meta(
        method="maximum severity",
        level=None,
        title=f"Adverse events by maximum {name}",
        sentence="; ".join([f"Worst {name} per subject and row", said, *ae.records.notes]),
        warnings=(*ae.warnings, *([said] if missing else [])),
        data=ae.records.fingerprint() + str(n_subjects),
        frame_kind=ae.records.kind,
    )
    return Estimates(frame, description)


def _ranked(values: pd.Series) -> tuple[np.ndarray, list[object], int]:
    """Position of each severity in ascending order, the levels, and how many are missing (taken as the worst)."""
    numeric = pd.to_numeric(values, errors="coerce")
    blank = values.isna() | (values.astype("object").astype(str).str.strip() == "")
    if bool((numeric.notna() | blank).all()):
        values_there = np.unique(numeric.dropna().to_numpy(dtype=float)).tolist()
        grades: list[object] = [int(g) if g.is_integer() else g for g in values_there]
        rank = np.searchsorted(np.array(values_there), numeric.fillna(np.inf).to_numpy(dtype=float))
    else:
        text = coded_terms(values).str.upper()
        unknown = sorted(set(text[~blank]) - set(WORDS))
        if unknown:
            raise DataError(
                f"{values.name}: severities {unknown[:5]} have no order. Use grades, or {', '.join(WORDS)}."
            )
        grades = [w for w in WORDS if (text[~blank] == w).any()]
        rank = text.map({w: i for i, w in enumerate(grades)}).fillna(len(grades) - 1).to_numpy(dtype=np.int64)
    top = max(len(grades) - 1, 0)
    return np.minimum(rank, top).astype(np.int64), grades or ["Missing"], int(blank.sum())
