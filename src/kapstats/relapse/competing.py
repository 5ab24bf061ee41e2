"""Competing risks: cumulative incidence by Aalen and Johansen, and Gray's test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from kapstats import estimates, frames
from kapstats._types import FloatArray, FrameLike, IntArray
from kapstats.errors import DataError, FormulaError, check_memory, choose, first_ids, warn
from kapstats.estimates import Curve, Estimates, Picture, sealed, stored
from kapstats.inference.intervals import check_level
from kapstats.kernels import aalen_johansen as aj
from kapstats.kernels.product_limit import CONF_TYPES, limits
from kapstats.relapse.follow_up import FollowUp, each
from kapstats.relapse.regression import refuse_terms, shown_as
from kapstats.relapse.surv_data import (
    Groups,
    SurvData,
    check_convention,
    compared,
    group_rows,
    group_terms,
    unpack,
)

VARIANCES = ("infinitesimal-jackknife", "aalen")


@shown_as("estimates")
@sealed
@dataclass(frozen=True)
class CumulativeIncidence:
    """Aalen-Johansen curves by group.

    frame : one row per group (, cause) and distinct time; groups : the groups in order; curves : per group, all causes
    follow_up : who is followed from when to when
    """

    frame: pd.DataFrame
    groups: Groups
    causes: tuple[Any, ...]
    curves: tuple[aj.AalenJohansen, ...]
    meta: dict[str, Any]
    follow_up: FollowUp

    def to_frame(self) -> Any:
        """Stratum columns, cause time n_risk n_event n_censor estimate std_error conf_low conf_high."""
        return frames.restore(stored(self), self.meta["frame_kind"])

    @property
    def estimates(self) -> Estimates:
        """The curves as `Estimates`."""
        options = {"strata": list(self.groups.frame.columns), "panel": ["cause"], "n_at_risk": self.follow_up.below}
        return Estimates(stored(self), self.meta, picture=Picture("cumulative_incidence", options))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the reader of these curves has to know."""
        return tuple(self.meta["warnings"])

    def at(self, times: float | Sequence[float], *, extend: bool = False) -> Estimates:
        """Cumulative incidence at `times`: the value of each step curve there (0 before its first time).

        After a group's last time it is not known (NE), unless everyone has had an event; ``extend=True`` carries it on.
        """
        t = self.follow_up.asked(times)
        parts = []
        keys = [*self.groups.frame.columns, "cause"]
        for _, rows in stored(self).groupby(keys, sort=False, observed=True):
            behind = np.searchsorted(rows["time"].to_numpy(float), t, side="right") - 1
            picked = rows.iloc[np.maximum(behind, 0)].reset_index(drop=True).assign(time=t)
            for column in ("estimate", "std_error", "conf_low", "conf_high"):
                start = 0.0 if column in ("estimate", "std_error") else np.nan
                picked[column] = np.where(behind >= 0, picked[column].to_numpy(float), start)
            parts.append(picked.drop(columns=["n_risk", "n_event", "n_censor"]))
        made = Estimates(pd.concat(parts, ignore_index=True), {**self.meta, "title": "Cumulative incidence"})
        return self.follow_up.within(made, each(len(self.groups), len(self.causes) * len(t)), extend=extend)

    def curve(self, group: int = 0, cause: Any = None) -> Curve:
        """One curve as a step function of time, 0 before its first step, NaN past follow-up."""
        k = 0 if cause is None else self.causes.index(cause)
        found = self.curves[group]
        until, name = float(self.follow_up.last[group]), self.groups.labels[group]
        return Curve(found.time, found.cif[:, self.meta["cause_codes"][k] - 1], 0.0, until, name)

    def rmtl(self, tau: float, *, extend: bool = False) -> Estimates:
        """Mean time lost to each cause up to `tau`: the area under its cumulative incidence (NE past follow-up)."""
        tau = self.follow_up.horizon(tau)
        rows = []
        for g, found in enumerate(self.curves):
            time = np.append(found.time[found.time < tau], tau)
            width = np.diff(time)
            for cause, code in zip(self.causes, self.meta["cause_codes"], strict=True):
                area = float(width @ found.cif[: len(width), code - 1])
                rows.append({**self.groups.frame.iloc[g].to_dict(), "cause": cause, "tau": tau, "estimate": area})
        title = f"Mean time lost up to {tau:g}"
        made = Estimates(pd.DataFrame(rows), {**self.meta, "title": title, "method": "area under Aalen-Johansen"})
        strata = each(len(self.groups), len(self.causes))
        return self.follow_up.within(made, strata, extend=extend, column="tau")

    def plot(self, ax: Any = None, risk_table: bool = True, *, stacked: bool = False, **options: Any) -> Any:
        """The curves with bands and numbers at risk, a panel for every cause; `stacked`: a panel for every group."""
        if stacked:
            return self._plot_stacked(ax, options)
        return self.estimates.plot(ax=ax, risk_table=risk_table, **options)

    def _plot_stacked(self, ax: Any, options: dict[str, Any]) -> Any:
        from kapstats.report.figures.stacked_incidence import stacked_incidence as draw

        if len(self.causes) < 2:
            raise FormulaError("plot(stacked=True) needs every cause: cumulative_incidence(..., cause=None).")
        names = self.groups.frame.astype(str).agg(", ".join, axis=1) if len(self.groups.frame.columns) else ["All"]
        n = {name: round(float(c.n_risk.max())) for name, c in zip(names, self.curves, strict=True)}
        return draw(stored(self), strata=list(self.groups.frame.columns), n=n, ax=ax, **options)

    def explain(self) -> str:
        """The methods paragraph."""
        return (
            f"{self.meta['sentence']}. Cumulative incidence was estimated by the Aalen-Johansen estimator (Aalen and "
            f"Johansen, Scand J Stat 1978; 5: 141-150) with {self.meta['variance']} standard errors."
        )


