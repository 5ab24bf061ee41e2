"""Concentration of ketamine over a dosing session, by route: a linear compartment model with first-pass metabolism.

States (mg): mucosal depot, gut depot, liver, central, two peripheral. The liver is well stirred and perfused at
``Qh``; what is swallowed passes gut wall (``Fgut``) and liver before it reaches the circulation.

    dA/dt = M A + u(t)

is linear, so a step of length h is exact for an input that is constant over it: ``A <- E A + F u`` with
``E = expm(M h)`` and ``F = int_0^h expm(M s) ds``, both by scaling and squaring of a Taylor series (the same
arithmetic on every machine, and batched over subjects).

Structure and values: Perez-Ruixo et al. 2021 (doi 10.1007/s40262-020-00953-4) for intravenous, oral and nasal
esketamine; rates of mucosal absorption under the tongue from Simons et al. 2022 (doi 10.3389/fpain.2022.946486), the
mucosal share set so that the absolute bioavailability is the 0.30 reported for tablets and wafers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kapstats._types import FloatArray

#: a session is followed for so many hours, in steps of so many
HOURS, STEP = 4.0, 2.5 / 60

MUCOSA, GUT, LIVER, CENTRAL, SHALLOW, DEEP = range(6)

#: typical values: volumes L, flows L/h, rates 1/h
DISPOSITION: dict[str, float] = {
    "Vc": 192.0, "Q1": 84.3, "Vp1": 143.0, "Q2": 37.6, "Vp2": 417.0,
    "Qh": 151.0, "Vh": 101.0, "kel": 1.11, "kmet": 2.77, "Fgut": 0.64,
}  # fmt: skip

#: between-subject variability, SD on the log scale (from the printed coefficients of variation)
VARIABILITY: dict[str, float] = {
    name: float(np.sqrt(np.log1p(cv**2)))
    for name, cv in {"Vc": 0.275, "Vp1": 0.493, "Qh": 0.232, "Vh": 0.346, "kel": 1.20}.items()
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Absorption:
    """How a dose given by one route enters the body.

    ``central`` is the fraction infused straight into the circulation over the infusion time, ``mucosal`` the fraction
    taken up from mucosa or muscle (first order ``ka_mucosal`` 1/h after a zero-order release over ``d_mucosal`` h),
    ``swallowed`` the fraction that goes through gut and liver. ``later_sprays`` multiplies the mucosal fraction of
    every spray after the first; what it loses is swallowed.
    """

    central: float = 0.0
    mucosal: float = 0.0
    swallowed: float = 0.0
    ka_mucosal: float = 1.0
    d_mucosal: float = 0.0
    ka_gut: float = 0.97
    d_gut: float = 0.32
    later_sprays: float = 1.0
    sd_mucosal: float = 0.0
    sd_ka_mucosal: float = 0.0
    sd_ka_gut: float = 1.003


ROUTES: dict[str, Absorption] = {
    "INTRAVENOUS": Absorption(central=1.0, sd_ka_gut=0.0),
    "INTRAMUSCULAR": Absorption(mucosal=0.93, ka_mucosal=9.0, sd_ka_mucosal=0.35, sd_ka_gut=0.0),
    "ORAL": Absorption(swallowed=1.0),
    "SUBLINGUAL": Absorption(
        mucosal=0.15, swallowed=0.85, ka_mucosal=2.4, d_mucosal=13.1 / 60, sd_mucosal=0.35, sd_ka_mucosal=0.25,
        ka_gut=2.94, d_gut=29.9 / 60, sd_ka_gut=0.6,
    ),
    "NASAL": Absorption(
        mucosal=0.54, swallowed=0.46, ka_mucosal=2.93, later_sprays=0.62, sd_mucosal=0.708, sd_ka_mucosal=0.567,
        ka_gut=1.45, d_gut=0.53,
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Exposure:
    """What a session did to each subject: `cmax` ng/mL (n,), `tmax` min (n,), `auc` ng h/mL (n,), `at` ng/mL (n, m)."""

    cmax: FloatArray
    tmax: FloatArray
    auc: FloatArray
    at: FloatArray


def system(p: Mapping[str, FloatArray | float], ka_mucosal: FloatArray, ka_gut: FloatArray) -> FloatArray:
    """Rate matrices M (n, 6, 6) of the compartment model."""
    shape = np.broadcast_shapes(np.shape(ka_mucosal), *(np.shape(v) for v in p.values()))
    m = np.zeros((*shape, 6, 6))

    def flow(source: int, target: int | None, rate: FloatArray | float, arrives: FloatArray | float = 1.0) -> None:
        m[..., source, source] -= rate
        if target is not None:
            m[..., target, source] += np.asarray(rate) * arrives

    flow(MUCOSA, CENTRAL, ka_mucosal)
    flow(GUT, LIVER, ka_gut, p["Fgut"])
    flow(LIVER, CENTRAL, p["Qh"] / p["Vh"])
    flow(LIVER, None, np.asarray(p["kel"]) + p["kmet"])
    flow(CENTRAL, LIVER, p["Qh"] / p["Vc"])
    flow(CENTRAL, SHALLOW, p["Q1"] / p["Vc"])
    flow(SHALLOW, CENTRAL, p["Q1"] / p["Vp1"])
    flow(CENTRAL, DEEP, p["Q2"] / p["Vc"])
    flow(DEEP, CENTRAL, p["Q2"] / p["Vp2"])
    return m


def propagators(m: FloatArray, step: float, order: int = 8) -> tuple[FloatArray, FloatArray]:
    """E = expm(M h) and F = int_0^h expm(M s) ds for every matrix of a stack (n, k, k), by scaling and squaring."""
    largest = float(np.abs(m).sum(axis=-2).max()) * step
    squarings = max(0, int(np.ceil(np.log2(max(largest, 1e-12) / 0.25))))
    h = step / 2**squarings
    identity = np.broadcast_to(np.eye(m.shape[-1]), m.shape)
    f = identity.copy()
    for k in range(order, 0, -1):
        f = identity + (h / (k + 1)) * (m @ f)
    f = f * h
    e = identity + m @ f
    for _ in range(squarings):
        f = f + e @ f
        e = e @ e
    return e, f


@dataclass(frozen=True, slots=True)
class Pour:
    """A zero-order input into one state: mg in all (n,), and the share of it in each step (steps,)."""

    state: int
    amount: FloatArray
    share: FloatArray


@dataclass(frozen=True, slots=True)
class Drop:
    """A bolus (n,) mg into one state at the start of a step."""

    state: int
    amount: FloatArray
    step: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """Subjects ready to run: rate matrices (n, 6, 6) 1/h, inputs per mg of dose, central volume (n,) L."""

    m: FloatArray
    pours: tuple[Pour, ...]
    drops: tuple[Drop, ...]
    volume: FloatArray


def run_together(groups: Sequence[Prepared], steps: int, step: float) -> list[FloatArray]:
    """Central concentration per mg of dose (n, steps + 1) in ng/mL of each group, stepped through time together."""
    volume = np.concatenate([g.volume for g in groups])
    ends = np.cumsum([g.volume.size for g in groups])
    own = [slice(end - g.volume.size, end) for g, end in zip(groups, ends, strict=True)]
    # subjects last: a step is then a few passes over contiguous numbers
    pair = propagators(np.concatenate([g.m for g in groups]), step)
    e, f = (np.ascontiguousarray(np.moveaxis(x, 0, -1)) for x in pair)
    state, course = np.zeros((6, volume.size)), np.zeros((steps + 1, volume.size))
    for k in range(steps):
        for rows, group in zip(own, groups, strict=True):
            for drop in group.drops:
                if drop.step == k:
                    state[drop.state, rows] += drop.amount
        state = np.einsum("ijn,jn->in", e, state)
        for rows, group in zip(own, groups, strict=True):
            for pour in group.pours:
                if pour.share[k]:
                    state[:, rows] += f[:, pour.state, rows] * (pour.amount * (pour.share[k] / step))
        course[k + 1] = state[CENTRAL]
    return np.split((course / volume * 1000.0).T, ends[:-1])


def spread(duration: float, start: float, steps: int, step: float) -> FloatArray:
    """Share of a zero-order input over [start, start + duration] that falls into each step (steps,); sums to one."""
    edges = np.arange(steps + 1) * step
    inside = np.clip(edges, start, start + duration) - start
    return np.diff(inside) / duration


def dose_pattern(
    route: Absorption, mucosal: FloatArray, minutes: float, sprays: int, gap: float, steps: int, step: float
) -> tuple[tuple[Pour, ...], tuple[Drop, ...]]:
    """Inputs per mg of dose; `mucosal` (n,) is each subject's share taken up by mucosa or muscle."""
    pours: list[Pour] = []
    drops: list[Drop] = []
    if route.central:
        whole = np.full(mucosal.size, route.central)
        pours.append(Pour(CENTRAL, whole, spread(minutes / 60, 0.0, steps, step)))
    for spray in range(sprays):
        start = spray * gap / 60
        taken = mucosal * (route.later_sprays if spray else 1.0)
        swallowed = route.swallowed + (mucosal - taken if route.swallowed else 0.0) + (route.mucosal - mucosal)
        if route.d_mucosal:
            pours.append(Pour(MUCOSA, taken / sprays, spread(route.d_mucosal, start, steps, step)))
        else:
            drops.append(Drop(MUCOSA, taken / sprays, round(start / step)))
        if route.swallowed:
            pours.append(Pour(GUT, swallowed / sprays, spread(route.d_gut, start, steps, step)))
    return tuple(pours), tuple(drops)


