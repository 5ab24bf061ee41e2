"""The house style: one colour and one marker per route in every figure, placebo grey.

The colours were chosen so that every pair differs by at least 19 units of CIE76 distance for normal, protanopic,
deuteranopic and tritanopic sight (simulated after Machado et al. 2009, doi 10.1109/TVCG.2009.113), at a contrast of at
least 3:1 on white; a second set does the same on a dark page. Markers repeat what the colour says.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

INK, MUTED, GRID, PAPER = "#1f2328", "#5c636d", "#e1e4e8", "#ffffff"


@dataclass(frozen=True, slots=True)
class Mark:
    """How one group looks: colour on white, colour on a dark page, marker, dashes."""

    colour: str
    dark: str
    marker: str
    dashes: str = "-"


#: CDISC route term -> mark, and the words in an arm label that mean it
ROUTES: dict[str, tuple[Mark, str]] = {
    "PLACEBO": (Mark("#717171", "#a0a0a0", "o"), r"placebo|saline|sham|control|midazolam|inactive"),
    "INTRAVENOUS": (Mark("#123c80", "#4f7df0", "s"), r"\biv\b|intravenous|infusion"),
    "INTRAMUSCULAR": (Mark("#a32c0c", "#cf5a22", "D"), r"\bim\b|intramuscular"),
    "SUBLINGUAL": (Mark("#d048b4", "#b565c0", "v"), r"\bsl\b|sublingual"),
    "NASAL": (Mark("#aa7c00", "#f2be4a", "P"), r"nasal|\bspray"),
    "ORAL": (Mark("#1fa066", "#5befaa", "^"), r"\boral\b|\bpo\b"),
    "SUBCUTANEOUS": (Mark("#4b2e83", "#9f8be8", "X"), r"\bsc\b|subcutaneous"),
    "BUCCAL": (Mark("#006d75", "#48c9d6", "<"), r"buccal"),
    "RECTAL": (Mark("#6b4f3a", "#c9a98c", ">"), r"rectal"),
}
#: for arms that name no route, in order
OTHERS = ("INTRAVENOUS", "INTRAMUSCULAR", "ORAL", "SUBLINGUAL", "NASAL", "SUBCUTANEOUS", "BUCCAL", "RECTAL")
SPARE_MARKERS = ("o", "s", "D", "^", "v", "P", "X")

RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "text.parse_math": False,  # a dollar sign in a label is a dollar sign
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.0,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "kapstats",
}


def house(draw: Callable[P, R]) -> Callable[P, R]:
    """`draw(..., ax=None)` with the house style switched on while it runs; a figure of its own gets room for all."""

    @functools.wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> R:
        import matplotlib

        own = kwargs.get("ax") is None
        if own:
            from matplotlib import pyplot

            pyplot.draw_if_interactive()  # loads the backend here: it sets rcParams that must outlive the context
        with matplotlib.rc_context(RC):
            ax = draw(*args, **kwargs)
            if own:
                make_room(ax.figure)  # type: ignore[attr-defined]
            return ax

    return styled


def make_room(figure: Any, pad: float = 0.08) -> None:
    """Enlarge `figure` so that a plain ``savefig`` shows all that is drawn, tables below the axes and labels beside
    them included; the axes keep their size.

    pad : inches around everything
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = figure.canvas if hasattr(figure.canvas, "get_renderer") else FigureCanvasAgg(figure)
    box = figure.get_tightbbox(canvas.get_renderer())  # inches
    width, height = figure.get_size_inches()
    x0, y0 = min(box.x0 - pad, 0.0), min(box.y0 - pad, 0.0)
    x1, y1 = max(box.x1 + pad, width), max(box.y1 + pad, height)
    places = [(ax, ax.get_position(original=True)) for ax in figure.axes if ax.get_axes_locator() is None]
    figure.set_size_inches(x1 - x0, y1 - y0)
    for ax, place in places:
        left, bottom = place.x0 * width - x0, place.y0 * height - y0
        ax.set_position(
            [left / (x1 - x0), bottom / (y1 - y0), place.width * width / (x1 - x0), place.height * height / (y1 - y0)]
        )


def route(label: object) -> str | None:
    """The CDISC route term that an arm or route label names, or None.

    Examples
    --------
    >>> route("KAP IV 0.5 mg/kg"), route("INTRAMUSCULAR"), route("Placebo (oral)"), route("Xanomeline High Dose")
    ('INTRAVENOUS', 'INTRAMUSCULAR', 'PLACEBO', None)
    """
    text = str(label).lower()
    return next((term for term, (_, words) in ROUTES.items() if re.search(words, text)), None)


