"""The house: imports point down, pillars do not know each other, importing is cheap, nothing reaches out."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import kapstats

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "kapstats"
MODULES = sorted(SOURCE.rglob("*.py"))

#: from the ground up; what stands in one line is one floor
FLOORS = (
    ("errors", "_types"),
    ("kernels",),
    ("columns", "labels"),
    ("frames", "scales", "table", "display", "interchange", "estimates"),
    ("data",),
    ("formula",),
    ("inference",),
    ("response", "relapse", "safety"),
    ("simulation",),
    ("evidence",),
    ("certification",),
    ("report",),
    ("pipeline",),
    ("cli", "cli_evidence", "__main__"),
)
LEVEL = {name: level for level, floor in enumerate(FLOORS) for name in floor}
PILLARS = FLOORS[7]
#: names of functions in which a result may reach up to the floor that draws and prints it
SHOWING = re.compile(r"plot|to_\w+|_repr_\w+|table|__str__|render")


def imports(path: Path) -> Iterator[tuple[str, int, str]]:
    """(imported module, line, name of the enclosing function or "") of every import of ours; type-checking ones not."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    yield from _walk(tree.body, "")


def _walk(body: list[ast.stmt], function: str) -> Iterator[tuple[str, int, str]]:
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno, function) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            module = node.module or ""
            yield from (
                (f"{module}.{a.name}" if module == "kapstats" else module, node.lineno, function) for a in node.names
            )
        inner = node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else function
        for field in ("body", "orelse", "finalbody"):
            yield from _walk([n for n in getattr(node, field, []) if isinstance(n, ast.stmt)], inner)
        for handler in getattr(node, "handlers", []):
            yield from _walk(handler.body, inner)


def floor_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def ours(path: Path) -> Iterator[tuple[str, int, str]]:
    """(floor imported, line, function) of every import of a floor of ours."""
    for module, line, function in imports(path):
        parts = module.split(".")
        if parts[0] == "kapstats" and len(parts) > 1 and parts[1] in LEVEL:
            yield parts[1], line, function


def test_every_module_has_a_floor() -> None:
    known = {*LEVEL, "__init__"}
    assert {floor_of(path) for path in MODULES} <= known


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_down(path: Path) -> None:
    own = floor_of(path)
    if own == "__init__":
        return
    for floor, line, function in ours(path):
        if floor == own:
            continue
        where = f"{path.relative_to(ROOT)}:{line}"
        shows = floor == "report" and SHOWING.search(function)
        checks = function == "check" and floor == "data"
        reads = own == "frames" and function == "_read_path" and floor == "data"  # a path in place of a table
        assert LEVEL[floor] <= LEVEL[own] or shows or checks or reads, f"{where}: {own} imports {floor}"
        assert not (own in PILLARS and floor in PILLARS), f"{where}: pillar {own} imports pillar {floor}"


