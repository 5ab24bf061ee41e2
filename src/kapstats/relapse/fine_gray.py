"""Fine-Gray regression: proportional hazards of the subdistribution of one cause."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from kapstats import estimates
from kapstats._types import FloatArray, FrameLike, IntArray
from kapstats.errors import ConvergenceError, FormulaError, choose, warn
from kapstats.estimates import Curve, Estimates, sealed, stored
from kapstats.inference.follow_up import within_follow_up
from kapstats.kernels import fine_gray as fg
from kapstats.relapse import cox_diagnosis as diagnosis
from kapstats.relapse.competing import cause_code
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
from kapstats.relapse.surv_data import (
    SurvData,
    checked_times,
    group_rows,
    unpack,
)

SHR = "subdistribution hazard ratio"
WEIGHTINGS = ("crr", "ipcw", "finegray")


@shown_as("hazard_ratios")
@sealed
@dataclass(frozen=True)
class FineGrayFit:
    """A fitted subdistribution-hazards model; `kernel` holds the arrays."""

    coefficients: Estimates
    vcov: FloatArray
    kernel: fg.FineGray
    covariates: Covariates
    frame: pd.DataFrame
    meta: dict[str, Any]
    nobs: int
    n_events: int
    n_subjects: int

    @property
    def loglik(self) -> float:
        """Weighted log partial likelihood at the estimate; its supremum where it has no maximum."""
        return self.kernel.loglik

    @property
    def converged(self) -> bool:
        """Whether every estimable coefficient has a certified finite maximum."""
        return self.kernel.converged and bool(np.isfinite(self.kernel.coef[self.kernel.usable]).all())

    @property
    def loglik_null(self) -> float:
        """Weighted log partial likelihood without covariates."""
        return self.kernel.loglik_null

    @property
    def n_parameters(self) -> int:
        """Coefficients with information, infinite ones included."""
        return int(self.kernel.usable.sum())

    @property
    def aic(self) -> float:
        """Akaike's criterion."""
        return 2.0 * self.n_parameters - 2.0 * self.loglik

    @property
    def bic(self) -> float:
        """With the number of events of the cause."""
        return float(np.log(self.n_events)) * self.n_parameters - 2.0 * self.loglik

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the reader of these numbers has to know."""
        return tuple(self.meta["warnings"])

    def summary(self) -> Estimates:
        """Subdistribution hazard ratios."""
        return self.hazard_ratios()

    def hazard_ratios(self) -> Estimates:
        """exp(coefficient) with limits."""
        return natural(self.coefficients, "Subdistribution hazard ratios")

    def baseline(self) -> Curve:
        """Cumulative baseline subdistribution hazard (all covariates zero), NaN past follow-up."""
        used_coefficients(self.covariates, self.kernel.coef, self.kernel.usable, "baseline")
        return Curve(self.kernel.event_time, np.cumsum(self.kernel.subhazard), 0.0, self.meta["last_time"])

    def predict(self, newdata: Any = None, times: Sequence[float] | None = None, *, extend: bool = False) -> Estimates:
        """Cumulative incidence 1 - exp(-H0(t) exp(x'b)) for the rows of `newdata` (default: at the covariate means).

        Past the last time of follow-up it is not estimable (NE); ``extend=True`` carries the last value forward.
        """
        t = self.kernel.event_time if times is None else checked_times(times)
        rows, X = predictor_rows(self.covariates, stored(self), newdata)
        coef = used_coefficients(self.covariates, self.kernel.coef, self.kernel.usable, "predict")
        risk = 1.0 - np.exp(-np.exp(X @ coef)[:, None] * self.baseline()(t, extend=True))
        frame = identifying(rows, t).assign(estimate=risk.ravel())
        about = {**self.meta, "title": "Predicted cumulative incidence", "scale": "identity"}
        found = Estimates(frame, about, picture=predicted("cumulative_incidence", rows))
        return within_follow_up(found, self.meta["last_time"], extend=extend)

    def plot(self, ax: Any = None, **options: Any) -> Any:
        """A forest of the subdistribution hazard ratios."""
        return self.hazard_ratios().plot(ax=ax, **options)

    def explain(self) -> str:
        """The methods paragraph."""
        return (
            f"{self.meta['sentence']}. Subdistribution hazard ratios by Fine and Gray (JASA 1999; 94: 496-509), "
            f"censoring weights as in {self.meta['weighting']}."
        )


def fine_gray(
    formula: str,
    data: FrameLike,
    *,
    cause: Any = 1,
    censored: Any = None,
    censoring_groups: str | Sequence[str] | None = None,
    weighting: str = "crr",
    level: float = 0.95,
    order: Mapping[str, Sequence[Any]] | None = None,
) -> FineGrayFit:
    """Proportional subdistribution hazards regression for one cause.

    The hazard of the cause-specific cumulative incidence, -d log(1 - F(t))/dt = h0(t) exp(x'b), estimated from the
    partial likelihood in which subjects with a competing event stay at risk with weight G(t-)/G(T_i-), G the
    Kaplan-Meier estimate of the censoring distribution. Tied events by Breslow's method.

    Parameters
    ----------
    formula : ``Surv(time, status) ~ covariates``, with ``cluster(id)`` if rows of one cluster depend
    cause, censored : as in `cumulative_incidence`
    censoring_groups : column(s) within which the censoring distribution is estimated
    weighting : "crr" (cmprsk, its sandwich includes the estimation of G); "ipcw" (the same with one censoring group;
        with several, q of a group is integrated over all events); "finegray" (survival::finegray: tied events leave
        before censorings, weights taken as known)

    Returns
    -------
    FineGrayFit : ``coefficients hazard_ratios() predict() baseline() vcov loglik explain()``

    Raises
    ------
    ConvergenceError
        The likelihood could not be maximised. (A coefficient without a finite maximum, such as that of a level without
        events, is reported as infinite, and the others at the supremum of the likelihood.)
    FormulaError, DataError
        strata(), delayed entry, a cause that does not occur.

    Agrees with
    -----------
    R cmprsk 2.2-11 (crr), coefficients and standard errors below 1e-7; survival 3.5-3 (finegray + coxph, Breslow).

    References
    ----------
    Fine and Gray (1999) J Am Stat Assoc 94: 496-509.

    Examples
    --------
    >>> import pandas as pd
    >>> data = pd.DataFrame({"t": range(1, 9), "s": [1, 2, 1, 1, 0, 2, 1, 0], "x": [3, 1, 2, 4, 1, 3, 2, 2]})
    >>> fit = fine_gray("Surv(t, s) ~ x", data)
    >>> fit.converged, list(fit.coefficients.columns)[:3]
    (True, ['term', 'estimate', 'std_error'])
    """
    choose(weighting, WEIGHTINGS, "weighting")
    by = [censoring_groups] if isinstance(censoring_groups, str) else list(censoring_groups or ())
    surv = unpack(formula, data, order=order, competing=True, censored=censored, extra=[f"`{c}`" for c in by])
    refuse_terms(surv, "a Fine-Gray model", allow=("cluster",))
    if surv.entry is not None:
        raise FormulaError(f"{formula!r}: fine_gray takes no entry time.")
    assert surv.status is not None
    k = cause_code(surv, cause)
    code = np.where(surv.status == 0, 0, np.where(surv.status == k, 1, 2))
    cov = covariates(surv, order)
    groups = group_rows(surv.frame, by, order).codes if by else None
    found = fg.fine_gray(surv.time, code, cov.X, group=groups, weighting=weighting)
    notes = [*cov.warnings, *map(warn, limit_notes(cov, found.coef, found.usable, code == 1))]
    diagnosis.require_possible(surv, found.loglik_null, found.loglik)
    if not found.converged:
        raise ConvergenceError(
            f"{formula!r}: the subdistribution likelihood has no certified maximum after {found.iterations} steps. "
            "Rescale large covariates, or look for a column that nearly separates the events."
        )
    vcov = found.vcov if surv.cluster is None else _clustered(found, surv.cluster)
    return _fine_gray_fit(surv, cov, found, spread(vcov, cov.aliased), cause, weighting, by, level, tuple(notes))


def _clustered(found: fg.FineGray, cluster: IntArray) -> FloatArray:
    sums = np.zeros((int(cluster.max()) + 1, found.coef.size))
    np.add.at(sums, cluster, found.influence)
    return np.asarray(sums.T @ sums)


def _fine_gray_fit(
    surv: SurvData,
    cov: Covariates,
    found: fg.FineGray,
    vcov: FloatArray,
    cause: Any,
    weighting: str,
    by: list[str],
    level: float,
    notes: tuple[str, ...],
) -> FineGrayFit:
    assert surv.status is not None
    n_events = int((surv.status == surv.causes.index(cause) + 1).sum())
    method = f"Fine-Gray subdistribution hazards of cause {cause}, {weighting} weights, robust variance"
    groups = f"; censoring by {', '.join(by)}" if by else ""
    meta = estimates.meta(
        method=method,
        level=level,
        scale="log",
        title="Fine-Gray model",
        sentence=f"{method}{groups}; {surv.sentence()}, {n_events} of cause {cause}",
        estimand="log subdistribution hazard ratio",
        conventions=("ties by Breslow",),
        warnings=notes,
        data=surv.data_print,
        frame_kind=surv.kind,
        weighting=weighting,
        last_time=float(surv.time.max()),
    )
    table = coefficient_table(cov.names, spread(found.coef, cov.aliased), vcov, meta, level, measure=SHR)
    return FineGrayFit(table, vcov, found, cov, surv.frame, meta, len(surv), n_events, surv.n_subjects)
