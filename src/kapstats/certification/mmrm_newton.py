"""REML of MMRMs whose rows are x_is = e_s (x) w_i, B replicates at once, by plain Newton steps.

Every sum over subjects is then a Kronecker product per visit pattern p: with W_p = sum w w', C_p = sum w y' and
S_p = sum y y' over its subjects,

    X'O X = sum_p O_p (x) W_p,   X'O y = vec sum_p O_p C_p',   R_p = S_p - b C_p - (b C_p)' + b W_p b'

(b visits x covariates), so that an iteration costs P a^2 v^2 where the general kernel needs P (a v)^2 v^2. The formulas
are those of `kapstats.kernels.scoring`. The term tr(Phi P_j Phi P_k) of the information, which is most of the work and
little of the information, is left out until the steps are small; convergence is judged with all terms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kapstats._types import BoolArray, FloatArray
from kapstats.kernels.covariance import Structure, derivatives, start
from kapstats.kernels.scoring import DECREMENT, SCALED_GRADIENT, Fits, Point, Slopes, information_inverse

#: Newton decrement below which the steps use the whole information
NEAR = 1e-5


@dataclass(frozen=True, slots=True)
class Sums:
    """seen (P, v); count (B, P) subjects; ww (B, P, a, a), wy (B, P, a, v), yy (B, P, v, v) with zeros where unseen."""

    seen: BoolArray
    count: FloatArray
    ww: FloatArray
    wy: FloatArray
    yy: FloatArray

    @property
    def both(self) -> BoolArray:
        """(P, v, v) visits that a pattern has both of."""
        return self.seen[:, :, None] & self.seen[:, None, :]


def sums(w: FloatArray, y: FloatArray, seen: BoolArray) -> Sums:
    """Statistics of B replicates: w (B, n, a) covariates, y (B, n, v) changes, seen (B, n, v)."""
    v = seen.shape[-1]
    code = seen @ (1 << np.arange(v))
    patterns = np.setdiff1d(np.unique(code), [0])
    sets: BoolArray = (patterns[:, None] >> np.arange(v)) & 1 == 1
    z = np.concatenate([w, np.where(seen, y, 0.0)], axis=-1)
    a, c = w.shape[-1], z.shape[-1]
    i, j = np.triu_indices(c)
    member = (code[:, None, :] == patterns[:, None]).astype(float)
    packed = member @ (z[..., i] * z[..., j])
    place = np.empty((c, c), dtype=np.intp)
    place[i, j] = place[j, i] = np.arange(i.size)
    products = packed[..., place]
    return Sums(sets, member.sum(axis=2), products[..., :a, :a], products[..., :a, a:], products[..., a:, a:])


def _swap(x: FloatArray) -> FloatArray:
    return np.swapaxes(x, -1, -2)


def _kronecker(left: FloatArray, right: FloatArray) -> FloatArray:
    """sum_p left_p (x) right_p, (B, J, v a, v a) of left (B, J, P, v, v) and right (B, P, a, a)."""
    b, j, p, v = left.shape[:4]
    a = right.shape[-1]
    flat = np.moveaxis(left, 2, -1).reshape(b, j * v * v, p) @ right.reshape(b, p, a * a)
    return flat.reshape(b, j, v, v, a, a).transpose(0, 1, 2, 4, 3, 5).reshape(b, j, v * a, v * a)


def evaluate(stats: Sums, sigma: FloatArray) -> Point:
    """The profiled model at Sigma (B, v, v); LinAlgError where it is not positive definite."""
    b, v = sigma.shape[:2]
    factor = np.linalg.cholesky(np.where(stats.both, sigma[:, None], np.eye(v)))
    inverse = np.asarray(np.linalg.inv(factor), dtype=np.float64)
    omega = np.where(stats.both, _swap(inverse) @ inverse, 0.0)
    log_det = 2 * np.log(np.diagonal(factor, axis1=-2, axis2=-1)).sum(axis=-1)
    root_a = np.linalg.cholesky(_kronecker(omega[:, None], stats.ww)[:, 0])
    root = _swap(np.asarray(np.linalg.inv(root_a), dtype=np.float64))
    half = (_swap(root) @ (omega @ _swap(stats.wy)).sum(axis=1).reshape(b, -1, 1))[..., 0]
    q = root.shape[-1]
    n = stats.count @ stats.seen.sum(axis=1)
    deviance = (stats.count * log_det).sum(axis=1) + (omega * stats.yy).sum(axis=(1, 2, 3)) - (half**2).sum(axis=1)
    deviance = deviance + 2 * np.log(np.diagonal(root_a, axis1=1, axis2=2)).sum(axis=1) + (n - q) * np.log(2 * np.pi)
    return Point(deviance, (root @ half[..., None])[..., 0], root, omega)


def residual_products(stats: Sums, beta: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(R_p (B, P, v, v) = sum r r', sum r w' (B, P, v, a)); entries at unseen visits mean nothing."""
    b = beta.reshape(len(beta), 1, stats.seen.shape[1], -1)
    crossed = b @ stats.wy
    fitted = b @ stats.ww
    return stats.yy - crossed - _swap(crossed) + fitted @ _swap(b), _swap(stats.wy) - fitted


def model_products(stats: Sums, phi: FloatArray) -> FloatArray:
    """M_p (B, P, v, v) = sum X Phi X'."""
    b, p, a = stats.ww.shape[:3]
    v = stats.seen.shape[1]
    blocks = phi.reshape(b, v, a, v, a).transpose(0, 2, 4, 1, 3).reshape(b, a * a, v * v)
    return (stats.ww.reshape(b, p, a * a) @ blocks).reshape(b, p, v, v)


