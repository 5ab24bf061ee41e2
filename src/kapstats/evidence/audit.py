"""Whether printed numbers can be right: each against the others on its line."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from kapstats import estimates, frames
from kapstats._types import FrameLike
from kapstats.errors import DataError
from kapstats.evidence.printed import Printed, parse

RATIOS = ("log", "ratio", "or", "rr", "hr", "irr", "odds ratio", "risk ratio", "hazard ratio", "rate ratio")
IDENTITY = ("identity", "difference", "linear", "rd", "md", "smd", "mean difference", "risk difference")
NUMBERS = ("events", "n", "percent", "mean", "sd", "estimate", "std_error", "conf_low", "conf_high", "p_value")
NOT_KEYS = {
    *NUMBERS,
    "integer",
    "scale",
    "statistic",
    "df",
    "level",
    "test",
    "note",
    "source",
    "checked",
    "route",
    "se",
}
CAPTION = ("any", "any ae", "any adverse event", "any teae", "total", "at least one adverse event")


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault: which row, which check, what was printed, what follows from the rest, how far apart, how bad."""

    row: int
    check: str
    printed: str
    implied: float
    distance: float
    severity: str


def audit(claims: FrameLike) -> estimates.Estimates:
    """Findings in a table of printed results: what cannot be right, given the other numbers of the line.

    Parameters
    ----------
    claims : one printed line per row, with any of these columns. Text keeps its printed digits ("63.0"); numbers have
        their shortest form.

        - ``study arm term events n percent``: percentages against counts; events above n; p values of two arms against
          every usual test of their counts; the same line twice
        - ``mean sd n integer``: GRIM and GRIMMER, where `integer` is the number of whole-number items that are averaged
          (1 or True: single whole numbers)
        - ``estimate std_error conf_low conf_high p_value scale level df``: order and sign of estimate and limits;
          symmetry on `scale` ("identity", "log", "OR", "HR" ...; without it either scale will do); standard error
          against limits; p against any of them. Lines that say "Dunnett", "Bonferroni" ... or "non-inferiority" in
          `p_value`, `adjust` or `method` are only judged for order and symmetry
        - ``statistic df p_value test``: p against the statistic (t, z, or chi-square; `test` "F" needs ``df1``)

    Returns
    -------
    Estimates
        One row per fault: the columns of the claim, then ``check`` (percent, denominator, count, grim, grimmer, order,
        sign, outside, symmetry, std_error, statistic, p_value, p_counts, duplicate, total), ``printed``, ``implied``,
        ``distance`` in units of the last printed digit, and ``severity``: "error" cannot be right; "warning" cannot be
        right if the usual method was used; "note" one unit of the last digit.

    Notes
    -----
    A printed number stands for every value that rounds to it, half up or half to even. A number is only called wrong
    when no combination of such values agrees. Without `df`, t distributions down to the sample size (or 30) will do.
    One fault gives one row: a p value is judged against the estimate, the limits, the standard error and the statistic,
    and is wrong only when it fits none of them; GRIMMER is asked only where GRIM passes.

    References
    ----------
    Brown & Heathers 2017 (GRIM); Anaya 2016, Allard 2018 (GRIMMER).

    Examples
    --------
    >>> claims = {"study": ["A"], "events": [30], "n": [231], "percent": ["13.3"]}
    >>> found = audit(claims)
    >>> found["check"].tolist(), found["implied"].round(1).tolist()
    (['percent'], [13.0])
    """
    frame = frames.to_pandas(claims)
    known = {*NUMBERS, "statistic"}
    if not known & set(frame.columns):
        raise DataError(f"audit: no column to judge. It reads {', '.join(sorted(known))}.")
    rows = frame.to_dict("records")
    found: list[Finding] = []
    for i, row in enumerate(rows):
        found += [*_counts(i, row), *_moments(i, row), *_inference(i, row)]
    found = _denominators(frame, rows, found)
    found = [*found, *_pairs(frame, rows, found), *_duplicates(frame), *_totals(frame, rows)]
    found.sort(key=lambda f: f.row)
    table = frame.iloc[[f.row for f in found]].reset_index(drop=True)
    added = {
        name: [getattr(f, name) for f in found] for name in ("check", "printed", "implied", "distance", "severity")
    }
    table = table.drop(columns=[c for c in added if c in table.columns]).assign(**added)
    sentence = f"{len(frame)} printed lines; {len(found)} findings in {len({f.row for f in found})} of them."
    about = estimates.meta(
        method="audit of printed results",
        level=None,
        title="Audit",
        sentence=sentence,
        data=frame,
        frame_kind=frames.kind(claims),
        n_claims=len(frame),
        rows=tuple(f.row for f in found),
    )
    return estimates.Estimates(table, about)


