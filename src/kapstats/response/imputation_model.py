"""Fits and draws of the imputation model, and the values they impute."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from kapstats._types import BoolArray, FloatArray
from kapstats.errors import ConvergenceError
from kapstats.kernels import downdating, gibbs, pattern_moments, reference_based, resampled_moments, scoring
from kapstats.kernels.covariance import Structure, sigma_of
from kapstats.response.imputation_data import Wide, classes

REFITS = 256  # at a time


@dataclass(frozen=True)
class Model:
    """Parameters of M fits or draws: beta (M, q), sigma (M, blocks, m, m); kept (M,) which replicates were fitted.

    fits : the fit to all subjects, from which refits start
    """

    beta: FloatArray
    sigma: FloatArray
    kept: BoolArray
    fits: scoring.Fits = field(repr=False)


def _layout(wide: Wide) -> tuple[FloatArray, pattern_moments.Layout]:
    """Z = [X y] of the rows that the fit uses, and their arrangement (subjects without such rows have none)."""
    i, s = np.nonzero(wide.fitted)
    z = np.column_stack([wide.x_own[i, s], wide.y[i, s]])
    return z, pattern_moments.layout(i, s, wide.block, wide.y.shape[1])


def _structure(wide: Wide) -> Structure:
    return Structure(wide.structure, wide.y.shape[1], np.arange(wide.blocks))


def fit_model(wide: Wide) -> tuple[Model, str]:
    """The model by REML, or draws around it, and a sentence on draws left out; ConvergenceError without an optimum."""
    z, arranged = _layout(wide)
    fits = scoring.fit(pattern_moments.moments(z, arranged), _structure(wide))
    if not fits.converged[0]:
        raise ConvergenceError(
            f"The imputation model {wide.plan.formula!r} did not converge "
            f"({len(wide.y)} subjects, {len(z)} values). Simplify it or pool the covariance over arms."
        )
    one = Model(fits.point.beta, sigma_of(_structure(wide), fits.theta), fits.converged, fits)
    if wide.plan.method == "bayes":
        return _posterior(wide, one), ""
    if wide.plan.method == "bootstrap":
        model = refit(wide, bootstrap_counts(wide, wide.plan.draws), one)
        lost = int((~model.kept).sum())
        return only(model), f"{lost} of {wide.plan.draws} bootstrap fits did not converge; left out." if lost else ""
    return one, ""


def refit(wide: Wide, times: FloatArray, start: Model) -> Model:
    """Refit with subject i counted times[b, i] times."""
    z, arranged = _layout(wide)
    stats = resampled_moments.resampled(z, arranged, times)
    fits = scoring.fit(stats, _structure(wide), theta=np.repeat(start.fits.theta, len(times), axis=0))
    return Model(fits.point.beta, sigma_of(_structure(wide), fits.theta), fits.converged, start.fits)


def refit_without(wide: Wide, start: Model) -> Model:
    """Refits without each subject in turn, from the cross-products of all; the stubborn ones in full."""
    z, arranged = _layout(wide)
    stats, n = pattern_moments.moments(z, arranged), len(wide.y)
    found = downdating.leave_one_out(z, arranged, stats, _structure(wide), start.fits, n)
    beta, sigma, kept = found.beta, found.sigma, found.converged.copy()
    rest = np.flatnonzero(~kept)
    for part in np.split(rest, range(REFITS, len(rest), REFITS)) if len(rest) else []:
        full = refit(wide, 1.0 - np.eye(n)[part], start)
        beta[part], sigma[part], kept[part] = full.beta, full.sigma, full.kept
    return Model(beta, sigma, kept, start.fits)


def only(model: Model) -> Model:
    """The draws that were kept."""
    return Model(model.beta[model.kept], model.sigma[model.kept], model.kept[model.kept], model.fits)


def taken(model: Model, part: slice) -> Model:
    """A part of the draws."""
    return Model(model.beta[part], model.sigma[part], model.kept[part], model.fits)


def _posterior(wide: Wide, start: Model) -> Model:
    """Draws with the weakly informative inverse Wishart of rbmi: m + 2 df, prior mean at the REML estimate."""
    m, plan = wide.y.shape[1], wide.plan
    prior = gibbs.Prior(m + 2.0, start.sigma[0].copy(), np.zeros(start.beta.shape[1]))
    y = np.where(wide.fitted, wide.y, np.nan)
    rng = np.random.default_rng(np.random.SeedSequence(plan.seed, spawn_key=(0,)))
    first = gibbs.Draws(start.beta, start.sigma)
    found = gibbs.sample(
        wide.x_own, y, wide.block, first, prior, rng, draws=plan.draws, burn_in=plan.burn_in, thin=plan.thin
    )
    return Model(found.beta, found.sigma, np.ones(plan.draws, dtype=bool), start.fits)


def leave_one_out(wide: Wide) -> FloatArray:
    """(clusters, n) counts with one cluster left out in each."""
    clusters = np.unique(wide.cluster)
    return (wide.cluster[None, :] != clusters[:, None]).astype(float)


def bootstrap_counts(wide: Wide, replicates: int) -> FloatArray:
    """(B, n) counts of resampled clusters; subjects are drawn within their arm, whole clusters over the trial."""
    rng = np.random.default_rng(np.random.SeedSequence(wide.plan.seed, spawn_key=(2,)))
    counts = np.zeros((replicates, len(wide.y)))
    strata = np.zeros(len(wide.y), dtype=int) if wide.plan.cluster else wide.arm
    for stratum in np.unique(strata):
        units = np.unique(wide.cluster[strata == stratum])
        drawn = rng.multinomial(len(units), np.full(len(units), 1 / len(units)), size=replicates)
        where = np.searchsorted(units, wide.cluster)
        inside = strata == stratum
        counts[:, inside] = drawn[:, where[inside]]
    return counts


def impute_cells(wide: Wide, model: Model, rng: np.random.Generator | None) -> FloatArray:
    """(M, cells) conditional means (rng None) or draws of every missing cell, in the order of np.nonzero(isnan(y))."""
    out = np.full((len(model.beta), *wide.y.shape), np.nan)
    for rows, seen, t, strategy, arm in classes(wide):
        own = np.einsum("nsq,bq->bns", wide.x_own[rows], model.beta, optimize=True)
        other = np.einsum("nsq,bq->bns", wide.x_reference[rows], model.beta, optimize=True)
        s_own, s_other = model.sigma[:, wide.block[rows[0]]], model.sigma[:, wide.reference_block[rows[0]]]
        if arm == wide.reference or t == wide.y.shape[1]:
            strategy = "MAR" if strategy != "LMCF" or t == wide.y.shape[1] else strategy
        mean = reference_based.joint_mean(strategy, own, other, t)
        law = reference_based.conditional(
            mean, reference_based.joint_covariance(strategy, s_own, s_other, t), wide.y[rows], seen
        )
        missing = np.flatnonzero(~seen)
        out[:, rows[:, None], missing] = law.mean if rng is None else reference_based.draw(law, rng)
    i, s = np.nonzero(np.isnan(wide.y))
    return np.asarray(out[:, i, s])
