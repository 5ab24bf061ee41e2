"""Certificates: the machinery, a short slice of each, and the negative controls that fail."""

from __future__ import annotations

import dataclasses
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from kapstats.certification import estimators, execution, mmrm_batch, performance, programme, study, validation
from kapstats.certification.estimators import common, response, safety
from kapstats.errors import DataError, FormulaError
from kapstats.kernels import berry_berry, two_proportions
from kapstats.simulation import safety_worlds
from kapstats.simulation.draw import draw
from kapstats.simulation.scenario import load

KAP = load("kap-parallel")
TWO = KAP.change(name="kap-two-arms", arms=KAP.arms[:2], relapse=None, adverse_events=None, course=None, dosing=None)


SHORT = {"days": (7, 14, 28), "reference_change": (-9.0, -12.0, -15.0), "onset": (0.9, 1.0, 1.0),
         "sd": (10.0, 11.0, 12.5), "correlation": ((0.3,), (0.3, 0.6), (0.2, 0.5, 0.7))}  # fmt: skip


class Here(Executor):
    """An executor that runs at once: anything with submit() will do."""

    def submit(self, fn, /, *args, **kwargs):
        future: Future = Future()
        future.set_result(fn(*args, **kwargs))
        return future


# ------------------------------------------------------------------------------------------------ execution


def test_same_digest_in_this_process_in_a_pool_and_for_every_chunk_size():
    def digest(**options):
        return ks.certify("risk_difference", "kap-parallel", replicates=70, seed=5, n=60, **options).meta["digest"]

    first = digest()
    assert digest(executor=Here()) == digest(chunk=25) == digest(chunk=1000) == first
    with ProcessPoolExecutor(2) as pool:
        assert digest(executor=pool, chunk=20) == first


def test_mmrm_gives_the_same_bits_for_every_chunk_size():
    digests = {ks.certify("mmrm", TWO, replicates=50, seed=5, n=30, chunk=size).meta["digest"] for size in (20, 40, 50)}
    assert len(digests) == 1


def test_an_interrupted_run_resumes_from_its_chunks(tmp_path, monkeypatch):
    whole = ks.certify("proportion", "kap-parallel", replicates=80, seed=2, n=60)
    calls = []

    def stops(task, start, stop):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(start)
        return study.work(task, start, stop)

    real = execution.run
    with monkeypatch.context() as patch:
        patch.setattr(execution, "run", lambda work, *rest: real(stops, *rest))
        with pytest.raises(KeyboardInterrupt):
            ks.certify("proportion", "kap-parallel", replicates=80, seed=2, n=60, chunk=20, out=tmp_path)
    assert len(list(tmp_path.rglob("*.npy"))) == 2
    done = []
    with monkeypatch.context() as patch:
        patch.setattr(execution, "run", lambda work, *rest: real(lambda *a: done.append(a[1]) or work(*a), *rest))
        again = ks.certify("proportion", "kap-parallel", replicates=80, seed=2, n=60, chunk=20, out=tmp_path)
    assert done == [40, 60]
    assert again.meta["digest"] == whole.meta["digest"]
    pd.testing.assert_frame_equal(again.frame, whole.frame)
    assert (tmp_path / "proportion-kap-parallel-n60-seed2.csv").exists()


def test_chunks_of_another_scenario_are_not_taken_for_this_one(tmp_path):
    a = ks.certify("proportion", "kap-parallel", replicates=20, n=60, out=tmp_path)
    b = ks.certify("proportion", "kap-parallel", replicates=20, n=60, out=tmp_path, dropout={"intercept": -1.0})
    assert a.meta["digest"] != b.meta["digest"]


def test_a_precision_stops_early_at_the_same_place_on_every_executor():
    runs = [
        ks.certify("rmst", "kap-parallel", replicates=4000, n=60, precision=0.03, executor=e, chunk=c).meta
        for e, c in ((None, 200), (Here(), 500))
    ]
    assert runs[0]["replicates"] == runs[1]["replicates"] == 1000
    assert runs[0]["digest"] == runs[1]["digest"]


