"""Stored replicates belong to the very estimator that made them, and outputs are whole or absent."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from kapstats.certification import execution, identity
from kapstats.errors import DataError
from kapstats.simulation import adam

ROW = {"quantity": ["rmst"], "TRT01P": ["Placebo"], "std_error": [1.0], "conf_low": [99.0], "conf_high": [101.0]}


def answer(value):
    return pd.DataFrame({**ROW, "estimate": [value]})


def bias(estimator, out=None, **options):
    found = ks.certify(estimator, "kap-parallel", replicates=20, n=36, out=out, quantity="rmst", **options)
    return float(found["bias"].iloc[0])


def closing_over(array):
    def estimator(trial):
        return answer(100.0 + array.sum())

    return estimator


def from_source(value):
    held = {"answer": answer, "__name__": "a_users_module"}
    exec(f"def helper(): return {value}\ndef estimator(trial): return answer(100.0 + helper())\n", held)
    return held["estimator"]


class Callable:
    def __init__(self, value):
        self.value = value

    def __call__(self, trial):
        return answer(100.0 + self.value)


def with_default(value):
    def estimator(trial, by=value):
        return answer(100.0 + by)

    return estimator


def shifted(trial, by):
    return answer(100.0 + by)


def long_array(value):
    array = np.zeros(5000)
    array[2500] = value
    return closing_over(array)


MAKERS = {
    "a long array in the closure": long_array,
    "a helper function": from_source,
    "an object": Callable,
    "a bound method": lambda value: Callable(value).__call__,
    "a default": with_default,
    "a partial": lambda value: functools.partial(shifted, by=value),
}


@pytest.mark.parametrize("maker", MAKERS)
def test_a_changed_estimator_is_computed_anew(tmp_path, maker):
    make = MAKERS[maker]
    first = bias(make(0.0), tmp_path)
    assert bias(make(50.0), tmp_path) == pytest.approx(first + 50.0)
    assert bias(make(0.0), tmp_path) == first


def test_the_same_estimator_resumes(tmp_path, monkeypatch):
    first = bias(long_array(1.0), tmp_path)
    monkeypatch.setattr(execution, "keep", lambda *_: pytest.fail("computed again"))
    assert bias(long_array(1.0), tmp_path) == first


def test_another_version_of_the_software_is_another_estimator(tmp_path, monkeypatch):
    bias(with_default(0.0), tmp_path)
    (before,) = (tmp_path / "chunks").iterdir()
    monkeypatch.setattr(identity, "software", lambda: "another release")
    bias(with_default(0.0), tmp_path)
    assert len(list((tmp_path / "chunks").iterdir())) == 2
    assert before.exists()


def test_what_cannot_be_read_asks_for_a_key(tmp_path):
    file = open(os.devnull)  # noqa: SIM115
    estimator = lambda trial: answer(100.0 + (file is None))  # noqa: E731
    with pytest.raises(DataError, match="key="):
        bias(estimator, tmp_path)
    assert np.isfinite(bias(estimator, tmp_path, key="mine"))
    assert np.isfinite(bias(estimator))
    file.close()


def test_a_changed_bit_of_a_stored_chunk_is_noticed(tmp_path):
    first = bias(with_default(0.0), tmp_path)
    (chunk,) = (tmp_path / "chunks").rglob("*.npy")
    content = bytearray(chunk.read_bytes())
    content[-100] ^= 1
    chunk.write_bytes(bytes(content))
    assert bias(with_default(0.0), tmp_path) == first


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path, monkeypatch):
    def full(self, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(DataError, match=r"npy cannot be written: No space left"):
        bias(with_default(0.0), tmp_path)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]
    trial = ks.simulate("kap-parallel", n=36, truth=False)
    with pytest.raises(DataError, match="cannot be written"):
        adam.write(trial, tmp_path / "trial")
    assert not (tmp_path / "trial").exists()


def test_a_killed_simulate_leaves_the_old_trial_or_the_new_one(tmp_path):
    """Killed at many moments while it writes over an earlier trial: the checksums always fit, and a rerun works."""
    out = tmp_path / "trial"
    command = [sys.executable, "-m", "kapstats", "simulate", "kap-parallel", "--subjects", "36", "--out", str(out)]
    subprocess.run([*command, "--seed", "1"], check=True, capture_output=True)
    slow = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from kapstats import cli
        plain = Path.write_bytes
        def slowly(self, content):
            print("writing", flush=True)
            time.sleep(0.02)
            return plain(self, content)
        Path.write_bytes = slowly
        cli.main(sys.argv[1:])
        """
    )
    for stop in (1, 4, 8):
        child = subprocess.Popen(
            [sys.executable, "-c", slow, *command[3:], "--seed", "2"], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        for _ in range(stop):
            child.stdout.readline()
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        time.sleep(0.01)
        sums = subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=out, capture_output=True)
        assert sums.returncode == 0, sums.stderr
    subprocess.run([*command, "--seed", "3"], check=True, capture_output=True)
    assert [p.name for p in tmp_path.iterdir()] == ["trial"]


def test_simulate_replaces_only_what_it_wrote(tmp_path):
    trial = ks.simulate("kap-parallel", n=36, truth=False)
    adam.write(trial, tmp_path / "a")
    (tmp_path / "a" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"notes\.txt"):
        adam.write(trial, tmp_path / "a")
