"""Proportional hazards for interval-censored times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kapstats import estimates
from kapstats._types import FloatArray, FrameLike
from kapstats.errors import ConvergenceError, DataError, check_memory, choose, warn
from kapstats.estimates import Curve, Estimates, sealed
from kapstats.inference.follow_up import within_follow_up
from kapstats.inference.intervals import check_level
from kapstats.kernels import interval_ph as ph
from kapstats.kernels.npmle import cliques
from kapstats.relapse import cox_diagnosis as diagnosis
from kapstats.relapse.follow_up import FollowUp
from kapstats.relapse.regression import (
    Covariates,
    coefficient_table,
    covariates,
    identifying,
    limit_notes,
    natural,
    predicted,
    predictor_rows,
    refuse_terms,
    shown_as,
    spread,
    used_coefficients,
)
from kapstats.relapse.surv_data import SurvData, checked_times, unpack

MODELS = ("semiparametric", "grouped", "spline", "weibull", "exponential", "gompertz", "piecewise-exponential")


@shown_as("hazard_ratios")
@sealed
@dataclass(frozen=True)
class IntervalCoxFit:
    """A semi-parametric proportional-hazards fit to interval-censored times."""

    coefficients: Estimates
    vcov: FloatArray
    kernel: ph.IntervalPH
    covariates: Covariates
    surv: SurvData
    meta: dict[str, Any]

    @property
    def loglik(self) -> float:
        """Log-likelihood at the estimate; its supremum where it has no maximum."""
        return self.kernel.loglik

    @property
    def loglik_null(self) -> float:
        """Log-likelihood without covariates."""
        return self.kernel.loglik_null

    @property
    def converged(self) -> bool:
        """Whether the maximum is certified and finite."""
        return self.kernel.converged and bool(np.isfinite(self.kernel.coef).all())

    @property
    def nobs(self) -> int:
        """Rows used."""
        return len(self.surv)

    @property
    def n_subjects(self) -> int:
        """Subjects among the rows used."""
        return self.surv.n_subjects

    @property
    def aic(self) -> float:
        """With the coefficients as parameters; the baseline is profiled out."""
        return 2.0 * self.kernel.coef.size - 2.0 * self.kernel.loglik

    @property
    def bic(self) -> float:
        """Bayesian criterion."""
        return float(np.log(self.nobs)) * self.kernel.coef.size - 2.0 * self.kernel.loglik

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the reader of these numbers has to know."""
        return tuple(self.meta["warnings"])

    def summary(self) -> Estimates:
        """The hazard ratios."""
        return self.hazard_ratios()

    def hazard_ratios(self) -> Estimates:
        """exp(coefficient) with limits."""
        return natural(self.coefficients, "Hazard ratios (interval-censored)")

    def baseline(self) -> Curve:
        """Cumulative baseline hazard at covariates zero, jumps at the right ends of intervals; NaN past follow-up."""
        self._used("baseline")
        return Curve(self.kernel.right, np.cumsum(self.kernel.jump), 0.0, self._last())

    def _used(self, what: str) -> FloatArray:
        return used_coefficients(self.covariates, self.kernel.coef, np.ones(self.kernel.coef.size, bool), what)

    def _last(self) -> float:
        """The last finite bound (the last visit of model="grouped")."""
        return float(FollowUp.of(self.surv, self.surv.strata).last.max())

    def predict(self, newdata: Any = None, times: Sequence[float] | None = None, *, extend: bool = False) -> Estimates:
        """Survival exp(-H0(t) exp(x'b)) for the rows of `newdata` (default: at the covariate means).

        Past the last bound it is not estimable (NE); ``extend=True`` carries the last value forward.
        """
        t = self.kernel.right if times is None else checked_times(times)
        rows, X = predictor_rows(self.covariates, self.surv.frame, newdata)
        S = np.exp(-np.exp(X @ self._used("predict"))[:, None] * self.baseline()(t, extend=True))
        frame = identifying(rows, t).assign(estimate=S.ravel())
        about = {**self.meta, "title": "Predicted survival", "scale": "identity"}
        found = Estimates(frame, about, picture=predicted("kaplan_meier", rows))
        return within_follow_up(found, self._last(), extend=extend)

    def plot(self, ax: Any = None, **options: Any) -> Any:
        """A forest of the hazard ratios."""
        return self.hazard_ratios().plot(ax=ax, **options)

    def explain(self) -> str:
        """The methods paragraph."""
        return (
            f"{self.meta['sentence']}. Proportional hazards for interval-censored times (Finkelstein, Biometrics "
            "1986; 42: 845-854), baseline by nonparametric maximum likelihood."
        )


