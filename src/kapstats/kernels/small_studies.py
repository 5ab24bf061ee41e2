"""Asymmetry of funnels: Kendall's rank correlation, trim and fill.

Symbols as in `meta`: y (k,) effects, v (k,) sampling variances.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from kapstats._types import FloatArray
from kapstats.kernels.meta import pool
from kapstats.kernels.meta_regression import regress


@dataclass(frozen=True, slots=True)
class Filled:
    """y, v of the observed and the mirrored studies; how many are mirrored, and to which side."""

    y: FloatArray
    v: FloatArray
    missing: int
    side: str


def trim_and_fill(y: FloatArray, v: FloatArray, model: str, estimator: str) -> Filled:
    """Duval & Tweedie (2000): trim the extreme studies of one side until the rest is symmetric, then mirror them.

    Studies are missing on the left when effects rise with their standard errors (the slope of Egger's regression).
    """
    slope = regress(y, v, np.column_stack([np.ones(len(y)), np.sqrt(v)]), model).coefficients[1]
    sign = -1.0 if slope < 0 else 1.0
    order = np.argsort(sign * y, kind="stable")
    z, w, k = (sign * y)[order], v[order], len(y)
    missing, seen = 0, set[int]()
    while True:
        centre = pool(z[: k - missing], w[: k - missing], model).estimate
        found = _missing(z - centre, estimator)
        if found == missing or found in seen:
            break
        seen.add(found)
        missing = found
    mirrored = 2 * centre - z[k - missing :]
    return Filled(
        y=sign * np.append(z, mirrored),
        v=np.append(w, w[k - missing :]),
        missing=missing,
        side="left" if sign > 0 else "right",
    )


def _missing(centred: FloatArray, estimator: str) -> int:
    """Number missing on the left, from the signed ranks of effects about their centre."""
    k = len(centred)
    ranks = np.empty(k)
    ranks[np.argsort(np.abs(centred), kind="stable")] = np.arange(1, k + 1)
    if estimator == "R0":
        below = ranks[centred < 0]
        number = k - (below.max() if len(below) else 0) - 1
    else:
        number = (4 * ranks[centred > 0].sum() - k * (k + 1)) / (2 * k - 1)
    return int(min(max(0, round(float(number))), k - 2))


def kendall(a: FloatArray, b: FloatArray) -> tuple[float, float]:
    """Kendall's tau-b and its two-sided p: exact without ties and below 50, else normal with the variance of ties."""
    n = len(a)
    i, j = np.triu_indices(n, 1)
    sa, sb = np.sign(a[i] - a[j]), np.sign(b[i] - b[j])
    score, pairs = float((sa * sb).sum()), n * (n - 1) / 2
    ties_a, ties_b = float((sa == 0).sum()), float((sb == 0).sum())
    if ties_a == pairs or ties_b == pairs:
        return np.nan, np.nan
    tau = score / np.sqrt((pairs - ties_a) * (pairs - ties_b))
    if n < 50 and not ties_a and not ties_b:
        ways = np.ones(1)
        for m in range(2, n + 1):  # number of permutations by inversions
            ways = np.convolve(ways, np.ones(m)) / m
        concordant = round((score + pairs) / 2)
        tail = ways[: min(concordant, int(pairs) - concordant) + 1].sum()
        return tau, float(min(1.0, 2 * tail))
    return tau, float(2 * special.ndtr(-abs(score) / np.sqrt(_variance(a, b))))


def _variance(a: FloatArray, b: FloatArray) -> float:
    """Variance of the score with tied groups of sizes t (in a) and u (in b): Kendall 1970."""
    n = len(a)
    t, u = (np.unique(x, return_counts=True)[1].astype(float) for x in (a, b))
    whole = n * (n - 1) * (2 * n + 5)
    first = (whole - sum(float((g * (g - 1) * (2 * g + 5)).sum()) for g in (t, u))) / 18
    second = float((t * (t - 1)).sum() * (u * (u - 1)).sum()) / (2 * n * (n - 1))
    third = float((t * (t - 1) * (t - 2)).sum() * (u * (u - 1) * (u - 2)).sum()) / (9 * n * (n - 1) * (n - 2))
    return first + second + third
