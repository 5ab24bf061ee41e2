"""Aalen-Johansen estimator for one initial state and several absorbing causes, and Gray's test.

Letters: ``Y`` number at risk, ``D`` events (times x causes), ``S`` probability of no event yet, ``F`` cumulative
incidence. Risk sets are ``entry < t <= exit``; events precede censorings at equal times; all cells are counts, so tied
times need no jitter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc

Array = npt.NDArray[Any]
Codes = npt.NDArray[np.int64]
ROUNDING = 1e-14


@dataclass(frozen=True, slots=True)
class AalenJohansen:
    """Cumulative incidence at each distinct event or censoring time.

    time (T,), n_risk (T,), n_event (T, K), n_censor (T,), survival (T,), cif (T, K),
    se_survival (T,) and se_cif (T, K): infinitesimal jackknife; se_aalen (T, K): Aalen's counting-process variance.
    """

    time: Array
    n_risk: Array
    n_event: Array
    n_censor: Array
    survival: Array
    cif: Array
    se_survival: Array
    se_cif: Array
    se_aalen: Array


@dataclass(frozen=True, slots=True)
class GrayTest:
    """Gray's K-sample test for one cause: score (G,), variance (G, G), statistic, df, p_value."""

    score: Array
    variance: Array
    statistic: float
    df: int
    p_value: float


def aalen_johansen(
    time: Array, cause: Codes, n_causes: int, *, entry: Array | None = None, weights: Array | None = None
) -> AalenJohansen:
    """State probabilities from exit `time`, `cause` (0 censored, 1..K), optional `entry` and `weights`, all (n,)."""
    time = np.asarray(time, float)
    weight = np.ones(time.size) if weights is None else np.asarray(weights, float)
    grid, at = np.unique(time, return_inverse=True)
    counts = np.bincount(at * (n_causes + 1) + cause, weight, grid.size * (n_causes + 1)).reshape(grid.size, -1)
    D, censored = counts[:, 1:], counts[:, 0]
    first = np.zeros(time.size, np.int64) if entry is None else np.searchsorted(grid, entry, side="right")
    entered = np.cumsum(np.bincount(first, weight, grid.size + 1))[: grid.size]
    Y = entered - np.concatenate([[0.0], np.cumsum(counts.sum(1))[:-1]])
    S, before, F = _product_integral(D, Y)
    se_S, se_F = _infinitesimal_jackknife(D, Y, before, F, at, first, cause, weight)
    return AalenJohansen(grid, Y, D, censored, S, F, se_S, se_F, _aalen_error(D, Y, before, S, F))


def _product_integral(D: Array, Y: Array) -> tuple[Array, Array, Array]:
    """S(t), S(t-) and F(t) from events D (T, K) and numbers at risk Y (T,)."""
    total = D.sum(1)
    share = np.divide(Y - total, Y, out=np.ones_like(Y), where=Y > 0)
    S = np.cumprod(np.where(np.abs(share) < 1e-14, 0.0, share))
    before = np.concatenate([[1.0], S[:-1]])
    jump = np.divide(before[:, None] * D, Y[:, None], out=np.zeros_like(D), where=Y[:, None] > 0)
    return S, before, np.cumsum(jump, axis=0)


def _infinitesimal_jackknife(
    D: Array, Y: Array, before: Array, F: Array, at: Codes, first: Codes, cause: Codes, weight: Array
) -> tuple[Array, Array]:
    """Square roots of sum_i w_i^2 (dP(t)/dw_i)^2, in one pass of cumulative sums.

    The influence of subject i on F_k(t) is A_i(t) - F_k(t) B_i(t), with martingale increments dM_i in
    A_i = sum a dM_ik + F_k b dM_i., B_i = sum b dM_i., a = S(t-)/Y, b = 1/(Y - d); on S(t) it is -S(t) B_i(t).
    """
    total = D.sum(1)
    safe = np.where(Y > 0, Y, 1.0)
    left = Y - total
    b = np.divide(1.0, left, out=np.zeros_like(left), where=left > 1e-12 * safe)
    hazard = total / safe
    B = _MartingaleSum(b * hazard, b[at], at, first, cause > 0, weight)
    S = before * (1.0 - hazard)
    se_F = np.empty_like(F)
    for k in range(D.shape[1]):
        drift = before / safe * D[:, k] / safe + F[:, k] * b * hazard
        jump = (F[:, k] * b)[at] + np.where(cause == k + 1, (before / safe)[at], 0.0)
        A = _MartingaleSum(drift, jump, at, first, cause > 0, weight)
        own, shared = A.product(A), F[:, k] ** 2 * B.product(B)
        variance = own - 2.0 * F[:, k] * A.product(B) + shared
        lost = variance <= ROUNDING * (own + shared)  # nothing is left but the rounding of the three terms
        se_F[:, k] = np.sqrt(np.where(lost, 0.0, variance))
    return S * np.sqrt(np.maximum(B.product(B), 0.0)), se_F


