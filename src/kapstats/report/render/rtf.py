"""Tables as Rich Text Format: one table as it is, or a document with titles, footnotes and numbers on each page."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kapstats.report.document import Layout, Sheet, edges, headings, paginate, panels
from kapstats.table import Table

LONG, SHORT, MARGIN = 15840, 12240, 1080  # a letter page in twips
FONTS = r"{\fonttbl{\f0\froman\fcharset0 Times New Roman;}}"
PAGE_NUMBER = r"Page {\field{\*\fldinst{ PAGE }}{\fldrslt 1}} of {\field{\*\fldinst{ NUMPAGES }}{\fldrslt 1}}"
BEFORE = r"\pard\plain{\fs2\par}"  # LibreOffice loses a section that begins with a table
AFTER_TABLE = r"\pard\plain\fs4 \par"  # a table has to be followed by a paragraph


def write(table: Table, path: Path) -> Path:
    """Write `table` to `path`; the file is pure ASCII."""
    path.write_text(render(table), encoding="ascii")
    return path


def render(table: Table) -> str:
    """One table on landscape pages: title, rows under a header that is repeated on every page, footnotes."""
    title = [rf"\pard\qc\b {safe(table.title)}\b0\par\par"] if table.title else []
    notes = [rf"\pard\ql\fs16 {safe(note)}\par" for note in table.footnotes]
    parts = [_rows(page, LONG - 2 * MARGIN) for part in panels(table) for page in paginate(part)]
    return _whole(Layout(), "\n".join([*title, f"\n{AFTER_TABLE}\n".join(parts), AFTER_TABLE, *notes]))


def document(sheets: Iterable[Sheet], layout: Layout) -> str:
    """All tables, each on pages of its own; titles and footnotes stand in the head and foot of every page."""
    width = (SHORT if layout.portrait else LONG) - 2 * MARGIN
    sections = [
        "\n".join([_section(layout), _head(sheet, layout, width), _foot(sheet, layout), BEFORE, _rows(page, width)])
        for sheet in sheets
        for page in sheet.pages
    ]
    return _whole(layout, f"\n{AFTER_TABLE}\\sect\n".join(sections) + f"\n{AFTER_TABLE}")


def _whole(layout: Layout, body: str) -> str:
    wide, high = (SHORT, LONG) if layout.portrait else (LONG, SHORT)
    turned = "" if layout.portrait else r"\landscape"
    margins = rf"\margl{MARGIN}\margr{MARGIN}\margt{MARGIN}\margb{MARGIN}"
    return rf"{{\rtf1\ansi\deff0{FONTS}\paperw{wide}\paperh{high}{turned}{margins}\fs18" + f"\n{body}\n}}\n"


def _section(layout: Layout) -> str:
    wide, high = (SHORT, LONG) if layout.portrait else (LONG, SHORT)
    turned = "" if layout.portrait else r"\lndscpsxn"
    return rf"\sectd\sbkpage\pgwsxn{wide}\pghsxn{high}{turned}\headery720\footery720"


def _head(sheet: Sheet, layout: Layout, width: int) -> str:
    running = rf"\pard\ql\tqr\tx{width}\fs18 {safe(layout.header)}\tab {PAGE_NUMBER}\par\par"
    titles = "".join(
        rf"\pard\qc\fs20{bold} {safe(line)}\b0\par"
        for bold, line in zip((r"\b", r"\b", *[""] * len(sheet.titles)), sheet.titles, strict=False)
    )
    return rf"{{\header {running}{titles}\pard\fs12\par}}"


def _foot(sheet: Sheet, layout: Layout) -> str:
    lines = [*sheet.footnotes, *([layout.footer] if layout.footer else [])]
    notes = "".join(rf"\pard\ql\fs16 {safe(line)}\par" for line in lines)
    return rf"{{\footer \pard\fs8\par {notes}}}"


def _rows(table: Table, width: int) -> str:
    """Header row, repeated on every page, then the rows; a heading stays with the row under it."""
    places, last = edges(table, width), len(table.rows) - 1
    head = _row(table.columns, places, table.align, bold=True, rule="tb", header=True)
    body = [
        _row(row, places, table.align, rule="b" * (i == last), indent=step, stay=stay)
        for i, (row, step, stay) in enumerate(zip(table.rows, table.indent, headings(table), strict=True))
    ]
    return "\n".join([head, *body])


def _row(
    cells: tuple[str, ...],
    places: tuple[int, ...],
    align: tuple[str, ...],
    *,
    bold: bool = False,
    rule: str = "",
    header: bool = False,
    indent: int = 0,
    stay: bool = False,
) -> str:
    borders = "".join(rf"\clbrdr{side}\brdrs\brdrw10" for side in rule)
    bottom = r"\clvertalb" if header else ""
    definition = "".join(rf"{borders}{bottom}\cellx{edge}" for edge in places)
    face = (r"\b ", r"\b0") if bold else ("", "")
    kept = (r"\keepn" if stay else "") + (r"\sb30\sa30" if header else "")
    text = "".join(
        rf"\pard\plain\fs18\intbl{kept}{_paragraph(side, indent if j == 0 else 0)} {face[0]}{safe(cell)}{face[1]}\cell"
        for j, (cell, side) in enumerate(zip(cells, align, strict=True))
    )
    repeat = r"\trhdr" if header else ""
    return rf"\trowd{repeat}\trgaph70\trkeep{definition}{text}\row"


def _paragraph(side: str, indent: int) -> str:
    return (r"\ql" if side == "left" else r"\qr") + (rf"\li{240 * indent}" if indent else "")


def safe(text: str) -> str:
    r"""`text` as it has to stand in RTF: braces and backslashes escaped, everything beyond ASCII as ``\u``.

    Examples
    --------
    >>> safe("{\\b} 5 µg")
    '\\{\\\\b\\} 5 \\u181?g'
    """
    return "".join(_character(c) for c in " ".join(text.split()))


def _character(c: str) -> str:
    if c in "\\{}":
        return "\\" + c
    if ord(c) < 128:
        return c if c.isprintable() else ""
    units = c.encode("utf-16-le", "replace")
    codes = [int.from_bytes(units[i : i + 2], "little", signed=True) for i in range(0, len(units), 2)]
    return "".join(rf"\u{code}?" for code in codes)
