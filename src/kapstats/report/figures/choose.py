"""The figure that fits a result: by what it says of itself, else by its columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kapstats.errors import FormulaError, choose

if TYPE_CHECKING:
    from kapstats.estimates import Estimates

KINDS = (
    "forest", "profile", "kaplan_meier", "cumulative_incidence", "course", "volcano", "hazard", "funnel",
    "tipping_point", "dropout", "dropout_reasons",
)  # fmt: skip


def kind(estimates: Estimates) -> str:
    """The name of the figure for `estimates`."""
    stated = estimates.meta.get("figure")
    if stated:
        return choose(str(stated), KINDS, "figure")
    columns = set(estimates.columns)
    if {"time", "n_risk", "estimate"} <= columns:
        return "kaplan_meier" if estimates.frame["estimate"].iloc[0] >= 0.5 else "cumulative_incidence"
    keys = estimates.columns[: estimates.columns.index("estimate")] if "estimate" in columns else []
    crossed = len(keys) == 2 and len(estimates) == np.prod([estimates.frame[k].nunique() for k in keys])
    return (
        "profile"
        if crossed and keys[0] not in ("contrast", "term") and estimates.frame[keys[1]].nunique() > 1
        else "forest"
    )


def draw(estimates: Estimates, ax: Any = None, *, figure: str | None = None, **options: Any) -> Any:
    """Draw `estimates` as the figure that fits (or as `figure`, one of KINDS) and return the axes."""
    name = kind(estimates) if figure is None else choose(figure, KINDS, "figure")
    if name == "forest":
        from kapstats.report.figures import forest

        return forest.forest_of(estimates, ax=ax, **options)
    module = __import__(f"kapstats.report.figures.{name}", fromlist=[name])
    return getattr(module, name)(estimates.frame, ax=ax, **(_defaults(estimates, name) | options))


def _defaults(estimates: Estimates, name: str) -> dict[str, Any]:
    """Grouping columns and level, read off the result."""
    frame = estimates.frame
    if name in ("dropout", "dropout_reasons"):
        return {"visits": estimates.meta["visits"]} if name == "dropout" else {}
    stop = "time" if name in ("kaplan_meier", "cumulative_incidence", "hazard") else "estimate"
    keys = list(frame.columns[: list(frame.columns).index(stop)])
    level = {"level": estimates.meta.get("level") or 0.95}
    if name == "tipping_point":
        return level
    if name == "funnel":
        if estimates.meta.get("scale") in ("natural", "ratio"):
            raise FormulaError("funnel: standard errors stand on the log scale; plot before exponentiate().")
        return {**level, "xlabel": estimates.meta.get("forest", {}).get("xlabel", "Effect")}
    if stop == "time":
        return {"strata": keys, **level}
    if name == "volcano":
        return {"term": keys[0]}
    return {"group": keys[0], "x": keys[1], **level}
