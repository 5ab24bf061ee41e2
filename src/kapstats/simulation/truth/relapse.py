"""What is true of relapse: the ratio of the latent hazards, and what can be seen at visits."""

from __future__ import annotations

import numpy as np

from kapstats._types import FloatArray
from kapstats.simulation.draw import Draw, present
from kapstats.simulation.scenario import Scenario
from kapstats.simulation.truth.worlds import Row, arm_rows, contrast_rows, outcomes, value_of


def relapse_truth(scenario: Scenario, n: int) -> dict[str, list[Row]]:
    """Hazard ratio of the latent time; relapse-free probability and restricted mean of the time seen at visits."""
    spec = present(scenario.relapse)
    free_of_loss = scenario.change(relapse={"leave_per_visit": 0.0}, response=None, dropout=None, dosing=None)
    free_of_loss = free_of_loss.change(relapse={"origin": "randomisation"})

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
    ratios = [
        {"contrast": f"{a.label} - {scenario.reference.label}", "TRT01P": a.label,
         **value_of(a.hazard_ratio / scenario.reference.hazard_ratio, None, "closed form")}
        for a in scenario.arms[1:]
    ]  # fmt: skip
    return {
        **({"hazard_ratio": ratios} if constant else {}),
        "relapse_free": arm_rows(scenario, values[0][:, 1:], values[1][:, 1:], method, time),
        "relapse_free_difference": contrast_rows(scenario, values[0][:, 1:], values[2][:, 1:], method, time),
        "rmst": arm_rows(scenario, values[0][:, :1], values[1][:, :1], method, area),
        "rmst_difference": contrast_rows(scenario, values[0][:, :1], values[2][:, :1], method, area),
    }
