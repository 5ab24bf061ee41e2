"""Restricted mean survival time: by arm, differences and ratios, adjusted for covariates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kapstats import estimates
from kapstats._types import FloatArray, FrameLike
from kapstats.errors import ConvergenceError, EstimabilityError, FormulaError, choose, warn
from kapstats.estimates import Estimates
from kapstats.formula.design import build
from kapstats.inference.intervals import check_level, wald
from kapstats.kernels import restricted_mean as rm
from kapstats.kernels.product_limit import product_limit, restricted_mean
from kapstats.kernels.risk_sets import risk_sets
from kapstats.relapse.follow_up import FollowUp
from kapstats.relapse.regression import ratio_row
from kapstats.relapse.surv_data import (
    Groups,
    SurvData,
    check_convention,
    group_rows,
    group_terms,
    unpack,
    unstated_order,
)

METHODS = ("ipcw", "pseudo", "ipcw-response")
#: quantity, link of its regression, text between the arms
CONTRASTS = (("difference", "identity", "-"), ("ratio", "log", "/"), ("rmtl ratio", "lost", "/"))


def rmst(
    formula: str,
    data: FrameLike,
    *,
    tau: float | None = None,
    covariates: Sequence[str] | str | None = None,
    method: str = "ipcw",
    weights: str | Sequence[float] | FloatArray | None = None,
    level: float = 0.95,
    order: Mapping[str, Sequence[Any]] | None = None,
    convention: str | None = None,
) -> Estimates:
    """Mean time without the event up to `tau`, by arm and compared; no proportional hazards needed.

    The estimand is E min(T, tau), the area under the survival curve to tau. Unadjusted it is the area under
    Kaplan-Meier with variance sum over event times of A(t)^2 d / (n (n - d)), A(t) the area from t to tau. With
    `covariates` min(T, tau) is regressed on arm and covariates with inverse-probability-of-censoring weights (by arm)
    and a variance that counts the estimation of the weights.

    Parameters
    ----------
    formula : ``Surv(time, event) ~ arm``; ``~ 1`` for one group
    tau : horizon in the unit of time; default the smallest of the arms' largest event-or-censoring times
    covariates : columns or terms to adjust for
    method : with covariates "ipcw" (as survRM2), "pseudo" (pseudo-values, least squares, HC0; difference only) or
        "ipcw-response" (as mets 1.3.2, ties included: least squares of the weighted response; difference only, and
        with far larger standard errors)
    weights : case weights (unadjusted only)

    Returns
    -------
    Estimates : rows ``quantity`` "rmst" per arm, then "difference", "ratio" and "rmtl ratio" (ratio of time lost) of
        each arm against the first. Ratios are natural; their statistic, p value and limits come from the log scale.

    Raises
    ------
    EstimabilityError
        tau beyond the follow-up of an arm whose curve has not reached 0.

    Agrees with
    -----------
    survRM2 1.0-4 (unadjusted and adjusted) and R survival 3.5-3 (survfit rmean, pseudo): relative error below 1e-9;
    mets 1.3.2 (resmeanIPCW, model "lin"): below 1e-9.

    References
    ----------
    Uno et al. (2014) J Clin Oncol 32: 2380-2385. Tian, Zhao and Wei (2014) Biostatistics 15: 222-233.

    Examples
    --------
    >>> import pandas as pd
    >>> data = pd.DataFrame({"t": [1, 2, 3, 4.0], "e": [1, 1, 1, 0], "arm": ["a", "a", "b", "b"]})
    >>> rmst("Surv(t, e) ~ arm", data, tau=2, order={"arm": ["a", "b"]})["estimate"].tolist()[:3]
    [1.5, 2.0, 0.5]
    """
    convention = check_convention(convention)
    choose(method, METHODS, "method")
    terms = [covariates] if isinstance(covariates, str) else list(covariates or [])
    surv = unpack(formula, data, weights=weights, extra=terms, order=order, merge_times=convention != "SAS")
    if surv.formula.strata:
        raise FormulaError("rmst: strata() is not used here; name the columns in covariates=[...].")
    groups = group_rows(surv.frame, group_terms(surv.formula), order)
    horizon = _horizon(surv, groups, tau)
    meta = _meta(surv, horizon, terms, method, check_level(level), convention, tau is None)
    meta["warnings"] = (*surv.warnings, *unstated_order(groups))
    if terms:
        at_end = int(np.sum(~surv.event & (surv.time == horizon)))
        if method == "ipcw-response" and at_end:
            unseen = f"{at_end} rows censored at tau = {horizon:g} itself count as unseen."
            meta["warnings"] = (*meta["warnings"], unseen)
        return _adjusted(surv, groups, terms, horizon, method, order, meta)
    return _unadjusted(surv, groups, horizon, meta)


#: what the rows are, by `quantity`
MEASURES = {
    "rmst": "restricted mean",
    "difference": "difference of restricted means",
    "ratio": "ratio of restricted means",
    "rmtl ratio": "ratio of restricted mean times lost",
}


def _horizon(surv: SurvData, groups: Groups, tau: float | None) -> float:
    """tau, checked: every arm's curve must be known up to it."""
    last = np.array([surv.time[groups.codes == g].max() for g in range(len(groups))])
    if tau is None:
        return float(last.min())
    tau = FollowUp.of(surv, groups).horizon(tau)
    for g, end in enumerate(last):
        at_end = (groups.codes == g) & (surv.time == end)
        if end < tau and not surv.event[at_end].all():
            name = groups.labels[g] or "the data"
            raise EstimabilityError(
                f"tau={tau:g}: {name} is followed to {end:g} only, with rows still at risk, so its mean to tau is not "
                f"determined. Choose tau up to {last.min():g}."
            )
    return float(tau)


