"""What happens in the hours after a dose: the mean course by group."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from kapstats import frames
from kapstats.data.trial import Trial
from kapstats.pipeline.kinds import Course
from kapstats.pipeline.safety import arms_of
from kapstats.pipeline.select import select
from kapstats.pipeline.truth import beside
from kapstats.report.block import Answer, Block, Picture, Result
from kapstats.report.figures.style import name
from kapstats.safety.course import acute_course
from kapstats.table import Table, interval, number

#: quantity of the estimate -> words and unit
SUMMARIES = {"peak": "Peak", "time of peak": "Time of peak, min", "time above": "Minutes above {threshold:g}"}


def block(plan: Course, trial: Trial) -> Block:
    """Means by minute and summaries per person, and what they say."""
    rows = select(trial, plan.dataset, plan.population, plan.where, joined=(plan.by,))
    found = acute_course(
        rows.frame, by=plan.by, parameter=plan.parameter, session=plan.session, baseline=plan.baseline,
        threshold=plan.threshold, level=plan.level, order=_groups(plan, trial, rows.frame),
    )  # fmt: skip
    made = replace(found, frame=_with_truth(plan, trial, found.frame))
    return Block(
        name=plan.name,
        question=plan.question,
        title=plan.title,
        sentence=str(found.meta.get("sentence", "")),
        answers=(_answer(plan, made.frame),),
        results=(Result("course", made, _table(plan, made.frame)),),
        pictures=(_picture(plan, made.frame),),
        methods=("Rows: " + "; ".join(rows.steps) + ".", *plan.notes),
        warnings=found.warnings,
    )


def _groups(plan: Course, trial: Trial, frame: pd.DataFrame) -> list[Any]:
    """Groups in the order of the arms, where they correspond to arms; else in their own order."""
    arms = {arm: group for group, arm in arms_of(trial, plan.by).items()}
    if not arms:
        return list(frames.levels(frame, plan.by).values)
    return [arms[str(arm)] for arm in trial.arms if str(arm) in arms and (frame[plan.by] == arms[str(arm)]).any()]


def _with_truth(plan: Course, trial: Trial, frame: pd.DataFrame) -> pd.DataFrame:
    quantity = {("CADSS", False): "cadss_mean", ("SYSBP", True): "sbp_change"}.get((plan.parameter, plan.baseline))
    if quantity is None or not trial.truth:
        return frame
    made = frame.assign(arm=frame[plan.by].astype(str).map(arms_of(trial, plan.by)))
    means = beside(trial, quantity, made, {"arm": "TRT01P", "time": "ATPTN"}, SESSION=plan.session)
    peaks = beside(trial, "cadss_peak", made, {"arm": "TRT01P"}, SESSION=plan.session, PARAMCD=plan.parameter)
    truth = np.full(len(frame), np.nan) if means is None else means
    if peaks is not None:
        truth = np.where(frame["quantity"] == "peak", peaks, truth)
    return frame.assign(truth=truth) if np.isfinite(truth).any() else frame


def _answer(plan: Course, frame: pd.DataFrame) -> Answer:
    peak = frame[frame["quantity"] == "peak"]
    lines = [
        (str(r[plan.by]), f"{number(r['estimate'], 1)} {interval(r['conf_low'], r['conf_high'], 1)}")
        for _, r in peak.iterrows()
    ]
    return Answer(f"Mean peak of the {plan.label} after dose {plan.session} ({100 * plan.level:g}% CI).", tuple(lines))


def _table(plan: Course, frame: pd.DataFrame) -> Table:
    """Groups down; means by minute, then summaries per person, across."""
    known = "truth" in frame
    minutes = list(dict.fromkeys(frame.loc[frame["quantity"] == "mean", "time"]))
    columns = ["", "n", *(f"Mean at {m:g} min" for m in minutes)]
    columns += [words.format(threshold=plan.threshold) for words in SUMMARIES.values()]
    rows = []
    for group in dict.fromkeys(frame[plan.by]):
        own = frame[frame[plan.by] == group]
        means = own[own["quantity"] == "mean"]
        summaries = [own[own["quantity"] == q].iloc[0] for q in SUMMARIES]
        cells = [_cell(r, known) for r in [*(r for _, r in means.iterrows()), *summaries]]
        rows.append((name(group), str(int(means["n"].max())), *cells))
    notes = [f"Means with {100 * plan.level:g}% limits; the summaries are means over people of their own course."]
    notes += ["In brackets: the true value in the simulated population."] * known
    return Table(tuple(columns), tuple(rows), title=f"{plan.label} by minutes since the dose", footnotes=tuple(notes))


def _cell(row: pd.Series, known: bool) -> str:
    text = f"{number(row['estimate'], 1)} {interval(row['conf_low'], row['conf_high'], 1)}"
    return text + (f" [{number(row['truth'], 1)}]" if known and row["truth"] == row["truth"] else "")


def _picture(plan: Course, frame: pd.DataFrame) -> Picture:
    from kapstats.report.figures import course, style

    means = frame[frame["quantity"] == "mean"]
    axes = course.course(
        means, x="time", group=plan.by, ylabel=plan.label, level=plan.level, threshold=plan.threshold,
        ax=style.blank(6.4, 3.6),
    )  # fmt: skip
    title = f"{plan.label} after dose {plan.session}"
    peak = frame[frame["quantity"] == "peak"]
    found = "; ".join(f"{name(r[plan.by])} {number(r['estimate'], 1)}" for _, r in peak.iterrows())
    words = f"{title}: means by minute with {100 * plan.level:g}% confidence intervals. Mean peak: {found}."
    return Picture("course", title, words, style.to_svg(axes, title=title, description=words))
