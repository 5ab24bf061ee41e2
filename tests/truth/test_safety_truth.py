"""Safety analyses against known truth, each with an analysis that fails the same check."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

import kapstats as ks
from kapstats.kernels import berry_berry, false_discovery
from kapstats.safety import routes, time_to_event
from kapstats.safety.two_by_two import p_values


def coverage(method, n1, n2, grid):
    """Exact coverage of the interval of p1 - p2 by enumeration of all tables."""
    x1, x2 = (v.ravel() for v in np.meshgrid(np.arange(n1 + 1), np.arange(n2 + 1), indexing="ij"))
    found = ks.risk_difference(x1, n1, x2, n2, method=method)
    low, high = found["conf_low"].to_numpy(), found["conf_high"].to_numpy()
    out = []
    for p1, p2 in grid:
        weight = binom.pmf(x1, n1, p1) * binom.pmf(x2, n2, p2)
        out.append(weight[(low <= p1 - p2 + 1e-12) & (p1 - p2 <= high + 1e-12)].sum())
    return np.array(out)


def test_coverage_of_the_risk_difference():
    """Mean coverage of Miettinen-Nurminen and Newcombe over a grid of risks is nominal; Wald's is not."""
    p = np.linspace(0.02, 0.98, 13)
    grid = [(a, b) for a in p for b in p]
    for method, holds in (("miettinen-nurminen", True), ("newcombe", True), ("wald", False)):
        mean = np.mean([coverage(method, n1, n2, grid).mean() for n1, n2 in ((12, 12), (25, 15), (40, 40))])
        assert (0.935 <= mean <= 0.965) == holds, (method, mean)


@pytest.fixture(scope="module")
def registry():
    """Route IN is given to anxious subjects, who have more nausea whatever the route; the route does nothing."""
    generator = np.random.default_rng(11)
    n = 4000
    anxious = generator.random(n) < 0.5
    nasal = generator.random(n) < np.where(anxious, 0.8, 0.2)
    nausea = generator.random(n) < np.where(anxious, 0.5, 0.15)
    adsl = pd.DataFrame(
        {
            "USUBJID": [f"R{i:05d}" for i in range(n)],
            "ROUTE": pd.Categorical(np.where(nasal, "NASAL", "ORAL"), categories=["ORAL", "NASAL"], ordered=True),
            "ANXIOUS": np.where(anxious, "Y", "N"),
            "SAFFL": "Y",
        }
    )
    adae = pd.DataFrame({"USUBJID": adsl.USUBJID[nausea], "AEDECOD": "Nausea", "TRTEMFL": "Y"})
    return ks.incidence(adae, adsl, by="ROUTE", terms=["AEDECOD"])


def test_naive_route_table_is_wrong_and_the_recommended_ones_are_right(registry):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ks.errors.KapstatsWarning)
        stratified = routes.crude_and_stratified(registry, "ANXIOUS").filter(level="PT").to_frame().iloc[0]
        weighted = routes.propensity_weighted(registry, ["ANXIOUS"], terms=["Nausea"])
    crude = registry.compare().filter(level="PT").to_frame().iloc[0]
    assert crude.conf_low > 0.1
    assert stratified.misleading
    assert abs(stratified.estimate) < 2.5 * stratified.std_error
    row = weighted.estimates.to_frame().iloc[0]
    assert abs(row.estimate) < 2.5 * row.std_error
    assert abs(row.crude - crude.estimate) < 1e-12
    assert weighted.balance.before.iloc[0] > 0.5
    assert weighted.balance.after.iloc[0] < 1e-6


