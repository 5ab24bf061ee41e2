"""Verbs reached through a Cox fit answer for the data as the fit weighs them."""

import numpy as np
import pandas as pd

import kapstats as ks


def test_restricted_means_of_a_weighted_fit_are_weighted():
    """Weights of 2 stand for a row given twice."""
    rng = np.random.default_rng(4)
    data = pd.DataFrame(
        {"arm": np.resize(["a", "b"], 60), "t": rng.exponential(9, 60).round(1) + 0.1, "e": 1,
         "w": np.resize([1, 1, 2], 60)}
    )  # fmt: skip
    order = {"arm": ["a", "b"]}
    found = ks.cox("Surv(t, e) ~ arm", data, weights="w", order=order).rmst(tau=8)
    twice = ks.rmst("Surv(t, e) ~ arm", data.loc[data.index.repeat(data["w"])], tau=8, order=order)
    np.testing.assert_allclose(found["estimate"], twice["estimate"], rtol=1e-12)
    assert abs(found["estimate"][0] - ks.rmst("Surv(t, e) ~ arm", data, tau=8, order=order)["estimate"][0]) > 1e-3