def test_what_cannot_execute_is_refused():
    with pytest.raises(FormulaError, match="submit"):
        ks.certify("rmst", "kap-parallel", replicates=20, executor="dask")
    with pytest.raises(FormulaError, match="Did you mean 'mmrm'"):
        ks.certify("mmrn", "kap-parallel", replicates=20)


# ------------------------------------------------------------------------------------------------ measures


def test_measures_of_a_normal_mean_are_what_theory_says():
    rng = np.random.default_rng(1)
    x = rng.normal(1.0, 0.5, 20_000)
    rows = np.column_stack([x, np.full(x.size, 0.5), x - 0.98, x + 0.98, np.abs(x - 1) / 9, np.ones(x.size)])
    rows[:100, -1] = 0
    out = performance.measures(rows, 1.0, 0.0, 0.95)
    assert abs(out["bias"]) < 3 * out["bias_mcse"]
    assert out["bias_mcse"] == pytest.approx(0.5 / np.sqrt(19_900), rel=0.03)
    assert out["se_ratio"] == pytest.approx(1, abs=3 * out["se_ratio_mcse"])
    assert out["coverage"] == pytest.approx(0.95, abs=3 * out["coverage_mcse"])
    assert out["convergence"] == pytest.approx(1 - 100 / 20_000)
    assert performance.certified(out, 0.95)
    assert not performance.certified(performance.measures(rows, 1.1, 0.0, 0.95), 0.95)


def test_a_test_that_rejects_a_true_null_too_often_fails():
    nothing = np.full(4000, np.nan)
    p = np.linspace(0, 1, 4000)
    rows = [np.column_stack([nothing, nothing, nothing, nothing, x, np.ones(4000)]) for x in (p, p**1.5)]
    honest, eager = (performance.measures(r, 1.0, 0.0, 0.95) for r in rows)
    assert performance.certified(honest, 0.95)
    assert not performance.certified(eager, 0.95)
    assert performance.certified({**eager, "truth": 0.6}, 0.95)


def test_a_result_has_no_times_and_its_meta_does():
    result = ks.certify("kaplan_meier", "kap-parallel", replicates=20, seed=1)
    wanted = ["estimand", "bias", "se_ratio", "coverage", "coverage_mcse", "rejection", "convergence"]
    assert set(wanted) <= set(result.frame.columns)
    assert not [c for c in result.frame if "sec" in c or "time" in c or "host" in c]
    assert result.meta["seconds"] > 0


# ------------------------------------------------------------------------------------------------ in the loop


def test_batch_mmrm_agrees_with_the_library_on_the_same_trial():
    from kapstats.response.mmrm import mmrm

    d = [draw(KAP, n=60, seed=9, replicate=i, parts=["response"]) for i in range(3)]
    answer = estimators.named("mmrm").analyse(KAP, d, 0.95)
    rows = estimators.named("mmrm").rows(KAP)
    trial = ks.simulate("kap-parallel", n=60, seed=9, replicate=2, truth=False)
    data = trial.adqs[trial.adqs.AVISITN > 0]
    fit = mmrm("CHG ~ BASE*AVISIT + TRT01P*AVISIT + us(AVISIT | USUBJID)", data)
    frame = fit.lsmeans("TRT01P", by="AVISIT").contrast("trt.vs.ctrl").to_frame()
    for j, row in enumerate(rows):
        theirs = frame[(frame.contrast == row["contrast"]) & (row["AVISIT"] == frame.AVISIT)].iloc[0]
        assert answer.estimate[2, j] == pytest.approx(theirs.estimate, abs=1e-7)
        assert answer.std_error[2, j] == pytest.approx(theirs.std_error, rel=1e-6)
        assert answer.low[2, j] == pytest.approx(theirs.conf_low, abs=1e-5)
        assert answer.p[2, j] == pytest.approx(theirs.p_value, abs=1e-6)


