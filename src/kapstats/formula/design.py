"""From formula and frame to a design matrix: the only place that touches formulaic.

formulaic parses R's term algebra and supplies the spline bases; `expressions` evaluates what stands between. Factors
are treatment coded by R's rule: a factor is coded by contrasts in a term when the term without it is in the model, else
by all its levels. Term and column names are R's.
"""

from __future__ import annotations

import ast
import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd

from kapstats import frames
from kapstats._types import BoolArray, FloatArray, IntArray
from kapstats.data import contract
from kapstats.errors import DataError, FormulaError, first_ids, warn
from kapstats.formula.expressions import BASES, FACTOR_CALLS, columns_in, evaluate, is_numeric, number, syntax, walk
from kapstats.formula.size import check_columns, check_terms
from kapstats.frames import Levels
from kapstats.labels import level_text as level_text

ALIAS_TOLERANCE = 1e-7  # as R's lm: share of a column's norm left by the columns before it
MAX_POWER = 6
MAX_BASIS = 50

# --------------------------------------------------------------------------------------------- terms


@dataclass(frozen=True)
class Term:
    """One model term: R's label, its columns ``start:stop`` in X, and its factors (expressions)."""

    name: str
    start: int
    stop: int
    factors: tuple[str, ...]


@dataclass(frozen=True)
class Variable:
    """One factor of the term algebra: how its expression becomes columns.

    kind : "numeric", "factor" or "basis"
    column : the data column of a factor
    levels : of a factor, the first is the reference
    state : what a basis learned from the data (knots, norms)
    width : number of columns of a numeric or basis variable
    """

    expression: str
    kind: str
    column: str = ""
    levels: tuple[Any, ...] = ()
    state: dict[str, Any] = field(default_factory=dict)
    width: int = 1


@dataclass(frozen=True)
class Spec:
    """A design that can be evaluated again on other rows.

    terms : (label, [(variable, coded by contrasts?)]) in R's order; the intercept is the term without variables
    """

    terms: tuple[tuple[str, tuple[tuple[str, bool], ...]], ...]
    variables: dict[str, Variable]

    def matrix(self, frame: pd.DataFrame) -> FloatArray:
        """X for the rows of `frame`, (n, q). A level that the fit did not see is a DataError."""
        values = {name: _evaluate_variable(v, frame) for name, v in self.variables.items()}
        wanted = dict.fromkeys(pair for _, pairs in self.terms for pair in pairs)
        blocks = {(name, c): _columns(self.variables[name], values[name], c) for name, c in wanted}
        parts = [_term_block([blocks[pair] for pair in pairs], len(frame)) for _, pairs in self.terms]
        return np.ascontiguousarray(np.hstack(parts)) if parts else np.empty((len(frame), 0))

    def widths(self) -> list[int]:
        """The number of columns of every term."""

        def width(name: str, contrasts: bool) -> int:
            variable = self.variables[name]
            return len(variable.levels) - int(contrasts) if variable.kind == "factor" else variable.width

        return [math.prod(width(v, contrasts) for v, contrasts in pairs) for _, pairs in self.terms]

    def names(self) -> list[str]:
        """R's column names."""
        return [name for label, variables in self.terms for name in self._term_names(label, variables)]

    def _term_names(self, label: str, variables: tuple[tuple[str, bool], ...]) -> list[str]:
        if not variables:
            return [label]
        parts = [_variable_names(self.variables[v], contrasts) for v, contrasts in variables]
        return [":".join(reversed(combo)) for combo in _product(list(reversed(parts)))]

    @property
    def columns(self) -> tuple[str, ...]:
        """The data columns that `matrix` reads."""
        found = [c for v in self.variables.values() for c in ((v.column,) if v.column else _basis_columns(v))]
        return tuple(dict.fromkeys(found))


@dataclass(frozen=True)
class Design:
    """A design matrix with what is needed to read it and to build it again.

    X : (n, q) float, aliased columns included
    names : (q,) R's column names
    terms : the model terms with their columns (the intercept included, named "(Intercept)")
    spec : evaluates the same design on other rows
    factors : levels and codes of every factor column over the rows used
    aliased : (q,) True where a column is a linear combination of columns before it
    warnings : what was warned about
    """

    X: FloatArray
    names: tuple[str, ...]
    terms: tuple[Term, ...]
    spec: Spec
    factors: dict[str, Levels]
    aliased: BoolArray
    warnings: tuple[str, ...] = ()


