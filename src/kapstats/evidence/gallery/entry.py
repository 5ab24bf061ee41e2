"""What a reproduction is: printed numbers beside the ones that the same inputs give."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import util
from typing import Any

import pandas as pd

from kapstats import estimates
from kapstats.evidence.printed import Printed, parse
from kapstats.table import Table, number


@dataclass(frozen=True, slots=True)
class Line:
    """One printed number and ours.

    Parameters
    ----------
    what : which number ("56 mg: lower limit"); lines of one interval share the part before the colon
    published : as printed
    reproduced : computed from the published inputs
    low, high : the range of `reproduced` when the inputs are themselves rounded; its value where they are exact
    kind : "exact" (has to agree), "calibration" (another method or unrounded inputs were used in print; shown for
        size), "misprint" (the printed number does not follow from its own line), "own" (nothing was printed)
    """

    what: str
    published: str
    reproduced: float
    low: float = math.nan
    high: float = math.nan
    kind: str = "exact"

    @property
    def printed(self) -> Printed:
        """The published number with the range it stands for."""
        found = parse(self.published, bounded=True)
        assert found is not None, self.published
        return found

    @property
    def agrees(self) -> bool:
        """Whether some value in the reproduced range prints as published."""
        low = self.reproduced if math.isnan(self.low) else self.low
        high = self.reproduced if math.isnan(self.high) else self.high
        slack = 1e-9 * max(1.0, abs(self.reproduced))
        return low <= self.printed.high + slack and high >= self.printed.low - slack


@dataclass(frozen=True)
class Entry:
    """A published result that can be reproduced.

    name, ids : how it is called; title, source, method : what it is
    compute : gives the lines; draw : a figure of its own (axes, lines), else printed and own numbers in a forest
    """

    name: str
    id: str
    title: str
    source: str
    method: str
    compute: Callable[[], list[Line]]
    draw: Callable[[Any, list[Line]], None] | None = None
    note: str = ""
    height: float = 4.2
    """inches of its own figure"""
    needs: str = ""
    """an optional package that holds the data"""

    @property
    def available(self) -> bool:
        """Whether the package it needs, if any, is installed."""
        return not self.needs or util.find_spec(self.needs) is not None


@dataclass(frozen=True, eq=False)
class Reproduction:
    """The lines of one published result; unpacks into published, reproduced, difference, figure.

    ``published`` (text), ``reproduced`` and ``difference`` (numbers) are Series by line; ``agrees`` says whether all
    lines that have to agree do; ``figure`` draws.
    """

    entry: Entry
    lines: tuple[Line, ...] = field(default=())

    def to_frame(self) -> pd.DataFrame:
        """One row per printed number."""
        rows = [
            {
                "quantity": line.what,
                "published": line.published,
                "reproduced": line.reproduced,
                "difference": line.reproduced - line.printed.value,
                "agrees": line.agrees,
                "kind": line.kind,
            }
            for line in self.lines
        ]
        return pd.DataFrame(rows)

    @property
    def published(self) -> pd.Series:
        """What was printed, by quantity."""
        return self._column("published")

    @property
    def reproduced(self) -> pd.Series:
        """What the inputs give, by quantity."""
        return self._column("reproduced")

    @property
    def difference(self) -> pd.Series:
        """Reproduced minus published, by quantity."""
        return self._column("difference")

    @property
    def agrees(self) -> bool:
        """Whether every line that has to agree does."""
        return all(line.agrees for line in self.lines if line.kind == "exact")

    @property
    def verdict(self) -> str:
        """ "agrees", "DIFFERS", or "calibrates" where nothing has to agree."""
        if not any(line.kind == "exact" for line in self.lines):
            return "calibrates"
        return "agrees" if self.agrees else "DIFFERS"

    @property
    def figure(self) -> Any:
        """A matplotlib figure: the published numbers as open marks, ours as filled ones."""
        return self.plot()

    def plot(self, ax: Any = None) -> Any:
        """Draw into `ax`, or into a new figure."""
        from kapstats.evidence.gallery.draw import plot

        return plot(self, ax)

    def table(self) -> Table:
        """The lines as a table."""
        rows = tuple(
            (
                line.what,
                line.published,
                number(line.reproduced, max(line.printed.decimals + 2, 2)),
                number(line.reproduced - line.printed.value, max(line.printed.decimals + 2, 2)),
                line.kind if line.kind != "exact" else ("yes" if line.agrees else "NO"),
            )
            for line in self.lines
        )
        notes = (f"{self.entry.source}. {self.entry.method}.", *((self.entry.note,) if self.entry.note else ()))
        return Table(
            ("", "published", "reproduced", "distance", "agrees"), rows, title=self.entry.title, footnotes=notes
        )

    def to_html(self) -> str:
        """HTML."""
        return self.table().to_html()

    def to_text(self) -> str:
        """Plain text."""
        return self.table().to_text()

    def to_estimates(self) -> estimates.Estimates:
        """The lines as Estimates."""
        about = estimates.meta(method=self.entry.method, level=None, title=self.entry.title, sentence=self.entry.source)
        return estimates.Estimates(self.to_frame(), about)

    def _column(self, name: str) -> pd.Series:
        frame = self.to_frame()
        return pd.Series(frame[name].to_numpy(), index=pd.Index(frame["quantity"], name="quantity"), name=name)

    def __iter__(self) -> Iterator[Any]:
        return iter((self.published, self.reproduced, self.difference, self.figure))

    def _repr_html_(self) -> str:
        return self.to_html()

    def __repr__(self) -> str:
        return self.to_text()


def interval(
    what: str, published: tuple[str, str, str], values: tuple[float, float, float], kind: str = "exact"
) -> list[Line]:
    """Lines of an estimate with its limits."""
    parts = ("estimate", "lower limit", "upper limit")
    return [Line(f"{what}: {part}", p, v) for part, p, v in zip(parts, published, values, strict=True)]
