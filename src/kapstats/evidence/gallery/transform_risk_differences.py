"""TRANSFORM-1 and -2: risk differences of response and of severe side effects (Katz 2021)."""

from dataclasses import replace

from kapstats.evidence.gallery.draw import forest
from kapstats.evidence.gallery.entry import Entry, Line, interval
from kapstats.safety.difference import risk_difference
from kapstats.table import round_half_away

CASES = {
    "response, TRANSFORM-1, 56 mg": ((60, 111, 42, 108), ("15.2", "2.11", "28.22")),
    "response, TRANSFORM-1, 84 mg": ((52, 98, 42, 108), ("14.2", "0.68", "27.67")),
    "response, TRANSFORM-2": ((70, 101, 52, 100), ("17.3", "4.01", "30.60")),
    "serious or severe side effect": ((41, 343, 8, 222), ("8.4", "4.13", "12.57")),
    "the same, resolved on the day": ((35, 343, 3, 222), ("8.9", "5.31", "12.40")),
}


def compute() -> list[Line]:
    """Wald differences in percentage points; the difference itself may be that of the rounded percentages."""
    lines = []
    for what, (counts, published) in CASES.items():
        row = risk_difference(*counts, "wald").frame.iloc[0]
        values = (100 * row["estimate"], 100 * row["conf_low"], 100 * row["conf_high"])
        x1, n1, x2, n2 = counts
        rounded = round_half_away(100 * x1 / n1, 1) - round_half_away(100 * x2 / n2, 1)
        first, *limits = interval(what, published, values)
        lines += [replace(first, low=min(values[0], rounded), high=max(values[0], rounded)), *limits]
    return lines


ENTRY = Entry(
    name="transform-risk-differences",
    id="G03",
    title="TRANSFORM-1 and -2: esketamine minus placebo, percentage points",
    source="Katz et al., Clin Pharmacol Ther 2021, tables 1 and 2",
    method="Wald 95% limits of the risk difference",
    compute=compute,
    draw=forest,
    note="Counts follow from the printed percentages and the observed-case denominators.",
)
