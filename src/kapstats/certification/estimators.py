"""Estimators by name, as they are certified: arrays of replicates in, estimates with limits out, kernels in between.

An `Estimator` says which components of a scenario it needs, which rows of the truth it claims to estimate, and how it
analyses a block of replicates. Some names are negative controls (``mmrm-z``, ``1-km`` ...): methods in use that must
fail where the others pass.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import chdtrc, ndtr, ndtri

from kapstats._types import BoolArray, FloatArray, IntArray
from kapstats.certification import mmrm_batch
from kapstats.errors import ConvergenceError, EstimabilityError, KapstatsWarning, choose
from kapstats.kernels import one_proportion, score_intervals, two_proportions
from kapstats.kernels.aalen_johansen import aalen_johansen
from kapstats.kernels.cox_newton import cox_data
from kapstats.kernels.cox_newton import fit as cox_fit
from kapstats.kernels.product_limit import limits, product_limit, restricted_mean
from kapstats.kernels.risk_sets import risk_sets
from kapstats.kernels.weighted_logrank import group_counts, quadratic, weight_function, weighted_scores
from kapstats.relapse.parametric import parametric_survival
from kapstats.response.imputation import impute
from kapstats.response.lmm import lmm
from kapstats.simulation.draw import Draw, present
from kapstats.simulation.scenario import Scenario
from kapstats.simulation.subjects import OLDER
from kapstats.simulation.truth import levels

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What an estimator says of a block of replicates: all (replicates, rows); NaN where it says nothing."""

    estimate: FloatArray
    std_error: FloatArray
    low: FloatArray
    high: FloatArray
    p: FloatArray
    converged: BoolArray


@dataclass(frozen=True, slots=True)
class Estimator:
    """`rows` lists the rows of the truth that are estimated, `analyse` takes a block of replicates and a level."""

    name: str
    parts: tuple[str, ...]
    rows: Callable[[Scenario], list[Row]]
    analyse: Callable[[Scenario, Sequence[Draw], float], Answer]
    log: bool = False
    """estimates are logarithms of the values in the truth"""


