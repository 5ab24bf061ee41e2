"""Did they relapse: curves, test, hazard ratios with their check, restricted means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

import kapstats as ks
from kapstats import frames
from kapstats.data.trial import Trial
from kapstats.errors import DataError, nearest
from kapstats.formula import split
from kapstats.pipeline.kinds import Survival
from kapstats.pipeline.select import Rows, select
from kapstats.pipeline.truth import beside, with_truth
from kapstats.report.block import Answer, Block, Picture, Result
from kapstats.report.figures.kaplan_meier import groups
from kapstats.report.figures.steps import nice_times
from kapstats.table import Table, interval, number, p_value, percent


def block(plan: Survival, trial: Trial) -> Block:
    """Curves, test and model of `plan`, and what they say."""
    rows = _referenced(plan, select(trial, plan.dataset, plan.population, plan.where, joined=_columns(plan)))
    km = ks.kaplan_meier(plan.formula, rows.frame, conf_type=plan.conf_type, level=plan.level)
    fits: dict[str, Any] = {"km": km} | _models(plan, rows)
    results = [
        *_curves(plan, trial, km),
        *_tests(plan, fits),
        *_ratios(plan, trial, fits),
        *_restricted(plan, trial, fits),
    ]
    warnings = dict.fromkeys(w for fit in fits.values() for w in fit.warnings)
    explained = [fit.explain() for fit in fits.values() if hasattr(fit, "explain")]
    return Block(
        name=plan.name,
        question=plan.question,
        title=plan.title,
        sentence=". ".join(text for text in (str(km.meta.get("sentence", "")), _selected(plan, trial, rows)) if text),
        answers=_answers(plan, results),
        results=tuple(results),
        pictures=_pictures(plan, km, results),
        methods=(*explained, "Rows: " + "; ".join(rows.steps) + ".", *plan.notes),
        warnings=tuple(warnings),
    )


def _selected(plan: Survival, trial: Trial, rows: Rows) -> str:
    """A caution where arms are compared among some of the randomised only: who is there was decided afterwards."""
    if "adsl" not in trial or "USUBJID" not in rows.frame or not _compared(plan, rows):
        return ""
    there, randomised = rows.frame["USUBJID"].nunique(), trial.adsl["USUBJID"].nunique()
    if there >= randomised:
        return ""
    return (
        f"These are {there} of {randomised} randomised subjects: the subset was formed after randomisation, so a "
        "difference between arms may come from who is in it. ks.state_occupation and ks.win_ratio compare everybody"
    )


def _columns(plan: Survival) -> tuple[str, ...]:
    """Names in the formulas: ADSL may have those that the dataset lacks."""
    import re

    return tuple(dict.fromkeys(re.findall(r"[A-Za-z_]\w*", f"{plan.formula} {plan.model}")))


def _referenced(plan: Survival, rows: Rows) -> Rows:
    """`rows` with the reference of the plan as the first arm."""
    if plan.reference is None:
        return rows
    column = _strata(plan)[0]
    arms = list(frames.levels(rows.frame, column).values)
    if plan.reference not in arms:
        known = ", ".join(map(str, arms))
        hint = nearest(plan.reference, map(str, arms))
        raise DataError(f"{column}: there is no arm {plan.reference!r} to be the reference.{hint} There are: {known}.")
    order = [plan.reference, *(arm for arm in arms if arm != plan.reference)]
    values = pd.Categorical(rows.frame[column], categories=order, ordered=True)
    return replace(rows, frame=rows.frame.assign(**{column: values}))


def _models(plan: Survival, rows: Rows) -> dict[str, Any]:
    formula = plan.model or plan.formula
    made: dict[str, Any] = {}
    if not _compared(plan, rows):
        return made
    if "logrank" in plan.show:
        made["logrank"] = ks.logrank(formula, rows.frame)
    if "cox" in plan.show:
        made["cox"] = ks.cox(formula, rows.frame, ties=plan.ties, level=plan.level)
    if "rmst" in plan.show:
        made["rmst"] = ks.rmst(plan.formula, rows.frame, tau=plan.tau, level=plan.level)
    return made


def _compared(plan: Survival, rows: Rows) -> bool:
    """Whether there are two arms or more to compare."""
    return any(len(frames.levels(rows.frame, c).values) > 1 for c in _strata(plan) if c in rows.frame.columns)


def _strata(plan: Survival) -> list[str]:
    return [name.strip() for name in split.parse(plan.formula).fixed.split("+") if name.strip() not in ("", "1")]


def _times(plan: Survival, km: Any) -> list[float]:
    return list(plan.times) or nice_times(float(km.to_frame()["time"].max()), unit=plan.unit)


def _curves(plan: Survival, trial: Trial, km: Any) -> list[Result]:
    """The curve itself, and per arm: N, events, median, survival at chosen times."""
    strata, times = _strata(plan), [t for t in _times(plan, km) if t > 0]
    at = km.at(times)
    keys = {**({strata[0]: "TRT01P"} if len(strata) == 1 else {}), "time": "time"}
    shown = with_truth(trial, "relapse_free", at.frame, keys) if len(keys) == 2 else at.frame
    table = _survival_table(plan, km.median().frame, shown, strata)
    curve = km.estimates
    return [Result("curve", curve), Result("medians", km.median()), Result("survival", replace(at, frame=shown), table)]


def _survival_table(plan: Survival, medians: pd.DataFrame, at: pd.DataFrame, strata: Sequence[str]) -> Table:
    ci, known = f"{100 * plan.level:g}% CI", "truth" in at
    chosen = _few(list(dict.fromkeys(at["time"])), at)
    columns = ["", "N", "Events", f"Median, {plan.unit} ({ci})"]
    for t in chosen:
        columns += [f"{plan.label} at {t:g} ({ci})"] + (["True"] if known and _known_at(at, t) else [])
    rows = []
    for label, arm in groups(medians.assign(time=0.0), strata).items():
        first, own = arm.iloc[0], groups(at, strata)[label].set_index("time")
        cells = [str(label), str(int(first["n"])), str(int(first["n_events"])), _median_of(first)]
        for t in chosen:
            r = own.loc[t]
            cells.append(f"{percent(100 * r['estimate'])} {interval(100 * r['conf_low'], 100 * r['conf_high'], 1)}")
            cells += [percent(100 * r["truth"])] if known and _known_at(at, t) else []
        rows.append(tuple(cells))
    notes = ["NE: not reached or not estimable."]
    notes += ["True: the value in the simulated population, without loss to follow-up."] * known
    return Table(tuple(columns), tuple(rows), title=plan.title, footnotes=tuple(notes))


def _few(times: list[float], at: pd.DataFrame) -> list[float]:
    """Times for the table: those whose truth is known, else three spread over the range."""
    known = [t for t in times if "truth" in at and _known_at(at, t)]
    return known or times[:: max(1, len(times) // 3)][:3]


def _known_at(at: pd.DataFrame, time: float) -> bool:
    return bool(at.loc[at["time"] == time, "truth"].notna().any())


def _median(value: float) -> str:
    return number(value, 0 if value == round(value) else 1) if value == value else number(value)


def _tests(plan: Survival, fits: dict[str, Any]) -> list[Result]:
    """Log-rank test and the check of proportional hazards, one line each."""
    made, lines = [], []
    if "logrank" in fits:
        row = fits["logrank"].frame.iloc[0]
        lines.append((_capital(row["test"]), number(row["statistic"], 2), f"{row['df']:g}", p_value(row["p_value"])))
        made.append(Result("logrank", fits["logrank"]))
    if "cox" in fits and "zph" in plan.show:
        zph = fits["cox"].zph()
        shown = zph.frame if len(zph) > 2 else zph.frame.tail(1)
        for _, row in shown.iterrows():
            name = f"Proportional hazards, {str(row['term']).lower() if row['term'] == 'GLOBAL' else row['term']}"
            lines.append((name, number(row["statistic"], 2), f"{row['df']:g}", p_value(row["p_value"])))
        made.append(Result("zph", zph))
    if lines:
        table = Table(("Test", "Chi-square", "df", "p"), tuple(lines), title="Tests")
        made[-1] = replace(made[-1], table=table)
    return made


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _ratios(plan: Survival, trial: Trial, fits: dict[str, Any]) -> list[Result]:
    if "cox" not in fits:
        return []
    found = fits["cox"].hazard_ratios()
    frame = with_truth(trial, "hazard_ratio", _contrasts(plan, found.frame, fits["km"]), {"contrast": "contrast"})
    made = replace(found, frame=frame)
    known = "truth" in frame
    columns = ("Contrast", "Hazard ratio", f"{100 * plan.level:g}% CI", "p", *(("True",) if known else ()))
    rows = tuple(
        (
            str(r["contrast"]),
            number(r["estimate"], 2),
            interval(r["conf_low"], r["conf_high"], 2),
            p_value(r["p_value"]),
        )
        + ((number(r["truth"], 2),) if known else ())
        for _, r in frame.iterrows()
    )
    notes = ["True: ratio of the hazards of the latent time of the event in the simulated population."] * known
    return [
        Result(
            "hazard-ratios", made, Table(columns, rows, title=f"Hazard ratios of {plan.event}", footnotes=tuple(notes))
        )
    ]


def _contrasts(plan: Survival, frame: pd.DataFrame, km: Any) -> pd.DataFrame:
    """`frame` with a column ``contrast``: "KAP - Placebo" for the terms of the arm, the term itself otherwise."""
    if "contrast" in frame:
        return frame
    strata = _strata(plan)
    arms = list(groups(km.median().frame.assign(time=0.0), strata))
    reference = arms[0]

    def name(term: str) -> str:
        arm = next((a for a in arms if term in (f"{strata[0]}[T.{a}]", f"{strata[0]}{a}", f"{strata[0]}[{a}]")), None)
        return term if arm is None else f"{arm} - {reference}"

    made = frame.copy()
    made.insert(0, "contrast", [name(str(t)) for t in frame["term"]])
    return made


def _restricted(plan: Survival, trial: Trial, fits: dict[str, Any]) -> list[Result]:
    if "rmst" not in fits:
        return []
    frame = _rmst_truth(plan, trial, fits["rmst"].frame)
    known, ci = "truth" in frame, f"{100 * plan.level:g}% CI"
    columns = ("", _capital(plan.unit), ci, "p", *(("True",) if known else ()))
    first, rows = _strata(plan)[0], []
    for quantity, heading in (("rmst", "Restricted mean"), ("difference", "Difference")):
        own = frame[frame["quantity"] == quantity]
        rows += [(heading, *[""] * (len(columns) - 1))] * bool(len(own))
        for _, r in own.iterrows():
            label = str(r["contrast"]) or str(r[first])
            cells = (number(r["estimate"], 1), interval(r["conf_low"], r["conf_high"], 1))
            p = p_value(r["p_value"]) if quantity == "difference" else ""
            rows.append((label, *cells, p, *((number(r["truth"], 1),) if known else ())))
    note, title = str(fits["rmst"].meta.get("sentence", "")), f"Mean time without {plan.event}, restricted"
    indent = tuple(int(any(row[1:])) for row in rows)
    table = Table(columns, tuple(rows), title=title, footnotes=(note,), indent=indent)
    return [Result("rmst", replace(fits["rmst"], frame=frame), table)]


def _rmst_truth(plan: Survival, trial: Trial, frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with the true means and differences, where they are known for this horizon."""
    means = beside(trial, "rmst", frame, {_strata(plan)[0]: "TRT01P"}, tau=plan.tau)
    gaps = beside(trial, "rmst_difference", frame, {"contrast": "contrast"}, tau=plan.tau)
    if means is None or gaps is None:
        return frame
    return frame.assign(
        truth=np.where(frame["quantity"] == "rmst", means, np.where(frame["quantity"] == "difference", gaps, np.nan))
    )


