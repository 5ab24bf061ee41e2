"""Network meta-analysis of studies with two or more arms, from effects of each arm against the first of its study.

Symbols: y (m,) stacked contrasts, V (m, m) their covariance, block diagonal by study (arms of a study share its first
arm), X (m, q) which treatment stands against which, Omega (m, m) blocks of (I + J) / 2: covariance of the random
effects of a study per tau^2, which makes every pair of its arms vary by tau^2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg, optimize

from kapstats._types import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Network:
    """Stacked contrasts: y (m,), V (m, m), Omega (m, m), first and second treatment (m,), study of each (m,)."""

    y: FloatArray
    V: FloatArray
    omega: FloatArray
    first: IntArray
    second: IntArray
    study: IntArray

    def design(self, treatments: int) -> FloatArray:
        """X (m, treatments - 1): effects against treatment 0."""
        X = np.zeros((len(self.y), treatments))
        rows = np.arange(len(self.y))
        X[rows, self.second] = 1.0
        X[rows, self.first] -= 1.0
        return X[:, 1:]


@dataclass(frozen=True, slots=True)
class Fitted:
    """beta (q,) against treatment 0, covariance (q, q), tau^2, Q at tau^2 = 0 with its degrees of freedom."""

    beta: FloatArray
    covariance: FloatArray
    tau2: float
    q: float
    df: int


def stack(effects: list[FloatArray], variances: list[FloatArray], arms: list[IntArray]) -> Network:
    """The network of studies with effects and variances per arm (log odds, log risks, risks or means), (a,) each."""
    blocks = [v[1:] * np.eye(len(v) - 1) + v[0] for v in variances]
    sizes = [len(b) for b in blocks]
    return Network(
        y=np.concatenate([e[1:] - e[0] for e in effects]),
        V=linalg.block_diag(*blocks),
        omega=linalg.block_diag(*[(np.eye(k) + np.ones((k, k))) / 2 for k in sizes]),
        first=np.concatenate([np.full(k, a[0]) for k, a in zip(sizes, arms, strict=True)]).astype(np.int64),
        second=np.concatenate([a[1:] for a in arms]).astype(np.int64),
        study=np.repeat(np.arange(len(sizes)), sizes),
    )


def fit(network: Network, X: FloatArray, model: str) -> Fitted:
    """Generalised least squares at the tau^2 of `model`: "common", "dl" (moments of Q) or "reml"."""
    q, p = _quadratic(network, X, 0.0)
    df = len(network.y) - X.shape[1]
    tau2 = 0.0
    if model == "dl" and df > 0:
        tau2 = max(0.0, (q - df) / float((p * network.omega).sum()))
    elif model == "reml" and df > 0:
        tau2 = _reml(network, X)
    weight = np.linalg.inv(network.V + tau2 * network.omega)
    covariance = np.linalg.inv(X.T @ weight @ X)
    beta = np.asarray(covariance @ (X.T @ (weight @ network.y)), dtype=np.float64)
    return Fitted(beta, np.asarray(covariance, dtype=np.float64), tau2, max(0.0, q), df)


def _quadratic(network: Network, X: FloatArray, tau2: float) -> tuple[float, FloatArray]:
    """y'Py and P = W - W X (X'WX)^-1 X'W with W the inverse covariance at tau^2."""
    weight = np.linalg.inv(network.V + tau2 * network.omega)
    wx = weight @ X
    p = weight - wx @ np.linalg.solve(X.T @ wx, wx.T)
    return float(network.y @ p @ network.y), np.asarray(p, dtype=np.float64)


def _score(network: Network, X: FloatArray, tau2: float) -> float:
    """Twice the derivative of the restricted log-likelihood: y'P Omega P y - tr(P Omega)."""
    _, p = _quadratic(network, X, tau2)
    residual = p @ network.y
    return float(residual @ network.omega @ residual - (p * network.omega).sum())


def _restricted(network: Network, X: FloatArray, tau2: float) -> float:
    covariance = network.V + tau2 * network.omega
    information = X.T @ np.linalg.solve(covariance, X)
    q, _ = _quadratic(network, X, tau2)
    return -0.5 * (q + np.linalg.slogdet(covariance)[1] + np.linalg.slogdet(information)[1])


def _reml(network: Network, X: FloatArray) -> float:
    """The best of all roots of the score on a grid, or 0."""
    top = 10 * (float(network.y.var()) + float(np.diag(network.V).max()))
    grid = np.concatenate([[0.0], np.geomspace(1e-8 * float(np.diag(network.V).min()), top, 100)])
    score = np.array([_score(network, X, t) for t in grid])
    falls = np.flatnonzero((score[:-1] > 0) & (score[1:] <= 0))
    roots = [
        float(optimize.brentq(lambda t: _score(network, X, t), grid[i], grid[i + 1], xtol=1e-15, rtol=1e-13))
        for i in falls
    ]
    return max([0.0, *roots], key=lambda t: _restricted(network, X, t))


def within_designs(network: Network, designs: IntArray) -> tuple[float, int]:
    """Q of studies of the same design (the same set of treatments) about their own mean, and its df.

    designs : (studies,) code of each study's set of treatments. The rest of Q is inconsistency between designs.
    """
    q, df = 0.0, 0
    for code in np.unique(designs):
        rows = np.flatnonzero(designs[network.study] == code)
        pairs = np.stack([network.first[rows], network.second[rows]], axis=1)
        kinds = np.unique(pairs, axis=0)
        X = (pairs[:, None, :] == kinds[None]).all(axis=2).astype(float)
        if len(rows) == X.shape[1]:
            continue
        part = Network(
            network.y[rows], network.V[np.ix_(rows, rows)], network.omega[np.ix_(rows, rows)],
            network.first[rows], network.second[rows], network.study[rows],
        )  # fmt: skip
        q, df = q + _quadratic(part, X, 0.0)[0], df + len(rows) - X.shape[1]
    return q, df


def components(first: IntArray, second: IntArray, treatments: int) -> IntArray:
    """Which connected part of the network each treatment belongs to, (treatments,)."""
    part = np.arange(treatments)
    for a, b in zip(first, second, strict=True):
        low, high = sorted((part[a], part[b]))
        part[part == high] = low
    return part
