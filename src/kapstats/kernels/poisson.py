"""Confidence limits for Poisson rates, their difference and their ratio, row by row.

x events in time t, z the normal quantile of the tail probability `tail`. Limits are (low, high); t = 0 gives NaN.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import gammainc, gammaincinv, gammaln, ndtri, xlogy

from kapstats.kernels import one_proportion
from kapstats.kernels.roots import find_root
from kapstats.kernels.two_proportions import ratio

FloatArray = npt.NDArray[np.float64]
Limits = tuple[FloatArray, FloatArray]

#: outcomes of equal probability differ by rounding only; the relative slack of R's binom.test
_TIE = 1e-7


def exact(x: FloatArray, t: FloatArray, tail: float) -> Limits:
    """Garwood (1936): gamma quantiles with shapes x and x + 1."""
    low = np.where(x == 0, 0.0, gammaincinv(np.maximum(x, 1), tail))
    return _per_time(low, t), _per_time(gammaincinv(x + 1, 1 - tail), t)


def mid_p(x: FloatArray, t: FloatArray, tail: float) -> Limits:
    """P(X > x; low) + P(X = x; low)/2 = tail, and P(X < x; high) + P(X = x; high)/2 = tail."""

    def middle(mean: FloatArray, x: FloatArray) -> FloatArray:
        inclusive = np.where(x > 0, gammainc(np.maximum(x, 1), mean), 1.0)
        return (inclusive + gammainc(x + 1, mean)) / 2

    edge = gammaincinv(x + 1, 1 - tail)
    low = find_root(lambda mean, x: middle(mean, x) - tail, np.zeros_like(x), edge, x)
    high = find_root(lambda mean, x: middle(mean, x) - (1 - tail), np.zeros_like(x), edge, x)
    return _per_time(np.where(x == 0, 0.0, low), t), _per_time(high, t)


def byar(x: FloatArray, t: FloatArray, tail: float) -> Limits:
    """Byar's cube-root approximation of the exact limits."""
    z = -float(ndtri(tail))
    with np.errstate(divide="ignore", invalid="ignore"):
        low = x * (1 - 1 / (9 * x) - z / (3 * np.sqrt(x))) ** 3
    high = (x + 1) * (1 - 1 / (9 * (x + 1)) + z / (3 * np.sqrt(x + 1))) ** 3
    return _per_time(np.where(x == 0, 0.0, low), t), _per_time(high, t)


def score(x: FloatArray, t: FloatArray, tail: float) -> Limits:
    """Roots of (x - m)^2 = z^2 m."""
    z = -float(ndtri(tail))
    half = z * np.sqrt(x + z**2 / 4)
    return _per_time(np.where(x == 0, 0.0, x + z**2 / 2 - half), t), _per_time(x + z**2 / 2 + half, t)


def wald(x: FloatArray, t: FloatArray, tail: float) -> Limits:
    """(x -+ z sqrt x)/t, unclipped."""
    half = -ndtri(tail) * np.sqrt(x)
    return _per_time(x - half, t), _per_time(x + half, t)


def jeffreys(x: FloatArray, t: FloatArray, tail: float) -> Limits:
    """Equal-tailed limits of Gamma(x + 1/2), 0 at x = 0."""
    low = np.where(x == 0, 0.0, gammaincinv(x + 0.5, tail))
    return _per_time(low, t), _per_time(gammaincinv(x + 0.5, 1 - tail), t)


def square_root(x: FloatArray, t: FloatArray, tail: float) -> Limits:
    """(sqrt x -+ z/2)^2: Wald limits on the scale that stabilises the variance, not below 0."""
    half = -float(ndtri(tail)) / 2
    return _per_time(np.maximum(np.sqrt(x) - half, 0.0) ** 2, t), _per_time((np.sqrt(x) + half) ** 2, t)


def log_normal(x: FloatArray, t: FloatArray, tail: float) -> Limits:
    """x/t * exp(-+ z/sqrt x); NaN at x = 0."""
    factor = np.exp(-ndtri(tail) * np.sqrt(ratio(1.0, np.where(x > 0, x, np.nan))))
    return _per_time(x / factor, t), _per_time(x * factor, t)


