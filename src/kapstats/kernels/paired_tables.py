"""Paired binary outcomes: a both, b only first, c only second, d neither, n = a + b + c + d; first minus second."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc, ndtri

from kapstats.kernels import one_proportion, poisson
from kapstats.kernels.roots import find_root
from kapstats.kernels.two_proportions import ratio

FloatArray = npt.NDArray[np.float64]
Limits = tuple[FloatArray, FloatArray]

#: |log| beyond which a ratio is called 0 or infinite
_LOG_EDGE = 60.0


def mcnemar(b: FloatArray, c: FloatArray, corrected: bool = False) -> tuple[FloatArray, FloatArray]:
    """Chi-square of equal margins and its p value; 0 and 1 without discordant pairs."""
    gap = np.maximum(np.abs(b - c) - (1.0 if corrected else 0.0), 0.0)
    statistic = np.where(b + c > 0, ratio(gap**2, np.where(b + c > 0, b + c, 1.0)), 0.0)
    return statistic, chdtrc(1, statistic)


def exact_p(b: FloatArray, c: FloatArray, side: str = "two", mid_p: bool = False) -> FloatArray:
    """Binomial test of b against c, each with probability 1/2.

    The two-sided mid-P value is the exact one minus the probability of the observed table (Fagerland et al. 2013).
    """
    one = np.ones_like(b)
    if side != "two":
        return poisson.conditional_p(b, one, c, one, side, 0.5 if mid_p else 1.0)
    exact = poisson.conditional_p(b, one, c, one, "central")
    observed = one_proportion.at_least(b, b + c, one / 2) - one_proportion.at_least(b + 1, b + c, one / 2)
    return exact - observed if mid_p else exact


def wald(a: FloatArray, b: FloatArray, c: FloatArray, d: FloatArray, tail: float) -> Limits:
    """(b - c)/n -+ z sqrt(b + c - (b - c)^2/n)/n."""
    n = a + b + c + d
    estimate = ratio(b - c, n)
    half = -ndtri(tail) * ratio(np.sqrt(np.maximum(b + c - ratio((b - c) ** 2, n), 0.0)), n)
    return estimate - half, estimate + half


def bonett_price(a: FloatArray, b: FloatArray, c: FloatArray, d: FloatArray, tail: float) -> Limits:
    """Wald limits after adding one pair to each discordant cell (Bonett & Price 2012), within [-1, 1]."""
    n = a + b + c + d + 2
    p, q = (b + 1) / n, (c + 1) / n
    half = -ndtri(tail) * np.sqrt((p + q - (p - q) ** 2) / n)
    return np.maximum(p - q - half, -1.0), np.minimum(p - q + half, 1.0)


def tango(a: FloatArray, b: FloatArray, c: FloatArray, d: FloatArray, tail: float) -> Limits:
    """Score limits (Tango 1998); finite for every table with at least one pair."""
    z2, n = float(ndtri(tail)) ** 2, a + b + c + d

    def excess(delta: FloatArray, sign: FloatArray, b: FloatArray, c: FloatArray, n: FloatArray) -> FloatArray:
        numerator = b - c - n * delta
        half = -b - c + (2 * n - b + c) * delta
        q = (np.sqrt(np.maximum(half**2 + 8 * n * c * delta * (1 - delta), 0.0)) - half) / (4 * n)
        variance = np.maximum(n * (2 * q + delta * (1 - delta)), 0.0)
        size = np.sqrt(numerator**2 + z2 * variance)
        return sign * np.divide(numerator, size, out=np.zeros_like(delta), where=size > 0) - np.sqrt(0.5)

    estimate, one = ratio(b - c, n), np.ones_like(n)
    low = find_root(excess, -one, estimate, one, b, c, n)
    return low, find_root(excess, estimate, one, -one, b, c, n)


def tang(a: FloatArray, b: FloatArray, c: FloatArray, d: FloatArray, tail: float) -> Limits:
    """Score limits of the ratio (a + b)/(a + c) of paired proportions (Tang et al. 2003), solved on the log scale.

    0 when the first never has the event, inf when the second never has, both when neither has.
    """
    n = a + b + c + d
    with np.errstate(divide="ignore"):
        low, high = _tang_low(a, b, c, tail), 1 / _tang_low(a, c, b, tail)
    return np.where(n > 0, low, np.nan), np.where(n > 0, high, np.nan)


def _tang_low(a: FloatArray, b: FloatArray, c: FloatArray, tail: float) -> FloatArray:
    """The lower limit; the upper one is the reciprocal of that of the exchanged conditions."""
    z2 = float(ndtri(tail)) ** 2

    def excess(on_log: FloatArray, a: FloatArray, b: FloatArray, c: FloatArray) -> FloatArray:
        r, some = np.exp(on_log), a + b + c
        numerator = (a + b) - (a + c) * r
        half = (a + c) * r * r - (a + b + 2 * c)
        inside = np.maximum(half**2 - 4 * (1 + r) * c * (1 - r) * some, 0.0)
        variance = np.maximum((np.sqrt(inside) - half) / 2 + some * (r - 1), 0.0)
        size = np.sqrt(numerator**2 + z2 * variance)
        return np.divide(numerator, size, out=np.zeros_like(r), where=size > 0) - np.sqrt(0.5)

    edge = np.full_like(a, _LOG_EDGE)
    return np.where(a + b > 0, np.exp(find_root(excess, -edge, edge, a, b, c)), 0.0)


def newcombe(a: FloatArray, b: FloatArray, c: FloatArray, d: FloatArray, tail: float, corrected: bool = True) -> Limits:
    """Square-and-add of two Wilson intervals with the correlation phi (Newcombe 1998: method 10, or 8 uncorrected)."""
    n = a + b + c + d
    p1, p2 = ratio(a + b, n), ratio(a + c, n)
    (l1, u1), (l2, u2) = one_proportion.wilson(a + b, n, tail), one_proportion.wilson(a + c, n, tail)
    phi = _phi(a, b, c, d, corrected)
    below = (p1 - l1) ** 2 - 2 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2
    above = (u1 - p1) ** 2 - 2 * phi * (u1 - p1) * (p2 - l2) + (p2 - l2) ** 2
    return p1 - p2 - np.sqrt(np.maximum(below, 0.0)), p1 - p2 + np.sqrt(np.maximum(above, 0.0))


def _phi(a: FloatArray, b: FloatArray, c: FloatArray, d: FloatArray, corrected: bool) -> FloatArray:
    cross, n = a * d - b * c, a + b + c + d
    if corrected:
        cross = np.where(cross > 0, np.maximum(cross - n / 2, 0.0), cross)
    scale = np.sqrt((a + b) * (c + d) * (a + c) * (b + d))
    return np.divide(cross, scale, out=np.zeros_like(cross), where=scale > 0)


def odds_ratio_limits(b: FloatArray, c: FloatArray, tail: float, kind: str = "exact") -> Limits:
    """Limits of b/c from those of the share b/(b + c): kind exact, mid-p or score."""
    one = np.ones_like(b)
    return poisson.conditional_ratio(b, one, c, one, tail, kind)
