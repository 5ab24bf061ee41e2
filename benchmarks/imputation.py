"""The jackknife of conditional-mean imputation: downdated beside one call of `impute` per subject; CPU seconds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

import kapstats as ks
from benchmarks.competing import cpu
from kapstats.response.imputation_analysis import Ancova

PLAN = {"formula": "y ~ base*visit + arm*visit + us(visit | id)", "arm": "arm", "reference": "P", "strategy": "J2R"}
SAMPLED = 20  # subjects that are left out one by one; the time of all is in proportion


def simulate(n: int, visits: int = 5, seed: int = 1) -> pd.DataFrame:
    """Two arms, 30% dropout and a few gaps."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"id": np.repeat(np.arange(n), visits), "visit": np.tile(np.arange(1, visits + 1), n)})
    frame["arm"] = pd.Categorical(np.where(frame["id"] % 2 == 0, "P", "K"), ["P", "K"], ordered=True)
    frame["base"] = np.repeat(rng.normal(30, 4, n), visits)
    person = np.repeat(3 * rng.normal(size=n), visits)
    frame["y"] = 0.3 * frame["base"] - (frame["arm"] == "K") * frame["visit"] + person + 3 * rng.normal(size=len(frame))
    last = np.where(rng.random(n) < 0.3, rng.integers(1, visits, n), visits)
    gone = (frame["visit"] > last[frame["id"]]) | (rng.random(len(frame)) < 0.02)
    return frame.assign(y=frame["y"].mask(gone))


def _one_by_one(data: pd.DataFrame) -> None:
    for who in data["id"].unique()[:SAMPLED]:
        wide = ks.impute(data[data["id"] != who], PLAN)
        completed = wide.frame()["y"].to_numpy(dtype=float).reshape(1, *wide.wide.y.shape)
        Ancova.of(wide.wide, "arm + base").point(completed)


def run() -> list[dict[str, Any]]:
    """Rows of the benchmark."""
    rows: list[dict[str, Any]] = []
    for n in (100, 500, 1000):
        data = simulate(n)
        imputed = ks.impute(data, PLAN)
        ours = cpu(lambda i=imputed: i.analyse("arm + base"))
        slow = cpu(lambda d=data: _one_by_one(d), 1) * n / SAMPLED
        case = f"J2R, {n} subjects x 5 visits, jackknife"
        rows.append({"case": case, "implementation": "downdated", "seconds": ours, "ratio": 1.0, "note": "measured"})
        rows.append({"case": case, "implementation": "impute() without each subject", "seconds": slow,
                     "ratio": slow / ours, "note": f"measured on {SAMPLED}"})  # fmt: skip
    return rows
