"""Estimate, limits, standard error, statistic and p value of one line against each other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from scipy import special

from kapstats.evidence.checks.finding import Finding, Line, numbers
from kapstats.evidence.printed import Printed, parse

RATIOS = ("log", "ratio", "or", "rr", "hr", "irr", "odds ratio", "risk ratio", "hazard ratio", "rate ratio")
IDENTITY = ("identity", "difference", "linear", "rd", "md", "smd", "mean difference", "risk difference")


@dataclass(frozen=True, slots=True)
class Span:
    """Every value a quantity may have."""

    low: float
    high: float

    @property
    def mid(self) -> float:
        return (self.low + self.high) / 2

    def meets(self, other: Span) -> bool:
        return self.low <= other.high * (1 + 1e-9) + 1e-12 and other.low <= self.high * (1 + 1e-9) + 1e-12


def _span(p: Printed, log: bool) -> Span:
    if not log:
        return Span(p.low, p.high)
    return Span(math.log(max(p.low, 1e-300)), math.log(max(p.high, 1e-300)))


def inference(i: int, row: Line) -> Iterator[Finding]:
    """Estimate, limits, standard error, statistic and p value of one line."""
    estimate, se, low, high = numbers(row, "estimate", "std_error", "conf_low", "conf_high")
    if se is not None and se.value < 0:
        yield Finding(i, "order", se.text, math.nan, math.nan, "error")
        return
    if low is not None and high is not None and low.value > high.value:
        yield Finding(i, "order", f"({low.text}, {high.text})", low.value, high.distance(low.value), "error")
        return
    if estimate is not None and low is not None and high is not None:
        outside = _outside(i, estimate, low, high)
        if outside is not None:
            yield outside
            return
    log = _is_log(row, estimate, low, high)
    skew = None
    if estimate is not None and low is not None and high is not None:
        skew = _symmetry(i, row, estimate, low, high, log)
        if skew is not None:
            yield skew
    if _adjusted(row):  # such limits and p values do not follow from one estimate and its standard error
        return
    if se is not None and low is not None and high is not None and skew is None:
        yield from _width(i, row, se, low, high, log)
    if skew is None or se is not None:  # a wrong limit alone cannot be told from a wrong p value
        yield from _tests(i, row, log)


def _adjusted(row: Line) -> bool:
    """Whether the line says that it is adjusted for several comparisons or tests another hypothesis than no effect."""
    said = " ".join(str(row.get(c, "")) for c in ("p_value", "adjust", "method")).lower()
    return any(
        word in said for word in ("dunnett", "tukey", "bonferroni", "simultaneous", "multiplicity", "inferiority")
    )


def _outside(i: int, estimate: Printed, low: Printed, high: Printed) -> Finding | None:
    if estimate.high >= low.low and estimate.low <= high.high:
        return None
    middle = (low.value + high.value) / 2
    mirrored = low.low <= -estimate.value <= high.high
    return Finding(i, "sign" if mirrored else "outside", estimate.text, middle, estimate.distance(middle), "error")


def _is_log(row: Line, estimate: Printed | None, low: Printed | None, high: Printed | None) -> bool:
    """Whether limits are symmetric in the log: by `scale`, else by whichever scale fits better."""
    scale = str(row.get("scale", "")).strip().lower()
    if scale in RATIOS:
        return all(p is None or p.high > 0 for p in (estimate, low, high))
    if scale in IDENTITY or estimate is None or low is None or high is None or low.value <= 0:
        return False
    gap = abs((low.value + high.value) / 2 - estimate.value)
    return abs(math.sqrt(low.value * high.value) - estimate.value) < gap


def _symmetry(i: int, row: Line, estimate: Printed, low: Printed, high: Printed, log: bool) -> Finding | None:
    e, a, b = (_span(p, log) for p in (estimate, low, high))
    # score, exact and profile limits are not symmetric: where no scale is stated, a tenth of the half-width is allowed
    room = 0.0 if str(row.get("scale", "")).strip().lower() in (*RATIOS, *IDENTITY) else 0.05 * (b.high - a.low)
    middle = Span((a.low + b.low) / 2 - room, (a.high + b.high) / 2 + room)
    if middle.meets(e):
        return None
    value = (
        math.exp((math.log(max(low.value, 1e-300)) + math.log(high.value)) / 2) if log else (low.value + high.value) / 2
    )
    return Finding(i, "symmetry", estimate.text, value, estimate.distance(value), "warning")


def _level(row: Line) -> float:
    found = parse(row.get("level"))
    if found is None:
        return 0.95
    return found.value / 100 if found.value > 1 else found.value


def _multipliers(row: Line) -> Span:
    """Quantiles that may have made the limits: of the stated df, else from normal to t of the sample size."""
    p = 0.5 + _level(row) / 2
    df = parse(row.get("df"))
    if df is not None and df.value > 0:
        exact = float(special.stdtrit(df.value, p))
        return (
            Span(float(special.stdtrit(df.high, p)), float(special.stdtrit(max(df.low, 0.5), p)))
            if df.decimals
            else Span(exact, exact)
        )
    return Span(float(special.ndtri(p)), float(special.stdtrit(_least_df(row), p)))


def _least_df(row: Line) -> float:
    n = parse(row.get("n"))
    return max(3.0, min(n.value - 2, 1e6)) if n is not None and n.value > 5 else 30.0


def _width_se(row: Line, low: Printed, high: Printed, log: bool) -> Span:
    """Standard errors that the limits imply."""
    a, b, z = _span(low, log), _span(high, log), _multipliers(row)
    return Span(max(0.0, b.low - a.high) / (2 * z.high), (b.high - a.low) / (2 * z.low))


def _halves(centre: Span, a: Span, b: Span, row: Line) -> Iterator[Span]:
    """Standard errors from the estimate to either limit."""
    z = _multipliers(row)
    for low, high in ((centre.low - a.high, centre.high - a.low), (b.low - centre.high, b.high - centre.low)):
        if high > 0:
            yield Span(max(0.0, low) / z.high, high / z.low)


def _width(i: int, row: Line, se: Printed, low: Printed, high: Printed, log: bool) -> Iterator[Finding]:
    implied = _width_se(row, low, high, log)
    candidates = [implied]
    estimate = parse(row.get("estimate"))
    if log and estimate is not None:  # a standard error of a ratio may be printed on its own scale
        candidates.append(Span(implied.low * max(estimate.low, 0), implied.high * estimate.high))
    if not any(c.meets(Span(se.low, se.high)) for c in candidates):
        yield Finding(i, "std_error", se.text, implied.mid, se.distance(implied.mid), "error")


def _tests(i: int, row: Line, log: bool) -> Iterator[Finding]:
    """The p value against everything it may have been made of, and the statistic against estimate / std_error."""
    estimate, se, low, high, p, statistic = numbers(
        row, "estimate", "std_error", "conf_low", "conf_high", "p_value", "statistic"
    )
    ratios: list[Span] = []
    centres = [] if estimate is None or (log and estimate.high <= 0) else [_span(estimate, log)]
    if low is not None and high is not None:
        a, b = _span(low, log), _span(high, log)
        centres.append(Span((a.low + b.low) / 2, (a.high + b.high) / 2))
        ratios += [_ratio(c, _width_se(row, low, high, log)) for c in centres]
        ratios += [_ratio(centres[0], half) for half in _halves(centres[0], a, b, row)]  # one limit may be the misprint
    if se is not None and estimate is not None:
        ratios += [_ratio(c, Span(se.low, se.high)) for c in centres]
        if log:
            ratios.append(_ratio(centres[0], Span(se.low / estimate.high, se.high / max(estimate.low, 1e-300))))
    if statistic is not None and ratios and str(row.get("test", "")).lower() not in ("f", "chi2", "chi-square"):
        yield from _statistic(i, statistic, ratios)
    if p is None:
        return
    if p.value > 1 or p.value < 0:
        yield Finding(i, "p_value", p.text, math.nan, math.nan, "error")
        return
    implied = [_p_span(r, row) for r in ratios]
    if statistic is not None:
        implied += _p_of_statistic(statistic, row)
    sided = "one" in str(row.get("p_value")).lower() or str(row.get("side", "")).lower() in ("one", "less", "greater")
    if sided:
        implied = [Span(s.low / 2, s.high / 2) for s in implied]
    printed = Span(p.low, p.high)
    if implied and not any(s.meets(printed) for s in implied):
        nearest = min(implied, key=lambda s: abs(math.log(max(s.mid, 1e-12)) - math.log(max(p.value, 1e-12))))
        crossing = (nearest.high < 0.05) != (p.high <= 0.05)
        distance = p.distance(nearest.mid)
        yield Finding(i, "p_value", p.text, nearest.mid, distance, "error" if crossing or abs(distance) > 1 else "note")


def _ratio(centre: Span, se: Span) -> Span:
    """|estimate / std_error|, from its smallest to its largest."""
    inside = centre.low <= 0 <= centre.high
    smallest = 0.0 if inside else min(abs(centre.low), abs(centre.high))
    return Span(smallest / max(se.high, 1e-300), max(abs(centre.low), abs(centre.high)) / max(se.low, 1e-300))


def _p_span(ratio: Span, row: Line) -> Span:
    """Two-sided p values, from t with the stated df, else from normal to t of the sample size."""
    df = parse(row.get("df"))
    if df is not None and df.value > 0:
        return Span(*(float(2 * special.stdtr(df.value, -min(r, 1e8))) for r in (ratio.high, ratio.low)))
    smallest = float(2 * special.ndtr(-ratio.high))
    return Span(smallest, float(2 * special.stdtr(_least_df(row), -min(ratio.low, 1e8))))


def _statistic(i: int, statistic: Printed, ratios: list[Span]) -> Iterator[Finding]:
    low, high = sorted((abs(statistic.low), abs(statistic.high)))
    span = Span(0.0 if statistic.low <= 0 <= statistic.high else low, high)
    squared = Span(span.low**0.5, span.high**0.5)  # a Wald chi-square
    if not any(r.meets(span) or r.meets(squared) for r in ratios):
        nearest = min((r.mid for r in ratios), key=lambda v: abs(v - abs(statistic.value)))
        yield Finding(
            i,
            "statistic",
            statistic.text,
            nearest,
            statistic.distance(math.copysign(nearest, statistic.value)),
            "error",
        )


def _p_of_statistic(statistic: Printed, row: Line) -> list[Span]:
    """p of t (two-sided), z or chi-square, or of F when `test` says so; of all that are possible otherwise."""
    test, df, df1 = str(row.get("test", "")).strip().lower(), parse(row.get("df")), parse(row.get("df1"))
    ends = sorted((abs(statistic.low), abs(statistic.high)))
    low, high = (0.0 if statistic.low <= 0 <= statistic.high else ends[0]), ends[1]
    found = []
    if test in ("f",) and df is not None and df1 is not None:
        found.append(Span(*(float(special.fdtrc(df1.value, df.value, x)) for x in (high, low))))
    if test in ("", "t", "nan", "none") and df is not None:
        found.append(Span(*(float(2 * special.stdtr(df.value, -x)) for x in (high, low))))
    if test in ("z", "wald") or (test in ("", "nan", "none") and df is None):
        found.append(Span(*(float(2 * special.ndtr(-x)) for x in (high, low))))
    if (test.startswith("chi") or test in ("", "nan", "none")) and df is not None and statistic.value >= 0:
        found.append(Span(*(float(special.chdtrc(df.value, x)) for x in (high, low))))
    return found
