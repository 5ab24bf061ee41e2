"""Statistics of parts computed by the workers of a Dask cluster add up to the pooled fit."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import kapstats as ks
from tests.properties.test_mmrm_laws import FORMULA, trial


def test_workers_of_a_local_cluster() -> None:
    distributed = pytest.importorskip("distributed")
    data = trial(9, n=90)
    levels = {"AVISIT": [1, 2, 3], "TRT01P": ["Placebo", "Dose 1"]}
    part = data["USUBJID"].rank(method="dense").astype(int) % 4
    parts = [data[part == k] for k in range(4)]
    summarise = partial(ks.MmrmStatistics.from_data, FORMULA, levels=levels)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        total = client.submit(sum, client.map(summarise, parts)).result()
    np.testing.assert_allclose(total.fit().vcov, ks.mmrm(FORMULA, data).vcov, rtol=1e-10)
