"""Models and prioritised outcomes of the follow-up: penalties, frailty, causes, states, pairs of subjects, restricted
means with covariates, and trials that are looked at before their end."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtr

from kapstats._types import FloatArray, IntArray
from kapstats.certification.estimators import worlds
from kapstats.certification.estimators.common import (
    NUMBERS,
    Certificate,
    Estimator,
    by_level,
    in_world,
    known,
    numbers,
)
from kapstats.certification.estimators.follow_up import logrank_z
from kapstats.inference.intervals import wald as limits
from kapstats.kernels.aalen_johansen import aalen_johansen
from kapstats.kernels.multistate import occupation
from kapstats.kernels.product_limit import limits as survival_limits
from kapstats.kernels.product_limit import product_limit
from kapstats.kernels.risk_sets import risk_sets
from kapstats.relapse.cause_specific import cause_specific
from kapstats.relapse.cox import cox
from kapstats.relapse.rmst import rmst
from kapstats.relapse.sequential_combination import project_events, weighted_logrank_combination
from kapstats.relapse.win_ratio import win_ratio

Drawn = np.random.Generator
EFFECT, PROGNOSTIC = float(np.log(0.5)), 0.7
AT, TAU = 1.0, 1.5


def row(estimate: float, error: float, level: float) -> FloatArray:
    """One row of NUMBERS with normal limits."""
    found = limits(estimate, error, level=level)
    return np.array([[estimate, error, *(float(found[c]) for c in ("conf_low", "conf_high", "p_value"))]])


# ------------------------------------------------------------------------------------------- Cox models

FEW, RIDGE, SITES, VARIANCE = 0.12, 5.0, 20, 0.8


def _few(rng: Drawn, n: int, level: float, **options: Any) -> FloatArray:
    """Few events in small arms, so that an arm without any happens."""
    arm = worlds.halves(n)
    latent = rng.exponential(1.0, n) / (FEW * np.exp(EFFECT * arm))
    stop = rng.uniform(*worlds.STOPS, n)
    frame = pd.DataFrame({"t": np.minimum(latent, stop), "e": (latent <= stop) * 1, "arm": arm})
    found = numbers(cox("Surv(t, e) ~ arm", frame, level=level, **options).coefficients.frame)
    return np.where(np.isfinite(found[:, :1]), found, np.nan)


def _ridge(rng: Drawn, n: int, level: float, b: float) -> FloatArray:
    arm = worlds.halves(n)
    time, event, _ = worlds.followed(rng, arm, b, 0.0)
    frame = pd.DataFrame({"t": time, "e": event * 1, "arm": arm})
    return numbers(cox("Surv(t, e) ~ arm", frame, penalty="ridge", ridge=RIDGE, level=level).coefficients.frame)


def _by_site(rng: Drawn, n: int, level: float, term: str) -> FloatArray:
    """The hazard ratio within sites whose hazards differ."""
    frame = pd.DataFrame(worlds.clustered(rng, n, EFFECT, SITES, VARIANCE))
    return numbers(cox(f"Surv(time, event) ~ arm{term}", frame, level=level).coefficients.frame)


# ------------------------------------------------------------------------------------------- causes and states


def _incidence(rng: Drawn, n: int, level: float, observed: bool) -> FloatArray:
    """Probability of the first cause in both arms; a control counts the other cause as censoring."""
    arm = worlds.halves(n)
    time, cause = worlds.two_causes(rng, arm)
    rows = []
    for a in (0, 1):
        t, c = time[arm == a], cause[arm == a]
        if not observed:
            rows.append(_one_minus_km(t, c, level, "log-log"))
            continue
        curve = aalen_johansen(t, c, 2)
        at = int(np.searchsorted(curve.time, AT, side="right")) - 1
        F, error = curve.cif[at, :1], curve.se_cif[at, :1]
        low, high = survival_limits(F, error, level, "log-log")
        rows.append([F[0], error[0], low[0], high[0], np.nan])
    return np.array(rows)


def _one_minus_km(time: FloatArray, cause: IntArray, level: float, conf_type: str) -> list[float]:
    """One minus Kaplan-Meier's curve of the first cause, with its limits."""
    sets = risk_sets(time, cause == 1)
    km = product_limit(sets)
    at = int(np.searchsorted(sets.time, AT, side="right")) - 1
    S, error = km.survival[at : at + 1], km.std_error[at : at + 1]
    low, high = survival_limits(S, error, level, conf_type)
    return [1 - S[0], error[0], 1 - high[0], 1 - low[0], np.nan]


