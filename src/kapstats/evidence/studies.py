"""Studies as effects with variances, read from the columns of a table."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kapstats import scales
from kapstats._types import BoolArray, FloatArray, IntArray
from kapstats.errors import DataError, FormulaError, choose, first_ids
from kapstats.evidence.columns import hints
from kapstats.kernels import meta

INVERSE_VARIANCE = tuple(meta.TAU2)
RATIOS = ("OR", "RR")
NUMBERS = ("x1", "n1", "x2", "n2", "x", "n", "mean1", "sd1", "mean2", "sd2", "estimate", "std_error")
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
    columns, frame = set(frame.columns), frame.reset_index(drop=True)
    names = tuple(frame["study"].astype(str)) if "study" in columns else tuple(str(i + 1) for i in range(len(frame)))
    chosen = _measure(measure)
    if {"x1", "n1", "x2", "n2"} <= columns and chosen not in ("SMD", "MD"):
        return _two_arms(frame, names, choose(chosen or "RR", TWO_ARMS, "measure"), drop00, add, model)
    if {"x", "n"} <= columns and chosen in (None, *ONE_ARM):
        return _one_arm(frame, names, chosen or "logit", add)
    if model not in INVERSE_VARIANCE:
        raise FormulaError(f"model={model!r} needs counts: columns x1 n1 x2 n2 (or x n for glmm).")
    if {"mean1", "sd1", "n1", "mean2", "sd2", "n2"} <= columns and chosen in (None, "SMD", "MD"):
        return _means(frame, names, chosen or "SMD")
    if {"estimate", "std_error"} <= columns:
        y, se = (column(frame, c) for c in ("estimate", "std_error"))
        return _complete(names, y, se**2, {}, {"standard error not above 0": se <= 0}), chosen or "estimate"
    for needed, known in (({"x", "n"}, ONE_ARM), ({"mean1", "sd1", "n1", "mean2", "sd2", "n2"}, ("SMD", "MD"))):
        if needed <= columns:
            choose(str(chosen), known, "measure")
    raise DataError(
        "meta_analysis needs x1 n1 x2 n2, or x n, or mean1 sd1 n1 mean2 sd2 n2, or estimate std_error. "
        f"The table has: {', '.join(map(str, frame.columns))}.{hints(frame.columns, NUMBERS)}"
    )


def _measure(given: str | None) -> str | None:
    """The measure under its usual letters, whatever the case; a measure in words by its letters."""
    words = scales.named(str(given))
    known = {m.lower(): m for m in (*TWO_ARMS, *ONE_ARM, "SMD", "MD")}
    letters = {text: code for code, text in scales.NAMES.items()}
    return None if given is None else known.get(str(given).lower(), letters.get(words, given))


def is_ratio(measure: str) -> bool:
    """Whether effects on this measure are logs of ratios."""
    return scales.Scale(scales.named(measure), "log").is_ratio


def scale_of(measure: str) -> dict[str, str]:
    """`scale` and `measure` of a result of pooling."""
    log = is_ratio(measure) or measure == "log"
    scale = "log" if log else "logit" if measure == "logit" else "identity"
    return {"scale": scale, "measure": "" if measure == "estimate" else measure}


def column(frame: pd.DataFrame, name: str) -> FloatArray:
    """A column as numbers (rows,), missing as NaN; a DataError names what is not numeric."""
    values = pd.to_numeric(frame[name], errors="coerce")
    bad = frame.loc[values.isna() & frame[name].notna(), name]
    if len(bad):
        raise DataError(f"{name}: {len(bad)} values are not numbers ({first_ids(bad)}).")
    return values.to_numpy(dtype=float)


Counts = dict[str, FloatArray]


def count_faults(x: FloatArray, n: FloatArray) -> dict[str, BoolArray]:
    """Studies (or arms) that cannot be used, by the reason."""
    return {
        "a count is missing": ~(np.isfinite(x) & np.isfinite(n)),
        "an arm without subjects": n == 0,
        "a count below 0 or above its n": (x < 0) | (n < 0) | (x > n),
        "counts that are not whole numbers": (x != np.round(x)) | (n != np.round(n)),
    }


def _counts(frame: pd.DataFrame, pairs: tuple[tuple[str, str], ...]) -> tuple[Counts, dict[str, BoolArray]]:
    """The counts, and which studies cannot be used and why; x above n stops: a number is in the wrong place."""
    found = {name: column(frame, name) for pair in pairs for name in pair}
    faults: dict[str, BoolArray] = {}
    for x, n in pairs:
        for why, wrong in count_faults(found[x], found[n]).items():
            if "above" in why and wrong.any():
                rows = np.flatnonzero(wrong) + 1
                raise DataError(f"{x}, {n}: {len(rows)} studies have impossible counts (row {first_ids(rows)}): {why}.")
            faults[why] = faults.get(why, np.zeros(len(frame), dtype=bool)) | wrong
    return found, faults


def _two_arms(
    frame: pd.DataFrame, names: tuple[str, ...], measure: str, drop00: bool | None, add: float, model: str
) -> tuple[Studies, str]:
    c, faults = _counts(frame, (("x1", "n1"), ("x2", "n2")))
    with np.errstate(divide="ignore", invalid="ignore"):
        y, v = meta.two_by_two(c["x1"], c["n1"], c["x2"], c["n2"], measure, add)
    nothing = c["x1"] + c["x2"] == 0
    everything = c["x1"] + c["x2"] == c["n1"] + c["n2"]
    silent = nothing if measure == "RR" and drop00 is None else nothing | everything
    leave = (measure in RATIOS and model != "beta-binomial") if drop00 is None else drop00
    zero = (c["x1"] == 0) | (c["x1"] == c["n1"]) | (c["x2"] == 0) | (c["x2"] == c["n2"])
    if leave:
        faults["no event in either arm, or nothing but events"] = silent
    corrected = zero if model in INVERSE_VARIANCE and measure != "AS" else np.zeros(len(y), dtype=bool)
    counts = {**c, "corrected": corrected.astype(float)}
    return _complete(names, y, v, counts, faults), measure


def _one_arm(frame: pd.DataFrame, names: tuple[str, ...], measure: str, add: float) -> tuple[Studies, str]:
    c, faults = _counts(frame, (("x", "n"),))
    with np.errstate(divide="ignore", invalid="ignore"):
        y, v = meta.one_proportion(c["x"], c["n"], measure, add)
    zero = (c["x"] == 0) | (c["x"] == c["n"])
    changed = zero if measure in ("raw", "log", "logit") else np.zeros(len(y), dtype=bool)
    return _complete(names, y, v, {**c, "corrected": changed.astype(float)}, faults), measure


def _means(frame: pd.DataFrame, names: tuple[str, ...], measure: str) -> tuple[Studies, str]:
    m1, s1, n1, m2, s2, n2 = (column(frame, c) for c in ("mean1", "sd1", "n1", "mean2", "sd2", "n2"))
    faults = {
        "an arm without subjects": (n1 <= 0) | (n2 <= 0),
        "a standard deviation not above 0": (s1 <= 0) | (s2 <= 0),
    }
    with np.errstate(divide="ignore", invalid="ignore"):
        if measure == "MD":
            return _complete(names, m1 - m2, s1**2 / n1 + s2**2 / n2, {}, faults), measure
        y, v = meta.standardised_difference(m1, s1, n1, m2, s2, n2)
    return _complete(names, y, v, {}, faults), measure


def _complete(
    names: tuple[str, ...], y: FloatArray, v: FloatArray, counts: Counts, faults: dict[str, BoolArray]
) -> Studies:
    """Studies that can be used; the others are named with the reason, and studies that stand twice are named too."""
    faults = {**faults, "effect or variance missing": ~(np.isfinite(y) & np.isfinite(v) & (v > 0))}
    use, notes = np.ones(len(y), dtype=bool), []
    for why, wrong in faults.items():
        left = [n for n, w in zip(names, wrong & use, strict=True) if w]
        notes += [f"{len(left)} studies left out ({why}): {first_ids(left)}."] if left else []
        use &= ~wrong
    if not use.any():
        raise DataError(f"meta_analysis: no study is left that holds information on this measure. {' '.join(notes)}")
    kept = [n for n, u in zip(names, use, strict=True) if u]
    return Studies(
        names=tuple(kept),
        y=y[use],
        v=v[use],
        counts={key: values[use] for key, values in counts.items()},
        dropped=tuple(n for n, u in zip(names, use, strict=True) if not u),
        notes=(*notes, *_twice(kept)),
        rows=np.flatnonzero(use),
    )


def _twice(names: list[str]) -> list[str]:
    """Names that differ in case and blanks only are one."""
    seen = Counter(n.strip().casefold() for n in names)
    twice = dict.fromkeys(n.strip() for n in names if seen[n.strip().casefold()] > 1)
    return [f"Studies that stand more than once are taken as independent: {first_ids(twice)}."] if twice else []
