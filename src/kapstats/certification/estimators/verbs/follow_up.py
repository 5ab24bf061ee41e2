"""Verbs in the worlds of follow-up: competing risks, recurrence, visits, interim analyses, states, pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

import kapstats as ks
from kapstats._types import BoolArray, FloatArray, IntArray
from kapstats.certification.estimators import follow_up as world
from kapstats.certification.estimators import follow_up_models as models
from kapstats.certification.estimators import worlds
from kapstats.certification.estimators.common import Analysis, estimated, fits, generator, in_world, numbers, tested
from kapstats.certification.estimators.verbs.reading import Good, Rows, complement, keyed, p_values, subjects

Drawn = np.random.Generator


def _of_arms(component: str, one: Callable[[Drawn, IntArray, float], Rows], good: Good = estimated) -> Analysis:
    """`one` of the replicate's own generator and its arms, 0 or 1, as the batch is."""
    return fits(lambda s, d, level: one(generator(d, component), np.minimum(d.subjects.arm, 1), level), good)


# ------------------------------------------------------------------------------------------- competing risks


def _fine_gray(rng: Drawn, arm: IntArray, level: float) -> pd.DataFrame:
    time, cause = worlds.competing(rng, arm, world.EFFECT)
    table = subjects(arm, AVAL=time, STATUS=cause)
    return ks.fine_gray("Surv(AVAL, STATUS) ~ TRT01P", table, level=level).coefficients.frame


def _as_censored(rng: Drawn, arm: IntArray, level: float) -> pd.DataFrame:
    time, cause = worlds.competing(rng, arm, world.EFFECT)
    table = subjects(arm, AVAL=time, CNSR=(cause != 1) * 1)
    return ks.cox("Surv(AVAL, CNSR == 0) ~ TRT01P", table, level=level).coefficients.frame


def _gray(rng: Drawn, arm: IntArray, level: float) -> FloatArray:
    time, cause = worlds.competing(rng, arm, 0.0)
    table = subjects(arm, AVAL=time, STATUS=cause)
    return p_values(ks.gray_test("Surv(AVAL, STATUS) ~ TRT01P", table).frame["p_value"])


def _cause_specific_logrank(rng: Drawn, arm: IntArray, level: float) -> FloatArray:
    time, cause = world.other_cause_differs(rng, arm)
    table = subjects(arm, AVAL=time, CNSR=(cause != 1) * 1)
    return p_values(ks.logrank("Surv(AVAL, CNSR == 0) ~ TRT01P", table).frame["p_value"])


def _causes(one: Callable[[pd.DataFrame, float], FloatArray]) -> Analysis:
    def read(rng: Drawn, n: int, level: float) -> FloatArray:
        arm = worlds.halves(n)
        time, cause = worlds.two_causes(rng, arm)
        return one(subjects(arm, AVAL=time, STATUS=cause, CNSR=(cause != 1) * 1), level)

    return in_world("causes", read)


def _incidence(table: pd.DataFrame, level: float) -> FloatArray:
    found = ks.cumulative_incidence("Surv(AVAL, STATUS) ~ TRT01P", table, level=level).at([models.AT]).frame
    return numbers(found)


def _one_minus_km(conf_type: str) -> Callable[[pd.DataFrame, float], FloatArray]:
    def one(table: pd.DataFrame, level: float) -> FloatArray:
        fit = ks.kaplan_meier("Surv(AVAL, CNSR == 0) ~ TRT01P", table, conf_type=conf_type, level=level)
        return complement(numbers(fit.at([models.AT]).frame))

    return one


def _risk_alone(table: pd.DataFrame, level: float) -> FloatArray:
    risk = _one_minus_km("plain")(table, level)
    return np.vstack([np.full_like(risk, np.nan), risk])


# ------------------------------------------------------------------------------------------- recurrence, states


def _events(rng: Drawn, arm: IntArray, b: float) -> pd.DataFrame:
    start, stop, event, who = worlds.recurrent(rng, arm, b, world.RATE, world.FRAILTY)
    rows = subjects(arm).iloc[who].reset_index(drop=True)
    return rows.assign(START=start, STOP=stop, EVENT=event * 1)


def _lwyy(rng: Drawn, arm: IntArray, level: float) -> pd.DataFrame:
    table = _events(rng, arm, world.EFFECT)
    return ks.recurrent("Surv(START, STOP, EVENT) ~ TRT01P", table, model="lwyy", level=level).coefficients.frame


def _independent(rng: Drawn, arm: IntArray, level: float) -> pd.DataFrame:
    table = _events(rng, arm, world.EFFECT)
    return ks.cox("Surv(START, STOP, EVENT) ~ TRT01P", table, ties="breslow", level=level).coefficients.frame


def _mean_count(rng: Drawn, arm: IntArray, level: float) -> pd.DataFrame:
    table = _events(rng, np.zeros_like(arm), 0.0)
    return ks.mean_cumulative_function("Surv(START, STOP, EVENT) ~ 1", table, level=level).at([world.BY]).frame


