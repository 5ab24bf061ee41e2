"""Follow-up beyond one time to relapse: competing risks, recurrence, visits of several spacings, interim analyses.

The worlds have their truth in closed form; the scenario lends the number of subjects, the arms and the seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd
from scipy.special import chdtrc, ndtri

from kapstats._types import BoolArray, FloatArray, IntArray
from kapstats.certification.estimators import worlds
from kapstats.certification.estimators.common import (
    Analysis,
    Answer,
    Certificate,
    Estimator,
    decided,
    estimated,
    fits,
    generator,
    known,
    wald,
)
from kapstats.kernels import aalen_johansen as aj
from kapstats.kernels import cox_residuals as cr
from kapstats.kernels import fine_gray as fg
from kapstats.kernels import group_sequential as gs
from kapstats.kernels import interval_ph, npmle
from kapstats.kernels import weighted_logrank as wl
from kapstats.kernels.cox_newton import cox_data
from kapstats.kernels.cox_newton import fit as cox_fit
from kapstats.kernels.mean_cumulative import mean_cumulative
from kapstats.kernels.product_limit import product_limit
from kapstats.kernels.risk_sets import risk_sets
from kapstats.relapse.cox import cox
from kapstats.relapse.kaplan_meier import kaplan_meier
from kapstats.simulation.draw import Draw
from kapstats.simulation.scenario import Scenario

#: log ratio under the alternative, of subdistribution hazards and of rates
EFFECT = float(np.log(0.6))
RATE, FRAILTY = 2.0, 0.5
#: when the mean number of events is asked for
BY = 0.75
#: Weibull relapse in days, visits from weekly to four-weekly over half a year, one in ten missed
SHAPE, SCALE, END, MISSED = 0.85, 180.0, 168.0, 0.1
GAPS = (7.0, 14.0, 28.0)
AT = 112.0

One = Callable[[np.random.Generator, IntArray], Sequence[Sequence[float]]]


def each(component: str, one: One, draws: Sequence[Draw]) -> FloatArray:
    """(replicates, rows, numbers): `one` of the replicate's own generator and its arms, 0 or 1."""
    found = [one(generator(d, component), np.minimum(d.subjects.arm, 1)) for d in draws]
    return np.asarray(found, dtype=float)


def estimates(component: str, one: One) -> Analysis:
    """`one` gives estimate and standard error per row."""

    def analyse(scenario: Scenario, draws: Sequence[Draw], level: float) -> Answer:
        x = each(component, one, draws)
        return wald(x[..., 0], x[..., 1], level)

    return analyse


def tests(component: str, one: One) -> Analysis:
    """`one` gives a p value per row."""
    return lambda scenario, draws, level: decided(each(component, one, draws)[..., 0])


# ------------------------------------------------------------------------------------------- competing risks


def _fine_gray(rng: np.random.Generator, arm: IntArray, b: float, observed: bool) -> list[list[float]]:
    """Fine and Gray's model; or, as a control, Cox's with the other cause as censoring."""
    time, cause = worlds.competing(rng, arm, b)
    x = arm[:, None].astype(float)
    if observed:
        fit = fg.fine_gray(time, cause, x)
        if not np.isfinite(fit.coef[0]):
            return [[np.nan, np.nan]]
        return [[float(fit.coef[0]), float(np.sqrt(fit.vcov[0, 0]))]]
    best = cox_fit(cox_data(risk_sets(time, cause == 1), x))
    return [[float(best.b[0]), float(best.at.information[0, 0] ** -0.5)]]


def _gray(rng: np.random.Generator, arm: IntArray, rho: float) -> list[list[float]]:
    time, cause = worlds.competing(rng, arm, 0.0)
    return [[aj.gray_test(time, cause, arm, 2, rho=rho).p_value]]


def other_cause_differs(rng: np.random.Generator, arm: IntArray) -> tuple[FloatArray, IntArray]:
    """Times and causes with equal incidence of cause 1, where arm 1 meets the other cause earlier."""
    time, cause = worlds.competing(rng, arm, 0.0)
    leaves = rng.exponential(0.7, arm.size)
    early = (arm == 1) & (cause != 1) & (leaves < time)
    return np.where(early, leaves, time), np.where(early, 2, cause)


def _cause_specific_logrank(rng: np.random.Generator, arm: IntArray) -> list[list[float]]:
    """Control: equal incidence of cause 1 where the other cause differs, tested by the log-rank test."""
    time, cause = other_cause_differs(rng, arm)
    return [[float(chdtrc(1, logrank_z(time, cause == 1, arm) ** 2))]]


def logrank_z(time: FloatArray, event: BoolArray, arm: IntArray) -> float:
    """The log-rank statistic, positive when arm 1 has more events than expected."""
    counts = wl.group_counts(risk_sets(time, event), arm, 2)
    found = wl.weighted_scores(counts, np.ones((1, counts.n.size)))
    return float(found.score[0, 1] / np.sqrt(found.covariance[0, 0, 1, 1]))


# ------------------------------------------------------------------------------------------- recurrence