def cumulative_incidence(
    formula: str,
    data: FrameLike,
    *,
    cause: Any = 1,
    censored: Any = None,
    conf_type: str | None = None,
    variance: str | None = None,
    level: float = 0.95,
    weights: str | Sequence[float] | FloatArray | None = None,
    order: Mapping[str, Sequence[Any]] | None = None,
    convention: str | None = None,
) -> CumulativeIncidence:
    """Cumulative incidence of a cause in the presence of competing causes, by group.

    F_k(t) = sum over event times u <= t of S(u-) d_k(u)/n(u), with S the survival from any cause.

    Parameters
    ----------
    formula : ``Surv(time, status) ~ groups`` (or ``Surv(entry, time, status)``); status 0 censored, else the cause
    cause : the status of interest; None gives every cause
    censored : the label that means censored, when the status holds labels
    conf_type : scale of the limits: plain, log, log-log (default), logit, arcsin
    variance : "infinitesimal-jackknife" (default, as R survival) or "aalen" (counting process, as R cmprsk)
    weights : case weights, column or numbers; they need the infinitesimal jackknife
    convention : "R" (log limits, infinitesimal jackknife) or "SAS" (log-log limits, Aalen variance)

    Returns
    -------
    CumulativeIncidence : ``to_frame() at(times) rmtl(tau) curve() plot()``

    Raises
    ------
    DataError, FormulaError
        A cause that does not occur, labels without `censored`, negative times.

    Agrees with
    -----------
    R survival 3.5-3 (multi-state survfit) and cmprsk 2.2-11 (cuminc), relative error below 1e-10.

    References
    ----------
    Aalen and Johansen (1978) Scand J Stat 5: 141-150. Aalen (1978) Ann Stat 6: 534-545.

    Examples
    --------
    >>> import pandas as pd
    >>> data = pd.DataFrame({"AVAL": [1.0, 2.0, 3.0, 4.0], "STATUS": [1, 2, 1, 0]})
    >>> cumulative_incidence("Surv(AVAL, STATUS) ~ 1", data).to_frame()["estimate"].round(4).tolist()
    [0.25, 0.25, 0.5, 0.5]
    """
    convention = check_convention(convention)
    conf_type = choose(conf_type or ("log" if convention == "R" else "log-log"), CONF_TYPES, "conf_type")
    variance = choose(variance or ("aalen" if convention == "SAS" else VARIANCES[0]), VARIANCES, "variance")
    surv = unpack(formula, data, weights=weights, order=order, competing=True, censored=censored)
    if variance == "aalen" and (surv.weights is not None or surv.entry is not None):
        raise FormulaError('variance="aalen" has no weights and no delayed entry; use "infinitesimal-jackknife".')
    refuse_terms(surv, "a cumulative incidence curve", allow=("strata",))
    codes = [cause_code(surv, cause)] if cause is not None else list(range(1, len(surv.causes) + 1))
    groups = group_rows(surv.frame, [*group_terms(surv.formula), *surv.formula.strata], order)
    surv = compared(surv, groups)
    curves = tuple(_curve(surv, groups.codes == g) for g in range(len(groups)))
    check_level(level)
    parts = [
        _curve_rows(groups, g, found, surv.causes[k - 1], k, variance, conf_type, level)
        for g, found in enumerate(curves)
        for k in codes
    ]
    meta = _curve_meta(surv, level, conf_type, variance, codes, convention)
    causes = tuple(surv.causes[k - 1] for k in codes)
    follow_up = FollowUp.of(surv, groups).ending([float(c.survival[-1]) <= 0.0 for c in curves])
    return CumulativeIncidence(pd.concat(parts, ignore_index=True), groups, causes, curves, meta, follow_up)


def cause_code(surv: SurvData, cause: Any) -> int:
    """The code of a cause in `surv.status`; a cause that does not occur is an error."""
    if cause not in surv.causes:
        held = f"The status holds the causes {first_ids(surv.causes, 8)}." if surv.causes else "No row has an event."
        raise DataError(f"cause={cause!r} does not occur in {len(surv)} rows. {held}")
    return surv.causes.index(cause) + 1


def _curve(surv: SurvData, rows: Any) -> aj.AalenJohansen:
    assert surv.status is not None
    entry = None if surv.entry is None else surv.entry[rows]
    weights = None if surv.weights is None else surv.weights[rows]
    return aj.aalen_johansen(surv.time[rows], surv.status[rows], len(surv.causes), entry=entry, weights=weights)


