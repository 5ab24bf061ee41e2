"""What single subjects and nested models do to a fit: case deletion by downdating, likelihood-ratio tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import special

from kapstats._types import FloatArray
from kapstats.errors import FormulaError
from kapstats.estimates import Estimates
from kapstats.kernels.covariance import sigma_of
from kapstats.kernels.pattern_moments import Layout, PatternMoments, select, without
from kapstats.kernels.scoring import Fits, evaluate, fit
from kapstats.response import nesting
from kapstats.response.prediction import need_rows

if TYPE_CHECKING:
    from kapstats.response.mmrm_fit import MmrmFit

_NUMBERS = 30_000_000  # downdated statistics held at a time


def influence(model: MmrmFit) -> Estimates:
    """See `MmrmFit.influence`."""
    need_rows(model, "influence")
    state = model.state
    assert state.rows is not None
    rows = state.rows()
    beta, theta, converged = leave_one_out(state.stats, state.fits, rows["z"], rows["arranged"], rows["weights"])
    point = state.fits.point
    gap = point.beta[0] - beta  # (n, q)
    whitened = np.linalg.solve(point.root[0], gap.T).T
    displacement = _displacement(model, theta)
    scaled = np.linalg.solve(state.R, gap.T).T / np.sqrt(np.diag(_phi(state.R, point.phi[0])))
    names = np.array([n for n, k in zip(model.design.names, state.kept, strict=True) if k])
    largest = np.abs(scaled).argmax(axis=1)
    frame = pd.DataFrame(
        {
            "subject": [str(s) for s in model.visits.subjects],
            "cook_distance": (whitened**2).sum(1) / gap.shape[1],
            "likelihood_displacement": displacement,
            "largest_term": names[largest],
            "largest_change": scaled[np.arange(len(scaled)), largest],
            "converged": converged,
        }
    )
    coefficients = pd.DataFrame(np.linalg.solve(state.R, (beta + state.shift).T).T, columns=names)
    meta = {**model._meta(), "title": "Influence of single subjects", "coefficients": coefficients}
    return Estimates(frame, meta)


def _phi(R: FloatArray, phi: FloatArray) -> FloatArray:
    inverse = np.linalg.inv(R)
    return np.asarray(inverse @ phi @ inverse.T)


def leave_one_out(
    stats: PatternMoments, full: Fits, z: FloatArray, arranged: Layout, weights: FloatArray | None
) -> tuple[FloatArray, FloatArray, np.ndarray]:
    """b (n, q), theta (n, r) and convergence (n,) without each subject, refitted from the optimum of all."""
    n = sum(len(s) for s in arranged.subjects)
    step = max(1, _NUMBERS // stats.gram[0].size)
    parts = [_left_out(stats, full, z, arranged, weights, np.arange(i, min(i + step, n))) for i in range(0, n, step)]
    beta, theta, converged = (np.concatenate(p) for p in zip(*parts, strict=True))
    return beta, theta, converged


def _left_out(
    stats: PatternMoments, full: Fits, z: FloatArray, arranged: Layout, weights: FloatArray | None, who: np.ndarray
) -> tuple[FloatArray, FloatArray, np.ndarray]:
    reduced = without(stats, z, arranged, weights, who)
    found = fit(reduced, full.structure, full.reml, theta=np.repeat(full.theta, len(who), axis=0), max_iter=25)
    return found.point.beta, found.theta, found.converged


def _displacement(model: MmrmFit, theta: FloatArray) -> FloatArray:
    """2 (l(theta) - l(theta_-i)) with all subjects' data."""
    state = model.state
    n, step = len(theta), max(1, _NUMBERS // state.stats.gram[0].size)
    out = np.empty(n)
    for i in range(0, n, step):
        part = theta[i : i + step]
        same = select(state.stats, np.zeros(len(part), dtype=np.intp))
        out[i : i + step] = evaluate(same, sigma_of(state.fits.structure, part), model.reml).deviance
    return out - state.fits.point.deviance[0]


def likelihood_ratio(model: MmrmFit, reduced: MmrmFit) -> Estimates:
    """See `MmrmFit.lrt`."""
    nesting.check_class(model, reduced)
    same_fixed = model.design.names == reduced.design.names
    if model.reml != reduced.reml or (model.reml and not same_fixed):
        raise FormulaError(
            "lrt: REML likelihoods compare models with the same fixed effects only; refit with reml=False."
        )
    if model.nobs != reduced.nobs or model.description.response != reduced.description.response:
        raise FormulaError(f"lrt: the models use different rows ({model.nobs} and {reduced.nobs}).")
    if model.data is not None and reduced.data is not None:
        a, b = model.data, reduced.data
        nesting.check_rows((a.y, b.y), (a.weights, b.weights))
    df = model.n_parameters + int(model.state.kept.sum()) - reduced.n_parameters - int(reduced.state.kept.sum())
    if df <= 0:
        raise FormulaError("lrt: give the larger model first; the reduced one must have fewer parameters.")
    summed = model.data is None or reduced.data is None
    nesting.check_fixed(model.design, reduced.design, model.used if summed else None)
    terms = model._formula.covariance, reduced._formula.covariance
    nesting.check_structure(*terms, names=(model.structure, reduced.structure), visits=len(model.visits.labels))
    statistic = nesting.statistic(model.loglik, reduced.loglik)
    frame = pd.DataFrame(
        {
            "term": [f"{model.description.formula} vs {reduced.description.formula}"],
            "df": [float(df)],
            "statistic": [statistic],
            "p_value": [float(special.chdtrc(df, statistic))],
        }
    )
    return Estimates(frame, {**model._meta(), "title": "Likelihood-ratio test"})
