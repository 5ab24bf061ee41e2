"""How the parameters of a parametric survival model make the predictors of its family."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import pandas as pd

from kapstats._types import BoolArray, FloatArray, IntArray
from kapstats.errors import DataError, FormulaError, first_ids
from kapstats.kernels import parametric_survival as ml
from kapstats.kernels.risk_sets import snap
from kapstats.relapse.regression import (
    Covariates,
)
from kapstats.relapse.surv_data import SurvData

AFT = ("exponential", "weibull", "rayleigh", "log-normal", "log-logistic", "generalised-gamma")
PH = ("gompertz", "royston-parmar", "piecewise-exponential")
#: AFT families that are proportional hazards as well
BOTH = ("exponential", "weibull", "rayleigh")
FAMILIES = {
    "exponential": ml.WEIBULL,
    "weibull": ml.WEIBULL,
    "rayleigh": ml.WEIBULL,
    "log-normal": ml.LOGNORMAL,
    "log-logistic": ml.LOGLOGISTIC,
    "gompertz": ml.GOMPERTZ,
    "generalised-gamma": ml.GENERALISED_GAMMA,
}
FIXED_LOG_SCALE = {"exponential": 0.0, "rayleigh": -np.log(2.0)}


class Builder(Protocol):
    """(X covariates without intercept, Z scale strata, U cure covariates, time) -> predictors' design matrices."""

    def __call__(self, X: FloatArray, Z: FloatArray, U: FloatArray, t: FloatArray, /) -> list[FloatArray]: ...


@dataclass(frozen=True, slots=True)
class Layout:
    """How parameters make the predictors of a family.

    distribution and detail (scale of the spline, cuts) name the family; cured adds the mixture; names, start (q,) of
    the parameters; build: see Builder; free (q,): False where held at the start; slopes: where the covariates stand.
    """

    distribution: str
    detail: str | tuple[float, ...]
    cured: bool
    names: tuple[str, ...]
    start: FloatArray
    build: Builder
    free: BoolArray
    slopes: slice

    @property
    def family(self) -> ml.Family:
        """The likelihood; made on request, so that fits can be pickled."""
        if isinstance(self.detail, tuple):
            base = ml.piecewise(np.asarray(self.detail))
        else:
            base = FAMILIES[self.distribution] if self.distribution in FAMILIES else ml.spline(self.detail)
        return ml.cured(base) if self.cured else base


@dataclass(frozen=True, slots=True)
class _Linear:
    """Location (intercept and p covariates), then log scale per stratum or gompertz shape, then Q."""

    p: int
    q: int
    has_strata: bool
    has_shape: bool

    def __call__(self, X: FloatArray, Z: FloatArray, U: FloatArray, t: FloatArray, /) -> list[FloatArray]:
        location = np.zeros((len(X), self.q))
        location[:, 0], location[:, 1 : self.p + 1] = 1.0, X
        out, at = [location], self.p + 1
        blocks = [Z if self.has_strata else np.ones((len(X), 1)), *([np.ones((len(X), 1))] if self.has_shape else [])]
        for block in blocks:
            M = np.zeros((len(X), self.q))
            M[:, at : at + block.shape[1]] = block
            out.append(M)
            at += block.shape[1]
        return out


@dataclass(frozen=True, slots=True)
class _Spline:
    """s(log t) + x'b and its slope."""

    basis: ml.Basis

    def __call__(self, X: FloatArray, Z: FloatArray, U: FloatArray, t: FloatArray, /) -> list[FloatArray]:
        u = np.log(t)
        return [np.hstack([self.basis.value(u), X]), np.hstack([self.basis.slope(u), np.zeros_like(X)])]


@dataclass(frozen=True, slots=True)
class _Piecewise:
    """x'b, then one log hazard per interval."""

    J: int

    def __call__(self, X: FloatArray, Z: FloatArray, U: FloatArray, t: FloatArray, /) -> list[FloatArray]:
        out = [np.hstack([np.zeros((len(X), self.J)), X])]
        for j in range(self.J):
            M = np.zeros((len(X), self.J + X.shape[1]))
            M[:, j] = 1.0
            out.append(M)
        return out


