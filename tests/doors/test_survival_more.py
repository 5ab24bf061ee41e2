"""One group, nobody censored, ratios without a solution, refused arguments: through the exported verbs."""

import warnings

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from kapstats.errors import DataError, FormulaError, KapstatsWarning

DONE = pd.DataFrame(
    {
        "t": [1.0, 2, 3, 4, 5, 6, 7, 8],
        "status": ["relapse", "death", "relapse", "relapse", "death", "relapse", "death", "relapse"],
        "arm": ["a", "b"] * 4,
        "x": [3.0, 1, 2, 4, 1, 3, 2, 5],
        "start": 0.0,
        "USUBJID": list("abcdefgh"),
        "note": None,
    }
)
NUMBERED = DONE.assign(status=DONE["status"].map({"relapse": 1, "death": 2}))
VERBS = {
    "cumulative_incidence": lambda d, c, **o: ks.cumulative_incidence("Surv(t, status) ~ 1", d, cause=c, **o).estimates,
    "gray_test": lambda d, c, **o: ks.gray_test("Surv(t, status) ~ arm", d, cause=c, order={"arm": ["a", "b"]}, **o),
    "cause_specific": lambda d, c, **o: ks.cause_specific("Surv(t, status) ~ x", d, **o).coefficients,
    "fine_gray": lambda d, c, **o: ks.fine_gray("Surv(t, status) ~ x", d, cause=c, **o).coefficients,
    "state_occupation": lambda d, c, **o: ks.state_occupation(
        "Surv(start, t, status) ~ 1", d, initial="well", **o).at([2, 5]),
}  # fmt: skip


def statistics(found: ks.Estimates) -> np.ndarray:
    return found.frame[[c for c in ("estimate", "std_error", "statistic") if c in found.frame]].to_numpy(float)


@pytest.mark.parametrize("verb", VERBS)
def test_text_statuses_with_nobody_censored(verb):
    """The same numbers as the statuses 1 and 2; the label says that nobody is censored, and a warning repeats it."""
    order = {"order": {"status": ["relapse", "death"]}} if verb == "state_occupation" else {}
    with pytest.warns(KapstatsWarning, match="nobody is censored"):
        found = VERBS[verb](DONE, "relapse", censored="none")
    whole = VERBS[verb](NUMBERED, 1)
    np.testing.assert_allclose(np.sort(statistics(found), axis=0), np.sort(statistics(whole), axis=0), rtol=1e-12)
    assert not order or len(found) == len(whole)


@pytest.mark.parametrize("verb", VERBS)
def test_a_declared_category_says_it_without_a_warning(verb):
    data = DONE.assign(status=pd.Categorical(DONE["status"], ["relapse", "death", "censored"]))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*nobody is censored.*")
        assert np.isfinite(statistics(VERBS[verb](data, "relapse", censored="censored"))).any()


@pytest.mark.parametrize("verb", VERBS)
def test_leaving_the_label_out_names_the_remedy(verb):
    with pytest.raises(FormulaError, match='nobody is censored, a label that does not occur, such as censored="none"'):
        VERBS[verb](DONE, "relapse")


@pytest.mark.parametrize("asked", ["cens", "Censored", "CENSORED ", "censord", "censored."])
def test_a_misspelt_label_is_not_taken_for_nobody(asked):
    data = DONE.assign(status=["censored", *DONE["status"][1:]])
    with pytest.raises(DataError, match="Did you mean 'censored'"):
        ks.cumulative_incidence("Surv(t, status) ~ 1", data, cause="relapse", censored=asked)


def test_numbers_keep_their_rule():
    assert len(ks.cumulative_incidence("Surv(t, status) ~ 1", NUMBERED, censored=0).frame) == 8
    with pytest.raises(DataError, match="leave censored= out"):
        ks.cumulative_incidence("Surv(t, status) ~ 1", NUMBERED, censored=9)
    assert ks.project_events("Surv(t, s) ~ 1", NUMBERED.assign(s=1), [5.0])["estimate"].tolist() == [8.0]


# ------------------------------------------------------------------------------------------------ restricted mean


def test_rmst_of_one_group_is_the_area_under_its_curve():
    """S is 1 to 1, 3/4 to 2, 1/2 to 3: the area to 3 is 2.25."""
    data = pd.DataFrame({"t": [1, 2, 3, 4.0], "e": [1, 1, 1, 0], "site": ["x"] * 4})
    found = ks.rmst("Surv(t, e) ~ 1", data, tau=3)
    assert found["quantity"].tolist() == ["rmst"]
    assert found["estimate"].tolist() == [2.25]
    # sum over events of A(t)^2 d / (n (n - d)): A(1) = 1.25, A(2) = 0.5
    assert found["std_error"][0] == pytest.approx(np.sqrt(1.25**2 / 12 + 0.5**2 / 6))
    assert len(ks.rmst("Surv(t, e) ~ 1", data, tau=3, covariates="t")) == 1
    with pytest.raises(ks.errors.EstimabilityError, match="the data is followed to 4 only"):
        ks.rmst("Surv(t, e) ~ 1", data, tau=9)


