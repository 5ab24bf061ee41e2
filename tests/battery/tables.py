"""The tables of the battery: what a trialist hands over, small, wide and with gaps.

Every table has about 68 columns, of which a verb names a few; text, numbers, dates and missing values as in ADaM.
Arms and visits are chosen so that the alphabet gives the wrong order and the companions (TRT01PN, AVISITN) the right.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pandas as pd

import kapstats as ks

WIDTH = 68
ARMS = ("Placebo", "KAP IV")  #: the reference first; the alphabet says otherwise
VISITS = ("Day 7", "Day 14", "Day 28")  #: the alphabet would put Day 7 last
BUILDERS: dict[str, Callable[[], pd.DataFrame]] = {}


@cache
def table(name: str) -> pd.DataFrame:
    """The table `name`, made once; nobody may change it (a check of the battery sees to that)."""
    return BUILDERS[name]().reset_index(drop=True)


def builder(make: Callable[[], pd.DataFrame]) -> Callable[[], pd.DataFrame]:
    BUILDERS[make.__name__] = make
    return make


def widened(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with as many columns that no verb names as an ADaM table has."""
    n, rng, more = len(frame), np.random.default_rng(7), {}
    kinds: list[Callable[[], object]] = [
        lambda: rng.choice(["Y", "N", None], n),
        lambda: rng.choice(["Site staff", "Other, specify", "", "Ärztin"], n),
        lambda: rng.integers(0, 200, n),
        lambda: np.where(rng.random(n) < 0.3, np.nan, rng.normal(size=n).round(2)),
        lambda: pd.Timestamp("2024-01-08") + pd.to_timedelta(rng.integers(0, 99, n), unit="D"),
        lambda: rng.random(n) < 0.5,
        lambda: [None] * n,
    ]
    for k in range(WIDTH - frame.shape[1]):
        more[f"{('XFL', 'XTXT', 'XNUM', 'XVAL', 'XDT', 'XBOOL', 'XNONE')[k % 7]}{k:02d}"] = kinds[k % 7]()
    return pd.concat([frame, pd.DataFrame(more, index=frame.index)], axis=1)


@cache
def _trial() -> ks.Trial:
    """Two arms of the shipped parallel-group trial, 24 subjects each, with the treatment that was planned."""
    whole = ks.datasets.load("kap-parallel")
    adsl = whole.adsl[whole.adsl["TRT01P"].isin(ARMS)]
    kept = adsl.groupby("TRT01P").head(24)["USUBJID"]
    return ks.Trial(**{k: v[v["USUBJID"].isin(kept)] for k, v in whole.datasets.items()})


def _companion(values: pd.Series) -> pd.Series:
    return values.map({arm: k for k, arm in enumerate(ARMS)})


@builder
def adsl() -> pd.DataFrame:
    frame = _trial().adsl.copy()
    frame["TRT01PN"] = frame["TRT01AN"] = _companion(frame["TRT01P"])
    stopped = frame["EOSSTT"] == "DISCONTINUED"
    return widened(frame.assign(EOSDY=np.where(stopped, 12.0, 29.0)))


@builder
def visits() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    frame = _trial().adqs.query("AVISIT in @VISITS").copy()
    frame["TRT01PN"] = _companion(frame["TRT01P"])
    people = _trial().adsl[["USUBJID", "AGE", "SEX", "WEIGHT", "THERAPID"]]
    frame = frame.merge(people, on="USUBJID")
    frame["CHG"] = frame["CHG"].where(rng.random(len(frame)) > 0.08)
    frame["WEIGHT"] = frame["WEIGHT"].where(frame.index % 11 > 0)
    change = frame["CHG"].fillna(0) + rng.integers(-6, 7, len(frame))
    frame["RESP"] = (change <= -0.25 * frame["BASE"]).astype(int)
    frame["GUESS"] = rng.choice([*ARMS, "unsure"], len(frame))
    frame["STOPPED"] = (rng.random(len(frame)) < 0.3).astype(int)
    frame["W"] = rng.integers(1, 3, len(frame))
    frame["DCSREAS"] = frame["USUBJID"].map(_trial().adsl.set_index("USUBJID")["DCSREAS"])
    return widened(frame)


