"""Remission of suicidal ideation by day: ketamine against midazolam."""

import re
from typing import Any

import pandas as pd

from kapstats.evidence import table
from kapstats.evidence.checks.counts import p_values
from kapstats.evidence.gallery.draw import PRINTED
from kapstats.evidence.gallery.entry import Entry, Line


def visits() -> pd.DataFrame:
    """One row per outcome and visit: events and n per arm, printed p."""
    rows = table("response_binary")
    rows = rows[rows["study"] == "su2023"]
    ketamine = rows[rows["arm"].str.contains("ketamine")].reset_index(drop=True)
    midazolam = rows[rows["arm"].str.contains("midazolam")].reset_index(drop=True)
    what = ketamine["outcome"].str.split(" ").str[0] + ", " + ketamine["visit"]
    p = ketamine["note"].str.removeprefix("P=")
    printed = {"pct1": ketamine["pct"], "pct2": midazolam["pct"], "p": p}
    return pd.DataFrame(
        {"what": what, "x1": ketamine["events"], "x2": midazolam["events"], "n": ketamine["n"], **printed}
    )


def compute() -> list[Line]:
    """Fisher's exact test and percentages per visit."""
    lines = []
    for row in visits().to_dict("records"):
        x1, x2, n = (int(row[c]) for c in ("x1", "x2", "n"))
        lines.append(Line(f"{row['what']}: P", str(row["p"]), p_values(x1, n, x2, n)["fisher"]))
        lines.append(Line(f"{row['what']}: ketamine, %", f"{row['pct1']:.1f}", 100 * x1 / n))
        lines.append(Line(f"{row['what']}: midazolam, %", f"{row['pct2']:.1f}", 100 * x2 / n))
    return lines


def draw(ax: Any, lines: list[Line]) -> None:
    """Percent in remission by day, from the counts."""
    shown = lines[3:]  # the first three are of response
    days = [float(re.findall(r"day (\d+)", line.what)[0]) for line in shown[::3]]
    for k, colour, label in ((1, "#123c80", "ketamine IV"), (2, "#717171", "midazolam")):
        ax.plot(days, [line.reproduced for line in shown[k::3]], "o-", color=colour, markersize=4.5, label=label)
        ax.plot(days, [x.printed.value for x in shown[k::3]], "o", color=PRINTED, markerfacecolor="none", markersize=9)
    for day, p, top in zip(days, shown[::3], shown[1::3], strict=True):
        ax.annotate(f"P {p.published}", (day, top.reproduced + 2), fontsize=7, ha="center")
    ax.plot([], [], "o", color=PRINTED, markerfacecolor="none", markersize=9, label="published")
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
