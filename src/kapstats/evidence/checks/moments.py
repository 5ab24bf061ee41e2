"""Means and standard deviations of whole numbers: GRIM, GRIMMER, and the range of the scores."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from kapstats.evidence.checks.finding import Finding, Line, numbers
from kapstats.evidence.printed import Printed, parse


def moments(i: int, row: Line) -> Iterator[Finding]:
    """A mean or standard deviation that no sample of that size and range can have."""
    mean, sd, n = numbers(row, "mean", "sd", "n")
    items = _items(row.get("integer"))
    beyond = _beyond(i, row)
    if beyond is not None:
        yield beyond
        return
    if sd is not None and sd.value < 0:
        yield Finding(i, "order", sd.text, 0.0, math.nan, "error")
        return
    if mean is None or n is None or not items or n.value < 1 or not math.isfinite(mean.high - mean.low):
        return
    size = round(n.value)
    sums = possible_sums(mean, size, items)
    if not sums:
        nearest = round(mean.value * size * items) / (size * items)
        yield Finding(i, "grim", mean.text, nearest, mean.distance(nearest), "error")
    elif sd is not None and size > 1 and math.isfinite(sd.high - sd.low):
        possible = grimmer(sums, sd, size, items)
        if possible is not None:
            yield Finding(i, "grimmer", sd.text, possible, sd.distance(possible), "error")


def _beyond(i: int, row: Line) -> Finding | None:
    """A mean outside the scores' range, or an SD above the largest that this mean allows (all scores at the ends)."""
    mean, sd, n, least, most = numbers(row, "mean", "sd", "n", "minimum", "maximum")
    if mean is None or least is None or most is None:
        return None
    if mean.high < least.value or mean.low > most.value:
        nearest = min(max(mean.value, least.value), most.value)
        return Finding(i, "range", mean.text, nearest, mean.distance(nearest), "error")
    if sd is None or n is None or n.value < 2:
        return None
    middle = min(max((least.value + most.value) / 2, mean.low), mean.high)  # the mean of that range with most room
    largest = math.sqrt(max(0.0, (middle - least.value) * (most.value - middle)) * n.value / (n.value - 1))
    return Finding(i, "range", sd.text, largest, sd.distance(largest), "error") if sd.low > largest + 1e-9 else None


def _items(value: Any) -> int:
    """Number of whole-number items averaged; 0 when the values are not whole numbers."""
    if isinstance(value, str):
        text = value.strip().lower()
        return int(text) if text.isdigit() else int(text in ("true", "yes", "y"))
    found = parse(int(value) if isinstance(value, bool | np.bool_) else value)
    return int(found.value) if found is not None else 0


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
