"""Generalised estimating equations: population-averaged effects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from kapstats import estimates, frames, scales
from kapstats._types import FloatArray, FrameLike, IntArray
from kapstats.errors import ConvergenceError, DataError, EstimabilityError, FormulaError, choose, warn
from kapstats.estimates import Estimates
from kapstats.formula.design import Design, build, model_keys
from kapstats.formula.expressions import complete_rows, evaluate, offsets
from kapstats.formula.split import Formula, parse
from kapstats.inference import contrasts
from kapstats.inference.contrasts import Joint, Linear, LSMeans
from kapstats.kernels import gee as kernel
from kapstats.kernels.separation import binary_cone, recession
from kapstats.response import anova as term_tests
from kapstats.response import wald_answers
from kapstats.response.random_effects import aliased_warning
from kapstats.response.repeated import _fixed_columns, refuse_unstated

STRUCTURES = ("independence", "exchangeable", "ar1", "unstructured")
VCOV = ("robust", "bias-reduced", "naive")
LINKS = {"gaussian": "identity", "binomial": "logit", "poisson": "log"}


@dataclass(frozen=True)
class GeeFit:
    """A fitted marginal model, made by `gee`. covariances: robust, bias-reduced (Mancl & DeRouen) and naive (p, p)."""

    formula: Formula
    design: Design
    used: pd.DataFrame
    family: str
    structure: str
    beta: FloatArray
    covariances: dict[str, FloatArray]
    default_vcov: str
    working: FloatArray
    n_clusters: int
    n_records: int
    missing: dict[str, int]
    frame_kind: str
    warnings: tuple[str, ...]

    @property
    def nobs(self) -> int:
        """Rows used."""
        return len(self.used)

    @property
    def n_subjects(self) -> int:
        """Clusters used."""
        return self.n_clusters

    @property
    def converged(self) -> bool:
        """The estimating equations were solved (else no fit is returned)."""
        return True

    def linear(self, L: FloatArray, *, df: str | None = None, vcov: str | None = None, check: bool = True) -> Linear:
        """Estimates of L b; df "normal" or "residual" (clusters minus coefficients, the default)."""
        chosen = choose("residual" if df is None else df, ("residual", "normal"), "df")
        V = self.covariances[choose(self.default_vcov if vcov is None else vcov, VCOV, "vcov")]
        degrees = np.inf if chosen == "normal" else float(self.n_clusters - len(self.beta))
        return wald_answers.linear(self.design, self.beta, V, degrees, L, check=check)

    def joint(self, L: FloatArray, *, df: str | None = None, vcov: str | None = None) -> Joint:
        """Wald F test of L b = 0."""
        return wald_answers.joint(self, self.design, L, df, vcov)

    @property
    def coefficients(self) -> Estimates:
        """Coefficients on the link scale with the default covariance."""
        return self.coefficients_by()

    def coefficients_by(self, *, df: str | None = None, vcov: str | None = None, level: float = 0.95) -> Estimates:
        """Coefficients with any covariance."""
        found = self.linear(np.eye(len(self.design.names)), df=df, vcov=vcov, check=False)
        measure = scales.of_coefficients(LINKS[self.family], self.family, self.design.names)
        described = self._meta(vcov, title="Coefficients", level=level, **measure)
        return wald_answers.coefficient_table(self.design, found, described, level=level)

    @property
    def vcov(self) -> FloatArray:
        """Covariance of the coefficients by the fit's default method."""
        found = self.coefficients.vcov
        assert found is not None
        return found

    @property
    def _offsets(self) -> FloatArray | None:
        return offsets(self.formula.offset, self.used) if self.formula.offset else None

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
        """Least-squares means on the link scale; contrasts of a logit or log link exponentiate to ratios."""
        return contrasts.lsmeans(
            self, self.design, self.used, specs, by=by, weights=weights, at=at, df=df, vcov=vcov, level=level,
            side=side, offsets=self._offsets, offset=offset, describe=self._meta(vcov),
        )  # fmt: skip

    def anova(self, *, type: int = 3, df: str | None = None, vcov: str | None = None) -> Estimates:
        """Wald F tests by model term, types II and III."""
        return term_tests.anova(self, self.design, self.used, type=type, df=df, vcov=vcov, describe=self._meta(vcov))

    @property
    def sentence(self) -> str:
        """The model sentence."""
        lost = "".join(f"; {n} missing {c}" for c, n in self.missing.items())
        return (
            f"GEE, {self.family}, {self.structure} working correlation, {self.default_vcov} covariance; "
            f"{self.nobs} of {self.n_records} records, {self.n_clusters} clusters of {self.formula.cluster}{lost}"
        )

    def _meta(self, vcov: str | None = None, **more: Any) -> dict[str, Any]:
        described = estimates.meta(
            method="generalised estimating equations", sentence=self.sentence, warnings=self.warnings,
            data=self._fingerprint,
            **{
                "estimand": frames.estimand(self.used), "level": 0.95, "scale": LINKS[self.family],
                "measure": scales.of_mean(LINKS[self.family], self.family), **more,
            },
        )  # fmt: skip
        return {**described, "vcov": vcov or self.default_vcov, "frame_kind": self.frame_kind}

    @cached_property
    def _fingerprint(self) -> str:
        return frames.fingerprint(self.used, frames.named(self.used, self.formula.text))

    def summary(self) -> Estimates:
        """Coefficients with the model sentence."""
        return self.coefficients

    def explain(self) -> str:
        """The methods paragraph."""
        return (
            f"{self.formula.response} was analysed with generalised estimating equations, {self.formula.text} "
            f"({self.family} family, {LINKS[self.family]} link; Liang & Zeger 1986, doi:10.1093/biomet/73.1.13), with "
            f"{self.structure} working correlation within {self.formula.cluster}; {self.default_vcov} covariance. "
            "Estimates are population-averaged and valid when missing responses are missing completely at random."
        )

    def __str__(self) -> str:
        return self.summary().to_text()

    def __repr__(self) -> str:
        return f"<GeeFit: {self.sentence}>"


