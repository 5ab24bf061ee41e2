"""Cox models of small, separated and unidentified data, from the table to the printed number."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq, minimize_scalar

import kapstats as ks

pytestmark = pytest.mark.filterwarnings("ignore::kapstats.errors.KapstatsWarning")
THREE = pd.DataFrame({"t": [3, 3, 14], "e": 1, "x": [-0.564, -1.162, -0.292], "b": [1, 0, 1]})


@pytest.mark.parametrize(
    ("ties", "top", "null"),
    [  # the two tied events run away from the third row, level with each other or in any order
        ("efron", np.log(1 / 2), np.log(1 / 6)),
        ("breslow", np.log(1 / 4), np.log(1 / 9)),
        ("exact", 0.0, np.log(1 / 3)),
        ("kalbfleisch-prentice", 0.0, np.log(1 / 3)),
    ],
)
def test_two_columns_that_run_off_together_leave_the_supremum(ties, top, null):
    fit = ks.cox("Surv(t, e) ~ x + b", THREE, ties=ties)
    assert (fit.loglik, fit.loglik_null) == pytest.approx((top, null), abs=1e-9)
    lr = fit.tests().to_frame()["statistic"][0]
    assert lr == pytest.approx(2 * (top - null), abs=1e-9)
    assert fit.aic == pytest.approx(4 - 2 * top, abs=1e-9)
    assert fit.anova().to_frame()["loglik"].iloc[-1] == pytest.approx(top, abs=1e-9)
    assert not np.isfinite(fit.coefficients.to_frame()["estimate"]).any()
    assert not fit.converged


def test_a_column_whose_side_is_open_is_nan_and_says_so():
    data = pd.DataFrame({"t": [1, 2, 3, 4.0], "e": 1, "x": [3.2, 2.2, 1.1, 0], "b": [0, 1, 0, 1], "z": [1, 0, 0, 1]})
    with pytest.warns(ks.errors.KapstatsWarning, match="b: not estimable"):
        fit = ks.cox("Surv(t, e) ~ x + b", data, conf="profile")
    table = fit.coefficients.to_frame()
    assert table["estimate"][0] == np.inf
    assert np.isnan(table["estimate"][1])
    assert (table["conf_low"][1], table["conf_high"][1]) == (-np.inf, np.inf)
    assert fit.loglik == pytest.approx(0.0, abs=1e-9)
    assert fit.concordance().to_frame()["estimate"][0] == 1.0


def trial(seed=3, n=60):
    rng = np.random.default_rng(seed)
    data = pd.DataFrame(
        {
            "t": rng.integers(1, 25, n),
            "e": (rng.random(n) < 0.7) * 1,
            "arm": pd.Series(["A", "B", "C", "D"])[rng.integers(0, 4, n)].to_numpy(),
            "x": rng.normal(size=n).round(2),
            "s": rng.integers(0, 3, n),
            "site": rng.integers(0, 12, n),
            "w": rng.choice([0.5, 1.0, 2.5], n),
        }
    )
    return data.assign(e=np.where(np.isin(data.arm, ["C"]), 0, data.e))


@pytest.mark.parametrize("ties", ["efron", "breslow", "exact", "kalbfleisch-prentice"])
@pytest.mark.parametrize("more", ["", " + strata(s)", " + cluster(site)"])
def test_a_level_without_events_loses_its_own_row_only(ties, more):
    """Its rows never stand in a comparison at the limit: the rest is the fit without them."""
    if "cluster" in more and ties in ("exact", "kalbfleisch-prentice"):
        return
    data = trial()
    full = ks.cox(f"Surv(t, e) ~ arm + x{more}", data, ties=ties)
    rest = ks.cox(f"Surv(t, e) ~ arm + x{more}", data[data.arm != "C"], ties=ties)
    found = full.coefficients.to_frame().set_index("term")
    expected = rest.coefficients.to_frame().set_index("term")
    assert found["estimate"]["armC"] == -np.inf
    for column in ("estimate", "std_error", "conf_low", "p_value"):
        assert found.loc[expected.index, column].to_numpy() == pytest.approx(expected[column].to_numpy(), rel=1e-7)
    assert full.loglik == pytest.approx(rest.loglik, abs=1e-8)
    assert full.n_parameters == rest.n_parameters + 1


def test_profile_limits_at_the_supremum_are_those_of_the_profile_by_hand():
    """Two event-free groups in two columns; the profile of x by one-dimensional maximisation far out."""
    data = pd.DataFrame(
        {
            "t": np.arange(1, 13.0),
            "e": [1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0],
            "g": [0] * 6 + [1, 1, 1, 0, 0, 0],
            "h": [0] * 6 + [0, 0, 0, 1, 1, 1],
            "x": [0.3, -0.2, 0.5, 0.1, -0.4, 0.2, 0.7, -0.6, 0.1, 0.0, 0.3, 0.4],
        }
    )
    fit = ks.cox("Surv(t, e) ~ g + h + x", data, conf="profile")
    eta = data[["g", "h", "x"]].to_numpy()

    def loglik(b):
        r = np.exp(eta @ b)
        return sum(np.log(r[i] / r[i:].sum()) for i in range(6))

    top = -minimize_scalar(lambda x: -loglik([-60, -60, x]), bounds=(-20, 20), method="bounded").fun
    cut = top - 3.841458820694124 / 2

    def profile_x(x):
        return loglik([-60, -60, x]) - cut

    def profile_g(g):
        return -minimize_scalar(lambda x: -loglik([g, -60, x]), bounds=(-50, 50), method="bounded").fun - cut

    table = fit.coefficients.to_frame().set_index("term")
    assert fit.loglik == pytest.approx(top, abs=1e-8)
    assert table.loc["x", ["conf_low", "conf_high"]].tolist() == pytest.approx(
        [brentq(profile_x, -60, fit.b[2]), brentq(profile_x, fit.b[2], 60)], abs=1e-5
    )
    assert table.loc["g", ["estimate", "conf_low"]].tolist() == [-np.inf, -np.inf]
    assert table.loc["g", "conf_high"] == pytest.approx(brentq(profile_g, -20, 5), abs=1e-5)


def epochs():
    """survival's tests/singtest.R: every epoch in its own stretch of time."""
    t, x = np.array([4, 3, 1, 1, 2, 2, 3]), np.array([0, 2, 1, 1, 1, 0, 0.0])
    epoch = np.repeat(range(4), 7)
    status = np.tile([1, np.nan, 1, 0, 1, 1, 0], 4)
    return pd.DataFrame(
        {"start": 10 * epoch, "stop": 10 * epoch + np.tile(t, 4), "status": status,
         "x": np.r_[x + np.arange(1, 8), np.tile(x, 3)], "epoch": [f"E{k}" for k in epoch]}
    )  # fmt: skip


