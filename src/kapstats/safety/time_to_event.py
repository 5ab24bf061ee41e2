"""When adverse events happen: first event with competing events, recurrent events, and what the crude rate hides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import ndtri

from kapstats import estimates
from kapstats._types import FloatArray, IntArray
from kapstats.errors import choose, warn
from kapstats.estimates import Estimates, Picture
from kapstats.inference.follow_up import within_follow_up
from kapstats.inference.intervals import check_level
from kapstats.kernels.aalen_johansen import aalen_johansen
from kapstats.kernels.risk_sets import merge_close, snap
from kapstats.safety.follow_up import first_per_subject, follow_up

if TYPE_CHECKING:
    from kapstats.safety.incidence import Incidence

ESTIMATORS = ("aalen-johansen", "one-minus-km")
SAVVY = (
    "incidence-proportion",
    "incidence-density",
    "incidence-density-competing",
    "one-minus-km",
    "aalen-johansen",
)
ONE_MINUS_KM = (
    "1 - Kaplan-Meier treats competing events as censoring: it estimates a probability in a world without them, never "
    "smaller than the Aalen-Johansen estimate."
)


def time_to_first(
    ae: Incidence,
    term: str | None = None,
    *,
    estimator: str = "aalen-johansen",
    competing: Sequence[str] | str = ("death",),
    times: Sequence[float] | None = None,
    conf_type: str = "log-log",
    level: float = 0.95,
    onset: str | None = None,
    end: str | None = None,
    extend: bool = False,
) -> Estimates:
    """Estimate the probability of a first event of `term` by time since the first dose, in every group.

    Parameters
    ----------
    term : a term of any level, or a custom grouping; None is any event
    estimator : aalen-johansen (default) or one-minus-km (with a warning when there are competing events)
    competing : death, adverse-event (discontinuation for one), discontinuation (any); see `follow_up`
    times : times wanted; by default every distinct time of an event or of an end of follow-up
    conf_type : log-log or plain
    onset, end : columns of the times, in days; see `kapstats.safety.follow_up.follow_up`
    extend : follow subjects with an event after the end of follow-up up to that event (else not counted), and
        carry the probability forward past a group's last time, where it is otherwise not estimable (NE) unless
        nobody is left at risk of the event

    Returns
    -------
    Estimates with the group, time, n_risk, n_event (first events so far), estimate, std_error (infinitesimal
    jackknife; Greenwood for one-minus-km), conf_low, conf_high.

    Agrees with
    -----------
    R survival 3.5-3 survfit, 1e-8.

    References
    ----------
    Stegherr et al. (2021), Pharmaceutical Statistics 20:1125 (SAVVY). Aalen & Johansen (1978).
    """
    choose(estimator, ESTIMATORS, "estimator")
    choose(conf_type, ("log-log", "plain"), "conf_type")
    follow = follow_up(ae.records, onset=onset, end=end, competing=competing, extend=extend)
    time, status = first_per_subject(ae, follow, term)
    said = list(follow.warnings)
    if estimator == "one-minus-km" and (status == 2).any():
        warn(ONE_MINUS_KM)
        said.append(ONE_MINUS_KM)
    parts, ends, names = [], [], []
    for i, arm in enumerate(ae.arms):
        own = ae.records.arm == i
        if own.any():
            curve = first_event_curve(time[own], status[own], times, estimator, conf_type, level, extend=True)
            curve.insert(0, ae.by, [arm] * len(curve))
            ends += [known_until(time[own], status[own], estimator)] * len(curve)
            names += [f"{ae.by}={arm}"] * len(curve)
            parts.append(curve)
    about = described(ae, f"First {term or 'adverse event'}", estimator, level, follow.notes, said)
    picture = Picture("cumulative_incidence", {"strata": [ae.by], "unit": "days", "risk_table": times is None})
    found = Estimates(pd.concat(parts, ignore_index=True), about, picture=picture)
    return within_follow_up(found, ends, names, extend=extend)


def known_until(time: FloatArray, status: IntArray, estimator: str = "aalen-johansen") -> float:
    """The last time; infinite when nobody is left at risk of the event there."""
    last = float(time.max())
    at_end = status[time == last]
    ended = (at_end > 0).all() if estimator == "aalen-johansen" else (at_end == 1).all()
    return np.inf if ended else last


def first_event_curve(
    time: FloatArray,
    status: IntArray,
    times: Sequence[float] | None = None,
    estimator: str = "aalen-johansen",
    conf_type: str = "log-log",
    level: float = 0.95,
    *,
    extend: bool = False,
) -> pd.DataFrame:
    """Probability of the event (status 1) by time with competing status 2 and censoring 0, for one group.

    A time after the last one observed has no estimate (NaN), unless nobody is left at risk of the event or `extend`.
    """
    time = merge_close(time)[0]
    cause = status if estimator == "aalen-johansen" else np.where(status == 1, 1, 0)
    fit = aalen_johansen(time, cause.astype(np.int64), 2)
    wanted = fit.time if times is None else snap(np.asarray(times, dtype=float), fit.time)
    at = np.searchsorted(fit.time, wanted, side="right")
    value, error = np.r_[0.0, fit.cif[:, 0]][at], np.r_[0.0, fit.se_cif[:, 0]][at]
    if estimator == "one-minus-km":
        error = _greenwood(fit.n_risk, fit.n_event[:, 0], fit.survival)[at]
    ended = (wanted > known_until(time, status, estimator)) & (not extend)
    value, error = np.where(ended, np.nan, value), np.where(ended, np.nan, error)
    if estimator == "one-minus-km":
        high, low = (1 - limit for limit in probability_limits(1 - value, error, conf_type, level))
    else:
        low, high = probability_limits(value, error, conf_type, level)
    return pd.DataFrame(
        {
            "time": wanted,
            "n_risk": np.r_[fit.n_risk, 0.0][np.searchsorted(fit.time, wanted, side="left")].astype(np.int64),
            "n_event": np.r_[0.0, np.cumsum(fit.n_event[:, 0])][at].astype(np.int64),
            "estimate": value,
            "std_error": error,
            "conf_low": low,
            "conf_high": high,
        }
    )


def _greenwood(n_risk: FloatArray, n_event: FloatArray, survival: FloatArray) -> FloatArray:
    left = n_risk - n_event
    part = np.divide(n_event, n_risk * left, out=np.zeros_like(n_risk), where=left > 0)
    return np.r_[0.0, survival * np.sqrt(np.cumsum(part))]


def probability_limits(
    value: FloatArray, error: FloatArray, conf_type: str, level: float
) -> tuple[FloatArray, FloatArray]:
    """Limits of a probability, log-log as R survival does for state probabilities, or plain within [0, 1]."""
    z = float(ndtri((1 + check_level(level)) / 2))
    if conf_type == "plain":
        return np.maximum(value - z * error, 0.0), np.minimum(value + z * error, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        log = np.log(value)
        shift = z * error / (value * log)
        low, high = np.exp(log * np.exp(-shift)), np.exp(log * np.exp(shift))
    inside = (value > 0) & (value < 1)
    return np.where(inside, low, value), np.where(inside, high, value)


def savvy(
    ae: Incidence,
    term: str | None = None,
    *,
    tau: float | None = None,
    competing: Sequence[str] | str = ("death",),
    level: float = 0.95,
    onset: str | None = None,
    end: str | None = None,
    extend: bool = False,
) -> Estimates:
    """Estimate the probability of a first event by `tau` in five ways, so that their differences can be seen.

    The incidence proportion forgets who left early (too small); the two transforms of the incidence density assume
    constant hazards; 1 - Kaplan-Meier censors competing events (too large); Aalen-Johansen does neither.

    Parameters
    ----------
    tau : days; by default the smallest of the groups' largest times
    competing, onset, end, extend : as in `time_to_first`

    Returns
    -------
    Estimates with the group, method, time, estimate, std_error, conf_low, conf_high (normal, within [0, 1]).

    Agrees with
    -----------
    savvyr 0.1.1 (with etm's and survival's variances), 1e-8.

    References
    ----------
    Stegherr et al. (2021), Pharmaceutical Statistics 20:1125.
    """
    follow = follow_up(ae.records, onset=onset, end=end, competing=competing, extend=extend)
    time, status = first_per_subject(ae, follow, term)
    held = [i for i in range(len(ae.arms)) if (ae.records.arm == i).any()]
    until = min(float(time[ae.records.arm == i].max()) for i in held) if tau is None else float(tau)
    own = [(time[ae.records.arm == i], status[ae.records.arm == i]) for i in held]
    frame = pd.concat([five_estimators(t, s, until, level, extend=True) for t, s in own], ignore_index=True)
    frame.insert(0, ae.by, [ae.arms[i] for i in held for _ in SAVVY])
    title = f"{term or 'Adverse event'} by day {until:g}: five estimators"
    about = described(ae, title, "SAVVY comparison", level, follow.notes, list(follow.warnings))
    ends = np.repeat([known_until(t, s) for t, s in own], len(SAVVY))
    names = np.repeat([f"{ae.by}={ae.arms[i]}" for i in held], len(SAVVY))
    return within_follow_up(Estimates(frame, about), ends, names, extend=extend)


def five_estimators(
    time: FloatArray, status: IntArray, tau: float, level: float = 0.95, *, extend: bool = False
) -> pd.DataFrame:
    """The SAVVY estimators of one group: method, time, estimate, std_error and limits."""
    n, at_risk = time.size, float(np.minimum(time, tau).sum())
    a = float(((status == 1) & (time <= tau)).sum())
    c = float(((status == 2) & (time <= tau)).sum())
    proportion = a / n
    found = [(proportion, proportion * (1 - proportion) / n), *_densities(a, c, at_risk, tau)]
    for estimator in ("one-minus-km", "aalen-johansen"):
        curve = first_event_curve(time, status, [tau], estimator, extend=extend)
        found.append((float(curve["estimate"].iloc[0]), float(curve["std_error"].iloc[0]) ** 2))
    estimate, error = np.array([f[0] for f in found]), np.sqrt([f[1] for f in found])
    low, high = probability_limits(estimate, error, "plain", level)
    columns = {"method": SAVVY, "time": tau, "estimate": estimate, "std_error": error}
    return pd.DataFrame({**columns, "conf_low": low, "conf_high": high})


def _densities(a: float, c: float, at_risk: float, tau: float) -> list[tuple[float, float]]:
    """Probability from constant hazards, without and with the competing one, with delta-method variances."""
    alpha, gamma = a / at_risk, c / at_risk
    alone = np.exp(-alpha * tau)
    total = alpha + gamma
    if total == 0:
        return [(0.0, 0.0), (0.0, 0.0)]
    left, share = np.exp(-total * tau), alpha / total
    by_alpha = gamma / total**2 * (1 - left) + share * tau * left
    by_gamma = -alpha / total**2 * (1 - left) + share * tau * left
    variance = by_alpha**2 * alpha / at_risk + by_gamma**2 * gamma / at_risk
    return [(1 - alone, (tau * alone) ** 2 * alpha / at_risk), (share * (1 - left), variance)]


def described(
    ae: Incidence, title: str, method: str, level: float, notes: Sequence[str], said: Sequence[str]
) -> dict[str, Any]:
    """Meta of a table of counted events: method, sentence, warnings and fingerprint of the records."""
    sentence = "; ".join([f"{method}", *notes, *ae.records.notes])
    return estimates.meta(
        method=method,
        level=level,
        title=title,
        sentence=sentence,
        warnings=(*ae.warnings, *said),
        data=ae.records.fingerprint(),
        frame_kind=ae.records.kind,
    )
