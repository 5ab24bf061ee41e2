"""The estimand of ICH E9(R1): what is to be estimated, and which rows and values answer it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from kapstats import frames
from kapstats._types import FrameLike
from kapstats.errors import DataError, FormulaError, KapstatsWarning, choose, first_ids

STRATEGIES = ("treatment-policy", "hypothetical", "composite", "while-on-treatment", "principal-stratum")
EXPLAINED = {
    "treatment-policy": "values are used whether or not the event occurred",
    "hypothetical": "values from the event on are set missing, to be predicted as if it had not occurred",
    "composite": "values from the event on are replaced by the failure value",
    "while-on-treatment": "the last value before the event stands for all later visits",
    "principal-stratum": "subjects with the event are left out; causal only if the event would occur in either arm",
}


@dataclass(frozen=True)
class Estimand:
    """Treatment, population, variable, intercurrent events with their strategies, and the population summary.

    Parameters
    ----------
    treatment, population, variable, summary : the attributes of ICH E9(R1), as texts for the report
    events : strategy of each kind of intercurrent event:
        treatment-policy, hypothetical, composite, while-on-treatment or principal-stratum
    failure : value that a composite strategy writes (for a change score often 0: back at baseline)

    Examples
    --------
    >>> data = pd.DataFrame({"id": [1, 1, 2, 2], "visit": [1, 2, 1, 2], "y": [-5.0, -9.0, -4.0, -6.0]})
    >>> data = data.assign(event=[None, None, "rescue", "rescue"], event_visit=[None, None, 2, 2])
    >>> policy = Estimand("KAP v placebo", "all randomised", "CHG at day 28", {"rescue": "hypothetical"})
    >>> roles = dict(subject="id", visit="visit", outcome="y", event="event", event_visit="event_visit")
    >>> policy.apply(data, **roles)["y"].tolist()
    [-5.0, -9.0, -4.0, nan]
    """

    treatment: str
    population: str
    variable: str
    events: Mapping[str, str] = field(default_factory=dict)
    summary: str = "difference in means"
    failure: float = 0.0

    def __post_init__(self) -> None:
        for name, strategy in self.events.items():
            choose(strategy, STRATEGIES, f"strategy of {name!r}")

    def apply(
        self, data: FrameLike, *, subject: str, visit: str, outcome: str, event: str, event_visit: str
    ) -> pd.DataFrame:
        """The rows and values that this estimand analyses.

        Parameters
        ----------
        data : long table, one row per subject and visit
        event : column with the kind of each subject's first intercurrent event, missing where there is none
        event_visit : column with the first visit that it affects

        Returns
        -------
        The table with `outcome` changed, a column ``ICE_STRATEGY``, and the estimand in
        ``attrs["kapstats_estimand"]``, which fits on these rows carry in their results.

        Raises
        ------
        DataError
            When an event has no strategy, or its visit is not known.
        """
        frame = frames.to_pandas(data)
        frames.require(frame, [subject, visit, outcome, event, event_visit])
        kinds = frame[event]
        unknown = [k for k in kinds.dropna().unique() if k not in self.events]
        if unknown:
            raise DataError(f"{event}: no strategy for {first_ids(unknown)}. Add it to the estimand's events.")
        order = {level: i for i, level in enumerate(frames.levels(frame, visit).values)}
        at = frame[event_visit].map(order)
        lost = kinds.notna() & at.isna()
        if lost.any():
            ids = first_ids(frame.loc[lost, subject])
            raise DataError(f"{event_visit}: {int(lost.sum())} rows with an event name no known visit ({ids}).")
        affected = kinds.notna() & (frame[visit].map(order).astype(float) >= at.astype(float))
        strategy = kinds.map(lambda k: self.events.get(k, ""), na_action="ignore")
        return self._changed(frame, subject, visit, outcome, affected, strategy, order)

    def _changed(
        self, frame: pd.DataFrame, subject: str, visit: str, outcome: str, affected: pd.Series, strategy: pd.Series,
        order: dict[Any, int],
    ) -> pd.DataFrame:  # fmt: skip
        value = frame[outcome].astype(float)
        missing = affected & strategy.isin(["hypothetical", "while-on-treatment"])
        value = value.mask(missing).mask(affected & (strategy == "composite"), self.failure)
        carried = affected & (strategy == "while-on-treatment")
        sequence = frame[visit].map(order).astype(float).argsort(kind="stable")
        last = value.iloc[sequence].groupby(frame[subject].iloc[sequence].to_numpy()).ffill().reindex(frame.index)
        value = value.where(~carried, last)
        out = frame.assign(**{outcome: value, "ICE_STRATEGY": strategy.where(affected)})
        stratum = strategy == "principal-stratum"
        if stratum.any():
            n = frame.loc[stratum, subject].nunique()
            message = f"principal-stratum: {n} subjects with the event are left out. {EXPLAINED['principal-stratum']}."
            warnings.warn(message, KapstatsWarning, stacklevel=4)
            out = out[~stratum].reset_index(drop=True)
        out.attrs["kapstats_estimand"] = self.sentence()
        return out

    def sentence(self) -> str:
        """The estimand in one sentence.

        Examples
        --------
        >>> Estimand("KAP v placebo", "all randomised", "CHG", {"rescue": "composite"}).sentence()
        'difference in means of CHG, KAP v placebo, in all randomised; rescue: composite.'
        """
        events = ", ".join(f"{name}: {strategy}" for name, strategy in self.events.items())
        return f"{self.summary} of {self.variable}, {self.treatment}, in {self.population}; {events or 'no events'}."


def bounds(
    responders: int, observed: int, enrolled: int, *, worst: float = 0.0, best: float = 1.0
) -> tuple[float, float]:
    """Bounds on a response proportion when only `observed` of `enrolled` subjects were seen (Manski 1990).

    Parameters
    ----------
    worst, best : response probability of those not seen at the two ends

    Raises
    ------
    FormulaError
        When counts or probabilities are out of range.

    Examples
    --------
    >>> bounds(62, 100, 1000)
    (0.062, 0.962)
    """
    if not (0 <= responders <= observed <= enrolled and enrolled > 0 and 0 <= worst <= best <= 1):
        raise FormulaError("bounds: needs 0 <= responders <= observed <= enrolled and 0 <= worst <= best <= 1.")
    unseen = enrolled - observed
    low, high = (responders + p * unseen for p in (worst, best))
    return float(low / enrolled), float(np.minimum(high / enrolled, 1.0))
