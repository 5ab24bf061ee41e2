"""Two independent binomials: risk difference, risk ratio, odds ratio."""

from __future__ import annotations

from typing import Any

import numpy as np

from kapstats._types import FloatArray
from kapstats.errors import FormulaError, choose
from kapstats.estimates import Estimates
from kapstats.safety import rows, two_by_two
from kapstats.safety.two_by_two import NAMES


def risk_difference(
    x1: Any,
    n1: Any,
    x2: Any,
    n2: Any,
    method: str = "miettinen-nurminen",
    strata: Any = None,
    *,
    level: float = 0.95,
    side: str = "two",
    data: Any = None,
    **options: Any,
) -> Estimates:
    """Estimate the risk difference x1/n1 - x2/n2, group 1 minus group 2, one row out per row in.

    Parameters
    ----------
    x1, n1, x2, n2 : events and subjects of the groups; scalars, arrays, columns, or column names of `data`
    method : miettinen-nurminen (score with N/(N-1); finite for every table), farrington-manning (score without it),
        scas (score corrected for skewness), wald, wald-cc, hauck-anderson (clipped, NaN for a group of one), newcombe
        (square-and-add of Wilson limits), newcombe-cc, mover-jeffreys (of Jeffreys limits), agresti-caffo (clipped to
        [-1, 1]), chan-zhang (exact unconditional, score order; seconds per table above some hundred subjects),
        santner-snell (exact unconditional, ordered by the difference itself: wide)
    strata : labels; the rows then are the strata of one table (see `kapstats.safety.stratified`), and one row comes out
    level : confidence of the two-sided interval, or of the one-sided bound
    side : two, greater (alternative: above 0; upper limit 1) or less
    data : table that holds the named columns

    Returns
    -------
    Estimates with x1, n1, x2, n2, estimate, then std_error (wald), statistic and p_value of the hypothesis of no
    difference where the method has a test of its own, conf_low, conf_high. An empty group gives NaN, with a warning.

    Raises
    ------
    DataError
        For counts that are negative, not whole, or larger than their group.
    FormulaError
        For an unknown method or side.

    Agrees with
    -----------
    R 4.2.2 (closed forms; score limits by bisection to machine precision, ratesci 1.0.0), 1e-9; exact unconditional
    limits by enumeration, 1e-9.

    References
    ----------
    Miettinen & Nurminen (1985), Statistics in Medicine 4:213, doi:10.1002/sim.4780040211. Newcombe (1998), Statistics
    in Medicine 17:873. Agresti & Caffo (2000), American Statistician 54:280. Chan & Zhang (1999), Biometrics 55:1202.
    Hauck & Anderson (1986), American Statistician 40:318. Laud (2017), Pharmaceutical Statistics 16:334 (scas, MOVER).

    Examples
    --------
    >>> risk_difference(0, 10, 0, 20)["conf_low"].round(4).tolist()
    [-0.1658]
    """
    return _compared("risk-difference", (x1, n1, x2, n2), method, strata, level, side, data, options)


def risk_ratio(
    x1: Any,
    n1: Any,
    x2: Any,
    n2: Any,
    method: str = "miettinen-nurminen",
    strata: Any = None,
    *,
    level: float = 0.95,
    side: str = "two",
    data: Any = None,
    **options: Any,
) -> Estimates:
    """Estimate the risk ratio (x1/n1) / (x2/n2), group 1 over group 2, one row out per row in, on the natural scale.

    Parameters
    ----------
    x1, n1, x2, n2, level, side, data, strata : as in `risk_difference`; the null value is 1
    method : miettinen-nurminen, koopman (score without N/(N-1)), scas (score corrected for skewness), katz (log; NaN
        limits with a zero count), walter (log, with 1/2 added to events and subjects; the estimate is that of the
        changed table), mover (recovered from Wilson limits)

    Returns
    -------
    Estimates as `risk_difference`; std_error (katz, walter) is that of the logarithm. No event in group 1: lower limit
    0; none in group 2: upper limit inf; none at all: limits 0 and inf, estimate NaN.

    Agrees with
    -----------
    R 4.2.2, bisection to machine precision, and ratesci 1.0.0, 1e-9 relative.

    References
    ----------
    Miettinen & Nurminen (1985), doi:10.1002/sim.4780040211. Koopman (1984), Biometrics 40:513. Katz et al. (1978),
    Biometrics 34:469. Walter (1975), Biometrika 62:371. Donner & Zou (2012), Statistical Methods in Medical Research
    21:347 (mover).

    Examples
    --------
    >>> risk_ratio(5, 56, 0, 29)["conf_low"].round(6).tolist()
    [0.717495]
    """
    return _compared("risk-ratio", (x1, n1, x2, n2), method, strata, level, side, data, options)


