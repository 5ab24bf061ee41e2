"""Log-rank tests: plain, weighted, stratified, trend, max-combo and pairwise."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import chdtrc, ndtr

from kapstats import estimates
from kapstats._types import FloatArray, FrameLike, IntArray
from kapstats.errors import EstimabilityError, FormulaError, check_level, check_memory, choose
from kapstats.estimates import Estimates
from kapstats.inference import multiplicity
from kapstats.kernels import weighted_logrank as wl
from kapstats.kernels.risk_sets import risk_sets
from kapstats.relapse.surv_data import (
    Groups,
    SurvData,
    check_convention,
    group_rows,
    group_terms,
    unpack,
    unstated_order,
)

WEIGHTS = ("fleming-harrington", "gehan", "tarone-ware", "peto-peto", "modified-peto-peto", "max-combo")
#: of the p values of pairs
ADJUSTMENTS = ("none", "bonferroni", "holm", "hochberg", "sidak", "bh")
#: (rho, gamma) of the default max-combo
COMBO = ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0))


@dataclass(frozen=True, repr=False)
class LogRank(Estimates):
    """One row: statistic (chi-square, or z), df, p_value.

    counts : per group n, observed and expected events (weighted when the test is), score and its variance
    components : of a max-combo, the z of every weight function and their correlation
    """

    counts: Estimates | None = None
    components: Estimates | None = None


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is tested: weight name, rho and gamma, components of a max-combo, trend scores, side."""

    weights: str
    rho: float
    gamma: float
    combo: tuple[tuple[float, float], ...]
    scores: tuple[float, ...] | None
    side: str

    @property
    def name(self) -> str:
        if self.weights != "fleming-harrington":
            return f"{self.weights} weighted log-rank test" if self.weights != "max-combo" else self._combo_name
        if not self.rho and not self.gamma:
            return "log-rank test"
        return f"Fleming-Harrington({self.rho:g}, {self.gamma:g}) weighted log-rank test"

    @property
    def _combo_name(self) -> str:
        return "max-combo of " + ", ".join(f"FH({r:g}, {g:g})" for r, g in self.combo)


def logrank(
    formula: str,
    data: FrameLike,
    *,
    rho: float = 0.0,
    gamma: float = 0.0,
    weights: str | None = None,
    combo: Sequence[tuple[float, float]] = COMBO,
    trend: bool | Sequence[float] = False,
    pairwise: bool = False,
    adjust: str = "none",
    side: str = "two",
    landmark: float | None = None,
    level: float = 0.95,
    order: Mapping[str, Sequence[Any]] | None = None,
    convention: str | None = None,
) -> LogRank:
    """Test whether the hazards of groups are equal.

    U = sum over event times of w(t) (d_g(t) - n_g(t) d(t) / n(t)), with the hypergeometric covariance V; statistic
    U' V^-1 U. With ``strata()`` U and V are summed over strata (weights from the curve within the stratum).

    Parameters
    ----------
    formula : ``Surv(time, event) ~ group + strata(a, b)``; delayed entry is allowed
    rho, gamma : Fleming-Harrington weights S(t-)^rho (1 - S(t-))^gamma, S the pooled Kaplan-Meier estimate
    weights : None or "fleming-harrington" (rho, gamma), "gehan" (n), "tarone-ware" (sqrt n), "peto-peto",
        "modified-peto-peto", "max-combo"
    combo : (rho, gamma) pairs of the max-combo (two groups)
    trend : True for a trend over scores 0, 1, 2 ... in group order, or the scores
    pairwise : one row per pair of groups, p values adjusted by `adjust`
    adjust : none, bonferroni, holm, hochberg, sidak or bh (pairwise only)
    side : "two"; "less" or "greater" (second group minus first, or trend) tests fewer or more events by the z statistic
    landmark : compare only rows still under observation after this time
    level : checked, as everywhere; a test has no limits, so no number depends on it
    convention : "SAS" does not merge times that differ by rounding

    Returns
    -------
    LogRank : one row `test statistic df p_value`; ``.counts`` per group; ``.components`` of a max-combo

    Raises
    ------
    EstimabilityError
        No event, or fewer than two groups at risk when one happens.

    Agrees with
    -----------
    R survival 3.5-3 (survdiff), survMisc 0.5.6, survminer 0.4.9 (pairwise): relative error below 1e-10. The max-combo p
    value is exact to 1e-6 of itself, which is closer than mvtnorm 1.1-3 comes for a singular correlation.

    References
    ----------
    Fleming and Harrington (1991) Counting Processes and Survival Analysis. Karrison (2016) Stata J 16: 678-690.

    Examples
    --------
    >>> import pandas as pd
    >>> data = pd.DataFrame({"t": [1, 2, 3, 4, 5, 6.0], "e": [1, 1, 0, 1, 1, 1], "arm": list("aababb")})
    >>> test = logrank("Surv(t, e) ~ arm", data, order={"arm": ["a", "b"]})
    >>> test.to_frame()[["statistic", "df"]].round(4).values.tolist()
    [[4.3822, 1.0]]
    """
    check_level(level)
    convention = check_convention(convention)
    name = choose(weights or "fleming-harrington", WEIGHTS, "weights")
    choose(side, ("two", "less", "greater"), "side")
    if weights is not None and weights != "fleming-harrington" and (rho or gamma):
        given = f"rho={rho:g}, gamma={gamma:g}"
        raise FormulaError(f"weights={weights!r} does not use {given}: those are of 'fleming-harrington'. Give one.")
    surv = unpack(formula, data, order=order, merge_times=convention != "SAS", landmark=landmark)
    groups = group_rows(surv.frame, group_terms(surv.formula), order)
    _check(surv, groups)
    scores = _trend_scores(trend, groups)
    choose(adjust, ADJUSTMENTS, "adjust")
    plan = _Plan(name, float(rho), float(gamma), tuple((float(r), float(g)) for r, g in combo), scores, side)
    note = (f"convention {convention}",) if convention else ()
    meta = estimates.meta(
        method=("trend over groups, " if scores else "") + _stratified(plan.name, surv),
        level=None,
        side=side,
        adjustment=adjust if pairwise else "none",
        title="Log-rank test" if plan.name == "log-rank test" else "Weighted log-rank test",
        sentence=f"{_stratified(plan.name, surv)}; {surv.sentence()}",
        estimand="equality of the hazards of the event at all times",
        conventions=("hypergeometric variance; weights from the pooled curve just before each time", *note),
        warnings=(*surv.warnings, *unstated_order(groups)),
        data=surv.data_print,
        frame_kind=surv.kind,
    )
    if pairwise:
        return _pairwise(surv, groups, plan, adjust, meta)
    return _test(surv, groups, plan, meta)


