"""What is wrong or doubtful in the data of a trial; nothing is repaired."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd

from kapstats import estimates
from kapstats.data.rules import RULES, Rule
from kapstats.errors import first_ids

if TYPE_CHECKING:
    from kapstats.data.trial import Trial

SEVERITIES = ("error", "warning", "note")
NUMBERS = ("AVAL", "BASE", "CHG", "PCHG", "AVISITN", "ADY", "START", "STOP", "LEFT", "RIGHT")
#: rules about a dataset as a whole, not about rows of it
OF_DATASETS = ("required-variable", "no-rows")
#: the rule about the type of a column
OF_TYPES = "not-a-number"
COLUMNS = ("severity", "dataset", "variable", "rule", "rows", "first_ids", "finding")


def check(trial: Trial, only: Iterable[str] | None = None) -> estimates.Estimates:
    """Findings in the data of `trial`: errors first.

    Every rule says what must hold (docs/methods/checks); a finding is a rule that some rows break. A dataset is judged
    by what it is: ADSL, times to events (it has CNSR, or is called ADTTE), adverse events, assessments over visits.

    Parameters
    ----------
    only : names of the datasets to judge; all by default

    Returns
    -------
    Estimates
        One row per finding: severity (error: an analysis would be wrong; warning: look at it; note), dataset,
        variable, rule, rows (how many), first_ids (the first subjects), finding. ``.meta["errors"]`` counts errors.

    Examples
    --------
    >>> from kapstats.data.trial import Trial
    >>> adsl = {"USUBJID": ["1", "2"], "TRT01P": ["KAP", "KAP"], "SAFFL": ["Y", "yes"]}
    >>> check(Trial(adsl=adsl)).filter(rule="flag-values")["first_ids"].tolist()
    ['2']
    """
    adsl = trial.datasets.get("adsl")
    chosen = trial.datasets if only is None else {k: v for k, v in trial.datasets.items() if k in set(only)}
    held = _distinct(chosen)
    rows = [row for name, frame in held.items() for row in _findings(name, frame, adsl)]
    rows.sort(key=lambda row: SEVERITIES.index(row["severity"]))
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    counts = {s: sum(row["severity"] == s for row in rows) for s in SEVERITIES}
    said = ", ".join(f"{n} {s}{'s' if n != 1 else ''}" for s, n in counts.items())
    description = estimates.meta(
        method="data checks",
        level=None,
        title="Data checks",
        sentence=f"{len(RULES)} rules over {len(held)} datasets: {said}.",
        errors=counts["error"],
        data=trial.name,
    )
    return estimates.Estimates(frame, description)


def kind_of(name: str, frame: pd.DataFrame) -> str:
    """Which rules are for this dataset, besides those for every one."""
    columns = set(frame.columns)
    if name == "adsl":
        return "subjects"
    if name == "adtte" or "CNSR" in columns:
        return "times"
    if name == "adae" or "AEDECOD" in columns:
        return "adverse events"
    return "assessments" if "AVAL" in columns or name == "adqs" else "other"


def _distinct(datasets: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The datasets without those that are another one under a second name."""
    kept: dict[str, pd.DataFrame] = {}
    for name, frame in datasets.items():
        if not any(frame.shape == other.shape and frame.equals(other) for other in kept.values()):
            kept[name] = frame
    return kept


def _findings(name: str, frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[dict[str, Any]]:
    kinds = ("every", kind_of(name, frame))
    compared = None if name == "adsl" else adsl
    judged = _with_numbers(frame)
    for rule in RULES:
        if rule.kind in kinds and set(rule.needs) <= set(frame.columns):
            yield from _judge(rule, name, frame if rule.name == OF_TYPES else judged, compared)


def _with_numbers(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with the numbers in its text columns as numbers, so that one text hides no other fault."""
    texts = [c for c in NUMBERS if c in frame.columns and not pd.api.types.is_numeric_dtype(frame[c].dtype)]
    return frame.assign(**{c: pd.to_numeric(frame[c], errors="coerce") for c in texts}) if texts else frame


def _judge(rule: Rule, name: str, frame: pd.DataFrame, adsl: pd.DataFrame | None) -> Iterator[dict[str, Any]]:
    for hit in rule.check(frame, adsl):
        if hit.rows.any() or rule.name in OF_DATASETS:
            ids = frame.loc[hit.rows, "USUBJID"] if "USUBJID" in frame.columns else frame.index[hit.rows].to_series()
            numbered = ids.index.to_series().map(lambda i: f"row {i + 1}")
            ids = ids.astype("object").where(ids.notna(), numbered)
            yield {
                "severity": rule.severity,
                "dataset": name.upper(),
                "variable": hit.variable,
                "rule": rule.name,
                "rows": int(hit.rows.sum()),
                "first_ids": first_ids(ids, 3),
                "finding": hit.seen,
            }
