"""KetECT: remission after ECT against ketamine."""

from kapstats.evidence.checks.counts import p_values
from kapstats.evidence.gallery.entry import Entry, Line
from kapstats.safety.difference import risk_difference


def compute() -> list[Line]:
    """Uncorrected chi-square, and whole-percent limits by four methods."""
    lines = [
        Line("ECT, %", "63", 100 * 57 / 91),
        Line("ketamine, %", "46", 100 * 44 / 95),
        Line("P", ".026", p_values(57, 91, 44, 95)["chi-square"]),
    ]
    for method in ("wald", "newcombe", "agresti-caffo", "miettinen-nurminen"):
        row = risk_difference(57, 91, 44, 95, method).frame.iloc[0]
        lines.append(Line(f"difference, {method}: lower limit", "2", 100 * row["conf_low"]))
        lines.append(Line(f"difference, {method}: upper limit", "30", 100 * row["conf_high"]))
    return lines


ENTRY = Entry(
    name="ketect-remission",
    id="G06",
    title="KetECT: remission, ECT minus ketamine",
    source="Ekstrand et al., Int J Neuropsychopharmacol 2022, abstract",
    method="chi-square without correction; limits by four methods",
    compute=compute,
    note="Limits in whole percents do not tell the method.",
)
