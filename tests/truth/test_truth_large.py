"""Estimators on one very large trial agree with the truth: every estimand that has an estimator."""

from __future__ import annotations

import numpy as np
import pytest

from kapstats.certification import estimators, study
from kapstats.simulation.draw import draw
from kapstats.simulation.scenario import load

N = 20_000
CASES = [
    ("kap-parallel", ("mmrm", "kaplan_meier", "rmst", "cox", "risk_difference", "proportion", "aalen-johansen")),
    ("kap-withdrawal", ("kaplan_meier", "rmst")),
    ("kap-crossover", ("mmrm",)),
    ("kap-factorial", ("mmrm", "cox")),
    ("kap-dose-finding", ("mmrm", "kaplan_meier", "risk_difference")),
    ("kap-cohort", ("aalen-johansen",)),
    ("kap-registry", ("risk_difference-standardised",)),
]


def distances(name: str, who: tuple[str, ...], n: int, seed: int = 21) -> dict[str, np.ndarray]:
    """(estimate - truth) in errors, of the estimate and of the truth together, per estimator."""
    scenario = load(name).change(people={"sites": max(40, n // 50)})
    parts = {part for estimator in who for part in estimators.named(estimator).parts}
    drawn, out = [draw(scenario, n=n, seed=seed, parts=parts)], {}
    for estimator in who:
        known = estimators.named(estimator)
        rows = study.wanted_rows(known, scenario, study.rows_of_truth(load(name), known.parts))
        targets = [study.target(r, known.log) for r in rows]
        answer = known.analyse(scenario, drawn, 0.95)
        value, error = (np.array([getattr(t, a) for t in targets]) for a in ("value", "error"))
        assert answer.converged.all()
        out[estimator] = (answer.estimate[0] - value) / np.hypot(answer.std_error[0], error)
    return out


@pytest.mark.parametrize(("name", "who"), CASES)
def test_a_large_trial_agrees_with_the_truth(name, who):
    for estimator, z in distances(name, who, N).items():
        assert np.abs(z).max() < 4.5, estimator


def test_few_visits_pull_a_hazard_ratio_of_detection_times_towards_one():
    """Four visits in 27 days: ties are so heavy that Efron's likelihood no longer sees the latent times."""
    z = distances("kap-dose-finding", ("cox",), 60_000)["cox"]
    assert z[-1] > 3.5


def test_confounded_and_censoring_estimators_do_not():
    assert np.abs(distances("kap-registry", ("risk_difference-pooled",), N)["risk_difference-pooled"]).max() > 8
    assert np.abs(distances("kap-cohort", ("1-km",), N)["1-km"]).max() > 8
