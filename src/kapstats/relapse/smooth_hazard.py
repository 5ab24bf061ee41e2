"""Hazard over time: the jumps of the cumulative hazard, smoothed, with limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import ndtri

from kapstats import frames
from kapstats._types import FloatArray, FrameLike
from kapstats.errors import FormulaError
from kapstats.estimates import Estimates, Picture
from kapstats.inference.follow_up import within_follow_up
from kapstats.kernels import cox_residuals as cr
from kapstats.kernels.hazard_smoothing import weights
from kapstats.relapse.regression import predicted

if TYPE_CHECKING:
    from kapstats.relapse.cox_fit import CoxFit
    from kapstats.relapse.kaplan_meier import KaplanMeier

#: share of the follow-up on either side of a time that its hazard is averaged over, when no bandwidth is given
SHARE = 0.2
#: points of the curve when no times are given
POINTS = 101


def smoothed_hazard(km: KaplanMeier, times: Sequence[float] | None, bandwidth: float | None) -> Estimates:
    """See ``KaplanMeier.smoothed_hazard``."""
    end = _end([km.frame.loc[km._rows(g)] for g in range(len(km.groups))])
    b, t = _window(times, bandwidth, end)
    parts, ends = [], []
    for g in range(len(km.groups)):
        part = km.frame.loc[km._rows(g)]
        time, n, d = (part[c].to_numpy(float) for c in ("time", "n_risk", "n_event"))
        last = float(time[n > 0].max(initial=0.0))
        at = t if times is not None else t[t <= last]
        d, n = d[d > 0], n[d > 0]
        W = weights(at, time[part["n_event"].to_numpy(float) > 0], min(b, last), last)
        columns = _limits(W @ (d / n), np.sqrt(W**2 @ (d / n**2)), km.level)
        ends += [last] * len(at)
        parts.append(pd.DataFrame({**{k: [v] * len(at) for k, v in km._key(g).items()}, "time": at, **columns}))
    picture = Picture("hazard", {"strata": list(km.groups.frame.columns)})
    about = _meta(km.meta, b, "Nelson-Aalen estimate")
    found = Estimates(pd.concat(parts, ignore_index=True), about, picture=picture)
    names = np.repeat(np.array(km.labels, dtype=object), [len(p) for p in parts])
    return within_follow_up(found, np.array(ends), names)


def smoothed_cox_hazard(
    fit: CoxFit, newdata: FrameLike, times: Sequence[float] | None, bandwidth: float | None
) -> Estimates:
    """See ``CoxFit.smoothed_hazard``."""
    from kapstats.relapse.adjusted_survival import _new_rows

    fit._needs_likelihood("survival")
    new = frames.to_pandas(newdata)
    x, offset, stratum = _new_rows(fit, new)
    base, sets = cr.baseline(fit.data, fit._b_used()), fit.data.sets
    end = float(sets.time.max())
    b, t = _window(times, bandwidth, end)
    V = fit.V[np.ix_(fit.usable, fit.usable)]
    parts, ends = [], []
    for i in range(len(new)):
        rows = slice(sets.start[stratum[i]], sets.start[stratum[i] + 1])
        own = float(sets.time[rows].max(initial=0.0))  # of the stratum
        W = weights(t, sets.time[rows], min(b, own) or b, own)
        ends += [own] * len(t)
        scale = float(np.exp(x[i] @ fit._b_used() + offset[i]))
        variance, drift = (np.diff(v[rows], axis=0, prepend=0.0 * v[:1]) for v in (base.variance, base.drift))
        h = W @ base.increment[rows]
        q = W @ drift - h[:, None] * x[i]
        se = scale * np.sqrt(W**2 @ variance + np.einsum("ti,ij,tj->t", q, V, q))
        key = {c: [new[c].iloc[i]] * len(t) for c in new.columns}
        parts.append(pd.DataFrame({**key, "time": t, **_limits(scale * h, se, fit.level)}))
    meta = _meta(fit.meta, b, "baseline hazard of the Cox model")
    found = Estimates(pd.concat(parts, ignore_index=True), meta, picture=predicted("hazard", new))
    names = np.array(fit.surv.strata.labels, dtype=object)[stratum.repeat(len(t))]
    return within_follow_up(found, np.array(ends), names)


def _end(parts: Sequence[pd.DataFrame]) -> float:
    return max(float(part["time"].max()) for part in parts)


def _window(times: Sequence[float] | None, bandwidth: float | None, end: float) -> tuple[float, FloatArray]:
    """Bandwidth and times."""
    b = SHARE * end if bandwidth is None else float(bandwidth)
    if not 0.0 < b <= end:
        raise FormulaError(f"bandwidth={bandwidth}: a positive time of at most the follow-up, {end:g}.")
    t = np.linspace(0.0, end, POINTS) if times is None else np.sort(np.asarray(times, float))
    if ((t < 0) | (t > end)).any():
        raise FormulaError(f"times: a smoothed hazard is known from 0 to the end of follow-up, {end:g}.")
    return b, t


def _limits(value: FloatArray, se: FloatArray, level: float) -> dict[str, FloatArray]:
    """Columns with limits on the log scale; a hazard that the edge correction makes negative is 0 without limits."""
    z = float(ndtri(0.5 + level / 2.0))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        spread = np.exp(z * se / value)
        low, high = np.where(value > 0, value / spread, np.nan), np.where(value > 0, value * spread, np.nan)
    return {"estimate": np.maximum(value, 0.0), "std_error": se, "conf_low": low, "conf_high": high}


def _meta(meta: dict[str, Any], bandwidth: float, of: str) -> dict[str, Any]:
    method = f"{of} smoothed by Epanechnikov's kernel, bandwidth {bandwidth:g}, corrected edges, log limits"
    return {**meta, "title": "Hazard over time", "method": method, "scale": "identity",
            "bandwidth": bandwidth}  # fmt: skip
