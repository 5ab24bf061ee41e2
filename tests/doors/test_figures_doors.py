"""Figures through `plot()`: what is drawn is what the result says, and a plain savefig shows all of it."""

from __future__ import annotations

import io

import matplotlib
import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from kapstats.errors import FormulaError

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def closed():
    yield
    matplotlib.pyplot.close("all")


@pytest.fixture(scope="module")
def relapse():
    adtte = ks.datasets.load("kap-parallel").adtte
    two = adtte[adtte["TRT01P"].isin(["Placebo", "KAP IV"])].assign(EVENT=lambda d: 1 - d["CNSR"], START=0.0)
    return two.assign(STATUS=two["EVENT"] + ((two["AVAL"] > 60) & (two["EVENT"] == 1)))


def panels(ax):
    return [ax, *ax.child_axes]


def steps(ax):
    return [line for a in panels(ax) for line in a.lines if line.get_drawstyle() == "steps-post"]


def outside(figure) -> list[str]:
    """What a plain savefig cuts off: the margins of a padded picture that a plain one does not have."""
    plain, padded = io.BytesIO(), io.BytesIO()
    figure.savefig(plain, dpi=60, format="png", facecolor="white")
    width, height = figure.get_size_inches()
    box = matplotlib.transforms.Bbox([[-3, -3], [width + 3, height + 3]])
    figure.savefig(padded, dpi=60, format="png", facecolor="white", bbox_inches=box)
    image = matplotlib.image.imread(io.BytesIO(padded.getvalue()))[..., :3].min(axis=2)
    edge = 180
    cut = {"top": image[:edge], "bottom": image[-edge:], "left": image[:, :edge], "right": image[:, -edge:]}
    return [side for side, strip in cut.items() if (strip < 0.98).any()]


def curves_of(data):
    new = pd.DataFrame({"TRT01P": ["Placebo", "KAP IV"]})
    cox = ks.cox("Surv(AVAL, EVENT) ~ TRT01P", data)
    fine = ks.fine_gray("Surv(AVAL, STATUS) ~ TRT01P", data)
    weibull = ks.parametric_survival("Surv(AVAL, EVENT) ~ TRT01P", data)
    km = ks.kaplan_meier("Surv(AVAL, EVENT) ~ TRT01P", data)
    return {
        "kaplan_meier": (km, "Probability without event", 1.0),
        "cumulative hazard": (km.hazard(), "Cumulative hazard", 0.0),
        "cumulative_incidence": (ks.cumulative_incidence("Surv(AVAL, STATUS) ~ TRT01P", data, cause=1),
                                 "Cumulative incidence", 0.0),
        "mean_cumulative_function": (
            ks.mean_cumulative_function("Surv(START, AVAL, EVENT) ~ TRT01P", data, id="USUBJID"), "Expected events", 0.0
        ),
        "cox survival": (cox.survival(new), "Probability without event", 1.0),
        "cox adjusted": (cox.adjusted_survival("TRT01P"), "Probability without event", 1.0),
        "cox baseline": (cox.baseline(), "Cumulative hazard", 0.0),
        "fine_gray": (fine.predict(new), "Cumulative incidence", 0.0),
        "parametric": (weibull.predict(new), "Probability without event", 1.0),
    }  # fmt: skip


CURVES = [
    "kaplan_meier", "cumulative hazard", "cumulative_incidence", "mean_cumulative_function", "cox survival",
    "cox adjusted", "cox baseline", "fine_gray", "parametric",
]  # fmt: skip


@pytest.fixture(scope="module")
def curves(relapse):
    return curves_of(relapse)


@pytest.mark.parametrize("name", CURVES)
def test_every_curve_is_drawn_as_what_it_is(curves, name):
    result, words, start = curves[name]
    ax = result.plot()
    assert ax.get_ylabel().startswith(words)
    assert {float(line.get_ydata()[0]) for line in steps(ax)} == {start}
    assert ax.get_xlabel() == "Time"
    assert result.plot(unit="months").get_xlabel() == "Time (months)"


