"""When the Hartung-Knapp standard error says that studies agree more closely than chance allows."""

from __future__ import annotations

import numpy as np

from kapstats._types import FloatArray

#: of the inverse-variance standard error: what is below is zero up to rounding
NOTHING = 1e-8
GUARD = "ci='hartung-knapp-adhoc' never goes below the inverse-variance standard error"


def checked(error: FloatArray, normal: FloatArray, shown: str) -> tuple[FloatArray, list[str]]:
    """Hartung-Knapp standard errors with what has to be said where they are below those of inverse variance.

    They differ by one factor, sqrt(Q / df). Where that is zero there is no interval: NaN.

    Parameters
    ----------
    error, normal : (k,) standard errors by Hartung-Knapp and by inverse variance
    shown : what they are of, such as "the pooled effect"
    """
    factor = float(np.nanmax(error / normal)) if np.isfinite(normal).any() else np.nan
    if factor < NOTHING:
        said = f"Hartung-Knapp: the studies agree exactly, so that the standard error of {shown} is 0: not estimable."
        return np.full_like(error, np.nan), [f"{said} {GUARD}."]
    if factor < 1 - 1e-9:
        said = f"Hartung-Knapp: the standard error of {shown} is {factor:.2g} times that of inverse variance: "
        return error, [f"{said}intervals can be too narrow. {GUARD}."]
    return error, []
