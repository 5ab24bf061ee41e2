"""Laws of paired tables, strata, trends, rates, signals and comparisons of routes, and what they say at their edges."""

import itertools
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, multinomial

import kapstats as ks
from kapstats.errors import DataError, EstimabilityError, FormulaError, KapstatsWarning
from kapstats.kernels import false_discovery

LAW = settings(max_examples=25, derandomize=True, deadline=None)
PAIRED = ["tango", "newcombe", "newcombe-8", "bonett-price", "wald"]


def limits(result):
    return float(result["conf_low"][0]), float(result["conf_high"][0])


def near(a, b, tolerance=1e-9):
    return a == b or abs(a - b) <= tolerance * max(1.0, abs(a), abs(b))


# ------------------------------------------------------------------------------------------------------- pairs

cells = st.tuples(*(st.integers(0, 30) for _ in range(4))).filter(lambda c: sum(c) > 0)


@LAW
@given(cells, st.sampled_from(PAIRED))
def test_swapping_pairs_negates_and_levels_nest(table, method):
    a, b, c, d = table
    low, high = limits(ks.paired_difference(a, b, c, d, method))
    there = limits(ks.paired_difference(a, c, b, d, method))
    assert near(low, -there[1], 1e-8)
    narrow = limits(ks.paired_difference(a, b, c, d, method, level=0.8))
    assert low <= narrow[0] + 1e-12
    assert narrow[1] <= high + 1e-12


@LAW
@given(cells)
def test_swapping_pairs_inverts_ratios(table):
    a, b, c, d = table
    for one, other in (
        (ks.paired_risk_ratio(a, b, c, d), ks.paired_risk_ratio(a, c, b, d)),
        (ks.paired_odds_ratio(b, c), ks.paired_odds_ratio(c, b)),
    ):
        with np.errstate(divide="ignore"):
            assert near(limits(one)[0], float(np.divide(1, limits(other)[1])), 1e-8)
            assert near(limits(one)[1], float(np.divide(1, limits(other)[0])), 1e-8)
        assert near(float(one["p_value"][0]), float(other["p_value"][0]))


def outcomes(n):
    """All tables of n pairs."""
    return np.array([c for c in itertools.product(range(n + 1), repeat=4) if sum(c) == n])


def test_exact_mcnemar_has_its_size_and_tango_its_coverage():
    """By enumeration of all tables of 12 pairs; the Wald interval fails the same check."""
    every = outcomes(12)
    p = ks.paired_difference(*every.T, test="exact")["p_value"].to_numpy()
    found = {m: ks.paired_difference(*every.T, method=m) for m in ("tango", "wald")}
    worst = dict.fromkeys(found, 1.0)
    for share in ((0.1, 0.1, 0.1, 0.7), (0.4, 0.2, 0.2, 0.2), (0.05, 0.3, 0.1, 0.55), (0.6, 0.02, 0.02, 0.36)):
        weight = multinomial.pmf(every, 12, share)
        if share[1] == share[2]:
            assert weight[p <= 0.05].sum() <= 0.05
        for method, result in found.items():
            low, high = result["conf_low"].to_numpy(), result["conf_high"].to_numpy()
            truth = share[1] - share[2]
            inside = (low <= truth + 1e-12) & (truth <= high + 1e-12)
            worst[method] = min(worst[method], weight[inside].sum())
    assert worst["tango"] > 0.93
    assert worst["wald"] < 0.9


def test_pairs_degenerate():
    """No pair: NaN and said. No discordant pair: p = 1, a difference of 0 with a finite interval, any odds ratio."""
    with pytest.warns(KapstatsWarning, match="empty group"):
        assert np.isnan(ks.paired_difference(0, 0, 0, 0)["conf_low"][0])
    same = ks.paired_difference(5, 0, 0, 5)
    assert same["p_value"].tolist() == [1.0]
    assert -1 < limits(same)[0] < 0 < limits(same)[1] < 1
    assert limits(ks.paired_odds_ratio(0, 0)) == (0.0, np.inf)
    assert limits(ks.paired_risk_ratio(0, 0, 0, 9)) == (0.0, np.inf)
    assert limits(ks.paired_risk_ratio(0, 0, 4, 9))[0] == 0.0


