"""What must hold of imputation whatever the data: slow twins, the sampler's calibration, refusals."""

import numpy as np
import pandas as pd
import pytest

from kapstats.errors import ConvergenceError, DataError, FormulaError, KapstatsWarning
from kapstats.inference.pooling import rubin
from kapstats.kernels import downdating, gibbs, pattern_moments
from kapstats.kernels.reference_based import STRATEGIES, conditional, joint_covariance, joint_mean
from kapstats.response import imputation_model
from kapstats.response.imputation import ImputationPlan, impute
from kapstats.response.tipping_point import tipping_point

MODEL = "y ~ base*visit + arm*visit + us(visit | id)"


def trial(n=40, seed=1, missing=0.25):
    """Two arms, three visits, dropout after visit 1 or 2."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"id": np.repeat(np.arange(n), 3), "visit": np.tile([1, 2, 3], n)})
    frame["arm"] = pd.Categorical(np.where(frame["id"] % 2 == 0, "P", "K"), ["P", "K"], ordered=True)
    frame["base"] = np.repeat(rng.normal(30, 4, n), 3)
    person = np.repeat(rng.normal(size=n), 3)
    frame["y"] = 0.3 * frame["base"] - 2 * (frame["arm"] == "K") * frame["visit"] + person + rng.normal(size=3 * n)
    last = np.where(rng.random(n) < missing, rng.integers(1, 3, n), 3)
    frame.loc[frame["visit"] > last[frame["id"]], "y"] = np.nan
    return frame.assign(clinic=frame["id"] // 5)


def plan(**options):
    return ImputationPlan(formula=MODEL, arm="arm", reference="P", **options)


@pytest.mark.parametrize("strategy", ["MAR", "J2R"])
@pytest.mark.parametrize("cluster", [None, "clinic"])
def test_jackknife_by_downdating_is_the_brute_force_jackknife(strategy, cluster):
    data = trial()
    fast = impute(data, plan(strategy=strategy, cluster=cluster)).analyse("arm + base").frame
    left_out = data[cluster or "id"].unique()
    slow = []
    for unit in left_out:
        part = data[data[cluster or "id"] != unit]
        one = impute(part, plan(strategy=strategy))
        slow.append(one.analyse("arm + base", variance="jackknife").frame["estimate"].to_numpy())
    slow = np.array(slow)
    k = len(slow)
    expected = np.sqrt((k - 1) / k * ((slow - slow.mean(0)) ** 2).sum(0))
    np.testing.assert_allclose(fast["std_error"], expected, rtol=1e-8)


@pytest.mark.parametrize("structure", ["us", "toeph", "cs"])
def test_refits_from_the_cross_products_of_all_are_the_refits_in_full(structure):
    """Subjects without outcomes, rare patterns and a covariance by arm included; most need no refit in full."""
    data = trial(120, missing=0.4)
    data.loc[data["id"] == 3, "y"] = np.nan
    data.loc[(data["id"] == 8) & (data["visit"] == 2), "y"] = np.nan
    formula = MODEL.replace("us(visit | id)", f"{structure}(visit | arm / id)")
    imputed = impute(data, formula=formula, arm="arm", reference="P")
    z, arranged = imputation_model._layout(imputed.wide)
    stats, shape = pattern_moments.moments(z, arranged), imputation_model._structure(imputed.wide)
    fast = downdating.leave_one_out(z, arranged, stats, shape, imputed.model.fits, 120)
    slow = imputation_model.refit(imputed.wide, 1.0 - np.eye(120), imputed.model)
    kept = fast.converged
    assert slow.kept.all()
    assert kept.mean() > 0.9
    np.testing.assert_allclose(fast.beta[kept], slow.beta[kept], atol=3e-8)
    np.testing.assert_allclose(fast.sigma[kept], slow.sigma[kept], atol=3e-8)
    joined = imputation_model.refit_without(imputed.wide, imputed.model)
    assert joined.kept.all()
    np.testing.assert_allclose(joined.beta, slow.beta, atol=3e-8)


@pytest.mark.parametrize("lost", [1, 3, 39])
def test_refits_that_fail_are_counted_and_never_end_the_run(lost, monkeypatch):
    """Fails on purpose for `lost` of 40 subjects; with fewer than two refits there is no error to report."""
    from dataclasses import replace

    from kapstats.response import imputation

    whole = imputation.refit_without

    def some_fail(wide, start):
        found = whole(wide, start)
        kept = found.kept.copy()
        kept[:lost] = False
        return replace(found, kept=kept, beta=np.where(kept[:, None], found.beta, np.nan))

    imputed = impute(trial(), plan(strategy="J2R"))
    complete = imputed.analyse("arm + base")["std_error"]
    monkeypatch.setattr(imputation, "refit_without", some_fail)
    if lost == 39:
        with pytest.raises(ConvergenceError, match="1 of 40 refits converged"):
            imputed.analyse("arm + base")
        return
    with pytest.warns(KapstatsWarning, match=f"{lost} of 40 refits of the jackknife did not converge"):
        found = imputed.analyse("arm + base")
    np.testing.assert_allclose(found["std_error"], complete, rtol=0.35)


def test_a_callable_gives_what_the_built_in_analysis_gives():
    from kapstats.estimates import Estimates

    imputed = impute(trial(), plan(strategy="CR"))

    def last_visit(frame):
        rows = frame[frame["visit"] == 3]
        x = np.column_stack([np.ones(len(rows)), rows["arm"] == "K", rows["base"]]).astype(float)
        beta, *_ = np.linalg.lstsq(x, rows["y"].to_numpy(), rcond=None)
        return Estimates(pd.DataFrame({"term": ["arm"], "estimate": [beta[1]], "std_error": [1.0]}))

    ours = imputed.analyse("arm + base").filter(quantity="difference", visit=3).frame
    theirs = imputed.analyse(last_visit).frame
    np.testing.assert_allclose(theirs[["estimate", "std_error"]], ours[["estimate", "std_error"]], rtol=1e-9)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_all_strategies_agree_where_both_arms_are_the_same(strategy):
    rng = np.random.default_rng(3)
    a = rng.normal(size=(4, 6))
    sigma, mu = (a @ a.T)[None], rng.normal(size=(1, 2, 4))
    constant = np.broadcast_to(mu[..., :1], mu.shape)  # LMCF carries the mean on, so it has to be level
    mean = joint_mean(strategy, constant, constant, 2)
    law = conditional(mean, joint_covariance(strategy, sigma, sigma.copy(), 2), rng.normal(size=(2, 4)) * 0, SEEN)
    base = conditional(constant, sigma, np.zeros((2, 4)), SEEN)
    np.testing.assert_allclose(law.mean, base.mean, atol=1e-12)
    np.testing.assert_allclose(law.covariance, base.covariance, atol=1e-12)


SEEN = np.array([True, True, False, False])


def test_j2r_covariance_keeps_the_reference_regression():
    """S21 S11^-1 and the residual covariance behind the event are the reference arm's."""
    rng = np.random.default_rng(4)
    own, ref = (b @ b.T for b in rng.normal(size=(2, 4, 7)))
    joint = joint_covariance("J2R", own[None], ref[None], 2)[0]
    k = ref[2:, :2] @ np.linalg.inv(ref[:2, :2])
    np.testing.assert_allclose(joint[:2, :2], own[:2, :2])
    np.testing.assert_allclose(joint[2:, :2] @ np.linalg.inv(joint[:2, :2]), k)
    np.testing.assert_allclose(joint[2:, 2:] - k @ joint[:2, 2:], ref[2:, 2:] - k @ ref[:2, 2:])
    assert np.linalg.eigvalsh(joint).min() > 0


