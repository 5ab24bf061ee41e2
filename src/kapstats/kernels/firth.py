"""Logistic regression with Firth's penalty (half the log determinant of the information): finite when events are rare.

y (n,) events of m (n,) trials, X (n, q) design. The penalised log-likelihood is l(b) + log|I(b)|/2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc, chdtri, expit, log_expit

from kapstats.kernels.roots import find_root

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FirthFit:
    """coefficients (q,), covariance (q, q), penalised log-likelihood, converged.

    The covariance is the inverse information of the data augmented by their leverages, X'W(1 + h)X, whose ordinary
    score is the modified one; as logistf 1.26.1 prints it.
    """

    coefficients: FloatArray
    covariance: FloatArray
    loglik: float
    converged: bool


def firth(
    y: FloatArray,
    X: FloatArray,
    m: FloatArray | None = None,
    fixed: tuple[int, float] | None = None,
    start: FloatArray | None = None,
) -> FirthFit:
    """Maximise the penalised likelihood; `fixed` = (column, value) profiles the others, all information kept."""
    trials = np.ones_like(y) if m is None else m
    beta = np.zeros(X.shape[1]) if start is None else start.copy()
    free = np.ones(X.shape[1], dtype=bool)
    if fixed is not None:
        free[fixed[0]] = False
        beta[fixed[0]] = fixed[1]
    now = penalised(beta, y, X, trials)
    converged = not free.any()
    for _ in range(200):
        score, information = _score(beta, y, X, trials)
        step = np.zeros_like(beta)
        step[free] = np.linalg.solve(information[np.ix_(free, free)], score[free])
        step *= min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-300))
        shrink = 1.0
        while (new := penalised(beta + shrink * step, y, X, trials)) < now - 1e-12 and shrink > 1e-6:
            shrink /= 2
        beta, now = beta + shrink * step, new
        if np.abs(step).max() < 1e-11:
            converged = True
            break
    return FirthFit(beta, _augmented(beta, X, trials), now, converged)


def _augmented(beta: FloatArray, X: FloatArray, m: FloatArray) -> FloatArray:
    p = expit(X @ beta)
    weight = m * p * (1 - p)
    h = weight * np.einsum("ij,ij->i", X @ np.linalg.inv((X * weight[:, None]).T @ X), X)
    return np.asarray(np.linalg.inv((X * (weight * (1 + h))[:, None]).T @ X), dtype=np.float64)


def penalised(beta: FloatArray, y: FloatArray, X: FloatArray, m: FloatArray) -> float:
    """l(b) + log|I(b)|/2."""
    eta = X @ beta
    p = expit(eta)
    sign, logdet = np.linalg.slogdet((X * (m * p * (1 - p))[:, None]).T @ X)
    return float(y @ log_expit(eta) + (m - y) @ log_expit(-eta) + logdet / 2) if sign > 0 else -np.inf


def _score(beta: FloatArray, y: FloatArray, X: FloatArray, m: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Modified score X'(y - m p + h (1/2 - p)), h the leverages, and the information."""
    p = expit(X @ beta)
    weight = m * p * (1 - p)
    information = (X * weight[:, None]).T @ X
    h = weight * np.einsum("ij,ij->i", X @ np.linalg.inv(information), X)
    return X.T @ (y - m * p + h * (0.5 - p)), information


def profile_limits(
    fit: FirthFit, y: FloatArray, X: FloatArray, column: int, level: float, m: FloatArray | None = None
) -> tuple[float, float, float]:
    """Penalised profile-likelihood limits of one coefficient, and the p value of 0."""
    cut = float(chdtri(1, 1 - level)) / 2
    centre, error = float(fit.coefficients[column]), float(np.sqrt(fit.covariance[column, column]))

    def drop(value: FloatArray) -> FloatArray:
        found = [fit.loglik - firth(y, X, m, (column, float(v)), fit.coefficients).loglik for v in np.atleast_1d(value)]
        return np.array(found) - cut

    low, high = _outside(drop, centre, -error), _outside(drop, centre, error)
    inner = np.array([centre])
    lower = float(find_root(drop, np.array([low]), inner)[0])
    upper = float(find_root(drop, inner, np.array([high]))[0])
    statistic = 2 * (float(drop(np.array([0.0]))[0]) + cut)
    return lower, upper, float(chdtrc(1, max(statistic, 0.0)))


def _outside(drop: Callable[[FloatArray], FloatArray], centre: float, step: float) -> float:
    reach = 2.0
    while float(drop(np.array([centre + reach * step]))[0]) < 0 and reach < 1e4:
        reach *= 1.6
    return centre + reach * step
