"""Adverse event rates per time at risk: first events (EAIR) and all events (EAER)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kapstats import estimates
from kapstats._types import FloatArray, IntArray
from kapstats.errors import choose
from kapstats.estimates import Estimates
from kapstats.safety.follow_up import FollowUp, follow_up
from kapstats.safety.incidence import membership
from kapstats.safety.rate import DIFFERENCE, ONE, RATIO, rate, rate_difference, rate_ratio

if TYPE_CHECKING:
    from kapstats.safety.incidence import Incidence

YEAR = 365.25


def exposure_adjusted(
    ae: Incidence,
    *,
    quantity: str = "incidence",
    method: str = "exact",
    per: float = 100.0,
    level: float = 0.95,
    onset: str | None = None,
    end: str | None = None,
    extend: bool = False,
) -> Estimates:
    """Estimate rates per `per` patient-years of every term in every group.

    Parameters
    ----------
    quantity : incidence (EAIR: subjects with a first event over time until it, or until the end of follow-up) or
        events (EAER: all events over all follow-up)
    method : interval of `ks.rate`: exact, mid-p, byar, score, jeffreys, square-root, wald, log
    per : patient-years of the unit
    onset, end : columns of the times, in days; see `kapstats.safety.follow_up.follow_up`
    extend : follow subjects with an event after the end of follow-up up to that event; otherwise such an event counts
        and adds no time at risk

    Returns
    -------
    Estimates with level, the terms, the group, events, time (patient-years at risk), estimate, conf_low, conf_high.

    Agrees with
    -----------
    R 4.2.2 (gamma quantiles on recounted times), 1e-8.

    References
    ----------
    Zhou et al. (2015), Pharmaceutical Statistics 14:81.
    """
    choose(quantity, ("incidence", "events"), "quantity")
    choose(method, ONE, "method")
    follow = follow_up(ae.records, onset=onset, end=end, competing=(), extend=extend, counted=True)
    events, time = at_risk(ae, follow, quantity)
    found = rate(events.ravel(), time.ravel(), method, level, per=per)
    keys = ae.frame[["level", *ae.terms, ae.by]].reset_index(drop=True)
    frame = pd.concat([keys, found.frame], axis=1)
    rule = "time to the first event" if quantity == "incidence" else "all follow-up"
    title = f"Exposure-adjusted {'incidence' if quantity == 'incidence' else 'event'} rates per {per:g} patient-years"
    return Estimates(frame, _meta(ae, title, method, level, follow, f"time at risk: {rule}", per))


def at_risk(ae: Incidence, follow: FollowUp, quantity: str) -> tuple[FloatArray, FloatArray]:
    """(rows, groups) events and patient-years at risk."""
    arm, n_arms = ae.records.arm, len(ae.arms)
    n_rows = len(ae.frame) // n_arms
    total = np.bincount(arm, weights=follow.end, minlength=n_arms)
    if quantity == "events":
        events = ae.frame["n_events"].to_numpy(dtype=float).reshape(n_rows, n_arms)
        return events, np.broadcast_to(total, events.shape) / YEAR
    events = ae.frame["n_subjects"].to_numpy(dtype=float).reshape(n_rows, n_arms)
    time = np.tile(total, (n_rows, 1))
    for rows, target in membership(ae):
        first = _first(target, ae.records.subject[rows], follow.onset[rows])
        row, subject = first.index.get_level_values(0).to_numpy(), first.index.get_level_values(1).to_numpy()
        np.add.at(time, (row, arm[subject]), np.minimum(first.to_numpy() - follow.end[subject], 0.0))
    return events, time / YEAR


def _first(row: IntArray, subject: IntArray, onset: FloatArray) -> pd.Series:
    frame = pd.DataFrame({"row": row, "subject": subject, "onset": onset})
    return frame.groupby(["row", "subject"])["onset"].min()


def compare_rates(
    ae: Incidence,
    *,
    quantity: str = "incidence",
    measure: str = "ratio",
    method: str | None = None,
    per: float = 100.0,
    level: float = 0.95,
    onset: str | None = None,
    end: str | None = None,
    extend: bool = False,
) -> Estimates:
    """Compare exposure-adjusted rates of every group with the reference.

    Parameters
    ----------
    measure : ratio (method exact, mid-p, score, wald) or difference (score, mover, wald), per `per` patient-years
    quantity, onset, end, extend : as in `exposure_adjusted`

    Returns
    -------
    Estimates with level, the terms, contrast "A - B", x1 t1 x2 t2 (patient-years), estimate, p_value, limits.
    """
    choose(measure, ("ratio", "difference"), "measure")
    chosen = method or ("exact" if measure == "ratio" else "score")
    choose(chosen, RATIO if measure == "ratio" else DIFFERENCE, "method")
    follow = follow_up(ae.records, onset=onset, end=end, competing=(), extend=extend, counted=True)
    events, time = at_risk(ae, follow, quantity)
    base = ae.arms.index(ae.reference)
    call = rate_ratio if measure == "ratio" else rate_difference
    parts = []
    for i in (i for i in range(len(ae.arms)) if i != base):
        found = call(events[:, i], time[:, i], events[:, base], time[:, base], chosen, level).frame
        if measure == "difference":
            scaled = [c for c in ("estimate", "std_error", "conf_low", "conf_high") if c in found]
            found = found.assign(**{c: per * found[c] for c in scaled})
        keys = ae.frame[["level", *ae.terms]].iloc[:: len(ae.arms)].reset_index(drop=True)
        keys["contrast"] = f"{ae.arms[i]} - {ae.reference}"
        parts.append(pd.concat([keys, found], axis=1))
    title = f"Exposure-adjusted rates: {measure}"
    return Estimates(
        pd.concat(parts, ignore_index=True), _meta(ae, title, chosen, level, follow, f"{quantity} rates", per)
    )


def _meta(
    ae: Incidence, title: str, method: str, level: float, follow: FollowUp, rule: str, per: float
) -> dict[str, object]:
    return estimates.meta(
        method=method,
        level=level,
        title=title,
        sentence="; ".join([rule, *follow.notes, *ae.records.notes]),
        warnings=(*ae.warnings, *follow.warnings),
        data=ae.records.fingerprint(),
        frame_kind=ae.records.kind,
        per=per,
    )