def interval_cox(
    formula: str,
    data: FrameLike,
    *,
    model: str = "semiparametric",
    conf: str = "profile",
    knots: int | Sequence[float] = 1,
    cuts: Sequence[float] | None = None,
    weights: str | Sequence[float] | FloatArray | None = None,
    level: float = 0.95,
    order: Mapping[str, Sequence[Any]] | None = None,
) -> Any:
    """Hazard ratios from interval-censored times.

    The event of subject i lies in (left_i, right_i]; the likelihood is the product of
    exp(-H0(left) exp(x'b)) - exp(-H0(right) exp(x'b)), maximised over b and, in the semi-parametric model, over all
    cumulative hazards H0 (which then jump on the innermost intervals).

    Parameters
    ----------
    formula : ``Surv(left, right, type="interval2") ~ covariates``; right missing or infinite is right-censored. With
        ``model="grouped"``: ``Surv(time, event)``, time the visit at which the event was found
    model : "semiparametric"; "grouped" (visit grid, complementary log-log); or a parametric baseline: "spline"
        (Royston-Parmar, `knots`), "weibull", "exponential", "gompertz", "piecewise-exponential" (`cuts`)
    conf : "profile" (likelihood limits and likelihood-ratio p values) or "wald" (information of the profile likelihood;
        for model="grouped" the expected information, as a binomial model with complementary log-log link has)
    weights : case weights, column or numbers

    Returns
    -------
    IntervalCoxFit, or ParametricFit for a parametric baseline : ``coefficients hazard_ratios() predict() loglik``. With
    conf="profile", `statistic` is the signed root of the likelihood-ratio chi-square.

    Raises
    ------
    ConvergenceError
        No certified maximum. (The coefficient of an arm without events is reported as infinite, the others at the
        supremum of the likelihood.)

    Agrees with
    -----------
    icenReg 2.0.16 (ic_sp) and own R code: coefficients 1e-5, profile limits 1e-4.

    References
    ----------
    Finkelstein (1986) Biometrics 42: 845-854. Murphy and van der Vaart (2000) J Am Stat Assoc 95: 449-465.

    Examples
    --------
    >>> import pandas as pd
    >>> left, right = [0, 2, 4, 3, 1, 2, 5, 0, 1, 4], [2, 5, 6, None, 3, 4, None, 4, None, 7]
    >>> data = pd.DataFrame({"L": left, "R": right, "x": [1, 0, 0, 0, 1, 1, 1, 0, 1, 0]})
    >>> fit = interval_cox("Surv(L, R, type='interval2') ~ x", data, conf="wald")
    >>> fit.converged, bool(fit.hazard_ratios()["estimate"][0] > 0)
    (True, True)
    """
    choose(model, MODELS, "model")
    choose(conf, ("profile", "wald"), "conf")
    check_level(level)
    if model not in ("semiparametric", "grouped"):
        return _parametric(formula, data, model, knots, cuts, weights, level, order)
    grouped = model == "grouped"
    surv = unpack(formula, data, weights=weights, order=order, allow=("right",) if grouped else ("interval2",))
    refuse_terms(surv, "interval-censored hazards")
    left, right = _grid_intervals(surv) if grouped else (surv.left, surv.right)
    assert left is not None
    assert right is not None
    cov = covariates(surv, order)
    _require_information(left, right, formula)
    few = cliques(left, right).left.size
    check_memory(
        5.0 * few * left.size,
        f"{formula!r}: {left.size:,} rows with {few:,} innermost intervals",
        "Round the times (to days or visits), so that intervals coincide.",
    )
    fit, limit = ph.supremum(left, right, cov.X, surv.weights)
    if limit is None and not ph.settled(fit, cov.X):
        raise ConvergenceError(
            f"{formula!r}: no certified finite maximum (largest gradient {fit.max_gradient:.2g}). The covariates "
            "separate the events, or a level has few: merge levels or leave it out."
        )
    diagnosis.require_possible(surv, fit.loglik_null, fit.loglik)
    return _interval_fit(surv, cov, fit, limit, left, right, model, conf, level)


def _parametric(
    formula: str, data: FrameLike, model: str, knots: Any, cuts: Any, weights: Any, level: float, order: Any
) -> Any:
    from kapstats.relapse.parametric import parametric_survival

    name = "royston-parmar" if model == "spline" else model
    return parametric_survival(
        formula, data, distribution=name, knots=knots, cuts=cuts, weights=weights, level=level, order=order
    )


