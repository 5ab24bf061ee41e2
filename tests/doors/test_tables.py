"""Tables of events through the exported verbs: what is printed at the edges, from tables as users have them."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest

import kapstats as ks


def row(found, **where):
    return found.filter(**where).to_frame().iloc[0] if where else found.to_frame().iloc[0]


# --------------------------------------------------------------------------------------------------- exact trend


def trend(x, n, scores=None):
    return ks.trend_test(x, n, scores).to_frame().set_index("method")["p_value"]


def test_the_exact_trend_of_alcohol_and_malformations():
    """Agresti (2002), Categorical Data Analysis, table 3.7: 32,574 infants; P values by full enumeration."""
    p = trend([48, 38, 5, 1, 1], [17114, 14502, 793, 127, 38], [0, 0.5, 1.5, 4, 7])
    assert p["exact-greater"] == pytest.approx(0.016783, abs=5e-7)
    assert p["exact-two"] == pytest.approx(0.017250, abs=5e-7)
    assert p["exact-central"] == pytest.approx(0.033566, abs=5e-7)


def by_hand(x, n, scores):
    """P(T >= t) and P(|T - E| >= |t - E|), from whole-number weights of every table with these margins."""
    t, m = sum(a * s for a, s in zip(x, scores, strict=True)), sum(x)
    mean = m * sum(a * s for a, s in zip(n, scores, strict=True)) / sum(n)
    greater = two = 0
    for rest in itertools.product(*(range(min(size, m) + 1) for size in n[1:])):
        first = m - sum(rest)
        if not 0 <= first <= n[0]:
            continue
        ways = math.prod(math.comb(size, k) for size, k in zip(n, (first, *rest), strict=True))
        value = first * scores[0] + sum(k * s for k, s in zip(rest, scores[1:], strict=True))
        greater += ways if value >= t - 1e-9 else 0
        two += ways if abs(value - mean) >= abs(t - mean) - 1e-9 else 0
    total = math.comb(sum(n), m)
    return greater / total, two / total


@pytest.mark.parametrize("n", [300, 375, 395, 1000, 100_000])
@pytest.mark.parametrize("x", [(0, 2, 4), (1, 1, 5), (2, 5, 9), (0, 0, 3), (7, 2, 0)])
@pytest.mark.parametrize("scores", [(0, 1, 2), (0.0, 0.37, 1.13), (0.0, math.log(3), math.log(10)), (-1, 0, 5)])
def test_rare_events_in_any_number_of_subjects(n, x, scores):
    p = trend(list(x), [n, n + 1, 2 * n], list(scores))
    greater, two = by_hand(x, (n, n + 1, 2 * n), scores)
    assert p["exact-greater"] == pytest.approx(greater, rel=1e-8)
    assert p["exact-two"] == pytest.approx(two, rel=1e-8)


def test_frequent_events_in_100_000_subjects_take_no_time():
    """The normal approximation is good here; the exact tail may be far out."""
    begin = time.process_time()
    found = ks.trend_test([6000, 6050, 6100, 6200, 6200], [20000] * 5).to_frame().set_index("method")["p_value"]
    assert found["exact-two"] == pytest.approx(found["permutation"], rel=0.01)
    far = trend([6000, 6050, 6100, 7200, 9200], [20000] * 5)
    assert 0 < far["exact-two"] < 1e-250
    other = trend([9000, 9100, 9300], [33000] * 3, [0.0, math.log(3), math.log(10)])
    assert other["exact-greater"] + other["exact-less"] > 1
    assert time.process_time() - begin < 10


def test_two_groups_are_fishers_test():
    for x, n in (([3, 9], [800, 700]), ([0, 9], [5000, 4000]), ([700, 650], [800, 700])):
        p = trend(x, n)
        fisher = row(ks.odds_ratio(x[1], n[1], x[0], n[0], method="conditional-exact", side="greater"))["p_value"]
        assert p["exact-greater"] == pytest.approx(fisher, rel=1e-8)


def test_scores_without_a_step_and_too_many_tables_are_refused_by_name():
    with pytest.raises(ks.errors.EstimabilityError, match="exact=False"):
        ks.trend_test([30000] * 6, [100000] * 6, [0.0, 1.0, math.sqrt(2), math.sqrt(3), math.pi, math.e])


# ---------------------------------------------------------------------------------------------- empty and full cells


def test_a_paired_ratio_whose_first_condition_never_has_the_event():
    """0 of 8 against 3 of 8: the score equation by bisection gives (0, 1.2804863); exchanged, 1 over it."""
    found = row(ks.paired_risk_ratio(0, 0, 3, 5))
    assert (found["conf_low"], found["conf_high"]) == (0.0, pytest.approx(1.2804862735, rel=1e-8))
    turned = row(ks.paired_risk_ratio(0, 3, 0, 5))
    assert (turned["conf_low"], turned["conf_high"]) == (pytest.approx(1 / 1.2804862735, rel=1e-8), np.inf)


def test_an_odds_ratio_whose_reference_always_has_the_event():
    """0/20 against 12/12 and 1/50 against 1000/1000: the chi-square of the restricted estimates by bisection."""
    found = row(ks.odds_ratio(0, 20, 12, 12))
    assert (found["conf_low"], found["conf_high"]) == (0.0, pytest.approx(0.01636154243, rel=1e-8))
    assert row(ks.odds_ratio(1, 50, 1000, 1000, method="cornfield"))["conf_high"] == pytest.approx(1.51990540e-4)


def test_iterative_weights_without_an_event_in_the_reference():
    """(6/14, 9/14, 5/14) against (0/14, 0/13, 0/8): ratesci with weighting "MN", and the exchanged groups."""
    table = ([6, 9, 5], [14] * 3, [0, 0, 0], [14, 13, 8])
    found = row(ks.risk_difference(*table, method="miettinen-nurminen-iterative", strata=list("abc")))
    assert (found["conf_low"], found["conf_high"]) == (pytest.approx(0.3234245, abs=1e-7), pytest.approx(0.6255347))


def test_stratified_exact_tests_far_in_the_tail():
    """Strata of 1,500 with all events in one group: the weights span a thousand powers of e."""
    counts = ([1490] * 3, [1500] * 3, [10] * 3, [1500] * 3)
    found = row(ks.odds_ratio(*counts, method="conditional-exact", strata=list("abc")))
    single = row(ks.odds_ratio(1490, 1500, 10, 1500, method="conditional-exact"))
    assert found["estimate"] == pytest.approx(single["estimate"], rel=1e-3)
    assert found["conf_low"] < found["estimate"] < found["conf_high"] < single["conf_high"]
    assert found["conf_low"] > single["conf_low"]


def test_exact_rate_tests_far_in_the_tail():
    """R: poisson.test(c(1, 200), c(1, 1), alternative = "less"): a binomial of 201 with half, 201 choose 1 and 0."""
    p = row(ks.rate_ratio(1, 1, 200, 1, side="less"))["p_value"]
    assert p == pytest.approx(202 / 2**201, rel=1e-10)
    both = row(ks.rate_ratio(1, 1, 200, 1))["p_value"]
    assert both == pytest.approx(2 * 202 / 2**201, rel=1e-10)
    million = row(ks.rate_ratio(500_000, 1.0, 501_000, 1.0))["p_value"]
    assert million == pytest.approx(math.erfc(999 / math.sqrt(1_001_000) / math.sqrt(2)), rel=1e-3)
