"""Free working parameters of covariance structures: every point is a positive definite matrix, so any search may roam.

One group has as many working as natural parameters: logs of variances; the entries of a Cholesky factor with logs on
its diagonal (us); a logit between -1 / (m - 1) and 1 (cs, csh); atanh of partial autocorrelations (toep, toeph; Joe
2006); atanh of correlations (ar1, ar1h, ad, adh); the log of a range (spatial). The first, the log variance of the
first visit of the first group, is held at zero: the residual variance is profiled.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kapstats.kernels.covariance import HETEROGENEOUS, LINEAR, SPATIAL, Structure

Floats = NDArray[np.float64]


def neutral(structure: Structure) -> Floats:
    """Working parameters (r - 1,) of equal variances without correlation (spatial: half of the median distance)."""
    own = np.zeros((structure.n_groups, structure.per_group))
    if structure.name in ("cs", "csh") and structure.m > 1:
        own[:, -1] = -np.log(structure.m - 1)
    if structure.name in SPATIAL and structure.distance is not None and (structure.distance > 0).any():
        own[:, -1] = np.log(np.median(structure.distance[structure.distance > 0]) / 2)
    return own.reshape(-1)[1:]


def natural(structure: Structure, work: Floats) -> Floats:
    """Natural parameters (r,) at working parameters (r - 1,); the first variance is one."""
    own = np.concatenate([[0.0], work]).reshape(structure.n_groups, structure.per_group)
    return np.concatenate([_group(structure.name, structure.m, w) for w in own])


def jacobian(structure: Structure, work: Floats, step: float = 1e-6) -> Floats:
    """d natural / d work (r, r - 1), by central differences: it steers the search and is no part of any result."""
    columns = [
        (natural(structure, work + step * e) - natural(structure, work - step * e)) / (2 * step)
        for e in np.eye(len(work))
    ]
    return np.column_stack(columns) if columns else np.zeros((structure.r, 0))


def unit(structure: Structure, theta: Floats) -> Floats:
    """Divisor (r,) of natural parameters that makes the first variance one."""
    k = structure.per_group if structure.name in LINEAR else _n_scale(structure.name, structure.m)
    own = np.ones((structure.n_groups, structure.per_group))
    own[:, :k] = theta[0]
    return own.reshape(-1)


def _n_scale(name: str, m: int) -> int:
    return m if name in HETEROGENEOUS else 1


def _group(name: str, m: int, w: Floats) -> Floats:
    if name == "us":
        return _from_cholesky(m, w)
    k = _n_scale(name, m)
    scale, tail = np.exp(np.clip(w[:k], -60.0, 60.0)), _tail(name, m, w[k:])
    return np.concatenate([scale, scale[0] * tail if name in LINEAR else tail])


def _tail(name: str, m: int, w: Floats) -> Floats:
    """Correlations, or a range, of one group."""
    if name in SPATIAL:
        return np.asarray(np.exp(np.clip(w, -60.0, 60.0)))
    if name in ("cs", "csh"):
        low = 1.0 / max(m - 1, 1)
        return np.asarray((1.0 + low) / (1.0 + np.exp(-np.clip(w, -60.0, 60.0))) - low)
    return _autocorrelations(np.tanh(w)) if name in ("toep", "toeph") else np.asarray(np.tanh(w))


def _from_cholesky(m: int, w: Floats) -> Floats:
    s, t = np.tril_indices(m)
    L = np.zeros((m, m))
    L[s, t] = np.where(s == t, np.exp(np.clip(w, -30.0, 30.0)), w)
    return np.asarray((L @ L.T)[s, t])


def _autocorrelations(partial: Floats) -> Floats:
    """Correlations at lags 1, 2, ... with these partial autocorrelations (the Durbin-Levinson recursion)."""
    found, phi, left = [1.0], np.zeros(0), 1.0
    for k, p in enumerate(partial):
        found.append(float(p * left + phi @ np.array(found[k:0:-1])))
        phi = np.append(phi - p * phi[::-1], p)
        left *= 1.0 - p * p
    return np.array(found[1:])
