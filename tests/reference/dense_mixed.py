"""A slow textbook twin of the linear mixed model: V as one N x N matrix, derivatives as N x N products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize

Array = Any


def generalised_inverse(information: Array) -> Array:
    """Inverse; where parameters repeat each other, the Moore-Penrose one in units of the diagonal."""
    scale = np.sqrt(np.diag(information))
    inverse = np.linalg.pinv(information / np.outer(scale, scale), rcond=1e-9, hermitian=True)
    return inverse / np.outer(scale, scale)


@dataclass(frozen=True)
class Dense:
    """y (N,), X (N, p), blocks: (codes (N,), Z (N, k)) of each correlated block of random effects."""

    y: Array
    X: Array
    blocks: list[tuple[Array, Array]]

    def directions(self) -> list[Array]:
        """dV / dparameter: free entries of each G column by column, then the residual variance."""
        out = []
        for codes, Z in self.blocks:
            same = codes[:, None] == codes[None, :]
            for a in range(Z.shape[1]):
                for b in range(a, Z.shape[1]):
                    outer = np.outer(Z[:, a], Z[:, b])
                    out.append(same * (outer if a == b else outer + outer.T))
        return [*out, np.eye(len(self.y))]

    def V(self, theta: Array) -> Array:
        return sum(t * D for t, D in zip(theta, self.directions(), strict=True))

    def parameters(self, T: list[Array], s2: float) -> Array:
        entries = [s2 * (t @ t.T)[a, b] for t in T for a in range(len(t)) for b in range(a, len(t))]
        return np.array([*entries, s2])

    def factors(self, free: Array) -> list[Array]:
        out, at = [], 0
        for _, Z in self.blocks:
            k = Z.shape[1]
            t = np.zeros((k, k))
            t[np.tril_indices(k)] = free[at : at + k * (k + 1) // 2]
            at += k * (k + 1) // 2
            out.append(t)
        return out

    def deviance(self, theta: Array, reml: bool) -> float:
        """-2 l with fixed effects profiled out."""
        V = self.V(theta)
        sign, logdet = np.linalg.slogdet(V)
        if sign <= 0:
            return np.inf
        A = self.X.T @ np.linalg.solve(V, self.X)
        r = self.y - self.X @ np.linalg.solve(A, self.X.T @ np.linalg.solve(V, self.y))
        n = len(self.y) - (self.X.shape[1] if reml else 0)
        return float(
            logdet + r @ np.linalg.solve(V, r) + n * np.log(2 * np.pi) + (np.linalg.slogdet(A)[1] if reml else 0)
        )

    def best(self, reml: bool, starts: list[Array]) -> float:
        """Smallest deviance by Nelder-Mead and BFGS over Cholesky factors and log s from several starts."""

        def f(x: Array) -> float:
            s2 = float(np.exp(2 * x[-1]))
            return self.deviance(self.parameters(self.factors(x[:-1]), s2), reml)

        values = []
        for start in starts:
            rough = optimize.minimize(
                f, start, method="Nelder-Mead", options={"maxfev": 4000, "xatol": 1e-6, "fatol": 1e-9}
            )
            values.append(min(float(rough.fun), float(optimize.minimize(f, rough.x, method="BFGS").fun)))
        return min(values)

    def kenward_roger(self, theta: Array) -> tuple[Array, Array, Array]:
        """Phi_A, the list of P_j and W with expected information, exactly as in Kenward & Roger (1997), R_jk = 0."""
        O = np.linalg.inv(self.V(theta))
        Phi = np.linalg.inv(self.X.T @ O @ self.X)
        D = self.directions()
        Pm = O - O @ self.X @ Phi @ self.X.T @ O
        P = np.array([-self.X.T @ O @ d @ O @ self.X for d in D])
        info = np.array([[0.5 * np.trace(Pm @ a @ Pm @ b) for a in D] for b in D])
        W = generalised_inverse(info)
        inner = sum(
            W[j, k] * (self.X.T @ O @ D[j] @ O @ D[k] @ O @ self.X - P[j] @ Phi @ P[k])
            for j in range(len(D))
            for k in range(len(D))
        )
        return Phi + 2 * Phi @ inner @ Phi, P, W

    def row_df(self, theta: Array, L: Array, P: Array, W: Array) -> Array:
        """2 (l'Phi l)^2 / g'Wg for each row l."""
        Phi = np.linalg.inv(self.X.T @ np.linalg.solve(self.V(theta), self.X))
        g = np.array([[row @ Phi @ p @ Phi @ row for p in P] for row in L])
        return 2 * np.einsum("ri,ij,rj->r", L, Phi, L) ** 2 / np.einsum("rj,jk,rk->r", g, W, g)

    def observed_information(self, theta: Array) -> Array:
        """Half the Hessian of -2 l_REML."""
        O = np.linalg.inv(self.V(theta))
        Pm = O - O @ self.X @ np.linalg.solve(self.X.T @ O @ self.X, self.X.T @ O)
        D, Py = self.directions(), Pm @ self.y
        return np.array([[Py @ a @ Pm @ b @ Py - 0.5 * np.trace(Pm @ a @ Pm @ b) for a in D] for b in D])
