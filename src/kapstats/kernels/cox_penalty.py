"""Firth's and the ridge penalty on the Cox likelihood, and profile-likelihood limits of one coefficient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.special import chdtri

from kapstats.kernels.cox_newton import CoxData, Evaluation, Maximum, evaluate, hazard, maximise, relative_risk
from kapstats.kernels.cox_separation import Supremum, separation, take
from kapstats.kernels.cox_separation import likelihood as partial

FloatArray = npt.NDArray[np.float64]
Likelihood = Callable[[FloatArray], Evaluation]


def firth(data: CoxData, b: FloatArray) -> Evaluation:
    """l + log|I| / 2 with its exact score; the information is that of l, as Heinze and Schemper (2001) use it."""
    plain = evaluate(data, b)
    if not np.isfinite(plain.loglik):
        return plain
    sign, log_det = np.linalg.slogdet(plain.information)
    if sign <= 0 or not np.isfinite(log_det):
        return replace(plain, loglik=-np.inf)
    V: FloatArray = np.asarray(np.linalg.inv(plain.information), dtype=float)
    score: FloatArray = plain.score + 0.5 * third_moment_trace(data, b, V)
    return Evaluation(plain.loglik + 0.5 * log_det, score, plain.information)


def ridge(data: CoxData, b: FloatArray, weight: float) -> Evaluation:
    """l - weight b'b / 2, score and information alike."""
    plain = evaluate(data, b)
    penalised = plain.information + weight * np.eye(len(b))
    return Evaluation(plain.loglik - 0.5 * weight * float(b @ b), plain.score - weight * b, penalised)


def third_moment_trace(data: CoxData, b: FloatArray, V: FloatArray) -> FloatArray:
    """trace(V dI/db_j), (p,): over events, the third moments of x in the risk set contracted with V.

    With M(.) the mean over the risk set of one event (tied events at weight 1 - f), xbar = M(x), u = V xbar, c = xbar'u
    and q = x'Vx: sum m (M(q x) - 2 M(x x') u + 2 c xbar - xbar M(q)).
    """
    p = data.X.shape[1]
    h = hazard(data, relative_risk(data, b)[1])
    q = np.einsum("ij,jk,ik->i", data.X, V, data.X)
    upper = np.triu_indices(p)
    sums = np.column_stack([np.ones(len(q)), data.X, q, q[:, None] * data.X, data.X[:, upper[0]] * data.X[:, upper[1]]])
    sums *= h.r[:, None]
    total = data.sets.at_risk(sums)[data.group]
    if data.efron:
        total = total - data.f[:, None] * data.sets.at_event(sums[data.sets.event])[data.group]
    M = total[:, 1:] / total[:, :1]
    xbar, Mq, Mqx, Mxx = M[:, :p], M[:, p], M[:, p + 1 : 2 * p + 1], np.empty((len(M), p, p))
    Mxx[:, upper[0], upper[1]] = M[:, 2 * p + 1 :]
    Mxx[:, upper[1], upper[0]] = M[:, 2 * p + 1 :]
    u = xbar @ V
    c = np.einsum("ij,ij->i", xbar, u)
    terms = Mqx - 2.0 * np.einsum("ijk,ik->ij", Mxx, u) + xbar * (2.0 * c - Mq)[:, None]
    return data.mean_weight[data.group] @ terms


def profile_limits(
    likelihood: Likelihood, best: Maximum, j: int, level: float, span: FloatArray
) -> tuple[float, float]:
    """Values of coefficient j where twice the drop of the profile log-likelihood is the chi-square quantile."""
    target = best.at.loglik - _drop(level)
    return _limit(likelihood, best, j, -1.0, target, span), _limit(likelihood, best, j, 1.0, target, span)


def separated_limits(data: CoxData, ties: str, top: Supremum, j: int, level: float) -> tuple[float, float]:
    """Profile limits of coefficient j where the likelihood has a supremum only.

    With coefficient j held, the others may still run to infinity: the profile is that of the likelihood stratified by
    their direction. It never falls on the side to which j itself runs, and nowhere when that side is open.
    """
    if np.isnan(top.b[j]):
        return -np.inf, np.inf
    limit = separation(data, ties, held=np.array([j]))
    columns = np.ones(data.X.shape[1], bool) if limit is None else limit.kept.copy()
    columns[j] = True
    held = take(data if limit is None else limit.data, columns)
    at, like, target = int(columns[:j].sum()), partial(held, ties), top.loglik - _drop(level)
    if np.isfinite(top.b[j]):
        best = maximise(like, np.zeros(int(columns.sum())), limit=500)
        return _limit(like, best, at, -1.0, target, held.span), _limit(like, best, at, 1.0, target, held.span)
    side = float(np.sign(top.b[j]))
    best = _far_out(like, at, side, target, held.span)
    end = _limit(like, best, at, -side, target, held.span)
    return (end, np.inf) if side > 0 else (-np.inf, end)


def _drop(level: float) -> float:
    return 0.5 * float(chdtri(1, 1.0 - level))


def _far_out(likelihood: Likelihood, j: int, side: float, target: float, span: FloatArray) -> Maximum:
    """The maximum over the others where coefficient j, on its way to infinity, has reached the target."""
    free = np.ones(len(span), bool)
    free[j] = False
    b = np.zeros(len(span))
    for distance in (12.0, 24.0, 48.0, 96.0, 192.0, 384.0):
        b[j] = side * distance / span[j]
        best = maximise(likelihood, b, free=free, limit=500)
        if best.at.loglik > target:
            break
        b = best.b.copy()
    return replace(best, infinite=~free)


def _limit(likelihood: Likelihood, best: Maximum, j: int, sign: float, target: float, span: FloatArray) -> float:
    """Guarded Newton on v -> profile log-likelihood - target, whose derivative is the score of j."""
    free = np.ones(len(best.b), bool)
    free[j] = False
    inside, b = best.b[j], best.b.copy()
    width = 1.0 / np.sqrt(max(best.at.information[j, j], 1e-12))
    if best.infinite[j]:
        width = 1.0 / max(span[j], 1e-12)
    v, outside = inside + sign * 2.0 * width, sign * np.inf
    for _ in range(200):
        b[j] = v
        found = maximise(likelihood, b, free=free, limit=500)
        gap = found.at.loglik - target
        if not np.isfinite(gap):
            outside = v
        elif gap >= 0:
            inside, b = v, found.b.copy()
        else:
            outside = v
        slope = found.at.score[j] if np.isfinite(gap) else 0.0
        new = v - gap / slope if slope != 0 and np.isfinite(gap) else np.nan
        if abs(new - v) <= 1e-11 * (1.0 + abs(v)) or abs(gap) < 1e-12:
            return float(v)  # before the bracket is asked: a step this small may leave it by rounding
        low, high = sorted((inside, outside))
        reach = 2.0 * (abs(v - best.b[j]) + width)
        if not np.isfinite(outside) and not abs(new - v) <= reach:
            new = v + sign * reach
        elif not low < new < high:
            new = (inside + outside) / 2.0 if np.isfinite(outside) else v + sign * reach
        if abs(new - v) <= 1e-11 * (1.0 + abs(v)):
            return float(new)
        if abs(new) * span[j] > 500.0:
            return float(sign * np.inf)
        v = new
    return float("nan")
