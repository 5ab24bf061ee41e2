"""Verbs in the worlds of adverse events: tables, strata, rates, first events, signals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

import kapstats as ks
from kapstats._types import FloatArray, IntArray
from kapstats.certification.estimators import multiplicity
from kapstats.certification.estimators import safety_tables as batch
from kapstats.certification.estimators.common import (
    Analysis,
    estimated,
    fits,
    generator,
    in_world,
    numbers,
    tested,
    wald_rows,
    within,
)
from kapstats.certification.estimators.verbs.reading import keyed, of_counts, p_values
from kapstats.simulation import safety_worlds as worlds
from kapstats.simulation.draw import Draw
from kapstats.simulation.scenario import Scenario

CELLS = ("x1", "n1", "x2", "n2")
VERB_OF = {"risk-difference": "risk_difference", "risk-ratio": "risk_ratio", "odds-ratio": "odds_ratio"}


def _compare(measure: str, table: pd.DataFrame, method: str, level: float, **options: Any) -> pd.DataFrame:
    verb = getattr(ks, VERB_OF[measure])
    found: pd.DataFrame = verb(*CELLS, method=method, data=table, level=level, **options).frame
    return found


# ------------------------------------------------------------------------------------------- two groups, strata


def _tables(measure: str, method: str) -> Analysis:
    def one(scenario: Scenario, d: Draw, level: float) -> pd.DataFrame:
        table = pd.DataFrame(dict(zip(CELLS, worlds.tables(generator(d, "tables"), d.n), strict=True)))
        return _compare(measure, table, method, level)

    return of_counts(one, batch.NULL[measure])


def _plain(measure: str, method: str) -> Analysis:
    """A control: the estimate and its error on the log scale from the verb, the limits on the ratio's own scale."""

    def one(scenario: Scenario, d: Draw, level: float) -> pd.DataFrame:
        table = pd.DataFrame(dict(zip(CELLS, worlds.tables(generator(d, "tables"), d.n), strict=True)))
        found = _compare(measure, table, method, level)
        ratio = found["estimate"].to_numpy(dtype=float)
        with np.errstate(invalid="ignore"):
            x = wald_rows(ratio, ratio * found["std_error"].to_numpy(dtype=float), level)
        return pd.DataFrame({"estimate": ratio, "conf_low": x[:, 2], "conf_high": x[:, 3]})

    return of_counts(one, 1.0)


def _long(cells: tuple[FloatArray, ...]) -> pd.DataFrame:
    """One row per situation and stratum."""
    situations, strata = cells[0].shape
    columns = {name: part.ravel() for name, part in zip(CELLS, cells, strict=True)}
    where = {"SITUATION": np.repeat(np.arange(situations), strata), "STRATUM": np.tile(np.arange(strata), situations)}
    return pd.DataFrame({**where, **columns})


def _strata(measure: str, method: str, crude: bool = False) -> Analysis:
    def one(scenario: Scenario, d: Draw, level: float) -> pd.DataFrame:
        table = _long(worlds.strata(generator(d, measure), d.n, measure))
        if crude:
            return _compare(measure, table.groupby("SITUATION")[list(CELLS)].sum(), method, level)
        return _compare(measure, table, method, level, strata="STRATUM", term="SITUATION")

    return of_counts(one, batch.NULL[measure])


def _association(crude: bool) -> Analysis:
    def one(rng: np.random.Generator, n: int, level: float) -> FloatArray:
        table = _long(worlds.strata(rng, n, "odds-ratio"))
        table = table[table["SITUATION"] == 0]
        if crude:
            summed = table[list(CELLS)].sum().to_frame().T
            return p_values(_compare("risk-difference", summed, "farrington-manning", level)["p_value"])
        return p_values(ks.cmh_test(*CELLS, strata="STRATUM", data=table).frame["p_value"])

    return in_world("odds-ratio", one, tested)


# ------------------------------------------------------------------------------------------- rates


def _rates(one: Callable[[pd.DataFrame, float], pd.DataFrame], null: float) -> Analysis:
    def read(scenario: Scenario, d: Draw, level: float) -> pd.DataFrame:
        x1, t1, x2, t2 = worlds.rates(generator(d, "rates"), d.n)
        return one(pd.DataFrame({"x1": x1, "t1": t1, "x2": x2, "t2": t2}), level)

    return of_counts(read, null)


