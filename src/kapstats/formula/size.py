"""How large a design would become, found before it is made: a formula of forty signs can ask for a million columns."""

from __future__ import annotations

import re
from collections.abc import Iterable
from math import comb

from kapstats.errors import FormulaError

MAX_TERMS = 2_000
MAX_COLUMNS = 20_000
MAX_CELLS = 500_000_000  # 4 GB of numbers

_ANY = 10**9  # counts stop here
_TOKEN = re.compile(r"`[^`]*`|'[^']*'|\"[^\"]*\"|%in%|\*\*|[-+*/:^()~]|[^-+*/:^()~`'\"%\s]+|\S")
_BINDS = {"+": 1, "-": 1, "~": 1, "*": 2, "/": 3, "%in%": 3, ":": 4, "**": 5, "^": 5}


def check_terms(fixed: str) -> None:
    """Refuse a right-hand side that would expand to more than `MAX_TERMS` terms.

    Examples
    --------
    >>> most_terms("a * b * c"), most_terms("(a + b + c)**2"), most_terms("a + log(b * c)")
    (7, 6, 2)
    """
    found = most_terms(fixed)
    if found > MAX_TERMS:
        shown = fixed if len(fixed) <= 60 else f"{fixed[:57]}..."
        raise FormulaError(
            f"The right-hand side {shown!r} expands to up to {found:,} terms; at most {MAX_TERMS:,} are read. "
            "Write + for what need not interact."
        )


def check_columns(widths: Iterable[int], rows: int) -> None:
    """Refuse a design whose terms have these many columns over `rows` rows when it cannot be held."""
    columns = sum(widths)
    if columns > MAX_COLUMNS or columns * rows > MAX_CELLS:
        raise FormulaError(
            f"The formula asks for {columns:,} columns over {rows:,} rows; at most {MAX_COLUMNS:,} columns and "
            f"{MAX_CELLS:,} cells are made. Is a column with many levels (a subject?) among the factors?"
        )


def most_terms(fixed: str) -> int:
    """An upper bound of the number of terms that R's algebra makes of `fixed`, counted without making them."""
    sizes: list[int] = []
    signs: list[str] = []
    before, inside_call = "", 0
    for token in _TOKEN.findall(fixed):
        if inside_call:  # the arguments of log(...), factor(...): one variable, whatever stands in it
            inside_call += {"(": 1, ")": -1}.get(token, 0)
        elif token == "(" and _is_operand(before):
            inside_call = 1
        elif token == "(":
            signs.append(token)
        elif token == ")":
            _reduce(sizes, signs, 0)
            if signs:
                signs.pop()
        elif token in _BINDS:
            if before in ("", "(", *_BINDS):  # a sign in front of a term
                sizes.append(0)
            _reduce(sizes, signs, _BINDS[token])
            signs.append(token)
        else:
            sizes.append(int(token) if before in ("**", "^") and token.isdigit() else 1)
        before = token
    while signs:
        _reduce(sizes, signs, 0)
        if signs and signs[-1] == "(":
            signs.pop()
    return max(sizes, default=0)


def _is_operand(token: str) -> bool:
    return bool(token) and token not in _BINDS and token not in "()"


def _reduce(sizes: list[int], signs: list[str], binding: int) -> None:
    """Apply the waiting signs that bind at least as strongly as `binding`."""
    while signs and signs[-1] != "(" and _BINDS[signs[-1]] >= binding:
        sign = signs.pop()
        right = sizes.pop() if sizes else 0
        left = sizes.pop() if sizes else 0
        sizes.append(min(_ANY, _combined(sign, left, right)))


def _combined(sign: str, left: int, right: int) -> int:
    if sign in ("**", "^"):
        return sum(comb(left, k) for k in range(1, min(left, right, 40) + 1))
    if sign == ":":
        return left * right
    if sign == "-":
        return left
    return left + right + (left * right if sign in ("*", "/", "%in%") else 0)
