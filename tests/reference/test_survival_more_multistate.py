"""State-occupation probabilities against R survival 3.5-3 (multi-state survfit): 1e-10."""

from __future__ import annotations

import numpy as np

from kapstats.relapse.multistate import state_occupation
from tests.reference.more_survival_cases import records, table


def test_probabilities_and_standard_errors():
    case = records("multistate")["survfit_multistate"]
    fit = state_occupation(
        "Surv(start, stop, to) ~ arm", table("episodes"), id="id", initial="non-response", censored="none"
    )
    found = fit.at([5, 10, 20, 30]).frame.set_index(["arm", "time", "state"])
    for i, (stratum, time) in enumerate(zip(case["strata"], case["time"], strict=True)):
        rows = found.loc[[(int(stratum.removeprefix("arm=")), time, s) for s in case["states"]]]
        np.testing.assert_allclose(rows["estimate"], case["pstate"][i], rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(rows["std_error"], case["se"][i], rtol=1e-10, atol=1e-14)
