"""Adverse events by group: subjects counted once per term, denominators from ADSL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from kapstats import estimates, frames
from kapstats._types import FrameLike, IntArray
from kapstats.data.conventions import in_words
from kapstats.errors import FormulaError, choose, first_ids, warn
from kapstats.estimates import Estimates, sealed, stored
from kapstats.kernels.distinct_counts import distinct_counts
from kapstats.safety import records as collecting
from kapstats.safety.records import Records
from kapstats.table import Table

#: what a row of the table is called, by its column; other columns go by their own name
LEVELS = {
    "AEBODSYS": "SOC",
    "AESOC": "SOC",
    "AEHLGT": "HLGT",
    "AEHLT": "HLT",
    "AEDECOD": "PT",
    "AELLT": "LLT",
}


@sealed
@dataclass(frozen=True, repr=False)
class Incidence:
    """Counts of adverse events by term and group, and what can be asked of them.

    records : the records counted, with population and groups
    frame : ``level``, the term columns, the group column, ``n_subjects n_events N percent``
    terms : the term columns, from the widest to the narrowest
    reference : the group that others are compared with
    adjust : adjustment of p values across terms that `compare` uses
    groups : custom groupings and their terms
    """

    records: Records
    frame: pd.DataFrame
    terms: tuple[str, ...]
    reference: Any
    adjust: str | None
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def by(self) -> str:
        """Name of the group column."""
        return self.records.by

    @property
    def arms(self) -> tuple[Any, ...]:
        """The groups in order."""
        return self.records.arms

    @property
    def sizes(self) -> dict[Any, int]:
        """Subjects of every group: the denominators."""
        return {arm: int(n) for arm, n in zip(self.arms, self.records.size, strict=True)}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the reader of these numbers has to know."""
        return tuple(self.meta.get("warnings", ()))

    def to_frame(self) -> Any:
        """The counts, long, as a new table of the caller's kind."""
        return frames.restore(stored(self), self.records.kind)

    def to_ard(self) -> Any:
        """Analysis results data: one row per statistic."""
        return Estimates(stored(self), self.meta).to_ard()

    def table(self, min_percent: float = 0.0, sort: str = "descending", **options: Any) -> Table:
        """n (%) by term and group, with differences if ``comparison=True``; see `kapstats.safety.layout.layout`."""
        from kapstats.safety.layout import layout

        return layout(self, min_percent=min_percent, sort=sort, **options)

    def compare(
        self,
        method: str | None = None,
        reference: Any = None,
        *,
        measure: str = "risk-difference",
        level: float = 0.95,
        side: str = "two",
        test: str | None = None,
        strata: str | None = None,
        adjust: str | None = None,
    ) -> Estimates:
        """Every group against the reference for every term; see `kapstats.safety.comparison.compare`."""
        from kapstats.safety.comparison import compare

        return compare(
            self, method, reference, measure=measure, level=level, side=side, test=test, strata=strata, adjust=adjust
        )

    def plot(self, kind: str = "dot", ax: Any = None, **options: Any) -> Any:
        """Draw dot, volcano, forest, butterfly, severity, timeline, prevalence or benefit-risk."""
        from kapstats.report.figures.adverse_events import plot

        return plot(self, kind=kind, ax=ax, **options)

    def only(self, kind: str) -> Incidence:
        """The same counts of one kind of event: related, severe, serious, leading to discontinuation or fatal."""
        from kapstats.safety.standard_tables import only

        return only(self, kind)

    def standard_tables(self, **options: Any) -> dict[str, Table]:
        """Overview, deaths, serious, discontinuation, common; see `kapstats.safety.standard_tables.standard_tables`."""
        from kapstats.safety.standard_tables import standard_tables

        return standard_tables(self, **options)

    def overview(self, **options: Any) -> Estimates:
        """Any, related, severe, serious, discontinued, fatal; see `kapstats.safety.overview.overview`."""
        from kapstats.safety.overview import overview

        return overview(self, **options)

    def max_severity(self, column: str | None = None) -> Estimates:
        """Subjects by their worst severity of every term; see `kapstats.safety.severity.max_severity`."""
        from kapstats.safety.severity import max_severity

        return max_severity(self, column)

    def severity_model(self, term: str | None = None, **options: Any) -> Estimates:
        """Odds of a worse maximum severity; see `kapstats.safety.severity.severity_model`."""
        from kapstats.safety.severity import severity_model

        return severity_model(self, term, **options)

    def time_to_first(self, term: str | None = None, **options: Any) -> Estimates:
        """Probability of a first event by time; see `kapstats.safety.time_to_event.time_to_first`."""
        from kapstats.safety.time_to_event import time_to_first

        return time_to_first(self, term, **options)

    def recurrent(self, term: str | None = None, **options: Any) -> Estimates:
        """Mean number of events by time; see `kapstats.safety.recurrent.recurrent`."""
        from kapstats.safety.recurrent import recurrent

        return recurrent(self, term, **options)

    def resolution(self, term: str | None = None, **options: Any) -> Estimates:
        """Time from onset to resolution; see `kapstats.safety.course.resolution`."""
        from kapstats.safety.course import resolution

        return resolution(self, term, **options)

    def resolution_times(self, term: str | None = None, **options: Any) -> pd.DataFrame:
        """The intervals behind `resolution`, one row an event; see `kapstats.safety.course.resolution_times`."""
        from kapstats.safety.course import resolution_times

        return resolution_times(self, term, **options)

    def sessions(self, term: str | None = None) -> pd.DataFrame:
        """One row per subject and session dosed; see `kapstats.safety.course.sessions`."""
        from kapstats.safety.course import sessions

        return sessions(self, term)

    def prevalence(self, term: str | None = None, **options: Any) -> Estimates:
        """Subjects with an ongoing event by minutes since dose; see `kapstats.safety.course.prevalence`."""
        from kapstats.safety.course import prevalence

        return prevalence(self, term, **options)

    def exposure_adjusted(self, **options: Any) -> Estimates:
        """Incidence and event rates per time at risk; see `kapstats.safety.exposure.exposure_adjusted`."""
        from kapstats.safety.exposure import exposure_adjusted

        return exposure_adjusted(self, **options)

    def to_text(self) -> str:
        """The table as plain text."""
        return self.table().to_text()

    def to_markdown(self) -> str:
        """The table as Markdown."""
        return self.table().to_markdown()

    def to_html(self) -> str:
        """The table as HTML."""
        return self.table().to_html()

    def _repr_html_(self) -> str:
        return self.to_html()

    def __repr__(self) -> str:
        return self.to_text()


