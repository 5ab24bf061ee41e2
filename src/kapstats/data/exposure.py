"""What the subjects of a trial were given."""

from __future__ import annotations

import numpy as np
import pandas as pd

from kapstats import frames
from kapstats.data.flags import is_yes
from kapstats.data.summarise import groups, level_rows, number_rows, summarise, who
from kapstats.data.summary import Summary
from kapstats.data.trial import Trial
from kapstats.errors import DataError, choose, first_ids

#: label -> ADSL variable that holds it
EXPOSURE = {
    "Duration of treatment (days)": "TRTDURD",
    "Average daily dose": "AVGDD",
    "Cumulative dose": "CUMDOSE",
}


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
        subjects = subjects[is_yes(subjects["SAFFL"], "ADSL.SAFFL", subjects["USUBJID"])].reset_index(drop=True)
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
        made, cells = number_rows(frame, label, columns, convention)
        rows += made
        printed += [(label, *("" for _ in columns.names)), *cells]
        indent += [0, *(1 for _ in cells)]
    if "Sessions" in measures:
        made, cells = level_rows(pd.DataFrame({"Sessions": measures["Sessions"]}), "Sessions", columns, "N", convention)
        rows += [{**row, "variable": "Subjects by number of sessions"} for row in made]
        printed += [
            ("Subjects by number of sessions", *("" for _ in columns.names)),
            *cells,
        ]
        indent += [0, *(1 for _ in cells)]
    return summarise(rows, printed, indent, columns, "Exposure", who(trial, columns), notes, subjects, convention)


def _from_adsl(subjects: pd.DataFrame) -> dict[str, np.ndarray]:
    found = {label: frames.numbers(subjects, c, "ADSL") for label, c in EXPOSURE.items() if c in subjects.columns}
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
    if "EXDOSE" in doses.columns:
        doses = doses.assign(EXDOSE=frames.numbers(doses, "EXDOSE", "ADEX"))
    given = doses[doses["EXDOSE"] > 0] if "EXDOSE" in doses.columns and (doses["EXDOSE"] > 0).any() else doses
    every = doses.groupby(key, observed=True)
    sessions = every["SESSION"].nunique() if "SESSION" in doses.columns else every.size()
    found = {"Sessions": sessions.reindex(wanted, fill_value=0).to_numpy(dtype=float)}
    if "EXDOSE" in doses.columns:
        unit = _one_unit(doses)
        total = given.groupby(key, observed=True)["EXDOSE"].sum(min_count=1)
        mean = given.groupby(key, observed=True)["EXDOSE"].mean()
        found[f"Mean dose per session{unit}"] = mean.reindex(wanted).to_numpy(dtype=float)
        found[f"Total dose{unit}"] = total.reindex(wanted).to_numpy(dtype=float)
    return found


def _one_unit(doses: pd.DataFrame) -> str:
    units = doses["EXDOSU"].dropna().unique() if "EXDOSU" in doses.columns else []
    if len(units) > 1:
        raise DataError(f"exposure_table: ADEX mixes dose units ({', '.join(map(str, units))}). Convert to one.")
    return f" ({units[0]})" if len(units) else ""