@pytest.mark.parametrize("name", [*CURVES, "win_ratio", "rmst", "forest", "profile"])
def test_a_plain_savefig_shows_all_that_is_drawn(curves, relapse, name):
    if name in curves:
        ax = curves[name][0].plot()
    elif name == "profile":
        scores = ks.datasets.load("kap-parallel").adqs.query("PARAMCD == 'MADRS'")
        ax = ks.mmrm("CHG ~ TRT01P*AVISIT + us(AVISIT | USUBJID)", scores).lsmeans("TRT01P", by="AVISIT").plot()
    elif name == "forest":
        ax = ks.cox("Surv(AVAL, EVENT) ~ TRT01P", relapse).plot()
    else:
        ax = getattr(ks, name)("Surv(AVAL, EVENT) ~ TRT01P", relapse).plot()
    assert outside(ax.figure) == []


def test_long_names_of_arms_find_room_without_shrinking_the_axes(relapse):
    long = relapse.assign(TRT01P=relapse["TRT01P"] + " with psychotherapy in eight sessions over four weeks")
    small = ks.kaplan_meier("Surv(AVAL, EVENT) ~ TRT01P", relapse).plot()
    large = ks.kaplan_meier("Surv(AVAL, EVENT) ~ TRT01P", long, order={"TRT01P": sorted(set(long["TRT01P"]))}).plot()
    assert outside(large.figure) == []
    np.testing.assert_allclose(large.get_window_extent().width, small.get_window_extent().width, rtol=1e-6)


def test_an_event_at_time_zero_is_a_drop_from_one_and_the_last_band_reaches_its_end():
    data = pd.DataFrame({"t": [0, 0, 2, 5, 9, 10.0], "e": [1, 1, 0, 1, 1, 1]})
    km = ks.kaplan_meier("Surv(t, e) ~ 1", data)
    ax = km.plot()
    (line,) = steps(ax)
    assert line.get_xdata()[:2].tolist() == [0.0, 0.0]
    np.testing.assert_allclose(line.get_ydata()[:2], [1.0, 4 / 6])
    corners = np.vstack([path.vertices for band in ax.collections for path in band.get_paths()])
    limits = km.to_frame().set_index("time").loc[9.0, ["conf_low", "conf_high"]].astype(float)
    for limit in limits:  # the interval of S on [9, 10) reaches to 10, where S is 0 and has none
        at = corners[np.isclose(corners[:, 1], limit)][:, 0]
        assert (at.min(), at.max()) == (9.0, 10.0)


def test_every_cause_is_drawn_and_named(relapse):
    both = ks.cumulative_incidence("Surv(AVAL, STATUS) ~ TRT01P", relapse, cause=None)
    ax = both.plot()
    assert [a.get_title(loc="left") for a in ax.child_axes] == ["cause 1", "cause 2"]
    for panel, cause in zip(ax.child_axes, (1, 2), strict=True):
        heights = sorted(float(line.get_ydata()[-1]) for line in steps(panel))
        last = both.to_frame().query(f"cause == {cause}").groupby("TRT01P")["estimate"].last()
        np.testing.assert_allclose(heights, sorted(last))
    words = relapse.assign(STATUS=relapse["STATUS"].map({0: "none", 1: "Early relapse", 2: "Late relapse"}))
    one = ks.cumulative_incidence("Surv(AVAL, STATUS) ~ TRT01P", words, cause="Late relapse", censored="none")
    assert one.plot().get_title(loc="left") == "Late relapse"


def test_rows_predicted_for_carry_their_values_as_names(relapse):
    cox = ks.cox("Surv(AVAL, EVENT) ~ TRT01P", relapse)
    ax = cox.survival(pd.DataFrame({"TRT01P": ["Placebo", "KAP IV"], "AGE": [40, 40]})).plot()
    texts = {t.get_text() for t in ax.texts}
    assert {"Placebo", "KAP IV"} <= texts


def test_too_many_curves_are_refused_with_the_remedy(relapse):
    weibull = ks.parametric_survival("Surv(AVAL, EVENT) ~ SCORE", relapse.assign(SCORE=np.arange(len(relapse))))
    with pytest.raises(FormulaError, match="newdata"):
        weibull.predict(times=[10.0, 20.0]).plot()


