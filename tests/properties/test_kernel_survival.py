"""Kernels of survival where a fault would not show in a whole analysis: first events, weights, flat directions."""

import numpy as np
import pytest

from kapstats.kernels import aalen_johansen, cox_newton, cox_residuals, fine_gray
from kapstats.kernels.risk_sets import risk_sets


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
    with pytest.raises(fine_gray.NoMaximum) as told:
        fine_gray.fine_gray(time, cause, X)
    np.testing.assert_array_equal(told.value.columns, [False, False, True])
