"""A fitted MMRM: what it answers, and how it is reached from pattern statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from kapstats import frames
from kapstats._types import FloatArray, FrameLike
from kapstats.errors import DataError, FormulaError, choose, warn
from kapstats.estimates import Estimates
from kapstats.formula.design import Design
from kapstats.formula.expressions import offsets
from kapstats.formula.split import Formula, parse
from kapstats.inference import contrasts
from kapstats.inference.contrasts import Joint, Linear, LSMeans
from kapstats.inference.intervals import with_inference
from kapstats.kernels.covariance import parameter_names, sigma_of
from kapstats.kernels.pattern_moments import unpack
from kapstats.response import anova as term_tests
from kapstats.response import describe, prediction, residual_plots, wald_answers
from kapstats.response import influence as case_deletion
from kapstats.response.mmrm_chain import Attempt, log_likelihood
from kapstats.response.repeated import Repeated, Visits
from kapstats.response.small_sample import Answerer, State, answerer, resolve


@dataclass(frozen=True)
class Description:
    """What a fit says about itself: counts for the model sentence, conventions, and the data's fingerprint."""

    formula: str
    group: str | None
    n_records: int
    n_obs: int
    n_subjects: int
    missing: dict[str, int]
    response: str
    convention: str
    frame_kind: str
    fingerprint: str
    estimand: str = ""


