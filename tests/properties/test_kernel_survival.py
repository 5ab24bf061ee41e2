"""Kernels of survival where a fault would not show in a whole analysis: first events, weights, flat directions."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import ndtr
from scipy.stats import kruskal, rankdata

from kapstats.kernels import (
    aalen_johansen,
    cox_exact,
    cox_newton,
    cox_residuals,
    fine_gray,
    frailty,
    group_sequential,
    hazard_smoothing,
    jets,
    product_limit,
    restricted_mean,
    weighted_logrank,
)
from kapstats.kernels import parametric_survival as ml
from kapstats.kernels.multistate import occupation
from kapstats.kernels.npmle import permutation_test
from kapstats.kernels.risk_sets import risk_sets
from kapstats.safety.recurrent import mean_count


def test_aalen_error_begins_with_the_first_event_of_its_cause():
    """1/n after one event among n; nothing before the first event of a cause, and held between its events."""
    time, cause = np.array([1.0, 2, 3, 4, 5]), np.array([1, 0, 2, 0, 1])
    error = aalen_johansen.aalen_johansen(time, cause, 2).se_aalen
    np.testing.assert_allclose(error[:4, 0], 1 / 5, rtol=1e-14)
    np.testing.assert_array_equal(error[:2, 1], 0.0)
    assert error[2, 1] > 0


@pytest.mark.parametrize("efron", [False, True])
def test_martingale_residuals_of_weighted_rows_are_per_person(efron):
    """A row of weight 3 expects what each of its three copies expects (Breslow); they balance under both ties."""
    rng = np.random.default_rng(5)
    time, event = np.ceil(rng.exponential(6.0, 30)), rng.random(30) < 0.7
    X, w, b = rng.normal(size=(30, 2)), rng.integers(1, 4, 30).astype(float), np.array([0.3, -0.6])
    weighted = cox_newton.cox_data(risk_sets(time, event), X, w=w, efron=efron)
    residual = weighted.sets.unsort(cox_residuals.martingale(weighted, b))
    assert w @ residual == pytest.approx(0.0, abs=1e-12)
    if not efron:
        again = np.repeat(np.arange(30), w.astype(int))
        copies = cox_newton.cox_data(risk_sets(time[again], event[again]), X[again], efron=False)
        each = copies.sets.unsort(cox_residuals.martingale(copies, b))
        np.testing.assert_allclose(each, residual[again], atol=1e-12)


def test_a_newton_step_on_singular_information_still_solves_its_equations():
    information, score = np.array([[4.0, 2.0], [2.0, 1.0]]), np.array([6.0, 3.0])
    step = cox_newton.newton_step(cox_newton.Evaluation(0.0, score, information), np.array([True, True]))
    np.testing.assert_allclose(information @ step, score, rtol=1e-12)


def test_fine_gray_does_not_estimate_a_covariate_that_no_risk_set_sees_vary():
    """The third column differs for one person only, who has left before the first event."""
    rng = np.random.default_rng(2)
    time, cause = np.r_[0.5, rng.exponential(5.0, 39) + 1.0], np.r_[0, rng.integers(0, 3, 39)]
    X = np.column_stack([rng.normal(size=(40, 2)), np.arange(40) == 0])
    found, without = fine_gray.fine_gray(time, cause, X), fine_gray.fine_gray(time, cause, X[:, :2])
    np.testing.assert_array_equal(found.usable, [True, True, False])
    np.testing.assert_allclose(found.coef, [*without.coef, np.nan], rtol=1e-9)
    np.testing.assert_allclose(found.vcov[:2, :2], without.vcov, rtol=1e-9)


def test_a_smoothed_linear_hazard_keeps_its_value_up_to_the_edges():
    """Jumps of the cumulative hazard of 0.2 + 0.03 t on a fine grid; those after the end of follow-up do not count."""
    width = 1e-3
    jumps = np.arange(width / 2, 12.0, width)
    times = np.array([0.0, 0.4, 3.0, 5.0, 9.5, 10.0])
    weight = hazard_smoothing.weights(times, jumps, 1.5, 10.0)
    np.testing.assert_allclose(weight @ ((0.2 + 0.03 * jumps) * width), 0.2 + 0.03 * times, rtol=1e-5)
    np.testing.assert_array_equal(weight[:, jumps > 10.0], 0.0)
    (inside,) = hazard_smoothing.weights(np.array([5.0]), np.array([3.5, 4.25, 5.0, 6.6]), 1.5, 10.0)
    np.testing.assert_allclose(inside, [0.0, 0.75 * 0.75 / 1.5, 0.5, 0.0], atol=1e-15)


def mean_by_definition(event_time, subject, end):
    """The mean count and its robust error, subject by subject: squared integrals of (dN_i - Y_i dM) / Y."""
    time = np.unique(event_time)
    risk = np.array([(end >= t).sum() for t in time], dtype=float)
    count = np.array([[((event_time == t) & (subject == i)).sum() for t in time] for i in range(end.size)])
    step = count.sum(axis=0) / risk
    influence = np.cumsum((count - (end[:, None] >= time) * step) / risk, axis=1)
    return time, risk, count.sum(axis=0), np.cumsum(step), np.sqrt((influence**2).sum(axis=0))


@pytest.mark.parametrize("seed", range(6))
def test_mean_counts_are_their_definition(seed):
    """Also with several events of a subject on a day, on the first day and on the last."""
    rng = np.random.default_rng(seed)
    end = np.ceil(rng.uniform(0, 12, 25))
    subject = np.repeat(np.arange(25), rng.poisson(0.4 * end))
    event_time = np.floor(rng.uniform(0, end[subject] + 1)).clip(max=end[subject])
    shuffled = rng.permutation(subject.size)
    found = mean_count(event_time[shuffled], subject[shuffled], end)
    for one, other in zip(
        (found.time, found.n_risk, found.n_event, found.mean, found.std_error),
        mean_by_definition(event_time, subject, end),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("events", [group_sequential.schoenfeld_events, group_sequential.freedman_events])
@pytest.mark.parametrize(("hr", "ratio"), [(0.6, 1.0), (0.7, 2.0), (1.5, 0.5)])
def test_the_number_of_events_does_not_depend_on_the_name_of_the_arms(events, hr, ratio):
    effect = np.log if events is group_sequential.schoenfeld_events else float
    there = events(effect(1 / hr), 0.025, 0.8, 1 / ratio)
    assert events(effect(hr), 0.025, 0.8, ratio) == pytest.approx(there, rel=1e-12)
    assert events(effect(hr), 0.025, 0.8) == events(effect(hr), 0.025, 0.8, 1.0)


def test_schoenfeld_events_of_unequal_arms_are_those_of_their_shares():
    """z^2/(p (1 - p) log^2 HR) with two in three people in one arm."""
    z = 1.959963984540054 + 0.8416212335729143
    got = group_sequential.schoenfeld_events(np.log(0.7), 0.025, 0.8, 2.0)
    assert got == pytest.approx(z**2 * 9 / 2 / np.log(0.7) ** 2, rel=1e-12)


def test_conditional_power_with_one_look_left_is_a_normal_tail():
    information, upper, z, drift = np.array([30.0, 70.0, 100.0]), np.array([2.9, 2.4, 2.0]), 1.1, 0.25
    got = group_sequential.conditional_power(information, upper, 1, z, drift)
    mean = z * np.sqrt(70.0) + drift * 30.0
    assert got == pytest.approx(float(ndtr((mean - 2.0 * 10.0) / np.sqrt(30.0))), abs=1e-9)


@pytest.mark.parametrize(("accrual", "time"), [(12.0, 18.0), (12.0, 7.0)])
def test_probability_of_an_event_by_a_calendar_time_is_its_integral(accrual, time):
    hazard, dropout = 0.08, 0.03
    seen = lambda entry: hazard / 0.11 * (1 - np.exp(-0.11 * (time - entry))) / accrual  # noqa: E731
    got = group_sequential.event_probability(hazard, dropout, accrual, time)
    assert got == pytest.approx(quad(seen, 0.0, min(accrual, time))[0], rel=1e-10)
    assert group_sequential.event_probability(hazard, dropout, accrual, 0.0) == 0.0
    assert group_sequential.event_probability(0.0, 0.0, accrual, time) == 0.0


def test_states_have_no_order_and_can_be_left_and_entered_again():
    """Three states with ways back: other numbers for the states move the columns and nothing else."""
    rng = np.random.default_rng(3)
    rows = []
    for subject in range(40):
        time, state = 0.0, int(rng.integers(0, 3))
        for _ in range(5):
            after = time + int(rng.integers(1, 5))
            to = int(rng.choice([s for s in range(3) if s != state])) if rng.random() < 0.8 else -1
            rows.append((time, after, state, to, subject))
            if to < 0:
                break
            time, state = after, to
    start, stop, origin, target, subject = (np.array(column) for column in zip(*rows, strict=True))
    name = np.array([2, 0, 1])
    one = occupation(start, stop, origin, target, subject, 3)
    other = occupation(start, stop, name[origin], np.where(target < 0, -1, name[target]), subject, 3)
    for field in ("probability", "std_error", "n_risk"):
        np.testing.assert_allclose(getattr(other, field)[:, name], getattr(one, field), atol=1e-13, err_msg=field)
    np.testing.assert_array_equal(other.transitions[np.ix_(name, name)], one.transitions)
    np.testing.assert_allclose(one.probability.sum(1), 1.0, atol=1e-13)
    assert one.transitions.sum() == (target >= 0).sum()


@pytest.mark.parametrize(
    ("function", "points"),
    [
        (jets.exp, [-2.0, 0.3, 4.0]),
        (jets.log, [0.1, 1.0, 30.0]),
        (jets.softplus, [-30.0, -1.0, 0.0, 2.0, 40.0]),
        (jets.log_normal_cdf, [-30.0, -5.0, -1.0, 0.0, 2.0]),
        (jets.log1mexp, [-20.0, -2.0, -0.1, -1e-3]),
        (lambda x: jets.growth(x, np.full(x.v.size, 2.0)), [-3.0, -0.026, -0.024, 0.0, 0.024, 0.026, 1.5]),
    ],
)
def test_jets_are_the_derivatives_of_their_own_values(function, points):
    x = np.array(points)
    step = 1e-3 * np.maximum(np.abs(x), 0.1) * np.where(x > -1e-2, np.where(x < 0, 1e-2, 1.0), 1.0)
    (here,) = jets.variables([x])
    (left,), (right,) = jets.variables([x - step]), jets.variables([x + step])
    before, at, after = (function(jet) for jet in (left, here, right))
    np.testing.assert_allclose((after.v - before.v) / (2 * step), at.g[0], rtol=3e-5, atol=1e-12)
    np.testing.assert_allclose((after.g[0] - before.g[0]) / (2 * step), at.h[0, 0], rtol=3e-5, atol=1e-9)


def test_jets_far_out_keep_their_asymptotes():
    """log Phi(x) is -x^2/2 - log(-x sqrt(2 pi)) far down, with slope -x; log(1 - e^x) is log(-x) just below 0."""
    (x,) = jets.variables([np.array([-3e4, -1e9])])
    low = jets.log_normal_cdf(x)
    np.testing.assert_allclose(low.v, -(x.v**2) / 2 - np.log(-x.v * np.sqrt(2 * np.pi)), rtol=1e-12)
    np.testing.assert_allclose(low.g[0], -x.v, rtol=1e-8)
    (x,) = jets.variables([np.array([-1e-9, -1e-12])])
    high = jets.log1mexp(x)
    np.testing.assert_allclose(high.v, np.log(-x.v), rtol=1e-9)
    np.testing.assert_allclose(high.g[0], 1 / x.v, rtol=1e-8)
    np.testing.assert_allclose(high.h[0, 0], -1 / x.v**2, rtol=1e-8)


@pytest.mark.parametrize("groups", [2, 3])
def test_permutation_test_of_ranks_is_kruskal_wallis_whatever_their_scale(groups):
    rng = np.random.default_rng(8)
    values, group = rng.integers(0, 9, 30).astype(float), np.arange(30) % groups
    expected = kruskal(*(values[group == g] for g in range(groups)))
    for scale in (1.0, 1e-4):
        found = permutation_test(scale * rankdata(values), group, groups)
        assert found.df == groups - 1
        assert found.statistic == pytest.approx(expected.statistic, rel=1e-10)
        assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    assert np.isnan(permutation_test(np.ones(30), group, groups).statistic)


def test_infinitesimal_jackknife_row_by_row_is_the_one_of_clusters_of_one():
    """Two strata, delayed entry, ties, people who leave before the first event of their stratum."""
    rng = np.random.default_rng(3)
    n = 60
    entry = np.where(rng.random(n) < 0.4, rng.integers(0, 4, n), 0).astype(float)
    time = entry + rng.integers(1, 9, n)
    stratum = np.arange(n) % 2
    entry[:2], time[:2] = 0.0, 0.5
    event = (rng.random(n) < 0.7) & (time > 0.5)
    sets = risk_sets(time, event, entry, stratum)
    w = rng.integers(1, 3, n).astype(float)[sets.order]
    curve = product_limit.product_limit(sets)
    with np.errstate(divide="ignore", invalid="ignore"):
        step = np.where(curve.n_event > 0, curve.n_event / curve.n_risk, 0.0)
    who = np.arange(n)
    by_slabs = product_limit._jackknife(sets, w, who, curve.n_risk, step, slab=n * sets.size)
    by_rows = product_limit._jackknife(sets, w, who, curve.n_risk, step, slab=1)
    few_at_a_time = product_limit._jackknife(
        sets, w, np.where(who == n - 1, 0, who), curve.n_risk, step, slab=sets.size * 7
    )
    whole = product_limit._jackknife(sets, w, np.where(who == n - 1, 0, who), curve.n_risk, step)
    alive = curve.survival > 0
    for a, b in (*zip(by_slabs, by_rows, strict=True), *zip(few_at_a_time, whole, strict=True)):
        np.testing.assert_allclose(a[alive], b[alive], rtol=1e-9, atol=1e-12)


def test_restricted_mean_of_a_curve_that_ends_at_zero_is_the_mean_with_its_variance():
    time = np.array([1.0, 3.0, 4.0, 8.0])
    sets = risk_sets(time, np.ones(4, dtype=bool))
    curve = product_limit.product_limit(sets)
    found = product_limit.restricted_mean(sets.time, curve.n_event, curve.n_risk, curve.survival, 10.0)
    np.testing.assert_allclose(found, [time.mean(), time.var() / 4], rtol=1e-12)


def test_where_nobody_has_had_the_event_survival_is_one_with_certainty():
    low, high = product_limit.limits(np.array([1.0, 0.8]), np.array([0.0, 0.1]), 0.95, "log-log")
    assert (low[0], high[0]) == (1.0, 1.0)
    assert 0 < low[1] < 0.8 < high[1] < 1


@pytest.mark.parametrize("r", [1, 2, 3, 4, 5])
def test_tail_of_the_largest_of_independent_normals(r):
    """P(max of r independent >= b) = 1 - Phi(b)^r, whatever the number of dimensions, below zero too."""
    for bound in (-0.5, 0.3, 1.96, 3.0):
        found = weighted_logrank.max_normal_p(np.eye(r), bound, "greater")
        assert found == pytest.approx(1 - ndtr(bound) ** r, abs=2e-4 if r > 3 else 1e-5)
        assert weighted_logrank.max_normal_p(np.eye(r), -bound, "less") == pytest.approx(found, abs=2e-4)
    two_sided = weighted_logrank.max_normal_p(np.eye(r), 2.0, "two")
    assert two_sided == pytest.approx(1 - (1 - 2 * ndtr(-2.0)) ** r, abs=2e-4 if r > 3 else 1e-5)


def test_every_stratum_begins_with_everybody_free_of_the_event():
    """S(t-) of the weights is 1 at the first event of each stratum, also of one with a single event time."""
    time, event = np.array([2.0, 3.0, 4.0, 1.0, 5.0, 2.0, 6.0, 7.0]), np.array([1, 1, 0, 0, 1, 0, 1, 1]) > 0
    strata, group = np.array([0, 0, 0, 1, 1, 1, 2, 2]), np.arange(8) % 2
    counts = weighted_logrank.group_counts(risk_sets(time, event, strata=strata), group, 2)
    np.testing.assert_allclose(counts.before, [1, 2 / 3, 1, 1, 1 / 2])


FAMILIES = {
    "spline hazard": (None, [0.2, 1.3]),
    "spline odds": (None, [0.2, 1.3]),
    "spline normal": (None, [0.2, 1.3]),
    "weibull": (ml.WEIBULL, [0.4, -0.2]),
    "lognormal": (ml.LOGNORMAL, [0.4, -0.2]),
    "loglogistic": (ml.LOGLOGISTIC, [0.4, -0.2]),
    "gompertz": (ml.GOMPERTZ, [-1.0, 0.3]),
    "gompertz that levels off": (ml.GOMPERTZ, [-1.0, -0.3]),
    "generalised gamma": (ml.GENERALISED_GAMMA, [0.4, -0.2, 0.7]),
    "generalised gamma below zero": (ml.GENERALISED_GAMMA, [0.4, -0.2, -0.5]),
    "cured": (ml.cured(ml.LOGNORMAL), [0.4, -0.2, 0.6]),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_density_is_the_slope_of_its_survival_and_jets_hold_the_derivatives(name):
    family, at = FAMILIES[name]
    family = family or ml.spline(name.split()[1])
    t, h = np.array([0.3, 1.0, 2.5, 6.0]), 1e-4

    def jet(what, t, at):
        values = [np.full(len(t), v) for v in at]
        if name.startswith("spline"):
            values[0] = at[0] + 1.3 * np.log(t)
        return what(jets.variables(values), t)

    slope = (np.exp(jet(family.log_survival, t + h, at).v) - np.exp(jet(family.log_survival, t - h, at).v)) / (2 * h)
    np.testing.assert_allclose(np.exp(jet(family.log_density, t, at).v), -slope, rtol=1e-6)
    for what in (family.log_survival, family.log_density):
        found = jet(what, t, at)
        for j, step in enumerate(h * np.eye(len(at))):
            up, down = jet(what, t, at + step), jet(what, t, at - step)
            np.testing.assert_allclose(found.g[j], (up.v - down.v) / (2 * h), rtol=1e-5, atol=1e-7)
            np.testing.assert_allclose(found.h[j], (up.g - down.g) / (2 * h), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("likelihood", [cox_exact.discrete, cox_exact.marginal])
def test_a_coefficient_beyond_all_numbers_has_no_likelihood(likelihood):
    rng = np.random.default_rng(3)
    data = cox_newton.cox_data(
        risk_sets(np.ceil(rng.exponential(3.0, 12)), rng.random(12) < 0.8), rng.normal(size=(12, 1))
    )
    assert np.isfinite(likelihood(data, np.array([0.4])).loglik)
    with np.errstate(over="ignore", invalid="ignore"):
        far = likelihood(data, np.array([np.inf]))
    assert far.loglik == -np.inf
    assert np.isnan(far.score).all()


def test_state_occupation_starts_with_the_error_of_a_share():
    """Nothing has happened yet: sqrt(p (1 - p) / n) of the 3 in 10 who begin in the first state."""
    n = 10
    start, stop = np.zeros(n), np.r_[5.0, np.full(n - 1, 1.0)]
    origin, target = np.r_[np.zeros(3, int), np.ones(7, int)], np.full(n, -1)
    found = occupation(start, stop, origin, target, np.arange(n), 2)
    np.testing.assert_allclose(found.initial, [0.3, 0.7])
    np.testing.assert_allclose(found.std_error[0], np.sqrt(0.3 * 0.7 / n))


@pytest.mark.parametrize("kind", ["gamma", "gaussian"])
def test_the_second_variance_of_a_frailty_model_is_below_the_first_and_meets_it_without_frailty(kind):
    rng = np.random.default_rng(4)
    n = 80
    X = rng.normal(size=(n, 2)) @ np.array([[1.0, 0.6], [0.0, 0.8]])
    data = cox_newton.cox_data(risk_sets(rng.exponential(np.exp(X[:, 0])), rng.random(n) < 0.8), X)
    model = frailty.frailty_data(data, np.arange(n) // 4, 20, kind, False)
    for theta in (0.5, 1e-6):
        found = frailty.penalised(model, theta, np.zeros(22))
        between = np.linalg.eigvalsh(found.V - found.V2)
        assert between.min() > -1e-12
        if theta < 1e-3:
            np.testing.assert_allclose(found.V2, found.V, rtol=1e-3)
        np.testing.assert_allclose(found.V2, found.V2.T, rtol=1e-9)


def test_restricted_means_of_three_groups_are_their_own():
    """With an indicator of every group as design, regression is estimation group by group, censoring curve included."""
    rng = np.random.default_rng(6)
    time, event, group = rng.exponential(5.0, 90), rng.random(90) < 0.7, np.arange(90) % 3
    X = np.eye(3)[group]
    whole = restricted_mean.mean_regression(time, event, X, group, 3, 4.0, "identity")
    for g in range(3):
        own = group == g
        one = restricted_mean.mean_regression(
            time[own], event[own], np.ones((own.sum(), 1)), np.zeros(own.sum(), int), 1, 4.0, "identity"
        )
        np.testing.assert_allclose([whole.b[g], whole.V[g, g]], [one.b[0], one.V[0, 0]], rtol=1e-9)
    np.testing.assert_allclose(whole.V - np.diag(np.diag(whole.V)), 0.0, atol=1e-12)


def test_coefficients_without_information_left_are_named_and_no_others():
    """Two directions have lost theirs, each along its own coordinate; a third is as it was."""
    first, last = np.diag([4.0, 2.0, 3.0]), np.diag([4e-12, 2e-10, 3.0])
    free, span = np.ones(3, bool), np.array([1.0, 2.0, 0.0])
    assert cox_newton.flat_directions(first, last, span, free).tolist() == [True, True, False]
    assert not cox_newton.flat_directions(first, first, span, free).any()
    assert not cox_newton.flat_directions(first, last, None, free).any()
    turned = np.array([[1.0, 1.0, 0.0], [1.0, -1.0, 0.0], [0.0, 0.0, 1.0]]) / np.sqrt([2.0, 2.0, 1.0])
    along_both = turned @ np.diag([4e-12, 2.0, 3.0]) @ turned.T  # what is lost is the sum of the two
    assert cox_newton.flat_directions(np.eye(3), along_both, np.ones(3), free).tolist() == [True, True, False]