def test_batch_statistics_equal_the_general_ones():
    from kapstats.kernels.pattern_moments import layout, moments

    d = draw(KAP, n=48, seed=3, parts=["response"])
    y, seen = d.disposition.policy - d.scores.base[:, None], d.disposition.observed
    w = mmrm_batch.covariates(d.subjects.arm, d.scores.base, 6)
    batch = mmrm_batch.statistics(w[None], y[None], seen[None])
    subject, visit = np.nonzero(seen)
    z = np.zeros((subject.size, 36))
    for row, (i, s) in enumerate(zip(subject, visit, strict=True)):
        z[row, s * 7 : (s + 1) * 7], z[row, 35] = w[i], y[i, s]
    general = moments(z, layout(subject, visit, np.zeros(48, dtype=int), 5))
    order = np.lexsort(general.seen[:, ::-1].T), np.lexsort(batch.seen[:, ::-1].T)
    np.testing.assert_array_equal(general.seen[order[0]], batch.seen[order[1]])
    assert general.gram.sum() == pytest.approx(batch.gram.sum(), rel=1e-12)
    np.testing.assert_allclose(np.sort(general.gram.ravel()), np.sort(batch.gram.ravel()), atol=1e-8)


def test_first_events_make_aalen_johansen_the_crude_proportion():
    d = [draw(KAP, n=120, seed=4, replicate=i) for i in range(2)]
    aj = estimators.named("aalen-johansen").analyse(KAP, d, 0.95)
    x, n = safety.counts(KAP, d)
    np.testing.assert_allclose(aj.estimate, x[:, :, 0] / n, atol=1e-12)
    assert (estimators.named("1-km").analyse(KAP, d, 0.95).estimate >= aj.estimate - 1e-12).all()


# ------------------------------------------------------------------------------------------------ callables


def difference_of_completers(trial):
    """Difference in mean change at day 28 of those seen there, with Wald limits."""
    last = trial.adqs[trial.adqs.AVISITN == 28]
    rows = []
    for arm in trial.arms[1:]:
        a, b = (last.loc[name == last.TRT01P, "CHG"] for name in (arm, trial.arms[0]))
        estimate, error = a.mean() - b.mean(), np.sqrt(a.var() / len(a) + b.var() / len(b))
        rows.append({"contrast": f"{arm} - {trial.arms[0]}", "AVISIT": "Day 28", "estimate": estimate,
                     "std_error": error, "conf_low": estimate - 2 * error,
                     "conf_high": estimate + 2 * error})  # fmt: skip
    return pd.DataFrame([*rows, {"contrast": "nobody - nothing", "AVISIT": "Day 28", "estimate": 0.0}])


def test_a_callable_is_certified_and_rows_without_a_truth_are_left_out():
    result = ks.certify(difference_of_completers, TWO, replicates=60, seed=6, n=80)
    assert result.frame.estimand.tolist() == ["mean_difference: KAP IV - Placebo, Day 28, hypothetical, MADRS"]
    row = result.frame.iloc[0]
    assert row.convergence == 1.0
    assert 0.85 < row.coverage <= 1
    assert abs(row.bias) < 4 * row.bias_mcse


def test_a_callable_that_fails_counts_as_not_converged():
    def fails(trial):
        if trial.adsl.AGE.iloc[0] % 2:
            raise ks.errors.ConvergenceError("no")
        return difference_of_completers(trial)

    result = ks.certify(fails, TWO, replicates=41, seed=7, n=40, quantity="mean_difference")
    assert 0 < result.frame.convergence.iloc[0] < 1


def test_answers_of_the_library_find_their_truth():
    def cox(trial):
        return ks.cox("Surv(AVAL, CNSR == 0) ~ TRT01P", trial.adtte).coefficients

    def rmst(trial):
        return ks.rmst("Surv(AVAL, CNSR == 0) ~ TRT01P", trial.adtte, tau=77)

    def risk(trial):
        return ks.incidence(trial, by="TRT01A").compare(reference="Placebo")

    found = {f.__name__: ks.certify(f, "kap-parallel", replicates=3, seed=2).frame for f in (cox, rmst, risk)}
    assert found["cox"].truth.tolist() == pytest.approx(np.log([a.hazard_ratio for a in KAP.arms[1:]]))
    assert [e.split(":")[0] for e in found["rmst"].estimand] == ["rmst"] * 6 + ["rmst_difference"] * 5
    assert len(found["risk"]) == 170
    named = ks.certify("rmst", "kap-parallel", replicates=3, seed=2).frame
    np.testing.assert_allclose(found["rmst"].estimate, named.estimate, rtol=1e-9)
    by_name = ks.certify("cox", KAP, replicates=3, seed=2).frame
    np.testing.assert_allclose(found["cox"].estimate, by_name.estimate, rtol=1e-6)