def _states(rng: Drawn, n: int, level: float) -> FloatArray:
    drawn = worlds.paths(rng, n)
    entered = np.array(["as before", "response", "relapse"])[drawn["to"].astype(int)]
    table = pd.DataFrame({"USUBJID": [f"S{int(i):05d}" for i in drawn["id"]], "STATUS": entered})
    table = table.assign(START=drawn["start"], STOP=drawn["stop"])
    fit = ks.state_occupation(
        "Surv(START, STOP, STATUS) ~ 1", table, initial="no response", censored="as before", level=level
    )
    return keyed(fit.at([models.AT]).frame, ["state"], ["response"])


# ------------------------------------------------------------------------------------------- visits


def _visits(one: Callable[[FloatArray, FloatArray], Any]) -> Analysis:
    """Relapse-free share at a time, from visits of three spacings; nothing but the estimate is judged."""

    def read(rng: Drawn, arm: IntArray, level: float) -> FloatArray:
        out = np.full((len(world.GAPS), 5), np.nan)
        for k, gap in enumerate(world.GAPS):
            given = worlds.visited(rng, arm.size, gap, world.MISSED, world.END, world.SHAPE, world.SCALE)
            out[k, 0] = one(*given).at([world.AT]).frame["estimate"].iloc[0]
        return out

    return _of_arms("visits", read, lambda x: np.isfinite(x[..., 0]))


def _between_visits(left: FloatArray, right: FloatArray) -> Any:
    table = pd.DataFrame({"LEFT": left, "RIGHT": pd.Series(right).where(np.isfinite(right))})
    return ks.turnbull("Surv(LEFT, RIGHT, type='interval2') ~ 1", table)


def _when_found(left: FloatArray, right: FloatArray) -> Any:
    seen = np.isfinite(right)
    table = pd.DataFrame({"AVAL": np.where(seen, right, left), "CNSR": (~seen) * 1})
    return ks.kaplan_meier("Surv(AVAL, CNSR == 0) ~ 1", table)


def _interval_cox(rng: Drawn, arm: IntArray, level: float) -> pd.DataFrame:
    left, right = world.monthly(rng, arm)
    table = subjects(arm, LEFT=left, RIGHT=pd.Series(right).where(np.isfinite(right)))
    return ks.interval_cox("Surv(LEFT, RIGHT, type='interval2') ~ TRT01P", table, level=level).coefficients.frame


# ------------------------------------------------------------------------------------------- interim analyses


def _interim(spending: bool) -> Analysis:
    """The log-rank test of what is seen at each analysis, given to the design; a control holds it against 1.96."""

    def one(rng: Drawn, arm: IntArray, level: float) -> FloatArray:
        z, events = world.looks(rng, arm, _z)
        if not spending:
            return p_values(0.0 if (np.abs(z) >= world.UNADJUSTED).any() else 1.0)
        design = ks.GroupSequentialDesign(information=world.LOOKS, alpha=0.025, sides=2)
        decision = design.analyse(np.abs(z).tolist(), events.tolist(), final=True).decision
        return p_values(0.0 if decision.startswith("reject") else 1.0)

    return _of_arms("staggered", one, tested)


def _z(time: FloatArray, event: BoolArray, arm: IntArray) -> float:
    table = subjects(arm, AVAL=time, CNSR=(~event) * 1)
    return float(np.sqrt(ks.logrank("Surv(AVAL, CNSR == 0) ~ TRT01P", table).frame["statistic"].iloc[0]))


def _pooled_stages(rng: Drawn, n: int, level: float) -> FloatArray:
    frame, _ = models.adapted(rng, n)
    table = subjects(frame["arm"].to_numpy(), AVAL=frame["t"], CNSR=1 - frame["e"])
    return p_values(ks.logrank("Surv(AVAL, CNSR == 0) ~ TRT01P", table, side="less").frame["p_value"])


VERBS: dict[str, Analysis] = {
    "fine_gray": _of_arms("competing", _fine_gray),
    "fine_gray-as-censored": _of_arms("competing", _as_censored),
    "gray_test": _of_arms("competing", _gray, tested),
    "gray_test-as-censored": _of_arms("competing", _cause_specific_logrank, tested),
    "cumulative_incidence": _causes(_incidence),
    "cumulative_incidence-1-km": _causes(_one_minus_km("log-log")),
    "cause_specific-one-cause": _causes(_risk_alone),
    "recurrent-lwyy": _of_arms("recurrent", _lwyy),
    "recurrent-model-based": _of_arms("recurrent", _independent),
    "mean_cumulative_function": _of_arms("recurrent", _mean_count),
    "state_occupation": in_world("paths", _states),
    "turnbull": _visits(_between_visits),
    "kaplan_meier-found": _visits(_when_found),
    "interval_cox": _of_arms("visits", _interval_cox),
    "group_sequential": _interim(True),
    "group_sequential-unadjusted": _interim(False),
    "weighted_logrank_combination-pooled": in_world("adapted", _pooled_stages),
}