def _grid_intervals(surv: SurvData) -> tuple[FloatArray, FloatArray]:
    """Visit-grid intervals: an event at t_j lies in (t_{j-1}, t_j]; censored rows pass the last t_j <= c."""
    grid = np.concatenate([[0.0], np.unique(surv.time[surv.event])])
    at = np.searchsorted(grid, surv.time, side="right") - 1
    return np.where(surv.event, grid[np.maximum(at - 1, 0)], grid[at]), np.where(surv.event, grid[at], np.inf)


def _require_information(left: FloatArray, right: FloatArray, formula: str) -> None:
    if not np.isfinite(right).any():
        raise DataError(f"{formula!r}: no row has an event (every right bound is missing); there is nothing to fit.")


def _interval_fit(
    surv: SurvData,
    cov: Covariates,
    fit: ph.IntervalPH,
    limit: ph.Limit | None,
    left: FloatArray,
    right: FloatArray,
    model: str,
    conf: str,
    level: float,
) -> IntervalCoxFit:
    names = {"semiparametric": "baseline by nonparametric maximum likelihood", "grouped": "one jump per visit"}
    wald = "Wald limits from the " + ("expected information" if model == "grouped" else "profile information")
    limits = {"profile": "profile-likelihood limits", "wald": wald}[conf]
    method = f"interval-censored proportional hazards, {names[model]}, {limits}"
    n_events = int(np.isfinite(right).sum())
    meta = estimates.meta(
        method=method,
        level=level,
        scale="log",
        title="Hazard ratios (interval-censored)",
        sentence=f"{method}; {surv.sentence()}" + (f", {n_events} events" if surv.left is not None else ""),
        estimand="log hazard ratio",
        conventions=("intervals (left, right] half-open",),
        warnings=(*cov.warnings, *map(warn, _notes(cov, fit, right))),
        data=surv.data_print,
        frame_kind=surv.kind,
    )
    vcov = _grouped_vcov(left, right, cov.X, fit, limit, surv.weights) if model == "grouped" else fit.vcov
    V = spread(vcov, cov.aliased)
    table = coefficient_table(cov.names, spread(fit.coef, cov.aliased), V, meta, level, measure="hazard ratio")
    if conf == "profile":
        table = _with_profile(table, surv, cov, fit, limit, left, right, level)
    return IntervalCoxFit(table, V, fit, cov, surv, meta)


def _notes(cov: Covariates, fit: ph.IntervalPH, right: FloatArray) -> list[str]:
    return limit_notes(cov, fit.coef, np.ones(fit.coef.size, bool), np.isfinite(right))


def _grouped_vcov(
    left: FloatArray, right: FloatArray, X: FloatArray, fit: ph.IntervalPH, limit: ph.Limit | None, w: FloatArray | None
) -> FloatArray:
    """Expected-information covariance, of the rows and columns that count at infinity where there is a limit."""
    if limit is None:
        return ph.grouped_vcov(left, right, X, fit, w)
    rows, finite = limit.rows, limit.sign == 0
    part = X[rows][:, limit.kept]
    inner = ph.grouped_vcov(left[rows], right[rows], part, limit.fit, None if w is None else w[rows])
    V = np.full(fit.vcov.shape, np.nan)
    V[np.ix_(finite, finite)] = inner[np.ix_(finite[limit.kept], finite[limit.kept])]
    return V


def _with_profile(
    table: Estimates,
    surv: SurvData,
    cov: Covariates,
    fit: ph.IntervalPH,
    limit: ph.Limit | None,
    left: FloatArray,
    right: FloatArray,
    level: float,
) -> Estimates:
    if limit is None:
        limits, chi2 = ph.profile_limits(left, right, cov.X, fit, level=level, weights=surv.weights)
    else:
        limits, chi2 = ph.separated_limits(left, right, cov.X, limit, level=level, weights=surv.weights)
    notes = table.meta["warnings"]
    if not np.isfinite(limits[np.isfinite(fit.coef)]).all():
        notes = (*notes, warn("A profile likelihood stays flat: a limit is infinite. There are few events in a level."))
    changed = table.frame.assign(
        statistic=spread(np.sign(fit.coef) * np.sqrt(np.maximum(chi2, 0.0)), cov.aliased),
        p_value=spread(ph.likelihood_ratio(chi2), cov.aliased),
        conf_low=spread(limits[:, 0], cov.aliased),
        conf_high=spread(limits[:, 1], cov.aliased),
    )
    return Estimates(changed, {**table.meta, "warnings": notes}, table.vcov)
