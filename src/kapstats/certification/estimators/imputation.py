"""Imputation of scores after treatment was stopped."""

from __future__ import annotations

import numpy as np
import pandas as pd

from kapstats.certification.estimators.common import Certificate, Estimator, arms_of, fits
from kapstats.certification.estimators.response import visit_rows
from kapstats.response.imputation import impute
from kapstats.simulation.draw import Draw, present
from kapstats.simulation.scenario import Scenario


def _jump_to_reference(scenario: Scenario, d: Draw, level: float) -> pd.DataFrame:
    """Conditional-mean imputation under jump to reference with jackknife errors, the change at every visit."""
    spec, scores = present(scenario.response), present(d.disposition)
    visits, n = len(spec.days), d.n
    change = np.where(scores.observed, scores.policy - present(d.scores).base[:, None], np.nan)
    frame = pd.DataFrame({"id": np.repeat(np.arange(n), visits), "visit": np.tile(np.asarray(spec.days), n)})
    frame["arm"] = arms_of(scenario, np.repeat(d.subjects.arm, visits))
    frame["base"], frame["change"] = np.repeat(present(d.scores).base, visits), change.ravel()
    model = "change ~ base*visit + arm*visit + us(visit | id)"
    plan = impute(
        frame, formula=model, arm="arm", reference=scenario.reference.label, strategy="J2R", method="conditional-mean"
    )
    found = plan.analyse("arm", level=level).frame
    return found[found["quantity"] == "difference"]


ESTIMATORS: tuple[Estimator, ...] = (
    Estimator("impute-j2r-jackknife", ("response",), visit_rows, fits(_jump_to_reference)),
)

CERTIFICATES: tuple[Certificate, ...] = (
    Certificate("impute-j2r-jackknife", "kap-two-arms-null", 40, 200, note="the null twin, where J2R is the truth"),
)
