"""Nonparametric maximum likelihood for interval-censored times (Peto 1973, Turnbull 1976).

The mass lies on the innermost intervals (maximal cliques). Every observation covers a contiguous range of them, so the
probabilities are differences of a cumulative sum. The masses come from the constrained Newton method of Wang (2007):
add the local maxima of the gradient to the support, solve a nonnegative least-squares problem there, search the line,
drop zeros; the result carries its Kuhn-Tucker certificate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls
from scipy.special import chdtrc, xlogy

Array = npt.NDArray[Any]
Codes = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Cliques:
    """Innermost intervals left (K,), right (K,) with Inf, and who covers them: ranges start (n,), stop (n,)."""

    left: Array
    right: Array
    start: Codes
    stop: Codes


@dataclass(frozen=True, slots=True)
class Npmle:
    """cliques, mass (K,), loglik, kkt = largest gradient/n - 1 (0 at the maximum), iterations, converged."""

    cliques: Cliques
    mass: Array
    loglik: float
    kkt: float
    iterations: int
    converged: bool


def cliques(left: Array, right: Array, *, closed: bool = False) -> Cliques:
    """Innermost intervals of (left, right] (or [left, right] when `closed`); left == right is an exact time.

    Point v_r has code 2r, the gap after it 2r + 1; an interval covers the codes from its first to its last.
    """
    values = np.unique(np.concatenate([left, right[np.isfinite(right)]]))
    begin = 2 * np.searchsorted(values, left) + np.where((left == right) | closed, 0, 1)
    end = 2 * np.searchsorted(values, right)
    firsts, lasts = np.unique(begin), np.unique(end)
    code = np.concatenate([firsts, lasts])
    is_last = np.concatenate([np.zeros(firsts.size, bool), np.ones(lasts.size, bool)])
    order = np.lexsort((is_last, code))
    code, is_last = code[order], is_last[order]
    pair = np.flatnonzero(~is_last[:-1] & is_last[1:])
    low, high = code[pair], code[pair + 1]
    extended = np.append(values, np.inf)
    return Cliques(
        extended[low // 2], extended[high // 2], np.searchsorted(low, begin), np.searchsorted(high, end, side="right")
    )


def npmle(
    left: Array,
    right: Array,
    *,
    weights: Array | None = None,
    closed: bool = False,
    tolerance: float = 1e-11,
    max_iterations: int = 500,
) -> Npmle:
    """Masses on the innermost intervals of `left`, `right` (Inf = right-censored), optional `weights`, all (n,)."""
    c = cliques(left, right, closed=closed)
    pairs, where = np.unique(np.column_stack([c.start, c.stop]), axis=0, return_inverse=True)
    w = np.bincount(where.ravel(), weights, minlength=len(pairs)).astype(float)
    start, stop = pairs[:, 0], pairs[:, 1]
    K, n = c.left.size, w.sum()
    mass = _self_consistent(np.full(K, 1.0 / K), start, stop, w, steps=20)
    for iteration in range(1, max_iterations + 1):
        p = _probability(mass, start, stop)
        gradient = _gradient(p, start, stop, w, K)
        kkt = float(gradient.max() / n - 1.0)
        slack = float(mass @ np.abs(gradient / n - 1.0))
        if kkt < tolerance and slack < tolerance:
            return Npmle(c, mass, float(w @ np.log(p)), max(kkt, 0.0), iteration, True)
        support = np.union1d(np.flatnonzero(mass > 0), _local_maxima(gradient, mass > 0))
        target = _newton_target(support, start, stop, w, p, K)
        mass = _line_search(mass, target, start, stop, w)
    return Npmle(c, mass, float(w @ np.log(p)), max(kkt, 0.0), max_iterations, False)


def _probability(mass: Array, start: Codes, stop: Codes) -> Array:
    cumulative = np.concatenate([[0.0], np.cumsum(mass)])
    return np.maximum(cumulative[stop] - cumulative[start], 1e-300)


def _gradient(p: Array, start: Codes, stop: Codes, w: Array, K: int) -> Array:
    """d loglik / d mass_k = sum of w_i/p_i over the observations that cover k."""
    change = np.bincount(start, w / p, K + 1) - np.bincount(stop, w / p, K + 1)
    return np.cumsum(change)[:K]


def _self_consistent(mass: Array, start: Codes, stop: Codes, w: Array, steps: int) -> Array:
    """Turnbull's EM steps."""
    for _ in range(steps):
        mass = mass * _gradient(_probability(mass, start, stop), start, stop, w, mass.size) / w.sum()
    return np.where(mass > 1e-4 / mass.size, mass, 0.0) / mass[mass > 1e-4 / mass.size].sum()


