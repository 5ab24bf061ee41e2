"""Tables as Rich Text Format: landscape letter page, header row repeated on every page."""

from __future__ import annotations

from pathlib import Path

from kapstats.table import Table

PAGE = 15840 - 2 * 1080  # usable twips across a landscape page


def write(table: Table, path: Path) -> Path:
    """Write `table` to `path`; the file is pure ASCII."""
    path.write_text(render(table), encoding="ascii")
    return path


def render(table: Table) -> str:
    """The whole RTF document."""
    edges = _edges(table)
    head = _row(table.columns, edges, table.align, bold=True, rule="tb", header=True)
    last = len(table.rows) - 1
    body = [
        _row(row, edges, table.align, rule="b" if i == last else "", indent=table.indent[i])
        for i, row in enumerate(table.rows)
    ]
    title = rf"\pard\qc\b {_safe(table.title)}\b0\par\par" if table.title else ""
    notes = "\n".join(rf"\pard\ql\fs16 {_safe(note)}\par" for note in table.footnotes)
    page = r"\paperw15840\paperh12240\landscape\margl1080\margr1080\margt1080\margb1080"
    fonts = r"{\fonttbl{\f0\froman\fcharset0 Times New Roman;}}"
    return "\n".join([rf"{{\rtf1\ansi\deff0{fonts}{page}\fs18", title, head, *body, notes, "}"]) + "\n"


def _edges(table: Table) -> list[int]:
    """Right cell edges in twips, in proportion to the widest text of each column."""
    cells = [table.columns, *table.rows]
    widths = [max(4, *(min(40, len(row[j])) for row in cells)) for j in range(len(table.columns))]
    total, at, edges = sum(widths), 0, []
    for width in widths:
        at += width
        edges.append(round(PAGE * at / total))
    return edges


def _row(
    cells: tuple[str, ...],
    edges: list[int],
    align: tuple[str, ...],
    *,
    bold: bool = False,
    rule: str = "",
    header: bool = False,
    indent: int = 0,
) -> str:
    borders = "".join(rf"\clbrdr{side}\brdrs\brdrw10" for side in rule)
    definition = "".join(rf"{borders}\cellx{edge}" for edge in edges)
    face = (r"\b ", r"\b0") if bold else ("", "")
    text = "".join(
        rf"\pard\intbl{_paragraph(side, indent if j == 0 else 0)} {face[0]}{_safe(cell)}{face[1]}\cell"
        for j, (cell, side) in enumerate(zip(cells, align, strict=True))
    )
    repeat = r"\trhdr" if header else ""
    return rf"\trowd\trgaph70{repeat}{definition}{text}\row"


def _paragraph(side: str, indent: int) -> str:
    return (r"\ql" if side == "left" else r"\qr") + (rf"\li{240 * indent}" if indent else "")


def _safe(text: str) -> str:
    return "".join(_character(c) for c in " ".join(text.split()))


def _character(c: str) -> str:
    if c in "\\{}":
        return "\\" + c
    if ord(c) < 128:
        return c
    units = c.encode("utf-16-le")
    codes = [int.from_bytes(units[i : i + 2], "little", signed=True) for i in range(0, len(units), 2)]
    return "".join(rf"\u{code}?" for code in codes)
