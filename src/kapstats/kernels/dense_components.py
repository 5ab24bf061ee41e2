"""Derivatives of a linear mixed model with any parametrised V, block by block over its independent components.

Used where V is not ``s2 (I + Z G Z')``: a residual structure beside random effects. Each component holds its own rows;
V_b and its first and second derivatives are dense (n_b, n_b). Kenward & Roger's letters, with the sign of
`random_effects_kr`: P_j = X'O V_j O X, Q_jk = X'O V_j O V_k O X, R_jk = X'O V_jk O X, O = V^-1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import linalg

from kapstats.kernels.random_effects_kr import VarianceDerivatives

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Component:
    """Rows that are correlated with no others: X (n, p), y (n,), V (n, n), first (k, n, n), second {(j, k): (n, n)}."""

    X: Array
    y: Array
    V: Array
    first: Array
    second: dict[tuple[int, int], Array]


@dataclass(frozen=True, slots=True)
class DenseDerivatives:
    """gradient (k,) of -2 l; pieces: Phi, root, P, Q - R / 4 and both informations, in the units of y."""

    gradient: Array
    pieces: VarianceDerivatives


def derivatives(components: Sequence[Component], reml: bool) -> DenseDerivatives:
    """First and second derivatives of -2 l (REML or ML) and of (X'V^-1X)^-1 in the parameters of V."""
    solved = [_Solved.of(c) for c in components]
    A = np.sum([c.X.T @ s.OX for c, s in zip(components, solved, strict=True)], axis=0)
    root = np.linalg.inv(np.linalg.cholesky(A)).T
    Phi = root @ root.T
    beta = Phi @ np.sum([s.OX.T @ c.y for c, s in zip(components, solved, strict=True)], axis=0)
    k, p = len(components[0].first), len(A)
    P, Q, R = np.zeros((k, p, p)), np.zeros((k, k, p, p)), np.zeros((k, k, p, p))
    trace, traces, curve = np.zeros(k), np.zeros((k, k)), np.zeros((k, k))
    square, squares, lifts = np.zeros(k), np.zeros((k, k)), np.zeros((k, p))
    for c, s in zip(components, solved, strict=True):
        w = s.O @ (c.y - c.X @ beta)
        OV, VOX, Vw = s.O @ c.first, c.first @ s.OX, c.first @ w
        trace += np.einsum("jaa->j", OV)
        traces += np.einsum("jab,kba->jk", OV, OV, optimize=True)
        P += np.einsum("ap,jaq->jpq", s.OX, VOX)
        Q += np.einsum("jap,ab,kbq->jkpq", VOX, s.O, VOX, optimize=True)
        square += Vw @ w
        squares += Vw @ s.O @ Vw.T
        lifts += Vw @ s.OX
        for (i, j), V2 in c.second.items():
            curve[i, j] += np.sum(s.O * V2) - w @ V2 @ w
            R[i, j] += s.OX.T @ V2 @ s.OX
    full = traces - 2 * np.einsum("ab,jkba->jk", Phi, Q) + np.einsum("ab,jbc,cd,kda->jk", Phi, P, Phi, P, optimize=True)
    first = trace - (np.einsum("ab,jba->j", Phi, P) if reml else 0.0)
    inner = full if reml else traces
    restricted = curve - (np.einsum("ab,jkba->jk", Phi, R) if reml else 0.0)
    observed = 2 * (squares - lifts @ Phi @ lifts.T) - inner + restricted
    pieces = VarianceDerivatives(Phi, root, P, Q - R / 4, 0.5 * inner, 0.5 * (observed + observed.T) / 2)
    return DenseDerivatives(first - square, pieces)


@dataclass(frozen=True, slots=True)
class _Solved:
    """O = V^-1 (n, n) and O X (n, p)."""

    O: Array
    OX: Array

    @classmethod
    def of(cls, c: Component) -> _Solved:
        O = linalg.cho_solve(linalg.cho_factor(c.V, lower=True), np.eye(len(c.y)))
        return cls(O, O @ c.X)
