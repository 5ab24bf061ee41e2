"""Cross-products of a linear mixed model and the block-arrow elimination of its random effects.

Model, in units where the residual variance is one: ``y = X b + sum_t Z_t u_t + e``, ``u_t ~ N(0, I (x) G_t)``,
``G_t = T_t T_t'`` with ``T_t`` lower triangular. The factor with most random effects (factor 0) is eliminated level by
level (its part of Z'Z is block diagonal); the columns ``C = [Z_1 .. Z_k, X, y]`` of all others are kept dense.

With ``V0 = I + Z_0 G_0 Z_0'``: ``D = Z_0' V0^-1 Z_0`` (per level), ``F = Z_0' V0^-1 C``, ``S = C' V0^-1 C``. Every
further inner product is ``<a, b> - <a, C> K <C, b>`` for a small matrix ``K``, so no N x N array is ever formed, and
after `summarise` no cost depends on the number of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Factor:
    """A grouping factor with the random-effect columns of all terms on it.

    codes (N,) level of each row; n_levels; Z (N, r); blocks: sizes of the correlated blocks of columns, summing to r.
    """

    codes: Codes
    n_levels: int
    Z: Array
    blocks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a factor's effects stand: offset in C (factor 0: -1), n_levels, r; rows, cols (m,) free entries of T."""

    offset: int
    n_levels: int
    r: int
    rows: Codes
    cols: Codes


@dataclass(frozen=True, slots=True)
class Arrow:
    """Sufficient statistics. U patterns of Z_0'Z_0, L levels (or as many pseudo-levels), C = R + p + 1 columns.

    A (U, r, r) Z_0'Z_0 per pattern; count (U,) levels with it; B (L, r, C) Z_0'C per level; which (L,) its pattern;
    S0 (C, C) C'C; n_obs; n_fixed = p; layouts of factor 0 and of the others.
    """

    A: Array
    count: Array
    B: Array
    which: Codes
    S0: Array
    n_obs: int
    n_fixed: int
    layouts: tuple[Layout, ...]

    @property
    def n_rest(self) -> int:
        """R: the number of random effects outside factor 0."""
        return self.S0.shape[0] - self.n_fixed - 1


@dataclass(frozen=True, slots=True)
class Eliminated:
    """State at one T. D (U, r, r), F (L, r, C), S (C, C); K (R + p,)^2 with X eliminated, K_random without;

    coef (R + p,) random effects of the other factors, then fixed effects; log_random = log|V|,
    log_fixed = log|X'V^-1 X|; rss = y'Py.
    """

    D: Array
    F: Array
    S: Array
    K: Array
    K_random: Array
    coef: Array
    log_random: float
    log_fixed: float
    rss: float


def free_entries(blocks: Sequence[int]) -> tuple[Codes, Codes]:
    """Row and column of each free entry of a block-diagonal lower-triangular T, column by column within a block."""
    rows: list[int] = []
    cols: list[int] = []
    start = 0
    for size in blocks:
        for c in range(start, start + size):
            rows += range(c, start + size)
            cols += [c] * (start + size - c)
        start += size
    return np.array(rows, dtype=np.int64), np.array(cols, dtype=np.int64)


def summarise(
    X: Array,
    y: Array,
    factors: Sequence[Factor],
    weights: Array | None = None,
    *,
    compress: bool = True,
    rest: sparse.csr_matrix | None = None,
) -> Arrow:
    """The statistics of rows X (N, p), y (N,); `factors[0]` is eliminated level by level; precision `weights` (N,).

    compress=False keeps one row of B per level, in order (for the random effects themselves); rest (N, R): columns of
    the other factors where their rows are not one level each.
    """
    root = np.ones(y.size) if weights is None else np.sqrt(weights)
    if rest is None:
        rest = beside_first(factors, root)
    Xy = np.column_stack([X, y]) * root[:, None]
    first = factors[0]
    parts = [_grouped(first.codes, first.n_levels, first.Z[:, a] * root) for a in range(first.Z.shape[1])]
    A = np.stack([p @ (first.Z * root[:, None]) for p in parts], axis=1)
    B = np.stack([_beside(p, rest, Xy) for p in parts], axis=1)
    A, count, B, which = _merge_patterns(A, B, compress=compress and rest is None)
    return Arrow(A, count, B, which, _gram(rest, Xy), y.size, X.shape[1], _layouts(factors))


def beside_first(factors: Sequence[Factor], root: Array) -> sparse.csr_matrix | None:
    """Columns (N, R) of all factors but the first, rows scaled by `root`."""
    return sparse.hstack([incidence(f, root) for f in factors[1:]], format="csr") if len(factors) > 1 else None


