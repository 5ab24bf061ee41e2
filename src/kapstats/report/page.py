"""A report as one HTML file: no address is fetched, every text is escaped, figures are inline SVG."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from dataclasses import replace
from html import escape
from importlib import resources

from kapstats.report.block import Answer, Block, Document, Picture, Result
from kapstats.report.figures import style
from kapstats.table import Table

QUESTIONS = {
    "subjects": ("Participants", "Who took part?"),
    "response": ("Response", "Did people respond?"),
    "relapse": ("Relapse", "Did they relapse?"),
    "safety": ("Side effects", "What did it do to them?"),
}
#: short names when a plan asks in its own words
NEUTRAL = {"subjects": "Participants", "response": "Outcome", "relapse": "Time to event", "safety": "Safety"}
#: colours of the figures that follow the page from light to dark
SWITCHED = {style.INK: "#e6e9ed", style.MUTED: "#a3abb5", style.GRID: "#323842"} | {
    mark.colour: mark.dark for mark, _ in style.ROUTES.values()
}

#: figures are shown a little larger than they were drawn
ENLARGED = 1.15


def page(document: Document) -> str:
    """The report as HTML text."""
    css, script = _colours() + _asset("page.css"), _asset("page.js")
    head = (
        f'<!doctype html>\n<html lang="{escape(document.language)}">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(script)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(document.title)}</title>\n<style>\n{css}</style>\n</head>\n"
    )
    sections = "\n".join(_section(question, document) for question in _asked(document.blocks))
    return (
        f'{head}<body>\n<a class="skip" href="#main">Skip to the results</a>\n{_header(document)}\n'
        f'<div class="columns">\n{_navigation(document)}\n<main id="main">\n{_answers(document)}\n{sections}\n'
        f"{_provenance(document)}\n</main>\n</div>\n<script>\n{script}</script>\n</body>\n</html>\n"
    )


def _asset(name: str) -> str:
    return (resources.files("kapstats.report") / name).read_text(encoding="utf-8")


def _policy(script: str) -> str:
    """Nothing is loaded from anywhere; the only script that runs is ours."""
    digest = base64.b64encode(hashlib.sha256(f"\n{script}".encode()).digest()).decode()
    return f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def _colours() -> str:
    """Custom properties for the colours of the figures, on light and on dark pages."""
    light = "".join(f"--c{c[1:]}:{c};" for c in SWITCHED)
    dark = "".join(f"--c{c[1:]}:{d};" for c, d in SWITCHED.items())
    return f":root{{{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"


def _asked(blocks: Iterable[Block]) -> list[str]:
    present = {block.question for block in blocks}
    return [question for question in QUESTIONS if question in present]


def _heading(question: str, document: Document) -> tuple[str, str]:
    """Short name and heading of a section."""
    own = dict(document.questions).get(question)
    return (NEUTRAL[question], own) if own else QUESTIONS[question]


def _header(document: Document) -> str:
    facts = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in document.facts)
    subtitle = f'<p class="subtitle">{escape(document.subtitle)}</p>' if document.subtitle else ""
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in document.notes)
    return f"<header>\n<h1>{escape(document.title)}</h1>\n{subtitle}\n<dl>{facts}</dl>\n{notes}</header>"


def _navigation(document: Document) -> str:
    items = ['<li><a href="#answers">In short</a></li>']
    for question in _asked(document.blocks):
        own = [block for block in document.blocks if block.question == question]
        inner = "".join(f'<li><a href="#{_anchor(b.name)}">{escape(b.title)}</a></li>' for b in own)
        items.append(f'<li><a href="#{question}">{escape(_heading(question, document)[0])}</a><ul>{inner}</ul></li>')
    items.append('<li><a href="#provenance">How this was made</a></li>')
    return f'<nav aria-label="Contents"><ul>{"".join(items)}</ul></nav>'


def _answers(document: Document) -> str:
    cards = []
    for question in _asked(document.blocks):
        said = [answer for b in document.blocks if b.question == question for answer in b.answers]
        failed = any(b.failed for b in document.blocks if b.question == question)
        body = "".join(map(_answer, said)) or f"<p>{'No estimate; see' if failed else 'See'} below.</p>"
        heading = f'<h3><a href="#{question}">{escape(_heading(question, document)[1])}</a></h3>'
        cards.append(f'<div class="card {question}">{heading}{body}</div>')
    return f'<section id="answers"><h2>In short</h2><div class="cards">{"".join(cards)}</div></section>'


def _answer(answer: Answer) -> str:
    """A lead and its lines; every group has the colour it has in the figures."""
    looks = style.marks(label for label, _ in answer.lines)
    lines = "".join(
        f'<div><dt><span class="dot" style="background:var(--c{looks[label].colour[1:]})"></span>'
        f"{escape(style.name(label))}</dt><dd>{escape(value)}</dd></div>"
        for label, value in answer.lines
    )
    return f"<p>{escape(answer.lead)}</p>" + (f"<dl>{lines}</dl>" if lines else "")


def _section(question: str, document: Document) -> str:
    short, asked = _heading(question, document)
    inner = "\n".join(_block(block) for block in document.blocks if block.question == question)
    heading = f'<h2><span class="short">{escape(short)}</span> {escape(asked)}</h2>'
    return f'<section id="{question}" class="question">{heading}\n{inner}\n</section>'


def _block(block: Block) -> str:
    failed = f'<p class="failed"><strong>No estimate.</strong> {escape(block.failed)}</p>' if block.failed else ""
    sentence = f'<p class="sentence">{escape(block.sentence)}</p>' if block.sentence else ""
    warned = "".join(f"<li>{escape(w)}</li>" for w in block.warnings)
    warnings = f'<div class="warnings"><h4>To bear in mind</h4><ul>{warned}</ul></div>' if warned else ""
    methods = "".join(f"<p>{escape(text)}</p>" for text in block.methods if text)
    how = f"<details><summary>Methods</summary>{methods}</details>" if methods else ""
    pictures = "\n".join(_picture(block.name, picture) for picture in block.pictures)
    tables = "\n".join(_table(result, block) for result in block.results if result.table is not None)
    heading = f"<h3>{escape(block.title)}</h3>"
    body = "\n".join(part for part in (heading, failed, sentence, pictures, tables, warnings, how) if part)
    return f'<article id="{_anchor(block.name)}">\n{body}\n</article>'


def _picture(owner: str, picture: Picture) -> str:
    svg = inline(picture.svg, prefix=_slug(f"{owner}-{picture.name}"))
    label = escape(f"Figure: {picture.title}", quote=True)
    return (
        f'<figure><figcaption>{escape(picture.title)}</figcaption>\n<div class="scroll" tabindex="0" role="region" '
        f'aria-label="{label}">{svg}</div></figure>'
    )


def _table(result: Result, block: Block) -> str:
    """A table without the words that stand over it already: its title is read out, and no longer shown twice."""
    assert result.table is not None
    notes = tuple(note for note in result.table.footnotes if note != block.sentence)
    marks = " filterable" * result.filterable + " titled" * (result.table.title == block.title and not block.pictures)
    return _scrolled(replace(result.table, footnotes=notes), result.name, marks)


def _scrolled(table: Table, name: str = "", mark: str = "") -> str:
    label = escape(table.title or name, quote=True)
    return f'<div class="scroll{mark}" tabindex="0" role="region" aria-label="{label}">{table.to_html()}</div>'


def _provenance(document: Document) -> str:
    tables = "\n".join(_scrolled(table) for table in document.provenance)
    stamp = f'<p>Created <time datetime="{escape(document.created)}">{escape(document.created)}</time>.</p>'
    return (
        f'<section id="provenance"><h2>How this was made</h2>\n{tables}\n{stamp if document.created else ""}</section>'
    )


def inline(svg: str, *, prefix: str) -> str:
    """`svg` fit to stand in a page: scales with its column, ids of its own, colours that follow the page.

    Examples
    --------
    >>> inline('<svg width="72pt" viewBox="0 0 72 9"><path id="a" style="fill: #123c80"/></svg>', prefix="x")
    '<svg viewBox="0 0 72 9" style="--width:110px"><path id="x-a" style="fill: var(--c123c80)"/></svg>'
    """
    opening, rest = svg.split(">", 1)
    opening = re.sub(r'\s(?:xmlns(?::xlink)?|version|width|height)="[^"]*"', "", opening)
    points = re.search(r'viewBox="[\d.\-]+ [\d.\-]+ ([\d.]+)', opening)
    width = f' style="--width:{round(float(points[1]) * 96 / 72 * ENLARGED)}px"' if points else ""
    rest = rest.replace("xlink:href=", "href=")
    rest = re.sub(r'\bid="', f'id="{prefix}-', rest)
    rest = re.sub(r'href="#', f'href="#{prefix}-', rest)
    rest = re.sub(r"url\(#", f"url(#{prefix}-", rest)
    for colour in SWITCHED:
        rest = re.sub(rf"([:=]\s*\"?){colour}\b", rf"\1var(--c{colour[1:]})", rest)
    return f"{opening}{width}>{rest}"


def _anchor(name: str) -> str:
    """The id of an analysis; one called as a part of the page gets a prefix."""
    slug = _slug(name)
    return f"analysis-{slug}" if slug in (*QUESTIONS, "main", "answers", "provenance") else slug


def _slug(text: str) -> str:
    """A name usable as an id: letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "block"
