"""Variance components of a linear mixed model: table, intervals by profile and bootstrap, ICC, likelihood ratios."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import optimize, special

from kapstats._types import FloatArray
from kapstats.errors import ConvergenceError, EstimabilityError, FormulaError, warn
from kapstats.estimates import Estimates
from kapstats.inference.intervals import check_level
from kapstats.kernels.block_arrow import eliminate
from kapstats.kernels.random_effects_fit import degrees, gradient_in_G, pack, unpack
from kapstats.response import nesting
from kapstats.response.random_effects import RandomTerm

if TYPE_CHECKING:
    from kapstats.response.lmm import LmmFit


def beside(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Two blocks without covariance as one matrix."""
    names = [*a.index, *b.index]
    out = np.zeros((len(names), len(names)))
    out[: len(a), : len(a)], out[len(a) :, len(a) :] = a.to_numpy(), b.to_numpy()
    return pd.DataFrame(out, index=names, columns=names)


def components(model: LmmFit) -> pd.DataFrame:
    """Rows of `LmmFit.variance_components`: variances of a block, then its covariances."""
    rows = []
    for term in model.data.random.terms:
        G = model.state.solved.s2 * model.data.random.covariance(term, model.state.solved.T)
        sd = np.sqrt(np.diag(G))
        rows += [(term.group, n, "", G[i, i], sd[i]) for i, n in enumerate(term.names)]
        for i in range(len(sd)):
            for j in range(i + 1, len(sd)):
                r = G[i, j] / (sd[i] * sd[j]) if sd[i] * sd[j] > 0 else np.nan
                rows.append((term.group, term.names[i], term.names[j], G[i, j], r))
    rows.append(("Residual", "", "", model.state.solved.s2, model.sigma))
    if model.state.residual is not None:
        table = model.state.residual.table().iloc[1:]
        rows += [("Residual", row.parameter, "", row.estimate, row.sd_cor) for row in table.itertuples()]
    return pd.DataFrame(rows, columns=["group", "term", "term2", "estimate", "sd_cor"])


# ------------------------------------------------------------------------------------------- intervals


@dataclass(frozen=True)
class _Quantity:
    """A standard deviation or correlation as a function of (theta, log s)."""

    group: str
    term: str
    term2: str
    value: Callable[[FloatArray], float]


def variance_intervals(model: LmmFit, method: str, level: float, n: int, seed: int) -> Estimates:
    """See `LmmFit.variance_intervals`."""
    check_level(level)
    if method == "profile" and model.state.residual is not None:
        raise FormulaError("variance_intervals: method='profile' is not offered beside a residual structure; use "
                           "method='bootstrap'.")  # fmt: skip
    frame = components(model).drop(columns="estimate").rename(columns={"sd_cor": "estimate"})
    limits = _profile(model, _quantities(model), level) if method == "profile" else _bootstrap(model, level, n, seed)
    frame = frame.assign(conf_low=limits[:, 0], conf_high=limits[:, 1])
    title = "Standard deviations and correlations"
    return Estimates(frame, model._meta(title=title, level=level, interval_method=method))


def _packed(model: LmmFit) -> FloatArray:
    return np.append(model.state.solved.theta, 0.5 * np.log(model.state.solved.s2))


def _quantities(model: LmmFit) -> list[_Quantity]:
    out = []
    for term in model.data.random.terms:
        k = len(term.names)
        out += [_Quantity(term.group, term.names[i], "", partial(_sd, model, term, i)) for i in range(k)]
        out += [
            _Quantity(term.group, term.names[i], term.names[j], partial(_correlation, model, term, i, j))
            for i in range(k)
            for j in range(i + 1, k)
        ]
    return [*out, _Quantity("Residual", "", "", _residual_sd)]


def _covariance(model: LmmFit, term: RandomTerm, psi: FloatArray) -> FloatArray:
    T = unpack(model.state.arrow, psi[:-1])
    return np.asarray(np.exp(2 * psi[-1]) * model.data.random.covariance(term, T))


def _sd(model: LmmFit, term: RandomTerm, i: int, psi: FloatArray) -> float:
    return float(np.sqrt(_covariance(model, term, psi)[i, i]))


def _correlation(model: LmmFit, term: RandomTerm, i: int, j: int, psi: FloatArray) -> float:
    G = _covariance(model, term, psi)
    return float(G[i, j] / np.sqrt(max(G[i, i] * G[j, j], 1e-300)))


def _residual_sd(psi: FloatArray) -> float:
    return float(np.exp(psi[-1]))


