"""What scenarios can be told beside the built-in ones: own exposure, unblinding, sites, stops, confounding."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from kapstats.errors import DataError
from kapstats.kernels.aalen_johansen import aalen_johansen
from kapstats.kernels.product_limit import product_limit
from kapstats.kernels.risk_sets import risk_sets
from kapstats.simulation import relapse, truth
from kapstats.simulation.draw import draw
from kapstats.simulation.response import felt
from kapstats.simulation.scenario import load, simulate

KAP = load("kap-parallel").change(adverse_events=None, course=None, relapse=None, name="mechanisms")
WIDE = {"low": -300, "high": 400}
OWN = KAP.change(response={"exposure": -3.0, **WIDE})
BELIEVES = [{"label": "P", "code": 0, "believes": 0.3},
            {"label": "D", "code": 1, "route": "INTRAVENOUS", "dose": 0.5, "per_kg": True, "effect": -2.0,
             "believes": 0.3}]  # fmt: skip


def at(rows, **labels):
    """The value and error of the one row with these labels."""
    found = [r for r in rows if all(r.get(k) == v for k, v in labels.items())]
    assert len(found) == 1, (labels, len(found))
    return found[0]["value"], found[0]["mc_error"]


# ------------------------------------------------------------------------------------------------ own exposure


def test_the_response_follows_the_subjects_own_exposure():
    d, flat = (draw(s, n=6000, seed=3, parts=["response"]) for s in (OWN, OWN.change(response={"exposure": 0.0})))
    np.testing.assert_array_equal(d.scores.latent, flat.scores.latent)
    dose = felt(d.sessions.exposure.cmax, d.n)
    want = -3.0 * dose[:, None] * np.asarray(OWN.response.onset)
    np.testing.assert_allclose(d.scores.effect - flat.scores.effect, want, atol=1e-12)
    iv = d.subjects.arm == 1
    change = d.scores.score[iv, -1] - d.scores.base[iv]
    slope, variance = np.polyfit(dose[iv], change, 1, cov=True)
    assert abs(slope[0] + 3.0) < 4 * np.sqrt(variance[0, 0])
    assert d.disposition.policy[iv, -1].mean() > d.scores.score[iv, -1].mean()


def test_a_route_effect_is_the_sum_of_its_direct_and_its_mediated_part():
    found = truth.compute(OWN, n=4000, parts=["response"])
    last = {"AVISIT": "Day 28", "strategy": "hypothetical"}
    for arm, direct in [("KAP IV", -6.5), ("KAP Oral", -3.0)]:
        whole, own, through = (
            at(found[f"{k}_difference"], TRT01P=arm, **last)[0] for k in ("mean", "direct", "mediated")
        )
        assert whole == pytest.approx(own + through, abs=2e-6)
        assert own == pytest.approx(direct, abs=0.05)
        assert through < -1
    assert not [k for k in truth.compute(KAP, n=400, parts=["response"]) if k.startswith("mediated")]


def test_adverse_events_of_a_route_split_the_same_way():
    known = truth.truth("kap-parallel")
    for term, local in [("Dissociation", 0.0), ("Injection site pain", 1.0)]:
        labels = {"TRT01P": "KAP IM", "AEDECOD": term}
        parts = [at(known[f"{k}risk_difference"], **labels)[0] for k in ("", "direct_", "mediated_")]
        assert parts[0] == pytest.approx(parts[1] + parts[2], abs=2e-6)
        assert (parts[1] > 0.05) == bool(local)
        assert (parts[2] > 0.1) == (not local)


def test_exposure_without_dosing_is_refused():
    with pytest.raises(DataError, match="dosing"):
        draw(OWN.change(dosing=None), n=12)


# ------------------------------------------------------------------------------------------------ unblinding


def test_belief_follows_what_was_felt():
    s = KAP.change(arms=BELIEVES, response={"unblinding": 1.5, "expectancy": -4.0, **WIDE})
    d = draw(s, n=20_000, seed=5, parts=["response"])
    active = d.subjects.arm == 1
    dose = d.sessions.exposure.cmax
    high = dose > np.median(dose[active])
    assert d.believers[active & high].mean() > d.believers[active & ~high].mean() + 0.05
    assert abs(d.believers[~active].mean() - 0.3) < 0.015
    found = truth.compute(s, n=4000, parts=["response"])
    told, error = at(found["belief"], TRT01P="D")
    assert abs(d.believers[active].mean() - told) < 4 * (error + np.sqrt(told * (1 - told) / active.sum()))
    gap, error = at(found["mean_difference"], AVISIT="Day 28", strategy="hypothetical")
    assert gap == pytest.approx(-2.0 - 4.0 * (told - 0.3), abs=4 * error + 0.02)


def test_the_null_twin_of_all_this_has_no_effect():
    s = KAP.change(arms=BELIEVES, response={"unblinding": 1.5, "expectancy": -4.0, "exposure": -3.0}).null()
    d, other = (draw(s, n=400, seed=5, parts=["response"], arm=np.full(400, a)) for a in (0, 1))
    np.testing.assert_array_equal(d.scores.score, other.scores.score)
    np.testing.assert_array_equal(d.believers, other.believers)


# ------------------------------------------------------------------------------------------------ relapse

STOPS = load("kap-parallel").change(
    name="stops", response=None, dropout=None, dosing=None, adverse_events=None, course=None,
    relapse={"origin": "randomisation", "stop_median_days": 60.0},
)  # fmt: skip


def test_sites_and_therapists_move_the_hazard_and_nothing_else():
    plain = STOPS.change(relapse={"stop_median_days": None})
    d, shared = (draw(s, n=480, seed=7) for s in (plain, plain.change(relapse={"site_sd": 0.6, "therapist_sd": 0.4})))
    np.testing.assert_array_equal(d.subjects.arm, shared.subjects.arm)
    factor = (d.follow_up.latent / shared.follow_up.latent) ** plain.relapse.shape
    for t in range(16):
        own = factor[d.subjects.therapist == t]
        np.testing.assert_allclose(own, own[0], rtol=1e-9)
    sites = np.array([np.log(factor[d.subjects.site == s]).mean() for s in range(8)])
    assert sites.std() > 0.2
    many = draw(plain.change(relapse={"site_sd": 0.6, "therapist_sd": 0.4}), n=40_000, seed=7, apart=True)
    single = draw(plain, n=40_000, seed=7)
    spread = np.log((single.follow_up.latent / many.follow_up.latent) ** plain.relapse.shape).std()
    assert spread == pytest.approx(np.hypot(0.6, 0.4), rel=0.02)


def test_stopping_competes_with_relapse_and_is_in_the_truth():
    known = truth.compute(STOPS, n=20_000, parts=["relapse"])
    d = draw(STOPS, n=20_000, seed=2)
    f = d.follow_up
    assert not (f.event & f.stopped).any()
    status = np.where(f.event, 1, np.where(f.stopped, 2, 0))
    wrong = []
    for a, arm in enumerate(STOPS.arms[:3]):
        rows = d.subjects.arm == a
        curve = aalen_johansen(f.time[rows], status[rows], 2)
        for t in STOPS.relapse.milestones:
            k = np.searchsorted(curve.time, t, side="right") - 1
            for cause, name in enumerate(("RELAPSE", "TREATMENT STOPPED")):
                value, error = at(known["cumulative_incidence"], TRT01P=arm.label, time=t, cause=name)
                assert abs(curve.cif[k, cause] - value) < 4.5 * np.hypot(error, curve.se_cif[k, cause])
            sets = risk_sets(f.time[rows], f.event[rows])
            km, last = product_limit(sets), np.searchsorted(sets.time, t, side="right") - 1
            value, _ = at(known["cumulative_incidence"], TRT01P=arm.label, time=t, cause="RELAPSE")
            wrong.append((1 - km.survival[last] - value) / km.std_error[last])
            free, _ = at(known["relapse_free"], TRT01P=arm.label, time=t)
            assert 1 - free > value + 0.03, "without stopping more relapses are seen"
    assert min(wrong) > 4.5, "1 - Kaplan-Meier with stops as censoring is no probability of relapse"


def test_adtte_says_why_follow_up_ended():
    trial = simulate(STOPS, n=240, seed=3, truth=False)
    frame = trial.adtte
    assert set(frame.STATUS) == {0, 1, 2}
    assert ((frame.STATUS == 1) == (frame.CNSR == 0)).all()
    assert (frame.EVNTDESC[frame.STATUS == 2] == "TREATMENT STOPPED").all()
    assert "STATUS" not in simulate("kap-withdrawal", n=20, truth=False).adtte


def test_stopping_needs_no_relapse_model_to_be_exponential():
    arms = STOPS.arms[:2]
    days = relapse.stopping(50.0, arms, np.repeat([0, 1], 20_000), np.random.default_rng(1))
    assert np.median(days[:20_000]) == pytest.approx(50, abs=1.5)
    assert (days >= 1).all()


# ------------------------------------------------------------------------------------------------ the registry


def test_the_response_of_a_registry_is_confounded_by_indication():
    """Pooled routes are off by a third of the effect; within sex and age group they are not."""
    s = load("kap-registry").change(people={"sites": 2000})
    want, error = at(truth.truth("kap-registry")["mean_difference"], TRT01P="Intravenous", AVISIT="Day 28",
                     strategy="hypothetical")  # fmt: skip
    d = draw(s, n=60_000, seed=4, parts=["response"])
    who, change = d.subjects, d.scores.score[:, -1] - d.scores.base
    stratum = 2 * who.female + (who.age >= 45)

    def gap(rows):
        one, zero = (change[rows & (who.arm == a)] for a in (1, 0))
        return one.mean() - zero.mean(), np.sqrt(one.var() / one.size + zero.var() / zero.size)

    pooled, pooled_error = gap(np.ones(d.n, dtype=bool))
    parts = np.array([gap(stratum == k) for k in range(4)])
    share = np.bincount(stratum) / d.n
    whole, whole_error = share @ parts[:, 0], np.sqrt(share**2 @ parts[:, 1] ** 2)
    assert abs(whole - want) < 4 * np.hypot(whole_error, error)
    assert abs(pooled - want) > 5 * pooled_error


def test_the_response_of_the_registry_moves_nothing_else():
    whole = load("kap-registry")
    with_it, without = (simulate(s, truth=False) for s in (whole, whole.change(response=None, dropout=None)))
    for name in ("adae", "adex"):
        pd.testing.assert_frame_equal(with_it.datasets[name], without.datasets[name])
    pd.testing.assert_frame_equal(with_it.adsl[without.adsl.columns], without.adsl)
    assert "adqs" not in without


# ------------------------------------------------------------------------------------------------ strategies


def test_strategies_for_stopping_treatment_on_a_large_trial():
    """Every strategy computed from one trial in the simplest words, against the truth."""
    s = KAP.change(people={"sites": 400}, dropout={"intercept": -2.5, "slope": 1.0, "retained": 1.0})
    known = truth.compute(s, n=20_000, parts=["response"])
    d = draw(s, n=40_000, seed=6, parts=["response"])
    base, left = d.scores.base, d.disposition.left
    stays, fell = left > 4, base - d.scores.score[:, -1] >= 0.5 * base
    last = [d.scores.score[i, min(4, k - 1)] if k else base[i] for i, k in enumerate(left)]
    answers = {
        ("mean_change", "treatment policy"): d.disposition.policy[:, -1] - base,
        ("mean_change", "while on treatment"): np.array(last) - base,
        ("response", "composite"): fell & stays,
        ("response", "while on treatment"): base - np.array(last) >= 0.5 * base,
    }
    for (quantity, strategy), value in answers.items():
        for a, arm in enumerate(s.arms):
            x = value[d.subjects.arm == a]
            want, error = at(known[quantity], TRT01P=arm.label, AVISIT="Day 28", strategy=strategy)
            assert abs(x.mean() - want) < 4.5 * np.hypot(x.std() / np.sqrt(x.size), error), (quantity, strategy, arm)


def test_a_principal_stratum_that_is_everyone_has_the_hypothetical_effect():
    always = KAP.change(dropout={"mechanism": "MCAR", "intercept": -2.0}, arms=KAP.arms[:2])
    same = always.change(arms=[{"label": "Placebo", "code": 0}, {"label": "X", "code": 1, "effect": -6.5}])
    found = truth.compute(same, n=20_000, parts=["response"])["mean_difference"]
    whole, _ = at(found, AVISIT="Day 28", strategy="hypothetical")
    part, error = at(found, AVISIT="Day 28", strategy="principal stratum")
    assert abs(part - whole) < 4 * error


def test_reference_based_strategies_lie_in_order():
    """Effect after stopping: kept whole (hypothetical) > kept at its last level > fades (policy) > gone (jump)."""
    found = truth.truth("kap-parallel")["mean_difference"]
    for arm in ("KAP IV", "KAP Nasal"):
        steps = ("hypothetical", "copy increments in reference", "treatment policy", "jump to reference")
        values = [at(found, TRT01P=arm, AVISIT="Day 28", strategy=k)[0] for k in steps]
        assert values == sorted(values)
        assert values[0] < values[-1] - 0.3


def test_reference_based_imputation_agrees_with_its_truth():
    """Jump to reference by conditional-mean imputation on one large trial."""
    from kapstats.certification.estimators import named

    s = KAP.change(people={"sites": 100}, arms=KAP.arms[:2], dropout={"intercept": -2.5}, response=WIDE)
    known = truth.compute(s, n=20_000, parts=["response"])["mean_difference"]
    d = draw(s, n=800, seed=8, parts=["response"])
    answer = named("impute-j2r-jackknife").analyse(s, [d], 0.95)
    want, error = at(known, AVISIT="Day 28", strategy="jump to reference")
    kept, _ = at(known, AVISIT="Day 28", strategy="hypothetical")
    assert abs(answer.estimate[0, -1] - want) < 4 * np.hypot(answer.std_error[0, -1], error)
    assert want - kept > 1
