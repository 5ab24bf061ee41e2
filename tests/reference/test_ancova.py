"""ks.ancova, its rank tests, GEE and crossover against R 4.2.2 (lm, emmeans 1.8.4-1, wilcox.test) and statsmodels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from kapstats.errors import DataError, FormulaError, KapstatsWarning
from kapstats.kernels.shift import hodges_lehmann, rank_sum_counts
from kapstats.response.crossover import crossover
from kapstats.response.gee import gee

FOLDER = Path(__file__).parent / "mixed"
ORDER = {"arm": ["placebo", "ketamine"], "sex": ["F", "M"]}


@pytest.fixture(scope="module")
def two_arm() -> pd.DataFrame:
    return pd.read_csv(FOLDER / "kap_two_arm.csv")


@pytest.fixture(scope="module")
def fit(two_arm: pd.DataFrame) -> object:
    return ks.ancova("chg ~ madrs_base + sex + arm", two_arm, visit="visit", at=28, order=ORDER)


def test_coefficients_and_likelihood_of_lm(fit) -> None:
    table = fit.coefficients.frame
    expected = [9.835302322834, -0.559158040693, -0.115326520403, -7.957836854554]
    np.testing.assert_allclose(table["estimate"], expected, rtol=1e-10)
    np.testing.assert_allclose(table["std_error"], [6.056319881393, 0.182334829672, 1.966251096125, 1.961688903829])
    np.testing.assert_allclose(table["p_value"], [0.108219636657, 0.00293177982745, 0.953371198414, 0.000112917841203])
    assert fit.loglik == pytest.approx(-309.387418792, abs=1e-8)
    assert fit.aic == pytest.approx(628.774837583, abs=1e-8)


def test_difference_of_emmeans(fit) -> None:
    row = fit.lsmeans("arm").contrast().frame.iloc[0]
    np.testing.assert_allclose(
        [row["estimate"], row["std_error"], row["df"], row["conf_low"], row["conf_high"]],
        [-7.957837, 1.9616889, 82, -11.860261, -4.055413],
        rtol=1e-7,
    )


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("HC0", [6.947071898946, 0.203807528959, 1.878556583075, 1.887219679404]),
        ("HC1", [7.114495238892, 0.208719258347, 1.923829501218, 1.932701376806]),
        ("HC2", [7.206146473254, 0.211217845964, 1.929853491843, 1.934864664147]),
        ("HC3", [7.476422340303, 0.218945791398, 1.982965688076, 1.983998066242]),
    ],
)
def test_robust_standard_errors(fit, kind: str, expected: list[float]) -> None:
    np.testing.assert_allclose(fit.coefficients_by(vcov=kind)["std_error"], expected, rtol=1e-10)


def test_rank_analysis_of_covariance(two_arm: pd.DataFrame) -> None:
    row = ks.ancova("chg ~ madrs_base + arm", two_arm, visit="visit", at=28, order=ORDER).rank_test("arm").frame.iloc[0]
    assert row["df"] == 84
    assert row["statistic"] == pytest.approx(15.67197, abs=1e-5)
    assert row["p_value"] == pytest.approx(0.00015706, abs=1e-8)


def test_wilcoxon_and_shift_with_ties(fit) -> None:
    row = fit.hodges_lehmann("arm").frame.iloc[0]
    assert row["p_value"] == pytest.approx(0.0002589192517, rel=1e-8)
    # R's asymptotic limits solve for the shift numerically: -7.399956 (-11.500005, -3.700031)
    np.testing.assert_allclose([row["estimate"], row["conf_low"], row["conf_high"]], [-7.4, -11.5, -3.7], atol=1e-12)


def test_exact_shift(two_arm: pd.DataFrame) -> None:
    model = ks.ancova("chg ~ madrs_base + sex", two_arm, visit="visit", at=28, order=ORDER)
    residual, arm = model.residuals().to_numpy(), model.used["arm"].to_numpy()
    found = hodges_lehmann(residual[arm == "ketamine"][:20], residual[arm == "placebo"][:17])
    np.testing.assert_allclose(
        [found.estimate, found.low, found.high, found.p_value],
        [-5.917844251, -11.623061496, 2.983276886, 0.1872649009],
        rtol=1e-9,
    )


@pytest.fixture(scope="module")
def weighted(two_arm: pd.DataFrame) -> pd.DataFrame:
    last = two_arm.query("visit == 28").reset_index(drop=True)
    return last.assign(w=1.0 + (np.arange(len(last)) + 1) % 3)


def test_weighted_predictions_hold_the_offset(weighted: pd.DataFrame) -> None:
    """R 4.2.2 predict.lm with weights and offset(-0.5 * madrs_base); the future row has weight one, as there."""
    fit = ks.ancova("chg ~ sex + arm + offset(-0.5*madrs_base)", weighted, weights="w", order=ORDER)
    new = pd.DataFrame(
        {"madrs_base": [30, 36, None], "sex": ["F", "M", "F"], "arm": ["ketamine", "placebo", "placebo"]}
    )
    mean = fit.predict(new, interval="confidence").frame
    expected = [[-15.4957790323, 1.60511058158, 83, -18.6882794218, -12.3032786428],
                [-10.7813554741, 1.85149163624, 83, -14.4638978720, -7.0988130763]]  # fmt: skip
    np.testing.assert_allclose(mean.iloc[:2], expected, rtol=1e-10)
    assert mean.iloc[2].isna().all()
    future = fit.predict(new, interval="prediction")
    np.testing.assert_allclose(future["conf_low"][:2], [-41.2347937041, -36.5857337083], rtol=1e-10)
    assert fit.predict()["estimate"].mean() == pytest.approx(-13.0399063957, rel=1e-10)  # mean(fitted(lm))
    np.testing.assert_allclose([fit.loglik, fit.bic], [-314.9446951907, 647.7067795663], rtol=1e-11)
    assert (fit.residuals("pearson") ** 2).sum() == pytest.approx(fit.df_residual)
    drawn = np.asarray(fit.plot().collections[0].get_offsets())
    np.testing.assert_allclose(drawn[:, 0] + fit.residuals().to_numpy(), fit.used["chg"])
    assert "by weighted least squares on 86 of" in fit.explain()
    with pytest.raises(FormulaError, match="interval='x'"):
        fit.predict(interval="x")


@pytest.mark.parametrize("arm", ["arm", "C(arm)"])
def test_adjusted_shift_is_of_weighted_residuals_without_the_arm(weighted: pd.DataFrame, arm: str) -> None:
    """R 4.2.2 wilcox.test of resid(lm(chg ~ madrs_base, weights = w)); the arm is left out however it is written."""
    fit = ks.ancova(f"chg ~ madrs_base + {arm}", weighted, weights="w", order=ORDER)
    row = fit.hodges_lehmann("arm", adjusted=True).frame.iloc[0]
    expected = [-7.71047490819, -11.30007513419, -3.82629997175, 0.000221120277]
    np.testing.assert_allclose(row[["estimate", "conf_low", "conf_high", "p_value"]].astype(float), expected, rtol=1e-8)
    turned = fit.hodges_lehmann("arm", ref="ketamine", adjusted=True).frame.iloc[0]
    assert turned["contrast"] == "placebo - ketamine"
    assert turned["conf_low"] == pytest.approx(-row["conf_high"])


def test_rank_tests_name_the_factors_there_are(weighted: pd.DataFrame) -> None:
    fit = ks.ancova("chg ~ madrs_base + arm", weighted, order=ORDER)
    with pytest.raises(FormulaError, match="Did you mean 'arm'"):
        fit.rank_test("arms")
    with pytest.raises(FormulaError, match=r"ref='KAP' is no level of arm.*placebo, ketamine"):
        fit.hodges_lehmann("arm", ref="KAP")
    with pytest.raises(FormulaError, match="Factors: none"):
        ks.ancova("chg ~ madrs_base", weighted).rank_test("arm")
    split = pd.DataFrame({"sex": list("FM") * 4, "arm": ["placebo"] * 4 + ["ketamine"] * 4})
    split["chg"] = (split["arm"] == "ketamine") * np.where(split["sex"] == "F", 1.0, 5.0)  # no overlap in any stratum
    with pytest.raises(DataError, match="nothing varies within the levels of arm"):
        ks.ancova("chg ~ sex + arm", split, order=ORDER).rank_test("arm")


def test_rank_sum_counts_are_complete() -> None:
    counts = rank_sum_counts(4, 3)
    assert counts.tolist() == [1, 1, 2, 3, 4, 4, 5, 4, 4, 3, 2, 1, 1]


def test_last_observation_is_carried_only_when_asked(two_arm: pd.DataFrame) -> None:
    plain = ks.ancova("chg ~ madrs_base + arm", two_arm, visit="visit", at=28, order=ORDER)
    with pytest.warns(KapstatsWarning, match="not valid under missing at random"):
        carried = ks.ancova(
            "chg ~ madrs_base + arm", two_arm, visit="visit", at=28, subject="subject", locf=True, order=ORDER
        )
    assert plain.nobs == two_arm.query("visit == 28")["chg"].notna().sum()
    last = two_arm.dropna(subset=["chg"]).sort_values("visit").groupby("subject").tail(1)
    assert carried.nobs == len(last)
    by_hand = ks.ancova("chg ~ madrs_base + arm", last, order=ORDER)
    np.testing.assert_allclose(carried.coefficients["estimate"], by_hand.coefficients["estimate"], rtol=1e-12)
    assert two_arm["chg"].iloc[carried.residuals().index].to_numpy() == pytest.approx(carried.y)  # positions there
    with pytest.raises(FormulaError, match="need visit="):
        ks.ancova("chg ~ arm", two_arm, locf=True, order=ORDER)
    with pytest.raises(FormulaError, match="needs subject="):
        ks.ancova("chg ~ arm", two_arm, visit="visit", at=28, locf=True, order=ORDER)
    with pytest.raises(DataError, match="no row has 29"):
        ks.ancova("chg ~ arm", two_arm, visit="visit", at=29, order=ORDER)


@pytest.mark.filterwarnings("ignore:Last observation")
def test_the_last_observation_needs_an_order_of_visits(two_arm: pd.DataFrame) -> None:
    """ "Day 7" comes after "Day 28" in the alphabet, not in time; labels without a number say nothing about time."""
    days = sorted(two_arm["visit"].unique())
    letters = {d: f"visit {chr(122 - i)}" for i, d in enumerate(days)}
    options = {"subject": "subject", "locf": True}
    plain = ks.ancova("chg ~ arm", two_arm, visit="visit", order=ORDER, at=28, **options)
    for label, stated in ((letters, {"visit": list(letters.values())}), ({d: f"Day {d}" for d in days}, {})):
        named = two_arm.assign(visit=two_arm["visit"].map(label), chg=np.exp(two_arm["chg"] / 10))
        if stated:
            with pytest.raises(DataError, match=r"the order of visit .* is not stated"):
                ks.ancova("log(chg) ~ arm", named, visit="visit", order=ORDER, at=label[28], **options)
        found = ks.ancova("log(chg) ~ arm", named, visit="visit", order={**ORDER, **stated}, at=label[28], **options)
        np.testing.assert_allclose(10 * found.coefficients["estimate"], plain.coefficients["estimate"], rtol=1e-10)


def test_what_is_no_analysis_of_covariance_says_where_it_belongs(two_arm: pd.DataFrame) -> None:
    for formula, said in [
        ("chg ~ arm + (1 | subject)", "use ks.lmm"),
        ("chg ~ arm + us(visit | subject)", "ks.mmrm"),
        ("chg ~ arm + strata(sex)", "strata.. is not part"),
        ("Surv(visit, chg) ~ arm", "needs a numeric response"),
    ]:
        with pytest.raises(FormulaError, match=said):
            ks.ancova(formula, two_arm, order=ORDER)
    with pytest.raises(DataError, match="no row is complete in chg, arm"):
        ks.ancova("chg ~ arm", two_arm.assign(chg=np.nan), order=ORDER)
    with pytest.raises(DataError, match="2 complete rows for 2 coefficients"):
        ks.ancova("chg ~ arm", two_arm.groupby("arm").head(1), order=ORDER)


def test_small_centres_are_pooled() -> None:
    data = pd.read_csv(FOLDER / "kap_trial.csv").query("visit == 28")
    arms = {"arm": ["placebo", "IV", "IM", "intranasal", "sublingual", "oral"]}
    with pytest.warns(KapstatsWarning, match="alphabetical"):
        found = ks.ancova("chg ~ madrs_base + site + arm", data, pool="site", pool_by="arm", minimum=3, order=arms)
    counts = pd.crosstab(found.used["site"], found.used["arm"])
    assert counts.to_numpy().min() >= 3
    complete = data.dropna(subset=["chg"])
    small = pd.crosstab(complete["site"], complete["arm"]).min(axis=1)
    assert set(found.pooled) == set(small.index[small < 3])


FAMILIES = {"binomial": "Binomial", "poisson": "Poisson", "gaussian": "Gaussian"}
WORKING = {"independence": {}, "exchangeable": {}, "autoregressive": {"grid": True}, "unstructured": {}}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("structure", WORKING)
def test_gee_is_statsmodels(family: str, structure: str) -> None:
    """Coefficients, three covariances and the working correlation, with patients who leave."""
    sm = pytest.importorskip("statsmodels.api")
    rng = np.random.default_rng(11)
    whole = pd.DataFrame({"id": np.repeat(np.arange(60), 4), "t": np.tile(np.arange(4), 60)})
    data = whole[whole["t"] < rng.integers(1, 5, 60)[whole["id"]]].reset_index(drop=True)
    data["arm"], data["x"] = data["id"] % 2, rng.normal(size=len(data))
    eta = -0.2 + 0.5 * data["arm"] + 0.3 * data["x"] + 0.8 * rng.normal(size=60)[data["id"]]
    p = 1 / (1 + np.exp(-eta))
    noise = rng.normal(size=len(data))
    y = {"binomial": rng.random(len(data)) < p, "poisson": rng.poisson(np.exp(eta)), "gaussian": eta + noise}
    data["y"] = np.asarray(y[family], dtype=float)
    name = "ar1" if structure == "autoregressive" else structure
    found = gee("y ~ arm + x + cluster(id)", data, family=family, structure=name, time="t")
    X = np.column_stack([np.ones(len(data)), data["arm"], data["x"]])
    model = sm.GEE(
        data["y"].to_numpy(), X, groups=data["id"].to_numpy(), time=data["t"].to_numpy()[:, None],
        family=getattr(sm.families, FAMILIES[family])(),
        cov_struct=getattr(sm.cov_struct, structure.capitalize())(**WORKING[structure]),
    )  # fmt: skip
    peer = model.fit(ctol=1e-10, maxiter=500)
    np.testing.assert_allclose(found.beta, peer.params, rtol=1e-7)
    np.testing.assert_allclose(found.covariances["robust"], peer.cov_robust, rtol=1e-6, atol=1e-10)
    np.testing.assert_allclose(found.covariances["naive"], peer.cov_naive, rtol=1e-6, atol=1e-10)
    if structure != "independence":
        np.testing.assert_allclose(found.working.squeeze(), model.cov_struct.dep_params, rtol=1e-6)
    reduced = model.fit(ctol=1e-10, maxiter=500, cov_type="bias_reduced").cov_params()
    np.testing.assert_allclose(found.covariances["bias-reduced"], reduced, rtol=1e-6, atol=1e-10)


def test_crossover_is_the_paired_analysis_by_period() -> None:
    rng = np.random.default_rng(3)
    n = 12
    first_active = np.arange(n) % 2 == 0
    subject = rng.normal(0, 3, n)
    active_in = np.column_stack([first_active, ~first_active])
    y = 20 + subject[:, None] + np.array([0, 1.5]) - 4 * active_in + rng.normal(size=(n, 2))
    data = pd.DataFrame(
        {
            "ID": np.repeat(np.arange(n), 2),
            "PERIOD": np.tile([1, 2], n),
            "TRT": np.where(active_in.ravel(), "K", "P"),
            "Y": y.ravel(),
        }
    )
    found = crossover(data, response="Y", subject="ID", period="PERIOD", treatment="TRT", order={"TRT": ["P", "K"]})
    half = (y[:, 0] - y[:, 1]) / 2
    a, b = half[first_active], half[~first_active]
    row = found.treatment().frame.iloc[0]
    pooled = ((a - a.mean()) ** 2).sum() + ((b - b.mean()) ** 2).sum()
    se = np.sqrt(pooled / (n - 2) * (2 / (n / 2)))
    np.testing.assert_allclose(
        [row["estimate"], row["std_error"], row["df"]], [a.mean() - b.mean(), se, n - 2], rtol=1e-6
    )
    total = y.sum(axis=1)
    s, t = total[first_active], total[~first_active]
    f = (s.mean() - t.mean()) ** 2 / (
        (((s - s.mean()) ** 2).sum() + ((t - t.mean()) ** 2).sum()) / (n - 2) * (2 / (n / 2))
    )
    assert found.carry_over()["statistic"][0] == pytest.approx(f, rel=1e-6)
    alone = found.first_period().frame.iloc[0]
    assert alone["estimate"] == pytest.approx(y[first_active, 0].mean() - y[~first_active, 0].mean())
    with pytest.raises(DataError, match="two periods"):
        crossover(data[data["PERIOD"] == 1], response="Y", subject="ID", period="PERIOD", treatment="TRT")
    gone = data.drop(index=[1, 2 * n - 1])  # one dropout of each sequence keeps the sequence that was begun
    again = crossover(gone, response="Y", subject="ID", period="PERIOD", treatment="TRT", order={"TRT": ["P", "K"]})
    assert again.tests().filter(term="SEQUENCE_")["num_df"].tolist() == [1]
