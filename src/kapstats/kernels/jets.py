"""Values with exact first and second derivatives (truncated Taylor arithmetic), vectorised over observations.

A jet of k variables holds v (n,), g (k, n) and h (k, k, n). Likelihoods written with jets need no hand-made Hessians.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit, log_ndtr

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Jet:
    """v (n,), g (k, n), h (k, k, n)."""

    __array_ufunc__ = None  # an array left of the operator must leave the arithmetic to the jet

    v: Array
    g: Array
    h: Array

    def __add__(self, other: Any) -> Jet:
        if isinstance(other, Jet):
            return Jet(self.v + other.v, self.g + other.g, self.h + other.h)
        return Jet(self.v + other, self.g, self.h)

    __radd__ = __add__

    def __neg__(self) -> Jet:
        return Jet(-self.v, -self.g, -self.h)

    def __sub__(self, other: Any) -> Jet:
        return self + (-other)

    def __rsub__(self, other: Any) -> Jet:
        return -self + other

    def __mul__(self, other: Any) -> Jet:
        if not isinstance(other, Jet):
            return Jet(self.v * other, self.g * other, self.h * other)
        cross = self.g[:, None] * other.g[None, :]
        return Jet(
            self.v * other.v,
            self.v * other.g + other.v * self.g,
            self.v * other.h + other.v * self.h + cross + np.swapaxes(cross, 0, 1),
        )

    __rmul__ = __mul__


def variables(values: list[Array]) -> list[Jet]:
    """Independent variables with the given values (each (n,))."""
    k, n = len(values), len(values[0])
    unit = np.eye(k)
    return [Jet(v, np.repeat(unit[j][:, None], n, axis=1), np.zeros((k, k, n))) for j, v in enumerate(values)]


def chain(x: Jet, f: Array, f1: Array, f2: Array) -> Jet:
    """f(x) from the value and the first two derivatives of f at x.v."""
    return Jet(f, f1 * x.g, f1 * x.h + f2 * (x.g[:, None] * x.g[None, :]))


def chain2(x: Jet, y: Jet, f: Array, fx: Array, fy: Array, fxx: Array, fxy: Array, fyy: Array) -> Jet:
    """f(x, y) from its value and partial derivatives."""
    cross = x.g[:, None] * y.g[None, :]
    second = fxx * (x.g[:, None] * x.g[None, :]) + fyy * (y.g[:, None] * y.g[None, :])
    return Jet(f, fx * x.g + fy * y.g, fx * x.h + fy * y.h + second + fxy * (cross + np.swapaxes(cross, 0, 1)))


def exp(x: Jet) -> Jet:
    """exp(x), held finite."""
    value = np.exp(np.minimum(x.v, 700.0))
    return chain(x, value, value, value)


def log(x: Jet) -> Jet:
    """log(x); NaN for negative x, which a line search refuses."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return chain(x, np.log(x.v), 1.0 / x.v, -1.0 / x.v**2)


def softplus(x: Jet) -> Jet:
    """log(1 + exp(x))."""
    p = expit(x.v)
    return chain(x, np.logaddexp(0.0, x.v), p, p * (1.0 - p))


def log_normal_cdf(x: Jet) -> Jet:
    """log Phi(x)."""
    value = log_ndtr(x.v)
    with np.errstate(over="ignore", invalid="ignore"):
        mills = np.exp(-0.5 * x.v**2 - 0.5 * np.log(2.0 * np.pi) - value)
    mills = np.where(x.v < -1e4, -x.v, mills)
    return chain(x, value, mills, -mills * (x.v + mills))


def log1mexp(x: Jet) -> Jet:
    """log(1 - exp(x)) for x < 0."""
    low = np.minimum(x.v, -1e-150)
    grow = np.expm1(np.minimum(-low, 300.0))
    return chain(x, np.log(-np.expm1(low)), -1.0 / grow, -(grow + 1.0) / grow**2)


def growth(x: Jet, t: Array) -> Jet:
    """(exp(x t) - 1)/x, smooth through x = 0."""
    y = x.v * t
    small = np.abs(y) < 0.05
    z = np.where(small, 1.0, y)
    e = np.exp(np.minimum(z, 690.0))
    phi = np.where(small, _series(y, 0), (e - 1.0) / z)
    phi1 = np.where(small, _series(y, 1), (e * (z - 1.0) + 1.0) / z**2)
    phi2 = np.where(small, _series(y, 2), (e * (z * z - 2.0 * z + 2.0) - 2.0) / z**3)
    return chain(x, t * phi, t**2 * phi1, t**3 * phi2)


def _series(y: Array, order: int) -> Array:
    """Derivatives of (exp(y) - 1)/y: the integral of s^order exp(s y) over (0, 1), as a power series."""
    total, term = np.zeros_like(y), np.ones_like(y)
    for j in range(12):
        total = total + term / (j + 1 + order)
        term = term * y / (j + 1)
    return total
