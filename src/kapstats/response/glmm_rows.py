"""What a fitted generalised linear mixed model says about levels and rows, and in words."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import special

from kapstats import frames
from kapstats._types import FloatArray, FrameLike
from kapstats.errors import FormulaError, choose
from kapstats.estimates import Estimates
from kapstats.formula.design import level_text
from kapstats.formula.expressions import complete_rows, offsets
from kapstats.formula.grid import estimable, warn_without_data
from kapstats.inference.intervals import wald
from kapstats.kernels.block_arrow import Factor
from kapstats.kernels.families import inverse_link, mean_slope
from kapstats.kernels.laplace import Mode, Problem, laplace
from kapstats.kernels.quadrature import quadrature
from kapstats.response import nesting
from kapstats.response.glmm_means import integrated_mean, prior_variance
from kapstats.response.lmm_variance import _mixture
from kapstats.response.random_effects import bars

if TYPE_CHECKING:
    from kapstats.response.glmm import GlmmFit


def coefficient_rows(model: GlmmFit) -> tuple[list[str], FloatArray]:
    """Names and linear functions of (theta, beta, phi) of the coefficient table."""
    from kapstats.response.glmm import threshold_names

    names, rows = list(model.design.names), model.to_design
    if model.family != "cumulative":
        return names, rows
    k = len(model.solved.phi)
    keep = [i for i, n in enumerate(names) if n != "(Intercept)"]
    thresholds = np.hstack([np.zeros((k, rows.shape[1] - k)), np.eye(k)])
    return [*threshold_names(model.labels), *(names[i] for i in keep)], np.vstack([thresholds, rows[keep]])


def components(model: GlmmFit) -> pd.DataFrame:
    """Rows of `GlmmFit.variance_components`."""
    rows = []
    for term in model.data.random.terms:
        G = model.data.random.covariance(term, model.solved.T)
        sd = np.sqrt(np.diag(G))
        rows += [(term.group, n, "", G[i, i], sd[i]) for i, n in enumerate(term.names)]
        for i in range(len(sd)):
            for j in range(i + 1, len(sd)):
                r = G[i, j] / (sd[i] * sd[j]) if sd[i] * sd[j] > 0 else np.nan
                rows.append((term.group, term.names[i], term.names[j], G[i, j], r))
    return pd.DataFrame(rows, columns=["group", "term", "term2", "estimate", "sd_cor"])


# ------------------------------------------------------------------------------------------- random effects


def modes(model: GlmmFit) -> list[FloatArray]:
    """Conditional modes (levels, r) per factor in the working basis."""
    mode, out, at = model.solved.mode, [], 0
    for t, (factor, T) in enumerate(zip(model.problem.factors, model.solved.T, strict=True)):
        size = factor.n_levels * len(T)
        u = mode.u0 if t == 0 else mode.uR[at : at + size].reshape(factor.n_levels, len(T))
        at += 0 if t == 0 else size
        out.append(u @ T.T)
    return out


def _variances(model: GlmmFit, t: int) -> FloatArray:
    """Conditional covariance (levels, r, r) at the mode, working basis: T H^-1 T'."""
    mode: Mode = model.solved.mode
    T = model.solved.T[t]
    if t == 0:
        inner = mode.Hinv0 + np.einsum("lac,cd,lbd->lab", mode.J, mode.SRinv, mode.J, optimize=True)
        return np.asarray(T @ inner @ T.T)
    at = sum(f.n_levels * f.Z.shape[1] for f in model.problem.factors[1:t])
    n, r = model.problem.factors[t].n_levels, len(T)
    block = mode.SRinv[at : at + n * r, at : at + n * r].reshape(n, r, n, r)
    return np.asarray(T @ np.einsum("lalb->lab", block) @ T.T)


def random_effects(model: GlmmFit, group: str | None) -> Estimates:
    """See `GlmmFit.random_effects`."""
    from kapstats.response.lmm_rows import _effects_frame, written_covariance

    random = model.data.random
    if group is not None:
        choose(group, dict.fromkeys(t.group for t in random.terms), "group")
    parts, found = [], modes(model)
    for t in dict.fromkeys(term.factor for term in random.terms):
        own = sorted((term for term in random.terms if term.factor == t), key=lambda term: term.start)
        if group in (None, own[0].group):
            names = [n for term in own for n in term.names]
            variance = written_covariance(random.basis[t], _variances(model, t))
            value = random.as_written(t, found[t])
            parts.append(_effects_frame(own[0].group, random.levels[t], names, value, variance))
    return Estimates(pd.concat(parts, ignore_index=True), model._meta(title="Random effects"))


# ------------------------------------------------------------------------------------------- rows


