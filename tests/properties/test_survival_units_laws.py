"""The unit of time does not matter: times with one or two decimals give what whole numbers give.

Decimal times, and sums and differences of them, are rounded; the same data in whole numbers are not. Estimates that
have no unit must be equal, times must scale. KAPSTATS_CASES sets how many data sets are tried.
"""

import os

import numpy as np
import pandas as pd
import pytest

import kapstats as ks

CASES = int(os.environ.get("KAPSTATS_CASES", "2"))
#: decimals of the times
UNITS = (10, 100)


def subjects(rng: np.random.Generator, unit: int) -> pd.DataFrame:
    """Whole numbers in the columns ending in i, the same divided by `unit` in the others."""
    n = 90
    d = pd.DataFrame({"g": rng.choice(["a", "b"], n), "x": rng.normal(size=n).round(2), "s": rng.integers(0, 3, n)})
    d["g"] = pd.Categorical(d["g"], ["a", "b"], ordered=True)
    d["ti"] = np.ceil(rng.exponential(3 * unit, n)).astype(int)
    d["e"] = (rng.random(n) < 0.7).astype(int)
    d["cause"] = np.where(d["e"] == 1, rng.choice(["relapse", "left"], n), "censored")
    d["ai"] = np.floor(rng.random(n) * d["ti"]).astype(int)
    d["vi"] = np.floor(rng.random(n) * 12 * unit / 10).astype(int)
    d["li"] = (d["ti"] // 7) * 7
    d["ri"] = np.where(d["e"] == 1, d["li"] + 7, np.nan)
    d["b0i"], d["b1i"] = rng.integers(20, 40, n), rng.integers(5, 40, n)
    for c in ("t", "a", "v", "l", "r", "b0", "b1"):
        d[c] = d[f"{c}i"] / unit
    return d


def episodes(rng: np.random.Generator, unit: int) -> pd.DataFrame:
    rows = []
    for i in range(60):
        cuts, a, g = np.cumsum(rng.integers(1, 2 * unit, rng.integers(1, 5))), 0, rng.choice(["a", "b"])
        for j, c in enumerate(cuts):
            rows.append((f"S{i}", a, c, int(j < len(cuts) - 1 or rng.random() < 0.4), g, "AB"[j % 2]))
            a = c
    r = pd.DataFrame(rows, columns=["id", "ai", "bi", "e", "g", "to"])
    r["to"] = r["to"].where(r["e"] == 1, "same")
    r["g"] = pd.Categorical(r["g"], ["a", "b"], ordered=True)
    # stops as sums of rounded pieces, as a spreadsheet makes them
    steps = (r["bi"] - r["ai"]) / unit
    r["b"] = steps.groupby(r["id"]).cumsum()
    return r.assign(a=r.groupby("id")["b"].shift(fill_value=0.0))


def numbers(found: ks.Estimates, columns: str = "estimate std_error") -> np.ndarray:
    return found.frame[[c for c in columns.split() if c in found.frame]].to_numpy(float)


#: verb: function of the data, the suffix of the columns of time, and the value of one unit of time
VERBS = {
    "kaplan_meier": lambda d, r, s, u: numbers(
        ks.kaplan_meier(f"Surv(t{s}, e) ~ g", d).estimates, "n_risk estimate std_error"),
    "kaplan_meier entry": lambda d, r, s, u: numbers(
        ks.kaplan_meier(f"Surv(a{s}, t{s}, e) ~ g", d).at_risk([3 * k * u for k in range(1, 40)]), "n_risk n_event"),
    "kaplan_meier start": lambda d, r, s, u: numbers(ks.kaplan_meier(f"Surv(t{s}, e) ~ g", d, start=3 * u).estimates),
    "at": lambda d, r, s, u: numbers(
        ks.kaplan_meier(f"Surv(t{s}, e) ~ g", d).at(
            [3 * k * u for k in range(1, 40)], extend=True), "n_risk n_event estimate"),
    "milestone": lambda d, r, s, u: numbers(
        ks.kaplan_meier(f"Surv(t{s}, e) ~ g", d).milestone([3 * u, 7 * u]), "estimate p_value"),
    "median": lambda d, r, s, u: numbers(
        ks.kaplan_meier(f"Surv(t{s}, e) ~ g", d).median(), "estimate conf_low conf_high") / u,
    "median SAS": lambda d, r, s, u: numbers(
        ks.kaplan_meier(f"Surv(t{s}, e) ~ g", d, convention="SAS").quantile([0.25, 0.5, 0.75])) / u,
    "logrank": lambda d, r, s, u: numbers(ks.logrank(f"Surv(t{s}, e) ~ g + strata(s)", d), "statistic"),
    "logrank landmark": lambda d, r, s, u: numbers(ks.logrank(f"Surv(t{s}, e) ~ g", d, landmark=3 * u), "statistic"),
    "max-combo": lambda d, r, s, u: numbers(ks.logrank(f"Surv(t{s}, e) ~ g", d, weights="max-combo"), "statistic"),
    "combination time": lambda d, r, s, u: numbers(ks.weighted_logrank_combination(
        f"Surv(t{s}, e) ~ g", d, entry=f"v{s}", interim_time=21 * u), "events statistic"),
    "combination events": lambda d, r, s, u: numbers(ks.weighted_logrank_combination(
        f"Surv(t{s}, e) ~ g", d, entry=f"v{s}", interim_events=30), "events statistic"),
    "cox": lambda d, r, s, u: numbers(ks.cox(f"Surv(t{s}, e) ~ g + x", d).coefficients),
    "cox landmark": lambda d, r, s, u: numbers(ks.cox(f"Surv(t{s}, e) ~ g + x", d, landmark=3 * u).coefficients),
    "cox entry": lambda d, r, s, u: numbers(ks.cox(f"Surv(a{s}, t{s}, e) ~ g + x", d).coefficients),
    "cox breaks": lambda d, r, s, u: numbers(
        ks.cox(f"Surv(t{s}, e) ~ g + x", d, time_varying={"x": [3 * u, 7 * u]}).coefficients),
    "cox survival": lambda d, r, s, u: numbers(
        ks.cox(f"Surv(t{s}, e) ~ g + x", d).survival(d.head(2), [3 * k * u for k in range(1, 40)], extend=True)),
    "adjusted survival": lambda d, r, s, u: numbers(
        ks.cox(f"Surv(t{s}, e) ~ g + x", d).adjusted_survival("g", [3 * u, 7 * u], extend=True)),
    "rmst": lambda d, r, s, u: numbers(
        ks.rmst(f"Surv(t{s}, e) ~ g", d, tau=12 * u).filter(quantity="ratio"), "estimate p_value"),
    "rmst adjusted": lambda d, r, s, u: numbers(
        ks.rmst(f"Surv(t{s}, e) ~ g", d, tau=12 * u, covariates="x").filter(quantity="ratio"), "estimate p_value"),
    "rmtl": lambda d, r, s, u: numbers(ks.cumulative_incidence(
        f"Surv(t{s}, cause) ~ g", d, cause="relapse", censored="censored").rmtl(12 * u, extend=True)) / u,
    "cif": lambda d, r, s, u: numbers(ks.cumulative_incidence(
        f"Surv(t{s}, cause) ~ g", d, cause=None, censored="censored").at(
            [3 * k * u for k in range(1, 40)], extend=True)),
    "gray": lambda d, r, s, u: numbers(
        ks.gray_test(f"Surv(t{s}, cause) ~ g", d, cause="left", censored="censored"), "statistic"),
    "cause_specific": lambda d, r, s, u: numbers(ks.cause_specific(
        f"Surv(t{s}, cause) ~ x", d, censored="censored").absolute_risk({"x": 0.0}, [3 * u, 9 * u], extend=True)),
    "fine_gray": lambda d, r, s, u: numbers(ks.fine_gray(
        f"Surv(t{s}, cause) ~ g + x", d, cause="left", censored="censored").predict(
            d.head(2), [3 * k * u for k in range(1, 40)], extend=True)),
    "turnbull": lambda d, r, s, u: numbers(ks.turnbull(f"Surv(l{s}, r{s}, type='interval2') ~ g", d).at(
        [7 * k * u for k in range(9)], extend=True)),
    "interval_cox": lambda d, r, s, u: numbers(ks.interval_cox(
        f"Surv(l{s}, r{s}, type='interval2') ~ g", d, conf="wald").coefficients),
    "piecewise": lambda d, r, s, u: numbers(ks.parametric_survival(
        f"Surv(t{s}, e) ~ g", d, distribution="piecewise-exponential", cuts=[3 * u, 9 * u]).hazard_ratios()),
    "win_ratio": lambda d, r, s, u: numbers(ks.win_ratio(f"Surv(t{s}, e) ~ g", d, then=[f"b0{s} - b1{s}"])),
    "andersen-gill": lambda d, r, s, u: numbers(ks.recurrent(f"Surv(a{s}, b{s}, e) ~ g", r, id="id").coefficients),
    "pwp-gap": lambda d, r, s, u: numbers(
        ks.recurrent(f"Surv(a{s}, b{s}, e) ~ g", r, id="id", model="pwp-gap").coefficients),
    "wlw": lambda d, r, s, u: numbers(ks.recurrent(f"Surv(a{s}, b{s}, e) ~ g", r, id="id", model="wlw").coefficients),
    "mcf": lambda d, r, s, u: numbers(ks.mean_cumulative_function(f"Surv(a{s}, b{s}, e) ~ g", r, id="id").at(
        [3 * k * u for k in range(1, 40)], extend=True)),
    "states": lambda d, r, s, u: numbers(ks.state_occupation(
        f"Surv(a{s}, b{s}, to) ~ g", r, id="id", initial="B", censored="same").at(
            [3 * k * u for k in range(1, 40)], extend=True)),
    "mean time": lambda d, r, s, u: numbers(ks.state_occupation(
        f"Surv(a{s}, b{s}, to) ~ g", r, id="id", initial="B", censored="same").mean_time(9 * u, extend=True)) / u,
    "concordance": lambda d, r, s, u: numbers(ks.cox(f"Surv(t{s}, e) ~ x", d).concordance()),
    "average hazard ratio": lambda d, r, s, u: numbers(ks.cox(f"Surv(t{s}, e) ~ g", d).average_hazard_ratio()),
    "project_events": lambda d, r, s, u: numbers(ks.project_events(f"Surv(t{s}, e) ~ 1", d, [3 * u, 9 * u])),
}  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.filterwarnings("ignore::kapstats.errors.KapstatsWarning")
def test_decimal_times_give_what_whole_numbers_give(verb):
    for seed in range(CASES):
        for unit in UNITS:
            rng = np.random.default_rng([seed, unit])
            d, r = subjects(rng, unit), episodes(rng, unit)
            whole = VERBS[verb](d, r, "i", unit // 10)
            decimal = VERBS[verb](d, r, "", (unit // 10) / unit)
            np.testing.assert_allclose(decimal, whole, rtol=1e-7, atol=1e-9, err_msg=f"seed {seed}, unit {unit}")


def test_gaps_between_assessments_are_not_decided_by_rounding():
    """16.3 to 31.3 is 15 days, inside the window of 5 to 15; 31.3 - 16.3 is 15.000000000000002."""
    visits = pd.DataFrame({"USUBJID": "01", "ADY": [9.0, 16.3, 31.3], "AVAL": [9, 25, 27]})
    assert ks.derive_relapse(visits).iloc[0]["CNSR"] == 0
