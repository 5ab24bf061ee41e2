"""Run the targets in a process of their own with a limit of memory, one alarm a case."""

from __future__ import annotations

import argparse
import multiprocessing
import random
import resource
import signal
import sys
import time
import traceback
import warnings
from types import FrameType

from tests.fuzz.targets import TARGETS

SECONDS, WAIT, MEMORY = 10, 300, 4 << 30


class Slow(Exception):
    """A case took longer than its seconds of computing, or waited far longer than a busy machine makes it."""


def _alarm(number: int, frame: FrameType | None) -> None:
    raise Slow


def run(name: str, first: int, cases: int) -> list[tuple[str, int, str]]:
    """Findings of the cases `first`, `first` + 1, ...: target, seed, what happened."""
    found = []
    signal.signal(signal.SIGALRM, _alarm)
    signal.signal(signal.SIGPROF, _alarm)
    for seed in range(first, first + cases):
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.setitimer(signal.ITIMER_REAL, WAIT)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                TARGETS[name](random.Random(f"{name}-{seed}"))
        except BaseException as error:  # whatever it is, it is a finding
            if isinstance(error, KeyboardInterrupt):
                raise
            lines = traceback.format_exception_only(error)[-1].strip()
            place = traceback.extract_tb(error.__traceback__)[-1]
            found.append((name, seed, f"{lines[:300]} ({place.filename.rsplit('/', 2)[-1]}:{place.lineno})"))
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
    return found


def _work(name: str, first: int, cases: int, answer: multiprocessing.Queue[list[tuple[str, int, str]]]) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    answer.put(run(name, first, cases))


def chunk(name: str, first: int, cases: int) -> list[tuple[str, int, str]]:
    """`run` in a process of its own, so that a crash of the interpreter is a finding like another."""
    answer: multiprocessing.Queue[list[tuple[str, int, str]]] = multiprocessing.Queue()
    process = multiprocessing.Process(target=_work, args=(name, first, cases, answer))
    process.start()
    while process.is_alive() and answer.empty():
        time.sleep(0.02)
    found = [(name, first, f"the process died with code {process.exitcode}")] if answer.empty() else answer.get()
    process.join()
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"among {', '.join(TARGETS)} (default: all)")
    parser.add_argument("--cases", type=int, default=10_000, metavar="N", help="for each target (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="number of the first case (default: %(default)s)")
    given = parser.parse_args(arguments)
    done = failed = 0
    for name in given.targets or TARGETS:
        bad = 0
        for first in range(given.seed, given.seed + given.cases, 2_000):
            many = min(2_000, given.seed + given.cases - first)
            for target, seed, said in chunk(name, first, many):
                bad += 1
                print(f"  {target} --seed {seed} --cases 1: {said}", flush=True)
            done += many
        failed += bad
        print(f"{name}: {given.cases} cases, {bad} findings", flush=True)
    print(f"{done} cases, {failed} findings")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
