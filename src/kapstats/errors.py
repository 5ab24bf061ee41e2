"""What goes wrong, said once: what, where (column, rows, first ids), what to do."""

from __future__ import annotations

import difflib
import os
import sys
import warnings
from collections.abc import Iterable
from numbers import Real
from pathlib import Path
from types import FrameType
from typing import Any

#: where the library's own lines stand
PACKAGE = str(Path(__file__).parent)

#: characters of one value that an error shows
LONGEST = 60


class KapstatsError(Exception):
    """Base of every error that kapstats raises on purpose."""


class DataError(KapstatsError, ValueError):
    """The data cannot be analysed as they are."""


class FormulaError(KapstatsError, ValueError):
    """The formula, an argument or a plan does not say something that can be computed."""


class ConvergenceError(KapstatsError, ArithmeticError):
    """No estimate could be certified; there is no number to report."""


class EstimabilityError(KapstatsError, ArithmeticError):
    """The quantity asked for is not determined by the data and the model."""


class KapstatsWarning(UserWarning):
    """Something the reader of a result has to know; it also stays on the result."""


class RepeatedSubjects(KapstatsWarning):
    """Rows of several parameters or visits were left in, so that subjects count more than once."""


def warn(text: str, category: type[KapstatsWarning] = KapstatsWarning) -> str:
    """Warn at the line outside the library that led here, and give the text back for the result to keep.

    Examples
    --------
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     text = warn("3 rows are left out.")
    >>> text, len(caught)
    ('3 rows are left out.', 1)
    """
    level = 1
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, category, stacklevel=level)
    return text


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint `` Did you mean 'X'?`` for a misspelt name, or the empty string.

    Examples
    --------
    >>> nearest("AVISTI", ["AVISIT", "AVAL"])
    " Did you mean 'AVISIT'?"
    """
    name, known = str(name), list(known)
    match = difflib.get_close_matches(name, known, n=1, cutoff=0.6) or [k for k in known if k.lower() == name.lower()]
    return f" Did you mean {match[0]!r}?" if match else ""


def first_ids(ids: Iterable[object], limit: int = 5) -> str:
    """The first few ids as text, with a count of the rest.

    Examples
    --------
    >>> first_ids(["a", "b", "c"], limit=2)
    'a, b and 1 more'
    """
    texts = list(dict.fromkeys(map(str, ids)))
    shown = ", ".join(text if len(text) <= LONGEST else f"{text[:LONGEST]}..." for text in texts[:limit])
    return shown + (f" and {len(texts) - limit} more" if len(texts) > limit else "")


def choose(value: str, allowed: Iterable[str], argument: str) -> str:
    """`value` when it is one of `allowed`, else a FormulaError that lists them.

    Examples
    --------
    >>> choose("wald", ["wald", "score"], "method")
    'wald'
    """
    allowed = list(allowed)
    if value in allowed:
        return value
    hint = nearest(str(value), allowed)
    shown = allowed if len(allowed) <= 40 else difflib.get_close_matches(str(value), allowed, n=10, cutoff=0.0)
    among = "one of" if shown is allowed else f"one of {len(allowed)}, such as"
    raise FormulaError(f"{argument}={value!r} is not known.{hint} Choose {among}: {', '.join(shown)}.")


def check_level(level: Any, argument: str = "level") -> float:
    """`level` when it is a number strictly between 0 and 1, else a FormulaError.

    Examples
    --------
    >>> check_level(0.9)
    0.9
    """
    if isinstance(level, Real) and not isinstance(level, bool) and 0 < float(level) < 1:
        return float(level)
    raise FormulaError(f"{argument}={level!r}: a confidence level must be between 0 and 1{_meant(level)}")


def _meant(level: Any) -> str:
    """What a percentage or a number in quotes stands for."""
    try:
        number = float(level) if isinstance(level, (str, Real)) and not isinstance(level, bool) else 0.0
    except ValueError:
        number = 0.0
    number = number / 100 if 50 <= number < 100 else number
    return f"; did you mean {number:g}?" if 0.5 <= number < 1 else ", such as 0.95."


def check_memory(numbers: float, what: str, remedy: str) -> None:
    """Refuse, before it is begun, work whose arrays would not fit into memory.

    numbers : how many float64 numbers the largest arrays hold together
    what : the work and its size, such as "logrank over 20,000 groups"

    Raises
    ------
    DataError
        When they would take more than half of the machine's (or the process's) memory.
    """
    need, have = 8.0 * numbers, _memory()
    if need > have / 2:
        raise DataError(
            f"{what} needs about {need / 2**30:,.1f} GiB of memory; at most half of {have / 2**30:,.1f} GiB is used. "
            f"{remedy}"
        )


def _memory() -> float:
    """Bytes of the machine, or of the process where it is limited."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        machine = float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
        return machine if limit == resource.RLIM_INFINITY else min(machine, float(limit))
    except (ImportError, ValueError, AttributeError):  # a system that does not say
        return 8.0 * 2**30
