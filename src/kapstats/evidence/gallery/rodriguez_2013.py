"""Ketamine in obsessive-compulsive disorder, first period of a crossover."""

from kapstats.evidence.gallery.entry import Entry, Line


def compute() -> list[Line]:
    """Percentages from counts."""
    return [Line("ketamine, %", "50", 100 * 4 / 8), Line("saline, %", "0", 100 * 0 / 7)]


ENTRY = Entry(
    name="rodriguez-2013",
    id="G18",
    title="Response in obsessive-compulsive disorder, first period",
    source="Rodriguez et al., Neuropsychopharmacology 2013, abstract",
    method="percentages from counts (Fisher's exact P is .077: caution with 8 against 7)",
    compute=compute,
)
