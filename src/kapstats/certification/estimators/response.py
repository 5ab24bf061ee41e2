"""Scores at visits: MMRM from arrays, mixed models with random sites."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from kapstats.certification import mmrm_batch
from kapstats.certification.estimators.common import Answer, Certificate, Estimator, Row, arms_of, fits
from kapstats.response.lmm import lmm
from kapstats.simulation.draw import Draw, present
from kapstats.simulation.scenario import Scenario, load


def two_arms() -> Scenario:
    """Placebo and one active arm of kap-parallel, scores only: the small trial of the small-sample certificates."""
    whole = load("kap-parallel")
    bare = whole.change(relapse=None, adverse_events=None, course=None, dosing=None)
    return bare.change(name="kap-two-arms", arms=whole.arms[:2])


def visit_rows(scenario: Scenario) -> list[Row]:
    """The difference of every arm to the reference at every visit, hypothetical strategy."""
    reference = scenario.reference.label
    return [
        {"quantity": "mean_difference", "strategy": "hypothetical", "contrast": f"{a.label} - {reference}",
         "AVISIT": f"Day {d}"}
        for d in present(scenario.response).days for a in scenario.arms[1:]
    ]  # fmt: skip


def _mmrm(df: str) -> Callable[[Scenario, Sequence[Draw], float], Answer]:
    def analyse(scenario: Scenario, draws: Sequence[Draw], level: float) -> Answer:
        arm = np.stack([d.subjects.arm for d in draws])
        base = np.stack([present(d.scores).base for d in draws])
        y = np.stack([present(d.disposition).policy for d in draws]) - base[..., None]
        seen = np.stack([present(d.disposition).observed for d in draws])
        w = mmrm_batch.covariates(arm, base, len(scenario.arms))
        stats, fits = mmrm_batch.fit_block(w, y, seen)
        c = mmrm_batch.contrasts(stats, fits, w.shape[-1], df, level)
        good = np.broadcast_to(c.converged[:, None], c.estimate.shape)
        return Answer(c.estimate, c.std_error, c.low, c.high, c.p, good)

    return analyse


def last_visit(scenario: Scenario) -> list[Row]:
    """The rows of the last visit."""
    day = f"Day {present(scenario.response).days[-1]}"
    return [row for row in visit_rows(scenario) if row["AVISIT"] == day]


def _sites(df: str) -> Callable[[Scenario, Draw, float], pd.DataFrame]:
    """Change at the last visit with random sites: few clusters, so the degrees of freedom matter."""

    def one(scenario: Scenario, d: Draw, level: float) -> pd.DataFrame:
        base, seen = present(d.scores).base, present(d.disposition).observed[:, -1]
        change = present(d.disposition).policy[:, -1] - base
        frame = pd.DataFrame({"change": change, "base": base, "arm": arms_of(scenario, d.subjects.arm)})
        frame["site"] = [f"{s:02d}" for s in d.subjects.site]
        fit = lmm("change ~ base + arm + (1 | site)", frame[seen])
        found = fit.coefficients_by(df=df, level=level).frame
        return found[found["term"].str.startswith("arm")]

    return one


ESTIMATORS: tuple[Estimator, ...] = (
    Estimator("mmrm", ("response",), visit_rows, _mmrm("kenward-roger")),
    Estimator("mmrm-satterthwaite", ("response",), visit_rows, _mmrm("satterthwaite")),
    Estimator("mmrm-z", ("response",), visit_rows, _mmrm("normal")),
    Estimator("lmm", ("response",), last_visit, fits(_sites("kenward-roger"))),
    Estimator("lmm-z", ("response",), last_visit, fits(_sites("normal"))),
)

CERTIFICATES: tuple[Certificate, ...] = (
    Certificate("mmrm", "kap-parallel", 240),
    Certificate("mmrm", "kap-parallel-null", 240, note="rejection is the type I error"),
    Certificate("mmrm", "kap-two-arms", 20, note="ten subjects per arm"),
    Certificate("mmrm", "kap-two-arms", 40),
    Certificate("mmrm", "kap-two-arms", 80),
    Certificate("mmrm-satterthwaite", "kap-two-arms", 20, note="ten subjects per arm"),
    Certificate("mmrm-z", "kap-two-arms", 20, control=True, note="normal quantiles at ten subjects per arm"),
    Certificate("mmrm", "kap-crossover", 40),
    Certificate("mmrm", "kap-factorial", 200),
    Certificate("lmm", "kap-two-arms", 12, note="change at the last visit, random sites, six per arm"),
    Certificate("lmm-z", "kap-two-arms", 12, control=True, note="normal quantiles with few sites"),
)

#: scenarios that only certificates use
SCENARIOS: dict[str, Callable[[], Scenario]] = {
    "kap-two-arms": two_arms,
    "kap-two-arms-null": lambda: two_arms().null(),
}
