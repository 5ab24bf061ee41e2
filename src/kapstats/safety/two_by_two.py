"""The methods for two independent binomials by name: what each computes from rows of counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from kapstats._types import FloatArray
from kapstats.errors import choose
from kapstats.kernels import exact, score_intervals, skewed_scores, unconditional
from kapstats.kernels import two_proportions as two
from kapstats.safety import rows
from kapstats.safety.rate import normal_p

Table = tuple[FloatArray, FloatArray, FloatArray, FloatArray]
NAMES = ("x1", "n1", "x2", "n2")
#: tests of no difference by the name of their statistic in the kernel: chi-squares, exact conditional, unconditional
CHI_SQUARES = {
    "chi-square": "pearson",
    "chi-square-n-1": "n-1",
    "yates": "yates",
    "likelihood-ratio": "likelihood-ratio",
}
CONDITIONAL = ("fisher", "fisher-central", "fisher-mid-p", "fisher-mid-p-central")
UNCONDITIONAL = {"barnard": unconditional.barnard_p, "boschloo": unconditional.boschloo_p}
TESTS = (*CHI_SQUARES, "wald", *CONDITIONAL, *UNCONDITIONAL)


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
        return {"p_value": _fisher_p(table, kind, mid_p)}

    return test


def _conditional_limits(mid_p: bool) -> Callable[..., tuple[FloatArray, FloatArray]]:
    def limits(*given: Any) -> tuple[FloatArray, FloatArray]:
        *table, tail = given
        low, high = exact.in_blocks(lambda dist: exact.odds_ratio_limits(dist, tail, mid_p), *table)
        return low, high

    return limits


def _fisher_p(table: Table, side: str, mid_p: bool) -> FloatArray:
    return exact.in_blocks(lambda dist: (exact.fisher_p(dist, side, mid_p),), *table)[0]


def _conditional_estimate(*table: FloatArray) -> FloatArray:
    return exact.in_blocks(lambda dist: (exact.odds_ratio_estimate(dist),), *table)[0]


def _as_it_is(*table: FloatArray) -> Table:
    return table[0], table[1], table[2], table[3]


def _gart(x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray) -> Table:
    return x1 + 0.5, n1 + 1.0, x2 + 0.5, n2 + 1.0


def _walter(x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray) -> Table:
    return x1 + 0.5, n1 + 0.5, x2 + 0.5, n2 + 0.5


def _log_method(
    estimate: Callable[..., FloatArray], error: Callable[..., FloatArray], changed: Callable[..., Table] = _as_it_is
) -> Method:
    """Wald on the log scale of a table `changed` first, whose estimate is the one reported."""

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


def _unconditional(limits_of: Callable[..., tuple[float, float]], p_of: Callable[..., float]) -> Method:
    """Limits and p value by enumeration of one table after the other; NaN where a group is empty."""

    def limits(*given: Any) -> tuple[FloatArray, FloatArray]:
        *table, tail = given
        out = np.full((table[0].size, 2), np.nan)
        for row, (a, n, b, m) in enumerate(np.stack(table, axis=1).astype(int).tolist()):
            if n and m:
                out[row] = limits_of(a, n, b, m, tail)
        return out[:, 0], out[:, 1]

    def test(table: Table, side: str, error: FloatArray | None) -> dict[str, FloatArray]:
        def p(a: int, n: int, b: int, m: int) -> float:
            greater, less = (p_of(0.0, a, n, b, m, s) for s in ("greater", "less"))
            return {"greater": greater, "less": less}.get(side, min(1.0, 2 * min(greater, less)))

        return {"p_value": per_table(p, table)}

    return Method(limits, test)


def _skewed_test(table: Table, side: str, error: FloatArray | None) -> dict[str, FloatArray]:
    z = skewed_scores.statistic(*table)
    return {"statistic": z, "p_value": normal_p(z, side)}


def per_table(function: Callable[[int, int, int, int], float], table: Table) -> FloatArray:
    """A function of one table over rows of tables; NaN where a group is empty."""
    rows_ = np.stack(table, axis=1).astype(int).tolist()
    return np.array([function(a, n, b, m) if n and m else np.nan for a, n, b, m in rows_])


DIFFERENCE = {
    "miettinen-nurminen": Method(score_intervals.difference_limits, _score_test(True)),
    "farrington-manning": Method(partial(score_intervals.difference_limits, corrected=False), _score_test(False)),
    "scas": Method(skewed_scores.difference_limits, _skewed_test),
    "wald": Method(two.wald_difference, _wald_test(two.difference), two.wald_difference_error),
    "wald-cc": Method(partial(two.wald_difference, corrected=True)),
    "hauck-anderson": Method(two.hauck_anderson),
    "newcombe": Method(two.newcombe),
    "newcombe-cc": Method(partial(two.newcombe, corrected=True)),
    "mover-jeffreys": Method(two.mover_jeffreys),
    "agresti-caffo": Method(two.agresti_caffo),
    "chan-zhang": _unconditional(unconditional.chan_zhang_limits, unconditional.chan_zhang_p),
    "santner-snell": _unconditional(unconditional.santner_snell_limits, unconditional.santner_snell_p),
}
RISK_RATIO = {
    "miettinen-nurminen": Method(score_intervals.ratio_limits, _score_test(True)),
    "koopman": Method(partial(score_intervals.ratio_limits, corrected=False), _score_test(False)),
    "scas": Method(skewed_scores.ratio_limits, _skewed_test),
    "katz": _log_method(two.risk_ratio, two.katz_error),
    "walter": _log_method(two.risk_ratio, two.katz_error, _walter),
    "mover": Method(two.mover_ratio),
}
ODDS_RATIO = {
    "miettinen-nurminen": Method(score_intervals.odds_limits, _score_test(True)),
    "cornfield": Method(partial(score_intervals.odds_limits, corrected=False), _score_test(False)),
    "woolf": _log_method(two.odds_ratio, two.woolf_error),
    "gart": _log_method(two.odds_ratio, two.woolf_error, _gart),
    "agresti": _log_method(two.cross_ratio, two.cross_error, two.smoothed),
    "conditional-exact": Method(_conditional_limits(False), _fisher(False), None, _conditional_estimate),
    "mid-p": Method(_conditional_limits(True), _fisher(True), None, _conditional_estimate),
}


@dataclass(frozen=True, slots=True)
class Measure:
    """What is compared: its name, estimate and methods, the edges of its values and the scale it is reported on."""

    title: str
    estimate: Callable[..., FloatArray]
    methods: dict[str, Method]
    space: tuple[float, float]
    scale: str


MEASURES = {
    "risk-difference": Measure("Risk difference", two.difference, DIFFERENCE, (-1.0, 1.0), "identity"),
    "risk-ratio": Measure("Risk ratio", two.risk_ratio, RISK_RATIO, (0.0, np.inf), "natural"),
    "odds-ratio": Measure("Odds ratio", two.odds_ratio, ODDS_RATIO, (0.0, np.inf), "natural"),
}


def columns_of(measure: str, method: str, table: Table, tail: float, side: str) -> dict[str, FloatArray]:
    """The statistics of one method for complete tables, in the order of the contract."""
    kind = MEASURES[measure]
    chosen = kind.methods[method]
    columns = {"estimate": (chosen.estimate or kind.estimate)(*table)}
    error = None
    if chosen.error is not None:
        columns["std_error"] = error = chosen.error(*table)
    if chosen.test is not None:
        columns |= chosen.test(table, side, error)
    low, high = chosen.limits(*table, tail)
    columns["conf_low"], columns["conf_high"] = rows.one_sided(low, high, side, kind.space)
    return columns


def p_values(table: Table, test: str, side: str = "two") -> FloatArray:
    """P values of no difference by a named test, one per table.

    chi-square, chi-square-n-1, yates and likelihood-ratio are two-sided; wald is the unpooled z; fisher (two-sided:
    minimum likelihood), fisher-central (twice the smaller tail), fisher-mid-p and fisher-mid-p-central, barnard (pooled
    z) and boschloo are exact. A table without events, or with nothing else, has p = 1.
    """
    choose(test, TESTS, "test")
    if test in CHI_SQUARES:
        p = two.chi_square(*table, CHI_SQUARES[test])[1]
        return np.where(np.isnan(p), 1.0, p)
    if test == "wald":
        d, error = two.difference(*table), two.wald_difference_error(*table)
        return np.where(d == 0, 1.0, normal_p(two.ratio(d, error), side))
    if test in CONDITIONAL:
        kind = "central" if test.endswith("central") and side == "two" else side
        return _fisher_p(table, kind, "mid-p" in test)
    return per_table(lambda a, n, b, m: UNCONDITIONAL[test](a, n, b, m, side), table)
