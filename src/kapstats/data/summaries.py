"""Descriptive tables of a trial: who was in it, where they went, what they were given, and listings."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kapstats import estimates, frames
from kapstats._types import BoolArray, FrameLike
from kapstats.data.summary import (
    Groups,
    Summary,
    count_percent,
    decimals,
    describe,
    groups,
    moment_rows,
    natural_levels,
    text,
)
from kapstats.data.trial import Trial, is_yes
from kapstats.errors import DataError, FormulaError, choose, first_ids
from kapstats.table import Table

USUAL = ("AGE", "AGEGR1", "SEX", "RACE", "ETHNIC", "WEIGHT", "WEIGHTBL", "HEIGHTBL", "BMIBL", "BMIBLGR1", "MADRSBL")
POPULATIONS = {
    "RANDFL": "Randomised",
    "ITTFL": "Intention-to-treat population",
    "FASFL": "Full analysis set",
    "SAFFL": "Safety population",
    "EFFFL": "Efficacy population",
    "PPROTFL": "Per-protocol population",
}
#: label, ADSL variables that hold it, ADEX column and what is done with it per subject
EXPOSURE = {
    "Duration of treatment (days)": "TRTDURD",
    "Average daily dose": "AVGDD",
    "Cumulative dose": "CUMDOSE",
}
Cells = list[tuple[str, ...]]


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
    variables : what is described; by default the usual ones that are there (age, sex, race, weight, baseline score)
    labels : how variables are called in the table; by default the labels of the datasets
    categorical : number columns to be counted by value
    total : a last column with all subjects
    denominator : percentages of all subjects of the group ("N") or of those with a value ("n")
    convention : quartiles as "SAS" (PCTLDEF=5) or "R" (type 7)

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
    chosen = [c for c in USUAL if c in subjects.columns] if variables is None else list(variables)
    frames.require(subjects, [*chosen, *([by] if by else [])], "ADSL")
    columns = groups(subjects, by, total)
    known = {**(trial.labels.get("adsl", {}) if isinstance(trial, Trial) else {}), **(labels or {})}
    rows: list[dict[str, Any]] = []
    printed: Cells = []
    indent: list[int] = []
    for name in chosen:
        is_number = pd.api.types.is_numeric_dtype(subjects[name].dtype) and name not in set(categorical)
        is_number = is_number and not pd.api.types.is_bool_dtype(subjects[name].dtype)
        made, cells = (
            _numbers(subjects, name, columns, convention)
            if is_number
            else _levels(subjects, name, columns, denominator)
        )
        rows += made
        printed += [(known.get(name) or name, *("" for _ in columns.names)), *cells]
        indent += [0, *(1 for _ in cells)]
    notes = [f"Quartiles as {convention}; percentages of {'all subjects' if denominator == 'N' else 'known values'}."]
    return _summary(rows, printed, indent, columns, "Baseline characteristics", _who(trial, columns), notes, subjects)


def _numbers(subjects: pd.DataFrame, name: str, columns: Groups, convention: str) -> tuple[list[dict[str, Any]], Cells]:
    values = subjects[name].to_numpy(dtype=float)
    stats = [describe(values[rows], convention) for rows in columns.rows]
    made = [
        {"variable": name, "level": None, columns.column: group, "N": float(size), **s}
        for group, size, s in zip(columns.names, columns.sizes, stats, strict=True)
    ]
    return made, moment_rows(stats, decimals(subjects[name]))


def _levels(subjects: pd.DataFrame, name: str, columns: Groups, denominator: str) -> tuple[list[dict[str, Any]], Cells]:
    found = natural_levels(subjects, name)
    names, codes = [text(v) for v in found.values], found.codes
    if (codes < 0).any():
        names, codes = [*names, "Missing"], np.where(codes < 0, len(names), codes)
    made, cells = [], []
    for i, level in enumerate(names):
        line = [level]
        for group, rows, size in zip(columns.names, columns.rows, columns.sizes, strict=True):
            n = int((rows & (codes == i)).sum())
            of = size if denominator == "N" else int((rows & (found.codes >= 0)).sum())
            share = np.nan if level == "Missing" and denominator == "n" else _share(n, of)
            made.append({"variable": name, "level": level, columns.column: group, "N": size, "n": n, "percent": share})
            line.append(count_percent(n, of) if share == share else str(n))
        cells.append(tuple(line))
    return made, cells


def _share(n: float, size: float) -> float:
    return 100 * n / size if size else np.nan


def disposition(trial: Trial | FrameLike, by: str | None = "TRT01P", *, total: bool = True) -> Summary:
    """Where the subjects went: populations, completed, discontinued and why.

    Parameters
    ----------
    trial : a Trial or one row per subject, with the population flags, EOSSTT (end-of-study status) and DCSREAS or
        DCDECOD (reason for discontinuation) that are there
    by : the grouping variable

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
    subjects = trial.adsl if isinstance(trial, Trial) else frames.to_pandas(trial)
    columns = groups(subjects, by, total)
    status, reason = _status(subjects)
    lines = [("population", name, is_yes(subjects[flag])) for flag, name in POPULATIONS.items() if flag in subjects]
    lines += [("status", name, status == name) for name in ("Completed", "Ongoing", "Discontinued", "Unknown")]
    lines += [("reason", name, (reason == name) & (status == "Discontinued")) for name in _ordered(reason, status)]
    rows, printed, indent = [], [], []
    for section, name, who in lines:
        mask = np.asarray(who, dtype=bool)
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
                "percent": _share(n, size),
            }
            for g, size, n in zip(columns.names, columns.sizes, counts, strict=True)
        ]
        printed.append((name, *(count_percent(n, size) for n, size in zip(counts, columns.sizes, strict=True))))
        indent.append(1 if section == "reason" else 0)
    return _summary(rows, printed, indent, columns, "Disposition of subjects", _who(trial, columns), [], subjects)


