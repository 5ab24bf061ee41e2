"""Missing outcomes after an intercurrent event, given what was seen: the joint normal model of each strategy.

Letters: B parameter draws, m visits, n subjects of one class (same seen visits, first affected visit t and arms).
mu_a, S_a are mean and covariance in the subject's own arm, mu_r, S_r in the reference arm; 1 the visits before t, 2 the
others (Carpenter, Roger & Kenward 2013, doi 10.1080/10543406.2013.834911):

    MAR   mu_a                                             S_a
    J2R   (mu_a1, mu_r2)                                   S_J
    CR    mu_r                                             S_r
    CIR   (mu_a1, mu_a[t-1] + mu_r2 - mu_r[t-1])           S_J
    LMCF  (mu_a1, mu_a[t-1])                               S_a

with S_J equal to S_a on 1, and on 2 the regression of the reference arm: K = S_r21 S_r11^-1, S_J21 = K S_a11,
S_J22 = S_r22 - K (S_r11 - S_a11) K'.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

STRATEGIES = ("MAR", "J2R", "CR", "CIR", "LMCF")


@dataclass(frozen=True, slots=True)
class Conditional:
    """Distribution of the k unseen visits: mean (B, n, k), covariance (B, k, k)."""

    mean: Floats
    covariance: Floats


def joint_mean(strategy: str, own: Floats, reference: Floats, t: int) -> Floats:
    """Mean (B, n, m) of all visits under the strategy; own, reference (B, n, m), visits from t on are affected."""
    if strategy in ("CIR", "LMCF") and t == 0:
        raise ValueError(f"{strategy} carries on from the last visit before the event, and there is none")
    mean = reference.copy() if strategy == "CR" else own.copy()
    if strategy == "J2R":
        mean[..., t:] = reference[..., t:]
    if strategy in ("CIR", "LMCF"):
        mean[..., t:] = own[..., t - 1 : t]
    if strategy == "CIR":
        mean[..., t:] += reference[..., t:] - reference[..., t - 1 : t]
    return mean


def joint_covariance(strategy: str, own: Floats, reference: Floats, t: int) -> Floats:
    """Covariance (B, m, m) of all visits under the strategy; own, reference (B, m, m)."""
    if strategy == "CR":
        return reference
    if strategy in ("MAR", "LMCF") or own is reference:
        return own
    k = np.swapaxes(np.linalg.solve(reference[:, :t, :t], reference[:, :t, t:]), 1, 2)
    s21 = k @ own[:, :t, :t]
    s22 = reference[:, t:, t:] - k @ (reference[:, :t, :t] - own[:, :t, :t]) @ np.swapaxes(k, 1, 2)
    return np.concatenate(
        [
            np.concatenate([own[:, :t, :t], np.swapaxes(s21, 1, 2)], axis=2),
            np.concatenate([s21, s22], axis=2),
        ],
        axis=1,
    )


def conditional(mean: Floats, covariance: Floats, y: Floats, seen: Bools) -> Conditional:
    """The unseen visits given the seen ones. mean (B, n, m), covariance (B, m, m), y (n, m), seen (m,)."""
    o, u = np.flatnonzero(seen), np.flatnonzero(~seen)
    s_oo, s_ou = covariance[:, o[:, None], o], covariance[:, o[:, None], u]
    weight = np.linalg.solve(s_oo, s_ou)
    residual = y[None, :, o] - mean[:, :, o]
    rest = covariance[:, u[:, None], u] - np.swapaxes(s_ou, 1, 2) @ weight
    return Conditional(mean[:, :, u] + residual @ weight, (rest + np.swapaxes(rest, 1, 2)) / 2)


def draw(law: Conditional, rng: np.random.Generator) -> Floats:
    """One draw (B, n, k) from each conditional distribution."""
    values, vectors = np.linalg.eigh(law.covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
    return law.mean + rng.standard_normal(law.mean.shape) @ np.swapaxes(root, 1, 2)
