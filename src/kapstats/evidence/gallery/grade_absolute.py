"""Absolute effects from an odds ratio and a control risk, as in summary-of-findings tables."""

from kapstats.evidence.gallery.entry import Entry, Line

CASES = {"ketamine against placebo": (3.94, 8.8, "27.4"), "ketamine against midazolam": (2.48, 25.9, "46.5")}


def risk(odds_ratio: float, control: float) -> float:
    """Percent under treatment: p1 = p0 OR / (1 - p0 + p0 OR)."""
    p = control / 100
    return 100 * p * odds_ratio / (1 - p + p * odds_ratio)


def compute() -> list[Line]:
    """With the room that the rounding of both inputs leaves."""
    lines = []
    for what, (ratio, control, published) in CASES.items():
        low, high = (risk(ratio + sign * 0.005, control + sign * 0.05) for sign in (-1, 1))
        lines.append(Line(f"{what}, response %", published, risk(ratio, control), low, high))
    return lines


ENTRY = Entry(
    name="grade-absolute",
    id="G22",
    title="Response at 24 hours: absolute effects from odds ratios",
    source="Dean et al., Cochrane Database Syst Rev 2021, summary of findings 1 and 2",
    method="risk from odds ratio and control risk",
    compute=compute,
)