def test_propensity_weighting_covers_and_its_error_is_right():
    """Standard errors over replicates; ignoring that the weights are estimated would be too large here."""
    from kapstats.kernels.propensity import propensity, weighted_risks

    generator = np.random.default_rng(3)
    found = []
    for _ in range(300):
        z = generator.normal(size=400)
        group = (generator.random(400) < 1 / (1 + np.exp(-z))).astype(np.int64)
        event = (generator.random(400) < 1 / (1 + np.exp(-(3 * z - 0.5 + 0.8 * group)))).astype(float)[:, None]
        fit = propensity(np.column_stack([np.ones(400), z]), group, 2)
        weight = 1 / fit.probability[np.arange(400), group]
        risk, influence = weighted_risks(event, weight, group, 2, fit.score)
        error = np.sqrt(((influence[:, 1] - influence[:, 0]) ** 2).sum()) / 400
        naive_influence = weighted_risks(event, weight, group, 2, np.zeros((400, 1)))[1]
        naive = np.sqrt(((naive_influence[:, 1] - naive_influence[:, 0]) ** 2).sum()) / 400
        found.append((risk[1, 0] - risk[0, 0], error, naive))
    estimate, error, naive = np.array(found).T
    z = np.random.default_rng(0).normal(size=1_000_000)
    truth = np.mean(1 / (1 + np.exp(-(3 * z + 0.3)))) - np.mean(1 / (1 + np.exp(-(3 * z - 0.5))))
    empirical = estimate.std(ddof=1)
    assert abs(estimate.mean() - truth) < 4 * empirical / np.sqrt(300)
    assert abs(error.mean() / empirical - 1) < 0.13
    assert naive.mean() / empirical > 1.2


def follow_up_trial(generator, n=1500):
    """Event hazard 0.03 a day in both arms; death hazard 0.02; arm A is followed 28 days, arm B 10 to 28 days."""
    arm = np.repeat([0, 1], n)
    event, death = generator.exponential(1 / 0.03, 2 * n), generator.exponential(1 / 0.02, 2 * n)
    planned = np.where(arm == 0, 28.0, generator.uniform(10, 28, 2 * n))
    time = np.minimum(np.minimum(event, death), planned)
    status = np.where(event <= np.minimum(death, planned), 1, np.where(death <= planned, 2, 0))
    return arm, time, status


def test_unequal_follow_up_biases_the_proportion_not_the_default():
    """Truth at day 20: 0.03/0.05 (1 - exp(-0.05 * 20)); 1 - KM aims at 1 - exp(-0.03 * 20) instead."""
    truth = 0.6 * (1 - np.exp(-1.0))
    arm, time, status = follow_up_trial(np.random.default_rng(4))
    for group in (0, 1):
        own = time_to_event.five_estimators(time[arm == group], status[arm == group], 20.0).set_index("method")
        default = own.loc["aalen-johansen"]
        assert abs(default.estimate - truth) < 3 * default.std_error
        assert own.loc["one-minus-km"].estimate - truth > 3 * own.loc["one-minus-km"].std_error
    assert truth - own.loc["incidence-proportion"].estimate > 3 * own.loc["incidence-proportion"].std_error


def test_aalen_johansen_limits_cover():
    truth = 0.6 * (1 - np.exp(-1.0))
    generator, inside = np.random.default_rng(8), []
    for _ in range(300):
        arm, time, status = follow_up_trial(generator, 60)
        own = time_to_event.first_event_curve(time[arm == 1], status[arm == 1], [20.0]).iloc[0]
        inside.append(own.conf_low <= truth <= own.conf_high)
    assert 0.91 <= np.mean(inside) <= 0.985


def test_mean_count_and_its_error_with_frailty():
    """Gamma frailty: the robust error follows the spread over replicates, the Poisson error does not."""
    from kapstats.safety.recurrent import mean_count

    generator, found = np.random.default_rng(6), []
    for _ in range(250):
        end = generator.uniform(20, 40, 80)
        count = generator.poisson(generator.gamma(1.0, 1.0, 80) * 0.1 * end)
        subject = np.repeat(np.arange(80), count)
        times = generator.uniform(0, end[subject])
        fit = mean_count(times, subject, end)
        at = np.searchsorted(fit.time, 18.0) - 1
        poisson = np.sqrt(np.sum((fit.n_event / fit.n_risk**2)[: at + 1]))
        found.append((fit.mean[at], fit.std_error[at], poisson))
    mean, robust, poisson = np.array(found).T
    assert abs(mean.mean() - 1.8) < 4 * mean.std() / np.sqrt(250)
    assert abs(robust.mean() / mean.std(ddof=1) - 1) < 0.13
    assert poisson.mean() / mean.std(ddof=1) < 0.75


