"""Did people respond: LS means and differences by visit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

import kapstats as ks
from kapstats import frames
from kapstats.data.trial import Trial
from kapstats.estimates import Estimates
from kapstats.formula import split
from kapstats.pipeline.kinds import Mmrm
from kapstats.pipeline.select import Rows, select
from kapstats.pipeline.truth import with_truth
from kapstats.report.block import Answer, Block, Picture, Result
from kapstats.table import Table, interval, number, p_value


def block(plan: Mmrm, trial: Trial) -> Block:
    """Fit the model of `plan` and lay out what it says."""
    rows = select(trial, plan.dataset, plan.population, plan.where, joined=(plan.arm,))
    arms, visits = _orders(plan, rows, trial)
    fit = ks.mmrm(plan.formula, rows.frame, reml=plan.reml, df=plan.df, covariance=list(plan.covariance) or None)
    reference = plan.reference or arms[0]
    means = fit.lsmeans(plan.arm, by=plan.visit, level=plan.level)
    shown = _means(plan, trial, rows, means)
    about: dict[str, Any] = {
        "name": plan.name,
        "question": plan.question,
        "title": plan.title,
        "sentence": "; ".join(part for part in (str(means.meta.get("sentence", "")), rows.without) if part),
        "methods": (fit.explain(), "Rows: " + "; ".join(rows.steps) + ".", *plan.notes),
    }
    if len(arms) == 1:
        return _alone(plan, fit, replace(means, frame=shown), visits[-1], about)
    differences = [means.contrast("trt.vs.ctrl", ref=reference, adjust=a, level=plan.level) for a in _adjustments(plan)]
    against = _differences(plan, trial, differences, reference)
    warnings = dict.fromkeys([*fit.warnings, *(w for d in differences for w in d.warnings)])
    return Block(
        **about,
        answers=(_answer(plan, against, reference, visits),),
        results=(
            Result("lsmeans", replace(means, frame=shown)),
            Result("differences", replace(differences[0], frame=against), _table(plan, shown, against, reference)),
        ),
        pictures=_pictures(plan, shown, against, visits),
        warnings=tuple(warnings),
    )


def _alone(plan: Mmrm, fit: Any, means: Estimates, last: Any, about: dict[str, Any]) -> Block:
    """The LS means of a trial with one arm: there is nothing to compare them with."""
    row = means.frame[means.frame[plan.visit] == last].iloc[0]
    value = f"{number(row['estimate'], 1)} {interval(row['conf_low'], row['conf_high'], 1)}"
    lead = f"Mean at {last} ({100 * plan.level:g}% CI). {plan.label}; one arm, so nothing to compare it with."
    shown = [plan.visit, "n", "estimate", "std_error", "conf_low", "conf_high"]
    table = means.table(1, title=plan.title, columns=shown)
    return Block(
        **about,
        answers=(Answer(lead, ((str(row[plan.arm]), value),)),),
        results=(Result("lsmeans", means, table),),
        pictures=(_profile(plan, means.frame, last),),
        warnings=fit.warnings,
    )


def _orders(plan: Mmrm, rows: Rows, trial: Trial) -> tuple[list[Any], list[Any]]:
    arms = frames.levels(rows.frame, plan.arm).values
    return list(arms), list(frames.levels(rows.frame, plan.visit).values)


def _adjustments(plan: Mmrm) -> list[str]:
    """No adjustment first: its intervals and p values are shown, the others add a p value each."""
    return ["none", *(a for a in plan.adjust if a != "none")]


def _means(plan: Mmrm, trial: Trial, rows: Rows, means: Estimates) -> pd.DataFrame:
    """LS means with the number observed and, where known, the truth."""
    outcome = split.parse(plan.formula).response
    seen = rows.frame[rows.frame[str(outcome)].notna()] if str(outcome) in rows.frame else rows.frame
    counts = seen.groupby([plan.arm, plan.visit], observed=True).size()
    keys = zip(means.frame[plan.arm], means.frame[plan.visit], strict=True)
    frame = means.frame.assign(n=[int(counts.get(key, 0)) for key in keys])
    return with_truth(trial, "mean_change", frame, {plan.arm: "TRT01P", plan.visit: "AVISIT"}, strategy="hypothetical")


def _differences(plan: Mmrm, trial: Trial, made: Sequence[Estimates], reference: str) -> pd.DataFrame:
    """Differences with one p value per adjustment and, where known, the truth."""
    frame = made[0].frame.copy()
    for name, adjusted in zip(_adjustments(plan)[1:], made[1:], strict=True):
        frame[f"{name}_p_value"] = adjusted.frame["p_value"].to_numpy()
    keys = {"contrast": "contrast", plan.visit: "AVISIT"}
    return with_truth(trial, "mean_difference", frame, keys, strategy="hypothetical")


def treated(contrast: str, reference: str) -> str:
    """The first side of "KAP - Placebo".

    Examples
    --------
    >>> treated("KAP - high - Placebo", "Placebo")
    'KAP - high'
    """
    return contrast.removesuffix(f" - {reference}")


def _answer(plan: Mmrm, against: pd.DataFrame, reference: str, visits: Sequence[Any]) -> Answer:
    last = against[against[plan.visit] == visits[-1]]
    lines = tuple(
        (
            treated(row["contrast"], reference),
            f"{number(row['estimate'], 1)} ({interval(row['conf_low'], row['conf_high'], 1)[1:]}",
        )
        for _, row in last.iterrows()
    )
    lead = (
        f"Difference to {reference} at {visits[-1]} ({100 * plan.level:g}% CI). {plan.label}; {plan.better} is better."
    )
    return Answer(lead, lines)


def _table(plan: Mmrm, shown: pd.DataFrame, against: pd.DataFrame, reference: str) -> Table:
    """Visits as headings, arms under them: LS means, then differences."""
    known = "truth" in shown
    adjusted = _adjustments(plan)[1:]
    ci = f"{100 * plan.level:g}% CI"
    columns = ["", "n", "LS mean (SE)", ci, *(["True mean"] if known else []), f"Difference to {reference}", ci, "p"]
    columns += [f"p, {a.capitalize()}" for a in adjusted] + (["True difference"] if known else [])
    rows: list[tuple[str, ...]] = []
    indent: list[int] = []
    for visit in dict.fromkeys(shown[plan.visit]):
        rows.append((str(visit),) + ("",) * (len(columns) - 1))
        indent.append(0)
        for _, mean in shown[shown[plan.visit] == visit].iterrows():
            arm = mean[plan.arm]
            found = against[(against[plan.visit] == visit) & (against["contrast"] == f"{arm} - {reference}")]
            rows.append(_row(arm, mean, found, adjusted, known))
            indent.append(1)
    notes = ["n: subjects observed at the visit. p: not adjusted for several arms unless the column says so."]
    notes += [
        "True: the value in the simulated population if all stay on treatment, known because the trial is simulated."
    ] * known
    return Table(tuple(columns), tuple(rows), title=plan.title, footnotes=tuple(notes), indent=tuple(indent))


def _row(arm: object, mean: pd.Series, found: pd.DataFrame, adjusted: Sequence[str], known: bool) -> tuple[str, ...]:
    cells = [str(arm), str(mean["n"]), f"{number(mean['estimate'], 1)} ({number(mean['std_error'], 2)})"]
    cells += [interval(mean["conf_low"], mean["conf_high"], 1)] + ([number(mean["truth"], 1)] if known else [])
    if found.empty:
        return (*cells, *("",) * (3 + len(adjusted) + known))
    row = found.iloc[0]
    cells += [number(row["estimate"], 1), interval(row["conf_low"], row["conf_high"], 1), p_value(row["p_value"])]
    cells += [p_value(row[f"{a}_p_value"]) for a in adjusted] + ([number(row["truth"], 1)] if known else [])
    return tuple(cells)


def _pictures(plan: Mmrm, shown: pd.DataFrame, against: pd.DataFrame, visits: Sequence[Any]) -> tuple[Picture, ...]:
    from kapstats.report.figures import forest, style

    chosen = list(plan.forest) or (visits if len(against) <= 16 else visits[-1:])
    part = against[against[plan.visit].astype(str).isin([str(v) for v in chosen])]
    panel = plan.visit if part[plan.visit].nunique() > 1 else None
    side = (
        ("Favours treatment", "Favours reference")
        if plan.better == "lower"
        else ("Favours reference", "Favours treatment")
    )
    axes = forest.forest(
        part, panel=panel, xlabel=f"{plan.label}: difference", level=plan.level, favours=side,
        ax=style.blank(4.4, forest.height(part, panel)),
    )  # fmt: skip
    title = f"{plan.label}: differences at {', '.join(map(str, dict.fromkeys(part[plan.visit])))}"
    words = f"{title} with {100 * plan.level:g}% confidence intervals. " + _said(part, "contrast", "")
    differences = Picture("differences", title, words, style.to_svg(axes, title=title, description=words))
    return _profile(plan, shown, visits[-1]), differences


def _profile(plan: Mmrm, shown: pd.DataFrame, last: Any) -> Picture:
    """The LS means over the visits."""
    from kapstats.report.figures import profile, style

    axes = profile.profile(
        shown, x=plan.visit, group=plan.arm, ylabel=plan.label, level=plan.level, ax=style.blank(6.4, 3.6)
    )
    title = f"{plan.label}: LS means by visit"
    words = f"{title} with {100 * plan.level:g}% confidence intervals. "
    words += _said(shown[shown[plan.visit] == last], plan.arm, str(last))
    return Picture("profile", title, words, style.to_svg(axes, title=title, description=words))


def _said(frame: pd.DataFrame, label: str, when: str) -> str:
    """The numbers of a figure in words, for those who cannot see it."""
    parts = [
        f"{row[label]} {number(row['estimate'], 1)} {interval(row['conf_low'], row['conf_high'], 1)}"
        for _, row in frame.iterrows()
    ]
    return (f"{when}: " if when else "") + "; ".join(parts) + "."
