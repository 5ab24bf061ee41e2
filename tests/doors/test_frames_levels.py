"""The order of arms and visits: stated once, the same numbers whatever kind of column carries the labels."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import kapstats as ks
from kapstats.errors import DataError, KapstatsWarning
from tests.doors.frames_tables import MMRM, VERBS, S, numbers, tables

DATA = tables()
LABELS = ("TRT01P", "TRT01A", "AVISIT", "SEX")


def as_category(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.astype({c: "category" for c in LABELS if c in frame.columns})


def as_appearance(frame: pd.DataFrame) -> pd.DataFrame:
    """Categories in the order in which they come, as dictionaries of parquet files have them."""
    return frame.assign(**{c: pd.Categorical(frame[c], frame[c].unique()) for c in LABELS if c in frame.columns})


def as_dictionary(frame: pd.DataFrame) -> pa.Table:
    table = pa.Table.from_pandas(frame, preserve_index=False)
    for name in (c for c in LABELS if c in frame.columns):
        table = table.set_column(table.schema.get_field_index(name), name, table[name].dictionary_encode())
    return table


DRESSES: dict[str, Callable[[pd.DataFrame], Any]] = {
    "category": as_category,
    "categories as they appear": as_appearance,
    "pyarrow dictionary": as_dictionary,
    "polars": pl.from_pandas,
    "polars Categorical": lambda d: pl.from_pandas(d).with_columns(pl.col(pl.String).cast(pl.Categorical)),
    "string": lambda d: d.convert_dtypes(),
    "arrow-backed": lambda d: d.convert_dtypes(dtype_backend="pyarrow"),
}


@pytest.fixture(scope="module")
def plain() -> dict[str, pd.DataFrame]:
    return {name: numbers(call(DATA[table])) for name, (table, call) in VERBS.items()}


@pytest.mark.parametrize("dress", DRESSES)
@pytest.mark.parametrize("verb", VERBS)
def test_the_same_numbers_in_every_dress(verb: str, dress: str, plain: dict[str, pd.DataFrame]) -> None:
    """Text, category, dictionary, polars: TRT01PN and AVISITN beside the labels state the order for all of them."""
    table, call = VERBS[verb]
    dressed = DRESSES[dress](DATA[table].replace({"RIGHT": np.inf}, np.nan))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = numbers(call(dressed))
    pd.testing.assert_frame_equal(found, plain[verb], check_dtype=False, check_exact=False, rtol=1e-7, atol=1e-7)


def test_a_category_states_no_reference_and_the_warning_says_so() -> None:
    data = (
        DATA["adtte"].drop(columns="TRT01PN").assign(TRT01P=lambda d: pd.Categorical(d["TRT01P"], ["Placebo", "KAP"]))
    )
    with pytest.warns(KapstatsWarning, match=r"reference 'KAP'.*TRT01P is a categorical without an order"):
        term = ks.cox(S, data).coefficients["term"].tolist()
    assert term == ["TRT01PPlacebo"]


@pytest.mark.parametrize("order", [["Placebo", "KAP"], ["KAP", "Placebo"]])
def test_an_ordered_categorical_an_enum_and_an_argument_state_it(order: list[str]) -> None:
    data = DATA["adtte"]
    dressed = {
        "ordered": data.assign(TRT01P=pd.Categorical(data["TRT01P"], order, ordered=True)),
        "Enum": pl.from_pandas(data).with_columns(pl.col("TRT01P").cast(pl.Enum(order))),
    }
    for frame in dressed.values():
        assert ks.cox(S, frame).coefficients["term"].tolist() == [f"TRT01P{order[1]}"]
    assert ks.cox(S, as_category(data), order={"TRT01P": order}).coefficients["term"].tolist() == [f"TRT01P{order[1]}"]


@pytest.mark.parametrize("structure", ["ar1", "ad", "toep", "us"])
def test_visits_without_numbers_beside_them_are_ordered_by_the_numbers_in_their_labels(structure: str) -> None:
    """Week 10 after Week 2: the likelihood of an ordered structure is that with AVISITN, without a warning."""
    stated = ks.mmrm(MMRM.format(structure), DATA["adqs"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read = ks.mmrm(MMRM.format(structure), DATA["adqs"].drop(columns="AVISITN"))
    assert read.loglik == pytest.approx(stated.loglik, abs=1e-9)
    assert read.coefficients["term"].tolist() == stated.coefficients["term"].tolist()


def test_a_companion_that_is_not_one_to_one_is_named() -> None:
    data = DATA["adtte"].assign(TRT01PN=lambda d: d["TRT01PN"].where(d.index > 0, 7))
    with pytest.warns(KapstatsWarning, match="TRT01P and TRT01PN are not one to one"):
        ks.cox(S, data)


def test_a_number_and_its_text_in_one_arm_column_are_refused() -> None:
    mixed = np.array(["1", 1, 1.0, 0] * 15, dtype=object)
    data = DATA["adtte"].drop(columns="TRT01PN").assign(TRT01P=mixed)
    for call in (ks.cox, ks.kaplan_meier, ks.logrank):
        with pytest.raises(DataError, match=r"TRT01P: numbers and texts are mixed \('1', 1"):
            call(S, data)


@pytest.mark.parametrize(("a", "b"), [("KAP", "kap"), ("KAP", "KAP\u200b"), ("Caf\u00e9", "Cafe\u0301")])
@pytest.mark.parametrize("verb", ["cox", "kaplan_meier", "mmrm us", "ancova", "baseline_table"])
def test_labels_that_look_alike_are_named_and_stay_two(verb: str, a: str, b: str) -> None:
    table, call = VERBS[verb]
    arms = np.where(DATA[table]["TRT01P"] == "Placebo", "Placebo", a).astype(object)
    ids = DATA[table]["USUBJID"].isin(["S002", "S006", "S010", "S014"]).to_numpy()
    data = DATA[table].drop(columns="TRT01PN").assign(TRT01P=np.where(ids, b, arms))
    with pytest.warns(KapstatsWarning, match="look alike and are taken as different levels"):
        call(data)


@pytest.mark.parametrize("verb", ["cox", "mmrm us", "kaplan_meier", "baseline_table"])
def test_blanks_at_the_end_are_read_as_read_adam_reads_them(verb: str, plain: dict[str, pd.DataFrame]) -> None:
    table, call = VERBS[verb]
    padded = DATA[table].assign(TRT01P=lambda d: d["TRT01P"].where(d["USUBJID"] != "S002", "KAP  "))
    with pytest.warns(KapstatsWarning, match=r"TRT01P: \d+ rows have 'KAP' with blanks at the end"):
        found = numbers(call(padded))
    pd.testing.assert_frame_equal(found, plain[verb])


#: what describes and compares nothing, or states the reference itself
DESCRIBES = {"baseline_table", "missing_patterns"}


@pytest.mark.parametrize("verb", [v for v in VERBS if v not in DESCRIBES])
def test_the_alphabet_is_told_once(verb: str) -> None:
    table, call = VERBS[verb]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(DATA[table].drop(columns="TRT01PN"))
    said = [str(w.message) for w in caught if "alphabetical order" in str(w.message)]
    assert len(said) == 1
    assert "TRT01P: reference 'KAP'" in said[0]


def test_a_visit_without_variance_is_named() -> None:
    """The baseline visit left in, with change 0."""
    first = DATA["adqs"].drop_duplicates("USUBJID").assign(AVISIT="Baseline", AVISITN=0, CHG=0.0)
    with pytest.raises(ks.errors.ConvergenceError, match="CHG is the same for all subjects at AVISIT Baseline"):
        ks.mmrm("CHG ~ TRT01P*AVISIT + us(AVISIT | USUBJID)", pd.concat([DATA["adqs"], first]))