def build(
    fixed: str,
    frame: pd.DataFrame,
    *,
    order: Mapping[str, Sequence[Any]] | None = None,
    categorical: Iterable[str] = (),
    intercept: bool = True,
    alias: bool = True,
) -> Design:
    """The design matrix of the right-hand side `fixed` over the complete rows `frame`.

    Parameters
    ----------
    fixed : R's term algebra over columns and whitelisted expressions
    order : level order of factor columns
    categorical : numeric columns to be taken as factors (the visit column of a covariance structure)
    intercept : whether an intercept is implied (``0 +`` removes it)
    alias : find aliased columns

    Raises
    ------
    FormulaError, DataError
        Unreadable formula, unknown column (with the nearest name), text where a number is needed.

    Examples
    --------
    >>> import pandas as pd
    >>> d = build("arm * x", pd.DataFrame({"arm": ["a", "b", "b"], "x": [1.0, 2.0, 4.0]}), order={"arm": ["a", "b"]})
    >>> d.names
    ('(Intercept)', 'armb', 'x', 'armb:x')
    """
    terms = _parse_terms(fixed, intercept, frame)
    order, categorical = dict(order or {}), set(categorical)
    expressions = list(dict.fromkeys(e for term in terms for e in term))
    factors: dict[str, Levels] = {}
    variables = {e: _learn(e, frame, order, categorical, factors) for e in expressions}
    spec = Spec(_code_terms(terms, variables), variables)
    check_columns(spec.widths(), len(frame))
    X = spec.matrix(frame)
    said = [w for w in (*frames.warn_factors(factors), _warn_single(factors, spec)) if w]
    spans = _spans(spec)
    aliased = find_aliased(X) if alias else np.zeros(X.shape[1], dtype=bool)
    return Design(X, tuple(spec.names()), spans, spec, factors, aliased, tuple(said))


def model_keys(used: pd.DataFrame, design: Design, text: str, groups: Sequence[str]) -> tuple[str, ...]:
    """What the keys of the rows say against a model whose rows belong together by `groups`; see `data.contract`."""
    parameters = contract.one_parameter(used, frames.named(used, text))
    subject = contract.subject_of(used, groups)
    arms = () if subject is None else contract.one_arm_each(used, list(design.factors), subject)
    return (*parameters, *arms)


def _warn_single(factors: Mapping[str, Levels], spec: Spec) -> str:
    """A factor with one level leaves terms without a column (a single-arm trial): said by name, never dropped."""
    single = [f"{c} (only {level_text(f.values[0])})" for c, f in factors.items() if len(f.values) == 1]
    empty = [label for label, pairs in spec.terms if not spec._term_names(label, pairs)]
    if not single or not empty:
        return ""
    text = (
        f"One level in the rows used: {', '.join(single)}. The terms {', '.join(empty)} have no column and no test; "
        "nothing is compared between levels."
    )
    return warn(text)


def _parse_terms(fixed: str, intercept: bool, frame: pd.DataFrame) -> list[tuple[str, ...]]:
    """Terms as tuples of expressions in R's order: by degree, variables by first appearance; () is the intercept."""
    from formulaic.parser import DefaultFormulaParser

    for power in re.findall(r"\)\s*(?:\*\*|\^)\s*(\d+)", fixed):
        if int(power) > MAX_POWER:
            raise FormulaError(f"{fixed}: an interaction power above {MAX_POWER} is not read.")
    check_terms(fixed)
    try:
        parsed = DefaultFormulaParser(include_intercept=intercept).get_terms(fixed.replace("^", "**"))
        found = [tuple(f.expr for f in term.factors) for term in parsed]
    except Exception as error:  # formulaic raises many kinds
        reason = str(error).strip().split("\n")[0]
        raise FormulaError(f"The right-hand side {fixed!r} cannot be read: {reason}") from error
    found = [tuple(e for e in term if e != "1") for term in found]
    if any(e == "0" or re.fullmatch(r"[\d.]+", e) for term in found for e in term):
        raise FormulaError(f"The right-hand side {fixed!r} holds a number as a term; only 0 and 1 may stand there.")
    first = {e: i for i, e in enumerate(dict.fromkeys(e for term in _by_position(found, fixed) for e in term))}
    found = [tuple(sorted(dict.fromkeys(term), key=first.__getitem__)) for term in found]
    return sorted(dict.fromkeys(found), key=len)


