"""Group sequential designs for time to relapse: boundaries, power and sample size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from kapstats import estimates
from kapstats._types import FloatArray
from kapstats.errors import DataError, FormulaError, choose
from kapstats.estimates import Estimates
from kapstats.kernels import group_sequential as gs
from kapstats.relapse.sequential_analysis import SequentialAnalysis

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
            rows += [
                {"hazard_ratio": hr, "quantity": f"stop at analysis {k + 1}", "estimate": p}
                for k, p in enumerate(exits)
            ]
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
        self,
        hr: float,
        median: float,
        accrual: float,
        follow_up: float,
        dropout: tuple[float, float],
        fixed: float,
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
            method=method,
            level=1.0 - 2.0 * self.alpha,
            title=title,
            sentence=f"{method}; {self.stages} analyses",
            conventions=(f"combination: {self.combination}", f"sides: {self.sides}"),
        )
