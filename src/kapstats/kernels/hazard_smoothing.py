"""Kernel weights that turn the jumps of a cumulative hazard into a hazard, with corrected edges."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def weights(times: FloatArray, jumps: FloatArray, bandwidth: float, end: float) -> FloatArray:
    """(T, K) weights of the jumps at `jumps` (K,) in the hazard at `times` (T,), follow-up being (0, end].

    Epanechnikov's kernel K(u) = 3/4 (1 - u^2). Where the window reaches past 0 or `end` it is (a + c u) K(u) with a and
    c such that its integral is 1 and its first moment 0: a hazard that is linear in time keeps its value at the edges.
    """
    low = np.maximum(-1.0, -times / bandwidth)
    high = np.minimum(1.0, (end - times) / bandwidth)
    m0, m1, m2 = (_moment(high, j) - _moment(low, j) for j in range(3))
    u = (jumps[None, :] - times[:, None]) / bandwidth
    inside = (np.abs(u) <= 1.0) & (jumps <= end)[None, :]
    kernel = np.where(inside, 0.75 * (1.0 - u**2), 0.0)
    return (m2[:, None] - m1[:, None] * u) / (m0 * m2 - m1**2)[:, None] * kernel / bandwidth


def _moment(u: FloatArray, j: int) -> FloatArray:
    """Integral of v^j K(v) up to u, from 0."""
    return 0.75 * (u ** (j + 1) / (j + 1) - u ** (j + 3) / (j + 3))