def test_an_answer_that_names_no_visit_is_refused_and_not_guessed():
    def unclear(trial):
        return difference_of_completers(trial)[["contrast", "estimate"]]

    with pytest.raises(DataError, match="AVISIT"):
        ks.certify(unclear, TWO, replicates=20, n=40)


def test_a_callable_about_something_else_is_an_error():
    with pytest.raises(DataError, match="mean_difference"):
        ks.certify(lambda t: pd.DataFrame({"contrast": ["a - b"], "estimate": [1.0]}), TWO, replicates=20, n=40)


# ------------------------------------------------------------------------------------------------ in brief


def failures(result, level=0.95):
    return result.frame.estimand[performance.failing(result.frame, level)].tolist()


def test_kenward_roger_passes_at_ten_per_arm_where_z_fails():
    """Judged at the 99% level, where 17 degrees of freedom tell a normal from a t in 2500 replicates."""
    short, level = TWO.change(response=SHORT), 0.99
    truth = {r["AVISIT"]: r["value"] for r in study.rows_of_truth(short, ["response"]) if "contrast" in r
             and r["quantity"] == "mean_difference" and r["strategy"] == "hypothetical"}  # fmt: skip
    found: dict[str, list] = {"kenward-roger": [], "normal": []}
    for first in range(0, 2500, 50):
        draws = [draw(short, n=20, seed=11, replicate=first + i, parts=["response"]) for i in range(50)]
        arm, base = (np.stack(x) for x in zip(*[(d.subjects.arm, d.scores.base) for d in draws], strict=True))
        y = np.stack([d.disposition.policy for d in draws]) - base[..., None]
        w = mmrm_batch.covariates(arm, base, 2)
        stats, fits = mmrm_batch.fit_block(w, y, np.stack([d.disposition.observed for d in draws]))
        for df, kept in found.items():
            c = mmrm_batch.contrasts(stats, fits, w.shape[-1], df, level)
            good = np.broadcast_to(c.converged[:, None], c.estimate.shape)
            kept.append(np.stack([c.estimate, c.std_error, c.low, c.high, c.p, good], axis=-1))
    verdicts = {}
    for df, kept in found.items():
        numbers = np.concatenate(kept)
        rows = [performance.measures(numbers[:, i], v, 0.0, level) for i, v in enumerate(truth.values())]
        verdicts[df] = [performance.certified(row, level) for row in rows]
        assert min(row["convergence"] for row in rows) > 0.999
    assert all(verdicts["kenward-roger"])
    assert not all(verdicts["normal"])


def test_type_one_error_of_the_null_twin():
    result = ks.certify("mmrm", TWO.null(), replicates=400, seed=12, n=40)
    assert abs(result.frame.rejection.mean() - 0.05) < 0.025
    assert failures(result) == []
    logrank = ks.certify("logrank", "kap-parallel-null", replicates=400, seed=12).frame.rejection.mean()
    assert abs(logrank - 0.05) < 0.02


def test_score_limits_pass_where_wald_limits_fail_for_rare_events():
    few = {"n": 120, "replicates": 240, "seed": 13}
    score, wald = (ks.certify(name, "kap-parallel", **few) for name in ("risk_difference", "risk_difference-wald"))
    assert failures(score) == []
    assert len(failures(wald)) >= 3
    exact, simple = (ks.certify(name, "kap-parallel", **few) for name in ("proportion", "proportion-wald"))
    assert failures(exact) == []
    assert len(failures(simple)) > 20


