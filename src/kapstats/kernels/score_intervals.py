"""Score confidence limits for two independent binomials: difference, ratio and odds ratio.

Letters: x1 of n1 and x2 of n2, N = n1 + n2, p = x/n; a tilde (here `r1`, `r2`) is the maximum likelihood estimate
under the value being tested. The limits solve z(theta) = +-z_tail, where (Miettinen & Nurminen 1985)

    difference   z(d) = (p1 - p2 - d) / sqrt[(r1 s1/n1 + r2 s2/n2) N/(N-1)],                r1 = r2 + d
    ratio        z(f) = (p1 - f p2) / sqrt[(r1 s1/n1 + f^2 r2 s2/n2) N/(N-1)],              r1 = f r2
    odds ratio   z(w) = (x1 - n1 r1) sqrt[(1/(n1 r1 s1) + 1/(n2 r2 s2)) (N-1)/N],           odds(r1) = w odds(r2)

with s = 1 - r. Without the factor N/(N-1) these are the limits of Mee and Farrington-Manning (difference), Koopman
(ratio) and Cornfield (odds ratio).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from kapstats.kernels.roots import find_root

FloatArray = npt.NDArray[np.float64]
Limits = tuple[FloatArray, FloatArray]

#: |log| beyond which a ratio is called 0 or infinite; squares of it stay finite
_LOG_EDGE = 300.0


def restricted_difference(
    x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray, d: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """(r1, s1, r2, s2): the maximum likelihood estimates given p1 - p2 = d and their complements.

    The cubic of Miettinen & Nurminen (1985, appendix I) loses half the digits where two of its roots meet, and 1 - r
    loses the rest near 1. So groups are exchanged until d >= 0 and outcomes until the smallest of the four
    probabilities is t = r2 <= (1 - d)/2; each of the four is then a sum or difference without cancellation.
    """
    x1, n1, x2, n2, d = np.broadcast_arrays(x1, n1, x2, n2, d)
    turned = d < 0
    x1, x2 = np.where(turned, x2, x1), np.where(turned, x1, x2)
    n1, n2 = np.where(turned, n2, n1), np.where(turned, n1, n2)
    d = np.abs(d)
    w = 1 - d
    with np.errstate(divide="ignore", invalid="ignore"):
        above = (x2 - (n2 - x2) * w / (1 + d)) + (x1 * w / (1 + d) - (n1 - x1)) > 0  # the score at t = w/2
        t = _smallest(
            np.where(above, n2 - x2, x1),
            np.where(above, n2, n1),
            np.where(above, n1 - x1, x2),
            np.where(above, n1, n2),
            d,
        )
    near, far = (t, 1 - t), (t + d, np.maximum(w - t, 0.0))
    r1, s1 = np.where(above, near[1], far[0]), np.where(above, near[0], far[1])
    r2, s2 = np.where(above, far[1], near[0]), np.where(above, far[0], near[1])
    return np.where(turned, r2, r1), np.where(turned, s2, s1), np.where(turned, r1, r2), np.where(turned, s1, s2)


def _smallest(x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray, d: FloatArray) -> FloatArray:
    """t = r2 in [0, (1 - d)/2] for d >= 0: the zero of t times the score, which is concave in t.

    h(t) = x2 + x1 t/(t + d) - (n2 - x2) t/(1 - t) - (n1 - x1) t/(w - t), w = 1 - d. From the right of its zero
    Newton's steps come down to it and never pass it; one from the left lands on the right. With x2 = 0 the zero may be
    at the edge; h/t is then a quadratic.
    """
    w = 1 - d
    half, within = 0.5 * w, x2 > 0
    t = np.where(within, np.clip((x1 + x2 - n1 * d) / (n1 + n2), 0.0, half), half)
    for step in range(100):
        share = np.where(t + d > 0, t / (t + d), 1.0)
        value = x2 + x1 * share - (n2 - x2) * t / (1 - t) - (n1 - x1) * t / (w - t)
        slope = x1 * (1 - share) / (t + d) - (n2 - x2) / (1 - t) ** 2 - (n1 - x1) * w / (w - t) ** 2
        new = np.where(slope < 0, np.clip(t - value / slope, 0.0, half), half)
        new = np.where((value < 0) | (step == 0), new, t)
        moved = within & (np.abs(t - new) > 1e-9 * t)
        t = new
        if step and not moved.any():
            break
    rest = w * x1 - d * (n2 * w + n1 - x1)
    b = x1 * (1 + w) + n2 * (w - d) + (n1 - x1) * w
    edge = 2 * rest / (b + np.sqrt(np.maximum(b * b - 4 * (n1 + n2) * rest, 0.0)))
    return np.where(within, t, np.where(rest > 0, np.minimum(edge, half), 0.0))


def restricted_ratio(x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray, f: FloatArray) -> FloatArray:
    """r2 given p1 = f p2: the smaller root of a quadratic."""
    a, b, c = (n1 + n2) * f, (n1 + x2) * f + x1 + n2, x1 + x2
    with np.errstate(divide="ignore", invalid="ignore"):
        return 2 * c / (b + np.sqrt(np.maximum(b * b - 4 * a * c, 0.0)))


def restricted_ratio_rest(x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray, f: FloatArray) -> FloatArray:
    """1 - r2 given p1 = f p2, by its own quadratic N f s^2 + b s - (1 - f) y2 = 0: no digits are lost where r2 is 1."""
    a, b, y2 = (n1 + n2) * f, (n1 + n2) * (1 - f) - (n1 - x1) - f * (n2 - x2), n2 - x2
    root = np.sqrt(np.maximum(b * b + 4 * a * (1 - f) * y2, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.clip(np.where(b > 0, 2 * (1 - f) * y2 / (b + root), (root - b) / (2 * a)), 0.0, 1.0)


def restricted_odds(x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray, w: FloatArray) -> FloatArray:
    """r2 given odds(p1) = w odds(p2): the root of a quadratic in [0, 1], by the form that does not cancel."""
    m = x1 + x2
    a, b = n2 * (w - 1), n1 * w + n2 - m * (w - 1)
    root = np.sqrt(np.maximum(b * b + 4 * a * m, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.clip(np.where(b >= 0, 2 * m / (b + root), (root - b) / (2 * a)), 0.0, 1.0)


def difference_score(
    d: FloatArray, x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray, correction: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Numerator and null variance of the score statistic for p1 - p2 = d."""
    r1, s1, r2, s2 = restricted_difference(x1, n1, x2, n2, d)
    return (x1 * n2 - x2 * n1) / (n1 * n2) - d, (r1 * s1 / n1 + r2 * s2 / n2) * correction


