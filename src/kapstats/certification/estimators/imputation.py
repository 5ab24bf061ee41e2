"""Imputation of scores after treatment was stopped: strategies, two variances, and controls that believe themselves.

On a scale without ends the model of the imputations is the generator's, so that each strategy has a truth, by
potential outcomes: jump to reference, copy increments, copy reference, and those who stopped being worse by so much.
Under the null twin jump to reference imputes what is true, so its two variances can be read beside the spread of the
estimates: the jackknife meets it, Rubin's rule exceeds it (information anchored, conservative by design).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd

from kapstats.certification.estimators.common import Certificate, Estimator, Row, arms_of, fits
from kapstats.certification.estimators.response import two_arms, visit_rows
from kapstats.inference.intervals import with_inference
from kapstats.response.imputation import Imputations, impute
from kapstats.response.imputation_analysis import Ancova
from kapstats.response.tipping_point import tipping_point
from kapstats.simulation.draw import Draw, present
from kapstats.simulation.scenario import Dropout, Scenario
from kapstats.simulation.truth.missing import copied, difference_under, worsened

MODEL, ANALYSIS = "change ~ base*visit + arm*visit + us(visit | id)", "arm + base"
BAYES = {"method": "bayes", "draws": 40, "burn_in": 50, "thin": 4}


def _long(scenario: Scenario, d: Draw) -> pd.DataFrame:
    spec, scores = present(scenario.response), present(d.disposition)
    visits, n = len(spec.days), d.n
    change = np.where(scores.observed, scores.policy - present(d.scores).base[:, None], np.nan)
    frame = pd.DataFrame({"id": np.repeat(np.arange(n), visits), "visit": np.tile(np.asarray(spec.days), n)})
    frame["arm"] = arms_of(scenario, np.repeat(d.subjects.arm, visits))
    return frame.assign(base=np.repeat(present(d.scores).base, visits), change=change.ravel())


def _imputed(strategy: str, **options: object) -> Callable[[Scenario, Draw, float], pd.DataFrame]:
    """Change at every visit after imputation, pooled with the variance that belongs to the method."""

    def one(scenario: Scenario, d: Draw, level: float) -> pd.DataFrame:
        plan = {"formula": MODEL, "arm": "arm", "reference": scenario.reference.label, "strategy": strategy, **options}
        found = impute(_long(scenario, d), plan).analyse(ANALYSIS, level=level).frame
        return found[found["quantity"] == "difference"]

    return one


def _as_if_seen(scenario: Scenario, d: Draw, level: float) -> pd.DataFrame:
    """A control: the conditional means are analysed as if they had been observed."""
    made = impute(_long(scenario, d), formula=MODEL, arm="arm", reference=scenario.reference.label)
    ids, estimate, error, df = _complete_case_error(made)
    found = with_inference(ids, estimate, error, df, level=level)
    return found[found["quantity"] == "difference"]


def _complete_case_error(made: Imputations) -> tuple[pd.DataFrame, np.ndarray, np.ndarray, float]:
    wide = made.wide
    completed = made.frame()[wide.outcome].to_numpy(dtype=float).reshape(1, *wide.y.shape)
    ids, estimate, error, df = Ancova.of(wide, ANALYSIS).point(completed)
    return ids, estimate[0], error[0], df


def leaving() -> Scenario:
    """Two arms of which about a third leaves, missing at random: the more so the worse the last score."""
    gone = Dropout(mechanism="MAR", intercept=-2.3, slope=0.6)
    return replace(two_arms(), name="kap-two-arms-leaving", dropout=gone)


def open_scale() -> Scenario:
    """Two arms at three visits on a scale without ends, where about a third leaves, at random given what was seen."""
    flat = {"low": -300, "high": 400, "days": [7, 14, 28], "reference_change": [-6.0, -9.0, -12.0],
            "onset": [0.6, 0.8, 1.0], "sd": [9.0, 10.0, 11.0], "correlation": []}  # fmt: skip
    gone = Dropout(mechanism="MAR", intercept=-1.8, slope=0.6, gap=0.0)
    bare = replace(two_arms(), name="kap-open-scale", dropout=gone).change(response=flat)
    return bare.change(arms=[replace(a, effect=-8.0 * (k > 0)) for k, a in enumerate(bare.arms)])


#: points by which those who stopped are worse
WORSE = 6.0


@cache
def _under(scenario: Scenario, strategy: str) -> tuple[tuple[tuple[str, object], ...], ...]:
    scores = copied if strategy == "copy reference" else worsened(WORSE)
    return tuple(tuple(row.items()) for row in difference_under(scenario, scores, strategy))


def _assumed(strategy: str) -> Callable[[Scenario], list[Row]]:
    """Differences by visit under an assumption about those who stopped, their own truth."""
    return lambda scenario: [dict(row) for row in _under(scenario, strategy)]


def _named(strategy: str) -> Callable[[Scenario], list[Row]]:
    """Differences by visit under a strategy of the scenario's truth."""
    return lambda scenario: [{**row, "strategy": strategy} for row in visit_rows(scenario)]


