"""From formula and table to the arrays of a random-effects model: complete rows, X, and Z of every bar term."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import linalg

from kapstats import frames
from kapstats._types import FloatArray, FrameLike, IntArray
from kapstats.errors import DataError, FormulaError, KapstatsWarning, first_ids, warn
from kapstats.formula.design import Design, Spec, build, level_text, model_keys
from kapstats.formula.expressions import complete_rows, offsets
from kapstats.formula.split import Formula, Random, parse
from kapstats.kernels.block_arrow import Factor
from kapstats.response.repeated import _checked_weights, _fixed_columns, _with_weights

Order = Mapping[str, Sequence[Any]] | None


@dataclass(frozen=True)
class RandomTerm:
    """One correlated block of random effects.

    group : R's label of the grouping factor ("THERAPIST:USUBJID"); groups : its columns; text : as written
    names : (k,) columns of Z; spec : evaluates them on other rows
    factor, start : its place among the factors and among that factor's columns
    """

    group: str
    groups: tuple[str, ...]
    text: str
    names: tuple[str, ...]
    spec: Spec
    factor: int
    start: int

    @property
    def stop(self) -> int:
        """End of its columns."""
        return self.start + len(self.names)


@dataclass(frozen=True)
class RandomDesign:
    """All random effects of a model, terms in formula order.

    factors : grouping factors, most random effects first, Z in a basis of unit mean square that is orthogonal within a
    correlated block; basis[t] (r, r): Z as written = Z basis; levels[t]: the labels of the levels of factor t
    """

    terms: tuple[RandomTerm, ...]
    factors: tuple[Factor, ...]
    basis: tuple[FloatArray, ...]
    levels: tuple[tuple[Any, ...], ...]

    def covariance(self, term: RandomTerm, T: Sequence[FloatArray]) -> FloatArray:
        """Covariance (k, k) of a term's effects as written, from the factors T in the working basis."""
        at = slice(term.start, term.stop)
        root = np.linalg.solve(self.basis[term.factor], T[term.factor])[at]
        return np.asarray(root @ root.T)

    def as_written(self, t: int, effects: FloatArray) -> FloatArray:
        """Effects (levels, r) of factor t for Z as written."""
        return np.asarray(np.linalg.solve(self.basis[t], effects.T).T)

    def rows(self, frame: pd.DataFrame) -> tuple[tuple[IntArray, FloatArray], ...]:
        """Per factor the level codes (n,), -1 for an unseen level, and Z (n, r) in the working basis, for new rows."""
        out = []
        for t, Z in enumerate(self.columns(frame)):
            known = {level: i for i, level in enumerate(self.levels[t])}
            groups = next(term.groups for term in self.terms if term.factor == t)
            out.append((np.array([known.get(key, -1) for key in _keys(frame, groups)], dtype=np.int64), Z))
        return tuple(out)

    def columns(self, frame: pd.DataFrame) -> tuple[FloatArray, ...]:
        """Per factor Z (n, r) in the working basis for new rows, whatever their levels."""
        out = []
        for t in range(len(self.factors)):
            own = sorted((term for term in self.terms if term.factor == t), key=lambda term: term.start)
            Z = np.hstack([term.spec.matrix(frame) for term in own])
            out.append(np.asarray(np.linalg.solve(self.basis[t].T, Z.T).T, dtype=np.float64))
        return tuple(out)


@dataclass(frozen=True)
class ModelRows:
    """Complete rows of one analysis.

    used : the complete rows; rows : their positions in the caller's table; y : response (N,); offset (N,);
    weights (N,) or None; n_records : rows of the caller's table; missing : {column: rows missing}; kind of table;
    order : level order of factor columns, asked for
    """

    formula: Formula
    design: Design
    random: RandomDesign
    used: pd.DataFrame
    rows: IntArray
    offset: FloatArray
    weights: FloatArray | None
    n_records: int
    missing: dict[str, int]
    kind: str
    warnings: tuple[str, ...]
    order: Order = None

    @property
    def X(self) -> FloatArray:
        """The columns that are not aliased."""
        return self.design.X[:, ~self.design.aliased]


