"""Posterior draws of a multivariate normal model with missing outcomes, by data augmentation.

y_i = X_i b + e_i, e_i ~ N(0, S_g), over all m planned visits; b flat (or normal with given precision), S_g inverse
Wishart with nu degrees of freedom and scale matrix Psi. Three conjugate steps (Schafer 1997, Analysis of Incomplete
Multivariate Data, chapter 5): missing y given b and S; S given y and b; b given y and S.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kapstats.kernels.reference_based import conditional, draw

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Draws:
    """M posterior draws: beta (M, q), sigma (M, groups, m, m)."""

    beta: Floats
    sigma: Floats


@dataclass(frozen=True, slots=True)
class Prior:
    """nu degrees of freedom and psi (groups, m, m) of the inverse Wishart; precision (q,) of beta around zero."""

    nu: float
    psi: Floats
    precision: Floats


def sample(
    x: Floats, y: Floats, group: Ints, start: Draws, prior: Prior, rng: np.random.Generator, *,
    draws: int, burn_in: int, thin: int,
) -> Draws:  # fmt: skip
    """Draws from the posterior of (b, S). x (n, m, q), y (n, m) with NaN where unseen, group (n,)."""
    filled, classes = np.where(np.isnan(y), 0.0, y), _classes(y, group)
    beta, sigma = start.beta[0].copy(), start.sigma[0].copy()
    members = [np.flatnonzero(group == g) for g in range(len(sigma))]
    gram = np.stack([np.einsum("nsq,ntr->stqr", x[i], x[i], optimize=True) for i in members])
    kept_beta, kept_sigma = np.empty((draws, beta.size)), np.empty((draws, *sigma.shape))
    for step in range(burn_in + draws * thin):
        mean = x @ beta
        for rows, seen, g in classes:
            law = conditional(mean[None, rows], sigma[None, g], y[rows], seen)
            filled[np.ix_(rows, np.flatnonzero(~seen))] = draw(law, rng)[0]
        for g, rows in enumerate(members):
            e = filled[rows] - mean[rows]
            sigma[g] = inverse_wishart(prior.psi[g] + e.T @ e, prior.nu + len(rows), rng)
        beta = _draw_beta(x, filled, members, gram, np.linalg.inv(sigma), prior.precision, rng)
        if step >= burn_in and (step - burn_in + 1) % thin == 0:
            kept_beta[(step - burn_in) // thin], kept_sigma[(step - burn_in) // thin] = beta, sigma
    return Draws(kept_beta, kept_sigma)


def _classes(y: Floats, group: Ints) -> list[tuple[Ints, NDArray[np.bool_], int]]:
    """Subjects by (seen visits, group), those with everything seen left out."""
    key = np.column_stack([~np.isnan(y), group])
    distinct, index = np.unique(key, axis=0, return_inverse=True)
    found = [(np.flatnonzero(index.reshape(-1) == i), d[:-1].astype(bool), int(d[-1])) for i, d in enumerate(distinct)]
    return [c for c in found if not c[1].all()]


def _draw_beta(
    x: Floats, y: Floats, members: list[Ints], gram: Floats, omega: Floats, precision: Floats, rng: np.random.Generator
) -> Floats:
    a = np.einsum("gst,gstqr->qr", omega, gram, optimize=True) + np.diag(precision)
    b = sum(np.einsum("nsq,ns->q", x[i], y[i] @ omega[g], optimize=True) for g, i in enumerate(members))
    factor = np.linalg.cholesky(a)
    mean = np.linalg.solve(a, b)
    return np.asarray(mean + np.linalg.solve(factor.T, rng.standard_normal(len(mean))))


def inverse_wishart(psi: Floats, nu: float, rng: np.random.Generator) -> Floats:
    """One draw from the inverse Wishart, scale psi (m, m), nu degrees of freedom, by Bartlett's decomposition."""
    m = len(psi)
    bartlett = np.tril(rng.standard_normal((m, m)), -1)
    bartlett[np.diag_indices(m)] = np.sqrt(rng.chisquare(nu - np.arange(m)))
    root = np.linalg.cholesky(psi)
    half = np.linalg.solve(bartlett, root.T).T
    return np.asarray(half @ half.T)
