"""What is certified is what users call: every certificate again, replicate by replicate, through the exported verb."""

from __future__ import annotations

import inspect
import os
import sys
import warnings

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from kapstats.certification import estimators, programme, replay, study
from kapstats.cli import main

#: replicates of every certificate; ``KAPSTATS_REPLAY=200`` takes some twenty minutes
REPLICATES = int(os.environ.get("KAPSTATS_REPLAY", "3"))
REPLAYED = [c for c in programme.PROGRAMME if estimators.named(c.estimator).verb is not None]


def one(name: str) -> estimators.Certificate:
    """The first certificate of an estimator."""
    return next(c for c in programme.PROGRAMME if c.estimator == name)


# ------------------------------------------------------------------------------------------------ the same numbers


@pytest.mark.parametrize("certificate", REPLAYED, ids=lambda c: c.name)
def test_the_verb_says_of_every_replicate_what_the_batch_says(certificate):
    found = replay.replay(certificate, REPLICATES)
    assert found.same, found
    assert found.numbers >= 6 * REPLICATES


def test_certify_has_the_same_rows_and_columns_along_both_paths():
    frames = [ks.certify("rmst", "kap-withdrawal", replicates=4, seed=2, path=p) for p in ("batch", "verb")]
    assert [f.meta["path"] for f in frames] == ["batch", "verb"]
    pd.testing.assert_frame_equal(frames[0].frame, frames[1].frame, rtol=1e-8)
    with pytest.raises(ks.errors.FormulaError, match="path"):
        ks.certify("rmst", "kap-withdrawal", replicates=4, path="verbs")


def test_chunks_of_one_path_are_not_taken_for_those_of_the_other(tmp_path):
    for path in ("batch", "verb"):
        ks.certify("rate", estimators.scenario("ae-worlds"), replicates=4, n=60, out=tmp_path, path=path)
    assert len(list(tmp_path.rglob("*.npy"))) == 2
    assert len(list(tmp_path.glob("*.csv"))) == 2


# ------------------------------------------------------------------------------------------------ through the door


def codes_of(exported: object) -> set[object]:
    """Code objects of a function, or of the methods of a class."""
    if inspect.isclass(exported):
        return {f.__code__ for f in vars(exported).values() if inspect.isfunction(f)} | {
            f.__func__.__code__ for f in vars(exported).values() if isinstance(f, classmethod)
        }
    return {inspect.unwrap(exported).__code__} if callable(exported) else set()


EXPORTED = {n: codes_of(getattr(ks, n)) for n in ks._EXPORTS if n not in estimators.NO_ESTIMATES}


def entered_by(name: str) -> set[str]:
    """Exported estimators that are entered while one replicate of an estimator is analysed by its verb."""
    certificate, seen = one(name), set()
    task = study.Task(name, estimators.scenario(certificate.scenario), certificate.n, 1, 0.95, path="verb")
    sys.setprofile(lambda frame, event, _: seen.add(frame.f_code) if event == "call" else None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            study.work(task, 0, 1)
    finally:
        sys.setprofile(None)
    return {exported for exported, codes in EXPORTED.items() if codes & seen}


@pytest.mark.parametrize("name", EXPORTED)
def test_an_exported_estimator_is_entered_by_its_certificate(name):
    own = estimators.CERTIFIED_AS.get(name, name)
    passing = dict.fromkeys(c.estimator for c in programme.PROGRAMME if not c.control)
    ours = [e for e in passing if e == own or e.startswith(f"{own}-")]
    assert any(name in entered_by(e) for e in ours)


def test_only_controls_that_are_nobodys_verb_enter_none():
    assert all(c.control for c in programme.PROGRAMME if c.estimator in estimators.NO_VERB)
    rest = {c.estimator for c in programme.PROGRAMME if c.control and estimators.named(c.estimator).verb is None}
    assert {name for name in rest if not entered_by(name)} == set(estimators.NO_VERB)


# ------------------------------------------------------------------------------------------------ faults are seen


def exchanged(verb):
    def call(x1, n1, x2, n2, *rest, **options):
        return verb(x2, n2, x1, n1, *rest, **options)

    return call


def at_half_the_level(verb):
    return lambda *given, level=0.95, **options: verb(*given, level=level / 2, **options)


def with_half_the_error(verb):
    def call(*given, **options):
        fit = verb(*given, **options)
        rows = fit.coefficients.frame

        class Halved:
            coefficients = ks.Estimates(rows.assign(std_error=rows["std_error"] / 2), fit.coefficients.meta)

        return Halved

    return call


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("risk_difference", exchanged),
        ("risk_ratio", exchanged),
        ("rate_difference", exchanged),
        ("kaplan_meier", at_half_the_level),
        ("proportion", at_half_the_level),
        ("fine_gray", with_half_the_error),
        ("cox", with_half_the_error),
    ],
)
def test_a_fault_in_the_verb_turns_its_replay_red(name, fault, monkeypatch):
    assert replay.replay(one(name), 2).same
    monkeypatch.setattr(ks, name, fault(getattr(ks, name)))
    found = replay.replay(one(name), 2)
    assert not found.same
    assert found.verdict == "DIFFERENT"
    assert found.largest_difference > 1e-3