def _by_position(terms: list[tuple[str, ...]], text: str) -> list[tuple[str, ...]]:
    """Single variables ordered by where they first stand in `text`, so that factors order as in R."""
    flat = "".join(text.split())

    def place(e: str) -> int:
        match = re.search(rf"(?<![\w.]){re.escape(''.join(e.split()))}(?![\w.])", flat)
        return match.start() if match else len(flat)

    return [(e,) for e in sorted({e for term in terms for e in term}, key=place)]


def _learn(
    expression: str,
    frame: pd.DataFrame,
    order: Mapping[str, Sequence[Any]],
    categorical: set[str],
    factors: dict[str, Levels],
) -> Variable:
    """Decide what `expression` is, and learn levels or basis from the data."""
    column = _factor_column(expression, frame, categorical)
    if column is not None:
        found = frames.levels(frame, column, order.get(column))
        if (found.codes < 0).any():
            raise DataError(f"{column}: {(found.codes < 0).sum()} rows are missing. Take complete rows first.")
        factors[column] = found
        return Variable(expression, "factor", column, found.values)
    if _basis_call(expression) is not None:
        state: dict[str, Any] = {}
        return Variable(expression, "basis", state=state, width=_basis(expression, frame, state).shape[1])
    evaluate(expression, frame)
    return Variable(expression, "numeric")


def _factor_column(expression: str, frame: pd.DataFrame, categorical: set[str]) -> str | None:
    """The column when `expression` is a factor: text, boolean or categorical, ``C(x)``, or named `categorical`."""
    wrapped = re.fullmatch(rf"(?:{'|'.join(FACTOR_CALLS)})\(\s*`?([^`()]+?)`?\s*\)", expression)
    column = wrapped.group(1) if wrapped else expression
    if column not in frame.columns:
        if wrapped or re.fullmatch(r"[^\W\d][\w.]*", expression):
            frames.require(frame, [column])
        return None
    values = frame[column]
    is_factor = wrapped is not None or column in categorical or not is_numeric(values)
    return column if is_factor or pd.api.types.is_bool_dtype(values.dtype) else None


def _basis_call(expression: str) -> ast.Call | None:
    if not expression.startswith(tuple(f"{b}(" for b in BASES)):
        return None
    tree, _ = syntax(expression, ())
    return tree if isinstance(tree, ast.Call) else None


def _basis_columns(variable: Variable) -> tuple[str, ...]:
    return columns_in(variable.expression)


def _basis(expression: str, frame: pd.DataFrame, state: dict[str, Any]) -> FloatArray:
    """Columns of ``poly``, ``bs``, ``ns`` or ``cr``; the knots and norms are learned once and kept in `state`."""
    from formulaic.transforms import TRANSFORMS

    call = _basis_call(expression)
    assert call is not None
    if not isinstance(call.func, ast.Name) or not call.args:
        raise FormulaError(f"{expression}: is no basis of a column, such as poly(x, 2).")
    x = np.broadcast_to(np.asarray(number(walk(call.args[0], frame, expression), expression), float), len(frame))
    try:
        rest = [ast.literal_eval(a) for a in call.args[1:]]
        named = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
        if any(isinstance(v, int) and v > MAX_BASIS for v in (*rest, *named.values())):
            raise ValueError(f"more than {MAX_BASIS} columns are not made from one.")
        learning = not state
        with np.errstate(invalid="ignore", divide="ignore"):  # a constant has no norm; told below
            if call.func.id == "ns":
                from kapstats.kernels.natural_spline import natural_spline

                columns = natural_spline(x, *rest, **named, state=state)
            else:
                columns = TRANSFORMS[call.func.id](pd.Series(x), *rest, **named, _state=state)
    except (ValueError, TypeError) as error:
        raise FormulaError(f"{expression}: {error}") from error
    if isinstance(columns, Mapping):
        return np.column_stack([np.asarray(c, dtype=float) for c in columns.values()])
    array = np.asarray(columns, dtype=float).reshape(len(frame), -1)
    distinct = len(np.unique(x[np.isfinite(x)]))
    if learning and call.func.id == "poly" and array.shape[1] >= distinct > 0:
        raise FormulaError(
            f"{expression}: {distinct} distinct values have no polynomial of degree {array.shape[1]}; "
            f"at most {distinct - 1}."
        )
    return array


