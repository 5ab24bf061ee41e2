"""Who took part: baseline, disposition, exposure, and listings of records."""

from __future__ import annotations

from typing import Any

from kapstats.data.baseline import baseline_table
from kapstats.data.disposition import disposition
from kapstats.data.exposure import exposure_table
from kapstats.data.listing import listing
from kapstats.data.summary import Summary
from kapstats.data.trial import Trial
from kapstats.pipeline.kinds import Analysis, Baseline, Disposition, Exposure, Listing
from kapstats.pipeline.select import select
from kapstats.report.block import Answer, Block, Result
from kapstats.table import number, percent

#: section of the report for a listing of each dataset; participants for the others
SECTIONS = {"adae": "safety", "adtte": "relapse", "adqs": "response"}


def block(plan: Analysis, trial: Trial) -> Block:
    """The table that `plan` asks for."""
    chosen = _chosen(plan, trial)
    if isinstance(plan, Baseline):
        variables = list(plan.variables) or None
        options: dict[str, Any] = {"denominator": plan.denominator, "convention": plan.convention}
        return _block(plan, baseline_table(chosen, plan.by, variables, total=plan.total, **options), "baseline")
    if isinstance(plan, Disposition):
        made = disposition(chosen, plan.by, total=plan.total, convention=plan.convention)
        return _block(plan, made, "disposition", _completed(plan, made))
    if isinstance(plan, Exposure):
        made = exposure_table(chosen, plan.by, total=plan.total, convention=plan.convention)
        return _block(plan, made, "exposure", _dosed(plan, made))
    assert isinstance(plan, Listing)
    made = listing(chosen, plan.dataset, plan.columns or None, sort=plan.sort or None, limit=plan.limit or None)
    return _block(plan, made, "listing")


def _chosen(plan: Analysis, trial: Trial) -> Trial:
    """The population of the plan, and the rows of the dataset that its conditions leave."""
    chosen = trial.population(plan.population) if plan.population else trial
    if not plan.where:
        return chosen
    rows = select(chosen, plan.dataset, "", plan.where)
    return chosen.with_data(**{plan.dataset: rows.frame})


def _block(plan: Analysis, made: Summary, name: str, answers: tuple[Answer, ...] = ()) -> Block:
    question = SECTIONS.get(plan.dataset, plan.question) if isinstance(plan, Listing) else plan.question
    return Block(
        name=plan.name,
        question=question,
        title=plan.title,
        sentence=str(made.meta.get("sentence", "")),
        answers=answers,
        results=(Result(name, made.estimates, made.table().with_title(plan.title), name == "listing"),),
        methods=plan.notes,
        warnings=made.warnings,
    )


def _completed(plan: Disposition, made: Summary) -> tuple[Answer, ...]:
    """How many of every arm completed."""
    found = made.filter(section="status", level="Completed").frame
    lines = tuple(
        (str(r[plan.by]), f"{int(r['n'])} of {int(r['N'])} ({percent(r['percent'])})")
        for _, r in found[found[plan.by] != "Total"].iterrows()
    )
    return (Answer("Subjects who completed the study.", lines),)


def _dosed(plan: Exposure, made: Summary) -> tuple[Answer, ...]:
    """The first measure that there is, by arm: mean and SD."""
    first = made.to_frame().iloc[0]["variable"]
    found = made.filter(variable=first).frame
    lines = tuple(
        (str(r[plan.by]), f"{number(r['mean'], 1)} ({number(r['sd'], 2)})")
        for _, r in found[found[plan.by] != "Total"].iterrows()
        if r["n"]
    )
    return (Answer(f"{first}: mean (SD).", lines),)
