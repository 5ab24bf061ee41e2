"""The keys of a table: which rows belong to one subject, and whether the analysis takes that many."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import pandas as pd

from kapstats.errors import RepeatedSubjects, first_ids, warn

SUBJECT = "USUBJID"
#: columns that tell several rows of a subject apart, the first that does is named
PARTS = ("PARAMCD", "PARAM", "APERIOD", "AVISIT", "AVISITN", "VISIT", "SESSION", "ATPT", "ATPTN", "DTYPE", "ASEQ")
#: parameters are analysed one at a time, whatever the design
PARAMETERS = ("PARAMCD", "PARAM")
#: columns of the arm to which a subject was randomised, or which was given
ARM = re.compile(r"(?i)^trt|(?<![a-z])(arm|group|treatment|randomi[sz]ed)(?![a-z])|arm$")
SITE = re.compile(r"(?i)site|cent(re|er)|stud|region|hospital|clinic|country|cluster|group|block")
#: columns that say that a subject has several treatments by design
PERIOD = re.compile(r"(?i)period|sequence|session|cross")


def one_row_each(
    rows: pd.DataFrame, remedy: str, named: Iterable[str] = (), subject: str | None = None
) -> tuple[str, ...]:
    """Warn when subjects have several rows in an analysis that takes every row as a subject of its own.

    Parameters
    ----------
    rows : the rows used
    remedy : what the caller offers for several rows of a subject
    named : columns of the formula that may tell a subject's rows apart (groups of a curve)
    subject : the column of the subject; USUBJID by default, and nothing is said where there is none

    Examples
    --------
    >>> import warnings
    >>> rows = pd.DataFrame({"USUBJID": [1, 1, 2], "PARAMCD": ["RELAPSE", "DEATH", "DEATH"]})
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     said = one_row_each(rows, "name the cluster")
    >>> said[0].split(", and")[0]
    'USUBJID: 1 subjects have several rows (3 rows; PARAMCD is RELAPSE, DEATH)'
    """
    key = subject or SUBJECT
    if key not in rows.columns:
        return ()
    again = rows[list(dict.fromkeys([key, *named]))].duplicated(keep=False)
    if not again.any():
        return ()
    part = next((c for c in PARTS if c in rows.columns and c != key and _varies(rows, key, c).any()), None)
    why = f"; {part} is {first_ids(rows[part].dropna().unique(), 4)}" if part else ""
    keep = f"Keep one {part}, or {remedy}." if part else f"Keep one row of each, or {remedy}."
    count = rows.loc[again, key].nunique()
    return (
        warn(
            f"{key}: {count} subjects have several rows ({len(rows)} rows{why}), and every row is analysed as a "
            f"subject of its own. {keep}",
            RepeatedSubjects,
        ),
    )


def one_parameter(rows: pd.DataFrame, named: Iterable[str]) -> tuple[str, ...]:
    """Warn when the rows of a model hold several parameters and no term of it tells them apart."""
    known = set(named)
    name = next((c for c in PARAMETERS if c in rows.columns and rows[c].nunique() > 1), None)
    if name is None or known & set(PARAMETERS):
        return ()
    values = first_ids(rows[name].dropna().unique(), 4)
    return (warn(f"{name}: the rows used mix {rows[name].nunique()} values ({values}). Keep one.", RepeatedSubjects),)


def subject_of(rows: pd.DataFrame, groups: Sequence[str]) -> str | None:
    """USUBJID, else the finest of `groups` that does not stand for sites or studies."""
    if SUBJECT in rows.columns:
        return SUBJECT
    own = [g for g in groups if g in rows.columns and not SITE.search(str(g))]
    return max(own, key=lambda g: rows[g].nunique(), default=None)


def one_arm_each(rows: pd.DataFrame, factors: Sequence[str], subject: str) -> tuple[str, ...]:
    """Warn when an arm of the model changes within some subjects, and neither a period nor most subjects say why."""
    if any(PERIOD.search(str(c)) for c in factors):
        return ()
    said = []
    for name in (c for c in factors if ARM.search(str(c)) and c in rows.columns):
        changes = _varies(rows, subject, name)
        if 0 < changes.sum() <= len(changes) / 2:
            who = first_ids(changes.index[changes])
            said.append(
                warn(
                    f"{name} changes within {int(changes.sum())} of {len(changes)} subjects ({subject} {who}): they "
                    "count in both arms. Correct it, or name the period in the model.",
                )
            )
    return tuple(said)


def _varies(rows: pd.DataFrame, subject: str, column: str) -> pd.Series:
    """Per subject whether `column` has several values."""
    try:
        return rows.groupby(subject, sort=False, observed=True)[column].nunique() > 1
    except TypeError:  # lists and dicts tell nothing apart
        return pd.Series(False, index=rows[subject].unique())