# ------------------------------------------------------------------------------------------------------ strata

stratum = st.tuples(st.integers(1, 25), st.integers(1, 25), st.floats(0, 1), st.floats(0, 1)).map(
    lambda s: (round(s[2] * s[0]), s[0], round(s[3] * s[1]), s[1])
)


@LAW
@given(st.lists(stratum, min_size=2, max_size=5), st.randoms(use_true_random=False))
def test_strata_have_no_order_and_groups_can_be_swapped(strata, random):
    names = list(range(len(strata)))
    columns = [list(c) for c in zip(*strata, strict=True)]
    mixed = names.copy()
    random.shuffle(mixed)
    again = [[c[i] for i in mixed] for c in columns]
    swapped = [columns[2], columns[3], columns[0], columns[1]]
    cmh = float(ks.cmh_test(*columns, names)["statistic"][0])
    assert near(cmh, float(ks.cmh_test(*again, mixed)["statistic"][0]))
    assert near(cmh, float(ks.cmh_test(*swapped, names)["statistic"][0]))
    for method in ("breslow-day", "tarone", "score"):
        one, two, three = (
            float(ks.homogeneity(*c, n).filter(method=method)["statistic"][0])
            for c, n in ((columns, names), (again, mixed), (swapped, names))
        )
        assert (np.isnan(one) and np.isnan(two)) or near(one, two, 1e-8)
        assert (np.isnan(one) and np.isnan(three)) or near(one, three, 1e-6)


@LAW
@given(stratum)
def test_one_stratum_is_a_chi_square_and_equal_strata_are_homogeneous(table):
    x1, n1, x2, n2 = table
    statistic = float(ks.cmh_test([x1], [n1], [x2], [n2], ["a"])["statistic"][0])
    assert near(statistic, float(ks.risk_difference(*table)["statistic"][0]) ** 2, 1e-9)
    if 0 < x1 < n1 and 0 < x2 < n2:
        same = ks.homogeneity([x1] * 3, [n1] * 3, [x2] * 3, [n2] * 3, ["a", "b", "c"])
        assert (same["statistic"].abs() < 1e-8).all()
        assert (same["p_value"] > 1 - 1e-3).all()


def test_differences_that_agree_make_a_chi_square_however_unequal_the_strata():
    """The mean is the degrees of freedom; a centre at the Mantel-Haenszel difference alone would make it 2.3."""
    rng, size, tables = np.random.default_rng(4), np.array([[500, 100], [300, 300], [200, 600]]), 4000
    low = np.array([0.08, 0.25, 0.5])
    x1, x2 = (rng.binomial(size[:, g], low + shift, (tables, 3)) for g, shift in ((0, 0.12), (1, 0.0)))
    n1, n2 = (np.broadcast_to(size[:, g], x1.shape) for g in (0, 1))
    stratum, term = np.tile(np.arange(3), tables), np.repeat(np.arange(tables), 3)
    found = ks.homogeneity(x1.ravel(), n1.ravel(), x2.ravel(), n2.ravel(), stratum, term=term).filter(method="score")
    assert abs(found["statistic"].mean() - 2) < 4 * 2 / np.sqrt(tables)
    assert abs((found["p_value"] < 0.05).mean() - 0.05) < 4 * np.sqrt(0.05 * 0.95 / tables)


def test_homogeneity_degenerate():
    """One stratum, or strata without an event, cannot differ: no statistic, df 0, no error."""
    for table in (([3], [10], [1], [9], ["a"]), ([0, 0], [5, 6], [0, 0], [5, 6], ["a", "b"])):
        found = ks.homogeneity(*table).to_frame().set_index("method")
        assert found.df[["breslow-day", "tarone"]].tolist() == [0, 0]
        assert found.p_value[["breslow-day", "tarone"]].isna().all()
    with pytest.raises(DataError, match="labels"):
        ks.homogeneity([1, 2], [5, 5], [1, 1], [5, 5], ["a"])


