"""Fine-Gray subdistribution hazards: weighted partial likelihood by Newton steps, sandwich with the censoring term.

Letters of Fine and Gray (1999): ``G`` censoring survival, ``w_i(t) = G(t-)/G(T_i-)`` for a competing event before t,
``eta_i`` score residual, ``psi_i`` the part that comes from estimating G. All sums are cumulative: O(n p) a step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from kapstats.kernels.cox_newton import Evaluation, Maximum, independent, maximise
from kapstats.kernels.cox_separation import (
    DOUBTFUL,
    SAME_LEVEL,
    WIDEST,
    among,
    compared,
    differences,
    levels,
)
from kapstats.kernels.recession import at_infinity, recession
from kapstats.kernels.risk_sets import risk_sets

Array = npt.NDArray[Any]
Codes = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class FineGray:
    """coef (p,): finite, +-inf where the likelihood is monotone, NaN where the side is open or the column has no
    information (usable (p,) False); vcov (p, p) sandwich and influence (n, p), input order, of the finite coefficients,
    NaN elsewhere; loglik (its supremum), loglik_null, score_null (chi-square at 0), event_time (m,), subhazard (m,)
    increments at covariates zero (NaN when a coefficient is infinite), iterations, converged."""

    coef: Array
    usable: Flags
    vcov: Array
    influence: Array
    loglik: float
    loglik_null: float
    score_null: float
    event_time: Array
    subhazard: Array
    iterations: int
    converged: bool


@dataclass(frozen=True, slots=True)
class _Layout:
    """Rows sorted by time with the positions of the event times; G_at (g, m) = G(u-), G_own (n,) = G(T_i-)."""

    time: Array
    X: Array
    cause: Codes
    group: Codes
    u: Array
    d: Array
    d_psi: Array  # (g, m) events that enter q of each censoring group
    first: Codes  # rows before event time u
    upto: Codes  # event times <= T_i
    G_at: Array
    G_own: Array
    censored: list[tuple[Array, Array, Array]]  # per group: times, counts, at risk


@dataclass(frozen=True, slots=True)
class _Sums:
    """At one coefficient vector: e (n,) relative to exp(shift), S0 (m,), zbar (m, p), loglik, score (p,),
    information (p, p), A (n,)."""

    e: Array
    shift: float
    S0: Array
    zbar: Array
    loglik: float
    score: Array
    information: Array
    A: Array


def fine_gray(time: Array, cause: Codes, X: Array, *, group: Codes | None = None, weighting: str = "crr") -> FineGray:
    """Fit to `time` (n,), `cause` (n,) coded 0 censored, 1 of interest, 2 competing, and covariates `X` (n, p).

    `group` (n,) separates the censoring distributions. `weighting` "ipcw" keeps events at t in the risk set of the
    censorings at t and adds psi; "crr" is the same but integrates q of a censoring group over that group's own events,
    as cmprsk 2.2-11 does (no difference with one group); "finegray" removes tied events from the risk set of the
    censorings and treats the weights as known.
    """
    order = np.argsort(time, kind="stable")
    groups, centre = np.zeros(time.size, np.int64) if group is None else group, X.mean(0)
    every = _layout(time[order], cause[order], (X - centre)[order], groups[order], weighting)
    usable = _informative(every)
    layout = replace(every, X=every.X[:, usable])
    null, top = _sums(layout, np.zeros(int(usable.sum()))), _supremum(layout, weighting)
    coef = among(top.coef, usable, np.nan)
    at = np.flatnonzero(np.isfinite(coef))
    influence = np.full(X.shape, np.nan)
    influence[np.ix_(order, at)] = _influence(layout, top, weighting)[:, np.isfinite(top.coef)[top.kept]]
    vcov = np.full((coef.size, coef.size), np.nan)
    vcov[np.ix_(at, at)] = influence[:, at].T @ influence[:, at]
    finite = bool(np.isfinite(top.coef).all())
    shift = -top.sums[0].shift - centre[usable] @ top.coef if finite else np.nan
    return FineGray(
        coef,
        usable,
        vcov,
        influence,
        top.best.at.loglik,
        null.loglik,
        float(null.score @ np.linalg.solve(null.information, null.score)) if usable.any() else np.nan,
        layout.u,
        layout.d / top.sums[0].S0 * np.exp(shift) if finite else np.full(layout.u.size, np.nan),
        top.best.iterations,
        top.best.converged,
    )


@dataclass(frozen=True, slots=True)
class _Top:
    """The supremum: coef (p,), the maximum over the kept columns, and the rows (positions, layout, sums) compared with
    each other: all of them, or at infinity those level with each other along the direction."""

    coef: Array
    best: Maximum
    kept: Flags
    blocks: list[tuple[Array, _Layout]]
    sums: list[_Sums]


def _supremum(layout: _Layout, weighting: str) -> _Top:
    blocks, kept = [(np.arange(layout.time.size), layout)], np.ones(layout.X.shape[1], bool)
    span = np.ptp(layout.X, axis=0)
    best = _climb(blocks, span=span, limit=60)
    coef = best.b
    if not best.converged or best.infinite.any() or float(np.abs(best.b) @ span) > WIDEST:
        A = _differences(layout)
        found = recession(A, span)
        if found is not None:
            y = layout.X @ found.direction
            kept = compared(A[np.abs(A @ found.direction) <= SAME_LEVEL * np.abs(y).max()], span, kept)
            blocks = _blocks(replace(layout, X=layout.X[:, kept]), levels(y), weighting)
        if found is not None or not best.converged:
            best = _climb(blocks)
        coef = best.b if found is None else at_infinity(found.sign, among(best.b, kept))
    return _Top(coef, best, kept, blocks, [_sums(block, best.b) for _, block in blocks])


def _climb(blocks: list[tuple[Array, _Layout]], **options: Any) -> Maximum:
    def evaluation(b: Array) -> Evaluation:
        parts = [_evaluation(block, b) for _, block in blocks]
        return Evaluation(
            sum(p.loglik for p in parts),
            np.sum([p.score for p in parts], axis=0),
            np.sum([p.information for p in parts], axis=0),
        )

    return maximise(evaluation, np.zeros(blocks[0][1].X.shape[1]), **{"limit": 500, **options})


def _blocks(layout: _Layout, level: Codes, weighting: str) -> list[tuple[Array, _Layout]]:
    """Rows of each level that has events of the cause, with their part of the layout."""
    found = []
    for c in np.unique(level[layout.cause == 1]):
        rows = np.flatnonzero(level == c)
        failed = layout.cause[rows] == 1
        at = layout.upto[rows[failed]] - 1
        d = np.bincount(at, minlength=layout.u.size).astype(float)
        here = d > 0
        in_group = np.zeros(layout.G_at.shape)
        np.add.at(in_group, (layout.group[rows[failed]], at), 1.0)
        d_psi = in_group if weighting == "crr" else np.tile(d, (len(in_group), 1))
        u, time = layout.u[here], layout.time[rows]
        first, upto = np.searchsorted(time, u, "left"), np.searchsorted(u, time, "right")
        part = _Layout(time, layout.X[rows], layout.cause[rows], layout.group[rows], u, d[here], d_psi[:, here], first,
                       upto, layout.G_at[:, here], layout.G_own[rows], layout.censored)  # fmt: skip
        found.append((rows, part))
    return found


def _differences(layout: _Layout) -> Array:
    """Covariates subtracted within every comparison of an event with a row whose weight in its risk set is positive."""
    weighted = np.sum(layout.G_at > 0, axis=1)[layout.group]
    last = np.where(layout.cause == 2, np.maximum(layout.upto, weighted), layout.upto)
    sets = risk_sets(last.astype(float), layout.cause == 1)
    return differences(sets, layout.X[sets.order], "breslow")


def _layout(time: Array, cause: Codes, X: Array, group: Codes, weighting: str) -> _Layout:
    u, d = np.unique(time[cause == 1], return_counts=True)
    n_groups = int(group.max()) + 1
    G_at, G_own, censored = np.ones((n_groups, u.size)), np.ones(time.size), []
    for g in range(n_groups):
        mine = group == g
        t, c = time[mine], cause[mine]
        ct, nc = np.unique(t[c == 0], return_counts=True)
        at_risk = (t.size - np.searchsorted(t, ct, "left")).astype(float)
        events = t[c > 0]
        tied = np.searchsorted(events, ct, "right") - np.searchsorted(events, ct, "left")
        curve = np.concatenate([[1.0], np.cumprod(1.0 - nc / (at_risk - tied * (weighting == "finegray")))])
        G_at[g] = np.where(u > t[-1], 0.0, curve[np.searchsorted(ct, u, "left")])
        G_own[mine] = curve[np.searchsorted(ct, t, "left")]
        censored.append((ct, nc.astype(float), at_risk))
    in_group = np.zeros((n_groups, u.size))
    failed = cause == 1
    np.add.at(in_group, (group[failed], np.searchsorted(u, time[failed])), 1.0)
    d_psi = in_group if weighting == "crr" else np.tile(d.astype(float), (n_groups, 1))
    first, upto = np.searchsorted(time, u, "left"), np.searchsorted(u, time, "right")
    return _Layout(time, X, cause, group, u, d.astype(float), d_psi, first, upto, G_at, G_own, censored)


def _before(values: Array, positions: Codes) -> Array:
    """Sums of the first `positions` rows of `values` (n, ...) without a cumulative array of n rows per column."""
    cumulative = np.concatenate([np.zeros((1, *values.shape[1:])), np.cumsum(values, axis=0)])
    return cumulative[positions]


def _kept(layout: _Layout, e: Array, g: int) -> Array:
    """e_i/G(T_i-) of competing events of group g, zero elsewhere (n,)."""
    member = (layout.cause == 2) & (layout.group == g)
    return np.where(member, e / np.where(member, layout.G_own, 1.0), 0.0)


def _sums(layout: _Layout, coef: Array) -> _Sums:
    X, d = layout.X, layout.d
    eta = X @ coef
    shift = float(eta.max(initial=0.0))
    e = np.exp(eta - shift)
    weighted = np.column_stack([e, e[:, None] * X])
    at_risk = weighted.sum(0) - _before(weighted, layout.first)
    for g in range(layout.G_at.shape[0]):
        kept = _kept(layout, e, g)
        at_risk = at_risk + layout.G_at[g][:, None] * _before(np.column_stack([kept, kept[:, None] * X]), layout.first)
    S0 = at_risk[:, 0]
    zbar = at_risk[:, 1:] / S0[:, None]
    failed = layout.cause == 1
    A = _compensator(layout, (d / S0)[:, None])[:, 0]
    information = (X * (e * A)[:, None]).T @ X - (zbar * d[:, None]).T @ zbar
    loglik = float(eta[failed].sum() - d @ (np.log(S0) + shift))
    return _Sums(e, shift, S0, zbar, loglik, X[failed].sum(0) - d @ zbar, information, A)


def _compensator(layout: _Layout, increment: Array) -> Array:
    """sum over u <= T_i of increment(u), and for competing events the later ones times w_i(u): (m, q) -> (n, q)."""
    running = np.concatenate([np.zeros((1, increment.shape[1])), np.cumsum(increment, axis=0)])
    out = running[layout.upto]
    for g in range(layout.G_at.shape[0]):
        member = (layout.cause == 2) & (layout.group == g)
        tail = _tail(layout.G_at[g][:, None] * increment)
        out[member] += tail[layout.upto[member]] / layout.G_own[member, None]
    return out


def _tail(values: Array) -> Array:
    """Sums of rows j, j+1, ... for j = 0..m: (m, q) -> (m + 1, q)."""
    return np.concatenate([np.cumsum(values[::-1], axis=0)[::-1], np.zeros((1, values.shape[1]))])


def _informative(layout: _Layout) -> Flags:
    """Columns (p,) that vary inside the weighted risk sets and are no combination of earlier ones there."""
    null, every = _sums(layout, np.zeros(layout.X.shape[1])), np.ones(layout.X.shape[1], bool)
    if independent(null.information, DOUBTFUL, (null.e * null.A) @ layout.X**2).all():
        return every
    return compared(_differences(layout), np.ptp(layout.X, axis=0), every)


def _evaluation(layout: _Layout, coef: Array) -> Evaluation:
    """Log-likelihood, score and information as Newton's method asks for them."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        now = _sums(layout, coef)
    return Evaluation(now.loglik, now.score, now.information)


