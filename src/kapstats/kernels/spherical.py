"""Probabilities of a multivariate t with any correlations, singular ones too, over directions.

With T = A Z / s, r = rank, Z = |Z| u and u uniform on the unit sphere, T stays within c when |Z| / s <= c / h(u), where
h(u) = max_j a_j'u (two-sided: max_j |a_j'u|), and |Z|^2 / (r s^2) is F(r, df): one integral over the sphere, the radius
in closed form. The sphere is filled by a rank-1 lattice (component by component, embedded in powers of two: Cools, Kuo
& Nuyens 2006, doi:10.1137/06065074X) with random shifts, whose spread says whether more points are needed.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]
_GENERATOR = (
    1, 182667, 469891, 498753, 110745, 446247, 250185, 118627, 245333, 283199, 408519, 391023, 246327, 126539, 399185,
    461527, 300343, 69681, 516695, 436179, 106383, 238523, 413283, 70841, 47719, 300129, 113029, 123925, 410745, 211325,
)  # fmt: skip
FEW, MANY = 2**14, 2**18  # points of a shift
SHIFTS = 4
CHUNK = 2**15
CELLS = 4096  # means of sorted h that stand for its distribution
SINGULAR = 1e-8  # eigenvalue of a correlation matrix that counts as zero
GOOD = 1e-6  # standard error over shifts that needs no more points


def outside(c: Floats, correlation: Floats, df: float, two_sided: bool) -> Floats:
    """P(some T_j > c), or P(some |T_j| > c), for each c (k,)."""
    root = _root(correlation)
    r, key = root.shape[1], root.tobytes()
    for points in (FEW, MANY):
        each = np.array([_tail(c, h, r, df) for h in _heights(key, root.shape, two_sided, points)])
        if (each.std(axis=0, ddof=1) / np.sqrt(SHIFTS)).max(initial=0.0) < GOOD:
            break
    return np.asarray(each.mean(axis=0))


def _root(correlation: Floats) -> Floats:
    """A (m, rank) with A A' = correlation."""
    w, v = np.linalg.eigh(correlation)
    keep = w > SINGULAR
    return np.asarray(v[:, keep] * np.sqrt(w[keep]))


def _tail(c: Floats, h: Floats, r: int, df: float) -> Floats:
    """Mean over h (n,) of the probability beyond c (k,) along a direction."""
    at, h = c[:, None], h[None, :]
    with np.errstate(divide="ignore", over="ignore"):
        x = np.where(h != 0, (at / np.where(h != 0, h, 1.0)) ** 2, np.inf)
    beyond = special.fdtrc(r, df, x / r) if np.isfinite(df) else special.chdtrc(r, x)
    out = np.where(at >= 0, np.where(h > 0, beyond, 0.0), np.where(h < 0, 1 - beyond, 1.0))
    return np.asarray(out.mean(axis=1))


@lru_cache(maxsize=32)
def _heights(key: bytes, shape: tuple[int, int], two_sided: bool, points: int) -> tuple[Floats, ...]:
    """Sorted h(u) of every shift, as means of cells of equal size."""
    root = np.frombuffer(key).reshape(shape)
    shifts = np.random.default_rng(20260101).random((SHIFTS, max(shape[1] - 1, 1)))
    found = []
    for shift in shifts:
        parts = [_of_chunk(root, shift, np.arange(i, min(i + CHUNK, points)), points, two_sided)
                 for i in range(0, points, CHUNK)]  # fmt: skip
        found.append(np.sort(np.concatenate(parts)).reshape(CELLS, -1).mean(axis=1))
    return tuple(found)


def _of_chunk(root: Floats, shift: Floats, k: NDArray[np.intp], points: int, two_sided: bool) -> Floats:
    projected = _directions(k, points, shift, root.shape[1]) @ root.T
    if two_sided:
        return np.asarray(np.abs(projected).max(axis=1))
    return np.concatenate([projected.max(axis=1), -projected.min(axis=1)])  # u and -u


def _directions(k: NDArray[np.intp], points: int, shift: Floats, r: int) -> Floats:
    """Unit vectors (n, r), for odd r (2 n, r); every pair of coordinates is a share of the length and an angle."""
    gen = np.array([*_GENERATOR, *(np.sqrt(np.arange(2, r + 2)) * points)])[: len(shift)] / points
    u = (k[:, None] * gen + shift) % 1.0
    out, left, at = np.zeros((len(u), r)), np.ones(len(u)), 0
    for first in range(0, r - 1, 2):
        rest = r - first - 2
        share = np.ones(len(u))
        if rest:
            share = 1 - (1 - np.abs(2 * u[:, at] - 1)) ** (2 / rest)
            at += 1
        length, angle = np.sqrt(left * share), 2 * np.pi * u[:, at]
        out[:, first], out[:, first + 1] = length * np.cos(angle), length * np.sin(angle)
        left, at = left * (1 - share), at + 1
    if r % 2 == 0:
        return out
    out[:, -1] = np.sqrt(left)
    return np.vstack([out, np.where(np.arange(r) == r - 1, -out, out)])
