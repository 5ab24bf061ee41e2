"""One table from one file, by its ending."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from kapstats import frames


def is_path(data: Any) -> bool:
    """Whether `data` names a file."""
    return isinstance(data, (str, Path))


def read_table(path: str | Path) -> pd.DataFrame:
    """The table in `path`."""
    return frames.to_pandas(path)
