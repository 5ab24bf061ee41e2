"""Pattern statistics of many resampled trials at once: each subject counts as often as it was drawn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kapstats.kernels.pattern_moments import Layout, PatternMoments, pack_pairs, pair_index

Floats = NDArray[np.float64]


def resampled(z: Floats, arranged: Layout, times: Floats) -> PatternMoments:
    """Statistics of B trials in which subject i stands times[b, i] times. z (N, c), times (B, n) counts >= 0."""
    parts, count = [], []
    n_obs = np.zeros(len(times))
    for rows, who in zip(arranged.rows, arranged.subjects, strict=True):
        own = pack_pairs(np.einsum("nsi,ntj->nstij", z[rows], z[rows]))
        drawn = times[:, who]
        parts.append((drawn @ own.reshape(len(who), -1)).reshape(len(times), *own.shape[1:]))
        count.append(drawn.sum(1))
        n_obs += drawn.sum(1) * rows.shape[1]
    return PatternMoments(
        arranged.seen, arranged.block, np.stack(count, axis=1), n_obs, np.zeros(len(times)),
        pair_index(arranged.seen), np.concatenate(parts, axis=1),
    )  # fmt: skip
