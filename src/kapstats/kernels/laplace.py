"""Laplace approximation of a generalised linear mixed model, with its exact gradient.

``h(u) = -sum l(eta_i) + |u|^2 / 2``, ``eta = o + X b + sum_t Z_t T_t u_t``;
``-log L = h(u^) + log|H| / 2`` with H = h''(u^).
Factor 0 is eliminated level by level, the other random effects are dense (the block-arrow of `block_arrow`).
The weights are the observed ones (-l''), as in TMB and SAS GLIMMIX; for canonical links they are the expected ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse

from kapstats.kernels.block_arrow import Factor, free_entries, incidence
from kapstats.kernels.families import Observations, Terms, evaluate

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Problem:
    """obs; X (N, p); offset (N,); factors (factor 0 eliminated level by level)."""

    obs: Observations
    X: Array
    offset: Array
    factors: tuple[Factor, ...]

    @property
    def n_theta(self) -> int:
        """Number of free entries of all T_t."""
        return sum(free_entries(f.blocks)[0].size for f in self.factors)

    @property
    def n_rest(self) -> int:
        """Number of random effects outside factor 0."""
        return sum(f.n_levels * f.Z.shape[1] for f in self.factors[1:])


@dataclass(frozen=True, slots=True)
class Parameters:
    """T per factor, beta (p,), phi (m,)."""

    T: tuple[Array, ...]
    beta: Array
    phi: Array


@dataclass(frozen=True, slots=True)
class Mode:
    """Spherical modes u0 (n0, r0), uR (R,); eta (N,); terms at it; a0 (N, r0) = Z_0 T_0 rows; AR sparse (N, R) or None;

    Hinv0 (n0, r0, r0) inverse blocks of factor 0 alone; J (n0, r0, R) = Hinv0 B; SRinv (R, R); logdet log|H|.
    """

    u0: Array
    uR: Array
    eta: Array
    terms: Terms
    a0: Array
    AR: sparse.csr_matrix | None
    Hinv0: Array
    J: Array
    SRinv: Array
    logdet: float
    converged: bool


def split(problem: Problem, psi: Array) -> Parameters:
    """psi = (theta, beta, phi) as matrices and vectors."""
    T, at = [], 0
    for f in problem.factors:
        rows, cols = free_entries(f.blocks)
        t = np.zeros((f.Z.shape[1],) * 2)
        t[rows, cols] = psi[at : at + rows.size]
        T.append(t)
        at += rows.size
    p = problem.X.shape[1]
    return Parameters(tuple(T), psi[at : at + p], psi[at + p :])


def group_sum(codes: Codes, n: int, values: Array) -> Array:
    """Sums over levels of values (N, ...)."""
    flat = values.reshape(len(values), -1)
    out = np.empty((n, flat.shape[1]))
    for j in range(flat.shape[1]):
        out[:, j] = np.bincount(codes, flat[:, j], n)
    return out.reshape(n, *values.shape[1:])


@dataclass(frozen=True, slots=True)
class _Design:
    """What stays fixed while the mode is sought: fixed (N,) = o + X b, a0 (N, r0), AR sparse (N, R), phi."""

    fixed: Array
    a0: Array
    AR: sparse.csr_matrix | None
    phi: Array


@dataclass(frozen=True, slots=True)
class _Point:
    """Effects with eta and terms at them; value (n0,) share of each level of factor 0 in h; total h."""

    u0: Array
    uR: Array
    eta: Array
    terms: Terms
    value: Array
    total: float


def find_mode(problem: Problem, q: Parameters, start: tuple[Array, Array] | None = None) -> Mode:
    """Newton's method with step halving (h is convex for log-concave families); `start` modes of a nearby parameter."""
    first = problem.factors[0]
    d = _Design(problem.offset + problem.X @ q.beta, first.Z @ q.T[0], _rest_incidence(problem, q), q.phi)
    zero = np.zeros((first.n_levels, first.Z.shape[1])), np.zeros(problem.n_rest)
    at = _point(problem, d, *(zero if start is None else start))
    converged = False
    for _ in range(100):
        step0, stepR, decrement = _newton(problem, d, at)
        if not np.isfinite(decrement):
            break
        at = _line_search(problem, d, at, step0, stepR)
        converged = decrement < 1e-11
        if converged:
            break
    return _factorised(problem, d, at, converged)


