"""Comparing routes without being misled: crude beside stratified, exposure-matched, propensity-weighted; harm as NNH.

Routes differ between trials in dose, drug, population and how side effects were asked for. A table pooled over trials
compares all of these at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import ndtri

from kapstats import estimates, frames
from kapstats._types import FloatArray, IntArray
from kapstats.errors import DataError, EstimabilityError, warn
from kapstats.estimates import Estimates
from kapstats.inference.intervals import check_level, wald
from kapstats.kernels import stratified_tables
from kapstats.kernels.propensity import propensity, weighted_risks
from kapstats.safety.covariates import dummies, need_two_groups
from kapstats.safety.follow_up import rows_of
from kapstats.safety.stratified import term_cube

if TYPE_CHECKING:
    from kapstats.safety.incidence import Incidence

WARNING = (
    "Groups pooled over {strata} mix differences between groups with differences between its levels. {n} of {total} "
    "crude comparisons differ from the stratified ones in sign or by more than one standard error: read the stratified."
)


def crude_and_stratified(ae: Incidence, strata: str = "STUDYID", *, level: float = 0.95) -> Estimates:
    """Estimate risk differences twice: crude (pooled over `strata`) and within strata (Mantel-Haenszel, Sato).

    Only strata that hold both groups can compare them; groups that never meet have no stratified estimate (NaN).

    Returns
    -------
    Estimates with level, the terms, contrast, estimate (stratified), std_error, conf_low, conf_high, strata (how many
    hold both groups), crude, and misleading: crude and stratified differ in sign or by more than one standard error.

    Examples
    --------
    >>> from kapstats.safety.incidence import incidence
    >>> adsl = {"USUBJID": list(range(8)), "TRT01A": ["A", "B"] * 4, "TRT01AN": [0, 1] * 4, "STUDYID": list("xxxxyyyy")}
    >>> ae = incidence({"USUBJID": [1, 3], "AEDECOD": ["Nausea"] * 2, "TRTEMFL": ["Y"] * 2}, adsl, terms=["AEDECOD"])
    >>> crude_and_stratified(ae)["crude"].tolist()
    [0.5, 0.5]
    """
    z = float(-ndtri((1 - check_level(level)) / 2))
    need_two_groups(ae)
    base = ae.arms.index(ae.reference)
    keys = ae.frame[["level", *ae.terms]].iloc[:: len(ae.arms)].reset_index(drop=True)
    parts = []
    for arm in (i for i in range(len(ae.arms)) if i != base):
        table = term_cube(ae, arm, base, strata)
        with np.errstate(invalid="ignore", divide="ignore"):
            pooled, error = stratified_tables.difference(*table), stratified_tables.sato_error(*table)
        crude = table[0].sum(1) / table[1].sum(1) - table[2].sum(1) / table[3].sum(1)
        both = ((table[1] > 0) & (table[3] > 0)).sum(1)
        apart = (crude * pooled < 0) | (np.abs(crude - pooled) > error)
        columns = {
            "estimate": pooled,
            "std_error": error,
            "conf_low": pooled - z * error,
            "conf_high": pooled + z * error,
        }
        named = keys.assign(contrast=f"{ae.arms[arm]} - {ae.arms[base]}", **columns, strata=both, crude=crude)
        parts.append(named.assign(misleading=apart & np.isfinite(pooled)))
    frame = pd.concat(parts, ignore_index=True)
    said = []
    if frame["misleading"].any():
        text = WARNING.format(strata=strata, n=int(frame["misleading"].sum()), total=len(frame))
        said.append(warn(text))
    title = f"Risk differences, crude and stratified by {strata}"
    return Estimates(frame, _meta(ae, title, "mantel-haenszel", level, f"stratified by {strata}", said))


def exposure_matched(ae: Incidence, exposure: str, *, bins: int = 4, level: float = 0.95) -> Estimates:
    """Estimate risk differences between groups at equal exposure (dose, Cmax or AUC).

    Subjects of the two groups are cut into `bins` by quantiles of their joint exposure; the difference is pooled over
    the bins that hold both (Mantel-Haenszel). Subjects outside the overlap say nothing about it and are counted.

    Parameters
    ----------
    exposure : numeric ADSL column

    Returns
    -------
    Estimates with level, the terms, contrast, estimate, std_error, statistic, p_value, conf_low, conf_high, bins (that
    hold both groups) and matched (subjects in them).

    Raises
    ------
    EstimabilityError
        When no bin holds both groups.
    """
    frames.require(ae.records.subjects, [exposure], "ADSL")
    value = pd.to_numeric(ae.records.subjects[exposure], errors="coerce").to_numpy(dtype=float)
    need_two_groups(ae)
    base = ae.arms.index(ae.reference)
    keys = ae.frame[["level", *ae.terms]].iloc[:: len(ae.arms)].reset_index(drop=True)
    parts = []
    for arm in (i for i in range(len(ae.arms)) if i != base):
        table = _binned(ae, value, arm, base, bins)
        both = (table[1][0] > 0) & (table[3][0] > 0)
        name = f"{ae.arms[arm]} - {ae.arms[base]}"
        if not both.any():
            raise EstimabilityError(f"{name}: no bin of {exposure} holds both groups; their exposures do not overlap.")
        estimate, error = stratified_tables.difference(*table), stratified_tables.sato_error(*table)
        matched = int((table[1][0] + table[3][0])[both].sum())
        columns = {"estimate": estimate, "std_error": error, **wald(estimate, error, level=level)}
        parts.append(keys.assign(contrast=name, **columns, bins=int(both.sum()), matched=matched))
    frame = pd.concat(parts, ignore_index=True)
    note = f"matched on {exposure} in {bins} bins, {int(np.isnan(value).sum())} subjects without it left out"
    return Estimates(frame, _meta(ae, f"Risk differences at equal {exposure}", "mantel-haenszel", level, note, []))


def _binned(
    ae: Incidence, value: FloatArray, arm: int, base: int, bins: int
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """(rows, bins) counts of two groups by quantiles of their joint exposure."""
    from kapstats.safety.signals import indicator

    n_rows = len(ae.frame) // len(ae.arms)
    event = indicator(ae, np.arange(n_rows, dtype=np.int64))
    held = ((ae.records.arm == arm) | (ae.records.arm == base)) & ~np.isnan(value)
    if not held.any():
        raise DataError("exposure_matched: nobody in these groups has an exposure.")
    cuts = np.unique(np.quantile(value[held], np.linspace(0, 1, bins + 1)[1:-1]))
    place = np.searchsorted(cuts, value, side="left")
    counts = []
    for group in (arm, base):
        own = held & (ae.records.arm == group)
        member = (place[own][:, None] == np.arange(cuts.size + 1)).astype(float)
        counts += [event[own].T @ member, np.tile(member.sum(axis=0), (n_rows, 1))]
    return counts[0], counts[1], counts[2], counts[3]


@dataclass(frozen=True)
class Weighted:
    """A propensity-weighted comparison: estimates (Estimates), balance and overlap (data frames)."""

    estimates: Estimates
    balance: pd.DataFrame
    overlap: pd.DataFrame


def propensity_weighted(
    ae: Incidence,
    covariates: Sequence[str],
    *,
    terms: Sequence[str | None] = (None,),
    trim: float = 0.01,
    level: float = 0.95,
) -> Weighted:
    """Estimate risk differences in a registry, every group weighted to the covariates of all subjects.

    Inverse probability of treatment weights from a multinomial logistic propensity model; risks are weighted means;
    the sandwich variance includes the estimation of the weights. This removes confounding by the covariates given, and
    by no other.

    Parameters
    ----------
    covariates : ADSL columns measured before treatment
    terms : terms to compare; None is any event
    trim : propensities below it are raised to it (and counted)

    Returns
    -------
    Weighted. estimates: term, contrast, estimate, std_error, statistic, p_value, conf_low, conf_high, crude. balance:
    largest standardised mean difference of every covariate between groups, before and after. overlap: per group the
    subjects, effective sample size, largest weight and trimmed subjects. A difference above 0.1 after weighting warns.

    References
    ----------
    Lunceford & Davidian (2004), Statistics in Medicine 23:2937. Austin & Stuart (2015), Statistics in Medicine 34:3661.
    """
    check_level(level)
    records = ae.records
    X, names = _covariates(records.subjects, covariates)
    need_two_groups(ae)
    groups = len(ae.arms)
    fit = propensity(np.column_stack([np.ones(len(X)), X]), records.arm, groups)
    own = fit.probability[np.arange(len(X)), records.arm]
    weight = 1 / np.maximum(own, trim)
    event = np.zeros((len(X), len(terms)))
    for k, term in enumerate(terms):
        event[records.subject[rows_of(ae, term)], k] = 1.0
    risk, influence = weighted_risks(event, weight, records.arm, groups, fit.score)
    crude = np.stack([event[records.arm == g].mean(axis=0) for g in range(groups)])
    frame = _weighted_rows(ae, terms, risk, influence, crude, level)
    balance = _balance(X, names, weight, records.arm, groups)
    overlap = _overlap(ae, weight, own, trim)
    said = _unbalanced(balance, fit.converged)
    for text in said:
        warn(text)
    note = f"weights from {', '.join(covariates)}; {int((own < trim).sum())} propensities raised to {trim:g}"
    title = "Propensity-weighted risk differences"
    return Weighted(
        Estimates(frame, _meta(ae, title, "inverse probability weights", level, note, said)), balance, overlap
    )


def _covariates(subjects: pd.DataFrame, names: Sequence[str]) -> tuple[FloatArray, list[str]]:
    columns, labels = [], []
    for name in names:
        made = dummies(subjects, name)
        columns += made
        labels += [name] if len(made) == 1 else [f"{name}.{k}" for k in range(1, len(made) + 1)]
    X = np.column_stack(columns)
    return (X - X.mean(axis=0)) / np.maximum(X.std(axis=0), 1e-12), labels


def _weighted_rows(
    ae: Incidence,
    terms: Sequence[str | None],
    risk: FloatArray,
    influence: FloatArray,
    crude: FloatArray,
    level: float,
) -> pd.DataFrame:
    base, n = ae.arms.index(ae.reference), influence.shape[0]
    rows = []
    for arm in (i for i in range(len(ae.arms)) if i != base):
        estimate = risk[arm] - risk[base]
        error = np.sqrt(((influence[:, arm] - influence[:, base]) ** 2).sum(axis=0)) / n
        columns = {"estimate": estimate, "std_error": error, **wald(estimate, error, level=level)}
        keys = {"term": [t or "ANY" for t in terms], "contrast": f"{ae.arms[arm]} - {ae.arms[base]}"}
        rows.append(pd.DataFrame({**keys, **columns, "crude": crude[arm] - crude[base]}))
    return pd.concat(rows, ignore_index=True)


def _balance(X: FloatArray, names: list[str], weight: FloatArray, arm: IntArray, groups: int) -> pd.DataFrame:
    """Largest difference between any two groups' means, in standard deviations of the whole sample."""
    found = []
    for w in (np.ones_like(weight), weight):
        means = np.stack([np.average(X[arm == g], axis=0, weights=w[arm == g]) for g in range(groups)])
        found.append(means.max(axis=0) - means.min(axis=0))
    return pd.DataFrame({"covariate": names, "before": found[0], "after": found[1]})


