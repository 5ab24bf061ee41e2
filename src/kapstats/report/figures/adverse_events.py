"""Figures of an adverse event analysis: what `Incidence.plot` draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from kapstats.errors import FormulaError, choose
from kapstats.report.figures import butterfly, dot, forest, style, volcano

if TYPE_CHECKING:
    from kapstats.safety.incidence import Incidence

KINDS = ("dot", "volcano", "forest", "butterfly")


def plot(ae: Incidence, kind: str = "dot", ax: Any = None, **options: Any) -> Any:
    """Draw the narrowest terms of `ae`.

    Parameters
    ----------
    kind : "dot" (percentages and differences), "volcano" (differences against evidence), "forest" (differences),
        "butterfly" (two groups back to back; by default the reference and the last group)
    options : of the figure; ``limit`` is the number of terms drawn, ``method`` that of the comparison
    """
    choose(kind, KINDS, "kind")
    if not ae.terms:
        raise FormulaError("plot: these counts have no terms; give terms=['AEDECOD'] to incidence.")
    compared = {k: options.pop(k) for k in ("method", "reference", "level", "adjust") if k in options}
    if kind == "butterfly":
        pair = options.pop("groups", (ae.reference, ae.arms[-1]))
        return butterfly.butterfly(percentages(ae), groups=pair, term="event", by=ae.by, ax=ax, **options)
    shown = differences(ae, **compared)
    if kind == "dot":
        reference = str(compared.get("reference") or ae.reference)
        return dot.dot(percentages(ae), shown, term="event", by=ae.by, reference=reference, ax=ax, **options)
    if kind == "volcano":
        return volcano.volcano(shown, term="event", by=ae.by, ax=ax, **options)
    return _forest(ae, shown, ax, **options)


def percentages(ae: Incidence, level: float = 0.95) -> pd.DataFrame:
    """Narrowest terms with percent and Clopper-Pearson limits (0 to 100), groups in their order."""
    from kapstats.safety.proportion import proportion

    frame = with_event(ae.frame[ae.frame["level"] == narrowest(ae)].reset_index(drop=True), ae.terms)
    limits = proportion(frame["n_subjects"], frame["N"], level=level).frame
    return frame.assign(conf_low=100 * limits["conf_low"].to_numpy(), conf_high=100 * limits["conf_high"].to_numpy())


def differences(ae: Incidence, **options: Any) -> pd.DataFrame:
    """Narrowest terms with the risk difference of every group, the group beside its contrast."""
    frame = ae.compare(**options).frame
    frame = frame[frame["level"] == narrowest(ae)].reset_index(drop=True)
    reference = options.get("reference") or ae.reference
    names = {f"{arm} - {reference}": arm for arm in ae.arms}
    return with_event(frame.assign(**{ae.by: frame["contrast"].map(names)}), ae.terms)


def with_event(frame: pd.DataFrame, terms: Sequence[str]) -> pd.DataFrame:
    """`frame` with a column ``event``: the narrowest term, with its wider one where the same stands under several.

    Examples
    --------
    >>> frame = pd.DataFrame({"SOC": ["A", "B", "B"], "PT": ["Rash", "Rash", "Cough"]})
    >>> with_event(frame, ["SOC", "PT"])["event"].tolist()
    ['Rash (A)', 'Rash (B)', 'Cough']
    """
    own = frame[terms[-1]].astype(str)
    if len(terms) < 2:
        return frame.assign(event=own)
    wider = frame[terms[-2]].astype(str)
    several = wider.groupby(own).transform("nunique") > 1
    return frame.assign(event=own.where(~several, own + " (" + wider + ")"))


def narrowest(ae: Incidence) -> str:
    """The level of the narrowest terms (PT where there are two columns)."""
    levels = [level for level in ae.frame["level"].drop_duplicates() if level not in ("ANY", "GROUP")]
    return str(levels[-1]) if levels else "ANY"


@style.house
def _forest(ae: Incidence, shown: pd.DataFrame, ax: Any, *, limit: int = 8, **options: Any) -> Any:
    rows = dot.most_frequent(percentages(ae), "event", ae.by, limit)
    part = shown[shown["event"].isin(rows)]
    part = part.assign(**{c: 100 * part[c] for c in ("estimate", "conf_low", "conf_high")})
    part = part.sort_values("event", key=lambda s: s.map({r: i for i, r in enumerate(rows)}), kind="stable")
    panel = "event"
    ax = style.axes(ax, 4.6, forest.height(part, panel))
    return forest.forest(part, panel=panel, xlabel="Risk difference, points", ax=ax, **options)