def _shifted(delta: float) -> Callable[[Scenario, Draw, float], pd.DataFrame]:
    """Difference at the last visit after imputed values of the active arm were made worse."""

    def one(scenario: Scenario, d: Draw, level: float) -> pd.DataFrame:
        made = impute(_long(scenario, d), formula=MODEL, arm="arm", reference=scenario.reference.label)
        return tipping_point(made, [delta], analysis=ANALYSIS, level=level).frame

    return one


def _last_worse(scenario: Scenario) -> list[Row]:
    return _assumed("worse when stopped")(scenario)[-1:]


ESTIMATORS: tuple[Estimator, ...] = (
    Estimator("impute-mar-jackknife", ("response",), visit_rows, fits(_imputed("MAR"))),
    Estimator("impute-mar-rubin", ("response",), visit_rows, fits(_imputed("MAR", **BAYES))),
    Estimator("impute-j2r-jackknife", ("response",), visit_rows, fits(_imputed("J2R"))),
    Estimator("impute-j2r-rubin", ("response",), visit_rows, fits(_imputed("J2R", **BAYES))),
    Estimator("impute-as-if-seen", ("response",), visit_rows, fits(_as_if_seen)),
    Estimator("impute-jump", ("response",), _named("jump to reference"), fits(_imputed("J2R"))),
    Estimator("impute-increments", ("response",), _named("copy increments in reference"), fits(_imputed("CIR"))),
    Estimator("impute-copy", ("response",), _assumed("copy reference"), fits(_imputed("CR"))),
    Estimator("impute-mar-for-copy", ("response",), _assumed("copy reference"), fits(_imputed("MAR"))),
    Estimator("tipping_point", ("response",), _last_worse, fits(_shifted(WORSE))),
    Estimator("tipping_point-none", ("response",), _last_worse, fits(_shifted(0.0))),
)

CERTIFICATES: tuple[Certificate, ...] = (
    Certificate("impute-mar-jackknife", "kap-two-arms-leaving", 80, 2_000, note="a third leaves, at random"),
    Certificate("impute-mar-jackknife", "kap-two-arms-leaving-null", 80, 2_000, note="rejection is the type I error"),
    Certificate("impute-mar-rubin", "kap-two-arms-leaving-null", 80, 2_000, note="rejection is the type I error"),
    Certificate("impute-j2r-jackknife", "kap-two-arms-null", 40, 2_000, note="the null twin, where J2R is the truth"),
    Certificate("impute-j2r-jackknife", "kap-two-arms-leaving-null", 80, 2_000, note="frequentist variance of J2R"),
    Certificate("impute-j2r-rubin", "kap-two-arms-leaving-null", 80, 2_000, note="Rubin's variance of J2R, too wide"),
    Certificate(
        "impute-as-if-seen", "kap-two-arms-leaving-null", 80, 2_000, control=True, note="imputed values taken as seen"
    ),
    Certificate("impute-jump", "kap-open-scale", 60, 2_000, note="an effect; jackknife"),
    Certificate("impute-increments", "kap-open-scale", 60, 2_000, note="an effect; jackknife"),
    Certificate("impute-copy", "kap-open-scale", 60, 2_000, note="an effect; jackknife"),
    Certificate(
        "impute-mar-for-copy", "kap-open-scale", 60, 2_000, control=True, note="MAR where nobody stays on drug"
    ),
    Certificate("tipping_point", "kap-open-scale", 60, 2_000, note="shifted by what is true; jackknife"),
    Certificate("tipping_point-none", "kap-open-scale", 60, 2_000, control=True, note="not shifted"),
)

#: scenarios that only certificates use
SCENARIOS: dict[str, Callable[[], Scenario]] = {
    "kap-open-scale": open_scale,
    "kap-two-arms-leaving": leaving,
    "kap-two-arms-leaving-null": lambda: leaving().null(),
}
