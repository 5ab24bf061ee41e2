"""The worlds of the follow-up certificates have the truth that they claim: shares of large draws, no estimator."""

from __future__ import annotations

import numpy as np
import pytest

from kapstats.certification.estimators import follow_up, worlds

N = 400_000
B = follow_up.EFFECT


def half(seed: int) -> tuple[np.random.Generator, np.ndarray]:
    return np.random.default_rng(seed), np.arange(N) % 2


def test_cumulative_incidence_of_the_competing_world():
    rng, arm = half(1)
    time, cause = worlds.competing(rng, arm, B)
    for a in (0, 1):
        for t in (0.2, 0.45):  # before anybody is censored
            truth = 1 - (1 - 0.6 * (1 - np.exp(-t))) ** np.exp(B * a)
            assert np.mean((time <= t)[arm == a] & (cause == 1)[arm == a]) == pytest.approx(truth, abs=0.005)
    assert 0.1 < np.mean(cause == 0) < 0.4


def test_mean_counts_of_the_recurrent_world():
    rng, arm = half(2)
    start, stop, event, subject = worlds.recurrent(rng, arm, B, 2.0, 0.5)
    early = event & (stop <= 0.5)
    counts = np.bincount(subject[early], minlength=N)
    for a in (0, 1):
        mean = 2.0 * 0.5 * np.exp(B * a)
        assert counts[arm == a].mean() == pytest.approx(mean, abs=0.01)
        assert counts[arm == a].var() == pytest.approx(mean + 0.5 * mean**2, rel=0.03)
    assert (start < stop).all()
    assert np.all((start[1:] == stop[:-1]) | (subject[1:] != subject[:-1]))


def test_intervals_of_the_visited_world_hold_the_relapse():
    left, right = worlds.visited(np.random.default_rng(3), N, 14.0, 0.1, 168.0, 0.85, 180.0)
    at = 112.0
    low, high = np.mean(left >= at), 1 - np.mean(right <= at)
    truth = np.exp(-((at / 180.0) ** 0.85))
    assert low < truth < high
    assert high - low == pytest.approx(0.1 * (np.exp(-((98 / 180) ** 0.85)) - np.exp(-((126 / 180) ** 0.85))), rel=0.25)


def test_standardised_survival_of_the_confounded_world():
    rng = np.random.default_rng(4)
    x = rng.standard_normal(N) + worlds.APART * (np.arange(N) % 2)
    for b in (0.0, B):
        mean = np.exp(-worlds.WEEKLY * 26 * np.exp(b + worlds.PROGNOSTIC * x)).mean()
        assert worlds.standardised(b, 26) == pytest.approx(mean, abs=0.002)
