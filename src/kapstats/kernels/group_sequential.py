"""Group sequential tests: boundaries by alpha spending and exact stage-wise inference.

The joint law of the cumulative statistics Z_k ~ N(theta sqrt(I_k), 1) with correlation sqrt(I_j/I_k) is integrated
recursively (Armitage, McPherson and Rowe 1969) over the continuation region, with composite Gauss-Legendre panels no
wider than the step of the process; the answers are exact to about 1e-13.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

Array = npt.NDArray[Any]
Spending = Callable[[float, Array], Array]
REACH = 9.5
NODES, WEIGHTS = np.polynomial.legendre.leggauss(20)


@dataclass(frozen=True, slots=True)
class Crossing:
    """Probabilities of first leaving at each stage: upper (K,), lower (K,)."""

    upper: Array
    lower: Array


@dataclass(frozen=True, slots=True)
class _Front:
    """Sub-density of Z_k on the continuation region: nodes z (m,), mass (m,) = density times quadrature weight."""

    z: Array
    mass: Array
    information: float


def _grid(low: float, high: float, width: float) -> tuple[Array, Array]:
    panels = max(1, int(np.ceil((high - low) / width)))
    edges = np.linspace(low, high, panels + 1)
    half = np.diff(edges)[:, None] / 2.0
    middle = (edges[:-1] + edges[1:])[:, None] / 2.0
    return (middle + half * NODES).ravel(), (half * WEIGHTS).ravel()


def _advance(
    front: _Front | None, information: float, drift: float, lower: float, upper: float, width: float
) -> _Front:
    """The next sub-density, restricted to (lower, upper)."""
    mean = drift * np.sqrt(information)
    low, high = max(lower, min(mean, 0.0) - REACH), min(upper, max(mean, 0.0) + REACH)
    if high <= low:
        return _Front(np.zeros(0), np.zeros(0), information)
    z, weight = _grid(low, high, width)
    if front is None:
        return _Front(z, weight * np.exp(-0.5 * (z - mean) ** 2) / np.sqrt(2.0 * np.pi), information)
    step = information - front.information
    arrival = (z[:, None] * np.sqrt(information) - front.z * np.sqrt(front.information) - drift * step) / np.sqrt(step)
    density = np.exp(-0.5 * arrival**2) @ front.mass * np.sqrt(information / step) / np.sqrt(2.0 * np.pi)
    return _Front(z, weight * density, information)


def _beyond(front: _Front | None, information: float, drift: float, bound: float, sign: float) -> float:
    """P(reach this stage and sign * Z > sign * bound)."""
    if front is None:
        return float(ndtr(-sign * (bound - drift * np.sqrt(information))))
    step = information - front.information
    gap = (bound * np.sqrt(information) - front.z * np.sqrt(front.information) - drift * step) / np.sqrt(step)
    return float(ndtr(-sign * gap) @ front.mass)


def _panel_width(information: Array) -> Array:
    """Panels for stage k must resolve the steps that start and end there (K,)."""
    step = np.diff(information, prepend=0.0)
    into = np.sqrt(step / information)
    out = np.append(np.sqrt(step[1:] / information[:-1]), 1.0)
    return np.clip(2.5 * np.minimum(into, out), 0.02, 1.5)


def crossing(information: Array, lower: Array, upper: Array, drift: float = 0.0) -> Crossing:
    """First-exit probabilities for boundaries `lower`, `upper` (K,) and mean `drift` * sqrt(information)."""
    information = np.asarray(information, float)
    widths = _panel_width(information)
    up, down, front = [], [], None
    for k, I in enumerate(information):
        up.append(_beyond(front, I, drift, upper[k], 1.0) if np.isfinite(upper[k]) else 0.0)
        down.append(_beyond(front, I, drift, lower[k], -1.0) if np.isfinite(lower[k]) else 0.0)
        if k + 1 < information.size:
            front = _advance(front, float(I), drift, float(lower[k]), float(upper[k]), float(widths[k]))
    return Crossing(np.array(up), np.array(down))


def spending_boundaries(
    information: Array, cumulative_alpha: Array, *, two_sided: bool = False, lower: Array | None = None
) -> Array:
    """Upper critical values (K,) that spend `cumulative_alpha` (K,).

    `two_sided` mirrors them (alpha counts both tails); `lower` (K,) are binding futility bounds.
    """
    information = np.asarray(information, float)
    widths = _panel_width(information)
    spend = np.diff(np.asarray(cumulative_alpha, float), prepend=0.0) / (2.0 if two_sided else 1.0)
    bounds, front = np.empty(information.size), None
    for k, I in enumerate(information):
        bounds[k] = _bound(front, float(I), float(spend[k]))
        low = -bounds[k] if two_sided else (-np.inf if lower is None else lower[k])
        front = _advance(front, float(I), 0.0, float(low), float(bounds[k]), float(widths[k]))
    return bounds


def _bound(front: _Front | None, information: float, alpha: float) -> float:
    if alpha <= 0.0:
        return float("inf")
    if front is None:
        return float(-ndtri(alpha))
    return float(brentq(lambda c: _beyond(front, information, 0.0, c, 1.0) - alpha, -8.0, 20.0, xtol=1e-14, rtol=1e-15))


def wang_tsiatis_boundaries(information: Array, alpha: float, delta: float, *, two_sided: bool = False) -> Array:
    """C (I_k/I_K)^(delta - 1/2) with total type I error `alpha`; delta 0 O'Brien-Fleming, 1/2 Pocock."""
    information = np.asarray(information, float)
    shape = (information / information[-1]) ** (delta - 0.5)

    def excess(C: float) -> float:
        upper = C * shape
        low = -upper if two_sided else np.full(upper.size, -np.inf)
        exits = crossing(information, low, upper)
        return float(exits.upper.sum() + (exits.lower.sum() if two_sided else 0.0)) - alpha

    return np.asarray(brentq(excess, 0.0, 10.0, xtol=1e-13, rtol=1e-15) * shape)


