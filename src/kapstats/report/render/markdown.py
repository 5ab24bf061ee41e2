"""Tables as GitHub-flavoured Markdown."""

from __future__ import annotations

from kapstats.table import Table


def render(table: Table) -> str:
    """Title in bold, a pipe table, footnotes as lines below; pipes and angle brackets in texts are escaped."""
    head = [f"**{_safe(table.title)}**", ""] if table.title else []
    rule = [":---" if side == "left" else "---:" for side in table.align]
    body = [("&nbsp;&nbsp;" * step + _safe(row[0]), *map(_safe, row[1:])) for step, row in _rows(table)]
    lines = [_line([_safe(c) for c in table.columns]), _line(rule), *map(_line, body)]
    notes = ["", *(f"{_safe(note)}  " for note in table.footnotes)] if table.footnotes else []
    return "\n".join([*head, *lines, *notes]).rstrip()


def _rows(table: Table) -> list[tuple[int, tuple[str, ...]]]:
    return list(zip(table.indent, table.rows, strict=True))


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"


def _safe(text: str) -> str:
    flat = " ".join(text.split())
    return flat.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace(">", "&gt;")
