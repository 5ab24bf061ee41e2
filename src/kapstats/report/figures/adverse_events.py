"""Figures of an adverse event analysis: what `Incidence.plot` draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kapstats.errors import DataError, FormulaError, choose
from kapstats.report.figures import (
    benefit_risk,
    butterfly,
    dot,
    forest,
    prevalence,
    severity,
    style,
    timeline,
    volcano,
)

if TYPE_CHECKING:
    from kapstats.safety.incidence import Incidence

KINDS = ("dot", "volcano", "forest", "butterfly", "severity", "timeline", "prevalence", "benefit-risk")


def plot(ae: Incidence, kind: str = "dot", ax: Any = None, **options: Any) -> Any:
    """Draw the narrowest terms of `ae`.

    Parameters
    ----------
    kind : "dot" (percentages and differences), "volcano" (differences against evidence), "forest" (differences),
        "butterfly" (two groups back to back; by default the reference and the last group), "severity" (worst severity,
        stacked), "timeline" (events over days by subject, or of one ``subject=``), "prevalence" (by minutes since dose;
        ``term=``), "benefit-risk" (number needed to treat, by ``benefit=``, and to harm, by ``term=``)
    options : of the figure; ``limit`` is the number of terms drawn, ``method`` that of the comparison

    Notes
    -----
    The numbers drawn: `percentages`, `differences`, `worst`, `episodes` of this module, `Incidence.prevalence` and
    `kapstats.safety.benefit_risk.benefit_risk`.
    """
    choose(kind, KINDS, "kind")
    if kind in _OTHERS:
        return _OTHERS[kind](ae, ax, **options)
    if not ae.terms:
        raise FormulaError("plot: these counts have no terms; give terms=['AEDECOD'] to incidence.")
    compared = {k: options.pop(k) for k in ("method", "reference", "level", "adjust") if k in options}
    if kind == "butterfly":
        first, second = options.pop("groups", (ae.reference, ae.arms[-1]))
        pair, frame = (sized(ae, first), sized(ae, second)), with_sizes(ae, percentages(ae))
        return butterfly.butterfly(frame, groups=pair, term="event", by=ae.by, ax=ax, **options)
    if kind == "dot" and len(ae.arms) == 1:
        return dot.dot(with_sizes(ae, percentages(ae)), term="event", by=ae.by, ax=ax, **options)
    shown = with_sizes(ae, differences(ae, **compared))
    if kind == "dot":
        reference = str(compared.get("reference") or ae.reference)
        frame = with_sizes(ae, percentages(ae))
        return dot.dot(frame, shown, term="event", by=ae.by, reference=reference, ax=ax, **options)
    if kind == "volcano":
        return volcano.volcano(shown, term="event", by=ae.by, ax=ax, **options)
    return _forest(ae, shown, ax, **options)


def sized(ae: Incidence, arm: Any) -> str:
    """A group as figures name it: with the number of its subjects."""
    return f"{style.name(arm)} (N={ae.sizes[arm]})"


def with_sizes(ae: Incidence, frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with its groups named as figures name them."""
    return frame.assign(**{ae.by: frame[ae.by].map({arm: sized(ae, arm) for arm in ae.arms})})


def percentages(ae: Incidence, level: float = 0.95) -> pd.DataFrame:
    """Narrowest terms with percent and Clopper-Pearson limits (0 to 100), groups in their order."""
    from kapstats.safety.proportion import proportion

    frame = with_event(ae.frame[ae.frame["level"] == narrowest(ae)].reset_index(drop=True), ae.terms)
    limits = proportion(frame["n_subjects"], frame["N"], level=level).frame
    return frame.assign(conf_low=100 * limits["conf_low"].to_numpy(), conf_high=100 * limits["conf_high"].to_numpy())


def differences(ae: Incidence, **options: Any) -> pd.DataFrame:
    """Narrowest terms with the risk difference of every group, the group beside its contrast."""
    frame = ae.compare(**options).frame
    frame = frame[frame["level"] == narrowest(ae)].reset_index(drop=True)
    reference = options.get("reference") or ae.reference
    names = {f"{arm} - {reference}": arm for arm in ae.arms}
    return with_event(frame.assign(**{ae.by: frame["contrast"].map(names)}), ae.terms)


def with_event(frame: pd.DataFrame, terms: Sequence[str]) -> pd.DataFrame:
    """`frame` with a column ``event``: the narrowest term, with its wider one where the same stands under several.

    Examples
    --------
    >>> frame = pd.DataFrame({"SOC": ["A", "B", "B"], "PT": ["Rash", "Rash", "Cough"]})
    >>> with_event(frame, ["SOC", "PT"])["event"].tolist()
    ['Rash (A)', 'Rash (B)', 'Cough']
    """
    own = frame[terms[-1]].astype(str)
    if len(terms) < 2:
        return frame.assign(event=own)
    wider = frame[terms[-2]].astype(str)
    several = wider.groupby(own).transform("nunique") > 1
    return frame.assign(event=own.where(~several, own + " (" + wider + ")"))


def worst(ae: Incidence, column: str | None = None) -> tuple[pd.DataFrame, str]:
    """Narrowest terms with the percentage of subjects by worst severity, and the name of its column."""
    found = ae.max_severity(column or ("AESEV" if "AESEV" in ae.records.events else None)).frame
    grade = str(found.columns[list(found.columns).index("n_subjects") - 1])
    frame = found[found["level"] == narrowest(ae)].reset_index(drop=True)
    return with_event(frame, ae.terms) if ae.terms else frame.assign(event="Any adverse event"), grade


