"""Scores at one visit, responders, sessions, doses and guesses: the library's own calls, replicate by replicate."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from kapstats.certification.estimators.common import Certificate, Estimator, Row, arms_of, contrast_rows, fits
from kapstats.certification.estimators.response import last_visit, two_arms
from kapstats.response.ancova import ancova
from kapstats.response.blinding import blinding_index
from kapstats.response.dose import dose_response
from kapstats.response.gee import gee
from kapstats.response.glmm import glmm
from kapstats.simulation.draw import Draw, present
from kapstats.simulation.scenario import Scenario, load
from kapstats.simulation.subjects import OLDER

Fit = Callable[[Scenario, Draw, float], pd.DataFrame]


def at_last_visit(scenario: Scenario, d: Draw) -> pd.DataFrame:
    """Change at the last visit of those who are seen there, with arm, baseline and sex by age group."""
    scores, seen = present(d.disposition), present(d.disposition).observed[:, -1]
    base, who = present(d.scores).base, d.subjects
    frame = pd.DataFrame({"change": scores.policy[:, -1] - base, "base": base, "arm": arms_of(scenario, who.arm)})
    frame["stratum"] = pd.Categorical(2 * who.female + (who.age >= OLDER))
    return frame[seen]


def _ancova(formula: str, weights: str = "equal") -> Fit:
    """Adjusted differences of every arm to the first; `weights` of the strata in the least-squares means."""

    def one(scenario: Scenario, d: Draw, level: float) -> pd.DataFrame:
        fit = ancova(formula, at_last_visit(scenario, d))
        return fit.lsmeans("arm", weights=weights).contrast("trt.vs.ctrl", level=level).frame

    return one


def responders(scenario: Scenario, d: Draw) -> pd.DataFrame:
    """Responders (0 or 1) at every visit held, long."""
    spec, held = present(scenario.response), present(d.disposition)
    base = present(d.scores).base[:, None]
    who, visit = np.nonzero(held.observed)
    hit = (base - held.policy >= spec.response_fraction * base)[who, visit]
    return pd.DataFrame(
        {"id": who, "visit": pd.Categorical(visit), "arm": arms_of(scenario, d.subjects.arm[who]), "hit": hit * 1}
    )


def _gee(structure: str, vcov: str) -> Fit:
    """Odds ratio of response common to all visits; subjects are the clusters."""

    def one(scenario: Scenario, d: Draw, level: float) -> pd.DataFrame:
        fit = gee("hit ~ arm + visit + cluster(id)", responders(scenario, d), structure=structure, vcov=vcov)
        found = fit.coefficients_by(level=level).frame
        return found[found["term"].str.startswith("arm")]

    return one


#: the event whose sessions are modelled
EVENT = "Dissociation"


def sessions(scenario: Scenario, d: Draw) -> pd.DataFrame:
    """Whether the event happened in each session given, with log(1 + Cmax / 50) and the session's number from 0."""
    taken, events = present(d.sessions), present(d.events)
    term = next(i for i, t in enumerate(present(scenario.adverse_events).terms) if t.pt == EVENT)
    hit = np.zeros(taken.given.shape)
    of_term = events.term == term
    hit[events.subject[of_term], events.session[of_term]] = 1
    who, session = np.nonzero(taken.given)
    exposure = np.log1p(taken.cmax[who, session] / 50.0)
    return pd.DataFrame({"id": who, "session": session, "exposure": exposure, "hit": hit[who, session]})


def _session_rows(scenario: Scenario) -> list[Row]:
    """The generator's own coefficients, given the subject."""
    spec = present(scenario.adverse_events)
    slope = next(t.slope for t in spec.terms if t.pt == EVENT)
    values = {"exposure": slope, "session": spec.attenuation}
    return [{"quantity": "log_odds", "level": k, "value": v, "mc_error": 0.0} for k, v in values.items()]


def _glmm(quadrature: int, penalty: str | None = None) -> Fit:
    def one(scenario: Scenario, d: Draw, level: float) -> pd.DataFrame:
        rows = sessions(scenario, d)
        fit = glmm("hit ~ exposure + session + (1 | id)", rows, quadrature=quadrature, penalty=penalty)
        return fit.coefficients_by(level=level).frame.iloc[1:3]

    return one


