"""A slow dense MMRM in textbook formulas: N x N matrices, derivatives of Sigma by complex steps and differences.

Nothing of the library is imported. Letters as in Kenward & Roger (1997) and Pustejovsky & Tipton (2018).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def sigma(name: str, theta: np.ndarray, m: int, distance: np.ndarray | None = None) -> np.ndarray:
    """Sigma in natural parameters (complex allowed)."""
    if m == 1:
        return theta.reshape(1, 1)
    lag = np.abs(np.subtract.outer(np.arange(m), np.arange(m)))
    if name == "us":
        s = np.zeros((m, m), dtype=theta.dtype)
        s[np.tril_indices(m)] = theta
        return s + np.tril(s, -1).T
    if name == "cs":
        return np.where(lag == 0, theta[0], theta[-1])
    if name == "toep":
        return theta[lag]
    heterogeneous = name in ("csh", "toeph", "ar1h", "adh")
    v, rho = (theta[:m], theta[m:]) if heterogeneous else (np.repeat(theta[0], m), theta[1:])
    if name in ("sp_exp", "sp_gau"):
        assert distance is not None
        c = np.exp(-distance / rho[0]) if name == "sp_exp" else np.exp(-((distance / rho[0]) ** 2))
    elif name == "csh":
        c = np.where(lag == 0, 1.0, rho[0])
    elif name == "toeph":
        c = np.concatenate([[1.0], rho])[lag]
    elif name in ("ar1", "ar1h"):
        c = rho[0] ** lag
    else:
        chain = np.concatenate([[1.0], rho])
        c = np.array([[np.prod(chain[min(s, t) + 1 : max(s, t) + 1]) for t in range(m)] for s in range(m)])
    return np.sqrt(v[:, None] * v[None, :]) * c


@dataclass
class Dense:
    """Rows sorted by subject. subject, visit, group: (N,) codes; distance (m, m) of spatial structures."""

    y: np.ndarray
    x: np.ndarray
    subject: np.ndarray
    visit: np.ndarray
    group: np.ndarray
    name: str
    m: int
    reml: bool
    weights: np.ndarray | None = None
    distance: np.ndarray | None = None

    def v(self, theta: np.ndarray) -> np.ndarray:
        """V (N, N)."""
        groups = int(self.group.max()) + 1
        blocks = [sigma(self.name, t, self.m, self.distance) for t in np.split(theta, groups)]
        n = len(self.y)
        same = self.subject[:, None] == self.subject[None, :]
        full = np.zeros((n, n), dtype=theta.dtype)
        for g, block in enumerate(blocks):
            at = np.flatnonzero(self.group == g)
            full[np.ix_(at, at)] = block[np.ix_(self.visit[at], self.visit[at])]
        full = np.where(same, full, 0.0)
        if self.weights is not None:
            root = np.sqrt(self.weights)
            full = full / (root[:, None] * root[None, :])
        return full

    def first(self, theta: np.ndarray) -> list[np.ndarray]:
        """dV / dtheta_j by complex steps."""
        out = []
        for j in range(len(theta)):
            t = theta.astype(complex)
            t[j] += 1e-30j
            out.append(self.v(t).imag / 1e-30)
        return out

    def second(self, theta: np.ndarray) -> list[list[np.ndarray]]:
        """d2V / dtheta_j dtheta_k by central differences of complex steps."""
        out = []
        for j in range(len(theta)):
            h = 1e-5 * max(1.0, abs(theta[j]))
            up, down = theta.copy(), theta.copy()
            up[j] += h
            down[j] -= h
            out.append([(a - b) / (2 * h) for a, b in zip(self.first(up), self.first(down), strict=True)])
        return out

    def deviance(self, theta: np.ndarray) -> float:
        v = self.v(theta)
        o = np.linalg.inv(v)
        a = self.x.T @ o @ self.x
        r = self.y - self.x @ np.linalg.solve(a, self.x.T @ o @ self.y)
        n, q = self.x.shape
        value = np.linalg.slogdet(v)[1] + r @ o @ r + (n - q * self.reml) * np.log(2 * np.pi)
        return float(value + (np.linalg.slogdet(a)[1] if self.reml else 0.0))

    def at(self, theta: np.ndarray) -> At:
        return At(self, theta)


class At:
    """Everything at one theta."""

    def __init__(self, model: Dense, theta: np.ndarray) -> None:
        self.model, self.theta = model, theta
        x, y = model.x, model.y
        self.v = model.v(theta)
        self.o = np.linalg.inv(self.v)
        self.phi = np.linalg.inv(x.T @ self.o @ x)
        self.beta = self.phi @ x.T @ self.o @ y
        self.r = y - x @ self.beta
        self.d1, self.d2 = model.first(theta), model.second(theta)
        self.p = [-x.T @ self.o @ d @ self.o @ x for d in self.d1]
        proj = self.o - self.o @ x @ self.phi @ x.T @ self.o
        left = proj if model.reml else self.o
        py = proj @ y
        k = len(theta)
        self.gradient = np.array([np.trace(left @ d) - py @ d @ py for d in self.d1])
        self.observed = np.empty((k, k))
        self.expected = np.empty((k, k))
        for i in range(k):
            for j in range(k):
                trace = np.trace(left @ self.d1[i] @ left @ self.d1[j])
                self.expected[i, j] = trace
                self.observed[i, j] = (
                    -trace
                    + 2 * py @ self.d1[i] @ proj @ self.d1[j] @ py
                    + np.trace(left @ self.d2[i][j])
                    - py @ self.d2[i][j] @ py
                )

    def w(self, information: str) -> np.ndarray:
        return 2 * np.linalg.inv(self.observed if information == "observed" else self.expected)

    def kenward_roger_vcov(self, w: np.ndarray, *, linear: bool) -> np.ndarray:
        x, o = self.model.x, self.o
        inner = np.zeros_like(self.phi)
        for i, di in enumerate(self.d1):
            for j, dj in enumerate(self.d1):
                q = x.T @ o @ di @ o @ dj @ o @ x
                r = np.zeros_like(q) if linear else x.T @ o @ self.d2[i][j] @ o @ x
                inner += w[i, j] * (q - self.p[i] @ self.phi @ self.p[j] - r / 4)
        return self.phi + 2 * self.phi @ inner @ self.phi

    def satterthwaite(self, row: np.ndarray, w: np.ndarray) -> float:
        g = np.array([-row @ self.phi @ p @ self.phi @ row for p in self.p])
        return float(2 * (row @ self.phi @ row) ** 2 / (g @ w @ g))

    def kenward_roger_joint(self, rows: np.ndarray, w: np.ndarray, vcov: np.ndarray) -> tuple[float, float]:
        """F and denominator df."""
        number = len(rows)
        theta = rows.T @ np.linalg.inv(rows @ self.phi @ rows.T) @ rows
        a1 = a2 = 0.0
        for i, pi in enumerate(self.p):
            for j, pj in enumerate(self.p):
                left, right = theta @ self.phi @ pi @ self.phi, theta @ self.phi @ pj @ self.phi
                a1 += w[i, j] * np.trace(left) * np.trace(right)
                a2 += w[i, j] * np.trace(left @ right)
        b = (a1 + 6 * a2) / (2 * number)
        g = ((number + 1) * a1 - (number + 4) * a2) / ((number + 2) * a2)
        base = 3 * number + 2 * (1 - g)
        c1, c2, c3 = g / base, (number - g) / base, (number + 2 - g) / base
        e = 1 / (1 - a2 / number)
        v = 2 / number * (1 + c1 * b) / ((1 - c2 * b) ** 2 * (1 - c3 * b))
        rho = v / (2 * e**2)
        m = 4 + (number + 2) / (number * rho - 1)
        scale = m / (e * (m - 2))
        value = rows @ self.beta
        return float(scale / number * value @ np.linalg.solve(rows @ vcov @ rows.T, value)), float(m)

    def robust(self, kind: str, cluster: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """Covariance and the N-vectors' operators p_i' (rows of q x N) behind it."""
        x, o, phi = self.model.x, self.o, self.phi
        n = len(self.r)
        residual_maker = np.eye(n) - x @ phi @ x.T @ o
        operators, meat = [], np.zeros_like(phi)
        ids = np.unique(cluster)
        for c in ids:
            at = np.flatnonzero(cluster == c)
            factor = np.linalg.cholesky(self.v[np.ix_(at, at)])
            white = np.linalg.solve(factor, x[at])
            gap = np.eye(len(at)) - white @ phi @ white.T
            values, vectors = np.linalg.eigh(gap)
            power = {"CR0": 0.0, "CR1": 0.0, "CR2": -0.5, "CR3": -1.0}[kind]
            scaled = np.where(values > 1e-8, np.abs(values) ** power, 0.0 if power else 1.0)
            a = vectors @ np.diag(scaled) @ vectors.T
            operator = phi @ white.T @ a @ np.linalg.solve(factor, residual_maker[at])
            operators.append(operator)
            score = operator @ self.model.y
            meat += np.outer(score, score)
        return meat * (len(ids) / (len(ids) - 1) if kind == "CR1" else 1.0), operators

    def robust_df(self, row: np.ndarray, operators: list[np.ndarray]) -> float:
        p = np.array([row @ operator for operator in operators])
        g = p @ self.v @ p.T
        return float(np.trace(g) ** 2 / (g**2).sum())
