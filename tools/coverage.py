"""What the tests say about every estimator: python tools/coverage.py writes docs/coverage.md and
docs/certificates/reference-agreement.tsv.

A test speaks of an exported estimator when its text, or a helper it uses in its own file or in a shared case file,
names it. Nothing is typed here: software and versions come from the first line of a reference file, tolerances from
the numbers in its comparisons, counts from pytest's own collection.
"""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kapstats.certification.estimators import CERTIFIED_AS

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"
NAMES = TESTS / "architecture" / "public_names.txt"
PAGE = ROOT / "docs" / "coverage.md"
AGREEMENT = ROOT / "docs" / "certificates" / "reference-agreement.tsv"
#: exported names that estimate nothing: types, readers, listings and what runs the others
OTHERS = frozenset(
    re.findall(
        r"\w+",
        "Curve Estimand Estimates Scenario Table Trial ImputationPlan MmrmStatistics RelapseDefinition certify datasets"
        " derive derive_relapse errors evidence gallery listing read_adam run simulate baseline_table disposition"
        " exposure_table certificates plan_kinds",
    )
)
COMPARES = ("rtol", "atol", "rel", "abs", "tolerance")
REFUSES = re.compile(r"pytest\.(raises|warns)|ConvergenceError|DataError|EstimabilityError")
EXTREME = re.compile(r"degenerate|zero|empty|nobody|nothing|no_event|separat|infinite|singular|boundary|constant")
#: what only a comparison with recorded or printed results does: read them, call the other program, hold their digits
RECORDED = re.compile(r"json\.load|DictReader|\bread\(|statsmodels|lifelines|\d\.\d{5,}")
COLUMNS = ("file", "what", "estimators", "compared with", "tolerance", "cases")


@dataclass(frozen=True, slots=True)
class Test:
    """One test function: where it stands, its text with that of the helpers it uses, and the names in it."""

    file: str
    name: str
    text: str
    words: frozenset[str]

    @property
    def kind(self) -> str:
        """Folder of the test: reference, truth, properties, published, interface."""
        return self.file.split("/")[0]

    @property
    def extreme(self) -> bool:
        """Whether it feeds what cannot be estimated, or only at the edge."""
        return bool(EXTREME.search(self.name) or REFUSES.search(self.text))


def names() -> list[str]:
    """Exported estimators."""
    return [n for n in NAMES.read_text(encoding="utf-8").split() if n not in OTHERS]


def _words(node: ast.AST) -> Iterator[str]:
    """Names that lead on to helpers and fixtures."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name):
            yield inner.id
        elif isinstance(inner, ast.arg):
            yield inner.arg


@functools.cache
def _imported(path: Path) -> frozenset[str]:
    """Names that a test file imports from kapstats, wherever in the file."""
    tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    ours = (n for n in tree if isinstance(n, ast.ImportFrom) and (n.module or "").startswith("kapstats"))
    return frozenset(a.asname or a.name for n in ours for a in n.names)


def _spoken(node: ast.AST, path: Path) -> Iterator[str]:
    """Names in a piece of a test: ``ks.name``, imported, a method so called, a text where ``getattr(ks`` stands."""
    by_text = "getattr(ks" in path.read_text(encoding="utf-8")
    for inner in ast.walk(node):
        if isinstance(inner, ast.Attribute) and (
            "_" in inner.attr or getattr(inner.value, "id", "") in ("ks", "kapstats")
        ):
            yield inner.attr
        elif isinstance(inner, ast.Name) and inner.id in _imported(path):
            yield inner.id
        elif by_text and isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            yield inner.value


@functools.cache
def _definitions(path: Path) -> dict[str, tuple[ast.AST, Path]]:
    """Top-level functions and constants of a test file, and those it takes from other test files."""
    found: dict[str, tuple[ast.AST, Path]] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node, path
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                found.update({n.id: (node, path) for n in ast.walk(target) if isinstance(n, ast.Name)})
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = node, path
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tests."):
            other = ROOT / ((node.module or "").replace(".", "/") + ".py")
            theirs = _definitions(other) if other.exists() else {}
            found.update({a.asname or a.name: theirs[a.name] for a in node.names if a.name in theirs})
    return found


def _closure(start: str, path: Path) -> list[tuple[ast.AST, Path]]:
    """A test and everything of ours in the test files that it uses, itself first."""
    todo: list[tuple[str, Path]] = [(start, path)]
    seen: set[int] = set()
    out: list[tuple[ast.AST, Path]] = []
    while todo:
        name, where = todo.pop(0)
        entry = _definitions(where).get(name)
        if entry is None or id(entry[0]) in seen:
            continue
        seen.add(id(entry[0]))
        out.append(entry)
        todo += [(word, entry[1]) for word in dict.fromkeys(_words(entry[0]))]
    return out


@functools.cache
def tests() -> tuple[Test, ...]:
    """Every test function below tests/ that a folder of meaning holds."""
    found = []
    for path in sorted(TESTS.rglob("test_*.py")):
        file = path.relative_to(TESTS).as_posix()
        for name in (n for n in _definitions(path) if n.startswith("test_")):
            nodes = _closure(name, path)
            text = "\n".join(ast.unparse(n) for n, _ in nodes)
            found.append(Test(file, name, text, frozenset(w for n, where in nodes for w in _spoken(n, where))))
    return tuple(found)


def of(name: str) -> list[Test]:
    """Tests that speak of an estimator."""
    return [t for t in tests() if name in t.words]


# ------------------------------------------------------------------------------------------------ reference agreement


VERSION = re.compile(r"\b([A-Za-z][\w.]*) (\d+\.\d+[.-]\d+(?:[.-]\d+)?)")


def software(file: str) -> str:
    """What a reference file compares with: versions in its first line, else those in its folder's readme."""
    said = ast.get_docstring(ast.parse((TESTS / file).read_text(encoding="utf-8"))) or ""
    readme = re.search(r"see (\S+/README\.md)", said)
    if readme:
        simulated = "sim" in Path(file).stem.split("_")
        paragraphs = (TESTS / "reference" / readme[1]).read_text(encoding="utf-8").split("\n\n")
        said = "\n".join(p for p in paragraphs if p.startswith("`sim_") == simulated)
    known = [f"{a} {b}" for a, b in VERSION.findall(said)]
    return ", ".join(dict.fromkeys(known)) or "closed forms"


def _number(node: ast.AST | None, constants: dict[str, object]) -> object:
    if isinstance(node, ast.IfExp):
        return _number(node.body, constants)
    if isinstance(node, ast.BinOp):
        return _number(node.left, constants)
    return constants.get(getattr(node, "id", ""), getattr(node, "value", None))


def tolerances(test: Test) -> list[float]:
    """Numbers given as a tolerance in a test and its helpers, names of constants resolved."""
    nodes = list(ast.walk(ast.parse(test.text)))
    named = [n for n in nodes if isinstance(n, ast.Assign) and isinstance(n.targets[0], ast.Name)]
    constants = {n.targets[0].id: _number(n.value, {}) for n in named if isinstance(n.targets[0], ast.Name)}
    found: list[object] = []
    for node in nodes:
        if isinstance(node, ast.keyword) and node.arg in COMPARES:
            found.append(_number(node.value, constants))
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "").startswith("agree") and len(node.args) > 2:
            found.append(_number(node.args[2], constants))
        elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Lt):
            found.append(_number(node.comparators[0], constants))
        elif isinstance(node, ast.arguments) and any(a.arg == "tolerance" for a in node.args):
            found += [_number(d, constants) for d in node.defaults]
    return sorted({float(v) for v in found if isinstance(v, int | float) and 1e-20 < v < 0.009})


