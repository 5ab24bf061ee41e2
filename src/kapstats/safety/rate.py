"""Event rates per unit of time at risk, their ratio and their difference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import ndtr

from kapstats._types import FloatArray
from kapstats.errors import choose
from kapstats.estimates import Estimates
from kapstats.kernels import poisson
from kapstats.kernels.two_proportions import log_limits, ratio
from kapstats.safety import rows

ONE: dict[str, Callable[..., Any]] = {
    "exact": poisson.exact,
    "mid-p": poisson.mid_p,
    "byar": poisson.byar,
    "score": poisson.score,
    "wald": poisson.wald,
    "log": poisson.log_normal,
    "jeffreys": poisson.jeffreys,
    "square-root": poisson.square_root,
}
RATIO = ("exact", "mid-p", "score", "wald")
DIFFERENCE: dict[str, Callable[..., Any]] = {
    "score": poisson.score_difference,
    "mover": poisson.mover_difference,
    "wald": poisson.wald_difference,
}


#: other names of the same methods
SYNONYMS = {"garwood": "exact", "conditional-exact": "exact", "miettinen-nurminen": "score"}


def rate(
    events: Any,
    time: Any,
    method: str = "exact",
    level: float = 0.95,
    *,
    side: str = "two",
    per: float = 1.0,
    data: Any = None,
) -> Estimates:
    """Estimate Poisson event rates events/time with confidence limits, one row out per row in.

    Parameters
    ----------
    events, time : counts and time at risk; scalars, arrays, columns, or column names of `data`
    method : exact (Garwood), mid-p, byar, score, jeffreys (gamma; 0 without events), square-root, wald (unclipped), log
        (NaN limits without events)
    level, side : confidence; two, greater (lower bound) or less (upper bound)
    per : unit of time of the rate, e.g. 100 for events per 100 patient-years when `time` is in years

    Returns
    -------
    Estimates with columns events, time, estimate, conf_low, conf_high. No time at risk gives NaN, with a warning.

    Agrees with
    -----------
    R 4.2.2 (gamma quantiles, ratesci 1.0.0, closed forms), 1e-9.

    References
    ----------
    Garwood (1936), Biometrika 28:437. Rothman & Boice (1979) for Byar's method.

    Examples
    --------
    >>> rate(0, 12.5)["conf_high"].round(6).tolist()
    [0.29511]
    """
    method = SYNONYMS.get(method, method)
    choose(method, ONE, "method")
    tail = rows.check_side(side, level)
    (x, t), kind = rows.arrays(data, events=events, time=time)
    known = rows.check_counts(events=x) & ~np.isnan(t)
    rows.check_time("time", t)
    low, high = (np.full(x.size, np.nan) for _ in range(2))
    low[known], high[known] = ONE[method](x[known], t[known], tail)
    low, high = rows.one_sided(low, high, side, (0.0, np.inf))
    estimate = np.where(t > 0, ratio(x, t), np.nan)
    return rows.result(
        {"events": x, "time": t, "estimate": per * estimate, "conf_low": per * low, "conf_high": per * high},
        ("events",),
        title="Rate",
        method=method,
        level=level,
        side=side,
        kind=kind,
        warnings=rows.warn_missing(known, t == 0),
        per=per,
    )


def rate_ratio(
    x1: Any,
    t1: Any,
    x2: Any,
    t2: Any,
    method: str = "exact",
    level: float = 0.95,
    *,
    side: str = "two",
    data: Any = None,
) -> Estimates:
    """Estimate the ratio of two Poisson rates, group 1 over group 2, one row out per row in.

    Parameters
    ----------
    x1, t1, x2, t2 : events and time at risk of the groups
    method : exact (conditional on the total; p as R's poisson.test), mid-p, score (Wilson on the share), wald (on the
        log; NaN limits when a group has no event)
    level, side : as in `rate`; the null value is 1

    Returns
    -------
    Estimates with estimate, std_error (of the log, wald only), statistic, p_value, conf_low, conf_high. Without any
    event the limits are 0 and inf and the estimate NaN.

    Agrees with
    -----------
    R 4.2.2 poisson.test and bisection to machine precision, 1e-9 relative.

    References
    ----------
    Przyborowski & Wilenski (1940), Biometrika 31:313. Sahai & Khurshid (1996), Epidemiology in Medicine.

    Examples
    --------
    >>> rate_ratio(12, 30, 40, 33)["conf_high"].round(5).tolist()
    [0.64162]
    """
    method = SYNONYMS.get(method, method)
    choose(method, RATIO, "method")
    return _compared(_rate_ratio, (x1, t1, x2, t2), "Rate ratio", method, level, side, data, (0.0, np.inf))


def rate_difference(
    x1: Any,
    t1: Any,
    x2: Any,
    t2: Any,
    method: str = "score",
    level: float = 0.95,
    *,
    side: str = "two",
    data: Any = None,
) -> Estimates:
    """Estimate the difference of two Poisson rates, group 1 minus group 2, one row out per row in.

    Parameters
    ----------
    x1, t1, x2, t2 : events and time at risk of the groups
    method : score (Miettinen-Nurminen), mover (square-and-add of score limits), wald
    level, side : as in `rate`; the null value is 0

    Returns
    -------
    Estimates with estimate, std_error (wald), statistic, p_value (score, wald), conf_low, conf_high.

    Agrees with
    -----------
    ratesci 1.0.0 and bisection to machine precision in R 4.2.2, 1e-9.

    References
    ----------
    Miettinen & Nurminen (1985), Statistics in Medicine 4:213. doi:10.1002/sim.4780040211.

    Examples
    --------
    >>> rate_difference(41, 28.01, 15, 19.017)["conf_low"].round(6).tolist()
    [0.043202]
    """
    method = SYNONYMS.get(method, method)
    choose(method, DIFFERENCE, "method")
    space = (-np.inf, np.inf)
    return _compared(_rate_difference, (x1, t1, x2, t2), "Rate difference", method, level, side, data, space)


def _compared(
    compute: Callable[..., dict[str, FloatArray]],
    given: tuple[Any, Any, Any, Any],
    title: str,
    method: str,
    level: float,
    side: str,
    data: Any,
    space: tuple[float, float],
) -> Estimates:
    names = ("x1", "t1", "x2", "t2")
    tail = rows.check_side(side, level)
    table, kind = rows.arrays(data, **dict(zip(names, given, strict=True)))
    known = rows.check_counts(x1=table[0], x2=table[2]) & ~np.isnan(table[1]) & ~np.isnan(table[3])
    rows.check_time("t1", table[1])
    rows.check_time("t2", table[3])
    columns = compute([np.where(known, v, 0.0) for v in table], method, tail, side)
    columns = {name: np.where(known, values, np.nan) for name, values in columns.items()}
    columns["conf_low"], columns["conf_high"] = rows.one_sided(columns["conf_low"], columns["conf_high"], side, space)
    return rows.result(
        dict(zip(names, table, strict=True)) | columns,
        ("x1", "x2"),
        title=title,
        method=method,
        level=level,
        side=side,
        kind=kind,
        warnings=rows.warn_missing(known, (table[1] == 0) | (table[3] == 0)),
        scale="natural" if title.endswith("ratio") else "identity",
        measure=title.lower(),
        error_scale="log" if title.endswith("ratio") else "identity",
    )


def _rate_ratio(table: list[FloatArray], method: str, tail: float, side: str) -> dict[str, FloatArray]:
    x1, t1, x2, t2 = table
    estimate = ratio(ratio(x1, t1), ratio(x2, t2))
    if method == "wald":
        error = np.sqrt(ratio(1.0, np.where(x1 > 0, x1, np.nan)) + ratio(1.0, np.where(x2 > 0, x2, np.nan)))
        with np.errstate(divide="ignore"):
            statistic = ratio(np.log(estimate), error)
        low, high = log_limits(estimate, error, tail)
        tested = {"std_error": error, "statistic": statistic, "p_value": normal_p(statistic, side)}
    else:
        low, high = poisson.conditional_ratio(x1, t1, x2, t2, tail, method)
        tested = _conditional_test(table, method, side)
    return {"estimate": estimate, **tested, "conf_low": low, "conf_high": high}


def _conditional_test(table: list[FloatArray], method: str, side: str) -> dict[str, FloatArray]:
    x1, t1, x2, t2 = table
    if method == "score":
        statistic = _score_z(table)
        return {"statistic": statistic, "p_value": normal_p(statistic, side)}
    if method == "mid-p":
        return {"p_value": poisson.conditional_p(x1, t1, x2, t2, "central" if side == "two" else side, 0.5)}
    return {"p_value": poisson.conditional_p(x1, t1, x2, t2, side)}


def _rate_difference(table: list[FloatArray], method: str, tail: float, side: str) -> dict[str, FloatArray]:
    x1, t1, x2, t2 = table
    low, high = DIFFERENCE[method](*table, tail)
    estimate = ratio(x1, t1) - ratio(x2, t2)
    tested: dict[str, FloatArray] = {}
    if method == "wald":
        error = np.sqrt(ratio(x1, t1**2) + ratio(x2, t2**2))
        statistic = ratio(estimate, error)
        tested = {"std_error": error, "statistic": statistic, "p_value": normal_p(statistic, side)}
    if method == "score":
        statistic = _score_z(table)
        tested = {"statistic": statistic, "p_value": normal_p(statistic, side)}
    return {"estimate": estimate, **tested, "conf_low": low, "conf_high": high}


def _score_z(table: list[FloatArray]) -> FloatArray:
    """z of equal rates, both estimated by the pooled rate; 0 without events."""
    x1, t1, x2, t2 = table
    d = ratio(x1, t1) - ratio(x2, t2)
    pooled = ratio(x1 + x2, t1 + t2)
    return np.where(d == 0, 0.0, ratio(d, np.sqrt(pooled * (ratio(1.0, t1) + ratio(1.0, t2)))))


def normal_p(statistic: FloatArray, side: str) -> FloatArray:
    """Normal p value for the side of the alternative."""
    if side == "two":
        return 2 * ndtr(-np.abs(statistic))
    return ndtr(-statistic if side == "greater" else statistic)
