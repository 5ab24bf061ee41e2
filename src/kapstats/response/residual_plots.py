"""Diagnostic plots of a fitted MMRM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import special

from kapstats.response.prediction import fitted, need_rows, residuals

if TYPE_CHECKING:
    from kapstats.response.mmrm_fit import MmrmFit


def plot(model: MmrmFit, ax: Any, kind: str) -> Any:
    """See `MmrmFit.plot`."""
    import matplotlib.pyplot as plt

    need_rows(model, "plot")
    if ax is None:
        _, ax = plt.subplots(figsize=(5, 3.5), layout="constrained")
    {"residuals": _residuals, "qq": _quantiles, "fit": _profile}[kind](model, ax)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _residuals(model: MmrmFit, ax: Any) -> None:
    ax.scatter(fitted(model), residuals(model, "normalized"), s=8, alpha=0.5, color="0.35", linewidths=0)
    ax.axhline(0, color="0.6", linewidth=0.8)
    ax.set(xlabel=f"Fitted {model.description.response}", ylabel="Normalized residual")


def _quantiles(model: MmrmFit, ax: Any) -> None:
    r = np.sort(residuals(model, "normalized").to_numpy())
    expected = special.ndtri((np.arange(len(r)) + 0.5) / len(r))
    ax.scatter(expected, r, s=8, alpha=0.5, color="0.35", linewidths=0)
    ax.axline((0, 0), slope=1, color="0.6", linewidth=0.8)
    ax.set(xlabel="Normal quantile", ylabel="Normalized residual")


def _profile(model: MmrmFit, ax: Any) -> None:
    """Observed and fitted means of the rows used, by visit."""
    data = need_rows(model, "plot")
    column = data.covariance.coordinates[0]
    means = pd.DataFrame({"visit": data.used[column], "observed": data.y, "fitted": fitted(model)})
    means = means.groupby("visit", observed=True, sort=True)[["observed", "fitted"]].mean()
    place = np.arange(len(means))
    ax.plot(place, means["observed"], "o", color="0.35", label="observed")
    ax.plot(place, means["fitted"], "-", color="0.35", label="fitted")
    ax.set_xticks(place, [str(v) for v in means.index])
    ax.set(xlabel=column, ylabel=f"Mean {model.description.response}")
    ax.legend(frameon=False)
