"""What can go wrong in a Cox model, named: columns, levels and strata, with the remedy."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from kapstats._types import BoolArray, FloatArray
from kapstats.errors import ConvergenceError, EstimabilityError, first_ids
from kapstats.relapse.surv_data import SurvData

REMEDY = (
    "Use penalty='firth' for a finite estimate, conf='profile' for a likelihood interval, or an exact log-rank test."
)


def require_events(surv: SurvData) -> None:
    """Raise when no row has the event: nothing can be estimated."""
    if not surv.n_events:
        raise EstimabilityError(
            f"{surv.formula.text!r}: none of the {len(surv)} rows has the event, so no hazard ratio can be estimated. "
            f"Check which value of {surv.formula.response.args[-1]!r} means the event."  # type: ignore[union-attr]
        )


def require_finite(surv: SurvData, names: Iterable[str], infinite: BoolArray) -> None:
    """Raise when a coefficient runs to infinity in a model that then has no answer."""
    lost = [n for n, gone in zip(names, infinite, strict=True) if gone]
    if lost:
        raise EstimabilityError(
            f"{surv.formula.text!r}: {', '.join(lost)} separates rows with early events from the others: its estimate "
            "is infinite and the variance of the frailty is not determined. Leave it out, or fit without frailty()."
        )


def empty_strata(surv: SurvData) -> list[str]:
    """A warning when strata hold no event."""
    events = np.bincount(surv.strata.codes, surv.event, len(surv.strata))
    empty = np.flatnonzero(events == 0)
    if len(surv.strata) < 2 or not len(empty):
        return []
    names = first_ids(surv.strata.labels[i] for i in empty)
    rows = int(np.isin(surv.strata.codes, empty).sum())
    return [f"{len(empty)} of {len(surv.strata)} strata hold no event ({names}); their {rows} rows add nothing."]


def aliased(names: Iterable[str], lost: BoolArray) -> list[str]:
    """A warning that names the columns without a coefficient of their own."""
    dropped = [n for n, gone in zip(names, lost, strict=True) if gone]
    if not dropped:
        return []
    return [
        f"No coefficient for {', '.join(dropped)}: constant in every risk set, or a linear combination of "
        "earlier columns (collinear). Estimates are NaN; drop or combine these columns."
    ]


def require_possible(surv: SurvData, null: float, loglik: float, bounded: bool = True) -> None:
    """Raise when a log-likelihood lies below the one without covariates, or (bounded and without weights) above 0."""
    slack = 1e-7 * (1.0 + abs(null))
    if not null - slack <= loglik <= (slack if bounded and surv.weights is None else np.inf):
        raise ConvergenceError(
            f"{surv.formula.text!r}: the log-likelihood found, {loglik:.6g}, is impossible (without covariates it is "
            f"{null:.6g}{', and it is at most 0' if bounded else ''}). Rescale large covariates or offsets."
        )


def monotone(
    names: list[str], X: FloatArray, event: BoolArray, b: FloatArray, usable: BoolArray, remedy: str = REMEDY
) -> list[str]:
    """Warnings for coefficients without a finite maximum, with the level that has no event where there is one.

    names (p,), X (n, p) uncentred, b (p,) with +-inf, or NaN where the side is open; usable (p,) False where aliased.
    """
    texts = []
    together = _reference(names, X, event, usable & ~np.isfinite(b))
    for j in np.flatnonzero(np.isinf(b)):
        reason = together or _reason(names[j], X[:, j], event)
        end = "+infinity" if b[j] > 0 else "-infinity"
        texts.append(f"{names[j]}: the likelihood is monotone, the estimate runs to {end}{reason}. {remedy}")
    open_ended = [names[j] for j in np.flatnonzero(np.isnan(b) & usable)]
    if open_ended:
        texts.append(
            f"{', '.join(open_ended)}: not estimable (NaN). The likelihood is monotone in several columns together and "
            f"equally high whichever side these run to. {remedy}"
        )
    return texts


def _reference(names: list[str], X: FloatArray, event: BoolArray, lost: BoolArray) -> str:
    """The reason when it is the reference level, 0 in several indicator columns, that has no event."""
    columns = X[:, lost]
    rest = (columns == 0).all(axis=1)
    if lost.sum() < 2 or not np.isin(columns, (0.0, 1.0)).all() or not rest.any() or (event & rest).any():
        return ""
    level = ", ".join(n for n, gone in zip(names, lost, strict=True) if gone)
    return f" (no event among the {int(rest.sum())} rows of the reference, 0 in {level})"


def _reason(name: str, x: FloatArray, event: BoolArray) -> str:
    if set(np.unique(x)) <= {0.0, 1.0}:
        for value, text in ((1.0, f"with {name}"), (0.0, f"without {name}")):
            rows = x == value
            if rows.any() and not (event & rows).any():
                return f" (no event among the {int(rows.sum())} rows {text})"
            if (event & rows).sum() == rows.sum():
                return f" (every one of the {int(rows.sum())} rows {text} has the event)"
    return " (it separates rows with early events from the others)"
