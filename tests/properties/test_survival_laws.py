"""Laws that curves, tests and Cox models obey on any data."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kapstats as ks
from kapstats.kernels import cox_exact, cox_newton, cox_penalty, cox_residuals
from kapstats.kernels.product_limit import CONF_TYPES, _jackknife, _row_jackknife, limits, product_limit
from kapstats.kernels.risk_sets import merge_close, risk_sets
from kapstats.kernels.weighted_logrank import group_counts, weight_function, weighted_scores

FEW = settings(derandomize=True, max_examples=8, deadline=None)
TIES = ("efron", "breslow", "exact", "kalbfleisch-prentice")


def rows(seed: int, n: int = 40, tied: bool = True, strata: int = 1) -> pd.DataFrame:
    """Two arms with a covariate; every arm has events; times tied on a grid or distinct."""
    rng = np.random.default_rng(seed)
    time = rng.exponential(10, n) + 0.1
    frame = pd.DataFrame(
        {
            "t": np.ceil(time) if tied else time,
            "e": (rng.random(n) < 0.7).astype(int),
            "arm": np.where(np.arange(n) % 2 == 0, "a", "b"),
            "x": rng.normal(size=n).round(3),
            "s": rng.integers(strata, size=n),
        }
    )
    frame.loc[:5, "e"] = 1
    frame["arm"] = pd.Categorical(frame["arm"], ["a", "b"], ordered=True)
    return frame


def seeds():
    return st.integers(0, 10_000)


def coefficients(fit) -> np.ndarray:
    return fit.coefficients.frame[["estimate", "std_error"]].to_numpy()


@FEW
@given(seeds(), st.sampled_from(["efron", "breslow"]))
def test_row_order_index_and_time_unit_do_not_matter(seed, ties):
    data = rows(seed, strata=2)
    other = data.sample(frac=1, random_state=seed).assign(t=lambda d: d["t"] * 7)
    other.index = [0] * len(other)
    formula = "Surv(t, e) ~ arm + x + strata(s)"
    np.testing.assert_allclose(
        coefficients(ks.cox(formula, data, ties=ties)), coefficients(ks.cox(formula, other, ties=ties)), rtol=1e-9
    )
    tests = [ks.logrank("Surv(t, e) ~ arm + strata(s)", d, weights="peto-peto")["statistic"][0] for d in (data, other)]
    assert tests[0] == pytest.approx(tests[1], rel=1e-10)
    curves = [ks.kaplan_meier("Surv(t, e) ~ arm", d).frame for d in (data, other)]
    np.testing.assert_allclose(curves[0]["conf_low"], curves[1]["conf_low"], rtol=1e-10)
    np.testing.assert_allclose(curves[0]["time"] * 7, curves[1]["time"])
    means = [ks.rmst("Surv(t, e) ~ arm", d)["estimate"].to_numpy() for d in (data, other)]
    np.testing.assert_allclose(means[0][:3] * 7, means[1][:3], rtol=1e-10)
    np.testing.assert_allclose(means[0][3], means[1][3], rtol=1e-10)


@FEW
@given(seeds())
def test_any_increasing_change_of_time_leaves_tests_and_hazard_ratios(seed):
    data = rows(seed)
    other = data.assign(t=np.log1p(data["t"]) ** 3)
    assert ks.logrank("Surv(t, e) ~ arm", data, gamma=1)["statistic"][0] == pytest.approx(
        ks.logrank("Surv(t, e) ~ arm", other, gamma=1)["statistic"][0], rel=1e-10
    )
    for ties in TIES:
        found = [coefficients(ks.cox("Surv(t, e) ~ arm + x", d, ties=ties)) for d in (data, other)]
        np.testing.assert_allclose(*found, rtol=1e-8)


@FEW
@given(seeds(), st.sampled_from(TIES))
def test_splitting_rows_into_start_stop_pieces_changes_nothing(seed, ties):
    data = rows(seed)
    cut = np.minimum(data["t"] - 0.5, 4.0)
    late = data.assign(start=cut, stop=data["t"])
    early = data.assign(start=0.0, stop=cut, e=0)
    pieces = pd.concat([early, late], ignore_index=True)
    whole = ks.cox("Surv(t, e) ~ arm + x", data, ties=ties)
    split = ks.cox("Surv(start, stop, e) ~ arm + x", pieces, ties=ties)
    np.testing.assert_allclose(coefficients(whole), coefficients(split), rtol=1e-8)
    if ties in ("efron", "breslow"):
        np.testing.assert_allclose(whole.zph()["statistic"], split.zph()["statistic"], rtol=1e-7)
    km = [ks.kaplan_meier("Surv(t, e) ~ arm", data), ks.kaplan_meier("Surv(start, stop, e) ~ arm", pieces)]
    times = [1.0, 3.0, 7.0, 15.0]
    np.testing.assert_allclose(km[0].at(times)["std_error"], km[1].at(times)["std_error"], rtol=1e-9)


@FEW
@given(seeds())
def test_whole_weights_are_replication(seed):
    data = rows(seed).assign(w=lambda d: 1 + np.arange(len(d)) % 3)
    replicated = data.loc[data.index.repeat(data["w"])].reset_index(drop=True)
    weighted, plain = (ks.kaplan_meier("Surv(t, e) ~ arm", d, weights=w) for d, w in ((data, "w"), (replicated, None)))
    np.testing.assert_allclose(weighted.frame.iloc[:, 1:], plain.frame.iloc[:, 1:], rtol=1e-10)
    fits = [ks.cox("Surv(t, e) ~ arm + x", d, ties="breslow", weights=w) for d, w in ((data, "w"), (replicated, None))]
    np.testing.assert_allclose(coefficients(fits[0]), coefficients(fits[1]), rtol=1e-8)
    means = [ks.rmst("Surv(t, e) ~ arm", d, weights=w)["std_error"] for d, w in ((data, "w"), (replicated, None))]
    np.testing.assert_allclose(*means, rtol=1e-9)


@FEW
@given(seeds())
def test_strata_of_one_row_add_nothing(seed):
    data = rows(seed)
    lone = data.tail(3).assign(s=[7, 8, 9], e=[1, 1, 0])
    formula = "Surv(t, e) ~ arm + x + strata(s)"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ks.errors.KapstatsWarning)
        fits = [coefficients(ks.cox(formula, d)) for d in (data, pd.concat([data, lone]))]
    np.testing.assert_allclose(*fits, rtol=1e-8)
    tests = [ks.logrank("Surv(t, e) ~ arm + strata(s)", d)["statistic"][0] for d in (data, pd.concat([data, lone]))]
    assert tests[0] == pytest.approx(tests[1], rel=1e-10)


@FEW
@given(seeds())
def test_all_tie_methods_agree_without_ties(seed):
    data = rows(seed, tied=False)
    fits = [ks.cox("Surv(t, e) ~ arm + x", data, ties=ties) for ties in TIES]
    for fit in fits[1:]:
        np.testing.assert_allclose(coefficients(fit), coefficients(fits[0]), rtol=1e-8)
        assert fit.loglik == pytest.approx(fits[0].loglik, rel=1e-12)


@FEW
@given(seeds())
def test_log_rank_is_the_score_test_of_cox_without_ties(seed):
    data = rows(seed, tied=False)
    score = ks.cox("Surv(t, e) ~ arm", data).tests().frame.set_index("test").loc["score", "statistic"]
    assert ks.logrank("Surv(t, e) ~ arm", data)["statistic"][0] == pytest.approx(score, rel=1e-9)


@FEW
@given(seeds())
def test_the_baseline_of_a_model_without_effect_is_nelson_aalen(seed):
    data = rows(seed)
    base = ks.cox("Surv(t, e) ~ 1", data, ties="breslow").baseline().frame
    aalen = ks.kaplan_meier("Surv(t, e) ~ 1", data).hazard().frame.set_index("time")
    np.testing.assert_allclose(base["estimate"], aalen.loc[base["time"], "estimate"], rtol=1e-12)


@FEW
@given(seeds(), st.sampled_from(CONF_TYPES))
def test_limits_are_nested_bounded_and_hold_the_estimate(seed, conf_type):
    data = rows(seed)
    sets = risk_sets(data["t"].to_numpy(), data["e"].to_numpy(bool), every=True)
    curve = product_limit(sets)
    inside = (curve.survival > 0) & (curve.survival < 1)
    narrow, wide = (limits(curve.survival, curve.std_error, level, conf_type) for level in (0.8, 0.95))
    chain = np.stack([np.zeros(sets.size), wide[0], narrow[0], curve.survival, narrow[1], wide[1], np.ones(sets.size)])
    assert np.all(np.diff(chain[:, inside], axis=0) >= -1e-12)
    assert np.all(np.diff(curve.survival) <= 0)


@FEW
@given(seeds())
def test_residuals_balance(seed):
    data = rows(seed, strata=2)
    fit = ks.cox("Surv(t, e) ~ arm + x + strata(s)", data)
    martingale = fit.residuals("martingale")["martingale"]
    np.testing.assert_allclose(martingale.groupby(data["s"]).sum(), 0, atol=1e-9)
    np.testing.assert_allclose(fit.residuals("score").sum(), 0, atol=1e-7)
    np.testing.assert_allclose(fit.residuals("schoenfeld")[["armb", "x"]].sum(), 0, atol=1e-7)


@FEW
@given(seeds(), st.floats(0.1, 9), st.floats(-5, 5))
def test_ph_test_ignores_scale_and_origin_of_transformed_time(seed, scale, shift):
    fit = ks.cox("Surv(t, e) ~ arm + x", rows(seed))
    plain, moved = fit.zph("identity"), fit.zph(lambda t: scale * t + shift)
    np.testing.assert_allclose(plain["statistic"], moved["statistic"], rtol=1e-6)


@FEW
@given(seeds())
def test_affine_change_of_a_covariate_scales_its_coefficient(seed):
    data = rows(seed)
    for options in ({}, {"penalty": "firth"}, {"ties": "kalbfleisch-prentice"}):
        one, two = (ks.cox("Surv(t, e) ~ arm + x", d, **options) for d in (data, data.assign(x=5 - 10 * data["x"])))
        np.testing.assert_allclose(coefficients(one)[0], coefficients(two)[0], rtol=1e-7)
        assert coefficients(one)[1, 0] == pytest.approx(-10 * coefficients(two)[1, 0], rel=1e-6)


@FEW
@given(seeds())
def test_swapping_the_reference_flips_signs(seed):
    data = rows(seed)
    order = {"arm": ["b", "a"]}
    assert ks.rmst("Surv(t, e) ~ arm", data).filter(quantity="difference")["estimate"][0] == pytest.approx(
        -ks.rmst("Surv(t, e) ~ arm", data, order=order).filter(quantity="difference")["estimate"][0]
    )
    plain, swapped = ks.logrank("Surv(t, e) ~ arm", data), ks.logrank("Surv(t, e) ~ arm", data, order=order)
    assert plain["statistic"][0] == pytest.approx(swapped["statistic"][0], rel=1e-10)
    assert plain.counts["score"].sum() == pytest.approx(0, abs=1e-10)
    fits = [ks.cox("Surv(t, e) ~ arm", data, order=o).coefficients["estimate"][0] for o in (None, order)]
    assert fits[0] == pytest.approx(-fits[1], rel=1e-8)


@FEW
@given(seeds())
def test_profile_limits_lie_where_the_likelihood_has_dropped(seed):
    data = rows(seed)
    fit = ks.cox("Surv(t, e) ~ arm + x", data, conf="profile")
    for side in ("conf_low", "conf_high"):
        value = fit.coefficients[side][0]
        held = data.assign(o=value * (data["arm"] == "b"))
        drop = 2 * (fit.loglik - ks.cox("Surv(t, e) ~ x + offset(o)", held).loglik)
        assert drop == pytest.approx(3.841458820694124, rel=1e-6)


# ------------------------------------------------------------------------------------------- kernels by brute force


def small(seed: int, n: int = 9) -> tuple[cox_newton.CoxData, np.ndarray]:
    rng = np.random.default_rng(seed)
    time, event = rng.integers(1, 4, n).astype(float), rng.random(n) < 0.7
    event[:2] = True
    X = rng.normal(size=(n, 2))
    return cox_newton.cox_data(risk_sets(time, event), X), rng.normal(size=2)


@FEW
@given(seeds())
def test_discrete_likelihood_is_the_sum_over_subsets(seed):
    data, b = small(seed)
    sets, r = data.sets, np.exp(data.X @ b)
    expected = 0.0
    for k in range(sets.size):
        risk = np.flatnonzero(sets.last > k)
        dead = [i for i in risk if sets.event[i] and sets.last[i] == k + 1]
        total = sum(np.prod(r[list(s)]) for s in itertools.combinations(risk, len(dead)))
        expected += np.log(np.prod(r[dead]) / total)
    assert cox_exact.discrete(data, b).loglik == pytest.approx(expected, rel=1e-11)


@FEW
@given(seeds())
def test_marginal_likelihood_is_the_mean_over_orders(seed):
    data, b = small(seed)
    sets, r = data.sets, np.exp(data.X @ b)
    expected = 0.0
    for k in range(sets.size):
        risk = np.flatnonzero(sets.last > k)
        dead = [i for i in risk if sets.event[i] and sets.last[i] == k + 1]
        total = 0.0
        for order in itertools.permutations(dead):
            left, chance = r[risk].sum(), 1.0
            for i in order:
                chance, left = chance * r[i] / left, left - r[i]
            total += chance
        expected += np.log(total)
    assert cox_exact.marginal(data, b).loglik == pytest.approx(expected, rel=1e-10)


@FEW
@given(seeds(), st.sampled_from(["efron", "breslow", "discrete", "marginal", "firth"]))
def test_score_and_information_are_derivatives(seed, name):
    data, b = small(seed, 14)
    if name in ("efron", "breslow"):
        data = cox_newton.cox_data(data.sets, data.sets.unsort(data.X), efron=name == "efron")
    likelihood = {
        "discrete": cox_exact.discrete,
        "marginal": cox_exact.marginal,
        "firth": cox_penalty.firth,
    }.get(name, cox_newton.evaluate)
    at, h = likelihood(data, b), 1e-5
    for j in range(2):
        e = h * np.eye(2)[j]
        up, down = likelihood(data, b + e), likelihood(data, b - e)
        assert at.score[j] == pytest.approx((up.loglik - down.loglik) / (2 * h), abs=2e-6)
        if name != "firth":
            np.testing.assert_allclose(at.information[j], (down.score - up.score) / (2 * h), atol=2e-5)


@FEW
@given(seeds())
def test_risk_set_sums_with_entry_and_strata_equal_direct_sums(seed):
    rng = np.random.default_rng(seed)
    n = 60
    entry, strata = rng.integers(0, 6, n).astype(float), rng.integers(3, size=n)
    time, event, v = entry + rng.integers(1, 6, n), rng.random(n) < 0.6, rng.random(n)
    sets = risk_sets(time, event, entry, strata, 3)
    direct = [v[(strata == s) & (entry < t) & (t <= time)].sum() for s, t in zip(sets.stratum, sets.time, strict=True)]
    np.testing.assert_allclose(sets.at_risk(v[sets.order]), direct, rtol=1e-12)
    counts = group_counts(sets, strata, 3)
    scores = weighted_scores(counts, weight_function(counts, "gehan")[None])
    assert np.allclose(scores.score, 0)


@FEW
@given(seeds())
def test_martingale_residuals_are_events_minus_cumulative_hazard(seed):
    data, b = small(seed, 20)
    data = cox_newton.cox_data(data.sets, data.sets.unsort(data.X), efron=False)
    base = cox_residuals.baseline(data, b)
    H = np.concatenate([[0.0], base.cumulative])[data.sets.last]
    expected = data.sets.event - np.exp(data.X @ b) * H
    np.testing.assert_allclose(cox_residuals.martingale(data, b), expected, atol=1e-12)


def test_times_that_differ_by_rounding_are_one_time():
    merged = merge_close(np.array([0.3, 0.1 * 3, 0.7]))[0]
    assert merged[0] == merged[1] != merged[2]
    assert math.isclose(merged[2], 0.7)
    data = {"t": [0.3, 0.1 * 3, 0.5, 0.9], "e": [1, 1, 1, 0], "g": [0, 1, 0, 1]}
    assert len(ks.kaplan_meier("Surv(t, e) ~ 1", data).frame) == 3
    assert len(ks.kaplan_meier("Surv(t, e) ~ 1", data, convention="SAS").frame) == 4


@FEW
@given(seeds())
def test_jackknife_of_rows_in_linear_time_equals_that_of_clusters(seed):
    rng = np.random.default_rng(seed)
    n = 50
    entry, strata, w = rng.integers(0, 4, n).astype(float), rng.integers(2, size=n), rng.random(n) + 0.2
    time, event = entry + rng.integers(1, 9, n), rng.random(n) < 0.6
    sets = risk_sets(time, event, entry, strata, 2, every=True)
    curve, w = product_limit(sets, w), w[sets.order]
    step, unit = curve.n_event / curve.n_risk, np.where(curve.n_event > 0, 1 / curve.n_risk, 0.0)
    slow = _jackknife(sets, w, np.arange(n), curve.n_risk, step)[1]
    np.testing.assert_allclose(_row_jackknife(sets, w, step, unit), slow, rtol=1e-7, atol=1e-12)


@FEW
@given(st.integers(0, 10_000))
def test_swapping_the_arms_inverts_the_win_statistics(seed):
    rng = np.random.default_rng(seed)
    data = pd.DataFrame({"t": rng.integers(1, 9, 24), "e": rng.integers(0, 2, 24), "y": rng.normal(size=24).round(1)})
    data["arm"] = rng.permutation(np.repeat([0, 1], 12))
    try:
        one = ks.win_ratio("Surv(t, e) ~ arm", data, then=["y"]).frame
    except ks.errors.EstimabilityError:
        return
    two = ks.win_ratio("Surv(t, e) ~ arm", data.assign(arm=1 - data["arm"]), then=["y"]).frame
    expected = [1 / one["estimate"][0], -one["estimate"][1], 1 / one["estimate"][2]]
    np.testing.assert_allclose(two["estimate"], expected, atol=1e-12)
    np.testing.assert_allclose(two["statistic"], -one["statistic"], atol=1e-9)


@FEW
@given(st.integers(0, 10_000))
def test_net_benefit_without_censoring_is_the_mann_whitney_statistic(seed):
    rng = np.random.default_rng(seed)
    data = pd.DataFrame({"t": rng.integers(1, 30, 40), "e": 1, "arm": np.repeat([0, 1], 20)})
    x, y = data["t"].to_numpy()[20:], data["t"].to_numpy()[:20]
    found = ks.win_ratio("Surv(t, e) ~ arm", data).frame.set_index("quantity")["estimate"]
    np.testing.assert_allclose(found["net benefit"], np.sign(x[:, None] - y).mean(), atol=1e-12)
