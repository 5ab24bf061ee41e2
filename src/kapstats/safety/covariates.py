"""Columns of a regression of subjects: one per group but the reference, then ADSL covariates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kapstats import frames
from kapstats._types import FloatArray
from kapstats.errors import DataError, FormulaError

if TYPE_CHECKING:
    from kapstats.safety.incidence import Incidence


def others(ae: Incidence) -> list[int]:
    """Positions of the groups that are compared with the reference."""
    base = ae.arms.index(ae.reference)
    return [i for i in range(len(ae.arms)) if i != base]


def contrasts(ae: Incidence) -> list[str]:
    """ "A - B" for every group against the reference."""
    return [f"{ae.arms[i]} - {ae.reference}" for i in others(ae)]


def need_two_groups(ae: Incidence) -> None:
    """A FormulaError where there is nobody to compare with."""
    if len(ae.arms) < 2:
        raise FormulaError(f"{ae.by} has one group only ({ae.arms[0]}): there is no contrast.")


def design(ae: Incidence, covariates: Sequence[str]) -> FloatArray:
    """(subjects, groups - 1 + columns) without an intercept; a subject without a covariate's value is an error."""
    need_two_groups(ae)
    groups = [(ae.records.arm == i).astype(float) for i in others(ae)]
    extra = [column for name in covariates for column in dummies(ae.records.subjects, name)]
    return np.column_stack([*groups, *extra])


def dummies(subjects: pd.DataFrame, name: str) -> list[FloatArray]:
    """Columns of an ADSL variable: itself when numeric, else one per level after the first."""
    frames.require(subjects, [name], "ADSL")
    values = subjects[name]
    missing = int(values.isna().sum())
    if missing:
        raise DataError(f"ADSL.{name}: {missing} subjects have no value. Impute it, or leave the covariate out.")
    if pd.api.types.is_numeric_dtype(values.dtype):
        return [values.to_numpy(dtype=float)]
    levels = frames.levels(subjects, name)
    return [(levels.codes == k).astype(float) for k in range(1, len(levels.values))]
