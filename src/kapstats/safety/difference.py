"""Two independent binomials: risk difference, risk ratio, odds ratio."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from kapstats._types import FloatArray
from kapstats.errors import choose
from kapstats.estimates import Estimates
from kapstats.kernels import exact, score_intervals, unconditional
from kapstats.kernels import two_proportions as two
from kapstats.safety import rows
from kapstats.safety.rate import normal_p

Table = tuple[FloatArray, FloatArray, FloatArray, FloatArray]
NAMES = ("x1", "n1", "x2", "n2")
TESTS = ("chi-square", "chi-square-n-1", "yates", "likelihood-ratio", "fisher", "fisher-mid-p", "barnard", "boschloo")


@dataclass(frozen=True, slots=True)
class Method:
    """How a named method computes its columns: limits(*table, tail) and, where it has them, error, test, estimate."""

    limits: Callable[..., tuple[FloatArray, FloatArray]]
    test: Callable[[Table, str, FloatArray | None], dict[str, FloatArray]] | None = None
    error: Callable[..., FloatArray] | None = None
    estimate: Callable[..., FloatArray] | None = None


def _score_test(corrected: bool) -> Callable[..., dict[str, FloatArray]]:
    def test(table: Table, side: str, error: FloatArray | None) -> dict[str, FloatArray]:
        z = two.pearson_z(*table, corrected=corrected)
        return {"statistic": z, "p_value": normal_p(z, side)}

    return test


def _wald_test(scale: Callable[..., FloatArray]) -> Callable[..., dict[str, FloatArray]]:
    def test(table: Table, side: str, error: FloatArray | None) -> dict[str, FloatArray]:
        assert error is not None
        with np.errstate(divide="ignore", invalid="ignore"):
            z = np.where(np.isnan(error), np.nan, scale(*table) / error)
        return {"statistic": z, "p_value": normal_p(z, side)}

    return test


def _log_of(estimate: Callable[..., FloatArray]) -> Callable[..., FloatArray]:
    def log(*table: FloatArray) -> FloatArray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log(estimate(*table))

    return log


def _fisher(mid_p: bool) -> Callable[..., dict[str, FloatArray]]:
    def test(table: Table, side: str, error: FloatArray | None) -> dict[str, FloatArray]:
        kind = "central" if mid_p and side == "two" else side
        return {"p_value": exact.fisher_p(exact.conditional(*table), kind, mid_p)}

    return test


def _conditional_limits(mid_p: bool) -> Callable[..., tuple[FloatArray, FloatArray]]:
    def limits(*given: Any) -> tuple[FloatArray, FloatArray]:
        *table, tail = given
        return exact.odds_ratio_limits(exact.conditional(*table), tail, mid_p)

    return limits


def _conditional_estimate(*table: FloatArray) -> FloatArray:
    return exact.odds_ratio_estimate(exact.conditional(*table))


def _log_method(estimate: Callable[..., FloatArray], error: Callable[..., FloatArray], add: float = 0.0) -> Method:
    """Wald on the log scale; `add` is put on every cell first (the estimate then is that of the changed table)."""

    def changed(x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray) -> Table:
        return x1 + add, n1 + 2 * add, x2 + add, n2 + 2 * add

    def limits(*given: Any) -> tuple[FloatArray, FloatArray]:
        *table, tail = given
        cells = changed(*table)
        return two.log_limits(estimate(*cells), error(*cells), tail)

    return Method(
        limits,
        _wald_test(lambda *t: _log_of(estimate)(*changed(*t))),
        lambda *t: error(*changed(*t)),
        lambda *t: estimate(*changed(*t)),
    )


def _chan_zhang(
    x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray, tail: float
) -> tuple[FloatArray, FloatArray]:
    tables = np.stack([x1, n1, x2, n2], axis=1).astype(int)
    out = np.full((len(tables), 2), np.nan)
    for row, (a, n, b, m) in enumerate(tables.tolist()):
        if n and m:
            out[row] = unconditional.chan_zhang_limits(a, n, b, m, tail)
    return out[:, 0], out[:, 1]


def _chan_zhang_test(table: Table, side: str, error: FloatArray | None) -> dict[str, FloatArray]:
    def p(a: int, n: int, b: int, m: int) -> float:
        greater, less = (unconditional.chan_zhang_p(0.0, a, n, b, m, s) for s in ("greater", "less"))
        return {"greater": greater, "less": less}.get(side, min(1.0, 2 * min(greater, less)))

    return {"p_value": per_table(p, table)}


def per_table(function: Callable[[int, int, int, int], float], table: Table) -> FloatArray:
    """A function of one table over rows of tables; NaN where a group is empty."""
    rows_ = np.stack(table, axis=1).astype(int).tolist()
    return np.array([function(a, n, b, m) if n and m else np.nan for a, n, b, m in rows_])


DIFFERENCE = {
    "miettinen-nurminen": Method(score_intervals.difference_limits, _score_test(True)),
    "farrington-manning": Method(partial(score_intervals.difference_limits, corrected=False), _score_test(False)),
    "wald": Method(two.wald_difference, _wald_test(two.difference), two.wald_difference_error),
    "wald-cc": Method(partial(two.wald_difference, corrected=True)),
    "newcombe": Method(two.newcombe),
    "newcombe-cc": Method(partial(two.newcombe, corrected=True)),
    "agresti-caffo": Method(two.agresti_caffo),
    "chan-zhang": Method(_chan_zhang, _chan_zhang_test),
}
RISK_RATIO = {
    "miettinen-nurminen": Method(score_intervals.ratio_limits, _score_test(True)),
    "koopman": Method(partial(score_intervals.ratio_limits, corrected=False), _score_test(False)),
    "katz": _log_method(two.risk_ratio, two.katz_error),
}
ODDS_RATIO = {
    "miettinen-nurminen": Method(score_intervals.odds_limits, _score_test(True)),
    "cornfield": Method(partial(score_intervals.odds_limits, corrected=False), _score_test(False)),
    "woolf": _log_method(two.odds_ratio, two.woolf_error),
    "gart": _log_method(two.odds_ratio, two.woolf_error, 0.5),
    "conditional-exact": Method(_conditional_limits(False), _fisher(False), None, _conditional_estimate),
    "mid-p": Method(_conditional_limits(True), _fisher(True), None, _conditional_estimate),
}


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
        wald, wald-cc, newcombe (square-and-add of Wilson limits), newcombe-cc, agresti-caffo (clipped to [-1, 1]),
        chan-zhang (exact unconditional, score order; seconds per table above some hundred subjects)
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
    R 4.2.2 (closed forms; score limits by bisection to machine precision, ratesci 1.0.0), 1e-9; Chan-Zhang by
    enumeration, 1e-9.

    References
    ----------
    Miettinen & Nurminen (1985), Statistics in Medicine 4:213, doi:10.1002/sim.4780040211. Newcombe (1998), Statistics
    in Medicine 17:873. Agresti & Caffo (2000), American Statistician 54:280. Chan & Zhang (1999), Biometrics 55:1202.

    Examples
    --------
    >>> risk_difference(0, 10, 0, 20)["conf_low"].round(4).tolist()
    [-0.1658]
    """
    if strata is not None:
        from kapstats.safety.stratified import stratified_difference

        return stratified_difference((x1, n1, x2, n2), strata, method, level=level, side=side, data=data, **options)
    return _compare((x1, n1, x2, n2), DIFFERENCE, method, "Risk difference", two.difference, level, side, data, options)


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
    method : miettinen-nurminen, koopman (score without N/(N-1)), katz (log; NaN limits with a zero count)

    Returns
    -------
    Estimates as `risk_difference`; std_error (katz) is that of the logarithm. No event in group 1: lower limit 0;
    none in group 2: upper limit inf; none at all: limits 0 and inf, estimate NaN.

    Agrees with
    -----------
    R 4.2.2, bisection to machine precision, and ratesci 1.0.0, 1e-9 relative.

    References
    ----------
    Miettinen & Nurminen (1985), doi:10.1002/sim.4780040211. Koopman (1984), Biometrics 40:513. Katz et al. (1978),
    Biometrics 34:469.

    Examples
    --------
    >>> risk_ratio(5, 56, 0, 29)["conf_low"].round(6).tolist()
    [0.717495]
    """
    if strata is not None:
        from kapstats.safety.stratified import stratified_ratio

        return stratified_ratio((x1, n1, x2, n2), strata, method, level=level, side=side, data=data, **options)
    return _compare((x1, n1, x2, n2), RISK_RATIO, method, "Risk ratio", two.risk_ratio, level, side, data, options)


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
        (woolf on cells + 1/2), conditional-exact, mid-p. The last two estimate the conditional odds ratio; their
        two-sided p values are Fisher's (minimum likelihood, as R and SAS) and twice the smaller mid-P tail.

    Returns
    -------
    Estimates as `risk_difference`; std_error (woolf, gart) is that of the logarithm. Limits are 0 or inf where a cell
    is empty, and both where a column of the table is; the estimate then is NaN.

    Agrees with
    -----------
    R 4.2.2, bisection to machine precision (fisher.test stops at a relative 1e-4), 1e-9 relative.

    References
    ----------
    Cornfield (1956); Miettinen & Nurminen (1985), doi:10.1002/sim.4780040211; Fisher (1935).

    Examples
    --------
    >>> odds_ratio(7, 25, 2, 25, method="conditional-exact")["conf_high"].round(6).tolist()
    [47.834335]
    """
    if strata is not None:
        from kapstats.safety.stratified import stratified_odds

        return stratified_odds((x1, n1, x2, n2), strata, method, level=level, side=side, data=data, **options)
    return _compare((x1, n1, x2, n2), ODDS_RATIO, method, "Odds ratio", two.odds_ratio, level, side, data, options)


