"""Studies as effects with variances, read from the columns of a table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from kapstats._types import BoolArray, FloatArray, IntArray
from kapstats.errors import DataError, FormulaError, choose, first_ids
from kapstats.kernels import meta

INVERSE_VARIANCE = tuple(meta.TAU2)
RATIOS = ("OR", "RR")
TWO_ARMS = ("RD", "OR", "RR", "AS")
ONE_ARM = ("logit", "raw", "log", "arcsine", "freeman-tukey")


@dataclass(frozen=True)
class Studies:
    """k studies as effects: names, y, v (k,), counts where they were given, and what was left out."""

    names: tuple[str, ...]
    y: FloatArray
    v: FloatArray
    counts: dict[str, FloatArray]
    dropped: tuple[str, ...]
    notes: tuple[str, ...]
    rows: IntArray  # positions of the studies used


def read(frame: pd.DataFrame, measure: str | None, drop00: bool | None, add: float, model: str) -> tuple[Studies, str]:
    """The studies as effects, from the columns that are there."""
    columns = set(frame.columns)
    names = tuple(frame["study"].astype(str)) if "study" in columns else tuple(str(i + 1) for i in range(len(frame)))
    chosen = {m.lower(): m for m in (*TWO_ARMS, *ONE_ARM, "SMD", "MD")}.get(str(measure).lower(), measure)
    if {"x1", "n1", "x2", "n2"} <= columns and chosen not in ("SMD", "MD"):
        return _two_arms(frame, names, choose(chosen or "RR", TWO_ARMS, "measure"), drop00, add, model)
    if {"x", "n"} <= columns and chosen in (None, *ONE_ARM):
        return _one_arm(frame, names, chosen or "logit", add)
    if model not in INVERSE_VARIANCE:
        raise FormulaError(f"model={model!r} needs counts: columns x1 n1 x2 n2 (or x n for glmm).")
    if {"mean1", "sd1", "n1", "mean2", "sd2", "n2"} <= columns and chosen in (None, "SMD", "MD"):
        return _means(frame, names, chosen or "SMD")
    if {"estimate", "std_error"} <= columns:
        y, se = (_column(frame, c) for c in ("estimate", "std_error"))
        if (se <= 0).any():
            raise DataError(f"std_error: {int((se <= 0).sum())} studies have none above 0.")
        return _complete(names, y, se**2, {}), chosen or "estimate"
    for needed, known in (({"x", "n"}, ONE_ARM), ({"mean1", "sd1", "n1", "mean2", "sd2", "n2"}, ("SMD", "MD"))):
        if needed <= columns:
            choose(str(chosen), known, "measure")
    raise DataError(
        "meta_analysis needs x1 n1 x2 n2, or x n, or mean1 sd1 n1 mean2 sd2 n2, or estimate std_error. "
        f"The table has: {', '.join(map(str, frame.columns))}."
    )


def _column(frame: pd.DataFrame, name: str) -> FloatArray:
    values = pd.to_numeric(frame[name], errors="coerce")
    bad = frame.loc[values.isna() & frame[name].notna(), name]
    if len(bad):
        raise DataError(f"{name}: {len(bad)} values are not numbers ({first_ids(bad)}).")
    return values.to_numpy(dtype=float)


def _counts(frame: pd.DataFrame, pairs: tuple[tuple[str, str], ...]) -> dict[str, FloatArray]:
    found = {name: _column(frame, name) for pair in pairs for name in pair}
    for x, n in pairs:
        wrong = (found[x] < 0) | (found[x] > found[n]) | (found[n] <= 0) | (found[x] % 1 != 0) | (found[n] % 1 != 0)
        if wrong.any():
            rows = np.flatnonzero(wrong) + 1
            raise DataError(f"{x}, {n}: {len(rows)} studies have impossible counts (row {first_ids(rows)}).")
    return found


def _two_arms(
    frame: pd.DataFrame, names: tuple[str, ...], measure: str, drop00: bool | None, add: float, model: str
) -> tuple[Studies, str]:
    c = _counts(frame, (("x1", "n1"), ("x2", "n2")))
    y, v = meta.two_by_two(c["x1"], c["n1"], c["x2"], c["n2"], measure, add)
    nothing = c["x1"] + c["x2"] == 0
    everything = c["x1"] + c["x2"] == c["n1"] + c["n2"]
    silent = nothing if measure == "RR" and drop00 is None else nothing | everything
    leave = (measure in RATIOS and model != "beta-binomial") if drop00 is None else drop00
    zero = (c["x1"] == 0) | (c["x1"] == c["n1"]) | (c["x2"] == 0) | (c["x2"] == c["n2"])
    kept = ~silent if leave else np.ones(len(y), dtype=bool)
    corrected = zero if model in INVERSE_VARIANCE and measure != "AS" else np.zeros(len(y), dtype=bool)
    counts = {**c, "corrected": corrected.astype(float)}
    studies = _complete(names, y, v, counts, kept, "no event in either arm, or nothing but events")
    return studies, measure


def _one_arm(frame: pd.DataFrame, names: tuple[str, ...], measure: str, add: float) -> tuple[Studies, str]:
    c = _counts(frame, (("x", "n"),))
    y, v = meta.one_proportion(c["x"], c["n"], measure, add)
    zero = (c["x"] == 0) | (c["x"] == c["n"])
    changed = zero if measure in ("raw", "log", "logit") else np.zeros(len(y), dtype=bool)
    return _complete(names, y, v, {**c, "corrected": changed.astype(float)}), measure


def _means(frame: pd.DataFrame, names: tuple[str, ...], measure: str) -> tuple[Studies, str]:
    m1, s1, n1, m2, s2, n2 = (_column(frame, c) for c in ("mean1", "sd1", "n1", "mean2", "sd2", "n2"))
    if measure == "MD":
        return _complete(names, m1 - m2, s1**2 / n1 + s2**2 / n2, {}), measure
    y, v = meta.standardised_difference(m1, s1, n1, m2, s2, n2)
    return _complete(names, y, v, {}), measure


def _complete(
    names: tuple[str, ...],
    y: FloatArray,
    v: FloatArray,
    counts: dict[str, FloatArray],
    kept: BoolArray | None = None,
    reason: str = "",
) -> Studies:
    """Studies that say something; the others are named."""
    kept = np.ones(len(y), dtype=bool) if kept is None else kept
    whole = np.isfinite(y) & np.isfinite(v) & (v > 0)
    use = kept & whole
    if not use.any():
        raise DataError("meta_analysis: no study is left that holds information on this measure.")
    notes = []
    if (~kept).any():
        left = [n for n, k in zip(names, kept, strict=True) if not k]
        notes.append(f"{len(left)} studies left out ({reason}): {first_ids(left)}.")
    if (kept & ~whole).any():
        left = [n for n, k in zip(names, kept & ~whole, strict=True) if k]
        notes.append(f"{len(left)} studies left out (effect or variance missing): {first_ids(left)}.")
    return Studies(
        names=tuple(n for n, u in zip(names, use, strict=True) if u),
        y=y[use],
        v=v[use],
        counts={key: values[use] for key, values in counts.items()},
        dropped=tuple(n for n, u in zip(names, use, strict=True) if not u),
        notes=tuple(notes),
        rows=np.flatnonzero(use),
    )
