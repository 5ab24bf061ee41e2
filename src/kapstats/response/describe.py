"""What an MMRM says about itself: model sentence, meta, summary, methods paragraph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kapstats import estimates
from kapstats.estimates import Estimates

if TYPE_CHECKING:
    from kapstats.response.mmrm_fit import MmrmFit

STRUCTURE_NAMES = {
    "us": "unstructured",
    "toep": "Toeplitz",
    "toeph": "heterogeneous Toeplitz",
    "ar1": "first-order autoregressive",
    "ar1h": "heterogeneous first-order autoregressive",
    "cs": "compound symmetry",
    "csh": "heterogeneous compound symmetry",
    "ad": "ante-dependence",
    "adh": "heterogeneous ante-dependence",
    "sp_exp": "spatial exponential",
    "sp_gau": "spatial Gaussian",
}
DF_NAMES = {
    "kenward-roger": "Kenward-Roger",
    "kenward-roger-linear": "Kenward-Roger (first order)",
    "kenward-roger-mmrm": "Kenward-Roger (parametrisation of R mmrm)",
    "satterthwaite": "Satterthwaite",
    "between-within": "between-within",
    "residual": "residual df",
    "normal": "normal",
}


def method(fit: MmrmFit, df: str, vcov: str) -> str:
    """ "REML, unstructured by ARM, Kenward-Roger" """
    structure = STRUCTURE_NAMES[fit.structure]
    structure += f" by {fit.description.group}" if len(fit.visits.groups) > 1 else ""
    parts = ["REML" if fit.reml else "ML", structure, DF_NAMES[df]]
    if vcov != "model":
        parts.append(f"robust {vcov}" + (f" by {fit.cluster}" if fit.cluster else ""))
    return ", ".join(parts)


def sentence(fit: MmrmFit, df: str | None = None, vcov: str | None = None) -> str:
    """The model sentence that every result begins with."""
    d = fit.description
    text = f"{method(fit, df or fit.df, vcov or fit.vcov_method)}; {d.n_obs} of {d.n_records} records"
    text += f", {d.n_subjects} subjects"
    lost = "; ".join(f"{count} missing {column}" for column, count in d.missing.items())
    return text + (f"; {lost}" if lost else "")


def meta(fit: MmrmFit, df: str, vcov: str) -> dict[str, Any]:
    """Description of a result with this pair of methods."""
    d = fit.description
    information = fit.state.information
    conventions = [f"Covariance parameters: {information} information."] if information != "observed" else []
    return estimates.meta(
        method=f"MMRM ({method(fit, df, vcov)})",
        estimand=d.estimand,
        sentence=sentence(fit, df, vcov),
        conventions=conventions,
        warnings=fit.warnings,
        data=d.fingerprint,
        frame_kind=d.frame_kind,
        formula=d.formula,
        df=df,
        vcov=vcov,
        convention=d.convention,
    )


def summary(fit: MmrmFit) -> Estimates:
    """Fixed effects with the facts of the fit as notes."""
    table = fit.coefficients
    f = fit.state.fits
    facts = [
        f"-2 log-likelihood {-2 * fit.loglik:.4f}, AIC {fit.aic:.4f}, BIC {fit.bic:.4f} "
        f"({fit.n_parameters} covariance parameters; convention {fit.description.convention}).",
        f"Converged after {f.iterations[0]} iterations: Newton decrement {f.decrement[0]:.1e}, "
        f"scaled gradient {f.scaled_gradient[0]:.1e}.",
    ]
    if len(fit.attempts) > 1:
        facts.append("Structures tried: " + "; ".join(f"{a.structure} ({a.verdict})" for a in fit.attempts) + ".")
    described = {**table.meta, "conventions": (*table.meta["conventions"], *facts), "title": fit.description.formula}
    return Estimates(table.frame, described, table.vcov)


_CITATIONS = {
    "kenward-roger": "Kenward & Roger 1997, doi:10.2307/2533558, with second derivatives in the natural parameters and "
    "{information} information",
    "kenward-roger-linear": "Kenward & Roger 1997, doi:10.2307/2533558, without second derivatives",
    "kenward-roger-mmrm": "Kenward & Roger 1997, doi:10.2307/2533558, in the working parametrisation of R mmrm",
    "satterthwaite": "Satterthwaite 1946, doi:10.2307/3002019; joint tests after Fai & Cornelius 1996",
    "between-within": "between-within (Schluchter & Elashoff 1990)",
    "residual": "residual",
    "normal": "infinite (normal reference)",
}


def explain(fit: MmrmFit) -> str:
    """The methods paragraph."""
    d = fit.description
    estimator = "restricted maximum likelihood" if fit.reml else "maximum likelihood"
    lost = f" ({', '.join(f'{n} missing {c}' for c, n in d.missing.items())})" if d.missing else ""
    groups = f" with separate parameters by {d.group}" if len(fit.visits.groups) > 1 else ""
    text = (
        f"{d.response} was analysed with a mixed model for repeated measures, {d.formula}, fitted by {estimator} to "
        f"{d.n_obs} of {d.n_records} records of {d.n_subjects} subjects{lost}. Within-subject errors had "
        f"{'an' if fit.structure == 'us' else 'a'} {STRUCTURE_NAMES[fit.structure]} covariance over "
        f"{len(fit.visits.labels)} visits{groups} "
        f"({fit.n_parameters} parameters). "
    )
    text += (
        "The likelihood was maximised by scoring on cross-products by visit pattern; convergence was certified by a "
        f"Newton decrement of {fit.state.fits.decrement[0]:.1e} and a positive definite information. "
    )
    citation = _CITATIONS[fit.df].format(information=fit.state.information)
    text += (
        f"Degrees of freedom: {citation}. " if fit.df not in ("normal",) else "Inference used the normal reference. "
    )
    if fit.vcov_method != "model":
        paper = "Pustejovsky & Tipton 2018, doi:10.1080/07350015.2016.1247004"
        text += f"Standard errors are robust ({fit.vcov_method}; {paper}). "
    if len(fit.attempts) > 1:
        tried = "; ".join(f"{a.structure} ({a.verdict})" for a in fit.attempts)
        text += f"Covariance structures were tried in the order given: {tried}. "
    return text + "Estimates are valid under missing at random given the observed responses and the model's covariates."
