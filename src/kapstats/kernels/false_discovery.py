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


def group_bh(p: FloatArray, group: IntArray, rate: float = 0.05) -> FloatArray:
    """Group Benjamini-Hochberg with the two-stage estimate of the true share per group (Hu, Zhao & Zhou 2010).

    Each p value is weighted by pi/(1 - pi) of its group; the weighted values go through Benjamini-Hochberg at a bound
    scaled by the overall share of false hypotheses. Groups judged entirely null get 1.
    """
    count = int(group.max(initial=-1)) + 1
    true_share = np.array([_two_stage(p[group == g], rate) for g in range(count)])
    size = np.bincount(group, minlength=count)
    overall = float(true_share @ size / p.size)
    if overall >= 1:
        return np.ones(p.size)
    share = true_share[group]
    with np.errstate(divide="ignore"):
        weighted = np.where(share < 1, p * share / (1 - share), np.inf)
    finite = np.isfinite(weighted)
    adjusted = np.ones(p.size)
    order = np.argsort(weighted[finite])[::-1]
    ranks = np.arange(finite.sum(), 0, -1)
    steps = np.minimum.accumulate(np.minimum(1.0, p.size * (1 - overall) * weighted[finite][order] / ranks))
    inside = np.empty(order.size)
    inside[order] = steps
    adjusted[finite] = inside
    return adjusted


def _two_stage(p: FloatArray, rate: float) -> float:
    """Share of true null hypotheses: those that Benjamini-Hochberg at rate/(1 + rate) does not reject."""
    if p.size == 0:
        return 1.0
    return float(np.mean(benjamini_hochberg(p) > rate / (1 + rate)))
