"""From many analyses to one answer: Rubin's rules, the jackknife and the bootstrap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kapstats._types import FloatArray


@dataclass(frozen=True, slots=True)
class Pooled:
    """estimate, std_error, df (k,) each; between and within variance (k,)."""

    estimate: FloatArray
    std_error: FloatArray
    df: FloatArray
    between: FloatArray
    within: FloatArray


def rubin(estimates: FloatArray, std_errors: FloatArray, complete_df: FloatArray | float = np.inf) -> Pooled:
    """Rubin's rules with the degrees of freedom of Barnard and Rubin (1999, doi 10.1093/biomet/86.4.948).

    Parameters
    ----------
    estimates, std_errors : (M, k) of the M completed data sets
    complete_df : degrees of freedom of the analysis had nothing been missing

    Examples
    --------
    >>> found = rubin(np.array([[1.0], [2.0], [3.0]]), np.ones((3, 1)), 50.0)
    >>> round(float(found.std_error[0]), 4), round(float(found.df[0]), 3)
    (1.5275, 4.722)
    """
    m = len(estimates)
    within = (std_errors**2).mean(axis=0)
    between = estimates.var(axis=0, ddof=1) if m > 1 else np.zeros_like(within)
    total = within + (1 + 1 / m) * between
    share = np.divide((1 + 1 / m) * between, total, out=np.zeros_like(total), where=total > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        old = np.where(share > 0, (m - 1) / share**2, np.inf)
        complete = np.broadcast_to(np.asarray(complete_df, dtype=float), within.shape)
        seen = np.where(np.isinf(complete), np.inf, (complete + 1) / (complete + 3) * complete * (1 - share))
        df = 1 / (1 / old + 1 / seen)
    return Pooled(estimates.mean(axis=0), np.sqrt(total), df, between, within)


def resampled(estimate: FloatArray, std_error: FloatArray) -> Pooled:
    """An estimate (k,) with the standard error of resampled trials, and no degrees of freedom."""
    nothing = np.full(len(estimate), np.nan)
    return Pooled(estimate, std_error, np.full(len(estimate), np.inf), nothing, nothing)


def jackknife_error(replicates: FloatArray) -> FloatArray:
    """Standard error (k,) from the K leave-one-out estimates (K, k): sqrt((K - 1) / K * sum of squares)."""
    k = len(replicates)
    return np.sqrt((k - 1) / k * ((replicates - replicates.mean(axis=0)) ** 2).sum(axis=0))


def bootstrap_error(replicates: FloatArray) -> FloatArray:
    """Standard error (k,) from bootstrap estimates (B, k): their standard deviation."""
    return replicates.std(axis=0, ddof=1)
