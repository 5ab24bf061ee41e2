"""What labels say: the numbers in the labels of visits, and labels that look alike."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

NUMBER = re.compile(r"(?:(?<![\w)])-)?\d+(?:\.\d+)?")
#: visits without a number that come before the first, and the number that they stand for
UNNUMBERED = {"screening": -1.0, "screen": -1.0, "scr": -1.0, "baseline": 0.0, "base": 0.0, "bl": 0.0}
#: days in the units of visits
DAYS = {"minute": 1 / 1440, "min": 1 / 1440, "hour": 1 / 24, "hr": 1 / 24, "h": 1 / 24, "day": 1.0, "d": 1.0,
        "week": 7.0, "wk": 7.0, "w": 7.0, "month": 30.4375, "mo": 30.4375, "year": 365.25, "yr": 365.25}  # fmt: skip
WORDS = re.compile(
    r"(?<![a-z])(minute|min|hour|hr|day|week|wk|month|year|yr|visit|baseline|screening|cycle|session|period)s?(?![a-z])"
)
PLURAL = re.compile(r"(minute|hour|day|week|month|year|visit)s(?![a-z])")
VISIT_COLUMN = re.compile(r"visit|week|month|day|time|event_name|atpt|session|cycle|period|wave", re.IGNORECASE)
ARM_COLUMN = re.compile(r"trt|arm|group|treat|route|dose", re.IGNORECASE)


def visit_order(column: str, labels: Sequence[Any]) -> list[Any] | None:
    """The labels of a visit column in the order of their numbers; None when it holds no visits, or not all have one.

    Examples
    --------
    >>> visit_order("AVISIT", ["Week 10", "Baseline", "Week 2"])
    ['Baseline', 'Week 2', 'Week 10']
    >>> visit_order("TRT01P", ["Dose 10", "Dose 2"]) is None
    True
    """
    named = VISIT_COLUMN.search(str(column)) is not None
    texts = [str(v).casefold() for v in labels]
    if not texts or (ARM_COLUMN.match(str(column)) and not named):
        return None
    if not named and not all(WORDS.search(t) for t in texts):
        return None
    found = visit_numbers(labels)
    return None if found is None else [labels[i] for i in np.argsort(found, kind="stable")]


def visit_numbers(labels: Sequence[Any]) -> list[float] | None:
    """The number that each visit label states, screening -1 and baseline 0; None unless all have one of their own.

    Labels that differ in one number only ("Week 2", "Week 10") have that number; other labels need units of time
    ("Day 3", "Week 2") and have days; labels with several numbers that differ have their rank.

    Examples
    --------
    >>> visit_numbers(["Screening", "Baseline", "Week 2", "Week 10"])
    [-1.0, 0.0, 2.0, 10.0]
    >>> visit_numbers(["Day 3", "Week 2"])
    [3.0, 14.0]
    >>> visit_numbers(["Week 2", "End of treatment"]) is None
    True
    """
    texts = [PLURAL.sub(r"\1", re.sub(r"_arm_\d+$", "", str(v).strip().casefold())) for v in labels]
    numbers = [[float(n) for n in NUMBER.findall(t)] for t in texts]
    plain = [_unnumbered(t) if not n else None for t, n in zip(texts, numbers, strict=True)]
    with_number = [i for i, n in enumerate(numbers) if n]
    if any(p is None and not n for p, n in zip(plain, numbers, strict=True)) or not with_number:
        return None
    found = _alike([texts[i] for i in with_number], [numbers[i] for i in with_number])
    if found is None:
        return None
    before = {-1.0: min(*found, 0.0) - 1.0}  # screening comes before a visit at day -7
    made = [0.0 if p is None else before.get(p, p) for p in plain]
    for i, value in zip(with_number, found, strict=True):
        made[i] = value
    return made if len(set(made)) == len(made) else None


def _unnumbered(text: str) -> float | None:
    words = re.findall(r"[a-z]+", text)
    return next((UNNUMBERED[w] for w in words if w in UNNUMBERED), None)


def _alike(texts: list[str], numbers: list[list[float]]) -> list[float] | None:
    """The numbers of labels that are the same text around them, or in days where their units differ."""
    patterns = {NUMBER.sub("#", t) for t in texts}
    if len(patterns) > 1:
        days = [_days(t, n) for t, n in zip(texts, numbers, strict=True)]
        return None if any(d is None for d in days) else [d for d in days if d is not None]
    table = np.array(numbers)
    differs = np.flatnonzero((table != table[0]).any(axis=0))
    if len(differs) <= 1:
        return table[:, differs[0] if len(differs) else -1].tolist()
    return [float(r) for r in np.unique(table[:, differs], axis=0, return_inverse=True)[1].ravel() + 1]


def _days(text: str, numbers: list[float]) -> float | None:
    """The one number of a label in days, when its unit is known."""
    units = [w if w in DAYS else w.removesuffix("s") for w in re.findall(r"[a-z]+", text)]
    known = [u for u in units if u in DAYS]
    return numbers[0] * DAYS[known[0]] if len(numbers) == 1 and len(known) == 1 else None


def level_text(value: Any) -> str:
    """A level as text; whole floats without the point, so that visit 7.0 reads 7.

    Examples
    --------
    >>> level_text(7.0), level_text("KAP")
    ('7', 'KAP')
    """
    return str(int(value)) if isinstance(value, (float, np.floating)) and float(value).is_integer() else str(value)


def python_value(value: Any) -> Any:
    """A NumPy scalar as Python writes it."""
    return value.item() if isinstance(value, np.generic) else value


def similar(labels: Iterable[Any]) -> list[tuple[str, str]]:
    """Pairs of texts (as Python writes them) that differ in case, blanks or invisible characters only."""
    seen: dict[str, str] = {}
    found = []
    for label in labels:
        if isinstance(label, str):
            first = seen.setdefault(folded(label), label)
            if first != label:
                found.append((ascii_or_own(first), ascii_or_own(label)))
    return found


def folded(text: str) -> str:
    """`text` without what the eye does not tell apart: case, blanks, accents' encoding, zero-width characters."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(c for c in plain if unicodedata.category(c) != "Cf").split())


def ascii_or_own(text: str) -> str:
    """How a text is shown beside one that looks like it: characters that are not seen by their code."""
    return repr(text) if text.isascii() else ascii(text)
