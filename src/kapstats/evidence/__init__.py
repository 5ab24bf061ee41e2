"""What is in print: the shipped evidence base, pooling, auditing and reproducing of published results."""

from __future__ import annotations

from importlib import resources

import pandas as pd

from kapstats.errors import DataError, nearest

_TEXT = ("study", "source", "arm", "term", "period", "note", "checked", "p", "value", "ci_level")


def tables() -> list[str]:
    """Names that `table` takes.

    Examples
    --------
    >>> "adverse_events" in tables()
    True
    """
    return sorted(p.name.removesuffix(".csv") for p in _folder().iterdir() if p.name.endswith(".csv"))


def table(name: str) -> pd.DataFrame:
    """The table of published figures called `name`, one row per figure with its source and how it was checked.

    Raises
    ------
    DataError
        For a name that is not there.

    Examples
    --------
    >>> aes = table("adverse_events")
    >>> aes["checked"].str.startswith(("yes", "secondary")).all().item()
    True
    """
    if name not in tables():
        raise DataError(f"evidence: no table {name!r}.{nearest(name, tables())} There are: {', '.join(tables())}.")
    with (_folder() / f"{name}.csv").open("r", encoding="utf-8") as file:
        return pd.read_csv(file, dtype=dict.fromkeys(_TEXT, "object"))


def _folder() -> resources.abc.Traversable:
    return resources.files("kapstats.evidence") / "data"
