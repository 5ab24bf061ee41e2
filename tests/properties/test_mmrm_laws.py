"""Laws that an MMRM obeys whatever the data: order, labels, scale, addition, nesting, estimability."""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kapstats as ks
from kapstats.errors import ConvergenceError, DataError, FormulaError, KapstatsWarning
from kapstats.inference import multiplicity
from kapstats.kernels import pattern_moments, scoring
from kapstats.kernels.covariance import Structure
from kapstats.kernels.replicates import fit_replicates

FORMULA = "CHG ~ BASE*AVISIT + TRT01P*AVISIT + us(AVISIT | USUBJID)"
fast = settings(derandomize=True, max_examples=4, deadline=None)
seeds = st.integers(0, 10_000)


def trial(seed: int, n: int = 60, m: int = 3, arms: int = 2) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    root = np.linalg.cholesky(40 * 0.6 ** np.abs(np.subtract.outer(np.arange(m), np.arange(m))))
    arm, base = np.arange(n) % arms, rng.normal(30, 4, n)
    y = -3.0 * arm[:, None] - np.arange(m) + 0.3 * base[:, None] + rng.normal(size=(n, m)) @ root.T
    i, v = np.nonzero(rng.random((n, m)) > 0.15)
    names = ["Placebo", *[f"Dose {k}" for k in range(1, arms)]]
    return pd.DataFrame(
        {
            "USUBJID": [f"S{k:03d}" for k in i],
            "TRT01P": pd.Categorical([names[a] for a in arm[i]], categories=names, ordered=True),
            "AVISIT": v + 1,
            "BASE": base[i],
            "CHG": y[i, v],
        }
    )


def differences(fit: Any) -> pd.DataFrame:
    numbers = fit.lsmeans("TRT01P", by="AVISIT").contrast().frame
    return numbers[["estimate", "std_error", "df"]]


@fast
@given(seeds)
def test_row_order_and_index_do_not_matter(seed: int) -> None:
    data = trial(seed)
    shuffled = data.sample(frac=1, random_state=seed)
    shuffled.index = [7] * len(shuffled)
    np.testing.assert_allclose(differences(ks.mmrm(FORMULA, shuffled)), differences(ks.mmrm(FORMULA, data)), rtol=1e-8)


@fast
@given(seeds)
def test_labels_of_visits_and_subjects_do_not_matter(seed: int) -> None:
    data = trial(seed)
    renamed = data.assign(
        AVISIT=pd.Categorical(data["AVISIT"].map({1: "c", 2: "a", 3: "b"}), categories=["c", "a", "b"], ordered=True),
        USUBJID=data["USUBJID"].rank(method="dense", ascending=False).astype(int),
    )
    np.testing.assert_allclose(differences(ks.mmrm(FORMULA, renamed)), differences(ks.mmrm(FORMULA, data)), rtol=1e-8)


