"""Figures of missing data, tipping points and dose: what they draw is what the table says."""

import matplotlib
import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from kapstats.errors import FormulaError
from kapstats.report.figures.dropout import SEEN, dropout
from kapstats.report.figures.tipping_point import tipping_point

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def closed():
    yield
    from matplotlib import pyplot

    pyplot.close("all")


def line(deltas=(0, 10, 20), low=-8.0, name="KAP IV - Placebo"):
    d = np.asarray(deltas, dtype=float)
    return pd.DataFrame({"delta": d, "contrast": name, "estimate": low + 0.3 * d, "conf_low": low - 3 + 0.3 * d,
                         "conf_high": low + 3 + 0.3 * d})  # fmt: skip


def test_the_tick_stands_where_the_limit_passes_zero():
    ax = tipping_point(line())
    assert [t.get_text() for t in ax.texts if t.get_text() == "16.7"] == ["16.7"]
    tick = next(drawn for drawn in ax.lines if drawn.get_marker() == "|")
    assert tick.get_xdata()[0] == pytest.approx(50 / 3)
    assert not [drawn for drawn in tipping_point(line((0, 5))).lines if drawn.get_marker() == "|"]


def test_a_contrast_has_the_colour_of_its_active_arm():
    from kapstats.report.figures import style

    drawn = tipping_point(line()).lines[0]
    assert drawn.get_color() == style.ROUTES["INTRAVENOUS"][0].colour


def test_grey_cells_of_a_grid_are_those_whose_interval_holds_zero():
    parts = [line((0, 10, 20), low=-8 - r / 5).assign(reference_delta=float(r)) for r in (0, 10)]
    frame = pd.concat(parts, ignore_index=True)
    shade = np.asarray(tipping_point(frame).images[0].get_array())
    held = ((frame["conf_low"] <= 0) & (frame["conf_high"] >= 0)).to_numpy().reshape(2, 3)
    np.testing.assert_array_equal(shade > 0, held)
    with pytest.raises(FormulaError, match="one contrast"):
        tipping_point(pd.concat([frame, frame.assign(contrast="other")]))


def test_patterns_are_drawn_as_they_are_counted():
    found = ks.missing_patterns(ks.datasets.load("kap-parallel"))
    ax = found.plot()
    dark = sum(drawn.get_markerfacecolor() == SEEN and drawn.get_marker() == "s" for drawn in ax.lines)
    patterns = found.frame["pattern"].unique()
    arms_with_that_look = 1  # the square of the IV arm over its column
    assert dark == sum(p.count("x") for p in patterns) + arms_with_that_look
    rest = dropout(found.frame, visits=found.meta["visits"], limit=2).get_xlabel()
    shown = found.frame[found.frame["pattern"].isin(patterns[:2])]["n"].sum()
    assert f"{240 - shown} subjects not shown" in rest


def test_bars_of_reasons_reach_the_share_that_left():
    trial = ks.datasets.load("kap-parallel")
    found = ks.dropout_reasons(trial, trial.adsl)
    ax = found.plot()
    tops = {round(b.get_x() + b.get_width() / 2, 6): 0.0 for b in ax.patches}
    for bar in ax.patches:
        at = round(bar.get_x() + bar.get_width() / 2, 6)
        tops[at] = max(tops[at], bar.get_y() + bar.get_height())
    expected = found.frame.groupby(["TRT01P", "AVISIT"], sort=False)["percent"].sum()
    np.testing.assert_allclose(list(tops.values()), expected.to_numpy(), atol=1e-9)


def test_the_dose_figure_holds_means_and_every_model():
    table = pd.DataFrame({"estimate": [0.0, -4.0, -6.0, -7.2], "std_error": [0.5] * 4})
    fit = ks.dose_response(table, [0, 28, 56, 84], models=["linear", "emax"], draws=20)
    ax = fit.plot(xlabel="mg")
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["linear", "emax", "average"]
    np.testing.assert_allclose(ax.containers[0].lines[0].get_ydata(), table["estimate"])


@pytest.mark.parametrize("figure", ["tipping_point", "dropout_reasons"])
def test_results_of_another_kind_are_refused(figure):
    other = ks.Estimates(pd.DataFrame({"term": ["a"], "estimate": [1.0], "conf_low": [0.0], "conf_high": [2.0]}))
    with pytest.raises(FormulaError, match=figure):
        other.plot(figure=figure)
