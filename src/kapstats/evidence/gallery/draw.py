"""Printed against reproduced numbers, drawn: open marks are what was printed, filled ones ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kapstats.evidence.gallery.entry import Line, Reproduction

OURS, PRINTED = "#123c80", "#d1495b"


def plot(reproduction: Reproduction, ax: Any = None) -> Any:
    """The entry's own figure, or its numbers in a row each; the figure is returned."""
    lines = list(reproduction.lines)
    figure, axes = (ax.figure, ax) if ax is not None else new(height=_height(reproduction))
    (reproduction.entry.draw or forest)(axes, lines)
    axes.set_title(reproduction.entry.title, loc="left", fontsize=10)
    key(axes)
    return figure


def _height(reproduction: Reproduction) -> float:
    rows = len(grouped(list(reproduction.lines)))
    draw = reproduction.entry.draw
    return 1.2 + 0.34 * min(rows, 40) if draw is None or draw is forest else reproduction.entry.height


def new(width: float = 7.0, height: float = 3.5) -> tuple[Any, Any]:
    """A figure that belongs to no window."""
    from matplotlib import pyplot
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    pyplot.draw_if_interactive()  # loads the backend, without which a notebook prints the name of a figure
    figure = Figure(figsize=(width, max(2.2, height)), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def grouped(lines: list[Line]) -> dict[str, dict[str, Line]]:
    """Lines by the part before the colon."""
    found: dict[str, dict[str, Line]] = {}
    for line in lines:
        head, _, part = line.what.partition(": ")
        found.setdefault(head, {})[part or "estimate"] = line
    return found


def forest(ax: Any, lines: list[Line]) -> None:
    """One row per quantity: interval where there is one, printed above ours."""
    groups = grouped(lines)
    for place, parts in enumerate(groups.values()):
        bars(ax, parts, place)
    ax.set_yticks(range(len(groups)), list(groups), fontsize=8)
    ax.invert_yaxis()
    ax.grid(axis="x", color="#e1e4e8", linewidth=0.6)
    ax.set_axisbelow(True)


def bars(ax: Any, parts: dict[str, Line], place: float, *, vertical: bool = False, apart: float = 0.12) -> None:
    """Printed and own number (with limits) of one quantity at `place`, `apart` to either side."""
    for shift, colour, printed in ((-apart, PRINTED, True), (apart, OURS, False)):
        shown = {k: line for k, line in parts.items() if k != "P" and not (printed and line.kind == "own")}
        values = {k: (line.printed.value if printed else line.reproduced) for k, line in shown.items()}
        if {"lower limit", "upper limit"} <= set(values):
            ends = [values["lower limit"], values["upper limit"]]
            both = [place + shift] * 2
            ax.plot(*((both, ends) if vertical else (ends, both)), color=colour, linewidth=1.4)
        for value in [v for k, v in values.items() if "limit" not in k]:
            at, fill = place + shift, "white" if printed else colour
            x, y = (at, value) if vertical else (value, at)
            ax.plot([x], [y], "o", color=colour, markerfacecolor=fill, markersize=5.5)


def key(ax: Any) -> None:
    """What open and filled marks mean, where the figure does not say so itself."""
    if not ax.get_legend_handles_labels()[1]:
        _marks(ax)
    ax.legend(fontsize=7, frameon=False, loc="best")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def _marks(ax: Any) -> None:
    ax.plot([], [], "o", color=PRINTED, markerfacecolor="white", label="published")
    ax.plot([], [], "o", color=OURS, label="reproduced")


def over(ax: Any, lines: list[Line], positions: list[float], xlabel: str, ylabel: str) -> None:
    """Quantities along an axis that means something (day, dose), printed and own numbers beside each other."""
    for place, parts in zip(positions, grouped(lines).values(), strict=True):
        bars(ax, parts, place, vertical=True, apart=0.012 * (max(positions) - min(positions)))
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    ax.grid(axis="y", color="#e1e4e8", linewidth=0.6)