def test_registry_limits_are_the_kernels():
    d = [draw(KAP, n=60, seed=1)]
    answer = estimators.named("risk_difference-newcombe").analyse(KAP, d, 0.9)
    x, n = safety.counts(KAP, d)
    low, high = two_proportions.newcombe(
        x[0, 1], np.full(x.shape[2], n[0, 1]), x[0, 0], np.full(x.shape[2], n[0, 0]), 0.05
    )
    np.testing.assert_allclose(answer.low[0, : x.shape[2]], low)
    np.testing.assert_allclose(answer.high[0, : x.shape[2]], high)


def test_every_exported_estimator_has_a_certificate_that_has_to_pass(monkeypatch):
    assert estimators.uncertified() == []
    few = tuple(c for c in estimators.CERTIFICATES if c.control or not c.estimator.startswith("win_ratio"))
    monkeypatch.setattr(estimators, "CERTIFICATES", few)
    assert estimators.uncertified() == ["win_ratio"], "a control alone is no certificate"
    assert not estimators.NO_ESTIMATES - set(ks._EXPORTS)


def test_a_world_that_refuses_has_not_converged_and_keeps_its_rows():
    def one(rng, n, level):
        if rng.random() < 0.5:
            raise ks.errors.EstimabilityError("no")
        return [[1.0, 0.5, 0.0, 2.0, 0.04], [np.nan] * 5]

    draws = [draw(common.bare(), n=4, seed=1, replicate=i, parts=[]) for i in range(12)]
    answer = common.in_world("any", one)(common.bare(), draws, 0.95)
    refused = np.isnan(answer.estimate[:, 0])
    assert 0 < refused.sum() < 12
    assert answer.converged.tolist() == [[not r, False] for r in refused]


def test_chains_of_several_trials_are_those_of_each():
    """One trial in every chain, or the same trial in all: the sampler does not mix them up."""
    (x1, n1, x2, n2), group, _ = safety_worlds.terms(np.random.default_rng(3), 200)
    one, rows = (
        berry_berry.sample(x, n2, y, n1, group, np.random.default_rng(5), draws=20, burn_in=5, chains=3).log_odds_ratio
        for x, y in ((x2, x1), (np.tile(x2, (3, 1)), np.tile(x1, (3, 1))))
    )
    np.testing.assert_allclose(one, rows, rtol=1e-6, atol=1e-9)


def test_whole_fits_are_the_librarys_own_calls():
    two = response.two_arms()
    d = draw(two, n=40, seed=3, parts=["response"])
    kr, z = (estimators.named(name).analyse(two, [d], 0.95) for name in ("lmm", "lmm-z"))
    assert kr.estimate[0, 0] == z.estimate[0, 0]
    assert kr.high[0, 0] - kr.low[0, 0] > z.high[0, 0] - z.low[0, 0]
    several = [draw(two, n=60, seed=3, replicate=i, parts=["response"]) for i in range(4)]
    jumped = estimators.named("impute-j2r-jackknife").analyse(two, several, 0.95)
    mar = estimators.named("mmrm").analyse(two, several, 0.95)
    gap = (jumped.estimate - mar.estimate).mean(axis=0)
    assert gap[-1] > max(gap[0], 0.2)  # an active arm that jumps to placebo loses effect, more as more have left


def test_a_fit_that_refuses_has_not_converged_and_the_others_stand():
    d = [draw(KAP, n=240, seed=3, replicate=i, parts=["relapse"]) for i in range(2)]
    nobody = dataclasses.replace(d[1], follow_up=dataclasses.replace(d[1].follow_up, right=np.full(240, np.inf)))
    answer = estimators.named("parametric_survival-weibull").analyse(KAP, [d[0], nobody], 0.95)
    assert answer.converged.tolist() == [[True] * 5, [False] * 5]
    assert np.isnan(answer.estimate[1]).all()


# ------------------------------------------------------------------------------------------------ what is published

