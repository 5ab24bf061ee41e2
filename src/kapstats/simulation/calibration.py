"""Simulated marginals beside the published figures they are meant to resemble.

    python -m kapstats.simulation.calibration docs/calibration.md

writes the table. The parameters of the scenarios were chosen so that the simulated value lies in the range that the
published figures span (give or take their own sampling error); the ranges are no confidence intervals.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kapstats._types import BoolArray, FloatArray
from kapstats.simulation import pharmacokinetics
from kapstats.simulation.draw import Draw, draw, present
from kapstats.simulation.scenario import load

N = 24_000
Pair = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Target:
    """One figure: what, published as, source, range accepted, and how it is measured on a large draw."""

    scenario: str
    what: str
    published: str
    source: str
    low: float
    high: float
    measure: Callable[[Draw], Pair]
    digits: int = 1


def mean(x: FloatArray) -> Pair:
    """Mean and its Monte-Carlo error."""
    return float(x.mean()), float(x.std() / np.sqrt(x.size))


def spread(x: FloatArray) -> Pair:
    """Standard deviation and its Monte-Carlo error."""
    return float(x.std()), float(x.std() / np.sqrt(2 * x.size))


def percent(x: FloatArray | BoolArray) -> Pair:
    """Percentage and its Monte-Carlo error."""
    value, error = mean(np.asarray(x, dtype=float))
    return 100 * value, 100 * error


def median(x: FloatArray) -> Pair:
    """Median and its Monte-Carlo error (from the distance of two order statistics)."""
    x = np.sort(x)
    half = np.sqrt(x.size) / 2
    low, high = x[int(x.size / 2 - half)], x[int(x.size / 2 + half)]
    return float(x[x.size // 2]), float(high - low) / 2


def arm(d: Draw, *names: str) -> BoolArray:
    """Subjects of the named arms; of all but the reference without a name."""
    chosen = [i for i, a in enumerate(d.scenario.arms) if a.label in names or (not names and i)]
    return np.isin(d.subjects.arm, chosen)


def baseline(d: Draw) -> FloatArray:
    """Scores before the first dose."""
    return present(d.scores).base


def change(d: Draw, visit: int, *names: str) -> FloatArray:
    """Observed change at a visit."""
    held = present(d.disposition).observed[:, visit] & arm(d, *names)
    return (present(d.disposition).policy[:, visit] - present(d.scores).base)[held]


def score(d: Draw, visit: int, *names: str) -> FloatArray:
    """Scores of those seen at a visit."""
    held = present(d.disposition).observed[:, visit] & arm(d, *names)
    return present(d.disposition).policy[held, visit]


def responded(d: Draw, visit: int, *names: str) -> BoolArray:
    """Response at a visit of those seen there."""
    base, held = present(d.scores).base, present(d.disposition)
    fell = base - held.policy[:, visit] >= present(d.scenario.response).response_fraction * base
    return fell[held.observed[:, visit] & arm(d, *names)]


def standardised_fall(d: Draw, visit: int, *names: str) -> Pair:
    """Mean fall over the SD of the fall, with the error of a standardised mean."""
    fall = -change(d, visit, *names)
    ratio = float(fall.mean() / fall.std(ddof=1))
    return ratio, float(np.sqrt((1 + ratio**2 / 2) / fall.size))


def difference(d: Draw, visit: int, a: str, b: str) -> Pair:
    """Difference of two arms in mean change at a visit, and its error."""
    x, y = mean(change(d, visit, a)), mean(change(d, visit, b))
    return x[0] - y[0], float(np.hypot(x[1], y[1]))


def missing(d: Draw, *names: str) -> Pair:
    """Percentage who left before the last visit."""
    left = present(d.disposition).left < present(d.disposition).observed.shape[1]
    return percent(left[arm(d, *names)])


def event(d: Draw, pt: str, *names: str) -> Pair:
    """Percentage with at least one event of a term."""
    e = present(d.events)
    index = [i for i, t in enumerate(present(d.scenario.adverse_events).terms) if t.pt == pt]
    hit = np.zeros(d.n, dtype=bool)
    hit[e.subject[np.isin(e.term, index)]] = True
    return percent(hit[arm(d, *names)])


def acute_durations(d: Draw) -> FloatArray:
    """Minutes that events caused by a dose last."""
    e = present(d.events)
    background = np.array([t.background for t in present(d.scenario.adverse_events).terms])
    return e.duration[~background[e.term]]


def relapsed(d: Draw, by: float, *names: str) -> Pair:
    """Percentage of those at risk who relapse within `by` days."""
    f = present(d.follow_up)
    time = np.where(f.event, f.right, np.inf)
    return percent((time <= by)[f.at_risk & arm(d, *names)])


def typical_peak(route: str, dose: float, sprays: int = 1, gap: float = 0.0) -> Pair:
    """Peak concentration (ng/mL) of the typical subject after one dose in mg."""
    curve = pharmacokinetics.courses(
        route, np.array([dose]), np.zeros((1, 8)), sprays=sprays, gap=gap, hours=6, step=1 / 60
    )
    return float(curve.max()), 0.0


def systolic_rise(d: Draw, *names: str) -> Pair:
    """Rise of systolic pressure from before the dose to the first measurement after it, mmHg."""
    pressure = present(d.courses).sbp[arm(d, *names), 0]
    return mean(pressure[:, 1] - pressure[:, 0])


IV, NASAL, PLACEBO = "KAP IV", "KAP Nasal", "Placebo"
TARGETS: tuple[Target, ...] = (
    Target("kap-parallel", "MADRS at baseline, mean", "35.0 to 38.4", "Daly 2018, Takahashi 2021, Jones 2022", 35.0,
           38.4,
           lambda d: mean(baseline(d))),
    Target("kap-parallel", "MADRS at baseline, SD", "5.0 to 6.1", "Takahashi 2021, Jones 2022", 5.0, 6.1,
           lambda d: spread(baseline(d))),
    Target("kap-parallel", "MADRS at day 28, SD", "11.0 to 12.5", "Takahashi 2021", 11.0, 12.5,
           lambda d: spread(score(d, 4, PLACEBO))),
    Target("kap-parallel", "change to day 28, placebo", "-15.3 to -16.0", "Takahashi 2021, Jones 2022", -16.5, -13.0,
           lambda d: mean(change(d, 4, PLACEBO))),
    Target("kap-parallel", "change to day 28, SD", "10.5 to 14.7", "Takahashi 2021, Jones 2022", 10.5, 14.7,
           lambda d: spread(change(d, 4, PLACEBO))),
    Target("kap-parallel", "change to day 1, placebo", "-5.7 to -12.4", "Daly 2018 (24 h), ASPIRE II", -12.4, -5.7,
           lambda d: mean(change(d, 0, PLACEBO))),
    Target("kap-parallel", "nasal minus placebo, day 28", "-4.0 to -6.8", "Popova 2019, Janik 2025", -6.8, -3.5,
           lambda d: difference(d, 4, NASAL, PLACEBO)),
    Target("kap-parallel", "nasal minus placebo, day 1", "-3.8, -3.9", "ASPIRE I and II (24 h)", -5.0, -3.0,
           lambda d: difference(d, 0, NASAL, PLACEBO)),
    Target("kap-parallel", "gone by day 28, active, %", "9.6", "Jones 2022 (310 of 343 completed)", 7.5, 11.0,
           lambda d: missing(d), 1),
    Target("kap-parallel", "gone by day 28, placebo, %", "6.3", "Jones 2022 (208 of 222 completed)", 3.5, 8.5,
           lambda d: missing(d, PLACEBO), 1),
    Target("kap-parallel", "dissociation, nasal, %", "27.6 to 41.0", "TRANSFORM-1, US label", 27.6, 41.0,
           lambda d: event(d, "Dissociation", NASAL)),
    Target("kap-parallel", "dissociation, placebo, %", "3.5 to 9.5", "TRANSFORM-1, US label", 3.5, 9.5,
           lambda d: event(d, "Dissociation", PLACEBO)),
    Target("kap-parallel", "dizziness, nasal, %", "22.4 to 29.2", "TRANSFORM-1, US label", 22.4, 29.2,
           lambda d: event(d, "Dizziness", NASAL)),
    Target("kap-parallel", "nausea, nasal, %", "28.3 to 31.9", "TRANSFORM-1, US label", 26.0, 32.0,
           lambda d: event(d, "Nausea", NASAL)),
    Target("kap-parallel", "vertigo, nasal, %", "20.7 to 22.5", "TRANSFORM-1, US label", 20.0, 24.0,
           lambda d: event(d, "Vertigo", NASAL)),
    Target("kap-parallel", "headache, nasal, %", "20.2 to 20.7", "TRANSFORM-1, US label", 18.5, 22.0,
           lambda d: event(d, "Headache", NASAL)),
    Target("kap-parallel", "headache, placebo, %", "16.8, 17.1", "TRANSFORM-1, US label", 15.5, 18.5,
           lambda d: event(d, "Headache", PLACEBO)),
    Target("kap-parallel", "dysgeusia, nasal, %", "17.2 to 27.0", "TRANSFORM-1, SUSTAIN-1", 15.0, 27.0,
           lambda d: event(d, "Dysgeusia", NASAL)),
    Target("kap-parallel", "blood pressure increased, nasal, %", "9.5 to 11.5", "TRANSFORM-1, ASPIRE", 8.5, 11.5,
           lambda d: event(d, "Blood pressure increased", NASAL)),
    Target("kap-parallel", "dissociation, intravenous, %", "60.4 over a longer course", "KetECT", 35.0, 60.4,
           lambda d: event(d, "Dissociation", IV)),
    Target("kap-parallel", "nausea, intravenous, %", "27.5", "KetECT", 25.0, 40.0, lambda d: event(d, "Nausea", IV)),
    Target("kap-parallel", "acute events resolved within 1.5 h, %", "most", "Popova 2019 supplement", 60.0, 90.0,
           lambda d: percent(acute_durations(d) <= 90)),
    Target("kap-parallel", "acute events that last over 24 h, %", "4 to 12 by term", "KetECT, TRANSFORM-1 and -2",
           2.0, 12.0,
           lambda d: percent(acute_durations(d) > 1440)),
    Target("kap-parallel", "systolic rise at 40 min, intravenous, mmHg", "7.4, 16.0", "741 and 2342 infusions", 7.4,
           16.0,
           lambda d: systolic_rise(d, IV)),
    Target("kap-parallel", "relapsed by day 56 of follow-up, intravenous, %", "about 50 (median 57 days)", "KetECT",
           40.0,
           60.0, lambda d: relapsed(d, 60, IV)),
    Target("kap-withdrawal", "relapsed by day 273, placebo, %", "45.3 (median 273 days)", "SUSTAIN-1", 42.0, 56.0,
           lambda d: relapsed(d, 273, "Placebo")),
    Target("kap-withdrawal", "relapsed by day 273, active, %", "26.7", "SUSTAIN-1", 22.0, 36.0,
           lambda d: relapsed(d, 273, "KAP")),
    Target("kap-dose-finding", "relapsed by day 14, 1.0 mg/kg, %", "30 to 38", "Salloum 2020", 25.0, 40.0,
           lambda d: relapsed(d, 12, "Ketamine 1.0 mg/kg")),
    Target("kap-dose-finding", "relapsed by day 14, 0.5 mg/kg, %", "50", "Salloum 2020", 40.0, 60.0,
           lambda d: relapsed(d, 12, "Ketamine 0.5 mg/kg")),
    Target("kap-dose-finding", "relapsed by day 14, 0.1 mg/kg, %", "80 to 100", "Salloum 2020", 72.0, 100.0,
           lambda d: relapsed(d, 12, "Ketamine 0.1 mg/kg")),
    Target("kap-cohort", "lost by 3 months, %", "81 (346 of 1806 seen)", "Yermus 2024", 75.0, 90.0,
           lambda d: percent(~present(d.disposition).observed[:, 1])),
    Target("kap-cohort", "lost by 6 months, %", "95 (94 of 1806 seen)", "Yermus 2024", 88.0, 97.0,
           lambda d: percent(~present(d.disposition).observed[:, 2])),
    Target("kap-registry", "response of PHQ-9 at day 28, sublingual, %", "62.8", "Hull 2022", 57.0, 68.0,
           lambda d: percent(responded(d, 1, "Sublingual"))),
    Target("kap-registry", "fall of PHQ-9 to day 28 in its SDs, sublingual", "1.61", "Hull 2022", 1.4, 1.85,
           lambda d: standardised_fall(d, 1, "Sublingual"), 2),
    Target("kap-parallel", "peak after 28 mg nasal, ng/mL", "43.9 at 36 min", "model of Perez-Ruixo 2021", 43.8, 44.0,
           lambda d: typical_peak("NASAL", 28.0)),
    Target("kap-parallel", "peak after 84 mg nasal, ng/mL", "102.2 at 40 min", "model of Perez-Ruixo 2021", 102.1,
           102.3,
           lambda d: typical_peak("NASAL", 84.0, 3)),
    Target("kap-parallel", "peak after 84 mg oral, ng/mL", "25.8 at 86 min", "model of Perez-Ruixo 2021", 25.7, 25.9,
           lambda d: typical_peak("ORAL", 84.0)),
    Target("kap-parallel", "peak, 0.5 mg/kg intravenous, median ng/mL", "100 to 250", "Zanos 2018", 100.0, 250.0,
           lambda d: median(present(d.sessions).exposure.cmax[arm(d, IV)])),
    Target("kap-parallel", "time to peak, intramuscular, min", "5 to 22", "Grant 1981, reviews", 5.0, 22.0,
           lambda d: median(present(d.sessions).exposure.tmax[arm(d, "KAP IM")])),
)  # fmt: skip


def measured(n: int = N) -> list[tuple[Target, float, float]]:
    """Every target with its simulated value and Monte-Carlo error; one draw of n subjects per scenario."""
    drawn = {name: draw(load(name), n=n, seed=7) for name in dict.fromkeys(t.scenario for t in TARGETS)}
    return [(t, *t.measure(drawn[t.scenario])) for t in TARGETS]


def met(target: Target, value: float, error: float) -> bool:
    """Whether the simulated value lies in the range, give or take two Monte-Carlo errors."""
    return target.low - 2 * error <= value <= target.high + 2 * error


def document() -> str:
    """The table as Markdown."""
    lines = [
        f"| {t.scenario} | {t.what} | {t.published} | {t.source} | {t.low:g} to {t.high:g} | "
        f"{value:.{t.digits}f} | {error:.2f} | {'yes' if met(t, value, error) else 'no'} |"
        for t, value, error in measured()
    ]
    return (
        "# Calibration of the scenarios\n\nGenerated by `python -m kapstats.simulation.calibration docs/calibration.md`"
        f" from one draw of {N:,} subjects per scenario. Parameters were chosen so that the value lies in the range"
        " that the published figures span. Routes other than nasal and intravenous have no published counts of a trial"
        " and follow from exposure alone."
        "\n\n| scenario | quantity | published | source | range | simulated | MC error | inside |\n"
        "|---|---|---|---|---|---|---|---|\n" + "\n".join(lines) + "\n"
    )


def main(arguments: Sequence[str]) -> int:
    """Write the table to the file given."""
    Path(arguments[0]).write_text(document(), encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