def _get(row: Mapping[str, Any], *names: str) -> list[Printed | None]:
    return [parse(row.get(name), bounded=name == "p_value") for name in names]


def _severity(distance: float) -> str:
    """A miss of up to one unit may be truncation; more cannot be rounding of any kind."""
    return "error" if abs(distance) > 1 else "note"


def _counts(i: int, row: Mapping[str, Any]) -> Iterator[Finding]:
    events, n, percent = _get(row, "events", "n", "percent")
    if events is None or n is None:
        return
    if n.value <= 0 or events.value < 0 or events.value > n.value or (events.decimals > 0 and events.value % 1):
        yield Finding(i, "count", f"{events.text} of {n.text}", math.nan, math.nan, "error")
        return
    if percent is None:
        return
    implied = 100 * events.value / n.value
    if not percent.holds(implied):
        distance = percent.distance(implied)
        yield Finding(i, "percent", percent.text, implied, distance, _severity(distance))


def _moments(i: int, row: Mapping[str, Any]) -> Iterator[Finding]:
    mean, sd, n = _get(row, "mean", "sd", "n")
    items = _items(row.get("integer"))
    if sd is not None and sd.value < 0:
        yield Finding(i, "order", sd.text, 0.0, math.nan, "error")
        return
    if mean is None or n is None or not items or n.value < 1:
        return
    size = round(n.value)
    sums = possible_sums(mean, size, items)
    if not sums:
        nearest = round(mean.value * size * items) / (size * items)
        yield Finding(i, "grim", mean.text, nearest, mean.distance(nearest), "error")
    elif sd is not None and size > 1:
        possible = grimmer(sums, sd, size, items)
        if possible is not None:
            yield Finding(i, "grimmer", sd.text, possible, sd.distance(possible), "error")


def _items(value: Any) -> int:
    """Number of whole-number items averaged; 0 when the values are not whole numbers."""
    if isinstance(value, str):
        text = value.strip().lower()
        return int(text) if text.isdigit() else int(text in ("true", "yes", "y"))
    if value is None or value != value:
        return 0
    return int(value)


def possible_sums(mean: Printed, n: int, items: int = 1) -> range:
    """Whole totals of n * items scores whose mean is printed as `mean` (GRIM); empty when there is none."""
    low = math.ceil((mean.low - 1e-9) * n * items)
    high = math.floor((mean.high + 1e-9) * n * items)
    return range(low, high + 1)


def grimmer(sums: range, sd: Printed, n: int, items: int = 1) -> float | None:
    """None when some whole-number sample has a total in `sums` and prints this SD; else the nearest possible SD.

    A sample with total s has a sum of squares Q >= s^2 / n that is whole and of the parity of s; its SD is
    sqrt((Q - s^2 / n) / (n - 1)), in units of one item.
    """
    low, high = max(0.0, sd.low) * items, sd.high * items
    best: float | None = None
    for s in sums:
        floor = s * s / n
        first = math.ceil((n - 1) * low**2 + floor - 1e-7)
        last = math.floor((n - 1) * high**2 + floor + 1e-7)
        start = first + (first - s) % 2
        if start <= last:
            return None
        for q in (start - 2, start):
            smallest = _least_squares(s, n)
            value = math.sqrt(max(q, smallest) - floor) / math.sqrt(n - 1) / items
            best = value if best is None or abs(value - sd.value) < abs(best - sd.value) else best
    return best


def _least_squares(s: int, n: int) -> int:
    """The smallest sum of squares of n whole numbers with total s."""
    share, rest = divmod(s, n)
    return n * share**2 + rest * (2 * share + 1)


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


def _inference(i: int, row: Mapping[str, Any]) -> Iterator[Finding]:
    """Estimate, limits, standard error, statistic and p value of one line."""
    estimate, se, low, high = _get(row, "estimate", "std_error", "conf_low", "conf_high")
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


def _adjusted(row: Mapping[str, Any]) -> bool:
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


def _is_log(row: Mapping[str, Any], estimate: Printed | None, low: Printed | None, high: Printed | None) -> bool:
    """Whether limits are symmetric in the log: by `scale`, else by whichever scale fits better."""
    scale = str(row.get("scale", "")).strip().lower()
    if scale in RATIOS:
        return all(p is None or p.high > 0 for p in (estimate, low, high))
    if scale in IDENTITY or estimate is None or low is None or high is None or low.value <= 0:
        return False
    gap = abs((low.value + high.value) / 2 - estimate.value)
    return abs(math.sqrt(low.value * high.value) - estimate.value) < gap