def incidence(
    trial_or_adae: Any,
    adsl: FrameLike | None = None,
    by: str | Sequence[str] | None = "TRT01A",
    terms: Sequence[str] = ("AEBODSYS", "AEDECOD"),
    treatment_emergent: bool | str = True,
    reference: Any = None,
    adjust: str | None = None,
    *,
    population: str | None = "SAFFL",
    order: Sequence[Any] | None = None,
    where: Mapping[str, Any] | None = None,
    window: float | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
) -> Incidence:
    """Count subjects with adverse events by term and group, each subject once per row.

    The percentage estimates the crude incidence proportion, n_subjects/N, over a follow-up that may differ between
    groups; `Incidence.time_to_first` and `exposure_adjusted` take follow-up into account.

    Parameters
    ----------
    trial_or_adae : a Trial, or the ADAE table
    adsl : the ADSL table; denominators are its subjects, never those of ADAE
    by : group of every subject, an ADSL column such as TRT01A or ROUTE; a list of them for their combinations; None for
        one column Total. TRTA and TRTP are the treatment at onset: of the record, else of its APERIOD. In a trial of
        several periods (TRT02A in ADSL, or TRTA in ADEX) N counts who received it in any period; else they are TRT01A
        and TRT01P
    terms : term columns of ADAE from the widest to the narrowest; [] counts any event only
    treatment_emergent : True (TRTEMFL = Y where ADAE has it, else by dates), "flag", "dates", or False for all records.
        By dates: onset on or after the first dose; missing dates count, unless the event ended before the first dose,
        and partial ones ("2024-03"), unless every day that they allow is before it
    reference : group that others are compared with; by default the first
    adjust : adjustment across terms used by `compare`
    population : ADSL flag of the population (None: everybody)
    order : order of the groups; else TRT01AN, an ordered categorical, or alphabetical with a warning
    where : further selection of records, such as ``{"AESER": "Y"}``
    window : days after the last dose up to which an onset counts (by dates)
    groups : custom groupings, ``{"Dissociative symptoms": ["Dissociation", "Derealisation"]}``, of the narrowest term

    Returns
    -------
    Incidence. Its frame has one row per level (ANY, SOC, PT, GROUP), term and group, zero counts included, with
    n_subjects, n_events, N and percent (of N). Missing terms are "Uncoded".

    Raises
    ------
    DataError
        When a column is missing (with the nearest name), ADSL is not there, or nobody is in the population.

    Agrees with
    -----------
    Tables 14-5.01 and 14-5.02 of the CDISC pilot (identical counts); R 4.2.2 recounts, exactly.

    References
    ----------
    CDISC ADaM OCCDS v1.1. FDA (2022), Standard Safety Tables and Figures: Integrated Guide.

    Examples
    --------
    >>> adsl = {"USUBJID": [1, 2, 3], "TRT01A": ["KAP", "KAP", "Placebo"], "TRT01AN": [1, 1, 0], "SAFFL": ["Y"] * 3}
    >>> adae = {"USUBJID": [1, 1], "AEDECOD": ["Nausea", "Nausea"], "TRTEMFL": ["Y", "Y"]}
    >>> incidence(adae, adsl, by="TRT01A", terms=["AEDECOD"]).to_frame()["n_subjects"].tolist()
    [0, 1, 0, 1]
    """
    chosen = collecting.collect(
        trial_or_adae,
        adsl,
        by,
        treatment_emergent=treatment_emergent,
        window=window,
        population=population,
        order=order,
        where=where,
    )
    terms = (terms,) if isinstance(terms, str) else tuple(terms)
    frames.require(chosen.events, terms, "ADAE")
    coded = chosen.events.assign(**{column: coded_terms(chosen.events[column]) for column in terms})
    said = tuple(warn(text) for column in terms for text in _spellings(coded[column]))
    chosen = Records(**{**_fields(chosen), "events": coded, "warnings": (*chosen.warnings, *said)})
    if reference is not None:
        choose_arm(reference, chosen)
    return Incidence(
        records=chosen,
        frame=count(chosen, terms, groups),
        terms=terms,
        reference=chosen.arms[0] if reference is None else reference,
        adjust=adjust,
        groups=dict(groups or {}),
        meta=_meta(chosen),
    )