def signal_tables(generator, systems=8, per_system=6, n=250):
    """Terms in body systems; in two systems half of the terms are more frequent in the treated group."""
    group = np.repeat(np.arange(systems), per_system)
    base = generator.uniform(0.03, 0.12, group.size)
    true = (group < 2) & (np.arange(group.size) % 2 == 0)
    x2, x1 = generator.binomial(n, base), generator.binomial(n, np.where(true, base + 0.12, base))
    return x1.astype(float), np.full(group.size, float(n)), x2.astype(float), np.full(group.size, float(n)), group, true


def test_false_discovery_rates():
    """Double FDR, BH and BY keep the false discovery rate; unadjusted p values do not."""
    generator = np.random.default_rng(12)
    share = {name: [] for name in ("double", "bh", "by", "none")}
    power = []
    for _ in range(150):
        *table, group, true = signal_tables(generator)
        p = p_values(tuple(table), "chi-square")
        within, across = false_discovery.double_fdr(p, group)
        flags = {
            "double": (within <= 0.05) & (across <= 0.05),
            "bh": false_discovery.benjamini_hochberg(p) <= 0.05,
            "by": false_discovery.benjamini_yekutieli(p) <= 0.05,
            "none": p <= 0.05,
        }
        for name, flag in flags.items():
            share[name].append((flag & ~true).sum() / max(flag.sum(), 1))
        power.append(flags["double"][true].mean())
    for name, values in share.items():
        upper = np.mean(values) - 3 * np.std(values) / np.sqrt(150)
        assert (upper <= 0.05) == (name != "none"), (name, np.mean(values))
    assert np.mean(power) > 0.6


def test_berry_berry_converges_and_flags_what_is_there():
    generator = np.random.default_rng(2)
    *table, group, true = signal_tables(generator, 6, 4, 400)
    x1, n1, x2, n2 = table
    found = berry_berry.sample(x2, n2, x1, n1, group, generator, draws=800, burn_in=300)
    assert found.rhat.max() < 1.1
    assert found.effective.min() > 50
    higher = (found.log_odds_ratio > 0).mean(axis=(0, 1))
    assert higher[true].min() > 0.9
    assert (higher[~true] > 0.95).mean() <= 0.15
    # the spike: a term without difference is null with sizeable probability, one with a difference is not
    null = (found.log_odds_ratio == 0).mean(axis=(0, 1))
    assert null[~true].mean() > 5 * null[true].mean()


