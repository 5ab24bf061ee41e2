"""A descriptive table: its numbers (tidy and as ARD) and its layout."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kapstats import frames
from kapstats._types import FloatArray
from kapstats.estimates import Estimates
from kapstats.table import Table, number, round_half_away

#: how quartiles are defined: SAS's PCTLDEF=5 averages at a step of the distribution function, R's type 7 interpolates
QUANTILES: dict[str, Any] = {"SAS": "averaged_inverted_cdf", "R": "linear"}


@dataclass(frozen=True, repr=False)
class Summary:
    """What a descriptive function returns.

    estimates : one row per variable, level and group, with its numbers unrounded
    layout : the table as it is printed
    """

    estimates: Estimates
    layout: Table

    @property
    def meta(self) -> dict[str, Any]:
        """Title, sentence, conventions, warnings, versions."""
        return self.estimates.meta

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the reader has to know."""
        return self.estimates.warnings

    def to_frame(self) -> Any:
        """The unrounded numbers, one row per variable, level and group."""
        return self.estimates.to_frame()

    def to_ard(self) -> Any:
        """Analysis results data: one row per statistic that exists."""
        long = self.estimates.to_ard()
        return long[long["stat"].notna()].reset_index(drop=True)

    def filter(self, **values: Any) -> Estimates:
        """The numbers where each named column equals the value."""
        return self.estimates.filter(**values)

    def __getitem__(self, column: str) -> pd.Series:
        return self.estimates[column]

    def __len__(self) -> int:
        return len(self.estimates)

    def table(self) -> Table:
        """The table as it is printed."""
        return self.layout

    def to_text(self) -> str:
        """Plain text."""
        return self.layout.to_text()

    def to_markdown(self) -> str:
        """GitHub-flavoured Markdown."""
        return self.layout.to_markdown()

    def to_html(self) -> str:
        """HTML."""
        return self.layout.to_html()

    def to_latex(self) -> str:
        """LaTeX (booktabs)."""
        return self.layout.to_latex()

    def to_rtf(self, path: str | Path) -> Path:
        """Write Rich Text Format."""
        return self.layout.to_rtf(path)

    def to_docx(self, path: str | Path) -> Path:
        """Write a Word file."""
        return self.layout.to_docx(path)

    def _repr_html_(self) -> str:
        return self.to_html()

    def __repr__(self) -> str:
        return self.to_text()


@dataclass(frozen=True)
class Groups:
    """Who is counted in which column of a table.

    names : the groups in order
    rows : per group a mask over the subjects; a total column holds them all
    """

    column: str
    names: tuple[str, ...]
    rows: tuple[np.ndarray, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Subjects per group."""
        return tuple(int(r.sum()) for r in self.rows)

    @property
    def headers(self) -> tuple[str, ...]:
        """Column headers with big N."""
        return tuple(f"{name} (N={size})" for name, size in zip(self.names, self.sizes, strict=True))


def groups(subjects: pd.DataFrame, by: str | None, total: bool) -> Groups:
    """One group per level of `by` in the order of the data standard, then the total."""
    everyone = np.ones(len(subjects), dtype=bool)
    if by is None:
        return Groups("group", ("All subjects",), (everyone,))
    found = natural_levels(subjects, by)
    names = [text(v) for v in found.values]
    rows = [found.codes == i for i in range(len(names))]
    if total:
        names, rows = [*names, "Total"], [*rows, everyone]
    return Groups(by, tuple(names), tuple(rows))


def natural_levels(frame: pd.DataFrame, column: str) -> frames.Levels:
    """Levels as `frames.levels` has them; where only the alphabet would order them, the order of the arms they stand
    for (one route per arm), or of the numbers in them ("<45" before ">=45")."""
    found = frames.levels(frame, column)
    if found.source != "sorted":
        return found
    order = _arm_order(frame, column) or _number_order([str(v) for v in found.values])
    return found if order is None else frames.levels(frame, column, order)


def _arm_order(frame: pd.DataFrame, column: str) -> list[str] | None:
    for arm in ("TRT01P", "TRT01A"):
        if arm not in frame.columns or arm == column:
            continue
        pairs = frame[[arm, column]].dropna().drop_duplicates()
        arms = frames.levels(frame, arm)
        if arms.source != "sorted" and not pairs[arm].duplicated().any() and not pairs[column].duplicated().any():
            return list(pairs.set_index(arm)[column].reindex(list(arms.values)).dropna())
    return None


def _number_order(values: list[str]) -> list[str] | None:
    found = {v: re.search(r"\d+(?:\.\d+)?", v) for v in values}
    if not all(found.values()):
        return None
    sign = {"<": -1, ">": 1, "≤": -1, "≥": 1}
    return sorted(values, key=lambda v: (float(found[v][0]), sign.get(v.strip()[:1], 0), v))  # type: ignore[index]


def text(value: Any) -> str:
    """A level as text; whole numbers without their point."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def describe(values: FloatArray, convention: str) -> dict[str, float]:
    """n, mean, sd, median, quartiles and range of the numbers that are there; NaN where there is none."""
    there = values[~np.isnan(values)]
    names = ("mean", "sd", "median", "q1", "q3", "minimum", "maximum")
    if not len(there):
        return {"n": 0.0, **dict.fromkeys(names, np.nan)}
    q1, median, q3 = np.quantile(there, np.array([0.25, 0.5, 0.75]), method=QUANTILES[convention])
    sd = there.std(ddof=1) if len(there) > 1 else np.nan
    shown = (there.mean(), sd, median, q1, q3, there.min(), there.max())
    return {"n": float(len(there)), **dict(zip(names, map(float, shown), strict=True))}


def decimals(values: pd.Series, most: int = 2) -> int:
    """How many decimals the data have, up to `most`."""
    there = values.dropna().astype(float)
    found = [d for d in range(most) if all(abs(v - round_half_away(v, d)) < 1e-9 for v in there.unique())]
    return found[0] if found else most


def count_percent(n: float, size: float, convention: str = "SAS") -> str:
    """``n (p%)`` with one decimal, rounded half away from zero; ``0`` alone for none.

    Examples
    --------
    >>> count_percent(1, 8), count_percent(0, 8)
    ('1 (12.5%)', '0')
    """
    return f"{int(n)} ({number(100 * n / size, 1)}%)" if n and size else str(int(n))


def moment_rows(stats: Sequence[dict[str, float]], digits: int) -> list[tuple[str, ...]]:
    """The printed rows of a continuous variable; mean and median one decimal more than the data, SD two."""

    def shown(name: str, places: int) -> list[str]:
        return [number(s[name], places) if s["n"] else "" for s in stats]

    def pair(a: str, b: str, places: tuple[int, int], form: str) -> list[str]:
        return [form.format(x, y) if x else "" for x, y in zip(shown(a, places[0]), shown(b, places[1]), strict=True)]

    return [
        ("n", *(str(int(s["n"])) for s in stats)),
        ("Mean (SD)", *pair("mean", "sd", (digits + 1, digits + 2), "{} ({})")),
        ("Median", *shown("median", digits + 1)),
        ("Q1, Q3", *pair("q1", "q3", (digits + 1, digits + 1), "{}, {}")),
        ("Min, Max", *pair("minimum", "maximum", (digits, digits), "{}, {}")),
    ]
