"""A warning of the library points at the reader's own line, however deep it arises."""

import warnings

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from kapstats.errors import KapstatsWarning

VISITS = pd.DataFrame(
    {
        "USUBJID": np.repeat(np.arange(12), 2),
        "TRT01P": np.repeat(["Placebo", "KAP"] * 6, 2),
        "AVISITN": np.tile([1, 2], 12),
        "CHG": np.random.default_rng(1).normal(size=24),
        "ZERO": 0.0,
    }
)


@pytest.mark.parametrize(
    "call",
    [
        lambda: ks.ancova("CHG ~ TRT01P + ZERO", VISITS[VISITS.AVISITN == 2]),
        lambda: ks.lmm("CHG ~ TRT01P + ZERO + (1 | USUBJID)", VISITS),
        lambda: ks.mmrm("CHG ~ TRT01P*C(AVISITN) + ZERO + us(AVISITN | USUBJID)", VISITS),
        lambda: ks.cox("Surv(DAY, DAY < 20) ~ TRT01P + ZERO", VISITS.assign(DAY=np.arange(1.0, 25.0))),
    ],
)
def test_the_line_named_is_outside_the_library(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    own = [w for w in caught if issubclass(w.category, KapstatsWarning)]
    assert {w.filename for w in own} == {__file__}
