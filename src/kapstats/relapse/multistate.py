"""Multistate follow-up (non-response, response, relapse, discontinuation): who is in which state when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri

from kapstats import estimates, frames
from kapstats._types import FloatArray, FrameLike, IntArray
from kapstats.errors import DataError, FormulaError, choose, first_ids
from kapstats.estimates import Estimates, Picture, sealed, stored
from kapstats.inference.intervals import check_level
from kapstats.kernels.multistate import Occupation, occupation
from kapstats.relapse.follow_up import FollowUp, each
from kapstats.relapse.regression import refuse_terms
from kapstats.relapse.surv_data import Groups, SurvData, compared, group_rows, group_terms, unpack


@sealed
@dataclass(frozen=True)
class StateOccupation:
    """Probabilities of being in each state, by group and time; `episodes`: who was in which state from when to when."""

    frame: pd.DataFrame
    groups: Groups
    states: tuple[Any, ...]
    curves: tuple[Occupation, ...]
    meta: dict[str, Any]
    episodes: pd.DataFrame
    follow_up: FollowUp

    def to_frame(self) -> Any:
        """Stratum columns, state time n_risk estimate std_error conf_low conf_high."""
        return frames.restore(stored(self), self.meta["frame_kind"])

    @property
    def estimates(self) -> Estimates:
        """The rows as `Estimates`."""
        panels = self.groups.frame.astype(str).agg(", ".join, axis=1) if len(self.groups.frame.columns) else ["All"]
        begin = {
            (panel, str(state)): float(p)
            for panel, found in zip(panels, self.curves, strict=True)
            for state, p in zip(self.states, found.initial, strict=True)
        }
        options = {"strata": ["state"], "panel": list(self.groups.frame.columns), "before": begin,
                   "ylabel": "Probability of the state", "risk_table": False}  # fmt: skip
        return Estimates(stored(self), self.meta, picture=Picture("cumulative_incidence", options))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the reader of these numbers has to know."""
        return tuple(self.meta["warnings"])

    def at(self, times: float | Sequence[float], *, extend: bool = False) -> Estimates:
        """Probabilities at `times`; NE past a group's follow-up, unless everyone is in a state that nobody left.

        extend : carry the last probabilities forward instead
        """
        t = self.follow_up.asked(times)
        parts = []
        for g, found in enumerate(self.curves):
            behind = np.searchsorted(found.time, t, side="right")
            value = np.vstack([found.initial, found.probability])[behind]
            error = np.vstack([np.zeros(len(self.states)), found.std_error])[behind]
            parts.append(_rows(self.groups, g, self.states, t, value, error, self.meta["level"]))
        made = Estimates(pd.concat(parts, ignore_index=True), {**self.meta, "title": "State occupation"})
        return self.follow_up.within(made, each(len(self.groups), len(self.states) * t.size), extend=extend)

    def transitions(self) -> Estimates:
        """Numbers of transitions, from the row's state to the column's, by group."""
        rows = []
        for g, found in enumerate(self.curves):
            for j, state in enumerate(self.states):
                to = {str(s): int(n) for s, n in zip(self.states, found.transitions[j], strict=True)}
                rows.append({**self.groups.frame.iloc[g].to_dict(), "state": state, **to})
        return Estimates(pd.DataFrame(rows), {**self.meta, "title": "Transitions", "level": None})

    def mean_time(self, tau: float, *, extend: bool = False) -> Estimates:
        """Expected time spent in each state up to `tau` (NE past follow-up, as in `at`)."""
        tau = self.follow_up.horizon(tau)
        rows = []
        for g, found in enumerate(self.curves):
            grid = np.concatenate([[0.0], found.time[found.time < tau], [tau]])
            value = np.vstack([found.initial, found.probability])[: len(grid) - 1]
            for state, area in zip(self.states, np.diff(grid) @ value, strict=True):
                rows.append({**self.groups.frame.iloc[g].to_dict(), "state": state, "tau": tau, "estimate": area})
        made = Estimates(pd.DataFrame(rows), {**self.meta, "title": f"Mean time in state up to {tau:g}"})
        strata = each(len(self.groups), len(self.states))
        return self.follow_up.within(made, strata, extend=extend, column="tau")

    def plot(self, ax: Any = None, *, kind: str = "probability", **options: Any) -> Any:
        """Step curves of every state, a panel for every group; kind="swimmer": the `episodes` of each subject."""
        if choose(kind, ("probability", "swimmer"), "kind") == "swimmer":
            return self._plot_swimmer(ax, options)
        return self.estimates.plot(ax=ax, **options)

    def _plot_swimmer(self, ax: Any, options: dict[str, Any]) -> Any:
        from kapstats.report.figures.swimmer import swimmer

        keys, rows = list(self.groups.frame.columns), self.episodes
        if len(keys) > 1:
            rows = rows.assign(group=rows[keys].astype(str).agg(", ".join, axis=1))
        group = None if not keys else keys[0] if len(keys) == 1 else "group"
        return swimmer(rows, subject=rows.columns[0], group=group, ax=ax, **options)

    def explain(self) -> str:
        """The methods paragraph."""
        return f"{self.meta['sentence']}. State probabilities by Aalen and Johansen (Scand J Stat 1978; 5: 141-150)."

    def __str__(self) -> str:
        return self.at(min(float(c.time[-1]) for c in self.curves)).to_text()

    __repr__ = __str__


