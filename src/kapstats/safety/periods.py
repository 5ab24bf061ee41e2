"""Trials of several periods: events under the treatment at onset, denominators of those who received it."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

from kapstats._types import BoolArray
from kapstats.data.trial import SUBJECT
from kapstats.errors import DataError, first_ids

PAIRED = "the same subjects are in several groups: differences take the groups as independent, ks.paired_difference not"


def received(
    adae: pd.DataFrame, subjects: pd.DataFrame, by: str, others: Mapping[str, pd.DataFrame], counts: BoolArray
) -> tuple[pd.DataFrame, pd.Series, list[str]] | None:
    """Subjects once for each treatment received (TRTA or TRTP), the treatment of every record, and warnings.

    None where every subject has one treatment: ADSL names one period, and no record that `counts` has another.

    Parameters
    ----------
    adae, subjects : the records, and ADSL of the population
    by : TRTA or TRTP
    others : further datasets of the trial, of which ADEX may hold the treatment
    counts : (records,) those to be counted

    Raises
    ------
    DataError
        When records have another treatment than ADSL, and neither ADSL nor ADEX says who received what.
    """
    kind = by[-1]
    columns = sorted(c for c in subjects.columns if re.fullmatch(rf"TRT\d\d{kind}", str(c)))
    at_onset = _at_onset(adae, subjects, by, columns)
    if at_onset is None or not columns:
        return None
    units = _units(subjects, by, columns)
    if len(columns) == 1:
        own = subjects.set_index(SUBJECT)[columns[0]].astype("object").reindex(adae[SUBJECT]).to_numpy()
        differs = counts & ~_blank(at_onset).to_numpy() & ~pd.isna(own) & (at_onset.to_numpy(dtype=object) != own)
        if not differs.any():
            return None
        units = _from_adex(subjects, others, by, units, adae.loc[differs, SUBJECT], columns[0])
    known = pd.MultiIndex.from_frame(units[[SUBJECT, by]])
    pairs = pd.MultiIndex.from_arrays([adae[SUBJECT], at_onset])
    inside = counts & adae[SUBJECT].isin(subjects[SUBJECT]).to_numpy()
    wrong = inside & ~_blank(at_onset).to_numpy() & ~pairs.isin(known)
    if wrong.any():
        raise DataError(
            f"{int(wrong.sum())} records have a {by} that their subject did not receive by {', '.join(columns)} "
            f"({first_ids(adae.loc[wrong, SUBJECT])}). Correct one of the two."
        )
    lost = inside & _blank(at_onset).to_numpy()
    said = []
    if lost.any():
        ids = first_ids(adae.loc[lost, SUBJECT])
        said.append(f"{int(lost.sum())} records have no {by}, the treatment at onset, and are left out ({ids}).")
    return units, at_onset, said


def _at_onset(adae: pd.DataFrame, subjects: pd.DataFrame, by: str, columns: list[str]) -> pd.Series | None:
    """The record's own treatment, else that of its APERIOD."""
    found = adae[by].astype("object") if by in adae.columns else None
    if "APERIOD" not in adae.columns or len(columns) < 2:
        return found
    period = pd.to_numeric(adae["APERIOD"], errors="coerce")
    of_period = pd.Series(None, index=adae.index, dtype="object")
    for column in columns:
        own = subjects.set_index(SUBJECT)[column].astype("object").reindex(adae[SUBJECT]).to_numpy()
        of_period = of_period.where(period != int(column[3:5]), own)
    return of_period if found is None else found.where(~_blank(found), of_period)


def _blank(values: pd.Series) -> pd.Series:
    return values.isna() | (values.astype("object").astype(str).str.strip() == "")


def _units(subjects: pd.DataFrame, by: str, columns: list[str]) -> pd.DataFrame:
    """One row for each subject and treatment, with the number of the treatment where ADSL pairs the two."""
    parts = [subjects.assign(**{by: subjects[column].astype("object")}) for column in columns]
    number: dict[object, object] = {}
    for column in (c for c in columns if f"{c}N" in subjects.columns):
        number |= dict(subjects[[column, f"{column}N"]].dropna().drop_duplicates().to_numpy(dtype=object).tolist())
    units = pd.concat(parts, ignore_index=True)
    units = units.loc[~_blank(units[by])].drop_duplicates([SUBJECT, by]).reset_index(drop=True)
    if units[by].isin(list(number)).all() and len(units):
        units[f"{by}N"] = units[by].map(number).astype(float)
    return units


def _from_adex(
    subjects: pd.DataFrame,
    others: Mapping[str, pd.DataFrame],
    by: str,
    units: pd.DataFrame,
    ids: pd.Series,
    column: str,
) -> pd.DataFrame:
    adex = others.get("adex")
    if adex is None or by not in adex.columns:
        second = f"TRT02{by[-1]}"
        raise DataError(
            f"{len(ids)} records have another {by} than ADSL.{column} ({first_ids(ids)}), and nothing says who "
            f"received what in which period. Add {second} to ADSL, or ADEX with {by} to the trial. With "
            f"by={column!r} they count under the first treatment."
        )
    given = adex[[SUBJECT, by]].dropna().drop_duplicates().astype({by: "object"})
    both = pd.concat([units[[SUBJECT, by]], given], ignore_index=True).drop_duplicates()
    return subjects.drop(columns=[by], errors="ignore").merge(both, on=SUBJECT, how="inner").reset_index(drop=True)


def located(adae: pd.DataFrame, units: pd.DataFrame, by: str, at_onset: pd.Series) -> np.ndarray:
    """Row of `units` of every record, -1 where there is none."""
    known = pd.MultiIndex.from_frame(units[[SUBJECT, by]].astype("object"))
    return known.get_indexer(pd.MultiIndex.from_arrays([adae[SUBJECT].astype("object"), at_onset.astype("object")]))
