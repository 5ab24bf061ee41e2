"""Parametric survival models: AFT and proportional hazards, splines, piecewise hazards, cure fraction."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import pandas as pd
from scipy.special import chdtrc, ndtri

from kapstats import estimates
from kapstats._types import BoolArray, FloatArray, FrameLike, IntArray
from kapstats.errors import ConvergenceError, DataError, EstimabilityError, FormulaError, choose, first_ids
from kapstats.estimates import Estimates
from kapstats.inference.intervals import check_level
from kapstats.kernels import jets
from kapstats.kernels import parametric_survival as ml
from kapstats.relapse.regression import (
    Covariates,
    coefficient_table,
    covariates,
    identifying,
    natural,
    newdata_frame,
    refuse_terms,
    spread,
)
from kapstats.relapse.surv_data import SurvData, unpack, who

AFT = ("exponential", "weibull", "rayleigh", "log-normal", "log-logistic", "generalised-gamma")
PH = ("gompertz", "royston-parmar", "piecewise-exponential")
DISTRIBUTIONS = (*AFT, *PH)
#: AFT families that are proportional hazards as well
BOTH = ("exponential", "weibull", "rayleigh")
FAMILIES = {
    "exponential": ml.WEIBULL,
    "weibull": ml.WEIBULL,
    "rayleigh": ml.WEIBULL,
    "log-normal": ml.LOGNORMAL,
    "log-logistic": ml.LOGLOGISTIC,
    "gompertz": ml.GOMPERTZ,
    "generalised-gamma": ml.GENERALISED_GAMMA,
}
FLAT = 1e8  # variance of a coefficient of a standardised covariate above which the likelihood has no maximum
FIXED_LOG_SCALE = {"exponential": 0.0, "rayleigh": -np.log(2.0)}
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


class Builder(Protocol):
    """(X covariates without intercept, Z scale strata, U cure covariates, time) -> predictors' design matrices."""

    def __call__(self, X: FloatArray, Z: FloatArray, U: FloatArray, t: FloatArray, /) -> list[FloatArray]: ...


@dataclass(frozen=True, slots=True)
class Layout:
    """How parameters make the predictors of a family.

    distribution and detail (scale of the spline, cuts) name the family; cured adds the mixture; names, start (q,) of
    the parameters; build: see Builder; free (q,): False where held at the start; slopes: where the covariates stand.
    """

    distribution: str
    detail: str | tuple[float, ...]
    cured: bool
    names: tuple[str, ...]
    start: FloatArray
    build: Builder
    free: BoolArray
    slopes: slice

    @property
    def family(self) -> ml.Family:
        """The likelihood; made on request, so that fits can be pickled."""
        if isinstance(self.detail, tuple):
            base = ml.piecewise(np.asarray(self.detail))
        else:
            base = FAMILIES[self.distribution] if self.distribution in FAMILIES else ml.spline(self.detail)
        return ml.cured(base) if self.cured else base


@dataclass(frozen=True, slots=True)
class _Linear:
    """Location (intercept and p covariates), then log scale per stratum or gompertz shape, then Q."""

    p: int
    q: int
    has_strata: bool
    has_shape: bool

    def __call__(self, X: FloatArray, Z: FloatArray, U: FloatArray, t: FloatArray, /) -> list[FloatArray]:
        location = np.zeros((len(X), self.q))
        location[:, 0], location[:, 1 : self.p + 1] = 1.0, X
        out, at = [location], self.p + 1
        blocks = [Z if self.has_strata else np.ones((len(X), 1)), *([np.ones((len(X), 1))] if self.has_shape else [])]
        for block in blocks:
            M = np.zeros((len(X), self.q))
            M[:, at : at + block.shape[1]] = block
            out.append(M)
            at += block.shape[1]
        return out


