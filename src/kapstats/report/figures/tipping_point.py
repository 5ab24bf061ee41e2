"""How far imputed values have to be made worse before the interval holds zero: a line per contrast, or a grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from kapstats.errors import FormulaError
from kapstats.report.figures import style


@style.house
def tipping_point(
    frame: pd.DataFrame,
    *,
    xlabel: str = "Added to the imputed values of the active arm",
    ylabel: str = "Difference",
    level: float = 0.95,
    ax: Any = None,
) -> Any:
    """Draw a tipping-point analysis.

    Parameters
    ----------
    frame : as `ks.tipping_point` gives it: ``delta``, where known ``contrast`` and ``reference_delta``, and
        ``estimate conf_low conf_high``. With several reference deltas: a grid of one contrast, in which the cells
        whose interval holds zero are marked
    """
    if "delta" not in frame or "conf_low" not in frame:
        raise FormulaError("tipping_point: the figure of ks.tipping_point; this result has no delta or interval.")
    if "reference_delta" in frame:
        return _grid(frame, xlabel, ax)
    names = list(dict.fromkeys(frame["contrast"])) if "contrast" in frame else [""]
    active = {name: name.rsplit(" - ", 1)[0] for name in names}  # the colour of a contrast is that of its first arm
    looks = dict(zip(names, style.marks(active.values()).values(), strict=True))
    ax = style.axes(ax, 6.4, 3.6)
    ends = {}
    for name in names:
        rows = (frame[frame["contrast"] == name] if name else frame).sort_values("delta")
        x, look = rows["delta"].to_numpy(dtype=float), looks[name]
        ax.fill_between(x, rows["conf_low"].to_numpy(float), rows["conf_high"].to_numpy(float), color=look.colour,
                        alpha=0.14 if len(names) < 4 else 0.06, lw=0)  # fmt: skip
        ax.plot(x, rows["estimate"], color=look.colour, marker=look.marker, ls=look.dashes, lw=1.6)
        ends[name] = (float(x[-1]), float(rows["estimate"].iloc[-1]))
        at = crossing(rows)
        if at is not None:
            ax.plot([at], [0], marker="|", ms=13, mew=2, color=look.colour, zorder=6)
            if len(names) < 4:
                ax.annotate(f"{at:.3g}", (at, 0), (0, 9), textcoords="offset points", ha="center", fontsize=8.5)
    ax.axhline(0, color=style.INK, lw=0.9)
    ax.set_xlabel(xlabel)
    ax.set_ylabel(f"{ylabel} ({100 * level:g}% CI)")
    if names != [""]:
        style.end_labels(ax, ends, looks)
    return ax


def crossing(rows: pd.DataFrame) -> float | None:
    """Delta at which the limit nearer to zero passes it (straight line between deltas), rows in order of delta."""
    side = "conf_high" if float(rows["estimate"].iloc[int(np.argmin(np.abs(rows["delta"])))]) < 0 else "conf_low"
    x, y = rows["delta"].to_numpy(dtype=float), rows[side].to_numpy(dtype=float)
    for k in range(1, len(x)):
        if y[k - 1] * y[k] <= 0 and y[k] != y[k - 1]:
            return float(x[k - 1] + (x[k] - x[k - 1]) * y[k - 1] / (y[k - 1] - y[k]))
    return None


def _grid(frame: pd.DataFrame, xlabel: str, ax: Any) -> Any:
    if "contrast" in frame and frame["contrast"].nunique() > 1:
        raise FormulaError("tipping_point: a grid shows one contrast; filter(contrast=...) first.")
    table = frame.pivot_table(index="reference_delta", columns="delta", values="estimate")
    inside = frame.assign(inside=(frame["conf_low"] <= 0) & (frame["conf_high"] >= 0))
    held = inside.pivot_table(index="reference_delta", columns="delta", values="inside", aggfunc="first")
    ax = style.axes(ax, 1.6 + 0.72 * len(table.columns), 1.4 + 0.42 * len(table))
    shade = np.where(held.to_numpy(dtype=bool), 1.0, 0.0)
    ax.imshow(shade, cmap="Greys", vmin=0, vmax=3.2, origin="lower", aspect="auto")
    for i in range(len(table)):
        for k in range(len(table.columns)):
            ax.text(k, i, f"{table.iat[i, k]:.1f}", ha="center", va="center", fontsize=8.5,
                    weight="normal" if shade[i, k] else "bold")  # fmt: skip
    ax.set_xticks(range(len(table.columns)), [f"{v:g}" for v in table.columns])
    ax.set_yticks(range(len(table)), [f"{v:g}" for v in table.index])
    ax.grid(visible=False)
    ax.set_xlabel(xlabel)
    ax.set_ylabel("Added to those of the reference arm")
    name = str(frame["contrast"].iloc[0]) + "; " if "contrast" in frame else ""
    ax.set_title(f"{name}grey: the interval holds zero")
    return ax
