"""Subjects at baseline, per arm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from kapstats import frames
from kapstats._types import FrameLike
from kapstats.data import contract
from kapstats.data.conventions import LABELS, is_date
from kapstats.data.summarise import Cells, groups, level_rows, number_rows, summarise, who
from kapstats.data.summary import Summary
from kapstats.data.trial import ARM_COLUMNS, Trial
from kapstats.errors import DataError, choose

USUAL = ("AGE", "AGEGR1", "SEX", "RACE", "ETHNIC", "WEIGHT", "WEIGHTBL", "HEIGHTBL", "BMIBL", "BMIBLGR1", "MADRSBL")


def baseline_table(
    trial: Trial | FrameLike,
    by: str | None = "TRT01P",
    variables: Sequence[str] | None = None,
    *,
    labels: Mapping[str, str] | None = None,
    categorical: Iterable[str] = (),
    total: bool = True,
    denominator: str = "N",
    convention: str = "SAS",
) -> Summary:
    """Subjects at baseline, per arm: moments and quartiles of numbers, counts and percentages of categories.

    Parameters
    ----------
    trial : a Trial (its ADSL is described; take a population first) or one row per subject
    by : the grouping variable, in the order of the data standard; None for all subjects together
    variables : what is described; by default the usual ones that are there (age, sex, race, weight, baseline score),
        and where none is, every column but ids, dates and the arm
    labels : how variables are called in the table; by default the labels of the datasets, else the usual words
    categorical : number columns to be counted by value
    total : a last column with all subjects
    denominator : percentages of all subjects of the group ("N") or of those with a value ("n")
    convention : "SAS": quartiles by PCTLDEF=5, printed numbers rounded half away from zero; "R": quartiles by type 7,
        halves rounded to even

    Returns
    -------
    Summary
        ``to_frame()``: variable, level (missing for numbers), group; N, n, percent, mean, sd, median, q1, q3, minimum,
        maximum. No tests: differences at baseline between randomised arms are chance by design.

    Raises
    ------
    DataError
        For variables that are not in ADSL.

    Agrees with
    -----------
    independent recounts of the CDISC pilot (exactly).

    Examples
    --------
    >>> adsl = {"USUBJID": [1, 2, 3, 4], "TRT01P": list("AABB"), "AGE": [40, 50, 30, 50], "SEX": list("FMFF")}
    >>> table = baseline_table(adsl, variables=["AGE", "SEX"])
    >>> table.filter(variable="SEX", level="F", TRT01P="B")["n"].tolist()
    [2.0]
    """
    choose(convention, ("SAS", "R"), "convention")
    choose(denominator, ("N", "n"), "denominator")
    subjects = trial.adsl if isinstance(trial, Trial) else frames.to_pandas(trial)
    chosen = _described(subjects, by) if variables is None else list(variables)
    frames.require(subjects, [*chosen, *([by] if by else [])], "ADSL")
    contract.one_row_each(subjects, "take one row of each subject")
    columns = groups(subjects, by, total)
    known = {**LABELS, **(trial.labels.get("adsl", {}) if isinstance(trial, Trial) else {}), **(labels or {})}
    rows: list[dict[str, Any]] = []
    printed: Cells = []
    indent: list[int] = []
    for name in chosen:
        is_number = pd.api.types.is_numeric_dtype(subjects[name].dtype) and name not in set(categorical)
        is_number = is_number and not pd.api.types.is_bool_dtype(subjects[name].dtype)
        made, cells = (
            number_rows(subjects, name, columns, convention)
            if is_number
            else level_rows(subjects, name, columns, denominator, convention)
        )
        rows += made
        printed += [(known.get(name) or name, *("" for _ in columns.names)), *cells]
        indent += [0, *(1 for _ in cells)]
    notes = [f"Quartiles as {convention}; percentages of {'all subjects' if denominator == 'N' else 'known values'}."]
    return summarise(
        rows, printed, indent, columns, "Baseline characteristics", who(trial, columns), notes, subjects, convention
    )


def _described(subjects: pd.DataFrame, by: str | None) -> list[str]:
    """The usual variables that are there, else every column that describes: no arm, no date, and no id."""
    usual = [c for c in USUAL if c in subjects.columns]
    if usual:
        return usual
    others = [c for c in subjects.columns if c != by and str(c).removesuffix("N") not in (by, *ARM_COLUMNS)]
    found = [c for c in others if not _is_id(subjects[c], str(c))]
    if not found:
        raise DataError(f"baseline_table: no column to describe beside {by}. Name them in variables=[...].")
    return found


def _is_id(values: pd.Series, name: str) -> bool:
    """Whether a column names subjects or dates, or holds things that are neither numbers nor texts."""
    if values.dtype.kind in "mM" or is_date(name) or name.upper() in ("USUBJID", "SUBJID", "STUDYID", "ID"):
        return True
    if pd.api.types.is_float_dtype(values.dtype) or pd.api.types.is_bool_dtype(values.dtype):
        return bool(values.isna().all())
    try:
        return len(values) > 1 and not values.duplicated().any()
    except TypeError:
        return True
