"""Restricted and full maximum likelihood of a Gaussian model from pattern statistics, by scoring, B fits at once.

With O_p = Sigma_p^-1 (zero outside the pattern), A = sum X'O X, b = A^-1 X'O y, r = y - X b, Phi = A^-1:

    -2 l = sum_p n_p log|Sigma_p| + r'O r + (N - q) log 2 pi + log|A|      (REML; ML without log|A| and with N log 2 pi)

Per pattern R_p = sum r r', M_p = sum X Phi X', F = O (R + M) O (ML: O R O), D_j = dSigma / dtheta_j:

    gradient_j  = sum_p tr(D_j (n_p O_p - F_p))
    observed_jk = sum_p tr(D_jk (n_p O_p - F_p)) - n_p tr(O D_j O D_k) + 2 tr(F D_j O D_k)
                  - 2 u_j'Phi u_k - tr(Phi P_j Phi P_k) [REML],   u_j = X'O D_j O r,  P_j = -X'O D_j O X
    expected_jk = n_p tr(O D_j O D_k) - 2 tr(O M O D_j O D_k) + tr(Phi P_j Phi P_k) [REML];  ML: the first term

Everything is a contraction of G_p: the cost of an iteration does not depend on the number of subjects. Leading axis B
everywhere. No term in log|X'X| (as SAS PROC MIXED and R mmrm).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kapstats.kernels.covariance import Structure, derivatives, sigma_of, start
from kapstats.kernels.pattern_moments import PatternMoments, select, traces, weighted_sum

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.intp]

DECREMENT, SCALED_GRADIENT = 1e-10, 1e-6


@dataclass(frozen=True, slots=True)
class Point:
    """The model at one theta.

    deviance (B,) = -2 l, inf where not defined; beta (B, q); root (B, q, q), Phi = root root'; omega (B, P, m, m).
    """

    deviance: Floats
    beta: Floats
    root: Floats
    omega: Floats

    @property
    def phi(self) -> Floats:
        """Phi = (X'O X)^-1 (B, q, q)."""
        return self.root @ np.swapaxes(self.root, -1, -2)


@dataclass(frozen=True, slots=True)
class Slopes:
    """Derivatives of -2 l.

    gradient (B, r); observed, expected (B, r, r); scaled (B, r, q, q) = root' P_j root; size (B, r): what the
    information on each parameter would be if the fixed effects were known.
    """

    gradient: Floats
    observed: Floats
    expected: Floats
    scaled: Floats
    size: Floats


@dataclass(frozen=True, slots=True)
class Fits:
    """B fits.

    theta (B, r); point and slopes there; free (r,) parameters with information; w (B, r, r) = 2 H^-1 with the observed
    H (NaN where it is not positive definite); decrement, scaled_gradient, converged, iterations (B,).
    """

    structure: Structure
    reml: bool
    theta: Floats
    point: Point
    slopes: Slopes
    free: Bools
    w: Floats
    decrement: Floats
    scaled_gradient: Floats
    converged: Bools
    iterations: Ints


def evaluate(stats: PatternMoments, sigma: Floats, reml: bool) -> Point:
    """The profiled model at Sigma (B, blocks, m, m)."""
    q = stats.columns - 1
    omega, log_det, ok = _inverse(stats, sigma)
    total = weighted_sum(stats, omega[:, None])[:, 0]
    a, b, yy = total[:, :q, :q], total[:, :q, q], total[:, q, q]
    factor, ok_a = _factor(a)
    ok = ok & ok_a
    root = np.swapaxes(np.linalg.inv(factor), -1, -2)
    half = np.einsum("bji,bj->bi", root, b)
    beta = np.einsum("bij,bj->bi", root, half)
    n = stats.n_obs - (q if reml else 0)
    deviance = (stats.count * log_det).sum(1) + yy - (half**2).sum(1) + n * np.log(2 * np.pi) - stats.log_weight
    if reml:
        deviance = deviance + 2 * np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(1)
    return Point(np.where(ok, deviance, np.inf), beta, root, omega)


def _inverse(stats: PatternMoments, sigma: Floats) -> tuple[Floats, Floats, Bools]:
    """O_p (B, P, m, m), log|Sigma_p| (B, P) and whether every Sigma_p that is needed is positive definite (B,)."""
    both = stats.seen[:, :, None] & stats.seen[:, None, :]
    padded = np.where(both, sigma[:, stats.block], np.eye(sigma.shape[-1]))
    used = stats.count > 0
    padded = np.where((used & np.isfinite(padded).all((-1, -2)))[..., None, None], padded, np.eye(sigma.shape[-1]))
    factor, ok = _factor(padded)
    finite = np.isfinite(sigma).all((-1, -2, -3))
    inverse = np.linalg.inv(factor)
    omega = np.where(both, np.swapaxes(inverse, -1, -2) @ inverse, 0.0)
    log_det = 2 * np.log(np.diagonal(factor, axis1=-2, axis2=-1)).sum(-1)
    return omega, log_det, np.asarray(ok.all(1) & finite)


def _factor(matrices: Floats) -> tuple[Floats, Bools]:
    """Cholesky factors (..., k, k) and whether each exists; the identity stands where it does not."""
    try:
        return np.asarray(np.linalg.cholesky(matrices)), np.ones(matrices.shape[:-2], dtype=bool)
    except np.linalg.LinAlgError:
        finite: Bools = np.asarray(np.isfinite(matrices).all((-1, -2)))
        safe = np.where(finite[..., None, None], matrices, np.eye(matrices.shape[-1]))
        values = np.linalg.eigvalsh(safe)
        ok: Bools = np.asarray(finite & (values[..., 0] > 1e-13 * np.abs(values[..., -1])))
        return np.asarray(np.linalg.cholesky(np.where(ok[..., None, None], safe, np.eye(matrices.shape[-1])))), ok


def slopes(stats: PatternMoments, point: Point, jac: Floats, second: Floats | None, reml: bool) -> Slopes:
    """Gradient, observed and expected information of -2 l from dSigma (B, r, blocks, m, m) and d2Sigma."""
    q, omega = stats.columns - 1, point.omega
    e = np.concatenate([-point.beta, np.ones((len(point.beta), 1))], axis=1)
    inner = np.zeros((len(e), 2, q + 1, q + 1))
    inner[:, 0] = e[:, :, None] * e[:, None, :]
    inner[:, 1, :q, :q] = point.phi
    filled = omega[:, None] @ traces(stats, inner) @ omega[:, None]  # O R O and O M O
    f = filled[:, 0] + filled[:, 1] if reml else filled[:, 0]
    weighted = stats.count[..., None, None] * omega
    d = _by_block(stats, jac.shape[2], weighted - f)
    z = -weighted_sum(stats, _between(omega, jac[:, :, stats.block]))
    u = np.einsum("bqi,bjq->bji", point.root, np.einsum("bjcd,bd->bjc", z[..., :q, :], e))
    scaled = np.swapaxes(point.root, -1, -2)[:, None] @ z[..., :q, :q] @ point.root[:, None]
    t1 = _curve(stats, jac, weighted, omega)
    t2 = _curve(stats, jac, f, omega)
    cross = _gram(scaled)
    observed = -t1 + 2 * t2 - 2 * _gram(u) - (cross if reml else 0.0)
    if second is not None:
        observed = observed + np.einsum("bjkxst,bxst->bjk", second, d, optimize=True)
    expected = t1 - 2 * _curve(stats, jac, filled[:, 1], omega) + cross if reml else t1
    size = np.diagonal(t1, axis1=1, axis2=2)
    return Slopes(np.einsum("bjxst,bxst->bj", jac, d), observed, expected, scaled, size)


def _between(omega: Floats, d: Floats) -> Floats:
    """O_p D_p O_p. omega (B, P, m, m), d (B, J, P, m, m)."""
    return omega[:, None] @ d @ omega[:, None]


def _gram(a: Floats) -> Floats:
    """<a_j, a_k> (B, J, J) of a (B, J, ...)."""
    flat = a.reshape(*a.shape[:2], -1)
    return flat @ np.swapaxes(flat, -1, -2)


def _by_block(stats: PatternMoments, blocks: int, a: Floats) -> Floats:
    """Sums of (B, P, m, m) over the patterns of each block (B, blocks, m, m)."""
    out = np.zeros((len(a), blocks, *a.shape[2:]))
    for x in range(blocks):
        out[:, x] = a[:, stats.block == x].sum(1)
    return out


def _curve(stats: PatternMoments, jac: Floats, left: Floats, right: Floats) -> Floats:
    """sum_p tr(left_p D_j right_p D_k) (B, r, r), symmetrised, through one (m^2, m^2) matrix per block."""
    b, r, blocks, m = jac.shape[:4]
    out = np.zeros((b, r, r))
    for x in range(blocks):
        own = stats.block == x
        raw = np.swapaxes(left[:, own].reshape(b, -1, m * m), 1, 2) @ right[:, own].reshape(b, -1, m * m)
        tensor = raw.reshape(b, m, m, m, m).transpose(0, 2, 3, 4, 1).reshape(b, m * m, m * m)
        flat = jac[:, :, x].reshape(b, r, m * m)
        out += flat @ tensor @ np.swapaxes(flat, 1, 2)
    return (out + np.swapaxes(out, 1, 2)) / 2


def empirical(stats: PatternMoments, structure: Structure) -> tuple[Floats, Floats]:
    """Residual covariance by parameter group (B, groups, m, m) from least squares, and the pairs behind each entry.

    Entries without data take the pooled value, else the variance or correlation of the visits that were seen.
    """
    eye = np.broadcast_to(np.eye(structure.m), (len(stats.count), len(structure.groups), *([structure.m] * 2)))
    beta = evaluate(stats, eye, False).beta
    e = np.concatenate([-beta, np.ones((len(beta), 1))], axis=1)
    products = traces(stats, (e[:, :, None] * e[:, None, :])[:, None])[:, 0]
    pairs = stats.count[..., None, None] * (stats.seen[:, :, None] & stats.seen[:, None, :])
    group = structure.groups[stats.block]
    total = np.stack([products[:, group == g].sum(1) for g in range(structure.n_groups)], axis=1)
    count = np.stack([pairs[:, group == g].sum(1) for g in range(structure.n_groups)], axis=1)
    df = np.maximum(1.0 - (stats.columns - 1) / stats.n_obs, 0.1)[:, None, None, None]
    return _completed(total, count, df), count


def _completed(total: Floats, count: Floats, df: Floats) -> Floats:
    """total / count with gaps filled: pooled over groups, then typical variance and correlation."""
    with np.errstate(divide="ignore", invalid="ignore"):
        value = total / (count * df)
        pooled = (total.sum(1) / (count.sum(1) * df[:, 0]))[:, None]
        value = np.where(count > 1, value, np.where(count.sum(1)[:, None] > 1, pooled, np.nan))
        variance = np.diagonal(value, axis1=-2, axis2=-1)
        typical = np.nanmean(np.where(variance > 0, variance, np.nan), axis=-1, keepdims=True)
        typical = np.where(np.isfinite(typical) & (typical > 0), typical, 1.0)
        variance = np.where(variance > 1e-8 * typical, variance, typical)
        root = np.sqrt(variance[..., :, None] * variance[..., None, :])
        correlation = np.clip(value / root, -0.98, 0.98)
        off = ~np.eye(value.shape[-1], dtype=bool)
        known = np.isfinite(correlation) & off
        mean = np.where(known, correlation, 0.0).sum((-1, -2)) / np.maximum(known.sum((-1, -2)), 1)
    correlation = np.where(np.isfinite(correlation), correlation, mean[..., None, None])
    return np.where(off, correlation, 1.0) * root


def fit(
    stats: PatternMoments, structure: Structure, reml: bool = True, *, theta: Floats | None = None, max_iter: int = 60
) -> Fits:
    """Fit B replicates at once. theta (B, r) starting values (default: from least-squares residuals).

    Never raises for a replicate that cannot be fitted: `converged` is False there, and its numbers mean nothing.
    """
    if theta is None:
        theta = start(structure, *empirical(stats, structure))
    theta = _feasible(stats, structure, reml, np.array(theta, dtype=float))
    free = _identified(stats, structure)
    active = np.arange(len(theta))
    iterations = np.zeros(len(theta), dtype=np.intp)
    damping, best = np.zeros(len(theta)), np.full(len(theta), np.inf)
    for _ in range(max_iter):
        part = stats if len(active) == len(theta) else select(stats, active)
        point, derived = _at(part, structure, reml, theta[active])
        step, decrement, _ = _direction(derived, free, damping[active])
        done = (decrement < 1e-18) | ((decrement < 1e-12) & (decrement >= 0.5 * best[active]))
        done |= ~np.isfinite(point.deviance) | ~np.isfinite(decrement)
        best[active] = decrement
        now = theta[active]
        moved, harder = _advance(part, structure, reml, now, step, point.deviance, decrement, damping[active])
        stuck = (moved == now).all(1) & (harder > 1e8)
        theta[active], damping[active] = np.where(done[:, None], now, moved), harder
        iterations[active] += ~done
        active = active[~(done | stuck)]
        if not len(active):
            break
    return _certified(stats, structure, reml, theta, free, iterations)


def _at(stats: PatternMoments, structure: Structure, reml: bool, theta: Floats) -> tuple[Point, Slopes]:
    sigma, jac, second = derivatives(structure, theta)
    point = evaluate(stats, sigma, reml)
    return point, slopes(stats, point, jac, second, reml)


def _identified(stats: PatternMoments, structure: Structure) -> Bools:
    """Parameters on which some pattern depends (in `us`, the covariance of visits never seen together is not one)."""
    theta = start(structure, *empirical(stats, structure))[:1]
    jac = derivatives(structure, theta)[1][0]
    both = (stats.seen[:, :, None] & stats.seen[:, None, :])[(stats.count > 0).any(0)]
    used = np.zeros(jac.shape[1:], dtype=bool)
    np.logical_or.at(used, stats.block[(stats.count > 0).any(0)], both)
    return np.asarray((np.abs(jac) * used).sum((1, 2, 3)) > 0)


def _feasible(stats: PatternMoments, structure: Structure, reml: bool, theta: Floats) -> Floats:
    """Starting values at which the likelihood exists: covariances are pulled in where it does not."""
    is_scale = np.einsum("bjxss->bj", np.abs(derivatives(structure, theta)[1])) > 0
    for _ in range(60):
        bad = ~np.isfinite(evaluate(stats, sigma_of(structure, theta), reml).deviance)
        if not bad.any():
            break
        theta = np.where(bad[:, None] & ~is_scale, 0.7 * theta, theta)
    return theta


@np.errstate(over="ignore", invalid="ignore")  # a likelihood without a maximum runs away; the verdict says so
def _direction(derived: Slopes, free: Bools, damping: Floats) -> tuple[Floats, Floats, Bools]:
    """Step (B, r), decrement g'H^-1 g (B,), and whether H was the observed information (else the expected)."""
    r = derived.gradient.shape[1]
    scale = np.sqrt(np.maximum(np.diagonal(derived.expected, axis1=1, axis2=2), 1e-300))
    g = np.where(free, derived.gradient / scale, 0.0)
    fixed = np.eye(r) * ~free
    scaled = scale[:, :, None] * scale[:, None, :]
    on = free[:, None] & free[None, :]
    observed = np.where(on, derived.observed / scaled, 0.0) + fixed
    expected = np.where(on, derived.expected / scaled, 0.0) + fixed
    lowest = _lowest(observed)
    use = lowest > 1e-10
    floor = np.maximum(1e-10 - _lowest(expected), 0.0)
    h = np.where(use[:, None, None], observed, expected + (floor[:, None, None] * 2) * np.eye(r))
    plain = _solve(h, g)
    damped = _solve(h + damping[:, None, None] * np.eye(r), g) if damping.any() else plain
    return -damped / scale, (g * plain).sum(1), use


def _lowest(h: Floats) -> Floats:
    """Smallest eigenvalue (B,), NaN where the matrix is not finite."""
    finite: Bools = np.asarray(np.isfinite(h).all((-1, -2)))
    value = np.linalg.eigvalsh(np.where(finite[:, None, None], h, np.eye(h.shape[-1])))[:, 0]
    return np.where(finite, value, np.nan)


def _solve(h: Floats, g: Floats) -> Floats:
    try:
        return np.asarray(np.linalg.solve(h, g[..., None])[..., 0])
    except np.linalg.LinAlgError:
        return np.einsum("bij,bj->bi", np.linalg.pinv(np.nan_to_num(h), hermitian=True), g)


def _advance(
    stats: PatternMoments, structure: Structure, reml: bool, theta: Floats, step: Floats, deviance: Floats,
    decrement: Floats, damping: Floats,
) -> tuple[Floats, Floats]:  # fmt: skip
    """Halve each step until -2 l falls (or, next to the optimum, exists); raise the damping where that fails."""
    new, size = theta.copy(), np.ones(len(theta))
    left = np.flatnonzero(np.isfinite(step).all(1) & np.isfinite(deviance))
    failed = np.ones(len(theta), dtype=bool)
    slack = 1e-9 * (1 + np.abs(deviance))
    for _ in range(12):
        trial = theta[left] + size[left, None] * step[left]
        part = stats if len(left) == len(theta) else select(stats, left)
        value = evaluate(part, sigma_of(structure, trial), reml).deviance
        near = (decrement[left] < 1e-4) & (value < deviance[left] + slack[left])
        good = near | (value < deviance[left] - 1e-4 * size[left] * decrement[left])
        new[left[good]] = trial[good]
        failed[left[good]] = False
        left = left[~good]
        size[left] *= 0.4
        if not len(left):
            break
    raised = np.maximum(10 * damping, 1e-2)
    return new, np.where(failed, raised, np.where(damping > 1e-3, 0.1 * damping, 0.0))


def _certified(
    stats: PatternMoments, structure: Structure, reml: bool, theta: Floats, free: Bools, iterations: Ints
) -> Fits:
    """Convergence facts at theta: Newton decrement and scaled gradient with the observed information."""
    point, derived = _at(stats, structure, reml, theta)
    w, positive = information_inverse(derived.observed, free, derived.size)
    g = np.where(free, derived.gradient, 0.0)
    decrement = np.einsum("bi,bij,bj->b", g, w, g) / 2
    with np.errstate(invalid="ignore"):
        scaled = np.max(np.abs(g) * np.sqrt(np.diagonal(w, axis1=1, axis2=2)), axis=1)
        converged = np.isfinite(point.deviance) & positive & (decrement < DECREMENT) & (scaled < SCALED_GRADIENT)
    return Fits(structure, reml, theta, point, derived, free, w, decrement, scaled, converged, iterations)


def information_inverse(h: Floats, free: Bools, size: Floats | None = None) -> tuple[Floats, Bools]:
    """W = 2 H^-1 over the free parameters (zero elsewhere), NaN where H is not positive definite; and whether it is.

    Judged after scaling H to a unit diagonal, which has to be more than rounding (1e-8) of `size`.
    """
    r = h.shape[-1]
    diagonal = np.diagonal(h, axis1=-2, axis2=-1)
    ok = (diagonal > (0.0 if size is None else 1e-8 * size))[:, free].all(1)
    scale = np.sqrt(np.where(free & (diagonal > 0), diagonal, 1.0))
    on = free[:, None] & free[None, :]
    unit = np.where(on, h / (scale[:, :, None] * scale[:, None, :]), 0.0) + np.eye(r) * ~free
    ok = ok & (_lowest(unit) > 1e-9)
    safe = np.where(ok[:, None, None], unit, np.eye(r))
    w = 2 * np.linalg.inv(safe) / (scale[:, :, None] * scale[:, None, :])
    w = np.where(on, (w + np.swapaxes(w, 1, 2)) / 2, 0.0)
    return np.where(ok[:, None, None], w, np.nan), ok


def one(fits: Fits, i: int) -> Fits:
    """Replicate i alone (B = 1)."""
    at = slice(i, i + 1)
    p, s = fits.point, fits.slopes
    return replace(
        fits, theta=fits.theta[at], point=Point(p.deviance[at], p.beta[at], p.root[at], p.omega[at]),
        slopes=Slopes(s.gradient[at], s.observed[at], s.expected[at], s.scaled[at], s.size[at]), w=fits.w[at],
        decrement=fits.decrement[at], scaled_gradient=fits.scaled_gradient[at], converged=fits.converged[at],
        iterations=fits.iterations[at],
    )  # fmt: skip
