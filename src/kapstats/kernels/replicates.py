"""Many MMRM fits on one design at once: simulation, bootstrap, certification and imputation stand on this.

Nothing here knows of tables or formulas: arrays in, arrays out, no loop over replicates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kapstats.kernels.covariance import Structure, derivatives
from kapstats.kernels.kenward_roger import adjusted, contracted_curvature, row_df
from kapstats.kernels.pattern_moments import PatternMoments, replicate_moments
from kapstats.kernels.scoring import Fits, fit

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

DF = ("kenward-roger", "satterthwaite", "normal")


@dataclass(frozen=True, slots=True)
class Replicates:
    """Contrasts of B fits. estimate, std_error, df (B, rows); theta (B, r); beta (B, q); converged (B,).

    Replicates that did not converge hold NaN.
    """

    estimate: Floats
    std_error: Floats
    df: Floats
    beta: Floats
    theta: Floats
    converged: NDArray[np.bool_]


def fit_replicates(
    x: Floats, y: Floats, rows: Floats, *, structure: str = "us", reml: bool = True, df: str = "kenward-roger",
    block: Ints | None = None, chunk: int = 500,
) -> Replicates:  # fmt: skip
    """Fit y[0], ..., y[B - 1] on one design and answer L b for each.

    Parameters
    ----------
    x : (n, m, q) design rows of every subject at every visit, full rank
    y : (B, n, m) responses, NaN where a visit was missed
    rows : (k, q) the contrasts L
    structure : us toep toeph ar1 ar1h cs csh ad adh
    df : kenward-roger (observed information, natural parameters), satterthwaite or normal
    block : (n,) covariance group of each subject, 0 to the number of groups - 1
    chunk : replicates held at a time
    """
    groups = 1 if block is None else int(block.max()) + 1
    shape = Structure(structure, x.shape[1], np.arange(groups))
    parts = [_chunk(x, y[i : i + chunk], rows, shape, reml, df, block) for i in range(0, len(y), chunk)]
    return Replicates(
        np.concatenate([p.estimate for p in parts]),
        np.concatenate([p.std_error for p in parts]),
        np.concatenate([p.df for p in parts]),
        np.concatenate([p.beta for p in parts]),
        np.concatenate([p.theta for p in parts]),
        np.concatenate([p.converged for p in parts]),
    )


def _chunk(x: Floats, y: Floats, rows: Floats, shape: Structure, reml: bool, df: str, block: Ints | None) -> Replicates:
    stats = replicate_moments(x, y, block, shape.n_groups)
    fits = fit(stats, shape, reml)
    vcov, freedom = answers(stats, fits, rows, df)
    estimate = fits.point.beta @ rows.T
    se = np.sqrt(np.einsum("ki,bij,kj->bk", rows, vcov, rows, optimize=True))
    bad = ~fits.converged[:, None]
    estimate, se, freedom, beta, theta = (
        np.where(bad, np.nan, a) for a in (estimate, se, freedom, fits.point.beta, fits.theta)
    )
    return Replicates(estimate, se, freedom, beta, theta, fits.converged)


def answers(stats: PatternMoments, fits: Fits, rows: Floats, df: str) -> tuple[Floats, Floats]:
    """Covariance of b (B, q, q) and degrees of freedom of the rows L (B, k) of fitted replicates."""
    root = fits.point.root
    lc = rows @ root
    if df == "normal":
        return fits.point.phi, np.full(lc.shape[:2], np.inf)
    freedom = row_df(lc, fits.slopes.scaled, fits.w)
    if df == "satterthwaite":
        return fits.point.phi, freedom
    _, jac, second = derivatives(fits.structure, fits.theta)
    curvature = contracted_curvature(second, fits.w)
    return adjusted(stats, fits.point.omega, root, fits.slopes.scaled, fits.w, jac, curvature), freedom
