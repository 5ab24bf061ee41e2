"""The hours after a dose: prevalence, time to resolution, and the course of scores and vital signs by route."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kapstats import estimates, frames
from kapstats._types import FloatArray, IntArray
from kapstats.data.trial import Trial
from kapstats.errors import DataError, choose
from kapstats.estimates import Estimates, Picture
from kapstats.inference.intervals import check_level, wald
from kapstats.kernels import npmle as turnbull
from kapstats.kernels import one_proportion
from kapstats.safety import readings
from kapstats.safety.follow_up import one_period, rows_of

if TYPE_CHECKING:
    from kapstats.safety.incidence import Incidence

ONSET = ("ONSETMIN", "AONSETMN")
DURATION = ("DURMIN", "ADURMIN", "ADURN")
BOUNDS = (("AELMIN", "AERMIN"), ("LEFT", "RIGHT"))
MINUTES = (10, 20, 30, 40, 60, 90, 120, 180, 240)


def prevalence(
    ae: Incidence,
    term: str | None = None,
    *,
    minutes: Sequence[float] = MINUTES,
    session: int | None = 1,
    method: str = "wilson",
    level: float = 0.95,
) -> Estimates:
    """Estimate the share of subjects with an ongoing event, by minutes since the dose, in every group.

    Parameters
    ----------
    minutes : times since the start of the session
    session : dosing session (None: any session, per subject); subjects are counted once
    method : interval of `ks.proportion`

    Returns
    -------
    Estimates with the group, time, x (ongoing: onset <= time < onset + duration), n, estimate, conf_low, conf_high.

    Agrees with
    -----------
    R 4.2.2 recount and Wilson limits, 1e-8.
    """
    from kapstats.safety.proportion import METHODS

    choose(method, METHODS, "method")
    rows, onset, duration, note = _acute(ae, term, session)
    times = np.asarray(minutes, dtype=float)
    size = ae.records.size
    count = np.zeros((len(ae.arms), times.size), dtype=np.int64)
    for j, minute in enumerate(times):
        there = (onset <= minute) & (onset + duration > minute)
        who = np.unique(ae.records.subject[rows[there]])
        count[:, j] = np.bincount(ae.records.arm[who], minlength=len(ae.arms))
    x, n = count.ravel().astype(float), np.repeat(size, times.size).astype(float)
    low, high = METHODS[method](x, n, (1 - check_level(level)) / 2)
    frame = pd.DataFrame(
        {
            ae.by: np.repeat(np.array(ae.arms, dtype=object), times.size),
            "time": np.tile(times, len(ae.arms)),
            "x": count.ravel(),
            "n": n.astype(np.int64),
            "estimate": x / n,
            "conf_low": low,
            "conf_high": high,
        }
    )
    title = f"Subjects with ongoing {term or 'adverse events'} by minutes since dose"
    picture = Picture("prevalence", {"group": ae.by, "event": term or "an event"})
    return Estimates(frame, _meta(ae, title, method, level, note), picture=picture)


def _acute(ae: Incidence, term: str | None, session: int | None) -> tuple[IntArray, FloatArray, FloatArray, str]:
    """Records of a term in a session with a known onset in minutes, and their durations."""
    events, rows = ae.records.events, rows_of(ae, term)
    onset_name = _column(events, ONSET, "onset in minutes since the dose")
    duration_name = _column(events, DURATION, "duration in minutes")
    onset = frames.numbers(events, onset_name, "ADAE")[rows]
    duration = frames.numbers(events, duration_name, "ADAE")[rows]
    keep = ~np.isnan(onset)
    if session is not None:
        frames.require(events, ["SESSION"], "ADAE")
        keep &= frames.numbers(events, "SESSION", "ADAE")[rows] == session
    open_ended = keep & np.isnan(duration)
    note = f"{int(keep.sum())} of {rows.size} records in session {session or 'any'} with a known onset"
    if open_ended.any():
        note += f"; {int(open_ended.sum())} without an end count as ongoing"
    return rows[keep], onset[keep], np.where(np.isnan(duration), np.inf, duration)[keep], note


def _column(events: pd.DataFrame, names: Sequence[str], what: str) -> str:
    found = next((c for c in names if c in events.columns), None)
    if found is None:
        raise DataError(f"ADAE has no {what}: it needs one of {', '.join(names)}.")
    return found


def resolution(
    ae: Incidence,
    term: str | None = None,
    *,
    left: str | None = None,
    right: str | None = None,
    times: Sequence[float] | None = None,
    first: bool = True,
    convention: str = "SAS",
) -> Estimates:
    """Estimate the probability that an event has not yet resolved, by minutes since the dose, in every group.

    Resolution that is seen at assessments only lies in an interval (left, right]; the estimate is Turnbull's
    nonparametric maximum likelihood estimate. Exact durations are the special case left = right.

    Parameters
    ----------
    left, right : ADAE columns of the interval in minutes (right may be inf: not resolved when last seen); by default
        AELMIN and AERMIN, else onset plus duration
    times : times wanted; by default the right ends of the intervals with mass
    first : only the first record of each subject
    convention : where the mass of an interval is drawn: "SAS" at its right end, the first time at which the estimate
        is determined; "R" at its midpoint, as survival::survfit

    Returns
    -------
    Estimates with the group, time, n, estimate (not resolved by then) and median (where it passes one half,
    NaN when it does not). Inside an interval of mass the estimate is not determined; it is placed at its end.

    Agrees with
    -----------
    R survival 3.5-3 survfit (convention="R"), 1e-4.

    References
    ----------
    Turnbull (1976), JRSS B 38:290.
    """
    choose(convention, ("SAS", "R"), "convention")
    rows, low, high, note = _intervals(ae, term, left, right, first)
    group = ae.records.arm[ae.records.subject[rows]]
    parts = []
    for i, arm in enumerate(ae.arms):
        own = group == i
        if not own.any():
            continue
        fit = turnbull.npmle(low[own], high[own])
        ends, height = _steps(fit, convention)
        wanted = ends if times is None else np.asarray(times, dtype=float)
        curve = np.r_[1.0, height][np.searchsorted(ends, wanted, side="right")]
        median = _median(ends, height)
        columns = {ae.by: [arm] * wanted.size, "time": wanted, "n": int(own.sum()), "estimate": curve, "median": median}
        parts.append(pd.DataFrame(columns))
    frame = pd.concat(parts, ignore_index=True)
    about = _meta(ae, f"{term or 'Adverse events'}: not yet resolved", "Turnbull", 0.95, note)
    picture = Picture("kaplan_meier", {"strata": [ae.by], "ylabel": "Probability of not yet being resolved"})
    return Estimates(frame, about, picture=picture)


def _median(ends: FloatArray, height: FloatArray) -> float:
    """Where the curve passes one half; the middle of a stretch on which it equals one half (survfit, LIFETEST)."""
    at = int(np.argmax(np.append(height <= 0.5 + 1e-12, True)))
    if at == ends.size:
        return np.nan
    flat = abs(height[at] - 0.5) <= 1e-12 and at + 1 < ends.size
    return float((ends[at] + ends[at + 1]) / 2 if flat else ends[at])


def _steps(fit: turnbull.Npmle, convention: str) -> tuple[FloatArray, FloatArray]:
    """Times at which the estimate falls, and its height from there on."""
    some = (fit.mass > 0) & np.isfinite(fit.cliques.right)
    left, right = fit.cliques.left[some], fit.cliques.right[some]
    at = np.where(left > 0, (left + right) / 2, right) if convention == "R" else right
    return at, 1 - np.cumsum(fit.mass[some])


def _intervals(
    ae: Incidence, term: str | None, left: str | None, right: str | None, first: bool
) -> tuple[IntArray, FloatArray, FloatArray, str]:
    events, rows = ae.records.events, rows_of(ae, term)
    pair = (left, right) if left and right else next((b for b in BOUNDS if set(b) <= set(events.columns)), None)
    if pair is not None:
        frames.require(events, [p for p in pair if p], "ADAE")
        low, high = (frames.numbers(events, p, "ADAE")[rows] for p in pair)
        high = np.where(np.isnan(high) & ~np.isnan(low), np.inf, high)
        how = f"interval {pair[0]} to {pair[1]}"
    else:
        onset = frames.numbers(events, _column(events, ONSET, "onset in minutes"), "ADAE")[rows]
        low = onset + frames.numbers(events, _column(events, DURATION, "duration"), "ADAE")[rows]
        high, how = low, "exact times"
    keep = ~np.isnan(low)
    if first:
        order = np.lexsort((rows, ae.records.subject[rows]))
        seen = order[keep[order]]
        firsts = seen[np.unique(ae.records.subject[rows[seen]], return_index=True)[1]]
        keep = np.zeros(rows.size, dtype=bool)
        keep[firsts] = True
    note = f"{how}; {int(keep.sum())} of {rows.size} records" + (", the first of each subject" if first else "")
    return rows[keep], low[keep], high[keep], note


def resolution_times(
    ae: Incidence, term: str | None = None, *, left: str | None = None, right: str | None = None, first: bool = True
) -> pd.DataFrame:
    """One row per event of `resolution`: USUBJID, the group, LEFT and RIGHT in minutes (inf: not resolved when seen).

    For models of the interval-censored duration: ``ks.parametric_survival("Surv(LEFT, RIGHT, type='interval2') ~
    ROUTE", times, distribution="weibull")``, or `ks.turnbull` and `ks.interval_cox` with the same formula.
    """
    rows, low, high, _ = _intervals(ae, term, left, right, first)
    subject = ae.records.subject[rows]
    return pd.DataFrame({**_who(ae, subject), "LEFT": low, "RIGHT": high})


def sessions(ae: Incidence, term: str | None = None) -> pd.DataFrame:
    """One row per subject and session dosed: USUBJID, the group, SESSION and EVENT (1 where the event happened).

    For models of the share of sessions: ``ks.glmm("EVENT ~ ROUTE + SESSION + (1 | USUBJID)", ae.sessions("Nausea"),
    family="binomial", quadrature=25)``. Who was dosed when is ADEX's, else ADSL's NSESS.
    """
    dosed = _sessions(ae)
    happened = np.zeros_like(dosed)
    subject, session, _ = _in_session(ae, term, dosed.shape[1])
    happened[subject, session] = 1.0
    at, number = np.nonzero(dosed)
    return pd.DataFrame({**_who(ae, at), "SESSION": number + 1, "EVENT": happened[at, number].astype(np.int64)})


def _who(ae: Incidence, subject: IntArray) -> dict[str, Any]:
    group = pd.Categorical.from_codes(ae.records.arm[subject], categories=list(ae.arms), ordered=True)
    return {"USUBJID": ae.records.subjects["USUBJID"].to_numpy()[subject], ae.by: group}


def _in_session(ae: Incidence, term: str | None, last: int) -> tuple[IntArray, IntArray, str]:
    """Distinct pairs of subject and session (from 0) with the event, and how many records say so."""
    rows = rows_of(ae, term)
    frames.require(ae.records.events, ["SESSION"], "ADAE")
    session = frames.numbers(ae.records.events, "SESSION", "ADAE")[rows]
    keep = ~np.isnan(session) & (session >= 1) & (session <= last)
    pair = np.unique(ae.records.subject[rows[keep]] * last + session[keep].astype(np.int64) - 1)
    return pair // last, pair % last, f"{int(keep.sum())} of {rows.size} records in a session"


def acute_course(
    data: Any,
    *,
    by: str = "ROUTE",
    parameter: str = "CADSS",
    time: str = "ATPTN",
    value: str = "AVAL",
    baseline: bool = False,
    session: int | None = 1,
    threshold: float = 4.0,
    level: float = 0.95,
    band: str = "pointwise",
    seed: int = 1,
    order: Sequence[Any] | None = None,
    duplicates: str = "error",
) -> Estimates:
    """Estimate the course of a score or vital sign by minutes since the dose, and its summaries, in every group.

    Parameters
    ----------
    data : ADVS-like table: USUBJID, PARAMCD, SESSION, the group, minutes (`time`) and value; or a Trial, for its ADVS
    baseline : use the change from the value at the first time of the session
    threshold : for the time above it
    session : dosing session; None takes all sessions together, where a subject has readings at the same minute of
        several
    band : limits of the means: pointwise (t), or simultaneous over the times of a group (Gaussian multipliers, seeded)
    duplicates : several readings of a subject at one minute: "error", or their "mean" or "max"

    Returns
    -------
    Estimates with the group, quantity, time, n, estimate, sd, std_error, limits, median and maximum. quantity "mean"
    has one row per time (mean, t limits); "peak", "time of peak", "area", "time above" and "above at peak" have one row
    per group: means over subjects of the largest value, its (first) time, the trapezoidal area, the minutes above the
    threshold (linear between times), and the share of subjects whose peak exceeds it. A subject who misses a reading
    keeps all of these but the area from the readings that are there, with a warning; the area needs every reading.

    Raises
    ------
    DataError
        When nothing is left to analyse, or a subject has several readings at one minute and `duplicates` is "error".

    Agrees with
    -----------
    R 4.2.2 aggregate and trapezoids, 1e-8.
    """
    choose(band, ("pointwise", "simultaneous"), "band")
    choose(duplicates, ("error", "mean", "max"), "duplicates")
    frame = frames.to_pandas(data.advs if isinstance(data, Trial) else data)
    frames.require(frame, ["USUBJID", "PARAMCD", by, time, value])
    frame = frame.loc[(frame["PARAMCD"] == parameter) & frame[value].notna()]
    if session is not None and "SESSION" in frame.columns:
        frame = frame.loc[frame["SESSION"] == session]
    if frame.empty:
        raise DataError(f"No record has PARAMCD {parameter!r}" + (f" in session {session}." if session else "."))
    frame = frame.reset_index(drop=True)
    frame = frame.assign(**{column: frames.numbers(frame, column) for column in (time, value)})
    levels = frames.levels(frame, by, order)
    if duplicates == "error":
        readings.one_reading(frame, by, time, session)
    how = "max" if duplicates == "max" else "mean"
    wide = frame.pivot_table(index=[by, "USUBJID"], columns=time, values=value, observed=True, aggfunc=how)
    values, times = wide.to_numpy(dtype=float), wide.columns.to_numpy(dtype=float)
    if baseline:
        values = values - values[:, [0]]
    arm = wide.index.get_level_values(0)
    said = readings.missed(values, wide.index.get_level_values(1), baseline)
    parts = [_group_course(g, values[arm == g], times, threshold, level, by) for g in levels.values]
    if band == "simultaneous":
        own = [values[arm == g] for g in levels.values]
        parts = [_widen(part, v, times, level, seed) for part, v in zip(parts, own, strict=True)]
    result = pd.concat(parts, ignore_index=True)
    sentence = f"{parameter} by minutes since dose, {len(wide)} subjects, session {session or 'any'}; {band} limits"
    description = estimates.meta(
        method="mean course",
        level=level,
        title=f"{parameter} after dosing",
        sentence=sentence,
        data=result,
        warnings=said,
    )
    return Estimates(result, description)


def _group_course(
    group: Any, values: FloatArray, times: FloatArray, threshold: float, level: float, by: str
) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for j, minute in enumerate(times):
        rows.append(_mean_row("mean", minute, values[:, j], level))
    for name, summary in readings.of_readings(values, times, threshold).items():
        rows.append(_mean_row(name, np.nan, summary, level))
    frame = pd.DataFrame(rows)
    frame.insert(0, by, [group] * len(frame))
    return frame


def _widen(part: pd.DataFrame, values: FloatArray, times: FloatArray, level: float, seed: int) -> pd.DataFrame:
    """Limits of the means that hold at all times at once: the quantile of the largest standardised multiplier sum."""
    generator = np.random.default_rng(seed)
    there = ~np.isnan(values)
    count = there.sum(axis=0)
    residual = np.where(there, values - np.nanmean(values, axis=0), 0.0)
    scale = np.sqrt((residual**2).sum(axis=0))
    varies = (scale > 0) & (count > 1)
    draws = generator.normal(size=(4000, len(values))) @ residual[:, varies] / scale[varies]
    critical = float(np.quantile(np.abs(draws).max(axis=1), level)) if varies.any() else 0.0
    mean = (part["quantity"] == "mean").to_numpy()
    reach = critical * np.nan_to_num(part["std_error"].to_numpy(dtype=float))
    estimate = part["estimate"].to_numpy(dtype=float)
    low = np.where(mean, estimate - reach, part["conf_low"])
    return part.assign(conf_low=low, conf_high=np.where(mean, estimate + reach, part["conf_high"]))


def _mean_row(quantity: str, minute: float, values: FloatArray, level: float) -> dict[str, Any]:
    values = values[~np.isnan(values)]
    n = values.size
    mean = float(values.mean()) if n else np.nan
    sd = float(values.std(ddof=1)) if n > 1 else np.nan
    error = sd / np.sqrt(n) if n else np.nan
    limits = wald(mean, error, n - 1, level=level)
    low, high = (float(limits[c]) for c in ("conf_low", "conf_high"))
    row = {"quantity": quantity, "time": minute, "n": n, "estimate": mean, "sd": sd, "std_error": error}
    row |= {"median": float(np.median(values)), "maximum": float(values.max())} if n else {}
    return {**row, "conf_low": low, "conf_high": high}


def attenuation(ae: Incidence, term: str | None = None, *, level: float = 0.95) -> Estimates:
    """Estimate the share of dosed subjects with an event by session, in every group: does it fade?

    The denominators are the subjects dosed in that session (ADEX of the trial, else ADSL's NSESS).

    Returns
    -------
    Estimates with the group, SESSION, x, n, estimate, conf_low, conf_high (Wilson).
    """
    dosed = _sessions(ae)
    last = dosed.shape[1]
    subject, session, note = _in_session(ae, term, last)
    x = np.zeros((len(ae.arms), last))
    np.add.at(x, (ae.records.arm[subject], session), 1.0)
    n = np.zeros_like(x)
    np.add.at(n, ae.records.arm, dosed)
    low, high = one_proportion.wilson(x.ravel(), n.ravel(), (1 - check_level(level)) / 2)
    frame = pd.DataFrame(
        {
            ae.by: np.repeat(np.array(ae.arms, dtype=object), last),
            "SESSION": np.tile(np.arange(1, last + 1), len(ae.arms)),
            "x": x.ravel().astype(np.int64),
            "n": n.ravel().astype(np.int64),
            "estimate": np.divide(x, n, out=np.full_like(x, np.nan), where=n > 0).ravel(),
            "conf_low": low,
            "conf_high": high,
        }
    )
    title = f"{term or 'Adverse events'} by session"
    return Estimates(frame, _meta(ae, title, "wilson", level, note))


def per_session(ae: Incidence, term: str | None = None, *, level: float = 0.95) -> Estimates:
    """Estimate the share of dosing sessions in which the event happened, in every group.

    A ratio of sums over subjects, sum y_i / sum m_i, whose standard error treats the subject as the unit: sessions of
    one subject are alike, and Wilson limits on sessions would be too narrow. Limits are on the logit scale.

    Returns
    -------
    Estimates with the group, x (sessions with the event), n (sessions), subjects, estimate, std_error, conf_low,
    conf_high. Without any event, or with one in every session, the limits are NaN.

    References
    ----------
    Cochran (1977), Sampling Techniques, section 6.5.
    """
    dosed = _sessions(ae)
    subject, _, note = _in_session(ae, term, dosed.shape[1])
    y = np.bincount(subject, minlength=len(dosed)).astype(float)
    m = np.maximum(dosed.sum(axis=1), y)
    parts = [_ratio_row(ae, i, arm, y, m, level) for i, arm in enumerate(ae.arms)]
    title = f"{term or 'Adverse events'} per dosing session"
    return Estimates(pd.DataFrame(parts), _meta(ae, title, "ratio estimator, logit limits", level, note))


def _ratio_row(ae: Incidence, i: int, arm: Any, y: FloatArray, m: FloatArray, level: float) -> dict[str, Any]:
    own = (ae.records.arm == i) & (m > 0)
    x, n, subjects = y[own].sum(), m[own].sum(), int(own.sum())
    p = x / n if n else np.nan
    spread = ((y[own] - p * m[own]) ** 2).sum() * subjects / max(subjects - 1, 1)
    error = float(np.sqrt(spread)) / n if subjects > 1 else np.nan
    low = high = np.nan
    if 0 < p < 1:
        limits = wald(np.log(p / (1 - p)), error / (p * (1 - p)), level=level)
        low, high = (1 / (1 + np.exp(-float(limits[c]))) for c in ("conf_low", "conf_high"))
    counts = {"x": int(x), "n": int(n), "subjects": subjects}
    return {ae.by: arm, **counts, "estimate": p, "std_error": error, "conf_low": low, "conf_high": high}


def _sessions(ae: Incidence) -> FloatArray:
    """(subjects, sessions) 1 where the subject was dosed."""
    one_period(ae.records)
    subjects = ae.records.subjects
    if "adex" in ae.records.others and "SESSION" in ae.records.others["adex"].columns:
        adex = ae.records.others["adex"]
        at = pd.Index(subjects["USUBJID"]).get_indexer(pd.Index(adex["USUBJID"]))
        number = pd.to_numeric(adex["SESSION"]).to_numpy(dtype=np.int64)
        dosed = np.zeros((len(subjects), int(number.max())))
        dosed[at[at >= 0], number[at >= 0] - 1] = 1.0
        return dosed
    if "NSESS" not in subjects.columns:
        raise DataError("attenuation needs who was dosed when: ADEX with SESSION, or ADSL with NSESS.")
    count = subjects["NSESS"].to_numpy(dtype=float)
    return (np.arange(int(count.max()))[None, :] < count[:, None]).astype(float)


def _meta(ae: Incidence, title: str, method: str, level: float, note: str) -> dict[str, Any]:
    return estimates.meta(
        method=method,
        level=level,
        title=title,
        sentence="; ".join([title, note, *ae.records.notes]),
        warnings=ae.warnings,
        data=ae.records.fingerprint(),
        frame_kind=ae.records.kind,
    )
