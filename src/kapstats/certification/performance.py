"""Performance of an estimator over replicates, every measure with its Monte-Carlo error (Morris, White and Crowther
2019, doi 10.1002/sim.8086)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from kapstats._types import FloatArray

#: columns in the order in which they are reported
COLUMNS = (
    "truth", "truth_mcse", "replicates", "estimate", "bias", "bias_mcse", "empirical_se", "model_se", "se_ratio",
    "se_ratio_mcse", "coverage", "coverage_mcse", "rejection", "rejection_mcse", "convergence", "convergence_mcse",
)  # fmt: skip

ESTIMATE, STD_ERROR, LOW, HIGH, P, CONVERGED = range(6)


def share(hit: FloatArray, n: int) -> tuple[float, float]:
    """A proportion of n replicates and its standard error; NaN without replicates."""
    if n == 0:
        return np.nan, np.nan
    p = float(hit.sum()) / n
    return p, float(np.sqrt(p * (1 - p) / n))


def measures(results: FloatArray, truth: float, truth_mcse: float, level: float) -> dict[str, Any]:
    """All measures of one estimand.

    results (replicates, 6): estimate, standard error, lower and upper limit, p value, converged (1 or 0). Measures of
    accuracy are over the replicates that converged; `convergence` is their share.
    """
    good = results[results[:, CONVERGED] == 1]
    n, x, se = len(good), good[:, ESTIMATE], good[:, STD_ERROR]
    convergence, convergence_mcse = share(results[:, CONVERGED], len(results))
    out = {"truth": truth, "truth_mcse": truth_mcse, "replicates": len(results)}
    out |= {"convergence": convergence, "convergence_mcse": convergence_mcse}
    known = n > 1 and bool(np.isfinite(x).all())
    empirical = float(x.std(ddof=1)) if known else np.nan
    mean = float(x.mean()) if known else np.nan
    model = float(np.sqrt((se**2).mean())) if known else np.nan
    ratio = model / empirical if known and empirical > 0 else np.nan
    spread = float((se**2).var() / (4 * n * model**4)) if known and model > 0 else np.nan
    out |= {"estimate": mean, "bias": mean - truth, "bias_mcse": empirical / np.sqrt(n) if known else np.nan}
    out |= {"empirical_se": empirical, "model_se": model, "se_ratio": ratio}
    out["se_ratio_mcse"] = ratio * np.sqrt(spread + 1 / (2 * max(n - 1, 1)))
    covered = (good[:, LOW] <= truth) & (truth <= good[:, HIGH])
    limits = np.isfinite(good[:, LOW]).all() and n > 0
    out["coverage"], out["coverage_mcse"] = share(covered, n) if limits else (np.nan, np.nan)
    tested = np.isfinite(good[:, P]).all() and n > 0
    out["rejection"], out["rejection_mcse"] = share(good[:, P] < 1 - level, n) if tested else (np.nan, np.nan)
    return {name: out[name] for name in COLUMNS}


def allowance(estimands: int) -> float:
    """How many Monte-Carlo errors are not yet evidence when so many estimands are looked at (3 for one; Bonferroni).

    Examples
    --------
    >>> round(allowance(1), 2), round(allowance(25), 2)
    (3.0, 3.87)
    """
    return float(-ndtri(ndtr(-3.0) / max(estimands, 1)))


def failing(frame: pd.DataFrame, level: float) -> list[bool]:
    """Which rows of a certificate speak against the estimator, given how many there are."""
    rows = frame.to_dict("records")
    return [not certified(row, level, sure=allowance(len(rows))) for row in rows]


def certified(row: dict[str, Any], level: float, margin: float = 0.1, bias: float = 0.05, sure: float = 3.0) -> bool:
    """Whether nothing speaks against the estimator.

    Bias beyond `bias` empirical standard errors, or an error rate of the interval more than the share `margin` above
    the one promised (5.5% for 95% limits), is a failure once it exceeds `sure` Monte-Carlo errors; so is a test that
    rejects a true null as much too often (a test without an estimate is judged by that alone: the truth of its ratio
    is one). Coverage above the level is no failure: exact intervals are conservative by design.
    """
    slack = sure * float(np.hypot(np.nan_to_num(row["bias_mcse"]), row["truth_mcse"]))
    fine = not abs(row["bias"]) > bias * row["empirical_se"] + slack
    limit = (1 + margin) * (1 - level)
    if row["truth"] == (1.0 if np.isnan(row["estimate"]) else 0.0):
        fine = fine and not row["rejection"] > limit + sure * row["rejection_mcse"]
    return fine and not row["coverage"] < 1 - limit - sure * row["coverage_mcse"]
