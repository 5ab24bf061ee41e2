"""The multivariate t distribution of several comparisons: single-step p values and critical values.

With correlations r_ij = a_i a_j (Dunnett's with independent groups) the probability is a double quadrature, accurate to
about 1e-10; correlations close to that add the difference to the nearest such matrix by quasi-Monte Carlo, small enough
for 1e-6. All others, singular ones too, are integrated over directions (`spherical`): 1e-5 up to rank 5, else 1e-4.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

from kapstats.kernels import spherical

FloatArray = NDArray[np.float64]
POINTS = 2039  # a prime; lattice points per shift
SHIFTS = 4
NEAR = 0.02


def mvt_p_values(statistic: FloatArray, correlation: FloatArray, df: float, side: str = "two") -> FloatArray:
    """Single-step adjusted p values: P(the largest of m correlated t statistics is at least as extreme).

    Parameters
    ----------
    statistic : (m,) t statistics
    correlation : (m, m)
    df : degrees of freedom of the common chi-square, may be infinite
    side : "two", "greater" or "less"

    Agrees with
    -----------
    R mvtnorm 1.1-3 pmvt to 1e-5 (the accuracy of its default algorithm), singular correlations included.

    Examples
    --------
    >>> r = np.full((2, 2), 0.5) + np.eye(2) / 2
    >>> mvt_p_values(np.array([2.0, 2.3]), r, 20.0).round(4).tolist()
    [0.1052, 0.0586]
    """
    if not np.isfinite(df) and not np.isposinf(df):
        return np.full(len(statistic), np.nan)
    bound = {"two": np.abs(statistic), "greater": statistic, "less": -statistic}[side]
    if not _near_product(correlation):
        return spherical.outside(np.asarray(bound, dtype=float), correlation, float(df), side == "two")
    return np.array([1.0 - _inside(float(b), correlation, float(df), side == "two") for b in bound])


def mvt_critical(correlation: FloatArray, df: float, level: float, side: str = "two") -> float:
    """The c with P(all m statistics within c) = level.

    Examples
    --------
    >>> round(mvt_critical(np.eye(1), 10.0, 0.95), 4)
    2.2281
    """
    if not np.isfinite(df) and not np.isposinf(df):
        return float("nan")
    m, two = len(correlation), side == "two"
    tail = (1 - level) / (2 if two else 1)
    finite = df if np.isfinite(df) else 1e10
    low, high = (-float(special.stdtrit(finite, t)) for t in (tail, tail / m))
    if m == 1:
        return low
    if not _near_product(correlation):

        def gap(c: float) -> float:
            return 1 - level - float(spherical.outside(np.array([c]), correlation, df, two)[0])

        return increasing_root(gap, low, high)
    loading, product = _product(correlation)
    offset = 0.0
    for _ in range(3):  # the correction to the product form hardly changes with c
        shift = offset
        c = increasing_root(lambda c: _one_factor(c, loading, df, two) + shift - level, low, high)  # noqa: B023
        if np.abs(product - correlation).max() < 1e-9:
            return c
        offset = _difference(c, correlation, product, df, two)
    return c


def increasing_root(f: Callable[[float], float], low: float, high: float) -> float:
    """Regula falsi (Illinois) for an increasing function between the unadjusted and the Bonferroni bound."""
    low, high = low - 1e-3, high + 1e-3
    f_low, f_high, side = f(low), f(high), 0
    middle = low
    for _ in range(60):
        middle = (low * f_high - high * f_low) / (f_high - f_low)
        value = f(middle)
        if abs(value) < 1e-11 or high - low < 1e-10:
            return float(middle)
        if value > 0:
            high, f_high = middle, value
            f_low = f_low / 2 if side == 1 else f_low
            side = 1
        else:
            low, f_low = middle, value
            f_high = f_high / 2 if side == -1 else f_high
            side = -1
    return float(middle)


def _inside(c: float, correlation: FloatArray, df: float, two_sided: bool) -> float:
    """P(T_j <= c for all j), or P(|T_j| <= c for all j)."""
    if two_sided and c <= 0:
        return 0.0
    m = len(correlation)
    if m == 1:
        p = float(special.stdtr(df, c)) if np.isfinite(df) else float(special.ndtr(c))
        return 2 * p - 1 if two_sided else p
    loading, product = _product(correlation)
    exact = _one_factor(c, loading, df, two_sided)
    if np.abs(product - correlation).max() < 1e-9:
        return exact
    return float(np.clip(exact + _difference(c, correlation, product, df, two_sided), 0.0, 1.0))


def _near_product(correlation: FloatArray) -> bool:
    """Whether the difference to the nearest a_i a_j is small enough to be integrated with few points."""
    if np.linalg.eigvalsh(correlation)[0] <= spherical.SINGULAR:
        return False
    return bool(np.abs(_product(correlation)[1] - correlation).max() < NEAR)


def _product(correlation: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The nearest loadings a and the correlation matrix a_i a_j."""
    loading = _loading(correlation)
    product = np.outer(loading, loading)
    np.fill_diagonal(product, 1.0)
    return loading, product


