"""Which small faults of the kernels would the tests notice? python tools/mutation.py [KERNEL ...] [--sample N]

An operator, a comparison or a constant is turned, one at a time, and the tests that run the changed line are run, the
quickest first, until one fails; what none noticed is printed with its line. One process imports and collects once;
every change lives in a fork of it, where the code of the changed function is put into the function that is already
imported everywhere. Sources are not touched. Needs fork (Linux, macOS); no package beyond those of the tests.

Which test runs which line is recorded first, over --tests; --map keeps it for the next time, when only what is new, or
what runs a kernel whose text has changed, is recorded again.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any, NamedTuple

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
ROOT = Path(__file__).resolve().parents[1]
KERNELS = ROOT / "src" / "kapstats" / "kernels"
TESTS = [
    "tests/reference", "tests/properties", "tests/published/test_reconstruct.py", "tests/truth/test_safety_truth.py",
]  # fmt: skip
TURNED: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult, ast.MatMult: ast.Mult,
    ast.FloorDiv: ast.Div, ast.Mod: ast.FloorDiv, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.And: ast.Or, ast.Or: ast.And, ast.USub: ast.UAdd,
}  # fmt: skip
UNREACHED = "no test runs this line"
Place = tuple[ast.AST, str, str]


class Change(NamedTuple):
    """One place of a module: which of its top-level statements, which place within, where, what is turned."""

    top: int
    index: int
    first: int  # lines of the innermost statement
    last: int
    said: str


def changes(source: str) -> list[Change]:
    found = []
    for number, top in enumerate(ast.parse(source).body):
        for index, (node, _, said) in enumerate(_places(top)):
            lines = _statement(top, node)
            found.append(Change(number, index, *lines, f"line {node.lineno}:{node.col_offset + 1}: {said}"))  # type: ignore[attr-defined]
    return found


def changed_statement(source: str, change: Change) -> ast.stmt:
    """The top-level statement as it reads after the change."""
    top = ast.parse(source).body[change.top]
    node, field, _ = list(_places(top))[change.index]
    _turn(node, field)
    return top


def _turn(node: ast.AST, field: str) -> None:
    before = getattr(node, field)
    if isinstance(node, ast.Constant):
        node.value = not before if isinstance(before, bool) else before + 1
    elif isinstance(before, list):
        before[0] = TURNED[type(before[0])]()
    else:
        setattr(node, field, TURNED[type(before)]())


def _places(tree: ast.AST) -> Iterator[Place]:
    """What can be turned: not annotations, the words of an error, `strict` of zip and `optimize` of einsum."""
    for node in _evaluated(tree):
        if isinstance(node, ast.BinOp | ast.BoolOp | ast.UnaryOp | ast.AugAssign) and type(node.op) in TURNED:
            yield node, "op", f"{type(node.op).__name__} -> {TURNED[type(node.op)].__name__}"
        elif isinstance(node, ast.Compare) and type(node.ops[0]) in TURNED:
            yield node, "ops", f"{type(node.ops[0]).__name__} -> {TURNED[type(node.ops[0])].__name__}"
        elif isinstance(node, ast.Constant) and type(node.value) in (int, float, bool):
            yield node, "value", f"{node.value} -> {not node.value if isinstance(node.value, bool) else node.value + 1}"


def _evaluated(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns") or isinstance(node, ast.Raise):
            continue
        if isinstance(node, ast.keyword) and node.arg in ("strict", "optimize"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not (name == "decorator_list" and isinstance(child, ast.Call)):
                yield from _evaluated(child)


def _statement(top: ast.stmt, node: ast.AST) -> tuple[int, int]:
    """Lines of the innermost statement around a node; of a block, its head alone."""
    line = node.lineno  # type: ignore[attr-defined]
    first, last = top.lineno, top.lineno
    for inner in ast.walk(top):
        if isinstance(inner, ast.stmt) and inner.lineno <= line <= (end := inner.end_lineno or 0):
            body = getattr(inner, "body", None)
            head = body[0].lineno - 1 if body else end
            if line <= head or not body:
                first, last = inner.lineno, max(head, inner.lineno)
    return first, last


def put(module: ModuleType, changed: ast.stmt) -> None:
    """Let every user of the live module see the changed statement."""
    code = compile(ast.Module(body=[changed], type_ignores=[]), str(module.__file__), "exec", dont_inherit=True)
    if isinstance(changed, ast.FunctionDef | ast.ClassDef):
        apart = dict(vars(module))
        exec(code, apart)
        _transplant(getattr(module, changed.name), apart[changed.name])
        return
    before = dict(vars(module))
    exec(code, vars(module))
    for name, value in vars(module).items():
        if before.get(name) is not value:
            for other in list(sys.modules.values()):
                if getattr(other, "__dict__", {}).get(name) is before.get(name):
                    setattr(other, name, value)


def _transplant(old: Any, new: Any) -> None:
    """Code and defaults of `new` into `old`, whose identity everyone who imported it holds."""
    if isinstance(old, type):
        for name, member in vars(new).items():
            if name in vars(old):
                _transplant(vars(old)[name], member)
    elif isinstance(old, FunctionType):
        old.__code__, old.__defaults__, old.__kwdefaults__ = new.__code__, new.__defaults__, new.__kwdefaults__
    for inner in ("__wrapped__", "__func__", "fget"):
        if getattr(old, inner, None) is not None and not isinstance(old, type):
            _transplant(getattr(old, inner), getattr(new, inner))
    if hasattr(old, "cache_clear"):
        old.cache_clear()


def forked(work: Callable[[], int], seconds: float) -> int:
    """Exit status of `work` in a fork; 0 only when it came to its end within so much CPU time and returned 0."""
    child = os.fork()
    if not child:
        status = 1
        try:
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 1)
            os.dup2(silence, 2)
            signal.signal(signal.SIGPROF, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_PROF, seconds)
            resource.setrlimit(resource.RLIMIT_AS, (6 << 30, resource.getrlimit(resource.RLIMIT_AS)[1]))
            status = work()
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1]


class Mutation:
    """A pytest plugin whose test loop records what runs which line, then turns one place after the other."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.out = os.fdopen(os.dup(1), "w")
        self.failed = False
        self.hung = 0
        self.map = Path(given.map) if given.map else None
        self.known: dict[str, Any] = {"texts": {}, "seconds": {}, "lines": {}}
        if self.map and self.map.exists():
            self.known = json.loads(self.map.read_text(encoding="utf-8"))

    def say(self, *words: object) -> None:
        print(*words, sep="\n", file=self.out, flush=True)

    def pytest_configure(self) -> None:
        from hypothesis import Phase, settings

        settings.register_profile(
            "mutation", derandomize=True, database=None, deadline=None, phases=(Phase.explicit, Phase.generate)
        )
        settings.load_profile("mutation")

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.failed |= report.failed

    def pytest_runtestloop(self, session: Any) -> bool:
        session.config.pluginmanager.unregister(name="terminalreporter")
        self.items = {item.nodeid: item for item in session.items}
        self.record()
        kernels = self.given.kernels or sorted(p.stem for p in KERNELS.glob("*.py") if p.stem != "__init__")
        total = [0, 0]
        for kernel in kernels:
            noticed, sampled = self.kernel(kernel)
            total = [total[0] + noticed, total[1] + sampled]
        if total[1]:
            self.say(f"all: {total[0]} of {total[1]} noticed ({100 * total[0] / total[1]:.1f} %)")
        return True

    def record(self) -> None:
        """Lines of the kernels that each test runs, and its CPU seconds; a file of tests in one fork."""
        texts = {p.stem: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(KERNELS.glob("*.py"))}
        stale = {k for k in texts if texts[k] != self.known["texts"].get(k)}
        seconds, lines = self.known["seconds"], self.known["lines"]
        again = [n for n in self.items if n not in seconds or any(k in stale for k in lines.get(n, {}))]
        if self.given.without_recording:
            again = []
        for name in again:
            seconds.pop(name, None)
        self.known["texts"] = texts
        for file in dict.fromkeys(n.split("::")[0] for n in again):
            of_file = [n for n in again if n.startswith(f"{file}::")]
            with tempfile.NamedTemporaryFile("r+") as answer:
                forked(lambda to=answer.name, of=of_file: self._traced(of, to), self.given.recording)
                for line in answer:
                    name, spent, ran = json.loads(line)
                    seconds[name], lines[name] = spent, ran
            left = [n for n in of_file if n not in seconds]
            self.say(f"# {file}: {sum(seconds.get(n, 0) for n in of_file):.1f} s; too slow to record: {len(left)}")
            seconds |= dict.fromkeys(left)
            if self.map:
                self.map.write_text(json.dumps(self.known), encoding="utf-8")

    def _traced(self, names: list[str], to: str) -> int:
        home = str(KERNELS)
        ran: dict[str, set[int]] = {}
        known_lines: dict[CodeType, tuple[set[int], set[int]]] = {}

        def lines_of(frame: FrameType, event: str, arg: object) -> Any:
            known_lines[frame.f_code][1].add(frame.f_lineno)
            return lines_of

        def calls(frame: FrameType, event: str, arg: object) -> Any:
            code = frame.f_code
            if not code.co_filename.startswith(home):
                return None
            if code not in known_lines:
                head = set() if code.co_name == "<lambda>" else {code.co_firstlineno}
                every = {line for _, _, line in code.co_lines() if line} - head
                known_lines[code] = every, set()
            every, seen = known_lines[code]
            return None if every <= seen else lines_of

        with open(to, "w", encoding="utf-8") as answer:
            for at, name in enumerate(names):
                known_lines.clear()
                start = time.process_time()
                sys.settrace(calls)
                passed = self._passes(name, names[at + 1] if at + 1 < len(names) else None)
                sys.settrace(None)
                spent = time.process_time() - start
                ran = {}
                for code, (_, seen) in known_lines.items():
                    ran.setdefault(Path(code.co_filename).stem, set()).update(seen)
                shown = {kernel: sorted(of) for kernel, of in ran.items()} if passed else {}
                print(json.dumps([name, round(spent, 3), shown]), file=answer, flush=True)
        return 0

    def _passes(self, name: str, following: str | None = None) -> bool:
        self.failed = False
        item = self.items[name]
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=self.items.get(following or ""))
        return not self.failed

    def kernel(self, kernel: str) -> tuple[int, int]:
        source = (KERNELS / f"{kernel}.py").read_text(encoding="utf-8")
        every = changes(source)
        chosen = random.Random(f"{self.given.seed} {kernel}").sample(every, min(self.given.sample, len(every)))
        if self.given.lines:
            chosen = [c for c in every if c.first in self.given.lines]
        chosen.sort()
        start, alive, self.hung = os.times(), [], 0
        caught: Counter[str] = Counter()
        for change in chosen:
            if why := self.survives(kernel, changed_statement(source, change), change, caught):
                alive.append(f"  {change.said} ({why})")
        spent = sum(os.times()[:4]) - sum(start[:4])
        noticed = len(chosen) - len(alive)
        said = f"{kernel}: {noticed} of {len(chosen)} noticed ({self.hung} hung; {len(every)} possible; {spent:.0f} s)"
        self.say(said, *alive)
        return noticed, len(chosen)

    def survives(self, kernel: str, changed: ast.stmt, change: Change, caught: Counter[str]) -> str:
        """What the change came through, or nothing where a test failed, hung or ran out of memory."""
        module = sys.modules.get(f"kapstats.kernels.{kernel}") or __import__(f"kapstats.kernels.{kernel}", fromlist="x")
        covering = self.covering(kernel, changed, change)
        if not covering:
            return UNREACHED
        seconds = {n: self.known["seconds"][n] for n in covering}
        covering.sort(key=seconds.__getitem__)
        alike: Counter[str] = Counter()  # one case of every test before the second of any
        turn = {}
        for name in covering:
            turn[name] = alike[name.split("[")[0]]
            alike[name.split("[")[0]] += 1
        covering.sort(key=lambda name: (-caught[name], turn[name], seconds[name]))
        within, budget = [], self.given.seconds
        for name in covering:
            if not within or seconds[name] <= budget:
                within.append(name)
                budget -= seconds[name]
        with tempfile.NamedTemporaryFile("r+") as answer:

            def run() -> int:
                put(module, changed)
                for name in within:
                    signal.setitimer(signal.ITIMER_PROF, 3 + 8 * seconds[name])
                    answer.seek(0)
                    answer.write(f"{name}\n")
                    answer.flush()
                    if not self._passes(name):
                        return 1
                return 0

            if status := forked(run, 1000):
                self.hung += os.WIFSIGNALED(status)
                caught[answer.readline().strip()] += 1
                if self.given.verbose:
                    answer.seek(0)
                    self.say(f"  {change.said}: {answer.readline().strip() or 'import'}")
                return ""
        return f"{len(within)} of {len(covering)} tests passed"

    def covering(self, kernel: str, changed: ast.stmt, change: Change) -> list[str]:
        lines = {n: of[kernel] for n, of in self.known["lines"].items() if kernel in of and n in self.items}
        first, last = change.first, change.last
        if not isinstance(changed, ast.FunctionDef | ast.ClassDef):
            return list(lines)
        if first == changed.lineno:  # a default: any call may use it
            last = changed.end_lineno or last
        return [name for name, ran in lines.items() if any(first <= line <= last for line in ran)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kernels", nargs="*", metavar="KERNEL", help="(default: all)")
    parser.add_argument("--sample", type=int, default=20, metavar="N", help="changes per kernel (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="of the sample (default: %(default)s)")
    parser.add_argument("--lines", type=int, nargs="*", metavar="L", help="every change of these lines, not a sample")
    parser.add_argument("--tests", nargs="*", default=TESTS, help="files or folders (default: %(default)s)")
    parser.add_argument("--map", metavar="FILE", help="keeps which test runs which line")
    parser.add_argument(
        "--seconds", type=float, default=20, metavar="S", help="of tests for one change (default: %(default)s)"
    )
    parser.add_argument(
        "--recording", type=float, default=300, metavar="S", help="CPU for one file of tests (default: %(default)s)"
    )
    parser.add_argument("--without-recording", action="store_true", help="believe --map as it is")
    parser.add_argument("--verbose", action="store_true", help="name the test that noticed")
    given = parser.parse_args()
    import pytest

    os.chdir(ROOT)
    options = ["-p", "no:cacheprovider", "-p", "no:xdist", "--tb=no", "--rootdir", str(ROOT)]
    return int(pytest.main([*options, *given.tests], plugins=[Mutation(given)]))


if __name__ == "__main__":
    sys.exit(main())
