"""Rows of two parameters or visits left in, and subjects in two arms: said by name, and not where they belong."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

import kapstats as ks
from kapstats.errors import DataError, KapstatsWarning
from kapstats.pipeline.plan import parse
from tests.doors.frames_tables import INTERVAL, MMRM, VERBS, C, R, S, tables

DATA = tables(n=20)
ADQS, ADTTE, ADREC = DATA["adqs"], DATA["adtte"], DATA["adrec"]
LAST = ADQS[ADQS["AVISIT"] == "Week 10"]
TWICE = pd.concat([ADTTE.assign(PARAMCD="RELAPSE"), ADTTE.assign(PARAMCD="RESP", AVAL=ADTTE["AVAL"] / 2)])

NUMBERED = TWICE.assign(PARAMCDN=TWICE["PARAMCD"].eq("RESP") * 1)

#: analyses that take one row per subject
SINGLE = [v for v, (table, _) in VERBS.items() if table == "adtte"]


def told(call: Callable[[], Any]) -> tuple[str, Any]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = call()
    return " | ".join(str(w.message) for w in caught if issubclass(w.category, KapstatsWarning)), result


@pytest.mark.parametrize("verb", SINGLE)
def test_two_parameters_left_in_are_named(verb: str) -> None:
    said, result = told(lambda: VERBS[verb][1](TWICE))
    assert "USUBJID: 40 subjects have several rows (80 rows; PARAMCD is RELAPSE, RESP)" in said
    kept = getattr(result, "warnings", None) or getattr(result, "meta", {}).get("warnings", ())
    assert any("PARAMCD is RELAPSE, RESP" in w for w in kept) or verb == "hazard_ratios"


@pytest.mark.parametrize("verb", ["mmrm us", "lmm", "glmm", "gee", "recurrent", "mean_cumulative_function"])
def test_two_parameters_in_a_model_of_repeated_rows(verb: str) -> None:
    table, call = VERBS[verb]
    other = DATA[table].assign(PARAMCD="HAMD")
    if table == "adrec":
        other = other.assign(START=other["START"] + 100, STOP=other["STOP"] + 100)
    both = pd.concat([DATA[table].assign(PARAMCD="MADRS"), other])
    try:
        said, _ = told(lambda: call(both))
    except DataError as error:
        said = str(error)
    assert "PARAMCD" in said or "more than one complete row" in said


def test_ancova_over_several_visits_or_parameters() -> None:
    said, fit = told(lambda: ks.ancova("CHG ~ BASE + TRT01P", ADQS))
    assert "AVISIT is Week 1, Week 2, Week 10" in said
    assert any("several rows" in w for w in fit.warnings)
    both = pd.concat([LAST.assign(PARAMCD="MADRS"), LAST.assign(PARAMCD="HAMD")])
    assert "PARAMCD is MADRS, HAMD" in told(lambda: ks.ancova("CHG ~ BASE + TRT01P", both))[0]
    own = ADQS.rename(columns={"USUBJID": "id"})
    assert "id: 39 subjects" in told(lambda: ks.ancova("CHG ~ BASE + TRT01P", own, subject="id"))[0]


def test_subgroups_and_the_baseline_table_over_several_rows() -> None:
    both = ADQS.merge(DATA["adsl"][["USUBJID", "SEX"]], on="USUBJID")
    assert "several rows" in told(lambda: ks.subgroups(both, "CHG", by="TRT01P", factors=["SEX"]))[0]
    assert "several rows" in told(lambda: ks.baseline_table(both, variables=["SEX", "BASE"]))[0]


LEGITIMATE: dict[str, Callable[[], Any]] = {
    "cluster": lambda: ks.cox(S + " + cluster(USUBJID)", TWICE.query("PARAMCD == 'RESP'")),
    "several episodes with cluster": lambda: ks.cox(S + " + cluster(USUBJID)", pd.concat([ADTTE, ADTTE])),
    "frailty": lambda: ks.cox(S + " + frailty(USUBJID)", pd.concat([ADTTE, ADTTE.assign(AVAL=ADTTE["AVAL"] + 1)])),
    "start, stop": lambda: ks.cox(R, ADREC),
    "recurrent": lambda: ks.recurrent(R, ADREC, id="USUBJID", model="lwyy"),
    "mean_cumulative_function": lambda: ks.mean_cumulative_function(R, ADREC),
    "mmrm": lambda: ks.mmrm(MMRM.format("us"), ADQS),
    "lmm": lambda: ks.lmm("CHG ~ BASE + TRT01P + (1 | USUBJID)", ADQS),
    "a curve per parameter": lambda: ks.kaplan_meier("Surv(AVAL, EVENT) ~ PARAMCD", NUMBERED),
    "one parameter": lambda: ks.kaplan_meier(S, TWICE.query("PARAMCD == 'RESP'")),
    "no subject": lambda: ks.logrank(S, TWICE.drop(columns="USUBJID")),
    "interval": lambda: ks.turnbull(INTERVAL, ADTTE),
    "competing": lambda: ks.cumulative_incidence(C, ADTTE, cause=1),
    "ancova at a visit": lambda: ks.ancova("CHG ~ BASE + TRT01P", ADQS, visit="AVISIT", at="Week 10"),
}  # fmt: skip


@pytest.mark.parametrize("name", LEGITIMATE)
def test_rows_that_belong_there_are_not_told(name: str) -> None:
    assert told(LEGITIMATE[name])[0] == ""


def test_a_plan_without_the_filter_is_an_error() -> None:
    text = (
        '[study]\ntitle = "x"\n[[analysis]]\nkind = "survival"\nname = "s"\ntitle = "t"\n'
        'formula = "Surv(AVAL, EVENT) ~ TRT01P"\nshow = ["logrank"]\n'
    )
    trial = ks.Trial(adsl=DATA["adsl"], adtte=TWICE)
    with pytest.raises(DataError, match=r"analysis 's': USUBJID: 40 subjects have several rows .*RELAPSE, RESP"):
        ks.run(parse(text), trial)
    ks.run(parse(text.replace("show", "where = [\"PARAMCD == 'RESP'\"]\nshow")), trial)


def exchanged(rows: pd.DataFrame, who: list[str]) -> pd.DataFrame:
    """At their second row, some subjects are in the other arm."""
    second = rows["USUBJID"].isin(who) & (rows.groupby("USUBJID").cumcount() == 1)
    other = rows["TRT01P"].map({"KAP": "Placebo", "Placebo": "KAP"})
    return rows.assign(
        TRT01P=rows["TRT01P"].where(~second, other), TRT01PN=rows["TRT01PN"].where(~second, 1 - rows["TRT01PN"])
    )


@pytest.mark.parametrize("verb", ["mmrm us", "lmm", "glmm", "gee"])
def test_a_subject_in_two_arms_is_named(verb: str) -> None:
    said, fit = told(lambda: VERBS[verb][1](exchanged(ADQS, ["S002", "S005"])))
    assert "TRT01P changes within 2 of 40 subjects (USUBJID S002, S005)" in said
    assert any("changes within 2" in w for w in fit.warnings)


def test_own_names_of_arm_and_subject() -> None:
    own = exchanged(ADQS, ["S002"]).rename(columns={"USUBJID": "patient", "TRT01P": "treatment arm", "TRT01PN": "n"})
    said, _ = told(lambda: ks.mmrm("CHG ~ `treatment arm`*AVISIT + us(AVISIT | patient)", own))
    assert "treatment arm changes within 1 of 40 subjects (patient S002)" in said


def test_a_crossover_is_a_design() -> None:
    """Everybody has both treatments, or a period is in the model."""
    everyone = exchanged(ADQS, list(ADQS["USUBJID"].unique()))
    assert "changes within" not in told(lambda: ks.lmm("CHG ~ TRT01P + (1 | USUBJID)", everyone))[0]
    few = exchanged(ADQS, ["S002"]).assign(APERIOD=lambda d: d["AVISIT"])
    assert "changes within" not in told(lambda: ks.lmm("CHG ~ TRT01P + APERIOD + (1 | USUBJID)", few))[0]
