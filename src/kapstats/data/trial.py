"""One trial: its ADaM datasets under one roof, with arms in the order that the data standard states."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from kapstats import frames
from kapstats._types import FrameLike
from kapstats.data.conventions import one_unit_in_all
from kapstats.data.flags import is_flag, is_yes
from kapstats.errors import DataError, FormulaError, first_ids, nearest

SUBJECT = "USUBJID"
#: treatment columns and the ADSL column that states the order of their levels
ARM_COLUMNS = {"TRT01P": "TRT01P", "TRTP": "TRT01P", "TRT01A": "TRT01A", "TRTA": "TRT01A"}


class MissingDataset(DataError, AttributeError):
    """A dataset was asked for that this trial does not hold."""


@dataclass(frozen=True, init=False, repr=False, eq=False)
class Trial:
    """The ADaM datasets of one trial.

    Parameters
    ----------
    adsl, adqs, adtte, adae, **others : pandas, polars or pyarrow tables, or paths; any subset
        One row per subject (ADSL), per assessment (ADQS), per time to event (ADTTE), per adverse event (ADAE).
        Further names (``adex=``, ``advs=``) become attributes as well; names are case-insensitive.
    arms : order of the arms, first the reference; by default TRT01PN, TRT01AN or an ordered categorical states it
    truth, scenario : of a simulated trial, what is true and how it was made
    labels : variable labels per dataset, ``{"adsl": {"AGE": "Age (years)"}}``
    name : how the trial is called in tables

    Raises
    ------
    DataError
        When something is no table, a column name stands twice, or an ADSL subject stands in two rows.

    Notes
    -----
    A trial never changes: its frames are handed out as copies; `with_data` makes a new trial. A dataset whose subject
    column is written ``usubjid`` has all its names put in upper case, since ADaM names know no case. Where a dataset
    lacks the numeric companion of its treatment column (``TRT01PN``) and ADSL has it, it is added.

    Examples
    --------
    >>> adsl = {"USUBJID": ["01", "02"], "TRT01P": ["KAP", "Placebo"], "TRT01PN": [1, 0], "SAFFL": ["Y", "N"]}
    >>> trial = Trial(adsl=adsl)
    >>> trial.arms
    ['Placebo', 'KAP']
    >>> len(trial.population("SAFFL").adsl)
    1
    """

    name: str
    labels: dict[str, dict[str, str]]
    truth: dict[str, Any] | None
    scenario: dict[str, Any] | None
    populations: tuple[str, ...]
    _datasets: dict[str, pd.DataFrame]
    _arms: tuple[Any, ...] | None

    def __init__(
        self,
        adsl: FrameLike | None = None,
        adqs: FrameLike | None = None,
        adtte: FrameLike | None = None,
        adae: FrameLike | None = None,
        *,
        arms: Sequence[Any] | None = None,
        truth: Mapping[str, Any] | None = None,
        scenario: Mapping[str, Any] | None = None,
        labels: Mapping[str, Mapping[str, str]] | None = None,
        name: str = "",
        **others: FrameLike | None,
    ) -> None:
        given = {"adsl": adsl, "adqs": adqs, "adtte": adtte, "adae": adae, **others}
        datasets = {key.lower(): _dataset(key.lower(), table) for key, table in given.items() if table is not None}
        datasets = one_unit_in_all(datasets)
        _one_row_per_subject(datasets.get("adsl"))
        order = tuple(arms) if arms is not None else None
        if order is not None:
            datasets = {key: _ordered_arms(frame, order) for key, frame in datasets.items()}
        elif "adsl" in datasets:
            datasets = {key: _with_companions(frame, datasets["adsl"]) for key, frame in datasets.items()}
        fields = {
            "name": name,
            "labels": _labels(datasets, labels or {}),
            "truth": dict(truth) if truth is not None else None,
            "scenario": dict(scenario) if scenario is not None else None,
            "populations": (),
            "_datasets": datasets,
            "_arms": order,
        }
        for key, value in fields.items():
            object.__setattr__(self, key, value)

    def __getattr__(self, name: str) -> pd.DataFrame:
        key = name.lower()
        if name.startswith("_"):  # an object being unpickled has no fields yet
            raise AttributeError(name)
        if not key.startswith("ad"):
            raise AttributeError(f"Trial has no attribute {name!r}.{nearest(name, dir(self))}")
        if key not in self._datasets:
            held = ", ".join(self._datasets) or "none"
            raise MissingDataset(f"This trial has no dataset {key.upper()}. It holds: {held}.")
        return self._datasets[key].copy(deep=False)

    def __contains__(self, name: object) -> bool:
        return str(name).lower() in self._datasets

    def __iter__(self) -> Iterator[str]:
        return iter(self._datasets)

    def __dir__(self) -> list[str]:
        return sorted([*super().__dir__(), *self._datasets])

    @property
    def datasets(self) -> dict[str, pd.DataFrame]:
        """The datasets by their lower-case names."""
        return {key: frame.copy(deep=False) for key, frame in self._datasets.items()}

    @property
    def arms(self) -> list[Any]:
        """The arms (planned where stated, else actual), reference first."""
        frame, column = self._arm_column()
        return list(frames.levels(frame, column, self._arms_held(frame[column])).values)

    @property
    def n_subjects(self) -> int:
        """Subjects in ADSL; without ADSL, subjects with a record in any dataset."""
        held = [self._datasets["adsl"]] if "adsl" in self else list(self._datasets.values())
        return len({s for frame in held if SUBJECT in frame for s in frame[SUBJECT].dropna()})

    def population(self, flag: str) -> Trial:
        """The subjects whose ADSL flag is ``"Y"``, in every dataset.

        Parameters
        ----------
        flag : an ADSL column such as ``"SAFFL"``, ``"ITTFL"`` (values Y and N or missing, or True and False)

        Raises
        ------
        DataError
            When there is no ADSL or no such flag, or the column is no flag.
        """
        adsl = self.adsl
        frames.require(adsl, [flag], "ADSL")
        return self._subset(set(adsl.loc[is_yes(adsl[flag], f"ADSL.{flag}", adsl[SUBJECT]), SUBJECT]), flag)

    def where(self, column: str, values: Any) -> Trial:
        """The subjects whose ADSL `column` is `values` (one value or a list), in every dataset."""
        adsl = self.adsl
        frames.require(adsl, [column], "ADSL")
        allowed = list(values) if isinstance(values, (list, tuple, set)) else [values]
        if is_flag(column):
            is_yes(adsl[column], f"ADSL.{column}", adsl[SUBJECT])
        return self._subset(set(adsl.loc[adsl[column].isin(allowed), SUBJECT]), f"{column} in {allowed}")

    def with_data(self, **datasets: FrameLike | None) -> Trial:
        """A new trial with these datasets added or replaced; None removes one."""
        merged: dict[str, Any] = {**self._datasets}
        merged |= {key.lower(): table for key, table in datasets.items()}
        about: dict[str, Any] = {
            "truth": self.truth,
            "scenario": self.scenario,
            "labels": self.labels,
            "name": self.name,
        }
        made = Trial(**merged, arms=self._arms, **about)
        object.__setattr__(made, "populations", self.populations)
        return made

    def joined(self, dataset: str, columns: str | Iterable[str] | None = None) -> pd.DataFrame:
        """`dataset` with the ADSL variables it lacks (all, or `columns`) beside its own, row by row.

        Raises
        ------
        DataError
            When records belong to subjects that ADSL does not have.
        """
        frame, adsl = getattr(self, dataset.lower()), self.adsl
        names = [columns] if isinstance(columns, str) else list(adsl.columns if columns is None else columns)
        frames.require(adsl, names, "ADSL")
        orphans = frame.loc[~frame[SUBJECT].isin(adsl[SUBJECT]), SUBJECT]
        if len(orphans):
            raise DataError(f"{dataset.upper()}: {len(orphans)} rows of subjects not in ADSL ({first_ids(orphans)}).")
        added = [c for c in names if c not in frame.columns]
        rows = pd.Index(adsl[SUBJECT]).get_indexer(pd.Index(frame[SUBJECT]))
        return pd.concat([frame, adsl[added].iloc[rows].reset_index(drop=True)], axis=1)

    def check(self) -> Any:
        """What is wrong or doubtful in the data: see `kapstats.data.checks.check`."""
        from kapstats.data.checks import check

        return check(self)

    @classmethod
    def from_frame(
        cls,
        df: FrameLike,
        *,
        subject: str,
        arm: str,
        visit: str | Sequence[str] | Mapping[str, Any] | None = None,
        baseline: str | None = None,
        outcome: str | Sequence[str] | Mapping[Any, Any] | None = None,
        time: str | None = None,
        event: str | None = None,
        arms: Sequence[Any] | None = None,
        visits: Sequence[Any] | None = None,
        name: str = "",
    ) -> Trial:
        """A trial from one table with the caller's own column names, long (one row per visit) or wide.

        Parameters
        ----------
        subject, arm : columns that identify the subject and the arm; rows without an arm take the only arm of their
            subject, with a warning
        visit : long form: the visit column. Wide form: the columns that hold the outcome at each visit, in order, or
            ``{column: visit number or label}``
        baseline : the baseline of the outcome: a column with one value per subject, or in long form the name of the
            baseline visit; CHG is the outcome minus it
        outcome : long form: the column of the outcome, or several (PARAMCD tells them apart). Wide form: what the
            outcome is called; or, without `visit`, its columns: a list, ``{column: visit}`` or ``{visit: column}``
        time, event : time to event and whether it happened (1/0, True/False, yes/no); one value per subject
        arms, visits : order of the levels where nothing in the table states it

        Returns
        -------
        Trial with ADSL (what is constant within subject), ADQS and, with `time`, ADTTE. Other columns keep their names.
        AVISITN is the number in the labels of the visits ("Week 8" is 8, baseline 0, screening -1), else their place.

        Raises
        ------
        DataError
            For columns that are not there or taken, missing subjects, subjects in two arms, two times for a subject.

        Examples
        --------
        >>> wide = {"id": [1, 2], "group": [0, 1], "m0": [30, 31], "d7": [20, 28], "d14": [15, 30]}
        >>> trial = Trial.from_frame(wide, subject="id", arm="group", visit=["d7", "d14"], baseline="m0")
        >>> trial.adqs["AVISIT"].tolist(), trial.adqs["CHG"].tolist()
        (['d7', 'd14', 'd7', 'd14'], [-10.0, -15.0, -3.0, -1.0])
        """
        from kapstats.data.own_names import standardise

        columns = {"subject": subject, "arm": arm, "baseline": baseline, "time": time, "event": event}
        tables = standardise(frames.to_pandas(df), columns, visit, outcome, arms, visits)
        return cls(**tables, name=name)

    def _subset(self, subjects: set[Any], description: str) -> Trial:
        kept = {k: _of_subjects(frame, subjects) for k, frame in self._datasets.items()}
        made = self.with_data(**kept)
        object.__setattr__(made, "populations", (*self.populations, description))
        return made

    def _arm_column(self) -> tuple[pd.DataFrame, str]:
        for frame in self._datasets.values():
            for column in ("TRT01P", "TRT01A", "TRTP", "TRTA", "ARM"):
                if column in frame.columns:
                    return frame, column
        raise DataError("This trial has no treatment column (TRT01P, TRT01A, TRTP, TRTA or ARM) in any dataset.")

    def _arms_held(self, values: pd.Series) -> list[Any] | None:
        return None if self._arms is None else [arm for arm in self._arms if (values == arm).any()]

    def _arm_counts(self) -> str:
        try:
            frame, column = self._arm_column()
        except DataError:
            return "no arms"
        counts = (frame.drop_duplicates(SUBJECT) if SUBJECT in frame else frame)[column].value_counts()
        return ", ".join(f"{arm} {counts.get(arm, 0)}" for arm in self.arms)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{key} {len(f)} x {f.shape[1]}" for key, f in self._datasets.items())
        shown = f" in {' and '.join(self.populations)}" if self.populations else ""
        return f"Trial({self.name or 'unnamed'}: {self.n_subjects} subjects{shown} ({self._arm_counts()}); {sizes})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th scope='row'>{html.escape(key.upper())}</th><td>{len(f)}</td><td>{f.shape[1]}</td></tr>"
            for key, f in self._datasets.items()
        )
        caption = html.escape(f"{self.name or 'Trial'}: {self.n_subjects} subjects ({self._arm_counts()})")
        head = "<tr><th scope='col'>dataset</th><th scope='col'>rows</th><th scope='col'>columns</th></tr>"
        return f"<table><caption>{caption}</caption><thead>{head}</thead><tbody>{rows}</tbody></table>"


def _dataset(key: str, table: FrameLike) -> pd.DataFrame:
    """A frame of our own, with upper-case names where the subject column is written in lower case."""
    if not key.startswith("ad"):
        raise FormulaError(
            f"Trial has no argument {key!r}. Datasets have ADaM names that begin with 'ad' (adsl, adqs)."
        )
    frame = _read(table)
    attrs = dict(frame.attrs)
    names = [str(c) for c in frame.columns]
    if SUBJECT not in names and SUBJECT in [n.upper() for n in names]:
        names = [n.upper() for n in names]
        labels = {str(k).upper(): v for k, v in attrs.get("labels", {}).items()}
        attrs |= {"labels": labels} if labels else {}
    frame = frames.to_pandas(frame.set_axis(names, axis=1))
    frame.attrs = attrs
    return frame


def _read(table: FrameLike) -> pd.DataFrame:
    from kapstats.data.files import is_path, read_table

    return read_table(table) if is_path(table) else frames.to_pandas(table)


def _one_row_per_subject(adsl: pd.DataFrame | None) -> None:
    if adsl is None:
        return
    frames.require(adsl, [SUBJECT], "ADSL")
    twice = adsl.loc[adsl[SUBJECT].duplicated(), SUBJECT]
    if twice.isna().any():
        raise DataError(f"ADSL: {int(adsl[SUBJECT].isna().sum())} rows have no {SUBJECT}. Fill it in or drop the rows.")
    if len(twice):
        raise DataError(f"ADSL has one row per subject, but {twice.nunique()} have several ({first_ids(twice)}).")


def _ordered_arms(frame: pd.DataFrame, order: tuple[Any, ...]) -> pd.DataFrame:
    """Treatment columns as ordered categoricals; every arm that occurs has to be in `order`."""
    columns = {c: frames.levels(frame, c, order) for c in ARM_COLUMNS if c in frame.columns}
    made = {c: pd.Categorical(frame[c], categories=list(order), ordered=True) for c in columns}
    return _keep_attrs(frame.assign(**made), frame)


def _with_companions(frame: pd.DataFrame, adsl: pd.DataFrame) -> pd.DataFrame:
    """`frame` with TRT01PN (TRTPN ...) beside TRT01P where ADSL pairs the same names with numbers, one to one."""
    added = {}
    for column, source in ARM_COLUMNS.items():
        if column not in frame.columns or f"{column}N" in frame.columns:
            continue
        numbers = _pairs(adsl, source)
        if numbers is not None and frame[column].dropna().isin(list(numbers)).all():
            added[f"{column}N"] = frame[column].astype("object").map(numbers).astype(float)
    return _keep_attrs(frame.assign(**added), frame) if added else frame


def _pairs(adsl: pd.DataFrame, column: str) -> dict[Any, float] | None:
    if column not in adsl.columns or f"{column}N" not in adsl.columns:
        return None
    pairs = adsl[[column, f"{column}N"]].dropna().drop_duplicates()
    if pairs[column].duplicated().any() or pairs[f"{column}N"].duplicated().any():
        return None
    return dict(zip(pairs[column], pairs[f"{column}N"], strict=True))


def _of_subjects(frame: pd.DataFrame, subjects: set[Any]) -> pd.DataFrame:
    if SUBJECT not in frame.columns:
        return frame
    return _keep_attrs(frame.loc[frame[SUBJECT].isin(subjects)].reset_index(drop=True), frame)


def _keep_attrs(made: pd.DataFrame, source: pd.DataFrame) -> pd.DataFrame:
    made.attrs = dict(source.attrs)
    return made


def _labels(datasets: Mapping[str, pd.DataFrame], given: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    given = {key.lower(): value for key, value in given.items()}
    return {key: {**frame.attrs.get("labels", {}), **given.get(key, {})} for key, frame in datasets.items()}
