"""Numbers as they are printed: which values could have been rounded to them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

_NUMBER = re.compile(
    r"^\s*(?:[pP]\s*(?=[<>=≤≥]))?(?P<sign><=|>=|≤|≥|<|>|=)?\s*"
    r"(?P<value>[-−–+]?(?:\d+\.?\d*|\.\d+))(?P<power>[eE][-+]?\d+)?(?!\d)(?P<rest>.*)$",
    re.DOTALL,
)
#: between digits: what groups thousands (a comma, any space, an apostrophe), and what can stand for the point
_THOUSANDS = re.compile(r"(?<=\d)([,'’]|\s)(?=\d{3}(?:\1\d{3})*(?!\d))(?<!\d{4}[,'’\s])")
_POINT = re.compile(r"(?:(?<=\d)|(?<=^))[,·∙](?=\d)")
#: what may follow a number and hold another one: an interval, a percentage in brackets, a standard deviation
_ASIDE = re.compile(r"[(\[±;]")
#: texts for a number that was not printed
ABSENT = {"", "-", "–", "—", ".", "na", "n/a", "nr", "ne", "nan", "none", "null", "ns", "n.s.", "not reported"}
_MINUS = str.maketrans("−–", "--")
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
    >>> parse("1,204").value, parse("13,3").value, parse("2e-05").value, parse("12.3.4")
    (1204.0, 13.3, 2e-05, None)
    >>> parse("0·04").value, parse("1 204").value, parse("P<.001").high, parse("12/20")
    (0.04, 1204.0, 0.001, None)
    """
    if absent(value) or isinstance(value, bool | np.bool_):
        return None
    match = _NUMBER.match(_POINT.sub(".", _THOUSANDS.sub("", _text(value).strip())))
    if match is None or re.search(r"\d", _ASIDE.split(match["rest"])[0]):
        return None  # no number, or the first of two
    digits, power = match["value"].translate(_MINUS), match["power"] or ""
    number = float(digits + power)
    if math.isinf(number):
        return None
    decimals = max(0, len(digits.partition(".")[2]) - int(power[1:] or 0))
    half = 0.5 * 10.0**-decimals
    low, high = number - half, number + half
    if match["sign"] in ("<", "<=", "≤"):
        low, high = (0.0 if bounded else -math.inf), number
    elif match["sign"] in (">", ">=", "≥"):
        low, high = number, (1.0 if bounded else math.inf)
    return Printed(number, decimals, low, high, str(value).strip())


def absent(value: Any) -> bool:
    """Whether nothing was printed: missing, infinite, blank, or a word for it.

    Examples
    --------
    >>> absent("NR"), absent(None), absent("0.4"), absent("unclear")
    (True, True, False, False)
    """
    if isinstance(value, str):
        return value.strip().lower() in ABSENT
    if not pd.api.types.is_scalar(value):
        return False
    return bool(pd.isna(value)) or (isinstance(value, float) and math.isinf(value))


def _text(value: Any) -> str:
    """The value as printed: whole floats without their point, since a column with gaps turns 63 into 63.0."""
    if isinstance(value, str | Decimal):
        return str(value)
    if not isinstance(value, int | float | np.number):
        return ""
    number = float(str(value))  # a float32 by its own digits
    if number.is_integer() and abs(number) < 1e15:
        return str(int(number))
    text = repr(number)
    return text if "e" not in text else f"{number:.20f}".rstrip("0")
