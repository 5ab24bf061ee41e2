"""Single-step p values for correlations of any form: against mvtnorm, closed forms, and each other."""

import numpy as np
import pytest
from scipy import stats

from kapstats.inference.multiplicity import range_tail
from kapstats.kernels.multivariate_t import mvt_critical, mvt_p_values

#: negative and positive correlations, far from a_i a_j
FAR = np.array([[1, 0.5, -0.3, 0.2], [0.5, 1, 0.1, -0.4], [-0.3, 0.1, 1, 0.35], [0.2, -0.4, 0.35, 1]])


@pytest.mark.parametrize(
    ("c", "one", "two"),
    [(1.2, 0.358214678, 0.592759951), (2.0, 0.0926420131, 0.17175557), (2.8, 0.0148488498, 0.0287879463)],
)
def test_full_rank_far_from_a_product_is_mvtnorm(c, one, two):
    """R mvtnorm 1.1-3: 1 - pmvt(df = 40, GenzBretz(maxpts = 2e7, abseps = 1e-8))."""
    at = np.full(4, c)
    assert mvt_p_values(at, FAR, 40.0, "greater")[0] == pytest.approx(one, abs=1e-5)
    assert mvt_p_values(-at, FAR, 40.0, "less")[0] == pytest.approx(one, abs=1e-5)
    assert mvt_p_values(at, FAR, 40.0)[0] == pytest.approx(two, abs=1e-5)


@pytest.mark.parametrize("k", [3, 4, 5])
def test_all_pairs_with_equal_errors_are_the_studentised_range(k):
    """Singular of rank k - 1; the range's tail is an independent double integral."""
    rows = [np.eye(k)[i] - np.eye(k)[j] for i in range(k) for j in range(i + 1, k)]
    correlation = np.array(rows) @ np.array(rows).T / 2
    for q in (2.0, 3.5):
        expected = range_tail(np.array([q * np.sqrt(2)]), k, np.array([30.0]))[0]
        assert mvt_p_values(np.full(len(rows), q), correlation, 30.0)[0] == pytest.approx(expected, abs=1e-5)
    c = mvt_critical(correlation, 30.0, 0.95)
    assert range_tail(np.array([c * np.sqrt(2)]), k, np.array([30.0]))[0] == pytest.approx(0.05, abs=1e-5)


def test_a_statistic_given_twice_or_with_both_signs_counts_once():
    """Rank one: the two-sided p is Student's; the larger of t and -t one-sided is two-sided."""
    t = np.array([2.1, 2.1])
    assert mvt_p_values(t, np.ones((2, 2)), 25.0)[0] == pytest.approx(2 * stats.t.sf(2.1, 25), abs=1e-9)
    opposite = np.array([[1.0, -1.0], [-1.0, 1.0]])
    assert mvt_p_values(t, opposite, 25.0, "greater")[0] == pytest.approx(2 * stats.t.sf(2.1, 25), abs=1e-9)
    assert mvt_p_values(-t, np.ones((2, 2)), 25.0, "greater")[0] == pytest.approx(stats.t.cdf(2.1, 25), abs=1e-9)
