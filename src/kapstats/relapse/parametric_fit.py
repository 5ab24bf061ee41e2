"""A fitted parametric survival model: effects, predictions, quantiles, residuals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri

from kapstats._types import FloatArray
from kapstats.errors import EstimabilityError, FormulaError, choose
from kapstats.estimates import Estimates, sealed
from kapstats.inference.follow_up import extrapolated
from kapstats.kernels import jets
from kapstats.kernels import parametric_survival as ml
from kapstats.relapse.follow_up import FollowUp
from kapstats.relapse.parametric_layout import AFT, BOTH, PH, Layout, scale_strata
from kapstats.relapse.regression import (
    Covariates,
    coefficient_table,
    identifying,
    natural,
    newdata_frame,
    predicted,
    shown_as,
    spread,
)
from kapstats.relapse.surv_data import SurvData, checked_times


@shown_as("coefficients")
@sealed
@dataclass(frozen=True)
class ParametricFit:
    """A fitted parametric survival model on the scale of its distribution (AFT: log time; PH: log hazard)."""

    coefficients: Estimates
    vcov: FloatArray
    theta: FloatArray
    theta_vcov: FloatArray
    layout: Layout
    covariates: Covariates
    cure: Covariates | None
    surv: SurvData
    meta: dict[str, Any]
    loglik: float
    loglik_null: float
    iterations: int

    @property
    def distribution(self) -> str:
        """Name of the family."""
        return str(self.meta["distribution"])

    @property
    def nobs(self) -> int:
        """Rows used."""
        return len(self.surv)

    @property
    def n_subjects(self) -> int:
        """Subjects among the rows used."""
        return self.surv.n_subjects

    @property
    def converged(self) -> bool:
        """Whether every parameter has a certified finite maximum."""
        return bool(np.isfinite(self.theta).all())

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the reader of these numbers has to know."""
        return tuple(self.meta["warnings"])

    @property
    def n_parameters(self) -> int:
        """Free parameters."""
        return int(self.layout.free.sum())

    @property
    def aic(self) -> float:
        """Akaike's criterion."""
        return 2.0 * self.n_parameters - 2.0 * self.loglik

    @property
    def bic(self) -> float:
        """Bayesian criterion."""
        return float(np.log(self.nobs)) * self.n_parameters - 2.0 * self.loglik

    @property
    def scale(self) -> FloatArray:
        """Scale of log time, one per scale stratum (AFT families)."""
        if self.distribution not in AFT:
            raise FormulaError(f"{self.distribution} has no scale of log time.")
        at = [i for i, n in enumerate(self.layout.names) if n.startswith("Log(scale")]
        return np.exp(self.theta[at])

    def summary(self) -> Estimates:
        """The coefficients."""
        return self.coefficients

    def log_hazard_ratios(self) -> Estimates:
        """Log hazard ratios; in the Weibull family minus the AFT effect over the scale (delta method)."""
        rows = self._effects()
        if self.distribution in PH and self.meta["spline_scale"] == "hazard":
            return self._picked(rows, self.theta[rows], np.eye(self.theta.size)[rows], "hazard")
        if self.distribution not in BOTH or self.scale.size != 1:
            raise FormulaError(
                f"{self.distribution} hazards are not proportional; use time_ratios() or predict(type='survival')."
            )
        at = self.layout.names.index("Log(scale)")
        sigma, beta = self.scale[0], self.theta[rows]
        J = np.zeros((len(rows), self.theta.size))
        J[np.arange(len(rows)), rows] = -1.0 / sigma
        J[:, at] = beta / sigma
        return self._picked(rows, -beta / sigma, J, "hazard")

    def hazard_ratios(self) -> Estimates:
        """Hazard ratios with limits."""
        return natural(self.log_hazard_ratios(), "Hazard ratios")

    def time_ratios(self) -> Estimates:
        """exp(AFT effect): how many times longer."""
        if self.distribution not in AFT:
            raise FormulaError(f"{self.distribution} is a hazard model; use hazard_ratios().")
        rows = self._effects()
        return natural(self._picked(rows, self.theta[rows], np.eye(self.theta.size)[rows], "time"), "Time ratios")

    def _effects(self) -> list[int]:
        return list(range(len(self.theta)))[self.layout.slopes]

    def _picked(self, rows: list[int], values: FloatArray, J: FloatArray, what: str) -> Estimates:
        aliased = self.covariates.aliased
        finite = np.isfinite(values)
        J = np.where(finite[:, None], J, 0.0)
        V = np.where(np.outer(finite, finite), J @ np.nan_to_num(self.theta_vcov) @ J.T, np.nan)
        V = spread(V, aliased)
        meta = {**self.meta, "scale": "log", "measure": f"{what} ratio", "title": f"{what.capitalize()} ratios"}
        return coefficient_table(self.covariates.names, spread(values, aliased), V, meta, self.meta["level"])

    def predict(
        self, newdata: Any = None, *, type: str = "survival", times: Sequence[float] | None = None, p: Any = 0.5
    ) -> Estimates:
        """Survival, cumulative hazard or hazard at `times`, or quantiles `p`, for the rows of `newdata`.

        Without `newdata`: the rows used. Limits by the delta method on the scale log(-log S), log hazard or log time.
        A time after the last one observed is extrapolated by the model, with a warning.
        """
        choose(type, ("survival", "cumulative-hazard", "hazard", "quantile"), "type")
        rows = newdata_frame(newdata, self.surv.frame)
        if type == "quantile":
            return extrapolated(self._quantiles(rows, np.atleast_1d(np.asarray(p, float))), self._last(), "estimate")
        t = self._default_times() if times is None else checked_times(times)
        if (t <= 0).any():
            raise FormulaError(f"times={times}: predictions need times above 0.")
        matrices = self._matrices(rows, t)
        all_t = np.tile(t, len(rows))
        log_S = self._jet(self.layout.family.log_survival, matrices, all_t)
        if type == "hazard":
            log_f = self._jet(self.layout.family.log_density, matrices, all_t)
            value, se = _delta(log_f - log_S, matrices, self.theta_vcov)
        else:
            value, se = _delta(jets.log(-log_S), matrices, self.theta_vcov)
        z = float(ndtri(0.5 + self.meta["level"] / 2.0))
        bounds = [np.exp(value), np.exp(value - z * se), np.exp(value + z * se)]
        if type == "survival":
            bounds = [np.exp(-bounds[0]), np.exp(-bounds[2]), np.exp(-bounds[1])]
        columns = dict(zip(("estimate", "conf_low", "conf_high"), bounds, strict=True))
        frame = identifying(rows, t).assign(**columns)
        meta = {**self.meta, "title": f"Predicted {type}", "scale": "identity"}
        kind = {"survival": "kaplan_meier", "hazard": "hazard"}.get(type, "cumulative_incidence")
        words = {"ylabel": "Cumulative hazard", "percent": False} if type == "cumulative-hazard" else {}
        return extrapolated(Estimates(frame, meta, picture=predicted(kind, rows, **words)), self._last())

    def _last(self) -> float:
        """The last time observed."""
        return float(FollowUp.of(self.surv, self.surv.strata).last.max())

    def _plot_hazard(self, newdata: Any, ax: Any, options: dict[str, Any]) -> Any:
        if newdata is None:
            raise FormulaError("plot(kind='hazard'): newdata holds the rows whose hazards are drawn.")
        end = float(self._default_times()[-1])
        times = options.pop("times", np.linspace(end / 200.0, end, 200).tolist())
        return self.predict(newdata, type="hazard", times=times).plot(ax=ax, **options)

    def _default_times(self) -> FloatArray:
        right = self.surv.right if self.surv.right is not None else self.surv.time
        finite = right[np.isfinite(right) & (right > 0)]
        return np.linspace(finite.max() / 20.0, finite.max(), 20)

    def _matrices(self, rows: pd.DataFrame, t: FloatArray) -> list[FloatArray]:
        X, Z, U = (np.repeat(M, len(t), axis=0) for M in self._inputs(rows))
        return self.layout.build(X, Z, U, np.tile(t, len(rows)))

    def _inputs(self, rows: pd.DataFrame) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Covariates, scale strata and cure covariates of `rows`."""
        lost = [n for n, value in zip(self.layout.names, self.theta, strict=True) if not np.isfinite(value)]
        if lost:
            raise EstimabilityError(f"{', '.join(lost)} has no finite estimate. Merge levels, or refit without it.")
        U = np.empty((len(rows), 0)) if self.cure is None else self.cure.new(rows)
        return self.covariates.new(rows), scale_strata(self.surv, rows), U

    def _jet(self, what: Callable[..., jets.Jet], matrices: list[FloatArray], t: FloatArray) -> jets.Jet:
        return what(jets.variables([M @ self.theta for M in matrices]), t)

    def _quantiles(self, rows: pd.DataFrame, p: FloatArray) -> Estimates:
        frame = rows.loc[rows.index.repeat(len(p))].reset_index(drop=True).assign(quantile=np.tile(p, len(rows)))
        target = np.log1p(-frame["quantile"].to_numpy(float))
        inputs = self._inputs(frame)
        t = self._invert(inputs, target)
        matrices = self.layout.build(*inputs, t)
        log_S = self._jet(self.layout.family.log_survival, matrices, t)
        log_f = self._jet(self.layout.family.log_density, matrices, t)
        _, se_log_S = _delta(log_S, matrices, self.theta_vcov)
        se_log_t = se_log_S / np.exp(log_f.v - log_S.v) / t
        z = float(ndtri(0.5 + self.meta["level"] / 2.0))
        frame = frame.assign(
            estimate=t, std_error=se_log_t * t, conf_low=t * np.exp(-z * se_log_t), conf_high=t * np.exp(z * se_log_t)
        )
        return Estimates(frame, {**self.meta, "title": "Predicted quantiles", "scale": "identity"})

    def _invert(self, inputs: tuple[FloatArray, FloatArray, FloatArray], target: FloatArray) -> FloatArray:
        """log S(t) = target by bisection in log t, Inf where it is never reached."""
        low, high = np.full(target.size, -30.0), np.full(target.size, 30.0)

        def log_survival(x: FloatArray) -> FloatArray:
            t = np.exp(x)
            with np.errstate(over="ignore", invalid="ignore"):
                return self._jet(self.layout.family.log_survival, self.layout.build(*inputs, t), t).v

        never = log_survival(high) > target
        for _ in range(90):
            middle = (low + high) / 2.0
            above = log_survival(middle) > target
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        return np.where(never, np.inf, np.exp((low + high) / 2.0))

    def residuals(self, kind: str = "deviance") -> FloatArray:
        """Cox-Snell (-log S at the end of follow-up) or deviance residuals as survreg's."""
        choose(kind, ("deviance", "cox-snell"), "kind")
        if self.surv.left is not None:
            raise FormulaError("residuals() are defined here for exact and right-censored times.")
        t = self.surv.time
        matrices = self.layout.build(*self._inputs(self.surv.frame), t)
        log_S = self._jet(self.layout.family.log_survival, matrices, t).v
        if kind == "cox-snell":
            return -log_S
        if self.distribution not in AFT or self.distribution == "generalised-gamma":
            raise FormulaError("deviance residuals are defined for the location-scale families.")
        location, log_scale = (M @ self.theta for M in matrices[:2])
        log_f = self._jet(self.layout.family.log_density, matrices, t).v + np.log(t)
        best = {"log-normal": -ml.HALF_LOG_2PI, "log-logistic": -2.0 * np.log(2.0)}.get(self.distribution, -1.0)
        shortfall = np.where(self.surv.event, best - log_scale - log_f, -log_S)
        return np.sign(np.log(t) - location) * np.sqrt(2.0 * np.maximum(shortfall, 0.0))

    def plot(self, ax: Any = None, *, kind: str = "forest", newdata: Any = None, **options: Any) -> Any:
        """A forest of the hazard ratios, or of the time ratios where hazards are not proportional.

        kind="hazard": the hazard of the rows of `newdata` over time, as ``predict(newdata, type="hazard")`` gives it.
        """
        if choose(kind, ("forest", "hazard"), "kind") == "hazard":
            return self._plot_hazard(newdata, ax, options)
        only_aft = self.distribution in AFT and self.distribution not in BOTH
        return (self.time_ratios() if only_aft else self.hazard_ratios()).plot(ax=ax, **options)

    def explain(self) -> str:
        """The methods paragraph."""
        return (
            f"{self.meta['sentence']}. Parameters by maximum likelihood (Newton with exact derivatives), standard "
            f"errors from the observed information; log-likelihood {self.loglik:.2f}, AIC {self.aic:.1f}."
        )


def _delta(value: jets.Jet, matrices: list[FloatArray], V: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Values (n,) and delta-method standard errors (n,) of a jet of the predictors."""
    G = sum(value.g[j][:, None] * M for j, M in enumerate(matrices))
    return value.v, np.sqrt(np.maximum(np.einsum("ni,ij,nj->n", G, V, G), 0.0))
