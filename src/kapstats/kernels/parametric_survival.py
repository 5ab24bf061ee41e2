"""Maximum likelihood for parametric survival models with right, left and interval censoring and left truncation.

An observation is (left, right] with entry: left == right exact; right Inf right-censored; left 0 left-censored. It adds
log f(t), log S(left), log(1 - S(right)) or log(S(left) - S(right)), minus log S(entry). Every family is a few lines of
jets in linear predictors P_j = M_j theta; the gradient is sum_j M_j' l_j and the Hessian sum_jk M_j' diag(l_jk) M_k.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import gammainc, gammaincc, gammaln, log_ndtr

from kapstats.kernels import jets
from kapstats.kernels.jets import Jet

Array = npt.NDArray[Any]
Bool = npt.NDArray[np.bool_]
Predictors = Sequence[Jet]
#: (times (n,), rows (n,) mask) -> design matrices of the predictors at those rows
Matrices = Callable[[Array, Bool], list[Array]]


@dataclass(frozen=True, slots=True)
class Fit:
    """theta (q,), vcov (q, q) inverse observed information, loglik on the time scale, largest gradient, iterations."""

    theta: Array
    vcov: Array
    loglik: float
    gradient: float
    iterations: int
    converged: bool


@dataclass(frozen=True, slots=True)
class Observed:
    """left (n,), right (n,), entry (n,), weights (n,)."""

    left: Array
    right: Array
    entry: Array
    weights: Array

    @property
    def exact(self) -> Bool:
        """Rows whose event time is known exactly."""
        return self.left == self.right


@dataclass(frozen=True, slots=True)
class Family:
    """log S(t) and log f(t) as jets of the linear predictors."""

    log_survival: Callable[[Predictors, Array], Jet]
    log_density: Callable[[Predictors, Array], Jet]


def _location_scale(log_S: Callable[[Jet], Jet], log_f: Callable[[Jet], Jet]) -> Family:
    """log T = P0 + exp(P1) W."""

    def z(p: Predictors, t: Array) -> Jet:
        return (np.log(t) - p[0]) * jets.exp(-p[1])

    return Family(
        lambda p, t: log_S(z(p, t)),
        lambda p, t: log_f(z(p, t)) - p[1] - np.log(t),
    )


HALF_LOG_2PI = 0.5 * np.log(2.0 * np.pi)


def _gompertz_log_survival(p: Predictors, t: Array) -> Jet:
    return -(jets.exp(p[0]) * jets.growth(p[1], t))


def _piecewise(cuts: Array) -> Family:
    """Hazard exp(P0 + P_j) between the cuts."""
    edges = np.concatenate([[0.0], cuts, [np.inf]])

    def log_S(p: Predictors, t: Array) -> Jet:
        parts = [jets.exp(p[0] + p[j + 1]) * np.clip(t - a, 0.0, edges[j + 1] - a) for j, a in enumerate(edges[:-1])]
        return -_total(parts)

    def log_f(p: Predictors, t: Array) -> Jet:
        level = _total([p[j + 1] * ((t > a) & (t <= edges[j + 1])).astype(float) for j, a in enumerate(edges[:-1])])
        return level + p[0] + log_S(p, t)

    return Family(log_S, log_f)


def _total(parts: Sequence[Jet]) -> Jet:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _generalised_gamma_log_survival(p: Predictors, t: Array) -> Jet:
    """Prentice (1974): w = (log t - mu)/sigma, S = Gamma-tail(Q^-2, Q^-2 exp(Q w)); Q = 0 is log-normal."""
    w, Q = (np.log(t) - p[0]) * jets.exp(-p[1]), p[2]
    value = _gg_log_tail(w.v, Q.v)
    fQ, fQQ = _stencil(lambda q: _gg_log_tail(w.v, q), Q.v)
    density, slope = _gg_log_density(w.v, Q.v), _gg_slope(w.v, Q.v)
    dQ, _ = _stencil(lambda q: _gg_log_density(w.v, q), Q.v)
    fw = -np.exp(density - value)
    return jets.chain2(w, Q, value, fw, fQ, fw * slope - fw**2, fw * (dQ - fQ), fQQ)


def _generalised_gamma_log_density(p: Predictors, t: Array) -> Jet:
    w, Q = (np.log(t) - p[0]) * jets.exp(-p[1]), p[2]
    fQ, fQQ = _stencil(lambda q: _gg_log_density(w.v, q), Q.v)
    slope = _gg_slope(w.v, Q.v)
    slope_Q, _ = _stencil(lambda q: _gg_slope(w.v, q), Q.v)
    curve = -np.exp(Q.v * w.v)
    value = jets.chain2(w, Q, _gg_log_density(w.v, Q.v), slope, fQ, curve, slope_Q, fQQ)
    return value - p[1] - np.log(t)


#: inside +-2 NEAR_ZERO the tail is interpolated in Q: the incomplete gamma function loses digits at Q^-2 above 1e6
NEAR_ZERO = 3e-3


def _gg_log_tail(w: Array, Q: Array) -> Array:
    """log S(w), the limit Q = 0 by the log-normal tail, small Q by a polynomial through five values."""
    small = np.abs(Q) < 2.0 * NEAR_ZERO
    if not small.any():
        return _gamma_log_tail(w, Q)
    nodes = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    near, x = np.zeros_like(w), Q / NEAR_ZERO
    for j, node in enumerate(nodes):
        others = np.delete(nodes, j)
        factor = np.prod([(x - c) / (node - c) for c in others], axis=0)
        value = log_ndtr(-w) if node == 0.0 else _gamma_log_tail(w, np.full_like(w, node * NEAR_ZERO))
        near = near + factor * value
    return np.where(small, near, _gamma_log_tail(w, np.where(small, 1.0, Q)))


def _gamma_log_tail(w: Array, Q: Array) -> Array:
    k = Q**-2
    x = k * np.exp(np.minimum(Q * w, 600.0))
    above, below = gammaincc(k, x), gammainc(k, x)
    S, F = np.where(Q > 0, above, below), np.where(Q > 0, below, above)
    with np.errstate(divide="ignore"):
        return np.where(S < 0.5, np.log(S), np.log1p(-F))


def _gg_log_density(w: Array, Q: Array) -> Array:
    """log density of w: -log(2 pi)/2 - (Stirling remainder of Q^-2) - (exp(Qw) - 1 - Qw)/Q^2."""
    x = Q * w
    near = np.abs(x) < 1e-2
    series = w**2 * (0.5 + x / 6.0 + x**2 / 24.0 + x**3 / 120.0 + x**4 / 720.0 + x**5 / 5040.0 + x**6 / 40320.0)
    Q2 = np.where(near, 1.0, Q) ** 2
    bend = np.where(near, series, (np.expm1(np.minimum(x, 600.0)) - x) / Q2)
    return -HALF_LOG_2PI - _stirling(Q) - bend


def _stirling(Q: Array) -> Array:
    """log Gamma(k) - (k - 1/2) log k + k - log(2 pi)/2 at k = Q^-2."""
    q2 = Q**2
    series = q2 / 12.0 - q2**3 / 360.0 + q2**5 / 1260.0 - q2**7 / 1680.0
    k = 1.0 / np.maximum(q2, 0.03)
    return np.where(q2 < 0.03, series, gammaln(k) - (k - 0.5) * np.log(k) + k - HALF_LOG_2PI)


def _gg_slope(w: Array, Q: Array) -> Array:
    """d log density / dw = (1 - exp(Qw))/Q."""
    safe = np.where(np.abs(Q) < 1e-12, 1.0, Q)
    return np.where(np.abs(Q) < 1e-12, -w, -np.expm1(np.minimum(safe * w, 600.0)) / safe)


def _stencil(f: Callable[[Array], Array], x: Array, h: float = 2e-3) -> tuple[Array, Array]:
    """First and second derivative by central differences of order eight."""
    first = np.array([4 / 5, -1 / 5, 4 / 105, -1 / 280])
    second = np.array([8 / 5, -1 / 5, 8 / 315, -1 / 560])
    up, down = [f(x + j * h) for j in range(1, 5)], [f(x - j * h) for j in range(1, 5)]
    d1 = sum(c * (a - b) for c, a, b in zip(first, up, down, strict=True)) / h
    d2 = (sum(c * (a + b) for c, a, b in zip(second, up, down, strict=True)) - 205 / 72 * f(x)) / h**2
    return np.asarray(d1), np.asarray(d2)


WEIBULL = _location_scale(lambda z: -jets.exp(z), lambda z: z - jets.exp(z))
LOGNORMAL = _location_scale(lambda z: jets.log_normal_cdf(-z), lambda z: -0.5 * z * z - HALF_LOG_2PI)
LOGLOGISTIC = _location_scale(lambda z: -jets.softplus(z), lambda z: z - 2.0 * jets.softplus(z))
GOMPERTZ = Family(_gompertz_log_survival, lambda p, t: p[0] + p[1] * t + _gompertz_log_survival(p, t))
GENERALISED_GAMMA = Family(_generalised_gamma_log_survival, _generalised_gamma_log_density)
piecewise = _piecewise


def cured(family: Family) -> Family:
    """Mixture cure: a fraction 1 - expit(last predictor) never has the event."""

    def log_S(p: Predictors, t: Array) -> Jet:
        odds = p[-1] + family.log_survival(p[:-1], t)
        return jets.softplus(odds) - jets.softplus(p[-1])

    return Family(log_S, lambda p, t: -jets.softplus(-p[-1]) + family.log_density(p[:-1], t))


def spline(scale: str) -> Family:
    """Royston-Parmar: P0 = s(log t), P1 = ds/dlog t; `scale` hazard, odds or normal."""
    tails: dict[str, Callable[[Jet], Jet]] = {
        "hazard": lambda s: -jets.exp(s),
        "odds": lambda s: -jets.softplus(s),
        "normal": lambda s: jets.log_normal_cdf(-s),
    }
    bodies: dict[str, Callable[[Jet], Jet]] = {
        "hazard": lambda s: s - jets.exp(s),
        "odds": lambda s: s - 2.0 * jets.softplus(s),
        "normal": lambda s: -0.5 * s * s - HALF_LOG_2PI,
    }
    return Family(lambda p, t: tails[scale](p[0]), lambda p, t: bodies[scale](p[0]) + jets.log(p[1]) - np.log(t))


@dataclass(frozen=True, slots=True)
class Basis:
    """Restricted cubic spline in log time: knots (m,), boundary knots first and last."""

    knots: Array

    def value(self, x: Array) -> Array:
        """Columns 1, x, v_1(x), ...: (n, m)."""
        return np.column_stack([np.ones_like(x), x, *self._bends(x, 3)])

    def slope(self, x: Array) -> Array:
        """Their derivatives: (n, m)."""
        return np.column_stack([np.zeros_like(x), np.ones_like(x), *(3.0 * v for v in self._bends(x, 2))])

    def _bends(self, x: Array, power: int) -> list[Array]:
        k, low, high = self.knots[1:-1], self.knots[0], self.knots[-1]

        def plus(knot: float) -> Array:
            return np.maximum(x - knot, 0.0) ** power

        share = (high - k) / (high - low)
        return [plus(kj) - s * plus(low) - (1.0 - s) * plus(high) for kj, s in zip(k, share, strict=True)]


def log_likelihood(family: Family, matrices: Matrices, data: Observed, theta: Array) -> tuple[float, Array, Array]:
    """Value, gradient (q,) and Hessian (q, q) at `theta`."""
    value, gradient, hessian = 0.0, np.zeros(theta.size), np.zeros((theta.size, theta.size))
    exact, open_end = data.exact, np.isinf(data.right)
    late = data.entry > 0
    started = (data.left > 0) & ~exact
    between = started & ~open_end

    def add(rows: Bool, term: Callable[[Array], tuple[Jet, list[Array]]], sign: float = 1.0) -> None:
        nonlocal value, gradient, hessian
        if not rows.any():
            return
        jet, M = term(rows)
        w = sign * data.weights[rows]
        value += float(w @ jet.v)
        for j, Mj in enumerate(M):
            gradient += Mj.T @ (w * jet.g[j])
            for k, Mk in enumerate(M):
                hessian += Mj.T @ ((w * jet.h[j, k])[:, None] * Mk)

    def at(time: Array, what: Callable[[Predictors, Array], Jet]) -> Callable[[Array], tuple[Jet, list[Array]]]:
        def term(rows: Bool) -> tuple[Jet, list[Array]]:
            M = matrices(time, rows)
            return what(jets.variables([m @ theta for m in M]), time[rows]), M

        return term

    def difference(rows: Bool) -> tuple[Jet, list[Array]]:
        low, high = matrices(data.left, rows), matrices(data.right, rows)
        p = jets.variables([m @ theta for m in (*low, *high)])
        S_low = family.log_survival(p[: len(low)], data.left[rows])
        S_high = family.log_survival(p[len(low) :], data.right[rows])
        return S_low + jets.log1mexp(S_high - S_low), [*low, *high]

    add(exact, at(data.left, family.log_density))
    add(started & open_end, at(data.left, family.log_survival))
    add(between, difference)
    add(~started & ~exact & ~open_end, at(data.right, lambda p, t: jets.log1mexp(family.log_survival(p, t))))
    add(late, at(data.entry, family.log_survival), sign=-1.0)
    return value, gradient, hessian


def maximise(
    family: Family,
    matrices: Matrices,
    data: Observed,
    theta: Array,
    *,
    tolerance: float = 1e-12,
    held: Array | None = None,
    max_iterations: int = 200,
) -> Fit:
    """Newton steps with a positive-definite correction and step halving; converged on the Newton decrement.

    `held` are positions of `theta` that stay at their start (their rows of vcov are zero).
    """
    free = np.delete(np.arange(theta.size), [] if held is None else held)
    with np.errstate(all="ignore"):  # a step too far gives numbers that are not finite; the search steps back
        return _climb(family, matrices, data, theta, free, tolerance, max_iterations)


def _climb(
    family: Family, matrices: Matrices, data: Observed, theta: Array, free: Array, tolerance: float, max_iterations: int
) -> Fit:
    value, gradient, hessian = log_likelihood(family, matrices, data, theta)
    iteration = 0
    for iteration in range(1, max_iterations + 1):
        if not _finite(value, gradient, hessian):
            break
        step = np.zeros_like(theta)
        step[free], positive = _ascent(hessian[np.ix_(free, free)], gradient[free])
        decrement = float(gradient @ step)
        scale = 1.0
        new = log_likelihood(family, matrices, data, theta + step)
        while not (_finite(*new) and new[0] >= value - 1e-12 * max(1.0, abs(value))) and scale > 1e-6:
            scale /= 2.0
            new = log_likelihood(family, matrices, data, theta + scale * step)
        if scale <= 1e-6:
            break
        theta, (value, gradient, hessian) = theta + scale * step, new
        if positive and decrement < tolerance:
            vcov = np.zeros_like(hessian)
            vcov[np.ix_(free, free)] = np.linalg.inv(-hessian[np.ix_(free, free)])
            proper = bool(np.all(np.diag(vcov)[free] > 0))
            return Fit(theta, vcov, value, float(np.abs(gradient[free]).max()), iteration, proper)
    return Fit(theta, np.full(hessian.shape, np.nan), value, float(np.abs(gradient[free]).max()), iteration, False)


def _finite(value: float, gradient: Array, hessian: Array) -> bool:
    return bool(np.isfinite(value) and np.isfinite(gradient).all() and np.isfinite(hessian).all())


def _ascent(hessian: Array, gradient: Array) -> tuple[Array, bool]:
    """Newton direction with eigenvalues turned positive; whether the information was positive definite as it stood."""
    scale = 1.0 / np.sqrt(np.maximum(np.abs(np.diag(hessian)), 1e-12))
    values, vectors = np.linalg.eigh(-hessian * np.outer(scale, scale))
    safe = np.maximum(np.abs(values), 1e-10)
    return scale * (vectors @ ((vectors.T @ (gradient * scale)) / safe)), bool(values.min() > 1e-12)
