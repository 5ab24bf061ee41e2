"""Paired binary outcomes, as in a crossover of two routes: difference, odds ratio, McNemar's test."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from kapstats._types import FloatArray
from kapstats.errors import choose
from kapstats.estimates import Estimates
from kapstats.kernels import paired_tables as kernel
from kapstats.kernels.two_proportions import ratio
from kapstats.safety import rows

NAMES = ("both", "only_first", "only_second", "neither")
DIFFERENCE: dict[str, Callable[..., tuple[FloatArray, FloatArray]]] = {
    "tango": kernel.tango,
    "newcombe": kernel.newcombe,
    "newcombe-8": partial(kernel.newcombe, corrected=False),
    "bonett-price": kernel.bonett_price,
    "wald": kernel.wald,
}
RATIO: dict[str, Callable[..., tuple[FloatArray, FloatArray]]] = {"tang": kernel.tang}
TESTS = ("asymptotic", "corrected", "exact", "mid-p")


def paired_difference(
    both: Any,
    only_first: Any,
    only_second: Any,
    neither: Any,
    method: str = "tango",
    *,
    test: str = "asymptotic",
    level: float = 0.95,
    side: str = "two",
    data: Any = None,
) -> Estimates:
    """Estimate the difference of two paired proportions, first minus second, one row out per row in.

    Parameters
    ----------
    both, only_first, only_second, neither : numbers of pairs; scalars, arrays, columns, or column names of `data`
    method : tango (score; finite for every table), newcombe (square-and-add, method 10), newcombe-8 (without the
        correction of phi), bonett-price, wald
    test : p value of equal margins: McNemar asymptotic, corrected, exact or mid-p

    Returns
    -------
    Estimates with the four counts, estimate, statistic (chi-square, of the first two tests), p_value, conf_low,
    conf_high; no pair gives NaN.

    Agrees with
    -----------
    R 4.2.2 mcnemar.test and ratesci 1.0.0, 1e-8.

    References
    ----------
    Tango (1998), Statistics in Medicine 17:891. Newcombe (1998), Statistics in Medicine 17:2635.

    Examples
    --------
    >>> paired_difference(20, 12, 2, 16)["conf_low"].round(6).tolist()
    [0.061112]
    """
    return _marginal("Paired difference, first minus second", DIFFERENCE, _difference, (-1.0, 1.0), "identity")(
        (both, only_first, only_second, neither), method, test, level, side, data
    )


def paired_risk_ratio(
    both: Any,
    only_first: Any,
    only_second: Any,
    neither: Any,
    method: str = "tang",
    *,
    test: str = "asymptotic",
    level: float = 0.95,
    side: str = "two",
    data: Any = None,
) -> Estimates:
    """Estimate the ratio of two paired proportions, first over second, one row out per row in, on the natural scale.

    Parameters
    ----------
    both, only_first, only_second, neither, test : as in `paired_difference`; the null value is 1
    method : tang (score; 0 or inf where one of the two never has the event, both limits where neither has)

    Returns
    -------
    Estimates as `paired_difference`; without any event the estimate is NaN.

    Agrees with
    -----------
    R 4.2.2 and ratesci 1.0.0, 1e-8.

    References
    ----------
    Tang, Tang & Chan (2003), Statistics in Medicine 22:1217.

    Examples
    --------
    >>> paired_risk_ratio(20, 12, 2, 16)["conf_low"].round(6).tolist()
    [1.118964]
    """
    return _marginal("Paired risk ratio, first over second", RATIO, _ratio, (0.0, np.inf), "natural")(
        (both, only_first, only_second, neither), method, test, level, side, data
    )


def paired_odds_ratio(
    only_first: Any,
    only_second: Any,
    method: str = "exact",
    *,
    level: float = 0.95,
    side: str = "two",
    data: Any = None,
) -> Estimates:
    """Estimate the conditional odds ratio of paired outcomes, only_first/only_second.

    method : exact (Clopper-Pearson on the share), mid-p, or score (Wilson on the share).

    Agrees with
    -----------
    R 4.2.2, 1e-8.

    Examples
    --------
    >>> paired_odds_ratio(12, 2)["conf_low"].round(6).tolist()
    [1.335744]
    """
    choose(method, ("exact", "mid-p", "score"), "method")
    tail = rows.check_side(side, level)
    (b, c), kind = rows.arrays(data, only_first=only_first, only_second=only_second)
    known = rows.check_counts(only_first=b, only_second=c)
    low, high = kernel.odds_ratio_limits(np.where(known, b, 0.0), np.where(known, c, 0.0), tail, method)
    low, high = rows.one_sided(low, high, side, (0.0, np.inf))
    columns = {"estimate": ratio(b, c), "p_value": kernel.exact_p(b, c, side, method == "mid-p")}
    columns |= {"conf_low": low, "conf_high": high}
    return rows.result(
        {"only_first": b, "only_second": c} | {k: np.where(known, v, np.nan) for k, v in columns.items()},
        ("only_first", "only_second"),
        title="Paired odds ratio",
        method=method,
        level=level,
        side=side,
        kind=kind,
        warnings=rows.warn_missing(known),
        scale="natural",
        measure="odds ratio",
    )


def mcnemar_columns(b: FloatArray, c: FloatArray, test: str, side: str = "two") -> dict[str, FloatArray]:
    """P value of equal margins, after its chi-square where the test has one."""
    if test in ("exact", "mid-p"):
        return {"p_value": kernel.exact_p(b, c, side, test == "mid-p")}
    statistic, p = kernel.mcnemar(b, c, test == "corrected")
    if side == "two":
        return {"statistic": statistic, "p_value": p}
    upper = (b > c) if side == "greater" else (b < c)
    return {"statistic": statistic, "p_value": np.where(statistic == 0, 0.5, np.where(upper, p / 2, 1 - p / 2))}


Cells = tuple[Any, Any, Any, Any]


def _difference(both: FloatArray, b: FloatArray, c: FloatArray, neither: FloatArray) -> FloatArray:
    return ratio(b - c, both + b + c + neither)


def _ratio(both: FloatArray, b: FloatArray, c: FloatArray, neither: FloatArray) -> FloatArray:
    return ratio(both + b, both + c)


def _marginal(
    title: str,
    methods: dict[str, Callable[..., tuple[FloatArray, FloatArray]]],
    estimate: Callable[..., FloatArray],
    space: tuple[float, float],
    scale: str,
) -> Callable[[Cells, str, str, float, str, Any], Estimates]:
    """A comparison of the two margins with McNemar's p value."""

    def compare(given: Cells, method: str, test: str, level: float, side: str, data: Any) -> Estimates:
        choose(method, methods, "method")
        choose(test, TESTS, "test")
        tail = rows.check_side(side, level)
        cells, kind = rows.arrays(data, **dict(zip(NAMES, given, strict=True)))
        known = rows.check_counts(**dict(zip(NAMES, cells, strict=True)))
        with np.errstate(invalid="ignore", divide="ignore"):
            low, high = methods[method](*cells, tail)
        empty = np.sum(cells, axis=0) == 0
        low, high = rows.one_sided(low, high, side, space)
        columns = {"estimate": estimate(*cells), **mcnemar_columns(cells[1], cells[2], test, side)}
        columns |= {"conf_low": low, "conf_high": high}
        columns = {name: np.where(known & ~empty, values, np.nan) for name, values in columns.items()}
        return rows.result(
            dict(zip(NAMES, cells, strict=True)) | columns,
            NAMES,
            title=title,
            method=method,
            level=level,
            side=side,
            kind=kind,
            warnings=rows.warn_missing(known, empty),
            scale=scale,
            measure=title.partition(",")[0].lower(),
            test=f"McNemar {test}",
        )

    return compare
