"""Trend of a binomial proportion over ordered groups with scores (such as doses)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc, gammaln, ndtr

FloatArray = npt.NDArray[np.float64]


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

    The distribution is built group by group; equal values of T are merged.
    """
    m = int(x.sum())
    states: dict[int, tuple[FloatArray, FloatArray]] = {0: (np.zeros(1), np.ones(1))}
    left = int(n.sum())
    for size, score in zip(n.astype(int), scores, strict=True):
        left -= size
        states = _add_group(states, int(size), float(score), m, left)
    value, weight = states[m]
    weight = weight / weight.sum()
    observed, mean = float((x * scores).sum()), float((value * weight).sum())
    slack = 1e-9 * max(1.0, float(np.abs(scores).max()) * max(m, 1))
    greater = float(weight[value >= observed - slack].sum())
    less = float(weight[value <= observed + slack].sum())
    far = float(weight[np.abs(value - mean) >= abs(observed - mean) - slack].sum())
    return {"greater": greater, "less": less, "two": far, "central": min(1.0, 2 * min(greater, less))}


def _add_group(
    states: dict[int, tuple[FloatArray, FloatArray]], size: int, score: float, m: int, left: int
) -> dict[int, tuple[FloatArray, FloatArray]]:
    """Convolve with one group; only totals from which m can still be reached are kept."""
    k = np.arange(size + 1)
    choose = np.exp(gammaln(size + 1) - gammaln(k + 1) - gammaln(size - k + 1) - size * np.log(2))
    found: dict[int, list[tuple[FloatArray, FloatArray]]] = {}
    for events, (value, weight) in states.items():
        for more in range(max(0, m - events - left), min(size, m - events) + 1):
            found.setdefault(events + more, []).append((value + more * score, weight * choose[more]))
    return {events: _merge(parts) for events, parts in found.items()}


def _merge(parts: list[tuple[FloatArray, FloatArray]]) -> tuple[FloatArray, FloatArray]:
    value = np.concatenate([p[0] for p in parts])
    weight = np.concatenate([p[1] for p in parts])
    order = np.argsort(value, kind="stable")
    value, weight = value[order], weight[order]
    new = np.r_[True, np.diff(value) > 1e-9 * np.maximum(1.0, np.abs(value[1:]))]
    return value[new], np.bincount(np.cumsum(new) - 1, weights=weight).astype(float)