@builder
def planned() -> pd.DataFrame:
    """The visits with a row for every planned one, empty where it was missed: what imputation asks for."""
    frame = table("visits").drop(columns=["XNUM16"], errors="ignore")
    grid = frame[["USUBJID"]].drop_duplicates().merge(frame[["AVISIT", "AVISITN"]].drop_duplicates(), how="cross")
    whole = grid.merge(frame, on=["USUBJID", "AVISIT", "AVISITN"], how="left")
    fixed = ["TRT01P", "TRT01PN", "BASE", "SEX", "AGE", "SITEID"]
    whole[fixed] = whole.groupby("USUBJID")[fixed].transform("first")
    return whole.sort_values(["USUBJID", "AVISITN"])


@builder
def endpoint() -> pd.DataFrame:
    return table("visits").query("AVISIT == 'Day 28'")


@builder
def periods() -> pd.DataFrame:
    frame = ks.datasets.load("kap-crossover").adqs.query("AVISIT in ['Day 7', 'Day 28']")
    return widened(frame[frame["USUBJID"].isin(frame["USUBJID"].unique()[:24])])


@builder
def relapse() -> pd.DataFrame:
    """Times with ties, censoring, delayed entry, competing causes and limits of intervals."""
    whole, rng = ks.datasets.load("kap-withdrawal"), np.random.default_rng(2)
    frame = whole.adtte.groupby("TRT01P").head(40).merge(whole.adsl[["USUBJID", "AGE", "SEX", "WEIGHT"]], on="USUBJID")
    frame["TRT01P"] = frame["TRT01P"].replace({"KAP": "KAP IV"})
    frame["AVAL"] = frame["AVAL"] // 7 * 7 + 1
    frame["CNSR"] = np.where(rng.random(len(frame)) < 0.5, 0, frame["CNSR"])
    frame["LEFT"] = np.where(frame["CNSR"] == 0, np.maximum(frame["AVAL"] - 28, 0), frame["AVAL"])
    frame["RIGHT"] = frame["AVAL"].where(frame["CNSR"] == 0).astype(float)
    frame["CAUSE"] = np.where(frame["CNSR"] == 1, 0, rng.integers(1, 3, len(frame)))
    frame["OUTCOME"] = frame["CAUSE"].map({0: "none", 1: "relapse", 2: "rescue"})
    frame["WEIGHT"] = frame["WEIGHT"].where(frame.index % 13 > 0)
    frame["ENTRY"] = np.minimum(rng.integers(0, 15, len(frame)), frame["AVAL"] - 1)
    frame["ENROLDY"] = rng.integers(0, 90, len(frame))
    frame["W"] = rng.integers(1, 3, len(frame))
    return widened(frame)


@builder
def episodes() -> pd.DataFrame:
    """Start-stop rows: up to three episodes of each subject, and a rest of follow-up without one."""
    rng, rows = np.random.default_rng(3), []
    for row in table("relapse").head(56).itertuples():
        cuts = np.unique(rng.integers(1, max(int(row.AVAL), 2), rng.choice([0, 0, 1, 2, 6])))
        ends = [*cuts[cuts < row.AVAL], row.AVAL]
        for k, (a, b) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
            event = int(b < row.AVAL or row.CNSR == 0)
            fixed = (row.USUBJID, row.SITEID, row.TRT01P, row.TRT01PN, row.AGE, row.SEX)
            rows.append(
                (*fixed, k, a, b, event, "relapse" if event and k % 2 == 0 else "response" if event else "none")
            )
    names = ["USUBJID", "SITEID", "TRT01P", "TRT01PN", "AGE", "SEX", "SEQ", "ASTDY", "AENDY", "EVENT", "STATE"]
    return widened(pd.DataFrame(rows, columns=names))


@builder
def paths() -> pd.DataFrame:
    """One or two moves of each subject between states."""
    frame = table("episodes")
    return frame[frame["SEQ"] < 2]


@builder
def adae() -> pd.DataFrame:
    frame = _trial().adae.copy()
    frame["TRT01AN"] = _companion(frame["TRT01A"])
    return widened(frame[frame["AEDECOD"].isin(["Dissociation", "Nausea", "Headache", "Dizziness", "Anxiety"])])


@builder
def advs() -> pd.DataFrame:
    frame = _trial().advs.query("PARAMCD == 'CADSS' and SESSION == 1").copy()
    frame["TRT01AN"] = _companion(frame["TRT01A"])
    return widened(frame)