def _rate_ratio(rng: np.random.Generator, arm: IntArray, b: float, robust: bool) -> list[list[float]]:
    """Lin, Wei, Yang and Ying's rate model; or, as a control, with the variance of independent events."""
    start, stop, event, subject = worlds.recurrent(rng, arm, b, RATE, FRAILTY)
    data = cox_data(risk_sets(stop, event, start), arm[subject, None].astype(float), efron=False)
    best = cox_fit(data)
    variance = 1.0 / best.at.information[0, 0]
    if robust:
        scores = cr.cluster_sums(data.sets.unsort(cr.score_residuals(data, best.b)), subject)
        variance = variance**2 * float((scores**2).sum())
    return [[float(best.b[0]), float(np.sqrt(variance))]]


def _mean_count(rng: np.random.Generator, arm: IntArray) -> list[list[float]]:
    start, stop, event, subject = worlds.recurrent(rng, np.zeros_like(arm), 0.0, RATE, FRAILTY)
    found = mean_cumulative(start, stop, event, subject)
    at = int(np.searchsorted(found.time, BY, side="right")) - 1
    return [[float(found.mean[at]), float(found.std_error[at])]]


def _mean_counts(scenario: Scenario, draws: Sequence[Draw], level: float) -> Answer:
    """Limits on the log scale."""
    x = each("recurrent", _mean_count, draws)
    mean, error = x[..., 0], x[..., 1]
    reach = np.exp(ndtri(0.5 + level / 2) * error / mean)
    good = np.isfinite(mean) & np.isfinite(error)
    return Answer(mean, error, mean / reach, mean * reach, np.full(mean.shape, np.nan), good)


# ------------------------------------------------------------------------------------------- standardisation

WEEK = 26.0


def _standardised(rng: np.random.Generator, arm: IntArray, adjusted: bool) -> list[list[float]]:
    """Difference in survival standardised over the covariate; or, as a control, of the two Kaplan-Meier curves."""
    time, event, x = worlds.confounded(rng, arm, EFFECT)
    frame = pd.DataFrame({"t": time, "e": event.astype(int), "arm": arm, "x": x})
    if adjusted:
        found = cox("Surv(t, e) ~ arm + x", frame).adjusted_survival("arm", [WEEK]).differences
    else:
        found = kaplan_meier("Surv(t, e) ~ arm", frame).milestone(WEEK)
    return found.frame[["estimate", "std_error"]].to_numpy(float).tolist()


# ------------------------------------------------------------------------------------------- visits


def _free(rng: np.random.Generator, arm: IntArray, interval: bool) -> list[list[float]]:
    """Relapse-free share on a visit day: Turnbull's, or Kaplan-Meier's of the day on which relapse was found."""
    rows = []
    for gap in GAPS:
        left, right = worlds.visited(rng, arm.size, gap, MISSED, END, SHAPE, SCALE)
        if interval:
            found = npmle.npmle(left, right)
            rows.append([float(npmle.survival_at(found, np.array([AT]))[0])])
        else:
            seen = np.isfinite(right)
            sets = risk_sets(np.where(seen, right, left), seen)
            S = np.append(1.0, product_limit(sets).survival)
            rows.append([float(S[np.searchsorted(sets.time, AT, side="right")])])
    return rows


def _shares(interval: bool) -> Analysis:
    def analyse(scenario: Scenario, draws: Sequence[Draw], level: float) -> Answer:
        x = each("visits", partial(_free, interval=interval), draws)[..., 0]
        nothing = np.full(x.shape, np.nan)
        return Answer(x, nothing, nothing, nothing, nothing, np.isfinite(x))

    return analyse


def monthly(rng: np.random.Generator, arm: IntArray) -> tuple[FloatArray, FloatArray]:
    """left, right of relapse between monthly visits, with an effect of the arm."""
    return worlds.visited(rng, arm.size, GAPS[-1], MISSED, END, SHAPE, SCALE * np.exp(-EFFECT * arm / SHAPE))


def _interval_cox(scenario: Scenario, d: Draw, level: float) -> list[list[float]]:
    """Semi-parametric proportional hazards of monthly visits, limits and p value of the profile likelihood."""
    arm = np.minimum(d.subjects.arm, 1)
    left, right = monthly(generator(d, "visits"), arm)
    X = arm[:, None].astype(float)
    fit = interval_ph.interval_ph(left, right, X)
    if not fit.converged:
        return [[np.nan] * 5]
    limits, chi2 = interval_ph.profile_limits(left, right, X, fit, level=level)
    error, p = np.sqrt(fit.vcov[0, 0]), interval_ph.likelihood_ratio(chi2)[0]
    return [[float(v) for v in (fit.coef[0], error, *limits[0], p)]]


# ------------------------------------------------------------------------------------------- interim analyses

LOOKS = (0.5, 0.75, 1.0)


#: the two-sided 5% of one analysis
UNADJUSTED = 1.959964