def test_delta_moves_the_estimate_in_a_straight_line():
    found = tipping_point(impute(trial(), plan(strategy="J2R")), [0, 1, 2, 3])["estimate"].to_numpy()
    np.testing.assert_allclose(np.diff(found, 2), 0, atol=1e-9)
    assert found[1] > found[0]


def test_the_tipping_point_is_the_first_delta_whose_interval_holds_zero():
    table = tipping_point(impute(trial(60), plan(strategy="MAR")), [0, 5, 20, 60])
    rows = table.frame
    inside = rows["delta"][(rows["conf_low"] <= 0) & (rows["conf_high"] >= 0)]
    assert table.meta["tipping_point"] == inside.min()


def test_random_imputations_scatter_around_the_conditional_mean():
    data = trial(120)
    fixed = impute(data, plan(strategy="J2R")).values()["estimate"].to_numpy()
    for method in ("bayes", "bootstrap"):
        drawn = impute(data, plan(strategy="J2R", method=method, draws=300)).values()["estimate"].to_numpy()
        assert np.abs(drawn - fixed).max() < 6 * 2.0 / np.sqrt(300) + 0.8
        assert np.corrcoef(drawn, fixed)[0, 1] > 0.97


def test_same_seed_same_draws_and_another_seed_others():
    one, two, other = (
        impute(trial(), plan(method="bayes", draws=5, burn_in=20, thin=2, seed=s)).frame(3)["y"] for s in (7, 7, 8)
    )
    assert one.equals(two)
    assert not one.equals(other)


