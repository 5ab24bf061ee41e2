"""One proportion, two proportions and rates against R 4.2.2 (see safety/README.md)."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from kapstats.safety.two_by_two import p_values

FOLDER = Path(__file__).parent / "safety"


def read(name):
    found = next(p for p in (FOLDER / f"{name}.csv.gz", FOLDER / f"{name}.csv") if p.exists())
    return pd.read_csv(found)


def worst(ours, reference):
    """Largest error: absolute below 1, relative above; infinities and NaN have to match."""
    ours, reference = np.asarray(ours, dtype=float), np.asarray(reference, dtype=float)
    same = (ours == reference) | (np.isnan(ours) & np.isnan(reference))
    with np.errstate(invalid="ignore"):
        gap = np.abs(ours - reference) / np.maximum(1, np.abs(reference))
    return np.max(np.where(same, 0.0, np.where(np.isnan(gap), np.inf, gap)))


def check(call, cases, columns, tolerance=1e-9):
    for level, rows in cases.groupby("conf_level"):
        result = call(rows, level)
        assert len(result) == len(rows) > 0
        for ours, reference in columns.items():
            assert worst(result[ours], rows[reference]) < tolerance, (ours, level)


LIMITS = {"conf_low": "lower", "conf_high": "upper"}
ONE = {
    "clopper-pearson": "clopper_pearson",
    "mid-p": "midp",
    "wilson": "wilson",
    "wilson-cc": "wilson_cc",
    "agresti-coull": "agresti_coull",
    "jeffreys": "jeffreys_equal_tailed",
    "wald": "wald",
    "wald-cc": "wald_cc",
    "blaker": "blaker",
    "jeffreys-edges": "jeffreys_bcd",
    "scas": "scas",
    "logit": "binompkg_logit",
    "probit": "binompkg_probit",
    "cloglog": "binompkg_cloglog",
    "likelihood-ratio": "binompkg_lrt",
}
TWO = [
    (ks.risk_difference, "RD", "wald", "wald"),
    (ks.risk_difference, "RD", "wald-cc", "wald_cc"),
    (ks.risk_difference, "RD", "agresti-caffo", "agresti_caffo"),
    (ks.risk_difference, "RD", "newcombe", "newcombe"),
    (ks.risk_difference, "RD", "newcombe-cc", "newcombe_cc"),
    (ks.risk_difference, "RD", "miettinen-nurminen", "miettinen_nurminen"),
    (ks.risk_difference, "RD", "farrington-manning", "mee_farrington_manning"),
    (ks.risk_difference, "RD", "scas", "scas"),
    (ks.risk_difference, "RD", "mover-jeffreys", "mover_jeffreys"),
    (ks.risk_difference, "RD", "hauck-anderson", "hauck_anderson"),
    (ks.risk_ratio, "RR", "katz", "katz_log"),
    (ks.risk_ratio, "RR", "walter", "walter_adjusted_log"),
    (ks.risk_ratio, "RR", "scas", "scas"),
    (ks.risk_ratio, "RR", "mover", "mover_wilson"),
    (ks.risk_ratio, "RR", "miettinen-nurminen", "miettinen_nurminen"),
    (ks.risk_ratio, "RR", "koopman", "koopman"),
    (ks.odds_ratio, "OR", "woolf", "woolf_logit"),
    (ks.odds_ratio, "OR", "gart", "gart_adjusted_logit"),
    (ks.odds_ratio, "OR", "agresti", "agresti_smoothed_logit"),
    (ks.odds_ratio, "OR", "miettinen-nurminen", "miettinen_nurminen"),
    (ks.odds_ratio, "OR", "cornfield", "cornfield_score"),
    (ks.odds_ratio, "OR", "conditional-exact", "conditional_exact_tail"),
    (ks.odds_ratio, "OR", "mid-p", "conditional_midp"),
]
#: taken from ratesci itself, whose search stops at 1e-8
FROM_RATESCI = ("scas", "mover_wilson")


@pytest.mark.parametrize(("method", "name"), ONE.items())
def test_proportion(method, name):
    cases = read("one_sample_proportion_ci").query("method == @name")
    # binom's root finder of the likelihood ratio stops at 3e-5; a property test solves the equation again
    tolerance = 5e-5 if method == "likelihood-ratio" else 1e-9
    check(lambda rows, level: ks.proportion(rows.x, rows.n, method=method, level=level), cases, LIMITS, tolerance)


@pytest.mark.parametrize(("call", "measure", "method", "name"), TWO)
def test_two_proportions(call, measure, method, name):
    cases = read("two_sample_ci").query("measure == @measure and method == @name")
    # mover: ratesci prints NA for the infinite upper limit of x2 = 0
    cases = cases.assign(upper=cases.upper.where(~((method == "mover") & (cases.x2 == 0)), np.inf))

    def ours(rows, level):
        return call(rows.x1, rows.n1, rows.x2, rows.n2, method=method, level=level)

    check(ours, cases, LIMITS | {"estimate": "estimate"}, 1e-7 if name in FROM_RATESCI else 1e-9)


TESTS = {
    "chi-square": "pearson_chi2",
    "chi-square-n-1": "n_minus_1_chi2",
    "yates": "yates_chi2",
    "likelihood-ratio": "lr_G2",
    "fisher": "fisher_two_sided_minlike",
    "fisher-central": "fisher_two_sided_central",
    "fisher-mid-p": "fisher_midp_minlike",
    "fisher-mid-p-central": "fisher_midp_central",
    "wald": "wald_unpooled_z",
}


@pytest.mark.parametrize(("test", "name"), TESTS.items())
def test_two_sample_tests(test, name):
    cases = read("two_sample_tests").query("test == @name").dropna(subset="p_value")
    table = tuple(cases[c].to_numpy(float) for c in ("x1", "n1", "x2", "n2"))
    assert worst(p_values(table, test), cases.p_value) < 1e-9


@pytest.mark.parametrize(
    ("method", "side", "name"),
    [
        ("conditional-exact", "two", "fisher_two_sided_minlike"),
        ("conditional-exact", "less", "fisher_less"),
        ("conditional-exact", "greater", "fisher_greater"),
        ("mid-p", "two", "fisher_midp_central"),
        ("miettinen-nurminen", "two", "n_minus_1_chi2"),
        ("cornfield", "two", "pearson_chi2"),
    ],
)
def test_odds_ratio_p_values(method, side, name):
    cases = read("two_sample_tests").query("test == @name").dropna(subset="p_value")
    ours = ks.odds_ratio(cases.x1, cases.n1, cases.x2, cases.n2, method=method, side=side)
    assert worst(ours["p_value"], cases.p_value) < 1e-9


def test_exact_unconditional():
    cases = read("two_sample_exact_unconditional").set_index("method")
    tables = cases.loc["RD_CI_chan_zhang_score"]
    ours = ks.risk_difference(tables.x1, tables.n1, tables.x2, tables.n2, method="chan-zhang")
    assert worst(ours["conf_low"], tables.lower) < 1e-6
    assert worst(ours["conf_high"], tables.upper) < 1e-6
    tables = cases.loc["RD_CI_santner_snell_unstandardised"]
    ours = ks.risk_difference(tables.x1, tables.n1, tables.x2, tables.n2, method="santner-snell")
    assert worst(ours["conf_low"], tables.lower) < 1e-8
    assert worst(ours["conf_high"], tables.upper) < 1e-8
    for test, name in (("barnard", "barnard_pooled_z"), ("boschloo", "boschloo")):
        rows = cases[cases.index.str.startswith(name)]
        table = tuple(rows[c].to_numpy(float) for c in ("x1", "n1", "x2", "n2"))
        assert worst(p_values(table, test), rows.p_value) < 1e-9


RATES = {
    "exact": "exact_garwood",
    "mid-p": "midp",
    "byar": "byar",
    "score": "score_wilson",
    "wald": "wald",
    "log": "log_normal",
    "jeffreys": "jeffreys_gamma",
    "square-root": "sqrt_anscombe_free",
}


@pytest.mark.parametrize(("method", "name"), RATES.items())
def test_rate(method, name):
    cases = read("one_sample_rate_ci").query("method == @name")
    check(lambda rows, level: ks.rate(rows.events, rows.time, method=method, level=level), cases, LIMITS)


@pytest.mark.parametrize(
    ("call", "quantity", "method", "name", "columns"),
    [
        (ks.rate_difference, "IRD", "wald", "wald", ()),
        (ks.rate_difference, "IRD", "mover", "mover_wilson", ()),
        (ks.rate_difference, "IRD", "score", "score_mn", ("statistic", "p_value")),
        (ks.rate_ratio, "IRR", "wald", "wald_log", ("statistic", "p_value")),
        (ks.rate_ratio, "IRR", "exact", "exact_conditional_central", ("p_value",)),
        (ks.rate_ratio, "IRR", "mid-p", "midp_conditional", ()),
        (ks.rate_ratio, "IRR", "score", "score_conditional_wilson", ()),
    ],
)
def test_two_rates(call, quantity, method, name, columns):
    cases = read("two_sample_rates").query("quantity == @quantity and method == @name")
    result = call(cases.x1, cases.t1, cases.x2, cases.t2, method=method)
    for ours, reference in {**LIMITS, "estimate": "estimate"}.items():
        assert worst(result[ours], cases[reference]) < 1e-9
    for column in columns:
        given = cases[column].notna().to_numpy()
        assert worst(result[column][given], cases[column][given]) < 1e-9


# --------------------------------------------------------------------------------------------------- stratified

STRATIFIED = [
    (ks.odds_ratio, "mantel-haenszel", "OR_MH", "Robins-Breslow-Greenland SE (log)", "estimate se lower upper"),
    (ks.risk_ratio, "mantel-haenszel", "RR_MH", "Greenland-Robins SE (log)", "estimate se lower upper"),
    (ks.risk_difference, "mantel-haenszel", "RD_MH", "Sato SE", "estimate se lower upper"),
    (ks.risk_difference, "greenland-robins", "RD_MH", "Greenland-Robins SE", "estimate se lower upper"),
    (
        ks.risk_difference,
        "miettinen-nurminen",
        "RD_MH",
        "stratified score, MH weights, Miettinen-Nurminen N/(N-1)",
        "estimate lower upper statistic p_value",
    ),
    (
        ks.risk_difference,
        "farrington-manning",
        "RD_MH",
        "stratified score, MH weights, no bias correction",
        "estimate lower upper statistic p_value",
    ),
    (ks.risk_difference, "newcombe", "RD_MH", "stratified Newcombe (Yan-Su), MH weights", "estimate lower upper"),
    (
        ks.risk_difference,
        "miettinen-nurminen-iterative",
        "RD_MN",
        "MN iterative weights (ratesci weighting='MN', bias-corrected)",
        "estimate lower upper p_value",
    ),
    (
        ks.risk_difference,
        "summary-score",
        "RD_summary_score",
        "summary score: inverse-variance pool of stratum score-interval midpoints, "
        "Miettinen-Nurminen stratum intervals",
        "estimate se lower upper statistic p_value",
    ),
    (
        ks.risk_difference,
        "summary-score-uncorrected",
        "RD_summary_score",
        "summary score: inverse-variance pool of stratum score-interval midpoints, no bias correction",
        "estimate se lower upper statistic p_value",
    ),
    (
        ks.odds_ratio,
        "conditional-exact",
        "OR_conditional",
        "exact tail limits (Gart), minlike p",
        "estimate lower upper p_value",
    ),
    (ks.odds_ratio, "mid-p", "OR_conditional", "mid-P limits, central mid-p", "estimate lower upper p_value"),
    (ks.odds_ratio, "inverse-variance", "OR_IV", "Woolf inverse variance (log)", "estimate se lower upper"),
    (ks.risk_difference, "inverse-variance", "RD_IV", "inverse variance", "estimate se lower upper"),
]
COLUMN_OF = {"estimate": "estimate", "conf_low": "lower", "conf_high": "upper"}
NAMES = {"se": "std_error", "lower": "conf_low", "upper": "conf_high"}


def by_dataset(quantity, method):
    tables = read("stratified_tables")
    cases = read("stratified_results").query("quantity == @quantity and method == @method")
    assert len(cases) >= 2
    for case in cases.itertuples():
        yield case, tables[tables.dataset == case.dataset]


@pytest.mark.parametrize(("call", "method", "quantity", "name", "columns"), STRATIFIED)
def test_stratified(call, method, quantity, name, columns):
    for case, t in by_dataset(quantity, name):
        ours = call(t.x1, t.n1, t.x2, t.n2, method=method, strata=t.stratum)
        assert len(ours) == 1
        for column in columns.split():
            # iterative weights: ratesci stops its own iteration at 1e-8
            assert worst(ours[NAMES.get(column, column)], [getattr(case, column)]) < 1e-8, (case.dataset, column)


def test_cmh_correction_is_left_out_below_one_half():
    """mantelhaen.test of R 4.2.2: 2/16 v 0/7 and 6/39 v 1/5."""
    ours = ks.cmh_test([2, 6], [16, 39], [0, 1], [7, 5], ["a", "b"], corrected=True)
    assert worst(ours["statistic"], [0.16158029319128125]) < 1e-12
    assert worst(ours["p_value"], [0.68770572747464787]) < 1e-12


def test_central_p_of_the_common_odds_ratio_is_twice_the_smaller_tail():
    for case, t in by_dataset("OR_conditional", "exact, central p"):
        tails = [
            ks.odds_ratio(t.x1, t.n1, t.x2, t.n2, "conditional-exact", t.stratum, side=side)["p_value"][0]
            for side in ("less", "greater")
        ]
        assert worst([min(1.0, 2 * min(tails))], [case.p_value]) < 1e-8


def test_mantelhaen_exact_agrees_as_far_as_its_search_goes():
    """mantelhaen.test(exact=TRUE): same p value and estimate; its limits are off by up to 2%."""
    for case, t in by_dataset("OR_conditional_exact", "mantelhaen.test(exact=TRUE); CI at R default tolerance"):
        ours = ks.odds_ratio(t.x1, t.n1, t.x2, t.n2, "conditional-exact", t.stratum)
        assert worst(ours["p_value"], [case.p_value]) < 1e-8
        for column in ("estimate", "conf_low", "conf_high"):
            tolerance = 1e-3 if column == "estimate" else 2e-2
            assert worst(ours[column], [getattr(case, COLUMN_OF[column])]) < tolerance


@pytest.mark.parametrize(("corrected", "name"), [(False, "no continuity correction"), (True, "continuity corrected")])
def test_cmh(corrected, name):
    from kapstats.safety.stratified import cmh_test

    for case, t in by_dataset("CMH", name):
        ours = cmh_test(t.x1, t.n1, t.x2, t.n2, t.stratum, corrected=corrected)
        assert worst(ours["statistic"], [case.statistic]) < 1e-8
        assert worst(ours["p_value"], [case.p_value]) < 1e-8


@pytest.mark.parametrize(
    ("method", "name"), [("breslow-day", "Breslow-Day"), ("tarone", "Tarone-adjusted Breslow-Day"), ("woolf", "Woolf")]
)
def test_homogeneity(method, name):
    from kapstats.safety.stratified import homogeneity

    for case, t in by_dataset("homogeneity_OR", name):
        ours = homogeneity(t.x1, t.n1, t.x2, t.n2, t.stratum).filter(method=method)
        assert worst(ours["statistic"], [case.statistic]) < 1e-8
        assert worst(ours["df"], [case.df]) == 0
        assert worst(ours["p_value"], [case.p_value]) < 1e-8


def test_terms_in_one_call_equal_terms_one_by_one():
    t = read("stratified_tables")
    with pytest.warns(ks.errors.KapstatsWarning, match="5 strata have an empty group"):
        together = ks.risk_difference(t.x1, t.n1, t.x2, t.n2, strata=t.stratum, term=t.dataset)
    assert together["term"].tolist() == list("ABCDE")
    for name, rows in t.groupby("dataset"):
        alone = ks.risk_difference(rows.x1, rows.n1, rows.x2, rows.n2, strata=rows.stratum)
        same = together.filter(term=name)
        for column in ("estimate", "conf_low", "conf_high", "p_value"):
            assert worst(same[column], alone[column]) < 1e-12


# ----------------------------------------------------------------------------------------------- paired and trend

PAIRED = {
    "wald": "Wald",
    "tango": "Tango score",
    "newcombe": "Newcombe square-and-add (method 10)",
    "newcombe-8": "MOVER Wilson (method 8)",
    "bonett-price": "Bonett-Price",
}
CELLS = ["both", "only_first", "only_second", "neither"]


@pytest.mark.parametrize(("method", "name"), PAIRED.items())
def test_paired_difference(method, name):
    from kapstats.safety.paired import paired_difference

    cases = read("paired_results").query("quantity == 'RD' and method == @name")
    ours = paired_difference(*(cases[c] for c in CELLS), method=method)
    for column, reference in {**LIMITS, "estimate": "estimate"}.items():
        assert worst(ours[column], cases[reference]) < 1e-8


@pytest.mark.parametrize(
    ("test", "name"),
    [
        ("asymptotic", "McNemar asymptotic"),
        ("corrected", "McNemar continuity corrected"),
        ("exact", "McNemar exact"),
        ("mid-p", "McNemar mid-P"),
    ],
)
def test_mcnemar(test, name):
    from kapstats.safety.paired import paired_difference

    cases = read("paired_results").query("method == @name")
    ours = paired_difference(*(cases[c] for c in CELLS), test=test)
    assert worst(ours["p_value"], cases.p_value) < 1e-8
    if cases.statistic.notna().any():
        assert worst(ours["statistic"], cases.statistic) < 1e-8


def test_paired_risk_ratio():
    cases = read("paired_results").query("quantity == 'RR' and method == 'Tang score'")
    ours = ks.paired_risk_ratio(*(cases[c] for c in CELLS))
    for column, reference in {**LIMITS, "estimate": "estimate"}.items():
        assert worst(ours[column], cases[reference]) < 1e-8


@pytest.mark.parametrize(
    ("method", "name"), [("exact", "exact (Clopper-Pearson on b/(b+c))"), ("score", "Wilson on b/(b+c)")]
)
def test_paired_odds_ratio(method, name):
    from kapstats.safety.paired import paired_odds_ratio

    cases = read("paired_results").query("quantity == 'OR_conditional' and method == @name")
    ours = paired_odds_ratio(cases.only_first, cases.only_second, method=method)
    for column, reference in {**LIMITS, "estimate": "estimate"}.items():
        assert worst(ours[column], cases[reference]) < 1e-8


TREND = {
    "cochran-armitage": "Cochran-Armitage z (binomial variance)",
    "permutation": "CMH correlation / permutation variance (N-1)",
    "exact-greater": "exact one-sided greater",
    "exact-less": "exact one-sided less",
    "exact-two": "exact two-sided |T-E|",
    "exact-central": "exact two-sided 2*min",
    "departure": "Pearson departure-from-trend chi2",
}


def test_trend():
    from kapstats.safety.trend import trend_test

    for _, cases in read("trend_results").groupby("dataset"):
        x, n, scores = (np.array(cases[c].iloc[0].split(";"), dtype=float) for c in ("events", "n", "scores"))
        ours = trend_test(x, n, scores).to_frame().set_index("method")
        cases = cases.set_index("method")
        for method, name in TREND.items():
            assert worst([ours.p_value[method]], [cases.p_value[name]]) < 1e-8, name
        assert worst([ours.statistic["cochran-armitage"]], [cases.statistic[TREND["cochran-armitage"]]]) < 1e-8
        assert worst([ours.statistic["permutation"] ** 2], [cases.statistic[TREND["permutation"]]]) < 1e-8
        assert worst([ours.statistic["departure"]], [cases.statistic[TREND["departure"]]]) < 1e-8
        assert ours.df["departure"] == cases.df[TREND["departure"]]
