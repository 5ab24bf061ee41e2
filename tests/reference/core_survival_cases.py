"""Recorded results of R on the simulated withdrawal trial, for curves, tests and Cox models."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

HERE = Path(__file__).parent / "survival"
LEVELS = {
    "arm": ["placebo", "low", "high"],
    "sex": ["F", "M"],
    "stratum": ["remitter", "responder"],
    "route": ["IV", "IM", "nasal", "SL"],
}
CLOSED = 1e-10
NEWTON = 1e-7


@functools.cache
def records(name: str) -> dict[str, Any]:
    """The values of every record of one file."""
    found = json.loads((HERE / f"core_{name}.json").read_text())["records"]
    return {key: record["values"] for key, record in found.items()}


@functools.cache
def _read(name: str) -> pd.DataFrame:
    frame = pd.read_csv(HERE / f"{name}.csv")
    for column, levels in LEVELS.items():
        if column in frame:
            frame[column] = pd.Categorical(frame[column], levels, ordered=True)
    if "status" in frame:
        frame["ev"] = (frame["status"] == 1).astype(int)
        frame["w"] = 0.5 + (frame["id"] % 4) / 2
    return frame


def trial() -> pd.DataFrame:
    return _read("trial").copy()


def two_arms() -> pd.DataFrame:
    """Placebo and the high dose."""
    frame = _read("trial")
    return frame[frame["arm"] != "low"].copy()


def table(name: str) -> pd.DataFrame:
    return _read(name).copy()


def numbers(values: Any) -> np.ndarray:
    """Numbers of a list, a {name: number} record, a recorded matrix or a table; null is NaN, "Inf" infinite."""
    if isinstance(values, dict):
        values = values["data"] if set(values) == {"rows", "cols", "data"} else list(values.values())
    flat = [v for item in values for v in (item if isinstance(item, list) else [item])]
    return np.array([np.nan if v is None else float(v) for v in flat])


def agree(found: Any, expected: Any, tolerance: float) -> None:
    """Relative agreement, NaN exactly where the record has NA."""
    np.testing.assert_allclose(np.ravel(np.asarray(found, dtype=float)), numbers(expected), rtol=tolerance, atol=1e-300)
