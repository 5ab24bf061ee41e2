"""Which small faults of a kernel would the tests notice? python tools/mutation.py KERNEL ... [--sample N] [--seconds S]

An operator, comparison or constant is turned, one at a time, and the tests that import the kernel, or a module that
does, are run until the first failure. What no test noticed is printed with its line. Sources are not touched: the
changed module is put in place of the true one when the tests of a process import it.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KERNELS = ROOT / "src" / "kapstats" / "kernels"
TURNED: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult, ast.MatMult: ast.Mult,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.And: ast.Or, ast.Or: ast.And, ast.USub: ast.UAdd,
}  # fmt: skip
PLUGIN = """
import sys, types, importlib.abc, importlib.util
class Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        return importlib.util.spec_from_loader(name, self) if name == {name!r} else None
    def exec_module(self, module):
        module.__file__ = {file!r}
        exec(compile(open({changed!r}, encoding="utf-8").read(), {file!r}, "exec"), module.__dict__)
sys.meta_path.insert(0, Changed())
"""


def mutants(source: str) -> Iterator[tuple[int, str, str]]:
    """(line, what was changed, changed source) of every single change."""
    for index, _ in enumerate(_places(ast.parse(source))):
        tree = ast.parse(source)
        node, field, said = list(_places(tree))[index]
        before = getattr(node, field)
        line = node.lineno  # type: ignore[attr-defined]
        if isinstance(node, ast.Constant):
            node.value = before + 1
        elif isinstance(before, list):
            before[0] = TURNED[type(before[0])]()
        else:
            setattr(node, field, TURNED[type(before)]())
        yield line, said, ast.unparse(tree)


def _places(tree: ast.AST) -> Iterator[tuple[ast.AST, str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp | ast.BoolOp | ast.UnaryOp | ast.AugAssign) and type(node.op) in TURNED:
            yield node, "op", f"{type(node.op).__name__} -> {TURNED[type(node.op)].__name__}"
        elif isinstance(node, ast.Compare) and type(node.ops[0]) in TURNED:
            yield node, "ops", f"{type(node.ops[0]).__name__} -> {TURNED[type(node.ops[0])].__name__}"
        elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
            yield node, "value", f"{node.value} -> {node.value + 1}"


def tests_of(kernel: str) -> list[str]:
    """Test files that name the kernel, or a module of the library that imports it; no certificates, they take long."""
    users = {kernel}
    for path in (ROOT / "src" / "kapstats").rglob("*.py"):
        if re.search(rf"kernels(\.| import .*\b){kernel}\b", path.read_text(encoding="utf-8")):
            users.add(path.stem)
    pattern = re.compile(rf"\b(?:{'|'.join(sorted(users))})\b")
    found = [p for p in sorted((ROOT / "tests").rglob("test_*.py")) if pattern.search(p.read_text(encoding="utf-8"))]
    return [str(p) for p in found if p.parent.name in ("reference", "properties")]


def survives(kernel: str, changed: str, tests: list[str], seconds: float) -> bool:
    """Whether the tests pass with `changed` in the place of the kernel; a run that hangs has noticed."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "changed.py").write_text(changed, encoding="utf-8")
        plugin = PLUGIN.format(
            name=f"kapstats.kernels.{kernel}", file=str(KERNELS / f"{kernel}.py"), changed=f"{folder}/changed.py"
        )
        (Path(folder) / "changed_kernel.py").write_text(plugin, encoding="utf-8")
        call = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "changed_kernel", "-p", "no:cacheprovider", *tests]
        path = os.pathsep.join([folder, str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
        try:
            done = subprocess.run(
                call, cwd=ROOT, capture_output=True, timeout=seconds, env={**os.environ, "PYTHONPATH": path}
            )
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kernels", nargs="+", metavar="KERNEL")
    parser.add_argument("--sample", type=int, default=20, metavar="N", help="changes per kernel (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=120, metavar="S", help="for one run (default: %(default)s)")
    parser.add_argument("--tests", nargs="*", help="test files, in place of those that are found")
    given = parser.parse_args()
    for kernel in given.kernels:
        every = list(mutants((KERNELS / f"{kernel}.py").read_text(encoding="utf-8")))
        chosen = random.Random(1).sample(every, min(given.sample, len(every)))
        tests = given.tests or tests_of(kernel)
        alive = [(line, said) for line, said, text in chosen if survives(kernel, text, tests, given.seconds)]
        noticed = f"{len(chosen) - len(alive)} of {len(chosen)} noticed"
        print(f"{kernel}: {noticed} ({len(every)} possible, {len(tests)} test files)", flush=True)
        for line, said in sorted(alive):
            print(f"  line {line}: {said}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
