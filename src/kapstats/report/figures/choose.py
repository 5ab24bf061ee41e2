"""The figure of a result: what the result says of itself, never a guess from its columns or numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kapstats import scales
from kapstats.errors import FormulaError, choose

if TYPE_CHECKING:
    from kapstats.estimates import Estimates

KINDS = (
    "forest", "profile", "kaplan_meier", "cumulative_incidence", "turnbull", "hazard", "course", "prevalence",
    "volcano", "funnel", "tipping_point", "dropout", "dropout_reasons", "none",
)  # fmt: skip


def draw(estimates: Estimates, ax: Any = None, *, figure: str | None = None, **options: Any) -> Any:
    """Draw `estimates` as the figure it states (or as `figure`, one of KINDS) and return the axes."""
    name = estimates.picture.kind if figure is None else choose(figure, KINDS, "figure")
    stated = dict(estimates.picture.options) if name == estimates.picture.kind else {}
    if name == "none":
        raise FormulaError(f"plot: {estimates.meta.get('title') or 'this result'} has no figure; print it as a table.")
    if name == "profile" and estimates.frame[stated["x"]].nunique() < 2:
        name, stated = "forest", {}  # one visit has no course
    if name == "forest":
        from kapstats.report.figures import forest

        return forest.forest_of(estimates, ax=ax, **(stated | options))
    module = __import__(f"kapstats.report.figures.{name}", fromlist=[name])
    return getattr(module, name)(estimates.frame, ax=ax, **(_told(estimates, name) | stated | options))


def _on_log(estimates: Estimates) -> str:
    """The words under a funnel, which stays on the scale of the standard errors."""
    one = scales.common(estimates.scales)
    return "Effect" if one is None else f"Log {one.measure}" if one.exponentiated else one.header


def _told(estimates: Estimates, name: str) -> dict[str, Any]:
    """What the figure needs of the description: the level, the words of the axis, the column of terms."""
    if name in ("dropout", "dropout_reasons"):
        return {}
    if name == "volcano":
        return {"term": estimates.columns[0]}
    level = {"level": estimates.meta.get("level") or 0.95}
    if name == "funnel":
        if estimates.meta.get("scale") in ("natural", "ratio"):
            raise FormulaError("funnel: standard errors are on the log scale; plot before exponentiate().")
        return {**level, "xlabel": _on_log(estimates)}
    return level
