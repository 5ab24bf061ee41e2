"""Westfall-Young step-down max-T: permutation p values across terms that keep the dependence between terms."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def step_down_max_t(
    event: FloatArray,
    treated: npt.NDArray[np.bool_],
    stratum: IntArray,
    generator: np.random.Generator,
    permutations: int = 10_000,
    batch: int = 500,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Adjusted p values of |CMH z| by permuting the arm within strata.

    Parameters
    ----------
    event : (n, k) 1 where the subject had the term; treated, stratum : (n,)

    Returns
    -------
    (k,) z of the data, (k,) raw permutation p, (k,) step-down adjusted p. The data count as one permutation, so no p
    value is 0.
    """
    levels = np.unique(stratum)
    observed_z, scale, expected = _standard(event, treated, stratum, levels)
    order = np.argsort(-np.abs(observed_z), kind="stable")
    target = np.abs(observed_z)[order] - 1e-9
    raw, adjusted = np.ones(event.shape[1]), np.ones(event.shape[1])
    done = 0
    while done < permutations:
        size = min(batch, permutations - done)
        arms = _permuted(treated, stratum, levels, size, generator)
        z = np.abs((arms @ event - expected) * scale)[:, order]
        raw += (z >= target).sum(axis=0)
        adjusted += (np.maximum.accumulate(z[:, ::-1], axis=1)[:, ::-1] >= target).sum(axis=0)
        done += size
    raw, adjusted = raw / (permutations + 1), np.maximum.accumulate(adjusted / (permutations + 1))
    out_raw, out_adjusted = np.empty_like(raw), np.empty_like(adjusted)
    out_raw[order], out_adjusted[order] = raw, adjusted
    return observed_z, out_raw, out_adjusted


def _standard(
    event: FloatArray, treated: npt.NDArray[np.bool_], stratum: IntArray, levels: IntArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """z of the data, 1/sd and mean of the events in the treated arm given the margins of every stratum."""
    expected, variance = np.zeros(event.shape[1]), np.zeros(event.shape[1])
    for level in levels:
        own = stratum == level
        n, n1, m = own.sum(), (treated & own).sum(), event[own].sum(axis=0)
        expected += n1 * m / n
        if n > 1:
            variance += n1 * (n - n1) * m * (n - m) / (n**2 * (n - 1))
    scale = np.divide(1.0, np.sqrt(variance), out=np.zeros_like(variance), where=variance > 0)
    return (event[treated].sum(axis=0) - expected) * scale, scale, expected


def _permuted(
    treated: npt.NDArray[np.bool_], stratum: IntArray, levels: IntArray, size: int, generator: np.random.Generator
) -> FloatArray:
    """(size, n) arms permuted within strata."""
    out = np.zeros((size, treated.size))
    for level in levels:
        own = np.flatnonzero(stratum == level)
        keys = generator.random((size, own.size))
        count = int(treated[own].sum())
        if count:
            chosen = np.argpartition(keys, count - 1, axis=1)[:, :count]
            np.put_along_axis(out, own[chosen], 1.0, axis=1)
    return out
