"""From ADAE and ADSL to coded records: who is in the population, which records count, in which arm."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from kapstats import frames
from kapstats._types import BoolArray, IntArray
from kapstats.data import conventions
from kapstats.data.flags import is_flag, is_yes, letters
from kapstats.data.trial import SUBJECT, Trial
from kapstats.errors import DataError, first_ids, warn
from kapstats.safety import periods

UNCODED = "Uncoded"
ACTUAL = {"TRTA": "TRT01A", "TRTP": "TRT01P"}
#: dates of onset and of first and last dose, the most precise first
ONSET = ("ASTDTM", "ASTDT", "AESTDTC")
FIRST_DOSE = ("TRTSDTM", "TRTSDT")
LAST_DOSE = ("TRTEDTM", "TRTEDT")


@dataclass(frozen=True)
class Records:
    """The adverse events of one population.

    events : the treatment-emergent ADAE records of subjects in the population
    subject : (events,) row of `subjects` of each record
    subjects : ADSL rows of the population
    arm : (subjects,) position in `arms`
    arms : the groups in order, the reference first
    by : name of the grouping column in results
    notes : one clause for each decision, for the model sentence
    warnings : texts that were warned
    kind : the caller's kind of table
    others : further datasets of the trial
    """

    events: pd.DataFrame
    subject: IntArray
    subjects: pd.DataFrame
    arm: IntArray
    arms: tuple[Any, ...]
    by: str
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    kind: str = "pandas"
    others: dict[str, pd.DataFrame] = field(default_factory=dict)

    @property
    def size(self) -> IntArray:
        """(arms,) subjects of each arm: the denominators."""
        return np.bincount(self.arm, minlength=len(self.arms)).astype(np.int64)

    def keep(self, mask: BoolArray, note: str) -> Records:
        """The same population with only the records of `mask`."""
        return Records(
            self.events.loc[mask].reset_index(drop=True),
            self.subject[mask],
            self.subjects,
            self.arm,
            self.arms,
            self.by,
            (*self.notes, note),
            self.warnings,
            self.kind,
            self.others,
        )

    def fingerprint(self) -> str:
        """Sixteen hex digits of who is in which arm and which records count."""
        digest = hashlib.sha256(self.arm.tobytes() + self.subject.tobytes())
        digest.update("\x1f".join(map(str, self.arms)).encode())
        return digest.hexdigest()[:16]


def collect(
    trial_or_adae: Any,
    adsl: Any,
    by: str | Sequence[str] | None,
    *,
    treatment_emergent: bool | str,
    window: float | None,
    population: str | None,
    order: Sequence[Any] | None,
    where: Mapping[str, Any] | None,
) -> Records:
    """Unpack a trial, choose population and records, and count whatever is left out."""
    adae, adsl, others, kind = _tables(trial_or_adae, adsl)
    frames.require(adae, [SUBJECT], "ADAE")
    frames.require(adsl, [SUBJECT], "ADSL")
    subjects, notes = _population(adsl, population)
    note, emergent = _emergent(adae, adsl, treatment_emergent, window)
    position, orphan = _located(adae, adsl, subjects)
    warned = _left_out(adae, adsl, position, orphan)
    subjects, by = _grouped(subjects, by)
    onset = periods.received(adae, subjects, by, others, emergent) if by in ACTUAL and by not in adsl.columns else None
    if onset is None:
        subjects, levels, lost = _arms(subjects, adae, by, order)
        position = _located(adae, adsl, subjects)[0]
    else:
        subjects, levels, lost = _arms(onset[0], adae, by, order)
        position, lost = periods.located(adae, subjects, by, onset[1]), [*onset[2], *lost]
        notes.append(f"events under the treatment at onset ({by}), N: subjects who received it in any period")
        notes += [periods.PAIRED] * bool(subjects[SUBJECT].duplicated().any())
    warned = lost + warned
    keep = position >= 0
    notes.append(f"{int((keep & emergent).sum())} of {len(adae)} records count ({note})")
    keep &= emergent
    for column, allowed in (where or {}).items():
        frames.require(adae, [column], "ADAE")
        values = list(allowed) if isinstance(allowed, (list, tuple, set)) else [allowed]
        keep &= _chosen(adae, column, values)
        notes.append(f"{column} in {values}: {int(keep.sum())} records")
    warned += _switched(adae, subjects, levels, by, position, keep) if onset is None else []
    if len(adae) and not keep.any():
        warned.append(f"No record of ADAE counts, every count is 0: {'; '.join(notes[1:])}.")
    for text in warned:
        warn(text)
    events = adae if keep.all() else adae.loc[keep].reset_index(drop=True)
    return Records(
        events, position[keep].astype(np.int64), subjects, levels.codes, levels.values, by,
        tuple(notes), tuple(warned) + _sorted_note(by, levels), kind, others,
    )  # fmt: skip


def _grouped(subjects: pd.DataFrame, by: str | Sequence[str] | None) -> tuple[pd.DataFrame, str]:
    """One group column: all subjects for None, "A, B" with the values of both for a list of ADSL columns."""
    if isinstance(by, str):
        return subjects, by
    names = [] if by is None else [c if c in subjects.columns else ACTUAL.get(c, c) for c in by]
    if len(names) == 1:
        return subjects, names[0]
    name = ", ".join(names) or "Total"
    if not names:
        return subjects.assign(**{name: pd.Categorical([name] * len(subjects), ordered=True)}), name
    frames.require(subjects, names, "ADSL")
    levels = [frames.levels(subjects, c) for c in names]
    frames.warn_sorted({c: found for c, found in zip(names, levels, strict=True) if found.source == "sorted"})
    codes = np.stack([found.codes for found in levels])
    width = [len(found.values) for found in levels]
    text = [", ".join(map(str, values)) for values in itertools.product(*(found.values for found in levels))]
    joint = np.where((codes < 0).any(axis=0), -1, np.ravel_multi_index(tuple(np.maximum(codes, 0)), tuple(width)))
    return subjects.assign(**{name: pd.Categorical.from_codes(joint, text, ordered=True)}), name


def _tables(source: Any, adsl: Any) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, pd.DataFrame], str]:
    if isinstance(source, Trial):
        subjects = source.adsl if adsl is None else frames.to_pandas(adsl)
        others = {k: v for k, v in source.datasets.items() if k not in ("adsl", "adae")}
        return source.adae, subjects, others, "pandas"
    if adsl is None:
        raise DataError(
            "incidence: denominators come from ADSL, never from ADAE. Give a Trial, or adsl= beside the ADAE table."
        )
    return frames.to_pandas(source), frames.to_pandas(adsl), {}, frames.kind(source)


def _chosen(adae: pd.DataFrame, column: str, values: list[Any]) -> BoolArray:
    """Where a column has one of the values; a flag of True and False is one of Y and N."""
    if not is_flag(column):
        return adae[column].isin(values).to_numpy(dtype=bool)
    is_yes(adae[column], f"ADAE.{column}", adae[SUBJECT])
    return letters(adae[column]).isin(letters(pd.Series(values, dtype=object))).to_numpy(dtype=bool)


def _population(adsl: pd.DataFrame, flag: str | None) -> tuple[pd.DataFrame, list[str]]:
    twice = adsl.loc[adsl[SUBJECT].duplicated(), SUBJECT]
    if len(twice):
        raise DataError(f"ADSL has one row per subject, but {twice.nunique()} have several ({first_ids(twice)}).")
    if flag is None or (flag == "SAFFL" and flag not in adsl.columns):
        note = "all subjects of ADSL" + ("" if flag is None else " (ADSL has no SAFFL)")
        return adsl, [f"{len(adsl)} subjects: {note}"]
    frames.require(adsl, [flag], "ADSL")
    kept = adsl.loc[is_yes(adsl[flag], f"ADSL.{flag}", adsl[SUBJECT])].reset_index(drop=True)
    if kept.empty:
        raise DataError(f"ADSL.{flag} is 'Y' for none of {len(adsl)} subjects. Give population= another flag, or None.")
    return kept, [f"{len(kept)} of {len(adsl)} subjects of {conventions.population(flag)}"]


def _arms(
    subjects: pd.DataFrame, adae: pd.DataFrame, by: str, order: Sequence[Any] | None
) -> tuple[pd.DataFrame, frames.Levels, list[str]]:
    """The group of every subject, from ADSL; TRTA and TRTP of ADAE are ADSL's TRT01A and TRT01P."""
    column = by if by in subjects.columns else ACTUAL.get(by, by)
    if column not in subjects.columns and by in adae.columns:
        raise DataError(f"by={by!r} stands in ADAE only, so subjects without events have no group. Add {by} to ADSL.")
    frames.require(subjects, [column], "ADSL")
    missing = subjects[column].isna() | (subjects[column].astype("object") == "")
    warned = []
    if missing.any():
        ids = first_ids(subjects.loc[missing, SUBJECT])
        warned.append(f"{int(missing.sum())} subjects have no {column} and are left out ({ids}).")
        subjects = subjects.loc[~missing].reset_index(drop=True)
    levels = frames.levels(subjects, column, order)
    if levels.source == "sorted":
        levels = _by_arm_number(subjects, column) or levels
        frames.warn_sorted({by: levels})
    return subjects, levels, warned


