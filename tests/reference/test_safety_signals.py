"""Signals across terms, rare events, number needed to harm against R (see safety/README.md) and textbook values."""

import warnings

import numpy as np
import pytest
from scipy import integrate, special

import kapstats as ks
from kapstats.kernels import beta_binomial, false_discovery, max_t
from kapstats.kernels.firth import firth
from kapstats.safety import routes, signals
from kapstats.safety.proportion import zero_events
from tests.reference.test_safety_sim import ORDER, close, read


@pytest.fixture(scope="module")
def ae():
    return ks.incidence(read("sim_adae"), read("sim_adsl"), by="TRTA", order=ORDER)


def test_double_fdr_flags():
    """Flags of c212 1.0.1 at 5%, per route against concurrent placebo."""
    for _, cases in read("sim_ae_comparisons").groupby("TRTA"):
        system = np.unique(cases.AEBODSYS, return_inverse=True)[1]
        within, across = false_discovery.double_fdr(cases.fisher_p.to_numpy(), system)
        assert ((within <= 0.05) & (across <= 0.05)).tolist() == cases.dfdr_flag_05.tolist()


def test_firth_logistic(ae):
    cases = read("sim_models")
    for term, short in (("Hypertensive crisis", "hc"), ("Injection site pain", "inj")):
        ours = signals.rare_event_model(ae, term)
        model = cases[cases.model.str.startswith(f"Firth logistic (logistf) {term}")].set_index("term")
        close(ours["std_error"], model.loc[[f"TRT01A{arm}" for arm in ORDER[1:]]].se, 1e-5)
        limits = cases[cases.model.str.startswith(f"Firth profile-likelihood limits {short}")].set_index("term")
        rows = [f"TRT01A{arm}" for arm in ORDER[1:]]
        close(ours["estimate"], model.loc[rows].estimate, 1e-5)
        close(ours["conf_low"], limits.loc[rows].estimate, 1e-5)
        close(ours["conf_high"], limits.loc[rows].se, 1e-5)
        close(ours["p_value"], limits.loc[rows].extra, 1e-5)


def test_firth_of_one_proportion_is_jeffreys():
    """With an intercept only, Firth's estimate is (x + 1/2)/(n + 1)."""
    fit = firth(np.r_[np.zeros(17), np.ones(3)], np.ones((20, 1)))
    assert abs(special.expit(fit.coefficients[0]) - 3.5 / 21) < 1e-12


def test_signals_of_every_method(ae):
    for method in ("double-fdr", "bh", "by", "holm", "hommel"):
        found = ks.safety_signals(ae, method).to_frame()
        assert len(found) == 5 * 20
        iv = found[found.contrast == "IV - PLACEBO"].set_index("AEDECOD")
        assert iv.signal["Dissociation"]
        assert not iv.signal["Insomnia"]


def test_max_t_of_one_term_is_the_permutation_test():
    """One term: the adjusted p value is the permutation p of |z|, Fisher's central p up to Monte Carlo error."""
    event = np.r_[np.ones(7), np.zeros(13), np.ones(1), np.zeros(19)][:, None]
    treated = np.r_[np.ones(20), np.zeros(20)].astype(bool)
    generator = np.random.default_rng(1)
    z, raw, adjusted = max_t.step_down_max_t(event, treated, np.zeros(40, dtype=np.int64), generator, 20_000)
    exact = ks.odds_ratio(7, 20, 1, 20, method="conditional-exact")["p_value"][0]
    assert raw[0] == adjusted[0]
    assert abs(raw[0] - exact) < 4 * np.sqrt(exact / 20_000)
    assert abs(z[0] - ks.risk_difference(7, 20, 1, 20)["statistic"][0]) < 1e-12


def test_max_t_adjusts_upwards_and_keeps_order(ae):
    found = ks.safety_signals(ae, "max-t", permutations=500).to_frame()
    for _, rows in found.groupby("contrast"):
        assert (rows.p_adjusted >= rows.p_value - 1e-12).all()
        by_z = rows.sort_values("statistic", key=lambda z: -z.abs())
        assert by_z.p_adjusted.is_monotonic_increasing


def test_beta_binomial_without_variation_is_binomial():
    n, x = np.full(30, 20.0), np.full(30, 5.0)
    fit = beta_binomial.beta_binomial(x, n, np.ones((30, 1)))
    assert fit.rho == 0
    assert abs(special.expit(fit.coefficients[0]) - 0.25) < 1e-6


