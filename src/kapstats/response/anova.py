"""F tests of model terms: the hypotheses of SAS types II and III, whatever the coding of the factors.

Type III is found in the over-parametrised model, where every factor has a column per level, so that neither reference
levels nor coding matter: among the estimable functions that involve a term and the terms that contain it, those
orthogonal to the functions that involve the containing terms alone (SAS/STAT, The Four Types of Estimable Functions).
Type II adjusts a term for all terms that do not contain it, with the unweighted X'X.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from kapstats._types import FloatArray
from kapstats.errors import FormulaError
from kapstats.estimates import Estimates
from kapstats.formula.design import Design, Term
from kapstats.inference.contrasts import Joint, Model

ROWS_PER_CELL = 8


def anova(
    model: Model,
    design: Design,
    used: pd.DataFrame,
    gram: FloatArray,
    *,
    type: int = 3,
    df: str | None = None,
    vcov: str | None = None,
    form: str = "deviation",
    describe: Mapping[str, Any],
) -> Estimates:
    """One F test per model term in formula order, without the intercept.

    Parameters
    ----------
    model : the fit; `design`, `used` its design and rows; `gram` (q, q) its unweighted X'X
    type : 2 or 3
    df, vcov : methods, None for the model's default
    form : see `hypotheses`
    """
    tests = [(term.name, _test(model, L, df, vcov)) for term, L in hypotheses(design, used, gram, type, form)]
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
    design: Design, used: pd.DataFrame, gram: FloatArray, type: int = 3, form: str = "deviation"
) -> list[tuple[Term, FloatArray]]:
    """(term, L) with L (num_df, q) over all columns of the design; no rows where nothing of a term is estimable.

    form : rows of a hypothesis, on which only Satterthwaite's joint df depend: "deviation", levels against the mean of
        levels (as R mmrm), or "reference" (as R lmerTest), one row per coefficient, under type II and in a model of one
        term as the sequential (Doolittle) reduction of X'X leaves them
    """
    if type not in (2, 3):
        raise FormulaError(f"type={type!r}: choose 2 or 3.")
    terms = [t for t in design.terms if t.factors]
    if form == "reference" and (type == 2 or len(terms) == 1):
        return [(t, _sequential(_type_two(design, t, gram), design, t)) for t in terms]
    if type == 2:
        return [(t, _plain_form(_unit_basis(_type_two(design, t, gram)), design, t)) for t in terms]
    full = _full_columns(design, used)
    plain = [(t, _plain_form(_type_three(design, t, *full), design, t)) for t in terms]
    return plain if form == "reference" else [(t, _turned(L, design, t)) for t, L in plain]


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


def _type_three(design: Design, term: Term, functions: FloatArray, names: list[str], spans: list[Term]) -> FloatArray:
    own = next(s for s in spans if s.name == term.name)
    mine = np.zeros(len(names), dtype=bool)
    mine[own.start : own.stop] = True
    containing = np.zeros(len(names), dtype=bool)
    for span in spans:
        containing[span.start : span.stop] |= _contains(design, own, span)
    only = _null_rows(functions[:, ~(mine | containing)]) @ functions
    if not len(only):
        return np.zeros((0, len(design.names)))
    higher = _null_rows(only[:, mine]) @ only
    if len(higher):
        only = only - only @ np.linalg.pinv(higher) @ higher
    basis = _row_basis(only)
    place = [names.index(name) for name in design.names]
    return basis[:, place]


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


def _type_two(design: Design, term: Term, gram: FloatArray) -> FloatArray:
    q = len(design.names)
    kept = ~design.aliased
    mine, higher = np.zeros(q, dtype=bool), np.zeros(q, dtype=bool)
    mine[term.start : term.stop] = True
    for other in design.terms:
        higher[other.start : other.stop] |= _contains(design, term, other)
    below = kept & ~mine & ~higher
    scale = np.sqrt(np.where(np.diag(gram) > 0, np.diag(gram), 1.0))
    unit = gram / np.outer(scale, scale)
    swept = unit - unit[:, below] @ np.linalg.solve(unit[np.ix_(below, below)], unit[below])
    rows = swept[mine & kept]
    rows[:, ~(kept & (mine | higher))] = 0.0
    return rows * scale * scale[mine & kept][:, None]


def _sequential(rows: FloatArray, design: Design, term: Term) -> FloatArray:
    """Each coefficient after those before it: the unit upper triangle of the term's own block of the swept X'X."""
    own = np.arange(term.start, term.stop)[~design.aliased[term.start : term.stop]]
    if not len(own):
        return rows
    upper = np.linalg.cholesky(rows[:, own]).T
    return np.asarray(np.linalg.solve(upper.T, rows) / np.diag(upper)[:, None])
