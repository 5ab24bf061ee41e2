"""From a formula and a table to the arrays of a model for repeated measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np
import pandas as pd
from scipy import linalg

from kapstats import frames
from kapstats._types import FloatArray, FrameLike
from kapstats.errors import DataError, FormulaError, first_ids
from kapstats.formula.design import Design, _parse_terms, build, level_text, model_keys
from kapstats.formula.expressions import complete_rows, evaluate, offsets
from kapstats.formula.split import DIAGONAL, SPATIAL, Covariance, Formula, parse
from kapstats.kernels.covariance import Structure
from kapstats.kernels.pattern_moments import Layout, layout

MAX_POINTS = 40  # distinct coordinates up to which spatial structures share one matrix


#: structures whose covariances depend on the order of the visits
ORDERED = ("toep", "toeph", "ar1", "ar1h", "ad", "adh")


@dataclass(frozen=True)
class Visits:
    """The repeated-measures frame of a model: who was seen when.

    labels : visit labels (m,), or coordinates as text; groups : labels of the covariance groups, ("",) when ungrouped
    subjects : (n,) ids; codes : (N,) subject of each row; arranged : rows by pattern
    block_group : (blocks,) covariance group of each block; distance : (blocks, m, m) of spatial structures
    regular : whether all subjects share the visits (False: slots of subject-specific coordinates)
    unstated : the visit column when nothing states its order
    """

    labels: tuple[str, ...]
    groups: tuple[str, ...]
    subjects: tuple[Any, ...]
    codes: np.ndarray
    arranged: Layout
    block_group: np.ndarray
    distance: FloatArray | None
    regular: bool
    unstated: str = ""

    def structure(self, name: str) -> Structure:
        """The named structure over these visits; a DataError where it needs an order that nothing states."""
        if self.unstated and name in ORDERED and len(self.labels) > 2:
            refuse_unstated(self.unstated, self.labels, f"{name}() depends on it")
        if name not in SPATIAL:
            return Structure(name, len(self.labels), self.block_group)
        return Structure(name, self.arranged.seen.shape[1], self.block_group, self.distance)


@dataclass(frozen=True)
class Repeated:
    """Complete rows of one analysis.

    used : (N rows) the complete rows; rows : their positions in the caller's table; y : response minus offset
    weights : (N,) or None; n_records : rows of the caller's table; missing : {column: rows missing}
    """

    formula: Formula
    design: Design
    used: pd.DataFrame
    rows: np.ndarray
    y: FloatArray
    weights: FloatArray | None
    visits: Visits
    n_records: int
    missing: dict[str, int]
    kind: str
    listed: int = 0  # subjects of the whole table

    @property
    def covariance(self) -> Covariance:
        assert self.formula.covariance is not None
        return self.formula.covariance

    @property
    def X(self) -> FloatArray:
        """The columns that are not aliased."""
        return self.design.X[:, ~self.design.aliased] if self.design.aliased.any() else self.design.X


def prepare(
    formula: str, data: FrameLike, *, weights: Any = None, order: Mapping[str, Sequence[Any]] | None = None
) -> Repeated:
    """Check the formula, take the complete rows, and build the design."""
    parsed = check_formula(formula)
    covariance, response = parsed.covariance, parsed.response
    assert covariance is not None
    frame = frames.to_pandas(data)
    frames.tell_unused(order, frame)
    n_records = len(frame)
    frame, weight_column = _with_weights(frame, weights)
    columns = [response, *_fixed_columns(parsed, frame), *covariance.coordinates, covariance.subject, *parsed.offset]
    columns += [c for c in (covariance.group, weight_column) if c is not None]
    rows, missing = complete_rows(frame, [str(c) for c in columns])
    if not len(rows):
        raise DataError(f"No row is complete in {', '.join(map(str, columns))}: there is nothing to fit.")
    used = frame if len(rows) == n_records else frame.iloc[rows].reset_index(drop=True)
    categorical = [] if covariance.structure in SPATIAL else [covariance.visit]
    design = build(parsed.fixed, used, order=order, categorical=categorical)
    y = evaluate(str(response), used) - offsets(parsed.offset, used)
    w = None if weight_column is None else _checked_weights(used[weight_column])
    said = model_keys(used, design, parsed.text, [covariance.subject])
    design = replace(design, warnings=(*design.warnings, *said))
    visits = arrange(used, covariance, order)
    listed = int(frame[covariance.subject].nunique())
    return Repeated(parsed, design, used, rows, y, w, visits, n_records, missing, frames.kind(data), listed)


def constant_visits(prepared: Repeated) -> str:
    """The visits at which the response is one value for all, as a baseline with change 0 is; empty when none is."""
    spread = pd.Series(prepared.y).groupby(prepared.used[prepared.covariance.visit].to_numpy()).agg(["nunique", "size"])
    alone = [level_text(v) for v in spread.index[(spread["nunique"] == 1) & (spread["size"] > 1)]]
    if not alone:
        return ""
    response, visit = prepared.formula.response, prepared.covariance.visit
    return f" {response} is the same for all subjects at {visit} {first_ids(alone)}: no variance there; leave it out."


def check_formula(text: str) -> Formula:
    """A formula with one numeric response and one covariance term, and nothing that belongs to other models."""
    parsed = parse(text)
    if not isinstance(parsed.response, str):
        raise FormulaError(f"Formula {text!r}: an MMRM needs a numeric response before the ~.")
    if parsed.covariance is None:
        raise FormulaError(
            f"Formula {text!r}: an MMRM needs a covariance term such as us(AVISIT | USUBJID). "
            "For random effects use ks.lmm."
        )
    if parsed.covariance.structure == DIAGONAL:
        raise FormulaError(
            f"Formula {text!r}: {DIAGONAL}() has no covariance between visits; it stands beside random effects, in "
            "ks.lmm."
        )
    for name in ("random", "strata", "cluster", "frailty"):
        if getattr(parsed, name):
            hint = {"random": "use ks.lmm for random effects", "cluster": "give cluster= when asking for vcov='CR2'"}
            raise FormulaError(
                f"Formula {text!r}: {name} terms are not part of an MMRM; {hint.get(name, 'drop them')}."
            )
    return parsed


def _fixed_columns(parsed: Formula, frame: pd.DataFrame) -> list[str]:
    """Expressions of the fixed part, by building its terms on the first rows' columns."""
    return list(dict.fromkeys(e for term in _parse_terms(parsed.fixed, True, frame) for e in term))


