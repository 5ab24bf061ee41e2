"""Individual times to an event from a published survival curve."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from kapstats import estimates, frames
from kapstats._types import FloatArray, FrameLike, IntArray
from kapstats.errors import DataError, choose, first_ids, nearest, warn
from kapstats.evidence.columns import hints
from kapstats.kernels.reconstruction import Patients, least_squares, patients

TIME = ("time", "t", "x", "aval")
SURVIVAL = ("survival", "estimate", "s", "surv", "y")
AT_RISK = ("n_risk", "at_risk", "n", "nrisk")
METHODS = {"guyot": patients, "least-squares": least_squares}
NAMES = {"guyot": "Guyot et al. 2012", "least-squares": "constrained least squares"}
#: a rise of a clicked curve that is warned about; smaller ones are reading error, and noted
RISE = 0.005
DRAWN = {"std_error", "conf_low", "conf_high", "n_event", "n_censor", "n_risk"}


def reconstruct_ipd(
    curve: FrameLike,
    at_risk: Any = None,
    total_events: Any = None,
    *,
    by: str | None = None,
    method: str = "guyot",
) -> estimates.Estimates:
    """Individual times and event indicators whose Kaplan-Meier curve is the printed one.

    At a click with survival :math:`S_k`, :math:`n_k` at risk and curve :math:`\\hat S` so far, the number of events is
    :math:`d_k = [n_k (1 - S_k / \\hat S)]`, rounded. Within each interval of the at-risk table the number censored is
    found so that the next number at risk is met; the censored are spread evenly over the interval.

    Parameters
    ----------
    curve : clicked points: `time`, `survival` (0 to 1, or percent), and a column for the group where there are several.
        The result of `kaplan_meier` (time, estimate) will do
    at_risk : the table under the figure: `time`, `n_risk` (and the group); or the number at the start (a number, or one
        per group in a mapping)
    total_events : number of events where it is printed (a number, or one per group): it settles the censoring after the
        last time of the at-risk table, or from the start when only the number at the start is known
    by : the group column; by default the one column that is neither time nor survival
    method : "guyot"; or "least-squares", which goes on from there to the whole numbers of events whose curve is nearest
        to the clicks, numbers at risk and total events being met exactly

    Returns
    -------
    Estimates
        One row per patient: the group, ``time``, ``event`` (1 event, 0 censored). ``.meta``: ``largest_gap`` and
        ``root_mean_square`` between the curve redrawn from these rows and the clicks, per group; ``events``.

    Raises
    ------
    DataError
        Without a number at risk; for survival outside its range, numbers at risk that rise, missing groups.

    Agrees with
    -----------
    the algorithm of the paper; round trips on simulated curves are in the tests.

    References
    ----------
    Guyot P, Ades AE, Ouwens MJNM, Welton NJ (2012), BMC Medical Research Methodology 12:9.

    Examples
    --------
    >>> patients = reconstruct_ipd({"time": [1, 2, 3], "survival": [0.9, 0.7, 0.6]}, at_risk=10)
    >>> patients.filter(event=1)["time"].tolist()
    [1.0, 2.0, 2.0, 3.0]
    """
    choose(method, METHODS, "method")
    frame = frames.to_pandas(curve)
    time, survival = _named(frame, TIME, "curve"), _named(frame, SURVIVAL, "curve")
    if frame.empty:
        raise DataError("curve: no points.")
    group = by if by is not None else _group(frame, time, survival)
    names = [None] if group is None else list(frames.levels(frame, group).values)
    _known_groups(total_events, names, "total_events")
    parts, fits, notes, small = [], {}, list[str](), list[str]()
    for name in names:
        part = frame if group is None else frame[frame[group] == name]
        label = "all" if name is None else str(name)
        t, s, raised = _clicks(part, time, survival)
        rise, points = raised
        if rise > 0:
            told = notes if rise > RISE else small
            told.append(
                f"{label}: the curve rises by up to {rise:.3g} at time {points}; values were put in falling order."
            )
        risk_time, risk = _risk(at_risk, group, name)
        total = total_events.get(name) if isinstance(total_events, Mapping) else total_events
        made = METHODS[method](t, s, risk_time, risk, None if total is None else int(total))
        rows = _rows(made)
        parts.append(rows if group is None else rows.assign(**{group: name})[[group, "time", "event"]])
        fits[label] = made
        if len(risk) == 1 and total is None:
            notes.append(
                f"{label}: with the number at the start alone censoring is not identified: all who leave are taken for "
                "events until the curve ends. Give numbers at risk over time, or total_events=."
            )
        if total is not None and len(made.events) != int(total):
            notes.append(
                f"{label}: {len(made.events)} events fit the curve and the numbers at risk, {total} are stated."
            )
        if made.largest_gap > 0.05:
            notes.append(
                f"{label}: the redrawn curve is up to {made.largest_gap:.3f} from the clicks. Check the input."
            )
    for note in notes:
        warn(note)
    about = estimates.meta(
        method=f"reconstruction of individual times ({NAMES[method]})",
        level=None,
        title="Reconstructed individual times",
        sentence="; ".join(
            f"{k}: {len(f.events) + len(f.censored)} patients, {len(f.events)} events, curve within {f.largest_gap:.4f}"
            for k, f in fits.items()
        ),
        conventions=small,
        warnings=notes,
        data=frame,
        frame_kind=frames.kind(curve),
        largest_gap={k: f.largest_gap for k, f in fits.items()},
        root_mean_square={k: f.root_mean_square for k, f in fits.items()},
        events={k: len(f.events) for k, f in fits.items()},
    )
    return estimates.Estimates(pd.concat(parts, ignore_index=True), about)


def _named(frame: pd.DataFrame, known: tuple[str, ...], where: str) -> str:
    found = [c for name in known for c in frame.columns if str(c).lower() == name]
    if not found:
        hint = hints(frame.columns, [known[0]])
        raise DataError(f"{where}: no column {known[0]!r}.{hint} It has: {', '.join(map(str, frame.columns))}.")
    return str(found[0])


def _group(frame: pd.DataFrame, time: str, survival: str) -> str | None:
    others = [c for c in frame.columns if c not in (time, survival) and str(c) not in DRAWN]
    if len(others) > 1:
        raise DataError(f"curve: which column is the group? Say by=; there are {', '.join(map(str, others))}.")
    return str(others[0]) if others else None


def _clicks(part: pd.DataFrame, time: str, survival: str) -> tuple[FloatArray, FloatArray, tuple[float, str]]:
    """Clicks in order of time, survival as a proportion that never rises, from 1 at time 0; where it rose.

    Rising clicks are rearranged: times and survivals are sorted each, which undoes exchanged clicks and is never
    further from a falling curve than the clicks were (Chernozhukov, Fernandez-Val & Galichon 2009). Of the two ends of
    a step clicked at one time the lower is the curve.
    """
    t, s = (frames.numbers(part, c, "curve") for c in (time, survival))
    whole = np.isfinite(t) & np.isfinite(s)
    t, s = t[whole], s[whole]
    if not len(t):
        raise DataError("curve: no point has a time and a survival.")
    if s.max() > 1.5:
        s = s / 100
    if s.max() > 1.02 or s.min() < -0.02 or t.min() < 0:
        raise DataError("curve: survival lies between 0 and 1 (or 0 and 100%), times are not negative.")
    order = np.lexsort((-s, t))
    t, s = t[order], np.clip(s[order], 0, 1)
    raised = _rises(t, s)
    s = np.sort(s)[::-1]
    lowest = np.append(np.diff(t) > 0, True)
    t, s = t[lowest], s[lowest]
    if t[0] > 0:
        t, s = np.append(0.0, t), np.append(1.0, s)
    return t, s, raised


def _known_groups(given: Any, names: list[Any], argument: str) -> None:
    """Whether a mapping by group names groups that the curve has."""
    unknown = [g for g in given if g not in names] if isinstance(given, Mapping) else []
    if unknown:
        hint = nearest(str(unknown[0]), map(str, names))
        raise DataError(f"{argument}: the curve has no group {unknown[0]!r}.{hint} It has: {first_ids(names)}.")


def _rises(t: FloatArray, s: FloatArray) -> tuple[float, str]:
    """By how much clicks are above an earlier one at most, and which ones are."""
    above = s - np.minimum.accumulate(s)
    return float(above.max()), first_ids(f"{t[i]:g} ({s[i]:.3g})" for i in np.flatnonzero(above > 0))


def _risk(at_risk: Any, group: str | None, name: Any) -> tuple[FloatArray, IntArray]:
    """Times and numbers of the at-risk table of one group."""
    if at_risk is None:
        raise DataError(
            "reconstruct_ipd: give at_risk=, a table of time and n_risk, or at least the number at the start."
        )
    if isinstance(at_risk, Mapping) and name in at_risk and np.isscalar(at_risk[name]):
        at_risk = at_risk[name]
    if isinstance(at_risk, (int, float, np.integer, np.floating)):
        return np.array([0.0]), np.array([int(at_risk)])
    frame = frames.to_pandas(at_risk)
    time, number = _named(frame, TIME, "at_risk"), _named(frame, AT_RISK, "at_risk")
    if group is not None and group in frame.columns:
        frame = frame[frame[group] == name]
    if frame.empty:
        raise DataError(f"at_risk: no row for {name!r}.")
    frame = frame.sort_values(time)
    times, numbers = (pd.to_numeric(frame[c], errors="coerce").to_numpy(dtype=float) for c in (time, number))
    if not (np.isfinite(times).all() and np.isfinite(numbers).all()):
        raise DataError(f"at_risk: {time} and {number} must be numbers in every row.")
    rises = times[1:][np.diff(numbers) > 0]
    if len(rises):
        raise DataError(f"at_risk: the number at risk rises at time {first_ids(rises)}.")
    if times[0] > 0:
        raise DataError(f"at_risk: begins at time {times[0]:g}; it must begin at 0.")
    return times, np.round(numbers).astype(np.int64)


def _rows(made: Patients) -> pd.DataFrame:
    times = np.concatenate([made.events, made.censored])
    events = np.repeat([1, 0], [len(made.events), len(made.censored)])
    order = np.lexsort((-events, times))
    return pd.DataFrame({"time": times[order], "event": events[order]})
