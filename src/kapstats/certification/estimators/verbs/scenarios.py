"""Verbs on the tables of a trial: scores at visits, time to relapse, adverse events."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

import kapstats as ks
from kapstats._types import FloatArray
from kapstats.certification.estimators.common import Analysis, complete, numbers, tested, wald_rows, within
from kapstats.certification.estimators.verbs.reading import complement, keyed, of_counts, on_trial, p_values
from kapstats.simulation.adam import assemble
from kapstats.simulation.draw import Draw, present
from kapstats.simulation.scenario import Scenario
from kapstats.simulation.subjects import OLDER
from kapstats.simulation.truth.safety import levels

# ------------------------------------------------------------------------------------------------ scores

MODEL = "CHG ~ BASE*AVISIT + TRT01P*AVISIT + us(AVISIT | USUBJID)"


def _against_reference(scenario: Scenario) -> list[str]:
    return [f"{a.label} - {scenario.reference.label}" for a in scenario.arms[1:]]


def _mmrm(df: str, from_statistics: bool = False) -> Analysis:
    def one(scenario: Scenario, trial: Any, level: float) -> FloatArray:
        held = trial.adqs[trial.adqs["AVISITN"] > 0]
        fit = ks.MmrmStatistics.from_data(MODEL, held).fit(df=df) if from_statistics else ks.mmrm(MODEL, held, df=df)
        found = fit.lsmeans("TRT01P", by="AVISIT").contrast("trt.vs.ctrl", level=level).frame
        days = [f"Day {d}" for d in present(scenario.response).days]
        return keyed(found, ["AVISIT", "contrast"], [(d, c) for d in days for c in _against_reference(scenario)])

    return on_trial(one, complete)


# ------------------------------------------------------------------------------------------------ relapse

RELAPSE = "Surv(AVAL, CNSR == 0) ~ TRT01P"


def _labels(scenario: Scenario) -> list[str]:
    return [a.label for a in scenario.arms]


def _kaplan_meier(conf_type: str) -> Analysis:
    def one(scenario: Scenario, trial: Any, level: float) -> FloatArray:
        times = present(scenario.relapse).milestones
        found = ks.kaplan_meier(RELAPSE, trial.adtte, conf_type=conf_type, level=level).at(times).frame
        return keyed(found, ["TRT01P", "time"], [(a, t) for a in _labels(scenario) for t in times])

    return on_trial(one, lambda x: np.isfinite(x[..., 2]) & (x[..., 1] > 0))


def _rmst(scenario: Scenario, trial: Any, level: float) -> FloatArray:
    found = ks.rmst(RELAPSE, trial.adtte, tau=present(scenario.relapse).tau, level=level).frame
    means, gaps = (found[found["quantity"] == q] for q in ("rmst", "difference"))
    each = keyed(means, ["TRT01P"], _labels(scenario)), keyed(gaps, ["contrast"], _against_reference(scenario))
    return np.vstack(each)


def _cox(scenario: Scenario, trial: Any, level: float) -> FloatArray:
    found = ks.cox(RELAPSE, trial.adtte, level=level).coefficients.frame
    return keyed(found, ["term"], [f"TRT01P{a}" for a in _labels(scenario)[1:]])


def _logrank(scenario: Scenario, trial: Any, level: float) -> FloatArray:
    found = ks.logrank(RELAPSE, trial.adtte, pairwise=True).frame
    return p_values(keyed(found, ["contrast"], _against_reference(scenario))[:, 4])


# ------------------------------------------------------------------------------------------------ adverse events


def _counted(scenario: Scenario, d: Draw) -> pd.DataFrame:
    """x and n of every arm and term, those without any event too, as `ks.incidence` counts them."""
    found = ks.incidence(assemble(d, truth=False)).frame.set_index(["TRT01A", "level", "AEBODSYS", "AEDECOD"])
    keys = [tuple(row.get(k, "") for k in ("level", "AEBODSYS", "AEDECOD")) for row, _ in levels(scenario)]
    size = found["N"].groupby(level=0, observed=True).first()
    counts = found["n_subjects"].reindex([(a, *k) for a in _labels(scenario) for k in keys], fill_value=0)
    labels = counts.index.get_level_values(0)
    return pd.DataFrame({"TRT01A": labels, "x": counts.to_numpy(), "n": size.reindex(labels).to_numpy()})


def _proportion(method: str) -> Analysis:
    def one(scenario: Scenario, d: Draw, level: float) -> pd.DataFrame:
        counted = _counted(scenario, d)
        return ks.proportion("x", "n", method, level=level, data=counted).frame.assign(p_value=np.nan)

    return of_counts(one, np.nan)


def _against_first(counted: pd.DataFrame, reference: str) -> pd.DataFrame:
    """x1 n1 x2 n2 of every other arm beside the reference."""
    base = counted[counted["TRT01A"] == reference]
    rest = counted[counted["TRT01A"] != reference].reset_index(drop=True)
    again = pd.concat([base] * (len(rest) // max(len(base), 1)), ignore_index=True)
    return pd.DataFrame({"x1": rest["x"], "n1": rest["n"], "x2": again["x"], "n2": again["n"]})


def _risk_difference(method: str) -> Analysis:
    def one(scenario: Scenario, d: Draw, level: float) -> pd.DataFrame:
        table = _against_first(_counted(scenario, d), scenario.reference.label)
        return ks.risk_difference("x1", "n1", "x2", "n2", method, data=table, level=level).frame

    return of_counts(one, 0.0)


def _by_stratum(scenario: Scenario, trial: Any) -> pd.DataFrame:
    """x and n by sex and age group, arm and class of events, from ADSL and ADAE."""
    adsl = trial.adsl.assign(STRATUM=trial.adsl["SEX"] + (trial.adsl["AGE"] >= OLDER).map({True: " old", False: ""}))
    hit = {"ANY": trial.adae["USUBJID"].unique()}
    hit |= {soc: rows["USUBJID"].unique() for soc, rows in trial.adae.groupby("AEBODSYS", observed=True)}
    classes = [r.get("AEBODSYS") or "ANY" for r, _ in levels(scenario) if r["level"] in ("ANY", "SOC")]
    held = pd.concat(
        [adsl.assign(CLASS=c, HIT=adsl["USUBJID"].isin(hit.get(c, ()))) for c in classes], ignore_index=True
    )
    grouped = held.groupby(["STRATUM", "TRT01A", "CLASS"])["HIT"].agg(x="sum", n="size")
    wanted = [sorted(adsl["STRATUM"].unique()), _labels(scenario), classes]
    index = pd.MultiIndex.from_product(wanted, names=["STRATUM", "TRT01A", "CLASS"])
    return grouped.reindex(index, fill_value=0).reset_index()


def _between_routes(standardised: bool) -> Analysis:
    """Risk differences within strata by the verb, weighted by the share of everybody in the stratum."""

    def one(scenario: Scenario, trial: Any, level: float) -> FloatArray:
        counted = _by_stratum(scenario, trial)
        if not standardised:
            keys = ["TRT01A", "CLASS"]
            counted = counted.groupby(keys, sort=False)[["x", "n"]].sum().reset_index().assign(STRATUM="all")
        parts, share = [], []
        for _, rows in counted.groupby("STRATUM"):
            table = _against_first(rows, scenario.reference.label)
            parts.append(numbers(ks.risk_difference("x1", "n1", "x2", "n2", "wald", data=table, level=level).frame))
            share.append(rows.groupby("TRT01A")["n"].first().sum())
        if not standardised:
            return parts[0]
        weight = np.array(share)[:, None] / sum(share)
        x = np.stack(parts)
        estimate, error = (weight * x[..., 0]).sum(axis=0), np.sqrt((weight**2 * x[..., 1] ** 2).sum(axis=0))
        return wald_rows(estimate, error, level)

    return on_trial(one)


def _sessions(trial: Any, planned: int) -> pd.DataFrame:
    """AVAL, the session of the first event, and STATUS: 1 the event, 2 treatment stopped before it, 0 neither."""
    first = trial.adae.groupby("USUBJID")["SESSION"].min().reindex(trial.adsl["USUBJID"]).to_numpy(dtype=float)
    given = trial.adex.groupby("USUBJID")["SESSION"].size().reindex(trial.adsl["USUBJID"], fill_value=0).to_numpy()
    status = np.where(np.isfinite(first), 1, np.where(given < planned, 2, 0))
    time = np.where(status == 1, first, given + 0.5 * (status == 2))
    return trial.adsl[["USUBJID", "TRT01P", "TRT01PN"]].assign(AVAL=time, STATUS=status)


def _any_event(competing: bool) -> Analysis:
    """Probability of any event by the last session of each arm."""

    def one(scenario: Scenario, trial: Any, level: float) -> FloatArray:
        table = _sessions(trial, len(present(scenario.dosing).days))
        if competing:
            curve = ks.cumulative_incidence("Surv(AVAL, STATUS) ~ TRT01P", table, level=level).to_frame()
        else:
            formula = "Surv(AVAL, STATUS == 1) ~ TRT01P"
            curve = ks.kaplan_meier(formula, table, conf_type="log-log", level=level).to_frame()
        last = curve.groupby("TRT01P", observed=True).last().reset_index()
        x = keyed(last, ["TRT01P"], _labels(scenario))
        return x if competing else complement(x)

    return on_trial(one, lambda x: within(x) & (x[..., 0] > 0) & (x[..., 0] < 1))


VERBS: dict[str, Analysis] = {
    "mmrm": _mmrm("kenward-roger"),
    "mmrm-satterthwaite": _mmrm("satterthwaite", from_statistics=True),
    "mmrm-z": _mmrm("normal"),
    "kaplan_meier": _kaplan_meier("log-log"),
    "kaplan_meier-plain": _kaplan_meier("plain"),
    "rmst": on_trial(_rmst),
    "cox": on_trial(_cox),
    "logrank": on_trial(_logrank, tested),
    "proportion": _proportion("clopper-pearson"),
    "proportion-wilson": _proportion("wilson"),
    "proportion-wald": _proportion("wald"),
    "risk_difference": _risk_difference("miettinen-nurminen"),
    "risk_difference-newcombe": _risk_difference("newcombe"),
    "risk_difference-wald": _risk_difference("wald"),
    "risk_difference-standardised": _between_routes(True),
    "risk_difference-pooled": _between_routes(False),
    "aalen-johansen": _any_event(True),
    "1-km": _any_event(False),
}