def prepare(
    route: str, z: FloatArray, *, minutes: float = 40.0, sprays: int = 1, gap: float = 5.0, hours: float = HOURS,
    step: float = STEP,
) -> Prepared:  # fmt: skip
    """One route's subjects; `z` and the options as in `courses`."""
    way = ROUTES[route]
    p: dict[str, FloatArray | float] = dict(DISPOSITION)
    for column, (name, sd) in enumerate(VARIABILITY.items()):
        p[name] = DISPOSITION[name] * np.exp(sd * z[:, column])
    ka_mucosal = way.ka_mucosal * np.exp(way.sd_ka_mucosal * z[:, 5])
    ka_gut = way.ka_gut * np.exp(way.sd_ka_gut * z[:, 6])
    odds = way.mucosal / (1 - way.mucosal) if way.mucosal else 0.0
    shifted = odds * np.exp(way.sd_mucosal * z[:, 7])
    pours, drops = dose_pattern(way, shifted / (1 + shifted), minutes, sprays, gap, round(hours / step), step)
    return Prepared(system(p, ka_mucosal, ka_gut), pours, drops, np.asarray(p["Vc"]))


def courses(
    route: str, dose: FloatArray, z: FloatArray, *, minutes: float = 40.0, sprays: int = 1, gap: float = 5.0,
    hours: float = HOURS, step: float = STEP,
) -> FloatArray:  # fmt: skip
    """Concentration courses (n, steps + 1) in ng/mL after one session.

    Parameters
    ----------
    route : CDISC route term, a key of `ROUTES`
    dose : (n,) mg
    z : (n, 8) standard normal deviates of the subject; zeros give the typical subject
    minutes : infusion time, min (intravenous)
    sprays, gap : number of spray pairs and the minutes between them (nasal)
    """
    group = prepare(route, z, minutes=minutes, sprays=sprays, gap=gap, hours=hours, step=step)
    return run_together([group], round(hours / step), step)[0] * dose[:, None]