def _causes(rng: Drawn, n: int, level: float) -> FloatArray:
    """Log hazard ratios of both causes, and the risk of the first in both arms from both models."""
    arm = worlds.halves(n)
    time, cause = worlds.two_causes(rng, arm)
    fit = cause_specific("Surv(t, c) ~ arm", pd.DataFrame({"t": time, "c": cause, "arm": arm}), level=level)
    risk = fit.absolute_risk(pd.DataFrame({"arm": [0, 1]}), [AT])
    return np.vstack([numbers(fit.coefficients.frame), numbers(risk.frame)])


def _one_cause(rng: Drawn, n: int, level: float) -> FloatArray:
    """A control: the model of the first cause alone, whose survival is read as the risk."""
    arm = worlds.halves(n)
    time, cause = worlds.two_causes(rng, arm)
    risk = [_one_minus_km(time[arm == a], cause[arm == a], level, "plain") for a in (0, 1)]
    return np.vstack([np.full((2, len(NUMBERS)), np.nan), risk])


def _states(rng: Drawn, n: int, level: float, over_time: bool) -> FloatArray:
    """Share in response at a time; a control takes the share among all of those last seen in response by then."""
    p = worlds.paths(rng, n)
    if not over_time:
        seen = p["start"] < AT
        last = pd.DataFrame({k: v[seen] for k, v in p.items()}).sort_values("stop").groupby("id").last()
        now = np.where(last["stop"] <= AT, last["to"], (last["start"] > 0) * 1.0)
        share = float((now == 1).mean())
        return row(share, np.sqrt(share * (1 - share) / n), level)
    origin = (p["start"] > 0).astype(np.int64)
    target = np.where(p["to"] > 0, p["to"], -1).astype(np.int64)
    found = occupation(p["start"], p["stop"], origin, target, p["id"].astype(np.int64), 3)
    at = int(np.searchsorted(found.time, AT, side="right")) - 1
    share, error = float(found.probability[at, 1]), float(found.std_error[at, 1])
    reach = np.exp(float(limits(0.0, error / share, level=level)["conf_high"]))
    return np.array([[share, error, share / reach, share * reach, np.nan]])


# ------------------------------------------------------------------------------------------- pairs of subjects


def _pairs(rng: Drawn, n: int, level: float) -> FloatArray:
    """Win ratio and win odds (logs) and net benefit, relapse before the score."""
    arm = worlds.halves(n)
    time, event, score = worlds.prioritised(rng, arm, EFFECT)
    frame = pd.DataFrame({"t": time, "e": event * 1, "arm": arm, "score": score})
    found = numbers(win_ratio("Surv(t, e) ~ arm", frame, then=["score"], level=level).frame)
    ratio = found[[0, 2]]
    found[[0, 2], 1] = np.log(ratio[:, 3] / ratio[:, 2]) / (2 * limits(0.0, 1.0, level=level)["conf_high"])
    found[[0, 2], 0] = np.log(ratio[:, 0])
    found[[0, 2], 2:4] = np.log(ratio[:, 2:4])
    return found


