"""REML refits without one subject each, from the fit to all: the cross-products of all less those of one subject.

Letters as in `scoring`. Statistics G of all subjects are shared by every refit, and subject i takes away only

    X_i'O_p X_i,  X_i'O_p y_i     from the normal equations,
    Z_i (e e' + Phi) Z_i'         from R_p + M_p of its own pattern p,     e = (-b, 1)

so an evaluation of the gradient is a few matrix products of all refits with one G. Steps are quasi-Newton: the
curvature starts as that of all subjects less the subject's own share (the terms in b of the share left out), and
learns from the gradients met on the way (Broyden's second update); the root of the gradient is the same as that of a
full refit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kapstats.kernels.covariance import Structure, derivatives, sigma_of
from kapstats.kernels.pattern_moments import Layout, PatternMoments, unpack
from kapstats.kernels.scoring import Fits

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.intp]

DECREMENT = 1e-16  # g'H^-1 g before the last step, which leaves far less than 1e-9 standard errors
ROUNDS = 12


@dataclass(frozen=True, slots=True)
class Refits:
    """K refits: theta (K, r), beta (K, q), sigma (K, blocks, m, m); converged (K,)."""

    theta: Floats
    beta: Floats
    sigma: Floats
    converged: Bools


@dataclass(frozen=True, slots=True)
class _Trial:
    """What all refits share: rows z (N, c), their layout, statistics of all subjects, the covariance structure."""

    z: Floats
    arranged: Layout
    stats: PatternMoments
    structure: Structure


@dataclass(frozen=True, slots=True)
class _Point:
    """At theta (K, r): beta, gradient of -2 l, sigma; the rest is kept for the curvature of the subjects."""

    beta: Floats
    gradient: Floats
    sigma: Floats
    omega: Floats
    share: list[tuple[Ints, Floats]]
    jac: Floats


def leave_one_out(
    z: Floats, arranged: Layout, stats: PatternMoments, structure: Structure, fits: Fits, n: int
) -> Refits:
    """Refits without subject 0 .. n - 1 in turn. z (N, c) are the rows behind `stats`; `fits` holds the fit to all.

    A subject without rows leaves the fit as it was. A refit that is not `converged` has to be made in another way.
    """
    shared = _Trial(z, arranged, stats, structure)
    theta, beta = np.repeat(fits.theta, n, axis=0), np.repeat(fits.point.beta, n, axis=0)
    converged, active = np.zeros(n, dtype=bool), np.arange(n)
    try:
        point = _evaluate(shared, theta, active)
        inverse = _curvature(stats, fits, point, n)
        for _ in range(ROUNDS):
            step = -np.einsum("kij,kj->ki", inverse, point.gradient)
            decrement: Floats = -(step * point.gradient).sum(axis=1)
            theta[active] += step
            before, point = point.gradient, _evaluate(shared, theta[active], active)
            beta[active] = point.beta
            inverse = _broyden(inverse, step, point.gradient - before)
            left = np.flatnonzero(~(np.abs(decrement) < DECREMENT))  # NaN stays
            converged[active] = True
            converged[active[left]] = False
            active, inverse, point = active[left], inverse[left], _keep(point, left)
            if not len(active):
                break
    except np.linalg.LinAlgError:
        converged[active] = False
    sigma = sigma_of(structure, theta)
    finite: Bools = np.asarray(np.isfinite(sigma).all((1, 2, 3)) & np.isfinite(beta).all(1))
    lowest = np.linalg.eigvalsh(np.where(finite[:, None, None, None], sigma, 0.0))[..., 0].min(axis=1)
    return Refits(theta, beta, sigma, converged & finite & (lowest > 0))


def _keep(point: _Point, those: Ints) -> _Point:
    return replace(point, beta=point.beta[those], gradient=point.gradient[those])


def _evaluate(shared: _Trial, theta: Floats, active: Ints) -> _Point:
    """theta (K, r) of the refits without the subjects `active` (K,)."""
    stats, m, q = shared.stats, shared.structure.m, shared.stats.columns - 1
    sigma, jac, _ = derivatives(shared.structure, theta)
    both = stats.seen[:, :, None] & stats.seen[:, None, :]
    omega = np.where(both, np.linalg.inv(np.where(both, sigma[:, stats.block], np.eye(m))), 0.0)
    p, s, t = stats.pairs
    total = unpack(omega[:, p, s, t] @ stats.gram[0])
    own = _own_rows(shared, active)
    for k, at, who, block in own:
        total[who] -= np.swapaxes(block, 1, 2) @ omega[who, k][:, at[:, None], at] @ block
    phi: Floats = np.asarray(np.linalg.inv(total[:, :q, :q]))
    beta: Floats = np.einsum("kij,kj->ki", phi, total[:, :q, q])
    inner = _inner(beta, phi)
    f, count = _traces(stats, inner), np.repeat(stats.count, len(theta), axis=0)
    share = []
    for k, at, who, block in own:
        mine = np.zeros((len(who), m, m))
        mine[:, at[:, None], at] = block @ inner[who] @ np.swapaxes(block, 1, 2)
        f[who, k] -= mine
        count[who, k] -= 1
        share.append((who, mine))
    d = count[..., None, None] * omega - omega @ f @ omega
    by_block = np.stack([d[:, stats.block == x].sum(axis=1) for x in range(jac.shape[2])], axis=1)
    return _Point(beta, np.einsum("kjxst,kxst->kj", jac, by_block, optimize=True), sigma, omega, share, jac)


def _own_rows(shared: _Trial, active: Ints) -> list[tuple[int, Ints, Ints, Floats]]:
    """Per pattern: its number, its visits, the places in `active` of its subjects and their rows (n_p, k, c)."""
    place_of = np.full(max(int(who.max(initial=-1)) for who in (*shared.arranged.subjects, active)) + 1, -1)
    place_of[active] = np.arange(len(active))
    out = []
    for k, (rows, who) in enumerate(zip(shared.arranged.rows, shared.arranged.subjects, strict=True)):
        here = place_of[who] >= 0
        out.append((k, np.flatnonzero(shared.stats.seen[k]), place_of[who[here]], shared.z[rows[here]]))
    return out


def _inner(beta: Floats, phi: Floats) -> Floats:
    """e e' + Phi (K, c, c)."""
    e = np.concatenate([-beta, np.ones((len(beta), 1))], axis=1)
    inner = e[:, :, None] * e[:, None, :]
    inner[:, :-1, :-1] += phi
    return inner


