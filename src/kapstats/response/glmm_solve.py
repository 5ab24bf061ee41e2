"""From the arrays of a generalised linear mixed model to a certified optimum, and what has to be said about it."""

from __future__ import annotations

import numpy as np

from kapstats._types import BoolArray, FloatArray
from kapstats.errors import ConvergenceError, FormulaError, choose
from kapstats.formula.design import Design
from kapstats.kernels import glmm_fit as kernel
from kapstats.kernels import separation
from kapstats.kernels.laplace import Problem
from kapstats.response.random_effects import ModelRows


def intercept(design: Design) -> BoolArray:
    """True for the intercept column."""
    found = np.zeros(len(design.names), dtype=bool)
    for term in design.terms:
        if not term.factors:
            found[term.start : term.stop] = True
    return found


def check_penalty(penalty: str | None, family: str, link: str) -> None:
    """Refuse a penalty that is not known, or has no meaning for the family and link."""
    if penalty is None:
        return
    choose(penalty, ("firth",), "penalty")
    if (family, link) not in (("binomial", "logit"), ("poisson", "log")):
        raise FormulaError(f"penalty='firth' is for binomial with logit, poisson with log, not {family}/{link}.")


def check_quadrature(problem: Problem, points: int) -> None:
    """Refuse numbers of nodes that cannot be, and quadrature over more than it can integrate."""
    r = problem.factors[0].Z.shape[1]
    if not (isinstance(points, (int, np.integer)) and 1 <= points <= 25):
        raise FormulaError(f"quadrature={points!r}: choose 1 (Laplace) to 25 points.")
    if points > 1 and (len(problem.factors) > 1 or r > 3):
        raise FormulaError(
            f"quadrature={points}: adaptive quadrature is for one grouping factor with at most three random effects; "
            f"here are {len(problem.factors)} factors, the largest with {r}. Use quadrature=1 (Laplace)."
        )


def recession(problem: Problem) -> FloatArray:
    """Directions of (theta, beta, phi) along which the likelihood rises for ever, (k, parameters)."""
    obs, X = problem.obs, problem.X
    m, p, k = problem.n_theta, X.shape[1], problem.obs.n_phi
    if obs.family == "cumulative":
        found = separation.recession(*separation.ordinal_cone(X, obs.y))
    else:
        high = obs.y == obs.size if obs.family == "binomial" else np.zeros(len(obs.y), dtype=bool)
        found = separation.recession(*separation.binary_cone(X, obs.y == 0, high))
    out = np.zeros((len(found), m + p + k))
    out[:, m : m + found.shape[1]] = found
    return out


def optimum(formula: str, problem: Problem, points: int, penalty: str | None, separated: bool) -> kernel.GlmmFit:
    """The certified maximum of the likelihood; a ConvergenceError when there is none, unless by separation."""
    solved = kernel.fit(problem, points=int(points), firth=penalty == "firth")
    if not (solved.converged or separated):
        raise ConvergenceError(
            f"{formula}: no optimum could be certified (Newton decrement {solved.decrement:.1e}, -log L from starts "
            f"{', '.join(f'{v:.6f}' for v in solved.objectives)}). Simplify the random effects or rescale covariates."
        )
    return solved


def verdict(rows: ModelRows, problem: Problem, solved: kernel.GlmmFit, lost: tuple[str, ...]) -> list[str]:
    """What the reader has to know of the optimum."""
    texts = []
    pure = _pure_levels(rows, problem)
    if pure:
        texts.append(
            f"No level of {pure} has both events and non-events, so its variance has no finite maximum of the "
            "likelihood; the estimate is where the approximation ends. Analyse one row per level."
        )
    if lost:
        texts.append(
            f"Separation: the responses are predicted without error along {', '.join(lost)}, so these estimates are "
            "infinite and shown as missing. Drop or merge levels, or use penalty='firth'."
        )
    at = [t for t, edge in enumerate(solved.at_boundary) if edge]
    names = list(dict.fromkeys(term.text for term in rows.random.terms if term.factor in at))
    if names:
        texts.append(
            f"Singular fit: the covariance of ({'), ('.join(names)}) is estimated on its boundary (a variance of zero "
            "or a correlation of one). It is a maximum of the likelihood, but the term may be more than the data carry."
        )
    if problem.obs.family == "negative-binomial" and solved.phi[0] > kernel.LOG_SIZE_LIMIT - 6.0:
        texts.append("The negative binomial size ran to infinity: the counts show no overdispersion beyond Poisson.")
    return texts


def _pure_levels(rows: ModelRows, problem: Problem) -> str:
    """The label of a grouping factor with several rows a level, all events or all non-events within every level."""
    obs = problem.obs
    if obs.family != "binomial":
        return ""
    for t, factor in enumerate(problem.factors):
        count = np.bincount(factor.codes, minlength=factor.n_levels)
        events = np.bincount(factor.codes, obs.y, factor.n_levels)
        trials = np.bincount(factor.codes, obs.size, factor.n_levels)
        mixed = (events > 0) & (events < trials)
        if count.max() > 1 and not mixed.any() and 0 < events.sum() < trials.sum():
            return next(term.group for term in rows.random.terms if term.factor == t)
    return ""


def to_design(design: Design, problem: Problem, keep: BoolArray) -> FloatArray:
    """Fixed effects over all design columns as linear functions of (theta, beta, phi)."""
    m, p, k = problem.n_theta, problem.X.shape[1], problem.obs.n_phi
    out = np.zeros((len(design.names), m + p + k))
    out[np.flatnonzero(keep), m + np.arange(p)] = 1.0
    if problem.obs.family == "cumulative":
        out[np.ix_(intercept(design), np.arange(m + p, m + p + k))] = -1.0 / k
    return out
