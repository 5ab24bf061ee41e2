"""Curves from a Cox model: baseline hazard, predicted survival, survival standardised over the sample (g-formula)."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kapstats import frames
from kapstats._types import FloatArray, FrameLike, IntArray
from kapstats.errors import DataError, FormulaError
from kapstats.estimates import Estimates, Picture
from kapstats.formula.expressions import evaluate
from kapstats.inference.intervals import with_inference
from kapstats.kernels import cox_residuals as cr
from kapstats.kernels.cox_newton import hazard, relative_risk
from kapstats.kernels.product_limit import limits
from kapstats.kernels.risk_sets import snap
from kapstats.relapse.follow_up import FollowUp
from kapstats.relapse.regression import row_names
from kapstats.relapse.surv_data import SUBJECT, SurvData, checked_times

if TYPE_CHECKING:
    from kapstats.relapse.cox_fit import CoxFit

#: rows x times x coefficients that are held at once
LARGEST = 100_000_000


@dataclass(frozen=True, repr=False)
class AdjustedSurvival(Estimates):
    """Standardised survival: one row per level and time; ``differences`` of every level from the first, per time."""

    differences: Estimates | None = None


def baseline_hazard(fit: CoxFit, *, centered: bool) -> Estimates:
    """Cumulative hazard per stratum and event time for all covariates zero, or at their means."""
    fit._needs_likelihood("baseline")
    base, sets = cr.baseline(fit.data, fit._b_used()), fit.data.sets
    x = np.zeros(fit.n_parameters) if centered else -fit.data.center
    shift = 0.0 if centered else -_offset_mean(fit)
    value, se = _hazard_at(fit, base, x[None], np.array([shift]), np.arange(sets.size)[None], np.zeros(1, int))
    strata = fit.surv.strata.frame.iloc[sets.stratum].reset_index(drop=True)
    frame = strata.assign(time=sets.time, estimate=value[0], std_error=se[0])
    where = "means" if centered else "zero"
    meta = {**fit.meta, "title": f"Cumulative baseline hazard, covariates at {where}"}
    options = {"strata": list(strata.columns), "ylabel": "Cumulative hazard", "percent": False}
    return Estimates(frame, meta, picture=Picture("cumulative_incidence", options))


def predicted_survival(
    fit: CoxFit, newdata: FrameLike, times: Sequence[float] | None, conf_type: str, *, extend: bool = False
) -> Estimates:
    """Survival exp(-H(t | x)) of each row of newdata; variance of R's survfit.coxph."""
    fit._needs_likelihood("survival")
    new = frames.to_pandas(newdata)
    x, offset, stratum = _new_rows(fit, new)
    base, t = cr.baseline(fit.data, fit._b_used()), _times(fit, times)
    _small_enough(fit, len(new), t)
    grid = _grid_points(fit, t, stratum)
    H, se_H = _hazard_at(fit, base, x, offset, grid, stratum)
    S = np.exp(-H)
    low, high = limits(S, S * se_H, fit.level, conf_type)
    if conf_type in ("log-log", "logit", "arcsin"):  # undefined while S is 1, as in R
        low, high = (np.where(S >= 1.0, np.nan, limit) for limit in (low, high))
    n, k = S.shape
    frame = pd.DataFrame({"row": np.repeat(np.arange(n), k), "time": np.tile(t, n)})
    columns = {"estimate": S, "std_error": S * se_H, "conf_low": low, "conf_high": high}
    frame = frame.assign(**{name: values.ravel() for name, values in columns.items()})
    about = {**fit.meta, "title": "Predicted survival", "scale": "identity", "conf_type": conf_type}
    picture = Picture("kaplan_meier", {"strata": ["row"], "names": row_names(new)})
    found = Estimates(frame, about, picture=picture)
    return FollowUp.of(fit.surv, fit.surv.strata).within(found, stratum.repeat(k), extend=extend)


def standardised_survival(
    fit: CoxFit,
    by: str,
    times: Sequence[float] | None,
    *,
    conf_type: str = "log-log",
    levels: Sequence[Any] | None = None,
    extend: bool = False,
) -> AdjustedSurvival:
    """Mean over the rows used of the predicted survival with `by` set to each level; influence-function variance.

    The variance counts the coefficients, the baseline hazard and the sampling of the covariates. Past the follow-up of
    any stratum the mean is not estimable (NE) unless `extend` carries its last value forward.
    """
    fit._needs_likelihood("adjusted_survival")
    if by not in fit.design.factors and by not in fit.surv.frame.columns:
        frames.require(fit.surv.frame, [by])
    _require_whole_subjects(fit.surv)
    wanted = list(levels) if levels is not None else _levels(fit, by)
    t = _times(fit, times)
    _small_enough(fit, len(fit.surv), t)
    means, influence = zip(*(_standardised(fit, by, value, t) for value in wanted), strict=True)
    meta = {**fit.meta, "title": f"Survival standardised over {len(fit.surv)} rows", "scale": "identity"}
    meta |= {"method": fit.meta["method"] + "; g-formula, influence-function variance", "conf_type": conf_type}
    rows = []
    for value, S, psi in zip(wanted, means, influence, strict=True):
        se = np.sqrt((psi**2).sum(axis=0))
        low, high = limits(S, se, fit.level, conf_type)
        key = {by: [value] * len(t), "time": t}
        rows.append(pd.DataFrame({**key, "estimate": S, "std_error": se, "conf_low": low, "conf_high": high}))
    pairs = itertools.product([0], range(1, len(wanted)))
    compared = [_difference(wanted, t, means, influence, zero, one, fit.level) for zero, one in pairs]
    differences = None
    if compared:
        frame = pd.concat(compared, ignore_index=True)
        differences = Estimates(frame, {**meta, "title": "Differences in standardised survival", "scale": "identity"})
    curves = Picture("kaplan_meier", {"strata": [by]})
    found = AdjustedSurvival(pd.concat(rows, ignore_index=True), meta, picture=curves)
    return _known(fit, found, differences, extend)