def ratio_score(
    f: FloatArray, x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray, correction: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Numerator and null variance of the score statistic for p1 / p2 = f."""
    r2 = restricted_ratio(x1, n1, x2, n2, f)
    r1 = np.minimum(r2 * f, 1.0)
    s1, s2 = restricted_ratio_rest(x2, n2, x1, n1, 1 / f), restricted_ratio_rest(x1, n1, x2, n2, f)
    return x1 / n1 - f * (x2 / n2), (r1 * s1 / n1 + f * f * r2 * s2 / n2) * correction


def odds_score(
    w: FloatArray, x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray, correction: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Numerator x1 - n1 r1 = n2 r2 - x2 and null variance of the score statistic for an odds ratio of w.

    Each of the four probabilities comes from its own quadratic: 1 - r has no digits left where r is near 1. The
    numerator is x1 s1 - (n1 - x1) r1, or the same of group 2 with the other sign: nothing cancels at an empty cell.
    """
    y1, y2 = n1 - x1, n2 - x2
    with np.errstate(divide="ignore", invalid="ignore"):
        r1, r2 = restricted_odds(x2, n2, x1, n1, 1 / w), restricted_odds(x1, n1, x2, n2, w)
        s1, s2 = restricted_odds(y2, n2, y1, n1, w), restricted_odds(y1, n1, y2, n2, 1 / w)
        v1, v2 = n1 * r1 * s1, n2 * r2 * s2
        variance = np.where((v1 > 0) & (v2 > 0), 1 / (1 / v1 + 1 / v2), 0.0) * correction
    first = (x1 == 0) | (y1 == 0)
    return np.where(first, x1 * s1 - y1 * r1, y2 * r2 - x2 * s2), variance


def standardise(numerator: FloatArray, variance: FloatArray) -> FloatArray:
    """numerator / sqrt(variance), with 0/0 = 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(numerator == 0, 0.0, numerator / np.sqrt(variance))


def correction_factor(n1: FloatArray, n2: FloatArray, corrected: bool) -> FloatArray:
    """N/(N-1) of Miettinen and Nurminen, or 1."""
    total = n1 + n2
    return total / np.maximum(total - 1, 1) if corrected else np.ones_like(total)


def difference_limits(
    x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray, tail: float, corrected: bool = True
) -> Limits:
    """Miettinen-Nurminen (corrected) or Mee / Farrington-Manning limits of p1 - p2; finite for every table."""
    table = (x1, n1, x2, n2, correction_factor(n1, n2, corrected))
    with np.errstate(divide="ignore", invalid="ignore"):
        d = (x1 * n2 - x2 * n1) / (n1 * n2)
    low = find_root(_excess(difference_score, tail, 1), np.full_like(d, -1.0), d, *table)
    high = find_root(_excess(difference_score, tail, -1), d, np.ones_like(d), *table)
    known = (n1 > 0) & (n2 > 0)
    return np.where(known, low, np.nan), np.where(known, high, np.nan)


def ratio_limits(
    x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray, tail: float, corrected: bool = True
) -> Limits:
    """Miettinen-Nurminen (corrected) or Koopman limits of p1 / p2: low is 0 at x1 = 0, high is inf at x2 = 0."""
    return turned_over(partial(_ratio_low, tail=tail, corrected=corrected), x1, n1, x2, n2)


def _ratio_low(
    x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray, tail: float, corrected: bool
) -> FloatArray:
    low = _log_limit(ratio_score, (x1, n1, x2, n2, correction_factor(n1, n2, corrected)), tail)
    return np.where(x1 == 0, 0.0, low)


def odds_limits(
    x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray, tail: float, corrected: bool = True
) -> Limits:
    """Miettinen-Nurminen (corrected) or Cornfield limits of the odds ratio; 0 or inf where a cell is empty."""
    return turned_over(partial(_odds_low, tail=tail, corrected=corrected), x1, n1, x2, n2)


def _odds_low(
    x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray, tail: float, corrected: bool
) -> FloatArray:
    low = _log_limit(odds_score, (x1, n1, x2, n2, correction_factor(n1, n2, corrected)), tail)
    return np.where((x1 == 0) | (x2 == n2), 0.0, low)


def turned_over(
    lower: Callable[..., FloatArray], x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray
) -> Limits:
    """Limits of a ratio from its lower one: the upper is the reciprocal of the lower of the exchanged groups."""
    known = (n1 > 0) & (n2 > 0)
    with np.errstate(divide="ignore"):
        low, high = lower(x1, n1, x2, n2), 1 / lower(x2, n2, x1, n1)
    return np.where(known, low, np.nan), np.where(known, high, np.nan)


def _excess(score: Callable[..., tuple[FloatArray, FloatArray]], tail: float, sign: int) -> Callable[..., FloatArray]:
    """A bounded increasing function of sign * z(theta) - z_tail with the same root: no infinities to step over."""
    z2 = float(ndtri(tail)) ** 2

    def excess(theta: FloatArray, *table: FloatArray) -> FloatArray:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            numerator, variance = score(theta, *table)
            size = np.sqrt(numerator**2 + z2 * variance)
            scaled = np.where(numerator == 0, 0.0, numerator / size)
        return sign * scaled - np.sqrt(0.5)

    return excess


def _log_limit(
    score: Callable[..., tuple[FloatArray, FloatArray]], table: tuple[FloatArray, ...], tail: float
) -> FloatArray:
    """The lower limit, solved on the log scale between the edges, so that it is right relative to its size."""

    def on_log(theta: FloatArray, *table: FloatArray) -> tuple[FloatArray, FloatArray]:
        return score(np.exp(theta), *table)

    edge = np.full_like(table[0], _LOG_EDGE)
    return np.exp(find_root(_excess(on_log, tail, 1), -edge, edge, *table))
