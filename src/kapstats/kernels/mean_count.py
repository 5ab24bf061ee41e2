"""Mean cumulative count of recurrent events, with the robust standard error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class MeanCount:
    """Mean number of events per subject: time (t,), n_risk (t,), n_event (t,), mean (t,), std_error (t,)."""

    time: FloatArray
    n_risk: FloatArray
    n_event: FloatArray
    mean: FloatArray
    std_error: FloatArray


def mean_count(event_time: FloatArray, subject: IntArray, end: FloatArray) -> MeanCount:
    """Nelson-Aalen mean of recurrent events (Nelson 1988; Lawless & Nadeau 1995).

    The robust variance is the sum over subjects of the squared integral of (dN_i - Y_i dM)/Y; a subject is at risk up
    to and including `end`.

    Parameters
    ----------
    event_time, subject : (k,) time of each event and whose it is
    end : (n,) end of follow-up of every subject, events or not
    """
    time, at = np.unique(event_time, return_inverse=True)
    n_event = np.bincount(at, minlength=time.size).astype(float)
    ordered = np.sort(end)
    n_risk = end.size - np.searchsorted(ordered, time, side="left").astype(float)
    step = n_event / n_risk
    mean = np.cumsum(step)
    squares = np.zeros(time.size)
    drift = np.concatenate([[0.0], np.cumsum(step / n_risk)])
    last = np.searchsorted(time, end, side="right")
    by_subject = np.argsort(subject, kind="stable")
    bounds = np.searchsorted(subject[by_subject], np.arange(end.size + 1))
    grid = np.arange(1, time.size + 1)
    for i in range(end.size):
        rows = by_subject[bounds[i] : bounds[i + 1]]
        own = np.bincount(at[rows], weights=1 / n_risk[at[rows]], minlength=time.size) if rows.size else 0.0
        influence = (
            np.cumsum(own) - drift[np.minimum(grid, last[i])] if rows.size else -drift[np.minimum(grid, last[i])]
        )
        squares += influence**2
    return MeanCount(time, n_risk, n_event, mean, np.sqrt(squares))
