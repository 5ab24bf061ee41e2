"""What a fitted linear mixed model says about levels and rows: BLUPs, predictions, residuals, simulation, influence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kapstats import frames
from kapstats._types import FloatArray, FrameLike, IntArray
from kapstats.errors import FormulaError, choose
from kapstats.estimates import Estimates
from kapstats.formula.expressions import complete_rows, offsets
from kapstats.formula.grid import warn_without_data
from kapstats.inference.intervals import wald
from kapstats.kernels.block_arrow import Arrow, Eliminated, blocks, eliminate, rest_inner
from kapstats.response.residual_structure import StructuredRows, changes, colour, whitened, with_rows

if TYPE_CHECKING:
    from kapstats.response.lmm import LmmFit

CHUNK = 2000


@dataclass(frozen=True)
class Levels:
    """The state with one row of F per level of factor 0; per factor G (r, r) and effects (levels, r), working basis."""

    arrow: Arrow
    state: Eliminated
    G: tuple[FloatArray, ...]
    effects: tuple[FloatArray, ...]


def levels(model: LmmFit) -> Levels:
    """Predicted random effects of every level in the working basis: G_t Z_t'Py."""
    arrow = uncompressed(model)
    T = model.state.solved.T
    state = eliminate(arrow, T)
    G = tuple(t @ t.T for t in T)
    v = np.append(-state.coef, 1.0)
    effects = [(state.F @ v) @ G[0]]
    for layout in arrow.layouts[1:]:
        at = slice(layout.offset, layout.offset + layout.n_levels * layout.r)
        effects.append(state.coef[at].reshape(layout.n_levels, layout.r))
    return Levels(arrow, state, G, tuple(effects))


def uncompressed(model: LmmFit, keep: IntArray | None = None) -> Arrow:
    """Statistics of all rows, or of some (whole subjects beside a residual structure), with one row per level."""
    data, s = model.data, model.state
    w = np.ones(model.nobs) if data.weights is None else data.weights
    residual = model.y - data.offset - data.X @ s.start
    rows = StructuredRows(data.X @ s.back, residual, data.random.factors, w)
    if s.residual is not None:
        rows, _ = whitened(rows, s.residual.visits, s.residual.relative())
    if keep is not None:
        rows = with_rows(rows, keep)
    return rows.summarised(compress=False)


def conditional(found: Levels, t: int) -> FloatArray:
    """Var(u | y) (levels, r, r) of factor t at the estimated parameters, working basis, in units of s2."""
    state, K, G = found.state, found.state.K_random, found.G[t]
    if t == 0:
        F = state.F[:, :, :-1]
        inner = state.D[found.arrow.which] - np.einsum("lac,cd,lbd->lab", F, K, F, optimize=True)
    else:
        layout = found.arrow.layouts[t]
        inner = np.einsum("lalb->lab", blocks(layout, rest_inner(found.arrow, state, K)))
    return np.asarray(G - G @ inner @ G)


def random_effects(model: LmmFit, group: str | None) -> Estimates:
    """See `LmmFit.random_effects`."""
    found, random = levels(model), model.data.random
    if group is not None:
        choose(group, dict.fromkeys(t.group for t in random.terms), "group")
    parts = []
    for t in dict.fromkeys(term.factor for term in random.terms):
        own = sorted((term for term in random.terms if term.factor == t), key=lambda term: term.start)
        if group not in (None, own[0].group):
            continue
        names = [n for term in own for n in term.names]
        value = random.as_written(t, found.effects[t])
        variance = model.state.solved.s2 * written_covariance(random.basis[t], conditional(found, t))
        parts.append(_effects_frame(own[0].group, random.levels[t], names, value, variance))
    return Estimates(pd.concat(parts, ignore_index=True), model._meta(title="Random effects"))


def _effects_frame(
    group: str, labels: Sequence[Any], names: list[str], value: FloatArray, variance: FloatArray
) -> pd.DataFrame:
    n, k = value.shape
    return pd.DataFrame(
        {
            "group": group,
            "level": pd.Series([label for label in labels for _ in range(k)], dtype="object"),
            "term": names * n,
            "estimate": value.ravel(),
            "std_error": np.sqrt(np.maximum(np.einsum("lkk->lk", variance), 0.0)).ravel(),
        }
    )