def _meta(
    surv: SurvData, tau: float, terms: list[str], method: str, level: float, convention: str | None, default: bool
) -> dict[str, Any]:
    how = "area under Kaplan-Meier, Greenwood-type variance"
    if terms:
        how = {
            "ipcw": "inverse-censoring-weighted regression, censoring curve by arm",
            "pseudo": "regression of pseudo-values, HC0 variance",
            "ipcw-response": "regression of the inverse-censoring-weighted response, one censoring curve",
        }[method]
        how += f", adjusted for {', '.join(terms)}"
    chosen = "default: smallest of the arms' largest times" if default else "given"
    text = f"Restricted mean survival time to {tau:g} ({chosen}), {how}"
    return estimates.meta(
        method=text,
        level=level,
        title=f"Restricted mean survival time to {tau:g}",
        sentence=f"{text}; {surv.sentence()}",
        estimand="mean time without the event up to tau",
        scale="natural",
        measures={"quantity": MEASURES},
        conventions=(f"tau = {tau:g}", "ratios: inference on the log scale")
        + ((f"convention {convention}",) if convention else ()),
        data=surv.data_print,
        frame_kind=surv.kind,
        tau=tau,
    )


def _unadjusted(surv: SurvData, groups: Groups, tau: float, meta: dict[str, Any]) -> Estimates:
    sets = risk_sets(surv.time, surv.event, surv.entry, groups.codes, len(groups))
    curve = product_limit(sets, surv.weights)
    found = []
    for g in range(len(groups)):
        part = slice(sets.start[g], sets.start[g + 1])
        found.append(
            restricted_mean(sets.time[part], curve.n_event[part], curve.n_risk[part], curve.survival[part], tau)
        )
    mean, variance = np.array(found).T
    level, names = meta["level"], groups.names
    rows = [
        _plain("rmst", groups.frame.iloc[[g]], names[g], mean[g], np.sqrt(variance[g]), level) for g in range(len(mean))
    ]
    for g in range(1, len(mean)):
        rows += _compared(mean[[g, 0]], variance[[g, 0]], tau, names[g], names[0], level)
    return _collect(rows, groups, meta)


def _plain(
    quantity: str, key: pd.DataFrame | None, label: str, value: float, se: float, level: float
) -> dict[str, Any]:
    """One row on the natural scale; arms carry their group columns, comparisons a contrast text."""
    row = {
        "quantity": quantity,
        **({} if key is None else key.iloc[0].to_dict()),
        "contrast": "" if key is not None else label,
    }
    inference = {k: float(v) for k, v in wald(value, se, level=level).items()}
    if quantity == "rmst":
        inference |= {"statistic": np.nan, "p_value": np.nan}
    return {**row, "estimate": float(value), "std_error": float(se), "df": np.inf, **inference}


def _compared(
    mean: FloatArray, variance: FloatArray, tau: float, one: str, zero: str, level: float
) -> list[dict[str, Any]]:
    lost = tau - mean
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = [
            (quantity, np.log(m[0] / m[1]), np.sqrt(np.sum(variance / m**2)))
            for quantity, m in (("ratio", mean), ("rmtl ratio", lost))
        ]
    difference = _plain("difference", None, f"{one} - {zero}", mean[0] - mean[1], np.sqrt(variance.sum()), level)
    return [difference, *(ratio_row(q, f"{one} / {zero}", v, se, level) for q, v, se in logs)]