def looks(
    rng: np.random.Generator, arm: IntArray, z: Callable[[FloatArray, BoolArray, IntArray], float]
) -> tuple[FloatArray, FloatArray]:
    """Statistics and numbers of events at three analyses of what is seen by then; there is no effect."""
    entry, latent = worlds.staggered(rng, arm, 0.0)
    calendar = np.sort(entry + latent)
    events = np.round(np.array(LOOKS) * int(0.8 * arm.size))

    def at(cut: float) -> float:
        rows = entry < cut
        return z(np.minimum(latent, cut - entry)[rows], (entry + latent <= cut)[rows], arm[rows])

    return np.array([at(calendar[int(k) - 1]) for k in events]), events


def _interim(rng: np.random.Generator, arm: IntArray, spending: bool) -> list[list[float]]:
    """Two-sided 5% design with three analyses by events; or, as a control, 1.96 at each of them."""
    z, events = looks(rng, arm, logrank_z)
    t = events / events[-1]
    alpha = gs.obrien_fleming_spending(0.025, t)
    bounds = gs.spending_boundaries(t, 2.0 * alpha, two_sided=True) if spending else np.full(len(t), UNADJUSTED)
    over = bool((np.abs(z) >= bounds).any())
    return [[0.0 if over else 1.0]]


_SURVIVAL = float(np.exp(-((AT / SCALE) ** SHAPE)))
_FREE = known(*({"quantity": "relapse_free", "visits": f"every {g:g} days", "value": _SURVIVAL} for g in GAPS))
_SUB = {"quantity": "subdistribution_hazard_ratio", "value": float(np.exp(EFFECT))}
_NULL = known({"quantity": "type I error", "value": 1.0})
_DIFFERENCE = known({"quantity": "relapse_free_difference", "time": WEEK,
                     "value": worlds.standardised(EFFECT, WEEK) - worlds.standardised(0.0, WEEK)})  # fmt: skip
_RATIO = known({"quantity": "rate_ratio", "value": float(np.exp(EFFECT))})

ESTIMATORS: tuple[Estimator, ...] = (
    Estimator("fine_gray", (), known(_SUB), estimates("competing", partial(_fine_gray, b=EFFECT, observed=True)), True),
    Estimator("fine_gray-as-censored", (), known(_SUB),
              estimates("competing", partial(_fine_gray, b=EFFECT, observed=False)), True),
    Estimator("gray_test", (), _NULL, tests("competing", partial(_gray, rho=0.0))),
    Estimator("gray_test-as-censored", (), _NULL, tests("competing", _cause_specific_logrank)),
    Estimator("recurrent-lwyy", (), _RATIO, estimates("recurrent", partial(_rate_ratio, b=EFFECT, robust=True)), True),
    Estimator("recurrent-model-based", (), _RATIO,
              estimates("recurrent", partial(_rate_ratio, b=EFFECT, robust=False)), True),
    Estimator("mean_cumulative_function", (), known({"quantity": "mean number of events", "value": BY * RATE}),
              _mean_counts),
    Estimator("adjusted_survival", (), _DIFFERENCE, estimates("confounded", partial(_standardised, adjusted=True))),
    Estimator("adjusted_survival-crude", (), _DIFFERENCE,
              estimates("confounded", partial(_standardised, adjusted=False))),
    Estimator("turnbull", (), _FREE, _shares(True)),
    Estimator("kaplan_meier-found", (), _FREE, _shares(False)),
    Estimator("interval_cox", (), known({"quantity": "hazard_ratio", "value": float(np.exp(EFFECT))}),
              fits(_interval_cox, estimated), True),
    Estimator("group_sequential", (), _NULL, tests("staggered", partial(_interim, spending=True))),
    Estimator("group_sequential-unadjusted", (), _NULL, tests("staggered", partial(_interim, spending=False))),
)  # fmt: skip

CERTIFICATES: tuple[Certificate, ...] = (
    Certificate("fine_gray", "kap-two-arms", 200),
    Certificate("fine_gray-as-censored", "kap-two-arms", 200, control=True,
                note="the other cause as censoring estimates another ratio"),
    Certificate("gray_test", "kap-two-arms", 200, note="rejection is the type I error"),
    Certificate("gray_test-as-censored", "kap-two-arms", 200, control=True,
                note="the other cause differs, the log-rank test takes it for an effect"),
    Certificate("recurrent-lwyy", "kap-two-arms", 200),
    Certificate("recurrent-model-based", "kap-two-arms", 200, control=True,
                note="events of a subject are not independent"),
    Certificate("mean_cumulative_function", "kap-two-arms", 200),
    Certificate("adjusted_survival", "kap-two-arms", 200, note="times tied by the week, a covariate apart"),
    Certificate("adjusted_survival-crude", "kap-two-arms", 200, control=True, note="without adjustment"),
    Certificate("turnbull", "kap-two-arms", 200),
    Certificate("kaplan_meier-found", "kap-two-arms", 200, control=True,
                note="relapse taken to happen when it is found: one visit in ten was missed"),
    Certificate("interval_cox", "kap-two-arms", 200),
    Certificate("group_sequential", "kap-two-arms", 200, note="three analyses, O'Brien-Fleming spending, 5% two-sided"),
    Certificate("group_sequential-unadjusted", "kap-two-arms", 200, control=True, note="1.96 at each analysis"),
)  # fmt: skip
