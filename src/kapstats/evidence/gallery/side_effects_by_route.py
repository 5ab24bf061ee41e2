"""Side effects of intranasal esketamine and of intravenous ketamine, each beside its own control."""

from typing import Any

import pandas as pd

from kapstats.evidence import table
from kapstats.evidence.gallery.draw import PRINTED
from kapstats.evidence.gallery.entry import Entry, Line

#: term: its name in the US label (intranasal) and in KetECT (intravenous)
TERMS = {
    "dissociation": ("Dissociation (grouped)", "Dissociative symptoms"),
    "vertigo": ("Vertigo (grouped)", "Vertigo"),
    "nausea": ("Nausea", "Nausea"),
    "headache": ("Headache (grouped)", "Headache"),
    "anxiety": ("Anxiety (grouped)", "Anxiety"),
    "euphoria": ("Euphoric mood", "Euphoria"),
    "vomiting": ("Vomiting", "Vomiting"),
}
#: study, word of the active arm, colour and marker of the route (those of the house style)
SOURCES = {
    "intranasal": ("label_trd", "esketamine", "#aa7c00", "P"),
    "intravenous": ("ekstrand2022", "ketamine", "#123c80", "s"),
}
CONTROL = {"intranasal": "placebo", "intravenous": "ECT"}


def rows() -> pd.DataFrame:
    """One row per term, route and arm: events, n and printed percentage."""
    data, found = table("adverse_events"), []
    for term, names in TERMS.items():
        for (route, (study, word, *_)), name in zip(SOURCES.items(), names, strict=True):
            part = data[data["study"].eq(study) & data["term"].eq(name)]
            for r in part.to_dict("records"):
                arm = route if word in str(r["arm"]) else CONTROL[route]
                found.append({"term": term, "route": route, "arm": arm, **{c: r[c] for c in ("events", "n", "pct")}})
    return pd.DataFrame(found)


def compute() -> list[Line]:
    """Percentages from counts."""
    return [
        Line(f"{r['term']}, {r['arm']} ({r['route']} trial)", f"{r['pct']:g}", 100 * r["events"] / r["n"])
        for r in rows().to_dict("records")
    ]


def draw(ax: Any, lines: list[Line]) -> None:
    """A dot per arm: active filled in the colour of its route, control hollow; printed as a ring."""
    names, data = list(TERMS), rows()
    for (_, r), line in zip(data.iterrows(), lines, strict=True):
        *_, colour, marker = SOURCES[r["route"]]
        y = names.index(r["term"]) + (-0.15 if r["route"] == "intranasal" else 0.15)
        active = r["arm"] == r["route"]
        ax.plot([line.printed.value], [y], "o", color=PRINTED, markerfacecolor="none", markersize=10)
        ax.plot(
            [line.reproduced], [y], marker, color=colour, markerfacecolor=colour if active else "white", markersize=5
        )
    for route, (*_, colour, marker) in SOURCES.items():
        ax.plot([], [], marker, color=colour, label=f"{route} (hollow: {CONTROL[route]} in that trial)")
    ax.plot([], [], "o", color=PRINTED, markerfacecolor="none", markersize=9, label="published")
    ax.set_yticks(range(len(names)), names, fontsize=9)
    ax.invert_yaxis()
    ax.set_xlabel("patients with the event, %")
    ax.grid(axis="x", color="#e1e4e8", linewidth=0.6)


ENTRY = Entry(
    name="side-effects-by-route",
    id="G13R",
    title="Side effects by route, each trial with its own control",
    source="US label (TRD), four blinded weeks; KetECT, a course of infusions",
    method="percentages from counts",
    compute=compute,
    draw=draw,
    note="Not a comparison of routes: the trials differ in drug, dose, duration, control and in how events were asked "
    "for. No randomised comparison of psychiatric-dose routes was found in print.",
)
