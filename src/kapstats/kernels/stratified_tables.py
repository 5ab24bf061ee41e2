"""Stratified 2 x 2 tables: Mantel-Haenszel estimators, score intervals, tests of association and homogeneity.

Every argument is (k, s): k tables (such as terms) of s strata. x1 of n1 against x2 of n2, N = n1 + n2, m = x1 + x2,
w = n1 n2/N the Mantel-Haenszel weight. A stratum in which a group is empty has weight 0 and says nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc, ndtri

from kapstats.kernels import score_intervals as score
from kapstats.kernels.roots import find_root
from kapstats.kernels.two_proportions import ratio

FloatArray = npt.NDArray[np.float64]
Limits = tuple[FloatArray, FloatArray]
Table = tuple[FloatArray, FloatArray, FloatArray, FloatArray]
Score = Callable[..., tuple[FloatArray, FloatArray]]

_LOG_EDGE = 300.0


def weights(x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray) -> FloatArray:
    """Mantel-Haenszel weights n1 n2/N, 0 where a group is empty."""
    total = n1 + n2
    return np.divide(n1 * n2, total, out=np.zeros_like(total), where=total > 0)


def proportions(x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray) -> tuple[FloatArray, FloatArray]:
    """p1 and p2, 0 where the group is empty (their weight is 0)."""
    p1 = np.divide(x1, n1, out=np.zeros_like(x1), where=n1 > 0)
    return p1, np.divide(x2, n2, out=np.zeros_like(x2), where=n2 > 0)


def difference(*table: FloatArray) -> FloatArray:
    """(k,) Mantel-Haenszel risk difference."""
    w, (p1, p2) = weights(*table), proportions(*table)
    return ratio((w * (p1 - p2)).sum(1), w.sum(1))


def sato_error(x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray) -> FloatArray:
    """Standard error of the Mantel-Haenszel difference valid for many small and few large strata (Sato 1989)."""
    d, w, total = difference(x1, n1, x2, n2), weights(x1, n1, x2, n2), np.maximum(n1 + n2, 1)
    used = w > 0
    p = (n1**2 * x2 - n2**2 * x1 + n1 * n2 * (n2 - n1) / 2) / total**2
    q = (x1 * (n2 - x2) + x2 * (n1 - x1)) / (2 * total)
    return np.sqrt(ratio(d * (p * used).sum(1) + (q * used).sum(1), w.sum(1) ** 2))


def greenland_robins_error(x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray) -> FloatArray:
    """Standard error of the Mantel-Haenszel difference for few large strata (Greenland & Robins 1985)."""
    w, total = weights(x1, n1, x2, n2), n1 + n2
    top = x1 * (n1 - x1) * n2**3 + x2 * (n2 - x2) * n1**3
    part = np.divide(top, n1 * n2 * total**2, out=np.zeros_like(top), where=w > 0)
    return np.sqrt(ratio(part.sum(1), w.sum(1) ** 2))


def risk_ratio(x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(k,) Mantel-Haenszel risk ratio and the standard error of its logarithm (Greenland & Robins 1985)."""
    total, used = np.maximum(n1 + n2, 1), weights(x1, n1, x2, n2) > 0
    top, bottom = (used * x1 * n2 / total).sum(1), (used * x2 * n1 / total).sum(1)
    spread = (used * ((x1 + x2) * n1 * n2 - x1 * x2 * (n1 + n2)) / total**2).sum(1)
    return ratio(top, bottom), _finite(np.sqrt(ratio(spread, top * bottom)))


