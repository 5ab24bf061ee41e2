"""KETIS: remission of suicidal ideation on day 3; denominators exchanged in print."""

from kapstats.evidence.gallery.entry import Entry, Line
from kapstats.safety.difference import odds_ratio


def compute() -> list[Line]:
    """Odds ratio from the counts that fit the printed percentages, and the printed denominators."""
    row = odds_ratio(46, 73, 25, 79, "woolf").frame.iloc[0]
    return [
        Line("odds ratio: estimate", "3.7", row["estimate"]),
        Line("odds ratio: lower limit", "1.9", row["conf_low"]),
        Line("odds ratio: upper limit", "7.3", row["conf_high"], kind="calibration"),
        Line("ketamine, % of 73", "63.0", 100 * 46 / 73),
        Line("placebo, % of 79", "31.6", 100 * 25 / 79),
        Line("ketamine, % of 83 as printed", "63.0", 100 * 46 / 83, kind="misprint"),
        Line("placebo, % of 73 as printed", "31.6", 100 * 25 / 73, kind="misprint"),
    ]


ENTRY = Entry(
    name="abbar-2022",
    id="G09",
    title="KETIS: full suicidal remission on day 3",
    source="Abbar et al., BMJ 2022, abstract",
    method="odds ratio with Woolf's 95% limits",
    compute=compute,
    note="The printed interval is from a logistic model. The abstract prints 46 (63.0%) of 83 and 25 (31.6%) of 73.",
)