def written_covariance(basis: FloatArray, covariance: FloatArray) -> FloatArray:
    """Covariances (..., r, r) of effects in the working basis for Z as written."""
    back = np.linalg.inv(basis)
    return np.asarray(back @ covariance @ back.T)


def conditional_variances(model: LmmFit, group: str) -> FloatArray:
    """See `LmmFit.conditional_variances`."""
    random = model.data.random
    t = {term.group: term.factor for term in random.terms}[
        choose(group, dict.fromkeys(term.group for term in random.terms), "group")
    ]
    return model.state.solved.s2 * written_covariance(random.basis[t], conditional(levels(model), t))


# ------------------------------------------------------------------------------------------- rows


def marginal_mean(model: LmmFit) -> FloatArray:
    """X b + offset (N,) of the rows used."""
    return np.asarray(model.data.X @ model.state.beta + model.data.offset)


def fitted(model: LmmFit) -> FloatArray:
    """X b + offset + Z u (N,) of the rows used."""
    found = levels(model)
    out = marginal_mean(model)
    for factor, effects in zip(model.data.random.factors, found.effects, strict=True):
        out = out + np.einsum("na,na->n", factor.Z, effects[factor.codes])
    return out


def residuals(model: LmmFit, kind: str) -> pd.Series:
    """See `LmmFit.residuals`."""
    mean = marginal_mean(model) if kind == "marginal" else fitted(model)
    value = model.y - mean
    if kind == "pearson":
        w = 1.0 if model.data.weights is None else np.sqrt(model.data.weights)
        residual = model.state.residual
        relative = 1.0 if residual is None else np.sqrt(residual.row_variances())
        value = value * w / (model.sigma * relative)
    return pd.Series(value, index=model.data.rows, name=kind)


def simulate(model: LmmFit, n: int, seed: int) -> FloatArray:
    """See `LmmFit.simulate`."""
    mean, s2 = marginal_mean(model), model.state.solved.s2
    scale = np.sqrt(s2 / (np.ones(model.nobs) if model.data.weights is None else model.data.weights))
    out = np.empty((n, model.nobs))
    for i in range(n):
        rng = np.random.default_rng(np.random.SeedSequence(entropy=seed, spawn_key=(i,)))
        noise = rng.standard_normal((1, model.nobs))
        if model.state.residual is not None:
            noise = colour(model.state.residual.visits, model.state.residual.relative(), noise)
        out[i] = mean + scale * noise[0]
        for factor, T in zip(model.data.random.factors, model.state.solved.T, strict=True):
            u = np.sqrt(s2) * rng.standard_normal((factor.n_levels, len(T))) @ T.T
            out[i] += np.einsum("na,na->n", factor.Z, u[factor.codes])
    return out


def predict(
    model: LmmFit, newdata: FrameLike | None, interval: str | None, random: bool, level: float, df: str | None
) -> Estimates:
    """See `LmmFit.predict`."""
    frame = model.used if newdata is None else frames.to_pandas(newdata)
    kept = np.arange(len(frame)) if newdata is None else _complete(model, frame, random, interval)
    rows = frame.iloc[kept].reset_index(drop=True)
    X = model.design.spec.matrix(rows)
    offset = offsets(model.data.formula.offset, rows)
    fixed = model.linear(X, df=df)
    value, variance = fixed.estimate + offset, np.diag(fixed.vcov).copy()
    if random:
        shift, variance = _with_random(model, X, model.data.random.rows(rows))
        value = value + shift
    elif interval == "prediction":
        variance = variance + model.state.solved.s2 * _prior(model, model.data.random.columns(rows))
    if interval == "prediction":
        residual = model.state.residual
        variance = variance + model.state.solved.s2 * (1.0 if residual is None else residual.variances_of(rows))
    said = warn_without_data(model.design, rows.loc[np.isnan(fixed.estimate)], "predictions")
    answer = _answer(value, np.where(np.isnan(fixed.estimate), np.nan, variance), fixed.df, interval, level)
    full = pd.DataFrame(np.nan, index=range(len(frame)), columns=list(answer))
    full.iloc[kept] = pd.DataFrame(answer).to_numpy()
    meta = model._meta(df, title="Predictions", level=level, interval=interval, random=random)
    return Estimates(full, {**meta, "warnings": (*meta["warnings"], *said)})


