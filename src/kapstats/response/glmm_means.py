"""Population-averaged means of a generalised linear mixed model: standardised over rows, effects integrated out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kapstats._types import FloatArray
from kapstats.errors import DataError, FormulaError
from kapstats.formula.grid import reference_grid
from kapstats.inference.contrasts import Joint, Linear, LSMeans, Source
from kapstats.inference.intervals import with_inference
from kapstats.kernels.families import inverse_link, mean_slope
from kapstats.response.small_sample import _f_tail, _independent

if TYPE_CHECKING:
    from kapstats.response.glmm import GlmmFit

POINTS = 40


@dataclass(frozen=True)
class Means:
    """Means (k,) with covariance (k, k) as a model: linear functions of them, normal reference."""

    value: FloatArray
    vcov: FloatArray

    def linear(self, L: FloatArray, *, df: str | None = None, vcov: str | None = None) -> Linear:
        """L m."""
        L = np.atleast_2d(np.asarray(L, dtype=float))
        return Linear(L @ self.value, L @ self.vcov @ L.T, np.full(len(L), np.inf))

    def joint(self, L: FloatArray, *, df: str | None = None, vcov: str | None = None) -> Joint:
        """Wald test of L m = 0."""
        rows = _independent(np.atleast_2d(np.asarray(L, dtype=float)))
        found = self.linear(rows)
        f = float(found.estimate @ np.linalg.solve(found.vcov, found.estimate)) / len(rows)
        return Joint(f, len(rows), float("inf"), _f_tail(f, len(rows), float("inf")))


def integrated_mean(link: str, eta: FloatArray, variance: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """E g^-1(eta + sqrt(v) Z), Z standard normal, and its derivatives in eta and v. eta, v (n,)."""
    if link == "log":
        mean = np.exp(eta + 0.5 * variance)
        return mean, mean, 0.5 * mean
    x, w = np.polynomial.hermite_e.hermegauss(POINTS)
    w = w / w.sum()
    sd = np.sqrt(np.maximum(variance, 1e-14))
    at = eta[:, None] + sd[:, None] * x
    slope = mean_slope(link, at)
    return inverse_link(link, at) @ w, slope @ w, (slope * x) @ w / (2 * sd)


def marginal_means(
    model: GlmmFit,
    specs: str | Sequence[str],
    by: str | Sequence[str] | None,
    at: Mapping[str, Any] | None,
    scale: str,
    level: float,
    side: str,
) -> LSMeans:
    """See `GlmmFit.marginal_means`."""
    if model.family == "cumulative":
        raise FormulaError("marginal_means: a cumulative model has no single mean; use predict(type='marginal').")
    if model.lost:
        raise DataError(f"marginal_means: {', '.join(model.lost)} have no finite estimate. Refit with penalty='firth'.")
    asked = [specs] if isinstance(specs, str) else list(specs)
    groups = [] if by is None else [by] if isinstance(by, str) else list(by)
    grid = reference_grid(model.design, model.used, asked, by=groups, weights="equal", at=at)
    value, jacobian = _standardised(model, grid.frame, {c: v for c, v in (at or {}).items() if c not in asked + groups})
    if scale == "log":
        value, jacobian = np.log(value), jacobian / value[:, None]
    elif scale == "logit":
        if model.family != "binomial":
            raise FormulaError("scale='logit' is for binomial models.")
        value, jacobian = np.log(value / (1 - value)), jacobian / (value * (1 - value))[:, None]
    means = Means(value, jacobian @ model._covariance @ jacobian.T)
    source = Source(means, np.eye(len(value)), tuple(asked), tuple(groups))
    table = with_inference(grid.frame, value, np.sqrt(np.diag(means.vcov)), np.inf, level=level, side=side)
    title = f"Population-averaged means of {', '.join(asked)}" + (f" by {', '.join(groups)}" if groups else "")
    described = model._meta(
        title=title, level=level, side=side, scale="identity" if scale == "response" else scale, weights="observed",
        estimand=title, conventions=("Standardised over the rows used; random effects integrated out; delta method.",),
    )  # fmt: skip
    return LSMeans(table, described, means.vcov, source=source)


def _standardised(model: GlmmFit, levels: pd.DataFrame, held: Mapping[str, Any]) -> tuple[FloatArray, FloatArray]:
    """Mean over the rows used with each row of `levels` in turn, and its Jacobian in (theta, beta, phi)."""
    columns = [*model.design.spec.columns, *(c for t in model.data.random.terms for c in t.spec.columns)]
    base = model.used[list(dict.fromkeys(columns))].assign(**held)
    values, slopes = [], []
    for _, wanted in levels.astype("object").iterrows():
        changed = base.assign(**{c: v for c, v in wanted.to_dict().items() if c in base})
        mean, slope = row_means(model, changed, model.problem.offset)
        values.append(mean.mean())
        slopes.append(slope.mean(axis=0))
    return np.array(values), np.array(slopes)


def row_means(model: GlmmFit, frame: pd.DataFrame, offset: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Integrated mean (n,) of each row and its Jacobian (n, parameters)."""
    X = np.where(model.design.aliased, 0.0, model.design.spec.matrix(frame)) @ model.to_design
    eta = X @ model._parameters + offset
    variance, dv = prior_variance(model, frame)
    mean, d_eta, d_v = integrated_mean(model.link, eta, variance)
    slope = d_eta[:, None] * X
    slope[:, : dv.shape[1]] += d_v[:, None] * dv
    return mean, slope


def prior_variance(model: GlmmFit, frame: pd.DataFrame) -> tuple[FloatArray, FloatArray]:
    """z'Gz (n,) of each row and its derivative (n, thetas) in the entries of the T."""
    total, parts = np.zeros(len(frame)), []
    for t, factor in enumerate(model.problem.factors):
        own = sorted((term for term in model.data.random.terms if term.factor == t), key=lambda term: term.start)
        Z = np.hstack([term.spec.matrix(frame) for term in own])
        Z = np.asarray(np.linalg.solve(model.data.random.basis[t].T, Z.T).T, dtype=np.float64)
        a = Z @ model.solved.T[t]
        total += (a**2).sum(1)
        parts.append(_squared_slope(Z, a, factor.blocks))
    return total, np.hstack(parts)


def _squared_slope(Z: FloatArray, a: FloatArray, blocks: Sequence[int]) -> FloatArray:
    from kapstats.kernels.block_arrow import free_entries

    rows, cols = free_entries(blocks)
    return np.asarray(2.0 * Z[:, rows] * a[:, cols])
