"""A drawn trial as ADaM data sets, and a folder of them that one command writes bit for bit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kapstats._types import BoolArray, FloatArray, IntArray
from kapstats.data import output
from kapstats.data.conventions import SIMULATED
from kapstats.data.trial import Trial
from kapstats.simulation import scenario as scenarios
from kapstats.simulation.draw import Draw, present
from kapstats.simulation.scenario import Scenario
from kapstats.simulation.streams import stream

START = np.datetime64("2024-01-08")
#: CSV files are written in this order
DATASETS = ("adsl", "adqs", "adtte", "adfu", "adae", "adex", "advs")
SEVERITY = np.array(["", "MILD", "MODERATE", "SEVERE"])


def assemble(drawn: Draw, truth: bool = True) -> Trial:
    """The trial of a draw: every data set that its components allow, and what is true of it."""
    adsl = subject_level(drawn)
    made: dict[str, pd.DataFrame | None] = {"adsl": adsl}
    made["adqs"] = questionnaires(drawn, adsl) if drawn.scores is not None else None
    made["adtte"] = time_to_event(drawn, adsl) if drawn.follow_up is not None else None
    made["adfu"] = follow_up(drawn, adsl) if drawn.follow_up is not None else None
    made["adae"] = adverse_events(drawn, adsl) if drawn.events is not None else None
    made["adex"] = exposure(drawn, adsl) if drawn.sessions is not None else None
    made["advs"] = vital_signs(drawn, adsl) if drawn.courses is not None else None
    known = None
    if truth:
        from kapstats.simulation.truth import truth as compute

        known = compute(drawn.scenario) | {"seed": drawn.seed, "subjects": drawn.n}
    held = {k: v for k, v in made.items() if v is not None}
    return Trial(**held, truth=known, labels={"adsl": SIMULATED}, name=drawn.scenario.name)


def _arm_columns(drawn: Draw) -> dict[str, Any]:
    arms, arm = drawn.scenario.arms, drawn.subjects.arm
    label, code = np.array([a.label for a in arms])[arm], np.array([a.code for a in arms])[arm]
    return {"TRT01P": label, "TRT01PN": code, "TRT01A": label, "TRT01AN": code}


def identifiers(drawn: Draw) -> list[str]:
    """Unique subject identifiers: study, site, number within the trial."""
    study = drawn.scenario.name.upper()
    first = 1 + (drawn.replicate * drawn.n if drawn.scenario.design == "registry" else 0)
    return [f"{study}-{s + 1:02d}-{first + i:04d}" for i, s in enumerate(drawn.subjects.site)]


def first_dose(drawn: Draw) -> Any:
    """Calendar day of the first dose of each subject: enrolment at a steady rate."""
    gaps = stream(drawn.seed, drawn.scenario.name, drawn.replicate, "enrolment").integers(0, 4, drawn.n)
    return START + np.cumsum(gaps)


def subject_level(drawn: Draw) -> pd.DataFrame:
    """ADSL."""
    who, scenario = drawn.subjects, drawn.scenario
    start = first_dose(drawn)
    columns: dict[str, Any] = {
        "STUDYID": scenario.name.upper(),
        "USUBJID": identifiers(drawn),
        "SITEID": [f"{s + 1:02d}" for s in who.site],
        "THERAPID": [f"T{t + 1:02d}" for t in who.therapist],
        "AGE": who.age,
        "AGEGR1": np.where(who.age < 45, "<45", ">=45"),
        "SEX": np.where(who.female, "F", "M"),
        "WEIGHT": who.weight,
        **_arm_columns(drawn),
        "ROUTE": np.array([a.route for a in scenario.arms])[who.arm],
        "DRUG": np.array([a.drug for a in scenario.arms])[who.arm],
    }
    for name in dict.fromkeys(key for a in scenario.arms for key, _ in a.factors):
        columns[name] = np.array([dict(a.factors).get(name) for a in scenario.arms])[who.arm]
    if drawn.believers is not None:
        columns["GUESS"] = np.where(drawn.believers, "DRUG", "PLACEBO")
    if any(a.later for a in scenario.arms):
        columns["TRT02P"] = np.array([a.later for a in scenario.arms])[who.arm]
        columns["TRTSEQP"] = np.array([f"{a.label} - {a.later}" for a in scenario.arms])[who.arm]
    randomised = "N" if scenario.design in ("registry", "cohort") else "Y"
    columns |= {"SAFFL": "Y", "ITTFL": "Y", "RANDFL": randomised, "TRTSDT": start.astype(str)}
    return pd.DataFrame(columns | _disposition(drawn, start))


def _disposition(drawn: Draw, start: Any) -> dict[str, Any]:
    """Last dose, end of treatment and its reason, baseline score and response."""
    out: dict[str, Any] = {}
    if drawn.sessions is not None and drawn.scenario.dosing is not None:
        days = np.asarray(drawn.scenario.dosing.days)
        last = np.where(drawn.sessions.given, days, 0).max(axis=1)
        out |= {"TRTEDT": (start + last).astype(str), "NSESS": drawn.sessions.given.sum(axis=1)}
    if drawn.scores is None or drawn.disposition is None or drawn.scenario.response is None:
        return out
    stayed = drawn.disposition.left == drawn.scores.score.shape[1]
    u = stream(drawn.seed, drawn.scenario.name, drawn.replicate, "reasons").random(drawn.n)
    reasons = np.array(["WITHDRAWAL BY SUBJECT", "ADVERSE EVENT", "LACK OF EFFICACY", "LOST TO FOLLOW-UP"])
    reason = reasons[np.minimum((u * 4).astype(int), 3)]
    baseline = f"{drawn.scenario.response.parameter}BL"[:8]
    out |= {"EOSSTT": np.where(stayed, "COMPLETED", "DISCONTINUED"), "DCSREAS": pd.Series(reason).where(~stayed)}
    out |= {baseline: drawn.scores.base.astype(np.int64)}
    if drawn.follow_up is not None:
        out["RESPFL"] = np.where(drawn.follow_up.at_risk, "Y", "N")
    return out


def flag(condition: BoolArray) -> pd.Series:
    """ "Y" or missing."""
    return pd.Series("Y", index=range(condition.size)).where(condition)


def _keys(adsl: pd.DataFrame, rows: IntArray, *more: str) -> dict[str, Any]:
    names = ("STUDYID", "USUBJID", "SITEID", *more)
    return {name: adsl[name].to_numpy()[rows] for name in names}


def visit_days(drawn: Draw) -> FloatArray:
    """Actual day of each visit (n, v): a day early or late from the first week on, as a component of its own."""
    spec = present(drawn.scenario.response)
    days = np.asarray(spec.days)
    late = stream(drawn.seed, drawn.scenario.name, drawn.replicate, "visit_days").integers(-1, 2, (drawn.n, days.size))
    return days + np.where(days >= 7, late, 0)


def questionnaires(drawn: Draw, adsl: pd.DataFrame) -> pd.DataFrame:
    """ADQS: baseline and every visit that was held; CHG is missing at baseline."""
    spec, scores = present(drawn.scenario.response), present(drawn.scores)
    disposition = present(drawn.disposition)
    days = np.asarray(spec.days)
    held = np.column_stack([np.ones(drawn.n, dtype=bool), disposition.observed])
    value = np.column_stack([scores.base, disposition.policy])
    actual = np.column_stack([np.zeros(drawn.n, dtype=np.int64), visit_days(drawn)])
    rows, visit = np.nonzero(held)
    aval, base = value[rows, visit], scores.base[rows]
    return pd.DataFrame(
        {
            **_keys(adsl, rows, "TRT01P", "TRT01PN"),
            **_period(drawn, adsl, rows, visit),
            "PARAMCD": spec.parameter,
            "PARAM": spec.label,
            "AVISIT": np.array(["Baseline", *(f"Day {d}" for d in days)])[visit],
            "AVISITN": np.append(0, days)[visit],
            "ADY": actual[rows, visit] + 1,
            "BASE": base,
            "AVAL": aval,
            "CHG": np.where(visit == 0, np.nan, aval - base),
            "ABLFL": flag(visit == 0),
            "ANL01FL": flag(visit > 0),
        }
    )


def _period(drawn: Draw, adsl: pd.DataFrame, rows: IntArray, visit: IntArray) -> dict[str, Any]:
    """Period and its treatment, in a crossover."""
    spec = present(drawn.scenario.response)
    if not spec.periods:
        return {}
    period = np.append(1, spec.periods)[visit]
    first, second = adsl["TRT01P"].to_numpy()[rows], adsl["TRT02P"].to_numpy()[rows]
    return {"APERIOD": period, "TRTP": np.where(period == 1, first, second)}


def time_to_event(drawn: Draw, adsl: pd.DataFrame) -> pd.DataFrame:
    """ADTTE: time to relapse; CNSR 0 is the event, LEFT and RIGHT the interval in which it happened.

    STATUS (2: treatment was stopped first) where the scenario has that competing event.
    """
    f, spec = present(drawn.follow_up), present(drawn.scenario.relapse)
    rows = np.flatnonzero(f.at_risk)
    event, time = f.event[rows], f.time[rows]
    ended = time >= spec.visit_days[-1] - 1
    stopped = np.zeros(rows.size, dtype=bool) if f.stopped is None else f.stopped[rows]
    reason = np.where(stopped, "TREATMENT STOPPED", np.where(ended, "COMPLETED FOLLOW-UP", "LOST TO FOLLOW-UP"))
    status = {} if f.stopped is None else {"STATUS": np.where(event, 1, np.where(stopped, 2, 0))}
    since = "Response" if spec.origin == "response" else "Randomisation"
    return pd.DataFrame(
        {
            **_keys(adsl, rows, "TRT01P", "TRT01PN"),
            "PARAMCD": "RELAPSE",
            "PARAM": f"Time to Relapse from {since} (Days)",
            "AVAL": time,
            "CNSR": np.where(event, 0, 1),
            **status,
            "EVNTDESC": np.where(event, "RELAPSE", reason),
            "LEFT": np.where(event, f.left[rows], time),
            "RIGHT": np.where(event, f.right[rows], np.nan),
        }
    )


def follow_up(drawn: Draw, adsl: pd.DataFrame) -> pd.DataFrame:
    """ADFU: the scores of the follow-up, from which the relapse can be derived again (ADY: days from its origin)."""
    f, response = present(drawn.follow_up), drawn.scenario.response
    rows, visit = np.nonzero(f.held & f.at_risk[:, None])
    name, label = (response.parameter, response.label) if response else ("MADRS", "MADRS Total Score")
    return pd.DataFrame(
        {
            **_keys(adsl, rows, "TRT01P", "TRT01PN"),
            "PARAMCD": name,
            "PARAM": label,
            "AVISIT": [f"Follow-up {v + 1}" for v in visit],
            "AVISITN": visit + 1,
            "ADY": f.day[rows, visit],
            "AVAL": f.score[rows, visit],
        }
    )


def adverse_events(drawn: Draw, adsl: pd.DataFrame) -> pd.DataFrame:
    """ADAE: one row per event in order of onset, with minutes from the start of the session."""
    e, spec = present(drawn.events), present(drawn.scenario.adverse_events)
    dosing = present(drawn.scenario.dosing)
    minutes = np.asarray(dosing.days)[e.session] * 1440.0 + 600.0 + np.rint(e.onset)
    order = np.lexsort((e.term, minutes, e.subject))
    rows, term, begin = e.subject[order], e.term[order], minutes[order]
    duration = np.rint(e.duration[order])
    start = first_dose(drawn)[rows].astype("datetime64[m]")
    background = np.array([t.background for t in spec.terms], dtype=bool)[term]
    sequence = np.arange(rows.size) - np.searchsorted(rows, rows, side="left") + 1
    return pd.DataFrame(
        {
            **_keys(adsl, rows, "TRT01A", "TRT01AN", "ROUTE"),
            "AESEQ": sequence,
            "AEBODSYS": np.array([t.soc for t in spec.terms])[term],
            "AEDECOD": np.array([t.pt for t in spec.terms])[term],
            "AESEV": SEVERITY[e.severity[order]],
            "ASEVN": e.severity[order],
            "AESER": np.where(e.serious[order], "Y", "N"),
            "AEREL": np.where(background, "NOT RELATED", "RELATED"),
            "TRTEMFL": "Y",
            "SESSION": e.session[order] + 1,
            "ASTDTM": (start + begin.astype("timedelta64[m]")).astype(str),
            "AENDTM": (start + (begin + duration).astype("timedelta64[m]")).astype(str),
            "ASTDY": (begin // 1440).astype(np.int64) + 1,
            "AENDY": ((begin + duration) // 1440).astype(np.int64) + 1,
            "ONSETMIN": np.rint(e.onset[order]).astype(np.int64),
            "DURMIN": duration.astype(np.int64),
        }
    )


def exposure(drawn: Draw, adsl: pd.DataFrame) -> pd.DataFrame:
    """ADEX: one row per session given, with the concentrations that the pharmacokinetic model predicts."""
    taken, dosing = present(drawn.sessions), present(drawn.scenario.dosing)
    rows, session = np.nonzero(taken.given)
    day = np.asarray(dosing.days)[session]
    route = adsl["ROUTE"].to_numpy()[rows]
    return pd.DataFrame(
        {
            **_keys(adsl, rows, "TRT01A", "TRT01AN", "DRUG"),
            "EXROUTE": np.where(route == "PLACEBO", "INTRAVENOUS", route),
            "SESSION": session + 1,
            "EXSTDT": (first_dose(drawn)[rows] + day).astype(str),
            "ASTDY": day + 1,
            "EXDOSE": taken.dose[rows],
            "EXDOSU": "mg",
            "CMAX": taken.cmax[rows, session].round(1),
            "TMAX": taken.exposure.tmax[rows].round(1),
            "AUC4H": (taken.exposure.auc[rows] * taken.factor[rows, session]).round(1),
        }
    )


def vital_signs(drawn: Draw, adsl: pd.DataFrame) -> pd.DataFrame:
    """ADVS: CADSS total and systolic pressure by minute of the assessed sessions that were given."""
    spec, c, taken = present(drawn.scenario.course), present(drawn.courses), present(drawn.sessions)
    session = np.asarray(spec.sessions)
    given = np.repeat(taken.given[:, session - 1, None], len(spec.minutes), axis=2)
    parts = [
        _course(adsl, c.cadss, given, spec.minutes, session, "CADSS", "CADSS Total Score"),
        _course(adsl, c.sbp, given, spec.minutes, session, "SYSBP", "Systolic Blood Pressure (mmHg)"),
    ]
    return pd.concat(parts, ignore_index=True)


def _course(
    adsl: pd.DataFrame,
    value: FloatArray,
    given: BoolArray,
    minutes: tuple[int, ...],
    session: IntArray,
    code: str,
    label: str,
) -> pd.DataFrame:
    rows, s, m = np.nonzero(given)
    base, aval = value[rows, s, 0], value[rows, s, m]
    return pd.DataFrame(
        {
            **_keys(adsl, rows, "TRT01A", "TRT01AN"),
            "PARAMCD": code,
            "PARAM": label,
            "SESSION": session[s],
            "ATPTN": np.asarray(minutes)[m],
            "BASE": base,
            "AVAL": aval,
            "CHG": aval - base,
        }
    )


def write(trial: Trial, folder: str | Path, scenario: str | Scenario | None = None) -> Path:
    """Write a simulated trial as CSV files with its truth, scenario, README and checksums, all or nothing.

    Parameters
    ----------
    trial : what `simulate` returned
    folder : made when it does not exist; an earlier simulated trial there is replaced as a whole
    scenario : defaults to the built-in scenario that carries the trial's name

    Raises
    ------
    DataError
        When the folder holds something else, or cannot be written.
    """
    files = {f"{name}.csv": as_csv(frame) for name, frame in trial.datasets.items()}
    if trial.truth is not None:
        files["truth.json"] = as_json(trial.truth).encode()
    chosen = scenarios.resolve(scenario or trial.name)
    source = chosen.name.removesuffix("-null")
    if source in scenarios.names():
        files["scenario.toml"] = scenarios.text(source).encode()
    files["README.md"] = readme(trial, chosen).encode()
    files[SUMS] = checksums(files).encode()
    return output.write(files, folder, listed)


SUMS = "SHA256SUMS"


def listed(folder: Path) -> set[str]:
    """The files that an earlier simulated trial wrote to a folder."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return set()
    return {SUMS, *(line.split("  ", 1)[-1] for line in lines)}