def _complete(model: LmmFit, frame: pd.DataFrame, random: bool, interval: str | None) -> IntArray:
    """Rows of new data with nothing missing; the others are predicted as NaN."""
    columns = [*model.design.spec.columns, *model.data.formula.offset]
    for term in model.data.random.terms:
        columns += term.groups if random else ()
        columns += term.spec.columns if random or interval == "prediction" else ()
    return complete_rows(frame, columns)[0]


def _answer(
    value: FloatArray, variance: FloatArray, df: FloatArray, interval: str | None, level: float
) -> dict[str, FloatArray]:
    se = np.sqrt(variance)
    out = {"estimate": value, "std_error": se}
    if interval is None:
        return out
    found = wald(value, se, df, level=level)
    return {**out, "df": df, "conf_low": found["conf_low"], "conf_high": found["conf_high"]}


def _prior(model: LmmFit, columns: Sequence[FloatArray]) -> FloatArray:
    """z'Gz (n,) summed over factors, in units of s2."""
    return np.sum([((Z @ T) ** 2).sum(1) for Z, T in zip(columns, model.state.solved.T, strict=True)], axis=0)


def _with_random(
    model: LmmFit, X: FloatArray, placed: Sequence[tuple[IntArray, FloatArray]]
) -> tuple[FloatArray, FloatArray]:
    """Z u and the variance of X b + Z u about its prediction (Henderson's prediction error variance)."""
    found, s = levels(model), model.state
    shift = np.zeros(len(X))
    for (codes, Z), effects in zip(placed, found.effects, strict=True):
        seen = codes >= 0
        shift[seen] += np.einsum("na,na->n", Z[seen], effects[codes[seen]])
    x = X[:, ~model.design.aliased] @ s.back
    variance = [
        _error_variance(model, found, x[i : i + CHUNK], [(c[i : i + CHUNK], Z[i : i + CHUNK]) for c, Z in placed])
        for i in range(0, len(X), CHUNK)
    ]
    return shift, s.solved.s2 * np.concatenate(variance or [np.zeros(0)])


def _error_variance(
    model: LmmFit, found: Levels, x: FloatArray, placed: Sequence[tuple[IntArray, FloatArray]]
) -> FloatArray:
    """z'Gz - z'GZ'V^-1ZGz + d'Phi d with d = x - X'V^-1ZGz, per row, in units of s2."""
    arrow, state, R = found.arrow, found.state, found.arrow.n_rest
    codes, Z = placed[0]
    a0 = np.where((codes >= 0)[:, None], Z @ found.G[0], 0.0)
    F = state.F[np.maximum(codes, 0)]
    aR = np.zeros((len(x), R))
    for t, layout in enumerate(arrow.layouts[1:], start=1):
        level, Zt = placed[t]
        seen = np.flatnonzero(level >= 0)
        columns = layout.offset + level[seen, None] * layout.r + np.arange(layout.r)
        aR[seen[:, None], columns] = Zt[seen] @ found.G[t]
    own = np.einsum("na,nac->nc", a0, F[:, :, :-1])
    f = own + aR @ state.S[:R, :-1]
    D = state.D[arrow.which[np.maximum(codes, 0)]]
    inner = np.einsum("na,nab,nb->n", a0, D, a0, optimize=True) + 2 * np.einsum("nc,nc->n", own[:, :R], aR)
    inner += np.einsum("nc,cd,nd->n", aR, state.S[:R, :R], aR, optimize=True)
    lift = f @ state.K_random
    inner -= np.einsum("nc,nc->n", lift, f)
    d = x - (f[:, R:] - lift @ state.S[:-1, R:-1])
    Phi = model._derivatives.Phi / (1.0 if model.state.residual is None else model.state.solved.s2)
    return np.asarray(_prior(model, [Z for _, Z in placed]) - inner + np.einsum("np,pq,nq->n", d, Phi, d))


# ------------------------------------------------------------------------------------------- influence


