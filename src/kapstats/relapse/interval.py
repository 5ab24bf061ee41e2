"""Interval-censored relapse: Turnbull curves and the generalised log-rank test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from kapstats import estimates, frames
from kapstats._types import FloatArray, FrameLike
from kapstats.errors import ConvergenceError, FormulaError, check_memory, choose
from kapstats.estimates import Curve, Estimates, Picture, sealed, stored
from kapstats.inference.intervals import check_level
from kapstats.kernels import npmle
from kapstats.kernels.risk_sets import snap
from kapstats.relapse.follow_up import FollowUp, each
from kapstats.relapse.regression import refuse_terms, shown_as
from kapstats.relapse.surv_data import (
    Groups,
    SurvData,
    check_convention,
    checked_times,
    compared,
    group_rows,
    group_terms,
    unpack,
)

SCORES = ("logrank", "wilcoxon")
BOUNDS = ("estimate", "conf_low", "conf_high")


@shown_as("median")
@sealed
@dataclass(frozen=True)
class Turnbull:
    """Nonparametric maximum likelihood curves of interval-censored times, by group.

    frame : one row per group and interval with mass; fits : the estimates with their certificates, per group
    """

    frame: pd.DataFrame
    groups: Groups
    fits: tuple[npmle.Npmle, ...]
    surv: SurvData
    closed: bool
    meta: dict[str, Any]

    def to_frame(self) -> Any:
        """Stratum columns, left right mass estimate (S after the interval) conf_low conf_high."""
        return frames.restore(stored(self), self.meta["frame_kind"])

    @property
    def estimates(self) -> Estimates:
        """The intervals with mass as `Estimates`."""
        names = self.groups.frame.astype(str).agg(", ".join, axis=1) if len(self.groups.frame.columns) else ["All"]
        n = dict(zip(names, np.bincount(self.groups.codes).tolist(), strict=True))
        picture = Picture("turnbull", {"strata": list(self.groups.frame.columns), "n": n})
        return Estimates(stored(self), self.meta, picture=picture)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the reader of these numbers has to know."""
        return tuple(self.meta["warnings"])

    @property
    def loglik(self) -> float:
        """Summed over the groups."""
        return float(sum(f.loglik for f in self.fits))

    @property
    def converged(self) -> bool:
        """Whether the maximum is certified."""
        return all(f.converged for f in self.fits)

    def certificate(self) -> Estimates:
        """Log-likelihood and Kuhn-Tucker violation per group (0: the maximum is certified)."""
        rows = [
            {**self._key(g), "loglik": f.loglik, "kkt": f.kkt, "iterations": f.iterations}
            for g, f in enumerate(self.fits)
        ]
        return Estimates(pd.DataFrame(rows), {**self.meta, "title": "Certificate of the maximum"})

    def at(self, times: float | Sequence[float], *, extend: bool = False) -> Estimates:
        """Survival at `times`; inside an interval with mass only the range `lowest` to `highest` is determined.

        `estimate` takes the mass of such an interval at its right end (at its middle under convention="R"). Past a
        group's last bound nothing is known (NE), unless survival has reached 0; ``extend=True`` carries it forward.
        """
        t = snap(checked_times(times), self._bounds())
        rows = []
        for g, fit in enumerate(self.fits):
            highest = npmle.survival_at(fit, t)
            started = np.concatenate([[0.0], np.cumsum(fit.mass)])[np.searchsorted(fit.cliques.left, t, side="left")]
            lowest = np.minimum(highest, np.maximum(1.0 - started, 0.0))
            columns = {"time": t, "estimate": self.curve(g)(t, extend=True), "lowest": lowest, "highest": highest}
            rows.append(pd.DataFrame({**{k: [v] * t.size for k, v in self._key(g).items()}, **columns}))
        made = Estimates(pd.concat(rows, ignore_index=True), {**self.meta, "title": "Survival at given times"})
        return self.follow_up.within(made, each(len(self.groups), t.size), extend=extend)

    @property
    def follow_up(self) -> FollowUp:
        """Until when each curve is known: the last finite bound of a group."""
        ended = [float(1.0 - f.mass[np.isfinite(f.cliques.right)].sum()) < 1e-12 for f in self.fits]
        return FollowUp.of(self.surv, self.groups).ending(ended)

    def _bounds(self) -> FloatArray:
        assert self.surv.left is not None
        assert self.surv.right is not None
        return np.concatenate([self.surv.left, self.surv.right])

    def quantile(self, q: float | Sequence[float] = 0.5) -> Estimates:
        """The interval (left, right] in which a share `q` is reached; estimate is its right end (NaN: not reached)."""
        rows = []
        for g, fit in enumerate(self.fits):
            reached = np.cumsum(fit.mass)
            for p in np.atleast_1d(np.asarray(q, float)):
                if not 0 < p < 1:
                    raise FormulaError(f"quantile({q}): a share lies between 0 and 1, such as 0.5.")
                k = int(np.searchsorted(reached, p - 1e-12))
                there = k < reached.size and np.isfinite(fit.cliques.right[k])
                left = float(fit.cliques.left[k]) if k < reached.size else np.nan
                right = float(fit.cliques.right[k]) if there else np.nan
                rows.append({**self._key(g), "quantile": p, "estimate": right, "left": left, "right": right})
        return Estimates(pd.DataFrame(rows), {**self.meta, "title": "Quantiles of time"})

    def median(self) -> Estimates:
        """The interval that holds the median."""
        return self.quantile(0.5)

    def curve(self, group: int = 0) -> Curve:
        """Survival with each interval's mass at its right end (middle: convention="R"), NaN past follow-up."""
        fit = self.fits[group]
        finite = np.isfinite(fit.cliques.right)
        left, right = fit.cliques.left[finite], fit.cliques.right[finite]
        jump = (left + right) / 2.0 if self.meta["convention"] == "R" else right
        value, until = np.maximum(1.0 - np.cumsum(fit.mass)[finite], 0.0), float(self.follow_up.last[group])
        return Curve(jump, value, until=until, of=self.groups.labels[group])

    def test(self, scores: str = "logrank", *, strata: Sequence[str] = ()) -> Estimates:
        """Generalised log-rank (or Wilcoxon) test of equal curves by permutation of rank scores.

        The score of an interval is [S(l) log S(l) - S(r) log S(r)] / [S(l) - S(r)] with the pooled estimate S
        (Finkelstein 1986), or S(l) + S(r) - 1; group sums are referred to their permutation covariance (in `strata`).
        """
        choose(scores, SCORES, "scores")
        if len(self.groups) < 2:
            raise FormulaError("A test needs two groups; name a grouping column on the right-hand side.")
        assert self.surv.left is not None
        assert self.surv.right is not None
        pooled = npmle.npmle(self.surv.left, self.surv.right, closed=self.closed)
        stratum = group_rows(self.surv.frame, list(strata)).codes if strata else None
        found = npmle.permutation_test(
            npmle.interval_scores(pooled, kind=scores), self.groups.codes, len(self.groups), stratum
        )
        row = {"statistic": found.statistic, "df": found.df, "p_value": found.p_value}
        name = {"logrank": "generalised log-rank", "wilcoxon": "generalised Wilcoxon"}[scores]
        method = f"{name} test for interval-censored data, permutation covariance"
        meta = {
            **self.meta,
            "method": method,
            "title": "Test of equal curves",
            "level": None,
            "sentence": f"{method}; {self.surv.sentence()}",
            "score": dict(zip(self.groups.labels, found.score.tolist(), strict=True)),
        }
        return Estimates(pd.DataFrame([row]), meta)

    def plot(self, ax: Any = None, **options: Any) -> Any:
        """The curves with the intervals inside which they are not determined."""
        return self.estimates.plot(ax=ax, **options)

    def explain(self) -> str:
        """The methods paragraph."""
        return (
            f"{self.meta['sentence']}. Survival was estimated by nonparametric maximum likelihood for "
            "interval-censored times (Turnbull, J R Stat Soc B 1976; 38: 290-295); the Kuhn-Tucker conditions certify "
            "the maximum."
        )

    def _key(self, group: int) -> dict[str, Any]:
        return self.groups.frame.iloc[group].to_dict()


