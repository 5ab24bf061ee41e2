"""The tables of a report as documents: numbered, titled, with footnotes, one page or more each."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator

from kapstats import __version__
from kapstats.data.conventions import POPULATIONS
from kapstats.errors import FormulaError
from kapstats.pipeline.kinds import Analysis, Documents, Listing
from kapstats.pipeline.plan import Plan
from kapstats.report.block import Block
from kapstats.report.document import Layout, Sheet
from kapstats.report.render import latex, rtf
from kapstats.table import ROUNDINGS

ENDINGS = {"rtf": "rtf", "docx": "docx", "latex": "tex"}
WHOLE = "all-tables"


def check(documents: Documents) -> None:
    """Refuse, before anything is computed, a format that cannot be written here."""
    if "docx" in documents.formats and importlib.util.find_spec("docx") is None:
        raise FormulaError("[documents] formats: Word output needs python-docx: pip install 'kapstats[docx]'.")


def files(plan: Plan, blocks: Iterable[Block]) -> dict[str, bytes]:
    """``tables/<analysis>-<table>.<ending>`` for every table and format, and all of them as ``tables/all-tables``."""
    made: dict[str, bytes] = {}
    sheets = tuple(_sheets(plan, blocks)) if plan.documents.formats else ()
    layout = Layout(plan.documents.header, plan.documents.footer, plan.documents.orientation == "portrait")
    for form in plan.documents.formats if sheets else ():
        for name, own in [*((s.name, (s,)) for s in sheets), (WHOLE, sheets)]:
            made[f"tables/{name}.{ENDINGS[form]}"] = _write(form, own, layout)
    return made


def _write(form: str, sheets: tuple[Sheet, ...], layout: Layout) -> bytes:
    if form == "docx":
        from kapstats.report.render import docx

        return docx.document(sheets, layout)
    return (rtf if form == "rtf" else latex).document(sheets, layout).encode()


def _sheets(plan: Plan, blocks: Iterable[Block]) -> Iterator[Sheet]:
    for analysis, block in zip(plan.analyses, blocks, strict=True):
        shown = [(result.name, result.table) for result in block.results if result.table is not None]
        for i, (name, table) in enumerate(shown, start=1):
            number = _number(analysis, i if len(shown) > 1 else 0)
            title = table.title if table.title not in ("", analysis.title) else ""
            population = POPULATIONS.get(analysis.population, analysis.population)
            sentence = () if block.sentence in table.footnotes else (block.sentence,)
            yield Sheet(
                name=f"{block.name}-{name}" if len(shown) > 1 else block.name,
                table=table,
                titles=tuple(t for t in (number, analysis.title, title, population) if t),
                footnotes=tuple(t for t in (*sentence, *table.footnotes, *analysis.footnotes) if t)
                + _source(plan, analysis),
                rows=analysis.page_rows,
                apart=analysis.page_by_heading,
            )


def _number(analysis: Analysis, part: int) -> str:
    """Table 14.2.1, and 14.2.1.1 where an analysis has several tables."""
    what = "Listing" if isinstance(analysis, Listing) else "Table"
    return f"{what} {analysis.number}" + (f".{part}" if part else "") if analysis.number else ""


def _source(plan: Plan, analysis: Analysis) -> tuple[str, ...]:
    source = f"Source: {analysis.dataset.upper()}. Plan: {plan.source}. kapstats {__version__}."
    return (source if hasattr(analysis, "convention") else f"{ROUNDINGS['SAS']} {source}",)
