"""Trend of a binomial proportion over ordered groups with scores (such as doses)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import chdtrc, expit, gammaln, ndtr, xlog1py, xlogy

FloatArray = npt.NDArray[np.float64]
#: P(T >= t) for sign 1, P(T <= t) for sign -1
Tail = Callable[[float, int], float]

#: points of the characteristic function, above which it takes more than some seconds
_LARGEST = 2e9


@dataclass(frozen=True, slots=True)
class Trend:
    """z of the trend, its two-sided p value, and Pearson's chi-square of the departure from it with df and p."""

    z: float
    p: float
    departure: float
    df: int
    departure_p: float


def cochran_armitage(x: FloatArray, n: FloatArray, scores: FloatArray, permutation: bool = False) -> Trend:
    """Cochran-Armitage test; `permutation` uses the hypergeometric variance, N/(N-1) times larger.

    x, n, scores : (g,) events, subjects and score of each group.
    """
    total, p = n.sum(), x.sum() / n.sum()
    centre = (n * scores).sum() / total
    t = (x * (scores - centre)).sum()
    variance = p * (1 - p) * (n * (scores - centre) ** 2).sum()
    variance *= total / (total - 1) if permutation else 1.0
    z = float(t / np.sqrt(variance)) if variance > 0 else 0.0
    expected = np.stack([n * p, n * (1 - p)])
    observed = np.stack([x, n - x])
    pearson = np.sum(np.divide((observed - expected) ** 2, expected, out=np.zeros_like(expected), where=expected > 0))
    plain = z**2 * (total / (total - 1) if permutation else 1.0)
    departure, df = max(float(pearson - plain), 0.0), x.size - 2
    return Trend(z, float(2 * ndtr(-abs(z))), departure, df, float(chdtrc(df, departure)) if df > 0 else float("nan"))


def exact_trend(x: FloatArray, n: FloatArray, scores: FloatArray) -> dict[str, float]:
    """Exact conditional p values of T = sum x_i s_i given all margins: greater, less, two (|T - E|), central (2 min).

    Scores s_0 + step * k with whole k have their tails from the generating function, for any number of subjects; others
    are enumerated group by group.

    Raises
    ------
    OverflowError
        When there are too many values of T for either.
    """
    m = float(x.sum())
    observed, mean = float((x * scores).sum()), float(m * (n * scores).sum() / n.sum())
    slack = 1e-9 * max(1.0, float(np.abs(scores).max()) * max(m, 1))
    tail = _lattice_tail(n, scores, m) or _enumerated_tail(x, n, scores, m)
    greater, less = tail(observed - slack, 1), tail(observed + slack, -1)
    reach = abs(observed - mean) - slack
    far = min(1.0, tail(mean + reach, 1) + tail(mean - reach, -1)) if reach > 0 else 1.0
    return {"greater": greater, "less": less, "two": far, "central": min(1.0, 2 * min(greater, less))}


# ------------------------------------------------------------------------------------------------ scores on a lattice


def _lattice_tail(n: FloatArray, scores: FloatArray, m: float) -> Tail | None:
    """P(T >= t) (sign 1) and P(T <= t) (sign -1); None where the scores have no common step, or too many of them."""
    k = _whole_multiples(scores - scores.min())
    if k is None or _points(n, k, m, *_odds(n, k, m, float(m * (n * k).sum() / n.sum()))) > _LARGEST:
        return None
    unit = float(scores.max() - scores.min()) / max(float(k.max()), 1.0) or 1.0
    lowest, top = m * float(scores.min()), float(k.max())

    def tail(t: float, sign: int) -> float:
        steps = (t - lowest) / unit
        if sign > 0:
            return _upper(int(np.ceil(steps)), n, k, m)
        return _upper(int(np.ceil(top * m - steps)), n, top - k, m)

    return tail


