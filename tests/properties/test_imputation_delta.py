"""Amounts added to imputed values, tipping points, and what an imputation does with visits nobody had."""

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from kapstats.errors import DataError, FormulaError
from kapstats.estimates import Estimates
from kapstats.response.imputation import impute
from kapstats.response.imputation_delta import shift_of
from kapstats.response.tipping_point import tipping_point

MODEL = "y ~ base*visit + arm*visit + us(visit | id)"


def trial(n=48, seed=5):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"id": np.repeat(np.arange(n), 4), "visit": np.tile([1, 2, 3, 4], n)})
    frame["arm"] = pd.Categorical(np.where(frame["id"] % 2 == 0, "P", "K"), ["P", "K"], ordered=True)
    frame["base"] = np.repeat(rng.normal(30, 4, n), 4)
    frame["y"] = 0.3 * frame["base"] - 1.5 * (frame["arm"] == "K") * frame["visit"] + rng.normal(size=4 * n)
    last = np.where(rng.random(n) < 0.4, rng.integers(0, 4, n), 4)
    frame.loc[frame["visit"] > last[frame["id"]], "y"] = np.nan
    frame["why"] = np.where(last < 4, np.where(np.arange(n) % 3 == 0, "AE", "other"), None)[frame["id"]]
    return frame


def imputed(data=None, **options):
    data = trial() if data is None else data
    return impute(data, {"formula": MODEL, "arm": "arm", "reference": "P", "reason": "why", **options})


@pytest.mark.parametrize(
    ("start", "delta", "lag", "expected"),
    [  # the worked examples in the manual of R rbmi, delta_template()
        (1, [5, 6, 7, 8], [1, 2, 3, 4], [0, 6, 20, 44]),
        (2, [5, 6, 7, 8], [1, 2, 3, 4], [0, 0, 7, 23]),
        (0, [5, 5, 5, 5], [1, 0, 0, 0], [5, 5, 5, 5]),
        (2, [0, 4, 1, 3], [3, 3, 3, 3], [0, 0, 3, 12]),
    ],
)
def test_the_template_grows_with_the_visits_since_the_event(start, delta, lag, expected):
    data = trial()
    one = data["id"] == 7
    data["from_visit"] = np.where(one, start + 1.0, np.nan)
    data.loc[one & (data["visit"] > start), "y"] = np.nan
    data.loc[one & (data["visit"] <= start), "y"] = 1.0
    template = imputed(data, event="from_visit", strategy="J2R", reason=None).delta_template(delta, lag)
    assert template.loc[template["id"] == 7, "delta"].tolist() == expected
    assert (template.loc[template["id"] != 7, "delta"] == 0).all()


def test_a_table_of_deltas_says_the_same_as_a_mapping():
    found = imputed(strategy="J2R")
    table = found.delta_template()
    table["delta"] = np.where(table["missing"] & (table["arm"] == "K") & (table["visit"] == 4), 3.0, 0.0)
    mapped = found.analyse("arm + base", delta={"K": {4: 3.0}}).frame
    pd.testing.assert_frame_equal(found.analyse("arm + base", delta=table).frame, mapped)
    pd.testing.assert_frame_equal(found.analyse("arm + base", delta={4: {"K": 3.0}}).frame, mapped)


def test_deltas_by_reason_move_those_subjects_and_no_others():
    wide = imputed().wide
    shift = shift_of(wide, {"AE": {"K": 2.0}, "other": 1.0})
    why, arm = np.array(wide.reason, dtype=object), np.array(wide.arms)[wide.arm]
    missing = np.isnan(wide.y)
    expected = np.where(why == "AE", np.where(arm == "K", 2.0, 0.0), np.where(why == "other", 1.0, 0.0))
    np.testing.assert_array_equal(shift, np.where(missing, expected[:, None], 0.0))
    assert shift_of(wide, 4.0)[missing].tolist() == [4.0] * int(missing.sum())


