"""Analyses of completed data sets: the built-in ANCOVA by visit, batched over replicates, and the caller's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from kapstats import frames
from kapstats._types import FloatArray, IntArray
from kapstats.errors import FormulaError
from kapstats.estimates import Estimates
from kapstats.formula import design, expressions, split
from kapstats.response.imputation_data import Wide, as_long

Analysis = Callable[[pd.DataFrame], Any]


@dataclass(frozen=True)
class Ancova:
    """Least squares of the outcome at every visit on subject-level columns; LS means by standardisation."""

    ids: pd.DataFrame
    d: FloatArray
    by_arm: FloatArray  # (arms, n, p): the same subjects as if all were in each arm
    reference: int
    visits: int

    @classmethod
    def of(cls, wide: Wide, rhs: str | None) -> Ancova:
        text = rhs or _subject_terms(wide)
        order = {wide.plan.arm: wide.arms}
        built = design.build(text, wide.subjects, order=order)
        if wide.plan.arm not in built.factors or built.aliased.any():
            raise FormulaError(f"analysis {text!r}: it has to hold {wide.plan.arm!r} and no collinear columns.")
        levels = [pd.Categorical([a] * len(wide.subjects), categories=list(wide.arms), ordered=True) for a in wide.arms]
        by_arm = np.stack([built.spec.matrix(wide.subjects.assign(**{wide.plan.arm: level})) for level in levels])
        others = [k for k in range(len(wide.arms)) if k != wide.reference]
        rows: list[tuple[Any, ...]] = []
        for visit in wide.visits:
            for k in others:
                text_of = f"{wide.arms[k]} - {wide.arms[wide.reference]}"
                rows.append(("difference", visit, text_of, None))
            rows.extend(("lsmean", visit, None, arm) for arm in wide.arms)
        ids = pd.DataFrame(rows, columns=["quantity", wide.visit, "contrast", wide.plan.arm])
        return cls(ids, built.X, by_arm, wide.reference, len(wide.visits))

    def _functions(self, weight: FloatArray) -> FloatArray:
        """(B, rows, p): arm differences, then LS means, for subject weights (B, n)."""
        share = weight / weight.sum(axis=1, keepdims=True)
        lsm = np.einsum("bn,anp->bap", share, self.by_arm, optimize=True)
        others = [k for k in range(lsm.shape[1]) if k != self.reference]
        return np.concatenate([lsm[:, others] - lsm[:, [self.reference]], lsm], axis=1)

    def point(self, y: FloatArray) -> tuple[pd.DataFrame, FloatArray, FloatArray, float]:
        """Identifiers, estimates and standard errors (M, k), df of completed data y (M, n, m)."""
        n, p = self.d.shape
        inverse = np.linalg.inv(self.d.T @ self.d)
        beta = np.einsum("pn,bnm->bpm", inverse @ self.d.T, y, optimize=True)
        residual = y - np.einsum("np,bpm->bnm", self.d, beta, optimize=True)
        s2 = (residual**2).sum(axis=1) / (n - p)
        functions = self._functions(np.ones((1, n)))[0]
        unit = np.einsum("kp,pr,kr->k", functions, inverse, functions)
        estimate = np.einsum("kp,bpm->bmk", functions, beta).reshape(len(y), -1)
        error = np.sqrt(s2[:, :, None] * unit).reshape(len(y), -1)
        return self.ids, estimate, error, float(n - p)

    def replicates(self, y: FloatArray, times: FloatArray) -> FloatArray:
        """Estimates (B, k) of resampled trials: y (B, n, m), times (B, n) how often each subject counts."""
        gram = np.einsum("bn,np,nr->bpr", times, self.d, self.d, optimize=True)
        moment = np.einsum("bn,np,bnm->bpm", times, self.d, y, optimize=True)
        beta = np.linalg.solve(gram, moment)
        return np.einsum("bkp,bpm->bmk", self._functions(times), beta).reshape(len(y), -1)


def _subject_terms(wide: Wide) -> str:
    """The arm and every other column of the imputation model that is constant within subjects, as main effects."""
    fixed = expressions.columns_in(split.parse(wide.plan.formula).fixed.replace(":", "*"))
    return " + ".join(f"`{c}`" for c in dict.fromkeys((wide.plan.arm, *(c for c in fixed if c != wide.visit))))


@dataclass(frozen=True)
class Custom:
    """The caller's analysis of completed frames."""

    analysis: Analysis
    wide: Wide

    def _one(self, y: FloatArray, who: IntArray) -> pd.DataFrame:
        """The analysis of subjects `who`; one who stands there several times becomes several subjects."""
        wide, m = self.wide, y.shape[1]
        rows = (who[:, None] * m + np.arange(m)).ravel()
        frame = as_long(wide, y, np.isnan(wide.y)).iloc[rows].reset_index(drop=True)
        if len(np.unique(who)) < len(who):
            frame[wide.subject] = np.repeat(np.arange(len(who)), m)
        result = self.analysis(frame)
        found = result.frame if isinstance(result, Estimates) else pd.DataFrame(result)
        frames.require(found, ["estimate", "std_error"], "the analysis returned a table that")
        return found

    def point(self, y: FloatArray) -> tuple[pd.DataFrame, FloatArray, FloatArray, FloatArray | float]:
        everyone = np.arange(y.shape[1])
        found = [self._one(part, everyone) for part in y]
        numbers = ["estimate", "std_error", "df", "statistic", "p_value", "conf_low", "conf_high"]
        ids = found[0].drop(columns=[c for c in numbers if c in found[0]])
        estimate, error = (np.stack([f[c].to_numpy(dtype=float) for f in found]) for c in ("estimate", "std_error"))
        df = np.stack([f["df"].to_numpy(dtype=float) for f in found]).mean(axis=0) if "df" in found[0] else np.inf
        return ids, estimate, error, df

    def replicates(self, y: FloatArray, times: FloatArray) -> FloatArray:
        found = [self._one(part, np.repeat(np.arange(len(t)), t.astype(int))) for part, t in zip(y, times, strict=True)]
        return np.stack([f["estimate"].to_numpy(dtype=float) for f in found])