def _traces(stats: PatternMoments, inner: Floats) -> Floats:
    """tr(inner G_p[s, t]) (K, P, m, m) of one G and many matrices."""
    i, j = np.triu_indices(inner.shape[-1])
    p, s, t = stats.pairs
    value = (inner[:, i, j] * np.where(i == j, 1.0, 2.0)) @ (stats.gram[0] * np.where(s == t, 1.0, 0.5)[:, None]).T
    out = np.zeros((len(inner), *stats.seen.shape, stats.seen.shape[1]))
    out[:, p, s, t] = value
    out[:, p, t, s] = value
    return out


def _curvature(stats: PatternMoments, fits: Fits, point: _Point, n: int) -> Floats:
    """Inverse curvature (n, r, r): that of all less -tr(O D_j O D_k) + 2 tr(O S_i O D_j O D_k) of each subject."""
    r, m = fits.theta.shape[1], stats.seen.shape[1]
    h = np.repeat(fits.slopes.observed, n, axis=0)
    jac, omega = point.jac[0][:, stats.block], point.omega[0]  # at the fit to all they are the same in every refit
    for k, (who, share) in enumerate(point.share):
        d = jac[:, k]
        left = omega[k] @ d @ omega[k]
        plain = left.reshape(r, m * m) @ d.reshape(r, m * m).T
        chain = left[:, None] @ (d @ omega[k])[None]
        pulled = share.reshape(len(who), m * m) @ chain.reshape(r * r, m * m).T
        pulled = pulled.reshape(len(who), r, r)
        h[who] += plain - (pulled + np.swapaxes(pulled, 1, 2))
    on = fits.free[:, None] & fits.free[None, :]
    return np.where(on, np.linalg.inv(np.where(on, h, np.eye(r))), 0.0)


def _broyden(inverse: Floats, step: Floats, change: Floats) -> Floats:
    """Inverse curvature that maps the change of the gradient to the step just made (no update where nothing moved)."""
    size = (change**2).sum(axis=1)
    scale = np.divide(1.0, size, out=np.zeros_like(size), where=size > 0)
    missed = step - np.einsum("kij,kj->ki", inverse, change)
    return inverse + missed[:, :, None] * (change * scale[:, None])[:, None, :]
