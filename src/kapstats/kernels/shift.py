"""Hodges-Lehmann shift of two samples with Moses' interval: order statistics of all pairwise differences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shift:
    """estimate: median of x_i - y_j; low, high: limits; exact: whether the rank distribution was exact; p_value."""

    estimate: float
    low: float
    high: float
    exact: bool
    p_value: float


def rank_sum_counts(m: int, n: int) -> Array:
    """Number of arrangements (m n + 1,) with each value of the Mann-Whitney U of samples of size m and n."""
    counts = np.zeros(m * n + 1)
    counts[0] = 1.0
    for i in range(1, m + 1):
        # multiply by (1 - q^(n + i)) / (1 - q^i): the Gaussian binomial coefficient
        shifted = counts.copy()
        shifted[n + i :] -= counts[: max(len(counts) - n - i, 0)]
        for k in range(i, len(shifted)):
            shifted[k] += shifted[k - i]
        counts = shifted
    return counts


def hodges_lehmann(x: Array, y: Array, level: float = 0.95) -> Shift:
    """Shift of x (m,) over y (n,). Exact when there are no ties and both samples are below 50, as R wilcox.test."""
    m, n = len(x), len(y)
    differences = np.sort((x[:, None] - y[None, :]).ravel())
    pooled = np.concatenate([x, y])
    exact = bool(m < 50 and n < 50 and len(np.unique(pooled)) == m + n)
    rank = _exact_rank(m, n, level) if exact else _normal_rank(pooled, m, n, level)
    u = float((differences > 0).sum() + 0.5 * (differences == 0).sum())
    p = _exact_p(u, m, n) if exact else _normal_p(u, pooled, m, n)
    low = float(differences[rank - 1]) if rank >= 1 else -np.inf
    high = float(differences[m * n - rank]) if rank >= 1 else np.inf
    return Shift(float(np.median(differences)), low, high, exact, p)


def _exact_rank(m: int, n: int, level: float) -> int:
    """Order of the lower limit: smallest u with P(U <= u) >= (1 - level) / 2 (at least 1)."""
    cdf = np.cumsum(rank_sum_counts(m, n)) / special.comb(m + n, m)
    return max(int(np.searchsorted(cdf, (1 - level) / 2 * (1 - 1e-12))), 1)


def _variance(pooled: Array, m: int, n: int) -> float:
    """Variance of U with the correction for ties."""
    ties = np.unique(pooled, return_counts=True)[1]
    total = m + n
    return m * n / 12.0 * (total + 1 - float((ties**3 - ties).sum()) / (total * (total - 1)))


def _normal_rank(pooled: Array, m: int, n: int, level: float) -> int:
    z = float(special.ndtri((1 + level) / 2))
    return int(np.floor(m * n / 2.0 - z * np.sqrt(_variance(pooled, m, n))))


def _exact_p(u: float, m: int, n: int) -> float:
    counts = rank_sum_counts(m, n) / special.comb(m + n, m)
    tail = min(counts[: int(u) + 1].sum(), counts[int(u) :].sum())
    return float(min(2 * tail, 1.0))


def _normal_p(u: float, pooled: Array, m: int, n: int) -> float:
    """Two-sided, with continuity correction."""
    gap = abs(u - m * n / 2.0)
    variance = _variance(pooled, m, n)
    if variance <= 0:
        return 1.0
    return float(min(2 * special.ndtr(-max(gap - 0.5, 0.0) / np.sqrt(variance)), 1.0))