def incidence(factor: Factor, root: Array) -> sparse.csr_matrix:
    """Sparse Z (N, n_levels * r) of a factor, rows scaled by `root`."""
    n, r = factor.Z.shape
    columns = (factor.codes[:, None] * r + np.arange(r)).ravel()
    data = (factor.Z * root[:, None]).ravel()
    return sparse.csr_matrix((data, columns, np.arange(0, n * r + 1, r)), shape=(n, factor.n_levels * r))


def _grouped(codes: Codes, n_levels: int, values: Array) -> sparse.csr_matrix:
    """Sparse (n_levels, N) with `values` at (codes[i], i)."""
    return sparse.csc_matrix((values, codes, np.arange(codes.size + 1)), shape=(n_levels, codes.size)).tocsr()


def _beside(part: sparse.csr_matrix, rest: sparse.csr_matrix | None, Xy: Array) -> Array:
    dense = np.asarray(part @ Xy)
    return dense if rest is None else np.hstack([(part @ rest).toarray(), dense])


def _gram(rest: sparse.csr_matrix | None, Xy: Array) -> Array:
    """C'C with C = [rest, X, y]."""
    own = Xy.T @ Xy
    if rest is None:
        return np.asarray(own)
    cross = np.asarray(rest.T @ Xy)
    return np.block([[(rest.T @ rest).toarray(), cross], [cross.T, own]])


def _layouts(factors: Sequence[Factor]) -> tuple[Layout, ...]:
    layouts, offset = [], -factors[0].n_levels * factors[0].Z.shape[1]
    for f in factors:
        layouts.append(Layout(offset, f.n_levels, f.Z.shape[1], *free_entries(f.blocks)))
        offset += f.n_levels * f.Z.shape[1]
    return tuple(layouts)


def _merge_patterns(A: Array, B: Array, *, compress: bool) -> tuple[Array, Array, Array, Codes]:
    """Levels with the same Z_0'Z_0 share it; their B are compressed to as many rows as a quadratic form can see.

    All later uses of B are sums over the levels of a pattern of (linear in vec B)(linear in vec B)', which a QR
    factor of the stacked vec(B) leaves unchanged.
    """
    n, r, c = B.shape
    scale = np.abs(A).max() or 1.0
    _, index, which = np.unique(np.round(A.reshape(n, -1) / scale, 11), axis=0, return_index=True, return_inverse=True)
    which = which.reshape(-1).astype(np.int64)
    count = np.bincount(which, minlength=index.size).astype(float)
    if not compress or np.minimum(count, r * c).sum() > 0.7 * n:
        return A[index], count, B, which
    order = np.argsort(which, kind="stable")
    pieces = np.split(B.reshape(n, r * c)[order], np.cumsum(count.astype(int))[:-1])
    small = [linalg.qr(p, mode="r", check_finite=False)[0][: r * c] if len(p) > r * c else p for p in pieces]
    which = np.repeat(np.arange(index.size), [len(p) for p in small])
    return A[index], count, np.vstack(small).reshape(-1, r, c), which


def inverse_triangle(A: Array, lower: bool = False) -> Array:
    """Inverse of a triangular (n, n) matrix; of none for n = 0, which SciPy 1.11 does not solve."""
    return linalg.solve_triangular(A, np.eye(len(A)), lower=lower, check_finite=False) if len(A) else A


def eliminate(arrow: Arrow, T: Sequence[Array]) -> Eliminated:
    """Eliminate all random and fixed effects at relative factors T[t] (r_t, r_t)."""
    D, F, S, log_first = _eliminate_first(arrow, T[0] @ T[0].T)
    R, p = arrow.n_rest, arrow.n_fixed
    H = scale_rest(arrow, T, scale_rest(arrow, T, S[:-1, :-1]).T)
    H[np.arange(R), np.arange(R)] += 1.0
    L = linalg.cholesky(H, lower=True, check_finite=False)
    half = scale_rest(arrow, [t.T for t in T], inverse_triangle(L, lower=True))
    z = half @ S[:-1, -1]
    K_random = np.zeros((R + p, R + p))
    if R:
        K_random[:R, :R] = half[:R, :R].T @ half[:R, :R]
    logs = 2.0 * np.log(np.diag(L))
    rss = float(S[-1, -1] - z @ z)
    return Eliminated(
        D, F, S, half.T @ half, K_random, half.T @ z, float(log_first + logs[:R].sum()), float(logs[R:].sum()), rss
    )


