"""Columns under other names than ours: what they may have been meant for."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from kapstats.errors import DataError
from kapstats.evidence.printed import absent, parse

#: columns whose numbers an audit holds against the others of their line
JUDGED = (
    "events", "n", "percent", "mean", "sd", "estimate", "std_error", "conf_low", "conf_high", "p_value", "statistic",
)  # fmt: skip
#: columns that say how the others are to be read
HELPING = ("integer", "minimum", "maximum", "scale", "level", "df", "df1", "test", "side", "adjust", "method")
#: columns that say what a line is about, where it stands, or nothing that is judged
ABOUT = (
    "study", "arm", "term", "period", "outcome", "visit", "population", "note", "source", "checked", "route", "page",
    "id", "row", "line", "claim_id",
)  # fmt: skip

#: names in print and in other software, in lower case without signs -> ours
ALIASES = {
    "conf_low": "ci_low lower ci_lo lcl low ci_lower lower_ci lowerci conf_lower",
    "conf_high": "ci_high upper ci_hi ucl high ci_upper upper_ci upperci conf_upper",
    "conf_low and conf_high": "ci ci95 95ci 95%ci conf_int confidence_interval interval limits",
    "p_value": "p pval p_val pvalue p.value prob pr sig significance",
    "std_error": "se stderr std_err s.e. sem se_estimate standard_error",
    "estimate": "est effect coef beta yi value hr or rr rd md smd",
    "percent": "pct perc percentage prop %",
    "events": "event cases count responders n_events",
    "n": "total size subjects patients n_total sample_size ntot",
    "sd": "std stdev std_dev stddev s.d. standard_deviation",
    "mean": "avg average m",
    "statistic": "stat t z f chisq chi2 t_value z_value test_statistic",
    "study": "trial studlab author slab",
    "treatment": "arm treat trt group",
    "arm": "treatment treat trt group",
    "term": "event_term adverse_event ae preferred_term pt aedecod label",
    "x1": "events1 event1 e1 ai r1 event.e eventse cases1 responders1",
    "n1": "total1 size1 n1i n.e ne subjects1",
    "x2": "events2 event2 e2 ci_events r2 event.c eventsc cases2 responders2",
    "n2": "total2 size2 n2i n.c nc subjects2",
    "x": "events event xi responders cases",
    "mean1": "m1 m1i mean.e", "mean2": "m2 m2i mean.c", "sd1": "sd1i sd.e s1", "sd2": "sd2i sd.c s2",
    "survival": "surv s estimate prob y", "time": "t times month months week weeks day days x",
    "n_risk": "at_risk nrisk n atrisk",
}  # fmt: skip


def meant(name: object, known: Iterable[str]) -> str:
    """The column of `known` that another name may stand for, "" where none is near.

    Examples
    --------
    >>> meant("p", ["p_value", "n"]), meant("Mean", ["mean"]), meant("events1", ["x1"]), meant("colour", ["mean"])
    ('p_value', 'mean', 'x1', '')
    """
    known, plain = list(known), str(name).strip().lower().replace(" ", "_").replace("-", "_")
    lowered = {k.lower(): k for k in known}
    if plain in lowered:
        return lowered[plain]
    for ours, others in ALIASES.items():
        if plain in others.split() and set(ours.split(" and ")) <= set(known):
            return ours
    near = difflib.get_close_matches(plain, lowered, n=1, cutoff=0.75) if len(plain) > 2 else []
    return lowered[near[0]] if near else ""


def hints(columns: Iterable[object], known: Iterable[str]) -> str:
    """ " Is 'events1' x1?" for every column that may stand for one of `known` that is not there."""
    columns, known = [str(c) for c in columns], list(known)
    missing = [k for k in known if k not in columns]
    found = {c: m for c in columns if c not in known and (m := meant(c, missing))}
    return f" Did you mean {', '.join(f'{m} by {c!r}' for c, m in found.items())}?" if found else ""


def require(frame: pd.DataFrame, needed: Iterable[str]) -> None:
    """A DataError that names the columns that are not there, and which ones may have been meant."""
    missing = [c for c in needed if c not in frame.columns]
    if missing:
        has = ", ".join(map(str, frame.columns))
        raise DataError(f"data: no column {', '.join(missing)}.{hints(frame.columns, missing)} It has: {has}.")


@dataclass(frozen=True, slots=True)
class Read:
    """Columns that an audit judged, those that it did not (with what they may have been meant for), and doubts."""

    judged: tuple[str, ...]
    left: tuple[str, ...]
    said: str
    doubts: tuple[str, ...]


def read(frame: pd.DataFrame) -> Read:
    """Which columns of a table of claims are judged; a column of numbers under another name is a doubt."""
    judged = tuple(c for c in JUDGED if c in frame.columns)
    left = [c for c in frame.columns if c not in (*JUDGED, *HELPING, *ABOUT)]
    missing = [c for c in (*JUDGED, *HELPING, "study", "arm", "term") if c not in frame.columns]
    told = {c: f"{c} (did you mean {near}?)" if (near := meant(c, missing)) else str(c) for c in left}
    doubtful = [text for c, text in told.items() if text != str(c) or _holds_numbers(frame[c])]
    said = f"columns judged: {', '.join(judged)}"
    said += f"; not judged: {', '.join(told.values())}." if left else "."
    doubts = (f"Columns that the audit does not know, not judged: {', '.join(doubtful)}.",) if doubtful else ()
    return Read(judged, tuple(map(str, left)), said, doubts)


def _holds_numbers(values: pd.Series) -> bool:
    """Whether most of what a column holds are numbers."""
    there = [v for v in values if not absent(v)]
    return 2 * sum(parse(v) is not None for v in there) > len(there)