def name(label: object) -> str:
    """A label for eyes: CDISC route terms without the capitals.

    Examples
    --------
    >>> name("INTRAVENOUS"), name("KAP IV")
    ('Intravenous', 'KAP IV')
    """
    text = str(label)
    return text.capitalize() if text in ROUTES else text


def marks(labels: Iterable[object]) -> dict[Any, Mark]:
    """The mark of every label: by route where it names one, else from the spare colours in order.

    Examples
    --------
    >>> [mark.colour for mark in marks(["Placebo", "KAP IV", "Drug A"]).values()]
    ['#717171', '#123c80', '#a32c0c']
    """
    labels = list(dict.fromkeys(labels))
    named = {label: route(label) for label in labels}
    spare = [term for term in OTHERS if term not in named.values()] or list(OTHERS)
    made: dict[Any, Mark] = {}
    for label in labels:
        term = named[label] or spare.pop(0)
        spare = spare or list(OTHERS)
        made[label] = _distinct(ROUTES[term][0], made)
    return made


def _distinct(mark: Mark, taken: dict[Any, Mark]) -> Mark:
    """`mark`; with another marker and dashes when a second arm has the same colour."""
    same = [m.marker for m in taken.values() if m.colour == mark.colour]
    if not same:
        return mark
    free = [m for m in SPARE_MARKERS if m not in same and m != mark.marker] or list(SPARE_MARKERS)
    return Mark(mark.colour, mark.dark, free[0], "--" if len(same) == 1 else ":")


def axes(ax: Any, width: float, height: float) -> Any:
    """`ax`, or the axes of a new pyplot figure (which notebooks show) of this size in inches."""
    if ax is not None:
        return ax
    from matplotlib import pyplot

    return pyplot.subplots(figsize=(width, height), facecolor=PAPER)[1]