@dataclass(frozen=True, slots=True)
class _Spline:
    """s(log t) + x'b and its slope."""

    basis: ml.Basis

    def __call__(self, X: FloatArray, Z: FloatArray, U: FloatArray, t: FloatArray, /) -> list[FloatArray]:
        u = np.log(t)
        return [np.hstack([self.basis.value(u), X]), np.hstack([self.basis.slope(u), np.zeros_like(X)])]


@dataclass(frozen=True, slots=True)
class _Piecewise:
    """x'b, then one log hazard per interval."""

    J: int

    def __call__(self, X: FloatArray, Z: FloatArray, U: FloatArray, t: FloatArray, /) -> list[FloatArray]:
        out = [np.hstack([np.zeros((len(X), self.J)), X])]
        for j in range(self.J):
            M = np.zeros((len(X), self.J + X.shape[1]))
            M[:, j] = 1.0
            out.append(M)
        return out


@dataclass(frozen=True, slots=True)
class _Cured:
    """The predictors of `base`, then the logit of the uncured fraction (q and r parameters)."""

    base: Builder
    q: int
    r: int

    def __call__(self, X: FloatArray, Z: FloatArray, U: FloatArray, t: FloatArray, /) -> list[FloatArray]:
        wide = [np.hstack([M, np.zeros((len(X), self.r))]) for M in self.base(X, Z, U, t)]
        logit = np.zeros((len(X), self.q + self.r))
        logit[:, self.q], logit[:, self.q + 1 :] = 1.0, U
        return [*wide, logit]


