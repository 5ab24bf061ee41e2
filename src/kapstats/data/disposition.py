"""Where the subjects of a trial went."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from kapstats import frames
from kapstats._types import FrameLike
from kapstats.data.conventions import POPULATIONS
from kapstats.data.flags import is_yes
from kapstats.data.summarise import count_percent, groups, share, summarise, who
from kapstats.data.summary import Summary
from kapstats.data.trial import Trial
from kapstats.errors import DataError, choose

#: ADSL columns that say why a subject left
REASONS = ("DCSREAS", "DCDECOD", "DCTREAS")


def disposition(
    trial: Trial | FrameLike, by: str | None = "TRT01P", *, total: bool = True, convention: str = "SAS"
) -> Summary:
    """Where the subjects went: populations, completed, discontinued and why.

    Parameters
    ----------
    trial : a Trial or one row per subject, with the population flags, EOSSTT (end-of-study status) and DCSREAS or
        DCDECOD (reason for discontinuation) that are there
    by : the grouping variable
    convention : percentages rounded half away from zero ("SAS") or halves to even ("R")

    Returns
    -------
    Summary
        ``to_frame()``: section (population, status, reason), level, group, N, n, percent of N. Reasons in order of
        their total, then by name. Without EOSSTT a subject with a reason other than "completed" has discontinued.

    Raises
    ------
    DataError
        When nothing says who completed.

    Examples
    --------
    >>> adsl = {"USUBJID": [1, 2, 3], "TRT01P": list("AAB"), "DCSREAS": [None, "Adverse Event", None]}
    >>> disposition(adsl).filter(section="status", level="Discontinued", TRT01P="A")["n"].tolist()
    [1.0]
    """
    choose(convention, ("SAS", "R"), "convention")
    subjects = trial.adsl if isinstance(trial, Trial) else frames.to_pandas(trial)
    columns = groups(subjects, by, total)
    status, reason = _status(subjects)
    flags = {flag: name for flag, name in POPULATIONS.items() if flag in subjects}
    lines: list[tuple[str, str, Any]] = [
        ("population", name, is_yes(subjects[flag], f"ADSL.{flag}")) for flag, name in flags.items()
    ]
    lines += [("status", name, status == name) for name in ("Completed", "Ongoing", "Discontinued", "Unknown")]
    lines += [("reason", name, (reason == name) & (status == "Discontinued")) for name in _ordered(reason, status)]
    rows, printed, indent = [], [], []
    for section, name, chosen in lines:
        mask = np.asarray(chosen, dtype=bool)
        if section == "status" and name in ("Ongoing", "Unknown") and not mask.any():
            continue
        counts = [int((mask & r).sum()) for r in columns.rows]
        rows += [
            {
                "section": section,
                "level": name,
                columns.column: g,
                "N": float(size),
                "n": float(n),
                "percent": share(n, size),
            }
            for g, size, n in zip(columns.names, columns.sizes, counts, strict=True)
        ]
        printed.append(
            (name, *(count_percent(n, size, convention) for n, size in zip(counts, columns.sizes, strict=True)))
        )
        indent.append(1 if section == "reason" else 0)
    return summarise(
        rows, printed, indent, columns, "Disposition of subjects", who(trial, columns), [], subjects, convention
    )


def _status(subjects: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Completed, Ongoing, Discontinued or Unknown, and the reason as text."""
    name = next((c for c in REASONS if c in subjects.columns), None)
    empty = pd.Series("", index=subjects.index)
    reason = empty if name is None else subjects[name].astype("object").where(subjects[name].notna(), "").astype(str)
    completed_reason = reason.str.casefold().isin(["", "completed", "study completed"])
    if "EOSSTT" in subjects.columns:
        stated = subjects["EOSSTT"].astype("object").where(subjects["EOSSTT"].notna(), "Unknown").astype(str)
        status = stated.str.capitalize().where(
            stated.str.capitalize().isin(["Completed", "Ongoing", "Discontinued"]), "Unknown"
        )
    elif name is None:
        raise DataError("disposition: ADSL has neither EOSSTT nor DCSREAS, DCDECOD; nothing says who completed.")
    else:
        status = pd.Series(np.where(completed_reason, "Completed", "Discontinued"), index=subjects.index)
    return status, reason.where(reason != "", "Reason not stated")


def _ordered(reason: pd.Series, status: pd.Series) -> list[str]:
    counts = reason[(status == "Discontinued").to_numpy()].value_counts()
    return sorted(counts.index, key=lambda name: (-counts[name], name))
