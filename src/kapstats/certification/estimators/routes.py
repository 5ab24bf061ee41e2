"""Groups that nobody randomised, rare events in models, and the minutes after a dose, in worlds with a closed form."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from scipy.special import expit, logit, ndtr

from kapstats._types import FloatArray
from kapstats.certification.estimators.common import (
    NUMBERS,
    Certificate,
    Estimator,
    by_level,
    in_world,
    numbers,
)
from kapstats.safety.course import acute_course
from kapstats.safety.difference import risk_difference
from kapstats.safety.incidence import Incidence, incidence
from kapstats.safety.routes import crude_and_stratified, exposure_matched, propensity_weighted
from kapstats.safety.signals import rare_event_model
from kapstats.simulation import safety_worlds as worlds

Drawn = np.random.Generator


def _counted(event: FloatArray, first: FloatArray, **columns: FloatArray) -> Incidence:
    """Subjects with and without the event, in two routes, with covariates."""
    who = np.arange(event.size)
    adsl = {"USUBJID": who, "TRT01A": np.where(first, "IM", "Oral"), "TRT01AN": first.astype(int), **columns}
    adae = pd.DataFrame({"USUBJID": who[event.astype(bool)], "AEDECOD": "Nausea", "TRTEMFL": "Y"})
    return incidence(adae, pd.DataFrame(adsl), terms=["AEDECOD"])


def _only(frame: pd.DataFrame) -> FloatArray:
    """The row of the term."""
    return numbers(frame[frame["level"] == "PT"] if "level" in frame else frame)


# ------------------------------------------------------------------------------------------- by indication

#: log odds of the route and of the event per unit of severity and for anxiety, and the risk that the route adds
CHOSEN, HARMED, ADDED = (0.8, 1.0), (0.6, 0.9), 0.15
BASE, CEILING, ANXIOUS = -1.2, 0.8, 0.4


def _risk(severity: FloatArray, anxious: FloatArray) -> FloatArray:
    """Risk on the reference route."""
    return CEILING * expit(BASE + HARMED[0] * severity + HARMED[1] * anxious)


def _registry(rng: Drawn, n: int) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Event, route, severity and anxiety of patients whose route follows their indication."""
    severity, anxious = rng.standard_normal(n), np.asarray(rng.random(n) < ANXIOUS, dtype=np.float64)
    first = np.asarray(rng.random(n) < expit(-0.4 + CHOSEN[0] * severity + CHOSEN[1] * anxious), dtype=np.float64)
    event = np.asarray(rng.random(n) < _risk(severity, anxious) + ADDED * first, dtype=np.float64)
    return event, first, severity, anxious


def _weighted(rng: Drawn, n: int, level: float, crude: bool) -> FloatArray:
    """Risk difference weighted to the covariates of all; or as it is."""
    event, first, severity, anxious = _registry(rng, n)
    if crude:
        return _difference(event, first, level)
    table = _counted(event, first, SEVERITY=severity, ANXIOUS=anxious)
    return numbers(propensity_weighted(table, ["SEVERITY", "ANXIOUS"], terms=["Nausea"], level=level).estimates.frame)


def _difference(event: FloatArray, first: FloatArray, level: float) -> FloatArray:
    """A control: the groups compared as they are."""
    x1, n1, x2, n2 = (v for g in (1, 0) for v in (event[first == g].sum(), (first == g).sum()))
    return numbers(risk_difference(x1, n1, x2, n2, "wald", level=level).frame)


def _strata(rng: Drawn, n: int, level: float, crude: bool) -> FloatArray:
    """Risk difference within trials that differ in risk and in how often the route was given."""
    x1, n1, x2, n2 = (part[1].astype(int) for part in worlds.strata(rng, n, "risk-difference"))
    size = np.concatenate([n1, n2])
    first = np.repeat([1.0, 0.0], [n1.sum(), n2.sum()])
    event = np.concatenate([np.arange(m) < x for m, x in zip(size, np.concatenate([x1, x2]), strict=True)]) * 1.0
    if crude:
        return _difference(event, first, level)
    trial = np.repeat(np.tile(np.arange(n1.size), 2), size)
    return _only(crude_and_stratified(_counted(event, first, STUDYID=trial), level=level).frame)


#: mean log exposure on two routes, and the risk at an exposure
EXPOSURES = (0.0, 0.7)


def _exposed(rng: Drawn, n: int, level: float, bins: int) -> FloatArray:
    """Risk difference at equal exposure, where the route itself adds; `bins` 0 does not match."""
    first = (np.arange(n) % 2).astype(float)
    exposure = np.array(EXPOSURES)[first.astype(int)] + rng.standard_normal(n)
    event = (rng.random(n) < 0.7 * expit(-1.0 + 0.8 * exposure) + ADDED * first) * 1.0
    if not bins:
        return _difference(event, first, level)
    return _only(exposure_matched(_counted(event, first, CMAX=exposure), "CMAX", bins=bins, level=level).frame)


# ------------------------------------------------------------------------------------------- rare events

RARE, ODDS = 0.06, float(np.log(3.0))


