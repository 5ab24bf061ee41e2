"""Parametric and interval-censored models beside a level without events, from the table to the printed number."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

import kapstats as ks
from tests.doors.test_cox import trial

pytestmark = pytest.mark.filterwarnings("ignore::kapstats.errors.KapstatsWarning")
FAMILIES = [
    ("weibull", {}),
    ("exponential", {}),
    ("rayleigh", {}),
    ("log-normal", {}),
    ("log-logistic", {}),
    ("gompertz", {}),
    ("royston-parmar", {}),
    ("royston-parmar", {"scale": "odds"}),
    ("piecewise-exponential", {"cuts": [8]}),
]


@pytest.mark.parametrize("left", ["Surv(t, e)", "Surv(a, t, e)", "Surv(t, r, type='interval2')"])
@pytest.mark.parametrize(("family", "options"), FAMILIES)
def test_a_level_without_events_loses_its_own_row_only(family, options, left):
    """Its rows add log S = 0 at the supremum: the rest is the fit without them."""
    data = trial().assign(r=lambda d: np.where(d.e == 1, d.t + 2.0, np.nan), a=lambda d: np.floor(d.t * 0.3))
    with pytest.warns(ks.errors.KapstatsWarning, match="armC: the likelihood is monotone.*no event among the"):
        full = ks.parametric_survival(f"{left} ~ arm + x", data, distribution=family, **options)
    rest = ks.parametric_survival(f"{left} ~ arm + x", data[data.arm != "C"], distribution=family, **options)
    found, expected = (f.coefficients.to_frame().set_index("term") for f in (full, rest))
    hazard = family in ("gompertz", "royston-parmar", "piecewise-exponential")
    assert found["estimate"]["armC"] == (-np.inf if hazard else np.inf)
    for column in ("estimate", "std_error", "conf_low", "p_value"):
        assert found.loc[expected.index, column].to_numpy() == pytest.approx(expected[column].to_numpy(), rel=1e-6)
    assert full.loglik == pytest.approx(rest.loglik, abs=1e-8)
    assert full.loglik > full.loglik_null
    assert full.aic == pytest.approx(rest.aic + 2)
    assert not full.converged
    if options != {"scale": "odds"}:
        ratios = full.time_ratios() if family in ("log-normal", "log-logistic") else full.hazard_ratios()
        assert np.isfinite(ratios.to_frame()["std_error"]).tolist() == [True, False, True, True]
    with pytest.raises(ks.errors.EstimabilityError, match="armC has no finite estimate"):
        full.predict(times=[5])


def test_a_reference_without_events_is_said():
    with pytest.warns(ks.errors.KapstatsWarning, match="no event among the 21 rows of the reference"):
        fit = ks.parametric_survival("Surv(t, e) ~ arm + x", trial(), order={"arm": ["C", "A", "B", "D"]})
    found = fit.coefficients.to_frame().set_index("term")
    assert found["estimate"][["(Intercept)", "armA", "armB", "armD"]].tolist() == [np.inf, -np.inf, -np.inf, -np.inf]
    other = ks.parametric_survival("Surv(t, e) ~ arm + x", trial())
    assert fit.loglik == pytest.approx(other.loglik, abs=1e-9)
    assert found["estimate"]["x"] == pytest.approx(other.coefficients.to_frame().set_index("term")["estimate"]["x"])


@pytest.mark.parametrize("seed", range(40))
def test_exponential_likelihoods_of_small_samples_are_at_their_supremum(seed):
    """Written out: an event adds -eta - t exp(-eta), a censored row -t exp(-eta)."""
    rng = np.random.default_rng([44, seed])
    n = int(rng.integers(4, 14))
    d = pd.DataFrame(
        {"t": rng.integers(1, 30, n) * 1.0, "e": (rng.random(n) < 0.4) * 1, "x": rng.normal(size=n).round(1)}
    )
    d["b"], d["y"], d.loc[0, "e"] = rng.integers(0, 2, n), rng.integers(0, 3, n), 1
    terms = list(rng.permutation(["x", "b", "y"])[: int(rng.integers(1, 4))])
    X = np.column_stack([np.ones(n), d[terms].to_numpy(float)])

    def value(b):
        risk = d.t.to_numpy() * np.exp(np.clip(-X @ b, None, 600))
        slope = X.T @ (d.e - risk)
        return d.e @ (X @ b) + risk.sum(), slope, (X * risk[:, None]).T @ X

    start = np.r_[np.log(d.t.sum() / d.e.sum()), np.zeros(len(terms))]
    options = {"gtol": 1e-8, "maxiter": 3000, "max_trust_radius": 1e4}
    top = -minimize(
        lambda b: value(b)[:2], start, jac=True, hess=lambda b: value(b)[2], method="trust-exact", options=options
    ).fun
    fit = ks.parametric_survival(f"Surv(t, e) ~ {' + '.join(terms)}", d, distribution="exponential")
    assert fit.loglik_null == pytest.approx(-value(start)[0], abs=1e-8)
    assert fit.loglik == pytest.approx(top, abs=1e-5)
    assert fit.loglik >= fit.loglik_null - 1e-9


def visits(seed=1, n=90):
    rng = np.random.default_rng(seed)
    arm, x = np.array(["A", "B", "C", "D"])[rng.integers(0, 4, n)], rng.normal(size=n).round(1)
    time = rng.exponential(8 * np.exp(-0.4 * x - 0.5 * (arm == "B")))
    grid = np.array([0.0, 2, 4, 7, 10, 14, 20])
    at = np.searchsorted(grid, time)
    right = np.append(grid, np.inf)[at]
    right, left = np.where(arm == "C", np.inf, right), np.where(arm == "C", grid[rng.integers(2, 7, n)], grid[at - 1])
    return pd.DataFrame({"l": left, "r": right, "arm": arm, "x": x, "e": np.isfinite(right) * 1}).assign(
        t=lambda d: np.where(d.e == 1, d.r, d.l)
    )


@pytest.mark.parametrize(
    ("left", "options"),
    [
        ("Surv(l, r, type='interval2')", {"conf": "wald"}),
        ("Surv(l, r, type='interval2')", {}),
        ("Surv(t, e)", {"model": "grouped", "conf": "wald"}),
        ("Surv(t, e)", {"model": "grouped"}),
    ],
)
def test_interval_censored_hazards_keep_the_rest_beside_a_level_without_events(left, options):
    """At infinity the rows of arm C add 0: estimates, errors, limits and likelihood are those without them."""
    data = visits()
    data = data[data.t > 0]
    with pytest.warns(ks.errors.KapstatsWarning, match="armC: the likelihood is monotone.*no event among the"):
        full = ks.interval_cox(f"{left} ~ arm + x", data, **options)
    rest = ks.interval_cox(f"{left} ~ arm + x", data[data.arm != "C"], **options)
    found, expected = (f.coefficients.to_frame().set_index("term") for f in (full, rest))
    for column in ("estimate", "std_error", "conf_low", "conf_high", "p_value"):
        assert found.loc[expected.index, column].to_numpy() == pytest.approx(expected[column].to_numpy(), rel=1e-4)
    assert found["estimate"]["armC"] == -np.inf
    assert np.isnan(found["std_error"]["armC"])
    assert full.loglik == pytest.approx(rest.loglik, abs=1e-6)
    assert full.loglik_null < full.loglik <= 0
    assert full.aic == pytest.approx(rest.aic + 2, abs=1e-5)
    assert not full.converged
    with pytest.raises(ks.errors.EstimabilityError, match="armC"):
        full.predict(times=[5])
    if "conf" not in options:
        low, high = found.loc["armC", ["conf_low", "conf_high"]]
        assert low == -np.inf
        assert drop(data, left, options, high) == pytest.approx(3.841458820694124, abs=1e-3)
        assert found["p_value"]["armC"] < 0.01


def drop(data, left, options, value):
    """Twice the fall of the likelihood with the coefficient of arm C as a fixed offset of its rows."""
    from kapstats.kernels import interval_ph as ph
    from kapstats.relapse.interval_cox import _grid_intervals
    from kapstats.relapse.surv_data import unpack

    surv = unpack(f"{left} ~ arm + x", data, allow=("right", "interval2"))
    bounds = _grid_intervals(surv) if options.get("model") else (surv.left, surv.right)
    X = np.column_stack([data.arm == a for a in "BD"] + [data.x]).astype(float)
    problem, _ = ph._problem(*bounds, X - X.mean(0), None)
    shifted = ph._Problem(X - X.mean(0), problem.before, problem.upto, problem.bounded, problem.K,
                          value * (data.arm == "C").to_numpy(float), problem.weights)  # fmt: skip
    start = ph._start(shifted, *bounds, None)
    held = ph._maximise(shifted, start, np.arange(3), 1e-9, 300)[0].loglik
    return 2 * (ks.interval_cox(f"{left} ~ arm + x", data, model=options.get("model", "semiparametric")).loglik - held)
