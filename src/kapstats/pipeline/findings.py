"""What is wrong with the data of a plan: numbers that are none stop the run, the rest goes into the report."""

from __future__ import annotations

from kapstats.data.checks import check
from kapstats.data.trial import Trial
from kapstats.errors import DataError
from kapstats.pipeline.plan import Plan

#: rules whose breach leaves no number to analyse
FATAL = ("non-finite", "magnitude")
#: rules of the severity "note" that a reader of the report must know of
TOLD = ("active-text",)


def findings(plan: Plan, trial: Trial) -> tuple[str, ...]:
    """Errors and warnings of `trial.check()` in the datasets that the plan uses, errors first.

    Raises
    ------
    DataError
        For infinite numbers and numbers beyond 1e12.
    """
    used = {"adsl", *(analysis.dataset for analysis in plan.analyses)}
    found = check(trial, only=used).frame
    told = found[(found["severity"] != "note") | found["rule"].isin(TOLD)]
    told = told[told["rule"] != "required-variable"]  # an analysis that needs it says so
    said = [
        f"{r.dataset}{'.' * bool(r.variable)}{r.variable}: {r.finding}"
        + (f" ({r.rows} rows: {r.first_ids})" if r.rows else "")
        for r in told.itertuples()
    ]
    fatal = [text for text, rule in zip(said, told["rule"], strict=True) if rule in FATAL]
    if fatal:
        raise DataError(f"{'; '.join(fatal)}. Correct these values or leave them out (missing).")
    return tuple(said)
