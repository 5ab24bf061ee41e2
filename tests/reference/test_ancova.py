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
    with pytest.raises(FormulaError, match="need visit="):
        ks.ancova("chg ~ arm", two_arm, locf=True, order=ORDER)


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