def _whole_multiples(gap: FloatArray) -> FloatArray | None:
    """The scores above the smallest as the least whole numbers in their proportions; None where these are no such."""
    if not (gap > 0).any():
        return np.zeros_like(gap)
    parts = [Fraction(g).limit_denominator(1000) for g in (gap / gap[gap > 0].min()).tolist()]
    close = all(abs(float(f) - g) <= 1e-12 * g for f, g in zip(parts, gap / gap[gap > 0].min(), strict=True))
    whole = [int(f * math.lcm(*(f.denominator for f in parts))) for f in parts]
    found = np.array(whole, dtype=np.float64) / math.gcd(*whole)
    return found if close and found.max() <= 100_000 else None


def _upper(t: int, n: FloatArray, k: FloatArray, m: float) -> float:
    """P(sum k_i X_i >= t) given sum X_i = m, with full relative accuracy where it is small.

    Independent binomials with odds exp(a + b k_i) have, given their sum, the weights of the margins times
    exp(b sum k_i X_i). With b such that t is the expectation, the tail begins at the centre of the distribution.
    """
    low, high = -_largest(n, -k, m), _largest(n, k, m)
    if t <= low or t > high:
        return float(t <= low)
    if t <= m * (n * k).sum() / n.sum():
        return max(0.0, 1.0 - _upper(int(k.max() * m) - t + 1, n, k.max() - k, m))
    a, b = _odds(n, k, m, min(t, high - 0.5))
    value, p = _density(n, k, m, a, b, low, high)
    here = value >= t
    log_scale = (n * np.logaddexp(0.0, a + b * k)).sum() - a * m - b * t - _log_choose(n.sum(), m)
    return float(min(1.0, (p[here] * np.exp(-b * (value[here] - t))).sum() * np.exp(log_scale)))


def _largest(n: FloatArray, k: FloatArray, m: float) -> float:
    """The largest sum k_i x_i with sum x_i = m."""
    order = np.argsort(-k, kind="stable")
    before = np.concatenate([[0.0], np.cumsum(n[order])[:-1]])
    return float((np.clip(m - before, 0.0, n[order]) * k[order]).sum())


def _odds(n: FloatArray, k: FloatArray, m: float, target: float) -> tuple[float, float]:
    """(a, b) with sum n_i p_i = m and sum n_i k_i p_i = target, p = expit(a + b k); b at most 60."""
    if not 0 < m < n.sum():
        return (-800.0 if m == 0 else 800.0), 0.0
    reach = 60 * float(k.max()) + 60

    def intercept(b: float) -> float:
        return float(brentq(lambda a: (n * expit(a + b * k)).sum() - m, -reach, reach, xtol=1e-13, rtol=1e-14))

    def excess(b: float) -> float:
        return float((n * k * expit(intercept(b) + b * k)).sum() - target)

    if excess(0.0) >= 0 or excess(60.0) <= 0:
        b = 0.0 if excess(0.0) >= 0 else 60.0
    else:
        b = float(brentq(excess, 0.0, 60.0, xtol=1e-9))
    return intercept(b), b