def _compare(
    given: tuple[Any, Any, Any, Any],
    methods: dict[str, Method],
    name: str,
    title: str,
    estimate: Callable[..., FloatArray],
    level: float,
    side: str,
    data: Any,
    options: dict[str, Any],
) -> Estimates:
    choose(name, methods, "method")
    if options:
        raise TypeError(f"{title}: unknown argument {next(iter(options))!r} without strata.")
    tail = rows.check_side(side, level)
    table, kind = rows.arrays(data, **dict(zip(NAMES, given, strict=True)))
    known, warned = check_tables(table)
    computed = columns_of(
        methods[name], (table[0][known], table[1][known], table[2][known], table[3][known]), estimate, tail, side
    )
    columns = {key: np.full(known.size, np.nan) for key in computed}
    for key, values in computed.items():
        columns[key][known] = values
    space = (-1.0, 1.0) if title == "Risk difference" else (0.0, np.inf)
    columns["conf_low"], columns["conf_high"] = rows.one_sided(columns["conf_low"], columns["conf_high"], side, space)
    scale = "identity" if title == "Risk difference" else "natural"
    return rows.result(
        dict(zip(NAMES, table, strict=True)) | columns,
        NAMES,
        title=f"{title}, group 1 against group 2",
        method=name,
        level=level,
        side=side,
        kind=kind,
        warnings=warned,
        scale=scale,
    )


