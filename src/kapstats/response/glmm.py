"""Generalised linear mixed model: responders, counts and ordinal scales with random effects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from scipy import linalg

from kapstats import estimates, frames, scales
from kapstats._types import BoolArray, FloatArray, FrameLike
from kapstats.errors import FormulaError, choose, warn
from kapstats.estimates import Estimates
from kapstats.formula.design import Design, level_text
from kapstats.formula.grid import estimable
from kapstats.inference import contrasts
from kapstats.inference.contrasts import Joint, Linear, LSMeans
from kapstats.inference.intervals import with_inference
from kapstats.kernels import glmm_fit as kernel
from kapstats.kernels.laplace import Problem
from kapstats.response import anova as term_tests
from kapstats.response import glmm_means, glmm_rows, glmm_solve, wald_answers
from kapstats.response.glmm_data import link_of, read, response_columns
from kapstats.response.random_effects import ModelRows, bars, counts, prepare

FAMILY_NAMES = {
    "binomial": "binomial",
    "poisson": "Poisson",
    "negative-binomial": "negative binomial (variance mu + mu^2 / size)",
    "cumulative": "cumulative",
}


@dataclass(frozen=True)
class GlmmFit:
    """A fitted generalised linear mixed model, made by `glmm`.

    to_design (columns, parameters): fixed effects over the columns of the design from (theta, beta, phi); for the
    cumulative family the intercept is minus the mean threshold. recession (k, parameters): directions along which the
    likelihood rises for ever (separation).
    """

    data: ModelRows
    problem: Problem
    solved: kernel.GlmmFit
    to_design: FloatArray
    labels: tuple[Any, ...]
    quadrature: int
    penalty: str | None
    recession: FloatArray
    warnings: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        """binomial, poisson, negative-binomial or cumulative."""
        return self.problem.obs.family

    @property
    def link(self) -> str:
        """logit, probit, cloglog or log."""
        return self.problem.obs.link

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
        return len(self.problem.offset)

    @property
    def n_subjects(self) -> int:
        """Levels of the grouping factor that has most of them (subjects within sites, say)."""
        return max(factor.n_levels for factor in self.problem.factors)

    @property
    def converged(self) -> bool:
        """Newton decrement below 1e-6, all starts agree, and no separation."""
        return self.solved.converged and not self.lost

    @property
    def singular(self) -> bool:
        """Whether a covariance of random effects is estimated as rank deficient."""
        return any(self.solved.at_boundary)

    @property
    def loglik(self) -> float:
        """Approximate log-likelihood with all constants (R lme4 leaves some out for grouped data and nAGQ > 1)."""
        return -self.solved.objective

    @property
    def n_parameters(self) -> int:
        """Fixed effects, covariance parameters and family parameters."""
        return len(self.solved.theta) + len(self.solved.beta) + len(self.solved.phi)

    @property
    def aic(self) -> float:
        """-2 l + 2 k."""
        return -2 * self.loglik + 2 * self.n_parameters

    @property
    def bic(self) -> float:
        """-2 l + k log N."""
        return -2 * self.loglik + self.n_parameters * float(np.log(self.nobs))

    @cached_property
    def covariance(self) -> dict[str, pd.DataFrame]:
        """Covariance of the random effects of each bar term, as written."""
        from kapstats.response.lmm_variance import beside

        out: dict[str, pd.DataFrame] = {}
        for term in self.data.random.terms:
            found = self.data.random.covariance(term, self.solved.T)
            block = pd.DataFrame(found, index=list(term.names), columns=list(term.names))
            out[term.text] = beside(out[term.text], block) if term.text in out else block
        return out

    @property
    def variance_components(self) -> Estimates:
        """Variances and covariances of the random effects: `group term term2 estimate sd_cor`."""
        return Estimates(glmm_rows.components(self), self._meta(title="Variance components"))

    @property
    def size(self) -> float | None:
        """Size k of the negative binomial (variance mu + mu^2 / k), infinite when the counts are Poisson; else None."""
        if self.family != "negative-binomial":
            return None
        at_limit = self.solved.phi[0] > kernel.LOG_SIZE_LIMIT - 6.0
        return float("inf") if at_limit else float(np.exp(self.solved.phi[0]))

    # ------------------------------------------------------------------ fixed effects

    @cached_property
    def lost(self) -> tuple[str, ...]:
        """Coefficients that are infinite or not determined because of separation."""
        names, rows = glmm_rows.coefficient_rows(self)
        return tuple(n for n, moves in zip(names, self._moving(rows), strict=True) if moves)

    def _moving(self, rows: FloatArray) -> BoolArray:
        """True for linear functions (k, parameters) that change along a direction of separation."""
        change, most = np.abs(rows @ self.recession.T), np.abs(rows) @ np.abs(self.recession).T
        return np.asarray((change > 1e-7 * most).any(axis=1))

    @cached_property
    def _covariance(self) -> FloatArray:
        """Covariance of (theta, beta, phi), a family parameter at its limit and directions of separation as known."""
        if len(self.recession):
            return kernel.covariance_within(self.solved, linalg.null_space(self.recession))
        return np.nan_to_num(self.solved.vcov)

    @cached_property
    def _parameters(self) -> FloatArray:
        return np.concatenate([self.solved.theta, self.solved.beta, self.solved.phi])

    def linear(self, L: FloatArray, *, df: str | None = None, vcov: str | None = None) -> Linear:
        """Estimates of L b on the link scale, random effects at zero. L (k, columns of the design); df is infinite."""
        _check_methods(df, vcov)
        L = np.atleast_2d(np.asarray(L, dtype=float))
        turned = np.where(self.design.aliased, 0.0, L) @ self.to_design
        ok = estimable(L, self.design) & ~self._moving(turned)
        vcov_ = np.where(ok[:, None] & ok[None, :], turned @ self._covariance @ turned.T, np.nan)
        return Linear(np.where(ok, turned @ self._parameters, np.nan), vcov_, np.where(ok, np.inf, np.nan))

    def joint(self, L: FloatArray, *, df: str | None = None, vcov: str | None = None) -> Joint:
        """Wald test of L b = 0: F = chi-square / rank with infinite denominator df."""
        return wald_answers.joint(self, self.design, L, df, vcov)

    @property
    def coefficients(self) -> Estimates:
        """Fixed effects on the link scale; of the cumulative family the thresholds come first, named "1|2"."""
        return self.coefficients_by()

    def coefficients_by(self, *, level: float = 0.95, side: str = "two") -> Estimates:
        """Fixed effects at another level."""
        names, rows = glmm_rows.coefficient_rows(self)
        vcov = rows @ self._covariance @ rows.T
        lost = self._moving(rows) | ~rows.any(axis=1)
        estimate = np.where(lost, np.nan, rows @ self._parameters)
        se = np.where(lost, np.nan, np.sqrt(np.diag(vcov)))
        table = with_inference(pd.DataFrame({"term": names}), estimate, se, np.inf, level=level, side=side)
        described = self._meta(
            title="Fixed effects", level=level, side=side, **scales.of_coefficients(self.link, self.family, names)
        )
        return Estimates(table, described, np.where(lost[:, None] | lost[None, :], np.nan, vcov))

    @property
    def vcov(self) -> FloatArray:
        """Covariance of the coefficients in the order of `coefficients`, from the Hessian over all parameters."""
        found = self.coefficients.vcov
        assert found is not None
        return found

    @property
    def _offsets(self) -> FloatArray | None:
        return self.problem.offset if self.data.formula.offset else None

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
        """Conditional means on the link scale (random effects at zero, mean offset); their contrasts are conditional.

        Contrasts of a logit or log link exponentiate to odds or rate ratios (`.exponentiate()`). For means of the
        population and risk differences see `marginal_means`.
        """
        _check_methods(df, vcov)
        return contrasts.lsmeans(
            self, self.design, self.used, specs, by=by, weights=weights, at=at, df=df, vcov=vcov, level=level,
            side=side, offsets=self._offsets, offset=offset, describe=self._meta(scale=self.link),
        )  # fmt: skip

    def marginal_means(
        self,
        specs: str | Sequence[str],
        *,
        by: str | Sequence[str] | None = None,
        at: Mapping[str, Any] | None = None,
        scale: str = "response",
        level: float = 0.95,
        side: str = "two",
    ) -> LSMeans:
        """Population-averaged means: every row given each level in turn, the random effects integrated out.

        Estimates mean_i E_u g^-1(x_i'b + o_i + z_i'u), u ~ N(0, G); standard errors by the delta method over all
        parameters, covariates taken as fixed. For a binomial model `.contrast()` gives standardised risk differences on
        scale "response", risk ratios on "log" and marginal odds ratios on "logit" (both by `.exponentiate()`).

        Parameters
        ----------
        specs, by : factor columns of the model
        at : values at which other columns are held instead of as observed
        scale : "response", "log" or "logit"
        """
        choose(scale, ("response", "log", "logit"), "scale")
        return glmm_means.marginal_means(self, specs, by, at, scale, level, side)

    def anova(self, *, type: int = 3, df: str | None = None, vcov: str | None = None) -> Estimates:
        """Wald tests by model term, types II and III: `term num_df df statistic p_value`, df infinite."""
        return term_tests.anova(self, self.design, self.used, type=type, df=df, vcov=vcov, describe=self._meta())

    # ------------------------------------------------------------------ random effects and rows

    def random_effects(self, group: str | None = None) -> Estimates:
        """Conditional modes of the random effects: `group level term estimate std_error` (as R lme4's ranef)."""
        return glmm_rows.random_effects(self, group)

    def predict(
        self,
        newdata: FrameLike | None = None,
        *,
        interval: str | None = None,
        type: str = "response",
        random: bool | None = None,
        level: float = 0.95,
    ) -> Estimates:
        """Predicted values for the rows of `newdata` (default: the rows used).

        type : "link", "response" (at the predicted random effects, or at zero) or "marginal" (random effects integrated
            out); of the cumulative family "response" gives one column per category, `p_<label>`
        interval : None or "confidence": Wald limits of the link scale at random effects of zero, turned back; adds
            std_error (of the scale shown, delta method), conf_low and conf_high. Not for "marginal", nor the cumulative
            family; for a new observation use `simulate`
        random : use the predicted random effects (default without interval); a level that the fit did not see has
            effect zero
        """
        choose(type, ("link", "response", "marginal"), "type")
        if interval is None:
            return glmm_rows.predict(self, newdata, type, random is None or random)
        choose(interval, ("confidence",), "interval")
        return glmm_rows.predict_interval(self, newdata, type, bool(random), level)

    def residuals(self, kind: str = "pearson") -> pd.Series:
        """Residuals of the rows used at the predicted random effects: "response", "pearson" or "deviance"."""
        return glmm_rows.residuals(self, choose(kind, ("response", "pearson", "deviance"), "kind"))

    def simulate(self, n: int = 1, seed: int = 1) -> FloatArray:
        """Responses (n, rows used), counts or category codes, drawn from the fitted model with new random effects."""
        return glmm_rows.simulate(self, n, seed)

    def influence(self) -> Estimates:
        """What leaving out each level of the grouping factor does to the coefficients, to first order.

        Exact scores of every level times the inverse Hessian (one Newton step); for models with one grouping factor.
        One row per level: `level`, `n`, `cook_distance`, `largest_term`, `largest_change` in standard errors.
        """
        return glmm_rows.influence(self)

    def lrt(self, reduced: GlmmFit) -> Estimates:
        """Likelihood-ratio test against a nested model of the same rows, family and number of quadrature points.

        A FormulaError where the smaller model is not nested in the larger one.
        """
        return glmm_rows.likelihood_ratio(self, reduced)

    def plot(self, ax: Any = None, *, kind: str = "residuals") -> Any:
        """Pearson residuals against the fitted linear predictor."""
        choose(kind, ("residuals",), "kind")
        return glmm_rows.plot(self, ax)

    # ------------------------------------------------------------------ words

    @property
    def sentence(self) -> str:
        """The model sentence: family, approximation, random effects, rows used and missing."""
        how = "Laplace" if self.quadrature == 1 else f"adaptive quadrature with {self.quadrature} points"
        how += ", Firth-type penalty" if self.penalty else ""
        model = f"{FAMILY_NAMES[self.family]}, {self.link} link, {how}, random effects {bars(self.data)}"
        return f"{model}; {counts(self.data)}"

    def _meta(self, **more: Any) -> dict[str, Any]:
        described = estimates.meta(
            method=f"generalised linear mixed model ({self.family}, {self.link})", sentence=self.sentence,
            warnings=self.warnings, data=self._fingerprint,
            **{
                "estimand": frames.estimand(self.used), "level": 0.95, "scale": self.link,
                "measure": scales.of_mean(more.get("scale", self.link), self.family), **more,
            },
        )  # fmt: skip
        return {**described, "frame_kind": self.data.kind}

    @cached_property
    def _fingerprint(self) -> str:
        return frames.fingerprint(self.used, frames.named(self.used, self.data.formula.text))

    def summary(self) -> Estimates:
        """Fixed effects with variances and convergence facts as notes."""
        return glmm_rows.summary(self)

    def explain(self) -> str:
        """The methods paragraph, with citations."""
        return glmm_rows.explain(self)

    def __str__(self) -> str:
        return self.summary().to_text()

    def __repr__(self) -> str:
        return f"<GlmmFit: {self.sentence}>"

    def _repr_html_(self) -> str:
        return self.summary().to_html()


def _check_methods(df: str | None, vcov: str | None) -> None:
    if df not in (None, "normal"):
        raise FormulaError(f"df={df!r}: a generalised linear mixed model offers df='normal' only.")
    if vcov not in (None, "model"):
        raise FormulaError(f"vcov={vcov!r}: a generalised linear mixed model offers vcov='model' only.")


def glmm(
    formula: str,
    data: FrameLike,
    *,
    family: str = "binomial",
    link: str | None = None,
    quadrature: int = 1,
    weights: Any = None,
    penalty: str | None = None,
    order: Mapping[str, Sequence[Any]] | None = None,
) -> GlmmFit:
    """Fit a generalised linear mixed model by maximum likelihood.

    Estimates b and the covariances G_t in g(E(y | u)) = X b + offset + sum_t Z_t u_t, u_t ~ N(0, I (x) G_t). Effects
    are conditional on the random effects; population-averaged ones follow from the fit (`marginal_means`).

    Parameters
    ----------
    formula : str
        ``"RESPONSE ~ TRT01P*AVISIT + (1 | USUBJID)"``; random terms as in `lmm`; ``offset(log(HOURS))``.
    data : table or path
        One row per observation; rows with missing values are left out and counted.
    family : str
        "binomial": 0/1, two labels, ``cbind(events, non_events)``, or a proportion with weights= trials;
        "poisson"; "negative-binomial" (variance mu + mu^2 / size); "cumulative": P(Y <= j) = F(threshold_j - eta).
    link : str, optional
        logit (default), probit or cloglog for binomial and cumulative; log for counts.
    quadrature : int
        1: Laplace, for any random effects. 2 to 25: adaptive Gauss-Hermite points per dimension, for one grouping
        factor with at most three random effects; all parameters are optimised on the quadrature likelihood.
    weights : column name or (rows,), optional
        Trials of a binomial proportion; frequency weights otherwise.
    penalty : str, optional
        "firth": Jeffreys' prior of the model at zero random effects, finite under separation (canonical links).
    order : mapping, optional
        Level order of factor columns.

    Returns
    -------
    GlmmFit

    Raises
    ------
    FormulaError, DataError
        What cannot be read or analysed, with the remedy.
    ConvergenceError
        When the optimum could not be certified.

    Agrees with
    -----------
    R lme4 1.1-31 glmer (Laplace, nAGQ 5, 10, 25), glmmTMB 1.1.5 (negative binomial), ordinal 2022.11-16 clmm:
    log-likelihood 1e-6, coefficients and standard errors 1e-4 relative (the limit is the peers' optimiser).

    References
    ----------
    Pinheiro JC, Bates DM (1995). Approximations to the log-likelihood function in the nonlinear mixed-effects model.
    Journal of Computational and Graphical Statistics 4, 12-35. doi:10.1080/10618600.1995.10474663
    Konis K (2007). Linear programming algorithms for detecting separated data in binary logistic regression models.
    DPhil thesis, University of Oxford.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> rng = np.random.default_rng(1)
    >>> subject, arm = np.repeat(np.arange(60), 4), np.repeat(np.arange(60) % 2, 4)
    >>> eta = -0.5 + arm + rng.normal(size=60)[subject]
    >>> data = pd.DataFrame({"ID": subject, "KAP": arm, "RESP": rng.random(240) < 1 / (1 + np.exp(-eta))})
    >>> fit = glmm("RESP ~ KAP + (1 | ID)", data, quadrature=7)
    >>> fit.converged, fit.coefficients["estimate"].round(2).tolist()
    (True, [-0.42, 0.82])
    """
    chosen = link_of(family, link)
    glmm_solve.check_penalty(penalty, family, chosen)
    frame = frames.to_pandas(data)
    columns = response_columns(formula, frame)
    rows = prepare(formula, data, weights=weights, order=order, response=columns, gaussian=False)
    found = read(formula, family, chosen, rows.used, rows.weights)
    keep = ~rows.design.aliased
    if family == "cumulative":
        keep = keep & ~glmm_solve.intercept(rows.design)
    problem = Problem(found.observations, rows.design.X[:, keep], rows.offset, rows.random.factors)
    glmm_solve.check_quadrature(problem, quadrature)
    directions = glmm_solve.recession(problem)
    if penalty:
        directions = directions[:0]
    solved = glmm_solve.optimum(formula, problem, quadrature, penalty, len(directions) > 0)
    to_design = glmm_solve.to_design(rows.design, problem, keep)
    fit = GlmmFit(rows, problem, solved, to_design, found.labels, quadrature, penalty, directions)
    texts = [*rows.warnings, *map(warn, glmm_solve.verdict(rows, problem, solved, fit.lost))]
    return replace(fit, warnings=tuple(texts))


def threshold_names(labels: Sequence[Any]) -> list[str]:
    """Names of thresholds: "1|2", "2|3", ..."""
    text = [level_text(v) for v in labels]
    return [f"{a}|{b}" for a, b in pairwise(text)]
