"""The supremum of a Cox likelihood, reached or not: columns without information, separation, the limit.

Every event is compared with the rows at risk beside it. A column that never differs within a comparison, or is there a
combination of earlier ones, has no coefficient. A direction d with x_event'd >= x_j'd in all comparisons raises the
likelihood for ever; along it a row leaves every risk set whose events lie above it. What is left is the likelihood
stratified in addition by x'd, whose maximum is the supremum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from kapstats.kernels import cox_exact
from kapstats.kernels.cox_newton import (
    CoxData,
    Evaluation,
    Maximum,
    cox_data,
    evaluate,
    exposure,
    fit,
    hazard,
    independent,
    maximise,
    relative_risk,
)
from kapstats.kernels.recession import SAME, at_infinity, recession
from kapstats.kernels.risk_sets import RiskSets, risk_sets

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

#: share of a column's size in the risk sets below which its information may be rounding
DOUBTFUL = 1e-6
#: range of x'b at which risk sums may have lost their small terms
WIDEST = 25.0
#: values of x'direction closer than this share of the largest are level
SAME_LEVEL = 1e-9


@dataclass(frozen=True, slots=True)
class Limit:
    """The likelihood at infinity: direction, sign (p,) as in ``Recession``; level (n,) class of x'direction of the
    sorted rows; data with the kept (p,) columns, stratified by level; order (n,) its rows among the sorted ones."""

    direction: FloatArray
    sign: FloatArray
    level: IntArray
    kept: BoolArray
    data: CoxData


@dataclass(frozen=True, slots=True)
class Supremum:
    """b (p,): finite, +-inf, or NaN where the side is open; loglik the supremum; the maximum, over the kept columns of
    the limit if there is one."""

    b: FloatArray
    loglik: float
    maximum: Maximum
    limit: Limit | None


def likelihood(data: CoxData, ties: str) -> Callable[[FloatArray], Evaluation]:
    """b -> log-likelihood, score and information under the treatment of ties."""
    if ties == "exact":
        return lambda b: cox_exact.discrete(data, b)
    if ties == "kalbfleisch-prentice":
        return lambda b: cox_exact.marginal(data, b)
    return lambda b: evaluate(data, b)


def supremum(data: CoxData, ties: str) -> Supremum:
    """Maximum of the likelihood, or its supremum where it has none."""
    best = fit(data) if ties in ("efron", "breslow") else _climb(data, ties, span=data.span, limit=60)
    if settled(data, best):
        return Supremum(best.b, best.at.loglik, best, None)
    limit = separation(data, ties)
    if limit is None:
        again = best if best.converged else _climb(data, ties, start=best.b)
        return Supremum(again.b, again.at.loglik, replace(again, infinite=np.zeros(len(again.b), bool)), None)
    best = _climb(limit.data, ties)
    return Supremum(at_infinity(limit.sign, among(best.b, limit.kept)), best.at.loglik, best, limit)


def _climb(data: CoxData, ties: str, start: FloatArray | None = None, **options: object) -> Maximum:
    start = np.zeros(data.X.shape[1]) if start is None else start
    return maximise(likelihood(data, ties), start, **{"limit": 500, **options})  # type: ignore[arg-type]


def settled(data: CoxData, best: Maximum) -> bool:
    """Whether Newton's maximum is one beyond doubt."""
    return best.converged and not best.infinite.any() and float(np.abs(best.b) @ data.span) < WIDEST


def among(values: FloatArray, kept: BoolArray, empty: float = 0.0) -> FloatArray:
    """Values of the kept columns among all."""
    out = np.full(len(kept), empty)
    out[kept] = values
    return out


def take(data: CoxData, columns: BoolArray) -> CoxData:
    """The model of some of the columns."""
    if columns.all():
        return data
    X = np.asfortranarray(data.X[:, columns])
    return replace(data, X=X, center=data.center[columns], x_sum=data.x_sum[columns], span=data.span[columns])


# ---------------------------------------------------------------------- comparisons