def _answers(plan: Survival, results: Sequence[Result]) -> tuple[Answer, ...]:
    """Hazard ratios where there are any, and medians."""
    by_name = {r.name: r.estimates.frame for r in results}
    ci, made = f"{100 * plan.level:g}% CI", []
    ratios = by_name.get("hazard-ratios", pd.DataFrame({"contrast": []}))
    arms = groups(by_name["medians"].assign(time=0.0), _strata(plan))
    reference = next(iter(arms))
    lines = tuple(
        (arm, _ratio(row)) for arm in arms for _, row in ratios[ratios["contrast"] == f"{arm} - {reference}"].iterrows()
    )
    if lines:
        made.append(Answer(f"Hazard ratio of {plan.event} against {reference} ({ci}); below 1 is fewer.", lines))
    lines = tuple((str(label), _median_of(rows.iloc[0])) for label, rows in arms.items())
    return (*made, Answer(f"Median time to {plan.event}, {plan.unit} ({ci}).", lines))


def _median_of(row: pd.Series) -> str:
    return f"{_median(row['estimate'])} {interval(row['conf_low'], row['conf_high'], 0)}"


def _ratio(row: pd.Series) -> str:
    return f"{number(row['estimate'], 2)} {interval(row['conf_low'], row['conf_high'], 2)}"


