"""Ordinary data that a first user brings: empty cells, no events, missing times, dates, other kinds of tables."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import kapstats as ks
from kapstats.errors import DataError, EstimabilityError, FormulaError, KapstatsWarning


@pytest.fixture(scope="module")
def visits() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"ID": np.repeat(np.arange(40), 3), "V": np.tile([1, 2, 3], 40)})
    frame["ARM"] = pd.Categorical(np.where(frame.ID % 2, "B", "A"))
    frame["X"] = np.repeat(rng.normal(size=40), 3)
    frame["Y"] = rng.normal(size=120) + np.repeat(rng.normal(size=40), 3)
    return frame


@pytest.fixture(scope="module")
def times() -> pd.DataFrame:
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({"ARM": pd.Categorical(np.tile(["A", "B"], 30)), "T": rng.exponential(10, 60).round(1) + 0.1})
    return frame.assign(E=(rng.random(60) < 0.6) * 1)


def test_kept_coefficients_of_an_mmrm_stay_when_another_is_aliased(visits):
    twice = visits.assign(X2=2 * visits.X)
    plain = ks.mmrm("Y ~ X + ARM*V + cs(V | ID)", visits).coefficients.to_frame().set_index("term")
    with pytest.warns(KapstatsWarning, match="X2"):
        fit = ks.mmrm("Y ~ X + X2 + ARM*V + cs(V | ID)", twice)
    found = fit.coefficients.to_frame().set_index("term")
    assert found.loc["X2"].isna().all()
    np.testing.assert_allclose(found.drop("X2").to_numpy(float), plain.to_numpy(float), rtol=1e-6)


def test_an_empty_cell_leaves_the_other_coefficients_of_an_mmrm(visits):
    seen = visits[~((visits.ARM == "A") & (visits.V == 1))]
    with pytest.warns(KapstatsWarning, match="ARMB:V3"):
        found = ks.mmrm("Y ~ ARM*V + cs(V | ID)", seen).coefficients.to_frame().set_index("term")["estimate"]
    means = seen.groupby(["ARM", "V"], observed=True)["Y"].mean()
    assert np.isnan(found["ARMB:V3"])
    assert found.drop("ARMB:V3").notna().all()
    assert found["V2"] + found["ARMB:V2"] == pytest.approx(means["B", 2] - means["B", 1], abs=1e-6)


@pytest.mark.parametrize("formula", [None, 3, ["Surv(T, E) ~ ARM"]])
@pytest.mark.parametrize("call", [ks.kaplan_meier, ks.cox, ks.logrank, ks.mmrm, ks.lmm])
def test_a_formula_that_is_no_text_is_named(times, call, formula):
    with pytest.raises(FormulaError, match="formula is a text"):
        call(formula, times)


def test_a_curve_is_not_read_at_a_missing_time_or_a_word(times):
    curve = ks.kaplan_meier("Surv(T, E) ~ ARM", times)
    for asked in (np.nan, [1.0, np.nan], "one", [None]):
        with pytest.raises(FormulaError, match="times="):
            curve.at(asked)
        with pytest.raises(FormulaError, match="times="):
            ks.cumulative_incidence("Surv(T, E) ~ ARM", times, cause=1).at(asked)
    assert curve.at(0.0).to_frame()["estimate"].tolist() == [1.0, 1.0]


def test_times_without_an_event_have_no_distribution(times):
    with pytest.raises(EstimabilityError, match="none of the 60 rows"):
        ks.parametric_survival("Surv(T, E) ~ ARM", times.assign(E=0), distribution="weibull")
    one_arm = times.assign(E=np.where(times.ARM == "A", 0, times.E))
    with pytest.warns(KapstatsWarning, match="no event"):
        fit = ks.parametric_survival("Surv(T, E) ~ ARM", one_arm, distribution="weibull", order={"ARM": ["A", "B"]})
    assert not fit.converged
    assert not np.isfinite(fit.hazard_ratios()["std_error"]).any()
    with pytest.raises(DataError, match="No row has an event"):
        ks.cumulative_incidence("Surv(T, E) ~ ARM", times.assign(E=0), cause=1)


def test_random_effects_told_by_nothing_are_refused(visits):
    with pytest.raises(EstimabilityError, match="one subject per arm"):
        ks.lmm("Y ~ ARM + (1 | ID)", visits[visits.ID < 2])
    assert ks.lmm("Y ~ ARM + (1 | ID)", visits[visits.ID < 4]).converged


@pytest.mark.parametrize("kind", ["datetime", "timedelta", "text"])
def test_a_time_that_is_no_number_names_kind_and_remedy(times, kind):
    days = pd.to_timedelta(times["T"], unit="D")
    column = {"datetime": pd.Timestamp("2024-01-01") + days, "timedelta": days, "text": times["T"].astype(str)}[kind]
    with pytest.raises(DataError, match="holds text.*to_numeric" if kind == "text" else "holds dates.*days"):
        ks.kaplan_meier("Surv(T, E) ~ ARM", times.assign(T=column))


def test_no_warning_but_our_own_reaches_the_user(times):
    arm = pl.Series(["A", "B"] * 30, dtype=pl.Enum(["C", "B", "A"]))
    table = pl.DataFrame({"ARM": arm, "T": times["T"], "E": times["E"]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ks.kaplan_meier("Surv(T, E) ~ ARM", table).to_frame()["ARM"][0] == "B"  # the order of the Enum
        ks.rate_ratio([0, 5], [10.0, 20.0], [2, 1], [10.0, 20.0])
        early = times.assign(T=np.where(times.index == 3, 0.0, times["T"]))
        ks.cumulative_incidence("Surv(T, E) ~ ARM", early, cause=1, order={"ARM": ["A", "B"]})
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        ks.rate_ratio([0, 5], [10.0, 20.0], [2, 0], [10.0, 0.0])
    assert {w.category for w in seen} == {KapstatsWarning}


def test_predictions_of_a_glmm_have_limits_on_asking(visits):
    data = visits.assign(R=(visits.Y > 0) * 1)
    fit = ks.glmm("R ~ ARM + (1 | ID)", data, family="binomial")
    new = pd.DataFrame({"ARM": ["A", "B", None]})
    link = fit.predict(new, interval="confidence", type="link").to_frame()
    table = fit.coefficients.to_frame()
    first = table.loc[0, ["estimate", "std_error", "conf_low", "conf_high"]].to_numpy(float)
    np.testing.assert_allclose(link.loc[0, ["estimate", "std_error", "conf_low", "conf_high"]].to_numpy(float), first)
    shown = fit.predict(new, interval="confidence").to_frame()
    for column in ("estimate", "conf_low", "conf_high"):
        np.testing.assert_allclose(shown[column], 1 / (1 + np.exp(-link[column])))
    np.testing.assert_allclose(shown["std_error"], link["std_error"] * shown["estimate"] * (1 - shown["estimate"]))
    assert shown.iloc[2].isna().all()
    with pytest.raises(FormulaError, match="prediction"):
        fit.predict(new, interval="prediction")
    with pytest.raises(FormulaError, match="random=False"):
        fit.predict(data, interval="confidence", random=True)


def test_the_reference_level_of_other_kinds_of_tables_is_the_stated_one(times):
    arm = pd.Categorical(np.tile(["Active", "Placebo"], 30), ["Placebo", "Low", "Active"], ordered=True)
    frame = times.assign(ARM=arm, ARMN=np.where(arm == "Active", 2, 1))
    found = ks.cox("Surv(T, E) ~ ARM", pa.Table.from_pandas(frame)).coefficients
    assert found["term"].tolist() == ["ARMActive"]
    table = pl.from_pandas(frame).with_columns(pl.col("ARM").cast(pl.String).cast(pl.Categorical))
    assert ks.cox("Surv(T, E) ~ ARM", table).coefficients["term"].tolist() == ["ARMActive"]  # by ARMN
    with pytest.warns(KapstatsWarning, match="reference 'Active'"):  # nothing states an order: said, not silent
        ks.cox("Surv(T, E) ~ ARM", table.drop("ARMN"))
