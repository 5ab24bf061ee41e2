"""One very large trial per certificate: estimates against the truth, in errors of both.

python -m kapstats.certification.large docs/certificates/large-trials.tsv
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import ndtri

from kapstats._types import FloatArray
from kapstats.certification.estimators import CERTIFICATES, Certificate, Estimator, named, scenario
from kapstats.certification.performance import allowance
from kapstats.certification.study import rows_of_truth, target, wanted_rows
from kapstats.simulation.draw import COMPONENTS, Draw, draw
from kapstats.simulation.scenario import Scenario

N = 200_000
SEED = 21

#: subjects (or studies) where an estimator refits without each, integrates over each, or forms dense products of them
SMALLER = {
    "impute": 400, "tipping_point": 400, "glmm": 2000, "gee": 2000, "lmm": 2000, "meta": 400, "network": 400,
    "crossover": 1000, "win_ratio": 4000, "cox-frailty": 4000, "cause_specific": 2000, "state_occupation": 4000,
    "rare_event_model": 4000, "time_to_response": 4000, "principal_effect": 20_000,
}  # fmt: skip

#: what has no estimate, or whose truth is a number of the trial itself
TESTS = (
    "trend_test", "homogeneity", "multiplicity", "mcp_mod", "separation", "safety_signals", "zero_events",
    "number_needed_to_harm", "project_events", "weighted_logrank", "onset_curve", "response_bounds", "acute_course",
)  # fmt: skip


def enlarged(chosen: Scenario, n: int) -> Scenario:
    """As many more sites as subjects, so that differences between sites average out."""
    return chosen.change(people={"sites": max(40, n // 50)})


def distances(known: Estimator, chosen: Scenario, drawn: Draw) -> FloatArray:
    """(estimate - truth) in errors of the estimate and of the truth together, where both are there; without a standard
    error the limits tell it."""
    rows = wanted_rows(known, chosen, rows_of_truth(chosen, known.parts))
    answer = known.analyse(drawn.scenario, [drawn], 0.95)
    targets = [target(r, known.log) for r in rows]
    value, error = (np.array([getattr(t, a) for t in targets]) for a in ("value", "error"))
    half = (answer.high[0] - answer.low[0]) / (2 * ndtri(0.975))
    own = np.where(np.isnan(answer.std_error[0]) & (not known.by_limits), half, answer.std_error[0])
    return (answer.estimate[0] - value) / np.hypot(own, error)


def size(estimator: str) -> int:
    """How many subjects an estimator is given."""
    return next((n for name, n in SMALLER.items() if estimator.startswith(name)), N)


def compare(certificate: Certificate, n: int) -> dict[str, object]:
    """One row of the table."""
    chosen, known = scenario(certificate.scenario), named(certificate.estimator)
    parts = [p for p in known.parts if p in COMPONENTS]
    z = distances(known, chosen, draw(enlarged(chosen, n), n, SEED, 0, parts))
    z = z[np.isfinite(z)]
    largest = float(np.abs(z).max(initial=0.0))
    bound = allowance(z.size)
    return {
        "estimator": certificate.estimator, "scenario": certificate.scenario, "n": n, "estimands": z.size,
        "largest": round(largest, 2), "bound": round(bound, 2), "within": "yes" if largest < bound else "no",
    }  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    """Write the table for every certificate that is no control, one row per estimator and scenario; tests and numbers
    that come or not do not estimate a truth ever better."""
    honest = {(c.estimator, c.scenario): c for c in CERTIFICATES if not (c.control or c.estimator.startswith(TESTS))}
    rows = []
    for c in honest.values():
        rows.append(compare(c, size(c.estimator)))
        print(*rows[-1].values(), flush=True)
    frame = pd.DataFrame([r for r in rows if r["estimands"]])
    frame.to_csv(Path(arguments[0]), sep="\t", index=False, lineterminator="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
