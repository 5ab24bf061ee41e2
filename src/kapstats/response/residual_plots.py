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
    """Observed and fitted means of the rows used, visits in their order."""
    data, arranged = need_rows(model, "plot"), model.visits.arranged
    place = np.empty(len(data.y), dtype=np.intp)
    for rows, seen in zip(arranged.rows, arranged.seen, strict=True):
        place[rows] = np.flatnonzero(seen)
    means = pd.DataFrame({"place": place, "observed": data.y, "fitted": fitted(model)}).groupby("place").mean()
    ax.plot(means.index, means["observed"], "o", color="0.35", label="observed")
    ax.plot(means.index, means["fitted"], "-", color="0.35", label="fitted")
    ax.set_xticks(means.index, [model.visits.labels[k] for k in means.index])
    ax.set(xlabel=data.covariance.coordinates[0], ylabel=f"Mean {model.description.response}")
    ax.legend(frameon=False)
