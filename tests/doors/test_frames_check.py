"""`check()` judges numbers in object columns and labels of any name."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from tests.doors.frames_tables import tables

DATA = tables(n=15)


def rules(**data: pd.DataFrame) -> set[str]:
    return set(ks.Trial(**data).check()["rule"])


@pytest.mark.parametrize("dress", ["plain", "object", "Decimal", "text beside them"])
def test_faults_in_object_columns_are_found(dress: str) -> None:
    q = DATA["adqs"].drop(columns=["RESP"]).assign(PARAMCD="X")
    q.loc[0, "CHG"] = 77.0
    t = DATA["adtte"].assign(CNSR=1 - DATA["adtte"]["EVENT"], AVAL=lambda d: d["AVAL"].where(d.index != 1, -3.0))
    if dress in ("object", "Decimal"):
        convert = (lambda v: v) if dress == "object" else (lambda v: Decimal(str(v)))
        q = q.assign(**{c: q[c].map(convert).astype(object) for c in ("CHG", "AVAL", "BASE")})
        t = t.assign(AVAL=t["AVAL"].map(convert).astype(object))
    if dress == "text beside them":
        q, t = (d.assign(AVAL=d["AVAL"].astype(object).where(d.index != 5, "x")) for d in (q, t))
    assert {"change", "time-not-positive"} <= rules(adsl=DATA["adsl"], adqs=q, adtte=t)


def test_labels_of_any_name_and_dates_far_ahead() -> None:
    adsl = DATA["adsl"].assign(Gender=np.resize(["female", "Female", "M", "male"], 30), TRTSDT="2999-01-01")
    found = ks.Trial(adsl=adsl).check()
    assert found.filter(rule="variants")["variable"].tolist() == ["Gender"]
    assert found.filter(rule="impossible-date")["rows"].tolist() == [30]
