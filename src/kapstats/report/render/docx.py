"""Tables as Word files, through python-docx (extra ``kapstats[docx]``)."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kapstats.report.document import Layout, Sheet, edges, headings, paginate, panels
from kapstats.table import Table

LONG, SHORT, MARGIN = 15840, 12240, 1080  # a letter page in twips
POINTS = 9  # of the text
#: what XML cannot hold
FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write(table: Table, path: Path) -> Path:
    """Write `table` to `path`: title, a table with three rules and a repeated header row, footnotes."""
    made = _new(Layout())
    if table.title:
        _line(made.add_paragraph(), table.title, bold=True, points=POINTS + 2)
    parts = [page for part in panels(table) for page in paginate(part)]
    for i, page in enumerate(parts):
        if i:
            made.add_paragraph()
        _grid(made, page, LONG - 2 * MARGIN)
    for note in table.footnotes:
        _line(made.add_paragraph(), note, points=POINTS - 1)
    path.write_bytes(_bytes(made))
    return path


def document(sheets: Iterable[Sheet], layout: Layout) -> bytes:
    """All tables, each on pages of its own; titles and footnotes stand in the head and foot of every page."""
    made, width = _new(layout), (SHORT if layout.portrait else LONG) - 2 * MARGIN
    pages = [(sheet, page) for sheet in sheets for page in sheet.pages]
    for i, (sheet, page) in enumerate(pages):
        _running(made.add_section() if i else made.sections[0], sheet, layout, width)
        _grid(made, page, width)
        _line(made.add_paragraph(), "", points=2)  # a table has to be followed by a paragraph
    return _bytes(made)


def _new(layout: Layout) -> Any:
    try:
        import docx
    except ImportError as error:
        raise ImportError("Word output needs python-docx: pip install 'kapstats[docx]'.") from error
    from docx.enum.section import WD_ORIENT
    from docx.shared import Pt, Twips

    made = docx.Document()
    section, style = made.sections[0], made.styles["Normal"]
    wide, high = (SHORT, LONG) if layout.portrait else (LONG, SHORT)
    section.page_width, section.page_height = Twips(wide), Twips(high)
    section.orientation = WD_ORIENT.PORTRAIT if layout.portrait else WD_ORIENT.LANDSCAPE
    section.left_margin = section.right_margin = section.top_margin = section.bottom_margin = Twips(MARGIN)
    style.font.name, style.font.size = "Times New Roman", Pt(POINTS)
    style.paragraph_format.space_after = Pt(0)
    return made


def _running(section: Any, sheet: Sheet, layout: Layout, width: int) -> None:
    """Titles and page number at the head, footnotes at the foot, of this section alone."""
    from docx.enum.text import WD_ALIGN_PARAGRAPH, WD_TAB_ALIGNMENT
    from docx.shared import Twips

    section.header.is_linked_to_previous = section.footer.is_linked_to_previous = False
    top = section.header.paragraphs[0]
    top.style = "Normal"
    top.paragraph_format.tab_stops.add_tab_stop(Twips(width), WD_TAB_ALIGNMENT.RIGHT)
    _line(top, f"{_clean(layout.header)}\tPage ")
    _field(top, "PAGE")
    _line(top, " of ")
    _field(top, "NUMPAGES")
    section.header.add_paragraph(style="Normal")
    for i, title in enumerate(sheet.titles):
        line = section.header.add_paragraph(style="Normal")
        line.alignment = WD_ALIGN_PARAGRAPH.CENTER
        _line(line, title, bold=i < 2, points=POINTS + 1)
    section.header.add_paragraph(style="Normal")
    notes = [*sheet.footnotes, *([layout.footer] if layout.footer else [])]
    for i, note in enumerate(notes):
        line = section.footer.paragraphs[0] if i == 0 else section.footer.add_paragraph()
        line.style = "Normal"
        _line(line, note, points=POINTS - 1)


def _grid(made: Any, table: Table, width: int) -> None:
    """The table: rules above and below its header and at its end, header repeated, headings kept with their rows."""
    from docx.shared import Twips

    grid = made.add_table(rows=1 + len(table.rows), cols=len(table.columns))
    grid.autofit = False
    places = edges(table, width)
    sizes = [Twips(b - a) for a, b in zip((0, *places[:-1]), places, strict=True)]
    for column, size in zip(grid.columns, sizes, strict=True):
        column.width = size
    stay = (True, *headings(table))
    for i, (row, texts) in enumerate(zip(grid.rows, (table.columns, *table.rows), strict=True)):
        step = table.indent[i - 1] if i else 0
        _fill(row, texts, table.align, sizes, step, bold=i == 0, stay=stay[i])
        _mark(row, "w:cantSplit")
    _mark(grid.rows[0], "w:tblHeader")
    _rule(grid.rows[0], "top", "bottom")
    _rule(grid.rows[-1], "bottom")


def _fill(
    row: Any, texts: tuple[str, ...], align: tuple[str, ...], sizes: list[Any], step: int, *, bold: bool, stay: bool
) -> None:
    from docx.enum.table import WD_CELL_VERTICAL_ALIGNMENT
    from docx.enum.text import WD_ALIGN_PARAGRAPH
    from docx.shared import Pt

    for j, (cell, text, side, size) in enumerate(zip(row.cells, texts, align, sizes, strict=True)):
        cell.width = size
        if bold:
            cell.vertical_alignment = WD_CELL_VERTICAL_ALIGNMENT.BOTTOM
        line = cell.paragraphs[0]
        line.alignment = WD_ALIGN_PARAGRAPH.LEFT if side == "left" else WD_ALIGN_PARAGRAPH.RIGHT
        line.paragraph_format.keep_with_next = stay
        if j == 0 and step:
            line.paragraph_format.left_indent = Pt(10 * step)
        _line(line, text, bold=bold)


def _line(paragraph: Any, text: str, *, bold: bool = False, points: int = POINTS) -> None:
    from docx.shared import Pt

    run = paragraph.add_run(_clean(text))
    run.bold, run.font.size = bold, Pt(points)


def _clean(text: str) -> str:
    return FORBIDDEN.sub("", text)


def _field(paragraph: Any, name: str) -> None:
    """A number that Word fills in: PAGE, NUMPAGES."""
    field = _element("w:fldSimple", {"w:instr": name})
    run = paragraph.add_run("1")
    field.append(run._r)
    paragraph._p.append(field)


def _mark(row: Any, name: str) -> None:
    row._tr.get_or_add_trPr().append(_element(name, {"w:val": "true"}))


def _rule(row: Any, *sides: str) -> None:
    for cell in row.cells:
        borders = _element("w:tcBorders", {})
        for side in sides:
            borders.append(_element(f"w:{side}", {"w:val": "single", "w:sz": "6", "w:space": "0", "w:color": "000000"}))
        properties = cell._tc.get_or_add_tcPr()
        width = properties.find(borders.nsmap["w"].join("{}") + "tcW")
        properties.insert(0 if width is None else 1, borders)


def _element(name: str, attributes: dict[str, str]) -> Any:
    from docx.oxml import OxmlElement
    from docx.oxml.ns import qn

    made = OxmlElement(name)
    for key, value in attributes.items():
        made.set(qn(key), value)
    return made


def _bytes(made: Any) -> bytes:
    """The file; its parts bear one fixed date, so that the same tables give the same bytes."""
    properties = made.core_properties
    properties.author, properties.comments = "kapstats", ""
    first, second = io.BytesIO(), io.BytesIO()
    made.save(first)
    with zipfile.ZipFile(first) as old, zipfile.ZipFile(second, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(entry, old.read(name))
    return second.getvalue()
