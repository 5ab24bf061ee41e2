"""Reconstruction of individual times: round trips on simulated trials, with and without the at-risk table."""

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from tests.published import reconstruct_study


def trial(rng, n, rate, follow_up=12.0):
    time = rng.exponential(1 / rate, n)
    stop = rng.uniform(4, follow_up, n)
    return np.minimum(time, stop), (time <= stop).astype(int)


def km(time, event):
    points = np.unique(time[event == 1])
    n = np.array([(time >= t).sum() for t in points])
    d = np.array([((time == t) & (event == 1)).sum() for t in points])
    return points, np.cumprod(1 - d / n)


def clicked(time, event, rng=None):
    """Both ends of every step as one clicks them; with a generator, with errors of the size of a pixel."""
    points, survival = km(time, event)
    x, y = np.append(points, time.max()), np.append(survival, survival[-1])
    if rng is not None:
        y = np.clip(y + rng.normal(0, 0.002, len(y)), 0, 1)
        x = x + rng.normal(0, 0.01, len(x)).clip(-0.02, 0.02)
    return pd.DataFrame({"time": np.maximum(x, 0), "survival": y})


def at_risk(time, every=2.0):
    times = np.arange(0, time.max(), every)
    return pd.DataFrame({"time": times, "n_risk": [(time >= t).sum() for t in times]})


def log_hazard_ratio(a, b):
    """Exponential rates: events per time at risk."""
    rates = [event.sum() / time.sum() for time, event in (a, b)]
    return np.log(rates[0] / rates[1])


@pytest.mark.parametrize("seed", range(4))
def test_a_perfect_curve_gives_back_numbers_and_curve(seed):
    rng = np.random.default_rng(seed)
    time, event = trial(rng, 120, 0.12)
    got = ks.reconstruct_ipd(clicked(time, event), at_risk(time), int(event.sum())).to_frame()
    assert len(got) == 120
    assert abs(got["event"].sum() - event.sum()) <= 1
    points, survival = km(time, event)
    again = np.append(1.0, km(got["time"].to_numpy(), got["event"].to_numpy())[1])
    place = np.searchsorted(km(got["time"].to_numpy(), got["event"].to_numpy())[0], points + 1e-9, side="right")
    assert np.abs(again[place] - survival).max() < 0.01


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.filterwarnings("ignore::kapstats.errors.KapstatsWarning")
def test_hazard_ratio_and_median_survive_clicking(seed):
    rng = np.random.default_rng(10 + seed)
    arms = {"a": trial(rng, 150, 0.09), "b": trial(rng, 150, 0.18)}
    curves = pd.concat([clicked(*v, rng).assign(arm=k) for k, v in arms.items()])
    risks = pd.concat([at_risk(v[0]).assign(arm=k) for k, v in arms.items()])
    got = ks.reconstruct_ipd(curves, risks, {k: int(v[1].sum()) for k, v in arms.items()})
    frame = got.to_frame()
    back = {k: (g["time"].to_numpy(), g["event"].to_numpy()) for k, g in frame.groupby("arm")}
    assert abs(log_hazard_ratio(back["a"], back["b"]) - log_hazard_ratio(arms["a"], arms["b"])) < 0.05
    for k in arms:
        x, y = km(*arms[k])
        u, v = km(*back[k])
        assert abs(x[np.argmax(y <= 0.5)] - u[np.argmax(v <= 0.5)]) < 0.35
    assert max(got.meta["largest_gap"].values()) < 0.02


def test_without_the_at_risk_table_the_rate_is_worse():
    errors = {"table": [], "start": []}
    for seed in range(8):
        rng = np.random.default_rng(50 + seed)
        time, event = trial(rng, 150, 0.15)
        curve = clicked(time, event)
        true = np.log(event.sum() / time.sum())
        for name, known in {"table": at_risk(time), "start": 150}.items():
            got = ks.reconstruct_ipd(curve, known).to_frame()
            errors[name].append(abs(np.log(got["event"].sum() / got["time"].sum()) - true))
    assert np.mean(errors["table"]) < 0.04
    assert np.mean(errors["start"]) > 3 * np.mean(errors["table"])


def test_the_total_of_events_settles_the_censoring():
    rng = np.random.default_rng(3)
    time, event = trial(rng, 200, 0.15)
    got = ks.reconstruct_ipd(clicked(time, event), 200, int(event.sum())).to_frame()
    assert abs(got["event"].sum() - event.sum()) <= 2


def test_percent_unordered_and_rising_clicks_are_the_same_curve():
    curve = pd.DataFrame({"time": [1, 2, 3], "survival": [0.9, 0.7, 0.6]})
    percent = curve.assign(survival=100 * curve["survival"]).iloc[::-1]
    a, b = (ks.reconstruct_ipd(c, 10).to_frame() for c in (curve, percent))
    pd.testing.assert_frame_equal(a, b)
    wobbly = ks.reconstruct_ipd({"time": [1, 2, 2.5, 3], "survival": [0.9, 0.7, 0.71, 0.6]}, 10)
    assert wobbly["event"].sum() == a["event"].sum()


