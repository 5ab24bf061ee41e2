"""Flags decide the same rows in every place: conditions, counts, drafted plans and checks."""

from __future__ import annotations

import pandas as pd
import pytest

import kapstats as ks
from kapstats.data.conditions import holds
from kapstats.errors import KapstatsError
from kapstats.pipeline.draft import draft


@pytest.mark.parametrize("rest", ["== 'Y'", "!= 'Y'", "== 'N'", "in ['Y']", "not in ['Y']", "in ['N', 'Y']"])
@pytest.mark.parametrize("dtype", [object, "boolean"])
def test_a_condition_picks_the_same_rows_by_a_boolean_flag(rest: str, dtype: object) -> None:
    letters = pd.DataFrame({"ANL01FL": ["Y", "N", None, "Y"]})
    booleans = pd.DataFrame({"ANL01FL": pd.Series([True, False, None, True], dtype=dtype)})
    assert holds(booleans, f"ANL01FL {rest}").tolist() == holds(letters, f"ANL01FL {rest}").tolist()


def test_a_list_of_values_that_no_row_has_is_refused_as_one_value_is() -> None:
    adae = pd.DataFrame({"AESEV": ["SEVERE", "MILD"]})
    with pytest.raises(KapstatsError, match="AESEV"):
        holds(adae, "AESEV in ['severe']")
    assert holds(adae, "AESEV in ['severe', 'MILD']").tolist() == [False, True]


@pytest.mark.parametrize("flag", ["AESER", "AOCCFL"])
@pytest.mark.parametrize("no", ["N", False])
def test_boolean_flags_count_the_events_that_letters_count(flag: str, no: object) -> None:
    adsl = pd.DataFrame({"USUBJID": ["1", "2"], "TRT01A": ["K", "P"], "TRT01AN": [1, 0], "SAFFL": "Y"})
    adae = pd.DataFrame({"USUBJID": ["1", "2"], "AEBODSYS": "GI", "AEDECOD": "Nausea", "TRTEMFL": "Y"})
    counted = {}
    for yes in ("Y", True):
        table = ks.incidence(adae.assign(**{flag: [yes, no]}), adsl, by="TRT01A", where={flag: "Y"}).frame
        counted[yes] = table.loc[table["level"] == "ANY"].set_index("TRT01A")["n_subjects"].to_dict()
    assert counted["Y"] == counted[True] == {"P": 0, "K": 1}


def _trial(flag: list[object]) -> ks.Trial:
    adsl = pd.DataFrame({"USUBJID": ["1", "2"], "TRT01P": ["K", "P"], "TRT01PN": [1, 0], "ITTFL": "Y"})
    rows = {"USUBJID": ["1", "1", "2", "2"], "TRT01P": ["K", "K", "P", "P"], "CHG": [-1.0, -2.0, -3.0, -4.0]}
    adqs = pd.DataFrame({**rows, "ANL01FL": flag}).assign(AVISIT="Week 2", AVISITN=2, PARAMCD="T", AVAL=1.0, BASE=2.0)
    return ks.Trial(adsl=adsl, adqs=adqs)


def test_a_drafted_plan_keeps_the_analysis_flag_when_it_is_boolean() -> None:
    assert "ANL01FL == 'Y'" in draft(_trial([True, None, True, None]))


@pytest.mark.parametrize("yes", ["YES", "y", " Y", 1])
def test_a_plan_is_not_drafted_without_the_flag_because_it_is_spelt_otherwise(yes: object) -> None:
    with pytest.raises(KapstatsError, match="ANL01FL"):
        draft(_trial([yes, None, yes, None]))


@pytest.mark.parametrize("yes", ["Y", True])
def test_a_check_finds_the_second_baseline_of_a_subject(yes: object) -> None:
    adsl = pd.DataFrame({"USUBJID": ["1", "2"], "TRT01P": ["K", "P"]})
    rows = {"USUBJID": ["1", "1", "2"], "AVISITN": [0, 2, 0], "AVAL": [1.0, 2.0, 3.0]}
    adqs = pd.DataFrame({**rows, "ABLFL": pd.Series([yes] * 3, dtype=object)}).assign(PARAMCD="T")
    found = str(ks.Trial(adsl=adsl, adqs=adqs).check())
    assert "several baseline records" in found
    assert "not Y or N" not in found
