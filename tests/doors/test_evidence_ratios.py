"""Ratios print as ratios: whatever the verb and the format, what is printed is exp of the log in to_frame()."""

from __future__ import annotations

import re
import warnings
from functools import cache

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from kapstats.table import interval, number

STUDIES = pd.DataFrame(
    {
        "study": list("ABC"),
        "x1": [12, 9, 20],
        "n1": [40, 35, 70],
        "x2": [5, 6, 9],
        "n2": [41, 33, 72],
        "dose": [1, 2, 4],
    }
)
ARMS = pd.DataFrame(
    {"study": list("AABBCC"), "treatment": ["IV", "P", "IM", "P", "IV", "IM"], "x": [9, 3, 8, 4, 5, 4], "n": [30] * 6}
)
HAZARDS = pd.DataFrame({"study": ["A", "B", "C"], "estimate": np.log([0.5, 0.8, 0.6]), "std_error": [0.2, 0.3, 0.25]})


@cache
def rows() -> pd.DataFrame:
    """Sixty subjects with an event time, a cause, a count and a yes/no response."""
    rng = np.random.default_rng(4)
    n = 120
    arm = np.repeat(["Placebo", "KAP"], n // 2)
    time = np.ceil(20 * rng.exponential(np.where(arm == "KAP", 1.6, 1.0)))
    return pd.DataFrame(
        {
            "ID": [f"S{i}" for i in range(n)],
            "ARM": pd.Categorical(arm, ["Placebo", "KAP"]),
            "TIME": time,
            "EVENT": (rng.random(n) < 0.8).astype(int),
            "CAUSE": rng.integers(0, 3, n),
            "Y": (rng.random(n) < np.where(arm == "KAP", 0.6, 0.35)).astype(int),
            "COUNT": rng.poisson(np.where(arm == "KAP", 1.0, 2.0)),
            "SITE": rng.choice(list("abcdef"), n),
            "START": 0.0,
        }
    )  # fmt: skip


def intervals() -> pd.DataFrame:
    frame = rows()
    return frame.assign(LEFT=frame["TIME"] - 1, RIGHT=np.where(frame["EVENT"] == 1, frame["TIME"], np.inf))


def glmm(family: str, response: str):
    return ks.glmm(f"{response} ~ ARM + (1 | SITE)", rows(), family=family)


def gee(family: str = "binomial", response: str = "Y"):
    return ks.gee(f"{response} ~ ARM + cluster(SITE)", rows(), family=family)


#: result, words of its header
RATIOS = {
    "meta OR": (lambda: ks.meta_analysis(STUDIES, "OR"), "Odds ratio"),
    "meta RR Mantel-Haenszel": (lambda: ks.meta_analysis(STUDIES, "RR", "mantel-haenszel"), "Risk ratio"),
    "meta Peto": (lambda: ks.meta_analysis(STUDIES, "or", "peto"), "Odds ratio"),
    "meta of hazard ratios": (lambda: ks.meta_analysis(HAZARDS, "HR"), "Hazard ratio"),
    "meta in words": (lambda: ks.meta_analysis(HAZARDS, "hazard ratio"), "Hazard ratio"),
    "network OR": (lambda: ks.network_meta_analysis(ARMS, "OR", reference="P"), "Odds ratio"),
    "network RR": (lambda: ks.network_meta_analysis(ARMS, "RR", reference="P"), "Risk ratio"),
    "meta-regression": (lambda: ks.meta_regression(STUDIES, "~ dose", "OR"), "Ratio of odds ratios"),
    "subgroups": (lambda: ks.subgroups(rows(), "Y", by="ARM", factors=["SITE"], measure="OR"), "Odds ratio"),
    "cox coefficients": (lambda: ks.cox("Surv(TIME, EVENT) ~ ARM", rows()).coefficients, "Hazard ratio"),
    "cox ratios": (lambda: ks.cox("Surv(TIME, EVENT) ~ ARM", rows()).hazard_ratios(), "Hazard ratio"),
    "cox summary": (lambda: ks.cox("Surv(TIME, EVENT) ~ ARM", rows()).summary(), "Hazard ratio"),
    "fine-gray": (
        lambda: ks.fine_gray("Surv(TIME, CAUSE) ~ ARM", rows()).coefficients, "Subdistribution hazard ratio"),
    "cause-specific": (
        lambda: ks.cause_specific("Surv(TIME, CAUSE) ~ ARM", rows()).coefficients, "Cause-specific hazard ratio"),
    "weibull hazard": (
        lambda: ks.parametric_survival("Surv(TIME, EVENT) ~ ARM", rows()).log_hazard_ratios(), "Hazard ratio"),
    "weibull time": (lambda: ks.parametric_survival("Surv(TIME, EVENT) ~ ARM", rows()).time_ratios(), "Time ratio"),
    "interval cox": (
        lambda: ks.interval_cox("Surv(LEFT, RIGHT, type='interval2') ~ ARM", intervals()).coefficients, "Hazard ratio"),
    "counts": (
        lambda: ks.recurrent("Surv(START, TIME, EVENT) ~ ARM", rows(), id="ID", model="poisson").coefficients,
        "Rate ratio"),
    "glmm logit": (lambda: glmm("binomial", "Y").coefficients, "Odds ratio"),
    "glmm contrast": (lambda: glmm("binomial", "Y").lsmeans("ARM").contrast("trt.vs.ctrl"), "Odds ratio"),
    "glmm marginal": (
        lambda: glmm("binomial", "Y").marginal_means("ARM", scale="logit").contrast("trt.vs.ctrl"), "Odds ratio"),
    "glmm marginal risk": (
        lambda: glmm("binomial", "Y").marginal_means("ARM", scale="log").contrast("trt.vs.ctrl"), "Risk ratio"),
    "glmm poisson": (lambda: glmm("poisson", "COUNT").coefficients, "Rate ratio"),
    "gee logit": (lambda: gee().coefficients, "Odds ratio"),
    "gee contrast": (lambda: gee().lsmeans("ARM").contrast("trt.vs.ctrl"), "Odds ratio"),
    "gee poisson": (lambda: gee("poisson", "COUNT").lsmeans("ARM").contrast("pairwise"), "Rate ratio"),
    "risk ratio": (lambda: ks.risk_ratio(3, 20, 5, 22, "katz"), "Risk ratio"),
    "odds ratio": (lambda: ks.odds_ratio(3, 20, 5, 22, "woolf"), "Odds ratio"),
    "rate ratio": (lambda: ks.rate_ratio(3, 20, 5, 22, "wald"), "Rate ratio"),
    "paired odds": (lambda: ks.paired_odds_ratio(3, 5), "Odds ratio"),
    "paired risk": (lambda: ks.paired_risk_ratio(3, 5, 2, 10), "Paired risk ratio"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ks.errors.KapstatsWarning)
        yield


def natural(result) -> pd.DataFrame:
    """The numbers as ratios, by hand from the logs of `to_frame()`."""
    frame = result.to_frame()
    logs = result.meta["scale"] in ("log", "logit")
    return (
        np.exp(frame[["estimate", "conf_low", "conf_high"]]) if logs else frame[["estimate", "conf_low", "conf_high"]]
    )


@pytest.mark.parametrize("name", RATIOS)
def test_every_format_prints_the_ratio_under_its_name(name, tmp_path):
    make, words = RATIOS[name]
    result = make()
    table = result.table()
    assert words in table.columns
    at, limits = table.columns.index(words), table.columns.index("95% CI")
    expected = natural(result)
    assert [row[at] for row in table.rows] == [number(v) for v in expected["estimate"]]
    shown = [interval(a, b) for a, b in zip(expected["conf_low"], expected["conf_high"], strict=True)]
    assert [row[limits] for row in table.rows] == shown
    rtf = result.to_rtf(tmp_path / "a.rtf").read_text(encoding="utf-8")
    formats = (str(result), result.to_html(), result.to_markdown(), result.to_latex(), rtf, document(result, tmp_path))
    for text in formats:
        assert words in text
        assert all(number(v) in text for v in expected["estimate"])
    if result.meta["scale"] in ("log", "logit"):
        assert "SE" not in table.columns  # a standard error of a log says so
        assert any("Printed as ratios" in note for note in table.footnotes)


def document(result, folder) -> str:
    docx = pytest.importorskip("docx")
    table = docx.Document(str(result.to_docx(folder / "a.docx"))).tables[0]
    return "\n".join(cell.text for row in table.rows for cell in row.cells)


@pytest.mark.parametrize("name", [n for n in RATIOS if n != "cox summary"])
def test_figures_of_ratios_have_a_log_axis_and_the_ratio_beside_it(name):
    import matplotlib.pyplot as plt

    result = RATIOS[name][0]()
    ax = result.filter(term="pooled").plot() if "pooled" in list(result.frame.get("term", ())) else result.plot()
    texts = {text.get_text() for text in ax.texts}
    plt.close(ax.figure)
    assert ax.get_xscale() == "log"
    expected = natural(result).iloc[0]
    assert f"{number(expected['estimate'])} {interval(expected['conf_low'], expected['conf_high'])}" in texts


def test_rows_of_several_scales_say_which_each_is():
    found = ks.rmst("Surv(TIME, EVENT) ~ ARM", rows())
    said = dict(zip(found["quantity"], found.scales, strict=True))
    assert [said[q].is_ratio for q in ("rmst", "difference", "ratio", "rmtl ratio")] == [False, False, True, True]
    assert found.filter(quantity="ratio").table().columns.count("Ratio of restricted means") == 1
    wins = ks.win_ratio("Surv(TIME, EVENT) ~ ARM", rows())
    assert [s.is_ratio for s in wins.scales] == [True, False, True]


def test_an_intercept_is_named_for_what_it_is():
    found = glmm("binomial", "Y").coefficients
    table = found.table()
    odds = np.exp(found.to_frame().loc[0, "estimate"])
    assert table.rows[0][:2] == ("(Intercept)", number(odds))
    assert "(Intercept): odds." in table.footnotes


def test_log_odds_are_not_called_estimates():
    means = gee().lsmeans("ARM")
    assert "Log odds" in means.table().columns
    assert "Log odds" in means.exponentiate().table().columns or "Odds" in means.exponentiate().table().columns
    assert "Log proportion" in ks.meta_analysis({"x": [3, 4], "n": [20, 30]}, "log").table().columns


def test_observed_weights_of_a_logit_model_are_not_called_marginal():
    rng = np.random.default_rng(1)
    n = 2000
    x, a = rng.normal(size=n), rng.integers(0, 2, n)
    y = rng.random(n) < 1 / (1 + np.exp(-(-0.5 + a + 2.5 * x)))
    data = pd.DataFrame({"ID": np.arange(n), "ARM": np.where(a, "KAP", "Placebo"), "X": x, "Y": y.astype(int)})
    fit = ks.gee("Y ~ ARM + X + cluster(ID)", data, structure="independence")
    found = fit.lsmeans("ARM", weights="observed")
    # the mean of the linear predictor over the rows, and neither the mean probability nor its logit
    b = fit.coefficients["estimate"]
    np.testing.assert_allclose(found["estimate"][1] - found["estimate"][0], b[1], rtol=1e-10)
    assert "mean log odds over the rows" in found.meta["estimand"]
    assert "not marginal means" in str(found)
    assert "not marginal means" in str(found.contrast("trt.vs.ctrl"))
    assert "not marginal" not in str(fit.lsmeans("ARM"))


def test_pool_on_the_command_line_prints_and_draws_ratios(tmp_path, capsys):
    from kapstats.cli import main

    source, page = tmp_path / "studies.csv", tmp_path / "forest.html"
    STUDIES.to_csv(source, index=False)
    assert main(["pool", str(source), "--measure", "OR", "--out", str(page)]) == 0
    said = capsys.readouterr().out
    # study A: 12 of 40 against 5 of 41, odds ratio 12 * 36 / (5 * 28)
    assert "Odds ratio" in said
    assert re.search(r"^A +3\.09 ", said, re.M)
    shown = page.read_text(encoding="utf-8")
    assert "Odds ratio (95% CI)" in shown
