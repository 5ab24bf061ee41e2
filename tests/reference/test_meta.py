"""Meta-analysis against R 4.2.2 metafor 5.0-1, and the laws that pooling obeys."""

import csv
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from kapstats.evidence.small_studies import fail_safe_n, leave_one_out, small_study_effects, trim_and_fill

HERE = Path(__file__).parent / "evidence"
TABLES = pd.read_csv(HERE / "meta_tables.csv").rename(columns={"ai": "x1", "n1i": "n1", "ci": "x2", "n2i": "n2"})
ITERATED = ("REML", "ML", "PM", "EB")


def rows(name):
    with (HERE / name).open() as file:
        return [{k: float(v) if k not in TEXT else v for k, v in _numbers(row).items()} for row in csv.DictReader(file)]


TEXT = ("dataset", "measure", "method", "quantity")


def _numbers(row):
    return {k: ("nan" if v == "NA" else v) for k, v in row.items()}


def of(dataset):
    return TABLES[TABLES["dataset"] == dataset]


CASES = rows("meta_results.csv")


def label(case):
    return f"{case['dataset']}-{case['measure']}-{case['method']}"


def arguments(method):
    if method == "MH":
        return {"model": "mantel-haenszel"}
    if method == "Peto":
        return {"model": "peto"}
    base, *rest = method.removeprefix("IV/").split("+")
    model = {"FE": "common"}.get(base, base.lower())
    ci = {"HKSJ": "hartung-knapp", "HKSJ-adhoc": "hartung-knapp-adhoc"}[rest[0]] if rest else "normal"
    return {"model": model, "ci": ci}


@pytest.mark.parametrize("case", [c for c in CASES if "GLMM" not in c["method"]], ids=label)
@pytest.mark.filterwarnings("ignore::kapstats.errors.KapstatsWarning")
def test_metafor(case):
    got = ks.meta_analysis(of(case["dataset"]), case["measure"], drop00=False, **arguments(case["method"]))
    tolerance = 1e-6 if any(m in case["method"] for m in ITERATED) else 1e-8
    first = got.to_frame().iloc[0]
    shown = {
        "estimate": first["estimate"],
        "se": first["std_error"],
        "stat": first["statistic"],
        "p": first["p_value"],
        "ci_lb": first["conf_low"],
        "ci_ub": first["conf_high"],
        "QE": got.meta["q"],
        "QE_p": got.meta["q_p_value"],
    }
    if case["method"].startswith("IV"):
        shown |= {"tau2": got.meta["tau2"], "I2": got.meta["i2"] / 100, "H2": got.meta["h2"]}
        case = {**case, "I2": case["I2"] / 100}
        if "FE" not in case["method"]:
            shown |= {"pi_lb": first["pred_low"], "pi_ub": first["pred_high"], "se_tau2": got.meta["se_tau2"]}
    for name, value in shown.items():
        assert abs(value - case[name]) < tolerance * max(1, abs(case[name])), name


GLMM = ("GLMM/CM.EL", "GLMM/CM.AL", "GLMM/UM.FS", "GLMM/UM.RS")


@pytest.mark.parametrize("case", [c for c in CASES if c["method"] in GLMM], ids=label)
@pytest.mark.filterwarnings("ignore::kapstats.errors.KapstatsWarning")
def test_metafor_glmm(case):
    got = ks.meta_analysis(of(case["dataset"]), "OR", model=case["method"].removeprefix("GLMM/"))
    first = got.to_frame().iloc[0]
    shown = {"estimate": "estimate", "std_error": "se", "conf_low": "ci_lb", "conf_high": "ci_ub"}
    off = 1e-3 if "CM.EL" in case["method"] else 1e-4  # metafor differences that Hessian numerically, in log tau^2
    np.testing.assert_allclose([first[c] for c in shown], [case[c] for c in shown.values()], atol=off)
    np.testing.assert_allclose([got.meta["tau2"], got.meta["i2"]], [case["tau2"], case["I2"]], rtol=1e-3, atol=1e-9)
    np.testing.assert_allclose(got.meta["h2"], case["H2"], rtol=1e-3)


ONE_ARM = {"PR": "raw", "PLN": "log", "PLO": "logit", "PAS": "arcsine", "PFT": "freeman-tukey"}


