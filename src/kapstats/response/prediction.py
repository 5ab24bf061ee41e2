"""Predictions, residuals and simulated responses of a fitted MMRM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kapstats import frames
from kapstats._types import FloatArray, FrameLike
from kapstats.errors import DataError, FormulaError, check_level, first_ids
from kapstats.estimates import Estimates
from kapstats.formula.design import level_text
from kapstats.formula.expressions import columns_in, evaluate, offsets
from kapstats.formula.grid import reference_grid, warn_without_data
from kapstats.inference.intervals import t_quantile
from kapstats.kernels.covariance import sigma_of

if TYPE_CHECKING:
    from kapstats.response.mmrm_fit import MmrmFit
    from kapstats.response.repeated import Repeated


def need_rows(fit: MmrmFit, what: str) -> Repeated:
    """The rows behind a fit, or a FormulaError when it was made from summed statistics."""
    if fit.data is None:
        raise FormulaError(f"{what} needs the rows of the data; this fit was made from summed statistics.")
    return fit.data


def fitted(fit: MmrmFit) -> FloatArray:
    """X b of the rows used."""
    data = need_rows(fit, "fitted values")
    return data.X @ coefficients(fit)


def coefficients(fit: MmrmFit) -> FloatArray:
    """b of the columns kept."""
    state = fit.state
    return np.asarray(np.linalg.solve(state.R, state.fits.point.beta[0] + state.shift))


def pattern_factors(fit: MmrmFit) -> list[FloatArray]:
    """Lower Cholesky factor of Sigma_p (k_p, k_p) of each pattern."""
    state = fit.state
    sigma = sigma_of(state.fits.structure, state.fits.theta)[0]
    arranged = fit.visits.arranged
    return [
        np.linalg.cholesky(sigma[block][np.ix_(seen, seen)])
        for block, seen in zip(arranged.block, arranged.seen, strict=True)
    ]


def residuals(fit: MmrmFit, kind: str) -> pd.Series:
    """See `MmrmFit.residuals`."""
    data = need_rows(fit, "residuals")
    r = data.y - fitted(fit)
    if data.weights is not None and kind != "response":
        r = r * np.sqrt(data.weights)
    out = r.copy()
    if kind != "response":
        for rows, factor in zip(fit.visits.arranged.rows, pattern_factors(fit), strict=True):
            if kind == "pearson":
                out[rows] = r[rows] / np.sqrt((factor**2).sum(1))
            else:
                out[rows] = np.linalg.solve(factor, r[rows].T).T
    return pd.Series(out, index=data.rows, name=kind)


def simulate(fit: MmrmFit, n: int, seed: int) -> FloatArray:
    """See `MmrmFit.simulate`."""
    data = need_rows(fit, "simulate")
    mean = fitted(fit) + (evaluate(str(data.formula.response), data.used) - data.y)  # offset back in
    factors = pattern_factors(fit)
    scale = 1.0 if data.weights is None else 1 / np.sqrt(data.weights)
    out = np.empty((n, len(mean)))
    for i in range(n):
        rng = np.random.default_rng(np.random.SeedSequence(entropy=seed, spawn_key=(i,)))
        noise = np.empty(len(mean))
        for rows, factor in zip(fit.visits.arranged.rows, factors, strict=True):
            noise[rows] = rng.standard_normal(rows.shape) @ factor.T
        out[i] = mean + scale * noise
    return out


# ------------------------------------------------------------------------------------------- predict


def predict(
    fit: MmrmFit, newdata: FrameLike | None, interval: str | None, conditional: bool, level: float, df: str | None
) -> Estimates:
    """See `MmrmFit.predict`."""
    check_level(level)
    if newdata is None:
        need_rows(fit, "predict without newdata")
    frame = fit.used if newdata is None else frames.to_pandas(newdata)
    full = fit.design.spec.matrix(frame)
    L, residual = full, np.zeros(len(frame))
    constant = offsets(fit._formula.offset, frame)
    if conditional or interval == "prediction":
        L, constant, residual = _given_history(fit, frame, full, constant, conditional)
    found = fit.linear(L, df=df)
    said = warn_without_data(fit.design, frame.loc[np.isnan(found.estimate)], "predictions")
    estimate = found.estimate + constant
    table = _identifying(fit, frame).assign(estimate=estimate, std_error=found.std_error)
    spread = found.std_error if interval != "prediction" else np.sqrt(np.diag(found.vcov) + residual)
    if interval is not None:
        exact = spread == 0
        t = t_quantile((1 + level) / 2, np.where(exact, 1.0, found.df))
        table = table.assign(df=found.df, conf_low=estimate - t * spread, conf_high=estimate + t * spread)
    meta = {**fit._meta(df, None), "level": level, "title": f"Predictions ({interval or 'no'} interval)"}
    return Estimates(table, {**meta, "warnings": (*meta.get("warnings", ()), *said)})


def _identifying(fit: MmrmFit, frame: pd.DataFrame) -> pd.DataFrame:
    columns = [] if fit.data is None else [fit.data.covariance.subject, *fit.data.covariance.coordinates]
    return frame[[c for c in columns if c in frame]].copy()


def _given_history(
    fit: MmrmFit, frame: pd.DataFrame, full: FloatArray, constant: FloatArray, conditional: bool
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """L, constant and residual variance of every row; given the subject's observed rows when `conditional`.

    E(y_m | y_o) = x_m b + S_mo S_oo^-1 (y_o - X_o b), linear in b.
    """
    data = need_rows(fit, "conditional predictions and prediction intervals")
    y = _responses(data, frame) - constant
    visit, block = _places(fit, frame)
    sigma = sigma_of(fit.state.fits.structure, fit.state.fits.theta)[0]
    subject = pd.factorize(frame[data.covariance.subject])[0]
    L, shift, residual = full.copy(), constant.copy(), np.zeros(len(frame))
    order = np.argsort(subject, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(subject[order])) + 1):
        s = sigma[block[rows[0]]][np.ix_(visit[rows], visit[rows])]
        residual[rows] = np.diag(s)
        seen = np.isfinite(y[rows])
        if not conditional or not seen.any():
            continue
        weight = np.linalg.solve(s[np.ix_(seen, seen)], s[seen]).T
        weight[seen] = np.eye(int(seen.sum()))
        L[rows] = full[rows] - weight @ full[rows[seen]]
        shift[rows] = constant[rows] + weight @ y[rows[seen]]
        residual[rows] = np.maximum(np.diag(s - weight @ s[seen]), 0.0)
        L[rows[seen]], residual[rows[seen]] = 0.0, 0.0
    return L, shift, residual


def _responses(data: Repeated, frame: pd.DataFrame) -> FloatArray:
    response = str(data.formula.response)
    if not set(columns_in(response, map(str, frame.columns))) <= set(frame.columns):
        return np.full(len(frame), np.nan)
    return evaluate(response, frame)


def _places(fit: MmrmFit, frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Visit position and covariance block of every row."""
    assert fit.data is not None
    covariance = fit.data.covariance
    if not fit.visits.regular:
        raise FormulaError("Predictions given the history are not available for subject-specific coordinates.")
    if len(covariance.coordinates) > 1 or fit.structure.startswith("sp_"):
        points = np.column_stack([evaluate(c, frame) for c in covariance.coordinates])
        labels = [" ".join(f"{x:g}" for x in point) for point in points]
    else:
        frames.require(frame, [covariance.visit], "newdata")
        labels = [level_text(v) for v in frame[covariance.visit]]
    visit = pd.Index(fit.visits.labels).get_indexer(pd.Index(labels))
    group = np.zeros(len(frame), dtype=np.intp)
    if covariance.group is not None:
        frames.require(frame, [covariance.group], "newdata")
        group = pd.Index(fit.visits.groups).get_indexer(pd.Index([level_text(v) for v in frame[covariance.group]]))
    bad = np.flatnonzero((visit < 0) | (group < 0))
    if len(bad):
        raise DataError(
            f"newdata: {len(bad)} rows have a visit or group that the fit did not see (first rows {first_ids(bad)})."
        )
    return visit, group


def sampling_covariance(
    fit: MmrmFit, population: pd.DataFrame, specs: list[str], by: list[str], at: Mapping[str, Any] | None
) -> FloatArray:
    """Covariance of standardised means over samples of covariates, cov(x_i b) / n; rows as the grid."""
    asked = [*specs, *by]
    grid = reference_grid(fit.design, fit.used, asked, by=(), weights="equal", at=at).frame
    fixed = {c: v for c, v in (at or {}).items() if c not in asked}
    b = coefficients(fit)
    values = []
    for _, levels in grid.astype("object").iterrows():
        rows = population[list(fit.design.spec.columns)].assign(**fixed).assign(**levels.to_dict())
        values.append(fit.design.spec.matrix(rows)[:, fit.state.kept] @ b)
    return np.atleast_2d(np.cov(np.array(values))) / len(population)