def _one_rate(method: str) -> Analysis:
    return _rates(lambda table, level: ks.rate("x1", "t1", method, level, data=table).frame, np.nan)


def _rate_ratio(table: pd.DataFrame, level: float) -> pd.DataFrame:
    return ks.rate_ratio("x1", "t1", "x2", "t2", level=level, data=table).frame


def _rate_difference(table: pd.DataFrame, level: float) -> pd.DataFrame:
    return ks.rate_difference("x1", "t1", "x2", "t2", level=level, data=table).frame


# ------------------------------------------------------------------------------------------- records of events


def _followed(
    first: Any, end: FloatArray, who: IntArray, onset: FloatArray, arms: tuple[str, str], **columns: Any
) -> Any:
    """`ks.incidence` of the events (subject, day) of two groups that are followed to `end`."""
    name = np.array([f"S{i:05d}" for i in range(end.size)])
    adsl = {"USUBJID": name, "TRT01A": np.where(first, *arms), "TRT01AN": np.where(first, 1, 0), "END": end, **columns}
    adae = {"USUBJID": name[who], "AEDECOD": "Nausea", "TRTEMFL": "Y", "ONSET": onset}
    return ks.incidence(pd.DataFrame(adae), pd.DataFrame(adsl), terms=["AEDECOD"])


def _clustered(method: str) -> Analysis:
    def one(rng: np.random.Generator, n: int, level: float) -> pd.DataFrame:
        y, time, treated = worlds.clustered(rng, n)
        who = np.repeat(np.arange(n), y.astype(int))
        ae = _followed(treated, time, who, time[who] / 2, ("Drug", "Placebo"))
        return ae.recurrent("Nausea", method=method, onset="ONSET", end="END", level=level).frame

    return in_world("clustered", one, estimated)


GROUPS = ("Leaves late", "Leaves early")


def _first(rng: np.random.Generator, n: int) -> Any:
    time, status, first = worlds.first_events(rng, n)
    hit = np.flatnonzero(status == 1)
    return _followed(first, time, hit, time[hit], GROUPS, DTHFL=np.where(status == 2, "Y", "N"))


def _first_events(estimator: str) -> Analysis:
    """Both groups by the verb, and the difference of its estimates."""

    def one(rng: np.random.Generator, n: int, level: float) -> FloatArray:
        found = _first(rng, n).time_to_first(
            "Nausea", estimator=estimator, times=[worlds.HORIZON], onset="ONSET", end="END", level=level
        )
        return batch.with_difference(keyed(found.frame, ["TRT01A"], GROUPS), level)

    return in_world("first events", one, estimated)


def _first_proportion(rng: np.random.Generator, n: int, level: float) -> FloatArray:
    """A control: those with the event by then among all."""
    time, status, first = worlds.first_events(rng, n)
    hit = (status == 1) & (time <= worlds.HORIZON)
    table = pd.DataFrame([[hit[first].sum(), first.sum(), hit[~first].sum(), (~first).sum()]], columns=CELLS)
    gap = _compare("risk-difference", table, "wald", level)
    each = [ks.proportion(*cell, "wald", level, data=table).frame for cell in (("x1", "n1"), ("x2", "n2"))]
    return np.vstack([numbers(found) for found in (*each, gap)])


def _exposure(planned: bool) -> Analysis:
    def one(scenario: Scenario, d: Draw, level: float) -> pd.DataFrame:
        rng = generator(d, "first events")
        if planned:
            _, status, first = worlds.first_events(rng, d.n)
            own = [first, ~first]
            table = pd.DataFrame({"x": [(status[g] == 1).sum() for g in own], "t": [g.sum() for g in own]})
            table["t"] = table["t"] * worlds.HORIZON
            return ks.rate("x", "t", "exact", level, data=table).frame
        found = _first(rng, d.n).exposure_adjusted(per=1 / 365.25, onset="ONSET", end="END", level=level).frame
        rows = found[found["level"] == "PT"].set_index("TRT01A").reindex(list(GROUPS))
        return rows[["estimate", "conf_low", "conf_high"]]

    return of_counts(one, np.nan)