@dataclass(frozen=True)
class MmrmFit:
    """A fitted MMRM.

    Made by `mmrm` or `MmrmStatistics.fit`. Degrees of freedom and covariance can be chosen again at every question.
    """

    state: State
    design: Design
    used: pd.DataFrame
    visits: Visits
    reml: bool
    df: str
    vcov_method: str
    attempts: tuple[Attempt, ...]
    warnings: tuple[str, ...]
    description: Description
    data: Repeated | None = field(default=None, repr=False)
    cluster: str | None = None
    covariate_means: dict[str, float] = field(default_factory=dict)
    bic_subjects: int | None = None

    # ------------------------------------------------------------------ likelihood and parameters

    @property
    def structure(self) -> str:
        """Name of the covariance structure."""
        return self.state.fits.structure.name

    @property
    def nobs(self) -> int:
        """Rows used."""
        return self.state.n_obs

    @property
    def n_subjects(self) -> int:
        """Subjects used."""
        return self.state.n_subjects

    @property
    def converged(self) -> bool:
        """Newton decrement below 1e-10, scaled gradient below 1e-6, and a positive definite information."""
        return bool(self.state.fits.converged[0])

    @cached_property
    def loglik(self) -> float:
        """Log-likelihood (restricted under REML, without the log|X'X| term, as SAS and R mmrm)."""
        return log_likelihood(self.state.fits, self.state.R, self.reml)

    @property
    def n_parameters(self) -> int:
        """Covariance parameters."""
        return int(self.state.fits.free.sum())

    @property
    def _penalty(self) -> int:
        ml_counts_all = not self.reml and self.description.convention == "SAS"
        return self.n_parameters + (int(self.state.kept.sum()) if ml_counts_all else 0)

    @property
    def aic(self) -> float:
        """-2 l + 2 k; k counts covariance parameters (under ML by SAS's convention also fixed effects)."""
        return -2 * self.loglik + 2 * self._penalty

    @property
    def aicc(self) -> float:
        """AIC with Hurvich & Tsai's correction; sample size N - q under REML, N under ML (R mmrm: N - q)."""
        less = self.reml or self.description.convention == "R"
        k, n = self._penalty, self.nobs - (int(self.state.kept.sum()) if less else 0)
        n = max(n, k + 2)
        return -2 * self.loglik + 2 * k * n / (n - k - 1)

    @property
    def bic(self) -> float:
        """-2 l + k log(number of subjects): those used, or all of the table where the fit was asked to count them."""
        return -2 * self.loglik + self._penalty * float(np.log(self.bic_subjects or self.n_subjects))

    @cached_property
    def theta(self) -> pd.DataFrame:
        """Covariance parameters in natural parametrisation with their standard errors."""
        names = parameter_names(self.structure, list(self.visits.labels))
        groups = [g for g in self.visits.groups for _ in names]
        se = np.sqrt(np.diag(self.state.fits.w[0]))
        free = self.state.fits.free
        table = pd.DataFrame(
            {
                "group": groups,
                "parameter": names * len(self.visits.groups),
                "estimate": self.state.fits.theta[0],
                "std_error": np.where(free, se, np.nan),
            }
        )
        return table if len(self.visits.groups) > 1 else table.drop(columns="group")

    @cached_property
    def covariance(self) -> dict[str, pd.DataFrame]:
        """Sigma, visits by visits, for each covariance group (one entry "" when ungrouped)."""
        sigma = sigma_of(self.state.fits.structure, self.state.fits.theta)[0]
        labels = list(self.visits.labels)
        first = [int(np.flatnonzero(self.visits.block_group == g)[0]) for g in range(len(self.visits.groups))]
        return {
            name: pd.DataFrame(sigma[b], index=labels, columns=labels)
            for name, b in zip(self.visits.groups, first, strict=True)
        }

    @property
    def sigma(self) -> pd.DataFrame | dict[str, pd.DataFrame]:
        """Residual covariance, visits by visits; a dict by group when the covariance is grouped."""
        return self.covariance if len(self.covariance) > 1 else next(iter(self.covariance.values()))

    @property
    def correlation(self) -> pd.DataFrame | dict[str, pd.DataFrame]:
        """Residual correlation, visits by visits; a dict by group when the covariance is grouped."""
        out = {
            name: pd.DataFrame(contrasts.correlation(s.to_numpy().copy()), index=s.index, columns=s.columns)
            for name, s in self.covariance.items()
        }
        return out if len(out) > 1 else next(iter(out.values()))

    # ------------------------------------------------------------------ questions about coefficients

    @cached_property
    def _answers(self) -> dict[tuple[str, str], Answerer]:
        return {}

    def _answerer(self, df: str | None, vcov: str | None) -> Answerer:
        key = resolve(df, vcov, self.df, self.vcov_method, self.reml)
        if key not in self._answers:
            self._answers[key] = answerer(self.state, *key, cluster=self._cluster_codes(key[1]))
        return self._answers[key]

    def _cluster_codes(self, vcov: str) -> Any:
        if vcov == "model" or self.cluster is None:
            return None
        assert self.data is not None
        return cluster_codes(self.data, self.cluster)

    def linear(self, L: FloatArray, *, df: str | None = None, vcov: str | None = None) -> Linear:
        """Estimates of L b with covariance and df. L (k, columns of the design)."""
        answer = self._answerer(df, vcov).linear(np.atleast_2d(np.asarray(L, dtype=float)))
        _warn_missing_df(answer, df or self.df)
        return answer

    def joint(self, L: FloatArray, *, df: str | None = None, vcov: str | None = None) -> Joint:
        """F test of L b = 0."""
        return self._answerer(df, vcov).joint(np.atleast_2d(np.asarray(L, dtype=float)))

    @property
    def coefficients(self) -> Estimates:
        """Fixed effects with the fit's default covariance and df; aliased ones are NaN, zero for the others."""
        return self.coefficients_by()

    def coefficients_by(
        self, *, df: str | None = None, vcov: str | None = None, level: float = 0.95, side: str = "two"
    ) -> Estimates:
        """Fixed effects with any covariance and df."""
        found = self._answerer(df, vcov).linear(np.eye(len(self.design.names)), check=False)
        described = {**self._meta(df, vcov), "level": level, "side": side, "title": "Fixed effects"}
        lost = ~self.state.kept
        return wald_answers.coefficient_table(self.design, found, described, level=level, side=side, lost=lost)

    @property
    def vcov(self) -> FloatArray:
        """Covariance of the fixed effects by the fit's default method (columns x columns, NaN where aliased)."""
        found = self.coefficients.vcov
        assert found is not None
        return found

    @property
    def _formula(self) -> Formula:
        return parse(self.description.formula) if self.data is None else self.data.formula

    def _offsets(self, offset: float | None) -> FloatArray | None:
        terms = self._formula.offset
        if self.data is None and terms and offset is None:
            raise FormulaError("Summed statistics do not know the mean of the offset: state the value with offset=.")
        return None if not terms else offsets(terms, self.used) if self.data is not None else np.zeros(1)

    def lsmeans(
        self,
        specs: str | Sequence[str],
        *,
        by: str | Sequence[str] | None = None,
        weights: str = "equal",
        at: Mapping[str, Any] | None = None,
        df: str | None = None,
        vcov: str | None = None,
        population: FrameLike | None = None,
        covariates: str = "fixed",
        level: float = 0.95,
        side: str = "two",
        offset: float | None = None,
    ) -> LSMeans:
        """Least-squares means over the reference grid.

        Parameters
        ----------
        specs : factor column or columns; `by` groups the contrasts
        weights : how the other factors are averaged: "equal", "proportional" (to their joint frequency) or "observed"
            (standardisation: every subject given each level in turn, g-computation)
        at : values of covariates, default their mean over the rows used
        df, vcov : method, default the fit's; nothing is refitted
        level, side : of the intervals
        population : with weights="observed", one row per subject to average over (all randomised subjects, say);
            default the first used row of every subject
        covariates : with weights="observed", "fixed" or "random": whether the variance holds that of sampling the
            population's covariates (unconditional inference)
        offset : of a formula with ``offset()``: the value at which the means stand, default its mean over the rows used

        Returns
        -------
        LSMeans
            One row per level, with `.contrast()` and `.combine()`; means that are not estimable are NaN.

        Agrees with
        -----------
        R emmeans 1.8.4-1 on mmrm 0.3.18, 1e-6.
        """
        choose(covariates, ("fixed", "random"), "covariates")
        at = {**self.covariate_means, **(at or {})}
        over, sampling = None, None
        if weights == "observed":
            over = self._population(population)
            if covariates == "random":
                sampling = prediction.sampling_covariance(
                    self, over, contrasts.names_of(specs), contrasts.names_of(by), at
                )
        elif population is not None or covariates == "random":
            raise FormulaError("population= and covariates='random' belong to weights='observed'.")
        return contrasts.lsmeans(
            self, self.design, self.used, specs, by=by, weights=weights, at=at, df=df, vcov=vcov, level=level,
            side=side, sampling=sampling, population=over, offsets=self._offsets(offset), offset=offset,
            describe=self._meta(df, vcov),
        )  # fmt: skip

    def _population(self, population: FrameLike | None) -> pd.DataFrame:
        if population is not None:
            return frames.to_pandas(population)
        if self.data is None:
            raise FormulaError("weights='observed' needs population= when only summed statistics are at hand.")
        return self.used.drop_duplicates(self.data.covariance.subject)

    def contrast(
        self, L: FloatArray | Mapping[str, FloatArray], *, df: str | None = None, vcov: str | None = None,
        level: float = 0.95, side: str = "two",
    ) -> Estimates:  # fmt: skip
        """Any linear functions of the coefficients: an array (k, columns), or {name: (columns,)}."""
        rows = np.atleast_2d(np.array(list(L.values()) if isinstance(L, Mapping) else L, dtype=float))
        if rows.shape[1] != len(self.design.names):
            raise FormulaError(f"L has {rows.shape[1]} columns; the design has {len(self.design.names)}.")
        names = list(L) if isinstance(L, Mapping) else [f"L{i + 1}" for i in range(len(rows))]
        found = self.linear(rows, df=df, vcov=vcov)
        frame = pd.DataFrame({"contrast": names})
        table = with_inference(frame, found.estimate, found.std_error, found.df, level=level, side=side)
        return Estimates(
            table, {**self._meta(df, vcov), "level": level, "side": side, "title": "Contrasts"}, found.vcov
        )

    def anova(self, *, type: int = 3, df: str | None = None, vcov: str | None = None) -> Estimates:
        """F tests by model term, types II and III (SAS's hypotheses).

        Returns
        -------
        Estimates
            `term num_df df statistic p_value`, df being the denominator's; no row for the intercept.
        """
        root = unweighted_root(self.state) if self.data is None else None
        return term_tests.anova(
            self, self.design, self.used, type=type, df=df, vcov=vcov, root=root, describe=self._meta(df, vcov)
        )

    # ------------------------------------------------------------------ data-side questions

    def predict(
        self,
        newdata: FrameLike | None = None,
        *,
        interval: str | None = None,
        conditional: bool = False,
        level: float = 0.95,
        df: str | None = None,
    ) -> Estimates:
        """Predicted means for the rows of `newdata` (default: the rows used).

        Parameters
        ----------
        newdata : a table with the columns of the fixed effects; with `conditional` or interval="prediction" also those
            of the covariance term
        interval : None, "confidence" (for the mean) or "prediction" (for a new observation)
        conditional : predict given the subject's other rows in `newdata` whose response is present; a row that is
            itself observed is predicted by its observation
        df : method for the t quantile, default the fit's

        Agrees with
        -----------
        R mmrm 0.3.18 `predict` (fit and se.fit), 1e-6.
        """
        choose(str(interval), ("None", "confidence", "prediction"), "interval")
        return prediction.predict(self, newdata, interval, conditional, level, df)

    def residuals(self, kind: str = "response") -> pd.Series:
        """Residuals of the rows used; the index holds their positions in the caller's table.

        kind : "response" y - X b, "pearson" divided by the residual standard deviation, "normalized" multiplied by
            the inverse Cholesky factor of Sigma_i (independent with unit variance under the model)

        Agrees with
        -----------
        R mmrm 0.3.18 `residuals`, 1e-6.
        """
        choose(kind, ("response", "pearson", "normalized"), "kind")
        return prediction.residuals(self, kind)

    def simulate(self, n: int = 1, seed: int = 1) -> FloatArray:
        """Responses (n, rows used) drawn from the fitted model; replicate i depends on (seed, i) only."""
        return prediction.simulate(self, n, seed)

    def influence(self) -> Estimates:
        """What leaving out each subject does, by downdating the pattern statistics and refitting from the optimum.

        Returns
        -------
        Estimates
            One row per subject: `cook_distance` (b - b_-i)'Phi^-1 (b - b_-i) / q, `likelihood_displacement`
            2 (l(theta) - l(theta_-i)) of the covariance parameters, `largest_term` and its `largest_change` in standard
            errors, `converged`. `.vcov` is None; the leave-one-out coefficients are in `.meta["coefficients"]`.
        """
        return case_deletion.influence(self)

    def lrt(self, reduced: MmrmFit) -> Estimates:
        """Likelihood-ratio test against a nested model of the same rows; a FormulaError where it is not nested."""
        return case_deletion.likelihood_ratio(self, reduced)

    def plot(self, ax: Any = None, *, kind: str = "residuals") -> Any:
        """kind "residuals" (normalized residuals against fitted values), "qq", or "fit" (observed and fitted means)."""
        return residual_plots.plot(self, ax, choose(kind, ("residuals", "qq", "fit"), "kind"))

    # ------------------------------------------------------------------ words

    @property
    def sentence(self) -> str:
        """The model sentence: method, structure, rows used and missing."""
        return describe.sentence(self)

    def _meta(self, df: str | None = None, vcov: str | None = None) -> dict[str, Any]:
        return describe.meta(self, *resolve(df, vcov, self.df, self.vcov_method, self.reml))

    def summary(self) -> Estimates:
        """Fixed effects, with the model sentence, likelihood and convergence facts as notes."""
        return describe.summary(self)

    def explain(self) -> str:
        """The methods paragraph, with citations."""
        return describe.explain(self)

    def __str__(self) -> str:
        return self.summary().to_text()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.sentence}>"

    def _repr_html_(self) -> str:
        return self.summary().to_html()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_answers"}