def _point(problem: Problem, d: _Design, u0: Array, uR: Array) -> _Point:
    first = problem.factors[0]
    eta = d.fixed + np.einsum("na,na->n", d.a0, u0[first.codes])
    eta = eta if d.AR is None else eta + d.AR @ uR
    terms = evaluate(problem.obs, eta, d.phi)
    l = np.where(np.isfinite(terms.l), terms.l, -1e300)
    value = np.asarray(0.5 * (u0**2).sum(1) - np.bincount(first.codes, l, first.n_levels))
    return _Point(u0, uR, eta, terms, value, float(value.sum() + 0.5 * uR @ uR))


def _line_search(problem: Problem, d: _Design, at: _Point, step0: Array, stepR: Array) -> _Point:
    """Halve the step where h rises: level by level when levels are independent, else as a whole."""
    alone = problem.n_rest == 0
    for _ in range(25):
        trial = _point(problem, d, at.u0 + step0, at.uR + stepR)
        worse = trial.value > at.value + 1e-10 * (1.0 + np.abs(at.value))
        if not alone:
            worse[:] = trial.total > at.total + 1e-10 * (1.0 + abs(at.total))
        if not worse.any():
            break
        step0, stepR = np.where(worse[:, None], step0 / 2.0, step0), stepR / 2.0
    return trial


def _rest_incidence(problem: Problem, q: Parameters) -> sparse.csr_matrix | None:
    if len(problem.factors) == 1:
        return None
    one = np.ones(problem.offset.size)
    parts = [
        incidence(Factor(f.codes, f.n_levels, f.Z @ t, f.blocks), one)
        for f, t in zip(problem.factors[1:], q.T[1:], strict=True)
    ]
    return sparse.hstack(parts, format="csr")


def _hessian_blocks(
    problem: Problem, a0: Array, AR: sparse.csr_matrix | None, terms: Terms
) -> tuple[Array, Array, Array]:
    """H of factor 0 (n0, r0, r0), its coupling B (n0, r0, R) and H of the other effects (R, R)."""
    first = problem.factors[0]
    n0, r0, R = first.n_levels, a0.shape[1], problem.n_rest
    w = -terms.l2
    H0 = group_sum(first.codes, n0, w[:, None, None] * a0[:, :, None] * a0[:, None, :]) + np.eye(r0)
    if AR is None:
        return H0, np.zeros((n0, r0, 0)), np.zeros((0, 0))
    member = [
        sparse.csc_matrix((w * a0[:, a], first.codes, np.arange(w.size + 1)), shape=(n0, w.size)).tocsr()
        for a in range(r0)
    ]
    B = np.stack([(m @ AR).toarray() for m in member], axis=1)
    HR = (AR.T @ AR.multiply(w[:, None]).tocsr()).toarray() + np.eye(R)
    return H0, B, HR


def _newton(problem: Problem, d: _Design, at: _Point) -> tuple[Array, Array, float]:
    """Newton step of (u0, uR) and the decrement g'H^-1 g."""
    first = problem.factors[0]
    g0 = at.u0 - group_sum(first.codes, first.n_levels, at.terms.l1[:, None] * d.a0)
    H0, B, HR = _hessian_blocks(problem, d.a0, d.AR, at.terms)
    step0 = -np.asarray(np.linalg.solve(H0, g0[:, :, None]), dtype=np.float64)[:, :, 0]
    if d.AR is None:
        return step0, np.zeros(0), float(-(g0 * step0).sum())
    gR = at.uR - d.AR.T @ at.terms.l1
    J = np.asarray(np.linalg.solve(H0, B), dtype=np.float64)
    SR = HR - np.einsum("lac,lad->cd", B, J, optimize=True)
    stepR = -linalg.solve(SR, gR + np.einsum("lac,la->c", B, step0), assume_a="pos")
    step0 = step0 - np.einsum("lac,c->la", J, stepR)
    return step0, stepR, float(-(g0 * step0).sum() - gR @ stepR)


def _factorised(problem: Problem, d: _Design, at: _Point, converged: bool) -> Mode:
    H0, B, HR = _hessian_blocks(problem, d.a0, d.AR, at.terms)
    Hinv0 = np.asarray(np.linalg.inv(H0), dtype=np.float64)
    logdet = float(np.linalg.slogdet(H0)[1].sum())
    J = Hinv0 @ B
    SRinv = HR
    if d.AR is not None:
        L = linalg.cholesky(HR - np.einsum("lac,lad->cd", B, J, optimize=True), lower=True)
        logdet += 2.0 * float(np.log(np.diag(L)).sum())
        SRinv = linalg.cho_solve((L, True), np.eye(len(L)))
    return Mode(at.u0, at.uR, at.eta, at.terms, d.a0, d.AR, Hinv0, J, SRinv, logdet, converged)