@builder
def adex() -> pd.DataFrame:
    return _trial().adex.assign(TRT01AN=lambda d: _companion(d["TRT01A"]))


@builder
def scores() -> pd.DataFrame:
    frame = _trial().adqs.copy()
    frame["TRT01PN"] = _companion(frame["TRT01P"])
    return widened(frame)


@builder
def counts() -> pd.DataFrame:
    """Events of subjects by term and stratum; fourfold and person-time counts beside them."""
    rows = {"TERM": ["Nausea"] * 4, "SITEID": ["01", "02", "03", "1"], "x1": [3, 7, 12, 0], "n1": [20, 31, 40, 110]}
    rows |= {
        "x2": [5, 4, 9, 2],
        "n2": [22, 30, 41, 90],
        "t1": [15.5, 20.25, 31.0, 60.0],
        "t2": [16.0, 18.5, 40.0, 70.5],
    }
    rows |= {"both": [4, 3, 10, 1], "first": [5, 2, 1, 3], "second": [2, 6, 4, 0], "neither": [9, 10, 3, 20]}
    return widened(pd.DataFrame(rows))


@builder
def doses() -> pd.DataFrame:
    rows = {
        "TRT01P": ["Placebo", "KAP 28 mg", "KAP 56 mg", "KAP 84 mg"],
        "TRT01PN": [0, 1, 2, 3],
        "DOSE": [0, 28, 56, 84],
    }
    rows |= {"x": [1, 3, 4, 9], "n": [20, 21, 19, 22]}
    rows |= {"estimate": [-1.0, -4.0, -6.25, -7.5], "std_error": [1.0, 1.1, 0.9, 1.0]}
    return widened(pd.DataFrame(rows))


@builder
def studies() -> pd.DataFrame:
    rows = {"study": [f"Trial {c}" for c in "ABCDEF"], "x1": [3, 8, 10, 0, 7, 12], "n1": [20, 31, 40, 25, 30, 44]}
    rows |= {"x2": [5, 12, 11, 3, 15, 14], "n2": [22, 30, 41, 24, 33, 40], "dose": [28.0, 56, 84, 28, 56, 84]}
    rows |= {"design": ["parallel", "parallel", "crossover", "crossover", "parallel", "crossover"]}
    return widened(pd.DataFrame(rows))


@builder
def network() -> pd.DataFrame:
    pairs = [
        ("A", "Placebo", "IV"),
        ("B", "Placebo", "IM"),
        ("C", "IM", "IV"),
        ("D", "Placebo", "IV"),
        ("E", "Placebo", "IM"),
    ]
    rows = [(s, t, 4 + 3 * k + i, 30 + i) for k, (s, *arms) in enumerate(pairs) for i, t in enumerate(arms)]
    return widened(pd.DataFrame(rows, columns=["study", "treatment", "x", "n"]))


@builder
def clicked() -> pd.DataFrame:
    rows = [
        (a, t, s)
        for a, h in (("Placebo", 0.02), ("KAP IV", 0.01))
        for t, s in ((k, np.exp(-h * k)) for k in range(0, 60, 6))
    ]
    return widened(pd.DataFrame(rows, columns=["TRT01P", "time", "survival"]).round(3))


@builder
def claims() -> pd.DataFrame:
    rows = {"study": ["A", "A", "B"], "arm": ["KAP", "Placebo", "KAP"], "outcome": "response", "events": [30, 12, 9]}
    rows |= {"n": [231, 115, 40], "percent": ["13.00", "10.4", "22.5"]}
    return widened(pd.DataFrame(rows))


@builder
def occurrences() -> pd.DataFrame:
    some = table("adsl")["USUBJID"].iloc[[1, 5, 9, 20]].to_numpy()
    return pd.DataFrame(
        {"USUBJID": some, "ICECAT": ["rescue", "rescue", "deviation", "rescue"], "ASTDY": [9, 13, 20, 27]}
    )


@builder
def stops() -> pd.DataFrame:
    """One intercurrent event, as `Estimand.apply` takes it."""
    subject = table("visits")["USUBJID"].iloc[3]
    return pd.DataFrame({"USUBJID": [subject], "ICE": ["rescue"], "ICEVISIT": ["Day 14"]})
