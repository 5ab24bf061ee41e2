"""Joint maximisation over covariance factors, fixed effects and family parameters of a generalised linear mixed model.

All parameters are optimised together on the Laplace or quadrature criterion with its exact gradient, then polished by
Newton steps; the covariance of the estimates is the inverse of the full Hessian (central differences of the gradient).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import linalg, optimize

from kapstats.kernels.families import Observations, evaluate, link_function
from kapstats.kernels.laplace import Mode, Parameters, Problem, find_mode, laplace, split, thetas
from kapstats.kernels.quadrature import quadrature

Array = npt.NDArray[np.float64]
#: log size of the negative binomial beyond which it is a Poisson to rounding
LOG_SIZE_LIMIT = 18.0


@dataclass(frozen=True, slots=True)
class GlmmFit:
    """theta, beta (p,), phi natural; T per factor; objective -log L; gradient, hessian and vcov in (theta, beta, phi);

    decrement g'H^-1 g; converged; at_boundary per factor; mode at the estimate; n_evaluations; objectives per start.
    """

    theta: Array
    beta: Array
    phi: Array
    T: tuple[Array, ...]
    objective: float
    gradient: Array
    hessian: Array
    vcov: Array
    decrement: float
    converged: bool
    at_boundary: tuple[bool, ...]
    mode: Mode
    n_evaluations: int
    objectives: Array


class _Criterion:
    """The criterion in working parameters; remembers the last modes as a start for the next ones."""

    def __init__(self, problem: Problem, points: int, firth: bool) -> None:
        self.problem, self.points, self.firth = problem, points, firth
        self.count = 0
        self.start: tuple[Array, Array] | None = None

    def __call__(self, work: Array) -> tuple[float, Array]:
        psi, jac = to_natural(self.problem, work)
        self.count += 1
        try:
            value, slope, mode = self._evaluate(psi)
        except (np.linalg.LinAlgError, ValueError):
            self.start = None
            return 1e300, np.zeros_like(work)
        if not (np.isfinite(value) and np.all(np.isfinite(slope)) and mode.converged):
            self.start = None
            return 1e300, np.zeros_like(work)
        self.start = (mode.u0, mode.uR)
        return value, jac.T @ slope

    def _evaluate(self, psi: Array) -> tuple[float, Array, Mode]:
        if self.points > 1:
            value, slope, mode = quadrature(self.problem, psi, self.points, self.start)
        else:
            value, slope, mode = laplace(self.problem, psi, self.start)
        if self.firth:
            bonus, rise = jeffreys(self.problem, psi)
            value, slope = value - bonus, slope - rise
        return value, slope, mode


def jeffreys(problem: Problem, psi: Array) -> tuple[float, Array]:
    """log|X'WX| / 2 with the weights at zero random effects (Firth 1993), and its gradient; canonical links only."""
    q, X = split(problem, psi), problem.X
    t = evaluate(problem.obs, problem.offset + X @ q.beta, q.phi)
    L = np.linalg.cholesky((X * -t.l2[:, None]).T @ X)
    half = linalg.solve_triangular(L, X.T, lower=True)
    slope = np.zeros_like(psi)
    slope[problem.n_theta : problem.n_theta + X.shape[1]] = -0.5 * X.T @ ((half**2).sum(0) * t.l3)
    return float(np.log(np.diag(L)).sum()), slope


def to_natural(problem: Problem, work: Array) -> tuple[Array, Array]:
    """(theta, beta, phi) and its Jacobian: increasing thresholds from their first and the logs of their steps."""
    m = problem.obs.n_phi
    psi, jac = work.copy(), np.eye(work.size)
    if problem.obs.family == "cumulative" and m > 1:
        steps = np.exp(np.clip(work[-m + 1 :], -50.0, 50.0))
        psi[-m + 1 :] = work[-m] + np.cumsum(steps)
        jac[-m:, -m] = 1.0
        jac[-m + 1 :, -m + 1 :] = np.tril(np.tile(steps, (m - 1, 1)))
    return psi, jac


