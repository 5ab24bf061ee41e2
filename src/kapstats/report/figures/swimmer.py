"""One lane per subject: the states it went through, when, and what ended its follow-up."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from kapstats.report.figures import style
from kapstats.report.figures.steps import nice_times, time_label

#: colour of a state by what its name means: a bad state is never the green of a good one
MEANINGS = (
    (r"non.?respon|no respon|depress|baseline", "#8a8f98"),
    (r"relapse|recurr|worse", style.ROUTES["INTRAMUSCULAR"][0].colour),
    (r"respon|remi|well", style.ROUTES["ORAL"][0].colour),
    (r"discontin|drop|withdr|death|dead", style.INK),
)


@style.house
def swimmer(
    frame: pd.DataFrame,
    *,
    subject: str = "USUBJID",
    group: str | None = None,
    most: int = 60,
    unit: str = "",
    colours: Mapping[Any, str] | None = None,
    ax: Any = None,
) -> Any:
    """Draw episodes.

    Parameters
    ----------
    frame : `subject`, `group`, ``state start stop``, and ``entered``: the state entered at stop, missing when follow-up
        ended in the state. A state that has no episode of its own is marked at its time
    most : lanes drawn; of more subjects every k-th, in the order of their follow-up, and the axis says so
    colours : state -> colour; by default by the meaning of common names, else the house colours in order
    """
    lanes, shown = _lanes(frame, subject, group, most)
    states = list(dict.fromkeys([*frame["state"], *frame["entered"].dropna()]))
    looks = style.marks(states)
    paint = {s: (colours or {}).get(s) or _meant(s) or looks[s].colour for s in states}
    ax = style.axes(ax, 6.4, 1.2 + 0.11 * len(lanes))
    end = float(frame["stop"].max())
    resting = set(frame["state"])
    for row in frame[frame[subject].isin(lanes)].to_dict("records"):
        y = lanes[row[subject]]
        ax.barh(y, row["stop"] - row["start"], left=row["start"], height=0.72, color=paint[row["state"]], lw=0)
        entered = row["entered"]
        if pd.isna(entered):
            ax.plot([row["stop"]], [y], ls="", marker=">", ms=3.2, color=style.MUTED, clip_on=False)
        elif entered not in resting:
            look = {"marker": looks[entered].marker, "color": paint[entered]}
            ax.plot([row["stop"]], [y], ls="", ms=3.8, clip_on=False, **look)
    ax.set_xlim(0, 1.02 * end)
    ax.set_ylim(len(lanes) - 0.3, -0.7)
    _axis(ax, frame, group, lanes, subject, nice_times(end, unit=unit), f"{time_label(unit)}; an arrow: still followed")
    ax.set_ylabel(shown)
    _legend(ax, states, resting, looks, paint)
    return ax


def _meant(state: Any) -> str | None:
    return next((colour for words, colour in MEANINGS if re.search(words, str(state).lower())), None)


def _lanes(frame: pd.DataFrame, subject: str, group: str | None, most: int) -> tuple[dict[Any, int], str]:
    """Lane of every subject drawn, by group and length of follow-up, and the words that say how many."""
    keys = [subject] if group is None else [group, subject]
    ends = frame.groupby(keys, sort=False, observed=True)["stop"].max().reset_index()
    place = {g: k for k, g in enumerate(dict.fromkeys(frame[group]))} if group is not None else {}
    ends = ends.assign(place=ends[group].map(place).astype(int) if group is not None else 0)
    ends = ends.sort_values(["place", "stop"], ascending=[True, False], kind="stable")
    step = -(-len(ends) // most)
    kept = ends[subject].iloc[::step]
    said = f"{len(kept)} subjects" if step == 1 else f"{len(kept)} of {len(ends)} subjects"
    return {s: k for k, s in enumerate(kept)}, said


def _axis(
    ax: Any,
    frame: pd.DataFrame,
    group: str | None,
    lanes: dict[Any, int],
    subject: str,
    times: Sequence[float],
    xlabel: str,
) -> None:
    """Ticks; names of the groups beside their lanes, a line between groups."""
    ax.set_xticks(times)
    ax.set_xlabel(xlabel)
    ax.set_yticks([])
    ax.grid(visible=False, axis="y")
    if group is None:
        return
    of = frame.drop_duplicates(subject).set_index(subject)[group].to_dict()
    for name in dict.fromkeys(of[s] for s in lanes):
        rows = [y for s, y in lanes.items() if of[s] == name]
        ax.annotate(style.name(name), (1.0, (rows[0] + rows[-1]) / 2), xycoords=("axes fraction", "data"),
                    xytext=(6, 0), textcoords="offset points", va="center", fontsize=8.5)  # fmt: skip
        if rows[0] > 0:
            ax.axhline(rows[0] - 0.5, color=style.MUTED, lw=0.6)


def _legend(
    ax: Any, states: Sequence[Any], resting: set[Any], looks: dict[Any, style.Mark], paint: dict[Any, str]
) -> None:
    from matplotlib.lines import Line2D

    made = [
        Line2D([], [], color=paint[s], marker="s" if s in resting else looks[s].marker, ls="", ms=5, label=str(s))
        for s in states
    ]
    ax.legend(handles=made, loc="lower left", bbox_to_anchor=(0, 1.005), ncols=len(made), fontsize=8,
              handletextpad=0.3, columnspacing=1.1, borderaxespad=0)  # fmt: skip
