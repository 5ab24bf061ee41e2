"""A slice of every certificate of counts, rates, first events and signals: sound methods pass, controls fail."""

import numpy as np
import pytest
from scipy.stats import binom

import kapstats as ks
from kapstats.certification.estimators import safety_tables, scenario
from kapstats.certification.performance import failing
from kapstats.certification.study import certify
from kapstats.simulation import safety_worlds as worlds

#: a fit per replicate costs a hundred times what a row of a table does
FEWER = {"time_to_first": 100, "time_to_first-1-km": 100, "recurrent-negative-binomial": 60}


@pytest.mark.parametrize("certificate", safety_tables.CERTIFICATES, ids=lambda c: c.estimator)
def test_a_slice_speaks_for_the_method_and_against_the_control(certificate):
    replicates = FEWER.get(certificate.estimator, 400)
    frame = certify(certificate.estimator, scenario(certificate.scenario), replicates, seed=1, n=certificate.n).frame
    assert any(failing(frame, 0.95)) == certificate.control
    assert certificate.control or (frame.convergence == 1).all()


def test_the_truth_of_first_events_is_their_share_among_many():
    time, status, first = worlds.first_events(np.random.default_rng(1), 400_000)
    event = (status == 1) & (time <= worlds.HORIZON)
    # the closed form is of a world that nobody leaves
    generator = np.random.default_rng(2)
    a, b = generator.exponential(1 / worlds.HAZARD, 400_000), generator.exponential(1 / worlds.DEATH, 400_000)
    share = ((a < b) & (a <= worlds.HORIZON)).mean()
    truth = worlds.first_event_probability()
    assert abs(share - truth) < 4 * np.sqrt(truth * (1 - truth) / 400_000)
    assert event[first].mean() < truth - 0.03
    assert event[~first].mean() < event[first].mean() - 0.05


def test_strata_are_confounded_and_their_effects_are_what_they_say():
    cells = [worlds.strata(np.random.default_rng(k), 4000, "risk-ratio") for k in range(40)]
    x1, n1, x2, n2 = (np.mean([c[i] for c in cells], axis=0) for i in range(4))
    assert np.allclose((x1 / n1) / (x2 / n2), np.array(worlds.EFFECTS["risk-ratio"])[:, None], rtol=0.08)
    crude = (x1.sum(axis=1) / n1.sum(axis=1)) / (x2.sum(axis=1) / n2.sum(axis=1))
    assert (crude < 0.75 * np.array(worlds.EFFECTS["risk-ratio"])).all()


def test_score_methods_cover_by_enumeration():
    """Mean exact coverage over risks, 12 against 9: scores are near 95% and never below 90%."""
    n1, n2 = 12, 9
    x1, x2 = (v.ravel() for v in np.meshgrid(np.arange(n1 + 1), np.arange(n2 + 1), indexing="ij"))
    risks = [(a, b) for a in (0.1, 0.3, 0.5, 0.8) for b in (0.1, 0.3, 0.5, 0.8)]
    cases = [(ks.risk_difference, m, lambda a, b: a - b) for m in ("miettinen-nurminen", "scas")]
    cases += [(ks.risk_ratio, m, lambda a, b: a / b) for m in ("miettinen-nurminen", "koopman", "scas")]
    cases += [(ks.odds_ratio, m, lambda a, b: a * (1 - b) / (b * (1 - a))) for m in ("miettinen-nurminen", "mid-p")]
    for call, method, truth in cases:
        found = call(x1, n1, x2, n2, method=method)
        low, high = found["conf_low"].to_numpy(), found["conf_high"].to_numpy()
        covered = []
        for a, b in risks:
            weight = binom.pmf(x1, n1, a) * binom.pmf(x2, n2, b)
            covered.append(weight[(low <= truth(a, b) + 1e-12) & (truth(a, b) <= high + 1e-12)].sum())
        assert 0.935 < np.mean(covered) < 0.985, method
        assert min(covered) > 0.90, method
