"""Parametric survival models: AFT and proportional hazards, splines, piecewise hazards, cure fraction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import chdtrc

from kapstats import estimates
from kapstats._types import BoolArray, FloatArray, FrameLike
from kapstats.errors import ConvergenceError, DataError, EstimabilityError, FormulaError, choose, warn
from kapstats.inference.intervals import check_level
from kapstats.kernels import parametric_survival as ml
from kapstats.relapse import cox_diagnosis as diagnosis
from kapstats.relapse.parametric_fit import ParametricFit
from kapstats.relapse.parametric_layout import (
    AFT,
    PH,
    Layout,
    layout_of,
    null_layout,
    scale_strata,
    starting_values,
    unscaling,
)
from kapstats.relapse.parametric_limit import limit_of
from kapstats.relapse.regression import (
    Covariates,
    coefficient_table,
    covariates,
    limit_notes,
    refuse_terms,
    spread,
)
from kapstats.relapse.surv_data import SurvData, unpack, who

DISTRIBUTIONS = (*AFT, *PH)
FLAT = 1e8  # variance of a coefficient of a standardised covariate above which the likelihood has no maximum
ALIASES = {
    "lognormal": "log-normal",
    "loglogistic": "log-logistic",
    "gengamma": "generalised-gamma",
    "generalizedgamma": "generalised-gamma",
    "generalisedgamma": "generalised-gamma",
    "roystonparmar": "royston-parmar",
    "spline": "royston-parmar",
    "piecewiseexponential": "piecewise-exponential",
}


def parametric_survival(
    formula: str,
    data: FrameLike,
    *,
    distribution: str = "weibull",
    knots: int | Sequence[float] = 1,
    scale: str = "hazard",
    cuts: Sequence[float] | None = None,
    cure: str | None = None,
    weights: str | Sequence[float] | FloatArray | None = None,
    level: float = 0.95,
    order: Mapping[str, Sequence[Any]] | None = None,
) -> ParametricFit:
    """Parametric survival regression by maximum likelihood.

    AFT families: log T = x'b + sigma W (exponential and rayleigh fix sigma at 1 and 1/2; generalised gamma after
    Prentice with shape Q, Q = 1 Weibull, Q = 0 log-normal). Hazard families: gompertz h = exp(x'b + shape t);
    royston-parmar log H = s(log t) + x'b (or log odds, or normal score) with a restricted cubic spline s;
    piecewise-exponential with hazards constant between `cuts`.

    Parameters
    ----------
    formula : ``Surv(time, event)``, ``Surv(entry, time, event)`` (left truncation) or
        ``Surv(left, right, type="interval2")`` on the left; covariates, and ``strata(s)`` for a scale per stratum
    distribution : exponential, weibull, rayleigh, log-normal, log-logistic, generalised-gamma, gompertz,
        royston-parmar, piecewise-exponential
    knots : internal knots of the spline: how many (at quantiles of the log event times), or their times
    scale : of the spline: "hazard", "odds" or "normal"
    cuts : times at which the piecewise hazard changes
    cure : right-hand side for the logit of the uncured fraction ("1", or covariates): a mixture cure model
    weights : case weights, column or numbers

    Returns
    -------
    ParametricFit : ``coefficients hazard_ratios() time_ratios() predict() residuals() loglik aic bic``

    Raises
    ------
    ConvergenceError
        No maximum found. DataError for event times of 0. (The coefficient of a level without events is reported as
        infinite, the others at the supremum of the likelihood.)

    Agrees with
    -----------
    R survival 3.5-3 (survreg), icenReg 2.0.16 (Weibull PH): coefficients and standard errors below 1e-7.

    References
    ----------
    Kalbfleisch and Prentice (2002) The Statistical Analysis of Failure Time Data. Royston and Parmar (2002) Stat Med
    21: 2175-2197. Prentice (1974) Biometrika 61: 539-544.

    Examples
    --------
    >>> import pandas as pd
    >>> data = pd.DataFrame({"t": [2.0, 4.0, 6.0, 8.0], "e": [1, 1, 1, 0]})
    >>> fit = parametric_survival("Surv(t, e) ~ 1", data, distribution="exponential")
    >>> round(float(fit.coefficients["estimate"][0]), 6)
    1.89712
    """
    name = choose(ALIASES.get(_plain(distribution), str(distribution).lower()), DISTRIBUTIONS, "distribution")
    choose(scale, ("hazard", "odds", "normal"), "scale")
    check_level(level)
    surv = unpack(formula, data, weights=weights, order=order, allow=("right", "counting", "interval2"))
    refuse_terms(surv, "a parametric model", allow=("strata",))
    if surv.formula.strata and name not in ("weibull", "log-normal", "log-logistic"):
        raise FormulaError(f"strata() gives a scale per stratum, which {name} does not have.")
    observed = _observed(surv)
    if not np.isfinite(observed.right).any():
        raise EstimabilityError(
            f"{formula!r}: none of the {len(surv)} rows has the event, so no distribution of times can be estimated. "
            "Check which value means the event."
        )
    cov = covariates(surv, order, empty=True)
    cured = None if cure is None else covariates(surv, order, fixed=cure, empty=True)
    layout = layout_of(name, surv, observed, cov, cured, knots, scale, cuts)
    inputs = scale_strata(surv, surv.frame), cov.X, _cure_X(cured, len(surv))
    fit = _maximise(layout, inputs, observed)
    if not fit.converged and cured is None:
        fit = _supremum(layout, inputs, observed) or fit
    if not fit.converged:
        raise ConvergenceError(
            f"{formula!r}, {name}: the likelihood has no certified maximum after {fit.iterations} steps "
            f"(largest gradient {fit.gradient:.2g}); a group without events, or a family that does not fit. "
            "Merge levels, leave the covariate out, or choose another distribution."
        )
    return _fit_object(name, surv, cov, cured, layout, fit, observed, scale, level)


def _plain(text: str) -> str:
    return str(text).lower().replace("-", "").replace("_", "").replace(" ", "")


def _observed(surv: SurvData) -> ml.Observed:
    n = len(surv)
    if surv.left is not None and surv.right is not None:
        left, right = surv.left, surv.right
    else:
        left, right = surv.time, np.where(surv.event, surv.time, np.inf)
    bad = (left == right) & (left <= 0)
    if bad.any():
        raise DataError(f"{int(bad.sum())} events at time 0 (rows {who(surv.frame, bad)}); times must be above 0.")
    entry = np.zeros(n) if surv.entry is None else np.maximum(surv.entry, 0.0)
    weights = np.ones(n) if surv.weights is None else surv.weights
    return ml.Observed(left, right, entry, weights)


def _cure_X(cured: Covariates | None, n: int) -> FloatArray:
    return np.empty((n, 0)) if cured is None else cured.X


def _supremum(layout: Layout, inputs: tuple[FloatArray, ...], observed: ml.Observed) -> ml.Fit | None:
    """The fit at infinity, where covariates separate rows without event from the others."""
    limit = limit_of(layout, inputs[1], observed)
    if limit is None:
        return None
    rows = tuple(M[limit.rows] for M in inputs)
    return limit.at_infinity(_maximise(limit.layout, rows, limit.observed(observed)))


def _maximise(layout: Layout, inputs: tuple[FloatArray, ...], observed: ml.Observed) -> ml.Fit:
    """Newton over the free parameters; covariates are centred and scaled inside and put back by the chain rule.

    inputs : indicators of the scale strata, covariates, covariates of the cure fraction, one row per observation
    """
    Z, X, U = inputs
    centre, size = X.mean(0), np.where(X.std(0) > 0, X.std(0), 1.0)
    T = unscaling(layout, centre, size)
    scaled = (X - centre) / size
    free = np.flatnonzero(layout.free)
    offset = np.where(layout.free, 0.0, layout.start)

    def matrices(time: FloatArray, rows: BoolArray) -> list[FloatArray]:
        built = layout.build(scaled[rows], Z[rows], U[rows], time[rows])
        return [np.column_stack([M[:, free], M @ offset]) for M in built]

    for first in starting_values(layout, observed):
        start = np.append(first[free], 1.0)
        held, most = np.array([start.size - 1]), 60 if layout.distribution == "generalised-gamma" else 200
        fit = ml.maximise(layout.family, matrices, observed, start, held=held, max_iterations=most)
        if fit.converged:
            break
    flat = np.abs(np.diag(fit.vcov)[:-1]).max(initial=0.0) > FLAT  # a likelihood that rises for ever looks flat
    fit = replace(fit, converged=fit.converged and not flat)
    theta, V = offset.copy(), np.zeros((offset.size, offset.size))
    theta[free], V[np.ix_(free, free)] = fit.theta[:-1], fit.vcov[:-1, :-1]
    return replace(fit, theta=T @ theta, vcov=T @ V @ T.T)


def _fit_object(
    name: str,
    surv: SurvData,
    cov: Covariates,
    cured: Covariates | None,
    layout: Layout,
    fit: ml.Fit,
    observed: ml.Observed,
    scale: str,
    level: float,
) -> ParametricFit:
    null = fit
    if cov.X.shape[1]:
        empty = replace(cov, X=cov.X[:, :0], names=(), aliased=np.zeros(0, bool))
        base = null_layout(layout, cov.X.shape[1])
        U = _cure_X(cured, len(surv))
        null = _maximise(base, (scale_strata(surv, surv.frame), empty.X, U), observed)
        if null.converged:
            diagnosis.require_possible(surv, null.loglik, fit.loglik, bounded=False)
    n_events = int(np.isfinite(observed.right).sum())
    title = {"royston-parmar": f"Royston-Parmar ({scale} scale)"}.get(name, name)
    by = f", scale by {', '.join(surv.formula.strata)}" if surv.formula.strata else ""
    mixture = ", mixture cure" if cured is not None else ""
    method = f"{title} survival regression{mixture}{by}, maximum likelihood"
    kind = "log hazard" if name in PH else "log time"
    meta = estimates.meta(
        method=method,
        level=level,
        scale="log",
        title=f"Coefficients ({kind})",
        sentence=f"{method}; {surv.sentence()}" + (f", {n_events} events" if surv.left is not None else ""),
        estimand=f"effect on {kind}",
        conventions=("standard errors from the observed information", "log-likelihood on the time scale"),
        warnings=(*cov.warnings, *map(warn, _infinite(cov, layout, fit, observed))),
        data=surv.data_print,
        frame_kind=surv.kind,
        distribution=name,
        spline_scale=scale,
        lr_statistic=2.0 * (fit.loglik - null.loglik),
        lr_p_value=float(chdtrc(max(cov.X.shape[1], 1), max(2.0 * (fit.loglik - null.loglik), 0.0))),
    )
    names, coef, V = _with_aliased(layout, cov, fit)
    return ParametricFit(
        coefficient_table(names, coef, V, meta, level, measure=kind),
        V,
        fit.theta,
        fit.vcov,
        layout,
        cov,
        cured,
        surv,
        meta,
        fit.loglik,
        null.loglik,
        fit.iterations,
    )


def _infinite(cov: Covariates, layout: Layout, fit: ml.Fit, observed: ml.Observed) -> list[str]:
    slopes = fit.theta[layout.slopes]
    return limit_notes(cov, slopes, np.ones(slopes.size, bool), np.isfinite(observed.right))


def _with_aliased(layout: Layout, cov: Covariates, fit: ml.Fit) -> tuple[list[str], FloatArray, FloatArray]:
    """Reported rows: free parameters, with NaN rows for aliased covariates."""
    first, last = layout.slopes.start, layout.slopes.stop
    reported = [*layout.names[:first], *cov.names, *layout.names[last:]]
    there = np.concatenate([layout.free[:first], ~cov.aliased, layout.free[last:]])
    dropped = np.concatenate([~layout.free[:first], np.zeros(len(cov.names), bool), ~layout.free[last:]])
    free = np.flatnonzero(layout.free)
    coef = spread(fit.theta[free], ~there)[~dropped]
    V = spread(fit.vcov[np.ix_(free, free)], ~there)[np.ix_(~dropped, ~dropped)]
    return [n for n, d in zip(reported, dropped, strict=True) if not d], coef, V
