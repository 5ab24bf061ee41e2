"""Risk differences against their evidence: which adverse events stand out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from kapstats.report.figures import style


@style.house
def volcano(
    frame: pd.DataFrame,
    *,
    term: str = "AEDECOD",
    by: str | None = None,
    p: str = "p_value",
    threshold: float = 0.05,
    labels: int = 8,
    xlabel: str = "Risk difference, points",
    ax: Any = None,
) -> Any:
    """Draw each term at its risk difference (horizontal) and -log10 p (vertical).

    Parameters
    ----------
    frame : columns `term`, ``estimate`` (proportions) and `p`; with `by`, one mark per group
    threshold : where the dashed line stands
    labels : how many of the smallest p values are named
    """
    ax = style.axes(ax, 6.4, 4.2)
    shown = frame[frame[p].notna() & frame["estimate"].notna()]
    evidence = -np.log10(np.clip(shown[p].to_numpy(dtype=float), 1e-16, 1.0))
    x = 100 * shown["estimate"].to_numpy(dtype=float)
    looks = style.marks(shown[by] if by else ["Drug"])
    colours = [looks[g] for g in shown[by]] if by else [looks["Drug"]] * len(shown)
    for a, b, look in zip(x, evidence, colours, strict=True):
        ax.plot([a], [b], marker=look.marker, color=look.colour, ms=5, alpha=0.9 if b >= -np.log10(threshold) else 0.4)
    ax.axvline(0, color=style.MUTED, lw=0.9, zorder=1)
    ax.axhline(-np.log10(threshold), color=style.MUTED, lw=0.9, ls="--", zorder=1)
    _names(ax, shown[term].astype(str).tolist(), x, evidence, labels, -np.log10(threshold))
    ax.margins(x=0.25)
    ax.set_ylim(bottom=0)
    ax.set_xlabel(xlabel)
    ax.set_ylabel("Evidence, -log10(p)")
    if by:
        style.legend_above(ax, looks, line=False)
    return ax


def _names(ax: Any, names: list[str], x: np.ndarray, y: np.ndarray, limit: int, least: float) -> None:
    """Names of the `limit` highest points above `least`, moved apart vertically."""
    top = [i for i in np.argsort(-y)[:limit] if y[i] >= least]
    span = max(float(y.max(initial=least)) * 1.05, 0.1)
    at = style.spread([float(y[i]) for i in top], span * 0.045)
    for i, height in zip(top, at, strict=True):
        side = 6 if x[i] >= 0 else -6
        ha = "left" if side > 0 else "right"
        name = names[i].capitalize() if names[i].isupper() else names[i]
        ax.annotate(name, (x[i], height), (side, 0), textcoords="offset points", ha=ha, va="center", fontsize=8)
