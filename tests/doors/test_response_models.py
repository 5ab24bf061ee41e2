"""Mixed models, GEE and ANCOVA as users call them: cells without data, offsets, separation, limits of probabilities."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from kapstats.errors import EstimabilityError, FormulaError, KapstatsWarning

HERE = Path(__file__).parents[1]
quiet = pytest.mark.filterwarnings("ignore::kapstats.errors.KapstatsWarning")


def ordered(data: pd.DataFrame, **orders: str) -> pd.DataFrame:
    return data.assign(**{c: pd.Categorical(data[c].astype(str), list(o), ordered=True) for c, o in orders.items()})


def no_placebo_in_site_two(seed: int = 0, n: int = 160) -> pd.DataFrame:
    """Two arms, three sites, no row of arm P in site 2; text columns and a column of no use."""
    r = np.random.default_rng(seed)
    data = pd.DataFrame({"arm": r.choice(["P", "K"], n), "site": r.choice(["1", "2", "3"], n), "x": r.normal(size=n)})
    data = data[~((data.site == "2") & (data.arm == "P"))].reset_index(drop=True)
    data["y"] = r.normal(size=len(data)) + (data.arm == "K")
    data["r"] = (data.y > 0.5) * 1
    data["count"] = r.poisson(1.5, len(data))
    return data.assign(id=np.arange(len(data)) % 40, remark="none")


# ------------------------------------------------------------------------------------------- type II


@quiet
def test_type_two_in_a_trial_whose_reference_arm_was_not_given_in_one_site():
    """Three arms, three sites: extra sums of squares by hand (differences of residual sums of squares)."""
    r = np.random.default_rng(0)
    data = pd.DataFrame(
        {"arm": r.choice(list("PIO"), 90), "site": r.choice(list("123"), 90), "base": r.normal(30, 4, 90)}
    )
    data["y"] = data.base * 0.4 - data.arm.map({"P": 0, "I": 4, "O": 2}) + r.normal(0, 3, 90)
    data = ordered(data[~((data.arm == "P") & (data.site == "2"))], arm="PIO", site="123")
    one, base = [np.ones(len(data))], [data.base.to_numpy()]
    arm, site = ([(data[c] == k).to_numpy(float) for k in data[c].cat.categories] for c in ("arm", "site"))
    both = [a * s for a in arm for s in site]

    def rss(parts: list[np.ndarray]) -> tuple[float, int]:
        X = np.column_stack(parts)
        return float(((data.y - X @ np.linalg.lstsq(X, data.y, rcond=None)[0]) ** 2).sum()), np.linalg.matrix_rank(X)

    full = rss(one + base + arm + site + both)
    variance = full[0] / (len(data) - full[1])
    expected = {}
    for term, without, with_ in (
        ("base", one + arm + site + both, one + base + arm + site + both),
        ("arm", one + base + site, one + base + site + arm),
        ("site", one + base + arm, one + base + arm + site),
        ("arm:site", one + base + arm + site, one + base + arm + site + both),
    ):
        (before, k), (after, m) = rss(without), rss(with_)
        expected[term] = (m - k, (before - after) / (m - k) / variance)
    found = ks.ancova("y ~ base + arm*site", data).anova(type=2).to_frame().set_index("term")
    assert (
        found.num_df.to_dict()
        == {t: df for t, (df, _) in expected.items()}
        == {"base": 1, "arm": 2, "site": 2, "arm:site": 3}
    )
    for term, (_, f) in expected.items():
        assert found.statistic[term] == pytest.approx(f, rel=1e-9)


@quiet
def test_type_two_with_an_empty_cell_is_lmertests():
    """R lmerTest 3.1-3, lmer(y ~ base + arm * visit + (1 | site / id)), anova(type = 2), Satterthwaite."""
    data = ordered(pd.read_csv(HERE / "reference/mixed/type_two_lmertest.csv"), arm="PAB", visit="123")
    fit = ks.lmm("y ~ base + arm*visit + (1 | site/id)", data, df="satterthwaite")
    found = fit.anova(type=2).to_frame().set_index("term")
    recorded = {
        "base": (1, 32.961390, 19.03050),
        "arm": (2, 38.159364, 0.91943),
        "visit": (2, 51.934003, 0.79263),
        "arm:visit": (3, 52.357524, 1.04429),
    }
    for term, (num, df, f) in recorded.items():
        row = found.loc[term]
        assert row.num_df == num
        assert row.df == pytest.approx(df, rel=1e-6)
        assert row.statistic == pytest.approx(f, abs=6e-6)
    main = ks.lmm("y ~ base + arm + visit + (1 | id)", data, df="satterthwaite")
    two, three = main.anova(type=2).to_frame(), main.anova(type=3).to_frame()
    pd.testing.assert_frame_equal(two, three, rtol=1e-9)
    assert two.df.tolist() == pytest.approx([32.515874, 37.078901, 54.328416], rel=1e-6)


@quiet
def test_type_two_of_mmrm_and_lmm_agree_where_the_models_do():
    r = np.random.default_rng(4)
    data = pd.DataFrame({"id": np.repeat(np.arange(60), 3), "visit": np.tile(["1", "2", "3"], 60)})
    data["arm"] = np.array(list("PAB"))[data.id % 3]
    data["sex"] = np.where(data.id % 2, "F", "M")
    data = data[~((data.arm == "P") & (data.sex == "F"))].reset_index(drop=True)
    data["y"] = r.normal(size=60)[data.id] + r.normal(size=len(data))
    data = ordered(data, arm="PAB", sex="FM", visit="123")
    a = ks.mmrm("y ~ arm*sex + visit + cs(visit | id)", data, df="normal").anova(type=2).to_frame()
    b = ks.lmm("y ~ arm*sex + visit + (1 | id)", data, df="normal").anova(type=2).to_frame()
    pd.testing.assert_frame_equal(a, b, rtol=1e-6)
    assert a.num_df.tolist() == [2, 1, 2, 1]


# ------------------------------------------------------------------------------------------- cells without data


@quiet
@pytest.mark.parametrize("arms", ["PK", "KP"])
@pytest.mark.parametrize("sites", ["123", "312"])
def test_marginal_means_of_a_cell_without_data_are_missing_whatever_the_order(arms, sites):
    data = no_placebo_in_site_two()
    fit = ks.glmm("r ~ arm*site + (1 | id)", data, order={"arm": list(arms), "site": list(sites)})
    with pytest.warns(KapstatsWarning, match=r"arm = P, site = 2"):
        means = fit.marginal_means("arm", by="site").to_frame().set_index(["arm", "site"])
    assert np.isnan(means.estimate[("P", "2")])
    assert means.estimate.notna().sum() == 5
    with pytest.warns(KapstatsWarning, match=r"arm = P, site = 2"):
        overall = fit.marginal_means("arm")
    assert overall.to_frame().set_index("arm").estimate.isna().to_dict() == {"P": True, "K": False}
    assert overall.contrast("pairwise").to_frame().estimate.isna().all()
    assert any("site = 2" in w for w in overall.meta["warnings"])


@quiet
@pytest.mark.parametrize(
    "predict",
    [
        lambda d, new: ks.ancova("y ~ arm*site + x", d).predict(new, interval="confidence"),
        lambda d, new: ks.lmm("y ~ arm*site + x + (1 | id)", d).predict(new, interval="confidence"),
        lambda d, new: ks.mmrm("y ~ arm*site + x + us(visit | id)", d).predict(new, interval="confidence"),
        lambda d, new: ks.glmm("r ~ arm*site + x + (1 | id)", d).predict(new, random=False),
        lambda d, new: ks.glmm("r ~ arm*site + x + (1 | id)", d).predict(new, type="marginal"),
        lambda d, new: ks.glmm("r ~ arm*site + x + (1 | id)", d).predict(new, type="response", interval="confidence"),
        lambda d, new: ks.glmm("count ~ arm*site + x + (1 | id)", d, family="poisson").predict(new),
        lambda d, new: ks.glmm("count ~ arm*site + x + (1 | id)", d, family="cumulative").predict(new),
    ],
    ids=["ancova", "lmm", "mmrm", "glmm", "glmm marginal", "glmm limits", "poisson", "cumulative"],
)
def test_predictions_for_a_cell_without_data_are_missing_and_named(predict):
    data = no_placebo_in_site_two()
    data = ordered(
        data.assign(visit=(data.groupby("id").cumcount() + 1).astype(str)), arm="PK", site="123", visit="1234"
    )
    new = pd.DataFrame({"arm": ["P", "K"], "site": ["2", "2"], "x": [0.0, 0.0], "id": [1, 1], "visit": ["1", "1"]})
    with pytest.warns(KapstatsWarning, match=r"1 predictions have no estimate.*arm = P, site = 2"):
        found = predict(data, new)
    numbers = found.to_frame().drop(columns=["id", "visit"], errors="ignore")
    assert numbers.iloc[0].isna().all()
    assert numbers.iloc[1].notna().all()
    assert any("arm = P, site = 2" in w for w in found.meta["warnings"])


@quiet
def test_lsmeans_name_the_means_that_cannot_be_estimated():
    data = no_placebo_in_site_two()
    with pytest.warns(KapstatsWarning, match=r"\(P 2\)"):
        ks.ancova("y ~ arm*site", data, order={"arm": ["P", "K"]}).lsmeans("arm", by="site")


# ------------------------------------------------------------------------------------------- offsets


def with_offset() -> pd.DataFrame:
    r = np.random.default_rng(3)
    data = pd.DataFrame({"id": np.repeat(np.arange(30), 3), "visit": np.tile(["1", "2", "3"], 30)})
    data["arm"] = np.where(data.id % 2, "A", "P")
    data["base"] = r.normal(25, 4, 90)
    data["hours"] = r.exponential(10, 90) + 1
    data["y"] = data.base + r.normal(size=30)[data.id] + r.normal(size=90)
    data["count"] = r.poisson(0.2 * data.hours)
    return ordered(data, arm="PA", visit="123")


@quiet
@pytest.mark.parametrize(
    ("fit", "column"),
    [
        (lambda d: ks.ancova("y ~ offset(base) + arm", d), "base"),
        (lambda d: ks.lmm("y ~ offset(base) + arm + (1 | id)", d), "base"),
        (lambda d: ks.mmrm("y ~ offset(base) + arm + us(visit | id)", d), "base"),
        (lambda d: ks.gee("count ~ offset(log(hours)) + arm + cluster(id)", d, family="poisson"), "log hours"),
        (lambda d: ks.glmm("count ~ offset(log(hours)) + arm + (1 | id)", d, family="poisson"), "log hours"),
    ],
    ids=["ancova", "lmm", "mmrm", "gee", "glmm"],
)
def test_lsmeans_stand_at_the_mean_offset(fit, column):
    """As R emmeans: intercept + effect + mean of the offset over the rows used; offset= states another value."""
    data = with_offset()
    model, offset = fit(data), {"base": data.base, "log hours": np.log(data.hours)}[column].mean()
    b = model.coefficients.to_frame().set_index("term").estimate
    means = model.lsmeans("arm")
    assert means.to_frame().estimate.tolist() == pytest.approx(
        [b["(Intercept)"] + offset, b["(Intercept)"] + b["armA"] + offset]
    )
    assert f"mean offset of the rows used, {offset:.6g}" in means.to_text()
    at_zero = model.lsmeans("arm", offset=0.0)
    assert at_zero.to_frame().estimate.tolist() == pytest.approx([b["(Intercept)"], b["(Intercept)"] + b["armA"]])
    for each in (means, at_zero):
        assert each.contrast().to_frame().estimate[0] == pytest.approx(b["armA"])
    assert means.filter(arm="A").to_frame().estimate[0] == pytest.approx(means.to_frame().estimate[1])
    assert means.combine("arm").to_frame().estimate[0] == pytest.approx(means.to_frame().estimate.mean())


@quiet
def test_lsmeans_with_an_expression_as_offset():
    """Least squares of y - offset by hand, then the mean offset added."""
    data = pd.DataFrame({"arm": list("aaabbb"), "x": [1.0, 2, 3, 2, 2, 4], "y": [2.5, 4, 6, 5, 4, 8]})
    found = ks.ancova("y ~ offset(2*x) + arm", data, order={"arm": ["a", "b"]}).lsmeans("arm").to_frame().estimate
    by_hand = [(data.y - 2 * data.x)[data.arm == k].mean() + (2 * data.x).mean() for k in "ab"]
    assert found.tolist() == pytest.approx(by_hand)


@quiet
def test_an_offset_is_stated_where_the_fit_does_not_know_its_mean_or_has_none():
    data = with_offset()
    summed = ks.MmrmStatistics.from_data("y ~ offset(base) + arm + us(visit | id)", data).fit()
    whole = ks.mmrm("y ~ offset(base) + arm + us(visit | id)", data)
    with pytest.raises(FormulaError, match="offset="):
        summed.lsmeans("arm")
    for offset in (0.0, 25.0):
        ours, theirs = (f.lsmeans("arm", offset=offset).to_frame().estimate for f in (summed, whole))
        assert ours.tolist() == pytest.approx(theirs.tolist())
    assert summed.predict(data).to_frame().estimate.tolist() == pytest.approx(
        whole.predict(data).to_frame().estimate.tolist()
    )
    with pytest.raises(FormulaError, match="no offset"):
        ks.ancova("y ~ arm", data).lsmeans("arm", offset=1.0)


# ------------------------------------------------------------------------------------------- separation


@quiet
def test_a_separated_intercept_is_not_printed_as_a_number():
    data = no_placebo_in_site_two()
    data["r"] = (data.arm == "K") * 1
    with pytest.warns(KapstatsWarning, match=r"Separation.*\(Intercept\), armK"):
        found = ks.glmm("r ~ arm + (1 | id)", data, order={"arm": ["P", "K"]}).coefficients.to_frame()
    assert found[["estimate", "std_error", "p_value", "conf_low"]].isna().all(axis=None)
    with pytest.raises(EstimabilityError, match=r"\(Intercept\), armK"):
        ks.gee("r ~ arm + cluster(id)", data, order={"arm": ["P", "K"]})


@quiet
def test_an_event_free_reference_cell_leaves_the_other_cells_as_fits_without_it():
    """In the limit the rows of the cell have likelihood one: all else is that of a fit without them."""
    r = np.random.default_rng(1)
    data = pd.DataFrame(
        {"id": np.arange(240) % 60, "arm": np.repeat(["P", "K"], 120), "site": np.tile(list("112233"), 40)}
    )
    data["r"] = (r.normal(size=60)[data.id] + r.normal(size=240) > 0) * 1
    data.loc[(data.arm == "P") & (data.site == "1"), "r"] = 0
    data = ordered(data, arm="PK", site="123")
    fit = ks.glmm("r ~ arm*site + (1 | id)", data, quadrature=9)
    assert fit.coefficients.to_frame().estimate.isna().tolist() == [True, True, True, True, True, True]
    rest = ks.glmm("r ~ arm*site + (1 | id)", data[(data.arm == "K") | (data.site != "1")], quadrature=9)
    ours, theirs = (f.lsmeans("site", by="arm").to_frame().set_index(["arm", "site"]) for f in (fit, rest))
    assert np.isnan(ours.estimate[("P", "1")])
    others = [k for k in ours.index if k != ("P", "1")]
    np.testing.assert_allclose(ours.loc[others, "estimate"], theirs.loc[others, "estimate"], rtol=1e-5)
    np.testing.assert_allclose(ours.loc[others, "std_error"], theirs.loc[others, "std_error"], rtol=1e-4)
    assert fit.loglik == pytest.approx(rest.loglik, abs=1e-6)


@quiet
@pytest.mark.parametrize("family", ["poisson", "cumulative"])
def test_separation_in_counts_and_grades(family):
    """An arm without any event: its coefficient and, where it is the reference, intercept or thresholds are missing."""
    r = np.random.default_rng(2)
    data = pd.DataFrame({"id": np.arange(120) % 40, "arm": np.repeat(["P", "K"], 60), "x": r.normal(size=120)})
    data["n"] = np.where(data.arm == "P", 0, r.integers(1, 4, 120))
    found = ks.glmm("n ~ arm + x + (1 | id)", data, family=family, order={"arm": ["P", "K"]}).coefficients.to_frame()
    found = found.set_index("term").estimate
    assert np.isfinite(found["x"])
    assert found.drop("x").isna().all()
    turned = ks.glmm("n ~ arm + x + (1 | id)", data, family=family, order={"arm": ["K", "P"]}).coefficients.to_frame()
    turned = turned.set_index("term").estimate
    assert np.isnan(turned["armP"])
    assert np.isfinite(turned["x"])
    if family == "poisson":
        assert np.isfinite(turned["(Intercept)"])


# ------------------------------------------------------------------------------------------- limits


@quiet
@pytest.mark.parametrize(("family", "response", "scale"), [("binomial", "r", "logit"), ("poisson", "n", "log")])
def test_limits_of_marginal_means_are_those_of_the_link_scale_turned_back(family, response, scale):
    r = np.random.default_rng(5)
    data = pd.DataFrame({"id": np.repeat(np.arange(24), 4), "arm": np.repeat(["P", "A"] * 12, 4)})
    u = r.normal(0, 1, 24)
    data["r"] = (r.random(96) < 1 / (1 + np.exp(3 - 1.5 * (data.arm == "A") - u[data.id]))) * 1
    data["n"] = data.r
    fit = ks.glmm(f"{response} ~ arm + (1 | id)", data, family=family, order={"arm": ["P", "A"]})
    means, turned = fit.marginal_means("arm").to_frame(), fit.marginal_means("arm", scale=scale).to_frame()
    back = (lambda x: 1 / (1 + np.exp(-x))) if scale == "logit" else np.exp
    for column in ("estimate", "conf_low", "conf_high"):
        np.testing.assert_allclose(means[column], back(turned[column]), rtol=1e-9)
    assert means[["statistic", "p_value"]].isna().all(axis=None)
    assert (means.conf_low > 0).all()
    difference = fit.marginal_means("arm").contrast().to_frame().iloc[0]
    assert difference.p_value > 0
    assert difference.conf_high - difference.estimate == pytest.approx(1.959963985 * difference.std_error)
    average = fit.marginal_means("arm").combine("arm").to_frame().iloc[0]
    assert 0 < average.conf_low < average.estimate == pytest.approx(means.estimate.mean())
    assert np.isnan(average.p_value)
