"""F tests of model terms: the hypotheses of SAS types II and III, whatever the coding of the factors.

Type III is found in the over-parametrised model, where every factor has a column per level, so that neither reference
levels nor coding matter: among the estimable functions that involve a term and the terms that contain it, those
orthogonal to the functions that involve the containing terms alone (SAS/STAT, The Four Types of Estimable Functions).
Type II adjusts a term for all terms that do not contain it, with the unweighted X'X: L = X2'M1X, where X2 are the
columns of the term and M1 takes away all columns of the terms that do not contain it. For a term that no other contains
this is the type III hypothesis.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from kapstats._types import BoolArray, FloatArray, IntArray
from kapstats.errors import FormulaError
from kapstats.estimates import Estimates
from kapstats.formula.design import Design, Term
from kapstats.inference.contrasts import Joint, Model

ROWS_PER_CELL = 8
RANK = 1e-8  # share of a column's length that must be left beside others


def anova(
    model: Model,
    design: Design,
    used: pd.DataFrame,
    *,
    type: int = 3,
    df: str | None = None,
    vcov: str | None = None,
    form: str = "deviation",
    root: FloatArray | None = None,
    describe: Mapping[str, Any],
) -> Estimates:
    """One F test per model term in formula order, without the intercept.

    Parameters
    ----------
    model : the fit; `design`, `used` its design and rows
    type : 2 or 3
    df, vcov : methods, None for the model's default
    form, root : see `hypotheses`
    """
    tests = [(term.name, _test(model, L, df, vcov)) for term, L in hypotheses(design, used, type, form, root)]
    frame = pd.DataFrame(
        {
            "term": [name for name, _ in tests],
            "num_df": [t.num_df for _, t in tests],
            "df": [t.df for _, t in tests],
            "statistic": [t.statistic for _, t in tests],
            "p_value": [t.p_value for _, t in tests],
        }
    )
    return Estimates(frame, {**describe, "title": f"Type {'III' if type == 3 else 'II'} tests"})


def _test(model: Model, L: FloatArray, df: str | None, vcov: str | None) -> Joint:
    return model.joint(L, df=df, vcov=vcov) if len(L) else Joint(float("nan"), 0, float("nan"), float("nan"))


def hypotheses(
    design: Design, used: pd.DataFrame, type: int = 3, form: str = "deviation", root: FloatArray | None = None
) -> list[tuple[Term, FloatArray]]:
    """(term, L) with L (num_df, q) over all columns of the design; no rows where nothing of a term is estimable.

    form : rows of a hypothesis, on which only Satterthwaite's joint df depend: "deviation", levels against the mean of
        levels under type III and against the reference under type II (as R mmrm), or "reference" (as R lmerTest), one
        row per coefficient, for a term that others contain under type II and in a model of one term as the sequential
        (Doolittle) reduction of X'X leaves them
    root : (kept, kept) with root'root the unweighted X'X of the columns that are kept; None takes it from `design.X`
    """
    if type not in (2, 3):
        raise FormulaError(f"type={type!r}: choose 2 or 3.")
    terms = [t for t in design.terms if t.factors]
    full = _full_columns(design, used)
    if root is None:
        root = np.asarray(np.linalg.qr(design.X[:, ~design.aliased], mode="r"))
    sequential = form == "reference" and len(terms) == 1
    found = []
    for term in terms:
        contained = any(_contains(design, term, other) for other in terms)
        if sequential or (type == 2 and contained):
            found.append((term, _type_two(design, term, root, form == "reference", *full)))
            continue
        L = _plain_form(_type_three(design, term, *full), design, term)
        found.append((term, _turned(L, design, term) if type == 3 and form == "deviation" else L))
    return found


def _turned(L: FloatArray, design: Design, term: Term) -> FloatArray:
    """L in the form of `_sum_form`, where as many rows are estimable as the term has columns."""
    form = _sum_form(design, term)
    return form @ L if form.shape[1] == len(L) else L


def _plain_form(L: FloatArray, design: Design, term: Term) -> FloatArray:
    """L with the identity over the term's own columns where that is possible: one row per own coefficient."""
    own = np.arange(term.start, term.stop)[~design.aliased[term.start : term.stop]]
    if len(own) != len(L) or not len(L):
        return L
    block = L[:, own]
    if np.linalg.svd(block, compute_uv=False)[-1] < 1e-9:
        return L
    plain = np.linalg.solve(block, L)
    whole = np.round(plain * 5040) / 5040
    return np.where(np.abs(plain - whole) < 1e-11, whole, plain)


def _sum_form(design: Design, term: Term) -> FloatArray:
    """From effects against the reference to effects against the mean of levels, the last level left out.

    The F statistic does not depend on the form, Satterthwaite's joint df do: this is the form of R mmrm.
    """
    own = ~design.aliased[term.start : term.stop]
    width = term.stop - term.start
    form: FloatArray = np.eye(1)
    coded = dict(next(pairs for name, pairs in design.spec.terms if name == term.name))
    for v in term.factors:
        variable = design.spec.variables[v]
        if variable.kind != "factor":
            block = np.eye(variable.width)
        elif coded[v]:
            k = len(variable.levels) - 1
            effects = np.vstack([np.zeros(k), np.eye(k)])
            block = (effects - effects.mean(axis=0))[:k]
        else:
            block = np.eye(len(variable.levels))
        form = np.asarray(np.kron(block, form))
    return form if own.all() and len(form) == width else np.eye(int(own.sum()))


