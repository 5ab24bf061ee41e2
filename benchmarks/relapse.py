"""Cox, Kaplan-Meier and log-rank beside their peers in Python, with recorded times of R survival; CPU seconds.

Peers are lifelines and statsmodels and, where they can be imported, scikit-survival, greenwood and survival (Rust); the
last uses one thread when RAYON_NUM_THREADS is 1. Every peer gets the same arrays and has to find the same numbers.

Times are weekly visits up to a year ("tied", about 50 distinct) or all distinct ("cont"); five covariates, Efron ties.
The array functions are timed from unsorted arrays to estimates with standard errors, the calls from a data frame.
"""

from __future__ import annotations

import importlib.util
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

import kapstats as ks
from kapstats.kernels.cox_newton import cox_data, fit
from kapstats.kernels.product_limit import limits, product_limit
from kapstats.kernels.risk_sets import risk_sets
from kapstats.kernels.weighted_logrank import group_counts, quadratic, weight_function, weighted_scores

#: CPU seconds of coxph in R survival 3.5-3 (R 4.2.2, one thread of an AMD EPYC), recorded
R_COX = {
    (1_000, "tied"): 0.009,
    (1_000, "cont"): 0.009,
    (10_000, "tied"): 0.066,
    (10_000, "cont"): 0.069,
    (100_000, "tied"): 0.755,
    (100_000, "cont"): 0.779,
    (1_000_000, "tied"): 9.9,
    (1_000_000, "cont"): 12.5,
}
#: survfit with limits, and survdiff, at a million rows
R_CURVE = {("km", "tied"): 2.13, ("km", "cont"): 4.27, ("log-rank", "tied"): 3.5, ("log-rank", "cont"): 5.1}
#: largest size at which a peer is run here; beyond it takes minutes
LARGEST = {
    "lifelines tied": 100_000,
    "lifelines cont": 10_000,
    "statsmodels tied": 100_000,
    "statsmodels cont": 1_000,
    "scikit-survival tied": 100_000,
    "scikit-survival cont": 10_000,
    "greenwood tied": 10_000,
    "greenwood cont": 10_000,
    "survival (Rust) tied": 1_000_000,
    "survival (Rust) cont": 1_000_000,
}
#: how a peer is imported
MODULES = {"scikit-survival": "sksurv", "survival (Rust)": "survival"}
SIZES = (1_000, 10_000, 100_000, 1_000_000)


def run(largest: int = SIZES[-1]) -> list[dict[str, Any]]:
    """Rows: case, implementation, seconds, ratio to ours, note; sizes above `largest` are left out."""
    rows: list[dict[str, Any]] = []
    for n in (size for size in SIZES if size <= largest):
        for kind in ("tied", "cont"):
            rows += _cox(n, kind)
    for n in (size for size in (300, 10_000, 1_000_000) if size <= largest):
        for kind in ("tied", "cont"):
            rows += _curves(n, kind)
    return rows + _calls()