def predict(model: GlmmFit, newdata: FrameLike | None, type: str, random: bool) -> Estimates:
    """See `GlmmFit.predict`."""
    frame = model.used if newdata is None else frames.to_pandas(newdata)
    with_random = random and type != "marginal"
    columns = [*model.design.spec.columns, *model.data.formula.offset]
    for term in model.data.random.terms:
        columns += term.groups if with_random else ()
        columns += term.spec.columns if with_random or type == "marginal" else ()
    kept = complete_rows(frame, columns)[0]
    rows = frame.iloc[kept].reset_index(drop=True)
    eta = _linear_predictor(model, rows, with_random)
    said = warn_without_data(model.design, rows.loc[np.isnan(eta)], "predictions")
    if type == "link":
        shown = pd.DataFrame({"estimate": eta})
    else:
        variance = prior_variance(model, rows)[0] if type == "marginal" else None
        shown = _means(model, eta, variance)
    full = pd.DataFrame(np.nan, index=range(len(frame)), columns=list(shown.columns))
    full.iloc[kept] = shown.to_numpy()
    scale = model.link if type == "link" else "identity"
    meta = model._meta(title="Predictions", scale=scale, type=type, random=with_random)
    return Estimates(full, {**meta, "warnings": (*meta["warnings"], *said)})


def predict_interval(model: GlmmFit, newdata: FrameLike | None, type: str, random: bool, level: float) -> Estimates:
    """Mean at random effects of zero with Wald limits of the link scale. See `GlmmFit.predict`."""
    if type == "marginal" or random or model.family == "cumulative":
        raise FormulaError(
            "interval='confidence' is offered with type 'link' or 'response', random=False, and not for the cumulative "
            "family; use lsmeans for marginal means."
        )
    frame = model.used if newdata is None else frames.to_pandas(newdata)
    kept = complete_rows(frame, [*model.design.spec.columns, *model.data.formula.offset])[0]
    rows = frame.iloc[kept].reset_index(drop=True)
    L = model.design.spec.matrix(rows)
    found = model.linear(L)
    said = warn_without_data(model.design, rows.loc[~estimable(L, model.design)], "predictions")
    eta = found.estimate + offsets(model.data.formula.offset, rows)
    limits = wald(eta, found.std_error, np.inf, level=level)
    shown = pd.DataFrame({"estimate": eta, "std_error": found.std_error}).assign(
        conf_low=limits["conf_low"], conf_high=limits["conf_high"]
    )
    if type == "response":
        for column in ("estimate", "conf_low", "conf_high"):
            shown[column] = inverse_link(model.link, shown[column].to_numpy(float))
        shown["std_error"] *= np.abs(mean_slope(model.link, eta))
    full = pd.DataFrame(np.nan, index=range(len(frame)), columns=list(shown.columns))
    full.iloc[kept] = shown.to_numpy()
    scale = model.link if type == "link" else "identity"
    more = {"title": "Predictions", "scale": scale, "type": type, "random": False, "level": level}
    meta = model._meta(**more, interval="confidence")
    return Estimates(full, {**meta, "warnings": (*meta["warnings"], *said)})


def _linear_predictor(model: GlmmFit, rows: pd.DataFrame, random: bool) -> FloatArray:
    """eta (n,) of new rows, NaN where the design cannot tell it; for the cumulative family without thresholds."""
    X = model.design.spec.matrix(rows)
    X = np.where(estimable(X, model.design)[:, None], np.where(model.design.aliased, 0.0, X), np.nan)
    m, p = len(model.solved.theta), len(model.solved.beta)
    eta = X @ model.to_design[:, m : m + p] @ model.solved.beta + offsets(model.data.formula.offset, rows)
    if random:
        for (codes, Z), effects in zip(model.data.random.rows(rows), modes(model), strict=True):
            seen = codes >= 0
            eta[seen] += np.einsum("na,na->n", Z[seen], effects[codes[seen]])
    return np.asarray(eta)


def _means(model: GlmmFit, eta: FloatArray, variance: FloatArray | None) -> pd.DataFrame:
    """Mean, or probabilities of the categories, at eta or integrated over normal noise of this variance."""

    def mean(at: FloatArray) -> FloatArray:
        return inverse_link(model.link, at) if variance is None else integrated_mean(model.link, at, variance)[0]

    if model.family != "cumulative":
        return pd.DataFrame({"estimate": mean(eta)})
    below = [np.zeros(len(eta)), *(mean(a - eta) for a in model.solved.phi), np.ones(len(eta))]
    columns = zip(model.labels, below[:-1], below[1:], strict=True)
    return pd.DataFrame({f"p_{level_text(label)}": high - low for label, low, high in columns})


