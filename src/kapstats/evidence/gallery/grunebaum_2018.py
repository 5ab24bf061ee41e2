"""Response of suicidal ideation on day 1: ketamine against midazolam."""

from kapstats.evidence.gallery.entry import Entry, Line, interval
from kapstats.safety.difference import odds_ratio


def compute() -> list[Line]:
    """Woolf's interval, and the number needed to treat."""
    row = odds_ratio(22, 40, 12, 40, "woolf").frame.iloc[0]
    lines = interval("odds ratio", ("2.85", "1.14", "7.15"), (row["estimate"], row["conf_low"], row["conf_high"]))
    return [*lines, Line("number needed to treat", "4.0", 1 / (22 / 40 - 12 / 40))]


ENTRY = Entry(
    name="grunebaum-2018",
    id="G04",
    title="Response of suicidal ideation, ketamine against midazolam",
    source="Grunebaum et al., Am J Psychiatry 2018, abstract",
    method="odds ratio with Woolf's 95% limits",
    compute=compute,
    note="Counts from the printed 55% and 30% of 40 each.",
)
