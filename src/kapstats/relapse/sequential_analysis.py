"""A group sequential trial after one or more analyses: repeated and stage-wise inference, conditional power."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import ndtr

from kapstats._types import FloatArray
from kapstats.errors import EstimabilityError
from kapstats.estimates import Estimates
from kapstats.kernels import group_sequential as gs
from kapstats.relapse.regression import shown_as

if TYPE_CHECKING:
    from kapstats.relapse.sequential import GroupSequentialDesign

HAZARD_RATIO = {"scale": "log", "measure": "hazard ratio"}


@shown_as("stages")
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
        meta = {**self.design._meta("Interim analyses"), **HAZARD_RATIO, "decision": self.decision}
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
        meta = {**self.design._meta("Final analysis"), **HAZARD_RATIO, "decision": self.decision}
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