def test_it_takes_a_kaplan_meier_table():
    rng = np.random.default_rng(8)
    time, event = trial(rng, 60, 0.2)
    data = pd.DataFrame({"AVAL": time, "EVENT": event})
    curve = ks.kaplan_meier("Surv(AVAL, EVENT) ~ 1", data).to_frame()
    got = ks.reconstruct_ipd(curve[["time", "estimate"]], at_risk(time), int(event.sum()))
    assert abs(got["event"].sum() - event.sum()) <= 1


@pytest.mark.parametrize(
    ("curve", "risk", "message"),
    [
        ({"time": [1], "survival": [0.5]}, None, "give at_risk="),
        ({"time": [1], "survival": [1.3]}, 10, "between 0 and 1"),
        ({"time": [1], "height": [0.5]}, 10, "no column 'survival'"),
        ({"time": [1], "survival": [0.5], "a": [1], "b": [2]}, 10, "Say by="),
        ({"time": [1], "survival": [0.5]}, {"time": [0, 1], "n_risk": [5, 6]}, "rises at time 1"),
        ({"time": [1], "survival": [0.5]}, {"time": [1], "n_risk": [5]}, "begin at 0"),
    ],
)
def test_what_cannot_be_reconstructed(curve, risk, message):
    with pytest.raises(ks.errors.DataError, match=message):
        ks.reconstruct_ipd(curve, risk)


def test_events_that_do_not_fit_are_told():
    with pytest.warns(ks.errors.KapstatsWarning, match="4 events fit the curve"):
        got = ks.reconstruct_ipd({"time": [1, 2, 3], "survival": [0.9, 0.7, 0.6]}, 10, 9)
    assert got.warnings


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.filterwarnings("ignore::kapstats.errors.KapstatsWarning")
def test_least_squares_meets_numbers_at_risk_and_total_exactly_and_lies_no_further_away(seed):
    rng = np.random.default_rng(20 + seed)
    time, event = trial(rng, 90, 0.15)
    curve, risk, total = clicked(time, event, rng), at_risk(time), int(event.sum())
    best, begun = (ks.reconstruct_ipd(curve, risk, total, method=m) for m in ("least-squares", "guyot"))
    frame = best.to_frame()
    assert (len(frame), frame["event"].sum()) == (90, total)
    for t, n in zip(risk["time"], risk["n_risk"], strict=True):
        assert (frame["time"] >= t).sum() == n
    if begun["event"].sum() == total:
        assert best.meta["root_mean_square"]["all"] <= begun.meta["root_mean_square"]["all"] + 1e-12
    assert best.meta["largest_gap"]["all"] < 0.02


@pytest.mark.parametrize("method", ["guyot", "least-squares"])
def test_the_unit_of_time_and_the_order_of_clicks_do_not_matter(method):
    rng = np.random.default_rng(4)
    time, event = trial(rng, 60, 0.2)
    curve, risk = clicked(time, event), at_risk(time)
    got = ks.reconstruct_ipd(curve, risk, int(event.sum()), method=method).to_frame()
    turned = ks.reconstruct_ipd(curve.sample(frac=1, random_state=1), risk, int(event.sum()), method=method).to_frame()
    pd.testing.assert_frame_equal(got, turned)
    years = ks.reconstruct_ipd(
        curve.assign(time=curve["time"] / 16), risk.assign(time=risk["time"] / 16), int(event.sum()), method=method
    ).to_frame()
    np.testing.assert_allclose(16 * years["time"], got["time"])
    assert years["event"].tolist() == got["event"].tolist()


def test_both_ends_of_every_step_may_be_clicked_and_neighbours_exchanged():
    curve = pd.DataFrame({"time": [1, 1, 2, 2, 3, 3], "survival": [1.0, 0.9, 0.9, 0.7, 0.7, 0.6]})
    got = ks.reconstruct_ipd(curve, 10)
    assert got.filter(event=1)["time"].tolist() == [1.0, 2.0, 2.0, 3.0]
    assert got.meta["largest_gap"]["all"] < 1e-12
    exchanged = pd.DataFrame({"time": [1, 1.98, 2.02, 3], "survival": [0.9, 0.7, 0.9, 0.6]})
    again = ks.reconstruct_ipd(exchanged, 10)
    assert again.meta["largest_gap"]["all"] < 1e-12
    assert again["event"].sum() == 4


def test_the_study_of_the_docs_runs():
    found = {m: reconstruct_study.errors(1, "clicks within 0.002", m) for m in ("guyot", "least-squares")}
    assert all(abs(f["hazard ratio"]) < 0.03 and f["curve"] < 0.005 for f in found.values())
    assert found["least-squares"]["events"] == 0
