"""Printed curves as they are clicked: rises, missing tables, other names; and rows of a result by a value."""

from __future__ import annotations

import warnings

import pandas as pd
import pytest

import kapstats as ks


def told(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = call()
    return result, [str(w.message) for w in caught]


def test_a_curve_that_rises_is_named():
    clicks = {"time": [1, 2, 3, 4], "survival": [0.9, 0.95, 0.7, 0.6]}
    found, said = told(lambda: ks.reconstruct_ipd(clicks, at_risk={"time": [0, 2], "n_risk": [100, 92]}))
    assert [s for s in said if "rises by up to 0.05 at time 2 (0.95)" in s]
    assert any("rises" in s for s in found.warnings)
    falling = {"time": [1, 2, 3, 4], "survival": [0.95, 0.9, 0.7, 0.6]}
    assert not told(lambda: ks.reconstruct_ipd(falling, at_risk={"time": [0, 2], "n_risk": [100, 92]}))[1]
    shuffled = {"time": [3, 1, 4, 2], "survival": [0.7, 0.95, 0.6, 0.9]}  # points in another order do not rise
    assert not told(lambda: ks.reconstruct_ipd(shuffled, at_risk={"time": [0, 2], "n_risk": [100, 92]}))[1]


def test_reading_error_is_noted_without_a_warning():
    clicks = {"time": [1, 2, 3], "survival": [0.9, 0.902, 0.7]}
    found, said = told(lambda: ks.reconstruct_ipd(clicks, at_risk={"time": [0, 2], "n_risk": [100, 90]}))
    assert not said
    assert "rises by up to 0.002" in str(found)


def test_the_number_at_the_start_alone_does_not_identify_censoring():
    clicks = {"time": [1, 2, 3], "survival": [0.9, 0.8, 0.6]}
    found, said = told(lambda: ks.reconstruct_ipd(clicks, at_risk=50))
    assert [s for s in said if "censoring is not identified" in s]
    assert any("not identified" in s for s in found.warnings)
    assert not told(lambda: ks.reconstruct_ipd(clicks, at_risk=50, total_events=20))[1]


@pytest.mark.parametrize(
    ("clicks", "at_risk", "options", "said"),
    [
        ({"months": [1], "survival": [0.9]}, 10, {}, "time by 'months'"),
        ({"time": [1], "prob": [0.9]}, 10, {}, "survival by 'prob'"),
        ({"time": [1], "survival": [0.9]}, {"time": [0], "nrsk": [10]}, {}, "n_risk by 'nrsk'"),
        ({"time": [1], "survival": [0.9]}, {"time": [0, 1], "n_risk": ["ten", 9]}, {}, "must be numbers"),
        ({"time": [1], "survival": [0.9], "arm": ["KAP"]}, 10, {"total_events": {"kap": 1}}, "Did you mean 'KAP'"),
    ],
)
def test_names_that_are_not_there_are_offered(clicks, at_risk, options, said):
    with pytest.raises(ks.errors.DataError, match=said):
        ks.reconstruct_ipd(clicks, at_risk=at_risk, **options)


def means():
    rows = [(f"Week {w}", a, w - i) for w in (4, 8, 12) for i, a in enumerate("PK") for _ in range(1)]
    frame = pd.DataFrame([r for r in rows for _ in range(3)], columns=["AVISIT", "ARM", "CHG"])
    frame["CHG"] += [0.1, -0.1, 0.3] * (len(frame) // 3)
    return ks.ancova("CHG ~ ARM*AVISIT", frame).lsmeans("ARM", by="AVISIT")


@pytest.mark.parametrize("wrong", ["Wk 12", "week 12", 12, "Week 13"])
def test_a_value_that_no_row_has_is_told(wrong):
    table, _ = told(means)
    for result in (table, told(lambda: table.contrast("pairwise"))[0]):
        found, said = told(lambda result=result: result.filter(AVISIT=wrong))
        assert len(found) == 0
        assert [s for s in said if f"no row has AVISIT={wrong!r}" in s and "Week 12" in s]
        found, said = told(lambda result=result: result.filter(AVISIT=["Week 12", wrong]))
        assert len(found) > 0
        assert [s for s in said if f"no row has AVISIT={wrong!r}" in s]
        assert not told(lambda result=result: result.filter(AVISIT="Week 12"))[1]


def test_findings_that_are_not_there_are_no_mistake():
    found = ks.audit({"study": ["S"], "estimate": ["-4.0"], "conf_low": ["1"], "conf_high": ["7"]})
    assert not told(lambda: found.filter(check="percent"))[1]
    assert not told(lambda: found.filter(severity="warning"))[1]


def test_columns_of_p_values_have_their_own_words():
    frame = pd.DataFrame(
        {"ARM": list("PPPPKKKK") * 2, "SEX": list("FFMM") * 4, "CHG": [0.0, -2, -1, -3, -5, -7, -9, -8] * 2}
    )
    table = ks.subgroups(frame, "CHG", by="ARM", factors=["SEX"], reference="P").table()
    assert len(set(table.columns)) == len(table.columns)
    assert {"p", "Interaction p"} <= set(table.columns)


def test_numbers_beside_the_estimate_are_not_raw():
    trials = pd.DataFrame({"study": list("AB"), "estimate": [0.1, 1.0], "std_error": [0.31, 0.17]})
    (table, _) = told(lambda: ks.meta_analysis(trials).table())
    cells = dict(zip(table.columns, table.rows[1], strict=True))
    # weights of study A: (1 / (.31^2 + tau2)) over the sum, in percent
    assert len(cells["Weight (%)"].partition(".")[2]) == 2
    assert cells["95% prediction interval"] == ""  # of a study there is none
    printed = ks.fingerprint(60, 111, 42, 108, printed=("2.11", "28.22")).table()
    assert "NE" not in [cell for row in printed.rows for cell in row]
