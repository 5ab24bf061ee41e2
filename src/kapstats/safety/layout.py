"""The adverse event table as regulators read it: terms down, groups across, n (%)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kapstats._types import FloatArray, IntArray
from kapstats.errors import FormulaError, nearest
from kapstats.table import Table, interval, number

if TYPE_CHECKING:
    from kapstats.safety.incidence import Incidence

ANY = "Any adverse event"
SORTS = ("descending", "alphabetical", "difference")


def layout(
    ae: Incidence,
    *,
    min_percent: float = 0.0,
    sort: str = "descending",
    events: bool = False,
    digits: int = 1,
    title: str | None = None,
    comparison: bool = False,
    method: str = "miettinen-nurminen",
    level: float = 0.95,
) -> Table:
    """One row a term, one column a group: n (%), and the number of events with ``events=True``.

    Parameters
    ----------
    min_percent : keep terms that reach this percentage in at least one group; a wider row stays when a term under it
        stays, and keeps its own count of everybody
    sort : descending (subjects over all groups but the reference), alphabetical, difference (largest minus reference),
        or the name of a group (descending in it). Ties are alphabetical; rows stay under their wider term
    comparison : one more column for every group but the reference: its risk difference in percentage points with the
        interval of `method` at `level`, as `Incidence.compare` gives it; none where there is one group only

    Returns
    -------
    Table whose footnotes state the population, the rule and the order.

    References
    ----------
    FDA (2022), Standard Safety Tables and Figures: Integrated Guide (risk difference beside n and %).
    """
    comparison = comparison and len(ae.arms) > 1
    score, said = _score(ae, sort)
    keys, subjects, n_events = _wide(ae)
    kept = _kept(ae, keys, subjects, min_percent)
    order = [i for i in _ordered(keys, score(subjects), list(ae.terms)) if kept[i]]
    header = ("Adverse event", *(f"{arm} (N={n})" for arm, n in ae.sizes.items()))
    cells = [_cells(ae, keys.iloc[i], subjects[i], n_events[i], events, digits) for i in order]
    if comparison:
        named, columns = differences(ae, method, level, digits)
        header = (*header, *named)
        cells = [(*row, *(column[i] for column in columns)) for row, i in zip(cells, order, strict=True)]
    depth = [_depth(keys.iloc[i], list(ae.terms)) for i in order]
    notes = [
        str(ae.meta.get("sentence", "")),
        said,
        "n (%): subjects with an event, rounded half away from 0.",
    ]
    if comparison:
        notes.append(difference_note(ae.reference, method, level))
    if min_percent > 0:
        notes.append(f"Terms in at least {min_percent:g}% of a group.")
    return Table(
        columns=header,
        rows=tuple(cells),
        title=str(ae.meta.get("title", "")) if title is None else title,
        footnotes=tuple(n for n in (*notes, *ae.warnings) if n),
        indent=tuple(depth),
    )


def differences(ae: Incidence, method: str, level: float, digits: int) -> tuple[list[str], list[list[str]]]:
    """Headers and cells of the risk differences, one column a group but the reference, rows as in the frame of `ae`."""
    found = ae.compare(method, level=level).frame
    names = list(dict.fromkeys(found["contrast"]))
    columns = [difference_cells(found[found["contrast"] == name], digits) for name in names]
    return [difference_header(name, level) for name in names], columns


def difference_header(contrast: str, level: float) -> str:
    """What stands over a column of risk differences."""
    return f"{contrast}, points ({100 * level:g}% CI)"


def difference_note(reference: Any, method: str, level: float) -> str:
    """The footnote of columns of risk differences."""
    return f"Risk difference against {reference} in percentage points, {100 * level:g}% interval: {method}."


def points(x1: int, n1: int, x2: int, n2: int) -> float:
    """100 (x1/n1 - x2/n2) by one division."""
    return 100 * (x1 * n2 - x2 * n1) / (n1 * n2)


def difference_cells(found: pd.DataFrame, digits: int) -> list[str]:
    """Risk differences of x1/n1 and x2/n2 as text in percentage points with their limits; "NE" where there is none.

    It comes from whole numbers by one division: 23/80 - 0/80 is 28.75 points and prints as its parts do.
    """
    low, high = (100 * found[c].to_numpy(dtype=float) for c in ("conf_low", "conf_high"))
    counts = found[["x1", "n1", "x2", "n2"]].to_numpy(dtype=np.int64).tolist()
    return [
        f"{number(points(x1, n1, x2, n2), digits)} {interval(a, b, digits)}" if n1 and n2 else "NE"
        for (x1, n1, x2, n2), a, b in zip(counts, low, high, strict=True)
    ]


def _wide(ae: Incidence) -> tuple[pd.DataFrame, IntArray, IntArray]:
    """Row keys, and (rows, groups) subjects and events."""
    n = len(ae.arms)
    keys = ae.frame[["level", *ae.terms]].iloc[::n].reset_index(drop=True)
    shape = (len(keys), n)
    return keys, ae.frame["n_subjects"].to_numpy().reshape(shape), ae.frame["n_events"].to_numpy().reshape(shape)


def _score(ae: Incidence, sort: str) -> tuple[Any, str]:
    """How rows are ranked (larger first) and the sentence that says so."""
    reference = ae.arms.index(ae.reference)
    others = [i for i in range(len(ae.arms)) if i != reference] or [reference]
    size = np.maximum(ae.records.size, 1)
    if sort == "alphabetical":
        return lambda s: np.zeros(len(s)), "Terms in alphabetical order."
    if sort == "descending":
        names = ", ".join(str(ae.arms[i]) for i in others)
        return lambda s: s[:, others].sum(axis=1), f"Terms by descending number of subjects in: {names}."
    if sort == "difference":
        text = f"Terms by the largest difference of percentages against {ae.reference}."
        return lambda s: (s[:, others] / size[others] - s[:, [reference]] / size[reference]).max(axis=1), text
    named = [i for i, arm in enumerate(ae.arms) if str(arm) == str(sort)]
    if not named:
        known = [*SORTS, *map(str, ae.arms)]
        raise FormulaError(f"sort={sort!r} is not known.{nearest(str(sort), known)} Choose one of: {', '.join(known)}.")
    return lambda s: s[:, named[0]], f"Terms by descending number of subjects in {sort}."


def _kept(ae: Incidence, keys: pd.DataFrame, subjects: IntArray, min_percent: float) -> list[bool]:
    """Leaves that reach the threshold, and every wider row above one of them."""
    reach = (100 * subjects / np.maximum(ae.records.size, 1)).max(axis=1) >= min_percent
    if not ae.terms:
        return [True] * len(keys)
    leaf = (keys[ae.terms[-1]] != "").to_numpy()
    branches = set()
    for i in np.flatnonzero(leaf & reach):
        path = tuple(keys.iloc[i][list(ae.terms)])
        branches |= {path[:depth] for depth in range(len(path))}
    paths = [tuple(v for v in row if v != "") for row in keys[list(ae.terms)].to_numpy(dtype=object)]
    return [bool(reach[i]) if leaf[i] else paths[i] in branches or not paths[i] for i in range(len(keys))]


def _ordered(keys: pd.DataFrame, score: FloatArray, terms: list[str]) -> list[int]:
    """Rows in the order of their paths: each step of a path is ranked by its own score, then by name."""
    paths = [tuple(v for v in row if v != "") for row in keys[terms].to_numpy(dtype=object)]
    own = {path: float(s) for path, s in zip(paths, score, strict=True)}
    group = (keys["level"] == "GROUP").to_numpy()

    def rank(i: int) -> tuple[Any, ...]:
        steps = [paths[i][: depth + 1] for depth in range(len(paths[i]))]
        return (bool(group[i]), *((-own.get(step, 0.0), step[-1]) for step in steps))

    return sorted(range(len(keys)), key=rank)


def _cells(
    ae: Incidence, key: pd.Series, subjects: IntArray, n_events: IntArray, events: bool, digits: int
) -> tuple[str, ...]:
    path = [key[t] for t in ae.terms if key[t] != ""]
    texts = []
    for n, e, size in zip(subjects, n_events, ae.records.size, strict=True):
        percent = f" ({number(100 * n / size, digits)}%)" if n and size else ""
        texts.append(f"{n}{percent}" + (f" [{e}]" if events else ""))
    return (path[-1] if path else str(ae.meta.get("any", ANY)), *texts)


def _depth(key: pd.Series, terms: list[str]) -> int:
    steps = sum(key[t] != "" for t in terms)
    return 0 if key["level"] == "GROUP" else max(0, steps - 1)
