"""How much worse would those who left have to be: the treatment difference as imputed values are made worse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from kapstats.errors import FormulaError, check_level, nearest
from kapstats.estimates import Estimates, Picture
from kapstats.response.imputation import Imputations
from kapstats.response.imputation_analysis import Analysis
from kapstats.response.imputation_delta import shift_of


def tipping_point(
    imputations: Imputations,
    deltas: Sequence[float],
    *,
    reference_deltas: Sequence[float] = (0.0,),
    arm: Any = None,
    visit: Any = None,
    reason: Any = None,
    analysis: Analysis | str | None = None,
    variance: str | None = None,
    replicates: int = 500,
    level: float = 0.95,
    side: str = "two",
) -> Estimates:
    """The treatment difference when imputed values of an arm are made worse step by step.

    Parameters
    ----------
    imputations : from `impute`
    deltas : amounts added to the imputed values
    reference_deltas : amounts added to those of the reference arm; with several, every pair is analysed
    arm : whose imputed values are shifted (default: every arm but the reference)
    visit : visit whose difference is reported (default: the last)
    reason : shift the imputed values of subjects with this value of the plan's `reason` only
    analysis, variance, replicates, level, side : as in ``Imputations.analyse``

    Returns
    -------
    Estimates with one row per delta (and reference delta) and contrast. ``meta["tipping_point"]`` is the smallest of
    `deltas` (in size) at which the interval holds zero, None when no delta does; ``meta["crossing"]`` where between two
    deltas the limit passes zero (straight line), with the reference arm not shifted. Both are of the first contrast;
    ``meta["tipping"]`` maps every contrast to the pair. ``.plot()`` draws them.

    Examples
    --------
    See `impute`; ``tipping_point(imputed, [0, 2, 4, 6])``.
    """
    wide = imputations.wide
    at = wide.visits[-1] if visit is None else visit
    if at not in wide.visits:
        raise FormulaError(f"visit: {at!r} is not a visit.{nearest(str(at), map(str, wide.visits))}")
    reference = wide.arms[wide.reference]
    arms = [a for a in wide.arms if a != reference] if arm is None else [arm]
    if not len(deltas) or not len(reference_deltas):
        raise FormulaError("tipping_point: give at least one delta.")
    pairs = [(float(d), float(r)) for r in reference_deltas for d in deltas]
    shifts = [shift_of(wide, _by_arm(arms, d, reference, r, reason)) for d, r in pairs]
    check_level(level)
    found = imputations._pooled(analysis, shifts, variance, replicates, level, side)
    wanted = {"quantity": "difference", wide.visit: at}
    parts = []
    for (d, r), result in zip(pairs, found, strict=True):
        rows = result.filter(**{k: v for k, v in wanted.items() if k in result.columns}).frame
        parts.append(rows.assign(delta=d, reference_delta=r))
    table = pd.concat(parts, ignore_index=True)
    keys = ["delta", *(["reference_delta"] if len(reference_deltas) > 1 else [])]
    shown = [c for c in table.columns if c not in ("delta", "reference_delta") and not table[c].isna().all()]
    return _described(table[[*keys, *shown]], found[0], f"Tipping point at {at}")


def _by_arm(arms: list[Any], delta: float, reference: Any, other: float, reason: Any) -> dict[Any, Any]:
    amounts = dict.fromkeys(arms, delta) | ({reference: other} if reference not in arms else {})
    return amounts if reason is None else {reason: amounts}


def _described(table: pd.DataFrame, result: Estimates, title: str) -> Estimates:
    names = table["contrast"].unique() if "contrast" in table else [None]
    tipping = {}
    for name in names:
        rows = table if name is None else table[table["contrast"] == name]
        rows = rows if "reference_delta" not in rows else rows[rows["reference_delta"] == 0]
        tipping[name] = (_first_inside(rows), _crossing(rows))
    first, crossing = tipping[names[0]]
    said = "; ".join(_said(name, *pair) for name, pair in tipping.items()) + "."
    more = {"title": title, "tipping_point": first, "crossing": crossing, "tipping": tipping}
    described = {**result.meta, **more, "sentence": f"{result.meta['sentence']} {said}"}
    return Estimates(table, described, picture=Picture("tipping_point"))


def _first_inside(rows: pd.DataFrame) -> float | None:
    inside = rows.loc[(rows["conf_low"] <= 0) & (rows["conf_high"] >= 0), "delta"]
    return None if inside.empty else float(min(inside, key=abs))


def _crossing(rows: pd.DataFrame) -> float | None:
    """Where the limit nearer to zero passes it, on a straight line between two deltas; None where it does not."""
    rows = rows.sort_values("delta", key=np.abs, kind="stable")
    if rows.empty or rows["estimate"].isna().all():
        return None
    side = "conf_high" if rows["estimate"].iloc[0] < 0 else "conf_low"
    x, y = rows["delta"].to_numpy(), rows[side].to_numpy()
    for k in range(1, len(x)):
        if y[k - 1] * y[k] <= 0 and y[k] != y[k - 1]:
            return float(x[k - 1] + (x[k] - x[k - 1]) * y[k - 1] / (y[k - 1] - y[k]))
    return None


def _said(name: Any, first: float | None, crossing: float | None) -> str:
    who = "" if name is None else f"{name}: "
    if first is None:
        return f"{who}no delta tips the result"
    exact = "" if crossing is None else f" (the limit passes zero at {crossing:.3g})"
    return f"{who}the interval first contains zero at delta {first:g}{exact}"