def test_the_check_would_notice_an_import_that_points_up(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text("from kapstats.report import page\ndef f():\n    import kapstats.cli\n")
    assert [floor for floor, _, _ in ours(path)] == ["report", "cli"]


@pytest.mark.parametrize("path", sorted((SOURCE / "kernels").glob("*.py")), ids=lambda p: p.stem)
def test_kernels_know_numpy_and_scipy_only(path: Path) -> None:
    standard = sys.stdlib_module_names
    for module, line, _ in imports(path):
        top = module.split(".")[0]
        allowed = (
            top in ("numpy", "scipy") or top in standard or module.startswith(("kapstats.kernels", "kapstats._types"))
        )
        assert allowed, f"{path.name}:{line}: {module}"


HEAVY = {
    "matplotlib": {"report"},
    "statsmodels": set(),
    "lifelines": set(),
    "formulaic": {"formula/design.py"},
    "narwhals": {"frames.py"},
    "scipy.stats": set(),
}


@pytest.mark.parametrize("name", HEAVY)
def test_heavy_packages_are_imported_late_and_in_their_place(name: str) -> None:
    for path in MODULES:
        for module, line, function in imports(path):
            if module == name or module.startswith(f"{name}."):
                where = path.relative_to(SOURCE).as_posix()
                assert function or where in HEAVY[name] or floor_of(path) in HEAVY[name], f"{where}:{line}"
                if name == "formulaic":
                    assert where.startswith("formula/"), f"{where}:{line}"


def imported(code: str) -> set[str]:
    """Top-level packages loaded by running `code` in a fresh interpreter."""
    code += "; import sys; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_kapstats_loads_nothing() -> None:
    loaded = imported("import kapstats")
    assert not loaded & {"numpy", "scipy", "pandas", "matplotlib", "formulaic", "narwhals", "statsmodels", "lifelines"}


def test_statistics_do_not_load_what_draws() -> None:
    loaded = imported("import kapstats as ks; ks.mmrm, ks.kaplan_meier, ks.cox, ks.incidence, ks.read_adam, ks.run")
    assert "pandas" in loaded
    assert not loaded & {"matplotlib", "statsmodels", "lifelines", "polars", "dask"}


def test_public_names_are_those_agreed() -> None:
    agreed = (Path(__file__).with_name("public_names.txt")).read_text().split()
    assert sorted(kapstats._EXPORTS) == agreed, (
        "a public name was added or removed: say so in CHANGELOG and public_names.txt"
    )


def test_type_checkers_see_the_public_names() -> None:
    stub = (SOURCE / "__init__.pyi").read_text(encoding="utf-8")
    seen = re.findall(r"^from \S+ import (\w+) as \1$", stub, flags=re.M)
    assert sorted(seen) == sorted(kapstats._EXPORTS), "a public name was added or removed: run python tools/stub.py"


def test_public_names_point_to_modules_of_ours() -> None:
    for name, module in kapstats._EXPORTS.items():
        assert module.split(".")[0] == "kapstats", name
        assert module.split(".")[1] in LEVEL, name


ADDRESS = re.compile(r"https?://[^\s\"'<>)\]}]+")
TEXTS = ("*.py", "*.toml", "*.txt", "*.md", "*.css", "*.js", "*.cfg", "*.ipynb")


def tracked() -> list[Path]:
    """Texts of the project: what git tracks, or everything outside build folders where there is no git."""
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    names = done.stdout.split("\n") if done.returncode == 0 else [str(p.relative_to(ROOT)) for p in ROOT.rglob("*")]
    paths = [ROOT / name for name in names if name and not name.startswith((".venv", "build", "dist"))]
    return [p for p in paths if p.is_file() and any(p.match(pattern) for pattern in TEXTS)]


def test_no_package_index_address_is_committed() -> None:
    index = re.compile(r"pypi\.org/simple|files\.pythonhosted|index-url|--index|extra-index|/simple/", re.I)
    found = [
        p for p in tracked() if p != Path(__file__) and index.search(p.read_text(encoding="utf-8", errors="ignore"))
    ]
    assert found == []


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_no_module_talks_to_a_network(path: Path) -> None:
    forbidden = {"socket", "urllib", "http", "requests", "httpx", "ftplib", "smtplib", "aiohttp", "telnetlib"}
    for module, line, _ in imports(path):
        assert module.split(".")[0] not in forbidden, f"{path.name}:{line}: {module}"
    assert not [
        a
        for a in ADDRESS.findall(path.read_text(encoding="utf-8"))
        if "example" not in a and "w3.org" not in a and "//evil" not in a
    ]


def test_a_run_works_without_a_network(tmp_path: Path) -> None:
    code = (
        "import socket\n"
        "def refuse(*a, **k): raise OSError('network used')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "import kapstats as ks\n"
        "from kapstats.data.trial import Trial\n"
        "from kapstats.pipeline.plan import parse\n"
        'text = \'[study]\\ntitle="t"\\n[[analysis]]\\nkind="survival"\\nname="s"\\ntitle="s"\\nshow=["logrank"]\\n\'\n'
        "text += 'formula=\"Surv(AVAL, CNSR == 0) ~ TRT01P\"'\n"
        "data = {'USUBJID': list('abcd'), 'TRT01P': ['A', 'B'] * 2, 'TRT01PN': [0, 1] * 2}\n"
        "data |= {'AVAL': [1, 2, 3, 4], 'CNSR': [0] * 4}\n"
        "print(ks.run(parse(text), Trial(adtte=data), 'out').folder.name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "out", done.stderr