def _pictures(plan: Survival, km: Any, results: Sequence[Result]) -> tuple[Picture, ...]:
    from kapstats.report.figures import forest, kaplan_meier, style

    strata = _strata(plan)
    at = next(r.estimates.frame for r in results if r.name == "survival")
    known = at[at["truth"].notna()] if "truth" in at else None
    axes = kaplan_meier.kaplan_meier(
        km.frame, strata=strata, times=_times(plan, km), unit=plan.unit, ylabel=plan.label, level=plan.level,
        truth=known, ax=style.blank(6.4, 3.8),
    )  # fmt: skip
    title = f"{plan.label}: Kaplan-Meier curves"
    medians = groups(km.median().frame.assign(time=0.0), strata)
    found = "; ".join(f"{label} {number(r['estimate'].iloc[0], 0)}" for label, r in medians.items())
    words = (
        f"{title} with {100 * plan.level:g}% confidence intervals and the number at risk. Median, {plan.unit}: {found}."
    )
    made = [Picture("kaplan-meier", title, words, style.to_svg(axes, title=title, description=words))]
    ratios = next((r.estimates.frame for r in results if r.name == "hazard-ratios"), None)
    if ratios is not None and ratios["estimate"].notna().any():
        title = f"Hazard ratios of {plan.event}"
        axes = forest.forest(
            ratios, log=True, xlabel="Hazard ratio", level=plan.level, favours=("Fewer events", "More events"),
            ax=style.blank(4.4, forest.height(ratios)),
        )  # fmt: skip
        words = f"{title}. " + "; ".join(f"{r['contrast']} {_ratio(r)}" for _, r in ratios.iterrows()) + "."
        made.append(Picture("hazard-ratios", title, words, style.to_svg(axes, title=title, description=words)))
    return tuple(made)
