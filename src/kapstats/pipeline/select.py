"""Rows for one analysis: a dataset, a population, conditions; every step counted."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from kapstats import frames
from kapstats._types import BoolArray
from kapstats.data.trial import Trial
from kapstats.errors import DataError, FormulaError, first_ids, nearest

_CONDITION = re.compile(r"\s*([A-Za-z_]\w*)\s*(==|!=|<=|>=|<|>|\bnot in\b|\bin\b|\bis\b)\s*(.+?)\s*$")


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
    steps = [f"{dataset.upper()}: {len(frame)} records" + (f" of subjects with {population}" if population else "")]
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
    whose = f" with {population}" if population else ""
    return f"{absent} of {len(everybody)} subjects{whose} have no such record" if absent else ""


def holds(frame: pd.DataFrame, condition: str, name: str = "data") -> BoolArray:
    """Where a condition holds, (rows,); comparisons with a missing value are false.

    Examples
    --------
    >>> frame = pd.DataFrame({"AVISITN": [0, 7, 14], "DTYPE": ["", "LOCF", None]})
    >>> holds(frame, "AVISITN > 0").tolist(), holds(frame, "DTYPE is missing").tolist()
    ([False, True, True], [True, False, True])
    """
    match = _CONDITION.match(condition)
    if match is None:
        raise FormulaError(
            f"Condition {condition!r}: write COLUMN == 'value', COLUMN > 0, COLUMN in [..] or COLUMN is missing."
        )
    column, sign, right = match.groups()
    frames.require(frame, [column], name)
    values = frame[column]
    absent = values.isna().to_numpy() | values.astype("string").fillna("").str.strip().eq("").to_numpy(dtype=bool)
    if sign == "is":
        return _is_missing(right, absent, condition)
    wanted = _literal(right, condition)
    if sign in ("in", "not in"):
        inside = values.isin(list(wanted)).to_numpy()
        return (inside if sign == "in" else ~inside) & ~absent
    found = _compare(values, sign, wanted, condition)
    _check_known(values, sign, wanted, condition, absent)
    return found & ~absent


def _is_missing(right: str, absent: BoolArray, condition: str) -> BoolArray:
    if right not in ("missing", "not missing"):
        raise FormulaError(f"Condition {condition!r}: 'is' is followed by 'missing' or 'not missing'.")
    return absent if right == "missing" else ~absent


def _literal(text: str, condition: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise FormulaError(f"Condition {condition!r}: {text!r} is not a value; put text in quotes.") from None


def _compare(values: pd.Series, sign: str, wanted: Any, condition: str) -> BoolArray:
    operators = {
        "==": np.equal, "!=": np.not_equal, "<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal,
    }  # fmt: skip
    if isinstance(wanted, str) and sign in ("==", "!="):
        return operators[sign](values.astype("string").fillna("").to_numpy(dtype=str), wanted)
    if isinstance(wanted, bool) or not isinstance(wanted, int | float):
        raise FormulaError(f"Condition {condition!r}: compare with a number, or use == or != with text.")
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=float)
    return operators[sign](numbers, float(wanted)) & np.isfinite(numbers)


def _check_known(values: pd.Series, sign: str, wanted: Any, condition: str, absent: BoolArray) -> None:
    """An equality that no row meets is more likely misspelt than meant."""
    if sign != "==" or not isinstance(wanted, str):
        return
    known = [str(v) for v in pd.unique(values[~absent])]
    if wanted not in known:
        raise DataError(
            f"Condition {condition!r}: no row has it.{nearest(wanted, known)} There are: {first_ids(known)}."
        )