@pytest.mark.parametrize("case", rows("meta_proportion_results.csv"), ids=label)
@pytest.mark.filterwarnings("ignore::kapstats.errors.KapstatsWarning")
def test_metafor_one_proportion(case):
    studies = of(case["dataset"])[["study", "x1", "n1"]].rename(columns={"x1": "x", "n1": "n"})
    model = {"FE": "common", "GLMM": "glmm"}.get(case["method"], case["method"].lower())
    got = ks.meta_analysis(studies, ONE_ARM[case["measure"]], model=model, ci="normal")
    first = got.to_frame().iloc[0]
    tolerance = 1e-3 if model == "glmm" else 1e-6
    for ours, theirs in {"estimate": "estimate", "std_error": "se", "conf_low": "ci_lb", "conf_high": "ci_ub"}.items():
        assert abs(first[ours] - case[theirs]) < tolerance * max(1, abs(case[theirs])), ours
    for ours, theirs in {"proportion": "back_est", "prop_low": "back_lb", "prop_high": "back_ub"}.items():
        assert abs(first[ours] - case[theirs]) < tolerance / 10, ours
    assert abs(got.meta["tau2"] - case["tau2"]) < (1e-2 if model == "glmm" else 1e-6)
    assert abs(got.meta["i2"] - case["I2"]) < (1e-2 if model == "glmm" else 1e-6)
    if model != "glmm":
        assert abs(got.meta["q"] - case["QE"]) < 1e-8


def test_metafor_bias_tests_and_q_profile():
    reference = {(r["quantity"], r["method"]): r for r in rows("meta_bias_results.csv")}
    data = of("ket_dissociation_like")
    egger, begg = small_study_effects(data, "OR").to_frame().to_dict("records")
    expected = reference["egger", "classical lm, predictor sei (log OR)"]
    np.testing.assert_allclose(
        [egger["statistic"], egger["df"], egger["p_value"]],
        [expected[k] for k in ("statistic", "df", "p_value")],
        rtol=1e-8,
    )
    expected = reference["begg", "Kendall rank"]
    np.testing.assert_allclose(
        [begg["estimate"], begg["p_value"]], [expected["estimate"], expected["p_value"]], rtol=1e-8
    )
    for predictor, name in {"std_error": "sei", "n": "ni"}.items():
        slope = small_study_effects(data, "OR", model="reml", predictor=predictor).to_frame().iloc[0]
        expected = reference["egger", f"mixed-effects REML, predictor {name}"]
        for ours in ("statistic", "p_value"):
            np.testing.assert_allclose(slope[ours], expected[ours], rtol=1e-6)
    about = ks.meta_analysis(data, "OR").meta
    low_high = reference["tau2_CI", "Q-profile lower/upper (estimate=lower, se=upper)"]
    np.testing.assert_allclose(
        [about["tau2_low"], about["tau2_high"]], [low_high["estimate"], low_high["se"]], rtol=1e-4
    )


@pytest.mark.parametrize(("model", "estimator"), [("reml", "L0"), ("reml", "R0"), ("common", "L0")])
def test_metafor_trim_and_fill(model, estimator):
    reference = {(r["quantity"], r["method"]): r for r in rows("meta_bias_results.csv")}
    name = f"{'REML' if model == 'reml' else 'FE'} {estimator}"
    got = trim_and_fill(of("ket_dissociation_like"), "OR", model, estimator=estimator)
    assert got.meta["missing"] == reference["trimfill", f"{name} k0"]["estimate"]
    if ("trimfill", f"{name} adjusted") in reference:
        expected = reference["trimfill", f"{name} adjusted"]
        second = got.to_frame().iloc[1]
        for ours, theirs in {"estimate": "estimate", "std_error": "se", "p_value": "p_value"}.items():
            np.testing.assert_allclose(second[ours], expected[theirs], rtol=1e-6, atol=1e-12)


def test_metafor_fail_safe_n():
    assert fail_safe_n(of("ket_dissociation_like"), "OR") == 359


def test_trim_and_fill_mirrors_with_the_funnel():
    data = of("ket_dissociation_like").rename(columns={"x1": "x2", "n1": "n2", "x2": "x1", "n2": "n1"})
    turned, straight = trim_and_fill(data, "OR"), trim_and_fill(of("ket_dissociation_like"), "OR")
    np.testing.assert_allclose(turned["estimate"], -straight["estimate"], rtol=1e-9)
    assert (turned.meta["side"], straight.meta["side"]) == ("left", "right")


def test_double_zero_studies_stay_for_rd_and_leave_or_and_say_so():
    rare = of("rare_zero_cells")
    assert ks.meta_analysis(rare, "RD").meta["k"] == 7
    for measure in ("OR", "RR"):
        with pytest.warns(ks.errors.KapstatsWarning, match="2 studies left out .*R1, R6"):
            got = ks.meta_analysis(rare, measure)
        assert (got.meta["k"], got.meta["k_dropped"], got.meta["dropped"]) == (5, 2, ("R1", "R6"))
        assert "2 left out" in got.meta["sentence"]
        assert "0.5 added to all cells of 4 studies" in " ".join(got.meta["conventions"])
    assert ks.meta_analysis(rare, "OR", drop00=False).meta["k"] == 7