def coded_terms(values: pd.Series) -> pd.Series:
    """Terms as a categorical of text, with missing and blank ones as "Uncoded"."""
    codes, unique = pd.factorize(values)
    names = ["" if name is None else str(name).strip() for name in unique]
    text = [*(name or collecting.UNCODED for name in names), collecting.UNCODED]
    recode, levels = pd.factorize(np.array(text, dtype=object))
    return pd.Series(pd.Categorical.from_codes(recode[codes], categories=levels), index=values.index)


def _spellings(values: pd.Series) -> list[str]:
    """A warning for terms that differ in capitals or blanks only."""
    names = pd.Series(values.cat.categories.astype(str))
    plain = names.str.casefold().str.split().str.join(" ")
    twice = names[plain.duplicated(keep=False)].sort_values(key=lambda s: s.str.casefold())
    if twice.empty:
        return []
    shown = first_ids(map(repr, twice), 6)
    return [f"{values.name}: {len(twice)} terms differ in capitals or blanks only ({shown}): they are counted apart."]


def choose_arm(arm: Any, chosen: Records) -> int:
    """Position of `arm`, or an error that names the groups."""
    if arm not in chosen.arms:
        choose(str(arm), [str(a) for a in chosen.arms], "reference")
        raise FormulaError(f"reference={arm!r} is no group of {chosen.by}.")
    return chosen.arms.index(arm)


def _fields(chosen: Records) -> dict[str, Any]:
    return {name: getattr(chosen, name) for name in chosen.__dataclass_fields__}


