"""The display model of every table, and the one place where numbers become text.

Rounding is half away from zero, as SAS does and readers expect of printed tables, unless a table asks for R's way;
numbers in results are never rounded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from pathlib import Path

#: rounding of printed numbers by convention, in words
ROUNDINGS = {
    "SAS": "Numbers are rounded half away from zero.",
    "R": "Numbers are rounded to nearest on their binary value, halves to even, as R prints.",
}
#: beyond it a double has no decimals, and a row of digits nobody can read
LARGE = 1e16
MISSING = "NE"  # "not estimable", as in regulatory tables


def round_half_away(x: float, digits: int = 0) -> float:
    """`x` rounded half away from zero, on its shortest decimal form.

    Examples
    --------
    >>> round_half_away(0.125, 2), round_half_away(-2.5), round_half_away(2.675, 2)
    (0.13, -3.0, 2.68)
    """
    if not math.isfinite(x) or abs(x) >= LARGE:
        return x
    return float(Decimal(repr(float(x))).quantize(Decimal(1).scaleb(-digits), rounding=ROUND_HALF_UP))


def number(x: float | None, digits: int = 2, convention: str = "SAS") -> str:
    """`x` with `digits` decimals; missing values as ``NE``, infinities as ``Inf``.

    convention : "SAS" rounds half away from zero; "R" to nearest on the binary value, halves to even

    Examples
    --------
    >>> number(6.25, 1), number(6.25, 1, "R"), number(0.15, 1), number(0.15, 1, "R")
    ('6.3', '6.2', '0.2', '0.1')
    >>> number(-0.004, 2), number(float("nan")), number(float("inf")), number(12.345, 1)
    ('0.00', 'NE', 'Inf', '12.3')
    """
    if x is None or x != x:
        return MISSING
    if math.isinf(x):
        return "Inf" if x > 0 else "-Inf"
    if abs(x) >= LARGE:
        return f"{x:.3g}"
    exact = Decimal(repr(float(x))) if convention == "SAS" else Decimal(float(x))
    rule = ROUND_HALF_UP if convention == "SAS" else ROUND_HALF_EVEN
    text = format(exact.quantize(Decimal(1).scaleb(-digits), rounding=rule), "f")
    return text.lstrip("-") if not text.strip("-0.") else text


def p_value(p: float | None) -> str:
    """A p value as journals print it.

    Examples
    --------
    >>> p_value(0.03149), p_value(0.00001), p_value(0.99999)
    ('0.031', '<0.001', '>0.999')
    """
    if p is None or p != p:
        return MISSING
    if p < 0.001:
        return "<0.001"
    return ">0.999" if p > 0.999 else number(p, 3)


def percent(x: float | None, digits: int = 1) -> str:
    """A percentage, 0 to 100, with its sign.

    Examples
    --------
    >>> percent(12.35)
    '12.4%'
    """
    text = number(x, digits)
    return text if text == MISSING else f"{text}%"


def interval(low: float | None, high: float | None, digits: int = 2) -> str:
    """A confidence interval.

    Examples
    --------
    >>> interval(-1.234, float("inf"), 1)
    '(-1.2, Inf)'
    """
    return f"({number(low, digits)}, {number(high, digits)})"


@dataclass(frozen=True)
class Table:
    """A table ready to be shown: cells are text already.

    columns : header texts
    rows : one tuple of texts per row, as long as `columns`
    title, footnotes : texts above and below
    align : per column "left" or "right"; by default the first column is left, the others right
    indent : per row, how far its first cell is indented (0, 1, 2)
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""
    footnotes: tuple[str, ...] = ()
    align: tuple[str, ...] = ()
    indent: tuple[int, ...] = field(default=())

    def __post_init__(self) -> None:
        width = len(self.columns)
        wrong = [i for i, row in enumerate(self.rows) if len(row) != width]
        if wrong:
            raise ValueError(f"Table: row {wrong[0]} has {len(self.rows[wrong[0]])} cells, the header {width}.")
        object.__setattr__(self, "align", self.align or ("left",) + ("right",) * (width - 1))
        object.__setattr__(self, "indent", self.indent or (0,) * len(self.rows))

    def with_title(self, title: str) -> Table:
        """The same table under another title."""
        return replace(self, title=title)

    def to_text(self) -> str:
        """Plain text with aligned columns."""
        from kapstats.report.render.text import render

        return render(self)

    def to_markdown(self) -> str:
        """A GitHub-flavoured Markdown table."""
        from kapstats.report.render.markdown import render

        return render(self)

    def to_html(self) -> str:
        """An HTML table with caption, scopes and footnotes; every text is escaped."""
        from kapstats.report.render.html import render

        return render(self)

    def to_latex(self) -> str:
        """A LaTeX table (booktabs)."""
        from kapstats.report.render.latex import render

        return render(self)

    def to_rtf(self, path: str | Path) -> Path:
        """Write a Rich Text Format file to `path` and return the path."""
        from kapstats.report.render.rtf import write

        return write(self, Path(path))

    def to_docx(self, path: str | Path) -> Path:
        """Write a Word file to `path` and return the path (extra ``kapstats[docx]``)."""
        from kapstats.report.render.docx import write

        return write(self, Path(path))

    def _repr_html_(self) -> str:
        return self.to_html()

    def __str__(self) -> str:
        return self.to_text()