def _loading(correlation: FloatArray) -> FloatArray:
    """a minimising sum_{i<j} (r_ij - a_i a_j)^2 by cyclic descent, kept inside (-1, 1)."""
    m = len(correlation)
    a = np.full(m, np.sqrt(max(0.0, (correlation.sum() - m) / (m * (m - 1)))))
    off = correlation - np.diag(np.diag(correlation))
    for _ in range(200):
        before = a.copy()
        for i in range(m):
            rest = a @ a - a[i] ** 2
            a[i] = np.clip(off[i] @ a / rest, -0.999, 0.999) if rest > 1e-12 else 0.0
        if np.abs(a - before).max() < 1e-14:
            break
    return a


@lru_cache(maxsize=64)
def chi_nodes(df: float, k: int = 40) -> tuple[FloatArray, FloatArray]:
    """Nodes s = sqrt(chi2_df / df) and weights: Gauss-Legendre over the probability of chi2 in the normal score."""
    if not np.isfinite(df):
        return np.ones(1), np.ones(1)
    x, w = np.polynomial.legendre.leggauss(k)
    z = 8.2 * x
    weight = 8.2 * w * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    chi = 2 * special.gammaincinv(df / 2, np.clip(special.ndtr(z), 1e-300, 1 - 1e-16))
    return np.sqrt(chi / df), weight / weight.sum()


@lru_cache(maxsize=4)
def normal_nodes(k: int = 72) -> tuple[FloatArray, FloatArray]:
    """Gauss-Legendre nodes (k,) on -8.5 to 8.5 and their weights (k,) under the standard normal density."""
    x, w = np.polynomial.legendre.leggauss(k)
    z = 8.5 * x
    weight = 8.5 * w * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    return z, weight / weight.sum()


def _one_factor(c: float, loading: FloatArray, df: float, two_sided: bool) -> float:
    """The probability for correlations a_i a_j: X_i = a_i Z + sqrt(1 - a_i^2) e_i given Z are independent."""
    s, ws = chi_nodes(df)
    spread = np.sqrt(1 - loading**2)[:, None, None]
    z, wz = normal_nodes(int(np.clip(50 / spread.min(), 64, 1000)))
    shift = loading[:, None, None] * z[None, None, :]
    upper = special.ndtr((c * s[None, :, None] - shift) / spread)
    if two_sided:
        upper = upper - special.ndtr((-c * s[None, :, None] - shift) / spread)
    return float(ws @ np.prod(upper, axis=0) @ wz)


@lru_cache(maxsize=16)
def _lattice(dimensions: int, points: int = POINTS) -> FloatArray:
    """Randomly shifted Richtmyer lattice with the baker's transformation, (shifts * points, dimensions); fixed seed."""
    primes = _primes(dimensions)
    shift = np.random.default_rng(20260101).random((SHIFTS, 1, dimensions))
    k = np.arange(1, points + 1)[None, :, None]
    u = (k * np.sqrt(primes) + shift) % 1.0
    return np.asarray(np.abs(2 * u - 1).reshape(-1, dimensions))


def _primes(count: int) -> FloatArray:
    found: list[int] = []
    candidate = 2
    while len(found) < count:
        if all(candidate % p for p in found):
            found.append(candidate)
        candidate += 1
    return np.array(found, dtype=float)


def _difference(c: float, r: FloatArray, product: FloatArray, df: float, two_sided: bool) -> float:
    """P under r minus P under `product`, on the same points."""
    u = _lattice(len(r))
    s = np.ones(len(u)) if not np.isfinite(df) else np.sqrt(2 * special.gammaincinv(df / 2, u[:, -1]) / df)
    return float((_genz(c, r, s, u, two_sided) - _genz(c, product, s, u, two_sided)).mean())


def _genz(c: float, r: FloatArray, s: FloatArray, u: FloatArray, two_sided: bool) -> FloatArray:
    """Genz's sequentially conditioned integrand at points u (k, m), scales s (k,)."""
    factor = np.linalg.cholesky(r)
    y = np.zeros((len(u), len(r)))
    value = np.ones(len(u))
    for i in range(len(r)):
        mean = y[:, :i] @ factor[i, :i]
        spread = factor[i, i]
        top = special.ndtr((c * s - mean) / spread)
        bottom = special.ndtr((-c * s - mean) / spread) if two_sided else np.zeros(len(u))
        value = value * (top - bottom)
        if i < len(r) - 1:
            y[:, i] = special.ndtri(np.clip(bottom + u[:, i] * (top - bottom), 1e-300, 1 - 1e-16))
    return value
