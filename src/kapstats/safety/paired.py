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
    test : p value of equal margins: McNemar asymptotic, corrected, exact or mid-p (the first two are two-sided)

    Returns
    -------
    Estimates with the four counts, estimate, p_value, conf_low, conf_high; no pair gives NaN.

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
    choose(method, DIFFERENCE, "method")
    choose(test, TESTS, "test")
    tail = rows.check_side(side, level)
    cells, kind, known = _cells((both, only_first, only_second, neither), data)
    with np.errstate(invalid="ignore", divide="ignore"):
        low, high = DIFFERENCE[method](*cells, tail)
    n = np.sum(cells, axis=0)
    empty = n == 0
    estimate = ratio(cells[1] - cells[2], n)
    low, high = rows.one_sided(low, high, side, (-1.0, 1.0))
    columns = {"estimate": estimate, "p_value": mcnemar_p(cells[1], cells[2], test, side)}
    columns |= {"conf_low": low, "conf_high": high}
    columns = {name: np.where(known & ~empty, values, np.nan) for name, values in columns.items()}
    return rows.result(
        dict(zip(NAMES, cells, strict=True)) | columns,
        NAMES,
        title="Paired difference, first minus second",
        method=method,
        level=level,
        side=side,
        kind=kind,
        warnings=rows.warn_missing(known, empty),
        test=f"McNemar {test}",
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
    )


def mcnemar_p(b: FloatArray, c: FloatArray, test: str, side: str = "two") -> FloatArray:
    """P value of equal margins."""
    if test in ("exact", "mid-p"):
        return kernel.exact_p(b, c, side, test == "mid-p")
    return kernel.mcnemar(b, c, test == "corrected")[1]


def _cells(given: tuple[Any, Any, Any, Any], data: Any) -> tuple[list[FloatArray], str, Any]:
    cells, kind = rows.arrays(data, **dict(zip(NAMES, given, strict=True)))
    return cells, kind, rows.check_counts(**dict(zip(NAMES, cells, strict=True)))
