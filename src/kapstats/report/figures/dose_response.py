"""Dose response: the averaged curve with its band, the curves of the models, the means that were fitted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from kapstats._types import FloatArray
from kapstats.report.figures import style

CURVE = "#123c80"
DASHES = ("--", ":", "-.", (0, (5, 1)), (0, (1, 2)))


@style.house
def dose_response(
    average: pd.DataFrame,
    curves: Mapping[str, FloatArray],
    dose: FloatArray,
    mean: FloatArray,
    vcov: FloatArray,
    *,
    xlabel: str = "Dose",
    ylabel: str = "Least-squares mean",
    level: float = 0.95,
    ax: Any = None,
) -> Any:
    """Draw a dose-response fit.

    Parameters
    ----------
    average : ``dose estimate conf_low conf_high`` of the averaged curve
    curves : mean at the same doses by model
    dose, mean, vcov : what was fitted
    """
    from scipy.special import ndtri

    ax = style.axes(ax, 6.4, 3.6)
    x = average["dose"].to_numpy(dtype=float)
    ax.fill_between(x, average["conf_low"].to_numpy(float), average["conf_high"].to_numpy(float), color=CURVE,
                    alpha=0.14, lw=0)  # fmt: skip
    for k, (name, values) in enumerate(curves.items()):
        ax.plot(x, values, color=style.MUTED, lw=1.1, ls=DASHES[k % len(DASHES)], label=name)
    ax.plot(x, average["estimate"], color=CURVE, lw=2.0, label="average")
    reach = float(ndtri(0.5 + level / 2)) * np.sqrt(np.diag(vcov))
    ax.errorbar(dose, mean, yerr=reach, fmt="o", color=style.INK, ms=5, elinewidth=1.1, zorder=5)
    ax.set_xlabel(xlabel)
    ax.set_ylabel(f"{ylabel} ({100 * level:g}% CI)")
    ax.grid(visible=False, axis="x")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=len(curves) + 1, fontsize=8, borderaxespad=0,
              handlelength=2.2, columnspacing=1.0)  # fmt: skip
    return ax
