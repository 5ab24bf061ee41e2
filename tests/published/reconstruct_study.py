"""Round trips: ``python -m tests.published.reconstruct_study 100`` prints the errors that the docs state.

Two arms of 150 (exponential, hazard ratio 0.5; staggered follow-up of 12 months), their curves clicked with errors,
read back, compared with the trial itself.
"""

import sys
import warnings

import numpy as np
import pandas as pd

import kapstats as ks

RATES = {"drug": 0.09, "control": 0.18}
#: survival error of a click, time error, months between numbers at risk (none: the start only), total events stated
SETTINGS = {
    "exact clicks": (0.0, 0.0, 2.0, True),
    "clicks within 0.002": (0.002, 0.01, 2.0, True),
    "clicks within 0.01": (0.01, 0.05, 2.0, True),
    "clicks within 0.002, no total": (0.002, 0.01, 2.0, False),
    "clicks within 0.002, at risk at 0 and 6": (0.002, 0.01, 6.0, True),
    "clicks within 0.002, no numbers at risk": (0.002, 0.01, 99.0, True),
    "clicks within 0.002, curve alone": (0.002, 0.01, 99.0, False),
}


def trial(rng, n, rate, end=12.0):
    time, stop = rng.exponential(1 / rate, n), rng.uniform(4, end, n)
    return np.minimum(time, stop), (time <= stop).astype(int)


def km(time, event):
    points = np.unique(time[event == 1])
    n = np.array([(time >= t).sum() for t in points])
    d = np.array([((time == t) & (event == 1)).sum() for t in points])
    return points, np.cumprod(1 - d / n)


def clicks(time, event, rng, survival_error, time_error):
    points, survival = km(time, event)
    x, y = np.append(points, time.max()), np.append(survival, survival[-1])
    y = np.clip(y + survival_error * rng.standard_normal(len(y)), 0, 1)
    x = x + np.clip(time_error * rng.standard_normal(len(x)), -2 * time_error, 2 * time_error)
    return pd.DataFrame({"time": np.maximum(x, 0), "survival": y})


def at_risk(time, every):
    times = np.arange(0, time.max(), every)
    return pd.DataFrame({"time": times, "n_risk": [(time >= t).sum() for t in times]})


def log_hazard_ratio(arms):
    data = pd.concat([pd.DataFrame({"time": t, "event": e, "arm": k}) for k, (t, e) in arms.items()])
    data["arm"] = pd.Categorical(data["arm"], ["control", "drug"], ordered=True)
    return float(ks.cox("Surv(time, event) ~ arm", data).coefficients["estimate"].iloc[0])


def median(time, event):
    points, survival = km(time, event)
    return points[np.argmax(survival <= 0.5)] if (survival <= 0.5).any() else np.nan


def errors(seed, setting, method):
    """Errors of log hazard ratio, medians and number of events, and the gap of the redrawn curve."""
    rng = np.random.default_rng(seed)
    survival_error, time_error, every, total = SETTINGS[setting]
    arms = {k: trial(rng, 150, rate) for k, rate in RATES.items()}
    curve = pd.concat([clicks(*v, rng, survival_error, time_error).assign(arm=k) for k, v in arms.items()])
    risk = pd.concat([at_risk(v[0], every).assign(arm=k) for k, v in arms.items()])
    events = {k: int(v[1].sum()) for k, v in arms.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ks.errors.KapstatsWarning)
        got = ks.reconstruct_ipd(curve, risk, events if total else None, method=method)
        back = {k: (g["time"].to_numpy(), g["event"].to_numpy()) for k, g in got.to_frame().groupby("arm")}
        ratio = log_hazard_ratio(back) - log_hazard_ratio(arms)
    return {
        "hazard ratio": ratio,
        "median": max(abs(median(*back[k]) - median(*arms[k])) for k in arms),
        "events": max(abs(back[k][1].sum() - events[k]) for k in arms),
        "curve": max(got.meta["root_mean_square"].values()),
    }


def study(trials):
    rows = []
    for setting in SETTINGS:
        for method in ("guyot", "least-squares"):
            found = pd.DataFrame([errors(seed, setting, method) for seed in range(trials)])
            rms = float(np.sqrt((found["hazard ratio"] ** 2).mean()))
            rows.append(
                {
                    "setting": setting, "method": method,
                    "log HR, rms": rms, "largest": found["hazard ratio"].abs().max(),
                    "bias": found["hazard ratio"].mean(),
                    "median, mean error": found["median"].mean(), "events, mean error": found["events"].mean(),
                    "curve, rms": found["curve"].mean(),
                }
            )  # fmt: skip
    return pd.DataFrame(rows).round(4)


if __name__ == "__main__":
    print(study(int(sys.argv[1])).to_string(index=False))
