"""Dose response and blinding beside R and published numbers.

R 4.2.2: ``nls(algorithm = "port", tol = 1e-12)`` of the means whitened by the Cholesky factor of their inverse
covariance, from several starts; optimal contrasts by hand and mvtnorm 1.1-3 ``pmvt(GenzBretz(abseps = 1e-7))``.
The blinding counts and their printed results are the worked example of BlindingIndex.jl, which follows R package BI.
"""

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from kapstats.estimates import Estimates

DOSE = [0.0, 0.1, 0.2, 0.5, 1.0]
MEAN = np.array([-9.2, -10.4, -12.9, -16.1, -17.3])
VCOV = np.diag([1.1, 1.3, 1.2, 1.25, 1.15]) + 0.2
FITS = {  # parameters, then the residual form
    "linear": ({"e0": -10.26007248814576, "slope": -8.02131463121935}, 5.76722685312952),
    "quadratic": ({"e0": -9.023438679325892, "b1": -20.161171264837989, "b2": 11.884526094621943}, 0.322952018289775),
    "emax": ({"e0": -8.911922572112736, "emax": -12.667252656852096, "ed50": 0.459299630644546}, 0.905951789543087),
    "sigmoid-emax": (
        {
            "e0": -9.167672840455564,
            "emax": -8.499512458908205,
            "ed50": 0.2306301956945929,
            "hill": 2.019552615453311,
        },
        0.0239069377953427,
    ),
}
SHAPES = {
    "linear": ("linear", {}),
    "emax": ("emax", {"ed50": 0.2}),
    "sigmoid": ("sigmoid-emax", {"ed50": 0.3, "hill": 3}),
    "exponential": ("exponential", {"delta": 0.4}),
    "quadratic": ("quadratic", {"ratio": -0.6}),
}
WEIGHTS = [
    [-0.471380171043121, -0.288645252751101, -0.1932995575045242, 0.1583028877660615, 0.795022093532684],
    [-0.742719838138772, -0.183640835136625, 0.0419969020499224, 0.3377072331950877, 0.546656538030386],
    [-0.486027417557414, -0.375601971239083, -0.1983379503484428, 0.4260673907506133, 0.633899948394326],
    [-0.332765898073618, -0.254767204398687, -0.2387127860115116, -0.0484155700332028, 0.874661458517019],
    [-0.632391127641358, -0.286738315867888, -0.0759224021039209, 0.4052375133950414, 0.589814332218125],
]


def means(factor=1.0):
    frame = pd.DataFrame({"estimate": factor * MEAN, "std_error": np.sqrt(np.diag(VCOV))})
    return Estimates(frame, {}, VCOV)


@pytest.mark.parametrize("model", list(FITS))
def test_curves_are_those_of_nls(model):
    expected, form = FITS[model]
    curve = ks.dose_response(means(), DOSE, models=[model], draws=2).curves[0]
    assert curve.rss == pytest.approx(form, rel=1e-8)
    for name, value in expected.items():  # the search stops at a grid 2.5^-14 of its range wide
        assert curve.parameters[name] == pytest.approx(value, rel=3e-6)


def test_candidate_contrasts_and_statistics():
    found = ks.mcp_mod(means(), DOSE, SHAPES)
    np.testing.assert_allclose(found.meta["weights"], WEIGHTS, atol=1e-12)
    expected = [-6.01860805009618, -6.27151327856518, -6.34407348884545, -5.16999740870962, -6.45429883379838]
    np.testing.assert_allclose(found["statistic"], expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("df", "side", "expected"),
    [
        (np.inf, "two", [0.0677655512, 0.0551334665, 0.0519170042, 0.1284710193, 0.0472973857]),
        (35, "two", [0.0794360267, 0.0662491036, 0.0627987783, 0.1412776104, 0.0578910523]),
        (35, "less", [0.0397064597, 0.0331043047, 0.0313989996, 0.0706425233, 0.0289472199]),
    ],
)
def test_adjusted_p_values_of_the_candidates(df, side, expected):
    """Five contrasts of five means have a correlation of rank four, which is integrated to 3e-4."""
    found = ks.mcp_mod(means(0.35), DOSE, SHAPES, df=df, side=side)
    np.testing.assert_allclose(found["p_value"], expected, atol=3e-4)


def test_blinding_indices_as_printed():
    counts = {"Treatment": [48, 4, 330], "Placebo": [22, 30, 319]}
    columns = ["estimate", "std_error", "conf_low", "conf_high"]
    james = ks.blinding_index(counts=counts, method="james").frame[columns].round(3).to_numpy()
    np.testing.assert_allclose(james, [[0.896, 0.011, 0.875, 0.918]], atol=1e-9)
    bang = ks.blinding_index(counts=counts).frame[columns].round(3).to_numpy()
    printed = [[0.115, 0.018, 0.080, 0.150], [0.022, 0.019, -0.016, 0.060]]
    np.testing.assert_allclose(bang, printed, atol=1e-9)
