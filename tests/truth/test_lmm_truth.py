"""Cluster-randomised truth: at 6 and 12 clusters Kenward-Roger covers and the normal reference fails."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from kapstats.errors import KapstatsWarning
from kapstats.inference.intervals import wald

REPLICATES = 300


def trial(clusters: int) -> pd.DataFrame:
    """Half of the clusters on each arm, four to ten subjects each."""
    rng = np.random.default_rng(clusters)
    size = rng.integers(4, 11, clusters)
    cluster = np.repeat(np.arange(clusters), size)
    return pd.DataFrame({"therapist": cluster, "arm": cluster % 2, "y": rng.normal(size=len(cluster))})


def coverage(clusters: int) -> dict[str, float]:
    """Share of 95% intervals for a cluster-level effect that hold its true value, for two references."""
    data = trial(clusters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KapstatsWarning)
        fit = ks.lmm("y ~ arm + (1 | therapist)", data)
    codes, arm, truth = data["therapist"].to_numpy(), data["arm"].to_numpy(), 1.5
    row, hits = np.array([[0.0, 1.0]]), {"kenward-roger": 0, "normal": 0}
    for i in range(REPLICATES):
        rng = np.random.default_rng([clusters, i])
        again = fit.refit(truth * arm + rng.normal(size=clusters)[codes] + rng.normal(size=len(codes)))
        for method in hits:
            found = again.linear(row, df=method)
            limits = wald(found.estimate, found.std_error, found.df)
            hits[method] += int(limits["conf_low"][0] <= truth <= limits["conf_high"][0])
    return {method: count / REPLICATES for method, count in hits.items()}


@pytest.mark.parametrize("clusters", [6, 12])
def test_kenward_roger_covers_where_the_normal_reference_fails(clusters: int) -> None:
    found = coverage(clusters)
    margin = 3 * np.sqrt(0.95 * 0.05 / REPLICATES)
    assert abs(found["kenward-roger"] - 0.95) < margin
    assert found["normal"] < 0.95 - margin
