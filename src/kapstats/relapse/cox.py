"""Cox proportional-hazards regression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kapstats import estimates
from kapstats._types import BoolArray, FloatArray, FrameLike
from kapstats.errors import ConvergenceError, DataError, FormulaError, choose, warn
from kapstats.formula.design import Design, build
from kapstats.formula.expressions import evaluate
from kapstats.inference.intervals import check_level
from kapstats.kernels import cox_newton as cn
from kapstats.kernels import cox_residuals as cr
from kapstats.kernels import cox_separation as cs
from kapstats.kernels.risk_sets import risk_sets
from kapstats.relapse import cox_diagnosis as diagnosis
from kapstats.relapse.cox_fit import CoxFit
from kapstats.relapse.regression import single_levels
from kapstats.relapse.surv_data import SurvData, check_convention, unpack

TIES = ("efron", "breslow", "exact", "kalbfleisch-prentice")
TIE_NAMES = {
    "efron": "Efron ties",
    "breslow": "Breslow ties",
    "exact": "exact discrete ties (R exact, SAS TIES=DISCRETE)",
    "kalbfleisch-prentice": "exact marginal ties (SAS TIES=EXACT)",
}


def cox(
    formula: str,
    data: FrameLike,
    *,
    ties: str | None = None,
    weights: str | Sequence[float] | FloatArray | None = None,
    robust: bool | None = None,
    penalty: str | None = None,
    ridge: float = 1.0,
    conf: str = "wald",
    time_varying: Mapping[str, Any] | None = None,
    interval_censored: tuple[str, str] | None = None,
    frailty_method: str | None = None,
    landmark: float | None = None,
    level: float = 0.95,
    side: str = "two",
    order: Mapping[str, Sequence[Any]] | None = None,
    convention: str | None = None,
) -> Any:
    """Hazard ratios by Cox's partial likelihood.

    The hazard of row i is h_s(t) exp(x_i'b) with h_s free in every stratum s; b maximises the product over event times
    of exp(x'b) of the event over its sum in the risk set, ties by `ties`.

    Parameters
    ----------
    formula : ``Surv(time, event) ~ terms`` or ``Surv(start, stop, event) ~ terms`` with ``strata(a, b)``,
        ``cluster(id)``, ``frailty(id, "gamma" | "lognormal")``, ``offset(x)``
    ties : "efron" (default, as R), "breslow" (default of SAS), "exact" (discrete logistic: R exact, SAS DISCRETE),
        "kalbfleisch-prentice" (continuous time: SAS EXACT)
    weights : case weights, column or numbers
    robust : sandwich variance; None: with ``cluster()`` or weights that are not whole numbers, as R
    penalty : "firth" for the Jeffreys penalty (finite estimates under separation); "ridge" takes `ridge` b'b / 2 from
        the log-likelihood (standardise the columns first where their units differ), with the inverse penalised
        information as covariance; ``.meta`` holds ``effective_df``, ``sampling_std_error`` and ``partial_loglik``
    conf : "wald" or "profile" likelihood limits
    time_varying : by term or column, "log" (adds x log t), "identity" (adds x t), a function, or break times
        (one coefficient per interval)
    interval_censored : (left, right) columns: refit as interval censored data
    frailty_method : "ml" (default of gamma: the exact integrated likelihood; of lognormal: Laplace) or "reml" (default
        of lognormal, as R's gaussian frailty)
    landmark : analyse only rows still under observation after this time (the effect given no event until then)
    level, side : confidence level; "two", "less", "greater"
    order : level order of factor columns
    convention : "R" or "SAS" (Breslow ties, no merging of times, model-based variance unless asked)

    Returns
    -------
    CoxFit
        With ``hazard_ratios()``, ``coefficients``, ``summary()``, ``zph()``, ``tests()``, ``residuals(kind)``,
        ``baseline()``, ``survival(newdata)``, ``adjusted_survival(by)``, ``average_hazard_ratio()`` and ``rmst()``

    Raises
    ------
    EstimabilityError
        No event.
    ConvergenceError
        The partial likelihood could not be maximised.

    Agrees with
    -----------
    R survival 3.5-3 (coxph, cox.zph, residuals): relative error below 1e-7, mostly 1e-12.

    References
    ----------
    Cox (1972) J R Stat Soc B 34: 187-220. Efron (1977) J Am Stat Assoc 72: 557-565. Therneau and Grambsch (2000)
    Modeling Survival Data.

    Examples
    --------
    >>> import pandas as pd
    >>> data = pd.DataFrame({"t": [1, 2, 3, 4, 5, 6.0], "e": [1, 1, 0, 1, 1, 1], "x": [1, 0, 1, 1, 0, 0]})
    >>> fit = cox("Surv(t, e) ~ x", data)
    >>> fit.coefficients["estimate"].round(4).tolist()
    [1.0731]
    """
    if interval_censored is not None:
        return _as_interval(formula, data, interval_censored, level=level, order=order)
    convention = check_convention(convention)
    ties = choose(ties or ("breslow" if convention == "SAS" else "efron"), TIES, "ties")
    choose(conf, ("wald", "profile"), "conf")
    choose(side, ("two", "less", "greater"), "side")
    if frailty_method is not None:
        choose(frailty_method, ("ml", "reml"), "frailty_method")
    if penalty is not None:
        choose(penalty, ("firth", "ridge"), "penalty")
        if not 0 < ridge < np.inf:
            raise FormulaError(f"ridge={ridge}: the weight of the penalty is a positive number.")
    surv = unpack(formula, data, weights=weights, order=order, merge_times=convention != "SAS", landmark=landmark)
    diagnosis.require_events(surv)
    plan = _Plan(ties, penalty, float(ridge), conf, check_level(level), side, convention, frailty_method)
    wants = _robust_wanted(surv, robust, convention)
    plan.check(surv, wants)
    meta = {**_meta(surv, plan, wants), "penalty": penalty}
    if time_varying:
        from kapstats.relapse.cox_split import time_varying_rows

        surv, design = time_varying_rows(surv, time_varying, order)
        meta["time_varying"] = tuple(time_varying)
    else:
        design = build(surv.formula.fixed, surv.frame, order=order)
    return _fit(surv, design, plan, wants, meta)


@dataclass(frozen=True, slots=True)
class _Plan:
    """How the model is fitted, apart from the data."""

    ties: str
    penalty: str | None
    ridge: float
    conf: str
    level: float
    side: str
    convention: str | None
    frailty_method: str | None

    def check(self, surv: SurvData, robust: bool) -> None:
        """Refuse combinations that have no estimator here."""
        exact = self.ties in ("exact", "kalbfleisch-prentice")
        if exact and surv.weights is not None:
            raise FormulaError(f"ties={self.ties!r}: case weights have no exact likelihood. Use 'efron' or 'breslow'.")
        if exact and (robust or self.penalty):
            raise FormulaError(f"ties={self.ties!r}: no robust variance or penalty. Use ties='efron' or 'breslow'.")
        if surv.formula.frailty and (exact or self.penalty or robust or self.conf == "profile"):
            raise FormulaError(
                "frailty(): fitted with ties='efron' or 'breslow', model-based variance and Wald limits only. "
                "Leave out cluster(), robust, penalty, conf and exact ties."
            )


def _as_interval(formula: str, data: FrameLike, bounds: tuple[str, str], **options: Any) -> Any:
    from kapstats.relapse.interval_cox import interval_cox

    right_side = formula.split("~", 1)[1]
    return interval_cox(f"Surv({bounds[0]}, {bounds[1]}, type='interval2') ~ {right_side}", data, **options)


def _fit(surv: SurvData, design: Design, plan: _Plan, robust: bool, meta: dict[str, Any]) -> CoxFit:
    columns = np.array([n != "(Intercept)" for n in design.names], dtype=bool)
    names = tuple(n for n, keep in zip(design.names, columns, strict=True) if keep)
    X, usable = design.X[:, columns], ~design.aliased[columns]
    full = _arrays(surv, X, plan.ties)
    usable = cs.informative(full, plan.ties, usable)
    arrays = cs.take(full, usable)
    likelihood = _likelihood(arrays, plan)
    null = likelihood(np.zeros(int(usable.sum())))
    frailty = None
    if surv.formula.frailty is None:
        top = _supremum(arrays, likelihood, plan)
    else:
        if not usable.any():
            raise DataError(f"{surv.formula.text!r}: no covariate varies, so there is no ratio beside the frailty.")
        diagnosis.require_finite(surv, np.array(names)[usable], ~np.isfinite(cs.supremum(arrays, plan.ties).b))
        arrays, top, frailty = _with_frailty(surv, arrays, plan, meta)
    best = top.maximum
    b = _spread(top.b, usable, np.nan)
    notes = [*surv.warnings, *design.warnings]
    found = [
        *filter(None, [single_levels(design)]),
        *diagnosis.empty_strata(surv),
        *diagnosis.aliased(names, ~usable),
        *diagnosis.monotone(list(names), X, surv.event, b, usable),
    ]
    if frailty is not None and frailty.theta["estimate"].iloc[0] == 0:
        found.append("The variance of the frailty is estimated as 0: the groups differ no more than by chance.")
    notes += tuple(map(warn, found))
    if plan.penalty is None and frailty is None:
        diagnosis.require_possible(surv, null.loglik, top.loglik)
    if not best.converged:
        raise ConvergenceError(
            f"{surv.formula.text!r}: Newton stopped after {best.iterations} steps with decrement {best.decrement:.1e}. "
            "Rescale large covariates, or look for a column that nearly separates the events."
        )
    naive = _covariance(top, b)
    if plan.penalty == "ridge":
        meta = {**meta, **_shrunk(best, arrays)}
    V = _sandwich(surv, arrays, top, b) if robust else naive
    interval = _profile(arrays, likelihood, top, usable, plan) if plan.conf == "profile" else None
    return CoxFit(
        surv=surv,
        design=design,
        names=names,
        usable=usable,
        finite=np.isfinite(b) | ~usable,
        data=arrays,
        maximum=best if top.limit is None else replace(best, b=cs.among(best.b, top.limit.kept)),
        b=b,
        V=V,
        naive=naive,
        loglik_null=null.loglik,
        score_test=_score_test(null),
        ties=plan.ties,
        robust=robust,
        meta={**meta, "warnings": tuple(notes)},
        interval=interval,
        frailty=frailty,
        limit=top.limit,
    )


def _with_frailty(
    surv: SurvData, data: cn.CoxData, plan: _Plan, meta: dict[str, Any]
) -> tuple[cn.CoxData, cs.Supremum, Any]:
    """Data with the frailties as offset, the coefficients as a maximum (log-likelihood integrated), the frailty."""
    from kapstats.relapse.cox_frailty import fit_frailty

    arrays, found, frailty = fit_frailty(surv, data, plan.frailty_method, plan.level, plan.convention, meta)
    inner, p = found.at.maximum, len(found.at.b)
    at = cn.Evaluation(found.at.integrated, np.zeros(p), inverse(found.at.V) if p else found.at.V)
    best = cn.Maximum(found.at.b, at, inner.iterations, 0.0, inner.converged, np.zeros(p, bool))
    return arrays, cs.Supremum(best.b, at.loglik, best, None), frailty


def _arrays(surv: SurvData, X: FloatArray, ties: str) -> cn.CoxData:
    """Risk sets and sorted columns."""
    sets = risk_sets(surv.time, surv.event, surv.entry, surv.strata.codes, len(surv.strata))
    offset = None
    if surv.formula.offset:
        offset = np.sum([evaluate(o, surv.frame) for o in surv.formula.offset], axis=0)
    return cn.cox_data(sets, X, surv.weights, offset, efron=ties == "efron")


def _likelihood(data: cn.CoxData, plan: _Plan) -> Any:
    """The function from b to log-likelihood, score and information."""
    from kapstats.kernels import cox_penalty

    if plan.penalty == "ridge":
        return lambda b: cox_penalty.ridge(data, b, plan.ridge)
    if plan.penalty == "firth":
        return lambda b: cox_penalty.firth(data, b)
    return cs.likelihood(data, plan.ties)


def _supremum(data: cn.CoxData, likelihood: Any, plan: _Plan) -> cs.Supremum:
    """The supremum of the likelihood; a penalty gives it a maximum."""
    if plan.penalty is None:
        return cs.supremum(data, plan.ties)
    best = cn.maximise(likelihood, np.zeros(data.X.shape[1]), limit=500)
    return cs.Supremum(best.b, best.at.loglik, best, None)


def _spread(values: Any, usable: BoolArray, empty: Any) -> Any:
    """Values of the usable columns among all columns."""
    out = np.full(len(usable), empty, dtype=np.asarray(values).dtype)
    out[usable] = values
    return out


def _covariance(top: cs.Supremum, b: FloatArray) -> FloatArray:
    """Model-based covariance over all columns, NaN where b is not finite."""
    finite = np.isfinite(top.b) if top.limit is None else np.isfinite(top.b)[top.limit.kept]
    V = np.full((len(b), len(b)), np.nan)
    V[np.ix_(np.isfinite(b), np.isfinite(b))] = inverse(top.maximum.at.information)[np.ix_(finite, finite)]
    return V


def _shrunk(best: cn.Maximum, data: cn.CoxData) -> dict[str, Any]:
    """Of a ridge fit: tr(I H^-1), sampling errors (root diagonal of H^-1 I H^-1), likelihood without the penalty."""
    plain = cn.evaluate(data, best.b)
    H, I = inverse(best.at.information), plain.information
    errors = np.sqrt(np.diag(H @ I @ H))
    return {"effective_df": float(np.trace(I @ H)), "sampling_std_error": errors, "partial_loglik": plain.loglik}


def inverse(information: FloatArray) -> FloatArray:
    """Inverse of a positive definite matrix after scaling its diagonal to 1."""
    scale = np.sqrt(np.diag(information))
    if not np.all(scale > 0):
        return np.full_like(information, np.nan)
    return np.linalg.inv(information / np.outer(scale, scale)) / np.outer(scale, scale)


def _robust_wanted(surv: SurvData, robust: bool | None, convention: str | None) -> bool:
    if robust is not None:
        return robust
    fractional = surv.weights is not None and bool((surv.weights % 1 != 0).any())
    return surv.cluster is not None or (fractional and convention != "SAS")


def _sandwich(surv: SurvData, data: cn.CoxData, top: cs.Supremum, b: FloatArray) -> FloatArray:
    """Lin and Wei's D'D, D the (weighted, clustered) dfbetas."""
    best, finite = top.maximum, np.isfinite(top.b)
    if top.limit is not None:
        data, finite = top.limit.data, finite[top.limit.kept]
    D = data.sets.unsort(cr.score_residuals(data, best.b)) @ inverse(best.at.information)[:, finite]
    if surv.weights is not None:
        D = D * surv.weights[:, None]
    if surv.cluster is not None:
        D = cr.cluster_sums(D, surv.cluster)
    V = np.full((len(b), len(b)), np.nan)
    V[np.ix_(np.isfinite(b), np.isfinite(b))] = D.T @ D
    return V


def _score_test(null: cn.Evaluation) -> float:
    if not len(null.score):
        return float("nan")
    return float(null.score @ cn.newton_step(null, np.ones(len(null.score), bool)))


def _profile(data: cn.CoxData, likelihood: Any, top: cs.Supremum, usable: BoolArray, plan: _Plan) -> FloatArray:
    from kapstats.kernels.cox_penalty import profile_limits, separated_limits

    limits = np.full((len(usable), 2), np.nan)
    for j, at in enumerate(np.flatnonzero(usable)):
        if top.limit is None:
            limits[at] = profile_limits(likelihood, top.maximum, j, plan.level, data.span)
        else:
            limits[at] = separated_limits(data, plan.ties, top, j, plan.level)
    return limits


def _meta(surv: SurvData, plan: _Plan, robust: bool) -> dict[str, Any]:
    clusters = surv.formula.cluster
    variance = "model-based variance"
    if robust:
        variance = f"robust variance, clusters {clusters}" if clusters else "robust variance"
    strata = ", ".join(surv.strata.frame.columns)
    parts = ["Cox model", TIE_NAMES[plan.ties], variance]
    parts += [f"stratified by {strata} ({len(surv.strata)} strata)"] if strata else []
    penalties = {"firth": "Firth's penalty", "ridge": f"ridge penalty {plan.ridge:g}"}
    parts += [penalties[plan.penalty]] if plan.penalty else []
    parts += ["profile-likelihood limits"] if plan.conf == "profile" else []
    frailty = surv.formula.frailty
    parts += [f"shared {frailty.distribution} frailty by {frailty.group}"] if frailty else []
    text = ", ".join(parts)
    conventions = [TIE_NAMES[plan.ties], "risk set at t: start < t <= stop; events before censorings"]
    return estimates.meta(
        method=text,
        level=plan.level,
        side=plan.side,
        title="Cox model",
        sentence=f"{text}; {surv.sentence()}",
        estimand="ratio of hazards, constant over time",
        conventions=conventions + ([f"convention {plan.convention}"] if plan.convention else []),
        data=surv.data_print,
        frame_kind=surv.kind,
    )
