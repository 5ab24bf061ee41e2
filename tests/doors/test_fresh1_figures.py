"""Figures of results whose rows are levels, run past the end of follow-up, or whose names hold " - " or " / "."""

import numpy as np
import pandas as pd
import pytest

import kapstats as ks

ARMS = ["KAP - high", "KAP - low", "Placebo"]


@pytest.fixture(scope="module")
def trial():
    """120 people; Placebo is followed to 80.3 days, the others to 200.7."""
    rng = np.random.default_rng(1)
    arm = np.resize(ARMS, 120)
    end = np.where(arm == "Placebo", 80.3, 200.7)
    event = np.round(rng.exponential(100, 120), 1) + 0.1
    return pd.DataFrame(
        {"USUBJID": [f"S{i:03d}" for i in range(120)], "arm": arm, "x": rng.normal(size=120).round(1),
         "t": np.minimum(event, end), "e": (event <= end).astype(int),
         "cause": np.where(event > end, 0, 1 + (arm > "L"))}
    )  # fmt: skip


def last_drawn(ax):
    """The largest time that a step of a curve reaches."""
    return max(float(line.get_xdata()[-1]) for line in ax.lines if line.get_drawstyle().startswith("steps"))


def test_curves_in_figures_end_where_follow_up_ends(trial):
    rows = pd.DataFrame({"arm": ["Placebo", "KAP - low"], "x": [0.0, 1.0]})
    times = [5.0, 50.0, 150.0, 500.0]
    cox = ks.cox("Surv(t, e) ~ arm + x", trial, order={"arm": ARMS})
    causes = ks.cause_specific("Surv(t, cause) ~ x", trial)
    fine = ks.fine_gray("Surv(t, cause) ~ x", trial, cause=2)
    for found in (
        cox.survival(rows, times),
        cox.adjusted_survival("arm", times),
        causes.absolute_risk(rows, times, cause=1),
        fine.predict(rows, times),
    ):
        assert np.isnan(found["estimate"][found["time"] == 500]).all()
        ax = found.plot()
        assert last_drawn(ax) == 150
        shown = {t.get_text() for t in ax.texts}
        assert any("Placebo" in text for text in shown), shown  # the names stay beside the ends of the curves


def test_a_stratum_followed_shorter_ends_sooner_in_the_figure(trial):
    fit = ks.cox("Surv(t, e) ~ x + strata(arm)", trial, order={"arm": ARMS})
    ax = fit.survival(pd.DataFrame({"arm": ["Placebo", "KAP - low"], "x": [0.0, 0.0]})).plot()
    ends = sorted(float(line.get_xdata()[-1]) for line in ax.lines if line.get_drawstyle().startswith("steps"))
    assert ends[0] <= 80.3 < ends[1]


def test_nothing_known_is_said_and_not_drawn(trial):
    fit = ks.cox("Surv(t, e) ~ x", trial)
    with pytest.raises(ks.errors.FormulaError, match="no value is estimable"):
        fit.survival(trial.head(1), [500.0]).plot()


def test_levels_are_not_drawn_as_differences(trial):
    km = ks.kaplan_meier("Surv(t, e) ~ arm", trial, order={"arm": ARMS})
    cif = ks.cumulative_incidence("Surv(t, cause) ~ arm", trial, cause=1, order={"arm": ARMS})
    levels = [
        km.summary(),
        km.at([10, 50]),
        cif.at([10, 50]),
        ks.proportion([0, 5], [10, 10]),
        ks.rate([0, 5], [9, 9.5]),
    ]
    for found in levels:
        ax = found.plot()
        assert ax.get_xlabel() == "Estimate (95% CI)"
        assert not [line for line in ax.lines if list(line.get_xdata()) == [0, 0]]  # no line of no effect
    assert km.milestone([50]).plot().get_xlabel() == "Difference (95% CI)"
    headings = [t.get_text() for t in km.at([10, 50]).plot().texts if t.get_fontweight() == "bold"]
    assert headings == ["time 10", "time 50"]
    assert [t.get_text() for t in km.summary().plot().texts if t.get_fontweight() == "bold"] == []  # not by n


def test_arms_that_share_their_first_word_have_looks_of_their_own(trial):
    km = ks.kaplan_meier("Surv(t, e) ~ arm", trial, order={"arm": ["Placebo", "KAP - high", "KAP - low"]})
    ax = km.milestone([50]).plot()
    drawn = {(line.get_color(), line.get_marker()) for line in ax.lines if line.get_marker() not in ("None", None, "")}
    assert len(drawn) == 2
