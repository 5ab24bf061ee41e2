"""Survival calls on data that leave something undetermined: an answer, a named warning or an error, never a number."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import kapstats as ks


def frame(**columns):
    return pd.DataFrame(columns)


def test_a_factor_with_one_level_is_named():
    data = frame(t=[1, 2, 3, 4.0], e=[1, 1, 1, 0], arm=pd.Categorical(["KAP"] * 4), x=[1, 2, 1, 2])
    with pytest.warns(ks.errors.KapstatsWarning, match=r"arm \(only 'KAP'\)"):
        fit = ks.cox("Surv(t, e) ~ arm + x", data)
    assert fit.coefficients["term"].tolist() == ["x"]
    assert "arm (only 'KAP')" in " ".join(fit.warnings)
    with pytest.warns(ks.errors.KapstatsWarning, match=r"arm \(only 'KAP'\)"):
        ks.parametric_survival("Surv(t, e) ~ arm + x", data)
    with pytest.raises(ks.errors.FormulaError, match=r"arm \(only 'KAP'\)"):
        ks.fine_gray("Surv(t, e) ~ arm", data)


def test_a_weight_name_and_rho_do_not_go_together():
    data = frame(t=[1, 2, 3, 4.0], e=[1, 1, 1, 0], arm=[0, 1, 0, 1])
    with pytest.raises(ks.errors.FormulaError, match=r"gehan.*rho=1"):
        ks.logrank("Surv(t, e) ~ arm", data, weights="gehan", rho=1)
    named = ks.logrank("Surv(t, e) ~ arm", data, weights="fleming-harrington", rho=1)
    assert named["statistic"].tolist() == ks.logrank("Surv(t, e) ~ arm", data, rho=1)["statistic"].tolist()


def test_a_whole_number_arm_stays_whole():
    data = frame(t=[1, 2, 3, 4.0], e=[1, 1, 1, 0], dose=[28, 28, 56, 56])
    found = ks.rmst("Surv(t, e) ~ dose", data).frame
    assert found["dose"].tolist()[:2] == [28, 56]
    assert found["contrast"].tolist()[2:] == ["56 - 28", "56 / 28", "56 / 28"]
    assert "28.0" not in ks.rmst("Surv(t, e) ~ dose", data).to_text()
    assert ks.kaplan_meier("Surv(t, e) ~ dose", data.assign(dose=data["dose"] * 1.0)).labels == ("dose=28", "dose=56")


@pytest.mark.parametrize("x", [[0, 0, 0, 0, 1, 1, 1, 1], [-5, 1, 1, 1, 1, 1, 2, 2]])
def test_fine_gray_without_a_finite_maximum_names_the_covariate(x):
    data = frame(t=np.arange(1.0, 9), s=[1, 2, 0, 0, 0, 2, 0, 0], x=x, y=[1, 0, 1, 1, 0, 0, 1, 0])
    with pytest.warns(ks.errors.KapstatsWarning, match="x: the likelihood is monotone, the estimate runs to -inf"):
        fit = ks.fine_gray("Surv(t, s) ~ x", data)
    assert not fit.converged
    assert fit.loglik == pytest.approx(-np.log(sum(np.array(x) == x[0])))
    with pytest.raises(ks.errors.EstimabilityError, match="x has no finite estimate"):
        fit.predict()


def test_fine_gray_with_a_covariate_constant_in_every_risk_set():
    data = frame(t=[1.0, 2, 3, 4], s=[0, 0, 1, 1], x=[1, 5, 2, 2])
    with pytest.warns(ks.errors.KapstatsWarning, match="No coefficient for x: constant in every risk set"):
        fit = ks.fine_gray("Surv(t, s) ~ x", data)
    assert np.isnan(fit.coefficients["estimate"]).all()
    assert fit.loglik == fit.loglik_null == pytest.approx(-np.log(2))
    assert fit.aic == -2 * fit.loglik


def test_gray_where_a_stratum_has_no_event():
    data = frame(
        t=[1, 2, 3, 4, 5, 6, 1, 2.0], s=[1, 2, 1, 1, 0, 2, 2, 0], g=[0, 0, 1, 0, 1, 1, 0, 1], k=[0] * 6 + [1] * 2
    )
    both, one = (ks.gray_test(f"Surv(t, s) ~ g{tail}", d) for tail, d in ((" + strata(k)", data), ("", data[:6])))
    assert both["statistic"].tolist() == pytest.approx(one["statistic"].tolist())
    with pytest.warns(ks.errors.KapstatsWarning, match="there is no test"):
        none = ks.gray_test("Surv(t, s) ~ g", frame(t=[1, 2, 3.0], s=[0, 1, 2], g=[0, 1, 1]), cause=1)
    assert np.isnan(none["statistic"][0])


def test_a_certain_cumulative_incidence_has_no_error():
    rng = np.random.default_rng(5)
    data = frame(t=np.ceil(rng.exponential(10, 30)), s=np.ones(30, int))
    last = ks.cumulative_incidence("Surv(t, s) ~ 1", data).to_frame().iloc[-1]
    assert last["estimate"] == pytest.approx(1.0)
    assert last["std_error"] == 0.0


def test_quantile_limits_of_a_band_that_rises_again():
    """survfit of R 3.5-3, log limits: the upper limit is 0.671 at 11 and 0.714 at 14; R reads the sorted values."""
    data = frame(t=[1, 2, 4, 5, 6, 8, 9, 10, 11, 13, 14, 22], d=[2, 1, 3, 2, 1, 0, 0, 1, 2, 0, 1, 1],
                 c=[1, 0, 0, 1, 2, 1, 1, 0, 0, 1, 0, 0])  # fmt: skip
    rows = [(t, e) for t, d, c in data.itertuples(index=False) for e, n in ((1, d), (0, c)) for _ in range(n)]
    one = pd.DataFrame(rows, columns=["t", "e"])
    usual, as_r = (ks.kaplan_meier("Surv(t, e) ~ 1", one, conf_type="log", convention=c) for c in (None, "R"))
    assert usual.quantile(0.25)["conf_high"].tolist() == [11.0]
    assert as_r.quantile(0.25)["conf_high"].tolist() == [14.0]


def test_global_tests_with_fewer_clusters_than_coefficients():
    rng = np.random.default_rng(2)
    data = frame(t=rng.exponential(5, 30), e=np.ones(30, int), k=np.repeat([0, 1], 15))
    data = data.assign(**{f"x{j}": rng.normal(size=30) for j in range(3)})
    tests = ks.cox("Surv(t, e) ~ x0 + x1 + x2 + cluster(k)", data).tests().frame.set_index("test")["statistic"]
    assert np.isnan(tests[["wald", "robust score"]]).all()
    assert np.isfinite(tests[["likelihood ratio", "score"]]).all()


def test_clusters_where_no_coefficient_is_finite():
    data = frame(t=[1.0, 2, 3, 4], e=[1, 1, 0, 0], x=[1, 1, 0, 0], k=[0, 1, 0, 1])
    with pytest.warns(ks.errors.KapstatsWarning, match="monotone"):
        fit = ks.cox("Surv(t, e) ~ x + cluster(k)", data)
    assert fit.coefficients["estimate"].tolist() == [np.inf]
    assert np.isnan(fit.coefficients["std_error"][0])


def test_a_frailty_beside_a_column_that_separates_names_the_column():
    data = frame(t=[1.0, 2, 3, 4, 5, 6], e=[1, 1, 1, 0, 0, 0], x=[1, 1, 1, 0, 0, 0], k=[0, 1, 2, 0, 1, 2])
    with pytest.raises(ks.errors.EstimabilityError, match="x separates"):
        ks.cox("Surv(t, e) ~ x + frailty(k)", data)


def test_reml_variance_of_a_frailty_that_the_integrated_likelihood_does_not_favour():
    """coxph(..., frailty(k, distribution = "gaussian", method = "reml")) of R survival 3.5-3 on the same 24 rows."""
    rng = np.random.default_rng(7)
    data = frame(t=np.ceil(rng.exponential(9, 24)), e=(rng.random(24) < 0.8) * 1, k=np.arange(24) % 8)
    data["x"] = rng.normal(size=24).round(1)
    fit = ks.cox("Surv(t, e) ~ x + frailty(k, 'lognormal')", data)
    found = [fit.frailty.theta["estimate"][0], *fit.coefficients.frame.loc[0, ["estimate", "std_error"]]]
    assert found == pytest.approx([0.0118909426217, -0.3124212020231, 0.3024890666908], rel=1e-6)
    assert fit.frailty.theta["statistic"][0] == 0.0


def test_predicted_limits_before_the_first_event_are_undefined_on_the_log_log_scale():
    data = frame(t=[1.0, 2, 3, 4, 5], e=[0, 1, 1, 1, 0], x=[1, 0, 1, 1, 0])
    fit = ks.cox("Surv(t, e) ~ x", data)
    new = frame(x=[0, 1])
    assert fit.survival(new, [1.5], conf_type="log-log").frame[["conf_low", "conf_high"]].isna().all(axis=None)
    assert fit.survival(new, [1.5]).frame["conf_low"].tolist() == [1.0, 1.0]
