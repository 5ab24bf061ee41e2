"""The evidence pack: every reproduction on one page that a reviewer can attach, and its lines as csv."""

from __future__ import annotations

import html
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kapstats.evidence.gallery.entry import Reproduction

STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1f2328}"
    "table{border-collapse:collapse;margin:.5rem 0}th,td{padding:.15rem .6rem;border-bottom:1px solid #e1e4e8;"
    "text-align:right}th:first-child,td:first-child{text-align:left}svg{max-width:100%;height:auto}"
    "caption{text-align:left;font-weight:600}nav li{margin:.1rem 0}"
)


def write_page(reproductions: Iterable[Reproduction], path: str | Path) -> Path:
    """Write one HTML file with tables and figures (inline SVG, nothing is loaded), and the lines beside it as csv."""
    import pandas as pd

    path, found = Path(path), list(reproductions)
    exact = [line for r in found for line in r.lines if line.kind == "exact"]
    said = f"{sum(line.agrees for line in exact)} of {len(exact)} printed numbers are reproduced to their last digit."
    parts = [f"<h1>Published results, reproduced</h1><p>{said}</p><nav><ul>"]
    parts += [
        f'<li><a href="#{r.entry.id}">{r.entry.id} {html.escape(r.entry.title)}</a> ({r.verdict})</li>' for r in found
    ]
    parts.append("</ul></nav>")
    parts += [section(r) for r in found]
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>Published results</title>'
    path.write_text(f"{head}<style>{STYLE}</style><body><main>{''.join(parts)}</main></body></html>", encoding="utf-8")
    rows = pd.concat([r.to_frame().assign(name=r.entry.name) for r in found], ignore_index=True)
    rows.to_csv(path.with_suffix(".csv"), index=False)
    return path


def section(reproduction: Reproduction) -> str:
    """The table and the figure of one result."""
    return f'<section id="{reproduction.entry.id}">{reproduction.to_html()}{svg(reproduction.figure)}</section>'


def svg(figure: Any) -> str:
    """A figure as text that stands in a page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", pad_inches=0.06, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
