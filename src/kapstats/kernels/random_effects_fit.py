"""Maximum likelihood and REML for the linear mixed model, profiled over fixed effects and residual variance.

The criterion is ``-2 l = log|V| + log|X'V^-1 X| [REML] + d (1 + log(2 pi y'Py / d))`` with V relative to the residual
variance and d = N - p (REML) or N (Bates et al. 2015, eq. 39, 41). Its gradient in a relative covariance G_t is
``sum_levels Z'PZ - Z'Pyy'PZ / s2``; the exact Hessian follows from tr(PV_jPV_k) and y'PV_jPV_kPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize

from kapstats.kernels.block_arrow import (
    Arrow,
    Eliminated,
    block_diagonal_sums,
    crossings,
    eliminate,
    traces,
)

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RandomEffectsFit:
    """theta (m,) free entries of T_t in order; T per factor; s2 residual variance; state at the optimum;

    objective -2 l; gradient (m,) and hessian (m, m) of the profiled criterion; decrement g'H^-1 g; converged;
    at_boundary per factor (T_t rank deficient); n_evaluations; objectives (starts,) reached from each start.
    """

    theta: Array
    T: tuple[Array, ...]
    s2: float
    state: Eliminated
    objective: float
    gradient: Array
    hessian: Array
    decrement: float
    converged: bool
    at_boundary: tuple[bool, ...]
    n_evaluations: int
    objectives: Array


def unpack(arrow: Arrow, theta: Array) -> list[Array]:
    """The lower-triangular factors T_t whose free entries are `theta`."""
    out, at = [], 0
    for layout in arrow.layouts:
        T = np.zeros((layout.r, layout.r))
        T[layout.rows, layout.cols] = theta[at : at + layout.rows.size]
        out.append(T)
        at += layout.rows.size
    return out


def pack(arrow: Arrow, matrices: Sequence[Array]) -> Array:
    """The free entries of per-factor matrices, in the order of theta."""
    return np.concatenate([M[lay.rows, lay.cols] for lay, M in zip(arrow.layouts, matrices, strict=True)])


def degrees(arrow: Arrow, reml: bool) -> int:
    """d: N - p under REML, N under ML."""
    return arrow.n_obs - arrow.n_fixed if reml else arrow.n_obs


def criterion(arrow: Arrow, state: Eliminated, reml: bool) -> float:
    """-2 l at a state (without the constant of the weights and of the basis of X)."""
    d = degrees(arrow, reml)
    return state.log_random + (state.log_fixed if reml else 0.0) + d * (1.0 + np.log(2.0 * np.pi * state.rss / d))


def gradient_in_G(arrow: Arrow, state: Eliminated, reml: bool, s2: float | None = None) -> list[Array]:
    """Per factor the symmetric matrix sum Z'NZ - Z'Pyy'PZ / s2, N = P (REML) or V^-1 (ML); s2: default its optimum."""
    s2 = state.rss / degrees(arrow, reml) if s2 is None else s2
    v = np.append(-state.coef, 1.0) / np.sqrt(s2)
    sums = block_diagonal_sums(arrow, state, state.K if reml else state.K_random)
    e0, R = state.F @ v, arrow.n_rest
    out = [sums[0] - e0.T @ e0]
    eR = state.S[:R] @ v
    for layout, N in zip(arrow.layouts[1:], sums[1:], strict=True):
        e = eR[layout.offset : layout.offset + layout.n_levels * layout.r].reshape(-1, layout.r)
        out.append(N - e.T @ e)
    return out


def value_and_gradient(theta: Array, arrow: Arrow, reml: bool) -> tuple[float, Array]:
    """The profiled criterion and its gradient in theta; infinite where the elimination breaks down."""
    T = unpack(arrow, theta)
    try:
        state = eliminate(arrow, T)
    except np.linalg.LinAlgError:
        return np.inf, np.zeros_like(theta)
    if not state.rss > 0.0:
        return np.inf, np.zeros_like(theta)
    slopes = [2.0 * dG @ t for dG, t in zip(gradient_in_G(arrow, state, reml), T, strict=True)]
    return criterion(arrow, state, reml), pack(arrow, slopes)


def with_residual(G: Array, total: Array, first: Array, second: Array) -> tuple[Array, Array]:
    """Append the residual direction V_0 = V - sum_k G_k V_k (residual variance one) to first and second contractions.

    total: what V itself contracts to; first (k, ...), second (k, k, ...) with second[k, j] = second[j, k]'.
    """
    k = len(G)
    first0 = total - np.tensordot(G, first, 1)
    cross = first - np.tensordot(second, G, ([1], [0]))
    corner = first0 - np.tensordot(G, cross, 1)
    bigger = np.empty((k + 1, k + 1, *second.shape[2:]))
    bigger[:k, :k], bigger[:k, k], bigger[k, k] = second, cross, corner
    bigger[k, :k] = np.swapaxes(cross, -1, -2) if second.ndim == 4 else cross
    return np.concatenate([first, first0[None]]), bigger


