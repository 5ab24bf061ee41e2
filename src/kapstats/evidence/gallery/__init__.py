"""Published results, reproduced: ``ks.gallery.list()``, ``ks.gallery.run(name)``, ``ks.gallery.run_all()``."""

from __future__ import annotations

import builtins

import pandas as pd

from kapstats.errors import DataError, nearest
from kapstats.evidence.gallery import (
    abbar_2022,
    adverse_event_tables,
    aspire_pooled,
    cdisc_pilot,
    daly_2018,
    daly_2018_profile,
    elekt_d,
    escape_trd,
    grade_absolute,
    grunebaum_2018,
    ketect_adverse_events,
    ketect_remission,
    perez_ruixo_2021,
    rodriguez_2013,
    side_effects_by_route,
    simons_2022,
    su_2023,
    takahashi_2021,
    transform_risk_differences,
)
from kapstats.evidence.gallery.entry import Entry, Line, Reproduction

ENTRIES: tuple[Entry, ...] = (
    transform_risk_differences.ENTRY,
    grunebaum_2018.ENTRY,
    elekt_d.ENTRY,
    ketect_remission.ENTRY,
    ketect_adverse_events.ENTRY,
    su_2023.ENTRY,
    abbar_2022.ENTRY,
    daly_2018.ENTRY,
    daly_2018_profile.ENTRY,
    takahashi_2021.ENTRY,
    adverse_event_tables.ENTRY,
    side_effects_by_route.ENTRY,
    escape_trd.ENTRY,
    perez_ruixo_2021.ENTRY,
    rodriguez_2013.ENTRY,
    aspire_pooled.ENTRY,
    simons_2022.ENTRY,
    grade_absolute.ENTRY,
    *cdisc_pilot.ENTRIES,
)


def list() -> builtins.list[str]:
    """Names that `run` takes.

    Examples
    --------
    >>> "elekt-d" in list()
    True
    """
    return [entry.name for entry in ENTRIES]


def run(name: str) -> Reproduction:
    """The published result `name` (or its id, such as "G05") beside what its inputs give.

    Returns
    -------
    Reproduction
        ``published``, ``reproduced``, ``difference`` by quantity, ``figure``, ``agrees``, ``table()``, ``to_frame()``.

    Raises
    ------
    DataError
        For an unknown name, or when the package that holds the entry's data is not installed.

    Examples
    --------
    >>> run("elekt-d").reproduced.round(1).tolist()[:3]
    [14.2, 3.9, 24.2]
    """
    wanted = name.lower().replace("_", "-")
    found = [entry for entry in ENTRIES if wanted in (entry.name, entry.id.lower())]
    if not found:
        raise DataError(f"gallery: no entry {name!r}.{nearest(wanted, list())} There are: {', '.join(list())}.")
    entry = found[0]
    if not entry.available:
        raise DataError(
            f"gallery: {entry.name} needs the package {entry.needs}. Install it: pip install {entry.needs}."
        )
    return Reproduction(entry, tuple(entry.compute()))


def available() -> builtins.list[str]:
    """Names whose data are here: all but those of packages that are not installed.

    Examples
    --------
    >>> set(available()) <= set(list())
    True
    """
    return [entry.name for entry in ENTRIES if entry.available]


def run_all() -> pd.DataFrame:
    """Every line of every available entry: name, quantity, published, reproduced, difference, agrees, kind."""
    return pd.concat([run(name).to_frame().assign(name=name) for name in available()], ignore_index=True)[
        ["name", "quantity", "published", "reproduced", "difference", "agrees", "kind"]
    ]


__all__ = ["ENTRIES", "Entry", "Line", "Reproduction", "available", "list", "run", "run_all"]