def _marginal(scenario: Scenario, d: Draw, level: float) -> pd.DataFrame:
    """Population-averaged coefficients, taken for those of a subject."""
    fit = gee("hit ~ exposure + session + cluster(id)", sessions(scenario, d), structure="independence")
    return fit.coefficients_by(level=level).frame.iloc[1:3]


def _dose_rows(scenario: Scenario) -> list[Row]:
    day = f"Day {present(scenario.response).days[-1]}"
    kept = {"strategy": "hypothetical", "AVISIT": day}
    return [{"quantity": "mean_change", "TRT01P": a.label, **kept} for a in scenario.arms]


def _dose(model: str) -> Fit:
    """Mean change at every dose, read off a dose-response curve through the means of the arms."""

    def one(scenario: Scenario, d: Draw, level: float) -> pd.DataFrame:
        means = ancova("change ~ arm", at_last_visit(scenario, d)).lsmeans("arm")
        doses = [a.dose for a in scenario.arms]
        fit = dose_response(means, doses, models=(model,), draws=200, seed=d.replicate, level=level)
        return fit.predict(doses).frame.assign(p_value=np.nan)

    return one


def _bang_rows(scenario: Scenario) -> list[Row]:
    """P(guess is right) - P(guess is wrong) of every arm."""
    sign = [1.0 if a.drug != "PLACEBO" else -1.0 for a in scenario.arms]
    value = [s * (2 * (a.believes or 0.0) - 1) for s, a in zip(sign, scenario.arms, strict=True)]
    return [
        {"quantity": "bang_index", "TRT01P": a.label, "value": v, "mc_error": 0.0}
        for a, v in zip(scenario.arms, value, strict=True)
    ]


def _bang(scenario: Scenario, d: Draw, level: float) -> pd.DataFrame:
    drug = np.array([a.drug != "PLACEBO" for a in scenario.arms])
    guess = np.where(present(d.believers), scenario.arms[int(drug.argmax())].label, scenario.reference.label)
    frame = pd.DataFrame({"arm": arms_of(scenario, d.subjects.arm), "guess": guess})
    return blinding_index(frame, arm="arm", guess="guess", level=level).frame


# ------------------------------------------------------------------------------------------------ scenarios


def at_random() -> Scenario:
    """Two arms in which nobody leaves for a reason."""
    lost = {"mechanism": "MCAR", "intercept": -3.5, "gap": 0.03}
    return two_arms().change(name="kap-two-arms-mcar", dropout=lost)


def not_at_random() -> Scenario:
    """Two arms in which those leave who are about to do badly, more of them on the drug."""
    lost = {"mechanism": "MNAR", "intercept": -2.0, "slope": 3.0}
    return two_arms().change(name="kap-two-arms-mnar", dropout=lost)


def by_dose() -> Scenario:
    """kap-dose-finding with effects that are an Emax curve, on a scale without ends."""
    whole = load("kap-dose-finding")
    doses = [0.0, *(a.dose for a in whole.arms[1:])]
    arms = [
        {"label": a.label, "code": a.code, "route": a.route, "drug": a.drug, "dose": x, "effect": -11.0 * x / (0.2 + x)}
        for a, x in zip(whole.arms, doses, strict=True)
    ]
    flat = {"low": -300, "high": 400, "days": [3], "reference_change": [-9.5], "onset": [1.0], "sd": [10.0],
            "correlation": [[0.34]]}  # fmt: skip
    lost = {"mechanism": "MCAR", "intercept": -4.0}
    bare = whole.change(relapse=None, adverse_events=None, dosing=None)
    return bare.change(name="kap-emax", arms=arms, response=flat, dropout=lost)


def guessed() -> Scenario:
    """Two arms that guess what they were given."""
    arms = [
        {"label": a.label, "code": a.code, "route": a.route, "drug": a.drug, "effect": a.effect, "believes": p}
        for a, p in zip(two_arms().arms, (0.4, 0.7), strict=True)
    ]
    return two_arms().change(name="kap-two-arms-guess", arms=arms, dropout=None)


