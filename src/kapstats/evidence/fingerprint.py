"""Which method printed this interval or p value?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from kapstats import estimates
from kapstats.errors import DataError, check_level, choose
from kapstats.evidence.printed import Printed, parse
from kapstats.safety import difference, proportion, two_by_two

#: methods whose cost grows too fast to be tried on large groups, and the largest total n for them
SLOW = {"chan-zhang": 120, "barnard": 120, "boschloo": 120}
#: methods that no package prints by default, or that differ from another one at the edges only: never tried
UNTRIED = {"scas", "mover", "mover-jeffreys", "santner-snell", "jeffreys-edges"}
SCALES = {"proportion": (1.0,), "percent": (100.0,), "auto": (1.0, 100.0)}


def fingerprint(
    x1: Any,
    n1: int,
    x2: Any = None,
    n2: int | None = None,
    printed: tuple[Any, Any] | None = None,
    digits: int = 2,
    scale: str = "auto",
    *,
    p_value: Any = None,
    level: float = 0.95,
) -> estimates.Estimates:
    """Every method that prints this interval, or this p value, for these counts.

    Parameters
    ----------
    x1, n1, x2, n2 : events and subjects of two groups, or of one. Events may be a printed percentage, ``"55.4%"``: then
        every count that prints it is tried
    printed : the two limits as printed; text keeps its own digits (``("3.9", "24.2")``)
    digits : decimals that were printed, for limits given as numbers
    scale : limits of a difference or a proportion are "proportion", "percent", or "auto": either
    p_value : the printed p value, as text (".029", "<0.001") or a number
    level : confidence level of the printed interval

    Returns
    -------
    Estimates
        One row per method that prints it: ``measure`` (risk difference, risk ratio, odds ratio, proportion, test),
        ``method``, x1, x2, estimate, conf_low, conf_high (unrounded, on the printed scale), p_value, scale. A limit may
        have been rounded half up or half to even. No row: ``.meta["nearest"]`` names the method that comes closest.

    Raises
    ------
    DataError
        For impossible counts, or when there is neither an interval nor a p value.

    Examples
    --------
    >>> fingerprint(60, 111, 42, 108, printed=("2.11", "28.22"))["method"].tolist()
    ['wald']
    """
    choose(scale, SCALES, "scale")
    check_level(level)
    if printed is None and p_value is None:
        raise DataError("fingerprint: give printed=(low, high), or p_value=.")
    if (x2 is None) != (n2 is None):
        raise DataError("fingerprint: the second group needs both x2 and n2.")
    limits = None if printed is None else _limits(printed, digits)
    pairs = list(itertools.product(_candidates(x1, n1), [None] if n2 is None else _candidates(x2, n2)))
    rows: list[dict[str, Any]] = []
    tried = [c for a, b in pairs for c in _candidates_of((a, n1, b, n2), limits, scale, level)]
    p = None if p_value is None else parse(p_value, bounded=True)
    for row in tried:
        if row["measure"] == "test":
            if p is not None and p.holds(row["p_value"]):
                rows.append(row)
        elif limits is not None and limits[0].holds(row["conf_low"]) and limits[1].holds(row["conf_high"]):
            rows.append(row)
    columns = ["measure", "method", "x1", "x2", "estimate", "conf_low", "conf_high", "p_value", "scale"]
    frame = pd.DataFrame(rows, columns=columns)
    skipped = [m for m, most in SLOW.items() if n2 is not None and n1 + n2 > most]
    about = estimates.meta(
        method="method fingerprint",
        level=level,
        title="Methods that print this result",
        sentence=_sentence(frame, tried, limits),
        conventions=[f"Not tried for groups of this size: {', '.join(skipped)}."] if skipped else (),
        nearest=_nearest(tried, limits),
        blank=True,
        tried=sorted({(r["measure"], r["method"]) for r in tried}),
    )
    return estimates.Estimates(frame, about)


def recover_counts(percent: Any, n: int) -> list[int]:
    """All counts x of n that print as `percent`.

    Examples
    --------
    >>> recover_counts("55.4%", 195), recover_counts("63%", 91)
    ([108], [57])
    """
    found = parse(percent)
    if found is None:
        raise DataError(f"percent: {percent!r} is no number.")
    low, high = max(0, math.floor(found.low * n / 100)), min(n, math.ceil(found.high * n / 100))
    return [x for x in range(low, high + 1) if found.holds(100 * x / n)]


def _candidates(x: Any, n: int) -> list[int]:
    if isinstance(x, str) and x.strip().endswith("%"):
        counts = recover_counts(x, n)
        if not counts:
            raise DataError(f"fingerprint: no whole number of {n} is {x}.")
        return counts
    if float(x) % 1 or not 0 <= float(x) <= n:
        raise DataError(f"fingerprint: {x} of {n} is no count.")
    return [int(x)]


def _limits(printed: tuple[Any, Any], digits: int) -> tuple[Printed, Printed]:
    if len(printed) != 2:
        raise DataError("printed= takes two limits, (low, high).")
    found = [_limit(v, digits) for v in printed]
    return found[0], found[1]


def _limit(value: Any, digits: int) -> Printed:
    if isinstance(value, str):
        parsed = parse(value)
        if parsed is None:
            raise DataError(f"printed: {value!r} is no number.")
        return parsed
    number, half = float(value), 0.5 * 10.0**-digits
    if math.isinf(number):
        return Printed(number, digits, number, number, str(value))
    return Printed(number, digits, number - half, number + half, f"{number:.{digits}f}")


Counts = tuple[int, int, int | None, int | None]


def _candidates_of(
    counts: Counts, limits: tuple[Printed, Printed] | None, scale: str, level: float
) -> Iterator[dict[str, Any]]:
    """A row for everything that these counts could have printed."""
    x1, n1, x2, n2 = counts
    if x2 is None or n2 is None:
        for method in (m for m in proportion.METHODS if m not in UNTRIED):
            yield from _scaled("proportion", method, proportion.proportion(x1, n1, method, level=level), counts, scale)
        return
    measures = {
        "risk difference": (difference.risk_difference, two_by_two.DIFFERENCE, scale),
        "risk ratio": (difference.risk_ratio, two_by_two.RISK_RATIO, "proportion"),
        "odds ratio": (difference.odds_ratio, two_by_two.ODDS_RATIO, "proportion"),
    }
    if limits is not None:
        for measure, (function, methods, scales) in measures.items():
            tried = (m for m in methods if m not in UNTRIED and n1 + n2 <= SLOW.get(m, n1 + n2))
            for method in tried:
                yield from _scaled(measure, method, function(x1, n1, x2, n2, method, level=level), counts, scales)
    a, n, b, m = (np.array([float(v)]) for v in (x1, n1, x2, n2))
    for test in (t for t in two_by_two.TESTS if n1 + n2 <= SLOW.get(t, n1 + n2)):
        yield {**_base("test", test, counts), "p_value": float(two_by_two.p_values((a, n, b, m), test)[0])}


def _base(measure: str, method: str, counts: Counts) -> dict[str, Any]:
    empty = dict.fromkeys(("estimate", "conf_low", "conf_high", "p_value"), np.nan)
    return {"measure": measure, "method": method, "x1": counts[0], "x2": counts[2], **empty, "scale": ""}


def _scaled(
    measure: str, method: str, result: estimates.Estimates, counts: Counts, scale: str
) -> Iterator[dict[str, Any]]:
    """The limits as proportions, and times 100."""
    first = result.frame.iloc[0]
    for factor in SCALES[scale]:
        values = {c: factor * float(first[c]) for c in ("estimate", "conf_low", "conf_high")}
        name = "ratio" if "ratio" in measure else ("percent" if factor == 100 else "proportion")
        yield {**_base(measure, method, counts), **values, "scale": name}


def _distance(row: dict[str, Any], limits: tuple[Printed, Printed]) -> float:
    """The larger miss of the two limits, in units of the last digit."""
    misses = [abs(p.distance(row[c])) for p, c in zip(limits, ("conf_low", "conf_high"), strict=True)]
    return max(misses) if all(m == m for m in misses) else math.inf


def _nearest(tried: list[dict[str, Any]], limits: tuple[Printed, Printed] | None) -> dict[str, Any] | None:
    rows = [r for r in tried if r["measure"] != "test"]
    if limits is None or not rows:
        return None
    best = min(rows, key=lambda r: _distance(r, limits))
    return {k: best[k] for k in ("measure", "method", "conf_low", "conf_high")} | {"distance": _distance(best, limits)}


def _sentence(frame: pd.DataFrame, tried: list[dict[str, Any]], limits: tuple[Printed, Printed] | None) -> str:
    kinds = len({(r["measure"], r["method"]) for r in tried})
    if len(frame):
        return f"{len(frame)} of {kinds} methods print it."
    near = _nearest(tried, limits)
    if near is None:
        return f"None of {kinds} methods prints it."
    shown = f"{near['method']} ({near['measure']}): {near['conf_low']:.4g}, {near['conf_high']:.4g}"
    away = f"{near['distance']:.1f} units of the last digit away"
    return f"None of {kinds} methods prints it; the nearest is {shown}, {away}."