def _curve(jac: FloatArray, left: FloatArray, right: FloatArray) -> FloatArray:
    """sum_p tr(left_p D_j right_p D_k) (B, r, r), symmetrised; jac (B, r, v, v)."""
    b, r, v = jac.shape[:3]
    raw = np.swapaxes(left.reshape(b, -1, v * v), 1, 2) @ right.reshape(b, -1, v * v)
    tensor = raw.reshape(b, v, v, v, v).transpose(0, 2, 3, 4, 1).reshape(b, v * v, v * v)
    flat = jac.reshape(b, r, v * v)
    out = flat @ tensor @ _swap(flat)
    return (out + _swap(out)) / 2


def slopes(stats: Sums, point: Point, jac: FloatArray, whole: bool) -> Slopes:
    """Derivatives of -2 l with jac (B, r, v, v) = dSigma; without `whole` the information lacks tr(Phi P_j Phi P_k) and
    `scaled` is empty."""
    omega, b, r = point.omega, len(jac), jac.shape[1]
    squares, crossed = residual_products(stats, point.beta)
    weighted = stats.count[..., None, None] * omega
    f = omega @ (squares + model_products(stats, point.phi)) @ omega
    d = (weighted - f).sum(axis=1)
    v = omega.shape[-1]
    # u_j = sum_p vec O_p D_j (O_p sum r w'), one tensor for all j
    turned = omega @ crossed
    tensor = np.swapaxes(omega.reshape(b, -1, v * v), 1, 2) @ turned.reshape(b, len(stats.seen), -1)
    tensor = tensor.reshape(b, v, v, v, -1).transpose(0, 2, 3, 1, 4).reshape(b, v * v, -1)
    u = (jac.reshape(b, r, v * v) @ tensor) @ point.root
    t1 = _curve(jac, weighted, omega)
    observed = -t1 + 2 * _curve(jac, f, omega) - 2 * (u @ _swap(u))
    scaled = np.empty((b, 0, 0, 0))
    if whole:
        between = omega[:, None] @ jac[:, :, None] @ omega[:, None]
        scaled = -(_swap(point.root)[:, None] @ _kronecker(between, stats.ww) @ point.root[:, None])
        flat = scaled.reshape(b, r, -1)
        observed = observed - flat @ _swap(flat)
    gradient = (jac * d[:, None]).sum(axis=(2, 3))
    return Slopes(gradient, observed, t1, scaled, np.diagonal(t1, axis1=1, axis2=2))


def beginning(stats: Sums, structure: Structure) -> FloatArray | None:
    """Starting values from least-squares residuals (B, r); None when some pair of visits is hardly ever seen."""
    b, v = len(stats.count), stats.seen.shape[1]
    squares, _ = residual_products(stats, evaluate(stats, np.broadcast_to(np.eye(v), (b, v, v))).beta)
    pairs = np.einsum("bp,pst->bst", stats.count, stats.both)
    df = pairs - stats.ww.shape[-1]
    if not (df > 1).all():
        return None
    found = np.where(stats.both, squares, 0.0).sum(axis=1) / df
    return start(structure, found[:, None], pairs[:, None])


def newton(stats: Sums, structure: Structure, max_iter: int = 14) -> Fits | None:
    """Fits of all replicates, each certified by the criteria of the kernel and then moved by one more step, which takes
    them to rounding; None when one resists plain steps."""
    try:
        theta = beginning(stats, structure)
        whole = certified = False
        for iteration in range(max_iter if theta is not None else 0):
            assert theta is not None
            sigma, jac, _ = derivatives(structure, theta)
            point = evaluate(stats, sigma[:, 0])
            slope = slopes(stats, point, jac[:, :, 0], whole)
            free = np.ones(theta.shape[1], dtype=bool)
            # far from the optimum the observed information oversteps
            w, positive = information_inverse(slope.observed if iteration else slope.expected, free)
            if not positive.all():
                return None
            step = np.einsum("bij,bj->bi", w, slope.gradient) / 2
            decrement = np.einsum("bi,bi->b", slope.gradient, step)
            scaled = np.abs(slope.gradient * np.sqrt(np.diagonal(w, axis1=1, axis2=2))).max(axis=1)
            enough = whole and bool(((decrement < DECREMENT) & (scaled < SCALED_GRADIENT)).all())
            if enough and certified:
                done, count = np.ones(len(theta), dtype=bool), np.full(len(theta), iteration)
                return Fits(structure, True, theta, point, slope, free, w, decrement, scaled, done, count)
            certified = enough
            whole = bool(decrement.max() < NEAR)
            theta = theta - step
    except np.linalg.LinAlgError:
        return None
    return None


def adjusted(stats: Sums, point: Point, scaled: FloatArray, w: FloatArray, jac: FloatArray) -> FloatArray:
    """Phi_A (B, q, q) of Kenward and Roger (1997) for a covariance that is linear in theta; jac (B, r, v, v)."""
    values, vectors = np.linalg.eigh(w)
    half = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
    turned = (_swap(half) @ jac.reshape(*jac.shape[:2], -1)).reshape(jac.shape)
    omega = point.omega
    middle = (turned[:, :, None] @ omega[:, None] @ turned[:, :, None]).sum(axis=1)
    inner = _kronecker((omega @ middle @ omega)[:, None], stats.ww)[:, 0]
    p = (_swap(half) @ scaled.reshape(*scaled.shape[:2], -1)).reshape(scaled.shape)
    delta = 2 * (_swap(point.root) @ inner @ point.root - (p @ p).sum(axis=1))
    return point.root @ (np.eye(delta.shape[-1]) + delta) @ _swap(point.root)
