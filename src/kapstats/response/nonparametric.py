"""Rank tests beside an analysis of covariance: Quade's rank ANCOVA and the Hodges-Lehmann shift."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kapstats._types import FloatArray, IntArray
from kapstats.errors import DataError, FormulaError, nearest
from kapstats.estimates import Estimates
from kapstats.formula.design import level_text
from kapstats.formula.expressions import columns_in
from kapstats.inference.intervals import check_level
from kapstats.kernels import shift
from kapstats.response.small_sample import _f_tail

if TYPE_CHECKING:
    from kapstats.response.ancova import AncovaFit


def _arm(model: AncovaFit, arm: str) -> tuple[IntArray, tuple[Any, ...]]:
    if arm not in model.design.factors:
        known = ", ".join(model.design.factors) or "none"
        raise FormulaError(f"{arm!r} is no factor of the model.{nearest(arm, model.design.factors)} Factors: {known}.")
    found = model.design.factors[arm]
    return found.codes, found.values


def rank_test(model: AncovaFit, arm: str) -> Estimates:
    """See `AncovaFit.rank_test`."""
    codes, values = _arm(model, arm)
    strata = _strata(model, arm)
    residual = np.empty(model.nobs)
    covariates = _covariates(model)
    for s in np.unique(strata):
        at = np.flatnonzero(strata == s)
        ranks = np.column_stack([_centred_ranks(c[at]) for c in covariates.T]) if covariates.size else None
        y = _centred_ranks(model.y[at])
        residual[at] = y if ranks is None else y - ranks @ np.linalg.lstsq(ranks, y, rcond=None)[0]
    k, n = len(values), model.nobs
    if k < 2:
        raise DataError(f"rank_test: {arm} has one level only ({values[0]}).")
    lost = len(np.unique(strata)) - 1
    means = np.bincount(codes, residual, k) / np.bincount(codes, minlength=k)
    between = float((np.bincount(codes, minlength=k) * (means - residual.mean()) ** 2).sum())
    within = float(((residual - means[codes]) ** 2).sum())
    df = n - k - lost
    if not within > 0 or df < 1:
        raise DataError(f"rank_test: nothing varies within the levels of {arm}; there is no test.")
    f = between / (k - 1) / (within / df)
    frame = pd.DataFrame(
        {"term": [arm], "num_df": [k - 1], "df": [float(df)], "statistic": [f], "p_value": [_f_tail(f, k - 1, df)]}
    )
    note = f"Quade's rank analysis of covariance; ranks within {lost + 1} strata, midranks for ties."
    return Estimates(frame, model._meta(title="Rank analysis of covariance", conventions=(note,)))


def _strata(model: AncovaFit, arm: str) -> IntArray:
    others = [f.codes for name, f in model.design.factors.items() if name != arm]
    if not others:
        return np.zeros(model.nobs, dtype=np.int64)
    return np.unique(np.column_stack(others), axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _covariates(model: AncovaFit) -> FloatArray:
    """Numeric columns of the model, one per single-variable term."""
    kinds = model.design.spec.variables
    own = [t for t in model.design.terms if len(t.factors) == 1 and kinds[t.factors[0]].kind == "numeric"]
    return np.column_stack([model.design.X[:, t.start] for t in own]) if own else np.empty((model.nobs, 0))


def _centred_ranks(values: FloatArray) -> FloatArray:
    """Midranks minus their mean."""
    _, at, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    ranks = (last - (count - 1) / 2.0)[at.reshape(-1)]
    return np.asarray(ranks - ranks.mean())


def hodges_lehmann(model: AncovaFit, arm: str, ref: Any, adjusted: bool, level: float) -> Estimates:
    """See `AncovaFit.hodges_lehmann`."""
    check_level(level)
    codes, values = _arm(model, arm)
    labels = [level_text(v) for v in values]
    if ref is not None and level_text(ref) not in labels:
        raise FormulaError(f"ref={ref!r} is no level of {arm}.{nearest(str(ref), labels)} Levels: {', '.join(labels)}.")
    control = 0 if ref is None else labels.index(level_text(ref))
    y = _without_arm(model, arm) if adjusted else model.y
    rows = []
    for a in range(len(values)):
        if a == control:
            continue
        found = shift.hodges_lehmann(y[codes == a], y[codes == control], level)
        rows.append((f"{labels[a]} - {labels[control]}", found.estimate, found.p_value, found.low, found.high))
    frame = pd.DataFrame(rows, columns=["contrast", "estimate", "p_value", "conf_low", "conf_high"])
    what = "residuals of the model without the arm" if adjusted else "the response"
    note = f"Hodges-Lehmann shift of {what}; Moses interval; Wilcoxon p value (exact below 50 per arm without ties)."
    return Estimates(frame, model._meta(title=f"Hodges-Lehmann shift of {arm}", level=level, conventions=(note,)))


def _without_arm(model: AncovaFit, arm: str) -> FloatArray:
    """Residuals of the (weighted) model without terms that hold the arm."""
    keep = np.zeros(len(model.design.names), dtype=bool)
    for term in model.design.terms:
        keep[term.start : term.stop] = not any(arm in columns_in(f, model.used) for f in term.factors)
    X, root = model.design.X[:, keep], np.sqrt(model.weights)
    return np.asarray(model.y - X @ np.linalg.lstsq(root[:, None] * X, root * model.y, rcond=None)[0])
