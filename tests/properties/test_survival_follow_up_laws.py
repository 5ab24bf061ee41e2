"""Numbers at risk are what counting by hand gives; curves end with the follow-up of their stratum.

KAPSTATS_CASES sets how many random data sets are tried.
"""

import os
import warnings

import numpy as np
import pandas as pd

import kapstats as ks

CASES = int(os.environ.get("KAPSTATS_CASES", "25"))


def entries(rng: np.random.Generator) -> pd.DataFrame:
    """Random rows with delayed entry, ties, weights, two arms of which one ends early."""
    n = int(rng.integers(4, 40))
    unit = rng.choice([1, 10])
    stop = rng.integers(1, 30, n)
    start = np.floor(rng.random(n) * stop * rng.integers(0, 2, n)).astype(int)
    d = pd.DataFrame({"a": start / unit, "b": stop / unit, "e": rng.integers(0, 2, n), "w": rng.integers(1, 4, n)})
    d["arm"] = np.where(np.arange(n) < 2, ["x", "y"][: min(n, 2)] + [""] * (n - 2), rng.choice(["x", "y"], n))
    d["arm"] = pd.Categorical(d["arm"], ["x", "y"], ordered=True)
    return d.assign(USUBJID=[f"S{i}" for i in range(n)], s=np.where(d["e"] == 1, rng.integers(1, 3, n), 0))


def counted(d: pd.DataFrame, t: float, weights: str | None = None) -> float:
    """By hand: entry < t <= time; at 0 those who enter at 0."""
    w = d[weights] if weights else np.ones(len(d))
    here = [(a < t <= b) or (t == 0 == a) for a, b in zip(d["a"], d["b"], strict=True)]
    return float(np.sum(w[here]))


def test_numbers_at_risk_are_counted():
    for seed in range(CASES):
        rng = np.random.default_rng(seed)
        d = entries(rng)
        times = np.unique([0.0, *d["a"], *d["b"], *rng.uniform(0, 30, 5)])
        for weights in (None, "w"):
            km = ks.kaplan_meier("Surv(a, b, e) ~ arm", d, weights=weights)
            found = km.at_risk(times).frame
            for arm, rows in found.groupby("arm", observed=True):
                own = d[d["arm"] == arm]
                assert rows["n_risk"].tolist() == [counted(own, t, weights) for t in times], seed
            # the rows of the curves are counted in the same way
            for arm, rows in km.to_frame().groupby("arm", observed=True):
                own = d[d["arm"] == arm]
                assert rows["n_risk"].tolist() == [counted(own, t, weights) for t in rows["time"]], seed
        cif = ks.cumulative_incidence("Surv(a, b, s) ~ arm", d, cause=None) if d["e"].any() else None
        mcf = ks.mean_cumulative_function("Surv(a, b, e) ~ arm", d)
        for found in (cif, mcf):
            for arm, rows in found.to_frame().groupby("arm", observed=True) if found is not None else ():
                own = d[d["arm"] == arm]
                assert rows["n_risk"].tolist() == [counted(own, t) for t in rows["time"]], seed
        states = ks.state_occupation("Surv(a, b, s) ~ arm", d).to_frame()
        for (arm, t), rows in states.groupby(["arm", "time"], observed=True):
            assert rows["n_risk"].sum() == counted(d[d["arm"] == arm], t), seed


def test_a_value_is_reported_up_to_the_last_time_or_for_ever():
    """Known at t <= last; afterwards only where the last observation left nobody without the event."""
    for seed in range(CASES):
        d = entries(np.random.default_rng([1, seed])).assign(a=0.0)
        km = ks.kaplan_meier("Surv(b, e) ~ arm", d)
        curves = {"km": km, "mcf": ks.mean_cumulative_function("Surv(a, b, e) ~ arm", d)}
        if d["e"].any():
            curves["cif"] = ks.cumulative_incidence("Surv(b, s) ~ arm", d, cause=None)
        last = d.groupby("arm", observed=True)["b"].max()
        at_end = d[d["b"] == d["arm"].map(last).astype(float)]
        ended = at_end.groupby("arm", observed=True)["e"].min() == 1
        times = np.unique([0.0, *last, *(last * 1.01), *(last - 0.05), 1e3])
        for name, curve in curves.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = curve.at(times)
            for arm, rows in found.frame.groupby("arm", observed=True):
                known = (rows["time"] <= last[arm]) | (ended[arm] and name != "mcf")
                assert (rows["estimate"].notna() == known).all(), (seed, name)
                if not known.all():
                    assert any(f"arm={arm}, followed to {last[arm]:g}" in w for w in found.warnings)
