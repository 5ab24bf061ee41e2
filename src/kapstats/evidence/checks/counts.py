"""Events, denominators, percentages and the p values of two arms."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from kapstats._types import FloatArray
from kapstats.evidence.checks.finding import Finding, Line, numbers, severity_of
from kapstats.evidence.checks.lines import arms_of_a_term
from kapstats.evidence.printed import Printed, parse

CAPTION = ("any", "any ae", "any adverse event", "any teae", "total", "at least one adverse event")


def counts(i: int, row: Line) -> Iterator[Finding]:
    """A percentage that its count and denominator cannot give, and counts beyond it."""
    events, n, percent = numbers(row, "events", "n", "percent")
    if events is None and n is not None and n.value < 1:
        yield Finding(i, "count", f"n {n.text}", math.nan, math.nan, "error")
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
        yield Finding(i, "percent", percent.text, implied, distance, severity_of(distance))


def denominators(frame: pd.DataFrame, rows: list[dict[str, Any]], found: list[Finding]) -> list[Finding]:
    """Percentages that are wrong but right with the n of the other arm: exchanged denominators."""
    wrong = {f.row: f for f in found if f.check in ("percent", "count")}
    renamed: dict[int, Finding] = {}
    for group in arms_of_a_term(frame) if wrong else ():
        sizes = _sizes(rows, group) if any(i in wrong for i in group) else None
        for i in group:
            events, own, percent = numbers(rows[i], "events", "n", "percent")
            if i not in wrong or sizes is None or events is None or own is None or percent is None:
                continue
            other = _other_size(events.value, own.value, percent, *sizes)
            if other is not None:
                text = f"{events.text} of {own.text}"
                renamed[i] = Finding(i, "denominator", text, other, own.distance(other), wrong[i].severity)
    return [renamed[f.row] if f.check in ("percent", "count") and f.row in renamed else f for f in found]


def _sizes(rows: list[dict[str, Any]], group: list[int]) -> tuple[FloatArray, FloatArray]:
    """The distinct n of a group of lines in increasing order, and where each stands last."""
    last = {n.value: float(i) for i in group if (n := parse(rows[i].get("n"))) is not None}
    sizes = np.array(sorted(last))
    return sizes, np.array([last[n] for n in sizes])


def _other_size(x: float, own: float, percent: Printed, sizes: FloatArray, place: FloatArray) -> float | None:
    """The last other n of the group, not below the events, of which the percentage is right."""
    if x <= 0:
        return None
    low, high = 100 * x / max(percent.high, 1e-9), 100 * x / max(percent.low, 1e-9)
    first, stop = np.searchsorted(sizes, [max(x, low * (1 - 1e-6)), high * (1 + 1e-6)])
    near = np.arange(first, stop)
    fits = [k for k in near[np.argsort(-place[near])][:50] if sizes[k] != own and percent.holds(100 * x / sizes[k])]
    return float(sizes[fits[0]]) if fits else None


def pairs(frame: pd.DataFrame, rows: list[dict[str, Any]], found: list[Finding]) -> Iterator[Finding]:
    """p values of two arms against the usual tests of their counts."""
    if "p_value" not in frame.columns or "events" not in frame.columns:
        return
    faulty = {f.row for f in found if f.check in ("percent", "denominator", "count")}
    for group in arms_of_a_term(frame):
        if len(group) != 2 or faulty & set(group):
            continue
        printed = [(i, p) for i in group if (p := parse(rows[i].get("p_value"), bounded=True)) is not None]
        counts = [numbers(rows[i], "events", "n") for i in group]
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


def totals(frame: pd.DataFrame, rows: list[dict[str, Any]]) -> Iterator[Finding]:
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
    events = [parse(row.get("events")) for row in rows]
    most = _two_largest(list(labels), events)
    for i in map(int, np.flatnonzero(term.isin(CAPTION).to_numpy())):
        own = events[i]
        largest = next((value for j, value in most[labels.iloc[i]] if j != i), 0.0)
        if own is not None and largest > own.value:
            yield Finding(i, "total", own.text, largest, own.distance(largest), "error")


def _two_largest(labels: list[str], events: list[Printed | None]) -> dict[str, list[tuple[int, float]]]:
    """Per label the two lines with most events, and how many, the larger first: enough to leave a line out."""
    found: dict[str, list[tuple[int, float]]] = {label: [] for label in labels}
    for i, (label, one) in enumerate(zip(labels, events, strict=True)):
        if one is not None:
            found[label] = sorted([*found[label], (i, one.value)], key=lambda pair: -pair[1])[:2]
    return found
