"""Tables on numbered pages: what stands above and below each, where pages break, how wide the columns are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from kapstats.table import Table

#: columns beside the first that fit across a page; more are continued on further pages (Word knows no more than 63)
ACROSS = 11
WIDEST = 44  # characters of a cell that a column makes room for; longer texts are broken
UNBROKEN = 16  # shorter cells, such as an interval, stay on one line
GAP = 4  # characters of the space between columns
TWIPS = 95  # width of a character of 9 points


@dataclass(frozen=True, slots=True)
class Layout:
    """What is the same on all pages of a document.

    header : text at the left of the head of a page; page numbers stand at its right
    footer : text below the footnotes
    portrait : upright pages; else landscape
    """

    header: str = ""
    footer: str = ""
    portrait: bool = False


@dataclass(frozen=True, slots=True)
class Sheet:
    """One table of a document, on one or more pages.

    name : of its file
    titles : lines above the table on each of its pages: number, title, population
    footnotes : lines below it
    rows : rows of a page at most; 0 leaves it to the word processor
    apart : begin a new page at every heading
    """

    name: str
    table: Table
    titles: tuple[str, ...] = ()
    footnotes: tuple[str, ...] = ()
    rows: int = 0
    apart: bool = False

    @property
    def pages(self) -> tuple[Table, ...]:
        """The table in pieces, one or more pages each."""
        return tuple(page for part in panels(self.table) for page in paginate(part, self.rows, self.apart))


def panels(table: Table, across: int = ACROSS) -> tuple[Table, ...]:
    """A table with more columns than fit side by side as several, each with the first column.

    Examples
    --------
    >>> [part.columns for part in panels(Table(("", "a", "b", "c"), (("x", "1", "2", "3"),)), across=2)]
    [('', 'a', 'b'), ('', 'c')]
    """
    width = len(table.columns)
    if width <= across + 1:
        return (table,)
    chosen = [(0, *range(at, min(at + across, width))) for at in range(1, width, across)]
    return tuple(
        replace(
            table,
            columns=tuple(table.columns[j] for j in places),
            rows=tuple(tuple(row[j] for j in places) for row in table.rows),
            align=tuple(table.align[j] for j in places),
        )
        for places in chosen
    )


def paginate(table: Table, rows: int = 0, apart: bool = False) -> tuple[Table, ...]:
    """`table` in pieces of at most `rows` rows, broken before a heading where that leaves no large gap.

    A heading is a row that is indented less than the next. A part that does not fit on one page is continued under its
    heading, marked "(continued)".

    Examples
    --------
    >>> table = Table(("", "n"), (("Sex", ""), ("F", "3"), ("M", "2"), ("Age", ""), ("n", "5")), indent=(0, 1, 1, 0, 1))
    >>> [[row[0] for row in page.rows] for page in paginate(table, 4)]
    [['Sex', 'F', 'M'], ['Age', 'n']]
    >>> [[row[0] for row in page.rows] for page in paginate(table, 2)]
    [['Sex', 'F'], ['Sex (continued)', 'M'], ['Age', 'n']]
    """
    lines = list(zip(table.rows, table.indent, strict=True))
    limit = max(2, rows) if rows else len(lines) + 1
    pages: list[list[Line]] = [[]]
    for block in _blocks(lines):
        if apart and pages[-1]:
            pages.append([])
        _place(block, pages, limit)
    return tuple(replace(table, rows=tuple(r for r, _ in page), indent=tuple(i for _, i in page)) for page in pages)


Line = tuple[tuple[str, ...], int]


def _blocks(lines: list[Line]) -> Iterator[list[Line]]:
    """A heading with what is indented under it; a row without anything under it stands alone."""
    block: list[Line] = []
    for line in lines:
        if block and line[1] <= block[0][1]:
            yield block
            block = []
        block.append(line)
    if block:
        yield block


def _place(block: list[Line], pages: list[list[Line]], limit: int) -> None:
    """Put `block` on the last page and as many new ones as it needs; a short one stays in one piece."""
    while len(block) > (room := limit - len(pages[-1])):
        if pages[-1] and (len(block) <= limit // 3 or room < 3):
            pages.append([])
            continue
        pages[-1] += block[:room]
        pages.append([])
        (first, *others), step = block[0]
        again = first if first.endswith(" (continued)") else f"{first} (continued)"
        block = [((again, *("" for _ in others)), step), *block[room:]]
    pages[-1] += block


def headings(table: Table) -> tuple[bool, ...]:
    """Whether each row is the heading of the next: the two belong on one page."""
    steps = (*table.indent, 0)
    return tuple(following > own for own, following in pairwise(steps))


def edges(table: Table, width: int) -> tuple[int, ...]:
    """Right edges of the columns on a page `width` twips wide.

    Every column gets what its longest word needs, then as much as there is of what its longest text would need, and
    what is left in proportion.

    Examples
    --------
    >>> edges(Table(("", "a"), (("a longer text", "1"),)), 10000)
    (7727, 10000)
    """
    cells = [(step, row) for step, row in zip((0, *table.indent), (table.columns, *table.rows), strict=True)]
    least, wished = [], []
    for j, header in enumerate(table.columns):
        texts = [row[j] for _, row in cells[1:]]
        steps = max((2 * step for step, _ in cells), default=0) if j == 0 else 0
        words = [
            *header.split(),
            *(word for text in texts for word in (text.split() if len(text) > UNBROKEN else [text])),
        ]
        least.append(GAP + steps + max(map(len, words), default=0))
        longest = max(map(len, texts), default=0)
        wished.append(max(least[-1], GAP + steps + min(WIDEST, max(longest, len(header) // 2))))
    room, wanted = width / TWIPS - sum(least), sum(wished) - sum(least)
    share = min(1.0, max(room, 0.0) / wanted) if wanted else 0.0
    sizes = [a + share * (b - a) for a, b in zip(least, wished, strict=True)]
    scale = width / sum(sizes)
    return tuple(round(scale * sum(sizes[: j + 1])) for j in range(len(sizes)))
