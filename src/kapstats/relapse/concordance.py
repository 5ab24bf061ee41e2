"""Harrell's concordance of a Cox model: how often the row with the higher risk has its event first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kapstats._types import FloatArray
from kapstats.errors import EstimabilityError
from kapstats.estimates import Estimates
from kapstats.inference.intervals import with_inference
from kapstats.kernels.cox_newton import relative_risk

if TYPE_CHECKING:
    from kapstats.relapse.cox_fit import CoxFit

BLOCK = 512


def concordance(fit: CoxFit) -> Estimates:
    """One row: C = (concordant + tied risk / 2) / comparable pairs, standard error by the infinitesimal jackknife.

    A pair is comparable when one row has the event while the other is at risk and stays event-free at that time.
    """
    sets = fit.data.sets
    lp = _risk_order(fit)
    w = np.ones(len(lp)) if fit.data.w is None else fit.data.w
    better, worse, tied, of_better, of_all = _pairs(fit, lp, w)
    total = better + worse + tied
    if not total:
        raise EstimabilityError("concordance: no two rows can be compared.")
    c = (better + tied / 2.0) / total
    influence = w * (of_better - c * of_all) / total
    if fit.surv.cluster is not None:
        influence = np.bincount(fit.surv.cluster[sets.order], influence).astype(float)
    frame = pd.DataFrame({"quantity": ["concordance"]})
    frame = with_inference(frame, np.array([c]), np.array([np.sqrt(np.sum(influence**2))]), level=fit.level, null=0.5)
    counts = {"concordant": better, "discordant": worse, "tied_risk": tied}
    return Estimates(frame, {**fit.meta, "title": "Concordance", "scale": "identity", "counts": counts})


def _risk_order(fit: CoxFit) -> FloatArray:
    """Linear predictor (n,) of the sorted rows; its rank where coefficients are infinite, which come first then."""
    lp = relative_risk(fit.data, fit._b_used())[0]
    if fit.limit is None:
        return lp
    pairs = np.column_stack([fit.limit.level, np.round(lp, 12)])
    return np.unique(pairs, axis=0, return_inverse=True)[1].ravel().astype(float)


def _pairs(fit: CoxFit, lp: FloatArray, w: FloatArray) -> tuple[float, float, float, FloatArray, FloatArray]:
    """Weighted concordant, discordant and tied pairs, and each row's share (concordant + tied / 2; all)."""
    sets = fit.data.sets
    events = np.flatnonzero(sets.event)
    better = worse = tied = 0.0
    of_better, of_all = np.zeros(len(lp)), np.zeros(len(lp))
    for low in range(0, len(events), BLOCK):
        e = events[low : low + BLOCK]
        k = sets.last[e] - 1
        later = (sets.first[None, :] <= k[:, None]) & (sets.last[None, :] > k[:, None])
        later &= ~((sets.last[None, :] == k[:, None] + 1) & sets.event[None, :])
        weight = np.where(later, w[None, :] * w[e, None], 0.0)
        sign = np.sign(np.round(lp[e], 12)[:, None] - np.round(lp, 12)[None, :])
        parts = [float(weight[sign == s].sum()) for s in (1.0, -1.0, 0.0)]
        better, worse, tied = better + parts[0], worse + parts[1], tied + parts[2]
        score = weight * (1.0 + sign) / 2.0
        for target, values in ((of_better, score), (of_all, weight)):
            target += values.sum(axis=0) / w
            target[e] += values.sum(axis=1) / w[e]
    return better, worse, tied, of_better, of_all