def gee(
    formula: str,
    data: FrameLike,
    *,
    family: str = "binomial",
    structure: str = "exchangeable",
    vcov: str = "bias-reduced",
    time: str | None = None,
    order: Mapping[str, Sequence[Any]] | None = None,
) -> GeeFit:
    """Fit a marginal model by generalised estimating equations.

    Solves sum_i D_i' V_i^-1 (y_i - mu_i) = 0 for b in g(mu) = X b + offset: population-averaged effects.

    Parameters
    ----------
    formula : str
        ``"RESPONSE ~ TRT01P*AVISIT + cluster(USUBJID)"``.
    data : table or path
        One row per observation; rows with missing values are left out and counted.
    family : str
        "binomial" (0/1, logit), "poisson" (log) or "gaussian" (identity).
    structure : str
        Working correlation: exchangeable (default), independence, ar1, unstructured (the last two need `time`).
    vcov : str
        "bias-reduced" (default; Mancl & DeRouen 2001), "robust" (Liang & Zeger) or "naive".
    time : str, optional
        Column of visits (numbers or an ordered factor): a row per cluster and visit. AR(1) counts the planned visits
        between two rows, so that a missed visit is a gap.

    Returns
    -------
    GeeFit

    Agrees with
    -----------
    statsmodels 0.14 GEE (all structures and covariances; its AR(1) overlooks missed visits).

    References
    ----------
    Liang KY, Zeger SL (1986). Longitudinal data analysis using generalized linear models. Biometrika 73, 13-22.
    doi:10.1093/biomet/73.1.13
    Mancl LA, DeRouen TA (2001). A covariance estimator for GEE with improved small-sample properties. Biometrics 57,
    126-134. doi:10.1111/j.0006-341X.2001.00126.x

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> rng = np.random.default_rng(1)
    >>> data = pd.DataFrame({"ID": np.repeat(np.arange(40), 3), "KAP": np.repeat(np.arange(40) % 2, 3)})
    >>> data["RESP"] = (rng.random(120) < 0.3 + 0.3 * data.KAP).astype(int)
    >>> gee("RESP ~ KAP + cluster(ID)", data).coefficients["term"].tolist()
    ['(Intercept)', 'KAP']
    """
    choose(family, LINKS, "family")
    choose(structure, STRUCTURES, "structure")
    choose(vcov, VCOV, "vcov")
    parsed = _check_formula(formula)
    if structure in ("ar1", "unstructured") and time is None:
        raise FormulaError(f"structure={structure!r} needs time=, the column of visit numbers within a cluster.")
    frame = frames.to_pandas(data)
    frames.tell_unused(order, frame)
    cluster = str(parsed.cluster)
    columns = [str(parsed.response), *_fixed_columns(parsed, frame), cluster, *parsed.offset]
    kept, missing = complete_rows(frame, [*columns, *([time] if time else [])])
    if not len(kept):
        raise DataError(f"{formula}: no row is complete in {', '.join(columns)}. There is nothing to fit.")
    stated = None if time is None else dict(order or {}).get(time)
    used, visit = _by_cluster(frame.iloc[kept].reset_index(drop=True), cluster, time, structure, stated)
    design = build(parsed.fixed, used, order=order)
    _check_clusters(used, cluster, design)
    lost = aliased_warning(design)
    found = _solve(parsed, design, used, visit, family, structure)
    return GeeFit(
        parsed, design, used, family, structure, found.beta,
        {"robust": found.robust, "bias-reduced": found.reduced, "naive": found.naive}, vcov,
        np.atleast_1d(found.alpha), used[cluster].nunique(), len(frame), missing, frames.kind(data),
        (*design.warnings, *lost, *model_keys(used, design, parsed.text, [cluster]), *_drawn_back(found, structure)),
    )  # fmt: skip


