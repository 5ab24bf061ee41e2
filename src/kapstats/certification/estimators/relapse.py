"""Time to relapse: product limit, restricted mean, log-rank, Cox, Weibull between two visits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.special import chdtrc

from kapstats._types import BoolArray, FloatArray, IntArray
from kapstats.certification.estimators.common import (
    Answer,
    Certificate,
    Estimator,
    Row,
    arm_rows,
    arms_of,
    contrast_rows,
    decided,
    fits,
    wald,
)
from kapstats.kernels.cox_newton import cox_data
from kapstats.kernels.cox_newton import fit as cox_fit
from kapstats.kernels.product_limit import limits, product_limit, restricted_mean
from kapstats.kernels.risk_sets import risk_sets
from kapstats.kernels.weighted_logrank import group_counts, quadratic, weight_function, weighted_scores
from kapstats.relapse.parametric import parametric_survival
from kapstats.simulation.draw import Draw, present
from kapstats.simulation.scenario import Scenario


def each(
    scenario: Scenario, draws: Sequence[Draw], one: Callable[[FloatArray, BoolArray, IntArray], list[list[float]]]
) -> FloatArray:
    """(replicates, rows, numbers) of a function of times, events and arms of those at risk."""
    out = []
    for d in draws:
        f = present(d.follow_up)
        out.append(one(f.time[f.at_risk], f.event[f.at_risk], d.subjects.arm[f.at_risk]))
    return np.asarray(out, dtype=float)


def milestones(scenario: Scenario) -> list[Row]:
    """The times at which the relapse-free share is asked for."""
    return [{"time": t} for t in present(scenario.relapse).milestones]


def tau_rows(scenario: Scenario) -> list[Row]:
    """The horizon of the restricted mean."""
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

        x = each(scenario, draws, one)
        with np.errstate(invalid="ignore"):
            good = np.isfinite(x[..., 2]) & (x[..., 1] > 0)
        return Answer(x[..., 0], x[..., 1], x[..., 2], x[..., 3], np.full(x.shape[:2], np.nan), good)

    return analyse


def _restricted_means(time: FloatArray, event: BoolArray, arm: IntArray, arms: int, tau: float) -> FloatArray:
    """(arms, 2): restricted mean and its variance; none where an arm is not followed to tau."""
    out = np.full((arms, 2), np.nan)
    for a in range(arms):
        t, e = time[arm == a], event[arm == a]
        if not (t.max(initial=0.0) >= tau or (t.size and e[t == t.max()].all())):
            return np.full((arms, 2), np.nan)
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

    x = each(scenario, draws, one)
    found = wald(x[..., 0], np.sqrt(x[..., 1]), level)
    gap = np.arange(x.shape[1]) >= len(scenario.arms)  # a mean is not tested
    return replace(found, p=np.where(gap, found.p, np.nan))


def _rmst_rows(scenario: Scenario) -> list[Row]:
    return arm_rows("rmst", tau_rows)(scenario) + contrast_rows("rmst_difference", tau_rows)(scenario)


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

    return decided(each(scenario, draws, one)[..., 0])


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

    x = each(scenario, draws, one)
    return wald(x[..., 0], np.sqrt(x[..., 1]), level)


def _weibull(scenario: Scenario, d: Draw, level: float) -> pd.DataFrame:
    """Log hazard ratios of a Weibull model of the interval between two visits in which the relapse fell."""
    f = present(d.follow_up)
    use = f.at_risk
    frame = pd.DataFrame({"left": f.left[use], "right": f.right[use], "arm": arms_of(scenario, d.subjects.arm[use])})
    frame["right"] = frame["right"].where(np.isfinite(frame["right"]))
    fit = parametric_survival("Surv(left, right, type='interval2') ~ arm", frame, distribution="weibull", level=level)
    found = fit.hazard_ratios().frame.copy()
    ratio = found["estimate"].to_numpy(dtype=float)
    found["std_error"] = found["std_error"] / ratio
    found[["estimate", "conf_low", "conf_high"]] = np.log(found[["estimate", "conf_low", "conf_high"]].astype(float))
    return found


def ratio_rows(scenario: Scenario) -> list[Row]:
    """The hazard ratio of every arm against the reference."""
    return contrast_rows("hazard_ratio", lambda s: [{}])(scenario)


_PARTS = ("relapse",)

ESTIMATORS: tuple[Estimator, ...] = (
    Estimator("kaplan_meier", _PARTS, arm_rows("relapse_free", milestones), _kaplan_meier("log-log")),
    Estimator("kaplan_meier-plain", _PARTS, arm_rows("relapse_free", milestones), _kaplan_meier("plain")),
    Estimator("rmst", _PARTS, _rmst_rows, _rmst),
    Estimator("cox", _PARTS, ratio_rows, _cox, log=True),
    Estimator("parametric_survival-weibull", _PARTS, ratio_rows, fits(_weibull), log=True),
    Estimator("logrank", _PARTS, ratio_rows, _logrank),
)

CERTIFICATES: tuple[Certificate, ...] = (
    Certificate("kaplan_meier", "kap-parallel", 240, note="about 20 responders per arm"),
    Certificate("kaplan_meier", "kap-parallel", 1200),
    Certificate("kaplan_meier", "kap-withdrawal", 176),
    Certificate("kaplan_meier-plain", "kap-parallel", 240, control=True, note="limits on the plain scale, small arms"),
    Certificate("cox", "kap-parallel", 480),
    Certificate("cox", "kap-parallel", 1200),
    Certificate("cox", "kap-parallel-null", 480),
    Certificate("parametric_survival-weibull", "kap-parallel", 480, note="relapse between two visits"),
    Certificate("logrank", "kap-parallel-null", 480, note="rejection is the type I error"),
    Certificate("rmst", "kap-withdrawal", 176),
    Certificate("rmst", "kap-parallel", 1200),
    Certificate("rmst", "kap-parallel", 240, control=True, note="about 20 responders per arm are too few"),
)