def _known(fit: CoxFit, found: AdjustedSurvival, differences: Estimates | None, extend: bool) -> AdjustedSurvival:
    """Nothing past the follow-up of the stratum that ends first."""
    follow_up = FollowUp.of(fit.surv, fit.surv.strata)
    first = int(np.argmin(follow_up.last))
    found = follow_up.within(found, np.full(len(found), first), extend=extend)
    if differences is not None:
        with warnings.catch_warnings(action="ignore"):  # the same times were named above
            differences = follow_up.within(differences, np.full(len(differences), first), extend=extend)
    return replace(found, differences=differences)


def _require_whole_subjects(surv: SurvData) -> None:
    """Refuse rows that may be pieces of subjects: their covariates change with time, so no row stands for a subject."""
    if surv.entry is None:
        return
    named = surv.cluster is not None or SUBJECT in surv.frame.columns
    pieces = surv.n_subjects < len(surv) if named else bool((surv.entry > 0).any())
    if pieces:
        raise FormulaError(
            "adjusted_survival: rows with entry times may be pieces of subjects whose covariates change. Refit as "
            "Surv(time, event) with one row per subject; where every subject has one row and enters late, say so with "
            "cluster(id)."
        )


def _levels(fit: CoxFit, by: str) -> list[Any]:
    known = fit.design.factors.get(by)
    if known is not None:
        return list(known.values)
    values = np.unique(fit.surv.frame[by])
    if len(values) > 12:
        raise FormulaError(f"adjusted_survival: {by} has {len(values)} values; give levels=[...].")
    return list(values)


def _difference(
    levels: list[Any], t: FloatArray, means: Any, influence: Any, zero: int, one: int, level: float
) -> pd.DataFrame:
    se = np.sqrt(((influence[one] - influence[zero]) ** 2).sum(axis=0))
    frame = pd.DataFrame({"contrast": f"{levels[one]} - {levels[zero]}", "time": t})
    return with_inference(frame, means[one] - means[zero], se, level=level)


def _times(fit: CoxFit, times: Sequence[float] | None) -> FloatArray:
    grid = np.unique(fit.data.sets.time)
    return grid if times is None else snap(checked_times(times), np.append(grid, fit.surv.time))


def _small_enough(fit: CoxFit, rows: int, t: FloatArray) -> None:
    """Refuse work that would fill the memory: rows x times x coefficients numbers."""
    size = rows * len(t) * max(fit.n_parameters, 1)
    if size > LARGEST:
        raise FormulaError(f"{rows} rows at {len(t)} times need {8e-9 * size:.0f} GB; give fewer times=[...].")


def _offset_mean(fit: CoxFit) -> float:
    return float(np.mean(_offset(fit, fit.surv.frame))) if fit.surv.formula.offset else 0.0


def _offset(fit: CoxFit, frame: pd.DataFrame) -> FloatArray:
    return np.sum([evaluate(o, frame) for o in fit.surv.formula.offset], axis=0)


def _columns(fit: CoxFit, frame: pd.DataFrame) -> FloatArray:
    """Usable design columns of `frame`, measured from the centre."""
    keep = np.array([n != "(Intercept)" for n in fit.design.names])
    return fit.design.spec.matrix(frame)[:, keep][:, fit.usable] - fit.data.center


def _new_rows(fit: CoxFit, new: pd.DataFrame) -> tuple[FloatArray, FloatArray, IntArray]:
    x = _columns(fit, new)
    offset = _offset(fit, new) - _offset_mean(fit) if fit.surv.formula.offset else np.zeros(len(new))
    return x, offset, _stratum(fit, new)


def _stratum(fit: CoxFit, new: pd.DataFrame) -> IntArray:
    """Stratum code of every new row; a combination that the fit did not see is an error."""
    known = fit.surv.strata.frame
    if not len(known.columns):
        return np.zeros(len(new), np.int64)
    frames.require(new, list(known.columns), "newdata")
    keys = {tuple(map(str, row)): i for i, row in enumerate(known.itertuples(index=False, name=None))}
    rows = [tuple(map(str, row)) for row in new[list(known.columns)].itertuples(index=False, name=None)]
    unseen = [row for row in rows if row not in keys]
    if unseen:
        raise DataError(f"newdata: stratum {unseen[0]} was not in the data of the fit ({len(unseen)} rows).")
    return np.array([keys[row] for row in rows], dtype=np.int64)


