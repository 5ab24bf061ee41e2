"""Several comparisons at once: adjusted p values and simultaneous critical values.

Dunnett and mvt integrate the multivariate t distribution (`kernels.multivariate_t`).
Tukey is the studentised range (Tukey-Kramer, as R emmeans). Degrees of freedom need not be whole numbers; dunnett and
mvt use the smallest of the family, tukey each comparison's own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import special

from kapstats._types import FloatArray
from kapstats.errors import FormulaError, choose
from kapstats.inference.intervals import t_quantile
from kapstats.kernels.multivariate_t import chi_nodes, increasing_root, mvt_critical, mvt_p_values, normal_nodes

SINGLE_STEP = ("dunnett", "mvt", "tukey")
STEPWISE = ("holm", "hochberg", "fixed-sequence", "graphical")
ADJUSTMENTS = ("none", "bonferroni", "sidak", *STEPWISE[:2], *SINGLE_STEP, *STEPWISE[2:])


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


# ------------------------------------------------------------------------------------------- studentised range


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
    s, ws = chi_nodes(df)
    z, wz = normal_nodes()
    inner = special.ndtr(z) - special.ndtr(z[None, :] - q * s[:, None])
    return float(min(1.0, k * ws @ inner ** (k - 1) @ wz))


def range_critical(k: int, df: float, level: float) -> float:
    """The q with P(studentised range of k means <= q) = level."""
    if np.isnan(df):
        return float("nan")
    finite = df if np.isfinite(df) else 1e10
    low, high = (-np.sqrt(2) * float(special.stdtrit(finite, (1 - level) / t)) for t in (2, k * (k - 1)))
    return increasing_root(lambda q: _range(q, k, df) - level, low, high)


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
