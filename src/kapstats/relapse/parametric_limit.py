"""Parametric survival models whose likelihood rises for ever: a level without events, a covariate that separates."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from kapstats._types import BoolArray, FloatArray, IntArray
from kapstats.kernels import parametric_survival as ml
from kapstats.kernels.cox_newton import independent
from kapstats.kernels.recession import at_infinity, recession
from kapstats.relapse.parametric_layout import AFT, Layout


@dataclass(frozen=True, slots=True)
class Limit:
    """rows (n,) that still count at infinity; layout with the parameters held there that they do not determine;
    sign (q,) as in ``Recession``, 0 for parameters that stay finite."""

    rows: BoolArray
    layout: Layout
    sign: FloatArray

    def observed(self, every: ml.Observed) -> ml.Observed:
        """The rows that still count."""
        return ml.Observed(*(v[self.rows] for v in (every.left, every.right, every.entry, every.weights)))

    def at_infinity(self, fit: ml.Fit) -> ml.Fit:
        """The fit of those rows with the other parameters where they run to, their covariances NaN."""
        gone = self.sign != 0
        V = fit.vcov.copy()
        V[gone], V[:, gone] = np.nan, np.nan
        return replace(fit, theta=at_infinity(self.sign, fit.theta), vcov=V)


def limit_of(layout: Layout, X: FloatArray, observed: ml.Observed) -> Limit | None:
    """The likelihood at infinity when covariates X (n, p) separate rows without event from the others, else None.

    Along d in (intercept, slopes) the likelihood rises where later times become likelier for right-censored rows,
    earlier ones for left-censored rows, and the location of all other rows stays; a row that moves then adds 0.
    """
    D = np.column_stack([np.ones(len(X)), X])
    later = D if layout.distribution in AFT else -D
    right, left = np.isinf(observed.right), (observed.left <= 0) & np.isfinite(observed.right)
    found = recession(np.vstack([later[right], -later[left]]), np.append(1.0, np.ptp(X, axis=0)), D[~right & ~left])
    if found is None:
        return None
    rows = np.abs(D @ found.direction) <= 1e-9 * np.abs(found.direction).max()
    kept = independent(D[rows].T @ D[rows])
    sign, free = np.zeros(len(layout.names)), layout.free.copy()
    sign[_intercepts(layout)], sign[layout.slopes] = found.sign[0], found.sign[1:]
    free[layout.slopes] &= kept[1:]
    start = np.where(free | ~layout.free, layout.start, 0.0)
    return Limit(rows, replace(layout, free=free, start=start), sign)


def _intercepts(layout: Layout) -> IntArray:
    """Parameters that all rows have in their location: the log hazard of every interval, or the intercept."""
    return np.arange(layout.slopes.start) if layout.distribution == "piecewise-exponential" else np.zeros(1, np.int64)
