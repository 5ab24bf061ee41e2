"""Rows for one analysis: a dataset, a population, conditions; every step counted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from kapstats import frames
from kapstats.data import conventions
from kapstats.data.conditions import holds
from kapstats.data.trial import Trial
from kapstats.errors import DataError


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows kept, and what happened to the others in words.

    without : how many subjects of the population have no row left, in words; empty when all have
    """

    frame: pd.DataFrame
    steps: tuple[str, ...]
    without: str = ""


def select(trial: Trial, dataset: str, population: str, where: Iterable[str], joined: Iterable[str] = ()) -> Rows:
    """Rows of `dataset` of the subjects in `population` for which every condition of `where` holds.

    Parameters
    ----------
    joined : columns to take from ADSL where the dataset lacks them

    Raises
    ------
    DataError
        When nothing is left, or a column is missing.
    """
    chosen = trial.population(population) if population else trial
    frame = getattr(chosen, dataset)
    lacking = [c for c in joined if c not in frame.columns and "adsl" in chosen and c in chosen.adsl.columns]
    if lacking:
        frames.require(frame, ["USUBJID"], dataset.upper())
        frame = chosen.joined(dataset, lacking)
    of = f" of {conventions.population(population)}" if population else ""
    steps = [f"{dataset.upper()}: {len(frame)} records{of}"]
    for condition in where:
        keep = holds(frame, condition, dataset.upper())
        frame = frame.loc[keep].reset_index(drop=True)
        steps.append(f"{condition}: {len(frame)} left")
    if frame.empty:
        raise DataError(f"No row of {dataset.upper()} is left. " + "; ".join(steps) + ".")
    return Rows(frame, tuple(steps), _without(chosen, frame, population))


def _without(chosen: Trial, frame: pd.DataFrame, population: str) -> str:
    if "adsl" not in chosen or "USUBJID" not in frame.columns:
        return ""
    everybody = set(chosen.adsl["USUBJID"])
    absent = len(everybody - set(frame["USUBJID"]))
    whose = f" of {conventions.population(population)}" if population else ""
    return f"{absent} of {len(everybody)} subjects{whose} have no such record" if absent else ""