def _symmetry(
    i: int, row: Mapping[str, Any], estimate: Printed, low: Printed, high: Printed, log: bool
) -> Finding | None:
    e, a, b = (_span(p, log) for p in (estimate, low, high))
    middle = Span((a.low + b.low) / 2, (a.high + b.high) / 2)
    if middle.meets(e):
        return None
    value = (
        math.exp((math.log(max(low.value, 1e-300)) + math.log(high.value)) / 2) if log else (low.value + high.value) / 2
    )
    return Finding(i, "symmetry", estimate.text, value, estimate.distance(value), "warning")


def _level(row: Mapping[str, Any]) -> float:
    found = parse(row.get("level"))
    if found is None:
        return 0.95
    return found.value / 100 if found.value > 1 else found.value


def _multipliers(row: Mapping[str, Any]) -> Span:
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


def _least_df(row: Mapping[str, Any]) -> float:
    n = parse(row.get("n"))
    return max(3.0, min(n.value - 2, 1e6)) if n is not None and n.value > 5 else 30.0


def _width_se(row: Mapping[str, Any], low: Printed, high: Printed, log: bool) -> Span:
    """Standard errors that the limits imply."""
    a, b, z = _span(low, log), _span(high, log), _multipliers(row)
    return Span(max(0.0, b.low - a.high) / (2 * z.high), (b.high - a.low) / (2 * z.low))


def _halves(centre: Span, a: Span, b: Span, row: Mapping[str, Any]) -> Iterator[Span]:
    """Standard errors from the estimate to either limit."""
    z = _multipliers(row)
    for low, high in ((centre.low - a.high, centre.high - a.low), (b.low - centre.high, b.high - centre.low)):
        if high > 0:
            yield Span(max(0.0, low) / z.high, high / z.low)


def _width(i: int, row: Mapping[str, Any], se: Printed, low: Printed, high: Printed, log: bool) -> Iterator[Finding]:
    implied = _width_se(row, low, high, log)
    candidates = [implied]
    estimate = parse(row.get("estimate"))
    if log and estimate is not None:  # a standard error of a ratio may be printed on its own scale
        candidates.append(Span(implied.low * max(estimate.low, 0), implied.high * estimate.high))
    if not any(c.meets(Span(se.low, se.high)) for c in candidates):
        yield Finding(i, "std_error", se.text, implied.mid, se.distance(implied.mid), "error")


