"""What Satterthwaite and Kenward-Roger inference need of a linear mixed model, without any N x N array.

Natural parameters: the entries of the covariances of the random effects and the residual variance, in which V is
linear (so Kenward & Roger's R_jk = 0, as in R pbkrtest). With A = X'V^-1 X = Phi^-1: P_j = X'V^-1 V_j V^-1 X (the
paper's P_j is its negative), Q_jk = X'V^-1 V_j V^-1 V_k V^-1 X, expected information tr(PV_jPV_k)/2 (REML). The
residual direction follows from V = V_0 + sum_k G_k V_k (residual variance one), so it needs no products of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kapstats.kernels.block_arrow import Arrow, Eliminated, crossings, traces
from kapstats.kernels.random_effects_fit import (
    degrees,
    natural_hessian,
    pack,
    scaled_chain,
    theta_hessian,
    with_residual,
)

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class VarianceDerivatives:
    """In units of the residual variance: Phi (p, p); root C (p, p), Phi = CC'; P (k, p, p), Q (k, k, p, p) over natural
    parameters (residual last); expected and observed (k, k): halves of the (Hessian of -2 l)."""

    Phi: Array
    root: Array
    P: Array
    Q: Array
    expected: Array
    observed: Array


@dataclass(frozen=True, slots=True)
class SmallSample:
    """scaled (r, p, p) = C'P_jC in some parameters, w (r, r) their covariance, vcov (p, p) of the fixed effects."""

    scaled: Array
    w: Array
    vcov: Array


def derivatives(arrow: Arrow, state: Eliminated, T: Sequence[Array], reml: bool) -> VarianceDerivatives:
    """Phi, P, Q and both informations of a fit in units of its residual variance."""
    R, p = arrow.n_rest, arrow.n_fixed
    K, S = state.K_random, state.S
    columns = np.zeros((S.shape[0], p))
    columns[R : R + p] = np.eye(p)
    columns[: R + p] -= K @ S[:-1, R : R + p]
    A = S[R : R + p, R : R + p] - S[R : R + p, :-1] @ K @ S[:-1, R : R + p]
    A = 0.5 * (A + A.T)
    G = pack(arrow, [t @ t.T for t in T])
    P, Q = with_residual(G, A, *crossings(arrow, state, K, columns))
    root = np.linalg.inv(np.linalg.cholesky(A)).T
    total = np.asarray(float(degrees(arrow, reml)))
    _, t2 = with_residual(G, total, *traces(arrow, state, state.K if reml else K))
    _, H = natural_hessian(arrow, state, T, reml)
    return VarianceDerivatives(root @ root.T, root, P, Q, 0.5 * t2, 0.5 * H)


def satterthwaite(
    arrow: Arrow, state: Eliminated, T: Sequence[Array], reml: bool, d: VarianceDerivatives
) -> SmallSample:
    """Observed information in (theta, residual variance), as R lmerTest; directions with no curvature are left out.

    In theta = entries of T_t a variance that is estimated as zero has derivative zero, so it leaves by itself.
    """
    J = scaled_chain(arrow, T)
    _, H = theta_hessian(arrow, state, T, reml)
    scaled = np.einsum("km,kij->mij", J, d.root.T @ d.P @ d.root, optimize=True)
    return SmallSample(scaled, 2.0 * pseudo_inverse(H), d.Phi)


def kenward_roger(d: VarianceDerivatives, information: str) -> SmallSample:
    """Adjusted covariance Phi_A and the ingredients of Kenward & Roger's df; NaN when W is not positive definite.

    Parameters that repeat each other (an intercept beside one effect per level of a factor) are no such case: along
    sum_j c_j V_j = 0 neither the information nor Phi changes, and any generalised inverse gives the same answer.
    """
    scaled = d.root.T @ d.P @ d.root
    w = positive_inverse(d.observed if information == "observed" else d.expected, scaled)
    middle = np.einsum("jk,jkab->ab", w, d.Q, optimize=True)
    inner = np.einsum("jk,jab,kbc->ac", w, scaled, scaled, optimize=True)
    adjusted = d.Phi + 2.0 * (d.Phi @ middle @ d.Phi - d.root @ inner @ d.root.T)
    return SmallSample(scaled, w, 0.5 * (adjusted + adjusted.T))


def pseudo_inverse(H: Array, tolerance: float = 1e-8) -> Array:
    """Inverse on the eigenvectors with eigenvalues above `tolerance` of the largest (scaled to unit diagonal)."""
    scale = np.sqrt(np.maximum(np.abs(np.diag(H)), 1e-300))
    values, vectors = np.linalg.eigh(0.5 * (H + H.T) / np.outer(scale, scale))
    keep = values > tolerance * values.max()
    half = vectors[:, keep] / scale[:, None]
    return np.asarray((half / values[keep]) @ half.T)


def positive_inverse(H: Array, scaled: Array) -> Array:
    """Inverse of a positive definite matrix (k, k), generalised along directions in which `scaled` (k, p, p) is zero.

    NaN where H is not positive definite in any other direction.
    """
    scale = np.sqrt(np.abs(np.diag(H)))
    if not np.all(scale > 0):
        return np.full_like(H, np.nan)
    values, vectors = np.linalg.eigh(0.5 * (H + H.T) / np.outer(scale, scale))
    half = vectors / scale[:, None]
    change = np.abs(np.einsum("km,kab->mab", half, scaled)).max(axis=(1, 2), initial=0.0)
    flat = (np.abs(values) < 1e-8 * values[-1]) & (change < 1e-6 * change.max(initial=0.0))
    if values[~flat].min(initial=np.inf) <= 1e-10 * values[-1]:
        return np.full_like(H, np.nan)
    return np.asarray((half[:, ~flat] / values[~flat]) @ half[:, ~flat].T)
