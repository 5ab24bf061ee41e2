"""The end of follow-up: what was not seen is not reported, unless it is asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from kapstats._types import BoolArray, FloatArray
from kapstats.errors import first_ids, warn
from kapstats.estimates import Estimates
from kapstats.kernels.risk_sets import TIE_TOLERANCE

E = TypeVar("E", bound=Estimates)
#: what a row says about its time, and what is missing when the time was not reached
VALUES = ("estimate", "std_error", "statistic", "p_value", "conf_low", "conf_high", "lowest", "highest")


def within_follow_up(found: E, last: Any, names: Any = "", *, extend: bool = False, column: str = "time") -> E:
    """The same rows with the values after the end of follow-up missing (printed NE), and a warning that says where.

    Parameters
    ----------
    found : rows with the time asked for in `column`
    last : last time at which each row's value is known, (rows,) or one number; infinite where the curve has ended
    names : the stratum of each row, (rows,) or one text
    extend : keep the values, carried forward from the last time; the result then says so
    """
    asked = stored_column(found, column)
    until = np.broadcast_to(np.asarray(last, dtype=float), asked.shape)
    past = asked > until + TIE_TOLERANCE * np.abs(np.where(np.isfinite(until), until, 0.0))
    if not past.any():
        return found
    where = _where(asked[past], until[past], np.broadcast_to(np.asarray(names, dtype=object), asked.shape)[past])
    if extend:
        said = (*found.meta.get("conventions", ()), f"carried forward past the end of follow-up: {where}")
        return replace(found, meta={**found.meta, "conventions": said})
    text = warn(f"Past the end of follow-up, not estimable (NE): {where}. extend=True carries the last value forward.")
    frame = found.frame
    frame = frame.assign(**{c: np.where(past, np.nan, frame[c].to_numpy(float)) for c in VALUES if c in frame})
    return replace(found, frame=frame, meta={**found.meta, "warnings": (*found.warnings, text)})


def stored_column(found: Estimates, column: str) -> FloatArray:
    """One column as numbers."""
    return np.asarray(found[column], dtype=float)


def extrapolated(found: E, last: float, column: str = "time") -> E:
    """The same result with a warning when a model speaks of times after the last one observed."""
    value = stored_column(found, column)
    if not (np.isfinite(value) & _after(value, last)).any():
        return found
    text = warn(f"The last time observed is {last:g}; what is said of later times rests on the model alone.")
    return replace(found, meta={**found.meta, "warnings": (*found.warnings, text)})


def _after(time: FloatArray, last: float) -> BoolArray:
    return np.asarray(time > last * (1.0 + TIE_TOLERANCE))


def _where(asked: FloatArray, last: FloatArray, names: Any) -> str:
    """``arm=KAP, followed to 400, at 500, 800`` for every stratum."""
    rows = pd.DataFrame({"name": names, "last": last, "time": asked}).drop_duplicates()
    said = []
    for (name, end), part in rows.groupby(["name", "last"], sort=False):
        known = f"followed to {end:g}" if np.isfinite(end) else "without rows"
        said.append(f"{name or 'the data'}, {known}, at {first_ids(f'{t:g}' for t in part['time'])}")
    return "; ".join(said)
