"""Linear mixed model with any nesting and crossing of random effects: y = X b + sum_t Z_t u_t + e, by REML or ML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from kapstats import estimates, frames
from kapstats._types import FloatArray, FrameLike
from kapstats.errors import DataError, FormulaError, choose, warn
from kapstats.estimates import Estimates
from kapstats.formula.design import Design
from kapstats.formula.expressions import evaluate
from kapstats.inference import contrasts
from kapstats.inference.contrasts import Joint, Linear, LSMeans
from kapstats.inference.intervals import with_inference
from kapstats.kernels.random_effects_kr import VarianceDerivatives, derivatives, kenward_roger, satterthwaite
from kapstats.response import anova as term_tests
from kapstats.response import lmm_rows, lmm_solve, lmm_variance, lmm_words, wald_answers
from kapstats.response.lmm_solve import LmmState
from kapstats.response.mixed_answers import KENWARD_ROGER, MixedAnswerer, check_vcov, resolve
from kapstats.response.mmrm_fit import _warn_missing_df
from kapstats.response.random_effects import ModelRows, bars, counts, prepare


@dataclass(frozen=True)
class LmmFit:
    """A fitted linear mixed model, made by `lmm`. Degrees of freedom can be chosen again at every question."""

    data: ModelRows
    y: FloatArray
    state: LmmState
    reml: bool
    df: str
    information: str
    warnings: tuple[str, ...]

    # ------------------------------------------------------------------ likelihood and parameters

    @property
    def design(self) -> Design:
        """The design of the fixed effects."""
        return self.data.design

    @property
    def used(self) -> pd.DataFrame:
        """The complete rows."""
        return self.data.used

    @property
    def nobs(self) -> int:
        """Rows used."""
        return len(self.y)

    @property
    def n_subjects(self) -> int:
        """Levels of the grouping factor that has most of them (subjects within sites, say)."""
        return max(factor.n_levels for factor in self.data.random.factors)

    @property
    def converged(self) -> bool:
        """Newton decrement below 1e-8, all starts agree, and no descent off the boundary is left."""
        return self.state.solved.converged

    @property
    def singular(self) -> bool:
        """Whether a covariance of random effects is estimated as rank deficient (variance zero, correlation one)."""
        return any(self.state.solved.at_boundary)

    @property
    def sigma(self) -> float:
        """Residual standard deviation."""
        return float(np.sqrt(self.state.solved.s2))

    @property
    def loglik(self) -> float:
        """Log-likelihood, restricted under REML (with log|X'V^-1 X|, without log|X'X|: as R lme4 and SAS)."""
        return -0.5 * (self.state.solved.objective + self.state.log_constant)

    @property
    def n_parameters(self) -> int:
        """Fixed effects, covariance parameters and the residual variance (as R lme4 counts)."""
        structure = 0 if self.state.residual is None else len(self.state.residual.theta) - 1
        return self.state.arrow.n_fixed + len(self.state.solved.theta) + 1 + structure

    @property
    def aic(self) -> float:
        """-2 l + 2 k with all parameters counted, under REML too (as R lme4)."""
        return -2 * self.loglik + 2 * self.n_parameters

    @property
    def bic(self) -> float:
        """-2 l + k log N (as R lme4)."""
        return -2 * self.loglik + self.n_parameters * float(np.log(self.nobs))

    @cached_property
    def covariance(self) -> dict[str, pd.DataFrame]:
        """Covariance of the random effects of each bar term, as written; terms of ``||`` side by side."""
        out: dict[str, pd.DataFrame] = {}
        for term in self.data.random.terms:
            found = self.state.solved.s2 * self.data.random.covariance(term, self.state.solved.T)
            block = pd.DataFrame(found, index=list(term.names), columns=list(term.names))
            out[term.text] = lmm_variance.beside(out[term.text], block) if term.text in out else block
        return out

    @property
    def variance_components(self) -> Estimates:
        """Variances and covariances of the random effects, and the residual variance.

        `group`, `term`, `term2` (of a covariance), `estimate`, `sd_cor` (standard deviation or correlation).
        """
        return Estimates(lmm_variance.components(self), self._meta(title="Variance components"))

    # ------------------------------------------------------------------ fixed effects

    @cached_property
    def _derivatives(self) -> VarianceDerivatives:
        """In units of the residual variance; in those of y beside a residual structure."""
        s = self.state
        if s.residual is not None:
            return s.residual.pieces
        return derivatives(s.arrow, s.solved.state, s.solved.T, self.reml)

    def _answerer(self, df: str | None, vcov: str | None) -> MixedAnswerer:
        check_vcov(vcov)
        chosen, s, d = resolve(df, self.df, self.reml), self.state, self._derivatives
        small = None
        if chosen == "satterthwaite" and s.residual is not None:
            small = s.residual.satterthwaite()
        elif chosen == "satterthwaite":
            small = satterthwaite(s.arrow, s.solved.state, s.solved.T, self.reml, d)
        elif chosen in KENWARD_ROGER:
            small = kenward_roger(d, self.information)
        unit = s.solved.s2 if s.residual is None else 1.0
        covariance = unit * (d.Phi if small is None else small.vcov)
        turned = s.gamma + np.linalg.solve(s.back, s.start)
        return MixedAnswerer(
            self.design, chosen, s.back, turned, s.beta, covariance, d.root, small, self.nobs - s.arrow.n_fixed
        )

    def linear(self, L: FloatArray, *, df: str | None = None, vcov: str | None = None) -> Linear:
        """Estimates of L b with covariance and df. L (k, columns of the design)."""
        found = self._answerer(df, vcov).linear(np.atleast_2d(np.asarray(L, dtype=float)))
        _warn_missing_df(found, df or self.df)
        return found

    def joint(self, L: FloatArray, *, df: str | None = None, vcov: str | None = None) -> Joint:
        """F test of L b = 0."""
        return self._answerer(df, vcov).joint(np.atleast_2d(np.asarray(L, dtype=float)))

    @property
    def coefficients(self) -> Estimates:
        """Fixed effects with the fit's default covariance and df; aliased ones are NaN."""
        return self.coefficients_by()

    def coefficients_by(self, *, df: str | None = None, level: float = 0.95, side: str = "two") -> Estimates:
        """Fixed effects with any df."""
        found = self._answerer(df, None).linear(np.eye(len(self.design.names)), check=False)
        _warn_missing_df(found, df or self.df)
        described = self._meta(df, title="Fixed effects", level=level, side=side)
        return wald_answers.coefficient_table(self.design, found, described, level=level, side=side)

    @property
    def vcov(self) -> FloatArray:
        """Covariance of the fixed effects by the fit's default method (columns x columns, NaN where aliased)."""
        found = self.coefficients.vcov
        assert found is not None
        return found

    @property
    def _offsets(self) -> FloatArray | None:
        return self.data.offset if self.data.formula.offset else None

    def lsmeans(
        self,
        specs: str | Sequence[str],
        *,
        by: str | Sequence[str] | None = None,
        weights: str = "equal",
        at: Mapping[str, Any] | None = None,
        df: str | None = None,
        vcov: str | None = None,
        level: float = 0.95,
        side: str = "two",
        offset: float | None = None,
    ) -> LSMeans:
        """Least-squares means over the reference grid, random effects at zero; see `MmrmFit.lsmeans`."""
        check_vcov(vcov)
        return contrasts.lsmeans(
            self, self.design, self.used, specs, by=by, weights=weights, at=at, df=df, vcov=vcov, level=level,
            side=side, offsets=self._offsets, offset=offset, describe=self._meta(df),
        )  # fmt: skip

    def contrast(
        self, L: FloatArray | Mapping[str, FloatArray], *, df: str | None = None, level: float = 0.95, side: str = "two"
    ) -> Estimates:
        """Any linear functions of the coefficients: an array (k, columns), or {name: (columns,)}."""
        rows = np.atleast_2d(np.array(list(L.values()) if isinstance(L, Mapping) else L, dtype=float))
        if rows.shape[1] != len(self.design.names):
            raise FormulaError(f"L has {rows.shape[1]} columns; the design has {len(self.design.names)}.")
        names = list(L) if isinstance(L, Mapping) else [f"L{i + 1}" for i in range(len(rows))]
        found = self.linear(rows, df=df)
        table = with_inference(
            pd.DataFrame({"contrast": names}), found.estimate, found.std_error, found.df, level=level, side=side
        )
        return Estimates(table, self._meta(df, title="Contrasts", level=level, side=side), found.vcov)

    def anova(self, *, type: int = 3, df: str | None = None, vcov: str | None = None) -> Estimates:
        """F tests by model term, types II and III (SAS's hypotheses): `term num_df df statistic p_value`."""
        return term_tests.anova(
            self, self.design, self.used, type=type, df=df, vcov=vcov, form="reference", describe=self._meta(df)
        )

    # ------------------------------------------------------------------ random effects and rows

    def random_effects(self, group: str | None = None) -> Estimates:
        """Predicted random effects (BLUPs): `group level term estimate std_error`.

        std_error is the square root of the conditional variance given y at the estimated parameters (as R lme4's
        ranef(condVar = TRUE)); the uncertainty of the fixed effects is not in it.
        """
        return lmm_rows.random_effects(self, group)

    def conditional_variances(self, group: str) -> FloatArray:
        """Conditional covariance (levels, k, k) of the random effects of a grouping factor given y."""
        return lmm_rows.conditional_variances(self, group)

    def predict(
        self,
        newdata: FrameLike | None = None,
        *,
        interval: str | None = None,
        random: bool = True,
        level: float = 0.95,
        df: str | None = None,
    ) -> Estimates:
        """Predicted values for the rows of `newdata` (default: the rows used).

        Parameters
        ----------
        newdata : a table with the columns of the fixed effects and, with `random`, of the bar terms (of the slopes
            too for a prediction interval)
        interval : None, "confidence" (for the mean of these levels) or "prediction" (for a new observation)
        random : add the predicted random effects; a level that the fit did not see has effect zero, its full variance
        df : method for the t quantile of the fixed part, default the fit's

        Agrees with
        -----------
        R lme4 1.1-31 `predict` (fit), 1e-6.
        """
        choose(str(interval), ("None", "confidence", "prediction"), "interval")
        return lmm_rows.predict(self, newdata, interval, random, level, df)

    def residuals(self, kind: str = "response") -> pd.Series:
        """Residuals of the rows used; the index holds their positions in the caller's table.

        kind : "response" y - X b - Z u, "marginal" y - X b, "pearson" the first over the residual standard deviation
        """
        choose(kind, ("response", "marginal", "pearson"), "kind")
        return lmm_rows.residuals(self, kind)

    def simulate(self, n: int = 1, seed: int = 1) -> FloatArray:
        """Responses (n, rows used) drawn from the fitted model; replicate i depends on (seed, i) only."""
        return lmm_rows.simulate(self, n, seed)

    def refit(self, y: FloatArray) -> LmmFit:
        """The same model fitted to another response on the same rows (bootstrap, permutation)."""
        values = np.asarray(y, dtype=float)
        if values.shape != (self.nobs,):
            raise DataError(f"refit: {values.size} responses for {self.nobs} rows.")
        state = lmm_solve.solve(self.data, values, self.reml, near=self.state.solved.theta)
        said = tuple(lmm_solve.verdict(self.data, state))
        return LmmFit(self.data, values, state, self.reml, self.df, self.information, said)

    def influence(self, group: str | None = None) -> Estimates:
        """What leaving out each level of a grouping factor does, covariance parameters held at the estimate.

        One row per level: `level`, `n`, `cook_distance` (b - b_-g)'Phi^-1 (b - b_-g) / p, `largest_term`,
        `largest_change` in standard errors. The leave-one-out coefficients are in `.meta["coefficients"]`.
        """
        return lmm_rows.influence(self, group)

    def lrt(self, reduced: LmmFit) -> Estimates:
        """Likelihood-ratio test against a nested model of the same rows; a FormulaError where it is not nested.

        When only random effects differ, the p value is that of the mixture of chi-square distributions of Self & Liang
        (1987) and Stram & Lee (1994), since the null lies on the boundary. Fixed effects are compared under ML only.
        """
        return lmm_variance.likelihood_ratio(self, reduced)

    def variance_intervals(
        self, method: str = "profile", *, level: float = 0.95, n: int = 500, seed: int = 1
    ) -> Estimates:
        """Intervals for standard deviations and correlations of the random effects and the residual.

        method : "profile" (inversion of the likelihood ratio of the fit; not beside a residual structure), or
            "bootstrap" (parametric, `n` refits)
        """
        choose(method, ("profile", "bootstrap"), "method")
        return lmm_variance.variance_intervals(self, method, level, n, seed)

    def icc(self) -> Estimates:
        """Intraclass correlations: the share of each grouping factor in the variance of one observation.

        Variances of random slopes enter at the mean of z'Gz over the rows (Johnson 2014).
        """
        return Estimates(lmm_variance.icc(self), self._meta(title="Intraclass correlations"))

    def plot(self, ax: Any = None, *, kind: str = "residuals") -> Any:
        """kind "residuals" (against fitted values), "qq" (of the residuals) or "random" (BLUPs with intervals)."""
        return lmm_rows.plot(self, ax, choose(kind, ("residuals", "qq", "random"), "kind"))

    # ------------------------------------------------------------------ words

    @property
    def sentence(self) -> str:
        """The model sentence: method, random effects, rows used and missing."""
        term, method = self.data.formula.covariance, "REML" if self.reml else "ML"
        extra = "" if term is None else f", residual {term.structure}({', '.join(term.coordinates)} | {term.subject})"
        return f"{method}, random effects {bars(self.data)}{extra}; {counts(self.data)}"

    def _meta(self, df: str | None = None, **more: Any) -> dict[str, Any]:
        method = f"linear mixed model, {'REML' if self.reml else 'ML'}"
        chosen = resolve(df, self.df, self.reml)
        described = estimates.meta(
            method=method, sentence=f"{self.sentence}; df {chosen}", conventions=self._conventions(chosen),
            warnings=self.warnings, data=self._fingerprint,
            **{"estimand": frames.estimand(self.used), "level": 0.95, **more},
        )  # fmt: skip
        return {**described, "df": chosen, "convention": "R lme4", "frame_kind": self.data.kind}

    def _conventions(self, df: str) -> tuple[str, ...]:
        if df not in KENWARD_ROGER:
            return ()
        return (f"Kenward-Roger in variances and covariances, {self.information} information.",)

    @cached_property
    def _fingerprint(self) -> str:
        return frames.fingerprint(self.used, frames.named(self.used, self.data.formula.text))

    def summary(self) -> Estimates:
        """Fixed effects, with the model sentence, variances and convergence facts as notes."""
        return lmm_words.summary(self)

    def explain(self) -> str:
        """The methods paragraph, with citations."""
        return lmm_words.explain(self)

    def __str__(self) -> str:
        return self.summary().to_text()

    def __repr__(self) -> str:
        return f"<LmmFit: {self.sentence}>"

    def _repr_html_(self) -> str:
        return self.summary().to_html()


