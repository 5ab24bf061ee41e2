"""Two-stage weighted combination of log-rank tests, and the projection of events of a trial under way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from kapstats import estimates, frames
from kapstats._types import BoolArray, FloatArray, FrameLike
from kapstats.errors import DataError, FormulaError
from kapstats.estimates import Estimates
from kapstats.inference.intervals import check_level
from kapstats.kernels import group_sequential as gs
from kapstats.kernels import weighted_logrank as wl
from kapstats.kernels.risk_sets import merge_close, risk_sets
from kapstats.relapse.regression import refuse_terms
from kapstats.relapse.surv_data import SurvData, group_rows, group_terms, unpack

if TYPE_CHECKING:
    from kapstats.relapse.sequential import GroupSequentialDesign


def weighted_logrank_combination(
    formula: str,
    data: FrameLike,
    *,
    entry: str,
    interim_events: int | None = None,
    interim_time: float | None = None,
    planned: tuple[float, float] | None = None,
    design: GroupSequentialDesign | None = None,
    level: float = 0.95,
    order: Mapping[str, Sequence[Any]] | None = None,
) -> Estimates:
    """Two-stage weighted combination of log-rank tests, with the weighted hazard ratio.

    The data are cut at the interim: Z1 is the (stratified) log-rank statistic of what was seen by then, and
    Z2 = (sqrt(D2) Z - sqrt(D1) Z1)/sqrt(D2 - D1) that of what came later. Z* = w1 Z1 + w2 Z2 with weights fixed by the
    plan, w^2 = planned shares of the events, is normal under the null hypothesis even when the second stage was changed
    at the interim. The weighted log hazard ratio is the value b at which the combination of Z_k - b sqrt(D_k r)/(1 + r)
    is zero, its interval where it lies within the normal quantile.

    Parameters
    ----------
    formula : ``Surv(time, event) ~ arm + strata(s)``: two arms, the first level is the reference
    entry : column with the calendar time of entry, in the unit of `time`
    interim_events, interim_time : the interim is when this many events have occurred, or at this calendar time
    planned : planned cumulative events at interim and end, which fix the weights (default: those observed)
    design : adds the critical values of a two-stage design
    level : of the two-sided interval

    Returns
    -------
    Estimates : rows `interim`, `increment`, `combined` by `quantity`: events, statistic (negative: fewer events under
    treatment), p_value (one-sided, less), estimate (log hazard ratio) with limits

    Raises
    ------
    DataError
        More or fewer than two arms; no events before or after the interim.

    Agrees with
    -----------
    R code on rpact 3.3.4 boundaries: relative error below 1e-10.

    References
    ----------
    Wassmer (2006) Biom J 48: 714-729. Daly et al. (2019) JAMA Psychiatry 76: 893-903.

    Examples
    --------
    >>> import pandas as pd
    >>> data = pd.DataFrame({"t": [3, 5, 2, 8, 4, 9, 7, 6], "e": 1, "arm": [0, 1] * 4, "entry": [0, 0, 1, 1] * 2})
    >>> found = weighted_logrank_combination("Surv(t, e) ~ arm", data, entry="entry", interim_events=4)
    >>> found["quantity"].tolist()
    ['interim', 'increment', 'combined']
    """
    check_level(level)
    surv = unpack(formula, data, order=order, extra=[f"`{entry}`"])
    groups = group_rows(surv.frame, group_terms(surv.formula), order)
    refuse_terms(surv, "the combination test", allow=("strata",))
    if len(groups) != 2:
        raise DataError(f"{formula!r}: the combination test compares two arms; there are {len(groups)}.")
    begin = frames.numbers(surv.frame, entry)
    cut, by_then, time, seen = _seen_by(begin, surv, interim_events, interim_time)
    z1, D1 = _logrank_z(surv, groups.codes, by_then, time[by_then], seen[by_then])
    z, D2 = _logrank_z(surv, groups.codes, np.ones(len(surv), bool), surv.time, surv.event)
    if D1 == 0 or D2 == D1:
        raise DataError(f"The interim at {cut:g} has {D1:g} events before and {D2 - D1:g} after it; both are needed.")
    increment = (np.sqrt(D2) * z - np.sqrt(D1) * z1) / np.sqrt(D2 - D1)
    share = (D1 / D2) if planned is None else planned[0] / planned[1]
    weight = np.sqrt([share, 1.0 - share])
    combined = float(weight @ [z1, increment])
    r = float((groups.codes == 1).sum() / (groups.codes == 0).sum())
    slopes = np.sqrt(np.array([D1, D2 - D1]) * r) / (1.0 + r)
    rows = [
        _combination_row("interim", D1, z1, slopes[0], level),
        _combination_row("increment", D2 - D1, increment, slopes[1], level),
        _combination_row("combined", D2, combined, float(weight @ slopes), level),
    ]
    frame = pd.DataFrame(rows)
    if design is not None:
        frame["critical_value"] = [design.critical_values[0], np.nan, design.critical_values[-1]]
    return Estimates(frame, _combination_meta(surv, formula, groups.labels, cut, z, weight, level))


def _seen_by(
    begin: FloatArray, surv: SurvData, events: int | None, at: float | None
) -> tuple[float, BoolArray, FloatArray, BoolArray]:
    """The interim and, per row: whether entered by then, time seen by then, whether with the event.

    Sums and differences of times that are not whole numbers are rounded; what differs by rounding only is one time.
    """
    given = np.array([] if at is None else [float(at)])
    begin, calendar, given = merge_close(begin, begin + surv.time, given)
    cut = _interim_time(calendar, surv.event, events, None if at is None else float(given[0]))
    before = calendar <= cut
    full, short = merge_close(surv.time, cut - begin)
    return cut, begin < cut, np.where(before, full, short), surv.event & before


def _interim_time(calendar: FloatArray, event: BoolArray, events: int | None, time: float | None) -> float:
    if (events is None) == (time is None):
        raise FormulaError("Say when the interim was: interim_events= or interim_time=.")
    if time is not None:
        return float(time)
    assert events is not None
    at = np.sort(calendar[event])
    if not 0 < events <= at.size:
        raise DataError(f"interim_events={events}: the data hold {at.size} events.")
    return float(at[events - 1])


def _logrank_z(surv: SurvData, arm: Any, rows: BoolArray, time: FloatArray, event: BoolArray) -> tuple[float, float]:
    """(Observed - expected)/sqrt(variance) of the second arm, summed over strata, and the number of events."""
    if not event.any():
        raise DataError("No event before the interim; there is no test.")
    sets = risk_sets(time, event, None, surv.strata.codes[rows], len(surv.strata))
    counts = wl.group_counts(sets, arm[rows], 2)
    found = wl.weighted_scores(counts, np.ones((1, counts.n.size)))
    return float(found.score[0, 1] / np.sqrt(found.covariance[0, 0, 1, 1])), float(event.sum())


def _combination_row(name: str, events: float, z: float, slope: float, level: float) -> dict[str, Any]:
    reach = float(ndtri(0.5 + level / 2.0)) / slope
    return {
        "quantity": name,
        "events": events,
        "estimate": z / slope,
        "std_error": 1.0 / slope,
        "statistic": z,
        "p_value": float(ndtr(z)),
        "conf_low": z / slope - reach,
        "conf_high": z / slope + reach,
    }


def _combination_meta(
    surv: SurvData, formula: str, labels: tuple[str, ...], cut: float, z: float, weight: FloatArray, level: float
) -> dict[str, Any]:
    by = f", stratified by {', '.join(surv.formula.strata)}" if surv.formula.strata else ""
    method = f"two-stage inverse-normal combination of log-rank tests{by}, weights {weight[0]:.4f} and {weight[1]:.4f}"
    return estimates.meta(
        method=method,
        level=level,
        side="less",
        scale="log",
        measure="hazard ratio",
        title=f"{labels[1]} - {labels[0]}",
        sentence=f"{method}; interim at {cut:g}; {surv.sentence()}",
        estimand="log hazard ratio, weighted over the two stages",
        conventions=("p_value one-sided for fewer events under treatment", "log hazard ratio from z (1 + r)/sqrt(r D)"),
        data=surv.data_print,
        frame_kind=surv.kind,
        interim_time=cut,
        z_all_data=z,
    )


def project_events(
    formula: str,
    data: FrameLike,
    times: Sequence[float],
    *,
    new_subjects: int = 0,
    accrual: float = 0.0,
    hazard: float | None = None,
    dropout: float | None = None,
) -> Estimates:
    """Expected cumulative number of events at later times of a trial under way.

    Subjects still at risk and `new_subjects` entering uniformly over the next `accrual` have a constant hazard
    (default: events over follow-up so far) and a constant dropout hazard.

    Parameters
    ----------
    formula : ``Surv(time, status) ~ 1`` with status 0 still at risk, 1 event, 2 dropped out
    times : from now on, in the unit of `time`
    hazard, dropout : hazards to use instead of the observed ones

    Returns
    -------
    Estimates : time, estimate (cumulative events), std_error and 95% limits of the number that will be seen: binomial,
        and for hazards that are estimated the error of their logarithms (1 / events) by the delta method

    Examples
    --------
    >>> import pandas as pd
    >>> data = pd.DataFrame({"t": [10.0, 20.0, 30.0, 40.0], "s": [1, 0, 0, 1]})
    >>> project_events("Surv(t, s) ~ 1", data, [0.0, 50.0])["estimate"].round(3).tolist()
    [2.0, 3.264]
    """
    surv = unpack(formula, data, competing=True, censored=0)
    assert surv.status is not None
    cause = np.array([0, *surv.causes], dtype=object)[surv.status]
    exposure = float(surv.time.sum())
    h = float((cause == 1).sum() / exposure) if hazard is None else hazard
    lost = float((cause == 2).sum() / exposure) if dropout is None else dropout
    now, at_risk = float((cause == 1).sum()), float((cause == 0).sum())
    t = np.asarray(times, float)

    def chances(logs: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Probabilities of an event by t of those at risk, and of those still to come."""
        h, lost = np.exp(logs)
        old = h / (h + lost) * -np.expm1(-(h + lost) * t) if h + lost > 0 else np.zeros_like(t)
        new = np.array([gs.event_probability(h, lost, accrual, x) for x in t]) if accrual > 0 else old
        return old, new

    with np.errstate(divide="ignore"):
        logs = np.log([h, lost])
    (p_old, p_new), size = chances(logs), (at_risk, new_subjects)
    mean = now + at_risk * p_old + new_subjects * p_new
    variance = at_risk * p_old * (1 - p_old) + new_subjects * p_new * (1 - p_new)
    for k, (given, seen) in enumerate(((hazard, cause == 1), (dropout, cause == 2))):
        if given is None and seen.any():
            step = 1e-4 * (np.arange(2) == k)
            up, down = (sum(n * p for n, p in zip(size, chances(logs + s), strict=True)) for s in (step, -step))
            variance = variance + ((up - down) / 2e-4) ** 2 / seen.sum()
    se = np.sqrt(variance)
    z = float(ndtri(0.975))
    low, high = np.maximum(mean - z * se, now), mean + z * se
    frame = pd.DataFrame({"time": t, "estimate": mean, "std_error": se, "conf_low": low, "conf_high": high})
    method = f"event projection, constant hazard {h:.4g}, dropout hazard {lost:.4g}"
    meta = estimates.meta(
        method=method,
        title="Projected events",
        sentence=f"{method}; {surv.sentence()}",
        data=surv.data_print,
        frame_kind=surv.kind,
    )
    return Estimates(frame, meta)
