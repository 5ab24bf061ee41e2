"""What a result says, whatever its type: its numbers and labels by place, for comparison."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

import kapstats as ks
from kapstats.errors import KapstatsError, KapstatsWarning
from tests.battery.cases import Case


@dataclass(frozen=True)
class Answers:
    """A result, the answers to the questions asked of it, and what was warned meanwhile.

    said : by the name of the question ("" for the result itself); a KapstatsError where a question was refused
    warned : texts of our warnings; foreign : warnings of others (numpy, pandas)
    """

    result: Any
    said: dict[str, Any]
    warned: tuple[str, ...]
    foreign: tuple[str, ...]
    carried: frozenset[Any] = frozenset()


def answers(case: Case, given: Mapping[str, Any], **options: Any) -> Answers:
    """Call the verb on `given` and ask everything; a refusal of the verb is raised, one of a question is an answer."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = case.call(**given, **options)
        said: dict[str, Any] = {"": result}
        for question in case.asks:
            try:
                said[_free(question.name, said)] = question(result)
            except KapstatsError as error:
                said[_free(question.name, said)] = error
    ours = tuple(str(w.message) for w in caught if issubclass(w.category, KapstatsWarning))
    theirs = tuple(f"{w.category.__name__}: {w.message}" for w in caught if not _quiet(w))
    return Answers(result, said, ours, theirs, _carried(case, given))


def _carried(case: Case, given: Mapping[str, Any]) -> frozenset[Any]:
    """Columns of the tables that the call does not name, which some answers carry along."""
    if not case.carries:
        return frozenset()
    columns = {c for frame in case.tables.values() for c in frame.columns}
    columns |= {c for frame in given.values() if isinstance(frame, pd.DataFrame) for c in frame.columns}
    return frozenset(columns - set(case.uses))


def _free(name: str, taken: Mapping[str, Any]) -> str:
    return name if name not in taken else _free(f"{name}'", taken)


def _quiet(caught: warnings.WarningMessage) -> bool:
    """Ours, or a DeprecationWarning of a library about a library (never shown to a user)."""
    return issubclass(caught.category, (KapstatsWarning, DeprecationWarning, PendingDeprecationWarning))


Facts = dict[tuple[Any, ...], Any]


def facts(given: Answers, *, ordered: bool = True, without: str = "") -> Facts:
    """Everything the answers say: place to number or text. `ordered=False` sorts rows first, `without` a column."""
    found: Facts = {}
    for name, answer in given.said.items():
        _collect(answer, (name,), found, ordered, without)
    return {place: value for place, value in found.items() if len(place) < 2 or place[-2] not in given.carried}


def _collect(answer: Any, place: tuple[Any, ...], found: Facts, ordered: bool, without: str) -> None:
    if isinstance(answer, KapstatsError):
        found[(*place, "refused")] = type(answer).__name__
    elif isinstance(answer, (bool, np.bool_, str)) or answer is None:
        found[place] = answer
    elif isinstance(answer, (int, float, np.number)):
        found[place] = float(answer)
    elif (frame := as_frame(answer)) is not None:
        _collect_frame(frame.drop(columns=without, errors="ignore"), place, found, ordered)
    elif isinstance(answer, Mapping):
        for key, value in answer.items():
            _collect(value, (*place, key), found, ordered, without)
    elif isinstance(answer, (list, tuple, np.ndarray, pd.Series)):
        for k, value in enumerate(list(answer)):
            _collect(value, (*place, k), found, ordered, without)


def as_frame(answer: Any) -> pd.DataFrame | None:
    """The rows of an answer as pandas, or None where it is no table."""
    if isinstance(answer, pd.DataFrame):
        return answer
    if isinstance(answer, ks.Table):
        return pd.DataFrame(list(answer.rows), columns=range(len(answer.columns)))
    if isinstance(answer, ks.Trial):
        return None
    if type(answer).__module__.split(".")[0] in ("polars", "pyarrow"):
        return answer.to_pandas() if hasattr(answer, "to_pandas") else None
    if hasattr(answer, "to_frame") and not isinstance(answer, (pd.Series, pd.Index)):
        return as_frame(answer.to_frame())
    estimates = getattr(answer, "estimates", None) if dataclasses.is_dataclass(answer) else None
    return estimates.to_frame() if isinstance(estimates, ks.Estimates) else None


def _collect_frame(frame: pd.DataFrame, place: tuple[Any, ...], found: Facts, ordered: bool) -> None:
    plain = frame.reset_index(drop=True)
    if not ordered:
        plain = _sorted(plain)
    for name in plain.columns:
        for k, value in enumerate(plain[name].tolist()):
            found[(*place, name, k)] = plainly(value)


def _sorted(frame: pd.DataFrame) -> pd.DataFrame:
    floats = [c for c in frame.columns if pd.api.types.is_float_dtype(frame[c].dtype)]
    keys = frame[[*(c for c in frame.columns if c not in floats), *floats]].map(
        lambda v: f"{v:.5g}" if isinstance(v, float) else str(v)
    )
    return frame.loc[keys.sort_values(list(keys.columns)).index].reset_index(drop=True)


def plainly(value: Any) -> Any:
    """A cell as float, text or None; every kind of missing is NaN."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if value is None or value is pd.NaT or value is pd.NA:
        return math.nan
    if isinstance(value, (int, float, np.number, Decimal)):
        return float(value)
    readable = not isinstance(value, (bytes, dict, list, set)) and type(value).__hash__ is not None
    return str(value) if readable else type(value).__name__


def differences(a: Facts, b: Facts, rtol: float = 1e-9) -> list[str]:
    """Where two results differ: numbers by more than `rtol` of the largest in their column, texts at all."""
    if a.keys() != b.keys():
        only = [*(k for k in a if k not in b), *(k for k in b if k not in a)]
        return [f"{_named(k)}: {a.get(k, 'absent')!r} v {b.get(k, 'absent')!r}" for k in only[:6]]
    sizes: dict[tuple[Any, ...], float] = {}
    for place, value in a.items():
        if isinstance(value, float) and math.isfinite(value):
            sizes[place[:-1]] = max(sizes.get(place[:-1], 1e-3), abs(value))
    return [f"{_named(k)}: {a[k]!r} v {b[k]!r}" for k in a if not _same(a[k], b[k], rtol * sizes.get(k[:-1], 1.0))][:8]


def _same(a: Any, b: Any, tolerance: float) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return (math.isnan(a) and math.isnan(b)) or a == b or abs(a - b) <= tolerance
    return bool(a == b)


def _named(place: tuple[Any, ...]) -> str:
    return ".".join(str(p) for p in place if p != "")


def frames_of(given: Answers) -> dict[str, pd.DataFrame]:
    """The answers that are tables of estimates or of anything else."""
    shown = {name: as_frame(answer) for name, answer in given.said.items()}
    return {name: frame for name, frame in shown.items() if frame is not None}