def _contains(design: Design, inner: Term, outer: Term) -> bool:
    """Whether `outer` contains `inner`: the same covariates, and all of its factors and more."""
    kinds = design.spec.variables
    a, b = ({v for v in t.factors if kinds[v].kind == "factor"} for t in (inner, outer))
    x, y = ({v for v in t.factors if kinds[v].kind != "factor"} for t in (inner, outer))
    return x == y and a < b


def _full_columns(design: Design, used: pd.DataFrame) -> tuple[FloatArray, list[str], list[Term]]:
    """The estimable functions of the over-parametrised model as rows (rank, columns), column names and terms."""
    spec = replace(design.spec, terms=tuple((name, tuple((v, False) for v, _ in t)) for name, t in design.spec.terms))
    names, spans, at = spec.names(), [], 0
    for term, (label, pairs) in zip(design.terms, spec.terms, strict=True):
        width = len(spec._term_names(label, pairs))
        spans.append(replace(term, start=at, stop=at + width))
        at += width
    rows = _representatives(design, used)
    x = design.spec.matrix(rows)[:, ~design.aliased]
    turned, r = np.linalg.qr(x)
    functions = np.linalg.solve(r, turned.T @ spec.matrix(rows))
    whole = np.round(functions)
    return np.where(np.abs(functions - whole) < 1e-9, whole, functions), names, spans


def _representatives(design: Design, used: pd.DataFrame) -> pd.DataFrame:
    """A few rows of every combination of factor levels, enough to span the design; all rows where they do not."""
    if not design.factors:
        rows = used.iloc[:2000]
    else:
        codes = pd.DataFrame({c: f.codes for c, f in design.factors.items()})
        rows = used.loc[(codes.groupby(list(codes.columns)).cumcount() < ROWS_PER_CELL).to_numpy()]
    kept = ~design.aliased
    x = design.spec.matrix(rows)[:, kept]
    scale = np.linalg.norm(x, axis=0)
    full = len(x) >= kept.sum() and (scale > 0).all() and np.linalg.svd(x / scale, compute_uv=False)[-1] > 1e-7
    return rows if full else used


def _roles(design: Design, term: Term, names: list[str], spans: list[Term]) -> tuple[BoolArray, BoolArray]:
    """Columns of the over-parametrised model that belong to the term, and to terms that contain it."""
    own = next(s for s in spans if s.name == term.name)
    mine, containing = np.zeros(len(names), dtype=bool), np.zeros(len(names), dtype=bool)
    mine[own.start : own.stop] = True
    for span in spans:
        containing[span.start : span.stop] |= _contains(design, own, span)
    return mine, containing


def _type_three(design: Design, term: Term, functions: FloatArray, names: list[str], spans: list[Term]) -> FloatArray:
    mine, containing = _roles(design, term, names, spans)
    only = _null_rows(functions[:, ~(mine | containing)]) @ functions
    if not len(only):
        return np.zeros((0, len(design.names)))
    higher = _null_rows(only[:, mine]) @ only
    if len(higher):
        only = only - only @ np.linalg.pinv(higher) @ higher
    basis = _row_basis(only)
    place = [names.index(name) for name in design.names]
    return basis[:, place]


def _type_two(
    design: Design, term: Term, root: FloatArray, sequential: bool,
    functions: FloatArray, names: list[str], spans: list[Term],
) -> FloatArray:  # fmt: skip
    """A basis of the rows of X2'M1X; `sequential`: each coefficient after those of the term before it."""
    mine, containing = _roles(design, term, names, spans)
    X = root @ functions  # the inner products of the columns over all rows, in as many rows as the rank
    scale = np.linalg.norm(X, axis=0)
    scale[scale == 0] = 1.0
    below = _row_basis((X / scale)[:, ~(mine | containing)].T)
    swept = X / scale - below.T @ (below @ (X / scale))
    swept[:, ~(mine | containing)] = 0.0
    place = np.array([names.index(name) for name in design.names])
    if sequential:
        own = _independent_columns(swept, place[term.start : term.stop])
        turned, upper = np.linalg.qr(swept[:, own])
        return (turned.T @ swept * scale)[:, place] / (np.diag(upper) * scale[own])[:, None]
    u, s, _ = np.linalg.svd(swept[:, mine], full_matrices=False)
    return _plain_form(_unit_basis(((u[:, s > RANK].T @ swept) * scale)[:, place]), design, term)


def _independent_columns(a: FloatArray, among: IntArray) -> IntArray:
    """Those of the columns `among` that the ones before them do not span; columns have length 1 or less."""
    chosen: list[int] = []
    for j in among:
        if np.linalg.svd(a[:, [*chosen, j]], compute_uv=False)[-1] > RANK:
            chosen.append(int(j))
    return np.array(chosen, dtype=np.intp)


def _null_rows(a: FloatArray) -> FloatArray:
    """Rows n with n a = 0, orthonormal. a (rows, columns)."""
    if a.shape[1] == 0:
        return np.eye(len(a))
    u, s, _ = np.linalg.svd(a)
    rank = int((s > 1e-9 * max(s[0], 1e-300)).sum()) if len(s) and s[0] > 0 else 0
    return u[:, rank:].T


def _row_basis(a: FloatArray) -> FloatArray:
    """An orthonormal basis of the row space."""
    _, s, v = np.linalg.svd(a, full_matrices=False)
    return v[s > 1e-9 * max(s.max(initial=0.0), 1e-300)]


def _unit_basis(rows: FloatArray) -> FloatArray:
    """A basis of rows whose lengths say nothing (products of columns in their own units)."""
    return _row_basis(rows / np.linalg.norm(rows, axis=1, keepdims=True)) if len(rows) else rows