CERTIFICATES = Path(__file__).parents[2] / "docs" / "certificates"
#: certificates of which the suite repeats four replicates of the first block, or none
COSTLY = (
    "risk_difference-standardised", "risk_difference-pooled", "impute-", "tipping_point", "crossover--", "crossover-c",
    "onset_curve", "effect_by_guess", "principal_effect", "subgroups--", "mcp_mod--", "cox-frailty", "cause_specific--",
    "rare_event_model", "glmm", "safety_signals-berry-berry",
)  # fmt: skip
HEAVY = (
    "risk_difference-standardised--kap-registry--n2000",
    "risk_difference-pooled--kap-registry--n2000",
    "impute-j2r-jackknife--kap-two-arms-null--n40",
    *(f"impute-{kind}--kap-two-arms-leaving-null--n80" for kind in ("mar-jackknife", "mar-rubin")),
    *(f"impute-{kind}--kap-two-arms-leaving-null--n80" for kind in ("j2r-jackknife", "j2r-rubin")),
    "impute-mar-jackknife--kap-two-arms-leaving--n80",
)
PUBLISHED = [c for c in programme.PROGRAMME if (CERTIFICATES / f"{c.name}.csv").exists()]


@pytest.mark.parametrize("certificate", PUBLISHED, ids=lambda c: c.name)
def test_published_certificates_pass_and_controls_fail(certificate):
    kept = pd.read_csv(CERTIFICATES / f"{certificate.name}.csv")
    run = kept.replicates.iloc[0]
    assert (kept.replicates == run).all()
    told = validation.summary_row(certificate, kept)[3]
    assert told == (f"{run:,}" if run == certificate.replicates else f"{run:,} of {certificate.replicates:,}")
    assert programme.verdict(certificate, kept) != certificate.control


@pytest.mark.parametrize("certificate", [c for c in PUBLISHED if c.name not in HEAVY], ids=lambda c: c.name)
def test_the_first_block_of_a_published_certificate_can_be_made_again(certificate):
    kept = pd.read_csv(CERTIFICATES / f"{certificate.name}.csv")
    again = programme.slice_of(certificate, 4 if certificate.name.startswith(COSTLY) else execution.BLOCK)
    assert programme.agrees(certificate, kept, again)
    moved = again.assign(estimate=again.estimate + 10 * kept.empirical_se)
    assert kept.empirical_se.isna().all() or not programme.agrees(certificate, kept, moved)


def test_a_dask_cluster_of_processes_gives_the_same_digest():
    """Workers that are processes: the task, the scenario and the results go over the wire."""
    from dask.distributed import Client, LocalCluster

    here = ks.certify("logrank", "kap-parallel", replicates=60, n=60, chunk=20).meta["digest"]
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None)
    with cluster, Client(cluster) as client:
        there = ks.certify("logrank", "kap-parallel", replicates=60, n=60, chunk=40, executor=client).meta["digest"]
    assert there == here


KILLED = """
import sys
import kapstats as ks
ks.certify("logrank", "kap-parallel", replicates=100_000, n=60, chunk=20, seed=4, out=sys.argv[1])
"""


def test_a_run_that_is_killed_resumes_to_the_same_digest(tmp_path):
    import subprocess
    import sys
    import time

    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)])
    while len(list(tmp_path.rglob("*.npy"))) < 3:
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    n = 20 * len(kept) + 40
    resumed = ks.certify("logrank", "kap-parallel", replicates=n, n=60, chunk=20, seed=4, out=tmp_path)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "what was there is not computed again"
    whole = ks.certify("logrank", "kap-parallel", replicates=n, n=60, chunk=100, seed=4)
    assert resumed.meta["digest"] == whole.meta["digest"]


def test_chunks_of_a_callable_are_not_taken_for_those_of_another_of_its_name(tmp_path):
    def made(shift):
        def gap(trial):
            last = trial.adqs[trial.adqs.AVISITN == 28].groupby("TRT01P").CHG.mean()
            return pd.DataFrame({"contrast": ["KAP IV - Placebo"], "AVISIT": ["Day 28"],
                                 "estimate": [last["KAP IV"] - last["Placebo"] + shift]})  # fmt: skip

        return gap

    first, second = (
        ks.certify(made(k), TWO, replicates=20, n=24, out=tmp_path).frame.estimate.iloc[0] for k in (0.0, 5.0)
    )
    assert second == pytest.approx(first + 5)