def objective(mode: Mode) -> float:
    """-log L (Laplace)."""
    h = 0.5 * float((mode.u0**2).sum() + mode.uR @ mode.uR) - float(mode.terms.l.sum())
    return h + 0.5 * mode.logdet


def row_solutions(problem: Problem, q: Parameters, mode: Mode) -> list[Array]:
    """Per factor the rows (N, r_t) of H^-1 a_i at the level of row i; a_i = row i of Z T over all factors."""
    first = problem.factors[0]
    if mode.AR is None:
        return [np.einsum("nab,nb->na", mode.Hinv0[first.codes], mode.a0)]
    rest = [(f.Z @ t, _columns(problem, k)) for k, (f, t) in enumerate(zip(problem.factors, q.T, strict=True)) if k]
    U = mode.J @ mode.SRinv
    own = mode.Hinv0 + np.einsum("lac,lbc->lab", U, mode.J, optimize=True)
    y0 = np.einsum("nab,nb->na", own[first.codes], mode.a0)
    out = []
    for a, columns in rest:
        coupling = -U[first.codes[:, None], :, columns]
        y0 += np.einsum("nba,nb->na", coupling, a)
        y = np.einsum("nba,na->nb", coupling, mode.a0)
        for b, other in rest:
            y += np.einsum("nab,nb->na", mode.SRinv[columns[:, :, None], other[:, None, :]], b)
        out.append(y)
    return [y0, *out]


def _columns(problem: Problem, k: int) -> Codes:
    """Positions (N, r_k) among the R other effects of the level of each row on factor k."""
    offset = sum(f.n_levels * f.Z.shape[1] for f in problem.factors[1:k])
    f = problem.factors[k]
    return np.asarray(offset + f.codes[:, None] * f.Z.shape[1] + np.arange(f.Z.shape[1]), dtype=np.int64)


def solve(problem: Problem, mode: Mode, right: Array) -> tuple[Array, Array]:
    """H^-1 (ZT)' right for right (N,): parts on factor 0 (n0, r0) and on the others (R,)."""
    first = problem.factors[0]
    b0 = group_sum(first.codes, first.n_levels, right[:, None] * mode.a0)
    x0 = np.einsum("lab,lb->la", mode.Hinv0, b0)
    if mode.AR is None:
        return x0, mode.uR
    xR = mode.SRinv @ (mode.AR.T @ right - np.einsum("lac,la->c", mode.J, b0))
    return x0 - np.einsum("lac,c->la", mode.J, xR), xR


def gradient(problem: Problem, q: Parameters, mode: Mode) -> Array:
    """Exact gradient of `objective` in (theta, beta, phi), through the mode and the weights."""
    first, t = problem.factors[0], mode.terms
    y = row_solutions(problem, q, mode)
    a = [f.Z @ T for f, T in zip(problem.factors, q.T, strict=True)]
    leverage = np.sum([np.einsum("na,na->n", p, r) for p, r in zip(a, y, strict=True)], axis=0)
    s = -0.5 * leverage * t.l3
    c0, cR = solve(problem, mode, s)
    zc = np.einsum("na,na->n", mode.a0, c0[first.codes])
    if mode.AR is not None:
        zc = zc + mode.AR @ cR
    slope = s + t.l2 * zc - t.l1
    parts = []
    for k, f in enumerate(problem.factors):
        rows, cols = free_entries(f.blocks)
        u = mode.u0[f.codes] if k == 0 else mode.uR[_columns(problem, k)]
        c = c0[f.codes] if k == 0 else cR[_columns(problem, k)]
        right = slope[:, None] * u - t.l2[:, None] * y[k] + t.l1[:, None] * c
        parts.append((f.Z.T @ right)[rows, cols])
    phi = -t.p0.sum(1) - 0.5 * t.p2 @ leverage + t.p1 @ zc
    return np.concatenate([*parts, problem.X.T @ slope, phi])


def laplace(problem: Problem, psi: Array, start: tuple[Array, Array] | None = None) -> tuple[float, Array, Mode]:
    """-log L, its gradient and the mode at psi."""
    q = split(problem, psi)
    mode = find_mode(problem, q, start)
    return objective(mode), gradient(problem, q, mode), mode


def thetas(factors: Sequence[Factor]) -> tuple[Codes, Codes]:
    """Whether each entry of theta is diagonal, and its factor."""
    diagonal, which = [], []
    for k, f in enumerate(factors):
        rows, cols = free_entries(f.blocks)
        diagonal.append((rows == cols).astype(np.int64))
        which.append(np.full(rows.size, k))
    return np.concatenate(diagonal), np.concatenate(which)
