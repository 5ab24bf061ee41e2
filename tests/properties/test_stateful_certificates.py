"""A study in any chunks, killed, resumed, its files cut: the replicates are those of one run without interruption."""

from __future__ import annotations

import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from kapstats._types import FloatArray
from kapstats.certification import execution
from tests.properties.test_stateful_outputs import can_fork, killed

SIZES, REPLICATES = st.integers(1, 90), st.integers(1, 130)


def work(task: int, start: int, stop: int) -> FloatArray:
    """Numbers of each replicate and of the block that it is computed in, as a batched estimator's are."""
    return np.array([np.random.default_rng((task, i, i // execution.BLOCK)).normal(size=2) for i in range(start, stop)])


def study(replicates: int, size: int, folder: Path | None, pool: int = 0) -> FloatArray:
    """All replicates in their order, as `certify` puts them together."""
    todo = execution.chunks(replicates, size)
    with execution.submitting(ThreadPoolExecutor(pool) if pool else None) as submit:
        done = execution.run(work, 7, todo, submit, folder, lambda now: None)
    return np.concatenate([done[c] for c in sorted(done)])


class Study(RuleBasedStateMachine):
    """Whatever lies in the folder, the result has the bits of a run that keeps nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())

    def files(self) -> list[Path]:
        return sorted(self.folder.glob("*.npy"))

    @rule(replicates=REPLICATES, size=SIZES, pool=st.sampled_from([0, 0, 2]))
    def finish(self, replicates: int, size: int, pool: int) -> None:
        found = study(replicates, size, self.folder, pool)
        np.testing.assert_array_equal(found, work(7, 0, replicates))

    @rule(replicates=REPLICATES, size=SIZES, step=st.integers(0, 12))
    def kill(self, replicates: int, size: int, step: int) -> None:
        killed(lambda: study(replicates, size, self.folder), step)

    @precondition(files)
    @rule(which=st.integers(0, 50), share=st.floats(0, 0.99))
    def cut(self, which: int, share: float) -> None:
        path = self.files()[which % len(self.files())]
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])

    @precondition(files)
    @rule(which=st.integers(0, 50))
    def lose(self, which: int) -> None:
        self.files()[which % len(self.files())].unlink()

    @precondition(files)
    @rule(which=st.integers(0, 50), other=st.integers(0, 50))
    def confuse(self, which: int, other: int) -> None:
        """A file of another number of replicates under this one's name; one of the same number could not be told."""
        files = self.files()
        a, b = files[which % len(files)], files[other % len(files)]
        try:
            if len(np.load(a)) != len(np.load(b)):
                shutil.copy(a, b)
        except (ValueError, EOFError):  # cut before
            pass

    def teardown(self) -> None:
        shutil.rmtree(self.folder)


TestStudy = can_fork(Study.TestCase)
TestStudy.settings = settings(max_examples=25, stateful_step_count=12, derandomize=True, deadline=None)