@fast
@given(seeds, st.floats(0.01, 1000), st.floats(-1e5, 1e5))
def test_affine_response(seed: int, scale: float, shift: float) -> None:
    data = trial(seed)
    one, two = ks.mmrm(FORMULA, data), ks.mmrm(FORMULA, data.assign(CHG=scale * data["CHG"] + shift))
    a, b = differences(one), differences(two)
    np.testing.assert_allclose(b["estimate"] / scale, a["estimate"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(b["std_error"] / scale, a["std_error"], rtol=1e-6)
    np.testing.assert_allclose(b["df"], a["df"], rtol=1e-5)
    free = one.nobs - len(one.design.names)
    np.testing.assert_allclose(two.loglik, one.loglik - free * np.log(scale), rtol=1e-7)


@fast
@given(seeds)
def test_split_and_added_statistics_are_the_pooled_fit(seed: int) -> None:
    data = trial(seed)
    levels = {"AVISIT": [1, 2, 3], "TRT01P": ["Placebo", "Dose 1"]}
    site = data["USUBJID"].rank(method="dense").astype(int) % 3
    parts = [ks.MmrmStatistics.from_data(FORMULA, data[site == k], levels=levels) for k in range(3)]
    pooled, added = ks.mmrm(FORMULA, data), sum(parts).fit()
    np.testing.assert_allclose(differences(added), differences(pooled), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(added.loglik, pooled.loglik, rtol=1e-12)
    for kind in (2, 3):
        found, expected = (f.anova(type=kind).frame.iloc[:, 1:] for f in (added, pooled))
        np.testing.assert_allclose(found, expected, rtol=1e-8)


@fast
@given(seeds, st.sampled_from(["us(AVISIT | USUBJID)", "csh(AVISIT | TRT01P / USUBJID)"]))
def test_levels_that_no_row_holds_do_not_move_a_fit_from_statistics(seed: int, structure: str) -> None:
    data = trial(seed)
    formula = FORMULA[: FORMULA.index("us(")] + structure
    levels = {"AVISIT": [0, 1, 2, 3, 9], "TRT01P": ["Never given", "Placebo", "Dose 1"]}
    odd = data["USUBJID"].rank(method="dense").astype(int) % 2
    parts = [ks.MmrmStatistics.from_data(formula, data[odd == k], levels=levels) for k in range(2)]
    pooled, added = ks.mmrm(formula, data), sum(parts).fit()
    a, b = added.coefficients.frame, pooled.coefficients.frame
    assert a["term"].tolist() == b["term"].tolist()
    np.testing.assert_allclose(a["estimate"], b["estimate"], rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(differences(added), differences(pooled), rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(added.loglik, pooled.loglik, rtol=1e-10)


@fast
@given(seeds)
def test_nested_structures_order_the_likelihood(seed: int) -> None:
    data = trial(seed, n=80, m=4)
    fits = {
        s: ks.mmrm(FORMULA.replace("us(", f"{s}("), data)
        for s in ("us", "toeph", "csh", "cs", "ar1h", "ar1", "toep", "adh")
    }
    for small, large in [("cs", "csh"), ("csh", "toeph"), ("toeph", "us"), ("ar1", "ar1h"), ("ar1h", "toeph"),
                         ("cs", "toep"), ("toep", "toeph"), ("ar1h", "adh"), ("adh", "us")]:  # fmt: skip
        assert fits[small].loglik <= fits[large].loglik + 1e-8
        assert fits[large].lrt(fits[small])["p_value"].between(0, 1).all()


@fast
@given(seeds)
def test_whole_number_weights_do_not_change_the_scale(seed: int) -> None:
    data = trial(seed)
    one, two = ks.mmrm(FORMULA, data), ks.mmrm(FORMULA, data, weights=np.full(len(data), 4.0))
    np.testing.assert_allclose(differences(two), differences(one), rtol=1e-7)
    np.testing.assert_allclose(two.sigma, 4 * one.sigma, rtol=1e-6)


@fast
@given(seeds)
def test_reference_level_does_not_change_type_three_tests(seed: int) -> None:
    data = trial(seed, arms=3)
    other = data.assign(TRT01P=data["TRT01P"].cat.reorder_categories(["Dose 2", "Placebo", "Dose 1"]))
    a, b = (ks.mmrm(FORMULA, d).anova(type=3).frame for d in (data, other))
    np.testing.assert_allclose(a[["num_df", "df", "statistic"]], b[["num_df", "df", "statistic"]], rtol=1e-6)


@fast
@given(seeds)
def test_downdated_refits_are_refits(seed: int) -> None:
    data = trial(seed, n=40)
    found = ks.mmrm(FORMULA, data).influence()
    k = int(found["cook_distance"].idxmax())
    alone = ks.mmrm(FORMULA, data[data["USUBJID"] != found["subject"][k]])
    np.testing.assert_allclose(found.meta["coefficients"].iloc[k], alone.coefficients["estimate"], rtol=1e-6, atol=1e-8)
    assert (found["likelihood_displacement"] > -1e-6).all()


@fast
@given(seeds)
def test_batch_equals_single_fits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, m, b = 40, 3, 4
    arm = np.arange(n) % 2
    x = np.concatenate([np.broadcast_to(np.eye(m), (n, m, m)), arm[:, None, None] * np.eye(m)], axis=2)
    y = rng.normal(size=(b, n, m)) + rng.normal(size=(b, n, 1))
    y[rng.random(y.shape) < 0.15] = np.nan
    y[:, :, 0] = np.where(np.isnan(y).all(2), 0.0, y[:, :, 0])
    rows = np.eye(2 * m)[m:]
    for df, block in (("kenward-roger", None), ("satterthwaite", None), ("satterthwaite", arm), ("normal", None)):
        batch = fit_replicates(x, y, rows, structure="toeph", df=df, chunk=3, block=block)
        assert batch.converged.all()
        subjects = "ID" if block is None else "A / ID"
        for k in range(b):
            i, v = np.nonzero(np.isfinite(y[k]))
            frame = pd.DataFrame({"ID": i, "V": v, "A": arm[i], "Y": y[k][i, v]})
            fit = ks.mmrm(f"Y ~ 0 + V + V:A + toeph(V | {subjects})", frame, df=df)
            found = fit.coefficients.frame.iloc[m:]
            np.testing.assert_allclose(batch.estimate[k], found["estimate"], rtol=1e-7, atol=1e-9)
            np.testing.assert_allclose(batch.std_error[k], found["std_error"], rtol=1e-7)
            np.testing.assert_allclose(batch.df[k], found["df"], rtol=1e-6)


@fast
@given(st.lists(st.floats(1e-6, 1.0), min_size=2, max_size=7))
def test_order_of_adjustments(p: list[float]) -> None:
    values = np.array(p)
    holm, hochberg, bonferroni = (getattr(multiplicity, f)(values) for f in ("holm", "hochberg", "bonferroni"))
    assert (values <= hochberg + 1e-12).all()
    assert (hochberg <= holm + 1e-12).all()
    assert (holm <= bonferroni + 1e-12).all()
    assert (multiplicity.sidak(values) <= bonferroni + 1e-12).all()
    m = len(p)
    graph = (np.full((m, m), 1.0) - np.eye(m)) / (m - 1)
    np.testing.assert_allclose(multiplicity.graphical(values, [1 / m] * m, graph.tolist()), holm, rtol=1e-9)
    chain = np.eye(m, k=1)
    first = [1.0, *[0.0] * (m - 1)]
    np.testing.assert_allclose(
        multiplicity.graphical(values, first, chain.tolist()), multiplicity.fixed_sequence(values), rtol=1e-9
    )


@fast
@given(st.floats(0.5, 4.0), st.floats(3, 200), st.integers(2, 6))
def test_single_step_lies_between_plain_and_bonferroni(c: float, df: float, m: int) -> None:
    r = np.full((m, m), 0.5) + 0.5 * np.eye(m)
    plain = float(multiplicity.mvt_p_values(np.array([c]), np.eye(1), df)[0])
    joint = float(multiplicity.mvt_p_values(np.array([c]), r, df)[0])
    assert plain - 1e-9 <= joint <= min(1.0, m * plain) + 1e-9
    independent = float(multiplicity.mvt_p_values(np.array([c]), np.eye(m), np.inf)[0])
    single = float(multiplicity.mvt_p_values(np.array([c]), np.eye(1), np.inf)[0])
    assert abs(independent - (1 - (1 - single) ** m)) < 1e-9


def test_critical_value_and_p_value_agree() -> None:
    r = np.array([[1, 0.3, 0.6], [0.3, 1, 0.2], [0.6, 0.2, 1.0]])
    for side in ("two", "greater", "less"):
        c = multiplicity.mvt_critical(r, 11.5, 0.9, side)
        statistic = np.array([-c if side == "less" else c])
        assert abs(float(multiplicity.mvt_p_values(statistic, r, 11.5, side)[0]) - 0.1) < 1e-6


def test_all_pairs_by_mvt_is_the_studentised_range_when_balanced() -> None:
    pairs = [(i, j) for i in range(4) for j in range(i + 1, 4)]
    c = np.array([[(k == i) * 1.0 - (k == j) for k in range(4)] for i, j in pairs])
    t = np.array([1.5, 2.5, 3.0])
    found = multiplicity.mvt_p_values(t, c @ c.T / 2, 18.0)
    np.testing.assert_allclose(found, multiplicity.range_tail(np.sqrt(2) * t, 4, np.full(3, 18.0)), atol=2e-4)


# ------------------------------------------------------------------------------------------- the interface


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    return trial(5, n=80, arms=3)


@pytest.fixture(scope="module")
def fit(data: pd.DataFrame) -> Any:
    return ks.mmrm(FORMULA, data)


def test_default_is_kenward_roger_and_questions_do_not_refit(fit: Any) -> None:
    base = fit.lsmeans("TRT01P", by="AVISIT")
    assert "Kenward-Roger" in base.meta["method"]
    seen = set()
    for df in (
        "kenward-roger",
        "kenward-roger-linear",
        "kenward-roger-mmrm",
        "satterthwaite",
        "between-within",
        "residual",
        "normal",
    ):
        means = fit.lsmeans("TRT01P", by="AVISIT", df=df)
        seen.add(tuple(np.round(means.frame[["std_error", "df"]].to_numpy().ravel(), 9)))
    for vcov in ("CR0", "CR1", "CR2", "CR3"):
        means = fit.lsmeans("TRT01P", by="AVISIT", vcov=vcov)
        assert vcov in means.meta["sentence"]
        seen.add(tuple(np.round(means.frame[["std_error", "df"]].to_numpy().ravel(), 9)))
    # us is linear in its natural parameters, so Kenward-Roger equals its first-order form there
    assert len(seen) == 10


def test_kenward_roger_differs_from_its_linear_form_where_the_structure_is_not_linear(data: pd.DataFrame) -> None:
    fit = ks.mmrm(FORMULA.replace("us(", "ar1h("), data)
    errors = [fit.coefficients_by(df=f"kenward-roger{k}")["std_error"] for k in ("", "-linear", "-mmrm")]
    assert np.abs(errors[0] / errors[1] - 1).max() > 1e-5
    assert np.abs(errors[0] / errors[2] - 1).max() > 1e-5


def test_refusals(data: pd.DataFrame) -> None:
    with pytest.raises(FormulaError, match="covariance term"):
        ks.mmrm("CHG ~ TRT01P", data)
    with pytest.raises(FormulaError, match=r"ks\.lmm"):
        ks.mmrm("CHG ~ TRT01P + us(AVISIT | USUBJID) + (1 | USUBJID)", data)
    with pytest.raises(DataError, match="AVISIT"):
        ks.mmrm("CHG ~ TRT01P + us(AVISITX | USUBJID)", data)
    with pytest.raises(DataError, match="more than one"):
        ks.mmrm(FORMULA, pd.concat([data, data.iloc[:2]]))
    with pytest.raises(DataError, match="changes within"):
        ks.mmrm("CHG ~ BASE + us(AVISIT | G / USUBJID)", data.assign(G=np.arange(len(data)) % 2))
    with pytest.raises(DataError, match="exact function"):
        ks.mmrm(FORMULA, data.assign(CHG=2.0))
    with pytest.raises(DataError, match="not above zero"):
        ks.mmrm(FORMULA, data, weights=np.zeros(len(data)))
    with pytest.raises(FormulaError, match="REML only"):
        ks.mmrm(FORMULA, data, reml=False, df="kenward-roger")
    with pytest.raises(FormulaError, match="Did you mean 'satterthwaite'"):
        ks.mmrm(FORMULA, data, df="satterthwait")
    with pytest.raises(ConvergenceError, match="Try a simpler one"):
        ks.mmrm("CHG ~ AVISIT + us(AVISIT | USUBJID)", data.drop(data.index[(data.AVISIT == 3)][1:]))
    with pytest.raises(FormulaError, match=r"vcov='model' only"):
        ks.mmrm(FORMULA, data, df="kenward-roger", vcov="CR2")


def test_ml_default_is_satterthwaite_with_a_warning(data: pd.DataFrame) -> None:
    with pytest.warns(KapstatsWarning, match="REML only"):
        fit = ks.mmrm(FORMULA, data, reml=False)
    assert fit.df == "satterthwaite"
    assert any("REML only" in w for w in fit.warnings)


def test_fallback_chain_records_every_attempt(data: pd.DataFrame) -> None:
    alone = data.drop(data.index[(data.AVISIT == 3)][1:])  # visit 3 seen in one subject: no variance of its own
    with pytest.warns(KapstatsWarning, match="was used after others failed"):
        fit = ks.mmrm("CHG ~ TRT01P + AVISIT + us(AVISIT | USUBJID)", alone, covariance=["us", "csh", "cs"])
    assert [a.structure for a in fit.attempts] == ["us", "csh", "cs"]
    assert [a.converged for a in fit.attempts] == [False, False, True]
    assert fit.structure == "cs"


def test_aliased_columns_are_nan_and_named(data: pd.DataFrame) -> None:
    with pytest.warns(KapstatsWarning, match="COPY"):
        fit = ks.mmrm("CHG ~ BASE + COPY + AVISIT + us(AVISIT | USUBJID)", data.assign(COPY=2 * data["BASE"]))
    found = fit.coefficients
    assert np.isnan(found.filter(term="COPY")["estimate"][0])
    plain = ks.mmrm("CHG ~ BASE + AVISIT + us(AVISIT | USUBJID)", data)
    np.testing.assert_allclose(fit.lsmeans("AVISIT")["estimate"], plain.lsmeans("AVISIT")["estimate"])


def test_empty_cells_make_means_not_estimable(data: pd.DataFrame) -> None:
    hole = data[~((data["TRT01P"] == "Dose 2") & (data["AVISIT"] == 3))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = ks.mmrm(FORMULA, hole)
    with pytest.warns(KapstatsWarning, match="1 of 9 LS means are not estimable"):
        result = fit.lsmeans("TRT01P", by="AVISIT")
    assert any("not estimable" in w for w in result.warnings)
    means = result.frame
    missing = means["estimate"].isna()
    assert missing.sum() == 1
    assert means.loc[missing, ["TRT01P", "AVISIT"]].to_numpy().tolist() == [["Dose 2", 3]]
    assert fit.anova()["num_df"].min() > 0


def test_visits_never_seen_together_are_said(data: pd.DataFrame) -> None:
    apart = data[~((data["AVISIT"] == 1) & data["USUBJID"].isin(data.loc[data["AVISIT"] == 3, "USUBJID"]))]
    with pytest.warns(KapstatsWarning, match="no information"):
        fit = ks.mmrm("CHG ~ TRT01P + AVISIT + us(AVISIT | USUBJID)", apart)
    assert fit.converged
    assert fit.n_parameters == 5
    assert np.isfinite(fit.coefficients["std_error"]).all()


def test_strongly_correlated_visits_converge() -> None:
    rng = np.random.default_rng(3)
    n, m = 80, 10
    root = np.linalg.cholesky(0.98 ** np.abs(np.subtract.outer(np.arange(m), np.arange(m))))
    y = 50 + 8 * rng.normal(size=(n, m)) @ root.T
    i, v = np.nonzero(rng.random((n, m)) > 0.1)
    frame = pd.DataFrame({"ID": i, "V": v, "A": i % 2, "Y": y[i, v]})
    fit = ks.mmrm("Y ~ V*A + us(V | ID)", frame)
    assert fit.converged
    assert fit.state.fits.iterations[0] < 25


def test_grouped_covariance_is_two_separate_fits_when_the_means_are_separate(data: pd.DataFrame) -> None:
    two = data[data["TRT01P"] != "Dose 2"].assign(TRT01P=lambda d: d["TRT01P"].cat.remove_unused_categories())
    both = ks.mmrm("CHG ~ TRT01P*AVISIT + us(AVISIT | TRT01P / USUBJID)", two)
    for arm, sigma in both.covariance.items():
        alone = ks.mmrm("CHG ~ AVISIT + us(AVISIT | USUBJID)", two[two["TRT01P"] == arm])
        np.testing.assert_allclose(sigma, alone.sigma, rtol=1e-6)


def test_irregular_spatial_times_equal_regular_ones(data: pd.DataFrame) -> None:
    regular = data.assign(T=data["AVISIT"] ** 1.5)
    few = ks.mmrm("CHG ~ TRT01P + C(AVISIT) + sp_exp(T | USUBJID)", regular)
    many = regular.assign(T=regular["T"] + 100 * regular["USUBJID"].rank(method="dense"))  # distances within stay
    moved = ks.mmrm("CHG ~ TRT01P + C(AVISIT) + sp_exp(T | USUBJID)", many)
    assert not moved.visits.regular
    np.testing.assert_allclose(moved.loglik, few.loglik, rtol=1e-9)
    np.testing.assert_allclose(moved.coefficients["std_error"], few.coefficients["std_error"], rtol=1e-6)


def test_offset_is_taken_off_and_put_back(data: pd.DataFrame) -> None:
    data = data.assign(O=np.arange(len(data)) % 5)
    plain = ks.mmrm(FORMULA, data.assign(CHG=data["CHG"] - data["O"]))
    shifted = ks.mmrm(f"{FORMULA} + offset(O)", data)
    np.testing.assert_allclose(shifted.coefficients["estimate"], plain.coefficients["estimate"], rtol=1e-9)
    np.testing.assert_allclose(shifted.predict()["estimate"], plain.predict()["estimate"] + data["O"], rtol=1e-9)


@pytest.mark.parametrize("kind", ["CR0", "CR1", "CR2", "CR3"])
def test_cluster_of_subjects(data: pd.DataFrame, kind: str) -> None:
    sites = data.assign(SITE=data["USUBJID"].rank(method="dense").astype(int) % 12)
    by_site = ks.mmrm(FORMULA, sites, vcov=kind, cluster="SITE")
    own = ks.mmrm(FORMULA, sites, vcov=kind, cluster="USUBJID")
    subject = ks.mmrm(FORMULA, sites, vcov=kind)
    a, b, c = (f.coefficients.frame for f in (by_site, own, subject))
    np.testing.assert_allclose(b[["std_error", "df"]], c[["std_error", "df"]], rtol=1e-8)
    assert (a["df"] < b["df"]).mean() > 0.9


def test_contrast_families(fit: Any) -> None:
    means = fit.lsmeans("TRT01P", by="AVISIT")
    assert means.contrast("pairwise")["contrast"].tolist()[:3] == [
        "Placebo - Dose 1",
        "Placebo - Dose 2",
        "Dose 1 - Dose 2",
    ]
    custom = means.contrast({"mean dose - Placebo": [-1, 0.5, 0.5]})
    control = means.contrast()
    by_hand = control.frame.groupby("AVISIT")["estimate"].mean()
    np.testing.assert_allclose(custom["estimate"], by_hand, rtol=1e-10)
    for adjust in multiplicity.ADJUSTMENTS:
        if adjust in ("tukey", "graphical"):
            continue
        adjusted = means.contrast(adjust=adjust)
        assert (adjusted["p_value"] >= control["p_value"] - 1e-9).all()
        assert adjusted.meta["adjustment"] == adjust
    graph = ([0.5, 0.5], [[0, 1], [1, 0]])
    holm = means.contrast(adjust="holm")["p_value"]
    np.testing.assert_allclose(means.contrast(adjust="graphical", graph=graph)["p_value"], holm, rtol=1e-9)
    with pytest.raises(FormulaError, match="pairwise"):
        means.contrast(adjust="tukey")
    upper = means.contrast(side="greater")
    lower = means.contrast(side="less")
    np.testing.assert_allclose(upper["p_value"] + lower["p_value"], 1.0)
    assert np.isinf(upper["conf_high"]).all()
    sd = float(np.sqrt(fit.sigma.iloc[-1, -1]))
    np.testing.assert_allclose(means.contrast(standardize=sd)["estimate"], control["estimate"] / sd)


def test_averages_and_area_over_visits(fit: Any) -> None:
    means = fit.lsmeans("TRT01P", by="AVISIT")
    np.testing.assert_allclose(means.combine("AVISIT")["std_error"], fit.lsmeans("TRT01P")["std_error"], rtol=1e-9)
    wide = means.frame.pivot(index="TRT01P", columns="AVISIT", values="estimate")
    area = wide.to_numpy() @ [0.25, 0.5, 0.25]
    np.testing.assert_allclose(means.combine("AVISIT", "auc")["estimate"], area)
    change = means.combine("AVISIT", {1: -1.0, 3: 1.0})
    np.testing.assert_allclose(change["estimate"], wide[3] - wide[1])


def test_predictions_given_the_history(fit: Any, data: pd.DataFrame) -> None:
    seen = fit.predict(data, conditional=True)
    np.testing.assert_allclose(seen["estimate"], data["CHG"])
    partial = data.assign(CHG=data["CHG"].where(data["AVISIT"] < 3))
    wide, narrow = (fit.predict(partial, interval="prediction", conditional=c).frame for c in (False, True))
    last = (data["AVISIT"] == 3).to_numpy()
    width = [(f["conf_high"] - f["conf_low"])[last].mean() for f in (wide, narrow)]
    assert width[1] < width[0]


def test_simulation_repeats_and_has_the_fitted_covariance(fit: Any) -> None:
    draws = fit.simulate(400, seed=2)
    np.testing.assert_array_equal(draws[3], fit.simulate(4, seed=2)[3])
    rows = fit.visits.arranged.rows[-1]  # subjects seen at every visit
    centred = (draws - fit.predict()["estimate"].to_numpy())[:, rows].reshape(-1, rows.shape[1])
    np.testing.assert_allclose(np.cov(centred.T), fit.sigma, rtol=0.1)


def test_statistics_files_and_minimum(data: pd.DataFrame, tmp_path: Path) -> None:
    stats = ks.MmrmStatistics.from_data(FORMULA, data)
    read = ks.MmrmStatistics.load(stats.save(tmp_path / "site.npz"))
    np.testing.assert_array_equal(read.moments.gram, stats.moments.gram)
    assert read.schema == stats.schema
    held = ks.MmrmStatistics.from_data(FORMULA, data, minimum=5)
    assert held.moments.count.min() >= 5
    assert held.suppressed_subjects + held.n_subjects == stats.n_subjects
    with pytest.warns(KapstatsWarning, match="below the minimum"):
        held.fit()
    with pytest.raises(FormulaError, match="needs the rows"):
        stats.fit().residuals()
    with pytest.raises(DataError, match="cannot be added"):
        _ = stats + ks.MmrmStatistics.from_data(FORMULA.replace("us(", "cs("), data)


def needs(*modules: str) -> None:
    """Skip where an optional package is absent or does not fit the installed NumPy."""
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError:
            pytest.skip(f"{name} cannot be imported")


def test_chunks_of_a_parquet_file(data: pd.DataFrame, tmp_path: Path) -> None:
    needs("pyarrow")
    stats = ks.MmrmStatistics.from_data(FORMULA, data)
    ordered = data.sort_values("USUBJID", kind="stable")
    ordered.to_parquet(tmp_path / "rows.parquet")
    levels = {"TRT01P": ["Placebo", "Dose 1", "Dose 2"]}
    chunked = ks.MmrmStatistics.from_data(FORMULA, tmp_path / "rows.parquet", chunk_rows=37, levels=levels)
    np.testing.assert_allclose(chunked.fit().loglik, stats.fit().loglik, rtol=1e-12)
    data.sample(frac=1, random_state=1).to_parquet(tmp_path / "mixed.parquet")
    with pytest.raises(DataError, match="sort the file"):
        ks.MmrmStatistics.from_data(FORMULA, tmp_path / "mixed.parquet", chunk_rows=37, levels=levels)


def test_callers_table_comes_back_and_is_not_changed(data: pd.DataFrame) -> None:
    needs("pyarrow", "polars")
    polars = importlib.import_module("polars")
    before = data.copy()
    table = polars.from_pandas(data)
    found = ks.mmrm(FORMULA, table).lsmeans("TRT01P", by="AVISIT").contrast().to_frame()
    assert isinstance(found, polars.DataFrame)
    pd.testing.assert_frame_equal(data, before)


def test_words(fit: Any) -> None:
    assert fit.sentence.startswith("REML, unstructured, Kenward-Roger; ")
    assert "10.2307/2533558" in fit.explain()
    assert "Newton decrement" in fit.summary().to_text()


def test_kernel_refuses_nothing_silently() -> None:
    z = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0], [1.0, 4.0]])
    arranged = pattern_moments.layout(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), np.zeros(2, dtype=int), 2)
    found = scoring.fit(pattern_moments.moments(z, arranged), Structure("us", 2, np.zeros(1, dtype=int)))
    assert not found.converged[0]
    with pytest.raises(ValueError, match="two rows"):
        pattern_moments.layout(np.array([0, 0]), np.array([1, 1]), np.zeros(1, dtype=int), 2)


@pytest.mark.parametrize("kind", ["residuals", "qq", "fit"])
def test_plots(fit: Any, kind: str) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    ax = fit.plot(kind=kind)
    assert ax.get_ylabel()
    if kind == "fit":
        assert [t.get_text() for t in ax.get_xticklabels()] == list(fit.visits.labels)
