"""Meta-regression against metafor 3.8-1 (R 4.2.2; dat.bcg, log risk ratios), and beta-binomial pooling against R."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import kapstats as ks

pytestmark = pytest.mark.filterwarnings("ignore:Levels in alphabetical order")

HERE = Path(__file__).parent / "evidence"
BCG = pd.read_csv(HERE / "meta_regression_studies.csv")
STUDIES = BCG.assign(
    study=BCG["trial"].astype(str),
    x1=BCG["tpos"], n1=BCG["tpos"] + BCG["tneg"], x2=BCG["cpos"], n2=BCG["cpos"] + BCG["cneg"],
)  # fmt: skip
with (HERE / "meta_regression_metafor.csv").open(encoding="utf-8") as file:
    ROWS = list(csv.DictReader(file))
CASES = sorted({row["model"] for row in ROWS})
TERMS = {"intrcpt": "(Intercept)"}


@pytest.mark.parametrize("case", CASES)
def test_metafor(case):
    moderators, method, test = case.split(" ")
    expected = pd.DataFrame([row for row in ROWS if row["model"] == case])
    got = ks.meta_regression(
        STUDIES, f"~ {moderators}", "RR",
        model={"FE": "common"}.get(method, method.lower()), ci="normal" if test == "z" else "hartung-knapp",
    )  # fmt: skip
    frame = got.to_frame()
    assert frame["term"].tolist() == [TERMS.get(t, t) for t in expected["term"]]
    for name in ("estimate", "std_error", "statistic", "p_value", "conf_low", "conf_high"):
        np.testing.assert_allclose(frame[name], expected[name].astype(float), rtol=1e-6, atol=1e-9, err_msg=name)
    first = expected.iloc[0]
    for ours, theirs in {"tau2": "tau2", "q": "QE", "qm": "QM", "qm_p_value": "QMp"}.items():
        np.testing.assert_allclose(got.meta[ours], float(first[theirs]), rtol=1e-6, atol=1e-9, err_msg=ours)
    if method != "FE":
        np.testing.assert_allclose(got.meta["i2"], float(first["I2"]), rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(got.meta["r2"], float(first["R2"]), rtol=1e-5, atol=1e-6)


def test_without_moderators_it_is_the_pooled_effect():
    alone = ks.meta_regression(STUDIES, "~ 1", "RR").to_frame().iloc[0]
    pooled = ks.meta_analysis(STUDIES, "RR").to_frame().iloc[0]
    names = ["estimate", "std_error", "df", "p_value", "conf_low", "conf_high"]
    np.testing.assert_allclose(alone[names].to_numpy(float), pooled[names].to_numpy(float), rtol=1e-9)


def test_what_cannot_be_estimated_is_told():
    with pytest.raises(ks.errors.FormulaError, match="right side alone"):
        ks.meta_regression(STUDIES, "yi ~ ablat", "RR")
    with pytest.raises(ks.errors.DataError, match="cannot tell"):
        ks.meta_regression(STUDIES.assign(twice=2 * STUDIES["ablat"]), "~ ablat + twice", "RR")
    with pytest.raises(ks.errors.DataError, match="cannot carry"):
        ks.meta_regression(STUDIES.head(2), "~ ablat", "RR")
    with pytest.warns(ks.errors.KapstatsWarning, match="ablat is missing"):
        got = ks.meta_regression(STUDIES.assign(ablat=STUDIES["ablat"].where(STUDIES["ablat"] != 13)), "~ ablat", "RR")
    assert (got.meta["k"], got.meta["k_dropped"]) == (11, 2)


RARE = pd.DataFrame(
    {"x1": [1, 0, 12, 0, 9, 5], "n1": [50, 42, 110, 30, 76, 120], "x2": [0, 0, 1, 0, 6, 2],
     "n2": [48, 42, 112, 31, 70, 115]}
)  # fmt: skip


def test_beta_binomial_is_that_of_a_general_optimiser():
    """R 4.2.2: optim on the likelihood written with lbeta, Hessian inverted."""
    got = ks.meta_analysis(RARE, "OR", model="beta-binomial")
    first = got.to_frame().iloc[0]
    np.testing.assert_allclose([first["estimate"], first["std_error"]], [0.92032825838813, 0.70015799368316], rtol=2e-4)
    np.testing.assert_allclose(got.meta["rho"], 0.033459260643707, rtol=2e-3)
    np.testing.assert_allclose(got.meta["loglik"], -23.182873481279, rtol=1e-8)
    assert got.meta["k"] == 6
    assert got.meta["k_dropped"] == 0


def test_beta_binomial_without_spread_is_the_crude_odds_ratio():
    """R 4.2.2: glm(cbind(x, n - x) ~ arm, binomial) gives 1.29447528256."""
    same = pd.DataFrame(
        {"x1": [1, 0, 3, 0, 2, 5], "n1": [50, 42, 110, 30, 76, 120], "x2": [0, 0, 1, 0, 0, 2],
         "n2": [48, 42, 112, 31, 70, 115]}
    )  # fmt: skip
    got = ks.meta_analysis(same, "OR", model="beta-binomial")
    assert got.meta["rho"] == 0
    np.testing.assert_allclose(got["estimate"].iloc[0], 1.2944752825622, rtol=1e-5)


def test_beta_binomial_refuses_an_infinite_odds_ratio():
    with pytest.raises(ks.errors.ConvergenceError, match="no event in any study"):
        ks.meta_analysis(RARE.assign(x2=0), "OR", model="beta-binomial")
