"""Reference-based imputation against R rbmi 1.5.2 (conditional mean, jackknife; optimiser tightened to 1e-10)."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kapstats.response.imputation import impute

HERE = Path(__file__).parent / "mixed"
CASES = json.loads((HERE / "imputation.json").read_text())["results"]
MODEL = "chg ~ madrs_base*visit + arm*visit + us(visit | subject)"
DELTAS = [(strategy, name) for strategy in ("MAR", "JR") for name in CASES[strategy] if name.startswith("delta")]


def trial():
    data = pd.read_csv(HERE / "kap_two_arm.csv")
    return data.assign(arm=pd.Categorical(data["arm"], ["placebo", "ketamine"], ordered=True))


def imputed(strategy, **options):
    options = {"event": "ice_visit", **options}
    return impute(trial(), formula=MODEL, arm="arm", reference="placebo", strategy=strategy, **options)


def row(table, parameter):
    """The row that rbmi calls trt_28, lsm_ref_28 or lsm_alt_28."""
    kind, visit = parameter.rsplit("_", 1)
    rows = table[table["visit"].astype(str) == visit]
    if kind == "trt":
        return rows[rows["quantity"] == "difference"].iloc[0]
    return rows[rows["arm"] == {"lsm_ref": "placebo", "lsm_alt": "ketamine"}[kind]].iloc[0]


def compare(table, expected):
    columns = {"est": "estimate", "se": "std_error", "lci": "conf_low", "uci": "conf_high", "pval": "p_value"}
    for theirs, ours in columns.items():
        found = [row(table, name)[ours] for name in expected["parameter"]]
        rtol = 1e-5 if theirs == "pval" else 1e-6  # a p value far in the tail multiplies the error of its z
        np.testing.assert_allclose(found, expected[theirs], rtol=rtol, atol=1e-15, err_msg=theirs)


@pytest.mark.parametrize("strategy", list(CASES))
@pytest.mark.filterwarnings("ignore::kapstats.errors.KapstatsWarning")
def test_imputed_cells_estimates_and_jackknife(strategy):
    found = imputed(strategy)
    cells = found.values().frame
    ours = dict(zip(zip(cells["subject"], cells["visit"].astype(str), strict=True), cells["estimate"], strict=True))
    expected = CASES[strategy]["conditional_mean_imputations"]
    keys = list(zip(expected["subject"], expected["visit"], strict=True))
    assert set(keys) == set(ours)
    np.testing.assert_allclose([ours[k] for k in keys], expected["value"], atol=1e-6)
    compare(found.analyse("arm + madrs_base").frame, CASES[strategy]["pooled"])


@pytest.mark.parametrize(("strategy", "name"), DELTAS)
def test_delta_adjusted_analyses(strategy, name):
    delta = {"ketamine": float(name.split("_")[1])}
    compare(imputed(strategy).analyse("arm + madrs_base", delta=delta).frame, CASES[strategy][name])


@pytest.mark.filterwarnings("ignore::kapstats.errors.KapstatsWarning")
def test_dropout_is_the_default_event():
    """In this trial every event is dropout, so that the visit after the last one seen is the first affected."""
    given, found = imputed("J2R").values().frame, imputed("J2R", event=None).values().frame
    affected = given["strategy"] == "J2R"
    np.testing.assert_allclose(found["estimate"][affected], given["estimate"][affected], rtol=1e-9)