def to_working(problem: Problem, psi: Array) -> Array:
    """The inverse of `to_natural`."""
    m = problem.obs.n_phi
    work = psi.copy()
    if problem.obs.family == "cumulative" and m > 1:
        work[-m + 1 :] = np.log(np.diff(psi[-m:]))
    return work


def fit(problem: Problem, *, points: int = 1, scales: Sequence[float] = (1.0, 0.25), firth: bool = False) -> GlmmFit:
    """Maximise the likelihood (or, with `firth`, the likelihood times Jeffreys' prior) from several starts."""
    inner, back = _orthonormal(problem)
    criterion = _Criterion(inner, points, firth)
    diagonal, _ = thetas(inner.factors)
    fixed = fixed_start(inner)
    found = []
    for scale in scales:
        criterion.start = None
        found.append(_descend(criterion, np.concatenate([diagonal * scale, fixed])))
    objectives = np.array([value for value, _ in found])
    work = found[int(np.argmin(objectives))][1]
    work, curvature = _polish(criterion, work)
    return _report(problem, inner, back, criterion, work, curvature, objectives)


def _orthonormal(problem: Problem) -> tuple[Problem, Array]:
    """The problem with X in an orthogonal basis of unit mean square, and the matrix back to the given one."""
    n, p = problem.X.shape
    if p == 0:
        return problem, np.zeros((0, 0))
    Q, R = linalg.qr(problem.X, mode="economic")
    return replace(problem, X=Q * np.sqrt(n)), linalg.solve_triangular(R, np.eye(p)) * np.sqrt(n)


def fixed_start(problem: Problem) -> Array:
    """(beta, working phi) of the model without random effects."""
    p = problem.X.shape[1]
    zero = np.zeros(p + problem.obs.n_phi)
    zero[p:] = _phi_start(problem.obs)
    pad = np.zeros(problem.n_theta)

    def negative(work: Array) -> tuple[float, Array]:
        psi, jac = to_natural(problem, np.concatenate([pad, work]))
        q = split(problem, psi)
        t = evaluate(problem.obs, problem.offset + problem.X @ q.beta, q.phi)
        slope = np.concatenate([pad, -problem.X.T @ t.l1, -t.p0.sum(1)])
        value = -float(t.l.sum())
        return (value, (jac.T @ slope)[pad.size :]) if np.isfinite(value) else (1e300, np.zeros_like(work))

    return np.asarray(optimize.minimize(negative, zero, jac=True, method="L-BFGS-B", options={"maxiter": 200}).x)


def _phi_start(obs: Observations) -> Array:
    if obs.family == "cumulative":
        share = np.bincount(obs.y.astype(int), obs.weight, obs.n_categories) + 0.5
        alpha = link_function(obs.link, np.cumsum(share / share.sum())[:-1])
        return np.concatenate([alpha[:1], np.log(np.diff(alpha))])
    return np.zeros(obs.n_phi)


def _bounds(problem: Problem, size: int) -> list[tuple[float | None, float | None]]:
    free: list[tuple[float | None, float | None]] = [(None, None)] * size
    if problem.obs.family == "negative-binomial":
        free[-1] = (-15.0, LOG_SIZE_LIMIT)
    return free


def _descend(criterion: _Criterion, start: Array) -> tuple[float, Array]:
    found = optimize.minimize(
        criterion,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=_bounds(criterion.problem, start.size),
        options={"maxiter": 500, "maxfun": 2000, "ftol": 1e-14, "gtol": 1e-6, "maxcor": 30},
    )
    return float(found.fun), np.asarray(found.x)


def _hessian(function: Callable[[Array], tuple[float, Array]], at: Array, step: float = 1e-4) -> Array:
    """Central differences of the exact gradient."""
    columns = []
    for j in range(at.size):
        e = np.zeros(at.size)
        e[j] = step * max(1.0, abs(at[j]))
        columns.append((function(at + e)[1] - function(at - e)[1]) / (2.0 * e[j]))
    H = np.array(columns, dtype=np.float64)
    return np.asarray(0.5 * (H + H.T), dtype=np.float64)


