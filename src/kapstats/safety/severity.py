"""Worst severity per subject, counted and compared."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kapstats import estimates, frames
from kapstats.errors import DataError, EstimabilityError, warn
from kapstats.estimates import Estimates
from kapstats.inference.intervals import wald
from kapstats.kernels.cumulative_logit import cumulative_logit
from kapstats.kernels.distinct_counts import distinct_counts
from kapstats.safety import covariates as columns_of
from kapstats.safety.follow_up import rows_of
from kapstats.safety.incidence import coded_terms, membership

if TYPE_CHECKING:
    from kapstats.safety.incidence import Incidence

#: severity columns, the most precise first, and the order of the words
COLUMNS = ("AETOXGRN", "AETOXGR", "ASEVN", "AESEVN", "ASEV", "AESEV")
WORDS = ("MILD", "MODERATE", "SEVERE", "LIFE THREATENING", "FATAL")

RUNAWAY = (
    "A group, or a combination of covariates, has no event or nothing but the worst: no finite odds ratio. Leave it "
    "out, or use kapstats.safety.signals.rare_event_model (Firth) for any against none."
)


def max_severity(ae: Incidence, column: str | None = None) -> Estimates:
    """Count subjects by the worst severity that they had of every term; a missing severity counts as the worst.

    Parameters
    ----------
    column : severity of the ADAE record; by default AETOXGR, ASEVN, AESEV ..., whichever is there. Numbers order
        themselves, words by MILD < MODERATE < SEVERE < LIFE THREATENING < FATAL

    Returns
    -------
    Estimates with level, the terms, the group, the severity column, n_subjects, n_events, N and percent; zero rows
    included. The rows of one term and group add up to its n_subjects. ``at least`` counts are cumulative sums from
    the worst (column n_at_least).

    Raises
    ------
    DataError
        When there is no severity column, or its words have no order.
    """
    name = _column(ae, column)
    rank, grades, missing = _ranked(ae.records.events[name])
    n_rows, n_arms = len(ae.frame) // len(ae.arms), len(ae.arms)
    n_subjects = ae.records.arm.size
    at_least = np.zeros((len(grades), n_rows, n_arms), dtype=np.int64)
    events = np.zeros_like(at_least)
    for rows, target in membership(ae):
        subject, severity = ae.records.subject[rows], rank[rows]
        for g in range(len(grades)):
            hit = severity >= g
            at_least[g] += distinct_counts(target[hit], subject[hit], ae.records.arm, n_rows, n_arms)[0]
            same = severity == g
            cell = target[same] * n_arms + ae.records.arm[subject[same]]
            events[g] += np.bincount(cell, minlength=n_rows * n_arms).reshape(n_rows, n_arms)
    worst = at_least - np.concatenate([at_least[1:], np.zeros((1, n_rows, n_arms), dtype=np.int64)])
    keys = ae.frame[["level", *ae.terms, ae.by]].loc[ae.frame.index.repeat(len(grades))].reset_index(drop=True)
    size = np.tile(np.repeat(ae.records.size, len(grades)), n_rows)
    counted = np.moveaxis(worst, 0, 2).reshape(-1)
    frame = keys.assign(
        **{name: np.tile(np.array(grades, dtype=object), n_rows * n_arms)},
        n_subjects=counted,
        n_at_least=np.moveaxis(at_least, 0, 2).reshape(-1),
        n_events=np.moveaxis(events, 0, 2).reshape(-1),
        N=size,
        percent=100 * counted / size,
    )
    said = f"{missing} records without {name} count as {grades[-1]}" if missing else f"{name} complete"
    description = estimates.meta(
        method="maximum severity",
        level=None,
        title=f"Adverse events by maximum {name}",
        sentence="; ".join([f"Worst {name} per subject and row", said, *ae.records.notes]),
        warnings=(*ae.warnings, *([said] if missing else [])),
        data=ae.records.fingerprint() + str(n_subjects),
        frame_kind=ae.records.kind,
    )
    return Estimates(frame, description)


def severity_model(
    ae: Incidence,
    term: str | None = None,
    *,
    column: str | None = None,
    covariates: Sequence[str] = (),
    level: float = 0.95,
) -> Estimates:
    """Estimate how much higher the odds of a worse maximum severity are than in the reference (proportional odds).

    Every subject of the population counts once: no event, or the worst severity of `term`. logit P(Y <= k) =
    alpha_k - x'b: one odds ratio holds at every cut, between no event and mild as between moderate and severe.

    Parameters
    ----------
    term : a term of any level, or a custom grouping; None is any event
    column : as in `max_severity`
    covariates : ADSL columns

    Returns
    -------
    Estimates with contrast "A - B", estimate (log odds ratio), std_error, statistic, p_value, conf_low, conf_high;
    thresholds and loglik in ``.meta``. ``exponentiate()`` gives odds ratios. Where a group has no event, or nothing but
    the worst, there is no finite estimate: all are NaN, with a warning.

    Agrees with
    -----------
    MASS 7.3-58.2 polr, 1e-5.

    References
    ----------
    McCullagh (1980), Journal of the Royal Statistical Society B 42:109.
    """
    name = _column(ae, column)
    rank, grades, missing = _ranked(ae.records.events[name])
    rows = rows_of(ae, term)
    worst = np.full(ae.records.arm.size, -1, dtype=np.int64)
    np.maximum.at(worst, ae.records.subject[rows], rank[rows])
    there, y = np.unique(worst, return_inverse=True)
    if there.size < 2:
        raise EstimabilityError(f"severity_model: all {worst.size} subjects are in one category; there is no contrast.")
    fit = cumulative_logit(y.astype(np.int64), columns_of.design(ae, covariates))
    said = [] if fit.converged else [RUNAWAY if fit.separated else "The proportional-odds fit did not converge."]
    for text in said:
        warn(text)
    q, first = len(ae.arms) - 1, there.size - 1
    estimate = fit.coefficients[:q] if fit.converged else np.full(q, np.nan)
    covariance = fit.covariance[first : first + q, first : first + q]
    error = np.sqrt(np.diag(covariance)) if fit.converged else np.full(q, np.nan)
    frame = pd.DataFrame({"contrast": columns_of.contrasts(ae), "estimate": estimate, "std_error": error})
    frame = frame.assign(**wald(estimate, error, level=level))
    labels = ["none" if k < 0 else str(grades[k]) for k in there]
    counts = ", ".join(f"{label} {n}" for label, n in zip(labels, np.bincount(y), strict=True))
    note = f"worst {name} of {term or 'any event'} per subject: {counts}"
    note += f"; {missing} records without it count as {grades[-1]}" if missing else ""
    description = estimates.meta(
        method="proportional odds",
        level=level,
        title=f"Odds of a worse maximum {name} of {term or 'adverse events'}",
        sentence="; ".join(["proportional odds, maximum likelihood", note, *ae.records.notes]),
        warnings=(*ae.warnings, *said),
        data=ae.records.fingerprint(),
        frame_kind=ae.records.kind,
        scale="log",
        measure="odds ratio",
        thresholds=dict(zip(itertools.pairwise(labels), fit.thresholds.tolist(), strict=True)),
        loglik=fit.loglik,
    )
    return Estimates(frame, description, covariance)


def _column(ae: Incidence, column: str | None) -> str:
    name = column or next((c for c in COLUMNS if c in ae.records.events.columns), None)
    if name is None:
        raise DataError(f"ADAE has no severity column ({', '.join(COLUMNS)}). Name it: column='...'.")
    frames.require(ae.records.events, [name], "ADAE")
    return name


def _ranked(values: pd.Series) -> tuple[np.ndarray, list[object], int]:
    """Position of each severity in ascending order, the levels, and how many are missing (taken as the worst)."""
    numeric = pd.to_numeric(values, errors="coerce")
    blank = values.isna() | (values.astype("object").astype(str).str.strip() == "")
    if bool((numeric.notna() | blank).all()):
        values_there = np.unique(numeric.dropna().to_numpy(dtype=float)).tolist()
        grades: list[object] = [int(g) if g.is_integer() else g for g in values_there]
        rank = np.searchsorted(np.array(values_there), numeric.fillna(np.inf).to_numpy(dtype=float))
    else:
        text = coded_terms(values).str.upper()
        unknown = sorted(set(text[~blank]) - set(WORDS))
        if unknown:
            raise DataError(
                f"{values.name}: severities {unknown[:5]} have no order. Use grades, or {', '.join(WORDS)}."
            )
        grades = [w for w in WORDS if (text[~blank] == w).any()]
        rank = text.map({w: i for i, w in enumerate(grades)}).fillna(len(grades) - 1).to_numpy(dtype=np.int64)
    top = max(len(grades) - 1, 0)
    return np.minimum(rank, top).astype(np.int64), grades or ["Missing"], int(blank.sum())
