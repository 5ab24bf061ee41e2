"""Three doses of esketamine against placebo with Dunnett's simultaneous limits (a trial without an effect)."""

from typing import Any

import numpy as np

from kapstats.evidence import table
from kapstats.evidence.gallery.draw import over
from kapstats.evidence.gallery.entry import Entry, Line
from kapstats.kernels.multivariate_t import mvt_critical

SIZES, PLACEBO, DF = np.array([39.0, 34.0, 39.0]), 72.0, 180.0


def multiplier() -> float:
    """Dunnett's two-sided 90% quantile for these group sizes."""
    share = np.sqrt(SIZES / (SIZES + PLACEBO))
    correlation = np.outer(share, share)
    np.fill_diagonal(correlation, 1.0)
    return mvt_critical(correlation, DF, 0.90)


def compute() -> list[Line]:
    """Limits from the printed differences and standard errors, with the room that their rounding leaves."""
    rows, c = table("contrasts"), multiplier()
    lines = []
    for row in rows[rows["study"] == "takahashi2021"].to_dict("records"):
        estimate, se = float(row["estimate"]), float(row["se"])
        dose = row["contrast"].split(" ")[2] + " mg"
        lines.append(Line(f"{dose}: estimate", f"{estimate:.1f}", estimate))
        for part, sign, column in (("lower limit", -1, "ci_lo"), ("upper limit", 1, "ci_hi")):
            value, room = estimate + sign * c * se, 0.05 + 0.005 * c
            lines.append(Line(f"{dose}: {part}", f"{float(row[column]):.2f}", value, value - room, value + room))
    return lines


def draw(ax: Any, lines: list[Line]) -> None:
    """Differences by dose."""
    over(ax, lines, [28.0, 56.0, 84.0], "esketamine dose, mg", "MADRS, difference to placebo on day 28")
    ax.axhline(0, color="#717171", linewidth=0.8)


ENTRY = Entry(
    name="takahashi-2021",
    id="G11",
    title="Esketamine by dose, day 28, Dunnett-adjusted 90% limits",
    source="Takahashi et al., BMC Psychiatry 2021, table 3",
    method="multivariate t with the correlations of unequal groups, 180 df",
    compute=compute,
    draw=draw,
)
