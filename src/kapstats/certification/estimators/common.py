"""What every family of certified estimators shares: the shape of an answer, of an estimator and of a certificate, and
the rows of the truth that are estimated."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from kapstats._types import BoolArray, FloatArray, IntArray
from kapstats.errors import ConvergenceError, EstimabilityError, KapstatsWarning
from kapstats.simulation.draw import Draw
from kapstats.simulation.scenario import Scenario, load
from kapstats.simulation.streams import stream

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What an estimator says of a block of replicates: all (replicates, rows); NaN where it says nothing."""

    estimate: FloatArray
    std_error: FloatArray
    low: FloatArray
    high: FloatArray
    p: FloatArray
    converged: BoolArray


@dataclass(frozen=True, slots=True)
class Estimator:
    """`rows` lists the rows of the truth that are estimated, `analyse` takes a block of replicates and a level.

    A row names what identifies it in the truth of the scenario; one that brings ``value`` and ``mc_error`` is its own
    truth (found, as all truth, without an estimator).
    """

    name: str
    parts: tuple[str, ...]
    rows: Callable[[Scenario], list[Row]]
    analyse: Callable[[Scenario, Sequence[Draw], float], Answer]
    log: bool = False
    """estimates are logarithms of the values in the truth"""
    by_limits: bool = False
    """a ratio, which may be infinite: its mean says nothing of its limits, so coverage and size alone are judged"""
    verb: Callable[[Scenario, Sequence[Draw], float], Answer] | None = None
    """the same by the exported verb, replicate by replicate, where `analyse` puts kernels together itself"""

    def along(self, path: str) -> Callable[[Scenario, Sequence[Draw], float], Answer]:
        """The analysis of a path: "batch", or "verb"."""
        return self.verb if path == "verb" and self.verb is not None else self.analyse


Analysis = Callable[[Scenario, Sequence[Draw], float], Answer]
Rows = Callable[[Scenario], list[Row]]


