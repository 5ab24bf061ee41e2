"""The trial of an imputation as arrays: one row per subject, one column per planned visit."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from kapstats import frames
from kapstats._types import BoolArray, FloatArray, IntArray
from kapstats.errors import DataError, FormulaError, KapstatsWarning, first_ids, nearest
from kapstats.formula import design, split
from kapstats.formula.design import Design


@dataclass(frozen=True)
class ImputationPlan:
    """What is imputed, from which model, and how.

    Parameters
    ----------
    formula : the imputation model, an MMRM with `us` covariance, such as
        ``"CHG ~ BASE*AVISIT + TRT01P*AVISIT + us(AVISIT | USUBJID)"``
    arm, reference : the arm column and its reference level
    strategy : MAR, J2R, CR, CIR or LMCF for the visits affected by the intercurrent event, or a mapping from the
        values of column `reason` to strategies
    event : column that holds each subject's first affected visit (missing: no event); None takes the visit after the
        last one seen, which is right when the event is dropout
    reason : column of reasons when `strategy` is a mapping
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
    """The trial as arrays: y (n, m) with NaN, x_own and x_reference (n, m, q), arm (n,), event visit (n,) or m."""

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
    reference_block: int
    blocks: int
    event: IntArray
    strategy: tuple[str, ...]
    cluster: IntArray


def widen(data: pd.DataFrame, plan: ImputationPlan) -> Wide:
    formula = split.parse(plan.formula)
    term = formula.covariance
    if term is None or term.structure != "us" or not isinstance(formula.response, str):
        raise FormulaError(f"{plan.formula!r}: the imputation model is 'outcome ~ terms + us(VISIT | SUBJECT)'.")
    if term.group not in (None, plan.arm):
        raise FormulaError(f"{plan.formula!r}: the covariance may differ by {plan.arm!r} only, not by {term.group!r}.")
    outcome, subject, visit = formula.response, term.subject, term.visit
    frames.require(data, [c for c in (outcome, subject, visit, plan.arm, plan.event, plan.reason, plan.cluster) if c])
    order = frames.levels(data, visit)
    arms = frames.levels(data, plan.arm)
    if plan.reference not in arms.values:
        hint = nearest(str(plan.reference), map(str, arms.values))
        raise FormulaError(f"reference={plan.reference!r} is not an arm.{hint} Arms: {first_ids(arms.values)}.")
    long, ids = _complete_grid(data, outcome, subject, visit, order.values)
    built = design.build(formula.fixed, long, categorical=[visit], order={visit: order.values, plan.arm: arms.values})
    if built.aliased.any():
        names = [n for n, a in zip(built.names, built.aliased, strict=True) if a]
        raise DataError(f"The imputation model cannot tell {first_ids(names)} from other terms. Simplify the formula.")
    n, m = len(ids), len(order.values)
    y = long[outcome].to_numpy(dtype=float, na_value=np.nan).reshape(n, m)
    return _arranged(plan, formula, long, built, y, order.values, arms.values)


def _complete_grid(
    data: pd.DataFrame, outcome: str, subject: str, visit: str, visits: tuple[Any, ...]
) -> tuple[pd.DataFrame, pd.Index]:
    """One row per subject and visit, in order; columns that are constant within subjects are carried to all rows."""
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
    constant = [c for c in others if (data.groupby(subject)[c].nunique(dropna=True) <= 1).all()]
    filled = long.groupby(subject, sort=False)[constant].transform("first")
    return long.assign(**{c: filled[c].astype(data[c].dtype) if c in filled else filled[c] for c in constant}), ids


