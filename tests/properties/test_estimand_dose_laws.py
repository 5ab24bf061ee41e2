"""Estimands, blinding, onset and dose: laws, slow twins, degenerate cases."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

import kapstats as ks
from kapstats.errors import DataError, EstimabilityError, FormulaError, KapstatsWarning
from kapstats.estimates import Estimates
from kapstats.response.blinding import blinding_index
from kapstats.response.dose import dose_response
from kapstats.response.estimand import Estimand, bounds
from kapstats.response.onset import onset_curve, separation

ROLES = {"subject": "id", "visit": "visit", "outcome": "y", "event": "event", "event_visit": "at"}


def events():
    data = pd.DataFrame({"id": np.repeat([1, 2, 3], 3), "visit": np.tile([1, 7, 28], 3)})
    data["y"] = [-1.0, -5, -9, -2, -6, -7, -3, -4, -8]
    data["event"] = np.repeat([None, "rescue", "stop"], 3)
    return data.assign(at=np.repeat([np.nan, 7, 28], 3))


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("treatment-policy", [-2, -6, -7]),
        ("hypothetical", [-2, np.nan, np.nan]),
        ("composite", [-2, 0, 0]),
        ("while-on-treatment", [-2, -2, -2]),
    ],
)
def test_each_strategy_changes_the_rows_it_says(strategy, expected):
    estimand = Estimand("KAP v placebo", "all", "CHG", {"rescue": strategy, "stop": "treatment-policy"})
    out = estimand.apply(events(), **ROLES)
    np.testing.assert_array_equal(out.loc[out["id"] == 2, "y"], expected)
    assert out.loc[out["id"] != 2, "y"].equals(events().loc[events()["id"] != 2, "y"])
    assert "rescue" in out.attrs["kapstats_estimand"]


def test_the_estimand_travels_with_every_result_of_a_fit():
    rng = np.random.default_rng(1)
    data = pd.concat([events().assign(id=events()["id"] + 10 * k) for k in range(12)], ignore_index=True)
    data = data.assign(
        y=data["y"] + rng.normal(size=len(data)), arm=pd.Categorical(data["id"] % 2, [0, 1], ordered=True)
    )
    estimand = Estimand("KAP v placebo", "all", "CHG", {"rescue": "hypothetical", "stop": "treatment-policy"})
    fit = ks.mmrm("y ~ arm*visit + us(visit | id)", estimand.apply(data, **ROLES))
    assert fit.lsmeans("arm", by="visit").contrast("pairwise").meta["estimand"] == estimand.sentence()


def test_strategies_do_not_depend_on_row_order():
    estimand = Estimand("a", "b", "c", {"rescue": "while-on-treatment", "stop": "composite"}, failure=-0.5)
    straight = estimand.apply(events(), **ROLES)
    mixed = estimand.apply(events().iloc[::-1], **ROLES).sort_values(["id", "visit"]).reset_index(drop=True)
    pd.testing.assert_frame_equal(straight, mixed)


def test_principal_stratum_leaves_subjects_out_and_says_so():
    estimand = Estimand("a", "b", "c", {"rescue": "principal-stratum", "stop": "treatment-policy"})
    with pytest.warns(KapstatsWarning, match="1 subjects with the event are left out"):
        assert set(estimand.apply(events(), **ROLES)["id"]) == {1, 3}


def test_events_without_strategy_or_visit_are_refused():
    with pytest.raises(DataError, match="no strategy for stop"):
        Estimand("a", "b", "c", {"rescue": "composite"}).apply(events(), **ROLES)
    both = Estimand("a", "b", "c", {"rescue": "composite", "stop": "composite"})
    with pytest.raises(DataError, match="name no known visit"):
        both.apply(events().assign(at=99), **ROLES)
    with pytest.raises(FormulaError, match="Did you mean 'composite'"):
        Estimand("a", "b", "c", {"rescue": "compositee"})


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 100))
@settings(derandomize=True, max_examples=40)
def test_bounds_hold_every_completion(responders, others, unseen):
    observed, total = responders + others, responders + others + unseen
    if total == 0:
        return
    low, high = bounds(responders, observed, total)
    assert low <= responders / total <= high <= 1
    assert high - low == pytest.approx(unseen / total)


def test_blinding_extremes():
    perfect = {"A": [20, 20, 10], "B": [20, 20, 10]}
    known = {"A": [50, 0, 0], "B": [0, 50, 0]}
    assert blinding_index(counts=perfect)["estimate"].tolist() == [0, 0]
    assert blinding_index(counts=known)["estimate"].tolist() == [1, 1]
    assert blinding_index(counts=known, method="james")["estimate"][0] == pytest.approx(0.0)
    chance = {"A": [25, 25, 0], "B": [25, 25, 0]}
    assert blinding_index(counts=chance, method="james")["estimate"][0] == pytest.approx(0.5)
    unsure = {"A": [0, 0, 9], "B": [0, 0, 9]}
    assert blinding_index(counts=unsure, method="james")["estimate"][0] == pytest.approx(1.0)


def test_blinding_from_rows_equals_counts_and_errors_match_a_simulation():
    rng = np.random.default_rng(5)
    data = pd.DataFrame({"arm": pd.Categorical(rng.choice(["A", "B"], 300), ["A", "B"], ordered=True)})
    data["guess"] = rng.choice(["A", "B", "unsure"], 300, p=[0.4, 0.25, 0.35])
    rows = {a: [((data["arm"] == a) & (data["guess"] == g)).sum() for g in ("A", "B", "unsure")] for a in "AB"}
    for method in ("bang", "james"):
        one = blinding_index(data, arm="arm", guess="guess", method=method).frame
        two = blinding_index(counts=rows, method=method).frame
        pd.testing.assert_frame_equal(one.drop(columns="arm"), two.drop(columns="arm"))
    p = np.array([*rows["A"], *rows["B"]]) / 300
    drawn = rng.multinomial(300, p, size=2000)
    found = [blinding_index(counts={"A": d[:3], "B": d[3:]}, method="james")["estimate"][0] for d in drawn]
    assert one["std_error"][0] == pytest.approx(np.std(found), rel=0.06)


def test_blinding_refusals():
    with pytest.raises(DataError, match="nobody in B"):
        blinding_index(counts={"A": [1, 0, 0], "B": [0, 0, 0]})
    with pytest.raises(FormulaError, match="two arms"):
        blinding_index(counts={a: [1, 1, 1, 1] for a in "ABC"}, method="james")


def means(y, vcov):
    return Estimates(pd.DataFrame({"estimate": y, "std_error": np.sqrt(np.diag(vcov))}), {}, vcov)


def test_dose_response_finds_the_least_squares_optimum():
    rng = np.random.default_rng(2)
    d = np.array([0, 14, 28, 56, 84.0])
    vcov = np.diag(np.full(5, 0.5)) + 0.2
    y = -1 - 9 * d**2 / (30**2 + d**2) + np.linalg.cholesky(vcov) @ rng.normal(size=5)
    omega = np.linalg.inv(vcov)

    def form(p):
        hill, ed50 = np.exp(p[3]), np.exp(p[2])
        r = y - (p[0] + p[1] * d**hill / (ed50**hill + d**hill))
        return r @ omega @ r

    options = {"maxiter": 20_000, "maxfev": 20_000, "xatol": 1e-10, "fatol": 1e-12}
    starts = [[0, -8, np.log(e), np.log(h)] for e in (10, 30, 100) for h in (1, 2, 4)]
    slow = min(minimize(form, s, method="Nelder-Mead", options=options).fun for s in starts)
    fit = dose_response(means(y, vcov), d, models=["sigmoid-emax"], draws=2)
    assert fit.models()["rss"][0] == pytest.approx(slow, rel=1e-6)


@pytest.mark.parametrize("model", ["linear", "emax", "quadratic", "exponential"])
def test_exact_curves_are_recovered(model):
    d = np.array([0, 10, 25, 50, 100.0])
    shapes = {"linear": d, "emax": d / (30 + d), "quadratic": d - 0.004 * d**2, "exponential": np.expm1(d / 60)}
    y = 2 - 3 * shapes[model]
    fit = dose_response(means(y, np.eye(5) * 0.01), d, models=[model], draws=2)
    np.testing.assert_allclose(fit.predict(d, model=model)["estimate"], y, atol=1e-3)
    np.testing.assert_allclose(fit.curves[0](d), y, atol=1e-3)


def test_target_dose_inverts_the_curve_and_says_when_it_cannot():
    d = np.array([0, 10, 25, 50, 100.0])
    fit = dose_response(means(-8 * d / (20 + d), np.eye(5) * 0.01), d, models=["emax"], draws=40)
    assert fit.target_dose(-4, model="emax")["estimate"][0] == pytest.approx(20, abs=0.05)
    far = fit.target_dose(-50, model="emax")
    assert np.isnan(far["estimate"][0])
    assert np.isinf(far["conf_high"][0])


def test_too_few_doses_and_missing_means_are_refused():
    with pytest.raises(DataError, match="needs 4 distinct doses"):
        dose_response(means(np.zeros(3), np.eye(3)), [0, 1, 2], models=["sigmoid-emax"])
    with pytest.raises(EstimabilityError):
        dose_response(means(np.array([0, np.nan]), np.eye(2)), [0, 1], models=["linear"])


def test_what_is_no_dose_response_is_refused_by_name():
    table = means([0.0, -4.0, -6.0, -7.2], np.diag([0.25] * 4)).frame.assign(arm=list("PLMH"), std_error=0.5)
    table = table[["arm", "estimate", "std_error"]]
    doses = [0, 28, 56, 84]
    for dose, options, said in [
        ("arm", {}, "4 of 4 means have no number for a dose"),
        ({"P": 0, "L": 28, "M": 56}, {}, r"1 of 4 means have no number for a dose \(3 counted"),
        ([0, 28], {}, "4 means need 4 doses; 2 are given"),
        (doses, {"models": []}, "at least one model of linear"),
        (doses, {"draws": 1}, "draws=1 gives no limits"),
        (doses, {"level": 95}, "must be between 0 and 1; did you mean 0.95"),
        (doses, {"vcov": np.eye(4) + np.triu(np.ones((4, 4)))}, "not symmetric"),
        (doses, {"vcov": np.eye(3)}, r"\(3, 3\) for 4 means"),
    ]:
        with pytest.raises(FormulaError, match=said):
            ks.dose_response(table, dose, **{"models": "linear", "draws": 5, **options})
    with pytest.raises(EstimabilityError, match="not positive definite"):
        ks.dose_response(table, doses, vcov=np.ones((4, 4)), models="linear")
    by_name = ks.dose_response(table, dict(zip("PLMH", doses, strict=True)), models="linear", draws=5)
    b = np.polyfit(doses, table["estimate"], 1)
    np.testing.assert_allclose(by_name.coefficients()["estimate"], b[::-1], rtol=1e-9)


def test_a_candidate_that_is_flat_or_infinite_is_refused_by_name():
    table = means([0.0, -4.0, -6.0, -7.2], np.diag([0.25] * 4))
    for candidate, said in [
        (("emax", {"ed50": -5.0}), "ed50 have to be above zero"),
        (("exponential", {"delta": 0.1}), "exponential is flat or infinite"),
        (("emax", {}), "emax takes ed50"),
        (("linear", {"x": 1.0}), "linear takes no parameters"),
    ]:
        with pytest.raises(FormulaError, match=f"candidate 'shape': {said}"):
            ks.mcp_mod(table, [0, 28, 56, 84], {"shape": candidate})


def test_scaling_the_dose_scales_the_ed50():
    d = np.array([0, 10, 25, 50, 100.0])
    y = -8 * d / (20 + d) + np.array([0.1, -0.2, 0.1, 0.0, -0.1])
    one, ten = (dose_response(means(y, np.eye(5)), k * d, models=["emax"], draws=2) for k in (1, 10))
    assert ten.curves[0].parameters["ed50"] == pytest.approx(10 * one.curves[0].parameters["ed50"], rel=1e-4)


def test_onset_recovers_half_times_and_covers_them():
    t = np.array([0.2, 1, 3, 7, 14, 28.0])
    truth = -9 * np.exp2(-t / 20) * (1 - np.exp2(-t / 0.6))
    vcov = np.diag(np.full(6, 0.02)) + 0.01
    exact = onset_curve(means(truth, vcov), t, model="onset-and-waning")["estimate"]
    np.testing.assert_allclose(exact, [-9, 0.6, 20], rtol=2e-3)
    rng, inside = np.random.default_rng(1), 0
    for y in rng.multivariate_normal(truth, vcov, size=60):
        found = onset_curve(means(y, vcov), t, model="onset-and-waning").frame
        inside += (found["conf_low"] <= [-9, 0.6, 20]) & (found["conf_high"] >= [-9, 0.6, 20])
    assert inside.min() >= 60 * 0.866  # nominal 95%, three standard errors (4,000 draws of this trial gave 94.5%)


def rows(p):
    return Estimates(pd.DataFrame({"contrast": "K - P", "visit": range(len(p)), "estimate": -1.0, "p_value": p}))


@pytest.mark.parametrize(
    ("p", "at", "n"),
    [([0.2, 0.01, 0.001], 1, 2), ([0.01, 0.2, 0.001], 2, 1), ([0.01, 0.01, 0.2], None, 0), ([0.01] * 3, 0, 3)],
)
def test_separation_is_an_unbroken_run_to_the_last_visit(p, at, n):
    found = separation(rows(p), "visit").frame
    assert found["n_separated"][0] == n
    assert (found["visit"][0] == at) if at is not None else found["visit"].isna()[0]


def test_separation_holds_the_family_wise_error():
    """Under no effect anywhere, with correlated visits; taking the first visit with p < .05 does not hold it."""
    from scipy.special import ndtr

    rng = np.random.default_rng(11)
    z = rng.multivariate_normal(np.zeros(5), 0.5 + 0.5 * np.eye(5), size=3000)
    p = 2 * ndtr(-np.abs(z))
    ours = np.mean([separation(rows(row), "visit")["n_separated"][0] > 0 for row in p])
    naive = np.mean((p < 0.05).any(axis=1))
    error = np.sqrt(0.05 * 0.95 / 3000)
    assert ours < 0.05 + 3 * error
    assert naive > 0.05 + 3 * error