def _pairs_alike(rng: Drawn, n: int, level: float) -> FloatArray:
    """A control: pairs taken for independent."""
    found = _pairs(rng, n, level)
    m = (n // 2) * (n - n // 2)
    w = (1 + found[1, 0]) / 2
    error = np.array([1, 2 * w * (1 - w), 1]) / (w * (1 - w)) ** 0.5 / np.sqrt(m)
    return np.vstack([row(found[k, 0], float(error[k]), level) for k in range(3)])


# ------------------------------------------------------------------------------------------- restricted means


def _means(rng: Drawn, n: int, level: float, weighted: bool) -> FloatArray:
    """Difference of restricted means with a covariate; a control takes the time seen for the time without relapse."""
    arm = worlds.halves(n)
    time, event, x = worlds.followed(rng, arm, EFFECT, PROGNOSTIC)
    if weighted:
        frame = pd.DataFrame({"t": time, "e": event * 1, "arm": arm, "x": x})
        found = rmst("Surv(t, e) ~ arm", frame, tau=TAU, covariates=["x"], level=level).frame
        return numbers(found[found["quantity"] == "difference"])
    y = np.minimum(time, TAU)
    parts = [y[arm == a] for a in (1, 0)]
    return row(parts[0].mean() - parts[1].mean(), float(np.sqrt(sum(p.var(ddof=1) / p.size for p in parts))), level)


# ------------------------------------------------------------------------------------------- before the end

INTERIM, PLANNED, SOON, LATE = 30, 60, 36, 200


def adapted(rng: Drawn, n: int) -> tuple[pd.DataFrame, float]:
    """A trial without effect that ends soon when the interim looks promising and late when it does not; and the
    calendar time of the interim."""
    arm = worlds.halves(n)
    entry, latent = worlds.staggered(rng, arm, 0.0)
    entry = 4 * entry
    calendar = np.sort(entry + latent)
    interim = float(calendar[INTERIM - 1])
    seen = entry < interim
    z = logrank_z(np.minimum(latent, interim - entry)[seen], (entry + latent <= interim)[seen], arm[seen])
    promising = z < -1.0
    end = float(calendar[(SOON if promising else LATE) - 1])
    kept = entry < end
    time = np.minimum(latent, end - entry)[kept]
    frame = {"t": time, "e": (entry + latent <= end)[kept] * 1, "arm": arm[kept], "entry": entry[kept]}
    return pd.DataFrame(frame), interim


def _combined(rng: Drawn, n: int, level: float, weighted: bool) -> FloatArray:
    """One-sided p value of the combination with the planned weights; a control pools both stages."""
    frame, interim = adapted(rng, n)
    if weighted:
        plan = (INTERIM, PLANNED)
        found = weighted_logrank_combination(
            "Surv(t, e) ~ arm", frame, entry="entry", interim_time=interim, planned=plan, order={"arm": [0, 1]}
        )
        p = float(found.frame["p_value"].iloc[-1])
    else:
        time, event, arm = (frame[c].to_numpy() for c in ("t", "e", "arm"))
        p = float(ndtr(logrank_z(time, event == 1, arm)))
    return np.array([[np.nan, np.nan, np.nan, np.nan, p]])


SO_FAR, LATER, RATE, LOST = 0.4, (0.5, 1.5), 0.8, 0.15


def _projected(
    rng: Drawn, n: int, level: float, hazard: float | None = None, dropout: float | None = None
) -> FloatArray:
    """Events projected to two later times, less those that came: the limits hold the number that will be seen."""
    latent, gone = rng.exponential(1 / RATE, n), rng.exponential(1 / LOST, n)
    entry = rng.uniform(0, SO_FAR, n)
    first = np.minimum(latent, gone)
    now = SO_FAR - entry
    status = np.where(first > now, 0, np.where(latent < gone, 1, 2))
    frame = pd.DataFrame({"t": np.minimum(first, now), "s": status})
    found = project_events("Surv(t, s) ~ 1", frame, LATER, hazard=hazard, dropout=dropout).frame
    came = [float(((latent < gone) & (latent <= now + t)).sum()) for t in LATER]
    out = numbers(found)
    return np.column_stack([out[:, 0] - came, out[:, 1], out[:, 2] - came, out[:, 3] - came, out[:, 4]])


def _after_none(rng: Drawn, n: int, level: float) -> FloatArray:
    """A control: everybody stays."""
    return _projected(rng, n, level, hazard=RATE, dropout=0.0)


# ------------------------------------------------------------------------------------------- what there is

_RATIO = by_level("hazard_ratio", {"arm": float(np.exp(EFFECT))})
_NO_RATIO = by_level("hazard_ratio", {"arm": 1.0})
_FIRST = by_level("cumulative_incidence", {f"arm {a}": worlds.incidence_of_first(a, AT) for a in (0, 1)})
_CAUSES = known(
    *({"quantity": "log_hazard_ratio", "level": f"cause {k + 1}", "value": float(b)}
      for k, b in enumerate(worlds.CAUSE_EFFECTS)),
    *({"quantity": "risk", "level": f"arm {a}", "value": worlds.incidence_of_first(a, AT)} for a in (0, 1)),
)  # fmt: skip
_RESPONSE = known({"quantity": "state_occupation", "level": "response", "value": worlds.responded_at(AT)})
_WON, _LOST = worlds.shares_won(EFFECT)
_HALF = (1 + _WON - _LOST) / 2
_WINS = known(
    {"quantity": "log win ratio", "level": "both", "value": float(np.log(_WON / _LOST))},
    {"quantity": "net benefit", "level": "both", "value": _WON - _LOST},
    {"quantity": "log win odds", "level": "both", "value": float(np.log(_HALF / (1 - _HALF)))},
)
_GAIN = known({"quantity": "rmst_difference", "tau": TAU,
               "value": worlds.mean_to(TAU, EFFECT, PROGNOSTIC) - worlds.mean_to(TAU, 0.0, PROGNOSTIC)})  # fmt: skip
_NONE = by_level("type I error", {"one-sided": 1.0})
_COMING = by_level("events projected less events that came", {f"after {t:g}": 0.0 for t in LATER})

One = Callable[[Drawn, int, float], FloatArray]


def _estimator(name: str, rows: Any, one: One, world: str, log: bool = False) -> Estimator:
    return Estimator(name, (), rows, in_world(world, one), log)


ESTIMATORS: tuple[Estimator, ...] = (
    _estimator("cox-firth", _RATIO, partial(_few, penalty="firth", conf="profile"), "few", True),
    _estimator("cox-few", _RATIO, _few, "few", True),
    _estimator("cox-ridge", _NO_RATIO, partial(_ridge, b=0.0), "ridge", True),
    _estimator("cox-ridge-shrunk", _RATIO, partial(_ridge, b=EFFECT), "ridge", True),
    _estimator("cox-frailty", _RATIO, partial(_by_site, term=" + frailty(site, 'gamma')"), "sites", True),
    _estimator("cox-marginal", _RATIO, partial(_by_site, term=""), "sites", True),
    _estimator("cumulative_incidence", _FIRST, partial(_incidence, observed=True), "causes"),
    _estimator("cumulative_incidence-1-km", _FIRST, partial(_incidence, observed=False), "causes"),
    _estimator("cause_specific", _CAUSES, _causes, "causes"),
    _estimator("cause_specific-one-cause", _CAUSES, _one_cause, "causes"),
    _estimator("state_occupation", _RESPONSE, partial(_states, over_time=True), "paths"),
    _estimator("state_occupation-last-seen", _RESPONSE, partial(_states, over_time=False), "paths"),
    _estimator("win_ratio", _WINS, _pairs, "pairs"),
    _estimator("win_ratio-independent-pairs", _WINS, _pairs_alike, "pairs"),
    _estimator("rmst-covariates", _GAIN, partial(_means, weighted=True), "followed"),
    _estimator("rmst-time-seen", _GAIN, partial(_means, weighted=False), "followed"),
    _estimator("weighted_logrank_combination", _NONE, partial(_combined, weighted=True), "adapted"),
    _estimator("weighted_logrank_combination-pooled", _NONE, partial(_combined, weighted=False), "adapted"),
    _estimator("project_events", _COMING, partial(_projected, hazard=RATE, dropout=LOST), "projected"),
    _estimator("project_events-estimated", _COMING, _projected, "projected"),
    _estimator("project_events-nobody-leaves", _COMING, _after_none, "projected"),
)


def _published(estimator: str, n: int, control: bool = False, note: str = "") -> Certificate:
    return Certificate(estimator, "closed-forms", n, control=control, note=note)


CERTIFICATES: tuple[Certificate, ...] = (
    _published("cox-firth", 60, note="about six events, limits by profile likelihood"),
    _published("cox-few", 60, note="about six events, no penalty: one trial in twenty has no finite ratio"),
    _published("cox-ridge", 100, note="no effect, where shrinking does not bias"),
    _published("cox-ridge-shrunk", 100, control=True, note="an effect, which the penalty shrinks"),
    _published("cox-frailty", 200, note="ratio within twenty sites"),
    _published("cox-marginal", 200, control=True, note="sites ignored"),
    _published("cumulative_incidence", 100),
    _published("cumulative_incidence-1-km", 100, control=True, note="the other cause as censoring"),
    _published("cause_specific", 200),
    _published("cause_specific-one-cause", 200, control=True, note="risk from the model of one cause"),
    _published("state_occupation", 100),
    _published("state_occupation-last-seen", 100, control=True, note="last state seen by then"),
    _published("win_ratio", 120, note="relapse before a score, a third of the pairs left open by censoring"),
    _published("win_ratio-independent-pairs", 120, control=True, note="pairs taken for independent"),
    _published("rmst-covariates", 200, note="censoring weights by arm"),
    _published("rmst-time-seen", 200, control=True, note="censoring ignored"),
    _published("weighted_logrank_combination", 400, note="end chosen at the interim; one-sided, 5%"),
    _published("weighted_logrank_combination-pooled", 400, control=True, note="both stages pooled"),
    _published("project_events", 200, note="hazards known"),
    _published("project_events-estimated", 800, note="hazards estimated from about 110 events"),
    _published("project_events-nobody-leaves", 200, control=True, note="leaving ignored"),
)