def residuals(model: GlmmFit, kind: str) -> pd.Series:
    """See `GlmmFit.residuals`."""
    if model.family == "cumulative":
        raise FormulaError("residuals: a cumulative model has no residuals of one number; use predict().")
    obs, eta = model.problem.obs, model.solved.mode.eta
    p = inverse_link(model.link, eta)
    mean = p * obs.size if model.family == "binomial" else p
    size = np.inf if model.size is None else model.size
    variance = mean * (1 - p) if model.family == "binomial" else mean + mean**2 / size
    raw = obs.y - mean
    if kind == "response":
        value = raw / obs.size
    elif kind == "pearson":
        value = raw / np.sqrt(variance)
    else:
        value = np.sign(raw) * np.sqrt(np.maximum(_deviance(model, mean, size), 0.0))
    return pd.Series(value, index=model.data.rows, name=kind)


def _deviance(model: GlmmFit, mean: FloatArray, size: float) -> FloatArray:
    y, n = model.problem.obs.y, model.problem.obs.size
    if model.family == "binomial":
        return np.asarray(2 * (special.xlogy(y, y / mean) + special.xlogy(n - y, (n - y) / (n - mean))))
    if np.isinf(size):
        return np.asarray(2 * (special.xlogy(y, y / mean) - (y - mean)))
    return np.asarray(2 * (special.xlogy(y, y / mean) - (y + size) * np.log((y + size) / (mean + size))))


def simulate(model: GlmmFit, n: int, seed: int) -> FloatArray:
    """See `GlmmFit.simulate`."""
    base = model.problem.offset + model.problem.X @ model.solved.beta
    out = np.empty((n, model.nobs))
    for i in range(n):
        rng = np.random.default_rng(np.random.SeedSequence(entropy=seed, spawn_key=(i,)))
        eta = base.copy()
        for factor, T in zip(model.problem.factors, model.solved.T, strict=True):
            u = rng.standard_normal((factor.n_levels, len(T))) @ T.T
            eta += np.einsum("na,na->n", factor.Z, u[factor.codes])
        out[i] = _draw(model, eta, rng)
    return out


def _draw(model: GlmmFit, eta: FloatArray, rng: np.random.Generator) -> FloatArray:
    if model.family == "cumulative":
        below = inverse_link(model.link, model.solved.phi[None, :] - eta[:, None])
        return np.asarray((rng.random(len(eta))[:, None] > below).sum(1), dtype=float)
    mean = inverse_link(model.link, eta)
    if model.family == "binomial":
        return rng.binomial(model.problem.obs.size.astype(int), mean).astype(float)
    if model.size is not None and np.isfinite(model.size):
        mean = rng.gamma(model.size, mean / model.size)
    return rng.poisson(mean).astype(float)


def influence(model: GlmmFit) -> Estimates:
    """See `GlmmFit.influence`."""
    if len(model.problem.factors) > 1:
        raise FormulaError("influence: levels of crossed or nested factors have no scores of their own; refit instead.")
    factor, labels = model.problem.factors[0], model.data.random.levels[0]
    fixed = slice(len(model.solved.theta), len(model.solved.theta) + len(model.solved.beta))
    steps = -np.array([model._covariance @ _score(model, level) for level in range(factor.n_levels)])[:, fixed]
    covariance = model._covariance[fixed, fixed]
    change = steps / np.sqrt(np.diag(covariance))
    names = np.array(model.design.names)[model.to_design[:, fixed].any(axis=1)]
    largest = np.abs(change).argmax(axis=1)
    frame = pd.DataFrame(
        {
            "level": pd.Series(list(labels), dtype="object"),
            "n": np.bincount(factor.codes, minlength=factor.n_levels),
            "cook_distance": np.einsum("li,ij,lj->l", steps, np.linalg.pinv(covariance), steps) / steps.shape[1],
            "largest_term": names[largest],
            "largest_change": change[np.arange(len(change)), largest],
        }
    )
    return Estimates(frame, model._meta(title="Influence of single levels, one Newton step"))


def _score(model: GlmmFit, level: int) -> FloatArray:
    """Gradient of one level's -log L in (theta, beta, phi) at the estimates: minus what leaving it out removes."""
    problem, at = model.problem, np.flatnonzero(model.problem.factors[0].codes == level)
    factor, obs = problem.factors[0], problem.obs
    own = Factor(np.zeros(len(at), dtype=np.int64), 1, factor.Z[at], factor.blocks)
    y = obs.y[at] if obs.family != "cumulative" else np.append(obs.y[at], obs.n_categories - 1)
    if obs.family == "cumulative":
        at = np.append(at, at[:1])
        own = Factor(np.zeros(len(at), dtype=np.int64), 1, factor.Z[at], factor.blocks)
    weight = obs.weight[at].copy()
    if obs.family == "cumulative":
        weight[-1] = 0.0  # keeps the number of categories
    part = Problem(replace(obs, y=y, size=obs.size[at], weight=weight), problem.X[at], problem.offset[at], (own,))
    psi = model._parameters
    return quadrature(part, psi, model.quadrature)[1] if model.quadrature > 1 else laplace(part, psi)[1]


