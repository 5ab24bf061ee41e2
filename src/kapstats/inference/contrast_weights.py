"""Families of contrasts: their names and their weights on the levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kapstats._types import FloatArray
from kapstats.errors import FormulaError, choose, nearest
from kapstats.formula.design import level_text

METHODS = ("trt.vs.ctrl", "pairwise", "poly")

#: contrasts by name: one weight per level, or {level: weight}
Weights = Mapping[str, Sequence[float] | Mapping[Any, float]]


def weights_of(method: str | Weights, labels: Sequence[str], ref: Any = None) -> tuple[list[str], FloatArray]:
    """Names and weights (contrasts, levels) of a family of contrasts.

    Examples
    --------
    >>> weights_of("trt.vs.ctrl", ["Placebo", "KAP"])
    (['KAP - Placebo'], array([[-1.,  1.]]))
    """
    k = len(labels)
    if isinstance(method, Mapping):
        return _custom(method, labels)
    choose(method, METHODS, "method")
    if k < 2:
        raise FormulaError(f"A contrast needs two levels or more; there is only {', '.join(labels)}.")
    if method == "poly":
        return polynomial(k)
    if method == "pairwise":
        pairs = [(i, j) for i in range(k) for j in range(i + 1, k)]
    else:
        control = _control(labels, ref)
        pairs = [(i, control) for i in range(k) if i != control]
    c = np.zeros((len(pairs), k))
    for row, (i, j) in enumerate(pairs):
        c[row, i], c[row, j] = 1.0, -1.0
    return [f"{labels[i]} - {labels[j]}" for i, j in pairs], c


def _custom(method: Weights, labels: Sequence[str]) -> tuple[list[str], FloatArray]:
    k = len(labels)
    rows = [
        _by_level(name, w, labels) if isinstance(w, Mapping) else np.asarray(w, dtype=float)
        for name, w in method.items()
    ]
    bad = [name for name, w in zip(method, rows, strict=True) if w.shape != (k,)]
    if bad or not rows:
        raise FormulaError(f"contrast {bad[0] if bad else ''!r}: give {k} weights, one per LS mean within `by`.")
    return list(method), np.array(rows)


def _by_level(name: str, weights: Mapping[Any, float], labels: Sequence[str]) -> FloatArray:
    """One weight per level from {level: weight}."""
    given = {level_text(level): float(w) for level, w in weights.items()}
    for level in given:
        if level not in labels:
            raise FormulaError(
                f"contrast {name!r}: {level!r} is no level.{nearest(level, labels)} Levels: {', '.join(labels)}."
            )
    return np.array([given.get(label, 0.0) for label in labels])


def _control(labels: Sequence[str], ref: Any) -> int:
    if ref is None:
        return 0
    if level_text(ref) not in labels:
        raise FormulaError(f"ref={ref!r} is no level.{nearest(str(ref), labels)} Levels: {', '.join(labels)}.")
    return list(labels).index(level_text(ref))


def polynomial(k: int) -> tuple[list[str], FloatArray]:
    """Orthogonal polynomial contrasts of k equally spaced levels in whole numbers (at most degree 6, as R emmeans).

    Examples
    --------
    >>> polynomial(3)[1].tolist()
    [[-1.0, 0.0, 1.0], [1.0, -2.0, 1.0]]
    """
    degree = min(6, k - 1)
    x = np.arange(k) - (k - 1) / 2
    q = np.linalg.qr(np.vander(x, degree + 1, increasing=True))[0][:, 1:].T
    names = ["linear", "quadratic", "cubic", "quartic", "degree 5", "degree 6"]
    return names[:degree], np.array([_whole(row * np.sign(row[-1])) for row in q])


def _whole(row: FloatArray) -> FloatArray:
    smallest = np.abs(row[np.abs(row) > 1e-8]).min()
    for factor in range(1, 61):
        scaled = row / smallest * factor
        if np.abs(scaled - np.round(scaled)).max() < 1e-6:
            return np.round(scaled) + 0.0
    return row