def _adjusted(
    surv: SurvData,
    groups: Groups,
    terms: list[str],
    tau: float,
    method: str,
    order: Mapping[str, Sequence[Any]] | None,
    meta: dict[str, Any],
) -> Estimates:
    """Arm contrasts from regressions on arm and covariates; arm means at the covariates' sample mean."""
    if surv.entry is not None or surv.weights is not None:
        raise FormulaError("rmst: with covariates, delayed entry and case weights are not available.")
    dummies = np.eye(len(groups))[:, 1:][groups.codes]
    design = build(" + ".join(terms), surv.frame, order=order, intercept=True)
    if design.aliased.any():
        gone = ", ".join(n for n, a in zip(design.names, design.aliased, strict=True) if a)
        raise EstimabilityError(f"covariates: {gone} is a linear combination of the others; leave it out.")
    X = np.column_stack([design.X[:, :1], dummies, design.X[:, 1:]])
    level, names, k = meta["level"], groups.names, len(groups)
    rows, models = [], {}
    for quantity, link, sign in CONTRASTS if method == "ipcw" else CONTRASTS[:1]:
        model = _model(surv, groups, X, tau, link, method)
        if not model.converged:
            meta = {**meta, "warnings": (*meta["warnings"], _no_ratio(quantity))}
        models[quantity] = pd.DataFrame(
            {"term": [design.names[0], *groups.labels[1:], *design.names[1:]], "estimate": model.b}
        ).assign(std_error=np.sqrt(np.diag(model.V)))
        if link == "identity":
            rows += _arm_rows(groups, names, X, model, level)
        for g in range(1, k):
            label, b, se = f"{names[g]} {sign} {names[0]}", model.b[g], float(np.sqrt(model.V[g, g]))
            found = (
                _plain("difference", None, label, b, se, level)
                if link == "identity"
                else ratio_row(quantity, label, b, se, level)
            )
            rows.append(found)
    arms = [r for r in rows if r["quantity"] == "rmst"]
    rest = [
        r for g in range(1, k) for r in rows if r["quantity"] != "rmst" and r["contrast"].startswith(names[g] + " ")
    ]
    return _collect(arms + rest, groups, {**meta, "models": models})


def _model(surv: SurvData, groups: Groups, X: FloatArray, tau: float, link: str, method: str) -> rm.MeanModel:
    if method == "pseudo":
        return _least_squares(X, rm.pseudo_means(surv.time, surv.event, tau))
    if method == "ipcw-response":
        return rm.response_regression(surv.time, surv.event, X, tau)
    failed = rm.MeanModel(np.full(X.shape[1], np.nan), np.full((X.shape[1],) * 2, np.nan), False)
    try:
        model = rm.mean_regression(surv.time, surv.event, X, groups.codes, len(groups), tau, link)
    except np.linalg.LinAlgError:  # the weighted equations are singular
        model = failed
    if model.converged:
        return model
    if link == "identity":
        raise ConvergenceError("rmst: the regression of the restricted mean has no solution; leave a covariate out.")
    return failed


def _no_ratio(quantity: str) -> str:
    time = "time lost" if quantity == "rmtl ratio" else "restricted mean"
    return warn(
        f"{quantity}: the log-linear regression of the {time} has no solution, so this ratio is not estimable (NE); a "
        "covariate may determine it. The other rows are as they are."
    )


def _least_squares(X: FloatArray, y: FloatArray) -> rm.MeanModel:
    B = np.linalg.inv(X.T @ X)
    b = B @ (X.T @ y)
    U = X * (y - X @ b)[:, None]
    return rm.MeanModel(b, B @ (U.T @ U) @ B, True)


def _arm_rows(
    groups: Groups, names: Sequence[str], X: FloatArray, model: rm.MeanModel, level: float
) -> list[dict[str, Any]]:
    k = len(groups)
    L = np.repeat(X.mean(axis=0)[None], k, axis=0)
    L[:, 1:k] = np.eye(k)[:, 1:]
    value, se = L @ model.b, np.sqrt(np.einsum("ij,jk,ik->i", L, model.V, L))
    return [_plain("rmst", groups.frame.iloc[[g]], names[g], value[g], se[g], level) for g in range(k)]


def _collect(rows: list[dict[str, Any]], groups: Groups, meta: dict[str, Any]) -> Estimates:
    order = ["quantity", *groups.frame.columns, "contrast"]
    frame = pd.DataFrame(rows)
    frame = frame.reindex(columns=[*order, *(c for c in frame.columns if c not in order)])
    for c in groups.frame.columns:
        if pd.api.types.is_integer_dtype(groups.frame[c].dtype):
            frame[c] = pd.Series([None if np.isnan(v) else int(v) for v in frame[c]], dtype=object)
        elif not pd.api.types.is_numeric_dtype(frame[c].dtype):
            frame[c] = frame[c].astype("object").where(frame[c].notna(), "")
    return Estimates(frame, meta)
