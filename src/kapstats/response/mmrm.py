"""Mixed model for repeated measures: y_i = X_i b + e_i, e_i ~ N(0, Sigma_i), by REML or ML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from scipy import linalg

from kapstats import frames
from kapstats._types import FloatArray, FrameLike
from kapstats.errors import ConvergenceError, choose, warn
from kapstats.formula.design import Design
from kapstats.kernels.pattern_moments import moments
from kapstats.response.mmrm_chain import chain, check_variation, fit_chain, fit_warnings
from kapstats.response.mmrm_fit import Description, MmrmFit, alias_map, cluster_codes, design_warnings
from kapstats.response.mmrm_statistics import MmrmStatistics
from kapstats.response.repeated import Repeated, Visits, constant_visits, orthonormal_basis, prepare
from kapstats.response.small_sample import VCOV, State, resolve


def mmrm(
    formula: str,
    data: FrameLike,
    *,
    reml: bool = True,
    df: str | None = None,
    vcov: str = "model",
    weights: Any = None,
    covariance: Sequence[str] | None = None,
    information: str = "observed",
    convention: str = "SAS",
    order: Mapping[str, Sequence[Any]] | None = None,
    cluster: str | None = None,
    bic_subjects: str = "used",
) -> MmrmFit:
    """Fit a mixed model for repeated measures.

    Estimates b and Sigma in y_i = X_i b + e_i, e_i ~ N(0, W_i^-1/2 Sigma_i W_i^-1/2), Sigma_i the visits at which
    subject i was seen, by restricted or full maximum likelihood. The marginal means are those under missing at random;
    whether that is a treatment-policy or a hypothetical estimand depends on which rows the table holds.

    Parameters
    ----------
    formula : str
        ``"CHG ~ BASE*AVISIT + TRT01P*AVISIT + us(AVISIT | USUBJID)"``; structures us toep toeph ar1 ar1h cs csh ad adh,
        ``sp_exp(x, ... | S)``, ``sp_gau(...)``; ``us(V | G / S)`` has one covariance per level of G.
    data : table or path
        One row per subject and visit; rows with missing values are left out and counted.
    reml : bool
        REML (default) or ML.
    df : str, optional
        kenward-roger (default under REML), satterthwaite (default under ML), kenward-roger-linear, kenward-roger-mmrm,
        between-within, residual, normal. Every question to the fit may choose again.
    vcov : str
        model, CR0, CR1, CR2 or CR3 (robust, by subject or `cluster`).
    weights : column name or (rows,), optional
        Residual variance is divided by them.
    covariance : list of str, optional
        A fallback chain that replaces the term's structure; the first that is certified wins, every attempt is kept.
    information : str
        "observed" (default, as SAS) or "expected", for the covariance of the covariance parameters.
    convention : str
        "SAS" or "R": whether AIC and BIC under ML count fixed effects (SAS) or not (R mmrm).
    order : mapping, optional
        Level order of factor columns.
    cluster : str, optional
        Column of a coarser cluster for the robust covariances.
    bic_subjects : str
        "used" (default, as R mmrm): BIC counts the subjects with a complete row; "all": every subject of the table,
        as SAS counts the levels of the subject effect.

    Returns
    -------
    MmrmFit

    Raises
    ------
    FormulaError, DataError
        What cannot be read or analysed, with the remedy.
    ConvergenceError
        When no structure could be certified.

    Agrees with
    -----------
    R mmrm 0.3.18 with emmeans 1.8.4-1 (coefficients, covariance, Satterthwaite, between-within, residual, CR0, CR2,
    CR3, and its own Kenward-Roger as kenward-roger-mmrm), 1e-6 relative.

    References
    ----------
    Kenward MG, Roger JH (1997). Small sample inference for fixed effects from restricted maximum likelihood.
    Biometrics 53, 983-997. doi:10.2307/2533558
    Pustejovsky JE, Tipton E (2018). Small-sample methods for cluster-robust variance estimation. Journal of Business &
    Economic Statistics 36, 672-683. doi:10.1080/07350015.2016.1247004

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> rng = np.random.default_rng(1)
    >>> arm, visit = np.repeat(["Placebo", "KAP"], 60), np.tile([1, 2, 3], 40)
    >>> data = pd.DataFrame({"ID": np.repeat(np.arange(40), 3), "ARM": arm, "VISIT": visit})
    >>> data["CHG"] = -4.0 * (data.ARM == "KAP") - data.VISIT + rng.normal(size=120) + np.repeat(rng.normal(size=40), 3)
    >>> fit = mmrm("CHG ~ ARM*VISIT + us(VISIT | ID)", data, order={"ARM": ["Placebo", "KAP"]})
    >>> fit.converged, fit.nobs, fit.n_subjects
    (True, 120, 40)
    >>> fit.lsmeans("ARM", by="VISIT").contrast()["contrast"].tolist()
    ['KAP - Placebo', 'KAP - Placebo', 'KAP - Placebo']
    """
    choose(vcov, VCOV, "vcov")
    choose(information, ("observed", "expected"), "information")
    choose(convention, ("SAS", "R"), "convention")
    choose(bic_subjects, ("used", "all"), "bic_subjects")
    chosen_df, notes = _default_df(df, vcov, reml)
    prepared = prepare(formula, data, weights=weights, order=order)
    if cluster is not None:
        cluster_codes(prepared, cluster)
    structures = chain(covariance, prepared.covariance.structure)
    fit = _fit_rows(prepared, structures, reml, chosen_df, vcov, information, convention, cluster, notes)
    return fit if bic_subjects == "used" else replace(fit, bic_subjects=prepared.listed)


def _default_df(df: str | None, vcov: str, reml: bool) -> tuple[str, list[str]]:
    """The default df of a fit, and what has to be said about it."""
    if df is not None:
        resolve(df, vcov, df, vcov, reml)
        return df, []
    if vcov != "model":
        return "satterthwaite", []
    if reml:
        return "kenward-roger", []
    text = "Kenward-Roger is defined for REML only; under ML the degrees of freedom are Satterthwaite's."
    return "satterthwaite", [warn(text)]


def _fit_rows(
    prepared: Repeated, structures: list[str], reml: bool, df: str, vcov: str, information: str, convention: str,
    cluster: str | None, notes: list[str],
) -> MmrmFit:  # fmt: skip
    basis, shift, z = turned_rows(prepared.X, prepared.y)
    stats = moments(z, prepared.visits.arranged, prepared.weights)
    check_variation(len(prepared.y), len(shift), float(z[:, -1] @ z[:, -1]), float(prepared.y @ prepared.y), 1e-22)
    try:
        fits, attempts = fit_chain(stats, prepared.visits, structures, reml, basis)
    except ConvergenceError as error:
        raise ConvergenceError(f"{error}{constant_visits(prepared)}") from error
    design = prepared.design
    has_intercept = any(not t.factors for t in design.terms)
    state = State(
        stats, fits, basis, shift, ~design.aliased, alias_map(design), len(prepared.visits.subjects), len(prepared.y),
        between_columns(design, prepared), has_intercept, information,
        partial(_sandwich_rows, z, prepared.visits, prepared.weights),
    )  # fmt: skip
    said = [
        *notes,
        *design.warnings,
        *map(warn, design_warnings(design)),
        *map(warn, fit_warnings(attempts, fits, prepared.visits)),
    ]
    description = Description(
        prepared.formula.text, prepared.covariance.group, prepared.n_records, len(prepared.y), state.n_subjects,
        prepared.missing, str(prepared.formula.response), convention, prepared.kind,
        frames.fingerprint(prepared.used, frames.named(prepared.used, prepared.formula.text)),
        frames.estimand(prepared.used),
    )  # fmt: skip
    return MmrmFit(
        state,
        design,
        prepared.used,
        prepared.visits,
        reml,
        df,
        vcov,
        attempts,
        tuple(said),
        description,
        prepared,
        cluster,
    )


def turned_rows(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """R, the least-squares coefficients b0 in the basis x R^-1, and the rows [x R^-1, y - x R^-1 b0]."""
    basis = orthonormal_basis(x)
    z = np.empty((len(x), x.shape[1] + 1))
    z[:, :-1] = linalg.solve_triangular(basis.T, x.T, lower=True, check_finite=False).T
    turned = z[:, :-1]
    shift = np.linalg.solve(turned.T @ turned, turned.T @ y)
    z[:, -1] = y - turned @ shift
    return basis, shift, z


def _sandwich_rows(z: FloatArray, visits: Visits, weights: FloatArray | None) -> dict[str, Any]:
    return {"z": z, "arranged": visits.arranged, "weights": weights}


def between_columns(design: Design, prepared: Repeated) -> np.ndarray:
    """Columns that are constant within every subject; the intercept does not count."""
    subject = prepared.visits.codes
    first = np.zeros(int(subject.max()) + 1, dtype=np.intp)
    first[subject[::-1]] = np.arange(len(subject))[::-1]
    x = design.X
    constant = np.array([bool((x[:, j] == x[first[subject], j]).all()) for j in range(x.shape[1])])
    for term in design.terms:
        if not term.factors:
            constant[term.start : term.stop] = False
    return constant


__all__ = ["MmrmFit", "MmrmStatistics", "mmrm"]
