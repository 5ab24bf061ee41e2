"""Adjusted p values that control a false discovery rate, plain and by groups of terms."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def benjamini_hochberg(p: FloatArray) -> FloatArray:
    """Step-up adjusted p values, min over j >= i of m p_(j)/j (Benjamini & Hochberg 1995)."""
    m = p.size
    order = np.argsort(p)[::-1]
    adjusted = np.minimum.accumulate(np.minimum(1.0, m * p[order] / np.arange(m, 0, -1)))
    out = np.empty(m)
    out[order] = adjusted
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
