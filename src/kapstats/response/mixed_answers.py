"""Answers to questions about L b of a model with random effects: which covariance, which degrees of freedom."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kapstats._types import FloatArray
from kapstats.errors import FormulaError, choose
from kapstats.formula.design import Design
from kapstats.formula.grid import estimable
from kapstats.inference.contrasts import Joint, Linear
from kapstats.kernels import kenward_roger as kr
from kapstats.kernels.random_effects_kr import SmallSample
from kapstats.response.small_sample import _f_tail, _independent

DF = ("satterthwaite", "kenward-roger", "kenward-roger-linear", "residual", "normal")
KENWARD_ROGER = DF[1:3]


@dataclass(frozen=True)
class MixedAnswerer:
    """Fixed effects in a working basis with one df method.

    turn (q, p): L over the kept columns becomes L turn; beta (p,) in that basis; covariance (p, p) reported;
    root (p, p): Phi = root root' (unadjusted, in units of s2); small: parameters of Satterthwaite or Kenward-Roger
    """

    design: Design
    df: str
    turn: FloatArray
    beta: FloatArray
    estimate: FloatArray
    covariance: FloatArray
    root: FloatArray
    small: SmallSample | None
    residual_df: float

    def linear(self, L: FloatArray, *, check: bool = True) -> Linear:
        """Estimates of L b; NaN for rows that are not estimable (check=False: aliased columns taken as zero, as R)."""
        ok = estimable(L, self.design) if check else np.ones(len(L), dtype=bool)
        kept = L[:, ~self.design.aliased]
        turned = kept @ self.turn
        estimate = np.where(ok, kept @ self.estimate, np.nan)
        vcov = np.where(ok[:, None] & ok[None, :], turned @ self.covariance @ turned.T, np.nan)
        zero = np.abs(turned).max(axis=1, initial=0.0) == 0
        return Linear(estimate, vcov, np.where(ok & ~zero, self._row_df(turned), np.nan))

    def _row_df(self, turned: FloatArray) -> FloatArray:
        if self.small is None:
            return np.full(len(turned), np.inf if self.df == "normal" else self.residual_df)
        with np.errstate(divide="ignore", invalid="ignore"):
            df = kr.row_df((turned @ self.root)[None], self.small.scaled[None], self.small.w[None])[0]
        # two clusters per arm have exactly two degrees of freedom: not lost to rounding
        return np.where(df > 2 * (1 - 1e-6), df, np.nan) if self.df in KENWARD_ROGER else df

    def joint(self, L: FloatArray) -> Joint:
        """F test of L b = 0 over the estimable, independent rows of L."""
        kept = L[estimable(L, self.design)][:, ~self.design.aliased]
        turned = _independent(kept @ self.turn)
        rows = len(turned)
        if rows == 0:
            return Joint(float("nan"), 0, float("nan"), float("nan"))
        cov = turned @ self.covariance @ turned.T
        value = turned @ self.beta
        f = float(value @ np.linalg.pinv(cov, hermitian=True) @ value) / rows
        df, scale = self._joint_df(turned, cov)
        return Joint(scale * f, rows, df, _f_tail(scale * f, rows, df))

    def _joint_df(self, turned: FloatArray, cov: FloatArray) -> tuple[float, float]:
        if self.small is None or len(turned) == 1:
            return float(self._row_df(turned).min()), 1.0
        if self.df in KENWARD_ROGER:
            found = kr.kenward_roger(turned @ self.root, self.small.scaled, self.small.w)
            return found.df, found.scale
        vectors = np.linalg.eigh(cov)[1].T
        return kr.fai_cornelius(self._row_df(vectors @ turned)), 1.0


def resolve(df: str | None, default: str, reml: bool) -> str:
    """The df method asked for; Kenward-Roger is defined under REML only."""
    chosen = choose(default if df is None else df, DF, "df")
    if chosen in KENWARD_ROGER and not reml:
        raise FormulaError(f"df={chosen!r} is defined for REML only; refit with reml=True or use 'satterthwaite'.")
    return chosen


def check_vcov(vcov: str | None) -> None:
    """Only the model covariance is offered here."""
    if vcov not in (None, "model"):
        raise FormulaError(f"vcov={vcov!r}: a model with random effects offers vcov='model' only.")
