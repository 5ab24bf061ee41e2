"""A trial from a folder of ADaM files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kapstats.data import notation
from kapstats.data.conventions import SIMULATED
from kapstats.data.files import READERS, read_table
from kapstats.data.trial import Trial
from kapstats.errors import DataError


def read_adam(
    folder: str | Path,
    *,
    encoding: str | None = None,
    arms: Sequence[Any] | None = None,
    roles: Mapping[str, str] | None = None,
    missing: Sequence[str] | None = None,
) -> Trial:
    """The trial in `folder`: every file whose name begins with ``ad`` and ends in a format that is read.

    Parameters
    ----------
    folder : holds adsl, adqs, adtte, adae ... as .csv, .parquet, .xpt (versions 5 and 8), .sas7bdat, .json or .ndjson
        (Dataset-JSON 1.0 and 1.1), any subset or mix; of a simulated trial ``truth.json`` and ``scenario.toml`` (or
        .json) too
    encoding : of text in csv, xpt and sas7bdat files; by default UTF-8 (xpt: else cp1252, with a warning; sas7bdat:
        what the file says)
    arms : order of the arms where TRT01PN does not state it
    roles : datasets under a second name, ``{"adqs": "adadas"}``
    missing : what stands for a missing value in csv files, besides an empty cell; by default NA, NaN, nan and a point.
        ``missing=["."]`` keeps the country NA (Namibia)

    Returns
    -------
    Trial
        Subject, site and other ids are text ("001" stays "001"); dates are datetime64, or text where partial;
        empty cells, NA and . are missing; whole numbers beyond 2^53 are text; labels are in ``trial.labels``.

    Raises
    ------
    DataError
        When the folder is missing or holds no dataset, a dataset stands in two files, or a file cannot be read whole.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "adsl.csv").write_text("USUBJID,TRT01P,TRT01PN\\n001,KAP,1\\n002,Placebo,0\\n")
    >>> trial = read_adam(folder)
    >>> trial.adsl["USUBJID"].tolist(), trial.arms
    (['001', '002'], ['Placebo', 'KAP'])
    """
    folder = Path(folder)
    tables = {name: read_table(path, encoding=encoding, missing=missing) for name, path in _find(folder).items()}
    for role, source in (roles or {}).items():
        if source.lower() not in tables:
            raise DataError(f"{folder}: roles name {source!r}, which is not there. Found: {', '.join(tables)}.")
        tables.setdefault(role.lower(), tables[source.lower()])
    given: dict[str, Any] = dict(tables)
    truth = _read_json(folder / "truth.json")
    scenario = _read_json(folder / "scenario.json") or _read_toml(folder / "scenario.toml")
    labels = {"adsl": SIMULATED} if scenario else None
    return Trial(**given, arms=arms, labels=labels, truth=truth, scenario=scenario, name=folder.resolve().name)


def _find(folder: Path) -> dict[str, Path]:
    """Dataset name -> file."""
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "is not there"
        raise DataError(f"{folder}: {what}; read_adam takes the folder that holds adsl, adqs, adtte, adae.")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name = path.stem.lower()
        if path.suffix.lower() not in READERS or not re.fullmatch(r"ad\w+", name):
            continue
        if name in found:
            raise DataError(f"{folder}: {name.upper()} stands in two files, {found[name].name} and {path.name}.")
        found[name] = path
    if not found:
        held = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
        raise DataError(f"{folder}: no ADaM dataset (ad*.csv, .parquet, .xpt, .sas7bdat, .json). It holds: {held}.")
    return found


def _read_json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        value = notation.from_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path.name}: truncated or no JSON ({error}).") from error
    if not isinstance(value, dict):
        raise DataError(f"{path.name}: holds a {type(value).__name__}, not an object of named values.")
    return value


def _read_toml(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        return notation.toml(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path.name}: no TOML ({error}).") from error
