"""Several comparisons at once: adjusted p values and simultaneous critical values.

Dunnett and mvt integrate the multivariate t distribution. With correlations r_ij = a_i a_j (Dunnett's with independent
groups) that is a double quadrature, accurate to about 1e-10; other correlations add the difference to the nearest
such matrix by quasi-Monte Carlo, which is small, so that about 1e-6 is reached with few points. Singular correlations
(all pairs) are integrated over their rank, every constraint on a coordinate at once (Genz & Kwong 2000; errors
up to 2e-4 were measured, for five contrasts of five means).
Tukey is the studentised range (Tukey-Kramer, as R emmeans). Degrees of freedom need not be whole numbers; dunnett and
mvt use the smallest of the family, tukey each comparison's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from scipy import special

from kapstats._types import FloatArray
from kapstats.errors import FormulaError, choose
from kapstats.inference.intervals import t_quantile

SINGLE_STEP = ("dunnett", "mvt", "tukey")
STEPWISE = ("holm", "hochberg", "fixed-sequence", "graphical")
ADJUSTMENTS = ("none", "bonferroni", "sidak", *STEPWISE[:2], *SINGLE_STEP, *STEPWISE[2:])

_POINTS = 2039  # a prime; lattice points per shift
_SINGULAR_POINTS = 20011
_SHIFTS = 4


# ------------------------------------------------------------------------------------------- from p values


def bonferroni(p: FloatArray) -> FloatArray:
    """min(1, m p).

    Examples
    --------
    >>> bonferroni(np.array([0.01, 0.4])).tolist()
    [0.02, 0.8]
    """
    return np.minimum(1.0, len(p) * p)


def sidak(p: FloatArray) -> FloatArray:
    """1 - (1 - p)^m."""
    return -np.expm1(len(p) * np.log1p(-p))


def holm(p: FloatArray) -> FloatArray:
    """Holm's step-down adjusted p values.

    Examples
    --------
    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p)
    return _back(np.maximum.accumulate(np.minimum(1.0, (len(p) - np.arange(len(p))) * p[order])), order)


def hochberg(p: FloatArray) -> FloatArray:
    """Hochberg's step-up adjusted p values.

    Examples
    --------
    >>> hochberg(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.04, 0.04]
    """
    order = np.argsort(p)[::-1]
    return _back(np.minimum.accumulate(np.minimum(1.0, np.arange(1, len(p) + 1) * p[order])), order)


def fixed_sequence(p: FloatArray) -> FloatArray:
    """Adjusted p values of a test sequence in the order given: the largest p so far.

    Examples
    --------
    >>> fixed_sequence(np.array([0.01, 0.04, 0.03])).tolist()
    [0.01, 0.04, 0.04]
    """
    return np.maximum.accumulate(p)


def graphical(p: FloatArray, weights: Sequence[float], transitions: Sequence[Sequence[float]]) -> FloatArray:
    """Adjusted p values of the sequentially rejective graph of Bretz, Maurer, Brannath & Posch (2009).

    Parameters
    ----------
    p : (m,) unadjusted p values
    weights : (m,) initial shares of alpha, summing to at most 1
    transitions : (m, m) share of a rejected hypothesis' alpha that goes to each other; rows sum to at most 1

    Examples
    --------
    >>> graphical(np.array([0.01, 0.04, 0.03]), [1 / 3] * 3, [[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]).round(4).tolist()
    [0.03, 0.06, 0.06]
    """  # noqa: E501
    w, g = _check_graph(len(p), weights, transitions)
    adjusted, left, highest = np.ones(len(p)), list(range(len(p))), 0.0
    while left:
        ratio = np.array([p[i] / w[i] if w[i] > 0 else np.inf for i in left])
        j = left[int(np.argmin(ratio))]
        highest = max(highest, float(min(1.0, ratio.min())))
        adjusted[j] = highest
        left.remove(j)
        w, g = _pass_on(w, g, j, left)
    return adjusted