def _by_arm_number(subjects: pd.DataFrame, column: str) -> frames.Levels | None:
    """Order of a route by the number of the arm, where every route belongs to one number and no two share it."""
    for number in ("TRT01AN", "TRT01PN"):
        if number not in subjects.columns or not pd.api.types.is_numeric_dtype(subjects[number].dtype):
            continue
        pairs = subjects[[column, number]].drop_duplicates()
        if pairs.isna().any(axis=None) or pairs[column].duplicated().any() or pairs[number].duplicated().any():
            continue
        found = frames.levels(subjects, column, pairs.sort_values(number)[column].tolist())
        return frames.Levels(found.values, found.codes, number)
    return None


def _sorted_note(by: str, levels: frames.Levels) -> tuple[str, ...]:
    if levels.source != "sorted":
        return ()
    return (f"Groups in alphabetical order, since nothing states one ({by}: reference {levels.values[0]!r}).",)


def _located(adae: pd.DataFrame, adsl: pd.DataFrame, subjects: pd.DataFrame) -> tuple[IntArray, BoolArray]:
    """Row of `subjects` of every record (-1 outside the population), and whether ADSL lacks its subject."""
    codes, ids = pd.factorize(adae[SUBJECT])
    at = pd.Index(subjects[SUBJECT]).get_indexer(pd.Index(ids))
    known = pd.Index(adsl[SUBJECT]).get_indexer(pd.Index(ids)) >= 0
    return np.append(at, -1)[codes].astype(np.int64), ~np.append(known, False)[codes]


