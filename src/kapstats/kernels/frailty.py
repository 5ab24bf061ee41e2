"""Shared frailty in the Cox model by penalised partial likelihood: gamma, and Gaussian on the log scale.

The log frailties z_g are coefficients of group indicators under the penalty nu sum(exp z - z) (gamma, nu = 1/theta) or
sum z^2 / (2 theta) (Gaussian). For given theta Newton works on (z, b). theta maximises the integrated likelihood.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq, minimize_scalar
from scipy.special import gammaln

from kapstats.kernels import cox_newton as cn

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
#: a frailty variance below this is reported as 0
SMALLEST = 1e-6


@dataclass(frozen=True, slots=True)
class Penalised:
    """The maximum at one theta.

    b (p,), z (G,) log frailties; V, V2 (p, p) inverse penalised information and its sandwich form, theta known;
    frailty_variance the trace of the frailty block of that inverse; loglik the partial likelihood, integrated the
    likelihood with the frailties integrated out; df effective parameters of z and b; maximum over (z, b).
    """

    theta: float
    b: FloatArray
    z: FloatArray
    V: FloatArray
    V2: FloatArray
    frailty_variance: float
    loglik: float
    integrated: float
    df: float
    maximum: cn.Maximum


@dataclass(frozen=True, slots=True)
class FrailtyFit:
    """Estimated theta with its likelihood-ratio interval and the statistic of theta = 0; the fit there."""

    at: Penalised
    loglik_none: float
    statistic: float
    theta_low: float
    theta_high: float


def evaluate(data: cn.CoxData, group: IntArray, n_groups: int, c: FloatArray) -> cn.Evaluation:
    """Partial likelihood in c = (z, b) with group indicators that are never formed; `group` (n,) in sorted order."""
    z, b = c[:n_groups], c[n_groups:]
    shifted = cn.with_offset(data, z[group] if data.offset is None else data.offset + z[group])
    lp, r = cn.relative_risk(shifted, b)
    h = cn.hazard(shifted, r)
    event, w = data.sets.event, np.ones(len(r)) if data.w is None else data.w
    exposure = cn.exposure(shifted, h)
    moments, dead = cn.first_moments(shifted, r)
    sums = [_by_group(data, group, n_groups, r, event), (moments, dead)]
    S1, D1 = (np.hstack([f, x]) for f, x in zip(*sums, strict=True))
    total = -(S1 * h.aa[:, None]).T @ S1
    if data.efron and np.any(h.bb):
        cross = (S1 * h.ab[:, None]).T @ D1
        total += cross + cross.T - (D1 * h.bb[:, None]).T @ D1
    crossed = np.stack([np.bincount(group, exposure * data.X[:, j], n_groups) for j in range(len(b))], axis=1)
    total[np.arange(n_groups), np.arange(n_groups)] += np.bincount(group, exposure, n_groups)
    total[:n_groups, n_groups:] += crossed
    total[n_groups:, :n_groups] += crossed.T
    total[n_groups:, n_groups:] += cn.gram(data.X, exposure)
    score = np.concatenate([np.bincount(group, w * event - exposure, n_groups), data.x_sum - data.X.T @ exposure])
    return cn.Evaluation(float((w * lp)[event].sum()) - h.log_sum, score, total)


def _by_group(
    data: cn.CoxData, group: IntArray, n_groups: int, r: FloatArray, event: npt.NDArray[np.bool_]
) -> tuple[FloatArray, FloatArray]:
    """Sums of r by group over every risk set, and over the tied events: (K, G) each."""
    sets, size = data.sets, (data.sets.size + 1) * n_groups
    left = np.bincount(sets.last * n_groups + group, r, size).astype(float)
    if sets.delayed or len(sets.start) > 2:
        left = left - np.bincount(sets.first * n_groups + group, r, size)
    at_risk: FloatArray = np.cumsum(left.reshape(-1, n_groups)[::-1], axis=0)[::-1][1:]
    if not data.efron:
        return at_risk, np.zeros_like(at_risk)
    dead = np.bincount(data.group * n_groups + group[event], r[event], sets.size * n_groups)
    return at_risk, np.asarray(dead.reshape(-1, n_groups), dtype=float)


@dataclass(frozen=True, slots=True)
class FrailtyData:
    """Sorted Cox data with the frailty group of each sorted row, weighted deaths per group, distribution ("gamma" or
    "gaussian"), and whether information between groups is left out (`sparse`)."""

    data: cn.CoxData
    group: IntArray
    deaths: FloatArray
    kind: str
    sparse: bool

    @property
    def n_groups(self) -> int:
        return len(self.deaths)


def frailty_data(data: cn.CoxData, group: IntArray, n_groups: int, kind: str, sparse: bool) -> FrailtyData:
    """`group` (n,) codes in input order."""
    codes = group[data.sets.order]
    event = data.sets.event
    w = None if data.w is None else data.w[event]
    return FrailtyData(data, codes, np.bincount(codes[event], w, n_groups).astype(float), kind, sparse)


def maximum(model: FrailtyData, theta: float, start: FloatArray) -> tuple[cn.Maximum, float]:
    """Newton on (z, b) for given theta, and the log-likelihood with the frailties integrated out."""
    G = model.n_groups

    def likelihood(c: FloatArray) -> cn.Evaluation:
        found = evaluate(model.data, model.group, G, c)
        value, slope, curve = penalty(c[:G], theta, model.kind)
        found.information[np.arange(G), np.arange(G)] += curve
        found.score[:G] -= slope
        return cn.Evaluation(found.loglik - value, found.score, found.information)

    best = cn.maximise(likelihood, start, limit=200)
    return best, best.at.loglik + _correction(model, best, theta)


def _partial(model: FrailtyData, c: FloatArray) -> cn.Evaluation:
    """Partial likelihood, the frailty block of its information reduced to the diagonal when the model is sparse."""
    found = evaluate(model.data, model.group, model.n_groups, c)
    if model.sparse:
        G = model.n_groups
        found.information[:G, :G] = np.diag(np.diag(found.information[:G, :G]))
    return found


def penalised(model: FrailtyData, theta: float, start: FloatArray) -> Penalised:
    """The maximum for given theta with its variances."""
    G = model.n_groups
    best, integrated = maximum(model, theta, start)
    plain = _partial(model, best.b)
    curved = plain.information.copy()
    curved[np.arange(G), np.arange(G)] += penalty(best.b[:G], theta, model.kind)[2]
    inverse: FloatArray = np.asarray(np.linalg.inv(curved), dtype=float)
    sandwich = inverse @ plain.information @ inverse
    return Penalised(
        theta=theta,
        b=best.b[G:],
        z=best.b[:G],
        V=inverse[G:, G:],
        V2=sandwich[G:, G:],
        frailty_variance=float(np.trace(inverse[:G, :G])),
        loglik=plain.loglik,
        integrated=integrated,
        df=float(np.sum(inverse * plain.information)),
        maximum=best,
    )


def penalty(z: FloatArray, theta: float, kind: str) -> tuple[float, FloatArray, FloatArray]:
    """Value, gradient and second derivative of the penalty."""
    if kind == "gamma":
        u = np.exp(z)
        return float(np.sum(u - 1.0 - z)) / theta, (u - 1.0) / theta, u / theta
    return float(z @ z) / (2.0 * theta), z / theta, np.full(len(z), 1.0 / theta)


def _correction(model: FrailtyData, best: cn.Maximum, theta: float) -> float:
    """From the penalised to the integrated log-likelihood: exact for gamma, Laplace for Gaussian."""
    if model.kind == "gamma":
        return gamma_correction(model.deaths, 1.0 / theta)
    G = model.n_groups
    full = evaluate(model.data, model.group, G, best.b).information[:G, :G] * theta + np.eye(G)
    return -0.5 * float(np.linalg.slogdet(full)[1])


def gamma_correction(deaths: FloatArray, nu: float) -> float:
    """What turns the penalised into the marginal likelihood of a gamma frailty with variance 1/nu."""
    d = deaths
    return float(np.sum(d + nu * np.log(nu) - (nu + d) * np.log(nu + d) + gammaln(nu + d) - gammaln(nu)))


def fit(model: FrailtyData, method: str, drop: float) -> FrailtyFit:
    """theta by integrated likelihood ("ml") or as REML fixed point; limits where the likelihood is `drop` lower."""
    latest = np.zeros(model.n_groups + model.data.X.shape[1])

    def profile(log_theta: float) -> float:
        found, integrated = maximum(model, float(np.exp(log_theta)), latest)
        if found.converged:
            latest[:] = found.b
        return integrated

    none = cn.fit(model.data)
    x = _reml(model, latest) if method == "reml" else _best_log_theta(profile)
    best = penalised(model, float(np.exp(x)), latest)
    gained = best.integrated > none.at.loglik + 1e-7 or method == "reml"
    if not gained or x < np.log(SMALLEST):
        best, x = _no_frailty(model, none), float(np.log(SMALLEST))
    low, high = _theta_limits(profile, x, best.integrated - drop, none.at.loglik)
    statistic = max(0.0, 2.0 * (best.integrated - none.at.loglik))
    return FrailtyFit(best, none.at.loglik, statistic, low, high)


def _no_frailty(model: FrailtyData, none: cn.Maximum) -> Penalised:
    """The ordinary Cox fit, where the variance of the frailty is 0."""
    V: FloatArray = np.asarray(np.linalg.inv(none.at.information), dtype=float)
    loglik, p = none.at.loglik, len(none.b)
    return Penalised(0.0, none.b, np.zeros(model.n_groups), V, V, 0.0, loglik, loglik, float(p), none)


def _best_log_theta(profile: Callable[[float], float]) -> float:
    """Maximum over log theta: a coarse grid, bounded minimisation, then parabolas through close points."""
    grid = np.linspace(np.log(2e-4), np.log(15.0), 9)
    i = int(np.argmax([profile(x) for x in grid]))
    bounds = grid[max(i - 1, 0)], grid[min(i + 1, len(grid) - 1)]
    x = float(minimize_scalar(lambda v: -profile(float(v)), bounds=bounds, method="bounded", options={"xatol": 1e-3}).x)
    for h in (2e-2, 2e-3, 3e-4):
        y = [profile(x + k * h) for k in (-1, 0, 1)]
        bend = y[0] - 2.0 * y[1] + y[2]
        if bend < 0:
            x = x + h * float(np.clip(0.5 * (y[0] - y[2]) / bend, -1.0, 1.0))
    return x


def _reml(model: FrailtyData, latest: FloatArray) -> float:
    """Fixed point theta = (z'z + trace of the conditional variance of z) / G, by secant steps on its logarithm."""

    def gap(x: float) -> float:
        found = penalised(model, float(np.exp(x)), latest)
        latest[:] = found.maximum.b
        return float(np.log((found.z @ found.z + found.frailty_variance) / len(found.z))) - x

    x_old = float(np.log(0.5))
    g_old = gap(x_old)
    x = x_old + g_old
    for _ in range(200):
        g = gap(x)
        if abs(g) < 1e-11 or x < np.log(1e-8):
            break
        slope = (g - g_old) / (x - x_old) if x != x_old else -1.0
        x_old, g_old = x, g
        x = x + float(np.clip(-g / slope if slope < 0 else g, -2.0, 2.0))
    return x


def _theta_limits(profile: Callable[[float], float], x: float, target: float, none: float) -> tuple[float, float]:
    """theta where the integrated log-likelihood is at `target`; 0 below when theta = 0 is inside."""

    def cross(sign: float) -> float:
        outside = x + sign
        while profile(outside) > target:
            outside += sign
            if abs(outside - x) > 12:
                return float("nan")
        root = brentq(lambda v: profile(v) - target, x, outside, xtol=1e-7, rtol=1e-9)
        return float(np.exp(root))

    return 0.0 if none >= target else cross(-1.0), cross(1.0)
