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
PAGES = [  # those made by tools/docs_pages.py begin with _
    ROOT / "README.md",
    *sorted(p for p in (ROOT / "docs").rglob("*.md") if not p.relative_to(ROOT / "docs").parts[0].startswith("_")),
]
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


def test_every_public_name_is_in_the_reference(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    text = importlib.import_module("docs_pages").reference()
    listed = re.findall(r"auto(?:function|class|module):: (kapstats[\w.]+)", text)
    assert len(listed) == len(set(listed)) == len(kapstats._EXPORTS)
    assert {name.rsplit(".", 1)[1] for name in listed} == set(kapstats._EXPORTS)


def test_a_page_shows_what_its_blocks_print(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    pages = importlib.import_module("docs_pages")
    text = "a\n\n```python\nx = 2\n```\n\nb\n\n```python\nprint(x + 1)\nprint('word ' * 30)\n```\n\nc\n"
    shown = pages.with_outputs(text)
    assert shown.count(":class: output") == 1
    assert "print('word ' * 30)\n```\n\n```{code-block} text\n:class: output\n\n3\nword" in shown
    assert max(map(len, shown.split("\n"))) <= 100
    with pytest.raises(ZeroDivisionError):
        pages.with_outputs("```python\n1 / 0\n```\n")


def test_a_notebook_becomes_a_page(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    pages = importlib.import_module("docs_pages")
    outputs = [
        {"data": {"text/html": ["<style>a</style><table>\n", "\n", "<tr></tr></table>"]}},
        {"data": {"image/png": "AA\n"}},
        {"output_type": "stream", "text": ["said\n"]},
        {"data": {"text/plain": "3"}},
    ]
    cells = [{"cell_type": "markdown", "source": ["# Title"]}, {"cell_type": "code", "source": "1", "outputs": outputs}]
    text = pages.page({"cells": cells})
    assert text.startswith("# Title\n\n```python\n1\n```\n\n")
    assert "<table>\n<tr></tr></table>" in text
    assert 'base64,AA"' in text
    assert "```text\nsaid\n```" in text
    assert "<style>" not in text
