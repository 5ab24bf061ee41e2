"""What every fit with fixed effects answers in the same way: the table of coefficients, L b, and the Wald F test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from kapstats._types import BoolArray, FloatArray
from kapstats.estimates import Estimates
from kapstats.formula.design import Design
from kapstats.formula.grid import estimable
from kapstats.inference.contrasts import Joint, Linear, Model
from kapstats.inference.intervals import with_inference
from kapstats.response.small_sample import _f_tail, _independent


def coefficient_table(
    design: Design,
    found: Linear,
    describe: Mapping[str, Any],
    *,
    level: float,
    side: str = "two",
    lost: BoolArray | None = None,
) -> Estimates:
    """One row per column of the design with the answers to its unit vectors; `lost` columns (default aliased) NaN."""
    lost = design.aliased if lost is None else lost
    values = [np.where(lost, np.nan, v) for v in (found.estimate, found.std_error, found.df)]
    table = with_inference(pd.DataFrame({"term": list(design.names)}), *values, level=level, side=side)
    return Estimates(table, dict(describe), np.where(lost[:, None] | lost[None, :], np.nan, found.vcov))


def linear(
    design: Design, beta: FloatArray, covariance: FloatArray, degrees: float, L: FloatArray, *, check: bool = True
) -> Linear:
    """Estimates of L b with one df for all; NaN where not estimable (check=False: aliased coefficients are zero).

    beta (p,), covariance (p, p) of the columns that are kept; L (k, columns)
    """
    L = np.atleast_2d(np.asarray(L, dtype=float))
    ok = estimable(L, design) if check else np.ones(len(L), dtype=bool)
    kept = L[:, ~design.aliased]
    vcov = np.where(ok[:, None] & ok[None, :], kept @ covariance @ kept.T, np.nan)
    return Linear(np.where(ok, kept @ beta, np.nan), vcov, np.where(ok, degrees, np.nan))


def joint(model: Model, design: Design, L: FloatArray, df: str | None, vcov: str | None) -> Joint:
    """Wald F test of L b = 0 over its estimable, independent rows, df of the first; NaN where a row is missing."""
    L = np.atleast_2d(np.asarray(L, dtype=float))
    rows = _independent(L[estimable(L, design)])
    if not len(rows):
        return Joint(float("nan"), 0, float("nan"), float("nan"))
    found = model.linear(rows, df=df, vcov=vcov)
    if not (np.isfinite(found.estimate).all() and np.isfinite(found.vcov).all()):
        return Joint(float("nan"), len(rows), float("nan"), float("nan"))
    f = float(found.estimate @ np.linalg.pinv(found.vcov, hermitian=True) @ found.estimate) / len(rows)
    return Joint(f, len(rows), float(found.df[0]), _f_tail(f, len(rows), float(found.df[0])))