def _full_criterion(model: LmmFit, psi: FloatArray) -> tuple[float, FloatArray]:
    """-2 l in (theta, log s), fixed effects profiled out, with its gradient."""
    arrow, s2 = model.state.arrow, float(np.exp(2 * psi[-1]))
    T = unpack(arrow, psi[:-1])
    try:
        state = eliminate(arrow, T)
    except np.linalg.LinAlgError:
        return 1e300, np.zeros_like(psi)
    d = degrees(arrow, model.reml)
    value = state.log_random + (state.log_fixed if model.reml else 0.0)
    value += d * np.log(2 * np.pi * s2) + state.rss / s2
    slopes = [2.0 * dG @ t for dG, t in zip(gradient_in_G(arrow, state, model.reml, s2), T, strict=True)]
    return float(value), np.append(pack(arrow, slopes), 2 * d - 2 * state.rss / s2)


def _profile(model: LmmFit, asked: list[_Quantity], level: float) -> FloatArray:
    """Limits of quantities in the order of `components`."""
    at = _packed(model)
    cut = float(special.chdtri(1, 1 - level))
    lowest = _full_criterion(model, at)[0]
    return np.array([_limits(model, q, at, lowest + cut) for q in asked])


def _limits(model: LmmFit, q: _Quantity, at: FloatArray, target: float) -> tuple[float, float]:
    """Where the profile criterion of one quantity crosses `target` on either side."""
    estimate = q.value(at)
    path = {"psi": at}

    def excess(value: float) -> float:
        found, psi = _constrained(model, q, value, path["psi"])
        path["psi"] = psi
        return found - target

    if q.term2:
        return (-_cross(excess, path, at, -estimate, 1.0, -1.0), _cross(excess, path, at, estimate, 1.0, 1.0))
    low = _lower_sd(excess, path, at, estimate)
    return low, _upper_sd(excess, path, at, estimate)


def _cross(
    excess: Callable[[float], float],
    path: dict[str, FloatArray],
    at: FloatArray,
    value: float,
    edge: float,
    sign: float,
) -> float:
    """The crossing between a correlation and its edge at one; the edge when there is none."""
    path["psi"] = at
    z, top = np.arctanh(min(value, 1 - 1e-7)), np.arctanh(1 - 1e-6)
    step = 0.25
    inner = z
    while z < top:
        z = min(z + step, top)
        if excess(sign * float(np.tanh(z))) > 0:
            return float(np.tanh(optimize.brentq(lambda t: excess(sign * float(np.tanh(t))), inner, z, xtol=1e-7)))
        inner, step = z, step * 1.6
    return edge


def _lower_sd(excess: Callable[[float], float], path: dict[str, FloatArray], at: FloatArray, estimate: float) -> float:
    path["psi"] = at
    upper, factor = estimate, 0.8
    value = estimate
    while value > 1e-3 * estimate and estimate > 0:
        value *= factor
        if excess(value) > 0:
            return float(optimize.brentq(excess, value, upper, xtol=1e-8 * estimate))
        upper, factor = value, factor * 0.8
    return 0.0


def _upper_sd(excess: Callable[[float], float], path: dict[str, FloatArray], at: FloatArray, estimate: float) -> float:
    path["psi"] = at
    lower, value, step = estimate, max(estimate, 1e-6), 1.15
    for _ in range(40):
        value *= step
        if excess(value) > 0:
            return float(optimize.brentq(excess, lower, value, xtol=1e-8 * value))
        lower, step = value, step * 1.2
    return np.inf


def _constrained(model: LmmFit, q: _Quantity, value: float, start: FloatArray) -> tuple[float, FloatArray]:
    """Smallest criterion with the quantity held at `value`."""

    def gap(psi: FloatArray) -> float:
        return q.value(psi) - value

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        found = optimize.minimize(
            lambda psi: _full_criterion(model, psi),
            start,
            jac=True,
            method="SLSQP",
            constraints=[{"type": "eq", "fun": gap}],
            options={"maxiter": 200, "ftol": 1e-11},
        )
    if not abs(gap(found.x)) < 1e-4 * max(abs(value), 1e-3):
        raise ConvergenceError(f"profile of {q.group} {q.term} {q.term2}: no solution at {value:.4g}. Use 'bootstrap'.")
    return float(found.fun), np.asarray(found.x)