def collected() -> dict[tuple[str, str], int]:
    """Cases of every test function below tests/reference, counted by pytest."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-q",
        "-o",
        "addopts=",
        "-p",
        "no:cacheprovider",
        "tests/reference",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    count: dict[tuple[str, str], int] = {}
    for line in done.stdout.splitlines():
        found = re.match(r"tests/(reference/\w+\.py)::(\w+)", line)
        if found:
            count[found[1], found[2]] = count.get((found[1], found[2]), 0) + 1
    return count


def agreement(counts: dict[tuple[str, str], int]) -> list[tuple[str, ...]]:
    """One row per reference test that compares an estimator with recorded results."""
    rows = []
    for t in tests():
        held = [n for n in names() if n in t.words]
        near = tolerances(t)
        if t.kind != "reference" or not held or not near or not RECORDED.search(t.text):
            continue
        span = f"{near[0]:.0e}" if len(near) == 1 else f"{near[0]:.0e} to {near[-1]:.0e}"
        what = t.name.removeprefix("test_").replace("_", " ")
        rows.append(
            (
                t.file,
                what,
                ", ".join(held),
                software(t.file),
                span.replace("e-0", "e-"),
                str(counts.get((t.file, t.name), 0)),
            )
        )
    return rows


# ------------------------------------------------------------------------------------------------ the page


def cell(found: list[Test]) -> str:
    """How many tests, and the file that has most of them."""
    if not found:
        return "none"
    files = [t.file for t in found]
    most = max(dict.fromkeys(files), key=files.count)
    return f"{len(found)}: `{most}`"


def certificates() -> set[str]:
    """Names of estimators with a published certificate, as far as their methods go ("cox", "mmrm-z" of "mmrm")."""
    files = (path.stem.split("--") for path in AGREEMENT.parent.glob("*--*.csv"))
    return {part[0] for part in files}


def page() -> str:
    """The list as Markdown."""
    held = certificates()
    lines = [
        "# What is tested of every estimator",
        "",
        "Made from the tests by `python tools/coverage.py`: how many tests of each kind call the estimator, directly",
        "or through a helper of the tests, and the file with most of them. Tests of its kernels alone are not counted.",
        "*Reference* stands beside other software or published numbers, *truth or law* beside the known truth of",
        "simulated trials or properties that always hold; *degenerate* feeds what cannot be estimated or lies at an",
        "edge; *certificate* names the published simulation studies. `validation.html` has every comparison.",
        "",
        "| estimator | reference | truth or law | degenerate | certificate |",
        "|---|---|---|---|---|",
    ]
    for name in names():
        mine = of(name)
        reference = [t for t in mine if t.kind in ("reference", "published")]
        laws = [t for t in mine if t.kind in ("truth", "properties")]
        own = sorted(c for c in held if c.split("-")[0] == CERTIFIED_AS.get(name, name))
        row = (name, cell(reference), cell(laws), cell([t for t in mine if t.extreme]), ", ".join(own) or "none")
        lines.append(f"| `{row[0]}` | " + " | ".join(row[1:]) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write both files."""
    rows = [COLUMNS, *(row for row in agreement(collected()) if row[-1] != "0")]
    AGREEMENT.write_text("".join("\t".join(r) + "\n" for r in rows), encoding="utf-8", newline="\n")
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
    print(f"{PAGE.relative_to(ROOT)}, {AGREEMENT.relative_to(ROOT)}: {len(names())} names, {len(rows) - 1} comparisons")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
