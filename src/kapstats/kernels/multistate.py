"""State-occupation probabilities of a multistate process by the Aalen-Johansen product integral.

P(t) = P(0) prod (I + dA(u)), dA_jk = dN_jk/Y_j. The standard error is the infinitesimal jackknife by subject: with U_i
the influence of subject i on P, U_i <- U_i (I + dA) + sum_jk p_j (dN_i,jk - Y_ij dA_jk)/Y_j (e_k - e_j) at each time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Codes = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Occupation:
    """time (T,), probability (T, S), std_error (T, S), n_risk (T, S) just before each time, transitions (S, S) counts,
    initial (S,) distribution at the start."""

    time: Array
    probability: Array
    std_error: Array
    n_risk: Array
    transitions: Array
    initial: Array


def occupation(start: Array, stop: Array, origin: Codes, target: Codes, subject: Codes, n_states: int) -> Occupation:
    """From rows (`start`, `stop`] in state `origin` (n,), moving to `target` (n,) at stop, -1 when censored.

    `subject` (n,) codes 0..m-1. The initial distribution is that of the subjects at risk from the earliest start.
    """
    grid = np.unique(stop)
    m = int(subject.max()) + 1
    moves = (target >= 0) & (target != origin)
    first = start == start.min()
    initial = np.bincount(origin[first], minlength=n_states) / first.sum()
    U = np.zeros((m, n_states))
    U[subject[first]] = (np.eye(n_states)[origin[first]] - initial) / first.sum()
    p = initial.copy()
    P, se, risk = (np.empty((grid.size, n_states)) for _ in range(3))
    counts = np.zeros((n_states, n_states))
    for t, time in enumerate(grid):
        here = np.flatnonzero((start < time) & (time <= stop))
        Y = np.bincount(origin[here], minlength=n_states).astype(float)
        ends = here[(stop[here] == time) & moves[here]]
        risk[t] = Y
        if ends.size:
            dN = np.zeros((n_states, n_states))
            np.add.at(dN, (origin[ends], target[ends]), 1.0)
            counts += dN
            U, p = _step(U, p, dN, Y, origin, target, subject, here, ends)
        P[t], se[t] = p, np.sqrt((U**2).sum(0))
    return Occupation(grid, P, se, risk, counts, initial)


def _step(
    U: Array, p: Array, dN: Array, Y: Array, origin: Codes, target: Codes, subject: Codes, here: Codes, ends: Codes
) -> tuple[Array, Array]:
    """Influence and probabilities after one time."""
    safe = np.where(Y > 0, Y, 1.0)
    dA = dN / safe[:, None]
    T = dA + np.diag(1.0 - dA.sum(1))
    U = U @ T
    weight = p / safe
    drift = weight[:, None] * (dA - np.diag(dA.sum(1)))
    np.subtract.at(U, subject[here], drift[origin[here]])
    gain = weight[origin[ends]]
    np.add.at(U, (subject[ends], target[ends]), gain)
    np.subtract.at(U, (subject[ends], origin[ends]), gain)
    return U, p @ T