def sample(n: int, kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Time, event and five covariates."""
    rng = np.random.default_rng(n)
    X = rng.normal(size=(n, 5))
    X[:, 0] = rng.integers(2, size=n)
    time_to = rng.exponential(size=n) * 26 * np.exp(-X @ np.array([-0.5, 0.3, 0.1, 0.0, -0.2]))
    stop = np.minimum(time_to, rng.uniform(20, 52, n))
    return (np.ceil(stop) if kind == "tied" else stop), time_to <= stop, X


def seconds(function: Callable[[], Any], least: float = 0.2, most: int = 7) -> float:
    """Best CPU time of a few runs."""
    best, spent, done = np.inf, 0.0, 0
    while done < 2 or (spent < least and done < most):
        begin = time.process_time()
        function()
        took = time.process_time() - begin
        best, spent, done = min(best, took), spent + took, done + 1
        if took > 20:
            break
    return best


def _row(case: str, implementation: str, taken: float, ours: float, note: str = "") -> dict[str, Any]:
    return {"case": case, "implementation": implementation, "seconds": taken, "ratio": taken / ours, "note": note}


def _cox(n: int, kind: str) -> list[dict[str, Any]]:
    stop, event, X = sample(n, kind)
    case = f"Cox {n:,} x 5 {kind}"
    found: dict[str, np.ndarray] = {}

    def ours() -> None:
        best = fit(cox_data(risk_sets(stop, event), X))
        found["b"] = best.b
        np.linalg.inv(best.at.information)

    taken = seconds(ours)
    rows = [_row(case, "kapstats arrays", taken, taken)]
    for name, peer in _present(COX).items():
        if n <= LARGEST[f"{name} {kind}"]:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                b = peer(stop, event, X)
                apart = np.abs(b - found["b"]).max()
                once = seconds(lambda peer=peer: peer(stop, event, X), most=2)
            rows.append(_row(case, name, once, taken, f"coefficients apart {apart:.0e}"))
    return [*rows, _row(case, "R survival 3.5-3", R_COX[n, kind], taken, "recorded")]


def _curves(n: int, kind: str) -> list[dict[str, Any]]:
    stop, event, X = sample(n, kind)
    arm = X[:, 0].astype(np.int64)

    def curve() -> None:
        found = product_limit(risk_sets(stop, event, every=True))
        limits(found.survival, found.std_error, 0.95, "log-log")

    def test() -> None:
        counts = group_counts(risk_sets(stop, event), arm, 2)
        found = weighted_scores(counts, weight_function(counts, "fleming-harrington")[None])
        quadratic(found.score[0], found.covariance[0, 0], found.expected[0])

    rows = []
    for name, function, peers in (("km", curve, CURVES), ("log-rank", test, TESTS)):
        case = f"{name} {n:,} {kind}"
        taken = seconds(function)
        rows.append(_row(case, "kapstats arrays", taken, taken))
        for other, peer in _present(peers).items():
            if n <= 10_000 or (kind == "tied" and other in ("lifelines", "statsmodels", "survival (Rust)")):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    once = seconds(lambda peer=peer: peer(stop, event, arm), most=2)
                rows.append(_row(case, other, once, taken))
        if n == 1_000_000:
            rows.append(_row(case, "R survival 3.5-3", R_CURVE[name, kind], taken, "recorded"))
    return rows


def _calls() -> list[dict[str, Any]]:
    """The public calls on a trial of 300: formula, checks and result objects included."""
    stop, event, X = sample(300, "tied")
    frame = pd.DataFrame(X, columns=list("vwxyz")).assign(t=stop, e=event.astype(int))
    frame["arm"] = pd.Categorical(np.where(frame["v"] > 0, "KAP", "Placebo"), ["Placebo", "KAP"], ordered=True)
    calls = {
        "ks.kaplan_meier": lambda: ks.kaplan_meier("Surv(t, e) ~ arm", frame),
        "ks.logrank": lambda: ks.logrank("Surv(t, e) ~ arm", frame),
        "ks.cox": lambda: ks.cox("Surv(t, e) ~ arm + w + x + y", frame),
        "ks.rmst": lambda: ks.rmst("Surv(t, e) ~ arm", frame, tau=20),
    }
    timed = {name: seconds(call) for name, call in calls.items()}
    return [_row(f"{name} 300", "kapstats call", taken, taken) for name, taken in timed.items()]


def _lifelines(stop: np.ndarray, event: np.ndarray, X: np.ndarray) -> np.ndarray:
    from lifelines import CoxPHFitter

    frame = pd.DataFrame(X, columns=list("vwxyz")).assign(t=stop, e=event)
    return CoxPHFitter().fit(frame, "t", "e").params_.to_numpy()


def _statsmodels(stop: np.ndarray, event: np.ndarray, X: np.ndarray) -> np.ndarray:
    from statsmodels.duration.hazard_regression import PHReg

    return np.asarray(PHReg(stop, X, event.astype(int), ties="efron").fit().params)


def _scikit(stop: np.ndarray, event: np.ndarray, X: np.ndarray) -> np.ndarray:
    from sksurv.linear_model import CoxPHSurvivalAnalysis
    from sksurv.util import Surv

    return np.asarray(CoxPHSurvivalAnalysis(ties="efron").fit(X, Surv.from_arrays(event, stop)).coef_)


def _greenwood(stop: np.ndarray, event: np.ndarray, X: np.ndarray) -> np.ndarray:
    import greenwood

    frame = pd.DataFrame(X, columns=list("vwxyz")).assign(t=stop, e=event.astype(int))
    found = greenwood.CoxPH().fit("Surv(t, e) ~ v + w + x + y + z", data=frame).to_frame()
    return np.asarray(found["coef" if "coef" in found else "estimate"], dtype=float)


def _rust(stop: np.ndarray, event: np.ndarray, X: np.ndarray) -> np.ndarray:
    import survival

    frame = pd.DataFrame(X, columns=list("vwxyz")).assign(t=stop, e=event.astype(int))
    return np.asarray(survival.coxph("Surv(t, e) ~ v + w + x + y + z", frame).coefficients, dtype=float).ravel()


def _lifelines_km(stop: np.ndarray, event: np.ndarray, arm: np.ndarray) -> None:
    from lifelines import KaplanMeierFitter

    KaplanMeierFitter().fit(stop, event)


def _lifelines_test(stop: np.ndarray, event: np.ndarray, arm: np.ndarray) -> None:
    from lifelines.statistics import logrank_test

    logrank_test(stop[arm == 0], stop[arm == 1], event[arm == 0], event[arm == 1])


def _scikit_km(stop: np.ndarray, event: np.ndarray, arm: np.ndarray) -> None:
    from sksurv.nonparametric import kaplan_meier_estimator

    kaplan_meier_estimator(event, stop, conf_type="log-log")


def _scikit_test(stop: np.ndarray, event: np.ndarray, arm: np.ndarray) -> None:
    from sksurv.compare import compare_survival
    from sksurv.util import Surv

    compare_survival(Surv.from_arrays(event, stop), arm)


def _statsmodels_km(stop: np.ndarray, event: np.ndarray, arm: np.ndarray) -> None:
    from statsmodels.duration.survfunc import SurvfuncRight

    SurvfuncRight(stop, event.astype(int))


def _statsmodels_test(stop: np.ndarray, event: np.ndarray, arm: np.ndarray) -> None:
    from statsmodels.duration.survfunc import survdiff

    survdiff(stop, event.astype(int), arm)


def _greenwood_km(stop: np.ndarray, event: np.ndarray, arm: np.ndarray) -> None:
    import greenwood

    frame = pd.DataFrame({"t": stop, "e": event.astype(int)})
    greenwood.KaplanMeier().fit("Surv(t, e) ~ 1", data=frame)


def _greenwood_test(stop: np.ndarray, event: np.ndarray, arm: np.ndarray) -> None:
    import greenwood

    frame = pd.DataFrame({"t": stop, "e": event.astype(int), "arm": arm})
    greenwood.logrank_test("Surv(t, e) ~ arm", data=frame)


def _rust_km(stop: np.ndarray, event: np.ndarray, arm: np.ndarray) -> None:
    import survival

    survival.survfit("Surv(t, e) ~ 1", pd.DataFrame({"t": stop, "e": event.astype(int)}), conf_type="log-log")


def _rust_test(stop: np.ndarray, event: np.ndarray, arm: np.ndarray) -> None:
    import survival

    survival.survdiff("Surv(t, e) ~ arm", pd.DataFrame({"t": stop, "e": event.astype(int), "arm": arm}))


def _present(peers: dict[str, Any]) -> dict[str, Any]:
    """Those of `peers` that can be imported."""
    return {name: peer for name, peer in peers.items() if importlib.util.find_spec(MODULES.get(name, name))}


COX = {
    "lifelines": _lifelines,
    "statsmodels": _statsmodels,
    "scikit-survival": _scikit,
    "greenwood": _greenwood,
    "survival (Rust)": _rust,
}
CURVES = {
    "lifelines": _lifelines_km,
    "statsmodels": _statsmodels_km,
    "scikit-survival": _scikit_km,
    "greenwood": _greenwood_km,
    "survival (Rust)": _rust_km,
}
TESTS = {
    "lifelines": _lifelines_test,
    "statsmodels": _statsmodels_test,
    "scikit-survival": _scikit_test,
    "greenwood": _greenwood_test,
    "survival (Rust)": _rust_test,
}