# ------------------------------------------------------------------------------------------- signals


def _max_t(adjusted: bool) -> Analysis:
    def one(scenario: Scenario, d: Draw, level: float) -> FloatArray:
        event, treated = multiplicity.terms_together(generator(d, "terms together"), d.n)
        ae = multiplicity.counted(event, treated, np.zeros(event.shape[1], dtype=np.int64))
        found = ks.safety_signals(ae, "max-t", seed=d.replicate + 1, permutations=multiplicity.PERMUTATIONS).frame
        return p_values(found["p_adjusted" if adjusted else "p_value"].min())

    return fits(one, tested)


def _contrasts(method: str) -> Analysis:
    """Adjusted contrasts of the least-squares means of an analysis of variance."""

    def one(rng: np.random.Generator, n: int, level: float) -> FloatArray:
        y = multiplicity.arms_alike(rng, n)
        arm = np.repeat(np.arange(len(y)), y.shape[1])
        table = pd.DataFrame({"TRT01P": [f"Dose {a}" for a in arm], "TRT01PN": arm, "CHG": y.ravel()})
        means = ks.ancova("CHG ~ TRT01P", table).lsmeans("TRT01P")
        kind = "pairwise" if method == "tukey" else "trt.vs.ctrl"
        return p_values(means.contrast(kind, adjust=method, level=level).frame["p_value"].min())

    return in_world("arms", one, tested)


VERBS: dict[str, Analysis] = {
    "risk_difference-scas": _tables("risk-difference", "scas"),
    "risk_ratio": _tables("risk-ratio", "miettinen-nurminen"),
    "risk_ratio-scas": _tables("risk-ratio", "scas"),
    "risk_ratio-plain": _plain("risk-ratio", "katz"),
    "odds_ratio": _tables("odds-ratio", "miettinen-nurminen"),
    "odds_ratio-exact": _tables("odds-ratio", "conditional-exact"),
    "odds_ratio-plain": _plain("odds-ratio", "woolf"),
    "risk_difference-stratified": _strata("risk-difference", "miettinen-nurminen"),
    "risk_difference-mantel-haenszel": _strata("risk-difference", "mantel-haenszel"),
    "risk_difference-crude": _strata("risk-difference", "miettinen-nurminen", crude=True),
    "risk_ratio-mantel-haenszel": _strata("risk-ratio", "mantel-haenszel"),
    "risk_ratio-crude": _strata("risk-ratio", "miettinen-nurminen", crude=True),
    "odds_ratio-mantel-haenszel": _strata("odds-ratio", "mantel-haenszel"),
    "odds_ratio-crude": _strata("odds-ratio", "miettinen-nurminen", crude=True),
    "cmh_test": _association(crude=False),
    "cmh_test-crude": _association(crude=True),
    "rate": _one_rate("exact"),
    "rate-wald": _one_rate("wald"),
    "rate_ratio": _rates(_rate_ratio, 1.0),
    "rate_difference": _rates(_rate_difference, 0.0),
    "recurrent-poisson-robust": _clustered("poisson-robust"),
    "recurrent-poisson": _clustered("poisson"),
    "recurrent-negative-binomial": _clustered("negative-binomial"),
    "time_to_first": _first_events("aalen-johansen"),
    "time_to_first-1-km": _first_events("one-minus-km"),
    "time_to_first-proportion": in_world("first events", _first_proportion, within),
    "exposure_adjusted": _exposure(planned=False),
    "exposure_adjusted-planned": _exposure(planned=True),
    "safety_signals": multiplicity.flagged("double-fdr"),
    "safety_signals-bh": multiplicity.flagged("bh"),
    "safety_signals-group-bh": multiplicity.flagged("group-bh"),
    "safety_signals-none": multiplicity.flagged("none"),
    "safety_signals-max-t": _max_t(adjusted=True),
    "safety_signals-max-t-raw": _max_t(adjusted=False),
    **{f"multiplicity-{m}": _contrasts(m) for m in ("holm", "hochberg", "mvt", "tukey", "none")},
}