def odds_ratio(x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(k,) Mantel-Haenszel odds ratio and the standard error of its logarithm (Robins, Breslow & Greenland 1986)."""
    total, used = np.maximum(n1 + n2, 1), weights(x1, n1, x2, n2) > 0
    y1, y2 = n1 - x1, n2 - x2
    r, s = used * x1 * y2 / total, used * x2 * y1 / total
    p, q = (x1 + y2) / total, (x2 + y1) / total
    r_sum, s_sum = r.sum(1), s.sum(1)
    variance = ratio((p * r).sum(1), 2 * r_sum**2) + ratio((p * s + q * r).sum(1), 2 * r_sum * s_sum)
    variance = variance + ratio((q * s).sum(1), 2 * s_sum**2)
    return ratio(r_sum, s_sum), _finite(np.sqrt(variance))


def inverse_variance(estimate: FloatArray, variance: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(k,) inverse-variance pool of (k, s) estimates and its standard error."""
    w = ratio(1.0, variance)
    return ratio((w * estimate).sum(1), w.sum(1)), np.sqrt(ratio(1.0, w.sum(1)))


def cmh(
    x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray, corrected: bool = False
) -> tuple[FloatArray, FloatArray]:
    """Cochran-Mantel-Haenszel chi-square on one df and its p value; 0 and 1 when no stratum is informative.

    The correction of 1/2 is left out where the excess is smaller, as R's mantelhaen.test does.
    """
    excess, variance = _hypergeometric_excess(x1, n1, x2, n2)
    gap = np.abs(excess.sum(1))
    gap = np.where(gap >= 0.5, gap - 0.5, gap) if corrected else gap
    statistic = np.where(variance.sum(1) > 0, ratio(gap**2, variance.sum(1)), 0.0)
    return statistic, chdtrc(1, statistic)


def _hypergeometric_excess(
    x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """x1 minus its expectation given the margins, and the hypergeometric variance, stratum by stratum."""
    total, m = n1 + n2, x1 + x2
    used = (n1 > 0) & (n2 > 0)
    size = np.maximum(total, 2)
    variance = n1 * n2 * m * (total - m) / (size**2 * (size - 1))
    return np.where(used, x1 - n1 * m / size, 0.0), np.where(used, variance, 0.0)


# --------------------------------------------------------------------------------------------- score intervals


def _safe(x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray) -> Table:
    """Strata with an empty group as 0 of 1 against 0 of 1, so that nothing divides by zero; their weight is 0."""
    used = (n1 > 0) & (n2 > 0)
    return np.where(used, x1, 0.0), np.where(used, n1, 1.0), np.where(used, x2, 0.0), np.where(used, n2, 1.0)


def _pooled(kind: Score, theta: FloatArray, w: FloatArray, *table: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Weighted sum of the strata's score numerators, and its variance."""
    size, strata = w.shape
    flat = tuple(part.reshape(-1) for part in table)
    numerator, variance = kind(np.repeat(theta, strata), *flat)
    numerator, variance = numerator.reshape(size, strata), variance.reshape(size, strata)
    return np.where(w > 0, w * numerator, 0.0).sum(1), np.where(w > 0, w**2 * variance, 0.0).sum(1)


def _excess(pooled: Callable[..., tuple[FloatArray, FloatArray]], tail: float, sign: int) -> Callable[..., FloatArray]:
    z2 = float(ndtri(tail)) ** 2

    def excess(theta: FloatArray, *table: FloatArray) -> FloatArray:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            numerator, variance = pooled(theta, *table)
            scaled = np.where(numerator == 0, 0.0, numerator / np.sqrt(numerator**2 + z2 * variance))
        return sign * scaled - np.sqrt(0.5)

    return excess


def score_difference_limits(
    x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray, tail: float, corrected: bool = True
) -> Limits:
    """Stratified score limits of the difference with fixed Mantel-Haenszel weights; at 0 the test is CMH."""
    w = weights(x1, n1, x2, n2)
    safe = _safe(x1, n1, x2, n2)
    table = (w, *safe, score.correction_factor(safe[1], safe[3], corrected))
    d = difference(x1, n1, x2, n2)

    def pooled(theta: FloatArray, w: FloatArray, *cells: FloatArray) -> tuple[FloatArray, FloatArray]:
        return _pooled(score.difference_score, theta, w, *cells)

    low = find_root(_excess(pooled, tail, 1), np.full_like(d, -1.0), d, *table)
    high = find_root(_excess(pooled, tail, -1), d, np.ones_like(d), *table)
    return low, high


def score_ratio_limits(
    x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray, tail: float, kind: str, corrected: bool = True
) -> Limits:
    """Stratified score limits of a common ratio: kind "risk" (Mantel-Haenszel weights) or "odds" (efficient score)."""
    lower = partial(_ratio_low, tail=tail, kind=kind, corrected=corrected)
    known = (weights(x1, n1, x2, n2) > 0).any(1)
    with np.errstate(divide="ignore"):
        low, high = lower(x1, n1, x2, n2), 1 / lower(x2, n2, x1, n1)
    return np.where(known, low, np.nan), np.where(known, high, np.nan)


def _ratio_low(
    x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray, tail: float, kind: str, corrected: bool
) -> FloatArray:
    """The lower limit; the upper one is the reciprocal of that of the exchanged groups."""
    w = weights(x1, n1, x2, n2)
    safe = _safe(x1, n1, x2, n2)
    each = score.ratio_score if kind == "risk" else score.odds_score
    table = (
        w if kind == "risk" else (w > 0).astype(float),
        *safe,
        score.correction_factor(safe[1], safe[3], corrected),
    )

    def pooled(theta: FloatArray, w: FloatArray, *cells: FloatArray) -> tuple[FloatArray, FloatArray]:
        return _pooled(each, np.exp(theta), w, *cells)

    edge = np.full(w.shape[0], _LOG_EDGE)
    low = np.exp(find_root(_excess(pooled, tail, 1), -edge, edge, *table))
    some = x1 > 0 if kind == "risk" else x1 * (n2 - x2) > 0
    return np.where(((w > 0) & some).any(1), low, 0.0)


def score_z(x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray, corrected: bool = True) -> FloatArray:
    """z of no difference with fixed Mantel-Haenszel weights; its square is the CMH chi-square when corrected."""
    excess, variance = _hypergeometric_excess(x1, n1, x2, n2)
    if not corrected:
        total = np.maximum(n1 + n2, 2)
        variance = variance * (total - 1) / total
    numerator, variance = excess.sum(1), variance.sum(1)
    return np.where(variance > 0, ratio(numerator, np.sqrt(variance)), 0.0)


def iterative_difference(
    x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray, tail: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Estimate and limits with the iterative weights of Miettinen & Nurminen (1985), which follow the value tested."""
    w = weights(x1, n1, x2, n2)
    safe = _safe(x1, n1, x2, n2)
    table = (w, *safe, score.correction_factor(safe[1], safe[3], True))
    edge = np.ones(w.shape[0])
    low = find_root(_excess(_iterated, tail, 1), -edge, edge, *table)
    high = find_root(_excess(_iterated, tail, -1), -edge, edge, *table)
    return find_root(lambda d, *t: _iterated(d, *t)[0], -edge, edge, *table), low, high


def _iterated(
    d: FloatArray, w: FloatArray, x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray, correction: FloatArray
) -> tuple[FloatArray, FloatArray]:
    size, strata = w.shape
    x1_, n1_, x2_, n2_ = (part.reshape(-1) for part in (x1, n1, x2, n2))
    four = score.restricted_difference(x1_, n1_, x2_, n2_, np.repeat(d, strata))
    r1, s1, r2, s2 = (part.reshape(size, strata) for part in four)
    used, v = w > 0, w
    for _ in range(100):
        total = np.maximum(v.sum(1), 1e-300)
        a, b = (v * r1).sum(1) / total, (v * r2).sum(1) / total
        a, b = a * (1 - a), b * (1 - b)
        both = (a + b)[:, None]
        spread = a[:, None] / n1 + b[:, None] / n2
        new = np.where(used, np.divide(both, spread, out=w.copy(), where=both > 0), 0.0)
        done = np.all(np.abs(new - v) <= 1e-13 * np.maximum(new, 1))
        v = new
        if done:
            break
    gap = np.where(used, v * (x1 / n1 - x2 / n2 - d[:, None]), 0.0).sum(1)
    spread = np.where(used, v**2 * (r1 * s1 / n1 + r2 * s2 / n2) * correction, 0.0).sum(1)
    return gap, spread


def summary_score(
    x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray, tail: float, corrected: bool = True
) -> tuple[FloatArray, FloatArray]:
    """Inverse-variance pool of the midpoints of the strata's score intervals, with its standard error (SAS FREQ)."""
    size, strata = x1.shape
    a, b, c, d = (part.reshape(-1) for part in (x1, n1, x2, n2))
    low, high = (v.reshape(size, strata) for v in score.difference_limits(a, b, c, d, tail, corrected))
    used = (n1 > 0) & (n2 > 0)
    error = (high - low) / (-2 * ndtri(tail))
    return inverse_variance(np.where(used, (low + high) / 2, 0.0), np.where(used, error**2, np.inf))


def newcombe(x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray, tail: float) -> Limits:
    """Stratified Newcombe limits (Yan & Su 2010): square-and-add of two stratified Wilson intervals."""
    w = weights(x1, n1, x2, n2)
    d = difference(x1, n1, x2, n2)
    share = ratio(w, w.sum(1, keepdims=True))
    (l1, u1), (l2, u2) = _stratified_wilson(x1, n1, share, tail), _stratified_wilson(x2, n2, share, tail)
    a, b = (np.where(share > 0, share**2 / np.maximum(n, 1), 0.0).sum(1) for n in (n1, n2))
    z = -float(ndtri(tail))
    low = d - z * np.sqrt(a * l1 * (1 - l1) + b * u2 * (1 - u2))
    return low, d + z * np.sqrt(a * u1 * (1 - u1) + b * l2 * (1 - l2))


def _stratified_wilson(x: FloatArray, n: FloatArray, share: FloatArray, tail: float) -> Limits:
    """Weighted sum of the strata's Wilson limits at the quantile that gives the sum the right width."""
    p = np.divide(x, n, out=np.zeros_like(x), where=n > 0)
    error = np.sqrt(np.divide(p * (1 - p), n, out=np.zeros_like(x), where=n > 0))
    z = -float(ndtri(tail))
    spread = (share * error).sum(1)
    plain = np.sqrt((share**2).sum(1))
    shrink = np.where(spread > 0, ratio(np.sqrt((share**2 * error**2).sum(1)), spread), plain)
    z2 = (shrink * z)[:, None] ** 2
    centre = (x + z2 / 2) / (n + z2)
    half = np.sqrt(z2) * np.sqrt(n * p * (1 - p) + z2 / 4) / (n + z2)
    return (share * (centre - half)).sum(1), (share * (centre + half)).sum(1)


# ------------------------------------------------------------------------------------------------- homogeneity


def breslow_day(
    x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray, tarone: bool = True
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Breslow-Day chi-square of a common odds ratio (Tarone's correction), df and p; strata with an empty margin
    are left out, and the common odds ratio is Mantel-Haenszel's.
    """
    m, total = x1 + x2, n1 + n2
    used = (n1 > 0) & (n2 > 0) & (m > 0) & (m < total)
    common = odds_ratio(x1, n1, x2, n2)[0][:, None] * np.ones_like(x1)
    safe = tuple(np.where(used, part, value) for part, value in ((x1, 1.0), (n1, 2.0), (x2, 1.0), (n2, 2.0)))
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = safe[1] * score.restricted_odds(safe[2], safe[3], safe[0], safe[1], 1 / common)
        m = safe[0] + safe[2]
        cells = (expected, safe[1] - expected, m - expected, safe[3] - m + expected)
        variance = 1 / sum(1 / cell for cell in cells)
        gap = np.where(used, safe[0] - expected, 0.0)
        statistic = np.where(used, gap**2 / variance, 0.0).sum(1)
        if tarone:
            statistic = np.maximum(statistic - gap.sum(1) ** 2 / np.where(used, variance, 0.0).sum(1), 0.0)
    df = np.maximum(used.sum(1) - 1, 0).astype(float)
    known = (df > 0) & np.isfinite(statistic)
    return np.where(known, statistic, np.nan), df, np.where(known, chdtrc(np.maximum(df, 1), statistic), np.nan)


def cochran_q(estimate: FloatArray, variance: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Weighted squares of (k, s) estimates around their inverse-variance mean, df and p (Woolf's test on log odds)."""
    mean = inverse_variance(estimate, variance)[0][:, None]
    statistic = ((estimate - mean) ** 2 / variance).sum(1)
    df = np.full(statistic.size, estimate.shape[1] - 1.0)
    return statistic, df, chdtrc(df, statistic)


def score_homogeneity(x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray) -> tuple[FloatArray, ...]:
    """Homogeneity of the risk difference: sum s^2/V - (sum s/V)^2 / sum 1/V over strata.

    s and V are score residuals and their variances at the Mantel-Haenszel difference.
    The second term is what another common difference would explain. Without it the sum is too large for chi-square with
    strata - 1 degrees of freedom, in trials of any size: the Mantel-Haenszel weights are not the inverse variances.
    """
    used = (n1 > 0) & (n2 > 0)
    size, strata = x1.shape
    safe = _safe(x1, n1, x2, n2)
    flat = tuple(part.reshape(-1) for part in (*safe, score.correction_factor(safe[1], safe[3], True)))
    residual, variance = score.difference_score(np.repeat(difference(x1, n1, x2, n2), strata), *flat)
    informs = used & ((residual != 0) | (variance > 0)).reshape(size, strata)
    s, v = (np.where(informs, part.reshape(size, strata), 1.0) for part in (residual, variance))
    weight = np.where(informs, 1.0 / np.maximum(v, 1e-300), 0.0)
    total = weight.sum(1)
    shared = np.where(total > 0, (weight * s).sum(1) ** 2 / np.where(total > 0, total, 1.0), 0.0)
    statistic, df = np.maximum((weight * s**2).sum(1) - shared, 0.0), np.maximum(used.sum(1) - 1, 0).astype(float)
    return statistic, df, np.where(df > 0, chdtrc(np.maximum(df, 1), statistic), np.nan)


def _finite(error: FloatArray) -> FloatArray:
    return np.where(np.isfinite(error), error, np.nan)
