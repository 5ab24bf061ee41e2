"""Remission of suicidal ideation by day: ketamine against midazolam."""

import re
from typing import Any

import pandas as pd

from kapstats.evidence import table
from kapstats.evidence.checks.counts import p_values
from kapstats.evidence.gallery.entry import Entry, Line


def visits() -> pd.DataFrame:
    """One row per outcome and visit: events and n per arm, printed p."""
    rows = table("response_binary")
    rows = rows[rows["study"] == "su2023"]
    ketamine = rows[rows["arm"].str.contains("ketamine")].reset_index(drop=True)
    midazolam = rows[rows["arm"].str.contains("midazolam")].reset_index(drop=True)
    what = ketamine["outcome"].str.split(" ").str[0] + ", " + ketamine["visit"]
    p = ketamine["note"].str.removeprefix("P=")
    return pd.DataFrame({"what": what, "x1": ketamine["events"], "x2": midazolam["events"], "n": ketamine["n"], "p": p})


def compute() -> list[Line]:
    """Fisher's exact test per visit."""
    lines = []
    for row in visits().itertuples():
        n = int(row.n)
        lines.append(Line(str(row.what), str(row.p), p_values(int(row.x1), n, int(row.x2), n)["fisher"]))
    return lines


def draw(ax: Any, lines: list[Line]) -> None:
    """Percent in remission by day, from the counts."""
    data = visits().iloc[1:]
    days = [float(re.findall(r"day (\d+)", what)[0]) for what in data["what"]]
    for column, colour, label in (("x1", "#123c80", "ketamine IV"), ("x2", "#717171", "midazolam")):
        ax.plot(days, 100 * data[column] / data["n"], "o-", color=colour, label=label)
    for day, line, top in zip(days, lines[1:], 100 * data["x1"] / data["n"], strict=True):
        ax.annotate(f"P {line.published}", (day, top + 1.5), fontsize=7, ha="center")
    ax.set_xlabel("day")
    ax.set_ylabel("in remission, %")
    ax.set_ylim(0, 45)


ENTRY = Entry(
    name="su-2023",
    id="G08",
    title="Remission of suicidal ideation by day, 42 against 42",
    source="Su et al., Int J Neuropsychopharmacol 2023, table 1",
    method="Fisher's exact test",
    compute=compute,
    draw=draw,
)