def state_occupation(
    formula: str,
    data: FrameLike,
    *,
    id: str = "USUBJID",
    initial: Any = "initial",
    censored: Any = None,
    level: float = 0.95,
    order: Mapping[str, Sequence[Any]] | None = None,
) -> StateOccupation:
    """Probability of being in each state over time.

    A row says that a subject was followed over (start, stop] and entered `status` at stop (or was still in the same
    state: censored). The state before the first row is `initial`; later rows continue from the state entered last, so
    that response, relapse, response again and discontinuation are all allowed.

    Parameters
    ----------
    formula : ``Surv(start, stop, status) ~ groups``; status 0 (or the label `censored`): no change at stop
    id : the column that names the subject
    initial : name of the starting state (one of the states, or a new one), or a column that holds it
    level : of the limits, on the log scale

    Returns
    -------
    StateOccupation : ``to_frame() at(times) mean_time(tau) transitions() plot()``

    Raises
    ------
    DataError
        Rows of a subject that overlap or leave a gap.

    Agrees with
    -----------
    R survival 3.5-3 (multi-state survfit), below 1e-10.

    Examples
    --------
    >>> import pandas as pd
    >>> data = pd.DataFrame({"id": [1, 1, 2, 3], "a": [0, 2, 0, 0], "b": [2, 5, 4, 6],
    ...                      "to": ["response", "relapse", "none", "response"]})
    >>> fit = state_occupation("Surv(a, b, to) ~ 1", data, id="id", initial="non-response", censored="none")
    >>> fit.at(3)["estimate"].round(4).tolist()
    [0.6667, 0.0, 0.3333]
    """
    check_level(level)
    starts = initial if isinstance(initial, str) and initial in frames.to_pandas(data).columns else None
    extra = [f"`{id}`", *([f"`{starts}`"] if starts else [])]
    surv = unpack(formula, data, order=order, competing=True, censored=censored, extra=extra)
    if surv.entry is None:
        raise FormulaError(f"{formula!r}: write Surv(start, stop, status).")
    refuse_terms(surv, "state occupation", allow=("strata",))
    found = _paths(surv, id, initial, starts)
    groups = group_rows(surv.frame, [*group_terms(surv.formula), *surv.formula.strata], order)
    surv = compared(surv, groups)
    assert surv.entry is not None
    states, origin, target, subject = found
    curves, parts = [], []
    for g in range(len(groups)):
        rows = groups.codes == g
        dense = np.unique(subject[rows], return_inverse=True)[1]
        curve = occupation(surv.entry[rows], surv.time[rows], origin[rows], target[rows], dense, len(states))
        curves.append(curve)
        parts.append(_rows(groups, g, states, curve.time, curve.probability, curve.std_error, level, curve.n_risk))
    method = f"Aalen-Johansen state occupation, infinitesimal-jackknife errors by {id}, log limits"
    meta = estimates.meta(
        method=method,
        level=level,
        title="State occupation",
        sentence=f"{method}; {surv.sentence()}",
        warnings=surv.warnings,
        estimand="probability of the state at the time",
        data=surv.data_print,
        frame_kind=surv.kind,
    )
    episodes = _episodes(surv, id, groups, states, origin, target)
    follow_up = FollowUp.of(surv, groups).ending([_ended(c) for c in curves])
    return StateOccupation(
        pd.concat(parts, ignore_index=True), groups, states, tuple(curves), meta, episodes, follow_up
    )