@pytest.mark.parametrize("ties", ["efron", "breslow", "exact", "kalbfleisch-prentice"])
def test_columns_constant_in_every_risk_set_have_no_coefficient(ties):
    """R 3.5-3: x 0.42246162 (0.4030884), NA for the epochs; Breslow 0.38728311 (0.39729772), as x + strata(epoch)."""
    with pytest.warns(ks.errors.KapstatsWarning, match="No coefficient for epochE1, epochE2, epochE3: constant"):
        fit = ks.cox("Surv(start, stop, status) ~ x + epoch", epochs(), ties=ties)
    alone = ks.cox("Surv(start, stop, status) ~ x + strata(epoch)", epochs(), ties=ties).coefficients.to_frame()
    table = fit.coefficients.to_frame()
    assert np.isnan(table["estimate"][1:]).all()
    assert table.loc[0, ["estimate", "std_error"]].tolist() == pytest.approx(
        alone.loc[0, ["estimate", "std_error"]].tolist(), rel=1e-9
    )
    known = {"efron": (0.42246162, 0.4030884), "breslow": (0.3872831101, 0.39729772)}
    if ties in known:
        assert table.loc[0, ["estimate", "std_error"]].tolist() == pytest.approx(known[ties], abs=1e-7)


def test_interactions_with_epochs_as_r():
    """R 3.5-3: x 0.1041579252, three interactions 1.5726995604 (1.30844287)."""
    fit = ks.cox("Surv(start, stop, status) ~ x * epoch", epochs())
    found = fit.coefficients.to_frame()
    np.testing.assert_allclose(
        found["estimate"], [0.1041579252, np.nan, np.nan, np.nan, *[1.5726995604] * 3], rtol=1e-8
    )
    np.testing.assert_allclose(found["std_error"], [0.28234941, *[np.nan] * 3, *[1.30844287] * 3], rtol=1e-7)
    assert (fit.loglik, fit.loglik_null) == pytest.approx((-14.27879156, -17.10666448), abs=1e-8)


