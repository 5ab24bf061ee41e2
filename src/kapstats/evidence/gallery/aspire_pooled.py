"""ASPIRE I and II: two trials with the same standard error, pooled."""

from scipy import special

from kapstats.evidence.gallery.entry import Entry, Line
from kapstats.evidence.meta_analysis import meta_analysis

TRIALS = {"study": ["ASPIRE I", "ASPIRE II"], "estimate": [-3.8, -3.9], "std_error": [1.39, 1.39]}


def two_sided(estimate: float, se: float) -> float:
    """Normal p value."""
    return float(2 * special.ndtr(-estimate / se))


def compute() -> list[Line]:
    """Printed p values from estimate and standard error, limits for size, and the common-effect pool."""
    lines = []
    printed = {"ASPIRE I": (".006", "-6.56", "-1.09"), "ASPIRE II": (".006", "-6.60", "-1.11")}
    for name, estimate, se in zip(*TRIALS.values(), strict=True):
        p, low, high = (two_sided(abs(estimate) + a, se + b) for a, b in ((0, 0), (0.05, -0.005), (-0.05, 0.005)))
        published = printed[str(name)]
        lines.append(Line(f"{name}: P", published[0], p, low, high))
        room = 0.05 + 1.97 * 0.005
        for part, text, sign in (("lower limit", published[1], -1), ("upper limit", published[2], 1)):
            value = estimate + sign * 1.97 * se
            lines.append(Line(f"{name}: {part}", text, value, value - room, value + room))
    pooled = meta_analysis(TRIALS, "MD", model="common", ci="normal").frame.iloc[0]
    lines.append(Line("pooled: estimate", "-3.85", float(pooled["estimate"]), kind="calibration"))
    return lines


ENTRY = Entry(
    name="aspire-pooled",
    id="G20",
    title="ASPIRE I and II: esketamine minus placebo at 24 hours, pooled",
    source="Fu et al. 2020; Ionescu et al. 2021",
    method="t limits of each trial; common-effect pool (no published pooled value was seen)",
    compute=compute,
)