def test_beta_binomial_likelihood_is_the_integral():
    mean, rho, x, n = 0.2, 0.1, 3.0, 12.0
    s = (1 - rho) / rho

    def density(p):
        binomial = special.comb(n, x) * p**x * (1 - p) ** (n - x)
        return binomial * p ** (mean * s - 1) * (1 - p) ** ((1 - mean) * s - 1)

    value = integrate.quad(density, 0, 1)[0] / special.beta(mean * s, (1 - mean) * s)
    ours = beta_binomial.loglik(np.array([special.logit(mean)]), rho, np.array([x]), np.array([n]), np.ones((1, 1)))
    assert abs(ours - np.log(value)) < 1e-8


def test_beta_binomial_model_of_one_study_is_the_odds_ratio(ae):
    """One study, nothing to vary: the log odds ratio of the table with Woolf's error."""
    adsl, adae = read("sim_adsl").assign(ONE="x"), read("sim_adae")
    one = ks.incidence(adae, adsl, by="TRTA", order=ORDER)
    found = signals.rare_event_model(one, "Headache", method="beta-binomial", strata="ONE")
    counts = one.to_frame().query("AEDECOD == 'Headache'").set_index("TRTA")
    x, n = counts.n_subjects, counts.N
    direct = ks.odds_ratio(x[ORDER[1:]], n[ORDER[1:]], x["PLACEBO"], n["PLACEBO"], method="woolf")
    close(found["estimate"], np.log(direct["estimate"]), 1e-5)
    close(found["std_error"], direct["std_error"], 1e-4)
    assert found.meta["rho"] == 0
    several = signals.rare_event_model(ae, "Headache", method="beta-binomial")
    assert np.isfinite(several["estimate"]).all()
    with pytest.warns(ks.errors.KapstatsWarning, match="firth"):
        rare = signals.rare_event_model(ae, "Hypertensive crisis", method="beta-binomial")
    assert np.isnan(rare["estimate"]).any()


def test_number_needed_to_harm():
    """Altman (1998): a difference of 0.2 with limits -0.0056 to 0.4056 is NNT 5 (NNTB 177.4 to inf to NNTH 2.5)."""
    wald = ks.risk_difference(7, 25, 2, 25, method="wald")
    row = routes.number_needed_to_harm(wald).to_frame().iloc[0]
    close([row.estimate, row.conf_low, row.conf_high], [5.0, 1 / wald["conf_low"][0], 1 / wald["conf_high"][0]])
    assert row.through_infinity
    assert row.text == "NNTH 5.0 (NNTB 177.4 to inf to NNTH 2.5)"
    clear = routes.number_needed_to_harm(ks.risk_difference(68, 78, 3, 104)).to_frame().iloc[0]
    assert clear.text == "NNTH 1.2 (NNTH 1.1 to NNTH 1.3)"
    for cases in [read("sim_ae_comparisons").query("rd > 0")]:
        ours = routes.number_needed_to_harm(ks.risk_difference(cases.x1, cases.n1, cases.x2, cases.n2))
        close(ours["estimate"], cases.nnh)


def test_zero_events():
    bound = zero_events([1, 100, 3000])
    close(bound["conf_high"], 1 - 0.05 ** (1 / np.array([1.0, 100.0, 3000.0])))
    assert abs(bound["rule_of_three"][1] - 0.03) < 5e-5


def test_crude_and_stratified_routes(ae):
    """IV and headache: 0.328 pooled over all placebo arms; within studies the Mantel-Haenszel difference."""
    with pytest.warns(ks.errors.KapstatsWarning, match="stratified"):
        found = routes.crude_and_stratified(ae)
    row = found.filter(AEDECOD="Headache", contrast="IV - PLACEBO").to_frame().iloc[0]
    direct = read("sim_ae_comparisons").query("TRTA == 'IV' and AEDECOD == 'Headache'").iloc[0]
    close([row.estimate, row.std_error], [direct.rd_mh, direct.rd_mh_sato_se])
    assert row.strata == 2
    assert found.to_frame().misleading.any()


def test_nothing_misleading_without_strata(ae):
    one = ks.incidence(read("sim_adae"), read("sim_adsl").assign(ONE="x"), by="TRTA", order=ORDER)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ks.errors.KapstatsWarning)
        found = routes.crude_and_stratified(one, "ONE").to_frame()
    close(found.estimate, found.crude, 1e-12)