def influence(model: LmmFit, group: str | None) -> Estimates:
    """See `LmmFit.influence`."""
    random = model.data.random
    groups = {term.group: term.factor for term in random.terms}
    chosen = next(iter(groups)) if group is None else choose(group, groups, "group")
    t = groups[chosen]
    codes, labels = random.factors[t].codes, random.levels[t]
    _need_whole_subjects(model, t)
    beta = np.array([_without(model, np.flatnonzero(codes != level)) for level in range(len(labels))])
    gap = model.state.gamma - beta
    unit = model.sigma if model.state.residual is None else 1.0
    scaled_gap = np.linalg.solve(model._derivatives.root * unit, gap.T).T
    written = gap @ model.state.back.T
    se = model.coefficients["std_error"].to_numpy(float)[~model.design.aliased]
    scaled = written / se
    names = np.array([n for n, lost in zip(model.design.names, model.design.aliased, strict=True) if not lost])
    largest = np.abs(np.nan_to_num(scaled)).argmax(axis=1)
    frame = pd.DataFrame(
        {
            "level": pd.Series(list(labels), dtype="object"),
            "n": np.bincount(codes, minlength=len(labels)),
            "cook_distance": (scaled_gap**2).sum(1) / gap.shape[1],
            "largest_term": names[largest],
            "largest_change": scaled[np.arange(len(scaled)), largest],
        }
    )
    left = pd.DataFrame(model.state.beta - written, columns=names)
    return Estimates(frame, {**model._meta(title=f"Influence of {chosen}"), "coefficients": left})


def _need_whole_subjects(model: LmmFit, t: int) -> None:
    term = model.data.formula.covariance
    if term is not None and changes(model.data, term, t)[1]:
        raise FormulaError(
            f"influence: a level that changes within {term.subject} cannot be left out beside {term.structure}(...); "
            "refit without its rows."
        )


def _without(model: LmmFit, rows: IntArray) -> FloatArray:
    """Fixed effects (p,) in the working basis from some rows, covariance parameters held; NaN where not estimable."""
    arrow = uncompressed(model, rows)
    try:
        return np.asarray(eliminate(arrow, model.state.solved.T).coef[arrow.n_rest :])
    except np.linalg.LinAlgError:
        return np.full(arrow.n_fixed, np.nan)


def plot(model: LmmFit, ax: Any, kind: str) -> Any:
    """See `LmmFit.plot`."""
    import matplotlib.pyplot as plt

    if ax is None:
        _, ax = plt.subplots(figsize=(5, 3.5), layout="constrained")
    {"residuals": _plot_residuals, "qq": _plot_quantiles, "random": _plot_effects}[kind](model, ax)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _plot_residuals(model: LmmFit, ax: Any) -> None:
    ax.scatter(fitted(model), residuals(model, "pearson"), s=8, alpha=0.5, color="0.35", linewidths=0)
    ax.axhline(0, color="0.6", linewidth=0.8)
    ax.set(xlabel=f"Fitted {model.data.formula.response}", ylabel="Pearson residual")


def _plot_quantiles(model: LmmFit, ax: Any) -> None:
    from scipy import special

    r = np.sort(residuals(model, "pearson").to_numpy())
    ax.scatter(special.ndtri((np.arange(len(r)) + 0.5) / len(r)), r, s=8, alpha=0.5, color="0.35", linewidths=0)
    ax.axline((0, 0), slope=1, color="0.6", linewidth=0.8)
    ax.set(xlabel="Normal quantile", ylabel="Pearson residual")


def _plot_effects(model: LmmFit, ax: Any) -> None:
    """Random effects of the factor with fewest levels, ordered, with conditional 95% intervals."""
    table = random_effects(model, None).frame
    smallest = table.groupby("group")["level"].nunique().idxmin()
    own = table[(table["group"] == smallest)]
    own = own[own["term"] == own["term"].iloc[0]].sort_values("estimate").reset_index(drop=True)
    ax.errorbar(own["estimate"], own.index, xerr=1.96 * own["std_error"], fmt="o", ms=3, color="0.35", lw=0.8)
    ax.axvline(0, color="0.6", linewidth=0.8)
    if len(own) <= 40:
        ax.set_yticks(own.index, [str(v) for v in own["level"]])
    ax.set(xlabel=f"Random {own['term'].iloc[0]}", ylabel=str(smallest))
