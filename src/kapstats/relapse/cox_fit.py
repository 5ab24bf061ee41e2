"""The fitted Cox model: what it knows and the questions it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import chdtrc

from kapstats import frames
from kapstats._types import BoolArray, FloatArray, FrameLike
from kapstats.errors import FormulaError, choose
from kapstats.estimates import Estimates, sealed
from kapstats.formula.design import Design
from kapstats.inference.intervals import with_inference
from kapstats.kernels import cox_residuals as cr
from kapstats.kernels.cox_newton import CoxData, Maximum
from kapstats.kernels.cox_separation import Limit, supremum, take
from kapstats.relapse.regression import shown_as
from kapstats.relapse.surv_data import SurvData

RESIDUALS = ("martingale", "deviance", "score", "schoenfeld", "scaled-schoenfeld", "dfbeta", "dfbetas")
ALIASES = {"scaled": "scaled-schoenfeld", "scaledsch": "scaled-schoenfeld"}
TRANSFORMS = ("km", "rank", "identity", "log")


@shown_as("summary")
@sealed
@dataclass(frozen=True)
class CoxFit:
    """A Cox proportional-hazards fit.

    surv : the rows used; design : columns of the formula (with an intercept that the model does not use)
    names : (p,) coefficients; usable : (p,) False where the column is aliased; finite : (p,) False where b is infinite
    data, maximum : sorted arrays and the maximum over the usable columns
    limit : the likelihood at infinity, when some coefficient has no finite estimate
    b, V, naive : (p,) and (p, p), NaN where not estimable; V is the covariance reported, naive the model-based one
    interval : (p, 2) profile limits or None
    """

    surv: SurvData
    design: Design
    names: tuple[str, ...]
    usable: BoolArray
    finite: BoolArray
    data: CoxData
    maximum: Maximum
    b: FloatArray
    V: FloatArray
    naive: FloatArray
    loglik_null: float
    score_test: float
    ties: str
    robust: bool
    meta: dict[str, Any]
    interval: FloatArray | None = None
    frailty: Any = None
    limit: Limit | None = None

    # ------------------------------------------------------------------ numbers

    @property
    def coefficients(self) -> Estimates:
        """Log hazard ratios: term, estimate, std_error, df, statistic, p_value, conf_low, conf_high."""
        std_error = np.sqrt(np.diag(self.V))
        frame = pd.DataFrame({"term": list(self.names)})
        frame = with_inference(frame, self.b, std_error, level=self.level, side=self.meta["side"])
        if self.interval is not None:
            frame = frame.assign(conf_low=self.interval[:, 0], conf_high=self.interval[:, 1])
        about = {**self.meta, "scale": "log", "measure": "hazard ratio", "title": "Hazard ratios"}
        return Estimates(frame, about, self.V)

    def hazard_ratios(self) -> Estimates:
        """Hazard ratios with limits; `std_error` is that of the ratio (delta method)."""
        found = self.coefficients.exponentiate()
        return Estimates(found.frame, {**found.meta, "title": "Hazard ratios"}, found.vcov)

    def summary(self) -> Estimates:
        """Hazard ratios with the proportional-hazards test of each term beside them (`zph_p`, transform km)."""
        frame = self.hazard_ratios().frame
        if self.frailty is None and self.ties in ("efron", "breslow") and self.finite[self.usable].all() and len(frame):
            tests = self.zph().frame.set_index("term")["p_value"]
            frame = frame.assign(zph_p=[float(tests.get(term, np.nan)) for term in self._terms_of_columns()])
        note = "PH p (zph_p): score test of proportional hazards (zph, km); restricted mean survival time: fit.rmst()"
        conventions = (*self.meta["conventions"], note)
        about = {**self.meta, "scale": "natural", "measure": "hazard ratio", "title": "Cox model"}
        return Estimates(frame, {**about, "conventions": conventions})

    @property
    def vcov(self) -> FloatArray:
        """Covariance (p, p) of the log hazard ratios, in the order of `coefficients`."""
        return self.V.copy()

    @property
    def loglik(self) -> float:
        """Log partial likelihood (penalised when a penalty was asked for); its supremum where it has no maximum."""
        return self.maximum.at.loglik

    @property
    def n_parameters(self) -> int:
        """Coefficients estimated."""
        return int(self.usable.sum())

    @property
    def aic(self) -> float:
        """-2 loglik + 2 p."""
        return -2.0 * self.loglik + 2.0 * self.n_parameters

    @property
    def bic(self) -> float:
        """-2 loglik + log(events) p, as R and SAS."""
        return -2.0 * self.loglik + float(np.log(self.surv.n_events)) * self.n_parameters

    @property
    def nobs(self) -> int:
        """Rows used."""
        return len(self.surv)

    @property
    def n_subjects(self) -> int:
        """Subjects among the rows used: values of USUBJID (of `id` for recurrent events, of ``cluster()`` for rows with
        entry times), else rows."""
        return int(self.meta.get("n_subjects", self.surv.n_subjects))

    @property
    def n_events(self) -> int:
        """Events among the rows used."""
        return self.surv.n_events

    @property
    def converged(self) -> bool:
        """Whether every estimable coefficient has a certified finite maximum."""
        return self.maximum.converged and bool(self.finite.all())

    @property
    def level(self) -> float:
        """Confidence level."""
        return float(self.meta["level"])

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the reader of these numbers has to know."""
        return tuple(self.meta["warnings"])

    # ------------------------------------------------------------------ tests

    def tests(self) -> Estimates:
        """Global tests: likelihood ratio, Wald, score; and the robust score test when the variance is robust."""
        df = self.n_parameters
        ok = self.usable & self.finite
        wald = np.nan
        if ok.any() and self.finite[self.usable].all():
            wald = _quadratic(self.b[ok], self.V[np.ix_(ok, ok)])
        rows = {
            "likelihood ratio": 2.0 * (self.loglik - self.loglik_null),
            "wald": wald,
            "score": self.score_test,
        }
        if self.robust:
            rows["robust score"] = self._robust_score()
        frame = pd.DataFrame({"test": list(rows), "statistic": list(rows.values()), "df": df})
        frame["p_value"] = chdtrc(df, frame["statistic"].to_numpy(float)) if df else np.nan
        return Estimates(frame, {**self.meta, "title": "Tests that all hazard ratios are 1"})

    def zph(self, transform: str | Callable[[FloatArray], FloatArray] = "km", terms: bool = True) -> Estimates:
        """Score test of proportional hazards by term and globally (Grambsch and Therneau 1994).

        The test adds x g(t) to the model and uses the full joint information at its coefficient zero, as cox.zph of R
        survival 3 does (not the approximation of earlier versions).

        Parameters
        ----------
        transform : g(t): "km" (1 - S(t-) of all rows), "rank" (of the follow-up times), "identity", "log", a function
        terms : one row per model term; False gives one per coefficient
        """
        self._needs_likelihood("zph")
        g = self._transformed_times(transform)
        b = self._b_used()
        score, joint = cr.zph_parts(self.data, b, g - np.average(g, weights=self.data.deaths))
        rows = [_ph_row(name, columns, score, joint) for name, columns in self._blocks(terms)]
        rows.append(_ph_row("GLOBAL", np.arange(len(score)), score, joint))
        name = transform if isinstance(transform, str) else "g"
        method = f"score test of proportional hazards, transform {name}(t)"
        return Estimates(pd.DataFrame(rows), {**self.meta, "title": "Proportional hazards", "method": method})

    def anova(self) -> Estimates:
        """Likelihood-ratio tests of the terms added one after the other, in formula order (as R's anova of one fit)."""
        if self.frailty is not None or self.meta.get("penalty"):
            raise FormulaError(
                "anova: sequential likelihood ratios need the plain partial likelihood. Refit without it."
            )
        free = np.zeros(self.n_parameters, bool)
        logliks, names, df = [self.loglik_null], [], []
        for name, columns in self._blocks(terms=True):
            free[columns] = True
            logliks.append(supremum(take(self.data, free), self.ties).loglik)
            names.append(name)
            df.append(len(columns))
        statistic = 2.0 * np.diff(logliks)
        frame = pd.DataFrame({"term": names, "statistic": statistic, "df": df, "p_value": chdtrc(df, statistic)})
        frame = frame.assign(loglik=logliks[1:])
        return Estimates(frame, {**self.meta, "title": "Sequential likelihood-ratio tests"})

    def _blocks(self, terms: bool) -> list[tuple[str, Any]]:
        position = np.cumsum(self.usable) - 1
        if not terms:
            return [(n, position[[j]]) for j, n in enumerate(self.names) if self.usable[j]]
        of = np.array(self._terms_of_columns(), dtype=object)
        found = []
        for term in dict.fromkeys(of):
            columns = np.flatnonzero((of == term) & self.usable)
            if len(columns):
                found.append((term, position[columns]))
        return found

    def _transformed_times(self, transform: str | Callable[[FloatArray], FloatArray]) -> FloatArray:
        time = self.data.sets.time
        if callable(transform):
            return np.asarray(transform(time), dtype=float)
        choose(transform, TRANSFORMS, "transform")
        if transform == "identity":
            return time
        if transform == "log":
            return np.log(time)
        if transform == "rank":
            rows = np.sort(self.surv.time)
            return (np.searchsorted(rows, time, "left") + 1 + np.searchsorted(rows, time, "right")) / 2.0
        return 1.0 - _left_survival(self.surv, time)

    def _terms_of_columns(self) -> list[str]:
        labels = {j: term.name for term in self.design.terms for j in range(term.start, term.stop)}
        kept = [j for j, n in enumerate(self.design.names) if n != "(Intercept)"]
        return [labels[j] for j in kept]

    def _b_used(self) -> FloatArray:
        return np.where(np.isfinite(self.maximum.b), self.maximum.b, 0.0)

    def _needs_likelihood(self, what: str) -> None:
        if self.meta.get("time_varying") and what in ("baseline", "survival", "adjusted_survival"):
            raise FormulaError(f"{what}: coefficients of {', '.join(self.meta['time_varying'])} vary with time. Refit.")
        if self.ties not in ("efron", "breslow"):
            raise FormulaError(f"{what} needs ties='efron' or 'breslow'; this fit has ties={self.ties!r}. Refit.")
        if not self.finite[self.usable].all():
            gone = [n for n, ok, used in zip(self.names, self.finite, self.usable, strict=True) if used and not ok]
            raise FormulaError(f"{what}: {', '.join(gone)} has no finite estimate. Refit without it or with a penalty.")

    # ------------------------------------------------------------------ residuals

    def residuals(self, kind: str = "martingale", *, by: str | None = None, weighted: bool | None = None) -> Any:
        """Residuals as R's residuals.coxph.

        kind : martingale, deviance (per row, or summed within the column `by`); score, dfbeta, dfbetas (one column per
            coefficient); schoenfeld, scaled-schoenfeld or scaled (one row per event, in time order within strata)
        weighted : multiply by the case weights; None: for dfbeta and dfbetas, as R

        Returns
        -------
        DataFrame of the caller's kind, rows in the order of the rows used
        """
        kind = ALIASES.get(kind.replace("_", "-"), kind.replace("_", "-"))
        choose(kind, RESIDUALS, "kind")
        self._needs_likelihood("residuals")
        if kind.endswith("schoenfeld"):
            return frames.restore(self._schoenfeld(kind), self.surv.kind)
        values, names = self._row_residuals(kind)
        weighted = kind in ("dfbeta", "dfbetas") if weighted is None else weighted
        if weighted and self.surv.weights is not None:
            values = values * self.surv.weights[:, None]
        frame = pd.DataFrame(values, columns=names)
        if by is not None:
            frames.require(self.surv.frame, [by])
            frame.insert(0, by, self.surv.frame[by].to_numpy())
            frame = frame.groupby(by, sort=False, as_index=False, observed=True).sum()
        return frames.restore(frame, self.surv.kind)

    def _row_residuals(self, kind: str) -> tuple[FloatArray, list[str]]:
        b, sets = self._b_used(), self.data.sets
        if kind in ("martingale", "deviance"):
            m = cr.martingale(self.data, b)
            return sets.unsort(m if kind == "martingale" else cr.deviance(m, sets.event))[:, None], [kind]
        values = sets.unsort(cr.score_residuals(self.data, b))
        naive = self.naive[np.ix_(self.usable, self.usable)]
        if kind != "score":
            values = values @ naive
        if kind == "dfbetas":
            values = values / np.sqrt(np.diag(naive))
        return values, self._used_names()

    def _schoenfeld(self, kind: str) -> pd.DataFrame:
        b = self._b_used()
        values = cr.schoenfeld(self.data, b)
        if kind == "scaled-schoenfeld":
            values = values @ self.naive[np.ix_(self.usable, self.usable)] * len(values) + b
        times = self.data.sets.time[self.data.group]
        strata = self.surv.strata.frame.iloc[self.data.sets.stratum[self.data.group]].reset_index(drop=True)
        return pd.concat(
            [strata, pd.DataFrame({"time": times}), pd.DataFrame(values, columns=self._used_names())], axis=1
        )

    def _used_names(self) -> list[str]:
        return [n for n, ok in zip(self.names, self.usable, strict=True) if ok]

    def _robust_score(self) -> float:
        """Robust score test of b = 0: clustered score residuals at zero in place of the information."""
        D = self.data.sets.unsort(cr.score_residuals(self.data, np.zeros(self.n_parameters)))
        if self.surv.weights is not None:
            D = D * self.surv.weights[:, None]
        if self.surv.cluster is not None:
            D = cr.cluster_sums(D, self.surv.cluster)
        return _quadratic(D.sum(axis=0), D.T @ D)

    # ------------------------------------------------------------------ curves and neighbours

    def baseline(self, *, centered: bool = False) -> Estimates:
        """Cumulative baseline hazard by stratum at all covariates zero (or at their means): time, estimate, std_error.

        Breslow's estimator, or Efron's under Efron ties (as R's basehaz).
        """
        from kapstats.relapse.adjusted_survival import baseline_hazard

        return baseline_hazard(self, centered=centered)

    def survival(
        self,
        newdata: FrameLike,
        times: Sequence[float] | None = None,
        conf_type: str = "log",
        *,
        extend: bool = False,
    ) -> Estimates:
        """Predicted survival of each row of `newdata` at `times` (default: all event times), with limits.

        Past the last time of the row's stratum it is not estimable (NE); ``extend=True`` carries the last value on.
        """
        from kapstats.relapse.adjusted_survival import predicted_survival

        return predicted_survival(self, newdata, times, conf_type, extend=extend)

    def adjusted_survival(self, by: str, times: Sequence[float] | None = None, **options: Any) -> Any:
        """Survival standardised over the rows used: everybody at each level of `by` in turn (g-formula)."""
        from kapstats.relapse.adjusted_survival import standardised_survival

        return standardised_survival(self, by, times, **options)

    def rmst(
        self, by: str | None = None, tau: float | None = None, covariates: Sequence[str] | None = None
    ) -> Estimates:
        """Restricted mean survival time by the column `by` (default: the first factor): the answer without PH.

        With the case weights of the fit; strata, clusters and frailties have no part in it.
        """
        from kapstats.relapse.rmst import rmst

        factors = [c for term in self.design.terms for c in term.factors if c in self.design.factors]
        chosen = by or (factors[0] if factors else None)
        if chosen is None:
            raise FormulaError("rmst: the model has no factor; name the column that defines the groups, by='TRT01P'.")
        response = self.surv.formula.text.split("~")[0]
        order = {chosen: list(self.design.factors[chosen].values)} if chosen in self.design.factors else None
        text, weights = f"{response} ~ `{chosen}`", self.surv.weights
        return rmst(text, self.surv.frame, tau=tau, covariates=covariates, weights=weights, order=order)

    def average_hazard_ratio(self, weights: str = "average-hazard", truncate: float | None = None) -> Estimates:
        """Hazard ratios averaged over time, which keep a meaning where hazards are not proportional.

        The score is sum W(t) (x - xbar(t)) over the events. With W = S(t-) / G(t-) an event counts by the share of
        all subjects still free of it, and censoring (G) does not change what is estimated. Under proportional hazards
        all weights estimate the one hazard ratio; each covariate's average rests on the others having no interaction.

        Parameters
        ----------
        weights : "average-hazard" S/G, "average-regression" 1/G, "prentice" S, "breslow" number at risk, "none" (Cox)
        truncate : cut the weights at this quantile of theirs (such as 0.95) when a few late events weigh too much

        Returns
        -------
        Estimates on the natural scale; robust standard errors with the weights taken as known

        References
        ----------
        Schemper, Wakounig and Heinze (2009) Stat Med 28: 2473-2489, doi 10.1002/sim.3623.
        """
        from kapstats.relapse.average_hazard import average_hazard_ratio

        return average_hazard_ratio(self, weights, truncate)

    def concordance(self) -> Estimates:
        """Harrell's concordance of the linear predictor within strata, with its jackknife standard error."""
        from kapstats.relapse.concordance import concordance

        return concordance(self)

    def smoothed_hazard(
        self, newdata: FrameLike, times: Sequence[float] | None = None, *, bandwidth: float | None = None
    ) -> Estimates:
        """Hazard over time of each row of `newdata`: the jumps of the baseline hazard smoothed, with log limits.

        The variance holds that of the jumps and of the coefficients. times, bandwidth : as in
        ``KaplanMeier.smoothed_hazard``.
        """
        from kapstats.relapse.smooth_hazard import smoothed_cox_hazard

        return smoothed_cox_hazard(self, newdata, times, bandwidth)

    def plot(self, ax: Any = None, *, kind: str = "forest", newdata: FrameLike | None = None, **options: Any) -> Any:
        """Forest plot of the hazard ratios; kind="hazard": hazard over time of the rows of `newdata`."""
        if choose(kind, ("forest", "hazard"), "kind") == "hazard":
            if newdata is None:
                raise FormulaError("plot(kind='hazard'): newdata holds the rows whose hazards are drawn.")
            return self.smoothed_hazard(newdata, bandwidth=options.pop("bandwidth", None)).plot(ax=ax, **options)
        found = self.hazard_ratios()
        frame = found.frame.assign(term=found.frame["term"].replace(self._named_levels()))
        return Estimates(frame, found.meta, found.vcov).plot(ax=ax, **options)

    def _named_levels(self) -> dict[str, str]:
        """Terms of text factors as a figure names them: "TRT01PKAP IV" is "KAP IV - Placebo"."""
        factors = (v for v in self.design.spec.variables.values() if v.kind == "factor")
        return {
            f"{v.expression}{level}": f"{level} - {v.levels[0]}"
            for v in factors
            for level in v.levels[1:]
            if isinstance(level, str)
        }

    def explain(self) -> str:
        """The methods paragraph."""
        named = {"efron": "Efron's", "breslow": "Breslow's", "exact": "the exact discrete"}
        tie = named.get(self.ties, "the exact marginal")
        text = (
            f"{self.meta['sentence']}. Hazard ratios come from Cox's proportional-hazards model with {tie} treatment "
        )
        text += "of ties (Cox 1972, J R Stat Soc B 34: 187-220). "
        if self.robust:
            text += "Standard errors are the sandwich of Lin and Wei (1989, J Am Stat Assoc 84: 1074-1078). "
        return text + "Proportional hazards: score test of Grambsch and Therneau (1994, Biometrika 81: 515-526)."