def turnbull(
    formula: str,
    data: FrameLike,
    *,
    weights: str | Sequence[float] | FloatArray | None = None,
    closed: bool = False,
    bootstrap: int = 0,
    seed: int = 1,
    level: float = 0.95,
    order: Mapping[str, Sequence[Any]] | None = None,
    convention: str | None = None,
) -> Turnbull:
    """Survival curves of interval-censored times by nonparametric maximum likelihood.

    Maximises sum_i log P(T in (left_i, right_i]) over all distributions; the mass lies on the innermost intervals, and
    inside each of them the curve is not determined.

    Parameters
    ----------
    formula : ``Surv(left, right, type="interval2") ~ groups``; right missing or infinite is right-censored, left
        missing is left-censored, left = right an exact time
    weights : case weights, column or numbers
    closed : intervals [left, right] instead of (left, right]
    convention : "R" puts the mass of an interval at its middle in `at`, `curve` and the figure, as survfit does; "SAS"
        and the default put it at the right end. The masses are the same: survfit maximises the half-open likelihood
    bootstrap : resamples for percentile limits of S after each interval; 0 gives none
    seed : of the bootstrap

    Returns
    -------
    Turnbull : ``to_frame() at(times) quantile(q) median() test() certificate() plot()``

    Raises
    ------
    ConvergenceError
        The Kuhn-Tucker conditions could not be met.

    Agrees with
    -----------
    npsurv, icenReg 2.0.16 and an EM run to 1e-13: masses 1e-6, log-likelihood 1e-9.

    References
    ----------
    Peto (1973) Appl Stat 22: 86-91. Turnbull (1976) J R Stat Soc B 38: 290-295. Wang (2007) J R Stat Soc B 69: 185-198.

    Examples
    --------
    >>> import pandas as pd
    >>> data = pd.DataFrame({"L": [0, 2, 4, 3], "R": [2, 5, 6, None]})
    >>> turnbull("Surv(L, R, type='interval2') ~ 1", data).to_frame()["mass"].round(4).tolist()
    [0.25, 0.75]
    """
    convention = check_convention(convention)
    surv = unpack(formula, data, weights=weights, order=order, allow=("interval2",))
    refuse_terms(surv, "a Turnbull curve", allow=("strata",))
    groups = group_rows(surv.frame, [*group_terms(surv.formula), *surv.formula.strata], order)
    surv = compared(surv, groups)
    check_level(level)
    fits = tuple(_fit_group(surv, groups.codes == g, closed, formula) for g in range(len(groups)))
    rng = np.random.default_rng(seed)
    parts = []
    for g, fit in enumerate(fits):
        kept = fit.mass > 1e-10
        S = np.maximum(1.0 - np.cumsum(fit.mass), 0.0)[kept]
        S[S < 1e-12] = 0.0
        right = fit.cliques.right[kept]
        low, high = _bootstrap(surv, groups.codes == g, closed, right, bootstrap, level, rng)
        key = {c: [v] * right.size for c, v in groups.frame.iloc[g].items()}
        columns = {"left": fit.cliques.left[kept], "right": right, "mass": fit.mass[kept]}
        bounds = dict(zip(BOUNDS, (S, low, high), strict=True))
        parts.append(pd.DataFrame({**key, **columns, **bounds}))
    meta = _turnbull_meta(surv, closed, bootstrap, level, convention)
    return Turnbull(pd.concat(parts, ignore_index=True), groups, fits, surv, closed, meta)


