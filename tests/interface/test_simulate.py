"""`ks.simulate` and `ks.Scenario` as the contract states them."""

from __future__ import annotations

import pytest

import kapstats as ks


def test_simulate_returns_a_trial_with_its_truth():
    trial = ks.simulate("kap-parallel", n=60, seed=4)
    assert isinstance(trial, ks.Trial)
    assert trial.arms == ["Placebo", "KAP IV", "KAP IM", "KAP Oral", "KAP Sublingual", "KAP Nasal"]
    assert len(trial.population("SAFFL").adsl) == 60
    routes = set(trial.adsl.ROUTE)
    assert routes == {"PLACEBO", "INTRAVENOUS", "INTRAMUSCULAR", "ORAL", "SUBLINGUAL", "NASAL"}
    rows = trial.truth["mean_difference"]
    assert {"contrast", "AVISIT", "strategy", "value", "mc_error", "method"} <= set(rows[0])
    assert rows[0]["contrast"] == "KAP IV - Placebo"


def test_same_seed_same_trial_and_another_seed_another():
    a, b, c = (ks.simulate("kap-parallel", n=36, seed=s, truth=False).adqs.AVAL.tolist() for s in (1, 1, 2))
    assert a == b
    assert a != c


def test_changes_reach_the_component():
    trial = ks.simulate("kap-parallel", n=36, truth=False, dropout=None, relapse=None, course=None)
    assert len(trial.adqs) == 36 * 6
    assert "adtte" not in trial
    with pytest.raises(ks.errors.DataError, match="Did you mean 'dropout'"):
        ks.simulate("kap-parallel", dropuot=None)


def test_a_scenario_of_ones_own():
    own = ks.Scenario(
        name="mine",
        arms=(ks_arm("Control", 0), ks_arm("KAP", 1, effect=-5.0)),
        response=response(days=(7, 14), reference_change=(-5.0, -8.0), onset=(0.5, 1.0), sd=(8.0, 10.0)),
    )
    trial = ks.simulate(own, n=20)
    assert list(trial.adqs.AVISIT.unique()) == ["Baseline", "Day 7", "Day 14"]
    assert trial.truth["mean_difference"][1]["value"] == pytest.approx(-5.0, abs=0.2)


def ks_arm(label, code, **more):
    from kapstats.simulation.scenario import Arm

    return Arm(label=label, code=code, **more)


def response(**fields):
    from kapstats.simulation.scenario import Response

    return Response(**fields)