def _quadratic(u: FloatArray, V: FloatArray) -> float:
    """u' V^-1 u; NaN where V is singular, as with fewer clusters than coefficients."""
    scale = np.sqrt(np.diag(V))
    if not (scale > 0).all() or np.linalg.matrix_rank(V / np.outer(scale, scale), hermitian=True) < len(u):
        return float("nan")
    return float(u @ np.linalg.solve(V, u))


def _ph_row(name: str, columns: Any, score: FloatArray, joint: FloatArray) -> dict[str, Any]:
    p = len(score)
    use = np.concatenate([np.arange(p), p + columns])
    u = np.concatenate([np.zeros(p), score[columns]])
    try:
        statistic = float(u @ np.linalg.solve(joint[np.ix_(use, use)], u))
    except np.linalg.LinAlgError:
        statistic = float("nan")
    return {"term": name, "statistic": statistic, "df": len(columns), "p_value": float(chdtrc(len(columns), statistic))}


def _left_survival(surv: SurvData, time: FloatArray) -> FloatArray:
    """Kaplan-Meier of all rows, ignoring strata and weights, just before each of `time`."""
    from kapstats.kernels.product_limit import product_limit
    from kapstats.kernels.risk_sets import risk_sets

    sets = risk_sets(surv.time, surv.event, surv.entry)
    steps = np.append(1.0, product_limit(sets).survival)
    return steps[np.searchsorted(sets.time, time, side="left")]
