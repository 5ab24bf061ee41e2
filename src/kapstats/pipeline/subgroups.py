"""Does the effect differ between subgroups: effects within levels, and one test of interaction per factor."""

from __future__ import annotations

import math

import pandas as pd

import kapstats as ks
from kapstats import frames
from kapstats.data.trial import Trial
from kapstats.errors import DataError, first_ids
from kapstats.pipeline.kinds import Subgroups
from kapstats.pipeline.select import select
from kapstats.report.block import Answer, Block, Picture, Result
from kapstats.table import Table, interval, number, p_value


def block(plan: Subgroups, trial: Trial) -> Block:
    """The effects that `plan` asks for, and how strongly each factor modifies them."""
    columns = (plan.by, *plan.factors, *plan.covariates)
    rows = select(trial, plan.dataset, plan.population, plan.where, joined=columns)
    _one_row_per_subject(rows.frame, plan)
    made = ks.subgroups(
        rows.frame, plan.response, by=plan.by, factors=plan.factors, reference=plan.reference,
        covariates=plan.covariates, measure=plan.measure, level=plan.level,
    )  # fmt: skip
    return Block(
        name=plan.name,
        question=plan.question,
        title=plan.title,
        sentence=_capital(str(made.meta.get("sentence", ""))),
        answers=(_answer(plan, made.frame),),
        results=(Result("subgroups", made, _table(plan, made.frame, _names(trial))),),
        pictures=(_picture(plan, made),),
        methods=("Rows: " + "; ".join(rows.steps) + ".", *plan.notes),
        warnings=made.warnings,
    )


def _one_row_per_subject(frame: pd.DataFrame, plan: Subgroups) -> None:
    frames.require(frame, ["USUBJID"], plan.dataset.upper())
    again = frame.loc[frame["USUBJID"].duplicated(), "USUBJID"]
    if len(again):
        raise DataError(
            f"{plan.dataset.upper()}: {again.nunique()} subjects have several rows left ({first_ids(again)}). "
            "Subgroups need one row per subject: choose parameter and visit by `where`."
        )


def _tests(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.drop_duplicates(["contrast", "factor"]).dropna(subset=["interaction_p_value"])


def _answer(plan: Subgroups, frame: pd.DataFrame) -> Answer:
    several = frame["contrast"].nunique() > 1
    lines = tuple(
        (f"{r['factor']}, {r['contrast']}" if several else str(r["factor"]), f"p {p_value(r['interaction_p_value'])}")
        for _, r in _tests(frame).iterrows()
    )
    return Answer("Test of interaction by factor, not adjusted for their number.", lines)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _names(trial: Trial) -> dict[str, str]:
    """Labels of the variables, those of ADSL first."""
    return {k: v for name in (*trial.labels, "adsl") for k, v in trial.labels.get(name, {}).items() if v}


def _table(plan: Subgroups, frame: pd.DataFrame, names: dict[str, str]) -> Table:
    """Factors as headings, their levels under them, one line per contrast."""
    natural = plan.measure == "OR"
    scale = 100 if plan.measure == "RD" else 1
    name = {"difference": "Difference", "RD": "Risk difference, points", "OR": "Odds ratio"}[plan.measure]
    several = frame["contrast"].nunique() > 1
    lines: list[tuple[str, ...]] = []
    indent: list[int] = []
    for (contrast, factor), part in frame.groupby(["contrast", "factor"], sort=False, observed=True):
        tested = part["interaction_p_value"].iloc[0]
        called = names.get(str(factor), str(factor))
        head = f"{called} ({contrast})" if several else called
        if len(part) > 1 or tested == tested:
            lines.append((head, "", "", "", "", p_value(tested) if tested == tested else "NE"))
            indent.append(0)
        for _, r in part.iterrows():
            alone = len(part) == 1 and tested != tested
            label = head if alone else str(r["subgroup"])
            values = [scale * _natural(float(r[c]), natural) for c in ("estimate", "conf_low", "conf_high")]
            counts = (str(int(r["n_active"])), str(int(r["n_reference"])))
            lines.append((label, *counts, number(values[0], 2), interval(values[1], values[2], 2), ""))
            indent.append(0 if alone else 1)
    ci = f"{100 * plan.level:g}% CI"
    columns = ("", "n active", "n reference", name, ci, "p of interaction")
    note = (
        "Intervals and tests are not adjusted for their number; a test of interaction, not an interval that excludes "
    )
    note += "no effect, speaks to a difference between levels."
    return Table(columns, tuple(lines), title=plan.title, footnotes=(note,), indent=tuple(indent))


def _natural(value: float, natural: bool) -> float:
    """`value` of the log scale as a ratio where the table shows ratios."""
    return math.exp(value) if natural and value == value else value


def _picture(plan: Subgroups, made: ks.Estimates) -> Picture:
    from kapstats.report.figures import style

    axes = made.plot()
    title = f"{plan.label}: effect by subgroup"
    words = f"{title}, with {100 * plan.level:g}% confidence intervals. The numbers are in the table below."
    return Picture("subgroups", title, words, style.to_svg(axes, title=title, description=words))
