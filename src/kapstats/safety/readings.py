"""Readings of a subject in the hours after a dose: repeated, missed, and summarised."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from kapstats._types import FloatArray
from kapstats.errors import DataError, first_ids, warn


def one_reading(frame: pd.DataFrame, by: str, time: str, session: int | None) -> None:
    """Several readings of a subject at one time are an error that names the subjects."""
    again = frame[[by, "USUBJID", time]].duplicated(keep=False)
    if not again.any():
        return
    remedy = "" if session is not None else "choose a session=, or "
    raise DataError(
        f"{int(again.sum())} readings are not the only one of their subject and {time} "
        f"({first_ids(frame.loc[again, 'USUBJID'])}): {remedy}say duplicates='mean' or 'max'."
    )


def missed(values: FloatArray, ids: Any, baseline: bool) -> list[str]:
    """Warnings for subjects without all the readings."""
    nothing, some = np.isnan(values).all(axis=1), np.isnan(values).any(axis=1)
    said = []
    if baseline and nothing.any():
        who = first_ids(ids[nothing])
        text = f"{int(nothing.sum())} subjects have no reading at the first time, hence no change ({who})."
        said.append(warn(text))
    some &= ~nothing
    if some.any():
        text = (
            f"{int(some.sum())} of {len(values)} subjects miss a reading ({first_ids(ids[some])}): their peak and time "
            "above are of the readings that are there, and they have no area."
        )
        said.append(warn(text))
    return said


def of_readings(values: FloatArray, times: FloatArray, threshold: float) -> dict[str, FloatArray]:
    """Summaries of every subject with a reading; no area where one is missing."""
    there = ~np.isnan(values)
    found = subject_summaries(np.where(there, values, 0.0), times, threshold)
    for i in np.flatnonzero(~there.all(axis=1)):
        own = subject_summaries(values[i : i + 1, there[i]], times[there[i]], threshold) if there[i].any() else {}
        for name in found:
            found[name][i] = np.nan if name == "area" or not own else own[name][0]
    return found


def subject_summaries(values: FloatArray, times: FloatArray, threshold: float) -> dict[str, FloatArray]:
    """(subjects,) peak, time of peak (first), trapezoidal area, minutes above a threshold, and peak above it."""
    width = np.diff(times)
    left, right = values[:, :-1] - threshold, values[:, 1:] - threshold
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = np.where(left * right < 0, np.maximum(left, right) / np.abs(right - left), 0.0)
    share = np.where((left > 0) & (right > 0), 1.0, np.where(left * right < 0, crossing, 0.0))
    share = np.where((left == 0) & (right > 0) | (left > 0) & (right == 0), 1.0, share)
    return {
        "peak": values.max(axis=1),
        "time of peak": times[values.argmax(axis=1)],
        "area": ((values[:, :-1] + values[:, 1:]) / 2 * width).sum(axis=1),
        "time above": (share * width).sum(axis=1),
        "above at peak": (values.max(axis=1) > threshold).astype(float),
    }
