"""Work that would not fit into memory is refused before it begins, with its size and the remedy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from kapstats import errors
from kapstats.errors import DataError


@pytest.fixture(autouse=True)
def small_machine(monkeypatch):
    monkeypatch.setattr(errors, "_memory", lambda: 2.0**30)


def spread(n, groups):
    rng = np.random.default_rng(1)
    left = rng.exponential(10, n)
    frame = pd.DataFrame({"L": left, "R": left + rng.exponential(1, n), "t": left, "e": 1, "s": rng.integers(0, 3, n)})
    return frame.assign(g=np.arange(n) % groups, x=rng.normal(size=n))


REFUSED = {
    "turnbull": (lambda d: ks.turnbull("Surv(L, R, type='interval2') ~ 1", d), 20_000, 2, "Round the times"),
    "interval_cox": (lambda d: ks.interval_cox("Surv(L, R, type='interval2') ~ x", d), 20_000, 2, "Round the times"),
    "logrank": (lambda d: ks.logrank("Surv(t, e) ~ g", d), 8_000, 4_000, "identifier"),
    "gray_test": (lambda d: ks.gray_test("Surv(t, s) ~ g", d), 4_000, 200, "fewer levels"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_survival_verbs_say_how_much_they_need(name):
    call, n, groups, remedy = REFUSED[name]
    with pytest.raises(DataError, match=rf"GiB of memory.*{remedy}"):
        call(spread(n, groups))


def test_a_covariance_over_very_many_visits_is_refused_with_its_parameters():
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"id": np.repeat(np.arange(400), 200), "v": np.tile(np.arange(200), 400)})
    data["y"] = rng.normal(size=len(data))
    with pytest.raises(DataError, match=r"us over 200 visits \(20,100 covariance parameters\)"):
        ks.mmrm("y ~ 1 + us(v | id)", data)


def test_ordinary_sizes_pass():
    assert np.isfinite(ks.logrank("Surv(t, e) ~ g", spread(2_000, 5))["p_value"].iloc[0])
    assert len(ks.turnbull("Surv(L, R, type='interval2') ~ 1", spread(300, 2)).to_frame())
