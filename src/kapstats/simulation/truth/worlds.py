"""Potential outcomes: the same subjects on every arm in turn, and the rows of the truth that come of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from kapstats._types import FloatArray
from kapstats.simulation.draw import Draw, draw
from kapstats.simulation.scenario import Scenario

SEED = 20_240_101
"""entropy of the potential outcomes; no trial is drawn from it"""
CHUNK = 20_000
Row = dict[str, Any]


class Moments:
    """Running means and the errors of means and of differences to the reference arm (first axis: arms)."""

    def __init__(self) -> None:
        self.n = 0
        self.first: Any = 0.0
        self.second: Any = 0.0
        self.paired: Any = 0.0

    def add(self, y: FloatArray) -> None:
        """Add outcomes (arms, subjects, ...)."""
        self.n += y.shape[1]
        self.first = self.first + y.sum(axis=1)
        self.second = self.second + (y**2).sum(axis=1)
        self.paired = self.paired + ((y - y[:1]) ** 2).sum(axis=1)

    @property
    def mean(self) -> FloatArray:
        """(arms, ...) means."""
        return self.first / self.n

    @property
    def error(self) -> FloatArray:
        """(arms, ...) Monte-Carlo errors of the means."""
        return np.sqrt(np.maximum(self.second / self.n - self.mean**2, 0.0) / self.n)

    @property
    def paired_error(self) -> FloatArray:
        """(arms, ...) errors of the differences to the reference arm, whose subjects are the same."""
        gap = self.mean - self.mean[:1]
        return np.sqrt(np.maximum(self.paired / self.n - gap**2, 0.0) / self.n)

    def log_error(self, slope: FloatArray) -> FloatArray:
        """Error of g(mean) - g(mean of the reference arm), from the slopes g'(mean); the two are paired."""
        one, gap = self.error**2, self.paired_error**2
        shared = (one + one[:1] - gap) / 2
        return np.sqrt(np.maximum(slope**2 * one + slope[:1] ** 2 * one[:1] - 2 * slope * slope[:1] * shared, 0.0))


def worlds(scenario: Scenario, n: int, parts: Iterable[str], concentrations: int | None = None) -> Iterator[list[Draw]]:
    """Chunks of subjects, drawn once per arm with the same deviates; all with one arm's `concentrations` if given."""
    for chunk in range(-(-n // CHUNK)):
        size = min(CHUNK, n - chunk * CHUNK)
        through = None if concentrations is None else np.full(size, concentrations)
        every = [np.full(size, a) for a in range(len(scenario.arms))]
        yield [draw(scenario, size, SEED, chunk, parts, arm, through, apart=True) for arm in every]


def outcomes(scenario: Scenario, n: int, parts: Iterable[str], measure: Callable[[Draw], FloatArray]) -> Moments:
    """Moments of a measure (subjects, ...) over the potential outcomes."""
    moments = Moments()
    for arms in worlds(scenario, n, parts):
        moments.add(np.stack([measure(d) for d in arms]))
    return moments


def arm_rows(
    scenario: Scenario, value: FloatArray, error: FloatArray | None, method: str, labels: list[Row], **more: Any
) -> list[Row]:
    """One row per arm and column of `value` (arms, columns)."""
    return [
        {"TRT01P": arm.label, **label, **more, **value_of(value[a, j], None if error is None else error[a, j], method)}
        for a, arm in enumerate(scenario.arms)
        for j, label in enumerate(labels)
    ]


def contrast_rows(
    scenario: Scenario, value: FloatArray, error: FloatArray | None, method: str, labels: list[Row], **more: Any
) -> list[Row]:
    """One row per arm but the reference and column: value minus the reference arm's."""
    return [
        {
            "contrast": f"{arm.label} - {scenario.reference.label}", "TRT01P": arm.label, **label, **more,
            **value_of(value[a, j] - value[0, j], None if error is None else error[a, j], method),
        }
        for a, arm in enumerate(scenario.arms) if a
        for j, label in enumerate(labels)
    ]  # fmt: skip


def value_of(value: float, error: float | None, method: str) -> Row:
    """The value, its Monte-Carlo error (0 for a closed form) and how it was found."""
    exact = 0.0 if error is None else round(float(error), 6)
    return {"value": round(float(value), 6) + 0.0, "mc_error": exact, "method": method}


def ratio_rows(scenario: Scenario, moments: Moments, odds: bool, labels: list[Row], **more: Any) -> list[Row]:
    """Ratios of probabilities, or of their odds, to the reference arm's, on the natural scale; none where one is 0."""
    p = moments.mean.reshape(len(scenario.arms), -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = p / (1 - p) if odds else p
        slope = 1 / (moments.mean * (1 - moments.mean)) if odds else 1 / moments.mean
        ratio = value / value[:1]
        error = ratio * moments.log_error(slope).reshape(ratio.shape)
    method = f"potential outcomes, n = {moments.n}"
    rows = contrast_rows(scenario, ratio, error, method, labels, **more)
    for row, (a, j) in zip(rows, np.ndindex(len(scenario.arms) - 1, len(labels)), strict=True):
        row |= value_of(ratio[a + 1, j], error[a + 1, j], method)
    return [row for row in rows if np.isfinite(row["value"])]


def both(
    name: str, scenario: Scenario, moments: Moments, labels: list[Row], contrast: str, **more: Any
) -> dict[str, list[Row]]:
    """A quantity per arm and its contrast, from potential outcomes."""
    method = f"potential outcomes, n = {moments.n}"
    flat = [x.reshape(len(scenario.arms), -1) for x in (moments.mean, moments.error, moments.paired_error)]
    return {
        name: arm_rows(scenario, flat[0], flat[1], method, labels, **more),
        contrast: contrast_rows(scenario, flat[0], flat[2], method, labels, **more),
    }
