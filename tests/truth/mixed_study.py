"""Studies of linear mixed models too long for the suite, whose slices are tests: ``python -m tests.truth.mixed_study``.

coverage : cluster-randomised trials of 6 and 12 clusters, 1,000 replicates, by method and true cluster variance
individual : intervals for single subjects in trials of 12 and 40, 500 replicates
twins : 1,000 random small designs against dense textbook algebra
restarts : ten random starts on each of 300 designs
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

import kapstats as ks
from kapstats.errors import ConvergenceError, DataError, EstimabilityError, KapstatsWarning
from kapstats.inference.intervals import wald
from kapstats.kernels import random_effects_fit as kernel
from tests.reference.dense_mixed import Dense, generalised_inverse

METHODS = ("kenward-roger", "satterthwaite", "zero taken as known", "normal")


# ------------------------------------------------------------------------------------------- coverage


def trial(clusters: int) -> pd.DataFrame:
    """Half of the clusters on each arm, four to ten subjects each."""
    rng = np.random.default_rng(clusters)
    size = rng.integers(4, 11, clusters)
    cluster = np.repeat(np.arange(clusters), size)
    return pd.DataFrame({"therapist": cluster, "arm": cluster % 2, "y": rng.normal(size=len(cluster))})


def coverage(clusters: int, variance: float, replicates: int) -> dict[str, float]:
    """Share of 95% intervals for a cluster-level effect that hold its true value, and of singular fits.

    "zero taken as known": where the cluster variance is estimated as zero, the analysis without clusters.
    """
    data = trial(clusters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KapstatsWarning)
        fit = ks.lmm("y ~ arm + (1 | therapist)", data)
        codes, arm, truth = data["therapist"].to_numpy(), data["arm"].to_numpy(), 1.5
        row, hits = np.array([[0.0, 1.0]]), dict.fromkeys((*METHODS, "singular"), 0)
        for i in range(replicates):
            rng = np.random.default_rng([clusters, i])
            noise = np.sqrt(variance) * rng.normal(size=clusters)[codes] + rng.normal(size=len(codes))
            again = fit.refit(truth * arm + noise)
            hits["singular"] += again.singular
            for method in METHODS:
                known = "residual" if again.singular else "kenward-roger"
                found = again.linear(row, df=known if method == METHODS[2] else method)
                limits = wald(found.estimate, found.std_error, found.df)
                hits[method] += int(limits["conf_low"][0] <= truth <= limits["conf_high"][0])
    return {method: count / replicates for method, count in hits.items()}


def individual(subjects: int, replicates: int) -> dict[str, float]:
    """Share of 95% intervals that hold a subject's own mean at its last visit, and its next observation.

    Random intercept and slope, five visits, a third of the records missing.
    """
    hits = {"own mean": 0.0, "next observation": 0.0, "fixed part alone": 0.0}
    for i in range(replicates):
        rng = np.random.default_rng([subjects, i, 5])
        who, t = np.repeat(np.arange(subjects), 5), np.tile(np.arange(5.0), subjects)
        b = rng.normal(size=(subjects, 2)) * [3.0, 0.8]
        mean = 20 - t + b[who, 0] + b[who, 1] * t
        data = pd.DataFrame({"id": who, "t": t, "y": mean + rng.normal(0, 2, who.size)})
        seen = (rng.random(who.size) < 0.67) | (t == 0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", KapstatsWarning)
            fit = ks.lmm("y ~ t + (t | id)", data[seen])
            last = data[t == 4]
            for name, kind, truth in (
                ("own mean", "confidence", mean[t == 4]),
                ("next observation", "prediction", mean[t == 4] + rng.normal(0, 2, subjects)),
                ("fixed part alone", "confidence", mean[t == 4]),
            ):
                found = fit.predict(last, interval=kind, random=name != "fixed part alone")
                inside = (found["conf_low"].to_numpy() <= truth) & (truth <= found["conf_high"].to_numpy())
                hits[name] += float(inside.mean()) / replicates
    return hits


# ------------------------------------------------------------------------------------------- dense twins

RANDOM = (
    "(1 | g)", "(x | g)", "(1 | g) + (1 | h)", "(x || g) + (1 | h)", "(1 | h/g)", "(0 + x | g) + (1 | h)",
    "(1 | g) + (x | h)", "(a | h)", "(a || h) + (1 | g)", "(x + z | g)", "(1 | g:h) + (1 | h)", "(0 + a | g)",
)  # fmt: skip
FIXED = ("a + x", "a * x", "x", "1", "a + z + x", "0 + a")


def twins(count: int) -> Iterator[tuple[str, Any]]:
    """Formula and fit of random small designs, weighted or not, REML or ML; those that must be refused are left out."""
    for i in range(count):
        rng = np.random.default_rng([77, i])
        n, g, h = int(rng.integers(30, 70)), int(rng.integers(5, 9)), int(rng.integers(3, 6))
        data = pd.DataFrame({"g": rng.integers(0, g, n), "h": rng.integers(0, h, n), "w": rng.uniform(0.4, 3, n)})
        data = data.assign(x=rng.normal(1, 2, n), z=rng.normal(size=n), a=rng.choice(["p", "q"], n))
        scale = rng.choice([0.0, 0.8, 1.5], 3)
        data["y"] = scale[0] * rng.normal(size=g)[data["g"]] + scale[1] * rng.normal(size=h)[data["h"]] + 3.0
        data["y"] += scale[2] * rng.normal(size=g)[data["g"]] * data["x"] + rng.normal(size=n)
        formula = f"y ~ {rng.choice(FIXED)} + {rng.choice(RANDOM)}"
        weights, reml = "w" if rng.random() < 0.4 else None, bool(rng.random() < 0.7)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", KapstatsWarning)
            try:
                yield formula, ks.lmm(formula, data, weights=weights, reml=reml, df="satterthwaite")
            except (DataError, EstimabilityError, ConvergenceError) as error:
                yield formula, error


def dense_of(fit: Any) -> tuple[Dense, np.ndarray]:
    """The textbook twin of a fit, rows scaled by the root of their weights, and its parameters."""
    random, root = fit.data.random, np.sqrt(np.ones(fit.nobs) if fit.data.weights is None else fit.data.weights)
    blocks, theta = [], []
    for term in random.terms:
        factor = random.factors[term.factor]
        Z = (factor.Z @ random.basis[term.factor])[:, term.start : term.stop]
        blocks.append((factor.codes, Z * root[:, None]))
        G = fit.sigma**2 * random.covariance(term, fit.state.solved.T)
        theta += [G[a, b] for a in range(len(G)) for b in range(a, len(G))]
    return Dense(fit.y * root, fit.data.X * root[:, None], blocks), np.array([*theta, fit.sigma**2])


def gaps(fit: Any) -> dict[str, float]:
    """Largest relative differences to the twin: likelihood, covariance and df of Kenward-Roger and Satterthwaite."""
    dense, theta = dense_of(fit)
    weights = 0.0 if fit.data.weights is None else float(np.log(fit.data.weights).sum())
    reml = bool(fit.reml)
    out = {"likelihood": abs(-2 * fit.loglik + weights - dense.deviance(theta, reml))}
    if fit.singular or not reml:
        return out
    adjusted, P, W = dense.kenward_roger(theta)
    L = np.eye(dense.X.shape[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KapstatsWarning)
        found = fit.linear(L, df="kenward-roger")
        other = fit.linear(L, df="satterthwaite").df
    df = dense.row_df(theta, L, P, W)
    usable = df > 2.0 + 1e-6
    se = np.sqrt(np.diag(adjusted))
    out["kr covariance"] = float(np.abs((found.vcov - adjusted) / np.outer(se, se)).max())
    out["kr df"] = float(np.abs(found.df[usable] / df[usable] - 1).max(initial=0.0))
    observed = generalised_inverse(dense.observed_information(theta))
    out["satterthwaite df"] = float(np.abs(other / dense.row_df(theta, L, P, observed) - 1).max())
    return out


def better_elsewhere(fit: Any, starts: int, seed: int) -> float:
    """How far below the reported criterion the best of some random starts ends (positive: a wrong optimum)."""
    rng, arrow = np.random.default_rng(seed), fit.state.arrow
    reached = []
    for _ in range(starts):
        start = rng.normal(0, rng.choice([0.1, 1.0, 5.0]), len(fit.state.solved.theta))
        theta = kernel._polish(arrow, kernel._descend(arrow, start, fit.reml)[0], fit.reml)
        reached.append(kernel.value_and_gradient(theta, arrow, fit.reml)[0])
    return float(fit.state.solved.objective - min(reached))


# ------------------------------------------------------------------------------------------- the whole study


def main(parts: list[str]) -> None:
    """Print the tables of the named parts (default all)."""
    if not parts or "coverage" in parts:
        rows = [
            {"clusters": k, "variance": v, **coverage(k, v, 1_000)} for k in (6, 12) for v in (0.1, 1.0)
        ]  # fmt: skip
        print(pd.DataFrame(rows).round(4).to_string(index=False))
    if not parts or "individual" in parts:
        print(pd.DataFrame([{"subjects": n, **individual(n, 500)} for n in (12, 40)]).round(4).to_string(index=False))
    if not parts or "twins" in parts:
        found = list(twins(1_000))
        table = pd.DataFrame([gaps(fit) for _, fit in found if not isinstance(fit, Exception)])
        refused = pd.Series([type(fit).__name__ for _, fit in found if isinstance(fit, Exception)]).value_counts()
        print(table.describe(percentiles=[0.99]).loc[["count", "99%", "max"]].to_string(), refused.to_dict(), sep="\n")
    if not parts or "restarts" in parts:
        fits = [fit for _, fit in twins(300) if not isinstance(fit, Exception)]
        short = np.array([better_elsewhere(fit, 10, i) for i, fit in enumerate(fits)])
        print(f"{len(fits)} fits, ten random starts each: the best start is at most {short.max():.1e} lower")


if __name__ == "__main__":
    main(sys.argv[1:])