# ------------------------------------------------------------------------------------------------------- trends


@LAW
@given(
    st.lists(st.tuples(st.integers(1, 9), st.floats(0, 1)), min_size=2, max_size=4), st.floats(0.1, 9), st.floats(-5, 5)
)
def test_trend_is_invariant_to_affine_scores_and_turns_with_the_order(groups, scale, shift):
    n = np.array([g[0] for g in groups])
    x = np.array([round(g[0] * g[1]) for g in groups])
    one, moved = ks.trend_test(x, n), ks.trend_test(x, n, scale * np.arange(len(n)) + shift)
    assert np.allclose(one["p_value"], moved["p_value"], atol=1e-8, equal_nan=True)
    turned = ks.trend_test(x[::-1], n[::-1]).to_frame().set_index("method").p_value
    p = one.to_frame().set_index("method").p_value
    assert near(p["exact-greater"], turned["exact-less"], 1e-8)
    assert near(p["exact-two"], turned["exact-two"], 1e-8)


def test_exact_trend_is_the_enumeration_of_the_margins():
    x, n, score = np.array([1, 2, 4]), np.array([5, 6, 5]), np.array([0.0, 1.0, 3.0])
    every = np.array([c for c in itertools.product(*(range(m + 1) for m in n)) if sum(c) == x.sum()])
    weight = np.prod([binom.pmf(every[:, i], m, 0.4) for i, m in enumerate(n)], axis=0)
    upper = weight[every @ score >= x @ score - 1e-9].sum() / weight.sum()
    assert near(ks.trend_test(x, n, score).filter(method="exact-greater")["p_value"][0], upper, 1e-12)


def test_trend_degenerate():
    for x in ([0, 0, 0], [4, 5, 6]):
        found = ks.trend_test(x, [4, 5, 6]).to_frame().set_index("method")
        assert found.p_value.drop("departure").tolist() == [1.0] * 6
    with pytest.raises(DataError, match="two groups"):
        ks.trend_test([1], [4])
    with pytest.raises(DataError, match="scores"):
        ks.trend_test([1, 2], [4, 4], [1.0])


# -------------------------------------------------------------------------------------------------------- rates


def test_rates_degenerate():
    """No event anywhere: differences around 0, ratios of anything; no time at risk: NaN, and said."""
    low, high = limits(ks.rate_difference(0, 10.0, 0, 10.0))
    assert near(low, -high)
    assert low < 0 < high
    assert limits(ks.rate_ratio(0, 10.0, 0, 20.0)) == (0.0, np.inf)
    for call in (ks.rate_difference, ks.rate_ratio):
        with pytest.warns(KapstatsWarning, match="empty group"):
            assert np.isnan(call(1, 0.0, 2, 3.0)["conf_low"][0])


def test_exact_rates_never_cover_less_than_promised():
    """By summation over the Poisson distribution; the Wald limits fail the same check."""
    from scipy.stats import poisson

    x = np.arange(200)
    for method, holds in (("exact", True), ("wald", False)):
        found = ks.rate(x, 1.0, method)
        low, high = found["conf_low"].to_numpy(), found["conf_high"].to_numpy()
        means = np.linspace(0.2, 40, 120)
        covered = [poisson.pmf(x, m)[(low <= m + 1e-12) & (m <= high + 1e-12)].sum() for m in means]
        assert (min(covered) >= 0.95 - 1e-9) == holds


def test_zero_events_is_the_one_sided_exact_bound():
    n = np.array([1, 7, 50, 400])
    bound = ks.zero_events(n)
    assert np.allclose(bound["conf_high"], ks.proportion(0, n, side="less")["conf_high"], rtol=1e-12)
    assert (np.diff(bound["conf_high"]) < 0).all()
    assert (bound["rule_of_three"] >= bound["conf_high"]).all()
    assert (ks.zero_events(n, level=0.99)["conf_high"] > bound["conf_high"]).all()
    with pytest.warns(KapstatsWarning, match="n = 0"):
        assert np.isnan(ks.zero_events(0)["conf_high"][0])


