"""The evidence pack: every reproduction on one page that a reviewer can attach, and its lines as csv."""

from __future__ import annotations

import html
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kapstats.evidence.gallery.entry import Reproduction

STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1f2328}"
    "table{border-collapse:collapse;margin:.5rem 0}th,td{padding:.15rem .6rem;border-bottom:1px solid #e1e4e8;"
    "text-align:right}th:first-child,td:first-child{text-align:left}svg{max-width:100%;height:auto}"
    "tbody th{font-weight:400}caption{text-align:left;font-weight:600}nav li{margin:.1rem 0}.scroll{overflow-x:auto}"
    ".skip{position:absolute;left:-99rem}.skip:focus{left:1rem;background:#fff;padding:.3rem}"
)


def write_page(reproductions: Iterable[Reproduction], path: str | Path) -> Path:
    """Write one HTML file with tables and figures (inline SVG, nothing is loaded), and the lines beside it as csv."""
    import pandas as pd

    path, found = Path(path), list(reproductions)
    exact = [line for r in found for line in r.lines if line.kind == "exact"]
    said = f"{sum(line.agrees for line in exact)} of {len(exact)} printed numbers are reproduced to their last digit."
    entries = [
        f'<li><a href="#{r.entry.id}">{r.entry.id} {html.escape(r.entry.title)}</a> ({r.verdict})</li>' for r in found
    ]
    lead = f"<p>{said}</p><nav><ul>{''.join(entries)}</ul></nav>"
    body = "".join(section(r) for r in found)
    path.write_text(render_page("Published results, reproduced", lead, body), encoding="utf-8")
    rows = pd.concat([r.to_frame().assign(name=r.entry.name) for r in found], ignore_index=True)
    rows.to_csv(path.with_suffix(".csv"), index=False)
    return path


def render_page(title: str, lead: str, body: str) -> str:
    """A page that loads nothing: title and `lead` in its header, `body` in its main part (both are HTML)."""
    from kapstats.report.page import SWITCHED

    colours = ":root{" + ";".join(f"--c{colour[1:]}:{colour}" for colour in SWITCHED) + "}"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><title>{html.escape(title)}</title>'
        f'<style>{colours}{STYLE}</style></head><body><a class="skip" href="#main">Skip to the content</a>'
        f'<header><h1>{html.escape(title)}</h1>{lead}</header><main id="main">{body}</main></body></html>\n'
    )


def scrolled(table: str, name: str) -> str:
    """A table (HTML) that scrolls sideways where the screen is narrow."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(name)}">{table}</div>'


def section(reproduction: Reproduction) -> str:
    """The table and the figure of one result."""
    entry = reproduction.entry
    said = f"Published beside reproduced numbers of the table above; {entry.source}"
    drawn = render_svg(reproduction.figure, entry.title, said, entry.id)
    return f'<section id="{entry.id}">{scrolled(reproduction.to_html(), entry.title)}{drawn}</section>'


def render_svg(figure: Any, title: str, description: str, prefix: str) -> str:
    """A figure as text that stands in a page, its ids beginning with `prefix`."""
    from kapstats.report.figures.style import to_svg
    from kapstats.report.page import inline

    return inline(to_svg(figure.axes[0], title=title, description=description), prefix=prefix)