@dataclass(frozen=True, slots=True)
class _Cured:
    """The predictors of `base`, then the logit of the uncured fraction (q and r parameters)."""

    base: Builder
    q: int
    r: int

    def __call__(self, X: FloatArray, Z: FloatArray, U: FloatArray, t: FloatArray, /) -> list[FloatArray]:
        wide = [np.hstack([M, np.zeros((len(X), self.r))]) for M in self.base(X, Z, U, t)]
        logit = np.zeros((len(X), self.q + self.r))
        logit[:, self.q], logit[:, self.q + 1 :] = 1.0, U
        return [*wide, logit]


@dataclass(frozen=True, slots=True)
class _WithoutSlopes:
    """The predictors of `base` for p covariates at zero, without their columns."""

    base: Builder
    p: int
    keep: IntArray

    def __call__(self, X: FloatArray, Z: FloatArray, U: FloatArray, t: FloatArray, /) -> list[FloatArray]:
        return [M[:, self.keep] for M in self.base(np.zeros((len(X), self.p)), Z, U, t)]


def scale_strata(surv: SurvData, rows: pd.DataFrame) -> FloatArray:
    """Indicators of the scale strata for `rows`."""
    if not surv.formula.strata:
        return np.ones((len(rows), 1))
    if rows is surv.frame:
        return np.eye(len(surv.strata))[surv.strata.codes]
    names = list(surv.strata.frame.columns)
    keys = {tuple(map(str, v)): i for i, v in enumerate(surv.strata.frame.itertuples(index=False, name=None))}
    wanted = [tuple(map(str, v)) for v in rows[names].itertuples(index=False, name=None)]
    unknown = [v for v in wanted if v not in keys]
    if unknown:
        raise DataError(f"newdata: strata that the fit did not see ({first_ids(unknown)}).")
    return np.eye(len(keys))[[keys[v] for v in wanted]]


def _midpoints(observed: ml.Observed) -> tuple[FloatArray, BoolArray]:
    """A time per row for starting values and knots, and whether the event was seen."""
    seen = np.isfinite(observed.right)
    time = np.where(seen, (observed.left + np.where(seen, observed.right, 0.0)) / 2.0, observed.left)
    return np.maximum(time, 1e-8), seen


def layout_of(
    name: str,
    surv: SurvData,
    observed: ml.Observed,
    cov: Covariates,
    cured: Covariates | None,
    knots: int | Sequence[float],
    scale: str,
    cuts: Sequence[float] | None,
) -> Layout:
    """How the parameters of the named model are laid out, with its columns, knots or cuts."""
    kept = [n for n, a in zip(cov.names, cov.aliased, strict=True) if not a]
    if name == "royston-parmar":
        base = _spline_layout(kept, observed, knots, scale)
    elif name == "piecewise-exponential":
        base = _piecewise_layout(kept, observed, cuts)
    else:
        base = _linear_layout(name, kept, surv, observed)
    return base if cured is None else _with_cure(base, cured)


def _linear_layout(name: str, kept: list[str], surv: SurvData, observed: ml.Observed) -> Layout:
    """Intercept, covariates, then ancillary parameters (log scale per stratum; gompertz shape; Q)."""
    time, seen = _midpoints(observed)
    p, w = len(kept), observed.weights
    rate = np.log(max((w * seen).sum(), 0.5) / (w * time).sum())
    extra: list[tuple[str, float, bool]]
    if name == "gompertz":
        intercept, extra = float(rate), [("shape", 0.0, True)]
    else:
        labels = surv.strata.labels if surv.formula.strata else ("",)
        log_scale = [f"Log(scale[{t.split('=', 1)[-1]}])" if t else "Log(scale)" for t in labels]
        intercept = float(-rate)
        extra = [(n, FIXED_LOG_SCALE.get(name, 0.0), name not in FIXED_LOG_SCALE) for n in log_scale]
        extra += [("Q", 0.5, True)] if name == "generalised-gamma" else []
    names = ("(Intercept)", *kept, *(e[0] for e in extra))
    start = np.array([intercept, *[0.0] * p, *(e[1] for e in extra)])
    free = np.array([True] * (p + 1) + [e[2] for e in extra])
    build = _Linear(p, len(names), name != "gompertz", name == "generalised-gamma")
    return Layout(name, "", False, names, start, build, free, slice(1, p + 1))


