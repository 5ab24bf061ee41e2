"""The overview of adverse events that opens a safety section: any, related, severe, serious, discontinued, fatal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kapstats import estimates
from kapstats._types import BoolArray
from kapstats.data.conventions import capitals, in_words
from kapstats.data.flags import is_yes
from kapstats.errors import choose, first_ids, warn
from kapstats.estimates import Estimates
from kapstats.kernels.distinct_counts import distinct_counts
from kapstats.safety import rows
from kapstats.safety import two_by_two as pairs

if TYPE_CHECKING:
    from kapstats.safety.incidence import Incidence

RELATED = ("RELATED", "POSSIBLE", "PROBABLE", "DEFINITE", "POSSIBLY RELATED", "PROBABLY RELATED", "Y", "YES")


UNRELATED = (
    "", "N", "NO", "NONE", "REMOTE", "NOT RELATED", "UNRELATED", "UNLIKELY", "UNLIKELY RELATED", "NOT SUSPECTED",
    "NOT APPLICABLE",
)  # fmt: skip
SEVERE = ("SEVERE", "LIFE THREATENING", "FATAL", "3", "4", "5")
NOT_SEVERE = ("", "MILD", "MODERATE", "1", "2")


def overview(ae: Incidence, *, method: str = "miettinen-nurminen", level: float = 0.95) -> Estimates:
    """Count subjects by kind of event, with the risk difference of every group against the reference.

    Rows: any event; related (AEREL); severe (AESEV SEVERE or grade 3 and above); serious (AESER); leading to
    discontinuation (AEACN DRUG WITHDRAWN or DISCONTINUED); fatal (AEOUT FATAL or AESDTH). A kind whose variables ADAE
    lacks, or never fills in, is left out, and said. A missing relationship counts as related.

    Returns
    -------
    Estimates with kind, the group, n_subjects, n_events, N, percent and, for groups other than the reference,
    contrast, estimate, conf_low, conf_high.

    References
    ----------
    FDA (2022), Standard Safety Tables and Figures: Integrated Guide, table 7.
    """
    every = kinds_of(ae.records.events)
    kinds = {name: mask for name, mask in every.items() if mask is not None}
    absent = [name for name, mask in every.items() if mask is None]
    choose(method, pairs.DIFFERENCE, "method")
    strange = _strange(ae.records.events)
    tail = rows.check_side("two", level)
    n_arms, size = len(ae.arms), ae.records.size
    parts = []
    for name, mask in kinds.items():
        own = ae.records.subject[mask]
        subjects, events = distinct_counts(np.zeros(own.size, dtype=np.int64), own, ae.records.arm, 1, n_arms)
        parts.append(compared(ae, name, subjects[0], events[0], size, method, tail))
    said = f"not in ADAE: {', '.join(absent)}" if absent else "all kinds are there"
    frame = pd.concat(parts, ignore_index=True)
    description = estimates.meta(
        method=method,
        level=level,
        title=f"Overview of adverse events by {in_words(ae.by)}",
        sentence="; ".join(["Subjects counted once per row", said, *ae.records.notes]),
        warnings=(*ae.warnings, *strange),
        data=ae.records.fingerprint(),
        frame_kind=ae.records.kind,
    )
    return Estimates(frame, description)


def compared(
    ae: Incidence, kind: str, subjects: np.ndarray, events: np.ndarray, size: np.ndarray, method: str, tail: float
) -> pd.DataFrame:
    """One row a group: its counts, and the risk difference against the reference."""
    base = ae.arms.index(ae.reference)
    x, n = subjects.astype(float), size.astype(float)
    table = (x, n, np.full_like(x, x[base]), np.full_like(x, n[base]))
    columns = pairs.columns_of("risk-difference", method, table, tail, "two")
    other = np.arange(x.size) != base
    differences = {c: np.where(other, columns[c], np.nan) for c in ("estimate", "conf_low", "conf_high")}
    return pd.DataFrame(
        {
            "kind": kind,
            ae.by: np.array(ae.arms, dtype=object),
            "n_subjects": subjects,
            "n_events": events,
            "N": size,
            "percent": 100 * x / n,
            "contrast": [f"{arm} - {ae.reference}" if o else "" for arm, o in zip(ae.arms, other, strict=True)],
            **differences,
        }
    )


def kinds_of(events: pd.DataFrame) -> dict[str, BoolArray | None]:
    """Which records are of which kind; None where the variables that say so are not there."""
    return {
        "any event": np.ones(len(events), dtype=bool),
        "related": _among(events, "AEREL", RELATED, missing=True),
        "severe": _severe(events),
        "serious": _flag(events, "AESER"),
        "leading to discontinuation": _among(events, "AEACN", ("DRUG WITHDRAWN", "DRUG DISCONTINUED", "DISCONTINUED")),
        "fatal": _either(_among(events, "AEOUT", ("FATAL",)), _flag(events, "AESDTH")),
    }


def _among(events: pd.DataFrame, column: str, words: tuple[str, ...], missing: bool = False) -> BoolArray | None:
    if column not in events.columns:
        return None
    text = _words(events[column])
    if not missing and len(text) and (text == "").all():
        return None  # never filled in: nothing can be said, which is not nobody
    return (text.isin(words) | (missing & (text == ""))).to_numpy(dtype=bool)


def _words(values: pd.Series) -> pd.Series:
    """The texts in capitals; 3.0 and Grade 3 are 3."""
    return capitals(values).str.replace(r"^(?:GRADE\s*)?(\d)(?:\.0)?$", r"\1", regex=True)


def _flag(events: pd.DataFrame, column: str) -> BoolArray | None:
    return is_yes(events[column], f"ADAE.{column}", events["USUBJID"]) if column in events.columns else None


def _severe(events: pd.DataFrame) -> BoolArray | None:
    return _either(*(_among(events, column, SEVERE) for column in ("AESEV", "ASEV", "AETOXGR")))


def _strange(events: pd.DataFrame) -> list[str]:
    """Warnings for words of relationship and severity that are none of the known ones."""
    known = {"AEREL": (*RELATED, *UNRELATED), **dict.fromkeys(("AESEV", "ASEV", "AETOXGR"), (*SEVERE, *NOT_SEVERE))}
    said = []
    for column in (c for c in known if c in events.columns):
        words = _words(events[column])
        odd = ~words.isin(known[column])
        if odd.any():
            rule = "not related" if column == "AEREL" else "not severe"
            text = f"{column}: {int(odd.sum())} records hold words that are not known ({first_ids(words[odd])})"
            said.append(warn(f"{text}, counted as {rule}. Recode them where they mean something else."))
    return said


def _either(*masks: BoolArray | None) -> BoolArray | None:
    there = [mask for mask in masks if mask is not None]
    return np.logical_or.reduce(there) if there else None