def comparisons(sets: RiskSets, ties: str) -> tuple[IntArray, IntArray]:
    """Sorted rows (i, j), i an event and j at risk beside it, from which all comparisons of an event follow.

    Where the denominators count tied events (Breslow, Efron) these are equal in every direction that raises the
    likelihood, and one stands for all; in the exact likelihoods every event is compared with the rows without event
    only. A row is compared with the events of its last risk set, and from there with those that these do not cover.
    """
    events = np.flatnonzero(sets.event)
    inclusive = ties in ("efron", "breslow")
    by_entry = events[np.lexsort((sets.first[events], sets.last[events]))]
    first_of_group = np.searchsorted(sets.last[by_entry] - 1, np.arange(sets.size))
    leader = by_entry[first_of_group]
    targets = leader if inclusive else by_entry
    begin = np.append(np.arange(sets.size) if inclusive else first_of_group, len(targets))
    row, cursor = np.arange(len(sets.event)), sets.last - 1 - sets.event
    if inclusive:
        led = np.ones(len(row), bool)
        led[events] = leader[sets.last[events] - 1] == events
        row, cursor = row[led], cursor[led]
    higher, lower = [], []
    while True:
        at_risk = cursor >= sets.first[row]
        row, cursor = row[at_risk], cursor[at_risk]
        if not len(row):
            break
        count = begin[cursor + 1] - begin[cursor]
        nth = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        higher.append(targets[np.repeat(begin[cursor], count) + nth])
        lower.append(np.repeat(row, count))
        cursor = sets.first[leader[cursor]] - 1
    if inclusive:
        mine = leader[sets.last[events] - 1]
        other = mine != events
        higher += [mine[other], events[other]]
        lower += [events[other], mine[other]]
    none = np.zeros(0, np.int64)
    return np.concatenate([none, *higher]), np.concatenate([none, *lower])


def informative(data: CoxData, ties: str, usable: BoolArray | None = None) -> BoolArray:
    """Columns (p,) among the `usable` that vary inside risk sets and are no combination of earlier ones there.

    The information at b = 0 tells where it is large beside its summands; else the comparisons themselves do.
    """
    p = data.X.shape[1]
    usable = np.ones(p, bool) if usable is None else usable
    if not usable.any() or not data.sets.size:
        return usable & False
    if ties in ("efron", "breslow"):
        h = hazard(data, relative_risk(data, np.zeros(p))[1])
        size = exposure(data, h) @ data.X**2
        part = evaluate(data, np.zeros(p)).information[np.ix_(usable, usable)]
        if independent(part, DOUBTFUL, size[usable]).all():
            return usable
    return compared(differences(data.sets, data.X, ties), data.span, usable)


def differences(sets: RiskSets, X: FloatArray, ties: str) -> FloatArray:
    """Covariates (n, p) of the sorted rows subtracted within every comparison: (c, p)."""
    i, j = comparisons(sets, ties)
    return X[i] - X[j]


def compared(A: FloatArray, span: FloatArray, usable: BoolArray) -> BoolArray:
    """Columns (p,) among the `usable` that differ within comparisons A (c, p), as no combination of earlier ones."""
    scaled = A / np.where(span > 0, span, 1.0)
    scaled[np.abs(scaled) < SAME] = 0.0
    scaled[:, ~usable] = 0.0
    return independent(scaled.T @ scaled)


# ---------------------------------------------------------------------- the limit


def separation(data: CoxData, ties: str, held: IntArray | None = None) -> Limit | None:
    """The likelihood at infinity; None where the likelihood has a maximum. Coefficients `held` do not move."""
    free = np.ones(data.X.shape[1], bool)
    free[[] if held is None else held] = False
    found = recession(differences(data.sets, data.X[:, free], ties), data.span[free])
    if found is None:
        return None
    direction, sign = among(found.direction, free), among(found.sign, free)
    level = levels(data.X @ direction)
    i, j = comparisons(data.sets, ties)
    if (level[i] < level[j]).any():  # rounding turned a comparison over: no limit is better than a wrong one
        return None
    stratified = stratify(data, level, ties)
    kept = informative(stratified, ties, free)
    return Limit(direction, sign, level, kept, take(stratified, kept) if held is None else stratified)


def levels(y: FloatArray) -> IntArray:
    """Classes of equal values, numbered upwards."""
    order = np.argsort(y, kind="stable")
    step = np.diff(y[order]) > SAME_LEVEL * max(float(np.abs(y).max(initial=0.0)), 1e-300)
    codes = np.empty(len(y), np.int64)
    codes[order] = np.concatenate([[0], np.cumsum(step)])
    return codes


def stratify(data: CoxData, level: IntArray, ties: str) -> CoxData:
    """The same model with every stratum divided by `level` (n,), sorted rows."""
    old = data.sets
    stratum = np.searchsorted(old.start, old.first, side="right")
    _, code = np.unique(stratum * (int(level.max(initial=0)) + 1) + level, return_inverse=True)
    sets = risk_sets(old.last.astype(float), old.event, old.first.astype(float), code.astype(np.int64))
    made = cox_data(sets, data.X, data.w, data.offset, ties == "efron")
    return replace(made, sets=replace(sets, order=old.order[sets.order]))