def _tests(i: int, row: Mapping[str, Any], log: bool) -> Iterator[Finding]:
    """The p value against everything it may have been made of, and the statistic against estimate / std_error."""
    estimate, se, low, high, p, statistic = _get(
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


def _p_span(ratio: Span, row: Mapping[str, Any]) -> Span:
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


def _p_of_statistic(statistic: Printed, row: Mapping[str, Any]) -> list[Span]:
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


def _keys(frame: pd.DataFrame) -> list[str]:
    """The columns that say what a line is about."""
    return [c for c in frame.columns if str(c) not in NOT_KEYS and not pd.api.types.is_float_dtype(frame[c].dtype)]


def _groups(frame: pd.DataFrame) -> list[list[int]]:
    """Rows of the same study and term in different arms."""
    keys = [c for c in _keys(frame) if c != "arm"]
    if "arm" not in frame.columns or not keys:
        return []
    labels = frame[keys].astype("object").where(frame[keys].notna(), "").astype(str)
    return [list(rows) for rows in labels.groupby(keys, sort=False).indices.values()]


def _denominators(frame: pd.DataFrame, rows: list[dict[str, Any]], found: list[Finding]) -> list[Finding]:
    """Percentages that are wrong but right with the n of the other arm: exchanged denominators."""
    wrong = {f.row: f for f in found if f.check in ("percent", "count")}
    renamed: dict[int, Finding] = {}
    for group in _groups(frame):
        for i in (r for r in group if r in wrong):
            events, percent = _get(rows[i], "events", "percent")
            for j in group:
                n = parse(rows[j].get("n"))
                if (
                    j != i
                    and n is not None
                    and events is not None
                    and percent is not None
                    and n.value >= events.value > 0
                ):
                    own = parse(rows[i].get("n"))
                    if own is not None and n.value != own.value and percent.holds(100 * events.value / n.value):
                        old = wrong[i]
                        renamed[i] = Finding(
                            i,
                            "denominator",
                            f"{events.text} of {own.text}",
                            n.value,
                            own.distance(n.value),
                            old.severity,
                        )
    return [renamed[f.row] if f.check in ("percent", "count") and f.row in renamed else f for f in found]


def _pairs(frame: pd.DataFrame, rows: list[dict[str, Any]], found: list[Finding]) -> Iterator[Finding]:
    """p values of two arms against the usual tests of their counts."""
    if "p_value" not in frame.columns or "events" not in frame.columns:
        return
    faulty = {f.row for f in found if f.check in ("percent", "denominator", "count")}
    for group in _groups(frame):
        if len(group) != 2 or faulty & set(group):
            continue
        printed = [(i, p) for i in group if (p := parse(rows[i].get("p_value"), bounded=True)) is not None]
        counts = [_get(rows[i], "events", "n") for i in group]
        if (
            not printed
            or any(v is None for pair in counts for v in pair)
            or parse(rows[group[0]].get("estimate")) is not None
        ):
            continue
        x1, n1, x2, n2 = (round(v.value) for pair in counts for v in pair if v is not None)
        tests = p_values(x1, n1, x2, n2)
        i, p = printed[0]
        if not any(p.holds(v) for v in tests.values()):
            yield Finding(i, "p_counts", p.text, tests["fisher"], p.distance(tests["fisher"]), "error")


def p_values(x1: int, n1: int, x2: int, n2: int) -> dict[str, float]:
    """Two-sided p values of x1 of n1 against x2 of n2 by the usual tests."""
    fisher, mid = _fisher(x1, n1, x2, n2)
    n, m = n1 + n2, x1 + x2
    if m in (0, n):
        return {"fisher": 1.0, "fisher-mid-p": 1.0, "chi-square": 1.0}
    gap = abs(x1 * (n2 - x2) - x2 * (n1 - x1))
    margin = n1 * n2 * m * (n - m)
    plain = n * gap**2 / margin
    yates = n * max(0.0, gap - n / 2) ** 2 / margin
    p1, p2 = x1 / n1, x2 / n2
    unpooled = p1 * (1 - p1) / n1 + p2 * (1 - p2) / n2
    found = {
        "fisher": fisher,
        "fisher-mid-p": mid,
        "chi-square": float(special.chdtrc(1, plain)),
        "chi-square-yates": float(special.chdtrc(1, yates)),
        "chi-square-n-1": float(special.chdtrc(1, plain * (n - 1) / n)),
    }
    if unpooled > 0:
        found["wald"] = float(2 * special.ndtr(-abs(p1 - p2) / math.sqrt(unpooled)))
    return found


def _fisher(x1: int, n1: int, x2: int, n2: int) -> tuple[float, float]:
    """Fisher's exact two-sided p (tables no more likely than the observed one), and its mid-p."""
    m = x1 + x2
    u = np.arange(max(0, m - n2), min(n1, m) + 1)
    log_ways = -(special.gammaln(u + 1) + special.gammaln(n1 - u + 1))
    log_ways -= special.gammaln(m - u + 1) + special.gammaln(n2 - m + u + 1)
    chance = np.exp(log_ways - special.logsumexp(log_ways))
    seen = chance[u == x1][0]
    p = float(min(1.0, chance[chance <= seen * (1 + 1e-7)].sum()))
    return p, float(p - seen / 2)


def _duplicates(frame: pd.DataFrame) -> Iterator[Finding]:
    """A line that stands twice, with the same numbers or others."""
    keys = _keys(frame)
    if not {"study", "term", "arm"} & set(keys):
        return
    labels = frame[keys].astype("object").where(frame[keys].notna(), "").astype(str)
    for i in np.flatnonzero(labels.duplicated().to_numpy()):
        line = " / ".join(v for v in labels.iloc[i] if v)
        yield Finding(int(i), "duplicate", line, math.nan, math.nan, "error")


def _totals(frame: pd.DataFrame, rows: list[dict[str, Any]]) -> Iterator[Finding]:
    """Subjects with any event are at least as many as those with the commonest one."""
    if not {"term", "events"} <= set(frame.columns):
        return
    term = frame["term"].astype(str).str.strip().str.lower()
    group = [c for c in ("study", "arm", "period") if c in frame.columns]
    labels = (
        frame[group].astype("object").where(frame[group].notna(), "").astype(str).agg("/".join, axis=1)
        if group
        else term * 0
    )
    for i in np.flatnonzero(term.isin(CAPTION).to_numpy()):
        own = parse(rows[i].get("events"))
        parts = [parse(rows[j].get("events")) for j in np.flatnonzero((labels == labels.iloc[i]).to_numpy()) if j != i]
        most = max((p.value for p in parts if p is not None), default=0.0)
        if own is not None and most > own.value:
            yield Finding(int(i), "total", own.text, most, own.distance(most), "error")
