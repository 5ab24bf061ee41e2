"""What holds of pooled evidence whatever the studies (order, scale, splitting, symmetry), subgroups and regressions."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kapstats as ks

pytestmark = pytest.mark.filterwarnings("ignore::kapstats.errors.KapstatsWarning")

MODELS = ("common", "dl", "reml", "ml", "pm", "eb", "sj", "he", "hs")
INTERVALS = ("hartung-knapp", "hartung-knapp-adhoc", "normal")
NAMES = ["estimate", "std_error", "conf_low", "conf_high", "pred_low", "pred_high"]
few = settings(max_examples=15, deadline=None)


def studies(seed, k):
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"estimate": rng.normal(0, 1, k), "std_error": rng.uniform(0.1, 0.9, k)})


def counts(seed, k, rare=False):
    rng = np.random.default_rng(seed)
    n1, n2 = rng.integers(20, 200, (2, k))
    p = (0.03, 0.02) if rare else (0.4, 0.25)
    return pd.DataFrame({"x1": rng.binomial(n1, p[0]), "n1": n1, "x2": rng.binomial(n2, p[1]), "n2": n2})


def first(result, names=NAMES):
    return result.to_frame().iloc[0][names].to_numpy(float)


@few
@given(seed=st.integers(0, 10**6), k=st.integers(2, 9), model=st.sampled_from(MODELS), ci=st.sampled_from(INTERVALS))
def test_pooling_does_not_depend_on_the_order_and_follows_scale_and_shift(seed, k, model, ci):
    data = studies(seed, k)
    got = first(ks.meta_analysis(data, model=model, ci=ci))
    np.testing.assert_allclose(first(ks.meta_analysis(data[::-1], model=model, ci=ci)), got, rtol=1e-6, atol=1e-9)
    moved = data.assign(estimate=5 + 3 * data["estimate"], std_error=3 * data["std_error"])
    again = first(ks.meta_analysis(moved, model=model, ci=ci))
    shift = np.array([5, 0, 5, 5, 5, 5])
    np.testing.assert_allclose(again, shift + 3 * got, rtol=1e-5, atol=1e-6)


@few
@given(seed=st.integers(0, 10**6), k=st.integers(3, 9))
def test_without_excess_variation_all_random_effects_models_are_the_common_one(seed, k):
    data = studies(seed, k).assign(estimate=lambda d: 0.01 * d["estimate"])  # Q far below k - 1
    common = first(ks.meta_analysis(data, model="common", ci="normal"), NAMES[:4])
    for model in ("dl", "reml", "ml", "pm", "eb", "he", "hs"):
        got = ks.meta_analysis(data, model=model, ci="normal")
        assert got.meta["tau2"] == 0
        np.testing.assert_allclose(first(got, NAMES[:4]), common, rtol=1e-12)


@few
@given(seed=st.integers(0, 10**6), k=st.integers(2, 8))
def test_a_study_split_into_two_of_the_same_effect_is_the_same_common_effect(seed, k):
    data = studies(seed, k)
    half = data.iloc[[0]].assign(std_error=data["std_error"].iloc[0] * np.sqrt(2))
    split = pd.concat([half, half, data.iloc[1:]])
    names = NAMES[:4]
    a, b = (first(ks.meta_analysis(d, model="common", ci="normal"), names) for d in (data, split))
    np.testing.assert_allclose(a, b, rtol=1e-10)


@few
@given(seed=st.integers(0, 10**6), k=st.integers(3, 9))
def test_the_guarded_interval_is_never_narrower_and_levels_nest(seed, k):
    data = studies(seed, k)
    plain, guarded = (ks.meta_analysis(data, ci=c) for c in ("normal", "hartung-knapp-adhoc"))
    assert guarded["std_error"].iloc[0] >= plain["std_error"].iloc[0] * (1 - 1e-12)
    assert guarded["conf_high"].iloc[0] >= plain["conf_high"].iloc[0]
    narrow = ks.meta_analysis(data, level=0.8)
    assert narrow["conf_low"].iloc[0] >= ks.meta_analysis(data)["conf_low"].iloc[0]


@few
@given(seed=st.integers(0, 10**6), k=st.integers(3, 7), rare=st.booleans())
def test_exchanging_arms_turns_the_effect_and_events_turn_the_odds(seed, k, rare):
    data = counts(seed, k, rare).assign(x1=lambda d: d["x1"].clip(lower=1), x2=lambda d: d["x2"].clip(lower=1))
    turned = data.rename(columns={"x1": "x2", "n1": "n2", "x2": "x1", "n2": "n1"})
    inverse = data.assign(x1=data["n1"] - data["x1"], x2=data["n2"] - data["x2"])
    for measure, model in (("OR", "reml"), ("OR", "mh"), ("OR", "peto"), ("RD", "mh"), ("RR", "mh"), ("RD", "dl")):
        got = first(ks.meta_analysis(data, measure, model), NAMES[:2])
        swapped = first(ks.meta_analysis(turned, measure, model), NAMES[:2])
        np.testing.assert_allclose(swapped, got * [-1, 1], rtol=1e-5, atol=1e-7)
        if measure != "RR":
            opposite = first(ks.meta_analysis(inverse, measure, model), NAMES[:2])
            np.testing.assert_allclose(opposite, got * [-1, 1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("model", ["glmm", "glmm-fixed-levels", "glmm-random-levels", "beta-binomial"])
def test_mixed_models_turn_with_the_arms_and_survive_studies_without_events(model):
    data = counts(3, 8, rare=True)
    turned = data.rename(columns={"x1": "x2", "n1": "n2", "x2": "x1", "n2": "n1"})
    a, b = (first(ks.meta_analysis(d, "OR", model), NAMES[:2]) for d in (data, turned))
    np.testing.assert_allclose(b, a * [-1, 1], rtol=2e-3, atol=2e-4)
    silent = pd.concat([data, pd.DataFrame({"x1": [0], "n1": [50], "x2": [0], "n2": [40]})])
    got = ks.meta_analysis(silent, "OR", model)
    if model != "beta-binomial":  # the beta-binomial keeps it: it informs the level of risk
        np.testing.assert_allclose(first(got, NAMES[:2]), a, rtol=1e-4)
        assert got.meta["k_dropped"] == 1


def test_the_mixed_model_of_one_study_is_its_own_logistic_regression():
    one = pd.DataFrame({"x1": [12], "n1": [40], "x2": [5], "n2": [38]})
    log_odds = np.log(12 * 33 / (28 * 5))
    got = ks.meta_analysis(one, "OR", "glmm-fixed-levels")
    np.testing.assert_allclose(got["estimate"].iloc[0], log_odds, rtol=1e-6)
    assert got.meta["tau2"] == 0


@few
@given(seed=st.integers(0, 10**6), k=st.integers(4, 9), model=st.sampled_from(MODELS))
def test_regression_on_a_constant_is_pooling_and_slopes_follow_the_unit(seed, k, model):
    data = studies(seed, k).assign(dose=np.arange(k, dtype=float))
    pooled = first(ks.meta_analysis(data, model=model), NAMES[:4])
    np.testing.assert_allclose(first(ks.meta_regression(data, "~ 1", model=model), NAMES[:4]), pooled, rtol=1e-6)
    slope = ks.meta_regression(data, "~ dose", model=model).filter(term="dose")
    grams = ks.meta_regression(data.assign(dose=data["dose"] / 1000)[::-1], "~ dose", model=model).filter(term="dose")
    np.testing.assert_allclose(grams["estimate"], 1000 * slope["estimate"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(grams["p_value"], slope["p_value"], rtol=1e-4, atol=1e-9)


@few
@given(seed=st.integers(0, 10**6))
def test_two_groups_regressed_are_the_two_groups_pooled(seed):
    """Common effect, normal: the coefficient of a group is the difference of the groups' pooled effects."""
    data = studies(seed, 8).assign(kind=["a"] * 4 + ["b"] * 4)
    slope = ks.meta_regression(data, "~ kind", model="common", ci="normal").to_frame().iloc[1]
    a, b = (ks.meta_analysis(data[data["kind"] == g], model="common", ci="normal").to_frame().iloc[0] for g in "ab")
    np.testing.assert_allclose(slope["estimate"], b["estimate"] - a["estimate"], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(slope["std_error"], np.hypot(a["std_error"], b["std_error"]), rtol=1e-9)


def subjects(seed, n=160):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"ARM": rng.permutation(np.repeat(["P", "K"], n // 2)), "SEX": rng.choice(["F", "M"], n)})
    frame["BASE"] = rng.normal(35, 5, n)
    frame["CHG"] = -5 * (frame["ARM"] == "K") + 0.4 * frame["BASE"] + rng.normal(0, 8, n)
    frame["EVENT"] = (rng.random(n) < np.where(frame["ARM"] == "K", 0.4, 0.2)).astype(int)
    return frame


@pytest.mark.parametrize("seed", range(4))
def test_subgroups_do_not_depend_on_row_order_and_follow_scale(seed):
    data, options = subjects(seed), {"by": "ARM", "factors": ["SEX"], "reference": "P", "covariates": ["BASE"]}
    got = ks.subgroups(data, "CHG", **options).to_frame()
    turned = ks.subgroups(data.sample(frac=1, random_state=seed), "CHG", **options).to_frame()
    turned = turned.set_index("subgroup").loc[got["subgroup"]].reset_index()
    np.testing.assert_allclose(turned["estimate"], got["estimate"], rtol=1e-9)
    np.testing.assert_allclose(turned["interaction_p_value"], got["interaction_p_value"], rtol=1e-7)
    doubled = ks.subgroups(data.assign(CHG=2 * data["CHG"] + 7), "CHG", **options).to_frame()
    np.testing.assert_allclose(doubled["conf_low"], 2 * got["conf_low"], rtol=1e-8)
    np.testing.assert_allclose(doubled["interaction_p_value"], got["interaction_p_value"], rtol=1e-7)


@pytest.mark.parametrize("measure", ["RD", "OR"])
def test_subgroups_turn_with_the_reference_and_one_level_is_everybody(measure):
    data = subjects(9)
    options = {"by": "ARM", "factors": ["SEX"], "measure": measure}
    a, b = (ks.subgroups(data, "EVENT", reference=r, **options).to_frame() for r in ("P", "K"))
    np.testing.assert_allclose(b["estimate"], -a["estimate"], rtol=1e-8)
    np.testing.assert_allclose(b["interaction_p_value"], a["interaction_p_value"], rtol=1e-8)
    same = ks.subgroups(data.assign(SEX="F"), "EVENT", reference="P", **options).to_frame()
    np.testing.assert_allclose(same["estimate"].iloc[1], same["estimate"].iloc[0])
    assert np.isnan(same["interaction_p_value"]).all()


@few
@given(x1=st.integers(1, 39), x2=st.integers(1, 29), seed=st.integers(0, 10**6))
def test_every_method_is_listed_for_what_it_prints(x1, x2, seed):
    method = ["wald", "newcombe", "agresti-caffo", "miettinen-nurminen", "farrington-manning"][seed % 5]
    row = ks.risk_difference(x1, 40, x2, 30, method).to_frame().iloc[0]
    printed = tuple(f"{100 * row[c]:.1f}" for c in ("conf_low", "conf_high"))
    got = ks.fingerprint(x1, 40, x2, 30, printed=printed, scale="percent")
    assert method in set(got.filter(measure="risk difference")["method"])


@few
@given(seed=st.integers(0, 10**6))
def test_an_audit_does_not_depend_on_the_order_of_lines(seed):
    rng = np.random.default_rng(seed)
    lines = pd.DataFrame({"study": [f"S{i}" for i in range(8)], "events": rng.integers(0, 20, 8), "n": 20})
    lines["percent"] = [f"{100 * x / 20 + rng.choice([0, 0, 1.5]):.1f}" for x in lines["events"]]
    found = ks.audit(lines).to_frame()
    turned = ks.audit(lines.sample(frac=1, random_state=seed)).to_frame()
    assert sorted(turned["study"]) == sorted(found["study"])