def _pass_on(w: FloatArray, g: FloatArray, j: int, left: list[int]) -> tuple[FloatArray, FloatArray]:
    """The graph after hypothesis j has been rejected (algorithm 1 of the paper)."""
    new_w, new_g = w.copy(), np.zeros_like(g)
    for a in left:
        new_w[a] = w[a] + w[j] * g[j, a]
        for b in left:
            loop = 1 - g[a, j] * g[j, a]
            if a != b and loop > 1e-12:
                new_g[a, b] = (g[a, b] + g[a, j] * g[j, b]) / loop
    new_w[j] = 0.0
    return new_w, new_g


def _check_graph(
    m: int, weights: Sequence[float], transitions: Sequence[Sequence[float]]
) -> tuple[FloatArray, FloatArray]:
    w, g = np.asarray(weights, dtype=float), np.asarray(transitions, dtype=float)
    if w.shape != (m,) or g.shape != (m, m):
        raise FormulaError(f"graphical: {m} hypotheses need {m} weights and {m} x {m} transitions.")
    if (w < 0).any() or (g < 0).any() or w.sum() > 1 + 1e-9 or (g.sum(axis=1) > 1 + 1e-9).any() or np.diag(g).any():
        raise FormulaError(
            "graphical: weights and rows of transitions are non-negative and sum to at most 1; zero diagonal."
        )
    return w, g


def _back(values: FloatArray, order: np.ndarray) -> FloatArray:
    out = np.empty_like(values)
    out[order] = values
    return out


# ------------------------------------------------------------------------------------------- multivariate t


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
    R mvtnorm 1.1-3 pmvt to 1e-5 (the accuracy of its default algorithm); 2e-4 for singular correlations.

    Examples
    --------
    >>> r = np.full((2, 2), 0.5) + np.eye(2) / 2
    >>> mvt_p_values(np.array([2.0, 2.3]), r, 20.0).round(4).tolist()
    [0.1052, 0.0586]
    """
    if not np.isfinite(df) and not np.isposinf(df):
        return np.full(len(statistic), np.nan)
    bound = {"two": np.abs(statistic), "greater": statistic, "less": -statistic}[side]
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
    loading, product = _product(correlation)
    if _rank(correlation) < m:
        return _root(lambda c: _inside(c, correlation, df, two) - level, low, high)
    offset = 0.0
    for _ in range(3):  # the correction to the product form hardly changes with c
        shift = offset
        c = _root(lambda c: _one_factor(c, loading, df, two) + shift - level, low, high)  # noqa: B023
        if np.abs(product - correlation).max() < 1e-9:
            return c
        offset = _difference(c, correlation, product, df, two)
    return c


def _root(f: Callable[[float], float], low: float, high: float) -> float:
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
    if _rank(correlation) < m:
        return _singular(c, correlation, df, two_sided)
    loading, product = _product(correlation)
    exact = _one_factor(c, loading, df, two_sided)
    if np.abs(product - correlation).max() < 1e-9:
        return exact
    return float(np.clip(exact + _difference(c, correlation, product, df, two_sided), 0.0, 1.0))


def _rank(correlation: FloatArray) -> int:
    return int((np.linalg.eigvalsh(correlation) > 1e-8).sum())


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
def _chi_nodes(df: float, k: int = 40) -> tuple[FloatArray, FloatArray]:
    """Nodes s = sqrt(chi2_df / df) and weights: Gauss-Legendre over the probability of chi2 in the normal score."""
    if not np.isfinite(df):
        return np.ones(1), np.ones(1)
    x, w = np.polynomial.legendre.leggauss(k)
    z = 8.2 * x
    weight = 8.2 * w * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    chi = 2 * special.gammaincinv(df / 2, np.clip(special.ndtr(z), 1e-300, 1 - 1e-16))
    return np.sqrt(chi / df), weight / weight.sum()


@lru_cache(maxsize=4)
def _normal_nodes(k: int = 72) -> tuple[FloatArray, FloatArray]:
    x, w = np.polynomial.legendre.leggauss(k)
    z = 8.5 * x
    weight = 8.5 * w * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    return z, weight / weight.sum()


def _one_factor(c: float, loading: FloatArray, df: float, two_sided: bool) -> float:
    """The probability for correlations a_i a_j: X_i = a_i Z + sqrt(1 - a_i^2) e_i given Z are independent."""
    s, ws = _chi_nodes(df)
    spread = np.sqrt(1 - loading**2)[:, None, None]
    z, wz = _normal_nodes(int(np.clip(50 / spread.min(), 64, 1000)))
    shift = loading[:, None, None] * z[None, None, :]
    upper = special.ndtr((c * s[None, :, None] - shift) / spread)
    if two_sided:
        upper = upper - special.ndtr((-c * s[None, :, None] - shift) / spread)
    return float(ws @ np.prod(upper, axis=0) @ wz)


@lru_cache(maxsize=16)
def _lattice(dimensions: int, points: int = _POINTS) -> FloatArray:
    """Randomly shifted Richtmyer lattice with the baker's transformation, (shifts * points, dimensions); fixed seed."""
    primes = _primes(dimensions)
    shift = np.random.default_rng(20260101).random((_SHIFTS, 1, dimensions))
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


