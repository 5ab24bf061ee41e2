"""Estimating equations, logistic mixed models and dose-response refits, single thread, CPU seconds.

The peer of the estimating equations is statsmodels with the same bias-reduced covariance, which both need here.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd

import kapstats as ks
from benchmarks.response import cpu

DOSES = [0.0, 0.25, 0.5, 0.75, 1.0]


def simulate(n: int, visits: int = 5, seed: int = 1) -> pd.DataFrame:
    """Responders of n patients at every visit, with a random intercept."""
    rng = np.random.default_rng(seed)
    data = pd.DataFrame({"ID": np.repeat(np.arange(n), visits), "VISIT": np.tile(np.arange(visits), n)})
    data["KAP"] = data["ID"] % 2
    eta = -0.5 + 0.5 * data["KAP"] + 0.1 * data["VISIT"] + rng.normal(size=n)[data["ID"]]
    return data.assign(HIT=(rng.random(len(data)) < 1 / (1 + np.exp(-eta))).astype(int))


def run() -> list[dict[str, Any]]:
    """One row per case and implementation; ratio = seconds over ours."""
    warnings.simplefilter("ignore")
    ks.gee("HIT ~ KAP + cluster(ID)", simulate(50))
    rows = []
    for n in (200, 2_000, 20_000):
        rows += _gee(n, simulate(n))
    return [*rows, _glmm(2_000), _dose()]


def _row(case: str, what: str, seconds: float, ours: float, note: str = "") -> dict[str, Any]:
    return {"case": case, "implementation": what, "seconds": seconds, "ratio": round(seconds / ours, 2), "note": note}


def _gee(n: int, data: pd.DataFrame) -> list[dict[str, Any]]:
    import statsmodels.api as sm

    case = f"GEE, {n} x 5"
    ours, fit = cpu(lambda: ks.gee("HIT ~ KAP + VISIT + cluster(ID)", data), 3)
    X = np.column_stack([np.ones(len(data)), data["KAP"], data["VISIT"]])

    def call() -> Any:
        model = sm.GEE(
            data["HIT"].to_numpy(), X, groups=data["ID"].to_numpy(), family=sm.families.Binomial(),
            cov_struct=sm.cov_struct.Exchangeable(),
        )  # fmt: skip
        return model.fit(cov_type="bias_reduced", ctol=1e-8)

    theirs, peer = cpu(call)
    gap = float(np.abs(fit.beta - peer.params).max())
    return [
        _row(case, "kapstats, exchangeable, bias-reduced", ours, ours),
        _row(case, "statsmodels GEE", theirs, ours, f"coefficients {gap:.0e} apart"),
    ]


def _glmm(n: int) -> dict[str, Any]:
    data = simulate(n)
    seconds, fit = cpu(lambda: ks.glmm("HIT ~ KAP + VISIT + (1 | ID)", data, quadrature=7))
    note = f"log-likelihood {fit.loglik:.6f}"
    return _row(f"Logistic mixed model, {n} x 5", "kapstats, 7 nodes", seconds, seconds, note)


def _dose() -> dict[str, Any]:
    means = pd.DataFrame({"estimate": [0.0, -3.0, -5.0, -6.0, -6.5], "std_error": [1.0] * 5})
    seconds, _ = cpu(lambda: ks.dose_response(means, DOSES, draws=500))
    return _row("Dose response, 5 models", "kapstats, 500 refits", seconds, seconds)
