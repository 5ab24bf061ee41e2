"""Questions of a score beside its mean: crossovers, onset, guesses, expectancy, those who stay, those not seen."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, stdtr, stdtrit

from kapstats._types import FloatArray
from kapstats.certification.estimators.common import (
    NUMBERS,
    Certificate,
    Estimator,
    by_level,
    in_world,
    known,
    numbers,
)
from kapstats.kernels.one_proportion import wilson
from kapstats.relapse.kaplan_meier import kaplan_meier
from kapstats.response.crossover import crossover
from kapstats.response.missing import response_bounds
from kapstats.response.onset import onset_curve, time_to_response
from kapstats.response.principal import principal_effect
from kapstats.response.unblinding import effect_by_guess, expectancy_bound

Drawn = np.random.Generator


def _t(estimate: float, error: float, df: float, level: float) -> FloatArray:
    """One row of NUMBERS by t."""
    reach = float(stdtrit(df, 0.5 + level / 2)) * error
    p = 2 * float(stdtr(df, -abs(estimate / error)))
    return np.array([[estimate, error, estimate - reach, estimate + reach, p]])


# ------------------------------------------------------------------------------------------- crossovers

#: points: of treatment, of the second period, carried over; between and within subjects; share without a second period
GAIN, PERIOD, CARRIED, BETWEEN, WITHIN, LOST = -4.0, 3.0, -3.0, 5.0, 4.0, 0.15


def _two_periods(rng: Drawn, n: int, carried: float, share: float) -> pd.DataFrame:
    """Both periods of n subjects, a `share` of whom has the drug first; some leave after the first period."""
    drug_first = np.arange(n) < round(share * n)
    level = BETWEEN * rng.standard_normal(n)
    on = np.column_stack([drug_first, ~drug_first])
    y = level[:, None] + GAIN * on + WITHIN * rng.standard_normal((n, 2))
    y[:, 1] += PERIOD + carried * drug_first
    stays = rng.random(n) >= LOST
    rows = {"id": np.repeat(np.arange(n), 2), "period": np.tile([1, 2], n), "drug": np.where(on, "K", "P").ravel()}
    frame = pd.DataFrame({**rows, "y": y.ravel()})
    return frame[np.column_stack([np.ones(n, bool), stays]).ravel()]


def _crossover(rng: Drawn, n: int, level: float, carried: float) -> FloatArray:
    """The effect within subjects and that of the first period."""
    frame = _two_periods(rng, n, carried, 0.5)
    order = {"drug": ["P", "K"]}
    fit = crossover(frame, response="y", subject="id", period="period", treatment="drug", order=order)
    return np.vstack([numbers(fit.treatment(level=level).frame), numbers(fit.first_period(level=level).frame)])


def _no_period(rng: Drawn, n: int, level: float) -> FloatArray:
    """A control: the paired t test, two thirds of the subjects with the drug first."""
    wide = _two_periods(rng, n, 0.0, 2 / 3).pivot(index="id", columns="drug", values="y").dropna()
    gap = (wide["K"] - wide["P"]).to_numpy()
    found = _t(gap.mean(), gap.std(ddof=1) / np.sqrt(gap.size), gap.size - 1, level)
    return np.vstack([found, np.full((1, len(NUMBERS)), np.nan)])


# ------------------------------------------------------------------------------------------- onset

DAYS = np.array([1.0, 3.0, 7.0, 14.0, 28.0])
PLATEAU, HALF, SHARED = -6.0, 2.0, 0.8


def _onset(rng: Drawn, n: int, level: float, correlated: bool) -> FloatArray:
    """Plateau and half-time (log) of differences by visit, with or without what is known of their correlation; their
    standard errors are 1 at 80 subjects."""
    error = float(np.sqrt(80 / n))
    cov = error**2 * (SHARED + (1 - SHARED) * np.eye(DAYS.size))
    y = PLATEAU * -np.expm1(-np.log(2) * DAYS / HALF) + np.linalg.cholesky(cov) @ rng.standard_normal(DAYS.size)
    rows = pd.DataFrame({"estimate": y, "std_error": error})
    found = numbers(onset_curve(rows, DAYS.tolist(), vcov=cov if correlated else None, level=level).frame)
    found[1, :2] = np.nan
    return found


#: median days to response, visit days, share that leaves before each visit
MEDIAN, VISITS, LEAVES = 14.0, np.array([2.0, 8.0, 15.0, 22.0, 29.0]), 0.12

SHOWN = (15.0, 29.0)


def _responses(rng: Drawn, n: int, level: float, censored: bool) -> FloatArray:
    """Share that has responded by two visits, from the days of the first response; a control takes those who left for
    people who did not respond."""
    latent = rng.exponential(MEDIAN / np.log(2), n)
    last = np.minimum(rng.geometric(LEAVES, n) - 1, VISITS.size)
    there = np.arange(VISITS.size) < last[:, None]
    score = np.where(latent[:, None] <= VISITS, 12.0, 28.0)
    rows = {"USUBJID": np.repeat(np.arange(n), VISITS.size), "ADY": np.tile(VISITS, n), "AVAL": score.ravel()}
    held = pd.DataFrame({**rows, "BASE": 30.0})[there.ravel()]
    found = time_to_response(held)
    if censored:
        curve = kaplan_meier("Surv(AVAL, CNSR == 0) ~ 1", found, level=level).at(SHOWN).frame
        out = numbers(curve)
        return np.column_stack([1 - out[:, 0], out[:, 1], 1 - out[:, 3], 1 - out[:, 2], out[:, 4]])
    x = np.array([((found["CNSR"] == 0) & (found["AVAL"] <= t)).sum() for t in SHOWN])
    low, high = wilson(x.astype(float), np.full(2, float(n)), (1 - level) / 2)
    return np.column_stack([x / n, np.sqrt(x / n * (1 - x / n) / n), low, high, [np.nan, np.nan]])


# ------------------------------------------------------------------------------------------- guesses

EFFECT, SD, GUESSES, FOLLOWS = -4.0, 8.0, (0.45, 0.75), 1.2


def _guessed(rng: Drawn, n: int, level: float, follows: float) -> FloatArray:
    """Differences as they are, within both guesses, and adjusted; `follows`: how far a guess comes from the outcome."""
    arm = np.arange(n) % 2
    noise = rng.standard_normal(n)
    chance = np.array(GUESSES)[arm]
    p = expit(np.log(chance / (1 - chance)) - follows * (noise + EFFECT / SD * arm))
    guess = np.where(rng.random(n) < p, "K", "P")
    frame = pd.DataFrame({"arm": np.where(arm, "K", "P"), "guess": guess, "y": EFFECT * arm + SD * noise})
    return numbers(effect_by_guess(frame, "y", arm="arm", guess="guess", reference="P", level=level).frame)


BELIEVED = -5.0


def _expectancy(rng: Drawn, n: int, level: float, expectancy: float) -> FloatArray:
    """What is left of a difference if believing moves the outcome by so much."""
    arm = np.arange(n) % 2
    believes = rng.random(n) < np.array(GUESSES)[arm]
    y = EFFECT * arm + BELIEVED * believes + SD * rng.standard_normal(n)
    parts = [y[arm == a] for a in (1, 0)]
    error = np.sqrt(sum(p.var(ddof=1) / p.size for p in parts))
    effect = pd.DataFrame({"estimate": [parts[0].mean() - parts[1].mean()], "std_error": [error]})
    told: dict[Any, Sequence[int]] = {
        a: (int(believes[arm == a].sum()), int((~believes[arm == a]).sum()), 0) for a in (1, 0)
    }
    return numbers(expectancy_bound(effect, told, [expectancy], level=level).frame)


# ------------------------------------------------------------------------------------------- who stays, who is seen

#: log odds of staying under the drug per SD of baseline, points per SD of baseline, effect and its slope in baseline
STAYS, BASELINE, INSIDE, MORE, REPLICATES = (0.8, -1.2), 5.0, -4.0, -2.0, 200


def _stratum(rng: Drawn, n: int, level: float, weighted: bool) -> FloatArray:
    """Effect in those who stay on the drug; a control leaves out whoever stopped, in both arms."""
    arm, x = np.arange(n) % 2, rng.standard_normal(n)
    stays = rng.random(n) < expit(STAYS[0] + STAYS[1] * x)
    stopped = np.where(arm == 1, ~stays, rng.random(n) < 0.1)
    y = BASELINE * x + (INSIDE + MORE * x) * arm + 6.0 * rng.standard_normal(n)
    frame = pd.DataFrame({"arm": np.where(arm, "K", "P"), "x": x, "stopped": stopped * 1, "y": y})
    found = principal_effect(
        frame, "y", arm="arm", event="stopped", covariates="x", reference="P", replicates=REPLICATES, level=level
    ).frame
    return numbers(found[found["quantity"] == ("principal stratum" if weighted else "left out")])


def inside() -> float:
    """Mean effect in the stratum (Gauss-Hermite over baseline)."""
    z, w = np.polynomial.hermite_e.hermegauss(80)
    share = w * expit(STAYS[0] + STAYS[1] * z)
    return float(share @ (INSIDE + MORE * z)) / float(share.sum())


#: probability of response, and of being seen for those who respond and those who do not
RESPONDS, SEEN = 0.4, {"the worst": (1.0, 0.7), "in between": (0.9, 0.5)}


def _unseen(rng: Drawn, n: int, level: float, bounded: bool) -> FloatArray:
    """Limits of a response share whatever those not seen did; a control takes those seen for all."""
    out = []
    for seen in SEEN.values():
        responds = rng.random(n) < RESPONDS
        there = rng.random(n) < np.where(responds, *seen)
        found = response_bounds(int((responds & there).sum()), int(there.sum()), n, level=level).frame
        out.append(numbers(found[found["assumption"] == ("any" if bounded else "missing at random")])[0])
    return np.array(out)


# ------------------------------------------------------------------------------------------- what there is

_GAIN = by_level("mean_difference", {"within subjects": GAIN, "first period": GAIN})
_ONSET = by_level("onset", {"plateau": PLATEAU, "half-time": HALF})
_RESPONDED = known(*({"quantity": "response by", "time": t, "value": 1 - 0.5 ** (t / MEDIAN)} for t in SHOWN))
_GUESS = by_level("mean_difference", dict.fromkeys(("as it is", "guessed K", "guessed P", "adjusted"), EFFECT))
_LEFT = by_level("mean_difference", {"without expectancy": EFFECT})
_INSIDE = by_level("mean_difference", {"principal stratum": inside()})
_SHARE = by_level("response", {f"unseen: {k}": RESPONDS for k in SEEN})

ESTIMATORS: tuple[Estimator, ...] = (
    Estimator("crossover", (), _GAIN, in_world("periods", partial(_crossover, carried=0.0))),
    Estimator("crossover-carried-over", (), _GAIN, in_world("periods", partial(_crossover, carried=CARRIED))),
    Estimator("crossover-no-period", (), _GAIN, in_world("periods", _no_period)),
    Estimator("onset_curve", (), _ONSET, in_world("onset", partial(_onset, correlated=True))),
    Estimator("onset_curve-diagonal", (), _ONSET, in_world("onset", partial(_onset, correlated=False))),
    Estimator("time_to_response", (), _RESPONDED, in_world("responses", partial(_responses, censored=True))),
    Estimator("time_to_response-of-all", (), _RESPONDED, in_world("responses", partial(_responses, censored=False))),
    Estimator("effect_by_guess", (), _GUESS, in_world("guesses", partial(_guessed, follows=0.0))),
    Estimator("effect_by_guess-from-outcome", (), _GUESS, in_world("guesses", partial(_guessed, follows=FOLLOWS))),
    Estimator("expectancy_bound", (), _LEFT, in_world("beliefs", partial(_expectancy, expectancy=BELIEVED))),
    Estimator("expectancy_bound-none", (), _LEFT, in_world("beliefs", partial(_expectancy, expectancy=0.0))),
    Estimator("principal_effect", (), _INSIDE, in_world("stratum", partial(_stratum, weighted=True))),
    Estimator("principal_effect-left-out", (), _INSIDE, in_world("stratum", partial(_stratum, weighted=False))),
    Estimator("response_bounds", (), _SHARE, in_world("unseen", partial(_unseen, bounded=True))),
    Estimator("response_bounds-as-seen", (), _SHARE, in_world("unseen", partial(_unseen, bounded=False))),
)


def _published(estimator: str, n: int, control: bool = False, note: str = "", replicates: int = 10_000) -> Certificate:
    return Certificate(estimator, "closed-forms", n, replicates, control, note)


CERTIFICATES: tuple[Certificate, ...] = (
    _published("crossover", 24, note="one in seven without a second period"),
    _published("crossover-carried-over", 24, control=True, note="within subjects; the first period stays right"),
    _published("crossover-no-period", 24, control=True, note="paired t test, sequences of unequal size"),
    _published("onset_curve", 320, note="five visits, covariance known; profile limits of the half-time"),
    _published("onset_curve", 80, control=True, note="plateau a tenth of its SE too large: curved; limits still cover"),
    _published("onset_curve-diagonal", 80, control=True, note="visits taken for independent"),
    _published("time_to_response", 100, note="one in eight leaves before each visit"),
    _published("time_to_response-of-all", 100, control=True, note="those who left did not respond"),
    _published("effect_by_guess", 120, note="guesses that do not follow from the outcome"),
    _published("effect_by_guess-from-outcome", 120, control=True, note="guesses that follow from the outcome"),
    _published("expectancy_bound", 120, note="the expectancy is the true one"),
    _published("expectancy_bound-none", 120, control=True, note="expectancy taken for effect"),
    _published("principal_effect", 200, note="200 bootstrap samples", replicates=2_000),
    _published("principal_effect-left-out", 200, control=True, note="whoever stopped left out", replicates=2_000),
    _published("response_bounds", 200),
    _published("response_bounds-as-seen", 200, control=True, note="those seen taken for all"),
)
