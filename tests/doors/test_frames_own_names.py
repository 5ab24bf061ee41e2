"""Tables with the caller's own names: visits numbered as they are called, several outcomes, arms on one row only."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from kapstats.errors import DataError, KapstatsWarning

WIDE = pd.DataFrame(
    {
        "id": range(1, 31), "Group": ["Control", "Ketamine"] * 15, "age": np.arange(30) % 7 + 30, "base": 20.0,
        **{f"wk{w}": 20 - w * (1 + np.arange(30) % 2) * 0.3 + np.sin(w * np.arange(30)) for w in (2, 4, 8, 12)},
    }
)  # fmt: skip
COLUMNS = ["wk2", "wk4", "wk8", "wk12"]
NAMES: dict[str, Any] = {"subject": "id", "arm": "Group", "arms": ["Control", "Ketamine"]}
LONG = WIDE.melt(["id", "Group", "age", "base"], COLUMNS, "visit", "score")
LONG["visit"] = "Week " + LONG["visit"].str[2:]


def slopes(trial: ks.Trial) -> list[float]:
    return ks.lmm("AVAL ~ AVISITN*TRT01P + (1 | USUBJID)", trial.adqs).coefficients["estimate"].round(9).tolist()


def test_the_slope_per_week_is_the_same_however_the_visits_are_named() -> None:
    """Numbers, labels, a list of columns, wide or long: AVISITN is 2, 4, 8, 12."""
    numeric = ks.Trial.from_frame(WIDE, **NAMES, visit=dict(zip(COLUMNS, (2, 4, 8, 12), strict=True)))
    labels = {c: f"Week {c[2:]}" for c in COLUMNS}
    others = [
        ks.Trial.from_frame(WIDE, **NAMES, visit=labels),
        ks.Trial.from_frame(WIDE, **NAMES, visit=COLUMNS),
        ks.Trial.from_frame(WIDE, **NAMES, outcome=COLUMNS),
        ks.Trial.from_frame(WIDE, **NAMES, outcome=labels),
        ks.Trial.from_frame(WIDE, **NAMES, outcome={v: k for k, v in labels.items()}),
        ks.Trial.from_frame(LONG, **NAMES, visit="visit", outcome="score"),
    ]
    for trial in others:
        assert sorted(trial.adqs["AVISITN"].unique()) == [2, 4, 8, 12]
        assert slopes(trial) == slopes(numeric)


def test_screening_is_before_baseline_and_baseline_is_a_visit() -> None:
    early = [LONG.drop_duplicates("id").assign(visit=v, score=s) for v, s in (("Screening", 22.0), ("Baseline", 21.0))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trial = ks.Trial.from_frame(
            pd.concat([LONG, *early]), **NAMES, visit="visit", outcome="score", baseline="Baseline"
        )
    q = trial.adqs
    assert q.drop_duplicates("AVISIT").set_index("AVISIT")["AVISITN"].to_dict() == {
        "Week 2": 2, "Week 4": 4, "Week 8": 8, "Week 12": 12, "Screening": -1, "Baseline": 0,
    }  # fmt: skip
    assert (q["BASE"] == 21.0).all()
    assert q.loc[q["AVISIT"] == "Baseline", "CHG"].isna().all()
    assert np.allclose(q.loc[q["AVISITN"] > 0, "CHG"], q.loc[q["AVISITN"] > 0, "AVAL"] - 21.0)
    with pytest.raises(DataError, match=r"baseline='Baselin' is neither a column nor a visit. Did you mean 'Baseline'"):
        ks.Trial.from_frame(pd.concat([LONG, *early]), **NAMES, visit="visit", outcome="score", baseline="Baselin")


def test_labels_without_numbers_are_in_the_order_of_appearance() -> None:
    named = LONG.assign(
        visit=LONG["visit"].map({"Week 2": "start", "Week 4": "middle", "Week 8": "late", "Week 12": "end"})
    )
    with pytest.warns(KapstatsWarning, match="order in which they appear .start, middle, late, end"):
        trial = ks.Trial.from_frame(named, **NAMES, visit="visit", outcome="score")
    assert trial.adqs.groupby("AVISIT")["AVISITN"].first().to_dict() == {"start": 1, "middle": 2, "late": 3, "end": 4}


def test_several_outcomes() -> None:
    trial = ks.Trial.from_frame(
        LONG.assign(other=LONG["score"] * 2), **NAMES, visit="visit", outcome=["score", "other"]
    )
    sums = trial.adqs.groupby("PARAMCD")["AVAL"].sum()
    assert sums["other"] == pytest.approx(2 * sums["score"])
    assert len(trial.adqs) == 2 * len(LONG)


def test_an_arm_on_the_first_row_only_is_carried_forward() -> None:
    """As REDCap exports it; two different arms stay an error."""
    export = pd.DataFrame(
        {
            "record_id": [1, 1, 1, 2, 2, 2],
            "redcap_event_name": ["baseline_arm_1", "week_1_arm_1", "week_10_arm_1"] * 2,
            "rand_arm": ["A", None, "", "B", None, None], "madrs": [30, 20, 15, 32, 28, 27],
        }
    )  # fmt: skip
    options: dict[str, Any] = {
        "subject": "record_id",
        "arm": "rand_arm",
        "visit": "redcap_event_name",
        "outcome": "madrs",
    }
    with pytest.warns(KapstatsWarning, match="rand_arm: 4 rows without an arm have the only arm of their record_id"):
        trial = ks.Trial.from_frame(export, **options)
    assert trial.adqs["TRT01P"].tolist() == ["A"] * 3 + ["B"] * 3
    assert trial.adqs["AVISITN"].tolist() == [0, 1, 10] * 2
    with pytest.raises(DataError, match=r"1 subjects are in more than one arm \(1\)"):
        ks.Trial.from_frame(export.assign(rand_arm=["A", "B", "", "B", None, None]), **options)


@pytest.mark.parametrize("event", [["yes", "no"], ["Y", "N"], [True, False], [1, 0], ["1", "0"], ["Yes", "n/a"]])
def test_events_are_yes_and_no(event: list[Any]) -> None:
    data = pd.DataFrame({"p": [1, 2], "a": ["A", "B"], "d": [3, 4], "e": pd.Series(event, dtype=object)})
    trial = ks.Trial.from_frame(data, subject="p", arm="a", time="d", event="e", arms=["A", "B"])
    assert trial.adtte["EVENT"].fillna(0).tolist() == [1.0, 0.0]
    with pytest.raises(DataError, match=r"e: the event must be .* 1 rows are not \('perhaps'; subjects 2\)"):
        ks.Trial.from_frame(
            data.assign(e=["yes", "perhaps"]), subject="p", arm="a", time="d", event="e", arms=["A", "B"]
        )


def test_missing_outcomes_in_words_are_missing_and_others_named() -> None:
    texts = LONG.assign(score=LONG["score"].round(2).astype(str).where(LONG["id"] != 3, "n/a"))
    trial = ks.Trial.from_frame(texts, **NAMES, visit="visit", outcome="score")
    assert trial.adqs["AVAL"].isna().sum() == 4
    with pytest.raises(DataError, match=r"score: 4 values are not numeric \('not done'; subjects 3\)"):
        ks.Trial.from_frame(texts.replace("n/a", "not done"), **NAMES, visit="visit", outcome="score")


def test_the_baseline_table_of_an_own_table_describes_its_columns() -> None:
    table = ks.baseline_table(WIDE, by="Group")
    assert table.to_frame()["variable"].unique().tolist() == ["age", "base", *COLUMNS]
    assert ks.baseline_table(WIDE, by=None).to_frame()["variable"].nunique() == 7
    with pytest.raises(DataError, match="no column to describe"):
        ks.baseline_table(WIDE[["id", "Group"]], by="Group")


def test_ages_in_an_object_column_are_numbers() -> None:
    plain = ks.baseline_table(WIDE, by="Group", variables=["age"]).to_frame()
    found = ks.baseline_table(WIDE.astype({"age": object}), by="Group", variables=["age"]).to_frame()
    pd.testing.assert_frame_equal(found, plain)


def test_rows_of_adsl_without_a_subject_are_told_as_such() -> None:
    with pytest.raises(DataError, match="ADSL: 2 rows have no USUBJID"):
        ks.Trial(adsl=pd.DataFrame({"USUBJID": ["1", None, None], "TRT01P": ["A", "A", "B"]}))
