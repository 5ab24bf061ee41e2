"""Effects by subgroup: the treatment difference within each level of a factor, and the test that they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from kapstats import estimates, frames
from kapstats._types import FrameLike
from kapstats.data import contract
from kapstats.errors import DataError, FormulaError, choose, first_ids, nearest, warn
from kapstats.kernels import meta, two_proportions
from kapstats.response.ancova import ancova
from kapstats.safety.difference import odds_ratio, risk_difference

ALL = "All subjects"
COLUMNS = ("estimate", "std_error", "df", "statistic", "p_value", "conf_low", "conf_high")


@dataclass(frozen=True, slots=True)
class _Question:
    """What is compared: response, arm column, covariates, measure and level of confidence."""

    response: str
    by: str
    covariates: tuple[str, ...]
    measure: str
    level: float


def subgroups(
    data: FrameLike,
    response: str,
    *,
    by: str,
    factors: Sequence[str],
    reference: Any = None,
    covariates: Sequence[str] = (),
    measure: str = "difference",
    level: float = 0.95,
) -> estimates.Estimates:
    """The treatment effect within each level of each factor, with a test of interaction per factor.

    Within a level the effect is that of the level's own subjects: the adjusted mean difference by analysis of
    covariance, or a risk difference or odds ratio. The interaction asks whether the effects differ between levels. A
    level whose interval excludes no effect beside one whose interval does not is no evidence of a difference.

    Parameters
    ----------
    data : one row per subject
    response : the numeric response, or 0/1 for "RD" and "OR"
    by : the arm column; each other arm is compared with `reference`, on the rows of these two arms
    factors : columns whose levels are the subgroups
    reference : the arm compared with; the first by default
    covariates : columns adjusted for (measure "difference" only)
    measure : "difference" of means; "RD" (Miettinen-Nurminen interval); "OR" (log scale, Miettinen-Nurminen interval)
    level : confidence of the intervals, which are not adjusted for their number

    Returns
    -------
    Estimates
        ``contrast factor subgroup n_active n_reference estimate ... conf_high interaction_p_value``; first the effect
        in all subjects. The interaction is the F test of arm by factor with a common variance (difference), or the
        heterogeneity Q of the levels' effects (RD, OR). ``.plot()`` is the forest.

    Raises
    ------
    DataError
        For missing columns, an unknown arm, or a response that is not 0/1 where it has to be.

    Agrees with
    -----------
    R 4.2 (lm and anova, type III) to 1e-8 for differences; RD and OR as in `risk_difference` and `odds_ratio`.

    References
    ----------
    Assmann et al. 2000; Wang et al. 2007.

    Examples
    --------
    >>> table = {"ARM": list("PPPPKKKK"), "SEX": list("FFMM") * 2, "CHG": [0.0, -2, -1, -3, -5, -7, -9, -8]}
    >>> subgroups(table, "CHG", by="ARM", factors=["SEX"], reference="P")["estimate"].round(6).tolist()
    [-5.75, -5.0, -6.5]
    """
    choose(measure, ("difference", "RD", "OR"), "measure")
    if covariates and measure != "difference":
        raise FormulaError(f"subgroups: measure={measure!r} takes no covariates.")
    frame = frames.to_pandas(data)
    frames.require(frame, [response, by, *factors, *covariates])
    question = _Question(response, by, tuple(covariates), measure, level)
    complete = frame.dropna(subset=[response, by, *covariates]).reset_index(drop=True)
    _check_binary(complete, question)
    if complete.empty:
        raise DataError(f"subgroups: no row has {response} and {by}.")
    said = contract.one_row_each(complete, "take one row of each subject")
    complete = complete.drop(columns=contract.SUBJECT, errors="ignore")  # said once, not per subgroup
    found = frames.levels(complete, by)
    said = (*said, *(frames.warn_factors({by: found}) if reference is None else ()))
    arms = list(found.values)
    base = arms[0] if reference is None else reference
    if base not in arms:
        raise DataError(f"subgroups: no arm {base!r} in {by}.{nearest(str(base), [str(a) for a in arms])}")
    if len(arms) < 2:
        raise DataError(f"subgroups: {by} holds one arm only ({base}).")
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    for arm in (a for a in arms if a != base):
        rows += _compare(complete[complete[by].isin([base, arm])], arm, base, factors, question, notes)
    for note in notes:
        warn(note)
    return estimates.Estimates(
        pd.DataFrame(rows), _about(question, factors, len(complete), len(arms) > 2, [*said, *notes], frame)
    )


def _about(
    q: _Question, factors: Sequence[str], used: int, several: bool, notes: list[str], frame: pd.DataFrame
) -> dict[str, Any]:
    how = "analysis of covariance" if q.measure == "difference" else q.measure
    test = {
        "difference": "F test of arm by factor",
        "RD": "heterogeneity Q of the levels' effects",
        "OR": "heterogeneity Q of the levels' log odds ratios, one half added where a cell is zero",
    }[q.measure]
    return estimates.meta(
        method=f"subgroup effects, {how}",
        level=q.level,
        scale="log" if q.measure == "OR" else "identity",
        measure=q.measure if q.measure != "difference" else "",
        blank=() if q.measure == "difference" else ("std_error",),  # score intervals have none
        ratio_names={},  # the contrasts are written as ratios
        title=f"{q.response} by subgroup",
        sentence=f"{how} within each level of {', '.join(factors)}; {used} of {len(frame)} rows.",
        conventions=(f"Interaction: {test}.", "Intervals and tests are not adjusted for their number."),
        warnings=notes,
        data=frames.fingerprint(frame, frames.named(frame, q.response, q.by, *q.covariates, *factors)),
        figure="forest",
        forest={"label": "subgroup", "panel": "contrast" if several else "factor"},
    )


def _check_binary(frame: pd.DataFrame, q: _Question) -> None:
    if q.measure != "difference" and not frame[q.response].isin([0, 1]).all():
        raise DataError(f"subgroups: {q.response} holds more than 0 and 1; measure={q.measure!r} needs these.")


def _compare(
    pair: pd.DataFrame, arm: Any, base: Any, factors: Sequence[str], q: _Question, notes: list[str]
) -> list[dict[str, Any]]:
    """All rows of one arm against the reference."""
    pair = pair.reset_index(drop=True)
    head = {"contrast": f"{arm} - {base}" if q.measure != "OR" else f"{arm} / {base}"}
    rows = [{**head, "factor": ALL, "subgroup": ALL, **_effect(pair, arm, base, q), "interaction_p_value": np.nan}]
    for factor in factors:
        inside = pair.dropna(subset=[factor]).reset_index(drop=True)
        if len(inside) < len(pair):
            notes.append(f"{factor}: missing in {len(pair) - len(inside)} rows of {arm} and {base}.")
        names = frames.levels(inside, factor).values
        found = [_effect(inside[inside[factor] == name].reset_index(drop=True), arm, base, q) for name in names]
        both = [min(row["n_active"], row["n_reference"]) > 0 for row in found]
        bare = [name for name, some in zip(names, both, strict=True) if not some]
        compared = inside[~inside[factor].isin(bare)].reset_index(drop=True)
        test = _interaction(
            compared, factor, arm, base, sum(both), [r for r, b in zip(found, both, strict=True) if b], q
        )
        if bare and not np.isnan(test):
            notes.append(
                f"{factor}: {first_ids(bare)} lack {arm} or {base}; the interaction is among the other levels."
            )
        if np.isnan(test):
            notes.append(f"{factor}: the interaction with {arm} cannot be tested (a level without information).")
        rows += [
            {**head, "factor": factor, "subgroup": str(name), **row, "interaction_p_value": test}
            for name, row in zip(names, found, strict=True)
        ]
    return rows


def _counts(frame: pd.DataFrame, arm: Any, base: Any, q: _Question) -> tuple[int, int, int, int]:
    """Events and subjects of the arm, then of the reference."""
    active, control = (frame.loc[frame[q.by] == a, q.response] for a in (arm, base))
    return int(active.sum()), len(active), int(control.sum()), len(control)


def _effect(frame: pd.DataFrame, arm: Any, base: Any, q: _Question) -> dict[str, Any]:
    """Sizes and the effect with its interval; not a number where a level lacks an arm or degrees of freedom."""
    sizes = {"n_active": int((frame[q.by] == arm).sum()), "n_reference": int((frame[q.by] == base).sum())}
    enough = min(sizes.values()) > 0
    if q.measure == "difference":
        enough = enough and len(frame) > 2 + len(q.covariates)
    if not enough:
        return sizes | dict.fromkeys(COLUMNS, np.nan)
    found = _adjusted(frame, arm, base, q) if q.measure == "difference" else _proportions(frame, arm, base, q)
    return sizes | {c: float(found.get(c, np.nan)) for c in COLUMNS}


def _adjusted(frame: pd.DataFrame, arm: Any, base: Any, q: _Question) -> dict[str, Any]:
    formula = f"{q.response} ~ {' + '.join([*q.covariates, q.by])}"
    fit = ancova(formula, frame, order={q.by: [base, arm]})
    found = fit.lsmeans(q.by).contrast("trt.vs.ctrl", level=q.level)
    return dict(found.frame.iloc[0])


def _proportions(frame: pd.DataFrame, arm: Any, base: Any, q: _Question) -> dict[str, Any]:
    estimate = risk_difference if q.measure == "RD" else odds_ratio
    row = dict(estimate(*_counts(frame, arm, base, q), level=q.level).frame.iloc[0])
    if q.measure == "OR":
        with np.errstate(divide="ignore"):
            row |= {c: np.log(row[c]) for c in ("estimate", "conf_low", "conf_high")}
    return row


def _interaction(
    frame: pd.DataFrame, factor: str, arm: Any, base: Any, size: int, found: list[dict[str, Any]], q: _Question
) -> float:
    """The p value of arm by factor."""
    if size < 2:
        return np.nan
    if q.measure == "difference":
        formula = f"{q.response} ~ {' + '.join(q.covariates)}{' + ' if q.covariates else ''}{q.by} * {factor}"
        coded = frame.assign(**{factor: frame[factor].astype(str)})
        order = {q.by: [base, arm], factor: sorted(set(coded[factor]))}
        table = ancova(formula, coded, order=order).anova().frame
        return float(table.loc[table["term"].str.contains(":"), "p_value"].iloc[0])
    names = frames.levels(frame, factor).values
    counts = np.array([_counts(frame[frame[factor] == name], arm, base, q) for name in names], dtype=float).T
    if q.measure == "RD":
        y, v = two_proportions.difference(*counts), two_proportions.wald_difference_error(*counts) ** 2
    else:
        y, v = meta.two_by_two(counts[0], counts[1], counts[2], counts[3], "OR")
    return float(special.chdtrc(size - 1, meta.q_statistic(y, v))) if (v > 0).all() else np.nan
