"""The log-rank family against R survival 3.5-3, survMisc-style weights, survminer 0.4.9 and mvtnorm 1.1-3."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import gammaincc

import kapstats as ks
from kapstats.kernels.weighted_logrank import max_normal_p
from tests.reference.core_survival_cases import CLOSED, LEVELS, agree, records, trial, two_arms

TESTS = records("tests")
BY_ARM = "Surv(time, ev) ~ arm"


def agree_test(found, record):
    agree(found["statistic"], [record["chisq"]], CLOSED)
    agree(found["p_value"], [record["p"]], 1e-9)
    assert found["df"].tolist() == [record["df"]]
    if "observed" in record:
        agree(found.counts["observed"], record["observed"], CLOSED)
        agree(found.counts["expected"], record["expected"], CLOSED)
        agree(found.counts.vcov, record["variance"], CLOSED)
    if "U" in record:
        agree(found.counts["score"], record["U"], 1e-9)


@pytest.mark.parametrize("rho", ["0", "0.5", "1"])
def test_g_rho_family(rho):
    agree_test(ks.logrank(BY_ARM, trial(), rho=float(rho)), TESTS[f"logrank_rho{rho}"])


@pytest.mark.parametrize(
    ("key", "strata"), [("unstratified", ""), ("by_stratum", "stratum"), ("by_stratum_site", "stratum, site")]
)
def test_two_arms_stratified(key, strata):
    formula = BY_ARM + (f" + strata({strata})" if strata else "")
    agree_test(ks.logrank(formula, two_arms()), TESTS["logrank_two"][key])


def test_three_arms_stratified():
    agree_test(ks.logrank(BY_ARM + " + strata(stratum, site)", trial()), TESTS["logrank_arm_stratified"])


@pytest.mark.parametrize(("rho", "gamma"), [(0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.5), (0, 0.5)])
def test_fleming_harrington(rho, gamma):
    agree_test(ks.logrank(BY_ARM, trial(), rho=rho, gamma=gamma), TESTS[f"fh_{rho:g}_{gamma:g}"])


def test_fleming_harrington_stratified():
    agree_test(ks.logrank(BY_ARM + " + strata(stratum)", trial(), gamma=1), TESTS["fh_0_1_stratified"])


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("gehan", "gehan"),
        ("tarone-ware", "tarone_ware"),
        ("peto-peto", "peto_peto"),
        ("modified-peto-peto", "mod_peto_peto"),
    ],
)
def test_other_weights(name, key):
    agree_test(ks.logrank(BY_ARM, trial(), weights=name), TESTS["weighted_other"][key])


@pytest.mark.parametrize(("key", "strata"), [("unstratified", ""), ("stratified", " + strata(stratum)")])
def test_trend(key, strata):
    found = ks.logrank(BY_ARM + strata, trial(), trend=True)
    agree(found["statistic"], [TESTS["trend"][key]["chisq"]], CLOSED)
    agree(found["p_value"], [TESTS["trend"][key]["p"]], 1e-9)


@pytest.mark.parametrize(
    ("adjust", "key"), [("none", "none"), ("holm", "holm"), ("bh", "BH"), ("bonferroni", "bonferroni")]
)
def test_pairwise_with_adjustment(adjust, key):
    found = ks.logrank("Surv(time, ev) ~ route", trial(), pairwise=True, adjust=adjust).frame.set_index("contrast")
    expected = TESTS["pairwise"][key]
    for later, row in zip(expected["rows"], expected["data"], strict=True):
        for earlier, p in zip(expected["cols"], row, strict=True):
            if p is not None:
                agree(found.loc[f"{later} - {earlier}", "p_value"], [p], 1e-9)


def max_combo(key):
    data = trial()
    if key == "maxcombo_low":
        return ks.logrank(BY_ARM, data[data["arm"] != "high"], weights="max-combo")
    return ks.logrank(BY_ARM + (" + strata(stratum)" if "strat" in key else ""), two_arms(), weights="max-combo")


@pytest.mark.parametrize("key", ["maxcombo", "maxcombo_low", "maxcombo_stratified"])
def test_max_combo_components(key):
    found, record = max_combo(key), TESTS[key]
    agree(found.components["statistic"], record["z"], CLOSED)
    agree(found.components.vcov, record["corr"], CLOSED)
    agree(found["statistic"], [record["max_abs_z"]], CLOSED)


def test_max_combo_p_against_the_multivariate_normal():
    record = TESTS["maxcombo_low"]
    assert max_combo("maxcombo_low")["p_value"][0] == pytest.approx(record["p_two_sided"], abs=1e-6)


@pytest.mark.parametrize("key", ["maxcombo", "maxcombo_stratified"])
def test_max_combo_p_in_the_tail_against_random_directions(key):
    """The radius of a normal vector integrated exactly, its direction at random: unbiased, error about 6e-7."""
    found, rng = max_combo(key), np.random.default_rng(7)
    values, vectors = np.linalg.eigh(found.components.vcov)
    A = (vectors * np.sqrt(np.maximum(values, 0)))[:, 1:]
    u = rng.normal(size=(1_500_000, 3))
    reach = np.abs(u / np.linalg.norm(u, axis=1, keepdims=True) @ A.T).max(axis=1)
    tail = gammaincc(1.5, (found["statistic"][0] / reach) ** 2 / 2)
    assert found["p_value"][0] == pytest.approx(tail.mean(), abs=4 * tail.std() / np.sqrt(len(tail)))
    assert tail.std() / np.sqrt(len(tail)) < 1e-6


def test_normal_maximum_of_independent_and_of_equal_components():
    p = 2 * 0.15865525393145707
    assert max_normal_p(np.eye(3), 1.0, "two") == pytest.approx(1 - (1 - p) ** 3, abs=1e-6)
    assert max_normal_p(np.ones((4, 4)), 1.0, "two") == pytest.approx(p, abs=1e-12)
    assert max_normal_p(np.eye(2), -1.0, "less") == pytest.approx(1 - (1 - p / 2) ** 2, abs=1e-6)
    assert max_normal_p(np.eye(2), 0.5, "less") == pytest.approx(1 - 0.30853753872598694**2, abs=1e-6)


def test_one_sided_test_is_half_of_the_two_sided_one():
    two, less = ks.logrank(BY_ARM, two_arms()), ks.logrank(BY_ARM, two_arms(), side="less")
    assert less["statistic"][0] == pytest.approx(-np.sqrt(two["statistic"][0]))
    assert less["p_value"][0] == pytest.approx(two["p_value"][0] / 2)


def test_groups_without_two_at_risk_are_refused():
    data = {"t": [1.0, 2.0, 3.0], "e": [1, 0, 1], "g": ["a", "a", "a"]}
    with pytest.raises(ks.errors.EstimabilityError, match="two groups"):
        ks.logrank("Surv(t, e) ~ g", data, order={"g": ["a"]})
    with pytest.raises(ks.errors.EstimabilityError, match="no event"):
        ks.logrank("Surv(t, e) ~ g", {**data, "e": [0, 0, 0], "g": [1, 2, 2]})
    assert LEVELS["arm"][0] == "placebo"