@LAW
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.floats(0, 1))
def test_number_needed_is_the_reciprocal(n1, n2, a, b):
    rd = ks.risk_difference(round(a * n1), n1, round(b * n2), n2)
    found = ks.number_needed_to_harm(rd)
    estimate, difference = float(found["estimate"][0]), float(rd["estimate"][0])
    assert np.isinf(estimate) if difference == 0 else near(estimate * difference, 1.0)
    low, high = limits(rd)
    assert bool(found["through_infinity"][0]) == (low < 0 < high)


def test_number_needed_degenerate():
    """No difference: infinite, through infinity. An empty group: NE, no number."""
    none = ks.number_needed_to_harm(ks.risk_difference(5, 20, 5, 20)).to_frame().iloc[0]
    assert np.isinf(none.estimate)
    assert "inf to" in none.text
    with pytest.warns(KapstatsWarning):
        empty = ks.risk_difference(0, 0, 5, 20)
    assert ks.number_needed_to_harm(empty)["text"].tolist() == ["NE"]


# ------------------------------------------------------------------------------------------------------ signals


@LAW
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.integers(1, 4), st.randoms(use_true_random=False))
def test_adjusted_values_of_groups(p, systems, random):
    """Order does not matter; double FDR is no smaller than P; one group weighted is step-up times its share."""
    p = np.array(p)
    group = np.arange(p.size) % systems
    order = np.arange(p.size)
    random.shuffle(order)
    for call in (lambda v, g: false_discovery.double_fdr(v, g)[0], false_discovery.group_benjamini_hochberg):
        assert np.allclose(call(p, group)[order], call(p[order], group[order]), atol=1e-12)
    assert (false_discovery.double_fdr(p, group)[0] >= p - 1e-12).all()
    alone = false_discovery.group_benjamini_hochberg(p, np.zeros(p.size, dtype=np.int64))
    share = false_discovery._null_share(p)
    if share < 1:
        expected = np.minimum(false_discovery.benjamini_hochberg(p) * share, 1.0)
        assert np.allclose(alone, expected, atol=1e-12)


def reported(events, arms, **more):
    """An incidence table of one system: events[i] is the set of terms of subject i."""
    ids = [f"s{i}" for i in range(len(arms))]
    adsl = pd.DataFrame(
        {"USUBJID": ids, "TRT01A": pd.Categorical(arms, categories=list(dict.fromkeys(arms)), ordered=True), **more}
    )
    records = [(ids[i], "Gut", term, "Y") for i, terms in enumerate(events) for term in sorted(terms)]
    adae = pd.DataFrame(records, columns=["USUBJID", "AEBODSYS", "AEDECOD", "TRTEMFL"])
    return ks.incidence(adae, adsl)


ARMS = ["P"] * 6 + ["K"] * 6


@pytest.mark.parametrize("method", ["double-fdr", "group-bh", "bh", "max-t", "berry-berry"])
def test_signals_degenerate(method):
    """Every subject has the term, or one arm alone: nothing is flagged that is the same in both arms; no NaN."""
    options = {"permutations": 200, "draws": 200, "burn_in": 50, "chains": 2}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KapstatsWarning)
        same = ks.safety_signals(reported([{"Nausea"}] * 12, ARMS), method, **options).to_frame()
        apart = ks.safety_signals(reported([set()] * 6 + [{"Nausea"}] * 6, ARMS), method, **options).to_frame()
    assert same.signal.tolist() == [False]
    assert same.estimate.notna().all()
    if method not in ("berry-berry", "group-bh"):
        assert apart.signal.tolist() == [True]
    with pytest.raises(FormulaError, match="terms"):
        ks.safety_signals(ks.incidence(*as_tables([{"Nausea"}] * 12), terms=[]), method)