def obrien_fleming_spending(alpha: float, t: Array) -> Array:
    """Lan-DeMets: 2 - 2 Phi(z_{alpha/2}/sqrt t)."""
    return np.asarray(2.0 * ndtr(ndtri(alpha / 2.0) / np.sqrt(t)))


def pocock_spending(alpha: float, t: Array) -> Array:
    """Lan-DeMets: alpha log(1 + (e - 1) t)."""
    return np.asarray(alpha * np.log1p((np.e - 1.0) * t))


def hwang_shih_decani_spending(gamma: float) -> Spending:
    """alpha (1 - exp(-gamma t))/(1 - exp(-gamma)); gamma 0 is linear."""
    if gamma == 0.0:
        return lambda alpha, t: alpha * np.asarray(t)
    return lambda alpha, t: np.asarray(alpha * np.expm1(-gamma * np.asarray(t)) / np.expm1(-gamma))


def power_spending(rho: float) -> Spending:
    """Kim-DeMets: alpha t^rho."""
    return lambda alpha, t: np.asarray(alpha * np.asarray(t) ** rho)


def stagewise_p(information: Array, upper: Array, stage: int, z: float, drift: Array | float = 0.0) -> float:
    """P(a result at least as extreme, stage-wise, as `z` at `stage` (from 0)); `drift` a number or the means (K,).

    Earlier rejection is more extreme; at the same stage a larger Z is. Futility bounds do not enter (non-binding).
    """
    I = np.asarray(information, float)[: stage + 1]
    bounds = np.append(np.asarray(upper, float)[:stage], z)
    mean = np.broadcast_to(drift * np.sqrt(I) if np.ndim(drift) == 0 else np.asarray(drift)[: stage + 1], I.shape)
    return float(crossing_with_means(I, bounds, np.asarray(mean, float)).sum())


def crossing_with_means(information: Array, upper: Array, mean: Array) -> Array:
    """Upper exit probabilities when Z_k has any means (K,): shift every statistic to mean zero."""
    return crossing(information, np.full(upper.size, -np.inf), upper - mean).upper


def solve_drift(information: Array, upper: Array, power: float) -> float:
    """The drift theta at which the design rejects with probability `power`."""
    low = np.full(len(upper), -np.inf)

    def gap(theta: float) -> float:
        return float(crossing(information, low, upper, theta).upper.sum()) - power

    return float(brentq(gap, 0.0, 12.0 / np.sqrt(np.asarray(information)[-1]), xtol=1e-13, rtol=1e-14))


def effect_at(information: Array, upper: Array, stage: int, z: float, slope: Array, probability: float) -> float:
    """The effect d at which the stage-wise p value equals `probability`, when Z_k has mean d * `slope`_k.

    probability 1/2 gives the median-unbiased estimate, a and 1 - a the limits of the (1 - 2a) interval.
    """
    scale = float(slope[stage])
    centre = z / scale

    def gap(d: float) -> float:
        return stagewise_p(information, upper, stage, z, d * slope) - probability

    width = 4.0 / scale
    low, high = centre - width, centre + width
    while gap(low) > 0.0:
        low -= width
    while gap(high) < 0.0:
        high += width
    return float(brentq(gap, low, high, xtol=1e-12, rtol=1e-13))


def conditional_power(information: Array, upper: Array, stage: int, z: float, drift: float) -> float:
    """P(cross a later bound | Z_stage = z) when the remaining increments have drift `drift`."""
    I = np.asarray(information, float)
    rest = I[stage + 1 :] - I[stage]
    bounds = (np.asarray(upper)[stage + 1 :] * np.sqrt(I[stage + 1 :]) - z * np.sqrt(I[stage])) / np.sqrt(rest)
    return float(crossing(rest, np.full(rest.size, -np.inf), bounds, drift).upper.sum())


def schoenfeld_events(log_hr: float, alpha: float, power: float, ratio: float = 1.0) -> float:
    """Events for a one-sided `alpha` log-rank test: (z_a + z_b)^2 (1 + r)^2/(r log^2 HR)."""
    return float((ndtri(alpha) + ndtri(1.0 - power)) ** 2 * (1.0 + ratio) ** 2 / (ratio * log_hr**2))


def freedman_events(hr: float, alpha: float, power: float, ratio: float = 1.0) -> float:
    """Events after Freedman (1982): (z_a + z_b)^2 (1 + r HR)^2/(r (1 - HR)^2)."""
    return float((ndtri(alpha) + ndtri(1.0 - power)) ** 2 * (1.0 + ratio * hr) ** 2 / (ratio * (1.0 - hr) ** 2))


def event_probability(hazard: float, dropout: float, accrual: float, time: float) -> float:
    """P(event seen by calendar `time`) with uniform accrual over (0, `accrual`), exponential event and dropout hazards
    (Lachin and Foulkes 1986); per subject of the whole accrual, so not yet recruited subjects count as no event."""
    total = hazard + dropout
    entered = min(accrual, time)
    if total == 0.0 or entered <= 0.0:
        return 0.0
    seen = entered - (np.exp(-total * (time - entered)) - np.exp(-total * time)) / total
    return float(hazard / total * seen / accrual)