def test_information_anchored_variance_is_larger_than_the_frequentist_one_under_j2r():
    data = trial(200, missing=0.5)
    last = {"quantity": "difference", "visit": 3}
    rubins = impute(data, plan(strategy="J2R", method="bayes", draws=150)).analyse("arm + base").filter(**last)
    jackknife = impute(data, plan(strategy="J2R")).analyse("arm + base").filter(**last)
    assert rubins["std_error"][0] > 1.1 * jackknife["std_error"][0]


def test_the_sampler_is_calibrated():
    """Simulation-based calibration (Talts et al. 2018): the rank of the true value among the draws is uniform.

    The negative control keeps the sampler's draws but halves their spread around their mean, and has to fail.
    """
    rng = np.random.default_rng(20)
    n, m, q, draws, trials = 10, 2, 2, 19, 240
    prior = gibbs.Prior(8.0, np.eye(m)[None] * 5.0, np.full(q, 0.25))
    ranks, narrow = [], []
    for _ in range(trials):
        beta, sigma = rng.normal(0, 2, q), gibbs.inverse_wishart(prior.psi[0], prior.nu, rng)
        x = rng.normal(size=(n, m, q))
        y = x @ beta + rng.normal(size=(n, m)) @ np.linalg.cholesky(sigma).T
        y[rng.random((n, m)) < 0.25] = np.nan
        first = gibbs.Draws(np.zeros((1, q)), np.eye(m)[None, None])
        found = gibbs.sample(x, y, np.zeros(n, dtype=int), first, prior, rng, draws=draws, burn_in=15, thin=4)
        values = np.column_stack([found.beta, found.sigma[:, 0, 0, 0], found.sigma[:, 0, 0, 1]])
        truth = np.array([*beta, sigma[0, 0], sigma[0, 1]])
        ranks.append((values < truth).sum(0))
        narrow.append((values.mean(0) + (values - values.mean(0)) / 2 < truth).sum(0))

    def chi_square(found):
        counts = np.stack([np.bincount(r // 4, minlength=5) for r in np.array(found).T])
        return ((counts - trials / 5) ** 2 / (trials / 5)).sum(axis=1)

    assert chi_square(ranks).max() < 20.5  # chi-square(4) above this: 4e-4, four quantities
    assert chi_square(narrow).min() > 20.5


def test_rubin_with_one_data_set_or_no_spread():
    one = rubin(np.array([[2.0]]), np.array([[0.5]]), 30.0)
    assert (one.estimate[0], one.std_error[0]) == (2.0, 0.5)
    assert rubin(np.ones((5, 1)), np.ones((5, 1))).df[0] == np.inf


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"formula": "y ~ arm"}, FormulaError, "us(VISIT | SUBJECT)"),
        ({"reference": "Z"}, FormulaError, "is not an arm"),
        ({"strategy": "J3R"}, FormulaError, "Choose one of"),
        ({"strategi": "J2R"}, FormulaError, "Did you mean 'strategy'"),
        ({"event": "nope"}, DataError, "not there"),
        ({"strategy": {"AE": "J2R"}}, FormulaError, "reason="),
    ],
)
def test_wrong_plans_are_refused(options, error, said):
    settings = {"formula": MODEL, "arm": "arm", "reference": "P", **options}
    with pytest.raises(error) as caught:
        impute(trial(), settings)
    assert said in str(caught.value)


def test_wrong_data_are_refused():
    data = trial()
    with pytest.raises(DataError, match="base: missing for"):
        impute(data.assign(base=data["base"].where(data["id"] != 3)), plan())
    with pytest.raises(DataError, match="repeat a subject's visit"):
        impute(pd.concat([data, data.iloc[:1]]), plan())


def test_cir_without_a_visit_before_the_event_says_what_it_does():
    data = trial()
    data.loc[data["id"] == 1, "y"] = np.nan
    with pytest.warns(KapstatsWarning, match=r"1 subjects have no visit before the event \(1\)"):
        found = impute(data, plan(strategy="CIR")).values().frame
    assert set(found.loc[found["id"] == 1, "strategy"]) == {"J2R"}


def test_strategies_by_reason():
    data = trial()
    data["why"] = np.where(data["id"] % 3 == 0, "AE", "other")
    found = impute(data, plan(strategy={"AE": "J2R", "other": "MAR"}, reason="why")).values().frame
    by_reason = found.assign(ae=found["id"] % 3 == 0).groupby("ae")["strategy"].agg(set)
    assert by_reason[True] == {"J2R"}
    assert by_reason[False] == {"MAR"}