def _arranged(
    plan: ImputationPlan, formula: split.Formula, long: pd.DataFrame, built: Design, y: FloatArray,
    visits: tuple[Any, ...], arms: tuple[Any, ...],
) -> Wide:  # fmt: skip
    term = formula.covariance
    assert term is not None
    n, m = y.shape
    _require_complete(long, built, term.subject)
    subjects = long.iloc[::m].reset_index(drop=True)
    as_reference = long.assign(**{plan.arm: pd.Categorical([plan.reference] * len(long), categories=list(arms))})
    arm = frames.levels(subjects, plan.arm, arms).codes
    reference = list(arms).index(plan.reference)
    event = _events(plan, subjects, y, visits)
    strategy = _strategies(plan, subjects, event, m, term.subject)
    affected = (np.arange(m)[None] >= event[:, None]) & np.array([s != "MAR" for s in strategy])[:, None]
    by_arm = term.group is not None
    cluster = np.arange(n) if plan.cluster is None else frames.levels(subjects, plan.cluster).codes
    return Wide(
        plan=plan, outcome=str(formula.response), subject=term.subject, visit=term.visit, long=long, subjects=subjects,
        visits=visits, arms=arms, y=y, fitted=~np.isnan(y) & ~affected, x_own=built.X.reshape(n, m, -1),
        x_reference=built.spec.matrix(as_reference).reshape(n, m, -1), arm=arm, reference=reference,
        block=arm if by_arm else np.zeros(n, dtype=np.int64), reference_block=reference if by_arm else 0,
        blocks=len(arms) if by_arm else 1, event=event, strategy=strategy, cluster=cluster,
    )  # fmt: skip


def _require_complete(long: pd.DataFrame, built: Design, subject: str) -> None:
    for column in built.spec.columns:
        missing = long[column].isna()
        if missing.any():
            ids = first_ids(long.loc[missing, subject])
            raise DataError(
                f"{column}: missing for {int(missing.sum())} planned visits ({ids}). It has to be known for all."
            )


def _events(plan: ImputationPlan, subjects: pd.DataFrame, y: FloatArray, visits: tuple[Any, ...]) -> IntArray:
    """Position of each subject's first affected visit, m where there is none."""
    n, m = y.shape
    if plan.event is None:
        seen = ~np.isnan(y)
        return np.where(seen.any(axis=1), m - np.argmax(seen[:, ::-1], axis=1), 0).astype(np.int64)
    place = {v: k for k, v in enumerate(visits)}
    given = subjects[plan.event]
    unknown = [v for v in given.dropna() if v not in place]
    if unknown:
        raise DataError(f"{plan.event}: {first_ids(unknown)} is not a visit. Visits: {first_ids(visits, 8)}.")
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
        warnings.warn(message, KapstatsWarning, stacklevel=4)
    return tuple(found)


def classes(wide: Wide) -> list[tuple[IntArray, BoolArray, int, str, int]]:
    """Subjects with a missing cell, by (seen visits, event visit, strategy, arm)."""
    seen = ~np.isnan(wide.y)
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i in np.flatnonzero(~seen.all(axis=1)):
        key = (seen[i].tobytes(), int(wide.event[i]), wide.strategy[i], int(wide.arm[i]))
        groups.setdefault(key, []).append(int(i))
    return [(np.array(rows), seen[rows[0]], key[1], key[2], key[3]) for key, rows in groups.items()]


def shift_of(wide: Wide, delta: Mapping[Any, Any] | None) -> FloatArray:
    """(n, m) amounts added to imputed values, zero elsewhere."""
    shift = np.zeros(wide.y.shape)
    for arm, amount in (delta or {}).items():
        if arm not in wide.arms:
            raise FormulaError(f"delta: {arm!r} is not an arm.{nearest(str(arm), map(str, wide.arms))}")
        rows = wide.arm == wide.arms.index(arm)
        by_visit = amount if isinstance(amount, Mapping) else dict.fromkeys(wide.visits, amount)
        for visit, value in by_visit.items():
            if visit not in wide.visits:
                raise FormulaError(f"delta: {visit!r} is not a visit.{nearest(str(visit), map(str, wide.visits))}")
            shift[rows, wide.visits.index(visit)] = float(value)
    return np.where(np.isnan(wide.y), shift, 0.0)


def as_long(wide: Wide, y: FloatArray, imputed: BoolArray) -> pd.DataFrame:
    return wide.long.assign(**{wide.outcome: y.reshape(-1), "IMPUTED": imputed.reshape(-1)})
