"""Estimators on one very large trial agree with the truth: every estimand that has an estimator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kapstats.certification import estimators, large
from kapstats.simulation.draw import draw
from kapstats.simulation.scenario import load

N = 20_000
CERTIFICATES = Path(__file__).parents[2] / "docs" / "certificates"
CASES = [
    ("kap-parallel", ("mmrm", "kaplan_meier", "rmst", "cox", "risk_difference", "proportion", "aalen-johansen")),
    ("kap-withdrawal", ("kaplan_meier", "rmst")),
    ("kap-crossover", ("mmrm",)),
    ("kap-factorial", ("mmrm", "cox")),
    ("kap-dose-finding", ("mmrm", "kaplan_meier", "risk_difference")),
    ("kap-cohort", ("aalen-johansen",)),
    ("kap-registry", ("risk_difference-standardised",)),
]


def distances(name: str, who: tuple[str, ...], n: int) -> dict[str, np.ndarray]:
    """(estimate - truth) in errors, of the estimate and of the truth together, per estimator."""
    whole, found = load(name), [estimators.named(estimator) for estimator in who]
    drawn = draw(large.enlarged(whole, n), n=n, seed=large.SEED, parts={part for e in found for part in e.parts})
    return {e.name: large.distances(e, whole, drawn) for e in found}


@pytest.mark.parametrize(("name", "who"), CASES)
def test_a_large_trial_agrees_with_the_truth(name, who):
    for estimator, z in distances(name, who, N).items():
        assert np.isfinite(z).all()
        assert np.abs(z).max() < 4.5, estimator


def test_the_published_table_of_large_trials_shows_agreement():
    """Two hundred thousand subjects where the estimator can take them; made again here with fewer for two rows."""
    kept = pd.read_csv(CERTIFICATES / "large-trials.tsv", sep="\t")
    assert (kept.within == "yes").all()
    assert (kept.largest < kept.bound).all()
    assert (kept.n == large.N).sum() > 15
    chosen = [
        c for c in estimators.CERTIFICATES if c.name.startswith(("rmst--kap-withdrawal", "cox--kap-parallel-null"))
    ]
    assert all(large.compare(c, 4000)["within"] == "yes" for c in chosen)
    pooled = next(c for c in estimators.CERTIFICATES if c.estimator == "risk_difference-pooled")
    assert large.compare(pooled, 20_000)["within"] == "no"


def test_few_visits_pull_a_hazard_ratio_of_detection_times_towards_one():
    """Four visits in 27 days: ties are so heavy that Efron's likelihood no longer sees the latent times."""
    z = distances("kap-dose-finding", ("cox",), 60_000)["cox"]
    assert z[-1] > 3.5


def test_confounded_and_censoring_estimators_do_not():
    assert np.abs(distances("kap-registry", ("risk_difference-pooled",), N)["risk_difference-pooled"]).max() > 8
    assert np.abs(distances("kap-cohort", ("1-km",), N)["1-km"]).max() > 8
