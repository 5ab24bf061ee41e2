"""Random slope models beside statsmodels (and mixedlm-rs where it is installed), single thread, CPU seconds."""

from __future__ import annotations

import importlib.util
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

import kapstats as ks

FORMULA = "y ~ base + arm * factor(visit) + (t | id)"
#: recorded elsewhere on a machine of the same kind: R lme4 1.1-31, mixedlm-rs 0.2.0, statsmodels 0.15 (CPU seconds)
RECORDED = {"300 x 5": (0.10, 0.06, 2.9), "2000 x 8": (0.84, 0.27, 20.9), "20000 x 8": (12.3, 2.3, None)}


def simulate(n: int, visits: int, seed: int = 20250101) -> pd.DataFrame:
    """Two arms, a baseline, a random intercept and slope, about 20% monotone dropout."""
    rng = np.random.default_rng(seed)
    base, arm = rng.normal(30, 5, n), rng.integers(0, 2, n)
    t = np.arange(visits)
    effects = rng.multivariate_normal([0, 0], [[9, -0.6], [-0.6, 0.4]], n)
    y = 0.5 * base[:, None] - (1 + 0.5 * arm[:, None]) * t + effects[:, :1] + effects[:, 1:] * t
    y += rng.normal(0, 2, (n, visits))
    last = np.where(rng.random(n) < 0.4, rng.integers(2, visits, n), visits)
    seen = t < last[:, None]
    i, j = np.nonzero(seen)
    return pd.DataFrame({"id": i, "visit": j + 1, "t": j.astype(float), "arm": arm[i], "base": base[i], "y": y[i, j]})


def cpu(call: Callable[[], Any], repeats: int = 3) -> tuple[float, Any]:
    """CPU seconds of a call (the least of `repeats` when it is short), and what it returned."""
    taken = []
    while not taken or (taken[0] < 0.5 and len(taken) < repeats):
        start = time.process_time()
        value = call()
        taken.append(time.process_time() - start)
    return min(taken), value


def run() -> list[dict[str, Any]]:
    """One row per case and implementation; ratio = seconds over ours."""
    warnings.simplefilter("ignore")
    ks.lmm(FORMULA, simulate(60, 4))  # imports
    rows = []
    for n, visits in ((300, 5), (2000, 8), (20000, 8)):
        case = f"{n} x {visits}"
        data = simulate(n, visits)
        ours, fit = cpu(lambda data=data: ks.lmm(FORMULA, data))
        inference, _ = cpu(lambda fit=fit: fit.coefficients, 1)
        rows.append(_row(case, "kapstats fit", ours, ours, f"log-likelihood {fit.loglik:.6f}, {len(data)} rows"))
        rows.append(_row(case, "kapstats fit + Kenward-Roger", ours + inference, ours, "all coefficients"))
        lme4, rust, recorded = RECORDED[case]
        rows.append(_row(case, "R lme4 1.1-31 (recorded)", lme4, ours, "fit only"))
        rows.append(_row(case, "mixedlm-rs 0.2.0 (recorded)", rust, ours, "fit only"))
        rows += _statsmodels(case, data, ours, fit.loglik, recorded)
        rows += _mixedlm_rs(case, data, ours, fit.loglik)
    rows += _crossed()
    return rows


def _row(case: str, name: str, seconds: float | None, ours: float, note: str) -> dict[str, Any]:
    ratio = None if seconds is None else seconds / ours
    return {"case": case, "implementation": name, "seconds": seconds, "ratio": ratio, "note": note}


PEER_FORMULA = "y ~ base + C(arm) * C(visit)"


def _statsmodels(
    case: str, data: pd.DataFrame, ours: float, loglik: float, recorded: float | None
) -> list[dict[str, Any]]:
    if len(data) > 2000:
        return [_row(case, "statsmodels 0.15 (recorded)", recorded, ours, "not rerun: slow")] if recorded else []
    import statsmodels.formula.api as smf

    def call() -> Any:
        return smf.mixedlm(PEER_FORMULA, data, groups="id", re_formula="~ t").fit(reml=True)

    seconds, found = cpu(call)
    return [
        _row(case, "statsmodels MixedLM", seconds, ours, f"z only; log-likelihood {found.llf - loglik:+.1e} to ours")
    ]


def _mixedlm_rs(case: str, data: pd.DataFrame, ours: float, loglik: float) -> list[dict[str, Any]]:
    """Run beside ours where the package is installed."""
    if importlib.util.find_spec("mixedlm_rs") is None:
        return []
    import mixedlm_rs  # type: ignore[import-not-found]

    def call() -> Any:
        return mixedlm_rs.mixedlm(PEER_FORMULA, data, groups="id", re_formula="~ t").fit()

    call()
    seconds, found = cpu(call)
    return [_row(case, "mixedlm-rs", seconds, ours, f"no df; log-likelihood {found.llf - loglik:+.1e} to ours")]


def _crossed() -> list[dict[str, Any]]:
    """5,000 subjects crossed with 200 raters."""
    rng = np.random.default_rng(1)
    n = 20000
    subject, rater = rng.integers(0, 5000, n), rng.integers(0, 200, n)
    data = pd.DataFrame({"s": subject, "r": rater, "x": rng.normal(size=n)})
    data["y"] = data["x"] + rng.normal(size=5000)[subject] + rng.normal(size=200)[rater] + rng.normal(size=n)
    seconds, fit = cpu(lambda: ks.lmm("y ~ x + (1 | s) + (1 | r)", data))
    inference, _ = cpu(lambda: fit.coefficients, 1)
    return [
        _row("5000 crossed with 200", "kapstats fit", seconds, seconds, f"{n} rows"),
        _row("5000 crossed with 200", "kapstats fit + Kenward-Roger", seconds + inference, seconds, f"{n} rows"),
    ]


if __name__ == "__main__":
    print(pd.DataFrame(run()).to_string())
