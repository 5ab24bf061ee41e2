"""Simulation: streams, generators, data sets, and the pharmacokinetics against published results."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from kapstats.errors import DataError, FormulaError
from kapstats.simulation import adam, pharmacokinetics, relapse, response, scenario, subjects
from kapstats.simulation.draw import draw
from kapstats.simulation.scenario import Arm, Relapse, Scenario, load, simulate
from kapstats.simulation.streams import stream

DATA = Path(__file__).parents[2] / "data" / "synthetic"
KAP = load("kap-parallel")


# ------------------------------------------------------------------------------------------------ streams


def test_a_component_that_is_added_does_not_move_the_draws_of_the_others():
    alone = draw(KAP.change(adverse_events=None, course=None, relapse=None), n=60, seed=3)
    whole = draw(KAP, n=60, seed=3)
    assert alone.events is None
    assert whole.events is not None
    np.testing.assert_array_equal(alone.scores.score, whole.scores.score)
    np.testing.assert_array_equal(alone.disposition.observed, whole.disposition.observed)
    np.testing.assert_array_equal(alone.sessions.cmax, whole.sessions.cmax)


def test_streams_differ_by_seed_scenario_replicate_and_component():
    first = [stream(*key).random() for key in [(1, "a", 0, "x"), (2, "a", 0, "x"), (1, "b", 0, "x"), (1, "a", 1, "x"),
                                               (1, "a", 0, "y")]]  # fmt: skip
    assert len(set(first)) == 5


def test_replicates_are_independent_of_those_drawn_before():
    direct = draw(KAP, n=30, seed=1, replicate=7, parts=["response"])
    for i in range(7):
        draw(KAP, n=30, seed=1, replicate=i, parts=["response"])
    np.testing.assert_array_equal(direct.scores.score, draw(KAP, n=30, seed=1, replicate=7).scores.score)


# ------------------------------------------------------------------------------------------------ generators


def test_blocks_keep_the_allocation_within_every_site():
    who = subjects.generate(KAP, 240, stream(1, "x", 0, "subjects"), stream(1, "x", 0, "indication"))
    table = np.zeros((8, 6), dtype=int)
    np.add.at(table, (who.site, who.arm), 1)
    assert table.min() == table.max() == 5


def test_visit_covariance_is_the_one_the_scenario_states():
    spec = KAP.response
    wide = KAP.change(response={"low": -1000, "high": 1000, "entry": -1000})
    d = draw(wide.change(dropout=None), n=40_000, seed=5, parts=["response"])
    placebo = d.subjects.arm == 0
    values = np.column_stack([d.scores.base, d.scores.score])[placebo]
    want = response.correlation_matrix(spec.correlation, 6)
    assert np.abs(np.corrcoef(values.T) - want).max() < 0.035
    np.testing.assert_allclose(values[:, 1:].std(axis=0), spec.sd, rtol=0.04)
    assert spec.sd[0] < spec.sd[-1]


def test_scores_are_integers_within_the_scale_and_baselines_meet_the_entry_criterion():
    d = draw(KAP, n=2000, seed=2, parts=["response"])
    assert d.scores.base.min() >= 28
    assert d.scores.score.min() >= 0
    assert d.scores.score.max() <= 60
    np.testing.assert_array_equal(d.scores.score % 1, 0)


def test_leaving_depends_on_what_was_observed_under_mar_only():
    def slope(mechanism: str) -> float:
        s = KAP.change(dropout={"mechanism": mechanism, "slope": 2.0, "gap": 0.0, "intercept": -3.0})
        d = draw(s, n=20_000, seed=4, parts=["response"])
        stayed = d.disposition.left >= 3
        seen = d.scores.score[stayed, 2] - d.scores.base[stayed]
        return float(np.corrcoef(seen, d.disposition.left[stayed] == 3)[0, 1])

    assert slope("MAR") > 0.2
    assert abs(slope("MCAR")) < 0.03


def test_an_unknown_mechanism_is_refused():
    with pytest.raises(FormulaError, match="MCAR"):
        draw(KAP.change(dropout={"mechanism": "MRA"}), n=12)


def test_relapse_is_seen_at_the_first_visit_held_after_it_and_confirmed():
    d = draw(KAP, n=3000, seed=6, parts=["relapse"])
    f, threshold = d.follow_up, KAP.relapse.threshold
    event = f.event & f.at_risk
    assert np.all(f.latent[event] <= f.right[event])
    assert np.all(f.left[event] < f.latent[event])
    for i in np.flatnonzero(event)[:200]:
        day, score = f.day[i, f.held[i]], f.score[i, f.held[i]]
        assert list(score[-2:] >= threshold) == [True, True]
        assert np.all(score[:-2] < threshold)
        assert day[-2] == f.time[i]
        assert 5 <= day[-1] - day[-2] <= 15


def test_latent_times_follow_the_piecewise_hazards():
    spec = Relapse(median_days=50, shape=1.2, change_day=30.0)
    arms = (Arm(label="a", code=0), Arm(label="b", code=1, hazard_ratio=0.4, late_hazard_ratio=0.9))
    arm = np.repeat([0, 1], 20_000)
    t = relapse.latent_times(spec, arms, arm, np.random.default_rng(1).standard_exponential(arm.size))
    for index in (0, 1):
        for day in (20.0, 30.0, 80.0):
            want = np.exp(-relapse.cumulative_hazard(spec, arms[index], day))
            assert abs((t[arm == index] > day).mean() - want) < 0.012


# ------------------------------------------------------------------------------------------------ pharmacokinetics


@pytest.mark.parametrize(
    ("route", "dose", "sprays", "cmax", "tmax"),
    [("NASAL", 28, 1, 43.9, 36), ("NASAL", 56, 2, 73.0, 38), ("NASAL", 84, 3, 102.2, 40), ("ORAL", 84, 1, 25.8, 87),
     ("INTRAVENOUS", 28, 1, 99.9, 40)],
)  # fmt: skip
def test_published_esketamine_model_gives_back_peaks(route, dose, sprays, cmax, tmax):
    """Typical subject of Perez-Ruixo 2021, all sprays at once, integrated by an independent solver: 1 part in 1000."""
    curve = pharmacokinetics.courses(
        route, np.array([float(dose)]), np.zeros((1, 8)), sprays=sprays, gap=0.0, hours=6, step=1 / 60
    )
    found = pharmacokinetics.summarise(curve, [], 1 / 60)
    assert found.cmax[0] == pytest.approx(cmax, abs=0.06)
    assert found.tmax[0] == pytest.approx(tmax, abs=1)


def test_published_bioavailability_and_volume():
    """Absolute bioavailability 54% and 51% (56, 84 mg nasal), 18.6% (swallowed), Vss 752 L."""
    assert pharmacokinetics.bioavailability("NASAL", 2) == pytest.approx(0.54, abs=0.005)
    assert pharmacokinetics.bioavailability("NASAL", 3) == pytest.approx(0.51, abs=0.005)
    assert pharmacokinetics.bioavailability("ORAL") == pytest.approx(0.186, abs=0.01)
    assert pharmacokinetics.bioavailability("SUBLINGUAL") == pytest.approx(0.30, abs=0.01)
    d = pharmacokinetics.DISPOSITION
    assert d["Vc"] + d["Vp1"] + d["Vp2"] == 752


def test_area_under_the_curve_agrees_with_bioavailability():
    """Dose F / CL = AUC, an identity between the integrator and the first-pass algebra."""
    for route, sprays in [("INTRAVENOUS", 1), ("ORAL", 1), ("NASAL", 3), ("SUBLINGUAL", 1), ("INTRAMUSCULAR", 1)]:
        curve = pharmacokinetics.courses(
            route, np.array([50.0]), np.zeros((1, 8)), sprays=sprays, hours=150, step=2.5 / 60
        )
        d = pharmacokinetics.DISPOSITION
        intrinsic = (d["kel"] + d["kmet"]) * d["Vh"]
        clearance = d["Qh"] * intrinsic / (d["Qh"] + intrinsic)
        area = pharmacokinetics.summarise(curve, [], 2.5 / 60).auc[0]
        expected = 50_000 * pharmacokinetics.bioavailability(route, sprays) / clearance
        assert area == pytest.approx(expected, rel=3e-3)


def test_three_compartment_infusion_gives_the_published_peak():
    """Simons 2022: 20 mg over 20 minutes, arterial peak 260 and 273 ng/mL in two sessions; 268 from the typicals."""
    peak = pharmacokinetics.three_compartment_infusion(
        (11.6, 39.0, 174.0), (1.48, 2.43, 1.21), 20.0, 20.0, np.array([20.0])
    )
    assert peak[0] * 1000 == pytest.approx(268.2, rel=2e-3)
    assert 260 < peak[0] * 1000 < 273


def test_propagator_is_the_matrix_exponential():
    from scipy.linalg import expm

    m = pharmacokinetics.system(pharmacokinetics.DISPOSITION, np.array([9.0]), np.array([1.0]))
    e, f = pharmacokinetics.propagators(m, 0.7)
    np.testing.assert_allclose(e[0], expm(m[0] * 0.7), rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(m[0] @ f[0] + np.eye(6), e[0], rtol=1e-10, atol=1e-12)


# ------------------------------------------------------------------------------------------------ scenarios and data


def test_unknown_names_are_errors_that_tell_the_nearest():
    with pytest.raises(DataError, match="kap-parallel"):
        load("kap-paralel")
    with pytest.raises(DataError, match="gap"):
        KAP.change(dropout={"gaps": 0.1})
    with pytest.raises(DataError, match="arms"):
        scenario.build(Scenario, {"name": "x"}, "x")


def test_null_twin_differs_between_arms_in_nothing():
    null = load("kap-parallel-null")
    d = draw(null, n=60, seed=8)
    again = draw(null, n=60, seed=8, arm=np.zeros(60, dtype=int))
    np.testing.assert_array_equal(d.scores.score, again.scores.score)
    np.testing.assert_array_equal(d.disposition.left, again.disposition.left)
    np.testing.assert_array_equal(d.follow_up.latent, again.follow_up.latent)
    np.testing.assert_array_equal(d.events.subject, again.events.subject)
    np.testing.assert_array_equal(d.courses.cadss, again.courses.cadss)


@pytest.mark.parametrize("name", sorted(p.name for p in DATA.iterdir() if (p / "adsl.csv").exists()))
def test_built_in_data_are_regenerated_bit_for_bit(name, tmp_path):
    folder = adam.write(simulate(name), tmp_path)
    for line in (DATA / name / "SHA256SUMS").read_text().splitlines():
        want, file = line.split("  ")
        assert hashlib.sha256((DATA / name / file).read_bytes()).hexdigest() == want, f"{file} was edited by hand"
        assert (folder / file).read_bytes() == (DATA / name / file).read_bytes(), file


def test_data_sets_agree_with_each_other():
    trial = simulate("kap-parallel", n=120, seed=9, truth=False)
    ids = set(trial.adsl.USUBJID)
    for frame in trial.datasets.values():
        assert set(frame.USUBJID) <= ids
    qs = trial.adqs
    assert (qs.CHG.dropna() == (qs.AVAL - qs.BASE)[qs.CHG.notna()]).all()
    assert qs.CHG.isna().sum() == 120
    last = qs[qs.AVISITN == 28].set_index("USUBJID")
    responders = set(last.index[last.CHG <= -0.5 * last.BASE])
    assert set(trial.adtte.USUBJID) == responders
    assert (trial.adtte.LEFT <= trial.adtte.AVAL).all()
    assert (trial.adtte.RIGHT.isna() == (trial.adtte.CNSR == 1)).all()
    sessions = trial.adex.groupby("USUBJID").SESSION.max()
    events = trial.adae
    assert (events.USUBJID.map(sessions) >= events.SESSION).all()
    assert (events.ONSETMIN >= 1).all()
    assert (events.DURMIN > 0).all()


# ------------------------------------------------------------------------------------------------ other designs


@pytest.mark.parametrize("name", [n for n in scenario.names() if not n.startswith("kap-parallel")])
def test_every_scenario_makes_a_trial_with_a_truth(name):
    trial = simulate(name, n=60)
    assert len(trial.adsl) == 60
    tables = [k for k, v in trial.truth.items() if isinstance(v, list)]
    assert tables
    if "adqs" in trial:
        assert {"mean_change", "mean_difference"} <= set(tables)
    if "adtte" in trial:
        assert {"rmst", "relapse_free"} <= set(tables)
    if "adae" in trial:
        assert {"incidence", "risk_difference"} <= set(tables)


def test_crossover_has_periods_and_carry_over():
    trial = simulate("kap-crossover", n=400, seed=3, truth=False)
    qs = trial.adqs[trial.adqs.AVISITN > 0]
    assert set(qs.APERIOD) == {1, 2}
    assert (qs.TRTP == qs.TRT01P)[qs.APERIOD == 1].all()
    assert (qs.TRTP != qs.TRT01P)[qs.APERIOD == 2].all()
    late = qs[qs.AVISITN == 28].groupby("TRTP").CHG.mean()
    first = qs[qs.AVISITN == 7].groupby("TRTP").CHG.mean()
    assert abs(late["Ketamine"] - late["Midazolam"]) < abs(first["Ketamine"] - first["Midazolam"])


def test_withdrawal_has_hazards_that_are_not_proportional():
    s = load("kap-withdrawal")
    assert "hazard_ratio" not in simulate("kap-withdrawal", n=20).truth
    d = draw(s.change(relapse={"leave_per_visit": 0.0}), n=40_000, seed=1)
    t, arm = d.follow_up.latent, d.subjects.arm

    def ratio(a, b):
        hazard = [-np.log((t[arm == k] > b).mean() / (t[arm == k] > a).mean()) for k in (0, 1)]
        return hazard[1] / hazard[0]

    assert ratio(0, 56) == pytest.approx(0.35, abs=0.04)
    assert ratio(56, 280) == pytest.approx(0.65, abs=0.05)


def test_factorial_outcomes_cluster_by_therapist():
    s = load("kap-factorial").change(dropout=None, response={"therapist_sd": 6.0})
    d = draw(s, n=4000, seed=2, parts=["response"])
    change = d.scores.score[:, 2] - d.scores.base
    means = np.array([change[d.subjects.therapist == k].mean() for k in range(20)])
    assert means.std() > 4
    assert set(simulate("kap-factorial", n=24, truth=False).adsl.THERAPY) == {"Education", "Therapy"}


def test_cohort_is_mostly_lost_and_not_at_random():
    d = draw(load("kap-cohort"), n=4000, seed=2)
    seen = d.disposition.observed
    assert 0.75 < 1 - seen[:, 1].mean() < 0.9
    assert 0.88 < 1 - seen[:, 2].mean() < 0.97
    gone = d.disposition.left == 1
    assert d.scores.score[gone, 1].mean() > d.scores.score[seen[:, 1], 1].mean() + 0.5


def test_registry_is_confounded_by_sex_and_age():
    d = draw(load("kap-registry"), n=4000, seed=2, parts=["response"])
    who = d.subjects
    assert who.female[who.arm == 0].mean() > who.female[who.arm == 1].mean() + 0.15
    assert who.age[who.arm == 0].mean() < who.age[who.arm == 1].mean() - 3


def test_a_longer_registry_begins_with_a_shorter_one(tmp_path):
    import pandas as pd

    from kapstats.simulation.registry import stream as registry

    short, long = (registry(tmp_path / str(n), n, chunk=40) for n in (60, 100))
    a, b = (pd.read_parquet(f["adsl"]) for f in (short, long))
    assert len(a) == 60
    assert b.USUBJID.nunique() == len(b) == 100
    pd.testing.assert_frame_equal(a, b.head(60))


def test_scales_make_scenarios():
    for code in response.SCALES:
        fields = response.scale(code) | {"reference_change": (-1.0,) * 5}
        spread = float(fields["baseline_sd"]) * 1.2
        trial = simulate(KAP.change(response=fields | {"sd": (spread,) * 5, "site_sd": 0.0, "therapist_sd": 0.0}),
                         n=12, truth=False)  # fmt: skip
        assert trial.adqs.PARAMCD.unique().tolist() == [code]
        assert trial.adqs.AVAL.between(fields["low"], fields["high"]).all()


def test_calibration_targets_are_met():
    from kapstats.simulation import calibration

    missed = [(t.what, value) for t, value, error in calibration.measured(6000) if not calibration.met(t, value, error)]
    assert missed == []
