"""From an estimate and its standard error to statistic, p value and confidence limits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from kapstats._types import FloatArray
from kapstats.errors import check_level as check_level
from kapstats.errors import choose

COLUMNS = ("estimate", "std_error", "df", "statistic", "p_value", "conf_low", "conf_high")


def t_quantile(probability: float, df: Any) -> FloatArray:
    """Quantile of Student's t, elementwise in `df`; infinite df is the normal, NaN or df <= 0 gives NaN."""
    df = np.asarray(df, dtype=float)
    finite = np.where(np.isfinite(df) & (df > 0), df, 1.0)
    t = np.asarray(special.stdtrit(finite, probability))
    t = t - _newton_step(t, finite, probability)  # older SciPy stops at 1e-11
    z = float(special.ndtri(probability))
    return np.where(np.isposinf(df), z, np.where(df > 0, t, np.nan))


def _newton_step(t: FloatArray, df: FloatArray, probability: float) -> FloatArray:
    """(P(T <= t) - probability) / density, zero where the density underflows."""
    log_norm = special.gammaln((df + 1) / 2) - special.gammaln(df / 2) - np.log(df * np.pi) / 2
    density = np.exp(log_norm - (df + 1) / 2 * np.log1p(t**2 / df))
    near = (density > 1e-12) & (df < 1e6)
    return np.where(near, (special.stdtr(df, t) - probability) / np.where(near, density, 1.0), 0.0)


def t_tail(statistic: Any, df: Any) -> FloatArray:
    """P(T > statistic), elementwise; infinite df is the normal, NaN or df <= 0 gives NaN."""
    statistic, df = np.asarray(statistic, dtype=float), np.asarray(df, dtype=float)
    finite = np.where(np.isfinite(df) & (df > 0), df, 1.0)
    t = np.asarray(special.stdtr(finite, -statistic))
    return np.where(np.isposinf(df), special.ndtr(-statistic), np.where(df > 0, t, np.nan))


def wald(
    estimate: Any, std_error: Any, df: Any = np.inf, *, level: float = 0.95, side: str = "two", null: float = 0.0
) -> dict[str, FloatArray]:
    """Statistic, p value and limits of (estimate - null) / std_error against t with `df`.

    Parameters
    ----------
    estimate, std_error, df : arrays that broadcast to one shape; df may be infinite (normal)
    level : confidence of the two-sided interval, or of the one-sided bound when `side` is one-sided
    side : "two", "greater" (alternative: above `null`; upper limit infinite) or "less"

    Examples
    --------
    >>> round(float(wald(2.0, 1.0)["p_value"]), 4)
    0.0455
    """
    choose(side, ("two", "less", "greater"), "side")
    estimate, std_error = np.asarray(estimate, dtype=float), np.asarray(std_error, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = (estimate - null) / std_error
    tail = {"two": 2 * t_tail(np.abs(statistic), df), "greater": t_tail(statistic, df), "less": t_tail(-statistic, df)}
    reach = t_quantile((1 + check_level(level)) / 2 if side == "two" else level, df) * std_error
    low = np.full_like(estimate - reach, -np.inf) if side == "less" else estimate - reach
    high = np.full_like(estimate + reach, np.inf) if side == "greater" else estimate + reach
    return {"statistic": statistic, "p_value": np.minimum(tail[side], 1.0), "conf_low": low, "conf_high": high}


def with_inference(
    frame: pd.DataFrame,
    estimate: Any,
    std_error: Any,
    df: Any = np.inf,
    *,
    level: float = 0.95,
    side: str = "two",
    null: float = 0.0,
) -> pd.DataFrame:
    """`frame` (identifying columns) with the seven inference columns behind it, in the order of the contract."""
    estimate = np.asarray(estimate, dtype=float)
    columns = {
        "estimate": estimate,
        "std_error": np.asarray(std_error, dtype=float),
        "df": np.broadcast_to(np.asarray(df, dtype=float), estimate.shape).copy(),
        **wald(estimate, std_error, df, level=level, side=side, null=null),
    }
    return pd.DataFrame({**frame.reset_index(drop=True), **columns})