def _check(surv: SurvData, groups: Groups) -> None:
    if len(groups) < 2:
        raise EstimabilityError(f"{surv.formula.text!r}: a test needs two groups with rows; here is {len(groups)}.")
    if not surv.n_events:
        raise EstimabilityError(f"{surv.formula.text!r}: no event among {len(surv)} rows, so nothing can be tested.")


def _stratified(name: str, surv: SurvData) -> str:
    by = ", ".join(surv.strata.frame.columns)
    return f"{name}, stratified by {by} ({len(surv.strata)} strata)" if by else name


def _trend_scores(trend: bool | Sequence[float], groups: Groups) -> tuple[float, ...] | None:
    if trend is False:
        return None
    scores = tuple(float(i) for i in range(len(groups))) if trend is True else tuple(float(s) for s in trend)
    if len(scores) != len(groups):
        raise FormulaError(f"trend: {len(scores)} scores for {len(groups)} groups ({', '.join(groups.labels)}).")
    return scores


def _test(surv: SurvData, groups: Groups, plan: _Plan, meta: dict[str, Any]) -> LogRank:
    sets = risk_sets(surv.time, surv.event, surv.entry, surv.strata.codes, len(surv.strata))
    check_memory(
        4.0 * sets.size * len(groups) + 3.0 * len(groups) ** 2,
        f"{surv.formula.text!r}: {len(groups):,} groups at {sets.size:,} times",
        "Was an identifier named as group? Use strata(...) or a factor with fewer levels.",
    )
    counts = wl.group_counts(sets, groups.codes, len(groups))
    if plan.weights == "max-combo":
        return _max_combo(counts, groups, plan, meta)
    found = wl.weighted_scores(counts, wl.weight_function(counts, plan.weights, plan.rho, plan.gamma)[None])
    score, covariance = found.score[0], found.covariance[0, 0]
    row = _row(score, covariance, found.expected[0], plan)
    table = _count_table(groups, found, counts, meta)
    return LogRank(pd.DataFrame([{"test": _label(plan), **row}]), meta, counts=table)


def _label(plan: _Plan) -> str:
    return plan.name + (" for trend" if plan.scores else "")


def _row(score: FloatArray, covariance: FloatArray, expected: FloatArray, plan: _Plan) -> dict[str, Any]:
    """statistic, df, p_value of one test; z instead of chi-square when it is one-sided."""
    if plan.scores is None and plan.side == "two":
        chi_square, df = wl.quadratic(score, covariance, expected)
        if not df or not np.isfinite(chi_square):
            raise EstimabilityError(
                "Fewer than two groups are at risk when an event happens, so nothing can be compared."
            )
        return {"statistic": chi_square, "df": df, "p_value": float(chdtrc(df, chi_square))}
    if plan.scores is None and len(score) != 2:
        raise FormulaError(f"side={plan.side!r} needs two groups or a trend; here are {len(score)} groups.")
    c = np.asarray(plan.scores if plan.scores is not None else (0.0, 1.0))
    z = float(c @ score / np.sqrt(c @ covariance @ c))
    if plan.side == "two":
        return {"statistic": z**2, "df": 1, "p_value": float(2 * ndtr(-abs(z)))}
    return {"statistic": z, "df": np.inf, "p_value": float(ndtr(z if plan.side == "less" else -z))}


