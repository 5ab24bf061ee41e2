"""Laws of intervals and tests for counts: symmetry, nesting, containment, limits of limits, agreement of two routes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kapstats as ks
from kapstats.kernels import score_intervals, unconditional
from kapstats.kernels.distinct_counts import distinct_counts
from kapstats.safety.proportion import METHODS
from kapstats.safety.stratified import cmh_test
from kapstats.safety.two_by_two import p_values

LAW = settings(max_examples=25, derandomize=True, deadline=None)
RD = ["miettinen-nurminen", "farrington-manning", "wald", "newcombe", "newcombe-cc", "agresti-caffo", "scas"]
RD += ["wald-cc", "mover-jeffreys"]
RATIOS = [
    (ks.risk_ratio, "miettinen-nurminen"),
    (ks.risk_ratio, "koopman"),
    (ks.risk_ratio, "scas"),
    (ks.risk_ratio, "mover"),
    (ks.risk_ratio, "walter"),
    (ks.odds_ratio, "miettinen-nurminen"),
    (ks.odds_ratio, "cornfield"),
    (ks.odds_ratio, "agresti"),
    (ks.odds_ratio, "gart"),
    (ks.odds_ratio, "conditional-exact"),
    (ks.odds_ratio, "mid-p"),
]
#: Wald limits move back at the edges, and transformed ones jump to the exact limit there
NOT_MONOTONE = ("wald", "wald-cc", "logit", "probit", "cloglog")


@st.composite
def tables(draw, largest=60):
    n1, n2 = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    return draw(st.integers(0, n1)), n1, draw(st.integers(0, n2)), n2


def limits(result):
    return float(result["conf_low"][0]), float(result["conf_high"][0])


def near(a, b, tolerance=1e-9):
    return a == b or abs(a - b) <= tolerance * max(1.0, abs(a), abs(b))


@LAW
@given(tables(), st.sampled_from(RD))
def test_swapping_groups_or_outcomes_negates_the_difference(table, method):
    x1, n1, x2, n2 = table
    low, high = limits(ks.risk_difference(*table, method=method))
    for other in ((x2, n2, x1, n1), (n1 - x1, n1, n2 - x2, n2)):
        there = limits(ks.risk_difference(*other, method=method))
        assert near(low, -there[1])
        assert near(high, -there[0])


@LAW
@given(st.data(), st.sampled_from(["miettinen-nurminen", "farrington-manning", "scas"]))
def test_score_limits_of_huge_and_tiny_groups_are_mirror_images_to_nine_digits_of_the_width(data, method):
    n1, n2 = (data.draw(st.sampled_from([1, 2, 40, 10**5, 10**7])) for _ in "12")
    x1, x2 = (data.draw(st.sampled_from([0, 1, n // 2, n - 1, n])) for n in (n1, n2))
    low, high = limits(ks.risk_difference(x1, n1, x2, n2, method=method))
    for other in ((x2, n2, x1, n1), (n1 - x1, n1, n2 - x2, n2)):
        there = limits(ks.risk_difference(*other, method=method))
        assert abs(low + there[1]) <= 1e-9 * (high - low)
        assert abs(high + there[0]) <= 1e-9 * (high - low)


def test_score_limits_where_all_have_the_event_are_the_closed_form():
    """x1 = n1 and x2 = n2: r2 = 1 and r1 = 1 + d below 0, so that d = -z^2 / (z^2 + n1) without N/(N - 1)."""
    z2 = 1.959963984540054**2
    low, high = limits(ks.risk_difference(10**5, 10**5, 1, 1, method="farrington-manning"))
    assert abs(low + z2 / (z2 + 10**5)) < 1e-9 * z2 / 10**5
    assert near(high, z2 / (z2 + 1))


@LAW
@given(tables(), st.sampled_from(RATIOS))
def test_swapping_groups_inverts_ratios(table, case):
    call, method = case
    x1, n1, x2, n2 = table
    low, high = limits(call(*table, method=method))
    there = limits(call(x2, n2, x1, n1, method=method))
    with np.errstate(divide="ignore"):
        assert near(low, float(np.divide(1, there[1])))
        assert near(high, float(np.divide(1, there[0])))
        if call is ks.odds_ratio:
            flipped = limits(call(n1 - x1, n1, n2 - x2, n2, method=method))
            assert near(low, float(np.divide(1, flipped[1])))


@LAW
@given(tables(), st.sampled_from([(ks.risk_difference, m) for m in RD] + RATIOS))
def test_limits_contain_the_estimate_and_nest_in_level(table, case):
    call, method = case
    narrow, wide = (call(*table, method=method, level=level) for level in (0.8, 0.99))
    estimate = float(narrow["estimate"][0])
    (a, b), (c, d) = limits(narrow), limits(wide)
    assert c <= a + 1e-12
    assert b <= d + 1e-12
    # Agresti-Caffo is centred on a shrunken difference
    if not np.isnan(estimate) and method != "agresti-caffo":
        assert a <= estimate or near(a, estimate)
        assert b >= estimate or near(b, estimate)


@LAW
@given(tables())
def test_every_table_has_defined_score_limits(table):
    low, high = limits(ks.risk_difference(*table))
    assert -1 <= low <= high <= 1
    for call in (ks.risk_ratio, ks.odds_ratio):
        low, high = limits(call(*table))
        assert 0 <= low <= high


@LAW
@given(tables())
def test_score_limits_solve_their_equation(table):
    """z at a limit inside the parameter space is the normal quantile, with r2 found by bisection of the likelihood."""
    x1, n1, x2, n2 = (float(v) for v in table)
    for limit in limits(ks.risk_difference(*table)):
        if abs(limit) > 1 - 1e-6:
            continue
        low, high = max(0.0, -limit), min(1.0, 1 - limit)
        for _ in range(200):
            p = (low + high) / 2
            q = p + limit
            slope = (x1 / q if x1 else 0) - ((n1 - x1) / (1 - q) if n1 > x1 else 0)
            slope += (x2 / p if x2 else 0) - ((n2 - x2) / (1 - p) if n2 > x2 else 0)
            low, high = (p, high) if slope > 0 else (low, p)
        variance = (q * (1 - q) / n1 + p * (1 - p) / n2) * (n1 + n2) / (n1 + n2 - 1)
        z = (x1 / n1 - x2 / n2 - limit) / np.sqrt(variance)
        assert abs(abs(z) - 1.959963984540054) < 1e-6


@LAW
@given(tables(), st.sampled_from(["miettinen-nurminen", "farrington-manning"]))
def test_interval_and_test_agree(table, method):
    """The score test rejects no difference exactly when its interval leaves 0 out."""
    found = ks.risk_difference(*table, method=method)
    low, high = limits(found)
    if min(abs(low), abs(high)) > 1e-9:
        assert (found["p_value"][0] < 0.05) == (low > 0 or high < 0)


@LAW
@given(tables(), st.floats(0.5, 0.995))
def test_one_sided_bounds_are_limits_of_a_wider_level(table, level):
    two = ks.risk_difference(*table, level=2 * level - 1) if level > 0.5 + 1e-9 else None
    if two is None:
        return
    assert near(float(ks.risk_difference(*table, level=level, side="greater")["conf_low"][0]), limits(two)[0])
    assert near(float(ks.risk_difference(*table, level=level, side="less")["conf_high"][0]), limits(two)[1])


def test_miettinen_nurminen_tends_to_farrington_manning():
    gaps = []
    for scale in (1, 100, 10_000):
        table = (3 * scale, 14 * scale, 6 * scale, 20 * scale)
        mn, fm = (np.array(limits(ks.risk_difference(*table, method=m))) for m in RD[:2])
        gaps.append(np.abs(mn - fm).max())
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 1e-7


@LAW
@given(st.lists(tables(25), min_size=2, max_size=5))
def test_stratified_score_at_zero_is_cmh(strata):
    columns = list(zip(*strata, strict=True))
    z = ks.risk_difference(*columns, strata=range(len(strata)))["statistic"][0]
    assert near(float(z) ** 2, float(cmh_test(*columns, range(len(strata)))["statistic"][0]), 1e-9)


@LAW
@given(tables())
def test_one_stratum_is_no_stratum(table):
    for call, method in ((ks.risk_difference, "miettinen-nurminen"), (ks.risk_ratio, "miettinen-nurminen"),
                         (ks.odds_ratio, "miettinen-nurminen"), (ks.odds_ratio, "conditional-exact")):  # fmt: skip
        alone, pooled = limits(call(*table, method=method)), limits(call(*table, method=method, strata=["a"]))
        assert near(alone[0], pooled[0], 1e-8)
        assert near(alone[1], pooled[1], 1e-8)


@LAW
@given(st.integers(1, 200), st.data(), st.sampled_from(sorted(METHODS)))
def test_one_proportion(n, data, method):
    x = data.draw(st.integers(0, n))
    low, high = limits(ks.proportion(x, n, method=method))
    mirrored = limits(ks.proportion(n - x, n, method=method))
    assert near(low, 1 - mirrored[1]) or method == "cloglog"
    assert low <= high
    if x < n:
        more = limits(ks.proportion(x + 1, n, method=method))
        assert low <= more[0] + 1e-9 or method in NOT_MONOTONE
        assert high <= more[1] + 1e-9 or method in NOT_MONOTONE
    outer = limits(ks.proportion(x, n))
    if method in ("mid-p", "blaker"):
        assert outer[0] <= low + 1e-9
        assert high <= outer[1] + 1e-9


@LAW
@given(st.integers(1, 300), st.data())
def test_likelihood_ratio_limits_solve_their_equation(n, data):
    from scipy.special import xlog1py, xlogy

    x = data.draw(st.integers(0, n))
    best = xlogy(x, x / n) + xlog1py(n - x, -x / n)
    for limit in limits(ks.proportion(x, n, method="likelihood-ratio")):
        if 0 < limit < 1:
            assert near(2 * (best - xlogy(x, limit) - xlog1py(n - x, -limit)), 1.959963984540054**2, 1e-9)


@pytest.mark.parametrize("method", ["clopper-pearson", "blaker"])
def test_exact_coverage_is_never_below_nominal(method):
    """Enumeration over a grid of p; the Wald interval fails the same check."""
    from scipy.stats import binom

    p = np.linspace(0.005, 0.995, 199)
    for n in (5, 17, 40):
        x = np.arange(n + 1)
        for name, holds in ((method, True), ("wald", False)):
            found = ks.proportion(x, n, method=name)
            low, high = found["conf_low"].to_numpy(), found["conf_high"].to_numpy()
            inside = (low[:, None] <= p + 1e-12) & (p <= high[:, None] + 1e-12)
            coverage = (binom.pmf(x[:, None], n, p) * inside).sum(axis=0)
            assert (coverage.min() >= 0.95 - 1e-9) == holds


def test_rows_are_independent_of_each_other():
    generator = np.random.default_rng(5)
    n1, n2 = generator.integers(1, 90, (2, 200))
    x1, x2 = generator.integers(0, n1 + 1), generator.integers(0, n2 + 1)
    for call, method in [(ks.risk_difference, m) for m in RD] + RATIOS:
        together = call(x1, n1, x2, n2, method=method)
        for row in (0, 77, 199):
            alone = call(int(x1[row]), int(n1[row]), int(x2[row]), int(n2[row]), method=method)
            for column in ("conf_low", "conf_high"):
                assert near(float(together[column][row]), float(alone[column][0]), 1e-12)


@LAW
@given(st.integers(0, 40), st.integers(0, 40), st.floats(0.5, 90), st.floats(0.5, 90), st.floats(0.1, 10))
def test_rates_scale_with_time_and_swap(x1, x2, t1, t2, unit):
    one, scaled = limits(ks.rate(x1, t1)), limits(ks.rate(x1, t1 * unit))
    assert near(one[0], scaled[0] * unit)
    assert near(one[1], scaled[1] * unit)
    for call, turn in ((ks.rate_difference, lambda v: -v), (ks.rate_ratio, lambda v: np.divide(1, v))):
        low, high = limits(call(x1, t1, x2, t2))
        there = limits(call(x2, t2, x1, t1))
        with np.errstate(divide="ignore"):
            assert near(low, float(turn(there[1])), 1e-8)
            assert near(high, float(turn(there[0])), 1e-8)


@settings(max_examples=10, derandomize=True, deadline=None)
@given(tables(14))
def test_boschloo_is_uniformly_more_powerful_than_fisher(table):
    arrays = tuple(np.array([float(v)]) for v in table)
    assert p_values(arrays, "boschloo")[0] <= p_values(arrays, "fisher")[0] + 1e-9


def test_unconditional_p_values_are_sizes():
    """The largest null probability of p <= 0.05 over p, by enumeration, is at most 0.05."""
    from scipy.stats import binom

    n1, n2 = 7, 9
    for test in (unconditional.barnard_p, unconditional.boschloo_p):
        p = np.array([[test(i, n1, j, n2) for j in range(n2 + 1)] for i in range(n1 + 1)])
        for share in np.linspace(0.01, 0.99, 50):
            null = np.outer(binom.pmf(np.arange(n1 + 1), n1, share), binom.pmf(np.arange(n2 + 1), n2, share))
            assert null[p <= 0.05].sum() <= 0.05 + 1e-9


@LAW
@given(tables(200))
def test_restricted_estimates_beat_their_neighbours(table):
    x1, n1, x2, n2 = (np.array([float(v)]) for v in table)
    d = np.array([0.13])
    r2 = score_intervals.restricted_difference(x1, n1, x2, n2, d)[2]

    def loglik(p):
        from scipy.special import xlog1py, xlogy

        return xlogy(x1, p + d) + xlog1py(n1 - x1, -(p + d)) + xlogy(x2, p) + xlog1py(n2 - x2, -p)

    best = loglik(r2)
    for step in (-1e-4, 1e-4):
        p = np.clip(r2 + step, 0, 1 - d)
        assert (loglik(p) <= best + 1e-9 * np.abs(best)).all()


@LAW
@given(st.integers(1, 30), st.integers(0, 80), st.integers(1, 6), st.integers(1, 3), st.integers(0, 99))
def test_distinct_counts_equal_sets(n_subjects, records, n_rows, n_groups, seed):
    generator = np.random.default_rng(seed)
    row, subject = generator.integers(0, n_rows, records), generator.integers(0, n_subjects, records)
    group = generator.integers(0, n_groups, n_subjects)
    subjects, events = distinct_counts(row, subject, group, n_rows, n_groups)
    for r in range(n_rows):
        for g in range(n_groups):
            own = [s for s, t in zip(subject, row, strict=True) if t == r and group[s] == g]
            assert subjects[r, g] == len(set(own))
            assert events[r, g] == len(own)
