"""Population-averaged means of a generalised linear mixed model: standardised over rows, effects integrated out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kapstats._types import FloatArray
from kapstats.errors import DataError, FormulaError
from kapstats.formula.grid import estimable, reference_grid, warn_without_data
from kapstats.inference.contrasts import Joint, Linear, LSMeans, Source, answer
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
        ok = ~(L[:, np.isnan(self.value)] != 0).any(axis=1)
        spread = np.where(ok[:, None] & ok[None, :], L @ np.nan_to_num(self.vcov) @ L.T, np.nan)
        return Linear(np.where(ok, L @ np.nan_to_num(self.value), np.nan), spread, np.where(ok, np.inf, np.nan))

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
    held = {c: v for c, v in (at or {}).items() if c not in asked + groups}
    value, jacobian, said = _standardised(model, grid.frame, held)
    if scale == "log":
        value, jacobian = np.log(value), jacobian / value[:, None]
    elif scale == "logit":
        if model.family != "binomial":
            raise FormulaError("scale='logit' is for binomial models.")
        value, jacobian = np.log(value / (1 - value)), jacobian / (value * (1 - value))[:, None]
    means = Means(value, jacobian @ model._covariance @ jacobian.T)
    natural = {"binomial": "logit"}.get(model.family, "log") if scale == "response" else ""
    source = Source(means, np.eye(len(value)), tuple(asked), tuple(groups), bounds=natural)
    how = ["Standardised over the rows used; random effects integrated out; delta method."]
    how += [f"Limits of the {natural} scale turned back."] if natural else []
    title = f"Population-averaged means of {', '.join(asked)}" + (f" by {', '.join(groups)}" if groups else "")
    described = model._meta(
        title=title, level=level, side=side, scale="identity" if scale == "response" else scale, weights="observed",
        estimand=title, conventions=tuple(how),
    )  # fmt: skip
    return answer(source, grid.frame, level, side, {**described, "warnings": (*described["warnings"], *said)})


def _standardised(
    model: GlmmFit, levels: pd.DataFrame, held: Mapping[str, Any]
) -> tuple[FloatArray, FloatArray, list[str]]:
    """Mean over the rows used with each row of `levels` in turn, its Jacobian in (theta, beta, phi), and warnings."""
    columns = [*model.design.spec.columns, *(c for t in model.data.random.terms for c in t.spec.columns)]
    base = model.used[list(dict.fromkeys(columns))].assign(**held)
    values, slopes, unknown = [], [], [base.iloc[:0]]
    for _, wanted in levels.astype("object").iterrows():
        changed = base.assign(**{c: v for c, v in wanted.to_dict().items() if c in base})
        mean, slope = row_means(model, changed, model.problem.offset)
        values.append(mean.mean())
        slopes.append(slope.mean(axis=0))
        unknown.append(changed.loc[np.isnan(mean)])
    said = warn_without_data(model.design, pd.concat(unknown), "predictions behind the means")
    return np.array(values), np.array(slopes), said


def row_means(model: GlmmFit, frame: pd.DataFrame, offset: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Integrated mean (n,) of each row and its Jacobian (n, parameters); NaN where the design cannot tell it."""
    full = model.design.spec.matrix(frame)
    known = np.where(estimable(full, model.design), 1.0, np.nan)[:, None]
    X = known * np.where(model.design.aliased, 0.0, full) @ model.to_design
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