def _singular(c: float, r: FloatArray, df: float, two_sided: bool) -> float:
    """The probability for a singular correlation matrix, over as many coordinates as its rank."""
    factor = _echelon_root(r)
    rank = factor.shape[1]
    u = _lattice(rank, _SINGULAR_POINTS)
    s = np.ones(len(u)) if not np.isfinite(df) else np.sqrt(2 * special.gammaincinv(df / 2, u[:, -1]) / df)
    last = np.array([np.flatnonzero(np.abs(row) > 1e-9)[-1] for row in factor])
    y, value = np.zeros((len(u), rank)), np.ones(len(u))
    for j in range(rank):
        low, high = _bounds(c * s, factor[last == j, : j + 1], y[:, :j], two_sided)
        bottom, top = special.ndtr(low), special.ndtr(high)
        width = np.maximum(top - bottom, 0.0)
        value = value * width
        y[:, j] = special.ndtri(np.clip(bottom + u[:, j] * width, 1e-300, 1 - 1e-16))
    return float(value.mean())


def _bounds(reach: FloatArray, rows: FloatArray, y: FloatArray, two_sided: bool) -> tuple[FloatArray, FloatArray]:
    """Limits on coordinate j from all rows whose last non-zero entry is j."""
    low, high = np.full(len(reach), -np.inf), np.full(len(reach), np.inf)
    for row in rows:
        mean, slope = y @ row[:-1], row[-1]
        ends = [(reach - mean) / slope, (-reach - mean) / slope if two_sided else np.full(len(reach), -np.inf * slope)]
        low, high = np.maximum(low, np.minimum(*ends)), np.minimum(high, np.maximum(*ends))
    return low, high


def _echelon_root(r: FloatArray) -> FloatArray:
    """F (m, rank) with F F' = r, lower triangular on the first independent rows."""
    m = len(r)
    columns: list[FloatArray] = []
    for j in range(m):
        f = np.column_stack(columns) if columns else np.zeros((m, 0))
        rest = r[:, j] - f @ f[j]
        if rest[j] > 1e-9:
            columns.append(np.where(np.arange(m) < j, 0.0, rest / np.sqrt(rest[j])))
    return np.column_stack(columns)


def range_tail(q: FloatArray, k: int, df: FloatArray) -> FloatArray:
    """P(studentised range of k means > q), elementwise in q and df.

    Examples
    --------
    >>> range_tail(np.array([3.5]), 3, np.array([20.0])).round(4).tolist()
    [0.0559]
    """
    q, df = np.broadcast_arrays(np.asarray(q, dtype=float), np.asarray(df, dtype=float))
    return np.array([1.0 - _range(float(a), k, float(b)) for a, b in zip(q.ravel(), df.ravel(), strict=True)])


