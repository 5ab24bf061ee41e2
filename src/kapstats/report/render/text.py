"""Tables as plain text."""

from __future__ import annotations

import textwrap

from kapstats.table import Table


def render(table: Table) -> str:
    """Columns padded to their widest cell, two spaces apart, footnotes wrapped to the table's width."""
    cells = [table.columns, *(indented(table, i) for i in range(len(table.rows)))]
    widths = [max(len(row[j]) for row in cells) for j in range(len(table.columns))]
    lines = ["  ".join(_pad(row[j], w, table.align[j]) for j, w in enumerate(widths)).rstrip() for row in cells]
    width = max(60, sum(widths) + 2 * (len(widths) - 1))
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    notes = [line for note in table.footnotes for line in textwrap.wrap(note, width)]
    return "\n".join([*([table.title] if table.title else []), lines[0], rule, *lines[1:], *notes])


def indented(table: Table, i: int) -> tuple[str, ...]:
    """Row `i` with its first cell indented by two spaces a step."""
    first, *rest = table.rows[i]
    return ("  " * table.indent[i] + first, *rest)


def _pad(text: str, width: int, side: str) -> str:
    return text.ljust(width) if side == "left" else text.rjust(width)
