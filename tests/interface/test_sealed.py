"""Results cannot be changed from outside: what a caller writes into a table or a description stays with the caller."""

import copy
import pickle

import pandas as pd
import pytest

import kapstats as ks


@pytest.fixture(scope="module")
def results():
    trial = ks.datasets.load("kap-parallel")
    week = trial.adqs[trial.adqs["PARAMCD"] == "MADRS"]
    time = trial.adtte[trial.adtte["PARAMCD"] == trial.adtte["PARAMCD"].iloc[0]].assign(EVENT=lambda d: 1 - d["CNSR"])
    status = time.assign(STATUS=time["EVENT"] + 2 * ((time["AVAL"] > 60) & (time["EVENT"] == 1)))
    return {
        "ancova": ks.ancova("CHG ~ BASE + TRT01P", week[week["AVISITN"] == week["AVISITN"].max()]).coefficients,
        "kaplan_meier": ks.kaplan_meier("Surv(AVAL, EVENT) ~ TRT01P", time),
        "cumulative_incidence": ks.cumulative_incidence("Surv(AVAL, STATUS) ~ TRT01P", status),
        "fine_gray": ks.fine_gray("Surv(AVAL, STATUS) ~ TRT01P", status).coefficients,
        "cox": ks.cox("Surv(AVAL, EVENT) ~ TRT01P", time).coefficients,
        "mean_cumulative_function": ks.mean_cumulative_function(
            "Surv(START, AVAL, EVENT) ~ TRT01P", time.assign(START=0.0), id="USUBJID"
        ),
        "incidence": ks.incidence(trial, by="TRT01A"),
        "risk_difference": ks.risk_difference(3, 20, 1, 20),
        "rmst": ks.rmst("Surv(AVAL, EVENT) ~ TRT01P", time),
    }


NAMES = [
    "ancova", "kaplan_meier", "cumulative_incidence", "fine_gray", "cox", "mean_cumulative_function", "incidence",
    "risk_difference", "rmst",
]  # fmt: skip


def text_of(result):
    return result.to_frame().to_csv()


@pytest.mark.parametrize("name", NAMES)
def test_writing_into_a_table_of_a_result_changes_nothing(results, name):
    result = results[name]
    before = text_of(result)
    numeric = next(c for c in result.frame if pd.api.types.is_float_dtype(result.frame[c]))
    for frame in (result.frame, result.to_frame()):
        frame.loc[frame.index[0], numeric] = -99.0
        frame[numeric] = -99.0
        frame.drop(columns=numeric, inplace=True)
    assert text_of(result) == before


@pytest.mark.parametrize("name", NAMES)
def test_the_description_of_a_result_refuses_changes(results, name):
    result = results[name]
    for change in (lambda m: m.update(level=0.5), lambda m: m.__setitem__("level", 0.5), lambda m: m.clear()):
        with pytest.raises(TypeError, match="cannot be changed"):
            change(result.meta)
    with pytest.raises(AttributeError):
        result.meta = {}


@pytest.mark.parametrize("name", NAMES)
def test_results_survive_pickling_and_copying(results, name):
    result = results[name]
    for again in (pickle.loads(pickle.dumps(result)), copy.copy(result), copy.deepcopy(result)):
        assert text_of(again) == text_of(result)
        assert dict(again.meta) == dict(result.meta)


@pytest.mark.parametrize("name", ["ancova", "cox", "fine_gray"])
def test_a_covariance_of_a_result_refuses_changes(results, name):
    for result in (results[name], pickle.loads(pickle.dumps(results[name]))):
        with pytest.raises(ValueError, match="read-only"):
            result.vcov[0, 0] = 1.0
