"""Numbers as they are printed: which values could have been rounded to them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

_NUMBER = re.compile(r"^\s*(?P<sign><=|>=|≤|≥|<|>|=)?\s*(?P<value>[-−+]?(?:\d+\.?\d*|\.\d+))\s*%?")
SLACK = 1e-9


@dataclass(frozen=True, slots=True)
class Printed:
    """A printed number: its value, decimals, the range of values that round to it (either way at a half), its text."""

    value: float
    decimals: int
    low: float
    high: float
    text: str

    @property
    def unit(self) -> float:
        """One unit of the last printed digit."""
        return 10.0**-self.decimals

    def holds(self, value: float) -> bool:
        """Whether `value` could have been printed so."""
        slack = SLACK * max(1.0, abs(value))
        return self.low - slack <= value <= self.high + slack

    def distance(self, value: float) -> float:
        """How far `value` is, in units of the last digit."""
        return (value - self.value) / self.unit


def parse(value: Any, bounded: bool = False) -> Printed | None:
    """What is printed in `value`; None where there is no number. Text keeps its digits, a number its shortest form.

    `bounded`: a value that cannot be below 0 (a p value): "<.001" is 0 to .001, ">.99" is .99 to 1.

    Examples
    --------
    >>> parse("63.0%").decimals, parse(63.0).decimals, parse("<0.001", bounded=True).high
    (1, 0, 0.001)
    """
    if value is None or (isinstance(value, float) and not math.isfinite(value)) or isinstance(value, bool):
        return None
    match = _NUMBER.match(_text(value))
    if match is None:
        return None
    digits = match["value"].replace("−", "-")
    number, decimals = float(digits), len(digits.partition(".")[2])
    half = 0.5 * 10.0**-decimals
    low, high = number - half, number + half
    if match["sign"] in ("<", "<=", "≤"):
        low, high = (0.0 if bounded else -math.inf), number
    elif match["sign"] in (">", ">=", "≥"):
        low, high = number, (1.0 if bounded else math.inf)
    return Printed(number, decimals, low, high, str(value).strip())


def _text(value: Any) -> str:
    """The value as printed: whole floats without their point, since a column with gaps turns 63 into 63.0."""
    if isinstance(value, str):
        return value
    number = float(value)
    if number.is_integer() and abs(number) < 1e15:
        return str(int(number))
    text = repr(number)
    return text if "e" not in text else f"{number:.20f}".rstrip("0")
