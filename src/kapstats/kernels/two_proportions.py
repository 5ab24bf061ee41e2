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
Table = tuple[FloatArray, FloatArray, FloatArray, FloatArray]


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


def mover_jeffreys(x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray, tail: float) -> Limits:
    """Square-and-add of two Jeffreys intervals with edges at 0 and 1 (Brown, Cai & DasGupta 2001)."""
    p1, p2 = ratio(x1, n1), ratio(x2, n2)
    (l1, u1), (l2, u2) = (one_proportion.jeffreys(x, n, tail, True) for x, n in ((x1, n1), (x2, n2)))
    return p1 - p2 - np.hypot(p1 - l1, u2 - p2), p1 - p2 + np.hypot(u1 - p1, p2 - l2)


def hauck_anderson(x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray, tail: float) -> Limits:
    """d -+ (z se + 1/(2 min n)), variances over n - 1 (Hauck & Anderson 1986), within [-1, 1]; NaN at n = 1."""
    p1, p2 = ratio(x1, n1), ratio(x2, n2)
    with np.errstate(invalid="ignore"):
        error = np.sqrt(ratio(p1 * (1 - p1), np.maximum(n1 - 1, 0)) + ratio(p2 * (1 - p2), np.maximum(n2 - 1, 0)))
    half = -ndtri(tail) * error + ratio(1.0, 2 * np.minimum(n1, n2))
    half = np.where((n1 > 1) & (n2 > 1), half, np.nan)
    return np.maximum(p1 - p2 - half, -1.0), np.minimum(p1 - p2 + half, 1.0)


def mover_ratio(x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray, tail: float) -> Limits:
    """Limits of the risk ratio recovered from two Wilson intervals (Donner & Zou 2012): 0 at x1 = 0, inf at x2 = 0."""
    p1, p2 = ratio(x1, n1), ratio(x2, n2)
    (l1, u1), (l2, u2) = one_proportion.wilson(x1, n1, tail), one_proportion.wilson(x2, n2, tail)
    low = _recovered(p1 * p2, l1 * (2 * p1 - l1), u2 * (2 * p2 - u2), u2, p2, -1)
    high = _recovered(p1 * p2, u1 * (2 * p1 - u1), l2 * (2 * p2 - l2), l2, p2, 1)
    known = (n1 > 0) & (n2 > 0)
    low, high = np.where(x1 == 0, 0.0, low), np.where(x2 == 0, np.inf, high)
    return np.where(known, low, np.nan), np.where(known, high, np.nan)


def _recovered(
    product: FloatArray, top: FloatArray, bottom: FloatArray, limit: FloatArray, p2: FloatArray, sign: int
) -> FloatArray:
    return ratio(product + sign * np.sqrt(np.maximum(product**2 - top * bottom, 0.0)), limit * (2 * p2 - limit))


def smoothed(x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray) -> Table:
    """Events and others of both groups, with two observations spread as independence has them (Agresti 1999)."""
    total, m = n1 + n2, x1 + x2
    event, rest, size1, size2 = 2 * ratio(m, total), 2 * ratio(total - m, total), ratio(n1, total), ratio(n2, total)
    return x1 + size1 * event, n1 - x1 + size1 * rest, x2 + size2 * event, n2 - x2 + size2 * rest


def cross_ratio(a: FloatArray, b: FloatArray, c: FloatArray, d: FloatArray) -> FloatArray:
    """ad/(bc), the odds ratio of four cells."""
    return ratio(ratio(a, b), ratio(c, d))


def cross_error(a: FloatArray, b: FloatArray, c: FloatArray, d: FloatArray) -> FloatArray:
    """Standard error of the log odds ratio of four cells; NaN with an empty one."""
    error = np.sqrt(sum((ratio(1.0, cell) for cell in (a, b, c, d)), np.zeros_like(a)))
    return np.where(np.isfinite(error), error, np.nan)


def katz_error(x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray) -> FloatArray:
    """Standard error of the log risk ratio, sqrt(1/x1 - 1/n1 + 1/x2 - 1/n2); NaN with a zero count."""
    error = np.sqrt(ratio(1.0, x1) - ratio(1.0, n1) + ratio(1.0, x2) - ratio(1.0, n2))
    return np.where(np.isfinite(error), error, np.nan)


def woolf_error(x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray) -> FloatArray:
    """Standard error of the log odds ratio, the root of the sum of the reciprocal cells; NaN with a zero cell."""
    return cross_error(x1, n1 - x1, x2, n2 - x2)


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
