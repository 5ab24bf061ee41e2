"""Effects of studies against their standard errors: the funnel of a meta-analysis."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from kapstats.errors import FormulaError
from kapstats.kernels import meta
from kapstats.report.figures import style


@style.house
def funnel(frame: pd.DataFrame, *, level: float = 0.95, xlabel: str = "Effect", ax: Any = None) -> Any:
    """Draw one point per study, precise studies on top, and where `level` of them lie without heterogeneity.

    Parameters
    ----------
    frame : as `ks.meta_analysis` gives it: the row ``pooled``, then the studies, with ``estimate std_error``. The
        funnel stands on the common-effect (inverse-variance) mean of the points; the dashed line is the pooled effect
    """
    if "term" not in frame or not frame["term"].eq("pooled").any():
        raise FormulaError("funnel: the figure of a meta-analysis; this result has no row 'pooled'.")
    pooled = float(frame.loc[frame["term"].eq("pooled"), "estimate"].iloc[0])
    studies = frame[frame["term"].ne("pooled")]
    y, error = (studies[c].to_numpy(dtype=float) for c in ("estimate", "std_error"))
    centre = meta.pool(y, error**2, "common").estimate
    ax = style.axes(ax, 4.8, 3.4)
    bottom = 1.08 * float(error.max())
    half = _half_width(level) * bottom
    ax.plot([centre - half, centre, centre + half], [bottom, 0.0, bottom], color=style.MUTED, lw=0.9)
    ax.axvline(centre, color=style.MUTED, lw=0.9)
    ax.axvline(pooled, color=style.INK, lw=0.9, ls="--")
    ax.plot(y, error, "o", color="#123c80", ms=5)
    ax.set_ylim(bottom, 0.0)
    ax.set_xlabel(xlabel)
    ax.set_ylabel("Standard error")
    return ax


def _half_width(level: float) -> float:
    from scipy import special

    return float(special.ndtri(0.5 + np.clip(level, 0.0, 1.0) / 2))
