"""Nothing that is shown may go stale: docstring examples, README blocks and documentation pages are executed."""

import doctest
import importlib
import pkgutil
import re
import runpy
from pathlib import Path

import matplotlib
import pytest

import kapstats

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(
    m.name for m in pkgutil.walk_packages(kapstats.__path__, "kapstats.") if not m.name.endswith("__main__")
)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(?:\{code-block\} )?python\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name):
    matplotlib.use("Agg")
    module = importlib.import_module(name)
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    failed, _ = doctest.testmod(module, optionflags=flags)
    assert failed == 0, f"{failed} examples of {name} fail; run python -m doctest on it"


def with_python(pages):
    return [p for p in pages if BLOCK.search(p.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", with_python(PAGES), ids=lambda p: str(p.relative_to(ROOT)))
@pytest.mark.filterwarnings("ignore::kapstats.errors.KapstatsWarning")
def test_code_blocks_of_a_page_run_in_order(page, tmp_path, monkeypatch):
    matplotlib.use("Agg")
    script = tmp_path / "page.py"
    script.write_text("\n".join(BLOCK.findall(page.read_text(encoding="utf-8"))), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(script), run_name="__page__")