def _range(q: float, k: int, df: float) -> float:
    if np.isnan(df) or np.isnan(q):
        return float("nan")
    s, ws = _chi_nodes(df)
    z, wz = _normal_nodes()
    inner = special.ndtr(z) - special.ndtr(z[None, :] - q * s[:, None])
    return float(min(1.0, k * ws @ inner ** (k - 1) @ wz))


def range_critical(k: int, df: float, level: float) -> float:
    """The q with P(studentised range of k means <= q) = level."""
    if np.isnan(df):
        return float("nan")
    finite = df if np.isfinite(df) else 1e10
    low, high = (-np.sqrt(2) * float(special.stdtrit(finite, (1 - level) / t)) for t in (2, k * (k - 1)))
    return _root(lambda q: _range(q, k, df) - level, low, high)


# ------------------------------------------------------------------------------------------- one door


Graph = tuple[Sequence[float], Sequence[Sequence[float]]]


def adjust_p(
    method: str,
    p: FloatArray,
    *,
    statistic: FloatArray,
    correlation: FloatArray,
    df: FloatArray,
    side: str = "two",
    means: int | None = None,
    graph: Graph | None = None,
) -> FloatArray:
    """Adjusted p values of one family by name (see ADJUSTMENTS); NaN p values stay NaN and do not count.

    Parameters
    ----------
    p, statistic, df : (m,)
    correlation : (m, m)
    means : the number of means compared pairwise (tukey only)
    graph : weights and transitions (graphical only)
    """
    choose(method, ADJUSTMENTS, "adjust")
    known = np.isfinite(p)
    out = np.full(len(p), np.nan)
    if method == "none" or not known.any():
        return np.asarray(p, dtype=float)
    if method == "tukey":
        out[known] = range_tail(np.sqrt(2) * np.abs(statistic[known]), _tukey_means(means, side), df[known])
    elif method in SINGLE_STEP:
        r = correlation[np.ix_(known, known)]
        out[known] = mvt_p_values(statistic[known], r, float(df[known].min()), side)
    else:
        out[known] = _from_p(method, p[known], graph)
    return out


def _tukey_means(means: int | None, side: str) -> int:
    if means is None or side != "two":
        raise FormulaError("adjust='tukey' is for two-sided pairwise contrasts; 'mvt' serves any set of contrasts.")
    return means


def _from_p(method: str, p: FloatArray, graph: Graph | None) -> FloatArray:
    if method == "graphical":
        if graph is None:
            raise FormulaError("adjust='graphical' needs graph=(weights, transitions).")
        return graphical(p, *graph)
    simple = {
        "bonferroni": bonferroni,
        "sidak": sidak,
        "holm": holm,
        "hochberg": hochberg,
        "fixed-sequence": fixed_sequence,
    }
    return simple[method](p)


def reach(
    method: str,
    *,
    correlation: FloatArray,
    df: FloatArray,
    level: float,
    side: str = "two",
    means: int | None = None,
) -> FloatArray:
    """(m,) multiples of the standard error by which simultaneous limits stand off the estimate.

    Step-wise methods have no matching limits of use: Bonferroni's stand there for holm and hochberg (as R emmeans),
    unadjusted ones for fixed-sequence and graphical.
    """
    known = np.isfinite(df) | np.isposinf(df)
    m = int(known.sum())
    if method == "tukey":
        k = _tukey_means(means, side)
        return np.array([range_critical(k, float(d), level) / np.sqrt(2) for d in df])
    if method in SINGLE_STEP and m:
        c = mvt_critical(correlation[np.ix_(known, known)], float(df[known].min()), level, side)
        return np.where(known, c, np.nan)
    share = {"bonferroni": m, "holm": m, "hochberg": m}.get(method, 1)
    own = level ** (1 / m) if method == "sidak" and m else 1 - (1 - level) / max(share, 1)
    return t_quantile((1 + own) / 2 if side == "two" else own, df)
