"""Type I error and coverage of the MMRM in small trials, against the normal reference failing the same check."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from kapstats.kernels.covariance import Structure
from kapstats.kernels.pattern_moments import replicate_moments
from kapstats.kernels.replicates import answers
from kapstats.kernels.scoring import fit

VISITS, REPLICATES = 4, 5000


def trials(per_arm: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Design rows (n, m, q), responses (B, n, m) with dropout at random, and the last visit's contrast; truth 0."""
    rng = np.random.default_rng(seed)
    n, m = 2 * per_arm, VISITS
    arm = np.repeat([0.0, 1.0], per_arm)
    x = np.concatenate([np.broadcast_to(np.eye(m), (n, m, m)), arm[:, None, None] * np.eye(m)], axis=2)
    lag = np.abs(np.subtract.outer(np.arange(m), np.arange(m)))
    sd = np.linspace(6, 9, m)
    root = np.linalg.cholesky(np.outer(sd, sd) * 0.65**lag)
    y = -np.arange(m) * 2.0 + rng.normal(size=(REPLICATES, n, m)) @ root.T
    # missing at random: the worse the last change seen, the likelier the dropout; a third are gone at the end
    leave = rng.random((REPLICATES, n, m - 1)) < special.expit(-1.9 + y[:, :, :-1] / 12)
    gone = np.concatenate([np.zeros((REPLICATES, n, 1), bool), np.logical_or.accumulate(leave, axis=2)], axis=2)
    rows = np.zeros((1, 2 * m))
    rows[0, -1] = 1.0
    return x, np.where(gone, np.nan, y), rows


def outcomes(per_arm: int) -> dict[str, np.ndarray]:
    """For each method whether the 95 % interval holds the true difference of zero (converged replicates)."""
    x, y, rows = trials(per_arm, seed=per_arm)
    held: dict[str, list[np.ndarray]] = {"kenward-roger": [], "normal": []}
    for part in np.array_split(y, REPLICATES // 500):
        stats = replicate_moments(x, part)
        fits = fit(stats, Structure("us", VISITS, np.zeros(1, dtype=np.intp)))
        estimate = fits.point.beta @ rows[0]
        for method, cover in held.items():
            vcov, df = answers(stats, fits, rows, method)
            t = np.where(np.isinf(df[:, 0]), special.ndtri(0.975), special.stdtrit(np.minimum(df[:, 0], 1e9), 0.975))
            inside = np.abs(estimate) <= t * np.sqrt(np.einsum("i,bij,j->b", rows[0], vcov, rows[0]))
            cover.append(inside[fits.converged])
    return {method: np.concatenate(cover) for method, cover in held.items()}


def holds(inside: np.ndarray) -> bool:
    """Coverage within four Monte-Carlo standard errors of 95 %."""
    return bool(abs(inside.mean() - 0.95) < 4 * np.sqrt(0.95 * 0.05 / len(inside)))


@pytest.mark.parametrize("per_arm", [10, 20])
def test_kenward_roger_covers_and_the_normal_reference_does_not(per_arm: int) -> None:
    found = outcomes(per_arm)
    assert len(found["kenward-roger"]) > 0.98 * REPLICATES
    assert holds(found["kenward-roger"])
    assert not holds(found["normal"]), "the check has no power"