def test_the_first_row_is_the_pooled_effect_and_the_others_are_the_studies():
    got = ks.meta_analysis(of("ket_dissociation_like"), "OR", model="dl")
    assert got["term"].tolist() == ["pooled", *(f"S{i}" for i in range(1, 10))]
    np.testing.assert_allclose(got["weight"].iloc[1:].sum(), 100)
    assert got.meta["scale"] == "log"
    assert got.exponentiate()["estimate"].iloc[0] == math.exp(got["estimate"].iloc[0])


def test_given_estimates_equal_the_counts_they_come_from():
    data = of("ket_dissociation_like")
    whole = ks.meta_analysis(data, "RR")
    studies = whole.to_frame().iloc[1:].rename(columns={"term": "study"})[["study", "estimate", "std_error"]]
    again = ks.meta_analysis(studies, "RR")
    np.testing.assert_allclose(again["estimate"], whole["estimate"], rtol=1e-12)
    np.testing.assert_allclose(again["conf_high"], whole["conf_high"], rtol=1e-12)


def test_hedges_g_by_hand():
    data = {"mean1": [10.0], "sd1": [2.0], "n1": [11], "mean2": [8.0], "sd2": [3.0], "n2": [9]}
    pooled_sd = math.sqrt((10 * 4 + 8 * 9) / 18)
    factor = math.gamma(9) / (math.sqrt(9) * math.gamma(8.5))
    g = factor * 2 / pooled_sd
    with pytest.warns(ks.errors.KapstatsWarning, match="One study"):
        got = ks.meta_analysis(data, "SMD")
    assert abs(got["estimate"][0] - g) < 1e-12
    assert abs(got["std_error"][0] ** 2 - (1 / 11 + 1 / 9 + g * g / 40)) < 1e-12


@pytest.mark.parametrize("model", ["common", "dl", "reml", "ml", "pm", "sj", "he", "hs", "eb"])
def test_order_shift_and_scale_do_what_they_must(model):
    rng = np.random.default_rng(1)
    studies = pd.DataFrame({"estimate": rng.normal(0, 1, 8), "std_error": rng.uniform(0.1, 0.6, 8)})
    got = ks.meta_analysis(studies, model=model)
    turned = ks.meta_analysis(studies.iloc[::-1], model=model)
    assert abs(turned["estimate"][0] - got["estimate"][0]) < 1e-10
    moved = ks.meta_analysis(
        studies.assign(estimate=3 - 2 * studies["estimate"], std_error=2 * studies["std_error"]), model=model
    )
    np.testing.assert_allclose(moved["estimate"][0], 3 - 2 * got["estimate"][0], rtol=1e-7)
    np.testing.assert_allclose(moved.meta["tau2"], 4 * got.meta["tau2"], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(moved.meta["i2"], got.meta["i2"], rtol=1e-6, atol=1e-7)


def test_swapping_the_arms_turns_the_sign():
    data = of("ket_dissociation_like")
    swapped = data.rename(columns={"x1": "x2", "n1": "n2", "x2": "x1", "n2": "n1"})
    for measure, model in [("OR", "reml"), ("RR", "dl"), ("RD", "mh"), ("OR", "peto")]:
        a, b = (ks.meta_analysis(d, measure, model) for d in (data, swapped))
        np.testing.assert_allclose(a["estimate"][0], -b["estimate"][0], atol=2e-5)


EDGES = pd.DataFrame({"x1": [3, 9, 4], "n1": [20, 9, 30], "x2": [0, 12, 0], "n2": [20, 12, 25]})


def test_mantel_haenszel_at_the_edges():
    """metafor 3.8-1 (rma.mh): QE on these tables, whose second study is nothing but events."""
    q = {"OR": 0.179755238285, "RR": 0.732021088018}
    for measure in ("OR", "RR"):
        got = ks.meta_analysis(EDGES.assign(x2=[1, 12, 2]), measure, "mh", drop00=False)
        assert got.meta["q_df"] == 1
        np.testing.assert_allclose(got.meta["q"], q[measure], rtol=1e-10)
    with pytest.warns(ks.errors.KapstatsWarning, match="no finite OR"):
        got = ks.meta_analysis(EDGES.iloc[[0, 2]], "OR", "mh")
    assert got.to_frame()[["estimate", "std_error", "conf_low", "p_value"]].iloc[0].isna().all()
    with pytest.warns(ks.errors.KapstatsWarning, match="One study"):
        one = ks.meta_analysis({"x1": [3], "n1": [9], "x2": [1], "n2": [9]}, "OR", "mh")
    assert (one.meta["q"], one.meta["i2"], one.meta["h2"], one.meta["q_p_value"]) == (0, 0, 1, 1)


@pytest.mark.parametrize("model", ["glmm", "glmm-approximate", "glmm-fixed-levels", "glmm-random-levels"])
def test_mixed_models_say_when_an_arm_has_no_event(model):
    with pytest.raises(ks.errors.ConvergenceError, match="no event in any study"):
        ks.meta_analysis(EDGES.iloc[[0, 2]], "OR", model)


def test_studies_of_events_only_stay_for_rr_unless_told():
    with pytest.warns(ks.errors.KapstatsWarning, match="1 studies left out"):
        assert ks.meta_analysis(EDGES, "OR").meta["k"] == 2
    assert ks.meta_analysis(EDGES, "RR").meta["k"] == 3
    with pytest.warns(ks.errors.KapstatsWarning, match="left out"):
        assert ks.meta_analysis(EDGES, "RR", drop00=True).meta["k"] == 2


def test_prediction_limits_follow_to_the_natural_scale():
    got = ks.meta_analysis(of("ket_dissociation_like"), "OR")
    natural = got.exponentiate().to_frame().iloc[0]
    assert natural["pred_low"] == math.exp(got["pred_low"].iloc[0])


def test_all_zero_data_do_not_crash():
    none = {"study": ["A", "B"], "x1": [0, 0], "n1": [10, 20], "x2": [0, 0], "n2": [10, 20]}
    assert ks.meta_analysis(none, "RD")["estimate"][0] == 0
    with pytest.raises(ks.errors.DataError, match="no study is left"):
        ks.meta_analysis(none, "OR")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x1": [11, 1]}, "impossible counts \\(row 1\\)"),
        ({"x1": ["one", 1]}, "1 values are not numbers \\(one\\)"),
    ],
)
def test_impossible_studies(change, message):
    data = {"study": ["A", "B"], "x1": [1, 2], "n1": [10, 10], "x2": [3, 4], "n2": [10, 10]}
    with pytest.raises(ks.errors.DataError, match=message):
        ks.meta_analysis({**data, **change}, "RR")


