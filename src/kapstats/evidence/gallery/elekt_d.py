"""ELEKT-D: response to ketamine against electroconvulsive therapy."""

from kapstats.evidence.gallery.entry import Entry, Line, interval
from kapstats.safety.difference import risk_difference


def compute() -> list[Line]:
    """The interval by the simplest method that prints it, and the percentages."""
    row = risk_difference(108, 195, 70, 170, "agresti-caffo").frame.iloc[0]
    lines = interval(
        "difference", ("14.2", "3.9", "24.2"), tuple(100 * row[c] for c in ("estimate", "conf_low", "conf_high"))
    )
    return [*lines, Line("ketamine, %", "55.4", 100 * 108 / 195), Line("ECT, %", "41.2", 100 * 70 / 170)]


ENTRY = Entry(
    name="elekt-d",
    id="G05",
    title="ELEKT-D: response, ketamine minus ECT, percentage points",
    source="Anand et al., N Engl J Med 2023, abstract",
    method="Agresti-Caffo limits of the risk difference (score limits print the same; Wald and Newcombe limits do not)",
    compute=compute,
    note="Counts follow from 55.4% of 195 and 41.2% of 170.",
)
