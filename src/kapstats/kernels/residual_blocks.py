"""Rows of subjects whose residuals share a covariance: whitening, and the likelihood's gradient in that covariance.

Sigma (blocks, m, m); a subject of pattern p has residual covariance Sigma[block_p] over the visits it was seen at.
Whitened rows have independent residuals, so the elimination of `block_arrow` applies to them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import sparse

from kapstats.kernels.block_arrow import Arrow, Eliminated, Factor
from kapstats.kernels.pattern_moments import Layout
from kapstats.kernels.random_effects_fit import degrees

Array = npt.NDArray[np.float64]


def roots(arranged: Layout, sigma: Array) -> list[Array]:
    """Lower Cholesky factor (k_p, k_p) of the covariance of every pattern."""
    return [
        np.asarray(np.linalg.cholesky(sigma[block][np.ix_(seen, seen)]), dtype=np.float64)
        for block, seen in zip(arranged.block, arranged.seen, strict=True)
    ]


def whitener(arranged: Layout, factors: Sequence[Array]) -> tuple[sparse.csr_matrix, float]:
    """L^-1 of every subject at its rows as one sparse (N, N) matrix, and log|Sigma| summed over subjects."""
    rows, columns, values, logdet = [], [], [], 0.0
    for at, L in zip(arranged.rows, factors, strict=True):
        s, t = np.tril_indices(len(L))
        inverse = np.linalg.solve(L, np.eye(len(L)))
        rows.append(at[:, s].ravel())
        columns.append(at[:, t].ravel())
        values.append(np.tile(inverse[s, t], len(at)))
        logdet += 2 * len(at) * float(np.log(np.diag(L)).sum())
    n = sum(at.size for at in arranged.rows)
    place = (np.concatenate(rows), np.concatenate(columns))
    return sparse.csr_matrix((np.concatenate(values), place), shape=(n, n)), logdet


def gradient_in_sigma(
    arrow: Arrow, state: Eliminated, T: Sequence[Array], reml: bool, arranged: Layout, factors: Sequence[Array],
    first: Factor, C: Array, n_blocks: int,
) -> Array:  # fmt: skip
    """d(-2 l) / dSigma (blocks, m, m), the residual variance profiled: tr(G dSigma) is the change of -2 l.

    arrow: statistics with one row of B per level (compress=False); first, C (N, R + p + 1): the whitened factor 0 and
    all other columns. Per subject it is L^-T (N_ii - e_i e_i' / s2) L^-1, N = P (REML) or V^-1 (ML), e = Py.
    """
    G = T[0] @ T[0].T
    H = G - G @ state.D @ G
    W = C - np.einsum("na,ab,nbc->nc", first.Z, G, state.F[first.codes], optimize=True)
    K = state.K if reml else state.K_random
    s2 = state.rss / degrees(arrow, reml)
    e = W @ np.append(-state.coef, 1.0) / np.sqrt(s2)
    m = arranged.seen.shape[1]
    out = np.zeros((n_blocks, m, m))
    for at, L, block, seen in zip(arranged.rows, factors, arranged.block, arranged.seen, strict=True):
        Z, w = first.Z[at], W[at][:, :, :-1]
        inner = H[arrow.which[first.codes[at[:, 0]]]]
        own = len(at) * np.eye(len(L)) - np.einsum("nsa,nab,ntb->st", Z, inner, Z, optimize=True)
        own -= np.einsum("nsc,ntc->st", w @ K, w, optimize=True) + e[at].T @ e[at]
        half = np.linalg.solve(L.T, own)
        out[np.ix_([block], seen, seen)] += np.linalg.solve(L.T, half.T).T[None]
    return out
