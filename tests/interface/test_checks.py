"""trial.check(): a clean trial is clean, and every rule finds what breaks it, in the rows that break it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from kapstats.data.rules import RULES

DAY = pd.Timestamp("2024-01-01")


def clean() -> dict[str, pd.DataFrame]:
    ids = ["01", "02", "03", "04"]
    adsl = pd.DataFrame(
        {
            "USUBJID": ids,
            "TRT01P": ["KAP", "KAP", "Placebo", "Placebo"],
            "TRT01PN": [1.0, 1, 0, 0],
            "TRT01A": ["KAP", "KAP", "Placebo", "Placebo"],
            "SAFFL": "Y",
            "AGE": [30.0, 40, 50, 60],
            "SITEID": ["1", "1", "2", "2"],
            "TRTSDT": DAY,
            "TRTEDT": DAY + pd.Timedelta(days=14),
            "DTHDT": pd.Series([pd.NaT, pd.NaT, pd.NaT, DAY + pd.Timedelta(days=40)]),
        }
    )
    adqs = pd.DataFrame([(i, v) for i in ids for v in (0, 7, 14)], columns=["USUBJID", "AVISITN"]).assign(
        PARAM="MADRS total",
        PARAMCD="MADRS",
        AVISIT=lambda f: f["AVISITN"].map({0: "Baseline", 7: "Day 7", 14: "Day 14"}),
        AVISITN=lambda f: f["AVISITN"].astype(float),
        ADT=lambda f: DAY + pd.to_timedelta(f["AVISITN"], unit="D"),
        BASE=30.0,
        AVAL=lambda f: 30.0 - f["AVISITN"],
        CHG=lambda f: np.where(f["AVISITN"] > 0, -f["AVISITN"], np.nan),
        PCHG=lambda f: f["CHG"] / 0.3,
        ABLFL=lambda f: np.where(f["AVISITN"] == 0, "Y", "N"),
        AVALU="points",
        TRT01P=["KAP"] * 6 + ["Placebo"] * 6,
    )
    adtte = adsl[["USUBJID", "TRT01P"]].assign(
        PARAMCD="RELAPSE",
        AVAL=[5.0, 9, 12, 14],
        CNSR=[0.0, 1, 0, 1],
        EVENT=[1.0, 0, 1, 0],
        STARTDT=DAY,
        ADT=DAY + pd.to_timedelta([5, 9, 12, 14], unit="D"),
        START=0.0,
        STOP=[5.0, 9, 12, 14],
        LEFT=[4.0, 9, 11, 14],
        RIGHT=[5.0, np.inf, 12, np.inf],
    )
    adae = pd.DataFrame(
        {
            "USUBJID": ["01", "01", "02"],
            "AESEQ": [1.0, 2, 1],
            "AEDECOD": ["Nausea", "Headache", "Nausea"],
            "AEBODSYS": ["Gastrointestinal disorders", "Nervous system disorders", "Gastrointestinal disorders"],
            "ASTDT": [DAY, DAY + pd.Timedelta(days=1), DAY],
            "AENDT": [DAY, DAY + pd.Timedelta(days=2), pd.NaT],
            "TRTEMFL": "Y",
            "AOCCFL": ["Y", "N", "Y"],
            "AOCCPFL": ["Y", "Y", "Y"],
        }
    )
    return {"adsl": adsl, "adqs": adqs, "adtte": adtte, "adae": adae}


def put(frame, row, column, value):
    values = frame[column].astype(object).tolist()
    values[row] = value
    return frame.assign(**{column: values}).infer_objects()


def again(frame, row):
    return pd.concat([frame, frame.iloc[[row]]], ignore_index=True)


#: rule, dataset, how to break it, how many rows it then names
BREACHES = [
    ("no-rows", "adae", lambda f: f.head(0), 0),
    ("missing-id", "adqs", lambda f: put(f, 0, "USUBJID", None), 1),
    ("orphan-subject", "adqs", lambda f: put(f, 0, "USUBJID", "99"), 1),
    ("not-a-number", "adqs", lambda f: put(f, 1, "AVAL", "23 points"), 1),
    ("non-finite", "adqs", lambda f: put(f, 1, "AVAL", np.inf), 1),
    ("magnitude", "adqs", lambda f: put(f, 1, "AVAL", 1e300), 1),
    ("flag-values", "adsl", lambda f: put(f, 1, "SAFFL", "yes"), 1),
    ("arm-number", "adsl", lambda f: put(f, 1, "TRT01PN", 2.0), 2),
    ("arm-number", "adsl", lambda f: f.rename(columns={"TRT01P": "TRT10P"}), 4),
    ("several-arms", "adqs", lambda f: put(f, 1, "TRT01P", "Placebo"), 3),
    ("other-arm", "adqs", lambda f: put(f, 1, "TRT01P", "Placebo"), 1),
    ("differs-from-adsl", "adqs", lambda f: f.assign(AGE=30.0), 9),
    ("duplicate-row", "adae", lambda f: again(f, 0), 1),
    ("variants", "adae", lambda f: put(f, 2, "AEDECOD", "NAUSEA "), 2),
    ("active-text", "adae", lambda f: put(f, 1, "AEDECOD", "<img src=x onerror=alert(1)>"), 1),
    ("active-text", "adae", lambda f: put(f, 1, "AEDECOD", '=HYPERLINK("http://x")'), 1),
    ("active-text", "adsl", lambda f: f.assign(TRT01P=f["TRT01P"].replace("KAP", "@SUM(1)")), 2),
    ("active-text", "adae", lambda f: put(f, 1, "AEDECOD", "bell \x07"), 1),
    ("date-kind", "adae", lambda f: put(f.assign(ASTDT=f["ASTDT"].astype(str)), 0, "ASTDT", "2024-01"), 1),
    ("date-kind", "adae", lambda f: f.assign(ASTDT=[23376.0, 23377.0, 23376.0]), 3),
    ("impossible-date", "adae", lambda f: put(f, 0, "ASTDT", pd.Timestamp("1824-01-01")), 1),
    ("required-variable", "adsl", lambda f: f.drop(columns=["TRT01P", "TRT01A", "TRT01PN"]), 0),
    ("required-variable", "adqs", lambda f: f.drop(columns="AVAL"), 0),
    ("required-variable", "adtte", lambda f: f.drop(columns=["CNSR", "EVENT"]), 0),
    ("required-variable", "adae", lambda f: f.drop(columns="AEDECOD"), 0),
    ("missing-arm", "adsl", lambda f: put(f, 0, "TRT01A", None), 1),
    ("population-missing", "adsl", lambda f: put(f, 0, "SAFFL", None), 1),
    ("treatment-dates", "adsl", lambda f: put(f, 0, "TRTEDT", DAY - pd.Timedelta(days=1)), 1),
    ("treated-not-safe", "adsl", lambda f: put(f, 0, "SAFFL", "N"), 1),
    ("treated-not-safe", "adsl", lambda f: put(f, 0, "TRTSDT", pd.NaT), 1),
    ("age", "adsl", lambda f: put(f, 0, "AGE", 430.0), 1),
    ("duplicate-key", "adqs", lambda f: again(f, 1), 2),
    ("visit-number", "adqs", lambda f: put(f, 1, "AVISITN", 8.0), 4),
    ("visit-order", "adqs", lambda f: put(f, 2, "ADT", DAY + pd.Timedelta(days=3)), 1),
    ("change", "adqs", lambda f: put(f, 1, "CHG", -7.5), 1),
    ("percent-change", "adqs", lambda f: put(f, 1, "PCHG", 23.3), 1),
    ("baseline-value", "adqs", lambda f: put(f, 0, "AVAL", 31.0), 1),
    ("baseline-spread", "adqs", lambda f: put(f, 0, "BASE", 31.0), 3),
    ("baseline-records", "adqs", lambda f: put(f, 1, "ABLFL", "Y"), 2),
    ("no-baseline", "adqs", lambda f: put(f, 1, "BASE", np.nan), 1),
    ("parameter-code", "adqs", lambda f: put(f, 1, "PARAM", "HAM-D total"), 12),
    ("mixed-units", "adqs", lambda f: put(f, 1, "AVALU", "percent"), 12),
    ("outside-study", "adqs", lambda f: put(f, 2, "ADT", DAY + pd.Timedelta(days=800)), 1),
    ("after-death", "adqs", lambda f: put(f, 11, "ADT", DAY + pd.Timedelta(days=41)), 1),
    ("missing-value", "adqs", lambda f: put(f, 1, "AVAL", np.nan), 1),
    ("missing-time", "adtte", lambda f: put(f, 0, "AVAL", np.nan), 1),
    ("time-not-positive", "adtte", lambda f: put(f, 0, "AVAL", 0.0), 1),
    ("time-far", "adtte", lambda f: put(pd.concat([f] * 12, ignore_index=True), 0, "AVAL", 1e6), 1),
    ("censoring", "adtte", lambda f: put(f, 1, "CNSR", np.nan), 1),
    ("censoring", "adtte", lambda f: put(f, 1, "CNSR", 0.5), 1),
    ("censoring-codes", "adtte", lambda f: put(f, 1, "CNSR", 2.0), 1),
    ("event-and-censoring", "adtte", lambda f: put(f, 1, "EVENT", 1.0), 1),
    ("duplicate-key", "adtte", lambda f: again(f, 0), 2),
    ("event-before-start", "adtte", lambda f: put(f, 0, "ADT", DAY - pd.Timedelta(days=1)), 1),
    ("interval-order", "adtte", lambda f: put(f, 0, "STOP", 0.0), 1),
    ("limits-order", "adtte", lambda f: put(f, 0, "RIGHT", 3.0), 1),
    ("uncoded", "adae", lambda f: put(f, 0, "AEDECOD", None), 1),
    ("end-before-start", "adae", lambda f: put(f, 1, "AENDT", DAY), 1),
    ("no-start", "adae", lambda f: put(f, 0, "ASTDT", pd.NaT), 1),
    ("emergent-early", "adae", lambda f: put(f, 2, "ASTDT", DAY - pd.Timedelta(days=1)), 1),
    ("severity", "adae", lambda f: f.assign(AESEV=["MODRATE", *["MILD"] * (len(f) - 1)]), 1),
    ("first-occurrence", "adae", lambda f: put(f, 1, "AOCCFL", "Y"), 2),
    ("several-classes", "adae", lambda f: put(f, 2, "AEBODSYS", "Nervous system disorders"), 2),
    ("duplicate-sequence", "adae", lambda f: put(f, 1, "AESEQ", 1.0), 2),
    ("event-again", "adae", lambda f: put(again(f, 0), 3, "AESEQ", 3.0), 1),
    ("outside-study", "adae", lambda f: put(f, 0, "ASTDT", DAY - pd.Timedelta(days=800)), 1),
    ("after-death", "adae", lambda f: put(put(f, 2, "USUBJID", "04"), 2, "ASTDT", DAY + pd.Timedelta(days=41)), 1),
]


def test_a_clean_trial_is_clean():
    findings = ks.Trial(**clean()).check()
    assert findings.to_frame().to_dict("records") == []
    assert findings.meta["errors"] == 0
    assert "0 errors" in findings.meta["sentence"]


@pytest.mark.parametrize(("rule", "dataset", "breach", "rows"), BREACHES, ids=[f"{r}-{d}" for r, d, *_ in BREACHES])
def test_a_breach_is_found_in_its_rows(rule, dataset, breach, rows):
    data = clean()
    data[dataset] = breach(data[dataset])
    findings = ks.Trial(**data).check().filter(rule=rule, dataset=dataset.upper())
    assert findings["rows"].tolist()[:1] == [rows]


def test_every_rule_has_a_breach_here_and_a_line_in_the_documentation():
    assert {rule.name for rule in RULES} == {rule for rule, *_ in BREACHES}
    page = (Path(__file__).parents[2] / "docs" / "methods" / "checks.md").read_text(encoding="utf-8")
    for rule in RULES:
        assert f"| `{rule.name}` | {rule.kind} | {rule.severity} | {rule.text} |" in page


def test_errors_stand_first_and_name_the_subjects():
    data = clean()
    data["adae"] = put(data["adae"], 0, "ASTDT", pd.NaT)
    data["adqs"] = put(data["adqs"], 1, "CHG", 5.0)
    findings = ks.Trial(**data).check()
    assert findings["severity"].tolist() == ["error", "warning"]
    assert findings["first_ids"].tolist() == ["01", "01"]
    assert findings.meta["errors"] == 1
    assert "change" in findings.to_text()


def test_the_pilot_has_no_error_and_known_gaps():
    findings = ks.datasets.load("cdisc-pilot").check()
    assert findings.meta["errors"] == 0
    assert findings.filter(rule="no-start")["rows"].tolist() == [11]
    assert findings.filter(rule="no-baseline")["dataset"].tolist() == ["ADQS"]  # adadas is the same table


def test_simulated_trials_have_no_error():
    for name in ks.datasets.list():
        assert ks.datasets.load(name).check().meta["errors"] == 0, name
