"""Natural cubic splines: linear beyond the boundary knots (as R splines::ns, the same columns)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline

Floats = NDArray[np.float64]


def natural_spline(x: Floats, df: int | None = None, knots: Any = None, *, state: dict[str, Any]) -> Floats:
    """Columns (n, len(knots) + 1) without an intercept; knots at quantiles of x for `df`, learned once into `state`."""
    if not state:
        inner = _knots(x, df, knots)
        edges = float(np.nanmin(x)), float(np.nanmax(x))
        if not edges[0] < edges[1] or not all(edges[0] < k < edges[1] for k in inner):
            raise ValueError("the knots of ns() must lie inside the range of the column.")
        state.update(knots=inner, edges=edges)
    inner, (low, high) = state["knots"], state["edges"]
    t = np.r_[[low] * 4, inner, [high] * 4]
    whole = BSpline(t, np.eye(len(t) - 4), 3)
    curvature = whole.derivative(2)(np.array([low, high]))[:, 1:]
    turned = np.linalg.qr(curvature.T, mode="complete")[0]
    inside = whole(np.clip(x, low, high))[:, 1:]
    slope = whole.derivative(1)(np.clip(x, low, high))[:, 1:]
    beyond = (x - np.clip(x, low, high))[:, None]
    return np.asarray((inside + beyond * slope) @ turned[:, 2:])


def _knots(x: Floats, df: int | None, knots: Any) -> Floats:
    if (df is None) == (knots is None):
        raise ValueError("ns() takes df= or knots=.")
    if knots is not None:
        return np.sort(np.atleast_1d(np.asarray(knots, dtype=float)))
    if int(df or 0) != df or df < 1:
        raise ValueError("df of ns() is a whole number of 1 or more.")
    return np.quantile(x[np.isfinite(x)], np.arange(1, int(df)) / int(df))
