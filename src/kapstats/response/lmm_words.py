"""What a linear mixed model says about itself: summary and methods paragraph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kapstats.estimates import Estimates
from kapstats.response.random_effects import bars

if TYPE_CHECKING:
    from kapstats.response.lmm import LmmFit

_CITATIONS = {
    "kenward-roger": "Kenward & Roger 1997, doi:10.2307/2533558, in variances and covariances with {information} "
    "information",
    "satterthwaite": "Satterthwaite 1946, doi:10.2307/3002019, with the observed information; joint tests after "
    "Fai & Cornelius 1996",
    "residual": "residual",
    "normal": "infinite (normal reference)",
}


def summary(model: LmmFit) -> Estimates:
    """Fixed effects with the facts of the fit as notes."""
    table, solved = model.coefficients, model.state.solved
    parts = [_component(*row) for row in model.variance_components.frame.itertuples(index=False)]
    facts = [
        "Random effects: " + "; ".join(parts) + ".",
        f"-2 log-likelihood {-2 * model.loglik:.4f}, AIC {model.aic:.4f}, BIC {model.bic:.4f} "
        f"({model.n_parameters} parameters with the fixed effects; convention {table.meta['convention']}).",
        f"Converged: Newton decrement {solved.decrement:.1e} after {solved.n_evaluations} evaluations from "
        f"{len(solved.objectives)} starts.",
    ]
    described = {**table.meta, "conventions": (*table.meta["conventions"], *facts), "title": model.data.formula.text}
    return Estimates(table.frame, described, table.vcov)


def _component(group: str, term: str, term2: str, estimate: float, sd_cor: float) -> str:
    if term2:
        return f"{group} correlation {term}, {term2} {sd_cor:.3f}"
    if group == "Residual" and term and not term.startswith("var"):
        return f"residual {term} {estimate:.4g}"
    return f"{group}{' ' + term if term else ''} variance {estimate:.4g} (SD {sd_cor:.4g})"


def _structure(model: LmmFit) -> str:
    term = model.data.formula.covariance
    if term is None:
        return ""
    where = "" if term.group is None else f", its own in every level of {term.group}"
    return f"; residuals of {term.subject} had covariance {term.structure} over {', '.join(term.coordinates)}{where}"


def explain(model: LmmFit) -> str:
    """The methods paragraph."""
    rows, solved = model.data, model.state.solved
    estimator = "restricted maximum likelihood" if model.reml else "maximum likelihood"
    lost = f" ({', '.join(f'{n} missing {c}' for c, n in rows.missing.items())})" if rows.missing else ""
    sizes = dict.fromkeys(f"{len(rows.random.levels[t.factor])} levels of {t.group}" for t in rows.random.terms)
    citation = _CITATIONS[model.df.replace("-linear", "")].format(information=model.information)
    text = (
        f"{rows.formula.response} was analysed with a linear mixed model, {rows.formula.text}, fitted by {estimator} "
        f"to {model.nobs} of {rows.n_records} records{lost} with {', '.join(sizes)}. Random effects were {bars(rows)}, "
        f"normal with unrestricted covariance within a term unless written with ||{_structure(model)}. The likelihood "
        "was profiled over "
        "fixed effects and residual variance (Bates et al. 2015, doi:10.18637/jss.v067.i01) and maximised with its "
        f"exact gradient and Hessian; the optimum was certified by a Newton decrement of {solved.decrement:.1e}, by "
        f"agreement of {len(solved.objectives)} starts and by a check that no variance at zero wants to grow. "
        f"Degrees of freedom: {citation}. "
    )
    if model.singular:
        text += "A covariance of random effects was estimated on its boundary. "
    return text + "Estimates are valid under missing at random given the observed responses and the model's covariates."
