"""Generalised estimating equations with canonical links: sum_i X_i' A_i^1/2 R^-1 A_i^-1/2 (y_i - mu_i) = 0.

Rows are whitened cluster by cluster with the working correlation R(alpha), which every structure can do in place
(exchangeable through the cluster mean, AR(1) through the row before, unstructured by pattern of visits). With Z, e the
whitened rows of A^1/2 X and of the Pearson residuals, B_i = Z_i'Z_i, u_i = Z_i'e_i and B = sum B_i:

    naive         phi B^-1
    robust        B^-1 (sum u_i u_i') B^-1                                   Liang & Zeger 1986
    bias-reduced  the same with (I - B_i B^-1)^-1 u_i for u_i                Mancl & DeRouen 2001, by Woodbury
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
Whiten = Callable[[Array], Array]

#: rows of cluster products held at once
BLOCK = 1 << 16

#: smallest eigenvalue of a working correlation; moment estimates beyond are drawn back to it
LEAST = 1e-3


@dataclass(frozen=True, slots=True)
class GeeSolution:
    """beta (p,); robust, reduced, naive (p, p); alpha: () for exchangeable and ar1, (q, q) for unstructured.

    drawn_back: the moment estimate of alpha was no correlation, and the nearest that is one was used.
    """

    beta: Array
    robust: Array
    reduced: Array
    naive: Array
    alpha: Array
    drawn_back: bool
    converged: bool


@dataclass(frozen=True, slots=True)
class Clusters:
    """start, size (n,) of clusters of adjacent rows; visit (N,) position of each row among the planned visits."""

    start: Codes
    size: Codes
    visit: Codes

    def sums(self, rows: Array) -> Array:
        """Sums over clusters of rows (N, ...)."""
        return np.asarray(np.add.reduceat(rows, self.start, axis=0))


@dataclass(frozen=True, slots=True)
class Structure:
    """How alpha is estimated from Pearson residuals (N,) and p, made a correlation, and rows are whitened with it."""

    estimate: Callable[[Array, int, Clusters], Array]
    admit: Callable[[Array, Clusters], Array]
    whiten: Callable[[Array, Clusters], Whiten]


def solve(
    X: Array, y: Array, offset: Array, clusters: Clusters, family: str, structure: str, limit: int = 200
) -> GeeSolution:
    """The estimating equations by Fisher scoring in turn with alpha; family gaussian, binomial or poisson.

    Steps of both are halved from the 20th on: those that have not settled by then go round in circles.
    """
    beta, p = _independent(X, y, offset, family), X.shape[1]
    form, alpha, pull = STRUCTURES[structure], np.asarray(0.0), 1.0
    for turn in range(limit):
        rows, e = _standardised(X, y, offset, beta, family)
        moments, before = form.estimate(e, p, clusters), alpha
        if not (np.isfinite(moments).all() and np.isfinite(e).all()):
            break
        pull = 0.5 if turn >= 20 else 1.0
        alpha = form.admit(before + pull * (moments - before) if turn else moments, clusters)
        whiten = form.whiten(alpha, clusters)
        Z, r = whiten(rows), whiten(e)
        u, step = _scoring(Z, r)
        if bool(np.all(np.abs(alpha - before) < 1e-9)) and float(u @ step) <= 1e-18 * float(e @ e) / len(e):
            back = not np.allclose(alpha, moments, rtol=0, atol=1e-6)
            return _solution(Z, r, e, beta, alpha, back, clusters, family)
        beta = beta + pull * step
    nothing = np.full((p, p), np.nan)
    return GeeSolution(beta, nothing, nothing, nothing, moments, False, False)


def _solution(
    Z: Array, r: Array, e: Array, beta: Array, alpha: Array, back: bool, clusters: Clusters, family: str
) -> GeeSolution:
    phi = float(e @ e) / (len(e) - len(beta)) if family == "gaussian" else 1.0
    inverse = np.asarray(np.linalg.inv(Z.T @ Z), dtype=np.float64)
    robust, reduced = _sandwiches(Z, r, inverse, clusters)
    return GeeSolution(beta, robust, reduced, phi * inverse, alpha, back, True)


def _standardised(X: Array, y: Array, offset: Array, beta: Array, family: str) -> tuple[Array, Array]:
    """Rows of A^1/2 X and Pearson residuals."""
    mean, variance = _moments(offset + X @ beta, family)
    root = np.sqrt(variance)
    return root[:, None] * X, (y - mean) / root


def _moments(eta: Array, family: str) -> tuple[Array, Array]:
    if family == "gaussian":
        return eta, np.ones_like(eta)
    mean = expit(eta) if family == "binomial" else np.exp(np.minimum(eta, 700.0))
    variance = mean * (1 - mean) if family == "binomial" else mean
    return mean, np.maximum(variance, 1e-16)


def _scoring(Z: Array, r: Array) -> tuple[Array, Array]:
    """Score u and step B^-1 u; no number where B is singular."""
    u = Z.T @ r
    try:
        return u, np.asarray(np.linalg.solve(Z.T @ Z, u), dtype=np.float64)
    except np.linalg.LinAlgError:
        return u, np.full_like(u, np.nan)


def _loglik(y: Array, eta: Array, family: str) -> float:
    """Log-likelihood but for constants."""
    if family == "gaussian":
        return -0.5 * float(((y - eta) ** 2).sum())
    whole = np.logaddexp(0.0, eta) if family == "binomial" else np.exp(np.minimum(eta, 700.0))
    return float((y * eta - whole).sum())


def _independent(X: Array, y: Array, offset: Array, family: str) -> Array:
    """Maximum likelihood with all rows independent: Newton steps halved until they rise."""
    beta = np.zeros(X.shape[1])
    at = _loglik(y, offset, family)
    for _ in range(100):
        u, step = _scoring(*_standardised(X, y, offset, beta, family))
        for _ in range(40):
            new = _loglik(y, offset + X @ (beta + step), family)
            if new >= at - 1e-12 * abs(at):
                break
            step = step / 2
        beta, at = beta + step, new
        if float(u @ step) < 1e-10:
            break
    return beta


def _sandwiches(Z: Array, r: Array, inverse: Array, clusters: Clusters) -> tuple[Array, Array]:
    """Robust and bias-reduced covariance, a block of clusters at a time."""
    p = Z.shape[1]
    meat, reduced = np.zeros((p, p)), np.zeros((p, p))
    ends = np.append(clusters.start[1:], len(r))
    first = 0
    while first < len(ends):
        begin = clusters.start[first]
        last = max(first + 1, int(np.searchsorted(ends, begin + BLOCK, side="right")))
        rows, starts = slice(begin, ends[last - 1]), clusters.start[first:last] - begin
        z = Z[rows]
        u = np.add.reduceat(z * r[rows, None], starts, axis=0)
        B = np.add.reduceat(z[:, :, None] * z[:, None, :], starts, axis=0)
        v = np.linalg.solve(np.eye(p) - B @ inverse, u[:, :, None])[:, :, 0]
        meat, reduced, first = meat + u.T @ u, reduced + v.T @ v, last
    return inverse @ meat @ inverse, inverse @ reduced @ inverse


# ------------------------------------------------------------------------------------------------ working correlations


def _no_correlation(e: Array, p: int, clusters: Clusters) -> Array:
    return np.asarray(0.0)


def _itself(alpha: Array, clusters: Clusters) -> Array:
    return alpha


def _as_they_are(alpha: Array, clusters: Clusters) -> Whiten:
    return lambda rows: rows


def _common(e: Array, p: int, clusters: Clusters) -> Array:
    """Products of all pairs within clusters over (pairs - p) phi; 0 where no cluster has a pair."""
    pairs = float((clusters.size * (clusters.size - 1)).sum()) / 2
    if pairs == 0:
        return np.asarray(0.0)
    phi = float(e @ e) / (len(e) - p)
    products = float((clusters.sums(e) ** 2).sum() - e @ e) / 2
    return np.asarray(products / phi / (pairs - p) if pairs > p else np.nan)


def _common_within(alpha: Array, clusters: Clusters) -> Array:
    """1 - alpha and 1 + (m - 1) alpha are the eigenvalues."""
    return np.asarray(np.clip(alpha, -(1 - LEAST) / max(int(clusters.size.max()) - 1, 1), 1 - LEAST))


def _through_means(alpha: Array, clusters: Clusters) -> Whiten:
    """R^-1/2 z = (z - mean) / sqrt(1 - alpha) + mean / sqrt(1 + (m - 1) alpha)."""
    between = 1 + (clusters.size - 1) * alpha
    a = 1 / np.sqrt(1 - alpha)
    shift = np.repeat((1 / np.sqrt(between) - a) / clusters.size, clusters.size)

    def whiten(rows: Array) -> Array:
        total = np.repeat(clusters.sums(rows), clusters.size, axis=0)
        return a * rows + (shift * total.T).T

    return whiten


def _gaps(clusters: Clusters) -> Codes:
    """Visits from the row before in the same cluster; 0 for the first row of a cluster."""
    gap = np.diff(clusters.visit, prepend=clusters.visit[:1])
    gap[clusters.start] = 0
    return gap


def _serial(e: Array, p: int, clusters: Clusters) -> Array:
    """Mean product of neighbours (one visit apart) over the mean square, both averaged within clusters first."""
    next_to = np.flatnonzero(_gaps(clusters) == 1)
    code = np.repeat(np.arange(len(clusters.size)), clusters.size)
    pairs = np.bincount(code[next_to], minlength=len(clusters.size))
    if not pairs.any():
        return np.asarray(0.0)
    products = np.bincount(code[next_to], e[next_to] * e[next_to - 1], len(clusters.size))
    squares = clusters.sums(e**2) / clusters.size
    some = pairs > 0
    return np.asarray((products[some] / pairs[some]).sum() / squares[some].sum())


def _serial_within(alpha: Array, clusters: Clusters) -> Array:
    return np.asarray(np.clip(alpha, LEAST - 1, 1 - LEAST))


def _through_the_row_before(alpha: Array, clusters: Clusters) -> Whiten:
    """(z_j - a^g z_j-1) / sqrt(1 - a^2g), g visits apart."""
    gap = _gaps(clusters)
    slope = np.where(gap > 0, np.sign(alpha) ** gap * np.abs(alpha) ** gap, 0.0)
    spread = np.sqrt(1 - slope**2)

    def whiten(rows: Array) -> Array:
        before = np.roll(rows, 1, axis=0)
        return ((rows.T - slope * before.T) / spread).T

    return whiten


def _by_pair_of_visits(e: Array, p: int, clusters: Clusters) -> Array:
    """Correlation of Pearson residuals, every pair of visits over (clusters that have both - p)."""
    code = np.repeat(np.arange(len(clusters.size)), clusters.size)
    wide = np.zeros((len(clusters.size), int(clusters.visit.max()) + 1))
    seen = np.zeros_like(wide)
    wide[code, clusters.visit], seen[code, clusters.visit] = e, 1.0
    counts = seen.T @ seen - p
    if not (counts > 0).all():
        return np.full(counts.shape, np.nan)
    products = wide.T @ wide / counts
    root = np.sqrt(np.diag(products))
    return np.asarray(products / np.outer(root, root))


def _towards_none(alpha: Array, clusters: Clusters) -> Array:
    """The least of independence mixed in that leaves no eigenvalue below `LEAST`."""
    least = float(np.linalg.eigvalsh(alpha)[0])
    if least >= LEAST:
        return alpha
    share = (LEAST - least) / (1 - least)
    return np.asarray((1 - share) * alpha + share * np.eye(len(alpha)))


def _by_pattern(alpha: Array, clusters: Clusters) -> Whiten:
    """L^-1 of the visits that a cluster has, one factor per pattern of visits."""
    steps = []
    for rows in _patterns(clusters):
        visits = clusters.visit[rows[0]]
        steps.append((rows, np.linalg.inv(np.linalg.cholesky(alpha[np.ix_(visits, visits)]))))

    def whiten(rows: Array) -> Array:
        out = np.empty_like(rows)
        for index, factor in steps:
            out[index] = np.einsum("ab,nb...->na...", factor, rows[index], optimize=True)
        return out

    return whiten


def _patterns(clusters: Clusters) -> list[Codes]:
    """Rows (clusters, m) of the clusters with the same visits."""
    found = []
    for m in np.unique(clusters.size):
        rows = clusters.start[clusters.size == m][:, None] + np.arange(m)
        index = np.unique(clusters.visit[rows], axis=0, return_inverse=True)[1].reshape(-1)
        found += [rows[index == k] for k in range(index.max() + 1)]
    return found


STRUCTURES: dict[str, Structure] = {
    "independence": Structure(_no_correlation, _itself, _as_they_are),
    "exchangeable": Structure(_common, _common_within, _through_means),
    "ar1": Structure(_serial, _serial_within, _through_the_row_before),
    "unstructured": Structure(_by_pair_of_visits, _towards_none, _by_pattern),
}