@pytest.mark.parametrize(
    ("delta", "said"),
    [
        ({"Z": 1}, "'Z' is not an arm, a visit or a reason"),
        ({"K": "much"}, "not a finite number"),
        ({"K": np.nan}, "not a finite number"),
        ({"id": [7], "visit": [9], "delta": [1.0]}, "name no subject and visit"),
        ({"id": [7, 7], "visit": [4, 4], "delta": [1.0, 2.0]}, "repeat a subject's visit"),
    ],
)
def test_wrong_deltas_are_refused(delta, said):
    with pytest.raises((FormulaError, DataError), match=said):
        imputed().analyse("arm + base", delta=delta)


def test_a_tipping_grid_is_made_of_single_analyses():
    found = imputed(strategy="J2R")
    grid = tipping_point(found, [0, 3], reference_deltas=[0, 2], analysis="arm + base").frame
    for d, r, low in zip(grid["delta"], grid["reference_delta"], grid["conf_low"], strict=True):
        alone = found.analyse("arm + base", delta={"K": d, "P": r}).filter(quantity="difference", visit=4)
        assert low == pytest.approx(alone["conf_low"][0], rel=1e-10)


def test_a_tipping_point_by_reason_moves_less_than_one_for_all():
    found = imputed(strategy="J2R")
    part, whole = (tipping_point(found, [0, 5], reason=r)["estimate"].diff()[1] for r in ("AE", None))
    assert 0 < part < whole


def test_the_crossing_lies_between_the_deltas_beside_it():
    table = tipping_point(imputed(strategy="MAR"), [0, 5, 10, 20, 40])
    crossing, first = table.meta["crossing"], table.meta["tipping_point"]
    before = [d for d in (0, 5, 10, 20, 40) if d < first][-1]
    assert before < crossing <= first
    near = tipping_point(imputed(strategy="MAR"), [crossing * 0.8, crossing * 1.2]).frame
    assert near["conf_high"][0] < 0 < near["conf_high"][1]
    assert tipping_point(imputed(strategy="MAR"), [0, 0.1]).meta["tipping_point"] is None


def test_visits_without_any_outcome_are_not_planned_ones_and_the_result_says_so():
    data = trial()
    baseline = data[data["visit"] == 1].assign(visit=0, y=np.nan)
    both = imputed(pd.concat([baseline, data], ignore_index=True), strategy="J2R")
    alone = imputed(data, strategy="J2R")
    pd.testing.assert_frame_equal(both.values().frame, alone.values().frame)
    assert "Nobody has an outcome at 0" in both.values().meta["sentence"]
    whole = ks.datasets.load("kap-parallel")  # its baseline rows have no change
    formula = "CHG ~ BASE*AVISIT + TRT01P*AVISIT + us(AVISIT | USUBJID)"
    found = impute(whole, formula=formula, arm="TRT01P", reference="Placebo", strategy="J2R")
    assert "Baseline" not in set(found.values()["AVISIT"])


def test_a_visit_seen_only_after_events_cannot_be_fitted():
    data = trial().assign(from_visit=4)
    with pytest.raises(DataError, match="4: every outcome was seen after an intercurrent event"):
        imputed(data, event="from_visit", strategy="J2R")


def test_outcomes_that_are_no_numbers_are_refused():
    data = trial()
    with pytest.raises(DataError, match="not a number"):
        imputed(data.assign(y=data["y"].astype(object).where(data["id"] != 3, "missing")))
    with pytest.raises(DataError, match="infinite values"):
        imputed(data.assign(y=data["y"].where(data["id"] != 3, np.inf)))


def test_a_callable_is_bootstrapped_as_the_built_in_analysis_is():
    def last_visit(frame):
        rows = frame[frame["visit"] == 4]
        assert not frame.duplicated(["id", "visit"]).any()
        x = np.column_stack([np.ones(len(rows)), rows["arm"] == "K", rows["base"]]).astype(float)
        beta, *_ = np.linalg.lstsq(x, rows["y"].to_numpy(), rcond=None)
        return Estimates(pd.DataFrame({"term": ["arm"], "estimate": [beta[1]], "std_error": [1.0]}))

    found, options = imputed(strategy="CR"), {"variance": "bootstrap", "replicates": 40}
    ours = found.analyse("arm + base", **options).filter(quantity="difference", visit=4).frame
    theirs = found.analyse(last_visit, **options).frame
    np.testing.assert_allclose(theirs[["estimate", "std_error"]], ours[["estimate", "std_error"]], rtol=1e-9)