def blank(width: float, height: float) -> Any:
    """Axes of a new figure that pyplot does not know: nothing to close, no window, no global state."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(RC):
        return Figure(figsize=(width, height)).add_subplot()


def side_by_side(ax: Any, widths: Sequence[float], gap: float = 0.06) -> list[Any]:
    """`ax` divided into columns with relative `widths` that share its vertical axis."""
    ax.set_axis_off()
    unit = (1 - gap * (len(widths) - 1)) / sum(widths)
    made: list[Any] = []
    left = 0.0
    for width in widths:
        made.append(ax.inset_axes([left, 0, width * unit, 1], sharey=made[0] if made else None))
        left += width * unit + gap
    return made


def spread(positions: Sequence[float], gap: float) -> list[float]:
    """Positions moved as little as possible so that neighbours are at least `gap` apart, order kept.

    Examples
    --------
    >>> spread([0.0, 0.1, 5.0], gap=1.0)
    [-0.45, 0.55, 5.0]
    """
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    blocks: list[list[float]] = []  # [sum of targets, members]; a block starts at mean - (members - 1) gap / 2
    for rank in order:
        blocks.append([positions[rank], 1.0])
        while len(blocks) > 1 and _top(blocks[-2], gap) + gap > _bottom(blocks[-1], gap):
            total, count = blocks.pop()
            blocks[-1] = [blocks[-1][0] + total, blocks[-1][1] + count]
    placed = [_bottom(block, gap) + gap * k for block in blocks for k in range(int(block[1]))]
    moved = dict(zip(order, placed, strict=True))
    return [round(moved[i], 12) for i in range(len(positions))]


def _bottom(block: list[float], gap: float) -> float:
    return block[0] / block[1] - gap * (block[1] - 1) / 2


def _top(block: list[float], gap: float) -> float:
    return block[0] / block[1] + gap * (block[1] - 1) / 2


def end_labels(ax: Any, ends: dict[Any, tuple[float, float]], looks: dict[Any, Mark], *, points: float = 11.0) -> None:
    """Names of the groups to the right of the plot, beside the ends (x, y) of their lines, without overlap."""
    from matplotlib.transforms import ScaledTranslation

    low, high = ax.get_ylim()
    height = ax.get_window_extent().height / ax.figure.dpi * 72
    wanted = [y for _, y in ends.values()]
    placed = spread(wanted, abs(high - low) * points / height)
    lift = max(0.0, min(low, high) - min(placed))  # labels that would hang below the axis move up together
    placed = [y + lift for y in placed]
    right = ax.get_xlim()[1]
    out = ax.transData + ScaledTranslation(10 / 72, 0, ax.figure.dpi_scale_trans)
    for (group, (x, y)), at in zip(ends.items(), placed, strict=True):
        look = looks[group]
        ax.plot([x, right], [y, at], color=look.colour, lw=0.6, ls=":", clip_on=False, zorder=1)
        ax.plot([right], [at], color=look.colour, marker=look.marker, ms=4.5, ls="", clip_on=False, transform=out)
        ax.annotate(
            name(group), (right, at), (17, 0), textcoords="offset points", va="center", fontsize=8.5,
            annotation_clip=False,
        )  # fmt: skip


def rows_below(
    ax: Any,
    xs: Sequence[float],
    rows: Mapping[Any, Sequence[object]],
    looks: dict[Any, Mark],
    *,
    title: str,
    start: float,
) -> None:
    """Numbers under the horizontal axis, one row a group, `start` points below the axis."""
    from matplotlib.transforms import ScaledTranslation, blended_transform_factory

    def down(points: float) -> Any:
        shift = ScaledTranslation(0, -points / 72, ax.figure.dpi_scale_trans)
        return blended_transform_factory(ax.transData, ax.transAxes) + shift

    small = {"fontsize": 8, "va": "center", "clip_on": False}
    left = ax.transAxes + ScaledTranslation(-24 / 72, -start / 72, ax.figure.dpi_scale_trans)
    ax.text(0, 0, title, transform=left, ha="right", color=MUTED, **small)
    for k, (group, values) in enumerate(rows.items(), start=1):
        y = start + 11.5 * k
        at = ax.transAxes + ScaledTranslation(-24 / 72, -y / 72, ax.figure.dpi_scale_trans)
        dot = ax.transAxes + ScaledTranslation(-17 / 72, -y / 72, ax.figure.dpi_scale_trans)
        ax.text(0, 0, name(group), transform=at, ha="right", **small)
        ax.plot([0], [0], transform=dot, color=looks[group].colour, marker=looks[group].marker, ms=3.5, clip_on=False)
        for x, value in zip(xs, values, strict=True):
            ax.text(x, 0, str(value), transform=down(y), ha="center", **small)


def truth_key(ax: Any) -> None:
    """Says, over the left end of the axes, what the crosses are."""
    ax.plot([0.01], [1.03], marker="x", mew=1.3, ms=5.5, ls="", color=INK, transform=ax.transAxes, clip_on=False)
    ax.annotate("true value", (0.03, 1.03), xycoords="axes fraction", va="center", fontsize=8, color=MUTED)


def legend_above(ax: Any, looks: dict[Any, Mark], *, truth: bool = False) -> None:
    """A legend over the axes, in as few lines as fit, for figures whose groups cannot be labelled directly."""
    from matplotlib.lines import Line2D

    made = [Line2D([], [], color=m.colour, marker=m.marker, ls="", ms=5, label=name(g)) for g, m in looks.items()]
    made += [Line2D([], [], color=INK, marker="x", mew=1.3, ls="", ms=5.5, label="true value")] * truth
    each = 0.28 + 0.068 * max((len(str(line.get_label())) for line in made), default=1)  # inches at this font size
    columns = max(1, min(len(made), int(0.95 * ax.figure.get_figwidth() / each)))
    ax.legend(
        handles=made, loc="lower left", bbox_to_anchor=(0, 1.005), ncols=columns, fontsize=8,
        handletextpad=0.3, columnspacing=1.1, borderaxespad=0,
    )  # fmt: skip


def to_svg(ax: Any, *, title: str, description: str) -> str:
    """The figure of `ax` as SVG text with a title and a description for those who cannot see it.

    The same figure gives the same bytes: fixed identifiers, no date. Text stays text.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    figure, buffer = ax.figure, io.StringIO()
    with matplotlib.rc_context(RC):
        FigureCanvasSVG(figure)
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", bbox_inches="tight", pad_inches=0.06, metadata=nothing)
    return _named(buffer.getvalue(), title, description)


def _named(svg: str, title: str, description: str) -> str:
    """`svg` without prolog and metadata, with title and desc as its first children."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", body, flags=re.S)
    body = re.sub(r"<!--.*?-->\s*", "", body, flags=re.S)
    open_tag, rest = body.split(">", 1)
    words = f"<title>{escape(title)}</title>\n <desc>{escape(description)}</desc>"
    return f'{open_tag} role="img">\n {words}{rest}'