@pytest.mark.parametrize("tau", [float("nan"), float("inf"), 0, -1, "soon", True, [5]])
@pytest.mark.parametrize("verb", ["rmst", "rmtl", "mean_time"])
def test_a_horizon_is_a_positive_time(verb, tau):
    ask = {
        "rmst": lambda: ks.rmst("Surv(t, e) ~ 1", NUMBERED.assign(e=1), tau=tau),
        "rmtl": lambda: ks.cumulative_incidence("Surv(t, status) ~ 1", NUMBERED).rmtl(tau),
        "mean_time": lambda: ks.state_occupation("Surv(start, t, status) ~ 1", NUMBERED).mean_time(tau),
    }[verb]
    with pytest.raises(FormulaError, match="the horizon is a positive time"):
        ask()


def test_a_ratio_without_a_solution_leaves_the_other_rows():
    """Every row with x = 1 is followed to tau, so nothing is lost there and the log of the time lost has no maximum."""
    rng, n = np.random.default_rng(1), 60
    late = np.arange(n) % 2 == 0
    data = pd.DataFrame({"t": np.where(late, 10.0, rng.uniform(1, 9, n)), "e": 1, "x": late * 1.0,
                         "arm": np.repeat(["a", "b"], n // 2)})  # fmt: skip
    with pytest.warns(KapstatsWarning, match="rmtl ratio: .* not estimable"):
        found = ks.rmst("Surv(t, e) ~ arm", data, tau=9.5, covariates="x", order={"arm": ["a", "b"]})
    known = found.frame.set_index("quantity")["estimate"]
    assert known[["rmst", "difference", "ratio"]].notna().all()
    assert np.isnan(known["rmtl ratio"])
    means = data.assign(y=np.minimum(data["t"], 9.5)).groupby(["arm", "x"])["y"].mean().unstack()
    assert known["difference"] == pytest.approx((means.loc["b"] - means.loc["a"]).mean())  # x is balanced, no censoring
    assert any("rmtl ratio" in w for w in found.warnings)


# --------------------------------------------------------------------------------------------------------- the rest


def test_a_log_rank_test_checks_its_level_and_has_no_limits():
    found = ks.logrank("Surv(t, e) ~ arm", DONE.assign(e=1), order={"arm": ["a", "b"]}, level=0.9)
    assert not {"conf_low", "conf_high"} & set(found.columns)
    assert ks.logrank("Surv(t, e) ~ arm", DONE.assign(e=1), order={"arm": ["a", "b"]}).meta["level"] is None


def test_an_event_and_a_censoring_on_the_same_day_leave_the_pair_open():
    """Two pairs: 5 (event) against 5 (censored) is open, 5 against 9 is lost; the rule is stated with the result."""
    data = pd.DataFrame({"t": [5.0, 7, 5, 9], "e": [1, 1, 0, 1], "arm": ["b", "b", "a", "a"]})
    data = pd.concat([data, pd.DataFrame({"t": [10.0], "e": [0], "arm": ["b"]})])
    found = ks.win_ratio("Surv(t, e) ~ arm", data, order={"arm": ["a", "b"]})
    pairs = found.meta["pairs"]
    # against 5+: all three open; against 9: 5 and 7 lose, 10+ wins
    assert (pairs["wins"].tolist(), pairs["losses"].tolist()) == ([1], [2])
    assert any("same day" in c for c in found.meta["conventions"])


def test_the_combination_test_is_the_log_rank_test_of_the_data_cut_at_the_interim():
    """Entries and times in months with one decimal; the interim is built in whole numbers by hand."""
    for seed in range(6):
        rng = np.random.default_rng(seed)
        d = pd.DataFrame({"entry": np.round(rng.uniform(0, 12, 200), 1), "arm": rng.choice(["a", "b"], 200)})
        t = rng.exponential(np.where(d["arm"] == "b", 20, 11))
        d["t"], d["e"] = np.round(np.minimum(t, 24 - d["entry"]), 1), (t <= 24 - d["entry"]).astype(int)
        d, order = d[d["t"] > 0], {"arm": ["a", "b"]}
        found = ks.weighted_logrank_combination("Surv(t, e) ~ arm", d, entry="entry", interim_time=14.0, order=order)
        cut = d.assign(t=(d["t"] * 10).round(), entry=(d["entry"] * 10).round())
        cut = cut[cut["entry"] < 140]
        left = 140 - cut["entry"]
        cut = cut.assign(e=np.where(cut["t"] <= left, cut["e"], 0), t=np.minimum(cut["t"], left))
        test = ks.logrank("Surv(t, e) ~ arm", cut, order=order)
        assert found["statistic"][0] ** 2 == pytest.approx(test["statistic"][0], rel=1e-12)
        assert found["events"][0] == cut["e"].sum()