def as_csv(frame: pd.DataFrame) -> bytes:
    """A frame as CSV bytes that do not depend on the platform: whole numbers without a point, missing values empty."""
    out = frame.copy()
    for name in out.columns:
        if out[name].dtype.kind == "f":
            whole = bool(np.all(np.mod(out[name].dropna().to_numpy(), 1) == 0))
            out[name] = out[name].astype("Int64") if whole else out[name].round(3)
    return out.to_csv(index=False, lineterminator="\n").encode()


def as_json(truth: Mapping[str, Any]) -> str:
    """The truth as JSON, one row of a table per line."""
    parts = []
    for key, value in truth.items():
        rows = isinstance(value, list) and value and isinstance(value[0], dict)
        body = "[\n  " + ",\n  ".join(json.dumps(row) for row in value) + "\n ]" if rows else json.dumps(value)
        parts.append(f" {json.dumps(key)}: {body}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def checksums(files: Mapping[str, bytes]) -> str:
    """One line per file, as ``sha256sum`` writes them."""
    return "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))


def readme(trial: Trial, scenario: Scenario) -> str:
    """What the folder holds and how to make it again."""
    held = trial.datasets.items()
    rows = "".join(f"| {name}.csv | {len(frame)} | {CONTENT.get(name, '')} |\n" for name, frame in held)
    arms = "".join(f"| {a.code} | {a.label} | {a.route} | {_dose(a)} |\n" for a in scenario.arms)
    notes = "".join(f"- {note}\n" for note in scenario.notes)
    seed, n = (trial.truth or {}).get("seed", 1), len(trial.adsl)
    options = (f" --subjects {n}" if n != scenario.subjects else "") + (f" --seed {seed}" if seed != 1 else "")
    return (
        f"# {scenario.name}: {scenario.title}\n\nSynthetic: no person stands behind any row. Seed {seed}. "
        f"Made, and remade bit for bit, by\n\n    kapstats simulate {scenario.name}{options} --out DIR\n\n"
        f"| TRT01PN | TRT01P | ROUTE | dose |\n|---|---|---|---|\n{arms}\n"
        f"| file | rows | one row is |\n|---|---|---|\n{rows}"
        "| truth.json | | the true value of every estimand, its Monte-Carlo error, how it was found |\n"
        "| scenario.toml | | everything that defines the trial |\n\n"
        f"{notes}"
        "- A visit that was not held has no row. CNSR is 0 for an event. ADY 1 is the day of the first dose;\n"
        "  AVAL, LEFT and RIGHT of ADTTE and ADY of ADFU from the origin of the follow-up.\n"
        "- ONSETMIN and DURMIN of ADAE are minutes, from the start of the session to the onset and to the resolution.\n"
    )


CONTENT = {
    "adsl": "a subject",
    "adqs": "a score at a visit",
    "adtte": "a subject at risk of relapse",
    "adfu": "a score in the follow-up",
    "adae": "an adverse event",
    "adex": "a session given",
    "advs": "CADSS or systolic pressure at a minute of a session",
}


def _dose(arm: scenarios.Arm) -> str:
    return "none" if not arm.dose else f"{arm.dose:g} mg{'/kg' if arm.per_kg else ''}"
