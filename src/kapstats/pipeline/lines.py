"""Where the keys of a TOML text stand: the parser of the standard library does not say."""

from __future__ import annotations

import re

from kapstats.errors import FormulaError


class Lines:
    """Line of every key of a TOML text, for errors that say where."""

    def __init__(self, text: str, source: str) -> None:
        self.source = source
        self._at: dict[tuple[str, int, str], int] = {}
        table, counts, inside = ("", 0), dict[str, int](), ""
        for number, line in enumerate(text.splitlines(), start=1):
            quoted, inside = bool(inside), _still_inside(line, inside)
            if quoted:
                continue
            if header := re.match(r"\s*(\[\[?)\s*([^\[\]#]+?)\s*\]", line):
                name = header[2].strip("\"'")
                counts[name] = counts.get(name, -1) + 1
                table = (name, counts[name])
                self._at.setdefault((*table, ""), number)
            elif key := re.match(r"""\s*["']?([\w-]+)["']?\s*[.=]""", line):
                self._at.setdefault((*table, key[1]), number)

    def error(self, where: tuple[str, int, str], message: str) -> FormulaError:
        """An error at a key; at the head of its table when the key itself is not found."""
        line = self._at.get(where) or self._at.get((where[0], where[1], "")) or self._at.get(("", 0, where[0]))
        place = f"{self.source}, line {line}" if line else self.source
        return FormulaError(f"{place}: {message}")


def _still_inside(line: str, inside: str) -> str:
    """The quotes of the multi-line string that is open after `line`, or nothing."""
    for quotes in re.findall(r'"""|\'\'\'', line):
        if not inside:
            inside = quotes
        elif inside == quotes:
            inside = ""
    return inside