def test_wrong_names_are_told():
    data = {"study": ["A"], "effect": [1.0]}
    with pytest.raises(ks.errors.DataError, match="The table has: study, effect"):
        ks.meta_analysis(data)
    with pytest.raises(ks.errors.FormulaError, match="Did you mean 'reml'"):
        ks.meta_analysis(data, model="rema")
    with pytest.raises(ks.errors.FormulaError, match="needs counts"):
        ks.meta_analysis({"estimate": [1.0], "std_error": [1.0]}, model="peto")


def test_leaving_one_out_is_pooling_the_others():
    data = of("ket_dissociation_like").reset_index(drop=True)
    got = leave_one_out(data, "RD")
    direct = ks.meta_analysis(data.drop(index=2), "RD")
    assert got["term"][2] == "without S3"
    np.testing.assert_allclose(got["estimate"][2], direct["estimate"][0], rtol=1e-12)


def test_the_result_draws_its_forest_and_its_funnel():
    result = ks.meta_analysis(of("ket_dissociation_like"), "OR")
    frame = result.to_frame()
    forest = result.plot()
    assert {"pooled", *frame["term"]} <= {text.get_text() for text in forest.texts}
    diamond = forest.patches[0].get_xy()
    limits = np.exp(frame[["conf_low", "conf_high"]].iloc[0])
    np.testing.assert_allclose([diamond[:, 0].min(), diamond[:, 0].max()], limits)
    sizes = {line.get_markersize() for line in forest.lines if line.get_marker() == "s"}
    assert len(sizes) == 9  # by weight
    assert {line.get_color() for line in forest.lines if line.get_marker() == "s"} == {"#123c80"}  # no study is a route
    funnel = result.plot(figure="funnel")
    points = next(line for line in funnel.lines if line.get_marker() == "o")
    np.testing.assert_allclose(points.get_xdata(), frame["estimate"][1:])
    np.testing.assert_allclose(points.get_ydata(), frame["std_error"][1:])
    low, high = funnel.get_ylim()
    assert low > high == 0  # precise studies on top
    with pytest.raises(ks.errors.FormulaError, match="no row 'pooled'"):
        small_study_effects(of("ket_dissociation_like"), "OR").plot(figure="funnel")
    assert (forest.get_xlabel(), forest.get_xscale()) == ("Odds ratio (95% CI)", "log")
    assert funnel.get_xlabel() == "Log odds ratio"
    ratios = result.exponentiate()
    assert ratios.plot().get_xlabel().startswith("Odds ratio")
    with pytest.raises(ks.errors.FormulaError, match="before exponentiate"):
        ratios.plot(figure="funnel")