def as_tables(events):
    ids = [f"s{i}" for i in range(len(events))]
    adsl = pd.DataFrame({"USUBJID": ids, "TRT01A": pd.Categorical(ARMS, categories=["P", "K"], ordered=True)})
    adae = pd.DataFrame([(ids[i], t, "Y") for i, e in enumerate(events) for t in e])
    return adae.set_axis(["USUBJID", "AEDECOD", "TRTEMFL"], axis=1), adsl


def test_signals_without_any_event():
    nothing = reported([set()] * 12, ARMS)
    assert len(ks.safety_signals(nothing, "bh")) == 0


# ------------------------------------------------------------------------------------------------------- routes


def exposed():
    """Two routes whose risk depends on the dose alone; PO subjects get less of it."""
    generator = np.random.default_rng(4)
    arms = np.repeat(["IV", "PO"], 60)
    dose = np.where(arms == "IV", generator.uniform(20, 100, 120), generator.uniform(5, 80, 120)).round(1)
    events = [{"Nausea"} if u < d / 120 else set() for u, d in zip(generator.random(120), dose, strict=True)]
    return reported(events, list(arms), DOSE=dose)


def test_matching_on_exposure():
    """By hand: Mantel-Haenszel over quarters of the joint exposure; one bin is the crude comparison."""
    ae = exposed()
    subjects = ae.records.subjects
    hit = subjects.USUBJID.isin(ae.records.events.USUBJID)
    quarter = np.searchsorted(np.quantile(subjects.DOSE, [0.25, 0.5, 0.75]), subjects.DOSE, side="left")
    top = bottom = 0.0
    for q in range(4):
        first, second = (hit[(quarter == q) & (arm == subjects.TRT01A)] for arm in ("PO", "IV"))
        if len(first) and len(second):
            weight = len(first) * len(second) / (len(first) + len(second))
            top, bottom = top + weight * (first.mean() - second.mean()), bottom + weight
    found = ks.exposure_matched(ae, "DOSE").filter(level="PT").to_frame().iloc[0]
    assert near(found.estimate, top / bottom)
    crude = ks.exposure_matched(ae, "DOSE", bins=1).filter(level="PT").to_frame().iloc[0]
    direct = ae.compare("wald").filter(level="PT").to_frame().iloc[0]
    assert near(crude.estimate, direct.estimate)
    assert abs(found.estimate) < abs(crude.estimate)


def test_matching_degenerate():
    """Exposures that do not overlap are an error, not a number; so is no exposure at all."""
    apart = reported([{"Nausea"}, set()] * 6, ARMS, DOSE=[1.0] * 6 + [9.0] * 6)
    with pytest.raises(EstimabilityError, match="do not overlap"):
        ks.exposure_matched(apart, "DOSE")
    with pytest.raises(DataError, match="exposure"):
        ks.exposure_matched(reported([{"Nausea"}, set()] * 6, ARMS, DOSE=[np.nan] * 12), "DOSE")
    equal = reported([{"Nausea"}, set()] * 6, ARMS, DOSE=[5.0] * 12)
    assert near(float(ks.exposure_matched(equal, "DOSE").filter(level="PT")["estimate"][0]), 0.0)


def test_weighting_by_one_binary_covariate_is_standardisation():
    """Inverse probability weights from a saturated model: stratum risks weighted by the strata of everybody."""
    sex = ["F", "F", "F", "M", "M", "M", "M", "M"] + ["F"] * 5 + ["M"] * 3
    arms = ["P"] * 8 + ["K"] * 8
    events = [{"Nausea"} if i in (0, 3, 5, 8, 9, 10, 13) else set() for i in range(16)]
    ae = reported(events, arms, SEX=sex)
    found = ks.propensity_weighted(ae, ["SEX"], terms=["Nausea"]).estimates.to_frame().iloc[0]
    frame = pd.DataFrame({"arm": arms, "sex": sex, "hit": [bool(e) for e in events]})
    risk = frame.groupby(["sex", "arm"]).hit.mean().unstack()
    share = frame.sex.value_counts(normalize=True)
    assert near(found.estimate, float((share * (risk.K - risk.P)).sum()), 1e-8)


