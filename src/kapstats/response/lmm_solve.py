"""From the rows of a linear mixed model to a certified optimum, and what has to be said about it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg

from kapstats._types import FloatArray
from kapstats.errors import ConvergenceError, DataError, EstimabilityError
from kapstats.kernels.block_arrow import Arrow, inverse_triangle, summarise
from kapstats.kernels.random_effects_fit import RandomEffectsFit, fit
from kapstats.response import residual_structure
from kapstats.response.random_effects import ModelRows
from kapstats.response.residual_structure import ResidualStructure

FLAT = 1e-9  # relative curvature below which a variance of random effects has no information


@dataclass(frozen=True)
class LmmState:
    """A fitted model as its inference sees it: fixed effects in the basis Q of X = Q R.

    arrow : statistics; solved : the optimum; back (p, p) = R^-1; start (p,) least-squares b that was taken off y;
    log_constant : what -2 l of the kernel lacks (basis of X under REML, log weights); residual : a structure of the
    errors beside the random effects, whose whitened rows then make `arrow`
    """

    arrow: Arrow
    solved: RandomEffectsFit
    back: FloatArray
    start: FloatArray
    log_constant: float
    residual: ResidualStructure | None = None

    @property
    def gamma(self) -> FloatArray:
        """Fixed effects (p,) in the working basis, on top of `start`."""
        return self.solved.state.coef[self.arrow.n_rest :]

    @property
    def beta(self) -> FloatArray:
        """Fixed effects (p,) of the columns of X that are kept."""
        return self.start + self.back @ self.gamma


def solve(rows: ModelRows, y: FloatArray, reml: bool, near: FloatArray | None = None) -> LmmState:
    """Least squares first (its residual carries the likelihood without loss of digits), then the random effects."""
    X, w = rows.X, np.ones(len(y)) if rows.weights is None else rows.weights
    check_rows(rows, X, y)
    root = np.sqrt(w)[:, None]
    Q, R = linalg.qr(X * root, mode="economic")
    target = y - rows.offset
    back = inverse_triangle(R)
    start = back @ (Q.T @ (target * root[:, 0]))
    residual = target - X @ start
    if w @ residual**2 <= 1e-20 * max(float(target @ target), 1e-300):
        raise DataError(f"{rows.formula.response}: the fixed effects fit every row exactly; no variance is left.")
    constant = float(2 * np.log(np.abs(np.diag(R))).sum() if reml else 0.0)
    if rows.formula.covariance is not None:
        visits, structure = residual_structure.prepare(rows)
        plain = residual_structure.StructuredRows(Q / root, residual, rows.random.factors, w)
        term = rows.formula.covariance
        arrow, solved, found, logdet = residual_structure.solve(plain, visits, term, structure, reml, near)
        return LmmState(arrow, solved, back, start, constant + logdet, found)
    arrow = summarise(Q / root, residual, rows.random.factors, rows.weights)
    return LmmState(arrow, fit(arrow, reml=reml, near=near), back, start, constant - float(np.log(w).sum()))


def check_rows(rows: ModelRows, X: FloatArray, y: FloatArray) -> None:
    """DataError when no row is left for the variances."""
    if len(y) <= X.shape[1] + 1:
        raise DataError(f"{len(y)} complete rows for {X.shape[1]} fixed effects: no row is left for the variances.")


def verdict(rows: ModelRows, state: LmmState) -> list[str]:
    """What has to be said about the optimum; no fit without a certified one."""
    solved = state.solved
    if not solved.converged:
        raise ConvergenceError(
            f"{rows.formula.text}: no optimum could be certified (Newton decrement {solved.decrement:.1e}, criterion "
            f"from the starts {', '.join(f'{v:.6f}' for v in solved.objectives)}). Simplify the random effects."
        )
    at = [t for t, edge in enumerate(solved.at_boundary) if edge]
    curvature = np.diag(solved.hessian) * np.abs(solved.theta).max(initial=0.0) ** 2
    if not at and (curvature < FLAT).any():
        raise EstimabilityError(
            f"{rows.formula.text}: the likelihood does not depend on a variance of the random effects; they cannot "
            "be told from the fixed effects (such as one subject per arm). Leave out one of the two."
        )
    names = list(dict.fromkeys(term.text for term in rows.random.terms if term.factor in at))
    if not names:
        return []
    return [
        f"Singular fit: the covariance of ({'), ('.join(names)}) is estimated on its boundary (a variance of zero or a "
        "correlation of one). It is a maximum of the likelihood, but the term may be more than the data support."
    ]
