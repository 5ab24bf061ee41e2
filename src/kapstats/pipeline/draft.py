"""A commented plan drawn up from what a data folder holds: something to edit, not something to trust."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pandas as pd

from kapstats.data.baseline import USUAL
from kapstats.data.disposition import REASONS
from kapstats.data.exposure import EXPOSURE
from kapstats.data.flags import is_yes
from kapstats.data.trial import Trial
from kapstats.errors import DataError

HEAD = """# A first plan for this folder, drawn up by `kapstats init`. Read it, change it, then:
#   kapstats run {file} --data {folder}
# Every [[analysis]] is one section of the report; delete what you do not want. Misspelt keys are errors with a line.

[study]
title = {title}
subtitle = ""

# [documents]                # the tables as documents: tables/*.rtf, numbered by `number` of each analysis
# formats = ["rtf"]          # and "docx", "latex"
# header = "Protocol ..."
"""


def draft(trial: Trial, *, file: str = "plan.toml", folder: str = "DIR") -> str:
    """A plan with one analysis for every dataset of `trial` that looks like one of the known kinds.

    Raises
    ------
    DataError
        When nothing in the trial looks like an outcome, times or adverse events.

    Examples
    --------
    >>> adae = {"USUBJID": ["1"], "AEBODSYS": ["Nervous"], "AEDECOD": ["Headache"], "TRTEMFL": ["Y"]}
    >>> adsl = {"USUBJID": ["1", "2"], "TRT01A": ["KAP", "Placebo"], "SAFFL": ["Y", "Y"]}
    >>> [line for line in draft(Trial(adsl=adsl, adae=adae)).splitlines() if line.startswith("kind")]
    ['kind = "incidence"']
    """
    parts = [*_responses(trial), *_times(trial), *_events(trial)]
    if parts:
        parts = [*_participants(trial), *parts]
    if not parts:
        held = ", ".join(name.upper() for name in trial)
        raise DataError(f"Nothing to plan: {held} hold neither CHG by visit, nor AVAL with CNSR, nor adverse events.")
    file, folder = (" ".join(text.split()) for text in (file, folder))
    head = HEAD.format(file=file, folder=folder, title=_quoted(trial.name or "My trial"))
    return "\n".join([head, *parts])


def _participants(trial: Trial) -> Iterator[str]:
    """Disposition, baseline and exposure, as far as ADSL and ADEX have them."""
    columns = set(trial.adsl.columns) if "adsl" in trial else set()
    planned = next((c for c in ("TRT01P", "TRT01A") if c in columns), None)
    if planned is None:
        return
    by = f"by = {_quoted(planned)}"
    if columns & {"EOSSTT", *REASONS}:
        yield _entry("disposition", "disposition", "Disposition of subjects", "adsl", "", [], [by])
    if columns & set(USUAL):
        variables = [c for c in USUAL if c in columns]
        shown = f"variables = {json.dumps(variables)}"
        yield _entry(
            "baseline",
            "baseline",
            "Subjects at baseline",
            "adsl",
            _population(trial, "ITTFL", "SAFFL"),
            [],
            [by, shown],
        )
    actual = next((c for c in ("TRT01A", "TRT01P") if c in columns), planned)
    if "adex" in trial or columns & {*EXPOSURE.values()}:
        source = "adex" if "adex" in trial else "adsl"
        yield _entry("exposure", "exposure", "Exposure to treatment", source, "", [], [f"by = {_quoted(actual)}"])


def _responses(trial: Trial) -> Iterator[str]:
    """An MMRM for the parameter with most records of each dataset with CHG by visit."""
    seen: list[pd.DataFrame] = []
    for name, frame in trial.datasets.items():
        if not {"CHG", "AVISIT", "USUBJID"} <= set(frame.columns) or any(frame.equals(other) for other in seen):
            continue
        seen.append(frame)
        arm = _arm(frame, trial)
        if arm is None:
            continue
        where = []
        if "PARAMCD" in frame.columns:
            parameters = frame.loc[frame["CHG"].notna(), "PARAMCD"].value_counts()
            if parameters.empty:
                continue
            where.append(f"PARAMCD == {str(parameters.index[0])!r}")
        where += ["ANL01FL == 'Y'"] * _flagged(frame, "ANL01FL") + ["AVISITN > 0"] * ("AVISITN" in frame.columns)
        base = "BASE*AVISIT + " if "BASE" in frame.columns else ""
        everybody = _population(trial, "ITTFL", "FASFL")
        yield _entry(
            "mmrm", f"{name}-change", f"Change from baseline ({name.upper()})", name, everybody, where, [
                f'formula = "CHG ~ {base}{arm}*AVISIT + us(AVISIT | USUBJID)"', f"arm = {_quoted(arm)}",
                f"reference = {_quoted(str(trial.arms[0]))}  # the arm others are compared with",
                'adjust = ["dunnett", "holm"]  # of the p values within a visit', 'label = "Change from baseline"',
                'better = "lower"  # or "higher"',
            ],
        )  # fmt: skip


def _times(trial: Trial) -> Iterator[str]:
    """Curves, test and model for every parameter of ADTTE."""
    if "adtte" not in trial or not {"AVAL", "CNSR"} <= set(trial.adtte.columns):
        return
    frame, arm = trial.adtte, _arm(trial.adtte, trial)
    if arm is None:
        return
    codes = list(frame["PARAMCD"].dropna().unique()) if "PARAMCD" in frame.columns else [None]
    for code in codes:
        where = [f"PARAMCD == {str(code)!r}"] if code is not None else []
        yield _entry(
            "survival", f"time-{_file_name(code or 'event')}", f"Time to event ({code or 'ADTTE'})", "adtte",
            "", where, [
                f'formula = "Surv(AVAL, CNSR == 0) ~ {arm}"  # ADaM: CNSR 0 is the event',
                'show = ["logrank", "cox", "zph"]', 'unit = "days"',
                'label = "Free of the event"', 'event = "the event"',
            ],
        )  # fmt: skip


def _events(trial: Trial) -> Iterator[str]:
    """Adverse events by actual treatment, or by route where ADSL has it."""
    if "adae" not in trial or "adsl" not in trial or "AEDECOD" not in trial.adae.columns:
        return
    by = next((c for c in ("ROUTE", "TRT01A", "TRT01P") if c in trial.adsl.columns), None)
    if by is None:
        return
    terms = [c for c in ("AEBODSYS", "AEDECOD") if c in trial.adae.columns]
    yield _entry(
        "incidence", "adverse-events", "Adverse events", "adae", _population(trial, "SAFFL"), [], [
            f"by = {_quoted(by)}", f"terms = {json.dumps(terms)}",
            "min_percent = 5  # of a group, for differences and figures",
        ],
    )  # fmt: skip


def _entry(kind: str, name: str, title: str, dataset: str, population: str, where: list[str], more: list[str]) -> str:
    lines = ["[[analysis]]", f"kind = {_quoted(kind)}", f"name = {_quoted(name)}", f"title = {_quoted(title)}"]
    lines.append(f"dataset = {_quoted(dataset)}")
    lines.append(f'population = {_quoted(population)}  # a flag in ADSL; "" for everybody')
    lines += [f"where = {json.dumps(where, ensure_ascii=False)}"] * bool(where)
    return "\n".join([*lines, *more, ""])


def _arm(frame: pd.DataFrame, trial: Trial) -> str | None:
    adsl = set(trial.adsl.columns) if "adsl" in trial else set()
    return next((c for c in ("TRT01P", "TRTP", "TRT01A", "TRTA", "ARM") if c in frame.columns or c in adsl), None)


def _flagged(frame: pd.DataFrame, flag: str) -> bool:
    return flag in frame.columns and bool(is_yes(frame[flag], flag, frame["USUBJID"]).any())


def _population(trial: Trial, *flags: str) -> str:
    columns = trial.adsl.columns if "adsl" in trial else ()
    return next((flag for flag in flags if flag in columns), "")


def _file_name(text: object) -> str:
    return "".join(c if c.isalnum() and c.isascii() else "-" for c in str(text).lower()).strip("-") or "event"


def _quoted(text: str) -> str:
    """`text` as a TOML string (JSON's strings are TOML's)."""
    return json.dumps(text, ensure_ascii=False)