def test_weighting_degenerate():
    """A covariate that decides the route: no overlap, said; a missing covariate: an error that names it."""
    decided = reported([{"Nausea"}, set()] * 6, ARMS, SITE=["a"] * 6 + ["b"] * 6)
    with pytest.warns(KapstatsWarning, match=r"differ by more than|separated|propensit"):
        ks.propensity_weighted(decided, ["SITE"])
    holes = reported([{"Nausea"}, set()] * 6, ARMS, AGE=[np.nan, *range(11)])
    with pytest.raises(DataError, match=r"ADSL.AGE: 1"):
        ks.propensity_weighted(holes, ["AGE"])


def test_groups_that_never_meet_have_no_stratified_difference():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KapstatsWarning)
        found = ks.crude_and_stratified(reported([{"Nausea"}, set()] * 6, ARMS, STUDYID=["1"] * 6 + ["2"] * 6))
    assert found["estimate"].isna().all()
    assert found["crude"].notna().all()
    assert not found["misleading"].any()


# ------------------------------------------------------------------------------------------------- acute course


def course(values, arms=("IV",)):
    """One row per subject and time."""
    n, k = values.shape
    ids = np.repeat([f"s{i}" for i in range(n)], k)
    group = pd.Categorical(np.repeat(np.resize(arms, n), k), categories=list(dict.fromkeys(arms)), ordered=True)
    frame = pd.DataFrame({"USUBJID": ids, "ROUTE": group, "PARAMCD": "CADSS", "AVAL": values.ravel()})
    return frame.assign(ATPTN=np.tile(30.0 * np.arange(k), n), SESSION=1)


def test_course_is_equivariant_and_has_no_row_order():
    values = np.random.default_rng(2).gamma(2, 3, (9, 5))
    one = ks.acute_course(course(values)).to_frame()
    mixed = ks.acute_course(course(values).sample(frac=1, random_state=1)).to_frame()
    pd.testing.assert_frame_equal(one, mixed)
    moved = ks.acute_course(course(2 * values + 5), threshold=2 * 4.0 + 5).to_frame()
    for quantity in ("mean", "peak"):
        rows = one.quantity == quantity
        assert np.allclose(moved.estimate[rows], 2 * one.estimate[rows] + 5)
        assert np.allclose(moved.std_error[rows], 2 * one.std_error[rows])
    for quantity in ("time of peak", "time above", "above at peak"):
        rows = one.quantity == quantity
        assert np.allclose(moved.estimate[rows], one.estimate[rows])
    change = ks.acute_course(course(values), baseline=True).filter(quantity="mean", time=0.0)
    assert change["estimate"].tolist() == [0.0]


def test_course_degenerate():
    """One subject has no spread; a value missing drops only that time's mean; nothing to show is an error."""
    alone = ks.acute_course(course(np.array([[0.0, 9.0, 1.0]]))).to_frame()
    assert alone[["sd", "std_error", "conf_low"]].isna().all(axis=None)
    assert alone.estimate[alone.quantity == "peak"].tolist() == [9.0]
    holes = course(np.array([[0.0, np.nan, 1.0], [0.0, 4.0, 1.0], [1.0, 2.0, 3.0]]))
    counted = ks.acute_course(holes).filter(quantity="mean").to_frame()
    assert counted.n.tolist() == [3, 2, 3]
    constant = ks.acute_course(course(np.zeros((4, 3))), band="simultaneous").filter(quantity="mean").to_frame()
    assert (constant.conf_low == 0).all()
    with pytest.raises(DataError, match="PARAMCD"):
        ks.acute_course(course(np.zeros((2, 2))), parameter="SYSBP")