def _density(
    n: FloatArray, k: FloatArray, m: float, a: float, b: float, low: float, high: float
) -> tuple[FloatArray, FloatArray]:
    """Values around the expectation of sum k_i X_i and P(sum X_i = m, sum k_i X_i = value) of independent binomials.

    The characteristic function, about the expectations, at multiples of 2 pi/rows and 2 pi/columns; both periods hold
    all but 1e-20 of the probability (Bernstein's inequality), or everything there is.
    """
    p, q = expit(a + b * k), expit(-a - b * k)
    rows, columns = _periods(n, k, m, a, b)
    mean, centre = float((n * p).sum()), float((n * k * p).sum())
    v = 2 * np.pi * np.arange(columns // 2 + 1) / columns
    total = np.zeros(v.size, dtype=np.complex128)
    across = 2 * np.pi * (np.arange(rows) - rows // 2) / rows
    still = k == 0  # the groups whose factor depends on u alone: where it is 0, so is the product
    for u in across[n[still] @ _log_size(across, p[still]) > -45]:
        angle = u + k[:, None] * v
        some = n @ _log_size(angle, p) > -45
        at = angle[:, some]
        inner = q[:, None] * np.exp(-1j * p[:, None] * at) + p[:, None] * np.exp(1j * q[:, None] * at)
        total[some] += np.exp(n @ np.log(inner) - 1j * u * (m - mean))
    begin = low if columns > high - low else max(low, np.floor(centre) - columns // 2)
    density = np.fft.hfft(total * np.exp(-1j * v * (begin - centre)), columns) / (rows * columns)
    value = begin + np.arange(columns)
    inside = value <= high
    return np.asarray(value[inside], dtype=np.float64), np.asarray(np.maximum(density[inside], 0.0), dtype=np.float64)


def _log_size(angle: FloatArray, p: FloatArray) -> FloatArray:
    """(g, ...) log |1 - p + p exp(i angle)| for each p; angle (...,) or (g, ...)."""
    p = p[:, None]
    with np.errstate(divide="ignore"):
        return np.log1p(np.maximum(-2 * p * (1 - p) * (1 - np.cos(angle)), -1.0)) / 2


def _periods(n: FloatArray, k: FloatArray, m: float, a: float, b: float) -> tuple[int, int]:
    spread = n * expit(a + b * k) * expit(-a - b * k)

    def width(variance: float, largest: float) -> float:
        return 2 * np.ceil(16 * largest + np.sqrt((16 * largest) ** 2 + 94 * variance)) + 3

    rows = min(float(n.sum()) + 1, width(float(spread.sum()), 1.0))
    whole = _largest(n, k, m) + _largest(n, -k, m) + 1
    return int(rows), int(min(whole, width(float((spread * k * k).sum()), float(k.max()))))


def _points(n: FloatArray, k: FloatArray, m: float, a: float, b: float) -> float:
    rows, columns = _periods(n, k, m, a, b)
    return float(rows) * columns * n.size


def _log_choose(n: float | FloatArray, k: float | FloatArray) -> Any:
    return gammaln(np.add(n, 1)) - gammaln(np.add(k, 1)) - gammaln(np.subtract(n, k) + 1)


# ------------------------------------------------------------------------------------------------------ any scores


def _enumerated_tail(x: FloatArray, n: FloatArray, scores: FloatArray, m: float) -> Tail:
    """The distribution built group by group from binomials with the common share p; equal values of T are merged.

    A state that can add no more than 1e-25 of the probability of the observed table is left out.
    """
    p = m / float(n.sum())
    least = 1e-25 * float(np.exp(_log_binomial(x, n, p).sum()))
    events, value, weight = np.zeros(1), np.zeros(1), np.ones(1)
    for i, (size, score) in enumerate(zip(n, scores, strict=True)):
        left = float(n[i + 1 :].sum())
        if left == 0:  # the last group has the rest of the events
            value, weight = value + (m - events) * score, weight * np.exp(_log_binomial(m - events, size, p))
            break
        k = np.arange(max(0.0, m - events.max() - left), min(size, m) + 1)
        share = np.exp(_log_binomial(k, size, p))
        k, share = k[share >= least], share[share >= least]
        if float(events.size) * k.size > _LARGEST / 40:
            raise OverflowError(f"{events.size * k.size} values of the statistic after {i + 1} groups")
        total, probability = events[:, None] + k, weight[:, None] * share
        use = (total <= m) & (total + left >= m) & (probability >= least)
        events, value, weight = _merged(total[use], (value[:, None] + k * score)[use], probability[use])
    weight = weight / weight.sum()
    return lambda t, sign: float(min(1.0, weight[sign * value >= sign * t].sum()))


def _log_binomial(k: FloatArray, n: float | FloatArray, p: float) -> FloatArray:
    return np.asarray(_log_choose(n, k) + xlogy(k, p) + xlog1py(n - k, -p))


def _merged(events: FloatArray, value: FloatArray, weight: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    order = np.lexsort((value, events))
    events, value, weight = events[order], value[order], weight[order]
    new = np.r_[True, (np.diff(events) > 0) | (np.diff(value) > 1e-9 * np.maximum(1.0, np.abs(value[1:])))]
    return events[new], value[new], np.bincount(np.cumsum(new) - 1, weights=weight).astype(float)
