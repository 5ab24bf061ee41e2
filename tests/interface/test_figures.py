"""Figures: the numbers drawn are the numbers given, colours can be told apart, SVG repeats and describes itself."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kapstats as ks
from kapstats.errors import FormulaError
from kapstats.estimates import Estimates, Picture, meta
from kapstats.report.figures import (
    adverse_events,
    benefit_risk,
    butterfly,
    choose,
    course,
    dot,
    forest,
    kaplan_meier,
    prevalence,
    profile,
    severity,
    steps,
    style,
    timeline,
    turnbull,
    volcano,
)
from kapstats.report.figures import cumulative_incidence as incidence
from kapstats.safety.benefit_risk import benefit_risk as numbers_of

ARMS = ["Placebo", "KAP IV", "KAP IM", "KAP Oral", "KAP Sublingual", "KAP Nasal"]

#: Machado et al. 2009, severity 1.0, applied to linear RGB
SIGHT = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def linear(colour: str) -> np.ndarray:
    channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(rgb, 0, 1) / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(one: str, two: str) -> float:
    light, dark = sorted((float(np.array([0.2126, 0.7152, 0.0722]) @ linear(c)) for c in (one, two)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("side", ["colour", "dark"])
@pytest.mark.parametrize("sight", SIGHT)
def test_routes_can_be_told_apart(side: str, sight: str) -> None:
    colours = [getattr(mark, side) for mark in style.marks(ARMS).values()]
    seen = [lab(SIGHT[sight] @ linear(c)) for c in colours]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) >= 19


def test_a_palette_of_red_and_green_would_fail_the_same_check() -> None:
    red, green = (lab(SIGHT["deuteranopia"] @ linear(c)) for c in ("#c05050", "#7f7f20"))
    assert np.linalg.norm(red - green) < 19


def test_marks_stand_out_on_their_page() -> None:
    for mark, _ in style.ROUTES.values():
        assert contrast(mark.colour, "#ffffff") >= 3
        assert contrast(mark.dark, "#14171b") >= 3
    assert contrast(style.MUTED, "#ffffff") >= 4.5


def test_a_route_has_one_colour_however_it_is_written() -> None:
    spellings = ["INTRAVENOUS", "KAP IV", "ketamine iv 0.5 mg/kg", "Intravenous infusion"]
    assert {style.marks([s])[s].colour for s in spellings} == {style.ROUTES["INTRAVENOUS"][0].colour}
    two_doses = style.marks(["KAP IV 0.5", "KAP IV 1.0"])
    assert len({m.marker for m in two_doses.values()}) == 2


def test_arms_without_a_route_get_colours_of_their_own() -> None:
    looks = style.marks(["Placebo", "Xanomeline Low Dose", "Xanomeline High Dose"])
    assert len({m.colour for m in looks.values()}) == 3
    assert looks["Placebo"].colour == style.ROUTES["PLACEBO"][0].colour


@settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(-1000, 1000).map(float), max_size=12), st.integers(1, 50).map(float))
def test_labels_keep_order_and_distance(wanted: list[float], gap: float) -> None:
    placed = style.spread(wanted, gap)
    order = np.argsort(wanted, kind="stable")
    assert all(b - a >= gap - 1e-6 for a, b in itertools.pairwise(np.array(placed)[order]))
    if all(b - a >= gap + 1e-9 for a, b in itertools.pairwise(sorted(wanted))):
        assert np.allclose(placed, wanted, atol=1e-9)


def means() -> pd.DataFrame:
    rows = [(a, v, -5.0 * i - k, -5.0 * i - k - 2, -5.0 * i - k + 2, 20 + i, -5.0 * i)
            for i, a in enumerate(ARMS[:3]) for k, v in enumerate(["Day 1", "Day 7"])]  # fmt: skip
    return pd.DataFrame(rows, columns=["TRT01P", "AVISIT", "estimate", "conf_low", "conf_high", "n", "truth"])


def drawn_text(ax: object) -> list[str]:
    return [t.get_text() for t in ax.findobj(lambda a: hasattr(a, "get_text")) if t.get_text()]  # type: ignore[attr-defined]


def test_profile_draws_estimates_limits_truth_and_counts() -> None:
    frame = means()
    ax = profile.profile(frame, at={"Day 1": 1, "Day 7": 7}, ax=style.blank(6, 4))
    lines = [c.lines[0] for c in ax.containers]
    assert [list(line.get_ydata()) for line in lines] == [[0, -1], [-5, -6], [-10, -11]]
    bars = [segment[:, 1].tolist() for c in ax.containers for segment in c.lines[2][0].get_segments()]
    assert sorted(map(sorted, bars)) == sorted(sorted(x) for x in frame[["conf_low", "conf_high"]].to_numpy().tolist())
    words = drawn_text(ax)
    assert {"Placebo", "KAP IV", "KAP IM", "true value", "20", "21", "22"} <= set(words)
    crosses = [line for line in ax.lines if line.get_marker() == "x" and len(line.get_ydata()) == 2]
    assert [list(line.get_ydata()) for line in crosses] == [[0, 0], [-5, -5], [-10, -10]]


def survival() -> pd.DataFrame:
    one = {"time": [2.0, 4.0, 9.0], "n_risk": [5, 4, 2], "n_event": [1, 2, 0], "n_censor": [0, 0, 2],
           "estimate": [0.8, 0.4, 0.4], "conf_low": [0.2, 0.05, 0.05], "conf_high": [0.97, 0.75, 0.75]}  # fmt: skip
    other = {**one, "time": [1.0, 5.0, 8.0], "estimate": [0.8, 0.48, 0.48]}
    return pd.concat([pd.DataFrame(one).assign(ARM="Placebo"), pd.DataFrame(other).assign(ARM="KAP IV")])


def test_kaplan_meier_steps_censor_marks_and_numbers_at_risk() -> None:
    frame = survival()
    ax = kaplan_meier.kaplan_meier(frame, strata=["ARM"], times=[0, 4, 8], ax=style.blank(6, 4))
    stairs = [line for line in ax.lines if line.get_drawstyle() == "steps-post"]
    assert list(stairs[0].get_xdata()) == [0, 2, 4, 9]
    assert list(stairs[0].get_ydata()) == [1, 0.8, 0.4, 0.4]
    censored = [line for line in ax.lines if line.get_marker() == "|"]
    assert list(censored[0].get_xdata()) == [9.0]
    below = [t.get_text() for t in ax.texts if t.get_text().isdigit()]
    assert below == ["5", "4", "2", "5", "4", "2"]


def test_number_at_risk_counts_those_not_yet_gone() -> None:
    times = np.array([2, 2, 4, 4, 9.0])
    rows = pd.DataFrame({"time": [2.0, 4.0, 9.0], "n_risk": [5, 3, 1]})
    assert [kaplan_meier.at_risk(rows, t) for t in range(11)] == [int((times >= t).sum()) for t in range(11)]


def test_many_curves_get_intervals_at_chosen_times() -> None:
    frame = pd.concat([survival().query("ARM == 'Placebo'").assign(ARM=a) for a in ARMS])
    ax = kaplan_meier.kaplan_meier(frame, strata=["ARM"], times=[0, 4], ax=style.blank(6, 4))
    spans = [s[:, 1].tolist() for c in ax.collections for s in c.get_segments()]
    assert spans == [[0.05, 0.75]] * 6


def test_forest_prints_what_it_draws() -> None:
    frame = pd.DataFrame({"contrast": ["KAP IV - Placebo", "KAP IM - Placebo"], "estimate": [-6.54, np.nan],
                          "conf_low": [-9.05, np.nan], "conf_high": [-4.02, np.nan]})  # fmt: skip
    ax = forest.forest(frame, ax=style.blank(5, 3))
    words = drawn_text(ax)
    assert "-6.5 (-9.1, -4.0)" in words
    assert "not estimable" in words
    assert any(list(line.get_xdata()) == [-9.05, -4.02] for line in ax.lines)


def test_forest_of_ratios_is_logarithmic_around_one() -> None:
    frame = pd.DataFrame({"term": ["a"], "estimate": [0.5], "conf_low": [0.2], "conf_high": [1.3]})
    ax = forest.plot(Estimates(frame, meta(method="m", scale="natural")), ax=style.blank(5, 3))
    assert ax.get_xscale() == "log"
    assert [1, 1] in [list(line.get_xdata()) for line in ax.lines]


def events() -> tuple[pd.DataFrame, pd.DataFrame]:
    rows = [(t, g, p) for t, ps in {"NAUSEA": (10, 40), "HEADACHE": (20, 22), "RASH": (0, 0)}.items()
            for g, p in zip(["PLACEBO", "INTRAVENOUS"], ps, strict=True)]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["AEDECOD", "ROUTE", "percent"])
    compared = pd.DataFrame({"AEDECOD": ["NAUSEA", "HEADACHE", "RASH"], "ROUTE": "INTRAVENOUS",
                             "estimate": [0.3, 0.02, 0.0], "conf_low": [0.1, -0.1, -0.1], "conf_high": [0.5, 0.2, 0.1],
                             "p_value": [0.001, 0.7, 1.0]})  # fmt: skip
    return frame, compared


def test_dot_plot_orders_terms_and_draws_both_panels() -> None:
    frame, compared = events()
    whole = dot.dot(frame, compared, ax=style.blank(7, 3))
    left, right = whole.child_axes
    assert [t.get_text() for t in left.get_yticklabels()] == ["Nausea", "Headache"]
    assert sorted(float(v) for line in left.lines for v in line.get_xdata()) == [10, 20, 22, 40]
    spans = [s[:, 0].tolist() for c in right.collections if hasattr(c, "get_segments") for s in c.get_segments()]
    assert spans == [[10, 50], [-10, 20]]


def test_volcano_names_what_stands_out() -> None:
    _, compared = events()
    ax = volcano.volcano(compared, by="ROUTE", ax=style.blank(6, 4))
    assert "Nausea" in drawn_text(ax)
    assert "Headache" not in drawn_text(ax)


def test_butterfly_and_course_and_cumulative_incidence_draw() -> None:
    frame, _ = events()
    ax = butterfly.butterfly(frame, groups=("PLACEBO", "INTRAVENOUS"), by="ROUTE", ax=style.blank(6, 3))
    assert sorted(round(p.get_width()) for p in ax.patches) == [-20, -10, 22, 40]
    minutes = pd.DataFrame(
        {"ROUTE": ["ORAL"] * 2, "ATPTN": [0, 40], "estimate": [1.0, 8], "conf_low": [0.0, 6], "conf_high": [2.0, 10]}
    )
    ax = course.course(minutes, ax=style.blank(6, 3))
    assert list(ax.containers[0].lines[0].get_ydata()) == [1, 8]
    rising = survival().assign(estimate=lambda f: 1 - f["estimate"])
    ax = incidence.cumulative_incidence(rising, strata=["ARM"], ax=style.blank(6, 3))
    stairs = [line for line in ax.lines if line.get_drawstyle() == "steps-post"]
    assert np.allclose(stairs[0].get_ydata(), [0, 0.2, 0.6, 0.6])


def test_a_figure_is_stated_by_its_result_not_guessed_from_its_numbers() -> None:
    about = meta(method="km")
    full = survival()
    columns = ["estimate", "conf_low", "conf_high"]
    for scaled in (1.0, 0.4):  # a survival curve stays one when it begins low, an incidence when it begins high
        low = full.assign(**(scaled * full[columns]))
        for kind, words in (("kaplan_meier", "Probability without"), ("cumulative_incidence", "Cumulative incidence")):
            stated = Estimates(low, about, picture=Picture(kind, {"strata": ["ARM"]}))
            ax = choose.draw(stated, ax=style.blank(5, 4))
            assert ax.get_ylabel().startswith(words)
            assert "KAP IV" in drawn_text(ax)
    with pytest.raises(FormulaError, match="no figure"):
        Estimates(survival(), about, picture=Picture("none")).plot()


def test_svg_is_the_same_twice_and_describes_itself() -> None:
    texts = [
        style.to_svg(profile.profile(means(), ax=style.blank(6, 4)), title="T <1>", description="a & b")
        for _ in range(2)
    ]
    assert texts[0] == texts[1]
    assert "<title>T &lt;1&gt;</title>" in texts[0]
    assert "<desc>a &amp; b</desc>" in texts[0]
    assert "<metadata>" not in texts[0]
    assert not re.search(r'(?:href|src)="https?:', texts[0])
    assert ">KAP IV</text>" in texts[0]


@pytest.mark.parametrize(("end", "expected"), [(84, 5), (365, 8), (30, 7), (0.9, 5)])
def test_tick_times_are_round_and_few(end: float, expected: int) -> None:
    times = steps.nice_times(end)
    assert times[0] == 0
    assert times[-1] <= end + 1e-9
    assert abs(len(times) - expected) <= 2


def test_turnbull_shades_what_is_not_determined() -> None:
    frame = pd.DataFrame({"ARM": "KAP IV", "left": [0.0, 7], "right": [7.0, np.inf], "estimate": [0.6, 0.0]})
    ax = turnbull.turnbull(frame, strata=["ARM"], ax=style.blank(6, 3))
    flat = [s.tolist() for c in ax.collections if hasattr(c, "get_segments") for s in c.get_segments()]
    assert [[0, 1], [0, 1]] in flat
    assert [[7, 0.6], [7, 0.6]] in flat


def test_labels_below_the_axis_move_up_together() -> None:
    frame = pd.concat([survival().query("ARM == 'Placebo'").assign(ARM=a, estimate=0.0) for a in ARMS])
    ax = kaplan_meier.kaplan_meier(frame, strata=["ARM"], ax=style.blank(6, 4))
    names = [t for t in ax.texts if t.get_text() in ARMS and hasattr(t, "xy")]
    assert len(names) == len(ARMS)
    assert min(t.xy[1] for t in names) >= ax.get_ylim()[0] - 1e-9


@pytest.mark.parametrize("kind", ["dot", "volcano", "forest", "butterfly"])
def test_adverse_events_draw_themselves(kind: str) -> None:
    adsl = pd.DataFrame({"USUBJID": range(8), "TRT01A": ["Placebo", "KAP IV"] * 4, "TRT01AN": [0, 1] * 4, "SAFFL": "Y"})
    adae = pd.DataFrame({"USUBJID": [1, 3, 5, 7, 0], "AEDECOD": ["NAUSEA"] * 4 + ["RASH"], "TRTEMFL": "Y"})
    ae = ks.incidence(adae, adsl, terms=["AEDECOD"])
    ax = ae.plot(kind, ax=style.blank(6, 3))
    words = drawn_text(ax) + [t for child in ax.child_axes for t in drawn_text(child)]
    assert "Nausea" in words or "NAUSEA" in words
    with pytest.raises(ks.errors.FormulaError, match="Did you mean 'dot'"):
        ae.plot("dots")


def small_trial() -> ks.Incidence:
    """Four subjects a group; six events with severities, days and minutes."""
    adsl = pd.DataFrame({"USUBJID": range(8), "TRT01A": ["Placebo", "KAP IV"] * 4, "TRT01AN": [0, 1] * 4, "SAFFL": "Y",
                         "TRTSDT": pd.Timestamp("2024-01-01"), "EOSDT": pd.Timestamp("2024-01-22"),
                         "RESPFL": ["N", "Y", "N", "Y", "Y", "Y", "N", "N"]})  # fmt: skip
    days = pd.to_datetime([f"2024-01-{d:02d}" for d in (1, 1, 8, 8, 3, 2)])
    adae = pd.DataFrame({"USUBJID": [1, 3, 5, 1, 0, 1], "AEDECOD": ["NAUSEA"] * 4 + ["RASH", "RASH"], "TRTEMFL": "Y",
                         "AESEV": ["MILD", "SEVERE", "MODERATE", "MODERATE", "MILD", "MILD"], "SESSION": 1,
                         "ASTDT": days, "AENDT": [*days[:5] + pd.Timedelta(days=2), pd.NaT],
                         "ONSETMIN": [0, 10, 20, 300, 0, 0], "DURMIN": [30, 30, 30, 30, 15, 15]})  # fmt: skip
    return ks.incidence(adae, adsl, terms=["AEDECOD"])


def test_stacked_severity_adds_up_to_the_subjects() -> None:
    ae = small_trial()
    frame, grade = adverse_events.worst(ae)
    whole = severity.severity(frame, grade=grade, term="event", by="TRT01A", ax=style.blank(6, 3))
    placebo, drug = whole.child_axes
    assert [t.get_text() for t in placebo.get_yticklabels()] == ["Nausea", "Rash"]
    lengths = np.array([p.get_width() for p in drug.patches]).reshape(3, 2)  # worst first
    assert lengths.tolist() == [[25, 0], [50, 0], [0, 25]]
    starts = np.array([p.get_x() for p in drug.patches]).reshape(3, 2)
    assert starts.tolist() == [[0, 0], [25, 0], [75, 0]]
    assert [p.get_alpha() for p in drug.patches[::2]] == [1.0, 0.625, 0.25]


def test_timeline_runs_from_start_to_stop_and_marks_what_is_ongoing() -> None:
    frame, grade = adverse_events.episodes(small_trial())
    assert frame["USUBJID"].tolist() == [0, 1, 1, 1, 3, 5]
    assert frame["start"].tolist() == [3, 1, 2, 8, 1, 8]
    assert frame["stop"].fillna(-1).tolist() == [5, 3, -1, 10, 3, 10]
    ax = timeline.timeline(frame, by="TRT01A", grade=grade, ax=style.blank(6, 3))
    spans = [list(line.get_xdata()) for line in ax.lines if len(line.get_xdata()) == 2]
    assert spans == [[3, 5], [1, 3], [2, 22], [8, 10], [1, 3], [8, 10]]
    assert [list(line.get_xdata()) for line in ax.lines if line.get_marker() == ">"] == [[22]]
    own, _ = adverse_events.episodes(small_trial(), subject=1)
    assert own["event"].tolist() == ["NAUSEA", "RASH", "NAUSEA"]


def test_prevalence_and_benefit_risk_draw_the_numbers() -> None:
    ae = small_trial()
    found = ae.prevalence("NAUSEA", minutes=[0, 10, 25, 40, 60]).frame
    ax = prevalence.prevalence(found, group="TRT01A", ax=style.blank(6, 3))
    assert [list(line.get_ydata()) for line in ax.lines if len(line.get_ydata()) == 5] == [[0] * 5, [25, 50, 75, 25, 0]]
    numbers = numbers_of(ae, "RESPFL", "NAUSEA").frame
    row = numbers.iloc[0]
    direct = ks.risk_difference([3, 3], 4, [1, 0], 4)
    drawn = row[["benefit", "benefit_low", "benefit_high", "harm", "harm_low", "harm_high"]].to_numpy(dtype=float)
    assert np.allclose(drawn, direct.frame[["estimate", "conf_low", "conf_high"]].to_numpy().ravel(), atol=1e-12)
    assert row.nnt.startswith("NNTB 2.0 (")
    assert row.nnh.startswith("NNTH 1.3 (")
    assert np.isclose(row.ratio, 0.5 / 0.75)
    ax = benefit_risk.benefit_risk(numbers, by="TRT01A", ax=style.blank(5, 5))
    assert [[0.5], [0.75]] in [[list(line.get_xdata()), list(line.get_ydata())] for line in ax.lines]
    ticks = dict(zip(ax.get_xticks(), [t.get_text() for t in ax.get_xticklabels()], strict=True))
    assert ticks[0.0] == "∞"
    assert ticks[0.5] == "2"
    given = ks.risk_difference(3, 4, 1, 4).frame.assign(contrast="KAP IV - Placebo")
    again = numbers_of(ae, given, "NAUSEA").frame
    assert again.nnt.tolist() == numbers.nnt.tolist()
    with pytest.raises(ks.errors.DataError, match="no contrast in common"):
        numbers_of(ae, given.assign(contrast="A - B"))


@pytest.mark.parametrize("kind", ["severity", "timeline", "prevalence", "benefit-risk"])
def test_the_clinical_figures_are_reached_from_the_counts(kind: str) -> None:
    options = {"benefit": "RESPFL", "term": "NAUSEA"} if kind == "benefit-risk" else {}
    ax = small_trial().plot(kind, ax=style.blank(6, 3), **options)
    words = drawn_text(ax) + [t for child in ax.child_axes for t in drawn_text(child)]
    assert "KAP IV (N=4)" in words
    with pytest.raises(ks.errors.FormulaError, match="RESPFL"):
        small_trial().plot("benefit-risk")