def prepare(
    formula: str,
    data: FrameLike,
    *,
    weights: Any = None,
    order: Order = None,
    response: Sequence[str] | None = None,
    gaussian: bool = True,
) -> ModelRows:
    """Check the formula, take complete rows, build X and Z. `response`: its expressions where it is not one number."""
    parsed = check_formula(formula)
    frame = frames.to_pandas(data)
    frames.tell_unused(order, frame)
    n_records = len(frame)
    frame, weight_column = _with_weights(frame, weights)
    rows, missing = complete_rows(frame, _columns(parsed, frame, weight_column, response))
    if not len(rows):
        raise DataError(f"{formula}: no row is complete (missing: {missing}). There is nothing to fit.")
    used = frame if len(rows) == n_records else frame.iloc[rows].reset_index(drop=True)
    fixed = build(parsed.fixed, used, order=order)
    random = build_random(parsed.random, used, fixed, order)
    if gaussian:
        _refuse_saturated(random, len(used))
    offset = offsets(parsed.offset, used)
    w = None if weight_column is None else _checked_weights(used[weight_column])
    keys = model_keys(used, fixed, parsed.text, [g for r in parsed.random for g in r.groups])
    said = (*fixed.warnings, *aliased_warning(fixed), *keys)
    return ModelRows(parsed, fixed, random, used, rows, offset, w, n_records, missing, frames.kind(data), said, order)


def check_formula(text: str) -> Formula:
    """A formula with at least one bar term and nothing that belongs to other models."""
    parsed = parse(text)
    if not isinstance(parsed.response, str):
        raise FormulaError(f"Formula {text!r}: a mixed model needs a response before the ~, not Surv().")
    if not parsed.random:
        raise FormulaError(
            f"Formula {text!r}: there is no random effect such as (1 | USUBJID). "
            "For a covariance over visits use ks.mmrm, for independent rows ks.ancova."
        )
    for name in ("strata", "cluster", "frailty"):
        if getattr(parsed, name):
            raise FormulaError(f"Formula {text!r}: {name}() is not part of a mixed model; write a factor or (1 | g).")
    return parsed


def _columns(parsed: Formula, frame: pd.DataFrame, weights: str | None, response: Sequence[str] | None) -> list[str]:
    groups = [g for r in parsed.random for g in r.groups]
    slopes = [e for r in parsed.random for e in _slope_columns(r, frame)]
    left = [str(parsed.response)] if response is None else list(response)
    covariance = parsed.covariance
    extra = [] if covariance is None else [*covariance.coordinates, covariance.subject]
    extra += [covariance.group] if covariance is not None and covariance.group else []
    frames.require(frame, groups)
    found = [*left, *_fixed_columns(parsed, frame), *groups, *slopes, *extra, *parsed.offset]
    return found + ([weights] if weights else [])


def _slope_columns(term: Random, frame: pd.DataFrame) -> list[str]:
    return _fixed_columns(Formula(text="", response=None, fixed=term.terms), frame)


@dataclass(frozen=True)
class _Block:
    """One correlated block before it is placed: its bar term, and its design."""

    bar: Random
    design: Design


def build_random(terms: Sequence[Random], used: pd.DataFrame, fixed: Design, order: Order) -> RandomDesign:
    """Z of all terms, those on the same grouping factor side by side."""
    orders = {**{c: f.values for c, f in fixed.factors.items()}, **dict(order or {})}
    blocks = [
        _Block(r, build(text, used, order=orders, alias=False)) for r in terms for text in _blocks(r, used, orders)
    ]
    groups = {b.bar.groups: _codes(used, b.bar.groups, dict(order or {})) for b in blocks}
    effects = {g: len(names) * sum(b.design.X.shape[1] for b in blocks if b.bar.groups == g)
               for g, (_, names) in groups.items()}  # fmt: skip
    ranked = sorted(groups, key=lambda g: -effects[g])
    factors, bases = [], []
    for g in ranked:
        own = [b.design.X for b in blocks if b.bar.groups == g]
        Z, basis = _working_basis(own)
        factors.append(Factor(groups[g][0], len(groups[g][1]), Z, tuple(X.shape[1] for X in own)))
        bases.append(basis)
    placed = _placed(blocks, ranked)
    return RandomDesign(placed, tuple(factors), tuple(bases), tuple(groups[g][1] for g in ranked))


