"""Why people left: the share of each arm that had left before each visit, by reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from kapstats.errors import FormulaError
from kapstats.report.figures import style

HATCHES = ("", "//", "", "..", "", "xx")


@style.house
def dropout_reasons(frame: pd.DataFrame, *, ax: Any = None) -> Any:
    """Draw the share of each arm that had left before each visit, by reason, in stacked bars.

    Parameters
    ----------
    frame : as `ks.dropout_reasons` gives it: an arm column, a visit column, ``reason``, ``percent`` (cumulative), ``N``
    """
    if not {"reason", "percent"} <= set(frame.columns):
        raise FormulaError("dropout_reasons: the figure of ks.dropout_reasons; this result has no reason or percent.")
    arm, visit = [c for c in frame.columns if c not in ("reason", "n", "N", "percent")][:2]
    arms, visits, why = (list(dict.fromkeys(frame[c])) for c in (arm, visit, "reason"))
    shades = [f"{0.15 + 0.75 * k / max(len(why) - 1, 1):.3f}" for k in range(len(why))]  # greys: colours are arms
    label = max(len(style.name(a)) for a in arms)  # names of arms stand side by side under the bars
    ax = style.axes(ax, 1.6 + len(arms) * max(0.34 * len(visits) + 0.3, 0.085 * label + 0.1), 3.4)
    step = len(visits) + 1.0
    for a, group in enumerate(arms):
        bottom = np.zeros(len(visits))
        xs = a * step + np.arange(len(visits))
        for k, reason in enumerate(why):
            rows = frame[(frame[arm] == group) & (frame["reason"] == reason)].set_index(visit)["percent"]
            height = rows.reindex(visits).fillna(0.0).to_numpy(dtype=float)
            shown = str(reason).capitalize() if a == 0 else None
            ax.bar(xs, height, 0.8, bottom=bottom, color=shades[k], edgecolor=style.PAPER,
                   hatch=HATCHES[k % len(HATCHES)], lw=0.6, label=shown)  # fmt: skip
            bottom += height
        size = frame.loc[frame[arm] == group, "N"].iloc[0]
        ax.annotate(f"{style.name(group)}\nn = {int(size)}", (xs.mean(), 0), (0, -34), textcoords="offset points",
                    xycoords="data", ha="center", va="top", fontsize=8.5, annotation_clip=False)  # fmt: skip
    places = [a * step + k for a in range(len(arms)) for k in range(len(visits))]
    ax.set_xticks(places, [str(v) for _ in arms for v in visits], rotation=90, fontsize=7)
    ax.grid(visible=False, axis="x")
    ax.set_ylim(0, 1.06 * ax.get_ylim()[1])
    ax.set_ylabel("Left before the visit, % of the arm")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=min(len(why), 3), fontsize=8, borderaxespad=0)
    return ax
