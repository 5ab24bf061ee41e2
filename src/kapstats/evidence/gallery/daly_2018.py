"""Dose response of intranasal esketamine: one-sided p values from the printed differences."""

from typing import Any

from scipy import special

from kapstats.evidence import table
from kapstats.evidence.gallery.draw import over
from kapstats.evidence.gallery.entry import Entry, Line

DF = 62


def compute() -> list[Line]:
    """t on 62 df; the range is what the rounding of difference and standard error allows."""
    rows = table("contrasts")
    lines = []
    for row in rows[rows["study"] == "daly2018"].to_dict("records"):
        estimate, se = float(row["estimate"]), float(row["se"])
        visit = row["visit"].removeprefix("period 1 ").removesuffix(" (period end)")
        label = f"{visit}, {row['contrast'].split(' ')[2]} mg"
        value, low, high = (
            float(special.stdtr(DF, (estimate + shift) / (se + error)))
            for shift, error in ((0, 0), (-0.05, -0.005), (0.05, 0.005))
        )
        lines.append(Line(f"{label}: P", str(row["p"]).removesuffix(" (one-sided)"), value, low, high))
    return lines


def draw(ax: Any, lines: list[Line]) -> None:
    """Difference to placebo by dose on day 8, with 95% limits from the printed standard errors."""
    rows = table("contrasts")
    rows = rows[(rows["study"] == "daly2018") & rows["visit"].str.contains("day 8")]
    reach = float(special.stdtrit(DF, 0.975))
    shown = []
    for row in rows.to_dict("records"):
        estimate, se = float(row["estimate"]), float(row["se"])
        for part, sign in (("estimate", 0), ("lower limit", -1), ("upper limit", 1)):
            value = estimate + sign * reach * se
            shown.append(Line(f"{row['contrast']}: {part}", f"{value:.2f}", value, kind="exact" if not sign else "own"))
    over(ax, shown, [28.0, 56.0, 84.0], "esketamine dose, mg", "MADRS, difference to placebo on day 8")
    ax.axhline(0, color="#717171", linewidth=0.8)


ENTRY = Entry(
    name="daly-2018",
    id="G10",
    title="Intranasal esketamine by dose: difference to placebo",
    source="Daly et al., JAMA Psychiatry 2018, table 2",
    method="one-sided t tests on 62 df from the printed differences and standard errors",
    compute=compute,
    draw=draw,
    note="The figure shows the printed differences of day 8 with 95% limits computed from the printed standard errors.",
)
