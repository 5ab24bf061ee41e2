"""How an MMRM is reached from pattern statistics: covariance structures tried in turn until one is certified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kapstats._types import FloatArray
from kapstats.errors import ConvergenceError, DataError, FormulaError, check_memory, choose
from kapstats.kernels.covariance import STRUCTURES, parameter_names, sigma_of
from kapstats.kernels.pattern_moments import Layout, PatternMoments
from kapstats.kernels.scoring import Fits, fit
from kapstats.response.repeated import Visits


@dataclass(frozen=True)
class Attempt:
    """One structure of a fallback chain and what became of it."""

    structure: str
    converged: bool
    loglik: float
    iterations: int
    decrement: float
    scaled_gradient: float
    verdict: str


def chain(covariance: Sequence[str] | None, own: str) -> list[str]:
    """The structures to try."""
    if covariance is None:
        return [own]
    if isinstance(covariance, str) or not covariance:
        raise FormulaError("covariance= is a list of structures to try in turn, such as ['us', 'toeph', 'csh'].")
    spatial = [s for s in covariance if s.startswith("sp_")]
    if (len(spatial) > 0) != own.startswith("sp_") or (spatial and len(spatial) != len(covariance)):
        raise FormulaError("covariance=: spatial structures can be exchanged with spatial ones only.")
    return [choose(s, STRUCTURES, "covariance") for s in covariance]


def fit_warnings(attempts: tuple[Attempt, ...], fits: Fits, visits: Visits) -> list[str]:
    """A structure of the chain that failed; covariances without information."""
    texts = []
    if len(attempts) > 1:
        failed = "; ".join(f"{a.structure}: {a.verdict}" for a in attempts[:-1])
        texts.append(f"Covariance {attempts[-1].structure} was used after others failed ({failed}).")
    if not fits.free.all():
        names = parameter_names(fits.structure.name, list(visits.labels)) * len(visits.groups)
        lost = [n for n, f in zip(names, fits.free, strict=True) if not f]
        texts.append(
            f"{len(lost)} covariances have no information, their visits are never seen in the same subject "
            f"({', '.join(lost)}); the values shown for them are fill-ins."
        )
    return texts


def fit_chain(
    stats: PatternMoments, visits: Visits, structures: list[str], reml: bool, basis: FloatArray
) -> tuple[Fits, tuple[Attempt, ...]]:
    """Try structures until one is certified.

    Raises
    ------
    ConvergenceError
        When no structure is certified.
    """
    attempts: list[Attempt] = []
    for name in structures:
        few = few_subjects(name, stats, visits)
        if few:
            nan = float("nan")
            attempts.append(Attempt(name, False, nan, 0, nan, nan, few))
            continue
        chosen = visits.structure(name)
        check_memory(
            2.0 * chosen.per_group * chosen.m**2,
            f"{name} over {chosen.m:,} visits ({chosen.per_group:,} covariance parameters)",
            "Choose a structure with fewer parameters (ar1, cs), or fewer visits.",
        )
        found = fit(stats, chosen, reml)
        attempts.append(_attempt(name, stats, found, basis, reml))
        if attempts[-1].converged:
            return found, tuple(attempts)
    tried = "; ".join(f"{a.structure}: {a.verdict}" for a in attempts)
    raise ConvergenceError(
        f"No covariance structure could be fitted ({tried}). Try a simpler one, or a chain such as "
        "covariance=['us', 'toeph', 'csh', 'ar1h', 'cs']."
    )


def few_subjects(name: str, stats: PatternMoments | Layout, visits: Visits) -> str:
    """Why an unstructured covariance has no maximum: more visits than subjects, in one of the groups."""
    if name != "us":
        return ""
    count = stats.count[0] if isinstance(stats, PatternMoments) else np.array([len(s) for s in stats.subjects])
    for group, label in enumerate(visits.groups):
        own = visits.block_group[stats.block] == group
        subjects, seen = int(count[own].sum()), int(stats.seen[own].any(axis=0).sum())
        if subjects < seen:
            where = f" in {label}" if label else ""
            return f"{subjects} subjects{where} cannot tell the covariances of {seen} visits: there is no maximum"
    return ""


def _attempt(name: str, stats: PatternMoments, found: Fits, basis: FloatArray, reml: bool) -> Attempt:
    decrement, gradient = float(found.decrement[0]), float(found.scaled_gradient[0])
    good = bool(found.converged[0]) and _away_from_singular(stats, found)
    verdict = "converged" if good else _verdict(found)
    loglik = log_likelihood(found, basis, reml)
    return Attempt(name, good, loglik, int(found.iterations[0]), decrement, gradient, verdict)


def _away_from_singular(stats: PatternMoments, found: Fits) -> bool:
    """Whether no visit is an exact function of the others: 1 / (1 - R^2) of each stays below 1e10."""
    inflation = np.einsum("pss->ps", found.point.omega[0])
    variance = np.einsum("xss->xs", sigma_of(found.structure, found.theta)[0])[stats.block]
    return bool(np.isfinite(inflation).all() and (inflation * variance).max() < 1e10)


def _verdict(found: Fits) -> str:
    if not np.isfinite(found.point.deviance[0]):
        return "the likelihood is not defined at any point reached"
    if not np.isfinite(found.w[0]).all():
        return f"the information is not positive definite after {found.iterations[0]} iterations"
    if not found.converged[0]:
        return f"not converged after {found.iterations[0]} iterations (decrement {found.decrement[0]:.1e})"
    return "the residual covariance is singular"


def log_likelihood(found: Fits, basis: FloatArray, reml: bool) -> float:
    """Log-likelihood in the columns of the user: REML's does depend on their basis."""
    deviance = float(found.point.deviance[0])
    if reml:
        deviance += 2 * float(np.log(np.abs(np.diag(basis))).sum())
    return -deviance / 2


def check_variation(n: int, q: int, residual: float, total: float, tolerance: float) -> None:
    """DataError when the fixed effects leave nothing to the residuals."""
    if n <= q:
        raise DataError(
            f"{n} complete rows cannot estimate {q} fixed effects and a residual variance. Use fewer terms."
        )
    if not residual > tolerance * total:
        raise DataError(
            "The response is an exact function of the fixed effects: there is no residual variation to model."
        )