def _ended(curve: Occupation) -> bool:
    """Whether at the last time everyone is in a state in which nobody was ever followed."""
    return float(curve.probability[-1][curve.n_risk.any(axis=0)].sum()) <= 1e-12


def _episodes(
    surv: SurvData, id: str, groups: Groups, states: tuple[Any, ...], origin: IntArray, target: IntArray
) -> pd.DataFrame:
    """Stays in a state: subject, group columns, state, start, stop, entered (missing: follow-up ended in the state)."""
    assert surv.entry is not None
    named = np.array([*states, None], dtype=object)
    frame = pd.DataFrame({"subject": surv.frame[id].to_numpy(), "group": groups.codes, "state": named[origin]})
    frame = frame.assign(start=surv.entry, stop=surv.time, entered=pd.Series(named[target], dtype=object))
    frame = frame.sort_values(["group", "subject", "start"], kind="stable").reset_index(drop=True)
    goes_on = frame["entered"].isna() | (frame["entered"] == frame["state"])
    new = (frame["subject"] != frame["subject"].shift()) | ~goes_on.shift(fill_value=False)
    merged = frame.groupby(new.cumsum(), sort=False).agg(
        {"subject": "first", "group": "first", "state": "first", "start": "first", "stop": "last"}
    )
    last = frame.groupby(new.cumsum(), sort=False)["entered"].apply(lambda v: v.iloc[-1])
    keys = groups.frame.iloc[merged["group"].to_numpy()].reset_index(drop=True)
    out = pd.concat([merged[["subject"]].reset_index(drop=True), keys], axis=1).rename(columns={"subject": id})
    rest = merged[["state", "start", "stop"]].reset_index(drop=True)
    return pd.concat([out, rest], axis=1).assign(entered=last.to_numpy())


def _paths(
    surv: SurvData, id: str, initial: Any, starts: str | None
) -> tuple[tuple[Any, ...], IntArray, IntArray, IntArray]:
    """States, and per row the state it starts in, the state it moves to (-1: none) and the subject."""
    assert surv.entry is not None
    assert surv.status is not None
    subject = pd.factorize(surv.frame[id])[0].astype(np.int64)
    order = np.lexsort((surv.entry, subject))
    same = np.diff(subject[order]) == 0
    broken = same & (surv.entry[order][1:] != surv.time[order][:-1])
    if broken.any():
        bad = surv.frame[id].to_numpy()[order][1:][broken]
        raise DataError(f"{int(broken.sum())} rows do not start where the previous row stops ({id} {first_ids(bad)}).")
    named = list(dict.fromkeys(surv.frame[starts])) if starts else [initial]
    states = tuple(dict.fromkeys([*named, *surv.causes]))
    code = np.array([-1, *(states.index(c) for c in surv.causes)], dtype=np.int64)
    target = code[surv.status]
    begin = (
        np.array([states.index(v) for v in surv.frame[starts]], dtype=np.int64)
        if starts
        else np.full(len(surv), states.index(initial), dtype=np.int64)
    )
    origin = np.empty(len(surv), dtype=np.int64)
    current = -1
    for k, row in enumerate(order):
        current = begin[row] if k == 0 or not same[k - 1] else current
        origin[row] = current
        current = target[row] if target[row] >= 0 else current
    return states, origin, target, subject


def _rows(
    groups: Groups,
    g: int,
    states: tuple[Any, ...],
    time: FloatArray,
    value: FloatArray,
    error: FloatArray,
    level: float,
    n_risk: FloatArray | None = None,
) -> pd.DataFrame:
    z = float(ndtri(0.5 + level / 2.0))
    parts = []
    for s, state in enumerate(states):
        p, se = value[:, s], error[:, s]
        with np.errstate(divide="ignore", invalid="ignore"):
            spread = np.exp(z * se / p)
        key = {c: [v] * time.size for c, v in groups.frame.iloc[g].items()}
        risk = {} if n_risk is None else {"n_risk": n_risk[:, s].astype(np.int64)}
        low, high = np.where(p > 0, p / spread, np.nan), np.where(p > 0, np.minimum(p * spread, 1.0), np.nan)
        columns = {"estimate": p, "std_error": se, "conf_low": low, "conf_high": high}
        parts.append(pd.DataFrame({**key, "state": [state] * time.size, "time": time, **risk, **columns}))
    return pd.concat(parts, ignore_index=True)
