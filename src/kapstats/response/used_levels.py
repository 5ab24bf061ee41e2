"""Statistics whose schema names levels that no row of any part holds, brought to the levels that are there.

Parts state levels in advance (a baseline visit without a change score, an arm that a site never had). `mmrm` leaves
such levels out; a fit from statistics must do the same, or reference and coefficients differ from those of all rows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kapstats._types import FloatArray, IntArray
from kapstats.formula.split import SPATIAL
from kapstats.kernels.pattern_moments import PatternMoments, pair_index, transform
from kapstats.response.repeated import check_formula

if TYPE_CHECKING:
    from kapstats.formula.design import Design
    from kapstats.response.mmrm_statistics import MmrmStatistics, Schema


def on_used_levels(statistics: MmrmStatistics) -> MmrmStatistics:
    """The same statistics with only the levels that occur: columns X become X T, X T = X' on every cell seen."""
    schema, factors = statistics.schema, statistics.factor_columns
    own = check_formula(schema.formula).covariance
    assert own is not None
    visit, group = own.coordinates[0], own.group
    used = {c: np.unique(statistics.cells[:, i]).astype(np.intp) for i, c in enumerate(factors)}
    if own.structure not in SPATIAL:
        used[visit] = np.flatnonzero(statistics.moments.seen.any(axis=0))
    if group is not None:
        used[group] = np.unique(statistics.moments.block)
    if all(len(codes) == len(schema.levels[c]) for c, codes in used.items()):
        return statistics
    levels = {c: tuple(v[i] for i in used[c]) if c in used else v for c, v in schema.levels.items()}
    smaller = replace(schema, levels=levels)
    rows = _rows(statistics, factors)
    moved = _turn(statistics.moments, _columns(schema, smaller, rows))
    seen = moved.seen[:, used[visit]] if visit in used else moved.seen
    block = moved.block if group is None else _recode(moved.block, used[group])
    cells = statistics.cells.copy()
    for i, c in enumerate(factors):
        cells[:, i] = _recode(cells[:, i].astype(np.intp), used[c])
    return replace(
        statistics, schema=smaller, cells=cells, moments=replace(moved, seen=seen, block=block, pairs=pair_index(seen))
    )


def _recode(codes: IntArray, used: IntArray) -> IntArray:
    return np.searchsorted(used, codes)


def _rows(statistics: MmrmStatistics, factors: list[str]) -> pd.DataFrame:
    """A few rows per cell, covariates spread around their mean: what X' T has to hold on."""
    covariates = statistics.means()
    cells = np.repeat(statistics.cells[:, : len(factors)].astype(np.intp), 4 * (len(covariates) + 1), axis=0)
    rng = np.random.default_rng(1)
    columns: dict[str, Any] = {}
    for i, c in enumerate(factors):
        columns[c] = pd.Series(list(statistics.schema.levels[c]), dtype="object").to_numpy()[cells[:, i]]
    for c, mean in covariates.items():
        columns[c] = (mean if mean != 0 else 1.0) * rng.uniform(0.8, 1.2, len(cells))
    return pd.DataFrame(columns)


def _columns(schema: Schema, smaller: Schema, rows: pd.DataFrame) -> FloatArray:
    """T (q, q') with X T = X' on the rows; its entries are whole numbers, 0 and +-1 under treatment coding."""
    old, new = _matrix(schema.design(), rows), _matrix(smaller.design(), rows)
    scale = np.maximum(np.abs(old).max(axis=0), 1e-300)
    found = np.linalg.lstsq(old / scale, new, rcond=1e-10)[0] / scale[:, None]
    whole = np.round(found)
    return np.where(np.abs(found - whole) < 1e-7, whole, found)


def _matrix(design: Design, rows: pd.DataFrame) -> FloatArray:
    return np.asarray(design.spec.matrix(rows), dtype=float)


def _turn(moments: PatternMoments, columns: FloatArray) -> PatternMoments:
    """Statistics of [X T, y]."""
    q, kept = columns.shape
    turn = np.zeros((q + 1, kept + 1))
    turn[:-1, :-1], turn[-1, -1] = columns, 1.0
    return transform(moments, turn)
