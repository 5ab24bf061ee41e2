"""What is true of relapse: the ratio of the latent hazards, and what can be seen at visits."""

from __future__ import annotations

import numpy as np

from kapstats._types import FloatArray
from kapstats.simulation.draw import Draw, present
from kapstats.simulation.scenario import Scenario
from kapstats.simulation.truth.worlds import Row, arm_rows, contrast_rows, outcomes, value_of


def everyone(scenario: Scenario) -> Scenario:
    """All subjects followed to the end; who enters the follow-up does not depend on when relapse comes."""
    whole = {"leave_per_visit": 0.0, "origin": "randomisation"}
    return scenario.change(relapse=whole, response=None, dropout=None, dosing=None)


def competing(scenario: Scenario, n: int) -> list[Row]:
    """Probability by each milestone of a relapse that is seen, and of treatment stopped before it."""
    spec = present(scenario.relapse)

    def causes(d: Draw) -> FloatArray:
        f = present(d.follow_up)
        happened = np.stack([f.event, present(f.stopped)], axis=1)
        by = f.time[:, None] <= np.asarray(spec.milestones)
        return (happened[:, :, None] & by[:, None, :]).astype(float)

    moments = outcomes(everyone(scenario), n, ["relapse"], causes)
    method = f"potential outcomes, n = {moments.n}"
    rows = []
    for j, cause in enumerate(("RELAPSE", "TREATMENT STOPPED")):
        labels: list[Row] = [{"time": t, "cause": cause} for t in spec.milestones]
        rows += arm_rows(scenario, moments.mean[:, j], moments.error[:, j], method, labels)
    return rows


def relapse_truth(scenario: Scenario, n: int) -> dict[str, list[Row]]:
    """Hazard ratio of the latent time; relapse-free probability and restricted mean of the time seen at visits."""
    spec = present(scenario.relapse)
    free_of_loss = everyone(scenario).change(relapse={"stop_median_days": None})

    def seen(d: Draw) -> FloatArray:
        f = present(d.follow_up)
        time = np.where(f.event, f.right, np.inf)
        free = [time > t for t in spec.milestones]
        return np.column_stack([np.minimum(time, spec.tau), *free])

    moments = outcomes(free_of_loss, n, ["relapse"], seen)
    values = (moments.mean, moments.error, moments.paired_error)
    method = f"potential outcomes, n = {moments.n}"
    area, time = [{"tau": spec.tau}], [{"time": t} for t in spec.milestones]
    constant = spec.change_day is None or all(a.late_hazard_ratio is None for a in scenario.arms)
    form = "closed form, given site and therapist" if spec.site_sd or spec.therapist_sd else "closed form"
    ratios = [
        {"contrast": f"{a.label} - {scenario.reference.label}", "TRT01P": a.label,
         **value_of(a.hazard_ratio / scenario.reference.hazard_ratio, None, form)}
        for a in scenario.arms[1:]
    ]  # fmt: skip
    return {
        **({} if spec.stop_median_days is None else {"cumulative_incidence": competing(scenario, n)}),
        **({"hazard_ratio": ratios} if constant else {}),
        "relapse_free": arm_rows(scenario, values[0][:, 1:], values[1][:, 1:], method, time),
        "relapse_free_difference": contrast_rows(scenario, values[0][:, 1:], values[2][:, 1:], method, time),
        "rmst": arm_rows(scenario, values[0][:, :1], values[1][:, :1], method, area),
        "rmst_difference": contrast_rows(scenario, values[0][:, :1], values[2][:, :1], method, area),
    }