def difference_score(
    d: FloatArray, x1: FloatArray, t1: FloatArray, x2: FloatArray, t2: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Numerator and null variance for rate1 - rate2 = d, the rates being maximum likelihood given d."""
    total, b = t1 + t2, (t1 + t2) * d - x1 - x2
    root = np.sqrt(np.maximum(b * b + 4 * total * x2 * d, 0.0))
    r2 = np.maximum((root - b) / (2 * total), np.maximum(-d, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):  # no time in a group: shown as NaN by the caller
        return x1 / t1 - x2 / t2 - d, (r2 + d) / t1 + r2 / t2


def score_difference(x1: FloatArray, t1: FloatArray, x2: FloatArray, t2: FloatArray, tail: float) -> Limits:
    """Score limits of the rate difference (Miettinen & Nurminen 1985)."""
    z2 = float(ndtri(tail)) ** 2

    def excess(d: FloatArray, sign: FloatArray, *table: FloatArray) -> FloatArray:
        numerator, variance = difference_score(d, *table)
        size = np.sqrt(numerator**2 + z2 * np.maximum(variance, 0.0))
        return sign * np.divide(numerator, size, out=np.zeros_like(d), where=size > 0) - np.sqrt(0.5)

    d = ratio(x1, t1) - ratio(x2, t2)
    d = np.where(np.isfinite(d), d, np.nan)
    reach = ratio(2 * (1 + x1 + x2 + z2 + np.sqrt(z2 * (z2 + 4 * (x1 + x2)))), np.minimum(t1, t2))
    ones = np.ones_like(d)
    return find_root(excess, d - reach, d, ones, x1, t1, x2, t2), find_root(excess, d, d + reach, -ones, x1, t1, x2, t2)


def mover_difference(x1: FloatArray, t1: FloatArray, x2: FloatArray, t2: FloatArray, tail: float) -> Limits:
    """Square-and-add of two score intervals."""
    r1, r2 = ratio(x1, t1), ratio(x2, t2)
    (l1, u1), (l2, u2) = score(x1, t1, tail), score(x2, t2, tail)
    return r1 - r2 - np.hypot(r1 - l1, u2 - r2), r1 - r2 + np.hypot(u1 - r1, r2 - l2)


def wald_difference(x1: FloatArray, t1: FloatArray, x2: FloatArray, t2: FloatArray, tail: float) -> Limits:
    """d -+ z sqrt(x1/t1^2 + x2/t2^2)."""
    d, half = ratio(x1, t1) - ratio(x2, t2), -ndtri(tail) * np.sqrt(ratio(x1, t1**2) + ratio(x2, t2**2))
    return d - half, d + half


def conditional_ratio(
    x1: FloatArray, t1: FloatArray, x2: FloatArray, t2: FloatArray, tail: float, kind: str = "exact"
) -> Limits:
    """Limits of the rate ratio from those of the share x1/(x1 + x2): kind exact, mid-p or score.

    Given the total, x1 is binomial with share r t1/(r t1 + t2). No events at all: 0 and inf.
    """
    single = {"exact": one_proportion.clopper_pearson, "mid-p": one_proportion.mid_p, "score": one_proportion.wilson}[
        kind
    ]

    def lower(x1: FloatArray, t1: FloatArray, x2: FloatArray, t2: FloatArray) -> FloatArray:
        share = single(x1, x1 + x2, tail)[0]
        with np.errstate(invalid="ignore"):  # no time in a group: 0 times infinity, shown as NaN below
            return np.where(x1 == 0, 0.0, ratio(t2, t1) * ratio(share, 1 - share))

    known = (t1 > 0) & (t2 > 0)  # the upper limit is the reciprocal of the lower one of the exchanged groups
    low, high = lower(x1, t1, x2, t2), ratio(1.0, lower(x2, t2, x1, t1))
    return np.where(known, low, np.nan), np.where(known, high, np.nan)


def conditional_p(
    x1: FloatArray, t1: FloatArray, x2: FloatArray, t2: FloatArray, side: str = "two", share: float = 1.0
) -> FloatArray:
    """Exact binomial test of equal rates; `share` 0.5 is mid-P.

    side: two (the outcomes no more probable, as R's poisson.test), central (twice the smaller tail), less, greater.
    """
    n, pi = x1 + x2, ratio(t1, t1 + t2)
    if side == "two":
        return np.where((t1 > 0) & (t2 > 0), _minimum_likelihood_p(x1, n, pi, ratio(t2, t1 + t2), share), np.nan)
    greater, less = _tail(x1, n, pi, share), _tail(x2, n, ratio(t2, t1 + t2), share)
    value = {"greater": greater, "less": less}.get(side, np.minimum(1.0, 2 * np.minimum(greater, less)))
    return np.where((t1 > 0) & (t2 > 0), value, np.nan)


def _tail(x: FloatArray, n: FloatArray, p: FloatArray, share: float) -> FloatArray:
    """P(X > x) + share * P(X = x)."""
    return (1 - share) * one_proportion.at_least(x + 1, n, p) + share * one_proportion.at_least(x, n, p)


def _minimum_likelihood_p(x: FloatArray, n: FloatArray, p: FloatArray, q: FloatArray, share: float) -> FloatArray:
    """P of the outcomes no more probable than x, of n with share p = 1 - q; those as probable count `share`.

    With x above the mean, these are x and more, and 0 to the largest k below the mode that is no more probable.
    """
    above = x >= n * p
    x, p, q = np.where(above, x, n - x), np.where(above, p, q), np.where(above, q, p)

    def log_probability(k: FloatArray) -> FloatArray:
        with np.errstate(invalid="ignore"):
            return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1) + xlogy(k, p) + xlogy(n - k, q)

    at, mode = log_probability(x), np.minimum(np.floor((n + 1) * p), n)
    below, beyond = np.full_like(x, -1.0), mode
    while np.any(beyond - below > 1):
        middle = np.where(beyond - below > 1, np.floor((below + beyond) / 2), below)
        rarer = log_probability(np.maximum(middle, 0.0)) <= at + _TIE
        below, beyond = np.where(rarer, middle, below), np.where(rarer, beyond, middle)
    tied = (below >= 0) & (np.abs(log_probability(np.maximum(below, 0.0)) - at) <= _TIE)
    value = one_proportion.at_least(x, n, p) + one_proportion.at_least(n - below, n, q)
    value = np.where(log_probability(mode) <= at + _TIE, 1.0, value)
    return np.clip(value - (1 - share) * np.exp(at) * (1 + tied), 0.0, 1.0)


def _per_time(events: FloatArray, t: FloatArray) -> FloatArray:
    return np.where(t > 0, ratio(events, t), np.nan)
