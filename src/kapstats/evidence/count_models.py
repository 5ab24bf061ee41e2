"""Pooling of counts as they are, without a correction of zero cells: Mantel-Haenszel, Peto, binomial mixed models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import special

from kapstats._types import BoolArray, FloatArray
from kapstats.errors import ConvergenceError, FormulaError, choose
from kapstats.evidence.studies import Studies
from kapstats.kernels import meta, meta_mixed
from kapstats.kernels.beta_binomial import beta_binomial

#: metafor's names of the mixed models
NAMES = {"cm.el": "glmm", "cm.al": "glmm-approximate", "um.fs": "glmm-fixed-levels", "um.rs": "glmm-random-levels"}
MODELS = ("mantel-haenszel", "peto", *NAMES.values(), "beta-binomial")
#: quadrature points per random effect; one is the Laplace approximation, which lme4 and metafor use for two effects
POINTS = {"glmm": 25, "glmm-approximate": 25, "glmm-fixed-levels": 25, "glmm-random-levels": 1}


@dataclass(frozen=True, slots=True)
class Pooled:
    """The pooled effect; tau^2 (NaN where the model has none), I^2, H^2, Q with k - 1 df of `k` studies, the rest."""

    estimate: float
    std_error: float
    tau2: float
    i2: float
    h2: float
    q: float
    k: int
    extra: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def pool(s: Studies, measure: str, model: str, points: int | None) -> Pooled:
    """The pooled effect of the studies' counts under `model`."""
    if model == "peto":
        return _peto(s, choose(measure, ("OR",), "measure"))
    if model == "mantel-haenszel":
        return _mantel_haenszel(s, choose(measure, ("OR", "RR", "RD"), "measure"))
    if model == "beta-binomial":
        return _beta_binomial(s, measure)
    return _mixed(s, measure, model, POINTS[model] if points is None else points)


def _two_arms(s: Studies) -> tuple[FloatArray, ...]:
    return tuple(s.counts[key] for key in ("x1", "n1", "x2", "n2"))


def _informative(s: Studies) -> BoolArray:
    """Studies with an event and without one: the others hold no information on an odds ratio."""
    a, n1, c, n2 = _two_arms(s)
    return np.asarray((a + c > 0) & (a + c < n1 + n2))


def _peto(s: Studies, measure: str) -> Pooled:
    there = _informative(s)
    excess, variance = (part[there] for part in meta.peto(*_two_arms(s)))
    if not there.any():
        return _nothing("Peto: no study has both events and subjects without; there is no odds ratio.")
    estimate = float(excess.sum() / variance.sum())
    q = float((excess**2 / variance).sum() - estimate**2 * variance.sum())
    return _homogeneous(estimate, float(1 / np.sqrt(variance.sum())), max(0.0, q), int(there.sum()))


def _mantel_haenszel(s: Studies, measure: str) -> Pooled:
    a, n1, c, n2 = _two_arms(s)
    finite = {
        "OR": float(a @ ((n2 - c) / (n1 + n2))) * float(c @ ((n1 - a) / (n1 + n2))),
        "RR": float(a.sum()) * float(c.sum()),
        "RD": 1.0,
    }
    if finite[measure] <= 0:
        return _nothing(f"Mantel-Haenszel: one arm has no event (or nothing else) in any study; no finite {measure}.")
    estimate, se = meta.mantel_haenszel(a, n1, c, n2, measure)
    used = _informative(s)  # Q compares the studies' own effects, which the others do not have
    q = float(((s.y - estimate) ** 2 / s.v)[used].sum()) if used.sum() > 1 else 0.0
    return _homogeneous(estimate, se, q, int(used.sum()))


def _nothing(note: str) -> Pooled:
    return Pooled(np.nan, np.nan, 0.0, np.nan, np.nan, np.nan, 0, notes=(note,))


def _homogeneous(estimate: float, se: float, q: float, k: int) -> Pooled:
    i2, h2 = meta.excess_share(q, k)
    return Pooled(estimate, se, 0.0, i2, h2, q, k)


