"""One fault, and how a printed line is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kapstats.evidence.printed import Printed, parse

Line = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault: which row, which check, what was printed, what follows from the rest, how far apart, how bad."""

    row: int
    check: str
    printed: str
    implied: float
    distance: float
    severity: str


def numbers(row: Line, *names: str) -> list[Printed | None]:
    """The printed numbers of a line, None where there is none."""
    return [parse(row.get(name), bounded=name == "p_value") for name in names]


def severity_of(distance: float) -> str:
    """A miss of up to one unit may be truncation; more cannot be rounding of any kind."""
    return "error" if abs(distance) > 1 else "note"
