"""Parametric curves through a few correlated means: generalised least squares by variable projection."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kapstats._types import FloatArray
from kapstats.errors import warn

GRID, ROUNDS = 9, 14  # points per parameter and rounds of the nested search; each round shrinks the grid 2.5 times


@dataclass(frozen=True)
class Model:
    """mean(x) = shape(x; theta) e, with a column of ones first when `intercept`.

    linear, nonlinear : names of e and of theta
    bounds : search range of theta, in units of the largest x but for the names in `unitless`
    shape : (x (k,), theta (g, r)) -> (g, k, columns), one set of columns per row of theta
    """

    linear: tuple[str, ...]
    nonlinear: tuple[str, ...]
    bounds: tuple[tuple[float, float], ...]
    shape: Callable[[FloatArray, FloatArray], FloatArray]
    intercept: bool = True
    unitless: tuple[str, ...] = ()


@dataclass(frozen=True)
class Curve:
    """One fitted model: parameter values by name, the residual quadratic form, and AIC = rss + 2 * parameters."""

    name: str
    model: Model
    parameters: dict[str, float]
    rss: float
    aic: float

    def __call__(self, x: Any) -> FloatArray:
        """Mean at `x`."""
        at, p = np.atleast_1d(np.asarray(x, dtype=float)), self.parameters
        theta = np.array([[p[n] for n in self.model.nonlinear]])
        return _columns(self.model, at, theta)[0] @ np.array([p[n] for n in self.model.linear])


    def at_edge(self, x: FloatArray) -> list[str]:
        """Parameters at the edge of their search range: the residual form may still fall beyond it."""
        bounds = np.log(np.array(self.model.bounds).reshape(-1, 2))
        scale = _scale(self.model, x)
        theta = np.log(np.array([self.parameters[n] for n in self.model.nonlinear]) / scale)
        near = (np.abs(theta[:, None] - bounds) < 1e-6 * np.ptp(bounds, axis=1)[:, None]).any(axis=1)
        return [n for n, edge in zip(self.model.nonlinear, near, strict=True) if edge]


def fit_curves(models: Mapping[str, Model], x: FloatArray, y: FloatArray, vcov: FloatArray) -> tuple[Curve, ...]:
    """Each model fitted to means y (k,) at x (k,) with covariance vcov (k, k)."""
    return _fits(models, x, y[None], vcov)[0]


def warn_edges(curves: Sequence[Curve], x: FloatArray, what: str) -> tuple[str, ...]:
    """Warn of parameters that the means do not determine within their search range; `what` x is: "dose", "time"."""
    said = []
    for curve in curves:
        bounds = dict(zip(curve.model.nonlinear, curve.model.bounds, strict=True))
        for name in curve.at_edge(x):
            low, high = bounds[name]
            unit = "" if name in curve.model.unitless else f" times the largest {what}"
            said.append(
                f"{curve.name}: {name} = {curve.parameters[name]:.4g} is at the edge of its range ({low:g} to "
                f"{high:g}{unit}): the means do not determine it. Use a model with fewer parameters."
            )
    return tuple(map(warn, said))


def refits(
    models: Mapping[str, Model], x: FloatArray, y: FloatArray, vcov: FloatArray, draws: int, seed: int
) -> tuple[tuple[Curve, ...], ...]:
    """The same fits to `draws` draws of the means (by Cholesky's factor: eigenvectors differ by machine)."""
    simulated = np.random.default_rng(seed).multivariate_normal(y, vcov, size=draws, method="cholesky")
    return _fits(models, x, simulated, vcov)


def _fits(models: Mapping[str, Model], x: FloatArray, y: FloatArray, vcov: FloatArray) -> tuple[tuple[Curve, ...], ...]:
    """Every model to every row of y (d, k), all rows at once; one tuple of curves per row."""
    root = np.linalg.inv(np.linalg.cholesky(vcov))
    fitted = [_fit_rows(name, model, x, y @ root.T, root) for name, model in models.items()]
    return tuple(zip(*fitted, strict=True)) if fitted else ((),) * len(y)


def _fit_rows(name: str, model: Model, x: FloatArray, whitened: FloatArray, root: FloatArray) -> list[Curve]:
    """Variable projection: theta by nested grids in log scale, each evaluated in one batch; the rest in closed form."""
    bounds = np.log(np.array(model.bounds).reshape(-1, 2))
    theta = _search(model, x, whitened, root, bounds)
    rss, beta = _project(model, x, theta[:, None], whitened, root)
    names = model.linear + model.nonlinear
    values = np.hstack([beta[:, 0], theta]).tolist()
    return [
        Curve(name, model, dict(zip(names, v, strict=True)), form, form + 2 * len(names))
        for v, form in zip(values, rss[:, 0].tolist(), strict=True)
    ]


def _scale(model: Model, x: FloatArray) -> FloatArray:
    return np.array([1.0 if n in model.unitless else float(x.max()) for n in model.nonlinear])


def _search(model: Model, x: FloatArray, whitened: FloatArray, root: FloatArray, bounds: FloatArray) -> FloatArray:
    """Best theta (d, r) for each row of whitened (d, k) within log bounds (r, 2), in units of `_scale`.

    Equal bounds hold a parameter fixed.
    """
    scale, rows = _scale(model, x), np.arange(len(whitened))
    if not len(bounds):
        return np.empty((len(whitened), 0))
    low, high = bounds.T
    reach = (high - low) / 2
    if not reach.any():
        return np.broadcast_to(np.exp(low) * scale, (len(whitened), len(low)))
    share = [np.linspace(0.0, 1.0, GRID if r > 0 else 1) for r in reach]
    steps = np.array(list(itertools.product(*share)))
    at = np.broadcast_to((low + high) / 2, (len(whitened), len(low)))
    for _ in range(ROUNDS):
        begin = np.maximum(low, at - reach)[:, None]
        grid = begin + steps * (np.minimum(high, at + reach)[:, None] - begin)
        at = grid[rows, np.argmin(_project(model, x, np.exp(grid) * scale, whitened, root)[0], axis=1)]
        reach = reach / 2.5
    return np.asarray(np.exp(at) * scale)


def profile_limits(
    curve: Curve, x: FloatArray, y: FloatArray, vcov: FloatArray, name: str, rise: float
) -> tuple[float, float]:
    """Where the residual form, minimised over the rest, is `rise` above its minimum; 0 or inf beyond the range."""
    root = np.linalg.inv(np.linalg.cholesky(vcov))
    model, j = curve.model, curve.model.nonlinear.index(name)
    unit = _scale(model, x)[j]
    bounds = np.log(np.array(model.bounds).reshape(-1, 2))

    def above(log_value: float) -> bool:
        fixed = bounds.copy()
        fixed[j] = log_value
        theta = _search(model, x, (root @ y)[None], root, fixed)
        return bool(_project(model, x, theta[:, None], (root @ y)[None], root)[0][0, 0] > curve.rss + rise)

    def limit(edge: float, beyond: float) -> float:
        inside, outside = float(np.log(curve.parameters[name] / unit)), edge
        if not above(outside):
            return beyond
        for _ in range(20):
            middle = (inside + outside) / 2
            inside, outside = (inside, middle) if above(middle) else (middle, outside)
        return float(np.exp((inside + outside) / 2) * unit)

    return limit(float(bounds[j, 0]), 0.0), limit(float(bounds[j, 1]), float("inf"))


def _project(
    model: Model, x: FloatArray, theta: FloatArray, whitened: FloatArray, root: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Residual form (d, g) and linear parameters (d, g, columns) for theta (d, g, r), one row of whitened (d, k) each.

    Shapes without theta are the same for every row, so they are decomposed once.
    """
    d, g, r = theta.shape
    columns = _columns(model, x, theta.reshape(d * g, r) if r else theta[:1, 0])
    q, upper = (m.reshape(-1, g, *m.shape[1:]) for m in np.linalg.qr(root @ columns))
    scores = np.swapaxes(q, -1, -2) @ whitened[:, None, :, None]
    residual = whitened[:, None, :, None] - q @ scores
    return (residual[..., 0] ** 2).sum(axis=-1), np.linalg.solve(upper, scores)[..., 0]


def covariance(curve: Curve, x: FloatArray, vcov: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Working values and their covariance (J'V^-1 J)^-1: linear parameters as they are, the others by their logarithm.

    NaN where the means do not determine the parameters.
    """
    model, p = curve.model, curve.parameters
    linear = np.array([p[n] for n in model.linear])
    working = np.concatenate([linear, np.log([p[n] for n in model.nonlinear])])

    def mean(w: FloatArray) -> FloatArray:
        theta = np.exp(w[len(linear) :])[None]
        return _columns(model, x, theta)[0] @ w[: len(linear)]

    step = 1e-5 * np.maximum(1.0, np.abs(working))
    jacobian = np.column_stack(
        [
            (mean(working + s * e) - mean(working - s * e)) / (2 * s)
            for s, e in zip(step, np.eye(len(working)), strict=True)
        ]
    )
    information = jacobian.T @ np.linalg.solve(vcov, jacobian)
    scale = np.sqrt(np.diag(information))
    if not (scale > 0).all() or np.linalg.cond(information / np.outer(scale, scale)) > 1e12:
        return working, np.full(information.shape, np.nan)
    return working, np.linalg.inv(information)


def _columns(model: Model, x: FloatArray, theta: FloatArray) -> FloatArray:
    columns = model.shape(x, theta)
    return np.concatenate([np.ones((len(columns), len(x), 1)), columns], axis=2) if model.intercept else columns


def akaike_weights(aic: FloatArray) -> FloatArray:
    """exp(-AIC / 2), normed to one."""
    relative = np.exp(-(aic - aic.min()) / 2)
    return relative / relative.sum()