def _left_out(adae: pd.DataFrame, adsl: pd.DataFrame, position: IntArray, orphan: BoolArray) -> list[str]:
    """Warnings for records of subjects that ADSL does not have; those outside the population are counted."""
    texts = []
    if len(orphan) and orphan.all():
        raise DataError(
            f"None of the {adae[SUBJECT].nunique(dropna=False)} subjects of ADAE ({first_ids(adae[SUBJECT], 3)}) is in "
            f"ADSL ({first_ids(adsl[SUBJECT], 3)}). Write {SUBJECT} in the same way in both: as text, or as numbers."
        )
    if orphan.any():
        ids = adae.loc[orphan, SUBJECT]
        texts.append(
            f"{int(orphan.sum())} ADAE records belong to {ids.nunique(dropna=False)} subjects that ADSL does not have "
            f"({first_ids(ids)}): left out, since they have no denominator."
        )
    outside = (position < 0) & ~orphan
    if outside.any():
        ids = adae.loc[outside, SUBJECT]
        texts.append(f"{int(outside.sum())} ADAE records are of subjects outside the population ({first_ids(ids)}).")
    return texts


def _switched(
    adae: pd.DataFrame, subjects: pd.DataFrame, levels: frames.Levels, by: str, position: IntArray, keep: BoolArray
) -> list[str]:
    """A warning when the treatment on the record differs from the subject's own."""
    column = by if by in subjects.columns else ACTUAL.get(by, by)
    on_record = by if by in adae.columns else next((k for k, v in ACTUAL.items() if v == column and k in adae), None)
    if on_record is None or not keep.any():
        return []
    codes, names = pd.factorize(adae[on_record])
    place = {arm: i for i, arm in enumerate(levels.values)}
    there = np.array([*(-1 if name == "" else place.get(name, -2) for name in names), -1])[codes]
    differs = keep & (there != -1) & (there != levels.codes[np.maximum(position, 0)])
    if not differs.any():
        return []
    ids = first_ids(adae.loc[differs, SUBJECT])
    return [f"{int(differs.sum())} records have another {on_record} than ADSL.{column} ({ids}): counted under ADSL's."]


