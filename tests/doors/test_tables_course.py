"""The hours after a dose: missed and repeated readings."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import kapstats as ks

TIMES = (0, 40, 90)


def readings(values):
    rows = [
        (subject, "SYSBP", 1, "IV", minute, reading)
        for subject, own in values.items()
        for minute, reading in zip(TIMES, own, strict=True)
    ]
    return pd.DataFrame(rows, columns=["USUBJID", "PARAMCD", "SESSION", "ROUTE", "ATPTN", "AVAL"])


THREE = readings({"a": [120, 140, 125], "b": [118, 150, 122], "c": [125, 215, None]})


def summary(found):
    return found.to_frame().set_index("quantity").loc[["peak", "time above", "area", "above at peak"]]


@pytest.mark.parametrize("data", [THREE, THREE.dropna()])
def test_who_misses_a_reading_keeps_the_peak(data):
    """c rises from 125 to 215 in 40 minutes: above 180 for 40 x 35/90 of them; only a and b have an area."""
    with pytest.warns(ks.errors.KapstatsWarning, match=r"1 of 3 subjects miss a reading \(c\)"):
        found = ks.acute_course(data, parameter="SYSBP", threshold=180)
    rows = summary(found)
    assert rows["n"].tolist() == [3, 3, 2, 3]
    assert rows.loc["peak", "maximum"] == 215
    assert rows.loc["above at peak", "estimate"] == pytest.approx(1 / 3)
    assert rows.loc["time above", "estimate"] == pytest.approx(40 * 35 / 90 / 3)
    area = [20 * (120 + 140) + 25 * (140 + 125), 20 * (118 + 150) + 25 * (150 + 122)]
    assert rows.loc["area", "estimate"] == pytest.approx(np.mean(area))
    assert "1 of 3" in found.warnings[0]


def test_several_readings_at_a_minute_need_a_rule():
    twice = pd.concat([THREE.dropna(), THREE.iloc[[1]].assign(AVAL=200.0)])
    with pytest.raises(ks.errors.DataError, match=r"2 readings .*\(a\).*duplicates"):
        ks.acute_course(twice, parameter="SYSBP")
    peaks = {
        how: summary(ks.acute_course(twice[twice.USUBJID == "a"], parameter="SYSBP", duplicates=how)).loc["peak"]
        for how in ("mean", "max")
    }
    assert (peaks["mean"]["estimate"], peaks["max"]["estimate"]) == (170, 200)
    sessions = pd.concat([THREE.dropna(), THREE.dropna().assign(SESSION=2)])
    with pytest.raises(ks.errors.DataError, match="session="):
        ks.acute_course(sessions, parameter="SYSBP", session=None)


def test_a_trial_gives_its_vital_signs():
    adsl = pd.DataFrame({"USUBJID": list("abc"), "TRT01A": "KAP"})
    trial = ks.Trial(adsl=adsl, advs=THREE)
    one = ks.acute_course(trial, parameter="SYSBP").to_frame()
    pd.testing.assert_frame_equal(one, ks.acute_course(THREE, parameter="SYSBP").to_frame())
