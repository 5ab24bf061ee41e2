"""The truth: closed forms against potential outcomes, stored values against a fresh sample."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

from kapstats.simulation import truth
from kapstats.simulation.draw import draw
from kapstats.simulation.scenario import load
from kapstats.simulation.truth.response import closed_means, closed_response

KAP = load("kap-parallel")


def test_truth_imports_no_estimator():
    folder = Path(truth.__file__).parents[1]
    allowed = ("kapstats.simulation", "kapstats.errors", "kapstats._types", "kapstats.data")  # readers, no estimator
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert all(n.startswith(allowed) for n in names if n.startswith("kapstats")), path.name


def test_closed_form_means_agree_with_a_large_sample():
    d = draw(KAP.change(people={"sites": 400}), n=60_000, seed=11, parts=["response"])
    change = d.scores.score - d.scores.base[:, None]
    want = closed_means(KAP)
    hit = -change >= 0.5 * d.scores.base[:, None]
    response = closed_response(KAP)
    for a in range(6):
        rows = d.subjects.arm == a
        error = change[rows].std(axis=0) / np.sqrt(rows.sum())
        assert np.abs(change[rows].mean(axis=0) - want[a]).max() < 4 * error.max()
        assert np.abs(hit[rows].mean(axis=0) - response[a]).max() < 4 * 0.5 / np.sqrt(rows.sum())


def test_without_clipping_the_difference_is_the_declared_effect():
    wide = KAP.change(response={"low": -200, "high": 260})
    difference = closed_means(wide) - closed_means(wide)[:1]
    want = np.outer([a.effect for a in KAP.arms], KAP.response.onset)
    np.testing.assert_allclose(difference, want, atol=2e-3)


def test_relapse_free_probability_is_the_latent_one_when_every_visit_is_held():
    """Seen at visits, S(t) is the latent survival at the last visit day before t, up to a day's jitter."""
    from kapstats.simulation.relapse import cumulative_hazard

    whole = KAP.change(relapse={"missed": 0.0})
    rows = truth.compute(whole, n=20_000, parts=["relapse"])["relapse_free"]
    arms = {a.label: a for a in KAP.arms}
    for row in rows:
        low, high = (np.exp(-cumulative_hazard(KAP.relapse, arms[row["TRT01P"]], row["time"] - d)) for d in (0, 8))
        assert low - 4 * row["mc_error"] < row["value"] < high + 4 * row["mc_error"]


@pytest.mark.parametrize("name", ["kap-parallel", "kap-parallel-null"])
def test_stored_truth_agrees_with_a_fresh_sample(name):
    known, scenario = truth.truth(name), load(name)
    assert known["digest"] == truth.digest(scenario), "python -m kapstats.simulation data/synthetic --truth"
    fresh = truth.compute(scenario, n=4000)
    compared = 0
    for quantity, rows in fresh.items():
        if not isinstance(rows, list):
            continue
        for new, old in zip(rows, known[quantity], strict=True):
            same = {k: v for k, v in new.items() if k not in ("value", "mc_error", "method")}
            assert same == {k: old[k] for k in same}
            # the error of a sample of 4000, as the large one tells it: what is rare may have nobody in the small one
            size = old["method"].rpartition("n = ")[2]
            error = old["mc_error"] * np.sqrt(int(size) / 4000) if old["mc_error"] else new["mc_error"]
            assert abs(new["value"] - old["value"]) <= 4.5 * error + 2e-6, (quantity, new, old)
            compared += 1
    assert compared > 400


def test_null_twin_has_no_effect_in_any_contrast():
    known = truth.truth("kap-parallel-null")
    for quantity, rows in known.items():
        if quantity.endswith("_difference"):
            assert {row["value"] for row in rows} == {0.0}, quantity
    assert {row["value"] for row in known["hazard_ratio"]} == {1.0}


def test_changes_to_a_scenario_change_its_truth():
    doubled = KAP.change(arms=[*KAP.arms[:1], *(a for a in KAP.arms[2:])])
    assert len(truth.truth(doubled.change(adverse_events=None, course=None))["hazard_ratio"]) == 4


def test_belief_is_part_of_the_total_effect():
    """Nine in ten on the drug believe so, three in ten on placebo: three points of expectancy add 1.8 to the effect."""
    arms = [{"label": "P", "code": 0, "believes": 0.3}, {"label": "D", "code": 1, "effect": -2.0, "believes": 0.9}]
    wide = {"low": -200, "high": 260, "expectancy": -3.0}
    s = KAP.change(name="belief", arms=arms, response=wide, relapse=None, adverse_events=None, course=None, dosing=None)
    means = closed_means(s)
    assert means[1, -1] - means[0, -1] == pytest.approx(-2.0 - 1.8, abs=5e-3)
    d = draw(s, n=20_000, seed=3, parts=["response"])
    change = d.scores.score[:, -1] - d.scores.base
    for a in (0, 1):
        rows = d.subjects.arm == a
        assert abs(change[rows].mean() - means[a, -1]) < 4 * change.std() / np.sqrt(rows.sum()) + 0.3
        assert abs(d.believers[rows].mean() - (0.3, 0.9)[a]) < 0.02
    same = draw(s.change(response={"expectancy": 0.0}), n=20_000, seed=3, parts=["response"])
    assert np.abs(same.scores.score - d.scores.score).max() == 3


def test_policy_effect_lies_between_nothing_and_the_hypothetical_one():
    rows = truth.truth("kap-parallel")["mean_difference"]
    at = {(r["TRT01P"], r["AVISIT"], r["strategy"]): r["value"] for r in rows}
    for (arm, visit, strategy), value in at.items():
        if strategy == "treatment policy":
            assert at[arm, visit, "hypothetical"] - 0.01 <= value < 0