class _MartingaleSum:
    """sum_{s <= t} c(s) dM_i(s) for every subject: a fixed value after exit, minus the drift since entry before it."""

    __slots__ = ("_after", "_at", "_drift", "_first", "_start", "_weight")

    def __init__(
        self, drift: Array, jump: Array, at: Codes, first: Codes, event: npt.NDArray[np.bool_], weight: Array
    ) -> None:
        cumulative = np.concatenate([[0.0], np.cumsum(drift)])
        self._drift, self._start = cumulative[1:], cumulative[first]
        self._after = np.where(event, jump, 0.0) - (cumulative[at + 1] - self._start)
        self._at, self._first, self._weight = at, first, weight**2

    def product(self, other: _MartingaleSum) -> Array:
        """sum_i w_i^2 A_i(t) B_i(t) at every grid time."""
        size = self._drift.size

        def running(at: Codes, values: Array) -> Array:
            return np.cumsum(np.bincount(at, values, size + 1))[:size]

        w, p, q = self._weight, self._start, other._start
        fixed = running(self._at, w * self._after * other._after)

        def open_sum(values: Array) -> Array:
            return running(self._first, values) - running(self._at, values)

        c, d = self._drift, other._drift
        return fixed + c * d * open_sum(w) - c * open_sum(w * q) - d * open_sum(w * p) + open_sum(w * p * q)


def _aalen_error(D: Array, Y: Array, before: Array, S: Array, F: Array) -> Array:
    """Aalen (1978) error of F_k with the hypergeometric tie correction, held between events of k, as cmprsk::cuminc."""
    out = np.empty_like(F)
    for k in range(D.shape[1]):
        own, other = D[:, k], D.sum(1) - D[:, k]
        u = _tied_increment(own, Y, before)
        v = np.where(S > 0, _tied_increment(other, Y, before), 0.0)
        t3 = np.divide(1.0, S, out=np.zeros_like(S), where=S > 0)
        ratio = t3 * F[:, k]
        v1 = np.cumsum((1.0 + ratio) ** 2 * u + ratio**2 * v)
        v2 = np.cumsum(t3 * (1.0 + ratio) * u + t3 * ratio * v)
        v3 = np.cumsum(t3**2 * (u + v))
        variance = v1 + F[:, k] ** 2 * v3 - 2.0 * F[:, k] * v2
        last = np.maximum.accumulate(np.where(own > 0, np.arange(own.size), -1))
        out[:, k] = np.where(last >= 0, np.sqrt(np.maximum(variance[last], 0.0)), 0.0)
    return out


def _tied_increment(d: Array, Y: Array, before: Array) -> Array:
    """S(t-)^2 d / Y^2 times 1 - (d - 1)/(Y - 1)."""
    tie = 1.0 - np.divide(d - 1.0, Y - 1.0, out=np.zeros_like(Y), where=(d > 1) & (Y > 1))
    return np.divide(before**2 * tie * d, Y**2, out=np.zeros_like(Y), where=(Y > 0) & (d > 0))


