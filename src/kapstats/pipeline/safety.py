"""What did it do to them: adverse events by group and their differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

import kapstats as ks
from kapstats.data.trial import Trial
from kapstats.estimates import Estimates
from kapstats.pipeline.kinds import Incidence
from kapstats.pipeline.select import select
from kapstats.pipeline.truth import with_truth
from kapstats.report.block import Answer, Block, Picture, Result
from kapstats.report.figures.adverse_events import with_event
from kapstats.report.figures.style import name
from kapstats.safety.layout import points
from kapstats.table import Table, interval, number, percent


def block(plan: Incidence, trial: Trial) -> Block:
    """Count and compare as `plan` says."""
    chosen = trial
    if plan.where:
        chosen = trial.with_data(adae=select(trial, plan.dataset, "", plan.where).frame)
    elif plan.dataset != "adae":
        chosen = trial.with_data(adae=getattr(trial, plan.dataset))
    ae = ks.incidence(
        chosen, by=plan.by, terms=list(plan.terms), treatment_emergent=plan.treatment_emergent,
        reference=plan.reference, population=plan.population or None,
    )  # fmt: skip
    counts = _counts(plan, trial, ae)
    if len(ae.arms) == 1:
        return _alone(plan, ae, counts)
    compared = ae.compare(method=plan.method, level=plan.level, adjust="bh")
    against = _against(plan, trial, ae, compared)
    return Block(
        name=plan.name,
        question=plan.question,
        title=plan.title,
        sentence=str(ae.meta.get("sentence", "")),
        answers=(_anyone(counts, ae), *_largest(plan, against, ae)),
        results=(
            Result("counts", Estimates(counts, dict(ae.meta)), _count_table(plan, ae), filterable=True),
            Result("differences", replace(compared, frame=against), _table(plan, counts, against, ae)),
        ),
        pictures=_pictures(plan, counts, against, ae),
        methods=(_how(plan, ae), *plan.notes),
        warnings=tuple(dict.fromkeys([*ae.warnings, *compared.warnings])),
    )


def _alone(plan: Incidence, ae: Any, counts: pd.DataFrame) -> Block:
    """The counts of a trial with one group: there is nothing to compare them with."""
    return Block(
        name=plan.name,
        question=plan.question,
        title=plan.title,
        sentence=str(ae.meta.get("sentence", "")),
        answers=(_anyone(counts, ae),),
        results=(Result("counts", Estimates(counts, dict(ae.meta)), _count_table(plan, ae), filterable=True),),
        methods=("Every subject is counted once per row; denominators are the subjects of ADSL.", *plan.notes),
        warnings=ae.warnings,
    )


def _count_table(plan: Incidence, ae: Any) -> Table:
    made = ae.table(title=plan.title)
    sizes = [f"{name(arm)} (N={n})" for arm, n in ae.sizes.items()]
    return replace(made, columns=(made.columns[0], *sizes))


def _how(plan: Incidence, ae: Any) -> str:
    return (
        f"Every subject is counted once per row; denominators are the subjects of ADSL by {ae.by}. Risk differences to "
        f"{ae.reference} with {100 * plan.level:g}% intervals by {plan.method}; p values adjusted across the terms of "
        "a level by Benjamini and Hochberg (J R Stat Soc B 1995; 57: 289-300) are in the results file."
    )


def arms_of(trial: Trial, by: str) -> dict[str, str]:
    """Group -> planned arm, where they correspond one to one; the truth is known by arm."""
    adsl = trial.adsl
    if "TRT01P" not in adsl.columns or by not in adsl.columns:
        return {}
    pairs = adsl[[by, "TRT01P"]].dropna().drop_duplicates().astype(str)
    single = not pairs[by].duplicated().any() and not pairs["TRT01P"].duplicated().any()
    return dict(zip(pairs[by], pairs["TRT01P"], strict=True)) if single else {}


def _joined(trial: Trial, quantity: str, frame: pd.DataFrame, groups: pd.Series, plan: Incidence) -> pd.DataFrame:
    """`frame` with the truth of its level, terms and group."""
    made = frame.assign(arm=groups.astype(str).map(arms_of(trial, plan.by)))
    keys = {"arm": "TRT01P", "level": "level"} | {c: c for c in plan.terms}
    return with_truth(trial, quantity, made, keys).drop(columns="arm")


def _counts(plan: Incidence, trial: Trial, ae: Any) -> pd.DataFrame:
    limits = ks.proportion(ae.frame["n_subjects"], ae.frame["N"], level=plan.level).frame
    frame = ae.frame.assign(
        conf_low=100 * limits["conf_low"].to_numpy(), conf_high=100 * limits["conf_high"].to_numpy()
    )
    joined = _joined(trial, "incidence", frame, frame[ae.by], plan)
    return joined.assign(truth=100 * joined["truth"]) if "truth" in joined else joined


def _against(plan: Incidence, trial: Trial, ae: Any, compared: Estimates) -> pd.DataFrame:
    names = {f"{arm} - {ae.reference}": arm for arm in ae.arms}
    frame = compared.frame.copy()
    frame.insert(list(frame.columns).index("contrast") + 1, ae.by, frame["contrast"].map(names))
    return _joined(trial, "risk_difference", frame, frame[ae.by], plan)


def _anyone(counts: pd.DataFrame, ae: Any) -> Answer:
    whole = counts[counts["level"] == "ANY"]
    lines = [(str(r[ae.by]), f"{r['n_subjects']} of {r['N']} ({percent(r['percent'])})") for _, r in whole.iterrows()]
    return Answer("Subjects with any adverse event.", tuple(lines))


def _largest(plan: Incidence, against: pd.DataFrame, ae: Any) -> tuple[Answer, ...]:
    """The largest risk difference of every group."""
    narrow = _events(plan, against)
    if narrow["estimate"].isna().all() or not plan.terms:
        return ()
    best = narrow.loc[narrow.groupby(ae.by, sort=False, observed=True)["estimate"].idxmax()]
    lines = [(str(r[ae.by]), f"{r['event']} {_points(r, signed=True)}") for _, r in best.iterrows()]
    terms = narrow["event"].nunique()
    lead = (
        f"Largest difference to {name(ae.reference)}, percentage points: the largest of {terms} terms, intervals not "
        "adjusted for that."
    )
    return (Answer(lead, tuple(lines)),)


def _narrowest(frame: pd.DataFrame) -> str:
    levels = [level for level in frame["level"].drop_duplicates() if level not in ("ANY", "GROUP")]
    return str(levels[-1]) if levels else "ANY"


def _points(row: pd.Series, *, signed: bool = False) -> str:
    estimate, low, high = (100 * float(row[c]) for c in ("estimate", "conf_low", "conf_high"))
    if {"x1", "n1", "x2", "n2"} <= set(row.index) and not np.isnan(estimate):
        estimate = points(*(int(row[c]) for c in ("x1", "n1", "x2", "n2")))
    return f"{'+' * (signed and estimate > 0)}{number(estimate, 1)} {interval(low, high, 1)}"


def _events(plan: Incidence, frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the narrowest terms, with a column ``event`` that names each."""
    own = frame[frame["level"] == _narrowest(frame)].reset_index(drop=True)
    return with_event(own, plan.terms) if plan.terms else own.assign(event="")


