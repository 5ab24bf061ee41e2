"""Which lines belong together, which stand twice, and which are missing."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from kapstats.evidence.checks.finding import Finding, Line
from kapstats.evidence.checks.inference import IDENTITY, RATIOS
from kapstats.evidence.columns import JUDGED
from kapstats.evidence.printed import absent, parse

#: columns of numbers, remarks and line numbers: they do not say what a line is about
NOT_KEYS = {
    *JUDGED,
    *("integer", "minimum", "maximum", "df", "df1", "level", "test"),
    *("pct", "se", "ci_lo", "ci_hi", "ci_low", "ci_high", "ci_level", "p"),
    *("note", "source", "checked", "route", "page", "id", "row", "line", "claim_id"),
}


def keys(frame: pd.DataFrame) -> list[str]:
    """The columns that say what a line is about; `scale` where it names an instrument."""
    return [c for c in frame.columns if str(c) not in NOT_KEYS and not (str(c) == "scale" and _of_limits(frame[c]))]


def _of_limits(scale: pd.Series) -> bool:
    """Whether the column says on which scale limits are symmetric."""
    return bool(scale.dropna().astype(str).str.strip().str.lower().isin([*RATIOS, *IDENTITY]).all())


def labels_of(frame: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Key columns as text."""
    return frame[columns].astype("object").where(frame[columns].notna(), "").map(str)


def arms_of_a_term(frame: pd.DataFrame) -> list[list[int]]:
    """Rows of the same study and term in different arms."""
    shared = [c for c in keys(frame) if c != "arm"]
    if "arm" not in frame.columns or not shared:
        return []
    return [list(rows) for rows in labels_of(frame, shared).groupby(shared, sort=False).indices.values()]


def unreadable(i: int, row: Line) -> Iterator[Finding]:
    """Cells where a number belongs and none can be read."""
    for name in JUDGED:
        value = row.get(name)
        if not absent(value) and parse(value) is None:
            yield Finding(i, "unreadable", f"{name}: {value}", math.nan, math.nan, "warning")


def duplicates(frame: pd.DataFrame) -> Iterator[Finding]:
    """A line that stands twice, with the same numbers or others."""
    about = keys(frame)
    if not {"study", "term", "arm"} & set(about):
        return
    labels = labels_of(frame, about)
    for i in np.flatnonzero(labels.duplicated().to_numpy()):
        line = " / ".join(v for v in labels.iloc[i] if v)
        yield Finding(int(i), "duplicate", line, math.nan, math.nan, "error")


def missing(frame: pd.DataFrame) -> Iterator[Finding]:
    """A term without a line for one arm, in a table whose other terms (three or more, and most) have every arm."""
    if not {"arm", "term"} <= set(frame.columns):
        return
    whole = [c for c in keys(frame) if c not in ("arm", "term")]
    labels = labels_of(frame, [*whole, "arm", "term"])
    tables = labels.groupby(whole, sort=False).indices.values() if whole else [np.arange(len(frame))]
    for rows in tables:
        part = labels.iloc[rows]
        arms = list(dict.fromkeys(part["arm"]))
        there = part.groupby("term", sort=False)["arm"].unique()
        lacking = there[there.map(len) < len(arms)]
        complete = len(there) - len(lacking)
        if len(arms) < 2 or complete < 3 or len(lacking) > complete / 3:
            continue
        for term, present in lacking.items():
            absent = ", ".join(a for a in arms if a not in present)
            row = int(rows[np.flatnonzero((part["term"] == term).to_numpy())[0]])
            yield Finding(row, "missing", f"{term}: no line for {absent}", math.nan, math.nan, "warning")
