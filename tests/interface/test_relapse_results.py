"""Results of the second half of the relapse pillar: picklable, any table kind, labels, clear errors."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from kapstats.relapse.cause_specific import cause_specific
from kapstats.relapse.multistate import state_occupation

ORDER = {"arm": ["placebo", "kap"]}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(3)
    n = 80
    time, status = np.ceil(rng.exponential(15, n)), rng.integers(0, 3, n)
    arm = np.where(np.arange(n) % 2, "kap", "placebo")
    frame = pd.DataFrame({"USUBJID": [f"S{i:03d}" for i in range(n)], "arm": arm, "t": time, "s": status})
    left, right = np.maximum(time - 3, 0), np.where(status == 1, time, np.nan)
    return frame.assign(x=rng.normal(size=n), l=left, r=right, zero=0.0)


FITS = {
    "fine_gray": lambda d: ks.fine_gray("Surv(t, s) ~ arm + x", d, order=ORDER),
    "cumulative_incidence": lambda d: ks.cumulative_incidence("Surv(t, s) ~ arm", d, order=ORDER),
    "gray_test": lambda d: ks.gray_test("Surv(t, s) ~ arm", d, order=ORDER),
    "cause_specific": lambda d: cause_specific("Surv(t, s) ~ arm + x", d, order=ORDER),
    "turnbull": lambda d: ks.turnbull("Surv(l, r, type='interval2') ~ arm", d, order=ORDER),
    "interval_cox": lambda d: ks.interval_cox("Surv(l, r, type='interval2') ~ arm", d, conf="wald", order=ORDER),
    "weibull": lambda d: ks.parametric_survival("Surv(t, s == 1) ~ arm", d, order=ORDER),
    "spline": lambda d: ks.parametric_survival("Surv(t, s == 1) ~ arm", d, distribution="royston-parmar", order=ORDER),
    "piecewise": lambda d: ks.parametric_survival(
        "Surv(t, s == 1) ~ arm", d, distribution="piecewise-exponential", cuts=[8], order=ORDER
    ),
    "andersen_gill": lambda d: ks.recurrent("Surv(zero, t, s == 1) ~ arm", d, order=ORDER),
    "poisson": lambda d: ks.recurrent("Surv(zero, t, s == 1) ~ arm", d, model="poisson", order=ORDER),
    "mcf": lambda d: ks.mean_cumulative_function("Surv(zero, t, s == 1) ~ arm", d, order=ORDER),
    "states": lambda d: state_occupation("Surv(zero, t, s) ~ arm", d, initial="well", order=ORDER),
    "sequential": lambda d: ks.GroupSequentialDesign((40, 80)).analyse([1.0, 2.2], [40, 80]),
}
REGRESSIONS = ["fine_gray", "interval_cox", "weibull", "spline", "piecewise", "andersen_gill"]


def rows(fit):
    return fit.to_frame() if hasattr(fit, "to_frame") else (fit.stages if hasattr(fit, "stages") else fit.coefficients)


@pytest.mark.parametrize("name", list(FITS))
def test_results_can_be_pickled_printed_and_explained(name, data):
    fit = FITS[name](data)
    again = pickle.loads(pickle.dumps(fit))
    assert str(again) == str(fit) != ""
    frame = rows(fit)
    assert len(frame) > 0
    if hasattr(fit, "explain"):
        assert len(fit.explain()) > 40


@pytest.mark.parametrize("name", REGRESSIONS)
def test_regressions_share_one_interface(name, data):
    fit = FITS[name](data)
    table = fit.coefficients
    assert list(table.columns) == [
        "term",
        "estimate",
        "std_error",
        "df",
        "statistic",
        "p_value",
        "conf_low",
        "conf_high",
    ]
    np.testing.assert_allclose(np.sqrt(np.diag(fit.vcov)), table["std_error"], rtol=1e-12)
    assert fit.converged
    assert np.isfinite([fit.loglik, fit.aic, fit.bic]).all()
    assert fit.nobs == len(data)
    np.testing.assert_allclose(np.log(fit.hazard_ratios().filter(term="armkap")["estimate"]).abs() >= 0, True)
    assert fit.warnings == ()
    assert "80 of 80 records" in fit.meta["sentence"]


def test_polars_comes_back_and_a_duplicated_index_does_no_harm(data):
    pl = pytest.importorskip("polars")
    curve = ks.cumulative_incidence("Surv(t, s) ~ arm", pl.from_pandas(data), order=ORDER)
    assert isinstance(curve.to_frame(), pl.DataFrame)
    doubled = data.set_axis([0] * len(data))
    one, two = (ks.fine_gray("Surv(t, s) ~ arm + x", d, order=ORDER) for d in (data, doubled))
    np.testing.assert_array_equal(one.coefficients["estimate"], two.coefficients["estimate"])


def test_labels_of_causes_and_missing_rows(data):
    named = data.assign(s=data["s"].map({0: "ongoing", 1: "relapse", 2: "left"}))
    named.loc[:2, "x"] = np.nan
    fit = ks.fine_gray("Surv(t, s) ~ arm + x", named, cause="relapse", censored="ongoing", order=ORDER)
    plain = ks.fine_gray("Surv(t, s) ~ arm + x", data.iloc[3:], order=ORDER)
    np.testing.assert_allclose(fit.coefficients["estimate"], plain.coefficients["estimate"], rtol=1e-12)
    assert "missing: 3 x" in fit.meta["sentence"]
    with pytest.raises(ks.errors.DataError, match="relapse"):
        ks.gray_test("Surv(t, s) ~ arm", named, cause="relaps", censored="ongoing", order=ORDER)
    with pytest.raises(ks.errors.FormulaError, match="censored="):
        ks.gray_test("Surv(t, s) ~ arm", named, cause="relapse", order=ORDER)


def test_a_raw_string_arm_warns_and_the_result_keeps_it(data):
    with pytest.warns(ks.errors.KapstatsWarning, match="reference 'kap'"):
        fit = ks.fine_gray("Surv(t, s) ~ arm", data)
    assert "reference 'kap'" in fit.warnings[0]


def test_an_aliased_covariate_stays_as_a_missing_row(data):
    twice = data.assign(y=2 * data["x"])
    for call in (
        lambda: ks.fine_gray("Surv(t, s) ~ x + y", twice),
        lambda: ks.interval_cox("Surv(l, r, type='interval2') ~ x + y", twice, conf="wald"),
        lambda: ks.parametric_survival("Surv(t, s == 1) ~ x + y", twice),
    ):
        with pytest.warns(ks.errors.KapstatsWarning, match="y"):
            fit = call()
        assert np.isnan(fit.coefficients.filter(term="y")["estimate"][0])
        assert np.isfinite(fit.coefficients.filter(term="x")["estimate"][0])


def test_errors_that_say_what_to_do(data):
    with pytest.raises(ks.errors.FormulaError, match="start, stop, event"):
        ks.recurrent("Surv(t, s == 1) ~ arm", data, order=ORDER)
    overlapping = pd.DataFrame({"USUBJID": [1, 1], "a": [0, 2], "b": [5, 6], "e": [1, 0], "x": [0, 1]})
    with pytest.raises(ks.errors.DataError, match="overlap"):
        ks.recurrent("Surv(a, b, e) ~ x", overlapping)
    with pytest.raises(ks.errors.FormulaError, match="Did you mean 'weibull'"):
        ks.parametric_survival("Surv(t, s == 1) ~ arm", data, distribution="weibul", order=ORDER)
    with pytest.raises(ks.errors.FormulaError, match="not proportional"):
        ks.parametric_survival("Surv(t, s == 1) ~ x", data, distribution="log-normal").hazard_ratios()
    with pytest.raises(ks.errors.DataError, match="nothing to fit"):
        ks.interval_cox("Surv(l, r, type='interval2') ~ x", data.assign(r=np.nan))
    with pytest.raises(ks.errors.EstimabilityError, match="goes on"):
        ks.GroupSequentialDesign((40, 80)).analyse(1.0, 40).final()


def test_cause_specific_ties_follow_the_convention(data):
    sas, breslow, usual = (
        cause_specific("Surv(t, s) ~ arm", data, order=ORDER, **options)
        for options in ({"convention": "SAS"}, {"ties": "breslow"}, {})
    )
    assert sas.coefficients["estimate"].tolist() == breslow.coefficients["estimate"].tolist()
    assert sas.meta["conventions"] == ("breslow ties", "convention SAS")
    assert usual.meta["conventions"] == ("efron ties",)


def test_conventions_are_named(data):
    r = ks.cumulative_incidence("Surv(t, s) ~ arm", data, order=ORDER, convention="R")
    sas = ks.cumulative_incidence("Surv(t, s) ~ arm", data, order=ORDER, convention="SAS")
    assert (r.meta["conf_type"], sas.meta["conf_type"]) == ("log", "log-log")
    assert (r.meta["variance"], sas.meta["variance"]) == ("infinitesimal-jackknife", "aalen")
    assert "convention R" in r.meta["conventions"]
    as_r = ks.turnbull("Surv(l, r, type='interval2') ~ 1", data, convention="R").meta["conventions"]
    assert as_r[:2] == ("intervals (left, right] half-open", "mass of an interval at its middle")


@pytest.mark.parametrize(
    "call",
    [
        lambda d: ks.parametric_survival("Surv(t, s == 1) ~ arm + cluster(USUBJID)", d),
        lambda d: ks.fine_gray("Surv(t, s) ~ arm + offset(x)", d),
        lambda d: ks.interval_cox("Surv(l, r, type='interval2') ~ arm + strata(arm)", d),
        lambda d: ks.gray_test("Surv(t, s) ~ arm + cluster(USUBJID)", d),
        lambda d: ks.turnbull("Surv(l, r, type='interval2') ~ arm + frailty(USUBJID)", d),
    ],
)
def test_terms_that_do_not_count_are_refused_not_ignored(call, data):
    with pytest.raises(ks.errors.FormulaError, match="is not part of"):
        call(data)


def test_clusters_of_one_change_no_fine_gray_error(data):
    plain = ks.fine_gray("Surv(t, s) ~ x", data)
    alone = ks.fine_gray("Surv(t, s) ~ x + cluster(USUBJID)", data)
    np.testing.assert_allclose(plain.vcov, alone.vcov, rtol=1e-10)
    pairs = ks.fine_gray("Surv(t, s) ~ x + cluster(pair)", data.assign(pair=np.arange(len(data)) // 2))
    assert abs(pairs.vcov[0, 0] / plain.vcov[0, 0] - 1) > 1e-6


def test_states_start_where_their_subjects_do(data):
    from kapstats.report.figures import style

    ax = FITS["states"](data).plot(ax=style.blank(6, 4))
    panels = ax.child_axes
    assert [panel.get_title(loc="left") for panel in panels] == ["placebo", "kap"]
    for panel in panels:
        starts = [float(line.get_ydata()[0]) for line in panel.lines if line.get_drawstyle() == "steps-post"]
        assert starts == [1.0, 0.0, 0.0]
        assert panel.get_ylim()[1] >= 1.0