@pytest.mark.parametrize("options", [{}, {"weights": "w"}, {"penalty": "firth"}, {"ties": "breslow"}])
def test_a_column_constant_in_every_stratum_is_named(options):
    data = trial().assign(e=1)
    data["site_size"] = 100.0 + data["s"] * 3.7
    for clustered in ("", " + cluster(site)"):
        fit = ks.cox(f"Surv(t, e) ~ site_size + x + strata(s){clustered}", data, **options)
        table = fit.coefficients.to_frame()
        assert np.isnan(table["estimate"][0])
        assert np.isfinite(table["std_error"][1])
        assert any("site_size" in text for text in fit.warnings)


@pytest.mark.parametrize("model", ["andersen-gill", "lwyy", "pwp-total", "pwp-gap", "wlw"])
def test_recurrent_models_name_a_column_constant_in_every_risk_set(model):
    """Every row at an event of this table has g = 1 beside it only."""
    d = pd.DataFrame(
        {
            "id": [0, 1, 1, 2, 3, 4, 5, 5, 5, 5],
            "a": [0, 0, 7, 0, 0, 0, 0, 8, 15, 16],
            "b": [1, 7, 14, 3, 5, 8, 8, 15, 16, 23],
            "e": [0, 1, 0, 0, 1, 1, 1, 1, 1, 1],
            "g": [0, 1, 1, 1, 1, 1, 1, 1, 1, 1],
            "x": [1.252, 1.974, 1.974, -0.659, 0.468, 1.547, -0.75, -0.75, -0.75, -0.75],
        }
    )
    fit = ks.recurrent("Surv(a, b, e) ~ g + x", d, id="id", model=model)
    estimate = fit.coefficients.to_frame()["estimate"]
    assert np.isnan(estimate[0])
    assert np.isfinite(estimate[1]) or np.isinf(estimate[1])
    assert fit.loglik_null - 1e-9 <= fit.loglik <= 0


def test_strata_of_very_different_level_do_not_disturb_each_other():
    """x is measured from 0 in one stratum and from 2000 in the other: the partial likelihood does not see the shift."""
    data = trial().assign(e=1)
    shifted = data.assign(x=data.x + np.where(data.s == 0, 2000.0, 0.0))
    plain, moved = (ks.cox("Surv(t, e) ~ x + strata(s)", d) for d in (data, shifted))
    assert moved.loglik == pytest.approx(plain.loglik, rel=1e-9)
    assert moved.b == pytest.approx(plain.b, rel=1e-6)


def stays():
    """Two rows of a subject whose treatment changes on day 50, beside subjects of one row (as in R's heart data)."""
    return pd.DataFrame(
        {
            "id": [1, 1, 2, 3, 4, 5, 5, 6],
            "a": [0, 50, 0, 0, 0, 0, 30, 0],
            "b": [50, 80, 60, 90, 40, 30, 70, 20],
            "e": [0, 1, 1, 0, 1, 0, 1, 1],
            "tr": [0, 1, 0, 0, 0, 0, 1, 0],
        }
    )


@pytest.mark.parametrize("more", ["", " + cluster(id)"])
def test_adjusted_survival_refuses_rows_that_are_pieces_of_subjects(more):
    fit = ks.cox(f"Surv(a, b, e) ~ tr{more}", stays())
    with pytest.raises(ks.errors.FormulaError, match="pieces of subjects"):
        fit.adjusted_survival("tr")


def test_adjusted_survival_takes_late_entry_when_every_subject_has_one_row():
    data = trial().assign(id=range(60), a=lambda d: np.where(d.id % 3 == 0, d.t - 0.5, 0.0), tr=lambda d: d.id % 2)
    found = ks.cox("Surv(a, t, e) ~ tr + x + cluster(id)", data).adjusted_survival("tr", [5]).to_frame()
    assert found["estimate"].between(0, 1).all()


def test_every_fit_knows_its_likelihood_and_its_subjects():
    data = stays()
    assert ks.cox("Surv(a, b, e) ~ tr + cluster(id)", data).n_subjects == 6
    assert ks.cox("Surv(a, b, e) ~ tr", data.assign(USUBJID=data.id)).n_subjects == 6
    for model in ("andersen-gill", "lwyy", "pwp-total", "pwp-gap", "wlw"):
        fit = ks.recurrent("Surv(a, b, e) ~ tr", data, id="id", model=model)
        assert fit.n_subjects == 6, model
    counts = ks.recurrent("Surv(a, b, e) ~ tr", data, id="id", model="poisson")
    assert counts.n_subjects == 6
    table = trial().assign(s=lambda d: np.where(d.e == 1, 1 + d.s % 2, 0))
    fits = [
        ks.cox("Surv(t, e) ~ x", table),
        ks.fine_gray("Surv(t, s) ~ x", table),
        ks.cause_specific("Surv(t, s) ~ x", table),
        ks.parametric_survival("Surv(t, e) ~ x", table),
        ks.interval_cox("Surv(t, e) ~ x", table, model="grouped", conf="wald"),
        counts,
    ]
    for fit in fits:
        assert np.isfinite([fit.loglik, fit.aic, fit.bic]).all()
        assert fit.nobs == fit.n_subjects == (6 if fit is counts else 60)
    for fit in fits[:-1]:
        assert fit.loglik_null <= fit.loglik


