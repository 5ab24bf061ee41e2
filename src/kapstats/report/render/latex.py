"""Tables as LaTeX (packages booktabs and threeparttable)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from kapstats.report.document import Layout, Sheet
from kapstats.table import Table

_SPECIAL = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


def render(table: Table) -> str:
    """A ``table`` environment with caption, booktabs rules and table notes."""
    spec = "".join("l" if side == "left" else "r" for side in table.align)
    rows = [rf"{_step(i)}{' & '.join(map(_safe, row))} \\" for i, row in zip(table.indent, table.rows, strict=True)]
    notes = [r"\begin{tablenotes}", *(rf"\item {_safe(n)}" for n in table.footnotes), r"\end{tablenotes}"]
    return "\n".join(
        [
            r"\begin{table}",
            r"\begin{threeparttable}",
            *([rf"\caption{{{_safe(table.title)}}}"] if table.title else []),
            rf"\begin{{tabular}}{{{spec}}}",
            r"\toprule",
            rf"{' & '.join(map(_safe, table.columns))} \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            *(notes if table.footnotes else []),
            r"\end{threeparttable}",
            r"\end{table}",
        ]
    )


def document(sheets: Iterable[Sheet], layout: Layout) -> str:
    """All tables, each on pages of its own, as a whole document."""
    turned = "" if layout.portrait else ",landscape"
    pages = [
        render(replace(page, title=". ".join(sheet.titles), footnotes=sheet.footnotes)) + "\n\\clearpage"
        for sheet in sheets
        for page in sheet.pages
    ]
    head = [
        r"\documentclass[9pt]{extarticle}",
        rf"\usepackage[letterpaper,margin=0.75in{turned}]{{geometry}}",
        r"\usepackage[T1]{fontenc}",
        r"\usepackage{booktabs,threeparttable,caption,fancyhdr,lastpage}",
        r"\captionsetup{labelformat=empty,labelfont=bf,textfont=bf}",
        r"\pagestyle{fancy}\fancyhf{}\renewcommand{\headrulewidth}{0pt}",
        rf"\lhead{{{_safe(layout.header)}}}\rhead{{Page \thepage\ of \pageref{{LastPage}}}}",
        rf"\lfoot{{\footnotesize {_safe(layout.footer)}}}",
        r"\begin{document}",
    ]
    return "\n".join([*head, *pages, r"\end{document}", ""])


def _step(indent: int) -> str:
    return rf"\hspace{{{indent}em}}" if indent else ""


def _safe(text: str) -> str:
    return "".join(_SPECIAL.get(c, c) for c in " ".join(text.split()))