def summarise(course: FloatArray, minutes: Sequence[float], step: float = STEP) -> Exposure:
    """Peak, time of peak, area to the end of the course, and concentration at the given minutes."""
    at = [course[:, round(m / 60 / step)] for m in minutes]
    return Exposure(
        cmax=course.max(axis=1),
        tmax=course.argmax(axis=1) * step * 60,
        auc=(course.sum(axis=1) - 0.5 * (course[:, 0] + course[:, -1])) * step,
        at=np.stack(at, axis=1) if at else np.zeros((course.shape[0], 0)),
    )


def bioavailability(route: str, sprays: int = 1) -> float:
    """Typical absolute bioavailability: mucosal share + swallowed share x Fgut x (1 - hepatic extraction).

    Examples
    --------
    >>> round(bioavailability("NASAL", sprays=2), 3), round(bioavailability("ORAL"), 3)
    (0.538, 0.178)
    """
    way, p = ROUTES[route], DISPOSITION
    intrinsic = (p["kel"] + p["kmet"]) * p["Vh"]
    first_pass = p["Fgut"] * p["Qh"] / (p["Qh"] + intrinsic)
    taken = way.mucosal * (1 + way.later_sprays * (sprays - 1)) / sprays
    swallowed = (way.swallowed + way.mucosal - taken) * first_pass if way.swallowed else 0.0
    return way.central + taken + swallowed


def three_compartment_infusion(
    volumes: Sequence[float], clearances: Sequence[float], dose: float, duration: float, times: FloatArray
) -> FloatArray:
    """Central concentration (mg/L) of a mammillary three-compartment model during and after a constant infusion.

    `volumes` are V1, V2, V3 and `clearances` CL (from V1), Q2, Q3, in units that agree with `times` and `duration`.
    """
    (v1, v2, v3), (cl, q2, q3) = volumes, clearances
    m = np.array(
        [[-(cl + q2 + q3) / v1, q2 / v2, q3 / v3], [q2 / v1, -q2 / v2, 0.0], [q3 / v1, 0.0, -q3 / v3]]
    )  # fmt: skip
    rate = np.array([dose / duration, 0.0, 0.0])
    out = []
    for t in times:
        _, f = propagators(m[None], max(min(float(t), duration), 1e-12))
        state = f[0] @ rate
        if t > duration:
            state = propagators(m[None], float(t) - duration)[0][0] @ state
        out.append(state[0] / v1)
    return np.asarray(out)