def test_absolute_risk_leaves_out_a_column_that_one_cause_does_not_see():
    """One row has z = 1 and is censored before the first event: no risk set sees z, the risks are those without it."""
    rng = np.random.default_rng(2)
    data = pd.DataFrame({"t": rng.integers(1, 30, 80) * 1.0, "s": rng.integers(0, 3, 80), "x": rng.normal(size=80)})
    data = data.assign(z=0.0)
    data.loc[0, ["t", "s", "z"]] = [0.5, 0, 1.0]
    at = {"x": 0.3, "z": 0.0}
    found, expected = (
        ks.cause_specific(f"Surv(t, s) ~ {right}", data).absolute_risk(at, [5, 10]).to_frame()
        for right in ("x + z", "x")
    )
    for column in ("estimate", "std_error", "conf_low"):
        assert found[column].to_numpy() == pytest.approx(expected[column].to_numpy(), rel=1e-9)


def test_cause_specific_likelihoods_add_up():
    table = trial().assign(s=lambda d: np.where(d.e == 1, 1 + d.s % 2, 0))
    fit = ks.cause_specific("Surv(t, s) ~ x", table)
    parts = [ks.cox("Surv(t, k) ~ x", table.assign(k=(table.s == k) * 1)) for k in (1, 2)]
    assert fit.loglik == pytest.approx(sum(p.loglik for p in parts))
    assert fit.aic == pytest.approx(sum(p.aic for p in parts))
    assert np.diag(fit.vcov) == pytest.approx([p.vcov[0, 0] for p in parts])


@pytest.mark.parametrize("model", ["poisson", "negative-binomial"])
def test_counts_keep_the_rest_beside_a_level_without_events(model):
    """At infinity the subjects of arm C expect no event and add 0: the rest is the fit without them."""
    rng = np.random.default_rng(1)
    arm = np.array(list("ABCD"))[rng.integers(0, 4, 160)]
    rate = np.where(arm == "C", 0.0, 0.1 * rng.gamma(0.8, 1.25, 160))
    rows, x = [], rng.normal(size=160).round(2)
    for i in range(160):
        stops = [*np.cumsum(rng.exponential(1 / rate[i], 40)), 30.0] if rate[i] else [30.0]
        start = 0.0
        for stop in stops:
            rows.append((i, start, min(stop, 30.0), int(stop < 30.0), arm[i], x[i]))
            if stop >= 30.0:
                break
            start = stop
    data = pd.DataFrame(rows, columns=["id", "a", "b", "e", "arm", "x"])
    with pytest.warns(ks.errors.KapstatsWarning, match="armC: the likelihood is monotone.*no event among"):
        full = ks.recurrent("Surv(a, b, e) ~ arm + x", data, id="id", model=model)
    rest = ks.recurrent("Surv(a, b, e) ~ arm + x", data[data.arm != "C"], id="id", model=model)
    found, expected = (f.coefficients.to_frame().set_index("term") for f in (full, rest))
    assert found["estimate"]["armC"] == -np.inf
    assert found.loc[expected.index, ["estimate", "std_error"]].to_numpy() == pytest.approx(
        expected[["estimate", "std_error"]].to_numpy(), rel=1e-7
    )
    assert full.loglik == pytest.approx(rest.loglik, abs=1e-8)
    assert full.aic == pytest.approx(rest.aic + 2)
    assert not full.converged


def test_many_continuous_rows_with_a_level_without_events():
    """6,000 rows: the comparisons are as many; the answer is the fit without the level."""
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"t": rng.exponential(10, 6000), "x": rng.normal(size=6000), "z": rng.normal(size=6000)})
    data["arm"] = np.array(list("ABC"))[rng.integers(0, 3, 6000)]
    data["e"] = (rng.random(6000) < 0.3) * (data.arm != "C")
    full, rest = (ks.cox("Surv(t, e) ~ arm + x + z", d) for d in (data, data[data.arm != "C"]))
    assert full.b == pytest.approx([rest.b[0], -np.inf, *rest.b[1:]], rel=1e-7)
    assert full.loglik == pytest.approx(rest.loglik, abs=1e-6)
