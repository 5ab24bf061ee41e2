"""MMRMs of a block of replicates at once, straight from arrays: no formula, no data frame, no design matrix.

The model is ``change ~ baseline:visit + arm:visit`` (every covariate with its own coefficient at every visit) with an
unstructured covariance. Its rows are x_is = e_s (x) w_i with w_i = (1, baseline, arm dummies), so the cross-products of
a visit pattern need only sum w w', sum w y_s and sum y_s y_t over its subjects: `mmrm_newton` fits from these. Where
plain Newton steps do not do, the sums are put where the general pattern statistics keep them, for the general kernels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtr, stdtrit

from kapstats._types import BoolArray, FloatArray, IntArray
from kapstats.certification import mmrm_newton
from kapstats.kernels.covariance import Structure, derivatives
from kapstats.kernels.kenward_roger import adjusted, row_df
from kapstats.kernels.pattern_moments import PatternMoments, pair_index
from kapstats.kernels.scoring import Fits, fit


@dataclass(frozen=True, slots=True)
class Contrasts:
    """Every arm against the first at every visit, (B, visits x (arms - 1)), arm fastest; `converged` (B,)."""

    estimate: FloatArray
    std_error: FloatArray
    df: FloatArray
    low: FloatArray
    high: FloatArray
    p: FloatArray
    converged: BoolArray


def covariates(arm: IntArray, base: FloatArray, arms: int) -> FloatArray:
    """w (..., 2 + arms - 1): intercept, centred baseline, dummies of every arm but the first."""
    dummies = arm[..., None] == np.arange(1, arms)
    return np.concatenate([np.ones((*arm.shape, 1)), (base - 36.0)[..., None], dummies], axis=-1)


def statistics(w: FloatArray, y: FloatArray, seen: BoolArray) -> PatternMoments:
    """Pattern statistics of B replicates.

    w (B, n, a) covariates, y (B, n, v) changes, seen (B, n, v) which of them were observed.
    """
    b, _, v = seen.shape
    code = seen @ (1 << np.arange(v))
    patterns = np.setdiff1d(np.unique(code), [0])
    sets: BoolArray = (patterns[:, None] >> np.arange(v)) & 1 == 1
    z = np.concatenate([w, np.where(seen, y, 0.0)], axis=-1)
    mask = (code[:, None, :] == patterns[:, None]).astype(float)
    products = np.stack([np.swapaxes(z * mask[:, p, :, None], 1, 2) @ z for p in range(patterns.size)], axis=1)
    pairs = pair_index(sets)
    gram = _packed(products, w.shape[-1], v, pairs)
    block = np.zeros(patterns.size, dtype=np.intp)
    observed = seen.sum(axis=(1, 2)).astype(float)
    return PatternMoments(sets, block, mask.sum(axis=2), observed, np.zeros(b), pairs, gram)


def _packed(products: FloatArray, a: int, v: int, pairs: IntArray) -> FloatArray:
    """Cross-products (B, P, a + v, a + v) of [w y] as packed cross-products of [X y] (B, S, c (c + 1) / 2)."""
    c = a * v + 1
    i, j = np.triu_indices(c)
    place = np.zeros((c, c), dtype=np.intp)
    place[i, j] = np.arange(i.size)
    out = np.zeros((len(products), pairs.shape[1], i.size))
    up, across = np.triu_indices(a)
    for k, (p, s, t) in enumerate(pairs.T):
        m, y = products[:, p], c - 1
        if s == t:
            out[:, k, place[s * a + up, s * a + across]] = m[:, up, across]
            out[:, k, place[s * a : (s + 1) * a, y]] = m[:, :a, a + s]
            out[:, k, place[y, y]] = m[:, a + s, a + s]
            continue
        out[:, k, place[s * a : (s + 1) * a, t * a : (t + 1) * a].ravel()] = m[:, :a, :a].reshape(len(m), -1)
        out[:, k, place[s * a : (s + 1) * a, y]] = m[:, :a, a + t]
        out[:, k, place[t * a : (t + 1) * a, y]] = m[:, :a, a + s]
        out[:, k, place[y, y]] = 2 * m[:, a + s, a + t]
    return out


def fit_block(w: FloatArray, y: FloatArray, seen: BoolArray) -> tuple[PatternMoments | mmrm_newton.Sums, Fits]:
    """REML fits of the B replicates: plain Newton steps, or the guarded algorithm when one replicate resists them."""
    structure = Structure("us", y.shape[-1], np.zeros(1, dtype=np.intp))
    sums = mmrm_newton.sums(w, y, seen)
    quick = mmrm_newton.newton(sums, structure)
    if quick is not None:
        return sums, quick
    stats = statistics(w, y, seen)
    return stats, fit(stats, structure)


def contrasts(stats: PatternMoments | mmrm_newton.Sums, fits: Fits, a: int, df: str, level: float) -> Contrasts:
    """Arm minus first arm at every visit; `df`: kenward-roger, satterthwaite or normal (both with the model error)."""
    v = stats.seen.shape[1]
    column = np.array([s * a + 2 + k for s in range(v) for k in range(a - 2)])
    root = fits.point.root
    if df == "kenward-roger":
        jac = derivatives(fits.structure, fits.theta)[1]
        if isinstance(stats, mmrm_newton.Sums):
            phi = mmrm_newton.adjusted(stats, fits.point, fits.slopes.scaled, fits.w, jac[:, :, 0])
        else:
            phi = adjusted(stats, fits.point.omega, root, fits.slopes.scaled, fits.w, jac, None)
    else:
        phi = fits.point.phi
    estimate = fits.point.beta[:, column]
    error = np.sqrt(phi[:, column, column])
    nu = np.full_like(estimate, np.inf) if df == "normal" else row_df(root[:, column], fits.slopes.scaled, fits.w)
    with np.errstate(invalid="ignore", divide="ignore"):
        half = np.where(np.isinf(nu), ndtri(0.5 + level / 2), stdtrit(nu, 0.5 + level / 2)) * error
        p = 2 * stdtr(np.where(np.isinf(nu), 1e300, nu), -np.abs(estimate / error))
    good = fits.converged & np.isfinite(half).all(axis=1)
    return Contrasts(estimate, error, nu, estimate - half, estimate + half, p, good)
