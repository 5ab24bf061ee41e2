"""Kaplan-Meier curves: survival, limits, quantiles, milestone and median differences, numbers at risk."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import chdtri, ndtr

from kapstats import estimates, frames
from kapstats._types import FloatArray, FrameLike, IntArray
from kapstats.errors import FormulaError, choose
from kapstats.estimates import Curve, Estimates, Picture, sealed, stored
from kapstats.inference.intervals import check_level, wald, with_inference
from kapstats.kernels import product_limit as pl
from kapstats.kernels.risk_sets import risk_sets, snap
from kapstats.relapse.follow_up import FollowUp, each
from kapstats.relapse.regression import shown_as
from kapstats.relapse.surv_data import (
    Groups,
    SurvData,
    check_convention,
    group_rows,
    group_terms,
    unpack,
    unstated_order,
)

ESTIMATORS = ("kaplan-meier", "nelson-aalen", "fleming-harrington")
LIMITS = ("estimate", "conf_low", "conf_high")
#: the curve before its first time
BEFORE = {"estimate": 1.0, "std_error": 0.0, "conf_low": 1.0, "conf_high": 1.0}


@shown_as("median")
@sealed
@dataclass(frozen=True)
class KaplanMeier:
    """Survival curves by group.

    frame : one row per group and distinct time; groups : the groups, in order; meta : method, level, conventions ...
    follow_up : who is followed from when to when
    """

    frame: pd.DataFrame
    groups: Groups
    meta: dict[str, Any]
    nelson_aalen: pd.DataFrame
    follow_up: FollowUp

    def to_frame(self) -> Any:
        """Stratum columns, time n_risk n_event n_censor estimate std_error conf_low conf_high, as the caller's kind."""
        return frames.restore(stored(self), self.meta["frame_kind"])

    @property
    def estimates(self) -> Estimates:
        """The curves as `Estimates`."""
        options = {"strata": self._strata, "n_at_risk": self.follow_up.below}
        if self.meta["convention"] == "SAS" and self.median()["estimate"].isna().any():
            options["medians"] = False  # a curve that rests on one half has no median there
        return Estimates(stored(self), self.meta, picture=Picture("kaplan_meier", options))

    @property
    def _strata(self) -> list[str]:
        return list(self.groups.frame.columns)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the reader of these curves has to know."""
        return tuple(self.meta["warnings"])

    @property
    def level(self) -> float:
        """Confidence level of the limits."""
        return float(self.meta["level"])

    @property
    def labels(self) -> tuple[str, ...]:
        """``TRT01P=KAP`` of each group."""
        return self.groups.labels

    def curve(self, group: int = 0, column: str = "estimate") -> Curve:
        """One curve as a right-continuous step function of time; S is 1 before its first step, NaN past follow-up."""
        part = stored(self).loc[self._rows(group)]
        until, name = float(self.follow_up.last[group]), self.labels[group]
        return Curve(part["time"].to_numpy(float), part[column].to_numpy(float), until=until, of=name)

    def hazard(self) -> Estimates:
        """Nelson-Aalen cumulative hazard with its standard error and log limits, on the times of the curves."""
        h, se = (self.nelson_aalen[c].to_numpy(float) for c in ("hazard", "hazard_std_error"))
        z = -wald(0.0, 1.0, level=self.level)["conf_low"]
        with np.errstate(divide="ignore", invalid="ignore"):
            spread = np.exp(z * se / h)
            limits = {"conf_low": np.where(h > 0, h / spread, 0.0), "conf_high": np.where(h > 0, h * spread, np.nan)}
        keep = [*self.groups.frame.columns, "time", "n_risk", "n_event", "n_censor"]
        frame = stored(self)[keep].assign(estimate=h, std_error=se, **limits)
        meta = {**self.meta, "title": "Cumulative hazard", "method": "Nelson-Aalen, log limits"}
        options = {"strata": self._strata, "ylabel": "Cumulative hazard", "percent": False}
        return Estimates(frame, meta, picture=Picture("cumulative_incidence", options))

    def median(self) -> Estimates:
        """Median time to the event by group with Brookmeyer-Crowley limits."""
        return self.quantile(0.5)

    def quantile(self, q: float | Sequence[float] = 0.5) -> Estimates:
        """Times by which a share `q` has had the event, with limits read off the pointwise band (NaN: not reached).

        Where S rests on 1 - q over an interval the midpoint is given, as R's quantile and SAS do. When S rests there up
        to the last time, the interval ends there (as R); under convention="SAS" the quantile is then not reached, and
        limits are read as the set of times whose interval holds 1 - q. A limit that rises again late is read at its
        first crossing; under convention="R" it is read as R does, with the limit's values sorted by height.
        """
        shares = np.atleast_1d(np.asarray(q, dtype=float))
        if ((shares <= 0) | (shares > 1)).any():
            raise FormulaError(f"quantile({q}): a share lies above 0 and at most 1, such as 0.5.")
        rows = []
        for g, p in itertools.product(range(len(self.groups)), shares):
            part = stored(self).loc[self._rows(g)]
            at = self._quantile(part["time"].to_numpy(float), [part[c].to_numpy(float) for c in LIMITS], float(p))
            rows.append({**self._key(g), "quantile": p, **self._counts(g)} | dict(zip(LIMITS, at, strict=True)))
        title = "Median time" if np.all(shares == 0.5) else "Quantiles of time"
        return Estimates(pd.DataFrame(rows), {**self.meta, "title": title})

    def _quantile(self, time: FloatArray, curves: Sequence[FloatArray], q: float) -> list[float]:
        """Where survival and its limits (or survival alone) reach 1 - q, by the rule of the convention."""
        if self.meta["convention"] == "SAS":
            return [pl.quantile_sas(time, c, q, rule) for c, rule in zip(curves, pl.SAS_RULES, strict=False)]
        by_height = self.meta["convention"] == "R"
        return [pl.crossing(*(pl.by_height(time, c) if by_height else (time, c)), q) for c in curves]

    def at(self, times: float | Sequence[float], *, extend: bool = False) -> Estimates:
        """Survival at `times`, the number at risk there (entry < t <= time), events since the last of `times`.

        After a group's last time survival is not known (NE), unless it has reached 0; ``extend=True`` carries it on.
        """
        found = Estimates(self._rows_at(self.follow_up.asked(times)), {**self.meta, "title": "Survival at given times"})
        size = len(self.groups)
        return self.follow_up.within(found, each(size, len(found) // size), extend=extend)

    def at_risk(self, times: float | Sequence[float]) -> Estimates:
        """Numbers at risk at `times`, events and censorings up to and including them: the table under a figure.

        At risk at t are those with entry < t <= time; at t = 0 also those who enter at 0.
        """
        t = self.follow_up.asked(times)
        counts = [self._cumulative(g, t) for g in range(len(self.groups))]
        frame = self._rows_at(t)[[*self.groups.frame.columns, "time", "n_risk"]].reset_index(drop=True)
        frame = pd.concat([frame, pd.concat(counts, ignore_index=True)], axis=1)
        return Estimates(frame, {**self.meta, "title": "Numbers at risk"})

    def milestone(
        self,
        times: float | Sequence[float],
        *,
        ref: int | str | None = None,
        scale: str = "plain",
        extend: bool = False,
    ) -> Estimates:
        """Differences in survival at `times`, each group minus the reference group.

        scale : "plain" tests S1 - S0 = 0; "log-log" tests equality of log(-log S); the limits are always those of
        the plain difference with Greenwood's variance.
        extend : carry the curves on past each group's follow-up, where a difference is otherwise not estimable
        """
        choose(scale, ("plain", "log-log"), "scale")
        seen, zero = self.at(times, extend=extend), self._reference(ref)
        found, size = seen.frame, len(seen) // len(self.groups)
        base = found.iloc[zero * size : (zero + 1) * size]
        rows = []
        for g in (i for i in range(len(self.groups)) if i != zero):
            part = found.iloc[g * size : (g + 1) * size]
            frame = pd.DataFrame({"contrast": self._contrast(g, zero), "time": part["time"].to_numpy()})
            rows.append(_difference(frame, part, base, self.level, scale))
        method = f"difference of Kaplan-Meier survival, Greenwood variance, z test on the {scale} scale"
        return Estimates(pd.concat(rows, ignore_index=True), {**seen.meta, "title": "Milestone", "method": method})

    def median_difference(self, *, q: float = 0.5, ref: int | str | None = None) -> Estimates:
        """Difference of medians (or quantiles), each group minus the reference, limits by inverting a joint test.

        The interval holds every difference t1 - t0 with z1(t1)^2 + z0(t0)^2 at most the chi-square (1 df) quantile,
        z the standardised distance of each curve from 1 - q (Su and Wei 1993, with Greenwood's variance at t).
        """
        zero, rows = self._reference(ref), []
        for g in (i for i in range(len(self.groups)) if i != zero):
            one, two = (stored(self).loc[self._rows(i)] for i in (g, zero))
            low, high = _su_wei(one, two, 1.0 - q, float(chdtri(1, 1 - self.level)))
            pairs = [(p["time"].to_numpy(float), [p["estimate"].to_numpy(float)]) for p in (one, two)]
            medians = [self._quantile(time, survival, q)[0] for time, survival in pairs]
            cells = dict(zip(LIMITS, (medians[0] - medians[1], low, high), strict=True))
            rows.append({"contrast": self._contrast(g, zero), "quantile": q, **cells})
        method = "difference of Kaplan-Meier quantiles, limits by test inversion (Su and Wei 1993)"
        return Estimates(pd.DataFrame(rows), {**self.meta, "title": "Difference of medians", "method": method})

    def summary(self) -> Estimates:
        """Rows, events and median by group."""
        return self.median()

    def table(self, digits: int = 2) -> Any:
        """Medians as a `Table`."""
        return self.median().table(digits)

    def explain(self) -> str:
        """The methods paragraph."""
        return (
            f"{self.meta['sentence']}. Survival was estimated by the {self.meta['method']}; "
            f"pointwise {100 * self.level:g}% limits on the {self.meta['conf_type']} scale; quantiles with limits by "
            "Brookmeyer and Crowley (Biometrics 1982; 38: 29-41)."
        )

    def smoothed_hazard(self, times: Sequence[float] | None = None, *, bandwidth: float | None = None) -> Estimates:
        """Hazard over time by group: the Nelson-Aalen jumps smoothed by Epanechnikov's kernel, with log limits.

        h(t) = sum K_t(u) d(u) / n(u), variance sum K_t(u)^2 d(u) / n(u)^2 (Ramlau-Hansen 1983, Ann Stat 11: 453-466).
        Near 0 and the group's last time the kernel is corrected so that a hazard linear in time is not biased.

        Parameters
        ----------
        times : where; by default 101 points from 0 to the last time (a group stops at its own last time)
        bandwidth : half width of the window in units of time; a fifth of the follow-up when not given
        """
        from kapstats.relapse.smooth_hazard import smoothed_hazard

        return smoothed_hazard(self, times, bandwidth)

    def plot(self, ax: Any = None, risk_table: bool = True, *, kind: str = "survival", **options: Any) -> Any:
        """The curves with bands, censoring marks and the numbers at risk; kind="hazard": the smoothed hazard."""
        if choose(kind, ("survival", "hazard"), "kind") == "hazard":
            return self.smoothed_hazard(bandwidth=options.pop("bandwidth", None)).plot(ax=ax, **options)
        return self.estimates.plot(ax=ax, risk_table=risk_table, **options)

    def _rows(self, group: int) -> slice:
        start = self.meta["group_start"]
        return slice(start[group], start[group + 1] - 1)

    def _key(self, group: int) -> dict[str, Any]:
        return self.groups.frame.iloc[group].to_dict()

    def _counts(self, group: int) -> dict[str, Any]:
        return {"n": self.meta["group_n"][group], "n_events": self.meta["group_events"][group]}

    def _contrast(self, group: int, zero: int) -> str:
        return f"{self.groups.names[group]} - {self.groups.names[zero]}"

    def _reference(self, ref: int | str | None) -> int:
        if len(self.groups) < 2:
            raise FormulaError("A difference needs two groups; name a grouping column on the right-hand side.")
        if ref is None:
            return 0
        return self.groups.names.index(choose(str(ref), self.groups.names, "ref"))

    def _rows_at(self, times: FloatArray) -> pd.DataFrame:
        """Counts and carried-forward values of every group at `times`."""
        risk = self.follow_up.at_risk(times)
        return pd.concat([self._at_one(g, times, _whole(risk[g])) for g in range(len(self.groups))], ignore_index=True)

    def _at_one(self, group: int, times: FloatArray, risk: FloatArray | IntArray) -> pd.DataFrame:
        part = stored(self).loc[self._rows(group)]
        grid = part["time"].to_numpy(float)
        behind = np.searchsorted(grid, times, side="right")
        total = np.append(0.0, np.cumsum(part["n_event"].to_numpy(float)))[behind]
        values = {c: np.append(start, part[c].to_numpy(float))[behind] for c, start in BEFORE.items()}
        key = {name: [value] * len(times) for name, value in self._key(group).items()}
        return pd.DataFrame({**key, "time": times, "n_risk": risk, "n_event": np.diff(total, prepend=0.0), **values})

    def _cumulative(self, group: int, times: FloatArray) -> pd.DataFrame:
        part = stored(self).loc[self._rows(group)]
        behind = np.searchsorted(part["time"].to_numpy(float), times, side="right")
        sums = {c: np.append(0.0, np.cumsum(part[c].to_numpy(float)))[behind] for c in ("n_event", "n_censor")}
        return pd.DataFrame(sums)


def kaplan_meier(
    formula: str,
    data: FrameLike,
    *,
    conf_type: str | None = None,
    level: float = 0.95,
    weights: str | Sequence[float] | FloatArray | None = None,
    robust: bool | None = None,
    estimator: str = "kaplan-meier",
    lower: str = "usual",
    start: float | None = None,
    order: Mapping[str, Sequence[Any]] | None = None,
    convention: str | None = None,
) -> KaplanMeier:
    """Survival curves by group, with pointwise limits.

    S(t) = prod over event times u <= t of (1 - d(u) / n(u)), with n(u) the (weighted) number with entry < u <= time.
    The standard error is Greenwood's, S^2 sum d / (n (n - d)); with weights that are not whole numbers, or with
    ``cluster(id)``, that of the infinitesimal jackknife.

    Parameters
    ----------
    formula : ``Surv(time, event) ~ groups`` or ``Surv(entry, time, event) ~ groups``; ``~ 1`` for one curve
    data : one row per subject (or per (entry, time] piece), time in any unit
    conf_type : scale of the limits: plain, log, log-log (default, as SAS), logit, arcsin
    level : confidence level
    weights : case weights, column or numbers
    robust : infinitesimal-jackknife standard errors; None decides by the weights, as R
    estimator : "kaplan-meier"; "nelson-aalen" is exp(-H), "fleming-harrington" exp(-H) with H broken up within ties
    lower : "usual", or "peto" or "modified" (Dorey and Korn) for a lower limit that widens between events
    start : estimate survival given that the event has not happened before this time
    order : level order of the grouping columns
    convention : "R" (log limits; limits missing while S is 1 on the log-log, logit and arcsin scales) or "SAS"
        (log-log limits, equal to 1 while S is 1; times are not merged)

    Returns
    -------
    KaplanMeier : ``to_frame() median() quantile(q) at(times) milestone(times) median_difference() hazard() plot()``

    Raises
    ------
    FormulaError, DataError
        A bare CNSR as event, an unknown column, negative times, events other than 0/1.

    Agrees with
    -----------
    R survival 3.5-3 (survfit, quantile), relative error below 1e-10.

    References
    ----------
    Kaplan and Meier (1958) J Am Stat Assoc 53: 457-481. Brookmeyer and Crowley (1982) Biometrics 38: 29-41.

    Examples
    --------
    >>> import pandas as pd
    >>> data = pd.DataFrame({"AVAL": [1.0, 2.0, 3.0, 4.0], "EVENT": [1, 1, 1, 1]})
    >>> km = kaplan_meier("Surv(AVAL, EVENT) ~ 1", data)
    >>> km.to_frame()["estimate"].tolist(), km.median()["estimate"].tolist()
    ([0.75, 0.5, 0.25, 0.0], [2.5])
    """
    convention = check_convention(convention)
    conf_type = choose(conf_type or ("log" if convention == "R" else "log-log"), pl.CONF_TYPES, "conf_type")
    choose(estimator, ESTIMATORS, "estimator")
    choose(lower, ("usual", "peto", "modified"), "lower")
    surv = unpack(formula, data, weights=weights, order=order, merge_times=convention != "SAS")
    groups = group_rows(surv.frame, [*group_terms(surv.formula), *surv.formula.strata], order)
    keep = np.ones(len(surv), bool) if start is None else surv.time >= snap(np.array([float(start)]), surv.time)
    sets = risk_sets(
        surv.time[keep], surv.event[keep], _part(surv.entry, keep), groups.codes[keep], len(groups), every=True
    )
    robust = _jackknife_wanted(surv) if robust is None else robust
    cluster = (np.arange(len(surv)) if surv.cluster is None else surv.cluster) if robust else None
    curve = pl.product_limit(sets, _part(surv.weights, keep), _part(cluster, keep))
    survival, std_error = _estimator(curve, sets.start, estimator)
    low_se = _lower_std_error(curve, survival, std_error, sets.start, lower)
    low, high = pl.limits(survival, std_error, check_level(level), conf_type, low_se)
    if convention != "SAS" and conf_type in ("log-log", "logit", "arcsin"):
        low, high = (np.where(survival >= 1.0, np.nan, limit) for limit in (low, high))
    columns = {c: groups.frame[c].take(sets.stratum).reset_index(drop=True) for c in groups.frame.columns}
    frame = pd.DataFrame(
        {
            **columns,
            "time": sets.time,
            "n_risk": _whole(curve.n_risk),
            "n_event": _whole(curve.n_event),
            "n_censor": _whole(curve.n_censor),
            "estimate": survival,
            "std_error": std_error,
            "conf_low": low,
            "conf_high": high,
        }
    )
    meta = _meta(surv, groups, keep, level, conf_type, estimator, robust, convention)
    meta |= {"group_start": tuple(int(i) for i in sets.start), "start": start, "delayed": sets.delayed}
    hazard = pd.DataFrame({"hazard": curve.hazard, "hazard_std_error": curve.hazard_std_error})
    ended = [b > a and float(survival[b - 1]) <= 0.0 for a, b in itertools.pairwise(sets.start)]
    return KaplanMeier(frame, groups, meta, hazard, FollowUp.of(surv, groups, keep).ending(ended))


def _part(values: Any, keep: Any) -> Any:
    return None if values is None else values[keep]


def _whole(counts: FloatArray) -> FloatArray | IntArray:
    """Counts as integers when they are whole."""
    return counts.astype(np.int64) if np.all(counts == np.round(counts)) else counts


def _jackknife_wanted(surv: SurvData) -> bool:
    return surv.cluster is not None or (surv.weights is not None and bool((surv.weights % 1 != 0).any()))


def _estimator(curve: pl.ProductLimit, start: IntArray, estimator: str) -> tuple[FloatArray, FloatArray]:
    """Survival and its standard error for the estimator asked for."""
    if estimator == "kaplan-meier":
        return curve.survival, curve.std_error
    if estimator == "nelson-aalen":
        survival = np.exp(-curve.hazard)
        return survival, survival * curve.hazard_std_error
    hazard, variance = pl.hazard_within_ties(curve.n_risk, curve.n_event, start)
    return np.exp(-hazard), np.exp(-hazard) * np.sqrt(variance)


def _lower_std_error(
    curve: pl.ProductLimit, survival: FloatArray, std_error: FloatArray, start: IntArray, lower: str
) -> FloatArray | None:
    """Standard error for the lower limit: Peto's by the number still at risk, Dorey and Korn's by the shrinking n."""
    if lower == "usual":
        return None
    if lower == "peto":
        return survival * np.sqrt((1.0 - survival) / curve.n_risk)
    at = np.where(curve.n_event > 0, np.arange(len(survival)), 0)
    first = np.repeat(start[:-1], np.diff(start))
    last_event = np.maximum(pl.within_strata(np.maximum.accumulate, at, start), first)
    return std_error * np.sqrt(curve.n_risk[last_event] / curve.n_risk)


def _meta(
    surv: SurvData,
    groups: Groups,
    keep: Any,
    level: float,
    conf_type: str,
    estimator: str,
    robust: bool,
    convention: str | None,
) -> dict[str, Any]:
    variance = "infinitesimal jackknife" if robust else "Greenwood" if estimator == "kaplan-meier" else "Aalen"
    name = {"kaplan-meier": "Kaplan-Meier estimator"}.get(estimator, f"{estimator} estimator exp(-H)")
    notes = (
        f"limits on the {conf_type} scale ({'R default' if conf_type == 'log' else 'log-log is the SAS default'})",
        "quantiles: midpoint where the curve rests on the level"
        + (", to an event (SAS)" if convention == "SAS" else ", to the last time (R)"),
        "events precede censorings at equal times",
    )
    w = np.ones(len(surv)) if surv.weights is None else surv.weights
    events = np.bincount(groups.codes[keep], (w * surv.event)[keep], len(groups)).astype(float)
    n = np.bincount(groups.codes[keep], w[keep], len(groups)).astype(float)
    return estimates.meta(
        method=f"{name}, {variance} variance, {conf_type} limits",
        level=level,
        title="Survival",
        sentence=f"{name}, {variance} variance, {conf_type} limits; {surv.sentence()}",
        estimand="probability of no event up to the time",
        conventions=notes + ((f"convention {convention}",) if convention else ()),
        warnings=(*surv.warnings, *unstated_order(groups)),
        data=surv.data_print,
        frame_kind=surv.kind,
        conf_type=conf_type,
        convention=convention,
        group_n=tuple(_whole(n).tolist()),
        group_events=tuple(_whole(events).tolist()),
    )


def _difference(frame: pd.DataFrame, one: pd.DataFrame, two: pd.DataFrame, level: float, scale: str) -> pd.DataFrame:
    """Rows of a milestone contrast: the plain difference with limits; statistic and p on `scale`."""
    s1, s2 = one["estimate"].to_numpy(float), two["estimate"].to_numpy(float)
    e1, e2 = one["std_error"].to_numpy(float), two["std_error"].to_numpy(float)
    rows = with_inference(frame, s1 - s2, np.hypot(e1, e2), level=level)
    if scale == "plain":
        return rows
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (np.log(-np.log(s1)) - np.log(-np.log(s2))) / np.hypot(e1 / (s1 * np.log(s1)), e2 / (s2 * np.log(s2)))
    return rows.assign(statistic=z, p_value=2 * ndtr(-np.abs(z)))


def _su_wei(one: pd.DataFrame, two: pd.DataFrame, height: float, bound: float) -> tuple[float, float]:
    """Smallest and largest t1 - t0 over pairs of curve steps that the joint test does not reject."""
    sides = []
    for part in (one, two):
        s, se = part["estimate"].to_numpy(float), part["std_error"].to_numpy(float)
        time = np.append(0.0, part["time"].to_numpy(float))
        with np.errstate(divide="ignore", invalid="ignore"):
            z = np.append(np.inf, np.where(se > 0, ((s - height) / se) ** 2, np.inf))
        near = np.flatnonzero(z <= bound)
        ends = np.append(time[1:], np.inf)
        through = pl.crossing(time[1:], s, 1.0 - height)
        sides.append((np.append(z[near], 0.0), np.append(time[near], through), np.append(ends[near], through)))
    (z1, low1, high1), (z0, low0, high0) = sides
    accepted = z1[:, None] + z0[None, :] <= bound
    low = np.where(accepted, low1[:, None] - high0[None, :], np.nan)
    high = np.where(accepted, high1[:, None] - low0[None, :], np.nan)
    if not np.isfinite(low).any() and not np.isfinite(high).any():
        return float("nan"), float("nan")
    return float(np.nanmin(low)), float(np.nanmax(high))
