"""Directions in which a log-concave likelihood rises for ever: the recession cone, by linear programming.

A likelihood of comparisons rises (or stays) along d when no comparison falls: A d >= 0, one row of A per comparison. A
direction in the relative interior of that cone decides every comparison that can be decided; along it the likelihood
tends to its supremum, and what is left to maximise are the comparisons with A d = 0 (Albert and Anderson 1984).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog
from scipy.sparse import eye_array, hstack

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

#: differences below this share of a column's range are rounding
SAME = 1e-10
#: longest direction looked at, in column ranges, and the margin by which a comparison counts as decided
FARTHEST, DECIDED = 1e5, 1e-5
#: comparisons that the linear programme starts from
WORKING_SET = 500


@dataclass(frozen=True, slots=True)
class Recession:
    """direction (p,) in the relative interior; sign (p,): 1 or -1 where the coefficient runs to that infinity along
    every such direction, 0 where it stays finite, NaN where the cone leaves it open."""

    direction: FloatArray
    sign: FloatArray


def recession(A: FloatArray, span: FloatArray, equal: FloatArray | None = None) -> Recession | None:
    """The cone {d : A d >= 0, equal d = 0} for A (c, p), equal (e, p) and ranges (p,) of the columns; None when no
    comparison can be decided."""
    size = np.where(span > 0, span, 1.0)
    rows = unit_rows(A / size)
    tied = unit_rows((np.zeros((0, len(size))) if equal is None else equal) / size)
    if not len(rows) or not len(size):
        return None
    d = _interior(rows, tied)
    if d is None:
        return None
    margin = rows @ d
    flat = np.vstack([rows[margin < DECIDED], tied])
    d = _project(d, flat)
    if not len(d) or (margin < DECIDED).all() or (rows @ d < -1e-8 * np.abs(d).max()).any():
        return None
    return Recession(d / size, _signs(d, rows, tied, flat))


def at_infinity(sign: FloatArray, b: FloatArray) -> FloatArray:
    """b where it stays finite, else +-inf, or NaN where the side is open."""
    far = np.where(np.isnan(sign), np.nan, np.copysign(np.inf, sign))
    return np.where(sign == 0, b, far)


def unit_rows(A: FloatArray) -> FloatArray:
    """Distinct rows scaled to a largest entry of 1, rounding and rows of zeros taken out."""
    A = np.where(np.abs(A) < SAME, 0.0, A)
    largest = np.abs(A).max(axis=1, initial=0.0)
    A = A[largest > 0] / largest[largest > 0, None]
    return A[np.unique(np.round(A, 12), axis=0, return_index=True)[1]] if len(A) else A


def _interior(rows: FloatArray, tied: FloatArray) -> FloatArray | None:
    """The direction that decides as many comparisons as possible, from a growing set of them.

    What the set leaves undecided is level along its whole cone, and so is every combination of it. Any other comparison
    outside the set that the direction leaves undecided, or turns over, joins it.
    """
    chosen = np.zeros(len(rows), bool)
    chosen[:: max(1, len(rows) // WORKING_SET)] = True
    while True:
        d = _most_decided(rows[chosen], tied)
        if d is None:
            return None
        missed = rows @ d < DECIDED
        basis = row_space(np.vstack([rows[chosen & missed], tied]))
        missed &= ~chosen & (np.abs(rows - rows @ basis @ basis.T).max(axis=1) > 1e-9)
        if not missed.any():
            return d
        chosen[np.flatnonzero(missed)[np.argsort((rows @ d)[missed])[:WORKING_SET]]] = True


def _most_decided(rows: FloatArray, tied: FloatArray) -> FloatArray | None:
    """max sum s subject to 0 <= s <= 1, s <= rows d, tied d = 0."""
    c, p = rows.shape
    bounds = [(-FARTHEST, FARTHEST)] * p + [(0.0, 1.0)] * c
    found = linprog(
        np.concatenate([np.zeros(p), -np.ones(c)]),
        A_ub=hstack([-rows, eye_array(c)]).tocsr(),
        b_ub=np.zeros(c),
        A_eq=np.hstack([tied, np.zeros((len(tied), c))]) if len(tied) else None,
        b_eq=np.zeros(len(tied)) if len(tied) else None,
        bounds=bounds,
        method="highs",
        options={"primal_feasibility_tolerance": 1e-9},
    )
    return None if found.x is None else np.asarray(found.x[:p], dtype=float)


def _project(d: FloatArray, flat: FloatArray) -> FloatArray:
    """`d` without what is not in the null space of `flat`."""
    return d - row_space(flat) @ (row_space(flat).T @ d)


def row_space(A: FloatArray) -> FloatArray:
    """Orthonormal basis (p, r) of the rows of A."""
    if not len(A):
        return np.zeros((A.shape[1], 0))
    _, values, rows = np.linalg.svd(A.T @ A)
    return np.asarray(rows[values > 1e-12 * max(values.max(), 1.0)].T)


def _signs(d: FloatArray, rows: FloatArray, tied: FloatArray, flat: FloatArray) -> FloatArray:
    """Where every coefficient goes along the directions of the interior."""
    p = len(d)
    basis = row_space(flat)
    finite = np.abs(1.0 - np.sum(basis**2, axis=1)) < 1e-9  # e_j lies in the row space
    sign = np.where(finite, 0.0, np.sign(d))
    if p - basis.shape[1] == 1:
        return sign
    for j in np.flatnonzero(~finite).tolist():
        if abs(d[j]) < 1e-9 * np.abs(d).max() or _reaches(j, -sign[j], rows, tied):
            sign[j] = np.nan
    return sign


def _reaches(j: int, sign: float, rows: FloatArray, tied: FloatArray) -> bool:
    """Whether some direction of the cone moves coefficient j to the side `sign`."""
    cost = np.zeros(rows.shape[1])
    cost[j] = -sign
    found = linprog(
        cost,
        A_ub=-rows,
        b_ub=np.zeros(len(rows)),
        A_eq=tied if len(tied) else None,
        b_eq=np.zeros(len(tied)) if len(tied) else None,
        bounds=(-1.0, 1.0),
        method="highs",
    )
    return found.x is not None and -found.fun > 1e-6
