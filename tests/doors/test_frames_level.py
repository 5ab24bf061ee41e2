"""`level` of any kind: an error that names the remedy, in every exported verb and method that has one."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from kapstats.errors import KapstatsError
from tests.doors.frames_tables import INTERVAL, MMRM, C, R, S, tables

DATA = tables(n=20)
ADQS, ADTTE, ADREC = DATA["adqs"], DATA["adtte"], DATA["adrec"]
LAST = ADQS[ADQS["AVISIT"] == "Week 10"].merge(DATA["adsl"][["USUBJID", "SEX"]], on="USUBJID")
STUDIES = pd.DataFrame(
    {"study": list("abc"), "x1": [3, 4, 5], "n1": 20, "x2": [6, 7, 9], "n2": 20, "dose": [1, 2, 4.0]}
)
ARMS = pd.DataFrame({"study": list("aabbcc"), "treatment": ["P", "K"] * 3, "x": [3, 6, 4, 8, 5, 9], "n": [20] * 6})
DOSES = pd.DataFrame({"dose": [0, 1, 2, 4.0], "estimate": [0, 1, 2, 2.5], "std_error": 0.4})
WRONG = [95, "0.95", "95%", float("nan"), None, True, np.array([0.9, 0.95]), [0.95], 0, 1, -0.95, 1 + 1j, pd.NA, "x"]


@cache
def ae() -> Any:
    return ks.incidence(
        DATA["adae"],
        DATA["adsl"].assign(SITEID="1", TRTEDT="2024-03-01", TRTSDT="2024-01-01"),
        by="TRT01A",
        terms=["AEDECOD"],
    )


@cache
def imputed() -> Any:
    plan = {"formula": MMRM.format("us"), "arm": "TRT01P", "reference": "Placebo", "draws": 2, "strategy": "MAR"}
    return ks.impute(ADQS.drop(columns="BASE").assign(BASE=10.0 * (ADQS["USUBJID"].str[1:].astype(int) % 7)), plan)


@cache
def fit(verb: str) -> Any:
    return {
        "mmrm": lambda: ks.mmrm(MMRM.format("cs"), ADQS),
        "lmm": lambda: ks.lmm("CHG ~ BASE + TRT01P + (1 | USUBJID)", ADQS),
        "glmm": lambda: ks.glmm("RESP ~ TRT01P + (1 | USUBJID)", ADQS, family="binomial"),
        "gee": lambda: ks.gee("RESP ~ TRT01P + cluster(USUBJID)", ADQS, family="binomial"),
        "ancova": lambda: ks.ancova("CHG ~ BASE + TRT01P", LAST),
        "lsmeans": lambda: ks.ancova("CHG ~ BASE + TRT01P", LAST).lsmeans("TRT01P"),
    }[verb]()


CALLS: dict[str, Callable[[Any], Any]] = {
    "kaplan_meier": lambda level: ks.kaplan_meier(S, ADTTE, level=level),
    "cox": lambda level: ks.cox(S, ADTTE, level=level),
    "rmst": lambda level: ks.rmst(S, ADTTE, tau=15, level=level),
    "parametric_survival": lambda level: ks.parametric_survival(S, ADTTE, level=level),
    "cumulative_incidence": lambda level: ks.cumulative_incidence(C, ADTTE, cause=1, level=level),
    "fine_gray": lambda level: ks.fine_gray(C, ADTTE, cause=1, level=level),
    "cause_specific": lambda level: ks.cause_specific(C, ADTTE, level=level),
    "turnbull": lambda level: ks.turnbull(INTERVAL, ADTTE, level=level),
    "interval_cox": lambda level: ks.interval_cox(INTERVAL, ADTTE, conf="wald", level=level),
    "win_ratio": lambda level: ks.win_ratio(S, ADTTE, level=level),
    "state_occupation": lambda level: ks.state_occupation(R, ADREC, level=level),
    "mean_cumulative_function": lambda level: ks.mean_cumulative_function(R, ADREC, level=level),
    "recurrent": lambda level: ks.recurrent(R, ADREC, model="lwyy", level=level),
    "logrank": lambda level: ks.logrank(S, ADTTE, level=level),
    "weighted_logrank_combination": lambda level: ks.weighted_logrank_combination(
        S, ADTTE.assign(ENTRY=0), entry="ENTRY", interim_events=10, level=level
    ),
    "proportion": lambda level: ks.proportion(3, 20, level=level),
    "risk_difference": lambda level: ks.risk_difference(3, 20, 5, 20, level=level),
    "risk_ratio": lambda level: ks.risk_ratio(3, 20, 5, 20, level=level),
    "odds_ratio": lambda level: ks.odds_ratio(3, 20, 5, 20, level=level),
    "rate": lambda level: ks.rate(3, 20, level=level),
    "rate_ratio": lambda level: ks.rate_ratio(3, 20, 4, 20, level=level),
    "rate_difference": lambda level: ks.rate_difference(3, 20, 4, 20, level=level),
    "paired_difference": lambda level: ks.paired_difference(5, 3, 2, 10, level=level),
    "paired_odds_ratio": lambda level: ks.paired_odds_ratio(3, 2, level=level),
    "paired_risk_ratio": lambda level: ks.paired_risk_ratio(5, 3, 2, 10, level=level),
    "zero_events": lambda level: ks.zero_events(20, level=level),
    "crude_and_stratified": lambda level: ks.crude_and_stratified(ae(), "SITEID", level=level),
    "exposure_matched": lambda level: ks.exposure_matched(ae(), "AGE", level=level),
    "propensity_weighted": lambda level: ks.propensity_weighted(ae(), ["AGE"], level=level),
    "acute_course": lambda level: ks.acute_course(
        ADQS.assign(PARAMCD="X"), by="TRT01P", parameter="X", time="AVISITN", session=None, level=level
    ),
    "safety_signals": lambda level: ks.safety_signals(
        ae(), method="berry-berry", draws=50, burn_in=10, chains=1, level=level
    ),
    "meta_analysis": lambda level: ks.meta_analysis(STUDIES, level=level),
    "meta_regression": lambda level: ks.meta_regression(STUDIES, "dose", level=level),
    "network_meta_analysis": lambda level: ks.network_meta_analysis(ARMS, level=level),
    "blinding_index": lambda level: ks.blinding_index(counts={"A": [5, 3, 2], "B": [2, 6, 2]}, level=level),
    "effect_by_guess": lambda level: ks.effect_by_guess(
        LAST.assign(GUESS=LAST["TRT01P"]), "CHG", arm="TRT01P", guess="GUESS", level=level
    ),
    "expectancy_bound": lambda level: ks.expectancy_bound(
        pd.DataFrame({"estimate": [-8.0], "std_error": [2.0]}), {"K": [3, 5, 5], "P": [1, 2, 1]}, [-4], level=level
    ),
    "response_bounds": lambda level: ks.response_bounds(10, 20, 25, level=level),
    "subgroups": lambda level: ks.subgroups(LAST, "CHG", by="TRT01P", factors=["SEX"], level=level),
    "principal_effect": lambda level: ks.principal_effect(
        LAST.assign(STOP=np.arange(len(LAST)) % 3 == 0),
        "CHG",
        arm="TRT01P",
        event="STOP",
        covariates="BASE",
        replicates=20,
        level=level,
    ),
    "dose_response": lambda level: ks.dose_response(DOSES, "dose", models=["linear"], draws=20, level=level),
    "mcp_mod": lambda level: ks.mcp_mod(DOSES, "dose", {"a": ("linear", {})}, level=level),
    "onset_curve": lambda level: ks.onset_curve(DOSES, [1, 7, 14, 28], level=level),
    "tipping_point": lambda level: ks.tipping_point(imputed(), [0.0], level=level),
    "fingerprint": lambda level: ks.fingerprint(3, 20, 5, 20, printed=(-0.3, 0.1), level=level),
    "certify": lambda level: ks.certify("mmrm", "kap-parallel", replicates=2, level=level),
    "compare": lambda level: ae().compare(level=level),
    "overview": lambda level: ae().overview(level=level),
    "lsmeans": lambda level: fit("ancova").lsmeans("TRT01P", level=level),
    "contrast": lambda level: fit("lsmeans").contrast("trt.vs.ctrl", level=level),
    "contrast dunnett": lambda level: fit("lsmeans").contrast("trt.vs.ctrl", adjust="dunnett", level=level),
    "ancova.predict": lambda level: fit("ancova").predict(interval="confidence", level=level),
    "ancova.coefficients_by": lambda level: fit("ancova").coefficients_by(level=level),
    "ancova.hodges_lehmann": lambda level: fit("ancova").hodges_lehmann("TRT01P", level=level),
    "gee.coefficients_by": lambda level: fit("gee").coefficients_by(level=level),
    "gee.lsmeans": lambda level: fit("gee").lsmeans("TRT01P", level=level),
    "mmrm.coefficients_by": lambda level: fit("mmrm").coefficients_by(level=level),
    "mmrm.lsmeans": lambda level: fit("mmrm").lsmeans("TRT01P", level=level),
    "mmrm.predict": lambda level: fit("mmrm").predict(interval="confidence", level=level),
    "lmm.coefficients_by": lambda level: fit("lmm").coefficients_by(level=level),
    "lmm.lsmeans": lambda level: fit("lmm").lsmeans("TRT01P", level=level),
    "lmm.predict": lambda level: fit("lmm").predict(interval="confidence", level=level),
    "glmm.coefficients_by": lambda level: fit("glmm").coefficients_by(level=level),
    "glmm.lsmeans": lambda level: fit("glmm").lsmeans("TRT01P", level=level),
}


def test_every_exported_verb_with_a_level_is_asked() -> None:
    having = set()
    for name in ks._EXPORTS:
        thing = getattr(ks, name)
        if callable(thing) and not inspect.isclass(thing) and "level" in inspect.signature(thing).parameters:
            having.add(name)
    assert having <= set(CALLS), having - set(CALLS)


@pytest.mark.parametrize("name", CALLS)
def test_a_level_that_is_none_is_refused(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for wrong in WRONG:
            with pytest.raises(KapstatsError, match="must be between 0 and 1"):
                CALLS[name](wrong)


def test_the_message_says_what_was_meant() -> None:
    for wrong, meant in ((95, "0.95"), ("0.95", "0.95"), (90.0, "0.9"), (99.5, "0.995")):
        with pytest.raises(KapstatsError, match=rf"level={wrong!r}: .* between 0 and 1; did you mean {meant}\?"):
            ks.proportion(3, 20, level=wrong)
