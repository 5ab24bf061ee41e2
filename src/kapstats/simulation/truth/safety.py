"""What is true of adverse events, dissociation and blood pressure: means over exposure, given treatment."""

from __future__ import annotations

import numpy as np

from kapstats._types import FloatArray
from kapstats.simulation import adverse_events
from kapstats.simulation.draw import Draw, present
from kapstats.simulation.scenario import Scenario
from kapstats.simulation.truth.worlds import Moments, Row, both, contrast_rows, outcomes, ratio_rows, worlds


def levels(scenario: Scenario) -> list[tuple[Row, list[int]]]:
    """What adverse events are counted by: any, each organ class, each term, with the terms that belong to it."""
    spec = present(scenario.adverse_events)
    every = [({"level": "ANY", "AEBODSYS": "", "AEDECOD": ""}, list(range(len(spec.terms))))]
    classes = dict.fromkeys(t.soc for t in spec.terms)
    for soc in classes:
        inside = [i for i, t in enumerate(spec.terms) if t.soc == soc]
        every.append(({"level": "SOC", "AEBODSYS": soc, "AEDECOD": ""}, inside))
    for i, t in enumerate(spec.terms):
        every.append(({"level": "PT", "AEBODSYS": t.soc, "AEDECOD": t.pt}, [i]))
    return every


def adverse_event_truth(scenario: Scenario, n: int) -> dict[str, list[Row]]:
    """Probability of at least one event while treated, per arm; differences and ratios, and the difference split into
    what goes through concentration and what acts at the site of administration (natural effects)."""
    spec, counted = present(scenario.adverse_events), levels(scenario)

    def risk(d: Draw, through: Draw) -> FloatArray:
        lean = adverse_events.leaning(spec, d.subjects, d.tendency)
        cmax = present(through.sessions).cmax
        p = adverse_events.probability(spec, scenario.arms, d.subjects.arm, cmax, lean)
        free = np.log1p(-adverse_events.incidence(p, present(d.sessions).given))
        return 1 - np.exp(np.stack([free[:, i].sum(axis=1) for _, i in counted], axis=1))

    labels = [row for row, _ in counted]
    moments, direct, mediated = Moments(), Moments(), Moments()
    for arms in worlds(scenario, n, ["pharmacokinetics"]):
        own = np.stack([risk(d, d) for d in arms])
        at_reference = np.stack([risk(d, arms[0]) for d in arms])
        moments.add(own)
        direct.add(at_reference)
        mediated.add(own - at_reference)
    split = {"direct_risk_difference": direct, "mediated_risk_difference": mediated}
    method = f"potential outcomes, n = {moments.n}"
    return {
        **both("incidence", scenario, moments, labels, "risk_difference"),
        "risk_ratio": ratio_rows(scenario, moments, False, labels),
        "odds_ratio": ratio_rows(scenario, moments, True, labels),
        **{k: contrast_rows(scenario, m.mean, m.paired_error, method, labels) for k, m in split.items()},
    }


def course_truth(scenario: Scenario, n: int) -> dict[str, list[Row]]:
    """Mean CADSS and systolic change by minute, and the mean of the subject's highest CADSS, first session."""
    spec = present(scenario.course)

    def measure(d: Draw) -> FloatArray:
        curves = present(d.courses)
        score, pressure = curves.cadss[:, 0], curves.sbp[:, 0]
        return np.column_stack([score.max(axis=1), score, pressure - pressure[:, :1]])

    moments = outcomes(scenario, n, ["course"], measure)
    minutes = [{"SESSION": spec.sessions[0], "ATPTN": m} for m in spec.minutes]
    k = len(minutes)
    out: dict[str, list[Row]] = {}
    peak = [{"PARAMCD": "CADSS", "SESSION": spec.sessions[0]}]
    score = [{"PARAMCD": "CADSS", **m} for m in minutes]
    change = [{"PARAMCD": "SYSBP", **m} for m in minutes]
    for name, labels, part in (
        ("cadss_peak", peak, slice(0, 1)),
        ("cadss_mean", score, slice(1, k + 1)),
        ("sbp_change", change, slice(k + 1, None)),
    ):
        piece = Moments()
        piece.n = moments.n
        piece.first, piece.second, piece.paired = (x[:, part] for x in (moments.first, moments.second, moments.paired))
        out |= both(name, scenario, piece, labels, f"{name}_difference")
    return out