def episodes(
    ae: Incidence, *, term: str | None = None, subject: Any = None, limit: int = 20, column: str | None = None
) -> tuple[pd.DataFrame, str | None]:
    """Every event with its start and stop in days since the first dose, and the name of the severity column.

    Parameters
    ----------
    term : only this term
    subject : only this subject, all events in the order of their start; else the `limit` subjects with most events, by
        group
    column : severity; by default ASEVN, AESEV ..., whichever is there
    """
    from kapstats.safety.follow_up import days_of_events, rows_of
    from kapstats.safety.severity import COLUMNS

    records = ae.records
    rows = rows_of(ae, term)
    start, stop, last = days_of_events(ae)
    who = records.subject[rows]
    frame = pd.DataFrame({"USUBJID": records.subjects["USUBJID"].to_numpy()[who], "start": start[rows]})
    frame["stop"], frame["follow_up"] = stop[rows], last[who]
    frame[ae.by] = np.array(records.arms, dtype=object)[records.arm[who]]
    frame["event"] = records.events[ae.terms[-1]].astype(str).to_numpy()[rows] if ae.terms else "Adverse event"
    grade = column or next((c for c in COLUMNS if c in records.events), None)
    if grade is not None:
        frame[grade] = records.events[grade].to_numpy()[rows]
    frame = frame[frame["start"].notna()]
    if subject is not None:
        return frame[frame["USUBJID"] == subject].sort_values(["start", "event"], ignore_index=True), grade
    count = frame["USUBJID"].value_counts()
    most = sorted(count.index, key=lambda s: (-count[s], str(s)))[:limit]
    arm = {a: i for i, a in enumerate(records.arms)}
    order = frame[ae.by].map(arm)
    chosen = frame.assign(_arm=order)[frame["USUBJID"].isin(most)].sort_values(["_arm", "USUBJID", "start"])
    return chosen.drop(columns="_arm").reset_index(drop=True), grade


def _severity(ae: Incidence, ax: Any, *, column: str | None = None, **options: Any) -> Any:
    frame, grade = worst(ae, column)
    frame = with_sizes(ae, frame)
    return severity.severity(frame, grade=grade, term="event", by=ae.by, ax=ax, **options)


def _timeline(ae: Incidence, ax: Any, *, subject: Any = None, **options: Any) -> Any:
    chosen = {k: options.pop(k) for k in ("term", "limit", "column") if k in options}
    frame, grade = episodes(ae, subject=subject, **chosen)
    if frame.empty:
        raise DataError(f"timeline: no event with a known start{'' if subject is None else f' of {subject!r}'}.")
    row = "USUBJID" if subject is None else "event"
    return timeline.timeline(with_sizes(ae, frame), row=row, by=ae.by, grade=grade, ax=ax, **options)


def _prevalence(ae: Incidence, ax: Any, *, term: str | None = None, **options: Any) -> Any:
    asked = {k: options.pop(k) for k in ("minutes", "session", "method", "level") if k in options}
    found = ae.prevalence(term, **({"minutes": tuple(range(0, 241, 10))} | asked))
    shown: dict[str, Any] = {"event": term or "an event", "level": float(found.meta["level"] or 0.95)} | options
    return prevalence.prevalence(with_sizes(ae, found.frame), group=ae.by, ax=ax, **shown)


def _benefit_risk(ae: Incidence, ax: Any, *, benefit: Any = None, term: str | None = None, **options: Any) -> Any:
    from kapstats.safety.benefit_risk import benefit_risk as numbers

    if benefit is None:
        raise FormulaError("benefit-risk: give benefit= an ADSL flag such as 'RESPFL', or risk differences.")
    asked = {k: options.pop(k) for k in ("method", "level") if k in options}
    found = numbers(ae, benefit, term, **asked)
    words: dict[str, Any] = {"harm": term or "adverse event", "level": float(found.meta["level"] or 0.95)} | options
    return benefit_risk.benefit_risk(with_sizes(ae, found.frame), by=ae.by, ax=ax, **words)


_OTHERS: dict[str, Callable[..., Any]] = {
    "severity": _severity,
    "timeline": _timeline,
    "prevalence": _prevalence,
    "benefit-risk": _benefit_risk,
}


def narrowest(ae: Incidence) -> str:
    """The level of the narrowest terms (PT where there are two columns)."""
    levels = [level for level in ae.frame["level"].drop_duplicates() if level not in ("ANY", "GROUP")]
    return str(levels[-1]) if levels else "ANY"


@style.house
def _forest(ae: Incidence, shown: pd.DataFrame, ax: Any, *, limit: int = 8, **options: Any) -> Any:
    rows = dot.most_frequent(percentages(ae), "event", ae.by, limit)
    part = shown[shown["event"].isin(rows)]
    part = part.assign(**{c: 100 * part[c] for c in ("estimate", "conf_low", "conf_high")})
    names = {f"{a} - {b}": f"{style.name(a)} - {style.name(b)}" for a in ae.arms for b in ae.arms}
    part["contrast"] = part["contrast"].map(names)
    part = part.sort_values("event", key=lambda s: s.map({r: i for i, r in enumerate(rows)}), kind="stable")
    panel = "event"
    ax = style.axes(ax, 4.6, forest.height(part, panel))
    return forest.forest(part, panel=panel, xlabel="Risk difference, points", ax=ax, **options)