def _local_maxima(gradient: Array, present: npt.NDArray[np.bool_]) -> Codes:
    """The largest gradient between every two neighbouring support points."""
    segment = np.cumsum(present)
    best = np.full(int(segment[-1]) + 1, -np.inf)
    np.maximum.at(best, segment, gradient)
    return np.flatnonzero(gradient == best[segment])


def _newton_target(support: Codes, start: Codes, stop: Codes, w: Array, p: Array, K: int) -> Array:
    """Second-order step over masses >= 0 that sum to one: min |S m - 2| with S = A/p (Dax's device)."""
    A = ((start[:, None] <= support) & (support < stop[:, None])) / p[:, None]
    P = np.sqrt(w)[:, None] * (A - 2.0)
    R = np.linalg.qr(P, mode="r") if P.shape[0] > P.shape[1] else P
    system = np.vstack([R / np.sqrt(w.sum()), np.ones(support.size)])
    solution = nnls(system, np.concatenate([np.zeros(len(R)), [1.0]]), maxiter=50 * support.size)[0]
    target = np.zeros(K)
    target[support] = solution / solution.sum()
    return target


def _line_search(mass: Array, target: Array, start: Codes, stop: Codes, w: Array) -> Array:
    """Step towards `target`, halved until the log-likelihood does not fall."""
    now = float(w @ np.log(_probability(mass, start, stop)))
    step = 1.0
    while step > 1e-10:
        new = mass + step * (target - mass)
        if float(w @ np.log(_probability(new, start, stop))) >= now - 1e-13 * abs(now):
            return new
        step /= 2.0
    return _self_consistent(mass, start, stop, w, steps=5)


def survival_at(fit: Npmle, times: Array) -> Array:
    """S(t) with each interval's mass placed at its right end (inside an interval S is not determined)."""
    cumulative = np.concatenate([[0.0], np.cumsum(fit.mass)])
    return np.maximum(1.0 - cumulative[np.searchsorted(fit.cliques.right, times, side="right")], 0.0)


def interval_scores(fit: Npmle, *, kind: str = "logrank") -> Array:
    """Rank scores (n,) from the pooled estimate: "logrank" (Finkelstein 1986) or "wilcoxon" (proportional odds)."""
    cumulative = np.concatenate([[0.0], np.cumsum(fit.mass)])
    S_left = np.clip(1.0 - cumulative[fit.cliques.start], 0.0, 1.0)
    S_right = np.clip(1.0 - cumulative[fit.cliques.stop], 0.0, 1.0)
    if kind == "wilcoxon":
        return S_left + S_right - 1.0
    S_right = np.where(fit.cliques.stop == fit.mass.size, 0.0, S_right)
    return (xlogy(S_left, S_left) - xlogy(S_right, S_right)) / np.maximum(S_left - S_right, 1e-300)


@dataclass(frozen=True, slots=True)
class ScoreTest:
    """score (G,) sums by group, variance (G, G), statistic, df, p_value."""

    score: Array
    variance: Array
    statistic: float
    df: int
    p_value: float


def permutation_test(scores: Array, group: Codes, n_groups: int, stratum: Codes | None = None) -> ScoreTest:
    """Chi-square of group score sums under permutation within strata (central limit theorem; Fay 1996)."""
    strata = np.zeros(scores.size, np.int64) if stratum is None else stratum
    U, E, V = np.zeros(n_groups), np.zeros(n_groups), np.zeros((n_groups, n_groups))
    for s in np.unique(strata):
        c, g = scores[strata == s], group[strata == s]
        size = np.bincount(g, minlength=n_groups).astype(float)
        U += np.bincount(g, c, n_groups)
        E += size * c.mean()
        if c.size > 1:
            V += c.var(ddof=1) * (np.diag(size) - np.outer(size, size) / c.size)
    keep = np.flatnonzero(np.diag(V) > 0)[:-1]
    if keep.size == 0:
        return ScoreTest(U, V, float("nan"), 0, float("nan"))
    z = (U - E)[keep]
    statistic = float(z @ np.linalg.solve(V[np.ix_(keep, keep)], z))
    return ScoreTest(U, V, statistic, keep.size, float(chdtrc(keep.size, statistic)))
