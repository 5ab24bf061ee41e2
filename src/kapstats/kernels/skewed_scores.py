"""Skewness-corrected asymptotic score (SCAS) limits: one proportion, and the difference or ratio of two.

Letters as in `score_intervals`: S(theta) is the score numerator, V(theta) its null variance with N/(N-1) and m3(theta)
its third central moment, all at the maximum likelihood estimates given theta. The corrected statistic z solves (Gart &
Nam 1988, equation 3.3; Laud 2017)

    z + m3 / (6 V^(3/2)) (z^2 - 1) = S / V^(1/2),

whose root on the branch that tends to S / V^(1/2) without skewness is taken (-1/(2A) where there is none, with A the
factor of z^2 - 1); the limits are where it passes the normal quantiles.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from kapstats.kernels import score_intervals as score
from kapstats.kernels.roots import find_root

FloatArray = npt.NDArray[np.float64]
Limits = tuple[FloatArray, FloatArray]

_LOG_EDGE = 300.0


def proportion_limits(x: FloatArray, n: FloatArray, tail: float) -> Limits:
    """Closed form for one proportion; 0 and 1 exactly at x = 0 and x = n, NaN at n = 0."""
    return _proportion_low(x, n, tail), 1 - _proportion_low(n - x, n, tail)


def _proportion_low(x: FloatArray, n: FloatArray, tail: float) -> FloatArray:
    """The smaller root of (p + c - t (1 + 2c))^2 = z^2 t (1 - t)/n, c = (1 - z^2)/(6n)."""
    z2 = float(ndtri(tail)) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        c = (1 - z2) / (6 * n)
        a, b, k = (1 + 2 * c) ** 2 + z2 / n, (x / n + c) * (1 + 2 * c) + z2 / (2 * n), (x / n + c) ** 2
        low = (b - np.sqrt(np.maximum(b * b - a * k, 0.0))) / a
    return np.where(n > 0, np.where(x == 0, 0.0, low), np.nan)


def difference_limits(x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray, tail: float) -> Limits:
    """Limits of p1 - p2."""
    table = (x1, n1, x2, n2, score.correction_factor(n1, n2, True))
    edge = np.ones_like(x1)
    low, high = (find_root(_excess(_difference, z), -edge, edge, *table) for z in (-ndtri(tail), ndtri(tail)))
    known = (n1 > 0) & (n2 > 0)
    return np.where(known, low, np.nan), np.where(known, high, np.nan)


def ratio_limits(x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray, tail: float) -> Limits:
    """Limits of p1 / p2, solved on the log scale: low is 0 at x1 = 0, high is inf at x2 = 0."""
    z = -float(ndtri(tail))

    def lower(x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray) -> FloatArray:
        edge = np.full_like(x1, _LOG_EDGE)
        table = (x1, n1, x2, n2, score.correction_factor(n1, n2, True))
        return np.where(x1 == 0, 0.0, np.exp(find_root(_excess(_ratio, z), -edge, edge, *table)))

    return score.turned_over(lower, x1, n1, x2, n2)


Moments = tuple[FloatArray, FloatArray, FloatArray]


def statistic(x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray) -> FloatArray:
    """The corrected z of no difference; 0 when a column of the table is empty."""
    zero = np.zeros_like(x1)
    return _corrected(*_difference(zero, x1, n1, x2, n2, score.correction_factor(n1, n2, True)))


def _corrected(s: FloatArray, v: FloatArray, m3: FloatArray) -> FloatArray:
    """z from the score numerator, its variance and third moment; 0 or infinite where the variance vanishes."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        plain, skew = s / np.sqrt(v), m3 / (6 * v**1.5)
        inside = 1 + 4 * skew * (plain + skew)
        value = np.where(inside >= 0, 2 * (plain + skew) / (1 + np.sqrt(np.maximum(inside, 0))), -1 / (2 * skew))
        return np.where(v > 0, value, np.where(s == 0, 0.0, plain))


def _excess(moments: Callable[..., Moments], z: float) -> Callable[..., FloatArray]:
    """The corrected statistic minus z on a bounded scale, so that it may be infinite."""

    def excess(theta: FloatArray, *table: FloatArray) -> FloatArray:
        value = _corrected(*moments(theta, *table))
        with np.errstate(invalid="ignore"):
            scaled = np.where(np.isinf(value), np.sign(value), value / np.sqrt(value**2 + z * z))
        return np.asarray(scaled - np.sign(z) * np.sqrt(0.5))

    return excess


def _difference(
    d: FloatArray, x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray, correction: FloatArray
) -> Moments:
    r1, s1, r2, s2 = score.restricted_difference(x1, n1, x2, n2, d)
    v1, v2 = r1 * s1 / n1, r2 * s2 / n2
    m3 = v1 * (s1 - r1) / n1 - v2 * (s2 - r2) / n2
    return (x1 * n2 - x2 * n1) / (n1 * n2) - d, (v1 + v2) * correction, m3


def _ratio(
    log_f: FloatArray, x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray, correction: FloatArray
) -> Moments:
    f = np.exp(log_f)
    r2 = score.restricted_ratio(x1, n1, x2, n2, f)
    r1 = np.minimum(r2 * f, 1.0)
    s1, s2 = score.restricted_ratio_rest(x2, n2, x1, n1, 1 / f), score.restricted_ratio_rest(x1, n1, x2, n2, f)
    v1, v2 = r1 * s1 / n1, f * f * r2 * s2 / n2
    m3 = v1 * (s1 - r1) / n1 - f * v2 * (s2 - r2) / n2
    return x1 / n1 - f * (x2 / n2), (v1 + v2) * correction, m3