def wald(estimate: FloatArray, error: FloatArray, level: float, null: float = 0.0) -> Answer:
    """Normal limits and p value; converged where both numbers are finite."""
    z = ndtri(0.5 + level / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * ndtr(-np.abs((estimate - null) / error))
    good = np.isfinite(estimate) & np.isfinite(error)
    return Answer(estimate, error, estimate - z * error, estimate + z * error, p, good)


def _rejects(low: FloatArray, high: FloatArray, null: float, level: float) -> FloatArray:
    """A p value that stands for the decision of an interval: below or above 1 - level."""
    with np.errstate(invalid="ignore"):
        return np.where((low > null) | (high < null), 0.0, 1.0) + 0.0 * low


# ------------------------------------------------------------------------------------------------ response


def _visit_rows(scenario: Scenario) -> list[Row]:
    reference = scenario.reference.label
    return [
        {"quantity": "mean_difference", "strategy": "hypothetical", "contrast": f"{a.label} - {reference}",
         "AVISIT": f"Day {d}"}
        for d in present(scenario.response).days for a in scenario.arms[1:]
    ]  # fmt: skip


def _mmrm(df: str) -> Callable[[Scenario, Sequence[Draw], float], Answer]:
    def analyse(scenario: Scenario, draws: Sequence[Draw], level: float) -> Answer:
        arm = np.stack([d.subjects.arm for d in draws])
        base = np.stack([present(d.scores).base for d in draws])
        y = np.stack([present(d.disposition).policy for d in draws]) - base[..., None]
        seen = np.stack([present(d.disposition).observed for d in draws])
        w = mmrm_batch.covariates(arm, base, len(scenario.arms))
        stats, fits = mmrm_batch.fit_block(w, y, seen)
        c = mmrm_batch.contrasts(stats, fits, w.shape[-1], df, level)
        good = np.broadcast_to(c.converged[:, None], c.estimate.shape)
        return Answer(c.estimate, c.std_error, c.low, c.high, c.p, good)

    return analyse


# ------------------------------------------------------------------------------------------------ relapse


def _each(
    scenario: Scenario, draws: Sequence[Draw], one: Callable[[FloatArray, BoolArray, IntArray], list[list[float]]]
) -> FloatArray:
    """(replicates, rows, numbers) of a function of times, events and arms of those at risk."""
    out = []
    for d in draws:
        f = present(d.follow_up)
        out.append(one(f.time[f.at_risk], f.event[f.at_risk], d.subjects.arm[f.at_risk]))
    return np.asarray(out, dtype=float)


def _arm_rows(quantity: str, labels: Callable[[Scenario], list[Row]]) -> Callable[[Scenario], list[Row]]:
    return lambda s: [{"quantity": quantity, "TRT01P": a.label, **x} for a in s.arms for x in labels(s)]


def _contrast_rows(quantity: str, labels: Callable[[Scenario], list[Row]]) -> Callable[[Scenario], list[Row]]:
    def rows(s: Scenario) -> list[Row]:
        names = [f"{a.label} - {s.reference.label}" for a in s.arms[1:]]
        return [{"quantity": quantity, "contrast": name, **x} for name in names for x in labels(s)]

    return rows


def _milestones(scenario: Scenario) -> list[Row]:
    return [{"time": t} for t in present(scenario.relapse).milestones]


def _tau(scenario: Scenario) -> list[Row]:
    return [{"tau": present(scenario.relapse).tau}]


def _kaplan_meier(conf_type: str) -> Callable[[Scenario, Sequence[Draw], float], Answer]:
    def analyse(scenario: Scenario, draws: Sequence[Draw], level: float) -> Answer:
        times = np.asarray(present(scenario.relapse).milestones)

        def one(time: FloatArray, event: BoolArray, arm: IntArray) -> list[list[float]]:
            rows = []
            for a in range(len(scenario.arms)):
                sets = risk_sets(time[arm == a], event[arm == a])
                curve = product_limit(sets)
                at = np.searchsorted(sets.time, times, side="right")
                s = np.append(1.0, curve.survival)[at]
                error = np.append(0.0, curve.std_error)[at]
                low, high = limits(s, error, level, conf_type)
                known = times <= time[arm == a].max(initial=0.0)
                rows += np.where(known, [s, error, low, high], np.nan).T.tolist()
            return rows

        x = _each(scenario, draws, one)
        with np.errstate(invalid="ignore"):
            good = np.isfinite(x[..., 2]) & (x[..., 1] > 0)
        return Answer(x[..., 0], x[..., 1], x[..., 2], x[..., 3], np.full(x.shape[:2], np.nan), good)

    return analyse


def _restricted_means(time: FloatArray, event: BoolArray, arm: IntArray, arms: int, tau: float) -> FloatArray:
    """(arms, 2): restricted mean and its variance, the curve carried on from its last step."""
    out = np.full((arms, 2), np.nan)
    for a in range(arms):
        t, e = time[arm == a], event[arm == a]
        if t.max(initial=0.0) >= tau or (t.size and e[t == t.max()].all()):
            sets = risk_sets(t, e)
            curve = product_limit(sets)
            out[a] = restricted_mean(sets.time, curve.n_event, curve.n_risk, curve.survival, tau)
    return out


def _rmst(scenario: Scenario, draws: Sequence[Draw], level: float) -> Answer:
    tau = present(scenario.relapse).tau

    def one(time: FloatArray, event: BoolArray, arm: IntArray) -> list[list[float]]:
        found = _restricted_means(time, event, arm, len(scenario.arms), tau)
        gap = np.column_stack([found[1:, 0] - found[0, 0], found[1:, 1] + found[0, 1]])
        return np.concatenate([found, gap]).tolist()

    x = _each(scenario, draws, one)
    return wald(x[..., 0], np.sqrt(x[..., 1]), level)


def _rmst_rows(scenario: Scenario) -> list[Row]:
    return _arm_rows("rmst", _tau)(scenario) + _contrast_rows("rmst_difference", _tau)(scenario)


def _logrank(scenario: Scenario, draws: Sequence[Draw], level: float) -> Answer:
    def one(time: FloatArray, event: BoolArray, arm: IntArray) -> list[list[float]]:
        rows = []
        for a in range(1, len(scenario.arms)):
            use = (arm == 0) | (arm == a)
            counts = group_counts(risk_sets(time[use], event[use]), (arm[use] == a).astype(np.int64), 2)
            s = weighted_scores(counts, weight_function(counts, "fleming-harrington")[None])
            chi, df = quadratic(s.score[0], s.covariance[0, 0], s.expected[0])
            rows.append([float(chdtrc(df, chi)) if df else np.nan])
        return rows

    p = _each(scenario, draws, one)[..., 0]
    nothing = np.full(p.shape, np.nan)
    return Answer(nothing, nothing, nothing, nothing, p, np.isfinite(p))


def _cox(scenario: Scenario, draws: Sequence[Draw], level: float) -> Answer:
    """Log hazard ratios of every arm against the first, ties by Efron; infinite ones are not estimates."""
    arms = len(scenario.arms)

    def one(time: FloatArray, event: BoolArray, arm: IntArray) -> list[list[float]]:
        dummies = (arm[:, None] == np.arange(1, arms)).astype(float)
        data = cox_data(risk_sets(time, event), dummies)
        best = cox_fit(data)
        usable = best.converged and not best.infinite.any() and np.linalg.cond(best.at.information) < 1e10
        if not usable:
            return [[np.nan, np.nan]] * (arms - 1)
        variance = np.linalg.inv(best.at.information)
        return np.column_stack([best.b, np.diag(variance)]).tolist()

    x = _each(scenario, draws, one)
    return wald(x[..., 0], np.sqrt(x[..., 1]), level)


# ------------------------------------------------------------------------------------------------ safety


def _term_rows(quantity: str, by_arm: bool) -> Callable[[Scenario], list[Row]]:
    def labels(scenario: Scenario) -> list[Row]:
        return [row for row, _ in levels(scenario)]

    return _arm_rows(quantity, labels) if by_arm else _contrast_rows(quantity, labels)


def counts(scenario: Scenario, draws: Sequence[Draw]) -> tuple[FloatArray, FloatArray]:
    """Subjects with an event (replicates, arms, levels) and subjects treated (replicates, arms)."""
    terms = len(present(scenario.adverse_events).terms)
    member = np.zeros((terms, len(levels(scenario))))
    for j, (_, inside) in enumerate(levels(scenario)):
        member[inside, j] = 1
    x, n = [], []
    for d in draws:
        e = present(d.events)
        hit = np.zeros((d.n, terms))
        hit[e.subject, e.term] = 1
        group = (d.subjects.arm[:, None] == np.arange(len(scenario.arms))).astype(float)
        x.append(group.T @ ((hit @ member) > 0))
        n.append(group.sum(axis=0))
    return np.stack(x), np.stack(n)


def _proportion(limits_of: Callable[..., Any]) -> Callable[[Scenario, Sequence[Draw], float], Answer]:
    def analyse(scenario: Scenario, draws: Sequence[Draw], level: float) -> Answer:
        x, n = counts(scenario, draws)
        total = np.broadcast_to(n[..., None], x.shape)
        low, high = limits_of(x.ravel(), total.ravel(), (1 - level) / 2)
        shape = (len(draws), -1)
        p = (x / total).reshape(shape)
        error = np.sqrt(p * (1 - p) / total.reshape(shape))
        low, high = low.reshape(shape), high.reshape(shape)
        return Answer(p, error, low, high, np.full(p.shape, np.nan), np.isfinite(low))

    return analyse


def _risk_difference(limits_of: Callable[..., Any]) -> Callable[[Scenario, Sequence[Draw], float], Answer]:
    def analyse(scenario: Scenario, draws: Sequence[Draw], level: float) -> Answer:
        x, n = counts(scenario, draws)
        x1, n1 = x[:, 1:], np.broadcast_to(n[:, 1:, None], x[:, 1:].shape)
        x2, n2 = np.broadcast_to(x[:, :1], x1.shape), np.broadcast_to(n[:, :1, None], x1.shape)
        table = [np.ascontiguousarray(v).ravel() for v in (x1, n1, x2, n2)]
        low, high = (v.reshape(len(draws), -1) for v in limits_of(*table, (1 - level) / 2))
        d = two_proportions.difference(*table).reshape(len(draws), -1)
        error = two_proportions.wald_difference_error(*table).reshape(len(draws), -1)
        return Answer(d, error, low, high, _rejects(low, high, 0.0, level), np.isfinite(low))

    return analyse


def _class_rows(scenario: Scenario) -> list[Row]:
    """Any event, and every organ class."""
    return [r for r in _term_rows("risk_difference", False)(scenario) if r["level"] in ("ANY", "SOC")]


def stratified_counts(scenario: Scenario, d: Draw) -> tuple[FloatArray, FloatArray]:
    """Subjects with an event (strata, arms, classes) and subjects (strata, arms), by sex and age group."""
    e, groups = present(d.events), [inside for row, inside in levels(scenario) if row["level"] in ("ANY", "SOC")]
    hit = np.zeros((d.n, len(present(scenario.adverse_events).terms)), dtype=bool)
    hit[e.subject, e.term] = True
    any_of = np.stack([hit[:, inside].any(axis=1) for inside in groups], axis=1)
    stratum = 2 * d.subjects.female + (d.subjects.age >= OLDER)
    in_arm = d.subjects.arm[:, None] == np.arange(len(scenario.arms))
    cell = (stratum[:, None] == np.arange(4))[:, :, None] & in_arm[:, None]
    return np.einsum("isa,il->sal", cell.astype(float), any_of.astype(float)), cell.sum(axis=0).astype(float)


def _between_routes(standardised: bool) -> Callable[[Scenario, Sequence[Draw], float], Answer]:
    """Risk differences of a registry: pooled over everybody, or within sex and age group and standardised to all."""

    def one(scenario: Scenario, d: Draw) -> tuple[FloatArray, FloatArray]:
        x, n = stratified_counts(scenario, d)
        if not standardised:
            x, n = x.sum(axis=0, keepdims=True), n.sum(axis=0, keepdims=True)
        weight = (n.sum(axis=1) / n.sum())[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            p = x / n[..., None]
            variance = p * (1 - p) / n[..., None]
        gap, error = p[:, 1:] - p[:, :1], variance[:, 1:] + variance[:, :1]
        share = weight[..., None]
        return (share * gap).sum(axis=0).ravel(), np.sqrt((share**2 * error).sum(axis=0)).ravel()

    def analyse(scenario: Scenario, draws: Sequence[Draw], level: float) -> Answer:
        found = [one(scenario, d) for d in draws]
        return wald(np.stack([f[0] for f in found]), np.stack([f[1] for f in found]), level)

    return analyse


def first_events(scenario: Scenario, d: Draw) -> tuple[FloatArray, IntArray]:
    """Session of the first event of any kind (n,), and its cause (n,): 1 the event, 2 treatment stopped before it,
    0 all sessions given without an event."""
    taken, e = present(d.sessions), present(d.events)
    sessions = taken.given.shape[1]
    first = np.full(d.n, np.inf)
    np.minimum.at(first, e.subject, e.session + 1.0)
    last = taken.given.sum(axis=1).astype(float)
    cause = np.where(np.isfinite(first), 1, np.where(last < sessions, 2, 0))
    return np.where(np.isfinite(first), first, last + 0.5 * (cause == 2)), cause


def _any_event(by: str) -> Callable[[Scenario, Sequence[Draw], float], Answer]:
    """Probability of any event by the end of treatment: Aalen-Johansen, or 1 - Kaplan-Meier (stopping as censoring)."""

    def one(time: FloatArray, cause: IntArray) -> tuple[float, float]:
        if by == "aalen-johansen":
            curve = aalen_johansen(time, cause, 2)
            return float(curve.cif[-1, 0]), float(curve.se_cif[-1, 0])
        km = product_limit(risk_sets(time, cause == 1))
        return 1 - float(km.survival[-1]), float(km.std_error[-1])

    def analyse(scenario: Scenario, draws: Sequence[Draw], level: float) -> Answer:
        found = np.full((len(draws), len(scenario.arms), 2), np.nan)
        for i, d in enumerate(draws):
            time, cause = first_events(scenario, d)
            for a in range(len(scenario.arms)):
                rows = d.subjects.arm == a
                if (cause[rows] == 1).any():
                    found[i, a] = one(time[rows], cause[rows])
        return _log_log(found[..., 0], found[..., 1], level)

    return analyse


def _log_log(f: FloatArray, error: FloatArray, level: float) -> Answer:
    """Limits of a cumulative incidence on the log(-log) scale of the incidence."""
    z = ndtri(0.5 + level / 2)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        width = z * error / (f * np.log(f))
        low, high = f ** np.exp(-width), f ** np.exp(width)
    bounds = np.minimum(low, high), np.maximum(low, high)
    good = np.isfinite(bounds[0]) & (f > 0) & (f < 1)
    return Answer(f, error, bounds[0], bounds[1], np.full(f.shape, np.nan), good)


def _any_rows(scenario: Scenario) -> list[Row]:
    return [{"quantity": "incidence", "TRT01P": a.label, "level": "ANY"} for a in scenario.arms]


# ------------------------------------------------------------------------------------------------ whole fits

NUMBERS = ("estimate", "std_error", "conf_low", "conf_high", "p_value")


def _fits(one: Callable[[Scenario, Draw, float], pd.DataFrame]) -> Callable[[Scenario, Sequence[Draw], float], Answer]:
    """An estimator that is the library's own call, replicate by replicate; a fit that refuses has not converged."""

    def numbers(scenario: Scenario, d: Draw, level: float) -> FloatArray | None:
        try:
            return one(scenario, d, level)[list(NUMBERS)].to_numpy(dtype=float)
        except (ConvergenceError, EstimabilityError):
            return None

    def analyse(scenario: Scenario, draws: Sequence[Draw], level: float) -> Answer:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", KapstatsWarning)
            found = [numbers(scenario, d, level) for d in draws]
        shape = next((f.shape for f in found if f is not None), (1, len(NUMBERS)))
        x = np.stack([np.full(shape, np.nan) if f is None else f for f in found])
        estimate, error, low, high, p = np.moveaxis(x, 2, 0)
        return Answer(estimate, error, low, high, p, np.isfinite(x[..., :4]).all(axis=2))

    return analyse


def _arms(scenario: Scenario, codes: IntArray) -> pd.Categorical:
    return pd.Categorical.from_codes(codes, [a.label for a in scenario.arms])


def _weibull(scenario: Scenario, d: Draw, level: float) -> pd.DataFrame:
    """Log hazard ratios of a Weibull model of the interval between two visits in which the relapse fell."""
    f = present(d.follow_up)
    use = f.at_risk
    frame = pd.DataFrame({"left": f.left[use], "right": f.right[use], "arm": _arms(scenario, d.subjects.arm[use])})
    frame["right"] = frame["right"].where(np.isfinite(frame["right"]))
    fit = parametric_survival("Surv(left, right, type='interval2') ~ arm", frame, distribution="weibull", level=level)
    found = fit.hazard_ratios().frame.copy()
    ratio = found["estimate"].to_numpy(dtype=float)
    found["std_error"] = found["std_error"] / ratio
    found[["estimate", "conf_low", "conf_high"]] = np.log(found[["estimate", "conf_low", "conf_high"]].astype(float))
    return found


def _last_visit(scenario: Scenario) -> list[Row]:
    day = f"Day {present(scenario.response).days[-1]}"
    return [row for row in _visit_rows(scenario) if row["AVISIT"] == day]


def _sites(df: str) -> Callable[[Scenario, Draw, float], pd.DataFrame]:
    """Change at the last visit with random sites: few clusters, so the degrees of freedom matter."""

    def one(scenario: Scenario, d: Draw, level: float) -> pd.DataFrame:
        base, seen = present(d.scores).base, present(d.disposition).observed[:, -1]
        change = present(d.disposition).policy[:, -1] - base
        frame = pd.DataFrame({"change": change, "base": base, "arm": _arms(scenario, d.subjects.arm)})
        frame["site"] = [f"{s:02d}" for s in d.subjects.site]
        fit = lmm("change ~ base + arm + (1 | site)", frame[seen])
        found = fit.coefficients_by(df=df, level=level).frame
        return found[found["term"].str.startswith("arm")]

    return one


def _jump_to_reference(scenario: Scenario, d: Draw, level: float) -> pd.DataFrame:
    """Conditional-mean imputation under jump to reference with jackknife errors, the change at every visit."""
    spec, scores = present(scenario.response), present(d.disposition)
    visits, n = len(spec.days), d.n
    change = np.where(scores.observed, scores.policy - present(d.scores).base[:, None], np.nan)
    frame = pd.DataFrame({"id": np.repeat(np.arange(n), visits), "visit": np.tile(np.asarray(spec.days), n)})
    frame["arm"] = _arms(scenario, np.repeat(d.subjects.arm, visits))
    frame["base"], frame["change"] = np.repeat(present(d.scores).base, visits), change.ravel()
    model = "change ~ base*visit + arm*visit + us(visit | id)"
    plan = impute(
        frame, formula=model, arm="arm", reference=scenario.reference.label, strategy="J2R", method="conditional-mean"
    )
    found = plan.analyse("arm", level=level).frame
    return found[found["quantity"] == "difference"]


# ------------------------------------------------------------------------------------------------ the registry

_RELAPSE, _AE = ("relapse",), ("adverse_events",)

REGISTRY: dict[str, Estimator] = {
    e.name: e
    for e in (
        Estimator("mmrm", ("response",), _visit_rows, _mmrm("kenward-roger")),
        Estimator("mmrm-satterthwaite", ("response",), _visit_rows, _mmrm("satterthwaite")),
        Estimator("mmrm-z", ("response",), _visit_rows, _mmrm("normal")),
        Estimator("lmm", ("response",), _last_visit, _fits(_sites("kenward-roger"))),
        Estimator("lmm-z", ("response",), _last_visit, _fits(_sites("normal"))),
        Estimator("impute-j2r-jackknife", ("response",), _visit_rows, _fits(_jump_to_reference)),
        Estimator(
            "parametric_survival-weibull", _RELAPSE, _contrast_rows("hazard_ratio", lambda s: [{}]), _fits(_weibull),
            log=True,
        ),
        Estimator("kaplan_meier", _RELAPSE, _arm_rows("relapse_free", _milestones), _kaplan_meier("log-log")),
        Estimator("kaplan_meier-plain", _RELAPSE, _arm_rows("relapse_free", _milestones), _kaplan_meier("plain")),
        Estimator("rmst", _RELAPSE, _rmst_rows, _rmst),
        Estimator("cox", _RELAPSE, _contrast_rows("hazard_ratio", lambda s: [{}]), _cox, log=True),
        Estimator("logrank", _RELAPSE, _contrast_rows("hazard_ratio", lambda s: [{}]), _logrank),
        Estimator("proportion", _AE, _term_rows("incidence", True), _proportion(one_proportion.clopper_pearson)),
        Estimator("proportion-wilson", _AE, _term_rows("incidence", True), _proportion(one_proportion.wilson)),
        Estimator("proportion-wald", _AE, _term_rows("incidence", True), _proportion(one_proportion.wald)),
        Estimator(
            "risk_difference", _AE, _term_rows("risk_difference", False),
            _risk_difference(score_intervals.difference_limits),
        ),
        Estimator(
            "risk_difference-newcombe", _AE, _term_rows("risk_difference", False),
            _risk_difference(two_proportions.newcombe),
        ),
        Estimator(
            "risk_difference-wald", _AE, _term_rows("risk_difference", False),
            _risk_difference(two_proportions.wald_difference),
        ),
        Estimator("risk_difference-standardised", _AE, _class_rows, _between_routes(True)),
        Estimator("risk_difference-pooled", _AE, _class_rows, _between_routes(False)),
        Estimator("aalen-johansen", _AE, _any_rows, _any_event("aalen-johansen")),
        Estimator("1-km", _AE, _any_rows, _any_event("1-km")),
    )
}  # fmt: skip


def named(name: str) -> Estimator:
    """The estimator of that name."""
    return REGISTRY[choose(name, REGISTRY, "estimator")]
