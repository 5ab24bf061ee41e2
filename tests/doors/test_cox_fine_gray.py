"""Fine-Gray models of small and separated data, from the table to the printed number."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

import kapstats as ks

pytestmark = pytest.mark.filterwarnings("ignore::kapstats.errors.KapstatsWarning")


def table(seed=5, n=80):
    rng = np.random.default_rng(seed)
    arm = np.array(["A", "B", "C", "D"])[rng.integers(0, 4, n)]
    s = rng.choice([0, 1, 2], n, p=[0.3, 0.45, 0.25])
    s = np.where((arm == "C") & (s == 1), 2, s)
    x = {"t": rng.integers(1, 30, n), "s": s, "arm": arm, "x": rng.normal(size=n).round(2)}
    return pd.DataFrame({**x, "site": rng.integers(0, 10, n)})


@pytest.mark.parametrize(
    ("weighting", "estimate", "std_error", "loglik"),
    [
        (  # survival 3.5-3: finegray() of all rows, then coxph (Breslow, cluster) of the rows outside arm C
            "finegray",
            [-0.312039359530, -np.inf, -0.631854447860, -0.241607540105],
            [0.438111090113, np.nan, 0.473440669673, 0.170230771037],
            -93.9445297754,
        ),
        (  # cmprsk 2.2-11, which stops with armC at -15.03
            "crr",
            [-0.319296511514, -np.inf, -0.634937603802, -0.242387252531],
            [0.439723759546, np.nan, 0.474579677696, 0.170320012461],
            -94.2467953452,
        ),
    ],
)
def test_a_level_without_events_loses_its_own_row_only(weighting, estimate, std_error, loglik):
    with pytest.warns(ks.errors.KapstatsWarning, match="armC: the likelihood is monotone.*no event among the 16 rows"):
        fit = ks.fine_gray("Surv(t, s) ~ arm + x", table(), weighting=weighting)
    found = fit.coefficients.to_frame()
    np.testing.assert_allclose(found["estimate"], estimate, rtol=2e-7)
    np.testing.assert_allclose(found["std_error"], std_error, rtol=1e-6)
    assert fit.loglik == pytest.approx(loglik, abs=2e-5 if weighting == "crr" else 1e-9)
    assert not fit.converged
    assert fit.aic == pytest.approx(8 - 2 * fit.loglik)
    with pytest.raises(ks.errors.EstimabilityError, match="armC"):
        fit.predict(times=[5])
    clustered = ks.fine_gray("Surv(t, s) ~ arm + x + cluster(site)", table(), weighting=weighting)
    assert np.isfinite(clustered.coefficients.to_frame()["std_error"]).tolist() == [True, False, True, True]


def small(seed):
    rng = np.random.default_rng([33, seed])
    n = int(rng.integers(4, 16))
    d = pd.DataFrame({"t": rng.integers(1, 15, n), "s": rng.integers(0, 3, n), "x": rng.normal(size=n).round(1)})
    d["b"], d["y"] = rng.integers(0, 2, n), rng.integers(0, 4, n)
    d.loc[0, "s"] = 1
    return d, list(rng.permutation(["x", "b", "y"])[: int(rng.integers(1, 4))])


def highest(d, terms):
    """The likelihood of Fine and Gray written out: every event against its weighted risk set; climbed by scipy."""
    X = d[terms].to_numpy(float)
    X = (X - X.mean(0)) / np.where(np.ptp(X, axis=0) > 0, np.ptp(X, axis=0), 1.0)
    t, s = d.t.to_numpy(), d.s.to_numpy()

    def censoring(time):  # Kaplan-Meier just before `time`
        return np.prod([1 - ((t == u) & (s == 0)).sum() / (t >= u).sum() for u in np.unique(t[t < time])])

    sets = []
    for i in np.flatnonzero(s == 1):
        w = np.array([1.0 if t[j] >= t[i] else (s[j] == 2) * censoring(t[i]) / censoring(t[j]) for j in range(len(t))])
        sets.append((i, w > 0, w[w > 0]))

    def value(b):
        total, slope, curve = 0.0, np.zeros(len(b)), np.zeros((len(b), len(b)))
        for i, at, w in sets:
            lp = np.log(w) + X[at] @ b
            top = np.logaddexp.reduce(lp)
            share = np.exp(lp - top)
            mean = share @ X[at]
            total, slope = total - X[i] @ b + top, slope - X[i] + mean
            curve += (X[at] * share[:, None]).T @ X[at] - np.outer(mean, mean)
        return total, slope, curve

    zero, options = np.zeros(len(terms)), {"gtol": 1e-8, "maxiter": 2000, "max_trust_radius": 1e4}
    found = minimize(
        lambda b: value(b)[:2], zero, jac=True, hess=lambda b: value(b)[2], method="trust-exact", options=options
    )
    return -value(zero)[0], -found.fun


@pytest.mark.parametrize("seed", range(40))
def test_the_log_likelihood_of_small_samples_is_the_supremum(seed):
    d, terms = small(seed)
    fit = ks.fine_gray(f"Surv(t, s) ~ {' + '.join(terms)}", d)
    null, top = highest(d, terms)
    assert fit.loglik_null == pytest.approx(null, abs=1e-9)
    assert fit.loglik == pytest.approx(top, abs=1e-5)
    assert null - 1e-9 <= fit.loglik <= 1e-9
    turned = d.assign(x=3 - 100 * d.x, b=1 - d.b).sample(frac=1, random_state=seed)
    again = ks.fine_gray(f"Surv(t, s) ~ {' + '.join(terms)}", turned)
    assert again.loglik == pytest.approx(fit.loglik, abs=1e-7)
