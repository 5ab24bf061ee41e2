"""How often an adverse event happens per subject: the mean cumulative count, and models of the rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.special import ndtri

from kapstats._types import FloatArray, IntArray
from kapstats.errors import FormulaError, choose
from kapstats.estimates import Estimates, Picture
from kapstats.inference.intervals import check_level, wald
from kapstats.kernels.count_regression import CountFit, count_regression
from kapstats.kernels.mean_cumulative import MeanCumulative, mean_cumulative
from kapstats.safety import covariates as columns_of
from kapstats.safety.follow_up import FollowUp, follow_up, rows_of
from kapstats.safety.time_to_event import described

if TYPE_CHECKING:
    from kapstats.safety.incidence import Incidence

RATE_MODELS = ("negative-binomial", "poisson", "quasi-poisson", "poisson-robust")


def recurrent(
    ae: Incidence,
    term: str | None = None,
    *,
    method: str = "mean-count",
    times: Sequence[float] | None = None,
    level: float = 0.95,
    covariates: Sequence[str] = (),
    onset: str | None = None,
    end: str | None = None,
    extend: bool = False,
) -> Estimates:
    """Estimate how often an event happens per subject: the mean cumulative count by time, or rate ratios.

    Parameters
    ----------
    method : mean-count (Nelson-Aalen mean with the robust standard error), or rate ratios against the reference on the
        log scale, with log time at risk as offset: negative-binomial, poisson, quasi-poisson (errors times the root of
        Pearson's chi-square over its df) or poisson-robust (sandwich errors, HC0)
    covariates : ADSL columns of the rate models
    times, onset, end : as in `time_to_first`
    extend : follow subjects with an event after the end of follow-up up to that event; otherwise the mean count does
        not count it, and the rate models count it without time at risk for it

    Returns
    -------
    mean-count: the group, time, n_risk, n_event, estimate, std_error, conf_low, conf_high (on the log scale).
    Rate models: contrast "A - B", estimate (log rate ratio), std_error, statistic, p_value, limits;
    ``exponentiate()`` gives rate ratios.

    Agrees with
    -----------
    R survival 3.5-3 (id cluster) 1e-8; MASS 7.3-58.2 glm.nb and R 4.2.2 glm with sandwich, 1e-5.

    References
    ----------
    Nelson (1988); Lawless & Nadeau (1995), Technometrics 37:158.
    """
    choose(method, ("mean-count", *RATE_MODELS), "method")
    rated = method in RATE_MODELS
    follow = follow_up(ae.records, onset=onset, end=end, competing=(), extend=extend, counted=rated)
    rows = rows_of(ae, term)
    if rated:
        return _rate_model(ae, term, rows, follow, covariates, method, level)
    rows = rows[follow.onset[rows] <= follow.end[ae.records.subject[rows]]]
    parts = []
    for i, arm in enumerate(ae.arms):
        own = np.flatnonzero(ae.records.arm == i)
        inside = rows[ae.records.arm[ae.records.subject[rows]] == i]
        if own.size:
            local = np.searchsorted(own, ae.records.subject[inside])
            curve = mean_count_curve(follow.onset[inside], local, follow.end[own], times, level)
            curve.insert(0, ae.by, [arm] * len(curve))
            parts.append(curve)
    title = f"Mean number of {term or 'adverse events'} per subject"
    about = described(ae, title, method, level, follow.notes, list(follow.warnings))
    options = {"strata": [ae.by], "unit": "days", "ylabel": "Expected events per subject"}
    return Estimates(pd.concat(parts, ignore_index=True), about, picture=Picture("cumulative_incidence", options))


def mean_count(event_time: FloatArray, subject: IntArray, end: FloatArray) -> MeanCumulative:
    """Mean cumulative count of the events (k,) of subjects followed to `end` (n,), who are at risk up to and including
    it; at the event times."""
    who = np.concatenate([subject, np.arange(end.size)])
    stop = np.concatenate([event_time, end])
    event = np.arange(stop.size) < event_time.size
    order = np.lexsort((stop, who))
    who, stop, event = who[order], stop[order], event[order]
    first = np.diff(who, prepend=-1) != 0
    fit = mean_cumulative(np.where(first, -np.inf, np.roll(stop, 1)), stop, event, who)
    seen = fit.n_event > 0
    return MeanCumulative(*(getattr(fit, f.name)[seen] for f in fields(fit)))


def mean_count_curve(
    event_time: FloatArray, subject: IntArray, end: FloatArray, times: Sequence[float] | None, level: float
) -> pd.DataFrame:
    """`mean_count` of one group at its event times or at `times`; limits on the log scale."""
    fit = mean_count(event_time, subject, end)
    wanted = fit.time if times is None else np.asarray(times, dtype=float)
    at = np.searchsorted(fit.time, wanted, side="right")
    mean, error = np.r_[0.0, fit.mean][at], np.r_[0.0, fit.std_error][at]
    beyond = wanted > end.max()
    mean, error = np.where(beyond, np.nan, mean), np.where(beyond, np.nan, error)
    factor = np.exp(float(ndtri((1 + check_level(level)) / 2)) * np.divide(error, mean, out=error * 0, where=mean > 0))
    ordered = np.sort(end)
    return pd.DataFrame(
        {
            "time": wanted,
            "n_risk": end.size - np.searchsorted(ordered, wanted, side="left"),
            "n_event": np.r_[0.0, np.cumsum(fit.n_event)][at].astype(np.int64),
            "estimate": mean,
            "std_error": error,
            "conf_low": mean / factor,
            "conf_high": mean * factor,
        }
    )


def _rate_model(
    ae: Incidence,
    term: str | None,
    rows: IntArray,
    follow: FollowUp,
    covariates: Sequence[str],
    method: str,
    level: float,
) -> Estimates:
    end = follow.end
    count = np.bincount(ae.records.subject[rows], minlength=end.size).astype(float)
    _estimable(ae, count, end)
    X = np.column_stack([np.ones(end.size), columns_of.design(ae, covariates)])
    fit = count_regression(count, X, np.log(end), negative_binomial=method == "negative-binomial")
    covariance, dispersion = error_matrix(fit, count, X, np.log(end), method)
    q = len(ae.arms)
    estimate, error = fit.coef[1:q], np.sqrt(np.diag(covariance))[1:q]
    frame = pd.DataFrame({"contrast": columns_of.contrasts(ae), "estimate": estimate, "std_error": error})
    frame = frame.assign(**wald(estimate, error, level=level))
    size = fit.theta
    said = [] if fit.converged else [f"The {method.replace('-', ' ')} fit did not converge."]
    if method == "negative-binomial" and not fit.converged and fit.theta > 1e6:
        size = np.inf
        said = ["The counts vary no more than a Poisson's: size is infinite, the fit is that of method='poisson'."]
    title = f"Rate ratios of {term or 'adverse events'}"
    meta = described(ae, title, method.replace("-", " "), level, follow.notes, [*follow.warnings, *said])
    meta |= {"scale": "log", "measure": "rate ratio", "size": size, "loglik": fit.loglik, "dispersion": dispersion}
    return Estimates(frame, meta, covariance[1:q, 1:q])


def _estimable(ae: Incidence, count: FloatArray, end: FloatArray) -> None:
    if np.any([count[ae.records.arm == i].sum() == 0 for i in range(len(ae.arms))]):
        raise FormulaError("recurrent: a group without any event has no rate ratio. Use ks.rate_ratio (exact) instead.")
    if (end <= 0).any():
        raise FormulaError(
            f"recurrent: {int((end <= 0).sum())} subjects have no time at risk. Give end= another column."
        )


def error_matrix(
    fit: CountFit, y: FloatArray, X: FloatArray, offset: FloatArray, method: str
) -> tuple[FloatArray, float]:
    """Covariance of the coefficients, and the dispersion that scales it."""
    mu = np.exp(X @ fit.coef + offset)
    dispersion = float(((y - mu) ** 2 / mu).sum() / max(y.size - X.shape[1], 1)) if method == "quasi-poisson" else 1.0
    covariance = np.asarray(fit.vcov, dtype=np.float64)
    if method == "poisson-robust":
        covariance = covariance @ ((X * ((y - mu) ** 2)[:, None]).T @ X) @ covariance
    return covariance * dispersion, dispersion