def _step(H: Array, g: Array) -> Array:
    """-|H|^-1 g over directions with curvature."""
    w, U = np.linalg.eigh(H)
    keep = np.abs(w) > 1e-7 * np.abs(w).max()
    return np.asarray(-U[:, keep] @ ((U[:, keep].T @ g) / np.abs(w[keep])))


def _polish(criterion: _Criterion, work: Array) -> tuple[Array, Array | None]:
    """Newton steps to the optimum, and the Hessian there (None when the last step was not checked)."""
    for _ in range(8):
        value, g = criterion(work)
        H = _hessian(criterion, work)
        step = _step(H, g)
        if -g @ step < 1e-13:
            return work, H
        for _ in range(8):
            if _inside(criterion.problem, work + step) and criterion(work + step)[0] <= value + 1e-11 * abs(value):
                work = work + step
                break
            step = step / 2.0
        else:
            return work, H
    return work, None


def _inside(problem: Problem, work: Array) -> bool:
    return problem.obs.family != "negative-binomial" or bool(work[-1] <= LOG_SIZE_LIMIT)


def _report(
    problem: Problem,
    inner: Problem,
    back: Array,
    criterion: _Criterion,
    work: Array,
    curvature: Array | None,
    objectives: Array,
) -> GlmmFit:
    psi, jac = to_natural(inner, work)
    value, g_work = criterion(work)

    def natural(x: Array) -> tuple[float, Array]:
        v, slope = criterion(to_working(inner, x))
        return v, np.asarray(np.linalg.solve(to_natural(inner, to_working(inner, x))[1].T, slope))

    untransformed = np.array_equal(jac, np.eye(work.size))
    H = curvature if untransformed and curvature is not None else _hessian(natural, psi)
    g = np.asarray(np.linalg.solve(jac.T, g_work), dtype=np.float64)
    m, p = inner.n_theta, inner.X.shape[1]
    lift = np.eye(psi.size)
    lift[m : m + p, m : m + p] = back
    q = split(inner, psi)
    step = _step(H, g)
    drop = np.linalg.solve(lift, np.eye(psi.size))
    free = _free(inner, psi)
    vcov = lift @ _inverse(H, free) @ lift.T
    vcov[len(free) :] = vcov[:, len(free) :] = np.nan
    decrement = float(-g[free] @ step[free])
    converged = decrement < 1e-6 and bool(value <= objectives.min() + 1e-6 * max(1.0, abs(value)))
    mode = find_mode(inner, q)
    return GlmmFit(
        psi[:m], back @ q.beta, q.phi, q.T, value, drop.T @ g, drop.T @ H @ drop, vcov, decrement, converged,
        tuple(bool(np.linalg.eigvalsh(t @ t.T)[0] < 1e-6) for t in q.T), mode, criterion.count, objectives,
    )  # fmt: skip


def _free(problem: Problem, psi: Array) -> list[int]:
    """Parameters away from a limit: a negative-binomial size that ran to infinity is fixed there."""
    at_limit = problem.obs.family == "negative-binomial" and psi[-1] > LOG_SIZE_LIMIT - 6.0
    return list(range(psi.size - int(at_limit)))


def _inverse(H: Array, free: list[int]) -> Array:
    """Inverse on the free parameters and on directions with positive curvature; zero elsewhere."""
    out = np.zeros_like(H)
    block = H[np.ix_(free, free)]
    scale = np.sqrt(np.maximum(np.abs(np.diag(block)), 1e-300))
    w, U = np.linalg.eigh(block / np.outer(scale, scale))
    keep = w > 1e-9 * w.max()
    half = U[:, keep] / scale[:, None]
    out[np.ix_(free, free)] = (half / w[keep]) @ half.T
    return out


def covariance_within(fitted: GlmmFit, basis: Array) -> Array:
    """Inverse curvature within the span of `basis` (parameters, k), zero along the directions outside it."""
    curvature = basis.T @ np.nan_to_num(fitted.hessian) @ basis
    return np.asarray(basis @ _inverse(curvature, list(range(len(curvature)))) @ basis.T)


def unpack(problem: Problem, fitted: GlmmFit) -> Parameters:
    """The estimates as matrices and vectors."""
    return Parameters(fitted.T, fitted.beta, fitted.phi)
