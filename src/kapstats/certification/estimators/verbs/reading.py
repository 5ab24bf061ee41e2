"""From a replicate to a table, and from what a verb prints to the rows of a certificate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from kapstats._types import BoolArray, FloatArray, IntArray
from kapstats.certification.estimators.common import NUMBERS, Analysis, estimated, fits, numbers, rejects, within
from kapstats.simulation.adam import assemble
from kapstats.simulation.draw import Draw
from kapstats.simulation.scenario import Scenario

#: the two groups of a world, in the order of their numbers
ARMS = ("Placebo", "Drug")

#: a table of results, or (rows, NUMBERS)
Rows: TypeAlias = pd.DataFrame | FloatArray
Good: TypeAlias = Callable[[FloatArray], BoolArray]


def on_trial(one: Callable[[Scenario, Any, float], Rows], good: Good = estimated) -> Analysis:
    """`one` is given the trial's own ADaM tables."""
    return fits(lambda scenario, d, level: one(scenario, assemble(d, truth=False), level), good)


def of_counts(one: Callable[[Scenario, Draw, float], pd.DataFrame], null: float) -> Analysis:
    """Verbs of counts: without a p value the limits decide."""

    def read(scenario: Scenario, d: Draw, level: float) -> FloatArray:
        found = one(scenario, d, level)
        x = numbers(found)
        if "p_value" not in found:
            x[:, 4] = rejects(x[:, 2], x[:, 3], null, level)
        return x

    return fits(read, within)


def subjects(arm: IntArray, **columns: Any) -> pd.DataFrame:
    """One row per subject: identifier, arm as text and as a number, and what else is given."""
    who = [f"S{i:05d}" for i in range(arm.size)]
    return pd.DataFrame({"USUBJID": who, "TRT01P": np.array(ARMS)[arm], "TRT01PN": arm, **columns})


def keyed(found: pd.DataFrame, columns: Sequence[str], keys: Sequence[Any]) -> FloatArray:
    """NUMBERS of the rows with these keys, in their order; NaN for those that the answer lacks."""
    index = found.set_index(list(columns))
    wanted = pd.MultiIndex.from_tuples(keys, names=list(columns)) if len(columns) > 1 else pd.Index(keys)
    return numbers(index.reindex(wanted))


def p_values(p: Any) -> FloatArray:
    """Rows of tests: nothing but a p value."""
    p = np.atleast_1d(np.asarray(p, dtype=float))
    return np.column_stack([np.full((p.size, len(NUMBERS) - 1), np.nan), p])


def complement(x: FloatArray) -> FloatArray:
    """One minus a curve, with its limits turned round."""
    return np.column_stack([1 - x[:, 0], x[:, 1], 1 - x[:, 3], 1 - x[:, 2], x[:, 4]])
