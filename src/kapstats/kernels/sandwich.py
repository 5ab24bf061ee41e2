"""Cluster-robust covariance of fixed effects: CR0 to CR3, and Satterthwaite df (Pustejovsky & Tipton 2018).

Everything in whitened coordinates: x_i = L_i^-1 X_i C with Sigma_i = L_i L_i' and Phi = C C', so the hat matrix of
cluster i is H_i = x_i x_i' and V = C (sum_i s_i s_i') C' with s_i = x_i'A_i L_i^-1 r_i,

    A_i = I (CR0, CR1), (I - H_i)^-1/2 (CR2), (I - H_i)^-1 (CR3).

x_i'f(H_i) = f(T_i) x_i' with T_i = x_i'x_i (q x q): no matrix is larger than q x q or k x k, and no N x N one exists.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kapstats.kernels.pattern_moments import Layout

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

KINDS = ("CR0", "CR1", "CR2", "CR3")


@dataclass(frozen=True, slots=True)
class Sandwich:
    """vcov (q, q); root C (q, q); clusters G; factor 1 or G / (G - 1); parts: batches of (t, f) with t = T_i-like and
    f the adjusted transposed rows, see `row_df`."""

    vcov: Floats
    root: Floats
    clusters: int
    factor: float
    parts: tuple[tuple[Floats, Floats], ...]


def sandwich(
    kind: str, z: Floats, beta: Floats, arranged: Layout, omega: Floats, root: Floats, weights: Floats | None = None,
    cluster: Ints | None = None,
) -> Sandwich:  # fmt: skip
    """Robust covariance from rows z (N, q + 1) = [X y].

    beta (q,), omega (P, m, m), root (q, q); weights (N,); cluster (n,) of each subject, default the subject itself.
    """
    white = [_white(z, beta, rows, omega[p], seen, root, weights) for p, (rows, seen) in _patterns(arranged)]
    if cluster is None:
        scores, parts = _by_subject(kind, white)
    else:
        scores, parts = _by_cluster(kind, white, arranged, cluster)
    g = len(scores)
    factor = g / (g - 1) if kind == "CR1" else 1.0
    inner = factor * scores.T @ scores
    return Sandwich(root @ inner @ root.T, root, g, factor, parts)


def _patterns(arranged: Layout) -> list[tuple[int, tuple[Ints, NDArray[np.bool_]]]]:
    return list(enumerate(zip(arranged.rows, arranged.seen, strict=True)))


def _white(
    z: Floats, beta: Floats, rows: Ints, omega: Floats, seen: NDArray[np.bool_], root: Floats, weights: Floats | None
) -> tuple[Floats, Floats]:
    """x (n_p, k, q) and whitened residuals (n_p, k) of one pattern."""
    own = omega[np.ix_(seen, seen)]
    flip = np.linalg.cholesky(own[::-1, ::-1])[::-1, ::-1]  # own = flip flip' with flip upper triangular
    block = z[rows] if weights is None else z[rows] * np.sqrt(weights[rows])[..., None]
    resid = block[..., -1] - block[..., :-1] @ beta
    return flip.T @ (block[..., :-1] @ root), resid @ flip


def _power(values: Floats, kind: str) -> Floats:
    """(1 - h)^-1/2 or (1 - h)^-1 of eigenvalues h of a hat matrix; zero where 1 - h is (Moore-Penrose)."""
    gap = 1.0 - values
    regular = gap > 1e-8
    exponent = {"CR0": 0.0, "CR1": 0.0, "CR2": -0.5, "CR3": -1.0}[kind]
    return np.where(regular, np.where(regular, gap, 1.0) ** exponent, 0.0 if exponent else 1.0)


def _by_subject(kind: str, white: list[tuple[Floats, Floats]]) -> tuple[Floats, tuple[tuple[Floats, Floats], ...]]:
    scores, parts = [], []
    for x, resid in white:
        adjusted = x
        if kind in ("CR2", "CR3"):
            values, vectors = np.linalg.eigh(x @ np.swapaxes(x, 1, 2))
            power = (vectors * _power(values, kind)[:, None, :]) @ np.swapaxes(vectors, 1, 2)
            adjusted = power @ x
        scores.append(np.einsum("nkq,nk->nq", adjusted, resid))
        parts.append((x, adjusted))
    return np.concatenate(scores), tuple(parts)


def _by_cluster(
    kind: str, white: list[tuple[Floats, Floats]], arranged: Layout, cluster: Ints
) -> tuple[Floats, tuple[tuple[Floats, Floats], ...]]:
    """Through T_i = x_i'x_i and u_i = x_i' resid, summed over the subjects of each cluster."""
    _, code = np.unique(cluster, return_inverse=True)
    q, g = white[0][0].shape[-1], int(code.max()) + 1
    t, u = np.zeros((g, q, q)), np.zeros((g, q))
    for (x, resid), who in zip(white, arranged.subjects, strict=True):
        np.add.at(t, code[who], np.swapaxes(x, 1, 2) @ x)
        np.add.at(u, code[who], np.einsum("nkq,nk->nq", x, resid))
    values, vectors = np.linalg.eigh(t)
    values = np.clip(values, 0.0, None)
    root = vectors * np.sqrt(values)[:, None, :]  # T = root root': root' plays the part of x
    f = (vectors * _power(values, kind)[:, None, :]) @ np.swapaxes(vectors, 1, 2)
    x = np.swapaxes(root, 1, 2)
    return np.einsum("gij,gj->gi", f, u), ((x, x @ f),)


def row_df(robust: Sandwich, rows: Floats) -> Floats:
    """Satterthwaite df of each contrast of `rows` (l, q), the fitted Sigma_i being the working covariance.

    With a_i = A_i x_i c, v_i = x_i'a_i, c = C'l: G_ij = [i = j] a_i'a_i - v_i'v_j, df = (sum_i G_ii)^2 / sum_ij G_ij^2.
    """
    c = rows @ robust.root
    out = np.empty(len(rows))
    for i, one in enumerate(c):
        norm, v = [], []
        for x, adjusted in robust.parts:
            a = adjusted @ one
            norm.append((a * a).sum(1))
            v.append(np.einsum("nkq,nk->nq", x, a))
        own, vectors = np.concatenate(norm), np.concatenate(v)
        inner = (vectors * vectors).sum(1)
        total = (own**2 - 2 * own * inner).sum() + ((vectors.T @ vectors) ** 2).sum()
        out[i] = (own - inner).sum() ** 2 / total if total > 0 else np.inf
    return out