def _table(plan: Incidence, counts: pd.DataFrame, against: pd.DataFrame, ae: Any) -> Table:
    """Terms down, groups across: risk difference in points with its interval, the truth in brackets."""
    known = "truth" in against

    def cells(own: pd.DataFrame) -> list[str]:
        return [_points(r) + (f" [{number(100 * r['truth'], 1)}]" if known else "") for _, r in own.iterrows()]

    compared = _events(plan, against)
    rows = [("Any adverse event", *cells(against[against["level"] == "ANY"]))]
    rows += [(event, *cells(compared[compared["event"] == event])) for event in _frequent(plan, counts)]
    columns = ("Adverse event", *(f"{name(arm)} - {name(ae.reference)}" for arm in ae.arms if arm != ae.reference))
    notes = [f"Risk difference in percentage points with {100 * plan.level:g}% interval ({plan.method})."]
    notes += ["In brackets: the true difference in the simulated population."] * known
    notes += [f"Terms in at least {plan.min_percent:g}% of a group."] * (plan.min_percent > 0)
    return Table(columns, tuple(rows), title=f"Differences to {name(ae.reference)}", footnotes=tuple(notes))


def _frequent(plan: Incidence, counts: pd.DataFrame) -> list[str]:
    """Events that reach the threshold in a group, largest percentage first."""
    from kapstats.report.figures.dot import most_frequent

    if not plan.terms:
        return []
    part = _events(plan, counts)
    largest = part.groupby("event", observed=True)["percent"].transform("max")
    return most_frequent(part[largest >= plan.min_percent], "event", "", len(part))


def _pictures(plan: Incidence, counts: pd.DataFrame, against: pd.DataFrame, ae: Any) -> tuple[Picture, ...]:
    from kapstats.report.figures import dot, style, volcano

    terms = _frequent(plan, counts)[: plan.figure_terms]
    if not terms:
        return ()
    shown, compared = _events(plan, counts), _events(plan, against)
    axes = dot.dot(
        shown, compared, term="event", by=ae.by, terms=terms, level=plan.level, reference=str(ae.reference),
        ax=style.blank(7.4, dot.height(len(terms), len(ae.arms))),
    )  # fmt: skip
    title = f"{plan.title}: the {len(terms)} most frequent, with differences to {name(ae.reference)}"
    words = f"{title}, with {100 * plan.level:g}% confidence intervals. {_said(shown, terms[:5], ae)}"
    first = Picture("dots", title, words, style.to_svg(axes, title=title, description=words))
    axes = volcano.volcano(compared, term="event", by=ae.by, p="p_value", ax=style.blank(6.4, 4.0))
    title = f"{plan.title}: which stand out from {name(ae.reference)}"
    words = f"{title}: risk difference against -log10 of the unadjusted p value, one mark per term and group."
    return first, Picture("volcano", title, words, style.to_svg(axes, title=title, description=words))


def _said(shown: pd.DataFrame, events: Sequence[str], ae: Any) -> str:
    parts = []
    for event in events:
        rows = shown[shown["event"] == event]
        parts.append(f"{event}: " + ", ".join(f"{r[ae.by]} {percent(r['percent'])}" for _, r in rows.iterrows()))
    return "; ".join(parts) + "."
