"""Pages of the documentation that are made from other files: called by docs/conf.py before Sphinx reads.

The notebooks become pages with the outputs they were executed with, the reference lists every public name, and the
gallery of reproduced results becomes one HTML file beside the validation report.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import tempfile
import textwrap
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```(?:\{code-block\} )?python\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
#: part of the library -> heading in the reference
HEADINGS = {
    "data": "Data",
    "response": "Response",
    "relapse": "Relapse",
    "safety": "Safety",
    "evidence": "Evidence",
    "simulation": "Simulation and certification",
    "certification": "Simulation and certification",
    "pipeline": "Report",
    "estimates": "Results and errors",
}


def write() -> None:
    """Write docs/_notebooks/*.md, docs/_reference.md and docs/_extra/gallery.html."""
    from kapstats.evidence import gallery
    from kapstats.evidence.gallery.page import write_page

    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        _keep(DOCS / "_notebooks" / f"{path.stem}.md", page(json.loads(path.read_text(encoding="utf-8"))))
    _keep(DOCS / "_reference.md", reference())
    extra = DOCS / "_extra"
    extra.mkdir(exist_ok=True)
    write_page([gallery.run(name) for name in gallery.list()], extra / "gallery.html")


def reference() -> str:
    """Every public name under the part of the library that it is from, for autodoc."""
    import kapstats

    groups: dict[str, list[str]] = {heading: [] for heading in HEADINGS.values()}
    for name, module in kapstats._EXPORTS.items():
        value, part = getattr(kapstats, name), module.split(".")[1]
        if isinstance(value, ModuleType):
            line = f".. automodule:: {value.__name__}\n   :members:"
        else:
            kind = "class" if isinstance(value, type) else "function"
            line = f".. auto{kind}:: {module}.{name}" + ("\n   :members:" if kind == "class" else "")
        groups[HEADINGS.get(part, HEADINGS["estimates"])].append(line)
    lines = (f"## {heading}\n\n```{{eval-rst}}\n" + "\n".join(own) + "\n```" for heading, own in groups.items())
    return "\n\n".join(lines) + "\n"


def with_outputs(text: str) -> str:
    """A page in which every block of Python is followed by what it prints; they run in order, in one namespace."""
    names: dict[str, Any] = {"__name__": "__page__", "print": _apart}
    here = os.getcwd()

    def shown(block: re.Match[str]) -> str:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(compile(block[1], "page", "exec"), names)
        said = "\n".join(_wrapped(line) for line in printed.getvalue().rstrip().split("\n"))
        return block[0] + (f"\n\n```{{code-block}} text\n:class: output\n\n{said}\n```" if said else "")

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            return BLOCK.sub(shown, text)
        finally:
            os.chdir(here)


def _apart(*values: Any, **how: Any) -> None:
    """`print`, with an empty line after what has more than one."""
    said = io.StringIO()
    print(*values, file=said, **how)
    print(said.getvalue(), end="\n" * (said.getvalue().count("\n") > 1))


def _wrapped(line: str) -> str:
    """A long line of prose broken; a row of a table, which has gaps, is left alone."""
    return line if "  " in line else textwrap.fill(line, 100, break_long_words=False, break_on_hyphens=False)


def page(notebook: dict[str, Any]) -> str:
    """A notebook as Markdown: prose as it is, code as blocks, outputs as they were."""
    return "\n\n".join(part for cell in notebook["cells"] for part in _cell(cell)) + "\n"


def _cell(cell: dict[str, Any]) -> list[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] != "code":
        return [source]
    return [f"```python\n{source}\n```", *(text for output in cell["outputs"] if (text := _output(output)))]


def _output(output: dict[str, Any]) -> str:
    data = output.get("data", {})
    if "image/png" in data:
        picture = "".join(data["image/png"]).replace("\n", "")
        address = f"data:image/png;base64,{picture}"
        return f'<p class="picture"><img alt="Figure drawn by the code above" src="{address}"></p>'
    if "text/html" in data:
        table = re.sub(r"<style.*?</style>", "", "".join(data["text/html"]), flags=re.S)
        table = table.replace("<th></th>", "<td></td>")
        lines = [line for line in table.splitlines() if line.strip()]  # a blank line would end the HTML block
        return "\n".join(['<div class="output" tabindex="0">', *lines, "</div>"])
    text = "".join(output.get("text", data.get("text/plain", ""))).rstrip()
    return f"```text\n{text}\n```" if text else ""


def _keep(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
