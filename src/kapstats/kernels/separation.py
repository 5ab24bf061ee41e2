"""Directions along which a likelihood never falls: the recession cone of a generalised linear model.

A coefficient is infinite, or not determined, when it changes along some direction of the cone; a linear function is
finite when it is constant along all of them (Geyer 2009, doi:10.1214/08-EJS349).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import linalg, optimize, sparse

Array = npt.NDArray[np.float64]
MOST = 1e4  # bound on a direction whose columns have length about one
MOVES = 1e-3


def binary_cone(X: Array, low: npt.NDArray[np.bool_], high: npt.NDArray[np.bool_]) -> tuple[Array, Array]:
    """Rows whose products with a direction must be 0 or more, and rows whose products must be 0.

    low, high (N,): rows whose response is at its least and greatest value (no event; all events)
    """
    sign = high.astype(float) - low
    return np.unique(sign[:, None][sign != 0] * X[sign != 0], axis=0), np.unique(X[sign == 0], axis=0)


def ordinal_cone(X: Array, y: npt.NDArray[np.float64]) -> tuple[Array, Array]:
    """The same for a cumulative model: directions of (beta, thresholds); y (N,) in 0..K-1."""
    cuts = np.eye(int(y.max()))
    code = y.astype(int)
    below, above = code > 0, code < len(cuts)
    rows = [np.hstack([X[below], -cuts[code[below] - 1]]), np.hstack([-X[above], cuts[code[above]]])]
    return np.unique(np.vstack(rows), axis=0), np.zeros((0, X.shape[1] + len(cuts)))


def recession(edge: Array, middle: Array) -> Array:
    """A basis (k, p) of the span of {d: edge d >= 0, middle d = 0}; no rows when it is {0}.

    A first linear programme looks for one direction (Konis 2007), a second for every row that rises along some
    direction; the span is where all other rows are zero. The rows have full column rank between them.
    """
    p = edge.shape[1]
    if not len(edge):
        return np.zeros((0, p))
    scale = np.maximum(np.abs(np.vstack([edge, middle])).max(axis=0), 1e-300)
    a, b = edge / scale, middle / scale
    rises = _rising(a, b) if _separated(a, b) else np.zeros(len(a), dtype=bool)
    if not rises.any():
        return np.zeros((0, p))
    fixed = np.vstack([a[~rises], b])
    span = linalg.null_space(fixed, rcond=1e-9).T if len(fixed) else np.eye(p)
    return np.where(np.abs(span) > 1e-9, span, 0.0) / scale


def _separated(a: Array, b: Array) -> bool:
    """Whether some |d| <= 1 has a d >= 0, not all zero, and b d = 0."""
    equal = {"A_eq": b, "b_eq": np.zeros(len(b))} if len(b) else {}
    found = optimize.linprog(-a.sum(0), A_ub=-a, b_ub=np.zeros(len(a)), **equal, bounds=(-1.0, 1.0), method="highs")
    return bool(found.status == 0 and -found.fun > 1e-7)


def _rising(a: Array, b: Array) -> npt.NDArray[np.bool_]:
    """Rows of `a` that are above zero for some d with a d >= 0, b d = 0: the largest sum of 0 <= t <= 1, t <= a d."""
    n, p = a.shape
    equal = {"A_eq": np.hstack([b, np.zeros((len(b), n))]), "b_eq": np.zeros(len(b))} if len(b) else {}
    found = optimize.linprog(
        np.r_[np.zeros(p), -np.ones(n)],
        A_ub=sparse.hstack([sparse.csr_array(-a), sparse.eye_array(n)]).tocsr(),
        b_ub=np.zeros(n),
        **equal,
        bounds=[(-MOST, MOST)] * p + [(0.0, 1.0)] * n,
        method="highs",
    )
    return found.x[p:] > MOVES if found.status == 0 else np.zeros(n, dtype=bool)
