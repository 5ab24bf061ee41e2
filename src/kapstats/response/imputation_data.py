"""The trial of an imputation as arrays: one row per subject, one column per planned visit."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from kapstats import frames
from kapstats._types import BoolArray, FloatArray, IntArray
from kapstats.errors import DataError, FormulaError, first_ids, nearest, warn
from kapstats.formula import design, expressions, split
from kapstats.formula.design import Design
from kapstats.kernels.covariance import SPATIAL
from kapstats.response.repeated import ORDERED, refuse_unstated

FEW_VALUES = 4  # up to which an outcome is called binary or ordinal


@dataclass(frozen=True)
class ImputationPlan:
    """What is imputed, from which model, and how.

    Parameters
    ----------
    formula : the imputation model, an MMRM such as ``"CHG ~ BASE*AVISIT + TRT01P*AVISIT + us(AVISIT | USUBJID)"``;
        any structure but the spatial ones, common or by a group: ``us(AVISIT | TRT01P / USUBJID)``
    arm, reference : the arm column and its reference level
    strategy : MAR, J2R, CR, CIR or LMCF for the visits affected by the intercurrent event, or a mapping from the
        values of column `reason` to strategies
    event : column that holds each subject's first affected visit (missing: no event); None takes the visit after the
        last one seen, which is right when the event is dropout
    reason : column of reasons (why the subject stopped): for a `strategy` that is a mapping, and for deltas by reason
    method : "conditional-mean" (deterministic, jackknife variance), "bayes" (own Gibbs sampler, Rubin's rules) or
        "bootstrap" (refit on resampled subjects, one draw each, Rubin's rules)
    draws : number of imputed data sets of "bayes" and "bootstrap"
    cluster : column of clusters (therapist, site) that the jackknife leaves out and the bootstrap draws as a whole
    """

    formula: str
    arm: str
    reference: Any
    strategy: str | Mapping[Any, str] = "MAR"
    event: str | None = None
    reason: str | None = None
    method: str = "conditional-mean"
    draws: int = 100
    cluster: str | None = None
    seed: int = 1
    burn_in: int = 200
    thin: int = 10


@dataclass(frozen=True)
class Wide:
    """The trial as arrays: y (n, m) with NaN, x_own and x_reference (n, m, q), arm (n,), event visit (n,) or m.

    block, reference_block : (n,) covariance block of each subject, and the one it would have in the reference arm
    without : planned visits left out because nobody has an outcome there (baseline of a change score)
    """

    plan: ImputationPlan
    outcome: str
    subject: str
    visit: str
    long: pd.DataFrame
    subjects: pd.DataFrame
    visits: tuple[Any, ...]
    arms: tuple[Any, ...]
    y: FloatArray
    fitted: BoolArray
    x_own: FloatArray
    x_reference: FloatArray
    arm: IntArray
    reference: int
    block: IntArray
    reference_block: IntArray
    blocks: int
    structure: str
    event: IntArray
    strategy: tuple[str, ...]
    cluster: IntArray
    reason: tuple[Any, ...]
    without: tuple[Any, ...]


def widen(data: pd.DataFrame, plan: ImputationPlan) -> Wide:
    """One row per subject and one column per visit of the outcome, with what the imputation model needs."""
    formula = split.parse(plan.formula)
    term = formula.covariance
    if term is None or term.structure in SPATIAL or not isinstance(formula.response, str):
        raise FormulaError(f"{plan.formula!r}: the imputation model is 'outcome ~ terms + us(VISIT | SUBJECT)'.")
    if term.structure != "us" and plan.method == "bayes":
        raise FormulaError(
            f"method='bayes' draws an unstructured covariance: write us(...), not {term.structure}(...)."
        )
    outcome, subject, visit = formula.response, term.subject, term.visit
    named = (outcome, subject, visit, plan.arm, plan.event, plan.reason, plan.cluster, term.group)
    frames.require(data, [c for c in named if c])
    data = data.assign(**{outcome: _numbers(data, outcome, subject)})
    known = frames.levels(data, visit)
    order, arms = known.values, frames.levels(data, plan.arm).values
    if known.source == "sorted" and len(order) > 1 and (plan.strategy != "MAR" or term.structure in ORDERED):
        refuse_unstated(visit, order, "what is affected by an event, or the covariance, depends on it")
    if plan.reference not in arms:
        hint = nearest(str(plan.reference), map(str, arms))
        raise FormulaError(f"reference={plan.reference!r} is not an arm.{hint} Arms: {first_ids(arms)}.")
    met = set(data.loc[data[outcome].notna(), visit])
    visits = tuple(v for v in order if v in met)
    if not visits:
        raise DataError(f"{outcome}: no outcome at any visit, so there is nothing to impute from.")
    used = {*expressions.columns_in(formula.fixed), *filter(None, named)}
    long, ids = complete_grid(data, outcome, subject, visit, order, used)
    long = long[long[visit].isin(visits)].reset_index(drop=True)
    long[visit] = pd.Categorical(long[visit].astype("object"), categories=list(visits), ordered=True)
    built = design.build(formula.fixed, long, categorical=[visit], order={visit: visits, plan.arm: arms})
    if built.aliased.any():
        names = [n for n, a in zip(built.names, built.aliased, strict=True) if a]
        raise DataError(f"The imputation model cannot tell {first_ids(names)} from other terms. Simplify the formula.")
    y = long[outcome].to_numpy(dtype=float, na_value=np.nan).reshape(len(ids), len(visits))
    return _arranged(plan, formula, long, built, y, order, visits, arms)


def _numbers(data: pd.DataFrame, outcome: str, subject: str) -> pd.Series:
    """The outcome as numbers; infinite and unreadable values are an error."""
    try:
        values = data[outcome].astype(float)
    except (TypeError, ValueError) as wrong:
        raise DataError(f"{outcome}: not a number ({wrong}).") from None
    odd = np.isinf(values)
    if odd.any():
        raise DataError(f"{outcome}: {int(odd.sum())} infinite values ({first_ids(data.loc[odd, subject])}).")
    return values


def complete_grid(
    data: pd.DataFrame, outcome: str, subject: str, visit: str, visits: tuple[Any, ...], used: Collection[str] = ()
) -> tuple[pd.DataFrame, pd.Index]:
    """One row per subject and visit, in order; columns that are constant within subjects are carried to all rows.

    A column that some rows of a subject lack (a flag) is not constant, unless it is `used`.
    """
    if data[subject].isna().any() or data[visit].isna().any():
        raise DataError(f"{int(data[[subject, visit]].isna().any(axis=1).sum())} rows lack {subject} or {visit}.")
    twice = data.duplicated([subject, visit])
    if twice.any():
        raise DataError(
            f"{int(twice.sum())} rows repeat a subject's visit (first {first_ids(data.loc[twice, subject])})."
        )
    ids = pd.Index(data[subject].unique(), name=subject)
    grid = pd.MultiIndex.from_product([ids, list(visits)], names=[subject, visit])
    long = data.assign(**{visit: data[visit].astype("object")}).set_index([subject, visit]).reindex(grid).reset_index()
    long[visit] = pd.Categorical(long[visit], categories=list(visits), ordered=True)
    others = [c for c in data.columns if c not in (outcome, subject, visit)]
    constant = [c for c in others if frames.is_constant(data[c], data[subject], dropna=c in used)]
    filled = long.groupby(subject, sort=False, observed=True)[constant].transform("first")
    return long.assign(**{c: filled[c].astype(data[c].dtype) if c in filled else filled[c] for c in constant}), ids


def _arranged(
    plan: ImputationPlan, formula: split.Formula, long: pd.DataFrame, built: Design, y: FloatArray,
    order: tuple[Any, ...], visits: tuple[Any, ...], arms: tuple[Any, ...],
) -> Wide:  # fmt: skip
    term = formula.covariance
    assert term is not None
    n, m = y.shape
    _require_complete(long, built, term.subject, term.group)
    subjects = long.iloc[::m].reset_index(drop=True)
    reference_arm = pd.Categorical([plan.reference] * len(long), categories=list(arms), ordered=True)
    as_reference = long.assign(**{plan.arm: reference_arm})
    arm = frames.levels(subjects, plan.arm, arms).codes
    reference = list(arms).index(plan.reference)
    event = _events(plan, subjects, y, order, visits)
    strategy = _strategies(plan, subjects, event, m, term.subject)
    affected = (np.arange(m)[None] >= event[:, None]) & np.array([s != "MAR" for s in strategy])[:, None]
    block, reference_block, blocks = _blocks(subjects, term.group, plan.arm, arm, reference, len(arms))
    cluster = np.arange(n) if plan.cluster is None else frames.levels(subjects, plan.cluster).codes
    if (cluster < 0).any():
        ids = first_ids(subjects.loc[cluster < 0, term.subject])
        raise DataError(f"{plan.cluster}: missing for {int((cluster < 0).sum())} subjects ({ids}).")
    fitted = ~np.isnan(y) & ~affected
    if not fitted.any(axis=0).all():
        bare = first_ids([v for v, some in zip(visits, fitted.any(axis=0), strict=True) if not some])
        raise DataError(f"{bare}: every outcome was seen after an intercurrent event, which the fit leaves out.")
    lost = design.find_aliased(built.X.reshape(n, m, -1)[fitted])
    if lost.any():
        raise DataError(
            f"{formula.response}: no outcome that the fit uses can tell "
            f"{first_ids([c for c, gone in zip(built.names, lost, strict=True) if gone])}, since an arm or level has "
            "none there. Leave the visit out, merge levels, or simplify the formula."
        )
    reason = (None,) * n if plan.reason is None else tuple(subjects[plan.reason])
    return Wide(
        plan=plan, outcome=str(formula.response), subject=term.subject, visit=term.visit, long=long, subjects=subjects,
        visits=visits, arms=arms, y=y, fitted=fitted, x_own=built.X.reshape(n, m, -1),
        x_reference=built.spec.matrix(as_reference).reshape(n, m, -1), arm=arm, reference=reference, block=block,
        reference_block=reference_block, blocks=blocks, structure=term.structure, event=event, strategy=strategy,
        cluster=cluster, reason=reason, without=tuple(v for v in order if v not in visits),
    )  # fmt: skip


def _blocks(
    subjects: pd.DataFrame, group: str | None, arm: str, codes: IntArray, reference: int, arms: int
) -> tuple[IntArray, IntArray, int]:
    """Covariance block of each subject, the one it would have in the reference arm, and how many there are."""
    if group is None:
        return np.zeros_like(codes), np.zeros_like(codes), 1
    if group == arm:
        return codes, np.full_like(codes, reference), arms
    own = frames.levels(subjects, group)
    return own.codes, own.codes, len(own.values)


def _require_complete(long: pd.DataFrame, built: Design, subject: str, group: str | None) -> None:
    for column in (*built.spec.columns, *([group] if group else [])):
        missing = long[column].isna()
        if missing.any():
            ids = first_ids(long.loc[missing, subject])
            raise DataError(
                f"{column}: missing for {int(missing.sum())} planned visits ({ids}). It has to be known for all."
            )


def _events(
    plan: ImputationPlan, subjects: pd.DataFrame, y: FloatArray, order: tuple[Any, ...], visits: tuple[Any, ...]
) -> IntArray:
    """Position of each subject's first affected visit, m where there is none."""
    n, m = y.shape
    if plan.event is None:
        seen = ~np.isnan(y)
        return np.where(seen.any(axis=1), m - np.argmax(seen[:, ::-1], axis=1), 0).astype(np.int64)
    place = {v: sum(w in visits for w in order[:k]) for k, v in enumerate(order)}  # among the visits kept
    given = subjects[plan.event]
    unknown = [v for v in given.dropna() if v not in place]
    if unknown:
        raise DataError(f"{plan.event}: {first_ids(unknown)} is not a visit. Visits: {first_ids(order, 8)}.")
    return np.array([place.get(v, m) if pd.notna(v) else m for v in given], dtype=np.int64).reshape(n)


def _strategies(plan: ImputationPlan, subjects: pd.DataFrame, event: IntArray, m: int, subject: str) -> tuple[str, ...]:
    if isinstance(plan.strategy, str):
        found = [plan.strategy] * len(subjects)
    else:
        assert plan.reason is not None
        reasons, table = subjects[plan.reason], dict(plan.strategy)
        unknown = [r for r, e in zip(reasons, event, strict=True) if e < m and r not in table]
        if unknown:
            raise DataError(f"{plan.reason}: no strategy for {first_ids(unknown)}. Add it to the strategy mapping.")
        found = [table.get(r, "MAR") for r in reasons]
    none_before = [i for i, s in enumerate(found) if s in ("CIR", "LMCF") and event[i] == 0]
    for i in none_before:  # no visit before the event to carry on from
        found[i] = "J2R"
    if none_before:
        ids = first_ids(subjects[subject].iloc[none_before])
        message = (
            f"{len(none_before)} subjects have no visit before the event ({ids}): CIR and LMCF become J2R for them."
        )
        warn(message)
    return tuple(found)


def classes(wide: Wide) -> list[tuple[IntArray, BoolArray, int, str, int]]:
    """Subjects with a missing cell, by (seen visits, event visit, strategy, arm)."""
    seen = ~np.isnan(wide.y)
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i in np.flatnonzero(~seen.all(axis=1)):
        key = (seen[i].tobytes(), int(wide.event[i]), wide.strategy[i], int(wide.arm[i]))
        groups.setdefault(key, []).append(int(i))
    return [(np.array(rows), seen[rows[0]], key[1], key[2], key[3]) for key, rows in groups.items()]


def as_long(wide: Wide, y: FloatArray, imputed: BoolArray) -> pd.DataFrame:
    """The completed outcomes (n, m) in the rows of the data, and which of them were imputed."""
    return wide.long.assign(**{wide.outcome: y.reshape(-1), "IMPUTED": imputed.reshape(-1)})


def few_values(wide: Wide) -> str:
    """Warn when the outcome is hardly continuous: it is imputed as a normal variable."""
    values = np.unique(wide.y[~np.isnan(wide.y)])
    if len(values) > FEW_VALUES:
        return ""
    return warn(
        f"{wide.outcome} takes {len(values)} values only ({first_ids(f'{v:g}' for v in values)}) and is imputed as a "
        "normal variable: imputed values lie between and beyond them. This is not an imputation of a binary or ordinal "
        "outcome; analyse what was seen with ks.glmm, or impute the score behind it and derive the response."
    )
