"""Whether one fitted model is a special case of another: what a likelihood-ratio test takes for granted.

Fixed effects: the columns of the smaller design are combinations of those of the larger one, on the same rows.
Random effects: every block of the smaller model lies in one block of the larger one over the same groups.
Covariance structures: a table says which are special cases of which (over the same visits, subjects and groups).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from kapstats._types import FloatArray, IntArray
from kapstats.errors import ConvergenceError, DataError, FormulaError
from kapstats.formula.design import Design
from kapstats.formula.split import Covariance
from kapstats.response.random_effects import ModelRows

SPAN = 1e-7  # share of a column's length that the larger model may leave

_INSIDE = {
    "us": ("toep", "toeph", "ar1", "ar1h", "cs", "csh", "ad", "adh", "diag"),
    "toeph": ("toep", "ar1", "ar1h", "cs", "csh", "diag"),
    "adh": ("ad", "ar1", "ar1h", "diag"),
    "ar1h": ("ar1", "diag"),
    "csh": ("cs", "diag"),
    "toep": ("ar1", "cs"),
    "ad": ("ar1",),
}
_HETEROGENEOUS = ("us", "toeph", "adh", "ar1h", "csh")


def check_class(model: Any, reduced: Any) -> None:
    """Both models come from the same verb."""
    if type(model) is not type(reduced):
        names = " and ".join(type(m).__name__ for m in (model, reduced))
        raise FormulaError(f"lrt: compares two fits of one verb; here are {names}. Write both models with one of them.")


def check_rows(*pairs: tuple[FloatArray | None, FloatArray | None]) -> None:
    """Both models describe the same responses: every pair of columns (None: all ones) is the same."""
    size = len(next(a for pair in pairs for a in pair if a is not None))
    filled = [tuple(np.ones(size) if a is None else a for a in pair) for pair in pairs]
    if not all(np.array_equal(a, b) for a, b in filled):
        raise FormulaError("lrt: the models were not fitted to the same rows, response and weights.")


def check_fixed(large: Design, small: Design, rows: pd.DataFrame | None = None) -> None:
    """The fixed effects of `small` are nested in those of `large`, over their own rows or over `rows`."""
    X, lost = _columns(large, rows), []
    try:
        Z = _columns(small, rows)
    except DataError:  # a column that the larger model does not have
        Z, lost = X[:, :0], [t.name for t in small.terms if t.name not in {u.name for u in large.terms}]
    scale = np.maximum(np.linalg.norm(X, axis=0), 1e-300)
    q, _ = np.linalg.qr(X / scale)
    rest = np.linalg.norm(Z - q @ (q.T @ Z), axis=0)
    bad = np.flatnonzero(rest > SPAN * np.maximum(np.linalg.norm(Z, axis=0), 1e-300))
    names = np.array(small.names)[~small.aliased]
    lost += [str(names[i]) for i in bad]
    if lost:
        raise FormulaError(
            f"lrt: the models are not nested: {', '.join(lost[:5])} of the smaller model is no combination of the "
            "fixed effects of the larger one."
        )


def _columns(design: Design, rows: pd.DataFrame | None) -> FloatArray:
    return (design.X if rows is None else design.spec.matrix(rows))[:, ~design.aliased]


def check_structure(
    large: Covariance | None, small: Covariance | None, names: Sequence[str] = ("", ""), visits: int = 3
) -> None:
    """The residual covariance of `small` is a special case of that of `large`; None is independence.

    names : the structures that were fitted, where a chain replaced those of the terms; visits : how many
    """
    if small is None:
        return
    if large is not None:
        own, other = (n or c.structure for n, c in zip(names, (large, small), strict=True))
        same = (large.subject, large.coordinates) == (small.subject, small.coordinates)
        if same and small.group in (None, large.group) and nested(own, other, visits):
            return
    whole = "independent residuals" if large is None else _written(large, names[0])
    raise FormulaError(f"lrt: the models are not nested: {_written(small, names[1])} is no special case of {whole}.")


def nested(large: str, small: str, visits: int) -> bool:
    """Whether a covariance structure is a special case of another over so many visits.

    Examples
    --------
    >>> nested("toeph", "ar1h", 4), nested("csh", "ar1", 4)
    (True, False)
    """
    if visits < 3:  # one correlation at most
        ranks = {"us": 2, "cs": 1, "toep": 1, "ar1": 1, "ad": 1, **dict.fromkeys(_HETEROGENEOUS, 2)}
        if large in ranks and small in ranks:
            return ranks[large] >= ranks[small]
    return large == small or small in _INSIDE.get(large, ())


def _written(term: Covariance, name: str) -> str:
    group = f"{term.group} / " if term.group else ""
    return f"{name or term.structure}({', '.join(term.coordinates)} | {group}{term.subject})"


def check_random(large: ModelRows, small: ModelRows) -> None:
    """Every block of random effects of `small` lies in the span of one block of `large` over the same groups."""
    blocks = [(_partition(large, t.factor), t.spec.matrix(large.used)) for t in large.random.terms]
    for term in small.random.terms:
        groups, Z = _partition(small, term.factor), term.spec.matrix(small.used)
        if not any(np.array_equal(groups, g) and _spans(X, Z) for g, X in blocks):
            raise FormulaError(
                f"lrt: the models are not nested: the random effects ({term.text}) of the smaller model are no special "
                "case of those of the larger one."
            )


def _partition(rows: ModelRows, factor: int) -> IntArray:
    """Codes of the groups by first appearance, so that equal partitions have equal codes."""
    return np.asarray(pd.factorize(rows.random.factors[factor].codes)[0])


def _spans(X: FloatArray, Z: FloatArray) -> bool:
    q, _ = np.linalg.qr(X / np.maximum(np.linalg.norm(X, axis=0), 1e-300))
    rest = np.linalg.norm(Z - q @ (q.T @ Z), axis=0)
    return bool((rest <= SPAN * np.maximum(np.linalg.norm(Z, axis=0), 1e-300)).all())


def statistic(large: float, small: float) -> float:
    """2 (l - l0), zero to rounding; a ConvergenceError when the smaller model has the higher likelihood."""
    found = 2 * (large - small)
    if not found >= -1e-5 * max(1.0, 1e-4 * abs(large)):
        raise ConvergenceError(
            f"lrt: the smaller model has the higher log-likelihood ({small:.6f} against {large:.6f}), which nested "
            "models cannot have at their maxima. One of the fits is not at its maximum; simplify or rescale it."
        )
    return max(found, 0.0)