def _spline_layout(kept: list[str], observed: ml.Observed, knots: int | Sequence[float], scale: str) -> Layout:
    time, seen = _midpoints(observed)
    x = np.log(time[seen])
    if x.size < 2 or np.ptp(x) == 0:
        raise DataError("royston-parmar: at least two distinct event times are needed to place the knots.")
    inner = np.linspace(0, 1, knots + 2) if isinstance(knots, (int, np.integer)) else None
    at = np.quantile(x, inner) if inner is not None else np.array([x.min(), *np.log(np.sort(knots)), x.max()])
    if (np.diff(at) <= 0).any():
        raise FormulaError(f"knots={knots}: the knots {np.exp(at).round(3).tolist()} are not increasing; use fewer.")
    m, p = at.size, len(kept)
    names = (*(f"gamma{j}" for j in range(m)), *kept)
    shape = 1.2 / max(float(np.std(x)), 0.3)
    start = np.zeros(m + p)
    rate = np.log(max(seen.sum(), 1.0) / (observed.weights * time).sum())
    start[0], start[1] = float(np.mean(x) * (1.0 - shape) + rate), shape
    free, slopes = np.ones(m + p, bool), slice(m, m + p)
    return Layout("royston-parmar", scale, False, names, start, _Spline(ml.Basis(at)), free, slopes)


def _piecewise_layout(kept: list[str], observed: ml.Observed, cuts: Sequence[float] | None) -> Layout:
    if cuts is None:
        raise FormulaError("piecewise-exponential: name the times at which the hazard changes, such as cuts=[30, 90].")
    c = snap(np.sort(np.asarray(cuts, float)), np.concatenate([observed.left, observed.right]))
    edges = [0.0, *c, np.inf]
    time, seen = _midpoints(observed)
    rate = np.log(max((observed.weights * seen).sum(), 0.5) / (observed.weights * time).sum())
    p, J = len(kept), c.size + 1
    names = (*(f"Log(hazard)({a:g}, {b:g}]" for a, b in itertools.pairwise(edges)), *kept)
    start, free = np.concatenate([np.full(J, rate), np.zeros(p)]), np.ones(J + p, bool)
    detail = tuple(c.tolist())
    return Layout("piecewise-exponential", detail, False, names, start, _Piecewise(J), free, slice(J, J + p))


def _with_cure(base: Layout, cured: Covariates) -> Layout:
    """Add logit parameters of the uncured fraction behind the latency parameters."""
    kept = [n for n, a in zip(cured.names, cured.aliased, strict=True) if not a]
    extra = ("uncured_logit_(Intercept)", *(f"uncured_logit_{n}" for n in kept))
    q, r = len(base.names), len(extra)
    start = np.concatenate([base.start, [1.0], np.zeros(r - 1)])
    free = np.concatenate([base.free, np.ones(r, bool)])
    build = _Cured(base.build, q, r)
    return replace(base, cured=True, names=(*base.names, *extra), start=start, build=build, free=free)


def starting_values(layout: Layout, observed: ml.Observed) -> list[FloatArray]:
    """Starting values in the order in which they are tried; the shape Q of the generalised gamma has several."""
    if layout.distribution != "generalised-gamma":
        return [layout.start]
    time, seen = _midpoints(observed)
    x = np.log(time[seen]) if seen.any() else np.log(time)
    found = []
    for Q, shift in ((0.5, 0.3), (1.0, 0.5), (0.0, 0.0)):
        start = layout.start.copy()
        spread_ = max(float(np.std(x)), 0.1)
        start[0] = float(np.mean(x)) + shift * spread_
        start[[n.startswith("Log(scale") for n in layout.names]] = np.log(spread_)
        start[layout.names.index("Q")] = Q
        found.append(start)
    return found


def unscaling(layout: Layout, centre: FloatArray, size: FloatArray) -> FloatArray:
    """The linear map from parameters for (x - centre)/size to parameters for x."""
    q = len(layout.names)
    T = np.eye(q)
    at = np.arange(q)[layout.slopes]
    T[at, at] = 1.0 / size
    shifted = np.arange(layout.slopes.start) if layout.names[0].startswith("Log(hazard)") else np.array([0])
    T[np.ix_(shifted, at)] = -centre / size
    return T


def null_layout(layout: Layout, p: int) -> Layout:
    """The same model without covariates."""
    keep = np.r_[0 : layout.slopes.start, layout.slopes.stop : len(layout.names)]
    build = _WithoutSlopes(layout.build, p, keep)
    names, none = tuple(layout.names[i] for i in keep), slice(layout.slopes.start, layout.slopes.start)
    return replace(layout, names=names, start=layout.start[keep], build=build, free=layout.free[keep], slopes=none)