def _overlap(ae: Incidence, weight: FloatArray, own: FloatArray, trim: float) -> pd.DataFrame:
    rows = []
    for g, arm in enumerate(ae.arms):
        w = weight[ae.records.arm == g]
        size = {"n": w.size, "effective": w.sum() ** 2 / (w**2).sum(), "largest_weight": w.max() / w.mean()}
        rows.append({ae.by: arm, **size, "trimmed": int((own[ae.records.arm == g] < trim).sum())})
    return pd.DataFrame(rows)


def _unbalanced(balance: pd.DataFrame, converged: bool) -> list[str]:
    said = [] if converged else ["The propensity model did not converge: groups may be separated by the covariates."]
    left = balance.loc[balance["after"] > 0.1, "covariate"].tolist()
    if left:
        said.append(f"After weighting, groups still differ by more than 0.1 SD in: {', '.join(left)}.")
    return said


def number_needed_to_harm(differences: Estimates) -> Estimates:
    """Number needed to harm from risk differences, with Altman's interval.

    1/RD; a negative difference is a number needed to benefit. Limits are the reciprocals of those of the difference;
    when they have different signs the interval runs through infinity, from NNTB 1/abs(low) over infinity to
    NNTH 1/high, and conf_low, conf_high hold these two ends with ``through_infinity`` True.

    Parameters
    ----------
    differences : result of `ks.risk_difference`, `Incidence.compare` or any Estimates of risk differences

    Returns
    -------
    Estimates with the identifying columns, estimate (inf at no difference), conf_low, conf_high, through_infinity
    and text.

    References
    ----------
    Altman (1998), BMJ 317:1309.

    Examples
    --------
    >>> from kapstats.safety.difference import risk_difference
    >>> number_needed_to_harm(risk_difference(7, 25, 2, 25))["text"].tolist()
    ['NNTH 5.0 (NNTB 59.3 to inf to NNTH 2.4)']
    """
    frame = differences.frame
    rd, low, high = (frame[c].to_numpy(dtype=float) for c in ("estimate", "conf_low", "conf_high"))
    with np.errstate(divide="ignore"):
        nn, at_low, at_high = 1 / rd, 1 / low, 1 / high
    crosses = (low < 0) & (high > 0)
    kept = [c for c in frame.columns if c not in _STATISTICS]
    out = frame[kept].assign(
        estimate=np.where(rd == 0, np.inf, nn),
        conf_low=np.where(crosses, at_low, at_high),
        conf_high=np.where(crosses, at_high, at_low),
        through_infinity=crosses,
        text=[altman(*v) for v in zip(rd, low, high, strict=True)],
    )
    description = {**differences.meta, "title": "Number needed to harm (Altman's interval)", "scale": "natural"}
    description["measure"] = "number needed to harm"
    return Estimates(out, description)


_STATISTICS = ("estimate", "std_error", "df", "statistic", "p_value", "p_adjusted", "conf_low", "conf_high")


def altman(rd: float, low: float, high: float) -> str:
    """The number needed to harm (or to benefit) of a risk difference, with the reciprocals of its limits."""
    if np.isnan(rd) or np.isnan(low) or np.isnan(high):
        return "NE"
    point = _signed(rd)
    if low < 0 < high:
        return f"{point} ({_signed(low)} to inf to {_signed(high)})"
    ends = (high, low) if low >= 0 else (low, high)
    return f"{point} ({_signed(ends[0])} to {_signed(ends[1])})"


def _signed(rd: float) -> str:
    if rd == 0:
        return "inf"
    return f"{'NNTH' if rd > 0 else 'NNTB'} {1 / abs(rd):.1f}"


def _meta(ae: Incidence, title: str, method: str, level: float, note: str, said: Sequence[str]) -> dict[str, Any]:
    return estimates.meta(
        method=method,
        level=level,
        title=title,
        sentence="; ".join([title, note, *ae.records.notes]),
        warnings=(*ae.warnings, *said),
        data=ae.records.fingerprint(),
        frame_kind=ae.records.kind,
    )