def _eliminate_first(arrow: Arrow, G: Array) -> tuple[Array, Array, Array, float]:
    """D = (I + A G)^-1 A, F = (I + A G)^-1 B, S = S0 - sum B' G F and log|I + A G| over all levels."""
    M = np.eye(G.shape[0]) + arrow.A @ G
    inverse = np.asarray(np.linalg.inv(M), dtype=np.float64)
    D = inverse @ arrow.A
    F = _times(inverse[arrow.which], arrow.B)
    c = arrow.S0.shape[0]
    flat = _times(G[None], arrow.B).reshape(-1, c)
    S = arrow.S0 - flat.T @ F.reshape(-1, c)
    log_first = float(arrow.count @ np.linalg.slogdet(M)[1])
    return 0.5 * (D + D.transpose(0, 2, 1)), F, 0.5 * (S + S.T), log_first


def _times(M: Array, B: Array) -> Array:
    """M (levels or 1, r, r) times B (levels, r, c)."""
    return np.asarray(M * B if B.shape[1] == 1 else M @ B)


def scale_rest(arrow: Arrow, T: Sequence[Array], M: Array) -> Array:
    """M (rows, R + p) times the block-diagonal factor of the other random effects (identity on X)."""
    out = M.copy()
    for layout, t in zip(arrow.layouts[1:], T[1:], strict=True):
        at = slice(layout.offset, layout.offset + layout.n_levels * layout.r)
        out[:, at] = (M[:, at].reshape(len(M), layout.n_levels, layout.r) @ t).reshape(len(M), -1)
    return out


def directions(arrow: Arrow) -> list[tuple[int, Array]]:
    """(factor, E): V_k = Z_t (I (x) E) Z_t', the derivative of V in each free entry of each G_t."""
    out = []
    for t, layout in enumerate(arrow.layouts):
        for a, b in zip(layout.rows, layout.cols, strict=True):
            E = np.zeros((layout.r, layout.r))
            E[a, b] = E[b, a] = 1.0
            out.append((t, E))
    return out


def block_diagonal_sums(arrow: Arrow, state: Eliminated, K: Array) -> list[Array]:
    """Per factor the sum over its levels of the diagonal blocks (r, r) of Z' N Z, N = V0^-1 - V0^-1 C K C' V0^-1."""
    F = state.F[:, :, :-1]
    flat = _flat(F)
    FK = (flat @ K).reshape(F.shape)
    r = range(F.shape[1])
    spread = np.array([[np.vdot(FK[:, a], F[:, b]) for b in r] for a in r])
    sums = [np.einsum("u,uab->ab", arrow.count, state.D) - spread]
    if arrow.n_rest:
        N = rest_inner(arrow, state, K)
        sums += [np.einsum("lalb->ab", blocks(layout, N)) for layout in arrow.layouts[1:]]
    return sums


def _flat(F: Array) -> Array:
    """(levels, r, c) as rows (levels r, c), also without columns."""
    return F.reshape(F.shape[0] * F.shape[1], F.shape[2])


def rest_inner(arrow: Arrow, state: Eliminated, K: Array) -> Array:
    """Z_R' N Z_R (R, R)."""
    R = arrow.n_rest
    cross = state.S[:R, :-1]
    return np.asarray(state.S[:R, :R] - cross @ K @ cross.T)


def blocks(layout: Layout, N: Array, other: Layout | None = None) -> Array:
    """View of an (R, R) array as (levels, r, levels', r') for one factor, or one factor by another."""
    other = layout if other is None else other
    i = slice(layout.offset, layout.offset + layout.n_levels * layout.r)
    j = slice(other.offset, other.offset + other.n_levels * other.r)
    return N[i, j].reshape(layout.n_levels, layout.r, other.n_levels, other.r)


def traces(arrow: Arrow, state: Eliminated, K: Array) -> tuple[Array, Array]:
    """tr(N V_k) (k,) and tr(N V_j N V_k) (k, k) over `directions`."""
    params = directions(arrow)
    sums = block_diagonal_sums(arrow, state, K)
    first = np.array([np.sum(sums[t] * E) for t, E in params])
    own = [E for t, E in params if t == 0]
    F = state.F[:, :, :-1]
    phi = [np.einsum("lac,lad->cd", np.einsum("ab,lbc->lac", E, F), F, optimize=True) for E in own]
    m0, m = len(own), len(params)
    second = np.empty((m, m))
    second[:m0, :m0] = _traces_first(arrow, state, K, own, phi)
    if arrow.n_rest:
        second[:m0, m0:] = _traces_mixed(arrow, state, K, phi, params[m0:])
        second[m0:, :m0] = second[:m0, m0:].T
        second[m0:, m0:] = _traces_rest(arrow, rest_inner(arrow, state, K), params[m0:])
    return first, second


