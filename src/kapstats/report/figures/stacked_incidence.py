"""Where everybody is over time: the cumulative incidences of all causes stacked, one panel a group."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kapstats.report.figures import style
from kapstats.report.figures.kaplan_meier import groups
from kapstats.report.figures.steps import nice_times, step_of, time_label

#: fills of the causes from the bottom, colour-blind safe and apart in grey
FILLS = ("#B3543D", "#7A8FA6", "#D9B44A", "#5E8C6A", "#9C7BB0")


@style.house
def stacked_incidence(
    frame: pd.DataFrame,
    *,
    strata: Sequence[str] = (),
    n: Mapping[Any, int] | None = None,
    names: Mapping[Any, str] | None = None,
    unit: str = "",
    free: str = "no event",
    ax: Any = None,
) -> Any:
    """Draw the shares of every group that have had each cause, on top of each other; what is left had none.

    Parameters
    ----------
    frame : `strata`, ``cause time estimate``, one row per time and cause
    n : subjects per group, printed above its panel
    names : what the causes are called, such as {1: "relapse", 2: "left"}
    free : what those without any event are called
    """
    panels = groups(frame, strata)
    ax = style.axes(ax, max(6.4, 2.1 * len(panels) + 1.2), 3.2)
    made = style.side_by_side(ax, [1.0] * len(panels))
    end, causes = float(frame["time"].max()), list(dict.fromkeys(frame["cause"]))
    for k, (panel, (group, rows)) in enumerate(zip(made, panels.items(), strict=True)):
        top = _stack(panel, rows, causes, end)
        count = f" (n = {n[group]})" if n and group in n else ""
        panel.set_title(f"{style.name(group)}{count}" if strata else f"All{count}", fontsize=9)
        _axis(panel, end, unit, first=k == 0)
        panel.plot([], [])
    _names(made[-1], [(names or {}).get(c, str(c)) for c in causes], free, top, end)
    return ax


def _stack(ax: Any, rows: pd.DataFrame, causes: Sequence[Any], end: float) -> list[float]:
    """Fill the causes of one group; the heights of their upper edges at the end."""
    curves = [step_of(rows[(rows["cause"] == c).to_numpy()], 0.0).value for c in causes]
    times = np.unique(np.concatenate([[0.0], rows["time"].to_numpy(float), [end]]))
    floor, edges = np.zeros(times.size), []
    for curve, fill in zip(curves, _fills(len(causes)), strict=True):
        height = floor + curve(times)
        ax.fill_between(times, floor, height, step="post", color=fill, alpha=0.85, lw=0)
        ax.plot(times, height, drawstyle="steps-post", color=style.INK, lw=0.8)
        floor = height
        edges.append(float(height[-1]))
    return edges


def _fills(count: int) -> list[str]:
    return [FILLS[k % len(FILLS)] for k in range(count)]


def _names(ax: Any, causes: Sequence[str], free: str, edges: list[float], end: float) -> None:
    """The causes beside the last panel, at the middle of their areas."""
    from matplotlib.transforms import ScaledTranslation

    bounds = [0.0, *edges, 1.0]
    middles = [(a + b) / 2.0 for a, b in itertools.pairwise(bounds)]
    placed = style.spread(middles, 0.09)
    beside = ax.transData + ScaledTranslation(8 / 72, 0, ax.figure.dpi_scale_trans)
    for text, y, colour in zip([*causes, free], placed, [*_fills(len(causes)), style.PAPER], strict=True):
        ax.annotate(text, (end, y), (15, 0), textcoords="offset points", va="center", fontsize=8.5, color=style.INK,
                    annotation_clip=False)  # fmt: skip
        ax.plot([end], [y], marker="s", ms=5, color=colour, mec=style.INK, mew=0.6, clip_on=False, ls="",
                transform=beside)  # fmt: skip


def _axis(ax: Any, end: float, unit: str, *, first: bool) -> None:
    from matplotlib.ticker import PercentFormatter

    ax.set_xlim(0, end)
    ax.set_ylim(0, 1)
    ax.set_xticks(nice_times(end, about=3, unit=unit))
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    ax.grid(visible=False)
    ax.set_xlabel(time_label(unit))
    if first:
        ax.set_ylabel("Share of subjects")
    else:
        ax.tick_params(labelleft=False)