def unweighted_root(state: State) -> FloatArray:
    """A root of X'X of the columns kept, from summed statistics."""
    total = unpack(state.stats.gram[0, state.stats.pairs[1] == state.stats.pairs[2]].sum(axis=0))[:-1, :-1]
    return np.asarray(np.linalg.cholesky(total).T @ state.R)


def _warn_missing_df(found: Linear, df: str) -> None:
    lost = int((np.isnan(found.df) & np.isfinite(found.estimate) & (found.std_error > 0)).sum())
    if lost:
        warn(f"{df}: no degrees of freedom above 2 for {lost} estimates; their inference is NaN.")


def cluster_codes(data: Repeated, column: str) -> np.ndarray:
    """Code (n,) of the cluster of each subject."""
    frames.require(data.used, [column])
    code = pd.factorize(data.used[column])[0]
    subject = data.visits.codes
    out = np.zeros(len(data.visits.subjects), dtype=np.intp)
    out[subject] = code
    if (out[subject] != code).any() or (code < 0).any():
        raise DataError(f"cluster={column!r} changes or is missing within a subject; clusters hold whole subjects.")
    return out


def design_warnings(design: Design) -> list[str]:
    """Aliased columns by name."""
    lost = [n for n, a in zip(design.names, design.aliased, strict=True) if a]
    if not lost:
        return []
    return [f"{len(lost)} columns of the design are combinations of others and have no estimate: {', '.join(lost)}."]


def alias_map(design: Design) -> FloatArray:
    """A (kept, aliased) with X_aliased = X_kept A."""
    lost = design.aliased
    if not lost.any():
        return np.zeros((int((~lost).sum()), 0))
    found = np.linalg.lstsq(design.X[:, ~lost], design.X[:, lost], rcond=None)[0]
    whole = np.round(found)
    return np.asarray(np.where(np.abs(found - whole) < 1e-9, whole, found))