def _traces_first(arrow: Arrow, state: Eliminated, K: Array, own: list[Array], phi: list[Array]) -> Array:
    """tr over pairs of levels of factor 0, whose inner products are D_l on the diagonal minus F_l K F_m'."""
    F = state.F[:, :, :-1]
    per_level = np.einsum("lac,lbc->lab", (_flat(F) @ K).reshape(F.shape), F, optimize=True)
    omega = np.zeros_like(state.D)
    np.add.at(omega, arrow.which, per_level)
    heavy = arrow.count[:, None, None] * state.D - 2.0 * omega
    DE = [state.D @ E for E in own]
    kphi = [K @ f for f in phi]
    out = np.empty((len(own), len(own)))
    for j in range(len(own)):
        for k in range(j + 1):
            local = np.einsum("uab,uba->", own[j] @ DE[k], heavy, optimize=True)
            out[j, k] = out[k, j] = local + np.sum(kphi[j] * kphi[k].T)
    return 0.5 * (out + out.T)


def _traces_mixed(
    arrow: Arrow, state: Eliminated, K: Array, phi: list[Array], others: list[tuple[int, Array]]
) -> Array:
    """tr between factor 0 and the others: Z_0' N Z_R = F M with M = I - K C'V0^-1 Z_R."""
    R = arrow.n_rest
    M = -K @ state.S[:-1, :R]
    M[np.arange(R), np.arange(R)] += 1.0
    out = np.empty((len(phi), len(others)))
    for j, f in enumerate(phi):
        N = M.T @ f @ M
        out[j] = [np.sum(np.einsum("lalb->ab", blocks(arrow.layouts[t], N)) * E) for t, E in others]
    return out


def _traces_rest(arrow: Arrow, N: Array, others: list[tuple[int, Array]]) -> Array:
    out = np.empty((len(others), len(others)))
    for j, (t, E) in enumerate(others):
        for k, (s, H) in enumerate(others[: j + 1]):
            block = blocks(arrow.layouts[t], N, arrow.layouts[s])
            out[j, k] = out[k, j] = np.einsum("xayb,ac,xcyd,db->", block, E, block, H, optimize=True)
    return out


def crossings(arrow: Arrow, state: Eliminated, K: Array, columns: Array) -> tuple[Array, Array]:
    """W'V_k W (k, m, m) and W'V_j N V_k W (k, k, m, m) for W = V0^-1 C columns, `columns` (C, m)."""
    R = arrow.n_rest
    W0, WR = state.F @ columns, state.S[:R] @ columns
    params = directions(arrow)
    lifted = [_lift(arrow, state, t, E, W0, WR) for t, E in params]
    m = len(params)
    first = np.empty((m, columns.shape[1], columns.shape[1]))
    second = np.empty((m, m, *first.shape[1:]))
    for j, a in enumerate(lifted):
        W = W0 if a.first else WR
        columns_of = _flat if a.first else np.asarray
        first[j] = columns_of(W).T @ columns_of(a.effects)
        for k, b in enumerate(lifted[: j + 1]):
            second[j, k] = _bilinear(R, a, b) - a.cross.T @ K @ b.cross
            second[k, j] = second[j, k].T
    return first, second


@dataclass(frozen=True, slots=True)
class _Lifted:
    """(I (x) E) W on one factor (first: factor 0): effects; image D effects on factor 0; cross C'V0^-1 Z effects."""

    first: bool
    effects: Array
    image: Array
    cross: Array


def _lift(arrow: Arrow, state: Eliminated, t: int, E: Array, W0: Array, WR: Array) -> _Lifted:
    if t == 0:
        y0 = np.einsum("ab,lbm->lam", E, W0)
        F = state.F[:, :, :-1]
        cross = _flat(F).T @ _flat(y0)
        return _Lifted(True, y0, state.D[arrow.which] @ y0, cross)
    layout, yr = arrow.layouts[t], np.zeros_like(WR)
    at = slice(layout.offset, layout.offset + layout.n_levels * layout.r)
    block = WR[at].reshape(layout.n_levels, layout.r, -1)
    yr[at] = np.einsum("ab,lbm->lam", E, block).reshape(-1, WR.shape[1])
    return _Lifted(False, yr, yr, state.S[:-1, : arrow.n_rest] @ yr)


def _bilinear(R: int, a: _Lifted, b: _Lifted) -> Array:
    """a'<Z, Z> b before K is taken off."""
    if a.first and b.first:
        return np.asarray(_flat(a.effects).T @ _flat(b.image))
    if b.first:
        return np.asarray(a.effects.T @ b.cross[:R])
    return np.asarray(a.cross[:R].T @ b.effects)
