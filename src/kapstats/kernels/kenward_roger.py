"""Small-sample inference on contrasts of a Gaussian model: Kenward-Roger (1997) and Satterthwaite.

Letters as in the paper: Phi = (X'O X)^-1, P_j = -X'O D_j O X, Q_jk = X'O D_j O D_k O X, R_jk = X'O D_jk O X, W the
covariance of theta, and

    Phi_A = Phi + 2 Phi { sum_jk W_jk (Q_jk - P_j Phi P_k - R_jk / 4) } Phi.

Phi = C C' throughout, and `scaled` holds C'P_j C, so that a contrast enters only as L C.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kapstats.kernels.pattern_moments import PatternMoments, weighted_sum

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Moments:
    """A (l, q) hypothesis: numerator df l, denominator df m, scale lambda of the Wald F (1 unless Kenward-Roger)."""

    num_df: int
    df: float
    scale: float


def adjusted(
    stats: PatternMoments, omega: Floats, root: Floats, scaled: Floats, w: Floats, jac: Floats, curvature: Floats | None
) -> Floats:
    """Phi_A (B, q, q).

    omega (B, P, m, m), root C (B, q, q), scaled C'P_j C (B, r, q, q), w (B, r, r), jac dSigma (B, r, blocks, m, m),
    curvature sum_jk W_jk d2Sigma_jk (B, blocks, m, m), None where the second derivatives are zero or dropped.
    NaN where w is NaN.
    """
    values, vectors = np.linalg.eigh(np.nan_to_num(w))
    half = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]  # w = half half'
    turned = np.einsum("bjl,bjxst->blxst", half, jac, optimize=True)[:, :, stats.block]
    middle = np.einsum("blpst,bptu,blpuv->bpsv", turned, omega, turned, optimize=True)
    if curvature is not None:
        middle = middle - curvature[:, stats.block] / 4
    q = root.shape[-1]
    inner = weighted_sum(stats, (omega @ middle @ omega)[:, None])[:, 0, :q, :q]
    c_inner = np.swapaxes(root, 1, 2) @ inner @ root
    p = np.einsum("bjl,bjcd->blcd", half, scaled, optimize=True)
    delta = 2 * (c_inner - (p @ p).sum(1))
    out = root @ (np.eye(q) + delta) @ np.swapaxes(root, 1, 2)
    finite = np.asarray(np.isfinite(w).all((1, 2)))
    return np.where(finite[:, None, None], out, np.nan)


def contracted_curvature(second: Floats | None, w: Floats) -> Floats | None:
    """sum_jk W_jk d2Sigma_jk (B, blocks, m, m)."""
    return None if second is None else np.einsum("bjk,bjkxst->bxst", np.nan_to_num(w), second, optimize=True)


def variance_gradient(lc: Floats, scaled: Floats) -> Floats:
    """-d(l'Phi l)/dtheta_j up to sign: l'Phi P_j Phi l. lc (B, rows, q) = L C, scaled (B, r, q, q) -> (B, rows, r)."""
    return np.einsum("bri,bjik,brk->brj", lc, scaled, lc, optimize=True)


def row_df(lc: Floats, scaled: Floats, w: Floats) -> Floats:
    """Satterthwaite df of every row of L (B, rows): 2 (l'Phi l)^2 / Var(l'Phi l); Kenward-Roger's is the same.

    inf where the variance of the variance is zero.
    """
    a = variance_gradient(lc, scaled)
    with np.errstate(divide="ignore", invalid="ignore"):
        return 2 * (lc**2).sum(-1) ** 2 / np.einsum("brj,bjk,brk->br", a, w, a)


def kenward_roger(lc: Floats, scaled: Floats, w: Floats) -> Moments:
    """Denominator df and scale of the joint test of l rows of full rank, lc (l, q), scaled (r, q, q), w (r, r)."""
    rows = len(lc)
    unit = np.linalg.solve(np.linalg.cholesky(lc @ lc.T), lc)
    v = unit @ scaled @ unit.T
    trace = np.einsum("jss->j", v)
    a1 = float(trace @ w @ trace)
    a2 = float(np.einsum("jk,jst,kts->", w, v, v, optimize=True))
    if not np.isfinite(a2):
        return Moments(rows, np.nan, np.nan)
    if a2 <= 0.0:
        return Moments(rows, np.inf, 1.0)
    return _moments(rows, a1, a2)


def _moments(rows: int, a1: float, a2: float) -> Moments:
    """Kenward & Roger's match of mean and variance of F (their section 4); NaN where it gives no valid distribution."""
    b = (a1 + 6 * a2) / (2 * rows)
    g = ((rows + 1) * a1 - (rows + 4) * a2) / ((rows + 2) * a2)
    d = 3 * rows + 2 * (1 - g)
    c1, c2, c3 = g / d, (rows - g) / d, (rows + 2 - g) / d
    if a2 >= rows:
        return Moments(rows, np.nan, np.nan)
    e = 1 / (1 - a2 / rows)
    v = (2 / rows) * (1 + c1 * b) / ((1 - c2 * b) ** 2 * (1 - c3 * b))
    rho = v / (2 * e * e)
    m = 4 + (rows + 2) / (rows * rho - 1)
    if not m > 2:
        return Moments(rows, np.nan, np.nan)
    return Moments(rows, float(m), float(m / (e * (m - 2))))


def fai_cornelius(df: Floats) -> float:
    """Denominator df of a joint test from the df (l,) of its orthogonal rows: 2 E / (E - l), E = sum df / (df - 2).

    As R lmerTest and mmrm: the common df when they agree, 2 when one of them is at most 2.
    """
    rows = len(df)
    if not np.all(np.isfinite(df)):
        return float("inf") if np.all(np.isinf(df)) else _mixed(df)
    if np.ptp(df) < 1e-8 * np.abs(df).max():
        return float(df.mean())
    if np.any(df <= 2):
        return 2.0
    e = float((df / (df - 2)).sum())
    return 2 * e / (e - rows)


def _mixed(df: Floats) -> float:
    if np.any(np.isnan(df)):
        return float("nan")
    if np.any(df <= 2):
        return 2.0
    finite = df[np.isfinite(df)]
    e = float((finite / (finite - 2)).sum()) + len(df) - len(finite)
    return 2 * e / (e - len(df)) if e > len(df) else float("inf")
