"""Confidence limits for one binomial proportion, row by row.

x events of n, p = x/n, z the normal quantile of the tail probability `tail` (0.025 for a two-sided 95% interval).
Every function returns (low, high); n = 0 gives NaN.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, betaincinv, ndtr, ndtri, xlog1py, xlogy

from kapstats.kernels.roots import find_root

FloatArray = npt.NDArray[np.float64]
Limits = tuple[FloatArray, FloatArray]


def wald(x: FloatArray, n: FloatArray, tail: float, corrected: bool = False) -> Limits:
    """p -+ (z sqrt(pq/n) + c), c = 1/(2n) with continuity correction; unclipped."""
    p = _ratio(x, n)
    half = -ndtri(tail) * np.sqrt(_ratio(p * (1 - p), n)) + (_ratio(0.5, n) if corrected else 0.0)
    return p - half, p + half


def transformed(x: FloatArray, n: FloatArray, tail: float, link: str) -> Limits:
    """Wald limits of g(p) taken back: link logit, probit or cloglog (log of -log p); exact at x = 0 and x = n."""
    p = _ratio(x, n)
    inside = (x > 0) & (x < n)
    p = np.where(inside, p, np.where(n > 0, 0.5, np.nan))
    value, slope, back = _links(p, link)
    half = -ndtri(tail) * np.sqrt(_ratio(p * (1 - p), n)) * np.abs(slope)
    ends = np.stack([back(value - half), back(value + half)])
    edge_low, edge_high = clopper_pearson(x, n, tail)
    return np.where(inside, ends.min(0), edge_low), np.where(inside, ends.max(0), edge_high)


def _links(p: FloatArray, link: str) -> tuple[FloatArray, FloatArray, Callable[[FloatArray], FloatArray]]:
    """g(p), its derivative and its inverse."""
    if link == "logit":
        return np.log(p / (1 - p)), 1 / (p * (1 - p)), lambda e: 1 / (1 + np.exp(-e))
    if link == "cloglog":
        return np.log(-np.log(p)), 1 / (p * np.log(p)), lambda e: np.exp(-np.exp(e))
    quantile = ndtri(p)
    return quantile, np.sqrt(2 * np.pi) * np.exp(quantile**2 / 2), ndtr


def likelihood_ratio(x: FloatArray, n: FloatArray, tail: float) -> Limits:
    """Values whose likelihood ratio statistic stays below z^2; 0 and 1 exactly at x = 0 and x = n."""
    low = _likelihood_low(x, n, tail)
    return low, 1 - _likelihood_low(n - x, n, tail)


def _likelihood_low(x: FloatArray, n: FloatArray, tail: float) -> FloatArray:
    z = float(-ndtri(tail))

    def loglik(p: FloatArray, x: FloatArray, n: FloatArray) -> FloatArray:
        return np.asarray(xlogy(x, p) + xlog1py(n - x, -p))

    def excess(p: FloatArray, x: FloatArray, n: FloatArray, best: FloatArray) -> FloatArray:
        return z - np.sqrt(np.maximum(2 * (best - loglik(p, x, n)), 0.0))

    estimate = np.where(n > 0, _ratio(x, n), 0.5)
    best = loglik(estimate, x, n)
    low = find_root(excess, np.full_like(estimate, 1e-300), estimate, x, n, best)
    return _blank(np.where(x == 0, 0.0, low), n)


def wilson(x: FloatArray, n: FloatArray, tail: float) -> Limits:
    """Wilson (1927) score limits; 0 and 1 exactly at x = 0 and x = n."""
    z2 = ndtri(tail) ** 2
    centre = (x + z2 / 2) / (n + z2)
    half = np.sqrt(z2) * np.sqrt(x * _ratio(n - x, n) + z2 / 4) / (n + z2)
    low = np.where(x == 0, 0.0, centre - half)
    high = np.where(x == n, 1.0, centre + half)
    return _blank(low, n), _blank(high, n)


def wilson_cc(x: FloatArray, n: FloatArray, tail: float) -> Limits:
    """Wilson limits with continuity correction (Newcombe 1998, method 4)."""
    low = _wilson_cc_low(x, n, tail)
    return low, 1 - _wilson_cc_low(n - x, n, tail)


def _wilson_cc_low(x: FloatArray, n: FloatArray, tail: float) -> FloatArray:
    z2 = ndtri(tail) ** 2
    p = _ratio(x, n)
    root = np.sqrt(np.maximum(z2 - 2 - _ratio(1.0, n) + 4 * p * (n * (1 - p) + 1), 0.0))
    low = (2 * x + z2 - 1 - np.sqrt(z2) * root) / (2 * (n + z2))
    return _blank(np.where(x == 0, 0.0, np.maximum(low, 0.0)), n)


def agresti_coull(x: FloatArray, n: FloatArray, tail: float) -> Limits:
    """Wald on x + z^2/2 of n + z^2, unclipped."""
    z2 = ndtri(tail) ** 2
    total = n + z2
    p = (x + z2 / 2) / total
    half = np.sqrt(z2 * p * (1 - p) / total)
    return _blank(p - half, n), _blank(p + half, n)


def jeffreys(x: FloatArray, n: FloatArray, tail: float, edges: bool = False) -> Limits:
    """Equal-tailed limits of Beta(x + 1/2, n - x + 1/2); with `edges` 0 at x = 0 and 1 at x = n."""
    low = betaincinv(x + 0.5, n - x + 0.5, tail)
    high = 1 - betaincinv(n - x + 0.5, x + 0.5, tail)
    if edges:
        low, high = np.where(x == 0, 0.0, low), np.where(x == n, 1.0, high)
    return _blank(low, n), _blank(high, n)


def clopper_pearson(x: FloatArray, n: FloatArray, tail: float) -> Limits:
    """Exact limits: P(X >= x; low) = tail and P(X <= x; high) = tail."""
    return _clopper_pearson_low(x, n, tail), 1 - _clopper_pearson_low(n - x, n, tail)


def _clopper_pearson_low(x: FloatArray, n: FloatArray, tail: float) -> FloatArray:
    low = betaincinv(np.maximum(x, 1), n - np.maximum(x, 1) + 1, tail)
    return _blank(np.where(x == 0, 0.0, low), n)


def mid_p(x: FloatArray, n: FloatArray, tail: float) -> Limits:
    """Mid-P limits: P(X > x; low) + P(X = x; low)/2 = tail, and the mirror image."""
    return _mid_p_low(x, n, tail), 1 - _mid_p_low(n - x, n, tail)


def _mid_p_low(x: FloatArray, n: FloatArray, tail: float) -> FloatArray:
    def excess(p: FloatArray, x: FloatArray, n: FloatArray) -> FloatArray:
        return (at_least(x, n, p) + at_least(x + 1, n, p)) / 2 - tail

    low = find_root(excess, np.zeros_like(x), np.ones_like(x), x, n)
    return _blank(np.where(x == 0, 0.0, low), n)


def blaker(x: FloatArray, n: FloatArray, alpha: float) -> Limits:
    """Blaker (2000): the smallest and the largest p whose acceptability is at least alpha (two-sided only)."""
    return _blaker_low(x, n, alpha), 1 - _blaker_low(n - x, n, alpha)


def _blaker_low(x: FloatArray, n: FloatArray, alpha: float) -> FloatArray:
    """Walk the segments on which the opposite tail {X <= k} is fixed; acceptability is continuous inside a segment.

    Below p-hat it is P(X >= x) + P(X <= k) for the largest k with P(X <= k) <= P(X >= x). It cannot reach alpha left
    of the Clopper-Pearson limit, and it crosses alpha at most once per segment or at the jump between two.
    """
    low = np.where(x == 0, 0.0, _clopper_pearson_low(x, n, alpha / 2))
    rows = np.flatnonzero((x > 0) & (n > 0))
    k = _largest_opposite(x[rows], n[rows], low[rows])
    while rows.size:
        xs, ns = x[rows], n[rows]
        end = _balance(xs, ns, k + 1)
        inside = _acceptability(end, xs, ns, k) >= alpha
        here = find_root(lambda p, *a: _acceptability(p, *a) - alpha, low[rows], end, xs, ns, k)
        at_jump = _acceptability(end, xs, ns, k + 1) >= alpha
        low[rows] = np.where(inside, here, end)
        open_ = ~(inside | at_jump) & (k + 2 < xs)
        rows, k = rows[open_], k[open_] + 1
    return _blank(low, n)


def _acceptability(p: FloatArray, x: FloatArray, n: FloatArray, k: FloatArray) -> FloatArray:
    return at_least(x, n, p) + 1 - at_least(k + 1, n, p)


def _largest_opposite(x: FloatArray, n: FloatArray, p: FloatArray) -> FloatArray:
    """The largest k < x with P(X <= k; p) <= P(X >= x; p), -1 when there is none."""
    below, above = np.full_like(x, -1.0), x
    while np.any(above - below > 1):
        middle = np.floor((below + above) / 2)
        fits = 1 - at_least(middle + 1, n, p) <= at_least(x, n, p)
        below, above = np.where(fits, middle, below), np.where(fits, above, middle)
    return below


def _balance(x: FloatArray, n: FloatArray, k: FloatArray) -> FloatArray:
    """The p at which P(X <= k) = P(X >= x); 1 when k reaches x."""
    return find_root(
        lambda p, x, n, k: at_least(x, n, p) + at_least(k + 1, n, p) - 1, np.zeros_like(x), np.ones_like(x), x, n, k
    )


def at_least(x: FloatArray, n: FloatArray, p: FloatArray) -> FloatArray:
    """P(X >= x) for X ~ Binomial(n, p)."""
    inside = betainc(np.clip(x, 1, np.maximum(n, 1)), np.maximum(n - x, 0) + 1, p)
    return np.where(x <= 0, 1.0, np.where(x > n, 0.0, inside))


def _ratio(a: FloatArray | float, b: FloatArray) -> FloatArray:
    return np.divide(a, b, out=np.full(np.broadcast(a, b).shape, np.nan), where=np.asarray(b) > 0)


def _blank(limit: FloatArray, n: FloatArray) -> FloatArray:
    return np.where(n > 0, limit, np.nan)