def _beta_binomial(s: Studies, measure: str) -> Pooled:
    """Log odds ratio (or logit), its standard error, and rho (tau^2 does not exist in this model)."""
    c, k = s.counts, len(s.y)
    if measure == "logit" and {"x", "n"} <= set(c):
        x, n, X = c["x"], c["n"], np.ones((k, 1))
    elif measure == "OR" and "x1" in c:
        x, n = np.r_[c["x1"], c["x2"]], np.r_[c["n1"], c["n2"]]
        X = np.column_stack([np.ones(2 * k), np.repeat([1.0, 0.0], k)])
    else:
        raise FormulaError("model='beta-binomial' takes measure='OR' with x1 n1 x2 n2, or measure='logit' with x n.")
    _need_both(x, n, X[:, -1], "beta-binomial")
    fit = beta_binomial(x, n, X)
    if not fit.converged:
        raise ConvergenceError("beta-binomial: the likelihood has no maximum that could be certified.")
    at = X.shape[1] - 1
    extra = {"rho": fit.rho, "loglik": fit.loglik}
    nan = np.nan
    return Pooled(float(fit.coefficients[at]), float(np.sqrt(fit.covariance[at, at])), nan, nan, nan, nan, k, extra)


def _need_both(x: FloatArray, n: FloatArray, arm: FloatArray, model: str) -> None:
    """An arm without any event, or with nothing else, has no finite log odds."""
    for value in np.unique(arm):
        here = arm == value
        if x[here].sum() == 0 or x[here].sum() == n[here].sum():
            what = "no event" if x[here].sum() == 0 else "nothing but events"
            raise ConvergenceError(f"{model}: one arm has {what} in any study; the effect is not finite.")


def _mixed(s: Studies, measure: str, model: str, points: int) -> Pooled:
    if points < 1:
        raise FormulaError(f"quadrature={points}: at least 1 point (the Laplace approximation).")
    fit = _one_arm_mixed(s, model, points) if "x" in s.counts else _two_arm_mixed(s, measure, model, points)
    if not fit.converged:
        raise ConvergenceError(f"{model}: the likelihood has no maximum that could be certified.")
    k = len(s.y)
    typical = meta.typical_variance(s.v) if k > 1 else np.nan
    i2, h2 = (100 * fit.tau2 / (fit.tau2 + typical), 1 + fit.tau2 / typical) if k > 1 else (0.0, 1.0)
    extra = {"loglik": fit.loglik, "quadrature": points}
    return Pooled(fit.estimate, fit.std_error, fit.tau2, i2, h2, np.nan, k, extra)


def _one_arm_mixed(s: Studies, model: str, points: int) -> meta_mixed.Mixed:
    if model != "glmm":
        raise FormulaError(f"model={model!r} compares two arms: x1 n1 x2 n2. For one arm use 'glmm'.")
    x, n = s.counts["x"], s.counts["n"]
    _need_both(x, n, np.ones(len(x)), model)
    start = float(special.logit((x.sum() + 0.5) / (n.sum() + 1)))
    return meta_mixed.study_effect(meta_mixed.binomial(x, n, np.zeros(len(x))), start, points)


def _two_arm_mixed(s: Studies, measure: str, model: str, points: int) -> meta_mixed.Mixed:
    if measure != "OR" or "x1" not in s.counts:
        raise FormulaError(f"model={model!r} takes measure='OR' with x1 n1 x2 n2, or 'glmm' measure='logit' with x n.")
    a, n1, c, n2 = _two_arms(s)
    _need_both(np.r_[a, c], np.r_[n1, n2], np.repeat([1.0, 0.0], len(a)), model)
    if model == "glmm-random-levels":
        return meta_mixed.random_study_levels(a, n1, c, n2, points)
    used = _informative(s)
    a, n1, c, n2 = (part[used] for part in (a, n1, c, n2))
    if model == "glmm-fixed-levels":
        return meta_mixed.fixed_study_levels(a, n1, c, n2, points)
    excess, variance = meta.peto(a, n1, c, n2)
    kinds: dict[str, Callable[[], meta_mixed.Derivatives]] = {
        "glmm": lambda: meta_mixed.hypergeometric(a, n1, c, n2),
        "glmm-approximate": lambda: meta_mixed.binomial(a, a + c, np.log(n1 / n2)),
    }
    return meta_mixed.study_effect(kinds[model](), float(excess.sum() / variance.sum()), points)
