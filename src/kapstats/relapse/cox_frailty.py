"""Cox models with a shared frailty: site, therapist or subject as a random multiplier of the hazard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import chdtrc, chdtri

from kapstats import frames
from kapstats.errors import EstimabilityError, FormulaError, choose
from kapstats.estimates import Estimates
from kapstats.kernels import cox_newton as cn
from kapstats.kernels import frailty as fr

if TYPE_CHECKING:
    from kapstats.relapse.surv_data import SurvData

MOST_GROUPS = 3000
#: with more groups than this R's survival leaves the information between groups out
SPARSE_FROM = 5


@dataclass(frozen=True)
class Frailty:
    """What the frailty adds to a fit.

    theta : variance (of the multiplier for gamma, of its log for lognormal) with limits from the integrated likelihood
        and the likelihood-ratio test of theta = 0 (mixture of chi-squares with 0 and 1 df)
    frailties : per group: rows, events, log frailty and the multiplier
    df : effective degrees of freedom of coefficients and frailties
    """

    theta: Estimates
    frailties: pd.DataFrame
    df: float


def fit_frailty(
    surv: SurvData, data: cn.CoxData, method: str | None, level: float, convention: str | None, meta: dict[str, Any]
) -> tuple[cn.CoxData, fr.FrailtyFit, Frailty]:
    """The fit, the data with the frailties as offset, and what to report of the frailty."""
    term = surv.formula.frailty
    assert term is not None
    gamma = term.distribution == "gamma"
    method = choose(method or ("ml" if gamma else "reml"), ("ml",) if gamma else ("reml", "ml"), "frailty_method")
    levels = frames.levels(surv.frame, term.group)
    n_groups = len(levels.values)
    _check_groups(term.group, n_groups)
    sparse = n_groups > SPARSE_FROM and convention != "SAS" and (gamma or method == "reml")
    kind = "gamma" if gamma else "gaussian"
    model = fr.frailty_data(data, levels.codes, n_groups, kind, sparse)
    found = fr.fit(model, method, 0.5 * float(chdtri(1, 1.0 - level)))
    log_frailty = found.at.z
    shift = log_frailty[model.group]
    with_frailty = cn.with_offset(data, shift if data.offset is None else data.offset + shift)
    rows = np.bincount(levels.codes, minlength=n_groups)
    table = pd.DataFrame({term.group: list(levels.values), "n": rows, "n_events": model.deaths})
    table = table.assign(log_frailty=log_frailty, frailty=np.exp(log_frailty))
    theta = _theta(found, level, term.distribution, meta)
    return with_frailty, found, Frailty(theta, table, found.at.df)


def _check_groups(name: str, n_groups: int) -> None:
    if n_groups < 2:
        raise EstimabilityError(f"frailty({name}): one group only, so its variance cannot be estimated.")
    if n_groups > MOST_GROUPS:
        raise FormulaError(
            f"frailty({name}): {n_groups} groups; up to {MOST_GROUPS} are fitted. "
            f"Use cluster({name}) for robust errors."
        )


def _theta(found: fr.FrailtyFit, level: float, distribution: str, meta: dict[str, Any]) -> Estimates:
    p = 0.5 * float(chdtrc(1, found.statistic)) if found.statistic > 0 else 1.0
    frame = pd.DataFrame(
        {
            "quantity": ["theta"],
            "estimate": [found.at.theta],
            "statistic": [found.statistic],
            "p_value": [p],
            "conf_low": [found.theta_low],
            "conf_high": [found.theta_high],
        }
    )
    of = "frailty" if distribution == "gamma" else "log frailty"
    return Estimates(frame, {**meta, "title": f"Variance of the {of}", "level": level, "scale": "identity"})
