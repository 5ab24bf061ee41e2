"""The estimand of ICH E9(R1): what is to be estimated, and which rows and values answer it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from kapstats import frames
from kapstats._types import FrameLike
from kapstats.errors import DataError, FormulaError, choose, first_ids, warn
from kapstats.response.imputation_data import complete_grid

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
        self,
        data: FrameLike | Any,
        events: FrameLike | None = None,
        *,
        subject: str = "USUBJID",
        visit: str = "AVISIT",
        outcome: str = "CHG",
        event: str = "ICE",
        event_visit: str = "ICEVISIT",
    ) -> pd.DataFrame:
        """The rows and values that this estimand analyses.

        From the first visit that an event affects, its strategy governs; when a subject has several events, the
        earliest whose strategy is not treatment-policy does (of one visit, the first in the table). Planned visits
        that a subject lacks are added where the strategy says what their value is (composite, while-on-treatment).

        Parameters
        ----------
        data : long table, one row per subject and visit, or a Trial (its ADQS)
        events : one row per event with `subject`, `event` and `event_visit`, such as `intercurrent_events` gives. Left
            out, `data` has the columns `event` and `event_visit` with each subject's first event
        event : kind of the event, missing where there is none
        event_visit : first visit that it affects; in `events`, missing where it came after the last visit

        Returns
        -------
        The table with `outcome` changed and a column ``ICE_STRATEGY`` (missing where no event governs); with `events`
        also `event` and `event_visit` of the event that governs each subject (for ``ImputationPlan``). The estimand is
        in ``attrs["kapstats_estimand"]``, which fits on these rows carry in their results.

        Raises
        ------
        DataError
            When an event has no strategy, or its visit is not known.
        """
        frame = frames.to_pandas(getattr(data, "adqs", data))
        frames.require(frame, [subject, visit, outcome, *([] if events is not None else [event, event_visit])])
        levels = frames.levels(frame, visit).values
        table = (
            frame[list(dict.fromkeys([subject, event, event_visit]))].dropna(subset=[event]).drop_duplicates()
            if events is None
            else frames.to_pandas(events)
        )
        governing = self._governing(table, subject, event, event_visit, levels, events is not None)
        if events is not None:
            frame = frame.drop(columns=[c for c in (event, event_visit) if c in frame])
            frame[event] = frame[subject].map(governing[event])
            frame[event_visit] = frame[subject].map(governing[event_visit])
        frame, added = self._planned(frame, governing, subject, visit, outcome, levels, event, event_visit)
        out = self._changed(frame, governing, subject, visit, outcome, levels)
        out.attrs["kapstats_estimand"] = self.sentence() + (f" {added} planned visits added." if added else "")
        return out

    def _governing(
        self, table: pd.DataFrame, subject: str, event: str, event_visit: str, levels: tuple[Any, ...], listed: bool
    ) -> pd.DataFrame:
        """Per subject (index) the event that governs, its visit, `_strategy` and the position `_at` of the visit."""
        frames.require(table, [subject, event, event_visit], "events")
        unknown = [k for k in table[event].dropna().unique() if k not in self.events]
        if unknown:
            raise DataError(f"{event}: no strategy for {first_ids(unknown)}. Add it to the estimand's events.")
        order = {level: i for i, level in enumerate(levels)}
        at = table[event_visit].astype("object").map(order).astype(float)
        late = table[event_visit].isna() & listed
        lost = table[event].notna() & at.isna() & ~late
        if lost.any():
            ids = first_ids(table.loc[lost, subject])
            raise DataError(f"{event_visit}: {int(lost.sum())} rows with an event name no known visit ({ids}).")
        strategy = table[event].map(lambda k: self.events.get(k, ""))
        rows = table[[subject, event, event_visit]].assign(_strategy=strategy, _at=at.fillna(len(levels)))
        rows = rows[table[event].notna()].assign(_policy=strategy == "treatment-policy")
        # a principal stratum is left out whatever else happened and whenever it did
        rows = rows.assign(_later=rows["_strategy"] != "principal-stratum")
        rows = rows.sort_values(["_later", "_policy", "_at"], kind="stable")
        return rows.drop_duplicates(subject).set_index(subject)[[event, event_visit, "_strategy", "_at"]]

    def _planned(
        self, frame: pd.DataFrame, governing: pd.DataFrame, subject: str, visit: str, outcome: str,
        levels: tuple[Any, ...], event: str, event_visit: str,
    ) -> tuple[pd.DataFrame, int]:  # fmt: skip
        """Rows for the planned visits that subjects with a composite or while-on-treatment event lack."""
        valued = governing.index[governing["_strategy"].isin(["composite", "while-on-treatment"])]
        theirs = frame[subject].isin(valued)
        if not theirs.any():
            return frame, 0
        whole, _ = complete_grid(frame[theirs], outcome, subject, visit, levels)
        known = set(zip(frame.loc[theirs, subject], frame.loc[theirs, visit], strict=True))
        new = np.array([key not in known for key in zip(whole[subject], whole[visit], strict=True)])
        new &= whole[visit].map({v: k for k, v in enumerate(levels)}).astype(float).to_numpy() >= (
            whole[subject].map(governing["_at"]).to_numpy()
        )
        if not new.any():
            return frame, 0
        extra = whole[new].assign(**{visit: whole.loc[new, visit].astype("object")})
        by_visit = frame.groupby(frame[visit].astype("object"))
        for column in frame.columns.difference([subject, visit, outcome, event, event_visit]):  # AVISITN, ANL01FL ...
            common = by_visit[column].first().where(by_visit[column].nunique(dropna=False) == 1)
            extra[column] = extra[column].fillna(extra[visit].map(common))
        for column in frame.columns:
            whole_column = extra[column].notna().all() or not pd.api.types.is_integer_dtype(frame[column].dtype)
            extra[column] = extra[column].astype(frame[column].dtype) if whole_column else extra[column]
        joined = pd.concat([frame, extra[list(frame.columns)]], ignore_index=True)
        joined.attrs.update(frame.attrs)
        return joined, int(new.sum())

    def _changed(
        self, frame: pd.DataFrame, governing: pd.DataFrame, subject: str, visit: str, outcome: str,
        levels: tuple[Any, ...],
    ) -> pd.DataFrame:  # fmt: skip
        place = frame[visit].astype("object").map({v: k for k, v in enumerate(levels)}).astype(float)
        at, strategy = (frame[subject].map(governing[c]) for c in ("_at", "_strategy"))
        affected = strategy.notna() & (place >= at.astype(float))
        value = frame[outcome].astype(float)
        missing = affected & strategy.isin(["hypothetical", "while-on-treatment"])
        value = value.mask(missing).mask(affected & (strategy == "composite"), self.failure)
        carried = affected & (strategy == "while-on-treatment")
        sequence = place.argsort(kind="stable")
        last = value.iloc[sequence].groupby(frame[subject].iloc[sequence].to_numpy()).ffill().reindex(frame.index)
        value = value.where(~carried, last)
        out = frame.assign(**{outcome: value, "ICE_STRATEGY": strategy.where(affected)})
        stratum = strategy == "principal-stratum"
        if stratum.any():
            n = frame.loc[stratum, subject].nunique()
            message = f"principal-stratum: {n} subjects with the event are left out. {EXPLAINED['principal-stratum']}."
            warn(message)
            out = out[~stratum].reset_index(drop=True)
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
