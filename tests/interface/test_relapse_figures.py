"""Figures of the relapse results, hazard over time and episodes of every subject: numbers drawn are numbers given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import trapezoid

import kapstats as ks
from kapstats.errors import FormulaError
from kapstats.kernels.hazard_smoothing import weights
from kapstats.relapse.multistate import state_occupation
from kapstats.report.figures import style

NEW = pd.DataFrame({"arm": [0, 1]})


def trial(n: int, hazards: tuple[float, float] = (0.05, 0.1), shape: float = 1.0) -> pd.DataFrame:
    rng = np.random.default_rng(n)
    arm = np.arange(n) % 2
    t, c = rng.weibull(shape, n) / np.array(hazards)[arm], rng.uniform(5, 40, n)
    return pd.DataFrame({"t": np.minimum(t, c), "e": (t <= c).astype(int), "arm": arm})


def test_a_linear_hazard_keeps_its_value_up_to_the_edges() -> None:
    grid = (np.arange(20_000) + 0.5) * (30 / 20_000)
    times = np.array([0.0, 0.5, 4, 15, 26, 30])
    W = weights(times, grid, 6.0, 30.0)
    np.testing.assert_allclose(W @ ((2 + 0.3 * grid) * 30 / 20_000), 2 + 0.3 * times, rtol=1e-5)
    wide = weights(np.array([3.0, 10.0]), grid, 30.0, 30.0)
    np.testing.assert_allclose(wide @ ((2 + 0.3 * grid) * 30 / 20_000), [2.9, 5.0], rtol=1e-5)


def test_the_smoothed_hazard_finds_a_constant_hazard() -> None:
    frame = ks.kaplan_meier("Surv(t, e) ~ arm", trial(6_000)).smoothed_hazard(bandwidth=8).frame.query("time < 25")
    z = (frame["estimate"] - frame["arm"].map({0: 0.05, 1: 0.1})) / frame["std_error"]
    assert z.abs().max() < 4
    swapped = (frame["estimate"] - frame["arm"].map({0: 0.1, 1: 0.05})) / frame["std_error"]
    assert swapped.abs().min() > 4


def test_the_hazard_integrates_to_the_cumulative_hazard_of_each_model() -> None:
    data = trial(400)
    fit = ks.cox("Surv(t, e) ~ arm", data, ties="breslow")
    smooth = fit.smoothed_hazard(NEW).frame
    for arm, rows in smooth.groupby("arm"):
        end = rows["time"].iloc[-1]
        area = trapezoid(rows["estimate"], rows["time"])
        whole = -np.log(fit.survival(NEW.iloc[[arm]], [end])["estimate"].to_numpy()[0])
        assert area == pytest.approx(whole, rel=0.1)
    ratio = smooth.query("arm == 1")["estimate"].to_numpy() / smooth.query("arm == 0")["estimate"].to_numpy()
    np.testing.assert_allclose(ratio, fit.hazard_ratios()["estimate"].to_numpy()[0], rtol=1e-9)


def test_a_cox_model_without_effect_has_the_errors_of_the_curve() -> None:
    data = trial(300).assign(z=np.arange(300) // 2 % 2)
    event = data["e"] == 1
    km = ks.kaplan_meier("Surv(t, e) ~ 1", data)
    end = float(data.loc[event, "t"].max())
    fit = ks.cox("Surv(t, e) ~ z", data, ties="breslow")
    mean = pd.DataFrame({"z": [0.5]})
    at = np.linspace(6.0, end - 6.0, 7).tolist()
    one = fit.smoothed_hazard(mean, at, bandwidth=4).frame
    two = km.smoothed_hazard(at, bandwidth=4).frame
    np.testing.assert_allclose(one["estimate"], two["estimate"], rtol=0.05)
    np.testing.assert_allclose(one["std_error"], two["std_error"], rtol=0.1)


def test_hazard_figures_draw_the_frame() -> None:
    data = trial(200)
    km, fit = ks.kaplan_meier("Surv(t, e) ~ arm", data), ks.cox("Surv(t, e) ~ arm", data)
    weibull = ks.parametric_survival("Surv(t, e) ~ arm", data)
    pairs = [
        (km.plot(kind="hazard", ax=style.blank(6, 4)), km.smoothed_hazard().frame),
        (fit.plot(kind="hazard", newdata=NEW, ax=style.blank(6, 4)), fit.smoothed_hazard(NEW).frame),
        (weibull.plot(kind="hazard", newdata=NEW, times=[5, 10], ax=style.blank(6, 4)),
         weibull.predict(NEW, type="hazard", times=[5, 10]).frame),
    ]  # fmt: skip
    for ax, frame in pairs:
        drawn = [list(line.get_ydata()) for line in ax.lines[:2]]
        assert drawn == [frame.query(f"arm == {a}")["estimate"].tolist() for a in (0, 1)]
        assert ax.get_ylabel() == "Hazard (95% CI)"


@pytest.mark.parametrize("kind", ["cox", "weibull"])
def test_a_hazard_needs_rows_to_be_drawn_for(kind: str) -> None:
    data = trial(200)
    fit = ks.cox("Surv(t, e) ~ arm", data) if kind == "cox" else ks.parametric_survival("Surv(t, e) ~ arm", data)
    with pytest.raises(FormulaError, match="newdata"):
        fit.plot(kind="hazard")
    with pytest.raises(FormulaError, match="bandwidth"):
        ks.kaplan_meier("Surv(t, e) ~ 1", data).smoothed_hazard(bandwidth=-1)


def paths() -> pd.DataFrame:
    rows = [
        ("A", 0, 5, "response", "KAP"), ("A", 5, 9, "none", "KAP"), ("A", 9, 20, "relapse", "KAP"),
        ("A", 20, 30, "none", "KAP"), ("B", 0, 12, "left", "Placebo"), ("C", 0, 40, "none", "Placebo"),
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["USUBJID", "a", "b", "to", "arm"])


def test_swimmer_lanes_are_the_episodes() -> None:
    order = {"arm": ["Placebo", "KAP"]}
    fit = state_occupation("Surv(a, b, to) ~ arm", paths(), initial="ill", censored="none", order=order)
    episodes = fit.episodes
    stays = list(zip(*(episodes[c] for c in ("USUBJID", "state", "start", "stop")), strict=True))
    assert stays == [("B", "ill", 0, 12), ("C", "ill", 0, 40), ("A", "ill", 0, 5), ("A", "response", 5, 20),
                     ("A", "relapse", 20, 30)]  # fmt: skip
    assert episodes["entered"].isna().tolist() == [False, True, False, False, True]
    ax = fit.plot(kind="swimmer", ax=style.blank(6, 3))
    bars = sorted((p.get_x(), p.get_x() + p.get_width(), p.get_y()) for p in ax.patches)
    assert [(x, end) for x, end, _ in bars] == [(0, 5), (0, 12), (0, 40), (5, 20), (20, 30)]
    lane = {end: round(y + 0.36) for _, end, y in bars}
    assert [lane[e] for e in (40, 12, 5, 20, 30)] == [0, 1, 2, 2, 2]
    ends = sorted((float(m.get_xdata()[0]), m.get_marker()) for m in ax.lines if len(m.get_xdata()) == 1)
    assert [x for x, m in ends if m == ">"] == [30, 40]
    assert [x for x, m in ends if m != ">"] == [12]
    words = [t.get_text() for t in ax.get_legend().get_texts()]
    assert words == ["ill", "response", "relapse", "left"]


def test_many_subjects_are_thinned_and_the_axis_says_so() -> None:
    rows = pd.DataFrame({"USUBJID": range(50), "a": 0, "b": np.arange(50) + 1, "to": "none"})
    fit = state_occupation("Surv(a, b, to) ~ 1", pd.concat([rows, paths()]), initial="ill", censored="none")
    ax = fit.plot(kind="swimmer", most=20, ax=style.blank(6, 3))
    assert ax.get_ylabel() == "18 of 53 subjects"


def test_causes_are_stacked_a_panel_a_group():
    data = pd.DataFrame({"t": [1, 2, 3, 4, 5, 6.0], "s": [1, 2, 0, 2, 1, 1], "g": [0, 0, 0, 1, 1, 1]})
    found = ks.cumulative_incidence("Surv(t, s) ~ g", data, cause=None)
    ax = found.plot(stacked=True)
    panels = ax.child_axes
    assert [p.get_title(loc="left") for p in panels] == ["0 (n = 3)", "1 (n = 3)"]
    tops = [max(line.get_ydata().max() for line in p.lines if len(line.get_ydata())) for p in panels]
    ends = found.frame.groupby(["g", "cause"])["estimate"].last().groupby("g").sum()
    np.testing.assert_allclose(tops[0], ends[0])
    with pytest.raises(ks.errors.FormulaError, match="cause=None"):
        ks.cumulative_incidence("Surv(t, s) ~ g", data, cause=1).plot(stacked=True)


def test_medians_are_drawn_where_curves_reach_one_half():
    data = pd.DataFrame({"t": [1, 2, 3, 4, 5, 6.0], "e": [1, 1, 1, 0, 0, 0], "g": [0, 0, 0, 1, 1, 1]})
    ax = ks.kaplan_meier("Surv(t, e) ~ g", data).plot()
    drops = [s for c in ax.collections if hasattr(c, "get_segments") for s in c.get_segments()]
    assert any(np.allclose(s[:, 0], 2.0) and np.isclose(s[1, 1], 0.5) for s in drops)


def test_the_forest_of_a_cox_model_names_the_arms_and_not_the_columns() -> None:
    rng = np.random.default_rng(5)
    frame = pd.DataFrame(
        {"t": rng.exponential(size=60), "e": 1, "arm": ["KAP IV", "Placebo"] * 30, "z": rng.normal(size=60)}
    )
    fit = ks.cox("Surv(t, e) ~ arm + z", frame, order={"arm": ["Placebo", "KAP IV"]})
    shown = [text.get_text() for text in fit.plot().texts]
    assert {"KAP IV - Placebo", "z"} <= set(shown)
    assert fit.coefficients["term"].tolist() == ["armKAP IV", "z"]
