"""Imputation of scores after treatment was stopped: two strategies, two variances, and a control that believes itself.

Under the null twin jump to reference imputes what is true, so its two variances can be read beside the spread of the
estimates: the jackknife meets it, Rubin's rule exceeds it (information anchored, conservative by design).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from kapstats.certification.estimators.common import Certificate, Estimator, arms_of, fits
from kapstats.certification.estimators.response import two_arms, visit_rows
from kapstats.inference.intervals import with_inference
from kapstats.response.imputation import Imputations, impute
from kapstats.response.imputation_analysis import Ancova
from kapstats.simulation.draw import Draw, present
from kapstats.simulation.scenario import Dropout, Scenario

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


ESTIMATORS: tuple[Estimator, ...] = (
    Estimator("impute-mar-jackknife", ("response",), visit_rows, fits(_imputed("MAR"))),
    Estimator("impute-mar-rubin", ("response",), visit_rows, fits(_imputed("MAR", **BAYES))),
    Estimator("impute-j2r-jackknife", ("response",), visit_rows, fits(_imputed("J2R"))),
    Estimator("impute-j2r-rubin", ("response",), visit_rows, fits(_imputed("J2R", **BAYES))),
    Estimator("impute-as-if-seen", ("response",), visit_rows, fits(_as_if_seen)),
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
)

#: scenarios that only certificates use
SCENARIOS: dict[str, Callable[[], Scenario]] = {
    "kap-two-arms-leaving": leaving,
    "kap-two-arms-leaving-null": lambda: leaving().null(),
}
