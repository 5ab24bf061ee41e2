"""Numbers of replicates and subjects, seeds and weights that cannot be are told as such by the library."""

import numpy as np
import pytest

import kapstats as ks
from kapstats.inference.contrasts import weights_of


@pytest.mark.parametrize("options", [{"replicates": 0}, {"replicates": 5, "seed": -1}])
def test_certify_needs_replicates_and_a_seed(options):
    with pytest.raises(ks.errors.DataError, match="at least 1 replicate"):
        ks.certify("risk_difference", "kap-parallel", **options)


@pytest.mark.parametrize("options", [{"n": -5}, {"seed": -1}])
def test_simulate_takes_nothing_negative(options):
    with pytest.raises(ks.errors.DataError, match="negative"):
        ks.simulate("kap-parallel", **options)


def test_weights_by_level():
    names, c = weights_of({"x": {"KAP IV": 1, "Placebo": -1}}, ["Placebo", "KAP IM", "KAP IV"])
    np.testing.assert_array_equal(c, [[-1.0, 0.0, 1.0]])
    assert names == ["x"]
    with pytest.raises(ks.errors.FormulaError, match="Did you mean 'KAP IV'"):
        weights_of({"x": {"KAP IW": 1}}, ["Placebo", "KAP IV"])
