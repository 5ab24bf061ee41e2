"""What descriptive tables share: groups of subjects, counts and moments of a variable, and how they are printed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from kapstats import estimates, frames
from kapstats._types import FloatArray
from kapstats.data import conventions
from kapstats.data.summary import Summary
from kapstats.data.trial import Trial
from kapstats.table import ROUNDINGS, Table, number, round_half_away

Cells = list[tuple[str, ...]]
#: how quartiles are defined: SAS's PCTLDEF=5 averages at a step of the distribution function, R's type 7 interpolates
QUANTILES: dict[str, Any] = {"SAS": "averaged_inverted_cdf", "R": "linear"}


@dataclass(frozen=True)
class Groups:
    """Who is counted in which column of a table.

    names : the groups in order
    rows : per group a mask over the subjects; a total column holds them all
    total : whether the last column holds all subjects
    """

    column: str
    names: tuple[str, ...]
    rows: tuple[np.ndarray, ...]
    total: bool

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
        return Groups("group", ("All subjects",), (everyone,), True)
    found = natural_levels(subjects, by)
    frames.warn_similar({by: found})
    names = [text(v) for v in found.values]
    rows = [found.codes == i for i in range(len(names))]
    if total:
        names, rows = [*names, "All subjects" if "Total" in names else "Total"], [*rows, everyone]
    return Groups(by, tuple(names), tuple(rows), total)


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
    """``n (p%)`` with one decimal, rounded as `convention` says; ``0`` alone for none.

    Examples
    --------
    >>> count_percent(1, 16), count_percent(1, 16, "R"), count_percent(0, 8)
    ('1 (6.3%)', '1 (6.2%)', '0')
    """
    return f"{int(n)} ({number(100 * n / size, 1, convention)}%)" if n and size else str(int(n))


def moment_rows(stats: Sequence[dict[str, float]], digits: int, convention: str = "SAS") -> list[tuple[str, ...]]:
    """The printed rows of a continuous variable; mean and median one decimal more than the data, SD two."""

    def shown(name: str, places: int) -> list[str]:
        return [number(s[name], places, convention) if s["n"] else "" for s in stats]

    def pair(a: str, b: str, places: tuple[int, int], form: str) -> list[str]:
        return [form.format(x, y) if x else "" for x, y in zip(shown(a, places[0]), shown(b, places[1]), strict=True)]

    return [
        ("n", *(str(int(s["n"])) for s in stats)),
        ("Mean (SD)", *pair("mean", "sd", (digits + 1, digits + 2), "{} ({})")),
        ("Median", *shown("median", digits + 1)),
        ("Q1, Q3", *pair("q1", "q3", (digits + 1, digits + 1), "{}, {}")),
        ("Min, Max", *pair("minimum", "maximum", (digits, digits), "{}, {}")),
    ]


def number_rows(
    subjects: pd.DataFrame, name: str, columns: Groups, convention: str
) -> tuple[list[dict[str, Any]], Cells]:
    """Numbers and printed rows of a continuous variable."""
    values = frames.numbers(subjects, name, "ADSL")
    stats = [describe(values[rows], convention) for rows in columns.rows]
    made = [
        {"variable": name, "level": None, columns.column: group, "N": float(size), **s}
        for group, size, s in zip(columns.names, columns.sizes, stats, strict=True)
    ]
    return made, moment_rows(stats, decimals(subjects[name]), convention)


def level_rows(
    subjects: pd.DataFrame, name: str, columns: Groups, denominator: str, convention: str
) -> tuple[list[dict[str, Any]], Cells]:
    """Numbers and printed rows of a categorical variable, missing values as a level of their own."""
    if pd.api.types.is_datetime64_any_dtype(subjects[name].dtype):
        subjects = subjects.assign(**{name: subjects[name].dt.strftime("%Y-%m-%d")})
    found = natural_levels(subjects, name)
    names, codes = [text(v) for v in found.values], found.codes
    if (codes < 0).any():
        names, codes = [*names, "Missing"], np.where(codes < 0, len(names), codes)
    made, cells = [], []
    for i, level in enumerate(names):
        line = [level]
        for group, rows, size in zip(columns.names, columns.rows, columns.sizes, strict=True):
            n = int((rows & (codes == i)).sum())
            of = size if denominator == "N" else int((rows & (found.codes >= 0)).sum())
            percent = np.nan if level == "Missing" and denominator == "n" else share(n, of)
            made.append(
                {"variable": name, "level": level, columns.column: group, "N": size, "n": n, "percent": percent}
            )
            line.append(count_percent(n, of, convention) if percent == percent else str(n))
        cells.append(tuple(line))
    return made, cells


def share(n: float, size: float) -> float:
    """Percent that `n` is of `size`; NaN of nobody."""
    return 100 * n / size if size else np.nan


def who(trial: Any, columns: Groups) -> str:
    """How many subjects a table is about, of which population, and how many of them are in no group."""
    grouped = np.any(columns.rows[:-1] if columns.total and len(columns.rows) > 1 else columns.rows, axis=0)
    size = columns.sizes[-1] if columns.total else sum(columns.sizes)
    named = [conventions.population(flag) for flag in trial.populations] if isinstance(trial, Trial) else []
    inside = f" in {' and '.join(named)}" if named else ""
    absent = int((~grouped).sum())
    where = "in the total alone" if columns.total else "left out"
    return f"{size} subjects{inside}" + (f"; {absent} without {columns.column} are {where}." if absent else ".")


def summarise(
    rows: list[dict[str, Any]],
    printed: Cells,
    indent: list[int],
    columns: Groups,
    title: str,
    sentence: str,
    notes: list[str],
    subjects: pd.DataFrame,
    convention: str,
) -> Summary:
    """The `Summary` of rows of numbers and rows of texts."""
    order = ["section", "variable", "level", columns.column, "N", "n", "percent"]
    frame = pd.DataFrame(rows)
    first = [c for c in order if c in frame.columns]
    frame = frame[[*first, *(c for c in frame.columns if c not in first)]]
    numeric = [c for c in frame.columns if c not in ("section", "variable", "level", columns.column)]
    frame = frame.assign(**{c: frame[c].astype(float) for c in numeric})
    rounding = ROUNDINGS[convention]
    about = estimates.meta(
        method="description", level=None, title=title, sentence=sentence, conventions=(*notes, rounding), data=subjects
    )
    table = Table(
        columns=("", *columns.headers),
        rows=tuple(printed),
        title=title,
        footnotes=(sentence, *notes, rounding),
        indent=tuple(indent),
    )
    return Summary(estimates.Estimates(frame, about), table)
