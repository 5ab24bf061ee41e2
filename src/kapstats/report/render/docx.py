"""Tables as Word files, through python-docx (extra ``kapstats[docx]``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kapstats.table import Table


def write(table: Table, path: Path) -> Path:
    """Write `table` to `path`: title, a three-line table with a repeated header row, footnotes."""
    try:
        import docx
    except ImportError as error:
        raise ImportError("Word output needs python-docx: pip install 'kapstats[docx]'.") from error
    document = docx.Document()
    if table.title:
        document.add_heading(table.title, level=2)
    grid = document.add_table(rows=1 + len(table.rows), cols=len(table.columns), style="Light List")
    _fill(grid.rows[0].cells, table.columns, table.align, 0)
    _repeat(grid.rows[0])
    for i, row in enumerate(table.rows):
        _fill(grid.rows[i + 1].cells, row, table.align, table.indent[i])
    for note in table.footnotes:
        document.add_paragraph(note, style="Caption")
    document.save(str(path))
    return path


def _fill(cells: Any, texts: tuple[str, ...], align: tuple[str, ...], indent: int) -> None:
    from docx.enum.text import WD_ALIGN_PARAGRAPH
    from docx.shared import Pt

    for j, (cell, text, side) in enumerate(zip(cells, texts, align, strict=True)):
        paragraph = cell.paragraphs[0]
        paragraph.text = text
        paragraph.alignment = WD_ALIGN_PARAGRAPH.LEFT if side == "left" else WD_ALIGN_PARAGRAPH.RIGHT
        if j == 0 and indent:
            paragraph.paragraph_format.left_indent = Pt(10 * indent)


def _repeat(row: Any) -> None:
    """Mark `row` as a header that Word repeats on each page."""
    from docx.oxml import OxmlElement
    from docx.oxml.ns import qn

    mark = OxmlElement("w:tblHeader")
    mark.set(qn("w:val"), "true")
    row._tr.get_or_add_trPr().append(mark)