@dataclass(frozen=True, slots=True)
class _WithoutSlopes:
    """The predictors of `base` for p covariates at zero, without their columns."""

    base: Builder
    p: int
    keep: IntArray

    def __call__(self, X: FloatArray, Z: FloatArray, U: FloatArray, t: FloatArray, /) -> list[FloatArray]:
        return [M[:, self.keep] for M in self.base(np.zeros((len(X), self.p)), Z, U, t)]


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
    def converged(self) -> bool:
        """Whether the maximum is certified."""
        return True

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
        V = spread(J @ self.theta_vcov @ J.T, aliased)
        meta = {**self.meta, "scale": "log", "title": f"Log {what} ratios"}
        return coefficient_table(self.covariates.names, spread(values, aliased), V, meta, self.meta["level"])

    def predict(
        self, newdata: Any = None, *, type: str = "survival", times: Sequence[float] | None = None, p: Any = 0.5
    ) -> Estimates:
        """Survival, cumulative hazard or hazard at `times`, or quantiles `p`, for the rows of `newdata`.

        Without `newdata`: the rows used. Limits by the delta method on the scale log(-log S), log hazard or log time.
        """
        choose(type, ("survival", "cumulative-hazard", "hazard", "quantile"), "type")
        rows = newdata_frame(newdata, self.surv.frame)
        if type == "quantile":
            return self._quantiles(rows, np.atleast_1d(np.asarray(p, float)))
        t = np.atleast_1d(np.asarray(self._default_times() if times is None else times, float))
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
        return Estimates(frame, {**self.meta, "title": f"Predicted {type}", "scale": "identity"})

    def _plot_hazard(self, newdata: Any, ax: Any, options: dict[str, Any]) -> Any:
        from kapstats.report.figures.hazard import hazard as draw

        if newdata is None:
            raise FormulaError("plot(kind='hazard'): newdata holds the rows whose hazards are drawn.")
        end = float(self._default_times()[-1])
        times = options.pop("times", np.linspace(end / 200.0, end, 200).tolist())
        found = self.predict(newdata, type="hazard", times=times)
        keys = [c for c in found.columns if c not in ("time", "estimate", "conf_low", "conf_high")]
        return draw(found.frame, strata=keys, level=self.meta["level"], ax=ax, **options)

    def _default_times(self) -> FloatArray:
        right = self.surv.right if self.surv.right is not None else self.surv.time
        finite = right[np.isfinite(right) & (right > 0)]
        return np.linspace(finite.max() / 20.0, finite.max(), 20)

    def _matrices(self, rows: pd.DataFrame, t: FloatArray) -> list[FloatArray]:
        X, Z, U = (np.repeat(M, len(t), axis=0) for M in self._inputs(rows))
        return self.layout.build(X, Z, U, np.tile(t, len(rows)))

    def _inputs(self, rows: pd.DataFrame) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Covariates, scale strata and cure covariates of `rows`."""
        U = np.empty((len(rows), 0)) if self.cure is None else self.cure.new(rows)
        return self.covariates.new(rows), _scale_strata(self.surv, rows), U

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

    def _repr_html_(self) -> str:
        return self.coefficients.to_html()

    def __str__(self) -> str:
        return self.coefficients.to_text()

    __repr__ = __str__


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
        No finite maximum. DataError for event times of 0.

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
    name = choose(ALIASES.get(_plain(distribution), distribution.lower()), DISTRIBUTIONS, "distribution")
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
    layout = _layout(name, surv, observed, cov, cured, knots, scale, cuts)
    fit = _maximise(layout, surv, cov.X, _cure_X(cured, len(surv)), observed)
    if not fit.converged:
        raise ConvergenceError(
            f"{formula!r}, {name}: the likelihood has no certified maximum after {fit.iterations} steps "
            f"(largest gradient {fit.gradient:.2g}); a group without events, or a family that does not fit. "
            "Merge levels, leave the covariate out, or choose another distribution."
        )
    return _fit_object(name, surv, cov, cured, layout, fit, observed, scale, level)


def _plain(text: str) -> str:
    return text.lower().replace("-", "").replace("_", "").replace(" ", "")


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


def _scale_strata(surv: SurvData, rows: pd.DataFrame) -> FloatArray:
    """Indicators of the scale strata for `rows`."""
    if not surv.formula.strata:
        return np.ones((len(rows), 1))
    if rows is surv.frame:
        return np.eye(len(surv.strata))[surv.strata.codes]
    names = list(surv.strata.frame.columns)
    keys = {tuple(map(str, v)): i for i, v in enumerate(surv.strata.frame.itertuples(index=False, name=None))}
    wanted = [tuple(map(str, v)) for v in rows[names].itertuples(index=False, name=None)]
    unknown = [v for v in wanted if v not in keys]
    if unknown:
        raise DataError(f"newdata: strata that the fit did not see ({first_ids(unknown)}).")
    return np.eye(len(keys))[[keys[v] for v in wanted]]


def _cure_X(cured: Covariates | None, n: int) -> FloatArray:
    return np.empty((n, 0)) if cured is None else cured.X


def _midpoints(observed: ml.Observed) -> tuple[FloatArray, BoolArray]:
    """A time per row for starting values and knots, and whether the event was seen."""
    seen = np.isfinite(observed.right)
    time = np.where(seen, (observed.left + np.where(seen, observed.right, 0.0)) / 2.0, observed.left)
    return np.maximum(time, 1e-8), seen


def _layout(
    name: str, surv: SurvData, observed: ml.Observed, cov: Covariates, cured: Covariates | None,
    knots: int | Sequence[float], scale: str, cuts: Sequence[float] | None,
) -> Layout:
    kept = [n for n, a in zip(cov.names, cov.aliased, strict=True) if not a]
    if name == "royston-parmar":
        base = _spline_layout(kept, observed, knots, scale)
    elif name == "piecewise-exponential":
        base = _piecewise_layout(kept, observed, cuts)
    else:
        base = _linear_layout(name, kept, surv, observed)
    return base if cured is None else _with_cure(base, cured)


def _linear_layout(name: str, kept: list[str], surv: SurvData, observed: ml.Observed) -> Layout:
    """Intercept, covariates, then ancillary parameters (log scale per stratum; gompertz shape; Q)."""
    time, seen = _midpoints(observed)
    p, w = len(kept), observed.weights
    rate = np.log(max((w * seen).sum(), 0.5) / (w * time).sum())
    extra: list[tuple[str, float, bool]]
    if name == "gompertz":
        intercept, extra = float(rate), [("shape", 0.0, True)]
    else:
        labels = surv.strata.labels if surv.formula.strata else ("",)
        log_scale = [f"Log(scale[{t.split('=', 1)[-1]}])" if t else "Log(scale)" for t in labels]
        intercept = float(-rate)
        extra = [(n, FIXED_LOG_SCALE.get(name, 0.0), name not in FIXED_LOG_SCALE) for n in log_scale]
        extra += [("Q", 0.5, True)] if name == "generalised-gamma" else []
    names = ("(Intercept)", *kept, *(e[0] for e in extra))
    start = np.array([intercept, *[0.0] * p, *(e[1] for e in extra)])
    free = np.array([True] * (p + 1) + [e[2] for e in extra])
    build = _Linear(p, len(names), name != "gompertz", name == "generalised-gamma")
    return Layout(name, "", False, names, start, build, free, slice(1, p + 1))


def _spline_layout(kept: list[str], observed: ml.Observed, knots: int | Sequence[float], scale: str) -> Layout:
    time, seen = _midpoints(observed)
    x = np.log(time[seen])
    if x.size < 2 or np.ptp(x) == 0:
        raise DataError("royston-parmar: at least two distinct event times are needed to place the knots.")
    inner = np.linspace(0, 1, knots + 2) if isinstance(knots, (int, np.integer)) else None
    at = np.quantile(x, inner) if inner is not None else np.array([x.min(), *np.log(np.sort(knots)), x.max()])
    if (np.diff(at) <= 0).any():
        raise FormulaError(f"knots={knots}: the knots {np.exp(at).round(3).tolist()} are not increasing; use fewer.")
    m, p = at.size, len(kept)
    names = (*(f"gamma{j}" for j in range(m)), *kept)
    shape = 1.2 / max(float(np.std(x)), 0.3)
    start = np.zeros(m + p)
    rate = np.log(max(seen.sum(), 1.0) / (observed.weights * time).sum())
    start[0], start[1] = float(np.mean(x) * (1.0 - shape) + rate), shape
    free, slopes = np.ones(m + p, bool), slice(m, m + p)
    return Layout("royston-parmar", scale, False, names, start, _Spline(ml.Basis(at)), free, slopes)


def _piecewise_layout(kept: list[str], observed: ml.Observed, cuts: Sequence[float] | None) -> Layout:
    if cuts is None:
        raise FormulaError("piecewise-exponential: name the times at which the hazard changes, such as cuts=[30, 90].")
    c = np.sort(np.asarray(cuts, float))
    edges = [0.0, *c, np.inf]
    time, seen = _midpoints(observed)
    rate = np.log(max((observed.weights * seen).sum(), 0.5) / (observed.weights * time).sum())
    p, J = len(kept), c.size + 1
    names = (*(f"Log(hazard)({a:g}, {b:g}]" for a, b in itertools.pairwise(edges)), *kept)
    start, free = np.concatenate([np.full(J, rate), np.zeros(p)]), np.ones(J + p, bool)
    detail = tuple(c.tolist())
    return Layout("piecewise-exponential", detail, False, names, start, _Piecewise(J), free, slice(J, J + p))


def _with_cure(base: Layout, cured: Covariates) -> Layout:
    """Add logit parameters of the uncured fraction behind the latency parameters."""
    kept = [n for n, a in zip(cured.names, cured.aliased, strict=True) if not a]
    extra = ("uncured_logit_(Intercept)", *(f"uncured_logit_{n}" for n in kept))
    q, r = len(base.names), len(extra)
    start = np.concatenate([base.start, [1.0], np.zeros(r - 1)])
    free = np.concatenate([base.free, np.ones(r, bool)])
    build = _Cured(base.build, q, r)
    return replace(base, cured=True, names=(*base.names, *extra), start=start, build=build, free=free)


def _maximise(layout: Layout, surv: SurvData, X: FloatArray, U: FloatArray, observed: ml.Observed) -> ml.Fit:
    """Newton over the free parameters; covariates are centred and scaled inside and put back by the chain rule."""
    Z = _scale_strata(surv, surv.frame)
    centre, size = X.mean(0), np.where(X.std(0) > 0, X.std(0), 1.0)
    T = _back(layout, centre, size)
    scaled = (X - centre) / size
    free = np.flatnonzero(layout.free)
    offset = np.where(layout.free, 0.0, layout.start)

    def matrices(time: FloatArray, rows: BoolArray) -> list[FloatArray]:
        built = layout.build(scaled[rows], Z[rows], U[rows], time[rows])
        return [np.column_stack([M[:, free], M @ offset]) for M in built]

    for first in _starts(layout, observed):
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


def _starts(layout: Layout, observed: ml.Observed) -> list[FloatArray]:
    """Starting values in the order in which they are tried; the shape Q of the generalised gamma has several."""
    if layout.distribution != "generalised-gamma":
        return [layout.start]
    time, seen = _midpoints(observed)
    x = np.log(time[seen]) if seen.any() else np.log(time)
    found = []
    for Q, shift in ((0.5, 0.3), (1.0, 0.5), (0.0, 0.0)):
        start = layout.start.copy()
        spread_ = max(float(np.std(x)), 0.1)
        start[0] = float(np.mean(x)) + shift * spread_
        start[[n.startswith("Log(scale") for n in layout.names]] = np.log(spread_)
        start[layout.names.index("Q")] = Q
        found.append(start)
    return found


def _back(layout: Layout, centre: FloatArray, size: FloatArray) -> FloatArray:
    """The linear map from parameters for (x - centre)/size to parameters for x."""
    q = len(layout.names)
    T = np.eye(q)
    at = np.arange(q)[layout.slopes]
    T[at, at] = 1.0 / size
    shifted = np.arange(layout.slopes.start) if layout.names[0].startswith("Log(hazard)") else np.array([0])
    T[np.ix_(shifted, at)] = -centre / size
    return T


def _delta(value: jets.Jet, matrices: list[FloatArray], V: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Values (n,) and delta-method standard errors (n,) of a jet of the predictors."""
    G = sum(value.g[j][:, None] * M for j, M in enumerate(matrices))
    return value.v, np.sqrt(np.maximum(np.einsum("ni,ij,nj->n", G, V, G), 0.0))