def check_tables(table: list[FloatArray]) -> tuple[Any, list[str]]:
    """Rows with complete counts and both groups present; warnings for the others."""
    x1, n1, x2, n2 = table
    known = rows.check_counts(x1=x1, n1=n1, x2=x2, n2=n2)
    rows.check_within(x1, n1, ("x1", "n1"))
    rows.check_within(x2, n2, ("x2", "n2"))
    empty = (n1 == 0) | (n2 == 0)
    return known & ~empty, rows.warn_missing(known, empty)


def columns_of(
    method: Method, table: Table, estimate: Callable[..., FloatArray], tail: float, side: str
) -> dict[str, FloatArray]:
    """The statistics of one method for complete tables, in the order of the contract."""
    columns = {"estimate": (method.estimate or estimate)(*table)}
    error = None
    if method.error is not None:
        columns["std_error"] = error = method.error(*table)
    if method.test is not None:
        columns |= method.test(table, side, error)
    columns["conf_low"], columns["conf_high"] = method.limits(*table, tail)
    return columns


def p_values(table: Table, test: str, side: str = "two") -> FloatArray:
    """P values of no difference by a named test, one per table.

    chi-square, chi-square-n-1, yates and likelihood-ratio are two-sided; fisher (two-sided: minimum likelihood),
    fisher-mid-p, barnard (pooled z) and boschloo are exact. A table without events, or with nothing else, has p = 1.
    """
    choose(test, TESTS, "test")
    kinds = {"chi-square": "pearson", "chi-square-n-1": "n-1"}
    if test in ("chi-square", "chi-square-n-1", "yates", "likelihood-ratio"):
        p = two.chi_square(*table, kinds.get(test, test))[1]
        return np.where(np.isnan(p), 1.0, p)
    if test in ("fisher", "fisher-mid-p"):
        return exact.fisher_p(exact.conditional(*table), side, test == "fisher-mid-p")
    order = unconditional.barnard_p if test == "barnard" else unconditional.boschloo_p
    return per_table(lambda a, n, b, m: order(a, n, b, m, side), table)
