"""Roots of many monotone functions at once, to machine precision."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_EPS = float(np.finfo(np.float64).eps)


def find_root(
    function: Callable[..., FloatArray], low: FloatArray, high: FloatArray, *args: FloatArray, iterations: int = 200
) -> FloatArray:
    """Solve function(x, *args) = 0 row by row inside brackets (Chandrupatla 1997, inverse quadratic or bisection).

    Parameters
    ----------
    function : elementwise; called as function(x, *args) on the rows that are still open.
    low, high : (k,) brackets. Where both ends have the same sign, the end with the smaller residual is the answer,
        which is what a limit on the edge of the parameter space needs.
    args : (k,) arrays, or (k, m) arrays, cut to the open rows.

    Returns
    -------
    (k,) roots, each within two units in the last place of a sign change. NaN rows stay NaN.
    """
    low, high = np.broadcast_arrays(np.asarray(low, float), np.asarray(high, float))
    f_low, f_high = function(low, *args), function(high, *args)
    root = np.where(np.abs(f_low) <= np.abs(f_high), low, high)
    root = np.where(np.isnan(f_low) | np.isnan(f_high), np.nan, root)
    rows = np.flatnonzero(np.sign(f_low) * np.sign(f_high) < 0)
    a, b, fa, fb = high[rows], low[rows], f_high[rows], f_low[rows]
    args = tuple(argument[rows] for argument in args)
    step = np.full(rows.size, 0.5)
    for _ in range(iterations):
        if not rows.size:
            break
        x = a + step * (b - a)
        f = function(x, *args)
        same = np.sign(f) == np.sign(fa)
        c, fc = np.where(same, a, b), np.where(same, fa, fb)
        b, fb = np.where(same, b, a), np.where(same, fb, fa)
        a, fa = x, f
        best = np.where(np.abs(fa) < np.abs(fb), a, b)
        root[rows] = best
        with np.errstate(divide="ignore", invalid="ignore"):
            limit = (2 * _EPS * np.abs(best) + 1e-300) / np.abs(b - a)
            step = _interpolate(a, b, c, fa, fb, fc)
        open_ = ~((limit > 0.5) | (fa == 0) | np.isnan(f))
        step = np.clip(step, limit, 1 - limit)
        rows, a, b, fa, fb, step = (v[open_] for v in (rows, a, b, fa, fb, step))
        args = tuple(argument[open_] for argument in args)
    return root


def _interpolate(
    a: FloatArray, b: FloatArray, c: FloatArray, fa: FloatArray, fb: FloatArray, fc: FloatArray
) -> FloatArray:
    """Position of the next point in (a, b): inverse quadratic where it is safe, else the middle."""
    xi, phi = (a - b) / (c - b), (fa - fb) / (fc - fb)
    quadratic = fa / (fb - fa) * fc / (fb - fc) + (c - a) / (b - a) * fa / (fc - fa) * fb / (fc - fb)
    safe = (phi**2 < xi) & ((1 - phi) ** 2 < 1 - xi) & np.isfinite(quadratic)
    return np.where(safe, quadratic, 0.5)
