"""Laws of the competing-risk, interval, parametric, recurrent, multistate and sequential estimators."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kapstats as ks
from kapstats.kernels import aalen_johansen as aj
from kapstats.kernels import cox_newton, interval_ph, jets
from kapstats.kernels import fine_gray as fg
from kapstats.kernels import group_sequential as gs
from kapstats.kernels import npmle as turnbull
from kapstats.kernels import parametric_survival as ml
from kapstats.kernels.multistate import occupation
from kapstats.kernels.risk_sets import risk_sets
from kapstats.relapse.cause_specific import cause_specific

law = settings(max_examples=12, deadline=None, derandomize=True)
few = settings(max_examples=4, deadline=None, derandomize=True)
seeds = st.integers(0, 10_000)


def competing(seed, n=60, tied=True):
    rng = np.random.default_rng(seed)
    time = rng.exponential(10.0, n)
    return (np.ceil(time) if tied else time), rng.integers(0, 3, n), rng.integers(0, 3, n), rng.normal(size=(n, 2))


def intervals(seed, n=50):
    rng = np.random.default_rng(seed)
    time, grid = rng.weibull(1.2, n) * 10, np.sort(rng.uniform(0, 30, (n, 6)), axis=1)
    before = np.where(grid < time[:, None], grid, 0.0).max(1)
    after = np.where(grid >= time[:, None], grid, np.inf).min(1)
    return before, after, rng.normal(size=(n, 2))


@law
@given(seeds)
def test_one_cause_is_kaplan_meier_and_states_add_to_one(seed):
    time, cause, _, _ = competing(seed)
    one = aj.aalen_johansen(time, np.minimum(cause, 1), 1)
    data = pd.DataFrame({"t": time, "e": (cause > 0) * 1})
    km = ks.kaplan_meier("Surv(t, e) ~ 1", data).to_frame()
    np.testing.assert_allclose(1.0 - one.cif[:, 0], km["estimate"], atol=1e-13)
    there = km["estimate"] > 0
    np.testing.assert_allclose(one.se_cif[there, 0], km["std_error"][there], atol=1e-13)
    two = aj.aalen_johansen(time, cause, 2)
    np.testing.assert_allclose(two.survival + two.cif.sum(1), 1.0, atol=1e-13)


@law
@given(seeds)
def test_weights_are_replicates_and_splitting_a_cause_adds_up(seed):
    time, cause, group, _ = competing(seed)
    weights = 1 + group
    again = np.repeat(np.arange(time.size), weights)
    once = aj.aalen_johansen(time, cause, 2, weights=weights.astype(float))
    many = aj.aalen_johansen(time[again], cause[again], 2)
    np.testing.assert_allclose(once.cif, many.cif, atol=1e-13)
    split = np.where((cause == 1) & (group == 0), 3, cause)
    both = aj.aalen_johansen(time, split, 3).cif[:, [0, 2]].sum(1)
    np.testing.assert_allclose(both, aj.aalen_johansen(time, cause, 2).cif[:, 0], atol=1e-13)


@law
@given(seeds)
def test_gray_does_not_see_row_order_time_scale_or_labels(seed):
    time, cause, group, _ = competing(seed)
    first = aj.gray_test(time, cause, group, 3)
    order = np.random.default_rng(seed).permutation(time.size)
    second = aj.gray_test(np.log1p(time[order]), cause[order], 2 - group[order], 3)
    np.testing.assert_allclose(first.statistic, second.statistic, rtol=1e-9)
    np.testing.assert_allclose(first.score.sum(), 0.0, atol=1e-10)


@law
@given(seeds)
def test_gray_without_competing_events_is_the_logrank_score(seed):
    time, cause, group, _ = competing(seed)
    cause, group = np.minimum(cause, 1), np.minimum(group, 1)
    found = aj.gray_test(time, cause, group, 2)
    rank = ks.logrank("Surv(t, e) ~ g", pd.DataFrame({"t": time, "e": cause, "g": group}))
    counts = rank.counts.frame
    np.testing.assert_allclose(found.score, counts["observed"] - counts["expected"], atol=1e-9)


@law
@given(seeds)
def test_fine_gray_without_competing_events_is_breslow_cox(seed):
    time, cause, _, X = competing(seed)
    cause = np.minimum(cause, 1)
    found = fg.fine_gray(time, cause, X)
    data = pd.DataFrame({"t": time, "e": cause, "a": X[:, 0], "b": X[:, 1]})
    cox = ks.cox("Surv(t, e) ~ a + b", data, ties="breslow", robust=True)
    np.testing.assert_allclose(found.coef, cox.coefficients["estimate"], rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(found.vcov, cox.vcov, rtol=1e-7)


@law
@given(seeds, st.floats(0.2, 5.0))
def test_fine_gray_equivariance(seed, scale):
    time, cause, _, X = competing(seed)
    first = fg.fine_gray(time, cause, X)
    second = fg.fine_gray(time * scale, cause, X * scale + 3.0)
    np.testing.assert_allclose(first.coef, second.coef * scale, rtol=1e-8, atol=1e-11)
    np.testing.assert_allclose(first.vcov, second.vcov * scale**2, rtol=1e-8)
    np.testing.assert_allclose(first.influence.sum(0), 0.0, atol=1e-8)


@law
@given(seeds)
def test_turnbull_of_exact_and_right_censored_times_is_kaplan_meier(seed):
    time, cause, _, _ = competing(seed)
    event = cause > 0
    fit = turnbull.npmle(time, np.where(event, time, np.inf))
    km = aj.aalen_johansen(time, event.astype(int), 1)
    np.testing.assert_allclose(turnbull.survival_at(fit, km.time), km.survival, atol=1e-7)
    assert fit.kkt < 1e-10


@law
@given(seeds)
def test_turnbull_meets_the_kuhn_tucker_conditions_and_beats_other_masses(seed):
    left, right, _ = intervals(seed)
    fit = turnbull.npmle(left, right)
    assert fit.converged
    np.testing.assert_allclose(fit.mass.sum(), 1.0, atol=1e-12)
    other = np.random.default_rng(seed).dirichlet(np.ones(fit.mass.size))
    cumulative = np.append(0.0, np.cumsum(0.5 * fit.mass + 0.5 * other))
    p = cumulative[fit.cliques.stop] - cumulative[fit.cliques.start]
    assert np.log(p).sum() <= fit.loglik + 1e-9
    doubled = turnbull.npmle(np.tile(left, 2), np.tile(right, 2))
    np.testing.assert_allclose(doubled.loglik, 2 * fit.loglik, rtol=1e-9)


@law
@given(seeds)
def test_turnbull_depends_on_the_order_of_the_bounds_only(seed):
    left, right, _ = intervals(seed)
    first, second = turnbull.npmle(left, right), turnbull.npmle(left**2, right**2)
    np.testing.assert_allclose(first.mass, second.mass, atol=1e-7)
    scores = turnbull.interval_scores(first)
    np.testing.assert_allclose(scores.sum(), 0.0, atol=1e-6)


@few
@given(seeds)
def test_interval_hazards_are_equivariant_and_weights_are_replicates(seed):
    left, right, X = intervals(seed)
    first = interval_ph.interval_ph(left, right, X)
    second = interval_ph.interval_ph(left**0.5, right**0.5, 2.0 * X + 1.0)
    np.testing.assert_allclose(first.coef, 2.0 * second.coef, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(first.loglik, second.loglik, rtol=1e-9)
    weighted = interval_ph.interval_ph(left, right, X, weights=np.full(left.size, 2.0))
    np.testing.assert_allclose(weighted.loglik, 2 * first.loglik, rtol=1e-8)
    np.testing.assert_allclose(weighted.coef, first.coef, rtol=1e-4, atol=1e-6)


@few
@given(seeds, st.floats(0.1, 10.0))
def test_parametric_time_scale_moves_the_intercept_only(seed, scale):
    left, right, X = intervals(seed)
    data = pd.DataFrame({"l": left, "r": right, "x": X[:, 0]})
    scaled = data.assign(l=data["l"] * scale, r=data["r"] * scale)
    formula = "Surv(l, r, type='interval2') ~ x"
    for family in ("weibull", "log-logistic"):
        fits = [ks.parametric_survival(formula, d, distribution=family) for d in (data, scaled)]
        shift = fits[1].theta - fits[0].theta
        np.testing.assert_allclose(shift, [np.log(scale), 0, 0], atol=1e-6)
        np.testing.assert_allclose(fits[0].loglik, fits[1].loglik, rtol=1e-9)


@few
@given(seeds)
def test_larger_families_fit_no_worse_and_nest(seed):
    time, cause, _, X = competing(seed, n=120, tied=False)
    data = pd.DataFrame({"t": time, "e": np.minimum(cause, 1), "x": X[:, 0]})
    fit = {
        d: ks.parametric_survival("Surv(t, e) ~ x", data, distribution=d).loglik
        for d in ("exponential", "weibull", "log-normal", "generalised-gamma", "gompertz")
    }
    assert fit["exponential"] <= min(fit["weibull"], fit["gompertz"]) + 1e-9
    assert max(fit["weibull"], fit["log-normal"]) <= fit["generalised-gamma"] + 1e-8
    spline = ks.parametric_survival("Surv(t, e) ~ x", data, distribution="royston-parmar", knots=0)
    np.testing.assert_allclose(spline.loglik, fit["weibull"], rtol=1e-9)


@few
@given(seeds)
def test_splitting_follow_up_at_entry_times_changes_no_likelihood(seed):
    time, cause, _, X = competing(seed, tied=False)
    event, middle = np.minimum(cause, 1), time / 2
    whole = pd.DataFrame({"a": 0.0, "b": time, "e": event, "x": X[:, 0]})
    early = whole.assign(b=middle, e=0)
    late = whole.assign(a=middle)
    for family in ("weibull", "gompertz", "log-normal"):
        one = ks.parametric_survival("Surv(a, b, e) ~ x", whole, distribution=family)
        two = ks.parametric_survival("Surv(a, b, e) ~ x", pd.concat([early, late]), distribution=family)
        np.testing.assert_allclose(one.theta, two.theta, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(one.loglik, two.loglik, rtol=1e-9)


@pytest.mark.parametrize("Q", [-1.3, -0.2, -1e-4, 0.0, 1e-4, 0.3, 1.0, 2.0])
def test_generalised_gamma_derivatives_and_limits(Q):
    t, theta = np.linspace(0.5, 20, 40), np.array([1.5, 0.1, Q])

    def log_S(parameters):
        p = jets.variables([np.full(t.size, v) for v in parameters])
        return ml.GENERALISED_GAMMA.log_survival(p, t), ml.GENERALISED_GAMMA.log_density(p, t)

    h = 1e-4
    for k in range(2):
        at = log_S(theta)[k]
        for j in range(3):
            up, down = (log_S(theta + s * h * np.eye(3)[j])[k] for s in (1, -1))
            np.testing.assert_allclose(at.g[j], (up.v - down.v) / (2 * h), rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(at.h[j], (up.g - down.g) / (2 * h), rtol=1e-4, atol=1e-5)
    if Q in (0.0, 1.0):
        family = ml.LOGNORMAL if Q == 0.0 else ml.WEIBULL
        p = jets.variables([np.full(t.size, v) for v in theta[:2]])
        np.testing.assert_allclose(log_S(theta)[0].v, family.log_survival(p, t).v, rtol=1e-9)
        np.testing.assert_allclose(log_S(theta)[1].v, family.log_density(p, t).v, rtol=1e-9)


@law
@given(
    st.lists(st.floats(0.05, 0.95), min_size=1, max_size=4, unique=True),
    st.sampled_from(["obrien-fleming", "pocock", "hwang-shih-decani", "classical-pocock"]),
    st.floats(0.005, 0.1),
)
def test_designs_spend_their_alpha(fractions, spending, alpha):
    t = (*np.round(sorted(fractions), 3).tolist(), 1.0)
    if len(set(t)) < len(t):
        return
    design = ks.GroupSequentialDesign(t, alpha=alpha, spending=spending, events=100)
    c = design.critical_values
    total = gs.crossing(np.array(t), np.full(len(t), -np.inf), c).upper.sum()
    np.testing.assert_allclose(total, alpha, rtol=1e-9)
    np.testing.assert_allclose(design.power(1.0).filter(quantity="power")["estimate"], alpha, rtol=1e-9)
    spent = design.boundaries()["cumulative_alpha"]
    for k in range(len(t)):
        np.testing.assert_allclose(gs.stagewise_p(np.array(t), c, k, c[k]), spent[k], rtol=1e-8)


def test_one_analysis_is_the_fixed_design():
    design = ks.GroupSequentialDesign((1.0,), alpha=0.025)
    np.testing.assert_allclose(design.critical_values, 1.959963984540054, rtol=1e-12)
    final = design.analyse(2.0, 64).final().frame.iloc[0]
    np.testing.assert_allclose(final["estimate"], -0.5, rtol=1e-9)
    limits = -0.5 + np.array([-1, 1]) * 1.959963984540054 / 4
    np.testing.assert_allclose([final["conf_low"], final["conf_high"]], limits)


def test_inverse_normal_and_group_sequential_agree_when_the_plan_is_kept():
    found = []
    for combination in ("group-sequential", "inverse-normal"):
        design = ks.GroupSequentialDesign((40, 80), combination=combination)
        found.append(design.analyse([1.2, 2.3], [40, 80]))
    np.testing.assert_allclose(found[0].stages["statistic"], found[1].stages["statistic"], rtol=1e-12)
    np.testing.assert_allclose(found[0].final()["p_value"], found[1].final()["p_value"], rtol=1e-9)


def test_more_events_than_planned_spend_what_is_left():
    design = ks.GroupSequentialDesign((50, 100))
    analysis = design.analyse([1.0, 2.0], [50, 130])
    t, c = analysis.information, analysis.critical_values
    np.testing.assert_allclose(c[0], design.critical_values[0], rtol=1e-12)
    np.testing.assert_allclose(gs.crossing(t, np.full(2, -np.inf), c).upper.sum(), 0.025, rtol=1e-9)


@law
@given(seeds)
def test_multistate_with_absorbing_states_is_aalen_johansen(seed):
    time, cause, _, _ = competing(seed)
    n = time.size
    target = np.where(cause > 0, cause, -1)
    found = occupation(np.zeros(n), time, np.zeros(n, int), target, np.arange(n), 3)
    curve = aj.aalen_johansen(time, cause, 2)
    np.testing.assert_allclose(found.probability[:, 1:], curve.cif, atol=1e-13)
    np.testing.assert_allclose(found.std_error[:, 1:], curve.se_cif, atol=1e-12)
    np.testing.assert_allclose(found.std_error[:, 0], curve.se_survival, atol=1e-12)


@few
@given(seeds)
def test_mean_function_of_single_events_is_nelson_aalen_and_pieces_change_nothing(seed):
    time, cause, _, _ = competing(seed)
    event = np.minimum(cause, 1)
    whole = pd.DataFrame({"id": np.arange(time.size), "a": 0.0, "b": time, "e": event})
    pieces = pd.concat([whole.assign(b=time / 2, e=0), whole.assign(a=time / 2)])
    at = np.unique(time)
    one = ks.mean_cumulative_function("Surv(a, b, e) ~ 1", whole, id="id").at(at)
    two = ks.mean_cumulative_function("Surv(a, b, e) ~ 1", pieces, id="id").at(at)
    hazard = ks.kaplan_meier("Surv(b, e) ~ 1", whole).hazard()["estimate"]
    np.testing.assert_allclose(one["estimate"], hazard, atol=1e-12)
    np.testing.assert_allclose(one["std_error"], two["std_error"], atol=1e-12)


def test_level_without_events_is_infinite_and_says_so():
    left, right, X = intervals(3)
    data = pd.DataFrame({"l": left, "r": np.where(X[:, 0] > 0, right, np.inf), "x": (X[:, 0] > 0) * 1})
    with pytest.warns(ks.errors.KapstatsWarning, match="x: the likelihood is monotone.*no event among"):
        fit = ks.interval_cox("Surv(l, r, type='interval2') ~ x", data)
    low, high = fit.coefficients.frame.loc[0, ["conf_low", "conf_high"]]
    assert fit.coefficients["estimate"][0] == high == np.inf
    assert np.isfinite(low)


def test_separated_fine_gray_says_so():
    time, cause, _, X = competing(5)
    data = pd.DataFrame({"t": time, "s": np.where(X[:, 0] > 0, cause, 2), "x": (X[:, 0] > 0) * 1})
    with pytest.warns(ks.errors.KapstatsWarning, match="x: the likelihood is monotone"):
        fit = ks.fine_gray("Surv(t, s) ~ x", data)
    assert fit.coefficients["estimate"][0] == np.inf


@pytest.mark.parametrize("ties", ["breslow", "efron"])
def test_absolute_risk_errors_are_the_derivatives_in_the_case_weights(ties):
    """Refit with every weight moved a little: the infinitesimal jackknife by brute force."""
    time, cause, _, X = competing(8, n=40)
    data = pd.DataFrame({"t": np.ceil(time / 3), "s": cause, "a": X[:, 0]})
    found = cause_specific("Surv(t, s) ~ a", data, ties=ties).absolute_risk({"a": [0.5]}, [3.0])
    step = 1e-4
    moved = []
    for i in range(len(data)):
        weights = np.ones(len(data))
        risks = []
        for sign in (1.0, -1.0):
            weights[i] = 1.0 + sign * step
            risks.append(weighted_risk(data, weights, ties, 0.5, 3.0))
        moved.append((risks[0] - risks[1]) / (2 * step))
    np.testing.assert_allclose(found["estimate"], weighted_risk(data, np.ones(len(data)), ties, 0.5, 3.0), rtol=1e-9)
    np.testing.assert_allclose(found["std_error"], np.sqrt(np.sum(np.square(moved))), rtol=1e-5)


def weighted_risk(data, weights, ties, x, horizon):
    """The risk of cause 1 by `horizon`, written out."""
    hazards = []
    for k in (1, 2):
        sets = risk_sets(data["t"].to_numpy(float), (data["s"] == k).to_numpy())
        rows = cox_newton.cox_data(sets, data[["a"]].to_numpy(), w=weights, efron=ties == "efron")
        b = cox_newton.fit(rows).b[0]
        r, steps = weights * np.exp(b * data["a"].to_numpy()), []
        for u in np.unique(data["t"]):
            tied = ((data["t"] == u) & (data["s"] == k)).to_numpy()
            share = np.arange(tied.sum()) / max(tied.sum(), 1) * (ties == "efron")
            at_risk = r[(data["t"] >= u).to_numpy()].sum()
            steps.append(weights[tied].mean() * np.sum(1 / (at_risk - share * r[tied].sum())) if tied.any() else 0.0)
        hazards.append(np.exp(b * x) * np.array(steps))
    before = np.append(1.0, np.cumprod(1.0 - hazards[0] - hazards[1])[:-1])
    return (before * hazards[0])[np.unique(data["t"]) <= horizon].sum()
