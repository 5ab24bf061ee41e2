"""Execute the percent sources in notebooks/ and write the .ipynb beside each: python tools/notebooks.py [NAME ...]

The same source gives the same file: cells are numbered, times and execution metadata are left out.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"


def build(source: Path) -> Path:
    """Run `source` cell by cell and write the notebook with its outputs."""
    import jupytext
    import nbformat
    from nbclient import NotebookClient

    notebook = jupytext.read(source, fmt="py:percent")
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}}
    ).execute()
    target = source.with_suffix(".ipynb")
    nbformat.write(cleaned(notebook), target)
    return target


def cleaned(notebook: Any) -> Any:
    """`notebook` without what differs between two runs."""
    notebook.metadata = {
        "jupytext": {"formats": "ipynb,py:percent"},
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = joined([o for o in cell.outputs if o.get("name") != "stderr"])
    return notebook


def joined(outputs: list[Any]) -> list[Any]:
    """`outputs` with printed text in one piece: where a kernel cuts it depends on the moment."""
    made: list[Any] = []
    for output in outputs:
        if made and output.output_type == made[-1].output_type == "stream":
            made[-1].text += output.text
        else:
            made.append(output)
    return made


def main(names: list[str]) -> int:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for source in sorted(FOLDER.glob("*.py")):
        if not names or source.stem in names:
            print(build(source).name)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