def wald(estimate: FloatArray, error: FloatArray, level: float, null: float = 0.0) -> Answer:
    """Normal limits and p value; converged where both numbers are finite."""
    z = ndtri(0.5 + level / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * ndtr(-np.abs((estimate - null) / error))
    good = np.isfinite(estimate) & np.isfinite(error)
    return Answer(estimate, error, estimate - z * error, estimate + z * error, p, good)


def wald_rows(estimate: Any, error: Any, level: float) -> FloatArray:
    """(rows, NUMBERS) by normal limits."""
    a = wald(np.asarray(estimate, dtype=float), np.asarray(error, dtype=float), level)
    return np.column_stack([a.estimate, a.std_error, a.low, a.high, a.p])


def rejects(low: FloatArray, high: FloatArray, null: float, level: float) -> FloatArray:
    """A p value that stands for the decision of an interval: below or above 1 - level."""
    with np.errstate(invalid="ignore"):
        return np.where((low > null) | (high < null), 0.0, 1.0) + 0.0 * low


def by_pick(flagged: BoolArray, differs: BoolArray, d: Draw) -> float:
    """0 where a term picked at random among the flagged does not differ, else 1; 1 where none is flagged."""
    where = np.flatnonzero(flagged)
    return float(differs[where[generator(d, "pick").integers(where.size)]]) if where.size else 1.0


def decided(p: FloatArray) -> Answer:
    """Tests without an estimate, judged by how often they reject."""
    nothing = np.full(p.shape, np.nan)
    return Answer(nothing, nothing, nothing, nothing, p, np.isfinite(p))


def bounded(found: Mapping[str, FloatArray], null: float, level: float) -> Answer:
    """What a verb of counts prints: estimate and limits, with the standard error and the p value of the methods that
    have them. Without a p value the limits decide.
    """
    estimate, low, high = (found[c] for c in ("estimate", "conf_low", "conf_high"))
    error = found.get("std_error", np.full(low.shape, np.nan))
    p = found["p_value"] if "p_value" in found else rejects(low, high, null, level)
    return Answer(estimate, error, low, high, p, limited(low, high))


def limited(low: FloatArray, high: FloatArray) -> BoolArray:
    """Converged, where limits are all that is asked for."""
    return np.asarray(~(np.isnan(low) | np.isnan(high)))


@dataclass(frozen=True, slots=True)
class Certificate:
    """One study. `control`: the method is known to fail here; a certificate that did not see it would be worthless."""

    estimator: str
    scenario: str
    n: int
    replicates: int = 10_000
    control: bool = False
    note: str = ""

    @property
    def name(self) -> str:
        """File name without its ending."""
        return f"{self.estimator}--{self.scenario}--n{self.n}"


def known(*values: Row) -> Rows:
    """Rows that are their own truth."""
    return lambda s: [{"mc_error": 0.0, **v} for v in values]


def by_level(quantity: str, values: Mapping[str, float]) -> Rows:
    """Rows of one quantity that are their own truth, one per label."""
    return known(*({"quantity": quantity, "level": k, "value": v} for k, v in values.items()))


def bare() -> Scenario:
    """Subjects of two arms and nothing else: for worlds that draw from the replicate's own streams."""
    whole = load("kap-parallel").change(relapse=None, adverse_events=None, course=None, dosing=None)
    return whole.change(name="closed-forms", response=None, dropout=None, arms=whole.arms[:2])


def generator(d: Draw, world: str) -> np.random.Generator:
    """The stream of one world in a replicate."""
    return stream(d.seed, d.scenario.name, d.replicate, world)


def arm_rows(quantity: str, labels: Callable[[Scenario], list[Row]]) -> Callable[[Scenario], list[Row]]:
    """Rows of a quantity per arm, one per label."""
    return lambda s: [{"quantity": quantity, "TRT01P": a.label, **x} for a in s.arms for x in labels(s)]


def contrast_rows(quantity: str, labels: Callable[[Scenario], list[Row]]) -> Callable[[Scenario], list[Row]]:
    """Rows of a quantity per contrast with the reference arm, one per label."""

    def rows(s: Scenario) -> list[Row]:
        names = [f"{a.label} - {s.reference.label}" for a in s.arms[1:]]
        return [{"quantity": quantity, "contrast": name, **x} for name in names for x in labels(s)]

    return rows


NUMBERS = ("estimate", "std_error", "conf_low", "conf_high", "p_value")


def estimated(x: FloatArray) -> BoolArray:
    """Converged: an estimate with its error."""
    return np.asarray(np.isfinite(x[..., 0]) & np.isfinite(x[..., 1]))


def complete(x: FloatArray) -> BoolArray:
    """Converged: estimate, error and both limits."""
    return np.asarray(np.isfinite(x[..., :4]).all(axis=-1))


def within(x: FloatArray) -> BoolArray:
    """Converged: both limits."""
    return limited(x[..., 2], x[..., 3])


def tested(x: FloatArray) -> BoolArray:
    """Converged: a p value."""
    return np.asarray(np.isfinite(x[..., 4]))


def said(x: FloatArray) -> BoolArray:
    """Converged: any number at all."""
    return np.asarray(~np.isnan(x).all(axis=-1))


def fits(one: Callable[[Scenario, Draw, float], Any], good: Callable[[FloatArray], BoolArray] = complete) -> Analysis:
    """An estimator that is the library's own call, replicate by replicate: a table of results, or (rows, NUMBERS) with
    NaN for those it does not speak of. A fit that refuses has not converged.
    """

    def analyse(scenario: Scenario, draws: Sequence[Draw], level: float) -> Answer:
        def read(d: Draw) -> FloatArray:
            found = one(scenario, d, level)
            return numbers(found) if isinstance(found, pd.DataFrame) else np.asarray(found, dtype=float)

        x = _replicates(read, draws)
        estimate, error, low, high, p = np.moveaxis(x, 2, 0)
        return Answer(estimate, error, low, high, p, good(x))

    return analyse


def in_world(
    world: str, one: Callable[[np.random.Generator, int, float], Any], good: Callable[[FloatArray], BoolArray] = said
) -> Analysis:
    """An estimator of what a world draws: `one` takes the replicate's generator, its size and a level."""
    return fits(lambda scenario, d, level: one(generator(d, world), d.n, level), good)


def _replicates(numbers: Callable[[Draw], FloatArray], draws: Sequence[Draw]) -> FloatArray:
    """(replicates, rows, NUMBERS); NaN where a fit refuses."""

    def kept(d: Draw) -> FloatArray | None:
        try:
            return numbers(d)
        except (ConvergenceError, EstimabilityError):
            return None

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KapstatsWarning)
        found = [kept(d) for d in draws]
    shape = next((f.shape for f in found if f is not None), (1, len(NUMBERS)))
    return np.stack([np.full(shape, np.nan) if f is None else f for f in found])


def numbers(found: pd.DataFrame) -> FloatArray:
    """The NUMBERS of the rows of an answer, NaN for columns it has not."""
    return found.reindex(columns=list(NUMBERS)).to_numpy(dtype=float)


def arms_of(scenario: Scenario, codes: IntArray) -> pd.Categorical:
    """Arms as an ordered column for a formula."""
    return pd.Categorical.from_codes(codes, [a.label for a in scenario.arms], ordered=True)