def _placed(blocks: Sequence[_Block], ranked: Sequence[tuple[str, ...]]) -> tuple[RandomTerm, ...]:
    """Blocks in formula order with their places among the columns of their factor."""
    start, out = dict.fromkeys(ranked, 0), []
    for b in blocks:
        g, label = b.bar.groups, ":".join(b.bar.groups)
        text = f"{b.bar.terms} {'|' if b.bar.correlated else '||'} {label}"
        out.append(RandomTerm(label, g, text, b.design.names, b.design.spec, ranked.index(g), start[g]))
        start[g] += b.design.X.shape[1]
    return tuple(out)


def _blocks(term: Random, used: pd.DataFrame, orders: Mapping[str, Sequence[Any]]) -> list[str]:
    """The right-hand sides of the correlated blocks: one, or with ``||`` one per model term (as R lme4)."""
    if term.correlated:
        return [term.terms]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KapstatsWarning)
        whole = build(term.terms, used, order=orders, alias=False)
    return ["1" if not t.factors else f"0 + {t.name}" for t in whole.terms]


def _codes(used: pd.DataFrame, groups: tuple[str, ...], order: Mapping[str, Sequence[Any]]) -> tuple[IntArray, Any]:
    """Codes of a grouping factor and its labels; an interaction has the combinations that occur."""
    if len(groups) == 1:
        found = frames.levels(used, groups[0], order.get(groups[0]))
        codes, names = found.codes, found.values
    else:
        keys = pd.Series(_keys(used, groups), dtype="object")
        code, unique = pd.factorize(keys)
        codes, names = code.astype(np.int64), tuple(unique)
    if len(names) < 2:
        raise DataError(
            f"({':'.join(groups)}): the grouping factor has one level ({first_ids(names)}) over {len(used)} rows, so "
            "its variance cannot be estimated. Leave the term out."
        )
    return codes, names


def _keys(frame: pd.DataFrame, groups: tuple[str, ...]) -> list[Any]:
    frames.require(frame, groups)
    if len(groups) == 1:
        return list(frame[groups[0]].astype("object"))
    parts = [[level_text(v) for v in frame[g].astype("object")] for g in groups]
    return [":".join(key) for key in zip(*parts, strict=True)]


def _working_basis(blocks: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Z with each block orthonormal (times sqrt N), and the matrix back: Z as written = Z basis."""
    Zs, bases = [], []
    for Z in blocks:
        n, k = Z.shape
        scale = np.sqrt((Z**2).mean(axis=0))
        if not np.all(scale > 0):
            raise DataError("A column of a random-effects term is zero in every row; leave it out.")
        Q, R = linalg.qr(Z / scale, mode="economic")
        sound = np.abs(np.diag(R)).min() > 1e-6 * np.sqrt(n)
        if not sound and k > 1:
            raise DataError("The columns of a random-effects term are linearly dependent; leave one out.")
        basis = R / np.sqrt(n) * scale
        Zs.append(Q * np.sqrt(n))
        bases.append(basis)
    return np.hstack(Zs), linalg.block_diag(*bases)


def _refuse_saturated(random: RandomDesign, n: int) -> None:
    for t, factor in enumerate(random.factors):
        effects = factor.n_levels * factor.Z.shape[1]
        if effects >= n:
            label = next(term.group for term in random.terms if term.factor == t)
            raise DataError(
                f"({label}): {effects} random effects for {n} rows; they cannot be told from the residual. "
                "Drop a random slope or the term."
            )


def aliased_warning(design: Design) -> tuple[str, ...]:
    """Warn of columns without an estimate; what was said, for the sentence of the fit."""
    if not design.aliased.any():
        return ()
    names = [name for name, lost in zip(design.names, design.aliased, strict=True) if lost]
    text = f"{len(names)} columns of the design are linear combinations of others and have no estimate: "
    return (warn(text + first_ids(names)),)


def counts(rows: ModelRows) -> str:
    """ "1047 of 1100 records; 180 subject, 24 therapist; 53 missing QIDS"."""
    sizes = {}
    for term in rows.random.terms:
        sizes[term.group] = len(rows.random.levels[term.factor])
    text = f"{len(rows.used)} of {rows.n_records} records; " + ", ".join(f"{n} {g}" for g, n in sizes.items())
    return text + "".join(f"; {n} missing {c}" for c, n in rows.missing.items())


def bars(rows: ModelRows) -> str:
    """The random terms as written."""
    return " + ".join(f"({t})" for t in dict.fromkeys(t.text for t in rows.random.terms))
