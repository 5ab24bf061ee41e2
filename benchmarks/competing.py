"""Competing risks and interval censoring beside lifelines, with recorded times of R and of comprisk; CPU seconds."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

import kapstats as ks
from kapstats.kernels.fine_gray import fine_gray
from kapstats.kernels.interval_ph import interval_ph
from kapstats.kernels.npmle import npmle

#: recorded on a machine of the same kind: cmprsk 2.2-11 crr and cuminc, survival 3.5-3 finegray + coxph, comprisk 0.8.0
RECORDED = {
    ("Fine-Gray", 10_000): {"R crr": 6.3, "R finegray + coxph": 1.26, "comprisk": 0.033},
    ("Fine-Gray", 100_000): {"comprisk": 0.32},
    ("Gray test", 10_000): {"R cuminc": 0.030},
    ("Gray test", 100_000): {"comprisk": 0.030},
}


def simulate(n: int, tied: bool, seed: int = 1) -> pd.DataFrame:
    """Two causes and censoring, five covariates; weekly times when `tied`."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 5))
    latent = rng.exponential(20.0 * np.exp(-0.3 * X[:, 0]))
    censoring = rng.uniform(1.0, 43.0, n)
    time_ = np.minimum(latent, censoring)
    status = np.where(latent <= censoring, rng.integers(1, 3, n), 0)
    frame = pd.DataFrame(X, columns=list("abcde")).assign(t=np.ceil(time_) if tied else time_, s=status)
    return frame.assign(arm=rng.integers(0, 3, n))


def visits(n: int, seed: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Intervals between irregular visits and three covariates."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    latent = 10.0 * rng.weibull(1.2, n) * np.exp(-X @ [0.5, 0.2, 0.0])
    seen = np.cumsum(rng.exponential(1.0, (n, 25)), axis=1)
    left = np.where(seen < latent[:, None], seen, 0.0).max(1)
    return left, np.where(seen >= latent[:, None], seen, np.inf).min(1), X


def cpu(call: Callable[[], Any], repeats: int = 3) -> float:
    """Best CPU seconds of `repeats` runs."""
    best = np.inf
    for _ in range(repeats):
        begin = time.process_time()
        call()
        best = min(best, time.process_time() - begin)
    return float(best)


def _rows(case: str, ours: float, peers: dict[str, float], recorded: dict[str, float]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {"case": case, "implementation": "kapstats", "seconds": ours, "ratio": 1.0, "note": "measured"}
    ]
    for note, found in (("measured", peers), ("recorded", recorded)):
        rows += [
            {"case": case, "implementation": name, "seconds": s, "ratio": s / ours, "note": note}
            for name, s in found.items()
        ]
    return rows


def _lifelines(data: pd.DataFrame) -> float:
    from lifelines import AalenJohansenFitter

    def fit() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            AalenJohansenFitter(calculate_variance=True, seed=1).fit(data["t"], data["s"], event_of_interest=1)

    return cpu(fit, 1)


def run() -> list[dict[str, Any]]:
    """Rows of the benchmark."""
    rows: list[dict[str, Any]] = []
    for n in (10_000, 100_000):
        for tied in (True, False):
            data = simulate(n, tied)
            kind = "tied" if tied else "distinct"
            X = data[list("abcde")].to_numpy()
            t, s = data["t"].to_numpy(float), data["s"].to_numpy()
            recorded = RECORDED.get(("Fine-Gray", n), {}) if not tied else {}
            arrays = cpu(lambda X=X, t=t, s=s: fine_gray(t, s, X))
            rows += _rows(f"Fine-Gray arrays, sandwich, n={n}, {kind}", arrays, {}, recorded)
            fit = cpu(lambda d=data: ks.fine_gray("Surv(t, s) ~ a + b + c + d + e", d))
            rows += _rows(f"Fine-Gray by formula, n={n}, {kind}", fit, {}, {})
            test = cpu(lambda d=data: ks.gray_test("Surv(t, s) ~ arm", d))
            rows += _rows(f"Gray test, n={n}, {kind}", test, {}, RECORDED.get(("Gray test", n), {}) if tied else {})
            curve = cpu(lambda d=data: ks.cumulative_incidence("Surv(t, s) ~ 1", d))
            peers = {"lifelines": _lifelines(data)} if n == 10_000 else {}
            rows += _rows(f"Aalen-Johansen, n={n}, {kind}", curve, peers, {})
    left, right, X = visits(2_000)
    rows += _rows("Turnbull, 2000 intervals", cpu(lambda: npmle(left, right)), {}, {})
    hazards = cpu(lambda: interval_ph(left, right, X))
    rows += _rows("interval-censored PH, 2000 intervals, 3 covariates", hazards, {}, {})
    return rows
