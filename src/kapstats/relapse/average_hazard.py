"""Average hazard ratio of a Cox model: event times weighted by who is still there to be compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kapstats._types import FloatArray
from kapstats.errors import ConvergenceError, FormulaError, choose
from kapstats.estimates import Estimates
from kapstats.inference.intervals import with_inference
from kapstats.kernels import average_hazard as ah
from kapstats.kernels import cox_newton as cn
from kapstats.kernels import cox_residuals as cr
from kapstats.kernels.risk_sets import risk_sets
from kapstats.relapse.surv_data import SurvData

if TYPE_CHECKING:
    from kapstats.relapse.cox_fit import CoxFit

#: name -> what an event at t counts
WEIGHTS = {
    "average-hazard": "S(t-) / G(t-)",
    "average-regression": "1 / G(t-)",
    "prentice": "S(t-)",
    "breslow": "number at risk",
    "none": "1",
}


def average_hazard_ratio(fit: CoxFit, weights: str = "average-hazard", truncate: float | None = None) -> Estimates:
    """See ``CoxFit.average_hazard_ratio``."""
    choose(weights, tuple(WEIGHTS), "weights")
    if truncate is not None and not 0.0 < truncate < 1.0:
        raise FormulaError(f"truncate={truncate}: the quantile at which weights are cut lies between 0 and 1.")
    _check(fit)
    W = _truncated(event_weights(fit.surv, fit.data, weights), fit.data, truncate)
    data = ah.weighted(fit.data, W)
    best = cn.maximise(lambda b: ah.evaluate(data, W, b), fit.maximum.b, span=data.span)
    if not best.converged or best.infinite.any():
        text = fit.surv.formula.text
        raise ConvergenceError(f"{text!r}: the weighted score has no root (decrement {best.decrement:.1e}).")
    return _estimates(fit, best, _robust(fit, data, W, best), W, weights, truncate)


def event_weights(surv: SurvData, data: cn.CoxData, weights: str) -> FloatArray:
    """(K,) weight of every event group, scaled so that the events weigh 1 on average."""
    every = risk_sets(surv.time, surv.event, None, surv.strata.codes, len(surv.strata), every=True)
    survival, uncensored, n = ah.followed(every, None if surv.weights is None else surv.weights[every.order])
    W = {"average-hazard": survival / uncensored, "average-regression": 1.0 / uncensored, "prentice": survival,
         "breslow": n, "none": np.ones(every.size)}[weights]  # fmt: skip
    at_events = W[every.at_event() > 0]
    return at_events / np.average(at_events, weights=data.deaths * data.mean_weight)


def _truncated(W: FloatArray, data: cn.CoxData, truncate: float | None) -> FloatArray:
    if truncate is None:
        return W
    return np.minimum(W, np.quantile(W[data.group], truncate))


def _check(fit: CoxFit) -> None:
    fit._needs_likelihood("average_hazard_ratio")
    if fit.surv.entry is not None or fit.frailty is not None or fit.meta.get("penalty") or fit.meta.get("time_varying"):
        raise FormulaError(
            "average_hazard_ratio: the weights need one row per subject followed from time 0, "
            "without frailty, penalty or coefficients that vary with time. Refit as Surv(time, event)."
        )


def _robust(fit: CoxFit, data: cn.CoxData, W: FloatArray, best: cn.Maximum) -> FloatArray:
    """(p, p) Lin and Wei's sandwich with the event weights taken as known."""
    D = data.sets.unsort(ah.influence(data, W, best.b)) @ np.linalg.inv(best.at.information)
    if fit.surv.weights is not None:
        D = D * fit.surv.weights[:, None]
    if fit.surv.cluster is not None:
        D = cr.cluster_sums(D, fit.surv.cluster)
    return np.asarray(D.T @ D)


def _estimates(
    fit: CoxFit, best: cn.Maximum, robust: FloatArray, W: FloatArray, weights: str, truncate: float | None
) -> Estimates:
    b, V = np.full(len(fit.names), np.nan), np.full((len(fit.names),) * 2, np.nan)
    b[fit.usable], V[np.ix_(fit.usable, fit.usable)] = best.b, robust
    frame = pd.DataFrame({"term": list(fit.names)})
    frame = with_inference(frame, b, np.sqrt(np.diag(V)), level=fit.level, side=fit.meta["side"])
    cut = "" if truncate is None else f", cut at their {truncate:g} quantile"
    method = f"weighted Cox regression, an event at t counts {WEIGHTS[weights]}{cut}, robust variance"
    meta = {
        **fit.meta, "scale": "log", "measure": "average hazard ratio", "title": "Average hazard ratios",
        "method": method,
        "sentence": f"{method}; {fit.surv.sentence()}", "estimand": "ratio of hazards, averaged over time",
        "conventions": (*fit.meta["conventions"], "event weights taken as known in the variance"),
        "weight_range": (float(W.min()), float(W.max())),
    }  # fmt: skip
    found = Estimates(frame, meta, V).exponentiate()
    return Estimates(found.frame, {**found.meta, "title": "Average hazard ratios"}, found.vcov)