def odds_ratio(
    x1: Any,
    n1: Any,
    x2: Any,
    n2: Any,
    method: str = "miettinen-nurminen",
    strata: Any = None,
    *,
    level: float = 0.95,
    side: str = "two",
    data: Any = None,
    **options: Any,
) -> Estimates:
    """Estimate the odds ratio, group 1 over group 2, one row out per row in, on the natural scale.

    Parameters
    ----------
    x1, n1, x2, n2, level, side, data, strata : as in `risk_difference`; the null value is 1
    method : miettinen-nurminen, cornfield (score without N/(N-1)), woolf (log; NaN limits with a zero cell), gart
        (woolf on cells + 1/2), agresti (woolf with two observations spread as independence would have them),
        conditional-exact, mid-p. The last two estimate the conditional odds ratio; their two-sided p values are
        Fisher's (minimum likelihood, as R and SAS) and twice the smaller mid-P tail.

    Returns
    -------
    Estimates as `risk_difference`; std_error (woolf, gart, agresti) is that of the logarithm. Limits are 0 or inf where
    a cell is empty, and both where a column of the table is; the estimate then is NaN.

    Agrees with
    -----------
    R 4.2.2, bisection to machine precision (fisher.test stops at a relative 1e-4), 1e-9 relative.

    References
    ----------
    Cornfield (1956); Miettinen & Nurminen (1985), doi:10.1002/sim.4780040211; Fisher (1935). Gart
    (1966), Biometrika 53:423. Agresti (1999), Biometrics 55:597.

    Examples
    --------
    >>> odds_ratio(7, 25, 2, 25, method="conditional-exact")["conf_high"].round(6).tolist()
    [47.834335]
    """
    return _compared("odds-ratio", (x1, n1, x2, n2), method, strata, level, side, data, options)


def _compared(
    measure: str,
    given: tuple[Any, Any, Any, Any],
    method: str,
    strata: Any,
    level: float,
    side: str,
    data: Any,
    options: dict[str, Any],
) -> Estimates:
    """Rows of tables, or with strata the one table of which the rows are the strata."""
    if strata is not None:
        from kapstats.safety.stratified import stratified

        unknown = [name for name in options if name != "term"]
        if unknown:
            raise FormulaError(f"{two_by_two.MEASURES[measure].title}: {unknown[0]}= is no argument of it.")
        return stratified(given, strata, method, measure, level=level, side=side, data=data, **options)
    kind = two_by_two.MEASURES[measure]
    choose(method, kind.methods, "method")
    if options:
        name = next(iter(options))
        said = "needs strata=, whose rows it labels" if name == "term" else "is no argument of it"
        raise FormulaError(f"{kind.title}: {name}= {said}.")
    tail = rows.check_side(side, level)
    table, returned = rows.arrays(data, **dict(zip(NAMES, given, strict=True)))
    known, warned = check_tables(table)
    x1, n1, x2, n2 = (part[known] for part in table)
    computed = two_by_two.columns_of(measure, method, (x1, n1, x2, n2), tail, side)
    columns = {key: np.full(known.size, np.nan) for key in computed}
    for key, values in computed.items():
        columns[key][known] = values
    return rows.result(
        dict(zip(NAMES, table, strict=True)) | columns,
        NAMES,
        title=f"{kind.title}, group 1 against group 2",
        method=method,
        level=level,
        side=side,
        kind=returned,
        warnings=warned,
        scale=kind.scale,
        measure=kind.title.lower(),
        error_scale="log" if kind.scale == "natural" else "identity",
    )


def check_tables(table: list[FloatArray]) -> tuple[Any, list[str]]:
    """Rows with complete counts and both groups present; warnings for the others."""
    x1, n1, x2, n2 = table
    known = rows.check_counts(x1=x1, n1=n1, x2=x2, n2=n2)
    rows.check_within(x1, n1, ("x1", "n1"))
    rows.check_within(x2, n2, ("x2", "n2"))
    empty = (n1 == 0) | (n2 == 0)
    return known & ~empty, rows.warn_missing(known, empty)