def _with_weights(frame: pd.DataFrame, weights: Any) -> tuple[pd.DataFrame, str | None]:
    """The frame with a weights column, and its name."""
    if weights is None:
        return frame, None
    if isinstance(weights, str):
        frames.require(frame, [weights])
        return frame, weights
    values = np.asarray(weights, dtype=float)
    if values.shape != (len(frame),):
        raise DataError(f"weights: {values.size} values for {len(frame)} rows. Give one per row, or a column name.")
    return frame.assign(**{"(weights)": values}), "(weights)"


def _checked_weights(values: pd.Series) -> FloatArray:
    w = values.to_numpy(dtype=float)
    bad = np.flatnonzero(~(np.isfinite(w) & (w > 0)))
    if len(bad):
        raise DataError(f"weights: {len(bad)} rows are not above zero (first rows {first_ids(bad)}). Leave them out.")
    return w


def arrange(used: pd.DataFrame, covariance: Covariance, order: Mapping[str, Sequence[Any]] | None = None) -> Visits:
    """Subjects, visits and covariance groups of the complete rows."""
    subject, found_ids = pd.factorize(used[covariance.subject])
    ids = np.asarray(found_ids)
    groups, group = _groups(used, covariance, subject, ids, order)
    if covariance.structure in SPATIAL:
        return _spatial(used, covariance, subject, ids, groups, group)
    found = frames.levels(used, covariance.visit, dict(order or {}).get(covariance.visit))
    _refuse_duplicates(subject, found.codes, ids, covariance.visit)
    labels = tuple(level_text(v) for v in found.values)
    arranged = layout(subject, found.codes, group, len(labels))
    unstated = covariance.visit if found.source == "sorted" else ""
    return Visits(labels, groups, tuple(ids), subject, arranged, np.arange(len(groups)), None, True, unstated)


def refuse_unstated(column: str, values: Sequence[Any], why: str) -> NoReturn:
    """The order of visits is not stated although something hangs on it."""
    raise DataError(
        f"{column}: the order of {first_ids(values)} is not stated, and {why}. Use an ordered categorical, a companion "
        f"column {column}N, labels with numbers, or order={{{column!r}: [...]}}."
    )