def sweeps_from_the_prior(generator, chains=3000, sweeps=15):
    """z scores of quantities whose prior means are known, after states and data drawn from the prior have been swept.

    A sampler that leaves the joint distribution of data and parameters alone keeps them at their prior (Geweke 2004).
    """
    from scipy.special import digamma, expit

    group, n = np.array([0, 0, 0, 1, 1, 1]), np.full(6, 6.0)
    top = generator.normal(0, np.sqrt(10), (2, chains, 1))
    spread = 1 / generator.gamma(3.0, 1.0, (2, chains, 1))
    alpha, beta = 1 + generator.exponential(10, (2, chains, 1))
    means = top + np.sqrt(spread) * generator.normal(size=(2, chains, 2))
    variances = 1 / generator.gamma(3.0, 1.0, (2, chains, 2))
    share = np.clip(generator.beta(alpha, beta, (chains, 2)), 1e-12, 1 - 1e-12)
    terms = means[:, :, group] + np.sqrt(variances[:, :, group]) * generator.normal(size=(2, chains, 6))
    h = np.where(generator.random((chains, 6)) < share[:, group], 0.0, terms[1])
    state = {"g": terms[0], "h": h, "mg": means[0], "mh": means[1], "sg": variances[0], "sh": variances[1]}
    state |= {"pi": share, "mg0": top[0], "mh0": top[1], "tg": spread[0], "th": spread[1], "alpha": alpha, "beta": beta}
    for _ in range(sweeps):
        x = generator.binomial(6, expit(state["g"])).astype(float)
        y = generator.binomial(6, expit(state["g"] + state["h"])).astype(float)
        berry_berry._update_terms(state, (x, n, y, n), group, generator)
        berry_berry._update_systems(state, group, np.bincount(group).astype(float), generator)
        berry_berry._update_top(state, generator)
    known = {
        "null": ((state["h"] == 0).mean(axis=1), 0.5),
        "pi": (state["pi"].mean(axis=1), 0.5),
        "log sg": (np.log(state["sg"]).mean(axis=1), -digamma(3.0)),
        "log sh": (np.log(state["sh"]).mean(axis=1), -digamma(3.0)),
        "log th": (np.log(state["th"])[:, 0], -digamma(3.0)),
        "mh0 squared": (state["mh0"][:, 0] ** 2, 10.0),
        "mg0": (state["mg0"][:, 0], 0.0),
        "alpha": (state["alpha"][:, 0], 11.0),
        "beta": (state["beta"][:, 0], 11.0),
    }
    return {k: (v.mean() - truth) / (v.std(ddof=1) / np.sqrt(chains)) for k, (v, truth) in known.items()}


def test_the_sampler_leaves_the_prior_alone(monkeypatch):
    """Every step of the Berry-Berry sampler is right; a jump with wrong odds is caught."""
    scores = sweeps_from_the_prior(np.random.default_rng(1))
    assert max(abs(z) for z in scores.values()) < 4, scores
    right = berry_berry._jump

    def wrong(h, g, y, n_t, mh, sh, pi, generator):
        return right(h, g, y, n_t, mh, sh, np.clip(1.5 * pi, 0, 1 - 1e-12), generator)

    monkeypatch.setattr(berry_berry, "_jump", wrong)
    scores = sweeps_from_the_prior(np.random.default_rng(1))
    assert max(abs(z) for z in scores.values()) > 6


def test_simultaneous_band_covers_the_whole_course():
    """All eight times at once; the pointwise limits do not."""
    from kapstats.safety.course import acute_course

    generator = np.random.default_rng(9)
    times, truth = np.arange(8) * 30, np.array([0, 5, 9, 7, 4, 2, 1, 0.5])
    inside = {"pointwise": [], "simultaneous": []}
    for _ in range(40):
        values = truth + generator.normal(size=(60, 1)) + 2 * generator.normal(size=(60, 8))
        frame = pd.DataFrame(
            {
                "USUBJID": np.repeat(np.arange(60), 8),
                "PARAMCD": "CADSS",
                "ROUTE": pd.Categorical(["IV"] * 480),
                "ATPTN": np.tile(times, 60),
                "AVAL": values.ravel(),
            }
        )
        for band, hits in inside.items():
            rows = acute_course(frame, band=band, seed=2).filter(quantity="mean").to_frame()
            hits.append(bool(((rows.conf_low <= truth) & (truth <= rows.conf_high)).all()))
    assert np.mean(inside["simultaneous"]) >= 0.85
    assert np.mean(inside["pointwise"]) < 0.85


def test_exact_trend_has_its_size_and_the_normal_one_is_close():
    from kapstats.kernels.trend import exact_trend

    n, scores, p = np.array([6.0, 6, 6]), np.array([0.0, 1, 2]), 0.3
    grid = np.array(np.meshgrid(*[np.arange(7)] * 3, indexing="ij")).reshape(3, -1).T
    weight = binom.pmf(grid, 6, p).prod(axis=1)
    values = np.array([exact_trend(x.astype(float), n, scores)["greater"] for x in grid])
    assert weight[values <= 0.05].sum() <= 0.05
    assert weight[values <= 0.05].sum() > 0.01
