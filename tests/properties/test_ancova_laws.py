"""Laws and edges of ancova, gee and crossover; single-arm data in every response model."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kapstats as ks
from kapstats.errors import DataError, EstimabilityError, KapstatsWarning

ORDER = {"arm": ["P", "K", "L"], "site": ["a", "b", "c"]}
SEEDS = st.integers(0, 10_000)


def trial(seed: int, n: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    data = pd.DataFrame({"id": np.arange(n), "base": rng.normal(30, 4, n), "site": rng.choice(list("abc"), n)})
    data["arm"] = rng.permutation(np.resize(["P", "K", "L"], n))
    data["chg"] = -5 - 4 * (data["arm"] != "P") - 0.3 * data["base"] + rng.normal(0, 5, n)
    return data.assign(w=rng.integers(1, 4, n).astype(float))


def contrasts(data: pd.DataFrame, **options: Any) -> pd.DataFrame:
    fit = ks.ancova("chg ~ base + site + arm", data, order=ORDER, **options)
    return fit.lsmeans("arm").contrast("pairwise").frame


@given(seed=SEEDS, shift=st.floats(-50, 50), scale=st.floats(0.1, 20))
@settings(max_examples=15, deadline=None)
def test_ancova_does_not_depend_on_order_units_or_coding(seed: int, shift: float, scale: float) -> None:
    data = trial(seed)
    found = contrasts(data)
    shuffled = contrasts(data.sample(frac=1.0, random_state=seed))
    np.testing.assert_allclose(shuffled["estimate"], found["estimate"], rtol=1e-8, atol=1e-9)
    moved = contrasts(data.assign(chg=shift + scale * data["chg"], base=3 * data["base"] - 7))
    np.testing.assert_allclose(moved["estimate"], scale * found["estimate"], rtol=1e-7, atol=1e-8 * scale)
    np.testing.assert_allclose(moved["p_value"], found["p_value"], rtol=1e-6)
    other = ks.ancova("chg ~ base + site + arm", data, order={**ORDER, "arm": ["L", "P", "K"]})
    first = ks.ancova("chg ~ base + site + arm", data, order=ORDER)
    np.testing.assert_allclose(other.anova()["statistic"], first.anova()["statistic"], rtol=1e-8)


@given(seed=SEEDS)
@settings(max_examples=10, deadline=None)
def test_weights_are_rows_repeated(seed: int) -> None:
    """The coefficients are those of repeated rows, and so are HC0 sandwiches up to the repeated scores."""
    data = trial(seed)
    twice = data.loc[data.index.repeat(data["w"].astype(int))]
    weighted = ks.ancova("chg ~ base + arm", data, weights="w", order=ORDER)
    repeated = ks.ancova("chg ~ base + arm", twice, order=ORDER)
    np.testing.assert_allclose(weighted.coefficients["estimate"], repeated.coefficients["estimate"], rtol=1e-9)
    bread = weighted.root @ weighted.root.T
    np.testing.assert_allclose(bread, repeated.root @ repeated.root.T, rtol=1e-8)


@given(seed=SEEDS)
@settings(max_examples=10, deadline=None)
def test_robust_standard_errors_are_ordered_and_need_two_rows(seed: int) -> None:
    data = trial(seed)
    fit = ks.ancova("chg ~ base + arm", data, order=ORDER)
    se = [fit.coefficients_by(vcov=v)["std_error"].to_numpy() for v in ("HC0", "HC2", "HC3")]
    assert (se[0] < se[1]).all()
    assert (se[1] < se[2]).all()
    alone = data.assign(arm=np.where(data.index == 0, "L", np.where(data["arm"] == "L", "K", data["arm"])))
    with pytest.warns(KapstatsWarning, match="HC3 does not exist"):
        lost = ks.ancova("chg ~ base + arm", alone, order=ORDER, vcov="HC3")
    assert np.isnan(lost.coefficients["std_error"]).all()
    assert np.isfinite(lost.coefficients_by(vcov="HC1")["std_error"]).all()


def test_a_model_that_fits_every_row_is_refused() -> None:
    with pytest.raises(DataError, match="fits every row exactly"):
        ks.ancova("chg ~ arm", trial(1).assign(chg=3.0), order=ORDER)


# ------------------------------------------------------------------------------------------- GEE


def sessions(seed: int, n: int = 40) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    data = pd.DataFrame({"id": np.repeat(np.arange(n), 3), "t": np.tile([1.0, 2.0, 3.0], n)})
    data["arm"] = np.where(data["id"] % 2 == 0, "P", "K")
    p = 0.3 + 0.3 * (data["arm"] == "K") + 0.1 * rng.normal(size=n)[data["id"]]
    return data.assign(resp=(rng.random(3 * n) < p).astype(int), y=rng.normal(size=3 * n))


@given(seed=SEEDS)
@settings(max_examples=6, deadline=None)
def test_gee_does_not_depend_on_row_order_or_names_of_clusters(seed: int) -> None:
    data = sessions(seed)
    found = ks.gee("resp ~ arm + t + cluster(id)", data, order=ORDER)
    other = data.sample(frac=1.0, random_state=seed).assign(id=lambda d: "S" + d["id"].map(lambda i: f"{97 - i:03d}"))
    again = ks.gee("resp ~ arm + t + cluster(id)", other, order=ORDER)
    np.testing.assert_allclose(again.coefficients["estimate"], found.coefficients["estimate"], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(again.coefficients["std_error"], found.coefficients["std_error"], rtol=1e-6)


def test_gee_of_independent_normal_rows_is_least_squares() -> None:
    data = sessions(3)
    found = ks.gee("y ~ arm + t + cluster(id)", data, family="gaussian", structure="independence", order=ORDER)
    plain = ks.ancova("y ~ arm + t", data, order=ORDER)
    np.testing.assert_allclose(found.coefficients["estimate"], plain.coefficients["estimate"], atol=1e-9)
    rows = ks.gee(
        "y ~ arm + t + cluster(row)", data.assign(row=np.arange(len(data))), family="gaussian",
        structure="independence", vcov="robust", order=ORDER,
    )  # fmt: skip
    sandwich = plain.coefficients_by(vcov="HC0")["std_error"]
    np.testing.assert_allclose(rows.coefficients["std_error"], sandwich, rtol=1e-8)


def test_gee_refuses_what_has_no_solution() -> None:
    data = sessions(1)
    with pytest.raises(EstimabilityError, match="no finite solution"):
        ks.gee("resp ~ arm + cluster(id)", data.assign(resp=np.where(data["arm"] == "P", 0, data["resp"])), order=ORDER)
    with pytest.raises(DataError, match="more clusters than coefficients"):
        ks.gee("resp ~ arm + cluster(id)", data.assign(id=data["arm"]), order=ORDER)
    with pytest.warns(KapstatsWarning, match="linear combinations"):
        found = ks.gee("resp ~ arm + t + u + cluster(id)", data.assign(u=2 * data["t"]), order=ORDER)
    assert np.isnan(found.coefficients["estimate"].iloc[-1])
    assert np.isnan(found.vcov[-1]).all()


@pytest.mark.parametrize("structure", ["exchangeable", "ar1", "unstructured"])
def test_gee_solves_the_equations_written_out_cluster_by_cluster(structure: str) -> None:
    """With a visit missed in between: gaps count in AR(1)."""
    data = sessions(5, 60)
    data = data[~((data["id"] % 3 == 0) & (data["t"] == 2.0))]
    found = ks.gee("resp ~ arm + t + cluster(id)", data, structure=structure, time="t", order=ORDER)
    score = np.zeros(3)
    for _, rows in found.used.groupby("id"):
        X = np.column_stack([np.ones(len(rows)), rows["arm"] == "K", rows["t"]]).astype(float)
        mean = 1 / (1 + np.exp(-X @ found.beta))
        at = rows["t"].to_numpy().astype(int) - 1
        if structure == "unstructured":
            R = found.working[np.ix_(at, at)]
        elif structure == "ar1":
            R = float(found.working[0]) ** np.abs(np.subtract.outer(at, at))
        else:
            R = np.where(np.eye(len(at)) == 1, 1.0, found.working[0])
        root = np.sqrt(mean * (1 - mean))
        V = root[:, None] * R * root
        score += (root[:, None] ** 2 * X).T @ np.linalg.solve(V, rows["resp"].to_numpy() - mean)
    np.testing.assert_allclose(score, 0.0, atol=1e-7)


def test_gee_draws_an_impossible_correlation_back_and_says_so() -> None:
    """Nearly all variance between clusters and few of them: the moment estimate of the correlation is above one."""
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"id": np.repeat(np.arange(12), [1, 1, 1, 1, 1, 1, 4, 4, 4, 4, 4, 4])})
    data["y"] = np.where(data["id"] < 6, 0.3, 7.0) * rng.normal(size=12)[data["id"]] + 0.01 * rng.normal(size=len(data))
    with pytest.warns(KapstatsWarning, match="not positive definite"):
        found = ks.gee("y ~ 1 + cluster(id)", data, family="gaussian")
    assert float(found.working[0]) == pytest.approx(0.999)
    assert np.isfinite(found.coefficients["std_error"]).all()


def test_gee_of_one_row_per_cluster_is_any_structure() -> None:
    data = sessions(2).query("t == 1")
    apart = ks.gee("resp ~ arm + cluster(id)", data, structure="independence", order=ORDER).coefficients
    for structure in ("exchangeable", "ar1"):
        same = ks.gee("resp ~ arm + cluster(id)", data, structure=structure, time="t", order=ORDER).coefficients
        np.testing.assert_allclose(same["std_error"], apart["std_error"], rtol=1e-9)


def test_gee_refuses_two_rows_at_a_visit_and_negative_counts() -> None:
    data = sessions(1)
    with pytest.raises(DataError, match="more than one row at a visit"):
        ks.gee("resp ~ arm + cluster(id)", data.assign(t=1.0), structure="ar1", time="t")
    with pytest.raises(DataError, match="counts of 0 or more"):
        ks.gee("y ~ arm + cluster(id)", data, family="poisson")


# ------------------------------------------------------------------------------------------- crossover


def crossed(seed: int, n: int = 16) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    first = np.arange(n) % 2 == 0
    active = np.column_stack([first, ~first])
    y = 20 + rng.normal(0, 3, n)[:, None] + np.array([0, 1.5]) - 4 * active + rng.normal(size=(n, 2))
    names = np.where(active, "K", "P").ravel()
    return pd.DataFrame({"id": np.repeat(np.arange(n), 2), "period": np.tile([1, 2], n), "arm": names, "y": y.ravel()})


def effect(data: pd.DataFrame) -> pd.Series:
    found = ks.crossover(data, response="y", subject="id", period="period", treatment="arm", order={"arm": ["P", "K"]})
    return found.treatment().frame.iloc[0]


@given(seed=SEEDS)
@settings(max_examples=8, deadline=None)
def test_crossover_effects_are_within_subjects(seed: int) -> None:
    """Nothing that a subject carries through both periods matters, nor an effect of the period."""
    data = crossed(seed)
    found = effect(data)
    rng = np.random.default_rng(seed + 1)
    own = rng.normal(0, 30, 16)[data["id"]]
    moved = effect(data.assign(y=data["y"] + own + 5.0 * (data["period"] == 2)))
    np.testing.assert_allclose(moved["estimate"], found["estimate"], rtol=1e-7)
    other = ks.crossover(
        data, response="y", subject="id", period="period", treatment="arm", order={"arm": ["K", "P"]}
    ).treatment()  # fmt: skip
    assert other["estimate"][0] == pytest.approx(-found["estimate"], rel=1e-9)
    assert other["p_value"][0] == pytest.approx(found["p_value"], rel=1e-6)
    shuffled = effect(data.sample(frac=1.0, random_state=seed))
    assert shuffled["estimate"] == pytest.approx(found["estimate"], rel=1e-9)


# ------------------------------------------------------------------------------------------- one arm


@pytest.mark.parametrize("model", ["ancova", "lmm", "mmrm", "glmm", "gee"])
def test_one_arm_is_said_by_name(model: str) -> None:
    data = sessions(2).query("arm == 'K'").assign(arm=lambda d: pd.Categorical(d["arm"], ["P", "K"], ordered=True))
    calls = {
        "ancova": lambda: ks.ancova("y ~ arm + t", data),
        "lmm": lambda: ks.lmm("y ~ arm * t + (1 | id)", data),
        "mmrm": lambda: ks.mmrm("y ~ arm * t + cs(t | id)", data),
        "glmm": lambda: ks.glmm("resp ~ arm + t + (1 | id)", data),
        "gee": lambda: ks.gee("resp ~ arm + t + cluster(id)", data),
    }
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit = calls[model]()
    said = [str(w.message) for w in caught if "arm (only K)" in str(w.message)]
    assert len(said) == 1
    assert said[0] in fit.warnings
    assert "arm" not in " ".join(fit.coefficients["term"])


def test_levels_without_both_outcomes_are_said() -> None:
    data = sessions(4).assign(resp=lambda d: d["id"] % 3 == 0)
    with pytest.warns(KapstatsWarning, match="No level of id has both events and non-events"):
        ks.glmm("resp ~ arm + (1 | id)", data, order=ORDER)


def test_a_model_without_fixed_effects() -> None:
    with pytest.warns(KapstatsWarning, match="Singular fit"):
        fit = ks.lmm("y ~ 0 + (1 | id)", sessions(5))
    n, groups = 120, 40
    y = sessions(5)["y"].to_numpy().reshape(groups, 3)
    s2, tau = fit.sigma**2, fit.covariance["1 | id"].iloc[0, 0]
    V = s2 * np.eye(3) + tau
    value = groups * np.linalg.slogdet(V)[1] + np.einsum("gi,ij,gj->", y, np.linalg.inv(V), y) + n * np.log(2 * np.pi)
    assert -2 * fit.loglik == pytest.approx(value, abs=1e-8)
    assert len(fit.coefficients) == 0