def gray_test(
    time: Array, cause: Codes, group: Codes, n_groups: int, *, stratum: Codes | None = None, rho: float = 0.0
) -> GrayTest:
    """Gray (1988) test of equal cumulative incidence of cause 1 (`cause`: 0 censored, 1 of interest, 2 other)."""
    strata = np.zeros(time.size, np.int64) if stratum is None else stratum
    score, variance = np.zeros(n_groups), np.zeros((n_groups, n_groups))
    for s in np.unique(strata):
        i = strata == s
        z, V = _gray_stratum(time[i], cause[i], group[i], n_groups, rho)
        score, variance = score + z, variance + V
    keep = np.flatnonzero(np.diag(variance) > 0)[:-1]
    if keep.size == 0:
        return GrayTest(score, variance, float("nan"), 0, float("nan"))
    statistic = float(score[keep] @ np.linalg.solve(variance[np.ix_(keep, keep)], score[keep]))
    return GrayTest(score, variance, statistic, keep.size, float(chdtrc(keep.size, statistic)))


def _gray_stratum(time: Array, cause: Codes, group: Codes, G: int, rho: float) -> tuple[Array, Array]:
    """Scores and their variance in one stratum (Gray 1988, sections 2 and 4), arrays over event times x groups."""
    grid, at = np.unique(time, return_inverse=True)
    cell = np.bincount((at * G + group) * 3 + cause, minlength=grid.size * G * 3).reshape(-1, G, 3).astype(float)
    Y = cell.sum(2)[::-1].cumsum(0)[::-1]
    some = cell[:, :, 1:].sum((1, 2)) > 0
    if not cell[:, :, 1].any():
        return np.zeros(G), np.zeros((G, G))
    Y, D1, D2 = Y[some], cell[some, :, 1], cell[some, :, 2]
    risk = Y > 0
    safe = np.where(risk, Y, 1.0)
    S = np.cumprod(np.where(risk, (Y - D1 - D2) / safe, 1.0), axis=0)
    S_left = np.vstack([np.ones(G), S[:-1]])
    F_left = np.vstack([np.zeros(G), np.cumsum(S_left * D1 / safe, axis=0)[:-1]])
    h = np.divide(Y, S_left, out=np.zeros_like(Y), where=risk)
    R = h * (1.0 - F_left)
    d1, h_sum = D1.sum(1), h.sum(1)
    F0 = np.cumsum(d1 / h_sum)
    F0_left = np.concatenate([[0.0], F0[:-1]])
    W = (1.0 - F0_left) ** rho
    score = (W[:, None] * (D1 - d1[:, None] * R / R.sum(1, keepdims=True))).sum(0)
    return score, _gray_variance(Y, D2, S, S_left, h, d1, W, F0, F0_left, safe)


def _gray_variance(
    Y: Array, D2: Array, S: Array, S_left: Array, h: Array, d1: Array, W: Array, F0: Array, F0_left: Array, safe: Array
) -> Array:
    """sum over times and groups k of u_ik u_jk times the variance of group k's cause increments."""
    h_sum = h.sum(1)
    a = W[:, None, None] * (h[:, :, None] * np.eye(Y.shape[1]) - h[:, :, None] * h[:, None, :] / h_sum[:, None, None])
    c = np.cumsum(a * (d1 / (h_sum * (1.0 - F0_left)))[:, None, None], axis=0)
    remaining = c[-1] - c
    ratio = np.divide((1.0 - F0)[:, None], S, out=np.zeros_like(S), where=S > 0)
    size = h_sum[:, None] * S_left - 1.0
    tie1 = 1.0 - np.divide(d1[:, None] - 1.0, size, out=np.zeros_like(S), where=(d1[:, None] > 1) & (size != 0))
    v1 = np.where(Y > 0, tie1 * S_left * d1[:, None] / (h_sum[:, None] * safe), 0.0)
    tie2 = 1.0 - np.divide(D2 - 1.0, Y - 1.0, out=np.zeros_like(S), where=(D2 > 1) & (Y > 1))
    v2 = np.where((S > 0) & (D2 > 0), tie2 * (S_left / safe) ** 2 * D2, 0.0)
    u1 = a + (1.0 - ratio)[:, None, :] * remaining
    u2 = ratio[:, None, :] * remaining

    def total(u: Array, v: Array) -> Any:
        return np.einsum("tik,tjk,tk->ij", u, u, v, optimize=True)

    return total(u1, v1) + total(u2, v2)