def _count_table(groups: Groups, found: wl.WeightedScores, counts: wl.Counts, meta: dict[str, Any]) -> Estimates:
    n = np.bincount(groups.codes, minlength=len(groups))
    frame = groups.frame.assign(
        n=n,
        n_events=counts.events.sum(axis=0).astype(np.int64),
        observed=found.observed[0],
        expected=found.expected[0],
        score=found.score[0],
        variance=np.diag(found.covariance[0, 0]),
    )
    return Estimates(frame, {**meta, "title": "Observed and expected events"}, found.covariance[0, 0])


def _max_combo(counts: wl.Counts, groups: Groups, plan: _Plan, meta: dict[str, Any]) -> LogRank:
    if len(groups) != 2:
        raise FormulaError(f"max-combo compares two groups; here are {len(groups)}: {', '.join(groups.labels)}.")
    found = wl.weighted_scores(counts, np.stack([wl.weight_function(counts, "fh", r, g) for r, g in plan.combo]))
    covariance = found.covariance[:, :, 1, 1]
    sd = np.sqrt(np.diag(covariance))
    if not np.all(sd > 0):
        raise EstimabilityError("A component of the max-combo has no variance; the groups are never compared.")
    z, correlation = found.score[:, 1] / sd, covariance / np.outer(sd, sd)
    most = {"two": np.abs(z).max(), "less": z.min(), "greater": z.max()}[plan.side]
    row = {"statistic": float(most), "df": np.nan, "p_value": wl.max_normal_p(correlation, float(most), plan.side)}
    parts = pd.DataFrame(plan.combo, columns=["rho", "gamma"]).assign(statistic=z, p_value=2 * ndtr(-np.abs(z)))
    components = Estimates(parts, {**meta, "title": "Components of the max-combo"}, correlation)
    plain = wl.weighted_scores(counts, np.ones((1, len(counts.d))))
    table = _count_table(groups, plain, counts, meta)
    frame = pd.DataFrame([{"test": plan.name, **row}])
    return LogRank(frame, meta, counts=table, components=components)


def _pairwise(surv: SurvData, groups: Groups, plan: _Plan, adjust: str, meta: dict[str, Any]) -> LogRank:
    """One test per pair of groups on the rows of the two, as R's pairwise_survdiff."""
    names, rows, tables = groups.names, [], []
    for a, b in itertools.combinations(range(len(groups)), 2):
        keep = np.flatnonzero((groups.codes == a) | (groups.codes == b))
        part = Groups(groups.frame.iloc[[a, b]].reset_index(drop=True), (groups.codes[keep] == b).astype(np.int64), {})
        found = _test(_subset(surv, keep), part, plan, meta)
        rows.append({"contrast": f"{names[b]} - {names[a]}", **found.frame.iloc[0].drop("test")})
        assert found.counts is not None
        tables.append(found.counts.frame.assign(contrast=rows[-1]["contrast"]))
    frame = pd.DataFrame(rows)
    frame["p_value"] = _adjusted(frame["p_value"].to_numpy(float), adjust)
    counts = Estimates(pd.concat(tables, ignore_index=True), {**meta, "title": "Observed and expected events"})
    return LogRank(frame, {**meta, "title": "Pairwise log-rank tests"}, counts=counts)


def _subset(surv: SurvData, keep: IntArray) -> SurvData:
    codes = np.unique(surv.strata.codes[keep], return_inverse=True)[1]
    strata = Groups(surv.strata.frame.iloc[np.unique(surv.strata.codes[keep])], codes.astype(np.int64), {})
    return replace(
        surv,
        kept=surv.kept[keep],
        time=surv.time[keep],
        event=surv.event[keep],
        entry=None if surv.entry is None else surv.entry[keep],
        strata=strata,
    )


def _adjusted(p: FloatArray, adjust: str) -> FloatArray:
    if adjust == "none":
        return p
    return benjamini_hochberg(p) if adjust == "bh" else getattr(multiplicity, adjust)(p)


def benjamini_hochberg(p: Iterable[float]) -> FloatArray:
    """Adjusted p values that control the false discovery rate.

    Examples
    --------
    >>> benjamini_hochberg([0.01, 0.02, 0.06]).round(3).tolist()
    [0.03, 0.03, 0.06]
    """
    values = np.asarray(list(p), dtype=float)
    m = len(values)
    down = np.argsort(-values, kind="stable")
    stepped = np.minimum.accumulate(values[down] * m / (m - np.arange(m)))
    out = np.empty(m)
    out[down] = np.minimum(stepped, 1.0)
    return out
