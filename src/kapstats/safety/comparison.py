"""Every group against the reference for every adverse event term."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kapstats import estimates
from kapstats._types import FloatArray
from kapstats.data.conventions import in_words
from kapstats.errors import FormulaError, choose
from kapstats.estimates import Estimates
from kapstats.inference import multiplicity
from kapstats.inference.intervals import check_level
from kapstats.kernels import false_discovery
from kapstats.safety import rows
from kapstats.safety import two_by_two as pairs
from kapstats.safety.incidence import choose_arm

if TYPE_CHECKING:
    from kapstats.safety.incidence import Incidence

ADJUSTMENTS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "none": lambda p: p,
    "bonferroni": multiplicity.bonferroni,
    "holm": multiplicity.holm,
    "hochberg": multiplicity.hochberg,
    "hommel": false_discovery.hommel,
    "bh": false_discovery.benjamini_hochberg,
    "by": false_discovery.benjamini_yekutieli,
}


def compare(
    ae: Incidence,
    method: str | None = None,
    reference: Any = None,
    *,
    measure: str = "risk-difference",
    level: float = 0.95,
    side: str = "two",
    test: str | None = None,
    strata: str | None = None,
    adjust: str | None = None,
) -> Estimates:
    """Estimate the difference of risk between every group and the reference, term by term.

    Parameters
    ----------
    method : of `ks.risk_difference`, `ks.risk_ratio` or `ks.odds_ratio`, whichever `measure` says; by default
        miettinen-nurminen
    reference : the group subtracted; by default the reference of `ae`
    measure : risk-difference, risk-ratio or odds-ratio
    test : p value of another test than the method's own: fisher, fisher-central, fisher-mid-p, fisher-mid-p-central,
        barnard, boschloo, chi-square, chi-square-n-1, yates, likelihood-ratio, wald. Methods without a
        test of their own (newcombe, agresti-caffo) use fisher
    strata : ADSL column, such as STUDYID: Mantel-Haenszel weights over its levels (Miettinen-Nurminen's score)
    adjust : none, bonferroni, holm, hochberg, hommel, bh, by; across the terms of one level within a comparison

    Returns
    -------
    Estimates with level, the terms, contrast "A - B", x1 n1 x2 n2, estimate, statistic, p_value, conf_low, conf_high,
    and p_adjusted when an adjustment is asked for.

    Examples
    --------
    >>> from kapstats.safety.incidence import incidence
    >>> adsl = {"USUBJID": [1, 2, 3], "TRT01A": ["KAP", "KAP", "Placebo"], "TRT01AN": [1, 1, 0]}
    >>> ae = incidence({"USUBJID": [1], "AEDECOD": ["Nausea"], "TRTEMFL": ["Y"]}, adsl, terms=["AEDECOD"])
    >>> compare(ae)["contrast"].tolist()
    ['KAP - Placebo', 'KAP - Placebo']
    """
    check_level(level)
    choose(measure, pairs.MEASURES, "measure")
    chosen = method or "miettinen-nurminen"
    adjust = adjust or ae.adjust or "none"
    choose(adjust, ADJUSTMENTS, "adjust")
    base = ae.reference if reference is None else reference
    at = choose_arm(base, ae.records)
    if len(ae.arms) < 2:
        raise FormulaError(f"compare: {ae.by} has one group only ({ae.arms[0]}).")
    parts = [_one(ae, other, at, chosen, measure, level, side, test, strata) for other in _others(ae, at)]
    frame = pd.concat(parts, ignore_index=True)
    if adjust != "none":
        by_family = frame.groupby(["contrast", "level"], sort=False)["p_value"]
        frame["p_adjusted"] = by_family.transform(lambda p: ADJUSTMENTS[adjust](p.to_numpy(dtype=float)))
    return Estimates(frame, _meta(ae, chosen, measure, level, side, test, strata, adjust))


def _others(ae: Incidence, reference: int) -> list[int]:
    return [i for i in range(len(ae.arms)) if i != reference]


def _one(
    ae: Incidence,
    arm: int,
    reference: int,
    method: str,
    measure: str,
    level: float,
    side: str,
    test: str | None,
    strata: str | None,
) -> pd.DataFrame:
    tail = rows.check_side(side, level)
    n = len(ae.arms)
    counts = ae.frame["n_subjects"].to_numpy(dtype=float).reshape(-1, n)
    size = ae.records.size.astype(float)
    one = np.ones(len(counts))
    table = (counts[:, arm], size[arm] * one, counts[:, reference], size[reference] * one)
    keys = ae.frame[["level", *ae.terms]].iloc[::n].reset_index(drop=True)
    keys["contrast"] = f"{ae.arms[arm]} - {ae.arms[reference]}"
    for name, values in zip(pairs.NAMES, table, strict=True):
        keys[name] = values.astype(np.int64)
    if strata is not None:
        from kapstats.safety.stratified import term_columns

        columns = term_columns(ae, arm, reference, strata, method, measure, tail, side)
    else:
        choose(method, pairs.MEASURES[measure].methods, "method")
        columns = pairs.columns_of(measure, method, table, tail, side)
        if test is not None or "p_value" not in columns:
            columns = _with_p(columns, pairs.p_values(table, test or "fisher", side))
    return keys.assign(**columns)


def _with_p(columns: dict[str, FloatArray], p: FloatArray) -> dict[str, FloatArray]:
    """The columns with this p value in its place, and no statistic of another test beside it."""
    before = {k: v for k, v in columns.items() if k in ("estimate", "std_error")}
    return before | {"p_value": p} | {k: columns[k] for k in ("conf_low", "conf_high")}


def _meta(
    ae: Incidence,
    method: str,
    measure: str,
    level: float,
    side: str,
    test: str | None,
    strata: str | None,
    adjust: str,
) -> dict[str, Any]:
    words = measure.replace("-", " ")
    own = strata is not None or (test is None and pairs.MEASURES[measure].methods[method].test is not None)
    tested = "its own test" if own else (test or "fisher")
    stratified = f", stratified by {strata}" if strata else ""
    sentence = f"{words}: {method}{stratified}, p value: {tested}, adjusted: {adjust}; {'; '.join(ae.records.notes)}"
    return estimates.meta(
        method=method,
        level=level,
        side=side,
        adjustment=adjust,
        scale=pairs.MEASURES[measure].scale,
        title=f"Adverse events: {words} by {in_words(ae.by)}",
        sentence=sentence,
        warnings=ae.warnings,
        data=ae.records.fingerprint(),
        frame_kind=ae.records.kind,
        measure=measure,
        error_scale="log" if pairs.MEASURES[measure].scale == "natural" else "identity",
        test=tested,
        strata=strata,
    )