def _curve_rows(
    groups: Groups, g: int, found: aj.AalenJohansen, cause: Any, k: int, variance: str, conf_type: str, level: float
) -> pd.DataFrame:
    F = found.cif[:, k - 1]
    se = (found.se_aalen if variance == "aalen" else found.se_cif)[:, k - 1]
    low, high = limits(F, se, level, conf_type)
    key = {c: [v] * F.size for c, v in groups.frame.iloc[g].items()}
    return pd.DataFrame(
        {
            **key,
            "cause": [cause] * F.size,
            "time": found.time,
            "n_risk": _whole(found.n_risk),
            "n_event": _whole(found.n_event[:, k - 1]),
            "n_censor": _whole(found.n_censor),
            "estimate": F,
            "std_error": se,
            "conf_low": low,
            "conf_high": high,
        }
    )


def _whole(counts: FloatArray) -> FloatArray | IntArray:
    return np.round(counts).astype(np.int64) if np.allclose(counts, np.round(counts), atol=1e-9) else counts


def _curve_meta(
    surv: SurvData, level: float, conf_type: str, variance: str, codes: list[int], convention: str | None
) -> dict[str, Any]:
    method = f"Aalen-Johansen, {variance} variance, {conf_type} limits"
    return estimates.meta(
        method=method,
        level=level,
        title="Cumulative incidence",
        sentence=f"{method}; {surv.sentence()}",
        warnings=surv.warnings,
        estimand="probability of the cause by the time, the other causes acting",
        conventions=("events precede censorings at equal times", *([f"convention {convention}"] if convention else [])),
        data=surv.data_print,
        frame_kind=surv.kind,
        variance=variance,
        conf_type=conf_type,
        cause_codes=tuple(codes),
    )


def gray_test(
    formula: str,
    data: FrameLike,
    *,
    cause: Any = 1,
    censored: Any = None,
    rho: float = 0.0,
    order: Mapping[str, Sequence[Any]] | None = None,
) -> Estimates:
    """Gray's test that the cumulative incidence of a cause is the same in all groups.

    The score of group k is the integral of W(t) R_k(t) {dF_k/(1 - F_k(t-)) - dF_0/(1 - F_0(t-))} with
    R_k = n_k (1 - F_k(t-))/S_k(t-) and W = (1 - F_0(t-))^rho; F_0 is the pooled estimate. Scores and variances add over
    ``strata()``.

    Parameters
    ----------
    formula : ``Surv(time, status) ~ groups + strata(s)``
    cause, censored : as in `cumulative_incidence`
    rho : power of the weight; 0 is the usual test

    Returns
    -------
    Estimates : one row: cause, statistic (chi-square), df, p_value

    Agrees with
    -----------
    R cmprsk 2.2-11 (cuminc), relative error below 1e-10.

    References
    ----------
    Gray (1988) Ann Stat 16: 1141-1154.

    Examples
    --------
    >>> import pandas as pd
    >>> data = pd.DataFrame({"t": [1, 2, 3, 4, 5, 6], "s": [1, 2, 1, 1, 0, 2], "g": [0, 0, 0, 1, 1, 1]})
    >>> len(gray_test("Surv(t, s) ~ g", data))
    1
    """
    surv = unpack(formula, data, order=order, competing=True, censored=censored)
    refuse_terms(surv, "Gray's test", allow=("strata",))
    if surv.entry is not None:
        raise FormulaError("Gray's test is defined for right-censored times; leave the entry time out.")
    groups = group_rows(surv.frame, group_terms(surv.formula), order)
    surv = compared(surv, groups)
    if len(groups) < 2:
        raise DataError(f"{formula!r}: a test needs two groups or more; the rows used hold {len(groups)}.")
    assert surv.status is not None
    k = cause_code(surv, cause)
    code = np.where(surv.status == 0, 0, np.where(surv.status == k, 1, 2))
    times = len(np.unique(surv.time))
    check_memory(
        5.0 * times * len(groups) ** 2,
        f"{formula!r}: {len(groups):,} groups at {times:,} times",
        "Use strata(...), a factor with fewer levels, or rounded times.",
    )
    found = aj.gray_test(surv.time, code, groups.codes, len(groups), stratum=surv.strata.codes, rho=rho)
    notes = surv.warnings
    if not np.isfinite(found.statistic):
        notes = (
            *notes,
            warn(f"Gray's test: no event of cause {cause!r} where two groups are at risk; there is no test."),
        )
    row = {"cause": cause, "statistic": found.statistic, "df": found.df, "p_value": found.p_value}
    by = f", stratified by {', '.join(surv.formula.strata)}" if surv.formula.strata else ""
    method = f"Gray's test{by}, rho = {rho:g}"
    meta = estimates.meta(
        method=method,
        level=None,
        title="Gray's test",
        sentence=f"{method}; {surv.sentence()}",
        warnings=notes,
        estimand="equality of cumulative incidence functions",
        data=surv.data_print,
        frame_kind=surv.kind,
        groups=groups.labels,
    )
    return Estimates(pd.DataFrame([row]), meta)
