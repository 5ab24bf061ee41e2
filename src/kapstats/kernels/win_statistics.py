"""Prioritised pairwise comparison of two arms: wins, losses, and the U-statistic variance of what is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
#: an outcome: values, and whether they are event times that end with the event (None: larger values are better)
Outcome = tuple[FloatArray, BoolArray | None]
BLOCK = 2_000_000


@dataclass(frozen=True, slots=True)
class Wins:
    """Pairs of m treated and n control subjects: wins and losses per outcome (L,), which are decided in their order.

    p_win, p_loss : shares of the pairs; variance_win, variance_loss, covariance of the shares
    """

    pairs: int
    wins: npt.NDArray[np.int64]
    losses: npt.NDArray[np.int64]
    p_win: float
    p_loss: float
    variance_win: float
    variance_loss: float
    covariance: float


def compare(treated: Sequence[Outcome], control: Sequence[Outcome]) -> Wins:
    """Every treated subject against every control: the first outcome that tells the two apart decides.

    Of event times, the one whose event comes while the other is still seen without it loses; equal times are a tie.
    """
    m, n = len(treated[0][0]), len(control[0][0])
    decided = np.zeros((len(treated), 2), np.int64)
    row, column = np.zeros((2, m)), np.zeros((2, n))
    step = max(1, BLOCK // n)
    for low in range(0, m, step):
        rows = slice(low, min(low + step, m))
        sign = np.zeros((rows.stop - low, n), np.int8)
        for k, (one, zero) in enumerate(zip(treated, control, strict=True)):
            found = np.where(sign == 0, _signs(one, zero, rows), 0)
            decided[k] += (found > 0).sum(), (found < 0).sum()
            sign += found.astype(np.int8)
        for side, hit in enumerate((sign > 0, sign < 0)):
            row[side, rows] = hit.mean(axis=1)
            column[side] += hit.sum(axis=0) / m
    shares = row.mean(axis=1)
    a, b = row - shares[:, None], column - shares[:, None]
    V = a @ a.T / m**2 + b @ b.T / n**2
    p_win, p_loss = (float(p) for p in shares)
    return Wins(m * n, decided[:, 0], decided[:, 1], p_win, p_loss, float(V[0, 0]), float(V[1, 1]), float(V[0, 1]))


def _signs(one: Outcome, zero: Outcome, rows: slice) -> npt.NDArray[np.int8]:
    """+1 where the treated subject of the row has the better outcome, -1 the worse, 0 undecided."""
    x, y = one[0][rows, None], zero[0][None, :]
    later, earlier = x > y, x < y
    if one[1] is not None and zero[1] is not None:
        later, earlier = later & zero[1][None, :], earlier & one[1][rows, None]
    return later.astype(np.int8) - earlier.astype(np.int8)