def natural_hessian(arrow: Arrow, state: Eliminated, T: Sequence[Array], reml: bool) -> tuple[Array, Array]:
    """Gradient (k + 1,) and Hessian of -2 l in (entries of the G_t, residual variance), in units of s2."""
    K = state.K if reml else state.K_random
    G = pack(arrow, [t @ t.T for t in T])
    d = degrees(arrow, reml)
    t1, t2 = with_residual(G, np.asarray(float(d)), *traces(arrow, state, K))
    v = np.append(-state.coef, 1.0)[:, None] / np.sqrt(state.rss / d)
    q1, q2 = crossings(arrow, state, state.K, v)
    q1, q2 = with_residual(G, np.asarray(float(d)), q1[:, 0, 0], q2[:, :, 0, 0])
    return t1 - q1, 2.0 * q2 - t2


def chain(arrow: Arrow, T: Sequence[Array]) -> Array:
    """J (k, m): derivative of the free entries of G_t = T_t T_t' in theta."""
    pieces = []
    for layout, t in zip(arrow.layouts, T, strict=True):
        J = np.zeros((layout.rows.size, layout.rows.size))
        for m, (i, j) in enumerate(zip(layout.rows, layout.cols, strict=True)):
            J[:, m] = (layout.rows == i) * t[layout.cols, j] + (layout.cols == i) * t[layout.rows, j]
        pieces.append(J)
    return _block_diagonal(pieces)


def _block_diagonal(pieces: Sequence[Array]) -> Array:
    size = sum(len(p) for p in pieces)
    out, at = np.zeros((size, size)), 0
    for p in pieces:
        out[at : at + len(p), at : at + len(p)] = p
        at += len(p)
    return out


def theta_hessian(arrow: Arrow, state: Eliminated, T: Sequence[Array], reml: bool) -> tuple[Array, Array]:
    """Gradient (m + 1,) and Hessian of -2 l in (theta, residual variance), in units of s2: covariances are s2 T T'."""
    g, H = natural_hessian(arrow, state, T, reml)
    J = scaled_chain(arrow, T)
    H = J.T @ H @ J
    H[:-1, :-1] += _curvature(arrow, g[:-1])
    mixed = J[:-1, :-1].T @ g[:-1]
    H[:-1, -1] += mixed
    H[-1, :-1] += mixed
    return J.T @ g, H


def scaled_chain(arrow: Arrow, T: Sequence[Array]) -> Array:
    """Derivative of (covariances s2 T T', s2) in (theta, s2) at s2 = 1."""
    J = chain(arrow, T)
    m = len(J)
    out = np.zeros((m + 1, m + 1))
    out[:m, :m], out[:m, m], out[m, m] = J, pack(arrow, [t @ t.T for t in T]), 1.0
    return out


def _curvature(arrow: Arrow, g: Array) -> Array:
    """sum_k g_k d2 G_k / dtheta dtheta': entries (i, j), (i', j) of theta meet in G[i, i']."""
    pieces, at = [], 0
    for layout in arrow.layouts:
        m = layout.rows.size
        full = np.zeros((layout.r, layout.r))
        full[layout.rows, layout.cols] = g[at : at + m]
        full += full.T
        pieces.append(full[np.ix_(layout.rows, layout.rows)] * (layout.cols[:, None] == layout.cols[None, :]))
        at += m
    return _block_diagonal(pieces)


def profiled(arrow: Arrow, theta: Array, reml: bool) -> tuple[float, Array, Array, Eliminated]:
    """Criterion, gradient, Hessian (residual variance profiled out) and state at theta."""
    T = unpack(arrow, theta)
    state = eliminate(arrow, T)
    g, H = theta_hessian(arrow, state, T, reml)
    H = H[:-1, :-1] - np.outer(H[:-1, -1], H[-1, :-1]) / H[-1, -1]
    return criterion(arrow, state, reml), g[:-1], H, state


