"""Recorded results of R on the simulated withdrawal trial, and the tables they were computed on.

R 4.2.2 with survival 3.5-3, cmprsk 2.2-11, icenReg 2.0.16, rpact 3.3.4, npsurv, mvtnorm; double precision.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

HERE = Path(__file__).parent / "survival"
ARMS = ["placebo", "low", "high"]
ORDER = {"arm": ARMS, "sex": ["F", "M"], "stratum": ["remitter", "responder"]}


@functools.cache
def records(name: str) -> dict[str, Any]:
    """The values of every record in one results file."""
    found = json.loads((HERE / f"more_{name}.json").read_text())["records"]
    return {key: record["values"] for key, record in found.items()}


@functools.cache
def _table(name: str) -> pd.DataFrame:
    return pd.read_csv(HERE / f"{name}.csv")


def table(name: str) -> pd.DataFrame:
    """A fresh copy of a data file."""
    return _table(name).copy()


def numbers(values: Any) -> np.ndarray:
    """A list or a {name: number} record as floats; "Inf" and null become inf and NaN."""
    values = list(values.values()) if isinstance(values, dict) else values
    special = {"Inf": np.inf, "-Inf": -np.inf, None: np.nan}
    return np.array([special[v] if v is None or isinstance(v, str) else v for v in values], dtype=float)


def matrix(record: dict[str, Any]) -> pd.DataFrame:
    """A recorded matrix with its row and column names."""
    return pd.DataFrame(record["data"], index=record["rows"], columns=record["cols"])
