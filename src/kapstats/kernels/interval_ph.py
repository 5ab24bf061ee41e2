"""Semi-parametric proportional hazards for interval-censored times (Finkelstein 1986; NPMLE of the baseline).

With e = exp(x'b), u = e H(left) and w = e (H(right) - H(left)) the log-likelihood of one observation is
l = -u + log(1 - exp(-w)); dl/du = -1, dl/dw = a = 1/(exp(w) - 1), d2l/dw2 = -a(1 + a). H jumps by h_k >= 0 on the
innermost intervals. Coefficients and jumps move together by constrained Newton steps on an active set of jumps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq, nnls
from scipy.special import chdtrc, chdtri

from kapstats.kernels import npmle as turnbull
from kapstats.kernels.cox_newton import independent
from kapstats.kernels.recession import at_infinity, recession

Array = npt.NDArray[Any]
Codes = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class IntervalPH:
    """coef (p,), vcov (p, p) from the profile information, loglik, loglik_null, jump (K,) of the cumulative baseline
    hazard at covariates zero on the finite innermost intervals left (K,), right (K,); max_gradient over coefficients
    and active jumps, kkt (largest gradient of a zero jump), iterations, converged."""

    coef: Array
    vcov: Array
    loglik: float
    loglik_null: float
    left: Array
    right: Array
    jump: Array
    max_gradient: float
    kkt: float
    iterations: int
    converged: bool


@dataclass(frozen=True, slots=True)
class _Problem:
    """Ranges of jumps: [0, before) up to the left end, [before, upto) inside; `bounded` false when right-censored."""

    X: Array
    before: Codes
    upto: Codes
    bounded: npt.NDArray[np.bool_]
    K: int
    offset: Array
    weights: Array


@dataclass(frozen=True, slots=True)
class _State:
    coef: Array
    jump: Array
    loglik: float


def interval_ph(
    left: Array,
    right: Array,
    X: Array,
    *,
    weights: Array | None = None,
    tolerance: float = 1e-10,
    max_iterations: int = 200,
) -> IntervalPH:
    """Fit to intervals (`left`, `right`] (n,), Inf = right-censored, and covariates `X` (n, p)."""
    centre, p = X.mean(0), X.shape[1]
    problem, c = _problem(left, right, X - centre, weights)
    if problem.K == 0:  # one innermost interval holds everything: nothing is known about b
        return _lost(p, 0.0)
    start = _start(problem, left, right, weights)
    null = _maximise(problem, start, np.zeros(0, np.int64), tolerance, max_iterations)
    with np.errstate(over="ignore", invalid="ignore"):  # separated data run away; the result then says not converged
        state, gradient, kkt, iterations, converged = _maximise(
            problem, null[0], np.arange(p), tolerance, max_iterations
        )
    finite = problem.K
    return IntervalPH(
        state.coef,
        _profile_vcov(problem, state),
        state.loglik,
        null[0].loglik,
        c.left[:finite],
        c.right[:finite],
        state.jump * np.exp(-centre @ state.coef),
        gradient,
        kkt,
        iterations,
        converged,
    )


def _lost(p: int, gradient: float) -> IntervalPH:
    """No fit."""
    none = np.zeros(0)
    return IntervalPH(np.full(p, np.nan), np.full((p, p), np.nan), 0.0, 0.0, none, none, none, gradient, 0.0, 0, False)


@dataclass(frozen=True, slots=True)
class Limit:
    """The likelihood at infinity: rows (n,) that still count, kept (p,) columns they determine, sign (p,) as in
    ``Recession``; the fit of these rows and columns."""

    rows: Flags
    kept: Flags
    sign: Array
    fit: IntervalPH


def supremum(left: Array, right: Array, X: Array, weights: Array | None = None) -> tuple[IntervalPH, Limit | None]:
    """The fit; where covariates separate, with coefficients at +-infinity (NaN where the side is open), the others and
    the log-likelihood at the supremum, and the likelihood there."""
    try:
        fit = interval_ph(left, right, X, weights=weights)
    except (ValueError, np.linalg.LinAlgError):  # the least-squares step met infinite numbers
        fit = _lost(X.shape[1], np.inf)
    if settled(fit, X):
        return fit, None
    found = _separation(left, right, X, np.ones(X.shape[1], bool))
    if found is None:
        return fit, None
    rows, kept, sign = found
    w = None if weights is None else weights[rows]
    part = interval_ph(left[rows], right[rows], X[rows][:, kept], weights=w)
    if not settled(part, X[rows][:, kept]):
        return fit, None
    null = interval_ph(left, right, X[:, :0], weights=weights)
    coef, vcov = np.zeros(X.shape[1]), np.full((X.shape[1], X.shape[1]), np.nan)
    coef[kept] = part.coef
    finite = sign == 0
    vcov[np.ix_(finite, finite)] = part.vcov[np.ix_(finite[kept], finite[kept])]
    top = replace(part, coef=at_infinity(sign, coef), vcov=vcov, loglik_null=null.loglik)
    return top, Limit(rows, kept, sign, part)


def settled(fit: IntervalPH, X: Array) -> bool:
    """Whether the maximum is certified and none of its coefficients on the way to infinity."""
    return (
        fit.converged and bool(np.isfinite(fit.vcov).all()) and float(np.abs(fit.coef * X.std(0)).max(initial=0)) <= 12
    )


def _separation(left: Array, right: Array, X: Array, free: Flags) -> tuple[Flags, Flags, Array] | None:
    """Rows that count at infinity, columns they determine, signs (p,); only coefficients `free` (p,) move.

    Along d in (level of the baseline, coefficients) a right-censored row gains where its hazard falls, a row with the
    event in the first interval where it rises; the hazard of all others stays. A row that moves then adds 0.
    """
    problem, _ = _problem(left, right, X, None)
    D = np.column_stack([np.ones(len(X)), X[:, free]])
    first = problem.before == 0
    lower, higher, level = ~problem.bounded & ~first, problem.bounded & first, problem.bounded & ~first
    found = recession(np.vstack([-D[lower], D[higher]]), np.append(1.0, np.ptp(D[:, 1:], axis=0)), D[level])
    if found is None:
        return None
    rows = (np.abs(D @ found.direction) <= 1e-9 * np.abs(found.direction).max()) & (problem.bounded | ~first)
    kept, sign = np.zeros(len(free), bool), np.zeros(len(free))
    kept[free], sign[free] = independent(D[rows].T @ D[rows])[1:], found.sign[1:]
    return rows, kept, sign


def separated_limits(
    left: Array, right: Array, X: Array, limit: Limit, *, level: float = 0.95, weights: Array | None = None
) -> tuple[Array, Array]:
    """`profile_limits` at the supremum: infinite on the side to which a coefficient runs."""
    p, w = X.shape[1], np.ones(len(X)) if weights is None else weights
    limits, chi2, finite = np.tile([-np.inf, np.inf], (p, 1)), np.full(p, np.nan), limit.sign == 0
    inner = profile_limits(
        left[limit.rows], right[limit.rows], X[limit.rows][:, limit.kept], limit.fit, level=level, weights=w[limit.rows]
    )
    limits[finite], chi2[finite] = (found[finite[limit.kept]] for found in inner)
    target = limit.fit.loglik - float(chdtri(1, 1.0 - level)) / 2.0
    for j in np.flatnonzero(np.abs(limit.sign) == 1):
        free = np.arange(p) != j
        rows, kept, _ = _separation(left, right, X, free) or (np.ones(len(X), bool), free, None)
        columns = np.append(np.flatnonzero(kept), j)
        centred = X[rows][:, columns] - X[rows][:, columns].mean(0)
        problem, _ = _problem(left[rows], right[rows], centred, w[rows])
        start, others = _start(problem, left[rows], right[rows], w[rows]), np.arange(kept.sum())

        def profile(value: float, problem: _Problem = problem, start: _State = start, others: Codes = others) -> float:
            coef = np.append(np.zeros(others.size), value)
            jump = start.jump * np.exp(-(problem.X[problem.bounded] @ coef).mean())  # the level of the rows with events
            state = _State(coef, jump, _loglik(problem, coef, jump))
            return _maximise(problem, state, others, 1e-9, 200)[0].loglik

        chi2[j] = 2.0 * (limit.fit.loglik - profile(0.0))
        far = limit.sign[j] * 12.0 / X[rows, j].std()
        end = _crossing(lambda v, f=profile: f(v) - target, far, -far / 2.2)  # type: ignore[misc]
        limits[j, 0 if limit.sign[j] > 0 else 1] = end
    return limits, chi2


def profile_limits(
    left: Array, right: Array, X: Array, fit: IntervalPH, *, level: float = 0.95, weights: Array | None = None
) -> tuple[Array, Array]:
    """Profile-likelihood limits (p, 2) and likelihood-ratio chi-squares (p,) of each coefficient against zero."""
    problem, _ = _problem(left, right, X - X.mean(0), weights)
    target = fit.loglik - float(chdtri(1, 1.0 - level)) / 2.0
    jump = fit.jump * np.exp(X.mean(0) @ fit.coef)
    limits, chi2 = np.empty((fit.coef.size, 2)), np.empty(fit.coef.size)
    se = np.sqrt(np.diag(fit.vcov))
    for j in range(fit.coef.size):
        others = np.delete(np.arange(fit.coef.size), j)

        def profile(value: float, j: int = j, others: Codes = others) -> float:
            coef = fit.coef + fit.vcov[:, j] / fit.vcov[j, j] * (value - fit.coef[j])
            state = _State(coef, jump, _loglik(problem, coef, jump))
            return _maximise(problem, state, others, 1e-9, 100)[0].loglik

        chi2[j] = 2.0 * (fit.loglik - profile(0.0))
        for side, sign in enumerate((-1.0, 1.0)):
            limits[j, side] = _crossing(lambda v, f=profile: f(v) - target, fit.coef[j], sign * se[j])  # type: ignore[misc]
    return limits, chi2


def grouped_vcov(left: Array, right: Array, X: Array, fit: IntervalPH, weights: Array | None = None) -> Array:
    """Covariance (p, p) of the coefficients from the expected information of the complementary log-log model.

    Every visit j that row i is followed through is a binomial trial with probability 1 - exp(-e), e = jump_j exp(x'b):
    information e^2 (1 - mu) / mu in its linear predictor, the visits' intercepts projected out.
    """
    w = np.ones(len(X)) if weights is None else weights
    last = np.where(np.isfinite(right), right, left)
    risk, p = np.exp(X @ fit.coef), X.shape[1]
    total = np.zeros((p, p))
    for end, jump in zip(fit.right, fit.jump, strict=True):
        rows = last >= end
        e, x = jump * risk[rows], X[rows]
        v = w[rows] * e**2 / np.expm1(e)
        moment = v @ x
        total += (x * v[:, None]).T @ x - np.outer(moment, moment) / v.sum()
    return np.asarray(np.linalg.inv(total))


def _crossing(f: Callable[[float], float], centre: float, step: float) -> float:
    """The root of f beyond `centre` in the direction of `step`; infinite when the profile stays above the target."""
    inner = centre
    for width in (2.2, 3.5, 5.0, 8.0, 12.0, 20.0):
        outer = centre + width * step
        if f(outer) < 0.0:
            return float(brentq(f, inner, outer, xtol=1e-7))
        inner = outer
    return float(np.sign(step) * np.inf)


def likelihood_ratio(chi2: Array) -> Array:
    """p values of one-degree-of-freedom likelihood-ratio chi-squares."""
    return np.asarray(chdtrc(1, np.maximum(chi2, 0.0)))


def _problem(left: Array, right: Array, X: Array, weights: Array | None) -> tuple[_Problem, turnbull.Cliques]:
    """An interval that covers the last clique counts as unbounded: what is left after the other jumps lies there."""
    c = turnbull.cliques(left, right)
    K = c.left.size - 1
    bounded = c.stop <= K
    w = np.ones(left.size) if weights is None else np.asarray(weights, float)
    return _Problem(X, np.minimum(c.start, K), np.minimum(c.stop, K), bounded, K, np.zeros(left.size), w), c


def _start(problem: _Problem, left: Array, right: Array, weights: Array | None) -> _State:
    mass = turnbull.npmle(left, right, weights=weights).mass
    survival = np.maximum(1.0 - np.concatenate([[0.0], np.cumsum(mass)])[: problem.K + 1], 1e-6)
    jump = -np.diff(np.log(survival))
    coef = np.zeros(problem.X.shape[1])
    return _State(coef, jump, _loglik(problem, coef, jump))


def _parts(problem: _Problem, coef: Array, jump: Array) -> tuple[Array, Array, Array]:
    """e, u and w (Inf when unbounded)."""
    H = np.concatenate([[0.0], np.cumsum(jump)])
    e = np.exp(problem.X @ coef + problem.offset)
    return e, e * H[problem.before], np.where(problem.bounded, e * (H[problem.upto] - H[problem.before]), np.inf)


def _loglik(problem: _Problem, coef: Array, jump: Array) -> float:
    _, u, w = _parts(problem, coef, jump)
    with np.errstate(divide="ignore"):
        return float(problem.weights @ (-u + np.log(-np.expm1(-w))))


def _gradient(problem: _Problem, coef: Array, jump: Array) -> tuple[Array, Array, Array, Array, Array, Array]:
    """e, u, finite w, a and the gradients in the coefficients (p,) and in all jumps (K,)."""
    e, u, w = _parts(problem, coef, jump)
    w = np.where(problem.bounded, w, 0.0)
    a = np.where(problem.bounded, 1.0 / np.expm1(np.clip(w, 1e-290, 700.0)), 0.0)
    g_coef = problem.X.T @ (problem.weights * (a * w - u))
    size = problem.K + 1
    down = np.bincount(problem.before, problem.weights * e, size)
    inside = np.bincount(problem.before, problem.weights * e * a, size) - np.bincount(
        problem.upto, problem.weights * e * a, size
    )
    g_jump = np.cumsum(inside)[: problem.K] - (down.sum() - np.cumsum(down)[: problem.K])
    return e, u, w, a, g_coef, g_jump


def _maximise(
    problem: _Problem, state: _State, free: Codes, tolerance: float, max_iterations: int
) -> tuple[_State, float, float, int, bool]:
    """Active-set Newton over the coefficients `free` and the jumps."""
    gradient = kkt = float("inf")
    for iteration in range(1, max_iterations + 1):
        e, u, w, a, g_coef, g_jump = _gradient(problem, state.coef, state.jump)
        present = state.jump > 0
        scale = problem.weights.sum()
        gradient = max([0.0, *np.abs(g_coef[free]), *np.abs((g_jump * state.jump)[present])])
        kkt = float(max(0.0, g_jump.max(initial=0.0))) / scale
        if gradient < 1e-8 * scale**0.5 and kkt < 1e-7:
            polished = _step(problem, state, free, (e, u, w, a, g_coef, g_jump))
            if polished.loglik - state.loglik < tolerance:
                return polished, gradient, kkt, iteration, True
            state = polished
            continue
        joint = _step(problem, state, free, (e, u, w, a, g_coef, g_jump))
        stuck = joint.loglik <= state.loglik + 1e-12 * abs(state.loglik)
        state = _blockwise(problem, state, free) if stuck and free.size else joint
    return state, gradient, kkt, max_iterations, False


def _blockwise(problem: _Problem, state: _State, free: Codes) -> _State:
    """Coefficients with the jumps held, then jumps with the coefficients held: each is a concave problem."""
    parts = _gradient(problem, state.coef, state.jump)
    _, _, I_cc = _information(problem, np.flatnonzero(state.jump > 0), free, parts[:4])
    direction = np.zeros_like(state.coef)
    direction[free] = np.linalg.solve(_positive(I_cc), parts[4][free])
    moved = _search(problem, state, direction, np.zeros_like(state.jump))
    return _step(problem, moved, np.zeros(0, np.int64), _gradient(problem, moved.coef, moved.jump))


def _step(problem: _Problem, state: _State, free: Codes, parts: tuple[Array, ...]) -> _State:
    """One constrained Newton step with line search; the support gains the local maxima of the gradient."""
    g_coef, g_jump = parts[4], parts[5]
    present = state.jump > 0
    gaining = turnbull._local_maxima(np.where(present, -np.inf, g_jump), present)
    gaining = gaining[g_jump[gaining] > 0]
    support = np.union1d(np.flatnonzero(present), gaining)
    I_jj, I_jc, I_cc = _information(problem, support, free, parts[:4])
    X_part = np.linalg.solve(_positive(I_cc), np.column_stack([I_jc.T, g_coef[free]])) if free.size else None
    schur = I_jj - I_jc @ X_part[:, :-1] if X_part is not None else I_jj
    reduced = g_jump[support] - (I_jc @ X_part[:, -1] if X_part is not None else 0.0)
    new_jump = _nonnegative_newton(schur, reduced, state.jump[support])
    d_jump = new_jump - state.jump[support]
    d_coef = np.zeros_like(state.coef)
    if X_part is not None:
        d_coef[free] = X_part[:, -1] - X_part[:, :-1] @ d_jump
    direction = np.zeros_like(state.jump)
    direction[support] = d_jump
    return _search(problem, state, d_coef, direction)


def _search(problem: _Problem, state: _State, d_coef: Array, d_jump: Array) -> _State:
    step = min(1.0, 2.0 / max(1e-12, float(np.abs(problem.X @ d_coef).max(initial=0.0))))
    while step > 1e-8:
        coef, jump = state.coef + step * d_coef, np.maximum(state.jump + step * d_jump, 0.0)
        jump[jump < 1e-12 * jump.max()] = 0.0
        value = _loglik(problem, coef, jump)
        if value >= state.loglik - 1e-13 * abs(state.loglik):
            return _State(coef, jump, value)
        step /= 2.0
    return state


def _information(
    problem: _Problem, support: Codes, free: Codes, parts: tuple[Array, ...]
) -> tuple[Array, Array, Array]:
    """Minus the second derivatives: jumps x jumps, jumps x coefficients, coefficients x coefficients."""
    e, u, w, a = parts
    below = support < problem.before[:, None]
    inside = (~below) & (support < problem.upto[:, None]) & problem.bounded[:, None]
    curve = a * (1.0 + a)
    X = problem.X[:, free]
    scaled = inside * (problem.weights * curve * e * e)[:, None]
    I_jj = inside.T.astype(float) @ scaled
    rows = below * e[:, None] - inside * (a * e - curve * w * e)[:, None]
    I_jc = rows.T @ (X * problem.weights[:, None])
    I_cc = (X * (problem.weights * (u - a * w + curve * w * w))[:, None]).T @ X
    return I_jj, I_jc, I_cc


def _positive(matrix: Array) -> Array:
    """`matrix`, its eigenvalues kept away from zero."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.maximum(np.abs(values), 1e-10 * max(1.0, np.abs(values).max(initial=0.0)))) @ vectors.T


def _nonnegative_newton(information: Array, gradient: Array, jump: Array) -> Array:
    """argmax over z >= 0 of gradient'(z - jump) - (z - jump)'I(z - jump)/2, by nonnegative least squares."""
    scale = 1.0 / np.sqrt(np.maximum(np.diag(information), 1e-300))
    scaled = information * np.outer(scale, scale)
    values, vectors = np.linalg.eigh(scaled)
    root = np.sqrt(np.maximum(values, 1e-12))
    R = root[:, None] * vectors.T
    target = R @ (jump / scale) + (vectors.T @ (gradient * scale)) / root
    return nnls(R, target, maxiter=100 * jump.size)[0] * scale


def _profile_vcov(problem: _Problem, state: _State) -> Array:
    """Inverse of the information of the coefficients after profiling out the positive jumps (Schur complement)."""
    p = state.coef.size
    if p == 0:
        return np.zeros((0, 0))
    support = np.flatnonzero(state.jump > 0)
    parts = _gradient(problem, state.coef, state.jump)[:4]
    I_jj, I_jc, I_cc = _information(problem, support, np.arange(p), parts)
    values, vectors = np.linalg.eigh(I_jj)
    kept = values > 1e-9 * values.max()
    solved = vectors[:, kept] / values[kept] @ (vectors[:, kept].T @ I_jc)
    return np.linalg.inv(I_cc - I_jc.T @ solved)