def _bootstrap(model: LmmFit, level: float, n: int, seed: int) -> FloatArray:
    """Percentile limits over parametric refits; refits that fail are left out with a warning."""
    if n < 2:
        raise FormulaError(f"variance_intervals: n={n} refits give no percentiles; ask for hundreds.")
    values, lost = [], 0
    for y in model.simulate(n, seed):
        try:
            values.append(components(model.refit(y))["sd_cor"].to_numpy())
        except (ConvergenceError, EstimabilityError):
            lost += 1
    if lost:
        text = f"bootstrap: {lost} of {n} refits found no certified optimum and are left out of the limits."
        warn(text)
    if len(values) < 2:
        raise ConvergenceError("bootstrap: fewer than two refits found a certified optimum; simplify the model.")
    return np.nanquantile(np.array(values), [(1 - level) / 2, (1 + level) / 2], axis=0).T


# ------------------------------------------------------------------------------------------- ICC, likelihood ratio


def icc(model: LmmFit) -> pd.DataFrame:
    """Variance shares per grouping factor."""
    s2, random = model.state.solved.s2, model.data.random
    share: dict[str, float] = {}
    for term in random.terms:
        T = model.state.solved.T[term.factor]
        at = slice(term.start, term.stop)
        Z = random.factors[term.factor].Z[:, at]
        share[term.group] = share.get(term.group, 0.0) + float(s2 * ((Z @ T[at]) ** 2).sum(1).mean())
    w = 1.0 if model.data.weights is None else float((1 / model.data.weights).mean())
    total = sum(share.values()) + s2 * w
    return pd.DataFrame(
        {"group": list(share), "variance": list(share.values()), "estimate": [v / total for v in share.values()]}
    )


def likelihood_ratio(model: LmmFit, reduced: LmmFit) -> Estimates:
    """See `LmmFit.lrt`."""
    nesting.check_class(model, reduced)
    a, b = model.data, reduced.data
    nesting.check_rows((model.y, reduced.y), (a.weights, b.weights), (a.offset, b.offset))
    if model.reml != reduced.reml:
        raise FormulaError("lrt: one model is fitted by REML and the other by ML; refit one of them.")
    fixed = model.state.arrow.n_fixed - reduced.state.arrow.n_fixed
    if model.reml and (fixed != 0 or model.data.design.names != reduced.data.design.names):
        raise FormulaError("lrt: under REML the fixed effects have to be the same; refit both with reml=False.")
    extra = len(model.state.solved.theta) - len(reduced.state.solved.theta)
    inner = fixed + _structure_parameters(model) - _structure_parameters(reduced)  # not on a boundary under the null
    if fixed < 0 or extra < 0 or inner < 0 or inner + extra == 0:
        raise FormulaError("lrt: give the larger model first; the reduced one must have fewer parameters.")
    nesting.check_fixed(model.design, reduced.design)
    nesting.check_random(model.data, reduced.data)
    nesting.check_structure(model.data.formula.covariance, reduced.data.formula.covariance)
    statistic = nesting.statistic(model.loglik, reduced.loglik)
    dims = _dimensions(model) - _dimensions(reduced)
    p, reference = _mixture(statistic, extra, dims, inner)
    frame = pd.DataFrame(
        {"statistic": [statistic], "df": [float(inner + extra)], "p_value": [p], "reference": [reference]}
    )
    return Estimates(frame, model._meta(title="Likelihood-ratio test", reduced=reduced.data.formula.text))


def _structure_parameters(model: LmmFit) -> int:
    """Parameters of the residual covariance."""
    return 1 if model.state.residual is None else len(model.state.residual.theta)


def _dimensions(model: LmmFit) -> int:
    """Number of random-effect columns over all terms."""
    return sum(len(term.names) for term in model.data.random.terms)


def _mixture(statistic: float, extra: int, dims: int, fixed: int) -> tuple[float, str]:
    """p value and the reference distribution in words."""
    if extra == 0 or dims <= 0:
        return float(special.chdtrc(fixed + extra, statistic)), f"chi-square({fixed + extra})"
    if dims == 1:
        weights = {extra - 1: 0.5, extra: 0.5}
    elif dims == extra:
        weights = {i: float(special.comb(dims, i)) / 2**dims for i in range(dims + 1)}
    else:
        return float(
            special.chdtrc(fixed + extra, statistic)
        ), f"chi-square({fixed + extra}), conservative at the boundary"
    p = sum(
        w * (special.chdtrc(k + fixed, statistic) if k + fixed else float(statistic <= 0)) for k, w in weights.items()
    )
    return float(p), " + ".join(f"{w:g} chi-square({k + fixed})" for k, w in weights.items())
