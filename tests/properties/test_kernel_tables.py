"""Kernels of tables at their edges: groups without people, roots, trends."""

import itertools

import numpy as np
import pytest
from scipy.stats import hypergeom

from kapstats.kernels import (
    false_discovery,
    max_t,
    one_proportion,
    poisson,
    score_intervals,
    shift,
    skewed_scores,
    stratified_tables,
    trend,
    two_proportions,
)
from kapstats.kernels.roots import find_root

TWO = [
    two_proportions.wald_difference,
    two_proportions.agresti_caffo,
    two_proportions.newcombe,
    two_proportions.mover_jeffreys,
    two_proportions.hauck_anderson,
    two_proportions.mover_ratio,
    score_intervals.difference_limits,
    score_intervals.ratio_limits,
    score_intervals.odds_limits,
    skewed_scores.difference_limits,
    skewed_scores.ratio_limits,
    poisson.score_difference,
    poisson.mover_difference,
    poisson.wald_difference,
    poisson.conditional_ratio,
]
ONE = [
    one_proportion.wald,
    one_proportion.wilson,
    one_proportion.wilson_cc,
    one_proportion.agresti_coull,
    one_proportion.jeffreys,
    one_proportion.mid_p,
    one_proportion.blaker,
    one_proportion.clopper_pearson,
    one_proportion.likelihood_ratio,
    poisson.exact,
    poisson.mid_p,
    poisson.byar,
    poisson.score,
    poisson.wald,
    poisson.jeffreys,
    poisson.square_root,
    poisson.log_normal,
]


