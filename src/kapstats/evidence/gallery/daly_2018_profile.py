"""LS means of esketamine by dose over the first week: printed means against placebo's mean and the difference."""

from typing import Any

import pandas as pd

from kapstats.evidence import table
from kapstats.evidence.gallery.draw import PRINTED
from kapstats.evidence.gallery.entry import Entry, Line

VISITS = {
    "period 1 2 h": ("2 h", 2 / 24),
    "period 1 24 h": ("24 h", 1.0),
    "period 1 day 8 (period end)": ("day 8", 8.0),
}
DOSES = {"28 mg": "#7fa6d9", "56 mg": "#3f6fb5", "84 mg": "#123c80"}


def printed(name: str, label: str) -> pd.DataFrame:
    """Rows of the trial by visit and arm."""
    rows = table(name)
    return rows[rows["study"].eq("daly2018") & rows["visit"].isin(list(VISITS))].set_index(["visit", label])


def compute() -> list[Line]:
    """Placebo's LS mean plus the difference; both are rounded to one decimal."""
    means, differences = printed("response_continuous", "arm")["mean"], printed("contrasts", "contrast")["estimate"]
    lines = []
    for visit, (name, _) in VISITS.items():
        placebo = float(means[visit, "placebo"])
        for dose in DOSES:
            value = placebo + float(differences[visit, f"esketamine IN {dose} - placebo"])
            published = f"{float(means[visit, f'esketamine IN {dose}']):.1f}"
            lines.append(Line(f"{dose}, {name}", published, value, value - 0.1, value + 0.1))
    return lines


def draw(ax: Any, lines: list[Line]) -> None:
    """The profile: own means joined, printed ones as open marks; placebo as printed."""
    days = [day for _, day in VISITS.values()]
    means = printed("response_continuous", "arm")["mean"]
    ax.plot([0, *days], [0, *(float(means[v, "placebo"]) for v in VISITS)], "s-", color="#717171", label="placebo")
    for dose, colour in DOSES.items():
        mine = [line for line in lines if line.what.startswith(dose)]
        ax.plot([0, *days], [0, *(line.reproduced for line in mine)], "o-", color=colour, markersize=4.5, label=dose)
        values = [line.printed.value for line in mine]
        ax.plot(days, values, "o", color=PRINTED, markerfacecolor="none", markersize=9)
    ax.plot([], [], "o", color=PRINTED, markerfacecolor="none", markersize=9, label="published")
    ax.set_xlabel("day")
    ax.set_ylabel("MADRS, LS mean change")
    ax.grid(axis="y", color="#e1e4e8", linewidth=0.6)


ENTRY = Entry(
    name="daly-2018-profile",
    id="G10P",
    title="Intranasal esketamine by dose: LS mean change over the first period",
    source="Daly et al., JAMA Psychiatry 2018, table 2",
    method="placebo's LS mean plus the printed difference",
    compute=compute,
    draw=draw,
    note="Means and differences are each printed to one decimal, so that they may be 0.1 apart.",
)