def _score_residuals(layout: _Layout, sums: _Sums) -> Array:
    """eta_i = int (Z_i - zbar) w_i dM_i (n, p), eq. (7)."""
    hazard = layout.d / sums.S0
    drift = _compensator(layout, sums.zbar * hazard[:, None])
    out = -sums.e[:, None] * (layout.X * sums.A[:, None] - drift)
    failed = np.flatnonzero(layout.cause == 1)
    out[failed] += layout.X[failed] - sums.zbar[layout.upto[failed] - 1]
    return out


def _influence(layout: _Layout, top: _Top, weighting: str) -> Array:
    """(eta + psi) times the inverse information (n, kept), rows of the layout."""
    out = np.zeros((layout.time.size, int(top.kept.sum())))
    for (rows, block), sums in zip(top.blocks, top.sums, strict=True):
        out[rows] = _score_residuals(block, sums)
    if weighting != "finegray":
        out += _censoring_residuals(layout, top)
    return out @ np.linalg.inv(top.best.at.information) if out.shape[1] else out


def _censoring_residuals(layout: _Layout, top: _Top) -> Array:
    """psi_i = int q(t)/pi(t) dM_i^c(t) (n, p), eq. (8); one q per censoring group."""
    out = np.zeros((layout.time.size, int(top.kept.sum())))
    for g, (ct, nc, at_risk) in enumerate(layout.censored):
        if ct.size == 0:
            continue
        q = np.sum([_q(block, sums, ct, g) for (_, block), sums in zip(top.blocks, top.sums, strict=True)], axis=0)
        member = np.flatnonzero(layout.group == g)
        drift = np.concatenate([np.zeros((1, q.shape[1])), np.cumsum(q * (nc / at_risk**2)[:, None], axis=0)])
        t = layout.time[member]
        out[member] = -drift[np.searchsorted(ct, t, "right")]
        own = member[layout.cause[member] == 0]
        j = np.searchsorted(ct, layout.time[own])
        out[own] += q[j] / at_risk[j, None]
    return out


def _q(layout: _Layout, sums: _Sums, ct: Array, g: int) -> Array:
    """q at the censoring times (c, p): competing events of group g before t, integrated over event times from t on."""
    hazard = layout.d_psi[g] / sums.S0
    rows, later = np.searchsorted(layout.time, ct, "left"), np.searchsorted(layout.u, ct, "left")
    kept = _kept(layout, sums.e, g)
    K0 = _tail((layout.G_at[g] * hazard)[:, None])[later]
    K1 = _tail((layout.G_at[g] * hazard)[:, None] * sums.zbar)[later]
    return _before(kept[:, None] * layout.X, rows) * K0 - _before(kept, rows)[:, None] * K1