def test_ticks_follow_the_unit():
    data = pd.DataFrame({"t": np.arange(1.0, 85.0), "e": 1})
    km = ks.kaplan_meier("Surv(t, e) ~ 1", data)
    assert km.plot(unit="days").get_xticks().tolist() == [0, 14, 28, 42, 56, 70, 84]
    assert km.plot(unit="months").get_xticks().tolist() == [0, 12, 24, 36, 48, 60, 72, 84]
    assert km.plot().get_xticks().tolist() == [0, 20, 40, 60, 80]


def axes_by_label(ax):
    return {panel.get_xlabel(): panel for panel in panels(ax) if panel.get_xlabel()}


def drawn(panel):
    """Estimates drawn as points on one axis."""
    return [float(line.get_xdata()[0]) for line in panel.lines if line.get_marker() not in ("None", "", "x")]


def test_win_statistics_have_their_names_and_axes(relapse):
    found = ks.win_ratio("Surv(AVAL, EVENT) ~ TRT01P", relapse)
    shown = axes_by_label(found.plot())
    value = found.to_frame().set_index("quantity")["estimate"]
    ratio, benefit = shown["Ratio (95% CI)"], shown["Net benefit (95% CI)"]
    assert (ratio.get_xscale(), benefit.get_xscale()) == ("log", "linear")
    np.testing.assert_allclose(drawn(ratio), value[["win ratio", "win odds"]])
    np.testing.assert_allclose(drawn(benefit), value[["net benefit"]])
    words = {t.get_text() for panel in shown.values() for t in panel.texts}
    assert {"Win ratio", "Win odds", "KAP IV / Placebo", "KAP IV - Placebo"} <= words


def test_restricted_means_differences_and_ratios_are_not_on_one_axis(relapse):
    found = ks.rmst("Surv(AVAL, EVENT) ~ TRT01P", relapse)
    shown = axes_by_label(found.plot())
    value = found.to_frame().groupby("quantity", sort=False)["estimate"].apply(list)
    means = shown["Restricted mean (95% CI)"]
    difference = shown["Difference of restricted means (95% CI)"]
    np.testing.assert_allclose(drawn(means), value["rmst"])
    np.testing.assert_allclose(drawn(difference), value["difference"])
    assert means.get_xscale() == difference.get_xscale() == "linear"
    assert shown["Ratio (95% CI)"].get_xscale() == "log"
    assert {"Placebo", "KAP IV"} <= {t.get_text() for t in means.texts}
    upright = lambda panel: [v for line in panel.lines if len(set(line.get_xdata())) == 1 for v in line.get_xdata()]  # noqa: E731
    assert 0.0 in upright(difference)
    assert 0.0 not in upright(means)


def test_a_negative_difference_does_not_vanish_from_a_mixed_figure(relapse):
    turned = ks.rmst("Surv(AVAL, EVENT) ~ TRT01P", relapse, order={"TRT01P": ["KAP IV", "Placebo"]})
    panel = axes_by_label(turned.plot())["Difference of restricted means (95% CI)"]
    (value,) = drawn(panel)
    assert value < 0
    low, high = panel.get_xlim()
    assert low < value < high


def test_curves_of_adverse_events_are_drawn_as_what_they_are():
    """Most subjects have their first event on the first day: the curve begins high and is an incidence all the same."""
    ae = ks.incidence(ks.datasets.load("kap-parallel"), by="TRT01A")
    first = ae.time_to_first(None)
    ax = first.plot()
    assert ax.get_ylabel().startswith("Cumulative incidence")
    assert ax.get_xlabel() == "Time (days)"
    assert {float(line.get_ydata()[0]) for line in steps(ax)} == {0.0}
    last = first.to_frame().groupby("TRT01A", sort=False)["estimate"].last()
    np.testing.assert_allclose(sorted(float(line.get_ydata()[-1]) for line in steps(ax)), sorted(last))
    assert ae.recurrent(None).plot().get_ylabel().startswith("Expected events")
    assert ae.resolution("Nausea").plot().get_ylabel().startswith("Probability of not yet being resolved")
    assert ae.prevalence("Dissociation").plot().get_ylabel().startswith("Subjects with Dissociation now")