def _code_terms(
    terms: list[tuple[str, ...]], variables: dict[str, Variable]
) -> tuple[tuple[str, tuple[tuple[str, bool], ...]], ...]:
    """Say for each factor of each term whether it is coded by contrasts (R's rule, see the module's head)."""
    present = {frozenset(t) for t in terms}
    has_intercept = () in terms
    mains = [t for t in terms if len(t) == 1 and variables[t[0]].kind == "factor"]
    full_main = mains[0] if mains and not has_intercept else None

    def by_contrasts(term: tuple[str, ...], e: str) -> bool:
        rest = frozenset(term) - {e}
        return term != full_main if not rest else rest in present

    coded = [(":".join(t) or "(Intercept)", tuple((e, by_contrasts(t, e)) for e in t)) for t in terms]
    return tuple(coded)


def _evaluate_variable(variable: Variable, frame: pd.DataFrame) -> FloatArray | IntArray:
    """Codes (n,) of a factor, or the columns (n, width) of a numeric or basis variable."""
    if variable.kind == "factor":
        return _codes(variable, frame)
    if variable.kind == "basis":
        return _basis(variable.expression, frame, variable.state)
    return evaluate(variable.expression, frame)[:, None]


def _codes(variable: Variable, frame: pd.DataFrame) -> IntArray:
    frames.require(frame, [variable.column])
    codes, unique = pd.factorize(frame[variable.column])
    place = pd.Index(list(variable.levels), dtype="object").get_indexer(pd.Index(list(unique), dtype="object"))
    if (place < 0).any() or (codes < 0).any():
        unseen = [u for u, at in zip(unique, place, strict=True) if at < 0] or ["(missing)"]
        known = first_ids(variable.levels, 8)
        raise DataError(f"{variable.column}: level {unseen[0]!r} was not in the data of the fit. Its levels: {known}.")
    return place[codes].astype(np.int64)


def _columns(variable: Variable, values: Any, contrasts: bool) -> FloatArray:
    """Columns of one variable: a factor's dummies (without the reference when coded by contrasts), or the numbers."""
    return np.eye(len(variable.levels))[:, int(contrasts) :][values] if variable.kind == "factor" else values


def _term_block(parts: list[FloatArray], n: int) -> FloatArray:
    """Columns of one term: products over its variables, the first varying fastest."""
    return reduce(_row_products, parts) if parts else np.ones((n, 1))


def _row_products(a: FloatArray, b: FloatArray) -> FloatArray:
    return (b[:, :, None] * a[:, None, :]).reshape(len(a), -1)


def _variable_names(variable: Variable, contrasts: bool) -> list[str]:
    if variable.kind == "factor":
        return [f"{variable.expression}{level_text(level)}" for level in variable.levels[int(contrasts) :]]
    if variable.kind == "basis":
        return [f"{variable.expression}{i + 1}" for i in range(variable.width)]
    return [variable.expression]


def _product(parts: list[list[str]]) -> list[tuple[str, ...]]:
    """All combinations, the last part varying fastest."""
    return list(itertools.product(*parts))


def _spans(spec: Spec) -> tuple[Term, ...]:
    spans, at = [], 0
    for label, variables in spec.terms:
        width = len(spec._term_names(label, variables))
        spans.append(Term(label, at, at + width, tuple(v for v, _ in variables)))
        at += width
    return tuple(spans)


def find_aliased(X: FloatArray, tolerance: float = ALIAS_TOLERANCE) -> BoolArray:
    """True for each column of X (n, q) that the columns before it span, to `tolerance` of its norm.

    A Cholesky factor of the scaled X'X proves full rank cheaply; only when it cannot are the columns of R = QR(X)
    orthogonalised one by one, leaving out those that are spanned (so that the first columns are kept, as in R).
    """
    n, q = X.shape
    norms = np.sqrt(np.einsum("ij,ij->j", X, X))
    aliased = norms == 0
    if q == 0:
        return aliased
    scale = np.where(norms > 0, norms, 1.0)
    if n >= q and not aliased.any():
        gram = (X.T @ X) / np.outer(scale, scale)
        try:
            if np.diag(np.linalg.cholesky(gram)).min() > 1e-4:
                return aliased
        except np.linalg.LinAlgError:
            pass
    R: FloatArray = np.asarray(np.linalg.qr(X / scale, mode="r"))
    basis = np.zeros((R.shape[0], 0))
    for j in range(q):
        rest = R[:, j]
        for _ in range(2):
            rest = rest - basis @ (basis.T @ rest)
        length = np.linalg.norm(rest)
        aliased[j] = length < tolerance
        if not aliased[j]:
            basis = np.column_stack([basis, rest / length])
    return aliased