def _grid_points(fit: CoxFit, times: FloatArray, stratum: IntArray) -> IntArray:
    """(rows, times) last grid point at or before each time in the row's stratum; start - 1 when there is none."""
    sets = fit.data.sets
    found = [a + np.searchsorted(sets.time[a:b], times, side="right") - 1 for a, b in itertools.pairwise(sets.start)]
    return np.stack(found)[stratum]


def _take(values: FloatArray, grid: IntArray, start: IntArray) -> FloatArray:
    """Cumulative `values` (K, ...) at grid points, zero before the first one of the stratum."""
    inside = grid >= start[:, None]
    taken = values[np.where(inside, grid, 0)]
    return taken * inside.reshape(inside.shape + (1,) * (values.ndim - 1))


def _hazard_at(
    fit: CoxFit, base: cr.Baseline, x: FloatArray, offset: FloatArray, grid: IntArray, stratum: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Cumulative hazard and its standard error, (rows, grid columns), at x measured from the centre."""
    start = fit.data.sets.start[stratum]
    if grid.shape[1] == fit.data.sets.size and len(grid) == 1 and np.array_equal(grid[0], np.arange(grid.shape[1])):
        start = np.zeros(1, np.int64)
    H, var, drift = (_take(v, grid, start) for v in (base.cumulative, base.variance, base.drift))
    risk = np.exp(x @ fit._b_used() + offset)[:, None]
    away = drift - x[:, None, :] * H[:, :, None]
    V = fit.V[np.ix_(fit.usable, fit.usable)]
    variance = var + np.einsum("ijp,pq,ijq->ij", away, V, away)
    return risk * H, risk * np.sqrt(np.maximum(variance, 0.0))


def _standardised(fit: CoxFit, by: str, value: Any, t: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean survival (T,) with `by` = value for everybody, and influences (clusters or rows, T)."""
    surv = fit.surv
    frame = surv.frame.assign(**{by: _like(surv.frame[by], value)})
    x, offset, stratum = _new_rows(fit, frame)
    base, sets = cr.baseline(fit.data, fit._b_used()), fit.data.sets
    grid = _grid_points(fit, t, stratum)
    start = sets.start[stratum]
    H, drift = _take(base.cumulative, grid, start), _take(base.drift, grid, start)
    risk = np.exp(x @ fit._b_used() + offset)
    w = np.ones(len(surv)) if surv.weights is None else surv.weights
    share = w / w.sum()
    S = np.exp(-risk[:, None] * H)
    mean = share @ S
    push = share[:, None] * S * risk[:, None]
    to_hazard = np.stack([push[stratum == s].sum(axis=0) for s in range(len(sets.start) - 1)])
    to_b = np.einsum("it,itp->tp", push * H, np.broadcast_to(x[:, None, :], (*H.shape, x.shape[1])))
    to_b -= np.einsum("it,itp->tp", push, drift)
    own = share[:, None] * (S - mean)
    of_hazard, of_b = _hazard_influence(fit, t), _b_influence(fit)
    rows = surv.strata.codes
    psi = own - w[:, None] * (to_hazard[rows] * of_hazard + of_b @ to_b.T)
    return mean, psi if surv.cluster is None else cr.cluster_sums(psi, surv.cluster)


def _like(column: pd.Series, value: Any) -> Any:
    """`value` for every row, of the column's own kind."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return pd.Categorical([value] * len(column), dtype=column.dtype)
    return [value] * len(column)


def _b_influence(fit: CoxFit) -> FloatArray:
    """dfbeta (n, p) in the order of the rows used."""
    naive = fit.naive[np.ix_(fit.usable, fit.usable)]
    return fit.data.sets.unsort(cr.score_residuals(fit.data, fit._b_used())) @ naive


def _hazard_influence(fit: CoxFit, t: FloatArray) -> FloatArray:
    """(n, T) sum up to t of (dN - Y r dH) / S0 of each row, b held fixed; order of the rows used."""
    data, sets = fit.data, fit.data.sets
    h = hazard(data, relative_risk(data, fit._b_used())[1])
    C = np.concatenate([[0.0], np.cumsum(h.aa)])
    stratum = fit.surv.strata.codes[sets.order]
    reached = _grid_points(fit, t, stratum) + 1
    until = np.clip(reached, sets.first[:, None], sets.last[:, None])
    rate = h.r if data.w is None else h.r / data.w
    out = -rate[:, None] * (C[until] - C[sets.first][:, None])
    events = np.flatnonzero(sets.event)
    jump = (h.a / (data.mean_weight * data.deaths))[data.group] + rate[events] * h.ab[data.group]
    out[events] += jump[:, None] * (reached[events] >= sets.last[events][:, None])
    return sets.unsort(out)
