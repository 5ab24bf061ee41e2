"""Closed-form limits and tests for two independent binomials, row by row.

x1 of n1 minus / over x2 of n2; z is the normal quantile of the tail probability `tail`. Limits are (low, high).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc, ndtri, xlogy

from kapstats.kernels import one_proportion

FloatArray = npt.NDArray[np.float64]
Limits = tuple[FloatArray, FloatArray]


def ratio(a: FloatArray | float, b: FloatArray | float) -> FloatArray:
    """a/b with 0/0 = NaN and a/0 = inf, in silence."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.divide(a, b), dtype=float)


def difference(x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray) -> FloatArray:
    """x1/n1 - x2/n2."""
    return ratio(x1, n1) - ratio(x2, n2)


def risk_ratio(x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray) -> FloatArray:
    """(x1/n1) / (x2/n2): inf when only x2 = 0, NaN when both are 0."""
    return ratio(ratio(x1, n1), ratio(x2, n2))


def odds_ratio(x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray) -> FloatArray:
    """x1 (n2 - x2) / (x2 (n1 - x1)): NaN when a column of the table is empty."""
    return ratio(x1 * (n2 - x2), x2 * (n1 - x1))


def wald_difference_error(x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray) -> FloatArray:
    """sqrt(p1 q1/n1 + p2 q2/n2)."""
    p1, p2 = ratio(x1, n1), ratio(x2, n2)
    return np.sqrt(ratio(p1 * (1 - p1), n1) + ratio(p2 * (1 - p2), n2))


def wald_difference(
    x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray, tail: float, corrected: bool = False
) -> Limits:
    """d -+ (z se + c), c = (1/n1 + 1/n2)/2 with continuity correction; unclipped."""
    shift = (ratio(1.0, n1) + ratio(1.0, n2)) / 2 if corrected else 0.0
    half = -ndtri(tail) * wald_difference_error(x1, n1, x2, n2) + shift
    d = difference(x1, n1, x2, n2)
    return d - half, d + half


def agresti_caffo(x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray, tail: float) -> Limits:
    """Wald on one success and one failure added to each group (Agresti & Caffo 2000), clipped to [-1, 1]."""
    low, high = wald_difference(x1 + 1, n1 + 2, x2 + 1, n2 + 2, tail)
    known = (n1 > 0) & (n2 > 0)
    return np.where(known, np.maximum(low, -1), np.nan), np.where(known, np.minimum(high, 1), np.nan)


def newcombe(
    x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray, tail: float, corrected: bool = False
) -> Limits:
    """Square-and-add of two Wilson intervals (Newcombe 1998, method 10; with continuity correction, method 11)."""
    single = one_proportion.wilson_cc if corrected else one_proportion.wilson
    p1, p2 = ratio(x1, n1), ratio(x2, n2)
    (l1, u1), (l2, u2) = single(x1, n1, tail), single(x2, n2, tail)
    d = p1 - p2
    return d - np.hypot(p1 - l1, u2 - p2), d + np.hypot(u1 - p1, p2 - l2)


def katz_error(x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray) -> FloatArray:
    """Standard error of the log risk ratio, sqrt(1/x1 - 1/n1 + 1/x2 - 1/n2); NaN with a zero count."""
    error = np.sqrt(ratio(1.0, x1) - ratio(1.0, n1) + ratio(1.0, x2) - ratio(1.0, n2))
    return np.where(np.isfinite(error), error, np.nan)


def woolf_error(x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray) -> FloatArray:
    """Standard error of the log odds ratio, the root of the sum of the reciprocal cells; NaN with a zero cell."""
    error = np.sqrt(ratio(1.0, x1) + ratio(1.0, n1 - x1) + ratio(1.0, x2) + ratio(1.0, n2 - x2))
    return np.where(np.isfinite(error), error, np.nan)


def log_limits(estimate: FloatArray, error: FloatArray, tail: float) -> Limits:
    """estimate * exp(-+ z error)."""
    with np.errstate(invalid="ignore", over="ignore"):
        factor = np.exp(-ndtri(tail) * error)
        low, high = estimate / factor, estimate * factor
    return np.where(np.isfinite(error), low, np.nan), np.where(np.isfinite(error), high, np.nan)


def pearson_z(x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray, corrected: bool = False) -> FloatArray:
    """Signed root of Pearson's chi-square, times sqrt((N-1)/N) when `corrected`; 0 when a column is empty."""
    total, m = n1 + n2, x1 + x2
    pooled = ratio(m, total)
    variance = pooled * (1 - pooled) * (ratio(1.0, n1) + ratio(1.0, n2))
    if corrected:
        variance = variance * ratio(total, np.maximum(total - 1, 1))
    d = difference(x1, n1, x2, n2)
    return np.where(d == 0, 0.0, ratio(d, np.sqrt(variance)))


def chi_square(
    x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray, kind: str
) -> tuple[FloatArray, FloatArray]:
    """Chi-square statistic and p value: kind pearson, yates, n-1 or likelihood-ratio; NaN when a column is empty."""
    cells = np.stack([x1, n1 - x1, x2, n2 - x2])
    m, total = x1 + x2, n1 + n2
    expected = np.stack([n1 * m, n1 * (total - m), n2 * m, n2 * (total - m)]) / total
    if kind == "likelihood-ratio":
        with np.errstate(divide="ignore", invalid="ignore"):
            statistic = 2 * np.sum(xlogy(cells, cells / expected), axis=0)
    else:
        gap = np.abs(cells - expected)
        shift = np.minimum(0.5, gap) if kind == "yates" else 0.0
        statistic = np.sum(ratio((gap - shift) ** 2, expected), axis=0)
        statistic = statistic * (total - 1) / total if kind == "n-1" else statistic
    statistic = np.where((m > 0) & (m < total) | (kind == "likelihood-ratio"), statistic, np.nan)
    return statistic, chdtrc(1, statistic)
