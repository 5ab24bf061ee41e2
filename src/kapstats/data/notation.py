"""JSON and TOML that anybody may have written: every fault is a ValueError, and depth is bounded before it costs."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

#: a key of more parts than this (``a.b.c ...``) is refused: the parser's memory grows with the square of their number
DEEPEST = 50
_PART = r"""(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')[ \t]*"""
_DEEP = re.compile(rf"""(?<![\w.-])(?:{_PART}\.[ \t]*){{{DEEPEST}}}""")


def toml(text: str) -> dict[str, Any]:
    """The tables that TOML `text` says.

    Raises
    ------
    ValueError
        When it is no TOML, nested too deeply, or holds a number too long to be one.

    Examples
    --------
    >>> toml("[study]\\ntitle = 'A trial'")
    {'study': {'title': 'A trial'}}
    """
    if _DEEP.search(text):
        raise ValueError(f"a key of more than {DEEPEST} parts")
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def from_json(text: str) -> Any:
    """The value that JSON `text` says.

    Raises
    ------
    ValueError
        When it is no JSON (a `json.JSONDecodeError`), nested too deeply, or holds a number too long to be one.

    Examples
    --------
    >>> from_json('{"n": [1, 2]}')
    {'n': [1, 2]}
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
