"""Absolute risk of a cause from cause-specific Cox models, with influence-function standard errors.

F_1(t|x) = sum over u <= t of S(u-|x) L_1(u|x), L_k(u|x) = exp(x'b_k) dL_k0(u), dL_k0 the Breslow or Efron increment of
the baseline hazard, S the product limit prod(1 - sum_k L_k). The influence of a subject (derivative in its weight) on
L_k(u|x) comes directly and through b_k; it passes to F_1 through both factors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class CauseHazard:
    """One cause: coef (p,), X (n, p), score influence V U (n, p), event (n,) and time (n,)."""

    coef: Array
    X: Array
    influence: Array
    event: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Increments:
    """Per time (T,): baseline increment, and each subject's influence on it (n, T), through the coefficients too."""

    hazard: Array
    influence: Array


def absolute_risk(
    time: Array, causes: list[CauseHazard], x_new: list[Array], times: Array, *, efron: bool = True
) -> tuple[Array, Array]:
    """Risk and standard error (m, len(times)) of the first cause for new covariates `x_new` (per cause (m, p))."""
    grid = np.unique(time[np.any([c.event for c in causes], axis=0)])
    parts = [_increments(time, c, grid, efron) for c in causes]
    at = np.searchsorted(grid, times, side="right")
    m = len(x_new[0])
    risk, error = np.zeros((m, len(times))), np.zeros((m, len(times)))
    for j in range(m):
        hazards, moves = [], []
        for c, part, x in zip(causes, parts, x_new, strict=True):
            scale = float(np.exp(x[j] @ c.coef))
            hazards.append(scale * part.hazard)
            moves.append(scale * (part.influence + c.influence @ x[j][:, None] * part.hazard))
        risk[j], error[j] = _one(np.array(hazards), moves, at)
    return risk, error


def _one(hazards: Array, moves: list[Array], at: Array) -> tuple[Array, Array]:
    """Risk and standard error at grid positions `at` from hazards (K, T) and influences (K of (n, T))."""
    total = hazards.sum(0)
    S = np.concatenate([[1.0], np.cumprod(1.0 - total)[:-1]])
    F = np.concatenate([[0.0], np.cumsum(S * hazards[0])])
    ratio = np.cumsum(sum(moves) / np.maximum(1.0 - total, 1e-12), axis=1)
    before = np.concatenate([np.zeros((len(ratio), 1)), ratio[:, :-1]], axis=1)
    influence = np.cumsum(S * (moves[0] - hazards[0] * before), axis=1)
    influence = np.concatenate([np.zeros((len(ratio), 1)), influence], axis=1)
    return F[at], np.sqrt((influence[:, at] ** 2).sum(0))


def _increments(time: Array, c: CauseHazard, grid: Array, efron: bool) -> _Increments:
    """Baseline increments sum_j 1/(S0 - f_j D0) and their derivatives in the case weights and in the coefficients."""
    e = np.exp(c.X @ c.coef)
    order = np.argsort(time, kind="stable")
    first = np.searchsorted(time[order], grid, side="left")
    position = np.searchsorted(grid, time)
    seen = np.flatnonzero(c.event & (position < grid.size))

    def at_risk(values: Array) -> Array:
        tail = np.concatenate([np.cumsum(values[order][::-1], axis=0)[::-1], np.zeros((1, *values.shape[1:]))])
        return tail[first]

    def tied(values: Array) -> Array:
        out = np.zeros((grid.size, *values.shape[1:]))
        np.add.at(out, position[seen], values[seen])
        return out

    S0, D0, d = at_risk(e), tied(e), tied(np.ones(time.size))
    one, two, two_f = _tie_sums(S0, D0, d, efron)
    slope = two[:, None] * at_risk(c.X * e[:, None]) - two_f[:, None] * tied(c.X * e[:, None])
    influence = np.where(time[:, None] >= grid, -e[:, None] * two, 0.0)
    here = position[seen]
    influence[seen, here] += one[here] / d[here] + e[seen] * two_f[here]
    return _Increments(one, influence - c.influence @ slope.T)


def _tie_sums(S0: Array, D0: Array, d: Array, efron: bool) -> tuple[Array, Array, Array]:
    """sum_j 1/den, 1/den^2 and f_j/den^2 over the d tied events, den = S0 - f_j D0, f_j = j/d (Breslow: 0)."""
    if not efron:
        return d / S0, d / S0**2, np.zeros_like(S0)
    sums = np.zeros((3, S0.size))
    for j in range(int(d.max(initial=0.0))):
        here = d > j
        f = j / d[here]
        den = S0[here] - f * D0[here]
        sums[:, here] += np.array([1.0 / den, 1.0 / den**2, f / den**2])
    return sums[0], sums[1], sums[2]