def _fit_group(surv: SurvData, rows: Any, closed: bool, formula: str) -> npmle.Npmle:
    assert surv.left is not None
    assert surv.right is not None
    weights = None if surv.weights is None else surv.weights[rows]
    few = npmle.cliques(surv.left[rows], surv.right[rows], closed=closed).left.size
    check_memory(
        3.0 * few * surv.left[rows].size,
        f"{formula!r}: {surv.left[rows].size:,} rows with {few:,} innermost intervals",
        "Round the times (to days or visits), so that intervals coincide.",
    )
    fit = npmle.npmle(surv.left[rows], surv.right[rows], weights=weights, closed=closed)
    if not fit.converged:
        raise ConvergenceError(f"{formula!r}: the maximum is not certified (Kuhn-Tucker violation {fit.kkt:.2g}).")
    return fit


def _bootstrap(
    surv: SurvData, rows: Any, closed: bool, times: FloatArray, resamples: int, level: float, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Percentile limits of S at `times` by resampling subjects of a group."""
    if not resamples:
        return np.full(times.size, np.nan), np.full(times.size, np.nan)
    assert surv.left is not None
    assert surv.right is not None
    left, right = surv.left[rows], surv.right[rows]
    weights = None if surv.weights is None else surv.weights[rows]
    drawn = np.empty((resamples, times.size))
    for b in range(resamples):
        pick = rng.integers(0, left.size, left.size)
        fit = npmle.npmle(left[pick], right[pick], weights=None if weights is None else weights[pick], closed=closed)
        drawn[b] = npmle.survival_at(fit, times)
    return np.quantile(drawn, (1 - level) / 2, axis=0), np.quantile(drawn, (1 + level) / 2, axis=0)


def _turnbull_meta(
    surv: SurvData, closed: bool, bootstrap: int, level: float, convention: str | None
) -> dict[str, Any]:
    method = "nonparametric maximum likelihood (Turnbull)"
    limits = f"percentile bootstrap, {bootstrap} resamples" if bootstrap else "no limits (bootstrap=0)"
    shape = "[left, right] closed" if closed else "(left, right] half-open"
    return estimates.meta(
        method=f"{method}, {limits}",
        level=level,
        title="Survival (interval-censored)",
        sentence=f"{method}, {limits}; {surv.sentence()}",
        warnings=surv.warnings,
        estimand="probability of no event up to the time",
        conventions=(
            f"intervals {shape}",
            f"mass of an interval at its {'middle' if convention == 'R' else 'right end'}",
            *([f"convention {convention}"] if convention else []),
        ),
        convention=convention,
        data=surv.data_print,
        frame_kind=surv.kind,
    )
