"""Mean cumulative count of recurrent events, with the robust standard error, and negative binomial rates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import digamma, gammaln, polygamma

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class MeanCount:
    """Mean number of events per subject: time (t,), n_risk (t,), n_event (t,), mean (t,), std_error (t,)."""

    time: FloatArray
    n_risk: FloatArray
    n_event: FloatArray
    mean: FloatArray
    std_error: FloatArray


def mean_count(event_time: FloatArray, subject: IntArray, end: FloatArray) -> MeanCount:
    """Nelson-Aalen mean of recurrent events (Nelson 1988; Lawless & Nadeau 1995).

    The robust variance is the sum over subjects of the squared integral of (dN_i - Y_i dM)/Y; a subject is at risk up
    to and including `end`.

    Parameters
    ----------
    event_time, subject : (k,) time of each event and whose it is
    end : (n,) end of follow-up of every subject, events or not
    """
    time, at = np.unique(event_time, return_inverse=True)
    n_event = np.bincount(at, minlength=time.size).astype(float)
    ordered = np.sort(end)
    n_risk = end.size - np.searchsorted(ordered, time, side="left").astype(float)
    step = n_event / n_risk
    mean = np.cumsum(step)
    squares = np.zeros(time.size)
    drift = np.concatenate([[0.0], np.cumsum(step / n_risk)])
    last = np.searchsorted(time, end, side="right")
    by_subject = np.argsort(subject, kind="stable")
    bounds = np.searchsorted(subject[by_subject], np.arange(end.size + 1))
    grid = np.arange(1, time.size + 1)
    for i in range(end.size):
        rows = by_subject[bounds[i] : bounds[i + 1]]
        own = np.bincount(at[rows], weights=1 / n_risk[at[rows]], minlength=time.size) if rows.size else 0.0
        influence = (
            np.cumsum(own) - drift[np.minimum(grid, last[i])] if rows.size else -drift[np.minimum(grid, last[i])]
        )
        squares += influence**2
    return MeanCount(time, n_risk, n_event, mean, np.sqrt(squares))


@dataclass(frozen=True, slots=True)
class NegativeBinomial:
    """Log-linear rates with variance mu + mu^2/size: coefficients (q,), covariance (q, q), size, log-likelihood.

    size is inf when the counts vary no more than a Poisson; converged says whether both scores vanished.
    """

    coefficients: FloatArray
    covariance: FloatArray
    size: float
    loglik: float
    converged: bool


def negative_binomial(y: FloatArray, X: FloatArray, offset: FloatArray, iterations: int = 200) -> NegativeBinomial:
    """Maximum likelihood by alternating weighted least squares (coefficients) and Newton steps on log size.

    y (n,) counts, X (n, q) design, offset (n,) log time at risk. The covariance is that of the coefficients at the
    estimated size (expected information), as MASS::glm.nb.
    """
    beta = _poisson(y, X, offset)
    log_size = 0.0
    for _ in range(iterations):
        old = beta, log_size
        beta = _scored(beta, y, X, offset, np.exp(log_size))
        log_size = _size_step(y, np.exp(X @ beta + offset), log_size)
        if np.max(np.abs(beta - old[0])) < 1e-12 and abs(log_size - old[1]) < 1e-10:
            break
    infinite = log_size > 15
    size = np.inf if infinite else float(np.exp(log_size))
    if infinite:
        beta = _poisson(y, X, offset)
    mu = np.exp(X @ beta + offset)
    weight = mu if infinite else mu / (1 + mu / size)
    covariance: FloatArray = np.asarray(np.linalg.inv((X * weight[:, None]).T @ X), dtype=np.float64)
    score = X.T @ ((y - mu) * weight / mu)
    scaled = float(np.max(np.abs(score) * np.sqrt(np.diag(covariance))))
    return NegativeBinomial(beta, covariance, size, _loglik(y, mu, size), scaled < 1e-6)


def _poisson(y: FloatArray, X: FloatArray, offset: FloatArray) -> FloatArray:
    beta: FloatArray = np.asarray(np.linalg.lstsq(X, np.log(y + 0.5) - offset, rcond=None)[0], dtype=np.float64)
    for _ in range(100):
        new = _scored(beta, y, X, offset, np.inf)
        if np.max(np.abs(new - beta)) < 1e-12:
            return new
        beta = new
    return beta


def _scored(beta: FloatArray, y: FloatArray, X: FloatArray, offset: FloatArray, size: float) -> FloatArray:
    """One Fisher scoring step for the coefficients at a given size."""
    mu = np.exp(np.clip(X @ beta + offset, -500, 500))
    weight = mu / (1 + mu / size)
    step = np.linalg.solve((X * weight[:, None]).T @ X, X.T @ ((y - mu) * weight / mu))
    return np.asarray(beta + np.clip(step, -2.0, 2.0))


def _size_step(y: FloatArray, mu: FloatArray, log_size: float) -> float:
    """Newton step on log size, bounded; towards infinity where the profile keeps growing."""
    size = np.exp(log_size)
    d1 = np.sum(digamma(y + size) - digamma(size) + np.log(size) + 1 - np.log(size + mu) - (y + size) / (size + mu))
    d2 = np.sum(
        polygamma(1, y + size) - polygamma(1, size) + 1 / size - 2 / (size + mu) + (y + size) / (size + mu) ** 2
    )
    gradient, curvature = size * d1, size * d1 + size**2 * d2
    step = -gradient / curvature if curvature < 0 else np.sign(gradient)
    return float(min(log_size + np.clip(step, -1.0, 1.0), 16.0))


def _loglik(y: FloatArray, mu: FloatArray, size: float) -> float:
    if np.isinf(size):
        return float(np.sum(y * np.log(mu) - mu - gammaln(y + 1)))
    terms = gammaln(y + size) - gammaln(size) - gammaln(y + 1) + size * np.log(size / (size + mu))
    return float(np.sum(terms + y * np.log(mu / (size + mu))))
