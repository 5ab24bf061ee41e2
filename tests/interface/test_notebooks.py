"""Notebooks run from first to last, and the .ipynb beside each source is that source, executed."""

from __future__ import annotations

import ast
import runpy
from pathlib import Path

import matplotlib
import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "notebooks").glob("*.py"))
BUILD = "run: python tools/notebooks.py"


def test_there_are_notebooks() -> None:
    assert [p.name for p in SOURCES if p.name == "01-first-look.py"]


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
@pytest.mark.filterwarnings("ignore::kapstats.errors.KapstatsWarning")
def test_notebook_runs(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib import pyplot

    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(source), run_name="__notebook__")
    pyplot.close("all")


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_ipynb_is_the_source_executed(source: Path) -> None:
    jupytext = pytest.importorskip("jupytext")
    nbformat = pytest.importorskip("nbformat")
    target = source.with_suffix(".ipynb")
    assert target.exists(), BUILD
    written = nbformat.read(target, as_version=4)
    wanted = jupytext.read(source, fmt="py:percent")
    assert [(c.cell_type, c.source) for c in written.cells] == [(c.cell_type, c.source) for c in wanted.cells], BUILD
    code = [c for c in written.cells if c.cell_type == "code"]
    assert all(c.execution_count for c in code), BUILD
    assert not [o for c in code for o in c.outputs if o.output_type == "error"]


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_notebook_tells_a_story(source: Path) -> None:
    text = source.read_text(encoding="utf-8")
    ast.parse(text)
    prose = text.count("# %% [markdown]")
    assert prose >= 4
    assert text.count("# %%") - prose <= 3 * prose


def test_every_plot_of_the_first_look_is_shown() -> None:
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(ROOT / "notebooks" / "01-first-look.ipynb", as_version=4)
    shown = {i for i, c in enumerate(notebook.cells) for o in c.get("outputs", []) if "image/png" in o.get("data", {})}
    assert shown == {i for i, c in enumerate(notebook.cells) if c.cell_type == "code" and ".plot(" in c.source}