def lmm(
    formula: str,
    data: FrameLike,
    *,
    reml: bool = True,
    df: str | None = None,
    information: str = "expected",
    weights: Any = None,
    order: Mapping[str, Sequence[Any]] | None = None,
) -> LmmFit:
    """Fit a linear mixed model.

    Estimates b, the covariances G_t of the random effects and s2 in y = X b + sum_t Z_t u_t + e, u_t ~ N(0, I (x) G_t),
    e ~ N(0, s2 W^-1), by restricted or full maximum likelihood.

    Parameters
    ----------
    formula : str
        ``"MADRS ~ DAY*TRT01P + (DAY | USUBJID) + (1 | SITEID)"``: ``(x | g)`` with intercept and correlations,
        ``(0 + x | g)`` without intercept, ``(x || g)`` without correlations, ``(1 | a/b)`` nested, ``(1 | a:b)``;
        several terms may be nested or crossed; factors may stand left of the bar. A residual structure may be added,
        ``us(AVISIT | USUBJID)`` (us, toep, toeph, ar1, ar1h, cs, csh, ad, adh, sp_exp, sp_gau; ``| ARM / USUBJID`` for
        one per arm) or ``diag(ARM | USUBJID)``, a variance for every level. The grouping factor with most random
        effects has to be constant within the subjects of the structure.
    data : table or path
        One row per observation; rows with missing values are left out and counted.
    reml : bool
        REML (default) or ML.
    df : str, optional
        kenward-roger (default under REML), satterthwaite (default under ML), residual, normal. Every question to the
        fit may choose again. kenward-roger-linear is the same, since V is linear in its parameters.
    information : str
        "expected" (default, as R pbkrtest) or "observed", for Kenward-Roger; Satterthwaite uses the observed.
    weights : column name or (rows,), optional
        Residual variance is divided by them.
    order : mapping, optional
        Level order of factor columns.

    Returns
    -------
    LmmFit

    Raises
    ------
    FormulaError, DataError
        What cannot be read or analysed, with the remedy.
    ConvergenceError
        When the optimum could not be certified.

    Agrees with
    -----------
    R lme4 1.1-31 (log-likelihood 1e-9, coefficients 1e-6), lmerTest 3.1-3 (Satterthwaite 1e-3, its derivatives are
    numerical), pbkrtest 0.5.2 (Kenward-Roger 1e-6, without weights, which it ignores) and nlme 3.1-162 (residual
    structures: log-likelihood 2e-7, the limit is its optimiser).

    References
    ----------
    Bates D, Maechler M, Bolker B, Walker S (2015). Fitting linear mixed-effects models using lme4. Journal of
    Statistical Software 67(1). doi:10.18637/jss.v067.i01
    Kenward MG, Roger JH (1997). Small sample inference for fixed effects from restricted maximum likelihood.
    Biometrics 53, 983-997. doi:10.2307/2533558

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> rng = np.random.default_rng(1)
    >>> site, day = np.repeat(np.arange(12), 10), np.tile(np.arange(10.0), 12)
    >>> data = pd.DataFrame({"SITEID": site, "DAY": day})
    >>> data["MADRS"] = 30 - data.DAY + rng.normal(size=12)[site] * 2 + rng.normal(size=120)
    >>> fit = lmm("MADRS ~ DAY + (1 | SITEID)", data)
    >>> fit.converged, fit.singular, fit.coefficients["df"].round(1).tolist()
    (True, False, [14.8, 107.0])
    """
    choose(information, ("expected", "observed"), "information")
    chosen, notes = _default_df(df, reml)
    rows = prepare(formula, data, weights=weights, order=order)
    y = evaluate(str(rows.formula.response), rows.used)
    return _fit_rows(rows, y, reml, chosen, information, notes)


def _default_df(df: str | None, reml: bool) -> tuple[str, list[str]]:
    """The default df of a fit, and what has to be said about it."""
    if df is not None:
        return resolve(df, df, reml), []
    if reml:
        return "kenward-roger", []
    text = "Kenward-Roger is defined for REML only; under ML the degrees of freedom are Satterthwaite's."
    return "satterthwaite", [warn(text)]


def _fit_rows(rows: ModelRows, y: FloatArray, reml: bool, df: str, information: str, notes: Sequence[str]) -> LmmFit:
    state = lmm_solve.solve(rows, y, reml)
    texts = lmm_solve.verdict(rows, state)
    for text in texts:
        warn(text)
    return LmmFit(rows, y, state, reml, df, information, (*notes, *rows.warnings, *texts))