def _check_formula(text: str) -> Formula:
    parsed = parse(text)
    if not isinstance(parsed.response, str) or parsed.cluster is None:
        raise FormulaError(f"Formula {text!r}: a GEE needs a response and cluster(COLUMN), such as cluster(USUBJID).")
    if parsed.random or parsed.covariance or parsed.strata or parsed.frailty:
        raise FormulaError(f"Formula {text!r}: a GEE has fixed effects and one cluster() only.")
    return parsed


def _check_clusters(used: pd.DataFrame, cluster: str, design: Design) -> None:
    clusters, p = used[cluster].nunique(), int((~design.aliased).sum())
    if clusters <= p:
        raise DataError(
            f"{cluster}: {clusters} clusters for {p} coefficients; the sandwich covariance needs more clusters than "
            "coefficients. Use a mixed model (ks.lmm, ks.glmm) or fewer terms."
        )


def _refuse_separated(parsed: Formula, design: Design, X: FloatArray, y: FloatArray, family: str) -> None:
    high = y == 1.0 if family == "binomial" else np.zeros(len(y), dtype=bool)
    if family == "gaussian":
        return
    directions = recession(*binary_cone(X, y == 0.0, high))
    if len(directions):
        kept = np.array(design.names)[~design.aliased]
        names = ", ".join(str(n) for n in kept[np.abs(directions).max(axis=0) > 1e-7])
        raise EstimabilityError(
            f"{parsed.text}: the responses are predicted without error along {names}, so the estimating equations have "
            "no finite solution. Drop or merge levels, or use ks.glmm with penalty='firth'."
        )


def _by_cluster(
    used: pd.DataFrame, cluster: str, time: str | None, structure: str, stated: Sequence[Any] | None
) -> tuple[pd.DataFrame, IntArray]:
    """Rows with clusters together, in the order of visits, and the position of each row among all visits."""
    code = pd.factorize(used[cluster])[0]
    if time is None:
        order = np.argsort(code, kind="stable")
        return used.iloc[order].reset_index(drop=True), np.zeros(len(used), dtype=np.int64)
    if pd.api.types.is_datetime64_any_dtype(used[time].dtype):
        visit = pd.factorize(used[time], sort=True)[0]
    else:
        found = frames.levels(used, time, stated)
        visit = found.codes
        if found.source == "sorted" and structure == "ar1" and len(found.values) > 2:
            refuse_unstated(time, found.values, "ar1 counts the visits between two rows")
    order = np.lexsort([visit, code])
    used, visit = used.iloc[order].reset_index(drop=True), visit[order]
    twice = used.duplicated([cluster, time])
    if twice.any():
        who = ", ".join(map(str, used.loc[twice, cluster].unique()[:5]))
        raise DataError(f"{time}: {cluster} {who} has more than one row at a visit. Keep one row per visit.")
    return used, visit


def _solve(
    parsed: Formula, design: Design, used: pd.DataFrame, visit: IntArray, family: str, structure: str
) -> kernel.GeeSolution:
    y = evaluate(str(parsed.response), used)
    if family == "binomial" and not np.isin(y, (0.0, 1.0)).all():
        raise DataError(f"{parsed.response}: a binomial GEE takes 0 and 1.")
    if family == "poisson" and (y < 0).any():
        raise DataError(f"{parsed.response}: a Poisson GEE takes counts of 0 or more.")
    offset = offsets(parsed.offset, used)
    X = design.X[:, ~design.aliased]
    _refuse_separated(parsed, design, X, y, family)
    code = pd.factorize(used[str(parsed.cluster)])[0]
    start = np.flatnonzero(np.diff(code, prepend=-1))
    clusters = kernel.Clusters(start, np.diff(start, append=len(code)), visit)
    found = kernel.solve(X, y, offset, clusters, family, structure)
    if not found.converged:
        raise ConvergenceError(
            f"{parsed.text}: the estimating equations were not solved. {_why_not(found.alpha)}. "
            "Try structure='independence'."
        )
    return found


def _drawn_back(found: kernel.GeeSolution, structure: str) -> list[str]:
    if not found.drawn_back:
        return []
    text = (
        f"The moment estimate of the {structure} working correlation was not positive definite and was drawn back "
        "until it is. Coefficients and robust covariances stay valid; a simpler structure is safer."
    )
    return [warn(text)]


def _why_not(alpha: FloatArray) -> str:
    if np.isnan(alpha).any():
        return "Too few clusters have rows in pairs to estimate the working correlation"
    return "Coefficients and working correlation did not settle"