def _fit_object(
    name: str, surv: SurvData, cov: Covariates, cured: Covariates | None, layout: Layout, fit: ml.Fit,
    observed: ml.Observed, scale: str, level: float,
) -> ParametricFit:
    null = fit
    if cov.X.shape[1]:
        empty = replace(cov, X=cov.X[:, :0], names=(), aliased=np.zeros(0, bool))
        base = _null_layout(layout, cov.X.shape[1])
        null = _maximise(base, surv, empty.X, _cure_X(cured, len(surv)), observed)
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
        warnings=cov.warnings,
        data=surv.data_print,
        frame_kind=surv.kind,
        distribution=name,
        spline_scale=scale,
        lr_statistic=2.0 * (fit.loglik - null.loglik),
        lr_p_value=float(chdtrc(max(cov.X.shape[1], 1), max(2.0 * (fit.loglik - null.loglik), 0.0))),
    )
    names, coef, V = _with_aliased(layout, cov, fit)
    return ParametricFit(
        coefficient_table(names, coef, V, meta, level), V, fit.theta, fit.vcov, layout, cov, cured, surv, meta,
        fit.loglik, null.loglik, fit.iterations,
    )


def _null_layout(layout: Layout, p: int) -> Layout:
    """The same model without covariates."""
    keep = np.r_[0 : layout.slopes.start, layout.slopes.stop : len(layout.names)]
    build = _WithoutSlopes(layout.build, p, keep)
    names, none = tuple(layout.names[i] for i in keep), slice(layout.slopes.start, layout.slopes.start)
    return replace(layout, names=names, start=layout.start[keep], build=build, free=layout.free[keep], slopes=none)


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
