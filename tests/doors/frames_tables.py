"""One small trial in plain tables, and every verb that reads one, for tests of the way in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

import kapstats as ks

Tables = dict[str, pd.DataFrame]


def tables(n: int = 30, seed: int = 3) -> Tables:
    """ADSL, ADQS, ADTTE, ADAE and recurrent events of 2 n subjects; the arms are exchanged in the alphabet."""
    rng = np.random.default_rng(seed)
    ids = np.array([f"S{i:03d}" for i in range(2 * n)])
    arm = np.array(["KAP", "Placebo"] * n)
    number = np.where(arm == "KAP", 1, 0)
    person = pd.DataFrame({"USUBJID": ids, "TRT01P": arm, "TRT01PN": number})
    adsl = person.assign(
        AGE=rng.integers(20, 70, 2 * n), SEX=rng.choice(["F", "M"], 2 * n), SAFFL="Y", TRT01A=arm, TRT01AN=number
    )
    base, level = rng.normal(30, 4, 2 * n), rng.normal(0, 3, 2 * n)
    rows = []
    for i in range(2 * n):
        for k, week in enumerate((1, 2, 10)):
            if k and rng.random() < 0.12:
                continue
            change = level[i] - 2 * k - number[i] * k + rng.normal(0, 3)
            rows.append((ids[i], arm[i], number[i], f"Week {week}", week, 7 * week + 1, base[i], change))
    adqs = pd.DataFrame(rows, columns=["USUBJID", "TRT01P", "TRT01PN", "AVISIT", "AVISITN", "ADY", "BASE", "CHG"])
    adqs["RESP"] = (adqs["CHG"] < -2).astype(int)
    adqs["AVAL"] = adqs["BASE"] + adqs["CHG"]
    time, end = np.ceil(rng.exponential(np.where(number == 1, 60, 40))), rng.integers(20, 90, 2 * n)
    adtte = person.assign(BASE=base, AVAL=np.minimum(time, end), EVENT=(time <= end).astype(int))
    adtte["STATUS"] = np.where(adtte["EVENT"] == 1, rng.choice([1, 2], 2 * n, p=[0.7, 0.3]), 0)
    adtte["LEFT"] = np.floor(adtte["AVAL"] / 10) * 10
    adtte["RIGHT"] = np.where(adtte["EVENT"] == 1, adtte["LEFT"] + 10, np.inf)
    events = [
        (ids[i], arm[i], term, "SOC", int(rng.integers(1, 40)), "Y")
        for i in range(2 * n)
        for term in rng.choice(["Nausea", "Headache", "Dizziness"], rng.poisson(1.5))
    ]
    adae = pd.DataFrame(events, columns=["USUBJID", "TRT01A", "AEDECOD", "AEBODSYS", "ASTDY", "TRTEMFL"])
    spells = []
    for i in range(2 * n):
        start = 0
        for stop in sorted({int(x) for x in rng.integers(1, 80, rng.poisson(1.2))}):
            spells.append((ids[i], arm[i], number[i], start, stop, 1))
            start = stop
        spells.append((ids[i], arm[i], number[i], start, 90, 0))
    adrec = pd.DataFrame(spells, columns=["USUBJID", "TRT01P", "TRT01PN", "START", "STOP", "EVENT"])
    return {"adsl": adsl, "adqs": adqs, "adtte": adtte, "adae": adae, "adrec": adrec}


S = "Surv(AVAL, EVENT) ~ TRT01P"
C = "Surv(AVAL, STATUS) ~ TRT01P"
R = "Surv(START, STOP, EVENT) ~ TRT01P"
INTERVAL = "Surv(LEFT, RIGHT, type='interval2') ~ TRT01P"
MMRM = "CHG ~ BASE*AVISIT + TRT01P*AVISIT + {}(AVISIT | USUBJID)"

#: verb -> (the table it reads, the call); every call takes the level as an option of the call, where it has one
VERBS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "mmrm us": ("adqs", lambda d: ks.mmrm(MMRM.format("us"), d)),
    "mmrm ar1": ("adqs", lambda d: ks.mmrm(MMRM.format("ar1"), d)),
    "contrast": ("adqs", lambda d: ks.mmrm(MMRM.format("cs"), d).lsmeans("TRT01P").contrast("trt.vs.ctrl")),
    "lmm": ("adqs", lambda d: ks.lmm("CHG ~ BASE + ADY*TRT01P + (1 | USUBJID)", d)),
    "glmm": ("adqs", lambda d: ks.glmm("RESP ~ TRT01P*AVISIT + (1 | USUBJID)", d, family="binomial")),
    "gee": ("adqs", lambda d: ks.gee("RESP ~ TRT01P*AVISIT + cluster(USUBJID)", d, family="binomial")),
    "ancova": ("adqs", lambda d: ks.ancova("CHG ~ BASE + TRT01P", d, visit="AVISIT", at="Week 10")),
    "kaplan_meier": ("adtte", lambda d: ks.kaplan_meier(S, d)),
    "logrank": ("adtte", lambda d: ks.logrank(S, d)),
    "cox": ("adtte", lambda d: ks.cox(S + " + BASE", d)),
    "hazard_ratios": ("adtte", lambda d: ks.cox(S, d).hazard_ratios()),
    "rmst": ("adtte", lambda d: ks.rmst(S, d, tau=15)),
    "parametric_survival": ("adtte", lambda d: ks.parametric_survival(S, d)),
    "win_ratio": ("adtte", lambda d: ks.win_ratio(S, d)),
    "cumulative_incidence": ("adtte", lambda d: ks.cumulative_incidence(C, d, cause=1)),
    "gray_test": ("adtte", lambda d: ks.gray_test(C, d, cause=1)),
    "fine_gray": ("adtte", lambda d: ks.fine_gray(C, d, cause=1)),
    "cause_specific": ("adtte", lambda d: ks.cause_specific(C, d)),
    "state_occupation": ("adrec", lambda d: ks.state_occupation(R, d, id="USUBJID")),
    "turnbull": ("adtte", lambda d: ks.turnbull(INTERVAL, d)),
    "interval_cox": ("adtte", lambda d: ks.interval_cox(INTERVAL, d, conf="wald")),
    "recurrent": ("adrec", lambda d: ks.recurrent(R, d, id="USUBJID", model="lwyy")),
    "mean_cumulative_function": ("adrec", lambda d: ks.mean_cumulative_function(R, d, id="USUBJID")),
    "baseline_table": ("adsl", lambda d: ks.baseline_table(d, variables=["AGE", "SEX"])),
    "subgroups": ("adsl", lambda d: ks.subgroups(d, "AGE", by="TRT01P", factors=["SEX"])),
    "missing_patterns": ("adqs", lambda d: ks.missing_patterns(d)),
}  # fmt: skip


def numbers(result: Any) -> pd.DataFrame:
    """What a result reports as one frame of texts and rounded numbers, level by level in its own order."""
    found = result.coefficients if hasattr(result, "coefficients") else result
    frame = found.to_frame() if hasattr(found, "to_frame") else found
    frame = frame.to_pandas() if hasattr(frame, "to_pandas") else frame
    made = {}
    for name in frame.columns:
        values = frame[name]
        if pd.api.types.is_numeric_dtype(values.dtype):
            made[name] = values.astype(float).round(8)
        else:
            made[name] = values.astype("object").map(str)
    return pd.DataFrame(made)
