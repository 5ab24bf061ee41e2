"""Risk differences against their evidence: which adverse events stand out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from kapstats._types import FloatArray
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
    groups = shown[by].to_numpy() if by else np.full(len(shown), "Drug")
    strong = evidence >= -np.log10(threshold)
    for group, look in looks.items():
        for chosen, alpha in ((strong, 0.9), (~strong, 0.4)):
            own = chosen & (groups == group)
            ax.plot(x[own], evidence[own], ls="", marker=look.marker, color=look.colour, ms=5, alpha=alpha)
    ax.axvline(0, color=style.MUTED, lw=0.9, zorder=1)
    ax.axhline(-np.log10(threshold), color=style.MUTED, lw=0.9, ls="--", zorder=1)
    ax.margins(x=0.25)
    ax.set_ylim(bottom=0)
    _names(ax, shown[term].astype(str).tolist(), x, evidence, labels, -np.log10(threshold))
    ax.set_xlabel(xlabel)
    ax.set_ylabel("Evidence, -log10(p)")
    if by:
        style.legend_above(ax, looks)
    return ax


def _names(ax: Any, names: list[str], x: FloatArray, y: FloatArray, limit: int, least: float) -> None:
    """Names beside the highest points above `least`, to the right or the left, where there is room."""
    wide, high = (abs(b - a) for a, b in (ax.get_xlim(), ax.get_ylim()))
    taken = [(a - 0.01 * wide, a + 0.01 * wide, b) for a, b in zip(x, y, strict=True)]
    for i in [i for i in np.argsort(-y, kind="stable") if y[i] >= least][: 3 * limit]:
        length, gap = wide * 0.0125 * len(names[i]), 0.015 * wide
        for side in (1, -1) if x[i] >= 0 else (-1, 1):
            near, far = x[i] + side * gap, x[i] + side * (gap + length)
            box = (min(near, far), max(near, far), y[i])
            if all(box[1] < t[0] or box[0] > t[1] or abs(box[2] - t[2]) > 0.035 * high for t in taken):
                taken.append(box)
                text = names[i].capitalize() if names[i].isupper() else names[i]
                ax.text(near, y[i], text, ha="left" if side > 0 else "right", va="center", fontsize=8)
                break