def _meta(chosen: Records) -> dict[str, Any]:
    sentence = "Incidence proportion, subjects counted once per row; " + "; ".join(chosen.notes)
    return estimates.meta(
        method="incidence proportion",
        level=None,
        title=f"Adverse events by {in_words(chosen.by)}",
        sentence=sentence,
        warnings=chosen.warnings,
        data=chosen.fingerprint(),
        frame_kind=chosen.kind,
    )


def count(chosen: Records, terms: tuple[str, ...], groups: Mapping[str, Sequence[str]] | None = None) -> pd.DataFrame:
    """The long frame: ANY, then each branch of terms with its leaves, then custom groups; zero rows included."""
    keys, row_of = _rows(chosen.events, terms)
    parts = [_counted(chosen, keys, row_of, terms)]
    for name, members in (groups or {}).items():
        if not terms:
            raise FormulaError("groups= needs a term column in terms=.")
        inside = np.flatnonzero(chosen.events[terms[-1]].isin(list(members)).to_numpy())
        key = pd.DataFrame({"level": ["GROUP"], **{t: [name if t == terms[-1] else ""] for t in terms}})
        parts.append(_counted(chosen, key, [(inside, np.zeros(inside.size, dtype=np.int64))], terms))
    return pd.concat(parts, ignore_index=True)


Membership = list[tuple[IntArray, IntArray]]


def membership(ae: Incidence) -> Membership:
    """Which records belong to which row of the table of `ae`, as pairs of arrays."""
    pairs = _rows(ae.records.events, ae.terms)[1]
    start = int((ae.frame["level"] != "GROUP").sum()) // len(ae.arms)
    for offset, members in enumerate(ae.groups.values()):
        inside = np.flatnonzero(ae.records.events[ae.terms[-1]].isin(list(members)).to_numpy())
        pairs.append((inside, np.full(inside.size, start + offset, dtype=np.int64)))
    return pairs


def _rows(events: pd.DataFrame, terms: tuple[str, ...]) -> tuple[pd.DataFrame, Membership]:
    """The rows of the table in order, and per depth which records belong to which row."""
    every = np.arange(len(events), dtype=np.int64)
    keys: list[tuple[str, ...]] = [("",) * len(terms)]
    depth, member = [0], [np.zeros(len(events), dtype=np.int64)]
    codes, names = np.zeros(len(events), dtype=np.int64), [("",) * 0]
    for level, column in enumerate(terms, start=1):
        code, unique = pd.factorize(events[column])
        pair, joint = pd.factorize(codes * max(len(unique), 1) + code)
        names = [(*names[j // max(len(unique), 1)], str(unique[j % max(len(unique), 1)])) for j in joint]
        codes = pair.astype(np.int64)
        member.append(len(keys) + codes)
        keys += [(*name, *[""] * (len(terms) - level)) for name in names]
        depth += [level] * len(names)
    order = sorted(range(len(keys)), key=lambda i: keys[i])
    place = np.empty(len(keys), dtype=np.int64)
    place[order] = np.arange(len(keys))
    labels = ["ANY", *(LEVELS.get(t, t) for t in terms)]
    frame = pd.DataFrame([keys[i] for i in order], columns=list(terms), dtype="object")
    frame.insert(0, "level", [labels[depth[i]] for i in order])
    return frame, [(every, place[m]) for m in member]


def _counted(chosen: Records, keys: pd.DataFrame, row_of: Membership, terms: tuple[str, ...]) -> pd.DataFrame:
    n_rows, n_arms = len(keys), len(chosen.arms)
    subjects, events = (np.zeros((n_rows, n_arms), dtype=np.int64) for _ in range(2))
    for rows, target in row_of:
        more_subjects, more_events = distinct_counts(target, chosen.subject[rows], chosen.arm, n_rows, n_arms)
        subjects += more_subjects
        events += more_events
    frame = keys.loc[keys.index.repeat(n_arms), ["level", *terms]].reset_index(drop=True)
    size = np.tile(chosen.size, n_rows)
    return frame.assign(
        **{chosen.by: np.tile(np.array(chosen.arms, dtype=object), n_rows)},
        n_subjects=subjects.ravel(),
        n_events=events.ravel(),
        N=size,
        percent=100 * subjects.ravel() / size,
    )
