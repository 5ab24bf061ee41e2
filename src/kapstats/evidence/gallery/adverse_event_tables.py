"""Five adverse-event tables of intranasal esketamine: every printed percentage from its count."""

from typing import Any

from kapstats.evidence import table
from kapstats.evidence.gallery.draw import OURS
from kapstats.evidence.gallery.entry import Entry, Line

STUDIES = ("label_trd", "fedgchin2019", "daly2019", "ionescu2021", "canuso2021", "label_mdsi")


def compute() -> list[Line]:
    """100 events / n for every row that prints a percentage."""
    rows = table("adverse_events")
    rows = rows[rows["study"].isin(STUDIES) & rows["pct"].notna() & rows["events"].notna() & rows["n"].notna()]
    return [
        Line(f"{r['study']}, {r['term']}, {r['arm']}", _shortest(r["pct"]), 100 * r["events"] / r["n"])
        for r in rows.to_dict("records")
    ]


def _shortest(value: float) -> str:
    return f"{value:g}"


def draw(ax: Any, lines: list[Line]) -> None:
    """Dissociation per trial and arm, printed percentage."""
    chosen = [line for line in lines if ", dissociation" in line.what.lower()]
    for place, line in enumerate(chosen):
        ax.plot([line.reproduced], [place], "o", color=OURS)
        ax.plot([line.printed.value], [place], "o", color="#d1495b", markerfacecolor="none", markersize=9)
    ax.set_yticks(range(len(chosen)), [line.what.replace(", Dissociation", "") for line in chosen], fontsize=7)
    ax.set_xlabel("patients with dissociation, %")


ENTRY = Entry(
    name="adverse-event-tables",
    id="G13",
    title="Adverse-event tables of intranasal esketamine",
    source="US label (TRD); TRANSFORM-1; SUSTAIN-1; ASPIRE I and II",
    method="percentages from counts",
    compute=compute,
    draw=draw,
)