def _rare(rng: Drawn, n: int, level: float, method: str) -> FloatArray:
    first = (np.arange(n) % 2).astype(float)
    event = (rng.random(n) < expit(logit(RARE) + ODDS * first)) * 1.0
    table = _counted(event, first) if event.any() else None
    if table is None:
        return np.full((1, len(NUMBERS)), np.nan)
    return numbers(rare_event_model(table, "Nausea", method=method, level=level).frame)


# ------------------------------------------------------------------------------------------- minutes after a dose

MINUTES = np.array([0.0, 20.0, 40.0, 80.0, 120.0])
MEANS, BETWEEN, WITHIN, THRESHOLD = np.array([2.0, 14.0, 18.0, 9.0, 3.0]), 6.0, 4.0, 20.0


def _course(rng: Drawn, n: int, level: float, band: str) -> FloatArray:
    """Means at all minutes at once, the mean at one, the mean area, and the share whose peak exceeds a threshold."""
    y = MEANS + BETWEEN * rng.standard_normal((n, 1)) + WITHIN * rng.standard_normal((n, MINUTES.size))
    rows = {"USUBJID": np.repeat(np.arange(n), MINUTES.size), "ATPTN": np.tile(MINUTES, n), "AVAL": y.ravel()}
    frame = pd.DataFrame(rows).assign(PARAMCD="CADSS", SESSION=1, ROUTE="IM")
    found = acute_course(frame, threshold=THRESHOLD, level=level, band=band).frame
    mean = found[found["quantity"] == "mean"]
    away = np.abs(mean["estimate"] - MEANS) / (mean["conf_high"] - mean["estimate"])
    some = np.full(len(NUMBERS), np.nan)
    some[2:4] = float(away.max()) - 1.0, np.inf
    kept = [numbers(mean)[2], *(numbers(found[found["quantity"] == q])[0] for q in ("area", "above at peak"))]
    return np.vstack([some, *kept])


def peak_above() -> float:
    """P(the highest value exceeds the threshold), over the subject's level (Gauss-Hermite)."""
    z, w = np.polynomial.hermite_e.hermegauss(60)
    below = ndtr((THRESHOLD - MEANS - BETWEEN * z[:, None]) / WITHIN).prod(axis=1)
    return 1 - float(w @ below) / float(w.sum())


# ------------------------------------------------------------------------------------------- what there is

_ADDED = by_level("risk_difference", {"given the covariates": ADDED})
_WITHIN = by_level("risk_difference", {"within trials": worlds.EFFECTS["risk-difference"][1]})
_EQUAL = by_level("risk_difference", {"at equal exposure": ADDED})
_ODDS = by_level("log_odds_ratio", {"rare event": ODDS})
_MINUTES = by_level(
    "course",
    {
        "all minutes at once": 0.0, "mean at 40 min": float(MEANS[2]),
        "area": float(((MEANS[1:] + MEANS[:-1]) / 2 * np.diff(MINUTES)).sum()), "peak above threshold": peak_above(),
    },
)  # fmt: skip

ESTIMATORS: tuple[Estimator, ...] = (
    Estimator("propensity_weighted", (), _ADDED, in_world("registry", partial(_weighted, crude=False))),
    Estimator("propensity_weighted-crude", (), _ADDED, in_world("registry", partial(_weighted, crude=True))),
    Estimator("crude_and_stratified", (), _WITHIN, in_world("trials", partial(_strata, crude=False))),
    Estimator("crude_and_stratified-crude", (), _WITHIN, in_world("trials", partial(_strata, crude=True))),
    Estimator("exposure_matched", (), _EQUAL, in_world("exposed", partial(_exposed, bins=4))),
    Estimator("exposure_matched-ten-bins", (), _EQUAL, in_world("exposed", partial(_exposed, bins=10))),
    Estimator("exposure_matched-crude", (), _EQUAL, in_world("exposed", partial(_exposed, bins=0))),
    Estimator("rare_event_model-firth", (), _ODDS, in_world("rare", partial(_rare, method="firth"))),
    Estimator("acute_course", (), _MINUTES, in_world("course", partial(_course, band="simultaneous"))),
    Estimator("acute_course-pointwise", (), _MINUTES, in_world("course", partial(_course, band="pointwise"))),
)


def _published(estimator: str, n: int, control: bool = False, note: str = "") -> Certificate:
    return Certificate(estimator, "closed-forms", n, control=control, note=note)


CERTIFICATES: tuple[Certificate, ...] = (
    _published("propensity_weighted", 600, note="route by indication"),
    _published("propensity_weighted-crude", 600, control=True, note="route by indication, compared as they are"),
    _published("crude_and_stratified", 400),
    _published("crude_and_stratified-crude", 400, control=True, note="trials pooled: Simpson's paradox"),
    _published("exposure_matched-ten-bins", 400, note="ten bins of exposure"),
    _published("exposure_matched", 400, control=True, note="four bins leave exposure unequal within them"),
    _published("exposure_matched-crude", 400, control=True, note="exposure ignored"),
    _published("rare_event_model-firth", 80, note="about seven events"),
    _published("acute_course", 60, note="band over all minutes; t limits of one mean, an area and a share"),
    _published("acute_course-pointwise", 60, control=True, note="pointwise limits read as a band"),
)
