"""The tables that a safety section always has: overview, deaths, serious, discontinuation, common events."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kapstats._types import BoolArray
from kapstats.data.conventions import capitals, in_words
from kapstats.data.flags import is_yes
from kapstats.errors import DataError, choose
from kapstats.safety import layout, overview, rows
from kapstats.safety.incidence import count
from kapstats.table import Table, number

if TYPE_CHECKING:
    from kapstats.safety.incidence import Incidence

#: table -> the kind of record that it lists, and its title
LISTED = {
    "deaths": ("fatal", "Deaths"),
    "serious": ("serious", "Serious adverse events"),
    "discontinuation": ("leading to discontinuation", "Adverse events leading to discontinuation"),
}
#: ADSL columns that say why a subject left, and the words that mean an adverse event
REASONS = ("DCSREAS", "DCDECOD", "DCREASCD")


def standard_tables(
    ae: Incidence,
    *,
    min_percent: float = 5.0,
    sort: str = "descending",
    method: str = "miettinen-nurminen",
    level: float = 0.95,
    digits: int = 1,
) -> dict[str, Table]:
    """Tabulate overview, deaths, serious events, discontinuations and common events, each with risk differences.

    The difference of the risk of every group and the reference, in percentage points, stands beside n (%). Deaths of
    any cause are ADSL's (DTHFL), discontinuations because of an adverse event those of ADSL (DSRAEFL, else DCSREAS or
    DCDECOD ADVERSE EVENT); the terms below them are those of ADAE records. What the data cannot tell is said in a
    footnote and is no zero.

    Parameters
    ----------
    min_percent : a common term reaches this percentage in at least one group
    sort : order of the terms, as in `Incidence.table`
    method : interval of the difference, of `ks.risk_difference`

    Returns
    -------
    {"overview": Table, "deaths": ..., "serious": ..., "discontinuation": ..., "common": ...}. The numbers are
    `ae.overview()`, `ae.only("serious").to_frame()` and `.compare()`.

    Agrees with
    -----------
    Recounts of the CDISC pilot and of kap-parallel by sets of subjects, exactly.

    References
    ----------
    FDA (2022), Standard Safety Tables and Figures: Integrated Guide.

    Examples
    --------
    >>> from kapstats.safety.incidence import incidence
    >>> adsl = {"USUBJID": [1, 2, 3], "TRT01A": ["KAP", "KAP", "Placebo"], "TRT01AN": [1, 1, 0], "DTHFL": ["", "", ""]}
    >>> adae = {"USUBJID": [1, 2], "AEDECOD": ["Nausea", "Fall"], "AESER": ["N", "Y"], "TRTEMFL": ["Y", "Y"]}
    >>> tables = standard_tables(incidence(adae, adsl, terms=["AEDECOD"]))
    >>> [row[:3] for row in tables["serious"].rows]
    [('Any serious event', '0', '1 (50.0%)'), ('Fall', '0', '1 (50.0%)')]
    """
    options = {"method": method, "level": level, "digits": digits}
    tables = {"overview": _overview(ae, method, level, digits)}
    for name in LISTED:
        tables[name] = _listed(ae, name, sort, method, level, digits)
    title = f"Adverse events in at least {min_percent:g}% of a group, by {in_words(ae.by)}"
    tables["common"] = ae.table(min_percent, sort, comparison=True, title=title, **options)
    return tables


def only(ae: Incidence, kind: str) -> Incidence:
    """The counts of `ae` with the records of one kind: same population, same groups, same denominators.

    Parameters
    ----------
    kind : related, severe, serious, leading to discontinuation, fatal; by the variables that `overview` uses

    Raises
    ------
    DataError
        When ADAE lacks the variables that tell, or never fills them in.
    """
    kinds = overview.kinds_of(ae.records.events)
    mask = kinds[choose(kind, list(kinds), "kind")]
    if mask is None:
        raise DataError(f"ADAE cannot tell which events are {kind}: its variables are not there, or all missing.")
    kept = ae.records.keep(mask, f"{kind} only: {int(mask.sum())} records")
    sentence = f"{ae.meta.get('sentence', '')}; {kept.notes[-1]}"
    said = {"title": f"Adverse events, {kind}, by {in_words(ae.by)}", "any": f"Any {kind} event", "sentence": sentence}
    if kind == "any event":
        said = {}
    frame = count(kept, ae.terms, ae.groups)
    return replace(ae, records=kept, frame=frame, meta={**ae.meta, "data": kept.fingerprint(), **said})


def _listed(ae: Incidence, name: str, sort: str, method: str, level: float, digits: int) -> Table:
    """The subjects of ADSL first, then the records of ADAE by term, whichever of the two there is."""
    kind, title = LISTED[name]
    title = f"{title} by {in_words(ae.by)}"
    flagged, source = _subjects(ae, name)
    head = [] if flagged is None else [_flagged(ae, flagged, source, method, level, digits)]
    said = () if flagged is not None or name == "serious" else (f"ADSL does not say ({source}).",)
    try:
        own = only(ae, kind)
    except DataError as absent:
        notes = (*said, str(absent), layout.difference_note(ae.reference, method, level), *ae.warnings)
        return Table(columns=_header(ae, level), rows=tuple(head), title=title, footnotes=notes)
    table = own.table(sort=sort, comparison=True, method=method, level=level, digits=digits, title=title)
    return replace(
        table,
        rows=(*head, *table.rows),
        indent=(*([0] * len(head)), *table.indent),
        footnotes=(*table.footnotes, *said),
    )


def _subjects(ae: Incidence, name: str) -> tuple[BoolArray | None, str]:
    """Subjects whom ADSL marks, and what the row is called; None and the columns looked for where it does not."""
    adsl = ae.records.subjects
    if name == "deaths":
        return (_yes(adsl, "DTHFL"), "Death, any cause (ADSL)") if "DTHFL" in adsl else (None, "DTHFL")
    if name == "discontinuation":
        found = next((c for c in REASONS if c in adsl and adsl[c].notna().any()), None)
        if "DSRAEFL" in adsl:
            return _yes(adsl, "DSRAEFL"), "Left because of an adverse event (ADSL)"
        if found is not None:
            words = capitals(adsl[found])
            return words.str.contains("ADVERSE EVENT").to_numpy(bool), "Left because of an adverse event (ADSL)"
        return None, "DSRAEFL, " + ", ".join(REASONS)
    return None, ""


def _yes(adsl: pd.DataFrame, column: str) -> BoolArray:
    return is_yes(adsl[column], f"ADSL.{column}", adsl["USUBJID"])


def _flagged(ae: Incidence, flagged: BoolArray, label: str, method: str, level: float, digits: int) -> tuple[str, ...]:
    size = ae.records.size
    subjects = np.bincount(ae.records.arm[flagged], minlength=size.size)
    frame = overview.compared(ae, label, subjects, subjects, size, method, rows.check_side("two", level))
    return _row(ae, label, frame, digits)


def _row(ae: Incidence, label: str, frame: pd.DataFrame, digits: int) -> tuple[str, ...]:
    """n (%) of every group, then the differences of the others, from rows as `overview` gives them."""
    counts = [
        f"{n} ({number(p, digits)}%)" if n else str(n)
        for n, p in zip(frame["n_subjects"], frame["percent"], strict=True)
    ]
    base = frame[frame["contrast"] == ""].iloc[0]
    others = frame[frame["contrast"] != ""].rename(columns={"n_subjects": "x1", "N": "n1"})
    others = others.assign(x2=base["n_subjects"], n2=base["N"])
    return (label, *counts, *layout.difference_cells(others, digits))


def _header(ae: Incidence, level: float) -> tuple[str, ...]:
    contrasts = [f"{arm} - {ae.reference}" for arm in ae.arms if arm != ae.reference]
    groups = [f"{arm} (N={n})" for arm, n in ae.sizes.items()]
    return ("Adverse event", *groups, *(layout.difference_header(name, level) for name in contrasts))


def _overview(ae: Incidence, method: str, level: float, digits: int) -> Table:
    found = overview.overview(ae, method=method, level=level)
    body = [_row(ae, str(kind).capitalize(), part, digits) for kind, part in found.frame.groupby("kind", sort=False)]
    for name in ("discontinuation", "deaths"):
        flagged, label = _subjects(ae, name)
        if flagged is not None:
            body.append(_flagged(ae, flagged, label, method, level, digits))
    notes = (str(found.meta["sentence"]), layout.difference_note(ae.reference, method, level), *ae.warnings)
    return Table(columns=_header(ae, level), rows=tuple(body), title=str(found.meta["title"]), footnotes=notes)
