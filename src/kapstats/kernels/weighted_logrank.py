"""Weighted log-rank statistics of k groups with their joint covariance, on arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import gammaincc, ndtr

from kapstats.kernels.product_limit import within_strata
from kapstats.kernels.risk_sets import RiskSets

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Counts:
    """Per grid point (K) and group (G): at_risk, events (K, G); n, d their row sums; before (K,) pooled Kaplan-Meier
    just before the time; peto (K,) the Peto-Peto estimate prod(1 - d/(n+1)) at the time."""

    at_risk: FloatArray
    events: FloatArray
    n: FloatArray
    d: FloatArray
    before: FloatArray
    peto: FloatArray


@dataclass(frozen=True, slots=True)
class WeightedScores:
    """For m weight functions: observed, expected (m, G); covariance (m, m, G, G) of observed - expected."""

    observed: FloatArray
    expected: FloatArray
    covariance: FloatArray

    @property
    def score(self) -> FloatArray:
        return self.observed - self.expected


def group_counts(sets: RiskSets, group: IntArray, n_groups: int) -> Counts:
    """Numbers at risk and events by group; `group` (n,) codes 0..G-1 in input order."""
    g = group[sets.order]
    shape = (sets.size + 1, n_groups)
    left = np.bincount(sets.last * n_groups + g, minlength=shape[0] * n_groups).reshape(shape)
    if sets.delayed or len(sets.start) > 2:
        left = left - np.bincount(sets.first * n_groups + g, minlength=shape[0] * n_groups).reshape(shape)
    at_risk = np.cumsum(left[::-1], axis=0)[::-1][1:].astype(float)
    at = (sets.last[sets.event] - 1) * n_groups + g[sets.event]
    events = np.bincount(at, minlength=sets.size * n_groups).reshape(sets.size, n_groups).astype(float)
    n, d = at_risk.sum(axis=1), events.sum(axis=1)
    survival = within_strata(np.multiply.accumulate, 1.0 - d / n, sets.start)
    before = np.concatenate([[1.0], survival[:-1]]) if len(survival) else survival
    before[sets.start[:-1][np.diff(sets.start) > 0]] = 1.0
    return Counts(at_risk, events, n, d, before, within_strata(np.multiply.accumulate, 1.0 - d / (n + 1.0), sets.start))


def weight_function(counts: Counts, name: str, rho: float = 0.0, gamma: float = 0.0) -> FloatArray:
    """Weights (K,) of the test `name`; "fleming-harrington" uses S(t-)^rho (1 - S(t-))^gamma."""
    if name == "gehan":
        return counts.n
    if name == "tarone-ware":
        return np.sqrt(counts.n)
    if name == "peto-peto":
        return counts.peto
    if name == "modified-peto-peto":
        return counts.peto * counts.n / (counts.n + 1.0)
    return counts.before**rho * (1.0 - counts.before) ** gamma


def weighted_scores(counts: Counts, weights: FloatArray) -> WeightedScores:
    """Scores and joint covariance (hypergeometric) of the weight functions `weights` (m, K)."""
    n, d = counts.n, counts.d
    share = counts.at_risk / n[:, None]
    spread = np.where(n > 1, d * (n - d) / np.maximum(n - 1.0, 1.0), 0.0)
    products = weights[:, None, :] * weights[None, :, :] * spread
    linear = products @ share
    cross = np.einsum("abk,kg,kh->abgh", products, share, share, optimize=True)
    covariance = linear[..., None] * np.eye(share.shape[1]) - cross
    return WeightedScores(weights @ counts.events, weights @ (share * d[:, None]), covariance)


def quadratic(score: FloatArray, covariance: FloatArray, expected: FloatArray) -> tuple[float, int]:
    """Chi-square and its df; groups that are never at risk with an event are left out, as R's survdiff does."""
    use = np.flatnonzero(expected > 0)
    if len(use) < 2:
        return float("nan"), 0
    keep = use[1:]
    part = covariance[np.ix_(keep, keep)]
    try:
        return float(score[keep] @ np.linalg.solve(part, score[keep])), len(keep)
    except np.linalg.LinAlgError:
        return float("nan"), len(keep)


def max_normal_p(correlation: FloatArray, bound: float, side: str) -> float:
    """P(max |Z_i| >= bound) for "two", P(min Z_i <= bound) for "less", P(max Z_i >= bound) for "greater".

    Z = A X with X standard normal in the r dimensions that the correlation has. The radius of X is integrated exactly
    (chi distribution), the direction by quadrature on the sphere (r <= 3) or a lattice (r > 3): relative accuracy holds
    in the tail.
    """
    values, vectors = np.linalg.eigh(correlation)
    use = values > 1e-10 * values[-1]
    loadings = vectors[:, use] * np.sqrt(values[use])
    if side == "two":
        return _outside(np.vstack([loadings, -loadings]), abs(bound))
    return _outside(-loadings, -bound) if side == "less" else _outside(loadings, bound)


def _outside(a: FloatArray, bound: float) -> float:
    """P(max_i a_i'X >= bound)."""
    r = a.shape[1]
    if r == 1:
        return float(min(1.0, sum(ndtr(-bound / abs(s)) for s in {float(np.round(v, 15)) for v in a[:, 0]})))
    directions, weight = _directions(r)
    reach = np.max(directions @ a.T, axis=1)
    if bound < 0:
        inside = np.where(reach < 0, gammaincc(r / 2, (bound / np.minimum(reach, -1e-150)) ** 2 / 2), 0.0)
        return float(1.0 - np.sum(weight * inside))
    with np.errstate(over="ignore", divide="ignore"):
        tail = gammaincc(r / 2, (bound / np.maximum(reach, 1e-150)) ** 2 / 2)
    return float(np.sum(weight * np.where(reach > 0, tail, 0.0)))


def _directions(r: int) -> tuple[FloatArray, FloatArray]:
    """Quadrature nodes and weights (summing to 1) on the unit sphere in r dimensions."""
    if r == 2:
        angle = (np.arange(200_000) + 0.5) * (2 * np.pi / 200_000)
        return np.column_stack([np.cos(angle), np.sin(angle)]), np.full(len(angle), 1 / len(angle))
    if r == 3:
        height, weight = np.polynomial.legendre.leggauss(600)
        angle = (np.arange(1500) + 0.5) * (2 * np.pi / 1500)
        flat = np.sqrt(1 - height**2)[:, None]
        grid = [flat * np.cos(angle), flat * np.sin(angle), np.broadcast_to(height[:, None], (600, 1500))]
        return np.stack([g.ravel() for g in grid], axis=1), np.repeat(weight / 2 / 1500, 1500)
    from scipy.special import ndtri

    primes = np.array([2, 3, 5, 7, 11, 13, 17, 19, 23, 29])[:r]
    lattice = np.modf(np.outer(np.arange(1, 2**19 + 1), np.sqrt(primes)))[0]
    normal = ndtri(np.abs(2 * lattice - 1) * (1 - 1e-15) + 5e-16)
    return normal / np.linalg.norm(normal, axis=1, keepdims=True), np.full(len(normal), 1 / len(normal))