def test_a_number_that_one_path_alone_has_is_a_difference(monkeypatch):
    real = ks.rate

    def silent(*given, **options):
        found = real(*given, **options)
        return ks.Estimates(found.frame.assign(conf_high=np.nan), found.meta)

    monkeypatch.setattr(ks, "rate", silent)
    found = replay.replay(one("rate"), 2)
    assert not found.same
    assert found.missing >= 6


# ------------------------------------------------------------------------------------------------ lists and tables


def test_the_list_of_certificates_is_the_programme():
    found = ks.certificates().frame
    assert found.columns[:4].tolist() == ["estimator", "scenario", "n", "control"]
    assert len(found) == len(programme.PROGRAMME)
    assert set(found.estimator) <= set(estimators.REGISTRY)
    assert 0 < found.control.sum() < len(found)


def test_the_kinds_of_a_plan_are_listed_and_an_unknown_one_is_named(tmp_path):
    kinds = ks.plan_kinds()
    assert {"mmrm", "survival", "incidence"} <= set(kinds)
    plan = tmp_path / "plan.toml"
    plan.write_text('[study]\ntitle = "S"\n[[analysis]]\nkind = "mmrn"\n')
    with pytest.raises(ks.errors.FormulaError, match=r"unknown kind 'mmrn'\. Did you mean 'mmrm'"):
        ks.run(plan)


def test_the_command_line_takes_a_path(capsys):
    assert main(["certify", "rmst", "kap-withdrawal", "--replicates", "2", "--path", "verb", "--json"]) == 0
    assert '"estimand"' in capsys.readouterr().out


def test_the_table_of_replays_keeps_what_was_not_replayed_now(tmp_path):
    path = tmp_path / "replay.tsv"
    assert replay.main([str(path), "--only", "rate--", "--replicates", "2"]) == 0
    assert replay.main([str(path), "--only", "cmh_test", "--replicates", "2"]) == 0
    kept = pd.read_csv(path, sep="\t")
    assert kept.estimator.tolist() == ["cmh_test", "cmh_test-crude", "rate"]
    assert (kept.verdict == "same").all()


def test_the_published_table_of_replays_is_of_every_certificate():
    kept = pd.read_csv(programme_folder() / "replay.tsv", sep="\t")
    assert len(kept) == len(programme.PROGRAMME)
    compared = kept[kept.verdict == "same"]
    assert len(compared) == len(REPLAYED)
    assert (compared.replicates >= 40).all()
    assert (compared.largest_difference <= replay.TOLERANCE).all()
    rest = set(kept.verdict) - {"same", "the batch is the verb"}
    assert rest == set(estimators.NO_VERB.values())


def programme_folder():
    from pathlib import Path

    return Path(__file__).parents[2] / "docs" / "certificates"
