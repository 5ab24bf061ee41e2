"""Adjusted p values that control a false discovery rate, plain and by groups of terms."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def benjamini_hochberg(p: FloatArray) -> FloatArray:
    """Step-up adjusted p values, min over j >= i of m p_(j)/j (Benjamini & Hochberg 1995): at most the largest p."""
    m = p.size
    order = np.argsort(p)[::-1]
    out = np.empty(m)
    out[order] = np.minimum.accumulate(m * p[order] / np.arange(m, 0, -1))
    return out


def benjamini_yekutieli(p: FloatArray) -> FloatArray:
    """Benjamini-Hochberg times the harmonic sum: valid under any dependence (Benjamini & Yekutieli 2001)."""
    return np.minimum(1.0, benjamini_hochberg(p) * np.sum(1 / np.arange(1, p.size + 1)))


def hommel(p: FloatArray) -> FloatArray:
    """Hommel (1988): closed testing with Simes tests, by the algorithm of Wright (1992)."""
    m = p.size
    order = np.argsort(p)
    s = p[order]
    a = np.full(m, np.min(m * s / np.arange(1, m + 1)) if m else np.nan)
    for k in range(m - 1, 1, -1):
        upper = np.arange(m - k + 1, m)
        lowest = np.min(k * s[upper] / np.arange(2, k + 1))
        candidate = np.where(np.arange(m) <= m - k, np.minimum(lowest, k * s), lowest)
        candidate[m - k + 1 :] = candidate[m - k]
        a = np.maximum(a, candidate)
    out = np.empty(m)
    out[order] = np.maximum(a, s)
    return out


def double_fdr(p: FloatArray, group: IntArray) -> tuple[FloatArray, FloatArray]:
    """Two-level procedure of Mehrotra and Adewale (2012, after Mehrotra & Heyse 2004).

    Within each group (system organ class) Benjamini-Hochberg; the smallest adjusted value of a group represents it and
    is adjusted across groups the same way. A term is flagged when both its own adjusted value and that of its group
    are within the bound.

    Parameters
    ----------
    p : (k,) p values; group : (k,) group of each, 0..g-1

    Returns
    -------
    (k,) adjusted within the group, (k,) adjusted value of the group across groups.
    """
    within = np.empty(p.size)
    count = int(group.max(initial=-1)) + 1
    smallest = np.ones(count)
    for g in range(count):
        rows = np.flatnonzero(group == g)
        within[rows] = benjamini_hochberg(p[rows])
        smallest[g] = within[rows].min(initial=1.0)
    return within, benjamini_hochberg(smallest)[group]


def group_benjamini_hochberg(p: FloatArray, group: IntArray) -> FloatArray:
    """Adjusted p values of Benjamini-Hochberg with groups weighted by their shares of true nulls (Hu et al. 2010).

    The share of a group is the least-slope estimate, P becomes P share/(1 - share), and the adjusted values are those
    of the weighted P times 1 - the overall share; 1 everywhere when every group seems null. Control is asymptotic in
    the size of the groups: body systems of a few terms are not large.
    """
    share = np.empty(p.size)
    for g in np.unique(group):
        rows = np.flatnonzero(group == g)
        share[rows] = _null_share(p[rows])
    if np.all(share >= 1):
        return np.ones_like(p)
    with np.errstate(divide="ignore", invalid="ignore"):
        weighted = np.where(share < 1, p * share / (1 - share), np.inf)
    return np.minimum(benjamini_hochberg(weighted) * (1 - share.mean()), 1.0)


def _null_share(p: FloatArray) -> float:
    """Least-slope estimate of the share of true nulls (Benjamini & Hochberg 2000)."""
    n, ordered = p.size, np.sort(p)
    with np.errstate(divide="ignore"):
        slope = (n + 1 - np.arange(1, n + 1)) / (1 - ordered)
    rising = np.flatnonzero(slope[1:] > slope[:-1])
    at = slope[rising[0] + 1] if rising.size else slope[-1]
    return float(min((np.floor(at) + 1) / n, 1.0)) if np.isfinite(at) else 1.0
