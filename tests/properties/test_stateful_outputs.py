"""Runs into one folder in any order, each perhaps killed at any step: the folder holds one whole output, never half."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kapstats.data import output
from kapstats.errors import DataError

Files = dict[str, bytes]
NAMES = st.sampled_from(["run.log", "results/a.csv", "results/b.csv", "figures/a.svg"])
CONTENTS = st.dictionaries(NAMES, st.binary(max_size=20), max_size=4)
#: what changes the disk, as Python's own audit calls it
STEPS = ("open", "os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.truncate", "os.chmod", "shutil.rmtree")


def whole(files: Files) -> Files:
    """An output: the files and the manifest that lists them."""
    return {**files, output.MARK: json.dumps({"outputs": dict.fromkeys(files, "")}).encode()}


def held(folder: Path) -> Files | None:
    if not folder.exists():
        return None
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def killed(work: Callable[[], object], step: int) -> bool:
    """Do `work` in a process that dies, cleaning up nothing, before its disk is changed for the `step`-th time."""
    child = os.fork()
    if not child:
        left = [step]

        def audit(event: str, arguments: tuple[object, ...]) -> None:
            if event in STEPS:
                left[0] -= 1
                if left[0] < 0:
                    os._exit(9)

        code = 1
        try:
            sys.addaudithook(audit)
            work()
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 9


class Outputs(RuleBasedStateMachine):
    """`now` is what the folder has to hold: what the last run wrote that was not killed before it took effect."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.out = self.root / "out[1]"
        self.now: Files | None = None
        self.at_once = output._exchange

    @initialize(at_once=st.booleans())
    def begin(self, at_once: bool) -> None:
        output._exchange = self.at_once if at_once else lambda new, out: False

    @rule(files=CONTENTS)
    def finish(self, files: Files) -> None:
        output.write(whole(files), self.out)
        self.now = whole(files)
        assert [p.name for p in self.root.iterdir()] == [self.out.name]  # nothing is left beside it

    @rule(files=CONTENTS, step=st.integers(0, 40))
    def kill(self, files: Files, step: int) -> None:
        if not killed(lambda: output.write(whole(files), self.out), step):
            self.now = whole(files)
            return
        if not self.out.exists():  # where names cannot be exchanged at once, every next run puts it back
            output.check(self.out)
        assert held(self.out) in (self.now, whole(files))
        self.now = held(self.out)

    @rule(files=CONTENTS)
    def meet(self, files: Files) -> None:
        with output._alone(self.out):
            for refused in (output.check, lambda out: output.write(whole(files), out)):
                with pytest.raises(DataError, match="another run"):
                    refused(self.out)

    @precondition(lambda self: self.now is not None)
    @rule(files=CONTENTS)
    def refuse_what_is_not_ours(self, files: Files) -> None:
        mine = self.out / "thesis.docx"
        mine.write_bytes(b"years of work")
        with pytest.raises(DataError, match=r"thesis\.docx"):
            output.write(whole(files), self.out)
        assert mine.read_bytes() == b"years of work"
        mine.unlink()

    @invariant()
    def one_whole_output(self) -> None:
        assert held(self.out) == self.now

    def teardown(self) -> None:
        output._exchange = self.at_once
        shutil.rmtree(self.root)


can_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a fork of this process")
TestOutputs = can_fork(Outputs.TestCase)
TestOutputs.settings = settings(max_examples=20, stateful_step_count=12, derandomize=True, deadline=None)


def test_half_an_output_would_be_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def in_place(new: Path, out: Path) -> None:
        out.mkdir(exist_ok=True)
        for path in sorted(p for p in new.rglob("*") if p.is_file()):
            (out / path.relative_to(new)).parent.mkdir(exist_ok=True)
            (out / path.relative_to(new)).write_bytes(path.read_bytes())

    monkeypatch.setattr(output, "_swap", in_place)
    old, new, seen = whole({"run.log": b"old"}), whole({"run.log": b"new", "results/a.csv": b"1"}), []
    for step in range(30):
        out = tmp_path / str(step)
        output.write(old, out)
        killed(lambda out=out: output.write(new, out), step)
        seen.append(held(out) in (old, new))
    assert not all(seen)