def own_exposure() -> Scenario:
    """kap-parallel in which half of the effect or more goes through the subject's own concentration."""
    whole = load("kap-parallel").change(relapse=None, adverse_events=None, course=None)
    return whole.change(name="kap-own-exposure", response={"exposure": -3.0})


SCENARIOS: dict[str, Callable[[], Scenario]] = {
    "kap-two-arms-mcar": at_random,
    "kap-two-arms-mcar-null": lambda: at_random().null(),
    "kap-two-arms-mnar": not_at_random,
    "kap-two-arms-guess": guessed,
    "kap-emax": by_dose,
    "kap-own-exposure": own_exposure,
}

_RESPONSE, _EVENTS = ("response",), ("adverse_events",)
_NO_ODDS = contrast_rows("response_odds_ratio", lambda s: [{"value": 1.0, "mc_error": 0.0}])

ESTIMATORS: tuple[Estimator, ...] = (
    Estimator("ancova", _RESPONSE, last_visit, fits(_ancova("change ~ base + arm"))),
    Estimator("ancova-crude", _RESPONSE, last_visit, fits(_ancova("change ~ base + arm"))),
    Estimator(
        "ancova-standardised", _RESPONSE, last_visit, fits(_ancova("change ~ base + arm*stratum", "proportional"))
    ),
    Estimator("gee", _RESPONSE, _NO_ODDS, fits(_gee("exchangeable", "bias-reduced")), log=True),
    Estimator("gee-naive", _RESPONSE, _NO_ODDS, fits(_gee("independence", "naive")), log=True),
    Estimator("glmm", _EVENTS, _session_rows, fits(_glmm(7))),
    Estimator("glmm-firth", _EVENTS, _session_rows, fits(_glmm(7, "firth"))),
    Estimator("glmm-laplace", _EVENTS, _session_rows, fits(_glmm(1))),
    Estimator("glmm-marginal", _EVENTS, _session_rows, fits(_marginal)),
    Estimator("dose_response-emax", _RESPONSE, _dose_rows, fits(_dose("emax"))),
    Estimator("dose_response-linear", _RESPONSE, _dose_rows, fits(_dose("linear"))),
    Estimator("blinding_index", _RESPONSE, _bang_rows, fits(_bang)),
)

CERTIFICATES: tuple[Certificate, ...] = (
    Certificate("mmrm", "kap-own-exposure", 240, note="the whole effect of routes, half of it through concentration"),
    Certificate("ancova", "kap-two-arms-mcar", 24, note="last visit, twelve per arm, missing at random"),
    Certificate("ancova", "kap-two-arms-mnar", 240, control=True, note="completers, who did not leave at random"),
    Certificate("ancova-standardised", "kap-registry", 2000, note="routes by indication, within sex and age group"),
    Certificate("ancova-crude", "kap-registry", 2000, control=True, note="routes by indication, compared as they are"),
    Certificate("gee", "kap-two-arms-mcar-null", 60, note="rejection is the type I error"),
    Certificate("gee-naive", "kap-two-arms-mcar-null", 60, control=True, note="visits of a subject as independent"),
    Certificate("glmm-firth", "kap-parallel", 240, note="dissociation by session, conditional on the subject"),
    Certificate("glmm", "kap-parallel", 960, note="the same by maximum likelihood, four times the subjects"),
    Certificate("glmm", "kap-parallel", 240, control=True, note="maximum likelihood lies too far from no effect"),
    Certificate("glmm-laplace", "kap-parallel", 240, control=True, note="the same by Laplace's approximation"),
    Certificate("glmm-marginal", "kap-parallel", 240, control=True, note="a marginal model for a subject's odds"),
    Certificate("dose_response-emax", "kap-emax", 200, 2_000, note="the curve is the right one"),
    Certificate("dose_response-linear", "kap-emax", 200, 2_000, control=True, note="a line through an Emax curve"),
    Certificate("blinding_index", "kap-two-arms-guess", 500, note="250 guesses per arm"),
    Certificate(
        "blinding_index", "kap-two-arms-guess", 120, control=True, note="60 per arm, all sure: exact coverage is 93.4%"
    ),
)
