"""ESCAPE-TRD: remission at week 8, and remission without relapse until week 32."""

from kapstats.evidence.gallery.entry import Entry, Line


def compute() -> list[Line]:
    """Percentages from counts."""
    return [
        Line("remission, esketamine, %", "27.1", 100 * 91 / 336),
        Line("remission, quetiapine, %", "17.6", 100 * 60 / 340),
        Line("remission without relapse, esketamine, %", "21.7", 100 * 73 / 336),
        Line("remission without relapse, quetiapine, %", "14.1", 100 * 48 / 340),
    ]


ENTRY = Entry(
    name="escape-trd",
    id="G14",
    title="ESCAPE-TRD: esketamine against quetiapine",
    source="Reif et al., N Engl J Med 2023, summaries of the abstract",
    method="percentages from counts",
    compute=compute,
)