def likelihood_ratio(model: GlmmFit, reduced: GlmmFit) -> Estimates:
    """See `GlmmFit.lrt`."""
    nesting.check_class(model, reduced)
    own, other = model.problem.obs, reduced.problem.obs
    same = np.array_equal(model.problem.offset, reduced.problem.offset)
    same &= all(np.array_equal(getattr(own, name), getattr(other, name)) for name in ("y", "size", "weight"))
    if not same or (model.family, model.link) != (reduced.family, reduced.link):
        raise FormulaError("lrt: the models differ in rows, response, family, link or weights; they are not nested.")
    if (model.quadrature, model.penalty) != (reduced.quadrature, reduced.penalty):
        raise FormulaError("lrt: the models differ in the number of quadrature points or the penalty; refit one.")
    fixed = len(model.solved.beta) - len(reduced.solved.beta)
    extra = len(model.solved.theta) - len(reduced.solved.theta)
    if fixed < 0 or extra < 0 or fixed + extra == 0:
        raise FormulaError("lrt: give the larger model first; the reduced one must have fewer parameters.")
    dims = sum(len(t.names) for t in model.data.random.terms) - sum(len(t.names) for t in reduced.data.random.terms)
    nesting.check_fixed(model.design, reduced.design)
    nesting.check_random(model.data, reduced.data)
    statistic = nesting.statistic(model.loglik, reduced.loglik)
    p, reference = _mixture(statistic, extra, dims, fixed)
    columns = {"statistic": [statistic], "df": [float(fixed + extra)], "p_value": [p], "reference": [reference]}
    described = model._meta(title="Likelihood-ratio test", reduced=reduced.data.formula.text)
    return Estimates(pd.DataFrame(columns), described)


def plot(model: GlmmFit, ax: Any) -> Any:
    """See `GlmmFit.plot`."""
    import matplotlib.pyplot as plt

    if ax is None:
        _, ax = plt.subplots(figsize=(5, 3.5), layout="constrained")
    ax.scatter(model.solved.mode.eta, residuals(model, "pearson"), s=8, alpha=0.5, color="0.35", linewidths=0)
    ax.axhline(0, color="0.6", linewidth=0.8)
    ax.set(xlabel=f"Linear predictor ({model.link})", ylabel="Pearson residual")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


# ------------------------------------------------------------------------------------------- words


def summary(model: GlmmFit) -> Estimates:
    """Fixed effects with the facts of the fit as notes."""
    table, solved = model.coefficients, model.solved
    parts = [
        f"{g} correlation {a}, {b} {r:.3f}" if b else f"{g} {a} variance {v:.4g} (SD {r:.4g})"
        for g, a, b, v, r in components(model).itertuples(index=False)
    ]
    facts = [
        f"Estimates on the {model.link} scale, conditional on the random effects.",
        "Random effects: " + "; ".join(parts) + ".",
        f"-2 log-likelihood {-2 * model.loglik:.4f}, AIC {model.aic:.4f}, BIC {model.bic:.4f} "
        f"({model.n_parameters} parameters).",
        f"Newton decrement {solved.decrement:.1e} after {solved.n_evaluations} evaluations from "
        f"{len(solved.objectives)} starts.",
    ]
    described = {**table.meta, "conventions": (*table.meta["conventions"], *facts), "title": model.data.formula.text}
    return Estimates(table.frame, described, table.vcov)


def explain(model: GlmmFit) -> str:
    """The methods paragraph."""
    rows = model.data
    lost = f" ({', '.join(f'{n} missing {c}' for c, n in rows.missing.items())})" if rows.missing else ""
    how = (
        "the Laplace approximation"
        if model.quadrature == 1
        else f"adaptive Gauss-Hermite quadrature with {model.quadrature} points (Pinheiro & Bates 1995, "
        "doi:10.1080/10618600.1995.10474663)"
    )
    text = (
        f"{rows.formula.response} was analysed with a generalised linear mixed model, {rows.formula.text} "
        f"({model.family} family, {model.link} link), fitted by maximum likelihood with {how} to "
        f"{model.nobs} of {rows.n_records} records{lost}. Random effects {bars(rows)} were normal. Fixed effects, "
        "variances and family parameters were optimised together with the exact gradient of the approximated "
        "likelihood; standard errors come from the Hessian over all parameters. Effects are conditional on the random "
        "effects; population-averaged means integrate over them and standardise over the rows. "
    )
    if model.penalty:
        text += "A Firth-type penalty (Firth 1993, doi:10.1093/biomet/80.1.27) was used. "
    return text + "Estimates are valid under missing at random given the observed responses and the model's covariates."
