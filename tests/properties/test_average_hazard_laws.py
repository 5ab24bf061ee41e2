"""Laws of the average hazard ratio: Cox when weights are one, the written-out score, censoring does not move it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from kapstats.errors import FormulaError
from kapstats.relapse.average_hazard import WEIGHTS, event_weights
from tests.reference.core_survival_cases import trial as simulated_trial

MODEL = "Surv(t, e) ~ arm + x"


def trial(seed: int, n: int = 150) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    arm, x = np.arange(n) % 2, rng.normal(size=n)
    t, c = rng.weibull(np.where(arm, 1.5, 0.8)) * 20 * np.exp(-0.2 * x), rng.uniform(2, 40, n)
    frame = pd.DataFrame({"t": np.ceil(np.minimum(t, c)), "e": (t <= c).astype(int), "arm": arm, "x": x})
    return frame.assign(w=rng.integers(1, 4, n), id=np.arange(n), site=rng.integers(0, 2, n))


@pytest.mark.parametrize("ties", ["efron", "breslow"])
@pytest.mark.parametrize("strata", ["", " + strata(site)"])
def test_weights_of_one_give_cox_with_its_robust_errors(ties: str, strata: str) -> None:
    fit = ks.cox(MODEL + strata, trial(1), ties=ties, robust=True)
    one, cox = fit.average_hazard_ratio("none").frame, fit.hazard_ratios().frame
    for column in ("estimate", "std_error", "conf_low", "p_value"):
        np.testing.assert_allclose(one[column], cox[column], rtol=1e-8)


def test_the_written_out_weighted_score_is_zero() -> None:
    data = trial(2)
    found = np.log(ks.cox(MODEL, data, ties="breslow").average_hazard_ratio()["estimate"].to_numpy(float))
    t, e, X = data["t"].to_numpy(), data["e"].to_numpy() == 1, data[["arm", "x"]].to_numpy(float)
    score = {"weighted": np.zeros(2), "plain": np.zeros(2)}
    S = G = 1.0
    for now in np.unique(t):
        risk, dead = t >= now, (t == now) & e
        r = np.exp(X[risk] @ found)
        gap = (X[dead] - r @ X[risk] / r.sum()).sum(axis=0)
        score["weighted"] += S / G * gap
        score["plain"] += gap
        censored = (t == now) & ~e
        G *= 1 - censored.sum() / (risk.sum() - dead.sum()) if risk.sum() > dead.sum() else 1
        S *= 1 - dead.sum() / risk.sum()
    assert np.abs(score["weighted"]).max() < 1e-8
    assert np.abs(score["plain"]).max() > 0.1


@pytest.mark.parametrize(
    ("ties", "expected"),
    [
        ("breslow", [-0.2101410726361582, -0.7767579718660412, 0.0466305891661245,
                     0.1866288282493363, 0.2028115648609793, 0.0176477199800706]),
        ("efron", [-0.2222018385489372, -0.7968608455416839, 0.0479432905857583,
                   0.1910832425471328, 0.2071659759070783, 0.0180079824355847]),
    ],
)  # fmt: skip
def test_the_average_hazard_ratio_is_a_cox_model_of_weighted_risk_sets(ties: str, expected: list[float]) -> None:
    """R survival 3.5-3: the rows split at every event time, each risk set weighted by S(t-)/G(t-), cluster(id)."""
    fit = ks.cox("Surv(time, ev) ~ arm + madrs0", simulated_trial(), ties=ties)
    found = fit.average_hazard_ratio().frame
    ratio = found["estimate"].to_numpy(float)
    np.testing.assert_allclose(np.log(ratio), expected[:3], rtol=1e-10)
    np.testing.assert_allclose(found["std_error"] / ratio, expected[3:], rtol=1e-10)


def test_the_variance_is_the_sum_of_squared_changes_by_case_weight() -> None:
    data = trial(3, 60)
    fit = ks.cox(MODEL, data)
    W = event_weights(fit.surv, fit.data, "average-hazard")

    def root(w: np.ndarray) -> np.ndarray:
        """The root with event weights held and case weights `w`."""
        from kapstats.kernels import average_hazard as ah
        from kapstats.kernels import cox_newton as cn

        plain = cn.cox_data(fit.data.sets, data[["arm", "x"]].to_numpy(float), w, efron=False)
        held = ah.weighted(plain, W)
        return cn.maximise(lambda b: ah.evaluate(held, W, b), np.zeros(2)).b

    step = 1e-4
    change = [(root(1 + step * unit) - root(1 - step * unit)) / (2 * step) for unit in np.eye(len(data))]
    fit = ks.cox(MODEL, data, ties="breslow")
    V = np.sum([np.outer(d, d) for d in change], axis=0)
    np.testing.assert_allclose(
        fit.average_hazard_ratio().frame["std_error"] / fit.average_hazard_ratio().frame["estimate"],
        np.sqrt(np.diag(V)), rtol=1e-5,
    )  # fmt: skip


@pytest.mark.parametrize("weights", list(WEIGHTS))
def test_weights_are_replication_and_the_unit_of_time_does_not_matter(weights: str) -> None:
    data = trial(4)
    rows = data.loc[data.index.repeat(data["w"])]
    once = ks.cox(MODEL, data, weights="w", ties="breslow", robust=True).average_hazard_ratio(weights).frame
    written = ks.cox(MODEL + " + cluster(id)", rows, ties="breslow").average_hazard_ratio(weights).frame
    np.testing.assert_allclose(once[["estimate", "std_error"]], written[["estimate", "std_error"]], rtol=1e-8)
    days = ks.cox(MODEL, rows.assign(t=rows["t"] * 7), ties="breslow").average_hazard_ratio(weights).frame
    np.testing.assert_allclose(days["estimate"], written["estimate"], rtol=1e-10)


def crossing(n: int, shape: float, seed: int = 5) -> tuple[np.ndarray, pd.DataFrame, pd.DataFrame]:
    """Arms with Weibull shapes 1 and `shape`; all times, and times under heavy random censoring."""
    rng = np.random.default_rng(seed)
    arm = np.arange(n) % 2
    t = rng.weibull(np.where(arm, shape, 1.0)) * np.where(arm, 8.0, 10.0)
    c = rng.exponential(14, n)
    full = pd.DataFrame({"t": t, "e": 1, "arm": arm})
    return t, full, pd.DataFrame({"t": np.minimum(t, c), "e": (t <= c).astype(int), "arm": arm})


def test_censoring_moves_cox_but_not_the_average() -> None:
    _, full, censored = crossing(20_000, 2.0)
    fits = [ks.cox("Surv(t, e) ~ arm", frame) for frame in (full, censored)]
    average = [np.log(fit.average_hazard_ratio()["estimate"][0]) for fit in fits]
    plain = [fit.coefficients["estimate"][0] for fit in fits]
    assert abs(average[0] - average[1]) < 0.05
    assert abs(plain[0] - plain[1]) > 0.1


def test_proportional_hazards_have_one_ratio() -> None:
    _, _, censored = crossing(20_000, 1.0)
    fit = ks.cox("Surv(t, e) ~ arm", censored)
    for weights in WEIGHTS:
        row = fit.average_hazard_ratio(weights).frame.iloc[0]
        assert abs(np.log(row["estimate"] / (10 / 8))) < 3.5 * row["std_error"] / row["estimate"]
    _, _, crossed = crossing(20_000, 2.0)
    row = ks.cox("Surv(t, e) ~ arm", crossed).average_hazard_ratio().frame.iloc[0]
    assert abs(np.log(row["estimate"] / (10 / 8))) > 3.5 * row["std_error"] / row["estimate"]


def test_the_average_is_near_the_odds_of_relapsing_first() -> None:
    t, full, _ = crossing(4_000, 2.0)
    first = (t[1::2, None] < t[None, 0::2]).mean()
    average = ks.cox("Surv(t, e) ~ arm", full).average_hazard_ratio()["estimate"][0]
    assert abs(average / (1 + average) - first) < 0.02


def test_what_it_cannot_do_it_says() -> None:
    data = trial(6).assign(start=0.0)
    split = pd.concat([data.assign(t=1.0, e=0), data[data["t"] > 1].assign(start=1.0)])
    with pytest.raises(FormulaError, match="one row per subject"):
        ks.cox("Surv(start, t, e) ~ arm", split).average_hazard_ratio()
    with pytest.raises(FormulaError, match="weights"):
        ks.cox(MODEL, data).average_hazard_ratio("survival")
    cut = ks.cox(MODEL, data).average_hazard_ratio("average-regression", truncate=0.8)
    low, high = cut.meta["weight_range"]
    assert high < ks.cox(MODEL, data).average_hazard_ratio("average-regression").meta["weight_range"][1]
    assert low > 0
