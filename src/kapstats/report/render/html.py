"""Tables as HTML; every text is escaped."""

from __future__ import annotations

from html import escape

from kapstats.table import Table


def render(table: Table) -> str:
    """A ``<table class="kapstats">`` with caption, scoped headers, row headers and footnotes in ``<tfoot>``."""
    caption = f"<caption>{escape(table.title)}</caption>" if table.title else ""
    heads = zip(table.columns, table.align, strict=True)
    head = "".join(_head(text, side) for text, side in heads)
    body = "\n".join(_row(table, i) for i in range(len(table.rows)))
    notes = "".join(f"<div>{escape(note)}</div>" for note in table.footnotes)
    span = len(table.columns)
    foot = f'<tfoot><tr><td colspan="{span}">{notes}</td></tr></tfoot>' if notes else ""
    return f'<table class="kapstats">{caption}<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>{foot}</table>'


def _head(text: str, side: str) -> str:
    """A column header; a plain cell where there is no word to read out."""
    tag, scope = ("th", ' scope="col"') if text.strip() else ("td", "")
    return f'<{tag}{scope} class="{side}">{escape(text)}</{tag}>'


def _row(table: Table, i: int) -> str:
    first, *rest = table.rows[i]
    step = f" indent{table.indent[i]}" if table.indent[i] else ""
    lead = f'<th scope="row" class="{table.align[0]}{step}">{escape(first)}</th>'
    cells = zip(rest, table.align[1:], strict=True)
    return f"<tr>{lead}" + "".join(f'<td class="{side}">{escape(text)}</td>' for text, side in cells) + "</tr>"
