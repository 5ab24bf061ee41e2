"""Cox regression with a weight at every event time: average hazard ratios where hazards are not proportional.

The score is sum_k W_k (x_k - xbar_k) over the event groups k of ``cox_newton``. A weight multiplies everything
its event group adds to the likelihood, so the layout is that of the plain model with other mean weights.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from kapstats.kernels import cox_newton as cn
from kapstats.kernels import cox_residuals as cr
from kapstats.kernels.product_limit import within_strata
from kapstats.kernels.risk_sets import RiskSets

FloatArray = npt.NDArray[np.float64]


def followed(sets: RiskSets, w: FloatArray | None = None) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Just before every grid point, (K,) each: survival, the chance of not being censored yet, and the number at risk.

    `sets` must hold all times (``every=True``); `w` (n,) sorted case weights. Events come before censorings of the
    same time, which therefore leave from those at risk without the events.
    """
    n, events = sets.at_risk(w), sets.at_event(None if w is None else w[sets.event])
    leave = np.bincount(sets.last, w, sets.size + 1)[1:].astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        stay = 1.0 - events / n
        uncensored = np.where(n > events, 1.0 - (leave - events) / (n - events), 1.0)
    return _before(stay, sets), _before(uncensored, sets), n


def _before(steps: FloatArray, sets: RiskSets) -> FloatArray:
    """Running product of `steps` (K,) within strata, without the last factor."""
    shifted = np.concatenate([[1.0], np.maximum(steps[:-1], 0.0)])
    shifted[sets.start[:-1][np.diff(sets.start) > 0]] = 1.0
    return within_strata(np.multiply.accumulate, shifted, sets.start)


def weighted(data: cn.CoxData, W: FloatArray) -> cn.CoxData:
    """The data of the model in which event group k counts W_k (K,) times."""
    counts = W[data.group] if data.w is None else W[data.group] * data.w[data.sets.event]
    return replace(data, mean_weight=data.mean_weight * W, x_sum=counts @ data.X[data.sets.event])


def evaluate(data: cn.CoxData, W: FloatArray, b: FloatArray) -> cn.Evaluation:
    """Weighted log-likelihood, score and information at b; `data` from `weighted`."""
    at = cn.evaluate(data, b)
    lp = cn.relative_risk(data, b)[0][data.sets.event]
    extra = (W[data.group] - 1.0) * (1.0 if data.w is None else data.w[data.sets.event])
    return replace(at, loglik=at.loglik + float(extra @ lp))


def influence(data: cn.CoxData, W: FloatArray, b: FloatArray) -> FloatArray:
    """(n, p) contributions of the sorted rows to the weighted score, per unit of case weight; `data` is `weighted`."""
    scores = cr.score_residuals(data, b)
    scores[data.sets.event] += (W[data.group] - 1.0)[:, None] * cr.schoenfeld(data, b)
    return scores
