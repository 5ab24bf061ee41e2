"""KetECT: side effects of intravenous ketamine and of ECT, with the printed tests."""

from typing import Any

import pandas as pd

from kapstats.evidence import table
from kapstats.evidence.checks.counts import p_values
from kapstats.evidence.gallery.draw import OURS, PRINTED
from kapstats.evidence.gallery.entry import Entry, Line

MISPRINTS = ("tachycardia", "laryngo")
NAMES = {"ect": "ECT", "ketamine": "IV ketamine"}


def terms() -> pd.DataFrame:
    """One row per term: events and n of ECT and ketamine, the printed p value."""
    rows = table("adverse_events")
    rows = rows[rows["study"] == "ekstrand2022"].assign(
        p=lambda f: f["note"].str.extract(r"P=([^;]+)", expand=False).str.strip(),
        group=lambda f: f["arm"].str.contains("ket", case=False).map({True: "ketamine", False: "ect"}),
    )
    wide = rows.pivot(index="term", columns="group", values=["events", "n", "pct"])
    wide.columns = [f"{a}_{b}" for a, b in wide.columns]
    return wide.assign(p=rows.drop_duplicates("term").set_index("term")["p"]).astype(dict.fromkeys(wide.columns, float))


def compute() -> list[Line]:
    """Fisher's exact test per term; chi-square for serious events."""
    lines = []
    for term, row in terms().iterrows():
        tests = p_values(*(int(row[c]) for c in ("events_ect", "n_ect", "events_ketamine", "n_ketamine")))
        test = "chi-square" if "serious" in str(term).lower() else "fisher"
        published = ">0.05" if row["p"] == "n.s." else str(row["p"])
        kind = "misprint" if str(term).lower().startswith(MISPRINTS) else "exact"
        lines.append(Line(f"{term}: P", published, tests[test], kind=kind))
        for group, name in NAMES.items():
            share = 100 * row[f"events_{group}"] / row[f"n_{group}"]
            lines.append(Line(f"{term}: {name}, %", f"{row[f'pct_{group}']:.1f}", share))
    return lines


def draw(ax: Any, lines: list[Line]) -> None:
    """Percent with the term under either treatment."""
    data = terms()
    data = data.assign(gap=data["events_ketamine"] / data["n_ketamine"] - data["events_ect"] / data["n_ect"])
    data = data.sort_values("gap")
    places = range(len(data))
    for group, colour in (("ect", "#717171"), ("ketamine", OURS)):
        percent = 100 * data[f"events_{group}"] / data[f"n_{group}"]
        ax.plot(data[f"pct_{group}"], places, "o", color=PRINTED, markerfacecolor="none", markersize=8)
        ax.plot(percent, places, "o", color=colour, markersize=4, label=NAMES[group])
    ax.plot([], [], "o", color=PRINTED, markerfacecolor="none", markersize=8, label="published")
    ax.set_yticks(places, data.index, fontsize=6.5)
    ax.set_xlabel("patients with the event, %")
    ax.grid(axis="x", color="#e1e4e8", linewidth=0.6)


ENTRY = Entry(
    name="ketect-adverse-events",
    id="G07",
    title="KetECT: side effects of ECT and of IV ketamine, printed P values",
    source="Ekstrand et al., Int J Neuropsychopharmacol 2022, adverse-event table",
    method="Fisher's exact test; chi-square for serious adverse events",
    compute=compute,
    draw=draw,
    height=7.5,
    note="The P of .029 printed for tachycardia or bradycardia (6 against 0: .014) is that of laryngo- or bronchospasm "
    "(5 against 0), which is printed as n.s.",
)
