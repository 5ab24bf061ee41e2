"""Adaptive Gauss-Hermite quadrature for one grouping factor with a small vector of random effects.

Per level, with mode u^, H = LL' and nodes z_k: ``u_k = u^ + sqrt(2) L^-T z_k`` and
``-log L_g = log|L| + (r/2) log(pi) - log sum_k w_k exp(|z_k|^2 - h(u_k))`` (Liu & Pierce 1994; Pinheiro & Bates 1995).
One node is the Laplace approximation. The gradient is that of the approximation itself: nodes move with the parameters.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from kapstats.kernels.block_arrow import free_entries
from kapstats.kernels.families import Terms, evaluate
from kapstats.kernels.laplace import Mode, Parameters, Problem, find_mode, group_sum, split

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Nodes:
    """z (K, r) and log_weight (K,) = log w_k + |z_k|^2 of the product rule."""

    z: Array
    log_weight: Array


@dataclass(frozen=True, slots=True)
class Evaluated:
    """M (G, r, r) = L^-T; u (G, K, r) nodes; terms (N, K); share (G, K) posterior weights; value (G,) -log L_g."""

    M: Array
    u: Array
    terms: Terms
    share: Array
    value: Array


@lru_cache(maxsize=32)
def gauss_hermite(points: int, r: int) -> Nodes:
    """The product rule with `points` per dimension."""
    x, w = np.polynomial.hermite.hermgauss(points)
    z = np.array(list(itertools.product(x, repeat=r)))
    log_w = np.array([sum(pair) for pair in itertools.product(np.log(w) + x * x, repeat=r)])
    return Nodes(z, log_w)


def evaluate_nodes(problem: Problem, q: Parameters, mode: Mode, nodes: Nodes) -> Evaluated:
    """Integrand at all nodes of all levels."""
    first, r = problem.factors[0], mode.a0.shape[1]
    M = np.swapaxes(np.linalg.inv(np.linalg.cholesky(np.linalg.inv(mode.Hinv0))), 1, 2)
    u = mode.u0[:, None, :] + np.sqrt(2.0) * np.einsum("gab,kb->gka", M, nodes.z)
    fixed = problem.offset + problem.X @ q.beta
    eta = fixed[:, None] + np.einsum("na,nka->nk", mode.a0, u[first.codes])
    terms = evaluate(problem.obs, eta, q.phi)
    h = 0.5 * (u**2).sum(2) - group_sum(first.codes, first.n_levels, terms.l)
    logs = nodes.log_weight - h
    most = logs.max(axis=1)
    total = most + np.log(np.exp(logs - most[:, None]).sum(axis=1))
    value = 0.5 * r * np.log(np.pi) - np.linalg.slogdet(M)[1] - total
    return Evaluated(M, u, terms, np.exp(logs - total[:, None]), value)


def quadrature(
    problem: Problem, psi: Array, points: int, start: tuple[Array, Array] | None = None
) -> tuple[float, Array, Mode]:
    """-log L, its exact gradient and the modes at psi = (theta, beta, phi)."""
    q = split(problem, psi)
    mode = find_mode(problem, q, start)
    nodes = gauss_hermite(points, mode.a0.shape[1])
    at = evaluate_nodes(problem, q, mode, nodes)
    return float(at.value.sum()), _gradient(problem, q, mode, nodes, at), mode


@dataclass(frozen=True, slots=True)
class _Means:
    """Posterior means over nodes: l1 (N,), l1 u (N, r), dh (G, r) of h_u and dhz (G, r, r) of h_u z'."""

    l1: Array
    l1u: Array
    dh: Array
    dhz: Array


def _means(problem: Problem, mode: Mode, nodes: Nodes, at: Evaluated) -> _Means:
    first = problem.factors[0]
    share = at.share[first.codes] * at.terms.l1
    grad_h = at.u - group_sum(first.codes, first.n_levels, at.terms.l1[:, :, None] * mode.a0[:, None, :])
    weighted = at.share[:, :, None] * grad_h
    return _Means(
        share.sum(1),
        np.einsum("nk,nka->na", share, at.u[first.codes]),
        weighted.sum(1),
        np.einsum("gka,kb->gab", weighted, nodes.z),
    )


def _gradient(problem: Problem, q: Parameters, mode: Mode, nodes: Nodes, at: Evaluated) -> Array:
    """Explicit part plus the movement of modes and scales, one parameter at a time over all levels at once."""
    first, m = problem.factors[0], _means(problem, mode, nodes, at)
    rows, cols = free_entries(first.blocks)
    t, Z = mode.terms, first.Z
    out = []
    for a, b in zip(rows, cols, strict=True):
        da = np.zeros_like(mode.a0)
        da[:, b] = Z[:, a]
        deta = Z[:, a] * mode.u0[first.codes, b]
        explicit = -float(Z[:, a] @ m.l1u[:, b])
        pull = -t.l1[:, None] * da - (t.l2 * deta)[:, None] * mode.a0
        out.append(explicit + _movement(problem, mode, at, m, pull, deta, -t.l3, None, da))
    for j in range(problem.X.shape[1]):
        x = problem.X[:, j]
        pull = -(t.l2 * x)[:, None] * mode.a0
        out.append(-float(x @ m.l1) + _movement(problem, mode, at, m, pull, x, -t.l3, None, None))
    for k in range(q.phi.size):
        p0 = at.terms.p0[k]
        explicit = -float((at.share[first.codes] * p0).sum())
        pull = -t.p1[k][:, None] * mode.a0
        zero = np.zeros_like(mode.eta)
        out.append(explicit + _movement(problem, mode, at, m, pull, zero, -t.l3, -t.p2[k], None))
    return np.array(out)


def _movement(
    problem: Problem,
    mode: Mode,
    at: Evaluated,
    m: _Means,
    pull: Array,
    deta: Array,
    w1: Array,
    dw: Array | None,
    da: Array | None,
) -> float:
    """Effect of a parameter through u^ and L. pull (N, r): its row terms of h_u; deta (N,) explicit change of eta;

    w1 = dw/deta; dw (N,) explicit change of the weights; da (N, r) change of the rows of Z T.
    """
    first, a0 = problem.factors[0], mode.a0
    du = -np.einsum("gab,gb->ga", mode.Hinv0, group_sum(first.codes, first.n_levels, pull))
    weights = w1 * (deta + np.einsum("na,na->n", a0, du[first.codes]))
    weights = weights if dw is None else weights + dw
    rows = weights[:, None, None] * a0[:, :, None] * a0[:, None, :]
    if da is not None:
        mixed = -mode.terms.l2[:, None, None] * a0[:, :, None] * da[:, None, :]
        rows = rows + mixed + np.swapaxes(mixed, 1, 2)
    dH = group_sum(first.codes, first.n_levels, rows)
    inner = np.swapaxes(at.M, 1, 2) @ dH @ at.M
    lower = np.tril(inner, -1) + 0.5 * inner * np.eye(inner.shape[1])
    dM = -at.M @ np.swapaxes(lower, 1, 2)
    moved = float((m.dh * du).sum() + np.sqrt(2.0) * np.einsum("gab,gab->", dM, m.dhz))
    return moved + 0.5 * float(np.einsum("gaa->", inner))