def _emergent(adae: pd.DataFrame, adsl: pd.DataFrame, rule: bool | str, window: float | None) -> tuple[str, BoolArray]:
    """Which records are treatment-emergent, and the rule in words.

    TRTEMFL = Y where ADAE has the flag and no window is asked for. Otherwise onset on or after the first dose and, with
    a window, at most that many days after the last; a missing onset, first or last dose counts as emergent, unless the
    event ended before the first dose. A partial date counts unless all the days it allows are outside.
    """
    if rule is False:
        return "treatment-emergent or not", np.ones(len(adae), dtype=bool)
    use_flag = rule == "flag" or (rule is True and window is None and "TRTEMFL" in adae.columns)
    if use_flag:
        frames.require(adae, ["TRTEMFL"], "ADAE")
        return "TRTEMFL = Y", is_yes(adae["TRTEMFL"], "ADAE.TRTEMFL", adae[SUBJECT])
    onset, first = _column(adae, ONSET), _dose(adae, adsl, FIRST_DOSE)
    if onset is None or first is None:
        raise DataError(
            "ADAE has no TRTEMFL, and the dates that would replace it (ASTDT or ASTDTM; ADSL TRTSDT) are not there. "
            "Add them, or count every record with treatment_emergent=False."
        )
    early, late = _bounds(onset)
    emergent = ~_before(late, first)
    ended = _column(adae, ("AENDTM", "AENDT"))
    if ended is not None:
        emergent &= ~(early.isna() & _before(_bounds(ended)[1], first))
    partial = int(((early != late) & early.notna()).sum())
    note = f"onset on or after first dose, missing dates ({int(early.isna().sum())}) counted"
    note += f", partial ones ({partial}) counted unless they exclude it" if partial else ""
    if window is not None:
        last = _dose(adae, adsl, LAST_DOSE)
        if last is None:
            raise DataError("window= needs the last dose: ADSL has neither TRTEDTM nor TRTEDT.")
        emergent &= ~_before(last + pd.Timedelta(days=window), early)
        note += f", up to {window:g} days after last dose"
    return note, emergent.to_numpy(dtype=bool)


def _column(frame: pd.DataFrame, names: Sequence[str]) -> pd.Series | None:
    return next((frame[name] for name in names if name in frame.columns), None)


def _bounds(values: pd.Series) -> tuple[pd.Series, pd.Series]:
    """The first and the last moment that a date allows: "2024-03" lies between the first and the last of March."""
    exact = as_moment(values)
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        return exact, exact
    text = values.astype("object").astype(str).str.strip()
    month, year = text.str.fullmatch(r"\d{4}-\d{2}"), text.str.fullmatch(r"\d{4}")
    first = pd.to_datetime(text.where(month | year), errors="coerce", format="ISO8601")
    last = (first + pd.offsets.MonthEnd(0)).where(month, first + pd.offsets.YearEnd(0))
    return exact.where(first.isna(), first), exact.where(first.isna(), last)


def _before(a: pd.Series, b: pd.Series) -> pd.Series:
    """Whether a is before b; by the day where one of the two columns holds no time of day."""
    by_day = any(bool((s.dropna() == s.dropna().dt.normalize()).all()) for s in (a, b))
    return a.dt.normalize() < b.dt.normalize() if by_day else a < b


def _moment(frame: pd.DataFrame, names: Sequence[str]) -> pd.Series | None:
    """The first of the columns that is there, as dates; what is no complete date becomes missing."""
    found = _column(frame, names)
    return None if found is None else as_moment(found)


def as_moment(values: pd.Series) -> pd.Series:
    """Dates or date-times from ISO text, datetime columns or Python dates; the rest, as "2024-03", is missing."""
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        return values
    partial = values.astype("object").astype(str).str.fullmatch(r"\s*\d{4}(-\d{2})?\s*")
    return pd.to_datetime(values.astype("object").mask(partial), errors="coerce", format="ISO8601")


def _dose(adae: pd.DataFrame, adsl: pd.DataFrame, names: Sequence[str]) -> pd.Series | None:
    by_subject = _moment(adsl, names)
    if by_subject is None:
        return _moment(adae, names)
    at = pd.Index(adsl[SUBJECT]).get_indexer(pd.Index(adae[SUBJECT]))
    moments = by_subject.to_numpy()[np.maximum(at, 0)]
    return pd.Series(moments, index=adae.index).where(at >= 0)
