"""SAS files read by us and by pyreadstat (the library ReadStat), cell by cell.

``python -m tests.interface.corpus FOLDER`` compares every .xpt, .xpt5, .xpt8 and .sas7bdat below FOLDER, read whole
and in pieces of 1, 7 and 1,000 rows, and exits with 1 when a cell differs. The files that pyreadstat's own tests use
are in its repository under ``test_data``.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import warnings
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyreadstat

from kapstats.data.chunks import read_chunks
from kapstats.data.files import read_table

ORIGIN = pd.Timestamp("1960-01-01").to_pydatetime()


def differences(path: Path) -> tuple[int, list[str]]:
    """How many cells were compared, and what is said of each that differs."""
    reader = pyreadstat.read_sas7bdat if path.suffix == ".sas7bdat" else pyreadstat.read_xport
    raw, about = reader(str(path), disable_datetime_conversion=True)
    dated, _ = reader(str(path))
    ours = read_table(path)
    if list(ours.columns) != list(raw.columns) or len(ours) != len(raw):
        return 0, [f"{ours.shape} {list(ours.columns)} for {raw.shape} {list(raw.columns)}"]
    labels = {k: v for k, v in about.column_names_to_labels.items() if v}
    said = [] if ours.attrs["labels"] == labels else [f"labels {ours.attrs['labels']} for {labels}"]
    for name in raw.columns:
        cells = zip(ours[name], raw[name], dated[name], strict=True)
        said += [f"{name}[{i}]: {a!r} for {b!r}" for i, (a, b, c) in enumerate(cells) if not same(a, b, c)]
    for rows in (1, 7, 1000):
        said += in_pieces(path, ours, rows)
    return raw.size, said


def in_pieces(path: Path, whole: pd.DataFrame, rows: int) -> list[str]:
    """What is said when the pieces, put together, are not the whole, or one has other types."""
    parts = list(read_chunks(path, rows))
    try:
        pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), whole)
        assert all(part.dtypes.equals(whole.dtypes) for part in parts), "a piece has other types"
    except AssertionError as error:
        return [f"in pieces of {rows}: {error}"]
    return []


def same(ours: object, raw: object, dated: object) -> bool:
    """Whether our cell is pyreadstat's: `raw` the number or text as stored, `dated` after its conversion of dates."""
    if pd.isna(ours):
        return pd.isna(raw) or raw == ""
    if isinstance(ours, pd.Timestamp):
        if isinstance(raw, str):  # a text that is a full ISO date, in a date variable
            return ours == pd.Timestamp(raw)
        if isinstance(dated, datetime):
            return ours.to_pydatetime() == dated
        days = dated if isinstance(dated, date) else (ORIGIN + pd.Timedelta(days=raw)).date()  # MMYY, YEAR ...
        return ours.to_pydatetime() == datetime.combine(days, datetime.min.time())
    if isinstance(ours, str):
        return ours == raw if isinstance(raw, str) else float(ours) == raw
    return bool(np.float64(ours) == raw)


def main(folder: Path) -> int:
    """Compare every file below `folder` and print the counts."""
    endings = {".xpt": ".xpt", ".xpt5": ".xpt", ".xpt8": ".xpt", ".sas7bdat": ".sas7bdat"}
    files = [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in endings]
    cells, bad = 0, 0
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in files:
            copy = Path(shutil.copy(path, Path(place) / f"file{endings[path.suffix.lower()]}"))
            compared, said = differences(copy)
            cells, bad = cells + compared, bad + len(said)
            print(f"{path.relative_to(folder)}: {compared} cells, {len(said)} differ", *said[:5], sep="\n  ")
    print(f"{len(files)} files, {cells:,} cells, each whole and in pieces of 1, 7 and 1,000 rows: {bad} differences")
    return 1 if bad or not files else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