def _groups(
    used: pd.DataFrame, covariance: Covariance, subject: np.ndarray, ids: Any, order: Mapping[str, Sequence[Any]] | None
) -> tuple[tuple[str, ...], np.ndarray]:
    """Labels of the covariance groups and the group (n,) of each subject."""
    n = len(ids)
    if covariance.group is None:
        return ("",), np.zeros(n, dtype=np.intp)
    found = frames.levels(used, covariance.group, dict(order or {}).get(covariance.group))
    group = np.zeros(n, dtype=np.intp)
    group[subject] = found.codes
    changing = np.flatnonzero(group[subject] != found.codes)
    if len(changing):
        who = [ids[i] for i in np.unique(subject[changing])]
        raise DataError(
            f"{covariance.group} changes within {len(who)} subjects ({first_ids(who)}); it groups the covariance, "
            f"so it has to be constant within {covariance.subject}."
        )
    return tuple(level_text(v) for v in found.values), group


def _refuse_duplicates(subject: np.ndarray, visit: np.ndarray, ids: Any, column: str) -> None:
    key = subject.astype(np.int64) * (int(visit.max()) + 1) + visit
    if np.all(key[1:] > key[:-1]):
        return
    values, count = np.unique(key, return_counts=True)
    twice = values[count > 1] // (int(visit.max()) + 1)
    if len(twice):
        who = [ids[i] for i in np.unique(twice)]
        raise DataError(
            f"{column}: {len(twice)} subject-visit pairs have more than one complete row (first subjects "
            f"{first_ids(who)}). Keep one row per subject and visit."
        )


def _spatial(
    used: pd.DataFrame,
    covariance: Covariance,
    subject: np.ndarray,
    ids: Any,
    groups: tuple[str, ...],
    group: np.ndarray,
) -> Visits:
    points = np.column_stack([evaluate(c, used) for c in covariance.coordinates])
    distinct, code = np.unique(points, axis=0, return_inverse=True)
    code = code.reshape(-1)
    _refuse_duplicates(subject, code, ids, ", ".join(covariance.coordinates))
    if len(distinct) <= MAX_POINTS:
        labels = tuple(" ".join(f"{x:g}" for x in point) for point in distinct)
        distance = np.repeat(_distance(distinct)[None], len(groups), axis=0)
        arranged = layout(subject, code, group, len(labels))
        return Visits(labels, groups, tuple(ids), subject, arranged, np.arange(len(groups)), distance, True)
    return _irregular(points, code, subject, ids, groups, group)


def _irregular(
    points: FloatArray, code: np.ndarray, subject: np.ndarray, ids: Any, groups: tuple[str, ...], group: np.ndarray
) -> Visits:
    """Subject-specific coordinates: every subject is a block of its own, its rows fill slots in order."""
    order = np.lexsort((code, subject))
    start = np.flatnonzero(np.r_[True, np.diff(subject[order]) > 0])
    length = np.diff(np.r_[start, len(order)])
    slot = np.empty(len(order), dtype=np.intp)
    slot[order] = np.arange(len(order)) - np.repeat(start, length)
    m, n = int(length.max()), len(ids)
    distance = np.zeros((n, m, m))
    for i, (first, k) in enumerate(zip(start, length, strict=True)):
        distance[i, :k, :k] = _distance(points[order[first : first + k]])
    arranged = layout(subject, slot, np.arange(n), m)
    labels = tuple(f"slot {s + 1}" for s in range(m))
    return Visits(labels, groups, tuple(ids), subject, arranged, group, distance, False)


def _distance(points: FloatArray) -> FloatArray:
    return np.asarray(np.sqrt(((points[:, None] - points[None]) ** 2).sum(-1)))


def orthonormal_basis(x: FloatArray) -> FloatArray:
    """Upper triangular R (q, q) such that x R^-1 is well conditioned (orthonormal to rounding where cheap)."""
    gram = x.T @ x
    scale = np.sqrt(np.diag(gram))
    try:
        factor = np.linalg.cholesky(gram / np.outer(scale, scale)).T
        if np.diag(factor).min() > 1e-5:
            return np.asarray(factor * scale)
    except np.linalg.LinAlgError:
        pass
    return np.asarray(linalg.qr(x, mode="r", check_finite=False)[0][: x.shape[1]])
