"""Group sequential designs: exact normal probabilities (mvtnorm TVPACK) 1e-10, rpact 3.3.4 1e-6."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from tests.reference.more_survival_cases import ORDER, numbers, records, table

CASES = records("sequential")
EXACT = {"asOF": ("obrien-fleming", None), "asP": ("pocock", None), "asHSD_m4": ("hwang-shih-decani", -4.0)}
RPACT = {"asOF": "obrien-fleming", "asP": "pocock", "OF": "classical-obrien-fleming", "P": "classical-pocock"}


@pytest.mark.parametrize("information", ["0.5_1", "0.55_1", "31/59_1", "thirds"])
@pytest.mark.parametrize("kind", list(EXACT))
def test_boundaries_are_exact(kind, information):
    case = CASES["gs_boundaries_exact"][kind][information]
    spending, gamma = EXACT[kind]
    design = ks.GroupSequentialDesign(information=tuple(case["information"]), spending=spending, gamma=gamma)
    frame = design.boundaries().frame
    np.testing.assert_allclose(frame["critical_value"], case["critical_values"], rtol=1e-10)
    np.testing.assert_allclose(frame["nominal_p"], case["nominal_p"], rtol=1e-10)
    np.testing.assert_allclose(frame["cumulative_alpha"], case["cumulative_alpha"], rtol=1e-10)


@pytest.mark.parametrize("key", [k for k in CASES["gs_boundaries"] if not k.startswith("asHSD")])
def test_rpact_boundaries(key):
    case = CASES["gs_boundaries"][key]
    design = ks.GroupSequentialDesign(tuple(case["information_rates"]), spending=RPACT[key.split("_")[0]])
    np.testing.assert_allclose(design.critical_values, case["critical_values"], atol=1e-6)
    np.testing.assert_allclose(design.boundaries()["cumulative_alpha"], case["alpha_spent"], atol=1e-6)


def test_rpact_hwang_shih_decani():
    case = CASES["gs_boundaries"]["asHSD_-4_0.5_1"]
    design = ks.GroupSequentialDesign((0.5, 1), spending="hwang-shih-decani", gamma=-4)
    np.testing.assert_allclose(design.critical_values, case["critical_values"], atol=1e-6)


@pytest.mark.parametrize(
    ("key", "hr", "power", "method"),
    [
        ("schoenfeld_hr0.5_90", 0.5, 0.9, "schoenfeld"),
        ("schoenfeld_hr0.6_80", 0.6, 0.8, "schoenfeld"),
        ("freedman_hr0.5_90", 0.5, 0.9, "freedman"),
    ],
)
def test_fixed_sample_size(key, hr, power, method):
    found = ks.GroupSequentialDesign((0.55, 1)).sample_size(
        hr, power=power, control_median=7, accrual=24, follow_up=6, dropout=(0.05, 12), method=method
    )
    value = dict(zip(found["quantity"], found["estimate"], strict=True))
    got = [value["events, fixed design"], value["subjects, fixed design"]]
    np.testing.assert_allclose(got, numbers(CASES["gs_samplesize"][key]), rtol=1e-7)


def test_group_sequential_sample_size_and_power():
    case = CASES["gs_samplesize"]
    design = ks.GroupSequentialDesign((0.55, 1), events=90)
    found = design.sample_size(0.5, power=0.9, control_median=7, accrual=24, follow_up=6)
    value = dict(zip(found["quantity"], found["estimate"], strict=True))
    events = [value[f"events at analysis {k}"] for k in (1, 2)]
    np.testing.assert_allclose(events, case["gs_events_per_stage"], rtol=1e-6)
    np.testing.assert_allclose(value["subjects"], case["gs_max_subjects"], rtol=1e-6)
    np.testing.assert_allclose([value[f"time of analysis {k}"] for k in (1, 2)], case["gs_analysis_time"], rtol=1e-6)
    np.testing.assert_allclose(value["expected events"], case["gs_expected_events_h1"], rtol=1e-6)
    power = design.power([0.4, 0.5, 0.6]).frame.pivot(index="hazard_ratio", columns="quantity", values="estimate")
    np.testing.assert_allclose(power["power"], case["power_at_hr_0.4_0.5_0.6"], atol=1e-6)
    np.testing.assert_allclose(power["stop at analysis 1"], case["early_stop"], atol=1e-6)


def test_analysis_of_an_inverse_normal_design():
    case = CASES["gs_dataset"]
    design = ks.GroupSequentialDesign((0.5, 1), combination="inverse-normal", events=75)
    analysis = design.analyse([2.1, 2.9], [35, 75], benefit="higher")
    stages = analysis.stages.frame
    np.testing.assert_allclose(stages["critical_value"], case["critical_values"], atol=1e-6)
    np.testing.assert_allclose(np.exp(stages["estimate"]), case["hr_effect_sizes"], rtol=1e-10)
    np.testing.assert_allclose(stages["statistic"], case["combination_tests"], rtol=1e-10)
    np.testing.assert_allclose(np.exp(stages["conf_low"]), case["rci_lower"], atol=1e-6)
    np.testing.assert_allclose(np.exp(stages["conf_high"]), case["rci_upper"], atol=1e-6)
    np.testing.assert_allclose(stages["repeated_p"], case["repeated_p"], atol=1e-6)
    final = analysis.final().frame.iloc[0]
    np.testing.assert_allclose(final["p_value"], case["final_p"][1], atol=1e-6)
    # rpact spends 0.02499999, which moves the limits of the stage-wise interval by up to 5e-7
    limits = [np.exp(final[c]) for c in ("conf_low", "estimate", "conf_high")]
    expected = [case["final_ci"][1], case["median_unbiased"][1], case["final_ci"][3]]
    np.testing.assert_allclose(limits, expected, atol=1e-6)


def test_conditional_power():
    case = CASES["gs_dataset"]
    design = ks.GroupSequentialDesign((0.5, 1), combination="inverse-normal", events=75)
    interim = design.analyse(2.1, 35, benefit="higher")
    assert interim.decision == "continue"
    np.testing.assert_allclose(interim.conditional_power(2.0, events=40), case["conditional_power"][1], atol=1e-6)


def test_two_stage_weighted_combination():
    case = CASES["gs_inverse_normal"]
    data = table("trial")
    data = data[data["arm"] != "low"]
    data = data.assign(entry_week=3 * (data["id"] % 30), ev=(data["status"] == 1) * 1)
    design = ks.GroupSequentialDesign((31 / 59, 1))
    found = ks.weighted_logrank_combination(
        "Surv(time, ev) ~ arm + strata(stratum)",
        data,
        entry="entry_week",
        interim_events=35,
        planned=(31, 59),
        design=design,
        order={"arm": ["placebo", "high"], "stratum": ORDER["stratum"]},
    )
    rows = found.frame.set_index("quantity")
    assert found.meta["interim_time"] == case["calendar_cut"]
    np.testing.assert_array_equal(rows["events"], [case["D1"], case["D2"] - case["D1"], case["D2"]])
    expected = [numbers(case[k])[0] for k in ("z_interim", "z_increment", "z_combined")]
    np.testing.assert_allclose(rows["statistic"], expected, rtol=1e-10)
    np.testing.assert_allclose(found.meta["z_all_data"], numbers(case["z_final_all_data"])[0], rtol=1e-10)
    np.testing.assert_allclose(rows["critical_value"].dropna(), case["boundaries"], atol=1e-6)


def test_limits_of_projected_events_hold_the_error_of_hazards_that_are_estimated():
    """By the delta method with one hazard: d E / d log h = (at risk) h t exp(-h t), var log h = 1 / events."""
    data = pd.DataFrame({"t": np.linspace(1.0, 40.0, 100), "s": [1, 0, 0, 0] * 25})
    free = ks.project_events("Surv(t, s) ~ 1", data, [30.0])
    h = 25 / data.t.sum()
    known = ks.project_events("Surv(t, s) ~ 1", data, [30.0], hazard=h, dropout=0.0)
    assert free["estimate"][0] == pytest.approx(known["estimate"][0], rel=1e-12)
    p = -np.expm1(-h * 30)
    assert known["std_error"][0] == pytest.approx(np.sqrt(75 * p * (1 - p)), rel=1e-12)
    slope = 75 * h * 30 * np.exp(-h * 30)
    assert free["std_error"][0] == pytest.approx(np.sqrt(75 * p * (1 - p) + slope**2 / 25), rel=1e-6)
    nobody = ks.project_events("Surv(t, s) ~ 1", data.assign(s=0), [30.0])
    assert nobody["std_error"][0] == 0.0
