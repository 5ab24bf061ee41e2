"""A dose-response or onset parameter at the edge of its search range is named, and fits can be stored."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest

import kapstats as ks

LINE = pd.DataFrame({"estimate": [-1.36, -2.97, -4.08, -7.22, -10.65], "std_error": [0.8] * 5})
DOSES = [0, 14, 28, 56, 84]


def test_a_half_maximal_dose_far_beyond_the_doses_is_named():
    """On a straight line any ED50 is too small: without limits the sum of squares falls for ever."""
    with pytest.warns(ks.errors.KapstatsWarning, match=r"emax: ed50 = 252 is at the edge .*\(0\.01 to 3 times"):
        fit = ks.dose_response(LINE, DOSES, models=["linear", "emax"], draws=20)
    assert any("ed50" in text for text in fit.coefficients().warnings)


def test_a_dose_response_with_a_plateau_warns_of_nothing():
    plateau = LINE.assign(estimate=-9 * np.array(DOSES) / (20 + np.array(DOSES)))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ks.errors.KapstatsWarning)
        fit = ks.dose_response(plateau, DOSES, models=["emax"], draws=20)
    again = pickle.loads(pickle.dumps(fit))
    np.testing.assert_array_equal(again.predict([10.0])["estimate"], fit.predict([10.0])["estimate"])


def test_an_onset_that_has_not_begun_to_level_off_is_named():
    table = pd.DataFrame({"AVISIT": [7, 14, 21, 28], "estimate": [-1.0, -2.0, -3.0, -4.0], "std_error": [0.4] * 4})
    with pytest.warns(ks.errors.KapstatsWarning, match="onset_half_time"):
        ks.onset_curve(table, [7, 14, 21, 28])