def fit(
    arrow: Arrow, *, reml: bool = True, scales: Sequence[float] = (1.0, 0.2, 4.0), near: Array | None = None
) -> RandomEffectsFit:
    """Minimise the criterion from several starts T = scale * I (or from `near` alone), certify the best, and report.

    Every candidate is polished by Newton steps with the exact Hessian; where a T_t is rank deficient the criterion
    must not fall into the cone of positive semi-definite G_t (else the search leaves that face and goes on).
    """
    diagonal = np.concatenate([(lay.rows == lay.cols).astype(float) for lay in arrow.layouts])
    count, reached = 0, []
    for start in [diagonal * scale for scale in scales] if near is None else [near + 0.05 * diagonal]:
        theta, n = _descend(arrow, start, reml)
        reached.append((value_and_gradient(theta, arrow, reml)[0], theta))
        count += n + 1
    objectives = np.array([value for value, _ in reached])
    theta = min(reached, key=lambda pair: pair[0])[1]
    for _ in range(10):
        theta = _polish(arrow, theta, reml)
        away = _escape(arrow, theta, reml)
        if away is None:
            break
        theta, n = _descend(arrow, away, reml)
        count += n
    return _report(arrow, theta, reml, count, objectives)


def _descend(arrow: Arrow, start: Array, reml: bool) -> tuple[Array, int]:
    found = optimize.minimize(
        value_and_gradient,
        start,
        args=(arrow, reml),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 300, "ftol": 1e-11, "gtol": 1e-3},
    )
    return np.asarray(found.x), int(found.nfev)


def _polish(arrow: Arrow, theta: Array, reml: bool) -> Array:
    """Newton steps on |H| with halving until they no longer lower the criterion."""
    value, g, H, _ = profiled(arrow, theta, reml)
    for _ in range(100):
        step = -_solve_positive(H, g)
        if -g @ step < 1e-14:
            break
        for _ in range(12):
            trial, slope = value_and_gradient(theta + step, arrow, reml)
            if trial < value or (trial <= value + 1e-9 and np.abs(slope).max() < np.abs(g).max()):
                break
            step = step / 2.0
        else:
            break
        theta = theta + step
        value, g, H, _ = profiled(arrow, theta, reml)
    return theta


def _solve_positive(H: Array, g: Array) -> Array:
    """|H|^-1 g with eigenvalues bounded away from zero."""
    w, U = np.linalg.eigh(0.5 * (H + H.T))
    w = np.maximum(np.abs(w), 1e-10 * max(np.abs(w).max(), 1e-300))
    return np.asarray(U @ ((U.T @ g) / w))


def _escape(arrow: Arrow, theta: Array, reml: bool, tol: float = 1e-5) -> Array | None:
    """A start off the boundary when the criterion falls into the cone of some rank-deficient G_t; else None."""
    T = unpack(arrow, theta)
    state = eliminate(arrow, T)
    moved = False
    for layout, t, dG in zip(arrow.layouts, T, gradient_in_G(arrow, state, reml), strict=True):
        for i in _block_indices(layout.rows, layout.cols):
            w, U = np.linalg.eigh(t[np.ix_(i, i)] @ t[np.ix_(i, i)].T)
            null = U[:, w < 1e-8]
            if not null.shape[1]:
                continue
            fall, direction = np.linalg.eigh(null.T @ dG[np.ix_(i, i)] @ null)
            if fall[0] < -tol:
                d = null @ direction[:, 0]
                G = t[np.ix_(i, i)] @ t[np.ix_(i, i)].T + 0.1 * np.outer(d, d) + 1e-9 * np.eye(len(i))
                t[np.ix_(i, i)] = np.linalg.cholesky(G)
                moved = True
    return pack(arrow, T) if moved else None


def _block_indices(rows: npt.NDArray[np.int64], cols: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """Indices of each correlated block: columns with the same last row."""
    last = {int(c): int(rows[cols == c].max()) for c in np.unique(cols)}
    return [np.array([c for c in last if last[c] == end], dtype=np.int64) for end in sorted(set(last.values()))]


def with_positive_diagonal(arrow: Arrow, theta: Array) -> Array:
    """The same covariances with T_t's columns turned so that no diagonal entry is negative."""
    T = unpack(arrow, theta)
    return pack(arrow, [t * np.where(np.diag(t) < 0, -1.0, 1.0) for t in T])


def _report(arrow: Arrow, theta: Array, reml: bool, count: int, objectives: Array) -> RandomEffectsFit:
    theta = with_positive_diagonal(arrow, theta)
    value, g, H, state = profiled(arrow, theta, reml)
    T = unpack(arrow, theta)
    decrement = float(g @ _solve_positive(H, g))
    eigen = np.linalg.eigvalsh(0.5 * (H + H.T))
    best = bool(value <= objectives.min() + 1e-6 * max(1.0, abs(value)) and eigen[0] > -1e-6 * max(eigen[-1], 1.0))
    converged = decrement < 1e-8 and best and _escape(arrow, theta, reml) is None
    boundary = tuple(bool(np.linalg.eigvalsh(t @ t.T)[0] < 1e-8) for t in T)
    s2 = state.rss / degrees(arrow, reml)
    return RandomEffectsFit(theta, tuple(T), s2, state, value, g, H, decrement, converged, boundary, count, objectives)