def _status(subjects: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Completed, Ongoing, Discontinued or Unknown, and the reason as text."""
    name = next((c for c in ("DCSREAS", "DCDECOD", "DCTREAS") if c in subjects.columns), None)
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


def exposure_table(trial: Trial, by: str | None = "TRT01A", *, total: bool = True, convention: str = "SAS") -> Summary:
    """What the subjects were given: sessions, dose per session, cumulative dose, duration of treatment.

    Parameters
    ----------
    trial : with ADSL and, for sessions and doses, ADEX (one row per dose: EXDOSE, SESSION, EXDOSU)
    by : the grouping variable (``"ROUTE"``, ``"TRT01A"``), taken from ADSL; a dosing variable (``"EXROUTE"``) counts a
        subject in every group in which it was dosed, and the doses of each group there

    Returns
    -------
    Summary
        of the safety population (SAFFL) where it is flagged; ``to_frame()``: variable, level, group, N, n, mean, sd,
        median, q1, q3, minimum, maximum, percent. Subjects by number of sessions are counted as well.

    Raises
    ------
    DataError
        When neither ADEX nor a duration or dose in ADSL is there.
    """
    choose(convention, ("SAS", "R"), "convention")
    notes = [f"Quartiles as {convention}."]
    subjects = trial.adsl
    if "SAFFL" in subjects.columns:
        subjects = subjects[is_yes(subjects["SAFFL"])].reset_index(drop=True)
    doses = trial.datasets.get("adex")
    if by is not None and by not in subjects.columns and doses is not None and by in doses.columns:
        dosed = doses[["USUBJID", by]].dropna().drop_duplicates()
        subjects = subjects.merge(dosed, on="USUBJID", how="inner").reset_index(drop=True)
        doses = doses.rename(columns={by: "_group"})
        several = subjects.loc[subjects["USUBJID"].duplicated(), "USUBJID"]
        if len(several):
            notes.append(f"{several.nunique()} subjects are in several groups ({first_ids(several)}); no total.")
            total = False
    frames.require(subjects, ["USUBJID", *([by] if by else [])], "ADSL")
    measures = {**_from_adsl(subjects), **_from_adex(subjects, doses, by)}
    if not measures:
        raise DataError("exposure_table: there is no ADEX, and ADSL has neither TRTDURD, AVGDD, CUMDOSE nor TRTSDT.")
    columns = groups(subjects, by, total)
    rows, printed, indent = [], [], []
    for label, values in measures.items():
        frame = pd.DataFrame({label: values})
        made, cells = _numbers(frame, label, columns, convention)
        rows += made
        printed += [(label, *("" for _ in columns.names)), *cells]
        indent += [0, *(1 for _ in cells)]
    if "Sessions" in measures:
        made, cells = _levels(pd.DataFrame({"Sessions": measures["Sessions"]}), "Sessions", columns, "N")
        rows += [{**row, "variable": "Subjects by number of sessions"} for row in made]
        printed += [
            ("Subjects by number of sessions", *("" for _ in columns.names)),
            *cells,
        ]
        indent += [0, *(1 for _ in cells)]
    return _summary(rows, printed, indent, columns, "Exposure", _who(trial, columns), notes, subjects)


def _from_adsl(subjects: pd.DataFrame) -> dict[str, np.ndarray]:
    found = {label: subjects[c].to_numpy(dtype=float) for label, c in EXPOSURE.items() if c in subjects.columns}
    if "Duration of treatment (days)" not in found and {"TRTSDT", "TRTEDT"} <= set(subjects.columns):
        start, end = pd.to_datetime(subjects["TRTSDT"]), pd.to_datetime(subjects["TRTEDT"])
        found["Duration of treatment (days)"] = ((end.dt.normalize() - start.dt.normalize()).dt.days + 1).to_numpy(
            float
        )
    return found


def _from_adex(subjects: pd.DataFrame, doses: pd.DataFrame | None, by: str | None) -> dict[str, np.ndarray]:
    """Per subject (and dosing group): sessions, mean dose per session, total dose."""
    if doses is None or "USUBJID" not in doses.columns:
        return {}
    key = ["USUBJID", "_group"] if "_group" in doses.columns else ["USUBJID"]
    wanted = pd.MultiIndex.from_frame(subjects[["USUBJID", by]]) if len(key) == 2 else pd.Index(subjects["USUBJID"])
    given = doses[doses["EXDOSE"] > 0] if "EXDOSE" in doses.columns and (doses["EXDOSE"] > 0).any() else doses
    every = doses.groupby(key)
    sessions = every["SESSION"].nunique() if "SESSION" in doses.columns else every.size()
    found = {"Sessions": sessions.reindex(wanted, fill_value=0).to_numpy(dtype=float)}
    if "EXDOSE" in doses.columns:
        unit = _one_unit(doses)
        total = given.groupby(key)["EXDOSE"].sum(min_count=1)
        mean = given.groupby(key)["EXDOSE"].mean()
        found[f"Mean dose per session{unit}"] = mean.reindex(wanted).to_numpy(dtype=float)
        found[f"Total dose{unit}"] = total.reindex(wanted).to_numpy(dtype=float)
    return found


def _one_unit(doses: pd.DataFrame) -> str:
    units = doses["EXDOSU"].dropna().unique() if "EXDOSU" in doses.columns else []
    if len(units) > 1:
        raise DataError(f"exposure_table: ADEX mixes dose units ({', '.join(map(str, units))}). Convert to one.")
    return f" ({units[0]})" if len(units) else ""


def listing(
    trial: Trial | FrameLike,
    dataset: str = "adsl",
    columns: Sequence[str] | None = None,
    where: Any = None,
    *,
    sort: Sequence[str] | None = None,
    title: str | None = None,
    limit: int | None = None,
) -> Summary:
    """Records as they are, chosen and sorted.

    Parameters
    ----------
    dataset : which dataset of the trial
    columns : which variables, of the dataset or of ADSL; by default all of the dataset
    where : which records: ``"AESER == 'Y' and AESEV in ['SEVERE']"`` (comparisons of a variable with a value, joined by
        and), ``{variable: value or list}``, a mask, or a function of the frame that gives a mask
    sort : by default arm, subject and date where they are there
    limit : print at most so many records; the table says how many there are

    Raises
    ------
    DataError
        For variables that are not there.
    FormulaError
        For a condition that cannot be read.

    Examples
    --------
    >>> listing({"USUBJID": ["1", "2"], "AESER": ["Y", "N"]}, where="AESER == 'Y'").to_frame()["USUBJID"].tolist()
    ['1']
    """
    frame = _records(trial, dataset, [*(columns or []), *(sort or []), *_named(where)])
    kept = frame.loc[_where(frame, where)].reset_index(drop=True)
    usual = ["TRT01AN", "TRTAN", "TRT01PN", "TRTPN", "USUBJID", "PARAMCD", "AVISITN", "ASTDTM", "ASTDT", "ADT", "AESEQ"]
    order = list(sort) if sort is not None else [c for c in usual if c in kept.columns]
    kept = kept.sort_values(order, kind="stable").reset_index(drop=True) if order else kept
    shown = kept[list(columns) if columns is not None else list(kept.columns)]
    known = trial.labels.get(dataset.lower(), {}) | trial.labels.get("adsl", {}) if isinstance(trial, Trial) else {}
    printed = shown.head(limit) if limit is not None else shown
    cells = tuple(tuple(_cell(v) for v in row) for row in printed.astype("object").itertuples(index=False, name=None))
    cut = (f"The first {len(printed)} of {len(shown)} records.",) if len(printed) < len(shown) else ()
    heading = title or f"Listing of {dataset.upper()}"
    sentence = f"{len(shown)} of {len(frame)} records."
    table = Table(
        columns=tuple(known.get(c) or str(c) for c in shown.columns),
        rows=cells,
        title=heading,
        footnotes=(sentence, *cut),
        align=tuple("right" if pd.api.types.is_numeric_dtype(shown[c].dtype) else "left" for c in shown.columns),
    )
    about = estimates.meta(method="listing", level=None, title=heading, sentence=sentence, data=shown)
    return Summary(estimates.Estimates(shown, about), table)


def _records(trial: Trial | FrameLike, dataset: str, wanted: list[str]) -> pd.DataFrame:
    if not isinstance(trial, Trial):
        frame = frames.to_pandas(trial)
    else:
        frame = getattr(trial, dataset.lower())
        lacking = [c for c in wanted if c not in frame.columns]
        if lacking and "adsl" in trial and dataset.lower() != "adsl" and set(lacking) & set(trial.adsl.columns):
            frame = trial.joined(dataset, [c for c in lacking if c in trial.adsl.columns])
    frames.require(frame, wanted, dataset.upper())
    return frame


CONDITION = re.compile(r"^\s*(\w+)\s*(==|!=|<=|>=|<|>|not in|in)\s*(.+?)\s*$")
COMPARE: dict[str, Callable[[pd.Series, Any], Any]] = {
    "==": lambda v, x: v == x,
    "!=": lambda v, x: v.notna() & (v != x),
    "<": lambda v, x: v < x,
    "<=": lambda v, x: v <= x,
    ">": lambda v, x: v > x,
    ">=": lambda v, x: v >= x,
    "in": lambda v, x: v.isin(x),
    "not in": lambda v, x: v.notna() & ~v.isin(x),
}


def _conditions(where: str) -> list[tuple[str, str, Any]]:
    found = []
    for part in re.split(r"\s+and\s+|\s*&\s*", where):
        match = CONDITION.match(part.strip().strip("()"))
        try:
            if match is None:
                raise ValueError(part)
            found.append((match[1], match[2], ast.literal_eval(match[3])))
        except (ValueError, SyntaxError) as error:
            example = "AESER == 'Y' and AVAL >= 10"
            raise FormulaError(
                f"where: cannot read {part!r}. Compare a variable with a value, as in {example!r}."
            ) from error
    return found


def _named(where: Any) -> list[str]:
    """The variables in a condition."""
    if isinstance(where, str):
        return [name for name, _, _ in _conditions(where)]
    return list(where) if isinstance(where, Mapping) else []


def _where(frame: pd.DataFrame, where: Any) -> BoolArray:
    if where is None:
        return np.ones(len(frame), dtype=bool)
    keep = pd.Series(True, index=frame.index)
    if isinstance(where, str):
        for name, operator, value in _conditions(where):
            keep &= _compared(frame[name], operator, value)
    elif isinstance(where, Mapping):
        for name, value in where.items():
            keep &= frame[name].isin(list(value) if isinstance(value, (list, tuple, set)) else [value])
    else:
        mask = np.asarray(where(frame) if callable(where) else where)
        if mask.shape != (len(frame),):
            raise DataError(f"where: the mask has shape {mask.shape}, the data have {len(frame)} rows.")
        keep &= mask.astype(bool)
    return keep.fillna(False).to_numpy(dtype=bool)


def _compared(values: pd.Series, operator: str, value: Any) -> pd.Series:
    if pd.api.types.is_datetime64_any_dtype(values.dtype) and isinstance(value, str):
        value = pd.Timestamp(value)
    try:
        return pd.Series(COMPARE[operator](values, value), index=values.index)
    except TypeError as error:
        raise DataError(f"where: {values.name} cannot be compared by {operator} with {value!r}.") from error


def _cell(value: Any) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, pd.Timestamp):
        return value.strftime("%Y-%m-%d") if value == value.normalize() else value.strftime("%Y-%m-%d %H:%M")
    return f"{value:g}" if isinstance(value, float) and abs(value) < 1e6 else str(value)


def _who(trial: Any, columns: Groups) -> str:
    size = columns.sizes[-1] if columns.names[-1] in ("Total", "All subjects") else sum(columns.sizes)
    inside = f" in {' and '.join(trial.populations)}" if isinstance(trial, Trial) and trial.populations else ""
    return f"{size} subjects{inside}."


def _summary(
    rows: list[dict[str, Any]],
    printed: Cells,
    indent: list[int],
    columns: Groups,
    title: str,
    sentence: str,
    notes: list[str],
    subjects: pd.DataFrame,
) -> Summary:
    order = ["section", "variable", "level", columns.column, "N", "n", "percent"]
    frame = pd.DataFrame(rows)
    first = [c for c in order if c in frame.columns]
    frame = frame[[*first, *(c for c in frame.columns if c not in first)]]
    numeric = [c for c in frame.columns if c not in ("section", "variable", "level", columns.column)]
    frame = frame.assign(**{c: frame[c].astype(float) for c in numeric})
    rounding = "Percentages rounded half away from zero."
    about = estimates.meta(
        method="description", level=None, title=title, sentence=sentence, conventions=(*notes, rounding), data=subjects
    )
    table = Table(
        columns=("", *columns.headers),
        rows=tuple(printed),
        title=title,
        footnotes=(sentence, *notes, rounding),
        indent=tuple(indent),
    )
    return Summary(estimates.Estimates(frame, about), table)
