"""Group sequential designs for time to relapse: boundaries, analysis, planning, and the two-stage combination test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from kapstats import estimates
from kapstats._types import BoolArray, FloatArray, FrameLike
from kapstats.errors import DataError, EstimabilityError, FormulaError, choose
from kapstats.estimates import Estimates
from kapstats.inference.intervals import check_level
from kapstats.kernels import group_sequential as gs
from kapstats.kernels import weighted_logrank as wl
from kapstats.kernels.risk_sets import risk_sets
from kapstats.relapse.regression import refuse_terms
from kapstats.relapse.surv_data import SurvData, group_rows, group_terms, unpack

SPENDING = ("obrien-fleming", "pocock", "hwang-shih-decani", "power", "classical-obrien-fleming", "classical-pocock")
COMBINATIONS = ("group-sequential", "inverse-normal")


@dataclass(frozen=True)
class GroupSequentialDesign:
    """A design with interim analyses of a time-to-event endpoint by the log-rank test.

    Critical values c_1..c_K of the cumulative statistics keep the one-sided type I error at `alpha`; after k analyses
    the alpha spent is that of the spending function at the information fraction t_k. The joint normal probabilities are
    integrated recursively to about 1e-13.

    Parameters
    ----------
    information : planned information fractions (events), increasing, the last one 1; or numbers of events
    alpha : one-sided type I error (of each side when sides = 2)
    spending : "obrien-fleming", "pocock" (Lan-DeMets), "hwang-shih-decani" (`gamma`), "power" (`gamma` = rho),
        "classical-obrien-fleming", "classical-pocock"; or the cumulative alpha at each analysis
    gamma : parameter of the Hwang-Shih-DeCani (default -4) or power (default 3) family
    sides : 1, or 2 for symmetric boundaries
    events : planned number of events at the last analysis
    ratio : randomisation ratio treatment : control
    combination : "group-sequential" (boundaries follow the information observed) or "inverse-normal" (weights fixed by
        the plan, valid when the sample size is changed at an interim)

    Examples
    --------
    >>> design = GroupSequentialDesign(information=(0.5, 1.0))
    >>> design.critical_values.round(4).tolist()
    [2.9626, 1.9686]

    References
    ----------
    Lan and DeMets (1983) Biometrika 70: 659-663. Hwang, Shih and De Cani (1990) Stat Med 9: 1439-1445. Jennison and
    Turnbull (2000) Group Sequential Methods. Agrees with mvtnorm (TVPACK) to 1e-10 and rpact 3.3.4 to 1e-6.
    """

    information: tuple[float, ...] = (0.5, 1.0)
    alpha: float = 0.025
    spending: str | Sequence[float] = "obrien-fleming"
    gamma: float | None = None
    sides: int = 1
    events: float | None = None
    ratio: float = 1.0
    combination: str = "group-sequential"

    def __post_init__(self) -> None:
        given = np.atleast_1d(np.asarray(self.information, float))
        if given.size == 0 or (given <= 0).any() or (np.diff(given) <= 0).any():
            raise FormulaError(f"information={self.information}: give increasing fractions or events, as (0.5, 1).")
        if not 0 < self.alpha < 0.5:
            raise FormulaError(f"alpha={self.alpha}: the one-sided type I error lies between 0 and 0.5.")
        if isinstance(self.spending, str):
            choose(self.spending, SPENDING, "spending")
        elif len(self.spending) != given.size or abs(self.spending[-1] - self.alpha) > 1e-12:
            raise FormulaError("spending: give one cumulative alpha per analysis, the last one equal to alpha.")
        choose(self.combination, COMBINATIONS, "combination")
        if self.sides not in (1, 2):
            raise FormulaError(f"sides={self.sides}: 1 or 2.")
        if self.events is None and given[-1] > 1:
            object.__setattr__(self, "events", float(given[-1]))
        object.__setattr__(self, "information", tuple((given / given[-1]).tolist()))

    @property
    def stages(self) -> int:
        """Number of analyses."""
        return len(self.information)

    @property
    def critical_values(self) -> FloatArray:
        """Upper critical values of the cumulative statistics (K,)."""
        return self._bounds(np.asarray(self.information), self.alpha)

    def boundaries(self) -> Estimates:
        """Per analysis: information, critical value, nominal one-sided p, cumulative alpha."""
        c = self.critical_values
        frame = pd.DataFrame(
            {
                "stage": np.arange(1, self.stages + 1),
                "information": self.information,
                "critical_value": c,
                "nominal_p": ndtr(-c),
                "cumulative_alpha": self._exit_under_null(c),
            }
        )
        if self.events is not None:
            frame.insert(2, "events", self.events * np.asarray(self.information))
        return Estimates(frame, self._meta("Boundaries"))

    def power(self, hazard_ratio: float | Sequence[float], events: float | None = None) -> Estimates:
        """Probability to stop for efficacy at each analysis and overall, and the expected number of events."""
        D = self._events(events)
        t, rows = np.asarray(self.information), []
        for hr in np.atleast_1d(np.asarray(hazard_ratio, float)):
            drift = abs(np.log(hr)) * np.sqrt(D * self.ratio) / (1.0 + self.ratio)
            exits = gs.crossing(t, self._lower(), self.critical_values, drift).upper
            stay = np.concatenate([[1.0], 1.0 - np.cumsum(exits)[:-1]])
            expected = float(D * (np.diff(t, prepend=0.0) @ stay))
            rows += [{"hazard_ratio": hr, "quantity": f"stop at analysis {k + 1}", "estimate": p}
                     for k, p in enumerate(exits)]
            rows.append({"hazard_ratio": hr, "quantity": "power", "estimate": float(exits.sum())})
            rows.append({"hazard_ratio": hr, "quantity": "expected events", "estimate": expected})
        return Estimates(pd.DataFrame(rows), self._meta("Power"))

    def sample_size(
        self,
        hazard_ratio: float,
        *,
        power: float = 0.9,
        control_median: float | None = None,
        accrual: float | None = None,
        follow_up: float | None = None,
        dropout: tuple[float, float] = (0.0, 12.0),
        method: str = "schoenfeld",
    ) -> Estimates:
        """Events and, with accrual and follow-up, subjects and calendar times of the analyses.

        Parameters
        ----------
        hazard_ratio : treatment over control under the alternative
        power : wanted probability to reject
        control_median : median time to the event under control (exponential)
        accrual, follow_up : time of uniform accrual, and from its end to the last analysis
        dropout : (probability, time): the share lost within that time, exponential
        method : "schoenfeld" or "freedman" number of events of the fixed design

        References
        ----------
        Schoenfeld (1981) Biometrika 68: 316-319. Freedman (1982) Stat Med 1: 121-129. Lachin and Foulkes (1986)
        Biometrics 42: 507-519.
        """
        choose(method, ("schoenfeld", "freedman"), "method")
        fixed = (
            gs.schoenfeld_events(np.log(hazard_ratio), self.alpha, power, self.ratio)
            if method == "schoenfeld"
            else gs.freedman_events(hazard_ratio, self.alpha, power, self.ratio)
        )
        t = np.asarray(self.information)
        drift = gs.solve_drift(t, self.critical_values, power)
        D = fixed * (drift / float(-ndtri(self.alpha) - ndtri(1.0 - power))) ** 2
        found = self.power(hazard_ratio, D).frame
        expected = float(found.loc[(found["quantity"] == "expected events").to_numpy(), "estimate"].iloc[0])
        rows = [("events, fixed design", fixed), ("events", D), ("expected events", expected)]
        rows += [(f"events at analysis {k + 1}", D * f) for k, f in enumerate(t)]
        if control_median is not None and accrual is not None and follow_up is not None:
            rows += self._subjects(hazard_ratio, control_median, accrual, follow_up, dropout, fixed, D)
        frame = pd.DataFrame(rows, columns=["quantity", "estimate"])
        return Estimates(frame, self._meta(f"Sample size for hazard ratio {hazard_ratio:g}, power {power:g}"))

    def _subjects(
        self, hr: float, median: float, accrual: float, follow_up: float, dropout: tuple[float, float], fixed: float,
        D: float,
    ) -> list[tuple[str, float]]:
        """Subjects so that D events are expected at the end, and when the interim numbers are expected."""
        control, lost = np.log(2.0) / median, -np.log1p(-dropout[0]) / dropout[1]

        def share(time: float) -> float:
            arms = [gs.event_probability(h, lost, accrual, time) for h in (control * hr, control)]
            return (self.ratio * arms[0] + arms[1]) / (1.0 + self.ratio)

        end = accrual + follow_up
        n = D / share(end)
        rows = [("subjects, fixed design", fixed / share(end)), ("subjects", n)]
        for k, f in enumerate(self.information):
            when = end if f == 1.0 else brentq(lambda x, f=f: n * share(x) - f * D, 1e-9, end, xtol=1e-12)
            rows.append((f"time of analysis {k + 1}", float(when)))
        return rows

    def analyse(
        self,
        z: float | Sequence[float],
        events: float | Sequence[float],
        *,
        benefit: str = "lower",
        final: bool | None = None,
    ) -> SequentialAnalysis:
        """Analyse the trial after one or more analyses.

        Parameters
        ----------
        z : cumulative log-rank statistics at the analyses so far, positive in favour of treatment
        events : cumulative numbers of events
        benefit : "lower" when a hazard ratio below 1 is the benefit, "higher" when above
        final : whether the last of these is the last analysis (default: when all planned ones are given); it then
            spends all remaining alpha whatever its information

        Returns
        -------
        SequentialAnalysis : ``stages final() hazard_ratios() conditional_power() decision``
        """
        choose(benefit, ("lower", "higher"), "benefit")
        z_all, D = np.atleast_1d(np.asarray(z, float)), np.atleast_1d(np.asarray(events, float))
        if z_all.size != D.size or (np.diff(D, prepend=0.0) <= 0).any():
            raise DataError("analyse: give one z and one increasing cumulative number of events per analysis.")
        if z_all.size > self.stages:
            raise DataError(f"analyse: {z_all.size} analyses, but the design has {self.stages}.")
        last = z_all.size == self.stages if final is None else final
        increments = np.diff(np.sqrt(D) * z_all, prepend=0.0) / np.sqrt(np.diff(D, prepend=0.0))
        if self.combination == "inverse-normal":
            t = spent = np.asarray(self.information)
        else:
            t, spent = self._observed_information(D, last)
        weight = np.sqrt(np.diff(t, prepend=0.0))[: z_all.size]
        return SequentialAnalysis(self, z_all, D, increments, weight, t, spent, benefit, last)

    def _observed_information(self, D: FloatArray, last: bool) -> tuple[FloatArray, FloatArray]:
        """Information fractions, those observed then those planned, and the times at which spending is read off.

        Earlier looks spent what the planned total implied; the last look spends the rest whatever its information.
        """
        if last:
            planned_total = D[-1] if self.events is None else self.events
            return D / D[-1], np.append(np.minimum(D[:-1] / planned_total, 1.0), 1.0)
        total = self._events(None)
        if D[-1] >= total:
            raise DataError(
                f"analyse: {D[-1]:g} events are not fewer than the {total:g} planned. Say final=True, or raise events."
            )
        planned = [f for f in self.information[len(D) :] if f * total > D[-1]]
        t = np.array([*(D / total), *(planned or [1.0])])
        return t, t

    def _bounds(self, t: FloatArray, alpha: float, spending_time: FloatArray | None = None) -> FloatArray:
        """Critical values at fractions `t`, with `alpha` in all at the last of them."""
        at = t if spending_time is None else spending_time
        two = self.sides == 2
        if self.spending in ("classical-obrien-fleming", "classical-pocock"):
            delta = 0.5 if self.spending == "classical-pocock" else 0.0
            return gs.wang_tsiatis_boundaries(t, alpha * self.sides, delta, two_sided=two)
        return gs.spending_boundaries(t, self._cumulative_alpha(at, alpha) * self.sides, two_sided=two)

    def _cumulative_alpha(self, t: FloatArray, alpha: float) -> FloatArray:
        if not isinstance(self.spending, str):
            spent = np.asarray(self.spending, float) * alpha / self.alpha
            return np.interp(t, [0.0, *self.information], [0.0, *spent])
        gamma = self.gamma
        functions: dict[str, gs.Spending] = {
            "obrien-fleming": gs.obrien_fleming_spending,
            "pocock": gs.pocock_spending,
            "hwang-shih-decani": gs.hwang_shih_decani_spending(-4.0 if gamma is None else gamma),
            "power": gs.power_spending(3.0 if gamma is None else gamma),
        }
        return functions[self.spending](alpha, np.minimum(t, 1.0))

    def _exit_under_null(self, c: FloatArray) -> FloatArray:
        low = -c if self.sides == 2 else self._lower()
        return np.cumsum(gs.crossing(np.asarray(self.information), low, c).upper)

    def _lower(self) -> FloatArray:
        return np.full(self.stages, -np.inf)

    def _events(self, events: float | None) -> float:
        found = self.events if events is None else events
        if found is None:
            raise FormulaError("The design has no number of events: GroupSequentialDesign(..., events=...).")
        return float(found)

    def _meta(self, title: str) -> dict[str, Any]:
        spending = self.spending if isinstance(self.spending, str) else "user-given alpha spending"
        method = f"group sequential design, {spending} boundaries, one-sided alpha {self.alpha:g}"
        return estimates.meta(
            method=method, level=1.0 - 2.0 * self.alpha, title=title, sentence=f"{method}; {self.stages} analyses",
            conventions=(f"combination: {self.combination}", f"sides: {self.sides}"),
        )


@dataclass(frozen=True)
class SequentialAnalysis:
    """A design with the results so far.

    z, events : cumulative log-rank statistics and events (k,); increments (k,) stage-wise statistics; weight (k,) of
    the stages; information (K,) fractions, observed then planned; spending_time (K,) where the spending is read off
    """

    design: GroupSequentialDesign
    z: FloatArray
    events: FloatArray
    increments: FloatArray
    weight: FloatArray
    information: FloatArray
    spending_time: FloatArray
    benefit: str
    complete: bool

    @property
    def combined(self) -> FloatArray:
        """The statistics that are compared with the boundaries (k,)."""
        return np.cumsum(self.weight * self.increments) / np.sqrt(np.cumsum(self.weight**2))

    @property
    def critical_values(self) -> FloatArray:
        """Boundaries at the information observed so far and planned later (K,)."""
        return self.design._bounds(self.information, self.design.alpha, self.spending_time)

    @property
    def stopped(self) -> int | None:
        """The analysis (from 0) at which the boundary was first reached, or None."""
        over = np.flatnonzero(self.combined >= self.critical_values[: self.z.size])
        return int(over[0]) if over.size else None

    @property
    def decision(self) -> str:
        """What the last analysis says."""
        if self.stopped is not None:
            return f"reject at analysis {self.stopped + 1}"
        return "do not reject" if self.complete else "continue"

    @property
    def stages(self) -> Estimates:
        """Per analysis: events, z, statistic, critical value, nominal and repeated p, log HR with repeated interval."""
        c, C, slope = self.critical_values[: self.z.size], self.combined, self._slope()
        centre, reach, r = C / slope, c / slope, self.design.ratio
        frame = pd.DataFrame(
            {
                "stage": np.arange(1, self.z.size + 1),
                "events": self.events,
                "information": self.information[: self.z.size],
                "z": self.z,
                "critical_value": c,
                "estimate": self._sign() * (1.0 + r) * self.z / np.sqrt(r * self.events),
                "std_error": 1.0 / slope,
                "statistic": C,
                "p_value": ndtr(-C),
                "repeated_p": [self._repeated_p(k) for k in range(self.z.size)],
                "conf_low": np.minimum(self._sign() * (centre - reach), self._sign() * (centre + reach)),
                "conf_high": np.maximum(self._sign() * (centre - reach), self._sign() * (centre + reach)),
            }
        )
        meta = {**self.design._meta("Interim analyses"), "scale": "log", "decision": self.decision}
        meta["conventions"] = (*meta["conventions"], "repeated confidence intervals; nominal one-sided p")
        return Estimates(frame, meta)

    def hazard_ratios(self) -> Estimates:
        """The hazard ratio at each analysis with its repeated confidence interval."""
        return self.stages.exponentiate()

    def final(self) -> Estimates:
        """After stopping or the last analysis: stage-wise p, median-unbiased log hazard ratio and its interval."""
        k = self.stopped
        if k is None and not self.complete:
            raise EstimabilityError("The trial goes on: final inference needs a boundary reached or the last analysis.")
        k = self.z.size - 1 if k is None else k
        t, c = self.information, self.critical_values
        C, slope, alpha = float(self.combined[k]), self._slope(), self.design.alpha
        points = [gs.effect_at(t, c, k, C, slope, q) for q in (0.5, alpha, 1.0 - alpha)]
        low, high = sorted(self._sign() * p for p in points[1:])
        frame = pd.DataFrame(
            [
                {
                    "term": "log hazard ratio, median-unbiased",
                    "stage": k + 1,
                    "estimate": self._sign() * points[0],
                    "p_value": gs.stagewise_p(t, c, k, C),
                    "conf_low": low,
                    "conf_high": high,
                }
            ]
        )
        meta = {**self.design._meta("Final analysis"), "scale": "log", "decision": self.decision}
        meta["conventions"] = (*meta["conventions"], "stage-wise ordering; p_value is one-sided")
        return Estimates(frame, meta)

    def conditional_power(
        self, hazard_ratio: float | None = None, events: float | Sequence[float] | None = None
    ) -> float:
        """Probability to reject later, given the statistic now.

        hazard_ratio : the true one (default: the estimate now); events : further events in each remaining stage
        (default: as planned)
        """
        k = self.z.size
        rest = self.information[k:]
        if rest.size == 0:
            raise EstimabilityError("No analysis is left.")
        now = self.information[k - 1]
        if events is None:
            extra = np.diff(self.design._events(None) * rest, prepend=self.events[-1])
        else:
            extra = np.broadcast_to(np.asarray(events, float), rest.shape)
        effect = self._effect(hazard_ratio)
        weight = np.sqrt(np.diff(rest, prepend=now))
        mean = effect * np.sqrt(extra * self.design.ratio) / (1.0 + self.design.ratio)
        I = np.cumsum(weight**2)
        bounds = (self.critical_values[k:] * np.sqrt(rest) - self.combined[-1] * np.sqrt(now)) / np.sqrt(I)
        return float(gs.crossing_with_means(I, bounds, np.cumsum(weight * mean) / np.sqrt(I)).sum())

    def plot(self, ax: Any = None, **options: Any) -> Any:
        """A forest of the hazard ratios with repeated intervals."""
        return self.hazard_ratios().plot(ax=ax, **options)

    def explain(self) -> str:
        """The methods paragraph."""
        return (
            f"{self.design._meta('')['sentence']}. Decision: {self.decision}. Repeated confidence intervals and "
            "stage-wise inference after Jennison and Turnbull (2000)."
        )

    def _effect(self, hazard_ratio: float | None) -> float:
        """Log hazard ratio counted positive in favour of treatment."""
        if hazard_ratio is None:
            return float((1.0 + self.design.ratio) * self.z[-1] / np.sqrt(self.design.ratio * self.events[-1]))
        return self._sign() * float(np.log(hazard_ratio))

    def _sign(self) -> float:
        return -1.0 if self.benefit == "lower" else 1.0

    def _slope(self) -> FloatArray:
        """d mean of the combined statistic / d effect at each analysis (k,)."""
        stage = np.sqrt(np.diff(self.events, prepend=0.0) * self.design.ratio) / (1.0 + self.design.ratio)
        return np.cumsum(self.weight * stage) / np.sqrt(np.cumsum(self.weight**2))

    def _repeated_p(self, k: int) -> float:
        """The smallest one-sided alpha with which the design would reject at analysis k."""
        C = float(self.combined[k])

        def gap(alpha: float) -> float:
            return float(self.design._bounds(self.information, alpha, self.spending_time)[k]) - C

        if gap(0.4999) > 0.0:
            return 0.5
        return float(brentq(gap, 1e-12, 0.4999, xtol=1e-14, rtol=1e-13)) if gap(1e-12) > 0 else 1e-12

    def __str__(self) -> str:
        return self.stages.to_text()

    __repr__ = __str__


def weighted_logrank_combination(
    formula: str,
    data: FrameLike,
    *,
    entry: str,
    interim_events: int | None = None,
    interim_time: float | None = None,
    planned: tuple[float, float] | None = None,
    design: GroupSequentialDesign | None = None,
    level: float = 0.95,
    order: Mapping[str, Sequence[Any]] | None = None,
) -> Estimates:
    """Two-stage weighted combination of log-rank tests, with the weighted hazard ratio.

    The data are cut at the interim: Z1 is the (stratified) log-rank statistic of what was seen by then, and
    Z2 = (sqrt(D2) Z - sqrt(D1) Z1)/sqrt(D2 - D1) that of what came later. Z* = w1 Z1 + w2 Z2 with weights fixed by the
    plan, w^2 = planned shares of the events, is normal under the null hypothesis even when the second stage was changed
    at the interim. The weighted log hazard ratio is the value b at which the combination of Z_k - b sqrt(D_k r)/(1 + r)
    is zero, its interval where it lies within the normal quantile.

    Parameters
    ----------
    formula : ``Surv(time, event) ~ arm + strata(s)``: two arms, the first level is the reference
    entry : column with the calendar time of entry, in the unit of `time`
    interim_events, interim_time : the interim is when this many events have occurred, or at this calendar time
    planned : planned cumulative events at interim and end, which fix the weights (default: those observed)
    design : adds the critical values of a two-stage design
    level : of the two-sided interval

    Returns
    -------
    Estimates : rows `interim`, `increment`, `combined` by `quantity`: events, statistic (negative: fewer events under
    treatment), p_value (one-sided, less), estimate (log hazard ratio) with limits

    Raises
    ------
    DataError
        More or fewer than two arms; no events before or after the interim.

    Agrees with
    -----------
    R code on rpact 3.3.4 boundaries: relative error below 1e-10.

    References
    ----------
    Wassmer (2006) Biom J 48: 714-729. Daly et al. (2019) JAMA Psychiatry 76: 893-903.

    Examples
    --------
    >>> import pandas as pd
    >>> data = pd.DataFrame({"t": [3, 5, 2, 8, 4, 9, 7, 6], "e": 1, "arm": [0, 1] * 4, "entry": [0, 0, 1, 1] * 2})
    >>> found = weighted_logrank_combination("Surv(t, e) ~ arm", data, entry="entry", interim_events=4)
    >>> found["quantity"].tolist()
    ['interim', 'increment', 'combined']
    """
    check_level(level)
    surv = unpack(formula, data, order=order, extra=[f"`{entry}`"])
    groups = group_rows(surv.frame, group_terms(surv.formula), order)
    refuse_terms(surv, "the combination test", allow=("strata",))
    if len(groups) != 2:
        raise DataError(f"{formula!r}: the combination test compares two arms; there are {len(groups)}.")
    begin = surv.frame[entry].to_numpy(float)
    cut = _interim_time(begin + surv.time, surv.event, interim_events, interim_time)
    by_then = begin < cut
    time = np.minimum(surv.time, cut - begin)[by_then]
    seen = (surv.event & (begin + surv.time <= cut))[by_then]
    z1, D1 = _logrank_z(surv, groups.codes, by_then, time, seen)
    z, D2 = _logrank_z(surv, groups.codes, np.ones(len(surv), bool), surv.time, surv.event)
    if D1 == 0 or D2 == D1:
        raise DataError(f"The interim at {cut:g} has {D1:g} events before and {D2 - D1:g} after it; both are needed.")
    increment = (np.sqrt(D2) * z - np.sqrt(D1) * z1) / np.sqrt(D2 - D1)
    share = (D1 / D2) if planned is None else planned[0] / planned[1]
    weight = np.sqrt([share, 1.0 - share])
    combined = float(weight @ [z1, increment])
    r = float((groups.codes == 1).sum() / (groups.codes == 0).sum())
    slopes = np.sqrt(np.array([D1, D2 - D1]) * r) / (1.0 + r)
    rows = [
        _combination_row("interim", D1, z1, slopes[0], level),
        _combination_row("increment", D2 - D1, increment, slopes[1], level),
        _combination_row("combined", D2, combined, float(weight @ slopes), level),
    ]
    frame = pd.DataFrame(rows)
    if design is not None:
        frame["critical_value"] = [design.critical_values[0], np.nan, design.critical_values[-1]]
    return Estimates(frame, _combination_meta(surv, formula, groups.labels, cut, z, weight, level))


def _interim_time(
    calendar: FloatArray, event: BoolArray, events: int | None, time: float | None
) -> float:
    if (events is None) == (time is None):
        raise FormulaError("Say when the interim was: interim_events= or interim_time=.")
    if time is not None:
        return float(time)
    assert events is not None
    at = np.sort(calendar[event])
    if not 0 < events <= at.size:
        raise DataError(f"interim_events={events}: the data hold {at.size} events.")
    return float(at[events - 1])


def _logrank_z(surv: SurvData, arm: Any, rows: BoolArray, time: FloatArray, event: BoolArray) -> tuple[float, float]:
    """(Observed - expected)/sqrt(variance) of the second arm, summed over strata, and the number of events."""
    if not event.any():
        raise DataError("No event before the interim; there is no test.")
    sets = risk_sets(time, event, None, surv.strata.codes[rows], len(surv.strata))
    counts = wl.group_counts(sets, arm[rows], 2)
    found = wl.weighted_scores(counts, np.ones((1, counts.n.size)))
    return float(found.score[0, 1] / np.sqrt(found.covariance[0, 0, 1, 1])), float(event.sum())


def _combination_row(name: str, events: float, z: float, slope: float, level: float) -> dict[str, Any]:
    reach = float(ndtri(0.5 + level / 2.0)) / slope
    return {
        "quantity": name,
        "events": events,
        "estimate": z / slope,
        "std_error": 1.0 / slope,
        "statistic": z,
        "p_value": float(ndtr(z)),
        "conf_low": z / slope - reach,
        "conf_high": z / slope + reach,
    }


def _combination_meta(
    surv: SurvData, formula: str, labels: tuple[str, ...], cut: float, z: float, weight: FloatArray, level: float
) -> dict[str, Any]:
    by = f", stratified by {', '.join(surv.formula.strata)}" if surv.formula.strata else ""
    method = f"two-stage inverse-normal combination of log-rank tests{by}, weights {weight[0]:.4f} and {weight[1]:.4f}"
    return estimates.meta(
        method=method, level=level, side="less", scale="log", title=f"{labels[1]} - {labels[0]}",
        sentence=f"{method}; interim at {cut:g}; {surv.sentence()}",
        estimand="log hazard ratio, weighted over the two stages",
        conventions=("p_value one-sided for fewer events under treatment", "log hazard ratio from z (1 + r)/sqrt(r D)"),
        data=surv.data_print, frame_kind=surv.kind, interim_time=cut, z_all_data=z,
    )


def project_events(
    formula: str,
    data: FrameLike,
    times: Sequence[float],
    *,
    new_subjects: int = 0,
    accrual: float = 0.0,
    hazard: float | None = None,
    dropout: float | None = None,
) -> Estimates:
    """Expected cumulative number of events at later times of a trial under way.

    Subjects still at risk and `new_subjects` entering uniformly over the next `accrual` have a constant hazard
    (default: events over follow-up so far) and a constant dropout hazard.

    Parameters
    ----------
    formula : ``Surv(time, status) ~ 1`` with status 0 still at risk, 1 event, 2 dropped out
    times : from now on, in the unit of `time`
    hazard, dropout : hazards to use instead of the observed ones

    Returns
    -------
    Estimates : time, estimate (cumulative events), std_error and 95% limits of the number that will be seen (binomial)

    Examples
    --------
    >>> import pandas as pd
    >>> data = pd.DataFrame({"t": [10.0, 20.0, 30.0, 40.0], "s": [1, 0, 0, 1]})
    >>> project_events("Surv(t, s) ~ 1", data, [0.0, 50.0])["estimate"].round(3).tolist()
    [2.0, 3.264]
    """
    surv = unpack(formula, data, competing=True, censored=0)
    assert surv.status is not None
    cause = np.array([0, *surv.causes], dtype=object)[surv.status]
    exposure = float(surv.time.sum())
    h = float((cause == 1).sum() / exposure) if hazard is None else hazard
    lost = float((cause == 2).sum() / exposure) if dropout is None else dropout
    now, at_risk = float((cause == 1).sum()), float((cause == 0).sum())
    t = np.asarray(times, float)
    p_old = np.array([h / (h + lost) * -np.expm1(-(h + lost) * x) if h + lost > 0 else 0.0 for x in t])
    p_new = np.array([gs.event_probability(h, lost, accrual, x) for x in t]) if accrual > 0 else p_old
    mean = now + at_risk * p_old + new_subjects * p_new
    se = np.sqrt(at_risk * p_old * (1 - p_old) + new_subjects * p_new * (1 - p_new))
    z = float(ndtri(0.975))
    low, high = np.maximum(mean - z * se, now), mean + z * se
    frame = pd.DataFrame({"time": t, "estimate": mean, "std_error": se, "conf_low": low, "conf_high": high})
    method = f"event projection, constant hazard {h:.4g}, dropout hazard {lost:.4g}"
    meta = estimates.meta(method=method, title="Projected events", sentence=f"{method}; {surv.sentence()}",
                          data=surv.data_print, frame_kind=surv.kind)
    return Estimates(frame, meta)
