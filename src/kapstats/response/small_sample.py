"""Which covariance and which degrees of freedom: answers to questions about L b of a fitted MMRM.

A `State` is a fitted model in the well-conditioned basis X R^-1, so a question L becomes L R^-1. Nothing is refitted:
the method is chosen when asking.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import linalg, special

from kapstats._types import BoolArray, FloatArray
from kapstats.errors import FormulaError, choose
from kapstats.inference.contrasts import Joint, Linear
from kapstats.kernels import kenward_roger as kr
from kapstats.kernels import sandwich as robust
from kapstats.kernels.covariance import derivatives, working_curvature
from kapstats.kernels.pattern_moments import PatternMoments
from kapstats.kernels.scoring import Fits, information_inverse

KENWARD_ROGER = ("kenward-roger", "kenward-roger-linear", "kenward-roger-mmrm")
DF = ("satterthwaite", *KENWARD_ROGER, "between-within", "residual", "normal")
VCOV = ("model", *robust.KINDS)


@dataclass(frozen=True)
class State:
    """A fitted MMRM as its inference sees it.

    stats : pattern statistics in the basis X R^-1; fits : one fit (B = 1); R : (q, q) upper triangular
    shift : (q,) what was taken off the coefficients in that basis before fitting (least squares)
    kept : (columns,) not aliased; alias_map : (q, aliased) with X_aliased = X_kept alias_map
    n_subjects, n_obs; between : (columns,) constant within every subject (the intercept is not counted as such)
    rows : cluster (n,) or None -> arguments of the sandwich kernel; None when no rows are at hand
    """

    stats: PatternMoments
    fits: Fits
    R: FloatArray
    shift: FloatArray
    kept: BoolArray
    alias_map: FloatArray
    n_subjects: int
    n_obs: int
    between: BoolArray
    has_intercept: bool
    information: str
    rows: Callable[[], dict[str, Any]] | None

    @property
    def beta(self) -> FloatArray:
        """Coefficients (q,) in the basis X R^-1."""
        return np.asarray(self.fits.point.beta[0] + self.shift)

    def turned(self, L: FloatArray) -> FloatArray:
        """L R^-1 for L over the columns kept."""
        return np.asarray(linalg.solve_triangular(self.R.T, L.T, lower=True, check_finite=False).T)

    def estimable(self, L: FloatArray) -> BoolArray:
        """Rows of L (k, columns) that are combinations of rows of X."""
        gap = np.abs(L[:, self.kept] @ self.alias_map - L[:, ~self.kept]).max(axis=1, initial=0.0)
        return np.asarray(gap <= 1e-8 * np.maximum(1.0, np.abs(L).max(axis=1, initial=0.0)))


@dataclass(frozen=True)
class Answerer:
    """A state with one pair of methods, and its covariance (q, q) in the turned basis."""

    state: State
    df: str
    vcov: str
    covariance: FloatArray
    sandwich: robust.Sandwich | None
    w: FloatArray

    def linear(self, L: FloatArray, *, check: bool = True) -> Linear:
        """Estimates of L b; NaN where not estimable (check=False: aliased coefficients are zero, as in R)."""
        state = self.state
        ok = state.estimable(L) if check else np.ones(len(L), dtype=bool)
        turned = state.turned(L[:, state.kept])
        estimate = np.where(ok, turned @ state.beta, np.nan)
        vcov = np.where(ok[:, None] & ok[None, :], turned @ self.covariance @ turned.T, np.nan)
        zero = np.abs(turned).max(axis=1, initial=0.0) == 0
        df = np.where(ok & ~zero, self._row_df(L, turned), np.nan)
        return Linear(estimate, vcov, df)

    def _row_df(self, L: FloatArray, turned: FloatArray) -> FloatArray:
        state = self.state
        if self.df == "normal":
            return np.full(len(L), np.inf)
        if self.df == "residual":
            return np.full(len(L), float(state.n_obs - state.kept.sum()))
        if self.df == "between-within":
            return _between_within(state, L)
        if self.sandwich is not None:
            return robust.row_df(self.sandwich, turned)
        with np.errstate(divide="ignore", invalid="ignore"):
            df = kr.row_df((turned @ state.fits.point.root[0])[None], state.fits.slopes.scaled, self.w)[0]
        return np.where(df > 2, df, np.nan) if self.df in KENWARD_ROGER else df

    def joint(self, L: FloatArray) -> Joint:
        """F test of L b = 0 over the rows of L that are estimable and independent."""
        state = self.state
        L = L[state.estimable(L)]
        turned = _independent(state.turned(L[:, state.kept]))
        rows = len(turned)
        if rows == 0:
            return Joint(float("nan"), 0, float("nan"), float("nan"))
        value = turned @ state.beta
        cov = turned @ self.covariance @ turned.T
        f = float(value @ np.linalg.pinv(cov, hermitian=True) @ value) / rows
        df, scale = self._joint_df(L, turned, cov)
        return Joint(scale * f, rows, df, _f_tail(scale * f, rows, df))

    def _joint_df(self, L: FloatArray, turned: FloatArray, cov: FloatArray) -> tuple[float, float]:
        state = self.state
        if self.df in KENWARD_ROGER:
            found = kr.kenward_roger(turned @ state.fits.point.root[0], state.fits.slopes.scaled[0], self.w[0])
            return found.df, found.scale
        if self.df != "satterthwaite":
            return float(self._row_df(L, turned).min()), 1.0
        vectors = np.linalg.eigh(cov)[1].T
        return kr.fai_cornelius(self._row_df(L, vectors @ turned)), 1.0


def _independent(turned: FloatArray) -> FloatArray:
    """The rows as they are when independent (Satterthwaite's joint df depend on their form), else a basis of them."""
    if not len(turned):
        return turned
    _, s, v = np.linalg.svd(turned, full_matrices=False)
    own = s > 1e-9 * max(s[0], 1e-300)
    return turned if own.sum() == len(turned) else np.asarray(v[own])


def _f_tail(f: float, num: int, df: float) -> float:
    if not (np.isfinite(f) and df > 0):
        return float("nan")
    return float(special.chdtrc(num, num * f) if np.isinf(df) else special.fdtrc(num, df, f))


def _between_within(state: State, L: FloatArray) -> FloatArray:
    """The smallest df among the coefficients of each row; the intercept counts as within (as R mmrm)."""
    n_between = int((state.between & state.kept).sum())
    n_within = int(state.kept.sum()) - n_between - int(state.has_intercept)
    between = state.n_subjects - n_between - int(state.has_intercept)
    within = state.n_obs - state.n_subjects - n_within
    each = np.where(state.between, float(between), float(within))
    used = np.abs(L) > 1e-10 * np.abs(L).max(axis=1, keepdims=True, initial=1e-300)
    return np.asarray(np.where(used, each, np.inf).min(axis=1))


def resolve(df: str | None, vcov: str | None, default_df: str, default_vcov: str, reml: bool) -> tuple[str, str]:
    """The pair of methods asked for; None takes the fit's default (satterthwaite where Kenward-Roger is undefined)."""
    chosen_vcov = choose(default_vcov if vcov is None else vcov, VCOV, "vcov")
    chosen = choose(default_df if df is None else df, DF, "df")
    if chosen in KENWARD_ROGER and chosen_vcov != "model":
        if df is not None:
            raise FormulaError(f"df={df!r} is defined for vcov='model' only; use 'satterthwaite' with {chosen_vcov}.")
        chosen = "satterthwaite"
    if chosen in KENWARD_ROGER and not reml:
        raise FormulaError(f"df={chosen!r} is defined for REML only; refit with reml=True or use 'satterthwaite'.")
    return chosen, chosen_vcov


def answerer(state: State, df: str, vcov: str, cluster: Any = None) -> Answerer:
    """Build the covariance for a pair of methods."""
    w = state.fits.w
    if state.information == "expected":
        w = information_inverse(state.fits.slopes.expected, state.fits.free, state.fits.slopes.size)[0]
    if vcov == "model":
        covariance = _model_covariance(state, df, w)
        return Answerer(state, df, vcov, covariance, None, w)
    if state.rows is None:
        raise FormulaError(f"vcov={vcov!r} needs the rows of the data; only summed statistics are at hand.")
    point = state.fits.point
    at = {"beta": point.beta[0], "omega": point.omega[0], "root": point.root[0]}
    found = robust.sandwich(vcov, **at, **state.rows(), cluster=cluster)
    return Answerer(state, df, vcov, found.vcov, found, w)


def _model_covariance(state: State, df: str, w: FloatArray) -> FloatArray:
    """Phi, or the Kenward-Roger adjusted one."""
    fits = state.fits
    if df not in KENWARD_ROGER:
        return np.asarray(fits.point.phi[0])
    _, jac, second = derivatives(fits.structure, fits.theta)
    curvature = None if df == "kenward-roger-linear" else kr.contracted_curvature(second, w)
    if df == "kenward-roger-mmrm":
        extra = np.einsum("j,jxst->xst", working_curvature(fits.structure, fits.theta[0], w[0]), jac[0])[None]
        curvature = extra if curvature is None else curvature + extra
    point = fits.point
    return kr.adjusted(state.stats, point.omega, point.root, fits.slopes.scaled, w, jac, curvature)[0]