@pytest.mark.parametrize("limits", TWO, ids=lambda f: f"{f.__module__.split('.')[-1]}.{f.__name__}")
def test_a_comparison_with_nobody_has_no_limits_and_leaves_its_neighbours_alone(limits):
    x1, n1, x2, n2 = np.array([[0, 3, 0, 3], [0, 7, 0, 7], [2, 0, 0, 1], [5, 0, 0, 6]], dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        together = limits(x1, n1, x2, n2, 0.025)
    for limit, alone in zip(together, limits(x1[3:], n1[3:], x2[3:], n2[3:], 0.025), strict=True):
        np.testing.assert_array_equal(np.isnan(limit), [True, True, True, False])
        np.testing.assert_array_equal(limit[3:], alone)


@pytest.mark.parametrize("limits", ONE, ids=lambda f: f"{f.__module__.split('.')[-1]}.{f.__name__}")
def test_a_proportion_or_rate_of_nobody_has_no_limits(limits):
    low, high = limits(np.array([0.0, 1.0]), np.array([0.0, 5.0]), 0.025)
    assert np.isnan([low[0], high[0]]).all()
    assert low[1] < 0.2 < high[1]


@pytest.mark.parametrize("side", ["two", "central", "less", "greater"])
def test_rates_are_not_compared_where_a_group_has_no_time(side):
    x1, t1, x2, t2 = np.array([[0, 1, 0, 1], [0, 5, 0, 5], [2, 0, 0, 1], [3, 0, 0, 5]], dtype=float)
    p = poisson.conditional_p(x1, t1, x2, t2, side)
    np.testing.assert_array_equal(np.isnan(p), [True, True, True, False])
    # one event each in equal time: C(2, k)/4
    assert p[3] == pytest.approx(1.0 if side in ("two", "central") else 0.75)


def test_hauck_anderson_is_defined_from_two_people_on():
    """x/n = 1/2 of 2: variance p q/(n - 1) = 1/4 each, so d -+ (z sqrt(1/2) + 1/4), cut at -1 and 1."""
    x1, n1, x2, n2 = np.array([[1, 1], [2, 1], [1, 1], [2, 4]], dtype=float)
    low, high = two_proportions.hauck_anderson(x1, n1, x2, n2, 0.25)
    half = 0.6744897501960817 * np.sqrt(0.5) + 0.25
    np.testing.assert_allclose([low[0], high[0]], [-half, half], rtol=1e-12)
    assert np.isnan([low[1], high[1]]).all()


@pytest.mark.parametrize(
    ("function", "low", "high", "root"),
    [
        (lambda x: x**3 - 2 * x - 5, 2.0, 3.0, 2.0945514815423265),  # Wallis's cubic
        (lambda x: np.exp(x) - 1e4, 0.0, 20.0, 9.210340371976184),
        (lambda x: np.cos(x) - x, 0.0, 1.0, 0.7390851332151607),
        (lambda x: np.log(x), 1e-3, 50.0, 1.0),
    ],
)
def test_a_smooth_root_takes_few_evaluations(function, low, high, root):
    """Halving alone takes 50; inverse quadratic steps have to cut that to a dozen or so, and to the last digits."""
    calls = []

    def counted(x):
        calls.append(x.size)
        return function(x)

    (found,) = find_root(counted, np.array([low]), np.array([high]))
    assert found == pytest.approx(root, rel=1e-15)
    assert len(calls) <= 16


def test_a_root_without_a_bracket_is_the_end_that_is_nearer_and_nan_stays():
    low, high = np.array([1.0, -3.0, np.nan, 0.0]), np.array([4.0, -2.0, 1.0, 2.0])
    found = find_root(lambda x: x, low, high)
    np.testing.assert_array_equal(found, [1.0, -2.0, np.nan, 0.0])


def test_departure_from_a_trend_does_not_depend_on_the_variance_of_the_trend():
    x, n, scores = np.array([1.0, 6.0, 4.0]), np.array([10.0, 12.0, 9.0]), np.array([0.0, 1.0, 3.0])
    plain, permuted = (trend.cochran_armitage(x, n, scores, permutation) for permutation in (False, True))
    assert permuted.departure == pytest.approx(plain.departure, rel=1e-12)
    assert permuted.departure_p == pytest.approx(plain.departure_p, rel=1e-12)
    assert plain.z / permuted.z == pytest.approx(np.sqrt(31 / 30), rel=1e-12)


def test_hommel_is_closed_testing_with_simes():
    """The adjusted value of a hypothesis is the largest Simes p value among the sets that hold it."""
    p = np.array([0.011, 0.02, 0.022, 0.04, 0.3, 0.05])
    simes = {
        members: min(len(members) * v / (i + 1) for i, v in enumerate(sorted(p[list(members)])))
        for size in range(1, 7)
        for members in itertools.combinations(range(6), size)
    }
    expected = [max(value for members, value in simes.items() if j in members) for j in range(6)]
    np.testing.assert_allclose(false_discovery.hommel(p), expected, rtol=1e-12)


def test_benjamini_yekutieli_pays_the_harmonic_sum():
    p = np.array([0.03, 0.0001, 0.9, 0.02])
    np.testing.assert_allclose(false_discovery.benjamini_hochberg(p), [0.04, 0.0004, 0.9, 0.04], rtol=1e-12)
    harmonic = 1 + 1 / 2 + 1 / 3 + 1 / 4
    expected = [0.04 * harmonic, 0.0004 * harmonic, 1.0, 0.04 * harmonic]
    np.testing.assert_allclose(false_discovery.benjamini_yekutieli(p), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("p", "share"),
    [
        ([0.001, 0.001, 0.001, 0.001, 0.2, 0.4], 2 / 6),  # slopes fall to 1/0.6
        ([0.001, 0.001, 0.001, 0.001, 0.001, 0.001, 0.45, 0.9], 4 / 8),  # 3/0.999 rises to 2/0.55
        ([0.5, 0.6, 1.0], 1.0),
    ],
)
def test_share_of_true_nulls_by_least_slope(p, share):
    assert false_discovery._null_share(np.array(p)) == pytest.approx(share)


def test_step_down_z_is_that_of_mantel_and_haenszel_in_every_stratum():
    """(observed - expected)/sqrt(hypergeometric variance), summed over strata; a stratum of one person says nothing."""
    rng = np.random.default_rng(2)
    stratum = np.r_[np.repeat([0, 1], [25, 31]), 2]
    treated, event = rng.random(57) < 0.4, (rng.random((57, 3)) < [0.2, 0.5, 0.0]).astype(float)
    observed, expected, variance = np.zeros(3), np.zeros(3), np.zeros(3)
    for level in (0, 1):
        own = stratum == level
        law = [hypergeom(own.sum(), int(m), (own & treated).sum()) for m in event[own].sum(axis=0)]
        observed += event[own & treated].sum(axis=0)
        expected += [one.mean() for one in law]
        variance += [one.var() for one in law]
    z, raw, adjusted = max_t.step_down_max_t(event, treated, stratum, np.random.default_rng(1), 400)
    np.testing.assert_allclose(z[:2], ((observed - expected) / np.sqrt(variance))[:2], rtol=1e-12)
    assert (z[2], raw[2], adjusted[2]) == (0.0, 1.0, 1.0)
    assert (adjusted >= raw).all()
    again = max_t.step_down_max_t(event, treated, stratum, np.random.default_rng(1), 400, batch=400)
    np.testing.assert_array_equal(again[0], z)


def row(*values):
    return np.array([values], dtype=float)


@pytest.mark.parametrize("events", [(0, 0), (3, 1), (12, 15)])
def test_one_stratum_is_the_table_alone(events):
    """With nobody or everybody having the event too, where the strata's own widths are zero."""
    x1, x2 = events
    cells = (row(x1), row(12.0), row(x2), row(15.0))
    alone = tuple(c[0] for c in cells)
    np.testing.assert_allclose(stratified_tables.newcombe(*cells, 0.025), two_proportions.newcombe(*alone, 0.025))
    for kind, limits in (("risk", score_intervals.ratio_limits), ("odds", score_intervals.odds_limits)):
        np.testing.assert_allclose(
            stratified_tables.score_ratio_limits(*cells, 0.025, kind), limits(*alone, 0.025), rtol=1e-8
        )
    low, high = stratified_tables.score_difference_limits(*cells, 0.025)
    np.testing.assert_allclose((low, high), score_intervals.difference_limits(*alone, 0.025), atol=1e-9)
    _, low, high = stratified_tables.iterative_difference(*cells, 0.025)
    np.testing.assert_allclose((low, high), score_intervals.difference_limits(*alone, 0.025), atol=1e-9)


@pytest.mark.parametrize("kind", ["risk", "odds"])
def test_a_stratum_of_one_arm_says_nothing(kind):
    """Neither do its events make a ratio of zero or infinity possible that the others exclude."""
    with_it = (row(0, 4), row(9, 5), row(3, 0), row(10, 0))
    without = tuple(c[:, :1] for c in with_it)
    for cells in (with_it, without):
        assert stratified_tables.score_ratio_limits(*cells, 0.025, kind)[0] == 0.0
    np.testing.assert_allclose(
        stratified_tables.score_ratio_limits(*with_it, 0.025, kind),
        stratified_tables.score_ratio_limits(*without, 0.025, kind),
        rtol=1e-9,
    )


@pytest.mark.parametrize("kind", ["pearson", "yates", "n-1"])
def test_chi_square_without_or_with_nothing_but_events_is_no_number(kind):
    x1, x2 = np.array([0.0, 8.0, 2.0]), np.array([0.0, 9.0, 5.0])
    statistic, p = two_proportions.chi_square(x1, np.full(3, 8.0), x2, np.full(3, 9.0), kind)
    assert np.isnan(statistic[:2]).all()
    assert np.isnan(p[:2]).all()
    assert np.isfinite([statistic[2], p[2]]).all()


def test_trend_is_the_binomial_one_unless_asked():
    x, n, s = np.array([1.0, 3, 6]), np.array([10.0, 11, 12]), np.array([0.0, 1, 2])
    plain, permuted = trend.cochran_armitage(x, n, s), trend.cochran_armitage(x, n, s, permutation=True)
    assert permuted.z / plain.z == pytest.approx(np.sqrt(32 / 33))
    assert permuted.departure == pytest.approx(plain.departure)


def test_the_shift_of_very_small_samples_lies_between_the_smallest_and_largest_difference():
    """4 against 4: P(U = 0) = 1/70 is below 2.5 %, and the lower limit is the first of the sorted differences."""
    x, y = np.array([5.1, 6.3, 8.2, 9.9]), np.array([1.2, 2.5, 3.1, 4.4])
    found = shift.hodges_lehmann(x, y)
    differences = np.sort((x[:, None] - y[None, :]).ravel())
    assert found.exact
    assert (found.low, found.high) == (differences[0], differences[-1])
    assert found.p_value == pytest.approx(2 / 70)
    many = np.arange(50.0)
    assert not shift.hodges_lehmann(many, many + 0.5).exact
    assert shift.hodges_lehmann(many[:49], many[:49] + 0.5).exact


def test_nobody_gives_no_limits():
    low, high = skewed_scores.proportion_limits(np.array([0.0, 0.0]), np.array([0.0, 5.0]), 0.025)
    assert np.isnan([low[0], high[0]]).all()
    assert low[1] == 0.0
    assert 0 < high[1] < 1
