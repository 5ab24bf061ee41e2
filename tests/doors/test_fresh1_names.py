"""Names that hold " - ", " / " or begin with "log": a printed ratio leaves them as they are."""

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from kapstats.data.trial import Trial
from kapstats.pipeline.plan import parse
from kapstats.pipeline.run import run

ARMS = ["KAP - high", "KAP - low", "Placebo"]
STUDIES = {"study": ["Grunebaum 2018 - IV", "log book"], "x1": [5, 6], "n1": [20, 33], "x2": [3, 4], "n2": [21, 30]}


@pytest.fixture(scope="module")
def trial():
    rng = np.random.default_rng(1)
    n = 120
    return pd.DataFrame(
        {"arm": np.resize(ARMS, n), "y": (rng.random(n) < 0.5).astype(int), "x": rng.normal(size=n).round(1),
         "t": rng.exponential(50, n).round(1) + 0.1, "e": 1, "site": np.repeat(["a", "b", "c", "d"], n // 4)}
    )  # fmt: skip


def first_column(found, header):
    table = found.table()
    return [row[table.columns.index(header)] for row in table.rows]


@pytest.mark.parametrize("measure", ["OR", "RR"])
def test_studies_keep_their_names(measure):
    found = ks.meta_analysis(pd.DataFrame(STUDIES), measure=measure)
    assert first_column(found, "term") == ["pooled", *STUDIES["study"]]
    shown = {t.get_text() for t in found.plot().texts}
    assert set(STUDIES["study"]) <= shown


def test_terms_keep_their_names(trial):
    cox = ks.cox("Surv(t, e) ~ arm", trial, order={"arm": ARMS})
    assert first_column(cox.coefficients, "term") == ["armKAP - low", "armPlacebo"]
    glmm = ks.glmm("y ~ arm + (1 | site)", trial, family="binomial", order={"arm": ARMS})
    assert "armKAP - low" in first_column(glmm.coefficients, "term")


def test_contrasts_are_ratios_of_whole_names(trial):
    fit = ks.glmm("y ~ arm + (1 | site)", trial, family="binomial", order={"arm": ARMS})
    means = fit.lsmeans("arm")
    assert first_column(means.contrast("pairwise"), "Contrast") == [
        "KAP - high / KAP - low", "KAP - high / Placebo", "KAP - low / Placebo",
    ]  # fmt: skip
    mixed = trial.assign(arm=trial["arm"].replace({"KAP - high": "IV / IN"}))
    order = {"arm": ["Placebo", "IV / IN", "KAP - low"]}
    means = ks.glmm("y ~ arm + (1 | site)", mixed, family="binomial", order=order).lsmeans("arm")
    assert first_column(means.contrast("trt.vs.ctrl"), "Contrast") == ["IV / IN / Placebo", "KAP - low / Placebo"]
    own = means.contrast({"any KAP - Placebo": [-1, 0.5, 0.5]})
    assert first_column(own, "Contrast") == ["any KAP - Placebo"]


def test_networks_and_subgroups_keep_the_names_of_treatments(trial):
    arms = pd.DataFrame(
        {"study": list("AABBCC"),
         "treatment": ["KAP - low", "Placebo", "KAP - high", "Placebo", "KAP - low", "KAP - high"],
         "x": [5, 3, 6, 2, 4, 7], "n": [20, 20, 30, 30, 25, 25]}
    )  # fmt: skip
    found = ks.network_meta_analysis(arms, measure="OR", reference="KAP - high")
    assert first_column(found, "Contrast") == ["KAP - low / KAP - high", "Placebo / KAP - high"]
    groups = ks.subgroups(trial, "y", by="arm", factors=["site"], measure="OR", reference="KAP - high")
    assert set(first_column(groups, "Contrast")) == {"KAP - low / KAP - high", "Placebo / KAP - high"}


@pytest.mark.parametrize("measure", ["OR", "RD"])
def test_score_intervals_of_subgroups_have_no_standard_error_to_be_missed(trial, measure):
    found = ks.subgroups(trial, "y", by="arm", factors=["site"], measure=measure, reference="Placebo")
    assert found.frame["std_error"].isna().all()
    assert "NE" not in "".join(first_column(found, "SE of log" if measure == "OR" else "SE"))


def test_exponentiated_contrasts_are_named_as_ratios(trial):
    fit = ks.glmm("y ~ arm + (1 | site)", trial, family="binomial", order={"arm": ARMS})
    found = fit.lsmeans("arm").contrast("trt.vs.ctrl").exponentiate()
    assert first_column(found, "Contrast") == ["KAP - low / KAP - high", "Placebo / KAP - high"]


def test_the_answers_of_a_report_name_whole_arms():
    """'KAP - low' against Placebo, not 'KAP' against 'low'."""
    rng = np.random.default_rng(5)
    adsl = pd.DataFrame({"USUBJID": [f"{i:02d}" for i in range(48)], "TRT01P": np.resize(["Placebo", *ARMS[:2]], 48)})
    adsl["TRT01PN"] = adsl["TRT01P"].map({"Placebo": 0, "KAP - low": 1, "KAP - high": 2})
    adtte = adsl.assign(AVAL=rng.integers(1, 40, 48), CNSR=rng.integers(0, 2, 48), PARAMCD="R")
    weeks = [adsl.assign(AVISIT=f"Week {w}", AVISITN=w, CHG=rng.normal(-9, 5, 48), PARAMCD="MADRS") for w in (2, 4)]
    plan = parse(PLAN)
    trial = Trial(adsl=adsl, adtte=adtte, adqs=pd.concat(weeks))
    relapse, response = run(plan, trial).blocks
    assert relapse.answers[0].lead.startswith("Hazard ratio of the event against Placebo")
    for answer in (relapse.answers[0], response.answers[0]):
        assert [name for name, _ in answer.lines] == ["KAP - low", "KAP - high"]


PLAN = """
[study]
title = "T"
[[analysis]]
kind = "survival"
name = "relapse"
title = "Time to relapse"
formula = "Surv(AVAL, CNSR == 0) ~ TRT01P"
show = ["cox"]
[[analysis]]
kind = "mmrm"
name = "response"
title = "M"
formula = "CHG ~ TRT01P*AVISIT + us(AVISIT | USUBJID)"
"""
