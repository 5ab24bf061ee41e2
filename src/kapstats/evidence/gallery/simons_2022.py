"""S-ketamine, 20 mg over 20 minutes: the peak concentration that the printed parameters imply."""

import numpy as np

from kapstats.evidence import table
from kapstats.evidence.gallery.entry import Entry, Line


def peak(dose: float = 20.0, minutes: float = 20.0) -> float:
    """Arterial concentration at the end of the infusion, ng/mL, of the three-compartment model (closed form)."""
    rows = table("pharmacokinetics")
    rows = rows[rows["study"] == "simons2022"]
    p = {r["parameter"]: float(r["value"]) for r in rows.to_dict("records")}
    v = np.array([p["VK1 (70 kg)"], p["VK2"], p["VK3"]])
    clearance, q2, q3 = p["CLK1"], p["CLK2"], p["CLK3"]
    rates = np.array(
        [
            [-(clearance + q2 + q3) / v[0], q2 / v[1], q3 / v[2]],
            [q2 / v[0], -q2 / v[1], 0.0],
            [q3 / v[0], 0.0, -q3 / v[2]],
        ]
    )
    steady = np.linalg.solve(rates, -np.array([dose / minutes, 0.0, 0.0]))
    values, vectors = np.linalg.eig(rates)
    moved = vectors @ np.diag(np.exp(values * minutes)) @ np.linalg.inv(vectors) @ steady
    return float(1000 * (steady - moved.real)[0] / v[0])


def compute() -> list[Line]:
    """The typical individual against the means of the two sessions."""
    value = peak()
    return [
        Line("peak, session 1, ng/mL", "273", value, kind="calibration"),
        Line("peak, session 2, ng/mL", "260", value, kind="calibration"),
    ]


ENTRY = Entry(
    name="simons-2022",
    id="G21",
    title="S-ketamine 20 mg IV over 20 minutes: peak concentration",
    source="Simons et al. 2022, table 4",
    method="three-compartment model with typical parameters",
    compute=compute,
    note="Means of observed peaks are not the peak of the typical individual; it lies between the two.",
)
