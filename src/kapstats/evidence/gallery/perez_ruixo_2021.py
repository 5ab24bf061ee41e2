"""Population pharmacokinetics of esketamine: what the printed parameters imply."""

from kapstats.evidence import table
from kapstats.evidence.gallery.entry import Entry, Line


def parameters() -> dict[str, float]:
    """Printed parameters by name."""
    rows = table("pharmacokinetics")
    rows = rows[rows["study"] == "perezruixo2021"]
    return {r["parameter"]: float(r["value"]) for r in rows.to_dict("records")}


def compute() -> list[Line]:
    """Well-stirred liver: extraction E = CLint / (Q + CLint); what is swallowed passes gut and liver."""
    p = parameters()
    intrinsic = (p["kel (other metabolites)"] + p["kmet to noresketamine"]) * p["Vh"]
    flow = p["Qh hepatic flow"]
    extraction = intrinsic / (flow + intrinsic)
    swallowed = p["Fgut"] * (1 - extraction)
    nasal = p["FRn (fraction of a 28 mg spray pair absorbed in nasal cavity)"]
    later = nasal * p["FRn multiplier for each further 28 mg within a session"]

    def available(pairs: int) -> float:
        share = (nasal + (pairs - 1) * later) / pairs
        return share + (1 - share) * swallowed

    return [
        Line("bioavailability, 56 mg nasal, %", "54", 100 * available(2)),
        Line("bioavailability, 84 mg nasal, %", "51", 100 * available(3)),
        Line("bioavailability of what is swallowed, %", "18.6", 100 * swallowed, kind="calibration"),
        Line("volume at steady state, L", "752", p["Vc"] + p["Vp1"] + p["Vp2"]),
        Line("clearance, L/h", "114", flow * extraction, kind="calibration"),
    ]


ENTRY = Entry(
    name="perez-ruixo-2021",
    id="G17",
    title="Esketamine: bioavailability, volume and clearance from population parameters",
    source="Perez-Ruixo et al., Clin Pharmacokinet 2021",
    method="well-stirred first pass",
    compute=compute,
    note="Clearance and oral availability differ since the rate constants are printed with two digits.",
)
