"""Flags that decide are Y, N or blank; anything else stops with the values, the subjects and the remedy."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from kapstats.errors import DataError, KapstatsWarning

ADSL = pd.DataFrame(
    {
        "USUBJID": list("abcd"),
        "TRT01A": ["Placebo", "Placebo", "KAP", "KAP"],
        "TRT01AN": [0, 0, 1, 1],
        "SAFFL": "Y",
        "DTHFL": ["", "", "", "Y"],
        "TRTSDT": "2024-03-01",
        "EOSDT": "2024-04-01",
    }
)
ADAE = pd.DataFrame(
    {
        "USUBJID": ["c", "d"],
        "AEDECOD": pd.Categorical(["Suicide attempt", "Nausea"]),
        "AESER": ["Y", "N"],
        "AESEV": ["SEVERE", "MILD"],
        "TRTEMFL": ["Y", None],
        "ASTDT": "2024-03-04",
    }
)
ODD = ["Yes", "YES", "y", "1", "true", " Y", 1, 2.0, "J"]


def counted(adae=ADAE, adsl=ADSL, **more):
    return ks.incidence(adae, adsl, terms=["AEDECOD"], **more)


def any_event(found):
    return found.to_frame().query("level == 'ANY'")["n_subjects"].tolist()


def test_yes_no_and_blank_count_as_they_say():
    assert any_event(counted()) == [0, 1]
    assert any_event(counted(ADAE.assign(TRTEMFL=[True, False]))) == [0, 1]
    assert any_event(counted(ADAE.assign(TRTEMFL=pd.Categorical(["Y", "N"])))) == [0, 1]
    assert any_event(counted(ADAE.assign(TRTEMFL=["Y", "  "]))) == [0, 1]


@pytest.mark.parametrize("value", ODD)
def test_other_spellings_stop_wherever_a_flag_decides(value):
    odd = ADAE.assign(TRTEMFL=pd.Series([value, "Y"], dtype=object))
    with pytest.raises(DataError, match=r"TRTEMFL: 1 of 2 rows.*; c\).*Recode"):
        counted(odd)
    serious = counted(ADAE.assign(AESER=pd.Series([value, "N"], dtype=object), TRTEMFL="Y"))
    for call in (serious.overview, serious.standard_tables, lambda: serious.only("serious")):
        with pytest.raises(DataError, match="AESER"):
            call()
    with pytest.raises(DataError, match="AESER"):
        counted(ADAE.assign(AESER=pd.Series([value, "Y"], dtype=object)), where={"AESER": "Y"})
    population = ADSL.assign(SAFFL=pd.Series([value, "Y", "Y", "Y"], dtype=object))
    trial = ks.Trial(adsl=population, adae=ADAE)
    for call in (
        lambda: counted(adsl=population),
        lambda: trial.population("SAFFL"),
        lambda: trial.where("SAFFL", "Y"),
        lambda: ks.incidence(trial, terms=["AEDECOD"]),
    ):
        with pytest.raises(DataError, match="SAFFL: 1 of 4 rows"):
            call()
    dead = ADSL.assign(DTHFL=pd.Series([value, "", "", "Y"], dtype=object))
    with pytest.raises(DataError, match="DTHFL"):
        counted(adsl=dead).time_to_first()
    with pytest.raises(DataError, match="DTHFL"):
        counted(adsl=dead).standard_tables()


def test_words_of_relationship_and_severity_that_are_not_known_are_named():
    adae = ADAE.assign(TRTEMFL="Y", AEREL=["Probably related", "Certain"], AESEV=["severe", "Grave"])
    with pytest.warns(KapstatsWarning, match=r"AEREL: 1 records .*\(CERTAIN\)") as caught:
        found = counted(adae).overview()
    assert any("AESEV: 1 records" in str(w.message) for w in caught)
    assert sum("not known" in text for text in found.warnings) == 2


@pytest.mark.parametrize("grades", [[3, 1], [3.0, np.nan], ["3", "1"], ["Grade 3", "Grade 1"]])
def test_grades_are_read_however_they_are_written(grades):
    kinds = counted(ADAE.drop(columns="AESEV").assign(TRTEMFL="Y", AETOXGR=grades)).overview().to_frame()
    assert kinds.query("kind == 'severe'")["n_subjects"].tolist() == [0, 1]


def test_baseline_flags_stop_too():
    adqs = pd.DataFrame({"USUBJID": ["a", "a"], "PARAMCD": "X", "AVAL": [3.0, 2.0], "ABLFL": ["Yes", ""]})
    with pytest.raises(DataError, match="ABLFL"):
        ks.derive.baseline(adqs)
    with pytest.raises(DataError, match="TRTEMFL"):
        ks.derive.first_occurrence(ADAE.assign(TRTEMFL="Yes"))


def test_files_in_pieces_stop_as_well(tmp_path):
    pytest.importorskip("pyarrow")
    from kapstats.safety.streamed import count_partitions

    ADAE.assign(TRTEMFL="Yes").to_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match="TRTEMFL"):
        count_partitions(tmp_path, ADSL, terms=["AEDECOD"])


def test_a_condition_of_a_plan_on_a_flag_stops_too():
    from kapstats.data.conditions import holds

    with pytest.raises(DataError, match="ANL01FL"):
        holds(pd.DataFrame({"ANL01FL": ["Y", "Yes", ""]}), "ANL01FL == 'Y'")


def test_nothing_that_counts_is_said_and_ids_that_never_match_are_an_error():
    for change, more in (
        ({"TRTEMFL": np.nan}, {}),
        ({"TRTEMFL": "N"}, {}),
        ({"TRTEMFL": "Y"}, {"where": {"AESEV": "severe"}}),
    ):
        with pytest.warns(KapstatsWarning, match="No record of ADAE counts"):
            found = counted(ADAE.assign(**change), **more)
        assert any_event(found) == [0, 0]
        assert any("No record" in text for text in found.warnings)
    with pytest.raises(DataError, match=r"None of the 2 subjects of ADAE \(3, 4\) is in ADSL"):
        counted(ADAE.assign(USUBJID=[3, 4]), ADSL.assign(USUBJID=list("1234")))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert any_event(counted(ADAE.iloc[:0])) == [0, 0]


@pytest.mark.parametrize("n", [16, 80, 112, 144, 160, 240, 400])
def test_a_difference_rounds_as_its_parts_do(n):
    """x/n against 0/n: the difference is the percentage, half away from zero by exact fractions."""
    from fractions import Fraction

    ties = [x for x in range(1, n) if (2000 * x) % (2 * n) == n][:6]
    ids = [f"{arm}{i}" for arm in "KP" for i in range(n)]
    adsl = pd.DataFrame({"USUBJID": ids, "TRT01A": ["KAP"] * n + ["Placebo"] * n, "TRT01AN": [1] * n + [0] * n})
    adae = pd.DataFrame(
        [(f"K{i}", f"T{x}", "Y", "Y") for x in ties for i in range(x)],
        columns=["USUBJID", "AEDECOD", "TRTEMFL", "AESER"],
    )
    found = ks.incidence(adae, adsl.assign(SAFFL="Y"), terms=["AEDECOD"])
    cells = {row[0]: row for row in found.table(comparison=True).rows}
    serious = {row[0]: row for row in found.standard_tables()["serious"].rows}
    for x in ties:
        tenths = (Fraction(1000 * x, n) + Fraction(1, 2)).__floor__()
        wanted = f"{tenths // 10}.{tenths % 10}"
        for row in (cells[f"T{x}"], serious[f"T{x}"]):
            assert f"({wanted}%)" in row[2]
            assert row[3].split()[0] == wanted
